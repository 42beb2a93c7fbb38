"""Learned steps: gradients by the paper's formula, and integers that the executor reproduces exactly."""

import numpy as np
import pytest
import torch
from torch import nn

from picojoule.compress import load_method
from picojoule.compress.lsq import LearnedStep, Lsq, LsqConfig, with_activation_steps
from picojoule.compress.plan import Plan, apply_plan
from picojoule.models import data as datasets
from picojoule.sim.formats import integer_format
from picojoule.sim.ir import Layer, Network
from picojoule.sim.numerics.calibration import calibrate
from picojoule.sim.numerics.executor import Executor
from picojoule.sim.numerics.torch_importer import from_module
from picojoule.sim.passes import fold_batch_norm
from picojoule.sim.protocol import Arithmetic
from picojoule.training import accuracy, train


class Small(nn.Module):
    """Stem, depthwise pair with a shortcut, classifier: small enough to train in a second on 8x8 digits."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 12, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(12)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12, bias=False)
        self.bn2 = nn.BatchNorm2d(12)
        self.pointwise = nn.Conv2d(12, 12, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(12)
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(12 * 16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.depthwise(x)))
        x = torch.relu(x + self.bn3(self.pointwise(y)))
        return self.fc(self.pool(x).flatten(1))


@pytest.fixture(scope="module")
def digits() -> datasets.Dataset:
    return datasets.load("digits")


@pytest.fixture(scope="module")
def trained(digits: datasets.Dataset) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Small()
    train(model, digits.train, epochs=4, lr=1e-2, seed=0)
    with torch.no_grad():  # a negative scale turns the signs of its channel's codes when it is folded
        for norm in (model.bn1, model.bn2, model.bn3):
            norm.weight[1] *= -1
    train(model, digits.train, epochs=1, lr=1e-3, seed=1)
    assert float(model.bn1.weight[1].detach()) < 0
    return model


def integers(layer: Layer) -> Arithmetic:
    """Exact integers in the formats that the plan sets."""
    return Arithmetic(weight=layer.operands[1].format, activation=layer.operands[0].format, accumulator_bits=32)


def run_integers(network: Network, digits: datasets.Dataset) -> torch.Tensor:
    calibration = calibrate(network, [(torch.tensor(digits.train.images[:64]),)], integers)
    executor = Executor(network, arithmetic=integers, calibration=calibration)
    with torch.no_grad():
        return executor.run((torch.tensor(digits.test.images),))[0]


@pytest.mark.parametrize(
    ("bits", "per", "least", "same_folded"),
    [(8, "tensor", 0.95, 0.99), (4, "channel", 0.94, 0.98), (3, "tensor", 0.9, 0.95), (2, "channel", 0.8, 0.9)],
)
def test_the_executor_computes_the_learned_integers(
    trained: nn.Module, digits: datasets.Dataset, bits: int, per: str, least: float, same_folded: float
) -> None:
    config = LsqConfig(weight_bits=bits, activation_bits=bits, epochs=2, lr=3e-3, per=per)
    model, artefact = Lsq().fit(trained, digits, None, config)
    fake = with_activation_steps(model, artefact.plan)
    correct, count = accuracy(fake, digits.test)
    assert correct / count >= least
    network = apply_plan(from_module(model, (torch.tensor(digits.train.images[:2]),)), artefact.plan)
    with torch.no_grad():
        expected = fake(torch.tensor(digits.test.images))
    unfolded = run_integers(network, digits)
    assert float((unfolded.argmax(1) == expected.argmax(1)).float().mean()) > 0.99
    # Only the classifier's bias is rounded here, to its accumulator's unit; a value on a rounding boundary may go either way.
    assert float((unfolded - expected).abs().max()) < 0.02 * float(expected.std())
    # Folded, each norm's shift becomes a bias in units of the accumulator, which are coarse at few bits.
    folded = run_integers(fold_batch_norm(network), digits)
    assert float((folded.argmax(1) == expected.argmax(1)).float().mean()) >= same_folded


def test_folding_keeps_learned_codes_and_turns_signs_of_negative_gains(
    trained: nn.Module, digits: datasets.Dataset
) -> None:
    model, artefact = Lsq().fit(trained, digits, None, LsqConfig(weight_bits=3, activation_bits=3, epochs=1))
    network = apply_plan(from_module(model, (torch.tensor(digits.train.images[:2]),)), artefact.plan)
    folded = fold_batch_norm(network)
    assert sum(y.op == "norm" for y in folded.layers) == 0

    def learned(of: Network, name: str) -> np.ndarray:
        weight = next(y for y in of.layers if y.name == name).operands[1]
        assert weight.weights is not None and weight.step is not None
        step = np.array(weight.step).reshape(-1, *[1] * (len(weight.shape) - 1))
        assert (step > 0).all()
        return np.asarray(weight.weights.array(), dtype=np.float64) / step

    for conv, norm in (("conv1", model.bn1), ("depthwise", model.bn2), ("pointwise", model.bn3)):
        before, after = learned(network, conv), learned(folded, conv)
        assert np.allclose(before, np.rint(before), atol=1e-4)
        sign = np.sign(norm.weight.detach().numpy()).reshape(-1, 1, 1, 1)
        assert np.allclose(after, np.rint(before) * sign, atol=1e-4)
        assert (sign < 0).any()


def test_gradients_follow_the_papers_equation() -> None:
    form = integer_format(3)  # codes -3 ... 3
    quantizer = LearnedStep(form, torch.tensor(0.5), elements=4)
    x = torch.tensor([0.7, -5.0, 1.2, 5.0], requires_grad=True)
    quantizer(x).sum().backward()
    scale = 1 / np.sqrt(4 * 3)
    by_step = np.array([1 - 1.4, -3.0, 2 - 2.4, 3.0])  # round(v) - v inside, the end of the range outside (equation 3)
    assert float(quantizer.factor.grad) == pytest.approx(by_step.sum() * scale * 0.5, rel=1e-5)  # factor x 0.5 = step
    assert x.grad.tolist() == [1.0, 0.0, 1.0, 0.0]  # equation 5


def test_the_plan_says_what_was_learned(trained: nn.Module, digits: datasets.Dataset) -> None:
    before = {k: v.clone() for k, v in trained.state_dict().items()}
    config = LsqConfig(weight_bits=4, activation_bits=2, epochs=0)
    model, artefact = Lsq().fit(trained, digits, None, config)
    plan = artefact.plan
    assert list(plan.layers) == ["conv1", "depthwise", "pointwise", "fc"]
    assert plan.layers["conv1"].weight.format == "int8"  # the first and last layers keep 8 bits
    assert plan.layers["fc"].weight.format == "int8"
    assert plan.layers["depthwise"].weight.format == "int4"
    assert plan.layers["conv1"].activation.format == "int8"  # normalised images have both signs
    assert plan.layers["depthwise"].activation.format == "uint2"  # after a ReLU
    assert len(plan.layers["depthwise"].weight.step) == 12
    codes = model.depthwise.weight.detach() / torch.tensor(plan.layers["depthwise"].weight.step).reshape(-1, 1, 1, 1)
    assert torch.allclose(codes, codes.round(), atol=1e-4)
    assert int(codes.round().abs().max()) <= 7
    assert set(model.state_dict()) == set(before)  # no hook, step or parametrisation is left behind
    assert type(model.depthwise) is nn.Conv2d
    assert all(torch.equal(v, before[k]) for k, v in trained.state_dict().items())  # the user's model is untouched
    assert Plan.model_validate({**plan.model_dump(by_alias=True)}) == plan


def test_the_same_seed_gives_the_same_integers(trained: nn.Module, digits: datasets.Dataset) -> None:
    config = LsqConfig(weight_bits=3, activation_bits=3, epochs=1)
    (first, a), (second, b) = (load_method("lsq").fit(trained, digits, None, config) for _ in range(2))
    assert a == b
    assert all(torch.equal(p, q) for p, q in zip(first.parameters(), second.parameters(), strict=True))
