"""The names in scope while an ONNX graph is imported, and what handlers of operators do with them: read, emit, lower."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from picojoule.sim.attributes import Attributes, ExpandAttributes, Op, ReshapeAttributes
from picojoule.sim.builder import NetworkBuilder, constant
from picojoule.sim.errors import InputError
from picojoule.sim.formats import NumberFormat
from picojoule.sim.importers.onnx_batch import reshaped_type
from picojoule.sim.importers.onnx_values import (
    Array,
    BatchError,
    Fixed,
    Ints,
    Node,
    UnhandledError,
    Value,
    grown_axis,
    weights_operand,
)
from picojoule.sim.ir import Operand, OperandKind, TensorType
from picojoule.sim.weights import Weights

Run = Callable[[Node], Sequence[Value | None] | None]
Results = Sequence[Value]
_LARGEST_LIST = 1 << 16
"""Elements of an input that lists sizes, axes or bounds."""


class Scope:
    """The values in scope and the network being built. `None` marks a value whose shape nobody knows.

    `uses` counts the readers of each value, `sole_user` is the reader where there is one. `absorbed` are results that
    an earlier layer already makes. `open_batch`: the file leaves the batch open, rather than fixing it to one.
    `inner` are values whose batch is the inner part of its axis (see `onnx_batch`). `declared` are the element types that
    a handler states for the results of the node at hand. `sequences` are lists of values, which exist at import only.
    `run` imports one node whose inputs are in scope.
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
        self.declared: dict[str, np.dtype[Any]] = {}
        self.sequences: dict[str, tuple[Value, ...]] = {}
        self.run: Run = _no_run
        self._forms: dict[str, str] = {}
        self._owners: dict[str, Weights] = {}
        self._derived: dict[tuple[int, str], tuple[Weights, Weights]] = {}
        self._pieces: dict[str, tuple[int, dict[str, int]]] = {}

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
            raise BatchError(f"its input '{value.name}' holds other values for another batch")
        kind = TensorType(shape=value.shape, batch_axis=axis)
        return self._expand(node, self.constant(f"{value.name} (one sample)", one), kind)

    def stored_operand(
        self, value: Fixed, weights: Weights, form: str = "", *, channel_axis: int | None = None
    ) -> Operand:
        """Return a stored value as a parameter (whole numbers: a constant), perhaps in another form (`transposed`).

        Operands of one name hold the same values, so a second form of the same tensor gets a name of its own.
        `channel_axis` is the axis of `value` that counts output channels: steps along another axis are left out.
        """
        kind = OperandKind.PARAMETER if value.floating and value.stored else OperandKind.CONSTANT
        base = self._own_name(value.name, value.weights)
        same = self._forms.setdefault(base, form) == form
        made = weights_operand(kind, base if same else f"{base} ({form or 'as stored'})", weights)
        if kind is OperandKind.PARAMETER:
            self._pieces.setdefault(base, (value.weights.elements, {}))[1][made.name] = weights.elements
        if value.format is None:
            return made
        if value.step is None or len(value.step) == 1:
            return replace(made, format=value.format, step=value.step)
        if channel_axis is None or value.step_axis != channel_axis:
            return replace(made, format=value.format)
        return replace(made, format=value.format.per_channel(), step=value.step)

    def _own_name(self, name: str, weights: Weights) -> str:
        """Return a name that stands for these values alone: a body that runs again makes others under the same name."""
        candidate, i = name, 1
        while not _same_values(self._owners.setdefault(candidate, weights), weights):
            i += 1
            candidate = f"{name}#{i}"
        return candidate

    def repeated_elements(self, names: set[str]) -> int:
        """Return the trained elements that operands of these names hold beyond those of the tensors they are forms of."""
        held = ((total, sum(n for name, n in forms.items() if name in names)) for total, forms in self._pieces.values())
        return sum(max(0, used - total) for total, used in held)

    def constant(self, name: str, values: Array) -> Operand:
        """Return an operand for a fixed array."""
        made = constant(name, values)
        assert made.weights is not None
        return replace(made, name=self._own_name(name, made.weights))

    def derived(self, base: Fixed, key: str, make: Callable[[], Weights]) -> Weights:
        """Return values computed from stored ones, the same handle each time they are asked for."""
        return self._derived.setdefault((id(base.weights), key), (base.weights, make()))[1]

    def expanded(self, node: Node, operand: Operand, axis: int) -> Operand:
        """Return a fixed operand repeated for every sample along `axis`."""
        return self._expand(node, operand, TensorType(shape=operand.shape, batch_axis=axis))

    def _expand(self, node: Node, operand: Operand, kind: TensorType) -> Operand:
        step = f"expand_{len(self.builder.layers)}"
        return self.emit(node, Op.EXPAND, [operand], ExpandAttributes(), types=[kind], step=step)[0]

    def lower(
        self, node: Node, op: str, inputs: Sequence[Value | None], step: str = "", domain: str = "", **attributes: Any
    ) -> Value:
        """Return the first result of a standard operator that stands for (a step of) `node`.

        Inputs are bound to names of their own; `step` is as in `emit`.
        """
        return self.lower_all(node, op, inputs, step, domain, 1, **attributes)[0]

    def lower_all(
        self,
        node: Node,
        op: str,
        inputs: Sequence[Value | None],
        step: str = "",
        domain: str = "",
        results: int = 1,
        opset: int = 0,
        **attributes: Any,
    ) -> list[Value]:
        """Return all results of a standard operator that stands for (a step of) `node`."""
        names = []
        for i, value in enumerate(inputs):
            name = "" if value is None else f"{node.name}.{step or op}<{i}"
            names.append(name)
            if value is not None:
                self.values[name] = value
                self.dtypes[name] = value.dtype if isinstance(value, Fixed) else self._dtype_of(value)
        name = f"{node.name}.{step}" if step else node.name
        outputs = tuple(name if i == 0 else f"{name}:{i}" for i in range(results)) if step else node.outputs[:results]
        inner = replace(
            node,
            op=op,
            domain=domain,
            name=name,
            inputs=tuple(names),
            outputs=outputs,
            attributes=attributes,
            opset=opset or node.opset,
        )
        made = self.run(inner)
        for given in names:
            self.values.pop(given, None)
        if made is None or any(v is None for v in made[:results]):
            raise UnhandledError(f"its part {op} is not understood")
        return [v for v in made if v is not None]

    def _dtype_of(self, value: Operand) -> np.dtype[Any]:
        return self.dtypes.get(value.name, np.dtype(np.float32))

    def reshaped(self, node: Node, value: Operand, shape: Ints, step: str = "", *, axis: int | None = None) -> Operand:
        """Return a value in another shape of the same elements, following its batch (to `axis` where that is known)."""
        kind, inner = reshaped_type(value.type, shape, inner=value.name in self.inner, axis=axis)
        made = self.emit(node, Op.RESHAPE, [value], ReshapeAttributes(), types=[kind], step=step)[0]
        self.inner.discard(made.name)
        if inner:
            self.inner.add(made.name)
        return made

    def declare(self, node: Node, *types: type[Any] | np.dtype[Any]) -> None:
        """State the element types of a node's results where they are not that of its first input."""
        self.declared.update((n, np.dtype(t)) for n, t in zip(node.outputs, types, strict=False))

    def used(self, node: Node, position: int) -> bool:
        """Whether anything reads the result at `position`."""
        return position < len(node.outputs) and bool(self.uses.get(node.outputs[position]))

    def batched(self, node: Node, value: Operand, axis: int, batched: bool) -> Operand:
        """Return `value` with the batch along `axis` where the others have one and it is the same for every sample."""
        return self.expanded(node, value, axis) if batched and value.type.batch_axis is None else value

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
            raise BatchError(f"its input {position} ('{found.name}') depends on the batch")
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
        results: int = 1,
        formats: Sequence[NumberFormat | None] | None = None,
    ) -> tuple[Operand, ...]:
        """Add a layer for `node`; `step` names an intermediate layer, the last one carries the node's own names.

        `results` is how many values the layer makes.
        """
        given = [*node.outputs, *[""] * results]
        names = [o or f"{node.name}:{i}" for i, o in enumerate(given[:results])]
        made = self.builder.add(
            op,
            operands,
            attributes,
            name=f"{node.name}.{step}" if step else node.name,
            source=node.source,
            types=types,
            value_names=None if step else names,
            formats=formats,
        )
        if any(o.name in self.inner for o in operands):
            self.inner.update(m.name for m in made)
        return made


def _no_run(node: Node) -> None:
    return None


_LARGEST_COMPARED = 1 << 16
"""Elements of tensors that are compared by their values."""


def _same_values(one: Weights, other: Weights) -> bool:
    if one is other:
        return True
    if one.shape != other.shape or one.elements > _LARGEST_COMPARED:
        return False
    a, b = one.array(), other.array()
    return a.dtype == b.dtype and a.tobytes() == b.tobytes()
