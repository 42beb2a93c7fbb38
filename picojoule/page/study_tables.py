"""The tables of a study's page: its front, its trials, and those without values."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from picojoule.figures_trials import sort_trials
from picojoule.page.content import Cell, Column, Part, Row, Table, Text
from picojoule.page.figures import rounded
from picojoule.page.reading import Run
from picojoule.page.study_words import parameter_label, parameter_text, range_of
from picojoule.page.words import Metric, count, metric, probability
from picojoule.studies.results import StudyResult

MOST_TRIALS = 5_000
"""A study of more trials shows its front and an even sample of the rest, some `SAMPLE` together: what a browser lists at once."""
SAMPLE = 2_000
_MOST_FAILURES = 200
KINDS = ("front", "dominated", "violating", "proxy", "infeasible", "failed")


def kinds_of(study: StudyResult) -> NDArray[np.str_]:
    """Return for each trial which of `KINDS` it is."""
    t = sort_trials(study)
    masks = (t.front, t.beaten, t.violating, t.proxy, t.infeasible, t.failed)
    return np.select(masks, KINDS, "failed")


def chosen_trials(kinds: NDArray[np.str_]) -> NDArray[np.int64]:
    """Return which trials are listed and drawn: all, or the front (if longer, a sample of it) and an even sample of the rest."""
    if len(kinds) <= MOST_TRIALS:
        return np.arange(len(kinds))
    front, rest = np.flatnonzero(kinds == "front"), np.flatnonzero(kinds != "front")
    if len(front) > SAMPLE:
        front = front[np.linspace(0, len(front) - 1, SAMPLE).astype(np.int64)]
    left = min(len(rest), max(SAMPLE // 2, SAMPLE - len(front)))
    sample = rest[np.linspace(0, len(rest) - 1, left).astype(np.int64)]
    return np.sort(np.concatenate((front, sample)))


def evenly(rows: Sequence[Any], most: int = SAMPLE) -> Sequence[Any]:
    """Return all rows, or of too many an even choice, ends included."""
    if len(rows) <= most:
        return rows
    return [rows[i] for i in np.linspace(0, len(rows) - 1, most).astype(int).tolist()]


def _parameter_cell(value: Any) -> Cell:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return Cell(text=parameter_text(value), value=value if number else None)


def _columns_of(study: StudyResult) -> list[Column]:
    """Return the columns of parameters; those of numbers alone sort by size."""
    numeric = {
        k: all(isinstance(v, int | float) and not isinstance(v, bool) for v in study.columns[k])
        for k in study.spec.space
    }
    return [Column(title=parameter_label(k), numeric=numeric[k], about=k) for k in study.spec.space]


def _metric_cell(m: Metric, value: float | None) -> Cell:
    missing = value is None or not np.isfinite(value)
    return Cell(text=m.show(value), value=None if missing or value is None else rounded(value))


def front_table(study: StudyResult, runs: Mapping[int, Run], *, ranged: bool) -> Table:
    """Return a row per point of the front; those with a run in `runs` open it. `ranged`: the search came as far as ranges."""
    metrics = [metric(name, study.accuracy_is) for name in study.spec.metrics]
    columns = _columns_of(study)
    extra = [name for name in ("accuracy_test", "p_non_dominated") if any(r.get(name) is not None for r in study.front)]
    titles = {"accuracy_test": "accuracy on test", "p_non_dominated": "P(non-dominated)"}
    abouts = {
        "p_non_dominated": "probability that nothing beats it, technology constants sampled jointly over their ranges"
    }
    rows = []
    listed = evenly(study.front)
    for row in listed:
        number = int(row["number"])
        knee = "knee" if row.get("knee") else "-"
        cells = [Cell(text=str(number), value=number), Cell(text=knee, value=knee)]
        cells += [_parameter_cell(row.get(k)) for k in study.spec.space]
        cells += [_ranged_cell(m, row) for m in metrics]
        cells += [_extra_cell(name, row) for name in extra]
        rows.append(Row(cells=tuple(cells), opens=str(number) if number in runs else ""))
    best = metric(next(iter(study.spec.objectives))).label
    return Table(
        name="front",
        caption=f"{count(len(study.front), 'point')} that nothing beats, best {best} first"
        + (f" (an even choice of {len(rows):,}; pareto.csv holds all)" if len(rows) < len(study.front) else "")
        + " (ranges are not there yet: the study is unfinished)" * (not ranged),
        columns=(
            Column(title="trial", numeric=True),
            Column(title="knee", about="where more of one objective begins to cost most of the others"),
            *columns,
            *(Column(title=m.label, numeric=True, about=m.name) for m in metrics),
            *(Column(title=titles[n], numeric=True, about=abouts.get(n, "")) for n in extra),
        ),
        rows=tuple(rows),
        opens="point",
    )  # fmt: skip


def _ranged_cell(m: Metric, row: Mapping[str, Any]) -> Cell:
    value = row.get(m.name)
    cell = _metric_cell(m, value)
    pair = range_of(m.name, row)
    if pair is None:
        return cell
    return Cell(text=cell.text, value=cell.value, note=f"{m.show(pair[0])} to {m.show(pair[1])}")


def _extra_cell(name: str, row: Mapping[str, Any]) -> Cell:
    value = row.get(name)
    if value is None:
        return Cell(text="-")
    if name == "p_non_dominated":
        return Cell(text=probability(float(value)), value=float(value), bar=float(value))
    low, high = row.get("test_low"), row.get("test_high")
    between = f"{low:.2%} to {high:.2%}" if low is not None and high is not None else ""
    return Cell(text=f"{value:.2%}", value=float(value), note=between)


def trial_table(study: StudyResult, kinds: NDArray[np.str_], shown: NDArray[np.int64]) -> Table:
    """Return a row for each of the trials `shown`, of any kind."""
    metrics = [metric(name, study.accuracy_is) for name in study.spec.metrics]
    parameters = _columns_of(study)
    c = study.columns
    rows = []
    for i in shown.tolist():
        cells = [
            Cell(text=str(c["number"][i]), value=int(c["number"][i])),
            Cell(text=str(kinds[i])),
            Cell(text=str(c["fidelity"][i]) or "-"),
        ]
        cells += [_parameter_cell(c[k][i]) for k in study.spec.space]
        cells += [_metric_cell(m, float(c[m.name][i])) for m in metrics]
        cells.append(Cell(text=str(c["violated"][i]) or "-"))
        rows.append(Row(cells=tuple(cells), kind=str(kinds[i])))
    every = len(shown) == len(kinds)
    caption = f"All {len(kinds):,} trials" if every else (
        f"The front and an even sample of the rest: {len(shown):,} of {len(kinds):,} trials, here and in the drawing; "
        "trials.csv holds all"
    )  # fmt: skip
    return Table(
        name="trials",
        caption=caption,
        columns=(
            Column(title="trial", numeric=True),
            Column(title="is"),
            Column(title="fidelity"),
            *parameters,
            *(Column(title=m.label, numeric=True, about=m.name) for m in metrics),
            Column(title="violated"),
        ),
        rows=tuple(rows),
        kinds=tuple(k for k in KINDS if (kinds[shown] == k).any()),
    )


def failures(study: StudyResult, kinds: NDArray[np.str_]) -> tuple[Part, ...]:
    """Return the trials without values, with their messages; the first 200."""
    bad = np.flatnonzero((kinds == "failed") | (kinds == "infeasible"))
    if not bad.size:
        return (Text(text="Every trial has values."),)
    c = study.columns
    listed = bad[:_MOST_FAILURES]
    rows = tuple(
        Row(
            cells=(
                Cell(text=str(c["number"][i]), value=int(c["number"][i])),
                Cell(text=str(kinds[i])),
                Cell(text=", ".join(f"{parameter_label(k)} {parameter_text(c[k][i])}" for k in study.spec.space)),
                Cell(text=str(c["message"][i]) or "no message"),
            )
        )
        for i in listed.tolist()
    )
    columns = (
        Column(title="trial", numeric=True),
        Column(title="is"),
        Column(title="parameters"),
        Column(title="message"),
    )
    left = f"the first {len(listed):,} of {len(bad):,}" if len(listed) < len(bad) else "all"
    caption = f"Failed and infeasible trials ({left}); those that violate a constraint have values and stand above"
    return (Table(name="failures", caption=caption, columns=columns, rows=rows),)
