"""The table of ONNX operators that are understood: (domain, operator) -> handler."""

from collections.abc import Callable, Mapping

from picojoule.sim.importers import (
    onnx_attention,
    onnx_compute,
    onnx_einsum,
    onnx_fused,
    onnx_indexing,
    onnx_integer,
    onnx_layout,
    onnx_norms,
    onnx_ops,
    onnx_quantized,
    onnx_recurrent,
    onnx_resample,
)
from picojoule.sim.importers.onnx_scope import Results, Scope
from picojoule.sim.importers.onnx_values import Node

Handler = Callable[[Scope, Node], Results]

_STANDARD: Mapping[str, Handler] = {
    "Conv": onnx_compute.conv,
    "ConvTranspose": onnx_compute.conv,
    "DeformConv": onnx_compute.deform_conv,
    "Gemm": onnx_compute.gemm,
    "MatMul": onnx_compute.matmul,
    "Einsum": onnx_einsum.einsum,
    "Attention": onnx_attention.attention,
    **dict.fromkeys(("LSTM", "GRU", "RNN"), onnx_recurrent.recurrent),
    "QuantizeLinear": onnx_quantized.quantize,
    "DequantizeLinear": onnx_quantized.dequantize,
    "DynamicQuantizeLinear": onnx_quantized.dynamic_quantize,
    **onnx_integer.STANDARD,
    **onnx_norms.STANDARD,
    **onnx_layout.STANDARD,
    **onnx_resample.STANDARD,
    **onnx_indexing.STANDARD,
    **onnx_ops.STANDARD,
}
HANDLERS: Mapping[tuple[str, str], Handler] = {
    **{("", op): handler for op, handler in _STANDARD.items()},
    **{(onnx_integer.MICROSOFT, op): handler for op, handler in onnx_fused.HANDLERS.items()},
}
_DATA_DEPENDENT = {
    "NonZero": "it has as many results as there are non-zeros",
    "Unique": "it has as many results as there are different values",
    "Compress": "it has as many results as its condition keeps",
    "NonMaxSuppression": "it has as many results as boxes are kept",
}


def handler_of(node: Node) -> Handler | None:
    """Return what lays a node out, or None."""
    return HANDLERS.get((node.domain, node.op))


def data_dependent(node: Node) -> str | None:
    """Return why the shape of a node's result depends on the data, or None."""
    return None if node.domain else _DATA_DEPENDENT.get(node.op)
