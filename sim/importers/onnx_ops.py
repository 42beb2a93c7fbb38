"""The operator table of the ONNX importer, with the element-wise operators, activations, softmax and reductions.

A handler takes the scope and a node, adds layers, and returns the node's results. What is not in the table is opaque.
"""

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np

from picojoule.sim import attributes as at
from picojoule.sim.attributes import ActivationKind as Act
from picojoule.sim.attributes import ElementwiseKind as Ew
from picojoule.sim.attributes import Op, ReduceKind
from picojoule.sim.builder import constant
from picojoule.sim.importers import onnx_compute as compute
from picojoule.sim.importers import onnx_layout as layout
from picojoule.sim.importers.onnx_file import numpy_dtype
from picojoule.sim.importers.onnx_values import Fixed, Node, Scope, UnhandledError, Value
from picojoule.sim.ir import Operand, TensorType

Results = tuple[Value, ...]
Handler = Callable[[Scope, Node], Results]

_ELEMENTWISE: Mapping[str, Ew] = {
    "Add": Ew.ADD,
    "Sub": Ew.SUB,
    "Mul": Ew.MUL,
    "Div": Ew.DIV,
    "Pow": Ew.POW,
    "Max": Ew.MAXIMUM,
    "Min": Ew.MINIMUM,
    "Sum": Ew.ADD,
    "Neg": Ew.NEG,
    "Abs": Ew.ABS,
    "Sqrt": Ew.SQRT,
    "Exp": Ew.EXP,
    "Log": Ew.LOG,
    "Reciprocal": Ew.RECIPROCAL,
    "Sign": Ew.SIGN,
    "Round": Ew.ROUND,
    "Floor": Ew.FLOOR,
    "Ceil": Ew.CEIL,
    "Sin": Ew.SIN,
    "Cos": Ew.COS,
    "Not": Ew.NOT,
    "And": Ew.AND,
    "Or": Ew.OR,
    "Equal": Ew.EQUAL,
    "Less": Ew.LESS,
    "Greater": Ew.GREATER,
    "LessOrEqual": Ew.LESS_EQUAL,
    "GreaterOrEqual": Ew.GREATER_EQUAL,
    "Where": Ew.WHERE,
}
_TRAINED_IN = ("Add", "Sum", "Mul", "PRelu")
"""Stored vectors here are biases, scales and slopes: trained. Elsewhere (Sub, Div, Pow) they are fixed numbers."""


def _ew(scope: Scope, node: Node, kind: Ew, operands: list[Operand], step: str = "") -> Operand:
    return scope.emit(node, Op.ELEMENTWISE, operands, at.ElementwiseAttributes(kind=kind), step=step)[0]


def _scalar(value: float) -> Operand:
    return constant(f"constant {value:.9g}", np.array(value, np.float32))


def _term(scope: Scope, node: Node, position: int) -> Operand:
    """Return an operand; a stored array with one axis longer than 1 is a trained vector where vectors are trained."""
    value = scope.value(node, position)
    vector = max(value.shape, default=1) == prod(value.shape) > 1
    return scope.as_operand(node, value, trained=vector and node.op in _TRAINED_IN)


def elementwise(scope: Scope, node: Node) -> Results:
    """Element-wise arithmetic; more than two addends or candidates go pair by pair, one is no layer."""
    operands = [_term(scope, node, i) for i in range(len(node.inputs))]
    kind = _ELEMENTWISE[node.op]
    if node.op in ("Sum", "Max", "Min"):
        if len(operands) == 1:
            return (operands[0],)
        while len(operands) > 2:
            pair = _ew(scope, node, kind, operands[:2], f"{len(operands)}")
            operands = [pair, *operands[2:]]
    return (_ew(scope, node, kind, operands),)


def mean(scope: Scope, node: Node) -> Results:
    """Mean of several values: their sum times a constant."""
    operands = [scope.operand(node, i) for i in range(len(node.inputs))]
    total = operands[0]
    for i, other in enumerate(operands[1:]):
        total = _ew(scope, node, Ew.ADD, [total, other], f"sum_{i}")
    if len(operands) == 1:
        return (total,)
    return (_ew(scope, node, Ew.MUL, [total, _scalar(1.0 / len(operands))]),)


def prelu(scope: Scope, node: Node) -> Results:
    """max(x, 0) + slope * min(x, 0)."""
    x, slope = scope.operand(node, 0), _term(scope, node, 1)
    positive = scope.emit(node, Op.ACTIVATION, [x], at.ActivationAttributes(kind=Act.RELU), step="relu")[0]
    negative = _ew(scope, node, Ew.MINIMUM, [x, _scalar(0.0)], "negative")
    scaled = _ew(scope, node, Ew.MUL, [negative, slope], "scaled")
    return (_ew(scope, node, Ew.ADD, [positive, scaled]),)


_PLAIN: Mapping[str, Act] = {
    "Relu": Act.RELU,
    "Sigmoid": Act.SIGMOID,
    "Tanh": Act.TANH,
    "HardSwish": Act.HARD_SWISH,
    "Mish": Act.MISH,
    "Erf": Act.ERF,
}
_WITH_ALPHA: Mapping[str, tuple[Act, float]] = {"LeakyRelu": (Act.LEAKY_RELU, 0.01), "Elu": (Act.ELU, 1.0)}
_SELU = (1.67326319217681884765625, 1.05070102214813232421875)
"""alpha and gamma of Selu (ONNX operator reference; Klambauer et al. 2017, equation 14)."""


def activation(scope: Scope, node: Node) -> Results:
    """Unary activations."""
    x = scope.operand(node, 0)
    match node.op:
        case "HardSigmoid":
            made = at.ActivationAttributes(
                kind=Act.HARD_SIGMOID, alpha=node.real("alpha", 0.2), beta=node.real("beta", 0.5)
            )
        case "Selu":
            if not np.allclose((node.real("alpha", _SELU[0]), node.real("gamma", _SELU[1])), _SELU):
                raise UnhandledError("its alpha and gamma are not those of the paper")
            made = at.ActivationAttributes(kind=Act.SELU)
        case "Gelu":
            tanh = node.text("approximate", "none") == "tanh"
            made = at.ActivationAttributes(kind=Act.GELU_TANH if tanh else Act.GELU)
        case "Softplus":
            made = at.ActivationAttributes(kind=Act.SOFTPLUS, alpha=1.0)
        case "Swish":
            if node.real("alpha", 1.0) != 1.0:
                raise UnhandledError("its alpha is not 1")
            made = at.ActivationAttributes(kind=Act.SILU)
        case op if op in _WITH_ALPHA:
            kind, default = _WITH_ALPHA[op]
            made = at.ActivationAttributes(kind=kind, alpha=node.real("alpha", default))
        case op:
            made = at.ActivationAttributes(kind=_PLAIN[op])
    return scope.emit(node, Op.ACTIVATION, [x], made)


def clip(scope: Scope, node: Node) -> Results:
    """Clip between bounds given as attributes (before opset 11) or fixed inputs; without bounds it is no layer."""
    x = scope.operand(node, 0)
    bounds: list[float | None] = []
    for i, key in ((1, "min"), (2, "max")):
        if node.has(i):
            bounds.append(float(str(scope.fixed(node, i).array().reshape(-1)[0])))
        else:
            bounds.append(node.real(key, 0.0) if key in node.attributes else None)
    if bounds == [None, None]:
        return (x,)
    made = at.ActivationAttributes(kind=Act.CLIP, alpha=bounds[0], beta=bounds[1])
    return scope.emit(node, Op.ACTIVATION, [x], made)


_ONE_AXIS_SINCE = 13
"""Softmax works on one axis since this opset; before, on all axes from `axis` on, taken as one."""


def softmax(scope: Scope, node: Node) -> Results:
    """Softmax and LogSoftmax."""
    x, log = scope.operand(node, 0), node.op == "LogSoftmax"
    rank = len(x.shape)
    axis = scope.axis(node, node.integer("axis", -1 if node.opset >= _ONE_AXIS_SINCE else 1), rank)
    if node.opset < _ONE_AXIS_SINCE:
        long = [i for i in range(axis, rank) if x.shape[i] != 1]
        if len(long) > 1:
            return _flat_softmax(scope, node, x, axis, log=log)
        axis = long[0] if long else axis
    return scope.emit(node, Op.SOFTMAX, [x], at.SoftmaxAttributes(axis=axis, log=log))


def _flat_softmax(scope: Scope, node: Node, x: Operand, axis: int, *, log: bool) -> Results:
    batch = x.type.batch_axis
    if batch is not None and batch >= axis:
        raise UnhandledError("it mixes the samples of a batch")
    flat = TensorType(shape=(*x.shape[:axis], prod(x.shape[axis:])), batch_axis=batch)
    view = at.ReshapeAttributes()
    made = scope.emit(node, Op.RESHAPE, [x], view, types=[flat], step="flat")[0]
    made = scope.emit(node, Op.SOFTMAX, [made], at.SoftmaxAttributes(axis=axis, log=log), step="softmax")[0]
    return scope.emit(node, Op.RESHAPE, [made], view, types=[x.type])


_REDUCE: Mapping[str, tuple[Ew | None, ReduceKind, Ew | None]] = {
    "ReduceMean": (None, ReduceKind.MEAN, None),
    "ReduceSum": (None, ReduceKind.SUM, None),
    "ReduceMax": (None, ReduceKind.MAX, None),
    "ReduceMin": (None, ReduceKind.MIN, None),
    "ReduceProd": (None, ReduceKind.PROD, None),
    "ReduceL1": (Ew.ABS, ReduceKind.SUM, None),
    "ReduceL2": (Ew.MUL, ReduceKind.SUM, Ew.SQRT),
    "ReduceSumSquare": (Ew.MUL, ReduceKind.SUM, None),
    "ReduceLogSum": (None, ReduceKind.SUM, Ew.LOG),
    "ReduceLogSumExp": (Ew.EXP, ReduceKind.SUM, Ew.LOG),
}
"""What is done to each element, the reduction, and what is done to its result."""


def reduce(scope: Scope, node: Node) -> Results:
    """Reductions; norms and logarithms are an element-wise layer before or after."""
    x = scope.operand(node, 0)
    rank = len(x.shape)
    axes = scope.listed(node, "axes", 1)
    if not axes and node.integer("noop_with_empty_axes", 0):
        return (x,)
    chosen = tuple(sorted({scope.axis(node, a, rank) for a in axes})) if axes else tuple(range(rank))
    before, kind, after = _REDUCE[node.op]
    if before is not None:
        x = _ew(scope, node, before, [x, x] if before is Ew.MUL else [x], "each")
    attributes = at.ReduceAttributes(kind=kind, axes=chosen, keepdims=bool(node.integer("keepdims", 1)))
    made = scope.emit(node, Op.REDUCE, [x], attributes, step="" if after is None else "reduce")
    return made if after is None else (_ew(scope, node, after, [made[0]]),)


def cast(scope: Scope, node: Node) -> Results:
    """Cast; between kinds of real numbers it is no layer, since what an accelerator stores is set elsewhere."""
    x = scope.operand(node, 0)
    if node.op == "CastLike":
        target = scope.dtypes.get(node.inputs[1], np.dtype(np.float32))
    else:
        target = numpy_dtype(node.integer("to", 0), scope.where(node))
    source = scope.dtypes.get(node.inputs[0], np.dtype(np.float32))
    real = _is_real(target)
    if not real and target.kind not in "biu":
        raise UnhandledError(f"it casts to {target}")
    if (real and _is_real(source)) or target == source:
        return (x,)
    made = at.ElementwiseAttributes(kind=Ew.CAST, dtype=target.name if target.isbuiltin == 1 else "float32")
    return scope.emit(node, Op.ELEMENTWISE, [x], made)


def _is_real(dtype: np.dtype[Any]) -> bool:
    """Whether a type holds real numbers; bfloat16 and narrower floats are numpy extensions known by their names."""
    return dtype.kind == "f" or (dtype.isbuiltin != 1 and "float" in dtype.name)


def alias(scope: Scope, node: Node) -> Results:
    """Identity, and Dropout at inference: another name for the same value."""
    if node.op == "Dropout":
        scope.single(node)
        training = scope.value(node, 2) if node.has(2) else None
        if training is not None and not (isinstance(training, Fixed) and not training.array().any()):
            raise UnhandledError("it drops at random")
    return (scope.value(node, 0),)


HANDLERS: Mapping[str, Handler] = {
    "Conv": compute.conv,
    "ConvTranspose": compute.conv,
    "DeformConv": compute.deform_conv,
    "Gemm": compute.gemm,
    "MatMul": compute.matmul,
    "MaxPool": compute.pool,
    "AveragePool": compute.pool,
    "GlobalMaxPool": compute.global_pool,
    "GlobalAveragePool": compute.global_pool,
    "BatchNormalization": compute.batch_norm,
    "LayerNormalization": compute.trailing_norm,
    "RMSNormalization": compute.trailing_norm,
    "InstanceNormalization": compute.instance_norm,
    "GroupNormalization": compute.group_norm,
    "LRN": compute.lrn,
    "Reshape": layout.reshape,
    "Flatten": layout.flatten,
    "Squeeze": layout.squeeze,
    "Unsqueeze": layout.unsqueeze,
    "Transpose": layout.transpose,
    "Concat": layout.concatenate,
    "Split": layout.split,
    "Slice": layout.slice_,
    "Pad": layout.pad,
    "Expand": layout.expand,
    "Tile": layout.tile,
    "Resize": layout.resize,
    "Upsample": layout.resize,
    "Gather": layout.gather,
    "DepthToSpace": layout.depth_space,
    "SpaceToDepth": layout.depth_space,
    **dict.fromkeys(_ELEMENTWISE, elementwise),
    "Mean": mean,
    "PRelu": prelu,
    **dict.fromkeys((*_PLAIN, *_WITH_ALPHA, "HardSigmoid", "Selu", "Gelu", "Softplus", "Swish"), activation),
    "Clip": clip,
    "Softmax": softmax,
    "LogSoftmax": softmax,
    **dict.fromkeys(_REDUCE, reduce),
    "Cast": cast,
    "CastLike": cast,
    "Identity": alias,
    "Dropout": alias,
}
"""Operator of the standard domain -> handler."""
