"""The hardware file: defaults, keys that contradict each other, and what the board decides."""

import re

import pytest

from picojoule.accel.deform import DeformSpec
from picojoule.sim.errors import InfeasibleError, InputError
from picojoule.sim.hardware import load_hardware
from picojoule.sim.protocol import HardwareSpec

from .networks import Build, evaluate, rows


def test_defaults_are_the_published_accelerator_and_each_key_says_its_class():
    preset, default = load_hardware("ultra96-codenet").spec, DeformSpec()
    keys = set(DeformSpec.model_fields) - {"name", "description", "extends"}
    assert len(keys) > 30
    for key in keys:
        assert getattr(preset, key) == getattr(default, key), key
    for key in keys - set(HardwareSpec.model_fields):
        assert re.search(r"published|derived|calibrated on|estimate", DeformSpec.model_fields[key].description), key


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"line_buffer_rows": 14}, "line_buffer_rows must be odd, as many above a pixel as below it, got 14; use 15"),
        ({"offset_bits": 3}, "offset_bits=3 hold offsets of at most 3 but max_offset is 7; set offset_bits=4"),
        ({"llc_line_bytes": 48}, "llc_line_bytes must be a power of two, got 48"),
        ({"llc_kib": 16, "llc_ways": 64, "llc_line_bytes": 512}, "llc_kib=16 holds no set of 64 lines of 512 bytes"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(given, sentence):
    with pytest.raises(InputError, match=re.escape(sentence)):
        load_hardware("ultra96-codenet", given)
    DeformSpec(line_buffer_rows=17, offset_bits=4, llc_kib=32, llc_ways=64, llc_line_bytes=512)


def test_the_memory_is_the_boards_unless_the_spec_says_otherwise():
    b = Build(64, 32, 32)
    network = b.finish(b.conv(b.x, 64, name="one"))
    half = {"ultra96": 4.265e9, "zcu102": 9.6e9}
    for board, dram in (("ultra96", "lpddr4"), ("zcu102", "ddr4")):
        spec = DeformSpec(board=board)
        assert (spec.dram, spec.stream_bytes_per_s) == (dram, pytest.approx(half[board]))
        report = evaluate(network, spec)
        assert {e.constant for e in rows(report)["one"].energy if e.component == "dram"} == {f"dram.{dram}.bit"}
        assert not any("dram_type" in note for note in report.coverage.notes)
    other = evaluate(network, DeformSpec(board="zcu102", dram_type="lpddr4")).coverage.notes
    assert "dram_type is lpddr4, but zcu102 has ddr4: energy is that of lpddr4" in other


def test_reports_say_what_became_luts_and_clocks_that_may_not_close():
    b = Build(16)
    network = b.finish(b.conv(b.x, 16, name="one"))
    notes = evaluate(network).coverage.notes
    assert "the engine wants 446 DSP slices, ultra96 has 360: 86 multipliers are LUTs" in notes
    assert not any("timing" in note for note in notes)
    fast = evaluate(network, DeformSpec(board="zcu102", clock_mhz=400)).coverage.notes
    assert any(
        n.startswith("clock_mhz is 400: below the DSP slices' limit (775), but whether timing closes") for n in fast
    )
    assert not any("multipliers are LUTs" in note for note in fast)
    for board in ("ac701", "kc705", "kcu1500"):
        with pytest.raises(
            InfeasibleError, match=rf"clock_mhz is 2000 but DSP slices of {board} .* run at \d+\.?\d* MHz"
        ):
            evaluate(network, DeformSpec(board=board, clock_mhz=2000))
