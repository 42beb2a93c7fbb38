"""Which points nothing else beats: non-dominated sets of runs, as tables and as a figure."""

import csv
import io
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from picojoule.sim.errors import InputError, nearest
from picojoule.sim.files import read_bounded, write_atomic
from picojoule.sim.report import rows_to_csv
from picojoule.sim.report_plots import new_axes, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LIMIT_BYTES = 32 << 20
_LIMIT_POINTS = 100_000
_AXES = {  # total: label and factor from its own unit
    "energy_pj": ("energy, µJ", 1e-6),
    "energy_pj_per_sample": ("energy per sample, µJ", 1e-6),
    "latency_s": ("latency, ms", 1e3),
    "interval_s": ("time between results, ms", 1e3),
    "area_mm2": ("area, mm²", 1.0),
}


def non_dominated(costs: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which rows of `costs` [points, objectives], all to be small, no other row dominates.

    A row dominates another if it is nowhere worse and somewhere better; equal rows do not dominate each other. A row with a
    NaN is never on the front.
    """
    values = np.asarray(costs, dtype=np.float64)
    keep: NDArray[np.bool_] = np.zeros(len(values), dtype=np.bool_)
    usable = np.flatnonzero(~np.isnan(values).any(axis=1))
    points, inverse = np.unique(values[usable], axis=0, return_inverse=True)  # sorted: nothing is beaten by a later one
    keep[usable] = _best_of_sorted(points)[inverse.reshape(-1)]
    return keep


def _best_of_sorted(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which of different rows, sorted by their first column, no other row dominates."""
    best = np.zeros(len(points), dtype=np.bool_)
    if points.shape[1] == 2:  # one sweep: a row stays if it is better in the second column than all rows before it
        second = points[:, 1]
        best[:1] = True
        best[1:] = second[1:] < np.minimum.accumulate(second)[:-1]
        return best
    left = np.arange(len(points))
    while left.size:  # fronts are short, so each round drops most of what is left
        best[left[0]] = True
        left = left[(points[left] < points[left[0]]).any(axis=1)]
    return best


def collect_points(runs: Sequence[Path], x: str) -> list[dict[str, Any]]:
    """Return points {run, target, accuracy, x} from run folders (report.json) and CSV tables such as the demo's.

    Raises:
        InputError: for a missing or torn file, an unknown total, or a run without accuracy.

    """
    points: list[dict[str, Any]] = []
    for path in runs:
        if path.suffix == ".csv":
            points.extend(_from_table(path, x))
        elif (path / "results.csv").is_file():
            points.extend(_from_table(path / "results.csv", x))
        else:
            points.append(_from_report(path, x))
    if not points:
        given = ", ".join(str(p) for p in runs) or "nothing was given"
        raise InputError(
            f"no points to compare ({given}); give folders made with `evaluate --accuracy --out`, or a CSV of results"
        )
    return points


def _from_report(folder: Path, x: str) -> dict[str, Any]:
    path = folder / "report.json" if folder.is_dir() or not folder.suffix else folder
    try:
        document = json.loads(read_bounded(path, _LIMIT_BYTES, "a report.json of `evaluate --out`"))
        totals, accuracy, name = dict(document["totals"]), document["accuracy"], str(document["hardware"]["name"])
        reached = None if accuracy is None else _number(dict(accuracy), "hardware", f"{path}: accuracy")
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InputError(f"{path}: not a report of picojoule (torn or edited?); run `evaluate --out` again") from None
    if reached is None:
        raise InputError(f"{path}: holds no accuracy; run `evaluate` with --accuracy --data")
    return {"run": folder.name, "target": name, "accuracy": reached, x: _number(totals, x, str(path))}


def _from_table(path: Path, x: str) -> list[dict[str, Any]]:
    try:
        text = read_bounded(path, _LIMIT_BYTES, "a CSV table of results").decode()
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text; expected a CSV table of results") from None
    points = []
    table = csv.DictReader(io.StringIO(text, newline=""))
    try:
        rows = [(table.line_num, row) for row in itertools.islice(table, _LIMIT_POINTS + 1)]
    except csv.Error as error:
        raise InputError(f"{path}:{table.line_num}: not a CSV table of results ({error})") from None
    if len(rows) > _LIMIT_POINTS:
        raise InputError(f"{path}: holds more than {_LIMIT_POINTS} points; give a part of them")
    for line, row in rows:
        where = f"{path}:{line}"
        accuracy = _number(row, "accuracy_hardware" if "accuracy_hardware" in row else "accuracy", where)
        name = row.get("variant") or row.get("run") or f"line {line}"
        points.append({"run": name, "target": row.get("target") or "", "accuracy": accuracy, x: _number(row, x, where)})
    return points


def _number(values: Mapping[str, Any], key: str, where: str) -> float:
    if key not in values:
        raise InputError(f"{where}: has no '{key}'{nearest(key, [str(k) for k in values])}")
    try:
        number = float(values[key])
    except (TypeError, ValueError):
        raise InputError(f"{where}: '{key}' must be a number, got {values[key]!r}") from None
    if not np.isfinite(number):
        raise InputError(f"{where}: '{key}' must be finite, got {number}")
    return number


def front_of(points: Sequence[Mapping[str, Any]], x: str) -> list[bool]:
    """Return for each point whether nothing beats it among the points of its own target."""
    on_front = [False] * len(points)
    for target in dict.fromkeys(p["target"] for p in points):
        own = [i for i, p in enumerate(points) if p["target"] == target]
        costs = np.array([[points[i][x], -points[i]["accuracy"]] for i in own], dtype=np.float64)
        for i, kept in zip(own, non_dominated(costs), strict=True):
            on_front[i] = bool(kept)
    return on_front


def front_rows(points: Sequence[Mapping[str, Any]], x: str) -> list[dict[str, Any]]:
    """Return all points, cheapest first by target, with `on_front`."""
    rows = [{**p, "on_front": kept} for p, kept in zip(points, front_of(points, x), strict=True)]
    return sorted(rows, key=lambda r: (r["target"], r[x], -r["accuracy"], r["run"]))


def plot_front(
    points: Sequence[Mapping[str, Any]], x: str, axes: "Axes | None" = None, *, names: bool = False
) -> "Axes":
    """Draw accuracy against cost, dominated points hollow, the front of each target joined by steps.

    `names` writes each front point's run beside it. A point's `interval` (low, high) is drawn as a thin bar.
    """
    axes = axes or new_axes(8, 5.5)
    label, factor = _AXES.get(x, (x.replace("_", " "), 1.0))
    kept = front_of(points, x)
    targets = list(dict.fromkeys(p["target"] for p in points))
    for number, name in enumerate(targets):
        colour, marker = f"C{number}", "os^Dv"[number % 5]
        own = [
            (p[x] * factor, p["accuracy"] * 100, k, p["run"])
            for p, k in zip(points, kept, strict=True)
            if p["target"] == name
        ]
        beaten = [(a, b) for a, b, k, _ in own if not k]
        best = sorted((a, b) for a, b, k, _ in own if k)
        for a, b, _, run in (point for point in own if names and point[2]):
            axes.annotate(
                str(run), (a, b), textcoords="offset points", xytext=(4, -9), fontsize="x-small", color=colour
            )
        for point in (p for p, k in zip(points, kept, strict=True) if k and p["target"] == name and "interval" in p):
            low, high = point["interval"]
            axes.plot([point[x] * factor] * 2, [low * 100, high * 100], color=colour, alpha=0.25, linewidth=3)
        if beaten:
            xs, ys = zip(*beaten, strict=True)
            axes.plot(xs, ys, marker, color=colour, fillstyle="none", alpha=0.45, markersize=5)
        if best:
            legend = f"{name or 'runs'}: front ({len(best)} of {len(own)})"
            axes.step(*zip(*best, strict=True), where="post", color=colour, marker=marker, label=legend)
    if all(p[x] > 0 for p in points):
        axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.tick_params(axis="x", which="both", labelsize="small")
    axes.set_xlabel(label)
    axes.set_ylabel("accuracy on the hardware, %")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize="small", title="hollow: dominated", title_fontsize="small")
    return axes


def save_front(points: Sequence[Mapping[str, Any]], x: str, folder: Path) -> None:
    """Write pareto.csv and pareto.png into `folder`."""
    write_atomic(folder / "pareto.csv", rows_to_csv(front_rows(points, x)))
    axes = plot_front(points, x)
    axes.set_title("What accuracy costs")
    save(axes, folder / "pareto.png")
