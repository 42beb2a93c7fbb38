"""Walks an ONNX graph once, in order: what is known so far, what each node becomes, and what was not understood.

A node is, in this order: folded where its inputs are known (`onnx_constants`), laid out by a handler (`onnx_table`), replaced
by the operators that the standard defines it by (`onnx_definitions`), or opaque with the shapes that somebody knows.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from picojoule.sim.attributes import Op, OpaqueAttributes
from picojoule.sim.builder import NetworkBuilder
from picojoule.sim.errors import InputError, PicojouleError, UnsupportedError
from picojoule.sim.importers import onnx_control
from picojoule.sim.importers.onnx_constants import fold, shape_value
from picojoule.sim.importers.onnx_definitions import expansion
from picojoule.sim.importers.onnx_file import default_opset, numpy_dtype, tensor_format, tensor_weights
from picojoule.sim.importers.onnx_inputs import ResolvedInputs
from picojoule.sim.importers.onnx_quantized import viewed
from picojoule.sim.importers.onnx_scope import Scope
from picojoule.sim.importers.onnx_shapes import ShapeOracle
from picojoule.sim.importers.onnx_table import data_dependent, handler_of
from picojoule.sim.importers.onnx_values import Array, BatchError, Fixed, Node, UnhandledError, Value, renamed
from picojoule.sim.ir import Operand, OperandKind, TensorType, Unsupported
from picojoule.sim.weights import Weights, from_array

STANDARD_DOMAINS = ("", "ai.onnx")
_BOOLEAN_OPS = frozenset(
    {"Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual", "And", "Or", "Xor", "Not", "IsNaN", "IsInf"}
)
_WHOLE_OPS = frozenset({"ArgMax", "ArgMin", "NonZero"})
MALFORMED = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError)
"""What numpy and Python raise over a node whose attributes or shapes are wrong."""
_UNKNOWN = "no such operator here"
_FREE_STEPS, _STEPS_PER_NODE = 20_000, 10
"""Operators that loops, branches and functions may come to, whatever the file holds and per operator in it."""
_DEEPEST = 24
"""Nested bodies and functions; published files nest two or three deep."""


class Walk:
    """One pass over a model."""

    def __init__(
        self, path: Path, model: Any, resolved: ResolvedInputs, name: str, probed: Mapping[str, TensorType]
    ) -> None:
        self.path = path
        self.resolved = resolved
        self.opset = default_opset(model)
        self.scope = Scope(path.name, NetworkBuilder(name))
        self.scope.open_batch = resolved.open_batch
        self.scope.run = self._step
        self.oracle = ShapeOracle(model, resolved, probed)
        self.refused: list[Unsupported] = []
        self.mixes_samples = False
        self._steps_left = _FREE_STEPS + _STEPS_PER_NODE * len(model.graph.node)
        self._depth = 0
        self._in_body = False
        self._tensors: dict[int, tuple[Any, Weights, np.dtype[Any]]] = {}
        self._folded: dict[tuple[int, ...], tuple[Any, Sequence[Fixed | None], Sequence[Value] | None]] = {}
        self._versions = {o.domain: o.version for o in model.opset_import}

    def define(self, name: str, value: Value | None, dtype: np.dtype[Any]) -> None:
        """Bind a name to a value."""
        self.scope.values[name] = value
        self.scope.dtypes[name] = dtype

    def graph(self, graph: Any, prefix: str, opset: int | None = None) -> None:
        """Walk a graph, or the body of a node (`prefix` then marks its layers; `opset` is that of a function's body)."""
        for tensor in getattr(graph, "initializer", ()):
            weights, dtype = self._tensor(tensor, self.path.name)
            made = Fixed(
                name=tensor.name, weights=weights, dtype=dtype, stored=True, format=tensor_format(tensor.data_type)
            )
            self.define(tensor.name, made, dtype)
        names = Counter(n.name for n in graph.node)
        nodes = [self._node(proto, i, prefix, names, opset) for i, proto in enumerate(graph.node)]
        self._count_uses(graph, nodes, inner=bool(prefix))
        later = []
        for node, proto in zip(nodes, graph.node, strict=True):
            if node.op == "Constant" and node.domain == "":
                self._constant(node, proto)
            else:
                later.append((node, proto))
        self._depth += 1
        self._in_body = self._depth > 1
        if self._depth > _DEEPEST:
            raise UnsupportedError(f"{self.path.name}: '{prefix}' nests more than {_DEEPEST} bodies; flatten the graph")
        try:
            for node, proto in later:
                self._visit(node, proto)
        finally:
            self._depth -= 1
            self._in_body = self._depth > 1

    def _tensor(self, tensor: Any, where: str) -> tuple[Weights, np.dtype[Any]]:
        """Return a stored tensor, the same handle each time its body runs."""
        if id(tensor) not in self._tensors:
            self._tensors[id(tensor)] = (tensor, *tensor_weights(tensor, self.path.parent, where))
        return self._tensors[id(tensor)][1:]

    def _node(self, proto: Any, index: int, prefix: str, names: Counter[str], opset: int | None) -> Node:
        unique = proto.name and names[proto.name] == 1
        domain = "" if proto.domain in STANDARD_DOMAINS else proto.domain
        return Node(
            op=proto.op_type,
            domain=domain,
            name=prefix + (proto.name if unique else f"{proto.op_type}_{index}"),
            source=f"node {prefix}{index}, {proto.op_type}",
            inputs=tuple(proto.input),
            outputs=tuple(proto.output),
            attributes={a.name: _attribute(a) for a in proto.attribute},
            opset=opset or self.opset,
        )

    def _count_uses(self, graph: Any, nodes: Sequence[Node], *, inner: bool) -> None:
        """Count the readers of each value; the graph's outputs and the bodies inside nodes read too.

        A body only counts what it makes itself: values from outside have other readers.
        """
        uses = Counter(getattr(o, "name", o) for o in graph.output)
        users: dict[str, Node] = {}
        for node, proto in zip(nodes, graph.node, strict=True):
            for name in (*node.inputs, *captured(proto)):
                uses[name] += 1
                users[name] = node
        if inner:
            made = {name for node in nodes for name in node.outputs}
            uses = Counter({n: c for n, c in uses.items() if n in made})
        self.scope.uses.update(uses)
        for name, count in uses.items():
            self.scope.sole_user.pop(name, None)
            if count == 1 and name in users:
                self.scope.sole_user[name] = users[name]

    def _constant(self, node: Node, proto: Any) -> None:
        weights, dtype = self._constant_value(node, proto)
        code = proto.attribute[0].t.data_type if proto.attribute[0].name == "value" else 0
        made = Fixed(name=node.outputs[0], weights=weights, dtype=dtype, stored=True, format=tensor_format(code))
        self.define(node.outputs[0], made, dtype)

    def _constant_value(self, node: Node, proto: Any) -> tuple[Weights, np.dtype[Any]]:
        where = self.scope.where(node)
        if len(proto.attribute) != 1 or not node.outputs:
            raise InputError(f"{where} must hold one value; the file is damaged")
        attribute = proto.attribute[0]
        if attribute.name == "value":
            return self._tensor(attribute.t, where)
        if attribute.name == "sparse_value":
            raise UnsupportedError(f"{where} is stored sparse, which is not read; save it dense")
        kinds = {"float": np.float32, "int": np.int64, "string": np.object_}
        kind = kinds.get(attribute.name.removeprefix("value_").removesuffix("s"))
        if kind is None:
            raise InputError(f"{where} holds an unknown '{attribute.name}'; the file is damaged")
        values: Array = np.array(node.attributes[attribute.name], dtype=kind)
        return from_array(values), values.dtype

    def _visit(self, node: Node, proto: Any) -> None:
        scope = self.scope
        self._count_step()
        if node.outputs and node.outputs[0] in scope.absorbed:
            name = node.outputs[0]
            self.define(name, scope.absorbed.pop(name), self._dtype(node, None))
            return
        read = [n for n in (*node.inputs, *captured(proto)) if n]
        for name in read:
            if name not in scope.values and name not in scope.sequences:
                raise InputError(
                    f"{scope.where(node)} reads '{name}', which nothing before it makes; the file is damaged"
                )
        scope.declared.clear()
        unknown = any(n in scope.values and scope.values[n] is None for n in read)
        if unknown:
            results: Sequence[Value | None] | None = None
            if handler_of(node) is None and not onnx_control.understood(node):
                self._unknown_operator(node, proto)
        else:
            results = self._guarded(node, proto)
        for i, name in enumerate(node.outputs):
            if not name or name in scope.sequences:
                continue
            value = results[i] if results is not None and i < len(results) else None
            dtype = self._dtype(node, value, i)
            self.define(name, None if value is None else renamed(value, name), dtype)
            if isinstance(value, Operand):
                scope.dtypes[value.name] = dtype

    def _count_step(self) -> None:
        """Refuse a file whose loops within loops never end; each loop alone is bounded by `onnx_control`."""
        self._steps_left -= 1
        if self._steps_left < 0:
            raise UnsupportedError(
                f"{self.path.name}: its loops and functions come to more than {_FREE_STEPS} operators and {_STEPS_PER_NODE} "
                "times those in the file; unroll what is meant, or take the loops out"
            )

    def _unknown_operator(self, node: Node, proto: Any) -> None:
        """List an operator that reads something unknown, if it is unknown itself (all are to be named at once)."""
        known = any(a.name == "body" or a.name.endswith("_branch") for a in proto.attribute) and not node.domain
        types = [(np.dtype(np.float32), 0)] * len(node.inputs)
        if not known and expansion(proto, types, self._versions, "") is None:
            self.refuse(node, data_dependent(node) or _UNKNOWN)

    def _guarded(self, node: Node, proto: Any) -> Sequence[Value | None] | None:
        try:
            return self._results(node, proto)
        except PicojouleError as error:
            if any(name in str(error) for name in (self.path.name, self.scope.builder.name)):
                raise
            raise type(error)(f"{self.scope.where(node)}: {error}") from None
        except MALFORMED as error:
            raise InputError(
                f"{self.scope.where(node)} is malformed ({error}); check the file with onnx.checker"
            ) from error

    def _step(self, node: Node) -> Sequence[Value | None] | None:
        """Import one step of a lowered node."""
        self._count_step()
        made = self._results(node, None)
        for i, value in enumerate(made or ()):
            if isinstance(value, Operand):
                self.scope.dtypes[value.name] = self._dtype(node, value, i)
        return made

    def _results(self, node: Node, proto: Any) -> Sequence[Value | None] | None:
        """Return the results of a node whose inputs are known; `proto` is None for a step of a lowered node."""
        scope = self.scope
        before = len(scope.builder.layers), len(scope.builder.unsupported)
        reason = data_dependent(node) or _UNKNOWN
        try:
            if onnx_control.concerns(scope, node):
                return onnx_control.results(self, node, proto)
            known = None if node.domain else self._known(node, proto)
            if known is not None:
                return known
            handler = handler_of(node)
            if handler is not None:
                return handler(scope, node)
        except UnhandledError as error:
            reason = str(error)
            self.mixes_samples = self.mixes_samples or isinstance(error, BatchError)
            self.undo(before)
        if proto is None:
            raise UnhandledError(f"its part {node.op}: {reason}")
        expanded = self._expanded(node, proto, before)
        return expanded if expanded is not None else self.opaque(node, proto, reason)

    def _expanded(self, node: Node, proto: Any, before: tuple[int, int]) -> Sequence[Value | None] | None:
        """Walk the operators that the standard defines this one by; None where it defines none, or they are no better."""
        scope = self.scope
        values = {n: scope.values.get(n) for n in node.inputs if n}
        types = [(scope.dtypes[n], len(v.shape)) if (v := values.get(n)) is not None else None for n in node.inputs]
        body = expansion(proto, types, self._versions, f"{node.name}/")
        if body is None:
            return None
        refused = len(self.refused)
        self.graph(body, f"{node.name}.", body.opset)
        if len(self.refused) > refused or len(scope.builder.unsupported) > before[1]:
            del self.refused[refused:]
            self.undo(before)
            return None
        return [scope.values.get(n) if n else None for n in node.outputs]

    def undo(self, before: tuple[int, int]) -> None:
        """Take back layers (and what they did not support) beyond these counts."""
        del self.scope.builder.layers[before[0] :]
        del self.scope.builder.unsupported[before[1] :]

    def _known(self, node: Node, proto: Any) -> Sequence[Value | None] | None:
        """Return results that need no layer: shapes and folded constants (the same ones each time a body runs)."""
        scope = self.scope
        values = [scope.values[n] if n else None for n in node.inputs]
        if node.op in ("Shape", "Size") and isinstance(values[0], Operand):
            kind = values[0].type
            one, two = shape_value(node, kind.shape), shape_value(node, kind.at(2))
            made = Fixed(
                name=node.outputs[0],
                weights=from_array(one),
                dtype=one.dtype,
                stored=False,
                at_two=None if np.array_equal(one, two) else two,
            )
            return [made]
        if node.op == "CastLike":
            like = scope.dtypes[node.inputs[1]]
            node, values = replace(node, attributes={"like": like}), values[:1]
        fixed = [v for v in values if v is None or isinstance(v, Fixed)]
        if len(fixed) != len(values):
            return None
        if proto is None or not self._in_body:
            return self._fold(node, fixed)
        key = (id(proto), *(0 if f is None else id(f.weights) for f in fixed))
        if key not in self._folded:
            self._folded[key] = (
                proto,
                fixed,
                self._fold(node, fixed),
            )  # held, so that no other node gets their identities
        return self._folded[key][2]

    @staticmethod
    def _fold(node: Node, inputs: Sequence[Fixed | None]) -> Sequence[Value] | None:
        made = fold(node, inputs)
        source = inputs[0] if inputs else None
        if made is None or source is None:
            return made
        if node.op == "Transpose" and len(source.shape) == 2 and source.at_two is None and node.ints("perm") != (0, 1):
            made = [replace(m, turned=source) for m in made]
        return made if source.format is None else [viewed(node, source, m) for m in made]

    def opaque(self, node: Node, proto: Any, reason: str) -> Sequence[Value | None] | None:
        """Add an opaque layer, or refuse the node where nobody knows the shapes of its results."""
        scope = self.scope
        if any(n in scope.sequences for n in node.inputs):
            self.refuse(node, reason)
            return None
        read = {n: scope.values[n] for n in (*node.inputs, *captured(proto)) if n and n in scope.values}
        operands = [_opaque_operand(v) for v in read.values() if v is not None]
        names = [n for n in node.outputs if n]
        types = self.oracle.types(proto, read, scope.dtypes)
        if not names or any(n not in types for n in names):
            self.refuse(node, reason)
            return None
        if any(n in self.oracle.probed for n in names):
            scope.builder.note(
                f"{node.name}: the shape of its result depends on the data; it was probed with inputs of zeros and ones"
                if data_dependent(node)
                else f"{node.name}: the shape of its result was learnt by running the file in ONNX Runtime"
            )
        original = full_name(node)
        made = scope.builder.add(
            Op.OPAQUE,
            operands,
            OpaqueAttributes(original=original),
            name=node.name,
            source=node.source,
            types=[types[n] for n in names],
            value_names=names,
        )
        layer = scope.builder.layers[-1].name
        scope.builder.unsupported.append(Unsupported(op=original, layer=layer, where=node.source, reason=reason))
        by_name = dict(zip(names, made, strict=True))
        return [by_name.get(n) for n in node.outputs]

    def refuse(self, node: Node, reason: str) -> None:
        """Remember a node that cannot even be opaque."""
        self.refused.append(Unsupported(op=full_name(node), layer=node.name, where=node.source, reason=reason))

    def _dtype(self, node: Node, value: Value | None, position: int = 0) -> np.dtype[Any]:
        if isinstance(value, Fixed):
            return value.dtype
        stated = self.scope.declared.get(node.outputs[position]) if position < len(node.outputs) else None
        if stated is not None:
            return stated
        if value is not None and value.name in self.scope.dtypes:  # another name for a value that is known
            return self.scope.dtypes[value.name]
        if node.op in _BOOLEAN_OPS:
            return np.dtype(np.bool_)
        if node.op in _WHOLE_OPS:
            return np.dtype(np.int64)
        if node.op == "Cast":
            return numpy_dtype(int(node.attributes.get("to", 1)), self.scope.where(node))
        source = 1 if node.op in ("Where", "CastLike") else 0
        name = node.inputs[source] if node.has(source) else ""
        return self.scope.dtypes.get(name, np.dtype(np.float32))


def _attribute(proto: Any) -> Any:
    """Return an attribute's value; small tensors as arrays, graphs and stored weights are read from the node."""
    if proto.type == onnx.AttributeProto.TENSOR:
        return numpy_helper.to_array(proto.t) if proto.t.data_location == 0 and proto.t.ByteSize() < 1024 else None
    if proto.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
        return None
    return onnx.helper.get_attribute_value(proto)


def captured(proto: Any) -> tuple[str, ...]:
    """Return the names that the bodies inside a node read from outside."""
    bodies = [a.g for a in proto.attribute if a.type == onnx.AttributeProto.GRAPH]
    return tuple(dict.fromkeys(n for body in bodies for n in _free_names(body)))


def _free_names(body: Any) -> Iterable[str]:
    made = {i.name for i in (*body.input, *body.initializer)}
    for node in body.node:
        yield from (n for n in (*node.input, *captured(node)) if n and n not in made)
        made.update(node.output)
    yield from (o.name for o in body.output if o.name not in made)


def full_name(node: Node) -> str:
    """Return the operator's name with its domain."""
    return f"{node.domain}.{node.op}" if node.domain else node.op


def _opaque_operand(value: Value) -> Operand:
    if isinstance(value, Operand):
        return value
    trained = value.floating and value.stored and value.weights.elements > 1
    return Operand(
        kind=OperandKind.PARAMETER if trained else OperandKind.CONSTANT,
        name=value.name,
        type=TensorType(shape=value.shape),
        weights=value.weights,
    )
