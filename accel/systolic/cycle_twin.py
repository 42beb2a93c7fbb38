"""A systolic array simulated cycle by cycle with real integers: outputs, cycles and flips of its operand registers.

The slow twin of the closed forms, written from the description of the default timing alone: a fold that uses r rows and c
columns and streams T operands takes T + r + c - 2 cycles; output stationary then drains for r cycles through the columns,
weight and input stationary first load for r cycles; folds follow one another; `overlap_load` and `overlap_drain` hide the
load of the next fold, or the drain, behind the fold that runs, by one more register a PE. None of those sums is computed here:
operands hop from PE to PE (`_cycle_kernels`), and a phase lasts until its last operand or result has arrived.

Operands: A [M, K] the ifmap, B [K, N] the filters. What stands where, column folds outside, row folds inside:

| dataflow | rows | columns | streamed |
|---|---|---|---|
| os | M | N | K |
| ws | K | N | M |
| is | K | M | N |

A load or drain is hidden as far as the fold beside it lasts: a fold of few cycles beside a load of many rows waits for it.
Left out: memories (every operand is at the edge when wanted), zero gating, compatibility modes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from picojoule.accel.systolic import _cycle_kernels
from picojoule.sim.errors import InputError

IntArray = npt.NDArray[np.int64]
CODES = ("twos_complement", "sign_magnitude")
WIDEST = 32
"""Bits of an operand; sums must fit 63 bits here, which is checked with the length of the reduction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TwinRun:
    """What a simulated layer gave.

    outputs: A @ B, [M, N], or [groups, M, N]. Register flips are summed over PEs, port flips over the wires that enter
    the array; every register and wire starts at 0 and holds its word until the next valid one. `load_flips` are those of
    the stationary operand on its way down (with `overlap_load`: in the registers it is shifted through, without the copy).
    `weight_flips` and `activation_flips` are those of operands that move: 0 for the stationary one. Its port counts. `macs`:
    products that PEs made.
    """

    outputs: IntArray
    cycles: int
    weight_flips: int
    activation_flips: int
    load_flips: int
    weight_port_flips: int
    activation_port_flips: int
    macs: int


class _Folds(NamedTuple):
    """In what order which operands stand where: `used` [folds, 2], groups and indices [folds, R] or [folds, C]."""

    used: IntArray
    row_group: IntArray
    row_index: IntArray
    col_group: IntArray
    col_index: IntArray
    row_fold: IntArray


def _folds(groups: int, row_size: int, col_size: int, rows: int, cols: int, side_by_side: bool) -> _Folds:
    """Return the folds of `groups` products whose operands fill row_size rows and col_size columns each.

    Groups that fit a fold whole share it, block by block along the diagonal, as many as fit; else they follow one another.
    """
    together = max(1, min(rows // row_size, cols // col_size, groups)) if side_by_side else 1
    parts = []  # per fold: pairs (group, index) of rows and of columns; first and last of the row folds
    for first in range(0, groups, together):
        members = range(first, min(first + together, groups))
        for col in range(0, col_size, cols):
            for row in range(0, row_size, rows):
                of_rows = [(g, i) for g in members for i in range(row, min(row + rows, row_size))]
                of_cols = [(g, i) for g in members for i in range(col, min(col + cols, col_size))]
                parts.append((of_rows, of_cols, (int(row == 0), int(row + rows >= row_size))))
    table = _Folds(
        used=np.array([(len(of_rows), len(of_cols)) for of_rows, of_cols, _ in parts], np.int64),
        row_group=np.zeros((len(parts), rows), np.int64),
        row_index=np.zeros((len(parts), rows), np.int64),
        col_group=np.zeros((len(parts), cols), np.int64),
        col_index=np.zeros((len(parts), cols), np.int64),
        row_fold=np.array([edge for *_, edge in parts], np.int64),
    )
    for fold, (of_rows, of_cols, _) in enumerate(parts):
        table.row_group[fold, : len(of_rows)], table.row_index[fold, : len(of_rows)] = np.transpose(of_rows)
        table.col_group[fold, : len(of_cols)], table.col_index[fold, : len(of_cols)] = np.transpose(of_cols)
    return table


def _check_words(name: str, words: IntArray, bits: int, code: str) -> None:
    """Refuse words that `bits` bits cannot hold; two's complement also holds unsigned words, if none is negative."""
    if not 1 <= bits <= WIDEST:
        raise InputError(f"{name}: bits must be between 1 and {WIDEST}, got {bits}")
    if code not in CODES:
        raise InputError(f"unknown number code {code!r}; choose from {', '.join(map(repr, CODES))}")
    low, high = int(words.min()), int(words.max())
    half = 1 << (bits - 1)
    if code == "sign_magnitude":
        fits, span = -half < low and high < half, f"{1 - half} to {half - 1}"
    else:
        fits = (-half <= low and high < half) or (low >= 0 and high < 2 * half)
        span = f"{-half} to {half - 1}, or 0 to {2 * half - 1}"
    if not fits:
        raise InputError(f"{name}: words of {bits} bits ({code}) range from {span}, got {low} to {high}")


def run(
    a: npt.NDArray[np.integer],
    b: npt.NDArray[np.integer],
    dataflow: str,
    rows: int,
    cols: int,
    *,
    bits: int = 8,
    activation_bits: int | None = None,
    code: str = "twos_complement",
    overlap_load: bool = False,
    overlap_drain: bool = False,
) -> TwinRun:
    """Simulate a [M, K] times b [K, N] on an array of rows x cols PEs; outputs [M, N].

    bits: of a weight word, and of an activation word unless `activation_bits` says otherwise. Raises InputError for an
    unknown dataflow or number code, shapes that do not match and words that do not fit their bits.
    """
    done = run_groups(
        [(a, b)],
        dataflow,
        rows,
        cols,
        bits=bits,
        activation_bits=activation_bits,
        code=code,
        overlap_load=overlap_load,
        overlap_drain=overlap_drain,
    )
    return TwinRun(
        outputs=done.outputs[0],
        cycles=done.cycles,
        weight_flips=done.weight_flips,
        activation_flips=done.activation_flips,
        load_flips=done.load_flips,
        weight_port_flips=done.weight_port_flips,
        activation_port_flips=done.activation_port_flips,
        macs=done.macs,
    )


def run_groups(
    pairs: Sequence[tuple[npt.NDArray[np.integer], npt.NDArray[np.integer]]],
    dataflow: str,
    rows: int,
    cols: int,
    *,
    bits: int = 8,
    activation_bits: int | None = None,
    code: str = "twos_complement",
    overlap_load: bool = False,
    overlap_drain: bool = False,
    side_by_side: bool = True,
) -> TwinRun:
    """Simulate the groups of a layer, pairs of a [M, K] and b [K, N] of one shape each; outputs [groups, M, N].

    Groups that fit a fold whole share it block by block along the diagonal (PEs between blocks multiply nothing, and hold
    no stationary operand), unless `side_by_side` is off. Otherwise as `run`.
    """
    if dataflow not in ("is", "os", "ws"):
        raise InputError(f"unknown dataflow {dataflow!r}; choose from 'is', 'os', 'ws'")
    if rows < 1 or cols < 1:
        raise InputError(f"an array needs at least one row and one column, got {rows} x {cols}")
    if not pairs or any(
        a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0] or not a.size * b.size for a, b in pairs
    ):
        raise InputError(
            "every group must be a pair a [M, K], b [K, N] of non-empty integer matrices, and there must be one"
        )
    kinds = {words.dtype for pair in pairs for words in pair}
    if not all(np.can_cast(kind, np.int64) for kind in kinds):
        names = ", ".join(sorted(map(str, kinds)))
        raise InputError(f"operands must be integers of a type that int64 holds, got {names}; quantize them first")
    if len({(a.shape, b.shape) for a, b in pairs}) > 1:
        raise InputError("all groups of a layer must have the same shapes")
    a_gmk = np.ascontiguousarray([a for a, _ in pairs], np.int64)
    b_gkn = np.ascontiguousarray([b for _, b in pairs], np.int64)
    activation_width = bits if activation_bits is None else activation_bits
    _check_words("weights", b_gkn, bits, code)
    _check_words("activations", a_gmk, activation_width, code)
    groups, m, k = a_gmk.shape
    if bits + activation_width + k.bit_length() > 63:
        raise InputError(f"sums of {k} products of {bits} by {activation_width} bits may need more than 63 bits")
    n = b_gkn.shape[2]
    counts = np.zeros(5, np.int64)
    signed = int(code == "sign_magnitude")

    def swapped(words: IntArray) -> IntArray:
        return np.ascontiguousarray(words.transpose(0, 2, 1))

    if dataflow == "os":
        table = _folds(groups, m, n, rows, cols, side_by_side)
        outputs = np.zeros((groups, m, n), np.int64)
        widths = np.array([activation_width, bits, signed], np.int64)
        cycles = _cycle_kernels.output_stationary(
            a_gmk, swapped(b_gkn), *table[:5], overlap_drain, widths, outputs, counts
        )
        activation, weight, activation_port, weight_port, macs = map(int, counts)
        load = 0
    else:
        weights_stand = dataflow == "ws"
        stream, stationary = (swapped(a_gmk), b_gkn) if weights_stand else (b_gkn, swapped(a_gmk))
        stream_bits, held_bits = (activation_width, bits) if weights_stand else (bits, activation_width)
        table = _folds(groups, k, stationary.shape[2], rows, cols, side_by_side)
        outputs = np.zeros((groups, stationary.shape[2], stream.shape[2]), np.int64)
        widths = np.array([stream_bits, held_bits, signed], np.int64)
        cycles = _cycle_kernels.operand_stationary(stream, stationary, *table, overlap_load, widths, outputs, counts)
        moving, load, moving_port, load_port, macs = map(int, counts)
        outputs = swapped(outputs) if weights_stand else outputs
        activation, weight = (moving, 0) if weights_stand else (0, moving)
        activation_port, weight_port = (moving_port, load_port) if weights_stand else (load_port, moving_port)
    return TwinRun(
        outputs=outputs,
        cycles=int(cycles),
        weight_flips=weight,
        activation_flips=activation,
        load_flips=load,
        weight_port_flips=weight_port,
        activation_port_flips=activation_port,
        macs=macs,
    )
