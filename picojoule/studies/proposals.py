"""What is tried next: Optuna's samplers by the batch rule.

Per batch a new sampler is made, seeded by the study's seed and the batch's number. A batch is asked for whole, runs in any
order, and is told whole in the order of its trials. So what is proposed depends on the seed and on earlier batches only: not
on the number of jobs, nor on which trial was done first, nor on how often the driver was stopped. Proposals are made in memory;
a resumed study asks for all its batches again and tells what is on disk, which also shows whether the sampler still proposes
the same (another version of Optuna may not).
"""

import hashlib
import itertools
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from picojoule.sim.errors import InputError
from picojoule.studies.space import Parameter
from picojoule.studies.spec import Scalar, StudySpec
from picojoule.studies.storage import quiet_optuna

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


class Proposals:
    """Asks for batches and is told their outcomes, in turns."""

    def __init__(self, spec: StudySpec, parameters: Sequence[Parameter]) -> None:
        self._spec, self._parameters = spec, tuple(parameters)
        optuna = quiet_optuna()
        self._optuna = optuna
        directions = ["maximize" if sense == "max" else "minimize" for sense in spec.objectives.values()]
        self._study = optuna.create_study(directions=directions)
        self._distributions = {p.name: p.distribution() for p in self._parameters}
        self._asked: list[Any] = []
        if spec.sampler == "grid":
            self._check_grid()

    @property
    def most(self) -> int | None:
        """How many trials there can be; None where there is no end."""
        if self._spec.sampler != "grid":
            return None
        count = 1
        for parameter in self._parameters:
            count *= len(parameter.choices or ())
        return count

    def ask(self, batch: int, count: int) -> list[dict[str, Scalar]]:
        """Return the values of the batch's `count` trials, by key of the space."""
        if self._asked:
            raise RuntimeError("a batch was asked for before the last one was told")
        if self._spec.sampler == "grid":
            return self._grid(batch * self._spec.batch_size, count)
        self._study.sampler = self._sampler(batch)
        self._asked = [self._study.ask(self._distributions) for _ in range(count)]
        return [{p.name: p.value(trial.params[p.name]) for p in self._parameters} for trial in self._asked]

    def tell(self, outcomes: Sequence[tuple[Sequence[float] | None, Mapping[str, float]]]) -> None:
        """Tell objectives (None: the trial failed) and violations of the trials asked for last, in their order."""
        if self._spec.sampler == "grid":
            return
        states = self._optuna.trial.TrialState
        for trial, (values, violations) in zip(self._asked, outcomes, strict=True):
            if values is None:  # told as failed, TPE would forget it, and propose it again and again
                self._study.tell(trial, state=states.PRUNED)
                continue
            for name, violation in violations.items():
                trial.set_constraint(name, violation)
            self._study.tell(trial, list(values))
        self._asked = []

    def _sampler(self, batch: int) -> "BaseSampler":
        text = f"{self._spec.seed}:batch:{batch}"
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
        samplers, size = self._optuna.samplers, self._spec.population or max(24, self._spec.batch_size)
        if self._spec.sampler == "nsga2":
            return samplers.NSGAIISampler(seed=seed, population_size=size)  # type: ignore[no-any-return]
        if self._spec.sampler == "nsga3":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", self._optuna.exceptions.ExperimentalWarning)  # named so since 3.2
                return samplers.NSGAIIISampler(seed=seed, population_size=size)  # type: ignore[no-any-return]
        if self._spec.sampler == "tpe":
            return samplers.TPESampler(seed=seed)  # type: ignore[no-any-return]
        return samplers.RandomSampler(seed=seed)  # type: ignore[no-any-return]

    def _check_grid(self) -> None:
        for parameter in self._parameters:
            if parameter.choices is None:
                raise InputError(f"space.{parameter.name}: a grid needs steps; give 'step', or another sampler")

    def _grid(self, start: int, count: int) -> list[dict[str, Scalar]]:
        """Return points of the full factorial, last key fastest."""
        choices = [p.choices or () for p in self._parameters]
        names = [p.name for p in self._parameters]
        found = itertools.islice(itertools.product(*choices), start, start + count)
        return [dict(zip(names, values, strict=True)) for values in found]
