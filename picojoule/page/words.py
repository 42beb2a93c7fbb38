"""How figures are named and written on a page: one label, unit and number of digits per metric."""

import math
from dataclasses import dataclass

from picojoule.tables import si

_LABELS = {
    "energy_pj_per_sample": "energy per sample",
    "throughput_per_s": "throughput",
    "interval_s": "time between results",
    "area_mm2": "area",
    "peak_activation_bytes": "peak activations",
    "weight_bytes": "weights",
    "macs": "MACs",
}
_SHARES = ("accuracy", "utilization")
_UNITS = (
    ("_pj_per_sample", 1e-12, "J"),
    ("_pj", 1e-12, "J"),
    ("_per_s", 1.0, "/s"),
    ("_s", 1.0, "s"),
    ("_bytes", 1.0, "B"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A figure's label and unit. A value times `factor` is in `unit`; `prefixed` units take SI prefixes (`µJ`)."""

    name: str
    label: str
    unit: str
    factor: float = 1.0
    prefixed: bool = False

    def show(self, value: float | None) -> str:
        """Return a value as people read it; a dash for None and NaN."""
        if value is None or math.isnan(value):
            return "-"
        if self.unit == "%":
            return f"{value:.2%}"
        if self.prefixed:
            return si(value * self.factor, self.unit)
        return f"{value:.4g} {self.unit}".strip()


def metric(name: str, accuracy_is: str = "") -> Metric:
    """Return how a total of a report, or any other number of that name, is shown; `accuracy_is` as a study has it."""
    plain = _LABELS.get(name)
    if name == "accuracy" and accuracy_is:
        return Metric(name=name, label=f"{name} ({accuracy_is})", unit="%")
    if name in _SHARES:
        return Metric(name=name, label=name, unit="%")
    if name.endswith("_mm2"):
        return Metric(name=name, label=plain or _spaced(name.removesuffix("_mm2")), unit="mm²")
    for suffix, factor, unit in _UNITS:
        if name.endswith(suffix):
            label = plain or _spaced(name.removesuffix(suffix))
            return Metric(name=name, label=label, unit=unit, factor=factor, prefixed=True)
    return Metric(name=name, label=plain or _spaced(name), unit="", prefixed=name == "macs" or name.endswith("_cycles"))


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def cause(name: str) -> str:
    """Return what utilization is lost to, in words."""
    return "fill/drain" if name == "fill_drain" else _spaced(name)


def percent(share: float | None) -> str:
    """Return a share as a percentage with two to three digits; what is there is never shown as nothing."""
    if share is None:
        return "-"
    if 0 < share < 0.001:
        return "<0.1%"
    return f"{share:.0%}" if share >= 0.1 or share == 0 else f"{share:.1%}"


def probability(share: float) -> str:
    """Return a probability with two digits; what is not certain is never shown as certain."""
    if 0.995 <= share < 1:
        return ">0.99"
    return "<0.01" if 0 < share < 0.005 else f"{share:.2f}"


def for_batch(batch: float) -> str:
    """Return which samples a figure is for where it is not one: ` for the batch of 7`."""
    return f" for the batch of {batch:.0f}" if batch > 1 else ""


def shortened(name: str, limit: int = 28) -> str:
    """Return a name of at most `limit` characters; the end says more than the middle."""
    return name if len(name) <= limit else f"{name[: limit // 3 - 1]}…{name[-(limit - limit // 3) :]}"


def count(number: float, thing: str) -> str:
    """Return such as `1 layer`, `2 layers`."""
    return f"{number:,.0f} {thing}{'' if number == 1 else 's'}"
