"""One training of the center-point detector on scenes, and what it finds: the unit of which `deform_study` runs many.

All variants are treated alike: the same scenes in the same order from the same starting weights (per seed), AdamW with a
one-cycle learning rate, the epoch with the best validation AP50 is kept. The settings were chosen by validation AP50 of the
*depthwise* variant alone (one seed); no deformable variant was looked at for that, and the test part is read once, at the end.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from picojoule.average_precision import Detections, by_size
from picojoule.detection import Maps, decode, finite, loss, make_targets
from picojoule.models.centre_net import OFFSET_LAYER, STRIDE
from picojoule.models.scenes import CLASS_NAMES, SIDE, STRATA, Scenes, make_scenes
from picojoule.sim.errors import InputError
from picojoule.sim.specs import Spec
from picojoule.training import one_thread

_BATCH_OF_READING = 100
VAL_SEED, TEST_SEED = 1, 2


class TrainingSettings(Spec):
    """Everything a result depends on beside variant, width, bound and seed."""

    train_scenes: int = Field(default=6000, ge=1)
    val_scenes: int = Field(default=300, ge=1)
    test_scenes: int = Field(default=800, ge=1)
    epochs: int = Field(default=4, ge=1)
    batch_size: int = Field(default=16, ge=2)
    lr: float = Field(default=4e-2, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    offset_lr: float = Field(
        default=0.1, gt=0, description="rate of layers that compute offsets, relative to lr (0.1: Zhu et al. 2019)"
    )
    warm_up: float = Field(default=0.1, gt=0, lt=1, description="part of the training in which the rate rises")
    quantized_epochs: int = Field(default=2, ge=1, description="fine-tuning at 4-bit weights and 8-bit activations")
    quantized_lr: float = Field(default=4e-3, gt=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A trained model's history: one record an epoch (epoch, loss, val_ap50), and the epoch kept."""

    history: tuple[Mapping[str, float], ...]
    kept: int
    cpu_s: float


@lru_cache(maxsize=2)
def training_scenes(count: int, seed: int) -> Scenes:
    """Return the training scenes of a seed, kept for the next variant."""
    return make_scenes("train", count, seed=seed)


@lru_cache(maxsize=1)
def validation_scenes(count: int) -> Scenes:
    """Return the validation scenes: the same for all seeds."""
    return make_scenes("val", count, seed=VAL_SEED)


def fit(model: nn.Module, settings: TrainingSettings, *, seed: int, epochs: int, lr: float) -> Fitted:
    """Train in place and keep the epoch with the best validation AP50; the model ends in evaluation mode.

    Raises:
        InputError: if the loss is no longer finite.

    """
    start = time.process_time()
    scenes, val = training_scenes(settings.train_scenes, seed), validation_scenes(settings.val_scenes)
    steps = epochs * -(-len(scenes) // settings.batch_size)
    optimizer = torch.optim.AdamW(_parameter_groups(model, settings, lr), foreach=True)
    rate = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        [group["lr"] for group in optimizer.param_groups],
        total_steps=steps,
        pct_start=settings.warm_up,
        cycle_momentum=False,
    )
    generator = torch.Generator().manual_seed(seed)
    history: list[Mapping[str, float]] = []
    best: dict[str, Tensor] = {}
    with one_thread():
        for epoch in range(epochs):
            total = 0.0
            model.train()
            for images, boxes, labels in batches(scenes, settings.batch_size, generator):
                optimizer.zero_grad(set_to_none=True)
                maps: Maps = model(images)
                cells = (images.shape[2] // STRIDE, images.shape[3] // STRIDE)
                value = loss(maps, make_targets(boxes, labels, classes=len(CLASS_NAMES), cells=cells, stride=STRIDE))
                value.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                rate.step()
                total += float(value.detach()) * len(images)
                if not finite(value):
                    raise InputError(
                        f"training diverged in epoch {epoch + 1}: the loss is not finite; lower lr (it is {lr})"
                    )
            ap50 = precision(model, val)["ap50"] or 0.0
            if ap50 >= max((h["val_ap50"] for h in history), default=0.0):
                best = {name: value.detach().clone() for name, value in model.state_dict().items()}
            history.append({"epoch": float(epoch + 1), "loss": total / len(scenes), "val_ap50": ap50})
    model.load_state_dict(best)
    model.eval()
    reached = [h["val_ap50"] for h in history]
    kept = max(range(epochs), key=lambda e: (reached[e], e)) + 1
    return Fitted(history=tuple(history), kept=kept, cpu_s=time.process_time() - start)


def _parameter_groups(model: nn.Module, settings: TrainingSettings, lr: float) -> list[dict[str, Any]]:
    """Let only weights decay, and layers that compute offsets learn at a rate of their own."""
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        decay = settings.weight_decay if parameter.dim() > 1 and not name.endswith(".factor") else 0.0
        rate = lr * settings.offset_lr if f".{OFFSET_LAYER}." in name else lr
        groups.setdefault((decay, rate), []).append(parameter)
    return [{"params": found, "weight_decay": decay, "lr": rate} for (decay, rate), found in groups.items()]


def batches(scenes: Scenes, size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield images, boxes and labels in an order drawn from the generator, half of the batches mirrored left to right."""
    images, boxes, labels = (torch.tensor(a) for a in (scenes.images, scenes.boxes, scenes.labels))
    for chosen in torch.split(torch.randperm(len(scenes), generator=generator), size):
        x, b = images[chosen], boxes[chosen]
        if torch.rand((), generator=generator) < 0.5:
            x, b = x.flip(3), torch.stack([SIDE - b[..., 2], b[..., 1], SIDE - b[..., 0], b[..., 3]], dim=-1)
        yield x, b, labels[chosen]


def detect(run: Any, scenes: Scenes) -> Detections:
    """Return what a model (anything that maps images to the three maps) finds in scenes."""
    import numpy as np

    if isinstance(run, nn.Module):
        run.eval()
    parts = []
    with torch.no_grad(), one_thread():
        for first in range(0, len(scenes), _BATCH_OF_READING):
            maps = run(torch.tensor(scenes.images[first : first + _BATCH_OF_READING]))
            parts.append(decode(maps, stride=STRIDE))
    fields = ("boxes", "scores", "labels")
    joined = {name: np.concatenate([getattr(p, name) for p in parts]) for name in fields}
    return Detections(**joined)


def both_parts(run: Any, settings: TrainingSettings) -> dict[str, dict[str, float | None]]:
    """Return {val, test}: `precision` on validation and test scenes, which are the same for all seeds."""
    test = make_scenes("test", settings.test_scenes, seed=TEST_SEED)
    return {"val": precision(run, validation_scenes(settings.val_scenes)), "test": precision(run, test)}


def precision(run: Any, scenes: Scenes) -> dict[str, float | None]:
    """Return {ap50, ap, ap_small, ap_medium, ap_large} of a model on scenes."""
    return by_size(detect(run, scenes), scenes.boxes, scenes.labels, STRATA)
