"""What a hardware-only study asks and gives, as plain values: the search, its designs, how far it is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

COMPLETE, INFEASIBLE, FAILED = 0, 1, 2
STATES = ("complete", "infeasible", "failed")


class PricedDesigns(Protocol):
    """What pricing gives: totals [designs] by name, and why a design is impossible (empty text if it is not)."""

    @property
    def totals(self) -> Mapping[str, NDArray[np.float64]]:
        """Figures by name, NaN where infeasible."""

    @property
    def infeasible(self) -> NDArray[Any]:
        """Sentences, empty where feasible."""


Price = Callable[[Mapping[str, NDArray[Any]]], PricedDesigns]


@dataclass(frozen=True, slots=True, kw_only=True)
class DesignSearch:
    """What is searched, for what, and how.

    Attributes:
        names: the parameters, as written in the study.
        choices: the values of each; those of an ordered parameter are sorted.
        ordered: which parameters have neighbors.
        objectives: metric to "min" or "max".
        limits: metric to (smallest, largest) allowed, None for no limit.
        sampler: how designs are proposed; `grid` is the full factorial, last parameter fastest.
        population: designs of a generation of nsga2.
        seed: of the study.
        key: digest of everything else that results depend on (network, hardware, version); not of `trials`.

    """

    names: Sequence[str]
    choices: Sequence[Sequence[Any]]
    ordered: Sequence[bool]
    objectives: Mapping[str, Literal["min", "max"]]
    limits: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)
    sampler: Literal["nsga2", "random", "grid"] = "nsga2"
    population: int = 200
    seed: int = 0
    key: str = ""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of choices of each parameter."""
        return tuple(len(c) for c in self.choices)

    @property
    def metrics(self) -> tuple[str, ...]:
        """What is kept of each design: objectives, then the metrics that only have limits."""
        return tuple(dict.fromkeys((*self.objectives, *self.limits)))

    def costs(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return objectives as costs [designs, objectives], all to be small, of values [designs, metrics]."""
        senses = [1.0 if sense == "min" else -1.0 for sense in self.objectives.values()]
        costs: NDArray[np.float64] = values[:, : len(senses)] * np.array(senses)
        return costs

    def violation(self, values: NDArray[np.float64], states: NDArray[np.int8]) -> NDArray[np.float64]:
        """Return by how much limits are missed [designs], each relative to its limit; infinity without a price."""
        total = np.zeros(len(values))
        for metric, (low, high) in self.limits.items():
            column = values[:, self.metrics.index(metric)]
            if low is not None:
                total += np.maximum(low - column, 0.0) / (abs(low) or 1.0)
            if high is not None:
                total += np.maximum(column - high, 0.0) / (abs(high) or 1.0)
        return np.where(states == COMPLETE, total, np.inf)


@dataclass(frozen=True, slots=True, kw_only=True)
class DesignColumns:
    """The designs of a study in order of their numbers.

    Attributes:
        indices: [designs, parameters] into the choices.
        values: [designs, metrics], NaN where there is none.
        states: [designs] into `STATES`.
        message_codes: [designs] into `messages`, whose first is empty.
        messages: different sentences, in order of appearance.
        note: why the study ended before its number of trials, or empty.

    """

    indices: NDArray[np.int32]
    values: NDArray[np.float64]
    states: NDArray[np.int8]
    message_codes: NDArray[np.int32]
    messages: tuple[str, ...]
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DesignProgress:
    """How far a study is: designs priced, designs safe on disk, designs asked for, best allowed value per objective."""

    done: int
    saved: int
    trials: int
    best: Mapping[str, float]
