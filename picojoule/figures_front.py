"""The front of a study as a figure: what is best, what it beats, and what does not count."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from picojoule.figures_axes import Shown, legend_beside, scale_axis, shown_as
from picojoule.figures_trials import (
    Trials,
    costs_of,
    name_of,
    number_of,
    numeric_column,
    pair_of,
    sort_trials,
    subject_of,
)
from picojoule.fronts import non_dominated
from picojoule.sim.errors import InputError
from picojoule.sim.report_plots import new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from picojoule.studies.results import StudyResult

_MOST_DRAWN = 5_000
_GREYS: dict[str, dict[str, Any]] = {  # kind: how its marks look; all grey, told apart by shape
    "beaten": {"marker": "o", "fillstyle": "none", "color": "0.55", "alpha": 0.7},
    "violating": {"marker": "v", "fillstyle": "none", "color": "0.65", "alpha": 0.7},
    "proxy": {"marker": "x", "color": "0.65", "alpha": 0.7},
}
_WORDS = {"beaten": "dominated", "violating": "outside a limit", "proxy": "proxy only"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """The two columns drawn, in units of the axes [trials], and how each is shown."""

    x: str
    y: str
    xs: NDArray[np.float64]
    ys: NDArray[np.float64]
    shown_x: Shown
    shown_y: Shown

    @property
    def drawable(self) -> NDArray[np.bool_]:
        return np.isfinite(self.xs) & np.isfinite(self.ys)


def plot_front(
    result: "StudyResult",
    x: str | None = None,
    y: str | None = None,
    axes: "Axes | None" = None,
    *,
    names: bool = False,
) -> "Axes":
    """Draw two columns of a study's trials: its front, and in grey what does not stand on it.

    The default is the first two objectives, the one to be small along x; with one objective, the trial's number against it.
    Steps join the points that nothing beats in the two objectives drawn: behind a step lies what the front dominates.
    With three objectives or more, all points of the front are filled and their size shows the first objective not on an axis.
    Thin bars are the intervals in pareto.csv (accuracy: 95 %; energy: 90 % of sampled technology constants). `names` writes the
    front points' trials beside them, where two would not overlap. Of more than 5,000 trials of a kind a seeded sample is
    drawn, and the legend says so.

    Raises:
        InputError: for an unknown column, or one without numbers.

    """
    axes = axes or new_axes(9, 5)
    trials = sort_trials(result)
    pair = _choose(result, x, y)
    for kind in ("proxy", "violating", "beaten"):
        _draw_grey(axes, pair, kind, getattr(trials, kind))
    _draw_front(axes, result, pair, trials)
    _draw_limits(axes, result, pair)
    front = np.flatnonzero(trials.front & pair.drawable)
    numbers = number_of(result.columns["number"])
    knees = [row["number"] for row in result.front if str(row.get("knee")).lower() in ("true", "1")]
    for k in (k for k in front.tolist() if numbers[k] in knees):
        axes.plot(pair.xs[k], pair.ys[k], "o", markersize=13, fillstyle="none", color="black")
        senses = result.spec.objectives  # what is better than the front is empty, so there is room for a word
        beside = 9 if senses.get(pair.x) == "max" else -36, 8 if senses.get(pair.y) == "max" else -15
        _write(axes, pair, k, "knee", beside)
    shown = trials.measured & pair.drawable
    scale_axis(axes, "x", pair.xs[shown])
    scale_axis(axes, "y", pair.ys[shown])
    for i in _apart(axes, pair, front) if names else ():
        _write(axes, pair, i, f"{numbers[i]:.0f}", (4, -10))
    axes.set_xlabel(pair.shown_x.label)
    axes.set_ylabel(pair.shown_y.label)
    axes.grid(alpha=0.3)
    left_out = [
        f"{what}: {count:,} (not drawn)"
        for what, count in (("infeasible", trials.infeasible.sum()), ("failed", trials.failed.sum()))
        if count
    ]
    legend_beside(axes, title=f"{subject_of(result)}: {len(trials.front):,} trials", extra=left_out)
    return axes


def _choose(result: "StudyResult", x: str | None, y: str | None) -> _Pair:
    """Return the columns to draw: those asked for, else objectives not taken yet, in order."""
    senses = result.spec.objectives
    free = [m for m in senses if m not in (x, y)]
    if x is None and y is None and len(free) > 1:
        x, y = pair_of(senses)
    elif y is None and free:
        y = free.pop(0)
    x = x or (free[0] if free and y in senses else "number")
    y = y or "number"
    if x == y:
        raise InputError(f"{name_of(result)}: a figure needs two different columns, got '{x}' twice")
    shown_x, shown_y = shown_as(x, result.accuracy_is), shown_as(y, result.accuracy_is)
    xs = numeric_column(result, x) * shown_x.factor
    ys = numeric_column(result, y) * shown_y.factor
    return _Pair(x=x, y=y, xs=xs, ys=ys, shown_x=shown_x, shown_y=shown_y)


def _draw_grey(axes: "Axes", pair: _Pair, kind: str, mask: NDArray[np.bool_]) -> None:
    rows = np.flatnonzero(mask & pair.drawable)
    if not rows.size:
        return
    label = f"{_WORDS[kind]} ({rows.size:,})"
    if rows.size > _MOST_DRAWN:
        label = f"{_WORDS[kind]} ({rows.size:,}; a sample of {_MOST_DRAWN:,})"
        rows = np.sort(np.random.default_rng(0).choice(rows, _MOST_DRAWN, replace=False))
    axes.plot(
        pair.xs[rows],
        pair.ys[rows],
        linestyle="none",
        label=label,
        markersize=4 if rows.size <= 1000 else 2.5,
        zorder=1.5,
        **_GREYS[kind],
    )


def _draw_front(axes: "Axes", result: "StudyResult", pair: _Pair, trials: Trials) -> None:
    senses = result.spec.objectives
    front = np.flatnonzero(trials.front & pair.drawable)
    others = [m for m in senses if m not in (pair.x, pair.y)]
    if not front.size:
        axes.plot([], [], "o-", color="C0", label="front: empty")
        return
    _draw_ranges(axes, result, pair, front)
    joined = pair.x in senses and pair.y in senses
    if not joined or others:
        label = (
            f"front ({front.size:,})" if len(senses) < 3 else f"front in all {len(senses)} objectives ({front.size:,})"
        )
        sizes = _sizes(result, others[0], front) if others else 36.0
        axes.scatter(pair.xs[front], pair.ys[front], s=sizes, color="C0", label=label, zorder=3, edgecolor="white")
        if others:
            _size_legend(axes, result, others[0], front)
    if joined:
        costs = costs_of(result, [pair.x, pair.y])[front]
        best = front[non_dominated(costs)]
        # best x first: walking on, y stays until the next point is reached, whichever way the axis runs
        order = best[np.lexsort(costs_of(result, [pair.y, pair.x])[best].T)]
        if others and order.size < 2:  # the filled mark shows it already
            return
        marker, label = ("", f"best in these two ({order.size:,})") if others else ("o", f"front ({order.size:,})")
        style = {"color": "C0", "marker": marker, "markersize": 5 if order.size <= 200 else 3}
        axes.step(pair.xs[order], pair.ys[order], where="post", label=label, zorder=2.5, **style)


def _sizes(result: "StudyResult", metric: str, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return areas of marks [rows], points^2, even in the metric between its least and largest value."""
    values = number_of(result.columns[metric])[rows]
    span = float(values.max() - values.min())
    share = (values - values.min()) / span if span > 0 else np.full(len(rows), 0.5)
    sizes: NDArray[np.float64] = 16 + 144 * share
    return sizes


def _size_legend(axes: "Axes", result: "StudyResult", metric: str, rows: NDArray[np.intp]) -> None:
    values, sizes = number_of(result.columns[metric])[rows], _sizes(result, metric, rows)
    shown = shown_as(metric)
    ends = dict.fromkeys([int(values.argmin()), int(values.argmax())])
    for i in ends:
        axes.scatter(
            [], [], s=sizes[i], color="C0", edgecolor="white", label=f"size: {shown.words} {shown.text(values[i])}"
        )


def _draw_ranges(axes: "Axes", result: "StudyResult", pair: _Pair, front: NDArray[np.intp]) -> None:
    """Draw the intervals that pareto.csv holds for the metrics on the axes; the legend says what they are and of which points."""
    row_of = {float(n): i for i, n in zip(front, number_of(result.columns["number"])[front], strict=True)}
    places = [(row, row_of[float(row["number"])]) for row in result.front if float(row["number"]) in row_of]
    for metric, shown, across in ((pair.x, pair.shown_x, False), (pair.y, pair.shown_y, True)):
        found = [(ends, i) for row, i in places if (ends := _ends(row, metric, shown, result.spec.batch))]
        measured = "interval of the points" if result.accuracy_is else "95 % interval"
        meaning = measured if metric == "accuracy" else "90 % of sampled constants"
        which = "" if len(found) == len(front) else f" ({len(found):,} of {len(front):,} points have one)"
        for k, (ends, i) in enumerate(found):
            at = ([pair.xs[i]] * 2, ends) if across else (ends, [pair.ys[i]] * 2)
            label = None if k else f"bars of {shown_as(metric).words}: {meaning}{which}"
            axes.plot(*at, color="C0", alpha=0.3, linewidth=2, zorder=2, label=label)


def _ends(row: Any, metric: str, shown: Shown, batch: int) -> list[float] | None:
    stem = "energy" if metric in ("energy_pj", "energy_pj_per_sample") else metric
    factor = shown.factor * (batch if metric == "energy_pj" else 1)  # pareto.csv has the range per sample
    ends = [number_of(np.array([row.get(f"{stem}_{end}")], dtype=object))[0] * factor for end in ("low", "high")]
    return [float(v) for v in ends] if np.isfinite(ends).all() else None


def _draw_limits(axes: "Axes", result: "StudyResult", pair: _Pair) -> None:
    for metric, shown, line in ((pair.x, pair.shown_x, axes.axvline), (pair.y, pair.shown_y, axes.axhline)):
        limits = result.spec.constraints.get(metric)
        for bound, sign in ((limits.min, "≥"), (limits.max, "≤")) if limits else ():
            if bound is not None:
                label = f"limit: {shown.words} {sign} {shown.text(bound)}"
                line(bound * shown.factor, color="0.3", linestyle="--", linewidth=1, label=label)


def _apart(axes: "Axes", pair: _Pair, rows: NDArray[np.intp]) -> list[int]:
    """Return the rows to name: those at least 24 dots to the side or 12 up from all named before, so that none overlap."""
    dots = axes.transData.transform(np.stack([pair.xs[rows], pair.ys[rows]], axis=1))
    named: list[int] = []
    for i, at in enumerate(dots):
        if all(abs(at[0] - dots[j][0]) > 24 or abs(at[1] - dots[j][1]) > 12 for j in named):
            named.append(i)
    return [int(rows[i]) for i in named]


def _write(axes: "Axes", pair: _Pair, row: int, text: str, offset: tuple[int, int]) -> None:
    axes.annotate(
        text,
        (pair.xs[row], pair.ys[row]),
        textcoords="offset points",
        xytext=offset,
        fontsize="small" if text == "knee" else "x-small",
    )
