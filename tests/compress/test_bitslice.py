"""Bit slices of weights: the quantiser, slices, columns against the crossbar's own needs, penalties' gradients, and caps."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from picojoule.compress import bitslice_caps as caps
from picojoule.compress import bitslice_penalties as penalties
from picojoule.compress import bitslice_slices as slices
from picojoule.reram.adc_models import AdcModel, adc_energy_pj
from picojoule.reram.crossbar import CrossbarSpec, Encoding
from picojoule.reram.needs import adc_needs
from picojoule.sim.errors import InputError

DIFFERENTIAL = CrossbarSpec(encoding=Encoding.DIFFERENTIAL, weight_bits=9, adc_bits=None)


def weights(*shape: int, seed: int = 0, scale: float = 0.1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


def energy(bits: int) -> float:
    return float(adc_energy_pj(AdcModel.ISAAC_SAR, bits))


# --- quantiser ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("largest", "exponent"), [(0.5, -1), (0.500001, 0), (1.0, 0), (1.5, 1), (0.0, -16)])
def test_the_scale_is_the_next_power_of_two(largest: float, exponent: int):
    w = torch.tensor([[largest, -largest / 2]])
    assert slices.scale_exponent(w) == exponent
    assert slices.step_of(exponent) == 2.0 ** (exponent - 8)


def test_weights_round_to_sign_and_eight_bits_and_gradients_pass():
    w = torch.tensor([0.5, -0.3, 0.001, -0.0009765, 0.499], requires_grad=True)
    point = slices.FixedPoint()
    made = point(w)
    step = 2.0**-9
    assert made.tolist() == [255 * step, -154 * step, 1 * step, 0, 255 * step]  # 256 is clamped: b3 has no level 4
    made.sum().backward()
    assert w.grad is not None and w.grad.tolist() == [1.0] * 5
    assert slices.FixedPoint(shift=4)(w.detach()).tolist()[0] == 16 * 2.0**-5
    assert slices.FixedPoint(exponent=3)(w.detach()).tolist()[0] == 16 * 2.0**-5


def test_the_scale_follows_the_weight_unless_it_is_frozen():
    w = torch.tensor([[0.4, 0.1]])
    assert slices.FixedPoint().step(w) == 2.0**-9 and slices.FixedPoint().step(4 * w) == 2.0**-7
    assert slices.FixedPoint(exponent=-1).step(4 * w) == 2.0**-9


def test_a_mask_holds_weights_and_their_gradients_at_zero():
    w = torch.tensor([0.5, -0.3, 0.2], requires_grad=True)
    made = slices.FixedPoint(mask=torch.tensor([1.0, 0.0, 1.0]))(w)
    made.square().sum().backward()
    assert made[1] == 0 and w.grad is not None and w.grad[1] == 0 and w.grad[0] != 0


def test_a_weight_that_is_not_finite_is_refused():
    with pytest.raises(
        InputError, match=r"^a weight is not finite, so it has no fixed-point scale; lower the learning rate$"
    ):
        slices.scale_exponent(torch.tensor([1.0, math.inf]))


# --- slices and columns ---------------------------------------------------------------------------------------------------


def test_slices_put_the_code_together_again():
    codes = torch.arange(256.0)
    levels = [slices.slice_levels(codes, k) for k in range(4)]
    assert all(set(v.tolist()) == {0, 1, 2, 3} for v in levels)
    assert torch.equal(sum(v * 4**k for k, v in enumerate(levels)), codes)  # type: ignore[arg-type]
    assert slices.slice_shares([codes, -codes]) == (0.75,) * 4


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 300), st.integers(1, 4), st.integers(1, 140), st.integers(0, 5))
def test_tiles_lose_nothing(inputs: int, outputs: int, rows: int, seed: int):
    w = weights(outputs, inputs, seed=seed)
    tiles = slices.tiled(w, rows)
    assert tiles.shape[2] <= rows
    assert torch.equal(slices.untiled(tiles, w.shape, rows), w)
    assert torch.allclose(tiles.sum((1, 2)), w.sum(1), atol=1e-5)


@pytest.mark.parametrize("inputs", [25, 128, 129, 300, 784])
def test_needed_bits_are_those_that_the_crossbar_says(inputs: int):
    w = weights(7, inputs, seed=inputs)
    codes = slices.codes_of_weight(w, slices.step_of(slices.scale_exponent(w)))
    needs = adc_needs(codes.numpy().astype(np.int64), DIFFERENTIAL)
    assert slices.needed_bits([codes]) == needs.per_slice
    bounds = slices.column_bounds(codes).amax((0, 1))
    assert np.array_equal(bounds.numpy(), needs.bounds)


def test_bits_and_largest_sums_belong_together():
    assert [slices.signed_bits(b) for b in (0, 1, 2, 3, 4, 7, 8, 384)] == [0, 2, 3, 3, 4, 4, 5, 10]
    assert [slices.largest_sum(b) for b in (0, 2, 3, 4, 9)] == [0, 1, 3, 7, 255]


# --- penalties ------------------------------------------------------------------------------------------------------------


def test_bitslice_l1_has_the_derived_gradient_and_that_of_autograd():
    w = weights(3, 40).requires_grad_()
    step = slices.step_of(slices.scale_exponent(w))
    alpha = 0.5
    value = alpha * penalties.mean_slice_level([w], [step])
    value.backward()

    codes = slices.magnitudes(w, step)
    levels = [slices.slice_levels(codes, k) for k in range(4)]
    assert float(value.detach()) == pytest.approx(alpha * float(sum(levels).sum()) / (4 * w.numel()))  # type: ignore[union-attr]
    pull = sum((b > 0) / 4.0**k for k, b in enumerate(levels))
    derived = alpha / (4 * w.numel()) * w.detach().sign() / step * pull
    assert w.grad is not None and torch.allclose(w.grad, derived, rtol=1e-5)

    # The authors' network of roundings and floors: straight through, but an empty slice passes nothing (its remainder's floor
    # is constant there), so the slices are written with a gate.
    v = w.detach().clone().requires_grad_()
    scaled = v.abs() / step
    total = sum(((scaled / 4**k) * (b > 0)).sum() for k, b in enumerate(levels))
    (alpha / (4 * v.numel()) * total).backward()  # type: ignore[union-attr]
    assert v.grad is not None and torch.allclose(w.grad, v.grad, rtol=1e-5)


def test_a_full_weight_is_pulled_by_85_64ths_and_an_empty_one_not_at_all():
    w = torch.tensor([0.999, 0.0, -0.25]).requires_grad_()  # codes 255, 0 and 64 (b3 = 1 alone) at a step of 2^-8
    penalties.mean_slice_level([w], [2.0**-8]).backward()
    assert w.grad is not None
    assert (w.grad * 12 * 2.0**-8).tolist() == pytest.approx([85 / 64, 0, -1 / 64])


def test_plain_l1_is_a_mean_over_all_layers():
    a, b = torch.tensor([1.0, -2.0]).requires_grad_(), torch.tensor([[0.5], [-0.5]]).requires_grad_()
    value = penalties.mean_magnitude([a, b])
    value.backward()
    assert float(value.detach()) == 1.0 and a.grad is not None and a.grad.tolist() == [0.25, -0.25]


def test_excess_charges_only_columns_above_the_limit_and_reaches_the_one_that_sets_the_maximum():
    w = torch.zeros(2, 6)
    w[0, :4], w[1, :4] = 3.0, 1.0  # column sums of slice 0: 12 and 4, at a step of 1
    w.requires_grad_()
    value = penalties.excess([w], [8], (7, 1, 1, 1), (2.0, 1.0, 1.0, 1.0))
    value.backward()
    assert float(value.detach()) == 2.0 * (12 - 7)
    assert w.grad is not None
    assert w.grad[1].abs().sum() == 0 and w.grad[0, 4:].abs().sum() == 0
    assert w.grad[0, :4].tolist() == [-2.0] * 4  # code 3 is nearest to 4, where slice 0 is empty
    v = torch.tensor([[1.0, 1.0, -1.0, -1.0]]).requires_grad_()  # each polarity has its own column
    value = penalties.excess([v], [8], (1, 1, 1, 1), (1.0,) * 4)
    value.backward()
    assert float(value.detach()) == 2.0 and v.grad is not None and v.grad.tolist() == [[1.0, 1.0, -1.0, -1.0]]


def test_excess_pulls_down_where_no_slice_above_is_allowed():
    w = torch.full((1, 4), 3.0).requires_grad_()
    penalties.excess([w], [8], (7, 0, 0, 0), (1.0,) * 4).backward()
    assert w.grad is not None and w.grad.tolist() == [[1.0] * 4]


# --- caps -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [(4, 5, 4, 2), (0, 6, 6, 3), (5, 0, 0, 0), (0, 0, 0, 0), (9, 9, 9, 9)])
def test_capped_weights_fit_and_what_fitted_is_left_alone(bits: tuple[int, ...]):
    w = weights(9, 200, scale=0.05)
    exponent = slices.scale_exponent(w) + (5 if bits == (5, 0, 0, 0) else 0)
    step = slices.step_of(exponent)
    made = caps.capped_weight(w, exponent, [slices.largest_sum(b) for b in bits])
    needed = slices.needed_bits([slices.codes_of_weight(made, step)])
    assert all(n <= b for n, b in zip(needed, bits, strict=True))
    assert (made.abs() <= w.abs() + step / 2).all() and (made * w >= 0).all()
    if bits == (9, 9, 9, 9):
        assert torch.equal(made, w)


def test_capping_does_what_trying_everything_would():
    rng = np.random.default_rng(0)
    for _ in range(20):
        scaled = torch.tensor(rng.uniform(0, 3.4, (1, 4)), dtype=torch.float32)
        matter = torch.tensor(rng.uniform(0.1, 2, (1, 4)), dtype=torch.float32)
        limit = int(rng.integers(0, 6))
        made = caps.capped(scaled, (limit, 0, 0, 0), matter)
        options = torch.cartesian_prod(*[torch.arange(4.0)] * 4)
        options = options[options.sum(1) <= limit]
        best = (matter * (options - scaled).square()).sum(1).min()
        assert float(made.sum()) <= limit
        assert float((matter * (made - scaled).square()).sum()) == pytest.approx(float(best), rel=1e-5)


def test_capping_spares_weights_whose_inputs_matter():
    w = torch.full((1, 4), 1.0)
    made = caps.capped_weight(w, 8, (2, 0, 0, 0), torch.tensor([5.0, 0.1, 5.0, 0.1]))
    assert made.tolist() == [[1.0, 0.0, 1.0, 0.0]]


def test_a_budget_chooses_bits_and_scale_of_least_damage():
    layers = [weights(8, 100, seed=1), weights(5, 40, seed=2, scale=0.4)]

    def choose(budget: float, shifts: tuple[int, ...]) -> caps.Caps:
        return caps.choose_caps(layers, [None, None], budget_pj=budget, energy_pj=energy, shifts=shifts, sample=12)

    found = {budget: choose(budget, (0, 3, 5)) for budget in (6.0, 1.2)}
    for budget, chosen in found.items():
        assert chosen.energy_pj == pytest.approx(sum(map(energy, chosen.bits)))
        assert chosen.energy_pj <= budget
        shifts = {e - slices.scale_exponent(w) for e, w in zip(chosen.exponents, layers, strict=True)}
        assert len(shifts) == 1
    assert found[6.0].damage < found[1.2].damage
    assert found[1.2].damage <= choose(1.2, (0,)).damage
