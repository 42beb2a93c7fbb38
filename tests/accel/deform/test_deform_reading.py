"""Where deformable layers read their points: line buffer, memory or host; what that costs, and what it does to results."""

import re

import pytest
import torch

from picojoule import hardware_twin
from picojoule.accel.deform import DeformSpec, DeformUnit
from picojoule.sim.hardware import load_hardware
from picojoule.sim.numerics.deform_module import DeformConv2d

from .networks import SPEC, Build, deformable, evaluate, rows


def at(network, spec=SPEC, name="deform"):
    """Return how a network's deformable layer is computed."""
    return DeformUnit(spec).arithmetic_in(network)(next(y for y in network.layers if y.name == name))


def test_points_beyond_the_line_buffer_go_where_far_reads_says():
    network = deformable("bound", low=-8.0, high=8.0)
    far = evaluate(network)
    row = rows(far)["deform"]
    assert row.basis == "statistics (uniform, -8 to 8): sampling points read from DRAM"
    assert row.stall_cycles > 0 and row.utilization_lost["sampling"] > 0.3
    # a 16-byte read per tap and 16 channels, but for those outside the map
    assert row.reads["dram.ifmap"] == 0
    assert 0.6 < row.reads["dram.samples"] / (16 * 9 * 2 * 32 * 32) < 1.0
    (note,) = (n for n in far.coverage.notes if "'deform' may leave the line buffer (7 rows on either side)" in n)
    assert note.endswith("bound offsets to at most 7 or raise line_buffer_rows")
    clamped = rows(evaluate(network, SPEC.model_copy(update={"far_reads": "clamp"})))["deform"]
    assert clamped.latency_s < row.latency_s and clamped.basis == "closed form"
    near = rows(evaluate(network, SPEC.model_copy(update={"line_buffer_rows": 19, "board": "zcu102"})))["deform"]
    assert near.compute_cycles == clamped.compute_cycles
    cached = rows(evaluate(network, SPEC.model_copy(update={"llc": True})))["deform"]
    assert cached.latency_s < row.latency_s and re.search(r"through the cache, \d\d% hits$", cached.basis)
    square = evaluate(deformable("square", low=0.0, high=8.0)).coverage.notes
    assert any("bound d of square ones to at most 7 or raise line_buffer_rows" in n for n in square)


def test_the_published_bound_stays_in_the_line_buffer_and_its_outermost_taps_are_held():
    network, wide = deformable("bound", low=-7.0, high=7.0), DeformSpec(line_buffer_rows=17)
    report, six = evaluate(network), evaluate(deformable("bound", low=-6.0, high=6.0))
    row = rows(report)["deform"]
    assert row.basis == "closed form" and row.latency_s == rows(six)["deform"].latency_s
    assert at(network).offsets.reach == 7
    (note,) = (n for n in report.coverage.notes if "outermost taps" in n)
    assert "held at 7, which changes results; line_buffer_rows=17 reads them all" in note
    for other, spec in ((network, wide), (deformable("bound", low=-6.0, high=6.0), SPEC), (deformable("square"), SPEC)):
        assert at(other, spec).offsets.reach is None
        assert not any("outermost" in n for n in evaluate(other, spec).coverage.notes)
    assert "bram.lines" in rows(evaluate(deformable("bound", low=-8.0, high=8.0), wide))["deform"].reads
    assert "bram.lines" not in rows(evaluate(deformable("bound", low=-8.0, high=8.0)))["deform"].reads


def test_the_bus_moves_whole_bursts_and_the_cache_whole_lines_of_what_misses():
    network = deformable("bound", low=-8.0, high=8.0)
    offsets, weights = 18 * 32 * 32, 9 * 32 // 2  # one image's, bytes

    def moved(**keys):
        row = rows(evaluate(network, SPEC.model_copy(update=keys)))["deform"]
        (energy,) = (e.events for e in row.energy if e.component == "dram")
        assert energy == 8 * (row.dram_read_bytes + row.dram_write_bytes)
        return row.reads, row.dram_read_bytes - offsets - weights

    direct, bytes_direct = moved()
    assert bytes_direct == 4 * direct["dram.samples"] and "llc.points" not in direct
    for line in (64, 256):
        cached, bytes_cached = moved(llc=True, llc_line_bytes=line)
        assert cached["dram.samples"] + cached["llc.points"] == direct["dram.samples"]
        assert bytes_cached == cached["dram.samples"] // 16 * line
        assert bytes_cached == 32 * 32 * 32, "a map the cache holds is fetched once"


def test_layers_on_the_host_are_computed_as_the_host_does():
    network, spec = deformable("free"), SPEC.model_copy(update={"far_reads": "host"})
    report = evaluate(network, spec)
    assert rows(report)["deform"].unit == "host"
    assert not any("rounded to integers" in n for n in report.coverage.notes)
    hosted = at(network, spec)
    assert hosted.offsets is None and hosted.accumulator_bits is None and hosted.note.startswith("host")
    assert at(network, spec, "offset").accumulator_bits == 24  # the engine's
    assert at(network).offsets.rounded and at(network).offsets.reach is None
    assert at(network, SPEC.model_copy(update={"far_reads": "clamp"})).offsets.reach == 7


@pytest.mark.parametrize("far_reads", ["dram", "host"])
def test_a_twin_samples_where_the_price_says(far_reads):
    """On the host between pixels, on the engine whole ones."""
    module, x = DeformConv2d(8, 8, groups=8), torch.rand(1, 8, 24, 24)
    with torch.no_grad():
        module.offset_conv.bias.fill_(0.4)  # rounds to none
    twin = hardware_twin(module, x, load_hardware("ultra96-codenet", {"far_reads": far_reads}))
    plain = module(x)
    with torch.no_grad():
        module.offset_conv.bias.fill_(0.0)
    whole = module(x)
    with torch.no_grad():
        module.offset_conv.bias.fill_(0.4)
    near, other = (plain, whole) if far_reads == "host" else (whole, plain)
    error, wrong = ((twin(x) - y).abs().mean().item() for y in (near, other))
    assert error < 0.5 * wrong


@pytest.mark.parametrize(("rows_held", "place"), [(None, 7), (17, 8)])
def test_a_twin_holds_the_outermost_tap_of_the_published_bound(rows_held, place):
    """One weight, on the last tap, and offsets of 7 everywhere: what is read is the image moved by 7, or by 8 with 17 rows."""
    module = DeformConv2d(4, 4, groups=4, bias=False, form="bound", bound=7, rounded=True)
    x = torch.rand(1, 4, 24, 24)
    with torch.no_grad():
        module.weight.zero_()
        module.weight[:, :, 2, 2] = 1.0
        module.offset_conv.bias.fill_(7.0)
        unit = load_hardware("ultra96-codenet", {"line_buffer_rows": rows_held, "board": "zcu102"})
        found = hardware_twin(module, x, unit)(x)
    moved = torch.zeros_like(x)
    moved[..., : 24 - place, : 24 - place] = x[..., place:, place:]
    assert (found - moved).abs().max() < 0.02


def test_a_map_wider_than_a_row_of_the_buffer_is_not_held():
    b = Build(16, 8, 600)
    report = evaluate(b.finish(b.deform(b.x, "free")))
    assert rows(report)["deform"].basis.startswith("statistics")
    small = SPEC.model_copy(update={"line_buffer_row_bytes": 16 * 20})  # 20 columns
    assert rows(evaluate(deformable("free", size=8), small))["deform"].basis == "closed form"
    b = Build(16, 8, 24)
    assert rows(evaluate(b.finish(b.deform(b.x, "free")), small))["deform"].basis.startswith("statistics")


def test_arithmetic_says_whole_pixels_and_what_is_cut():
    layer = next(y for y in deformable("bound").layers if y.name == "deform")
    found = DeformUnit(SPEC).arithmetic(layer)
    assert (found.weight.bits, found.activation.bits, found.accumulator_bits) == (4, 8, 24)
    assert (found.offsets.rounded, found.offsets.reach) == (True, None)
    assert DeformUnit(DeformSpec(far_reads="clamp")).arithmetic(layer).offsets.reach == 7
    small = next(y for y in deformable("bound", size=8).layers if y.name == "deform")
    assert DeformUnit(DeformSpec(far_reads="clamp")).arithmetic(small).offsets.reach is None
