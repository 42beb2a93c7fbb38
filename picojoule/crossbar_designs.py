"""The designs that `scripts/reproduce_crossbar` measures and prices: all of them `isaac` with 8-bit weights and inputs, changed.

A design is a name and keys of the hardware file. Sections: `adc` (bits of the converters by encoding and range), `needed` (bits
that the weights ask for), `devices` (one effect at a time, then whole devices). What a design says is all that its results
depend on beside the study's settings.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from picojoule.reram.devices import device_presets
from picojoule.sim.hardware import load_hardware
from picojoule.sim.protocol import Accelerator

PRESET = "isaac"
BASE: Mapping[str, Any] = {"weight_bits": 8, "activation_bits": 8}
ENCODINGS = ("offset", "flip", "split", "differential")
RANGES = ("exact", "calibrated", "full")
ADC_MODELS = ("isaac_sar", "survey", "neurosim_sar", "bitslice_paper")
BITS: Mapping[str, range] = {"exact": range(4, 11), "calibrated": range(3, 9), "full": range(5, 11)}
PERCENTILE = 99.9
"""Share of column sums within a calibrated range, percent."""
PERCENTILES = (100.0, 99.0, 95.0)
"""Shares of columns that do not clip where converters have the bits that their tile and slice need."""
LOSSLESS = "flip-exact-8"
"""ISAAC's own design, whose products are exact: what accuracies are compared with, image by image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """One design: `changes` are keys of the hardware file; `words` name it in tables; `chips` whether chance plays a part."""

    name: str
    section: str
    words: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    chips: bool = False

    def accelerator(self, **more: Any) -> Accelerator:
        """Return the hardware, with `more` keys changed."""
        return load_hardware(PRESET, {**BASE, **self.changes, **more})


def adc_designs() -> list[Design]:
    """Return encodings x ranges x bits; where sums have a sign, it takes one of the bits."""
    return [
        Design(
            name=f"{encoding}-{kind}-{bits}",
            section="adc",
            words=f"{encoding}, {kind} range, {bits} bits",
            changes={"encoding": encoding, "adc_range": kind, "adc_bits": bits}
            | ({"adc_percentile": PERCENTILE} if kind == "calibrated" else {}),
        )
        for kind in RANGES
        for encoding in ENCODINGS
        for bits in BITS[kind]
    ]


def needed_designs() -> list[Design]:
    """Return fixed bits beside those that the trained weights need, chosen when the chip is made or while it runs."""
    found = []
    for encoding in ENCODINGS:
        for percentile in PERCENTILES:
            for build in ("design_time", "run_time"):
                what = "" if percentile == 100 else f", {percentile:g} % of columns"
                found.append(
                    Design(
                        name=f"{encoding}-needed-{percentile:g}-{build}",
                        section="needed",
                        words=f"{encoding}, needed bits{what}, {build.replace('_', ' ')}",
                        changes={
                            "encoding": encoding,
                            "adc_bits": "needed",
                            "adc": build,
                            "adc_percentile": percentile,
                        },
                    )
                )
    return found


EFFECTS: Mapping[str, tuple[str, tuple[Any, ...]]] = {
    "programming_sigma": ("programming error, share of G max", (0.01, 0.02, 0.05)),
    "read_noise_sigma": ("read noise, share of G", (0.02, 0.05, 0.1)),
    "stuck_off": ("cells stuck off", (0.001, 0.01)),
    "stuck_on": ("cells stuck on", (0.001, 0.01)),
    "on_off_ratio": ("on/off ratio", (100.0, 17.0, 4.5)),
    "wire_ohm_per_cell": ("wire, ohm per cell", (0.15, 1.0)),
    "adc_offset_sigma_lsb": ("ADC offset, codes", (0.5, 1.0)),
    "adc_gain_sigma": ("ADC gain error", (0.005, 0.02)),
    "adc_inl_lsb": ("ADC INL, codes", (0.5, 1.0)),
}
"""Effects alone: the key, its words and its levels."""
MORE: Mapping[str, dict[str, Any]] = {"wire_ohm_per_cell": {"device.wire_model": "fast"}}
"""What else an effect takes."""
DRIFT: dict[str, Any] = {"device.drift_nu_mean": 0.05, "device.drift_nu_sigma": 0.02, "device.time_s": 86400.0}
"""A day of drift: exponents about those of phase-change cells (AIHWKIT: 0.049 to 0.1)."""
CELLS: dict[str, Any] = {"device.g_max_us": 100.0}
"""Cells of 10 kohm where wires or noise need a conductance."""


def device_designs() -> list[Design]:
    """Return single effects on ISAAC's design with 10 kohm cells, then device presets, by `flip` and by `differential`."""
    found = [
        _device(f"{key}-{level:g}", f"{words} {level:g}", CELLS | {f"device.{key}": level} | MORE.get(key, {}))
        for key, (words, levels) in EFFECTS.items()
        for level in levels
    ]
    found.append(_device("drift-day", "drift, a day", CELLS | DRIFT))
    found.append(
        _device("drift-day-corrected", "drift, a day, corrected", CELLS | DRIFT | {"device.drift_compensation": True})
    )
    for name in (str(preset["name"]) for preset in device_presets() if "programming" in " ".join(preset["values"])):
        for encoding, bits in (("flip", 8), ("differential", 9)):
            keys = {"device.preset": name, "encoding": encoding, "adc_bits": bits}
            found.append(_device(f"{name}-{encoding}", f"{name}, {encoding}", keys))
    return found


def _device(name: str, words: str, changes: Mapping[str, Any]) -> Design:
    return Design(name=f"device-{name}", section="devices", words=words, changes=dict(changes), chips=True)


def all_designs() -> list[Design]:
    """Return what is measured, what later results are compared with first; `needed` only where columns clip."""
    clipping = [d for d in needed_designs() if d.changes["adc_percentile"] < 100]  # the others lose nothing
    every = [*adc_designs(), *clipping, *device_designs()]
    return sorted(every, key=lambda d: d.name != LOSSLESS)
