"""Convolutions as matrix products: windows in small integers, a few images at a time."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from picojoule.sim.attributes import ConvAttributes, Op
from picojoule.sim.numerics import mac_layout
from picojoule.sim.numerics.torch_importer import from_module


class Recorder:
    """An exact product that remembers what it was given."""

    exact = False

    def __init__(self, weights):
        self.weights, self.seen = weights, []

    def matmul(self, inputs, *, signed=None):
        self.seen.append((inputs.dtype, inputs.shape))
        return self.weights @ inputs.astype(np.float64)


@pytest.mark.parametrize(
    ("low", "high", "dtype"), [(0, 255, "uint8"), (-128, 127, "int8"), (0, 256, "int16"), (-1, 128, "int16")]
)
def test_windows_are_small_integers_and_few_at_a_time(low, high, dtype, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(low, high + 1, (5, 4, 9, 7), generator=generator).float()
    x[0, 0, 0, :2] = torch.tensor([float(low), float(high)])
    module = torch.nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2, bias=False)
    w = torch.randint(-7, 8, module.weight.shape, generator=generator).float()
    layer = next(found for found in from_module(module, (x,)).layers if found.op is Op.CONV)
    assert isinstance(layer.attributes, ConvAttributes)
    products = [Recorder(m.numpy().astype(np.float64)) for m in mac_layout.weight_matrices(layer, w)]
    expected = F.conv2d(x.double(), w.double(), None, (2, 1), (1, 2), (1, 2), 2)
    pixels = expected.shape[2] * expected.shape[3]
    monkeypatch.setattr(mac_layout, "_BLOCK_BYTES", 2 * 12 * pixels * np.dtype(dtype).itemsize)  # two images
    y = mac_layout.through_hardware(layer, x, w, products, low < 0)
    assert torch.equal(y, expected)
    for product in products:
        assert product.seen == [(np.dtype(dtype), (12, n * pixels)) for n in (2, 2, 1)]
