"""How aten's movements of data become layers: shapes, cuts, joins, padding, resampling."""

from typing import TYPE_CHECKING

import torch

from picojoule.sim import attributes as at
from picojoule.sim.attributes import Op
from picojoule.sim.ir import Operand, TensorType
from picojoule.sim.numerics.aten_compute import Handler, is_stored
from picojoule.sim.numerics.torch_types import BatchError

if TYPE_CHECKING:
    from picojoule.sim.numerics.torch_calls import Call


def resized(kind: TensorType, sizes: dict[int, int]) -> TensorType:
    """Return a type with some axes of another size."""
    return TensorType(shape=tuple(sizes.get(i, s) for i, s in enumerate(kind.shape)), batch_axis=kind.batch_axis)


# --- joins and cuts --------------------------------------------------------------------------------------------------


def concat(call: "Call") -> Operand:
    given = [n for n in call.arguments["tensors"] if 0 not in n.meta["val"].shape]  # an empty tensor adds nothing
    call.seen("tensors")
    operands = [call.reader.operand(n) for n in given]
    axis = call.axis("dim", len(operands[0].shape))
    if len(operands) == 1:
        return operands[0]
    return call.one(Op.CONCAT, operands, at.ConcatAttributes(axis=axis))


def stack(call: "Call") -> Operand:
    operands = call.operands("tensors")
    axis = call.axis("dim", len(operands[0].shape) + 1)
    thin = resized(call.types[0], {axis: 1})
    raised = [
        call.derived(o, "unsqueeze", lambda t: t.unsqueeze(axis))
        if is_stored(o)
        else call.add(Op.RESHAPE, [o], at.ReshapeAttributes(), suffix=f"unsqueeze{i}", types=[thin])[0]
        for i, o in enumerate(operands)
    ]
    return call.one(Op.CONCAT, raised, at.ConcatAttributes(axis=axis))


def split(call: "Call") -> list[Operand]:
    x = call.operand("self")
    call.seen("split_size", "split_sizes", "chunks")
    axis = call.axis("dim", len(x.shape))
    if axis == x.type.batch_axis:
        raise BatchError("the batch is cut in pieces")
    sizes = tuple(t.shape[axis] for t in call.types)
    return list(call.add(Op.SPLIT, [x], at.SplitAttributes(axis=axis, sizes=sizes)))


def unbind(call: "Call") -> list[Operand]:
    x = call.operand("self")
    axis = call.axis("dim", len(x.shape))
    if axis == x.type.batch_axis:
        raise BatchError("the batch is cut in pieces")
    cut = at.SplitAttributes(axis=axis, sizes=(1,) * x.shape[axis])
    pieces = call.add(Op.SPLIT, [x], cut, suffix="split", types=[resized(x.type, {axis: 1})] * x.shape[axis])
    return [
        call.add(Op.RESHAPE, [p], at.ReshapeAttributes(), suffix=str(i), types=[call.types[i]])[0]
        for i, p in enumerate(pieces)
    ]


def cut(call: "Call", x: Operand, axis: int, start: int, stop: int, step: int = 1, suffix: str = "") -> Operand:
    """Return x[start:stop:step] along an axis, with bounds inside it; `suffix` marks an intermediate."""
    size = x.shape[axis]
    if (start, stop, step) == (0, size, 1):
        return x
    if axis == x.type.batch_axis and (start, step) != (0, 1):
        raise BatchError("a slice of the batch that leaves samples out")
    attributes = at.SliceAttributes(axes=(axis,), starts=(start,), stops=(stop,), steps=(step,))
    return call.inner(Op.SLICE, [x], attributes, suffix) if suffix else call.one(Op.SLICE, [x], attributes)


def slice_(call: "Call") -> Operand:
    x = call.operand("self")
    axis = call.axis("dim", len(x.shape))
    call.seen("start", "end")
    bounds = [call.arguments.get(k) for k in ("start", "end")]
    step = int(call.value("step", 1))
    start, stop, step = slice(call.value("start"), call.value("end"), step).indices(x.shape[axis])
    if axis == x.type.batch_axis and call.types[0].batch_axis != axis and bounds[0] not in (None, 0):
        raise BatchError("a slice of the batch that leaves samples out")
    return cut(call, x, axis, start, stop, step)


def select(call: "Call") -> Operand:
    x = call.operand("self")
    axis, index = call.axis("dim", len(x.shape)), int(call.value("index"))
    if axis == x.type.batch_axis and index != 0:
        raise BatchError(f"sample {index} of the batch is taken out")
    index %= x.shape[axis]
    piece = cut(call, x, axis, index, index + 1, suffix="slice")
    if axis == x.type.batch_axis and piece is x:  # one sample of the example: the first of any batch
        whole = at.SliceAttributes(axes=(axis,), starts=(0,), stops=(1,), steps=(1,))
        first = TensorType(shape=x.shape)
        piece = call.add(Op.SLICE, [x], whole, suffix="first", types=[first])[0]
    return call.reshaped(piece, call.types[0], "select") if piece.type != call.types[0] else piece


def narrow(call: "Call") -> Operand:
    x = call.operand("self")
    axis = call.axis("dim", len(x.shape))
    start, length = int(call.value("start")), int(call.value("length"))
    start = start % x.shape[axis] if start < 0 else start
    return cut(call, x, axis, start, start + length)


def slice_scatter(call: "Call") -> Operand:
    """Replace a slice: what lies before it, the new values, what lies after it."""
    x, source = call.operand("self"), call.operand("src")
    axis = call.axis("dim", len(x.shape))
    if call.name == "select_scatter":
        start = int(call.value("index")) % x.shape[axis]
        stop = start + 1
        source = call.reshaped(source, resized(call.types[0], {axis: 1}), "unsqueeze")
    else:
        bounds = slice(call.value("start"), call.value("end"), int(call.value("step", 1)))
        start, stop, step = bounds.indices(x.shape[axis])
        if step != 1:
            call.refuse("a stride between the replaced elements")
    if axis == x.type.batch_axis:
        raise BatchError("samples of the batch are replaced one by one")
    if (start, stop) == (0, x.shape[axis]):
        return source
    parts = [source]
    if start > 0:
        parts.insert(0, cut(call, x, axis, 0, start, suffix="before"))
    if stop < x.shape[axis]:
        parts.append(cut(call, x, axis, stop, x.shape[axis], suffix="after"))
    return call.one(Op.CONCAT, parts, at.ConcatAttributes(axis=axis))


# --- shapes ----------------------------------------------------------------------------------------------------------


def view(call: "Call") -> Operand:
    x = call.operand(call.first("self", "input"))
    call.seen("size", "shape", "sizes", "other", "dim", "dims", "start_dim", "end_dim")
    return x if call.types[0] == x.type else call.one(Op.RESHAPE, [x], at.ReshapeAttributes())


def permute(call: "Call") -> Operand:
    x = call.operand("self")
    rank = len(x.shape)
    if "dims" in call.arguments:
        order = [int(d) % rank for d in call.value("dims")]
    else:
        order = list(range(rank))
        keys = next((k for k in (("dim0", "dim1"), ("axis0", "axis1")) if k[0] in call.arguments), None)
        a, b = (call.axis(k, rank) for k in keys) if keys else (rank - 1, rank - 2)
        if rank:
            order[a], order[b] = order[b], order[a]
    return moved(call, x, order)


def moved(call: "Call", x: Operand, order: list[int], suffix: str = "") -> Operand:
    """Return x with its axes in another order; `suffix` marks an intermediate."""
    if order == list(range(len(x.shape))):
        return x
    attributes = at.TransposeAttributes(permutation=tuple(order))
    return call.inner(Op.TRANSPOSE, [x], attributes, suffix) if suffix else call.one(Op.TRANSPOSE, [x], attributes)


def move_axes(call: "Call") -> Operand:
    x = call.operand("self")
    rank = len(x.shape)
    source, target = (call.value(k) for k in ("source", "destination"))
    pairs = list(zip(*([v] if isinstance(v, int) else v for v in (source, target)), strict=True))
    places = {b % rank: a % rank for a, b in pairs}
    rest = iter(i for i in range(rank) if i not in places.values())
    return moved(call, x, [places[i] if i in places else next(rest) for i in range(rank)])


def expand(call: "Call") -> Operand:
    x = call.operand("self")
    call.seen("size", "other", "shape")
    return x if call.types[0] == x.type else call.one(Op.EXPAND, [x], at.ExpandAttributes())


def repeat(call: "Call") -> Operand:
    x = call.operand("self")
    counts = [int(c) for c in call.value("repeats" if "repeats" in call.arguments else "dims")]
    kind, axis = call.types[0], x.type.batch_axis
    lead = len(kind.shape) - len(x.shape)
    counts = [1] * (len(kind.shape) - len(counts)) + counts
    sizes = [1] * lead + list(x.shape)
    grows = None if axis is None else axis + lead
    if kind.batch_axis is not None and kind.batch_axis != grows:
        raise BatchError("values are repeated once per sample")
    if all(c == 1 for c in counts):
        return call.reshaped(x, kind, "repeat")
    repeated = [i for i, c in enumerate(counts) if c != 1]
    if not lead and len(repeated) == 1 and repeated[0] != grows:
        return call.one(Op.CONCAT, [x] * counts[repeated[0]], at.ConcatAttributes(axis=repeated[0]))
    pairs = list(zip(counts, sizes, strict=True))
    place = None if grows is None else 2 * grows + 1
    thin = TensorType(shape=tuple(v for _, s in pairs for v in (1, s)), batch_axis=place)
    wide = TensorType(shape=tuple(v for c, s in pairs for v in (c, s)), batch_axis=place)
    spread = call.reshaped(x, thin, "spread")
    copies = call.add(Op.EXPAND, [spread], at.ExpandAttributes(), suffix="copies", types=[wide])[0]
    return call.one(Op.RESHAPE, [copies], at.ReshapeAttributes())


def repeat_interleave(call: "Call") -> Operand:
    x, count = call.operand("self"), call.value("repeats")
    call.seen("output_size")
    if not isinstance(count, int) or call.value("dim") is None:
        call.refuse("another number of copies per element")
    axis = call.axis("dim", len(x.shape))
    grows = x.type.batch_axis
    place = None if grows is None else grows + (grows > axis)
    shape = x.shape
    thin = TensorType(shape=(*shape[: axis + 1], 1, *shape[axis + 1 :]), batch_axis=place)
    wide = resized(thin, {axis + 1: count})
    spread = call.reshaped(x, thin, "spread")
    copies = call.add(Op.EXPAND, [spread], at.ExpandAttributes(), suffix="copies", types=[wide])[0]
    return call.one(Op.RESHAPE, [copies], at.ReshapeAttributes())


def roll(call: "Call") -> Operand:
    x = call.operand("self")
    shifts, axes = ([v] if isinstance(v, int) else list(v) for v in (call.value("shifts"), call.value("dims", [])))
    if not axes:
        call.refuse("a shift over all elements")
    for i, (shift, given) in enumerate(zip(shifts, axes, strict=True)):
        axis = given % len(x.shape)
        if axis == x.type.batch_axis:
            raise BatchError("samples of the batch are shifted")
        size = x.shape[axis]
        place = size - shift % size
        if place == size:
            continue
        ends = [cut(call, x, axis, place, size, suffix=f"tail{i}"), cut(call, x, axis, 0, place, suffix=f"head{i}")]
        x = call.inner(Op.CONCAT, ends, at.ConcatAttributes(axis=axis), f"joined{i}")
    return x


def flip(call: "Call") -> Operand:
    x = call.operand("self")
    axes = tuple(a % len(x.shape) for a in call.value("dims"))
    if x.type.batch_axis in axes:
        raise BatchError("samples of the batch are put in reverse")
    if not axes:
        return x
    attributes = at.SliceAttributes(
        axes=axes, starts=tuple(x.shape[a] - 1 for a in axes), stops=(-1,) * len(axes), steps=(-1,) * len(axes)
    )
    return call.one(Op.SLICE, [x], attributes)


def unfold(call: "Call") -> Operand:
    """Sliding windows along one axis: their positions taken, the window last."""
    x = call.operand("self")
    axis, size, step = call.axis("dimension", len(x.shape)), int(call.value("size")), int(call.value("step"))
    count = (x.shape[axis] - size) // step + 1
    windows = call.constant("windows", lambda: torch.arange(count)[:, None] * step + torch.arange(size)[None, :])
    taken = call.inner(Op.EMBEDDING, [x, windows], at.EmbeddingAttributes(axis=axis), "windows")
    rank = len(taken.shape)
    return moved(call, taken, [i for i in range(rank) if i != axis + 1] + [axis + 1])


def diagonal(call: "Call") -> Operand:
    """Take the diagonal of two axes, which comes last."""
    x = call.operand("self")
    rank = len(x.shape)
    a, b = call.axis("dim1", rank), call.axis("dim2", rank)
    offset = int(call.value("offset", 0))
    if x.type.batch_axis in (a, b):
        raise BatchError("a diagonal over the batch")
    rows, columns = x.shape[a], x.shape[b]
    rest = [i for i in range(rank) if i not in (a, b)]
    last = moved(call, x, [*rest, a, b], "last")
    flat = TensorType(shape=(*last.shape[:-2], rows * columns), batch_axis=last.type.batch_axis)
    first = max(-offset, 0)
    count = min(rows - first, columns - max(offset, 0))
    places = call.constant("places", lambda: (torch.arange(count) + first) * (columns + 1) + offset)
    return call.one(Op.EMBEDDING, [call.reshaped(last, flat, "flat"), places], at.EmbeddingAttributes(axis=rank - 2))


# --- padding and resampling ------------------------------------------------------------------------------------------

_MODES = {"reflection_pad": "reflect", "replication_pad": "edge", "_pad_circu": "wrap", "constant_pad": "constant"}
_SPELLINGS = {"replicate": "edge", "circular": "wrap"}


def pad(call: "Call") -> Operand:
    x = call.operand("self")
    rank = len(x.shape)
    pairs = call.value(call.first("pad", "padding"))
    begin, end = [0] * rank, [0] * rank
    for i in range(len(pairs) // 2):
        begin[rank - 1 - i], end[rank - 1 - i] = int(pairs[2 * i]), int(pairs[2 * i + 1])
    named = next((m for k, m in _MODES.items() if call.name.startswith(k)), None)
    mode = named or call.value("mode", "constant")
    mode = _SPELLINGS.get(mode, mode)
    value = float(call.value("value", 0.0) or 0.0)
    if x.type.batch_axis is not None and (begin[x.type.batch_axis] or end[x.type.batch_axis]):
        raise BatchError("samples are added to the batch")
    if min(*begin, *end, 0) < 0:  # negative padding cuts
        if mode != "constant":
            call.refuse("negative padding that is not constant")
        for axis in range(rank):
            stop = x.shape[axis] + min(end[axis], 0)
            x = cut(call, x, axis, -min(begin[axis], 0), stop, suffix=f"cut{axis}")
        begin, end = [max(b, 0) for b in begin], [max(e, 0) for e in end]
    if not any((*begin, *end)):
        return x
    attributes = at.PadAttributes(begin=tuple(begin), end=tuple(end), mode=mode, value=value)
    return call.one(Op.PAD, [x], attributes)


def resize(mode: str, *, exact: bool = False) -> Handler:
    def handle(call: "Call") -> Operand:
        x = call.operand(call.first("self", "input"))
        call.seen("output_size")
        corners = mode != "nearest" and bool(call.value("align_corners", False))
        coordinates = "align_corners" if corners else "asymmetric" if mode == "nearest" and not exact else "half_pixel"
        rank = len(x.shape) - 2
        given = call.value("scale_factors")
        factors = given or [call.value(k) for k in ("scales_d", "scales_h", "scales_w", "scales") if call.has(k)]
        call.seen("scales_d", "scales_h", "scales_w", "scales", "scale_factors")
        scales = (1.0, 1.0, *(float(f) for f in factors)) if len(factors) == rank and not corners else ()
        attributes = at.ResizeAttributes(
            mode=mode,
            coordinates=coordinates,
            nearest_rounding="round_prefer_ceil" if exact else "floor",
            scales=scales,
        )
        return call.one(Op.RESIZE, [x], attributes)

    return handle


def grid_sample(call: "Call") -> Operand:
    mode = {0: "linear", 1: "nearest", 2: "cubic"}[int(call.value("interpolation_mode"))]
    padding = {0: "zeros", 1: "border", 2: "reflection"}[int(call.value("padding_mode"))]
    attributes = at.GridSampleAttributes(
        mode=mode, padding=padding, align_corners=bool(call.value("align_corners", False))
    )
    return call.one(Op.GRID_SAMPLE, [call.operand("input"), call.operand("grid")], attributes)


def pixel_shuffle(call: "Call") -> Operand:
    x, factor = call.operand("self"), int(call.value("upscale_factor"))
    batch, channels, height, width = x.shape
    wide = TensorType(shape=(batch, channels // factor**2, factor, factor, height, width), batch_axis=x.type.batch_axis)
    spread = call.reshaped(x, wide, "spread")
    return call.reshaped(moved(call, spread, [0, 1, 4, 2, 5, 3], "shuffle"), call.types[0], "joined")


def pixel_unshuffle(call: "Call") -> Operand:
    x, factor = call.operand("self"), int(call.value("downscale_factor"))
    batch, channels, height, width = x.shape
    shape = (batch, channels, height // factor, factor, width // factor, factor)
    spread = call.reshaped(x, TensorType(shape=shape, batch_axis=x.type.batch_axis), "spread")
    return call.reshaped(moved(call, spread, [0, 1, 3, 5, 2, 4], "shuffle"), call.types[0], "joined")


def channel_shuffle(call: "Call") -> Operand:
    x, groups = call.operand("self"), int(call.value("groups"))
    shape = (x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])
    spread = call.reshaped(x, TensorType(shape=shape, batch_axis=x.type.batch_axis), "spread")
    order = [0, 2, 1, *range(3, len(shape))]
    return call.reshaped(moved(call, spread, order, "shuffle"), call.types[0], "joined")
