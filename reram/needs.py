"""How many ADC bits the weights really need, per row tile and slice: the trained weights decide, not the worst case.

A column's sum is largest when every wordline carries a full pulse onto the cells of one sign: bound = pulse_max * sum of
its cells, for the rows read at once. Codes of one per cell unit up to the bound lose nothing; the converters of a (row
tile, slice) need the largest bound of their columns, or that of a percentile of them (wider columns then clip). Columns
whose cells are all empty are known to give 0 and are not read; a slice with only such columns needs no converter: 0 bits.

The current of empty cells (`r_off_ohm`, or the device's on/off ratio) is part of a sum that is converted, except in a
differential pair, where it cancels. Wires, programming errors and faults are left out: bits follow the intended weights.

Letters: T = row tile, K = slice (0 the least significant), G = group of rows read at once, O = output, I = input.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from picojoule.reram.crossbar import CrossbarSpec, Encoding
from picojoule.reram.encoding import split_evenly
from picojoule.reram.streaming import leak_ratio
from picojoule.reram.whole import check_percentile, weight_matrix
from picojoule.sim.errors import InputError

_BLOCK_WEIGHTS = 1 << 20  # weights sliced at a time: about a second-level cache of bytes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AdcNeeds:
    """What the columns of one weight matrix ask of their converters."""

    bits: NDArray[np.int64]
    """[T, K]: bits as `CrossbarSpec.adc_bits` counts them, the sign of a signed converter included; 0: no converter."""
    magnitude_bits: NDArray[np.int64]
    """[T, K]: the same without the sign: ceil(log2(bound + 1))."""
    bounds: NDArray[np.int64]
    """[T, K]: largest column sum (size, in cell units) that must be told apart, after the percentile."""
    nonzero_share: NDArray[np.float64]
    """[K]: share of cells that are not empty, of all that the slice takes (both polarities where there are two)."""
    columns: NDArray[np.int64]
    """[T, K]: conversions of an input step if no column were skipped: outputs x groups of rows, twice for `split`."""
    zero_columns: NDArray[np.int64]
    """[T, K]: how many of them are empty, so that their conversion is skipped."""
    clipped_columns: NDArray[np.int64]
    """[T, K]: how many can pass the bound; 0 at a percentile of 100."""

    @property
    def per_slice(self) -> tuple[int, ...]:
        """Bits per slice that serve every row tile, least significant first."""
        return tuple(self.bits.max(axis=0).tolist())

    @property
    def nested_bits(self) -> tuple[tuple[int, ...], ...]:
        """`bits` as `CrossbarSpec.adc_bits` takes them."""
        return tuple(tuple(row) for row in self.bits.tolist())

    @property
    def converted_columns(self) -> NDArray[np.int64]:
        """[T, K]: conversions of an input step."""
        return self.columns - self.zero_columns


def adc_needs(weights: ArrayLike, spec: CrossbarSpec, *, percentile: float = 100.0) -> AdcNeeds:
    """Return the ADC bits that `weights` [out, in] (whole numbers within `spec.weight_range`) need in these crossbars.

    The encoding, slices, tiles, `rows_active`, pulses and signs come from `spec`; its own ADC is ignored. With a
    `percentile` below 100, the bound is the smallest that holds at least this share of the columns that are converted; what
    the others lose is measured by computing with these bits.

    Raises:
        InputError: for weights that are not a matrix of whole numbers in range, or a percentile outside (0, 100].

    """
    check_percentile(percentile)
    w_OI = weight_matrix(weights, spec)
    tiles = split_evenly(w_OI.shape[1], spec.tile_rows)
    groups = [
        [
            slice(tile.start + g.start, tile.start + g.stop)
            for g in split_evenly(tile.stop - tile.start, spec.rows_active)
        ]
        for tile in tiles
    ]
    bound_KGO, nonzero_K = _column_bounds(w_OI, spec, groups)
    if leak := leak_ratio(spec if spec.device is None else spec.device.electrical(spec)):
        rows_G = np.array([group.stop - group.start for tile_groups in groups for group in tile_groups])
        empty_G1 = leak * spec.cell_max * spec.pulse_max * rows_G[:, None]
        leaky = np.ceil((1 - leak) * bound_KGO + empty_G1 - 1e-9).astype(np.int64)
        bound_KGO = np.where(bound_KGO > 0, leaky, 0)
    shape = (len(tiles), spec.slices)
    bounds, columns, zeros, clipped = (np.zeros(shape, dtype=np.int64) for _ in range(4))
    first = 0
    for t, tile_groups in enumerate(groups):
        last = first + len(tile_groups)
        for k in range(spec.slices):
            of_columns = bound_KGO[k, first:last].ravel()
            converted = of_columns[of_columns > 0]
            columns[t, k], zeros[t, k] = of_columns.size, of_columns.size - converted.size
            if converted.size:
                bounds[t, k] = _percentile(converted, percentile)
                clipped[t, k] = np.count_nonzero(converted > bounds[t, k])
        first = last
    magnitude = _bit_length(bounds)
    return AdcNeeds(
        bits=magnitude + (bounds > 0) * int(spec.needs_signed_adc),
        magnitude_bits=magnitude,
        bounds=bounds,
        nonzero_share=nonzero_K / (w_OI.size * (1 if spec.stores_offset else 2)),
        columns=columns,
        zero_columns=zeros,
        clipped_columns=clipped,
    )


def slice_nonzeros(magnitudes: ArrayLike, *, slices: int = 4, cell_bits: int = 2) -> NDArray[np.int64]:
    """Return how many of `magnitudes` (whole numbers of 0 or more, any shape) have each slice non-zero, [K].

    The least significant slice comes first. InputError for values that `slices` slices of `cell_bits` bits cannot hold.
    """
    values = np.asarray(magnitudes)
    most = (1 << (slices * cell_bits)) - 1
    if values.dtype.kind not in "iu" or (values.size and not (values.min() >= 0 and values.max() <= most)):
        raise InputError(f"magnitudes must be whole numbers between 0 and {most} ({slices} slices of {cell_bits} bits)")
    mask = (1 << cell_bits) - 1
    return np.array([np.count_nonzero(values >> (cell_bits * k) & mask) for k in range(slices)], dtype=np.int64)


def widest(needs: Iterable[AdcNeeds]) -> tuple[int, ...]:
    """Return bits per slice that serve all of `needs` (layers of as many slices), least significant first; () for none."""
    rows = [n.bits.max(axis=0) for n in needs]
    return tuple(np.max(rows, axis=0).tolist()) if rows else ()


def _column_bounds(
    w_OI: NDArray[Any], spec: CrossbarSpec, groups: list[list[slice]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the bound of each column [K, G, O] (twice as many outputs for `split`), and the non-empty cells [K]."""
    starts = [group.start for tile in groups for group in tile]
    outputs = len(w_OI)
    sums_PKGO = np.zeros((1 if spec.stores_offset else 2, spec.slices, len(starts), outputs), dtype=np.int64)
    nonzero_K = np.zeros(spec.slices, dtype=np.int64)
    step = max(1, _BLOCK_WEIGHTS // w_OI.shape[1])
    for rows in (slice(start, start + step) for start in range(0, outputs, step)):
        for p, stored in enumerate(_stored(w_OI[rows], spec)):
            for k in range(spec.slices):
                cells = _cells(stored, spec, k)
                sums_OG = np.add.reduceat(cells, starts, axis=1, dtype=np.uint32).astype(np.int64)
                empty = cells == 0
                if spec.encoding is Encoding.FLIP:
                    flipped_OT = _flip(sums_OG, spec, groups)
                    from_tile = np.repeat(flipped_OT, [tile[-1].stop - tile[0].start for tile in groups], axis=1)
                    empty = np.where(from_tile, cells == spec.cell_max, empty)
                sums_PKGO[p, k, :, rows] = sums_OG.T
                nonzero_K[k] += empty.size - np.count_nonzero(empty)
    if spec.encoding is Encoding.SPLIT:
        bound = np.concatenate([sums_PKGO[0], sums_PKGO[1]], axis=2)
    elif spec.encoding is Encoding.DIFFERENTIAL and not spec.signed_inputs:
        bound = sums_PKGO.max(axis=0)
    else:  # one polarity of cells, or pulses of both signs that drive the cells of both signs the same way
        bound = sums_PKGO.sum(axis=0)
    return bound * spec.pulse_max, nonzero_K


def _stored(w_OI: NDArray[Any], spec: CrossbarSpec) -> list[NDArray[np.uint16]]:
    """Return what the cells hold, by polarity."""
    if spec.stores_offset:
        return [(w_OI.astype(np.int32) + (1 << (spec.weight_bits - 1))).astype(np.uint16)]
    narrow = w_OI.astype(np.int16)
    return [np.maximum(narrow, 0).astype(np.uint16), np.maximum(-narrow, 0).astype(np.uint16)]


def _cells(stored: NDArray[np.uint16], spec: CrossbarSpec, k: int) -> NDArray[Any]:
    """Return the levels of slice k; a single cell that is no power of two wide holds all of the number."""
    if spec.slices == 1:
        return stored
    levels: NDArray[Any] = stored >> np.uint16(k * spec.cell_max.bit_length()) & np.uint16(spec.cell_max)
    return levels.astype(np.uint8) if spec.cell_max < 1 << 8 else levels


def _flip(sums_OG: NDArray[np.int64], spec: CrossbarSpec, groups: list[list[slice]]) -> NDArray[np.bool_]:
    """Replace the sums of columns whose complement has the smaller largest sum, in place; return which, [O, T]."""
    flipped_OT = np.zeros((len(sums_OG), len(groups)), dtype=np.bool_)
    first = 0
    for t, tile in enumerate(groups):
        span = slice(first, first := first + len(tile))
        sums = sums_OG[:, span]
        complement = spec.cell_max * np.array([g.stop - g.start for g in tile]) - sums
        flipped_OT[:, t] = sums.max(axis=1) > complement.max(axis=1)
        sums_OG[:, span] = np.where(flipped_OT[:, t, None], complement, sums)
    return flipped_OT


def _percentile(bounds: NDArray[np.int64], percentile: float) -> int:
    """Return the smallest of `bounds` that at least `percentile` % of them do not pass."""
    rank = int(np.ceil(bounds.size * (percentile / 100.0) - 1e-9)) - 1
    return int(np.partition(bounds, rank)[rank])


def _bit_length(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return ceil(log2(v + 1)) of whole numbers below 2**53."""
    return np.frexp(values.astype(np.float64))[1].astype(np.int64)
