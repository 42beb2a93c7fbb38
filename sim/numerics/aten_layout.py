"""How aten's pooling, reductions and movements of data become layers."""

from typing import TYPE_CHECKING

from picojoule.sim import attributes as at
from picojoule.sim.attributes import Op, PoolKind, ReduceKind
from picojoule.sim.ir import Operand
from picojoule.sim.numerics.aten_compute import Handler

if TYPE_CHECKING:
    from picojoule.sim.numerics.torch_calls import Call


def pool(kind: PoolKind, rank: int) -> Handler:
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


def _opaque(call: "Call", reason: str = "an unusual argument") -> Operand:
    made = call.reader._opaque(call, call.node.meta["val"], reason)
    assert isinstance(made, Operand)
    return made


def adaptive_pool(kind: PoolKind) -> Handler:
    def handle(call: "Call") -> Operand:
        x = call.operand("self")
        size = tuple(call.types[0].shape[-len(call.value("output_size")) :])
        if all(s == 1 for s in size):
            axes = tuple(range(len(x.shape) - len(size), len(x.shape)))
            reduce = ReduceKind.MEAN if kind is PoolKind.AVERAGE else ReduceKind.MAX
            return call.one(Op.REDUCE, [x], at.ReduceAttributes(kind=reduce, axes=axes, keepdims=True))
        return call.one(Op.POOL, [x], at.PoolAttributes(kind=kind, output_size=size))

    return handle


def reduce(kind: ReduceKind) -> Handler:
    def handle(call: "Call") -> Operand:
        x = call.operand("self")
        axes = call.value("dim")
        listed = [axes] if isinstance(axes, int) else list(axes or [])
        rank = len(x.shape)
        axes_used = tuple(sorted(a % rank for a in listed)) or tuple(range(rank))
        keep = bool(call.value("keepdim", False))
        return call.one(Op.REDUCE, [x], at.ReduceAttributes(kind=kind, axes=axes_used, keepdims=keep))

    return handle


def concat(call: "Call") -> Operand:
    operands = call.operands("tensors")
    axis = int(call.value("dim", 0)) % len(operands[0].shape)
    return call.one(Op.CONCAT, operands, at.ConcatAttributes(axis=axis))


def stack(call: "Call") -> Operand:
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


def split(call: "Call") -> list[Operand]:
    x = call.operand("self")
    axis = int(call.value("dim", 0)) % len(x.shape)
    sizes = tuple(t.shape[axis] for t in call.types)
    return list(call.add(Op.SPLIT, [x], at.SplitAttributes(axis=axis, sizes=sizes)))


def unbind(call: "Call") -> list[Operand]:
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


def slice_(call: "Call") -> Operand:
    x = call.operand("self")
    axis = int(call.value("dim", 0)) % len(x.shape)
    size = x.shape[axis]
    step = int(call.value("step", 1))
    start, stop, step = slice(call.value("start"), call.value("end"), step).indices(size)
    if (start, stop, step) == (0, size, 1):
        return x
    attributes = at.SliceAttributes(axes=(axis,), starts=(start,), stops=(stop,), steps=(step,))
    return call.one(Op.SLICE, [x], attributes)


def select(call: "Call") -> Operand:
    x = call.operand("self")
    axis = int(call.value("dim")) % len(x.shape)
    index = int(call.value("index")) % x.shape[axis]
    attributes = at.SliceAttributes(axes=(axis,), starts=(index,), stops=(index + 1,), steps=(1,))
    return view(call, call.inner(Op.SLICE, [x], attributes, "slice"))


def narrow(call: "Call") -> Operand:
    x = call.operand("self")
    axis = int(call.value("dim")) % len(x.shape)
    start = int(call.value("start"))
    attributes = at.SliceAttributes(
        axes=(axis,), starts=(start,), stops=(start + int(call.value("length")),), steps=(1,)
    )
    return call.one(Op.SLICE, [x], attributes)


def view(call: "Call", x: Operand | None = None) -> Operand:
    x = x or call.operand("self")
    return x if call.types[0] == x.type else call.one(Op.RESHAPE, [x], at.ReshapeAttributes())


def permute(call: "Call") -> Operand:
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


def expand(call: "Call") -> Operand:
    x = call.operand("self")
    return x if call.types[0] == x.type else call.one(Op.EXPAND, [x], at.ExpandAttributes())


def repeat(call: "Call") -> Operand:
    x = call.operand("self")
    counts = call.value("repeats")
    if all(c == 1 for c in counts):
        return x
    kind = call.types[0]
    axes = [i for i, c in enumerate(counts) if c != 1]
    if len(counts) != len(x.shape) or len(axes) != 1 or kind.batch_axis == axes[0]:
        return _opaque(call)
    return call.one(Op.CONCAT, [x] * counts[axes[0]], at.ConcatAttributes(axis=axes[0]))


def pad(call: "Call") -> Operand:
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


def resize(mode: str) -> Handler:
    def handle(call: "Call") -> Operand:
        if mode == "nearest":
            coordinates = "asymmetric"
        else:
            coordinates = "align_corners" if call.value("align_corners", False) else "half_pixel"
        x = call.operand("input" if "input" in call.arguments else "self")
        factors = call.value("scale_factors") or [call.value(k) for k in ("scales_h", "scales_w") if call.has(k)]
        sizes = zip(x.shape[-len(factors) :], call.types[0].shape[-len(factors) :], strict=True) if factors else ()
        if any(abs(old * f - new) > 1e-9 for (old, new), f in zip(sizes, factors, strict=True)):
            return _opaque(call, "a scale that does not divide the size")
        return call.one(Op.RESIZE, [x], at.ResizeAttributes(mode=mode, coordinates=coordinates))

    return handle


def pixel_shuffle(call: "Call") -> Operand:
    x = call.operand("self")
    factor = int(call.value("upscale_factor"))
    batch, channels, height, width = x.shape
    kind = type(x.type)
    axis = x.type.batch_axis
    wide = kind(shape=(batch, channels // factor**2, factor, factor, height, width), batch_axis=axis)
    spread = call.add(Op.RESHAPE, [x], at.ReshapeAttributes(), suffix="spread", types=[wide])[0]
    moved = call.inner(Op.TRANSPOSE, [spread], at.TransposeAttributes(permutation=(0, 1, 4, 2, 5, 3)), "shuffle")
    return call.one(Op.RESHAPE, [moved], at.ReshapeAttributes())


def channel_shuffle(call: "Call") -> Operand:
    x = call.operand("self")
    groups = int(call.value("groups"))
    kind = type(x.type)
    wide = kind(shape=(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:]), batch_axis=x.type.batch_axis)
    spread = call.add(Op.RESHAPE, [x], at.ReshapeAttributes(), suffix="spread", types=[wide])[0]
    order = (0, 2, 1, *range(3, len(wide.shape)))
    moved = call.inner(Op.TRANSPOSE, [spread], at.TransposeAttributes(permutation=order), "shuffle")
    return call.one(Op.RESHAPE, [moved], at.ReshapeAttributes())


def embedding(call: "Call") -> Operand:
    return call.one(Op.EMBEDDING, [call.operand("weight"), call.operand("indices")], at.EmbeddingAttributes())


def index_select(call: "Call") -> Operand:
    x = call.operand("self")
    axis = int(call.value("dim")) % len(x.shape)
    return call.one(Op.EMBEDDING, [x, call.operand("index")], at.EmbeddingAttributes(axis=axis))
