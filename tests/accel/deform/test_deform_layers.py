"""What deformable layers cost by the form of their offsets, and where their sampling points are read."""

import pytest

from picojoule.accel.deform import DeformSpec
from picojoule.sim.hardware import load_hardware

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


def test_ordinary_windows_read_the_column_that_enters_and_each_mac_its_weight():
    for stride, taps in ((1, 3), (2, 6)):
        b = Build(32, 32, 32)
        row = rows(evaluate(b.finish(b.depthwise(b.x, stride=stride, name="three"))))["three"]
        pixels = (32 // stride) ** 2 * 32
        assert row.reads["bram.lines"] == taps * pixels and row.writes["bram.lines"] == 32 * 32 * 32
        assert row.reads["bram.filter"] == 9 * pixels
        (filters,) = (e.events for e in row.energy if e.component == "bram.filter")
        assert filters == row.reads["bram.filter"] * 4 / 36
        (lines,) = (e.events for e in row.energy if e.component == "bram.lines")
        assert lines == 4 * (row.reads["bram.lines"] + row.writes["bram.lines"]) / 16  # words of four ports
    assert rows(evaluate(deformable("square")))["deform"].reads["bram.lines"] == 9 * 32 * 32 * 32


def test_a_map_that_the_line_buffer_holds_has_no_far_points():
    report = evaluate(deformable("free", size=8))
    assert rows(report)["deform"].basis == "closed form"
    assert not any("leave the line buffer" in note for note in report.coverage.notes)
    assert any("offsets of 'deform' are rounded to integers" in note for note in report.coverage.notes)


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
