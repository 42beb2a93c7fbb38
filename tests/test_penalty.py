"""The differentiable price of a network's channels."""

import copy

import pytest
import torch

import picojoule as pj
from picojoule.models.zoo import build, example_inputs
from picojoule.sim.errors import InputError


@pytest.fixture(scope="module")
def module():
    return build("dscnn-fashion")


def test_it_is_in_picojoule_and_reaches_weights_and_norm_scales(module):
    x = example_inputs("dscnn-fashion")
    total = pj.evaluate(pj.trace(module, x), "edge-16x16").totals["energy_pj"]
    penalty = pj.penalty(module, x, "edge-16x16")
    assert 0.05 * total < float(penalty.detach()) < 3 * total
    penalty.backward()
    got = {name for name, p in module.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert {"features.0.0.weight", "features.0.1.weight"} <= got
    module.zero_grad()


def test_dying_channels_make_it_fall_and_dead_ones_cost_nothing(module):
    x = example_inputs("dscnn-fashion")
    whole = float(pj.penalty(module, x, "edge-16x16").detach())
    thinner = copy.deepcopy(module)
    with torch.no_grad():
        thinner.features[0][1].weight[:8] = 0  # half of the first layer's channels, by their norm's scale
    assert float(pj.penalty(thinner, x, "edge-16x16").detach()) < whole


def test_gradient_descent_on_it_alone_shrinks_the_cost(module):
    x = example_inputs("dscnn-fashion")
    shrinking = copy.deepcopy(module)
    optimizer = torch.optim.Adam(shrinking.parameters(), lr=0.05)
    values = []
    for _ in range(30):
        optimizer.zero_grad()
        penalty = pj.penalty(shrinking, x, "edge-16x16")
        penalty.backward()
        optimizer.step()
        values.append(float(penalty.detach()))
    assert values[-1] < 0.8 * values[0]


def test_a_metric_without_a_price_is_refused(module):
    with pytest.raises(InputError, match="penalty knows the metrics energy_pj, "):
        pj.penalty(module, example_inputs("dscnn-fashion"), "edge-16x16", metric="area_mm2")


def test_prices_follow_the_inputs_size(module):
    small, large = (torch.zeros(2, 1, size, size) for size in (28, 56))
    first = float(pj.penalty(module, small, "edge-16x16").detach())
    assert float(pj.penalty(module, large, "edge-16x16").detach()) > 2 * first
    assert float(pj.penalty(module, small, "edge-16x16").detach()) == pytest.approx(first)
