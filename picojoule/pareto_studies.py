"""Studies compared by their own objectives: which trials nothing else beats, and how far several seeds agree."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from picojoule.comparison import short_names
from picojoule.figures_axes import legend_beside, scale_axis, shown_as
from picojoule.figures_trials import costs_of, name_of, number_of, pair_of, same_objectives, sort_trials, target_of
from picojoule.fronts import non_dominated
from picojoule.pareto import Compared
from picojoule.sim.files import write_atomic
from picojoule.sim.report import rows_to_csv
from picojoule.sim.report_plots import new_axes, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from picojoule.studies.results import StudyResult

_MOST_ROWS = 10_000
_LAST = ("on_front", "p_non_dominated")


def compare_studies(results: Sequence["StudyResult"]) -> Compared:
    """Return the trials of studies that share their objectives, and which of them nothing beats on the same hardware.

    Rows hold `study, target, number`, parameters, objectives, `split` (accuracy is that of validation data, or of trained
    points), `on_front`
    and `p_non_dominated` (within its own study), best first objective first. Of a study with more than 10,000 trials that
    count only its front is listed.

    Raises:
        InputError: if their objectives differ; the difference is named.

    """
    same_objectives(results)
    fronts = joint_fronts(results)
    names = names_of(results)
    rows: list[tuple[Any, ...]] = []
    short = []
    for result, name, front in zip(results, names, fronts, strict=True):
        trials = sort_trials(result)
        listed = np.flatnonzero(trials.counted)
        if listed.size > _MOST_ROWS:
            short.append(f"{name} ({listed.size:,} trials)")
            listed = np.flatnonzero(trials.front)
        costs = costs_of(result)
        rows.extend(
            ((target_of(result), *costs[i], name, int(i)), row)
            for i, row in zip(listed, _rows(result, name, listed, front), strict=True)
        )
    note = f"only the front is listed of {', '.join(short)}; the rest is in trials.csv" if short else ""
    made = [row for _, row in sorted(rows, key=lambda pair: pair[0])]
    keys = dict.fromkeys(key for row in made for key in row if key not in _LAST)
    whole = [{key: row.get(key) for key in (*keys, *_LAST)} for row in made]

    def save_all(folder: Path) -> None:
        write_atomic(folder / "pareto.csv", rows_to_csv(whole))
        axes = plot_studies(results)
        axes.set_title("What nothing beats")
        save(axes, folder / "pareto.png")
        save_attainment(results, folder)

    parameters = tuple(dict.fromkeys(key for result in results for key in result.spec.space))
    return Compared(rows=whole, save=save_all, note=note, parameters=parameters)


def names_of(results: Sequence["StudyResult"]) -> list[str]:
    """Return what studies are called: their folders, with those above where the names are equal."""
    if all(result.folder for result in results):
        return short_names([result.folder for result in results if result.folder])
    return [name_of(result) for result in results]


def joint_fronts(results: Sequence["StudyResult"]) -> list[NDArray[np.bool_]]:
    """Return for each study which trials of its front [trials] no other study on the same hardware beats."""
    own = [sort_trials(result).front for result in results]
    kept = [mask.copy() for mask in own]
    for target in dict.fromkeys(map(target_of, results)):
        members = [i for i, result in enumerate(results) if target_of(result) == target]
        best = non_dominated(np.concatenate([costs_of(results[i])[own[i]] for i in members]))
        for i, part in zip(members, np.split(best, np.cumsum([own[i].sum() for i in members])[:-1]), strict=True):
            kept[i][own[i]] = part
    return kept


def _rows(result: "StudyResult", name: str, listed: NDArray[np.intp], front: NDArray[np.bool_]) -> list[dict[str, Any]]:
    share = {int(row["number"]): row.get("p_non_dominated") for row in result.front}
    named = {
        key: result.columns[key][listed].tolist() for key in ("number", *result.spec.space, *result.spec.objectives)
    }
    made = []
    for kept, *values in zip(front[listed].tolist(), *named.values(), strict=True):
        row = {"study": name, "target": target_of(result), **dict(zip(named, values, strict=True))}
        if "accuracy" in result.spec.objectives:
            row["split"] = result.accuracy_is or "val"
        made.append(row | {"on_front": kept, "p_non_dominated": share.get(row["number"])})
    return made


def plot_studies(results: Sequence["StudyResult"]) -> "Axes":
    """Draw one study as `figures_front.plot_front`, several with their fronts side by side in the first two objectives."""
    from picojoule.figures_front import plot_front

    if len(results) == 1:
        return plot_front(results[0])
    axes = new_axes(9, 5)
    senses = results[0].spec.objectives
    if len(senses) < 2:
        x, y = "number", next(iter(senses))
    else:
        x, y = pair_of(senses)
    shown_x, shown_y = shown_as(x, results[0].accuracy_is), shown_as(y, results[0].accuracy_is)
    drawn_x, drawn_y = [], []
    for number, (result, name) in enumerate(zip(results, names_of(results), strict=True)):
        front = np.flatnonzero(sort_trials(result).front)
        if x in senses:  # the staircase of the two objectives drawn, best x first
            best = front[non_dominated(costs_of(result, [x, y])[front])]
            front = best[np.lexsort(costs_of(result, [y, x])[best].T)]
        xs = number_of(result.columns[x])[front] * shown_x.factor
        ys = number_of(result.columns[y])[front] * shown_y.factor
        style = {"color": f"C{number % 10}", "marker": "os^Dv"[number % 5], "markersize": 5}
        label = f"{name} on {target_of(result)}: {front.size:,} of {len(result.columns['number']):,}"
        axes.step(xs, ys, where="post", label=label, linestyle=("-", "--", ":", "-.")[number % 4], **style)
        drawn_x.append(xs)
        drawn_y.append(ys)
    scale_axis(axes, "x", np.concatenate(drawn_x))
    scale_axis(axes, "y", np.concatenate(drawn_y))
    axes.set_xlabel(shown_x.label)
    axes.set_ylabel(shown_y.label)
    axes.grid(alpha=0.3)
    legend_beside(axes, title="front")
    return axes


def save_attainment(results: Sequence["StudyResult"], folder: Path) -> None:
    """Write attainment.png where there are several studies that share two objectives; else nothing."""
    from picojoule.figures_progress import plot_attainment

    kinds = {tuple(result.spec.objectives.items()) for result in results}
    if len(results) > 1 and len(kinds) == 1 and len(results[0].spec.objectives) == 2:
        axes = plot_attainment(results)
        axes.set_title("What the studies attain")
        save(axes, folder / "attainment.png")
