"""The layers on which Verilog array, cycle twin and closed form are compared, and their operands.

Operands come from a formula, so that the figures kept of a run can be recomputed anywhere, with any version of anything.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
BITS = 8
COUNTS = (
    "cycles",
    "weight_flips",
    "activation_flips",
    "load_flips",
    "weight_port_flips",
    "activation_port_flips",
    "macs",
)
"""Figures that are kept of a run (fields of `TwinRun`)."""


class RtlCase(NamedTuple):
    """A [m, k] times B [k, n] of 8-bit integers on an array of rows x cols PEs."""

    dataflow: str
    rows: int
    cols: int
    m: int
    n: int
    k: int
    code: str = "twos_complement"

    @property
    def name(self) -> str:
        """Return what a table calls this case."""
        code = "" if self.code == "twos_complement" else f" {self.code}"
        return f"{self.dataflow} {self.rows}x{self.cols} m{self.m} n{self.n} k{self.k}{code}"


CASES = (
    RtlCase("os", 4, 4, 4, 4, 4),  # one full fold
    RtlCase("os", 4, 4, 3, 2, 5),  # one fold, part of the array
    RtlCase("os", 4, 4, 10, 7, 9),  # 3 x 2 folds, edges both ways
    RtlCase("os", 4, 4, 1, 9, 6),  # a vector
    RtlCase("os", 8, 8, 8, 8, 3),  # a full fold, fewer operands than PEs in a row
    RtlCase("os", 8, 8, 19, 21, 12),
    RtlCase("os", 8, 8, 9, 5, 1, "sign_magnitude"),  # one product a sum
    RtlCase("ws", 4, 4, 4, 4, 4),
    RtlCase("ws", 4, 4, 5, 3, 2),
    RtlCase("ws", 4, 4, 9, 7, 10),
    RtlCase("ws", 4, 4, 1, 6, 9),
    RtlCase("ws", 8, 8, 3, 8, 8),
    RtlCase("ws", 8, 8, 12, 21, 19),
    RtlCase("ws", 8, 8, 6, 5, 9, "sign_magnitude"),
    RtlCase("is", 4, 4, 6, 9, 7),
    RtlCase("is", 8, 8, 11, 10, 17),
)


def _sequence(seed: int, count: int) -> IntArray:
    """Return `count` integers from -127 to 127: bits 16 to 30 of a linear congruential generator, modulo 255."""
    words = np.empty(count, np.int64)
    state = seed
    for index in range(count):
        state = (state * 1664525 + 1013904223) % 2**32  # Numerical Recipes, section 7.1
        words[index] = (state >> 16) % 255 - 127
    return words


def operands(case: RtlCase) -> tuple[IntArray, IntArray]:
    """Return A [m, k], the activations, and B [k, n], the weights, of a case."""
    words = _sequence(1000 * case.m + 100 * case.n + case.k, case.m * case.k + case.k * case.n)
    split = case.m * case.k
    return words[:split].reshape(case.m, case.k), words[split:].reshape(case.k, case.n)
