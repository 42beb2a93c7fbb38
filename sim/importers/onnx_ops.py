"""ONNX operators on single elements and on axes: element-wise arithmetic, activations, softmax, reductions, casts.

A handler takes the scope and a node, adds layers, and returns the node's results. Semantics: ONNX operator reference.
"""

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from picojoule.sim import attributes as at
from picojoule.sim.attributes import ActivationKind as Act
from picojoule.sim.attributes import ElementwiseKind as Ew
from picojoule.sim.attributes import Op, ReduceKind
from picojoule.sim.builder import constant
from picojoule.sim.importers.onnx_file import numpy_dtype
from picojoule.sim.importers.onnx_scope import Results, Scope
from picojoule.sim.importers.onnx_values import BatchError, Fixed, Node, UnhandledError, Value, number
from picojoule.sim.ir import Operand, TensorType
from picojoule.sim.weights import constant_fill

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
    "Tan": Ew.TAN,
    "Asin": Ew.ASIN,
    "Acos": Ew.ACOS,
    "Atan": Ew.ATAN,
    "Sinh": Ew.SINH,
    "Cosh": Ew.COSH,
    "Asinh": Ew.ASINH,
    "Acosh": Ew.ACOSH,
    "Atanh": Ew.ATANH,
    "Not": Ew.NOT,
    "And": Ew.AND,
    "Or": Ew.OR,
    "Xor": Ew.XOR,
    "IsNaN": Ew.IS_NAN,
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


def modulo(scope: Scope, node: Node) -> Results:
    """Mod, with the sign of the divisor or (fmod) of the dividend."""
    kind = Ew.FMOD if node.integer("fmod", 0) else Ew.MOD
    return (_ew(scope, node, kind, [_term(scope, node, 0), _term(scope, node, 1)]),)


def is_infinite(scope: Scope, node: Node) -> Results:
    """IsInf; one sign alone is a comparison."""
    positive, negative = node.integer("detect_positive", 1), node.integer("detect_negative", 1)
    if positive and negative:
        return (_ew(scope, node, Ew.IS_INF, [scope.operand(node, 0)]),)
    if not positive and not negative:
        raise UnhandledError("it looks for neither sign")
    bound = number("constant inf", np.inf) if positive else number("constant -inf", -np.inf)
    return (scope.lower(node, "Equal", [scope.value(node, 0), bound]),)


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
    "Softsign": Act.SOFTSIGN,
}
_WITH_ALPHA: Mapping[str, tuple[Act, float]] = {
    "LeakyRelu": (Act.LEAKY_RELU, 0.01),
    "Elu": (Act.ELU, 1.0),
    "Celu": (Act.CELU, 1.0),
}
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
            alpha = node.real("alpha", 1.0)
            if alpha != 1.0:
                inner = scope.lower(node, "Mul", [x, number(f"constant {alpha:.9g}", alpha)], "scaled")
                return (scope.lower(node, "Mul", [x, scope.lower(node, "Sigmoid", [inner], "gate")]),)
            made = at.ActivationAttributes(kind=Act.SILU)
        case "ThresholdedRelu":
            made = at.ActivationAttributes(kind=Act.THRESHOLD, alpha=node.real("alpha", 1.0), beta=0.0)
        case "Shrink":
            width, bias = node.real("lambd", 0.5), node.real("bias", 0.0)
            if bias not in (0.0, width):
                raise UnhandledError("its bias is neither 0 nor lambd")
            made = at.ActivationAttributes(kind=Act.SOFT_SHRINK if bias else Act.HARD_SHRINK, alpha=width)
        case op if op in _WITH_ALPHA:
            kind, default = _WITH_ALPHA[op]
            made = at.ActivationAttributes(kind=kind, alpha=node.real("alpha", default))
        case op:
            made = at.ActivationAttributes(kind=_PLAIN[op])
    return scope.emit(node, Op.ACTIVATION, [x], made)


def clip(scope: Scope, node: Node) -> Results:
    """Clip between bounds given as attributes (before opset 11) or inputs; without bounds it is no layer."""
    if any(node.has(i) and isinstance(scope.value(node, i), Operand) for i in (1, 2)):
        return _moving_clip(scope, node)
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


def _moving_clip(scope: Scope, node: Node) -> Results:
    """Clip between bounds that are computed."""
    x = scope.value(node, 0)
    if node.has(1):
        x = scope.lower(node, "Max", [x, scope.value(node, 1)], "low" if node.has(2) else "")
    return (scope.lower(node, "Min", [x, scope.value(node, 2)]) if node.has(2) else x,)


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
        raise BatchError("it mixes the samples of a batch")
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
        training = scope.value(node, 2) if node.has(2) else None
        if training is not None and not (isinstance(training, Fixed) and not training.array().any()):
            raise UnhandledError("it drops at random")
        value = scope.value(node, 0)
        if scope.used(node, 1):
            return (value, _all_true(f"{node.name} kept", value))
    return (scope.value(node, 0),)


def _all_true(name: str, value: Value) -> Fixed:
    """Return a mask of a value's shape: at inference nothing is dropped."""
    shape = value.shape
    twice = value.type.at(2) if isinstance(value, Operand) else shape
    return Fixed(
        name=name,
        weights=constant_fill(True, shape, "bool"),
        dtype=np.dtype(np.bool_),
        stored=False,
        at_two=None if twice == shape else np.broadcast_to(np.True_, twice),
    )


STANDARD = {
    **dict.fromkeys(_ELEMENTWISE, elementwise),
    "Mod": modulo,
    "IsInf": is_infinite,
    "Mean": mean,
    "PRelu": prelu,
    **dict.fromkeys((*_PLAIN, *_WITH_ALPHA), activation),
    **dict.fromkeys(("HardSigmoid", "Selu", "Gelu", "Softplus", "Swish", "ThresholdedRelu", "Shrink"), activation),
    "Clip": clip,
    "Softmax": softmax,
    "LogSoftmax": softmax,
    **dict.fromkeys(_REDUCE, reduce),
    "Cast": cast,
    "CastLike": cast,
    "Identity": alias,
    "Dropout": alias,
}
"""Operators of the standard domain."""
