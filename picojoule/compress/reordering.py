"""Permutes the output channels of a network so that weights streamed one after the other differ in few bits.

Post-training step of operand Hamming distance (Li et al., arXiv:2002.05293): where weights stream output channel after output
channel (an input-stationary array), their order is free. Here the network itself is permuted: what produces a channel and
all that reads it (batch norms, biases, depthwise filters, the next layer's input channels) move together, found by the
coupling that pruning uses (`coupling`). Channels that meet in a residual sum share one order, chosen for all layers that
produce them, each weighted by how often the array streams it; what is concatenated moves within its part. The function stays:
to the bit in integer arithmetic with the same steps, where sums do not depend on order; floating-point sums round differently,
and steps calibrated anew, on a sample of the values, may differ in their last digits.

Own orders per segment of the reduction need no change of the network (`weight_order: segments`, `accel.systolic.ordering`). Left
out: channels that nothing lets go (network outputs, attention heads, normalisation groups) and order inside depthwise layers,
which follow the layer before.
"""

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from picojoule.accel.systolic.ordering import combined_distance, order_by_distance, order_flips
from picojoule.compress.coupling import Coupling, channel_groups, weighted
from picojoule.compress.labels import Labels
from picojoule.compress.method import CompressionArtifact
from picojoule.compress.plan import Plan
from picojoule.compress.surgery import rebind, tensors_of
from picojoule.models.data import Dataset
from picojoule.sim.errors import UnsupportedError
from picojoule.sim.formats import Granularity, NumberFormat, integer_format
from picojoule.sim.gemm import gemm_view
from picojoule.sim.integer_weights import integer_weights
from picojoule.sim.ir import Layer, Network
from picojoule.sim.numerics.torch_importer import from_module
from picojoule.sim.signals import CostSignal
from picojoule.sim.specs import Spec

_log = logging.getLogger("picojoule.compress.reordering")
_TOLERANCE = 1e-3
"""Largest difference between outputs before and after, relative to the largest (float32 sums in another order)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerFlips:
    """Bits that flip when a layer's weights stream once, output channel after output channel, before and after."""

    name: str
    before: int
    after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReorderReport:
    """What an order did: flips per layer with weights, channels that may move, and those that nothing lets go."""

    layers: tuple[LayerFlips, ...]
    moved: int
    fixed: int

    @property
    def gain(self) -> float:
        """How many times fewer bits flip over all layers, each streamed once."""
        after = sum(layer.after for layer in self.layers)
        return sum(layer.before for layer in self.layers) / after if after else 1.0


class ReorderConfig(Spec):
    """Settings of the order."""

    bits: int = Field(default=8, ge=2, le=16, description="width of a weight where the network sets no format")
    code: Literal["twos_complement", "sign_magnitude"] = Field(default="twos_complement")
    sweeps: int = Field(default=4, ge=0, le=1000, description="passes of 2-opt and or-opt behind the greedy order")
    cols: int = Field(
        default=16, ge=1, description="columns of the array: how often a layer streams is its pixels over these"
    )
    seed: int = Field(default=0, ge=0, description="every method takes one; nothing is random here")


class Reorder:
    """Permutation of output channels as a method."""

    config_type = ReorderConfig

    def fit(
        self, model: nn.Module, data: Dataset, signal: CostSignal | None, config: ReorderConfig
    ) -> tuple[nn.Module, CompressionArtifact]:
        """Return the permuted model; the plan is empty, as nothing else changes, and no data or signal is used."""
        made, report = reorder(model, (torch.tensor(data.train.images[:2]),), config)
        note = (
            f"{report.moved} channel groups may move, {report.fixed} cannot; weights streamed once flip {report.gain:.3f} times "
            "fewer bits"
        )
        return made, CompressionArtifact(plan=Plan(), notes=(note,))


def reorder(
    module: nn.Module, example_inputs: Sequence[Tensor], config: ReorderConfig | None = None
) -> tuple[nn.Module, ReorderReport]:
    """Return a copy of the module with permuted channels, in eval mode, and what that saves.

    The copy is run on the example inputs (batch of 2 or more) and must give what the module gives.

    Raises:
        UnsupportedError: if a tensor to be permuted is computed and not held by the module, or if the module's own code counts
            on the order of its channels.

    """
    config = config or ReorderConfig()
    plain = copy.deepcopy(module).eval()
    network = from_module(plain, tuple(example_inputs))
    coupling = channel_groups(network)
    moves = best_moves(network, coupling, config)
    made = permuted_module(plain, coupling, moves)
    _check(plain, made, example_inputs)
    before, after = (dict(_flips(network_, config)) for network_ in (network, rebind(network, made)))
    layers = tuple(LayerFlips(name=name, before=before[name], after=after[name]) for name in before)
    movable = sum(len(block) for block in blocks_of(coupling) if len(block) > 1)
    return made, ReorderReport(layers=layers, moved=movable, fixed=_channels(coupling) - movable)


def blocks_of(coupling: Coupling) -> list[NDArray[np.int64]]:
    """Return sets of channel groups that may change places among each other: those that occur on the same axes as often."""
    marks: list[list[tuple[int, int]]] = [[] for _ in range(coupling.count)]
    axes = [labels for held in (coupling.tensors, coupling.values) for of_name in held.values() for labels in of_name]
    for number, labels in enumerate(axes):
        found, counts = np.unique(labels[labels >= 0], return_counts=True)
        for group, count in zip(found.tolist(), counts.tolist(), strict=True):
            marks[group].append((number, count))
    blocks: dict[tuple[tuple[int, int], ...], list[int]] = {}
    for group, mark in enumerate(marks):
        blocks.setdefault(tuple(mark), []).append(group)
    return [np.array(block, dtype=np.int64) for block in blocks.values()]


def best_moves(network: Network, coupling: Coupling, config: ReorderConfig) -> NDArray[np.int64]:
    """Return for each channel group which one comes to stand in its place, [groups]."""
    moves = np.arange(coupling.count, dtype=np.int64)
    streamed = [layer for layer in network.layers if _streams(layer)]
    codes = {layer.name: _codes(layer, config) for layer in streamed}
    for block in blocks_of(coupling):
        parts, times = [], []
        for layer in streamed:
            rows = _rows_of(coupling.outputs_of(layer), block, codes[layer.name])
            if rows is not None:
                parts.append(rows)
                times.append(_times_streamed(layer, config.cols))
        if len(block) > 1 and parts:
            distance = combined_distance(parts, times, bits=config.bits, code=config.code)
            order = order_by_distance(distance, sweeps=config.sweeps)
            as_is = int(np.diagonal(distance, 1).sum(dtype=np.int64))
            if int(distance[order[:-1], order[1:]].sum(dtype=np.int64)) < as_is:  # an order found before may be better
                moves[block] = block[order]
    return moves


def permuted_axis(labels: Labels, moves: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return which old index each index of an axis takes when groups move: the same occurrence of the group that comes."""
    taken = np.arange(len(labels))
    live = np.flatnonzero(labels >= 0)
    if not len(live):
        return taken
    order = live[np.argsort(labels[live], kind="stable")]
    groups, starts = np.unique(labels[order], return_index=True)
    first = dict(zip(groups.tolist(), starts.tolist(), strict=True))
    for place, index in enumerate(order.tolist()):
        group = int(labels[index])
        taken[index] = order[first[int(moves[group])] + place - first[group]]
    return taken


def permuted_module(module: nn.Module, coupling: Coupling, moves: NDArray[np.int64]) -> nn.Module:
    """Return a copy of the module whose channel groups have moved.

    Raises:
        UnsupportedError: if a tensor to be permuted is computed and not held by the module.

    """
    made = copy.deepcopy(module).eval()
    held = tensors_of(made)
    for name, axes in coupling.tensors.items():
        taken = [permuted_axis(labels, moves) for labels in axes]
        changed = [i for i, t in enumerate(taken) if not np.array_equal(t, np.arange(len(t)))]
        if not changed:
            continue
        tensor = _held(held, name, tuple(len(a) for a in axes))
        if tensor is None:
            raise UnsupportedError(
                f"{type(module).__name__}: '{name}' must change its order but is computed, not a parameter or buffer of that "
                "shape; remove parametrisations first"
            )
        data = tensor.data.reshape([len(a) for a in axes])
        for axis in changed:
            data = data.index_select(axis, torch.from_numpy(taken[axis]))
        tensor.data = data.reshape(tensor.shape).clone()
        tensor.grad = None
    return made


def _held(held: Mapping[str, Tensor], name: str, shape: tuple[int, ...]) -> Tensor | None:
    """Return the module's tensor of a name and shape, or the one it is a reshaped view of (a PReLU's slope: 'x.weight.slope')."""
    for known in (name, name.rpartition(".")[0]):
        tensor = held.get(known)
        if tensor is not None and [n for n in tensor.shape if n > 1] == [n for n in shape if n > 1]:
            return tensor
    return None


def _streams(layer: Layer) -> bool:
    """Whether a layer's weights stream over more than one output channel a group."""
    view = gemm_view(layer)
    return weighted(layer) and view is not None and view.n > 1


def _form(layer: Layer, config: ReorderConfig) -> NumberFormat:
    form = layer.operands[1].format
    return form if form is not None and form.is_integer else integer_format(config.bits, per=Granularity.CHANNEL)


def _codes(layer: Layer, config: ReorderConfig) -> NDArray[np.int64]:
    """Return a layer's integer weights [G, N, K]."""
    return integer_weights(
        layer, _form(layer, config), needed_by="the order of channels", remedy="give a trained module"
    )


def _rows_of(labels: Labels, block: NDArray[np.int64], codes: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Return the weights of each channel group of a block side by side [block, K * occurrences]; None if the layer makes none."""
    rows = codes.reshape(-1, codes.shape[-1])
    if len(rows) != len(labels) or not np.isin(block[0], labels):
        return None
    return np.stack([rows[labels == group].reshape(-1) for group in block])


def _times_streamed(layer: Layer, cols: int) -> int:
    view = gemm_view(layer)
    assert view is not None
    return -(-view.m // cols)


def _flips(network: Network, config: ReorderConfig) -> list[tuple[str, int]]:
    found = []
    for layer in network.layers:
        if _streams(layer):
            codes = _codes(layer, config)
            found.append((layer.name, sum(order_flips(g, bits=config.bits, code=config.code) for g in codes)))
    return found


def _channels(coupling: Coupling) -> int:
    """Return the output channels of all layers with weights, those of coupled groups once, fixed ones each."""
    fixed = sum(
        int(np.count_nonzero(coupling.outputs_of(layer) < 0)) for layer in coupling.network.layers if weighted(layer)
    )
    return coupling.count + fixed


def _check(before: nn.Module, made: nn.Module, example_inputs: Sequence[Tensor]) -> None:
    name = type(before).__name__
    with torch.no_grad():
        expected, got = (_tensors(m(*example_inputs)) for m in (before, made))
    if len(got) != len(expected) or not all(_close(a, b) for a, b in zip(got, expected, strict=True)):
        raise UnsupportedError(
            f"{name} computes something else with its channels permuted: its forward counts on their order; leave it as it is "
            "and use weight_order: segments, which changes no network"
        )


def _tensors(result: object) -> list[Tensor]:
    if isinstance(result, Tensor):
        return [result]
    if isinstance(result, Mapping):
        return [t for v in result.values() for t in _tensors(v)]
    return [t for v in result for t in _tensors(v)] if isinstance(result, list | tuple) else []


def _close(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape:
        return False
    scale = float(b.abs().max()) if b.numel() else 1.0
    return not b.numel() or bool((a - b).abs().max() <= _TOLERANCE * max(scale, 1e-6))
