"""The points of the bit-slice study: methods, the settings each may try, and the rule that chooses among them.

Every method that has settings tries six, on one seed that no final point uses, and is judged by validation images alone. The
rule, fixed before any was trained: of the trials within half a point of the dense network's validation accuracy, the one with
the lowest ADC energy per image (isaac_sar, lossless bits per slice, differential columns); if none is that accurate, the most
accurate one, and the table says so.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TUNING_SEED = 100
ALLOWED_DROP = 0.005
TRIALS = 6

Settings = Mapping[str, Any]
"""Fields of BitsliceConfig."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodUnderTest:
    """A method: how tables call it, which base it starts from, and the settings it may try (one where there is no choice)."""

    title: str
    base: str
    trials: tuple[Settings, ...]


def _strengths(penalty: str, values: tuple[float, ...], **more: Any) -> tuple[Settings, ...]:
    return tuple({"penalty": penalty, "strength": v, "prune_share": 0.5, **more} for v in values)


METHODS: dict[str, MethodUnderTest] = {
    "dense": MethodUnderTest(title="dense, 8 bits", base="plain", trials=({"penalty": "none"},)),
    "pruned": MethodUnderTest(
        title="pruned",
        base="l1",
        trials=tuple({"penalty": "none", "prune_share": s} for s in (0.5, 0.7, 0.8, 0.9, 0.95, 0.975)),
    ),
    "l1": MethodUnderTest(title="L1", base="l1", trials=_strengths("l1", (0.5, 1.0, 2.0, 4.0, 8.0, 16.0))),
    "bl1": MethodUnderTest(
        title="bit-slice L1",
        base="l1",
        trials=_strengths("bitslice_l1", (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)),
    ),
    "ours": MethodUnderTest(
        title="ours",
        base="plain",
        trials=tuple(
            {"penalty": "columns", "budget_pj": b, "shift": s}
            for b, s in ((1.9, 0), (1.5, 0), (1.2, 0), (1.2, 1), (1.0, 1), (0.8, 1))
        ),
    ),
    "ours_fixed_s": MethodUnderTest(
        title="ours, S fixed",
        base="plain",
        trials=tuple({"penalty": "columns", "budget_pj": b, "free_scale": False} for b in (5, 4.5, 4, 3.5, 3, 2.5)),
    ),
    "bl1_free_s": MethodUnderTest(
        title="bit-slice L1, free S",
        base="l1",
        trials=tuple(
            {"penalty": "bitslice_l1", "strength": a, "prune_share": 0.5, "shift": s}
            for s, a in ((3, 0.2), (3, 0.8), (4, 0.5), (4, 2.0), (5, 1.0), (5, 4.0))
        ),
    ),
    "fewer_bits": MethodUnderTest(
        title="only free S (fewer bits)",
        base="plain",
        trials=tuple({"penalty": "none", "shift": s} for s in (1, 2, 3, 4, 5, 6)),
    ),
}
"""In the order of tables. A smaller alpha goes as far at a smaller step: bit-slice L1's gradient is alpha / step."""

BASES: dict[str, dict[str, Settings]] = {
    "plain": {"mlp": {"pretrain_strength": 0.0}, "cnn": {"pretrain_strength": 0.0}},
    "l1": {"mlp": {"pretrain_strength": 5.0}, "cnn": {"pretrain_strength": 1.3}},
}
"""What phase 1 trains, once for all methods that start there: the network as it is, or with plain L1 (alpha / N is the same for
both networks; N is 79,400 and 20,688 weights)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A training: a base (phase 1), a trial of a method, or a method's final training with the settings chosen."""

    network: str
    kind: str
    method: str
    trial: int
    seed: int

    @property
    def name(self) -> str:
        """Name of its files."""
        if self.kind == "base":
            return f"{self.network}-base-{self.method}-s{self.seed}"
        return f"{self.network}-{self.method}-{f't{self.trial}' if self.kind == 'trial' else 'final'}-s{self.seed}"

    @property
    def base(self) -> "Point | None":
        """The point whose weights this one starts from."""
        if self.kind == "base":
            return None
        return base_point(self.network, METHODS[self.method].base, self.seed)


def base_point(network: str, base: str, seed: int) -> Point:
    """Return a phase 1."""
    return Point(network=network, kind="base", method=base, trial=0, seed=seed)


def base_points(network: str, seeds: int) -> list[Point]:
    """Return every phase 1, those for the trials first."""
    return [base_point(network, base, seed) for seed in (TUNING_SEED, *range(seeds)) for base in BASES]


def trial_points(network: str) -> list[Point]:
    """Return all trials of all methods."""
    return [
        Point(network=network, kind="trial", method=name, trial=t, seed=TUNING_SEED)
        for name, method in METHODS.items()
        for t in range(len(method.trials))
    ]


def final_points(network: str, seeds: int, chosen: Mapping[str, int]) -> list[Point]:
    """Return the final trainings, seed by seed, so that an interrupted campaign has whole seeds."""
    return [
        Point(network=network, kind="final", method=name, trial=chosen[name], seed=seed)
        for seed in range(seeds)
        for name in METHODS
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A method's chosen trial, and whether it was accurate enough."""

    trial: int
    qualified: bool


def choose(results: Mapping[Point, Mapping[str, Any]], network: str) -> dict[str, Choice]:
    """Return each method's trial by the rule above, from the trials' `val_accuracy` and `adc_energy_pj`."""
    of_trials = {p: r for p, r in results.items() if p.kind == "trial" and p.network == network}
    dense = next(r["val_accuracy"] for p, r in of_trials.items() if p.method == "dense")
    chosen = {}
    for name in METHODS:
        mine = {p.trial: r for p, r in of_trials.items() if p.method == name}
        good = {t: r for t, r in mine.items() if r["val_accuracy"] >= dense - ALLOWED_DROP - 1e-9}
        if good:
            trial = min(good, key=lambda t: (good[t]["adc_energy_pj"], -good[t]["val_accuracy"]))
        else:
            trial = max(mine, key=lambda t: mine[t]["val_accuracy"])
        chosen[name] = Choice(trial=trial, qualified=bool(good))
    return chosen
