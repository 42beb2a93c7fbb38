"""ONNX operators that move, select and repeat elements: reshape, transpose, concat, split, slice, pad, gather.

Batch: a size that the graph asks for at run time (Shape, Gather, Concat, Reshape) was worked out for one and for two
samples, so that the axis which grows is known; a batch of one written into the graph follows `shapes.reshape`.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from picojoule.sim import attributes as at
from picojoule.sim.attributes import Op
from picojoule.sim.errors import InputError
from picojoule.sim.importers.onnx_constants import arrays_for_two, slices_of, split_sizes
from picojoule.sim.importers.onnx_scope import Results, Scope
from picojoule.sim.importers.onnx_values import Array, BatchError, Fixed, Ints, Node, UnhandledError, grown_axis, number
from picojoule.sim.ir import Operand, TensorType
from picojoule.sim.shapes import broadcast, resolve_reshape


def _reshaped(scope: Scope, node: Node, x: Operand, kind: TensorType, step: str = "") -> tuple[Operand, ...]:
    return scope.emit(node, Op.RESHAPE, [x], at.ReshapeAttributes(), types=[kind], step=step)


def reshape(scope: Scope, node: Node) -> Results:
    """Reshape to sizes known at import."""
    x, target = scope.operand(node, 0), scope.fixed(node, 1)
    zero_copies = not node.integer("allowzero", 0)
    axis = None
    try:
        shape = resolve_reshape(x.type, scope.ints(node, 1, batched=True), zero_copies=zero_copies)
        if target.at_two is not None and x.type.batch_axis is not None:
            twice = TensorType(shape=x.type.at(2))
            axis = grown_axis(shape, resolve_reshape(twice, [int(v) for v in target.at_two], zero_copies=zero_copies))
        return _followed(scope, node, x, shape, axis)
    except InputError as error:
        raise InputError(f"{scope.where(node)}: {error}") from None


def _followed(scope: Scope, node: Node, x: Operand, shape: Ints, axis: int | None = None) -> Results:
    """Reshape in memory order, following the batch (to `axis` where that is known)."""
    return (scope.reshaped(node, x, shape, axis=axis),)


def flatten(scope: Scope, node: Node) -> Results:
    """Flatten to a matrix."""
    x = scope.operand(node, 0)
    axis = node.integer("axis", 1)
    axis = axis + len(x.shape) if axis < 0 else axis
    if not 0 <= axis <= len(x.shape):
        raise InputError(f"{scope.where(node)}: axis {axis} does not exist in a value of {len(x.shape)} axes")
    return _followed(scope, node, x, (prod(x.shape[:axis]), prod(x.shape[axis:])))


def squeeze(scope: Scope, node: Node) -> Results:
    """Drop axes of size one; without `axes` the batch stays where the file leaves it open."""
    x = scope.operand(node, 0)
    axes = scope.listed(node, "axes", 1)
    if axes is None:
        batch = x.type.batch_axis if scope.open_batch else None
        axes = tuple(i for i, s in enumerate(x.shape) if s == 1 and i != batch)
    dropped = {scope.axis(node, a, len(x.shape)) for a in axes}
    if any(x.shape[a] != 1 for a in dropped):
        raise InputError(f"{scope.where(node)} drops axes {sorted(dropped)} of {list(x.shape)}; only sizes of 1 go")
    kept = [i for i in range(len(x.shape)) if i not in dropped]
    shape, batch = tuple(x.shape[i] for i in kept), x.type.batch_axis
    if batch in dropped:
        return _followed(scope, node, x, shape)
    return _reshaped(scope, node, x, TensorType(shape=shape, batch_axis=None if batch is None else kept.index(batch)))


def unsqueeze(scope: Scope, node: Node) -> Results:
    """Insert axes of size one."""
    x = scope.operand(node, 0)
    axes = scope.listed(node, "axes", 1) or ()
    rank = len(x.shape) + len(axes)
    added = {scope.axis(node, a, rank) for a in axes}
    if len(added) != len(axes):
        raise InputError(f"{scope.where(node)}: axes {list(axes)} repeat one")
    kept = [i for i in range(rank) if i not in added]
    shape = [1] * rank
    for i, size in zip(kept, x.shape, strict=True):
        shape[i] = size
    batch = x.type.batch_axis
    return _reshaped(scope, node, x, TensorType(shape=tuple(shape), batch_axis=None if batch is None else kept[batch]))


def transpose(scope: Scope, node: Node) -> Results:
    """Permute axes; without `perm` they are reversed."""
    x = scope.operand(node, 0)
    permutation = node.ints("perm", tuple(reversed(range(len(x.shape)))))
    return scope.emit(node, Op.TRANSPOSE, [x], at.TransposeAttributes(permutation=permutation))


def concatenate(scope: Scope, node: Node) -> Results:
    """Concat; fixed pieces are repeated for every sample."""
    values = [scope.value(node, i) for i in range(len(node.inputs))]
    axis = scope.axis(node, int(node.attributes["axis"]), len(values[0].shape))
    values = [v for v in values if not (isinstance(v, Fixed) and v.shape[axis : axis + 1] == (0,))] or values[:1]
    batches = [v.type.batch_axis for v in values if isinstance(v, Operand) and v.type.batch_axis is not None]
    operands = []
    for value in values:
        piece = scope.as_operand(node, value, trained=False)
        fixed = isinstance(value, Fixed) and piece.type.batch_axis is None
        if fixed and batches and batches[0] != axis and len(piece.shape) > batches[0]:
            piece = scope.expanded(node, piece, batches[0])
        operands.append(piece)
    if len(operands) == 1:
        return (operands[0],)
    return scope.emit(node, Op.CONCAT, operands, at.ConcatAttributes(axis=axis))


def split(scope: Scope, node: Node) -> Results:
    """Split into given or equal pieces."""
    x = scope.operand(node, 0)
    axis = scope.axis(node, node.integer("axis", 0), len(x.shape))
    sizes = split_sizes(node, scope.listed(node, "split", 1), x.shape[axis])
    if len(sizes) != len(node.outputs):
        raise InputError(f"{scope.where(node)} names {len(node.outputs)} results for {len(sizes)} pieces")
    if 0 in sizes and sum(sizes) == x.shape[axis] and min(sizes) == 0:
        return _split_with_gaps(scope, node, x, axis, sizes)
    return scope.emit(node, Op.SPLIT, [x], at.SplitAttributes(axis=axis, sizes=tuple(sizes)), results=len(sizes))


def _split_with_gaps(scope: Scope, node: Node, x: Operand, axis: int, sizes: Sequence[int]) -> Results:
    """Split into pieces of which some have no elements."""
    kept = [i for i, size in enumerate(sizes) if size]
    pieces: Results = (x,)
    if len(kept) > 1:
        attributes = at.SplitAttributes(axis=axis, sizes=tuple(sizes[i] for i in kept))
        names = replace(node, outputs=tuple(node.outputs[i] for i in kept))
        pieces = scope.emit(names, Op.SPLIT, [x], attributes, results=len(kept))
    found = dict(zip(kept, pieces, strict=True))
    return [found[i] if i in found else _empty(scope, node, x, {axis}, i) for i in range(len(sizes))]


def slice_(scope: Scope, node: Node) -> Results:
    """Slice with bounds known at import; one that keeps everything is no layer."""
    x = scope.operand(node, 0)
    bounds = [scope.fixed(node, i).array() if node.has(i) else None for i in range(1, 5)]
    found = slices_of(node, [None, *bounds], x.shape)
    _same_for_two(scope, node, x, found)
    found = [f for f in found if f[1:] != (0, x.shape[f[0]], 1)]
    if not found:
        return (x,)
    if any(axis == x.type.batch_axis and step != 1 for axis, _, _, step in found):
        raise BatchError("it steps through the batch")
    gone = [f for f in found if not len(range(*f[1:]))]
    if gone:
        return (_empty(scope, node, x, {f[0] for f in gone}, 0),)
    axes, starts, stops, steps = (tuple(column) for column in zip(*found, strict=True))
    return scope.emit(node, Op.SLICE, [x], at.SliceAttributes(axes=axes, starts=starts, stops=stops, steps=steps))


def _same_for_two(scope: Scope, node: Node, x: Operand, found: list[tuple[int, int, int, int]]) -> None:
    """Refuse bounds that depend on the batch, unless they keep the whole batch."""
    fixed = [scope.fixed(node, i) if node.has(i) else None for i in range(1, 5)]
    if all(f is None or f.at_two is None for f in fixed):
        return
    twice = x.type.at(2)
    two = slices_of(node, [None, *arrays_for_two(fixed)], twice)
    for one, other in zip(found, two, strict=True):
        whole = one[1:] == (0, x.shape[one[0]], 1) and other[1:] == (0, twice[one[0]], 1)
        if one != other and not whole:
            raise BatchError(f"its bounds on axis {one[0]} depend on the batch")


def _empty(scope: Scope, node: Node, x: Operand, axes: set[int], position: int) -> Fixed:
    """Return a value without elements, which concatenation leaves out."""
    one, two = (tuple(0 if i in axes else s for i, s in enumerate(x.type.at(batch))) for batch in (1, 2))
    dtype = scope.dtypes.get(x.name, np.dtype(np.float32))
    made = number(node.outputs[position], np.zeros(one), dtype)
    return made if one == two else replace(made, at_two=np.zeros(two, dtype))


def pad(scope: Scope, node: Node) -> Results:
    """Pad with a constant, the edge, the reflection or the other end; negative pads crop afterwards."""
    x, rank = scope.operand(node, 0), len(scope.value(node, 0).shape)
    mode = node.text("mode", "constant")
    pads = scope.listed(node, "pads", 1)
    if mode not in ("constant", "edge", "reflect", "wrap") or pads is None:
        raise UnhandledError(f"its mode is '{mode}'")
    axes = [scope.axis(node, a, rank) for a in scope.ints(node, 3)] if node.has(3) else list(range(rank))
    if len(pads) != 2 * len(axes):
        raise InputError(f"{scope.where(node)} needs {2 * len(axes)} pads, got {len(pads)}")
    begin, end = [0] * rank, [0] * rank
    for i, axis in enumerate(axes):
        begin[axis], end[axis] = pads[i], pads[i + len(axes)]
    value = float(scope.fixed(node, 2).array().reshape(-1)[0]) if node.has(2) else node.real("value", 0.0)
    if any(pads) and x.type.batch_axis is not None and (begin[x.type.batch_axis] or end[x.type.batch_axis]):
        raise BatchError("it pads the batch")
    crops = min(pads, default=0) < 0
    if max(pads, default=0) > 0:
        wide = at.PadAttributes(
            begin=tuple(max(b, 0) for b in begin), end=tuple(max(e, 0) for e in end), mode=mode, value=value
        )
        x = scope.emit(node, Op.PAD, [x], wide, step="padded" if crops else "")[0]
    return _cropped(scope, node, x, begin, end) if crops else (x,)


def _cropped(scope: Scope, node: Node, x: Operand, begin: Sequence[int], end: Sequence[int]) -> Results:
    axes = tuple(i for i in range(len(x.shape)) if begin[i] < 0 or end[i] < 0)
    bounds = at.SliceAttributes(
        axes=axes,
        starts=tuple(max(-begin[i], 0) for i in axes),
        stops=tuple(x.shape[i] + min(end[i], 0) for i in axes),
        steps=(1,) * len(axes),
    )
    return scope.emit(node, Op.SLICE, [x], bounds)


def expand(scope: Scope, node: Node) -> Results:
    """Broadcast to sizes known at import."""
    x, target = scope.operand(node, 0), scope.fixed(node, 1)
    kind = broadcast([x.type, TensorType(shape=scope.ints(node, 1, batched=True))])
    if target.at_two is not None:
        try:
            two = np.broadcast_shapes(x.type.at(2), tuple(int(s) for s in target.at_two))
        except ValueError:
            raise BatchError("it repeats a value that is written for one batch") from None
        axis = grown_axis(kind.shape, two)
        kind = TensorType(shape=kind.shape, batch_axis=kind.batch_axis if axis is None else axis)
    if kind == x.type:
        return (x,)
    return scope.emit(node, Op.EXPAND, [x], at.ExpandAttributes(), types=[kind])


def tile(scope: Scope, node: Node) -> Results:
    """Repeat along axes: broadcast where the size is one, else broadcast along a new axis that is merged."""
    x, repeats = scope.operand(node, 0), scope.ints(node, 1)
    batch = x.type.batch_axis
    if len(repeats) != len(x.shape) or any(r < 1 for r in repeats):
        raise InputError(f"{scope.where(node)} needs {len(x.shape)} repeats of at least 1, got {list(repeats)}")
    if batch is not None and repeats[batch] != 1:
        raise BatchError("it repeats the batch")
    if all(r == 1 for r in repeats):
        return (x,)
    shape = tuple(s * r for s, r in zip(x.shape, repeats, strict=True))
    whole = TensorType(shape=shape, batch_axis=batch)
    if all(s == 1 or r == 1 for s, r in zip(x.shape, repeats, strict=True)):
        return scope.emit(node, Op.EXPAND, [x], at.ExpandAttributes(), types=[whole])
    inner = None if batch is None else 2 * batch + 1
    apart = TensorType(shape=tuple(v for s in x.shape for v in (1, s)), batch_axis=inner)
    wide = TensorType(shape=tuple(v for s, r in zip(x.shape, repeats, strict=True) for v in (r, s)), batch_axis=inner)
    x = _reshaped(scope, node, x, apart, "apart")[0]
    x = scope.emit(node, Op.EXPAND, [x], at.ExpandAttributes(), types=[wide], step="repeat")[0]
    return _reshaped(scope, node, x, whole)


def gather(scope: Scope, node: Node) -> Results:
    """Gather: an embedding from a stored table, a slice for one fixed index, else a general take."""
    data, indices = scope.value(node, 0), scope.value(node, 1)
    axis = scope.axis(node, node.integer("axis", 0), len(data.shape))
    size = data.shape[axis]
    table = scope.as_operand(node, data, trained=True)
    inside = _within_samples(table, indices, axis) if isinstance(indices, Fixed) else None
    if inside is not None:
        return _gather_within(scope, node, table, inside)
    if not isinstance(indices, Fixed) or indices.at_two is not None:
        taken = scope.as_operand(node, indices, trained=False)
        return scope.emit(node, Op.EMBEDDING, [table, taken], at.EmbeddingAttributes(axis=axis))
    chosen = indices.array().astype(np.int64)
    if chosen.size and (chosen.min() < -size or chosen.max() >= size):
        raise InputError(f"{scope.where(node)} takes beyond the {size} elements of axis {axis}")
    wrapped = np.where(chosen < 0, chosen + size, chosen)
    if wrapped.ndim == 0:
        return _select(scope, node, table, axis, int(wrapped))
    name = indices.name if np.array_equal(wrapped, chosen) else f"{indices.name} (of {size})"
    return scope.emit(node, Op.EMBEDDING, [table, scope.constant(name, wrapped)], at.EmbeddingAttributes(axis=axis))


def _within_samples(x: Operand, indices: Fixed, axis: int) -> Array | None:
    """Return one sample's indices into a flat value, where those of each further sample are the same, one sample on.

    Exporters write `as_strided` so: all samples flattened, and indices computed for the batch.
    """
    if indices.at_two is None or len(x.shape) != 1 or x.type.batch_axis != axis:
        return None
    one, two, size = indices.array(), indices.at_two, x.shape[axis]
    if not one.ndim or two.shape != (2 * one.shape[0], *one.shape[1:]) or one.shape[0] != 1 or one.min() < 0:
        return None
    same = np.array_equal(two[:1], one) and np.array_equal(two[1:], one + size) and one.max() < size
    return one if same else None


def _gather_within(scope: Scope, node: Node, x: Operand, indices: Array) -> Results:
    """Take elements of each sample of a flat value; all of them in order are a view."""
    if np.array_equal(indices.reshape(-1), np.arange(x.shape[0])):
        return (scope.reshaped(node, x, indices.shape, axis=0),)
    apart = scope.reshaped(node, x, (1, x.shape[0]), "samples", axis=0)
    chosen = scope.constant(f"{node.name} within a sample", indices[0].astype(np.int64))
    return scope.emit(node, Op.EMBEDDING, [apart, chosen], at.EmbeddingAttributes(axis=1))


def _select(scope: Scope, node: Node, x: Operand, axis: int, index: int) -> Results:
    bounds = at.SliceAttributes(axes=(axis,), starts=(index,), stops=(index + 1,), steps=(1,))
    if x.shape[axis] != 1:
        x = scope.emit(node, Op.SLICE, [x], bounds, step="slice")[0]
    shape = (*x.shape[:axis], *x.shape[axis + 1 :])
    batch = x.type.batch_axis
    if batch is None or batch == axis:
        return _followed(scope, node, x, shape)
    return _reshaped(scope, node, x, TensorType(shape=shape, batch_axis=batch - (batch > axis)))


def depth_space(scope: Scope, node: Node) -> Results:
    """DepthToSpace and SpaceToDepth: reshape, transpose, reshape."""
    x, block = scope.operand(node, 0), node.integer("blocksize", 0)
    if len(x.shape) != 4 or block < 1:
        raise InputError(f"{scope.where(node)} needs 4 axes and a blocksize, got {list(x.shape)} and {block}")
    n, c, h, w = x.shape
    rows_first = node.text("mode", "DCR") == "DCR"
    if node.op == "SpaceToDepth":
        fits = h % block == 0 and w % block == 0
        apart: Ints = (n, c, h // block, block, w // block, block)
        permutation: Ints = (0, 3, 5, 1, 2, 4) if rows_first else (0, 1, 3, 5, 2, 4)
        shape: Ints = (n, c * block * block, h // block, w // block)
    else:
        fits = c % (block * block) == 0
        depth = c // (block * block)
        apart = (n, block, block, depth, h, w) if rows_first else (n, depth, block, block, h, w)
        permutation = (0, 3, 4, 1, 5, 2) if rows_first else (0, 1, 4, 2, 5, 3)
        shape = (n, depth, h * block, w * block)
    if not fits:
        raise InputError(f"{scope.where(node)}: blocksize {block} does not divide {list(x.shape)}")
    batch = 0 if x.type.batch_axis == 0 else None
    x = _reshaped(scope, node, x, TensorType(shape=apart, batch_axis=batch), "apart")[0]
    x = scope.emit(node, Op.TRANSPOSE, [x], at.TransposeAttributes(permutation=permutation), step="transpose")[0]
    return _reshaped(scope, node, x, TensorType(shape=shape, batch_axis=batch))


STANDARD = {
    "Reshape": reshape,
    "Flatten": flatten,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Transpose": transpose,
    "Concat": concatenate,
    "Split": split,
    "Slice": slice_,
    "Pad": pad,
    "Expand": expand,
    "Tile": tile,
    "Gather": gather,
    "DepthToSpace": depth_space,
    "SpaceToDepth": depth_space,
}
"""Operators of the standard domain."""
