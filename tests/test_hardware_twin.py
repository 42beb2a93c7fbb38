"""The twin of a trained network: wide converters give the integer network exactly, narrow ones cost accuracy."""

import copy

import pytest
import torch
import torch.nn.functional as F

import picojoule as pj
from picojoule.accuracy import measure
from picojoule.models.data import load
from picojoule.models.zoo import build
from picojoule.sim.hardware import load_hardware
from picojoule.sim.numerics.calibration import calibrate
from picojoule.sim.numerics.executor import Executor
from picojoule.sim.numerics.torch_importer import from_module
from picojoule.sim.passes import fold_batch_norm
from picojoule.training import accuracy, train

EIGHT_BITS = {"weight_bits": 8, "activation_bits": 8}


@pytest.fixture(scope="module")
def digits():
    return load("digits")


@pytest.fixture(scope="module")
def trained(digits):
    module = build("dscnn-fashion", input_shape=(1, 8, 8), classes=10)
    train(module, digits.train, epochs=4, lr=1e-2, seed=0)
    correct, count = accuracy(module, digits.val)
    assert correct / count > 0.85
    return module


@pytest.fixture(scope="module")
def calibration(digits):
    return [(torch.tensor(digits.train.images[:128]),)]


@pytest.mark.parametrize("encoding", ["offset", "flip", "differential"])
def test_a_wide_adc_equals_the_integer_network_exactly(trained, digits, calibration, encoding):
    x = torch.tensor(digits.val.images)
    wide = load_hardware("isaac", {**EIGHT_BITS, "encoding": encoding, "adc_bits": 12})
    crossbar = pj.hardware_twin(trained, x[:2], wide, calibration=calibration)
    network = fold_batch_norm(from_module(trained, (x[:2],)))
    # The same formats in plain exact integers: the hardware's product is left out.
    plain = next(wide.arithmetic(layer) for layer in network.layers if layer.name == "features.0.0")
    assert str(plain.weight) == "int8"

    def integers(layer):
        arithmetic = wide.arithmetic(layer)
        return type(arithmetic)(
            weight=arithmetic.weight, activation=arithmetic.activation, accumulator_bits=arithmetic.accumulator_bits
        )

    with torch.no_grad():
        exact = Executor(network, arithmetic=integers, calibration=calibrate(network, calibration, integers)).run((x,))[
            0
        ]
        assert torch.equal(crossbar(x), exact)


def test_a_narrow_adc_changes_the_result_and_the_paths_agree(trained, digits, calibration):
    x = torch.tensor(digits.val.images[:40])
    lossless = pj.hardware_twin(trained, x[:2], load_hardware("isaac", EIGHT_BITS), calibration=calibration)
    narrow_hw = load_hardware("isaac", {**EIGHT_BITS, "adc_bits": 4})
    narrow = pj.hardware_twin(trained, x[:2], narrow_hw, calibration=calibration)
    with torch.no_grad():
        gentle, harsh = lossless(x), narrow(x)
    assert not torch.equal(gentle, harsh)
    with_gradients = narrow(x)  # another path: the smooth product plus the hardware's error
    torch.testing.assert_close(with_gradients.detach(), harsh, rtol=1e-4, atol=1e-4)


def test_training_the_twin_recovers_what_a_narrow_adc_loses(trained, digits, calibration):
    # Differential columns: their clipping errors are small and two-sided. Offset and flipped columns clip to one side by
    # much more, and straight-through gradients do not lead out of that.
    module = copy.deepcopy(trained)
    hardware = load_hardware("isaac", {**EIGHT_BITS, "encoding": "differential", "adc_bits": 3})
    x, y = torch.tensor(digits.train.images[:512]), torch.tensor(digits.train.labels[:512])
    twin = pj.hardware_twin(module, x[:2], hardware, calibration=calibration)
    before, count = accuracy(twin, digits.val)
    optimizer = torch.optim.Adam(twin.parameters(), lr=1e-3)
    for _ in range(2):
        for start in range(0, len(x), 32):
            optimizer.zero_grad()
            F.cross_entropy(twin(x[start : start + 32]), y[start : start + 32]).backward()
            optimizer.step()
    after, _ = accuracy(twin, digits.val)
    assert after > before + 0.2 * count


class Tagger(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.lstm = torch.nn.Embedding(11, 6), torch.nn.LSTM(6, 5, batch_first=True)
        self.out = torch.nn.Linear(5, 3)

    def forward(self, tokens):
        return self.out(self.lstm(self.embed(tokens))[0])


def _convolutions():
    return torch.nn.Sequential(
        torch.nn.Conv2d(4, 8, 3, padding=1, groups=2),
        torch.nn.BatchNorm2d(8),
        torch.nn.ReLU(),
        torch.nn.Conv2d(8, 8, 3, groups=8, padding=1, stride=2),
        torch.nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1, groups=2),
        torch.nn.Conv2d(6, 2, 1),
    )


NETWORKS = {
    "convolutions": (_convolutions, torch.randn(2, 4, 7, 7, generator=torch.Generator().manual_seed(1))),
    "transformer": (
        lambda: torch.nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, activation="gelu"),
        torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(2)),
    ),
    "lstm": (Tagger, torch.arange(14).reshape(2, 7) % 11),
}
IMPERFECT = {
    "narrow": {"encoding": "differential", "adc_bits": 3},
    "noisy": {"encoding": "differential", "device.programming_sigma": 0.1, "device.read_noise_sigma": 0.02},
}


@pytest.mark.parametrize("imperfect", IMPERFECT)
@pytest.mark.parametrize("kind", NETWORKS)
def test_gradients_reach_every_parameter_of_any_network(kind, imperfect):
    build_it, x = NETWORKS[kind]
    torch.manual_seed(0)
    module = build_it().eval()
    hardware = load_hardware("isaac", {**EIGHT_BITS, **IMPERFECT[imperfect]})
    twin = pj.hardware_twin(module, (x,), hardware, seed=3)
    with torch.no_grad():
        plain, measured = module(x), twin(x)
    assert bool(torch.isfinite(measured).all()) and not torch.allclose(measured, plain, rtol=0.01)
    trained = twin(x)
    if imperfect == "narrow":  # a noisy read is never the same again
        assert torch.equal(trained.detach(), measured)
    trained.square().mean().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None and bool(torch.isfinite(parameter.grad).all()), name
        assert bool(parameter.grad.abs().max() > 0) or "in_proj_bias" in name, name


def test_accuracy_is_measured_on_the_test_split(trained, digits):
    network = fold_batch_norm(from_module(trained, (torch.tensor(digits.train.images[:2]),)))
    found = measure(network, load_hardware("edge-16x16"), digits)
    correct, count = accuracy(trained, digits.test)
    assert (found.samples, found.split) == (count, "test")
    assert found.floating == pytest.approx(correct / count)
    assert abs(found.hardware - found.floating) < 0.03
    assert found.interval[0] < found.hardware < found.interval[1]


def test_an_accuracy_of_untrained_weights_is_marked(digits):
    network = pj.load("mlp-784-100-10", input_shape="1,1,8,8")
    assert network.weights == "random"
    hardware = load_hardware("edge-16x16")
    report = hardware.evaluate(network).with_accuracy(measure(network, hardware, digits))
    assert "weights: random, so the accuracy is that of chance" in report.coverage.notes


NEEDED = {**EIGHT_BITS, "encoding": "differential", "adc_bits": "needed"}


def _growing():
    """Return a layer whose starting weights need few bits of a converter, and inputs."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(40, 8, bias=False)).eval()
    with torch.no_grad():
        module[0].weight.zero_()
        module[0].weight[:, 0] = 0.1
    return module, torch.rand(5, 40)


@pytest.mark.parametrize("design", [{}, {"adc": "run_time"}, {"adc_bits": 4, "adc_range": "calibrated"}])
@pytest.mark.parametrize("resample", [False, True])
@pytest.mark.parametrize("measured_first", [False, True])
def test_calls_with_and_without_gradients_are_of_the_hardware_as_built(design, resample, measured_first):
    module, x = _growing()
    twin = pj.hardware_twin(module, x, load_hardware("isaac", {**NEEDED, **design}), resample=resample)
    twin(x)
    with torch.no_grad():
        module[0].weight.uniform_(-0.1, 0.1)
        plain = module(x)
        if measured_first:
            twin(x)
    trained = twin(x).detach()
    with torch.no_grad():
        measured = twin(x)
    assert torch.equal(trained, measured) and torch.equal(twin(x).detach(), measured)
    away = float((measured - plain).abs().max())
    if not design:  # built for the weights at the start, whose converters clip these
        assert away > 0.1
    elif "adc" in design:  # a converter that stops where the weights of now need it
        assert away < 0.01


def test_weights_changed_behind_autograd_are_encoded_anew():
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(40, 8), torch.nn.BatchNorm1d(8)).eval()
    x, hardware = torch.rand(5, 40), load_hardware("isaac", {**EIGHT_BITS, "adc_bits": 4})
    twin = pj.hardware_twin(module, x, hardware)
    changes = {  # none of them changes the sum of squares, nor a version that autograd counts
        "signs": lambda: module[0].weight.data.neg_(),
        "order": lambda: module[0].weight.data.copy_(module[0].weight.data[torch.arange(7, -1, -1)]),
        "buffer": lambda: module[1].running_mean.data.copy_(torch.linspace(-1, 1, 8)),
        "sign of it": lambda: module[1].running_mean.data.neg_(),
    }
    with torch.no_grad():
        before = twin(x)
        for name, change in changes.items():
            change()
            now = twin(x)
            assert not torch.equal(now, before), name
            assert torch.equal(now, pj.hardware_twin(module, x, hardware)(x)), name
            before = now
        assert torch.equal(twin(x), before)
