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
from torch.nn.utils import parametrize

from picojoule.accel.systolic.ordering import PIECE_ROWS, combined_distance, order_by_distance
from picojoule.compress.channel_streams import ChannelStream, permuted_axis, streams_of
from picojoule.compress.coupling import Coupling, channel_groups, weighted
from picojoule.compress.method import CompressionArtifact
from picojoule.compress.plan import Plan
from picojoule.compress.same_outputs import output_tensors, same_outputs
from picojoule.compress.surgery import rebind, tensors_of
from picojoule.models.data import Dataset
from picojoule.sim.errors import UnsupportedError
from picojoule.sim.ir import Network
from picojoule.sim.numerics.torch_importer import from_module
from picojoule.sim.signals import CostSignal
from picojoule.sim.specs import Spec

_log = logging.getLogger("picojoule.compress.reordering")


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
    before, after = (_streams(n, coupling, config) for n in (network, rebind(network, made)))
    pairs = zip(before, after, strict=True)
    layers = tuple(LayerFlips(name=old.name, before=old.flips(), after=new.flips()) for old, new in pairs)
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
    """Return for each channel group which one comes to stand in its place, [groups].

    Block by block, the order found is taken if all layers that produce the block flip fewer bits with it, each weighted by
    how often it streams: counted on whole layers, because other channels may stand between those of a block.
    """
    moves = np.arange(coupling.count, dtype=np.int64)
    streams = _streams(network, coupling, config)
    for block in blocks_of(coupling):
        found = [(stream, stream.rows_of(block)) for stream in streams] if len(block) > 1 else []
        touched = [(stream, rows) for stream, rows in found if rows is not None]
        if not touched:
            continue
        if len(block) > PIECE_ROWS and config.sweeps:
            _log.info("a set of %d channels is improved in pieces of %d", len(block), PIECE_ROWS)
        times = [stream.times for stream, _ in touched]
        bits = [stream.bits for stream, _ in touched]
        distance = combined_distance([rows for _, rows in touched], times, bits=bits, code=config.code)
        tried = moves.copy()
        tried[block] = block[order_by_distance(distance, sweeps=config.sweeps)]
        before, after = (sum(stream.times * stream.flips(m) for stream, _ in touched) for m in (moves, tried))
        if after < before:  # an order found before may be better
            moves = tried
    return moves


def _streams(network: Network, coupling: Coupling, config: ReorderConfig) -> list[ChannelStream]:
    return streams_of(network, coupling, bits=config.bits, code=config.code, cols=config.cols)


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
                f"{type(module).__name__}: '{name}' must change its order but {_why_not(made, held, name)}"
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


def _why_not(module: nn.Module, held: Mapping[str, Tensor], name: str) -> str:
    """Return why a tensor cannot be permuted, and what to do."""
    path, _, leaf = name.rpartition(".")
    try:
        owner = module.get_submodule(path)
    except AttributeError:
        owner = module
    if parametrize.is_parametrized(owner, leaf) or any(f"{name}{end}" in held for end in ("_g", "_orig")):
        return "is computed from a parametrization; remove parametrizations first"
    if name in held:
        return f"the module holds it in another shape, {tuple(held[name].shape)}; leave the network as it is"
    if isinstance(getattr(owner, leaf, None), Tensor):
        return "is a plain attribute of the module; register it as a buffer (register_buffer)"
    return (
        "is made in forward; make it a parameter or a buffer, or use weight_order: segments, which changes no network"
    )


def _channels(coupling: Coupling) -> int:
    """Return the output channels of all layers with weights, those of coupled groups once, fixed ones each."""
    fixed = sum(
        int(np.count_nonzero(coupling.outputs_of(layer) < 0)) for layer in coupling.network.layers if weighted(layer)
    )
    return coupling.count + fixed


def _check(before: nn.Module, made: nn.Module, example_inputs: Sequence[Tensor]) -> None:
    name = type(before).__name__
    with torch.no_grad():
        expected, got = (output_tensors(m(*example_inputs)) for m in (before, made))
    if not any(bool(t.isfinite().any()) for t in expected):
        raise UnsupportedError(
            f"{name} gives nothing but NaN or infinity for the example inputs, so that its permuted copy cannot be compared with "
            "it; give other inputs"
        )
    if not same_outputs(got, expected):
        raise UnsupportedError(
            f"{name} computes something else with its channels permuted: its forward counts on their order; leave it as it is "
            "and use weight_order: segments, which changes no network"
        )
