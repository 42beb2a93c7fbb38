"""Parts that ISAAC's table lacks: each by hand, in step with what sizes it, and absent from ISAAC."""

import pytest

from picojoule.reram.adc_models import adc_energy_pj
from picojoule.sim import attributes as at
from picojoule.sim.attributes import Op
from picojoule.sim.builder import NetworkBuilder, parameter
from picojoule.sim.errors import InputError
from picojoule.sim.hardware import load_hardware
from picojoule.sim.ir import TensorType
from picojoule.sim.technology import (
    all_constants,
    constant,
    logic_area_scale,
    logic_energy_scale,
    register_area_um2,
    register_energy_pj,
)
from picojoule.sim.technology.transistor_laws import gate_area_f2, transistors
from picojoule.sim.weights import constant_fill

EIGHT = {"weight_bits": 8, "activation_bits": 8}

SWITCHED = {"cell_area_f2": 48.0, "cell_width_f": 12.0, "row_driver": "switch", "device": {"preset": "neurosim-rram"}}
ALL = {
    **SWITCHED,
    "column_select": "multiplexer",
    "write_v": 2.0,
    "accumulators": "per_adc",
    "adc_model": "neurosim_mlsa",
    "node_nm": 22.0,
}
OURS = {
    "row_wire",
    "row_gates",
    "row_switch",
    "row_register",
    "multiplexer",
    "column_switch",
    "level_shifter",
    "line_register",
    "accumulator_adder",
    "accumulator_register",
}
C, READS, CROSSBARS = 8, 8 * 16, 168 * 96


def conv_network():
    """C channels to C by 1 x 1, on 16 pixels."""
    plain = at.ConvAttributes(stride=(1, 1), padding_begin=(0, 0), padding_end=(0, 0), dilation=(1, 1))
    builder = NetworkBuilder("one conv")
    x = builder.input("x", TensorType(shape=(1, C, 4, 4), batch_axis=0))
    (y,) = builder.add(Op.CONV, [x, parameter("w", constant_fill(0.5, (C, C, 1, 1)))], plain, name="conv")
    return builder.finish([y])


def bill(**keys):
    return load_hardware("isaac", {**EIGHT, **keys}).evaluate(conv_network()).energy_by_component()


def area(**keys):
    parts = {}
    for item in load_hardware("isaac", {**EIGHT, **keys}).area().items:
        parts[item.component] = parts.get(item.component, 0.0) + item.mm2
    return parts


# ---- ISAAC has none of them


def test_isaac_has_none_of_the_parts_and_its_totals_are_what_they_were():
    report = load_hardware("isaac", EIGHT).evaluate(conv_network())
    assert not OURS & set(report.energy_by_component()) and not OURS & set(area())
    assert report.totals["area_mm2"] == pytest.approx(86.12318829708396, rel=1e-12)
    spelled = {"row_driver": "dac", "column_select": "sample_hold", "accumulators": "shared", "input_activity": 1.0}
    same = load_hardware("isaac", {**EIGHT, **spelled}).evaluate(conv_network())
    assert same.energy_by_component() == report.energy_by_component()


def test_every_line_names_constants_with_a_range():
    accelerator = load_hardware("isaac", {**EIGHT, **ALL})
    report = accelerator.evaluate(conv_network())
    lines = [entry for layer in report.layers for entry in layer.energy]
    assert OURS & {entry.component for entry in lines} and "crossbar" not in {entry.component for entry in lines}
    for entry in (*lines, *report.area.items):
        for name in entry.constant.split("*"):
            held = all_constants()[name]
            assert 0 < held.low < held.value < held.high, name
    low, high = report.totals["ranges"]["energy_pj"]
    assert low < report.totals["energy_pj"] < high
    parts = {item.component for item in report.area.items}
    assert not {"dac", "sample_hold", "output_register"} & parts and parts >= {
        p for p in OURS if not p.startswith("row_")
    }


# ---- cells


def test_cells_take_their_area():
    um2 = 128 * 128 * 48 * 0.022**2
    assert area(cell_area_f2=48.0, node_nm=22.0)["crossbar"] == pytest.approx(CROSSBARS * um2 * 1e-6)
    ours, isaacs = area(cell_area_f2=48.0)["crossbar"], area()["crossbar"]
    assert ours / isaacs == pytest.approx(48 * 0.032**2 / (25 / 128**2))  # ISAAC: 25 um2 for the whole crossbar


# ---- rows


def test_a_switched_row_charges_its_wire_and_the_gates_of_its_cells():
    # 22 nm: 128 cells of 12 F, 0.2 fF/um; 6 kohm / 4 is 11.5 F of a transistor of 1.77 x 0.85 V / 791.9 uA/um, a fifth of it.
    found = bill(**SWITCHED, node_nm=22.0, input_activity=0.25)
    drives = C * READS
    wire_ff = 128 * 12 * 0.022 * 0.2
    width_um = 0.2 * 1.77 * 0.85 / 791.9e-6 / 1500
    assert width_um / 0.022 == pytest.approx(11.51, abs=0.01)
    gate_ff_per_um = 1.2 * 0.5245 + 0.8004
    assert found["row_wire"] == pytest.approx(drives * 0.25 * wire_ff * 0.85**2 * 1e-3)
    assert found["row_gates"] == pytest.approx(drives * 0.25 * 128 * width_um * gate_ff_per_um * 0.85**2 * 1e-3)
    assert found["row_register"] == pytest.approx(drives * float(register_energy_pj(1, 22)))
    assert "dac" not in found
    louder = bill(**SWITCHED, node_nm=22.0, input_activity=0.5, wordline_v=1.7)
    assert louder["row_gates"] / found["row_gates"] == pytest.approx(2 * 4)
    assert louder["row_switch"] / found["row_switch"] == pytest.approx(2)  # switches open at the supply
    narrower = bill(**{**SWITCHED, "cell_width_f": None}, node_nm=22.0, input_activity=0.25)
    assert narrower["row_wire"] / found["row_wire"] == pytest.approx(48**0.5 / 12)


def test_activity_drives_fewer_dacs_too():
    assert bill(input_activity=0.5)["dac"] == pytest.approx(0.5 * bill()["dac"])


def test_weak_cells_take_small_transistors():
    strong = bill(**SWITCHED)["row_gates"]
    weak = bill(**{**SWITCHED, "device": {"g_max_us": 1e6 / 60e3}})["row_gates"]
    assert weak == pytest.approx(strong / 10, rel=1e-3)  # 6 kohm is 166.7 uS


# ---- columns and writes


def test_multiplexed_columns_pulse_rows_again_and_hold_no_samples():
    held, taken = bill(**SWITCHED), bill(**SWITCHED, column_select="multiplexer")
    assert taken["row_gates"] == pytest.approx(128 * held["row_gates"])  # ISAAC has an ADC for 128 columns
    assert "sample_hold" in held and "sample_hold" not in taken
    t = transistors(32)
    column = 2 / (1 / 7499 + 1 / (17 * 5999 + 1500)) / 128
    n, p = t.switch_widths_f(column / 4)
    codes = C * 4 * READS
    assert taken["multiplexer"] == pytest.approx(codes * (n + p) * t.gate_ff_per_f * 0.9**2 * 1e-3, rel=1e-3)
    um2 = gate_area_f2(n, p) * 0.032**2
    assert area(**SWITCHED, column_select="multiplexer")["multiplexer"] == pytest.approx(
        CROSSBARS * 128 * um2 * 1e-6, rel=1e-2
    )


def test_level_shifters_stand_on_three_sides_above_one_and_a_half_volts():
    low, high = area(write_v=1.5, node_nm=22.0), area(write_v=2.0, node_nm=22.0)
    assert "level_shifter" not in low and low["column_switch"] == high["column_switch"]
    assert low["column_switch"] == pytest.approx(CROSSBARS * 128 * 2 * 212.8 * 0.022**2 * 1e-6)
    # 62.9 F of 70 F are left: 60 + 105.5 F fold 3 times, 128 + 52.8 F 3 times, 256 + 432.7 F 11 times.
    f2 = 1.44 * 70 * 3.8 * (4 + 2.5 * (2 * 4 + 12))
    assert high["level_shifter"] == pytest.approx(CROSSBARS * 384 * f2 * 0.022**2 * 1e-6)
    assert low["line_register"] == pytest.approx(CROSSBARS * 128 * float(register_area_um2(1, 22)) * 1e-6)


def test_sense_amplifiers_follow_the_column_of_the_design():
    sensed = {"adc_model": "neurosim_mlsa", "adc_bits": 7, "node_nm": 22.0}
    codes = C * 4 * READS
    for device, rows, ohm in (
        (None, 128, None),
        ({"g_max_us": 10.0}, 128, 1e5 / 128),
        ({"g_max_us": 10.0}, 32, 1e5 / 32),
    ):
        pj = float(adc_energy_pj("neurosim_mlsa", 7, node_nm=22, r_column_ohm=ohm))
        assert bill(**sensed, device=device, rows_active=rows)["adc"] == pytest.approx(codes * pj)


# ---- accumulators


def test_accumulators_behind_each_adc():
    found = bill(accumulators="per_adc")
    codes, slices, steps, bits = C * 4 * READS, 4, 8, 8
    words = codes / slices
    added = codes * bits + words * (bits + slices)
    clocked = codes * (bits + slices) + words * (bits + slices + steps)
    scale = float(logic_energy_scale(45, 32))
    assert found["accumulator_adder"] == pytest.approx(added * 0.1 / 32 * scale)
    assert found["accumulator_register"] == pytest.approx(clocked * float(register_energy_pj(1, 32)))
    merges = C * 16 + C * 16  # the weights' offset; codes are added behind their ADCs
    assert found["shift_add"] == pytest.approx(merges * constant("isaac.shift_add.step").value)
    assert "output_register" not in found
    built = area(accumulators="per_adc")
    adder_um2 = 137 / 32 * (8 + 12) * float(logic_area_scale(45, 32))
    assert built["accumulator_adder"] == pytest.approx(CROSSBARS * adder_um2 * 1e-6)
    assert built["accumulator_register"] == pytest.approx(CROSSBARS * float(register_area_um2(12 + 20, 32)) * 1e-6)
    wider = area(accumulators="per_adc", adc_bits=10)
    assert wider["accumulator_register"] > built["accumulator_register"]


# ---- transistors and refusals


def test_gates_fold_and_resistance_falls_with_width():
    assert gate_area_f2(2, 2) == pytest.approx(212.8)
    assert gate_area_f2(20.9, 0) == pytest.approx(212.8) and gate_area_f2(21, 0) == pytest.approx(28 * 3 * 3.8)
    t = transistors(22)
    assert t.switch_widths_f(50)[0] == pytest.approx(2 * t.switch_widths_f(100)[0])
    assert t.switch_widths_f(1e9) == (1, 1)
    between = transistors(28)
    assert t.supply_v < between.supply_v < transistors(32).supply_v
    with pytest.raises(InputError, match="node of the transistors"):
        transistors(14)


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"row_driver": "switch", "device": {"preset": "neurosim-rram"}}, "needs cell_area_f2, which gives the length"),
        ({"row_driver": "switch", "cell_area_f2": 48.0}, "needs device.g_max_us, which gives the width of the cells'"),
        ({**SWITCHED, "dac_bits": 2}, "dac_bits must be 1, got 2"),
        ({"column_select": "multiplexer"}, "column_select 'multiplexer' needs device.g_max_us"),
        ({"input_activity": 1.5}, "input_activity"),
    ],
)
def test_parts_need_what_sizes_them(keys, why):
    with pytest.raises(InputError, match=why):
        load_hardware("isaac", {**EIGHT, **keys})
