"""What deformable layers cost by the form of their offsets, and where their sampling points are read."""

import re

import numpy as np
import pytest

from picojoule.accel.deform import DeformSpec, DeformUnit
from picojoule.sim.errors import InputError
from picojoule.sim.hardware import load_hardware
from picojoule.sim.offsets import OffsetStatistics, OffsetTrace

from .networks import SPEC, Build, deformable, evaluate, rows


def test_ordinary_square_bound_and_dram_cost_more_in_this_order():
    spec = SPEC.model_copy(update={"call_cycles": 0.0})
    time = {f: rows(evaluate(deformable(f), spec))["deform"].latency_s for f in ("square", "bound", "free")}
    b = Build(32, 32, 32)
    time["ordinary"] = rows(evaluate(b.finish(b.depthwise(b.x, name="deform")), spec))["deform"].latency_s
    assert time["ordinary"] < time["square"] < time["bound"] < time["free"]
    # 1,024 pixels of 2 steps: 2 and 5 cycles a step instead of 1
    assert time["square"] - time["ordinary"] == pytest.approx(1024 * 2 * 1 / 250e6)
    assert time["bound"] - time["ordinary"] == pytest.approx(1024 * 2 * 4 / 250e6)


def test_offset_arithmetic_is_free_and_only_its_source_is_read():
    report = evaluate(deformable("square"))
    found = rows(report)
    for name in ("round", "sub", "mul"):
        assert (found[name].unit, found[name].latency_s) == ("engine", 0.0)
        assert found[name].basis == "in the engine's offset path"
    assert found["deform"].reads["dram.offset"] == 32 * 32
    assert rows(evaluate(deformable("bound")))["deform"].reads["dram.offset"] == 18 * 32 * 32
    assert report.totals["host_latency_s"] == 0


def test_points_beyond_the_line_buffer_go_where_far_reads_says():
    network = deformable("bound", low=-7.0, high=7.0)  # with its own place, a tap is 8 rows away
    far = evaluate(network)
    row = rows(far)["deform"]
    assert row.basis == "statistics (uniform, -7 to 7): sampling points read from DRAM"
    assert row.stall_cycles > 0 and row.utilization_lost["sampling"] > 0.3
    # a 16-byte read per tap and 16 channels, but for those outside the map
    assert row.reads["dram.ifmap"] == 0
    assert 0.6 < row.reads["dram.samples"] / (16 * 9 * 2 * 32 * 32) < 1.0
    assert any("'deform' may leave the line buffer (7 rows on either side)" in n for n in far.coverage.notes)
    assert rows(evaluate(network, SPEC.model_copy(update={"far_reads": "host"})))["deform"].unit == "host"
    clamped = rows(evaluate(network, SPEC.model_copy(update={"far_reads": "clamp"})))["deform"]
    assert clamped.latency_s < row.latency_s and clamped.basis == "closed form"
    near = rows(evaluate(network, SPEC.model_copy(update={"line_buffer_rows": 17, "board": "zcu102"})))["deform"]
    assert near.latency_s == clamped.latency_s
    cached = rows(evaluate(network, SPEC.model_copy(update={"llc": True})))["deform"]
    assert cached.latency_s < row.latency_s and re.search(r"through the cache, \d\d% hits$", cached.basis)


def test_far_square_points_lie_on_their_grid_and_every_image_of_a_batch_reads_them():
    network = deformable("square", low=0.0, high=12.0)
    nine = OffsetStatistics(low=9, high=9)  # taps 9 rows and columns away: of 32 places on a side, 23 have one
    one, two = (rows(evaluate(network, batch=b, activations=nine))["deform"] for b in (1, 2))
    assert one.reads["dram.samples"] == 16 * 2 * (23 + 32 + 23) ** 2
    assert two.reads["dram.samples"] == 2 * one.reads["dram.samples"]
    assert two.stall_cycles == pytest.approx(2 * one.stall_cycles, rel=1e-3)
    assert one.basis == "statistics (uniform, 9 to 9): sampling points read from DRAM"


def test_a_map_that_the_line_buffer_holds_has_no_far_points():
    report = evaluate(deformable("free", size=8))
    assert rows(report)["deform"].basis == "closed form"
    assert not any("leave the line buffer" in note for note in report.coverage.notes)
    assert any("offsets of 'deform' are rounded to integers" in note for note in report.coverage.notes)


def test_a_trace_is_priced_as_data_and_must_fit():
    network = deformable("free")
    shape = (1, 18, 32, 32)
    still = OffsetTrace(offsets={"deform": np.zeros(shape, np.int16)})
    wild = OffsetTrace(offsets={"deform": np.random.default_rng(0).integers(-30, 31, shape).astype(np.int16)})
    quiet, noisy = (rows(evaluate(network, activations=t))["deform"] for t in (still, wild))
    assert quiet.basis.startswith("data: ") and quiet.reads["dram.samples"] > noisy.reads["dram.samples"]
    drawn = [rows(evaluate(network, activations=OffsetStatistics(seed=s)))["deform"].latency_s for s in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    with pytest.raises(InputError, match="no layer 'deform'"):
        evaluate(network, activations=OffsetTrace(offsets={"other": np.zeros(shape, np.int16)}))
    with pytest.raises(InputError, match=r"deform.*\[18, 16, 16\]"):
        evaluate(network, activations=OffsetTrace(offsets={"deform": np.zeros((1, 18, 16, 16), np.int16)}))
    with pytest.raises(InputError, match="are an OffsetTrace or OffsetStatistics, got dict"):
        evaluate(network, activations={})


def test_a_full_deformable_layer_needs_a_full_engine():
    b = Build(16, 16, 16)
    network = b.finish(b.deform(b.x, "square", full=True, outputs=24))
    report = evaluate(network)
    assert rows(report)["deform"].unit == "host"
    assert any("use a depthwise deformable layer and a 1x1 one, or set full_in" in n for n in report.coverage.notes)
    spec = DeformSpec(full_in=8, full_out=8, pe_in=4, pe_out=4, depthwise_lanes=4, full_step_cycles=2.5, call_cycles=0)
    row = rows(evaluate(network, spec))["deform"]
    assert row.compute_cycles == 256 * 2 * 3 * 2.5 + 9 * 2 * 3 * 8  # steps, and 16 x 24 x 9 weights
    assert row.utilization + sum(row.utilization_lost.values()) == pytest.approx(1)


def test_few_outputs_of_a_full_engine_wait_for_the_line_buffer():
    spec = DeformSpec(full_in=8, full_out=8, pe_in=4, pe_out=4, depthwise_lanes=4, full_step_cycles=2.5, call_cycles=0)
    b = Build(16, 16, 16)
    row = rows(evaluate(b.finish(b.deform(b.x, "bound", full=True, outputs=8)), spec))["deform"]
    assert row.compute_cycles == 256 * 2 * 5 + 9 * 2 * 8  # 5 cycles to read a window, 2.5 to multiply it
    assert row.utilization + sum(row.utilization_lost.values()) == pytest.approx(1)


def test_arithmetic_says_whole_pixels_and_what_is_cut():
    layer = next(y for y in deformable("bound").layers if y.name == "deform")
    found = DeformUnit(SPEC).arithmetic(layer)
    assert (found.weight.bits, found.activation.bits, found.accumulator_bits) == (4, 8, 24)
    assert (found.offsets.rounded, found.offsets.reach) == (True, None)
    assert DeformUnit(DeformSpec(far_reads="clamp")).arithmetic(layer).offsets.reach == 7
    small = next(y for y in deformable("bound", size=8).layers if y.name == "deform")
    assert DeformUnit(DeformSpec(far_reads="clamp")).arithmetic(small).offsets.reach is None


@pytest.mark.parametrize("kind", ["full", "depthwise"])
@pytest.mark.parametrize("variant", ["ordinary", "square", "bound", "deformable"])
@pytest.mark.parametrize("llc", [False, True])
def test_evaluate_gives_the_entries_of_table_2(kind, variant, llc):
    published = {  # ms without and with the cache: arXiv 2006.08357, table 2
        ("full", "ordinary"): (43.1, 41.6), ("full", "deformable"): (59.0, 42.7),
        ("full", "bound"): (43.4, 41.8), ("full", "square"): (43.4, 41.8),
        ("depthwise", "ordinary"): (1.9, 2.0), ("depthwise", "deformable"): (20.5, 17.8),
        ("depthwise", "bound"): (3.0, 3.4), ("depthwise", "square"): (2.1, 2.3),
    }[kind, variant][llc]  # fmt: skip
    b, full = Build(256, 64, 64), kind == "full"
    form = {"deformable": "free"}.get(variant, variant)
    low = 0.0 if form == "square" else -6.0
    y = (
        b.conv(b.x, 256, 3, groups=1 if full else 256)
        if form == "ordinary"
        else b.deform(b.x, form, low=low, full=full)
    )
    accelerator = load_hardware(f"ultra96-ablation-{kind}", {"llc": llc})
    (row,) = (r for r in accelerator.evaluate(b.finish(y)).layers if r.name in ("conv", "deform"))
    assert row.unit == "engine"
    assert row.latency_s * 1e3 == pytest.approx(published, rel=0.12)
