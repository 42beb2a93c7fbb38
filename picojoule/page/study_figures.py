"""Drawings of a study: its front, on axes the reader chooses, and how the front grew."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from picojoule.dominance import non_dominated
from picojoule.hypervolumes import hypervolume, hypervolume_history, reference_point
from picojoule.page.content import Figure
from picojoule.page.figures import drawn_text, rounded
from picojoule.page.study_tables import KINDS
from picojoule.page.study_words import parameter_label, parameter_text, range_of
from picojoule.page.words import metric
from picojoule.studies.results import StudyResult

_MOST_STEPS = 100
_LONG = 10_000
_MOST_OBJECTIVES = 3  # a history of more takes minutes for a long study


def front_figure(study: StudyResult, kinds: NDArray[np.str_], shown: NDArray[np.int64]) -> Figure:
    """Return the trials with values on any two of their metrics, by kind; the script draws it."""
    names, objectives = study.spec.metrics, list(study.spec.objectives)
    drawn = [i for i in shown.tolist() if kinds[i] not in ("infeasible", "failed")]
    rows = {int(r["number"]): r for r in study.front}
    c = study.columns
    metrics = [metric(name, study.accuracy_is) for name in names]
    y = objectives.index("accuracy") if "accuracy" in objectives else min(1, len(objectives) - 1)
    x = next((i for i in range(len(objectives)) if i != y), None)
    third = next((i for i in range(len(objectives)) if i not in (x, y)), None)
    points = [
        {
            "n": int(c["number"][i]),
            "kind": str(kinds[i]),
            "p": [drawn_text(parameter_text(c[k][i])) for k in study.spec.space],
            "v": [_scaled(float(c[m.name][i]), m.factor) for m in metrics],
            **_front_extras(rows.get(int(c["number"][i])), names),
        }
        for i in drawn
    ]
    spec: dict[str, Any] = {
        "metrics": [
            {"label": m.label, "unit": m.unit, "prefixed": m.prefixed, "sense": study.spec.objectives.get(m.name, "")}
            for m in metrics
        ],
        "objectives": len(objectives),
        "axes": [x, y, third],
        "parameters": [drawn_text(parameter_label(k)) for k in study.spec.space],
        "points": points,
        "counts": {kind: int((kinds == kind).sum()) for kind in KINDS},
    }
    about = (
        "Each mark is a trial: filled diamonds are on the front, circles are dominated, crosses violate a constraint, triangles "
        "are proxies measured at less than full fidelity, the star is the knee. Bars are ranges. The tables below "
        "hold the same figures."
    )
    return Figure(name="front", title="Trials and the front", about=about, spec=spec, kind="front")


def _scaled(value: float, factor: float) -> float | None:
    return rounded(value * factor) if np.isfinite(value) else None


def _front_extras(row: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """Return ranges [low, high] by the metric's place, P(non-dominated) and whether it is the knee."""
    if row is None:
        return {}
    ranges = {
        str(i): [rounded(v * metric(name).factor) for v in pair]
        for i, name in enumerate(names)
        if (pair := range_of(name, row)) is not None
    }
    extras: dict[str, Any] = {"r": ranges} if ranges else {}
    if row.get("p_non_dominated") is not None:
        extras["prob"] = rounded(float(row["p_non_dominated"]))
    return extras | ({"knee": True} if row.get("knee") else {})


def history_figure(study: StudyResult, kinds: NDArray[np.str_]) -> Figure | None:
    """Return the hypervolume after each trial as a share of the last; None without a front or with many objectives."""
    counted = (kinds == "front") | (kinds == "dominated")
    if not counted.any() or len(study.spec.objectives) > _MOST_OBJECTIVES:
        return None
    costs = np.where(counted[:, None], study.costs(), np.nan)
    reference = reference_point(costs[counted])
    steps, volumes = _growth(costs, reference)
    if volumes[-1] <= 0 or not np.isfinite(volumes[-1]):
        return None
    at = ", ".join(
        f"{metric(m).label} {metric(m).show(float(-v if sense == 'max' else v))}"
        for v, (m, sense) in zip(reference, study.spec.objectives.items(), strict=True)
    )
    spec = {
        "x": [int(study.columns["number"][i]) for i in steps],
        "y": [rounded(float(v / volumes[-1])) for v in volumes],
    }
    about = f"How much of the final hypervolume the trials so far dominate; reference point: {at}."
    return Figure(name="history", title="How the front grew", about=about, spec=spec, kind="history")


def _growth(
    costs: NDArray[np.float64], reference: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return trials, in order, and the hypervolume after each: those where it grows, or of a long study even steps."""
    last = len(costs) - 1
    if last < _LONG:
        volumes = hypervolume_history(costs, reference)
        steps = np.union1d(np.flatnonzero(np.diff(volumes, prepend=0.0) > 0), [last])
        return steps, volumes[steps]
    steps = np.linspace(0, last, _MOST_STEPS).astype(np.int64)
    found, front, start = [], np.empty((0, costs.shape[1])), 0
    for step in steps.tolist():
        candidates = np.concatenate((front, costs[start : step + 1]))
        front, start = candidates[non_dominated(candidates)], step + 1
        found.append(hypervolume(front, reference))
    return steps, np.maximum.accumulate(found)
