"""Which points nothing else beats: non-dominated sets of runs and studies, as tables and as a figure.

Runs and tables are points of accuracy against one cost (`pareto_sources.py`). Studies alone are compared by their own
objectives (`pareto_studies.py`).
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from picojoule.comparison import INCOMPLETE
from picojoule.figures_axes import scale_axis, shown_as
from picojoule.fronts import non_dominated
from picojoule.pareto_sources import gather, is_study, open_study
from picojoule.sim.errors import InputError
from picojoule.sim.files import write_atomic
from picojoule.sim.report import rows_to_csv
from picojoule.sim.report_plots import new_axes, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.table import Table

    from picojoule.studies.results import StudyResult

_COST = "energy_pj_per_sample"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Points of one kind as rows with `on_front`; `save` writes pareto.csv and figures; `note` says what was left out.

    `parameters` are the keys of the rows that are a study's parameters.
    """

    rows: Sequence[Mapping[str, Any]]
    save: Callable[[Path], None]
    note: str = ""
    parameters: tuple[str, ...] = ()

    def table(self, width: int = 120) -> "tuple[Table, str]":
        """Return the points as a terminal of `width` characters shows them, front first, and a note on what that leaves out."""
        from picojoule.pareto_tables import shown_points

        return shown_points(self.rows, self.parameters, width)


def compare_points(sources: Sequence[Path], x: str | None = None) -> Compared:
    """Return what nothing else beats among runs, CSV tables and studies; a source given twice counts once.

    Studies alone are compared by all their own objectives. With `x`, or beside runs and tables, points are accuracy against
    one cost only, which the note says.

    x: the total to set against accuracy, small is good unless a study wants it large; beside runs by default energy per
    sample, or the first objective that all the studies share where one of them lacks it. `save` also draws the attainment
    surfaces of two or more studies that share two objectives.

    Raises:
        InputError: as `gather`, and for studies of different objectives; InfeasibleError for a study that met no limit.

    """
    from picojoule.pareto_studies import compare_studies, save_attainment

    sources = list({os.path.realpath(path): path for path in sources}.values())
    studies = [open_study(path) for path in sources if is_study(path)]
    alone = bool(studies) and len(studies) == len(sources)
    if alone and x is not None and not all("accuracy" in s.columns for s in studies):
        raise InputError(
            "--x is for accuracy against one cost; these studies are compared by their own objectives: leave it out"
        )
    if alone and x is None:
        return compare_studies(studies)
    if x == "accuracy":
        raise InputError("--x is what accuracy is set against; give another total, such as energy_pj_per_sample")
    x = x or _default_cost(studies)
    sense = _sense(studies, x)
    found = gather(sources, x)
    notes = list(found.left_out)
    if studies:
        data = "validation" if alone else "test"
        notes.append(f"studies are compared by accuracy on {data} data and {x} ({sense}) only")

    def save_all(folder: Path) -> None:
        save_front(found.points, x, folder, sense)
        save_attainment(studies, folder)

    return Compared(rows=front_rows(found.points, x, sense), save=save_all, note="\n".join(notes))


def _default_cost(studies: Sequence["StudyResult"]) -> str:
    if all(_COST in study.columns for study in studies):
        return _COST
    costs = (m for m in studies[0].spec.objectives if m != "accuracy" and all(m in s.columns for s in studies))
    return next(costs, _COST)


def _sense(studies: Sequence["StudyResult"], x: str) -> str:
    """Return whether x is to be small or large, as the studies say; small where none does."""
    senses = {study.spec.objectives[x] for study in studies if x in study.spec.objectives}
    if len(senses) > 1:
        raise InputError(f"one study wants '{x}' small, another large; give studies of one kind")
    return senses.pop() if senses else "min"


def collect_points(sources: Sequence[Path], x: str) -> list[dict[str, Any]]:
    """Return the points {run, target, split where known, accuracy, x} of runs, tables and studies; see `gather`."""
    return gather(sources, x).points


def front_of(points: Sequence[Mapping[str, Any]], x: str, sense: str = "min") -> list[bool]:
    """Return for each point whether nothing beats it among the points of its own target; `sense` is that of x."""
    on_front = [False] * len(points)
    sign = _sign(sense)
    for target in dict.fromkeys(p["target"] for p in points):
        own = [i for i, p in enumerate(points) if p["target"] == target]
        costs = np.array([[sign * points[i][x], -points[i]["accuracy"]] for i in own], dtype=np.float64)
        for i, kept in zip(own, non_dominated(costs), strict=True):
            on_front[i] = bool(kept)
    return on_front


def _sign(sense: str) -> float:
    return -1.0 if sense == "max" else 1.0


def front_rows(points: Sequence[Mapping[str, Any]], x: str, sense: str = "min") -> list[dict[str, Any]]:
    """Return all points, best x first by target, with `on_front`."""
    rows = [{**p, "on_front": kept} for p, kept in zip(points, front_of(points, x, sense), strict=True)]
    return sorted(rows, key=lambda r: (r["target"], _sign(sense) * r[x], -r["accuracy"], r["run"]))


def plot_front(
    points: Sequence[Mapping[str, Any]],
    x: str,
    axes: "Axes | None" = None,
    *,
    names: bool = False,
    sense: str = "min",
) -> "Axes":
    """Draw accuracy against cost, dominated points hollow, the front of each target joined by steps.

    `names` writes each front point's run beside it. Runs that are INCOMPLETE are crossed out. A point's `interval`
    (low, high) is drawn as a thin bar. `sense` says whether x is to be small or large.
    """
    axes = axes or new_axes(8, 5.5)
    label, factor = shown_as(x).label, shown_as(x).factor
    kept = front_of(points, x, sense)
    targets = list(dict.fromkeys(p["target"] for p in points))
    for number, name in enumerate(targets):
        colour, marker = f"C{number}", "os^Dv"[number % 5]
        own = [
            (p[x] * factor, p["accuracy"] * 100, k, p["run"])
            for p, k in zip(points, kept, strict=True)
            if p["target"] == name
        ]
        beaten = [(a, b) for a, b, k, _ in own if not k]
        best = sorted(((a, b) for a, b, k, _ in own if k), key=lambda at: (_sign(sense) * at[0], at[1]))
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
    if torn := [p for p in points if str(p["run"]).endswith(INCOMPLETE)]:
        crosses = [p[x] * factor for p in torn], [p["accuracy"] * 100 for p in torn]
        axes.plot(*crosses, "x", color="red", markersize=11, label=f"INCOMPLETE: not all is priced ({len(torn)})")
    if all(p[x] > 0 for p in points):
        axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    scale_axis(axes, "x", np.array([p[x] * factor for p in points]))  # beyond a decade, fewer numbers
    axes.tick_params(axis="x", which="both", labelsize="small")
    axes.set_xlabel(label)
    splits = {str(p["split"]) for p in points if p.get("split")}
    axes.set_ylabel(f"accuracy on the hardware{f' ({splits.pop()})' if len(splits) == 1 else ''}, %")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize="small", title="hollow: dominated", title_fontsize="small")
    return axes


def save_front(points: Sequence[Mapping[str, Any]], x: str, folder: Path, sense: str = "min") -> None:
    """Write pareto.csv and pareto.png into `folder`."""
    write_atomic(folder / "pareto.csv", rows_to_csv(front_rows(points, x, sense)))
    axes = plot_front(points, x, sense=sense)
    axes.set_title("What accuracy costs" if sense == "min" else "What stands against accuracy")
    save(axes, folder / "pareto.png")
