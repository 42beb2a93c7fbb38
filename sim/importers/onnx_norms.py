"""ONNX operators that pool over windows or normalise.

Each handler reads a node's inputs, adds layers, and returns the node's results. Semantics: ONNX operator reference.
"""

from collections.abc import Callable
from math import prod

import numpy as np

from picojoule.sim import attributes as at
from picojoule.sim.attributes import Op
from picojoule.sim.errors import InputError
from picojoule.sim.importers.onnx_compute import window
from picojoule.sim.importers.onnx_scope import Results, Scope
from picojoule.sim.importers.onnx_values import Array, Node, UnhandledError, Value, number
from picojoule.sim.ir import Operand


def pool(scope: Scope, node: Node) -> Results:
    """MaxPool and AveragePool."""
    scope.single(node)
    x = scope.operand(node, 0)
    kernel = node.ints("kernel_shape")
    size = x.shape[2:]
    stride, begin, end, dilation, _ = window(scope, node, kernel, size)
    auto = node.text("auto_pad", "NOTSET")
    attributes = at.PoolAttributes(
        kind=at.PoolKind.MAX if node.op == "MaxPool" else at.PoolKind.AVERAGE,
        kernel=kernel,
        stride=stride,
        padding_begin=begin,
        padding_end=end,
        dilation=dilation,
        ceil_mode=bool(node.integer("ceil_mode", 0)) and auto == "NOTSET",
        count_include_pad=bool(node.integer("count_include_pad", 0)),
    )
    return scope.emit(node, Op.POOL, [x], attributes)


def global_pool(scope: Scope, node: Node) -> Results:
    """GlobalMaxPool and GlobalAveragePool."""
    x = scope.operand(node, 0)
    kind = at.PoolKind.MAX if node.op == "GlobalMaxPool" else at.PoolKind.AVERAGE
    if len(x.shape) < 3:
        raise InputError(f"{scope.where(node)} pools over the axes after the second, got {list(x.shape)}")
    return scope.emit(node, Op.POOL, [x], at.PoolAttributes(kind=kind, output_size=(1,) * (len(x.shape) - 2)))


def _check_channels(scope: Scope, node: Node, x: Operand, others: list[Operand]) -> None:
    for other in others:
        if len(x.shape) < 2 or other.shape != (x.shape[1],):
            raise InputError(
                f"{scope.where(node)}: '{other.name}' of shape {list(other.shape)} does not fit the channels of "
                f"{list(x.shape)}"
            )


def batch_norm(scope: Scope, node: Node) -> Results:
    """BatchNormalization with stored statistics."""
    if node.integer("training_mode", 0) or not node.integer("spatial", 1):
        raise UnhandledError("it normalises with the statistics of the batch")
    scope.single(node)
    x = scope.operand(node, 0)
    trained = [scope.weight(node, i) for i in (1, 2)]
    others = [*trained, *(scope.operand(node, i) for i in (3, 4))]  # mean and variance are measured, not trained
    _check_channels(scope, node, x, others)
    attributes = at.NormAttributes(kind=at.NormKind.BATCH, epsilon=node.real("epsilon", 1e-5))
    return scope.emit(node, Op.NORM, [x, *others], attributes)


def trailing_norm(scope: Scope, node: Node) -> Results:
    """LayerNormalization and RMSNormalization over the trailing axes."""
    scope.single(node)
    x = scope.operand(node, 0)
    axis = scope.axis(node, node.integer("axis", -1), len(x.shape))
    others = [scope.weight(node, i) for i in (1, 2) if node.has(i)]
    for other in others:
        if other.shape != x.shape[axis:]:
            raise UnhandledError(f"'{other.name}' of shape {list(other.shape)} is not the shape it normalises over")
    attributes = at.NormAttributes(
        kind=at.NormKind.LAYER if node.op == "LayerNormalization" else at.NormKind.RMS,
        epsilon=node.real("epsilon", 1e-5),
        axes=len(x.shape) - axis,
        has_scale=node.has(1),
        has_bias=node.has(2),
    )
    return scope.emit(node, Op.NORM, [x, *others], attributes)


def instance_norm(scope: Scope, node: Node) -> Results:
    """InstanceNormalization."""
    x, scale, bias = scope.operand(node, 0), scope.weight(node, 1), scope.weight(node, 2)
    _check_channels(scope, node, x, [scale, bias])
    attributes = at.NormAttributes(kind=at.NormKind.INSTANCE, epsilon=node.real("epsilon", 1e-5))
    return scope.emit(node, Op.NORM, [x, scale, bias], attributes)


_CHANNEL_SCALES_SINCE = 21
"""GroupNormalization scales each channel since this opset; before, each group."""


def group_norm(scope: Scope, node: Node) -> Results:
    """GroupNormalization; scales per group (before opset 21) are repeated for the group's channels."""
    x, groups = scope.operand(node, 0), node.integer("num_groups", 1)
    if len(x.shape) < 2 or groups < 1 or x.shape[1] % groups:
        raise InputError(f"{scope.where(node)}: num_groups {groups} does not divide the channels of {list(x.shape)}")
    if node.opset < _CHANNEL_SCALES_SINCE and scope.value(node, 1).shape == (groups,):
        repeats = x.shape[1] // groups
        stored = [scope.fixed(node, i) for i in (1, 2)]
        repeated = [f.mapped((x.shape[1],), _repeater(repeats)) for f in stored]
        others = [scope.stored_operand(f, w, f"{repeats} each") for f, w in zip(stored, repeated, strict=True)]
    else:
        others = [scope.weight(node, i) for i in (1, 2)]
    _check_channels(scope, node, x, others)
    attributes = at.NormAttributes(kind=at.NormKind.GROUP, epsilon=node.real("epsilon", 1e-5), groups=groups)
    return scope.emit(node, Op.NORM, [x, *others], attributes)


def _repeater(repeats: int) -> Callable[[Array], Array]:
    return lambda values: np.repeat(values, repeats)


def lrn(scope: Scope, node: Node) -> Results:
    """Local response normalisation across channels."""
    attributes = at.NormAttributes(
        kind=at.NormKind.LRN,
        has_scale=False,
        has_bias=False,
        size=node.integer("size", 5),
        alpha=node.real("alpha", 1e-4),
        beta=node.real("beta", 0.75),
        bias=node.real("bias", 1.0),
    )
    return scope.emit(node, Op.NORM, [scope.operand(node, 0)], attributes)


def lp_pool(scope: Scope, node: Node) -> Results:
    """LpPool and GlobalLpPool: the p-th root of the windows' sums of p-th powers."""
    x, p = scope.value(node, 0), node.integer("p", 2)
    whole = node.op == "GlobalLpPool"
    kernel = x.shape[2:] if whole else node.ints("kernel_shape")
    if node.integer("ceil_mode", 0):
        raise UnhandledError("its last window may be cut (ceil_mode)")
    size = number(f"constant {prod(kernel)}", prod(kernel))
    powers = _powers(scope, node, x, p)
    if whole:
        mean = scope.lower(node, "GlobalAveragePool", [powers], "mean")
    else:
        keys = ("kernel_shape", "strides", "pads", "auto_pad", "dilations")
        rest = {k: v for k, v in node.attributes.items() if k in keys}
        mean = scope.lower(node, "AveragePool", [powers], "mean", count_include_pad=1, **rest)
    return _root(scope, node, scope.lower(node, "Mul", [mean, size], "sum"), p)


def _powers(scope: Scope, node: Node, x: Value, p: int) -> Value:
    if p < 1:
        raise InputError(f"{scope.where(node)}: p must be at least 1, got {p}")
    if p == 2:
        return scope.lower(node, "Mul", [x, x], "powers")
    size = scope.lower(node, "Abs", [x], "size")
    return size if p == 1 else scope.lower(node, "Pow", [size, number(f"constant {p}", p)], "powers")


def _root(scope: Scope, node: Node, total: Value, p: int, step: str = "") -> Results:
    if p == 1:
        return (total,)
    if p == 2:
        return (scope.lower(node, "Sqrt", [total], step),)
    return (scope.lower(node, "Pow", [total, number(f"constant {1 / p:.9g}", 1 / p)], step),)


def lp_norm(scope: Scope, node: Node) -> Results:
    """LpNormalization: divided by the norm along an axis (by one where that is zero)."""
    x, p = scope.value(node, 0), node.integer("p", 2)
    axis = scope.axis(node, node.integer("axis", -1), len(x.shape))
    axes = number(f"axes [{axis}]", [axis], np.int64)
    total = scope.lower(node, "ReduceSum", [_powers(scope, node, x, p), axes], "sum", opset=13)
    norm = _root(scope, node, total, p, "norm")[0]
    zero = scope.lower(node, "Equal", [norm, number("constant 0", 0.0)], "zero")
    divisor = scope.lower(node, "Where", [zero, number("constant 1", 1.0), norm], "divisor")
    return (scope.lower(node, "Div", [x, divisor]),)


STANDARD = {
    "MaxPool": pool,
    "AveragePool": pool,
    "GlobalMaxPool": global_pool,
    "GlobalAveragePool": global_pool,
    "LpPool": lp_pool,
    "GlobalLpPool": lp_pool,
    "BatchNormalization": batch_norm,
    "LayerNormalization": trailing_norm,
    "RMSNormalization": trailing_norm,
    "SimplifiedLayerNormalization": trailing_norm,
    "InstanceNormalization": instance_norm,
    "GroupNormalization": group_norm,
    "LRN": lrn,
    "LpNormalization": lp_norm,
}
"""Operators of the standard domain (and those that ONNX Runtime's optimiser puts there)."""
