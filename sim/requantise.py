"""How an engine turns accumulators into 8-bit activations: multiply by a 16-bit scale, shift by 16, add a bias, clamp.

Source: Huang et al. 2021 (CoDeNet, arXiv 2006.08357), the published HLS engine. The executor multiplies by real numbers instead
and rounds where the next layer reads; both differ by at most one code as long as accumulators stay below 2^16 (beyond, the
scale's own rounding shows; tests). All arrays are int64 and broadcast.
"""

import numpy as np
from numpy.typing import NDArray

from picojoule.sim.errors import InputError

SHIFT = 16
SCALE_BITS = 16


def requantise(
    accumulators: NDArray[np.int64],
    scale: NDArray[np.int64] | int,
    shift: int,
    bias: NDArray[np.int64] | int,
    low: int,
    high: int,
) -> NDArray[np.int64]:
    """Return clamp((accumulators * scale >> shift) + bias, low, high); the shift rounds down. A ReLU is low = 0.

    Raises:
        InputError: if the scale is no unsigned 16-bit number, or accumulators are beyond 32 bits.

    """
    scale, accumulators = np.asarray(scale), np.asarray(accumulators)
    if not (np.issubdtype(scale.dtype, np.integer) and np.issubdtype(accumulators.dtype, np.integer)):
        raise InputError(f"requantise takes whole numbers, got {accumulators.dtype} and a scale of {scale.dtype}")
    if scale.size and not 0 <= int(scale.min()) <= int(scale.max()) < 2**SCALE_BITS:
        raise InputError(f"a requantiser's scale has {SCALE_BITS} bits, got {int(scale.min())} to {int(scale.max())}")
    if accumulators.size and max(-int(accumulators.min()), int(accumulators.max())) > 2**31:
        raise InputError("a requantiser takes accumulators of up to 32 bits")
    shifted = np.right_shift(accumulators.astype(np.int64) * scale.astype(np.int64), shift)
    made: NDArray[np.int64] = np.clip(shifted + bias, low, high)
    return made


def scale_of(ratio: NDArray[np.float64] | float) -> NDArray[np.int64]:
    """Return the 16-bit scale nearest to `ratio`, an accumulator's unit over the activation's step.

    Raises:
        InputError: if it does not fit: the ratio must be below 1, and is 0 below 2^-17.

    """
    scale = np.rint(np.asarray(ratio, np.float64) * 2**SHIFT)
    if not np.all(np.isfinite(scale)) or np.any(scale < 0) or np.any(scale >= 2**SCALE_BITS):
        raise InputError(
            f"a requantiser multiplies by less than 1 (16 bits, shifted by 16), got {np.max(ratio)}; take a larger step"
        )
    made: NDArray[np.int64] = scale.astype(np.int64)
    return made
