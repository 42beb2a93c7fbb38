"""ONNX operators that address elements by index or order: gather, scatter, sort, arg-extremes, running totals, one-hot, masks.

An index along the batch would mix samples; such uses are refused for an open batch (`BatchError`).
Semantics: ONNX operator reference.
"""

from math import prod

import numpy as np

from picojoule.sim import attributes as at
from picojoule.sim.attributes import GatherKind, Op
from picojoule.sim.errors import InputError
from picojoule.sim.importers.onnx_scope import Results, Scope
from picojoule.sim.importers.onnx_values import BatchError, Fixed, Node, UnhandledError, Value, affordable, number
from picojoule.sim.ir import Operand

_LARGEST_INDICES = 1 << 24
"""Indices that an importer writes out itself."""


def _spread(scope: Scope, node: Node, position: int, data: Operand, axis: int | None) -> Operand:
    """Return indices (or updates) as an operand, repeated for every sample where `data` has its batch on `axis`."""
    made = scope.operand(node, position)
    batch = data.type.batch_axis
    if batch is None or batch == axis or made.type.batch_axis is not None or batch >= len(made.shape):
        return made
    return scope.batched(node, made, batch, made.shape[batch] == data.shape[batch])


def gather_elements(scope: Scope, node: Node) -> Results:
    """GatherElements."""
    data = scope.operand(node, 0)
    axis = scope.axis(node, node.integer("axis", 0), len(data.shape))
    if data.type.batch_axis == axis:
        raise BatchError("its indices run along the batch")
    indices = _wrapped(scope, node, _spread(scope, node, 1, data, axis), data.shape[axis])
    return scope.emit(node, Op.GATHER, [data, indices], at.GatherAttributes(kind=GatherKind.ELEMENTS, axis=axis))


def _wrapped(scope: Scope, node: Node, indices: Operand, size: int) -> Operand:
    """Return indices counted from the start; negative fixed ones are turned at import."""
    if indices.weights is None:
        return indices
    affordable(indices.weights.elements)
    values = indices.weights.array().astype(np.int64)
    if values.size and (values.min() < -size or values.max() >= size):
        raise InputError(f"{scope.where(node)} takes beyond the {size} elements of its axis")
    if not values.size or values.min() >= 0:
        return indices
    made = number(f"{indices.name} (of {size})", np.where(values < 0, values + size, values), np.int64)
    return scope.as_operand(node, made, trained=False)


def gather_nd(scope: Scope, node: Node) -> Results:
    """GatherND."""
    data, leading = scope.operand(node, 0), node.integer("batch_dims", 0)
    indices = scope.operand(node, 1)
    batch, depth = data.type.batch_axis, indices.shape[-1] if indices.shape else 0
    if batch is not None and leading <= batch < leading + depth:
        raise BatchError("its indices run along the batch")
    if batch is not None and batch < leading:
        indices = _spread(scope, node, 1, data, None)
    return scope.emit(node, Op.GATHER, [data, indices], at.GatherAttributes(kind=GatherKind.ND, batch_axes=leading))


def scatter(scope: Scope, node: Node) -> Results:
    """ScatterElements (Scatter before opset 11) and ScatterND."""
    data, whole = scope.operand(node, 0), node.op == "ScatterND"
    reduction = node.text("reduction", "none")
    if reduction not in ("none", "add", "mul", "max", "min"):
        raise InputError(f"{scope.where(node)}: reduction must be none, add, mul, max or min, got '{reduction}'")
    batch = data.type.batch_axis
    if whole:
        indices, updates = scope.operand(node, 1), scope.operand(node, 2)
        if batch is not None or updates.type.batch_axis is not None or indices.type.batch_axis is not None:
            raise BatchError("its indices run along the batch")
        made = at.ScatterAttributes(kind=GatherKind.ND, reduction=reduction)
        return scope.emit(node, Op.SCATTER, [data, indices, updates], made)
    axis = scope.axis(node, node.integer("axis", 0), len(data.shape))
    if batch == axis:
        raise BatchError("its indices run along the batch")
    indices, updates = (_spread(scope, node, i, data, axis) for i in (1, 2))
    others = [v.type.batch_axis for v in (indices, updates) if v.type.batch_axis is not None]
    if batch is None and others:
        data = scope.batched(node, data, others[0], True)
    indices = _wrapped(scope, node, indices, data.shape[axis])
    made = at.ScatterAttributes(kind=GatherKind.ELEMENTS, axis=axis, reduction=reduction)
    return scope.emit(node, Op.SCATTER, [data, indices, updates], made)


def top_k(scope: Scope, node: Node) -> Results:
    """TopK: values and indices in order."""
    x = scope.operand(node, 0)
    axis = scope.axis(node, node.integer("axis", -1), len(x.shape))
    if x.type.batch_axis == axis:
        raise BatchError("it sorts along the batch")
    count = scope.ints(node, 1)[0] if node.has(1) else node.integer("k", 0)
    if not 1 <= count <= x.shape[axis]:
        raise InputError(f"{scope.where(node)} takes the first {count} of {x.shape[axis]} elements")
    scope.declare(node, scope.dtypes.get(node.inputs[0], np.dtype(np.float32)), np.int64)
    made = at.SortAttributes(axis=axis, count=count, largest=bool(node.integer("largest", 1)))
    return scope.emit(node, Op.SORT, [x], made, results=2)


def arg_extreme(scope: Scope, node: Node) -> Results:
    """ArgMax and ArgMin; the last index is the first one of the reversed axis, counted back."""
    x = scope.operand(node, 0)
    axis, keep = scope.axis(node, node.integer("axis", 0), len(x.shape)), bool(node.integer("keepdims", 1))
    kind = at.ReduceKind.ARGMAX if node.op == "ArgMax" else at.ReduceKind.ARGMIN
    attributes = at.ReduceAttributes(kind=kind, axes=(axis,), keepdims=keep)
    if not node.integer("select_last_index", 0):
        return scope.emit(node, Op.REDUCE, [x], attributes)
    if x.type.batch_axis == axis:
        raise BatchError("it steps through the batch")
    size = x.shape[axis]
    bounds = at.SliceAttributes(axes=(axis,), starts=(size - 1,), stops=(-1,), steps=(-1,))
    turned = scope.emit(node, Op.SLICE, [x], bounds, step="turned")[0]
    first = scope.emit(node, Op.REDUCE, [turned], attributes, step="first")[0]
    return (scope.lower(node, "Sub", [number(f"constant {size - 1}", size - 1, np.int64), first]),)


def cumulative(scope: Scope, node: Node) -> Results:
    """CumSum and CumProd."""
    x = scope.operand(node, 0)
    axis = scope.axis(node, scope.ints(node, 1)[0], len(x.shape))
    if x.type.batch_axis == axis:
        raise BatchError("it runs along the batch")
    attributes = at.CumulativeAttributes(
        kind=at.CumulativeKind.SUM if node.op == "CumSum" else at.CumulativeKind.PROD,
        axis=axis,
        exclusive=bool(node.integer("exclusive", 0)),
        reverse=bool(node.integer("reverse", 0)),
    )
    return scope.emit(node, Op.CUMULATIVE, [x], attributes)


def one_hot(scope: Scope, node: Node) -> Results:
    """OneHot: compare with the numbers of the classes and choose between the two values."""
    indices, depth = scope.value(node, 0), scope.ints(node, 1)[0]
    pair = scope.value(node, 2)
    if depth < 1:
        raise InputError(f"{scope.where(node)} has {depth} classes")
    axis = scope.axis(node, node.integer("axis", -1), len(indices.shape) + 1)
    wide = scope.lower(node, "Unsqueeze", [indices], "wide", axes=[axis])
    shape = [-1 if i == axis else 1 for i in range(len(indices.shape) + 1)]
    classes = number(f"{node.name} classes", np.arange(affordable(depth)).reshape(shape), np.int64)
    whole = scope.lower(node, "Cast", [wide], "whole", to=7)
    wrapped = scope.lower(node, "Mod", [whole, number(f"constant {depth}", depth, np.int64)], "wrapped")
    inside = _between(scope, node, whole, depth)
    hit = scope.lower(node, "Equal", [wrapped, classes], "hit")
    if inside is not None:
        hit = scope.lower(node, "And", [hit, inside], "valid")
    off, on = (scope.lower(node, "Gather", [pair, number(f"index {i}", i, np.int64)], f"value_{i}") for i in (0, 1))
    scope.declare(node, pair.dtype if isinstance(pair, Fixed) else np.float32)
    return (scope.lower(node, "Where", [hit, on, off]),)


def _between(scope: Scope, node: Node, indices: Value, depth: int) -> Value | None:
    """Return where indices lie in [-depth, depth); None where they are known and all do."""
    if isinstance(indices, Fixed):
        values = indices.array()
        if values.size == 0 or (values.min() >= -depth and values.max() < depth):
            return None
    low = scope.lower(node, "GreaterOrEqual", [indices, number(f"constant {-depth}", -depth, np.int64)], "low")
    high = scope.lower(node, "Less", [indices, number(f"constant {depth}", depth, np.int64)], "high")
    return scope.lower(node, "And", [low, high], "between")


def triangle(scope: Scope, node: Node) -> Results:
    """Trilu: zero on one side of a diagonal."""
    x = scope.operand(node, 0)
    if len(x.shape) < 2:
        raise InputError(f"{scope.where(node)} needs a matrix, got {list(x.shape)}")
    if x.type.batch_axis is not None and x.type.batch_axis >= len(x.shape) - 2:
        raise BatchError("its diagonal runs along the batch")
    shift = scope.ints(node, 1)[0] if node.has(1) else 0
    rows, columns = x.shape[-2:]
    affordable(rows * columns)
    ones = np.ones((rows, columns), np.bool_)
    upper = bool(node.integer("upper", 1))
    mask = np.triu(ones, shift) if upper else np.tril(ones, shift)
    kept = number(f"{'upper' if upper else 'lower'} {rows} x {columns} from {shift}", mask, np.bool_)
    zero = number("constant 0", 0, scope.dtypes.get(node.inputs[0], np.dtype(np.float32)))
    return (scope.lower(node, "Where", [kept, x, zero]),)


def eye_like(scope: Scope, node: Node) -> Results:
    """EyeLike: known from the shape alone."""
    x = scope.value(node, 0)
    if len(x.shape) != 2:
        raise InputError(f"{scope.where(node)} needs a matrix, got {list(x.shape)}")
    if isinstance(x, Operand) and x.type.batch_axis is not None:
        raise BatchError("its diagonal runs along the batch")
    affordable(prod(x.shape))
    return (number(node.outputs[0], np.eye(*x.shape, k=node.integer("k", 0))),)


def hardmax(scope: Scope, node: Node) -> Results:
    """Hardmax: one at the first largest element of the axis (before opset 13: of all axes from there on)."""
    x = scope.value(node, 0)
    old, rank = node.opset < 13, len(x.shape)
    axis = scope.axis(node, node.integer("axis", 1 if old else -1), rank)
    if old and prod(x.shape[axis + 1 :]) != 1:
        if isinstance(x, Operand) and x.type.batch_axis is not None and x.type.batch_axis >= axis:
            raise BatchError("it mixes the samples of a batch")
        raise UnhandledError("before opset 13 it takes several axes as one")
    first = scope.lower(node, "ArgMax", [x], "first", axis=axis, keepdims=1)
    places = np.arange(x.shape[axis]).reshape([-1 if i == axis else 1 for i in range(rank)])
    hit = scope.lower(node, "Equal", [first, number(f"{node.name} places", places, np.int64)], "hit")
    return (scope.lower(node, "Cast", [hit], to=1),)


def compress(scope: Scope, node: Node) -> Results:
    """Compress with a condition known at import: a gather."""
    x = scope.value(node, 0)
    chosen = np.flatnonzero(scope.fixed(node, 1).array()).astype(np.int64)
    if not chosen.size:
        raise UnhandledError("it keeps nothing")
    indices = number(f"{node.name} kept", chosen, np.int64)
    if "axis" in node.attributes:
        axis = scope.axis(node, node.integer("axis", 0), len(x.shape))
    else:
        if isinstance(x, Operand) and x.type.batch_axis is not None:
            raise BatchError("it flattens the batch")
        x, axis = scope.lower(node, "Reshape", [x, number("[-1]", [-1], np.int64)], "flat"), 0
    if isinstance(x, Operand) and x.type.batch_axis == axis:
        raise BatchError("it chooses along the batch")
    return (scope.lower(node, "Gather", [x, indices], axis=axis),)


def reverse_sequence(scope: Scope, node: Node) -> Results:
    """ReverseSequence with lengths known at import."""
    x, lengths = scope.operand(node, 0), scope.ints(node, 1)
    time, batch = node.integer("time_axis", 0), node.integer("batch_axis", 1)
    fits = {time, batch} == {0, 1} and len(lengths) == x.shape[batch]
    if not fits or not 0 <= min(lengths) <= max(lengths) <= x.shape[time]:
        raise InputError(f"{scope.where(node)}: lengths {list(lengths)} do not fit {list(x.shape)}")
    if x.type.batch_axis == time:
        raise BatchError("it reverses the batch")
    if x.type.batch_axis == batch and len(set(lengths)) > 1:
        raise BatchError("its samples have different lengths")
    if prod(x.shape) > _LARGEST_INDICES:
        raise UnhandledError(f"it would need {prod(x.shape)} indices")
    steps = np.arange(x.shape[time])
    order = np.stack([np.where(steps < n, n - 1 - steps, steps) for n in lengths], axis=1)  # [time, batch]
    order = order if time == 0 else order.T
    indices = np.broadcast_to(order.reshape(order.shape + (1,) * (len(x.shape) - 2)), x.shape)
    made = number(f"{node.name} order", indices, np.int64)
    return (scope.lower(node, "GatherElements", [x, made], axis=time),)


STANDARD = {
    "GatherElements": gather_elements,
    "GatherND": gather_nd,
    "ScatterElements": scatter,
    "Scatter": scatter,
    "ScatterND": scatter,
    "TopK": top_k,
    "ArgMax": arg_extreme,
    "ArgMin": arg_extreme,
    "CumSum": cumulative,
    "CumProd": cumulative,
    "OneHot": one_hot,
    "Trilu": triangle,
    "EyeLike": eye_like,
    "Hardmax": hardmax,
    "Compress": compress,
    "ReverseSequence": reverse_sequence,
}
"""Operators of the standard domain."""
