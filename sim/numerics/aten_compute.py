"""How aten's multiply-accumulates become layers: convolutions, matrix products, attention. Norms, too."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from picojoule.sim import attributes as at
from picojoule.sim.attributes import ElementwiseKind as Ew
from picojoule.sim.attributes import NormKind, Op
from picojoule.sim.ir import Operand, OperandKind, TensorType

if TYPE_CHECKING:
    from picojoule.sim.numerics.torch_calls import Call

Handler = Callable[["Call"], Any]


def is_stored(x: Operand) -> bool:
    """Whether an operand is a parameter or constant."""
    return x.kind is not OperandKind.ACTIVATION


# --- convolutions ----------------------------------------------------------------------------------------------------


def conv(call: "Call", rank: int) -> Operand:
    operands = _filter_operands(call)
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
    operands = _filter_operands(call)
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
    if call.value("transposed"):
        return conv_transpose(call, rank)
    call.seen("output_padding", "benchmark", "deterministic", "allow_tf32")
    return conv(call, rank)


def _filter_operands(call: "Call") -> list[Operand]:
    operands = [call.operand("input"), call.operand("weight")]
    if operands[1].type.batch_axis is not None:
        call.refuse("each sample has a filter of its own")
    return [*operands, call.operand("bias")] if call.has("bias") else operands


# --- matrix products -------------------------------------------------------------------------------------------------


def linear(call: "Call") -> Operand:
    x, weight = call.operand("input"), call.operand("weight")
    bias = [call.operand("bias")] if call.has("bias") else []
    if len(weight.shape) != 2:
        call.refuse(f"a weight of shape {list(weight.shape)}")
    if is_stored(weight) and all(is_stored(b) for b in bias):
        return call.one(Op.LINEAR, [x, weight, *bias], at.LinearAttributes())
    columns = call.inner(Op.TRANSPOSE, [weight], at.TransposeAttributes(permutation=(1, 0)), "weight_transpose")
    if not bias:
        return call.one(Op.MATMUL, [x, columns], at.MatmulAttributes())
    product = call.inner(Op.MATMUL, [x, columns], at.MatmulAttributes(), "matmul")
    return call.one(Op.ELEMENTWISE, [product, *bias], at.ElementwiseAttributes(kind=Ew.ADD))


def matmul(call: "Call") -> Operand:
    a, b = (call.operand(call.first(*keys)) for keys in (("self", "input"), ("other", "mat2", "vec", "tensor")))
    row, column = len(a.shape) == 1, len(b.shape) == 1
    if not row and not column:
        return product(call, a, b, call.types[0])
    if row:
        a = call.derived(a, "row", lambda t: t.unsqueeze(0)) if is_stored(a) else call.reshaped(a, _raised(a, 0), "row")
    if column:
        wide = _raised(b, 1)
        b = call.derived(b, "column", lambda t: t.unsqueeze(1)) if is_stored(b) else call.reshaped(b, wide, "column")
    return call.reshaped(product(call, a, b), call.types[0], "flat")


def _raised(x: Operand, axis: int) -> TensorType:
    shape = (1, *x.shape) if axis == 0 else (*x.shape, 1)
    batch = x.type.batch_axis
    return TensorType(shape=shape, batch_axis=None if batch is None else batch + (axis == 0))


def product(call: "Call", a: Operand, b: Operand, kind: TensorType | None = None) -> Operand:
    """Return a @ b: a linear layer where one side is a stored matrix. Without `kind` it is an intermediate."""

    def add(op: Op, operands: list[Operand], attributes: at.Attributes) -> Operand:
        return call.inner(op, operands, attributes, "product") if kind is None else call.one(op, operands, attributes)

    if is_stored(b) and len(b.shape) == 2 and not is_stored(a):
        return add(Op.LINEAR, [a, call.derived(b, "T", lambda t: t.transpose(0, 1))], at.LinearAttributes())
    if is_stored(a) and len(a.shape) == 2 and not is_stored(b):  # W x = (x^T W^T)^T
        rank = len(b.shape)
        swap = at.TransposeAttributes(permutation=(*range(rank - 2), rank - 1, rank - 2))
        columns = call.inner(Op.TRANSPOSE, [b], swap, "columns")
        rows = call.inner(Op.LINEAR, [columns, a], at.LinearAttributes(), "linear")
        return add(Op.TRANSPOSE, [rows], swap)
    return add(Op.MATMUL, [a, b], at.MatmulAttributes())


def addmm(call: "Call") -> Operand:
    bias, a, b = call.operand("self"), call.operand("mat1"), call.operand("mat2")
    alpha, beta = float(call.value("alpha", 1)), float(call.value("beta", 1))
    if is_stored(bias) and is_stored(b) and not is_stored(a) and bias.shape == (b.shape[-1],):
        weight = call.derived(b, "T", lambda t: t.transpose(0, 1) * alpha if alpha != 1 else t.transpose(0, 1))
        shift = bias if beta == 1 else call.derived(bias, "scaled", lambda t: t * beta)
        return call.one(Op.LINEAR, [a, weight, shift], at.LinearAttributes())
    made = scaled(call, product(call, a, b), alpha, "alpha")
    shifted = [made, scaled(call, bias, beta, "beta")]
    return call.one(Op.ELEMENTWISE, shifted, at.ElementwiseAttributes(kind=Ew.ADD))


def scaled(call: "Call", x: Operand, factor: float, name: str) -> Operand:
    if factor == 1:
        return x
    return call.elementwise(Ew.MUL, [x, call.number(f"{name}_value", factor)], name)


def bilinear(call: "Call") -> Operand:
    """x1 W x2 per output: one linear layer over x1, then a product with x2."""
    x, y, weight = (call.operand(k) for k in ("input1", "input2", "weight"))
    out, _, columns = weight.shape
    flat = call.derived(weight, "flat", lambda t: t.transpose(1, 2).reshape(-1, t.shape[1]))
    rows = call.inner(Op.LINEAR, [x, flat], at.LinearAttributes(), "linear")
    axis = rows.type.batch_axis
    grid = TensorType(shape=(*rows.shape[:-1], out, columns), batch_axis=axis)
    column = call.reshaped(y, TensorType(shape=(*y.shape, 1), batch_axis=y.type.batch_axis), "column")
    product_ = call.inner(Op.MATMUL, [call.reshaped(rows, grid, "grid"), column], at.MatmulAttributes(), "matmul")
    made = call.reshaped(product_, call.types[0], "sum")
    if not call.has("bias"):
        return made
    return call.one(Op.ELEMENTWISE, [made, call.operand("bias")], at.ElementwiseAttributes(kind=Ew.ADD))


# --- attention -------------------------------------------------------------------------------------------------------


def attention(call: "Call") -> Operand:
    """softmax(q k^T scale + mask) v, as the products it consists of."""
    query, key, value = (call.operand(k) for k in ("query", "key", "value"))
    if float(call.value("dropout_p", 0.0)):
        call.refuse("dropout that stays on in evaluation")
    call.seen("enable_gqa", "return_debug_mask", "compute_log_sumexp")
    out = call.types[0]
    share = query.shape[1] // key.shape[1] if len(query.shape) == 4 and len(key.shape) == 4 else 1
    if share > 1:  # several heads of the query share one of key and value: products with more rows, nothing is copied
        query = call.reshaped(query, _grouped(query.type, share), "query_groups")
        key, value = (call.reshaped(o, _grouped(o.type, 1), n) for o, n in ((key, "key_group"), (value, "value_group")))
    rank = len(key.shape)
    swap = at.TransposeAttributes(permutation=(*range(rank - 2), rank - 1, rank - 2))
    key_t = call.inner(Op.TRANSPOSE, [key], swap, "key_transpose")
    scores = call.inner(Op.MATMUL, [query, key_t], at.MatmulAttributes(), "query_key")
    scale = call.value("scale")
    scores = scaled(call, scores, float(scale) if scale is not None else query.shape[-1] ** -0.5, "scale")
    scores = _with_mask(call, scores, share)
    if call.value("is_causal", False):
        length, width = scores.shape[-2:]
        causal = call.constant("causal_mask", lambda: torch.full((length, width), float("-inf")).triu(1))
        scores = call.elementwise(Ew.ADD, [scores, causal], "causal")
    shares = call.inner(Op.SOFTMAX, [scores], at.SoftmaxAttributes(axis=len(scores.shape) - 1), "softmax")
    if share == 1:
        return call.one(Op.MATMUL, [shares, value], at.MatmulAttributes())
    made = call.inner(Op.MATMUL, [shares, value], at.MatmulAttributes(), "value")
    return call.reshaped(made, out, "heads")


def _grouped(kind: TensorType, share: int) -> TensorType:
    batch, heads, *rest = kind.shape
    axis = kind.batch_axis
    moved = axis if axis is None or axis < 2 else axis + 1
    return TensorType(shape=(batch, heads // share, share, *rest), batch_axis=moved)


def _with_mask(call: "Call", scores: Operand, share: int) -> Operand:
    key = next((k for k in ("attn_mask", "attn_bias") if call.has(k)), "")
    if not key:
        return scores
    mask = call.operand(key)
    if share > 1 and len(mask.shape) > 2:
        if len(mask.shape) != 4:
            call.refuse("a mask of three axes over grouped heads")
        wide = _grouped(mask.type, share if mask.shape[-3] > 1 else 1)
        mask = call.derived(mask, "groups", lambda t: t.reshape(wide.shape)) if is_stored(mask) else mask
        mask = call.reshaped(mask, wide, "mask_groups")
    if call.kind(key) is bool:  # a finite low: a row without any key must not make the whole layer NaN
        low = call.number("masked_score", torch.finfo(torch.float32).min)
        return call.elementwise(Ew.WHERE, [mask, scores, low], "mask")
    return call.elementwise(Ew.ADD, [scores, mask], "mask")


def attention_with_rest(call: "Call") -> list[Operand | None]:
    """Attention as a kernel with further results (log-sum-exp, random state), which nobody reads in evaluation."""
    call.seen("dropout_mask")
    value = call.node.meta["val"]
    return [attention(call), *[None] * (len(value) - 1)]


# --- norms -----------------------------------------------------------------------------------------------------------


def batch_norm(call: "Call") -> Operand:
    x = call.operand("input")
    channels = x.shape[1]
    if call.arguments.get("training"):
        call.refuse("statistics of the batch itself")
    call.seen("training")
    operands = [x]
    for key, default in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
        given = call.has(key)
        operands.append(call.operand(key) if given else call.constant(key, _filled(channels, default)))
    return call.one(Op.NORM, operands, at.NormAttributes(kind=NormKind.BATCH, epsilon=float(call.value("eps"))))


def _filled(size: int, value: float) -> Callable[[], torch.Tensor]:
    return lambda: torch.full((size,), value)


def norm(kind: NormKind) -> Handler:
    def handle(call: "Call") -> Operand:
        operands = [call.operand("input")]
        operands += [call.operand(k) for k in ("weight", "bias") if call.has(k)]
        shape = call.value("normalized_shape", [])
        epsilon = call.value("eps", None)
        groups = call.value("num_groups", call.value("group", 1))
        call.seen("N", "C", "HxW")
        attributes = at.NormAttributes(
            kind=kind,
            epsilon=float(epsilon) if epsilon is not None else torch.finfo(torch.float32).eps,
            axes=len(shape) or 1,
            groups=int(groups),
            has_scale=call.has("weight"),
            has_bias=call.has("bias"),
        )
        return call.one(Op.NORM, operands, attributes)

    return handle


def instance_norm(call: "Call") -> Operand:
    if not call.value("use_input_stats"):
        return batch_norm(call)
    call.seen("running_mean", "running_var")
    return norm(NormKind.INSTANCE)(call)  # type: ignore[no-any-return]


def with_rest(handler: Handler) -> Handler:
    """Return a handler for an operator whose further results (statistics, indices) only its gradient needs."""

    def handle(call: "Call") -> list[Operand | None]:
        return [handler(call), *[None] * (len(call.node.meta["val"]) - 1)]

    return handle
