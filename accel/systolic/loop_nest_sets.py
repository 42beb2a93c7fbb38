"""Sets of words as products of per-axis sets: their sizes, overlaps and how many PEs hold unlike ones."""

import math
from collections.abc import Sequence
from itertools import product

Span = tuple[int, int]
"""First index and the one behind the last."""
Runs = tuple[Span, ...]
"""A set of indices along one axis: disjoint spans in order."""
Option = tuple[Runs, Runs]
"""What a PE holds along one axis at a step, and the part of it that it held already."""


def all_words(axes: Sequence[Sequence[Option]]) -> int:
    """Return the new words of all PEs, each counted for itself."""
    held = math.prod(sum(size(now) for now, _ in options) for options in axes)
    return held - math.prod(sum(size(known) for _, known in options) for options in axes)


def distinct_words(axes: Sequence[Sequence[Option]]) -> int:
    """Return the new words of all PEs, equal sets counted once."""
    unlike = [list(dict.fromkeys(options)) for options in axes]
    states = [{_state(*option) for option in options} for options in unlike]
    if any(len(state) > 1 for state in states):
        return sum(dict(_new_set(chosen) for chosen in product(*unlike)).values())
    alone = [{now for now, _ in options} for options in unlike]
    if {"new"} in states:
        return math.prod(sum(map(size, nows)) for nows in alone)
    parts = [axis for axis, state in enumerate(states) if state == {"part"}]
    if len(parts) == 1:
        alone[parts[0]] = {without(*option) for option in unlike[parts[0]]}
        return math.prod(sum(map(size, nows)) for nows in alone)
    return all_words(unlike) if parts else 0


def _state(now: Runs, known: Runs) -> str:
    return "new" if not known else "held" if now == known else "part"


def _new_set(chosen: Sequence[Option]) -> tuple[tuple[tuple[Runs, ...], tuple[Runs, ...]], int]:
    """Return a name that equal sets of new words share (their extent along each axis, and the hole in it), and their words."""
    whole = tuple(now for now, _ in chosen)
    states = [_state(*option) for option in chosen]
    if "new" in states:
        return (whole, ()), math.prod(map(size, whole))
    parts = [axis for axis, state in enumerate(states) if state == "part"]
    if len(parts) < 2:
        trimmed = tuple(without(*o) if axis in parts else o[0] for axis, o in enumerate(chosen)) if parts else ()
        return (trimmed, ()), math.prod(map(size, trimmed)) if parts else 0
    hole = tuple(known for _, known in chosen)
    return (whole, hole), math.prod(map(size, whole)) - math.prod(map(size, hole))


# --- sets along one axis --------------------------------------------------------------------------------------------------


def size(runs: Runs) -> int:
    """Return how many indices there are."""
    return sum(stop - start for start, stop in runs)


def shared(a: Runs, b: Runs) -> Runs:
    """Return the indices in both; one walk along the two."""
    found, i, j = [], 0, 0
    while i < len(a) and j < len(b):
        start, stop = max(a[i][0], b[j][0]), min(a[i][1], b[j][1])
        if start < stop:
            found.append((start, stop))
        if a[i][1] <= b[j][1]:
            i += 1
        else:
            j += 1
    return tuple(found)


def without(a: Runs, b: Runs) -> Runs:
    """Return the indices of `a` that are not in `b`; one walk along the two."""
    found, j = [], 0
    for start, stop in a:
        while j < len(b) and b[j][1] <= start:
            j += 1
        at = j
        while at < len(b) and b[at][0] < stop:
            if start < b[at][0]:
                found.append((start, b[at][0]))
            start = b[at][1]
            at += 1
        j = max(j, at - 1)  # the last one may reach into the next span
        if start < stop:
            found.append((start, stop))
    return tuple(found)
