"""Runs a study: asks for a batch, runs it, writes each result as it comes, tells the batch, until the trials are done.

Trials go through two looks when they train: all of a batch train `proxy_epochs`, then the best share trains `epochs`. What
is told is the last look; trials that stay proxies are marked so and never stand on the front.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from picojoule.fronts import crowding_distance, non_domination_ranks
from picojoule.sim.errors import InputError
from picojoule.studies.pricing import Pricing
from picojoule.studies.proposals import Proposals
from picojoule.studies.results import failed_outcome, violated_text, violations
from picojoule.studies.space import Parameter, point_of
from picojoule.studies.spec import Scalar, StudySpec
from picojoule.studies.storage import StoredTrial, TrialStore
from picojoule.studies.tasks import Stopped, attempt_trial
from picojoule.studies.trial import TrialOutcome, TrialTask
from picojoule.studies.workers import Workers

if TYPE_CHECKING:
    from picojoule.studies.originals import Originals

Values = Mapping[str, Scalar]
Outcome = Mapping[str, Any]


class Watcher(Protocol):
    """Is told how a study goes on."""

    def trial_done(self, number: int, outcome: Outcome) -> None:
        """Take note of a trial's final outcome."""
        ...

    def trial_kept(self, number: int, outcome: Outcome) -> None:
        """Take note of a trial that an earlier session finished."""
        ...

    def looked(self, number: int) -> None:
        """Take note of a trial's first look."""
        ...

    def batch_done(self, driver: "Driver") -> None:
        """Take note of a batch that is told; the tables may be written."""
        ...


@dataclass
class Driver:
    """The state of a running study: what was proposed and what came of it, by trial number."""

    spec: StudySpec
    parameters: tuple[Parameter, ...]
    proposals: Proposals
    workers: Workers
    watcher: Watcher
    store: TrialStore | None = None
    folder: Path | None = None
    base: str | None = None
    hardware: str | None = None
    constants: Values = field(default_factory=dict)
    pricing: Pricing | None = None
    originals: "Originals | None" = None
    check_unchanged: Callable[[], None] = lambda: None
    check_sources: Callable[[], None] = lambda: None
    note: Callable[[str], None] = lambda text: None
    values: list[dict[str, Scalar]] = field(default_factory=list)
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    told: int = 0
    _first_with: dict[str, int] = field(default_factory=dict)

    def run(self, trials: int) -> None:
        """Run until there are `trials` trials (or the grid ends); on resume what is stored is taken as it is.

        Raises:
            InputError: if the storage cannot be written, holds other trials than the sampler proposes, or the study changed.

        """
        stored = self.store.read() if self.store is not None else []
        if self.proposals.most is not None and self.proposals.most < trials:
            trials = self.proposals.most
            self.note(f"all {trials:,} points of the grid are tried")
        if len(stored) > trials:
            raise InputError(
                f"the study has {len(stored)} trials already, {trials} are asked for; give at least {len(stored)}"
            )
        if self._staged and len(stored) % self.spec.batch_size and len(stored) < trials:
            self.note(
                "the last batch was a part of one: what it promoted stays, so a longer study may differ from this"
            )
        for trial in stored:
            self.values.append({key: trial.values[key] for key in self.spec.space})
            if trial.outcome is not None:
                self.outcomes[trial.number] = trial.outcome
                self.watcher.trial_kept(trial.number, trial.outcome)
        batch = 0
        while self.told < trials:
            self.check_unchanged()
            count = min(self.spec.batch_size, trials - self.told)
            self._batch(batch, count, stored[self.told : self.told + count])
            if batch == 0:
                self._check_first_batch()
            batch += 1
            self.watcher.batch_done(self)

    def last_look(self) -> None:
        """Train fully the proxies that no point of the front beats, at most the share `promote` of all trials.

        A batch promotes its best only, so a good proxy may stay behind in a good batch. The sampler does not hear of this
        look: it comes after all batches.
        """
        if not self._staged:
            return
        kept = self.store.attributes() if self.store is not None else {}
        chosen = survivors(self.spec, {n: self.outcomes[n] for n in self._first_with.values()})
        known = {n: kept[_look_of(n)] for n in self.outcomes if _look_of(n) in kept}
        tasks = {n: self.task(n, "full") for n in chosen if n not in known}
        if tasks:
            self.note(f"a last look at {len(tasks)} proxies that no point of the front beats")
        for number, outcome in known.items():
            self._improve(number, outcome)
        self._run_tasks(tasks, self._look)

    def _look(self, number: int, outcome: Outcome) -> None:
        if self.store is not None:
            self.store.set_attribute(_look_of(number), outcome)
        self._improve(number, outcome)

    def _improve(self, number: int, outcome: Outcome) -> None:
        """Take a fuller outcome for a trial and for all with the same parameters."""
        same = json.dumps(self.values[number], sort_keys=True)
        for other, values in enumerate(self.values):
            if json.dumps(values, sort_keys=True) == same:
                message = outcome["message"] or ("" if other == number else f"as trial {number}")
                self.outcomes[other] = {**outcome, "message": message}

    def _batch(self, batch: int, count: int, stored: Sequence[StoredTrial]) -> None:
        start = self.told
        proposed = self.proposals.ask(batch, count)
        self._compare(proposed, stored)
        numbers = range(start, start + count)
        self.values.extend(proposed[len(stored) :])
        for number, values in zip(numbers, proposed, strict=True):
            if self.store is not None and number >= start + len(stored):
                self.store.begin(number, values)
        self._run(numbers)
        self.proposals.tell([self._told(self.outcomes[n]) for n in numbers])
        self.told += count

    def _check_first_batch(self) -> None:
        """Stop a study whose first trials all failed for one reason: the others would too."""
        first = list(self.outcomes.values())
        reasons = {o["message"] for o in first if not o["message"].startswith("as trial")}
        if len(first) > 1 and all(o["state"] == "failed" for o in first) and len(reasons) == 1:
            raise InputError(f"all {len(first)} trials of the first batch failed for the same reason: {reasons.pop()}")

    def _compare(self, proposed: Sequence[Values], stored: Sequence[StoredTrial]) -> None:
        for values, trial in zip(proposed, stored, strict=False):
            if any(values[key] != trial.values.get(key) for key in values):
                raise InputError(
                    f"trial {trial.number} of the stored study has other parameters than the sampler now proposes "
                    f"({json.dumps(dict(trial.values))}, now {json.dumps(dict(values))}): it was begun with another version of "
                    "optuna, or edited; install the version it was begun with, or begin a new study"
                )

    def _run(self, numbers: Sequence[int]) -> None:
        """Give every trial of a batch its final outcome; a trial with the parameters of an earlier one takes its outcome."""
        same: dict[int, int] = {}
        for number in numbers:
            key = json.dumps(self.values[number], sort_keys=True)
            first = self._first_with.setdefault(key, number)
            if first != number:
                same[number] = first
        fresh = [n for n in numbers if n not in same]
        if self.originals is not None:
            todo = [n for n in fresh if n not in self.outcomes]
            self.originals.train([point_of(self.values[n]).network for n in todo])
        if self.pricing is not None:
            self._price(fresh)
        elif self._staged:
            self._train_in_two_looks(fresh)
        else:
            self._finish_all({n: self.task(n, "full") for n in fresh if n not in self.outcomes})
        for number, first in same.items():
            if number not in self.outcomes:
                earlier = self.outcomes[first]
                self._finish(number, {**earlier, "message": earlier["message"] or f"as trial {first}"})

    def _price(self, fresh: Sequence[int]) -> None:
        assert self.pricing is not None
        if all(n in self.outcomes for n in fresh):
            return
        # All of the batch in one call, whatever is stored already: sums must not depend on what is priced beside them.
        for number, outcome in zip(fresh, self.pricing([self.values[n] for n in fresh]), strict=True):
            if number not in self.outcomes:
                self._finish(number, outcome)

    @property
    def _staged(self) -> bool:
        t = self.spec.training
        return self.spec.compresses and t.proxy_epochs < t.epochs and t.promote < 1

    def _train_in_two_looks(self, fresh: Sequence[int]) -> None:
        proxies: dict[int, Outcome] = {
            n: self.outcomes[n].get("proxy") or self.outcomes[n] for n in fresh if n in self.outcomes
        }
        tasks = {n: self.task(n, "proxy") for n in fresh if n not in proxies}

        def looked(number: int, outcome: Outcome) -> None:
            proxies[number] = outcome
            self.watcher.looked(number)

        self._run_tasks(tasks, looked)
        promoted = promote(self.spec, {n: proxies[n] for n in fresh})
        for number in fresh:
            if number not in promoted and number not in self.outcomes:
                self._finish(number, proxies[number])
        todo = {n: self.task(n, "full") for n in promoted if n not in self.outcomes}
        self._run_tasks(todo, lambda n, outcome: self._finish(n, {**outcome, "proxy": {**proxies[n]}}))

    def _finish_all(self, tasks: Mapping[int, TrialTask]) -> None:
        self._run_tasks(tasks, self._finish)

    def _run_tasks(self, tasks: Mapping[int, TrialTask], done: Callable[[int, Outcome], None]) -> None:
        waiting = list(tasks.items())
        running = 0
        while waiting or running:
            while waiting and running < self.workers.slots:
                number, task = waiting.pop(0)
                self.workers.submit(number, attempt_trial, task)
                running += 1
            for finished in self.workers.finished(None):
                running -= 1
                if finished.problem is not None:
                    task = tasks[finished.key]
                    made = failed_outcome(task.fidelity, finished.problem)
                elif isinstance(finished.result, Stopped):
                    raise InputError(f"{finished.result.message}; finished trials are kept, go on with --resume")
                else:
                    assert isinstance(finished.result, TrialOutcome)
                    made = plain_outcome(finished.result)
                done(finished.key, made)

    def _finish(self, number: int, outcome: Outcome) -> None:
        self.check_sources()  # what was run with another network must not be written
        values, limits = self._told(outcome)
        if self.store is not None:
            self.store.finish(number, outcome, None if values is None else list(values), limits)
        self.outcomes[number] = outcome
        self.watcher.trial_done(number, outcome)

    def _told(self, outcome: Outcome) -> tuple[list[float] | None, dict[str, float]]:
        if outcome["state"] != "complete":
            return None, {}
        return [outcome["values"][m] for m in self.spec.objectives], violations(self.spec, outcome["values"])

    def task(self, number: int, fidelity: str) -> TrialTask:
        """Return a trial as a worker gets it."""
        point, spec = point_of(self.values[number]), self.spec
        keep = self.folder is not None and not spec.priced_only
        arguments = {**point.network, **self.constants}
        return TrialTask(
            number=number,
            network=spec.network,
            weights=spec.weights,
            data=spec.data,
            hardware=self.hardware or spec.hardware,
            hardware_keys=point.hardware,
            methods=point.methods,
            metrics=spec.metrics if spec.points is None else tuple(m for m in spec.metrics if m != "accuracy"),
            epochs=spec.training.epochs if fidelity == "full" else spec.training.proxy_epochs,
            fidelity=fidelity,
            limits=spec.limits,
            folder=str(trial_folder(self.folder, number) / fidelity) if keep and self.folder is not None else None,
            base=self.base if self.originals is None else self.originals.weights(point.network),
            batch=spec.batch,
            seed=spec.seed,
            arguments=arguments,
        )


def promote(spec: StudySpec, proxies: Mapping[int, Outcome], *, of: int | None = None) -> list[int]:
    """Return the trials of a batch that train fully: the best by non-domination, then by crowding, then by number.

    As many as the study's share of `of` (None: of the batch), at least one. Failed trials and those that break a limit on a
    cost are left out; accuracy grows with training, so a limit on it keeps no proxy back.
    """
    able = [n for n, o in proxies.items() if _may_train(spec, o)]
    if not able:
        return []
    costs = _costs(spec, [proxies[n] for n in able])
    ranks = non_domination_ranks(costs)
    crowding = crowding_distance(costs, ranks)
    order = sorted(range(len(able)), key=lambda i: (int(ranks[i]), -float(crowding[i]), able[i]))
    quota = max(1, int(np.ceil(spec.training.promote * (len(proxies) if of is None else of) - 1e-9)))
    return sorted(able[i] for i in order[:quota])


def survivors(spec: StudySpec, outcomes: Mapping[int, Outcome]) -> list[int]:
    """Return the proxies that no fully trained trial beats, at most the share `promote` of all, the best by rank."""
    able = {n: o for n, o in outcomes.items() if _may_train(spec, o)}
    full = [n for n, o in able.items() if o["fidelity"] == "full" and not violated_text(spec, o["values"])]
    proxies = [n for n, o in able.items() if o["fidelity"] == "proxy"]
    front = _costs(spec, [able[n] for n in full])
    unbeaten = []
    for number, row in zip(proxies, _costs(spec, [able[n] for n in proxies]), strict=True):
        beaten = (front <= row).all(axis=1) & (front < row).any(axis=1)
        if not beaten.any():
            unbeaten.append(number)
    return promote(spec, {n: able[n] for n in unbeaten}, of=len(outcomes))


def _costs(spec: StudySpec, outcomes: Sequence[Outcome]) -> NDArray[np.float64]:
    """Return objectives of complete trials [trials, objectives], all to be small."""
    rows = [[s * o["values"][m] for s, m in zip(spec.signs, spec.objectives, strict=True)] for o in outcomes]
    return np.array(rows, dtype=np.float64).reshape(len(outcomes), len(spec.signs))


def _may_train(spec: StudySpec, outcome: Outcome) -> bool:
    return outcome["state"] == "complete" and not violated_text(spec, outcome["values"], costs_only=True)


def _look_of(number: int) -> str:
    return f"last look {number}"


def plain_outcome(outcome: TrialOutcome) -> dict[str, Any]:
    """Return an outcome as it is stored: plain values."""
    return {
        "state": outcome.state,
        "fidelity": outcome.fidelity,
        "values": dict(outcome.values),
        "details": dict(outcome.details),
        "bill": dict(outcome.bill),
        "message": outcome.message,
    }


def trial_folder(folder: Path, number: int) -> Path:
    """Return where a trial keeps what it makes."""
    return folder / "trials" / f"{number:05d}"
