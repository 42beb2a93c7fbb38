"""One trial of a study: compress the network, price it on the design, measure it; all from plain values.

A trial returns an outcome whatever its design or network causes, so that one bad point never stops a study. It depends on
its task alone, not on the process it runs in. With a folder it can be killed at any moment and called again: trainings go on
after their last whole epoch, and a finished trial returns what `result.json` holds. That file is written last; its key
covers the task, the contents of its files, the data, the resolved hardware, and the package's sources (files that a user's
`file.py:callable` imports are not looked at).
"""

import json
import math
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from picojoule.compress.plan import Plan
from picojoule.networks import TorchNetwork
from picojoule.sim.errors import InfeasibleError, InputError, PicojouleError, one_sentence, unknown_choice
from picojoule.sim.files import write_atomic
from picojoule.sim.hardware import load_hardware, load_spec
from picojoule.sim.ir import Network
from picojoule.sim.protocol import Accelerator
from picojoule.sim.report import Report
from picojoule.store import result_key
from picojoule.studies.trial_network import (
    PLAN,
    WEIGHTS,
    active,
    checkpointing,
    compress,
    content_digest,
    cost_is_fixed,
    data_of,
    dataset,
    file_of,
    original,
    plain_network,
    priced_form,
)
from picojoule.studies.trial_task import FrontTask, TrialOutcome, TrialTask, outcome_from_json, outcome_to_json

RESULT, POINT = "result.json", "point.json"
_LONGEST_PROBLEM = 300


# --- running ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """A finished trial: its outcome, and the compressed network where methods were asked for."""

    outcome: TrialOutcome
    made: TorchNetwork | None = None
    plan: Plan | None = None


def run_trial(task: TrialTask) -> TrialOutcome:
    """Return what comes of a trial; a stored outcome of the same task is returned at once.

    The same trial may run twice at a time (a cluster starts it again when it loses sight of a worker). The one that ends first
    removes checkpoints and half-written files, which the other may miss: then the first one's outcome is that of both.

    Raises:
        PicojouleError: for what is wrong with the study or the machine, not with this trial: network, weights or data cannot be
            read, the folder cannot be written, memory is short. What a design or its training causes is an outcome.

    """
    folder = Path(task.folder) if task.folder else None
    base = load_spec(task.hardware)
    try:
        accelerator = load_hardware(base, task.hardware_keys)
    except PicojouleError as error:
        return _ended(task, "infeasible" if isinstance(error, InfeasibleError) else "failed", str(error))
    key = ""
    if folder is not None:
        key = trial_key(task, accelerator)
        stored = stored_outcome(task, key)
        if stored is not None:
            _clean(folder)
            return stored
    _check_inputs(task)
    try:
        with _one_thread(task):
            made = _run(task, accelerator, folder, key)
    except InfeasibleError as error:
        made = _Made(outcome=_ended(task, "infeasible", str(error)))
    except PicojouleError as error:
        made = _Made(outcome=_ended(task, "failed", str(error)))
    except (OSError, MemoryError) as error:
        raise InputError(f"trial {task.number} could not be run here: {type(error).__name__}: {error}") from None
    except Exception as error:  # a user's network, a plug-in or torch may fail in any way: a failed trial
        text = one_sentence(f"{type(error).__name__}: {error}")
        short = text if len(text) <= _LONGEST_PROBLEM else text[: _LONGEST_PROBLEM - 4] + " ..."
        made = _Made(outcome=_ended(task, "failed", short))
    if folder is None:
        return made.outcome
    try:
        stored = stored_outcome(task, key) if made.outcome.state == "failed" else None
        if stored is None:
            _save(made, folder, key)
    except InputError:
        stored = stored_outcome(task, key)
        if stored is None:
            raise
    return stored or made.outcome


def _check_inputs(task: TrialTask) -> None:
    """Load what all trials of a study share (once a process).

    Raises:
        PicojouleError: if it cannot be read, or does not fit the data.

    """
    if task.data is not None:
        dataset(task.data)
    if task.base is not None and not Path(task.base).is_file():
        raise InputError(f"{task.base}: the weights of the trained original are gone; put them back, or search anew")
    if task.methods:
        original(task.source)
    elif "accuracy" in task.metrics:
        from picojoule.accuracy import check_fits

        check_fits(plain_network(task.source), data_of(task.source))


def _ended(task: TrialTask, state: str, message: str) -> TrialOutcome:
    return TrialOutcome(number=task.number, state=state, fidelity=task.fidelity, message=message)


def _one_thread(task: TrialTask) -> Any:
    """Keep torch on one thread where it computes: sums depend on how they are split."""
    if not task.methods and "accuracy" not in task.metrics:
        return nullcontext()
    from picojoule.training import one_thread

    return one_thread()


def _run(task: TrialTask, accelerator: Accelerator, folder: Path | None, key: str) -> _Made:
    if not task.methods:
        return _Made(outcome=_look(task, accelerator, plain_network(task.source)))
    methods = active(task.methods)
    if task.epochs and methods and cost_is_fixed(methods):
        # A design that cannot hold the network ends here; one that breaks a limit need not train either.
        made, plan = compress(task.source, methods, 0, accelerator)
        network = priced_form(made, plan)
        skipped = _broken_limit(task, accelerator.evaluate(network, batch=task.batch, seed=task.seed))
        if skipped:
            return _Made(outcome=_look(task, accelerator, network, skipped), made=made, plan=plan)
    with checkpointing(folder, key):
        made, plan = compress(task.source, methods, task.epochs, accelerator)
    network = priced_form(made, plan) if methods else plain_network(task.source)
    return _Made(outcome=_look(task, accelerator, network), made=made, plan=plan)


def _broken_limit(task: TrialTask, report: Report) -> str:
    """Return the first limit on a cost that is exceeded, as a sentence; empty if none is."""
    for metric, (low, high) in task.limits.items():
        if metric == "accuracy":
            continue
        value = _number(task, metric, report.totals)
        for side, limit, broken in ((">", high, value > (high or 0.0)), ("<", low, value < (low or 0.0))):
            if limit is not None and broken:
                return f"nothing was trained: {metric} {value:.6g} {side} {limit:g} whatever is trained"
    return ""


def _look(task: TrialTask, accelerator: Accelerator, network: Network, skipped: str = "") -> TrialOutcome:
    """Price and measure the network that a trial made."""
    report = accelerator.evaluate(network, batch=task.batch, seed=task.seed)
    figures, details = dict(report.totals), details_of(report)
    if "accuracy" in task.metrics:
        from picojoule.accuracy import measure

        found = measure(network, accelerator, data_of(task.source), split="val", seed=task.seed)
        figures["accuracy"] = found.hardware
        low, high = found.interval
        details |= {"accuracy_low": low, "accuracy_high": high, "accuracy_float": found.floating}
        details["samples"] = float(found.samples)
    if skipped:
        details["skipped"] = skipped
    return TrialOutcome(
        number=task.number,
        state="complete",
        fidelity=task.fidelity,
        values={metric: _number(task, metric, figures) for metric in task.metrics},
        details=details,
        bill={constant: float(pj) / task.batch for constant, pj in report.energy_by_constant().items()},
    )


def details_of(report: Report) -> dict[str, float | str]:
    """Return what an outcome keeps of a report besides its metrics."""
    t = report.totals
    low, high = t["ranges"]["energy_pj_per_sample"]
    found = {"energy_low": low, "energy_high": high, "macs": t["macs"], "params": report.network["params"]}
    found["weight_bytes"] = t["weight_bytes"]
    return {name: float(value) for name, value in found.items() if value is not None}


def _number(task: TrialTask, metric: str, figures: Mapping[str, Any]) -> float:
    """Return a metric's value.

    Raises:
        InputError: if there is no such metric, or it is no finite number.

    """
    role = "constraint" if metric in task.limits else "objective"
    value = figures.get(metric)
    where = task.hardware
    if metric not in figures:
        numbers = [name for name, v in figures.items() if isinstance(v, int | float)]
        raise InputError(unknown_choice(role, metric, numbers))
    if value is None:
        raise InputError(f"{role} {metric} is null: {where} has no such figure; choose another metric")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{role} {metric} is no number; choose another metric")
    if not math.isfinite(value):
        named = "NaN" if math.isnan(value) else "infinite"
        raise InputError(f"{role} {metric} is {named}: this network on {where} gives no number for it")
    return float(value)


# --- kept on disk -------------------------------------------------------------------------------------------------------


def trial_key(task: TrialTask, accelerator: Accelerator) -> str:
    """Return the key under which a trial's result is valid.

    Raises:
        InputError: if its data cannot be read.

    """
    config = asdict(task)
    for name in ("folder", "base", "weights", "hardware_keys"):
        del config[name]  # where files lie does not matter, what they hold does
    config["hardware"] = accelerator.spec.model_dump(mode="json")
    files = {"network": file_of(task.network), "weights": task.weights, "base": task.base}
    config["files"] = {name: content_digest(Path(path) if path else None) for name, path in files.items()}
    return result_key(config, dataset(task.data).digest if task.data is not None else "")


def stored_outcome(task: TrialTask, key: str) -> TrialOutcome | None:
    """Return the outcome in a trial's folder, None if there is none or it belongs to something else."""
    assert task.folder is not None
    folder = Path(task.folder)
    try:
        found = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        outcome = outcome_from_json(json.dumps(found["outcome"])) if found["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if outcome is not None and outcome.state == "complete" and task.methods:
        return outcome if found.get("files") == _digests(folder) else None
    return outcome


def _digests(folder: Path) -> dict[str, str]:
    """Return what tells a trial's compressed network from another or a damaged one."""
    return {name: content_digest(folder / name) for name in (PLAN, WEIGHTS)}


def _save(made: _Made, folder: Path, key: str) -> None:
    """Write what a trial made, the outcome last, then remove what only an unfinished trial needs."""
    if made.made is not None and made.plan is not None:
        from picojoule.compressing import save_weights

        made.plan.save(folder / PLAN)
        save_weights(made.made.module, folder / WEIGHTS)
    kept = {"key": key, "outcome": asdict(made.outcome)}
    if made.made is not None:
        kept["files"] = _digests(folder)
    write_atomic(folder / RESULT, json.dumps(kept, indent=1, allow_nan=False))
    _clean(folder)


def _clean(folder: Path) -> None:
    """Remove checkpoints, and temporary files that a killed process left."""
    patterns = ("train-*.pt", *(f".{name}.*" for name in ("train-*.pt", PLAN, WEIGHTS, RESULT)))
    for pattern in patterns:
        for file in folder.glob(pattern):
            file.unlink(missing_ok=True)


# --- points of the front ------------------------------------------------------------------------------------------------


def finish_front_point(front: FrontTask) -> dict[str, float]:
    """Write the full run folder of a trial on the front, and return what pareto.csv shows besides its metrics.

    The compressed network is read from the trial's own folder (the trial runs again if it is not there). Accuracy, where
    it is a metric, is measured on test data here and only here; point.json, written last, keeps it for the next session.

    Returns:
        energy_low and energy_high, in pJ a sample; accuracy_test, test_low and test_high where accuracy is a metric.

    Raises:
        PicojouleError: if the network cannot be loaded, priced or measured, or the folder cannot be written.

    """
    task, folder = front.trial, Path(front.folder)
    accelerator = load_hardware(load_spec(task.hardware), task.hardware_keys)
    key = trial_key(task, accelerator)
    kept = _stored_point(folder, key)
    if kept is not None:
        return kept
    with _one_thread(task):
        network = _stored_network(task, key)
        report = accelerator.evaluate(network, batch=task.batch, seed=task.seed)
        details = details_of(report)
        found = {name: float(details[name]) for name in ("energy_low", "energy_high")}
        if "accuracy" in task.metrics:
            from picojoule.accuracy import measure

            accuracy = measure(network, accelerator, data_of(task.source), split="test", seed=task.seed)
            report = report.with_accuracy(accuracy)
            low, high = accuracy.interval
            found |= {"accuracy_test": accuracy.hardware, "test_low": low, "test_high": high}
    report.save(folder, figures=False)
    write_atomic(folder / POINT, json.dumps({"key": key, "found": found}, indent=1, allow_nan=False))
    return found


def _stored_point(folder: Path, key: str) -> dict[str, float] | None:
    try:
        kept = json.loads((folder / POINT).read_text(encoding="utf-8"))
        return {str(k): float(v) for k, v in kept["found"].items()} if kept["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _stored_network(task: TrialTask, key: str) -> Network:
    """Return the network that a trial made, from its folder."""
    if not task.methods:
        return plain_network(task.source)
    if task.folder is None:
        raise InputError(f"trial {task.number} kept no compressed network; give the study a folder (--out)")
    import copy

    from picojoule.compress.plan import read_plan
    from picojoule.compressing import load_compressed

    outcome = stored_outcome(task, key) or run_trial(task)
    if outcome.state != "complete":
        raise PicojouleError(f"trial {task.number} is {outcome.state}: {outcome.message}")
    folder, base = Path(task.folder), original(task.source)
    plan = read_plan(folder / PLAN)
    made = load_compressed(replace(base, module=copy.deepcopy(base.module)), plan, folder / WEIGHTS)
    return priced_form(replace(made, weights="trained"), plan)


__all__ = [
    "FrontTask",
    "TrialOutcome",
    "TrialTask",
    "finish_front_point",
    "outcome_from_json",
    "outcome_to_json",
    "run_trial",
    "trial_key",
]
