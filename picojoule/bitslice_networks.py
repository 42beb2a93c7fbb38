"""The two networks of the bit-slice study and its data: Fashion-MNIST whole, as unsigned pixels.

Inputs are pixels over 255, not normalised: a crossbar then streams 8 unsigned bits, exactly the file's.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from picojoule.models.data import Dataset, Split, load
from picojoule.sim.errors import InputError

NETWORKS = ("mlp", "cnn")
CLASSES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Images [n, 1, 28, 28] between 0 and 1, and labels [n]."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Training and validation images; the test part comes from `test_part`, for final points only."""

    train: Part
    val: Part
    test: Part
    digest: str


def build(network: str, seed: int) -> nn.Module:
    """Return an untrained network: the MLP 784-100-10 of the paper, or a small CNN (16 and 32 channels, strides for pools)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if network == "mlp":
            return nn.Sequential(nn.Flatten(), nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, CLASSES))
        return nn.Sequential(
            nn.Conv2d(1, 16, 5, stride=2, padding=2), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
            nn.Flatten(), nn.Linear(32 * 7 * 7, CLASSES),
        )  # fmt: skip


@lru_cache(maxsize=1)
def parts_of(spec: str, limit: int | None = None) -> Parts:
    """Return a data set's parts as unsigned pixels; `limit`: only so many images of each (for a quick run).

    Raises:
        InputError: if it is not grey 28 x 28 in 10 classes.

    """
    data = load(spec)
    if data.input_shape != (1, 28, 28) or data.classes != CLASSES:
        raise InputError(f"{spec}: must hold grey 28 x 28 images in {CLASSES} classes, got {data.input_shape}")
    made = [_unsigned(data, part, limit) for part in (data.train, data.val, data.test)]
    return Parts(train=made[0], val=made[1], test=made[2], digest=data.digest)


def _unsigned(data: Dataset, part: Split, limit: int | None) -> Part:
    pixels = torch.tensor(part.images[:limit]) * data.std[0] + data.mean[0]
    return Part(images=(pixels * 255).round() / 255, labels=torch.tensor(part.labels[:limit]))
