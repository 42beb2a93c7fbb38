"""How aten's indexing becomes layers: gather, scatter, advanced indices."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from picojoule.sim import attributes as at
from picojoule.sim.attributes import ElementwiseKind as Ew
from picojoule.sim.attributes import GatherKind, Op
from picojoule.sim.ir import Operand, TensorType
from picojoule.sim.numerics.aten_compute import Handler, is_stored
from picojoule.sim.numerics.aten_layout import moved
from picojoule.sim.numerics.torch_types import BatchError
from picojoule.sim.shapes import broadcast

if TYPE_CHECKING:
    from picojoule.sim.numerics.torch_calls import Call


def embedding(call: "Call") -> Operand:
    return call.one(Op.EMBEDDING, [call.operand("weight"), call.operand("indices")], at.EmbeddingAttributes())


def index_select(call: "Call") -> Operand:
    x = call.operand("self")
    axis = call.axis("dim", len(x.shape))
    if axis == x.type.batch_axis:
        raise BatchError("samples of the batch are picked")
    return call.one(Op.EMBEDDING, [x, call.operand("index")], at.EmbeddingAttributes(axis=axis))


def gather(call: "Call") -> Operand:
    x, index = call.operand("self"), call.operand("index")
    axis = call.axis("dim", len(x.shape))
    if axis == x.type.batch_axis:
        raise BatchError("samples of the batch are picked")
    call.seen("sparse_grad")
    return call.one(Op.GATHER, [x, index], at.GatherAttributes(kind=GatherKind.ELEMENTS, axis=axis))


_REDUCTIONS = {"add": "add", "sum": "add", "multiply": "mul", "prod": "mul", "amax": "max", "amin": "min"}


def scatter(reduction: str = "none") -> Handler:
    """Scatter, scatter_add and scatter_reduce, of a tensor or one number."""

    def handle(call: "Call") -> Operand:
        x, index = call.operand("self"), call.operand("index")
        axis = call.axis("dim", len(x.shape))
        if axis == x.type.batch_axis:
            raise BatchError("samples of the batch are replaced")
        asked = call.value("reduce")
        how = _REDUCTIONS[asked] if asked is not None else reduction
        if not call.value("include_self", True):
            call.refuse("the old values are left out")
        call.seen("include_self")
        key = call.first("src", "value")
        source = call.operand(key)
        if source.type != index.type:
            if len(source.shape):
                call.refuse(f"values of shape {list(source.shape)} for indices {list(index.shape)}")
            source = call.add(Op.EXPAND, [source], at.ExpandAttributes(), suffix="values", types=[index.type])[0]
        attributes = at.ScatterAttributes(kind=GatherKind.ELEMENTS, axis=axis, reduction=how)
        return call.one(Op.SCATTER, [x, index, source], attributes)

    return handle


# --- x[i, :, j] ------------------------------------------------------------------------------------------------------


def index(call: "Call") -> Operand:
    """Advanced indexing: one index is a take along its axis, several are gathered slices."""
    x = call.operand("self")
    given = list(call.arguments["indices"])
    call.seen("indices")
    axes = [i for i, n in enumerate(given) if n is not None]
    if any(given[i].meta["val"].dtype is torch.bool for i in axes):
        return _masked(call, x, given, axes)
    batch = x.type.batch_axis
    if len(axes) == 1:
        if axes[0] == batch:
            raise BatchError("samples of the batch are picked")
        return call.one(Op.EMBEDDING, [x, call.reader.operand(given[axes[0]])], at.EmbeddingAttributes(axis=axes[0]))
    by_sample = batch in axes
    if by_sample and not (axes[0] == batch == 0 and _counts_samples(call, given[0])):
        raise BatchError("samples of the batch are picked")
    picked = axes[1:] if by_sample else axes
    if by_sample and len(picked) == 1:
        same = call.reader.operand(given[picked[0]])
        if same.type.batch_axis is None:
            return _same_place(call, x, same, picked[0])
    rest = [i for i in range(len(x.shape)) if i not in axes]
    front = moved(call, x, [*axes, *rest], "front")
    positions = _positions(call, [given[i] for i in picked], by_sample)
    attributes = at.GatherAttributes(kind=GatherKind.ND, batch_axes=int(by_sample))
    taken = call.inner(Op.GATHER, [front, positions], attributes, "taken")
    adjacent = axes == list(range(axes[0], axes[-1] + 1))
    if not adjacent or axes[0] == 0:  # indices apart from each other put their axes first, as here
        return taken
    depth, before = len(positions.shape) - 1, axes[0]
    order = [*range(depth, depth + before), *range(depth), *range(depth + before, len(taken.shape))]
    return moved(call, taken, order, "back")


def _same_place(call: "Call", x: Operand, places: Operand, axis: int) -> Operand:
    """x[all samples one by one, places] for places that are the same for each: a take along their axis."""
    kind = call.types[0]
    depth = len(kind.shape) - (len(x.shape) - 2)
    shape = (1,) * (depth - len(places.shape)) + places.shape
    if kind.batch_axis != 0 or shape[0] != 1:
        raise BatchError("samples of the batch are picked")
    rest = shape[1:]
    flat = (
        call.derived(places, "places", lambda t: t.reshape(rest))
        if is_stored(places)
        else call.reshaped(places, TensorType(shape=rest), "places")
    )
    front = moved(call, x, [0, axis, *(i for i in range(1, len(x.shape)) if i != axis)], "front")
    return call.reshaped(call.inner(Op.EMBEDDING, [front, flat], at.EmbeddingAttributes(axis=1), "taken"), kind, "axes")


def _positions(call: "Call", nodes: list[torch.fx.Node], by_sample: bool) -> Operand:
    """Return the indices side by side along a new last axis."""
    operands = [call.reader.operand(n) for n in nodes]
    if all(is_stored(o) for o in operands):
        together = call.reader.derived(operands, f"{call.layer_name}.positions", lambda values: _side_by_side(values))
        if not by_sample:
            return together
        operands = [call.derived(together, f"{i}", lambda t, i=i: t[..., i]) for i in range(len(operands))]  # type: ignore[misc]
    kind = broadcast([o.type for o in operands])
    if by_sample and kind.batch_axis != 0:
        raise BatchError("an index that is the same for all samples beside one that counts them")
    thin = TensorType(shape=(*kind.shape, 1), batch_axis=kind.batch_axis)
    columns = []
    for i, o in enumerate(operands):
        wide = (
            o if o.type == kind else call.add(Op.EXPAND, [o], at.ExpandAttributes(), suffix=f"wide{i}", types=[kind])[0]
        )
        columns.append(call.reshaped(wide, thin, f"column{i}"))
    if len(columns) == 1:
        return columns[0]
    return call.inner(Op.CONCAT, columns, at.ConcatAttributes(axis=len(kind.shape)), "positions")


def _side_by_side(values: Sequence[torch.Tensor]) -> torch.Tensor:
    shape = torch.broadcast_shapes(*(v.shape for v in values))  # type: ignore[no-untyped-call]
    return torch.stack([v.expand(shape) for v in values], -1)


def _counts_samples(call: "Call", node: torch.fx.Node) -> bool:
    """Whether an index is 0, 1, 2, ... over the batch."""
    reader = call.reader
    if node not in reader.fixed:
        return False
    three = reader.evaluate(node, 3)
    return three.numel() == 3 and three.shape[:1] == (3,) and bool(three.reshape(-1).equal(torch.arange(3)))


def _masked(call: "Call", x: Operand, given: list[torch.fx.Node], axes: list[int]) -> Operand:
    """x[mask] for a stored mask of one axis: the places it keeps."""
    mask = call.reader.known_value(given[axes[0]])
    if len(axes) > 1 or mask is None or mask.dim() != 1 or axes[0] == x.type.batch_axis:
        call.refuse("a mask that is computed: how much it keeps depends on the data")
    kept = call.constant("kept", lambda: torch.nonzero(mask).reshape(-1))
    return call.one(Op.EMBEDDING, [x, kept], at.EmbeddingAttributes(axis=axes[0]))


def index_put(call: "Call") -> Operand:
    """x[i, j] = values, or += where they accumulate."""
    x, values = call.operand("self"), call.operand("values")
    given = list(call.arguments["indices"])
    call.seen("indices", "unsafe")
    add = bool(call.value("accumulate", False))
    axes = [i for i, n in enumerate(given) if n is not None]
    if len(axes) == 1 and given[axes[0]].meta["val"].dtype is torch.bool:
        mask = call.reader.operand(given[axes[0]])
        if axes[0] or values.shape not in ((), (1,)) or add or len(mask.shape) > len(x.shape):
            call.refuse("values for a computed mask")
        spread = TensorType(
            shape=(*mask.shape, *(1,) * (len(x.shape) - len(mask.shape))), batch_axis=mask.type.batch_axis
        )
        wide = call.reshaped(mask, spread, "mask")
        return call.one(Op.ELEMENTWISE, [wide, values, x], at.ElementwiseAttributes(kind=Ew.WHERE))
    if x.type.batch_axis in axes or any(given[i].meta["val"].dtype is torch.bool for i in axes):
        raise BatchError("samples of the batch are replaced")
    if axes != list(range(axes[0], axes[-1] + 1)):
        call.refuse("indices apart from each other")
    rest = [i for i in range(len(x.shape)) if i not in axes]
    order = [*axes, *rest]
    positions = _positions(call, [given[i] for i in axes], by_sample=False)
    depth, before = len(positions.shape) - 1, axes[0]
    wanted = [*positions.shape[:-1], *(x.shape[i] for i in rest)]
    grows = None if x.type.batch_axis is None else depth + rest.index(x.type.batch_axis)
    if before:  # the values come with the untouched axes before the indexed ones
        there = [*wanted[depth : depth + before], *wanted[:depth], *wanted[depth + before :]]
        shown = None if grows is None else grows - depth if grows < depth + before else grows
        values = _expanded(call, values, TensorType(shape=tuple(there), batch_axis=shown))
        values = moved(
            call, values, [*range(before, before + depth), *range(before), *range(before + depth, len(there))], "front"
        )
    else:
        values = _expanded(call, values, TensorType(shape=tuple(wanted), batch_axis=grows))
    attributes = at.ScatterAttributes(kind=GatherKind.ND, reduction="add" if add else "none")
    made = call.inner(Op.SCATTER, [moved(call, x, order, "sorted"), positions, values], attributes, "put")
    return moved(call, made, [order.index(i) for i in range(len(order))], "back")


def _expanded(call: "Call", x: Operand, kind: TensorType) -> Operand:
    if x.type == kind:
        return x
    return call.add(Op.EXPAND, [x], at.ExpandAttributes(), suffix="values", types=[kind])[0]
