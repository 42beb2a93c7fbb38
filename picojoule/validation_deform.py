"""Rows of `picojoule validate` for the FPGA deformable-convolution unit: CoDeNet's Table 2, its headline ratios, its board.

The presets' own constants are used. Three of them were fitted on five of the sixteen entries, and two on the two figures of
the board (`accel.deform.ablation`, `accel.deform.calibration`); those rows say `calibrated`, as does a ratio with one of the
five in it.
"""

import csv
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import numpy as np

from picojoule.accel.deform.ablation import AblationConstants, Entry, TableRow, ratio_rows, table_rows
from picojoule.accel.deform.calibration import (
    MEASURED_BEST_GOPS,
    MEASURED_MS,
    Overheads,
    best_gops,
    codenet_calls,
)
from picojoule.accel.deform.resources import resources_of
from picojoule.networks import load_network
from picojoule.sim.hardware import load_hardware
from picojoule.validation_rows import Row, make_row

PAPER = "CoDeNet (Huang et al., arXiv 2006.08357), Table 2"
BOARD = "CoDeNet's configuration a on an Ultra96, measured"
PUBLISHED_RESOURCES = {"dsp": 360, "bram36": 216, "lut": 34_144, "ff": 41_827}
"""Of the final accelerator on an XCZU3EG (CoDeNet, section 5)."""


def rows() -> list[Row]:
    """Return rows {name, source, quantity, reference, ours, error_pct, calibrated}."""
    return [*table_2(), *board(), *resources()]


def published_table() -> dict[Entry, float]:
    """Return the sixteen published latencies in ms."""
    text = files("picojoule").joinpath("validation_data/codenet_table2.csv").read_text()
    found = csv.DictReader(text.splitlines())
    return {Entry(r["op"], r["variant"], r["llc"] == "yes"): float(r["ms"]) for r in found}  # type: ignore[arg-type]


def preset_constants() -> AblationConstants:
    """Return the constants of Table 2 as the presets of its two engines hold them."""
    full: Any = load_hardware("ultra96-ablation-full").spec
    depthwise: Any = load_hardware("ultra96-ablation-depthwise").spec
    return AblationConstants(
        full_step_cycles=full.full_step_cycles,
        pixel_refill_cycles=depthwise.pixel_refill_cycles,
        llc_read_ns=depthwise.llc_read_ns,
        dram_read_ns=depthwise.dram_read_ns,
    )


def table_2() -> Iterator[Row]:
    """Yield the sixteen latencies and the four ratios."""
    reference, constants = published_table(), preset_constants()
    for row in table_rows(reference, constants):
        yield _row("codenet table 2: " + row.entry, PAPER, "latency, ms", row)
    for row in ratio_rows(reference, constants):
        yield _row("codenet table 2: " + row.entry, PAPER, "ratio of latencies", row)


def board() -> Iterator[Row]:
    """Yield what was measured of a whole network, from which its overheads were calibrated."""
    unit = load_hardware("ultra96-codenet")
    spec: Any = unit.spec
    report = unit.evaluate(load_network("codenet-a"))
    time = TableRow(entry="a", reference=MEASURED_MS, ours=1e3 * report.totals["accelerator_latency_s"], fitted=True)
    yield _row("codenet-a", BOARD, "time in the accelerator, ms", time)
    overheads = Overheads(
        pixel_refill_cycles=np.array([spec.pixel_refill_cycles]),
        tile_refill_cycles=np.array([spec.tile_refill_cycles]),
        call_cycles=np.array([spec.call_cycles]),
    )
    rate = float(best_gops(codenet_calls("a"), spec, overheads)[0])
    yield _row(
        "codenet-a",
        BOARD,
        "best call, GOP/s",
        TableRow(entry="a", reference=MEASURED_BEST_GOPS, ours=rate, fitted=True),
    )


def resources() -> Iterator[Row]:
    """Yield what the accelerator takes of its device; DSP are the device's own number, there and here."""
    found = resources_of(load_hardware("ultra96-codenet").spec).total  # type: ignore[arg-type]
    for name, published in PUBLISHED_RESOURCES.items():
        row = TableRow(entry=name, reference=published, ours=getattr(found, name), fitted=name == "dsp")
        yield _row("codenet accelerator", "CoDeNet, resources of the final accelerator", name.upper(), row)


def _row(name: str, source: str, quantity: str, row: TableRow) -> Row:
    return make_row(name, source, quantity, row.reference, row.ours, calibrated=row.fitted)
