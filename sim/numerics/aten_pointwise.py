"""How aten's activations and element-wise operators become layers."""

import math
from typing import TYPE_CHECKING, Any

import torch

from picojoule.sim import attributes as at
from picojoule.sim.attributes import ActivationKind, Op
from picojoule.sim.attributes import ElementwiseKind as Ew
from picojoule.sim.ir import Operand, TensorType
from picojoule.sim.numerics.aten_compute import Handler, scaled

if TYPE_CHECKING:
    from picojoule.sim.numerics.torch_calls import Call


# --- activations -----------------------------------------------------------------------------------------------------


def activation(
    kind: ActivationKind, *, alpha: str = "", beta: str = "", low: float | None = None, high: float | None = None
) -> Handler:
    """Return a handler; `alpha` and `beta` name the arguments with those attributes, `low` and `high` fix them."""

    def handle(call: "Call") -> Operand:
        first, second = (float(call.value(k)) if k else None for k in (alpha, beta))
        attributes = at.ActivationAttributes(
            kind=kind, alpha=low if low is not None else first, beta=high if high is not None else second
        )
        return call.one(Op.ACTIVATION, [call.operand(call.first("self", "input"))], attributes)

    return handle


def clip(call: "Call") -> Operand:
    x = call.operand("self")
    low, high = (next((k for k in (e, f"{e}_val") if k in call.arguments), "") for e in ("min", "max"))
    if call.kind("self") is float and not any(isinstance(call.arguments.get(k), torch.fx.Node) for k in (low, high)):
        bounds = {"alpha": call.value(low) if low else None, "beta": call.value(high) if high else None}
        kept = {k: None if v is None else float(v) for k, v in bounds.items()}
        return call.one(Op.ACTIVATION, [x], at.ActivationAttributes(kind=ActivationKind.CLIP, **kept))
    given = [(k, e) for k, e in ((low, Ew.MAXIMUM), (high, Ew.MINIMUM)) if k and call.has(k)]
    for i, (key, kind) in enumerate(given):
        operands = [x, call.operand(key)]
        last = i == len(given) - 1
        x = (
            call.one(Op.ELEMENTWISE, operands, at.ElementwiseAttributes(kind=kind))
            if last
            else call.elementwise(kind, operands, str(kind))
        )
    return x


def gelu(call: "Call") -> Operand:
    kind = ActivationKind.GELU_TANH if call.value("approximate", "none") == "tanh" else ActivationKind.GELU
    return call.one(Op.ACTIVATION, [call.operand("self")], at.ActivationAttributes(kind=kind))


def prelu(call: "Call") -> Operand:
    x, slope = call.operand("self"), call.operand("weight")
    spread = slope
    if call.name.startswith("prelu"):
        shape = (1, -1, *(1,) * (len(x.shape) - 2)) if len(x.shape) > 1 else (-1,)
        spread = call.derived(slope, "slope", lambda t: t.reshape(shape))
    relu = at.ActivationAttributes(kind=ActivationKind.RELU)
    positive = call.inner(Op.ACTIVATION, [x], relu, "relu")
    negative = call.elementwise(Ew.SUB, [x, positive], "negative")
    below = call.elementwise(Ew.MUL, [negative, spread], "scaled")
    return call.one(Op.ELEMENTWISE, [positive, below], at.ElementwiseAttributes(kind=Ew.ADD))


def rrelu(call: "Call") -> Operand:
    if call.value("training"):
        call.refuse("random slopes")
    call.seen("training")
    slope = (float(call.value("lower")) + float(call.value("upper"))) / 2
    leaky = at.ActivationAttributes(kind=ActivationKind.LEAKY_RELU, alpha=slope)
    return call.one(Op.ACTIVATION, [call.operand("self")], leaky)


def glu(call: "Call") -> Operand:
    x = call.operand("self")
    axis = call.axis("dim", len(x.shape), -1)
    half = x.shape[axis] // 2
    kind = TensorType(
        shape=tuple(half if i == axis else s for i, s in enumerate(x.shape)), batch_axis=x.type.batch_axis
    )
    split = at.SplitAttributes(axis=axis, sizes=(half, half))
    value, gate = call.add(Op.SPLIT, [x], split, suffix="split", types=[kind, kind])
    share = call.inner(Op.ACTIVATION, [gate], at.ActivationAttributes(kind=ActivationKind.SIGMOID), "sigmoid")
    return call.one(Op.ELEMENTWISE, [value, share], at.ElementwiseAttributes(kind=Ew.MUL))


def softmax(log: bool) -> Handler:
    def handle(call: "Call") -> Operand:
        x = call.as_float(call.operand("self"), "self")
        call.seen("half_to_float")
        axis = call.axis("dim", len(x.shape))
        return call.one(Op.SOFTMAX, [x], at.SoftmaxAttributes(axis=axis, log=log))

    return handle


# --- arithmetic ------------------------------------------------------------------------------------------------------


def unary(kind: Ew, *, real: bool = False) -> Handler:
    """Return a handler for a function of one value; `real` ones turn whole numbers into floating point."""

    def handle(call: "Call") -> Operand:
        x = call.operand("self")
        if real:
            x = call.as_float(x, "self")
        if kind is Ew.ROUND and call.value("decimals", 0):
            call.refuse("rounding to decimals")
        return call.one(Op.ELEMENTWISE, [x], at.ElementwiseAttributes(kind=kind))

    return handle


def binary(kind: Ew) -> Handler:
    def handle(call: "Call") -> Operand:
        other = call.operand(call.first("other", "exponent"))
        alpha = call.value("alpha", 1)
        operands = [call.operand("self"), scaled(call, other, alpha, "alpha")]
        return call.one(Op.ELEMENTWISE, operands, at.ElementwiseAttributes(kind=kind))

    return handle


def rsub(call: "Call") -> Operand:
    x = scaled(call, call.operand("self"), call.value("alpha", 1), "alpha")
    return call.one(Op.ELEMENTWISE, [call.operand("other"), x], at.ElementwiseAttributes(kind=Ew.SUB))


def divide(call: "Call") -> Operand:
    x, y = call.operand("self"), call.operand("other")
    rounding = call.value("rounding_mode")
    if rounding == "floor":
        return call.one(Op.ELEMENTWISE, [x, y], at.ElementwiseAttributes(kind=Ew.FLOOR_DIVIDE))
    whole = call.kind("self") is not float and call.kind("other") is not float
    if rounding == "trunc":
        if whole:
            return call.one(Op.ELEMENTWISE, [x, y], at.ElementwiseAttributes(kind=Ew.DIV))
        quotient = call.elementwise(Ew.DIV, [x, y], "quotient")
        return call.one(Op.ELEMENTWISE, [quotient], at.ElementwiseAttributes(kind=Ew.TRUNC))
    if whole:
        cast = at.ElementwiseAttributes(kind=Ew.CAST, dtype="float32")
        x = call.inner(Op.ELEMENTWISE, [x], cast, "as_float")
    return call.one(Op.ELEMENTWISE, [x, y], at.ElementwiseAttributes(kind=Ew.DIV))


def square(call: "Call") -> Operand:
    x = call.operand("self")
    return call.one(Op.ELEMENTWISE, [x, x], at.ElementwiseAttributes(kind=Ew.MUL))


def logarithm(base: float) -> Handler:
    def handle(call: "Call") -> Operand:
        natural = call.elementwise(Ew.LOG, [call.as_float(call.operand("self"), "self")], "log")
        factor = call.number("factor", 1 / math.log(base))
        return call.one(Op.ELEMENTWISE, [natural, factor], at.ElementwiseAttributes(kind=Ew.MUL))

    return handle


def exp2(call: "Call") -> Operand:
    operands = [call.number("base", 2.0), call.operand("self")]
    return call.one(Op.ELEMENTWISE, operands, at.ElementwiseAttributes(kind=Ew.POW))


def erfc(call: "Call") -> Operand:
    x = call.operand("self")
    below = call.inner(Op.ACTIVATION, [x], at.ActivationAttributes(kind=ActivationKind.ERF), "erf")
    return call.one(Op.ELEMENTWISE, [call.number("one", 1.0), below], at.ElementwiseAttributes(kind=Ew.SUB))


def bitwise(kind: Ew) -> Handler:
    def handle(call: "Call") -> Operand:
        keys = ["self"] if kind is Ew.NOT else ["self", "other"]
        if any(call.kind(k) is not bool for k in keys):
            call.refuse("bits of whole numbers")
        return call.one(Op.ELEMENTWISE, [call.operand(k) for k in keys], at.ElementwiseAttributes(kind=kind))

    return handle


def where(call: "Call") -> Operand:
    operands = [call.operand(k) for k in ("condition", "self", "other")]
    return call.one(Op.ELEMENTWISE, operands, at.ElementwiseAttributes(kind=Ew.WHERE))


def masked_fill(call: "Call") -> Operand:
    operands = [call.operand(k) for k in ("mask", "value", "self")]
    return call.one(Op.ELEMENTWISE, operands, at.ElementwiseAttributes(kind=Ew.WHERE))


def fill(call: "Call") -> Operand:
    call.seen("self")
    return call.one(Op.EXPAND, [call.operand("value")], at.ExpandAttributes())


def copy(call: "Call") -> Operand:
    call.seen("self")
    x = call.operand("src")
    x = _converted(call, x, call.dtype("src"), call.result_dtype, "cast")
    return x if x.type == call.types[0] else call.one(Op.EXPAND, [x], at.ExpandAttributes())


def cast(call: "Call") -> Operand:
    call.seen("other")
    return _converted(
        call, call.operand(call.first("self", "a")), call.dtype(call.first("self", "a")), call.result_dtype
    )


def _converted(call: "Call", x: Operand, before: torch.dtype | None, after: torch.dtype, suffix: str = "") -> Operand:
    """Convert between kinds of numbers, and to narrower integers, which wrap; another precision of reals changes nothing."""
    wraps = _kind(after) == "int" and before is not None and after.itemsize < before.itemsize
    if before == after or (before is not None and _kind(before) == _kind(after) and not wraps):
        return x
    narrow = str(after).removeprefix("torch.")
    dtype = {"float": "float32", "int": narrow if wraps else "int64", "bool": "bool"}[_kind(after)]
    attributes = at.ElementwiseAttributes(kind=Ew.CAST, dtype=dtype)
    return call.inner(Op.ELEMENTWISE, [x], attributes, suffix) if suffix else call.one(Op.ELEMENTWISE, [x], attributes)


def _kind(dtype: torch.dtype) -> str:
    return "float" if dtype.is_floating_point else "bool" if dtype is torch.bool else "int"


def native_dropout(call: "Call") -> list[Any]:
    call.seen("p")
    if call.value("train"):
        call.refuse("dropout that stays on in evaluation")
    call.seen("train")
    return [call.operand("input"), None]
