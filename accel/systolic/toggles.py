"""Bits that flip in a systolic array's operand registers and ports, from the exact sequence of words per dataflow.

Every PE has a register per moving operand. It is clocked only when a valid word arrives and holds it otherwise, from zero at
the start of a layer; nothing resets it between folds. Words travel through the r x c PEs that a fold uses. In ws and is the
stationary operand is shifted in from the top, bottom row's word first; these flips are counted apart (`load`). The multiplier
is isolated meanwhile (our assumption; else every load would cost it as many flips as the registers): its input goes from the
word of one fold to that of the next, which is all there is to see where few columns stream (a linear layer on ws at batch 1).

| dataflow | rows | columns | weights | activations |
|---|---|---|---|---|
| os | pixels | output channels | stream over k, down the columns | stream over k, across the rows |
| ws | k | output channels | are loaded | stream over pixels, across the rows |
| is | k | pixels | stream over output channels, across the rows | are loaded |

So the order of output channels matters in `is` only: elsewhere it merely changes which word follows at fold boundaries.
Without activations their flips are expected values: a share of the bits of every word that arrives (1/2 for independent
uniform words; derived, basis "statistics"). Left out: partial sums, glitches, and wires between PEs (as many flips as the
register that drives them). Checked against the cycle-by-cycle twin, which shares no code with this file. numba is imported
when something is counted.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from picojoule.accel.systolic.flips import (
    DATAFLOWS,
    RANDOM_RATE,
    Flips,
    OperandFlips,
    expected_load,
    expected_moving,
    fold_table,
)
from picojoule.accel.systolic.operand_words import WIDEST_BITS, code_words
from picojoule.accel.systolic.ordering import zip_orders
from picojoule.sim.activation_source import mean_interval
from picojoule.sim.errors import InputError, unknown_choice

Integers = NDArray[np.integer[Any]]
Words = NDArray[np.uint32]


def port_flips(
    weights: Integers,
    inputs: Integers | None,
    dataflow: str,
    rows: int,
    cols: int,
    *,
    m: int | None = None,
    weight_bits: int = 8,
    activation_bits: int = 8,
    code: str = "twos_complement",
    order: Integers | None = None,
    side_by_side: bool = True,
    activation_rate: float = RANDOM_RATE,
) -> Flips:
    """Return the bits that flip when weights [G, N, K] multiply inputs [G, K, M] on an array of rows x cols PEs.

    Args:
        weights: integers, a matrix per group.
        inputs: integers, columns in the order in which they stream; None: expected flips for `m` columns.
        dataflow: os, ws or is.
        rows: PEs along a column.
        cols: PEs along a row.
        m: columns where there are no inputs.
        weight_bits: width of a weight's word.
        activation_bits: width of an activation's word.
        code: twos_complement or sign_magnitude.
        order: in which output channels stream (dataflow `is`), [segments, N] or [G, segments, N] from `ordering`; one
            segment, or one per row fold. Elsewhere weights do not stream by channel and it must be None.
        side_by_side: groups that fit a fold whole share it.
        activation_rate: expected flips per bit of activations where there are no inputs.

    Raises:
        InputError: for shapes that do not match, unknown names, and values that their words cannot hold.

    """
    groups, n, k, m = _sizes(weights, inputs, m, rows, cols, dataflow)
    if order is not None and dataflow != "is":
        raise InputError(
            f"an order of output channels changes what streams in dataflow 'is' only, and this is '{dataflow}'; leave it out"
        )
    weight_gkn = code_words(weights.swapaxes(1, 2), weight_bits, code, name="weights")
    activation_gkm = None if inputs is None else code_words(inputs, activation_bits, code, name="activations")
    across, down = {"os": (m, n), "ws": (k, n), "is": (k, m)}[dataflow]
    folds = fold_table(groups, across, down, rows, cols, side_by_side)
    rate = activation_rate * activation_bits
    if dataflow == "os":
        weight = _moving(weight_gkn.swapaxes(1, 2), folds, False)
        activation = (
            expected_moving(folds, True, k, rate)
            if activation_gkm is None
            else _moving(activation_gkm.swapaxes(1, 2), folds, True)
        )
        load = 0.0
    elif dataflow == "ws":
        activation = (
            expected_moving(folds, True, m, rate) if activation_gkm is None else _moving(activation_gkm, folds, True)
        )
        loaded = _loaded(weight_gkn, folds)
        weight, load = replace(loaded, registers=0.0), loaded.registers
    else:
        weight = _moving(_ordered(weight_gkn, order, rows), folds, True)
        loaded = expected_load(folds, rate) if activation_gkm is None else _loaded(activation_gkm, folds)
        activation, load = replace(loaded, registers=0.0), loaded.registers
    return Flips(
        weight=weight.registers,
        activation=activation.registers,
        load=load,
        weight_port=weight.port,
        activation_port=activation.port,
        weight_mac=weight.mac,
        activation_mac=activation.mac,
        macs=groups * m * n * k,
        basis="statistics" if inputs is None else "data",
        loads=0.0 if dataflow == "os" else expected_load(folds, 1.0).registers,
    )


def expected_flips(
    dataflow: str,
    rows: int,
    cols: int,
    *,
    m: int,
    n: int,
    k: int,
    groups: int = 1,
    weight_bits: int = 8,
    activation_bits: int = 8,
    weight_rate: float = RANDOM_RATE,
    activation_rate: float = RANDOM_RATE,
    side_by_side: bool = True,
) -> Flips:
    """Return the flips expected where neither weights nor activations are known: a share of the bits of all words."""
    if dataflow not in DATAFLOWS:
        raise InputError(unknown_choice("dataflow", dataflow, sorted(DATAFLOWS)))
    across, down = {"os": (m, n), "ws": (k, n), "is": (k, m)}[dataflow]
    folds = fold_table(groups, across, down, rows, cols, side_by_side)
    weight, activation = weight_rate * weight_bits, activation_rate * activation_bits
    loaded = expected_load(folds, {"os": 0.0, "ws": weight, "is": activation}[dataflow])
    still = replace(loaded, registers=0.0)
    if dataflow == "os":
        w, a = expected_moving(folds, False, k, weight), expected_moving(folds, True, k, activation)
    elif dataflow == "ws":
        w, a = still, expected_moving(folds, True, m, activation)
    else:
        w, a = expected_moving(folds, True, n, weight), still
    return Flips(
        weight=w.registers,
        activation=a.registers,
        load=loaded.registers,
        weight_port=w.port,
        activation_port=a.port,
        weight_mac=w.mac,
        activation_mac=a.mac,
        macs=groups * m * n * k,
        basis="statistics",
        loads=0.0 if dataflow == "os" else expected_load(folds, 1.0).registers,
    )


def layer_flips(
    weights: Integers,
    samples: Sequence[Integers],
    dataflow: str,
    rows: int,
    cols: int,
    *,
    m: int,
    weight_bits: int = 8,
    activation_bits: int = 8,
    code: str = "twos_complement",
    order: Integers | None = None,
    side_by_side: bool = True,
) -> tuple[Flips, tuple[float, float] | None]:
    """Return the flips of a layer of `m` columns from samples of its inputs, and the interval of the data's share.

    Weights [G, N, K] are counted exactly. Flips of activations are the mean over samples [G, K, n], each scaled to m columns
    (by m / n: exact where a sample is the whole layer for one input and n = m). The interval is the 95 % one of
    the activations' register flips (in `is` of their load flips) over samples; None with fewer than two. Without samples
    everything is as `port_flips` without inputs. Errors as there.
    """
    known = {
        "weight_bits": weight_bits,
        "activation_bits": activation_bits,
        "code": code,
        "side_by_side": side_by_side,
    }
    exact = port_flips(weights, None, dataflow, rows, cols, m=m, order=order, **known)  # type: ignore[arg-type]
    if not samples:
        return exact, None
    found = [
        port_flips(weights, x, dataflow, rows, cols, **known).scaled(m / x.shape[2])  # type: ignore[arg-type]
        for x in samples
    ]
    means = {name: sum(getattr(f, name) for f in found) / len(found) for name in _ACTIVATION_FIELDS}
    if dataflow == "is":
        means["load"], means["loads"] = (
            sum(getattr(f, name) for f in found) / len(found) for name in ("load", "loads")
        )
    _, interval = mean_interval([f.load if dataflow == "is" else f.activation for f in found])
    return replace(exact, **means, basis="data"), interval


_ACTIVATION_FIELDS = ("activation", "activation_port", "activation_mac")


def _sizes(
    weights: Integers, inputs: Integers | None, m: int | None, rows: int, cols: int, dataflow: str
) -> tuple[int, int, int, int]:
    if dataflow not in DATAFLOWS:
        raise InputError(unknown_choice("dataflow", dataflow, sorted(DATAFLOWS)))
    if rows < 1 or cols < 1:
        raise InputError(f"an array needs at least one row and one column, got {rows} x {cols}")
    if weights.ndim != 3 or not weights.size:
        raise InputError(f"weights must be integers [groups, out, in] with elements, got shape {weights.shape}")
    groups, n, k = weights.shape
    if inputs is None:
        if m is None or m < 1:
            raise InputError(f"without inputs, m must say how many columns stream (at least 1), got {m}")
        return groups, n, k, m
    if inputs.ndim != 3 or inputs.shape[:2] != (groups, k) or not inputs.size:
        raise InputError(f"weights {weights.shape} need inputs of shape ({groups}, {k}, columns), got {inputs.shape}")
    if m is not None and m != inputs.shape[2]:
        raise InputError(f"m is {m} but the inputs have {inputs.shape[2]} columns; leave m out")
    return groups, n, k, int(inputs.shape[2])


def _ordered(weight_gkn: Words, order: Integers | None, rows: int) -> Words:
    """Return weights with the channels of each segment of k in their order."""
    if order is None:
        return weight_gkn
    groups, k, n = weight_gkn.shape
    per_group = np.broadcast_to(order, (groups, *order.shape[-2:])) if order.ndim < 3 else order
    if order.ndim not in (2, 3) or len(per_group) != groups:
        raise InputError(f"an order has shape [segments, {n}] or [{groups}, segments, {n}], got {order.shape}")
    made = np.empty_like(weight_gkn)
    for group, orders in enumerate(per_group):
        for part, channels in zip_orders((n, k), orders, rows):
            made[group, part] = weight_gkn[group, part][:, channels]
    return made


def _moving(words: Words, folds: NDArray[np.int64], across: bool) -> OperandFlips:
    """Return the flips of streams [G, ports, T]."""
    from picojoule.accel.systolic import _toggle_kernels as kernels

    own, other = (3, 5) if across else (5, 3)
    ports, reach = (int((folds[:, 1] * folds[:, i]).max()) for i in (own, other))
    if len(folds) * ports * reach * words.shape[2] * WIDEST_BITS >= 1 << 63:
        raise InputError(
            f"flips of {len(folds)} folds of {words.shape[2]} words might leave 64 bits; count a smaller layer"
        )
    first, last = (np.empty(words.shape[:2], dtype=np.uint32) for _ in range(2))
    inside = np.empty(words.shape[:2], dtype=np.int64)
    kernels.stream_ends(words, first, last, inside)
    flips = np.zeros(2, dtype=np.int64)
    kernels.moving_flips(first, last, inside, folds, across, flips)
    registers, port = (float(v) for v in flips)
    if folds[0, 1] == 1:
        return OperandFlips(registers=registers, port=port, mac=registers)
    return OperandFlips(registers=registers, port=port, mac=port * float(folds[0, other]))


def _loaded(words: Words, folds: NDArray[np.int64]) -> OperandFlips:
    """Return the flips of a stationary operand [G, rows, columns] as it is shifted in, and between folds (`mac`)."""
    from picojoule.accel.systolic import _toggle_kernels as kernels

    flips = np.zeros(3, dtype=np.int64)
    kernels.load_flips(words, folds, flips)
    registers, port, mac = (float(v) for v in flips)
    return OperandFlips(registers=registers, port=port, mac=mac)
