"""Integer operators of ONNX (QLinear*, *Integer): the real operator between a dequantiser and a quantiser, which cost nothing.

So multiply-accumulates, bits and values are those of the integer operator; a result may differ by one code where a sum
lies on the edge between two. Semantics: ONNX operator reference, and ONNX Runtime's for com.microsoft.
"""

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from picojoule.sim.importers.onnx_scope import Results, Scope
from picojoule.sim.importers.onnx_values import Node, UnhandledError, Value, number

MICROSOFT = "com.microsoft"


def _input(scope: Scope, node: Node, position: int) -> Value | None:
    return scope.value(node, position) if node.has(position) else None


def _real(scope: Scope, node: Node, position: int, step: str, axis: int | None = None) -> Value:
    """Return the values of the codes at `position`, whose scale and zero point follow."""
    codes, scale, zero = (_input(scope, node, position + i) for i in range(3))
    attributes: dict[str, Any] = {} if axis is None else {"axis": axis}
    return scope.lower(node, "DequantizeLinear", [codes, scale, zero], step, **attributes)


def _codes(scope: Scope, node: Node, value: Value, position: int) -> Results:
    """Return the node's result: codes of `value` with the scale and zero point at `position`."""
    return (
        scope.lower(
            node, "QuantizeLinear", [value, _input(scope, node, position), _input(scope, node, position + 1)], axis=1
        ),
    )


def _bias(scope: Scope, node: Node, position: int, scales: tuple[int, int], factor: float = 1.0) -> Value | None:
    """Return the values of integer addends, which are in units of both scales' product."""
    if not node.has(position):
        return None
    a, b = (scope.fixed(node, i).array().astype(np.float64) for i in scales)
    scale = number(f"{node.name} bias scale", np.reshape(a * b * factor, -1))
    return scope.lower(node, "DequantizeLinear", [scope.value(node, position), scale], "bias", axis=0)


def qlinear_conv(scope: Scope, node: Node) -> Results:
    """QLinearConv."""
    if node.integer("channels_last", 0):
        raise UnhandledError("its channels come last")
    x, weight = _real(scope, node, 0, "x"), _real(scope, node, 3, "w", 0)
    operands = [x, weight, _bias(scope, node, 8, (1, 4))]
    made = scope.lower(node, "Conv", operands, "product", **node.attributes)
    return _codes(scope, node, made, 6)


def qlinear_matmul(scope: Scope, node: Node) -> Results:
    """QLinearMatMul."""
    rank = len(scope.value(node, 3).shape)
    left = _real(scope, node, 0, "a", max(0, len(scope.value(node, 0).shape) - 2))
    made = scope.lower(node, "MatMul", [left, _real(scope, node, 3, "b", rank - 1)], "product")
    return _codes(scope, node, made, 6)


def qgemm(scope: Scope, node: Node) -> Results:
    """QGemm: the addend is in units of alpha and both scales; without a scale of its own the result is real."""
    turned, alpha = node.integer("transB", 0), node.real("alpha", 1.0)
    a, b = _real(scope, node, 0, "a"), _real(scope, node, 3, "b", 0 if turned else 1)
    last = not node.has(7)
    made = scope.lower(
        node,
        "Gemm",
        [a, b, _bias(scope, node, 6, (1, 4), alpha)],
        "" if last else "product",
        transA=node.integer("transA", 0),
        transB=turned,
        alpha=alpha,
    )
    return (made,) if last else _codes(scope, node, made, 7)


def _whole(scope: Scope, node: Node, position: int, zero: int, step: str, axis: int) -> Value:
    """Return codes less their zero point, as real numbers."""
    shift = _input(scope, node, zero)
    elements = prod(shift.shape) if shift is not None else 1
    one = number(f"{node.name} {elements} ones", np.broadcast_to(np.float32(1), () if elements == 1 else (elements,)))
    return scope.lower(node, "DequantizeLinear", [scope.value(node, position), one, shift], step, axis=axis)


def conv_integer(scope: Scope, node: Node) -> Results:
    """ConvInteger; its sums are held as real numbers, so that a following cast is no work."""
    x, weight = _whole(scope, node, 0, 2, "x", 1), _whole(scope, node, 1, 3, "w", 0)
    scope.declare(node, np.float32)
    return (scope.lower(node, "Conv", [x, weight], **node.attributes),)


def matmul_integer(scope: Scope, node: Node) -> Results:
    """MatMulInteger; its sums are held as real numbers, so that a following cast is no work."""
    ranks = [len(scope.value(node, i).shape) for i in (0, 1)]
    a, b = _whole(scope, node, 0, 2, "a", max(0, ranks[0] - 2)), _whole(scope, node, 1, 3, "b", ranks[1] - 1)
    scope.declare(node, np.float32)
    return (scope.lower(node, "MatMul", [a, b]),)


def matmul_integer_to_float(scope: Scope, node: Node) -> Results:
    """MatMulIntegerToFloat: operands a, b, both scales, both zero points, bias."""
    ranks = [len(scope.value(node, i).shape) for i in (0, 1)]
    a = scope.lower(
        node, "DequantizeLinear", [scope.value(node, 0), scope.value(node, 2), _input(scope, node, 4)], "a",
        axis=max(0, ranks[0] - 2),
    )  # fmt: skip
    b = scope.lower(
        node, "DequantizeLinear", [scope.value(node, 1), scope.value(node, 3), _input(scope, node, 5)], "b",
        axis=ranks[1] - 1,
    )  # fmt: skip
    return _product_and_bias(scope, node, a, b, 6)


def dynamic_quantize_matmul(scope: Scope, node: Node) -> Results:
    """DynamicQuantizeMatMul: operands a (real), b, its scale, its zero point, bias."""
    codes, scale, zero = scope.lower_all(node, "DynamicQuantizeLinear", [scope.value(node, 0)], "codes", results=3)
    a = scope.lower(node, "DequantizeLinear", [codes, scale, zero], "a")
    rank = len(scope.value(node, 1).shape)
    b = _real(scope, node, 1, "b", rank - 1)
    return _product_and_bias(scope, node, a, b, 4)


def _product_and_bias(scope: Scope, node: Node, a: Value, b: Value, position: int) -> Results:
    scope.declare(node, np.float32)
    return (scope.lower(node, "MatMul", [a, b, _input(scope, node, position)]),)


_UNARY: Mapping[str, str] = {
    "QLinearLeakyRelu": "LeakyRelu",
    "QLinearSigmoid": "Sigmoid",
    "QLinearSoftmax": "Softmax",
    "QLinearGlobalAveragePool": "GlobalAveragePool",
    "QLinearAveragePool": "AveragePool",
    "QLinearReduceMean": "ReduceMean",
}
_BINARY: Mapping[str, str] = {"QLinearAdd": "Add", "QLinearMul": "Mul"}


def qlinear_unary(scope: Scope, node: Node) -> Results:
    """Operators of one operand: x, scale, zero point, then the result's scale and zero point."""
    attributes = dict(node.attributes)
    if attributes.pop("channels_last", 0):
        raise UnhandledError("its channels come last")
    opset = int(attributes.pop("opset", node.opset))
    made = scope.lower(node, _UNARY[node.op], [_real(scope, node, 0, "x")], "real", opset=opset, **attributes)
    return _codes(scope, node, made, 3)


def qlinear_binary(scope: Scope, node: Node) -> Results:
    """Operators of two operands, each with scale and zero point."""
    pair = [_real(scope, node, 0, "a"), _real(scope, node, 3, "b")]
    return _codes(scope, node, scope.lower(node, _BINARY[node.op], pair, "real"), 6)


def qlinear_concat(scope: Scope, node: Node) -> Results:
    """QLinearConcat: the result's scale and zero point, then each piece with its own."""
    pieces = [_real(scope, node, i, f"piece_{(i - 2) // 3}") for i in range(2, len(node.inputs), 3)]
    made = scope.lower(node, "Concat", pieces, "real", axis=node.integer("axis", 0))
    return _codes(scope, node, made, 0)


def qlinear_where(scope: Scope, node: Node) -> Results:
    """QLinearWhere: condition, two operands with scale and zero point, the result's."""
    pair = [_real(scope, node, 1, "x"), _real(scope, node, 4, "y")]
    made = scope.lower(node, "Where", [scope.value(node, 0), *pair], "real")
    return _codes(scope, node, made, 7)


STANDARD = {
    "QLinearConv": qlinear_conv,
    "QLinearMatMul": qlinear_matmul,
    "ConvInteger": conv_integer,
    "MatMulInteger": matmul_integer,
}
"""Operators of the standard domain."""
CONTRIBUTED = {
    "QLinearConv": qlinear_conv,
    "QGemm": qgemm,
    "MatMulIntegerToFloat": matmul_integer_to_float,
    "DynamicQuantizeMatMul": dynamic_quantize_matmul,
    "QLinearConcat": qlinear_concat,
    "QLinearWhere": qlinear_where,
    **dict.fromkeys(_UNARY, qlinear_unary),
    **dict.fromkeys(_BINARY, qlinear_binary),
}
"""Operators of com.microsoft."""
