"""Fake quantisers and quantise/dequantise nodes of torch arrive as number formats and steps, and run as eager."""

import pytest
import torch
from torch import nn
from torch.ao.quantization.fx._decomposed import quantized_decomposed_lib

import picojoule as pj
from picojoule.sim.attributes import Op, QuantizeKind
from picojoule.sim.formats import integer_format
from picojoule.sim.numerics.executor import Executor
from picojoule.sim.numerics.torch_importer import from_module

assert quantized_decomposed_lib  # importing it registers the operators
quantized = torch.ops.quantized_decomposed


class Quantized(nn.Module):
    """A linear layer whose weight and input go through the given quantisers."""

    def __init__(self, weight=lambda w: w, activation=lambda x: x):
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Linear(6, 4)
        self.register_buffer("scales", torch.tensor([0.02, 0.03, 0.04, 0.05]))
        self.register_buffer("zeros", torch.zeros(4, dtype=torch.int32))
        self.weight, self.activation = weight, activation

    def forward(self, x):
        x = self.activation(torch.relu(x))
        return nn.functional.linear(x, self.weight(self.fc.weight), self.fc.bias)


def check(module, inputs=None):
    network = from_module(module.eval(), inputs or (torch.randn(2, 6),))
    assert not network.unsupported
    for batch in (1, 3):
        x = torch.randn(batch, *(inputs[0].shape[1:] if inputs else (6,)))
        with torch.no_grad():
            torch.testing.assert_close(Executor(network).run((x,))[0], module(x), rtol=1e-5, atol=1e-5)
    return network


def linear_of(network):
    return next(layer for layer in network.layers if layer.op is Op.LINEAR)


def test_a_fake_quantised_weight_states_its_format_and_step():
    network = check(Quantized(weight=lambda w: torch.fake_quantize_per_tensor_affine(w, 0.05, 0, -8, 7)))
    weight = linear_of(network).operands[1]
    assert (str(weight.format), weight.step) == ("int4", (0.05,))
    assert [layer.op for layer in network.layers] == [Op.ACTIVATION, Op.LINEAR]


def test_a_weight_quantised_per_channel_states_a_step_per_channel():
    module = Quantized()
    module.weight = lambda w: torch.fake_quantize_per_channel_affine(w, module.scales, module.zeros, 0, -127, 127)
    weight = linear_of(check(module)).operands[1]
    assert weight.format == integer_format(8).per_channel()
    assert weight.step == pytest.approx((0.02, 0.03, 0.04, 0.05))


def test_stored_integer_codes_state_their_format_and_step():
    class Stored(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("codes", torch.randint(-127, 128, (4, 6), dtype=torch.int8))

        def forward(self, x):
            weight = quantized.dequantize_per_tensor(self.codes, 0.02, 0, -128, 127, torch.int8)
            return nn.functional.linear(x, weight)

    weight = linear_of(check(Stored())).operands[1]
    assert (str(weight.format), weight.step) == ("int8", (0.02,))


def test_a_weight_with_a_zero_point_keeps_its_format_and_says_so():
    network = check(Quantized(weight=lambda w: torch.fake_quantize_per_tensor_affine(w, 0.05, 3, 0, 15)))
    weight = linear_of(network).operands[1]
    assert (str(weight.format), weight.step) == ("int4", None)
    assert network.notes == (
        "'fake_quantize_per_tensor_affine' is quantised with a zero point; integer hardware here has none and takes it as int4",
    )


def test_a_fake_quantised_activation_is_written_and_read_narrow():
    network = check(Quantized(activation=lambda x: torch.fake_quantize_per_tensor_affine(x, 0.1, 0, 0, 255)))
    relu, fake, linear = network.layers
    assert fake.attributes.kind is QuantizeKind.FAKE
    assert (fake.attributes.low, fake.attributes.high) == (0, 255)
    assert str(fake.operands[0].format) == "uint8"
    assert str(fake.results[0].format) == "uint8"
    assert (str(linear.operands[0].format), linear.operands[0].step) == ("uint8", (0.1,))
    assert relu.results[0].name == fake.operands[0].name


def test_a_quantise_dequantise_pair_states_the_format_through_a_reshape():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(16, 3)

        def forward(self, x):
            codes = quantized.quantize_per_tensor(x, 0.05, 0, -128, 127, torch.int8)
            x = quantized.dequantize_per_tensor(codes, 0.05, 0, -128, 127, torch.int8)
            return self.fc(nn.functional.max_pool2d(x, 2).flatten(1))

    network = check(Pair(), (torch.randn(2, 4, 4, 4),))
    kinds = [layer.attributes.kind for layer in network.layers if layer.op is Op.QUANTIZE]
    assert kinds == [QuantizeKind.QUANTIZE, QuantizeKind.DEQUANTIZE]
    assert (str(linear_of(network).operands[0].format), linear_of(network).operands[0].step) == ("int8", (0.05,))


@pytest.mark.filterwarnings("ignore")
def test_quantisation_aware_training_in_evaluation_is_read():
    from torch.ao import quantization as tq

    torch.manual_seed(0)
    module = nn.Sequential(tq.QuantStub(), nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 16, 3))
    module.train()
    module.qconfig = tq.QConfig(
        activation=tq.FakeQuantize.with_args(
            observer=tq.MovingAverageMinMaxObserver, quant_min=0, quant_max=255, dtype=torch.quint8
        ),
        weight=tq.default_weight_fake_quant,
    )
    tq.prepare_qat(module, inplace=True)
    module(torch.rand(8, 1, 6, 6))
    module.eval()
    module.apply(tq.disable_observer)
    network = from_module(module, (torch.rand(2, 1, 6, 6),))
    assert not network.unsupported
    conv, linear = (y for y in network.layers if y.op in (Op.CONV, Op.LINEAR))
    assert (str(conv.operands[1].format), str(linear.operands[1].format)) == ("int8", "int8")
    assert str(conv.operands[0].format) == "uint8"
    assert conv.operands[0].step == pytest.approx((float(module[0].activation_post_process.scale),))
    x = torch.rand(3, 1, 6, 6)
    with torch.no_grad():
        torch.testing.assert_close(Executor(network).run((x,))[0], module(x), rtol=1e-5, atol=1e-5)


def test_stated_formats_are_priced_narrow():
    wide = pj.evaluate(pj.trace(Quantized().eval(), torch.randn(2, 6)), "edge-16x16")
    quantise = lambda w: torch.fake_quantize_per_tensor_affine(w, 0.05, 0, -2, 1)  # noqa: E731
    narrow = pj.evaluate(pj.trace(Quantized(weight=quantise).eval(), torch.randn(2, 6)), "edge-16x16")
    assert narrow.totals["weight_bytes"] == wide.totals["weight_bytes"] - 24 * 8 // 8 + 24 * 2 // 8
