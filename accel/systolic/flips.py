"""What flips in a layer, the folds it runs in, and how many bits are expected to flip where words are not known.

The folds are those of the default timing: column folds outside, row folds inside, groups outermost, small groups side by side.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from picojoule.sim.errors import InputError

DATAFLOWS = ("os", "ws", "is")
RANDOM_RATE = 0.5
"""Flips per bit between independent uniform words: two random bits differ with probability 1/2 (derived)."""
_MOST_FOLDS = 1 << 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Flips:
    """Bits that flip in a layer, summed over PEs.

    `weight`, `activation`: registers of moving operands, 0 for one that stays. `load`: registers while the stationary operand
    is shifted in, `loads` words that are (as often as they move). `weight_port`, `activation_port`: wires that enter the
    array. `weight_mac`, `activation_mac`: inputs of the multipliers, in PEs that multiply (where groups stand side by side,
    words also pass PEs between the blocks, which rest); of a stationary operand those from the word of one fold to the next,
    because the multiplier is isolated while a tile is shifted in. `basis` says where the activations come from: "data" or
    "statistics".
    """

    weight: float
    activation: float
    load: float
    weight_port: float
    activation_port: float
    weight_mac: float
    activation_mac: float
    macs: int
    basis: str
    loads: float = 0.0

    def scaled(self, factor: float) -> "Flips":
        """Return the flips and MACs of `factor` times as much of the same."""
        return Flips(
            weight=self.weight * factor,
            activation=self.activation * factor,
            load=self.load * factor,
            weight_port=self.weight_port * factor,
            activation_port=self.activation_port * factor,
            weight_mac=self.weight_mac * factor,
            activation_mac=self.activation_mac * factor,
            macs=round(self.macs * factor),
            basis=self.basis,
            loads=self.loads * factor,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderTable:
    """Reads of the table of accumulator addresses in a layer, `READ_BITS` each, and the capacity of the network's tables."""

    reads: int
    kib: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FlipRates:
    """What a layer's data do per bit, 0 to 1 (0.5: random): at the multipliers, in clocked registers, in loaded ones.

    `weight_register`, `activation_register`: registers of a moving operand, 0 for one that stays. `table`: what orders of
    output channels cost, None where they need no table.
    """

    weight: float
    activation: float
    weight_register: float
    activation_register: float
    load: float
    table: OrderTable | None = None

    @classmethod
    def of(cls, flips: Flips, dataflow: str, weight_bits: int, activation_bits: int) -> "FlipRates":
        """Return the rates of flips counted in words of these widths."""
        weight = flips.weight_mac / (flips.macs * weight_bits)
        activation = flips.activation_mac / (flips.macs * activation_bits)
        loaded_bits = flips.loads * (weight_bits if dataflow == "ws" else activation_bits)
        return cls(
            weight=weight,
            activation=activation,
            weight_register=0.0 if dataflow == "ws" else weight,
            activation_register=0.0 if dataflow == "is" else activation,
            load=flips.load / loaded_bits if loaded_bits else 0.0,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OperandFlips:
    """Flips of one operand: registers of all PEs, ports, and inputs of multipliers."""

    registers: float
    port: float
    mac: float


def fold_table(
    groups: int, row_size: int, col_size: int, rows: int, cols: int, side_by_side: bool = True
) -> NDArray[np.int64]:
    """Return the folds in order [folds, 6], columns as in `_toggle_kernels`.

    Column folds outside, row folds inside, groups outermost. Raises InputError beyond 16 million folds.
    """
    together = max(1, min(rows // row_size, cols // col_size, groups)) if side_by_side else 1
    if together > 1:
        first = np.arange(0, groups, together, dtype=np.int64)
        members = np.minimum(together, groups - first)
        sizes = np.broadcast_to(np.array([0, row_size, 0, col_size]), (len(first), 4))
        return np.ascontiguousarray(np.column_stack([first, members, sizes]), dtype=np.int64)
    count = groups * -(-row_size // rows) * -(-col_size // cols)
    if count > _MOST_FOLDS:
        raise InputError(f"flips of {count} folds take too long to count; use a larger array or a smaller layer")
    row_low, col_low = (np.arange(0, size, step, dtype=np.int64) for size, step in ((row_size, rows), (col_size, cols)))
    group, col, row = (a.reshape(-1) for a in np.meshgrid(np.arange(groups), col_low, row_low, indexing="ij"))
    height, width = np.minimum(rows, row_size - row), np.minimum(cols, col_size - col)
    table = np.column_stack([group, np.ones_like(group), row, height, col, width])
    return np.ascontiguousarray(table, dtype=np.int64)


def expected_moving(folds: NDArray[np.int64], across: bool, steps: int, flips_per_word: float) -> OperandFlips:
    """Return expected flips of an operand that streams `steps` words, across the rows or down the columns."""
    own, other = (3, 5) if across else (5, 3)
    members, ports, reach = (folds[:, i].astype(np.float64) for i in (1, own, other))
    words = steps * flips_per_word * members * ports
    return OperandFlips(
        registers=float((words * members * reach).sum()), port=float(words.sum()), mac=float((words * reach).sum())
    )


def expected_load(folds: NDArray[np.int64], flips_per_word: float) -> OperandFlips:
    """Return expected flips of an operand that is shifted in: a word of row i of a block passes it, i rows and those above."""
    members, height, width = (folds[:, i].astype(np.float64) for i in (1, 3, 5))
    above = height * height * members * (members - 1) / 2
    words = width * (members * height * (height + 1) / 2 + above)
    held = float((members * height * width).sum()) * flips_per_word
    return OperandFlips(registers=float(words.sum()) * flips_per_word, port=held, mac=held)
