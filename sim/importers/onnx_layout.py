"""ONNX operators that move, select and repeat elements: reshape, transpose, concat, split, slice, pad, resize, gather.

Batch: a size that the graph asks for at run time (Shape, Gather, Concat, Reshape) was worked out for one and for two
samples, so that the axis which grows is known; a batch of one written into the graph follows `shapes.reshape`.
"""

from collections.abc import Sequence
from math import floor, prod

import numpy as np

from picojoule.sim import attributes as at
from picojoule.sim.attributes import Op
from picojoule.sim.builder import constant
from picojoule.sim.errors import InputError
from picojoule.sim.importers.onnx_batch import reshaped_type
from picojoule.sim.importers.onnx_constants import arrays_for_two, slices_of, split_sizes
from picojoule.sim.importers.onnx_values import Fixed, Ints, Node, Scope, UnhandledError, Value, grown_axis
from picojoule.sim.ir import Operand, TensorType
from picojoule.sim.shapes import broadcast, resolve_reshape

Results = tuple[Value, ...]


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
    kind, inner = reshaped_type(x.type, shape, inner=x.name in scope.inner, axis=axis)
    made = _reshaped(scope, node, x, kind)
    scope.inner.discard(made[0].name)
    if inner:
        scope.inner.add(made[0].name)
    return made


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
    return scope.emit(node, Op.SPLIT, [x], at.SplitAttributes(axis=axis, sizes=tuple(sizes)))


def slice_(scope: Scope, node: Node) -> Results:
    """Slice with bounds known at import; one that keeps everything is no layer."""
    x = scope.operand(node, 0)
    bounds = [scope.fixed(node, i).array() if node.has(i) else None for i in range(1, 5)]
    found = slices_of(node, [None, *bounds], x.shape)
    _same_for_two(scope, node, x, found)
    found = [f for f in found if f[1:] != (0, x.shape[f[0]], 1)]
    if not found:
        return (x,)
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
            raise UnhandledError(f"its bounds on axis {one[0]} depend on the batch")


def pad(scope: Scope, node: Node) -> Results:
    """Pad with a constant, the edge or the reflection."""
    x, rank = scope.operand(node, 0), len(scope.value(node, 0).shape)
    mode = node.text("mode", "constant")
    pads = scope.listed(node, "pads", 1)
    if mode not in ("constant", "edge", "reflect") or pads is None:
        raise UnhandledError(f"its mode is '{mode}'")
    axes = [scope.axis(node, a, rank) for a in scope.ints(node, 3)] if node.has(3) else list(range(rank))
    if len(pads) != 2 * len(axes):
        raise InputError(f"{scope.where(node)} needs {2 * len(axes)} pads, got {len(pads)}")
    if min(pads, default=0) < 0:
        raise UnhandledError("negative pads crop")
    begin, end = [0] * rank, [0] * rank
    for i, axis in enumerate(axes):
        begin[axis], end[axis] = pads[i], pads[i + len(axes)]
    value = float(scope.fixed(node, 2).array().reshape(-1)[0]) if node.has(2) else node.real("value", 0.0)
    if not any(pads):
        return (x,)
    return scope.emit(node, Op.PAD, [x], at.PadAttributes(begin=tuple(begin), end=tuple(end), mode=mode, value=value))


def expand(scope: Scope, node: Node) -> Results:
    """Broadcast to sizes known at import."""
    x, target = scope.operand(node, 0), scope.fixed(node, 1)
    kind = broadcast([x.type, TensorType(shape=scope.ints(node, 1, batched=True))])
    if target.at_two is not None:
        two = np.broadcast_shapes(x.type.at(2), tuple(int(s) for s in target.at_two))
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
        raise UnhandledError("it repeats the batch")
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


_COORDINATES = {
    "half_pixel": "half_pixel",
    "pytorch_half_pixel": "half_pixel",
    "align_corners": "align_corners",
    "asymmetric": "asymmetric",
}
_RESIZE_HAS_ROI_SINCE = 11


def resize(scope: Scope, node: Node) -> Results:
    """Resize and Upsample to sizes known at import."""
    x = scope.operand(node, 0)
    old = node.op == "Upsample" or node.opset < _RESIZE_HAS_ROI_SINCE
    if (
        node.integer("antialias", 0)
        or node.integer("exclude_outside", 0)
        or "keep_aspect_ratio_policy" in node.attributes
    ):
        raise UnhandledError("antialias, exclude_outside and keep_aspect_ratio_policy are not known")
    mode = node.text("mode", "nearest")
    asked = node.text("coordinate_transformation_mode", "half_pixel")
    if (asked not in _COORDINATES and not old) or mode not in ("nearest", "linear", "bilinear"):
        raise UnhandledError(f"its mode is '{mode}' with coordinates '{asked}'")
    shape = _resized(scope, node, x, old=old)
    attributes = at.ResizeAttributes(
        mode="linear" if mode == "bilinear" else mode,
        coordinates="asymmetric" if old else _COORDINATES[asked],
        nearest_rounding="floor" if old else node.text("nearest_mode", "round_prefer_floor"),
    )
    if asked == "pytorch_half_pixel" and any(s == 1 and s != t for s, t in zip(shape, x.shape, strict=True)):
        raise UnhandledError("pytorch_half_pixel differs from half_pixel for a result of size 1")
    if shape == x.shape:
        return (x,)
    return scope.emit(node, Op.RESIZE, [x], attributes, types=[TensorType(shape=shape, batch_axis=x.type.batch_axis)])


def _resized(scope: Scope, node: Node, x: Operand, *, old: bool) -> Ints:
    """Return the result's shape from scales or sizes."""
    rank = len(x.shape)
    axes = [scope.axis(node, a, rank) for a in node.ints("axes", tuple(range(rank)))]
    position = 1 if old else 2
    shape = list(x.shape)
    if node.has(3) and scope.fixed(node, 3).weights.elements:
        given: Sequence[float] = scope.ints(node, 3, batched=True)
        made = [int(s) for s in given]
    else:
        given = node.attributes.get("scales", ())
        if node.has(position):
            given = [float(v) for v in scope.fixed(node, position).array().reshape(-1)]
        # Scales are float32 in the file: 1.9999999 of 2 must not floor to 1.
        made = [floor(round(x.shape[a] * s, 4)) for a, s in zip(axes, given, strict=False)]
        if any(abs(x.shape[a] * s - m) > 1e-3 for a, s, m in zip(axes, given, made, strict=False)):
            scope.builder.note(f"{node.name}: its scale does not give whole sizes; sampled by the ratio of the sizes")
    if len(made) != len(axes) or any(m < 1 for m in made):
        raise InputError(f"{scope.where(node)} needs {len(axes)} sizes or scales, got {list(given)}")
    for axis, size in zip(axes, made, strict=True):
        shape[axis] = x.shape[axis] if axis == x.type.batch_axis else size
    return tuple(shape)


def gather(scope: Scope, node: Node) -> Results:
    """Gather: an embedding from a stored table, a slice for one fixed index, else a general take."""
    data, indices = scope.value(node, 0), scope.value(node, 1)
    axis = scope.axis(node, node.integer("axis", 0), len(data.shape))
    size = data.shape[axis]
    table = scope.as_operand(node, data, trained=True)
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
    return scope.emit(node, Op.EMBEDDING, [table, constant(name, wrapped)], at.EmbeddingAttributes(axis=axis))


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
