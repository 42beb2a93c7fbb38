"""Ranges of converters: hand-counted percentiles, a slow twin, and what calibration is worth on data it has not seen."""

import numpy as np
import pytest

from picojoule.reram.arithmetic import crossbar_matmul, program
from picojoule.reram.crossbar import CrossbarSpec
from picojoule.reram.devices import DeviceSpec
from picojoule.reram.ranges import calibrated_range
from picojoule.reram.spec import ReramSpec, crossbar_spec
from picojoule.sim.errors import InputError

ENCODINGS = ("offset", "flip", "split", "differential")


def test_exact_and_full_ranges():
    offset = {"encoding": "offset", "weight_bits": 8}
    assert spanned(**offset, adc_bits=8) == (0, 255)  # cell units: a third of a full cell
    full = {"weight_bits": 8, "adc_bits": 8, "adc_range": "full"}
    assert spanned(**full, encoding="offset") == (0, 3 * 128)
    assert spanned(**full, encoding="flip") == (0, 3 * 64)
    assert spanned(**full, encoding="flip", rows_active=32) == (0, 3 * 32)
    assert spanned(**full, encoding="differential") == (-3 * 128, 3 * 128)
    assert spanned(True, **full, encoding="split", signed_inputs="bipolar", crossbar_rows=64) == (-3 * 64, 3 * 64)


def spanned(signed=False, **keys):
    """Return the ends of the first converter of a design, in cell units."""
    adc = crossbar_spec(ReramSpec(**keys), 8, 8, signed).converters[0]
    return adc.lo, adc.hi


def test_percentiles_by_hand():
    # One 1-bit cell a row, split, 1-bit inputs: the positive column sums 1..10 (and 0 ten times: the negative one).
    spec = CrossbarSpec(encoding="split", weight_bits=2, slices=1, cell_max=1, input_bits=1, adc_bits=1)
    inputs = (np.arange(10)[:, None] <= np.arange(10)[None, :]).astype(int)
    weights = np.ones((1, 10), dtype=int)
    for percentile, top in ((100, 10), (95, 9), (90, 8), (75, 5), (50, 1)):  # never below a step of one cell unit
        assert calibrated_range(weights, inputs, spec, percentile) == (((0.0,),), ((top,),)), percentile
    two_bits = spec.replace(adc_bits=2)
    assert calibrated_range(weights, inputs, two_bits, 50)[1] == ((3,),)
    signed = spec.replace(encoding="differential", adc_bits=2)
    assert calibrated_range(weights, inputs, signed, 90) == (((-9,),), ((9,),))
    assert calibrated_range(-weights, inputs, signed, 90) == (((-9,),), ((9,),))  # symmetric about 0


def tops_by_loops(weights, inputs, spec):
    """Return the largest column sum by tile and slice, differential cells, unsigned or bipolar inputs."""
    tops = []
    for tile in np.array_split(np.arange(weights.shape[1]), -(-weights.shape[1] // spec.tile_rows)):
        row = []
        for k in range(spec.slices):
            cells = np.sign(weights) * (np.abs(weights) // (spec.cell_max + 1) ** k % (spec.cell_max + 1))
            sums = [0]
            for step in range(spec.steps):
                pulses = np.sign(inputs) * (np.abs(inputs) >> (step * spec.bits_per_pulse) & spec.pulse_max)
                for rows in np.array_split(tile, -(-len(tile) // (spec.rows_active or len(tile)))):
                    sums.append(int(np.abs(cells[:, rows] @ pulses[rows]).max()))
            row.append(max(sums))
        tops.append(row)
    return np.array(tops)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("rows_active", [None, 9])
def test_equals_the_slow_twin_by_tile_and_slice(signed, rows_active):
    rng = np.random.default_rng(5)
    spec = CrossbarSpec(
        encoding="differential",
        signed_inputs=signed,
        rows_active=rows_active,
        tile_rows=32,
        adc_bits=2,
        input_bits_per_step=2,
    )
    weights = np.rint(rng.laplace(0, 12, (6, 80))).clip(-127, 127).astype(int)
    inputs = rng.integers(*spec.input_range, (80, 30))
    _, hi = calibrated_range(weights, inputs, spec, 100)
    tops = np.maximum(tops_by_loops(weights, inputs, spec), 1)  # two bits with a sign: codes -1, 0, 1
    np.testing.assert_allclose(np.array(hi) * spec.cell_units, tops)
    assert np.array(hi).shape == (3, 4)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_calibrated_beats_full_where_bits_are_few(encoding, record_property):
    rng = np.random.default_rng(0)
    weights = np.rint(rng.laplace(0, 12, (24, 200))).clip(-127, 127).astype(int)

    def activations(columns):  # half of them 0, as after a ReLU
        return np.rint(np.maximum(rng.normal(0, 40, (200, columns)), 0)).clip(0, 255).astype(int)

    calibration, unseen = activations(96), activations(128)
    exact_product = weights @ unseen

    def error(spec):
        return float(
            np.sqrt(np.mean((crossbar_matmul(weights, unseen, spec) - exact_product) ** 2)) / exact_product.std()
        )

    for bits in (3, 4, 5):
        spec = CrossbarSpec(encoding=encoding, adc_bits=bits)
        top = 64 if encoding == "flip" else 128  # of a whole column
        spans = {"exact": spec.unit_adc_range(bits), "full": (-top if spec.needs_signed_adc else 0, top)}
        spans["calibrated"] = calibrated_range(weights, calibration, spec, 99.0)
        errors = {name: error(spec.replace(adc_lo=lo, adc_hi=hi)) for name, (lo, hi) in spans.items()}
        record_property(f"{encoding}_{bits}bit", errors)
        assert errors["calibrated"] < 0.6 * errors["full"], (bits, errors)
        if bits <= 4:
            assert errors["calibrated"] < errors["exact"], (bits, errors)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_enough_bits_stay_exact_after_calibration(encoding):
    rng = np.random.default_rng(1)
    spec = CrossbarSpec(encoding=encoding, adc_bits=10, tile_rows=50)
    weights, inputs = rng.integers(-127, 128, (4, 120)), rng.integers(0, 256, (120, 20))
    lo, hi = calibrated_range(weights, inputs[:, :2], spec, 90)
    calibrated = spec.replace(adc_lo=lo, adc_hi=hi)
    assert program(weights, calibrated).lossless_share == 1.0
    np.testing.assert_array_equal(crossbar_matmul(weights, inputs, calibrated), weights @ inputs)


def test_negative_inputs_of_an_unsigned_stream_take_a_sign_step():
    # Two's complement of -1 in 4 bits: low bits 111, sign 1: every stream drives the cell in each step.
    spec = CrossbarSpec(encoding="split", weight_bits=2, slices=1, cell_max=1, input_bits=4, adc_bits=1)
    weights = np.ones((1, 6), dtype=int)
    rows = np.array([[-1], [-1], [-1], [-1], [-8], [0]])  # -8: low bits 000, sign 1
    assert calibrated_range(weights, rows, spec, 100)[1] == ((5,),)  # the sign step: five rows
    assert calibrated_range(weights[:, :4], rows[:4], spec, 100)[1] == ((4,),)  # of two's complement
    with pytest.raises(InputError, match="calibration inputs with a sign must be whole numbers between -8 and 7"):
        calibrated_range(weights, np.array([[-1], [8], [0], [0], [0], [0]]), spec, 100)


def test_the_leak_of_empty_cells_is_within_the_range():
    spec = CrossbarSpec(encoding="offset", weight_bits=2, slices=1, cell_max=3, input_bits=1, adc_bits=2)
    weights = np.array([[-1] + [-2] * 9])  # a level of 1, and empty cells
    inputs = np.ones((10, 1), dtype=int)
    assert calibrated_range(weights, inputs, spec, 100)[1] == ((1.0,),)  # a third: one code per cell unit, 3 of them
    leaky = spec.replace(r_off_ohm=2e4)
    assert calibrated_range(weights, inputs, leaky, 100)[1][0][0] == pytest.approx(
        31 / 6, abs=0.01
    )  # ten halves, and half of a third
    empty = np.full((1, 10), -2)  # known to be empty: not read
    assert calibrated_range(empty, inputs, leaky, 100)[1] == ((1.0,),)
    by_device = spec.replace(device=DeviceSpec(on_off_ratio=2))
    assert calibrated_range(weights, inputs, by_device, 100) == calibrated_range(weights, inputs, leaky, 100)
    clipped = spec.replace(r_off_ohm=2e4, adc_hi=2.5)
    low, high = (crossbar_matmul(weights, inputs, s)[0, 0] for s in (clipped, leaky.replace(adc_hi=31 / 6)))
    assert high == pytest.approx(-19)
    assert low != pytest.approx(-19)


def test_only_so_many_columns_are_used():
    rng = np.random.default_rng(2)
    spec = CrossbarSpec(encoding="offset", adc_bits=3)
    weights, inputs = rng.integers(-127, 128, (3, 40)), rng.integers(0, 256, (40, 300))
    few = calibrated_range(weights, inputs, spec, most_columns=3)
    assert few == calibrated_range(weights, inputs[:, [0, 149, 299]], spec)


def test_refusals():
    spec = CrossbarSpec()
    weights, inputs = np.ones((2, 3), dtype=int), np.ones((3, 4), dtype=int)
    for bad in (np.ones((4, 4)), np.ones(3), np.ones((3, 0)), [[1], [1, 2], [3]]):
        with pytest.raises(InputError, match=r"calibration inputs must be a matrix \[in, n\]"):
            calibrated_range(weights, bad, spec)
    for bad, why in (
        (inputs * 256, r"be between -128 and 255 \(8 bits\), got 256"),
        (inputs * 0.5, "be whole numbers, got 0.5"),
    ):
        with pytest.raises(InputError, match=f"^calibration inputs must {why} at "):
            calibrated_range(weights, bad, spec)
    for bad in (weights * 0.5, weights * 200, weights * float("nan"), weights * 1j, [[1], [1, 2]], np.ones((0, 3))):
        with pytest.raises(InputError, match=r"^weights must"):
            calibrated_range(bad, inputs, spec)
    with pytest.raises(InputError, match=r"^most_columns must be at least 1, got 0$"):
        calibrated_range(weights, inputs, spec, most_columns=0)
    with pytest.raises(InputError, match=r"^the converters are given for 2 row tiles, but 3 inputs"):
        calibrated_range(weights, inputs, spec.replace(adc_bits=[[8] * 4] * 2))
    with pytest.raises(InputError, match=r"^percentile must be more than 0 and at most 100, got 0$"):
        calibrated_range(weights, inputs, spec, 0)
    with pytest.raises(InputError, match=r"^a range needs an ADC, but adc_bits is None; set adc_bits$"):
        calibrated_range(weights, inputs, spec.replace(adc_bits=None))
