"""The offsets that far points are priced with: traces, statistics, and ranges beyond any map."""

import tracemalloc

import numpy as np
import pytest

from picojoule.accel.deform import gather, offsets_given
from picojoule.sim.attributes import DeformConvAttributes, Op
from picojoule.sim.builder import constant, parameter
from picojoule.sim.errors import InputError
from picojoule.sim.offsets import OffsetStatistics, OffsetTrace
from picojoule.sim.weights import constant_fill

from .networks import SPEC, Build, deformable, evaluate, rows


def test_far_points_outside_the_map_touch_no_line_buffer():
    row = rows(evaluate(deformable("square", low=0.0, high=99.0), activations=OffsetStatistics(low=60, high=60)))[
        "deform"
    ]
    assert row.reads["dram.samples"] == 16 * 2 * 32 * 32  # the middle tap
    assert "bram.lines" not in row.reads and "bram.lines" not in row.writes
    away = constant_offsets(1e6)
    row = rows(evaluate(away))["deform"]
    assert row.reads["dram.samples"] == 0 and "bram.lines" not in row.reads and "bram.lines" not in row.writes


def constant_offsets(value):
    b = Build(32, 32, 32)
    offset = constant("far", np.full((1, 18, 32, 32), value, dtype=np.float32))
    w = parameter("deform.w", constant_fill(0.5, (32, 1, 3, 3)))
    window = DeformConvAttributes(stride=(1, 1), padding_begin=(1, 1), padding_end=(1, 1), dilation=(1, 1), groups=32)
    return b.finish(b.op(Op.DEFORM_CONV, window, b.x, w, offset, name="deform"))


@pytest.mark.parametrize("form", ["bound", "square"])
def test_ranges_beyond_any_map_are_cut_to_it(form):
    row = rows(evaluate(deformable(form, low=-1e5, high=1e5)))["deform"]
    assert row.basis == "statistics (uniform, -33 to 33): sampling points read from DRAM"


def test_only_the_rows_that_are_simulated_are_drawn(monkeypatch):
    network = deformable("free", size=64)
    whole = rows(evaluate(network))["deform"]
    monkeypatch.setattr(gather, "SIMULATED_READS", 10 * 64 * 9 * 2)
    drawn = []
    made = gather.random_offsets
    monkeypatch.setattr(
        offsets_given, "random_offsets", lambda s, shape, rng: drawn.append(shape) or made(s, shape, rng)
    )
    part = rows(evaluate(network))["deform"]
    assert drawn == [(1, 18, 10, 64)]
    assert part.basis == "statistics (uniform, -7 to 7), first 10 of 64 rows simulated: sampling points read from DRAM"
    assert part.latency_s == pytest.approx(whole.latency_s, rel=0.1)


def test_a_large_map_takes_little_memory():
    b = Build(16, 30000, 30000)
    network = b.finish(b.deform(b.x, "free"))
    tracemalloc.start()
    try:
        evaluate(network)
        assert tracemalloc.get_traced_memory()[1] < 400e6
    finally:
        tracemalloc.stop()


def test_far_square_points_lie_on_their_grid_and_every_image_of_a_batch_reads_them():
    network = deformable("square", low=0.0, high=12.0)
    nine = OffsetStatistics(low=9, high=9)  # taps 9 rows and columns away: of 32 places on a side, 23 have one
    one, two = (rows(evaluate(network, batch=b, activations=nine))["deform"] for b in (1, 2))
    assert one.reads["dram.samples"] == 16 * 2 * (23 + 32 + 23) ** 2
    assert two.reads["dram.samples"] == 2 * one.reads["dram.samples"]
    assert two.stall_cycles == pytest.approx(2 * one.stall_cycles, rel=1e-3)
    assert one.basis == "statistics (uniform, 9 to 9): sampling points read from DRAM"


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


@pytest.mark.parametrize("spec", [SPEC, SPEC.model_copy(update={"far_reads": "host"})], ids=["engine", "host"])
@pytest.mark.parametrize("form", ["bound", "square", "free"])
def test_a_trace_is_checked_wherever_the_layer_runs_and_said_to_be_unused(form, spec):
    network, shape = deformable(form), (1, 18, 32, 32)
    good = OffsetTrace(offsets={"deform": np.zeros(shape, np.int16)})
    notes = [
        n for n in evaluate(network, spec, activations=good).coverage.notes if "offsets given are not used by" in n
    ]
    where = {("free", "dram"): None, ("free", "host"): "host"}.get((form, spec.far_reads), "line buffer")
    assert len(notes) == (where is not None)
    if where:
        assert notes[0].startswith(f"the offsets given are not used by: 'deform' ({where});")
    refused = {
        "no layer 'deform'": {},
        r"'deform' has shape \[18, 16, 16\]": {"deform": np.zeros((1, 18, 16, 16), np.int16)},
        "'other', which is no deformable layer of net": {**good.offsets, "other": good.offsets["deform"]},
    }
    if form != "free":
        refused["'deform' has offsets of 0 to 90, but"] = {
            "deform": np.pad([[[[90]]]], [(0, 0), (0, 17), (0, 31), (0, 31)])
        }
    for sentence, offsets in refused.items():
        with pytest.raises(InputError, match=sentence):
            trace = OffsetTrace(offsets={k: v.astype(np.int16) for k, v in offsets.items()})
            evaluate(network, spec, activations=trace)
