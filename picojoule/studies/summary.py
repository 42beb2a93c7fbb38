"""A finished study in short: the front as a terminal shows it, and what summary.json says."""

import math
from typing import Any

from picojoule.figures_axes import shown_as
from picojoule.fronts import hypervolume, non_dominated, reference_point
from picojoule.studies.results import StudyResult

_SHOWN_ROWS = 20


def shown_front(made: StudyResult) -> list[dict[str, Any]]:
    """Return the front as a terminal shows it: rounded, some 20 points and the knee (all are in pareto.csv)."""
    rows: list[dict[str, Any]] = []
    last = [key.rpartition(".")[2] for key in made.spec.space]
    short = {key: name if last.count(name) == 1 else key for key, name in zip(made.spec.space, last, strict=True)}
    step = max(1, math.ceil(len(made.front) / _SHOWN_ROWS))
    for row in (r for i, r in enumerate(made.front) if i % step == 0 or r["knee"]):
        line: dict[str, Any] = {"trial": row["number"]}
        line |= {short[key]: row[key] for key in made.spec.space}
        for metric in made.spec.metrics:
            how = shown_as(metric)
            line[f"{how.words.removesuffix(' per sample')} {how.unit}".rstrip()] = f"{row[metric] * how.factor:.3g}"
        if row.get("accuracy_test") is not None:
            line["test %"] = f"{row['accuracy_test'] * 100:.3g}"
        if row.get("p_non_dominated") is not None:
            line["P"] = f"{row['p_non_dominated']:.2f}"
        line["knee"] = "knee" if row["knee"] else ""
        rows.append(line)
    return rows


def summary_of(made: StudyResult) -> dict[str, Any]:
    """Return what summary.json holds: counts, best values, the knee, the hypervolume and its reference."""
    columns, spec = made.columns, made.spec
    complete = columns["state"] == "complete"
    counted = made.counting()
    best = {}
    for metric, sense in spec.objectives.items():
        values = columns[metric][counted]
        if values.size:
            best[metric] = float(values.max() if sense == "max" else values.min())
    volume = reference = None
    costs = made.costs()[counted]
    if len(costs) and costs.shape[1] <= 3:
        at = reference_point(costs)
        volume = float(hypervolume(costs[non_dominated(costs)], at))
        reference = {m: s * float(v) for m, s, v in zip(spec.objectives, spec.signs, at, strict=True)}
    bend = next((row["number"] for row in made.front if row["knee"]), None)
    return {
        "schema": 1,
        "trials": len(made),
        "asked": spec.trials,
        "complete": int(complete.sum()),
        "proxies": int((complete & (columns["fidelity"] == "proxy")).sum()),
        "infeasible": int((columns["state"] == "infeasible").sum()),
        "failed": int((columns["state"] == "failed").sum()),
        "violating": int((complete & (columns["violated"] != "")).sum()),
        "front": len(made.front),
        "best": best,
        "knee": bend,
        "hypervolume": volume if volume is None or math.isfinite(volume) else None,
        "reference": reference,
    }
