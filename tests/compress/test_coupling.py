"""Channel coupling: what goes together, and that cutting it leaves the function of the masked original."""

import copy
import itertools

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from picojoule.compress.coupling import Coupling, channel_groups
from picojoule.compress.pruning import prune_network
from picojoule.compress.surgery import prune_module, rebind, tensors_of
from picojoule.sim.errors import InputError, UnsupportedError
from picojoule.sim.ir import Network
from picojoule.sim.numerics.executor import Executor
from picojoule.sim.numerics.torch_importer import from_module

X = torch.randn(3, 3, 6, 6, generator=torch.Generator().manual_seed(1))


def conv_bn(channels: int, width: int, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1, groups=groups, bias=False), nn.BatchNorm2d(width), nn.ReLU()
    )


class Block(nn.Module):
    """One of the ways networks join channels; keeps `width` channels."""

    def __init__(self, kind: str, width: int) -> None:
        super().__init__()
        self.kind = kind
        half = width // 2
        match kind:
            case "plain" | "residual":
                self.a = conv_bn(width, width)
            case "bottleneck":
                self.a = nn.Sequential(conv_bn(width, half), conv_bn(half, width))
            case "depthwise":
                self.a = nn.Sequential(conv_bn(width, width, groups=width), conv_bn(width, width))
            case "multiplier":
                self.a = nn.Sequential(conv_bn(width, 2 * width, groups=width), conv_bn(2 * width, width))
            case "grouped":
                self.a = nn.Sequential(conv_bn(width, width, groups=2), conv_bn(width, width))
            case "concat":
                self.a, self.b = conv_bn(width, half), conv_bn(width, width - half)
            case "chunk" | "shuffle":
                self.a = conv_bn(half, half)
            case "pixel_shuffle":
                self.a = nn.Sequential(conv_bn(width, 4 * width), nn.PixelShuffle(2), nn.MaxPool2d(2))
            case "gate":
                self.a = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, half, 1), nn.ReLU())
                self.b = nn.Sequential(nn.Conv2d(half, width, 1), nn.Sigmoid())
            case "transposed":
                self.a = nn.Sequential(nn.ConvTranspose2d(width, width, 2, stride=2), nn.MaxPool2d(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        match self.kind:
            case "residual" | "bottleneck":
                return torch.relu(x + self.a(x))
            case "concat":
                return torch.cat([self.a(x), self.b(x)], 1)
            case "chunk":
                first, second = x.chunk(2, 1)
                return torch.cat([first, self.a(second)], 1)
            case "shuffle":
                first, second = x.chunk(2, 1)
                joined = torch.cat([first, self.a(second)], 1)
                return joined.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)
            case "gate":
                return x * self.b(self.a(x))
            case _:
                return self.a(x)


KINDS = (
    "plain", "residual", "bottleneck", "depthwise", "multiplier", "grouped", "concat", "chunk", "shuffle", "pixel_shuffle",
    "gate", "transposed",
)  # fmt: skip


class Net(nn.Module):
    def __init__(self, kinds: tuple[str, ...], width: int, *, flatten: bool) -> None:
        super().__init__()
        self.stem = conv_bn(3, width)
        self.blocks = nn.Sequential(*(Block(kind, width) for kind in kinds))
        self.pool = nn.Identity() if flatten else nn.AdaptiveAvgPool2d(1)
        self.hidden = nn.Linear(width * (36 if flatten else 1), 10)
        self.fc = nn.Linear(10, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.blocks(self.stem(x))).flatten(1)
        return self.fc(torch.relu(self.hidden(x)))


def seeded(kinds: tuple[str, ...], width: int = 8, *, flatten: bool = False, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = Net(kinds, width, flatten=flatten).eval()
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                nn.init.uniform_(part.weight, 0.5, 1.5)
                nn.init.normal_(part.bias)
                nn.init.normal_(part.running_mean, std=0.1)
                nn.init.uniform_(part.running_var, 0.5, 2)
    return module


def imported(module: nn.Module, x: torch.Tensor = X) -> Network:
    return from_module(module, (x,))


def masked(module: nn.Module, coupling: Coupling, keep: np.ndarray) -> nn.Module:
    """The module with every parameter slice of a dropped group set to zero: those channels carry zeros."""
    made = copy.deepcopy(module)
    held = tensors_of(made)
    with torch.no_grad():
        for group in coupling.groups:
            for part in group.slices if not keep[group.number] else ():
                if not part.tensor.endswith("running_var"):
                    held[part.tensor].index_fill_(part.axis, torch.tensor(part.indices), 0.0)
    return made


def random_keep(coupling: Coupling, share: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    keep = rng.random(coupling.count) < share
    return coupling.keep_at_least(keep, rng.random(coupling.count), 1)


def check_pruning(module: nn.Module, network: Network, keep: np.ndarray, x: torch.Tensor = X) -> nn.Module:
    coupling = channel_groups(network)
    pruned_network = prune_network(network, keep, coupling)
    pruned = prune_module(module, network, keep, coupling)
    with torch.no_grad():
        expected = masked(module, coupling, keep)(x)
        assert torch.allclose(pruned(x), expected, atol=1e-5), (pruned(x) - expected).abs().max()
        (executed,) = Executor(pruned_network).run((x,))
        assert torch.allclose(executed, expected, atol=1e-5)
    held = tensors_of(pruned)
    for layer in pruned_network.layers:
        for operand in layer.parameters:
            assert tuple(held[operand.name].shape) == operand.shape
    return pruned


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_block_is_cut_to_the_function_of_the_masked_original(kind: str) -> None:
    module = seeded((kind, "plain"), flatten=kind in ("plain", "concat"))
    network = imported(module)
    coupling = channel_groups(network)
    assert coupling.count > 8  # something can go in every one of them
    check_pruning(module, network, random_keep(coupling, 0.5, seed=3))


@settings(max_examples=4, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    kinds=st.lists(st.sampled_from(KINDS), min_size=2, max_size=3).map(tuple),
    share=st.floats(0.1, 0.9),
    flatten=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_random_networks_survive_pruning(kinds: tuple[str, ...], share: float, flatten: bool, seed: int) -> None:
    module = seeded(kinds, 4 + 2 * (seed % 4), flatten=flatten, seed=seed)
    network = imported(module)
    check_pruning(module, network, random_keep(channel_groups(network), share, seed))


@pytest.mark.full
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    kinds=st.lists(st.sampled_from(KINDS), min_size=2, max_size=5).map(tuple),
    share=st.floats(0.1, 0.9),
    flatten=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_many_random_networks_survive_pruning(kinds: tuple[str, ...], share: float, flatten: bool, seed: int) -> None:
    module = seeded(kinds, 4 + 2 * (seed % 7), flatten=flatten, seed=seed)
    network = imported(module)
    check_pruning(module, network, random_keep(channel_groups(network), share, seed))


def test_keeping_everything_changes_nothing() -> None:
    module = seeded(("residual",))
    network = imported(module)
    coupling = channel_groups(network)
    same = prune_network(network, np.ones(coupling.count, dtype=bool), coupling)
    assert [y.results for y in same.layers] == [y.results for y in network.layers]
    assert [y.attributes for y in same.layers] == [y.attributes for y in network.layers]


def test_groups_say_what_belongs_together() -> None:
    network = imported(seeded(("residual", "depthwise"), 4))
    coupling = channel_groups(network)
    stem = coupling.groups[0]
    assert {(s.tensor, s.axis) for s in stem.slices} == {
        ("stem.0.weight", 0), ("stem.1.weight", 0), ("stem.1.bias", 0), ("stem.1.running_mean", 0),
        ("stem.1.running_var", 0), ("blocks.0.a.0.weight", 0), ("blocks.0.a.0.weight", 1), ("blocks.0.a.1.weight", 0),
        ("blocks.0.a.1.bias", 0), ("blocks.0.a.1.running_mean", 0), ("blocks.0.a.1.running_var", 0),
        ("blocks.1.a.0.0.weight", 0), ("blocks.1.a.0.1.weight", 0), ("blocks.1.a.0.1.bias", 0),
        ("blocks.1.a.0.1.running_mean", 0), ("blocks.1.a.0.1.running_var", 0), ("blocks.1.a.1.0.weight", 1),
    }  # fmt: skip
    assert stem.makers == ("stem.0", "blocks.0.a.0", "blocks.1.a.0.0")
    assert stem.readers == ("blocks.0.a.0", "blocks.1.a.0.0", "blocks.1.a.1.0")
    assert [s.tensor for s in stem.scales] == ["stem.1.weight", "blocks.0.a.1.weight", "blocks.1.a.0.1.weight"]
    last = network.layers[-1]
    assert (coupling.outputs_of(last) == -1).all()  # the network's outputs stay
    assert coupling.count == 4 + 4 + 10


def test_a_flattened_channel_is_a_block_of_features() -> None:
    coupling = channel_groups(imported(seeded(("plain",), 4, flatten=True)))
    features = coupling.tensors["hidden.weight"][1]
    blocks = features.reshape(4, 36)
    assert (blocks == blocks[:, :1]).all()
    assert len(np.unique(blocks)) == 4


def test_gradients_reach_the_original_parameters_through_a_pruned_network() -> None:
    module = seeded(("residual",))
    network = imported(module)
    coupling = channel_groups(network)
    keep = np.ones(coupling.count, dtype=bool)
    keep[coupling.outputs_of(network.layers[0])[:3]] = False
    (y,) = Executor(prune_network(network, keep, coupling)).run((X,))
    y.square().sum().backward()
    gradient = module.stem[0].weight.grad
    assert gradient is not None
    assert (gradient[:3] == 0).all()
    assert (gradient[3:].abs().sum((1, 2, 3)) > 0).sum() >= 4  # a channel may be dead


def test_the_minimum_revives_the_best_groups_of_an_axis() -> None:
    coupling = channel_groups(imported(seeded(("plain",), 6)))
    score = np.arange(coupling.count, dtype=float)
    keep = coupling.keep_at_least(np.zeros(coupling.count, dtype=bool), score, 2)
    assert keep[:6].tolist() == [False] * 4 + [True] * 2


class Fixed(nn.Module):
    """A forward that holds the number of channels as a number; `loud` decides whether torch notices."""

    def __init__(self, loud: bool) -> None:
        super().__init__()
        self.loud = loud
        self.conv = nn.Conv2d(3, 8, 1)
        self.fc = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.conv(x))
        y = y.mean((2, 3)).view(x.shape[0], 8) if self.loud else y.mean((2, 3)) * (8 / self.conv.weight.shape[0])
        return self.fc(y)


def test_a_forward_with_fixed_sizes_is_refused() -> None:
    for loud, start in (
        (True, "Fixed cannot run with fewer channels: "),
        (False, "Fixed computes something else with fewer "),
    ):
        module = Fixed(loud).eval()
        network = imported(module)
        coupling = channel_groups(network)
        keep = np.ones(coupling.count, dtype=bool)
        keep[0] = False
        with pytest.raises(UnsupportedError) as caught:
            prune_module(module, network, keep, coupling)
        assert str(caught.value).startswith(start)
        assert module.conv.weight.shape[0] == 8  # the user's own module is as it was


def test_a_parametrised_weight_is_refused_by_name() -> None:
    module = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 1)), nn.ReLU(), nn.Conv2d(4, 2, 1))
    network = imported(module)
    coupling = channel_groups(network)
    keep = np.ones(coupling.count, dtype=bool)
    keep[0] = False
    with pytest.raises(UnsupportedError, match=r"'0\.weight' must lose channels but is computed"):
        prune_module(module, network, keep, coupling)


def test_bad_keep_masks_are_refused() -> None:
    network = imported(seeded(("plain",), 4))
    coupling = channel_groups(network)
    with pytest.raises(InputError, match=f"has {coupling.count} channel groups; keep must have one flag for each"):
        prune_network(network, np.ones(3, dtype=bool), coupling)
    with pytest.raises(InputError, match="would keep no channel; keep at least one"):
        prune_network(network, np.zeros(coupling.count, dtype=bool), coupling)


def test_attention_and_layer_norm_are_left_alone() -> None:
    module = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True).eval()
    x = torch.randn(2, 5, 8)
    network = imported(module, x)
    coupling = channel_groups(network)
    assert coupling.count == 12  # the hidden features of the feed-forward part
    keep = np.ones(12, dtype=bool)
    keep[:5] = False
    made = check_pruning(module, network, keep, x)
    assert made.linear1.weight.shape == (7, 8)


def test_rebound_weights_are_the_modules_own() -> None:
    module, other = seeded(("plain",)), seeded(("plain",), seed=5)
    network = rebind(imported(module), other)
    with torch.no_grad():
        (y,) = Executor(network).run((X,))
        assert torch.allclose(y, other(X), atol=1e-5)


def test_group_numbers_do_not_depend_on_anything_but_the_network() -> None:
    first, second = (channel_groups(imported(seeded(("concat", "shuffle")))) for _ in range(2))
    for name, axes in first.tensors.items():
        for a, b in itertools.zip_longest(axes, second.tensors[name]):
            assert a.tolist() == b.tolist()
