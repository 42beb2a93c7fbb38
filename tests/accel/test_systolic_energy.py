"""Prices of a systolic array's events: partly used ports, registers and their shadows, areas by PE format."""

import numpy as np
import pytest

from picojoule.accel.systolic.design_arrays import DesignArrays
from picojoule.accel.systolic.energy import EnergyModel
from picojoule.accel.systolic.spec import SystolicSpec
from picojoule.accel.systolic.timing import Dataflow
from picojoule.sim import technology as tech

FORMATS = ("integer", "float", "ternary", "binary", "power_of_two", "block_float")


def model(columns=None, **spec) -> EnergyModel:
    return EnergyModel(DesignArrays.of(SystolicSpec(**spec), columns))


def pj(charges) -> float:
    return float(sum(np.asarray(charge.pj).sum() for charge in charges))


def test_a_port_used_half_costs_more_than_half_and_less_than_whole() -> None:
    energy = model(rows=16, cols=16)
    whole = pj(energy.sram("ifmap", "read", 16_000, 8, 1000))
    half = pj(energy.sram("ifmap", "read", 8_000, 8, 1000))
    assert whole == pytest.approx(1000 * float(tech.sram_energy_pj(64, 128, 45, "lop")))
    assert whole == pytest.approx(pj(energy.sram("ifmap", "read", 16_000, 8)))  # None: whole ports
    port = tech.sram_port(64, 128, 45, "lop")
    assert half == pytest.approx(float(1000 * port.lane_pj + 64_000 * port.bit_pj))
    assert 0.6 * whole < half < whole  # a read is mostly fixed: measured 0.81


def test_the_ofmap_port_holds_sums() -> None:
    energy = model(rows=4, cols=16)  # 16 sums of 32 bits: two lanes
    whole = float(tech.sram_energy_pj(64, 512, 45, "lop", kind="write"))
    assert pj(energy.sram("ofmap", "write", 160, 32, 10)) == pytest.approx(10 * whole)
    assert pj(energy.sram("ofmap", "write", 160, 8)) == pytest.approx(10 * whole / 4)


def test_wide_ports_wake_only_the_lanes_they_use() -> None:
    energy = model(rows=128, cols=16)  # 1024 bits: four lanes of 16 KiB
    port = tech.sram_port(64, 1024, 45, "lop")
    for used_rows, lanes in ((128, 4.0), (64, 2.0), (16, 1.0), (1, 1.0)):
        price = pj(energy.sram("ifmap", "read", used_rows * 10, 8, 10))
        assert price == pytest.approx(10 * float(lanes * port.lane_pj + used_rows * 8 * port.bit_pj))


def test_narrow_words_do_not_narrow_the_port() -> None:
    energy = model(rows=16, cols=16)
    four, eight = (pj(energy.sram("ifmap", "read", 16_000, bits, 1000)) for bits in (4, 8))
    assert 0.6 * eight < four < eight
    packed = pj(energy.sram("ifmap", "read", 16_000, 4))  # DRAM brings them packed, whole ports
    assert packed == pytest.approx(eight / 2)


def test_nothing_moved_costs_nothing() -> None:
    energy = model()
    assert pj(energy.sram("ofmap", "write", 0, 32, 0)) == pj(energy.sram("ofmap", "write", 0, 32)) == 0


def test_energies_add_up_over_layers_and_designs_stand_alone() -> None:
    columns = {"rows": np.array([4, 16, 512]), "cols": np.array([16, 16, 2048]), "dataflow": np.array([0, 1, 2])}
    many = model(columns)
    for buffer in ("ifmap", "filter", "ofmap"):
        together = sum(c.pj for c in many.sram(buffer, "read", 3000, 8, 400))
        parts = sum(c.pj for words, n in ((1000, 100), (2000, 300)) for c in many.sram(buffer, "read", words, 8, n))
        assert (parts >= together - 1e-6).all()  # whole lanes of one may fill up with the other's
        for i in range(3):
            one = model({key: values[i : i + 1] for key, values in columns.items()})
            assert pj(one.sram(buffer, "read", 3000, 8, 400)) == pytest.approx(together[i], rel=1e-12)


def test_registers_and_their_loads_by_hand() -> None:
    bit = float(tech.register_energy_pj(1, 45))
    for flow, moving, shifted, overlap in (
        ("os", 8 + 6 + 24, 24, "overlap_drain"),
        ("ws", 6 + 24, 8, "overlap_load"),
        ("is", 8 + 24, 6, "overlap_load"),
    ):
        spec = {"dataflow": flow, "weight_bits": 8, "activation_bits": 6, "accumulator_bits": 24}
        assert pj(model(**spec).registers(1000)) == pytest.approx(1000 * moving * bit)
        plain = pj(model(**spec).registers(1000, 50, 20))
        assert plain == pytest.approx((1000 * moving + 50 * shifted) * bit)
        shadowed = pj(model(**spec, **{overlap: True}).registers(1000, 50, 20))
        assert shadowed - plain == pytest.approx(20 * shifted * bit)
        area = {charge.component: float(charge.mm2[0]) for charge in model(**spec).areas()}
        more = {charge.component: float(charge.mm2[0]) for charge in model(**spec, **{overlap: True}).areas()}
        assert area["register"] == pytest.approx(256 * (8 + 6 + 24) * float(tech.register_area_um2(1, 45)) / 1e6)
        assert more["register"] - area["register"] == pytest.approx(
            256 * shifted * float(tech.register_area_um2(1, 45)) / 1e6
        )
        other = "overlap_load" if flow == "os" else "overlap_drain"
        assert float(model(**spec, **{other: True}).areas()[1].mm2[0]) == pytest.approx(area["register"])  # ignored


@pytest.mark.parametrize("pe_format", FORMATS)
def test_every_format_has_energy_area_and_sampled_constants(pe_format) -> None:
    energy = model(pe_format=pe_format, node_nm=28)
    for charge in (*energy.mac(1000, 8, 8), *energy.registers(1000, 10, 10)):
        assert charge.pj.min() > 0
        assert all(name in tech.all_constants() for name in charge.constant.split("*"))
    for area in energy.areas():
        assert np.asarray(area.mm2).min() > 0
        assert all(name in tech.all_constants() for name in area.constant.split("*"))
    assert energy.area().mm2 == pytest.approx(sum(float(np.asarray(a.mm2).item()) for a in energy.areas()))


def test_cheaper_formats_are_cheaper() -> None:
    price = {form: pj(model(pe_format=form).mac(1, 8, 8)) for form in FORMATS}
    assert price["float"] > price["block_float"] > price["integer"] > price["power_of_two"] > price["ternary"]
    assert price["ternary"] == price["binary"]  # they differ in registers and traffic
    size = {form: float(np.asarray(model(pe_format=form).areas()[0].mm2).item()) for form in FORMATS}
    assert size["float"] > size["block_float"] > size["integer"] > size["ternary"]
    bits = {form: pj(model(pe_format=form).registers(1)) for form in ("integer", "ternary", "binary")}
    assert bits["integer"] == bits["ternary"]  # ws: the weight stays
    assert Dataflow.WS == 1
    moving = {form: pj(model(pe_format=form, dataflow="os").registers(1)) for form in ("integer", "ternary", "binary")}
    assert moving["integer"] > moving["ternary"] > moving["binary"]


def test_leakage_of_cell_types() -> None:
    leak = {}
    for cell in ("hp", "lop", "lstp"):
        energy = model(sram_cell=cell)
        leak[cell] = pj(energy.leakage(1e-3, energy.areas()))
    assert leak["hp"] / leak["lop"] == pytest.approx(72, rel=0.1) and leak["lop"] / leak["lstp"] == pytest.approx(
        63, rel=0.1
    )
