"""What the operators of an ONNX graph work on while it is imported: nodes, fixed values, and the names in scope."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from picojoule.sim.attributes import Attributes, ExpandAttributes, Op
from picojoule.sim.builder import NetworkBuilder, constant
from picojoule.sim.errors import InputError
from picojoule.sim.ir import Operand, OperandKind, TensorType
from picojoule.sim.weights import Weights

Array = NDArray[Any]
Ints = tuple[int, ...]


class UnhandledError(Exception):
    """A use of an operator that the workload cannot say; the node becomes opaque, with this reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node of the graph; absent inputs and outputs have empty names. `name` is its layer's name."""

    op: str
    domain: str
    name: str
    source: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    opset: int

    def has(self, position: int) -> bool:
        """Whether the input at `position` is given."""
        return position < len(self.inputs) and self.inputs[position] != ""

    def ints(self, key: str, default: Ints = ()) -> Ints:
        """Return an attribute of integers."""
        return tuple(int(v) for v in self.attributes.get(key, default))

    def integer(self, key: str, default: int) -> int:
        """Return an integer attribute."""
        return int(self.attributes.get(key, default))

    def real(self, key: str, default: float) -> float:
        """Return a real attribute, as the decimal that a person wrote (files store float32)."""
        return float(str(np.float32(self.attributes.get(key, default))))

    def text(self, key: str, default: str) -> str:
        """Return a text attribute."""
        value = self.attributes.get(key, default)
        return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fixed:
    """A value known at import: stored in the file or computed from shapes.

    `stored` says that it stems from the file's values. `at_two` is the value for a batch of two samples where it
    differs (a shape that was asked for at run time), so that the batch can be followed through arithmetic on shapes.
    """

    name: str
    weights: Weights
    dtype: np.dtype[Any]
    stored: bool
    at_two: Array | None = None

    @property
    def shape(self) -> Ints:
        """Shape for one sample."""
        return self.weights.shape

    @property
    def floating(self) -> bool:
        """Whether the values are real numbers."""
        return bool(np.issubdtype(self.dtype, np.floating))

    def array(self) -> Array:
        """Return the values for one sample."""
        return self.weights.array()

    def mapped(self, shape: Ints, change: Callable[[Array], Array]) -> Weights:
        """Return a handle on `change(values)` of the given shape, computed when loaded."""
        load = self.weights.load
        return Weights(shape=shape, load=lambda: change(load()), note=self.weights.note)


Value = Operand | Fixed
_LARGEST_LIST = 1 << 16
"""Elements of an input that lists sizes, axes or bounds."""


class Scope:
    """The values in scope and the network being built. `None` marks a value whose shape nobody knows.

    `uses` counts the readers of each value, `sole_user` is the reader where there is one. `absorbed` are results that
    an earlier layer already makes. `open_batch`: the file leaves the batch open, rather than fixing it to one.
    `inner` are values whose batch is the inner part of its axis (see `onnx_batch`).
    """

    def __init__(self, file: str, builder: NetworkBuilder) -> None:
        self.file = file
        self.builder = builder
        self.values: dict[str, Value | None] = {}
        self.dtypes: dict[str, np.dtype[Any]] = {}
        self.uses: dict[str, int] = {}
        self.sole_user: dict[str, Node] = {}
        self.absorbed: dict[str, Value] = {}
        self.open_batch = False
        self.inner: set[str] = set()
        self._forms: dict[str, str] = {}

    def where(self, node: Node) -> str:
        """Return the place of a node for an error."""
        return f"{self.file}: {node.op} '{node.name}'"

    def value(self, node: Node, position: int) -> Value:
        """Return an input's value.

        Raises:
            InputError: if the node lacks that input.

        """
        found = self.values[node.inputs[position]] if node.has(position) else None
        if found is None:
            raise InputError(f"{self.where(node)} lacks its input {position}; the file is damaged")
        return found

    def operand(self, node: Node, position: int) -> Operand:
        """Return an input as an operand; fixed values become constants."""
        return self.as_operand(node, self.value(node, position), trained=False)

    def weight(self, node: Node, position: int) -> Operand:
        """Return an input as an operand; fixed real values become parameters."""
        return self.as_operand(node, self.value(node, position), trained=True)

    def as_operand(self, node: Node, value: Value, *, trained: bool) -> Operand:
        """Return a value as an operand of `node`; one that grows with the batch is expanded by a layer of its own."""
        if isinstance(value, Operand):
            return value
        if value.at_two is not None:
            return self._expanded_fixed(node, value)
        made = self.stored_operand(value, value.weights)
        return made if trained else replace(made, kind=OperandKind.CONSTANT)

    def _expanded_fixed(self, node: Node, value: Fixed) -> Operand:
        """Return one sample's slice of a value that is the same for every sample, expanded along the batch."""
        assert value.at_two is not None
        axis = grown_axis(value.shape, value.at_two.shape)
        one = None if axis is None else np.take(value.array(), [0], axis=axis)
        if axis is None or one is None or not np.array_equal(np.broadcast_to(one, value.at_two.shape), value.at_two):
            raise UnhandledError(f"its input '{value.name}' holds other values for another batch")
        kind = TensorType(shape=value.shape, batch_axis=axis)
        return self._expand(node, constant(f"{value.name} (one sample)", one), kind)

    def stored_operand(self, value: Fixed, weights: Weights, form: str = "") -> Operand:
        """Return a stored value as a parameter (whole numbers: a constant), perhaps in another form (`transposed`).

        Operands of one name hold the same values, so a second form of the same tensor gets a name of its own.
        """
        kind = OperandKind.PARAMETER if value.floating and value.stored else OperandKind.CONSTANT
        same = self._forms.setdefault(value.name, form) == form
        return weights_operand(kind, value.name if same else f"{value.name} ({form or 'as stored'})", weights)

    def expanded(self, node: Node, operand: Operand, axis: int) -> Operand:
        """Return a fixed operand repeated for every sample along `axis`."""
        return self._expand(node, operand, TensorType(shape=operand.shape, batch_axis=axis))

    def _expand(self, node: Node, operand: Operand, kind: TensorType) -> Operand:
        step = f"expand_{len(self.builder.layers)}"
        return self.emit(node, Op.EXPAND, [operand], ExpandAttributes(), types=[kind], step=step)[0]

    def fixed(self, node: Node, position: int) -> Fixed:
        """Return an input that must be known at import."""
        found = self.value(node, position)
        if isinstance(found, Operand):
            raise UnhandledError(f"its input {position} ('{found.name}') is computed from the network's input")
        return found

    def ints(self, node: Node, position: int, *, batched: bool = False) -> Ints:
        """Return an input that lists integers (a scalar counts as a list of one), for one sample.

        Values that depend on the batch are refused unless the caller looks after them (`batched`).
        """
        found = self.fixed(node, position)
        if found.at_two is not None and not batched:
            raise UnhandledError(f"its input {position} ('{found.name}') depends on the batch")
        if found.weights.elements > _LARGEST_LIST:
            raise InputError(f"{self.where(node)}: its input {position} lists {found.weights.elements} sizes or axes")
        return tuple(int(v) for v in found.array().reshape(-1))

    def listed(self, node: Node, key: str, position: int) -> Ints | None:
        """Return a list of integers given as an input (newer opsets) or an attribute (older ones), or None."""
        if node.has(position):
            return self.ints(node, position)
        return node.ints(key) if key in node.attributes else None

    def single(self, node: Node) -> None:
        """Refuse a node whose optional further results are read."""
        for name in node.outputs[1:]:
            if self.uses.get(name):
                raise UnhandledError(f"its result '{name}' beyond the first is used")

    def axis(self, node: Node, axis: int, rank: int) -> int:
        """Return a non-negative axis.

        Raises:
            InputError: if there is no such axis.

        """
        if not -rank <= axis < rank:
            raise InputError(f"{self.where(node)}: axis {axis} does not exist in a value of {rank} axes")
        return axis % rank

    def emit(
        self,
        node: Node,
        op: Op,
        operands: Sequence[Operand],
        attributes: Attributes,
        *,
        types: Sequence[TensorType] | None = None,
        step: str = "",
    ) -> tuple[Operand, ...]:
        """Add a layer for `node`; `step` names an intermediate layer, the last one carries the node's own names."""
        names = [o or f"{node.name}:{i}" for i, o in enumerate(node.outputs)]
        made = self.builder.add(
            op,
            operands,
            attributes,
            name=f"{node.name}.{step}" if step else node.name,
            source=node.source,
            types=types,
            value_names=None if step else names if op is Op.SPLIT else names[:1],
        )
        if any(o.name in self.inner for o in operands):
            self.inner.update(m.name for m in made)
        return made


def weights_operand(kind: OperandKind, name: str, weights: Weights) -> Operand:
    """Return an operand for values that do not depend on the input."""
    return Operand(kind=kind, name=name, type=TensorType(shape=weights.shape), weights=weights)


def grown_axis(one: Sequence[int], two: Sequence[int]) -> int | None:
    """Return the only axis whose size doubles from a batch of one to a batch of two, or None."""
    if len(one) != len(two):
        return None
    differing = [i for i, (p, q) in enumerate(zip(one, two, strict=True)) if p != q]
    return differing[0] if len(differing) == 1 and two[differing[0]] == 2 * one[differing[0]] else None


def renamed(value: Value, name: str) -> Value:
    """Return a fixed value under another name; values of layers keep theirs."""
    return replace(value, name=name) if isinstance(value, Fixed) else value
