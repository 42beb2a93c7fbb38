"""What Hamming-aware training adds to each step of a training, and how it weighs rounding errors against flips."""

import copy
import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from picojoule.compress.hamming_config import HammingConfig, Search
from picojoule.compress.hamming_layers import StreamedLayer
from picojoule.models.data import Split
from picojoule.training import one_thread

_BATCHES, _BATCH = 64, 8


class HammingTerm:
    """Called once a step by `training.train`: searches paths or returns the penalty; its state lives in the model.

    A flip's price: `strength` over all flips of the network as it starts (`hardware`), or over this layer's and the number of
    layers (`uniform`).
    """

    def __init__(self, layers: Sequence[StreamedLayer], config: HammingConfig, samples: int) -> None:
        self.layers, self.config = layers, config
        self.steps = config.epochs * math.ceil(samples / config.batch_size)
        self.quarter = max(1, self.steps // 4)
        for layer in layers:
            layer.find_order()
        start = [layer.flips() for layer in layers]
        for layer, flips in zip(layers, start, strict=True):
            base = sum(start) if config.weighting == "hardware" else len(layers) * flips
            layer.flip_price = config.strength / max(1, base)

    def search(self, share: float = 1.0) -> None:
        """Round all weights along their cheapest paths, at a share of the price of flips."""
        for layer in self.layers:
            layer.search(share)

    def __call__(self) -> Tensor:
        """Return what is added to the loss."""
        age = int(self.layers[0].step.age)
        for layer in self.layers:
            layer.step.age += 1
        done = age / self.steps
        share = min(1.0, done / self.config.ramp) if self.config.ramp else 1.0
        if age and age % self.quarter == 0 and done <= self.config.order_until:
            for layer in self.layers:
                layer.find_order()
        if self.config.search is Search.TRELLIS and age % self.config.refresh_every == 0:
            self.search(share)
        if self.config.search is Search.BITS and self.config.strength:
            prices = (share * layer.flip_price * layer.soft_flips() for layer in self.layers)
            return torch.stack(list(prices)).sum()
        return torch.zeros(())


def error_prices(model: nn.Module, modules: Sequence[nn.Module], split: Split, seed: int) -> list[NDArray[np.float64]]:
    """Return half the expected squared gradient of the loss by each weight: what a squared error costs (Fisher's diagonal).

    Labels are drawn from the model's own output. From 64 batches of 8 training images; smoothed to the product of a mean per
    output channel and a mean per place in a filter, because single weights' estimates are noisy.
    """
    twin, generator = copy.deepcopy(model).eval(), torch.Generator().manual_seed(seed)
    paths = {id(m): name for name, m in model.named_modules()}
    weights = [twin.get_parameter(f"{paths[id(m)]}.weight") for m in modules]
    sums = [torch.zeros_like(w, dtype=torch.float64) for w in weights]
    with one_thread():
        for chosen in torch.split(torch.randperm(len(split), generator=generator)[: _BATCHES * _BATCH], _BATCH):
            scores = twin(torch.tensor(split.images[chosen.numpy()]))
            drawn = torch.multinomial(scores.detach().softmax(1), 1, generator=generator)[:, 0]
            loss = nn.functional.cross_entropy(scores, drawn)
            for total, gradient in zip(sums, torch.autograd.grad(loss, weights), strict=True):
                total += gradient.double() ** 2 * (len(chosen) * 0.5 / _BATCHES)
    found = []
    for total in sums:
        rows = total.flatten(1).numpy()
        mean = max(float(rows.mean()), 1e-30)
        smooth = rows.mean(1, keepdims=True) * rows.mean(0, keepdims=True) / mean
        found.append(np.maximum(smooth, 1e-3 * mean))
    return found
