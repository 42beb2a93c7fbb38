"""What each trial of a study counts as, and its objectives as costs: what figures and the `pareto` command share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from picojoule.sim.errors import InfeasibleError, InputError, PicojouleError, nearest

if TYPE_CHECKING:
    from picojoule.studies.results import StudyResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Trials:
    """Masks [trials], each trial in exactly one of them.

    `front`: nothing beats it; `beaten`: fully measured and within the limits, but dominated; `violating`: fully measured,
    outside a limit; `proxy`: measured at less than full fidelity; `infeasible`: the design cannot hold the network;
    `failed`: an error, or an objective that is no finite number.
    """

    front: NDArray[np.bool_]
    beaten: NDArray[np.bool_]
    violating: NDArray[np.bool_]
    proxy: NDArray[np.bool_]
    infeasible: NDArray[np.bool_]
    failed: NDArray[np.bool_]

    @property
    def counted(self) -> NDArray[np.bool_]:
        """What may stand on a front: fully measured and within the limits."""
        return self.front | self.beaten

    @property
    def measured(self) -> NDArray[np.bool_]:
        """What was fully measured, within the limits or not."""
        return self.front | self.beaten | self.violating


def sort_trials(result: "StudyResult") -> Trials:
    """Return what each trial of a study counts as."""
    columns = result.columns
    state = columns["state"]
    finite = np.all([np.isfinite(number_of(columns[metric])) for metric in result.spec.objectives], axis=0)
    complete = np.asarray(state == "complete", dtype=np.bool_) & finite
    infeasible = np.asarray(state == "infeasible", dtype=np.bool_)
    proxy = complete & np.asarray(columns["fidelity"] == "proxy", dtype=np.bool_)
    violating = complete & ~proxy & np.asarray(columns["violated"] != "", dtype=np.bool_)
    counted = complete & ~proxy & ~violating
    front = counted & columns["on_front"].astype(np.bool_)
    return Trials(
        front=front,
        beaten=counted & ~front,
        violating=violating,
        proxy=proxy,
        infeasible=infeasible,
        failed=~complete & ~infeasible,
    )


def text_of(column: NDArray[Any]) -> NDArray[np.str_]:
    """Return a column as text [trials]; an empty text where nothing is said."""
    return np.array(["" if v is None or v != v else str(v) for v in column.tolist()], dtype=str)


def number_of(column: NDArray[Any]) -> NDArray[np.float64]:
    """Return a column as numbers [trials]; NaN where it holds none."""
    if column.dtype.kind in "fiub":
        return column.astype(np.float64)
    return np.array([_number(v) for v in column], dtype=np.float64)


def _number(value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return float("nan")


def signed(values: NDArray[np.float64], sense: str) -> NDArray[np.float64]:
    """Return values of an objective so that small is good."""
    return -values if sense == "max" else values


def costs_of(
    result: "StudyResult", metrics: Sequence[str] | None = None, keep: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Return objectives as costs [trials, metrics], small is good; NaN in rows that `keep` leaves out."""
    senses = result.spec.objectives
    chosen = list(senses) if metrics is None else metrics
    costs = np.stack([signed(number_of(result.columns[m]), senses[m]) for m in chosen], axis=1)
    if keep is not None:
        costs[~keep] = np.nan
    return costs


def pair_of(senses: Mapping[str, str]) -> tuple[str, str]:
    """Return the first two objectives as x and y: what is to be small lies along x where the other is to be large."""
    x, y = list(senses)[:2]
    return (y, x) if senses[x] == "max" and senses[y] == "min" else (x, y)


def name_of(result: "StudyResult") -> str:
    """Return what a study is called: its folder."""
    return result.folder.name if result.folder else "study"


def subject_of(result: "StudyResult") -> str:
    """Return what a study is about, which does not depend on where it lies: network on hardware."""
    return f"{result.spec.network.rpartition('/')[2]} on {target_of(result)}"


def target_of(result: "StudyResult") -> str:
    """Return the hardware a study is about: a preset's name, or a file's name without its ending."""
    return hardware_name(result.spec.hardware)


def hardware_name(hardware: str) -> str:
    """Return what a study's hardware is called: a preset's name, or a file's name without its ending."""
    path = Path(hardware)
    return path.stem if path.suffix in (".yaml", ".yml") else path.name


def same_objectives(results: Sequence["StudyResult"]) -> dict[str, str]:
    """Return the objectives that all studies share.

    Raises:
        InputError: if there is no study, or one asks for something else than the first; the difference is named.

    """
    if not results:
        raise InputError("nothing to draw: give at least one study")
    first = dict(results[0].spec.objectives)
    for other in results[1:]:
        if dict(other.spec.objectives) != first:
            raise InputError(
                f"studies must share their objectives: {name_of(results[0])} has {_listed(first)}, "
                f"{name_of(other)} has {_listed(other.spec.objectives)}; give studies of one kind"
            )
        if "accuracy" in first and other.accuracy_is != results[0].accuracy_is:
            told = [f"{name_of(r)} ({r.accuracy_is or 'top-1, measured'})" for r in (results[0], other)]
            raise InputError(f"accuracy is not the same in {' and '.join(told)}; give studies of one kind")
    return {k: str(v) for k, v in first.items()}


def _listed(objectives: Mapping[str, str]) -> str:
    return ", ".join(f"{metric} ({sense})" for metric, sense in objectives.items())


def numeric_column(result: "StudyResult", name: str) -> NDArray[np.float64]:
    """Return a column of trials.csv as numbers.

    Raises:
        InputError: for an unknown column, or one that holds no number.

    """
    if name not in result.columns:
        raise InputError(f"{name_of(result)}: no column '{name}'{nearest(name, list(result.columns))}")
    values = number_of(result.columns[name])
    given = result.columns[name]
    if given.dtype.kind == "O" and np.isnan(values).all() and any(v is not None and v != "" for v in given):
        raise InputError(f"{name_of(result)}: column '{name}' holds no numbers; choose an objective or a number")
    return values


def why_empty(result: "StudyResult") -> PicojouleError | None:
    """Return why nothing stands on a study's front, as an error to raise; None where something does."""
    trials, name = sort_trials(result), name_of(result)
    if trials.counted.any():
        return None
    total = len(trials.front)
    if not total:
        return InputError(f"{name}: holds no trial yet; run `picojoule search` on it")
    if trials.violating.any():
        return InfeasibleError(f"{name}: {_unmet(result, trials)}; loosen the limit or widen the space")
    counts = {"infeasible": trials.infeasible.sum(), "failed": trials.failed.sum(), "only a proxy": trials.proxy.sum()}
    said = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    sentence = f"{name}: no trial is complete ({total} told: {said})"
    messages = result.columns["message"]
    for mask, word in ((trials.failed, "failed"), (trials.infeasible, "infeasible")):
        numbers = np.flatnonzero(mask & np.asarray(messages != "", dtype=np.bool_))
        if numbers.size:
            first = numbers[0]
            kind = InfeasibleError if mask is trials.infeasible else InputError
            return kind(f"{sentence}; the first {word}, trial {_trial(result, first)}: {messages[first]}")
    if trials.proxy.any():
        broken = sorted({str(text) for text in result.columns["violated"][trials.proxy] if text})
        if broken:
            return InfeasibleError(
                f"{sentence}, all beyond a limit (such as {broken[0]}); loosen it or widen the space"
            )
    return InputError(f"{sentence}; go on with `picojoule search --resume`")


def _trial(result: "StudyResult", row: Any) -> int:
    return int(number_of(result.columns["number"])[row])


def _unmet(result: "StudyResult", trials: Trials) -> str:
    """Return the constraints that no trial meets, each with the closest value; or the trial that misses least."""
    rows = np.flatnonzero(trials.violating)
    worst = np.zeros(len(rows))
    unmet = []
    for metric, limits in result.spec.constraints.items():
        values = number_of(result.columns[metric])[rows]
        for bound, excess, sign in ((limits.max, 1.0, "<="), (limits.min, -1.0, ">=")):
            if bound is None:
                continue
            over = np.nan_to_num(excess * (values - bound), nan=np.inf)
            worst = np.maximum(worst, over / (abs(bound) or 1.0))
            if (over > 0).all():
                closest = int(over.argmin())
                unmet.append(
                    f"{metric} {sign} {bound:g} (closest: {values[closest]:.6g}, trial {_trial(result, rows[closest])})"
                )
    if unmet:
        return f"none of {len(rows)} complete trials meets {' or '.join(unmet)}"
    nearest_row = rows[int(worst.argmin())]
    return (
        f"none of {len(rows)} complete trials meets all constraints at once; closest is trial "
        f"{_trial(result, nearest_row)}: {result.columns['violated'][nearest_row]}"
    )
