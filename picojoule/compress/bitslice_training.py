"""Training under dynamic fixed point: pruning with a fixed mask, L1, bit-slice L1, or columns under wanted converters.

A schedule has three phases (Zhang et al. 2019): training with plain L1, magnitude pruning, fine-tuning with a penalty and the
pruned weights held at zero. Ours replaces the last penalty by `columns`: converters are chosen for a budget of ADC energy
(`bitslice_caps`), column sums above them are penalised by what a bit more would cost there, and every `cap_every` steps (and at
the end) the weights move to the nearest ones whose columns fit. The limits tighten, geometrically, over the first part of it.

Weights are rounded in training, activations and biases are not: activations get 8-bit steps afterwards, biases are added
digitally. The optimiser is SGD with momentum (as in the paper; its pull towards zero would be lost in Adam's scaling).
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from picojoule.compress import bitslice_penalties as penalties
from picojoule.compress.bitslice_caps import Caps, capped_weight
from picojoule.compress.bitslice_columns import caps_for, conversion_energy, input_importances
from picojoule.compress.bitslice_config import BitsliceConfig, Penalty, least_bits
from picojoule.compress.bitslice_slices import (
    MAGNITUDE_BITS,
    SLICES,
    FixedPoint,
    codes_of_weight,
    largest_sum,
    needed_bits,
    step_of,
)
from picojoule.sim.errors import InputError
from picojoule.training import one_thread

LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What a training decided: each layer's frozen or last S, the converters it trained for (`columns`), and its losses."""

    exponents: tuple[int, ...]
    caps: Caps | None
    history: tuple[dict[str, float], ...]


def layers_of(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules whose weights lie in crossbars, by path."""
    return {path: m for path, m in model.named_modules() if isinstance(m, LAYERS)}


def train_bitslice(model: nn.Module, images: Tensor, labels: Tensor, config: BitsliceConfig) -> Trained:
    """Train in place through the three phases; the model ends in eval mode with plain weights on their fixed-point grid.

    Raises:
        InputError: without a layer, without data, or where the loss is no longer finite.

    """
    found = layers_of(model)
    if not found:
        raise InputError("the network has no convolution or linear module whose weights could be sliced")
    if len(labels) == 0:
        raise InputError("training needs at least one sample")
    run = _Run(model=model, layers=list(found.values()), images=images, labels=labels, config=config)
    history: list[dict[str, float]] = []
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        if config.pretrain_epochs:
            with _rounded(run.layers, [FixedPoint(shift=config.shift) for _ in run.layers]):
                history += run.epochs(
                    config.pretrain_epochs, _Plain(penalties.mean_magnitude, config.pretrain_strength)
                )
        masks = _masks(run.layers, config.prune_share)
        wanted = config.penalty is Penalty.COLUMNS
        caps = caps_for(model, run.layers, images, labels, config) if wanted else None
        exponents = caps.exponents if caps else (None,) * len(run.layers)
        points = [FixedPoint(shift=config.shift, exponent=e, mask=m) for e, m in zip(exponents, masks, strict=True)]
        with _rounded(run.layers, points):
            history += run.epochs(config.epochs, _extra(run, caps))
            steps = [p.step(w) for p, w in zip(points, run.latent(), strict=True)]
    model.eval()
    made = tuple(round(math.log2(s)) + MAGNITUDE_BITS for s in steps)
    return Trained(exponents=made, caps=caps, history=tuple(history))


class Extra:
    """What a training does beside the loss: a term added every few steps, and a move of the weights between steps."""

    def term(self, run: "_Run") -> Tensor | None:
        """Return what is added to the loss."""
        return None

    def move(self, run: "_Run", done: float) -> None:
        """Change weights in place; `done` is the part of the training that is over."""


@dataclass(slots=True, kw_only=True)
class _Run:
    model: nn.Module
    layers: list[nn.Module]
    images: Tensor
    labels: Tensor
    config: BitsliceConfig

    def latent(self) -> list[Tensor]:
        """Return the weights that are trained, pruned ones at zero."""
        return [_latent(layer) for layer in self.layers]

    def epochs(self, count: int, extra: Extra) -> list[dict[str, float]]:
        """Train for some epochs, the learning rate falling as a cosine."""
        c = self.config
        generator = torch.Generator().manual_seed(c.seed)
        optimizer = torch.optim.SGD(self.model.parameters(), lr=c.lr, momentum=c.momentum, nesterov=c.momentum > 0)
        steps = count * math.ceil(len(self.labels) / c.batch_size)
        step, history = 0, []
        self.model.train()
        for epoch in range(count):
            total = torch.zeros(())
            for chosen in torch.split(torch.randperm(len(self.labels), generator=generator), c.batch_size):
                if len(chosen) == 1 and len(self.labels) > 1:
                    continue  # batch norm has no variance over one sample
                for group in optimizer.param_groups:
                    group["lr"] = c.lr * 0.5 * (1 + math.cos(math.pi * step / steps))
                optimizer.zero_grad(set_to_none=True)
                loss = nn.functional.cross_entropy(self.model(self.images[chosen]), self.labels[chosen])
                total += loss.detach() * len(chosen)
                if step % c.penalty_every == 0 and (term := extra.term(self)) is not None:
                    loss = loss + c.penalty_every * term
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                step += 1
                if step % c.cap_every == 0:
                    extra.move(self, step / steps)
            mean = float(total) / len(self.labels)
            if not math.isfinite(mean):
                raise InputError(
                    f"training diverged in epoch {epoch + 1}: the loss is not finite; lower lr (it is {c.lr})"
                )
            history.append({"epoch": float(epoch + 1), "loss": mean})
        extra.move(self, 1.0)
        return history


class _Plain(Extra):
    """A mean over weights times a factor."""

    def __init__(self, mean: "penalties.Mean", strength: float) -> None:
        self.mean, self.strength = mean, strength

    def term(self, run: _Run) -> Tensor | None:
        return self.strength * self.mean(run.latent()) if self.strength else None


class _SliceLevels(Extra):
    """Bit-slice L1 with the scales of the moment."""

    def term(self, run: _Run) -> Tensor | None:
        steps = [_point(layer).step(_latent(layer)) for layer in run.layers]
        return run.config.strength * penalties.mean_slice_level(run.latent(), steps)


class _Columns(Extra):
    """Columns above the wanted converters cost what a bit more costs there; now and then they are made to fit."""

    def __init__(self, run: _Run, caps: Caps, importances: Sequence[Tensor]) -> None:
        law = run.config.adc_model, run.config.encoding
        energy = conversion_energy(*law)
        marginal = [energy(b + 1 if b else least_bits(*law)) - energy(b) for b in caps.bits]
        self.prices = [m * SLICES / sum(marginal) for m in marginal]
        self.caps, self.importances = caps, importances
        weights = [layer.weight.detach() for layer in run.layers]  # type: ignore[operator]
        codes = [codes_of_weight(w, step_of(e)) for w, e in zip(weights, caps.exponents, strict=True)]
        self.start = [max(1, largest_sum(b)) for b in needed_bits(codes, run.config.tile_rows)]

    def term(self, run: _Run) -> Tensor | None:
        c = run.config
        return c.strength * penalties.excess(
            run.latent(), self.caps.exponents, self.caps.largest, self.prices, c.tile_rows
        )

    def limits(self, done: float, tighten: float) -> list[int]:
        """Return the largest sums at a time of the training."""
        part = 1.0 if done >= tighten else done / tighten
        goals = zip(self.start, self.caps.largest, strict=True)
        return [goal if part == 1 else round(start ** (1 - part) * max(goal, 0.5) ** part) for start, goal in goals]

    @torch.no_grad()
    def move(self, run: _Run, done: float) -> None:
        limits = self.limits(done, run.config.tighten)
        for layer, exponent, matter in zip(run.layers, self.caps.exponents, self.importances, strict=True):
            fitted = capped_weight(_latent(layer), exponent, limits, matter, run.config.tile_rows)
            layer.parametrizations.weight.original.copy_(fitted)  # type: ignore[union-attr, operator]


def _extra(run: _Run, caps: Caps | None) -> Extra:
    match run.config.penalty:
        case Penalty.L1:
            return _Plain(penalties.mean_magnitude, run.config.strength)
        case Penalty.BITSLICE_L1:
            return _SliceLevels()
        case Penalty.COLUMNS:
            assert caps is not None
            return _Columns(run, caps, input_importances(run.model, run.layers, run.images))
        case _:
            return Extra()


def _masks(layers: Sequence[nn.Module], share: float) -> list[Tensor | None]:
    """Return flags of the weights that stay: all but the smallest `share` over all layers together."""
    if share == 0:
        return [None] * len(layers)
    sizes = [layer.weight.detach().abs() for layer in layers]  # type: ignore[operator]
    every = torch.cat([s.flatten() for s in sizes])
    threshold = every.kthvalue(max(1, round(share * len(every)))).values
    return [(s > threshold).to(s) for s in sizes]


def _point(layer: nn.Module) -> FixedPoint:
    return layer.parametrizations.weight[0]  # type: ignore[union-attr, index, return-value]


def _latent(layer: nn.Module) -> Tensor:
    weight: Tensor = layer.parametrizations.weight.original  # type: ignore[union-attr, assignment]
    mask = _point(layer).mask
    return weight if mask is None else weight * mask


@contextmanager
def _rounded(layers: Sequence[nn.Module], points: Sequence[FixedPoint]) -> Iterator[None]:
    """Round the layers' weights inside the block; afterwards the rounded weights are the plain ones."""
    for layer, point in zip(layers, points, strict=True):
        parametrize.register_parametrization(layer, "weight", point)
    try:
        yield
    except BaseException:
        for layer in layers:  # rounding again could fail again and hide what went wrong
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
        raise
    for layer in layers:
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
