"""Which channels must go together: analysis of a network's channel coupling on the IR.

Every index of every axis of every tensor gets a label; an operator makes labels equal where dropping one index forces
dropping another (a convolution's input channel and its filter's slice, both sides of a residual add, a channel and the
features it becomes when flattened). Labels that no operator lets go are frozen: network inputs and outputs, space, batch,
whatever is normalised, reduced or multiplied with another activation across. Frozen is the answer whenever an operator is
not understood: correctness first.

This is the dependency analysis of Fang et al. 2023 (DepGraph, arXiv:2301.12900) done per index instead of per layer.
Left out: attention heads, normalisation groups and layer norm (frozen).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from picojoule.compress.coupling_rules import RULES, unknown
from picojoule.compress.labels import Axes, Labels, LabelSet, frozen_axes
from picojoule.sim.attributes import MAC_OPS, NormAttributes, NormKind, Op
from picojoule.sim.ir import Layer, Network, Operand, OperandKind

FROZEN = -1
"""Group number of an index that is never dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Indices of one axis of a parameter, buffer or constant."""

    tensor: str
    axis: int
    indices: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelGroup:
    """Slices that only go together.

    `makers` are the layers with weights that produce these channels, `readers` those that take them in; `scales` are the
    batch-norm scales among the slices.
    """

    number: int
    slices: tuple[Slice, ...]
    makers: tuple[str, ...]
    readers: tuple[str, ...]
    scales: tuple[Slice, ...]


@dataclass(frozen=True, kw_only=True)
class Coupling:
    """Group number of every index: `tensors` by parameter name, `values` by value name; `FROZEN` where none."""

    network: Network
    tensors: Mapping[str, Axes]
    values: Mapping[str, Axes]
    count: int

    def outputs_of(self, layer: Layer) -> Labels:
        """Return the group of each output channel of a layer with weights."""
        return self.values[layer.results[0].name][channel_axis(layer)]

    def inputs_of(self, layer: Layer) -> Labels:
        """Return the group of each input channel of a layer with weights."""
        return self.values[layer.operands[0].name][channel_axis(layer)]

    @cached_property
    def groups(self) -> tuple[ChannelGroup, ...]:
        """All groups, by number (first appearance in the network)."""
        slices: list[list[Slice]] = [[] for _ in range(self.count)]
        for name, axes in self.tensors.items():
            for axis, labels in enumerate(axes):
                order = np.argsort(labels, kind="stable")
                starts = np.flatnonzero(np.diff(labels[order], prepend=FROZEN - 1))
                for indices in np.split(order, starts[1:]):
                    number = labels[indices[0]]
                    if number >= 0:
                        slices[number].append(Slice(tensor=name, axis=axis, indices=tuple(indices.tolist())))
        makers: list[list[str]] = [[] for _ in range(self.count)]
        readers: list[list[str]] = [[] for _ in range(self.count)]
        gammas: set[str] = set()
        for layer in self.network.layers:
            if weighted(layer):
                for found, labels in ((makers, self.outputs_of(layer)), (readers, self.inputs_of(layer))):
                    for number in np.unique(labels[labels >= 0]):
                        found[number].append(layer.name)
            if isinstance(layer.attributes, NormAttributes) and layer.attributes.kind is NormKind.BATCH:
                gammas.add(layer.operands[1].name)
        return tuple(
            ChannelGroup(
                number=i,
                slices=tuple(slices[i]),
                makers=tuple(makers[i]),
                readers=tuple(readers[i]),
                scales=tuple(s for s in slices[i] if s.tensor in gammas),
            )
            for i in range(self.count)
        )

    def keep_at_least(self, keep: NDArray[np.bool_], score: NDArray[np.float64], minimum: int) -> NDArray[np.bool_]:
        """Return `keep` with the best-scored groups revived until every axis keeps `minimum` indices (or all it has)."""
        result = keep.copy()
        if not self.count:
            return result
        for axes in self.tensors.values():
            for labels in axes:
                missing = min(minimum, len(labels)) - int(np.count_nonzero((labels < 0) | result[labels]))
                dropped = np.unique(labels[(labels >= 0) & ~result[labels]])
                for number in dropped[np.argsort(-score[dropped], kind="stable")]:
                    if missing <= 0:
                        break
                    result[number] = True
                    missing -= int(np.count_nonzero(labels == number))
        return result


def weighted(layer: Layer) -> bool:
    """Whether a layer multiplies with trained (or fixed) weights."""
    kinds = [o.kind is OperandKind.ACTIVATION for o in layer.operands[:2]]
    return layer.op in MAC_OPS and kinds == [True, False]


def channel_axis(layer: Layer) -> int:
    """Return the axis of a weighted layer's ifmap and ofmap that holds channels."""
    return 1 if layer.op in (Op.CONV, Op.DEFORM_CONV) else len(layer.results[0].shape) - 1


def channel_groups(network: Network) -> Coupling:
    """Return which channels of a network must be dropped together."""
    analysis = _Analysis(network)
    return analysis.coupling()


class _Analysis:
    """Labels of all tensors and values of one network."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.labels = LabelSet()
        self.tensors: dict[str, Axes] = {}
        self.values: dict[str, Axes] = {r.name: frozen_axes(r.shape) for r in network.inputs}
        for layer in network.layers:
            axes = [self.axes_of(o) for o in layer.operands]
            results = RULES.get(layer.op, unknown)(self.labels, layer, axes)
            self.values.update((r.name, a) for r, a in zip(layer.results, results, strict=True))
        for name in network.outputs:
            self.labels.freeze(*self.values[name])

    def axes_of(self, operand: Operand) -> Axes:
        """Return the labels of an operand; a parameter gets new ones when first met."""
        if operand.kind is OperandKind.ACTIVATION:
            return self.values[operand.name]
        held = self.tensors.get(operand.name)
        if held is None:
            held = tuple(self.labels.fresh(size) for size in operand.shape)
            self.tensors[operand.name] = held
        elif tuple(len(a) for a in held) != operand.shape:  # one name for two shapes: nothing is known
            self.labels.freeze(*held)
            held = frozen_axes(operand.shape)
        return held

    def coupling(self) -> Coupling:
        """Return the finished analysis with groups numbered in order of appearance."""
        roots = np.array([self.labels.find(i) for i in range(len(self.labels.parent))], dtype=np.int64)
        found = np.unique(roots[1:])
        number = np.full(len(roots), FROZEN, dtype=np.int64)
        live = found[found != 0]
        number[live] = np.arange(len(live))
        of_label = number[roots]

        def final(held: Mapping[str, Axes]) -> dict[str, Axes]:
            return {name: tuple(of_label[a] for a in axes) for name, axes in held.items()}

        return Coupling(network=self.network, tensors=final(self.tensors), values=final(self.values), count=len(live))
