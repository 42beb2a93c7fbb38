"""Crossbar arithmetic against CrossSim's results, hand-counted arrays, a slow twin and the integer product."""

import json
import tracemalloc
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from picojoule.reram.arithmetic import crossbar_matmul, program
from picojoule.reram.converter import Adc
from picojoule.reram.crossbar import CrossbarSpec
from picojoule.reram.encoding import encode_tile, split_evenly
from picojoule.reram.wires import bitline_current_per_volt
from picojoule.sim.errors import InputError, UnsupportedError

GOLDEN = sorted((Path(__file__).parents[1] / "reference" / "cim").glob("*.npz"))
ENCODINGS = ("offset", "differential", "flip", "split")
QUIET = settings(deadline=None, max_examples=100)


# ---- CrossSim


def test_all_golden_cases_are_here():
    assert len(GOLDEN) == 22
    assert sum(path.stem.startswith("irdrop") for path in GOLDEN) == 3


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_equals_crosssim(path, record_property):
    case = np.load(path)
    config = json.loads(str(case["config"]))
    assert np.array_equal(case["W"].astype(int) @ case["X"].astype(int), case["Y_exact"])
    same = ("weight_bits slices cell_max input_bits signed_inputs input_bits_per_step encoding "
            "adc_lo adc_hi tile_rows tile_cols wire_ohm_per_cell")  # fmt: skip
    spec = CrossbarSpec(
        adc_bits=config["adc_bits"] or None,
        r_on_ohm=config["r_on"],
        r_off_ohm=config["r_off"],
        **{key: config[key] for key in same.split()},
    )
    error = np.abs(crossbar_matmul(case["W"], case["X"], spec) - case["Y"]).max() / np.abs(case["Y"]).max()
    record_property("relative_error", float(error))
    assert error <= (1e-6 if spec.has_wires else 1e-9)


# ---- hand-counted


def test_two_by_two_array_by_hand():
    # Differential 1-bit cells, 2 slices: w = [[3, -1], [-2, 3]]; 2-bit inputs x = (3, 2) and (1, 3); ADC -1, 0, 1.
    # Output 0, x = (3, 2), steps (1, 0) and (1, 1): slice 0 sums to 1, 1 - 1 = 0; slice 1 to 1, 1. 1 + 2*(1 + 2) = 7.
    # Output 0, x = (1, 3): slice 0: (1, 1) -> 0, (0, 1) -> -1; slice 1: 1, 0. -2 + 2*1 = 0.
    # Output 1, x = (3, 2): slice 0 (0, 1): 0, 1; slice 1 (-1, 1): -1, 0. 2 - 2 = 0.
    # Output 1, x = (1, 3): slice 0: 1, 1; slice 1: 0, 1. 3 + 2*2 = 7. Nothing clips: the integer product.
    spec = CrossbarSpec(encoding="differential", weight_bits=3, slices=2, cell_max=1, input_bits=2, adc_bits=2)
    weights, inputs = [[3, -1], [-2, 3]], [[3, 1], [2, 3]]
    assert crossbar_matmul(weights, inputs, spec).tolist() == [[7, 0], [0, 7]]
    # w = (3, 3) sums to 2 wherever both inputs pulse, and clips to 1: x = (3, 2) gives 3 * (1 + 2*1) = 9, not 15.
    assert crossbar_matmul([[3, 3]], [[3], [2]], spec).tolist() == [[9]]


def test_converter_rounds_half_to_even_and_clips():
    sums = np.arange(-1.0, 9.0)
    codes = sums.copy()
    Adc(lo=0.0, hi=6.0, codes=4).convert(codes)  # steps of 2: 1, 3, 5 are ties
    assert codes.tolist() == [0, 0, 0, 1, 2, 2, 2, 3, 3, 3]
    # The same through a column of 1-bit cells: x ones in 8 rows, offset 1 removed digitally.
    spec = CrossbarSpec(weight_bits=2, slices=2, cell_max=1, input_bits=1, adc_bits=2, adc_hi=6.0)
    ones = np.tri(9, 8, -1, dtype=int).T  # column n: n inputs are 1
    low_slice_only = np.full((1, 8), -1)  # u = 1
    y = crossbar_matmul(low_slice_only, ones, spec)[0] + 2 * np.arange(9)
    assert y.tolist() == [0, 0, 2, 4, 4, 4, 6, 6, 6]


def test_ties_that_float32_would_break_are_still_even():
    adc = Adc(lo=0.0, hi=14.0, codes=32)  # a sum of 7 lies half way between codes 15 and 16; in float32 it does not
    assert adc.float32_is_exact(6) and not adc.float32_is_exact(7)
    spec = CrossbarSpec(weight_bits=2, slices=2, cell_max=1, input_bits=1, adc_bits=5, adc_hi=14.0)
    seven_ones = np.arange(20)[:, None] < 7
    y = crossbar_matmul(np.full((1, 20), -1), seven_ones.astype(int), spec)
    assert y[0, 0] + 2 * 7 == pytest.approx(16 * 14 / 31, rel=1e-15)


def test_flip_stores_the_complement():
    # One row of weight 1: u = 3 = (1, 1); both columns pass half range, so 0 is stored and q sum(x) - 0 restores them.
    cells = program([[1]], CrossbarSpec(encoding="flip", weight_bits=2, slices=2, cell_max=1, adc_bits=1))
    assert cells.plain.tolist() == [[1]]
    # 128 rows of the largest weight need 9 bits as they are, and 0 when flipped; half of them stay just within 8 bits.
    weights = np.full((2, 128), 127)
    weights[1, :64] = -128
    inputs = np.full((128, 1), 255)
    flip, offset = CrossbarSpec(encoding="flip"), CrossbarSpec(encoding="offset")
    assert (crossbar_matmul(weights, inputs, flip) == weights @ inputs).all()
    assert crossbar_matmul(weights, inputs, offset)[0, 0] == 85 * 255 * 255 - 128 * 128 * 255  # every sum clips to 255


def test_lossless_adc_bits_of_isaac():
    assert CrossbarSpec().lossless_adc_bits == 9
    assert CrossbarSpec(encoding="flip").lossless_adc_bits == 8
    assert CrossbarSpec(rows_active=32).lossless_adc_bits == 7
    assert CrossbarSpec(encoding="differential").lossless_adc_bits == 10
    assert CrossbarSpec(signed_inputs=True).lossless_adc_bits == 10
    assert CrossbarSpec().unit_adc_range(8) == (0.0, 85.0)


def test_lossless_share_counts_bitlines():
    weights = np.zeros((2, 128), dtype=int)
    weights[1] = 127  # differential levels 3, 3, 3, 1: sums up to 384 and 128 against a top code of 127
    spec = CrossbarSpec(encoding="differential", adc_bits=8)
    assert program(weights, spec).lossless_share == 0.5
    assert program(weights, spec.replace(adc_bits=None)).lossless_share == 1.0
    assert program(weights, spec.replace(adc_bits=(10, 10, 10, 8))).lossless_share == 7 / 8


# ---- the slow twin


def slow_crossbar(weights, inputs, spec):
    """Every pulse of every bitline, one by one, in rational numbers."""
    n, q, p, slices = spec.weight_bits, spec.cell_max, spec.pulse_max, range(spec.slices)
    r = Fraction(spec.off_on_ratio)
    differential = spec.encoding == "differential"
    y = np.zeros((len(weights), inputs.shape[1]))

    def groups_of(rows):
        return np.array_split(np.arange(rows), -(-rows // spec.rows_active) if spec.rows_active else 1)

    def sliced(value):
        return [value // (q + 1) ** k % (q + 1) for k in slices]

    def of_slice(value, t, k):
        if isinstance(value, tuple) and isinstance(value[0], tuple):
            value = value[t]
        return value[k] if isinstance(value, tuple) else value

    def adc(level, t, k):
        if spec.adc_bits is None:
            return level
        lo, hi = (Fraction(of_slice(end, t, k)).limit_denominator(10**5) for end in (spec.adc_lo, spec.adc_hi))
        codes = 2 ** of_slice(spec.adc_bits, t, k) - (lo < 0)
        step = (hi - lo) / (codes - 1)
        return lo + step * round((min(max(level, lo), hi) - lo) / step)  # round() of a Fraction: half to even

    def column(levels, x, t, k):
        """Converted and shifted sum of one bitline over all groups and steps, in cell units."""
        total = Fraction(0)
        for group in groups_of(len(x)):
            if not any(levels[i] for i in group):  # known to be empty: not read, nor is its leak
                continue
            for j in range(spec.steps):
                pulses = [int(np.sign(x[i])) * (abs(int(x[i])) >> (spec.bits_per_pulse * j) & p) for i in group]
                cell_sum = sum(levels[i] * pulse for i, pulse in zip(group, pulses, strict=True))
                leak = 0 if differential else r * q * sum(pulses)
                level = ((1 - r) * cell_sum + leak) / (q * p)
                total += 2 ** (spec.bits_per_pulse * j) * (adc(level, t, k) * q * p - leak) / (1 - r)
        return total

    tiles = np.array_split(np.arange(weights.shape[1]), -(-weights.shape[1] // spec.tile_rows))
    for o, b in np.ndindex(y.shape):
        total = Fraction(0)
        for t, tile in enumerate(tiles):
            w, x = weights[o, tile].tolist(), inputs[tile, b]
            for k in slices:
                if spec.encoding in ("offset", "flip"):
                    levels = [sliced(value + 2 ** (n - 1))[k] for value in w]
                    read = [[levels[i] for i in group] for group in groups_of(len(w))]
                    largest, complement = max(map(sum, read)), max(q * len(part) - sum(part) for part in read)
                    flipped = spec.encoding == "flip" and largest > complement
                    stored = [q - level for level in levels] if flipped else levels
                    part = column(stored, x, t, k)
                    part = q * int(x.sum()) - part if flipped else part
                else:
                    positive = [sliced(max(value, 0))[k] for value in w]
                    negative = [sliced(max(-value, 0))[k] for value in w]
                    if differential:
                        part = column([a - b for a, b in zip(positive, negative, strict=True)], x, t, k)
                    else:
                        part = column(positive, x, t, k) - column(negative, x, t, k)
                total += (q + 1) ** k * part
            if spec.encoding in ("offset", "flip"):
                total -= 2 ** (n - 1) * int(x.sum())
        y[o, b] = float(total)
    return y


@st.composite
def specs(draw, lossy):
    encoding = draw(st.sampled_from(ENCODINGS))
    weight_bits = draw(st.integers(2, 6))
    needed = weight_bits - (encoding in ("differential", "split"))
    cell_bits = draw(st.integers(1, 3))
    slices = -(-needed // cell_bits) + draw(st.integers(0, 1))
    signed = draw(st.booleans())
    input_bits = draw(st.integers(1, 5)) + signed
    fields = {
        "encoding": encoding,
        "weight_bits": weight_bits,
        "slices": slices,
        "cell_max": 2**cell_bits - 1,
        "input_bits": input_bits,
        "signed_inputs": signed,
        "input_bits_per_step": draw(st.integers(0, min(3, input_bits - signed))),
        "tile_rows": draw(st.integers(1, 8)),
        "rows_active": draw(st.none() | st.integers(1, 5)),
        "adc_bits": None,
    }
    ideal = CrossbarSpec(**fields)
    if not lossy:
        return ideal.with_lossless_adc() if draw(st.booleans()) else ideal
    if draw(st.booleans()):
        fields["r_off_ohm"] = 2e4  # ratio 1/2: exact in binary, so that ties are the same ties for both
    signed_adc = ideal.needs_signed_adc or draw(st.booleans())
    bits = draw(st.lists(st.integers(1 + signed_adc, 6), min_size=slices, max_size=slices))
    tops = draw(st.lists(st.integers(1, 60), min_size=slices, max_size=slices))
    spec = CrossbarSpec(**fields)
    his = [top / spec.cell_units for top in tops]
    if draw(st.booleans()):
        bits, his = bits[0], his[0]
    los = [-hi for hi in his] if isinstance(his, list) else -his
    return spec.replace(adc_bits=bits, adc_hi=his, adc_lo=los if signed_adc else 0.0)


def operands(spec, rng, outputs, rows, batch, extreme=0.3):
    """Random whole numbers, some of them at the ends of their ranges."""

    def draw(limits, shape):
        low, high = limits
        values = rng.integers(low, high + 1, shape)
        return np.where(rng.random(shape) < extreme, rng.choice([low, high], shape), values)

    return draw(spec.weight_range, (outputs, rows)), draw(spec.input_range, (rows, batch))


@QUIET
@given(spec=specs(lossy=True), rows=st.integers(1, 12), seed=st.integers(0, 2**32 - 1))
def test_equals_the_slow_twin(spec, rows, seed):
    weights, inputs = operands(spec, np.random.default_rng(seed), 2, rows, 2)
    expected = slow_crossbar(weights, inputs, spec)
    found = crossbar_matmul(weights, inputs, spec)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-9)


@QUIET
@given(data=st.data(), spec=specs(lossy=True), rows=st.integers(1, 12), seed=st.integers(0, 2**32 - 1))
def test_converters_of_each_tile_equal_the_slow_twin(data, spec, rows, seed):
    tiles, signed = -(-rows // spec.tile_rows), spec.needs_signed_adc
    per_tile = st.lists(st.integers(1 + signed, 6), min_size=spec.slices, max_size=spec.slices)
    bits = data.draw(st.lists(per_tile, min_size=tiles, max_size=tiles))
    tops = data.draw(st.lists(st.lists(st.integers(1, 60), min_size=spec.slices, max_size=spec.slices),
                              min_size=tiles, max_size=tiles))  # fmt: skip
    his = [[top / spec.cell_units for top in of_tile] for of_tile in tops]
    los = [[-hi for hi in of_tile] for of_tile in his] if signed else 0.0
    spec = spec.replace(adc_bits=bits, adc_hi=his, adc_lo=los)
    weights, inputs = operands(spec, np.random.default_rng(seed), 2, rows, 2)
    expected = slow_crossbar(weights, inputs, spec)
    np.testing.assert_allclose(crossbar_matmul(weights, inputs, spec), expected, rtol=1e-12, atol=1e-9)


@QUIET
@given(encoding=st.sampled_from(ENCODINGS), rows=st.integers(1, 40), seed=st.integers(0, 2**32 - 1))
def test_a_tile_and_slice_that_fits_its_adc_collapses_and_one_bit_less_streams_it_alone(encoding, rows, seed):
    rng = np.random.default_rng(seed)
    spec = CrossbarSpec(encoding=encoding, tile_rows=16)
    weights, inputs = operands(spec, rng, 3, rows, 4)
    signed = encoding == "differential"
    bits = []
    for tile in split_evenly(rows, 16):
        cells = encode_tile(weights[:, tile], spec, [slice(0, tile.stop - tile.start)])
        bounds = [0] * spec.slices
        for plane, k in zip(cells.cells, cells.slice_of_plane, strict=True):
            reach = max(np.maximum(plane, 0).sum(axis=1).max(), np.maximum(-plane, 0).sum(axis=1).max())
            bounds[k] = max(bounds[k], int(reach))
        bits.append([b.bit_length() + (signed and b > 0) for b in bounds])
    exact = program(weights, spec.replace(adc_bits=bits))
    assert exact.lossless_share == 1.0 and not exact.streams
    assert np.array_equal(exact.matmul(inputs), weights @ inputs)
    t, k = rng.integers(len(bits)), rng.integers(spec.slices)
    if bits[t][k] > 1 + signed:
        bits[t][k] -= 1
        narrow = program(weights, spec.replace(adc_bits=bits))
        rows_of_t = split_evenly(rows, 16)[t]
        assert [stream.rows for stream in narrow.streams] == [rows_of_t]
        widest = np.full((rows, 1), 255)
        if encoding in ("offset", "flip"):  # all cells pull one way, so all-one inputs reach the bound
            assert not np.array_equal(narrow.matmul(widest), weights @ widest)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_lossy_fast_path_equals_the_slow_twin_on_full_tiles(encoding):
    # 130 rows: two tiles of 65; most significant slice lossless, the others clipped or rounded.
    signed = encoding == "differential"
    tops = np.array([40.0, 64 / 3, 14.0, 200.0])  # 120, 64, 42 and 600 cell units
    spec = CrossbarSpec(encoding=encoding, adc_bits=(5, 6, 4, 9), adc_lo=-tops if signed else 0.0, adc_hi=tops)
    assert [adc.hi for adc in spec.converters] == [120, 64, 42, 600]
    weights, inputs = operands(spec, np.random.default_rng(5), 3, 130, 2, extreme=0.05)
    np.testing.assert_allclose(crossbar_matmul(weights, inputs, spec), slow_crossbar(weights, inputs, spec), rtol=1e-12)


@QUIET
@given(spec=specs(lossy=False), rows=st.integers(1, 40), seed=st.integers(0, 2**32 - 1))
def test_without_losses_equals_the_integer_product(spec, rows, seed):
    weights, inputs = operands(spec, np.random.default_rng(seed), 5, rows, 7)
    assert np.array_equal(crossbar_matmul(weights, inputs, spec), weights @ inputs)


@QUIET
@given(encoding=st.sampled_from(ENCODINGS), groups=st.integers(1, 20), seed=st.integers(0, 2**32 - 1))
def test_wide_adc_equals_the_integer_product_for_any_row_groups(encoding, groups, seed):
    spec = CrossbarSpec(encoding=encoding, tile_rows=16, rows_active=groups).with_lossless_adc()
    weights, inputs = operands(spec, np.random.default_rng(seed), 4, 37, 3)
    assert np.array_equal(crossbar_matmul(weights, inputs, spec), weights @ inputs)


def test_narrow_adc_equals_the_integer_product_where_few_rows_are_read_at_once():
    rng = np.random.default_rng(3)
    weights, inputs = rng.integers(-127, 128, (8, 300)), rng.integers(0, 256, (300, 5))
    narrow = CrossbarSpec(adc_bits=6)
    assert not np.array_equal(crossbar_matmul(weights, inputs, narrow), weights @ inputs)
    assert np.array_equal(crossbar_matmul(weights, inputs, narrow.replace(rows_active=21)), weights @ inputs)


# ---- exactness where float32 would fail


@pytest.mark.parametrize("rows", [576, 4608])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_extremes_are_exact(encoding, bits, rows):
    spec = CrossbarSpec(encoding=encoding, weight_bits=bits, slices=bits // 2, input_bits=bits).with_lossless_adc()
    low, high = spec.weight_range
    weights = np.stack([np.full(rows, low), np.full(rows, high), np.where(np.arange(rows) % 2, low, high)])
    inputs = np.full((rows, 3), spec.input_range[1])
    inputs[:, 1] -= np.arange(rows) % 2
    inputs[:, 2] = np.arange(rows) % 2
    exact = weights.astype(object) @ inputs.astype(object)
    if bits == 8 or rows == 4608:
        assert np.abs(exact).max() > 2**24  # float32 alone could not hold it
    found = crossbar_matmul(weights, inputs.astype(np.float32 if bits == 8 else np.float64), spec)
    assert np.array_equal(found.astype(object), exact)


@pytest.mark.parametrize("rows", [576, 4608])
def test_clipped_extremes_follow_the_closed_form(rows):
    inputs = np.full((rows, 1), 255)
    tiles = -(-rows // 128)
    # Offset, 6 bits: every cell is 3, every column sum clips to 63 in 4 slices and 8 steps of each tile.
    clipped = 63 * 85 * 255 * tiles
    assert crossbar_matmul(np.full((1, rows), 127), inputs, CrossbarSpec(adc_bits=6)) == clipped - 128 * 255 * rows
    # Differential, 6 bits: the top code is 31, in both directions.
    differential = CrossbarSpec(encoding="differential", adc_bits=6)
    for sign in (1, -1):
        assert crossbar_matmul(np.full((1, rows), sign * 127), inputs, differential) == sign * 31 * 85 * 255 * tiles
    # 16-bit inputs and weights with 12-bit codes need more than float32 holds: 2**12 * (2**16 - 1) > 2**24.
    wide = CrossbarSpec(weight_bits=16, slices=8, input_bits=16, tile_rows=rows, adc_bits=10)
    product = crossbar_matmul(np.full((1, rows), 2**15 - 1), np.full((rows, 1), 2**16 - 1), wide)
    assert product == 1023 * ((4**8 - 1) // 3) * (2**16 - 1) - 2**15 * (2**16 - 1) * rows


def test_products_beyond_float64_are_refused():
    spec = CrossbarSpec(weight_bits=16, slices=1, cell_max=65535, input_bits=16, adc_bits=None, tile_rows=65536)
    rows = 2**22 + 2**10
    cells = program(np.full((1, rows), -(2**15), dtype=np.int32), spec)
    message = (
        f"sums of {rows} products of 16-bit weights and inputs up to 65535 can pass 2**53 and leave float64's exact "
        "range; use fewer bits or cut the reduction into several products"
    )
    with pytest.raises(UnsupportedError) as error:
        cells.matmul(np.full((rows, 1), 65535, dtype=np.uint16))
    assert str(error.value) == message


# ---- batches


@pytest.mark.parametrize("spec", [CrossbarSpec(adc_bits=6), CrossbarSpec(adc_bits=5, adc_hi=77.0, r_off_ohm=1e6)])
def test_result_does_not_depend_on_the_batch(spec):
    rng = np.random.default_rng(1)
    cells = program(rng.integers(-128, 128, (6, 200)), spec)
    inputs = rng.integers(0, 256, (200, 5000))
    whole = cells.matmul(inputs)
    assert np.array_equal(whole[:, 4090:4100], cells.matmul(inputs[:, 4090:4100]))
    assert np.array_equal(whole[:, :1], cells.matmul(inputs[:, :1]))
    assert np.array_equal(whole, cells.matmul(inputs.astype(np.float32)))
    assert np.array_equal(whole, cells.matmul(np.asfortranarray(inputs.astype(np.uint8))))
    assert cells.matmul(inputs[:, :0]).shape == (6, 0)


@pytest.mark.parametrize("adc_bits", [9, 6])
def test_memory_stays_bounded_for_large_batches(adc_bits):
    rng = np.random.default_rng(1)
    cells = program(rng.integers(-128, 128, (4, 128)), CrossbarSpec(adc_bits=adc_bits))
    inputs = rng.integers(0, 256, (128, 100_000), dtype=np.uint8)
    tracemalloc.start()
    result = cells.matmul(inputs)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes - result.nbytes < 64 * 2**20


# ---- cells that leak, wires that resist


def test_finite_off_resistance_is_corrected_digitally():
    rng = np.random.default_rng(2)
    weights, inputs = rng.integers(-127, 128, (5, 100)), rng.integers(0, 256, (100, 4))
    for encoding in ENCODINGS:
        spec = CrossbarSpec(encoding=encoding, r_off_ohm=1e5, adc_bits=20, adc_hi=100.0)
        error = np.abs(crossbar_matmul(weights, inputs, spec) - weights @ inputs).max()
        assert error < 85 * 255 * 300 / 2**19  # half a code in every conversion at most
    # A differential pair cancels its own leak, so one code per cell unit loses nothing.
    spec = CrossbarSpec(encoding="differential", r_off_ohm=1e5).with_lossless_adc()
    assert np.array_equal(crossbar_matmul(weights, inputs, spec), weights @ inputs)


def test_one_wired_cell_is_three_resistors_in_series():
    assert bitline_current_per_volt(np.array([[1e-4]]), 5.0)[0, 0] == pytest.approx(1 / (1e4 + 10), rel=1e-12)


def test_wired_array_equals_dense_nodal_analysis():
    rng = np.random.default_rng(0)
    conductance, wire = rng.uniform(1e-5, 1e-3, (3, 4)), 1 / 7.0
    outputs, rows = conductance.shape
    expected = np.zeros_like(conductance)
    for driven in range(rows):
        matrix, current = np.zeros((24, 24)), np.zeros(24)

        def join(a, b, siemens, matrix=matrix):
            matrix[a, a] += siemens
            if b is not None:
                matrix[b, b] += siemens
                matrix[a, b] -= siemens
                matrix[b, a] -= siemens

        for o, i in np.ndindex(outputs, rows):
            word, bit = o * rows + i, 12 + o * rows + i
            join(word, bit, conductance[o, i])
            join(word, word - rows if o else None, wire)  # towards the driver at output 0
            join(bit, bit + 1 if i < rows - 1 else None, wire)  # towards ground behind the last row
        current[driven] = wire
        volt = np.linalg.solve(matrix, current)
        through_cells = conductance * (volt[:12] - volt[12:]).reshape(outputs, rows)
        expected[:, driven] = through_cells.sum(axis=1)
    np.testing.assert_allclose(bitline_current_per_volt(conductance, 7.0), expected, rtol=1e-10)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_wires_fade_out_and_take_current_away(encoding):
    rng = np.random.default_rng(4)
    weights, inputs = rng.integers(-127, 128, (6, 20)), rng.integers(0, 256, (20, 3))
    ideal = CrossbarSpec(encoding=encoding, r_off_ohm=1e6, tile_rows=16, tile_cols=4, adc_bits=12, adc_hi=20.0)
    no_wires = crossbar_matmul(weights, inputs, ideal)
    assert np.array_equal(crossbar_matmul(weights, inputs, ideal.replace(wire_ohm_per_cell=0.0)), no_wires)
    no_adc = ideal.replace(adc_bits=None)
    faint = crossbar_matmul(weights, inputs, no_adc.replace(wire_ohm_per_cell=1e-6))
    np.testing.assert_allclose(faint, weights @ inputs, rtol=1e-6, atol=1e-3)
    errors = [
        np.abs(crossbar_matmul(weights, inputs, no_adc.replace(wire_ohm_per_cell=ohm)) - weights @ inputs).mean()
        for ohm in (1.0, 2.0, 4.0)
    ]
    assert errors[0] > 1 and errors == sorted(errors)
    # The converted result is that of the wires, within a code: the ADC sees the wired sums.
    wired = no_adc.replace(wire_ohm_per_cell=4.0)
    fine = crossbar_matmul(weights, inputs, wired.replace(adc_bits=22, adc_hi=20.0))
    np.testing.assert_allclose(fine, crossbar_matmul(weights, inputs, wired), atol=2 * 85 * 255 * 60 / 2**21)


def test_wired_outputs_are_cut_into_arrays_of_tile_cols():
    rng = np.random.default_rng(6)
    weights, inputs = rng.integers(-127, 128, (5, 10)), rng.integers(0, 256, (10, 2))
    spec = CrossbarSpec(tile_cols=3, wire_ohm_per_cell=5.0, adc_bits=None)
    apart = [crossbar_matmul(part, inputs, spec) for part in (weights[:3], weights[3:])]
    np.testing.assert_allclose(crossbar_matmul(weights, inputs, spec), np.concatenate(apart), rtol=1e-12)
    one_array = crossbar_matmul(weights, inputs, spec.replace(tile_cols=5))
    assert not np.allclose(one_array, np.concatenate(apart), rtol=1e-4)


def test_wires_too_large_to_solve_are_refused():
    spec = CrossbarSpec(tile_rows=512, tile_cols=512, wire_ohm_per_cell=1.0)
    with pytest.raises(UnsupportedError) as error:
        program(np.ones((512, 512), dtype=int), spec)
    assert str(error.value) == (
        "an array of 512 x 512 cells with wire_ohm_per_cell is too large to solve exactly "
        "(at most 131072 cells); use smaller tile_rows and tile_cols"
    )


# ---- refusals


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"adc_bits": 0}, "adc_bits must be between 1 and 24, got 0; use None for no ADC"),
        ({"adc_bits": (8, 8)}, "adc_bits must have one value per slice (4), got 2"),
        (
            {"adc_bits": "8"},
            "adc_bits must be a whole number, one per slice (least significant first) or per row tile and slice, or None "
            "for no ADC, got '8'",
        ),
        ({"adcbits": 8}, "a crossbar has no field 'adcbits'; did you mean 'adc_bits'?"),
        (
            {"encoding": "ofset"},
            "unknown encoding 'ofset'; did you mean 'offset'? (choose from 'differential', 'flip', 'offset', 'split')",
        ),
        ({"slices": 4.0}, "slices must be a whole number, got 4.0"),
        (
            {"slices": 3},
            "8-bit weights in offset encoding need 8 bits of cells, got 3 x 2; use more slices or a larger cell_max",
        ),
        (
            {"encoding": "split", "slices": 3},
            "8-bit weights in split encoding need 7 bits of cells, got 3 x 2; use more slices or a larger cell_max",
        ),
        (
            {"cell_max": 2},
            "cell_max must be 1, 3, 7, 15, ... (2**bits - 1) with several slices, got 2; use slices=1 for "
            "one analogue cell",
        ),
        ({"cell_max": 200, "slices": 1}, "8-bit weights in offset encoding need cell_max of at least 255, got 200"),
        ({"cell_max": 0}, "cell_max must be between 1 and 65535, got 0"),
        (
            {"input_bits": 1, "signed_inputs": True},
            "input_bits must be at least 2 where signed_inputs is true, got 1",
        ),
        (
            {"input_bits_per_step": 9},
            "input_bits_per_step must be at most the 8 magnitude bits of an input, got 9; use 0 for one analogue pulse",
        ),
        ({"tile_rows": 0}, "tile_rows must be between 1 and 65536, got 0"),
        ({"tile_rows": 65537}, "tile_rows must be between 1 and 65536, got 65537"),
        ({"rows_active": 0}, "rows_active must be between 1 and 65536, got 0"),
        (
            {"device": "milo-2021"},
            "device must be a DeviceSpec or its fields, got 'milo-2021'; write DeviceSpec(preset='milo-2021')",
        ),
        ({"r_on_ohm": 0.0}, "r_on_ohm must be more than 0 and finite, got 0"),
        ({"r_off_ohm": 1e3}, "r_off_ohm must be larger than r_on_ohm (10000), got 1000"),
        ({"wire_ohm_per_cell": -1.0}, "wire_ohm_per_cell must be 0 or more and finite, got -1"),
        ({"adc_lo": 0.0}, "adc_lo is given without adc_hi; give both, or neither for one code per cell unit"),
        ({"adc_hi": float("nan")}, "adc_hi must be more than 0 and finite, got nan"),
        ({"adc_lo": -1.0, "adc_hi": 2.0}, "adc_lo must be 0, or -adc_hi for a signed ADC, got -1 with adc_hi 2"),
        (
            {"encoding": "differential", "adc_lo": 0.0, "adc_hi": 85.0},
            "differential columns need a signed ADC: adc_lo must be -adc_hi, got 0",
        ),
        (
            {"signed_inputs": True, "adc_lo": 0.0, "adc_hi": 85.0},
            "signed inputs need a signed ADC: adc_lo must be -adc_hi, got 0",
        ),
        ({"encoding": "differential", "adc_bits": 1}, "a signed ADC has at least 2 bits, got adc_bits 1"),
        ({"adc_bits": ((8, 8, 8, 8), (8, 8, 8))}, "adc_bits[1] must have one value per slice (4), got 3"),
        (
            {"adc_bits": ((8,) * 4, (8,) * 4), "adc_hi": ((85.0,) * 4,)},
            "adc_hi must have one entry per row tile (2), got 1",
        ),
        ({"adc_bits": ((8, 8, 8, 25),)}, "adc_bits must be between 1 and 24, got 25"),
        ({"wire_model": "quick"}, "wire_model must be 'exact' or 'fast', got 'quick'"),
        ({"seed": -1}, "seed must be between 0 and 9223372036854775807, got -1"),
    ],
)
def test_impossible_designs_are_refused(fields, message):
    with pytest.raises(InputError) as error:
        CrossbarSpec(**fields)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("weights", "inputs", "message"),
    [
        ([[1, 2]], [[1], [2], [3]], "inputs must have 2 rows, one per column of the weights, got 3"),
        ([1, 2], [[1], [2]], "weights must be a matrix [out, in], got shape [2]"),
        ([[1, 2]], [1, 2], "inputs must be a matrix [in, batch], got shape [2]"),
        ([[1, 128]], [[1], [2]], "weights must be between -128 and 127 (8 bits, offset encoding), got 128 at [0, 1]"),
        ([[1.5, 2]], [[1], [2]], "weights must be whole numbers, got 1.5 at [0, 0]"),
        (
            [[1, float("nan")]],
            [[1], [2]],
            "weights must be between -128 and 127 (8 bits, offset encoding), got nan at [0, 1]",
        ),
        ([[1, 2]], [[1], [-2]], "inputs must be between 0 and 255 (8 bits, unsigned), got -2 at [1, 0]"),
        ([[1, 2]], [[256], [2]], "inputs must be between 0 and 255 (8 bits, unsigned), got 256 at [0, 0]"),
        ([[1, 2]], [[1], [0.25]], "inputs must be whole numbers, got 0.25 at [1, 0]"),
        ([["a", "b"]], [[1], [2]], "weights must be whole numbers, got an array of <U1"),
        ([[1, 2], [3]], [[1], [2]], "weights must be a matrix [out, in], got what is no array of numbers"),
        (np.ones((0, 3)), np.ones((3, 1)), "weights must have at least one output and one input, got shape [0, 3]"),
    ],
)
def test_wrong_operands_are_refused(weights, inputs, message):
    with pytest.raises(InputError) as error:
        crossbar_matmul(weights, inputs, CrossbarSpec())
    assert str(error.value) == message


def test_converters_by_tile_must_fit_the_tiles():
    spec = CrossbarSpec(adc_bits=((8, 8, 8, 8), (8, 8, 8, 0)), tile_rows=4)
    with pytest.raises(InputError) as error:
        program(np.ones((1, 4), dtype=int), spec)
    assert str(error.value) == (
        "the converters are given for 2 row tiles, but 4 inputs in tiles of at most 4 rows make 1"
    )
    with pytest.raises(InputError) as error:
        program(np.ones((1, 8), dtype=int), spec)
    assert str(error.value) == (
        "slice 3 of row tile 1 has adc_bits 0 but cells that are not 0; give it a converter of at least 1 bit"
    )
    # -128 + 3 leaves the upper slices empty: nothing to convert there.
    weights, inputs = [[1, 2, 3, 4, -125, -126, -127, -128]], [[255]] * 8
    assert crossbar_matmul(weights, inputs, spec.replace(adc_bits=((8, 8, 8, 8), (4, 0, 0, 0)))) == -496 * 255


def test_most_negative_weight_needs_an_offset_encoding():
    for encoding in ("offset", "flip"):
        assert crossbar_matmul([[-128]], [[255]], CrossbarSpec(encoding=encoding)) == -128 * 255
    with pytest.raises(InputError) as error:
        crossbar_matmul([[-128]], [[255]], CrossbarSpec(encoding="differential"))
    assert (
        str(error.value) == "weights must be between -127 and 127 (8 bits, differential encoding), got -128 at [0, 0]"
    )


def test_a_design_survives_json_and_refuses_a_wrong_copy():
    spec = CrossbarSpec(encoding="split", adc_bits=[3, 4, 5, 6], adc_hi=np.array([1.0, 2.0, 3.0, 4.0]))
    assert CrossbarSpec.model_validate_json(spec.model_dump_json()) == spec
    with pytest.raises(InputError, match=r"^adc_bits must be between 1 and 24, got 30$"):
        spec.replace(adc_bits=30)
