"""How each aten operator becomes layers of the workload. One small function per family; `HANDLERS` names them all."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from picojoule.sim import attributes as at
from picojoule.sim.attributes import ActivationKind, NormKind, Op, PoolKind, ReduceKind
from picojoule.sim.attributes import ElementwiseKind as Ew
from picojoule.sim.ir import Operand

if TYPE_CHECKING:
    from picojoule.sim.numerics.torch_importer import Call

Handler = Callable[["Call"], Any]

IGNORED = frozenset(
    {"contiguous", "clone", "detach", "detach_", "alias", "lift_fresh", "lift_fresh_copy", "positive"}
    | {"dropout", "dropout_", "feature_dropout", "alpha_dropout", "resolve_conj", "resolve_neg"}
)
"""Operators that hand their first argument on (in evaluation)."""


def _conv(call: "Call", rank: int) -> Operand:
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


def _conv_transpose(call: "Call", rank: int) -> Operand:
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


def _convolution(call: "Call") -> Operand:
    rank = len(call.operand("weight").shape) - 2
    return _conv_transpose(call, rank) if call.value("transposed") else _conv(call, rank)


def _linear(call: "Call") -> Operand:
    operands = [call.operand("input"), call.operand("weight")]
    if call.has("bias"):
        operands.append(call.operand("bias"))
    return call.one(Op.LINEAR, operands, at.LinearAttributes())


def _matmul(call: "Call") -> Operand:
    first, second = (call.operand(k) for k in (("self", "other") if "other" in call.arguments else ("self", "mat2")))
    return call.one(Op.MATMUL, [first, second], at.MatmulAttributes())


def _addmm(call: "Call") -> Operand:
    product = call.inner(Op.MATMUL, [call.operand("mat1"), call.operand("mat2")], at.MatmulAttributes(), "matmul")
    product = _scaled(call, product, call.value("alpha", 1), "alpha")
    bias = _scaled(call, call.operand("self"), call.value("beta", 1), "beta")
    return call.one(Op.ELEMENTWISE, [bias, product], at.ElementwiseAttributes(kind=Ew.ADD))


def _scaled(call: "Call", x: Operand, factor: float, name: str) -> Operand:
    if factor == 1:
        return x
    scale = call.constant(name, lambda: torch.tensor(float(factor)))
    return call.inner(Op.ELEMENTWISE, [x, scale], at.ElementwiseAttributes(kind=Ew.MUL), name)


def _attention(call: "Call") -> Operand:
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


def _batch_norm(call: "Call") -> Operand:
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


def _norm(call: "Call", kind: NormKind) -> Operand:
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


def _activation(kind: ActivationKind, **fixed: float) -> Handler:
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


def _clip(call: "Call") -> Operand:
    low = call.value("min_val", call.value("min"))
    high = call.value("max_val", call.value("max"))
    attributes = at.ActivationAttributes(
        kind=ActivationKind.CLIP,
        alpha=None if low is None else float(low),
        beta=None if high is None else float(high),
    )
    return call.one(Op.ACTIVATION, [call.operand("self")], attributes)


def _gelu(call: "Call") -> Operand:
    kind = ActivationKind.GELU_TANH if call.value("approximate", "none") == "tanh" else ActivationKind.GELU
    return call.one(Op.ACTIVATION, [call.operand("self")], at.ActivationAttributes(kind=kind))


def _prelu(call: "Call") -> Operand:
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


def _softmax(log: bool) -> Handler:
    def handle(call: "Call") -> Operand:
        x = call.operand("self")
        axis = int(call.value("dim")) % len(x.shape)
        return call.one(Op.SOFTMAX, [x], at.SoftmaxAttributes(axis=axis, log=log))

    return handle


def _elementwise(kind: Ew) -> Handler:
    def handle(call: "Call") -> Operand:
        operands = [call.operand("self")]
        if "other" in call.arguments:
            other = call.operand("other")
            alpha = call.value("alpha", 1)
            operands.append(_scaled(call, other, alpha, "alpha") if alpha is not None else other)
        return call.one(Op.ELEMENTWISE, operands, at.ElementwiseAttributes(kind=kind))

    return handle


def _power(call: "Call") -> Operand:
    operands = [call.operand("self"), call.operand("exponent")]
    return call.one(Op.ELEMENTWISE, operands, at.ElementwiseAttributes(kind=Ew.POW))


def _where(call: "Call") -> Operand:
    operands = [call.operand(k) for k in ("condition", "self", "other")]
    return call.one(Op.ELEMENTWISE, operands, at.ElementwiseAttributes(kind=Ew.WHERE))


def _masked_fill(call: "Call") -> Operand:
    operands = [call.operand(k) for k in ("mask", "value", "self")]
    return call.one(Op.ELEMENTWISE, operands, at.ElementwiseAttributes(kind=Ew.WHERE))


def _cast(call: "Call") -> Operand:
    x = call.operand("self")
    before, after = call.arguments["self"].meta["val"].dtype, call.node.meta["val"].dtype
    if before == after:
        return x
    dtype = str(after).removeprefix("torch.")
    return call.one(Op.ELEMENTWISE, [x], at.ElementwiseAttributes(kind=Ew.CAST, dtype=dtype))


def _pool(kind: PoolKind, rank: int) -> Handler:
    def handle(call: "Call") -> Operand:
        kernel = call.ints("kernel_size", rank)
        padding = call.ints("padding", rank, 0)
        stride = call.value("stride", [])
        divisor = call.value("divisor_override")
        if divisor is not None:
            return _opaque(call)
        attributes = at.PoolAttributes(
            kind=kind,
            kernel=kernel,
            stride=call.ints("stride", rank) if stride else kernel,
            padding_begin=padding,
            padding_end=padding,
            dilation=call.ints("dilation", rank, 1),
            ceil_mode=bool(call.value("ceil_mode", False)),
            count_include_pad=bool(call.value("count_include_pad", True)),
        )
        return call.one(Op.POOL, [call.operand("self")], attributes)

    return handle


def _opaque(call: "Call") -> Operand:
    made = call.reader._opaque(call, call.node.meta["val"])
    assert isinstance(made, Operand)
    return made


def _adaptive_pool(kind: PoolKind) -> Handler:
    def handle(call: "Call") -> Operand:
        x = call.operand("self")
        size = tuple(call.types[0].shape[-len(call.value("output_size")) :])
        if all(s == 1 for s in size):
            axes = tuple(range(len(x.shape) - len(size), len(x.shape)))
            reduce = ReduceKind.MEAN if kind is PoolKind.AVERAGE else ReduceKind.MAX
            return call.one(Op.REDUCE, [x], at.ReduceAttributes(kind=reduce, axes=axes, keepdims=True))
        return call.one(Op.POOL, [x], at.PoolAttributes(kind=kind, output_size=size))

    return handle


def _reduce(kind: ReduceKind) -> Handler:
    def handle(call: "Call") -> Operand:
        x = call.operand("self")
        axes = call.value("dim")
        listed = [axes] if isinstance(axes, int) else list(axes or [])
        rank = len(x.shape)
        axes_used = tuple(sorted(a % rank for a in listed)) or tuple(range(rank))
        keep = bool(call.value("keepdim", False))
        return call.one(Op.REDUCE, [x], at.ReduceAttributes(kind=kind, axes=axes_used, keepdims=keep))

    return handle


def _concat(call: "Call") -> Operand:
    operands = call.operands("tensors")
    axis = int(call.value("dim", 0)) % len(operands[0].shape)
    return call.one(Op.CONCAT, operands, at.ConcatAttributes(axis=axis))


def _stack(call: "Call") -> Operand:
    operands = call.operands("tensors")
    rank = len(operands[0].shape)
    axis = int(call.value("dim", 0)) % (rank + 1)
    kind = call.types[0]
    thin = type(kind)(shape=tuple(1 if i == axis else s for i, s in enumerate(kind.shape)), batch_axis=kind.batch_axis)
    raised = [
        call.add(Op.RESHAPE, [o], at.ReshapeAttributes(), suffix=f"unsqueeze{i}", types=[thin])[0]
        for i, o in enumerate(operands)
    ]
    return call.one(Op.CONCAT, raised, at.ConcatAttributes(axis=axis))


def _split(call: "Call") -> list[Operand]:
    x = call.operand("self")
    axis = int(call.value("dim", 0)) % len(x.shape)
    sizes = tuple(t.shape[axis] for t in call.types)
    return list(call.add(Op.SPLIT, [x], at.SplitAttributes(axis=axis, sizes=sizes)))


def _unbind(call: "Call") -> list[Operand]:
    x = call.operand("self")
    axis = int(call.value("dim", 0)) % len(x.shape)
    sizes = (1,) * x.shape[axis]
    pieces = call.reader.builder.add(
        Op.SPLIT, [x], at.SplitAttributes(axis=axis, sizes=sizes), name=f"{call.layer_name}.split", source=call.source
    )
    return [
        call.add(Op.RESHAPE, [p], at.ReshapeAttributes(), suffix=str(i), types=[call.types[i]])[0]
        for i, p in enumerate(pieces)
    ]


def _slice(call: "Call") -> Operand:
    x = call.operand("self")
    axis = int(call.value("dim", 0)) % len(x.shape)
    size = x.shape[axis]
    step = int(call.value("step", 1))
    start, stop, step = slice(call.value("start"), call.value("end"), step).indices(size)
    if (start, stop, step) == (0, size, 1):
        return x
    attributes = at.SliceAttributes(axes=(axis,), starts=(start,), stops=(stop,), steps=(step,))
    return call.one(Op.SLICE, [x], attributes)


def _select(call: "Call") -> Operand:
    x = call.operand("self")
    axis = int(call.value("dim")) % len(x.shape)
    index = int(call.value("index")) % x.shape[axis]
    attributes = at.SliceAttributes(axes=(axis,), starts=(index,), stops=(index + 1,), steps=(1,))
    return _view(call, call.inner(Op.SLICE, [x], attributes, "slice"))


def _narrow(call: "Call") -> Operand:
    x = call.operand("self")
    axis = int(call.value("dim")) % len(x.shape)
    start = int(call.value("start"))
    attributes = at.SliceAttributes(
        axes=(axis,), starts=(start,), stops=(start + int(call.value("length")),), steps=(1,)
    )
    return call.one(Op.SLICE, [x], attributes)


def _view(call: "Call", x: Operand | None = None) -> Operand:
    x = x or call.operand("self")
    return x if call.types[0] == x.type else call.one(Op.RESHAPE, [x], at.ReshapeAttributes())


def _permute(call: "Call") -> Operand:
    x = call.operand("self")
    rank = len(x.shape)
    if "dims" in call.arguments:
        order = tuple(int(d) % rank for d in call.value("dims"))
    else:
        swap = list(range(rank))
        a, b = (
            (int(call.value(k)) % rank for k in ("dim0", "dim1")) if "dim0" in call.arguments else (rank - 1, rank - 2)
        )
        swap[a], swap[b] = swap[b], swap[a]
        order = tuple(swap)
    return call.one(Op.TRANSPOSE, [x], at.TransposeAttributes(permutation=order))


def _expand(call: "Call") -> Operand:
    x = call.operand("self")
    return x if call.types[0] == x.type else call.one(Op.EXPAND, [x], at.ExpandAttributes())


def _repeat(call: "Call") -> Operand:
    x = call.operand("self")
    counts = call.value("repeats")
    if all(c == 1 for c in counts):
        return x
    kind = call.types[0]
    axes = [i for i, c in enumerate(counts) if c != 1]
    if len(counts) != len(x.shape) or len(axes) != 1 or kind.batch_axis == axes[0]:
        return _opaque(call)
    return call.one(Op.CONCAT, [x] * counts[axes[0]], at.ConcatAttributes(axis=axes[0]))


def _pad(call: "Call") -> Operand:
    x = call.operand("self")
    rank = len(x.shape)
    pairs = call.value("pad") if "pad" in call.arguments else call.value("padding")
    begin, end = [0] * rank, [0] * rank
    for i in range(len(pairs) // 2):
        begin[rank - 1 - i], end[rank - 1 - i] = int(pairs[2 * i]), int(pairs[2 * i + 1])
    mode = {"reflection_pad": "reflect", "replication_pad": "edge"}.get(call.name[:-2], call.value("mode", "constant"))
    mode = {"replicate": "edge"}.get(mode, mode)
    value = call.value("value", 0.0)
    if mode not in ("constant", "reflect", "edge") or min(*begin, *end) < 0:
        return _opaque(call)
    attributes = at.PadAttributes(begin=tuple(begin), end=tuple(end), mode=mode, value=float(value or 0.0))
    return call.one(Op.PAD, [x], attributes)


def _resize(mode: str) -> Handler:
    def handle(call: "Call") -> Operand:
        if mode == "nearest":
            coordinates = "asymmetric"
        else:
            coordinates = "align_corners" if call.value("align_corners", False) else "half_pixel"
        x = call.operand("input" if "input" in call.arguments else "self")
        return call.one(Op.RESIZE, [x], at.ResizeAttributes(mode=mode, coordinates=coordinates))

    return handle


def _pixel_shuffle(call: "Call") -> Operand:
    x = call.operand("self")
    factor = int(call.value("upscale_factor"))
    batch, channels, height, width = x.shape
    kind = type(x.type)
    axis = x.type.batch_axis
    wide = kind(shape=(batch, channels // factor**2, factor, factor, height, width), batch_axis=axis)
    spread = call.add(Op.RESHAPE, [x], at.ReshapeAttributes(), suffix="spread", types=[wide])[0]
    moved = call.inner(Op.TRANSPOSE, [spread], at.TransposeAttributes(permutation=(0, 1, 4, 2, 5, 3)), "shuffle")
    return call.one(Op.RESHAPE, [moved], at.ReshapeAttributes())


def _channel_shuffle(call: "Call") -> Operand:
    x = call.operand("self")
    groups = int(call.value("groups"))
    kind = type(x.type)
    wide = kind(shape=(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:]), batch_axis=x.type.batch_axis)
    spread = call.add(Op.RESHAPE, [x], at.ReshapeAttributes(), suffix="spread", types=[wide])[0]
    order = (0, 2, 1, *range(3, len(wide.shape)))
    moved = call.inner(Op.TRANSPOSE, [spread], at.TransposeAttributes(permutation=order), "shuffle")
    return call.one(Op.RESHAPE, [moved], at.ReshapeAttributes())


def _embedding(call: "Call") -> Operand:
    return call.one(Op.EMBEDDING, [call.operand("weight"), call.operand("indices")], at.EmbeddingAttributes())


def _index_select(call: "Call") -> Operand:
    x = call.operand("self")
    axis = int(call.value("dim")) % len(x.shape)
    return call.one(Op.EMBEDDING, [x, call.operand("index")], at.EmbeddingAttributes(axis=axis))


HANDLERS: dict[str, Handler] = {
    "conv1d": lambda c: _conv(c, 1),
    "conv2d": lambda c: _conv(c, 2),
    "conv3d": lambda c: _conv(c, 3),
    "conv_transpose1d": lambda c: _conv_transpose(c, 1),
    "conv_transpose2d": lambda c: _conv_transpose(c, 2),
    "conv_transpose3d": lambda c: _conv_transpose(c, 3),
    "convolution": _convolution,
    "linear": _linear,
    "matmul": _matmul,
    "mm": _matmul,
    "bmm": _matmul,
    "addmm": _addmm,
    "scaled_dot_product_attention": _attention,
    "batch_norm": _batch_norm,
    "layer_norm": lambda c: _norm(c, NormKind.LAYER),
    "group_norm": lambda c: _norm(c, NormKind.GROUP),
    "rms_norm": lambda c: _norm(c, NormKind.RMS),
    "relu": _activation(ActivationKind.RELU),
    "relu6": _activation(ActivationKind.CLIP, alpha=0.0, beta=6.0),
    "hardtanh": _clip,
    "clamp": _clip,
    "clamp_min": _clip,
    "clamp_max": _clip,
    "sigmoid": _activation(ActivationKind.SIGMOID),
    "tanh": _activation(ActivationKind.TANH),
    "hardsigmoid": _activation(ActivationKind.HARD_SIGMOID, alpha=1 / 6, beta=0.5),
    "hardswish": _activation(ActivationKind.HARD_SWISH),
    "silu": _activation(ActivationKind.SILU),
    "gelu": _gelu,
    "leaky_relu": _activation(ActivationKind.LEAKY_RELU),
    "elu": _activation(ActivationKind.ELU),
    "selu": _activation(ActivationKind.SELU),
    "softplus": _activation(ActivationKind.SOFTPLUS),
    "mish": _activation(ActivationKind.MISH),
    "erf": _activation(ActivationKind.ERF),
    "prelu": _prelu,
    "softmax": _softmax(log=False),
    "log_softmax": _softmax(log=True),
    "add": _elementwise(Ew.ADD),
    "sub": _elementwise(Ew.SUB),
    "mul": _elementwise(Ew.MUL),
    "div": _elementwise(Ew.DIV),
    "true_divide": _elementwise(Ew.DIV),
    "maximum": _elementwise(Ew.MAXIMUM),
    "minimum": _elementwise(Ew.MINIMUM),
    "pow": _power,
    "neg": _elementwise(Ew.NEG),
    "abs": _elementwise(Ew.ABS),
    "sqrt": _elementwise(Ew.SQRT),
    "rsqrt": _elementwise(Ew.RSQRT),
    "exp": _elementwise(Ew.EXP),
    "log": _elementwise(Ew.LOG),
    "reciprocal": _elementwise(Ew.RECIPROCAL),
    "sign": _elementwise(Ew.SIGN),
    "round": _elementwise(Ew.ROUND),
    "floor": _elementwise(Ew.FLOOR),
    "ceil": _elementwise(Ew.CEIL),
    "sin": _elementwise(Ew.SIN),
    "cos": _elementwise(Ew.COS),
    "logical_not": _elementwise(Ew.NOT),
    "logical_and": _elementwise(Ew.AND),
    "logical_or": _elementwise(Ew.OR),
    "eq": _elementwise(Ew.EQUAL),
    "lt": _elementwise(Ew.LESS),
    "gt": _elementwise(Ew.GREATER),
    "le": _elementwise(Ew.LESS_EQUAL),
    "ge": _elementwise(Ew.GREATER_EQUAL),
    "where": _where,
    "masked_fill": _masked_fill,
    "to": _cast,
    "_to_copy": _cast,
    "type_as": _cast,
    "max_pool1d": _pool(PoolKind.MAX, 1),
    "max_pool2d": _pool(PoolKind.MAX, 2),
    "max_pool3d": _pool(PoolKind.MAX, 3),
    "avg_pool1d": _pool(PoolKind.AVERAGE, 1),
    "avg_pool2d": _pool(PoolKind.AVERAGE, 2),
    "avg_pool3d": _pool(PoolKind.AVERAGE, 3),
    "adaptive_avg_pool1d": _adaptive_pool(PoolKind.AVERAGE),
    "adaptive_avg_pool2d": _adaptive_pool(PoolKind.AVERAGE),
    "adaptive_avg_pool3d": _adaptive_pool(PoolKind.AVERAGE),
    "mean": _reduce(ReduceKind.MEAN),
    "sum": _reduce(ReduceKind.SUM),
    "amax": _reduce(ReduceKind.MAX),
    "amin": _reduce(ReduceKind.MIN),
    "cat": _concat,
    "concat": _concat,
    "stack": _stack,
    "chunk": _split,
    "split": _split,
    "split_with_sizes": _split,
    "unbind": _unbind,
    "slice": _slice,
    "select": _select,
    "narrow": _narrow,
    "view": _view,
    "reshape": _view,
    "_unsafe_view": _view,
    "flatten": _view,
    "unflatten": _view,
    "squeeze": _view,
    "unsqueeze": _view,
    "permute": _permute,
    "transpose": _permute,
    "t": _permute,
    "expand": _expand,
    "expand_as": _expand,
    "repeat": _repeat,
    "pad": _pad,
    "constant_pad_nd": _pad,
    "reflection_pad1d": _pad,
    "reflection_pad2d": _pad,
    "replication_pad1d": _pad,
    "replication_pad2d": _pad,
    "upsample_nearest2d": _resize("nearest"),
    "upsample_bilinear2d": _resize("linear"),
    "pixel_shuffle": _pixel_shuffle,
    "channel_shuffle": _channel_shuffle,
    "embedding": _embedding,
    "index_select": _index_select,
}
HANDLERS |= {f"{name}_": HANDLERS[name] for name in tuple(HANDLERS) if not name.endswith("_")}
