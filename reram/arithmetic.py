"""Products as a bit-sliced crossbar computes them: exact where no conversion loses anything, streamed where one does.

A bitline whose largest possible sum passes its ADC unchanged needs no simulation: its slices are added back into one
matrix of plain numbers, and one matrix product covers all of them. Only the other bitlines are streamed: in bits
(`bit_streaming`) where sums are whole and planes few, else as products of every pulse (`streaming`).

Rules (those of the CrossSim 3.2 cases in the tests): a reduction longer than a tile is cut into the fewest tiles, as
equal as possible, larger ones first, and a tile likewise into groups of `rows_active`; one conversion per group, slice
and input step; clip, then round half to even; everything after the ADC is exact. Columns known to be empty are not
read, though their cells may conduct. With a `device`, `analog` takes
over.

Letters: P = plane (a slice, or one polarity of it), O = output, I = input, R = wordline of a group, B = batch.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from picojoule.reram.bit_streaming import BitStream, build_bit_stream, octets
from picojoule.reram.converter import Adc
from picojoule.reram.crossbar import CrossbarSpec, Encoding
from picojoule.reram.encoding import encode_tile, split_evenly
from picojoule.reram.streaming import Stream, add_stream, blocks, build_stream, leak_ratio, sum_extremes
from picojoule.reram.whole import FLOAT32_WHOLE, check_unconverted, input_matrix, row_tiles, weight_matrix
from picojoule.reram.wires import solve_bitlines
from picojoule.sim.errors import UnsupportedError

if TYPE_CHECKING:
    from picojoule.reram.analog import AnalogCrossbar
    from picojoule.reram.analog_cells import AnalogTile

_FLOAT64_WHOLE = 1 << 53  # whole numbers up to here are exact in float64 (53-bit significand, IEEE 754)
_BLOCK_BYTES = 16 << 20  # inputs or outputs of one block of the plain product
_SMALL_BLOCK_BYTES = 1 << 20  # of what is looked through
_LEAST_ROWS = 128  # shorter pieces of a product in float32 are no faster than one product in float64


def crossbar_matmul(weights: ArrayLike, inputs: ArrayLike, spec: CrossbarSpec) -> NDArray[np.float64]:
    """Return `weights @ inputs` as the crossbar computes it: float64 [out, batch], in units of the integer product.

    `weights` [out, in] and `inputs` [in, batch] hold whole numbers (any integer type, or floats without fraction) in
    `spec.weight_range` and `spec.input_range`; anything else raises InputError. To use the same weights again, keep
    `program(weights, spec)`.
    """
    return program(weights, spec).matmul(inputs)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ProgrammedCrossbar:
    """Weights written into crossbars once, for many products; made by `program`."""

    spec: CrossbarSpec
    shape: tuple[int, int]
    """(outputs, inputs) of the weights."""
    lossless_share: float
    """Share of (bitline, row group) pairs whose conversions can lose nothing, and so are not streamed."""
    plain: NDArray[Any]
    """[out, rows]: what those bitlines and the digital corrections compute together."""
    plain_rows: NDArray[np.int64] | None
    """Rows of the inputs that `plain` takes; None is all."""
    plain_is_whole: bool
    plain_reach: dict[int, float]
    """Largest sum |plain| of an output within a piece, when its rows are cut into so many pieces."""
    streams: tuple[Stream | BitStream, ...]

    def matmul(self, inputs: ArrayLike) -> NDArray[np.float64]:
        """Return the crossbar's product with `inputs` [in, batch] (whole numbers): float64 [out, batch]."""
        spec = self.spec
        x_IB, peak = input_matrix(inputs, spec, self.shape[1])
        y_OB = self._plain_product(x_IB, peak)
        if any(isinstance(stream, BitStream) for stream in self.streams):
            x_SNIB = octets(x_IB, spec)
        for stream in self.streams:
            if isinstance(stream, BitStream):
                stream.add(y_OB, x_SNIB, spec)
            else:
                add_stream(y_OB, stream, x_IB, spec)
        return y_OB

    def _plain_product(self, x_IB: NDArray[Any], peak: int) -> NDArray[np.float64]:
        """Return `plain_OI @ x_IB`; a whole matrix exactly, in float32 where no partial sum can reach 2**24."""
        outputs, rows = self.plain.shape
        reach = self.plain_reach
        y_OB = np.zeros((outputs, x_IB.shape[1]))
        if reach[1] * peak == 0:
            return y_OB
        if reach[1] * peak >= _FLOAT64_WHOLE:
            raise UnsupportedError(
                f"sums of {rows} products of {self.spec.weight_bits}-bit weights and inputs up to {peak} can pass "
                "2**53 and leave float64's exact range; use fewer bits or cut the reduction into several products"
            )
        fitting = [pieces for pieces, largest in reach.items() if largest * peak < FLOAT32_WHOLE]
        pieces, dtype = (fitting[0], np.float32) if self.plain_is_whole and fitting else (1, np.float64)
        plain_OI: NDArray[Any] = self.plain.astype(dtype, copy=False)
        for block in blocks(x_IB.shape[1], _BLOCK_BYTES // (8 * max(rows, outputs))):
            x: NDArray[Any] = x_IB[:, block] if self.plain_rows is None else x_IB[self.plain_rows, block]
            x = x.astype(dtype, copy=False)
            for piece in _pieces(rows, pieces):
                y_OB[:, block] += plain_OI[:, piece] @ x[piece]
        return y_OB


def program(
    weights: ArrayLike, spec: CrossbarSpec, *, solved: "dict[int, AnalogTile] | None" = None
) -> "ProgrammedCrossbar | AnalogCrossbar":
    """Return `weights` [out, in] (whole numbers within `spec.weight_range`) written into crossbars of this design.

    Raises InputError for anything else, and for converters by row tile that do not fit the tiles. With `wire_ohm_per_cell` every
    array is solved once, here; with `device` what comes back is analogue, and `solved` is that of `program_analog`.
    """
    if spec.device is not None:
        from picojoule.reram.analog import program_analog

        return program_analog(weights, spec, solved=solved)
    w_OI = weight_matrix(weights, spec)
    outputs, inputs = w_OI.shape
    tiles = row_tiles(inputs, spec)
    plain_OI = np.zeros(w_OI.shape)
    streams: list[Stream | BitStream] = []
    lossless = conversions = 0
    for t, tile in enumerate(tiles):
        adcs = spec.converters_of(t)
        groups = split_evenly(tile.stop - tile.start, spec.rows_active)
        cells = encode_tile(w_OI[:, tile], spec, groups)
        check_unconverted(cells, adcs, t)
        sums_POR = _wired_cells(cells.cells, spec) if spec.has_wires else cells.cells
        for group in groups:
            rows = slice(tile.start + group.start, tile.start + group.stop)
            fits_PO = _fits(cells.cells[:, :, group], cells.slice_of_plane, adcs, spec)
            digital_O = cells.digital.astype(np.float64)
            lossless, conversions = lossless + int(fits_PO.sum()), conversions + fits_PO.size
            if not fits_PO.all():
                assert adcs is not None  # without an ADC every bitline is lossless
                found = build_bit_stream(cells, cells.cells[:, :, group], ~fits_PO, rows, adcs, spec)
                if found is not None:
                    digital_O -= found.digital
                streams.append(found or build_stream(cells, sums_POR[:, :, group], ~fits_PO, rows, adcs, spec))
            plain_OI[:, rows] = _plain_share(sums_POR[:, :, group], cells.gain, fits_PO, spec) + digital_O[:, None]

    plain_rows = np.flatnonzero(plain_OI.any(axis=0))
    if len(plain_rows) < inputs:
        plain_OI = plain_OI[:, plain_rows]
    largest = max(float(plain_OI.max(initial=0)), -float(plain_OI.min(initial=0)))
    is_whole = not (spec.has_wires and spec.adc_bits is None)
    pieces = [1 << n for n in range((len(plain_rows) // _LEAST_ROWS).bit_length())] or [1]
    return ProgrammedCrossbar(
        spec=spec,
        shape=(outputs, inputs),
        lossless_share=lossless / conversions,
        plain=plain_OI.astype(np.float32) if is_whole and largest < FLOAT32_WHOLE else plain_OI,
        plain_rows=None if len(plain_rows) == inputs else plain_rows,
        plain_is_whole=is_whole,
        plain_reach={n: max(_largest_sum(plain_OI[:, piece]) for piece in _pieces(len(plain_rows), n)) for n in pieces},
        streams=tuple(streams),
    )


def _largest_sum(plain_OR: NDArray[np.float64]) -> float:
    """Return the largest sum of magnitudes of an output, without a copy of all of them."""
    step = max(1, _SMALL_BLOCK_BYTES // (8 * max(1, plain_OR.shape[1])))
    return float(max(np.abs(plain_OR[block]).sum(axis=1).max() for block in blocks(len(plain_OR), step)))


def _pieces(rows: int, pieces: int) -> list[slice]:
    return split_evenly(rows, -(-rows // pieces)) if rows else [slice(0, 0)]


def _fits(
    cells_POR: NDArray[np.int32], slice_of_P: tuple[int, ...], adcs: tuple[Adc, ...] | None, spec: CrossbarSpec
) -> NDArray[np.bool_]:
    """Return which bitlines (plane, output) no input can drive to a sum that their converter changes."""
    if adcs is None:
        return np.ones(cells_POR.shape[:2], dtype=np.bool_)
    if spec.has_wires or leak_ratio(spec) > 0:  # sums are not whole; a column known to be empty is never read
        return np.asarray(~cells_POR.any(axis=2))
    low_PO, high_PO = sum_extremes(cells_POR, spec)
    return np.stack([adcs[k].is_lossless(low_PO[i], high_PO[i]) for i, k in enumerate(slice_of_P)])


def _plain_share(
    sums_POR: NDArray[Any], gain_PO: NDArray[np.int64], fits_PO: NDArray[np.bool_], spec: CrossbarSpec
) -> NDArray[np.float64]:
    """Return what the lossless bitlines of a group compute together, as a plain matrix [O, R].

    With wires, `sums_POR` holds the leak of empty cells (ratio r) as well: r q is removed, the rest divided by 1 - r.
    """
    r = leak_ratio(spec)
    plain_OR = np.zeros(sums_POR.shape[1:])
    if spec.has_wires and spec.adc_bits is not None:
        return plain_OR  # all that fits is what is never read
    for sums_OR, gain_O in zip(sums_POR, gain_PO * fits_PO, strict=True):
        if spec.has_wires:
            plain_OR += (gain_O / (1.0 - r))[:, None] * (sums_OR - r * spec.cell_max)
        else:
            plain_OR += gain_O[:, None] * sums_OR
    return plain_OR


def _wired_cells(cells_POR: NDArray[np.int32], spec: CrossbarSpec) -> NDArray[np.float64]:
    """Return what each cell adds to its column's sum, in cell units, with resistive wires.

    Every plane has arrays of its own, of at most `tile_cols` outputs; a differential pair is two arrays. Rows that are
    not active are held at 0 V.
    """
    assert spec.wire_ohm_per_cell is not None
    wire_ohm, r, q = spec.wire_ohm_per_cell, spec.off_on_ratio, spec.cell_max

    def sums(levels_OR: NDArray[np.int32]) -> NDArray[np.float64]:
        siemens = (r + (1.0 - r) * levels_OR / q) / spec.r_on_ohm
        return solve_bitlines(siemens, wire_ohm, spec.wire_model, spec.tile_cols) * (q * spec.r_on_ohm)

    if spec.encoding is Encoding.DIFFERENTIAL:
        return np.stack([(sums(np.maximum(c, 0)) - sums(np.maximum(-c, 0))) / (1.0 - r) for c in cells_POR])
    return np.stack([sums(c) for c in cells_POR])
