"""The generated tables of docs/deformable.md: Table 2, its calibration, CoDeNet's configurations, resources and boards."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from picojoule.accel.deform import ablation, calibration
from picojoule.accel.deform.boards import list_boards
from picojoule.accel.deform.resources import resources_of
from picojoule.sim.errors import InputError
from picojoule.sim.hardware import load_hardware
from picojoule.validation_deform import PUBLISHED_RESOURCES, preset_constants, published_table

_FULLY = "fitted"


def sections() -> Mapping[str, Callable[[], str]]:
    """Return what writes each generated part, by the name in its marker."""
    return {
        "table 2": table_2,
        "leave one out": leave_one_out,
        "overheads": overheads,
        "configurations": configurations,
        "resources": resources,
        "boards": boards,
    }


def with_sections(text: str) -> str:
    """Return a document with what stands between its markers written anew.

    Raises:
        InputError: if it lacks a marker.

    """
    for name, write in sections().items():
        marked = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        parts = marked.split(text)  # before, opening marker, closing marker, after
        if len(parts) != 4:
            raise InputError(f"expected one part '{name}' between its markers, found {len(parts) // 3}")
        text = "".join([*parts[:2], write(), "\n", *parts[2:]])
    return text


def table_2() -> str:
    """Return the sixteen latencies, the ratios and the errors' summary."""
    reference, constants = published_table(), preset_constants()
    latencies, ratios = ablation.table_rows(reference, constants), ablation.ratio_rows(reference, constants)
    shown = [
        (r.entry, f"{r.reference:.1f}", f"{r.ours:.2f}", f"{r.error_pct:+.1f} %", _basis(r.fitted)) for r in latencies
    ]
    shown += [
        (
            f"ratio: {r.entry}",
            f"{r.reference:.2f}",
            f"{r.ours:.2f}",
            f"{r.error_pct:+.1f} %",
            _basis(r.fitted, "one entry"),
        )
        for r in ratios
    ]
    errors = np.abs([r.error_pct for r in latencies])
    predicted = np.abs([r.error_pct for r in latencies if not r.fitted])
    words = (
        f"Median error {np.median(errors):.1f} %, worst {errors.max():.1f} % of all sixteen; {np.median(predicted):.1f} % and "
        f"{predicted.max():.1f} % of the {len(predicted)} predicted ones."
    )
    return _table(("entry", "published, ms", "ours, ms", "error", "basis"), shown) + "\n\n" + words


def leave_one_out() -> str:
    """Return the error of every entry when all others set the constants, and of the fitted five among themselves."""
    reference = published_table()
    each, five = ablation.leave_each_out(reference), ablation.leave_one_out(reference)
    rows = [
        (str(entry), f"{error:+.1f} %", _left_out(five[entry]) if entry in five else "")
        for entry, error in each.items()
    ]
    return _table(
        ("entry left out", "error, set by the other fifteen", "error, set by the other four fitted ones"), rows
    )


def overheads() -> str:
    """Return the set of overheads that configuration a leaves, and the central triple."""
    spec = _spec("ultra96-codenet")
    found, middle = calibration.consistent_set(spec), calibration.central(spec)
    clock = spec.clock_mhz

    def row(name: str, values: Any, centre: Any, unit: str, scale: float = 1.0) -> tuple[str, ...]:
        return (
            name,
            f"{values.min() * scale:.3g} to {values.max() * scale:.3g} {unit}",
            f"{centre[0] * scale:.3g} {unit}",
        )

    rows = [
        row("a, refill per pixel", found.pixel_refill_cycles, middle.pixel_refill_cycles, "cycles"),
        row("b, refill per tile of outputs", found.tile_refill_cycles, middle.tile_refill_cycles, "cycles"),
        row("c, start of a call", found.call_cycles, middle.call_cycles, "µs", 1 / clock),
    ]
    return _table(("overhead", f"consistent set ({len(found)} triples of the grid)", "central"), rows)


def configurations() -> str:
    """Return the accelerator's time of CoDeNet's configurations."""
    spec = _spec("ultra96-codenet")
    found, middle = calibration.consistent_set(spec), calibration.central(spec)
    rows = []
    for config in calibration.SIDES:
        time = calibration.predict(config, spec, found, middle)
        basis = f"calibrated ({calibration.MEASURED_MS} measured)" if config == "a" else "predicted"
        rows.append((f"codenet-{config}", f"{time.central:.1f}", f"{time.low:.1f} to {time.high:.1f}", basis))
    return _table(("network", "accelerator, ms", "interval, ms", "basis"), rows)


def resources() -> str:
    """Return what the published accelerator takes, by our estimate and by the tools' report."""
    ours = resources_of(_spec("ultra96-codenet"))
    rows = []
    for name, published in PUBLISHED_RESOURCES.items():
        value, low, high = (getattr(amount, name) for amount in (ours.total, ours.low, ours.high))
        error = 100.0 * (value / published - 1)
        rows.append((name.upper(), f"{published:,}", f"{value:,}", f"{low:,} to {high:,}", f"{error:+.0f} %"))
    return _table(("resource", "published", "ours", "range", "error"), rows)


def boards() -> str:
    """Return the boards of the table."""
    rows = [
        (b.name, b.device, *(f"{n:,}" for n in (b.dsp, b.bram36, b.lut, b.ff)), "yes" if b.hard_processor else "no")
        for b in list_boards()
    ]
    return _table(("board", "device", "DSP", "BRAM36", "LUT", "FF", "processor"), rows)


def _spec(preset: str) -> Any:
    return load_hardware(preset).spec


def _basis(fitted: bool, words: str = "") -> str:
    return f"{words} {_FULLY}".strip() if fitted else "predicted"


def _left_out(error: float | str) -> str:
    return f"`{error}` undetermined" if isinstance(error, str) else f"{error:+.1f} %"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
