"""Columns brought under a converter's largest sum, with the least damage; and which converters a budget should buy.

`capped` lowers slice levels column by column until every sum fits: the units whose loss disturbs the layer's output least
go first, sum_i E[x_i^2] dw_i^2 (the diagonal of the layer's Hessian of squared error, as in Optimal Brain Damage, LeCun et al.
1990). `choose_caps` spends a budget of ADC energy: for every scale shift it lowers, step by step, the slice that saves most
energy per damage, with energies from the simulator's ADC model; then a judge, the training loss as a rule, picks the shift
(damage cannot: capping removes weights of one sign together, which a diagonal does not see).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from picojoule.compress.bitslice_slices import (
    SLICES,
    TILE_ROWS,
    TOP_CODE,
    largest_sum,
    polarities,
    scale_exponent,
    signed_bits,
    slice_levels,
    step_of,
    tiled,
    untiled,
)

EnergyOfBits = Callable[[int], float]
"""Energy of one conversion (pJ) by the converter's bits; 0 bits cost nothing."""
Judge = Callable[["Caps"], float]
"""How bad a choice is, for instance the loss of the network capped to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """Converters to train for: bits per slice (signed, least significant first; 0: none), and each layer's frozen S."""

    bits: tuple[int, ...]
    exponents: tuple[int, ...]
    damage: float
    energy_pj: float

    @property
    def largest(self) -> tuple[int, ...]:
        """Largest column sum per slice."""
        return tuple(largest_sum(b) for b in self.bits)


def capped(scaled: Tensor, largest: Sequence[int], importance: Tensor) -> Tensor:
    """Return codes [N, R] for magnitudes `scaled` = |w| / step [N, R] of one polarity, such that every column fits.

    `importance` [N, R] weighs squared changes. Slices are treated from the most significant down: removing a unit of level k
    leaves the largest code below, which the lower slices then trim in their turn.
    """
    codes = scaled.round().clamp_(max=TOP_CODE)
    for k in reversed(range(SLICES)):
        levels = slice_levels(codes, k)
        over = levels.sum(-1) - largest[k]
        rows = torch.nonzero(over > 0).flatten()
        if len(rows):
            codes[rows] = _trimmed(scaled[rows], codes[rows], levels[rows], over[rows], importance[rows], k)
    return codes


def _trimmed(scaled: Tensor, codes: Tensor, levels: Tensor, over: Tensor, importance: Tensor, k: int) -> Tensor:
    place, count = 4.0**k, codes.shape[1]
    above = codes - torch.remainder(codes, 4 * place)
    targets = [codes] + [above + (levels - j + 1) * place - 1 for j in (1, 2, 3)]
    losses = [importance * (scaled - t).square() for t in targets]
    steps = torch.stack([losses[j] - losses[j - 1] for j in (1, 2, 3)], dim=1)  # they grow with j: units go in order
    steps = torch.where(torch.stack([levels >= j for j in (1, 2, 3)], dim=1), steps, torch.inf)
    flat = steps.flatten(1)
    rank = torch.empty_like(flat).scatter_(
        1, flat.argsort(dim=1), torch.arange(3.0 * count).expand_as(flat).contiguous()
    )
    removed = (rank < over[:, None]).reshape(-1, 3, count).sum(1)
    return torch.where(removed > 0, above + (levels - removed + 1) * place - 1, codes)


def capped_weight(
    weight: Tensor, exponent: int, largest: Sequence[int], importance: Tensor | None = None, rows: int = TILE_ROWS
) -> Tensor:
    """Return a weight whose columns fit; what need not change keeps its exact value, the rest gets its code's value.

    `importance`: E[x_i^2] per input, as many as one output has weights; ones if None.
    """
    step = step_of(exponent)
    tiles = tiled(weight.detach(), rows)
    scaled, matter = _columns(weight, importance, rows)
    codes = capped(scaled / step, largest, matter).reshape(2, *tiles.shape)
    fitted = codes[0] - codes[1]
    before = (tiles / step).round().clamp(-TOP_CODE, TOP_CODE)
    return untiled(torch.where(fitted == before, tiles, fitted * step), weight.shape, rows)


def _columns(weight: Tensor, importance: Tensor | None, rows: int) -> tuple[Tensor, Tensor]:
    """Return magnitudes and importance of all columns, both [2 O T, R]."""
    tiles = tiled(weight.detach(), rows)
    one = torch.ones_like(weight[:1]) if importance is None else importance.to(weight).reshape(1, *weight.shape[1:])
    return polarities(tiles).flatten(0, 2), tiled(one, rows).expand(2, *tiles.shape).flatten(0, 2)


def choose_caps(
    weights: Sequence[Tensor],
    importances: Sequence[Tensor | None],
    *,
    budget_pj: float,
    energy_pj: EnergyOfBits,
    shifts: Sequence[int],
    judge: Judge | None = None,
    rows: int = TILE_ROWS,
    sample: int = 96,
    least: int = 2,
) -> Caps:
    """Return the converters that do least damage within `budget_pj` for one conversion of every slice, and the best shift of S.

    `judge` decides between shifts; damage if None. `least`: bits of the narrowest converter; below it there is none.

    Damage: squared change of a layer's outputs over their square (inputs taken as uncorrelated), summed over layers, from
    `sample` columns a layer, evenly spaced.
    """
    columns = [_sampled(w, h, rows, sample) for w, h in zip(weights, importances, strict=True)]
    exponents = [scale_exponent(w) for w in weights]
    choices = []
    for shift in shifts:
        shifted = tuple(e + shift for e in exponents)
        scaled = [(x / step_of(e), h) for (x, h), e in zip(columns, shifted, strict=True)]
        bits, damage = _lowered(scaled, budget_pj, energy_pj, least)
        total = sum(energy_pj(b) for b in bits)
        choices.append(Caps(bits=bits, exponents=shifted, damage=damage, energy_pj=total))
    return choices[0] if len(choices) == 1 else min(choices, key=judge or (lambda c: c.damage))


def _sampled(weight: Tensor, importance: Tensor | None, rows: int, sample: int) -> tuple[Tensor, Tensor]:
    magnitude, matter = _columns(weight, importance, rows)
    whole = (matter * magnitude.square()).sum().clamp(min=1e-30)
    chosen = torch.linspace(0, len(magnitude) - 1, min(sample, len(magnitude))).round().long()
    return magnitude[chosen], matter[chosen] / whole * (len(magnitude) / len(chosen))


Columns = Sequence[tuple[Tensor, Tensor]]


def _lowered(columns: Columns, budget_pj: float, energy_pj: EnergyOfBits, least: int) -> tuple[tuple[int, ...], float]:
    """Return bits per slice within the budget, and their damage."""
    codes = [x.round().clamp(max=TOP_CODE) for x, _ in columns]
    bits = tuple(signed_bits(max(int(slice_levels(c, k).sum(-1).max()) for c in codes)) for k in range(SLICES))
    bits = tuple(max(b, least) if b else 0 for b in bits)
    units = [float((h * x.square()).sum()) for x, h in columns]  # of `damage` below, to be divided by
    damage = _damage(columns, bits, units)
    while sum(map(energy_pj, bits)) > budget_pj:
        tried = []
        for k in range(SLICES):
            if bits[k]:
                fewer = (*bits[:k], bits[k] - 1 if bits[k] > least else 0, *bits[k + 1 :])
                loss = _damage(columns, fewer, units)
                saved = energy_pj(bits[k]) - energy_pj(fewer[k])
                tried.append((saved / max(loss - damage, 1e-12), fewer, loss))
        _, bits, damage = max(tried, key=lambda t: t[0])
    return bits, damage


def _damage(columns: Columns, bits: Sequence[int], units: Sequence[float]) -> float:
    largest = [largest_sum(b) for b in bits]
    return sum(
        float((h * (x - capped(x, largest, h)).square()).sum()) / u for (x, h), u in zip(columns, units, strict=True)
    )
