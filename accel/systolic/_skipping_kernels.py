"""Compiled loops over masks: how long lanes that pass over zeros take when the fullest of them sets the pace.

Self-contained: numba's cache on disk does not see edits in other files. Slow twins are in the tests.

Letters: L = lane (what works on its own between two barriers), P = position a lane passes over.
"""

import numba
import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def barrier_lengths(live_LP: Mask, starts: IntArray, chunk: int) -> IntArray:
    """Return for each fold, lanes starts[f] to starts[f + 1], the sum over chunks of the most live positions of a lane."""
    positions = live_LP.shape[1]
    lengths = np.zeros(len(starts) - 1, dtype=np.int64)
    for f in range(len(starts) - 1):
        for first in range(0, positions, chunk):
            last = min(positions, first + chunk)
            most = 0
            for lane in range(starts[f], starts[f + 1]):
                count = 0
                for p in range(first, last):
                    count += live_LP[lane, p]
                most = max(most, count)
            lengths[f] += most
    return lengths


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def union_sizes(live_PC: Mask, starts: IntArray) -> IntArray:
    """Return for each fold of columns, starts[f] to starts[f + 1], how many rows have any live column among them."""
    sizes = np.zeros(len(starts) - 1, dtype=np.int64)
    for f in range(len(starts) - 1):
        for p in range(live_PC.shape[0]):
            for c in range(starts[f], starts[f + 1]):
                if live_PC[p, c]:
                    sizes[f] += 1
                    break
    return sizes
