"""Products as a bit-sliced crossbar computes them: exact where no conversion loses anything, streamed where one does.

A bitline whose largest possible sum passes its ADC unchanged needs no simulation: its slices are added back into one
matrix of plain numbers, and one matrix product covers all of them. Only the other bitlines go through `streaming`.

Rules (those of the CrossSim 3.2 cases in the tests): a reduction longer than a tile is cut into the fewest tiles, as
equal as possible, larger ones first, and a tile likewise into groups of `rows_active`; one conversion per group, slice
and input step; clip, then round half to even; everything after the ADC is exact. Left out: noise, variation and drift
of cells.

Letters: P = plane (a slice, or one polarity of it), O = output, I = input, R = wordline of a group, B = batch.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from picojoule.reram.crossbar import CrossbarSpec, Encoding
from picojoule.reram.encoding import encode_tile, split_evenly
from picojoule.reram.streaming import (
    FLOAT32_WHOLE,
    Stream,
    add_stream,
    blocks,
    build_stream,
    leak_ratio,
    sum_extremes,
)
from picojoule.reram.wires import bitline_current_per_volt
from picojoule.sim.errors import InputError, UnsupportedError

_FLOAT64_WHOLE = 1 << 53  # whole numbers up to here are exact in float64 (53-bit significand, IEEE 754)
_BLOCK_BYTES = 16 << 20  # inputs or outputs of one block of the plain product
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
    """[out, in]: what those bitlines and the digital corrections compute together."""
    plain_is_whole: bool
    plain_reach: dict[int, float]
    """Largest sum |plain| of an output within a piece, when the inputs are cut into so many pieces."""
    constant: NDArray[np.float64]
    """[out]: zero points of the streamed bitlines' codes."""
    streams: tuple[Stream, ...]

    def matmul(self, inputs: ArrayLike) -> NDArray[np.float64]:
        """Return the crossbar's product with `inputs` [in, batch] (whole numbers): float64 [out, batch]."""
        spec = self.spec
        held = f"{spec.input_bits} bits, {'signed' if spec.signed_inputs else 'unsigned'}"
        x_IB, peak = _whole_matrix(inputs, "inputs", "[in, batch]", spec.input_range, held)
        if len(x_IB) != self.shape[1]:
            raise InputError(f"inputs must have {self.shape[1]} rows, one per column of the weights, got {len(x_IB)}")
        y_OB = self._plain_product(x_IB, peak)
        if self.constant.any():
            y_OB += self.constant[:, None]
        for stream in self.streams:
            add_stream(y_OB, stream, x_IB, spec)
        return y_OB

    def _plain_product(self, x_IB: NDArray[Any], peak: int) -> NDArray[np.float64]:
        """Return `plain_OI @ x_IB`; a whole matrix exactly, in float32 where no partial sum can reach 2**24."""
        outputs, rows = self.shape
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
            x: NDArray[Any] = x_IB[:, block].astype(dtype, copy=False)
            for piece in _pieces(rows, pieces):
                y_OB[:, block] += plain_OI[:, piece] @ x[piece]
        return y_OB


def program(weights: ArrayLike, spec: CrossbarSpec) -> ProgrammedCrossbar:
    """Return `weights` [out, in] (whole numbers within `spec.weight_range`) written into crossbars of this design.

    Raises InputError for anything else. With `wire_ohm_per_cell` every array is solved once, here.
    """
    held = f"{spec.weight_bits} bits, {spec.encoding.value} encoding"
    w_OI = _whole_matrix(weights, "weights", "[out, in]", spec.weight_range, held)[0].astype(np.int64)
    if w_OI.size == 0:
        raise InputError(f"weights must have at least one output and one input, got shape {list(w_OI.shape)}")
    outputs, inputs = w_OI.shape

    plain_OI = np.zeros(w_OI.shape)
    constant_O = np.zeros(outputs)
    streams: list[Stream] = []
    lossless = conversions = 0
    for tile in split_evenly(inputs, spec.tile_rows):
        groups = split_evenly(tile.stop - tile.start, spec.rows_active)
        cells = encode_tile(w_OI[:, tile], spec, groups)
        sums_POR = _wired_cells(cells.cells, spec) if spec.has_wires else cells.cells
        plain_OI[:, tile] += cells.digital[:, None]
        for group in groups:
            rows = slice(tile.start + group.start, tile.start + group.stop)
            fits_PO = _fits(cells.cells[:, :, group], cells.slice_of_plane, spec)
            plain_OI[:, rows] += _plain_share(sums_POR[:, :, group], cells.gain, fits_PO, spec)
            lossless, conversions = lossless + int(fits_PO.sum()), conversions + fits_PO.size
            if not fits_PO.all():
                stream, constant = build_stream(cells, sums_POR[:, :, group], ~fits_PO, rows, spec)
                streams.append(stream)
                constant_O += constant

    size_OI = np.abs(plain_OI)
    is_whole = not (spec.has_wires and spec.adc_bits is None)
    pieces = [1 << n for n in range((inputs // _LEAST_ROWS).bit_length())] or [1]
    return ProgrammedCrossbar(
        spec=spec,
        shape=(outputs, inputs),
        lossless_share=lossless / conversions,
        plain=plain_OI.astype(np.float32) if is_whole and size_OI.max() < FLOAT32_WHOLE else plain_OI,
        plain_is_whole=is_whole,
        plain_reach={
            n: float(max(size_OI[:, piece].sum(axis=1).max() for piece in _pieces(inputs, n))) for n in pieces
        },
        constant=constant_O,
        streams=tuple(streams),
    )


def _pieces(rows: int, pieces: int) -> list[slice]:
    return split_evenly(rows, -(-rows // pieces))


def _fits(cells_POR: NDArray[np.int32], slice_of_P: tuple[int, ...], spec: CrossbarSpec) -> NDArray[np.bool_]:
    """Return which bitlines (plane, output) no input can drive to a sum that their converter changes."""
    adcs = spec.converters
    if adcs is None:
        return np.ones(cells_POR.shape[:2], dtype=np.bool_)
    if spec.has_wires or leak_ratio(spec) > 0:  # sums are not whole
        return np.zeros(cells_POR.shape[:2], dtype=np.bool_)
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
    columns = split_evenly(cells_POR.shape[1], spec.tile_cols)

    def sums(levels_OR: NDArray[np.int32]) -> NDArray[np.float64]:
        siemens = (r + (1.0 - r) * levels_OR / q) / spec.r_on_ohm
        arrays = [bitline_current_per_volt(siemens[part], wire_ohm) for part in columns]
        return np.concatenate(arrays) * (q * spec.r_on_ohm)

    if spec.encoding is Encoding.DIFFERENTIAL:
        return np.stack([(sums(np.maximum(c, 0)) - sums(np.maximum(-c, 0))) / (1.0 - r) for c in cells_POR])
    return np.stack([sums(c) for c in cells_POR])


def _whole_matrix(
    values: ArrayLike, what: str, axes: str, limits: tuple[int, int], held: str
) -> tuple[NDArray[Any], int]:
    """Return `values` as a checked matrix of whole numbers (its own type, bool as uint8), and its largest magnitude."""
    matrix = np.asarray(values)
    if matrix.dtype == np.bool_:
        matrix = matrix.astype(np.uint8)
    if matrix.dtype.kind not in "iuf":
        raise InputError(f"{what} must be whole numbers, got an array of {matrix.dtype}")
    if matrix.ndim != 2:
        raise InputError(f"{what} must be a matrix {axes}, got shape {list(matrix.shape)}")
    if matrix.size == 0:
        return matrix, 0
    least, most = limits
    low, high = matrix.min(), matrix.max()
    if not (low >= least and high <= most):  # NaN compares false
        row, column = np.argwhere(~((matrix >= least) & (matrix <= most)))[0].tolist()
        raise InputError(
            f"{what} must be between {least} and {most} ({held}), got {matrix[row, column]:g} at [{row}, {column}]"
        )
    if matrix.dtype.kind == "f":
        for block in blocks(len(matrix), _BLOCK_BYTES // matrix[0].nbytes):
            whole = np.rint(matrix[block]) == matrix[block]
            if not whole.all():
                row, column = np.argwhere(~whole)[0].tolist()
                row += block.start
                raise InputError(f"{what} must be whole numbers, got {matrix[row, column]:g} at [{row}, {column}]")
    return matrix, max(abs(int(low)), abs(int(high)))
