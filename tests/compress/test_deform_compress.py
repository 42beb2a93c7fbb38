"""Networks with deformable convolutions under slimming, learned steps (W4A8), and folded batch norms."""

import numpy as np
import pytest
import torch
from torch import nn

from picojoule.compress.lsq import Lsq, LsqConfig, with_activation_steps
from picojoule.compress.plan import apply_plan
from picojoule.compress.slimming import Slimming, SlimmingConfig
from picojoule.models import data as datasets
from picojoule.sim.attributes import Op
from picojoule.sim.ir import Layer
from picojoule.sim.numerics.calibration import calibrate
from picojoule.sim.numerics.deform_module import DeformConv2d
from picojoule.sim.numerics.executor import Executor
from picojoule.sim.numerics.torch_importer import from_module
from picojoule.sim.passes import fold_batch_norm
from picojoule.sim.protocol import Arithmetic, OffsetArithmetic
from picojoule.training import accuracy, train


class Small(nn.Module):
    """A stem, a deformable and a pointwise convolution with norms, a classifier."""

    def __init__(self, groups: int = 8, modulated: bool = False) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.deform = DeformConv2d(8, 8, groups=groups, bias=modulated, form="bound", bound=3, modulated=modulated)
        self.norm, self.point = nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1)
        self.fc = nn.Linear(8 * 16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.deform(self.stem(x))))
        return self.fc(nn.functional.max_pool2d(torch.relu(self.point(x)), 2).flatten(1))


@pytest.fixture(scope="module")
def digits() -> datasets.Dataset:
    return datasets.load("digits")


@pytest.fixture(scope="module")
def trained(digits: datasets.Dataset) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Small()
        nn.init.normal_(model.deform.offset_conv.weight, std=0.3)
    train(model, digits.train, epochs=2, lr=1e-2, seed=0)
    return model.eval()


def integers(layer: Layer) -> Arithmetic:
    return Arithmetic(
        weight=layer.operands[1].format,
        activation=layer.operands[0].format,
        accumulator_bits=24,
        offsets=OffsetArithmetic(rounded=False),
    )


def test_learned_steps_are_the_executors_integers(trained: nn.Module, digits: datasets.Dataset) -> None:
    config = LsqConfig(weight_bits=4, activation_bits=8, first_last_bits=None, epochs=1)
    model, artefact = Lsq().fit(trained, digits, None, config)
    layers = artefact.plan.layers
    assert set(layers) == {"stem.0", "deform", "deform.offset_conv", "point", "fc"}
    assert layers["deform"].weight.format == "int4"
    assert len(layers["deform"].weight.step) == 8
    codes = model.deform.weight.detach() / torch.tensor(layers["deform"].weight.step).reshape(-1, 1, 1, 1)
    assert torch.allclose(codes, codes.round(), atol=1e-4)
    assert layers["deform"].activation == layers["deform.offset_conv"].activation  # both read the same buffer
    assert type(model.deform) is DeformConv2d
    network = apply_plan(from_module(model, (torch.tensor(digits.train.images[:2]),)), artefact.plan)
    images = torch.tensor(digits.val.images)
    calibration = calibrate(network, [(torch.tensor(digits.train.images[:64]),)], integers)
    with torch.no_grad():
        expected = with_activation_steps(model, artefact.plan)(images)
        got = Executor(network, arithmetic=integers, calibration=calibration).run((images,))[0]
    assert float((got.argmax(1) == expected.argmax(1)).float().mean()) > 0.98
    correct, count = accuracy(with_activation_steps(model, artefact.plan), digits.val)
    assert correct / count > 0.85


@pytest.mark.parametrize("groups", [1, 8])
def test_slimming_cuts_the_offset_convolution_too(digits: datasets.Dataset, groups: int) -> None:
    torch.manual_seed(0)
    config = SlimmingConfig(ratio=0.3, epochs=1, finetune_epochs=0, min_channels=2)
    model, _ = Slimming().fit(Small(groups), digits, None, config)  # it compares the module with the pruned network
    kept, deform = model.stem[0].out_channels, model.deform
    assert kept < 8
    assert deform.weight.shape[0] == deform.out_channels == model.point.in_channels
    assert deform.in_channels == deform.offset_conv.in_channels == kept
    assert deform.groups == (1 if groups == 1 else kept)


@pytest.mark.parametrize("modulated", [False, True])
def test_a_norm_behind_it_is_folded(modulated: bool) -> None:
    torch.manual_seed(0)
    model = Small(modulated=modulated)
    for part in (model.deform.offset_conv, model.deform.mask_conv):
        if part is not None:
            nn.init.normal_(part.weight)
    for norm in (model.stem[1], model.norm):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2.0)
        nn.init.normal_(norm.weight)
    x = torch.randn(3, 1, 8, 8)
    network = fold_batch_norm(from_module(model.eval(), (x,)))
    assert not any(layer.op is Op.NORM for layer in network.layers)
    np.testing.assert_allclose(Executor(network).run((x,))[0].detach(), model(x).detach(), rtol=1e-3, atol=1e-4)
