"""Networks whose weights are not what they compute with: pruned, normalised, parametrised, fake-quantised."""

import torch
from torch import nn
from torch.ao.quantization import FakeQuantize, MovingAverageMinMaxObserver
from torch.nn.utils import parametrizations, parametrize, prune


def _plain() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(1568, 10),
    ).eval()


class Symmetric(nn.Module):
    """Makes a kernel the same from left and from right."""

    def forward(self, kernel: torch.Tensor) -> torch.Tensor:
        """Return the symmetric kernel."""
        return (kernel + kernel.flip(-1)) / 2


class Rounded(nn.Module):
    """Rounds a kernel to steps of its own, one per filter, as quantisation-aware training does."""

    def __init__(self, weight: torch.Tensor, bits: int) -> None:
        super().__init__()
        self.high = 2 ** (bits - 1) - 1
        self.register_buffer("step", weight.flatten(1).abs().amax(dim=1) / self.high)
        self.register_buffer("zero", torch.zeros(len(weight), dtype=torch.int32))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the rounded kernel."""
        return torch.fake_quantize_per_channel_affine(weight, self.step, self.zero, 0, -self.high - 1, self.high)


class RoundedInputs(nn.Module):
    """Rounds its input to 8 bits, then applies a layer."""

    def __init__(self, layer: nn.Module, step: float) -> None:
        super().__init__()
        self.layer, self.step = layer, step

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the layer's result."""
        return self.layer(torch.fake_quantize_per_tensor_affine(x, self.step, 0, 0, 255))  # type: ignore[no-any-return]


def pruned() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Return a network with torch's pruning masks: half of one layer's weights, a quarter of another's filters."""
    net = _plain()
    prune.l1_unstructured(net[0], "weight", amount=0.5)
    prune.ln_structured(net[2], "weight", amount=0.25, n=2, dim=0)
    return net, (torch.randn(1, 3, 16, 16),)


def normalised() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Return a network with weight norm (the old hook and the new parametrisation) and a spectral norm."""
    net = _plain()
    parametrizations.weight_norm(net[0])
    parametrizations.spectral_norm(net[2])
    parametrize.register_parametrization(net[2], "bias", nn.Tanh())
    return net, (torch.randn(1, 3, 16, 16),)


def symmetric() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Return a network with a parametrisation of its own."""
    net = _plain()
    parametrize.register_parametrization(net[0], "weight", Symmetric())
    return net, (torch.randn(1, 3, 16, 16),)


def fake_quantized() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Return a network after quantisation-aware training: weights of 8 and 4 bits per filter, activations of 8."""
    net = _plain()
    for place, bits in ((0, 8), (2, 4), (5, 4)):
        parametrize.register_parametrization(net[place], "weight", Rounded(net[place].weight.detach(), bits))
    net[2], net[5] = RoundedInputs(net[2], 0.01), RoundedInputs(net[5], 0.01)
    return net, (torch.randn(1, 3, 16, 16),)


def torch_fake_quantize() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Return a network with torch's own FakeQuantize modules, which look at a buffer to decide whether to act."""
    net = _plain()
    quantizer = FakeQuantize(MovingAverageMinMaxObserver, quant_min=0, quant_max=255)
    made = nn.Sequential(quantizer, net)
    x = torch.randn(1, 3, 16, 16)
    made(x)
    quantizer.disable_observer()
    return made.eval(), (x,)
