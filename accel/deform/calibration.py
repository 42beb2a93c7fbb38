"""Overheads of loops and calls, calibrated on the board measurement of one network, and how sure that leaves us of others.

Measured on an Ultra96 running CoDeNet's configuration a (256 x 256 input): 19.73 ms in the accelerator, 78.0 GOP/s in the
best single call. Unknown: a (a pipeline refills per pixel), b (per tile of outputs), c (a call starts and ends). Two
measurements leave a set of triples; it is bounded by priors:

- a: 12 to 48 clocks: a refill takes one to three dozen; 43.4 fit the same loops in Table 2 on the same board (`ablation`)
- b: 0 to 36 clocks: as a, or none, where tiles of outputs share one pipelined loop
- c: 10 to 100 us: registers written by the processor, interrupt or polling, tens of microseconds

`consistent_set` holds what meets the time within 0.5 % and the best call within 2 %. Central prediction: a as fitted to
Table 2 (an independent measurement of the same loops), the median of the b that then meet the best call, c from the time.
Interval: the lowest and highest of the whole set. Measured times of other configurations are not used anywhere; but the
rule was not chosen blind: their published frames per second, which bound the times from above, had been read before.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from picojoule.accel.deform.calls import Call
from picojoule.accel.deform.cycles import WINDOW, Access, call_cycles, window_interval
from picojoule.accel.deform.spec import DeformSpec
from picojoule.sim.errors import InputError

FloatArray = npt.NDArray[np.float64]

MEASURED_MS = 19.73
MEASURED_BEST_GOPS = 78.0
TIME_TOLERANCE = 0.005
BEST_TOLERANCE = 0.02
PIXEL_REFILL_RANGE = (12.0, 48.0)
TILE_REFILL_RANGE = (0.0, 36.0)
CALL_US_RANGE = (10.0, 100.0)
TABLE2_PIXEL_REFILL = 43.4
"""`pixel_refill_cycles` as `ablation.fit` gives it."""

SIDES = {"a": 64, "b": 64, "c": 128, "d": 128, "e": 128}
"""Rows and columns of the map that enters the accelerator; b and e differ from a and d in the host's first stage only."""
NARROW, WIDE = (32, 128, 256, 512, 1024), (32, 256, 512, 1024, 2048)
REPEATS = (3, 7, 3)
UP_WIDTHS = (256, 128, 128)
HEADS = (80, 2, 2)
PASS_CHANNELS = 512


def codenet_calls(config: str) -> list[Call]:
    """Return the published list of calls of CoDeNet's configuration `a` to `e`, in order: 52, or 56 for d and e.

    Raises:
        InputError: for another configuration.

    """
    if config not in SIDES:
        raise InputError(f"unknown configuration '{config}' of CoDeNet (choose from {', '.join(SIDES)})")
    side, widths, calls = SIDES[config], WIDE if config in "de" else NARROW, list[Call]()

    def add(inputs: int, outputs: int, *, one: bool = True, three: bool = False, stride: int = 1) -> None:
        access = Access.SQUARE if three and not one and stride == 1 else Access.ORDINARY
        for start in range(0, outputs, PASS_CHANNELS):
            part = min(PASS_CHANNELS, outputs - start)
            calls.append(
                Call(
                    pixels=side**2,
                    out_pixels=(side // stride) ** 2,
                    in_channels=inputs if one else part,
                    out_channels=part,
                    pointwise=one,
                    window=three,
                    access=access,
                )
            )

    inputs = widths[0]
    for outputs, repeats in zip(widths[1:4], REPEATS, strict=True):
        half = outputs // 2
        add(inputs, inputs, one=False, three=True, stride=2)
        side //= 2
        add(inputs, half)
        side *= 2
        add(inputs, half, three=True, stride=2)
        side //= 2
        add(half, half)
        for _ in range(repeats):
            add(half, half, three=True)
            add(half, half)
        inputs = outputs
    add(inputs, widths[4])
    inputs = widths[4]
    for outputs in UP_WIDTHS:
        add(inputs, 1)
        add(inputs, inputs, one=False, three=True)
        if inputs != outputs:
            add(inputs, outputs)
        inputs, side = outputs, side * 2
    for outputs in HEADS:
        add(inputs, outputs, three=True)
    return calls


def operations(calls: Sequence[Call]) -> FloatArray:
    """Return two operations per multiply-accumulate of each call once, padding not counted.

    The board's own counting is lower (0.573 for 0.577 GOP of configuration a); its rule is not published.
    """
    one = [2.0 * c.pixels * c.in_channels * c.out_channels * c.pointwise for c in calls]
    three = [2.0 * WINDOW * c.out_pixels * c.out_channels * c.window for c in calls]
    return np.asarray(np.array(one) + np.array(three), dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overheads:
    """Triples of overheads in clock cycles, each [triples]."""

    pixel_refill_cycles: FloatArray
    tile_refill_cycles: FloatArray
    call_cycles: FloatArray

    def __len__(self) -> int:
        return len(self.call_cycles)

    def where(self, chosen: npt.NDArray[np.bool_]) -> "Overheads":
        """Return the triples that a mask selects."""
        return Overheads(
            pixel_refill_cycles=self.pixel_refill_cycles[chosen],
            tile_refill_cycles=self.tile_refill_cycles[chosen],
            call_cycles=self.call_cycles[chosen],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A prediction and the range of it over the consistent set."""

    central: float
    low: float
    high: float


def cycles_with(calls: Sequence[Call], spec: DeformSpec, overheads: Overheads) -> FloatArray:
    """Return the cycles of every call once under every triple, [calls, triples]."""

    def column(name: str) -> npt.NDArray[np.int64]:
        return np.array([getattr(c, name) for c in calls])[:, None]

    ports, reads = spec.line_buffer_ports, spec.reads_per_port
    cycles = call_cycles(
        pixels=column("pixels"),
        out_pixels=column("out_pixels"),
        in_channels=column("in_channels"),
        out_channels=column("out_channels"),
        pointwise=column("pointwise"),
        window=column("window"),
        interval=np.array([int(window_interval(c.access, ports, reads)) for c in calls])[:, None],
        pe_in=spec.pe_in,
        pe_out=spec.pe_out,
        depthwise_lanes=spec.depthwise_lanes,
        pixel_refill_cycles=overheads.pixel_refill_cycles,
        tile_refill_cycles=overheads.tile_refill_cycles,
        start_cycles=overheads.call_cycles,
    )
    return cycles.total.astype(np.float64)


def milliseconds(calls: Sequence[Call], spec: DeformSpec, overheads: Overheads) -> FloatArray:
    """Return the time of a list of calls under every triple, [triples]."""
    counts = np.array([c.count for c in calls])
    return counts @ cycles_with(calls, spec, overheads) / (spec.clock_mhz * 1e3)


def best_gops(calls: Sequence[Call], spec: DeformSpec, overheads: Overheads) -> FloatArray:
    """Return the throughput of the best single call under every triple, [triples]."""
    rates = operations(calls)[:, None] / cycles_with(calls, spec, overheads)
    return np.asarray(rates.max(axis=0) * spec.clock_mhz * 1e-3)


def from_time(
    calls: Sequence[Call], spec: DeformSpec, a: FloatArray, b: FloatArray, milliseconds_of: FloatArray
) -> Overheads:
    """Return triples whose call overhead makes up the rest of a measured time; arguments [triples]."""
    without = Overheads(pixel_refill_cycles=a, tile_refill_cycles=b, call_cycles=np.zeros_like(a))
    rest = milliseconds_of - milliseconds(calls, spec, without)
    each = rest * spec.clock_mhz * 1e3 / sum(c.count for c in calls)
    return Overheads(pixel_refill_cycles=a, tile_refill_cycles=b, call_cycles=np.maximum(each, 0.0))


def consistent_set(spec: DeformSpec, *, step: float = 0.5) -> Overheads:
    """Return the triples within the priors that meet both measurements of configuration a, on a grid of `step` cycles."""
    calls = codenet_calls("a")
    a, b, time = np.meshgrid(
        np.arange(PIXEL_REFILL_RANGE[0], PIXEL_REFILL_RANGE[1] + step / 2, step),
        np.arange(TILE_REFILL_RANGE[0], TILE_REFILL_RANGE[1] + step / 2, step),
        MEASURED_MS * (1 + TIME_TOLERANCE * np.array([-1.0, 0.0, 1.0])),
    )
    return _meeting_best(calls, spec, from_time(calls, spec, a.ravel(), b.ravel(), time.ravel()))


def central(spec: DeformSpec, *, step: float = 0.1) -> Overheads:
    """Return the one triple of the central prediction (rule: top of this file)."""
    calls = codenet_calls("a")
    b = np.arange(TILE_REFILL_RANGE[0], TILE_REFILL_RANGE[1] + step / 2, step)
    a = np.full_like(b, TABLE2_PIXEL_REFILL)
    meeting = _meeting_best(calls, spec, from_time(calls, spec, a, b, np.full_like(b, MEASURED_MS)))
    middle = np.array([np.median(meeting.tile_refill_cycles)])
    return from_time(calls, spec, a[:1], middle, np.array([MEASURED_MS]))


def predict(config: str, spec: DeformSpec, overheads: Overheads, middle: Overheads) -> Interval:
    """Return the accelerator's time of a configuration in ms: under the central triple, and its range over a set."""
    calls = codenet_calls(config)
    times = milliseconds(calls, spec, overheads)
    return Interval(
        central=float(milliseconds(calls, spec, middle)[0]), low=float(times.min()), high=float(times.max())
    )


def _meeting_best(calls: Sequence[Call], spec: DeformSpec, overheads: Overheads) -> Overheads:
    """Return the triples with a call overhead within its prior and the best call within its tolerance."""
    call_us = overheads.call_cycles / spec.clock_mhz
    plausible = overheads.where((call_us >= CALL_US_RANGE[0]) & (call_us <= CALL_US_RANGE[1]))
    error = best_gops(calls, spec, plausible) / MEASURED_BEST_GOPS - 1
    return plausible.where(np.abs(error) <= BEST_TOLERANCE)
