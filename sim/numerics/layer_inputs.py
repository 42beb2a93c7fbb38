"""What the hardware's matrices see: integer inputs of each layer on calibration data, for converters that fit their range to it.

The network runs in the hardware's formats with exact products, so the inputs hold no error of the hardware itself. What is
kept of them is a policy: an even draw here, neighbors in `sim.activation_source`.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from picojoule.sim.errors import InputError
from picojoule.sim.ir import Layer, Network
from picojoule.sim.numerics.calibration import Calibration
from picojoule.sim.numerics.executor import Executor
from picojoule.sim.protocol import Arithmetic

LayerInputs = dict[str, list[NDArray[np.int32]]]
"""Integer inputs [in, n] by layer, one array per matrix of the layer (groups of a convolution)."""


class Keeper(Protocol):
    """What holds some of the inputs of one matrix."""

    def keep(self, inputs: NDArray[Any]) -> None:
        """See the inputs [in, n] of one product."""


K = TypeVar("K", bound=Keeper)


def layer_inputs(
    network: Network,
    batches: Iterable[Sequence[Tensor]],
    arithmetic: Callable[[Layer], Arithmetic],
    calibration: Calibration,
    *,
    columns: int = 2048,
    seed: int = 0,
) -> LayerInputs:
    """Return the integer inputs of every layer that the hardware multiplies (one with a `program`).

    Of each matrix at most `columns` inputs are kept, drawn evenly from all positions of all batches (a recurrent layer: from
    all its steps), whatever the other layers are.

    Args:
        network: what to run.
        batches: inputs in the network's order; *training* data.
        arithmetic: how the hardware computes a layer; only formats are used.
        calibration: steps of the activations.
        columns: most inputs kept per matrix.
        seed: of the drawing.

    Raises:
        InputError: if no batch is given.

    """

    def keeper(layer: str, group: int, size: int) -> _Draw:
        purpose = zlib.crc32(f"inputs of {layer}".encode())
        return _Draw(size, columns, np.random.default_rng((seed, purpose, group)))

    runs = list(
        record(network, batches, arithmetic, calibration, wanted=lambda a: a.program is not None, keeper=keeper)
    )
    if not runs:
        raise InputError("inputs of layers need at least one batch of training data")
    return {name: [draw.kept for draw in groups] for name, groups in runs[-1].items()}


def record(
    network: Network,
    batches: Iterable[Sequence[Tensor]],
    arithmetic: Callable[[Layer], Arithmetic],
    calibration: Calibration,
    *,
    wanted: Callable[[Arithmetic], bool],
    keeper: Callable[[str, int, int], K],
) -> Iterator[Mapping[str, Sequence[K]]]:
    """Run batches one by one and yield after each one the keepers of every layer so far, one per matrix (group).

    Args:
        network: what to run.
        batches: inputs in the network's order.
        arithmetic: how the hardware computes a layer; only formats are used, products are exact.
        calibration: steps of the activations.
        wanted: which layers are recorded, by their arithmetic.
        keeper: makes the keeper of a layer's name, group and number of inputs.

    """
    kept: dict[str, dict[int, _Recorder[K]]] = {}

    def recording(layer: Layer) -> Arithmetic:
        found = arithmetic(layer)
        if not wanted(found):
            return found
        groups = kept.setdefault(layer.name, {})

        def program(weights: NDArray[np.int64], group: int = 0) -> _Recorder[K]:
            if group not in groups:
                groups[group] = _Recorder(weights, keeper(layer.name, group, weights.shape[1]))
            return groups[group]

        return replace(found, program=program)

    executor = Executor(network, arithmetic=recording, calibration=calibration)
    for batch in batches:
        with torch.no_grad():
            executor.run(batch)
        yield {name: [groups[i].keeper for i in sorted(groups)] for name, groups in kept.items() if groups}


class _Recorder(Generic[K]):
    """A matrix that multiplies exactly and shows what it multiplies to a keeper."""

    exact = False  # otherwise the executor would go without it

    def __init__(self, weights: NDArray[np.int64], keeper: K) -> None:
        self._weights, self.keeper = weights.astype(np.float64), keeper

    def matmul(self, inputs: NDArray[Any], *, signed: bool | None = None) -> NDArray[np.float64]:
        """Return the exact product [out, n] of inputs [in, n]."""
        self.keeper.keep(inputs)
        product: NDArray[np.float64] = self._weights @ np.asarray(inputs, dtype=np.float64)
        return product


class _Draw:
    """Keeps those of the inputs that draw the smallest keys so far: every one is as likely."""

    def __init__(self, size: int, columns: int, generator: np.random.Generator) -> None:
        self._columns, self._generator = columns, generator
        self._keys: NDArray[np.float64] = np.zeros(0)
        self.kept: NDArray[np.int32] = np.empty((size, 0), dtype=np.int32)

    def keep(self, inputs: NDArray[Any]) -> None:
        keys: NDArray[np.float64] = self._generator.random((inputs.shape[1],))
        if len(keys) + len(self._keys) > self._columns:
            limit = np.partition(np.concatenate([self._keys, keys]), self._columns - 1)[self._columns - 1]
            held, new = np.flatnonzero(self._keys <= limit), np.flatnonzero(keys <= limit)
        else:
            held, new = np.arange(len(self._keys)), np.arange(len(keys))
        taken = np.rint(inputs[:, new]).astype(np.int32)
        self.kept = np.concatenate([self.kept[:, held], taken], axis=1)
        self._keys = np.concatenate([self._keys[held], keys[new]])
