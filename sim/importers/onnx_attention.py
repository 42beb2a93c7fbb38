"""Attention of ONNX graphs as its parts: two batched products, a softmax, and what scales and masks the scores.

Grouped key heads are not repeated: the query heads of a group are one more axis, and the products share their right operand.
Semantics: ONNX operator reference (Attention, opset 23); ONNX Runtime's for com.microsoft.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np

from picojoule.sim.errors import InputError
from picojoule.sim.importers.onnx_scope import Results, Scope
from picojoule.sim.importers.onnx_values import BatchError, Fixed, Node, UnhandledError, Value, affordable, number
from picojoule.sim.ir import Operand


@dataclass(frozen=True, slots=True, kw_only=True)
class _Heads:
    """Query [batch, heads, steps, width], key and value [batch, key heads, key steps, width]."""

    query: Value
    key: Value
    value: Value


def _reshape(scope: Scope, node: Node, x: Value, shape: tuple[int, ...], step: str) -> Value:
    """Reshape; the batch stays on axis 0."""
    if isinstance(x, Operand) and x.type.batch_axis is not None:
        if x.type.batch_axis != 0:
            raise BatchError("its batch is not the first axis")
        return scope.reshaped(node, x, shape, step, axis=0)
    return scope.lower(node, "Reshape", [x, number(f"shape {list(shape)}", shape, np.int64)], step)


def _split_heads(scope: Scope, node: Node, x: Value, heads: int, step: str) -> Value:
    """[batch, steps, heads * width] -> [batch, heads, steps, width]."""
    batch, steps, width = x.shape
    if heads < 1 or width % heads:
        raise InputError(f"{scope.where(node)}: {heads} heads do not divide {width} features")
    apart = _reshape(scope, node, x, (batch, steps, heads, width // heads), f"{step}_heads")
    return scope.lower(node, "Transpose", [apart], f"{step}_turned", perm=[0, 2, 1, 3])


def _merge_heads(scope: Scope, node: Node, x: Value, step: str = "") -> Value:
    batch, heads, steps, width = x.shape
    turned = scope.lower(node, "Transpose", [x], "mixed_turned", perm=[0, 2, 1, 3])
    return _reshape(scope, node, turned, (batch, steps, heads * width), step)


def _attend(scope: Scope, node: Node, h: _Heads, scale: float, masks: list[Value], *, last: bool) -> Value:
    """Return softmax(scale q k' + masks) v as [batch, heads, steps, width]; `last`: it is the node's own result."""
    query, key, value = h.query, h.key, h.value
    heads, kept = query.shape[1], key.shape[1]
    groups, rest = divmod(heads, kept)
    if rest or value.shape[1] != kept:
        raise InputError(f"{scope.where(node)}: {heads} query heads do not share {kept} key heads")
    factor = number(f"constant {scale:.9g}", scale)
    query = scope.lower(node, "Mul", [query, factor], "scaled")
    if groups > 1:
        batch, _, steps, width = query.shape
        query = _reshape(scope, node, query, (batch, kept, groups, steps, width), "query_groups")
        key = scope.lower(node, "Unsqueeze", [key], "key_groups", axes=[2])
        value = scope.lower(node, "Unsqueeze", [value], "value_groups", axes=[2])
    order = [*range(len(key.shape) - 2), len(key.shape) - 1, len(key.shape) - 2]
    turned = scope.lower(node, "Transpose", [key], "key_columns", perm=order)
    scores = scope.lower(node, "MatMul", [query, turned], "scores")
    for i, mask in enumerate(masks):
        scores = scope.lower(node, "Add", [scores, _fitting(scope, node, mask, kept, groups, i)], f"masked_{i}")
    weights = scope.lower(node, "Softmax", [scores], "weights", opset=13, axis=-1)
    mixed = scope.lower(node, "MatMul", [weights, value], "mixed" if groups > 1 or not last else "")
    if groups == 1:
        return mixed
    batch, _, _, steps, width = mixed.shape
    return _reshape(scope, node, mixed, (batch, heads, steps, width), "" if last else "merged")


def _fitting(scope: Scope, node: Node, mask: Value, kept: int, groups: int, i: int) -> Value:
    """Return a mask that broadcasts against scores, which have an axis of groups where key heads are shared."""
    rank = len(mask.shape)
    if groups == 1 or rank <= 2:
        return mask
    if rank != 4:
        raise UnhandledError(f"its mask has {rank} axes while heads share keys")
    batch, heads, rows, columns = mask.shape
    if heads == 1:
        return scope.lower(node, "Unsqueeze", [mask], f"mask_{i}_groups", axes=[2])
    return _reshape(scope, node, mask, (batch, kept, groups, rows, columns), f"mask_{i}_groups")


def _causal(rows: int, columns: int, offset: int = 0) -> Fixed:
    affordable(rows * columns)
    allowed = np.tril(np.ones((rows, columns), np.bool_), offset)
    return number(f"causal {rows} x {columns} from {offset}", np.where(allowed, 0.0, -np.inf))


def attention(scope: Scope, node: Node) -> Results:
    """Attention (opset 23): without past keys, soft caps and further results; those go by the standard's own definition."""
    known = {
        "is_causal",
        "kv_num_heads",
        "q_num_heads",
        "scale",
        "softcap",
        "qk_matmul_output_mode",
        "softmax_precision",
    }
    if not known.issuperset(node.attributes):
        raise UnhandledError(f"its {', '.join(sorted({*node.attributes} - known))} is not known")
    if any(node.has(i) for i in (4, 5, 6)) or node.real("softcap", 0.0) or any(scope.used(node, i) for i in (1, 2, 3)):
        raise UnhandledError("it has past keys, a soft cap or further results")
    query, key, value = (scope.value(node, i) for i in range(3))
    flat = len(query.shape) == 3
    if flat:
        query = _split_heads(scope, node, query, node.integer("q_num_heads", 0), "query")
        key = _split_heads(scope, node, key, node.integer("kv_num_heads", 0), "key")
        value = _split_heads(scope, node, value, node.integer("kv_num_heads", 0), "value")
    masks: list[Value] = []
    rows, columns = query.shape[2], key.shape[2]
    if node.integer("is_causal", 0):
        masks.append(_causal(rows, columns))
    if node.has(3):
        given = scope.value(node, 3)
        if given.shape[-1] != columns:
            raise UnhandledError("its mask is shorter than the keys")
        dtype = given.dtype if isinstance(given, Fixed) else scope.dtypes.get(node.inputs[3], np.dtype(np.float32))
        if dtype.kind == "b":  # a row may be masked altogether, for which the standard's definition looks
            raise UnhandledError("its mask is boolean")
        masks.append(given)
    scale = node.real("scale", 0.0) or 1 / sqrt(query.shape[3])
    heads = _Heads(query=query, key=key, value=value)
    mixed = _attend(scope, node, heads, scale, masks, last=not flat)
    return (_merge_heads(scope, node, mixed) if flat else mixed,)


# --- com.microsoft ----------------------------------------------------------------------------------------------------------


def fused_attention(scope: Scope, node: Node) -> Results:
    """com.microsoft Attention: one stored matrix makes query, key and value."""
    if node.has(4) or node.has(6) or node.integer("do_rotary", 0) or scope.used(node, 1):
        raise UnhandledError("it has past keys or rotates its inputs")
    x, weight, heads = scope.value(node, 0), scope.value(node, 1), node.integer("num_heads", 0)
    width = weight.shape[-1]
    sizes = node.ints("qkv_hidden_sizes", (width // 3,) * 3)
    if len(weight.shape) != 2 or len(sizes) != 3 or sum(sizes) != width:
        raise InputError(f"{scope.where(node)}: sizes {list(sizes)} do not fit a weight {list(weight.shape)}")
    bias = scope.value(node, 2) if node.has(2) else None
    projected = scope.lower(node, "MatMul", [x, weight, bias], "projected")
    parts = scope.lower_all(
        node, "Split", [projected, number(f"sizes {list(sizes)}", sizes, np.int64)], "parts", results=3, axis=2
    )
    return _heads_and_masks(scope, node, parts, heads, mask=3, bias=5)


def multi_head_attention(scope: Scope, node: Node) -> Results:
    """com.microsoft MultiHeadAttention on separate query, key and value."""
    if any(node.has(i) for i in (6, 7, 8, 9)) or not (node.has(1) and node.has(2)) or scope.used(node, 1):
        raise UnhandledError("it has past keys or packed inputs")
    parts = [scope.value(node, i) for i in range(3)]
    if node.has(3):
        widths = [p.shape[-1] if len(p.shape) == 3 else p.shape[1] * p.shape[3] for p in parts]
        pieces = scope.lower_all(
            node,
            "Split",
            [scope.value(node, 3), number(f"sizes {widths}", widths, np.int64)],
            "biases",
            results=3,
            axis=0,
        )
        if any(len(p.shape) != 3 for p in parts):
            raise UnhandledError("it adds a bias to heads that are apart already")
        parts = [
            scope.lower(node, "Add", [p, b], f"biased_{i}") for i, (p, b) in enumerate(zip(parts, pieces, strict=True))
        ]
    return _heads_and_masks(scope, node, parts, node.integer("num_heads", 0), mask=4, bias=5)


def _heads_and_masks(scope: Scope, node: Node, parts: list[Value], heads: int, *, mask: int, bias: int) -> Results:
    query, key, value = (
        p if len(p.shape) == 4 else _split_heads(scope, node, p, heads, name)
        for p, name in zip(parts, ("query", "key", "value"), strict=True)
    )
    masks: list[Value] = []
    if node.integer("unidirectional", 0):
        masks.append(_causal(query.shape[2], key.shape[2]))
    if node.has(mask):
        masks.append(_padding(scope, node, scope.value(node, mask), key.shape[2]))
    if node.has(bias):
        masks.append(scope.value(node, bias))
    scale = node.real("scale", 0.0) or 1 / sqrt(query.shape[3])
    mixed = _attend(scope, node, _Heads(query=query, key=key, value=value), scale, masks, last=False)
    return (_merge_heads(scope, node, mixed),)


def _padding(scope: Scope, node: Node, mask: Value, columns: int) -> Value:
    """Return what is added for keys that are padding: lengths [batch], or 0 and 1 as [batch, keys] or per query."""
    rank = len(mask.shape)
    if rank == 1:
        places = number(f"{columns} places", np.arange(affordable(columns))[None], np.int64)
        length = scope.lower(node, "Unsqueeze", [mask], "lengths", axes=[1])
        kept = scope.lower(node, "Less", [places, scope.lower(node, "Cast", [length], "whole", to=7)], "kept")
    elif mask.shape[-1] == columns and rank in (2, 3):
        kept = scope.lower(node, "Cast", [mask], "kept", to=9)
    else:
        raise UnhandledError(f"its mask has the shape {list(mask.shape)}")
    axes = [1] if rank == 3 else [1, 2]
    kept = scope.lower(node, "Unsqueeze", [kept], "kept_wide", axes=axes)
    low = node.real("mask_filter_value", -10000.0)
    return scope.lower(node, "Where", [kept, number("constant 0", 0.0), number(f"constant {low}", low)], "padding")
