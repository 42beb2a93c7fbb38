"""Training and reading of a center-point detector: target maps, loss, and decoding of maps into boxes.

CenterNet's form (Zhou et al. 2019, arXiv:1904.07850): a heat map a class with a penalty-reduced focal loss, and at centers the
box's size and its offset in the cell. Two departures, for small maps with items of all scales: the bump around a center has a
width along each axis in proportion to the box (TTFNet, Liu et al. 2020, arXiv:1909.00700), and sizes are learned as logarithms,
with the same weight as offsets.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from picojoule.average_precision import Detections

SIZE_UNIT = 8.0
"""Sizes are learned as log(size / 8 pixels)."""
_MOST_LOG_SIZE = 4.0  # exp(4) * 8 = 437 pixels: larger than any map here, and no overflow before training
_BUMP = 0.54 / 6  # TTFNet: sigma is 0.54 / 6 of the box's side
_LEAST_SIGMA = 0.25  # cells

Maps = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Targets:
    """What the maps should be.

    `heat` [b, classes, h, w]; per box its `cell` [b, k] (row * w + column), log `size` and `offset` [b, k, 2]; `real` [b, k]
    says which boxes exist.
    """

    heat: Tensor
    cell: Tensor
    size: Tensor
    offset: Tensor
    real: Tensor


def make_targets(boxes: Tensor, labels: Tensor, *, classes: int, cells: tuple[int, int], stride: int) -> Targets:
    """Return target maps for boxes [b, k, 4] (x0, y0, x1, y1 in pixels) with labels [b, k] (-1: none) on h x w cells.

    A heat of exactly 1 marks a box's cell; where bumps overlap the larger value counts.
    """
    height, width = cells
    real = labels >= 0
    sides = (boxes[..., 2:] - boxes[..., :2]).clamp(min=1e-3)
    center = (boxes[..., 2:] + boxes[..., :2]) / (2 * stride)
    column = center[..., 0].floor().clamp(0, width - 1)
    row = center[..., 1].floor().clamp(0, height - 1)
    sigma = (sides * (_BUMP / stride)).clamp(min=_LEAST_SIGMA)
    along_x = _bump(torch.arange(width), column, sigma[..., 0])
    along_y = _bump(torch.arange(height), row, sigma[..., 1])
    bump = along_y[..., :, None] * along_x[..., None, :]  # [b, k, h, w]
    heat = torch.zeros(len(boxes), classes, height, width)
    for k in range(boxes.shape[1]):
        of_class = F.one_hot(labels[:, k].clamp(min=0), classes) * real[:, k, None]
        heat = torch.maximum(heat, of_class[:, :, None, None] * bump[:, k, None])
    return Targets(
        heat=heat,
        cell=(row * width + column).long(),
        size=torch.log(sides / SIZE_UNIT),
        offset=center - torch.stack([column, row], dim=-1),
        real=real,
    )


def _bump(axis: Tensor, center: Tensor, sigma: Tensor) -> Tensor:
    distance = axis - center[..., None]
    return torch.exp(-distance.square() / (2 * sigma[..., None].square()))


def loss(maps: Maps, targets: Targets) -> Tensor:
    """Return focal loss of the heat map plus L1 losses of log size and offset at centers, per real box (a scalar)."""
    heat, size, offset = maps
    boxes = targets.real.sum().clamp(min=1)
    at_centers = targets.real[..., None]
    away = (_at(size, targets.cell) - targets.size).abs() + (_at(offset, targets.cell) - targets.offset).abs()
    total: Tensor = (focal_loss(heat, targets.heat) + (away * at_centers).sum()) / boxes
    return total


def focal_loss(logits: Tensor, heat: Tensor) -> Tensor:
    """Return the heat map's loss, summed (CenterNet, equation 1, alpha 2 and beta 4).

    It is -(1 - p)^2 log p at centers, and -p^2 log(1 - p) weighted by (1 - heat)^4 elsewhere.
    """
    p = torch.sigmoid(logits)
    center = heat == 1
    hit = (1 - p).square() * F.logsigmoid(logits)
    miss = (1 - heat).pow(4) * p.square() * F.logsigmoid(-logits)
    return -torch.where(center, hit, miss).sum()


def _at(maps: Tensor, cell: Tensor) -> Tensor:
    """Return maps [b, c, h, w] at cells [b, k]: [b, k, c]."""
    channels = maps.shape[1]
    index = cell[:, None].expand(-1, channels, -1)
    return maps.flatten(2).gather(2, index).transpose(1, 2)


def decode(maps: Maps, *, stride: int, most: int = 30) -> Detections:
    """Return the `most` highest peaks of each image as boxes: a peak is no lower than its eight neighbours.

    Boxes are cut at the edges of the image.
    """
    heat, size, offset = (m.detach() for m in maps)
    score = torch.sigmoid(heat)
    peak = torch.where(F.max_pool2d(score, 3, stride=1, padding=1) == score, score, torch.zeros_like(score))
    _, classes, height, width = score.shape
    best, place = peak.flatten(1).topk(min(most, classes * height * width), dim=1)
    label, cell = place // (height * width), place % (height * width)
    corner = torch.stack([cell % width, cell // width], dim=-1)
    center = (corner + _at(offset, cell)) * stride
    half = torch.exp(_at(size, cell).clamp(max=_MOST_LOG_SIZE)) * (SIZE_UNIT / 2)
    limit = torch.tensor([width, height], dtype=center.dtype) * stride
    boxes = torch.cat([(center - half).clamp(min=0), torch.minimum(center + half, limit)], dim=-1)
    boxes[..., 2:] = torch.maximum(boxes[..., 2:], boxes[..., :2])
    label = torch.where(best > 0, label, -1)
    return Detections(
        boxes=boxes.numpy().astype(np.float32), scores=best.numpy().astype(np.float32), labels=label.numpy()
    )


def finite(value: Tensor) -> bool:
    """Whether a loss is a number to go on with."""
    return math.isfinite(float(value.detach()))
