"""Weights as bit slices: dynamic fixed point with straight-through gradients, slices, and the sums of crossbar columns.

A tensor's scale is S = ceil(log2 max|w|) + shift, its step 2^(S - 8); a weight is a sign and a magnitude B = round(|w| / step)
of 8 bits, in four slices b3 b2 b1 b0 of 2 bits (Zhang et al. 2019, arXiv:1908.09496, and their public code). Departures: B is
clamped at 255, where theirs lets 256 spill into a fifth level of b3; `shift` moves S (positive: the upper slices empty, which
is a coarser quantisation; negative: large weights saturate); S can be frozen. Gradients pass as if nothing were rounded.

Letters: O = output, T = row tile, R = wordline of a tile, K = slice (0 the least significant), N = columns.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor, nn

from picojoule.reram.encoding import split_evenly
from picojoule.sim.errors import InputError

SLICES = 4
CELL_BITS = 2
MAGNITUDE_BITS = SLICES * CELL_BITS
TOP_CODE = (1 << MAGNITUDE_BITS) - 1
TILE_ROWS = 128
_SMALLEST_LARGEST = 1e-5  # of max|w|, as in the authors' code, so that an all-zero tensor has a step


def scale_exponent(weight: Tensor) -> int:
    """Return S = ceil(log2 max|w|) of a tensor, without a shift.

    Raises:
        InputError: if a weight is not finite.

    """
    largest = float(weight.detach().abs().max())
    if not math.isfinite(largest):
        raise InputError("a weight is not finite, so it has no fixed-point scale; lower the learning rate")
    return math.ceil(math.log2(max(largest, _SMALLEST_LARGEST)))


def step_of(exponent: int) -> float:
    """Return the size of one integer step, 2^(S - 8)."""
    return math.ldexp(1.0, exponent - MAGNITUDE_BITS)


def magnitudes(weight: Tensor, step: float) -> Tensor:
    """Return B = round(|w| / step), at most 255, as floats of the weight's shape; no gradient."""
    return (weight.detach().abs() / step).round_().clamp_(max=TOP_CODE)


def codes_of_weight(weight: Tensor, step: float) -> Tensor:
    """Return signed codes, -255 to 255, as floats of the weight's shape; no gradient."""
    return magnitudes(weight, step).copysign_(weight.detach())


def slice_levels(codes: Tensor, k: int) -> Tensor:
    """Return slice k (0 the least significant) of magnitudes: 0 to 3."""
    return torch.remainder(torch.floor(codes * 0.25**k), 4.0)


def slice_shares(codes: list[Tensor]) -> tuple[float, ...]:
    """Return the share of non-zero slices over all weights, least significant first."""
    count = sum(c.numel() for c in codes)
    return tuple(sum(int((slice_levels(c.abs(), k) > 0).sum()) for c in codes) / count for k in range(SLICES))


class FixedPoint(nn.Module):
    """A parametrisation that rounds a weight to fixed point, with a fixed mask of pruned weights if there is one.

    `exponent` None: S follows the weight at every forward, as in the paper; a number: frozen.
    """

    mask: Tensor | None

    def __init__(self, *, shift: int = 0, exponent: int | None = None, mask: Tensor | None = None) -> None:
        super().__init__()
        self.shift, self.exponent = shift, exponent
        self.register_buffer("mask", mask, persistent=False)

    def step(self, weight: Tensor) -> float:
        """Return the step that a weight gets."""
        return step_of(scale_exponent(weight) + self.shift if self.exponent is None else self.exponent)

    def forward(self, weight: Tensor) -> Tensor:
        """Return the rounded weight; the gradient goes through, except to pruned weights."""
        if self.mask is not None:
            weight = weight * self.mask
        step = self.step(weight)
        rounded = codes_of_weight(weight, step).mul_(step)
        return weight + (rounded - weight).detach()


# --- columns --------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def _tile_index(inputs: int, rows: int) -> Tensor | None:
    """Return [T, R] indices of inputs with `inputs` as filler, or None where the tiles are equal."""
    tiles = split_evenly(inputs, rows)
    size = tiles[0].stop
    if all(t.stop - t.start == size for t in tiles):
        return None
    index = torch.full((len(tiles), size), inputs)
    for t, tile in enumerate(tiles):
        index[t, : tile.stop - tile.start] = torch.arange(tile.start, tile.stop)
    return index


def tiled(weight: Tensor, rows: int = TILE_ROWS) -> Tensor:
    """Return a weight [O, ...] as [O, T, R]: the inputs of each row tile, shorter tiles filled with zeros; differentiable.

    Tiles are cut as `reram.arithmetic.program` cuts them: the fewest, as equal as possible.
    """
    flat = weight.flatten(1)
    index = _tile_index(flat.shape[1], rows)
    if index is None:
        return flat.reshape(len(flat), -1, split_evenly(flat.shape[1], rows)[0].stop)
    return torch.cat([flat, flat.new_zeros(len(flat), 1)], dim=1)[:, index]


def untiled(tiles: Tensor, shape: torch.Size, rows: int = TILE_ROWS) -> Tensor:
    """Return the weight of `shape` that `tiled` would cut into `tiles`."""
    inputs = math.prod(shape[1:])
    index = _tile_index(inputs, rows)
    if index is None:
        return tiles.reshape(shape)
    flat = tiles.new_zeros(len(tiles), inputs + 1)
    flat[:, index.flatten()] = tiles.flatten(1)
    return flat[:, :inputs].reshape(shape)


def polarities(tiles: Tensor) -> Tensor:
    """Return [2, ...]: the positive part and the magnitude of the negative part (the cells of a differential pair)."""
    return torch.stack([tiles.clamp(min=0), (-tiles).clamp(min=0)])


def column_bounds(codes: Tensor, rows: int = TILE_ROWS) -> Tensor:
    """Return [2, O, T, K]: the largest sum each column of signed codes [O, ...] can give with 1-bit inputs, per polarity."""
    cells = polarities(tiled(codes, rows))
    return torch.stack([slice_levels(cells, k).sum(-1) for k in range(SLICES)], dim=-1)


def signed_bits(bound: int) -> int:
    """Return the bits of a signed ADC that converts sums from -bound to bound without loss; 0 where nothing comes.

    A differential pair is subtracted before the ADC, so the larger polarity decides; one bit is the sign (at least 2 in all).
    """
    return bound.bit_length() + 1 if bound else 0


def largest_sum(bits: int) -> int:
    """Return the largest sum that a signed ADC of `bits` passes: 2^(bits - 1) - 1; 0 for no ADC."""
    return (1 << (bits - 1)) - 1 if bits else 0


def needed_bits(codes: list[Tensor], rows: int = TILE_ROWS) -> tuple[int, ...]:
    """Return the lossless ADC bits per slice (least significant first) of a design that all tiles of all layers share."""
    top = torch.stack([column_bounds(c, rows).flatten(0, 2).amax(0) for c in codes]).amax(0)
    return tuple(signed_bits(round(v)) for v in top.tolist())
