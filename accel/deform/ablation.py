"""The published ablation of deformable convolution: sixteen latencies, from the accelerator's own formulas.

Table 2 of CoDeNet (arXiv 2006.08357): a 3x3 layer of 64 x 64 pixels, 256 to 256 channels, on 8 x 8 x 9 (full) or 16 x 9
(depthwise) MACs, ordinary or deformable; points read from DRAM, bounded to a line buffer, or square and read by three ports;
without and with the processor's last-level cache (LLC). All offsets are whole numbers; their distribution is not
published and assumed uniform in [-7, 7]; a spread of 2 to 8 pixels changes no error by more than 1 %, none or 32 by 5 to 7 %.

Three constants are fitted: `full_step_cycles` (on both ordinary full entries), `pixel_refill_cycles` (on both ordinary
depthwise entries), `llc_read_ns` (on deformable depthwise with the LLC). Reading from DRAM follows from timings of the
memory (below), reading the line buffer from its ports (`cycles.window_interval`), how reads and computing overlap from the
FIFOs' depth (`gather.sampled_seconds`). That reads through the LLC hide behind the full engine is read off the table itself.
A call's start is part of the refill here. Not explained: the line buffer is slower with the LLC on (3.4 against 3.0 ms).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import numpy as np

from picojoule.accel.deform.cycles import Access, call_cycles, full_cycles, window_interval
from picojoule.accel.deform.gather import GatherReads, SamplingPoints, gather_reads, price_reads, sampled_seconds
from picojoule.accel.deform.spec import DeformSpec

SIDE, CHANNELS = 64, 256
FULL_SIDE = 8

OPEN_ROW_NS = 20 / 1.066 + 2.5 + 8 / 1.066
"""LPDDR4-2133 in an open row: read latency of 20 clocks, tDQSCK 1.5 to 3.5 ns, a burst of 16 (JEDEC JESD209-4)."""
ROW_MISS_NS = 18.0 + 18.0
"""Precharge (tRPpb) and activate (tRCD) (JEDEC JESD209-4)."""
CACHE_HIT_NS = 13 / 1.2
"""Level-2 access of a Cortex-A53: 13 clocks (Hennessy and Patterson, 6th edition, section 2.6) at the board's 1.2 GHz."""
WINDOW_READS = 9
"""Reads of a step, issued back to back (HLS keeps up to 16 in flight, Xilinx UG902), so that they share one latency."""


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """One of the sixteen."""

    op: Literal["full", "depthwise"]
    variant: Literal["ordinary", "deformable", "bound", "square"]
    llc: bool

    def __str__(self) -> str:
        return f"{self.op} {self.variant}, {'LLC' if self.llc else 'no LLC'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AblationConstants:
    """What is fitted; `dram_read_ns` None: derived from `llc_read_ns` and the timings of the memory."""

    full_step_cycles: float = 2.5
    pixel_refill_cycles: float = 40.0
    llc_read_ns: float = 30.0
    dram_read_ns: float | None = None

    @property
    def dram_ns(self) -> float:
        """One read in an open row of DRAM: a cache read and the difference of the latencies, shared by a window's reads."""
        if self.dram_read_ns is not None:
            return self.dram_read_ns
        return self.llc_read_ns + (OPEN_ROW_NS - CACHE_HIT_NS) / WINDOW_READS


FITTED: dict[str, tuple[Entry, ...]] = {
    "full_step_cycles": (Entry("full", "ordinary", False), Entry("full", "ordinary", True)),
    "pixel_refill_cycles": (Entry("depthwise", "ordinary", False), Entry("depthwise", "ordinary", True)),
    "llc_read_ns": (Entry("depthwise", "deformable", True),),
}
"""The constants and the entries they are fitted on."""
FITTED_APART: dict[str, tuple[Entry, ...]] = {
    "full_step_cycles": (Entry("full", "ordinary", False),),
    "pixel_refill_cycles": FITTED["pixel_refill_cycles"],
    "llc_read_ns": FITTED["llc_read_ns"],
    "dram_read_ns": (Entry("depthwise", "deformable", False),),
}
"""The same with DRAM reads fitted too instead of derived."""
RATIOS = tuple(
    (Entry(op, "deformable", llc), Entry(op, "square", llc)) for llc in (False, True) for op in ("full", "depthwise")
)
"""The headlines: how much faster the co-designed operator is than the original: 1.36, 9.76, 1.02, 7.74."""


def table_spec(op: str, constants: AblationConstants, *, llc: bool) -> DeformSpec:
    """Return the engine of the ablation."""
    side = FULL_SIDE if op == "full" else 0
    return DeformSpec(
        full_in=side,
        full_out=side,
        llc=llc,
        full_step_cycles=constants.full_step_cycles,
        pixel_refill_cycles=constants.pixel_refill_cycles,
        call_cycles=0.0,
        llc_read_ns=constants.llc_read_ns,
        dram_read_ns=constants.dram_ns,
        dram_row_miss_ns=ROW_MISS_NS,
        outstanding_reads=WINDOW_READS,
    )


def latency_ms(entry: Entry, constants: AblationConstants) -> float:
    """Return what the accelerator's formulas give for one entry."""
    spec = table_spec(entry.op, constants, llc=entry.llc)
    compute_s = _compute_cycles(spec, entry) / (spec.clock_mhz * 1e6)
    if entry.variant == "deformable":
        compute_s = sampled_seconds(spec, compute_s, price_reads(spec, table_reads(spec.llc)).seconds)
    return 1e3 * compute_s


def _compute_cycles(spec: DeformSpec, entry: Entry) -> float:
    pixels = SIDE * SIDE
    if entry.op == "full":
        # The line buffer serves a window in at most 5 cycles, its 64 steps take over 100: reading it never shows.
        cycles = full_cycles(
            out_pixels=pixels,
            in_channels=CHANNELS,
            out_channels=CHANNELS,
            full_in=spec.full_in,
            full_out=spec.full_out,
            full_step_cycles=spec.full_step_cycles,
        )
        return float(cycles)
    access = {"bound": Access.TAPS, "square": Access.SQUARE}.get(entry.variant, Access.ORDINARY)
    calls = call_cycles(
        pixels=pixels,
        out_pixels=pixels,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        pointwise=False,
        window=True,
        interval=window_interval(access, spec.line_buffer_ports, spec.reads_per_port),
        depthwise_lanes=spec.depthwise_lanes,
        pixel_refill_cycles=spec.pixel_refill_cycles,
        start_cycles=spec.call_cycles,
    )
    return float(calls.total)


@cache
def table_reads(llc: bool) -> GatherReads:
    """Return the reads of the deformable entries: they do not depend on any time, hence are simulated once."""
    points = SamplingPoints(channels=CHANNELS, height=SIDE, width=SIDE)
    return gather_reads(DeformSpec(llc=llc), points, out_height=SIDE, out_width=SIDE, out_channels=CHANNELS)


def fit(
    reference: Mapping[Entry, float], entries: Iterable[Entry], constants: Iterable[str] = tuple(FITTED)
) -> AblationConstants:
    """Return the named constants that give the entries with the least sum of squared relative errors."""
    from scipy.optimize import least_squares

    names, chosen = tuple(constants), tuple(entries)
    start = AblationConstants(dram_read_ns=30.0 if "dram_read_ns" in names else None)

    def constants_of(factors: np.ndarray[tuple[int], np.dtype[np.float64]]) -> AblationConstants:
        return replace(start, **{n: float(getattr(start, n) * x) for n, x in zip(names, factors, strict=True)})

    def errors(factors: np.ndarray[tuple[int], np.dtype[np.float64]]) -> list[float]:
        trial = constants_of(factors)
        return [latency_ms(e, trial) / reference[e] - 1 for e in chosen]

    return constants_of(least_squares(errors, np.ones(len(names)), bounds=(0.1, 10.0), diff_step=1e-4).x)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRow:
    """An entry or a ratio of two: published, ours, and whether it was fitted (of a ratio: whether one of its entries was)."""

    entry: str
    reference: float
    ours: float
    fitted: bool

    @property
    def error_pct(self) -> float:
        """Deviation from the published figure."""
        return 100.0 * (self.ours / self.reference - 1)


def table_rows(
    reference: Mapping[Entry, float], constants: AblationConstants, fitted: Mapping[str, tuple[Entry, ...]] = FITTED
) -> list[TableRow]:
    """Return the sixteen latencies in ms."""
    on = {e for entries in fitted.values() for e in entries}
    return [
        TableRow(entry=str(e), reference=r, ours=latency_ms(e, constants), fitted=e in on) for e, r in reference.items()
    ]


def ratio_rows(
    reference: Mapping[Entry, float], constants: AblationConstants, fitted: Mapping[str, tuple[Entry, ...]] = FITTED
) -> list[TableRow]:
    """Return the four headline ratios, original against co-designed operator."""
    on = {e for entries in fitted.values() for e in entries}
    return [
        TableRow(
            entry=f"{slow} / {fast.variant}",
            reference=reference[slow] / reference[fast],
            ours=latency_ms(slow, constants) / latency_ms(fast, constants),
            fitted=bool({slow, fast} & on),
        )
        for slow, fast in RATIOS
    ]


def leave_one_out(
    reference: Mapping[Entry, float], fitted: Mapping[str, tuple[Entry, ...]] = FITTED
) -> dict[Entry, float | str]:
    """Return, for every fitted entry, its error in per cent when the other fitted entries alone set the constants.

    Where they do not set it, the name of the constant that nothing determines any more.
    """
    on = [(name, e) for name, entries in fitted.items() for e in entries]
    found: dict[Entry, float | str] = {}
    for name, left in on:
        if len(fitted[name]) == 1:
            found[left] = name
            continue
        constants = fit(reference, [e for _, e in on if e != left], fitted)
        found[left] = 100.0 * (latency_ms(left, constants) / reference[left] - 1)
    return found


def leave_each_out(
    reference: Mapping[Entry, float], fitted: Mapping[str, tuple[Entry, ...]] = FITTED
) -> dict[Entry, float]:
    """Return the error in per cent of each of the sixteen entries when all the others set the constants."""
    errors = {}
    for left in reference:
        constants = fit(reference, [e for e in reference if e != left], fitted)
        errors[left] = 100.0 * (latency_ms(left, constants) / reference[left] - 1)
    return errors
