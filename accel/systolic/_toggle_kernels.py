"""Compiled loops over folds: what flips in registers between one stream and the next, and while operands are shifted in.

Self-contained: numba's cache on disk does not see edits in other files. Twins: the cycle-by-cycle simulation and tests/accel.

A row of `folds` is: first group, groups side by side, first index and number of indices of a group's row operand, the same of its
column operand. Port p carries operand p mod size of group p div size.
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
    """Return the number of ones in a word (uint32)."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        count = builder.module.declare_intrinsic("llvm.ctpop", [ir.IntType(32)])
        return builder.zext(builder.call(count, arguments), ir.IntType(64))

    return types.int64(types.uint32), generate


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def stream_ends(words: Array, first: Array, last: Array, inside: Array) -> None:
    """Write first and last word and the flips between them of streams words [G, I, T] (uint32) to arrays [G, I]."""
    groups, indices, steps = words.shape
    for g in range(groups):
        for i in range(indices):
            total = np.int64(0)
            for t in range(1, steps):
                total += _ones(words[g, i, t] ^ words[g, i, t - 1])
            first[g, i], last[g, i], inside[g, i] = words[g, i, 0], words[g, i, steps - 1], total


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def moving_flips(first: Array, last: Array, inside: Array, folds: Array, across: bool, flips: Array) -> None:
    """Add the flips of a moving operand in all PEs, and at the ports alone, to flips [2].

    first, last, inside [G, I]: ends of each stream. across: it enters at the rows and moves across the columns; else it
    enters at the columns. PEs behind a port that are reached by the same folds see the same words, so folds are walked
    once per distinct reach.
    """
    own, other = (2, 4) if across else (4, 2)
    ports, reaches = 0, np.empty(len(folds), np.int64)
    for f in range(len(folds)):
        ports = max(ports, folds[f, 1] * folds[f, own + 1])
        reaches[f] = folds[f, 1] * folds[f, other + 1]
    held = np.empty(ports, np.uint32)
    nearer = np.int64(0)
    for reach in np.unique(reaches):
        held[:] = 0
        total = np.int64(0)
        for f in range(len(folds)):
            if reaches[f] < reach:
                continue
            low, size = folds[f, own], folds[f, own + 1]
            for q in range(folds[f, 1]):
                group = folds[f, 0] + q
                for i in range(size):
                    total += _ones(held[q * size + i] ^ first[group, low + i]) + inside[group, low + i]
                    held[q * size + i] = last[group, low + i]
        flips[0] += total * (reach - nearer)
        if nearer == 0:
            flips[1] += total
        nearer = reach


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def load_flips(words: Array, folds: Array, flips: Array) -> None:
    """Add flips of an operand shifted in from the top to flips [3]: in all PEs, at the ports, and between held words.

    The last: from the word that a PE multiplied by in the fold before to the one of this fold.

    words [G, row operands, column operands] (uint32). In a column only the words of its own group move: the word of the
    group's last row first, each as far down as its place.
    """
    rows, cols = 0, 0
    for f in range(len(folds)):
        rows = max(rows, folds[f, 1] * folds[f, 3])
        cols = max(cols, folds[f, 1] * folds[f, 5])
    held = np.zeros((cols, rows), np.uint32)
    wire = np.zeros(cols, np.uint32)
    for f in range(len(folds)):
        low, height, left, width = folds[f, 2], folds[f, 3], folds[f, 4], folds[f, 5]
        for q in range(folds[f, 1]):
            group, top = folds[f, 0] + q, q * height
            for c in range(width):
                column = q * width + c
                lowest = words[group, low + height - 1, left + c]
                for i in range(top + height):
                    flips[0] += _ones(held[column, i] ^ lowest)
                    word = words[group, low + max(i - top, 0), left + c]
                    if i >= top:
                        flips[2] += _ones(held[column, i] ^ word)
                    held[column, i] = word
                flips[1] += _ones(wire[column] ^ lowest)
                wire[column] = words[group, low, left + c]
                for i in range(height - 1):
                    changed = _ones(words[group, low + i, left + c] ^ words[group, low + i + 1, left + c])
                    flips[0] += changed * (top + i + 1)
                    flips[1] += changed
