"""Bitlines whose conversions lose something, counted in bits: the fast way of `streaming`, with the same results.

Whole cells and whole pulses are bit planes, so that a column sum is a few counts of common bits; `_kernels` counts, converts and
adds up. Left to `streaming`: sums that are not whole (wires, empty cells that conduct), cells and pulses of so many bits that a
matrix product is faster, and converters whose rounding float32 cannot repeat.

Letters: P = plane (a slice, or one polarity of it), O = output, R = wordline of a group, E = streamed bitline, C = cell plane,
W = word of 32 wordlines, B = batch.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from picojoule.reram.converter import Adc
from picojoule.reram.crossbar import CrossbarSpec
from picojoule.reram.encoding import TileCells
from picojoule.reram.streaming import leak_ratio, sum_extremes
from picojoule.reram.whole import FLOAT32_WHOLE

WORD = 32
"""Wordlines whose bits share a word of the kernel."""
_WORDS_AT_ONCE, _PLANES_AT_ONCE = 4, 3  # what the kernel counts in one pass: 128 rows, and signed cells of 2 bits
_MOST_COUNTS = 64  # of words per column sum: beyond, a matrix product is faster
_INT32_WHOLE = 1 << 31


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BitStream:
    """The streamed bitlines of one group of rows, output by output; fields as the kernel takes them."""

    rows: slice
    cells: NDArray[np.uint32]
    """[E, C, W]: bit r of a word is wordline r's."""
    plane_worth: NDArray[np.int32]
    """[C]: what a bit of each plane is worth."""
    first_of_output: NDArray[np.int64]
    """[O + 1]: where the bitlines of each output begin."""
    worth: NDArray[np.int32]
    """[E]: worth of a code in the total of 32 bits."""
    low: NDArray[np.int32]
    """[E]: smallest sum (or code) of a conversion."""
    high: NDArray[np.int32]
    rounds: bool
    """Whether conversions do more than clip: then a code is rint(sum * scale - zero), within low .. high, plus zero."""
    scale: NDArray[np.float32]
    zero: NDArray[np.float32]
    flush: NDArray[np.bool_]
    """[E]: after which bitlines the total goes to the result."""
    gain: NDArray[np.float64]
    """[E]: what the total is worth there."""
    digital: NDArray[np.float64]
    """[O]: what is added per unit of the sum of the inputs of these rows."""

    def add(self, y_OB: NDArray[np.float64], x_SNIB: NDArray[np.uint8], spec: CrossbarSpec) -> None:
        """Add what the bitlines compute from all inputs, in `octets`, to `y_OB`, in place."""
        from picojoule.reram._kernels import stream_of

        _, planes, words = self.cells.shape
        compiled = stream_of(min(words, _WORDS_AT_ONCE), planes if planes <= _PLANES_AT_ONCE else 2)
        compiled(
            x_SNIB[:, :, self.rows],
            spec.magnitude_bits,
            spec.bits_per_pulse,
            self.cells,
            self.plane_worth,
            self.first_of_output,
            self.worth,
            self.low,
            self.high,
            self.rounds,
            self.scale,
            self.zero,
            self.flush,
            self.gain,
            self.digital,
            y_OB,
        )


def octets(x_IB: NDArray[Any], spec: CrossbarSpec) -> NDArray[np.uint8]:
    """Return checked whole numbers as bytes [S, N, I, B]: of positive and negative inputs, the least significant first."""
    if not spec.signed_inputs and x_IB.dtype == np.uint8:
        return np.ascontiguousarray(x_IB)[None, None]
    wide = np.uint8 if spec.magnitude_bits <= 8 else np.uint16
    if spec.signed_inputs:
        signed: NDArray[Any] = x_IB.astype(np.int32)
        sizes = [np.maximum(signed, 0).astype(wide), np.maximum(-signed, 0).astype(wide)]
    else:
        sizes = [x_IB.astype(wide)]
    if wide is np.uint8:
        return np.stack(sizes)[:, None]
    return np.stack([[(size & 255).astype(np.uint8), (size >> 8).astype(np.uint8)] for size in sizes])


def build_bit_stream(
    cells: TileCells,
    levels_POR: NDArray[np.int32],
    streamed_PO: NDArray[np.bool_],
    rows: slice,
    adcs: tuple[Adc, ...],
    spec: CrossbarSpec,
) -> BitStream | None:
    """Return the bitlines marked in `streamed_PO`; None: not in bits.

    `levels_POR` are the cells of the group alone.
    """
    if spec.has_wires or leak_ratio(spec) > 0:
        return None
    output_E, plane_E = np.nonzero(streamed_PO.T)  # by output, then by plane
    levels_ER = levels_POR[plane_E, output_E]
    signed_cells = bool((levels_ER < 0).any())
    planes = int(np.abs(levels_ER).max()).bit_length() + signed_cells
    words = -(-levels_ER.shape[1] // WORD)
    counts = words * planes * spec.bits_per_pulse * (2 if spec.signed_inputs else 1)
    if counts > _MOST_COUNTS:
        return None

    used = sorted(set(plane_E.tolist()))
    adc_of_plane = {plane: adcs[cells.slice_of_plane[plane]] for plane in used}
    clip_only = all(adc.only_clips for adc in adc_of_plane.values())
    largest_sum = max(int(np.abs(bound).max()) for bound in sum_extremes(levels_ER, spec))
    step_sum = ((1 << spec.bits_per_pulse * spec.steps) - 1) // spec.pulse_max
    if largest_sum >= FLOAT32_WHOLE or largest_sum * step_sum >= _INT32_WHOLE:
        return None
    if not clip_only:
        exact = all(adc.float32_is_exact(largest_sum) for adc in adc_of_plane.values())
        if not exact or max(adc.codes for adc in adc_of_plane.values()) * step_sum >= _INT32_WHOLE:
            return None

    gain_E = cells.gain[plane_E, output_E].astype(np.float64)
    low_E, high_E = np.zeros(len(plane_E)), np.zeros(len(plane_E))
    scale_E, zero_E = np.ones(len(plane_E)), np.zeros(len(plane_E))
    for plane, adc in adc_of_plane.items():
        mine = plane_E == plane
        if clip_only:  # no sum passes largest_sum, so nor need the range
            low_E[mine], high_E[mine] = max(adc.lo, -largest_sum), min(adc.hi, largest_sum)
            continue
        per_unit = (adc.codes - 1) / (adc.hi - adc.lo)
        scale_E[mine], zero_E[mine], high_E[mine] = per_unit, -adc.zero_code, adc.codes - 1
        gain_E[mine] *= adc.step
    plane_worth = (1 << np.arange(planes)).astype(np.int32)
    if signed_cells:
        plane_worth[-1] *= -1
    worth_E, flush_E, gain_E = _totals(output_E, gain_E, largest_sum * step_sum, one_total=clip_only)
    return BitStream(
        rows=rows,
        cells=_bits(levels_ER, planes, words),
        plane_worth=np.append(plane_worth, np.int32(0)),
        first_of_output=np.searchsorted(output_E, np.arange(streamed_PO.shape[1] + 1)),
        worth=worth_E,
        low=low_E.astype(np.int32),
        high=high_E.astype(np.int32),
        rounds=not clip_only,
        scale=scale_E.astype(np.float32),
        zero=zero_E.astype(np.float32),
        flush=flush_E,
        gain=gain_E,
        digital=np.where(streamed_PO.any(axis=0), cells.digital, 0).astype(np.float64),
    )


def _totals(
    output_E: NDArray[np.int64], gain_E: NDArray[np.float64], largest: int, *, one_total: bool
) -> tuple[NDArray[np.int32], NDArray[np.bool_], NDArray[np.float64]]:
    """Return (worth, flush, gain) of bitlines: one total of 32 bits an output where whole gains fit in it, else one a bitline.

    `largest` is the largest sum over steps that a bitline can give.
    """
    reach = np.zeros(int(output_E.max()) + 1)
    np.add.at(reach, output_E, np.abs(gain_E) * largest)
    if one_total and reach.max() < _INT32_WHOLE:
        return gain_E.astype(np.int32), np.append(output_E[1:] != output_E[:-1], True), np.ones(len(gain_E))
    return np.ones(len(gain_E), dtype=np.int32), np.ones(len(gain_E), dtype=np.bool_), gain_E


def _bits(levels_ER: NDArray[np.int32], planes: int, words: int) -> NDArray[np.uint32]:
    """Return cells as bit planes [E, C, W], in two's complement; empty planes and words fill up what is counted at once."""
    bits_ECR = (levels_ER[:, None, :] >> np.arange(planes, dtype=np.int32)[:, None]) & 1
    more_planes = planes % 2 if planes > _PLANES_AT_ONCE else 0
    more_words = -words % _WORDS_AT_ONCE if words > _WORDS_AT_ONCE else 0
    padded = np.zeros((len(bits_ECR), planes + more_planes, (words + more_words) * WORD), dtype=np.uint8)
    padded[:, :planes, : bits_ECR.shape[2]] = bits_ECR
    return np.packbits(padded, axis=2, bitorder="little").view("<u4").astype(np.uint32)
