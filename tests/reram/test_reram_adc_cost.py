"""Converters in the bill: bits per slice, bits from the weights, the four laws, and the time of a read."""

from typing import Any

import numpy as np
import pytest

from picojoule.reram.adc_models import AdcModel, adc_area_um2, adc_energy_pj
from picojoule.reram.adcs import LayerAdc, SliceAdc
from picojoule.reram.adcs import adc_lines as priced_lines
from picojoule.reram.plan import make_plan
from picojoule.sim import attributes as at
from picojoule.sim.attributes import Op
from picojoule.sim.builder import NetworkBuilder, parameter
from picojoule.sim.errors import InfeasibleError, InputError, UnsupportedError
from picojoule.sim.formats import parse_format
from picojoule.sim.ir import TensorType
from picojoule.sim.passes import fill_formats
from picojoule.sim.report import Report
from picojoule.sim.weights import constant_fill

from .networks import DIFFERENTIAL, EIGHT, A, B, C, isaac, linears, random_net


def adc_lines(report: Report) -> list[tuple[float, float]]:
    return [(e.events, e.pj_per_event) for layer in report.layers for e in layer.energy if e.component == "adc"]


# --- numbers from the file -------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["isaac_sar", "neurosim_sar", "bitslice_paper"])
def test_bits_per_slice_are_billed_and_built_slice_by_slice(model: str) -> None:
    network = linears(np.ones((16, 128)), tokens=5)
    report = isaac(adc_bits=[3, 3, 3, 1], adc_model=model, **EIGHT).evaluate(network)
    columns = 16 * 8 * 5  # outputs x input steps x tokens, of each slice
    one, three = (float(adc_energy_pj(AdcModel(model), b)) for b in (1, 3))
    assert adc_lines(report) == [(columns, pytest.approx(one)), (3 * columns, pytest.approx(three))]
    built = sum(item.mm2 for item in report.area.items if item.component == "adc")
    areas = [float(adc_area_um2(AdcModel(model), b)) * 1e-6 for b in (1, 3)]
    assert built == pytest.approx(168 * 96 * (0.25 * areas[0] + 0.75 * areas[1]))
    widest = isaac(adc_bits=[3, 3, 3, 1], adc_model=model, adc="run_time", **EIGHT).evaluate(network)
    assert sum(i.mm2 for i in widest.area.items if i.component == "adc") == pytest.approx(168 * 96 * areas[1])
    share = 2 / 4 if model == "neurosim_sar" else 1 / 3  # its cycles of those of three bits
    assert adc_lines(widest) == [(columns, pytest.approx(three * share)), (3 * columns, pytest.approx(three))]
    assert "ADC bits by slice, least significant first: 3/3/3/1 (built so for all tiles)" in report.coverage.notes
    low, high = report.totals["ranges"]["energy_pj"]
    assert low < report.totals["energy_pj"] < high


def test_the_survey_refuses_what_it_does_not_state() -> None:
    with pytest.raises(UnsupportedError, match="use adc_model isaac_sar, neurosim_sar or bitslice_paper"):
        isaac(adc_bits=[4, 4, 4, 3], adc_model="survey", **EIGHT).evaluate(linears(A))
    report = isaac(adc_bits=6, adc_model="survey").evaluate(linears(A))
    assert adc_lines(report)[0][1] == pytest.approx(1.07, rel=0.01)  # facts: 6 bits at 1.28 GS/s
    assert isaac(adc_bits=6, adc_model="survey").area().mm2 == report.area.mm2


@pytest.mark.parametrize(
    ("changes", "read_ns", "array"),
    [
        ({}, 100.0, False),
        ({"adc_bits": 4}, 100.0, True),  # 50 ns of converting
        ({"adc_bits": 16}, 200.0, False),  # a cycle per bit
        ({"adc_bits": [4, 4, 4, 12]}, 150.0, False),  # the slowest slice
        ({"adc_bits": 16, "adc_model": "survey"}, 100.0, False),
        ({"adc_bits": 7, "adc_model": "neurosim_sar"}, 1024.0, False),  # 8 ns a conversion
        ({"adc_bits": 4, "adcs_per_ima": 4}, 100.0, False),
    ],
)
def test_a_read_lasts_as_long_as_its_slowest_slice_or_the_array(
    changes: dict[str, Any], read_ns: float, array: bool
) -> None:
    report = isaac(**EIGHT, **changes).evaluate(linears(np.ones((4, 128)), tokens=3))
    assert report.totals["interval_s"] == pytest.approx(3 * 8 * read_ns * 1e-9)
    said = [n for n in report.coverage.notes if n.startswith("ISAAC's cycle of 100 ns, not the ADC, sets the time")]
    assert bool(said) == array
    assert all("so read_ns may be set lower" in n for n in said)


def test_cells_are_read_while_the_array_settles_not_while_converters_work() -> None:
    slow, fast = (isaac(adc_bits=b).evaluate(linears(A)).energy_by_component()["crossbar"] for b in (16, 8))
    assert slow == fast


# --- bits from the weights -------------------------------------------------------------------------------


def test_needed_bits_by_hand() -> None:
    network = linears(A, B, C)
    report = isaac(**DIFFERENTIAL).evaluate(network)
    four, three = (float(adc_energy_pj(AdcModel.ISAAC_SAR, b)) for b in (4, 3))
    # design time: slice 0 has 4 bits and slice 3 three, everywhere; a filled column each, eight input steps
    assert adc_lines(report) == [(8, pytest.approx(four)), (8, pytest.approx(three)), (8, pytest.approx(four))]
    notes = report.coverage.notes
    assert "ADC bits by slice, least significant first: 4/0/0/3 (built so for all tiles)" in notes
    assert "9 of 12 (row tile, slice) pairs and 13 of 16 columns hold no filled cell and are not converted" in notes
    built = sum(item.mm2 for item in report.area.items if item.component == "adc")
    areas = [float(adc_area_um2(AdcModel.ISAAC_SAR, b)) * 1e-6 for b in (4, 3)]
    assert built == pytest.approx(168 * 96 * (areas[0] + areas[1]) / 4)  # two slices of four need no converter

    early = isaac(adc="run_time", **DIFFERENTIAL).evaluate(network)
    two, three = four * 2 / 4, four * 3 / 4  # a 4-bit converter that stops after two and three of its cycles
    assert adc_lines(early) == [(8, pytest.approx(four)), (8, pytest.approx(three)), (8, pytest.approx(two))]
    built = sum(item.mm2 for item in early.area.items if item.component == "adc")
    assert built == pytest.approx(168 * 96 * areas[0])
    assert isaac(**DIFFERENTIAL).area(network).mm2 == report.area.mm2


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("encoding", ["offset", "flip", "differential", "split"])
@pytest.mark.parametrize("rows_active", [None, 40])
def test_columns_are_converted_or_skipped(encoding: str, groups: int, rows_active: int | None) -> None:
    keys = {**EIGHT, "encoding": encoding, "rows_active": rows_active}
    network, _ = fill_formats(random_net(groups=groups), isaac(**EIGHT).spec.native_weight, parse_format("int8"))
    fixed = make_plan(network, 1, 1, isaac(**keys).spec).converters.layers
    needed = make_plan(network, 1, 1, isaac(**keys, adc_bits="needed").spec)
    for name, adc in needed.converters.layers.items():
        assert adc.conversions + adc.skipped == fixed[name].conversions
        assert adc.widest <= max(needed.converters.built_bits)


def test_what_is_needed_costs_least_at_run_time_and_never_more_than_lossless() -> None:
    network = random_net()

    def adc(**changes: Any) -> float:
        return isaac(**EIGHT, encoding="differential", **changes).evaluate(network).energy_by_component()["adc"]

    costs = [
        adc(adc_bits="needed", adc="run_time", adc_percentile=90.0),
        adc(adc_bits="needed", adc="run_time"),
        adc(adc_bits="needed"),
        adc(adc_bits=10),
    ]
    assert costs == sorted(costs)
    assert len(set(costs)) == 4


def test_an_unknown_network_gets_converters_that_lose_nothing() -> None:
    unknown, known = isaac(adc_bits="needed").area().mm2, isaac(adc_bits=8).area().mm2
    assert unknown == known  # flip, 1-bit pulses


RULE = (
    "must be a number from 1 to 16, one for each slice such as [7, 7, 7, 7] (least significant first), or 'needed', got"
)
NO_ADC = "; hardware always has ADCs, only CrossbarSpec(adc_bits=None) in Python has none"

# --- refusals --------------------------------------------------------------------------------------------


def test_shapes_without_weights_are_refused() -> None:
    b = NetworkBuilder("shapes")
    x = b.input("x", TensorType(shape=(1, 8), batch_axis=0))
    w = parameter("w", constant_fill(0.5, (8, 8)))
    network = b.finish(b.add(Op.LINEAR, [x, w], at.LinearAttributes(), name="fc"))
    with pytest.raises(UnsupportedError) as error:
        isaac(adc_bits="needed").evaluate(network)
    assert str(error.value) == (
        "layer 'fc': adc_bits 'needed' follows the weights but this network has none; load it with weights, or give adc_bits "
        "as a number"
    )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"adc_bits": 0}, f"adc_bits must be at least 1, got 0{NO_ADC}"),
        ({"adc_bits": 17}, "adc_bits must be at most 16, got 17"),
        (
            {"adc_bits": [3, 0]},
            "adc_bits: each slice takes a number from 1 to 16, got 0 for slice 1; 'needed' leaves out the ADC of slices that "
            "hold nothing",
        ),
        ({"adc_bits": [3, 4.0]}, "adc_bits: each slice takes a number from 1 to 16, got 4.0 for slice 1"),
        ({"adc_bits": []}, f"adc_bits: the list is empty; it {RULE.removesuffix(', got')}"),
        ({"adc_bits": None}, f"adc_bits {RULE} None{NO_ADC}"),
        ({"adc_bits": "none"}, f"adc_bits {RULE} 'none'{NO_ADC}"),
        ({"adc_bits": True}, f"adc_bits {RULE} True"),
        ({"adc_bits": "neded"}, f"adc_bits {RULE} 'neded'"),
        ({"adc_bits": "7,7, 7,7"}, f"adc_bits {RULE} '7,7, 7,7'; write adc_bits=[7, 7, 7, 7]"),
        ({"adc_bits": "7"}, f"adc_bits {RULE} '7'; write adc_bits=7"),
        (
            {"adc_bits": [1, 3], "encoding": "differential"},
            "adc_bits must be at least 2 where column sums have a sign (differential, bipolar)",
        ),
        (
            {"adc_percentile": 99.0},
            "adc_percentile below 100 needs adc_bits 'needed' or adc_range 'calibrated'",
        ),
        (
            {"adc_bits": "needed", "adc_range": "full"},
            "adc_bits 'needed' counts codes of one cell unit, so adc_range must be 'exact'",
        ),
    ],
)
def test_bad_converters_are_refused_in_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as error:
        isaac(**changes)
    assert sentence in str(error.value)


def test_fewer_converters_than_slices_are_refused() -> None:
    with pytest.raises(InfeasibleError) as error:
        isaac(adc_bits=[3, 3], **EIGHT).evaluate(linears(A))
    assert str(error.value) == (
        "adc_bits names 2 slices but a weight takes 4 cells of 2 bits; give 4 numbers, or use fewer weight bits"
    )


# --- how converters are built, and what they do not do -----------------------------------------------------


def test_slices_that_no_weight_has_get_no_converters() -> None:
    network = linears(A)  # four slices
    wanted, more = (isaac(adc_bits=[8] * 4 + extra, **EIGHT) for extra in ([], [1] * 12))
    assert more.evaluate(network).area == wanted.evaluate(network).area
    assert more.area() == wanted.area()
    assert "least significant first: 8/8/8/8 (" in " ".join(more.evaluate(network).coverage.notes)


def test_a_pair_of_columns_takes_one_conversion_of_a_read() -> None:
    network = linears(np.ones((4, 128)), tokens=3)
    split, pairs = (
        isaac(**EIGHT, encoding=e, adc_bits=16).evaluate(network) for e in ("split", "differential")
    )  # 128 columns of 12.5 ns / 16, 64 pairs of them
    assert split.totals["interval_s"] == pytest.approx(3 * 8 * 200e-9)
    assert pairs.totals["interval_s"] == pytest.approx(3 * 8 * 100e-9)
    (said,) = [n for n in pairs.coverage.notes if n.startswith("a pair of columns")]
    assert said.endswith("so an ADC converts 64 pairs in a read, half as many as it has columns")
    assert not any(n.startswith("a pair of columns") for n in split.coverage.notes)
    half = isaac(**EIGHT, encoding="differential", adc_bits=8).evaluate(network).coverage.notes
    assert any("ADCs convert for 50 ns and idle for the rest" in n for n in half)


@pytest.mark.parametrize("model", AdcModel)
def test_an_early_stop_costs_between_a_narrow_converter_and_the_wide_one(model: AdcModel) -> None:
    least = 4 if model is AdcModel.SURVEY else 1

    def pj(bits: int, built: int) -> float:
        made = LayerAdc(slices=(SliceAdc(conversions={bits: 1}),), built=built)
        (line,) = priced_lines(made, 1, isaac(adc_model=model, adc="run_time").spec)
        return line.pj

    for built in range(least, 17):
        full = float(adc_energy_pj(model, built))
        assert pj(built, built) == pytest.approx(full)
        costs = [pj(bits, built) for bits in range(least, built + 1)]
        assert costs == sorted(costs)
        for bits, cost in enumerate(costs, least):
            assert float(adc_energy_pj(model, bits)) * (1 - 1e-9) <= cost <= full * (1 + 1e-9)
            one_go = model in (AdcModel.SURVEY, AdcModel.NEUROSIM_MLSA)
            assert (cost < full * (1 - 1e-9)) == (bits < built and not one_go)


def test_weights_of_zeros_need_no_converters_and_compute_zeros() -> None:
    network = linears(np.zeros((3, 5)))
    for build in ("design_time", "run_time"):
        accelerator = isaac(adc=build, **DIFFERENTIAL)
        report = accelerator.evaluate(network)
        assert not {"adc"} & {*report.energy_by_component(), *(i.component for i in report.area.items)}
        assert report.totals["latency_s"] > 0
        (layer,) = network.layers
        program = accelerator.arithmetic_in(network)(layer).program
        assert program is not None
        assert not np.any(program(np.zeros((3, 5), dtype=np.int64)).matmul(np.ones((5, 2), dtype=np.int64)))


def test_the_survey_builds_four_bits_where_fewer_are_needed() -> None:
    report = isaac(adc_model="survey", **DIFFERENTIAL).evaluate(linears(A, B, C))
    four = float(adc_energy_pj(AdcModel.SURVEY, 4))
    assert adc_lines(report) == [(8, pytest.approx(four))] * 3
    note = "the survey states 4 bits and more: converters that need fewer are built and priced with 4"
    assert note in report.coverage.notes
    assert note not in isaac(**DIFFERENTIAL).evaluate(linears(A, B, C)).coverage.notes
    wide = isaac(adc_model="survey", **DIFFERENTIAL).evaluate(linears(np.full((2, 128), 85)))
    assert note not in wide.coverage.notes


@pytest.mark.parametrize(
    ("changes", "start"),
    [
        (
            {"adc_megasamples_per_s": 2560.0},
            "at 2560 MS/s only the time of a conversion changes: under isaac_sar energy",
        ),
        ({"adc_megasamples_per_s": 640.0, "adc_model": "survey"}, None),
        ({}, None),
        (
            {"device": {"preset": "neurosim-rram"}},
            "the device decides what is computed; its resistances price nothing; reading a cell costs what ISAAC's costs",
        ),
        (
            {"device": {"preset": "neurosim-rram"}, "adc_model": "neurosim_mlsa"},
            "the device decides what is computed; its resistances price the converters' column current",
        ),
    ],
)
def test_keys_that_change_less_than_they_seem_to_are_noted(changes: dict[str, Any], start: str | None) -> None:
    notes = isaac(**EIGHT, **changes).evaluate(linears(A)).coverage.notes
    found = [n for n in notes if n.startswith(("at ", "the device"))]
    assert (start is None and not found) or (start is not None and len(found) == 1 and found[0].startswith(start))
