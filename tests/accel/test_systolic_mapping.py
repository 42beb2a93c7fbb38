"""Mappings: the array formulas against a walk over every tile, the search against brute force, counts against loop nests."""

from itertools import product
from math import ceil
from typing import Any

import numpy as np
import pytest

import picojoule as pj
from picojoule.accel.systolic import mapping_search
from picojoule.accel.systolic.array_pricing import Counts
from picojoule.accel.systolic.bill import Events, array_bill
from picojoule.accel.systolic.design_arrays import DesignArrays
from picojoule.accel.systolic.dram_bus import Bus
from picojoule.accel.systolic.energy import EnergyModel
from picojoule.accel.systolic.load import Kinds, load_of
from picojoule.accel.systolic.loop_nest import LoopNest
from picojoule.accel.systolic.loop_nest_counts import count as count_nest
from picojoule.accel.systolic.mapping_cost import MappedCounts, count, stall_cycles
from picojoule.accel.systolic.mapping_space import (
    ORDERS,
    Mappings,
    Problem,
    fitting_mappings,
    ifmap_tile,
    tile_sizes,
)
from picojoule.accel.systolic.spec import SystolicSpec
from picojoule.accel.systolic.timing import Dataflow
from picojoule.accel.systolic.totals import totals_of
from tests.accel.mapping_walk import random_problem, walk

HUGE = (2**40,) * 3


def single(tile: tuple[int, int, int], order: str) -> Mappings:
    m, n, k = (np.array([size]) for size in tile)
    return Mappings(m, n, k, np.array([ORDERS.index(order)]))


def test_every_mapping_costs_what_a_walk_over_its_tiles_counts() -> None:
    rng = np.random.default_rng(3)
    for _ in range(200):
        p = random_problem(rng, HUGE, other_bytes=int(rng.choice([0, 9])))
        tile = tuple(
            int(rng.choice(tile_sizes(size, unit, 1))) for size, unit in ((p.m, p.m_unit), (p.n, 1), (p.k, p.k_unit))
        )
        order = str(rng.choice(ORDERS))
        walked = walk(p, (tile[0], tile[1], tile[2]), order)
        maps = single((tile[0], tile[1], tile[2]), order)
        counts = count(p, maps)
        assert {name: int(getattr(counts, name)[0]) for name in walked if name != "stalls"} == {
            name: value for name, value in walked.items() if name != "stalls"
        }, (p, tile, order)
        assert int(stall_cycles(p, maps)[0]) == walked["stalls"], (p, tile, order)


def score_parts(counts: MappedCounts) -> tuple[Any, float]:
    """Return a made-up linear score: energy of words and bytes, and cycles."""
    words = counts.ifmap_reads + counts.filter_reads + counts.ofmap_writes + counts.psum_reads
    moved = counts.dram_read_bytes + counts.dram_write_bytes
    return 0.3 * words + 5.0 * moved + 2.0 * counts.compute, 2.0


def test_search_finds_the_best_of_all_tilings_and_orders() -> None:
    rng = np.random.default_rng(5)
    found, pruned = 0, 0
    for _ in range(40):
        p = random_problem(rng)
        best = mapping_search.best_mapping(p, fitting_mappings(p), score_parts, block=2)
        tiles = [
            (tm, tn, tk)
            for tm, tn, tk in product(range(1, p.m + 1), range(1, p.n + 1), range(1, p.k + 1))
            if (tm % p.m_unit == 0 or tm == p.m) and (tk % p.k_unit == 0 or tk == p.k) and holds(p, tm, tn, tk)
        ]
        tm_all, tn_all, tk_all = np.repeat(np.array(tiles, dtype=np.int64).reshape(-1, 3), 6, axis=0).T
        maps = Mappings(tm_all, tn_all, tk_all, np.tile(np.arange(6), len(tiles)))
        unstalled, per_cycle = score_parts(count(p, maps))
        scores = list(unstalled + per_cycle * stall_cycles(p, maps))
        if not scores:
            assert best.place == -1
            continue
        assert best.score == pytest.approx(min(scores), rel=1e-12)
        every = fitting_mappings(p)
        unstalled, per_cycle, bounds = mapping_search.lower_bounds(p, every, score_parts)
        assert (bounds <= unstalled + per_cycle * stall_cycles(p, every)).all()
        assert best.timed >= (bounds < best.score).sum()
        found += 1
        pruned += best.timed < best.considered
    assert found > 20
    assert pruned > 5


def holds(p: Problem, tm: int, tn: int, tk: int) -> bool:
    """Return whether half of each SRAM holds the tile, written for one mapping."""
    folded = -(-tk // p.rows) > 1 and p.dataflow is not Dataflow.OS
    sum_bits = p.accumulator_bits if tk < p.k or folded else p.ofmap_bits
    sizes = (int(ifmap_tile(p, tm, tk)) * p.ifmap_bits, tn * tk * p.filter_bits, tm * tn * sum_bits)
    return all(ceil(bits / 8) <= half for bits, half in zip(sizes, p.halves, strict=True))


def test_a_convolution_tile_holds_the_pixels_under_its_windows() -> None:
    """Rows of pixels that `rows` rows of outputs touch, counted as a set; inside the image, where no padding cuts it."""
    rng = np.random.default_rng(13)
    for _ in range(50):
        stride, kernel, rows, channels = (int(x) for x in rng.integers(1, 6, 4))
        p = random_problem(
            rng,
            HUGE,
            m=9 * 4,
            m_unit=4,
            k=9 * kernel,
            k_unit=kernel,
            stride=stride,
            kernel=kernel,
            row_words=7,
            in_rows=100,
        )
        touched = {row * stride + tap for row in range(rows) for tap in range(kernel)}
        assert int(ifmap_tile(p, rows * 4, channels * kernel)) == len(touched) * 7 * channels


def test_long_sizes_are_cut_in_whole_folds() -> None:
    assert tile_sizes(16, 1, 8) == list(range(1, 17))
    assert tile_sizes(100, 1, 32) == [32, 64, 100]
    assert tile_sizes(3136, 56, 32)[:3] == [56, 112, 168]
    sizes = tile_sizes(5000, 1, 8)
    assert sizes[-1] == 5000
    assert all(size % 8 == 0 for size in sizes)
    assert len({-(-5000 // size) for size in sizes}) == len(sizes)


@pytest.mark.parametrize("objective", ["latency", "energy", "edp"])
def test_a_network_is_never_worse_than_with_the_default_mapping(objective: str) -> None:
    spec = SystolicSpec(
        rows=8, cols=8, dataflow="ws", ifmap_sram_kib=8, filter_sram_kib=8, ofmap_sram_kib=8, dram_gib_per_s=1.0,
        mapping_objective=objective,  # type: ignore[arg-type]
    )  # fmt: skip
    for batch in (1, 3):
        load = load_of(pj.load("lenet5"), spec, batch)
        totals = totals_of(load, DesignArrays.of(spec))
        found = mapping_search.search(load, totals)
        assert found.texts == mapping_search.search(load, totals).texts
        assert totals.schedules is not None
        assert load.kinds is not None
        default, kinds = totals.schedules.chosen, load.kinds
        seconds, pj_before = float(totals.latency_s.item()), float((totals.dynamic_pj + totals.static_pj).item())
        leak_w = float(totals.static_pj.item()) / seconds
        before, after = (kinds.times @ found_of(c, kinds, spec) for c in (default, found.counts))
        saved_s = float(before[0] - after[0]) / (spec.clock_mhz * 1e6)
        energy = pj_before - float(before[1] - after[1]) - leak_w * saved_s
        worth = {"latency": (seconds - saved_s, seconds), "energy": (energy, pj_before)}
        worth["edp"] = (energy * (seconds - saved_s), pj_before * seconds)
        now, then = worth[objective]
        assert now <= then * (1 + 1e-12)
        assert any(text != mapping_search.DEFAULT for text in found.texts)
        assert now < then


def found_of(counts: Counts, kinds: Kinds, spec: SystolicSpec) -> Any:
    """Return (cycles, pJ) of each kind, [kinds, 2]."""
    model, shape = EnergyModel(DesignArrays.of(spec)), (len(kinds.times), 1)
    rows = []
    for i, job in enumerate(kinds.whole.jobs):
        events = Events.of(kinds.whole, counts, job, spec.accumulator_bits, lambda c, i=i: np.broadcast_to(c, shape)[i])  # type: ignore[misc]
        energy = sum(float(np.sum(charge.pj)) for charge in array_bill(model, job, events))
        rows.append((float(np.broadcast_to(counts.compute + counts.stalls, shape)[i, 0]), energy))
    return np.array(rows)


def test_one_tile_moves_what_is_compulsory() -> None:
    """A convolution that fits: each ifmap element once, as the workload counts them."""
    spec = SystolicSpec(ifmap_sram_kib=4096, filter_sram_kib=65536, ofmap_sram_kib=65536)
    load = load_of(pj.load("lenet5"), spec, 2)
    for job in load.workload.jobs:
        p = mapping_search.problem_of(job, DesignArrays.of(spec), 2)
        assert p is not None
        counts = count(p, single((p.m, p.n, p.k), "mnk"))
        assert int(counts.dram_ifmap[0]) == job.ifmap_elements


def test_words_equal_an_independent_loop_nest() -> None:
    """GEMM mappings in the notation of fixed mappings: SRAM and DRAM words as `loop_nest_counts` walks them."""
    rng = np.random.default_rng(11)
    for _ in range(25):
        rows, cols = (int(x) for x in rng.integers(1, 4, 2))
        flow = Dataflow(int(rng.integers(3)))
        # Whole folds and whole tiles: a ragged tile has other folds, which one loop nest cannot say. Two folds each way, so that
        # no PE finds its operand where the fold before left it: the nest would not read it again, the array loads every fold.
        tile = {d: int(rng.integers(2, 4)) for d in "mnk"}
        row_dim, col_dim = {Dataflow.OS: ("m", "n"), Dataflow.WS: ("k", "n"), Dataflow.IS: ("k", "m")}[flow]
        (stream,) = set("mnk") - {row_dim, col_dim}
        tile[row_dim] *= rows
        tile[col_dim] *= cols
        passes = {d: int(rng.integers(1, 4)) for d in "mnk"}
        order = str(rng.choice(ORDERS))
        p = Problem(
            dataflow=flow, rows=rows, cols=cols, in_rows=tile["m"] * passes["m"], ifmap_bits=8, filter_bits=8, ofmap_bits=8,
            accumulator_bits=32, halves=HUGE, bus=Bus(bytes_per_cycle=1.0),
            m=tile["m"] * passes["m"], n=tile["n"] * passes["n"], k=tile["k"] * passes["k"],
        )  # fmt: skip
        ours = count(p, single((tile["m"], tile["n"], tile["k"]), order))
        names = {"m": "P", "n": "K", "k": "C"}
        dram = " ".join(f"{names[d]}{passes[d]}" for d in order)
        folds = f"{names[col_dim]}{tile[col_dim] // cols} {names[row_dim]}{tile[row_dim] // rows}"
        nest = LoopNest.from_dict(
            {
                "rows": rows, "cols": cols, "levels": ["DRAM", "GLB", "REG"],
                "mapping": f"DRAM: {dram} | GLB: {folds} {names[stream]}{tile[stream]} | "
                f"spatialY: {names[row_dim]}{rows} | spatialX: {names[col_dim]}{cols} | REG:",
            }
        )  # fmt: skip
        theirs = count_nest(nest)
        dram_of = {o: theirs.of("DRAM", o) for o in ("Inputs", "Weights", "Outputs")}
        assert int(ours.dram_ifmap[0]) == dram_of["Inputs"].reads
        assert int(ours.dram_filter[0]) == dram_of["Weights"].reads
        assert int(ours.dram_psums[0]) == dram_of["Outputs"].reads
        assert int(ours.dram_psums[0]) + p.m * p.n == dram_of["Outputs"].updates
        glb = {o: theirs.of("GLB", o) for o in ("Inputs", "Weights", "Outputs")}
        assert int(ours.ifmap_reads[0]) == glb["Inputs"].reads
        assert int(ours.filter_reads[0]) == glb["Weights"].reads
        assert int(ours.ofmap_writes[0]) == glb["Outputs"].updates
        assert int(ours.psum_reads[0]) == glb["Outputs"].reads
