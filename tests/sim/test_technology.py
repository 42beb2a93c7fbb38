import csv
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from picojoule.sim import technology as tech
from picojoule.sim.errors import InputError

SWEEP = Path(__file__).parents[1] / "reference" / "energy" / "cacti_sweep.csv"

nodes = st.floats(7, 130)
sram_nodes = st.floats(22, 65)
cells = st.sampled_from(list(tech.SramCell))
names = st.sampled_from(sorted(tech.all_constants()))
costs = st.dictionaries(names, st.floats(1e-3, 1e6), min_size=1, max_size=6)


def raises(error: type[Exception], message: str):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


# --- constants ---


def test_every_constant_is_complete_and_its_range_holds_its_value() -> None:
    for name, constant in tech.all_constants().items():
        assert name == constant.name
        assert constant.unit and len(constant.source) > 5
        assert 0 < constant.low <= constant.value <= constant.high < math.inf
        assert constant.low < constant.high


def test_registry_is_read_only() -> None:
    with pytest.raises(TypeError):
        tech.all_constants()["x"] = tech.constant("sram.model")  # type: ignore[index]


def test_unknown_constant_names_the_nearest() -> None:
    with raises(InputError, "unknown technology constant 'dram.lpddr5.bit'; did you mean 'dram.lpddr.bit'?"):
        tech.constant("dram.lpddr5.bit")


@pytest.mark.parametrize("low, value, high", [(0, 1, 2), (2, 1, 3), (1, 2, 1.5), (1, 1, math.inf), (math.nan, 1, 2)])
def test_a_constant_with_a_bad_range_is_refused(low: float, value: float, high: float) -> None:
    with raises(
        InputError,
        f"constant 'a.b' needs finite 0 < low <= value <= high, got low {low}, value {value}, high {high}",
    ):
        tech.Constant(
            name="a.b",
            value=value,
            unit="pJ",
            node_nm=None,
            kind=tech.ConstantClass.PER_EVENT,
            source="here",
            low=low,
            high=high,
        )


def test_the_hash_is_the_same_in_another_process_and_follows_the_content(monkeypatch: pytest.MonkeyPatch) -> None:
    here = tech.constants_hash()
    code = "from picojoule.sim.technology import constants_hash as h; import sys; sys.stdout.write(h())"
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert here == there
    from picojoule.sim.technology import constants

    shortened = dict(list(tech.all_constants().items())[1:])
    monkeypatch.setattr(constants, "_BY_NAME", shortened)
    assert tech.constants_hash() != here


def test_pricing_imports_numpy_only() -> None:
    code = (
        "import sys, picojoule.sim.technology;"
        "sys.exit(any(m in sys.modules for m in ('torch', 'scipy', 'matplotlib', 'pandas', 'numba')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Horowitz, ISSCC 2014; O'Connor 2017; Aladdin: the tables as published.
@pytest.mark.parametrize(
    "name, value",
    [
        ("mac.int8.add.45nm", 0.03),
        ("mac.int16.add.45nm", 0.05),
        ("mac.int32.add.45nm", 0.1),
        ("mac.int8.multiply.45nm", 0.2),
        ("mac.int32.multiply.45nm", 3.1),
        ("mac.fp16.add.45nm", 0.4),
        ("mac.fp32.add.45nm", 0.9),
        ("mac.fp16.multiply.45nm", 1.1),
        ("mac.fp32.multiply.45nm", 3.7),
        ("mac.fp32.multiply.area.45nm", 7700),
        ("mac.bf16.multiply.7nm", 0.21),
        ("register.bit.40nm", 0.009),
        ("dram.lpddr4.bit", 8.0),
        ("dram.hbm2.bit", 3.9),
    ],
)
def test_published_values(name: str, value: float) -> None:
    assert tech.constant(name).value == value


def test_isaac_powers_and_areas_add_up_to_its_published_totals() -> None:
    def total(quantity: str) -> tuple[float, float, float]:
        def of(name: str) -> float:
            return tech.constant(f"isaac.{name}.{quantity}").value

        ima = (
            8 * (of("adc") + of("crossbar"))
            + 1024 * (of("dac") + of("sample_hold"))
            + 4 * of("shift_add")
            + of("input_register")
            + of("output_register")
        )
        tile = (
            12 * ima
            + of("edram")
            + of("bus")
            + of("router") / 4
            + 2 * of("sigmoid")
            + of("shift_add")
            + of("max_pool")
            + of("tile_output_register")
        )
        return ima, tile, 168 * tile + of("hypertransport")

    ima_mw, tile_mw, chip_mw = total("power")
    assert ima_mw == pytest.approx(24.08, abs=0.005)
    assert tile_mw == pytest.approx(329.81, abs=0.01)
    assert chip_mw == pytest.approx(65808, rel=1e-4)
    ima_mm2, tile_mm2, chip_mm2 = total("area")
    assert ima_mm2 == pytest.approx(0.01312, rel=1e-3)
    assert tile_mm2 == pytest.approx(0.37229, rel=1e-4)
    assert chip_mm2 == pytest.approx(85.42, rel=1e-3)


def test_isaac_energies_times_their_rates_are_its_powers() -> None:
    def value(name: str) -> float:
        return tech.constant(f"isaac.{name}").value

    assert value("adc.conversion") * 1.28 == pytest.approx(value("adc.power"))
    for energy, power, events in (
        ("crossbar.read", "crossbar.power", 1),
        ("dac.drive", "dac.power", 1),
        ("sample_hold.sample", "sample_hold.power", 1),
        ("input_register.bit", "input_register.power", 8 * 128),
        ("output_register.bit", "output_register.power", 8 * 256),
    ):
        assert value(energy) * events / 100 == pytest.approx(value(power), rel=5e-3)  # pJ per 100 ns = mW / 100


# --- arithmetic ---


def test_integer_multiply_adds_meet_both_ends_of_horowitz_and_the_quadratic_between() -> None:
    cost = tech.multiply_add_energy_pj([8, 16, 32], [8, 16, 32], 32, 45)
    np.testing.assert_allclose(cost.energy_pj, [0.3, 0.9, 3.2], rtol=0.02)
    np.testing.assert_allclose(cost.energy_pj[[0, 2]], [0.3, 3.2], rtol=1e-12)
    np.testing.assert_allclose(
        tech.multiply_add_area_um2([8, 32], [8, 32], 32, 45), [282 + 137, 3495 + 137], rtol=1e-12
    )


def test_low_width_multiply_adds_are_marked_and_carry_their_doubt() -> None:
    cost = tech.multiply_add_energy_pj([4, 8], 8, 32, 45)
    assert cost.extrapolated.tolist() == [True, False]
    marked = cost.energy_by_constant["mac.int8.multiply.45nm*mac.int.multiply.below_8bit"]
    assert marked[0] == pytest.approx(0.2 * 0.5**0.98856, rel=1e-4) and marked[1] == 0


def test_scaled_multiply_adds_carry_the_doubt_of_scaling() -> None:
    at_home = tech.multiply_add_energy_pj(8, 8, 32, 45)
    assert set(at_home.energy_by_constant) == {"mac.int8.multiply.45nm", "mac.int32.add.45nm"}
    near = tech.multiply_add_energy_pj(8, 8, 32, 28)
    assert all(key.endswith("*scaling.logic.near") for key in near.energy_by_constant)
    far = tech.multiply_add_energy_pj(8, 8, 32, 7)
    assert all(key.endswith("*scaling.logic.far") for key in far.energy_by_constant)
    assert far.energy_pj / at_home.energy_pj == pytest.approx(tech.logic_energy_scale(45, 7))


@given(
    weight=st.integers(1, 31),
    activation=st.integers(1, 31),
    accumulator=st.integers(1, 63),
    node=nodes,
)
def test_multiply_adds_grow_with_every_width_and_add_up(
    weight: int, activation: int, accumulator: int, node: float
) -> None:
    cost = tech.multiply_add_energy_pj(
        np.array([0, 1, 0, 0]) + weight, np.array([0, 0, 1, 0]) + activation, np.array([0, 0, 0, 1]) + accumulator, node
    )
    assert (cost.energy_pj[1:] > cost.energy_pj[0]).all() and cost.energy_pj[0] > 0
    assert cost.energy_pj[1] <= cost.energy_pj.max()
    np.testing.assert_allclose(sum(cost.energy_by_constant.values()), cost.energy_pj, rtol=1e-12)
    swapped = tech.multiply_add_energy_pj(activation, weight, accumulator, node)
    assert float(swapped.energy_pj) == pytest.approx(float(cost.energy_pj[0]))
    assert all(
        base in tech.all_constants() for key in cost.energy_by_constant for base in key.split("*")
    )  # the keys can be sampled


def test_one_point_equals_its_place_in_a_sweep() -> None:
    weight, node = np.array([2, 4, 8, 16])[:, None], np.array([65, 45, 32, 7])
    sweep = tech.multiply_add_energy_pj(weight, 8, 24, node)
    assert sweep.energy_pj.shape == (4, 4)
    for i, j in np.ndindex(4, 4):
        one = tech.multiply_add_energy_pj(int(weight[i, 0]), 8, 24, float(node[j]))
        assert float(one.energy_pj) == pytest.approx(sweep.energy_pj[i, j], rel=1e-12)
        assert bool(one.extrapolated) == bool(sweep.extrapolated[i, j])


def test_the_seven_nanometre_table_is_an_alternative() -> None:
    cost = tech.multiply_add_energy_pj([8, 32], [8, 32], 32, 7, table=tech.ArithmeticTable.JOUPPI_7NM)
    np.testing.assert_allclose(cost.energy_pj, [0.07 + 0.03, 1.48 + 0.03], rtol=1e-12)


def test_vector_operations() -> None:
    def energy(operation: str, bits: int) -> float:
        return float(tech.vector_operation_energy_pj(operation, bits, 45).energy_pj)

    assert energy("add", 32) == energy("compare", 32) == pytest.approx(0.1)
    assert energy("multiply", 8) == pytest.approx(0.2)
    assert energy("transcendental", 8) == pytest.approx(6 * (0.2 + 0.1 / 2))
    with raises(
        InputError,
        "unknown vector operation 'mul'; did you mean 'multiply'? "
        "(choose from 'add', 'compare', 'multiply', 'transcendental')",
    ):
        tech.vector_operation_energy_pj("mul", 8, 45)


def test_registers_and_logic_leakage() -> None:
    assert float(tech.register_energy_pj(32, 40)) == pytest.approx(0.288)
    assert float(tech.register_area_um2(32, 40)) == pytest.approx(191.36)
    assert tech.register_key(40) == "register.bit.40nm"
    assert tech.register_key(32) == "register.bit.40nm*scaling.logic.near"
    assert float(tech.logic_leakage_mw(0.00635)) == pytest.approx(0.08, rel=1e-3)  # Aladdin's multiplier
    with raises(InputError, "register bits must be finite and not negative, got -1"):
        tech.register_energy_pj(-1, 40)


@pytest.mark.parametrize("bits", [0, -8, math.nan, 33])
def test_impossible_widths_are_refused(bits: float) -> None:
    with raises(InputError, f"weight must be between 1 and 32 bits, got {bits:g}"):
        tech.multiply_add_energy_pj([8, bits], 8, 32, 45)


# --- node scaling ---


def test_the_worked_case_of_the_corrigendum() -> None:
    assert float(tech.logic_energy_scale(65, 32, 1.3, to_vdd_v=0.9)) == pytest.approx(0.1755, abs=1e-4)


def test_accelergys_mixture_of_families_gives_its_published_ratios() -> None:
    to_nm = [130, 90, 65, 32, 20, 16, 14, 10, 7]
    at_0v9 = tech.logic_energy_scale(45, to_nm, 0.9, family="accelergy")
    np.testing.assert_allclose(at_0v9, [3.17, 1.95, 1.25, 0.64, 0.24, 0.19, 0.15, 0.13, 0.10], rtol=0.04)
    at_0v8 = tech.logic_energy_scale(45, to_nm, 0.8, family="accelergy")
    np.testing.assert_allclose(at_0v8, [3.07, 1.90, 1.24, 0.66, 0.22, 0.17, 0.14, 0.12, 0.094], rtol=0.04)


def test_area_follows_the_published_table() -> None:
    np.testing.assert_allclose(
        tech.logic_area_scale(45, [130, 90, 65, 45, 32, 20, 16, 14, 10, 7]),
        [6.4, 2.8, 1.5, 1, 0.46, 0.21, 0.19, 0.17, 0.1, 0.059],
        rtol=1e-12,
    )


@given(a=nodes, b=nodes, c=nodes, vdd=st.floats(0.6, 1.4), family=st.sampled_from(list(tech.DeviceFamily)))
def test_scaling_by_steps_is_scaling_at_once(
    a: float, b: float, c: float, vdd: float, family: tech.DeviceFamily
) -> None:
    direct = tech.logic_energy_scale(a, c, vdd, family=family)
    stepped = tech.logic_energy_scale(a, b, vdd, family=family) * tech.logic_energy_scale(b, c, vdd, family=family)
    assert float(direct) == pytest.approx(float(stepped), rel=1e-12)
    assert float(tech.logic_energy_scale(a, a, vdd, family=family)) == 1
    assert float(tech.logic_area_scale(a, b) * tech.logic_area_scale(b, c)) == pytest.approx(
        float(tech.logic_area_scale(a, c)), rel=1e-12
    )


@given(
    a=nodes,
    b=nodes,
    vdd=st.floats(0.6, 1.39),
    family=st.sampled_from([tech.DeviceFamily.HIGH_PERFORMANCE, tech.DeviceFamily.LOW_POWER]),
)
def test_smaller_nodes_and_lower_supplies_take_less_energy(
    a: float, b: float, vdd: float, family: tech.DeviceFamily
) -> None:
    small, large = sorted((a, b))
    assert float(tech.logic_energy_scale(large, small, vdd, family=family)) <= 1 + 1e-12
    assert float(tech.logic_area_scale(large, small)) <= 1 + 1e-12
    assert float(tech.logic_energy_scale(a, a, vdd, to_vdd_v=vdd + 0.01, family=family)) > 1


def test_scaling_outside_its_tables_is_refused() -> None:
    with raises(InputError, "logic node must be between 7 and 130 nm, got 5; the scaling table ends there"):
        tech.logic_energy_scale(45, [45, 5])
    with raises(InputError, "logic node must be between 7 and 130 nm, got 180; the scaling table ends there"):
        tech.logic_area_scale(180, 45)
    with raises(InputError, "supply must be between 0.6 and 1.4 V, got 0.5; the scaling curves end there"):
        tech.logic_energy_scale(65, 45, 0.5)
    with raises(
        InputError,
        "unknown device family 'low_powr'; did you mean 'low_power'? "
        "(choose from 'accelergy', 'high_performance', 'low_power')",
    ):
        tech.logic_energy_scale(65, 45, family="low_powr")


# --- SRAM ---


def sweep_errors() -> dict[str, np.ndarray]:
    """Relative error of the fit against every row of the CACTI sweep, by quantity."""
    with SWEEP.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 66
    errors: dict[str, list[float]] = {"read": [], "write": [], "leakage": [], "area": [], "access": []}
    for row in rows:
        kib, bits, node = int(row["size_bytes"]) / 1024, int(row["width_bits"]), float(row["node_nm"])
        cell = row["cell"].removeprefix("itrs-")
        fitted = {
            "read": (tech.sram_energy_pj(kib, bits, node, cell), "read_pJ"),
            "write": (tech.sram_energy_pj(kib, bits, node, cell, kind="write"), "write_pJ"),
            "leakage": (tech.sram_leakage_mw(kib, node, cell), "leak_mW"),
            "area": (tech.sram_area_mm2(kib, node, cell), "area_mm2"),
            "access": (tech.sram_access_ns(kib, node, cell), "access_ns"),
        }
        for quantity, (value, column) in fitted.items():
            errors[quantity].append(abs(float(value) / float(row[column]) - 1))
    return {quantity: np.array(values) for quantity, values in errors.items()}


def test_the_sram_fit_is_within_its_stated_error_on_every_row_of_the_sweep() -> None:
    errors = sweep_errors()
    medians = {quantity: float(np.median(values)) for quantity, values in errors.items()}
    worst = {quantity: float(values.max()) for quantity, values in errors.items()}
    # measured: medians 0.022, 0.024, 0.036, 0.035, 0.052; worst 0.154, 0.162, 0.169, 0.144, 0.142
    bounds = {"read": (0.025, 0.156), "write": (0.026, 0.164), "leakage": (0.037, 0.171), "area": (0.038, 0.146)}
    bounds["access"] = (0.053, 0.144)
    for quantity, (median, largest) in bounds.items():
        assert medians[quantity] < median and worst[quantity] < largest, quantity
    for quantity, bound in worst.items():  # the fit's error lies in the range of the constants
        constant = tech.constant(f"sram.hp.45nm.{quantity}")
        assert constant.high / constant.value >= 1 + min(bound, 0.2) - 1e-9


def test_a_wide_read_costs_far_less_per_bit() -> None:
    narrow, wide = tech.sram_energy_pj(32, [16, 256], 45, "hp")
    assert 8 < (narrow / 16) / (wide / 256) < 12  # CACTI: 9.8
    narrow_write, wide_write = tech.sram_energy_pj(32, [16, 256], 45, "hp", kind="write")
    assert 6 < wide_write / narrow_write < 9  # CACTI: 7.5


def test_cell_types_differ_in_leakage_as_published() -> None:
    hp, lop, lstp = (float(tech.sram_leakage_mw(32, 45, cell)) for cell in ("hp", "lop", "lstp"))
    assert hp / lop == pytest.approx(72, rel=0.05) and lop / lstp == pytest.approx(62, rel=0.05)


@settings(max_examples=100)
@given(
    kib=st.floats(0.1, 60_000),
    bits=st.integers(1, 1000),
    node=sram_nodes,
    cell=cells,
    kind=st.sampled_from(["read", "write"]),
    more=st.floats(1, 8),
)
def test_sram_never_gets_cheaper_by_growing(
    kib: float, bits: int, node: float, cell: tech.SramCell, kind: str, more: float
) -> None:
    larger = min(kib * more, 65536)
    energy = tech.sram_energy_pj([kib, larger, kib], [bits, bits, math.ceil(bits * more)], node, cell, kind=kind)
    assert energy[0] > 0 and energy[1] >= energy[0] * (1 - 1e-12) and energy[2] >= energy[0] * (1 - 1e-12)
    for function in (tech.sram_leakage_mw, tech.sram_area_mm2, tech.sram_access_ns):
        small, large = function([kib, larger], node, cell)
        assert 0 < small <= large * (1 + 1e-12)
    smaller_node = max(node / more, 22)
    older, newer = tech.sram_energy_pj(kib, bits, [node, smaller_node], cell, kind=kind)
    assert newer <= older * (1 + 1e-12)


def test_interpolated_nodes_lie_between_and_low_power_cells_follow() -> None:
    at = {node: float(tech.sram_energy_pj(32, 64, node, "hp")) for node in (45, 40, 32)}
    assert at[32] < at[40] < at[45]
    ratio = at[32] / at[45]
    lop = tech.sram_energy_pj(256, 64, [45, 32], "lop")
    assert lop[1] / lop[0] == pytest.approx(ratio)


def test_banks_and_lanes() -> None:
    assert float(tech.sram_energy_pj(28 * 1024, 64, 28, "hp")) == float(tech.sram_energy_pj(4096, 64, 28, "hp"))
    assert float(tech.sram_energy_pj(0.5, 16, 45, "hp")) == float(tech.sram_energy_pj(1, 16, 45, "hp"))
    assert float(tech.sram_energy_pj(64, 512, 45, "hp")) == pytest.approx(
        2 * float(tech.sram_energy_pj(32, 256, 45, "hp"))
    )


def test_sram_keys_name_the_constants() -> None:
    assert tech.sram_key(45, "lop", "read") == "sram.lop.45nm.read*sram.model"
    assert tech.sram_key(28, "hp", "write") == "sram.hp.32nm.write*sram.model"
    assert tech.sram_key(28, "lstp", "leakage") == "sram.lstp.45nm.leakage*sram.temperature"
    assert tech.sram_key(65, tech.SramCell.HP, "area") == "sram.hp.65nm.area"


def test_bad_sram_is_refused() -> None:
    with raises(
        InputError,
        "SRAM node must be between 22 and 65 nm, got 16; "
        "the CACTI sweep ends there and SRAM does not scale as logic does",
    ):
        tech.sram_energy_pj(32, 64, 16, "hp")
    with raises(
        InputError, "SRAM capacity must be above 0 and at most 65536 KiB, got 0; split a larger memory into several"
    ):
        tech.sram_energy_pj([32, 0], 64, 45, "hp")
    with raises(InputError, "SRAM port must be between 1 and 8192 bits, got 0; split the memory"):
        tech.sram_energy_pj(32, 0, 45, "hp")
    with raises(InputError, "unknown SRAM cell 'itrs-lop'; did you mean 'lop'? (choose from 'hp', 'lop', 'lstp')"):
        tech.sram_leakage_mw(32, 45, "itrs-lop")
    with raises(InputError, "unknown SRAM access 'reed'; did you mean 'read'? (choose from 'read', 'write')"):
        tech.sram_energy_pj(32, 64, 45, "hp", kind="reed")


# --- DRAM and links ---


def test_dram_energy() -> None:
    np.testing.assert_allclose(tech.dram_energy_pj([0, 8, 8e6], "lpddr4"), [0, 64, 64e6])
    assert float(tech.dram_energy_pj(64, "ddr4")) == pytest.approx(1300, rel=1e-3)  # Jouppi et al. 2021
    assert float(tech.dram_energy_pj(64, "hbm2", row_activations=2, activation_pj=100)) == pytest.approx(449.6)
    assert float(tech.chip_link_energy_pj(128)) == 26
    assert set(tech.dram_types()) >= {"lpddr", "lpddr4", "ddr3", "ddr4", "gddr5", "hbm2", "hbm3"}
    assert tech.dram_key("hbm2") == "dram.hbm2.bit"
    with raises(InputError, "bits must be finite and not negative, got nan"):
        tech.dram_energy_pj(math.nan, "ddr4")
    with pytest.raises(InputError, match=r"^unknown DRAM type 'lpddr4x'; did you mean 'lpddr4'\? \(choose from "):
        tech.dram_energy_pj(8, "lpddr4x")


# --- sampling ---


@given(wanted=st.lists(names, min_size=2, max_size=5, unique=True), seed=st.integers(0, 2**32))
def test_factors_depend_on_seed_and_name_only(wanted: list[str], seed: int) -> None:
    forward = tech.sample_factors(wanted, 50, seed)
    backward = tech.sample_factors(wanted[::-1], 50, seed)
    np.testing.assert_array_equal(forward, backward[:, ::-1])
    np.testing.assert_array_equal(forward[:, :1], tech.sample_factors(wanted[:1], 50, seed))
    np.testing.assert_array_equal(forward[:20], tech.sample_factors(wanted, 20, seed))
    assert forward.tobytes() == tech.sample_factors(wanted, 50, seed).tobytes()
    assert not np.array_equal(forward[:, 0], forward[:, 1])
    assert not np.array_equal(forward, tech.sample_factors(wanted, 50, seed + 1))
    for column, name in enumerate(wanted):
        constant = tech.constant(name)
        assert (forward[:, column] >= constant.low / constant.value * (1 - 1e-12)).all()
        assert (forward[:, column] <= constant.high / constant.value * (1 + 1e-12)).all()


def test_factors_are_the_same_in_another_process() -> None:
    code = (
        "import sys; from picojoule.sim.technology import sample_factors as s;"
        "sys.stdout.write(s(['dram.ddr4.bit', 'sram.model'], 5, 7).tobytes().hex())"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert there == tech.sample_factors(["dram.ddr4.bit", "sram.model"], 5, 7).tobytes().hex()


@pytest.mark.parametrize("name", ["sram.model", "dram.ddr3.bit", "isaac.crossbar.read"])
def test_factors_are_log_triangular_with_the_mode_at_one(name: str) -> None:
    constant = tech.constant(name)
    left, right = math.log(constant.low / constant.value), math.log(constant.high / constant.value)
    logs = np.log(tech.sample_factors([name], 20_000, 0)[:, 0])
    assert logs.mean() == pytest.approx((left + 0 + right) / 3, abs=0.02)
    assert (logs < 0).mean() == pytest.approx(-left / (right - left), abs=0.02)
    assert logs.var() == pytest.approx((left**2 + right**2 - left * right) / 18, rel=0.05)


def test_a_product_key_multiplies_the_factors() -> None:
    both = tech.sample_factors(["sram.hp.45nm.read*sram.model"], 30, 3)[:, 0]
    apart = tech.sample_factors(["sram.hp.45nm.read", "sram.model"], 30, 3)
    np.testing.assert_allclose(both, apart.prod(axis=1), rtol=1e-12)


@settings(max_examples=50)
@given(cost=costs, seed=st.integers(0, 1000), factor=st.floats(0.1, 10))
def test_ranges_hold_the_nominal_total_and_scale_with_it(cost: dict[str, float], seed: int, factor: float) -> None:
    low, high = tech.total_range(cost, count=200, seed=seed)
    nominal = sum(cost.values())
    assert 0 < low <= nominal <= high
    scaled_low, scaled_high = tech.total_range({k: v * factor for k, v in cost.items()}, count=200, seed=seed)
    assert scaled_low == pytest.approx(low * factor, rel=1e-9)
    assert scaled_high == pytest.approx(high * factor, rel=1e-9)


@settings(max_examples=50)
@given(a=costs, b=costs, seed=st.integers(0, 1000))
def test_probabilities_are_complementary_and_a_tie_is_a_half(
    a: dict[str, float], b: dict[str, float], seed: int
) -> None:
    p = tech.probability_less(a, b, count=200, seed=seed)
    assert p + tech.probability_less(b, a, count=200, seed=seed) == pytest.approx(1)
    assert tech.probability_less(a, a, count=200, seed=seed) == 0.5
    assert tech.probability_less(a, dict(reversed(a.items())), count=200, seed=seed) == 0.5
    dearer = {name: energy * 1.01 for name, energy in a.items()}
    assert tech.probability_less(a, dearer, count=200, seed=seed) == 1


def test_what_designs_share_cancels() -> None:
    # Alone, DRAM at 8 pJ a bit has a range far wider than the 2 % by which the designs differ.
    a = {"dram.lpddr4.bit": 1000.0, "mac.int8.multiply.45nm": 10.0}
    b = {"dram.lpddr4.bit": 1020.0, "mac.int8.multiply.45nm": 10.0}
    assert tech.total_range(a)[1] > tech.total_range(b)[0]
    assert tech.probability_less(a, b) == 1


def test_the_deciding_constant_is_the_one_that_moves_the_difference() -> None:
    a = {"dram.lpddr4.bit": 1000.0, "mac.int8.multiply.45nm": 100.0}
    b = {"dram.lpddr4.bit": 1000.0, "mac.int8.multiply.45nm": 60.0, "register.bit.40nm": 45.0}
    assert tech.deciding_constant(a, b) == tech.deciding_constant(b, a) == "mac.int8.multiply.45nm"
    assert 0.05 < tech.probability_less(a, b) < 0.95
    assert tech.deciding_constant(a, a) is None
    assert tech.deciding_constant({}, {}) is None
    product = {"sram.hp.45nm.read*sram.model": 10.0}
    assert tech.deciding_constant(product, {}) == "sram.model"  # wider than the fit's own error


def test_real_totals_can_be_sampled() -> None:
    macs = 1e6
    cost = tech.multiply_add_energy_pj(8, 8, 32, 28)
    parts = {key: macs * float(energy) for key, energy in cost.energy_by_constant.items()}
    parts[tech.sram_key(28, "lop", "read")] = 1e5 * float(tech.sram_energy_pj(128, 128, 28, "lop"))
    parts[tech.dram_key("lpddr4")] = float(tech.dram_energy_pj(8e5, "lpddr4"))
    low, high = tech.total_range(parts)
    assert 0.5 < low / sum(parts.values()) < 1 < high / sum(parts.values()) < 3


def test_bad_sampling_is_refused() -> None:
    with raises(InputError, "unknown technology constant 'sram.modl'; did you mean 'sram.model'?"):
        tech.sample_factors(["sram.modl"], 10, 0)
    with raises(InputError, "the number of samples must be at least 1, got 0"):
        tech.sample_factors(["sram.model"], 0, 0)
    with raises(InputError, "the energy of 'sram.model' must be finite and not negative, got nan"):
        tech.total_range({"sram.model": math.nan})
    with raises(InputError, "quantiles must be 0 <= low <= high <= 1, got 0.9 and 0.1"):
        tech.total_range({"sram.model": 1.0}, quantiles=(0.9, 0.1))
    assert tech.total_range({}) == (0.0, 0.0)
