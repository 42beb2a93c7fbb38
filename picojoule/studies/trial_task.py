"""What a trial is given and what it gives back: plain values that can be sent to another process and written as JSON."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from picojoule.sim.errors import InputError
from picojoule.studies.trial_network import Source

STATES = ("complete", "infeasible", "failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialTask:
    """Everything that running a trial takes, as plain values that can be sent to another process.

    Attributes:
        number: of the trial.
        network: NETWORK of the command line; so are `weights`, `data` and `hardware`.
        hardware_keys: dotted keys of the hardware file and their values.
        methods: settings by method; methods run in the order of the table of methods.
        metrics: objectives and constraints, keys of a report's totals; `accuracy` means the top-1 on validation data.
        epochs: that each method trains; 0: no training.
        fidelity: price, proxy or full; says in the outcome what was looked at.
        limits: (smallest, largest) allowed by metric, None for no limit.
        folder: where checkpoints and results go, if they are kept.
        base: file with the weights of the trained original.
        batch: samples priced together.
        arguments: of the function that builds the network.

    """

    number: int
    network: str
    weights: str | None
    data: str | None
    hardware: str
    hardware_keys: Mapping[str, Any]
    methods: Mapping[str, Mapping[str, Any]]
    metrics: tuple[str, ...]
    epochs: int
    fidelity: str
    limits: Mapping[str, tuple[float | None, float | None]]
    folder: str | None
    base: str | None
    batch: int = 1
    seed: int = 0
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def source(self) -> Source:
        """The network before compression: the trained original where there is one."""
        return Source(
            network=self.network,
            weights=self.base or self.weights,
            data=self.data,
            trained=self.base is not None,
            arguments=tuple(self.arguments.items()),
            seed=self.seed,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontTask:
    """A trial on the front, and the folder for its full run."""

    trial: TrialTask
    folder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialOutcome:
    """What came of a trial: `values` has each metric of a complete one; the sentence says why another is not.

    `details` holds accuracy_low, accuracy_high (95 %), accuracy_float and samples where accuracy was measured, energy_low and
    energy_high (of energy_pj_per_sample), macs, params, weight_bytes, and why training was skipped. `bill` is the energy of a
    sample in pJ by technology constant.
    """

    number: int
    state: str
    fidelity: str
    values: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, float | str] = field(default_factory=dict)
    bill: Mapping[str, float] = field(default_factory=dict)
    message: str = ""


def outcome_to_json(outcome: TrialOutcome) -> str:
    """Return an outcome as one line of JSON; every float comes back as the same."""
    return json.dumps(asdict(outcome), allow_nan=False)


def outcome_from_json(text: str) -> TrialOutcome:
    """Return the outcome that `outcome_to_json` wrote.

    Raises:
        InputError: for anything else.

    """
    try:
        found = json.loads(text)
        made = TrialOutcome(**found)
    except (ValueError, TypeError, RecursionError):
        raise InputError("no outcome of a trial: it must be an object with the keys of one") from None
    numbers = [*made.values.values(), *made.bill.values()] if _are_mappings(made) else [None]
    if made.state not in STATES or not all(isinstance(n, float) and math.isfinite(n) for n in numbers):
        raise InputError("no outcome of a trial: its state is unknown, or a value is no number")
    return made


def _are_mappings(outcome: TrialOutcome) -> bool:
    return all(isinstance(part, dict) for part in (outcome.values, outcome.details, outcome.bill))
