"""Bitlines whose conversions lose something, computed pulse by pulse: column sums, ADC codes, shift and add.

Column sums and codes are whole numbers held exactly in float32 (float64 where they could pass 2**24), so results
depend neither on the batch nor on the order of addition. Only wires make sums that are rounded.

Letters: P = plane (a slice, or one polarity of it), O = output, R = wordline of a group, C = streamed bitline,
J = input step, B = batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from picojoule.reram.converter import Adc
from picojoule.reram.crossbar import CrossbarSpec, Encoding
from picojoule.reram.encoding import TileCells
from picojoule.reram.whole import FLOAT32_WHOLE

_STREAM_BYTES = 2 << 20  # column sums of one block: about a second-level cache
_MIN_BLOCK, _MAX_BLOCK = 128, 4096  # columns of a block: enough for an efficient product, few enough for the cache


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StreamedPlane:
    """Streamed bitlines of one plane: which outputs they serve, and what one code of their converters is worth."""

    bitlines: slice
    outputs: NDArray[np.int64] | slice
    gain: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stream:
    """The streamed bitlines of one group of rows."""

    rows: slice
    cells: NDArray[Any]
    """[C, R]: levels, or effective ones with wires; where empty cells conduct, a last row of ones counts the pulses."""
    planes: tuple[StreamedPlane, ...]
    converters: tuple[tuple[slice, Adc], ...]
    """Neighbouring bitlines with one converter."""
    clip_only: bool
    """Whether all sums are whole and all converters have one code per cell unit: then a conversion is a clip."""
    dtype: type[np.float32] | type[np.float64]
    """Type in which column sums, codes and their sums over steps are exact."""
    leak: float
    """What an empty cell adds to a column sum under a pulse of 1, in cell units, unless `cells` has it already."""
    leak_gain: NDArray[np.float64] | None
    """[out]: what the leak of the streamed bitlines adds per unit of the sum of inputs, removed digitally."""


def leak_ratio(spec: CrossbarSpec) -> float:
    """Return the off/on ratio that reaches the ADC: a differential pair cancels its own."""
    return 0.0 if spec.encoding is Encoding.DIFFERENTIAL else spec.off_on_ratio


def sum_extremes(cells_R: NDArray[Any], spec: CrossbarSpec) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the smallest and largest column sum (cell units, over the last axis) that any pulses can give."""
    high = np.maximum(cells_R, 0).sum(axis=-1, dtype=np.int64) * spec.pulse_max
    low = np.minimum(cells_R, 0).sum(axis=-1, dtype=np.int64) * spec.pulse_max
    return (low - high, high - low) if spec.signed_inputs else (low, high)


def build_stream(
    cells: TileCells,
    sums_POR: NDArray[Any],
    streamed_PO: NDArray[np.bool_],
    rows: slice,
    adcs: tuple[Adc, ...],
    spec: CrossbarSpec,
) -> Stream:
    """Return the bitlines marked in `streamed_PO`.

    `sums_POR` is what each cell of the group adds to its column under a pulse of 1: its level,
    or with wires a solved value.
    """
    adc_of_P = [adcs[k] for k in cells.slice_of_plane]
    used = np.flatnonzero(streamed_PO.any(axis=1)).tolist()
    r = leak_ratio(spec)
    whole = not spec.has_wires and r == 0
    clip_only = whole and all(adc_of_P[i].only_clips for i in used)
    worth_of_steps = int(step_worth(spec).sum())

    planes: list[StreamedPlane] = []
    converters: list[tuple[slice, Adc]] = []
    stop = 0
    for i in used:
        adc, chosen = adc_of_P[i], np.flatnonzero(streamed_PO[i])
        start, stop = stop, stop + len(chosen)
        gain_C = cells.gain[i, chosen] / (1.0 - r)
        if not clip_only:  # converted sums are codes, counted from that of 0
            gain_C = gain_C * adc.step
        served = slice(None) if len(chosen) == streamed_PO.shape[1] else chosen
        planes.append(StreamedPlane(bitlines=slice(start, stop), outputs=served, gain=gain_C))
        if converters and converters[-1][1] == adc:
            start = converters.pop()[0].start
        converters.append((slice(start, stop), adc))

    cells_CR = np.concatenate([sums_POR[i, streamed_PO[i]] for i in used])
    dtype: type[np.float32] | type[np.float64] = np.float64
    if whole:
        cells_CR = cells_CR.astype(np.min_scalar_type(-spec.cell_max))
        largest_sum = max(int(np.abs(bound).max()) for bound in sum_extremes(cells_CR, spec))
        largest_code = largest_sum if clip_only else max(adc.codes for _, adc in converters)
        small = max(largest_sum, largest_code * worth_of_steps) < FLOAT32_WHOLE
        if small and (clip_only or all(adc.float32_is_exact(largest_sum) for _, adc in converters)):
            dtype = np.float32
    if r > 0:
        cells_CR = np.concatenate([cells_CR, np.ones((1, cells_CR.shape[1]), dtype=cells_CR.dtype)])
    return Stream(
        rows=rows,
        cells=cells_CR,
        planes=tuple(planes),
        converters=tuple(converters),
        clip_only=clip_only,
        dtype=dtype,
        leak=0.0 if spec.has_wires else r * spec.cell_max,
        leak_gain=(cells.gain * streamed_PO).sum(axis=0) * r * spec.cell_max / (1.0 - r) if r > 0 else None,
    )


def add_stream(y_OB: NDArray[np.float64], stream: Stream, x_IB: NDArray[Any], spec: CrossbarSpec) -> None:
    """Add what the streamed bitlines compute from `x_IB` (checked whole numbers) to `y_OB`, in place."""
    cells_CR = stream.cells.astype(stream.dtype)
    worth_J = step_worth(spec).astype(stream.dtype)
    bitlines = len(cells_CR)
    columns = _STREAM_BYTES // (bitlines * spec.steps * cells_CR.itemsize)
    for block in blocks(x_IB.shape[1], min(max(columns, _MIN_BLOCK), _MAX_BLOCK)):
        sums_JCB = cells_CR @ pulses(x_IB[stream.rows, block], spec, stream.dtype)
        if stream.leak_gain is not None:
            y_OB[:, block] -= stream.leak_gain[:, None] * (worth_J @ sums_JCB[:, -1])
        if stream.leak > 0:
            leak_J1B = sums_JCB[:, -1:] * stream.leak
            sums_JCB *= 1.0 - spec.off_on_ratio
            sums_JCB += leak_J1B
        for converted, adc in stream.converters:
            part = sums_JCB[:, converted]
            if stream.clip_only:
                np.clip(part, adc.lo, adc.hi, out=part)
            else:
                adc.convert(part)
                if adc.zero_code:
                    part -= adc.zero_code
        codes_CB = (worth_J @ sums_JCB.reshape(spec.steps, -1)).reshape(bitlines, -1)
        for plane in stream.planes:
            y_OB[plane.outputs, block] += plane.gain[:, None] * codes_CB[plane.bitlines]


def blocks(count: int, size: int) -> Iterator[slice]:
    """Cut `count` columns into slices of at most `size` (at least 1)."""
    size = max(1, size)
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def step_worth(spec: CrossbarSpec) -> NDArray[np.int64]:
    """Return what a pulse of 1 in each input step is worth."""
    return np.int64(1) << (spec.bits_per_pulse * np.arange(spec.steps, dtype=np.int64))


def pulses(x_RB: NDArray[Any], spec: CrossbarSpec, dtype: Any) -> NDArray[Any]:
    """Return the pulses [J, R, B] that carry `x_RB`, the least significant step first, with the sign of their input."""
    small = np.uint8 if spec.magnitude_bits <= 8 else np.uint16
    wide_RB = x_RB.astype(np.int32, copy=False) if spec.signed_inputs else x_RB  # int8 has no 128
    size_RB: NDArray[Any] = (np.abs(wide_RB) if spec.signed_inputs else wide_RB).astype(small, copy=False)
    shift_J: NDArray[Any] = (spec.bits_per_pulse * np.arange(spec.steps)).astype(small)
    pulses_JRB: NDArray[Any] = ((size_RB >> shift_J[:, None, None]) & small(spec.pulse_max)).astype(dtype)
    if spec.signed_inputs:
        np.negative(pulses_JRB, out=pulses_JRB, where=x_RB < 0)
    return pulses_JRB
