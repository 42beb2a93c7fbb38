import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from picojoule.accel.deform.boards import board_named, list_boards
from picojoule.accel.deform.resources import Amount, check_fits, resources_of
from picojoule.accel.deform.spec import DeformSpec
from picojoule.sim.errors import InfeasibleError, InputError

PUBLISHED = Amount(dsp=360, bram36=216, lut=34_144, ff=41_827)
"""CoDeNet (arXiv 2006.08357), final accelerator on an XCZU3EG: DSP and BRAM are all that the device has."""


def refused(message: str):
    return pytest.raises(InfeasibleError, match=f"^{re.escape(message)}$")


def test_the_published_counts_lie_in_the_range_and_the_estimate_is_as_far_off_as_the_docstring_says() -> None:
    found = resources_of(DeformSpec())
    for field in ("dsp", "bram36", "lut", "ff"):
        assert getattr(found.low, field) <= getattr(PUBLISHED, field) <= getattr(found.high, field)
        assert getattr(found.low, field) <= getattr(found.total, field) <= getattr(found.high, field)
    assert found.total == Amount(dsp=360, bram36=151, lut=30_480, ff=32_657)
    errors = {f: getattr(found.total, f) / getattr(PUBLISHED, f) - 1 for f in ("bram36", "lut", "ff")}
    assert errors == pytest.approx({"bram36": -0.30, "lut": -0.11, "ff": -0.22}, abs=0.006)
    check_fits(DeformSpec())  # the published design fits its board


def test_multipliers_by_hand() -> None:
    found = resources_of(DeformSpec())
    parts = found.breakdown()
    assert parts["1x1 engine"].dsp == 16 * 16
    assert parts["depthwise engine"].dsp == 16 * 9
    assert parts["requantiser"].dsp == 16 + 16
    assert "full engine" not in parts
    assert found.dsp_demand == 256 + 144 + 32 + 3 * 2 + 8  # ports x reads of the offset path, one per process
    assert found.spilled == found.dsp_demand - 360
    assert parts["multipliers in LUTs"].lut == found.spilled * (4 * 8 + 4 + 8)
    assert found.low.dsp == 256 // 2 + 144 + 32  # two products of an activation in a slice
    roomy = resources_of(DeformSpec(board="zcu102"))
    assert roomy.dsp == roomy.dsp_demand == found.dsp_demand and roomy.spilled == 0
    assert resources_of(DeformSpec(full_in=8, full_out=8)).breakdown()["full engine"].dsp == 576  # the ablation's array


def test_block_rams_by_hand() -> None:
    parts = resources_of(DeformSpec()).breakdown()
    # A row: 1024 words of 128 bits, 8 halves of 1K x 18 (128 / 18 = 7.1), so 4 blocks; 15 rows.
    assert parts["line buffer"].bram36 == 15 * 4
    # 256 KiB in words of 16 x 16 weights of 4 bits: 2048 deep, 114 halves of 2K x 9.
    assert parts["weight buffer"].bram36 == 57
    # 9 x 16 weights of 4 bits, 32 deep: 16 halves of 512 x 36.
    assert parts["depthwise weights"].bram36 == 8
    # 16 lanes of a 16-bit scale and a 24-bit bias: 18 halves of 512 x 36, twice.
    assert parts["requantiser"].bram36 == 2 * 9
    assert resources_of(DeformSpec(max_offset=3)).breakdown()["line buffer"].bram36 == 7 * 4
    # Four ports read three rows: a copy of each row.
    copied = DeformSpec(line_buffer_rows=3, line_buffer_ports=4)
    assert resources_of(copied).breakdown()["line buffer"].bram36 == 2 * 3 * 4


def test_the_luts_of_the_line_buffer_by_hand() -> None:
    def luts(**keys: int) -> int:
        return resources_of(DeformSpec(**keys)).breakdown()["line buffer"].lut

    window = 9 * 128
    # Six reads of 128 bits choose one of 15 rows: 5 LUTs a bit; 15 rows have two 10-bit addresses.
    assert luts() == 6 * 128 * 5 + 15 * 2 * 10 + window
    assert luts(line_buffer_ports=1) == 2 * 128 * 5 + 15 * 2 * 10 + window
    assert luts(max_offset=2) == 6 * 128 * 2 + 5 * 2 * 10 + window


sizes = st.integers(1, 48)


@settings(max_examples=60)
@given(
    pe_in=sizes,
    pe_out=sizes,
    lanes=sizes,
    ports=st.integers(1, 8),
    rows=st.integers(1, 30).map(lambda n: 2 * n + 1),
    board=st.sampled_from([b.name for b in list_boards()]),
    key=st.sampled_from(["pe_in", "pe_out", "depthwise_lanes", "line_buffer_ports", "line_buffer_rows"]),
)
def test_more_of_anything_never_takes_less(
    pe_in: int, pe_out: int, lanes: int, ports: int, rows: int, board: str, key: str
) -> None:
    keys = {
        "pe_in": pe_in,
        "pe_out": pe_out,
        "depthwise_lanes": lanes,
        "line_buffer_ports": ports,
        "line_buffer_rows": rows,
    }
    smaller = resources_of(DeformSpec(board=board, **keys))
    larger = resources_of(
        DeformSpec(board=board, **(keys | {key: keys[key] + (2 if key == "line_buffer_rows" else 1)}))
    )
    assert larger.dsp_demand >= smaller.dsp_demand and larger.dsp >= smaller.dsp
    if key not in ("depthwise_lanes",):  # wider words of the line buffer are fewer, so their addresses are shorter
        assert larger.lut >= smaller.lut and larger.ff >= smaller.ff
    if key in ("line_buffer_ports", "line_buffer_rows"):
        line = (smaller.breakdown()["line buffer"].bram36, larger.breakdown()["line buffer"].bram36)
        # Blocks need not grow where a row more saves a copy: 4 ports on 3 rows take 6, on 5 rows 5.
        assert line[1] >= line[0] or -(-ports // rows) > -(-ports // (rows + 2))
    for found in (smaller, larger):
        assert found.dsp <= board_named(board).dsp or found.spilled == sum(
            part.amount.dsp for part in found.parts if part.name.endswith("engine")
        )
        assert found.low.lut <= found.lut <= found.high.lut and found.low.bram36 <= found.bram36 <= found.high.bram36


def test_a_board_without_a_processor_holds_controller_and_cache_in_logic() -> None:
    zynq, kintex = resources_of(DeformSpec(board="zcu102")), resources_of(DeformSpec(board="kc705"))
    assert kintex.breakdown()["memory controller"].lut == kintex.lut - zynq.lut == 10_000
    cached = resources_of(DeformSpec(board="kc705", llc=True)).breakdown()["memory controller"].bram36
    assert cached > 1024 * 1024 * 8 / 36_864  # 1 MiB of data and its tags
    assert "memory controller" not in resources_of(DeformSpec(llc=True)).breakdown()  # the hard processor's own cache


def test_what_does_not_fit_is_refused_with_what_takes_it_and_what_to_reduce() -> None:
    with refused(
        "deep: the engine needs 351 36 Kbit block RAMs (line buffer 260, weight buffer 57) but ultra96 (XCZU3EG-1) has 216; "
        "reduce line_buffer_rows, max_offset or line_buffer_row_bytes, or choose a larger board"
    ):
        check_fits(DeformSpec(name="deep", line_buffer_rows=65))
    with refused(
        "wide: the engine needs 337 36 Kbit block RAMs (weight buffer 228, line buffer 60) but ultra96 (XCZU3EG-1) has 216; "
        "reduce pe_in or pe_out, or choose a larger board"
    ):
        check_fits(
            DeformSpec(name="wide", pe_in=64, pe_out=64)
        )  # its weights of a cycle are wider than its buffer is deep
    with refused(
        "fpga-deform: the engine needs 106,624 LUTs (multipliers in LUTs 63,976, DMA and control 18,830) but "
        "ultra96 (XCZU3EG-1) has 70,560; 1,454 multipliers are LUTs, as it has 360 DSP slices of the 1,814 wanted; "
        "reduce pe_in, pe_out or depthwise_lanes, or choose a larger board"
    ):
        check_fits(DeformSpec(pe_in=40, pe_out=40))
    with refused(
        "fpga-deform: the engine needs 1,054 DSP slices (requantiser 1,040, DMA and control 8) but "
        "ultra96 (XCZU3EG-1) has 360; reduce pe_out or depthwise_lanes, or choose a larger board"
    ):
        check_fits(DeformSpec(pe_in=1, pe_out=1024))
    check_fits(DeformSpec(board="zcu102", pe_in=32, pe_out=32, line_buffer_rows=65))


def test_a_board_that_cannot_clock_or_feed_the_engine_is_refused() -> None:
    with refused(
        "fpga-deform: clock_mhz is 800 but DSP slices of ultra96 (XCZU3EG-1) run at 645 MHz at most; reduce clock_mhz"
    ):
        check_fits(DeformSpec(clock_mhz=800.0))
    with refused(
        "fpga-deform: dram_gib_per_s is 20 but the memory of ultra96 (XCZU3EG-1) delivers 7.9 at most; "
        "reduce dram_gib_per_s"
    ):
        check_fits(DeformSpec(dram_gib_per_s=20.0))
    with pytest.raises(InputError, match=r"^unknown board 'ultra'; did you mean"):
        check_fits(DeformSpec(board="ultra"))
