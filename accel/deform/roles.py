"""What each layer is to the engine: 1x1, 3x3 window, full 3x3, something to lower, or the host's; and what absorbs it.

The requantiser behind either engine multiplies, shifts, adds a bias, cuts at zero and clamps: a batch norm, a ReLU or a clip
that alone follows an engine layer runs there. Other activations, and everything without multiply-accumulates, run on the host.
"""

from dataclasses import dataclass
from enum import StrEnum

from picojoule.accel.deform.spec import DeformSpec
from picojoule.sim.attributes import (
    ActivationAttributes,
    ActivationKind,
    ConvAttributes,
    DeformConvAttributes,
    NormAttributes,
    NormKind,
    Op,
)
from picojoule.sim.errors import InfeasibleError, UnsupportedError
from picojoule.sim.formats import NumberFormat
from picojoule.sim.ir import Layer, OperandKind

IMAGE_CHANNELS = 3
"""A k x k convolution of so few channels is one of an image, which `first_layer` places."""


class Role(StrEnum):
    """What runs a layer."""

    POINTWISE = "1x1 engine"
    WINDOW = "3x3 engine"
    FULL = "full 3x3 engine"
    LOWERED = "shifted 1x1 passes"
    HOST = "host"
    REQUANTISER = "requantiser"
    OFFSETS = "offset path"
    UNSUPPORTED = "unsupported"


ENGINE_ROLES = frozenset({Role.POINTWISE, Role.WINDOW, Role.FULL, Role.LOWERED})

ENGINE, HOST, UNSUPPORTED = "engine", "host", "unsupported"
UNIT_OF_OP: dict[str, str] = {
    op.value: ENGINE if op in (Op.CONV, Op.LINEAR, Op.DEFORM_CONV) else HOST for op in Op if op is not Op.OPAQUE
} | {Op.OPAQUE.value: UNSUPPORTED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A layer's role and, where it is the host, why (one clause with the remedy)."""

    role: Role
    reason: str = ""


def choose(layer: Layer, spec: DeformSpec) -> Choice:
    """Return what runs a layer, seen on its own (far sampling points and fusing are decided with the network)."""
    a = layer.attributes
    if layer.op is Op.OPAQUE:
        return Choice(role=Role.UNSUPPORTED)
    if layer.op is Op.LINEAR or _is_parameter_product(layer):
        return Choice(role=Role.POINTWISE)
    if isinstance(a, DeformConvAttributes):
        return _choose_deform(layer, a, spec)
    if isinstance(a, ConvAttributes):
        return _choose_conv(layer, a, spec)
    return Choice(role=Role.HOST)


def check_formats(layer: Layer, spec: DeformSpec, weight: NumberFormat, activation: NumberFormat) -> None:
    """Refuse formats the engine cannot multiply.

    Raises:
        UnsupportedError: for a format that is not integer.
        InfeasibleError: for more bits than the engine has.

    """
    limits = (("weight", weight, spec.weight_bits), ("activation", activation, spec.activation_bits))
    for what, form, bits in limits:
        if not form.is_integer:
            raise UnsupportedError(
                f"layer '{layer.name}': {what} format {form} does not run on the integer engine of "
                f"'{spec.name or spec.kind}'; quantise it to at most int{bits}"
            )
        if form.bits > bits:
            raise InfeasibleError(
                f"layer '{layer.name}': {what} format {form} needs {form.bits} bits but the engine of "
                f"'{spec.name or spec.kind}' has {bits}; set {what}_bits={form.bits} or use fewer bits"
            )


def is_requantised(layer: Layer, clamped: bool) -> bool:
    """Whether the requantiser can do a layer behind what it does already; scaling must come before clamping."""
    a = layer.attributes
    if isinstance(a, NormAttributes):
        return a.kind is NormKind.BATCH and not clamped
    return isinstance(a, ActivationAttributes) and a.kind in (ActivationKind.RELU, ActivationKind.CLIP)


def groups_of(layer: Layer) -> int:
    """Return the groups of a layer (1 for linear ones)."""
    a = layer.attributes
    return a.groups if isinstance(a, ConvAttributes | DeformConvAttributes) else 1


def channels_of(layer: Layer) -> tuple[int, int]:
    """Return (input, output) channels of a layer with weights."""
    shape = layer.operands[1].shape
    if layer.op is Op.MATMUL:
        return shape[0], shape[1]
    return shape[1] * groups_of(layer), shape[0]


def _is_parameter_product(layer: Layer) -> bool:
    if layer.op is not Op.MATMUL:
        return False
    x, weight = layer.operands[:2]
    return weight.kind is OperandKind.PARAMETER and len(weight.shape) == 2 and x.kind is OperandKind.ACTIVATION


def _choose_deform(layer: Layer, a: DeformConvAttributes, spec: DeformSpec) -> Choice:
    def host(why: str) -> Choice:
        return Choice(role=Role.HOST, reason=why)

    ic, oc = channels_of(layer)
    if a.has_mask:
        return host("the engine has no modulation; export with modulated=False")
    if a.offset_groups > 1:
        return host(f"the engine takes one set of offsets, not {a.offset_groups}; use offset_groups=1")
    if not _is_window(layer, a):
        return host("the engine samples 3x3 windows of stride 1 or 2, padding up to the dilation")
    if a.groups == ic == oc:
        return Choice(role=Role.WINDOW)
    if a.groups == 1 and spec.full_in:
        return Choice(role=Role.FULL)
    return host(
        "the engine samples depthwise; use a depthwise deformable layer and a 1x1 one, or set full_in and full_out"
    )


def _choose_conv(layer: Layer, a: ConvAttributes, spec: DeformSpec) -> Choice:
    def host(why: str) -> Choice:
        return Choice(role=Role.HOST, reason=why)

    ic, oc = channels_of(layer)
    kernel = layer.operands[1].shape[2:]
    taps = 1
    for size in kernel:
        taps *= size
    if a.transposed:
        return host("the engine has no transposed convolution")
    if taps > 1 and a.groups == 1 and ic <= IMAGE_CHANNELS and spec.first_layer == "host":
        return host("first_layer: host")
    padded = any(a.padding_begin) or any(a.padding_end)
    if taps == 1 and a.groups == 1 and not padded and all(s == 1 for s in a.stride):
        return Choice(role=Role.POINTWISE)
    depthwise = a.groups == ic
    if depthwise and a.groups == oc > 1 and _is_window(layer, a):
        if max(a.dilation) <= spec.reach:
            return Choice(role=Role.WINDOW)
        return host(f"its dilation is beyond the {spec.reach} rows on either side that the line buffer holds")
    if depthwise and a.groups not in (1, oc):
        return host("the depthwise engine makes one output channel of each input channel")
    if depthwise and a.groups > 1:
        return host("the depthwise engine does 3x3 windows of stride 1 or 2, padding up to the dilation")
    if a.groups == 1 and spec.full_in and _is_window(layer, a) and max(a.dilation) == 1:
        return Choice(role=Role.FULL)
    if spec.lowering:
        return Choice(role=Role.LOWERED)
    return host("the engine has 1x1 and depthwise 3x3 only; set lowering: true")


def _is_window(layer: Layer, a: ConvAttributes | DeformConvAttributes) -> bool:
    """Whether a layer's geometry is that of the 3x3 engine."""
    if layer.operands[1].shape[2:] != (3, 3) or a.stride not in ((1, 1), (2, 2)) or a.dilation[0] != a.dilation[1]:
        return False
    return all(0 <= p <= d for pads in (a.padding_begin, a.padding_end) for p, d in zip(pads, a.dilation, strict=True))
