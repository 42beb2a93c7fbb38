"""Read noise drawn once per output or column sum, against a twin that draws it for every cell in every read."""

import numpy as np
import pytest

from picojoule.reram.analog_cells import analog_tile
from picojoule.reram.analog_streaming import _normal_quantiles
from picojoule.reram.arithmetic import program
from picojoule.reram.crossbar import CrossbarSpec
from picojoule.reram.devices import DeviceSpec
from picojoule.reram.encoding import encode_tile
from picojoule.reram.wires import bitline_current_per_volt

READS = 20_000
ENCODINGS = ("offset", "differential", "flip", "split")


def small(encoding, signed=False, **changes):
    device = DeviceSpec(read_noise_sigma=0.2, on_off_ratio=12.0)
    return CrossbarSpec(encoding=encoding, signed_inputs=signed, weight_bits=4, slices=2, cell_max=3, input_bits=3,
                        tile_rows=16, device=device, **changes)  # fmt: skip


def one_read(spec, seed):
    rng = np.random.default_rng(seed)
    low, high = spec.weight_range
    weights = rng.integers(low, high + 1, (2, 12))
    return weights, rng.integers(spec.input_range[0], spec.input_range[1] + 1, (12, 1))


def every_cell_drawn(weights, x, spec, seed):
    """[O, reads]: each cell of each plane (and polarity) scatters by itself in each step of each read."""
    rng = np.random.default_rng([seed, 99])
    nominal = spec.device.electrical(spec)
    encoded = encode_tile(weights, nominal, [slice(0, len(x))])
    r, q, sigma = nominal.off_on_ratio, spec.cell_max, spec.device.read_noise_sigma
    pairs = spec.encoding == "differential"
    y = np.zeros((len(weights), READS)) + (encoded.digital * x.sum())[:, None]
    for plane, k in enumerate(encoded.slice_of_plane):
        for j in range(spec.steps):
            pulse = (np.abs(x[:, 0]) >> j & 1) * np.sign(x[:, 0])
            for o, levels in enumerate(encoded.cells[plane]):
                polarities = [np.maximum(levels, 0), np.maximum(-levels, 0)] if pairs else [levels]
                sums = [
                    (q * (r + (1 - r) * level / q) * (1 + sigma * rng.standard_normal((READS, len(x))))) @ pulse
                    for level in polarities
                ]
                total = (sums[0] - sums[1]) / (1 - r) if pairs else sums[0]
                if spec.adc_bits is not None:
                    adc = nominal.converters_of(0)[k]
                    adc.convert(total)
                    total = adc.lo + adc.step * total
                if not pairs:
                    total = (total - r * q * pulse.sum()) / (1 - r)
                y[o] += encoded.gain[plane, o] * 2**j * total
    return y


def kurtosis(samples):
    centred = samples - samples.mean(axis=1, keepdims=True)
    return (centred**4).mean(axis=1) / (centred**2).mean(axis=1) ** 2


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("encoding", "signed"), [("offset", False), ("differential", True), ("split", False)])
def test_one_gaussian_per_output_has_the_moments_of_one_per_cell(encoding, signed, seed):
    spec = small(encoding, signed, adc_bits=None, seed=seed)
    weights, x = one_read(spec, seed)
    folded = program(weights, spec).matmul(np.repeat(x, READS, axis=1))
    drawn = every_cell_drawn(weights, x, spec, seed)
    deviation = drawn.std(axis=1)
    # Four standard errors of each estimate; both sides are estimates.
    assert np.abs(folded.mean(axis=1) - weights @ x[:, 0]).max() < (4 * deviation / READS**0.5).max()
    assert folded.std(axis=1) == pytest.approx(deviation, rel=4 / READS**0.5)
    assert kurtosis(folded) == pytest.approx([3, 3], abs=4 * (24 / READS) ** 0.5)
    assert np.abs(np.corrcoef(folded)[0, 1]) < 4 / READS**0.5


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_converted_noise_is_distributed_as_that_of_every_cell(encoding):
    spec = small(encoding, adc_bits=4, adc_hi=3.1, seed=1)  # 16 codes (15 with a sign) 0.62 (1.33) units apart
    weights, x = one_read(spec, 3)
    folded = program(weights, spec).matmul(np.repeat(x, READS, axis=1))
    drawn = every_cell_drawn(weights, x, spec, 1)
    exact = program(weights, spec.replace(device=DeviceSpec(on_off_ratio=12.0))).matmul(x)
    for one, other in zip(folded, drawn, strict=True):
        assert abs(one.mean() - other.mean()) < 4 * other.std() * (2 / READS) ** 0.5
        error_of_std = (
            (kurtosis(other[None])[0] - 1) / 2 / READS
        ) ** 0.5  # relative, of the difference of two estimates
        assert one.std() == pytest.approx(other.std(), rel=4 * error_of_std)
        assert one.std() > 0
        every = np.unique(np.round(np.concatenate([one, other]), 6))
        apart = [np.searchsorted(np.sort(np.round(s, 6)), every, side="right") / READS for s in (one, other)]
        assert np.abs(apart[0] - apart[1]).max() < 1.95 * (2 / READS) ** 0.5  # Kolmogorov-Smirnov, 0.1 %
    assert np.abs(folded - exact).max() > 0


def test_other_inputs_read_other_noise():
    for adc_bits in (None, 8):
        spec = small("offset", adc_bits=adc_bits)
        weights, x = one_read(spec, 0)
        both = np.concatenate([x, x ^ 1], axis=1)
        here = program(weights, spec)
        assert np.array_equal(here.matmul(both), here.matmul(both))
        assert not np.array_equal(here.matmul(both)[:, 0], here.matmul(np.repeat(x, 2, axis=1))[:, 0])


def test_quantiles_stand_for_a_normal_variable():
    values = _normal_quantiles().astype(np.float64)
    assert len(values) == 1 << 16 and (np.diff(values) > 0).all()
    assert [np.mean(values**n) for n in (1, 2, 3, 4)] == pytest.approx([0, 1, 0, 3], abs=1e-3)


def test_noise_of_phase_change_cells_follows_its_law():
    device = DeviceSpec(preset="pcm-aihwkit", programming_sigma=0.0)
    spec = CrossbarSpec(encoding="offset")
    levels = np.array([[[1, 3]]], dtype=np.int32)
    tile = analog_tile(levels, device.electrical(spec), device.resolved(), 0, 0)
    growth = np.sqrt(np.log((20 + 250e-9) / 500e-9))
    wanted = [0.0088 * 3**0.65 * growth * 1, 0.0088 * growth * 3]
    assert np.sqrt(tile.variance[0, 0]) == pytest.approx(wanted, rel=1e-6)


def test_noise_behind_wires_is_within_its_stated_error():
    # 16 x 16 cells of 10 kohm, 10 ohm: wires take 10 % of the current, the noise is taken 6 % too large.
    rng = np.random.default_rng(0)
    levels, x = rng.integers(0, 4, (16, 16)), rng.integers(0, 2, 16)
    device = DeviceSpec(g_max_us=100.0, read_noise_sigma=0.05, wire_ohm_per_cell=10.0)
    spec = CrossbarSpec(encoding="offset")
    tile = analog_tile(levels[None].astype(np.int32), device.electrical(spec), device.resolved(), 0, 0)
    siemens = levels / 3 * 1e-4
    reads = [
        bitline_current_per_volt(np.maximum(siemens * (1 + 0.05 * rng.standard_normal((16, 16))), 0), 10.0) @ x
        for _ in range(300)
    ]
    ratio = np.std(reads, axis=0) / 1e-4 * 3 / np.sqrt(tile.variance[0] @ x)
    assert ratio.mean() == pytest.approx(0.944, abs=4 / 600**0.5 / 4)
