"""The row that every part of `picojoule validate` is made of."""

from typing import Any

Row = dict[str, Any]


def make_row(name: str, source: str, quantity: str, reference: float, ours: float, *, calibrated: bool = False) -> Row:
    """Return {name, source, quantity, reference, ours, error_pct, calibrated}; the error is a share of the reference."""
    return {
        "name": name,
        "source": source,
        "quantity": quantity,
        "reference": reference,
        "ours": ours,
        "error_pct": 100.0 * (ours - reference) / reference,
        "calibrated": calibrated,
    }
