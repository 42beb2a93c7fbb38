"""How a study's parameters and ranges are written."""

from collections.abc import Mapping
from typing import Any


def parameter_label(key: str) -> str:
    """Return a space key without its room: `rows` for `hardware.rows`."""
    return key.partition(".")[2] or key


def parameter_text(value: Any) -> str:
    """Return a parameter's value as people read it."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return "-" if value is None else str(value)


def range_of(name: str, row: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the range that pareto.csv gives for a metric of a front point, if any."""
    stem = {"accuracy": "accuracy", "energy_pj_per_sample": "energy", "energy_pj": "energy"}.get(name)
    low, high = row.get(f"{stem}_low"), row.get(f"{stem}_high")
    return None if low is None or high is None else (float(low), float(high))
