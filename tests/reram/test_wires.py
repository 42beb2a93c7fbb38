"""The fast wire model against the exact network, and both against arrays solved by hand."""

import numpy as np
import pytest

from picojoule.reram.wires import bitline_current_per_volt, fast_bitline_current_per_volt, solve_bitlines

ON_SIEMENS = 1e-4


def cells(size, density=1.0):
    rng = np.random.default_rng(0)
    return rng.integers(0, 4, (size, size)) / 3 * (rng.random((size, size)) < density) * ON_SIEMENS


def product_errors(size, ohm, density=1.0):
    """What ignoring wires, and the fast model, get wrong of a product with 0/1 inputs (root mean square)."""
    siemens = cells(size, density)
    x = np.random.default_rng(1).integers(0, 2, (size, 200))
    ideal, exact = siemens @ x, bitline_current_per_volt(siemens, ohm) @ x
    fast = fast_bitline_current_per_volt(siemens, ohm) @ x
    return np.linalg.norm(ideal - exact) / np.linalg.norm(ideal), np.linalg.norm(fast - exact) / np.linalg.norm(exact)


@pytest.mark.parametrize("solve", [bitline_current_per_volt, fast_bitline_current_per_volt])
def test_one_cell_is_three_resistors_in_series(solve):
    assert solve(np.array([[1e-3]]), 50.0)[0, 0] == pytest.approx(1 / (50 + 1000 + 50), rel=1e-12)


# The table at the top of reram/wires.py, and sparse arrays.
@pytest.mark.parametrize(
    ("size", "ohm", "density", "wires_take", "error"),
    [
        (32, 1.0, 1.0, 0.037, 0.0001),
        (32, 5.0, 1.0, 0.160, 0.0020),
        (64, 1.0, 1.0, 0.126, 0.0011),
        (64, 2.0, 1.0, 0.221, 0.0035),
        (64, 5.0, 0.15, 0.125, 0.0017),
        pytest.param(64, 5.0, 1.0, 0.408, 0.014, marks=pytest.mark.full),
        pytest.param(128, 1.0, 1.0, 0.352, 0.0097, marks=pytest.mark.full),
        pytest.param(128, 2.0, 1.0, 0.514, 0.025, marks=pytest.mark.full),
        pytest.param(128, 5.0, 1.0, 0.714, 0.069, marks=pytest.mark.full),
        pytest.param(128, 5.0, 0.15, 0.319, 0.012, marks=pytest.mark.full),
    ],
)
def test_fast_model_errs_as_its_table_says(size, ohm, density, wires_take, error):
    measured_take, measured_error = product_errors(size, ohm, density)
    assert measured_take == pytest.approx(wires_take, rel=0.02)
    assert measured_error == pytest.approx(error, rel=0.05)


def test_fast_model_is_exact_to_first_order():
    # An error of second order falls fourfold when the resistance halves.
    errors = [product_errors(16, ohm)[1] for ohm in (4.0, 2.0, 1.0)]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.05)


def test_arrays_are_cut_at_tile_cols():
    siemens = cells(12)
    for model in ("exact", "fast"):
        apart = [solve_bitlines(part, 3.0, model, 12) for part in (siemens[:6], siemens[6:])]
        assert np.array_equal(solve_bitlines(siemens, 3.0, model, 6), np.concatenate(apart))
    assert not np.allclose(solve_bitlines(siemens, 3.0, "fast", 6), solve_bitlines(siemens, 3.0, "fast", 12))
