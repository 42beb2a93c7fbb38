"""Operators that compute, as ONNX nodes: products, pooling, normalisation, activations, element-wise arithmetic, reductions."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from picojoule.sim import attributes as at
from picojoule.sim.attributes import ActivationKind as Act
from picojoule.sim.attributes import ElementwiseKind as Ew
from picojoule.sim.attributes import NormKind, PoolKind, ReduceKind
from picojoule.sim.errors import UnsupportedError
from picojoule.sim.exporters.onnx_formats import OperandWriter
from picojoule.sim.exporters.onnx_graph import OnnxGraph, element_type
from picojoule.sim.ir import Layer, OperandKind

Names = list[str]
Handler = Callable[[OnnxGraph, OperandWriter, Layer, Any], Names]


def conv(graph: OnnxGraph, operands: OperandWriter, layer: Layer, a: at.ConvAttributes) -> Names:
    """Conv or ConvTranspose."""
    x = [operands.name(layer, i) for i in range(len(layer.operands))]
    shared: dict[str, Any] = {
        "strides": a.stride, "dilations": a.dilation, "group": a.groups, "pads": (*a.padding_begin, *a.padding_end),
        "kernel_shape": layer.operands[1].shape[2:],
    }  # fmt: skip
    if a.transposed:
        return [graph.emit("ConvTranspose", x, output_padding=a.output_padding or None, **shared)]
    return [graph.emit("Conv", x, **shared)]


def deform_conv(graph: OnnxGraph, operands: OperandWriter, layer: Layer, a: at.DeformConvAttributes) -> Names:
    """DeformConv, whose bias stands before the mask."""
    x = [operands.name(layer, i) for i in range(len(layer.operands))]
    rest = x[3:]
    mask = rest.pop(0) if a.has_mask else ""
    bias = rest.pop(0) if a.has_bias else ""
    inputs = [*x[:3], bias, mask]
    while not inputs[-1]:
        inputs.pop()
    return [
        graph.emit(
            "DeformConv", inputs, strides=a.stride, dilations=a.dilation, pads=(*a.padding_begin, *a.padding_end),
            group=a.groups, offset_group=a.offset_groups, kernel_shape=layer.operands[1].shape[2:],
        )
    ]  # fmt: skip


def linear(graph: OnnxGraph, operands: OperandWriter, layer: Layer, a: at.LinearAttributes) -> Names:
    """Gemm for matrices, else MatMul with the transposed weight."""
    x = operands.name(layer, 0)
    bias = operands.name(layer, 2) if len(layer.operands) > 2 else None
    weight = layer.operands[1]
    if len(layer.operands[0].shape) == 2:
        inputs = [x, operands.name(layer, 1)] + ([bias] if bias else [])
        return [graph.emit("Gemm", inputs, transB=1)]
    readers = sum(o.name == weight.name for y in graph.network.layers for o in y.operands)
    if weight.kind is OperandKind.ACTIVATION or readers > 1:  # a table that an embedding reads too is stored once
        turned = graph.emit("Transpose", [operands.name(layer, 1)], perm=(1, 0))
    else:
        turned = operands.stored(layer, 1, np.transpose, "transposed", axis_after=1)
    y = graph.emit("MatMul", [x, turned])
    graph.name_node()
    return [graph.emit("Add", [y, bias]) if bias else y]


def matmul(graph: OnnxGraph, operands: OperandWriter, layer: Layer, a: at.MatmulAttributes) -> Names:
    """MatMul."""
    return [graph.emit("MatMul", graph.promoted([operands.name(layer, i) for i in (0, 1)]))]


_GATE_ORDER = {
    at.RecurrentKind.LSTM: (0, 3, 1, 2),  # input, forget, cell, output -> input, output, forget, cell
    at.RecurrentKind.GRU: (1, 0, 2),  # reset, update, new -> update, reset, new
    at.RecurrentKind.RNN_TANH: (0,),
    at.RecurrentKind.RNN_RELU: (0,),
}


def recurrent(graph: OnnxGraph, operands: OperandWriter, layer: Layer, a: at.RecurrentAttributes) -> Names:
    """LSTM, GRU or RNN together with the linear layer that alone feeds it, or else with an identity in its place."""
    order = np.array(_GATE_ORDER[a.kind])

    def arranged(v: Any) -> Any:
        return v.reshape(len(order), a.hidden, *v.shape[1:])[order].reshape(1, *v.shape)

    before = input_product(graph, layer)
    width = len(order) * a.hidden
    in_bias: Any = np.zeros(width, np.float32)
    if before is None:
        x = operands.name(layer, 0)
        w = graph.constant(arranged(np.eye(width, dtype=np.float32)), name="identity")
    else:
        x = operands.name(before, 0)
        w = operands.stored(before, 1, arranged, "gates", axis_after=1)
        if len(before.operands) > 2:
            in_bias = operands.values(before.operands[2])
    r = operands.stored(layer, 1, arranged, "gates", axis_after=1)
    bias = operands.values(layer.operands[2]) if a.has_bias else np.zeros(width, np.float32)
    b = graph.constant(np.concatenate([arranged(in_bias), arranged(bias)], 1), "float32", f"{layer.name}.bias")
    state = [operands.name(layer, i) for i in range(2 + a.has_bias, len(layer.operands))] if a.has_state else []
    state = [graph.emit("Unsqueeze", [s, graph.ints([0])]) for s in state]
    if a.time_axis == 1:
        x = graph.emit("Transpose", [x], perm=(1, 0, 2))
    op = {"lstm": "LSTM", "gru": "GRU"}.get(a.kind.value, "RNN")
    extra: dict[str, Any] = {"direction": "reverse" if a.reverse else None}
    if op == "GRU":
        extra["linear_before_reset"] = int(a.reset_after)
    if op == "RNN":
        extra["activations"] = ["Relu" if a.kind is at.RecurrentKind.RNN_RELU else "Tanh"]
    count = len(layer.results)
    made = graph.emit_all(
        op, [x, w, r, b, *(["", *state] if state else [])], dtypes=[None] * count, hidden_size=a.hidden, **extra
    )
    graph.name_node()
    y = graph.emit("Squeeze", [made[0], graph.ints([1])])
    if a.time_axis == 1:
        y = graph.emit("Transpose", [y], perm=(1, 0, 2))
    return [y, *(graph.emit("Squeeze", [s, graph.ints([0])]) for s in made[1:])]


def input_product(graph: OnnxGraph, layer: Layer) -> Layer | None:
    """Return the linear layer whose product nobody but this recurrent layer reads, if there is one."""
    gates = layer.operands[0].name
    maker = next((y for y in graph.network.layers if any(r.name == gates for r in y.results)), None)
    readers = sum(o.name == gates for y in graph.network.layers for o in y.operands) + graph.network.outputs.count(
        gates
    )
    plain = maker is not None and maker.op is at.Op.LINEAR and readers == 1
    if not plain or maker is None or any(o.kind is OperandKind.ACTIVATION for o in maker.operands[1:]):
        return None
    return maker


# --- pooling --------------------------------------------------------------------------------------------------------------


def pool(graph: OnnxGraph, operands: OperandWriter, layer: Layer, a: at.PoolAttributes) -> Names:
    """MaxPool, AveragePool, or for adaptive pooling windows of their own."""
    x, shape = operands.name(layer, 0), layer.operands[0].shape
    if a.output_size:
        return [_adaptive(graph, x, shape, a)]
    rank = len(a.kernel)
    lacking = rank + 2 - len(shape)
    if lacking:
        x = graph.emit("Unsqueeze", [x, graph.ints(range(lacking))])
    space = layer.results[0].shape[-rank:]
    y = _windows(graph, x, shape[-rank:], space, a)
    return [graph.emit("Squeeze", [y, graph.ints(range(lacking))]) if lacking else y]


def _windows(graph: OnnxGraph, x: str, size: Sequence[int], space: Sequence[int], a: at.PoolAttributes) -> str:
    """Return pooled windows; what ceil mode adds beyond the stated padding is padding that never counts."""
    need = [(o - 1) * s + d * (k - 1) + 1 for o, s, d, k in zip(space, a.stride, a.dilation, a.kernel, strict=True)]
    reach = [s + b + e for s, b, e in zip(size, a.padding_begin, a.padding_end, strict=True)]
    extra = [max(n - r, 0) for n, r in zip(need, reach, strict=True)]
    begin, end = a.padding_begin, tuple(e + m for e, m in zip(a.padding_end, extra, strict=True))
    shared: dict[str, Any] = {"kernel_shape": a.kernel, "strides": a.stride, "dilations": a.dilation}
    if a.kind is PoolKind.MAX:
        return graph.emit("MaxPool", [x], pads=(*begin, *end), **shared)
    counted = a.count_include_pad and any((*begin, *a.padding_end))
    if counted and any(extra):
        axes = graph.ints(range(2, 2 + len(begin)))
        x = graph.emit("Pad", [x, graph.ints([*begin, *a.padding_end]), "", axes])
        begin, end, counted = (0,) * len(begin), tuple(extra), False
    return graph.emit("AveragePool", [x], pads=(*begin, *end), count_include_pad=int(counted), **shared)


def _adaptive(graph: OnnxGraph, x: str, shape: Sequence[int], a: at.PoolAttributes) -> str:
    """Return adaptive pooling: one reduction if everything is pooled, else the windows of each axis in turn."""
    rank = len(a.output_size)
    op = "ReduceMax" if a.kind is PoolKind.MAX else "ReduceMean"
    axes = range(len(shape) - rank, len(shape))
    if set(a.output_size) == {1}:
        return graph.emit(op, [x, graph.ints(axes)], keepdims=1)
    for axis, out in zip(axes, a.output_size, strict=True):
        size = shape[axis]
        bounds = [(i * size // out, -(-(i + 1) * size // out)) for i in range(out)]
        parts = []
        for low, high in bounds:
            part = graph.emit("Slice", [x, graph.ints([low]), graph.ints([high]), graph.ints([axis])])
            parts.append(graph.emit(op, [part, graph.ints([axis])], keepdims=1) if high - low > 1 else part)
        x = graph.emit("Concat", parts, axis=axis)
    return x


# --- normalisation --------------------------------------------------------------------------------------------------------


def norm(graph: OnnxGraph, operands: OperandWriter, layer: Layer, a: at.NormAttributes) -> Names:
    """Normalisations; scale and shift that ONNX insists on are ones and zeros."""
    x = [operands.name(layer, i) for i in range(len(layer.operands))]
    if a.kind is NormKind.BATCH:
        return [graph.emit("BatchNormalization", x[:5], epsilon=a.epsilon)]
    if a.kind is NormKind.LRN:
        if a.size % 2 == 0:
            raise UnsupportedError(
                f"layer '{layer.name}': a local response norm over {a.size} channels is not centred the same way in ONNX"
            )
        return [graph.emit("LRN", x[:1], size=a.size, alpha=a.alpha, beta=a.beta, bias=a.bias)]
    rest, shape = x[1:], layer.operands[0].shape
    scale = rest.pop(0) if a.has_scale and rest else None
    bias = rest.pop(0) if a.has_bias and rest else None
    if a.kind is NormKind.RMS:
        return [_rms(graph, x[0], scale, len(shape), a)]
    extent = shape[-a.axes :] if a.kind is NormKind.LAYER else (shape[1],)
    scale = scale or graph.constant(np.ones(extent, np.float32), name="ones")
    if a.kind is NormKind.LAYER:
        return [
            graph.emit("LayerNormalization", [x[0], scale, *([bias] if bias else [])], axis=-a.axes, epsilon=a.epsilon)
        ]
    bias = bias or graph.constant(np.zeros(extent, np.float32), name="zeros")
    if a.kind is NormKind.GROUP:
        return [graph.emit("GroupNormalization", [x[0], scale, bias], epsilon=a.epsilon, num_groups=a.groups)]
    return [graph.emit("InstanceNormalization", [x[0], scale, bias], epsilon=a.epsilon)]


def _rms(graph: OnnxGraph, x: str, scale: str | None, rank: int, a: at.NormAttributes) -> str:
    axes = graph.ints(range(rank - a.axes, rank))
    mean = graph.emit("ReduceMean", [graph.emit("Mul", [x, x]), axes], keepdims=1)
    root = graph.emit("Sqrt", [graph.emit("Add", [mean, _number(graph, a.epsilon)])])
    y = graph.emit("Div", [x, root])
    return graph.emit("Mul", [y, scale]) if scale else y


def _number(graph: OnnxGraph, value: float) -> str:
    return graph.constant(np.float32(value), name="number")


# --- activations and element-wise -----------------------------------------------------------------------------------------

_PLAIN_ACTIVATIONS = {
    Act.RELU: "Relu", Act.SIGMOID: "Sigmoid", Act.TANH: "Tanh", Act.HARD_SWISH: "HardSwish", Act.SELU: "Selu",
    Act.MISH: "Mish", Act.ERF: "Erf", Act.SOFTSIGN: "Softsign",
}  # fmt: skip
_DEFAULT_ALPHA = {Act.HARD_SIGMOID: 0.2, Act.LEAKY_RELU: 0.01, Act.SOFT_SHRINK: 0.5, Act.HARD_SHRINK: 0.5}
"""As the executor has them; 1 for the others."""


def activation(graph: OnnxGraph, operands: OperandWriter, layer: Layer, a: at.ActivationAttributes) -> Names:
    """Unary functions."""
    x, kind = operands.name(layer, 0), a.kind
    alpha = a.alpha if a.alpha is not None else _DEFAULT_ALPHA.get(kind, 1.0)
    if kind in _PLAIN_ACTIVATIONS:
        return [graph.emit(_PLAIN_ACTIVATIONS[kind], [x])]
    match kind:
        case Act.CLIP:
            limits = [_number(graph, v) if v is not None else "" for v in (a.alpha, a.beta)]
            return [graph.emit("Clip", [x, *limits])]
        case Act.HARD_SIGMOID:
            return [graph.emit("HardSigmoid", [x], alpha=alpha, beta=0.5 if a.beta is None else a.beta)]
        case Act.LEAKY_RELU | Act.ELU | Act.CELU:
            op = {Act.LEAKY_RELU: "LeakyRelu", Act.ELU: "Elu", Act.CELU: "Celu"}[kind]
            return [graph.emit(op, [x], alpha=alpha)]
        case Act.SILU:
            return [graph.emit("Mul", [x, graph.emit("Sigmoid", [x])])]
        case Act.GELU | Act.GELU_TANH:
            return [graph.emit("Gelu", [x], approximate="tanh" if kind is Act.GELU_TANH else "none")]
        case Act.SOFTPLUS:
            if alpha == 1:
                return [graph.emit("Softplus", [x])]
            scaled = graph.emit("Softplus", [graph.emit("Mul", [x, _number(graph, alpha)])])
            return [graph.emit("Div", [scaled, _number(graph, alpha)])]
        case Act.LOG_SIGMOID:
            return [graph.emit("Neg", [graph.emit("Softplus", [graph.emit("Neg", [x])])])]
        case Act.THRESHOLD:
            above = graph.emit("Greater", [x, _number(graph, alpha)], dtype="bool")
            return [graph.emit("Where", [above, x, _number(graph, a.beta or 0.0)], dtype="float32")]
        case Act.SOFT_SHRINK | Act.HARD_SHRINK:
            return [graph.emit("Shrink", [x], lambd=alpha, bias=alpha if kind is Act.SOFT_SHRINK else 0.0)]
    raise UnsupportedError(f"layer '{layer.name}': activation {kind} has no ONNX spelling here")


def softmax(graph: OnnxGraph, operands: OperandWriter, layer: Layer, a: at.SoftmaxAttributes) -> Names:
    """Softmax or LogSoftmax."""
    return [graph.emit("LogSoftmax" if a.log else "Softmax", [operands.name(layer, 0)], axis=a.axis)]


_ARITHMETIC = {
    Ew.ADD: "Add", Ew.SUB: "Sub", Ew.MUL: "Mul", Ew.DIV: "Div", Ew.POW: "Pow", Ew.MAXIMUM: "Max", Ew.MINIMUM: "Min",
}  # fmt: skip
_LOGIC = {Ew.AND: "And", Ew.OR: "Or", Ew.XOR: "Xor"}
_COMPARISONS = {
    Ew.EQUAL: "Equal", Ew.LESS: "Less", Ew.GREATER: "Greater", Ew.LESS_EQUAL: "LessOrEqual",
    Ew.GREATER_EQUAL: "GreaterOrEqual",
}  # fmt: skip
_KEEPING = {Ew.NEG: "Neg", Ew.ABS: "Abs", Ew.SIGN: "Sign", Ew.COPY: "Identity"}
_REAL = {
    Ew.SQRT: "Sqrt", Ew.EXP: "Exp", Ew.LOG: "Log", Ew.RECIPROCAL: "Reciprocal", Ew.ROUND: "Round", Ew.FLOOR: "Floor",
    Ew.CEIL: "Ceil", Ew.SIN: "Sin", Ew.COS: "Cos", Ew.TAN: "Tan", Ew.ASIN: "Asin", Ew.ACOS: "Acos", Ew.ATAN: "Atan",
    Ew.SINH: "Sinh", Ew.COSH: "Cosh", Ew.ASINH: "Asinh", Ew.ACOSH: "Acosh", Ew.ATANH: "Atanh",
}  # fmt: skip


def elementwise(graph: OnnxGraph, operands: OperandWriter, layer: Layer, a: at.ElementwiseAttributes) -> Names:
    """Element-wise arithmetic with numpy's broadcasting."""
    x, kind = [operands.name(layer, i) for i in range(len(layer.operands))], a.kind
    if kind in _ARITHMETIC or kind in _LOGIC:
        x = [graph.cast(v, "bool") for v in x] if kind in _LOGIC else graph.promoted(x)
        y = x[0]
        for other in x[1:]:
            y = graph.emit(_ARITHMETIC.get(kind) or _LOGIC[kind], [y, other])
        return [y]
    if kind in _COMPARISONS or kind is Ew.NOT_EQUAL:
        y = graph.emit(_COMPARISONS.get(kind, "Equal"), graph.promoted(x), dtype="bool")
        return [graph.emit("Not", [y]) if kind is Ew.NOT_EQUAL else y]
    if kind in _KEEPING:
        return [graph.emit(_KEEPING[kind], x)]
    if kind in _REAL:
        return [graph.emit(_REAL[kind], [graph.real(x[0])])]
    match kind:
        case Ew.RSQRT:
            return [graph.emit("Reciprocal", [graph.emit("Sqrt", [graph.real(x[0])])])]
        case Ew.LOG1P:
            return [graph.emit("Log", [graph.emit("Add", [graph.real(x[0]), _number(graph, 1)])])]
        case Ew.EXPM1:
            return [graph.emit("Sub", [graph.emit("Exp", [graph.real(x[0])]), _number(graph, 1)])]
        case Ew.TRUNC:
            sign, size = graph.emit("Sign", x), graph.emit("Abs", x)
            return [graph.emit("Mul", [sign, graph.emit("Floor", [graph.real(size)])])]
        case Ew.NOT:
            return [graph.emit("Not", [graph.cast(x[0], "bool")])]
        case Ew.IS_NAN | Ew.IS_INF:
            return [graph.emit("IsNaN" if kind is Ew.IS_NAN else "IsInf", [graph.real(x[0])], dtype="bool")]
        case Ew.WHERE:
            chosen = graph.promoted(x[1:])
            return [graph.emit("Where", [graph.cast(x[0], "bool"), *chosen], dtype=graph.dtypes[chosen[0]])]
        case Ew.FMOD:
            return [graph.emit("Mod", graph.promoted(x), fmod=1)]
        case Ew.MOD | Ew.FLOOR_DIVIDE:
            return [_floored(graph, graph.promoted(x), modulo=kind is Ew.MOD)]
        case Ew.CAST:
            return [_cast(graph, x[0], a.dtype or "float32")]
    raise UnsupportedError(f"layer '{layer.name}': element-wise {kind} has no ONNX spelling here")


def _floored(graph: OnnxGraph, x: Names, *, modulo: bool) -> str:
    """Return the quotient rounded down, or the remainder with the divisor's sign."""
    a, b = x
    if graph.dtypes[a] == "float32":
        quotient = graph.emit("Floor", [graph.emit("Div", [a, b])])
        return graph.emit("Sub", [a, graph.emit("Mul", [quotient, b])]) if modulo else quotient
    rest = graph.emit("Mod", [a, b], fmod=0)
    return rest if modulo else graph.emit("Div", [graph.emit("Sub", [a, rest]), b])


def _cast(graph: OnnxGraph, x: str, dtype: str) -> str:
    """Return a cast; a narrower float is rounded to and computed on in float32, as everything here is."""
    if dtype in ("float16", "bfloat16"):
        return graph.emit("Cast", [graph.cast(x, dtype)], dtype="float32", to=element_type("float32"))
    target = "float32" if dtype == "float64" else dtype
    return graph.emit("Cast", [x], dtype=target, to=element_type(target))


_REDUCTIONS = {
    ReduceKind.MEAN: "ReduceMean", ReduceKind.SUM: "ReduceSum", ReduceKind.MAX: "ReduceMax", ReduceKind.MIN: "ReduceMin",
    ReduceKind.PROD: "ReduceProd",
}  # fmt: skip


def reduce(graph: OnnxGraph, operands: OperandWriter, layer: Layer, a: at.ReduceAttributes) -> Names:
    """Reductions; the arg kinds return 64-bit indices."""
    x = operands.name(layer, 0)
    if a.kind in _REDUCTIONS:
        x = graph.real(x) if a.kind is ReduceKind.MEAN else x
        return [graph.emit(_REDUCTIONS[a.kind], [x, graph.ints(a.axes)], keepdims=int(a.keepdims))]
    op = "ArgMax" if a.kind is ReduceKind.ARGMAX else "ArgMin"
    return [graph.emit(op, [x], dtype="int64", axis=a.axes[0], keepdims=int(a.keepdims))]
