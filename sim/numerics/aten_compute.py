"""How aten's arithmetic becomes layers: convolutions, products, norms, activations, element-wise operators."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from picojoule.sim import attributes as at
from picojoule.sim.attributes import ActivationKind, NormKind, Op
from picojoule.sim.attributes import ElementwiseKind as Ew
from picojoule.sim.ir import Operand, OperandKind

if TYPE_CHECKING:
    from picojoule.sim.numerics.torch_calls import Call

Handler = Callable[["Call"], Any]


def conv(call: "Call", rank: int) -> Operand:
    operands = [call.operand("input"), call.operand("weight")]
    if call.has("bias"):
        operands.append(call.operand("bias"))
    kernel = operands[1].shape[2:]
    dilation = call.ints("dilation", rank, 1)
    padding = call.value("padding", 0)
    begin = end = (0,) * rank
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        begin, end = tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
    elif padding != "valid":
        begin = end = call.ints("padding", rank, 0)
    attributes = at.ConvAttributes(
        stride=call.ints("stride", rank, 1),
        padding_begin=begin,
        padding_end=end,
        dilation=dilation,
        groups=int(call.value("groups", 1)),
    )
    return call.one(Op.CONV, operands, attributes)


def conv_transpose(call: "Call", rank: int) -> Operand:
    operands = [call.operand("input"), call.operand("weight")]
    if call.has("bias"):
        operands.append(call.operand("bias"))
    padding = call.ints("padding", rank, 0)
    attributes = at.ConvAttributes(
        stride=call.ints("stride", rank, 1),
        padding_begin=padding,
        padding_end=padding,
        dilation=call.ints("dilation", rank, 1),
        groups=int(call.value("groups", 1)),
        transposed=True,
        output_padding=call.ints("output_padding", rank, 0),
    )
    return call.one(Op.CONV, operands, attributes)


def convolution(call: "Call") -> Operand:
    rank = len(call.operand("weight").shape) - 2
    return conv_transpose(call, rank) if call.value("transposed") else conv(call, rank)


def linear(call: "Call") -> Operand:
    operands = [call.operand("input"), call.operand("weight")]
    if call.has("bias"):
        operands.append(call.operand("bias"))
    return call.one(Op.LINEAR, operands, at.LinearAttributes())


def matmul(call: "Call") -> Operand:
    first, second = (call.operand(k) for k in (("self", "other") if "other" in call.arguments else ("self", "mat2")))
    if first.kind is not OperandKind.ACTIVATION and len(first.shape) == 2 and second.kind is OperandKind.ACTIVATION:
        return _weight_first(call, first, second)
    return call.one(Op.MATMUL, [first, second], at.MatmulAttributes())


def _weight_first(call: "Call", weight: Operand, x: Operand) -> Operand:
    """W x as the linear layer it is: (x^T W^T)^T."""
    rank = len(x.shape)
    swap = at.TransposeAttributes(permutation=(*range(rank - 2), rank - 1, rank - 2))
    columns = call.inner(Op.TRANSPOSE, [x], swap, "columns")
    rows = call.inner(Op.LINEAR, [columns, weight], at.LinearAttributes(), "linear")
    return call.one(Op.TRANSPOSE, [rows], swap)


def addmm(call: "Call") -> Operand:
    product = call.inner(Op.MATMUL, [call.operand("mat1"), call.operand("mat2")], at.MatmulAttributes(), "matmul")
    product = _scaled(call, product, call.value("alpha", 1), "alpha")
    bias = _scaled(call, call.operand("self"), call.value("beta", 1), "beta")
    return call.one(Op.ELEMENTWISE, [bias, product], at.ElementwiseAttributes(kind=Ew.ADD))


def _scaled(call: "Call", x: Operand, factor: float, name: str) -> Operand:
    if factor == 1:
        return x
    scale = call.constant(name, lambda: torch.tensor(float(factor)))
    return call.inner(Op.ELEMENTWISE, [x, scale], at.ElementwiseAttributes(kind=Ew.MUL), name)


def attention(call: "Call") -> Operand:
    """softmax(q k^T scale + mask) v, as the products it consists of."""
    query, key, value = (call.operand(k) for k in ("query", "key", "value"))
    rank = len(key.shape)
    swap = at.TransposeAttributes(permutation=(*range(rank - 2), rank - 1, rank - 2))
    key_t = call.inner(Op.TRANSPOSE, [key], swap, "key_transpose")
    scores = call.inner(Op.MATMUL, [query, key_t], at.MatmulAttributes(), "query_key")
    scale = call.value("scale")
    factor = float(scale) if scale is not None else query.shape[-1] ** -0.5
    scores = _scaled(call, scores, factor, "scale")
    if call.has("attn_mask"):
        mask = call.operand("attn_mask")
        is_boolean = call.arguments["attn_mask"].meta["val"].dtype is torch.bool
        scores = _masked(call, scores, mask) if is_boolean else _add(call, scores, mask, "mask")
    if call.value("is_causal", False):
        length, width = scores.shape[-2:]

        def causal() -> torch.Tensor:
            return torch.full((length, width), float("-inf")).triu(1)

        scores = _add(call, scores, call.constant("causal_mask", causal), "mask")
    shares = call.inner(Op.SOFTMAX, [scores], at.SoftmaxAttributes(axis=len(scores.shape) - 1), "softmax")
    return call.one(Op.MATMUL, [shares, value], at.MatmulAttributes())


def _add(call: "Call", x: Operand, y: Operand, name: str) -> Operand:
    return call.inner(Op.ELEMENTWISE, [x, y], at.ElementwiseAttributes(kind=Ew.ADD), name)


def _masked(call: "Call", x: Operand, keep: Operand) -> Operand:
    low = call.constant("minus_infinity", lambda: torch.tensor(float("-inf")))
    return call.inner(Op.ELEMENTWISE, [keep, x, low], at.ElementwiseAttributes(kind=Ew.WHERE), "mask")


def batch_norm(call: "Call") -> Operand:
    x = call.operand("input")
    channels = x.shape[1]
    given = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}
    operands = [x]
    for key, default in given.items():
        if call.has(key):
            operands.append(call.operand(key))
        else:
            operands.append(call.constant(key, lambda d=default: torch.full((channels,), d)))  # type: ignore[misc]
    return call.one(Op.NORM, operands, at.NormAttributes(kind=NormKind.BATCH, epsilon=float(call.value("eps"))))


def norm(call: "Call", kind: NormKind) -> Operand:
    operands = [call.operand("input")]
    operands += [call.operand(k) for k in ("weight", "bias") if call.has(k)]
    shape = call.value("normalized_shape", [])
    epsilon = call.value("eps", None)
    attributes = at.NormAttributes(
        kind=kind,
        epsilon=float(epsilon) if epsilon is not None else torch.finfo(torch.float32).eps,
        axes=len(shape) or 1,
        groups=int(call.value("num_groups", 1)),
        has_scale=call.has("weight"),
        has_bias=call.has("bias"),
    )
    return call.one(Op.NORM, operands, attributes)


def activation(kind: ActivationKind, **fixed: float) -> Handler:
    def handle(call: "Call") -> Operand:
        return call.one(
            Op.ACTIVATION,
            [call.operand("self")],
            at.ActivationAttributes(kind=kind, **(fixed or _parameters(call, kind))),
        )

    return handle


def _parameters(call: "Call", kind: ActivationKind) -> dict[str, float]:
    match kind:
        case ActivationKind.LEAKY_RELU:
            return {"alpha": float(call.value("negative_slope", 0.01))}
        case ActivationKind.ELU:
            return {"alpha": float(call.value("alpha", 1.0))}
        case ActivationKind.SOFTPLUS:
            return {"alpha": float(call.value("beta", 1.0))}
        case _:
            return {}


def clip(call: "Call") -> Operand:
    if any(isinstance(call.arguments.get(key), torch.fx.Node) for key in ("min", "max", "min_val", "max_val")):
        return call.reader._opaque(call, call.node.meta["val"], "a bound that is computed")  # type: ignore[no-any-return]
    low = call.value("min_val", call.value("min"))
    high = call.value("max_val", call.value("max"))
    attributes = at.ActivationAttributes(
        kind=ActivationKind.CLIP,
        alpha=None if low is None else float(low),
        beta=None if high is None else float(high),
    )
    return call.one(Op.ACTIVATION, [call.operand("self")], attributes)


def gelu(call: "Call") -> Operand:
    kind = ActivationKind.GELU_TANH if call.value("approximate", "none") == "tanh" else ActivationKind.GELU
    return call.one(Op.ACTIVATION, [call.operand("self")], at.ActivationAttributes(kind=kind))


def prelu(call: "Call") -> Operand:
    x, slope = call.operand("self"), call.operand("weight")
    shape = (1, -1, *(1,) * (len(x.shape) - 2)) if len(x.shape) > 1 else (-1,)
    node = call.arguments["weight"]
    origin = call.reader.origin(node)
    spread = call.constant("slope", lambda: origin().reshape(shape))
    positive = call.inner(Op.ACTIVATION, [x], at.ActivationAttributes(kind=ActivationKind.RELU), "relu")
    negative = call.inner(Op.ELEMENTWISE, [x, positive], at.ElementwiseAttributes(kind=Ew.SUB), "negative")
    scaled = call.inner(Op.ELEMENTWISE, [negative, spread], at.ElementwiseAttributes(kind=Ew.MUL), "scaled")
    del slope
    return call.one(Op.ELEMENTWISE, [positive, scaled], at.ElementwiseAttributes(kind=Ew.ADD))


def softmax(log: bool) -> Handler:
    def handle(call: "Call") -> Operand:
        x = call.operand("self")
        axis = int(call.value("dim")) % len(x.shape)
        return call.one(Op.SOFTMAX, [x], at.SoftmaxAttributes(axis=axis, log=log))

    return handle


def elementwise(kind: Ew) -> Handler:
    def handle(call: "Call") -> Operand:
        operands = [call.operand("self")]
        if "other" in call.arguments:
            other = call.operand("other")
            alpha = call.value("alpha", 1)
            operands.append(_scaled(call, other, alpha, "alpha") if alpha is not None else other)
        return call.one(Op.ELEMENTWISE, operands, at.ElementwiseAttributes(kind=kind))

    return handle


def power(call: "Call") -> Operand:
    operands = [call.operand("self"), call.operand("exponent")]
    return call.one(Op.ELEMENTWISE, operands, at.ElementwiseAttributes(kind=Ew.POW))


def where(call: "Call") -> Operand:
    operands = [call.operand(k) for k in ("condition", "self", "other")]
    return call.one(Op.ELEMENTWISE, operands, at.ElementwiseAttributes(kind=Ew.WHERE))


def masked_fill(call: "Call") -> Operand:
    operands = [call.operand(k) for k in ("mask", "value", "self")]
    return call.one(Op.ELEMENTWISE, operands, at.ElementwiseAttributes(kind=Ew.WHERE))


def cast(call: "Call") -> Operand:
    x = call.operand("self")
    before, after = call.arguments["self"].meta["val"].dtype, call.node.meta["val"].dtype
    if before == after:
        return x
    dtype = str(after).removeprefix("torch.")
    return call.one(Op.ELEMENTWISE, [x], at.ElementwiseAttributes(kind=Ew.CAST, dtype=dtype))
