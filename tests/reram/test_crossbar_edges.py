"""What a review found at the edges: narrow integer types, ties, zeros, empty columns, shared converters and solved wires."""

import itertools
import pickle
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest

from picojoule.reram import analog_cells
from picojoule.reram.analog_converters import converter_errors
from picojoule.reram.arithmetic import crossbar_matmul, program
from picojoule.reram.converter import Adc
from picojoule.reram.crossbar import CrossbarSpec
from picojoule.reram.devices import DeviceSpec
from picojoule.reram.hardware_arithmetic import arithmetic_in
from picojoule.reram.needs import adc_needs
from picojoule.reram.product import ReramProduct, programmer
from picojoule.reram.ranges import calibrated_range
from picojoule.reram.spec import ReramSpec
from picojoule.sim.errors import InputError

from .networks import EIGHT, isaac, random_net

SIGNED = {"encoding": "differential", "signed_inputs": True, "adc_bits": 8}
PATHS = {
    "bits": {"adc_hi": 3.3},
    "wires": {"wire_ohm_per_cell": 1e-6},
    "leak": {"encoding": "offset", "r_off_ohm": 1e12},
    "noisy cells": {"device": DeviceSpec(programming_sigma=1e-9)},
    "exact cells": {"device": DeviceSpec()},
    "noisy reads without an ADC": {"adc_bits": None, "device": DeviceSpec(read_noise_sigma=0.1)},
}


@pytest.mark.parametrize("bits", [9, 12, 16])
@pytest.mark.parametrize("path", PATHS)
def test_the_type_of_inputs_is_of_no_matter(path, bits):
    spec = CrossbarSpec(**{**SIGNED, "input_bits": bits, **PATHS[path]})
    weights, inputs = np.array([[3, -5], [0, 127]]), np.array([[-128, 5], [7, -128]])
    program_ = program(weights, spec)
    expected = program_.matmul(inputs)
    assert np.array_equal(program_.matmul(inputs.astype(np.int8)), expected)
    if path not in ("bits", "noisy reads without an ADC"):
        np.testing.assert_allclose(expected, weights @ inputs, rtol=1e-4)


def test_narrow_inputs_of_a_wide_product():
    spec = ReramSpec(signed_inputs="bipolar", adc_bits=12, device={"programming_sigma": 1e-9})
    made = ReramProduct(np.array([[3, -5]]), spec, 8, 16, True)
    assert made.matmul(np.array([[-128], [7]], dtype=np.int8), signed=True) == pytest.approx(-419)


@pytest.mark.parametrize("ratio", [Fraction(4), Fraction(100), Fraction(10, 3)])
def test_ties_of_a_leaking_pair_are_even(ratio):
    # Of 2^b - 1 codes from -hi to hi, a sum S is worth v = (S (1 - r) / (q p) / hi + 1) (2^b - 2) / 2, exactly.
    ties = 0
    for q, bits, hi in itertools.product((1, 3, 15), (2, 4, 7), (1, 3, 5, 9, 15, 27, 33, 63)):
        spec = CrossbarSpec(encoding="differential", weight_bits=2, slices=1, cell_max=q, input_bits=1, adc_bits=bits,
                            adc_hi=float(hi), r_on_ohm=3e4, r_off_ohm=float(3e4 * ratio))  # fmt: skip
        sums = np.arange(-300, 301)
        codes = sums.astype(np.float64)
        spec.converters[0].convert(codes)
        values = [(Fraction(int(s)) * (1 - 1 / ratio) / q / hi + 1) * (2**bits - 2) / 2 for s in sums]
        ties += sum(v.denominator == 2 for v in values)
        assert codes.tolist() == [min(max(round(v), 0), 2**bits - 2) for v in values]
    assert ties > 10


@pytest.mark.parametrize("device", [None, DeviceSpec(), DeviceSpec(programming_sigma=0.1)])
@pytest.mark.parametrize(
    "path", [{}, {"wire_ohm_per_cell": 1.0}, {"slices": 1, "cell_max": 255, "input_bits_per_step": 0}]
)
def test_nothing_times_anything_is_nothing(device, path):
    spec = CrossbarSpec(encoding="differential", adc_bits=5, adc_hi=9.3, tile_rows=40, device=device, **path)
    weights = np.random.default_rng(0).integers(-127, 128, (6, 70))
    assert not crossbar_matmul(weights, np.zeros((70, 2), dtype=int), spec).any()


def test_codes_count_from_that_of_0():
    for adc, code in ((Adc(lo=-9.3, hi=9.3, codes=31), 15), (Adc(lo=0.0, hi=9.3, codes=32), 0)):
        sums = np.zeros(1)
        adc.convert(sums)
        assert sums == code == adc.zero_code


@pytest.mark.parametrize("encoding", ["split", "flip", "offset"])
@pytest.mark.parametrize("negative", [False, True])
def test_calibrated_converters_are_those_of_the_pulses(encoding, negative):
    # 7 bits hold every sum of 30 rows at a code per cell unit, whatever the signs of the samples: nothing may be lost.
    rng = np.random.default_rng(0)
    network = random_net()
    layer = network.layers[-1]
    x = rng.integers(0, 128, (64, 50))
    samples = {layer.name: [np.where(np.arange(50) == 0, -x, x) if negative else x]}
    keys = {**EIGHT, "signed_inputs": "bipolar", "encoding": encoding, "adc_bits": 8, "cell_bits": 1}
    place = arithmetic_in(network, isaac(**keys, adc_range="calibrated").spec, samples=samples)(layer).place
    weights = rng.integers(-40, 41, (8, 64))
    made = pickle.loads(pickle.dumps(place(weights, 0)))
    assert np.array_equal(made.matmul(x, signed=True), weights @ x)


@pytest.mark.parametrize("device", [None, DeviceSpec(), DeviceSpec(programming_sigma=0.01)])
def test_cells_without_a_converter_are_refused(device):
    spec = CrossbarSpec(adc_bits=(0, 8, 8, 8), device=device)
    with pytest.raises(InputError) as error:
        program(np.full((2, 3), 101), spec)
    assert str(error.value) == (
        "slice 0 of row tile 0 has adc_bits 0 but cells that are not 0; give it a converter of at least 1 bit"
    )


def test_converters_are_shared_within_an_array_as_the_design_has_it():
    device = DeviceSpec(adc_gain_sigma=0.1, columns_per_adc=3).resolved()
    gains = converter_errors(device, 0, 0, 0, 10, 5).gain  # two arrays of 5 outputs: 3 + 2, 3 + 2
    assert [len(set(gains[:n])) for n in (3, 5, 8, 10)] == [1, 2, 3, 4]

    weights, x = np.full((128, 1), 127), np.full((1, 1), 255)

    def different(**keys):
        made = programmer(ReramSpec(encoding="split", adc_bits=8, **keys), 8, 8, False)(weights)
        return len(np.unique(made.matmul(x)))

    offset = {"adc_offset_sigma_lsb": 20.0}
    assert different(device=offset) == 1  # ISAAC: an ADC for the 128 columns of a crossbar
    assert different(device=offset, adcs_per_ima=32) == 4
    assert different(device={**offset, "columns_per_adc": 64}, adcs_per_ima=32) == 2
    assert different(device=offset, adcs_per_ima=2) == 1


@pytest.mark.parametrize("leak", [{}, {"r_off_ohm": 1e5}])
@pytest.mark.parametrize("encoding", ["offset", "flip", "split"])
@pytest.mark.parametrize("device", [None, DeviceSpec(), DeviceSpec(adc_offset_sigma_lsb=5.0, stuck_on=0.1)])
def test_columns_known_to_be_empty_are_not_read(encoding, leak, device):
    spec = CrossbarSpec(encoding=encoding, tile_rows=20, rows_active=10, adc_bits=8, device=device, **leak)
    weights = np.full((3, 40), 0 if encoding == "split" else -128)
    weights[2, :10] += 3  # slice 0, the first group of rows
    inputs = np.random.default_rng(0).integers(0, 256, (40, 5))
    assert adc_needs(weights, spec).converted_columns.tolist() == [[1, 0, 0, 0], [0, 0, 0, 0]]
    y = crossbar_matmul(weights, inputs, spec)
    np.testing.assert_allclose(y[:2], weights[:2] @ inputs, rtol=1e-12)
    needed = spec.replace(adc_bits=adc_needs(weights, spec).nested_bits)
    if device is None or not device.has_errors:
        tolerance = (
            0.5 * 255 / 0.9 * 1.001 if leak else 1e-9
        )  # half a cell unit a conversion, times what steps are worth
        assert np.abs(crossbar_matmul(weights, inputs, needed) - weights @ inputs).max() <= tolerance


def test_wires_are_solved_once_for_all_streams_of_a_product(monkeypatch):
    solved = []
    original = analog_cells.solve_bitlines
    monkeypatch.setattr(analog_cells, "solve_bitlines", lambda *a: solved.append(1) or original(*a))
    rng = np.random.default_rng(0)
    weights, x = rng.integers(-127, 128, (4, 40)), rng.integers(-127, 128, (40, 3))
    spec = ReramSpec(device={"wire_ohm_per_cell": 1.0, "programming_sigma": 0.01}, crossbar_rows=32)
    made = ReramProduct(weights, spec, 8, 8, True)
    first = made.matmul(np.abs(x), signed=True)
    count = len(solved)
    signed = made.matmul(x, signed=True)
    assert len(solved) == count == 2 * 4  # row tiles x slices
    fresh = ReramProduct(weights, spec, 8, 8, True)
    assert np.array_equal(fresh.matmul(x, signed=True), signed)
    assert np.array_equal(fresh.matmul(np.abs(x), signed=True), first)


def test_programming_takes_little_memory():
    weights = np.random.default_rng(0).integers(-128, 128, (512, 2048)).astype(np.int8)
    tracemalloc.start()
    program(weights, CrossbarSpec(adc_bits=9))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak / weights.size < 18  # bytes a weight: float64, a float32 copy, and a tile's cells


def test_ranges_of_wide_sums_are_right_and_small():
    spec = CrossbarSpec(encoding="split", slices=1, cell_max=127, input_bits_per_step=0, tile_rows=2048)
    rng = np.random.default_rng(0)
    weights, x = rng.integers(100, 128, (4, 2048)), rng.integers(200, 256, (2048, 5))
    _, hi = calibrated_range(weights, x, spec, 100)
    assert hi[0][0] * spec.cell_units == (weights @ x).max() > 1 << 24  # float32 has no such odd number

    wide = CrossbarSpec(weight_bits=12, slices=1, cell_max=4095, input_bits=12, input_bits_per_step=0, r_off_ohm=1e5)
    weights, x = rng.integers(-2048, 2048, (16, 128)), rng.integers(0, 4096, (128, 64))
    for spec in (wide, wide.replace(r_off_ohm=None)):
        tracemalloc.start()
        _, hi = calibrated_range(weights, x, spec, 95)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        sums = (1 - spec.off_on_ratio) * ((weights + 2048) @ x) + spec.off_on_ratio * 4095 * x.sum(axis=0)
        exact = np.sort(sums.ravel())[int(np.ceil(sums.size * 0.95)) - 1]
        assert exact <= hi[0][0] * spec.cell_units * (1 + 1e-12) <= exact * (1 + 2e-5)
        assert peak < 32 << 20


def test_lossless_bits_count_what_weights_fill():
    pair = CrossbarSpec(encoding="differential", weight_bits=2, slices=1, cell_max=3, tile_rows=4)
    assert pair.lossless_adc_bits == 4 == adc_needs(np.ones((1, 4), dtype=int), pair).bits.max()  # up to 4, and a sign
    flip = CrossbarSpec(encoding="flip", weight_bits=2, slices=1, cell_max=15, tile_rows=4)
    assert flip.lossless_adc_bits == 4 == adc_needs(np.ones((1, 4), dtype=int), flip).bits.max()  # up to 4 x 3
    top = CrossbarSpec(weight_bits=16, slices=1, cell_max=65535, input_bits=16, input_bits_per_step=0)
    with pytest.raises(InputError) as error:
        top.with_lossless_adc()
    assert str(error.value) == (
        "no ADC here is lossless: 128 rows x cells up to 65535 x pulses up to 65535 need 39 bits and at most 24 are "
        "computed; use narrower cells or pulses, or fewer rows"
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"adc_hi": -5.0}, "adc_hi must be more than 0 and finite, got -5"),
        ({"adc_hi": (1.0, 2.0)}, "adc_hi must have one value per slice (4), got 2"),
        ({"adc_lo": 3.0}, "adc_lo must be 0, or -adc_hi for a signed ADC, got 3"),
        ({"device": {1: 2}}, "the keys of a device must be names, got {1: 2}"),
    ],
)
def test_what_is_wrong_without_an_adc(fields, message):
    with pytest.raises(InputError) as error:
        CrossbarSpec(adc_bits=None, **fields)
    assert str(error.value) == message
    assert CrossbarSpec(adc_bits=None, adc_lo=-1.0, adc_hi=1.0).converters is None
