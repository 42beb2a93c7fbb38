"""Prices a batch of hardware-only trials in one call, where the accelerator can price many designs at once."""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from picojoule.sim.designs import DesignTotals, PricesDesigns, price_designs
from picojoule.sim.errors import InfeasibleError, PicojouleError
from picojoule.sim.hardware import load_hardware
from picojoule.sim.ir import Network
from picojoule.sim.protocol import Accelerator
from picojoule.sim.report import Report
from picojoule.studies.results import failed_outcome
from picojoule.studies.space import point_of
from picojoule.studies.spec import Scalar, StudySpec
from picojoule.studies.trial_network import Source, plain_network

MOST_COMPARED = 500
"""Designs whose costs are compared under sampled constants."""


def study_network(spec: StudySpec) -> Network:
    """Return the network of a hardware-only study, built for the data's shape where data are named."""
    return plain_network(Source(network=spec.network, weights=spec.weights, data=spec.data, seed=spec.seed))


class Pricing(Protocol):
    """Prices the trials of a study in which nothing is trained or run."""

    def __call__(self, batch: Sequence[Mapping[str, Scalar]]) -> list[dict[str, Any]]:
        """Return an outcome per trial."""
        ...

    def bills(self, designs: Sequence[Mapping[str, Scalar]]) -> list[dict[str, float]]:
        """Return the energy per sample of trials by technology constant."""
        ...


class BatchPricing:
    """Prices the trials of a batch; a design that cannot hold the network becomes an infeasible trial."""

    def __init__(self, spec: StudySpec, network: Network, accelerator: Accelerator) -> None:
        self._spec, self._network, self._accelerator = spec, network, accelerator
        self._metrics = tuple(m for m in spec.metrics if m != "accuracy")

    def totals(self, keys: Mapping[str, NDArray[Any]]) -> DesignTotals:
        """Return the totals of designs, an array per hardware key of the space (without `hardware.`)."""
        made = price_designs(self._accelerator, self._network, keys, batch=self._spec.batch)
        if "macs" not in self._spec.metrics:
            return made
        macs = np.where(made.infeasible == "", float(self._macs), np.nan)  # the same on every design
        return DesignTotals(totals={**made.totals, "macs": macs}, infeasible=made.infeasible)

    @cached_property
    def _macs(self) -> int:
        return int(self._accelerator.evaluate(self._network, batch=self._spec.batch, chips=None).totals["macs"])

    def __call__(self, batch: Sequence[Mapping[str, Scalar]]) -> list[dict[str, Any]]:
        """Return an outcome per trial."""
        points = [point_of(values).hardware for values in batch]
        if not points:
            return []
        if not points[0]:  # the space has no key of the hardware: all are one design
            return [self._of_report()] * len(points)
        if len(points) > 1 and not isinstance(self._accelerator, PricesDesigns):
            return [self([values])[0] for values in batch]
        keys = {name: as_array([p[name] for p in points]) for name in points[0]}
        try:
            made = self.totals(keys)
        except PicojouleError as error:  # one design with values that do not go together: it fails alone
            if len(batch) == 1:
                return [_ended(error)]
            half = len(batch) // 2
            return self(batch[:half]) + self(batch[half:])
        outcomes = []
        for i in range(len(points)):
            values = {m: float(made.totals[m][i]) for m in self._metrics}
            outcomes.append(self._outcome(values, str(made.infeasible[i])))
        return outcomes

    def _of_report(self) -> dict[str, Any]:
        """Return the outcome of the hardware as it is."""
        try:
            totals = self.report({}).totals
        except PicojouleError as error:
            return _ended(error)
        return self._outcome({m: math.nan if totals[m] is None else float(totals[m]) for m in self._metrics}, "")

    def bills(self, designs: Sequence[Mapping[str, Scalar]]) -> list[dict[str, float]]:
        """Return the energy per sample of designs by technology constant; none for more than can be compared."""
        if len(designs) > MOST_COMPARED:
            return [{} for _ in designs]
        return [
            {k: v / self._spec.batch for k, v in self.report(values).energy_by_constant().items()} for values in designs
        ]

    def report(self, values: Mapping[str, Scalar]) -> Report:
        """Return the full report of a design."""
        accelerator = load_hardware(self._accelerator.spec, point_of(values).hardware)
        return accelerator.evaluate(self._network, batch=self._spec.batch, seed=self._spec.seed)

    def _outcome(self, values: dict[str, float], infeasible: str) -> dict[str, Any]:
        state, message = ("infeasible", infeasible) if infeasible else ("complete", "")
        bad = [m for m, v in values.items() if not math.isfinite(v)]
        if bad and not infeasible:
            state, message = "failed", f"{bad[0]} is {values[bad[0]]}: this hardware gives no such number"
        return {
            "state": state,
            "fidelity": "price" if state == "complete" else "",
            "values": values if state == "complete" else {},
            "details": {},
            "bill": {},
            "message": message,
        }


def _ended(error: PicojouleError) -> dict[str, Any]:
    """Return the outcome of a trial without figures: infeasible where no such design can be built or hold the network."""
    if isinstance(error, InfeasibleError):
        return {**failed_outcome("", str(error)), "state": "infeasible"}
    return failed_outcome("price", str(error))


def as_array(values: Sequence[Scalar]) -> NDArray[Any]:
    """Return values as an array that keeps them as they are: numbers as numbers of one kind, all else as objects."""
    if all(isinstance(v, int) and not isinstance(v, bool) for v in values):
        return np.array(values, dtype=np.int64)
    if all(isinstance(v, float) for v in values):
        return np.array(values, dtype=np.float64)
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made
