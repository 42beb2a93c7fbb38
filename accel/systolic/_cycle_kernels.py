"""Compiled loops over the cycles of a systolic array: every PE, every register, one clock edge at a time.

Self-contained: numba's cache on disk does not see edits in other files. A slow twin is in the tests. Letters: R rows and C
columns of the array; r and c those a fold uses, rows from the top, columns from the left; T operands streamed a fold.

What the machine is made of (both kernels):

- Moving operands hop one PE a cycle; the edge lets row i (column j) in later the further it lies from where the products
  begin. A PE takes what stands on its wire in a cycle into its register at the end of that cycle, and hands it on in
  the next, unless it is the last PE used. A register is clocked only when a valid operand arrives.
- Results leave through the columns at the top edge, so a fold that uses few rows needs no way round the unused ones.
- A phase ends when its last operand has been taken, which the kernels see, and nobody computes beforehand.
"""

import numba
import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _flips(old: int, new: int, bits: int, sign_magnitude: bool) -> int:
    """Return the number of bits that differ between two words of `bits` bits, as the register holds them."""
    if sign_magnitude:
        old = (1 << (bits - 1)) - old if old < 0 else old
        new = (1 << (bits - 1)) - new if new < 0 else new
    different = (old ^ new) & ((1 << bits) - 1)
    count = 0
    while different != 0:
        different &= different - 1
        count += 1
    return count


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def output_stationary(
    left: IntArray,
    top: IntArray,
    used: IntArray,
    row_group: IntArray,
    row_index: IntArray,
    col_group: IntArray,
    col_index: IntArray,
    overlap: bool,
    code: IntArray,
    outputs: IntArray,
    counts: IntArray,
) -> int:
    """Run the folds in order with the sums standing in the PEs; return the cycles until the last result has left.

    left [groups, row operands, T] enters at the left, top [groups, column operands, T] at the top. used [folds, 2]: r, c.
    row_group, row_index [folds, R]: which row operand stands in a row; col_* [folds, C] likewise. PEs whose row and column
    belong to different groups multiply nothing. overlap: results leave through registers of their own while the next
    fold runs. code: bits of left, bits of top, 1 for sign-magnitude. outputs [groups, row operands, column operands] and
    counts (flips in registers of left, of top, at ports of left, of top; products) are filled.
    """
    folds, rows, cols, steps = used.shape[0], row_group.shape[1], col_group.shape[1], left.shape[2]
    left_bits, top_bits, signed = code[0], code[1], code[2] == 1
    left_register, left_offers = np.zeros((rows, cols), np.int64), np.zeros((rows, cols), np.bool_)
    top_register, top_offers = np.zeros((rows, cols), np.int64), np.zeros((rows, cols), np.bool_)
    sums, leaving = np.zeros((rows, cols), np.int64), np.zeros((rows, cols), np.int64)
    cycles, fold, step, taken, complete = 0, 0, 0, 0, False
    drained, drain_step = -1, 0  # the fold whose results leave (-1: none), rows that have left
    while fold < folds or drained >= 0:
        cycles += 1
        streams = fold < folds and not complete and (overlap or drained < 0)
        if drained >= 0:  # the row at the top leaves, those below move up
            r, c = used[drained, 0], used[drained, 1]
            for j in range(c):
                group = col_group[drained, j]
                if row_group[drained, drain_step] == group:
                    outputs[group, row_index[drained, drain_step], col_index[drained, j]] = leaving[0, j]
                for i in range(r - 1):
                    leaving[i, j] = leaving[i + 1, j]
            drain_step += 1
            if drain_step == r:
                drained = -1
        if streams:
            r, c = used[fold, 0], used[fold, 1]
            for i in range(r - 1, -1, -1):  # from the far corner: a neighbor's register still shows the cycle before
                for j in range(c - 1, -1, -1):
                    if j == 0:
                        left_valid = 0 <= step - i < steps
                        word = left[row_group[fold, i], row_index[fold, i], step - i] if left_valid else 0
                    else:
                        left_valid, word = left_offers[i, j - 1], left_register[i, j - 1]
                    if left_valid:
                        changed = _flips(left_register[i, j], word, left_bits, signed)
                        counts[0] += changed
                        if j == 0:
                            counts[2] += changed
                        left_register[i, j] = word
                    left_offers[i, j] = left_valid and j + 1 < c
                    if i == 0:
                        top_valid = 0 <= step - j < steps
                        word = top[col_group[fold, j], col_index[fold, j], step - j] if top_valid else 0
                    else:
                        top_valid, word = top_offers[i - 1, j], top_register[i - 1, j]
                    if top_valid:
                        changed = _flips(top_register[i, j], word, top_bits, signed)
                        counts[1] += changed
                        if i == 0:
                            counts[3] += changed
                        top_register[i, j] = word
                    top_offers[i, j] = top_valid and i + 1 < r
                    if left_valid and top_valid and row_group[fold, i] == col_group[fold, j]:
                        sums[i, j] += left_register[i, j] * top_register[i, j]
                        counts[4] += 1
                    if i == r - 1 and j == c - 1 and left_valid and top_valid:
                        taken += 1
            step += 1
            complete = taken == steps
        if complete and drained < 0:  # at this clock edge the sums start to leave, and the next fold starts from zero
            for i in range(rows):
                for j in range(cols):
                    leaving[i, j], sums[i, j] = sums[i, j], 0
            drained, drain_step = fold, 0
            fold, step, taken, complete = fold + 1, 0, 0, False
    return cycles


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _load_cycle(
    stationary: IntArray,
    groups: tuple[IntArray, IntArray],
    places: tuple[IntArray, IntArray],
    used: tuple[int, int],
    step: int,
    chain: IntArray,
    offers: BoolArray,
    code: tuple[int, bool],
    counts: IntArray,
) -> None:
    """Shift the stationary operand down by one row, the next word (bottom row's first) entering at the top."""
    r, c = used
    for i in range(r - 1, -1, -1):
        for j in range(c):
            if i == 0:
                source = r - 1 - step
                valid = groups[0][source] == groups[1][j]
                word = stationary[groups[1][j], places[0][source], places[1][j]] if valid else 0
            else:
                valid, word = offers[i - 1, j], chain[i - 1, j]
            if valid:
                changed = _flips(chain[i, j], word, code[0], code[1])
                counts[1] += changed
                if i == 0:
                    counts[3] += changed
                chain[i, j] = word
            offers[i, j] = valid


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def operand_stationary(
    stream: IntArray,
    stationary: IntArray,
    used: IntArray,
    row_group: IntArray,
    row_index: IntArray,
    col_group: IntArray,
    col_index: IntArray,
    row_fold: IntArray,
    overlap: bool,
    code: IntArray,
    outputs: IntArray,
    counts: IntArray,
) -> int:
    """Run the folds in order with one operand standing in the PEs; return the cycles until the last sum has left.

    stream [groups, row operands, T] enters at the left, stationary [groups, row operands, column operands] is shifted in from
    the top; used, row_* and col_* as in `output_stationary`. row_fold [folds, 2]: 1 for the first, 1 for the last fold of
    those whose sums the accumulators at the top edge add up. overlap: the next fold's operand is shifted into registers of
    its own while a fold runs. code: bits of stream, bits of stationary, 1 for sign-magnitude. outputs [groups, column
    operands, T] and counts (flips in registers of stream, of stationary while loading, at their ports; products) are filled.
    """
    folds, rows, cols, steps = used.shape[0], row_group.shape[1], col_group.shape[1], stream.shape[2]
    bits, signed = code[0], code[2] == 1
    register, offers = np.zeros((rows, cols), np.int64), np.zeros((rows, cols), np.bool_)
    chain, chain_offers = np.zeros((rows, cols), np.int64), np.zeros((rows, cols), np.bool_)
    held, holds = np.zeros((rows, cols), np.int64), np.zeros((rows, cols), np.bool_)
    sums = np.zeros((rows, cols), np.int64)
    accumulators, arrived = np.zeros((cols, steps), np.int64), np.zeros(cols, np.int64)
    cycles, load, load_step, loaded = 0, 0, 0, False
    fold, step, streaming = -1, 0, False
    while load < folds or streaming:
        cycles += 1
        streams = streaming
        if load < folds and not loaded and (overlap or not streaming):
            groups, places = (row_group[load], col_group[load]), (row_index[load], col_index[load])
            size = (used[load, 0], used[load, 1])
            _load_cycle(stationary, groups, places, size, load_step, chain, chain_offers, (code[1], signed), counts)
            load_step += 1
            loaded = load_step == used[load, 0]
        if streams:
            r, c = used[fold, 0], used[fold, 1]
            for i in range(r):  # sums move up, so from the top: the sum below still shows the cycle before
                for j in range(c - 1, -1, -1):
                    if j == 0:
                        now = step - (r - 1 - i)
                        valid = 0 <= now < steps
                        word = stream[row_group[fold, i], row_index[fold, i], now] if valid else 0
                    else:
                        valid, word = offers[i, j - 1], register[i, j - 1]
                    offers[i, j] = valid and j + 1 < c
                    if not valid:
                        continue
                    changed = _flips(register[i, j], word, bits, signed)
                    counts[0] += changed
                    if j == 0:
                        counts[2] += changed
                    register[i, j] = word
                    total = sums[i + 1, j] if i + 1 < r else 0
                    if holds[i, j]:
                        total += held[i, j] * word
                        counts[4] += 1
                    if i > 0:
                        sums[i, j] = total
                    else:
                        accumulators[j, arrived[j]] += total
                        arrived[j] += 1
            step += 1
            if arrived[c - 1] == steps:
                streaming = False
                if row_fold[fold, 1] == 1:
                    for j in range(c):
                        for t in range(steps):
                            outputs[col_group[fold, j], col_index[fold, j], t] = accumulators[j, t]
        if loaded and not streaming:  # at this clock edge the operand that was shifted in becomes the one held
            for i in range(rows):
                for j in range(cols):
                    held[i, j], holds[i, j], chain_offers[i, j] = chain[i, j], chain_offers[i, j], False
            fold, load, load_step, loaded = load, load + 1, 0, False
            step, streaming = 0, True
            for j in range(cols):
                arrived[j] = 0
                if row_fold[fold, 0] == 1:
                    for t in range(steps):
                        accumulators[j, t] = 0
    return cycles
