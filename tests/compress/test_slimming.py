"""Network Slimming: channels go by their scales, coupled ones together, to a ratio or a budget."""

import numpy as np
import pytest
import torch
from torch import nn

from picojoule.compress import load_method, methods
from picojoule.compress.coupling import channel_groups
from picojoule.compress.plan import apply_plan
from picojoule.compress.slimming import (
    Slimming,
    SlimmingConfig,
    gamma_penalty,
    gamma_scores,
    relative_prices,
    relative_to_layer,
)
from picojoule.models import data as datasets
from picojoule.signals import group_prices, marginal, uniform_signal
from picojoule.sim.errors import InfeasibleError, InputError
from picojoule.sim.gemm import network_macs
from picojoule.sim.hardware import load_hardware
from picojoule.sim.numerics.torch_importer import from_module
from picojoule.training import accuracy, train


class Residual(nn.Module):
    """A stem, a residual block whose inner width is free, and a wide last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU())
        self.inner = nn.Sequential(nn.Conv2d(12, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.outer = nn.Sequential(nn.Conv2d(16, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12))
        self.last = nn.Sequential(nn.Conv2d(12, 24, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(24), nn.ReLU())
        self.fc = nn.Linear(24 * 16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = torch.relu(x + self.outer(self.inner(x)))
        return self.fc(self.last(x).flatten(1))


@pytest.fixture(scope="module")
def digits() -> datasets.Dataset:
    return datasets.load("digits")


@pytest.fixture(scope="module")
def trained(digits: datasets.Dataset) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Residual()
    train(model, digits.train, epochs=3, lr=1e-2)
    return model


def test_a_third_of_the_channels_go_and_accuracy_stays(trained: nn.Module, digits: datasets.Dataset) -> None:
    before = {k: v.clone() for k, v in trained.state_dict().items()}
    config = SlimmingConfig(ratio=1 / 3, hardware_aware=False, epochs=1, finetune_epochs=2, lr=5e-3)
    model, artefact = Slimming().fit(trained, digits, None, config)
    original, _ = accuracy(trained, digits.test)
    correct, count = accuracy(model, digits.test)
    assert correct / count > original / count - 0.03
    network = from_module(trained, (torch.tensor(digits.train.images[:2]),))
    planned = apply_plan(network, artefact.plan)
    got = from_module(model, (torch.tensor(digits.train.images[:2]),))
    assert [y.results for y in planned.layers] == [y.results for y in got.layers]
    assert network_macs(got) < 0.7 * network_macs(network)
    widths = [model.stem[0].out_channels, model.inner[0].out_channels, model.last[0].out_channels]
    assert sum(widths) == 12 + 16 + 24 - 17
    assert model.outer[0].out_channels == model.stem[0].out_channels  # the two sides of the shortcut
    assert all(torch.equal(v, before[k]) for k, v in trained.state_dict().items())
    assert (
        apply_plan(got, artefact.plan).layers == got.layers
    )  # a saved module comes with its plan: nothing left to drop
    phases = [h["phase"] for h in artefact.history]
    assert phases == ["sparse training", "fine-tuning", "fine-tuning"]


def test_the_smallest_scales_go_first(trained: nn.Module, digits: datasets.Dataset) -> None:
    network = from_module(trained, (torch.tensor(digits.train.images[:2]),))
    coupling = channel_groups(network)
    config = SlimmingConfig(ratio=0.3, compare="network", epochs=0, finetune_epochs=0, min_channels=1)
    _, artefact = Slimming().fit(trained, digits, None, config)
    score = gamma_scores(trained, coupling)
    kept, dropped = [], []
    for layer in network.layers:
        if layer.name in ("stem.0", "inner.0", "last.0"):
            labels = coupling.outputs_of(layer)
            entry = artefact.plan.layers.get(layer.name)
            stays = np.isin(np.arange(len(labels)), entry.keep_channels if entry else np.arange(len(labels)))
            kept.extend(score[labels[stays]])
            dropped.extend(score[labels[~stays]])
    assert len(dropped) == round(0.3 * 52)
    assert max(dropped) <= min(kept)
    gammas = [trained.stem[1].weight, trained.outer[1].weight]
    means = torch.stack([g.detach().abs() for g in gammas]).mean(0)
    stem = coupling.outputs_of(network.layers[0])
    assert score[stem] == pytest.approx(means.double().numpy())


def test_scores_relative_to_the_layer_have_mean_one_in_each_layer(trained: nn.Module, digits: datasets.Dataset) -> None:
    network = from_module(trained, (torch.tensor(digits.train.images[:2]),))
    coupling = channel_groups(network)
    score = gamma_scores(trained, coupling)
    relative = relative_to_layer(score, coupling)
    for layer in network.layers:
        if layer.name in ("stem.0", "inner.0", "last.0"):
            labels = coupling.outputs_of(layer)
            assert relative[labels].mean() == pytest.approx(1)
            assert (np.argsort(relative[labels]) == np.argsort(score[labels])).all()


def test_the_budget_is_met_and_not_overshot(trained: nn.Module, digits: datasets.Dataset) -> None:
    network = from_module(trained, (torch.tensor(digits.train.images[:2]),))
    signal = marginal(network, load_hardware("edge-16x16"))
    for budget in (0.75, 0.5):
        config = SlimmingConfig(budget=budget, epochs=0, finetune_epochs=0)
        model, artefact = Slimming().fit(trained, digits, signal, config)
        share = signal.price(from_module(model, (torch.tensor(digits.train.images[:2]),))) / signal.baseline
        assert budget - 0.1 < share <= budget
        assert artefact.notes[-1] == f"energy_pj_per_sample (edge-16x16) is {share:.4f} of the original's"


def test_an_impossible_budget_names_what_remains(trained: nn.Module, digits: datasets.Dataset) -> None:
    config = SlimmingConfig(budget=0.01, epochs=0, finetune_epochs=0)
    with pytest.raises(
        InfeasibleError, match=r"cannot bring macs to 0.01 of the original; with 4 channels in every layer 0\.\d+"
    ):
        Slimming().fit(trained, digits, None, config)


def test_the_penalty_weighs_each_scale_by_its_price(trained: nn.Module, digits: datasets.Dataset) -> None:
    network = from_module(trained, (torch.tensor(digits.train.images[:2]),))
    coupling = channel_groups(network)
    weights = relative_prices(uniform_signal(network), coupling, np.array([bool(g.scales) for g in coupling.groups]))
    # MACs that go with one channel, by hand: 64 pixels, filters of 9 taps; the last layer has 16 pixels.
    stem = 64 * 9 * (1 + 16 + 16) + 16 * 9 * 24
    inner = 64 * 9 * (12 + 12)
    last = 16 * 9 * 12 + 16 * 10
    prices = group_prices(uniform_signal(network), coupling)
    assert sorted(set(prices[weights > 0])) == pytest.approx(sorted((stem, inner, last)))
    mean = (12 * stem + 16 * inner + 24 * last) / 52
    assert sorted(set(weights)) == pytest.approx(sorted(max(p / mean, 0.1) for p in (stem, inner, last)))
    by_hand = sum(
        float(price / mean * norm.weight.detach().abs().sum())
        for price, norm in (
            (stem, trained.stem[1]), (stem, trained.outer[1]), (inner, trained.inner[1]), (last, trained.last[1]),
        )
    )  # fmt: skip
    assert float(gamma_penalty(trained, coupling, weights)().detach()) == pytest.approx(by_hand, rel=1e-5)


def test_a_network_without_batch_norm_is_refused(digits: datasets.Dataset) -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    with pytest.raises(
        InputError, match="Sequential has no batch norm whose channels can go; slimming needs batch norms"
    ):
        Slimming().fit(model, digits, None, SlimmingConfig(epochs=0))


def test_ratio_and_budget_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="slimming takes a ratio of channels or a budget, not both"):
        SlimmingConfig(ratio=0.5, budget=0.5)


def test_methods_are_listed_with_their_sources() -> None:
    rows = methods()
    assert [r["name"] for r in rows] == ["slimming", "lsq", "bitslice", "hamming", "reorder"]
    assert all(r["source"] and r["catalogue"].startswith("S") for r in rows)
    with pytest.raises(InputError, match=r"unknown method 'sliming'; did you mean 'slimming'\?"):
        load_method("sliming")
