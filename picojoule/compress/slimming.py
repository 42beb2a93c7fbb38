"""Network Slimming (Liu et al. 2017, arXiv:1708.06519): an L1 penalty on batch-norm scales, then whole channels go.

Section 3: train with cross-entropy plus lambda times the sum of |gamma| (sub-gradient), drop the channels of smallest |gamma|
over the whole network, fine-tune. Here channels go in coupled groups (residual, concat, depthwise), scored by the mean |gamma|
of the group. Hardware-aware, lambda of each group is proportional to what the group costs by the signal; a budget is met by
pricing candidates with the signal's own `price`. The price does not enter the order of channels: scales within a layer lie so
close together after a short training that dividing by price would empty the dearest layer first.
"""

import copy
import logging
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor, nn

from picojoule.compress.coupling import Coupling, channel_groups, weighted
from picojoule.compress.method import CompressionArtifact
from picojoule.compress.plan import LayerPlan, Plan
from picojoule.compress.pruning import prune_network
from picojoule.compress.surgery import prune_module, rebind, tensors_of
from picojoule.models.data import Dataset
from picojoule.signals import group_prices, uniform_signal
from picojoule.sim.errors import InfeasibleError, InputError
from picojoule.sim.ir import Network
from picojoule.sim.numerics.torch_importer import from_module
from picojoule.sim.signals import CostSignal
from picojoule.sim.specs import Spec
from picojoule.training import Penalty, accuracy, train

_log = logging.getLogger("picojoule.compress.slimming")

Flags = NDArray[np.bool_]
Scores = NDArray[np.float64]


class SlimmingConfig(Spec):
    """Settings of Network Slimming; either `ratio` or `budget`."""

    ratio: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        default=None, description="share of channel groups that go"
    )
    budget: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None, description="share of the signal's baseline that may remain"
    )
    hardware_aware: bool = Field(default=True, description="penalty in proportion to cost; otherwise the same for all")
    compare: Literal["layer", "network"] = Field(
        default="layer",
        description="scales as they are over the whole network (the paper), or relative to their layer's mean",
    )
    l1: float = Field(
        default=1e-3, ge=0, description="lambda of a group of average price (the paper uses 1e-4 to 1e-5)"
    )
    epochs: int = Field(default=3, ge=0, description="sparse training")
    finetune_epochs: int = Field(default=3, ge=0)
    lr: float = Field(default=2e-3, gt=0)
    batch_size: int = Field(default=64, ge=2)
    weight_decay: float = Field(default=1e-4, ge=0)
    min_channels: int = Field(default=4, ge=1, description="channels that every layer keeps")
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _one_goal(self) -> "SlimmingConfig":
        if self.ratio is not None and self.budget is not None:
            raise InputError("slimming takes a ratio of channels or a budget, not both")
        return self


class Slimming:
    """Network Slimming with coupled channels."""

    config_type = SlimmingConfig

    def fit(
        self, model: nn.Module, data: Dataset, signal: CostSignal | None, config: SlimmingConfig
    ) -> tuple[nn.Module, CompressionArtifact]:
        """Return a smaller model and the plan that makes the original's shape into it.

        Without ratio and budget, half of the channels go.

        Raises:
            InputError: if the network has no batch norm whose channels could go.
            InfeasibleError: if the budget cannot be met with `min_channels` a layer.
            UnsupportedError: if the module's own code counts on its channels.

        """
        model = copy.deepcopy(model)
        example = torch.tensor(data.train.images[:2])
        network = from_module(model, (example,))
        coupling = channel_groups(network)
        signal = signal or uniform_signal(network)
        scaled = np.array([bool(g.scales) for g in coupling.groups], dtype=np.bool_)
        if not scaled.any():
            raise InputError(
                f"{network.name} has no batch norm whose channels can go; slimming needs batch norms after its convolutions"
            )
        weights = relative_prices(signal, coupling, scaled) if config.hardware_aware else np.ones(coupling.count)
        penalty = gamma_penalty(model, coupling, config.l1 * weights)
        history = _phase(model, data, config, "sparse training", config.epochs, config.seed, penalty)
        score = gamma_scores(model, coupling)
        if config.compare == "layer":
            score = relative_to_layer(score, coupling)
        keep = choose(network, coupling, score, scaled, signal, config)
        pruned = prune_module(model, network, keep, coupling, example_inputs=(example,))
        history += _phase(pruned, data, config, "fine-tuning", config.finetune_epochs, config.seed + 1)
        cost = signal.price(rebind(prune_network(network, keep, coupling), pruned)) / signal.price(network)
        notes = (
            f"{int(np.count_nonzero(~keep))} of {int(np.count_nonzero(scaled))} channel groups dropped",
            f"{signal.metric} ({signal.hardware}) is {cost:.4f} of the original's",
        )
        return pruned, CompressionArtifact(plan=plan_of(network, coupling, keep), history=history, notes=notes)


def _phase(
    model: nn.Module,
    data: Dataset,
    config: SlimmingConfig,
    name: str,
    epochs: int,
    seed: int,
    penalty: Penalty | None = None,
) -> tuple[Mapping[str, Any], ...]:
    """Train in place and return one record per epoch with the accuracy on validation data."""
    history: list[Mapping[str, Any]] = []

    def on_epoch(record: Mapping[str, float]) -> None:
        correct, count = accuracy(model, data.val)
        history.append({"phase": name, **record, "val_accuracy": correct / count})
        _log.info("%s epoch %d: loss %.4f, val %.4f", name, record["epoch"], record["loss"], correct / count)

    train(
        model,
        data.train,
        epochs=epochs,
        lr=config.lr,
        batch_size=config.batch_size,
        seed=seed,
        weight_decay=config.weight_decay,
        penalty=penalty,
        on_epoch=on_epoch,
    )
    return tuple(history)


def relative_prices(signal: CostSignal, coupling: Coupling, scaled: Flags) -> Scores:
    """Return each group's price relative to the mean over groups that can go, bounded to 1/10 ... 10.

    A group without a price gets 1. The bound keeps the penalty from freezing training where one layer costs nearly all.
    """
    prices = group_prices(signal, coupling)
    known = scaled & (prices > 0)
    if not known.any():
        return np.ones(coupling.count)
    relative = np.where(prices > 0, prices / prices[known].mean(), 1.0)
    return np.clip(relative, 0.1, 10.0)


def gamma_penalty(model: nn.Module, coupling: Coupling, weights: Scores) -> Penalty:
    """Return a function that computes the sum over groups of weight times the sum of |gamma|."""
    held = tensors_of(model)
    terms: list[tuple[Tensor, Tensor]] = []
    per_tensor: dict[str, NDArray[np.float32]] = {}
    for group in coupling.groups:
        for part in group.scales:
            row = per_tensor.setdefault(part.tensor, np.zeros(held[part.tensor].shape[0], dtype=np.float32))
            row[list(part.indices)] = weights[group.number]
    for name, row in per_tensor.items():
        terms.append((held[name], torch.from_numpy(row)))

    def penalty() -> Tensor:
        return torch.stack([(gamma.abs() * weight).sum() for gamma, weight in terms]).sum()

    return penalty


def gamma_scores(model: nn.Module, coupling: Coupling) -> Scores:
    """Return the mean |gamma| of each group (0 for groups without batch norm)."""
    held = tensors_of(model)
    values = {n: t.detach().abs().double().numpy() for n, t in held.items() if t.dim() == 1}
    found = np.zeros(coupling.count)
    for group in coupling.groups:
        gammas = [values[s.tensor][list(s.indices)] for s in group.scales]
        found[group.number] = np.concatenate(gammas).mean() if gammas else 0.0
    return found


def relative_to_layer(score: Scores, coupling: Coupling) -> Scores:
    """Return scores divided by the mean over the groups that the same layers make.

    Scales of different layers differ by more than their channels' worth does: a short sparse training moves all scales of a
    layer together, and whole layers would go.
    """
    members: dict[tuple[str, ...], list[int]] = {}
    for group in coupling.groups:
        members.setdefault(group.makers, []).append(group.number)
    made = score.copy()
    for numbers in members.values():
        made[numbers] = score[numbers] / max(float(score[numbers].mean()), 1e-12)
    return made


def choose(
    network: Network, coupling: Coupling, score: Scores, scaled: Flags, signal: CostSignal, config: SlimmingConfig
) -> Flags:
    """Return which groups stay: those of largest score, as many as the ratio or the budget allows."""
    order = np.flatnonzero(scaled)[np.argsort(score[scaled], kind="stable")]
    reviving = np.where(scaled, score, np.inf)

    def without(count: int) -> Flags:
        keep = np.ones(coupling.count, dtype=np.bool_)
        keep[order[:count]] = False
        return coupling.keep_at_least(keep, reviving, config.min_channels)

    if config.budget is None:
        ratio = 0.5 if config.ratio is None else config.ratio
        return without(round(ratio * len(order)))
    baseline = signal.price(network)

    def cost(count: int) -> float:
        return signal.price(prune_network(network, without(count), coupling)) / baseline

    low, high = -1, len(order)  # the least count within the budget lies in (low, high]
    if (least := cost(high)) > config.budget:
        raise InfeasibleError(
            f"slimming cannot bring {signal.metric} to {config.budget:g} of the original; with {config.min_channels} channels in "
            f"every layer {least:.3g} remain, raise the budget or lower min_channels"
        )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if cost(middle) <= config.budget else (middle, high)
    return without(high)


def plan_of(network: Network, coupling: Coupling, keep: Flags) -> Plan:
    """Return the plan: which output channels stay, for every layer that loses some."""
    layers = {}
    for layer in network.layers:
        if weighted(layer):
            labels = coupling.outputs_of(layer)
            stays = np.flatnonzero((labels < 0) | keep[labels])
            if len(stays) < len(labels):
                layers[layer.name] = LayerPlan(keep_channels=tuple(int(i) for i in stays))
    return Plan(layers=layers)
