"""Operators that move values, as ONNX nodes: concat, split, slice, pad, reshape, gather, scatter, sort, resize, quantise."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from picojoule.sim import attributes as at
from picojoule.sim.attributes import Op, QuantizeKind
from picojoule.sim.errors import UnsupportedError
from picojoule.sim.exporters import onnx_compute
from picojoule.sim.exporters.onnx_compute import Handler, Names
from picojoule.sim.exporters.onnx_formats import OperandWriter, fake_quantize, quantize
from picojoule.sim.exporters.onnx_graph import OnnxGraph
from picojoule.sim.ir import Layer, OperandKind

_FIRST = -(2**63) + 1
"""A slice's stop that lies before the first element, for negative steps."""


def concat(graph: OnnxGraph, operands: OperandWriter, layer: Layer, a: at.ConcatAttributes) -> Names:
    """Concat."""
    x = graph.promoted([operands.name(layer, i) for i in range(len(layer.operands))])
    return [graph.emit("Concat", x, axis=a.axis)]


def split(graph: OnnxGraph, operands: OperandWriter, layer: Layer, a: at.SplitAttributes) -> Names:
    """Split."""
    x = [operands.name(layer, 0), graph.ints(a.sizes)]
    return graph.emit_all("Split", x, dtypes=[None] * len(a.sizes), axis=a.axis)


def slice_(graph: OnnxGraph, operands: OperandWriter, layer: Layer, a: at.SliceAttributes) -> Names:
    """Slice; a whole slice of the batch axis is left out, so that the batch stays open."""
    x, kind = operands.name(layer, 0), layer.operands[0].type
    kept = [
        (axis, start, _FIRST if step < 0 and stop < 0 else stop, step)
        for axis, start, stop, step in zip(a.axes, a.starts, a.stops, a.steps, strict=True)
        if axis != kind.batch_axis or (start, step) != (0, 1) or stop < kind.shape[axis]
    ]
    if not kept:
        return [graph.emit("Identity", [x])]
    axes, starts, stops, steps = (graph.ints(v) for v in zip(*kept, strict=True))
    return [graph.emit("Slice", [x, starts, stops, axes, steps])]


def pad(graph: OnnxGraph, operands: OperandWriter, layer: Layer, a: at.PadAttributes) -> Names:
    """Pad, on the axes that it pads only.

    (With all axes, ONNX Runtime 1.31 merges zeros into the padding of a max pool behind it, which is minus infinity.)
    """
    x = operands.name(layer, 0)
    value = (
        graph.cast(graph.constant(np.float32(a.value), name="number"), graph.dtypes[x]) if a.mode == "constant" else ""
    )
    axes = [i for i, (b, e) in enumerate(zip(a.begin, a.end, strict=True)) if b or e]
    pads = [a.begin[i] for i in axes] + [a.end[i] for i in axes]
    return [graph.emit("Pad", [x, graph.ints(pads), value, graph.ints(axes)], mode=a.mode)]


def reshape(graph: OnnxGraph, operands: OperandWriter, layer: Layer, a: at.ReshapeAttributes) -> Names:
    """Reshape, the batch axis left open."""
    kind = layer.results[0].type
    target = [-1 if i == kind.batch_axis else s for i, s in enumerate(kind.shape)]
    return [graph.emit("Reshape", [operands.name(layer, 0), graph.ints(target)])]


def transpose(graph: OnnxGraph, operands: OperandWriter, layer: Layer, a: at.TransposeAttributes) -> Names:
    """Transpose."""
    return [graph.emit("Transpose", [operands.name(layer, 0)], perm=a.permutation)]


def expand(graph: OnnxGraph, operands: OperandWriter, layer: Layer, a: at.ExpandAttributes) -> Names:
    """Expand; along the batch to the size of the network's input where the operand does not have it."""
    x, source, kind = operands.name(layer, 0), layer.operands[0].type, layer.results[0].type
    shift = len(kind.shape) - len(source.shape)
    if kind.batch_axis is not None and source.batch_axis == kind.batch_axis - shift:
        kept = [1 if i == kind.batch_axis else s for i, s in enumerate(kind.shape)]
        return [graph.emit("Expand", [x, graph.ints(kept)])]
    return [graph.emit("Expand", [x, graph.sizes(kind)])]


def resize(graph: OnnxGraph, operands: OperandWriter, layer: Layer, a: at.ResizeAttributes) -> Names:
    """Resize on the axes that change, by scales where the source states them, else to sizes."""
    x, old, new = operands.name(layer, 0), layer.operands[0].shape, layer.results[0].shape
    axes = [i for i, (p, q) in enumerate(zip(old, new, strict=True)) if p != q or (a.scales and a.scales[i] != 1)]
    if not axes:
        return [graph.emit("Identity", [x])]
    shared: dict[str, Any] = {
        "mode": a.mode, "coordinate_transformation_mode": a.coordinates, "nearest_mode": a.nearest_rounding,
        "axes": axes, "cubic_coeff_a": a.cubic_a,
    }  # fmt: skip
    if a.scales:
        scales = graph.constant([a.scales[i] for i in axes], "float32", "scales")
        return [graph.emit("Resize", [x, "", scales], **shared)]
    return [graph.emit("Resize", [x, "", "", graph.ints([new[i] for i in axes])], **shared)]


def embedding(graph: OnnxGraph, operands: OperandWriter, layer: Layer, a: at.EmbeddingAttributes) -> Names:
    """Gather."""
    return [graph.emit("Gather", [operands.name(layer, 0), _indices(graph, operands.name(layer, 1))], axis=a.axis)]


def _indices(graph: OnnxGraph, name: str) -> str:
    return name if graph.dtypes[name] in ("int32", "int64") else graph.cast(name, "int64")


def quantise(graph: OnnxGraph, operands: OperandWriter, layer: Layer, a: at.QuantizeAttributes) -> Names:
    """QuantizeLinear, DequantizeLinear, both, or DynamicQuantizeLinear."""
    x = [operands.name(layer, i) for i in range(len(layer.operands))]
    if a.kind is QuantizeKind.DYNAMIC:
        return graph.emit_all("DynamicQuantizeLinear", x[:1], dtypes=["uint8", "float32", "uint8"])
    dtype = next((d for d in ("int8", "uint8", "int16", "uint16") if _holds(d, a.low, a.high)), None)
    if dtype is None and a.kind is not QuantizeKind.DEQUANTIZE:
        raise UnsupportedError(
            f"layer '{layer.name}': codes from {a.low} to {a.high} fit no integer that ONNX quantises to"
        )
    step = graph.real(x[1])
    if a.kind is QuantizeKind.DEQUANTIZE:
        codes = x[0] if graph.dtypes[x[0]] != "float32" else graph.cast(x[0], dtype or "int32")
        zero = [graph.cast(x[2], graph.dtypes[codes])] if a.has_zero_point else []
        return [graph.emit("DequantizeLinear", [codes, step, *zero], dtype="float32", axis=a.axis)]
    assert dtype is not None
    zero_name = graph.cast(x[2], dtype) if a.has_zero_point else None
    function = fake_quantize if a.kind is QuantizeKind.FAKE else quantize
    return [function(graph, x[0], step, zero_name, dtype, (a.low, a.high), a.axis)]


def _holds(dtype: str, low: int, high: int) -> bool:
    info = np.iinfo(np.dtype(dtype))
    return bool(info.min <= low and high <= info.max)


def gather(graph: OnnxGraph, operands: OperandWriter, layer: Layer, a: at.GatherAttributes) -> Names:
    """GatherElements or GatherND."""
    x, indices = operands.name(layer, 0), graph.cast(operands.name(layer, 1), "int64")
    if a.kind is at.GatherKind.ELEMENTS:
        return [graph.emit("GatherElements", [x, indices], axis=a.axis)]
    return [graph.emit("GatherND", [x, indices], batch_dims=a.batch_axes)]


def scatter(graph: OnnxGraph, operands: OperandWriter, layer: Layer, a: at.ScatterAttributes) -> Names:
    """ScatterElements or ScatterND."""
    data, updates = graph.promoted([operands.name(layer, 0), operands.name(layer, 2)])
    inputs = [data, graph.cast(operands.name(layer, 1), "int64"), updates]
    if a.kind is at.GatherKind.ELEMENTS:
        return [graph.emit("ScatterElements", inputs, axis=a.axis, reduction=a.reduction)]
    return [graph.emit("ScatterND", inputs, reduction=a.reduction)]


def sort(graph: OnnxGraph, operands: OperandWriter, layer: Layer, a: at.SortAttributes) -> Names:
    """TopK."""
    x = [operands.name(layer, 0), graph.ints([a.count])]
    return graph.emit_all("TopK", x, dtypes=[None, "int64"], axis=a.axis, largest=int(a.largest), sorted=1)


def cumulative(graph: OnnxGraph, operands: OperandWriter, layer: Layer, a: at.CumulativeAttributes) -> Names:
    """CumSum; a running product has no operator in this opset."""
    if a.kind is not at.CumulativeKind.SUM:
        raise UnsupportedError(f"layer '{layer.name}': ONNX has no running product in opset 21")
    x = [operands.name(layer, 0), graph.constant(np.int64(a.axis), name="axis")]
    return [graph.emit("CumSum", x, exclusive=int(a.exclusive), reverse=int(a.reverse))]


def grid_sample(graph: OnnxGraph, operands: OperandWriter, layer: Layer, a: at.GridSampleAttributes) -> Names:
    """GridSample."""
    x = [operands.name(layer, i) for i in (0, 1)]
    return [graph.emit("GridSample", x, mode=a.mode, padding_mode=a.padding, align_corners=int(a.align_corners))]


def whole_inputs(layers: tuple[Layer, ...]) -> set[str]:
    """Return the values that must be integers because they end as indices."""
    found: set[str] = set()
    for layer in reversed(layers):
        a = layer.attributes
        moved = any(r.name in found for r in layer.results) and (
            layer.op in _MOVING or (isinstance(a, at.ElementwiseAttributes) and a.kind is not at.ElementwiseKind.CAST)
        )
        for position, operand in enumerate(layer.operands):
            index = position == 1 and layer.op in (Op.EMBEDDING, Op.GATHER, Op.SCATTER)
            if operand.kind is OperandKind.ACTIVATION and (index or moved):
                found.add(operand.name)
    return found


_MOVING = frozenset({Op.RESHAPE, Op.SLICE, Op.SPLIT, Op.CONCAT, Op.TRANSPOSE, Op.EXPAND})

HANDLERS: Mapping[Op, Handler] = {
    Op.CONV: onnx_compute.conv,
    Op.LINEAR: onnx_compute.linear,
    Op.MATMUL: onnx_compute.matmul,
    Op.DEFORM_CONV: onnx_compute.deform_conv,
    Op.POOL: onnx_compute.pool,
    Op.NORM: onnx_compute.norm,
    Op.ACTIVATION: onnx_compute.activation,
    Op.SOFTMAX: onnx_compute.softmax,
    Op.ELEMENTWISE: onnx_compute.elementwise,
    Op.REDUCE: onnx_compute.reduce,
    Op.CONCAT: concat,
    Op.SPLIT: split,
    Op.SLICE: slice_,
    Op.PAD: pad,
    Op.RESHAPE: reshape,
    Op.TRANSPOSE: transpose,
    Op.EXPAND: expand,
    Op.RESIZE: resize,
    Op.EMBEDDING: embedding,
    Op.RECURRENT: onnx_compute.recurrent,
    Op.QUANTIZE: quantise,
    Op.GATHER: gather,
    Op.SCATTER: scatter,
    Op.SORT: sort,
    Op.CUMULATIVE: cumulative,
    Op.GRID_SAMPLE: grid_sample,
}
"""How each operator is written; an opaque one cannot be."""
