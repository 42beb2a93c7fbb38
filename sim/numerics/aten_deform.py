"""How deformable convolutions become layers: our own operator and torchvision's."""

from typing import TYPE_CHECKING, Any

from picojoule.sim import attributes as at
from picojoule.sim.attributes import Op
from picojoule.sim.ir import Operand

if TYPE_CHECKING:
    from picojoule.sim.numerics.torch_calls import Call


def ours(call: "Call") -> Operand:
    """Our own `picojoule::deform_conv2d`; inside a `DeformConv2d` the layer has that module's name."""
    top, left, bottom, right = call.ints("padding", 4)
    return _deform_conv(
        call,
        "x",
        has_mask=call.has("mask"),
        stride=call.ints("stride", 2),
        padding_begin=(top, left),
        padding_end=(bottom, right),
        dilation=call.ints("dilation", 2),
        groups=int(call.value("groups")),
        offset_groups=int(call.value("offset_groups")),
    )


def torchvision(call: "Call") -> Operand:
    def pair(name: str) -> tuple[int, int]:
        return int(call.value(f"{name}_h")), int(call.value(f"{name}_w"))

    padding, has_mask = pair("pad"), bool(call.value("use_mask"))
    call.seen("mask")  # an empty tensor where there is none
    return _deform_conv(
        call,
        "input",
        has_mask=has_mask,
        stride=pair("stride"),
        padding_begin=padding,
        padding_end=padding,
        dilation=pair("dilation"),
        groups=int(call.value("groups")),
        offset_groups=int(call.value("offset_groups")),
    )


def _deform_conv(call: "Call", x: str, *, has_mask: bool, **window: Any) -> Operand:
    operands = [call.operand(key) for key in (x, "weight", "offset", *(["mask"] if has_mask else []))]
    operands += [call.operand("bias")] if call.has("bias") else []
    if operands[1].type.batch_axis is not None:
        call.refuse("each sample has a filter of its own")
    path, _, bare = call.layer_name.rpartition("::")
    owner = path.rpartition(".")[0]  # `backbone.up1.picojoule` and `deform_conv2d`
    call.layer_name = owner or bare
    return call.one(
        Op.DEFORM_CONV, operands, at.DeformConvAttributes(has_mask=has_mask, has_bias=call.has("bias"), **window)
    )
