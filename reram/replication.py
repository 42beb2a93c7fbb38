"""Copies of layers in crossbars that are left over: which numbers of copies are worth laying out.

The slowest layer gets more copies until the next do not fit. What that does to buses, routers and links shows only once it is
laid out, so states on the way are laid out and one with about the shortest interval is kept (`plan.py`). They follow from the
network and the tile alone: a larger chip has all states of a smaller one and more, and is never slower.
"""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from picojoule.reram.mapping import LayerMapping
from picojoule.reram.spec import ReramSpec

_GROWTH = 1.1
"""IMAs in use from one laid-out state to the next."""
_CHIPS = 32
"""Up to so many chips the fullest state of each number of chips is laid out too."""


def replications(
    maps: Mapping[str, LayerMapping], batch: int, chips: int, spec: ReramSpec
) -> Iterator[dict[str, LayerMapping]]:
    """Return layers with copies that fit `chips`, from none on; states between two that are returned are left out."""
    per_chip = spec.tiles_per_chip * spec.imas_per_tile
    imas = [m.imas for m in maps.values()]
    steps = copy_steps(
        [m.service_s(spec) for m in maps.values()],
        [1 if m.writes else m.positions if m.waits else max(1, m.gemm.m // batch) for m in maps.values()],
        imas,
        chips * per_chip,
        [m.waits > 0 for m in maps.values()],
    )
    held = [1] * len(imas)
    used, limit = sum(imas), float(sum(imas))
    for copies in steps:
        now = sum(c * i for c, i in zip(copies, imas, strict=True))
        fills = -(-used // per_chip) < -(-now // per_chip) and -(-used // per_chip) <= _CHIPS
        if now > limit or fills:
            yield _copied(maps, held)
            limit = used * _GROWTH
        held, used = copies, now
    yield _copied(maps, held)


def _copied(maps: Mapping[str, LayerMapping], copies: Sequence[int]) -> dict[str, LayerMapping]:
    return {name: replace(m, copies=c) for (name, m), c in zip(maps.items(), copies, strict=True)}


def copy_steps(
    service_s: Sequence[float], positions: Sequence[int], imas: Sequence[int], capacity: int, waits: Sequence[bool]
) -> Iterator[list[int]]:
    """Return copies per layer: the slowest layer gets more copies until they do not fit `capacity` IMAs.

    `service_s` is the time of one copy. Copies share the positions, so the next step is the fewest copies that leave each of
    them a position less; a layer needs no more copies than it has positions. It ends when the slowest has as many, unless its
    steps wait for each other (`waits`): then a sample takes its time whatever the copies, and other layers still shorten it.
    """
    copies = [1] * len(imas)
    left = capacity - sum(imas)
    queue = [(-s, i) for i, s in enumerate(service_s)]
    heapq.heapify(queue)
    yield list(copies)
    while queue:
        _, i = heapq.heappop(queue)
        each = -(-positions[i] // copies[i])
        if each == 1:
            if waits[i]:
                continue
            return
        more = -(-positions[i] // (each - 1)) - copies[i]
        if more * imas[i] > left:
            return
        copies[i] += more
        left -= more * imas[i]
        heapq.heappush(queue, (-service_s[i] * -(-positions[i] // copies[i]) / positions[i], i))
        yield list(copies)
