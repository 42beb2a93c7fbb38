"""Prices trials whose network the space builds: each network is built and traced once, in this process.

Accuracy, where it is a metric, is that of trained points (`points`); a network without one is a failed trial.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from picojoule.sim.errors import PicojouleError, one_sentence
from picojoule.sim.protocol import Accelerator
from picojoule.studies.network_keys import shown
from picojoule.studies.points import TrainedPoints
from picojoule.studies.pricing import MOST_COMPARED, BatchPricing
from picojoule.studies.results import failed_outcome
from picojoule.studies.space import point_of
from picojoule.studies.spec import Scalar, StudySpec
from picojoule.studies.trial_network import Source, plain_network

Values = Mapping[str, Scalar]
Arguments = tuple[tuple[str, Scalar], ...]
_LONGEST_PROBLEM = 300


class NetworkPricing:
    """Prices the trials of a batch, those of one network together; what was traced is kept for later batches."""

    def __init__(self, spec: StudySpec, points: TrainedPoints | None, accelerator: Accelerator) -> None:
        self._spec, self._points, self._accelerator = spec, points, accelerator
        self._made: dict[Arguments, BatchPricing | str] = {}

    def arguments(self, values: Values) -> dict[str, Scalar]:
        """Return what a trial's network is built with: the space's values, and what all trained points share."""
        constants = self._points.constants if self._points is not None else {}
        return {**point_of(values).network, **constants}

    def __call__(self, batch: Sequence[Values]) -> list[dict[str, Any]]:
        """Return an outcome per trial."""
        groups: dict[Arguments, list[int]] = {}
        for i, values in enumerate(batch):
            groups.setdefault(tuple(self.arguments(values).items()), []).append(i)
        outcomes: dict[int, dict[str, Any]] = {}
        for arguments, places in groups.items():
            made = self._group(arguments, [batch[i] for i in places])
            outcomes |= dict(zip(places, made, strict=True))
        return [outcomes[i] for i in range(len(batch))]

    def bills(self, designs: Sequence[Values]) -> list[dict[str, float]]:
        """Return the energy per sample of trials by technology constant; none for more than can be compared."""
        if len(designs) > MOST_COMPARED:
            return [{} for _ in designs]
        made = []
        for values in designs:
            pricing = self._pricing(tuple(self.arguments(values).items()))
            made.extend(pricing.bills([values]) if isinstance(pricing, BatchPricing) else [{}])
        return made

    def _group(self, arguments: Arguments, batch: Sequence[Values]) -> list[dict[str, Any]]:
        """Return outcomes of trials that all have one network."""
        reached: Mapping[str, float] | None = {}
        if self._points is not None:
            reached = self._points.find(dict(arguments))
            if reached is None:
                varied = point_of(batch[0]).network
                message = f"no trained point for {shown(varied)} in {self._points.path.name}"
                return [failed_outcome("price", message) for _ in batch]
        pricing = self._pricing(arguments)
        if isinstance(pricing, str):
            return [failed_outcome("price", pricing) for _ in batch]
        return [self._with_accuracy(outcome, reached or {}) for outcome in pricing(batch)]

    def _with_accuracy(self, outcome: dict[str, Any], reached: Mapping[str, float]) -> dict[str, Any]:
        if outcome["state"] != "complete" or not reached:
            return outcome
        values = {**outcome["values"], "accuracy": reached["accuracy"]}
        details = {name: value for name, value in reached.items() if name != "accuracy"}
        return {**outcome, "values": {m: values[m] for m in self._spec.metrics}, "details": details}

    def _pricing(self, arguments: Arguments) -> BatchPricing | str:
        """Return what prices a network, or why it cannot be built."""
        if arguments not in self._made:
            self._made[arguments] = self._build(arguments)
        return self._made[arguments]

    def _build(self, arguments: Arguments) -> BatchPricing | str:
        s = self._spec
        source = Source(network=s.network, weights=s.weights, data=s.data, arguments=arguments, seed=s.seed)
        try:
            return BatchPricing(s, plain_network(source), self._accelerator)
        except PicojouleError as error:
            return str(error)
        except (OSError, MemoryError):
            raise
        except Exception as error:  # a user's network or torch may fail in any way: trials of it fail
            return one_sentence(f"{type(error).__name__}: {error}")[:_LONGEST_PROBLEM]
