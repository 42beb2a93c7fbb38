"""Which points nothing else beats: non-dominated sets of runs and studies, as tables and as a figure.

Runs, tables and studies that measure accuracy are points of accuracy against one cost. Studies that do not are compared by
their own objectives (`pareto_studies.py`).
"""

import csv
import io
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from picojoule.figures_axes import shown_as
from picojoule.fronts import non_dominated
from picojoule.sim.errors import InputError, nearest
from picojoule.sim.files import read_bounded, write_atomic
from picojoule.sim.report import rows_to_csv
from picojoule.sim.report_plots import new_axes, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from picojoule.studies.results import StudyResult

_LIMIT_BYTES = 32 << 20
_LIMIT_POINTS = 100_000
_COST = "energy_pj_per_sample"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Points of one kind as rows with `on_front`; `save` writes pareto.csv and figures; `note` says what was left out."""

    rows: Sequence[Mapping[str, Any]]
    save: Callable[[Path], None]
    note: str = ""


def compare_points(sources: Sequence[Path], x: str | None = None) -> Compared:
    """Return what nothing else beats among runs, CSV tables and studies.

    x: the total to make small against accuracy; by default energy per sample, or what a study minimizes first. Studies
    without accuracy as an objective are compared by their own objectives, and take no x. `save` also draws the attainment
    surfaces of two or more studies that share two objectives.

    Raises:
        InputError: as `collect_points`, and for studies of different objectives; InfeasibleError for a study that met no limit.

    """
    from picojoule.pareto_studies import compare_studies, save_attainment

    studies = {path: _study(path) for path in sources if is_study(path)}
    if (
        studies
        and len(studies) == len(set(sources))
        and not all("accuracy" in s.spec.objectives for s in studies.values())
    ):
        if x is not None:
            raise InputError(
                "--x is for accuracy against one cost; these studies are compared by their own objectives: leave it out"
            )
        return compare_studies(list(studies.values()))
    if x is None:
        cheap = [m for s in studies.values() for m, sense in s.spec.objectives.items() if sense == "min"]
        x = _COST if _COST in cheap or not cheap or len(studies) < len(sources) else cheap[0]
    points = collect_points(sources, x)

    def save_all(folder: Path) -> None:
        save_front(points, x, folder)
        save_attainment(list(studies.values()), folder)

    return Compared(rows=front_rows(points, x), save=save_all)


def is_study(path: Path) -> bool:
    """Return whether a path is the folder of a study."""
    return (path / "study.yaml").is_file()


def _study(path: Path) -> "StudyResult":
    from picojoule.figures_trials import why_empty
    from picojoule.studies.results import read_study

    result = read_study(path)
    if (reason := why_empty(result)) is not None:
        raise reason
    return result


def collect_points(runs: Sequence[Path], x: str) -> list[dict[str, Any]]:
    """Return points {run, target, accuracy, x} from runs (report.json), CSV tables such as the demo's, and studies.

    Of a study, those trials are points that were fully measured and are within its limits.

    Raises:
        InputError: for a missing or torn file, an unknown total, or a run without accuracy.

    """
    points: list[dict[str, Any]] = []
    for path in runs:
        if path.suffix == ".csv":
            points.extend(_from_table(path, x))
        elif (path / "results.csv").is_file():
            points.extend(_from_table(path / "results.csv", x))
        elif is_study(path):
            points.extend(_from_study(path, x))
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


def _from_study(path: Path, x: str) -> list[dict[str, Any]]:
    from picojoule.figures_trials import name_of, numeric_column, sort_trials, target_of

    result = _study(path)
    if "accuracy" not in result.columns:
        raise InputError(
            f"{path}: the study does not measure accuracy; give it alone, or with studies of the same objectives"
        )
    rows = np.flatnonzero(sort_trials(result).counted)
    if len(rows) > _LIMIT_POINTS:
        raise InputError(f"{path}: holds more than {_LIMIT_POINTS} points; give its pareto.csv")
    columns = (result.columns["number"], numeric_column(result, "accuracy"), numeric_column(result, x))
    points = []
    for number, accuracy, cost in zip(*(column[rows].tolist() for column in columns), strict=True):
        run = f"{name_of(result)}/{number:05d}"
        where = f"{path}: trial {number}"
        values = {"accuracy": accuracy, x: cost}
        points.append(
            {"run": run, "target": target_of(result)} | {key: _number(values, key, where) for key in ("accuracy", x)}
        )
    return points


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
    label, factor = shown_as(x).label, shown_as(x).factor
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
