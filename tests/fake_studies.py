"""Small made-up studies for tests of figures: the attributes of a StudyResult, without a search."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from picojoule.fronts import non_dominated


@dataclass(frozen=True)
class Limits:
    min: float | None = None
    max: float | None = None


@dataclass(frozen=True)
class Spec:
    objectives: dict[str, str]
    space: dict[str, Any] = field(default_factory=dict)
    constraints: dict[str, Limits] = field(default_factory=dict)
    network: str = "lenet5"
    hardware: str = "edge-32x32"
    batch: int = 1


@dataclass(frozen=True)
class Result:
    spec: Spec
    columns: dict[str, Any]
    front: tuple[dict[str, Any], ...] = ()
    folder: Path | None = None
    accuracy_is: str = ""


def text(values: list[Any]) -> Any:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def study(
    objectives: dict[str, str],
    values: dict[str, Any],
    *,
    params: dict[str, Any] | None = None,
    name: str = "study",
    constraints: dict[str, Limits] | None = None,
    **columns: Any,
) -> Result:
    """A study of complete trials with these values, one array a metric; `columns` replace state, fidelity, violated..."""
    n = len(next(iter(values.values())))
    params = params or {"hardware.rows": np.full(n, 8.0)}
    made = {
        "number": np.arange(n, dtype=float),
        "state": text(["complete"] * n),
        "fidelity": text(["full"] * n),
        **params,
        **{k: np.asarray(v, dtype=float) for k, v in values.items()},
        "violated": text([""] * n),
        "on_front": None,
        "message": text([""] * n),
    } | columns
    counted = (made["state"] == "complete") & (made["fidelity"] != "proxy") & (made["violated"] == "")
    costs = np.stack([made[m] * (-1 if s == "max" else 1) for m, s in objectives.items()], axis=1)
    costs[~counted] = np.nan
    front = non_dominated(costs)
    if made["on_front"] is None:
        made["on_front"] = front
    rows = tuple(
        {"number": int(i), **{k: made[k][i] for k in (*params, *objectives)}, "p_non_dominated": 1.0, "knee": False}
        for i in np.flatnonzero(front)
    )
    return Result(Spec(objectives, dict(params), constraints or {}), made, rows, Path(name))
