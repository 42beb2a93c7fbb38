"""Shape inference: the result types of an operator from its operand types and attributes.

Every rule also says where the batch axis goes. Pure functions; importers that know better (torch's symbolic shapes) pass
their own types to the builder and are checked against these.
"""

from collections.abc import Sequence
from math import prod

from picojoule.sim import attributes as at
from picojoule.sim.errors import InputError
from picojoule.sim.ir import TensorType

Ints = tuple[int, ...]


def conv_output_size(size: int, kernel: int, stride: int, begin: int, end: int, dilation: int) -> int:
    """Return the number of window positions along one axis (0 or less: the window does not fit)."""
    return (size + begin + end - dilation * (kernel - 1) - 1) // stride + 1


def conv(x: TensorType, weight: Ints, a: at.ConvAttributes) -> TensorType:
    """Convolution, ordinary or transposed."""
    if len(x.shape) != len(weight):
        raise InputError(f"a filter of shape {list(weight)} needs an ifmap of {len(weight)} axes, got {list(x.shape)}")
    expected = weight[0] if a.transposed else weight[1] * a.groups
    if x.shape[1] != expected:
        raise InputError(f"the filter takes {expected} channels but the ifmap {list(x.shape)} has {x.shape[1]}")
    kernel = weight[2:]
    if a.transposed:
        extra = a.output_padding or (0,) * len(kernel)
        space = tuple(
            (s - 1) * a.stride[i]
            - a.padding_begin[i]
            - a.padding_end[i]
            + a.dilation[i] * (kernel[i] - 1)
            + 1
            + extra[i]
            for i, s in enumerate(x.shape[2:])
        )
        channels = weight[1] * a.groups
    else:
        space = tuple(
            conv_output_size(s, kernel[i], a.stride[i], a.padding_begin[i], a.padding_end[i], a.dilation[i])
            for i, s in enumerate(x.shape[2:])
        )
        channels = weight[0]
    if any(s < 1 for s in space):
        raise InputError(f"a window of {list(kernel)} does not fit the ifmap {list(x.shape)} with its padding")
    return TensorType(shape=(x.shape[0], channels, *space), batch_axis=_first_only(x))


def deform_conv(x: TensorType, weight: Ints, a: at.DeformConvAttributes) -> TensorType:
    """Deformable convolution: the plain convolution's shape."""
    plain = at.ConvAttributes(
        stride=a.stride, padding_begin=a.padding_begin, padding_end=a.padding_end, dilation=a.dilation, groups=a.groups
    )
    return conv(x, weight, plain)


def linear(x: TensorType, weight: Ints) -> TensorType:
    """Y = x W^T."""
    if x.shape[-1] != weight[1]:
        raise InputError(f"a weight of shape {list(weight)} takes {weight[1]} features, got {list(x.shape)}")
    return TensorType(shape=(*x.shape[:-1], weight[0]), batch_axis=_keep(x, len(x.shape) - 1))


def matmul(a: TensorType, b: TensorType) -> TensorType:
    """Return the type of a @ b, with numpy's broadcasting of leading axes; one-dimensional operands are not supported."""
    if len(a.shape) < 2 or len(b.shape) < 2 or a.shape[-1] != b.shape[-2]:
        raise InputError(f"cannot multiply {list(a.shape)} by {list(b.shape)}")
    lead = broadcast([_lead(a), _lead(b)])
    axis = lead.batch_axis
    rank = len(lead.shape) + 2
    if a.batch_axis is not None and a.batch_axis == len(a.shape) - 2:
        axis = rank - 2
    if b.batch_axis is not None and b.batch_axis == len(b.shape) - 1:
        axis = rank - 1
    return TensorType(shape=(*lead.shape, a.shape[-2], b.shape[-1]), batch_axis=axis)


def _lead(x: TensorType) -> TensorType:
    axis = x.batch_axis
    return TensorType(shape=x.shape[:-2], batch_axis=axis if axis is not None and axis < len(x.shape) - 2 else None)


def pool(x: TensorType, a: at.PoolAttributes) -> TensorType:
    """Pooling windows or adaptive pooling."""
    if a.output_size:
        return TensorType(shape=(*x.shape[: -len(a.output_size)], *a.output_size), batch_axis=_first_only(x))
    rank = len(a.kernel)
    space = tuple(_pool_size(s, a, i) for i, s in enumerate(x.shape[-rank:]))
    if any(s < 1 for s in space):
        raise InputError(f"a pooling window of {list(a.kernel)} does not fit the ifmap {list(x.shape)}")
    return TensorType(shape=(*x.shape[:-rank], *space), batch_axis=_first_only(x))


def _pool_size(size: int, a: at.PoolAttributes, i: int) -> int:
    span = size + a.padding_begin[i] + a.padding_end[i] - a.dilation[i] * (a.kernel[i] - 1) - 1
    if not a.ceil_mode:
        return span // a.stride[i] + 1
    count = -(-span // a.stride[i]) + 1
    # A window that would start in the end padding is dropped (the rule of torch and ONNX).
    return count - 1 if (count - 1) * a.stride[i] >= size + a.padding_begin[i] else count


def broadcast(types: Sequence[TensorType]) -> TensorType:
    """Numpy broadcasting of several operands."""
    rank = max(len(t.shape) for t in types)
    shape = [1] * rank
    axis: int | None = None
    for t in types:
        shift = rank - len(t.shape)
        for i, s in enumerate(t.shape):
            if s != 1 and shape[i + shift] not in (1, s):
                raise InputError(f"shapes {' and '.join(str(list(u.shape)) for u in types)} do not broadcast")
            shape[i + shift] = max(shape[i + shift], s)
        if t.batch_axis is not None:
            axis = t.batch_axis + shift
    return TensorType(shape=tuple(shape), batch_axis=axis)


def reduce(x: TensorType, a: at.ReduceAttributes) -> TensorType:
    """Reduction over axes."""
    shape = tuple(1 if i in a.axes else s for i, s in enumerate(x.shape))
    axis = None if x.batch_axis in a.axes else x.batch_axis
    if a.keepdims:
        return TensorType(shape=shape, batch_axis=axis)
    kept = [i for i in range(len(shape)) if i not in a.axes]
    return TensorType(shape=tuple(shape[i] for i in kept), batch_axis=kept.index(axis) if axis is not None else None)


def concat(types: Sequence[TensorType], axis: int) -> TensorType:
    """Concatenation along `axis`."""
    first = types[0]
    for t in types[1:]:
        if len(t.shape) != len(first.shape) or any(
            p != q for i, (p, q) in enumerate(zip(t.shape, first.shape, strict=True)) if i != axis
        ):
            raise InputError(f"cannot concatenate {list(first.shape)} and {list(t.shape)} along axis {axis}")
    total = sum(t.shape[axis] for t in types)
    batch = next((t.batch_axis for t in types if t.batch_axis is not None), None)
    if batch == axis:
        batch = None if any(t.batch_axis is None for t in types) else axis
    return TensorType(shape=(*first.shape[:axis], total, *first.shape[axis + 1 :]), batch_axis=batch)


def split(x: TensorType, a: at.SplitAttributes) -> list[TensorType]:
    """One result per size."""
    if sum(a.sizes) != x.shape[a.axis]:
        raise InputError(f"split sizes {list(a.sizes)} do not add up to axis {a.axis} of {list(x.shape)}")
    kept = None if x.batch_axis == a.axis else x.batch_axis
    return [TensorType(shape=(*x.shape[: a.axis], s, *x.shape[a.axis + 1 :]), batch_axis=kept) for s in a.sizes]


def slice_(x: TensorType, a: at.SliceAttributes) -> TensorType:
    """Strided slices; a whole slice of the batch axis keeps it."""
    shape, batch = list(x.shape), x.batch_axis
    for axis, start, stop, step in zip(a.axes, a.starts, a.stops, a.steps, strict=True):
        shape[axis] = len(range(start, stop, step))
        if axis == batch and shape[axis] != x.shape[axis]:
            batch = None
    return TensorType(shape=tuple(shape), batch_axis=batch)


def pad(x: TensorType, a: at.PadAttributes) -> TensorType:
    """Pad every axis."""
    shape = tuple(s + b + e for s, b, e in zip(x.shape, a.begin, a.end, strict=True))
    return TensorType(shape=shape, batch_axis=x.batch_axis)


def transpose(x: TensorType, permutation: Ints) -> TensorType:
    """Permutation of the axes."""
    if sorted(permutation) != list(range(len(x.shape))):
        raise InputError(f"{list(permutation)} is no permutation of the axes of {list(x.shape)}")
    axis = permutation.index(x.batch_axis) if x.batch_axis is not None else None
    return TensorType(shape=tuple(x.shape[p] for p in permutation), batch_axis=axis)


def reshape(x: TensorType, shape: Ints) -> TensorType:
    """Return the type of x reshaped to `shape` (sizes for one sample, no -1).

    The batch axis goes where its elements go: to the first result axis with as many elements before it.
    """
    if prod(shape) != prod(x.shape):
        raise InputError(f"cannot reshape {list(x.shape)} ({prod(x.shape)} elements) to {list(shape)}")
    if x.batch_axis is None:
        return TensorType(shape=shape)
    before = prod(x.shape[: x.batch_axis])
    axis, count = None, 1
    for i, size in enumerate(shape):
        if count <= before < count * size or (count == before and size == x.shape[x.batch_axis]):
            axis = i
            break
        count *= size
    return TensorType(shape=shape, batch_axis=axis)


def resolve_reshape(x: TensorType, target: Sequence[int], *, zero_copies: bool = True) -> Ints:
    """Return `target` with 0 (copy, when `zero_copies`) and -1 (the rest) replaced, for one sample."""
    shape = [x.shape[i] if s == 0 and zero_copies and i < len(x.shape) else s for i, s in enumerate(target)]
    if shape.count(-1) > 1:
        raise InputError(f"a reshape may leave one size open, got {list(target)}")
    if -1 in shape:
        known = prod(s for s in shape if s != -1)
        if known <= 0 or prod(x.shape) % known:
            raise InputError(f"cannot reshape {list(x.shape)} to {list(target)}")
        shape[shape.index(-1)] = prod(x.shape) // known
    return tuple(shape)


def embedding(table: TensorType, indices: TensorType, axis: int) -> TensorType:
    """table.take(indices, axis)."""
    shape = (*table.shape[:axis], *indices.shape, *table.shape[axis + 1 :])
    if indices.batch_axis is not None:
        return TensorType(shape=shape, batch_axis=axis + indices.batch_axis)
    if table.batch_axis is None or table.batch_axis == axis:
        return TensorType(shape=shape)
    shift = len(indices.shape) - 1 if table.batch_axis > axis else 0
    return TensorType(shape=shape, batch_axis=table.batch_axis + shift)


def recurrent(gates: TensorType, weight: Ints, a: at.RecurrentAttributes) -> list[TensorType]:
    """Results of a recurrent layer: y, last h[, last c]."""
    count = at.GATES[a.kind]
    if len(gates.shape) != 3 or gates.shape[-1] != count * a.hidden or weight != (count * a.hidden, a.hidden):
        raise InputError(
            f"{a.kind} of {a.hidden} units needs gates [.., .., {count * a.hidden}] and a weight "
            f"{[count * a.hidden, a.hidden]}, got {list(gates.shape)} and {list(weight)}"
        )
    if a.time_axis not in (0, 1):
        raise InputError(f"time runs along axis 0 or 1, got {a.time_axis}")
    if gates.batch_axis not in (None, 1 - a.time_axis):
        raise InputError("time steps depend on each other, so the batch cannot run along them")
    state = TensorType(
        shape=(gates.shape[1 - a.time_axis], a.hidden), batch_axis=None if gates.batch_axis is None else 0
    )
    y = TensorType(shape=(*gates.shape[:2], a.hidden), batch_axis=gates.batch_axis)
    return [y, state, state] if a.kind is at.RecurrentKind.LSTM else [y, state]


def quantize(operands: Sequence[TensorType], a: at.QuantizeAttributes) -> list[TensorType]:
    """Codes have the shape of the values; a dynamic quantiser also returns scale and zero point."""
    x = operands[0]
    if a.kind is at.QuantizeKind.DYNAMIC:
        return [x, TensorType(shape=()), TensorType(shape=())]
    for t in operands[1:]:
        wanted = None if a.axis is None else x.shape[a.axis]
        if prod(t.shape) != 1 and (wanted is None or t.shape != (wanted,)):
            raise InputError(f"scale and zero point must be one number or [{wanted}], got {list(t.shape)}")
    return [x]


def gather(data: TensorType, indices: TensorType, a: at.GatherAttributes) -> TensorType:
    """Gathered elements, or gathered slices."""
    if a.kind is at.GatherKind.ELEMENTS:
        if len(data.shape) != len(indices.shape):
            raise InputError(f"indices {list(indices.shape)} need as many axes as the data {list(data.shape)}")
        return indices
    depth, b = (indices.shape[-1] if indices.shape else 0), a.batch_axes
    if b + depth > len(data.shape) or indices.shape[:b] != data.shape[:b] or not indices.shape:
        raise InputError(f"indices {list(indices.shape)} do not fit the data {list(data.shape)}")
    rest = data.shape[b + depth :]
    axis = indices.batch_axis
    if axis is None and data.batch_axis is not None and data.batch_axis >= b + depth:
        axis = len(indices.shape) - 1 + data.batch_axis - b - depth
    return TensorType(shape=(*indices.shape[:-1], *rest), batch_axis=axis)


def scatter(data: TensorType, indices: TensorType, updates: TensorType, a: at.ScatterAttributes) -> TensorType:
    """Replace some elements; the type stays."""
    if a.kind is at.GatherKind.ELEMENTS:
        fits = indices.shape == updates.shape and len(indices.shape) == len(data.shape)
    else:
        depth = indices.shape[-1] if indices.shape else len(data.shape) + 1
        fits = depth <= len(data.shape) and updates.shape == (*indices.shape[:-1], *data.shape[depth:])
    if not fits:
        raise InputError(
            f"updates {list(updates.shape)} at indices {list(indices.shape)} do not fit the data {list(data.shape)}"
        )
    return data


def sort(x: TensorType, a: at.SortAttributes) -> list[TensorType]:
    """Values and indices."""
    if not 0 <= a.axis < len(x.shape) or not 1 <= a.count <= x.shape[a.axis]:
        raise InputError(f"cannot take the first {a.count} along axis {a.axis} of {list(x.shape)}")
    if a.axis == x.batch_axis:
        raise InputError("sorting along the batch mixes samples")
    made = TensorType(
        shape=tuple(a.count if i == a.axis else s for i, s in enumerate(x.shape)), batch_axis=x.batch_axis
    )
    return [made, made]


def grid_sample(x: TensorType, grid: TensorType) -> TensorType:
    """[batch, channel, *space out]."""
    rank = len(x.shape) - 2
    if rank < 1 or len(grid.shape) != len(x.shape) or grid.shape[-1] != rank or grid.shape[0] != x.shape[0]:
        raise InputError(f"a grid of shape {list(grid.shape)} does not fit the ifmap {list(x.shape)}")
    return TensorType(shape=(*x.shape[:2], *grid.shape[1:-1]), batch_axis=_first_only(x))


def _first_only(x: TensorType) -> int | None:
    return 0 if x.batch_axis == 0 else None


def _keep(x: TensorType, axes_kept: int) -> int | None:
    return x.batch_axis if x.batch_axis is not None and x.batch_axis < axes_kept else None
