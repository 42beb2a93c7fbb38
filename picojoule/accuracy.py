"""Accuracy of a network as floating point and under a piece of hardware's arithmetic, on a data set's test split."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from picojoule.sim.errors import InputError, UnsupportedError
from picojoule.sim.evaluation import unsupported_sentence
from picojoule.sim.ir import Layer, Network
from picojoule.sim.protocol import Accelerator, Arithmetic
from picojoule.sim.report import Accuracy, wilson_interval

if TYPE_CHECKING:
    import torch

    from picojoule.models.data import Dataset, Split

CALIBRATION_SAMPLES = 256
_BATCH = 100

Progress = Callable[[int, int], None]


def measure(
    network: Network,
    accelerator: Accelerator,
    data: "Dataset",
    *,
    split: str = "test",
    seed: int = 0,
    progress: Progress | None = None,
) -> Accuracy:
    """Return top-1 accuracy on a split; activation ranges come from the first 256 training images.

    Raises:
        InputError: if the network's input or output does not fit the data.
        UnsupportedError: if the network holds operators that cannot be run.

    """
    import torch

    from picojoule.sim.numerics.calibration import calibrate
    from picojoule.sim.numerics.executor import Executor

    if network.unsupported:
        raise UnsupportedError(unsupported_sentence(network))
    part: Split = getattr(data, split)
    check_fits(network, data)
    with torch.no_grad():
        batches = [(x,) for x, _ in _batches(data.train, CALIBRATION_SAMPLES)]
        arithmetic = arithmetic_in(accelerator, network)
        calibration = calibrate(network, batches, arithmetic, seed=seed)
        plain = Executor(network)
        hardware = Executor(network, arithmetic=arithmetic, calibration=calibration)
        right = [0, 0]
        done, total = 0, len(part.labels)
        for x, labels in _batches(part, total):
            for i, executor in enumerate((plain, hardware)):
                right[i] += int((executor.run((x,))[0].argmax(1) == labels).sum())
            done += len(labels)
            if progress:
                progress(done, total)
    return Accuracy(
        metric="top1",
        floating=right[0] / total,
        hardware=right[1] / total,
        interval=wilson_interval(right[1], total),
        samples=total,
        split=split,
    )


def arithmetic_in(accelerator: Accelerator, network: Network) -> Callable[[Layer], Arithmetic]:
    """Return how an accelerator computes the layers of a network: by its `arithmetic_in`, where it says what the network decides.

    Others compute a layer alike in any network: their `arithmetic`.
    """
    placed = getattr(accelerator, "arithmetic_in", None)
    if placed is None:
        return accelerator.arithmetic
    found: Callable[[Layer], Arithmetic] = placed(network)
    return found


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
