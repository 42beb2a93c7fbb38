"""ADC bits from actual weights: a slow twin, exactness with the needed bits and not with one fewer, percentiles, counts."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from picojoule.reram.arithmetic import crossbar_matmul, program
from picojoule.reram.crossbar import CrossbarSpec
from picojoule.reram.devices import DeviceSpec
from picojoule.reram.needs import AdcNeeds, adc_needs, slice_nonzeros, widest
from picojoule.sim.errors import InputError

ENCODINGS = ("offset", "flip", "split", "differential")
CELLS = [(1, 255), (1, 300), (2, 15), (4, 3), (8, 1)]  # slices, cell_max
QUIET = settings(deadline=None, max_examples=60)


def even_parts(count, most):
    parts = -(-count // most)
    return [list(part) for part in np.array_split(np.arange(count), parts)]


def planes_by_loops(w_row, spec, k):
    """Return the cells of one output in slice k, one list per plane with its own ADC; differential cells are signed."""

    def digit(value):
        return value // (spec.cell_max + 1) ** k % (spec.cell_max + 1)

    if spec.encoding in ("offset", "flip"):
        return [[digit(w + 2 ** (spec.weight_bits - 1)) for w in w_row]]
    if spec.encoding == "split":
        return [[digit(max(w, 0)) for w in w_row], [digit(max(-w, 0)) for w in w_row]]
    return [[digit(abs(w)) * (1 if w >= 0 else -1) for w in w_row]]


def needs_by_loops(weights, spec):
    """Return bounds, columns and empty columns [T][K], and the non-empty cells [K]."""
    tiles = even_parts(weights.shape[1], spec.tile_rows)
    bounds, columns, empty = (np.zeros((len(tiles), spec.slices), dtype=int) for _ in range(3))
    filled = np.zeros(spec.slices, dtype=int)
    for t, tile in enumerate(tiles):
        groups = even_parts(len(tile), spec.rows_active or len(tile))
        for k in range(spec.slices):
            for row in weights[:, tile].tolist():
                for plane in planes_by_loops(row, spec, k):
                    sums = [sum(plane[r] for r in rows) for rows in groups]
                    other = [sum(spec.cell_max - plane[r] for r in rows) for rows in groups]
                    cells = plane
                    if spec.encoding == "flip" and max(sums) > max(other):
                        cells = [spec.cell_max - c for c in plane]
                    filled[k] += np.count_nonzero(cells)
                    for rows in groups:
                        up = sum(cells[r] for r in rows if cells[r] > 0)
                        down = -sum(cells[r] for r in rows if cells[r] < 0)
                        bound = spec.pulse_max * (up + down if spec.signed_inputs else max(up, down))
                        bounds[t, k] = max(bounds[t, k], bound)
                        columns[t, k] += 1
                        empty[t, k] += bound == 0
    return bounds, columns, empty, filled


@QUIET
@given(
    encoding=st.sampled_from(ENCODINGS),
    cells=st.sampled_from(CELLS),
    signed=st.booleans(),
    rows_active=st.sampled_from([None, 3, 20]),
    pulse_bits=st.integers(0, 3),
    scale=st.sampled_from([0.5, 8, 60]),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 40)),
    seed=st.integers(0, 10_000),
)
def test_equals_the_slow_twin(encoding, cells, signed, rows_active, pulse_bits, scale, shape, seed):
    spec = CrossbarSpec(
        encoding=encoding,
        slices=cells[0],
        cell_max=cells[1],
        signed_inputs=signed,
        rows_active=rows_active,
        input_bits_per_step=pulse_bits,
        tile_rows=17,
    )
    weights = np.rint(np.random.default_rng(seed).laplace(0, scale, shape)).clip(-127, 127).astype(int)
    needs = adc_needs(weights, spec)
    bounds, columns, empty, filled = needs_by_loops(weights, spec)
    np.testing.assert_array_equal(needs.bounds, bounds)
    np.testing.assert_array_equal(needs.columns, columns)
    np.testing.assert_array_equal(needs.zero_columns, empty)
    np.testing.assert_array_equal(needs.converted_columns, columns - empty)
    assert not needs.clipped_columns.any()
    planes = 1 if encoding in ("offset", "flip") else 2
    np.testing.assert_allclose(needs.nonzero_share, filled / (weights.size * planes))
    expected = [[int(b).bit_length() for b in row] for row in bounds]
    np.testing.assert_array_equal(needs.magnitude_bits, expected)
    np.testing.assert_array_equal(needs.bits - needs.magnitude_bits, (bounds > 0) * int(spec.needs_signed_adc))


def worst_inputs(weights, spec, needs, t, k):
    """Return inputs of full pulses that drive the widest column of (t, k) to its bound."""
    tile = even_parts(weights.shape[1], spec.tile_rows)[t]
    candidates = []
    for row in weights[:, tile].tolist():
        for plane in planes_by_loops(row, spec, k):
            for sign in (1, -1):
                drive = np.array([np.sign(c) if spec.signed_inputs else int(c * sign > 0) for c in plane])
                candidates += [drive, np.ones(len(tile), dtype=int)]
    x = np.zeros((weights.shape[1], len(candidates)), dtype=int)
    x[tile] = np.transpose(candidates) * spec.pulse_max
    return x


@QUIET
@given(
    encoding=st.sampled_from(ENCODINGS),
    cells=st.sampled_from([(4, 3), (8, 1), (2, 15), (1, 255)]),
    signed=st.booleans(),
    rows_active=st.sampled_from([None, 7]),
    pulse_bits=st.integers(1, 3),
    scale=st.sampled_from([1, 10, 80]),
    seed=st.integers(0, 10_000),
)
def test_the_needed_bits_lose_nothing_and_one_fewer_does(encoding, cells, signed, rows_active, pulse_bits, scale, seed):
    rng = np.random.default_rng(seed)
    design = CrossbarSpec(
        encoding=encoding,
        slices=cells[0],
        cell_max=cells[1],
        signed_inputs=signed,
        rows_active=rows_active,
        input_bits_per_step=pulse_bits,
        tile_rows=20,
    )
    weights = np.rint(rng.laplace(0, scale, (4, 50))).clip(-127, 127).astype(int)
    needs = adc_needs(weights, design)
    spec = design.replace(adc_bits=needs.nested_bits)
    assert program(weights, spec).lossless_share == 1.0
    least, most = spec.input_range
    x = rng.integers(least, most + 1, (50, 6))
    np.testing.assert_array_equal(crossbar_matmul(weights, x, spec), weights @ x)
    fixed = design.replace(adc_bits=tuple(max(b, 1 + design.needs_signed_adc) for b in needs.per_slice))
    np.testing.assert_array_equal(crossbar_matmul(weights, x, fixed), weights @ x)

    t, k = np.unravel_index(rng.integers(needs.bits.size), needs.bits.shape)
    fewer = needs.bits.copy()
    fewer[t, k] -= 1
    if fewer[t, k] < 1 + design.needs_signed_adc:
        return  # there is no narrower converter
    narrow = design.replace(adc_bits=tuple(map(tuple, fewer.tolist())))
    x = worst_inputs(weights, design, needs, t, k)
    np.testing.assert_array_equal(crossbar_matmul(weights, x, spec), weights @ x)
    assert (crossbar_matmul(weights, x, narrow) != weights @ x).any()


# ---- by hand


def test_differential_and_split_by_hand():
    # Cells of 2 bits: output 0 holds +1 +2 -3 | +3, output 1 nothing in slice 0 of tile 0 (4 = 1 0) and 3 rows in tile 1.
    weights = np.array([[1, 2, -3, 3, 3, 3], [4, 0, 0, 1, -1, 0]])
    split = adc_needs(weights, CrossbarSpec(encoding="split", slices=4, tile_rows=3))
    assert split.bounds[:, 0].tolist() == [3, 9]
    assert split.bits.tolist() == [[2, 1, 0, 0], [4, 0, 0, 0]]
    assert split.columns.tolist() == [[4] * 4] * 2
    assert split.zero_columns[:, 0].tolist() == [
        2,
        1,
    ]  # output 1 in tile 0, both polarities; output 0's negative in tile 1
    assert split.zero_columns[:, 1].tolist() == [3, 4]
    assert split.nonzero_share == pytest.approx([8 / 24, 1 / 24, 0, 0])
    pairs = adc_needs(weights, CrossbarSpec(encoding="differential", slices=4, tile_rows=3))
    assert pairs.bounds[:, 0].tolist() == [3, 9]
    assert pairs.magnitude_bits.tolist() == [[2, 1, 0, 0], [4, 0, 0, 0]]
    assert pairs.bits.tolist() == [[3, 2, 0, 0], [5, 0, 0, 0]]  # with the sign
    assert pairs.per_slice == (5, 2, 0, 0)
    assert pairs.nested_bits == ((3, 2, 0, 0), (5, 0, 0, 0))
    bipolar = adc_needs(weights, CrossbarSpec(encoding="differential", slices=4, tile_rows=3, signed_inputs=True))
    assert bipolar.bounds[:, 0].tolist() == [6, 9]  # pulses of both signs add both polarities


def test_weights_never_need_more_than_the_worst_case_and_extreme_ones_need_it():
    weights = np.random.default_rng(0).integers(-127, 128, (64, 256))
    for encoding in ENCODINGS:
        spec = CrossbarSpec(encoding=encoding)
        assert 7 <= max(adc_needs(weights, spec).per_slice) <= spec.lossless_adc_bits
    full = np.full((1, 128), 127)
    assert adc_needs(full, CrossbarSpec(encoding="differential")).per_slice == (10, 10, 10, 9)
    assert adc_needs(full, CrossbarSpec(encoding="offset")).per_slice == (9, 9, 9, 9)
    assert adc_needs(full, CrossbarSpec(encoding="flip")).per_slice == (0, 0, 0, 0)  # the complement is empty


def test_flip_looks_at_the_widest_group_of_rows():
    # Groups of three rows, upper 1-bit cells: 3, 1, 1, 1 of them full; half of all, but the complement's widest is 2.
    spec = CrossbarSpec(encoding="flip", weight_bits=2, slices=2, cell_max=1, rows_active=3, input_bits=1)
    weights = np.array([[0, 0, 0, 0, -2, -2, 0, -2, -2, 0, -2, -2]])
    needs = adc_needs(weights, spec)
    assert needs.bounds.tolist() == [[0, 2]]
    assert needs.nonzero_share.tolist() == [0, 0.5]
    assert needs.zero_columns.tolist() == [[4, 1]]


def test_a_percentile_clips_the_widest_columns():
    # 100 columns of one slice with sums 1..100 (one-bit cells; row sums by construction).
    weights = (np.arange(100)[None, :] <= np.arange(100)[:, None]).astype(int)
    spec = CrossbarSpec(encoding="split", weight_bits=2, slices=1, cell_max=1)
    bounds = {p: int(adc_needs(weights, spec, percentile=p).bounds[0, 0]) for p in (100, 99, 99.5, 50, 1, 0.001)}
    assert bounds == {100: 100, 99: 99, 99.5: 100, 50: 50, 1: 1, 0.001: 1}
    half = adc_needs(weights, spec, percentile=50)
    assert half.bits.tolist() == [[6]]
    assert half.clipped_columns.tolist() == [[50]]
    assert half.zero_columns.tolist() == [[100]]  # the negative columns do not count towards the percentile
    narrow = spec.replace(adc_bits=half.nested_bits, input_bits=1)
    error = weights.sum(axis=1) - crossbar_matmul(weights, np.ones((100, 1), dtype=int), narrow)[:, 0]
    np.testing.assert_array_equal(error, np.maximum(np.arange(1, 101) - 63, 0))  # 6 bits hold 63


@QUIET
@given(encoding=st.sampled_from(ENCODINGS), seed=st.integers(0, 1000))
def test_bits_grow_with_the_percentile(encoding, seed):
    weights = np.rint(np.random.default_rng(seed).laplace(0, 9, (30, 60))).clip(-127, 127).astype(int)
    spec = CrossbarSpec(encoding=encoding, tile_rows=32)
    rows = [adc_needs(weights, spec, percentile=p) for p in (50, 90, 99, 100)]
    for less, more in itertools.pairwise(rows):
        assert (less.bits <= more.bits).all()
        assert (less.clipped_columns >= more.clipped_columns).all()
    for needs, share in zip(rows, (0.5, 0.9, 0.99, 1.0), strict=True):
        assert (needs.converted_columns - needs.clipped_columns >= share * needs.converted_columns - 1e-9).all()


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_leak_of_empty_cells_counts_where_it_reaches_the_converter(encoding):
    rng = np.random.default_rng(3)
    weights = rng.integers(-3, 4, (4, 100))
    ideal = CrossbarSpec(encoding=encoding, tile_rows=50)
    leaky = ideal.replace(r_off_ohm=1e5)  # ten times r_on_ohm
    plain, more = adc_needs(weights, ideal), adc_needs(weights, leaky)
    by_device = adc_needs(weights, ideal.replace(device=DeviceSpec(on_off_ratio=10)))
    np.testing.assert_array_equal(by_device.bits, more.bits)
    np.testing.assert_array_equal(more.zero_columns, plain.zero_columns)
    if encoding == "differential":
        np.testing.assert_array_equal(more.bounds, plain.bounds)
        return
    expected = np.ceil(0.9 * plain.bounds + 0.1 * 3 * 50)
    np.testing.assert_array_equal(more.bounds, np.where(plain.bounds > 0, expected, 0))


def test_bits_that_ignore_the_leak_clip():
    # 21 cells of level 1 of 3, off at half the current of on: 21 cell units ideal, 0.5 * 21 + 0.5 * 63 = 42 with the leak.
    spec = CrossbarSpec(encoding="offset", weight_bits=2, slices=1, cell_max=3, input_bits=1, r_off_ohm=2e4)
    weights, x = np.full((1, 21), -1), np.ones((21, 1), dtype=int)
    needs = adc_needs(weights, spec)
    assert (needs.bounds.item(), needs.bits.item()) == (42, 6)
    assert adc_needs(weights, spec.replace(r_off_ohm=None)).bits.item() == 5
    assert crossbar_matmul(weights, x, spec.replace(adc_bits=6)).item() == pytest.approx(-21)
    assert crossbar_matmul(weights, x, spec.replace(adc_bits=5)).item() == pytest.approx(-21 - 2 * (42 - 31))


def test_slices_and_networks():
    assert slice_nonzeros([0, 1, 64, 255, 16]).tolist() == [2, 1, 2, 2]
    assert slice_nonzeros(np.array([[7]]), slices=3, cell_bits=1).tolist() == [1, 1, 1]
    spec = CrossbarSpec(encoding="split")
    layers: list[AdcNeeds] = [adc_needs([[w] * 3], spec) for w in (1, 16)]
    assert widest(layers) == (2, 0, 2, 0)
    assert widest([]) == ()


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.int64, np.float32])
def test_takes_any_type_of_whole_numbers(kind):
    weights = np.random.default_rng(1).integers(-128, 128, (5, 30))
    for encoding in ("offset", "flip"):
        spec = CrossbarSpec(encoding=encoding)
        np.testing.assert_array_equal(adc_needs(weights.astype(kind), spec).bits, adc_needs(weights, spec).bits)
    split = CrossbarSpec(encoding="split")
    weights = weights.clip(-127)
    np.testing.assert_array_equal(adc_needs(weights.astype(kind), split).bits, adc_needs(weights, split).bits)


def test_refusals():
    spec = CrossbarSpec(encoding="differential")
    for weights, why in (
        ([1, 2], r"^weights must be a matrix \[out, in\], got shape \[2\]$"),
        (
            [[-128, 3]],
            r"^weights must be between -127 and 127 \(8 bits, differential encoding\), got -128 at \[0, 0\]$",
        ),
        ([[0.5, 3]], r"^weights must be whole numbers, got 0.5 at \[0, 0\]$"),
        ([[1, 2], [1]], r"^weights must be a matrix \[out, in\], got what is no array of numbers$"),
        ([[float("nan")]], "weights must be between"),
        ([["1"]], "^weights must be whole numbers, got an array of"),
    ):
        with pytest.raises(InputError, match=why):
            adc_needs(weights, spec)
    for percentile in (0, 101, float("nan"), "99"):
        with pytest.raises(InputError, match=r"^percentile must be more than 0 and at most 100"):
            adc_needs([[1]], spec, percentile=percentile)
    with pytest.raises(InputError, match="magnitudes must be whole numbers between 0 and 255"):
        slice_nonzeros([256])
