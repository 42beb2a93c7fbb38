"""Permuted channels: the function stays to the bit, residual sums agree, and fewer bits flip."""

import pytest
import torch
from torch import Tensor, nn

from picojoule.compress.coupling import channel_groups
from picojoule.compress.reordering import Reorder, ReorderConfig, best_moves, blocks_of, permuted_axis, reorder
from picojoule.models import data as datasets
from picojoule.sim.errors import UnsupportedError
from picojoule.sim.formats import Granularity, integer_format
from picojoule.sim.ir import Network
from picojoule.sim.numerics.calibration import calibrate
from picojoule.sim.numerics.executor import Executor
from picojoule.sim.numerics.torch_importer import from_module
from picojoule.sim.protocol import Arithmetic

INT8 = Arithmetic(weight=integer_format(8, per=Granularity.CHANNEL), activation=integer_format(8), accumulator_bits=32)


def conv_bn(inputs: int, outputs: int, kernel: int, groups: int = 1, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    norm = nn.BatchNorm2d(outputs)
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    nn.init.normal_(norm.bias)
    norm.running_mean.copy_(torch.randn(outputs) * 0.1)  # type: ignore[union-attr]
    norm.running_var.copy_(torch.rand(outputs) + 0.5)  # type: ignore[union-attr]
    return nn.Sequential(conv, norm)


class Inverted(nn.Module):
    """An inverted residual block: expansion, depthwise, projection, sum."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.expand = conv_bn(channels, 3 * channels, 1)
        self.depthwise = conv_bn(3 * channels, 3 * channels, 3, groups=3 * channels)
        self.project = conv_bn(3 * channels, outputs, 1)
        self.residual = channels == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(torch.relu(self.depthwise(torch.relu(self.expand(x)))))
        return x + y if self.residual else y


class Basic(nn.Module):
    """A ResNet block, with a 1x1 convolution in the shortcut where widths differ."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.first, self.second = conv_bn(channels, outputs, 3), conv_bn(outputs, outputs, 3)
        self.shortcut = conv_bn(channels, outputs, 1) if channels != outputs else nn.Identity()
        self.slope = nn.PReLU(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.slope(self.second(torch.relu(self.first(x))) + self.shortcut(x))


class Joined(nn.Module):
    """Two branches side by side, flattened into a classifier whose features are channels times pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = conv_bn(2, 6, 3), conv_bn(2, 5, 3)
        self.grouped = conv_bn(11, 11, 1)
        self.head = nn.Linear(11 * 16, 4)

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([self.left(x), torch.relu(self.right(x))], 1)
        return self.head(torch.relu(self.grouped(both)).flatten(1))


def mobile() -> nn.Module:
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5))
    return nn.Sequential(
        conv_bn(3, 8, 3, stride=2), nn.ReLU6(), Inverted(8, 8), Inverted(8, 12), Inverted(12, 12), *head
    )


def residual() -> nn.Module:
    head = (nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(48, 5))
    return nn.Sequential(conv_bn(3, 8, 3), nn.ReLU(), Basic(8, 8), Basic(8, 12), Basic(12, 12), *head)


def integer_outputs(network: Network, x: Tensor, calibration: object) -> Tensor:
    with torch.no_grad():
        executor = Executor(network, arithmetic=lambda _: INT8, calibration=calibration)  # type: ignore[arg-type]
        return executor.run((x,))[0]


@pytest.mark.parametrize(("make", "shape"), [(mobile, (3, 8, 8)), (residual, (3, 8, 8)), (Joined, (2, 4, 4))])
def test_the_function_stays_to_the_bit(make: type, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    module, x = make().eval(), torch.randn(4, *shape)
    before = {name: t.clone() for name, t in module.state_dict().items()}
    made, report = reorder(module, (x[:2],))
    assert all(torch.equal(t, before[name]) for name, t in module.state_dict().items()), "the module given has changed"
    assert any(not torch.equal(t, before[name]) for name, t in made.state_dict().items())
    assert report.gain > 1.02  # random weights, few channels
    with torch.no_grad():
        torch.testing.assert_close(made(x), module(x), rtol=1e-4, atol=1e-5)
    plain, permuted = (from_module(m, (x,)) for m in (module, made))
    calibration = calibrate(plain, [(x,)], lambda _: INT8)  # the steps belong to both: values are the same, only moved
    assert torch.equal(integer_outputs(plain, x, calibration), integer_outputs(permuted, x, calibration))


def test_both_sides_of_a_sum_move_together() -> None:
    torch.manual_seed(1)
    module, x = residual().eval(), torch.randn(2, 3, 8, 8)
    made, _ = reorder(module, (x,))
    stem, second = module[0][1], module[2].second[1]  # type: ignore[index, union-attr]
    moved_stem, moved_second = made[0][1], made[2].second[1]  # type: ignore[index, union-attr]
    order = [int(torch.nonzero(stem.bias == value)) for value in moved_stem.bias]
    assert order != list(range(8)) and sorted(order) == list(range(8))
    assert torch.equal(moved_second.bias, second.bias[order])
    assert torch.equal(made[2].slope.weight, module[2].slope.weight[order])  # type: ignore[index, union-attr]


def test_only_what_occurs_on_the_same_axes_may_change_places() -> None:
    torch.manual_seed(2)
    network = from_module(Joined().eval(), (torch.randn(2, 2, 4, 4),))
    assert sorted(len(block) for block in blocks_of(channel_groups(network))) == [5, 6, 11]


def test_an_axis_follows_its_groups_with_every_occurrence() -> None:
    import numpy as np

    labels, moves = np.array([0, 0, 2, 2, -1, 1, 1]), np.array([1, 2, 0])
    assert permuted_axis(labels, moves).tolist() == [5, 6, 0, 1, 4, 2, 3]


def test_code_that_counts_on_the_order_is_refused() -> None:
    class First(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(1, 6, 3), nn.Linear(6, 2)
            self.scale: Tensor = torch.arange(6.0)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.conv(x).mean((2, 3)) * self.scale)

    torch.manual_seed(3)
    module, x = First().eval(), torch.randn(2, 1, 6, 6)
    try:
        made, _ = reorder(module, (x,))
    except UnsupportedError as error:
        assert "change its order" in str(error) or "counts on their order" in str(error)
    else:  # frozen: nothing moved
        with torch.no_grad():
            torch.testing.assert_close(made(x), module(x))


def test_heavier_streams_weigh_more() -> None:
    """Two layers share channels: the one that streams a thousand times as often decides the order."""
    torch.manual_seed(4)

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.large, self.small, self.head = nn.Conv2d(1, 10, 3), nn.Linear(4, 10), nn.Linear(10, 2)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.head(self.large(x).amax((2, 3)) + self.small(y))

    inputs = (torch.randn(2, 1, 40, 40), torch.randn(2, 4))
    network = from_module(Two().eval(), inputs)
    coupling = channel_groups(network)
    alone = from_module(nn.Sequential(Two().large, nn.Flatten()), (inputs[0],))
    assert alone is not None
    made, report = reorder(Two().eval(), inputs, ReorderConfig(cols=1))
    assert {layer.name for layer in report.layers} == {"large", "small", "head"}
    heavy = next(layer for layer in report.layers if layer.name == "large")
    assert heavy.after < heavy.before
    assert len(best_moves(network, coupling, ReorderConfig())) == coupling.count
    assert made is not None


def test_as_a_method_the_plan_is_empty() -> None:
    torch.manual_seed(5)
    data = datasets.load("digits")
    module = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 36, 10))
    made, artifact = Reorder().fit(module, data, None, ReorderConfig(seed=3))  # every method takes a seed
    assert not artifact.plan.layers and "fewer bits" in artifact.notes[0]
    x = torch.tensor(data.train.images[:8])
    with torch.no_grad():
        torch.testing.assert_close(made(x), module(x), rtol=1e-4, atol=1e-5)
