"""Systolic cycles, utilization, traffic: hand counts, SCALE-Sim's measured figures, slow loops, properties, bounds."""

import csv
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from picojoule.accel.systolic.timing import (
    Dataflow,
    check_bounds,
    fold_cycles,
    fold_grid,
    packed_groups,
    pe_cycles,
    scalesim_cycles,
    scalesim_utilizations,
    utilization,
)
from picojoule.accel.systolic.traffic import (
    dram_bytes_per_cycle,
    dram_traffic,
    scalesim_sram_counts,
    sram_counts,
    whole_cycles,
)
from picojoule.sim.errors import InputError

OS, WS, IS = Dataflow
REFERENCE = Path(__file__).parents[1] / "reference" / "scalesim"

sizes = st.integers(1, 40)
arrays = st.integers(1, 12)
products = st.fixed_dictionaries(
    {
        "dataflow": st.sampled_from(list(Dataflow)),
        "rows": arrays,
        "cols": arrays,
        "m": sizes,
        "n": sizes,
        "k": sizes,
        "groups": st.integers(1, 3),
    }
)
memories = st.fixed_dictionaries(
    {
        "ifmap_bits": st.integers(1, 16),
        "filter_bits": st.integers(1, 16),
        "ofmap_bits": st.integers(1, 16),
        "accumulator_bits": st.integers(16, 32),
        "ifmap_sram_bytes": st.integers(0, 4000),
        "filter_sram_bytes": st.integers(0, 4000),
        "ofmap_sram_bytes": st.integers(0, 4000),
    }
)
WIDTHS = {"ifmap_bits": 8, "filter_bits": 8, "ofmap_bits": 8, "accumulator_bits": 32}
thorough = settings(max_examples=300, deadline=None)


def srams(ifmap, filters=None, ofmap=None):
    """Three SRAM sizes in bytes, all equal unless given."""
    filters, ofmap = (ifmap if size is None else size for size in (filters, ofmap))
    return {"ifmap_sram_bytes": ifmap, "filter_sram_bytes": filters, "ofmap_sram_bytes": ofmap}


# ---- a 2 x 2 array, counted by hand ----
#
# os, m = n = k = 2. PE(r, c) holds output [r, c]; operands enter skewed by one cycle per row and per column, so PE(r,
# c) multiplies element t in cycle r + c + t:
#
#   cycle    PE00     PE01     PE10     PE11
#     0      a00*b00
#     1      a01*b10  a00*b01  a10*b00
#     2               a01*b11  a11*b10  a10*b01
#     3                                 a11*b11      <- T + r + c - 2 = 4 cycles of stream
#     4      row 1 leaves through the columns
#     5      row 0 leaves                            <- r = 2 cycles of drain; 6 in all, 8 of 24 PE cycles useful
#
# ws, m = 3, n = k = 2. PE(r, c) holds b[r, c]:
#
#     0      b1* enters row 0
#     1      b0* enters row 0, b1* moves to row 1    <- r = 2 cycles of load
#     2      a00*b00
#     3      a10*b00  a00*b01  a01*b10
#     4      a20*b00  a10*b01  a11*b10  a01*b11
#     5               a20*b01  a21*b10  a11*b11
#     6                                 a21*b11      <- T + r + c - 2 = 5; 7 in all
#
# os, m = 3, n = k = 2: fold 0 uses both rows (4 + 2 cycles), fold 1 only one: 2 + 1 + 2 - 2 = 3 of stream, 1 of
# drain, 10 in all. With the drain overlapped: 4, then fold 1's 3 cycles hide fold 0's 2 of drain, then 1 of drain: 8.
def test_two_by_two_counted_by_hand():
    assert fold_cycles(OS, 2, 2, 2, 2, 2) == 6
    assert fold_cycles(WS, 2, 2, 3, 2, 2) == 7
    assert fold_cycles(IS, 2, 2, 2, 3, 2) == 7  # the same with m and n exchanged
    assert fold_cycles(OS, 2, 2, 3, 2, 2) == 10
    assert fold_cycles(OS, 2, 2, 3, 2, 2, overlap_drain=True) == 8
    # ws, k = 4: two full folds of 2 + 5; the second load hides behind the first stream.
    assert fold_cycles(WS, 2, 2, 3, 2, 4) == 14
    assert fold_cycles(WS, 2, 2, 3, 2, 4, overlap_load=True) == 12
    slots = pe_cycles(OS, 2, 2, 3, 2, 2, compute_cycles=10)
    assert (slots.useful, slots.padding, slots.fill_drain) == (12, 4, 24)  # fold 1 idles 2 PEs for T = 2 cycles


def test_two_by_two_sram_words_counted_by_hand():
    # The first example reads each operand once; with n = 4 (two column folds) it reads the ifmap twice.
    counts = sram_counts(OS, 2, 2, 2, 4, 2)
    assert (counts.ifmap_reads, counts.filter_reads, counts.ofmap_writes, counts.psum_reads) == (8, 8, 8, 0)
    # ws, k = 4: both row folds write all 6 sums, the second reads the first's.
    counts = sram_counts(WS, 2, 2, 3, 2, 4)
    assert (counts.ifmap_reads, counts.filter_reads, counts.ofmap_writes, counts.psum_reads) == (12, 8, 12, 6)


# ---- SCALE-Sim 3.0.0, measured ----


@pytest.mark.parametrize(("file", "row_count"), [("random_calc.csv", 420), ("conv_nets_calc.csv", 416)])
def test_every_measured_scalesim_row_is_reproduced(file, row_count):
    with (REFERENCE / file).open(newline="") as lines:
        table = list(csv.DictReader(lines))
    assert len(table) == row_count

    def column(name):
        return np.array([int(row[name]) for row in table])

    def percent(name):
        return np.array([float(row[name]) for row in table])

    stride = column("stride")
    height, width = (-(-(column(f"ifmap_{a}") - column(f"filt_{a}") + stride) // stride) for a in "hw")
    m, n, k = height * width, column("num_filters"), column("filt_h") * column("filt_w") * column("channels")
    assert (m == column("M")).all()
    assert (n == column("N")).all()
    assert (k == column("K")).all()

    shape = ([Dataflow.of(row["dataflow"]) for row in table], column("rows"), column("cols"), m, n, k)
    check_bounds(*shape[1:])
    np.testing.assert_array_equal(scalesim_cycles(*shape), column("lines"))
    counts = scalesim_sram_counts(*shape)
    np.testing.assert_array_equal(counts.ifmap_reads, column("sram_ifmap_reads"))
    np.testing.assert_array_equal(counts.filter_reads, column("sram_filter_reads"))
    np.testing.assert_array_equal(counts.ofmap_writes, column("sram_ofmap_writes"))
    assert not counts.psum_reads.any()
    shares = scalesim_utilizations(*shape, stall_cycles=column("stall_cycles"))
    rounding = 0.5e-6 + 1e-9  # printed to 6 decimals
    np.testing.assert_allclose(shares.overall_pct, percent("overall_util_pct"), rtol=0, atol=rounding)
    np.testing.assert_allclose(shares.mapping_efficiency_pct, percent("mapping_eff_pct"), rtol=0, atol=rounding)
    np.testing.assert_allclose(shares.compute_pct, percent("compute_util_pct"), rtol=0, atol=rounding)


# ---- slow loops over folds ----


def folds_of(dataflow, rows, cols, m, n, k, groups=1):
    """Yield (used rows, used cols, T, index of the row fold) in the order folds run."""
    down, across, streamed = {OS: (m, n, k), WS: (k, n, m), IS: (k, m, n)}[dataflow]
    for _ in range(groups):
        for left in range(0, across, cols):
            for row_fold, top in enumerate(range(0, down, rows)):
                yield min(rows, down - top), min(cols, across - left), streamed, row_fold


def cycles_by_loop(shape, overlap_load, overlap_drain):
    clock, hidden = 0, 0  # `hidden`: length of a load or drain that runs beside the next stream
    folds = list(folds_of(**shape))
    is_os = shape["dataflow"] == OS
    for i, (r, c, streamed, _) in enumerate(folds):
        stream = streamed + r + c - 2
        if is_os and overlap_drain:
            clock += max(stream, hidden)
            hidden = r
        elif is_os:
            clock += stream + r
        elif overlap_load:
            following = folds[i + 1][0] if i + 1 < len(folds) else 0
            clock += (r if i == 0 else 0) + max(stream, following)
        else:
            clock += r + stream
    return clock + hidden


@thorough
@given(shape=products, overlap_load=st.booleans(), overlap_drain=st.booleans())
def test_cycles_equal_a_loop_over_folds(shape, overlap_load, overlap_drain):
    expected = cycles_by_loop(shape, overlap_load, overlap_drain)
    assert fold_cycles(**shape, overlap_load=overlap_load, overlap_drain=overlap_drain) == expected


@pytest.mark.parametrize("dataflow", Dataflow)
def test_cycles_equal_a_loop_where_loads_and_drains_outlast_streams(dataflow):
    # Tall, narrow arrays and short streams: the only shapes where an overlapped load or drain is waited for.
    waited = 0
    choices = ((7, 9), (1, 2), (8, 10, 12), (1, 2, 3), (1, 3), (1, 3))
    for rows, cols, down, across, streamed, groups in itertools.product(*choices):
        m, n, k = {OS: (down, across, streamed), WS: (streamed, across, down), IS: (across, streamed, down)}[dataflow]
        shape = {"dataflow": dataflow, "rows": rows, "cols": cols, "m": m, "n": n, "k": k, "groups": groups}
        ours = fold_cycles(**shape, overlap_load=True, overlap_drain=True)
        assert ours == cycles_by_loop(shape, True, True)
        streams = sum(t + r + c - 2 for r, c, t, _ in folds_of(**shape))
        edge = [r for r, *_ in folds_of(**shape)][-1 if dataflow == OS else 0]
        waited += int(ours > streams + edge)
    assert waited > 20


def placed_folds(dataflow, rows, cols, m, n, k, groups):
    """Return the folds of groups side by side as lists of blocks (r, c), put on the diagonal one by one while they fit."""
    down, across, _ = {OS: (m, n, k), WS: (k, n, m), IS: (k, m, n)}[dataflow]
    if down > rows or across > cols:
        return [[(r, c)] for r, c, *_ in folds_of(dataflow, rows, cols, m, n, k, groups)]
    folds, free = [], (0, 0)
    for _ in range(groups):
        if free[0] < down or free[1] < across:
            folds.append([])
            free = (rows, cols)
        folds[-1].append((down, across))
        free = (free[0] - down, free[1] - across)
    return folds


packable = st.fixed_dictionaries(
    {
        "dataflow": st.sampled_from(list(Dataflow)),
        "rows": st.integers(1, 24),
        "cols": st.integers(1, 24),
        "m": st.integers(1, 9),
        "n": st.integers(1, 9),
        "k": st.integers(1, 9),
        "groups": st.integers(1, 20),
    }
)


@thorough
@given(shape=packable, overlap_load=st.booleans(), overlap_drain=st.booleans())
def test_groups_side_by_side_equal_blocks_placed_one_by_one(shape, overlap_load, overlap_drain):
    blocks = placed_folds(**shape)
    streamed = {OS: shape["k"], WS: shape["m"], IS: shape["n"]}[shape["dataflow"]]
    folds = [(sum(r for r, _ in fold), sum(c for _, c in fold)) for fold in blocks]
    grid = fold_grid(*(shape[key] for key in ("dataflow", "rows", "cols", "m", "n", "k")))
    together = packed_groups(grid, shape["rows"], shape["cols"], shape["groups"])
    assert together == max(len(fold) for fold in blocks)
    hidden = overlap_drain if shape["dataflow"] == OS else overlap_load
    clock = late = 0
    for i, (r, c) in enumerate(folds):
        stream = streamed + r + c - 2
        if not hidden:
            clock += stream + r
        elif shape["dataflow"] == OS:
            clock, late = clock + max(stream, late), r
        else:
            following = folds[i + 1][0] if i + 1 < len(folds) else 0
            clock += (r if i == 0 else 0) + max(stream, following)
    overlaps = {"overlap_load": overlap_load, "overlap_drain": overlap_drain}
    cycles = fold_cycles(**shape, **overlaps, together=together)
    assert cycles == clock + late
    if (
        streamed > 1 and not hidden
    ):  # a single streamed step has nothing to share, and what is hidden grows with the fold
        assert cycles <= fold_cycles(**shape)

    pes = shape["rows"] * shape["cols"]
    slots = pe_cycles(**shape, compute_cycles=cycles, together=together)
    multiplying = [sum(r * c for r, c in fold) for fold in blocks]
    assert slots.useful == streamed * sum(multiplying)
    assert slots.groups == streamed * sum(r * c - used for (r, c), used in zip(folds, multiplying, strict=True))
    assert slots.padding == streamed * sum(pes - r * c for r, c in folds)
    assert slots.useful + slots.groups + slots.padding + slots.fill_drain == cycles * pes
    shares = utilization(**shape, compute_cycles=cycles, stall_cycles=5, together=together)
    lost = (shares.lost_padding, shares.lost_groups, shares.lost_fill_drain, shares.lost_bandwidth)
    assert min(lost) >= 0
    assert shares.utilization + sum(lost) == pytest.approx(1, abs=1e-12)
    assert shares.mapping_efficiency == pytest.approx(np.mean(multiplying) / pes, rel=1e-12)


# 3 groups of k = 2, n = 2 on 4 x 5 PEs, ws, m = 3: two share the first fold (4 rows of load, 3 + 4 + 4 - 2 = 9 of stream), one
# has the second (2 + 5): 20 cycles. Off the diagonal 8 PEs idle for 3 cycles; padding 4 PEs and then 16 for 3 cycles each.
def test_two_groups_on_a_diagonal_by_hand():
    shape = (WS, 4, 5, 3, 2, 2, 3)
    together = packed_groups(fold_grid(*shape[:-1]), 4, 5, 3)
    assert together == 2
    assert fold_cycles(*shape, together=together) == 20
    assert fold_cycles(*shape) == 21
    slots = pe_cycles(*shape, compute_cycles=20, together=together)
    assert (slots.useful, slots.groups, slots.padding, slots.fill_drain) == (36, 24, 60, 280)


@thorough
@given(shape=products)
def test_utilization_and_losses_equal_a_loop_over_folds(shape):
    pes = shape["rows"] * shape["cols"]
    cycles = fold_cycles(**shape)
    folds = list(folds_of(**shape))
    slots = pe_cycles(**shape, compute_cycles=cycles)
    assert slots.useful == sum(r * c * t for r, c, t, _ in folds)
    assert slots.padding == sum((pes - r * c) * t for r, c, t, _ in folds)
    assert slots.fill_drain == sum((2 * r + c - 2) * pes for r, c, *_ in folds)
    assert slots.useful + slots.padding + slots.fill_drain == cycles * pes
    shares = utilization(**shape, compute_cycles=cycles)
    assert shares.mapping_efficiency == pytest.approx(np.mean([r * c / pes for r, c, *_ in folds]), rel=1e-12)


@thorough
@given(shape=products)
def test_sram_words_equal_a_loop_over_folds(shape):
    ifmap = filters = writes = psums = 0
    for r, c, t, row_fold in folds_of(**shape):
        match shape["dataflow"]:
            case Dataflow.OS:
                ifmap, filters, writes = ifmap + r * t, filters + t * c, writes + r * c
            case Dataflow.WS:
                ifmap, filters, writes = ifmap + r * t, filters + r * c, writes + t * c
            case Dataflow.IS:
                ifmap, filters, writes = ifmap + r * c, filters + r * t, writes + t * c
        psums += t * c if row_fold and shape["dataflow"] != OS else 0
    counts = sram_counts(**shape)
    assert (counts.ifmap_reads, counts.filter_reads) == (ifmap, filters)
    assert (counts.ofmap_writes, counts.psum_reads) == (writes, psums)


def dram_words_by_loop(shape, memory):
    """Walk the folds with buffers that keep one working set each; ifmap without im2col copies (a linear layer)."""
    m, n, k, flow = shape["m"], shape["n"], shape["k"], shape["dataflow"]

    def fits(operand, width, words):
        return math.ceil(words * memory[width] / 8) <= memory[f"{operand}_sram_bytes"] // 2

    keeps_ifmap = fits("ifmap", "ifmap_bits", m * k)
    ifmap = filters = spills = outputs = 0
    one_group = shape | {"groups": 1}
    folds = list(folds_of(**one_group))
    last_row_fold, first_cols, col_fold = folds[-1][3], folds[0][1], -1
    for r, c, t, row_fold in folds:
        col_fold += row_fold == 0
        if flow == OS:
            ifmap += r * k if col_fold == 0 or not keeps_ifmap else 0
            filters += k * c if row_fold == 0 or not fits("filter", "filter_bits", k * first_cols) else 0
            outputs += r * c
            continue
        if flow == WS:
            ifmap += r * t if col_fold == 0 or not keeps_ifmap else 0
            filters += r * c
        else:
            ifmap += r * c
            filters += r * t if col_fold == 0 or not fits("filter", "filter_bits", k * n) else 0
        last = row_fold == last_row_fold
        spills += 0 if last or fits("ofmap", "accumulator_bits", t * first_cols) else t * c
        outputs += t * c if last else 0
    return tuple(shape["groups"] * words for words in (ifmap, filters, spills, outputs))


@thorough
@given(shape=products, memory=memories)
def test_dram_words_equal_a_loop_over_folds(shape, memory):
    moved = dram_traffic(**shape, **memory, ifmap_elements=shape["m"] * shape["k"] * shape["groups"])
    expected = dram_words_by_loop(shape, memory)
    assert (moved.ifmap_reads, moved.filter_reads, moved.psum_reads, moved.ofmap_writes) == expected
    assert moved.psum_writes == moved.psum_reads


def test_dram_of_a_convolution_by_hand():
    # 3x3 convolution, 8x8x4 -> 6x6x16 on an 8x8 array, 8 bits: ifmap 256 elements, window words 36 x 36 = 1296.
    shape = {"rows": 8, "cols": 8, "m": 36, "n": 16, "k": 36, "ifmap_elements": 256}

    def moved(flow, *sram_bytes):
        return dram_traffic(flow, **shape, **WIDTHS, **srams(*sram_bytes))

    # os, 2 column and 5 row folds. All fits: each word once.
    roomy = moved(OS, 1024, 1024, 1024)
    assert (roomy.ifmap_reads, roomy.filter_reads, roomy.read_bytes, roomy.write_bytes) == (256, 576, 832, 576)
    # The ifmap does not fit 255 bytes, nor does a block of 8 x 36 = 288 window words.
    assert moved(OS, 511, 1024, 1024).ifmap_reads == 1296 * 2
    # A column fold's 36 x 8 = 288 filter words do not fit 287 bytes.
    assert moved(OS, 1024, 574, 1024).filter_reads == 576 * 5
    # ws, 2 column and 5 row folds: each fold fetches min(36 x 8, 256) pixels, at most the 1296 window words a pass.
    assert moved(WS, 511, 0, 4096).ifmap_reads == 2 * min(1296, 5 * 256)
    tight = moved(WS, 512, 0, 2302)  # 36 x 8 sums of 4 bytes = 1152 do not fit 1151: four of five row folds spill 576
    assert (tight.psum_writes, tight.write_bytes) == (4 * 576, 4 * 576 * 4 + 576)
    assert tight.read_bytes == 256 + 576 + 4 * 576 * 4
    assert moved(WS, 512, 0, 2304).psum_writes == 0


# ---- properties ----


@thorough
@given(shape=products, overlap_load=st.booleans(), overlap_drain=st.booleans(), stalls=st.integers(0, 1000))
def test_shares_add_up_and_cycles_cover_the_macs(shape, overlap_load, overlap_drain, stalls):
    macs = shape["m"] * shape["n"] * shape["k"] * shape["groups"]
    pes = shape["rows"] * shape["cols"]
    serial = fold_cycles(**shape)
    cycles = fold_cycles(**shape, overlap_load=overlap_load, overlap_drain=overlap_drain)
    assert macs <= cycles * pes <= serial * pes
    slots = pe_cycles(**shape, compute_cycles=cycles)
    assert slots.useful == macs
    assert min(slots.padding, slots.fill_drain) >= 0
    assert slots.useful + slots.padding + slots.fill_drain == cycles * pes
    shares = utilization(**shape, compute_cycles=cycles, stall_cycles=stalls)
    lost = (shares.lost_padding, shares.lost_fill_drain, shares.lost_bandwidth)
    assert min(*lost, shares.utilization) >= 0
    assert shares.utilization + sum(lost) == pytest.approx(1, abs=1e-12)
    assert shares.compute_utilization == macs / (cycles * pes)
    assert shares.utilization == pytest.approx(macs / ((cycles + stalls) * pes), rel=1e-12)
    assert shares.compute_utilization <= shares.mapping_efficiency <= 1


@thorough
@given(
    shape=products,
    memory=memories,
    copies=st.fractions(
        min_value=0.5, max_value=9, max_denominator=4
    ),  # im2col copies of a pixel; below 1: untouched ones
    grown=st.sampled_from(["ifmap_sram_bytes", "filter_sram_bytes", "ofmap_sram_bytes"]),
    more=st.integers(1, 4000),
)
def test_dram_is_at_least_compulsory_and_larger_memory_never_moves_more(shape, memory, copies, grown, more):
    groups, window_words = shape["groups"], shape["m"] * shape["k"] * shape["groups"]
    elements = max(1, int(window_words / copies))
    moved = dram_traffic(**shape, **memory, ifmap_elements=elements)
    filters, outputs = shape["k"] * shape["n"] * groups, shape["m"] * shape["n"] * groups
    assert moved.ifmap_reads >= elements
    assert moved.filter_reads >= filters
    assert moved.ofmap_writes == outputs
    assert moved.read_bytes * 8 >= elements * memory["ifmap_bits"] + filters * memory["filter_bits"]
    assert moved.write_bytes * 8 >= outputs * memory["ofmap_bits"]
    assert 0 < moved.fill_bytes <= moved.read_bytes

    # No DRAM word is fetched more often than the SRAM is read.
    words = sram_counts(**shape)
    assert moved.ifmap_reads <= words.ifmap_reads or elements > window_words
    assert moved.filter_reads <= words.filter_reads
    assert moved.psum_reads <= words.psum_reads

    larger = dram_traffic(**shape, **memory | {grown: memory[grown] + more}, ifmap_elements=elements)
    assert larger.total_bytes <= moved.total_bytes


def test_traffic_by_hand():
    # os 2x2, m = n = k = 2, 8 bits: 4 + 4 bytes in, 4 out, 2 + 2 of them first.
    moved = dram_traffic(OS, 2, 2, 2, 2, 2, ifmap_elements=4, **WIDTHS, **srams(64))
    assert (moved.total_bytes, moved.fill_bytes) == (12, 4)
    assert dram_bytes_per_cycle(16e9, 1e9) == 16


# ---- arrays of layers and designs ----


def test_layers_times_designs_equal_calls_one_by_one():
    generator = np.random.default_rng(0)
    layers = generator.integers(1, 60, size=(5, 4))
    m, n, k, groups = layers.T[:, :, None]  # (5, 1) each
    designs = [
        (flow, rows, cols, load, drain, sram)
        for flow, (rows, cols), (load, drain), sram in itertools.product(
            Dataflow, ((8, 8), (3, 16)), ((False, False), (True, True)), (64, 4096)
        )
    ]
    flow, rows, cols, load, drain, sram = (np.array(column) for column in zip(*designs, strict=True))

    def price(flow, rows, cols, load, drain, sram, m, n, k, groups):
        shape = (flow, rows, cols, m, n, k, groups)
        cycles = fold_cycles(*shape, load, drain)
        moved = dram_traffic(*shape, ifmap_elements=m * k * groups, **WIDTHS, **srams(sram))
        stalls = moved.fill_bytes // 4
        shares = utilization(*shape, compute_cycles=cycles, stall_cycles=stalls)
        counts, legacy = sram_counts(*shape), scalesim_sram_counts(*shape)
        percents = scalesim_utilizations(*shape)
        values = [cycles, stalls, scalesim_cycles(*shape)]
        for record in (moved, shares, counts, legacy, percents):
            values += [getattr(record, name) for name in type(record).__slots__]
        return [*values, moved.total_bytes]

    together = price(flow, rows, cols, load, drain, sram, m, n, k, groups)
    assert all(np.shape(value) in {(5, 24), (1, 24), (5, 1)} for value in together)
    assert np.shape(together[0]) == np.shape(together[1]) == (5, 24)
    together = [np.broadcast_to(value, (5, 24)) for value in together]
    for (i, layer), (j, design) in itertools.product(enumerate(layers.tolist()), enumerate(designs)):
        assert [value[i, j] for value in together] == price(*design, *layer)


def test_a_million_designs_are_one_call():
    rows = np.arange(1, 1001)[:, None]
    cols = np.arange(1, 1001)
    check_bounds(rows, cols, 3025, 96, 363)
    cycles = fold_cycles(WS, rows, cols, 3025, 96, 363)
    assert cycles.shape == (1000, 1000)
    assert cycles.dtype == np.int64
    assert cycles[31, 31] == sum(2 * r + c + t - 2 for r, c, t, _ in folds_of(WS, 32, 32, 3025, 96, 363))


# ---- sizes beyond int64, and wrong input ----

huge = st.one_of(st.integers(1, 300), st.integers(1, 12), st.integers(1, 2**31), st.integers(2**31 - 2, 2**31 + 2))


@settings(max_examples=500, deadline=None)
@given(
    flow=st.sampled_from(list(Dataflow)),
    rows=st.one_of(arrays, st.integers(1, 2**16)),
    cols=st.one_of(arrays, st.integers(1, 2**16)),
    m=huge,
    n=huge,
    k=huge,
    groups=st.one_of(st.just(1), huge),
    bits=st.integers(1, 64),
)
def test_what_passes_the_bounds_equals_python_integers(flow, rows, cols, m, n, k, groups, bits):
    down, across, streamed = {OS: (m, n, k), WS: (k, n, m), IS: (k, m, n)}[flow]
    row_folds, col_folds = -(-down // rows), -(-across // cols)
    sum_r, sum_c = col_folds * down, row_folds * across
    cycles = groups * (row_folds * col_folds * (streamed - 2) + 2 * sum_r + sum_c)
    fold = streamed + (rows if flow == OS else 2 * rows) + cols - 2
    elements = m * k * groups
    exact_slots = max(cycles, groups * row_folds * col_folds * fold) * rows * cols
    passes = {OS: (col_folds, row_folds, 1), WS: (col_folds, 1, row_folds), IS: (1, col_folds, row_folds)}[flow]
    ifmap, filters = groups * m * k * passes[0], groups * k * n * passes[1]
    outputs, spills = groups * m * n, groups * m * n * (passes[2] - 1)
    try:
        check_bounds(rows, cols, m, n, k, groups, ifmap_elements=elements, bits=bits)
    except InputError as error:
        assert str(error).endswith(("64-bit integers; split the layer", f"must be below 2^63, got {elements}"))
        # Refused only within reach: the bound adds 2 (rows + cols) to each size and counts words as 4 x bits.
        assert groups * math.prod(s + 2 * (rows + cols) for s in (m, n, k)) * 4 * bits >= 2**63
        return
    assert exact_slots < 2**63
    shape = (flow, rows, cols, m, n, k, groups)
    assert int(fold_cycles(*shape)) == cycles
    assert int(scalesim_cycles(*shape)) == groups * row_folds * col_folds * fold
    slots = pe_cycles(*shape, compute_cycles=cycles)
    assert int(slots.useful) == m * n * k * groups
    assert int(slots.useful) + int(slots.padding) + int(slots.fill_drain) == cycles * rows * cols
    packed = max(1, min(rows // down, cols // across, groups))
    assert int(packed_groups(fold_grid(*shape[:-1]), rows, cols, groups)) == packed
    if packed > 1:
        full, rest = groups // packed, groups % packed
        shared = -(-groups // packed) * (streamed - 2) + groups * (2 * down + across)
        assert int(fold_cycles(*shape, together=packed)) == shared
        slots = pe_cycles(*shape, compute_cycles=shared, together=packed)
        idle = (full * packed * packed + rest * rest - groups) * down * across * streamed
        assert int(slots.groups) == idle
        assert int(slots.useful) + idle + int(slots.padding) + int(slots.fill_drain) == shared * rows * cols
    counts = scalesim_sram_counts(*shape)
    extra = groups * row_folds * col_folds * (rows + cols) if flow == OS else 0
    assert (int(counts.ifmap_reads), int(counts.filter_reads)) == (ifmap, filters)
    assert int(counts.ofmap_writes) == outputs * passes[2] + extra
    widths = dict.fromkeys(("ifmap_bits", "filter_bits", "ofmap_bits", "accumulator_bits"), bits)
    moved = dram_traffic(*shape, ifmap_elements=elements, **widths, **srams(0))
    read = sum(-(-words * bits // 8) for words in (ifmap, filters, spills))
    written = sum(-(-words * bits // 8) for words in (outputs, spills))
    assert (int(moved.read_bytes), int(moved.write_bytes)) == (read, written)


def test_sweeps_over_a_long_ifmap_do_not_wrap():
    # 2^31 row folds x 2^40 elements would be 2^71; the window words cap a pass at 2^41.
    check_bounds(1, 1, 1024, 1, 2**31, ifmap_elements=2**40, bits=32)
    moved = dram_traffic(WS, 1, 1, 1024, 1, 2**31, ifmap_elements=2**40, **WIDTHS, **srams(0))
    assert moved.ifmap_reads == 2**41


def test_sizes_beyond_64_bits_are_refused_by_name():
    side = 2**31
    with pytest.raises(InputError) as caught:
        check_bounds(128, 128, side, side, side)
    assert str(caught.value) == (
        "layer sizes up to m=2147483648 n=2147483648 k=2147483648 groups=1 on a 128x128 array "
        "give counts beyond 64-bit integers; split the layer"
    )
    check_bounds(128, 128, side, 1, 1)
    # Two layers that are each fine are not multiplied with one another.
    check_bounds(16, 16, np.array([side, 1]), np.array([1, side]), np.array([1024, 1024]))
    # Traffic: 2^59 words are fine at 1 bit, not at 32, and not if 2^60 elements were fetched for each of 2^15 outputs.
    for limits in ({"bits": 32}, {"ifmap_elements": 2**60}):
        check_bounds(1, 1, 2**30, 2**15, 2**14)
        with pytest.raises(InputError, match="64-bit integers"):
            check_bounds(1, 1, 2**30, 2**15, 2**14, **limits)
    with pytest.raises(InputError, match=r"^k must be below 2\^63, got 36893488147419103232$"):
        check_bounds(8, 8, 1, 1, 2**65)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 8, 1, 1, 1), "rows must be at least 1, got 0"),
        ((8, 8, 1, -3, 1), "n must be at least 1, got -3"),
        ((8, 8, 1.5, 1, 1), "m must be whole numbers, got float64 of shape ()"),
    ],
)
def test_sizes_that_are_none_are_refused(arguments, message):
    with pytest.raises(InputError) as caught:
        check_bounds(*arguments)
    assert str(caught.value) == message


def test_wrong_dataflow_and_bandwidth_are_refused():
    with pytest.raises(InputError) as caught:
        Dataflow.of("wss")
    assert str(caught.value) == "unknown dataflow 'wss'; did you mean 'ws'? (choose from 'is', 'os', 'ws')"
    with pytest.raises(InputError, match=r"^dataflow codes must be members of Dataflow \(OS, WS, IS\)$"):
        fold_grid(3, 8, 8, 1, 1, 1)
    with pytest.raises(InputError, match=r"^dram_bytes_per_s must be above 0, got 0.0$"):
        dram_bytes_per_cycle(0, 1e9)
    with pytest.raises(InputError, match=r"^clock_hz must be above 0 and finite, got inf$"):
        dram_bytes_per_cycle(1e9, math.inf)
    with pytest.raises(InputError) as caught:
        whole_cycles(np.array([6 / 1e-300]), np.array([1e-300]))
    assert str(caught.value) == "a DRAM bandwidth of 1e-300 bytes per cycle gives stalls beyond 64-bit integers"
