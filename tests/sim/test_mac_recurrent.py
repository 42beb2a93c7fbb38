"""Recurrent layers and stacked weights in hardware arithmetic, against integers computed in NumPy."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from picojoule.sim import attributes as at
from picojoule.sim.attributes import Op, RecurrentKind
from picojoule.sim.builder import NetworkBuilder, parameter
from picojoule.sim.errors import InputError
from picojoule.sim.formats import Granularity, integer_format, parse_format
from picojoule.sim.hardware import load_hardware
from picojoule.sim.ir import TensorType
from picojoule.sim.numerics.calibration import Calibration, Quantizer, calibrate
from picojoule.sim.numerics.executor import Executor
from picojoule.sim.protocol import Arithmetic
from picojoule.sim.weights import Weights, from_array

STEPS, BATCH, HIDDEN = 9, 4, 12
INT8 = Arithmetic(weight=integer_format(8, per=Granularity.CHANNEL), activation=integer_format(8), accumulator_bits=32)
EIGHT = {"weight_bits": 8, "activation_bits": 8}


def seeded(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def network_of(kind=RecurrentKind.LSTM, weight=None, *, state=False, bias=True, **extra):
    rows = at.GATES[kind] * HIDDEN
    builder = NetworkBuilder("recurrent")
    weight = weight or from_array((0.4 * seeded(rows, HIDDEN)).numpy())
    operands = [builder.input("gates", TensorType(shape=(STEPS, 1, rows), batch_axis=1)), parameter("r", weight)]
    operands += [parameter("b", from_array(seeded(rows, seed=1).numpy()))] if bias else []
    count = (2 if kind is RecurrentKind.LSTM else 1) if state else 0
    operands += [builder.input(f"s{i}", TensorType(shape=(1, HIDDEN), batch_axis=0)) for i in range(count)]
    attributes = at.RecurrentAttributes(kind=kind, hidden=HIDDEN, has_bias=bias, has_state=state, **extra)
    return builder.finish(builder.add(Op.RECURRENT, operands, attributes, name="rnn"))


def gates_of(kind=RecurrentKind.LSTM):
    return seeded(STEPS, BATCH, at.GATES[kind] * HIDDEN, seed=2)


def run(network, *inputs, arithmetic=None, calibration=None):
    with torch.no_grad():
        return Executor(network, arithmetic=arithmetic, calibration=calibration).run(inputs)


def test_an_integer_lstm_by_hand():
    weight, bias = (0.4 * seeded(4 * HIDDEN, HIDDEN)).numpy(), seeded(4 * HIDDEN, seed=1).numpy()
    x = gates_of().numpy()
    step_w = np.abs(weight).max(1, keepdims=True) / np.float32(127)
    codes_w = np.rint(weight / step_w)
    unit = (np.float32(1 / 127) * step_w[:, 0]).astype(np.float64)
    bias = np.rint(bias / unit * 256) / 256 * unit  # the requantiser holds a bias in 1/256 of an accumulator unit

    def sigmoid(v):
        return 1 / (1 + np.exp(-v))

    h = c = np.zeros((BATCH, HIDDEN))
    for t in range(STEPS):
        codes_h = np.clip(np.rint(h * 127), -127, 127)
        i, f, g, o = np.split(x[t] + codes_h @ codes_w.T * unit + bias, 4, 1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
    got = run(network_of(), torch.tensor(x), arithmetic=lambda _: INT8)
    np.testing.assert_allclose(got[1], h, atol=2e-5)
    np.testing.assert_allclose(got[2], c, atol=2e-5)


class Seen:
    """A product in the hardware that claims not to be exact, so that it is really asked, and counts what it is asked."""

    exact = False

    def __init__(self, held, calls):
        self.held, self.calls = held, calls

    def matmul(self, inputs, *, signed=None):
        self.calls.append(inputs.shape)
        return self.held.matmul(inputs, signed=signed)


@pytest.mark.parametrize("kind", list(RecurrentKind), ids=str)
@pytest.mark.parametrize("encoding", ["offset", "flip", "differential"])
def test_a_crossbar_with_a_wide_adc_equals_the_integer_network_bit_for_bit(kind, encoding):
    wide = load_hardware("isaac", {**EIGHT, "encoding": encoding, "adc_bits": 12})
    network, x = network_of(kind), gates_of(kind)
    programmed, calls = [], []

    def through(layer):
        arithmetic = wide.arithmetic(layer)

        def program(weights):
            programmed.append(weights.shape)
            return Seen(arithmetic.program(weights), calls)

        return replace(arithmetic, program=program)

    def integers(layer):
        return replace(wide.arithmetic(layer), program=None)

    calibration = calibrate(network, [(x,)], integers)
    ours = run(network, x, arithmetic=through, calibration=calibration)
    exact = run(network, x, arithmetic=integers, calibration=calibration)
    assert all(torch.equal(a, b) for a, b in zip(ours, exact, strict=True))
    assert programmed == [(at.GATES[kind] * HIDDEN, HIDDEN)]  # once, for all steps
    assert calls == [(HIDDEN, BATCH)] * STEPS
    plain = run(network, x)
    noise = float((ours[0] - plain[0]).square().mean() / plain[0].square().mean())
    assert 0 < noise < 1e-3


def test_a_narrow_adc_costs_accuracy():
    network, x = network_of(weight=from_array(seeded(4 * HIDDEN, HIDDEN).numpy())), gates_of()
    exact, wide, narrow = (
        run(network, x, arithmetic=load_hardware("isaac", {**EIGHT, "adc_bits": bits}).arithmetic)[0]
        if bits
        else run(network, x)[0]
        for bits in (None, 8, 3)
    )
    assert float((narrow - exact).square().mean()) > 4 * float((wide - exact).square().mean())


@pytest.mark.parametrize("hardware", ["edge-16x16", "isaac"])
def test_gradients_pass_straight_through_every_step(hardware):
    held = (0.4 * seeded(4 * HIDDEN, HIDDEN)).requires_grad_()
    weight = Weights(shape=tuple(held.shape), load=lambda: held.detach().numpy(), origin=lambda: held)
    network, x = network_of(weight=weight), gates_of()
    options = {} if hardware == "edge-16x16" else {**EIGHT, "adc_bits": 4}
    grads = []
    for arithmetic in (None, load_hardware(hardware, options).arithmetic):
        held.grad = None
        Executor(network, arithmetic=arithmetic).run([x])[0].square().sum().backward()
        grads.append(held.grad.clone())
    cosine = torch.nn.functional.cosine_similarity(grads[0].flatten(), grads[1].flatten(), dim=0)
    assert float(cosine) > 0.95


def test_narrow_accumulators_wrap_in_every_step():
    weight = from_array(np.ones((HIDDEN, HIDDEN), dtype=np.float32))
    network = network_of(RecurrentKind.RNN_TANH, weight, bias=False)
    x = 5 * torch.ones(STEPS, 1, HIDDEN)
    narrow = replace(INT8, accumulator_bits=16)
    (y, _) = run(network, x, arithmetic=lambda _: narrow)
    h = np.tanh(np.float32(5))
    for t in range(1, STEPS):
        total = HIDDEN * np.rint(h * 127) * 127
        wrapped = (total + 2**15) % 2**16 - 2**15
        h = np.tanh(5 + wrapped / 127**2)
        assert float(y[t, 0, 0]) == pytest.approx(h, abs=1e-5)


def test_a_state_that_nothing_bounds_needs_calibration():
    inputs = {
        False: (gates_of(RecurrentKind.RNN_RELU),),
        True: (gates_of(), 3 * seeded(BATCH, HIDDEN), seeded(BATCH, HIDDEN)),
    }
    for state, kind in ((False, RecurrentKind.RNN_RELU), (True, RecurrentKind.LSTM)):
        network = network_of(kind, state=state)
        with pytest.raises(
            InputError,
            match=r"^layer 'rnn': its hidden state was never calibrated, and with a ReLU cell or a given initial state "
            r"nothing bounds it, so its integer step is unknown; calibrate with training data$",
        ):
            run(network, *inputs[state], arithmetic=lambda _: INT8)
        calibration = calibrate(network, [inputs[state]], lambda _: INT8)
        (quantizer,) = calibration.quantizers.values()
        assert quantizer.format.signed is state  # a ReLU's state has no sign
        plain = run(network, *inputs[state])
        ours = run(network, *inputs[state], arithmetic=lambda _: INT8, calibration=calibration)
        assert float((ours[0] - plain[0]).square().mean() / plain[0].square().mean()) < 1e-3


def test_float_formats_round_the_weight_and_the_state():
    coarse = Arithmetic(weight=parse_format("fp8_e4m3"), activation=parse_format("fp8_e4m3"))
    plain = run(network_of(), gates_of())[0]
    ours = run(network_of(), gates_of(), arithmetic=lambda _: coarse)[0]
    assert 0 < float((ours - plain).square().mean() / plain.square().mean()) < 1e-2


def test_stacked_weights_go_through_crossbars_one_by_one():
    builder = NetworkBuilder("stack")
    x = builder.input("x", TensorType(shape=(1, 3, 5, 16), batch_axis=0))
    made = builder.add(
        Op.MATMUL, [x, parameter("w", from_array(seeded(3, 16, 7).numpy()))], at.MatmulAttributes(), name="mm"
    )
    network, value = builder.finish(made), seeded(2, 3, 5, 16, seed=1)
    outputs = {}
    for bits in (12, 4):
        isaac = load_hardware("isaac", {**EIGHT, "adc_bits": bits})
        calibration = calibrate(network, [(value,)], isaac.arithmetic)
        calls = []

        def through(layer, isaac=isaac, calls=calls):
            arithmetic = isaac.arithmetic(layer)
            return replace(arithmetic, program=lambda w: Seen(arithmetic.program(w), calls))

        outputs[bits] = run(network, value, arithmetic=through, calibration=calibration)[0]
        assert calls == [(16, 2 * 5)] * 3
        exact = run(
            network,
            value,
            arithmetic=lambda layer, isaac=isaac: replace(isaac.arithmetic(layer), program=None),
            calibration=calibration,
        )[0]
        assert torch.equal(outputs[bits], exact) == (bits == 12)
    assert outputs[12].shape == (2, 3, 5, 7)


def linear_reading(form, step=None):
    builder = NetworkBuilder("linear")
    x = builder.input("x", TensorType(shape=(1, 8), batch_axis=0))
    x = replace(x, format=parse_format(form), step=step)
    made = builder.add(
        Op.LINEAR, [x, parameter("w", from_array(seeded(3, 8).numpy()))], at.LinearAttributes(), name="fc"
    )
    return builder.finish(made)


def test_a_stated_format_without_step_takes_the_sign_of_its_values():
    signed, unsigned = seeded(32, 8), seeded(32, 8).abs()
    for form, x, expected in (("uint8", signed, "int8"), ("uint8", unsigned, "uint8"), ("int8", unsigned, "uint8")):
        network = linear_reading(form)
        arithmetic = replace(INT8, activation=parse_format(form))
        quantizer = calibrate(network, [(x,)], lambda _, a=arithmetic: a).quantizers["fc", "x"]
        assert str(quantizer.format) == expected


def test_a_stated_step_needs_no_calibration():
    network, x = linear_reading("uint4", (0.25,)), seeded(6, 8).abs()
    arithmetic = replace(INT8, activation=parse_format("uint4"))
    stated = Calibration(quantizers={("fc", "x"): Quantizer(format=parse_format("uint4"), step=0.25)})
    ours = run(network, x, arithmetic=lambda _: arithmetic)[0]
    assert torch.equal(ours, run(network, x, arithmetic=lambda _: arithmetic, calibration=stated)[0])


@pytest.mark.parametrize("signed_inputs", ["sign_step", "bipolar"])
def test_a_crossbar_takes_the_signs_that_calibration_found(signed_inputs):
    network, x = linear_reading("uint8"), seeded(32, 8)
    isaac = load_hardware("isaac", {**EIGHT, "adc_bits": 12, "signed_inputs": signed_inputs})
    calibration = calibrate(network, [(x,)], isaac.arithmetic)

    def through(layer):
        arithmetic = isaac.arithmetic(layer)
        return replace(arithmetic, program=lambda w: Seen(arithmetic.program(w), []))

    def integers(layer):
        return replace(isaac.arithmetic(layer), program=None)

    ours = run(network, x, arithmetic=through, calibration=calibration)[0]
    assert torch.equal(ours, run(network, x, arithmetic=integers, calibration=calibration)[0])
    plain = run(network, x)[0]
    assert float((ours - plain).square().mean() / plain.square().mean()) < 1e-3
