"""How well the SRAM formulas follow CACTI: their error on every row of the sweep, and on rows left out of the fit.

`cacti_sweep.csv` holds 66 macros computed with CACTI 7 (columns as named; one read/write port, one bank, 360 K). The fit is
the one behind `table_sram.py`: least squares of logarithms under a soft L1 norm of scale 0.05, each node and cell apart. A row
that is left out has the only macro of its capacity and width, so that its prediction is an interpolation or, at the ends (1 KiB,
4 MiB, 16 and 256 bits), an extrapolation. CACTI itself against silicon is another matter (`sram.model`).
"""

import csv
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from picojoule.sim.technology.sram import sram_access_ns, sram_area_mm2, sram_energy_pj, sram_leakage_mw
from picojoule.sim.technology.table_sram import SramCell

__all__ = ["SRAM_QUANTITIES", "cacti_sweep", "fit_family", "sram_fit_errors", "sram_fit_table", "sram_left_out_errors"]

Array = npt.NDArray[np.float64]
_Formula = Callable[[Array, Array, Array], Array]

SRAM_QUANTITIES: Mapping[str, str] = MappingProxyType(
    {"read": "read_pJ", "write": "write_pJ", "leakage": "leak_mW", "area": "area_mm2", "access": "access_ns"}
)
"""Quantity -> its column in the sweep."""

_SOFT_SCALE = 0.05


@cache
def cacti_sweep() -> Mapping[tuple[int, SramCell], Mapping[str, Array]]:
    """Return the sweep by (node nm, cell): `kib`, `bits` and the columns of `SRAM_QUANTITIES`, 11 rows each."""
    text = files("picojoule.sim.technology").joinpath("cacti_sweep.csv").read_text(encoding="utf-8")
    families: dict[tuple[int, SramCell], list[dict[str, str]]] = {}
    for row in csv.DictReader(text.splitlines()):
        families.setdefault((int(row["node_nm"]), SramCell(row["cell"].removeprefix("itrs-"))), []).append(row)
    return MappingProxyType(
        {
            family: {
                "kib": np.array([int(r["size_bytes"]) / 1024 for r in rows]),
                "bits": np.array([float(r["width_bits"]) for r in rows]),
                **{q: np.array([float(r[column]) for r in rows]) for q, column in SRAM_QUANTITIES.items()},
            }
            for family, rows in families.items()
        }
    )


def _access_energy(p: Array, capacity: Array, width: Array) -> Array:
    level = np.exp(p[0]) * capacity ** np.where(capacity < 1, p[1], p[2])
    return np.asarray(level * (1 - p[3] + p[3] * width))


def _linear(p: Array, capacity: Array, width: Array) -> Array:
    return np.asarray(np.exp(p[0]) * capacity)


def _access_time(p: Array, capacity: Array, width: Array) -> Array:
    return np.asarray(np.exp(p[0]) * (p[1] + (1 - p[1]) * np.sqrt(capacity)))


# The formulas of `sram.py` with their parameters: log of the value at 32 KiB and 64 bits, then the shape; where a fit starts.
_FORMULAS: Mapping[str, tuple[_Formula, tuple[float, ...]]] = MappingProxyType(
    {
        "read": (_access_energy, (0.7, 0.5, 0.2)),
        "write": (_access_energy, (0.5, 0.5, 0.7)),
        "leakage": (_linear, ()),
        "area": (_linear, ()),
        "access": (_access_time, (0.3,)),
    }
)


def fit_family(quantity: str, kib: Array, bits: Array, values: Array) -> Array:
    """Return the fitted parameters: the value at 32 KiB and 64 bits, then the shape (order as in `table_sram._shape`)."""
    from scipy.optimize import least_squares  # only here: pricing does not fit

    formula, start = _FORMULAS[quantity]
    log_values = np.log(values)

    def residuals(p: Array) -> Array:
        return np.asarray(np.log(np.maximum(formula(p, kib / 32, bits / 64), 1e-12)) - log_values)

    p = least_squares(residuals, [float(log_values.mean()), *start], loss="soft_l1", f_scale=_SOFT_SCALE).x
    return np.array([np.exp(p[0]), *p[1:]])


def _ours(quantity: str, node_nm: int, cell: SramCell, kib: Array, bits: Array) -> Array:
    if quantity in ("read", "write"):
        return sram_energy_pj(kib, bits, node_nm, cell, kind=quantity)
    function = {"leakage": sram_leakage_mw, "area": sram_area_mm2, "access": sram_access_ns}[quantity]
    return function(kib, node_nm, cell)


@cache
def sram_left_out_errors() -> Mapping[tuple[int, SramCell, str], Array]:
    """Return relative errors by (node, cell, quantity), each row predicted from a fit to the ten others; takes 2 s."""
    found = {}
    for (node, cell), rows in cacti_sweep().items():
        kib, bits = rows["kib"], rows["bits"]
        for quantity, (formula, _) in _FORMULAS.items():
            values, errors = rows[quantity], np.zeros(len(kib))
            for i in range(len(kib)):
                seen = np.arange(len(kib)) != i
                p = fit_family(quantity, kib[seen], bits[seen], values[seen])
                p[0] = np.log(p[0])
                errors[i] = (formula(p, kib[i : i + 1] / 32, bits[i : i + 1] / 64) / values[i : i + 1] - 1)[0]
            found[node, cell, quantity] = errors
    return MappingProxyType(found)


def sram_fit_errors() -> list[dict[str, Any]]:
    """Return a row per node, cell and quantity: errors in percent of the model in use and of rows left out of the fit.

    Keys: node_nm, cell, quantity, points, fit_median_pct, fit_worst_pct, left_out_median_pct, left_out_worst_pct, and
    `at` (capacity in KiB and port of the worst left-out row).
    """
    rows = []
    for (node, cell), data in cacti_sweep().items():
        for quantity in SRAM_QUANTITIES:
            ours = _ours(quantity, node, cell, data["kib"], data["bits"])
            fit = 100 * np.abs(ours / data[quantity] - 1)
            left_out = 100 * np.abs(sram_left_out_errors()[node, cell, quantity])
            worst = int(np.argmax(left_out))
            rows.append(
                {
                    "node_nm": node,
                    "cell": cell.value,
                    "quantity": quantity,
                    "points": len(fit),
                    "fit_median_pct": float(np.median(fit)),
                    "fit_worst_pct": float(fit.max()),
                    "left_out_median_pct": float(np.median(left_out)),
                    "left_out_worst_pct": float(left_out.max()),
                    "at": f"{data['kib'][worst]:g} KiB, {data['bits'][worst]:g} bits",
                }
            )
    return rows


def sram_fit_table() -> str:
    """Return `sram_fit_errors` as a Markdown table, for documents."""
    head = "| node nm | cell | quantity | fit: median, worst % | left out: median, worst % | worst at |\n"
    lines = [
        f"| {r['node_nm']} | {r['cell']} | {r['quantity']} | {r['fit_median_pct']:.1f}, {r['fit_worst_pct']:.1f} "
        f"| {r['left_out_median_pct']:.1f}, {r['left_out_worst_pct']:.1f} | {r['at']} |"
        for r in sram_fit_errors()
    ]
    return head + "| --- | --- | --- | --- | --- | --- |\n" + "\n".join(lines) + "\n"
