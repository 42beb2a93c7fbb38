"""Bit-slice training: phases and masks, columns that end under their converters, and the method from end to end."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from picojoule.compress import bitslice_columns, load_method
from picojoule.compress import bitslice_training as training
from picojoule.compress.bitslice import Bitslice
from picojoule.compress.bitslice_columns import caps_for, input_importances
from picojoule.compress.bitslice_config import BitsliceConfig, Penalty
from picojoule.compress.bitslice_slices import codes_of_weight, needed_bits, scale_exponent, step_of
from picojoule.compress.plan import apply_plan
from picojoule.models import data as datasets
from picojoule.sim.errors import InputError
from picojoule.sim.numerics.torch_importer import from_module


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.relu(self.norm(self.conv(x))).flatten(1))


def small(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Small()


@pytest.fixture(scope="module")
def digits() -> datasets.Dataset:
    return datasets.load("digits")


@pytest.fixture(scope="module")
def some(digits: datasets.Dataset) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(digits.train.images[:600]), torch.tensor(digits.train.labels[:600])


def codes_of(model: nn.Module, exponents: tuple[int, ...]) -> list[torch.Tensor]:
    layers = training.layers_of(model).values()
    return [codes_of_weight(m.weight, step_of(e)) for m, e in zip(layers, exponents, strict=True)]  # type: ignore[arg-type]


def short(**values: object) -> BitsliceConfig:
    return BitsliceConfig(**{"epochs": 2, "batch_size": 32, "cap_every": 5, **values})  # type: ignore[arg-type]


@pytest.mark.parametrize("penalty", list(Penalty))
def test_weights_end_on_their_grid_and_the_same_seed_gives_the_same(penalty, some):
    made = []
    for _ in range(2):
        model = small()
        trained = training.train_bitslice(model, *some, short(penalty=penalty, epochs=1, budget_pj=3.0))
        codes = codes_of(model, trained.exponents)
        for layer, code, exponent in zip(training.layers_of(model).values(), codes, trained.exponents, strict=True):
            assert torch.equal(layer.weight.detach(), code * step_of(exponent))
        assert not model.training and len(trained.history) == 1
        made.append((codes, trained.history))
    assert all(torch.equal(a, b) for a, b in zip(made[0][0], made[1][0], strict=True))
    assert made[0][1] == made[1][1]


def test_training_learns_and_stronger_penalties_leave_fewer_slices(some):
    losses, levels = {}, {}
    for strength in (0.0, 0.05):
        model = small()
        trained = training.train_bitslice(model, *some, short(penalty="bitslice_l1", strength=strength, epochs=4))
        losses[strength] = [h["loss"] for h in trained.history]
        levels[strength] = sum(float(c.abs().sum()) * step_of(e) for c, e in zip(
            codes_of(model, trained.exponents), trained.exponents, strict=True
        ))  # fmt: skip
    assert losses[0.0][-1] < losses[0.0][0] / 1.5
    assert levels[0.05] < 0.9 * levels[0.0]


def test_pruned_weights_stay_zero_through_fine_tuning(some):
    model = small()
    before = torch.cat([m.weight.detach().abs().flatten() for m in training.layers_of(model).values()])  # type: ignore[operator]
    pruned = (before <= before.kthvalue(round(0.6 * len(before))).values).nonzero().flatten()
    training.train_bitslice(model, *some, short(penalty="l1", strength=0.1, prune_share=0.6))
    after = torch.cat([m.weight.detach().flatten() for m in training.layers_of(model).values()])  # type: ignore[operator]
    assert len(pruned) == round(0.6 * len(before))
    assert (after[pruned] == 0).all()
    assert (after != 0).sum() > 0.3 * len(before)


def test_three_phases_run_in_order(some):
    model = small()
    config = short(penalty="bitslice_l1", strength=0.01, pretrain_epochs=1, pretrain_strength=0.5, prune_share=0.5)
    trained = training.train_bitslice(model, *some, config)
    assert [h["epoch"] for h in trained.history] == [1, 1, 2]
    codes = torch.cat([c.flatten() for c in codes_of(model, trained.exponents)])
    assert (codes == 0).float().mean() >= 0.5


@pytest.mark.parametrize("free_scale", [True, False])
def test_columns_end_under_the_converters_that_the_budget_buys(free_scale, some):
    model = small()
    training.train_bitslice(model, *some, short(penalty="none", epochs=3))
    dense = needed_bits(codes_of(model, tuple(scale_exponent(m.weight) for m in training.layers_of(model).values())))  # type: ignore[arg-type]
    trained = training.train_bitslice(model, *some, short(budget_pj=2.0, free_scale=free_scale))
    assert trained.caps is not None and trained.caps.energy_pj <= 2.0
    bits = needed_bits(codes_of(model, trained.exponents))
    assert all(b <= cap for b, cap in zip(bits, trained.caps.bits, strict=True))
    assert sum(bits) < sum(dense)
    again = training.train_bitslice(model, *some, short(penalty="none", epochs=0))  # the scale that was frozen may fall
    assert all(e <= f for e, f in zip(again.exponents, trained.exponents, strict=True))


def test_limits_tighten_to_the_goal():
    model = small()
    run = training._Run(
        model=model, layers=[model.fc], images=torch.rand(4, 1, 8, 8), labels=torch.zeros(4).long(), config=short()
    )
    caps = caps_for(model, run.layers, run.images, run.labels, run.config)
    with training._rounded(run.layers, [training.FixedPoint(exponent=caps.exponents[0])]):
        columns = training._Columns(run, caps, input_importances(model, run.layers, run.images))
    assert columns.limits(0.0, 0.3) == columns.start
    assert columns.limits(0.3, 0.3) == columns.limits(1.0, 0.0) == list(caps.largest)
    half = columns.limits(0.15, 0.3)
    assert all(min(a, b) <= h <= max(a, b, 1) for h, a, b in zip(half, columns.start, caps.largest, strict=True))
    assert math.isclose(sum(columns.prices), 4) and all(p > 0 for p in columns.prices)


def test_the_loss_picks_the_scale_and_the_network_is_left_alone(some, monkeypatch: pytest.MonkeyPatch):
    model = small()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    layers = list(training.layers_of(model).values())
    found = caps_for(model, layers, *some, short(budget_pj=1.5))
    assert found.energy_pj <= 1.5
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

    losses = {}
    real = bitslice_columns._loss_when_capped

    def spying(*args: Any) -> float:
        losses[args[4].exponents] = real(*args)
        return losses[args[4].exponents]

    monkeypatch.setattr(bitslice_columns, "_loss_when_capped", spying)
    assert caps_for(model, layers, *some, short(budget_pj=1.5)) == found
    assert len(losses) == 9 and found.exponents == min(losses, key=losses.__getitem__)
    coarser = caps_for(model, layers, *some, short(budget_pj=1.5, shift=1))
    assert coarser.exponents == tuple(e + 1 for e in found.exponents)


def test_importance_of_inputs_is_their_mean_square():
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(3 * 6 * 6, 2))
    x = torch.rand(5, 2, 8, 8)
    conv, linear = input_importances(model, [model[0], model[2]], x)
    mean = x.square().mean((0, 2, 3))
    assert conv.shape == (2, 3, 3)
    assert torch.allclose(conv, (mean + 1e-3 * mean.mean()).reshape(2, 1, 1).expand(2, 3, 3))
    y = model[:2](x).detach().square().mean(0)
    assert torch.allclose(linear, y + 1e-3 * y.mean())


def test_what_cannot_be_trained_is_refused(some):
    with pytest.raises(
        InputError, match=r"^the network has no convolution or linear module whose weights could be sliced$"
    ):
        training.train_bitslice(nn.Sequential(nn.Flatten()), *some, short())
    with pytest.raises(InputError, match=r"^training needs at least one sample$"):
        training.train_bitslice(small(), some[0][:0], some[1][:0], short())
    with pytest.raises(
        InputError, match=r"^training diverged in epoch 1: the loss is not finite; lower lr \(it is 0.05\)$"
    ):
        training.train_bitslice(small(), some[0][:40] * torch.nan, some[1][:40], short(penalty="none", batch_size=64))


# --- the method -----------------------------------------------------------------------------------------------------------


def test_the_plan_reproduces_the_integers(digits):
    model = small()
    made, artifact = load_method("bitslice").fit(model, digits, None, short(budget_pj=3.0, epochs=1))
    assert isinstance(load_method("bitslice"), Bitslice)
    assert torch.equal(model.conv.weight, small().conv.weight)  # type: ignore[union-attr]
    assert set(artifact.plan.layers) == {"conv", "fc"}
    for name, plan in artifact.plan.layers.items():
        assert plan.weight is not None and plan.weight.format == "int9" and isinstance(plan.weight.step, float)
        weight = made.get_submodule(name).weight.detach()
        codes = weight / plan.weight.step
        assert torch.equal(codes, codes.round()) and codes.abs().max() <= 255
        assert plan.activation is not None and plan.activation.format == ("int8" if name == "conv" else "uint8")
    apply_plan(from_module(made, (torch.tensor(digits.train.images[:2]),)), artifact.plan)
    codes = [made.get_submodule(n).weight.detach() / p.weight.step for n, p in artifact.plan.layers.items()]  # type: ignore[union-attr, operator]
    bits = ",".join(str(b or 2) for b in needed_bits(codes))
    assert f"b0 first: adc_bits=[{bits}]" in artifact.notes[1]
