"""The workload: what is priced and executed. Frozen values, no behaviour beyond reading them.

A `Network` holds `Layer`s in topological order; a layer names its operands in order (repeats allowed) and its results.
Shapes are for one sample: `TensorType.batch_axis` says which axis grows with the batch. Importers build networks with
`builder.NetworkBuilder`; `check_network` says what a sound network is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from math import prod
from typing import TYPE_CHECKING

from picojoule.sim.attributes import Attributes, Op
from picojoule.sim.errors import InputError
from picojoule.sim.formats import DENSE, NumberFormat, Sparsity
from picojoule.sim.weights import Weights

if TYPE_CHECKING:
    import networkx


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorType:
    """Shape of a value for one sample; `shape[batch_axis]` is multiplied by the batch (None: independent of it)."""

    shape: tuple[int, ...]
    batch_axis: int | None = None

    def at(self, batch: int) -> tuple[int, ...]:
        """Return the shape for `batch` samples."""
        if self.batch_axis is None:
            return self.shape
        return tuple(s * batch if i == self.batch_axis else s for i, s in enumerate(self.shape))

    def elements(self, batch: int = 1) -> int:
        """Return the number of elements for `batch` samples."""
        return prod(self.at(batch))


class OperandKind(StrEnum):
    """What an operand is: trained values, something computed from the input, or a fixed array."""

    PARAMETER = "parameter"
    ACTIVATION = "activation"
    CONSTANT = "constant"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operand:
    """One operand of a layer.

    `format` None means that nothing sets it: the accelerator's native format is priced and the report says so. `step` is
    the size of one integer step where it is known (one number, or one per output channel).
    """

    kind: OperandKind
    name: str
    type: TensorType
    format: NumberFormat | None = None
    sparsity: Sparsity = DENSE
    step: tuple[float, ...] | None = None
    weights: Weights | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape for one sample."""
        return self.type.shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A value that a layer (or the network's input) defines."""

    name: str
    type: TensorType
    format: NumberFormat | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape for one sample."""
        return self.type.shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """How often a layer runs: the expected share of its work (early exits, gates, mixtures), and where that comes from."""

    share: float = 1.0
    source: str = ""


ALWAYS = Execution()


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One operator with its operands, results and attributes; `source` is the user's own name or line for it."""

    name: str
    op: Op
    operands: tuple[Operand, ...]
    results: tuple[Result, ...]
    attributes: Attributes
    source: str = ""
    execution: Execution = ALWAYS

    @property
    def parameters(self) -> tuple[Operand, ...]:
        """The operands that are trained."""
        return tuple(o for o in self.operands if o.kind is OperandKind.PARAMETER)

    @property
    def activations(self) -> tuple[Operand, ...]:
        """The operands computed from the input."""
        return tuple(o for o in self.operands if o.kind is OperandKind.ACTIVATION)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsupported:
    """An operator that an importer did not understand: its name, where it stands, and why."""

    op: str
    layer: str
    where: str
    reason: str = "no such operator here"


@dataclass(frozen=True, slots=True, kw_only=True, weakref_slot=True)
class Network:
    """A network in topological order. `notes` are an importer's remarks that every result repeats.

    `weights` says where the values come from (`file`, `module`, `random`, `trained`, `none` where the source has none).
    `original_parameters` keeps the count of trained elements when a rewrite merges some of them.
    """

    name: str
    inputs: tuple[Result, ...]
    outputs: tuple[str, ...]
    layers: tuple[Layer, ...]
    notes: tuple[str, ...] = ()
    unsupported: tuple[Unsupported, ...] = ()
    weights: str = "file"
    original_parameters: int | None = None

    @property
    def graph(self) -> "networkx.MultiDiGraph":
        """A derived view: nodes are layer names (and inputs), an edge per operand with its position as key."""
        import networkx as nx

        graph = nx.MultiDiGraph()
        graph.add_nodes_from(r.name for r in self.inputs)
        maker = {r.name: r.name for r in self.inputs}
        for layer in self.layers:
            graph.add_node(layer.name, layer=layer)
            for position, operand in enumerate(layer.operands):
                if operand.kind is OperandKind.ACTIVATION:
                    graph.add_edge(maker[operand.name], layer.name, key=position, value=operand.name)
            maker.update((r.name, layer.name) for r in layer.results)
        return graph

    @property
    def parameters(self) -> int:
        """Number of trained elements as the source counts them; a tensor that several layers share counts once."""
        if self.original_parameters is not None:
            return self.original_parameters
        seen = {o.name: o.type.elements() for layer in self.layers for o in layer.parameters}
        return sum(seen.values())

    def values(self) -> Mapping[str, Result]:
        """Every value by name: inputs and results."""
        found = {r.name: r for r in self.inputs}
        for layer in self.layers:
            found.update((r.name, r) for r in layer.results)
        return found

    def consumers(self) -> Mapping[str, tuple[Layer, ...]]:
        """Return the layers that read each value, in order; a value that nobody reads is absent."""
        found: dict[str, list[Layer]] = {}
        for layer in self.layers:
            for name in dict.fromkeys(o.name for o in layer.activations):
                found.setdefault(name, []).append(layer)
        return {name: tuple(layers) for name, layers in found.items()}

    def with_layers(self, layers: tuple[Layer, ...]) -> "Network":
        """Return the same network with other layers."""
        return replace(self, layers=layers)


def check_network(network: Network) -> None:
    """Refuse a network that is not sound: order, unique names, shapes that agree, positive sizes.

    Raises:
        InputError: naming the layer and the rule it breaks.

    """
    known = {r.name: r.type for r in network.inputs}
    names: set[str] = set()
    for result in network.inputs:
        _check_sizes(result.type, f"{network.name}: input '{result.name}'")
    for layer in network.layers:
        where = f"{network.name}: layer '{layer.name}'"
        if layer.name in names:
            raise InputError(f"{where} appears twice; layer names must be unique")
        names.add(layer.name)
        for operand in layer.operands:
            if operand.kind is not OperandKind.ACTIVATION:
                continue
            if operand.name not in known:
                raise InputError(
                    f"{where} reads '{operand.name}' before any layer makes it; order layers by dependence"
                )
            if known[operand.name] != operand.type:
                raise InputError(
                    f"{where} reads '{operand.name}' as {operand.type}, it was made as {known[operand.name]}"
                )
        for result in layer.results:
            if result.name in known:
                raise InputError(f"{where} makes '{result.name}' a second time; value names must be unique")
            _check_sizes(result.type, f"{where}, result '{result.name}'")
            known[result.name] = result.type
    for name in network.outputs:
        if name not in known:
            raise InputError(f"{network.name}: output '{name}' is made by no layer")


_LARGEST = 2**48
"""Elements of one value beyond which counts could leave int64 when multiplied (and no memory could hold it)."""


def _check_sizes(kind: TensorType, where: str) -> None:
    if any(s < 1 for s in kind.shape):
        raise InputError(f"{where} has shape {list(kind.shape)}; every size must be at least 1")
    if prod(kind.shape) > _LARGEST:
        raise InputError(f"{where} has shape {list(kind.shape)}, more than 2^48 elements; check the input shape")
