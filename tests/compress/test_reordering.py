"""Permuted channels: the function stays to the bit, residual sums agree, and fewer bits flip."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from picojoule.compress.channel_streams import permuted_axis, streams_of
from picojoule.compress.coupling import channel_groups
from picojoule.compress.reordering import Reorder, ReorderConfig, best_moves, blocks_of, reorder
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


class Scaled(nn.Module):
    """A convolution and a classifier, and something between them that each test makes."""

    def __init__(self, scale: Tensor | None = None) -> None:
        super().__init__()
        self.conv, self.head, self.scale = nn.Conv2d(1, 6, 3), nn.Linear(6, 2), scale

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.relu(self.conv(x)).mean((2, 3))
        return self.head(pooled if self.scale is None else pooled * self.scale)


def refusal(module: nn.Module, x: Tensor) -> str:
    with pytest.raises(UnsupportedError) as caught:
        reorder(module.eval(), (x,))
    return str(caught.value)


def test_code_that_counts_on_the_order_is_refused() -> None:
    class First(Scaled):
        def forward(self, x: Tensor) -> Tensor:
            first = 1.0 if torch.compiler.is_compiling() else float(self.conv.bias[1].detach())  # type: ignore[index]
            return super().forward(x) * first  # what records the network does not see this

    torch.manual_seed(3)
    assert refusal(First(), torch.randn(2, 1, 6, 6)) == (
        "First computes something else with its channels permuted: its forward counts on their order; leave it as it is and "
        "use weight_order: segments, which changes no network"
    )


def test_what_cannot_be_permuted_says_why() -> None:
    torch.manual_seed(3)
    x, must = torch.randn(2, 1, 6, 6), "must change its order but"
    assert refusal(Scaled(torch.arange(6.0)), x) == (
        f"Scaled: 'scale' {must} is a plain attribute of the module; register it as a buffer (register_buffer)"
    )
    module = Scaled()
    nn.utils.parametrizations.weight_norm(module.conv)
    assert refusal(module, x) == (
        f"Scaled: 'conv.weight' {must} is computed from a parametrization; remove parametrizations first"
    )


def test_outputs_that_are_not_finite() -> None:
    class Root(Scaled):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).sqrt()

    torch.manual_seed(3)
    module, x = Root().eval(), torch.randn(4, 1, 6, 6)
    module.head.bias.data = torch.tensor([-100.0, 100.0])
    out = module(x)
    assert out.isnan().any() and out.isfinite().any()
    made, _ = reorder(module, (x,))
    torch.testing.assert_close(made(x), out, equal_nan=True)
    module.head.bias.data = torch.tensor([-100.0, -100.0])
    assert refusal(module, x).startswith("Root gives nothing but NaN or infinity for the example inputs, so that")


def test_heavier_streams_weigh_more() -> None:
    """Two layers share channels: the order is that of the wide one, unless the other one streams far more often."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.large, self.small, self.head = nn.Conv2d(1, 10, 3), nn.Linear(64, 10), nn.Linear(10, 2)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.head(self.large(x).amax((2, 3)) + self.small(y))

    torch.manual_seed(4)
    module, y = Two().eval(), torch.randn(2, 64)
    often, once = (
        {layer.name: layer for layer in reorder(module, (torch.randn(2, 1, size, size), y), config)[1].layers}
        for size, config in ((40, ReorderConfig(cols=1)), (3, ReorderConfig(cols=1)))
    )
    assert set(often) == {"large", "small", "head"}
    assert often["large"].after < once["large"].after and often["small"].after > once["small"].after
    assert often["large"].after < often["large"].before and once["small"].after < once["small"].before


def test_an_order_that_is_there_is_kept_unless_a_better_one_is_found() -> None:
    torch.manual_seed(6)
    for _ in range(4):
        improved, _ = reorder(nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 2)).eval(), (torch.randn(2, 6),))
        _, report = reorder(improved, (torch.randn(2, 6),), ReorderConfig(sweeps=0))  # greedy alone
        assert all(layer.after <= layer.before for layer in report.layers)


def test_channels_with_others_between_them_never_flip_more() -> None:
    """A pixel shuffle deals channels out: those that may change places are not neighbors in the stream."""

    class Shuffle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.head = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(4, 8, 1), nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            y = nn.functional.pixel_shuffle(torch.relu(self.a(x)), 2)
            return self.head(torch.relu(self.b(y)).mean((2, 3)))

    for seed in range(6):
        torch.manual_seed(seed)
        _, report = reorder(Shuffle().eval(), (torch.randn(2, 3, 6, 6),))
        assert all(layer.after <= layer.before for layer in report.layers), report.layers


def test_layers_count_in_their_own_formats() -> None:
    torch.manual_seed(7)
    module = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    network = from_module(module, (torch.randn(2, 6),))
    forms = {"0": integer_format(16), "2": integer_format(4)}
    network = network.with_layers(
        tuple(
            replace(y, operands=(y.operands[0], replace(y.operands[1], format=forms.get(y.name)), *y.operands[2:]))
            if len(y.operands) > 1
            else y
            for y in network.layers
        )
    )
    coupling = channel_groups(network)
    streams = {s.name: s for s in streams_of(network, coupling, bits=8, code="twos_complement", cols=4)}
    assert {name: s.bits for name, s in streams.items()} == {"0": 16, "2": 4, "4": 8}
    for stream in streams.values():
        words = stream.codes[0] & ((1 << stream.bits) - 1)
        assert stream.flips() == sum(int(x).bit_count() for x in (words[1:] ^ words[:-1]).ravel())
    assert np.abs(streams["0"].codes).max() > 2**14
    moves = best_moves(network, coupling, ReorderConfig())
    assert all(s.flips(moves) < s.flips() for s in streams.values() if s.name != "4")


def test_as_a_method_the_plan_is_empty() -> None:
    torch.manual_seed(5)
    data = datasets.load("digits")
    module = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 36, 10))
    made, artifact = Reorder().fit(module, data, None, ReorderConfig(seed=3))  # every method takes a seed
    assert not artifact.plan.layers and "fewer bits" in artifact.notes[0]
    x = torch.tensor(data.train.images[:8])
    with torch.no_grad():
        torch.testing.assert_close(made(x), module(x), rtol=1e-4, atol=1e-5)
