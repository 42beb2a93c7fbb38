"""Compiled loops over distances between rows of words: nearest-neighbour orders and their improvement.

Self-contained: numba's cache on disk does not see edits in other files. Slow twins are in tests/accel.
"""

from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import types
from numba.extending import intrinsic

Array = npt.NDArray[Any]


@intrinsic  # type: ignore[untyped-decorator]
def _ones(_context: Any, _word: Any) -> Any:
    """Return the number of ones in a word (uint64)."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        count = builder.module.declare_intrinsic("llvm.ctpop", [ir.IntType(64)])
        return builder.call(count, arguments)

    return types.int64(types.uint64), generate


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def row_distances(words: Array, distance: Array) -> None:
    """Write the bits in which rows of words [N, W] (uint64) differ to distance [N, N] (int32)."""
    rows, width = words.shape
    for a in range(rows):
        distance[a, a] = 0
        for b in range(a):
            total = 0
            for i in range(width):
                total += _ones(words[a, i] ^ words[b, i])
            distance[a, b] = total
            distance[b, a] = total


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def walk_flips(words: Array, order: Array) -> Any:
    """Return the bits that flip as rows of words [N, W] (uint64) follow one another in an order [N]."""
    total = np.int64(0)
    for step in range(1, len(order)):
        for i in range(words.shape[1]):
            total += _ones(words[order[step], i] ^ words[order[step - 1], i])
    return total


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def nearest_neighbors(distance: Array, cluster: Array, sizes: Array, start: int, order: Array) -> None:
    """Write to order [N] a walk that goes on to the nearest row not yet visited; of equals the first.

    Clusters (cluster [N] counts from 0, sizes [clusters]) are visited one after the other, each from the row nearest to the
    end of the one before; the walk begins in the first one with row `start` if it is there, else with its first row.
    """
    rows = len(order)
    visited = np.zeros(rows, np.bool_)
    place = 0
    last = -1
    for current in range(len(sizes)):
        for _ in range(sizes[current]):
            best, least = -1, np.int64(1) << 62
            for row in range(rows):
                if visited[row] or cluster[row] != current:
                    continue
                away = np.int64(row != start) if last < 0 else np.int64(distance[last, row])
                if away < least:
                    best, least = row, away
            visited[best] = True
            order[place] = best
            last = best
            place += 1


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _gain_of_reversal(distance: Array, order: Array, i: int, j: int) -> int:
    """Return what reversing order[i .. j] saves on an open path."""
    saved = 0
    if i > 0:
        saved += distance[order[i - 1], order[i]] - distance[order[i - 1], order[j]]
    if j + 1 < len(order):
        saved += distance[order[j], order[j + 1]] - distance[order[i], order[j + 1]]
    return saved


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _gain_of_move(distance: Array, order: Array, i: int, size: int, j: int, turned: bool) -> int:
    """Return what moving order[i .. i + size - 1] between places j and j + 1 (outside of it) saves."""
    n = len(order)
    head, tail = order[i], order[i + size - 1]
    saved = 0
    if i > 0:
        saved += distance[order[i - 1], head]
    if i + size < n:
        saved += distance[tail, order[i + size]]
    if i > 0 and i + size < n:
        saved -= distance[order[i - 1], order[i + size]]
    first, second = (tail, head) if turned else (head, tail)
    if j >= 0:
        saved -= distance[order[j], first]
    if j + 1 < n:
        saved -= distance[second, order[j + 1]]
    if j >= 0 and j + 1 < n:
        saved += distance[order[j], order[j + 1]]
    return saved


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _move(order: Array, i: int, size: int, j: int, turned: bool) -> None:
    """Move order[i .. i + size - 1] between places j and j + 1."""
    piece = order[i : i + size].copy()
    if turned:
        piece = piece[::-1].copy()
    if j < i:
        for t in range(i - 1, j, -1):
            order[t + size] = order[t]
        order[j + 1 : j + 1 + size] = piece
    else:
        for t in range(i + size, j + 1):
            order[t - size] = order[t]
        order[j + 1 - size : j + 1] = piece


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def improve_path(distance: Array, order: Array, low: int, high: int, sweeps: int) -> int:
    """Improve order[low .. high - 1] in place by 2-opt and or-opt, first improvement, at most `sweeps` passes; return the saving.

    What stands before and after this range stays; ends of the whole order are free.
    """
    total = 0
    for _ in range(sweeps):
        before = total
        for i in range(low, high - 1):
            for j in range(i + 1, high):
                saved = _gain_of_reversal(distance, order, i, j)
                if saved > 0:
                    total += saved
                    a, b = i, j
                    while a < b:
                        held = order[a]
                        order[a] = order[b]
                        order[b] = held
                        a += 1
                        b -= 1
        for size in range(1, 4):
            for i in range(low, high - size + 1):
                for j in range(low - 1, high):
                    if i - 1 <= j < i + size:
                        continue
                    for turned in (False, True):
                        saved = _gain_of_move(distance, order, i, size, j, turned)
                        if saved > 0:
                            total += saved
                            _move(order, i, size, j, turned)
                            break
                    else:
                        continue
                    break
        if total == before:
            break
    return total
