"""The generated tables of docs/crossbar.md: ADC models, devices, ISAAC's sums, NeuroSim's design by component."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from picojoule import validation_reram
from picojoule.reram.adc_models import AdcModel, adc_area_um2, adc_energy_pj, adc_power_ratio, adc_seconds
from picojoule.reram.devices import device_presets
from picojoule.sim.errors import InputError, UnsupportedError

_BITS = (1, 2, 3, 4, 6, 8, 10)


def sections() -> Mapping[str, Callable[[], str]]:
    """Return what writes each generated part, by the name in its marker."""
    return {"adc models": adc_models, "device presets": presets, "isaac": isaac, "neurosim": neurosim}


def with_sections(text: str) -> str:
    """Return the document with what stands between its markers written anew.

    Raises:
        InputError: if it lacks a marker.

    """
    for name, write in sections().items():
        parts = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL).split(text)
        if len(parts) != 4:
            raise InputError(f"expected one part '{name}' between its markers, found {len(parts) // 3}")
        text = "".join([*parts[:2], write(), "\n", *parts[2:]])
    return text


def adc_models() -> str:
    """Return energy, area and time of a conversion by model and bits, at ISAAC's 32 nm and 1.28 GS/s."""
    lines = []
    for model in AdcModel:
        for words, value in (
            ("energy, pJ", lambda b, m=model: float(adc_energy_pj(m, b))),
            ("area, µm²", lambda b, m=model: float(adc_area_um2(m, b))),
            ("time, ns", lambda b, m=model: 1e9 * float(adc_seconds(m, b))),
            ("power, times less than at 8 bits", lambda b, m=model: float(adc_power_ratio(m, b))),
        ):
            lines.append((f"`{model.value}`", words, *(_known(value, b) for b in _BITS)))
    return _table(("model", "a conversion's", *(f"{b} bit{'s' * (b > 1)}" for b in _BITS)), lines)


def presets() -> str:
    """Return the devices with their sources."""
    rows = [
        (f"`{p['name']}`", ", ".join(f"{k} {_shown(v)}" for k, v in p["values"].items()), p["source"], p["basis"])
        for p in device_presets()
        if p["values"]
    ]
    return _table(("preset", "keys", "source", "basis"), rows)


def isaac() -> str:
    """Return ISAAC's published sums beside ours."""
    rows = [
        (r["quantity"], f"{r['reference']:g}", f"{r['ours']:.4g}", f"{r['error_pct']:+.2f} %")
        for r in validation_reram.isaac()
    ]
    return _table(("figure (calibrated: entered from the table)", "published", "ours", "error"), rows)


def neurosim() -> str:
    """Return NeuroSim's VGG-8 beside ours, totals and components."""
    theirs, ours = validation_reram.NEUROSIM_RUN, validation_reram.neurosim_parts()
    rows = [
        ("area, mm²", theirs.area_mm2, ours.area_mm2),
        *((f"- {name}", theirs_, dict(ours.areas)[name]) for name, theirs_ in theirs.areas),
        ("dynamic energy of an image, µJ", theirs.energy_uj, ours.energy_uj),
        *((f"- {name}", theirs_, dict(ours.energies)[name]) for name, theirs_ in theirs.energies),
        ("share of the ADCs in it", theirs.adc_share, ours.adc_share),
    ]
    return _table(
        ("", "NeuroSim 1.5-dev, default, measured", "ours, predicted", "ours / NeuroSim"),
        [(name, f"{a:.3g}", f"{b:.3g}", f"{b / a:.2f}") for name, a, b in rows],
    )


def _known(value: Callable[[int], float], bits: int) -> str:
    try:
        found = value(bits)
        return f"{found:.3g}" if found < 100 else f"{found:.0f}"
    except UnsupportedError:
        return "refused"


def _shown(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "(" + ", ".join(_shown(v) for v in value) + ")"
    return f"{np.float64(value):.4g}" if isinstance(value, int | float) else str(value)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
