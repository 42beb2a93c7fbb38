"""How a search went: its hypervolume trial by trial, and what several seeds of it attain."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from picojoule.figures_axes import legend_beside, scale_axis, shown_as
from picojoule.figures_trials import costs_of, name_of, pair_of, same_objectives, signed, sort_trials, subject_of
from picojoule.fronts import attainment, hypervolume_history, non_dominated, reference_point
from picojoule.sim.errors import InputError
from picojoule.sim.report_plots import new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from picojoule.studies.results import StudyResult


def plot_hypervolume(results: "StudyResult | Sequence[StudyResult]", axes: "Axes | None" = None) -> "Axes":
    """Draw the hypervolume after each trial, as a share of the largest reached; several studies with their median.

    Only trials that are fully measured and within the limits add to it. The reference point is the same for all studies (see
    `fronts.reference_point`) and stands in the legend. The median reaches as far as the shortest study.

    Raises:
        InputError: for studies of different objectives, no trial that counts, or more than six objectives.

    """
    from matplotlib.ticker import MaxNLocator

    studies = list(results) if isinstance(results, Sequence) else [results]
    senses = same_objectives(studies)
    costs = [costs_of(study, keep=sort_trials(study).counted) for study in studies]
    together = np.concatenate(costs)
    if np.isnan(together).any(axis=1).all():
        raise InputError(f"{', '.join(map(name_of, studies))}: no trial counts, so there is no hypervolume to draw")
    reference = reference_point(together)
    histories = [_history(rows, reference) for rows in costs]
    largest = max(float(h[-1]) for h in histories if h.size)
    axes = axes or new_axes(9, 4.5)
    for number, (study, history) in enumerate(zip(studies, histories, strict=True)):
        label = f"{name_of(study) if len(studies) > 1 else subject_of(study)} ({len(history):,} trials)"
        width = 2.0 if len(studies) == 1 else 0.9
        _draw_history(axes, history / largest, label, color=f"C{number % 10}", linewidth=width)
    if len(studies) > 1:
        shortest = min(len(h) for h in histories)
        middle = np.median([h[:shortest] for h in histories], axis=0) / largest
        _draw_history(axes, middle, f"median of {len(studies)}", color="black", linewidth=2.2)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel("trials told")
    axes.set_ylabel(f"hypervolume, % of the {'best' if len(studies) > 1 else 'last'}")
    axes.set_ylim(0, 103)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    corner = [
        f"  {shown_as(m).words} {shown_as(m).text(float(signed(value, sense)))}"
        for (m, sense), value in zip(senses.items(), reference, strict=True)
    ]
    legend_beside(axes, extra=["reference point:", *corner])
    return axes


def _history(costs: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the hypervolume after each row of costs [trials, objectives]; a million rows take a second or two."""
    rows = _unbeaten_before(costs)
    history = np.zeros(len(costs))
    history[rows] = hypervolume_history(costs[rows], reference)
    return np.maximum.accumulate(history)


def _unbeaten_before(costs: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return, in order, rows that may add volume: most rows for which an earlier one is nowhere worse are left out."""
    rows = np.flatnonzero(~np.isnan(costs).any(axis=1))
    kept, front, start, size = [], costs[:0], 0, 1024
    while start < len(rows):  # each block is as long as all before it, so their front weeds out most of it
        block = rows[start : start + size]
        spread = np.ptp(front, axis=0) if len(front) else np.ones(costs.shape[1])
        for point in front[np.argsort((front / np.where(spread > 0, spread, 1.0)).sum(axis=1))]:  # the strongest first
            block = block[(costs[block] < point).any(axis=1)]
        kept.append(block)
        front = np.concatenate([front, costs[block]])
        front = front[non_dominated(front)]
        start, size = start + size, 2 * size
    return np.concatenate(kept) if kept else rows


def _draw_history(axes: "Axes", history: NDArray[np.float64], label: str, *, color: str, linewidth: float) -> None:
    """Draw a history [trials] as a step where it rises; a long flat stretch is two points, not a million."""
    rises = np.flatnonzero(np.diff(history, prepend=0.0) > 0)
    xs = np.concatenate([[0], rises + 1, [len(history)]])
    ys = np.concatenate([[0.0], history[rises], history[-1:] if history.size else [0.0]]) * 100
    axes.step(xs, ys, where="post", label=label, color=color, linewidth=linewidth)


def plot_attainment(results: Sequence["StudyResult"], axes: "Axes | None" = None) -> "Axes":
    """Draw what the best, the median and the worst of several studies attain in their two objectives, shaded between.

    The surfaces run out to the bad ends of the axes: what lies behind a corner is attained too. A study attains what
    a trial of its front is nowhere worse than (Fonseca and Fleming 1996); the best surface is attained by at least one study,
    the worst by all that have a front. Studies without one count: the worst is then missing.

    Raises:
        InputError: for other than two objectives, different objectives (the difference is named), or no front at all.

    """
    studies = list(results)
    senses = same_objectives(studies)
    if len(senses) != 2:
        raise InputError(
            f"an attainment surface needs two objectives, the studies have {len(senses)}: {', '.join(senses)}"
        )
    x, y = pair_of(senses)
    return draw_attainment([(costs_of(s, [x, y], sort_trials(s).counted)) for s in studies], x, y, senses, axes)


def draw_attainment(
    fronts: Sequence[NDArray[np.float64]], x: str, y: str, senses: dict[str, str], axes: "Axes | None" = None
) -> "Axes":
    """Draw attainment surfaces of costs [points, 2] per study, in the order x, y and small is good (NaN: no point)."""
    shown_x, shown_y = shown_as(x), shown_as(y)
    levels = {"best": 1, "median": -(-len(fronts) // 2), "worst": len(fronts)}
    corners = {word: attainment(fronts, level) for word, level in levels.items()}
    if not len(corners["best"]):
        raise InputError("no study has a front, so nothing is attained; see why with `picojoule pareto STUDY`")
    axes = axes or new_axes(9, 5)

    def drawn(costs: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return signed(costs[:, 0], senses[x]) * shown_x.factor, signed(costs[:, 1], senses[y]) * shown_y.factor

    everything = np.concatenate([*corners.values()])
    xs, ys = drawn(everything)
    scale_axis(axes, "x", xs)
    scale_axis(axes, "y", ys)
    styles = {"best": ("C0", "--"), "median": ("black", "-"), "worst": ("C1", ":")}
    shown = [w for w in corners if w != "median" or levels[w] not in (levels["best"], levels["worst"])]
    for word in shown:
        surface = corners[word]
        count = f"at least {levels[word]} of {len(fronts)}" if levels[word] < len(fronts) else f"all {len(fronts)}"
        color, line = styles[word]
        label = f"{word}: {count}" + ("" if len(surface) else " (nothing)")
        style: dict[str, Any] = {"color": color, "linestyle": line, "linewidth": 1.8}
        axes.step(*drawn(surface), where="post", label=label, marker="o", markersize=4, **style)
    axes.margins(0.1)  # room for the surfaces to run out to the bad ends
    far_x, far_y = _bad_ends(axes, senses[x], senses[y])
    for word in shown:
        color, line = styles[word]
        xs, ys = drawn(corners[word])
        if xs.size:
            ends = [xs[0], xs[0], np.nan, xs[-1], far_x], [far_y, ys[0], np.nan, ys[-1], ys[-1]]
            axes.plot(*ends, color=color, linestyle=line, linewidth=1.8, label=f"_{word}")
    _shade(axes, drawn(corners["best"]), drawn(corners["worst"]), far_x, far_y)
    axes.set_xlabel(shown_x.label)
    axes.set_ylabel(shown_y.label)
    axes.grid(alpha=0.3)
    legend_beside(axes, title=f"attained by, of {len(fronts)} studies")
    return axes


Points = tuple[NDArray[np.float64], NDArray[np.float64]]


def _bad_ends(axes: "Axes", sense_x: str, sense_y: str) -> tuple[float, float]:
    """Return the ends of both axes that are worse than all that is drawn, and keep the axes there."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    return (left if sense_x == "max" else right), (bottom if sense_y == "max" else top)


def _shade(axes: "Axes", best: Points, worst: Points, far_x: float, far_y: float) -> None:
    """Shade what some attain and not all: between two surfaces, out to the bad ends of the axes."""

    def outline(points: Points) -> Points:
        """Return the surface's corners from the bad end of y to the bad end of x."""
        xs, ys = points
        if not xs.size:
            return np.array([far_x, far_x]), np.array([far_y, far_y])
        return np.concatenate([xs.repeat(2), [far_x]]), np.concatenate([[far_y], ys.repeat(2)])

    (xs, ys), (back_x, back_y) = outline(best), outline(worst)
    axes.fill(
        np.concatenate([xs, back_x[::-1]]), np.concatenate([ys, back_y[::-1]]), color="C0", alpha=0.12, linewidth=0
    )
