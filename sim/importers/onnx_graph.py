"""ONNX files as workloads: walks the graph once, in order, without running it.

Values known at import are folded (`onnx_constants`), operators become layers (`onnx_ops`), what is not understood
becomes opaque with the shapes that `onnx.shape_inference` or the file gives. Weights stay in the file until asked for.
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
from picojoule.sim.importers.onnx_batch import first_conflict
from picojoule.sim.importers.onnx_constants import fold, shape_value
from picojoule.sim.importers.onnx_file import default_opset, numpy_dtype, read_model, tensor_weights
from picojoule.sim.importers.onnx_inputs import ResolvedInputs, declared_inputs, resolve_inputs
from picojoule.sim.importers.onnx_ops import HANDLERS
from picojoule.sim.importers.onnx_shapes import ShapeOracle
from picojoule.sim.importers.onnx_values import Array, Fixed, Node, Scope, UnhandledError, Value, renamed
from picojoule.sim.ir import Network, Operand, OperandKind, TensorType, Unsupported
from picojoule.sim.weights import Weights, from_array

_STANDARD_DOMAINS = ("", "ai.onnx")
_NEWEST_OPSET = 26
"""Newest operator set whose operators were compared with ours; newer ones are read with a remark."""
_BOOLEAN_OPS = frozenset(
    {"Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual", "And", "Or", "Xor", "Not", "IsNaN", "IsInf"}
)
_MALFORMED = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError)
"""What numpy and Python raise over a node whose attributes or shapes are wrong."""


def load_onnx(
    path: Path, *, input_shapes: Mapping[str | None, tuple[int, ...]] | None = None, name: str | None = None
) -> Network:
    """Return the workload of an ONNX file, for one sample.

    `input_shapes` gives sizes that the file leaves open, by input name (None: the only input); its first size is the
    batch. Layers are named after the file's nodes, values after its values.

    Raises:
        InputError: if the file is missing, torn or wrong, or leaves a size open that nobody gives.
        UnsupportedError: if operators are not understood and their result shapes unknown; all are listed.

    """
    path = Path(path)
    model = read_model(path)
    try:
        return _network(path, model, input_shapes or {}, name or path.stem)
    except PicojouleError:
        raise
    except _MALFORMED as error:  # names that are no text, attributes of the wrong type: the parser lets them through
        raise InputError(f"{path}: the file is damaged ({error}); check it with onnx.checker") from error


def _network(path: Path, model: Any, shapes: Mapping[str | None, tuple[int, ...]], name: str) -> Network:
    inputs = declared_inputs(model.graph, path.name)
    resolved = resolve_inputs(inputs, shapes, path.name)
    walk = _Walk(path, model, resolved, name)
    for declared in inputs:
        made = walk.scope.builder.input(declared.name, resolved.types[declared.name])
        walk.define(declared.name, made, numpy_dtype(declared.data_type or 1, path.name))
    walk.graph(model.graph, "")
    return walk.finish([o.name for o in model.graph.output])


class _Walk:
    """One pass over a model: what is known so far, and what was not understood."""

    def __init__(self, path: Path, model: Any, resolved: ResolvedInputs, name: str) -> None:
        self.path = path
        self.opset = default_opset(model)
        self.scope = Scope(path.name, NetworkBuilder(name))
        self.scope.open_batch = resolved.open_batch
        self.oracle = ShapeOracle(model, resolved)
        self.refused: list[Unsupported] = []
        for note in resolved.notes:
            self.scope.builder.note(note)
        if self.opset > _NEWEST_OPSET:
            self.scope.builder.note(f"opset {self.opset} is newer than {_NEWEST_OPSET}, the newest one compared")

    def define(self, name: str, value: Value | None, dtype: np.dtype[Any]) -> None:
        self.scope.values[name] = value
        self.scope.dtypes[name] = dtype

    def graph(self, graph: Any, prefix: str) -> None:
        """Walk a graph, or the body of a branch that is known to be taken (`prefix` then marks its nodes)."""
        for tensor in graph.initializer:
            weights, dtype = tensor_weights(tensor, self.path.parent, self.path.name)
            self.define(tensor.name, Fixed(name=tensor.name, weights=weights, dtype=dtype, stored=True), dtype)
        names = Counter(n.name for n in graph.node)
        nodes = [self._node(proto, i, prefix, names) for i, proto in enumerate(graph.node)]
        self._count_uses(graph, nodes)
        later = []
        for node, proto in zip(nodes, graph.node, strict=True):
            if node.op == "Constant" and node.domain == "":
                self._constant(node, proto)
            else:
                later.append((node, proto))
        for node, proto in later:
            self._visit(node, proto)

    def _node(self, proto: Any, index: int, prefix: str, names: Counter[str]) -> Node:
        unique = proto.name and names[proto.name] == 1
        domain = "" if proto.domain in _STANDARD_DOMAINS else proto.domain
        return Node(
            op=proto.op_type,
            domain=domain,
            name=prefix + (proto.name if unique else f"{proto.op_type}_{index}"),
            source=f"node {prefix}{index}, {proto.op_type}",
            inputs=tuple(proto.input),
            outputs=tuple(proto.output),
            attributes={a.name: _attribute(a) for a in proto.attribute},
            opset=self.opset,
        )

    def _count_uses(self, graph: Any, nodes: Sequence[Node]) -> None:
        """Count the readers of each value; the graph's outputs and the bodies inside nodes read too."""
        uses = Counter(o.name for o in graph.output)
        users: dict[str, Node] = {}
        for node, proto in zip(nodes, graph.node, strict=True):
            for name in (*node.inputs, *_captured(proto)):
                uses[name] += 1
                users[name] = node
        self.scope.uses.update(uses)
        self.scope.sole_user.update((n, user) for n, user in users.items() if uses[n] == 1)

    def _constant(self, node: Node, proto: Any) -> None:
        weights, dtype = self._constant_value(node, proto)
        made = Fixed(name=node.outputs[0], weights=weights, dtype=dtype, stored=True)
        self.define(node.outputs[0], made, dtype)

    def _constant_value(self, node: Node, proto: Any) -> tuple[Weights, np.dtype[Any]]:
        where = self.scope.where(node)
        if len(proto.attribute) != 1 or not node.outputs:
            raise InputError(f"{where} must hold one value; the file is damaged")
        attribute = proto.attribute[0]
        if attribute.name == "value":
            return tensor_weights(attribute.t, self.path.parent, where)
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
        if node.outputs and node.outputs[0] in scope.absorbed:
            name = node.outputs[0]
            self.define(name, scope.absorbed[name], self._dtype(node, None))
            return
        for name in (*node.inputs, *_captured(proto)):
            if name and name not in scope.values:
                raise InputError(
                    f"{scope.where(node)} reads '{name}', which nothing before it makes; the file is damaged"
                )
        unknown = any(scope.values[n] is None for n in node.inputs if n)
        if unknown:
            results: Sequence[Value | None] | None = None
            if node.domain or node.op not in (*HANDLERS, "Shape", "Size", "If", "ConstantOfShape", "Range"):
                self._refuse(node, "no such operator here")
        else:
            results = self._results(node, proto)
        for i, name in enumerate(node.outputs):
            if not name:
                continue
            value = results[i] if results is not None and i < len(results) else None
            self.define(name, None if value is None else renamed(value, name), self._dtype(node, value))

    def _results(self, node: Node, proto: Any) -> Sequence[Value | None] | None:
        scope = self.scope
        before = len(scope.builder.layers)
        try:
            if node.domain:
                return self._opaque(node, proto, "no such operator here")
            known = self._known(node, proto)
            if known is not None:
                return known
            handler = HANDLERS.get(node.op)
            if handler is None:
                return self._opaque(node, proto, "no such operator here")
            try:
                return handler(scope, node)
            except UnhandledError as reason:
                del scope.builder.layers[before:]
                return self._opaque(node, proto, str(reason))
        except PicojouleError:
            raise
        except _MALFORMED as error:
            raise InputError(f"{scope.where(node)} is malformed ({error}); check the file with onnx.checker") from error

    def _known(self, node: Node, proto: Any) -> Sequence[Value | None] | None:
        """Return results that need no layer: shapes, folded constants, and branches whose condition is known."""
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
        if node.op == "If" and isinstance(values[0], Fixed):
            taken = "then_branch" if bool(values[0].array().reshape(-1)[0]) else "else_branch"
            body = next(a.g for a in proto.attribute if a.name == taken)
            self.graph(body, f"{node.name}.{taken}.")
            return [scope.values[o.name] for o in body.output]
        return fold(node, fixed)

    def _opaque(self, node: Node, proto: Any, reason: str) -> Sequence[Value | None] | None:
        """Add an opaque layer, or refuse the node where nobody knows the shapes of its results."""
        scope = self.scope
        read = {n: scope.values[n] for n in (*node.inputs, *_captured(proto)) if n}
        operands = [_opaque_operand(v) for v in read.values() if v is not None]
        names = [n for n in node.outputs if n]
        types = self.oracle.types(proto, read, scope.dtypes)
        if not names or any(n not in types for n in names):
            self._refuse(node, reason)
            return None
        original = _full_name(node)
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

    def _refuse(self, node: Node, reason: str) -> None:
        self.refused.append(Unsupported(op=_full_name(node), layer=node.name, where=node.source, reason=reason))

    def _dtype(self, node: Node, value: Value | None) -> np.dtype[Any]:
        if isinstance(value, Fixed):
            return value.dtype
        if value is not None and value.name in self.scope.dtypes:  # another name for a value that is known
            return self.scope.dtypes[value.name]
        if node.op in ("If", "Loop", "Scan"):
            return np.dtype(np.float32)
        if node.op in _BOOLEAN_OPS:
            return np.dtype(np.bool_)
        if node.op == "Cast":
            return numpy_dtype(int(node.attributes.get("to", 1)), self.scope.where(node))
        position = 1 if node.op in ("Where", "CastLike") else 0
        name = node.inputs[position] if node.has(position) else ""
        return self.scope.dtypes.get(name, np.dtype(np.float32))

    def finish(self, names: Sequence[str]) -> Network:
        """Return the network whose outputs are the values of these names."""
        scope, builder = self.scope, self.scope.builder
        if self.refused:
            listed = ", ".join(f"'{u.op}' at '{u.layer}' ({u.reason})" for u in (*builder.unsupported, *self.refused))
            count = len(builder.unsupported) + len(self.refused)
            noun = "operator is" if count == 1 else "operators are"
            raise UnsupportedError(
                f"{self.path.name}: {count} {noun} not understood, and not all result shapes are known: {listed}; "
                "replace them, or store shapes in the file (onnx.shape_inference)"
            )
        missing = next((n for n in names if n not in scope.values), None)
        if missing is not None:
            raise InputError(f"{self.path.name}: output '{missing}' is made by no node; the file is damaged")
        outputs = {v.name: v for v in (scope.values[n] for n in names) if isinstance(v, Operand)}
        if not outputs:
            raise InputError(f"{self.path.name}: no output depends on an input; there is nothing to price")
        constant_outputs = [n for n in names if isinstance(scope.values[n], Fixed)]
        if constant_outputs:
            builder.note(f"outputs that depend on no input are left out: {', '.join(constant_outputs)}")
        filled = {
            o.name
            for layer in builder.layers
            for o in layer.parameters
            if o.weights and o.weights.note == "constant fill"
        }
        if filled:
            builder.note(f"{len(filled)} weight tensors of the file are one repeated number, not trained values")
        network = builder.finish(list(outputs.values()))
        conflict = first_conflict(network)
        if conflict is None:
            return network
        note = f"the graph is written for one sample from layer '{conflict}' on; larger batches are not exact"
        return replace(network, notes=(*network.notes, note))


def _attribute(proto: Any) -> Any:
    """Return an attribute's value; small tensors as arrays, graphs and stored weights are read from the node."""
    if proto.type == onnx.AttributeProto.TENSOR:
        return numpy_helper.to_array(proto.t) if proto.t.data_location == 0 and proto.t.ByteSize() < 1024 else None
    if proto.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
        return None
    return onnx.helper.get_attribute_value(proto)


def _captured(proto: Any) -> tuple[str, ...]:
    """Return the names that the bodies inside a node read from outside."""
    bodies = [a.g for a in proto.attribute if a.type == onnx.AttributeProto.GRAPH]
    return tuple(dict.fromkeys(n for body in bodies for n in _free_names(body)))


def _free_names(body: Any) -> Iterable[str]:
    made = {i.name for i in (*body.input, *body.initializer)}
    for node in body.node:
        yield from (n for n in (*node.input, *_captured(node)) if n and n not in made)
        made.update(node.output)
    yield from (o.name for o in body.output if o.name not in made)


def _full_name(node: Node) -> str:
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
