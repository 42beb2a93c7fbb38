"""Hardware arithmetic in the executor, against integers computed by hand in NumPy."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import picojoule as pj
from picojoule.models.zoo import build, example_inputs
from picojoule.sim.attributes import MAC_OPS
from picojoule.sim.errors import InputError
from picojoule.sim.formats import Granularity, integer_format, parse_format
from picojoule.sim.hardware import load_hardware
from picojoule.sim.numerics.calibration import Calibration, Quantizer, calibrate
from picojoule.sim.numerics.executor import Executor
from picojoule.sim.numerics.quantize import best_step, cast_float, codes, wrap
from picojoule.sim.numerics.torch_importer import from_module
from picojoule.sim.protocol import Arithmetic

INT8 = Arithmetic(weight=integer_format(8, per=Granularity.CHANNEL), activation=integer_format(8), accumulator_bits=32)


class Spy:
    """An integer product that is exact but claims not to be, so that the hardware path (im2col, groups) is taken."""

    exact = False

    def __init__(self, weights):
        self.weights = weights

    def matmul(self, inputs, *, signed=None):
        assert signed is not None
        assert np.array_equal(inputs, np.rint(inputs))
        return self.weights.astype(np.float64) @ np.asarray(inputs, dtype=np.float64)


HARDWARE = replace(INT8, program=Spy)
LAYERS = [
    (nn.Conv2d(6, 8, 3, stride=2, padding=1, groups=2), (6, 9, 7)),
    (nn.Conv2d(4, 4, (3, 1), padding=(2, 0), dilation=2, groups=4, bias=False), (4, 8, 8)),
    (nn.Conv1d(3, 5, 4, stride=3), (3, 20)),
    (nn.Conv3d(2, 3, 2, padding=1), (2, 4, 5, 3)),
    (nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2, dilation=1), (4, 5, 6)),
    (nn.Linear(7, 5), (3, 7)),
]


@pytest.mark.parametrize(
    ("module", "shape"), LAYERS, ids=[type(m).__name__ + str(i) for i, (m, _) in enumerate(LAYERS)]
)
def test_the_hardware_path_computes_the_integer_product(module, shape):
    torch.manual_seed(3)
    x = torch.randn(4, *shape)
    network = from_module(module, (x,))
    calibration = calibrate(network, [(x,)], lambda _: INT8)
    with torch.no_grad():
        exact = Executor(network, arithmetic=lambda _: INT8, calibration=calibration).run((x,))[0]
        through = Executor(network, arithmetic=lambda _: HARDWARE, calibration=calibration).run((x,))[0]
        plain = module(x)
    assert torch.equal(exact, through)
    # 8-bit rounding of both operands: well below 2 % of the largest output, and not zero.
    error = float((exact - plain).abs().max() / plain.abs().max())
    assert 0 < error < 0.02


def test_a_linear_layer_equals_integers_by_hand():
    module = nn.Linear(3, 2)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[1.0, -0.45, 0.25], [0.1, 0.19, -0.4]]))
        module.bias.copy_(torch.tensor([0.3, -0.2]))
    x = torch.tensor([[0.5, -1.0, 0.75]])
    network = from_module(module, (x,))
    form = integer_format(4, per=Granularity.CHANNEL)
    arithmetic = Arithmetic(weight=form, activation=integer_format(4), accumulator_bits=16)
    quantizer = Quantizer(format=integer_format(4), step=0.25)
    calibration = Calibration(quantizers={("linear", network.inputs[0].name): quantizer})
    operand = replace(network.layers[0].operands[1], step=(1 / 7, 0.4 / 7))
    layer = replace(network.layers[0], operands=(network.layers[0].operands[0], operand, network.layers[0].operands[2]))
    with torch.no_grad():
        got = Executor(network.with_layers((layer,)), arithmetic=lambda _: arithmetic, calibration=calibration).run(
            (x,)
        )[0]
    x_codes = np.array([2, -4, 3])
    w_codes = np.array([[7, -3, 2], [2, 3, -7]])  # weight / step, rounded: -3.15, 1.75, 1.75, 3.325
    unit = 0.25 * np.array([1 / 7, 0.4 / 7])
    bias = np.rint(np.array([0.3, -0.2]) / unit * 256) / 256  # in 1/256 of an accumulator unit
    expected = (w_codes @ x_codes + bias) * unit
    np.testing.assert_allclose(got.numpy()[0], expected, rtol=1e-6)


def test_gradients_reach_every_parameter_also_through_folded_norms():
    module = build("resnet20")
    x = example_inputs("resnet20", batch=2)[0]
    twin = pj.hardware_twin(module, (x,), "edge-16x16")
    twin(x).square().sum().backward()
    missing = [name for name, p in module.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert missing == []
    assert {id(p) for p in twin.parameters()} == {id(p) for p in module.parameters()}


def test_the_straight_through_gradient_is_the_float_gradient_at_high_precision():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4))
    x = torch.rand(2, 2, 6, 6)
    module(x).square().sum().backward()
    plain = module[0].weight.grad.clone()
    module.zero_grad()
    wide = load_hardware("edge-16x16", {"weight_bits": 16, "activation_bits": 16, "accumulator_bits": 48})
    pj.hardware_twin(module, (x,), wide)(x).square().sum().backward()
    torch.testing.assert_close(module[0].weight.grad, plain, rtol=2e-3, atol=2e-3)


def test_the_twin_sees_weights_that_change_under_it():
    module = nn.Sequential(nn.Linear(4, 3))
    x = torch.rand(5, 4)
    twin = pj.hardware_twin(module, (x,), "edge-16x16")
    with torch.no_grad():
        before = twin(x)
        module[0].weight.mul_(2)
        module[0].bias.mul_(2)
        torch.testing.assert_close(twin(x), 2 * before, rtol=1e-5, atol=1e-6)


def test_a_stated_step_and_an_unsigned_range_are_used():
    module = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    x = torch.randn(16, 4)
    network = from_module(module, (x,))
    calibration = calibrate(network, [(x,)], lambda _: INT8)
    formats = [q.format for q in calibration.quantizers.values()]
    assert [f.signed for f in formats] == [True, False]
    first = network.layers[0]
    stated = replace(first, operands=(replace(first.operands[0], step=(0.125,)), *first.operands[1:]))
    again = calibrate(network.with_layers((stated, *network.layers[1:])), [(x,)], lambda _: INT8)
    assert again.quantizers[first.name, first.operands[0].name].step == 0.125


def test_narrow_accumulators_wrap_around():
    module = nn.Linear(64, 1, bias=False)
    nn.init.ones_(module.weight)
    x = torch.ones(1, 64)
    network = from_module(module, (x,))
    narrow = replace(INT8, accumulator_bits=16)
    quantizers = {
        (layer.name, network.inputs[0].name): Quantizer(format=integer_format(8), step=1 / 127)
        for layer in network.layers
    }
    calibration = Calibration(quantizers=quantizers)
    with torch.no_grad():
        got = Executor(network, arithmetic=lambda _: narrow, calibration=calibration).run((x,))[0].item()
    total = 64 * 127 * 127
    wrapped = (total + 2**15) % 2**16 - 2**15
    assert got == pytest.approx(wrapped / 127**2, rel=1e-5)


def test_an_input_of_another_shape_is_refused():
    network = pj.load("lenet5")
    with pytest.raises(InputError, match=r"^input 'x' must have shape \['batch', 1, 28, 28\], got \[1, 28, 28\]$"):
        pj.run(network, torch.zeros(1, 28, 28))
    with pytest.raises(InputError, match=r"^lenet5 takes 1 input\(s\), got 2$"):
        pj.run(network, [torch.zeros(1, 1, 28, 28)] * 2)


def test_calibration_needs_data():
    network = pj.load("lenet5")
    with pytest.raises(InputError, match="at least one batch"):
        calibrate(network, [], lambda _: INT8)


def test_eight_bits_keep_the_scores_of_a_network():
    module = build("dscnn-fashion")
    x = example_inputs("dscnn-fashion", batch=8)[0]
    twin = pj.hardware_twin(module, (x,), "edge-16x16")
    with torch.no_grad():
        exact, ours = module(x), twin(x)
    noise = float((exact - ours).square().mean() / exact.square().mean())
    assert 0 < noise < 1e-2  # better than 20 dB


def test_every_mac_layer_of_a_network_is_calibrated():
    network = pj.load("resnet20")
    x = example_inputs("resnet20", batch=2)
    found = calibrate(network, [x], lambda _: INT8).quantizers
    assert {layer for layer, _ in found} == {layer.name for layer in network.layers if layer.op in MAC_OPS}


@given(bits=st.integers(2, 12), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_codes_stay_in_range_and_the_step_search_beats_the_full_range(bits, seed):
    x = torch.randn(200, generator=torch.Generator().manual_seed(seed))
    form = integer_format(bits)
    step = best_step(x, form)
    made = codes(x, step, form)
    assert made.abs().max() <= form.qmax
    assert torch.equal(made, made.round())
    full = x.abs().max() / form.qmax
    error = (made * step - x).square().sum()
    plain = ((x / full).round() * full - x).square().sum()
    assert error <= plain * (1 + 1e-6)


def test_float_formats_round_to_representable_values():
    x = torch.tensor([0.0, 1.0, 1.06, 448.0, 1e6, -3.3, 2.0**-9, 1e-9])
    got = cast_float(x, parse_format("fp8_e4m3"))
    # 3 mantissa bits, bias 7, largest finite 240 (IEEE-like, the top exponent reserved), subnormal step 2^-9.
    expected = torch.tensor([0.0, 1.0, 1.0, 240.0, 240.0, -3.25, 2.0**-9, 0.0])
    assert torch.equal(got, expected)
    assert torch.equal(cast_float(x, parse_format("fp16")), x.half().float().clamp(-65504, 65504))


def test_wrapping_is_modular_arithmetic():
    x = torch.arange(-300, 300, dtype=torch.float64)
    assert torch.equal(wrap(x, 8), torch.from_numpy(x.numpy().astype(np.int64).astype(np.int8).astype(np.float64)))


class Stack(nn.Module):
    def __init__(self, k, n):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, k, n, generator=torch.Generator().manual_seed(0)))

    def forward(self, x):
        return x @ self.weight


class First(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 8, generator=torch.Generator().manual_seed(0)))

    def forward(self, x):
        return self.weight @ x


class Shared(nn.Module):
    def forward(self, x):
        return F.relu(x) + x @ x


@pytest.mark.parametrize(
    "module", [Stack(8, 8), Stack(8, 6), First(), Shared()], ids=["square", "stack", "first", "shared"]
)
@pytest.mark.parametrize("hardware", ["edge-16x16", "isaac"])
def test_products_of_unusual_operands_stay_close_to_floating_point(module, hardware):
    x = torch.randn(2, 4, 8, 8)
    twin = pj.hardware_twin(module, (x,), hardware)
    with torch.no_grad():
        exact, ours = module(x), twin(x)
    assert float((exact - ours).abs().max() / exact.abs().max()) < 0.03
    pj.evaluate(pj.trace(module, (x,)), hardware, chips=None)


def test_a_stated_signed_format_with_its_step_keeps_its_range():
    module = nn.Sequential(nn.Linear(4, 3))
    x = torch.rand(16, 4)
    network = from_module(module, (x,))
    first = network.layers[0]
    stated = replace(first.operands[0], step=(0.1,), format=parse_format("int4"))
    network = network.with_layers((replace(first, operands=(stated, *first.operands[1:])),))
    narrow = replace(INT8, activation=parse_format("int4"))
    quantizer = calibrate(network, [(x,)], lambda _: narrow).quantizers[first.name, stated.name]
    assert (str(quantizer.format), quantizer.step) == ("int4", 0.1)


def test_the_largest_weight_keeps_its_gradient():
    x = torch.randn(64, 40, generator=torch.Generator().manual_seed(5), requires_grad=True)
    form = integer_format(8, per=Granularity.CHANNEL)
    codes(x, best_step(x, form, 0), form).sum().backward()
    assert bool((x.grad != 0).all())
