"""QuantizeLinear and DequantizeLinear as number formats: stored weights are folded, activations pass through free layers.

A dequantised weight is a real tensor that knows its format and step. Codes whose zero point is the middle of an unsigned range
are the signed codes they stand for; other zero points leave the step unknown, which a remark says.
Semantics: ONNX operator reference, opset 10 and later (blocks since 21).
"""

from collections.abc import Callable
from dataclasses import replace
from math import prod

import numpy as np
import onnx

from picojoule.sim import attributes as at
from picojoule.sim.attributes import Op, QuantizeKind
from picojoule.sim.errors import InputError
from picojoule.sim.formats import FormatKind, NumberFormat, integer_format
from picojoule.sim.importers.onnx_file import numpy_dtype, tensor_format
from picojoule.sim.importers.onnx_scope import Results, Scope
from picojoule.sim.importers.onnx_values import Array, Fixed, Node, UnhandledError, Value
from picojoule.sim.ir import Operand
from picojoule.sim.weights import Weights

_UINT8 = integer_format(8, signed=False)
_LARGEST_LISTED = 1 << 16
"""Steps of one tensor that are kept one by one."""


def code_range(form: NumberFormat) -> tuple[int, int]:
    """Return the smallest and largest code of ONNX integers, which use the most negative one too."""
    return (-(1 << (form.bits - 1)), (1 << (form.bits - 1)) - 1) if form.signed else (0, (1 << form.bits) - 1)


def _code_dtype(form: NumberFormat) -> np.dtype[np.generic]:
    width = 8 if form.bits <= 8 else 16 if form.bits <= 16 else 32
    return np.dtype(f"{'int' if form.signed else 'uint'}{width}")


def _format_of(scope: Scope, node: Node, position: int) -> NumberFormat:
    """Return the format of the codes at an input."""
    value = scope.value(node, position)
    if value.format is not None:
        return value.format
    dtype = value.dtype if isinstance(value, Fixed) else scope.dtypes.get(node.inputs[position], np.dtype(np.float32))
    if dtype.kind not in "iu" or dtype.itemsize > 4:
        narrow = tensor_format(onnx.helper.np_dtype_to_tensor_dtype(dtype))
        if narrow is None:
            raise UnhandledError(f"its codes are {dtype}")
        return narrow
    return integer_format(8 * dtype.itemsize, signed=dtype.kind == "i")


def _axis(scope: Scope, node: Node, value: Value) -> int | None:
    """Return the axis along which scales differ, or None for one scale."""
    scale = scope.value(node, 1)
    if prod(scale.shape) == 1:
        return None
    axis = scope.axis(node, node.integer("axis", 1), len(value.shape))
    if len(scale.shape) == 1 and scale.shape[0] != value.shape[axis]:
        raise InputError(
            f"{scope.where(node)} has {scale.shape[0]} scales for the {value.shape[axis]} elements of axis {axis}"
        )
    return axis


def _spread(values: Array, shape: tuple[int, ...], axis: int | None, block: int) -> Array:
    """Return scales or zero points shaped to broadcast against a tensor of `shape`."""
    if axis is None:
        return values.reshape(())
    if values.ndim == 1 and not block:
        return values.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    if values.size * block > max(1 << 24, 2 * prod(shape)):
        raise ValueError(f"blocks of {block} are more than {list(shape)} holds")
    repeated = np.repeat(values, block, axis=axis)
    return repeated[tuple(slice(0, s) for s in shape)]


# --- quantise ---------------------------------------------------------------------------------------------------------------


def quantize(scope: Scope, node: Node) -> Results:
    """QuantizeLinear: codes of a stored tensor, or a layer that makes the codes of an activation."""
    x, form = scope.value(node, 0), _target(scope, node)
    if form.kind is not FormatKind.INTEGER:
        raise UnhandledError(f"it quantises to {form}")
    axis, dtype = _axis(scope, node, x), _code_dtype(form)
    low, high = code_range(form)
    scope.declare(node, dtype)
    if isinstance(x, Fixed) and x.at_two is None:
        scale, zero = _parameters(scope, node)

        def codes(values: Array) -> Array:
            s, z = (_spread(v, values.shape, axis, block) for v in (scale, zero))
            return np.asarray(np.clip(np.rint(values / s) + z, low, high).astype(dtype))

        block = _block(scope, node, x, axis)
        return (
            Fixed(name=node.outputs[0], weights=x.mapped(x.shape, codes), dtype=dtype, stored=x.stored, format=form),
        )
    value = replace(scope.as_operand(node, x, trained=False), format=form)
    return _layer(scope, node, QuantizeKind.QUANTIZE, value, form, axis)


def _target(scope: Scope, node: Node) -> NumberFormat:
    if node.has(2):
        return _format_of(scope, node, 2)
    code = node.integer("output_dtype", 0)
    if not code:
        return _UINT8
    numpy_dtype(code, scope.where(node))
    form = tensor_format(code)
    if form is None:
        raise UnhandledError(f"its output_dtype is {onnx.TensorProto.DataType.Name(code)}")
    return form


def _parameters(scope: Scope, node: Node) -> tuple[Array, Array]:
    scale = scope.fixed(node, 1).array().astype(np.float64)
    if not np.all(np.isfinite(scale)) or np.any(scale == 0):
        raise InputError(f"{scope.where(node)} has a scale of zero or not finite; the file is damaged")
    zero = scope.fixed(node, 2).array().astype(np.float64) if node.has(2) else np.zeros_like(scale)
    if zero.shape != scale.shape and zero.size != scale.size:
        raise InputError(f"{scope.where(node)} has {scale.size} scales but {zero.size} zero points")
    return scale, zero.reshape(scale.shape)


def _block(scope: Scope, node: Node, x: Value, axis: int | None) -> int:
    """Return how many elements of the axis share a scale, 0 for one scale per element."""
    scale = scope.value(node, 1)
    if axis is None or len(scale.shape) == 1:
        return 0
    block = node.integer("block_size", 0)
    wanted = tuple(-(-s // block) if i == axis else s for i, s in enumerate(x.shape)) if block > 0 else ()
    if scale.shape != wanted:
        raise InputError(
            f"{scope.where(node)}: scales of shape {list(scale.shape)} do not fit blocks of {block} of {list(x.shape)}"
        )
    return block


def _layer(
    scope: Scope, node: Node, kind: QuantizeKind, value: Operand, form: NumberFormat, axis: int | None
) -> Results:
    if len(scope.value(node, 1).shape) > 1:
        raise UnhandledError("its scales are per block of an activation")
    low, high = code_range(form)
    operands = [value, scope.operand(node, 1)]
    zero = scope.value(node, 2) if node.has(2) else None
    shifted = zero is not None and not (isinstance(zero, Fixed) and not zero.array().any())
    if shifted:
        operands.append(scope.operand(node, 2))
    made = at.QuantizeAttributes(kind=kind, low=low, high=high, axis=axis, has_zero_point=shifted)
    return scope.emit(node, Op.QUANTIZE, operands, made, formats=[form])


# --- dequantise -------------------------------------------------------------------------------------------------------------


def dequantize(scope: Scope, node: Node) -> Results:
    """DequantizeLinear: a stored tensor becomes real values in a known format, an activation passes a layer."""
    x, form = scope.value(node, 0), _format_of(scope, node, 0)
    axis = _axis(scope, node, x)
    scope.declare(node, np.float32)
    known = all(isinstance(scope.value(node, i), Fixed) for i in (1, 2) if node.has(i))
    if isinstance(x, Fixed) and x.at_two is None and known:
        return (_stored_values(scope, node, x, form, axis),)
    if form.kind is not FormatKind.INTEGER:
        raise UnhandledError(f"it dequantises activations in {form}")
    value = replace(scope.as_operand(node, x, trained=False), format=form)
    return _layer(scope, node, QuantizeKind.DEQUANTIZE, value, form, axis)


def _stored_values(scope: Scope, node: Node, codes: Fixed, form: NumberFormat, axis: int | None) -> Fixed:
    scale, zero = _parameters(scope, node)
    block = _block(scope, node, codes, axis)

    def values(held: Array) -> Array:
        s, z = (_spread(v, held.shape, axis, block) for v in (scale, zero))
        return np.asarray(((held.astype(np.float64) - z) * s).astype(np.float32))

    form, exact = _centred(form, zero)
    step = tuple(float(s) for s in np.abs(scale).reshape(-1)) if scale.size <= _LARGEST_LISTED else None
    if not exact or block or form.kind is not FormatKind.INTEGER:
        step = None
    if not exact:
        scope.builder.note(
            f"{codes.name}: its codes have a zero point, so hardware of symmetric integers rounds it anew to {form}"
        )
    elif block:
        scope.builder.note(
            f"{codes.name}: each {block} of its codes have a scale of their own, whose bits are not counted"
        )
    key = f"{scale.tobytes()!r} {zero.tobytes()!r} {axis} {block}"
    return Fixed(
        name=codes.name,
        weights=scope.derived(codes, key, lambda: codes.mapped(codes.shape, values)),
        dtype=np.dtype(np.float32),
        stored=codes.stored,
        format=form,
        step=step,
        step_axis=axis,
    )


def _centred(form: NumberFormat, zero: Array) -> tuple[NumberFormat, bool]:
    """Return the format of codes less their zero point, and whether they are plain integers."""
    if not zero.any():
        return form, True
    if form.kind is not FormatKind.INTEGER or form.bits < 2:
        return form, False
    return integer_format(form.bits), not form.signed and bool(np.all(zero == 1 << (form.bits - 1)))


_VIEWS = frozenset({"Identity", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Split"})


def viewed(node: Node, source: Fixed, made: Fixed) -> Fixed:
    """Return a view of a quantised tensor with its format, and its step where the axis of several steps is still there."""
    if source.format is None or node.op not in _VIEWS:
        return made
    made = replace(made, format=source.format)
    if source.step is None:
        return made
    if len(source.step) == 1:
        return replace(made, step=source.step)
    axis = _axis_after(node, source, made)
    return made if axis is None else replace(made, step=source.step, step_axis=axis)


def _axis_after(node: Node, source: Fixed, made: Fixed) -> int | None:
    axis = source.step_axis
    if axis is None:
        return None
    if node.op == "Transpose":
        order = node.ints("perm", tuple(reversed(range(len(source.shape)))))
        return order.index(axis)
    long = [[i for i, s in enumerate(shape) if s != 1] for shape in (source.shape, made.shape)]
    same = [source.shape[i] for i in long[0]] == [made.shape[i] for i in long[1]]
    return long[1][long[0].index(axis)] if same and axis in long[0] and node.op not in ("Slice", "Split") else None


def dynamic_quantize(scope: Scope, node: Node) -> Results:
    """DynamicQuantizeLinear: codes, scale and zero point from the values at hand."""
    x = scope.operand(node, 0)
    low, high = code_range(_UINT8)
    scope.declare(node, np.uint8, np.float32, np.uint8)
    made = at.QuantizeAttributes(kind=QuantizeKind.DYNAMIC, low=low, high=high)
    return scope.emit(node, Op.QUANTIZE, [x], made, results=3, formats=[_UINT8, None, None])


# --- packed weights ---------------------------------------------------------------------------------------------------------


def matmul_packed(scope: Scope, node: Node) -> Results:
    """com.microsoft MatMulNBits: weights of 2 to 8 bits, packed, with a scale (and zero point) per block of inputs."""
    out, inner = node.integer("N", 0), node.integer("K", 0)
    bits, block = node.integer("bits", 4), node.integer("block_size", 0)
    if node.has(4) or bits not in (2, 4, 8):
        raise UnhandledError(f"it has {bits} bits or reorders its inputs (g_idx)")
    packed, scale = scope.fixed(node, 1), scope.fixed(node, 2)
    if block < 16 or out < 1 or inner < 1:
        raise InputError(
            f"{scope.where(node)}: N {out}, K {inner} and block_size {block} are no sizes of packed weights"
        )
    blocks, stride = -(-inner // block), block * bits // 8
    if packed.weights.elements != out * blocks * stride or scale.weights.elements != out * blocks:
        raise InputError(
            f"{scope.where(node)}: {packed.weights.elements} packed bytes and {scale.weights.elements} scales do not fit "
            f"{out} x {inner} weights of {bits} bits in blocks of {block}"
        )
    zero = scope.fixed(node, 3) if node.has(3) else None
    form = integer_format(bits) if zero is None else integer_format(bits, signed=False)
    weights = Weights(shape=(out, inner), load=_unpacker(packed, scale, zero, out, inner, bits, block))
    scope.builder.note(
        f"{packed.name}: each {block} of its codes have a scale of their own, whose bits are not counted"
    )
    made = Fixed(name=packed.name, weights=weights, dtype=np.dtype(np.float32), stored=True, format=form)
    right = scope.lower(node, "Transpose", [made], "weight", perm=[1, 0])
    bias = scope.value(node, 5) if node.has(5) else None
    return (scope.lower(node, "MatMul", [scope.value(node, 0), right, bias]),)


def _unpacker(
    packed: Fixed, scale: Fixed, zero: Fixed | None, out: int, inner: int, bits: int, block: int
) -> Callable[[], Array]:
    per_byte, blocks = 8 // bits, -(-inner // block)

    def split(values: Array, count: int) -> Array:
        """Return `count` codes of each row of bytes, the low bits first."""
        shifts = np.arange(per_byte, dtype=np.uint8) * bits
        codes = (values[..., None] >> shifts) & ((1 << bits) - 1)
        return codes.reshape(*values.shape[:-1], -1)[..., :count]

    def load() -> Array:
        codes = split(packed.array().reshape(out, blocks, -1), block).astype(np.float32)
        if zero is None:
            middle: Array = np.full((out, blocks), float(1 << (bits - 1)), np.float32)
        elif zero.dtype == np.uint8:
            middle = split(zero.array().reshape(out, -1), blocks).astype(np.float32)
        else:
            middle = zero.array().reshape(out, blocks).astype(np.float32)
        scales = scale.array().reshape(out, blocks).astype(np.float32)
        values = (codes - middle[..., None]) * scales[..., None]
        return np.ascontiguousarray(values.reshape(out, -1)[:, :inner])

    return load
