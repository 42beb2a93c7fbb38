"""Operators that ONNX Runtime's optimiser writes (domain com.microsoft), taken apart into the standard ones.

Semantics: ONNX Runtime, docs/ContribOperators.md.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from picojoule.sim.errors import InputError
from picojoule.sim.importers.onnx_attention import fused_attention, multi_head_attention
from picojoule.sim.importers.onnx_integer import CONTRIBUTED as INTEGER
from picojoule.sim.importers.onnx_quantized import dequantize, matmul_packed, quantize
from picojoule.sim.importers.onnx_scope import Results, Scope
from picojoule.sim.importers.onnx_values import Node, UnhandledError, Value, affordable, number

_PLAIN_ACTIVATIONS = {"Relu": (), "Sigmoid": (), "Tanh": (), "LeakyRelu": ("alpha",), "HardSigmoid": ("alpha", "beta")}


def _activated(scope: Scope, node: Node, x: Value, name: str, parameters: Sequence[float]) -> Value:
    if name == "Clip":
        low, high = (number(f"constant {p:.9g}", p) for p in parameters)
        return scope.lower(node, "Clip", [x, low, high])
    if name not in _PLAIN_ACTIVATIONS:
        raise UnhandledError(f"its activation is '{name}'")
    attributes: dict[str, Any] = dict(zip(_PLAIN_ACTIVATIONS[name], parameters, strict=False))
    return scope.lower(node, name, [x], **attributes)


def fused_conv(scope: Scope, node: Node) -> Results:
    """FusedConv: a convolution, perhaps an addition, an activation."""
    rest = {k: v for k, v in node.attributes.items() if not k.startswith("activation")}
    name = node.text("activation", "")
    operands = [scope.value(node, i) if node.has(i) else None for i in range(3)]
    adds = node.has(3)
    made = scope.lower(node, "Conv", operands, "conv" if name or adds else "", **rest)
    if adds:
        made = scope.lower(node, "Add", [made, scope.value(node, 3)], "sum" if name else "")
    if not name:
        return (made,)
    return (_activated(scope, node, made, name, node.attributes.get("activation_params", ())),)


def fused_gemm(scope: Scope, node: Node) -> Results:
    """FusedGemm: Gemm and an activation."""
    rest = {k: v for k, v in node.attributes.items() if not k.startswith("activation")}
    name = node.text("activation", "")
    operands = [scope.value(node, i) if node.has(i) else None for i in range(3)]
    made = scope.lower(node, "Gemm", operands, "product" if name else "", **rest)
    parameters = [node.real(f"activation_{p}", d) for p, d in (("alpha", 0.01), ("beta", 0.5))]
    return (_activated(scope, node, made, name, parameters) if name else made,)


def fused_matmul(scope: Scope, node: Node) -> Results:
    """FusedMatMul: alpha A' B'."""
    if node.integer("transBatchA", 0) or node.integer("transBatchB", 0):
        raise UnhandledError("it moves batch axes")
    pair: list[Value] = []
    for i, key in ((0, "transA"), (1, "transB")):
        value = scope.value(node, i)
        if node.integer(key, 0):
            rank = len(value.shape)
            if rank < 2:
                raise InputError(f"{scope.where(node)} transposes a value of {rank} axes")
            order = [*range(rank - 2), rank - 1, rank - 2]
            value = scope.lower(node, "Transpose", [value], key, perm=order)
        pair.append(value)
    alpha = node.real("alpha", 1.0)
    if alpha == 1.0:
        return (scope.lower(node, "MatMul", pair),)
    product = scope.lower(node, "MatMul", pair, "product")
    return (scope.lower(node, "Mul", [product, number(f"constant {alpha:.9g}", alpha)]),)


def gelu(scope: Scope, node: Node) -> Results:
    """Gelu, BiasGelu (exact) and FastGelu (tanh)."""
    x = scope.value(node, 0)
    if node.has(1):
        x = scope.lower(node, "Add", [x, scope.value(node, 1)], "biased")
    approximate = {"approximate": "tanh"} if node.op == "FastGelu" else {}
    return (scope.lower(node, "Gelu", [x], **approximate),)


def quick_gelu(scope: Scope, node: Node) -> Results:
    """QuickGelu: x sigmoid(alpha x)."""
    x, alpha = scope.value(node, 0), node.real("alpha", 1.702)
    inner = scope.lower(node, "Mul", [x, number(f"constant {alpha:.9g}", alpha)], "scaled")
    gate = scope.lower(node, "Sigmoid", [inner], "gate")
    return (scope.lower(node, "Mul", [x, gate]),)


def skip_norm(scope: Scope, node: Node) -> Results:
    """SkipLayerNormalization and SkipSimplifiedLayerNormalization: add, then normalise; the sum may be a result too."""
    simple = node.op == "SkipSimplifiedLayerNormalization"
    if scope.used(node, 1) or scope.used(node, 2):
        raise UnhandledError("its mean or deviation is used")
    total = scope.lower(node, "Add", [scope.value(node, 0), scope.value(node, 1)], "sum")
    bias = 3 if simple else 4
    if node.has(bias):
        total = scope.lower(node, "Add", [total, scope.value(node, bias)], "biased")
    scale = scope.value(node, 2)
    shift = scope.value(node, 3) if not simple and node.has(3) else None
    name = "RMSNormalization" if simple else "LayerNormalization"
    epsilon = node.real("epsilon", 1e-12)
    made = scope.lower(node, name, [total, scale, *([] if shift is None else [shift])], epsilon=epsilon)
    return (made, made, made, total)


def embed_norm(scope: Scope, node: Node) -> Results:
    """EmbedLayerNormalization: three embeddings, their sum normalised; and the number of tokens that count."""
    ids = scope.value(node, 0)
    words = scope.lower(node, "Gather", [scope.value(node, 2), ids], "words")
    steps = ids.shape[-1]
    place: Value = number(f"{steps} places", np.arange(affordable(steps))[None], np.int64)
    if node.has(8):
        place = scope.value(node, 8)
    places = scope.lower(node, "Gather", [scope.value(node, 3), place], "places")
    total = scope.lower(node, "Add", [words, places], "placed")
    if node.has(1) and node.has(4):
        segments = scope.lower(node, "Gather", [scope.value(node, 4), scope.value(node, 1)], "segments")
        total = scope.lower(node, "Add", [total, segments], "sum")
    scale, shift = scope.value(node, 5), scope.value(node, 6)
    made = scope.lower(node, "LayerNormalization", [total, scale, shift], epsilon=node.real("epsilon", 1e-12))
    lengths: Value = made
    if scope.used(node, 1):
        if not node.has(7):
            raise UnhandledError("its count of tokens is used without a mask")
        axis = number("axes [1]", [1], np.int64)
        lengths = scope.lower(node, "ReduceSum", [scope.value(node, 7), axis], "lengths", opset=13, keepdims=0)
    return (made, lengths, total)


HANDLERS = {
    **INTEGER,
    "QuantizeLinear": quantize,
    "DequantizeLinear": dequantize,
    "MatMulNBits": matmul_packed,
    "FusedConv": fused_conv,
    "FusedGemm": fused_gemm,
    "FusedMatMul": fused_matmul,
    "TransposeMatMul": fused_matmul,
    "Gelu": gelu,
    "BiasGelu": gelu,
    "FastGelu": gelu,
    "QuickGelu": quick_gelu,
    "SkipLayerNormalization": skip_norm,
    "SkipSimplifiedLayerNormalization": skip_norm,
    "EmbedLayerNormalization": embed_norm,
    "Attention": fused_attention,
    "MultiHeadAttention": multi_head_attention,
}
"""Operators of com.microsoft."""
