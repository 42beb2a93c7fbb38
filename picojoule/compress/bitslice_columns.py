"""Which converters and which scale a network is trained for: its budget, its weights, and what its inputs make of them."""

import math
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor, nn

from picojoule.compress.bitslice_caps import Caps, EnergyOfBits, capped_weight, choose_caps
from picojoule.compress.bitslice_config import BitsliceConfig, Polarities, least_bits, slice_energy_pj
from picojoule.compress.bitslice_slices import codes_of_weight, scale_exponent, step_of
from picojoule.reram.adc_models import AdcModel

_SHIFTS = range(-1, 8)
_SAMPLES = 1000
_LEAST_IMPORTANCE = 1e-3  # of the mean: an input that was always zero in the samples may not stay so


def conversion_energy(model: AdcModel, encoding: Polarities = Polarities.DIFFERENTIAL) -> EnergyOfBits:
    """Return the energy of converting a slice of a weight column once (pJ) as a function of its signed bits."""
    return cache(lambda bits: slice_energy_pj(model, encoding, bits))


def caps_for(
    model: nn.Module, layers: Sequence[nn.Module], images: Tensor, labels: Tensor, config: BitsliceConfig
) -> Caps:
    """Return the converters and scales for a trained network and a budget; some training images judge the scale."""
    weights = [_weight(layer) for layer in layers]
    importances = input_importances(model, layers, images)

    def judge(caps: Caps) -> float:
        return _loss_when_capped(
            model, layers, images[:_SAMPLES], labels[:_SAMPLES], caps, importances, config.tile_rows
        )

    def choose(shifts: Sequence[int]) -> Caps:
        return choose_caps(
            weights,
            importances,
            budget_pj=config.budget_pj,
            energy_pj=conversion_energy(config.adc_model, config.encoding),
            least=least_bits(config.adc_model, config.encoding),
            shifts=shifts,
            judge=judge,
            rows=config.tile_rows,
        )

    if not config.free_scale:
        return choose((config.shift,))
    best = choose(_SHIFTS)
    return choose((best.exponents[0] - scale_exponent(weights[0]) + config.shift,)) if config.shift else best


@torch.no_grad()
def _loss_when_capped(
    model: nn.Module,
    layers: Sequence[nn.Module],
    images: Tensor,
    labels: Tensor,
    caps: Caps,
    importances: Sequence[Tensor],
    rows: int,
) -> float:
    """Return the loss of the network as it is but for weights capped and rounded; infinite where it is no number."""
    weights = [_weight(layer) for layer in layers]
    before = [w.clone() for w in weights]
    training = model.training
    model.eval()
    try:
        for w, exponent, matter in zip(weights, caps.exponents, importances, strict=True):
            step = step_of(exponent)
            w.copy_(codes_of_weight(capped_weight(w, exponent, caps.largest, matter, rows), step) * step)
        loss = float(nn.functional.cross_entropy(model(images), labels))
    finally:
        for w, old in zip(weights, before, strict=True):
            w.copy_(old)
        model.train(training)
    return loss if math.isfinite(loss) else math.inf


def _weight(layer: nn.Module) -> Tensor:
    assert isinstance(layer.weight, Tensor)
    return layer.weight.detach()


def input_importances(model: nn.Module, layers: Sequence[nn.Module], images: Tensor) -> list[Tensor]:
    """Return E[x^2] for every weight of an output, over some images: a convolution's by input channel.

    Layers that the images never reach get ones.
    """
    found: dict[int, Tensor] = {}

    def hook(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        x, weight = args[0].detach(), _weight(layer)
        axis = x.dim() - 1 if isinstance(layer, nn.Linear) else 1
        mean = x.square().mean([a for a in range(x.dim()) if a != axis])
        if not isinstance(layer, nn.Linear):
            mean = mean.reshape(-1, weight.shape[1]).mean(0)  # groups share what a filter's channel means
            mean = mean.reshape(-1, *[1] * (weight.dim() - 2)).expand(weight.shape[1:])
        found[id(layer)] = mean + _LEAST_IMPORTANCE * mean.mean()

    hooks = [layer.register_forward_pre_hook(hook) for layer in layers]
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            model(images[:_SAMPLES])
    finally:
        model.train(training)
        for handle in hooks:
            handle.remove()
    return [found[id(y)] if id(y) in found else torch.ones_like(_weight(y)[0]) for y in layers]
