"""Passing over zero weights: cycles against a fold-by-fold twin, the dense closed form and a hand count."""

from itertools import pairwise

import numpy as np
import pytest

from picojoule.accel.systolic import timing
from picojoule.accel.systolic._skipping_kernels import barrier_lengths, union_sizes
from picojoule.accel.systolic.timing import Dataflow
from picojoule.accel.systolic.zero_skipping import skipping_cycles


def barrier_reference(live_LP, starts, chunk):
    cuts = np.arange(0, live_LP.shape[1], chunk)
    counts_LQ = np.add.reduceat(live_LP.astype(np.int64), cuts, axis=1)
    return np.array([counts_LQ[a:b].max(0).sum() for a, b in pairwise(starts)])


def test_kernels_equal_their_numpy_twins():
    rng = np.random.default_rng(1)
    for _ in range(30):
        lanes, positions = rng.integers(1, 20, 2)
        live = rng.random((lanes, positions)) < rng.random()
        inner = np.flatnonzero(rng.random(lanes - 1) < 0.3) + 1
        starts = np.concatenate([[0], inner, [lanes]]).astype(np.int64)
        chunk = int(rng.integers(1, 25))
        assert barrier_lengths(live, starts, chunk).tolist() == barrier_reference(live, starts, chunk).tolist()
        unions = np.array([live[a:b].any(0).sum() for a, b in pairwise(starts)])
        assert union_sizes(np.ascontiguousarray(live.T), starts).tolist() == unions.tolist()


def fold_list(live, m, dataflow, rows, cols, side_by_side, serial, chunk):
    """(used rows, used columns, streamed cycles) of every fold in the order it runs, drawn up one by one."""
    groups, n, k = live.shape
    size = {Dataflow.OS: (m, n), Dataflow.WS: (k, n), Dataflow.IS: (k, m)}[dataflow]
    beside = min(rows // size[0], cols // size[1], groups) if side_by_side else 1
    beside = max(1, beside)

    def most(lanes):  # [lanes, positions]
        return sum(int(lanes[:, p : p + chunk].sum(1).max()) for p in range(0, lanes.shape[1], chunk))

    folds = []
    for first in range(0, groups, beside):
        packed = live[first : first + beside]
        p = len(packed)
        if dataflow is Dataflow.OS:
            lanes = packed.reshape(p * n, k)
            for c in range(0, p * n, cols):
                used = lanes[c : c + cols]
                folds += [
                    (min(rows, p * m - r), len(used), most(used) * serial) for r in range(0, p * m, rows) if used.any()
                ]
        elif dataflow is Dataflow.WS:
            for c in range(0, n, cols):
                height = sum(most(g[c : c + cols]) for g in packed)
                width = min(cols, n - c) * p
                folds += [(min(rows, height - r), width, m * serial) for r in range(0, height, rows)]
        else:
            lanes = packed.swapaxes(1, 2).reshape(p * k, n)
            for c in range(0, m, cols):
                width = min(cols, m - c) * p
                for r in range(0, p * k, rows):
                    used = lanes[r : r + rows]
                    folds += [(len(used), width, most(used) * serial)] if used.any() else []
    return folds


def twin_cycles(folds, dataflow, overlap):
    """Walk through the folds with two clocks: when the last stream ended, and when the last load or drain did."""
    now = free = 0
    for used_rows, used_cols, streamed in folds:
        stream = streamed + used_rows + used_cols - 2
        if dataflow is Dataflow.OS:
            if overlap:
                start = now  # the drain before runs beside this stream; the next may not begin before both are through
                now = max(start + stream, free)
                free = now + used_rows
            else:
                now += stream + used_rows
                free = now
        elif overlap:
            begin = max(now, free + used_rows)
            free = begin  # the shadow registers are free again once this stream starts
            now = begin + stream
        else:
            now += used_rows + stream
            free = now
    return max(now, free)


@pytest.mark.parametrize("dataflow", Dataflow)
@pytest.mark.parametrize("overlap", [False, True])
def test_cycles_equal_a_twin_fold_by_fold(dataflow, overlap):
    rng = np.random.default_rng([dataflow, overlap])
    packed = False
    for _ in range(150):
        groups, n, k, m = (int(v) for v in rng.integers(1, [6, 20, 24, 24]))
        rows, cols = (int(v) for v in rng.integers(1, 28, 2))
        live = rng.random((groups, n, k)) < rng.choice([0.1, 0.5, 0.9])
        chunk, serial, beside = int(rng.integers(2, 30)), int(rng.integers(1, 4)), bool(rng.integers(2))
        made = skipping_cycles(
            live, m, dataflow, rows, cols, side_by_side=beside, overlap=overlap, serial=serial, chunk=chunk
        )
        folds = fold_list(live, m, dataflow, rows, cols, beside, serial, chunk)
        assert made.cycles == twin_cycles(folds, dataflow, overlap)
        assert made.useful == live.sum() * m * serial
        slots = (made.imbalance, made.groups, made.padding, made.fill_drain)
        assert min(slots) >= 0
        assert sum(slots) + made.useful == made.cycles * rows * cols
        packed |= made.groups > 0
    assert packed


@pytest.mark.parametrize("dataflow", Dataflow)
def test_without_zeros_the_cycles_are_those_of_the_dense_array(dataflow):
    rng = np.random.default_rng(5)
    for _ in range(60):
        groups, n, k, m, rows, cols = (int(v) for v in rng.integers(1, [4, 40, 40, 40, 12, 12]))
        overlap = bool(rng.integers(2))
        made = skipping_cycles(
            np.ones((groups, n, k), dtype=bool), m, dataflow, rows, cols, side_by_side=False, overlap=overlap, chunk=7
        )
        dense = timing.fold_cycles(dataflow, rows, cols, m, n, k, groups, overlap, overlap)
        slots = timing.pe_cycles(dataflow, rows, cols, m, n, k, groups, compute_cycles=dense)
        assert (made.cycles, made.useful, made.padding, made.fill_drain) == (
            int(dense), int(slots.useful), int(slots.padding), int(slots.fill_drain)
        )  # fmt: skip
        assert made.imbalance == made.groups == 0


def test_repeats_are_the_same_folds_again():
    live = np.random.default_rng(2).random((2, 9, 9)) < 0.4
    live[-1, -1] = live[0] = True  # the last fold may be short and the next load long
    for dataflow in Dataflow:
        for overlap in (False, True):
            for m, size in ((5, 4), (1, 8), (9, 8)):
                once, again = (
                    skipping_cycles(
                        live_n, m, dataflow, size, size, side_by_side=False, overlap=overlap, repeats=repeats
                    )
                    for live_n, repeats in ((live, 3), (np.tile(live, (3, 1, 1)), 1))
                )
                assert once == again


def test_a_layer_counted_by_hand():
    """2 output channels keep 3 and 1 of 4 weights: 3 positions run where 4 are dense and 2 would do if they shared."""
    live = np.array([[[1, 1, 0, 1], [0, 0, 1, 0]]], dtype=bool)
    ws = skipping_cycles(live, 10, Dataflow.WS, 4, 2)
    assert ws.cycles == 3 + (10 + 3 + 2 - 2)  # three rows to load and to cross
    assert ws.useful == 40
    assert ws.imbalance == (3 * 2 - 4) * 10
    assert ws.row_length == 3
    os = skipping_cycles(live, 10, Dataflow.OS, 10, 2)
    assert os.cycles == (3 + 10 + 2 - 2) + 10
    two_chunks = skipping_cycles(live, 10, Dataflow.OS, 10, 2, chunk=2)
    assert os.row_length == 4
    assert two_chunks.cycles == os.cycles  # 2 then 1: the fuller channel is the same both times, or both keep one
    held = skipping_cycles(live, 10, Dataflow.IS, 4, 10)
    assert held.cycles == 4 + (1 + 4 + 10 - 2)  # every row keeps one of the two output channels
    assert held.imbalance == 0


def test_a_layer_of_zeros_takes_no_cycle():
    for dataflow in Dataflow:
        made = skipping_cycles(np.zeros((2, 3, 4), dtype=bool), 5, dataflow, 4, 4, overlap=True)
        assert made.cycles == made.useful == 0
