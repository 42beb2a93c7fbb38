"""Which column sums an ADC's codes span: one code per cell unit, the whole column, or what calibration data really give.

Ranges are (lo, hi) in the units of `CrossbarSpec.adc_lo` and `adc_hi`: a full cell under a full pulse adds 1.

- exact: a code is a cell unit, and wider sums clip. Lossless where the bits suffice, poor where they do not.
- full: the largest sum of a whole column. Nothing clips, but most codes stay unused: few wordlines carry a full cell.
- calibrated: the smallest span that holds a percentile of the sums that calibration data drive, per row tile and slice.
  A step is then no whole number of cell units, so sums round; it is never finer than a cell unit, where nothing is to be
  gained. Calibrate on training data, measure on other data.

Calibration sees intended weights and the leak of empty cells (`r_off_ohm`, or the device's on/off ratio); wires, programming
errors and faults are left out.

Letters: K = slice, P = plane, O = output, R = wordline of a group, B = column of inputs.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from picojoule.reram.crossbar import CrossbarSpec, Encoding
from picojoule.reram.encoding import encode_tile, split_evenly
from picojoule.reram.streaming import leak_ratio
from picojoule.sim.errors import InputError

Nested = tuple[tuple[float, ...], ...]

_MOST_COLUMNS = 512
_BLOCK = 1 << 20  # column sums of one block
_LEAKY_FRACTION = 64  # with leaking cells, sums are counted in parts of a cell unit


def exact_range(spec: CrossbarSpec, bits: int) -> tuple[float, float]:
    """Return the range with one code per cell unit."""
    return spec.unit_adc_range(bits)


def full_range(spec: CrossbarSpec) -> tuple[float, float]:
    """Return the range of any sum a column of this design can have: all rows read at once, or half of them with `flip`."""
    rows = min(spec.tile_rows, spec.rows_active or spec.tile_rows)
    halved = spec.encoding is Encoding.FLIP and rows == spec.tile_rows
    top = rows / (2 if halved else 1)
    return (-top if spec.needs_signed_adc else 0.0), top


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
    if not 0 < percentile <= 100:
        raise InputError(f"percentile must be more than 0 and at most 100, got {percentile:g}")
    spec = spec if spec.device is None else spec.device.electrical(spec)
    w_OI, x_IB = np.asarray(weights), np.asarray(inputs)
    if w_OI.ndim != 2 or x_IB.ndim != 2 or len(x_IB) != w_OI.shape[1] or x_IB.shape[1] == 0:
        raise InputError(
            "calibration inputs must be a matrix [in, n] with a row per column of the weights and at least one column, "
            f"got weights {list(w_OI.shape)} and inputs {list(x_IB.shape)}"
        )
    x_IB = x_IB[:, np.linspace(0, x_IB.shape[1] - 1, min(most_columns, x_IB.shape[1])).astype(np.int64)]
    streams = _streams(x_IB, spec)
    hi = []
    for t, tile in enumerate(split_evenly(w_OI.shape[1], spec.tile_rows)):
        tops = _tops_of_tile(w_OI[:, tile].astype(np.int64), [(x[tile], n) for x, n in streams], spec, percentile)
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


def _streams(x_IB: NDArray[Any], spec: CrossbarSpec) -> list[tuple[NDArray[np.int64], int]]:
    """Return what is streamed, with its sign, and in how many steps.

    That is the inputs, or their two's complement: low bits, and a sign step of 0 and 1.
    """
    x: NDArray[np.int64] = x_IB.astype(np.int64)
    least, most = spec.input_range
    negative = not spec.signed_inputs and bool(x.min() < 0)
    half = 1 << (spec.input_bits - 1)
    if negative:
        least, most = -half, half - 1
    if not np.array_equal(x, x_IB) or x.min() < least or x.max() > most:
        raise InputError(f"calibration inputs must be whole numbers between {least} and {most}")
    if not negative:
        return [(x, spec.steps)]
    sign = (x < 0).astype(np.int64)
    return [(x + half * sign, -(-(spec.input_bits - 1) // spec.bits_per_pulse)), (sign, 1)]


def _tops_of_tile(
    w_OR: NDArray[np.int64], streams: list[tuple[NDArray[np.int64], int]], spec: CrossbarSpec, percentile: float
) -> list[float]:
    """Return the percentile of the sizes of a tile's column sums, in cell units, by slice."""
    groups = split_evenly(w_OR.shape[1], spec.rows_active)
    cells = encode_tile(w_OR, spec, groups)
    planes = np.array(cells.slice_of_plane)
    fraction = 1 if leak_ratio(spec) == 0 else _LEAKY_FRACTION
    tops = []
    for k in range(spec.slices):
        levels_CR = cells.cells[planes == k].reshape(-1, w_OR.shape[1])
        counts = np.zeros(1, dtype=np.int64)
        for x_RB, steps in streams:
            for sums in _sums(levels_CR, x_RB, steps, groups, spec):
                sizes = np.ceil(np.abs(sums) * fraction).astype(np.int64).ravel()
                more = np.bincount(sizes, minlength=len(counts))
                more[: len(counts)] += counts
                counts = more
        rank = counts.sum() * (percentile / 100.0) - 1e-6
        tops.append(float(np.searchsorted(np.cumsum(counts), rank)) / fraction)
    return tops


def _sums(
    levels_CR: NDArray[np.int32], x_RB: NDArray[np.int64], steps: int, groups: list[slice], spec: CrossbarSpec
) -> Iterator[NDArray[np.float32]]:
    """Yield column sums in cell units, by input step, group of rows and block of bitlines."""
    r = leak_ratio(spec)
    size, sign = np.abs(x_RB), np.sign(x_RB)
    block = max(1, _BLOCK // x_RB.shape[1])
    for step in range(steps):
        pulses = ((size >> (spec.bits_per_pulse * step)) & spec.pulse_max) * sign
        for group in groups:
            p_RB = pulses[group].astype(np.float32)
            for first in range(0, len(levels_CR), block):
                sums = levels_CR[first : first + block, group].astype(np.float32) @ p_RB
                yield (1 - r) * sums + r * spec.cell_max * p_RB.sum(axis=0) if r > 0 else sums
