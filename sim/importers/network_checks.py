"""Says whether a layer that was read from a file can exist: sizes, words and counts of its attributes, and its shapes.

Importers that translate a framework's operators make only sound layers; a file states attributes itself, so that a stride of
zero or a filter of another rank must be refused here. Rules go by the attributes' field names; a new field of a new operator
without a rule here is still held to the shapes that it implies.
"""

from collections.abc import Mapping
from math import isfinite, prod
from typing import Any

from picojoule.sim import attributes as at
from picojoule.sim.attributes import ElementwiseKind as Ew
from picojoule.sim.builder import infer_types
from picojoule.sim.dataclass_json import short
from picojoule.sim.errors import InputError, unknown_choice
from picojoule.sim.formats import DENSE, FormatKind, NumberFormat, Sparsity, Structure
from picojoule.sim.ir import Layer, Operand, OperandKind, TensorType

_LARGEST_RANK = 32
_LARGEST_ELEMENTS = 2**48
"""Elements of one value or tensor, as `ir.check_network` has it."""
_POSITIVE = (
    "stride",
    "dilation",
    "kernel",
    "groups",
    "offset_groups",
    "output_size",
    "sizes",
    "hidden",
    "count",
    "size",
)
_NOT_NEGATIVE = ("padding_begin", "padding_end", "output_padding", "batch_axes")
_PER_AXIS = ("stride", "dilation", "padding_begin", "padding_end", "kernel")
"""Lists with one entry per spatial axis."""
_DTYPES = (
    "bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64",
)  # fmt: skip
_WORDS: Mapping[tuple[type[Any], str], tuple[str, ...]] = {
    (at.PadAttributes, "mode"): ("constant", "edge", "reflect", "wrap"),
    (at.ResizeAttributes, "mode"): ("nearest", "linear", "cubic"),
    (at.ResizeAttributes, "coordinates"): ("asymmetric", "half_pixel", "align_corners"),
    (at.ResizeAttributes, "nearest_rounding"): ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil"),
    (at.ScatterAttributes, "reduction"): ("none", "add", "mul", "max", "min"),
    (at.GridSampleAttributes, "mode"): ("linear", "nearest", "cubic"),
    (at.GridSampleAttributes, "padding"): ("zeros", "border", "reflection"),
    (at.ElementwiseAttributes, "dtype"): _DTYPES,
}


def check_layer(layer: Layer, where: str) -> None:
    """Refuse a layer that cannot be.

    Raises:
        InputError: beginning with `where`.

    """
    if not layer.name:
        raise InputError(f"{where}: a layer needs a name")
    if not (isfinite(layer.execution.share) and 0 <= layer.execution.share <= 1):
        raise InputError(f"{where}.execution.share: must lie between 0 and 1, got {layer.execution.share}")
    least, most = _operand_counts(layer)
    if not least <= len(layer.operands) <= most:
        needs = f"{least}" if least == most else f"{least} to {most}" if most < _ANY else f"at least {least}"
        raise InputError(f"{where}.operands: '{layer.op}' needs {needs}, got {len(layer.operands)}")
    if not layer.results:
        raise InputError(f"{where}.results: a layer makes at least one value, got none")
    for i, operand in enumerate(layer.operands):
        _check_operand(operand, f"{where}.operands[{i}]")
    for i, result in enumerate(layer.results):
        check_type(result.type, result.format, f"{where}.results[{i}]")
    _check_attributes(layer, f"{where}.attributes")
    _check_shapes(layer, where)


_ANY = 1 << 30


def _operand_counts(layer: Layer) -> tuple[int, int]:
    """Return the least and the largest number of operands."""
    a = layer.attributes
    match a:
        case at.ConvAttributes() | at.LinearAttributes():
            return 2, 3
        case at.DeformConvAttributes():
            return (3 + a.has_mask + a.has_bias,) * 2
        case at.MatmulAttributes() | at.EmbeddingAttributes() | at.GatherAttributes() | at.GridSampleAttributes():
            return 2, 2
        case at.ScatterAttributes():
            return 3, 3
        case at.NormAttributes():
            return (5, 5) if a.kind is at.NormKind.BATCH else (1, 1 + a.has_scale + a.has_bias)
        case at.RecurrentAttributes():
            states = 2 if a.kind is at.RecurrentKind.LSTM else 1
            return (2 + a.has_bias + (states if a.has_state else 0),) * 2
        case at.QuantizeAttributes():
            return (1, 1) if a.kind is at.QuantizeKind.DYNAMIC else (2 + a.has_zero_point,) * 2
        case at.OpaqueAttributes():
            return 0, _ANY
        case at.ConcatAttributes():
            return 1, _ANY
        case at.ElementwiseAttributes():
            if a.kind in _VARIADIC:
                return 1, _ANY
            return (2 if a.kind in _BINARY else 3 if a.kind is Ew.WHERE else 1,) * 2
        case _:
            return 1, 1


_VARIADIC = frozenset({Ew.ADD, Ew.MUL, Ew.MAXIMUM, Ew.MINIMUM, Ew.AND, Ew.OR, Ew.XOR})
_BINARY = frozenset(
    {
        Ew.SUB,
        Ew.DIV,
        Ew.POW,
        Ew.MOD,
        Ew.FMOD,
        Ew.FLOOR_DIVIDE,
        Ew.EQUAL,
        Ew.NOT_EQUAL,
        Ew.LESS,
        Ew.GREATER,
        Ew.LESS_EQUAL,
    }
    | {Ew.GREATER_EQUAL}
)


def check_type(kind: TensorType, form: NumberFormat | None, where: str) -> None:
    """Refuse a type with negative or absurd sizes, a batch axis that is none of its axes, or a format of absurd bits."""
    if len(kind.shape) > _LARGEST_RANK or any(s < 0 for s in kind.shape) or prod(kind.shape) > _LARGEST_ELEMENTS:
        raise InputError(
            f"{where}.type.shape: must be at most {_LARGEST_RANK} sizes of at least 0 with 2^48 elements at most, got "
            f"{short(str(list(kind.shape)))}"
        )
    if kind.batch_axis is not None and not 0 <= kind.batch_axis < len(kind.shape):
        raise InputError(f"{where}.type.batch_axis: a value of {len(kind.shape)} axes has no axis {kind.batch_axis}")
    if form is not None:
        _check_format(form, f"{where}.format")


def _check_format(form: NumberFormat, where: str) -> None:
    if not 1 <= form.bits <= 64 or (form.kind is FormatKind.INTEGER and form.signed and form.bits < 2):
        raise InputError(f"{where}.bits: must be between 1 and 64 (2 with a sign), got {form.bits}")
    parts = {"exponent_bits": form.exponent_bits, "mantissa_bits": form.mantissa_bits, "block": form.block}
    for name, value in parts.items():
        if value is not None and not 0 <= value <= (1 << 20 if name == "block" else 64):
            raise InputError(f"{where}.{name}: is out of range, got {value}")
    if form.kind is FormatKind.FLOAT and not (form.exponent_bits and form.exponent_bits <= 15):
        raise InputError(f"{where}.exponent_bits: a float has 1 to 15, got {form.exponent_bits}")


def _check_operand(operand: Operand, where: str) -> None:
    check_type(operand.type, operand.format, where)
    if operand.weights is not None and operand.weights.shape != operand.shape:
        raise InputError(
            f"{where}.weights: the tensor has shape {list(operand.weights.shape)}, the operand {list(operand.shape)}"
        )
    if operand.weights is not None and operand.kind is OperandKind.ACTIVATION:
        raise InputError(f"{where}.weights: an activation is computed and has no stored values")
    if operand.step is not None and not (operand.step and all(isfinite(s) and s > 0 for s in operand.step)):
        raise InputError(f"{where}.step: must be finite numbers above 0, got {short(str(list(operand.step)))}")
    if operand.sparsity != DENSE:
        _check_sparsity(operand.sparsity, f"{where}.sparsity")


def _check_sparsity(found: Sparsity, where: str) -> None:
    if not (isfinite(found.density) and 0 <= found.density <= 1):
        raise InputError(f"{where}.density: is the share of non-zeros, between 0 and 1, got {found.density}")
    pair = (found.n, found.m)
    if found.structure is Structure.N_OF_M and not (found.n and found.m and 1 <= found.n <= found.m):
        raise InputError(f"{where}: N:M sparsity keeps N of M with 1 <= N <= M, got {pair}")
    if found.structure is Structure.BLOCK and not (found.block and min(found.block) >= 1):
        raise InputError(f"{where}.block: must be rows and columns of at least 1, got {found.block}")


def _check_attributes(layer: Layer, where: str) -> None:
    a = layer.attributes
    rank = len(layer.operands[0].shape) if layer.operands else 0
    for name in type(a).__dataclass_fields__:
        value = getattr(a, name)
        numbers = value if isinstance(value, tuple) else (value,)
        if value is None or isinstance(value, bool):
            continue
        if name in _POSITIVE and any(v < 1 for v in numbers):
            raise InputError(f"{where}.{name}: must be at least 1, got {_plain(value)}")
        if name in _NOT_NEGATIVE and any(v < 0 for v in numbers):
            raise InputError(f"{where}.{name}: must not be negative, got {_plain(value)}")
        if name == "axis" and not -rank <= value < rank:
            raise InputError(f"{where}.axis: a value of {rank} axes has no axis {value}")
        if name == "axes" and isinstance(value, tuple) and any(not 0 <= v < rank for v in value):
            raise InputError(f"{where}.axes: a value of {rank} axes has no such axes: {_plain(value)}")
        if name == "axes" and not isinstance(value, tuple) and not 1 <= value <= rank:
            raise InputError(f"{where}.axes: must be between 1 and {rank}, got {value}")
        if name == "steps" and any(v == 0 for v in numbers):
            raise InputError(f"{where}.steps: must not be 0, got {_plain(value)}")
        if name == "scales" and value and (len(value) != rank or not all(isfinite(v) and v > 0 for v in value)):
            raise InputError(f"{where}.scales: must be {rank} numbers above 0, one per axis, got {_plain(value)}")
        words = _WORDS.get((type(a), name))
        if words is not None and value not in words:
            raise InputError(f"{where}.{name}: {unknown_choice('word', short(str(value)), words)}")
    _check_lengths(layer, where)


def _check_lengths(layer: Layer, where: str) -> None:
    """Refuse lists of one entry per spatial axis that have another number of entries than the window has axes."""
    a = layer.attributes
    if isinstance(a, at.ConvAttributes | at.DeformConvAttributes):
        rank = len(layer.operands[1].shape) - 2
        filters = layer.operands[1].shape
        if rank < 1 or filters[0] % a.groups or filters[0] < a.groups:
            raise InputError(f"{where}.groups: {a.groups} groups do not fit a filter of shape {list(filters)}")
        optional = getattr(a, "output_padding", ())
        if optional and len(optional) != rank:
            raise InputError(
                f"{where}.output_padding: needs {rank} entries, one per spatial axis, got {_plain(optional)}"
            )
    elif isinstance(a, at.PoolAttributes):
        rank = len(a.kernel)
        space = rank or len(a.output_size)
        if bool(rank) == bool(a.output_size) or not 1 <= space <= len(layer.operands[0].shape):
            raise InputError(f"{where}: a pool has a kernel or an output_size, of as many axes as its operand or fewer")
    else:
        return
    for name in _PER_AXIS:
        value = getattr(a, name, None)
        if value is not None and len(value) != rank:
            raise InputError(f"{where}.{name}: needs {rank} entries, one per spatial axis, got {_plain(value)}")


def _check_shapes(layer: Layer, where: str) -> None:
    try:
        inferred = infer_types(layer.op, layer.operands, layer.attributes)
        if inferred is None:
            inferred = _stated(layer)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError):
        shapes = [list(o.shape) for o in layer.operands]
        raise InputError(f"{where}: its attributes do not fit operands of shapes {short(str(shapes))}") from None
    ours, theirs = [list(t.shape) for t in inferred], [list(r.shape) for r in layer.results]
    if ours != theirs:
        raise InputError(
            f"{where}: its results are said to be {short(str(theirs))}, by its operands they are {short(str(ours))}"
        )


def _stated(layer: Layer) -> list[TensorType]:
    """Return the result types of operators whose results are part of their definition, where those can be."""
    types = [r.type for r in layer.results]
    if layer.op is at.Op.OPAQUE:
        return types
    x, y = layer.operands[0].shape, types[0].shape
    if layer.op is at.Op.RESHAPE and prod(x) != prod(y):
        raise InputError(f"cannot reshape {list(x)} to {list(y)}")
    if layer.op is at.Op.EXPAND and (
        len(x) > len(y) or any(s not in (1, t) for s, t in zip(reversed(x), reversed(y), strict=False))
    ):
        raise InputError(f"cannot expand {list(x)} to {list(y)}")
    if layer.op is at.Op.RESIZE and len(x) != len(y):
        raise InputError(f"cannot resize {list(x)} to {list(y)}")
    return types[:1]


def _plain(value: Any) -> str:
    return short(str(list(value) if isinstance(value, tuple) else value))
