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
    toggled_price,
    toggled_register_price,
)
from tests.sim.gate_multiplier import activity, fitted_law, gate_outputs


def mac_price(
    macs: int, weight_flips: float, activation_flips: float, weight_bits: int, activation_bits: int, node: float
) -> dict[str, float]:
    """Return the energy of MACs with 32-bit sums from the flips at their multipliers, counted in bits."""
    price = tech.multiply_add_energy_pj(weight_bits, activation_bits, 32, node).energy_by_constant
    rates = weight_flips / (macs * weight_bits), activation_flips / (macs * activation_bits)
    return {key: value * macs for key, value in toggled_price(price, *rates).items()}


def test_the_gate_level_multiplier_multiplies() -> None:
    a, b = (x.reshape(-1) for x in np.meshgrid(np.arange(-128, 128), np.arange(-128, 128)))
    assert np.array_equal(gate_outputs(a, b)[1], a * b)


def test_constants_are_what_the_gate_level_count_gives() -> None:
    slope, flattest, steepest, rms, worst = fitted_law(1500)
    assert slope == pytest.approx(SLOPE.value, abs=0.02)
    assert flattest == pytest.approx(SLOPE.low, abs=0.03)
    assert steepest == pytest.approx(0.82, abs=0.03)
    assert (rms, worst) == (pytest.approx(0.08, abs=0.02), pytest.approx(0.23, abs=0.03))


@pytest.mark.parametrize(
    ("rates", "count"),
    [((0, 0.5), 0.833), ((0, 0.3), 0.611), ((0, 0.2), 0.461), ((0, 0.1), 0.269), ((0, 0.05), 0.145), ((0.1, 0.1), 0.447),
     ((0.25, 0.25), 0.767), ((0.5, 0.25), 0.922)],
)  # fmt: skip
def test_the_errors_that_the_law_states_are_those_of_the_count(rates: tuple[float, float], count: float) -> None:
    rng = np.random.default_rng(1)
    found = activity(*rates, 1500, rng) / activity(0.5, 0.5, 1500, rng)
    assert found == pytest.approx(count, abs=0.015)
    chord = (1 - found) / (1 - sum(rates))
    assert SLOPE.low - 0.02 < chord < SLOPE.high + 0.02
    law = sum(toggled_price({"multiply": 1.0}, *rates).values())
    said = {
        (0, 0.5): -14,
        (0, 0.2): 20,
        (0, 0.1): 84,
        (0, 0.05): 223,
        (0.1, 0.1): 24,
        (0.25, 0.25): -6,
        (0.5, 0.25): -7,
    }
    assert 100 * (law / count - 1) == pytest.approx(said.get(rates, 0), abs=1.0)


def test_intercept_and_slope_make_up_the_random_energy_at_every_end_of_their_ranges() -> None:
    for slope, intercept in ((SLOPE.value, INTERCEPT.value), (SLOPE.low, INTERCEPT.high), (SLOPE.high, INTERCEPT.low)):
        assert slope + intercept == pytest.approx(1.0)


@pytest.mark.parametrize(("weight_bits", "activation_bits", "node"), [(8, 8, 45.0), (4, 8, 45.0), (16, 8, 28.0)])
def test_random_data_cost_what_the_table_says(weight_bits: int, activation_bits: int, node: float) -> None:
    macs = 1000
    price = mac_price(macs, macs * weight_bits / 2, macs * activation_bits / 2, weight_bits, activation_bits, node)
    table = float(tech.multiply_add_energy_pj(weight_bits, activation_bits, 32, node).energy_pj)
    assert sum(price.values()) == pytest.approx(macs * table)


def test_by_hand_at_45_nm() -> None:
    """0.2 pJ multiplier, 0.1 pJ adder; no weight flips, 2 of 8 activation bits per MAC."""
    price = mac_price(10, 0.0, 20.0, 8, 8, 45.0)
    assert sum(price.values()) == pytest.approx(10 * (0.1 + 0.2 * (0.44 + 0.56 * 0.25)))
    one_more = sum(mac_price(10, 1.0, 20.0, 8, 8, 45.0).values())
    assert one_more - sum(price.values()) == pytest.approx(0.2 * 0.56 / 8)


def test_the_ranges_of_the_law_reach_the_total() -> None:
    price = mac_price(1, 0.0, 1.0, 8, 8, 45.0)
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
