"""Which column sums an ADC's codes span where calibration data decide.

Ranges are (lo, hi) in the units of `CrossbarSpec.adc_lo` and `adc_hi`: a full cell under a full pulse adds 1. A design
(`spec.crossbar_spec`) chooses one of three:

- exact: a code is a cell unit, and wider sums clip. Lossless where the bits suffice, poor where they do not.
- full: the largest sum of a whole column. Nothing clips, but most codes stay unused: few wordlines carry a full cell.
- calibrated: the smallest span that holds a percentile of the sums that calibration data drive, per row tile and slice.
  A step is then no whole number of cell units, so sums round; it is never finer than a cell unit, where nothing is to be
  gained. Calibrate on training data, measure on other data.

Columns known to be empty are not read and count as sums of 0. Calibration sees intended weights and the leak of empty cells
(`r_off_ohm`, or the device's on/off ratio); wires, programming errors and faults are left out.

Letters: K = slice, P = plane, O = output, R = wordline of a group, B = column of inputs.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from picojoule.reram.crossbar import CrossbarSpec
from picojoule.reram.encoding import encode_tile, split_evenly
from picojoule.reram.streaming import leak_ratio, sum_extremes
from picojoule.reram.whole import FLOAT32_WHOLE, check_percentile, row_tiles, weight_matrix, whole_matrix
from picojoule.sim.errors import InputError

Nested = tuple[tuple[float, ...], ...]

_MOST_COLUMNS = 512
_BLOCK = 1 << 20  # column sums of one block
_LEAKY_FRACTION = 64  # with leaking cells, sums are counted in parts of a cell unit
_MOST_BINS = 1 << 18  # in which sums are counted: wider ones by 4 parts per million of the largest


def calibrated_range(
    weights: ArrayLike,
    inputs: ArrayLike,
    spec: CrossbarSpec,
    percentile: float = 99.9,
    *,
    most_columns: int = _MOST_COLUMNS,
) -> tuple[Nested, Nested]:
    """Return (adc_lo, adc_hi), nested per row tile and slice, that hold `percentile` % of the column sums `inputs` drive.

    `weights` [out, in] and `inputs` [in, n] are whole numbers in the ranges of `spec`; its `adc_bits` say below which span
    there is nothing to gain, its own range is ignored. Signed converters get a range symmetric about 0. Where
    `spec.signed_inputs` is false, negative inputs are streamed in two's complement, sign step included, as ISAAC does. At
    most `most_columns` of the inputs are used, evenly spaced.

    Raises:
        InputError: for shapes that do not match, no inputs, inputs out of range, a percentile outside (0, 100], or a `spec`
            without an ADC.

    """
    if spec.adc_bits is None:
        raise InputError("a range needs an ADC, but adc_bits is None; set adc_bits")
    check_percentile(percentile)
    if most_columns < 1:
        raise InputError(f"most_columns must be at least 1, got {most_columns}")
    spec = spec if spec.device is None else spec.device.electrical(spec)
    w_OI = weight_matrix(weights, spec)
    least, most = _input_limits(spec)
    held = f"{spec.input_bits} bits"
    x_IB, _ = whole_matrix(inputs, "calibration inputs", "[in, n]", (least, most), held)
    if len(x_IB) != w_OI.shape[1] or x_IB.shape[1] == 0:
        raise InputError(
            "calibration inputs must be a matrix [in, n] with a row per column of the weights and at least one column, "
            f"got weights {list(w_OI.shape)} and inputs {list(x_IB.shape)}"
        )
    x_IB = x_IB[:, np.linspace(0, x_IB.shape[1] - 1, min(most_columns, x_IB.shape[1])).astype(np.int64)]
    streams = _streams(x_IB, spec)
    hi = []
    for t, tile in enumerate(row_tiles(w_OI.shape[1], spec)):
        tops = _tops_of_tile(w_OI[:, tile], [(x[tile], n) for x, n in streams], spec, percentile)
        finest = [spec.unit_adc_range(_bits_at(spec, t, k))[1] for k in range(spec.slices)]
        hi.append(tuple(max(top / spec.cell_units, unit) for top, unit in zip(tops, finest, strict=True)))
    lo = tuple(tuple(-top if spec.needs_signed_adc else 0.0 for top in row) for row in hi)
    return lo, tuple(hi)


def _bits_at(spec: CrossbarSpec, tile: int, k: int) -> int:
    """Return the bits of a converter, at least what its kind must have (0 bits: no converter, its range is not used)."""
    bits: Any = spec.adc_bits
    if isinstance(bits, tuple):
        bits = (bits[tile] if isinstance(bits[0], tuple) else bits)[k]
    return max(int(bits), 1 + int(spec.needs_signed_adc))


def _input_limits(spec: CrossbarSpec) -> tuple[int, int]:
    """Return the smallest and largest input of any format that these crossbars stream."""
    least, most = spec.input_range
    return least if spec.signed_inputs else -(1 << (spec.input_bits - 1)), most


def _streams(x_IB: NDArray[Any], spec: CrossbarSpec) -> list[tuple[NDArray[np.int64], int]]:
    """Return what is streamed, with its sign, and in how many steps.

    That is the inputs, or their two's complement: low bits, and a sign step of 0 and 1.
    """
    x: NDArray[np.int64] = x_IB.astype(np.int64)
    if spec.signed_inputs or x.min() >= 0:
        return [(x, spec.steps)]
    half = 1 << (spec.input_bits - 1)
    if x.max() >= half:
        raise InputError(f"calibration inputs with a sign must be whole numbers between {-half} and {half - 1}")
    sign = (x < 0).astype(np.int64)
    return [(x + half * sign, -(-(spec.input_bits - 1) // spec.bits_per_pulse)), (sign, 1)]


def _tops_of_tile(
    w_OR: NDArray[Any], streams: list[tuple[NDArray[np.int64], int]], spec: CrossbarSpec, percentile: float
) -> list[float]:
    """Return the percentile of the sizes of a tile's column sums, in cell units, by slice."""
    groups = split_evenly(w_OR.shape[1], spec.rows_active)
    cells = encode_tile(w_OR, spec, groups)
    planes = np.array(cells.slice_of_plane)
    fraction = 1 if leak_ratio(spec) == 0 else _LEAKY_FRACTION
    leak = leak_ratio(spec) * spec.cell_max * spec.pulse_max * w_OR.shape[1]  # of a column whose cells are all empty
    tops = []
    for k in range(spec.slices):
        levels_CR = cells.cells[planes == k].reshape(-1, w_OR.shape[1])
        bound = max(int(np.abs(end).max()) for end in sum_extremes(levels_CR, spec)) + leak
        bin_width = max(1.0, bound * fraction / _MOST_BINS)
        counts, largest = np.zeros(int(bound * fraction / bin_width) + 2, dtype=np.int64), 0.0
        for x_RB, steps in streams:
            for sums in _sums(levels_CR, x_RB, steps, groups, spec):
                sizes = np.abs(sums).ravel()
                largest = max(largest, float(sizes.max(initial=0)))
                bins = np.ceil(sizes * (fraction / bin_width)).astype(np.int64)
                counts += np.bincount(bins, minlength=len(counts))
        rank = counts.sum() * (percentile / 100.0) - 1e-6
        top = float(np.searchsorted(np.cumsum(counts), rank)) * bin_width
        tops.append(min(top, np.ceil(largest * fraction)) / fraction)
    return tops


def _sums(
    levels_CR: NDArray[np.int32], x_RB: NDArray[np.int64], steps: int, groups: list[slice], spec: CrossbarSpec
) -> Iterator[NDArray[Any]]:
    """Yield column sums in cell units, by input step, group of rows and block of bitlines."""
    r = leak_ratio(spec)
    rows = max(group.stop - group.start for group in groups)
    dtype: Any = np.float32 if rows * spec.cell_max * spec.pulse_max < FLOAT32_WHOLE else np.float64
    size, sign = np.abs(x_RB), np.sign(x_RB)
    block = max(1, _BLOCK // x_RB.shape[1])
    for step in range(steps):
        pulses = ((size >> (spec.bits_per_pulse * step)) & spec.pulse_max) * sign
        for group in groups:
            p_RB = pulses[group].astype(dtype)
            for first in range(0, len(levels_CR), block):
                sums = levels_CR[first : first + block, group].astype(dtype) @ p_RB
                if r > 0:  # what is empty is not read, its leak neither
                    read_C = levels_CR[first : first + block, group].any(axis=1)
                    leak_CB = np.outer(read_C * (r * spec.cell_max), p_RB.sum(axis=0))
                    sums = (1 - r) * sums + leak_CB
                yield sums
