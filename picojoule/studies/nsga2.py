"""NSGA-II over a grid of choices, on whole generations at once: Deb et al., IEEE Trans. Evol. Comput. 6(2), 2002.

A design is a row of indices, one a parameter, into that parameter's list of choices. Constrained domination (section VI
there) takes one number a design: the sum of its normalized violations, infinity for a design without a price. What differs
from the paper: the operators are for choices instead of real numbers, and no design is proposed twice while the space has
others. Everything is a pure function of arrays and a Generator, except for the set of designs already seen.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from picojoule.fronts import crowding_distance, non_domination_ranks

Rows = NDArray[np.int64]
"""Designs [designs, parameters]: the index of each parameter's choice."""

_CROSSED = 0.9
"""Share of children with two parents (section V of the paper)."""
_NEIGHBOR = 0.8
"""Share of an ordered parameter's mutations that step to a value nearby; the rest go anywhere, to leave local fronts."""
_STEP = 0.5
"""Parameter of the geometric law of a step's length: half go to the next value, a quarter two away, and so on."""
_LARGEST_KEY = 1 << 63


@dataclass(frozen=True, slots=True, kw_only=True)
class Survivors:
    """The best designs of a pool: their places in it, front numbers (0 is the best) and crowding distances, all [designs]."""

    index: NDArray[np.int64]
    ranks: NDArray[np.int64]
    crowding: NDArray[np.float64]


def survivors(costs: NDArray[np.float64], violation: NDArray[np.float64], count: int) -> Survivors:
    """Return the `count` best of a pool (all, if it has fewer), best first.

    Args:
        costs: [designs, objectives], all to be small; rows that violate something may hold NaN.
        violation: [designs], 0 for designs within all limits, infinity for those without a price.
        count: how many may stay.

    """
    allowed = violation == 0
    ranks = np.zeros(len(costs), dtype=np.int64)
    ranks[allowed] = non_domination_ranks(costs[allowed])
    _, steps = np.unique(violation[~allowed], return_inverse=True)
    ranks[~allowed] = ranks[allowed].max(initial=-1) + 1 + steps.reshape(-1)
    crowding = crowding_distance(np.where(np.isfinite(costs), costs, 0.0), ranks)
    best = np.lexsort((-crowding, ranks))[:count]  # stable: the design priced first wins a tie
    return Survivors(index=best, ranks=ranks[best], crowding=crowding[best])


def good_population(trials: int) -> int:
    """Return a generation's size for a study of so many trials: twenty generations, and large ones price faster together."""
    return min(max(trials // 20, 20), 1000)


def initial(generator: np.random.Generator, sizes: Sequence[int], count: int) -> Rows:
    """Return `count` different designs drawn uniformly [designs, parameters]; all of them, if the space has fewer."""
    return fresh(generator, sizes, count, set())


def offspring(
    generator: np.random.Generator,
    population: Rows,
    ranks: NDArray[np.int64],
    crowding: NDArray[np.float64],
    sizes: Sequence[int],
    ordered: Sequence[bool],
    count: int,
) -> Rows:
    """Return `count` children [designs, parameters]: tournaments, uniform crossover, mutation; some may be known designs."""
    mothers = population[_tournament(generator, ranks, crowding, count)]
    fathers = population[_tournament(generator, ranks, crowding, count)]
    crossed = generator.random((count, 1)) < _CROSSED
    children = np.where(crossed & (generator.random(mothers.shape) < 0.5), fathers, mothers)
    return _mutated(generator, children, np.asarray(sizes, dtype=np.int64), np.asarray(ordered, dtype=np.bool_))


def _tournament(
    generator: np.random.Generator, ranks: NDArray[np.int64], crowding: NDArray[np.float64], count: int
) -> NDArray[np.int64]:
    """Return the winners of `count` pairs: the lower rank, then the emptier surroundings, then the first drawn."""
    one, other = generator.integers(0, len(ranks), (2, count))
    wins = (ranks[other] < ranks[one]) | ((ranks[other] == ranks[one]) & (crowding[other] > crowding[one]))
    winners: NDArray[np.int64] = np.where(wins, other, one)
    return winners


def _mutated(generator: np.random.Generator, rows: Rows, sizes: NDArray[np.int64], ordered: NDArray[np.bool_]) -> Rows:
    """Return rows with each parameter changed with probability 1/parameters; one that has a single choice stays."""
    design, parameter = np.nonzero((generator.random(rows.shape) < 1.0 / max(len(sizes), 1)) & (sizes > 1))
    old, size = rows[design, parameter], sizes[parameter]
    elsewhere = (old + generator.integers(1, size)) % size
    step = generator.geometric(_STEP, len(old)) * np.where(generator.random(len(old)) < 0.5, -1, 1)
    step = np.where((old + step < 0) | (old + step >= size), -step, step)  # at an end, turn round
    near = np.clip(old + step, 0, size - 1)
    stepping = ordered[parameter] & (generator.random(len(old)) < _NEIGHBOR)
    children = rows.copy()
    children[design, parameter] = np.where(stepping, near, elsewhere)
    return children


def next_generation(
    generator: np.random.Generator,
    population: Rows,
    ranks: NDArray[np.int64],
    crowding: NDArray[np.float64],
    sizes: Sequence[int],
    ordered: Sequence[bool],
    count: int,
    seen: set[Any],
) -> Rows:
    """Return up to `count` designs not in `seen`, which then holds them: children, and random ones where those are known.

    Fewer than `count` come only when the space has no more.
    """
    children = offspring(generator, population, ranks, crowding, sizes, ordered, 2 * count)  # to choose new ones from
    new = unseen(children, sizes, count, seen)
    if len(new) == count:
        return new
    return np.concatenate([new, fresh(generator, sizes, count - len(new), seen)])


def fresh(generator: np.random.Generator, sizes: Sequence[int], count: int, seen: set[Any]) -> Rows:
    """Return `count` designs drawn uniformly from those not in `seen`, which then holds them; fewer if the space has fewer."""
    total = math.prod(sizes)
    parts = [np.empty((0, len(sizes)), dtype=np.int64)]
    missing = min(count, total - len(seen))
    while missing > 0:
        left = total - len(seen)
        if left > 10 * missing or total >= _LARGEST_KEY:
            drawn = generator.integers(0, np.asarray(sizes, dtype=np.int64), (missing + missing // 8 + 8, len(sizes)))
        else:  # most draws would be known designs: list the others
            known = np.zeros(total, dtype=np.bool_)
            known[np.fromiter(seen, dtype=np.int64, count=len(seen))] = True
            drawn = from_numbers(generator.permutation(np.flatnonzero(~known))[:missing], sizes)
        parts.append(unseen(drawn, sizes, missing, seen))
        missing -= len(parts[-1])
    return np.concatenate(parts)


def unseen(rows: Rows, sizes: Sequence[int], count: int, seen: set[Any]) -> Rows:
    """Return the first `count` different rows that are not in `seen`, and put them there."""
    chosen: list[int] = []
    for place, key in enumerate(keys_of(rows, sizes)):
        if key not in seen:
            if len(chosen) == count:
                break
            seen.add(key)
            chosen.append(place)
    return rows[chosen]


def keys_of(rows: Rows, sizes: Sequence[int]) -> list[int] | list[bytes]:
    """Return one key a design: its place in the full factorial (last parameter fastest), or bytes for very large spaces."""
    if math.prod(sizes) >= _LARGEST_KEY:
        return [row.tobytes() for row in rows.astype(np.int32)]
    numbers = np.zeros(len(rows), dtype=np.int64)
    for parameter, size in enumerate(sizes):
        numbers = numbers * size + rows[:, parameter]
    listed: list[int] = numbers.tolist()
    return listed


def from_numbers(numbers: NDArray[np.int64], sizes: Sequence[int]) -> Rows:
    """Return the designs at these places in the full factorial, whose last parameter runs fastest [designs, parameters]."""
    rows = np.empty((len(numbers), len(sizes)), dtype=np.int64)
    rest = numbers
    for parameter in reversed(range(len(sizes))):
        rest, rows[:, parameter] = np.divmod(rest, sizes[parameter])
    return rows
