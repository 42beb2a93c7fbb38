"""Operands of crossbars: matrices of whole numbers within the range of a design, or one sentence about what is wrong."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from picojoule.reram.converter import NO_CONVERTER, Adc
from picojoule.reram.crossbar import CrossbarSpec
from picojoule.reram.encoding import TileCells, split_evenly
from picojoule.sim.errors import InputError

FLOAT32_WHOLE = 1 << 24
"""Whole numbers up to here are exact in float32 (24-bit significand, IEEE 754)."""
_BLOCK_BYTES = 16 << 20


def weight_matrix(weights: ArrayLike, spec: CrossbarSpec) -> NDArray[Any]:
    """Return `weights` [out, in], checked against `spec.weight_range`, in a type of their own; InputError if wrong."""
    held = f"{spec.weight_bits} bits, {spec.encoding.value} encoding"
    w_OI, _ = whole_matrix(weights, "weights", "[out, in]", spec.weight_range, held)
    if w_OI.size == 0:
        raise InputError(f"weights must have at least one output and one input, got shape {list(w_OI.shape)}")
    return w_OI


def input_matrix(inputs: ArrayLike, spec: CrossbarSpec, rows: int) -> tuple[NDArray[Any], int]:
    """Return `inputs` [rows, batch], checked against `spec.input_range`, and their largest magnitude."""
    held = f"{spec.input_bits} bits, {'signed' if spec.signed_inputs else 'unsigned'}"
    x_IB, peak = whole_matrix(inputs, "inputs", "[in, batch]", spec.input_range, held)
    if len(x_IB) != rows:
        raise InputError(f"inputs must have {rows} rows, one per column of the weights, got {len(x_IB)}")
    return x_IB, peak


def row_tiles(inputs: int, spec: CrossbarSpec) -> list[slice]:
    """Return the row tiles of a reduction; InputError where converters are given for another number of them."""
    tiles = split_evenly(inputs, spec.tile_rows)
    if spec.adc_tiles not in (None, len(tiles)):
        raise InputError(
            f"the converters are given for {spec.adc_tiles} row tiles, but {inputs} inputs in tiles of at most "
            f"{spec.tile_rows} rows make {len(tiles)}"
        )
    return tiles


def check_unconverted(cells: TileCells, adcs: tuple[Adc, ...] | None, tile: int) -> None:
    """Raise InputError where a slice without a converter has cells that are not 0."""
    for plane, k in enumerate(cells.slice_of_plane):
        if adcs is not None and adcs[k] == NO_CONVERTER and cells.cells[plane].any():
            raise InputError(
                f"slice {k} of row tile {tile} has adc_bits 0 but cells that are not 0; give it a converter of at least 1 bit"
            )


def check_percentile(percentile: float) -> None:
    """Raise InputError for what is no percentile above 0."""
    if not isinstance(percentile, int | float) or not 0 < percentile <= 100:
        raise InputError(f"percentile must be more than 0 and at most 100, got {percentile}")


def whole_matrix(
    values: ArrayLike, what: str, axes: str, limits: tuple[int, int], held: str
) -> tuple[NDArray[Any], int]:
    """Return `values` as a checked matrix of whole numbers (its own type, bool as uint8), and its largest magnitude."""
    try:
        matrix = np.asarray(values)
    except (TypeError, ValueError):  # rows of several lengths
        raise InputError(f"{what} must be a matrix {axes}, got what is no array of numbers") from None
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
        step = max(1, _BLOCK_BYTES // matrix[0].nbytes)
        for start in range(0, len(matrix), step):
            block = matrix[start : start + step]
            whole = np.rint(block) == block
            if not whole.all():
                row, column = np.argwhere(~whole)[0].tolist()
                raise InputError(
                    f"{what} must be whole numbers, got {block[row, column]:g} at [{row + start}, {column}]"
                )
    return matrix, max(abs(int(low)), abs(int(high)))
