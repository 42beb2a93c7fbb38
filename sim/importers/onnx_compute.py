"""ONNX operators that multiply: convolutions and matrix products.

Each handler reads a node's inputs, adds layers, and returns the node's results. Semantics: ONNX operator reference.
"""

from dataclasses import replace
from math import prod

import numpy as np

from picojoule.sim import attributes as at
from picojoule.sim.attributes import Op
from picojoule.sim.builder import constant
from picojoule.sim.errors import InputError
from picojoule.sim.importers.onnx_scope import Results, Scope
from picojoule.sim.importers.onnx_values import Array, BatchError, Fixed, Ints, Node, UnhandledError, Value
from picojoule.sim.ir import Operand
from picojoule.sim.shapes import reshape


def window(
    scope: Scope, node: Node, kernel: Ints, size: Ints, *, transposed: bool = False
) -> tuple[Ints, Ints, Ints, Ints, Ints]:
    """Return (stride, padding_begin, padding_end, dilation, output_padding) of a sliding window over `size`."""
    rank = len(kernel)
    stride, dilation = node.ints("strides", (1,) * rank), node.ints("dilations", (1,) * rank)
    pads = node.ints("pads", (0,) * 2 * rank)
    extra = node.ints("output_padding", (0,) * rank)
    for key, values, least, count in (
        ("kernel_shape", kernel, 1, len(size)),
        ("strides", stride, 1, rank),
        ("dilations", dilation, 1, rank),
        ("pads", pads, 0, 2 * rank),
        ("output_padding", extra, 0, rank),
    ):
        if len(values) != count or any(v < least for v in values):
            raise InputError(
                f"{scope.where(node)}: {key} needs {count} numbers of at least {least}, got {list(values)}"
            )
    auto = node.text("auto_pad", "NOTSET")
    if auto not in ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"):
        raise InputError(f"{scope.where(node)}: auto_pad must be NOTSET, SAME_UPPER, SAME_LOWER or VALID, got '{auto}'")
    if transposed and (auto.startswith("SAME") or "output_shape" in node.attributes):
        begin, end, extra = _transposed_padding(scope, node, kernel, size, stride, dilation, extra, auto)
    elif auto.startswith("SAME"):
        span = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
        total = [max((-(-s // t) - 1) * t + w - s, 0) for s, t, w in zip(size, stride, span, strict=True)]
        begin, end = _halves(total, begin_larger=auto == "SAME_LOWER")
    elif auto == "VALID":
        begin = end = (0,) * rank
    else:
        begin, end = pads[:rank], pads[rank:]
    return stride, begin, end, dilation, extra


def _halves(total: list[int], *, begin_larger: bool) -> tuple[Ints, Ints]:
    small, large = tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
    return (large, small) if begin_larger else (small, large)


def _transposed_padding(
    scope: Scope, node: Node, kernel: Ints, size: Ints, stride: Ints, dilation: Ints, extra: Ints, auto: str
) -> tuple[Ints, Ints, Ints]:
    """Return the padding that gives a wanted output size; what padding cannot give lengthens the result."""
    target = node.ints("output_shape", tuple(s * t for s, t in zip(size, stride, strict=True)))[-len(size) :]
    if len(target) != len(size):
        raise InputError(f"{scope.where(node)}: output_shape needs {len(size)} sizes, got {list(target)}")
    total = [
        stride[i] * (size[i] - 1) + extra[i] + (kernel[i] - 1) * dilation[i] + 1 - target[i] for i in range(len(size))
    ]
    begin, end = _halves([max(t, 0) for t in total], begin_larger=auto != "SAME_UPPER")
    return begin, end, tuple(e + max(-t, 0) for e, t in zip(extra, total, strict=True))


def _filter(scope: Scope, node: Node) -> tuple[Operand, Operand, Ints]:
    """Return ifmap, filter and the window, checked against each other."""
    x, weight = scope.operand(node, 0), _stored_filter(scope, node)
    if not 3 <= len(weight.shape) <= 5 or len(x.shape) != len(weight.shape):
        raise InputError(
            f"{scope.where(node)} needs an ifmap and a filter of 3 to 5 axes alike, "
            f"got {list(x.shape)} and {list(weight.shape)}"
        )
    kernel = weight.shape[2:]
    if node.ints("kernel_shape", kernel) != kernel:
        raise InputError(
            f"{scope.where(node)}: kernel_shape {list(node.ints('kernel_shape'))} does not fit "
            f"its filter {list(weight.shape)}"
        )
    return x, weight, kernel


def _stored_filter(scope: Scope, node: Node) -> Operand:
    """Return the filter; stored steps count per output channel."""
    value = scope.value(node, 1)
    if not isinstance(value, Fixed) or value.at_two is not None:
        return scope.weight(node, 1)
    transposed = node.op == "ConvTranspose"
    grouped = transposed and node.integer("group", 1) > 1  # no axis of such a filter counts all output channels
    axis = None if grouped else 1 if transposed else 0
    return scope.stored_operand(value, value.weights, channel_axis=axis)


def _groups(scope: Scope, node: Node, weight: Operand, key: str = "group") -> int:
    groups = node.integer(key, 1)
    if groups < 1 or (key == "group" and weight.shape[0] % groups):
        raise InputError(f"{scope.where(node)}: {key} {groups} does not divide its filter {list(weight.shape)}")
    return groups


def conv(scope: Scope, node: Node) -> Results:
    """Conv and ConvTranspose over one to three axes."""
    transposed = node.op == "ConvTranspose"
    x, weight, kernel = _filter(scope, node)
    groups = _groups(scope, node, weight)
    stride, begin, end, dilation, extra = window(scope, node, kernel, x.shape[2:], transposed=transposed)
    attributes = at.ConvAttributes(
        stride=stride,
        padding_begin=begin,
        padding_end=end,
        dilation=dilation,
        groups=groups,
        transposed=transposed,
        output_padding=extra if transposed else (),
    )
    bias = [scope.weight(node, 2)] if node.has(2) else []
    channels = weight.shape[1] * groups if transposed else weight.shape[0]
    if bias and bias[0].shape != (channels,):
        raise InputError(f"{scope.where(node)} has {channels} filters but a bias of shape {list(bias[0].shape)}")
    return scope.emit(node, Op.CONV, [x, weight, *bias], attributes)


def deform_conv(scope: Scope, node: Node) -> Results:
    """DeformConv; operands in the order ifmap, filter, offset[, mask][, bias]."""
    x, weight, kernel = _filter(scope, node)
    if len(kernel) != 2:
        raise UnhandledError("deformable convolution is known in two dimensions only")
    stride, begin, end, dilation, _ = window(scope, node, kernel, x.shape[2:])
    attributes = at.DeformConvAttributes(
        stride=stride,
        padding_begin=begin,
        padding_end=end,
        dilation=dilation,
        groups=_groups(scope, node, weight),
        offset_groups=_groups(scope, node, weight, "offset_group"),
        has_mask=node.has(4),
        has_bias=node.has(3),
    )
    operands = [x, weight, scope.operand(node, 2)]
    operands += [scope.operand(node, 4)] if node.has(4) else []
    operands += [scope.weight(node, 3)] if node.has(3) else []
    return scope.emit(node, Op.DEFORM_CONV, operands, attributes)


def gemm(scope: Scope, node: Node) -> Results:
    """Alpha A' B' + beta C: linear when B is stored, else a product of two activations and an addition."""
    a, b = scope.operand(node, 0), scope.value(node, 1)
    if len(a.shape) != 2 or len(b.shape) != 2:
        raise InputError(f"{scope.where(node)} multiplies matrices, got {list(a.shape)} and {list(b.shape)}")
    alpha, beta = node.real("alpha", 1.0), node.real("beta", 1.0)
    if node.integer("transA", 0):
        a = scope.emit(node, Op.TRANSPOSE, [a], at.TransposeAttributes(permutation=(1, 0)), step="transpose_a")[0]
    c = scope.value(node, 2) if node.has(2) and beta != 0.0 else None
    if isinstance(b, Fixed) and b.at_two is None:
        features = b.shape[0] if node.integer("transB", 0) else b.shape[1]
        bias = _bias(scope, node, c, features, beta)
        operands = [a, _out_in(scope, b, alpha, transpose=not node.integer("transB", 0)), *([bias] if bias else [])]
        rest = None if bias else c
        made = scope.emit(node, Op.LINEAR, operands, at.LinearAttributes(), step="product" if rest else "")
    else:
        right = scope.as_operand(node, b, trained=True)
        if node.integer("transB", 0):
            swap = at.TransposeAttributes(permutation=(1, 0))
            right = scope.emit(node, Op.TRANSPOSE, [right], swap, step="transpose_b")[0]
        rest = c
        plain = alpha == 1.0
        made = scope.emit(
            node, Op.MATMUL, [a, right], at.MatmulAttributes(), step="" if plain and rest is None else "product"
        )
        if not plain:
            made = _times(scope, node, made[0], alpha, step="" if rest is None else "alpha")
    if rest is None:
        return made
    addend = scope.as_operand(node, rest, trained=True)
    if beta != 1.0:
        addend = _times(scope, node, addend, beta, step="beta")[0]
    return scope.emit(node, Op.ELEMENTWISE, [made[0], addend], at.ElementwiseAttributes(kind=at.ElementwiseKind.ADD))


def _times(scope: Scope, node: Node, x: Operand, factor: float, *, step: str) -> tuple[Operand, ...]:
    scale = constant(f"constant {factor:.9g}", np.array(factor, np.float32))
    return scope.emit(
        node, Op.ELEMENTWISE, [x, scale], at.ElementwiseAttributes(kind=at.ElementwiseKind.MUL), step=step
    )


def _out_in(scope: Scope, b: Fixed, alpha: float, *, transpose: bool) -> Operand:
    """Return a stored matrix as [out, in], scaled by alpha, without loading it."""
    if transpose and b.turned is not None:
        b, transpose = b.turned, False
    if not transpose and alpha == 1.0:
        return scope.stored_operand(b, b.weights, channel_axis=0)

    def change(values: Array) -> Array:
        turned = values.T if transpose else values
        return turned if alpha == 1.0 else (turned * alpha).astype(values.dtype)

    form = ("transposed" if transpose else "") + ("" if alpha == 1.0 else f" times {alpha:g}")
    weights = b.mapped(b.shape[::-1] if transpose else b.shape, change)
    made = scope.stored_operand(b, weights, form.strip(), channel_axis=1 if transpose else 0)
    return made if alpha == 1.0 else replace(made, step=None)


def _bias(scope: Scope, node: Node, c: Value | None, features: int, beta: float) -> Operand | None:
    """Return a Gemm's addend as a bias of [features], or None where it is none (a matrix, an activation)."""
    if (
        not isinstance(c, Fixed)
        or c.at_two is not None
        or prod(c.shape[:-1]) != 1
        or c.shape[-1:] not in ((), (1,), (features,))
    ):
        return None

    def change(values: Array) -> Array:
        flat = np.broadcast_to(values.reshape(-1), (features,))
        return flat if beta == 1.0 else (flat * beta).astype(values.dtype)

    plain = beta == 1.0 and c.shape == (features,)
    if plain:
        return scope.stored_operand(c, c.weights)
    return scope.stored_operand(c, c.mapped((features,), change), f"bias of {features} times {beta:g}")


def matmul(scope: Scope, node: Node) -> Results:
    """MatMul: linear when the right operand is a stored matrix; a following addition of a stored vector is its bias.

    A lowered product may bring that vector as its third input.
    """
    left, b = scope.operand(node, 0), scope.value(node, 1)
    if isinstance(b, Fixed) and b.at_two is None and len(b.shape) == 2:
        operands = [left, _out_in(scope, b, 1.0, transpose=True)]
        given = _vector(scope, node, b.shape[1]) if node.has(2) else None
        if given is not None:
            return scope.emit(node, Op.LINEAR, [*operands, given], at.LinearAttributes())
        if node.has(2):
            return _then_add(scope, node, operands[0], b)
        follower, bias = _following_bias(scope, node, b.shape[1])
        if follower is None or bias is None:
            return scope.emit(node, Op.LINEAR, operands, at.LinearAttributes())
        made = scope.builder.add(
            Op.LINEAR,
            [*operands, bias],
            at.LinearAttributes(),
            name=node.name,
            source=node.source,
            value_names=[follower.outputs[0]],
        )
        scope.absorbed[follower.outputs[0]] = made[0]
        return made
    if node.has(2):
        return _then_add(scope, node, left, b)
    if isinstance(b, Fixed) and b.at_two is None:
        right = scope.stored_operand(b, b.weights, channel_axis=len(b.shape) - 1)
    else:
        right = scope.as_operand(node, b, trained=True)
    if isinstance(scope.value(node, 0), Fixed):
        left = scope.weight(node, 0)
    if len(left.shape) == len(right.shape) == 1:
        return _vectors(scope, node, left, right)
    if len(left.shape) < 2 or len(right.shape) < 2:
        return _vector_product(scope, node, left, right)
    return scope.emit(node, Op.MATMUL, [left, right], at.MatmulAttributes())


def _vector(scope: Scope, node: Node, features: int) -> Operand | None:
    """Return the third input as a bias, where it is a stored vector."""
    value = scope.value(node, 2)
    if isinstance(value, Fixed) and value.at_two is None and value.floating and value.shape == (features,):
        return scope.stored_operand(value, value.weights)
    return None


def _then_add(scope: Scope, node: Node, left: Operand, right: Value) -> Results:
    product = scope.lower(node, "MatMul", [left, right], "product")
    return (scope.lower(node, "Add", [product, scope.value(node, 2)]),)


def _vectors(scope: Scope, node: Node, left: Operand, right: Operand) -> Results:
    """Multiply two vectors: a row by a column."""
    if left.type.batch_axis is not None or right.type.batch_axis is not None:
        raise BatchError("it sums over the batch")
    row = scope.reshaped(node, left, (1, *left.shape), "row")
    column = scope.reshaped(node, right, (*right.shape, 1), "column")
    made = scope.emit(node, Op.MATMUL, [row, column], at.MatmulAttributes(), step="product")[0]
    return (scope.reshaped(node, made, ()),)


def _vector_product(scope: Scope, node: Node, left: Operand, right: Operand) -> Results:
    """Matrix by vector or vector by matrix: the vector becomes a matrix and the result loses that axis."""
    vector, matrix = (left, right) if len(left.shape) < 2 else (right, left)
    if vector.type.batch_axis is not None:
        raise BatchError("it multiplies by a vector along the batch")
    shape = (1, *vector.shape) if vector is left else (*vector.shape, 1)
    wide = scope.emit(
        node, Op.RESHAPE, [vector], at.ReshapeAttributes(), types=[reshape(vector.type, shape)], step="matrix"
    )[0]
    pair = [wide, matrix] if vector is left else [matrix, wide]
    made = scope.emit(node, Op.MATMUL, pair, at.MatmulAttributes(), step="product")[0]
    rest = (*made.shape[:-2], made.shape[-1]) if vector is left else made.shape[:-1]
    return scope.emit(node, Op.RESHAPE, [made], at.ReshapeAttributes(), types=[reshape(made.type, rest)])


def _following_bias(scope: Scope, node: Node, features: int) -> tuple[Node | None, Operand | None]:
    """Return the only reader of a product and the stored vector that it adds, or nothing."""
    follower = scope.sole_user.get(node.outputs[0])
    if follower is None or follower.op != "Add" or follower.domain:
        return None, None
    other = [name for name in follower.inputs if name != node.outputs[0]]
    value = scope.values.get(other[0]) if len(other) == 1 else None
    if isinstance(value, Fixed) and value.at_two is None and value.floating and value.shape == (features,):
        return follower, scope.stored_operand(value, value.weights)
    return None, None
