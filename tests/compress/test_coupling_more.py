"""Channels around recurrent layers, quantisers, sorts and samples: what passes is cut, what cannot be stays whole."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from picojoule.compress.coupling import channel_groups
from picojoule.compress.pruning import prune_network
from picojoule.compress.surgery import prune_module
from picojoule.sim.attributes import Op
from picojoule.sim.numerics.executor import Executor
from picojoule.sim.numerics.torch_importer import from_module


class Tagger(nn.Module):
    def __init__(self, cell: type[nn.RNNBase], both: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(30, 12)
        self.project = nn.Linear(12, 10)
        self.cell = cell(10, 8, num_layers=2, bidirectional=both, batch_first=True)
        self.widen = nn.Linear(16 if both else 8, 14)
        self.label = nn.Linear(14, 5)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.project(self.embedding(words)))
        return self.label(torch.relu(self.widen(self.cell(x)[0])))


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU])
def test_layers_around_a_recurrent_one_lose_channels_and_it_keeps_its_states(
    cell: type[nn.RNNBase], both: bool
) -> None:
    torch.manual_seed(0)
    module = Tagger(cell, both).eval()
    words = torch.randint(0, 30, (3, 7))
    network = from_module(module, (words,))
    coupling = channel_groups(network)
    for layer in network.layers:
        if layer.op is Op.RECURRENT:
            assert all(label < 0 for axes in (coupling.outputs_of(layer), coupling.inputs_of(layer)) for label in axes)
    assert coupling.count == 12 + 10 + 14
    keep = np.arange(coupling.count) % 2 == 0
    pruned = prune_module(module, network, keep, coupling, example_inputs=(words,))
    assert (pruned.project.out_features, pruned.cell.input_size, pruned.cell.hidden_size) == (5, 5, 8)
    with torch.no_grad():
        expected = Executor(prune_network(network, keep, coupling)).run((words,))[0]
        torch.testing.assert_close(pruned(words), expected)


class Passing(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.first, self.second = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x)
        match self.kind:
            case "fake quantiser":
                y = torch.fake_quantize_per_tensor_affine(y, 0.05, 0, -128, 127)
            case "cumsum":
                y = torch.cumsum(y, 2)
            case "topk":
                y = torch.topk(y, 3, dim=2)[0]
            case "grid sample":
                grid = torch.stack(
                    torch.meshgrid(torch.linspace(-1, 1, 5), torch.linspace(-1, 1, 5), indexing="ij"), -1
                )
                y = F.grid_sample(y, grid.expand(len(x), 5, 5, 2), align_corners=False)
            case "cumsum over channels":
                y = torch.cumsum(y, 1)
            case "sort over channels":
                y = torch.sort(y, 1)[0]
        return self.second(y)


@pytest.mark.parametrize(
    ("kind", "groups"),
    [
        ("fake quantiser", 8),
        ("cumsum", 8),
        ("topk", 8),
        ("grid sample", 8),
        ("cumsum over channels", 0),
        ("sort over channels", 0),
    ],
)
def test_channels_pass_what_works_within_each_of_them(kind: str, groups: int) -> None:
    torch.manual_seed(0)
    module, x = Passing(kind).eval(), torch.randn(2, 3, 6, 6)
    network = from_module(module, (x,))
    coupling = channel_groups(network)
    assert coupling.count == groups
    keep = np.arange(groups) % 2 == 0
    pruned = prune_module(module, network, keep, coupling, example_inputs=(x,))
    assert pruned.first.out_channels == (4 if groups else 8)
