"""Slices without cells need no converter, whatever leaks or drops in the arrays that are not read."""

import numpy as np
import pytest

from picojoule.reram import CrossbarSpec, crossbar_matmul
from picojoule.sim.errors import InputError

RNG = np.random.default_rng(7)
SMALL = RNG.integers(-3, 4, (5, 40))  # one slice of magnitudes; the other three are empty
INPUTS = RNG.integers(0, 256, (40, 9))


@pytest.mark.parametrize("encoding", ["split", "differential"])
@pytest.mark.parametrize("analog", [{"r_off_ohm": 1e5}, {"wire_ohm_per_cell": 0.5}])
def test_an_empty_slice_may_go_without_a_converter(encoding: str, analog: dict[str, float]) -> None:
    """Eight bits for slices that hold nothing convert what wires and leaks leave of nothing: about 0, up to rounding."""
    spec = CrossbarSpec(encoding=encoding, tile_rows=64, tile_cols=16, **analog)
    narrow = spec.replace(adc_bits=(8, 0, 0, 0))
    found = crossbar_matmul(SMALL, INPUTS, narrow)
    np.testing.assert_allclose(found, crossbar_matmul(SMALL, INPUTS, spec.replace(adc_bits=(8, 8, 8, 8))), atol=1e-9)
    with pytest.raises(InputError, match="adc_bits 0 but cells that are not 0"):
        crossbar_matmul(20 * SMALL, INPUTS, narrow)


def test_the_fast_wire_model_is_used_without_a_device_too() -> None:
    """Both models see the wires; they differ a little."""
    weights = RNG.integers(-127, 128, (8, 48))
    spec = CrossbarSpec(encoding="differential", adc_bits=None, tile_rows=48, tile_cols=8, wire_ohm_per_cell=3.0)
    inputs = INPUTS[RNG.integers(0, 40, 48)]
    ideal = weights @ inputs
    exact = crossbar_matmul(weights, inputs, spec)
    fast = crossbar_matmul(weights, inputs, spec.replace(wire_model="fast"))
    loss, error = np.abs(exact - ideal).max(), np.abs(fast - exact).max()
    assert 0 < error < 0.1 * loss
