"""How aten's pooling, reductions, statistics and sorting become layers."""

import math
from math import prod
from typing import TYPE_CHECKING

import torch

from picojoule.sim import attributes as at
from picojoule.sim.attributes import CumulativeKind, Op, PoolKind, ReduceKind
from picojoule.sim.attributes import ElementwiseKind as Ew
from picojoule.sim.ir import Operand, TensorType
from picojoule.sim.numerics.aten_compute import Handler
from picojoule.sim.numerics.aten_layout import cut
from picojoule.sim.numerics.torch_types import BatchError

if TYPE_CHECKING:
    from picojoule.sim.numerics.torch_calls import Call


# --- pooling ---------------------------------------------------------------------------------------------------------


def pool(kind: PoolKind, rank: int) -> Handler:
    def handle(call: "Call") -> Operand:
        kernel = call.ints("kernel_size", rank)
        padding = call.ints("padding", rank, 0)
        stride = call.value("stride", [])
        if call.value("divisor_override") is not None:
            call.refuse("a divisor of its own")
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


def adaptive_pool(kind: PoolKind) -> Handler:
    def handle(call: "Call") -> Operand:
        x = call.operand("self")
        given = call.value("output_size")
        count = 1 if isinstance(given, int) else len(given)
        count = int(call.name.rstrip("_")[-2]) if call.name.rstrip("_")[-1] == "d" else count
        size = call.types[0].shape[-count:]
        if all(s == 1 for s in size):
            axes = tuple(range(len(x.shape) - count, len(x.shape)))
            reduce = ReduceKind.MEAN if kind is PoolKind.AVERAGE else ReduceKind.MAX
            return call.one(Op.REDUCE, [x], at.ReduceAttributes(kind=reduce, axes=axes, keepdims=True))
        return call.one(Op.POOL, [x], at.PoolAttributes(kind=kind, output_size=size))

    return handle


# --- reductions ------------------------------------------------------------------------------------------------------


def _axes(call: "Call", rank: int) -> tuple[int, ...]:
    given = call.value("dim")
    listed = [given] if isinstance(given, int) else list(given or [])
    return tuple(sorted(a % max(rank, 1) for a in listed)) or tuple(range(rank))


def reduce(kind: ReduceKind) -> Handler:
    def handle(call: "Call") -> Operand:
        x = call.operand("self")
        if kind is ReduceKind.MEAN:
            x = call.as_float(x, "self")
        axes, keep = _axes(call, len(x.shape)), bool(call.value("keepdim", False))
        if not axes:
            return x
        return call.one(Op.REDUCE, [x], at.ReduceAttributes(kind=kind, axes=axes, keepdims=keep))

    return handle


def logical_reduce(kind: ReduceKind) -> Handler:
    """Any and all: the largest and the smallest of truths."""

    def handle(call: "Call") -> Operand:
        x = call.operand("self")
        if call.kind("self") is not bool:
            x = call.elementwise(Ew.NOT_EQUAL, [x, call.number("zero", 0)], "nonzero")
        axes, keep = _axes(call, len(x.shape)), bool(call.value("keepdim", False))
        return call.one(Op.REDUCE, [x], at.ReduceAttributes(kind=kind, axes=axes, keepdims=keep))

    return handle


def extreme(kind: ReduceKind, index: ReduceKind, pair: Ew) -> Handler:
    """Max and min: of all elements, along an axis with indices, or of two tensors."""

    def handle(call: "Call") -> Operand | list[Operand | None]:
        if "other" in call.arguments:
            operands = [call.operand("self"), call.operand("other")]
            return call.one(Op.ELEMENTWISE, operands, at.ElementwiseAttributes(kind=pair))
        if "dim" not in call.arguments:
            return reduce(kind)(call)  # type: ignore[no-any-return]
        x, (value_type, index_type) = call.operand("self"), call.types
        axes, keep = _axes(call, len(x.shape)), bool(call.value("keepdim", False))
        made: list[Operand | None] = [None, None]
        for i, (k, t) in enumerate(((kind, value_type), (index, index_type))):
            if i == 0 or call.used(1):
                attributes = at.ReduceAttributes(kind=k, axes=axes, keepdims=keep)
                made[i] = call.add(Op.REDUCE, [x], attributes, suffix="indices" if i else "", types=[t])[0]
        return made

    return handle


def arg_extreme(kind: ReduceKind) -> Handler:
    def handle(call: "Call") -> Operand:
        x, keep = call.operand("self"), bool(call.value("keepdim", False))
        if call.value("dim") is None:
            if x.type.batch_axis is not None:
                raise BatchError("one index over all samples of the batch")
            x, axis, keep = call.reshaped(x, TensorType(shape=(prod(x.shape),)), "flat"), 0, False
        else:
            axis = call.axis("dim", len(x.shape))
        return call.one(Op.REDUCE, [x], at.ReduceAttributes(kind=kind, axes=(axis,), keepdims=keep))

    return handle


def vector_norm(call: "Call") -> Operand:
    """(sum |x|^p)^(1/p), and its limits."""
    x = call.operand("self")
    given = call.value(call.first("ord", "p"), 2)
    order = float(given)
    axes, keep = _axes(call, len(x.shape)), bool(call.value("keepdim", False))

    def reduced(kind: ReduceKind, y: Operand, last: bool) -> Operand:
        attributes = at.ReduceAttributes(kind=kind, axes=axes, keepdims=keep)
        return call.one(Op.REDUCE, [y], attributes) if last else call.inner(Op.REDUCE, [y], attributes, "sum")

    if order == 2:
        total = reduced(ReduceKind.SUM, call.elementwise(Ew.MUL, [x, x], "square"), last=False)
        return call.one(Op.ELEMENTWISE, [total], at.ElementwiseAttributes(kind=Ew.SQRT))
    size = call.elementwise(Ew.ABS, [x], "abs")
    if math.isinf(order):
        return reduced(ReduceKind.MAX if order > 0 else ReduceKind.MIN, size, last=True)
    if order == 1:
        return reduced(ReduceKind.SUM, size, last=True)
    if order == 0:
        call.refuse("a count of non-zeros")
    raised = call.elementwise(Ew.POW, [size, call.number("order", order)], "power")
    total = reduced(ReduceKind.SUM, raised, last=False)
    root = [total, call.number("root_order", 1 / order)]
    return call.one(Op.ELEMENTWISE, root, at.ElementwiseAttributes(kind=Ew.POW))


def variance(*, root: bool, with_mean: bool) -> Handler:
    """Mean squared distance from the mean, n - correction in the denominator."""

    def handle(call: "Call") -> Operand | list[Operand]:
        x = call.operand("self")
        axes, keep = _axes(call, len(x.shape)), bool(call.value("keepdim", False))
        unbiased = call.value("unbiased", True) if "unbiased" in call.arguments else None
        correction = float(unbiased) if unbiased is not None else float(call.value("correction", 1))
        if correction and x.type.batch_axis in axes:
            raise BatchError("a variance over the batch")
        kept = at.ReduceAttributes(kind=ReduceKind.MEAN, axes=axes, keepdims=True)
        mean = call.inner(Op.REDUCE, [x], kept, "mean")
        distance = call.elementwise(Ew.SUB, [x, mean], "distance")
        made = call.elementwise(Ew.MUL, [distance, distance], "square")
        shares = at.ReduceAttributes(kind=ReduceKind.MEAN, axes=axes, keepdims=keep)
        made = call.inner(Op.REDUCE, [made], shares, "variance")
        count = prod(x.shape[a] for a in axes)
        if correction:
            factor = call.number("factor", count / (count - correction) if count > correction else math.nan)
            made = call.elementwise(Ew.MUL, [made, factor], "corrected")
        if root:
            made = call.elementwise(Ew.SQRT, [made], "root")
        return [made, call.reshaped(mean, call.types[1], "mean_flat")] if with_mean else made

    return handle


def cumulative(kind: CumulativeKind) -> Handler:
    def handle(call: "Call") -> Operand:
        x = call.operand("self")
        axis = call.axis("dim", len(x.shape))
        if axis == x.type.batch_axis:
            raise BatchError("a running total over the batch")
        if call.kind("self") is bool:
            cast = at.ElementwiseAttributes(kind=Ew.CAST, dtype="int64")
            x = call.inner(Op.ELEMENTWISE, [x], cast, "as_int")
        return call.one(Op.CUMULATIVE, [x], at.CumulativeAttributes(kind=kind, axis=axis))

    return handle


# --- sorting ---------------------------------------------------------------------------------------------------------


def sort(call: "Call") -> Operand | list[Operand]:
    """Sort, argsort and topk."""
    x = call.operand("self")
    axis = call.axis("dim", len(x.shape), -1)
    if axis == x.type.batch_axis:
        raise BatchError("samples of the batch are sorted")
    call.seen("sorted", "stable")
    count = int(call.value("k")) if "k" in call.arguments else x.shape[axis]
    largest = bool(call.value("largest", True)) if "k" in call.arguments else bool(call.value("descending", False))
    attributes = at.SortAttributes(axis=axis, count=count, largest=largest)
    if call.name.startswith("argsort"):
        kind = call.types[0]
        return call.add(Op.SORT, [x], attributes, types=[kind, kind])[1]
    return list(call.add(Op.SORT, [x], attributes))


def median(call: "Call") -> list[Operand]:
    """Take the lower of the two middle values along an axis, and its index."""
    x = call.operand("self")
    axis = call.axis("dim", len(x.shape))
    call.seen("keepdim")
    if axis == x.type.batch_axis:
        raise BatchError("a median over the batch")
    middle = (x.shape[axis] - 1) // 2
    attributes = at.SortAttributes(axis=axis, count=middle + 1, largest=False)
    shape = tuple(middle + 1 if i == axis else s for i, s in enumerate(x.shape))
    kind = TensorType(shape=shape, batch_axis=x.type.batch_axis)
    pair = call.add(Op.SORT, [x], attributes, suffix="sort", types=[kind, kind])
    names = ("values", "indices")
    taken = [cut(call, p, axis, middle, middle + 1, suffix=n) for p, n in zip(pair, names, strict=True)]
    return [call.reshaped(t, k, f"{n}_flat") for t, k, n in zip(taken, call.types, names, strict=True)]


def logsumexp(call: "Call") -> Operand:
    """Log sum exp(x - max) + max."""
    x = call.operand("self")
    axes, keep = _axes(call, len(x.shape)), bool(call.value("keepdim", False))
    top = call.inner(Op.REDUCE, [x], at.ReduceAttributes(kind=ReduceKind.MAX, axes=axes, keepdims=True), "max")
    shifted = call.elementwise(Ew.EXP, [call.elementwise(Ew.SUB, [x, top], "shift")], "exp")
    total = call.inner(Op.REDUCE, [shifted], at.ReduceAttributes(kind=ReduceKind.SUM, axes=axes, keepdims=True), "sum")
    made = call.elementwise(Ew.ADD, [call.elementwise(Ew.LOG, [total], "log"), top], "add")
    del keep
    return call.reshaped(made, call.types[0], "flat")


def embedding_bag(call: "Call") -> list[Operand | None]:
    """Bags of equal length: the rows of each, reduced."""
    table, indices = call.operand("weight"), call.operand("indices")
    offsets = call.arguments["offsets"]
    call.seen("offsets", "scale_grad_by_freq", "sparse", "include_last_offset")
    if call.has("per_sample_weights") or int(call.value("padding_idx", -1)) >= 0 or call.value("include_last_offset"):
        call.refuse("weights per sample, padding or a last offset")
    kind = {0: ReduceKind.SUM, 1: ReduceKind.MEAN, 2: ReduceKind.MAX}[int(call.value("mode", 0))]
    length = _bag_length(call, offsets, indices)
    bags = indices.shape[0] // length
    grid = TensorType(shape=(bags, length), batch_axis=indices.type.batch_axis)
    rows = call.inner(Op.EMBEDDING, [table, call.reshaped(indices, grid, "bags")], at.EmbeddingAttributes(), "rows")
    attributes = at.ReduceAttributes(kind=kind, axes=(1,), keepdims=False)
    made = call.add(Op.REDUCE, [rows], attributes, types=call.types[:1])[0]
    return [made, *[None] * (len(call.node.meta["val"]) - 1)]


def _bag_length(call: "Call", offsets: torch.fx.Node, indices: Operand) -> int:
    reader = call.reader
    if offsets not in reader.fixed:
        call.refuse("bags whose length depends on the data")
    values = [reader.evaluate(offsets, batch) for batch in (1, 3)]
    length = indices.shape[0] // values[0].numel()
    times = 3 if indices.type.batch_axis is not None else 1
    counts = [indices.shape[0] // length * t for t in (1, times)]
    if not all(v.equal(torch.arange(c) * length) for v, c in zip(values, counts, strict=True)):
        call.refuse("bags of different lengths")
    return length
