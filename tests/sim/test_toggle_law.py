"""Energy of a MAC from flips: anchored at random data, split by a gate-level count."""

import numpy as np
import pytest

from picojoule.sim import technology as tech
from picojoule.sim.errors import InputError
from picojoule.sim.technology.toggle_law import (
    INTERCEPT,
    REGISTER_INTERCEPT,
    REGISTER_SLOPE,
    SLOPE,
    mac_toggle_energy_pj,
    multiplier_slope_pj,
    toggled_price,
    toggled_register_price,
)
from tests.sim.gate_multiplier import fitted_law, gate_outputs


def test_the_gate_level_multiplier_multiplies() -> None:
    a, b = (x.reshape(-1) for x in np.meshgrid(np.arange(-128, 128), np.arange(-128, 128)))
    assert np.array_equal(gate_outputs(a, b)[1], a * b)


def test_constants_are_what_the_gate_level_count_gives() -> None:
    slope, flattest, steepest, rms, worst = fitted_law(1500)
    assert slope == pytest.approx(SLOPE.value, abs=0.02)
    assert flattest == pytest.approx(SLOPE.low, abs=0.03)
    assert steepest == pytest.approx(SLOPE.high, abs=0.03)
    assert (rms, worst) == (pytest.approx(0.08, abs=0.02), pytest.approx(0.23, abs=0.03))


def test_intercept_and_slope_make_up_the_random_energy_at_every_end_of_their_ranges() -> None:
    for slope, intercept in ((SLOPE.value, INTERCEPT.value), (SLOPE.low, INTERCEPT.high), (SLOPE.high, INTERCEPT.low)):
        assert slope + intercept == pytest.approx(1.0)


@pytest.mark.parametrize(("weight_bits", "activation_bits", "node"), [(8, 8, 45.0), (4, 8, 45.0), (16, 8, 28.0)])
def test_random_data_cost_what_the_table_says(weight_bits: int, activation_bits: int, node: float) -> None:
    macs = 1000
    price = mac_toggle_energy_pj(
        macs, macs * weight_bits / 2, macs * activation_bits / 2, weight_bits, activation_bits, 32, node
    )
    table = float(tech.multiply_add_energy_pj(weight_bits, activation_bits, 32, node).energy_pj)
    assert sum(price.values()) == pytest.approx(macs * table)


def test_by_hand_at_45_nm() -> None:
    """0.2 pJ multiplier, 0.1 pJ adder; no weight flips, 2 of 8 activation bits per MAC."""
    price = mac_toggle_energy_pj(10, 0.0, 20.0, 8, 8, 32, 45.0)
    assert sum(price.values()) == pytest.approx(10 * (0.1 + 0.2 * (0.44 + 0.56 * 0.25)))
    assert multiplier_slope_pj(8, 8, 45.0) == (pytest.approx(0.2 * 0.56 / 8), pytest.approx(0.2 * 0.56 / 8))


def test_every_flip_costs_its_slope_and_no_flip_costs_the_intercept() -> None:
    slope_pj = multiplier_slope_pj(8, 4, 45.0)
    base = sum(mac_toggle_energy_pj(100, 50.0, 60.0, 8, 4, 32, 45.0).values())
    assert sum(mac_toggle_energy_pj(100, 51.0, 60.0, 8, 4, 32, 45.0).values()) - base == pytest.approx(slope_pj[0])
    assert sum(mac_toggle_energy_pj(100, 50.0, 61.0, 8, 4, 32, 45.0).values()) - base == pytest.approx(slope_pj[1])
    assert mac_toggle_energy_pj(0, 0.0, 0.0, 8, 8, 32, 45.0) == {}


def test_the_ranges_of_the_law_reach_the_total() -> None:
    price = mac_toggle_energy_pj(1, 0.0, 1.0, 8, 8, 32, 45.0)
    assert any(SLOPE.name in key for key in price) and any(INTERCEPT.name in key for key in price)
    with_law = tech.sample_totals(price, 500)
    merged: dict[str, float] = {}
    for key, value in price.items():
        plain = tech.product_key(*(part for part in key.split("*") if "toggle" not in part))
        merged[plain] = merged.get(plain, 0.0) + value
    assert np.std(np.log(with_law)) > np.std(np.log(tech.sample_totals(merged, 500)))


def test_a_register_costs_its_clock_and_its_flips() -> None:
    bit_pj, key = tech.constant("register.bit.40nm").value, "register.bit.40nm"
    assert sum(toggled_register_price(key, bit_pj, 0.5).values()) == pytest.approx(bit_pj)
    assert sum(toggled_register_price(key, bit_pj, 0.0).values()) == pytest.approx(0.00794, rel=0.005)
    assert REGISTER_SLOPE.value == pytest.approx(1.06 / 9.0, abs=0.005)
    ends = ((REGISTER_SLOPE.low, REGISTER_INTERCEPT.high), (REGISTER_SLOPE.high, REGISTER_INTERCEPT.low))
    assert all(slope + intercept == pytest.approx(1.0) for slope, intercept in ends)
    with pytest.raises(InputError, match="register flips per bit must lie between 0 and 1, got 2"):
        toggled_register_price(key, bit_pj, 2.0)


@pytest.mark.parametrize("rates", [(-0.1, 0.5), (0.5, 1.1), (float("nan"), 0.5)])
def test_rates_are_shares(rates: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="flips per bit must lie between 0 and 1"):
        toggled_price({"mac.int8.multiply.45nm": 0.2}, *rates)
