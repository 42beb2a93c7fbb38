"""Stalls: the closed form over classes of folds against the event twin, and what must always hold."""

import math
from fractions import Fraction
from math import ceil
from typing import Any

import numpy as np
import pytest
from numpy.random import Generator

from picojoule.accel.systolic import capacity, event_twin, pipeline, timing
from picojoule.accel.systolic.timing import Dataflow
from picojoule.accel.systolic.traffic import DramTraffic, dram_traffic
from picojoule.sim.errors import InfeasibleError

CASES = 350


def random_case(rng: Generator) -> dict[str, Any]:
    """Return a small layer on a small design; most have several row and column folds, some groups."""
    rows, cols = (int(x) for x in rng.integers(1, 7, 2))
    small = {name: int(rng.integers(1, 4)) for name in "mnk"} | {"groups": int(rng.integers(1, 12))}
    return {
        "dataflow": Dataflow(int(rng.integers(3))),
        "rows": rows,
        "cols": cols,
        "m": int(rng.integers(1, 4 * rows + 4)),
        "n": int(rng.integers(1, 5 * cols + 2)),
        "k": int(rng.integers(1, 5 * rows + 2)),
        "groups": int(rng.choice([1, 1, 1, 2, 3, 7])),
        "sram": [int(2 ** rng.uniform(1, 12)) for _ in range(3)],
        "side_by_side": bool(rng.integers(2)),
        "overlap": bool(rng.integers(2)),
        "bytes_per_cycle": float(2.0 ** rng.integers(-3, 6)),
        "latency": float(rng.choice([0, 0, 5, 40])),
        "burst": int(rng.choice([1, 2, 8, 32])),
        "bits": [int(x) for x in rng.choice([2, 4, 8, 16], 3)] + [32],
        "other": int(rng.choice([0, 13])),
        **(small if rng.integers(4) == 0 else {}),
    }


def priced(case: dict[str, Any]) -> tuple[int, int, DramTraffic, timing.FoldGrid, int]:
    """Return stalls and compute cycles by the closed forms, with what they were made of."""
    design = (case["dataflow"], case["rows"], case["cols"])
    sizes = (case["m"], case["n"], case["k"])
    grid = timing.fold_grid(*design, *sizes)
    together = (
        int(timing.packed_groups(grid, case["rows"], case["cols"], case["groups"])) if case["side_by_side"] else 1
    )
    a, w, y, s = case["bits"]
    ifmap, filters, ofmap = case["sram"]
    moved = dram_traffic(
        *design, *sizes, case["groups"],
        ifmap_elements=case.get("ifmap", max(case["groups"], case["m"] * case["k"] * case["groups"] // 2)),
        ifmap_bits=a, filter_bits=w, ofmap_bits=y, accumulator_bits=s,
        ifmap_sram_bytes=ifmap, filter_sram_bytes=filters, ofmap_sram_bytes=ofmap, shared_sram_bytes=case.get("shared"),
        together=together, grid=grid,
    )  # fmt: skip
    overlap = case["overlap"]
    compute = timing.fold_cycles(*design, *sizes, case["groups"], overlap, overlap, together=together, grid=grid)
    stalls = pipeline.stall_cycles(
        moved, grid, case["cols"], case["groups"], together=together, overlap_load=overlap, overlap_drain=overlap,
        bus=pipeline.Bus(
            bytes_per_cycle=case["bytes_per_cycle"], latency_cycles=case["latency"], burst_bytes=case["burst"]
        ),
        words=pipeline.Words(
            ifmap_bits=a, filter_bits=w, ofmap_bits=y, accumulator_bits=s, other_read_bytes=case["other"]
        ),
    )  # fmt: skip
    return int(stalls.item()), int(compute), moved, grid, together


def twin_of(case: dict[str, Any], moved: DramTraffic, together: int) -> tuple[event_twin.Layer, event_twin.TwinBus]:
    a, w, y, s = case["bits"]
    layer = event_twin.Layer(
        **{key: case[key] for key in ("dataflow", "rows", "cols", "m", "n", "k", "groups", "overlap")},
        together=together, ifmap_words=int(moved.ifmap_reads), filter_words=int(moved.filter_reads),
        psum_words=int(moved.psum_reads), ofmap_words=int(moved.ofmap_writes), ifmap_bits=a, filter_bits=w,
        ofmap_bits=y, accumulator_bits=s, other_bytes=case["other"],
        row_operand_stays=bool(moved.row_operand_stays), col_operand_stays=bool(moved.col_operand_stays),
    )  # fmt: skip
    bus = event_twin.TwinBus(Fraction(case["bytes_per_cycle"]), Fraction(case["latency"]), case["burst"])
    return layer, bus


@pytest.mark.parametrize(("seed", "cases"), [(7, CASES), pytest.param(70, 10_000, marks=pytest.mark.full)])
def test_closed_form_equals_the_event_twin(seed: int, cases: int) -> None:
    rng = np.random.default_rng(seed)
    stalled = 0
    for _ in range(cases):
        case = random_case(rng)
        stalls, compute, moved, _, together = priced(case)
        layer, bus = twin_of(case, moved, together)
        folds = event_twin.folds_of(layer)
        exposed = event_twin.exposed_cycles(folds, layer)
        assert sum(f.compute for f in folds) + exposed == compute, case
        total = event_twin.run(folds, bus) + exposed
        assert stalls == max(0, ceil(total - compute - Fraction(1, 10**6))), case
        stalled += stalls > 0
    assert stalled > cases // 2


def test_stalls_never_grow_with_bandwidth_or_sram() -> None:
    rng = np.random.default_rng(8)
    for _ in range(CASES // 2):
        case = random_case(rng)
        if rng.integers(2):
            case["shared"] = sum(case["sram"])
        stalls, _, moved, _, _ = priced(case)
        faster = priced({**case, "bytes_per_cycle": case["bytes_per_cycle"] * float(rng.uniform(1, 3))})[0]
        assert 0 <= faster <= stalls, case
        nearer = priced({**case, "latency": case["latency"] / 2})[0]
        assert nearer <= stalls, case
        bigger = {**case, "sram": [int(size * rng.uniform(1, 4)) for size in case["sram"]]}
        if "shared" in case:
            bigger["shared"] = int(case["shared"] * rng.uniform(1, 4))
        fewer, _, less, _, _ = priced(bigger)
        assert fewer <= stalls, case
        assert less.total_bytes <= moved.total_bytes, case
        assert priced({**case, "bytes_per_cycle": math.inf, "latency": 0.0})[0] == 0


@pytest.mark.parametrize("varied", ["bandwidth", "latency", "sram", "overlap", "rows", "dataflow", "none"])
def test_designs_side_by_side_equal_one_by_one(varied: str) -> None:
    rng = np.random.default_rng(12)
    m, n, k, groups = (rng.integers(1, high, (5, 1)) for high in (40, 30, 30, 4))
    keys: dict[str, list[Any]] = {
        "bandwidth": [3.0, 0.5, 16.0], "latency": [0.0, 3.0, 40.0], "sram": [8, 100, 4000], "overlap": [False, True, True],
        "rows": [3, 4, 8], "dataflow": [0, 1, 2],
    }  # fmt: skip

    def stalls(columns: dict[str, Any]) -> Any:
        flow, rows, cols = columns["dataflow"], columns["rows"], np.array([4])
        grid = timing.fold_grid(flow, rows, cols, m, n, k)
        together = timing.packed_groups(grid, rows, cols, groups)
        sram: dict[str, Any] = {f"{operand}_sram_bytes": columns["sram"] for operand in ("ifmap", "filter", "ofmap")}
        bits: dict[str, Any] = {"ifmap_bits": 8, "filter_bits": 8, "ofmap_bits": 8, "accumulator_bits": 32}
        moved = dram_traffic(
            flow,
            rows,
            cols,
            m,
            n,
            k,
            groups,
            ifmap_elements=m * k * groups,
            **bits,
            **sram,
            together=together,
            grid=grid,
        )
        return pipeline.stall_cycles(
            moved, grid, cols, groups, together=together, overlap_load=columns["overlap"], overlap_drain=columns["overlap"],
            bus=pipeline.Bus(bytes_per_cycle=columns["bandwidth"], latency_cycles=columns["latency"], burst_bytes=8),
            words=pipeline.Words(**bits),
        )  # fmt: skip

    every = {key: np.array(values if key == varied else values[1:2]) for key, values in keys.items()}
    found = np.broadcast_to(stalls(every), (5, 1 if varied == "none" else 3))
    for i in range(found.shape[1]):
        one = {key: values[i : i + 1] if key == varied else values for key, values in every.items()}
        assert (stalls(one)[:, 0] == found[:, i]).all()


def test_waiting_for_each_line_adds_no_more_than_the_stated_bound() -> None:
    rng = np.random.default_rng(9)
    longer = 0
    for _ in range(60):
        case = {**random_case(rng), "overlap": False}
        _, _, moved, _, together = priced(case)
        layer, bus = twin_of(case, moved, together)
        folds = event_twin.folds_of(layer)
        relaxed, strict = event_twin.run(folds, bus), event_twin.strict_cycles(folds, bus)
        assert relaxed <= strict <= relaxed + event_twin.strict_excess(folds, bus), case
        longer += strict > relaxed
    assert longer > 10


def test_shares_of_a_layer_add_up_to_its_traffic() -> None:
    rng = np.random.default_rng(10)
    for _ in range(100):
        case = random_case(rng)
        _, _, moved, _, together = priced(case)
        layer, _ = twin_of(case, moved, together)
        folds = event_twin.folds_of(layer)
        a, w, y, s = case["bits"]
        inward = sum(f.inward + f.tile for f in folds)
        assert 8 * inward == int(moved.ifmap_reads) * a + int(moved.filter_reads) * w + int(moved.psum_reads) * s + (
            8 * case["other"]
        ), case
        assert (
            8 * sum(f.outward + f.drained for f in folds) == int(moved.ofmap_writes) * y + int(moved.psum_writes) * s
        ), case


def test_stalls_of_a_layer_counted_by_hand() -> None:
    """ws on 2 x 2, m = 4, n = 2, k = 4: two row folds of 2 + 4 + 2 + 2 - 2 = 8 cycles; one byte a cycle, 8-bit words.

    Fill: tile of 4 and a first word for each of 2 ports: 6. Step 0 streams the other 6 ifmap words, and 4 of the next tile: 10,
    so 2 of waiting. Step 1: 8 ifmap words and 8 results but the last 2: 14, so 6. Store: 2. In all 6 + 2 + 6 + 2 = 16.
    """
    case = {
        "dataflow": Dataflow.WS, "rows": 2, "cols": 2, "m": 4, "n": 2, "k": 4, "groups": 1, "sram": [64, 64, 64],
        "side_by_side": False, "overlap": False, "bytes_per_cycle": 1.0, "latency": 0.0, "burst": 1,
        "bits": [8, 8, 8, 32], "other": 0, "ifmap": 16,
    }  # fmt: skip
    stalls, compute, moved, _, _ = priced(case)
    assert compute == 16
    assert (int(moved.ifmap_reads), int(moved.psum_reads)) == (16, 0)
    assert stalls == 16
    # A latency of 3 cycles shows in all four batches.
    assert priced({**case, "latency": 3.0})[0] == 16 + 4 * 3
    # Bursts of 4: 8 + (12 - 8) + (16 - 8) + 4.
    assert priced({**case, "burst": 4})[0] == 24


def test_a_shared_sram_serves_the_smallest_set_first() -> None:
    """ws, 3 row and 2 column folds on 2 x 2: the sums of a column fold take 4 x 2 x 4 = 32 bytes, the ifmap 24."""
    sizes: dict[str, Any] = {
        "ifmap_elements": 24,
        "ifmap_bits": 8,
        "filter_bits": 8,
        "ofmap_bits": 8,
        "accumulator_bits": 32,
    }
    srams: dict[str, Any] = {"ifmap_sram_bytes": 0, "filter_sram_bytes": 0, "ofmap_sram_bytes": 0}

    def moved(shared: int) -> DramTraffic:
        return dram_traffic(1, 2, 2, 4, 4, 6, **sizes, **srams, shared_sram_bytes=shared)

    assert (int(moved(47).ifmap_reads), int(moved(47).psum_reads)) == (48, 32)
    assert (int(moved(48).ifmap_reads), int(moved(48).psum_reads)) == (24, 32)
    assert (int(moved(111).ifmap_reads), int(moved(111).psum_reads)) == (24, 32)
    assert (int(moved(112).ifmap_reads), int(moved(112).psum_reads)) == (24, 0)
    assert int(moved(112).held_bytes) == 56


def test_too_small_an_sram_says_what_is_missing() -> None:
    bits = {"ifmap_bits": 8, "filter_bits": 4, "ofmap_bits": 16, "accumulator_bits": 32}
    needs = capacity.least_needs(timing.fold_grid(1, 16, 8, 100, 100, 100), 8, **bits)
    assert (int(needs.ifmap), int(needs.filter), int(needs.ofmap)) == (32, 128, 64)
    os_needs = capacity.least_needs(timing.fold_grid(0, 16, 8, 100, 100, 100), 8, **bits)
    assert (int(os_needs.ifmap), int(os_needs.filter), int(os_needs.ofmap)) == (32, 8, 512)
    capacity.require("conv1", needs, (32, 128, 64))
    with pytest.raises(InfeasibleError) as caught:
        capacity.require("conv1", needs, (32, 127, 64))
    assert str(caught.value) == (
        "layer 'conv1' needs 128 bytes of filter SRAM, double-buffered, but there are 127; set filter_sram_kib to at least "
        "0.125 or use a smaller array"
    )
    with pytest.raises(InfeasibleError) as caught:
        capacity.require("conv1", needs, (0, 0, 0), 223)
    assert str(caught.value) == (
        "layer 'conv1' needs 224 bytes of shared SRAM (32 for the ifmap + 128 for the filter + 64 for the ofmap), "
        "double-buffered, but there are 223; set sram_kib to at least 0.21875 or use a smaller array"
    )
    assert list(needs.short((32, 128, np.array([63, 64])))) == [True, False]
