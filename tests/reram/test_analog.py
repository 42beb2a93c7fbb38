"""Crossbars of real cells: nothing on is the ideal crossbar; each error against hand calculation and a slow twin."""

import json
from pathlib import Path

import numpy as np
import pytest

from picojoule.reram.analog import program_analog
from picojoule.reram.analog_cells import analog_tile
from picojoule.reram.analog_converters import converter_errors
from picojoule.reram.arithmetic import program
from picojoule.reram.crossbar import CrossbarSpec
from picojoule.reram.devices import DeviceSpec
from picojoule.reram.encoding import encode_tile, split_evenly
from picojoule.reram.wires import bitline_current_per_volt
from picojoule.sim.errors import InputError

ENCODINGS = ("offset", "differential", "flip", "split")
GOLDEN = sorted((Path(__file__).parents[1] / "reference" / "cim").glob("*.npz"))
DESIGNS = {
    "clipping": {"adc_bits": 6},
    "no ADC": {"adc_bits": None},
    "per slice, groups": {"adc_bits": (5, 6, 7, 8), "rows_active": 13},
    "per tile": {"adc_bits": ((5, 6, 7, 8), (8, 7, 6, 5), (7, 7, 7, 7)), "adc_hi": 30.0},
    "one pulse": {"input_bits_per_step": 0, "adc_bits": 10},
}
EVERYTHING = {
    "g_max_us": 100.0,
    "on_off_ratio": 20.0,
    "programming_sigma": 0.05,
    "stuck_on": 0.02,
    "stuck_off": 0.03,
    "drift_nu_mean": 0.05,
    "drift_nu_sigma": 0.02,
    "time_s": 1e4,
    "wire_ohm_per_cell": 3.0,
    "adc_offset_sigma_lsb": 0.7,
    "adc_gain_sigma": 0.03,
    "adc_inl_lsb": 1.5,
    "columns_per_adc": 2,
}


def operands(spec, outputs=5, inputs=50, batch=9, seed=0):
    rng = np.random.default_rng(seed)
    weights = rng.integers(-127, 128, (outputs, inputs))
    return weights, rng.integers(spec.input_range[0], spec.input_range[1] + 1, (inputs, batch))


# ---- nothing on


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_without_errors_it_is_the_ideal_crossbar(encoding, signed, design):
    spec = CrossbarSpec(encoding=encoding, signed_inputs=signed, tile_rows=20, **DESIGNS[design])
    weights, inputs = operands(spec)
    analog = program_analog(weights, spec.replace(device=DeviceSpec())).matmul(inputs)
    ideal = program(weights, spec).matmul(inputs)
    if spec.adc_hi is None:
        assert np.array_equal(analog, ideal)  # codes are whole numbers: every bit is the same
    else:
        assert np.abs(analog - ideal).max() <= 1e-12 * np.abs(ideal).max()


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_conductances_and_wires_of_a_device_are_those_of_the_crossbar(encoding):
    device = DeviceSpec(g_max_us=200.0, on_off_ratio=10.0, wire_ohm_per_cell=2.0)
    same = {"r_on_ohm": 5e3, "r_off_ohm": 5e4, "wire_ohm_per_cell": 2.0}
    spec = CrossbarSpec(encoding=encoding, tile_rows=20, tile_cols=3, adc_bits=6)
    weights, inputs = operands(spec)
    analog = program_analog(weights, spec.replace(device=device)).matmul(inputs)
    ideal = program(weights, spec.replace(**same)).matmul(inputs)
    assert np.abs(analog - ideal).max() <= 1e-9 * np.abs(ideal).max()


def test_crosssim_cases_hold_with_a_device_without_errors():
    for path in GOLDEN:
        case = np.load(path)
        config = json.loads(str(case["config"]))
        same = ("weight_bits slices cell_max input_bits signed_inputs input_bits_per_step encoding "
                "adc_lo adc_hi tile_rows tile_cols")  # fmt: skip
        ratio = config["r_off"] / config["r_on"] if config["r_off"] else 0.0
        device = DeviceSpec(
            g_max_us=1e6 / config["r_on"], on_off_ratio=ratio, wire_ohm_per_cell=config["wire_ohm_per_cell"]
        )
        spec = CrossbarSpec(
            adc_bits=config["adc_bits"] or None, device=device, **{key: config[key] for key in same.split()}
        )
        error = np.abs(program_analog(case["W"], spec).matmul(case["X"]) - case["Y"]).max() / np.abs(case["Y"]).max()
        assert error <= (1e-6 if path.stem.startswith("irdrop") else 1e-9), path.stem


# ---- a slow twin: every conversion by itself, from the drawn cells and converters


def slow_analog(weights, inputs, spec):
    described = spec.device
    device, nominal = described.resolved(), described.electrical(spec)
    r = 0.0 if spec.encoding == "differential" else nominal.off_on_ratio
    y = np.zeros((len(weights), inputs.shape[1]))
    for t, tile in enumerate(split_evenly(weights.shape[1], spec.tile_rows)):
        x = inputs[tile]
        groups = split_evenly(len(x), spec.rows_active)
        encoded = encode_tile(weights[:, tile], nominal, groups)
        cells = analog_tile(encoded.cells, nominal, device, spec.seed, t)
        y += encoded.digital[:, None] * x.sum(axis=0)
        for plane, k in enumerate(encoded.slice_of_plane):
            adc = nominal.converters_of(t)[k]
            errors = converter_errors(device, spec.seed, t, plane, len(weights), spec.tile_cols)
            for o in range(len(weights)):
                for b in range(x.shape[1]):
                    for group in groups:
                        if not encoded.cells[plane, o, group].any():
                            continue  # known to be empty: not read
                        for j in range(spec.steps):
                            pulse = np.abs(x[group, b]) >> (j * spec.bits_per_pulse) & spec.pulse_max
                            pulse = pulse * np.sign(x[group, b])
                            level = cells.sums[plane, o, group]
                            if cells.on_levels:
                                level = r * spec.cell_max + (1 - r) * level
                            zero = -adc.lo / adc.step
                            code = zero + (pulse @ level) / adc.step * (1 + errors.gain[o]) + errors.offset[o]
                            u = min(max(code / (adc.codes - 1), 0), 1)
                            code = u * (adc.codes - 1)
                            code += u * (1 - u) * (errors.bow[o] + errors.ess[o] * (1 - 2 * u))
                            value = adc.lo + adc.step * min(max(round(code), 0), adc.codes - 1)
                            value = value * cells.compensation - r * spec.cell_max * pulse.sum()
                            y[o, b] += encoded.gain[plane, o] * value / (1 - r) * 2 ** (j * spec.bits_per_pulse)
    return y


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_everything_at_once_equals_the_slow_twin(encoding, signed):
    device = DeviceSpec(drift_compensation=True, **EVERYTHING)
    spec = CrossbarSpec(encoding=encoding, signed_inputs=signed, tile_rows=20, rows_active=7, tile_cols=3, adc_bits=5,
                        adc_hi=6.0, device=device, seed=3)  # fmt: skip
    weights, inputs = operands(spec, batch=3)
    fast, slow = program(weights, spec).matmul(inputs), slow_analog(weights, inputs, spec)
    assert (
        np.abs(fast - slow).max() <= 1e-5 * np.abs(slow).max()
    )  # float32; no code may differ (they are 1e-3 and more)


# ---- single effects


def single_cells(levels, device, seed=0):
    """One plane of offset cells on `levels` [O, R]."""
    spec = CrossbarSpec(encoding="offset")
    return analog_tile(np.asarray(levels, dtype=np.int32)[None], device.electrical(spec), device.resolved(), seed, 0)


def test_programming_error_has_its_sigma_and_no_negative_conductance():
    levels = np.repeat([[0], [1], [2], [3]], 4000, axis=1)
    sums = single_cells(levels, DeviceSpec(programming_sigma=0.05)).sums[0]
    assert sums[1:].mean(axis=1) == pytest.approx([1, 2, 3], abs=4 * 0.15 / 4000**0.5)
    assert sums[1:].std(axis=1) == pytest.approx([0.15] * 3, rel=4 / 8000**0.5)
    assert sums.min() == 0.0 and (sums[0] == 0).mean() == pytest.approx(0.5, abs=4 * 0.5 / 4000**0.5)


def test_published_polynomials():
    levels = np.repeat([[0], [1], [2], [3]], 4000, axis=1)
    sums = single_cells(levels, DeviceSpec(preset="milo-2021")).sums[0] * 225 / 3
    assert sums.std(axis=1) == pytest.approx(
        [4.782 - 0.00911 * g for g in (50, 50 + 175 / 3, 50 + 350 / 3, 225)], rel=0.05
    )
    sums = single_cells(levels, DeviceSpec(preset="wan-2022-aihwkit")).sums[0] * 40 / 3
    g = 2 / 3
    sigma = 0.348 + 16.03 * g - 43.853 * g**2 + 45.393 * g**3 - 16.815 * g**4
    assert sums[2].std() == pytest.approx(sigma, rel=0.05)
    sums = single_cells(levels, DeviceSpec(preset="wan-2022")).sums[0] * 39.26 / 3
    assert sums[3].std() == pytest.approx(1.536e-4 * 39.26**3 - 0.01167 * 39.26**2 + 0.2374 * 39.26 + 1.053, rel=0.05)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_all_cells_stuck(encoding):
    spec = CrossbarSpec(encoding=encoding, adc_bits=None)
    weights, inputs = operands(spec)
    total = inputs.sum(axis=0)
    flipped = program(weights, spec.replace(device=DeviceSpec(stuck_on=1.0))).matmul(inputs)
    emptied = program(weights, spec.replace(device=DeviceSpec(stuck_off=1.0))).matmul(inputs)
    if encoding == "offset":  # u = 255 and u = 0
        assert np.array_equal(flipped, np.tile(127 * total, (5, 1)))
        assert np.array_equal(emptied, np.tile(-128 * total, (5, 1)))
    elif encoding == "flip":  # a complement stuck on is a 0, and the other way round
        assert np.array_equal(flipped + emptied, np.tile(-total, (5, 1)))
    else:
        assert not flipped.any() and not emptied.any()


def test_stuck_cells_are_as_many_as_said_and_stay_when_there_are_more():
    levels = np.full((100, 400), 1)

    def stuck(on, off):
        sums = single_cells(levels, DeviceSpec(stuck_on=on, stuck_off=off, on_off_ratio=9.0)).sums[0]
        return sums == 3, sums == 0

    on, off = stuck(0.02, 0.05)
    assert on.mean() == pytest.approx(0.02, abs=4 * (0.02 / 40000) ** 0.5)
    assert off.mean() == pytest.approx(0.05, abs=4 * (0.05 / 40000) ** 0.5)
    more_on, more_off = stuck(0.1, 0.06)
    assert (more_on >= on).all() and (more_off >= off).all()


def test_drift_is_a_power_law_and_compensation_undoes_it():
    spec = CrossbarSpec(encoding="differential", adc_bits=None)
    weights, inputs = operands(spec)
    drift = {"drift_nu_mean": 0.05, "drift_t0_s": 10.0}

    def product(**keys):
        return program(weights, spec.replace(device=DeviceSpec(**drift, **keys))).matmul(inputs)

    assert product(time_s=1e5) == pytest.approx(1e4**-0.05 * (weights @ inputs), rel=1e-4, abs=1)
    assert product(time_s=1e5, drift_compensation=True) == pytest.approx(weights @ inputs, rel=1e-5, abs=1)
    assert np.array_equal(product(time_s=10.0), weights @ inputs)


def test_drift_of_phase_change_cells():
    # Mean clip(0.0244 - 0.0155 ln g, 0.049, 0.1): 0.0414 at g = 1/3 and 0.0244 at g = 1, both below the least.
    device = DeviceSpec(preset="pcm-aihwkit", time_s=2e5, programming_sigma=0.0, read_noise_sigma=0.0)
    levels = np.repeat([[1], [3]], 20000, axis=1)
    sums = single_cells(levels, device).sums[0]
    nu = -np.log(sums / levels) / np.log(1e4)
    assert nu.mean(axis=1) == pytest.approx([0.049, 0.049], abs=0.0005)
    assert nu.std(axis=1) == pytest.approx([max(-0.0059 - 0.0125 * np.log(1 / 3), 0.008), 0.008], rel=0.03)


def test_converter_errors_by_hand():
    # One output, 1-bit cells, one slice used: u = 1, x ones in n of 15 rows give the sum n; ideal 4-bit codes are n. The
    # upper slice is known to be empty and not read.
    device = DeviceSpec(adc_offset_sigma_lsb=1.0)
    offset = converter_errors(device.resolved(), 5, 0, 0, 1, 128).offset[0]
    spec = CrossbarSpec(weight_bits=2, slices=2, cell_max=1, input_bits=1, adc_bits=(4, 4), device=device, seed=5)
    y = program(np.full((1, 15), -1), spec).matmul(np.tri(16, 15, -1, dtype=int).T)[0]
    n = np.arange(16)
    assert y.tolist() == (np.clip(np.rint(n + offset), 0, 15) - 2 * n).tolist()


def test_nonlinearity_has_its_peak_and_ends_at_0():
    device = DeviceSpec(adc_inl_lsb=2.0, columns_per_adc=4, adc_gain_sigma=0.1).resolved()
    errors = converter_errors(device, 1, 0, 0, 10, 128)
    u = np.linspace(0, 1, 2001)
    curves = u * (1 - u) * (errors.bow[:, None] + errors.ess[:, None] * (1 - 2 * u))
    assert np.abs(curves).max(axis=1) == pytest.approx([2.0] * 10, rel=1e-4)
    assert [len(set(errors.gain[part])) for part in (slice(0, 4), slice(4, 8), slice(0, 10))] == [1, 1, 3]


def test_wires_act_on_the_erring_cells():
    device = DeviceSpec(programming_sigma=0.1, wire_ohm_per_cell=20.0, stuck_on=0.1)
    plain = DeviceSpec(programming_sigma=0.1, stuck_on=0.1)
    levels = np.random.default_rng(0).integers(0, 4, (6, 8))
    siemens = single_cells(levels, plain).sums[0] / 3 * 1e-4
    wired = bitline_current_per_volt(siemens, 20.0) / 1e-4 * 3
    assert single_cells(levels, device).sums[0] == pytest.approx(wired, rel=1e-9)
    fast = single_cells(levels, DeviceSpec(**{**EVERYTHING, "wire_model": "fast"})).sums[0]
    exact = single_cells(levels, DeviceSpec(**EVERYTHING)).sums[0]
    assert fast == pytest.approx(exact, rel=0.01) and not np.array_equal(fast, exact)


# ---- chance


def test_one_effect_does_not_change_the_draws_of_another():
    levels = np.random.default_rng(0).integers(1, 4, (20, 30))
    alone = single_cells(levels, DeviceSpec(programming_sigma=0.05)).sums
    both = single_cells(levels, DeviceSpec(programming_sigma=0.05, stuck_on=0.1, read_noise_sigma=0.1)).sums
    stuck = single_cells(levels, DeviceSpec(stuck_on=0.1)).sums != levels
    free = ~stuck[0] & (levels != 3)
    assert np.array_equal(alone[0][free], both[0][free]) and not np.array_equal(alone, both)
    assert (both[0][stuck[0]] == 3).all()
    errors = [
        converter_errors(DeviceSpec(adc_gain_sigma=0.1, adc_inl_lsb=i).resolved(), 0, 0, 0, 9, 128) for i in (0.0, 1.0)
    ]
    assert np.array_equal(errors[0].gain, errors[1].gain)


def test_every_tile_plane_and_converter_has_draws_of_its_own():
    spec = CrossbarSpec(encoding="offset")
    device = DeviceSpec(programming_sigma=0.05, adc_gain_sigma=0.1)
    levels = np.ones((2, 3, 4), dtype=np.int32)
    sums = [analog_tile(levels, device.electrical(spec), device.resolved(), 0, tile).sums for tile in (0, 1)]
    assert len(np.unique(np.stack(sums))) == 2 * 2 * 3 * 4
    gains = [converter_errors(device.resolved(), 0, tile, plane, 1, 128).gain[0] for tile in (0, 1) for plane in (0, 1)]
    assert len(set(gains)) == 4


def test_a_seed_is_a_piece_of_hardware():
    spec = CrossbarSpec(tile_rows=20, adc_bits=7, device=DeviceSpec(read_noise_sigma=0.1, **EVERYTHING))
    weights, inputs = operands(spec)
    first, again, other = (program(weights, spec.replace(seed=s)).matmul(inputs) for s in (0, 0, 1))
    assert first.tobytes() == again.tobytes() and not np.array_equal(first, other)
    # The same cells serve inputs of other widths (a sign step is a stream of its own); an offset is added in every step.
    quiet = spec.replace(device=DeviceSpec(**{**EVERYTHING, "adc_offset_sigma_lsb": 0.0}))
    narrow = program(weights, quiet.replace(input_bits=7)).matmul(inputs >> 1)
    assert np.array_equal(narrow, program(weights, quiet).matmul(inputs >> 1))
    # Every column is a read of its own, and so is the same column among other ones.
    noisy = program(weights, spec)
    twice = noisy.matmul(np.repeat(inputs[:, :1], 2, axis=1))
    assert not np.array_equal(twice[:, 0], twice[:, 1]) and not np.array_equal(twice[:, 0], first[:, 0])


def test_only_an_untouched_linear_crossbar_is_lossless():
    spec = CrossbarSpec(adc_bits=None)
    weights, _ = operands(spec)
    assert program_analog(weights, spec.replace(device=DeviceSpec(preset="neurosim-rram"))).lossless_share == 1.0
    for device in (DeviceSpec(stuck_on=1e-3), DeviceSpec(wire_ohm_per_cell=0.1), DeviceSpec(read_noise_sigma=0.1)):
        assert program(weights, spec.replace(device=device)).lossless_share == 0.0


def test_wrong_operands_are_refused_as_by_the_ideal_crossbar():
    spec = CrossbarSpec(device=DeviceSpec(programming_sigma=0.1))
    with pytest.raises(InputError, match=r"weights must be whole numbers, got 0\.5 at"):
        program_analog(np.full((2, 3), 0.5), spec)
    with pytest.raises(InputError, match="inputs must have 3 rows, one per column of the weights, got 4"):
        program_analog(np.ones((2, 3), dtype=int), spec).matmul(np.ones((4, 1), dtype=int))
    nested = spec.replace(adc_bits=((8, 8, 8, 8), (8, 8, 8, 8)))
    with pytest.raises(InputError, match="converters are given for 2 row tiles, but 3 inputs"):
        program_analog(np.ones((2, 3), dtype=int), nested)
