"""Cycles of calls of the engine, as array functions over (calls x designs).

One call streams a map (NHWC) through the 1x1 engine, the depthwise 3x3 engine, or the first into the second, as processes
joined by FIFOs, so the slowest process sets the time. A loop over one pixel fills its pipeline anew (a), a tile of outputs
too (b), a call starts and ends once (c). Source: structure of CoDeNet's HLS sources (arXiv 2006.08357), a b c calibrated.
Left out: DRAM bandwidth and reads of sampling points outside the line buffer, which are counted as stalls elsewhere.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from picojoule.sim.errors import InputError

IntArray = npt.NDArray[np.int64]
WINDOW = 9
"""Taps of the 3x3 engine."""


class Access(StrEnum):
    """How the taps of a 3x3 window lie in the line buffer."""

    ORDINARY = "ordinary"
    SQUARE = "square"
    TAPS = "taps"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallCycles:
    """Cycles of calls, all broadcast: loading weights of either engine, the two processes, the two streams, and starting."""

    pointwise_weights: IntArray
    window_weights: IntArray
    pointwise: IntArray
    window: IntArray
    stream_in: IntArray
    stream_out: IntArray
    start: IntArray

    @property
    def weights(self) -> IntArray:
        """Cycles of loading weights, before the streams start."""
        return self.pointwise_weights + self.window_weights

    @property
    def stream(self) -> IntArray:
        """Cycles of the longer stream, a word of `pe_in` or `depthwise_lanes` channels each."""
        return np.maximum(self.stream_in, self.stream_out)

    @property
    def body(self) -> IntArray:
        """Cycles between loading weights and the end: the slowest of the processes."""
        return np.maximum(np.maximum(self.pointwise, self.window), self.stream)

    @property
    def total(self) -> IntArray:
        """Cycles of the call."""
        return self.weights + self.body + self.start

    @property
    def without_window(self) -> IntArray:
        """Cycles the call would take if its 3x3 engine were infinitely fast; the rest is what the 3x3 layer adds."""
        return self.pointwise_weights + np.maximum(self.pointwise, self.stream_in) + self.start


def window_interval(access: Access, ports: npt.ArrayLike, reads_per_port: npt.ArrayLike) -> IntArray:
    """Return the cycles per window step (16 channels x 9 taps) that reading the line buffer asks for.

    Ordinary: 1, the taps come from a window register. Square: 9 taps in 3 rows, so up to 3 ports share them. Offsets of
    single taps: all 9 may lie in one row, hence one port does them all.
    """
    ports, reads = np.asarray(ports, dtype=np.int64), np.asarray(reads_per_port, dtype=np.int64)
    if access is Access.ORDINARY:
        return np.ones(np.broadcast_shapes(ports.shape, reads.shape), dtype=np.int64)
    serial = ceil_div(WINDOW, np.minimum(ports, 3)) if access is Access.SQUARE else np.full_like(ports, WINDOW)
    return ceil_div(serial, reads)


def call_cycles(
    *,
    pixels: npt.ArrayLike,
    out_pixels: npt.ArrayLike,
    in_channels: npt.ArrayLike,
    out_channels: npt.ArrayLike,
    pointwise: npt.ArrayLike,
    window: npt.ArrayLike,
    interval: npt.ArrayLike = 1,
    pe_in: npt.ArrayLike = 16,
    pe_out: npt.ArrayLike = 16,
    depthwise_lanes: npt.ArrayLike = 16,
    pixel_refill_cycles: npt.ArrayLike = 0.0,
    tile_refill_cycles: npt.ArrayLike = 0.0,
    start_cycles: npt.ArrayLike = 0.0,
) -> CallCycles:
    """Return the cycles of calls; all arguments broadcast (calls x designs).

    `pointwise` and `window` say which of the engines work (at least one); `pixels` enter the call, `out_pixels` leave the
    3x3 engine; `interval` is `window_interval`. With the 1x1 engine skipped, channels stay `in_channels`. With
    I, O, C = channels in steps of the engines, a and b the refills:

        1x1 process: pixels (I + O I + a + O b), skipped: pixels (I + a)
        3x3 process: pixels (C + a) + out_pixels (interval C + a), skipped: pixels C
        weights: outputs x inputs / pe_in + 9 C cycles; streams: pixels I and out_pixels C words

    Raises:
        InputError: if a count would not fit int64.

    """
    n, m, ic, oc = (np.asarray(v, dtype=np.int64) for v in (pixels, out_pixels, in_channels, out_channels))
    one, three = np.asarray(pointwise, dtype=np.bool_), np.asarray(window, dtype=np.bool_)
    a, b = (np.asarray(v, dtype=np.float64) for v in (pixel_refill_cycles, tile_refill_cycles))
    step = np.asarray(interval, dtype=np.int64)
    steps_in = ceil_div(ic, pe_in)
    steps_out = ceil_div(oc, pe_out)
    steps_window = ceil_div(np.where(one, oc, ic), depthwise_lanes)
    _check_bounds(n, m, ic, oc, step, a, b, start_cycles)
    t_one = np.where(
        one, n * (steps_in + steps_out * steps_in) + whole(n * (a + steps_out * b)), n * steps_in + whole(n * a)
    )
    t_three = np.where(
        three, n * steps_window + whole(n * a) + m * step * steps_window + whole(m * a), n * steps_window
    )
    padded = np.asarray(pe_out, dtype=np.int64) * steps_out
    return CallCycles(
        pointwise_weights=np.where(one, padded * steps_in, 0),
        window_weights=np.where(three, WINDOW * steps_window, 0),
        pointwise=t_one,
        window=t_three,
        stream_in=n * steps_in,
        stream_out=m * steps_window,
        start=whole(np.asarray(start_cycles, dtype=np.float64)),
    )


def full_cycles(
    *,
    out_pixels: npt.ArrayLike,
    in_channels: npt.ArrayLike,
    out_channels: npt.ArrayLike,
    full_in: npt.ArrayLike,
    full_out: npt.ArrayLike,
    full_step_cycles: npt.ArrayLike,
) -> IntArray:
    """Return the cycles of full 3x3 convolutions on an array of full_in x full_out x 9 MACs; arguments broadcast.

    A step is one output pixel, full_in input and full_out output channels, all 9 taps.

    Raises:
        InputError: if a count would not fit int64.

    """
    m = np.asarray(out_pixels, dtype=np.int64)
    steps_in, steps_out = ceil_div(in_channels, full_in), ceil_div(out_channels, full_out)
    per_step = np.asarray(full_step_cycles, dtype=np.float64)
    if _top(m) * _top(steps_in) * _top(steps_out) * (int(np.max(per_step)) + 1) >= 2**62:
        raise InputError("a full 3x3 call would take more than 2^62 cycles; check the input shape")
    return whole(m * steps_in * steps_out * per_step)


def ceil_div(value: npt.ArrayLike, step: npt.ArrayLike) -> IntArray:
    """Return value / step rounded up, int64."""
    return np.asarray(-(-np.asarray(value, dtype=np.int64) // np.asarray(step, dtype=np.int64)))


def whole(cycles: npt.ArrayLike) -> IntArray:
    """Return cycles rounded to whole ones: refills are averages, and need not be whole."""
    return np.asarray(np.rint(cycles)).astype(np.int64)


def _top(values: npt.ArrayLike) -> int:
    return int(np.max(np.asarray(values), initial=1))


def _check_bounds(
    n: IntArray,
    m: IntArray,
    ic: IntArray,
    oc: IntArray,
    step: IntArray,
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    c: npt.ArrayLike,
) -> None:
    """Bound the largest product in Python ints: int64 wraps silently."""
    channels, others = max(_top(ic), _top(oc)), _top(ic) * _top(oc)
    per_pixel = others + channels * (2 * _top(step) + int(np.max(b)) + 2) + 2 * int(np.max(a)) + 4
    if (_top(n) + _top(m)) * per_pixel + int(np.max(c)) >= 2**62:
        raise InputError(
            f"a call of {_top(n)} pixels and {_top(ic)} x {_top(oc)} channels would take more than 2^62 cycles; "
            "check the input shape"
        )
