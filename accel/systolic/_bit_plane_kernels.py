"""Compiled bit planes: packed 64 to a word, multiplied by AND and counted.

Self-contained: numba's cache on disk does not see edits in other files. A slow twin is in the tests.

Letters: O = output, K = position of the reduction, B = column of the batch, P and Q = planes of weights and inputs, W = word.
"""

from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import types
from numba.extending import intrinsic

IntArray = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]


@intrinsic  # type: ignore[untyped-decorator]
def _ones(_context: Any, _word: Any) -> Any:
    """Return how many bits of a uint64 are set (the processor's own instruction)."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        count = builder.module.declare_intrinsic("llvm.ctpop", [ir.IntType(64)])
        return builder.call(count, [arguments[0]])

    return types.int64(types.uint64), generate


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def packed(codes_LK: IntArray, planes: int) -> Words:
    """Return the lowest `planes` bits (two's complement) of codes [lines, K] as words [planes, lines, K / 64]."""
    lines, length = codes_LK.shape
    words = np.zeros((planes, lines, (length + 63) // 64), dtype=np.uint64)
    for line in range(lines):
        for k in range(length):
            code = codes_LK[line, k]
            place = np.uint64(k % 64)
            for p in range(planes):
                bit = np.uint64((code >> p) & 1)
                words[p, line, k // 64] |= bit << place
    return words


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def plane_product(w_POW: Words, w_value_P: IntArray, x_QBW: Words, x_value_Q: IntArray) -> IntArray:
    """Return the sum over planes of their values' product times the ones they have in common, [O, B]."""
    outputs, batch = w_POW.shape[1], x_QBW.shape[1]
    total = np.zeros((outputs, batch), dtype=np.int64)
    for o in range(outputs):
        for b in range(batch):
            for p in range(w_POW.shape[0]):
                for q in range(x_QBW.shape[0]):
                    common = 0
                    for word in range(w_POW.shape[2]):
                        common += _ones(w_POW[p, o, word] & x_QBW[q, b, word])
                    total[o, b] += w_value_P[p] * x_value_Q[q] * common
    return total
