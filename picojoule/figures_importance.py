"""Which parameters decide an objective: the share of its rank variance that each explains on its own, and what chance gives.

The trials' values are ranked (ties share a rank); a parameter's share is the correlation ratio of the ranks over its levels,
eta^2 = sum_l n_l (mean_l - mean)^2 / sum_i (r_i - mean)^2, which is H / (n - 1) with the H of Kruskal and Wallis 1952 ("Use of
ranks in one-criterion variance analysis"). Numbers with more than eight values are cut in bins of equal count. A parameter of
many levels explains something by luck alone, so each share stands beside its noise floor: what 95 % of seeded shuffles of the
ranks stay below. Main effects only (interactions are in none of the shares), and only of the trials that the search ran: where
a sampler hardly tried a level, its effect is hardly known.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from picojoule.figures_axes import HATCHES, legend_beside, shown_as
from picojoule.figures_trials import name_of, number_of, sort_trials
from picojoule.sim.errors import InputError, unknown_choice
from picojoule.sim.report_plots import new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from picojoule.studies.results import StudyResult

FEWEST_TRIALS = 10
"""Complete trials without which nothing can be said."""

_SHUFFLES = 200
_MOST_TRIALS = 5_000
_BINS = 8
_SHOWN = 15


def importance(result: "StudyResult", objective: str | None = None) -> list[dict[str, Any]]:
    """Return rows {objective, parameter, share, noise}, for one objective or all, largest share first within each.

    Of more than 5,000 fully measured trials (those outside a limit too) a seeded sample counts.

    Raises:
        InputError: for an unknown objective, or fewer than ten complete trials.

    """
    objectives = list(result.spec.objectives)
    if objective is not None and objective not in objectives:
        raise InputError(f"{name_of(result)}: {unknown_choice('objective', objective, objectives)}")
    usable = np.flatnonzero(sort_trials(result).measured)
    if len(usable) < FEWEST_TRIALS:
        raise InputError(
            f"{name_of(result)}: importance needs at least {FEWEST_TRIALS} complete trials, the study has {len(usable)}; "
            "search on with --trials and --resume"
        )
    random = np.random.default_rng(0)
    if len(usable) > _MOST_TRIALS:
        usable = np.sort(random.choice(usable, _MOST_TRIALS, replace=False))
    levels = {key: _levels(result.columns[key][usable]) for key in result.spec.space}
    shuffles = np.stack([random.permutation(len(usable)) for _ in range(_SHUFFLES)])
    rows = []
    for name in [objective] if objective else objectives:
        ranks = _ranks(number_of(result.columns[name])[usable])
        own: list[dict[str, Any]] = [
            {
                "objective": name,
                "parameter": key,
                "share": float(_shares(ranks[None], level)[0]),
                "noise": float(np.quantile(_shares(ranks[shuffles], level), 0.95)),
            }
            for key, level in levels.items()
        ]
        rows.extend(sorted(own, key=lambda row: -row["share"]))
    return rows


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ranks [trials] less their mean; equal values share a rank."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    middle = np.cumsum(count) - (count + 1) / 2
    ranks: NDArray[np.float64] = middle[place] - (len(values) - 1) / 2
    return ranks


def _levels(column: NDArray[Any]) -> NDArray[np.intp]:
    """Return the number of each trial's level [trials]; numbers of many values in bins of equal count."""
    _, places = np.unique([_key(v) for v in column], return_inverse=True)
    if places.max() + 1 > _BINS:
        numbers = number_of(column)
        if not np.isnan(numbers).any():
            inner = np.quantile(numbers, np.linspace(0, 1, min(_BINS, len(column) // 5) + 1)[1:-1])
            _, places = np.unique(np.searchsorted(inner, numbers, side="right"), return_inverse=True)
    return places.reshape(-1)


def _key(value: Any) -> str:
    return f"{value:.17g}" if isinstance(value, int | float) and not isinstance(value, bool) else repr(value)


def _shares(ranks: NDArray[np.float64], levels: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return eta^2 [shuffles] of centered ranks [shuffles, trials] over levels [trials]; 0 where all values are equal."""
    order = np.argsort(levels, kind="stable")
    counts = np.bincount(levels)
    sums = np.add.reduceat(ranks[:, order], np.concatenate([[0], np.cumsum(counts)[:-1]]), axis=1)
    whole = (ranks**2).sum(axis=1)
    between = (sums**2 / counts).sum(axis=1)
    shares: NDArray[np.float64] = np.divide(between, whole, out=np.zeros_like(whole), where=whole > 0)
    return shares


def plot_importance(result: "StudyResult", objective: str | None = None, axes: "Axes | None" = None) -> "Axes":
    """Draw for each parameter the share of an objective's rank variance that it explains alone (one objective, or all).

    A black tick is the noise floor: 95 % of shuffles explain less. A bar that does not pass its tick is drawn without
    filling, and says nothing. Of more than 15 parameters those with the largest shares are drawn.

    Raises:
        InputError: as `importance`.

    """
    rows = importance(result, objective)
    largest: dict[str, float] = {}
    for row in rows:
        largest[row["parameter"]] = max(largest.get(row["parameter"], 0.0), row["share"])
    names = sorted(largest, key=lambda name: -largest[name])[:_SHOWN]
    objectives = list(dict.fromkeys(row["objective"] for row in rows))
    axes = axes or new_axes(9, 1.5 + (0.28 * len(objectives) + 0.15) * len(names))
    height = 0.85 / len(objectives)
    for number, name in enumerate(objectives):
        own = {row["parameter"]: row for row in rows if row["objective"] == name}
        places = [i + (number - (len(objectives) - 1) / 2) * height for i in range(len(names))]
        _draw_bars(axes, [own[key] for key in names], places, height, number, shown_as(name).words)
    axes.plot([], [], "|", color="black", markersize=10, markeredgewidth=2, label="noise floor (95 % of shuffles)")
    axes.set_yticks(range(len(names)), names, fontsize="small")
    axes.invert_yaxis()
    axes.set_xlim(0, min(1.0, max(r["share"] for r in rows) * 1.12 + 0.05) * 100)
    axes.set_xlabel("share of rank variance explained alone (η²), %")
    left_out = [f"{len(largest) - len(names)} parameters with smaller shares left out"] if len(largest) > _SHOWN else []
    total = int(sort_trials(result).measured.sum())
    sample = f" ({_MOST_TRIALS:,} sampled)" if total > _MOST_TRIALS else ""
    legend_beside(axes, title=f"{total:,} complete trials{sample}", extra=["unfilled: within the noise", *left_out])
    return axes


def _draw_bars(
    axes: "Axes", rows: Sequence[Mapping[str, Any]], places: Sequence[float], height: float, number: int, words: str
) -> None:
    """Draw one objective's bars, hollow where within the noise, each with its value and its floor."""
    color, hatch = f"C{number % 10}", HATCHES[number % len(HATCHES)]
    axes.barh([0], [0], color=color, hatch=hatch, edgecolor="white", label=words)
    for row, place in zip(rows, places, strict=True):
        clear = row["share"] > row["noise"]
        style = {"color": color, "hatch": hatch, "edgecolor": "white"} if clear else {"fill": False, "edgecolor": color}
        axes.barh(place, row["share"] * 100, height=height * 0.9, linewidth=0.8, **style)
        axes.plot(row["noise"] * 100, place, "|", color="black", markersize=48 * height / 2.2, markeredgewidth=2)
        axes.annotate(
            f"{row['share'] * 100:.0f}",
            (max(row["share"], row["noise"]) * 100, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize="x-small",
        )
