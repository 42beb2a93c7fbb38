"""Bit patterns of integer weights as training sees them: their numbers, and their bits with gradients.

Weights of B bits are symmetric, -(2^(B-1) - 1) ... 2^(B-1) - 1; the pattern left over (the most negative number, or minus zero)
is never sent. Words themselves come from `accel.systolic.operand_words`.
"""

from enum import StrEnum

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class NumberCode(StrEnum):
    """How an integer lies on the wires."""

    TWOS_COMPLEMENT = "twos_complement"
    SIGN_MAGNITUDE = "sign_magnitude"


def values_of_patterns(bits: int, code: NumberCode) -> NDArray[np.float32]:
    """Return the integer of every pattern, [2^bits]; NaN for the one that is never sent."""
    pattern = np.arange(1 << bits)
    half = 1 << (bits - 1)
    if code is NumberCode.TWOS_COMPLEMENT:
        values = np.where(pattern < half, pattern, pattern - 2 * half).astype(np.float32)
    else:
        values = np.where(pattern < half, pattern, half - pattern).astype(np.float32)
    values[half] = np.nan
    return values


def bit_planes(codes: Tensor, bits: int, code: NumberCode) -> Tensor:
    """Return the bits of integers, exactly 0 or 1, [..., bits] from the least significant; gradients are straight-through.

    A bit of weight 2^n repeats with period 2^(n+1). Its gradient is that of the triangular wave through the same points (0 in the
    middle of its zeros, 1 in the middle of its ones): +-2^-n, towards the nearer end of the run. The sign bit falls by 2^(1-bits)
    per unit. The paper (Li et al., arXiv:2002.05293) says straight-through bits without saying which gradient; this one is ours.
    """
    numbers = codes if code is NumberCode.TWOS_COMPLEMENT else codes.abs()
    planes = []
    for n in range(bits - 1):
        phase = (numbers + 0.5) / 2**n
        wave = ((phase + 0.5).remainder(2) - 1).abs()
        planes.append(wave + (phase.floor().remainder(2) - wave).detach())
    sign = -codes / 2 ** (bits - 1)
    planes.append(sign + ((codes < 0).to(codes.dtype) - sign).detach())
    return torch.stack(planes, dim=-1)
