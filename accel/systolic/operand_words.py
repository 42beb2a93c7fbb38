"""Integers as the words that wires and registers carry, in two's complement or as sign and magnitude."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from picojoule.sim.errors import InputError, unknown_choice

CODES = ("twos_complement", "sign_magnitude")
WIDEST_BITS = 32


def code_words(values: NDArray[np.integer[Any]], bits: int, code: str, *, name: str = "operand") -> NDArray[np.uint32]:
    """Return the words of integers, same shape.

    two's complement: the lowest `bits` bits, of signed values, or of unsigned ones where none is negative. Sign and
    magnitude: the sign in bit `bits` - 1, the magnitude below it; where none is negative all bits are magnitude.

    Raises:
        InputError: for an unknown code, more than 32 bits, or a value that its word cannot hold.

    """
    if code not in CODES:
        raise InputError(unknown_choice("number code", code, list(CODES)))
    if not 1 <= bits <= WIDEST_BITS:
        raise InputError(f"{name}: a word has 1 to {WIDEST_BITS} bits, got {bits}")
    if values.size == 0:
        return np.zeros(values.shape, dtype=np.uint32)
    low, high, half = int(values.min()), int(values.max()), 1 << (bits - 1)
    lowest = -half if code == "twos_complement" else 1 - half
    highest = half - 1 if low < 0 else 2 * half - 1
    if low < lowest or high > highest:
        raise InputError(
            f"{name}: {bits}-bit words ({code}) hold {lowest} to {half - 1}, or 0 to {2 * half - 1}, got {low} to {high}; "
            "use more bits"
        )
    if code == "twos_complement" or low >= 0:
        mask = (1 << bits) - 1
        return (values.astype(np.int64, copy=False) & mask).astype(np.uint32)
    wide = values.astype(np.int64, copy=False)
    return np.where(wide < 0, half - wide, wide).astype(np.uint32)


def packed_rows(words: NDArray[np.uint32], bits: int) -> NDArray[np.uint64]:
    """Return rows of words [N, W] side by side in uint64 [N, ceil]; the bits that are left over are 0."""
    kind = np.uint8 if bits <= 8 else np.uint16 if bits <= 16 else np.uint32
    per_word = 8 // np.dtype(kind).itemsize
    rows, width = words.shape
    filled = np.zeros((rows, -(-width // per_word) * per_word), dtype=kind)
    filled[:, :width] = words
    return filled.view(np.uint64)
