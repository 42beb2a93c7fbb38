"""Deformable convolution with the workload's attributes, and offsets as hardware takes them: what the executor calls.

The operator itself is in `deform_op`.
"""

import torch
from torch import Tensor

from picojoule.sim.attributes import DeformConvAttributes
from picojoule.sim.errors import InputError
from picojoule.sim.ir import Layer
from picojoule.sim.numerics import deform_op
from picojoule.sim.numerics.straight_through import round_straight_through
from picojoule.sim.offsets import tap_grid
from picojoule.sim.protocol import OffsetArithmetic


def deform_conv2d(
    x: Tensor, weight: Tensor, offset: Tensor, mask: Tensor | None, bias: Tensor | None, a: DeformConvAttributes
) -> Tensor:
    """Return the deformable convolution [B, O, Oh, Ow]; operands as `deform_op.deform_conv2d` takes them.

    Raises:
        InputError: if shapes do not fit each other.

    """
    padding = (*a.padding_begin, *a.padding_end)
    made: Tensor = deform_op.deform_conv2d(
        x, weight, offset, mask, bias, a.stride, padding, a.dilation, a.groups, a.offset_groups
    )
    return made


def hardware_offsets(layer: Layer, offset: Tensor, how: OffsetArithmetic | None) -> Tensor:
    """Return the offsets with which hardware samples: whole, and no farther than it reaches.

    A tap is held at the `reach`, in rows and columns from its window's middle. Gradients pass straight through rounding and
    stop where a tap is held.

    Raises:
        InputError: if an offset is NaN or infinite: integer arithmetic has no such samples.

    """
    a = layer.attributes
    assert isinstance(a, DeformConvAttributes)
    if not bool(torch.isfinite(offset).all()):
        rounds = how is not None and how.rounded
        why = (
            "and hardware that reads whole pixels has no address for it" if rounds else "which is no place in the ifmap"
        )
        raise InputError(
            f"layer '{layer.name}': an offset is NaN or infinite, {why}; look at what the offset convolution is given"
        )
    if how is None:
        return offset
    moved = round_straight_through(offset) if how.rounded else offset
    if how.reach is None:
        return moved
    grid = torch.from_numpy(tap_grid(layer.operands[1].shape[2:], a.dilation)).to(offset)
    grid = grid.repeat(a.offset_groups).reshape(1, -1, 1, 1)
    return moved.clamp(torch.ceil(-how.reach - grid), torch.floor(how.reach - grid))
