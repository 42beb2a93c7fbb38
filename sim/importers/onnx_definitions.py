"""Operators that the ONNX standard defines by other operators: their bodies, with the names of the node they stand for.

The bodies are those of the installed onnx package (`onnx.defs`). Functions that a file brings along are `onnx_functions`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import defs, helper

_RANDOM = frozenset({"Bernoulli"})
Kind = tuple[np.dtype[Any], int] | None
"""Element type and number of axes of an input; None for one that is absent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """The nodes that stand for one node, in order; `output` names its results, `opset` is theirs."""

    node: Sequence[Any]
    output: Sequence[str]
    opset: int


def expansion(proto: Any, kinds: Sequence[Kind], versions: Mapping[str, int], prefix: str) -> Body | None:
    """Return what the standard defines a node by, or None.

    `kinds` describe its inputs, `versions` are the operator sets of the file, and `prefix` starts the names of what is
    made inside.
    """
    domain = "" if proto.domain == "ai.onnx" else proto.domain
    version = versions.get(domain) or versions.get("ai.onnx" if domain == "" else domain)
    if version is None or proto.op_type in _RANDOM or not defs.has(proto.op_type, domain):
        return None
    newest = min(version, defs.onnx_opset_version()) if domain == "" else version
    try:
        schema = defs.get_schema(proto.op_type, newest, domain)
    except defs.SchemaError:
        return None
    function = _function(schema, proto, kinds, newest)
    if function is None:
        return None
    opset = next((int(o.version) for o in function.opset_import if o.domain in ("", "ai.onnx")), newest)
    return Body(node=_named(function, proto, schema, prefix), output=tuple(proto.output), opset=opset)


def _function(schema: Any, proto: Any, kinds: Sequence[Kind], newest: int) -> Any:
    function = onnx.FunctionProto()
    if schema.has_function:
        opset = _version(schema.function_opset_versions, newest)
        function.ParseFromString(schema.get_function_with_opset_version(opset))
        return function
    if not schema.has_context_dependent_function:
        return None
    opset = _version(schema.context_dependent_function_opset_versions, newest)
    given = [_type(k).SerializeToString() for k in kinds]
    try:
        made = schema.get_context_dependent_function_with_opset_version(opset, proto.SerializeToString(), given)
    except RuntimeError:  # the builder refuses this use
        return None
    function.ParseFromString(made)
    return function if function.node else None


def _version(versions: Sequence[int], newest: int) -> int:
    return max((v for v in versions if v <= newest), default=min(versions))


def _type(kind: Kind) -> Any:
    made = onnx.TypeProto()
    if kind is not None:
        made.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(kind[0])
        for _ in range(kind[1]):
            made.tensor_type.shape.dim.add()
    return made


def _named(function: Any, proto: Any, schema: Any, prefix: str) -> list[Any]:
    """Return the function's nodes with the caller's names and attributes put in."""
    names = dict.fromkeys(function.input, "") | dict(zip(function.input, proto.input, strict=False))
    for i, name in enumerate(function.output):
        names[name] = proto.output[i] if i < len(proto.output) and proto.output[i] else prefix + name
    attributes = {n: a.default_value for n, a in schema.attributes.items() if a.default_value.name}
    attributes |= {a.name: a for a in proto.attribute}
    return [_renamed(node, names, attributes, prefix) for node in function.node]


def _renamed(node: Any, names: dict[str, str], attributes: Mapping[str, Any], prefix: str) -> Any:
    made = onnx.NodeProto()
    made.CopyFrom(node)
    del made.input[:], made.output[:], made.attribute[:]
    made.input.extend(names.setdefault(n, prefix + n) if n else "" for n in node.input)
    made.output.extend(names.setdefault(n, prefix + n) if n else "" for n in node.output)
    for attribute in node.attribute:
        given = attributes.get(attribute.ref_attr_name) if attribute.ref_attr_name else attribute
        if given is None:
            continue  # an optional attribute that the caller leaves out
        copy = made.attribute.add()
        copy.CopyFrom(given)
        copy.name = attribute.name
        if copy.type == onnx.AttributeProto.GRAPH:
            _rename_graph(copy.g, names, attributes, prefix)
    return made


def _rename_graph(graph: Any, names: dict[str, str], attributes: Mapping[str, Any], prefix: str) -> None:
    for info in (*graph.input, *graph.initializer):
        info.name = names.setdefault(info.name, prefix + info.name)
    nodes = [_renamed(node, names, attributes, prefix) for node in graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    for info in graph.output:
        info.name = names.setdefault(info.name, prefix + info.name)
