"""Accuracy of a network as floating point and under a piece of hardware's arithmetic, on a data set's test split."""

import math
import zlib
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
_TRAINING_CHIPS = zlib.crc32(b"training chip")

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
        InputError: if the network's input or output does not fit the data, `seeds` is below 1 or `seed` is negative.
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
    seed, differ = checked_seed(seed), chips_differ(accelerator)
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


def checked_seed(seed: int) -> int:
    """Return a seed of chips as it is.

    Raises:
        InputError: if it is negative, not whole, or 2^63 and more.

    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**63:
        raise InputError(f"seed must be a whole number between 0 and 2**63 - 1, got {seed!r}")
    return int(seed)


def chip_seed(seed: int, index: int) -> int:
    """Return the seed of measured chip number `index`: `seed` itself for 0, then children of it; errors as `checked_seed`."""
    return _child(seed, _CHIPS, index) if index else checked_seed(seed)


def training_chip_seed(seed: int, step: int) -> int:
    """Return the seed of the chip on which training takes step number `step`; errors as `checked_seed`.

    It is 2^32 or more and those of measured chips are below (unless the user's own seed is not), so that no chip is ever both.
    """
    return (1 << 32) + _child(seed, _TRAINING_CHIPS, step)


def _child(seed: int, purpose: int, index: int) -> int:
    """Return one of the children of a seed that are drawn for a purpose, below 2^32."""
    return int(np.random.SeedSequence((checked_seed(seed), purpose, index)).generate_state(1)[0])


def chips_interval(right: Sequence[int], samples: int) -> tuple[float, float]:
    """Return the interval, of at least 95 %, of the mean accuracy over chips and images, from each chip's count of right answers.

    Two sources add in squares, on each side of the mean: the choice of images (the Wilson interval of the mean over `samples`,
    as if all chips failed on the same ones) and the choice of chips (Student's t over the chips' own accuracies). That is
    cautious: where chips fail on images of their own, these failures average out and yet count in both. Simulated (seeded, 3
    to 10 chips and 100 to 2,000 images; a part of it is `tests/test_chips.py`) it covers the true mean in 95 to 100 % of all
    cases, and is 1 to 2 times as wide as one of exactly 95 % (2.5 where each chip fails on images of its own). One chip: the
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
