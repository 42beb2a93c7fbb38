"""Convolutions of which a part runs, as they compute: channel gating (Hua et al., NeurIPS 2019) and active blocks (SBNet).

`ChannelGatedConv2d` makes partial sums p from the first `base` input channels; where the normalised p reaches a threshold that
is learnt per output channel, the other channels are added. Trained through a sigmoid in place of the step (gradient only).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from picojoule.sim.errors import InputError


class ChannelGatedConv2d(nn.Module):
    """A convolution and batch norm whose second part runs where a gate is open; `gates` holds the last forward's, [b, n, h, w].

    Without gates it is conv2d followed by `norm_all`: open gates give the same sums. `slope` is the sigmoid's steepness.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        kernel: int,
        *,
        base: int,
        stride: int = 1,
        slope: float = 4.0,
        threshold: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 < base < channels:
            raise InputError(
                f"a gated convolution's base is 1 to {channels - 1} of its {channels} input channels, got {base}"
            )
        self.weight = nn.Parameter(torch.empty(width, channels, kernel, kernel))
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")
        self.base, self.stride, self.padding, self.slope = base, stride, kernel // 2, slope
        self.threshold = nn.Parameter(torch.full((width,), threshold))
        self.norm_gate = nn.BatchNorm2d(width, affine=False)
        self.norm_base, self.norm_all = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.gates: Tensor | None = None

    def passes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sums over the base channels and over the others."""
        made = [
            F.conv2d(x[:, part], self.weight[:, part], stride=self.stride, padding=self.padding)
            for part in (slice(None, self.base), slice(self.base, None))
        ]
        return made[0], made[1]

    def forward(self, x: Tensor) -> Tensor:
        """Return [batch, width, h / stride, w / stride], normalised, before the activation."""
        first, second = self.passes(x)
        score = self.norm_gate(first) - self.threshold.reshape(1, -1, 1, 1)
        step = (score >= 0).to(x.dtype)
        self.gates = step.detach() > 0
        if self.training:
            soft = torch.sigmoid(self.slope * score)
            step = soft + (step - soft).detach()
        made: Tensor = step * self.norm_all(first + second) + (1 - step) * self.norm_base(first)
        return made

    def threshold_penalty(self, target: float) -> Tensor:
        """Return sum (threshold - target)^2, the paper's pull towards few open gates."""
        distance: Tensor = self.threshold - target
        return distance.square().sum()


def block_conv2d(
    x: Tensor, weight: Tensor, active: Tensor, block: tuple[int, int], *, stride: Sequence[int], padding: Sequence[int]
) -> Tensor:
    """Return conv2d(x, weight) on active blocks of its result and zeros elsewhere, by gather, dense tiles and scatter.

    `active` [batch, blocks down, blocks across] is boolean, a block is `block` output pixels. SBNet leaves inactive blocks as
    they were; here they are zero.
    """
    kernel = weight.shape[2:]
    height, width = ((x.shape[2 + i] + 2 * padding[i] - kernel[i]) // stride[i] + 1 for i in (0, 1))
    down, across = active.shape[1:]
    sides = [(block[i] - 1) * stride[i] + kernel[i] for i in (0, 1)]
    reach = [(n - 1) * block[i] * stride[i] + sides[i] for i, n in enumerate((down, across))]
    spare = [max(0, reach[i] - x.shape[2 + i] - padding[i]) for i in (0, 1)]
    padded = F.pad(x, (padding[1], spare[1], padding[0], spare[0]))
    result = x.new_zeros(len(x), len(weight), down * block[0], across * block[1])
    places = active.nonzero().tolist()
    if places:
        tiles = torch.stack(
            [
                padded[
                    s, :, i * block[0] * stride[0] : i * block[0] * stride[0] + sides[0],
                    j * block[1] * stride[1] : j * block[1] * stride[1] + sides[1],
                ]
                for s, i, j in places
            ]
        )  # fmt: skip
        for (s, i, j), made in zip(places, F.conv2d(tiles, weight, stride=tuple(stride)), strict=True):
            result[s, :, i * block[0] : (i + 1) * block[0], j * block[1] : (j + 1) * block[1]] = made
    return result[:, :, :height, :width]
