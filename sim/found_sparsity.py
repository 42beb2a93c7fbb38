"""The structure of a tensor's zeros: whole output or input channels, blocks, N:M, or none.

A structure is named when the zeros outside it are below 1 % of what it leaves and a tenth of all zeros, and when zeros thrown
at random, as many as there are, would show it with a probability below 2^-40. For units of S elements that are zero or kept as
a whole that probability is the product over units of z^S + d^S (z, d: shares of zeros and non-zeros); for N:M it is that of no
group of M consecutive inputs holding more than N non-zeros. Low density alone therefore never looks like N:M: groups must be
too regular for it. Of several N:M the most improbable one is taken: 2:4 is also 4:8, but there it says less.

Blocks lie on the matrix [output channels, inputs x window] from its first corner on; their sides are powers of two up to
64, the longer side of a convolution's may be whole windows (1x9 prunes 3x3 kernels).
"""

from math import comb, log2

import numpy as np
from numpy.typing import NDArray

from picojoule.sim.formats import Sparsity, Structure

Mask = NDArray[np.bool_]

SPARSE_FROM = 0.01
"""Share of zeros below which a tensor counts as dense: stray zeros save nothing on any hardware. Its density stays exact."""
_STRAY = 0.01
_CONVINCING_BITS = 40.0
_GROUPS = (2, 4, 8, 16)
_LONGEST_SIDE = 64
_SAMPLE = 1 << 16


def find_sparsity(nonzero: Mask) -> Sparsity:
    """Return structure and density of a mask [output channels, input channels, window] that is true for non-zeros."""
    count = int(np.count_nonzero(nonzero))
    density = count / nonzero.size if nonzero.size else 1.0
    if 1 - density < SPARSE_FROM:
        return Sparsity(density=density)
    if count == 0:
        return Sparsity(structure=Structure.ROW, density=0.0)
    rows, columns = _any(nonzero, 1, 2), _any(nonzero, 0, 2)
    channels = _whole_channels(nonzero, rows, columns, count)
    if channels is not None:
        return Sparsity(structure=channels, density=density)
    if block := _block(nonzero):
        return Sparsity(structure=Structure.BLOCK, density=density, block=block)
    if pattern := _n_of_m(nonzero[rows]):
        return Sparsity(structure=Structure.N_OF_M, density=density, n=pattern[0], m=pattern[1])
    return Sparsity(structure=Structure.UNSTRUCTURED, density=density)


def _any(mask: Mask, *axes: int) -> Mask:
    return np.asarray(mask.any(axis=axes))


def _whole_bits(units: int, size: int, density: float) -> float:
    """Return how improbable it is, in bits, that each of `units` groups of `size` elements is all zero or all non-zero."""
    large, small = max(density, 1 - density), min(density, 1 - density)
    return -units * (size * log2(large) + log2(1 + (small / large) ** size))


def _explains(left: int, count: int, elements: int) -> bool:
    """Whether few of the zeros are among the `left` elements that a structure keeps, `count` of them non-zero."""
    return left - count < min(_STRAY * left, 0.1 * (elements - count))


def _whole_channels(nonzero: Mask, rows: Mask, columns: Mask, count: int) -> Structure | None:
    """Return whether zeros are whole output channels (ROW) or input channels (COLUMN); of both, which explains more."""
    outputs, inputs, window = nonzero.shape
    left = int(rows.sum()) * int(columns.sum()) * window
    if not _explains(left, count, nonzero.size):
        return None
    density = count / nonzero.size
    lost_rows, lost_columns = 1 - rows.mean(), 1 - columns.mean()
    if lost_rows >= lost_columns:
        return Structure.ROW if _whole_bits(outputs, inputs * window, density) >= _CONVINCING_BITS else None
    return Structure.COLUMN if _whole_bits(inputs, outputs * window, density) >= _CONVINCING_BITS else None


def _n_of_m(live: Mask) -> tuple[int, int] | None:
    """Return the most improbable N:M along the input channels of rows that are not zero; zero inputs are no evidence."""
    few = max(1, _SAMPLE // max(1, live[0].size))
    inputs = _any(live, 0, 2)
    density = np.count_nonzero(live) / (live.shape[0] * int(inputs.sum()) * live.shape[2])
    best, most = None, 0.0
    for size in _GROUPS:
        if size > live.shape[1]:
            break
        kept = size if _largest_group(live[:few], size) == size else _largest_group(live, size)
        if kept == size:
            continue
        usable = np.pad(inputs, (0, -len(inputs) % size)).reshape(-1, size).sum(1)
        within = [_at_most(kept, int(u), density) for u in usable]
        bits = -live.shape[0] * live.shape[2] * sum(log2(p) for p in within)
        if bits >= _CONVINCING_BITS and bits > most:
            best, most = (kept, size), bits
    return best


def _at_most(kept: int, size: int, density: float) -> float:
    """Return the probability that at most `kept` of `size` independent elements are non-zero."""
    if kept >= size:
        return 1.0
    return sum(comb(size, k) * density**k * (1 - density) ** (size - k) for k in range(kept + 1))


def _largest_group(live: Mask, size: int) -> int:
    """Return the most non-zeros in any `size` consecutive inputs; the last group may be short."""
    counts = live.view(np.uint8)
    while size > 1:  # size is a power of two: add neighbours
        if counts.shape[1] % 2:
            counts = np.pad(counts, ((0, 0), (0, 1), (0, 0)))
        counts = counts[:, 0::2] + counts[:, 1::2]
        size //= 2
    return int(counts.max())


def _block(nonzero: Mask) -> tuple[int, int] | None:
    """Return the largest block (rows, columns) in which zeros come, found by doubling the sides of the smallest ones."""
    window = nonzero.shape[2]
    matrix = nonzero.reshape(nonzero.shape[0], -1)
    few = max(2, _SAMPLE // matrix.shape[1])
    starts = {(2, 1): _merged(matrix, 0), (1, 2): _merged(matrix, 1)} if _small_blocks(matrix[:few]) else {}
    if window > 1:
        starts[1, window] = _any(nonzero, 2)
    count = int(np.count_nonzero(matrix))
    found = [_grown(live, sides, matrix.shape, count, window) for sides, live in starts.items()]
    return max((f for f in found if f), key=lambda f: f[0] * f[1], default=None)


def _small_blocks(few: Mask) -> bool:
    """Whether zeros in a sample stand in pairs."""
    count = int(np.count_nonzero(few))
    return any(_fits(_merged(few, axis), (2 - axis, 1 + axis), few.shape, count) for axis in (0, 1))


def _grown(
    live: Mask, sides: tuple[int, int], shape: tuple[int, ...], count: int, window: int
) -> tuple[int, int] | None:
    """Double the sides of a block while zeros come in it; None if they do not to begin with, or by chance."""
    if not _fits(live, sides, shape, count):
        return None
    grown = True
    while grown:
        grown = False
        for axis in (1, 0):
            wider = (sides[0] * (2 - axis), sides[1] * (1 + axis))
            longest = _LONGEST_SIDE * (window if wider[1] % window == 0 else 1)
            if wider[0] > min(_LONGEST_SIDE, shape[0]) or wider[1] > min(longest, shape[1]):
                continue
            merged = _merged(live, axis)
            if _fits(merged, wider, shape, count):
                live, sides, grown = merged, wider, True
                break
    uncut = (shape[0] // sides[0]) * (shape[1] // sides[1])  # a block cut down to an element says nothing
    bits = _whole_bits(uncut, sides[0] * sides[1], count / (shape[0] * shape[1]))
    return sides if bits >= _CONVINCING_BITS else None


def _merged(live: Mask, axis: int) -> Mask:
    """Return for each pair of neighbours whether either is non-zero; a last one without a neighbour stays."""
    even, odd = (live[0::2], live[1::2]) if axis == 0 else (live[:, 0::2], live[:, 1::2])
    made = even.copy()
    part = made[: len(odd)] if axis == 0 else made[:, : odd.shape[1]]
    np.logical_or(part, odd, out=part)
    return made


def _fits(live: Mask, sides: tuple[int, int], shape: tuple[int, ...], count: int) -> bool:
    """Whether almost no zeros stand in blocks that are not zero; blocks at the edges are cut off by them."""
    lengths = []
    for number, side, size in zip(live.shape, sides, shape, strict=True):
        length = np.full(number, side)
        length[-1] = size - (number - 1) * side
        lengths.append(length)
    left = int(lengths[0] @ live.astype(np.int64) @ lengths[1])
    return _explains(left, count, shape[0] * shape[1])
