"""How much training on the hardware wins back of what a narrow converter or noisy cells lose.

Per seed, a network is trained in floating point and measured on each piece of hardware: as it is, after more training in
floating point (the control: as many epochs of the same data), and after as many epochs through the hardware's twin, where
each step of training is on another chip if chips differ. Training sees training data only; the chips measured are none of
those trained on (`accuracy.training_chip_seed`), and the same for all three, so that their differences are paired.
"""

import copy
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from picojoule.accuracy import CALIBRATION_SAMPLES, chips_differ, measure
from picojoule.models.data import Dataset, Split
from picojoule.models.zoo import build
from picojoule.sim.errors import InputError
from picojoule.sim.hardware import load_hardware
from picojoule.sim.numerics.torch_importer import from_module
from picojoule.sim.passes import fold_batch_norm
from picojoule.sim.protocol import Accelerator
from picojoule.training import train
from picojoule.twin import HardwareTwin

BEFORE, CONTROL, AFTER = "before", "float fine-tuning", "hardware fine-tuning"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoverySettings:
    """How long everything takes: epochs and learning rates of both trainings, images and chips of a measurement."""

    pretrain: int = 5
    pretrain_lr: float = 2e-3
    epochs: int = 2
    lr: float = 3e-4
    batch_size: int = 64
    train_samples: int | None = None
    """Images of fine-tuning (the first of the training part); None: all."""
    test_samples: int | None = None
    """Images of a measurement (the first of the test part); None: all."""
    chips: int = 3
    """Chips of a measurement, where they differ."""
    seeds: int = 3
    """Networks trained from different random weights; at least 2, or there is no interval."""


def recovery(
    network: str,
    data: Dataset,
    hardware: str,
    cases: Mapping[str, Mapping[str, Any]],
    settings: RecoverySettings,
    *,
    say: Callable[[str], None] = lambda text: None,
) -> list[dict[str, Any]]:
    """Return a row per seed, case and stage: `seed case stage float accuracy per_chip samples`.

    Args:
        network: a zoo name; its weights are trained here.
        data: labelled images.
        hardware: a preset or YAML file.
        cases: keys of the hardware to change, by the name of the case.
        settings: how much training and measuring.
        say: is told of each row.

    Raises:
        InputError: for fewer than 2 seeds, or hardware or data that do not fit.

    """
    if settings.seeds < 2:
        raise InputError(f"recovery needs at least 2 seeds for an interval, got {settings.seeds}")
    machines = {name: load_hardware(hardware, overrides) for name, overrides in cases.items()}
    tested = replace(data, test=_first(data.test, settings.test_samples))
    tuned = _first(data.train, settings.train_samples)
    rows: list[dict[str, Any]] = []
    for seed in range(settings.seeds):
        trained = build(network, input_shape=data.input_shape, classes=data.classes, seed=seed)
        train(trained, data.train, epochs=settings.pretrain, lr=settings.pretrain_lr, seed=seed)
        more = copy.deepcopy(trained)
        _tune(more, more, tuned, settings, seed)
        for name, machine in machines.items():
            own = copy.deepcopy(trained)
            twin = _twin(own, data, machine, seed)
            _tune(own, twin, tuned, settings, seed)
            for stage, module in ((BEFORE, trained), (CONTROL, more), (AFTER, own)):
                rows.append(
                    {"seed": seed, "case": name, "stage": stage, **_measured(module, tested, machine, settings)}
                )
                say(json.dumps(rows[-1]))
    return rows


def summary(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a row per case and stage: mean accuracy over seeds, and the paired gain over `before` with its 95 % t-interval."""
    told: list[dict[str, Any]] = []
    for case in dict.fromkeys(r["case"] for r in rows):
        by_stage = {
            s: _by_seed(r for r in rows if (r["case"], r["stage"]) == (case, s)) for s in (BEFORE, CONTROL, AFTER)
        }
        floats = [r["float"] for r in rows if (r["case"], r["stage"]) == (case, BEFORE)]
        for stage, found in by_stage.items():
            gain, low, high = _interval([found[s] - by_stage[BEFORE][s] for s in found])
            mean, mean_low, mean_high = _interval(list(found.values()))
            told.append(
                {
                    "case": case,
                    "stage": stage,
                    "float_before": float(np.mean(floats)),
                    "accuracy": mean,
                    "accuracy_low": mean_low,
                    "accuracy_high": mean_high,
                    "gain": gain,
                    "gain_low": low,
                    "gain_high": high,
                    "seeds": len(found),
                }
            )
    return told


def _by_seed(rows: Iterable[Mapping[str, Any]]) -> dict[int, float]:
    return {int(r["seed"]): float(r["accuracy"]) for r in rows}


def _interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return mean, lower and upper end of Student's 95 % interval over seeds."""
    from scipy.special import stdtrit

    mean = float(np.mean(values))
    half = float(stdtrit(len(values) - 1, 0.975)) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return mean, mean - half, mean + half


def _first(split: Split, count: int | None) -> Split:
    return split if count is None else replace(split, images=split.images[:count], labels=split.labels[:count])


def _twin(module: nn.Module, data: Dataset, machine: Accelerator, seed: int) -> HardwareTwin:
    images = torch.tensor(data.train.images[:CALIBRATION_SAMPLES])
    return HardwareTwin(module, images[:2], machine, calibration=[(images,)], seed=seed, resample=chips_differ(machine))


def _tune(owner: nn.Module, called: nn.Module, split: Split, settings: RecoverySettings, seed: int) -> None:
    train(called, split, epochs=settings.epochs, lr=settings.lr, batch_size=settings.batch_size, seed=seed)
    owner.eval()


def _measured(module: nn.Module, data: Dataset, machine: Accelerator, settings: RecoverySettings) -> dict[str, Any]:
    network = fold_batch_norm(from_module(module, (torch.tensor(data.train.images[:2]),)))
    found = measure(network, machine, data, seeds=settings.chips)
    return {
        "float": found.floating,
        "accuracy": found.hardware,
        "per_chip": list(found.per_seed),
        "samples": found.samples,
    }


def settings_row(settings: RecoverySettings) -> dict[str, Any]:
    """Return the settings as a flat row, for tables and keys of results."""
    return asdict(settings)
