"""Resampling in floating point: resizing axis by axis, and sampling at the places of a grid.

Positions come from whole numbers, so that one that falls on a pixel does so exactly; torch rounds the ratio of the sizes
to float32 first and takes the pixel before it for a few odd ratios (2 to 82). Stated scales are float32 numbers, as both
torch and ONNX Runtime hold them.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from picojoule.sim import attributes as at
from picojoule.sim.errors import UnsupportedError
from picojoule.sim.ir import Layer

_NEAREST: dict[str, Callable[[Tensor], Tensor]] = {
    "floor": torch.floor,
    "ceil": torch.ceil,
    "round_prefer_floor": lambda p: torch.ceil(p - 0.5),
    "round_prefer_ceil": lambda p: torch.floor(p + 0.5),
}


def resize(layer: Layer, x: Sequence[Tensor], batch: int) -> list[Tensor]:
    """Resample to the result's shape; a separable filter, one axis after the other."""
    a = layer.attributes
    assert isinstance(a, at.ResizeAttributes)
    value = x[0]
    for axis, size in enumerate(layer.results[0].type.at(batch)):
        scale = a.scales[axis] if a.scales else None
        if value.shape[axis] != size or scale not in (None, 1.0):
            value = _resize_axis(a, value, axis, size, scale)
    return [value]


def _positions(a: at.ResizeAttributes, old: int, size: int, scale: float | None) -> Tensor:
    """Return where each result lies on the operand's axis, in pixels."""
    index = torch.arange(size, dtype=torch.float64)
    if a.coordinates == "align_corners":
        return index * (old - 1) / (size - 1) if size > 1 else index
    offset = 0.5 if a.coordinates == "half_pixel" else 0.0
    if scale is None:
        return (index + offset) * old / size - offset
    return ((index + offset).float() / torch.tensor(scale, dtype=torch.float32)).double() - offset


def _resize_axis(a: at.ResizeAttributes, x: Tensor, axis: int, size: int, scale: float | None) -> Tensor:
    last = x.shape[axis] - 1
    place = _positions(a, last + 1, size, scale)
    if a.mode == "nearest":
        return x.index_select(axis, _NEAREST[a.nearest_rounding](place).long().clamp(0, last))
    if a.mode == "linear":
        place = place.clamp(0, last)
    whole = place.floor()
    taps = _taps(a, place - whole)
    real = x if x.is_floating_point() else x.float()
    shape = [-1 if i == axis else 1 for i in range(x.dim())]
    made = torch.zeros(())
    for offset, weight in taps:
        near = (whole.long() + offset).clamp(0, last)
        made = made + real.index_select(axis, near) * weight.to(real.dtype).reshape(shape)
    return made if x.is_floating_point() else made.round().to(x.dtype)


def _taps(a: at.ResizeAttributes, share: Tensor) -> list[tuple[int, Tensor]]:
    """Return the pixels around a position with their weights; cubic: the kernel of Keys 1981 with parameter `cubic_a`."""
    if a.mode == "linear":
        return [(0, 1 - share), (1, share)]
    k = a.cubic_a

    def near(d: Tensor) -> Tensor:
        return ((k + 2) * d - (k + 3)) * d * d + 1

    def far(d: Tensor) -> Tensor:
        return ((k * d - 5 * k) * d + 8 * k) * d - 4 * k

    return [(-1, far(share + 1)), (0, near(share)), (1, near(1 - share)), (2, far(2 - share))]


def grid_sample(layer: Layer, x: Sequence[Tensor], batch: int) -> list[Tensor]:
    """Return the operand sampled at the places of a grid, in two or three dimensions.

    Raises:
        UnsupportedError: for one dimension, and for cubic samples of three.

    """
    a = layer.attributes
    assert isinstance(a, at.GridSampleAttributes)
    rank = x[0].dim() - 2
    if rank not in (2, 3) or (rank == 3 and a.mode == "cubic"):
        raise UnsupportedError(
            f"layer '{layer.name}': {a.mode} sampling of {rank} axes cannot be executed; "
            "linear and nearest run on 2 or 3 axes, cubic on 2"
        )
    grid = x[1].expand(len(x[0]), *x[1].shape[1:])  # a fixed grid serves every sample
    mode = {"linear": "bilinear", "nearest": "nearest", "cubic": "bicubic"}[a.mode]
    return [F.grid_sample(x[0], grid.to(x[0].dtype), mode, a.padding, a.align_corners)]
