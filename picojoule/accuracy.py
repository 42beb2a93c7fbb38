"""Accuracy of a network as floating point and under a piece of hardware's arithmetic, on a data set's test split."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from picojoule.sim.errors import InputError, UnsupportedError
from picojoule.sim.evaluation import unsupported_sentence
from picojoule.sim.ir import Layer, Network
from picojoule.sim.protocol import Accelerator, Arithmetic, accepted
from picojoule.sim.report import Accuracy, wilson_interval

if TYPE_CHECKING:
    import torch

    from picojoule.models.data import Dataset, Split
    from picojoule.sim.numerics.calibration import Calibration
    from picojoule.sim.numerics.layer_inputs import LayerInputs

CALIBRATION_SAMPLES = 256
_BATCH = 100
_CHIPS = 0xC41B5  # sets the children of a seed apart from those drawn for other purposes

Progress = Callable[[int, int], None]


def measure(
    network: Network,
    accelerator: Accelerator,
    data: "Dataset",
    *,
    split: str = "test",
    seed: int = 0,
    seeds: int = 1,
    progress: Progress | None = None,
) -> Accuracy:
    """Return top-1 accuracy on a split; ranges come from the first 256 training images.

    The mean over `seeds` chips, which are programmed from `chip_seed(seed, 0)`, `chip_seed(seed, 1)` and so on. Where all
    chips compute alike, one is measured. The float pass and calibration are made once.

    Raises:
        InputError: if the network's input or output does not fit the data, or `seeds` is below 1.
        UnsupportedError: if the network holds operators that cannot be run.

    """
    import torch

    from picojoule.sim.numerics.calibration import calibrate
    from picojoule.sim.numerics.executor import Executor

    if seeds < 1:
        raise InputError(f"seeds must be at least 1, got {seeds}")
    if network.unsupported:
        raise UnsupportedError(unsupported_sentence(network))
    part: Split = getattr(data, split)
    check_fits(network, data)
    differ = chips_differ(accelerator)
    chips = [chip_seed(seed, i) for i in range(seeds if differ else 1)]
    done, total, samples = 0, (len(chips) + 1) * len(part.labels), len(part.labels)

    def correct(executor: Executor) -> int:
        nonlocal done
        right = 0
        for x, labels in _batches(part, samples):
            right += int((executor.run((x,))[0].argmax(1) == labels).sum())
            done += len(labels)
            if progress:
                progress(done, total)
        return right

    with torch.no_grad():
        batches = [(x,) for x, _ in _batches(data.train, CALIBRATION_SAMPLES)]
        calibration = calibrate(network, batches, formats_in(accelerator, network, seed=seed), seed=seed)
        inputs = inputs_wanted(accelerator, network, batches, calibration, seed=seed)
        plain = correct(Executor(network))
        right = []
        for chip in chips:
            arithmetic = arithmetic_in(accelerator, network, seed=chip, samples=inputs)
            right.append(correct(Executor(network, arithmetic=arithmetic, calibration=calibration)))
    return Accuracy(
        metric="top1",
        floating=plain / samples,
        hardware=sum(right) / (samples * len(chips)),
        interval=chips_interval(right, samples),
        samples=samples,
        split=split,
        per_seed=tuple(r / samples for r in right),
        chips_differ=differ,
    )


def arithmetic_in(
    accelerator: Accelerator, network: Network, *, seed: int = 0, samples: "LayerInputs | None" = None
) -> Callable[[Layer], Arithmetic]:
    """Return how an accelerator computes the layers of a network: by its `arithmetic_in`, where it says what the network decides.

    Others compute a layer alike in any network: their `arithmetic`. `seed` is the chip's: what programming leaves to chance.
    `samples` are the integer inputs of layers on calibration data (`inputs_wanted`).
    """
    placed = getattr(accelerator, "arithmetic_in", None)
    if placed is None:
        return accelerator.arithmetic
    found: Callable[[Layer], Arithmetic] = placed(network, **accepted(placed, seed=seed, samples=samples))
    return found


def formats_in(accelerator: Accelerator, network: Network, *, seed: int = 0) -> Callable[[Layer], Arithmetic]:
    """Return the arithmetic of the network's layers before samples are known: its formats are right, its products are not."""
    return accelerator.arithmetic if needs_samples(accelerator) else arithmetic_in(accelerator, network, seed=seed)


def needs_samples(accelerator: Accelerator) -> bool:
    """Return whether an accelerator wants `samples`, by its own word."""
    return bool(getattr(accelerator, "needs_samples", False))


def inputs_wanted(
    accelerator: Accelerator,
    network: Network,
    batches: "Iterable[Sequence[torch.Tensor]]",
    calibration: "Calibration",
    *,
    seed: int = 0,
) -> "LayerInputs | None":
    """Return the integer inputs of the network's layers on calibration data if the accelerator wants them, else None."""
    if not needs_samples(accelerator):
        return None
    from picojoule.sim.numerics.layer_inputs import layer_inputs

    return layer_inputs(network, batches, formats_in(accelerator, network, seed=seed), calibration, seed=seed)


def chips_differ(accelerator: Accelerator) -> bool:
    """Return whether what an accelerator computes depends on the chip's seed, by its own word."""
    return bool(getattr(accelerator, "chips_differ", False))


def chip_seed(seed: int, index: int) -> int:
    """Return the seed of chip number `index`: `seed` itself for 0, then children of it."""
    return int(np.random.SeedSequence((seed, _CHIPS, index)).generate_state(1)[0]) if index else seed


def chips_interval(right: Sequence[int], samples: int) -> tuple[float, float]:
    """Return the 95 % interval of the mean accuracy over chips and images, from each chip's count of right answers.

    Two independent sources add in squares, on each side of the mean: the choice of images (the Wilson interval of the mean
    over `samples`, which all chips share) and the choice of chips (Student's t over the chips' own accuracies). One chip: the
    Wilson interval alone, which says nothing about other chips.
    """
    mean = sum(right) / (len(right) * samples)
    low, high = wilson_interval(mean * samples, samples)
    if len(right) == 1:
        return low, high
    from scipy.special import stdtrit

    spread = float(np.std([r / samples for r in right], ddof=1))
    half = float(stdtrit(len(right) - 1, 0.975)) * spread / math.sqrt(len(right))
    return max(0.0, mean - math.hypot(mean - low, half)), min(1.0, mean + math.hypot(high - mean, half))


def check_fits(network: Network, data: "Dataset") -> None:
    """Refuse a network whose single input or class scores do not fit the data.

    Raises:
        InputError: saying both shapes.

    """
    sample = tuple(data.train.images.shape[1:])
    if len(network.inputs) != 1 or network.inputs[0].shape[1:] != sample:
        shapes = [list(r.shape[1:]) for r in network.inputs]
        raise InputError(f"{network.name} takes samples of shape {shapes}, {data.name} has {list(sample)}")
    scores = network.values()[network.outputs[0]].shape
    if len(scores) != 2 or scores[1] < len(data.class_names):
        raise InputError(
            f"{network.name} returns {list(scores)}, but accuracy on {data.name} needs scores of shape "
            f"[1, {len(data.class_names)}]"
        )


def _batches(split: "Split", count: int) -> Iterator[tuple["torch.Tensor", "torch.Tensor"]]:
    import torch

    count = min(count, len(split.labels))
    for start in range(0, count, _BATCH):
        stop = min(count, start + _BATCH)
        yield torch.tensor(split.images[start:stop]), torch.tensor(split.labels[start:stop])
