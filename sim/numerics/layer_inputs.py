"""What the hardware's matrices see: integer inputs of each layer on calibration data, for converters that fit their range to it.

The network runs in the hardware's formats with exact products, so the inputs hold no error of the hardware itself.
"""

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

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
    kept: dict[str, dict[int, _Recorder]] = {}

    def recording(layer: Layer) -> Arithmetic:
        found = arithmetic(layer)
        if found.program is None:
            return found
        groups = kept.setdefault(layer.name, {})

        def program(weights: NDArray[np.int64], group: int = 0) -> _Recorder:
            if group not in groups:
                purpose = zlib.crc32(f"inputs of {layer.name}".encode())
                groups[group] = _Recorder(weights, columns, np.random.default_rng((seed, purpose, group)))
            return groups[group]

        return replace(found, program=program)

    executor = Executor(network, arithmetic=recording, calibration=calibration)
    count = 0
    with torch.no_grad():
        for batch in batches:
            executor.run(batch)
            count += 1
    if count == 0:
        raise InputError("inputs of layers need at least one batch of training data")
    return {name: [groups[i].kept() for i in sorted(groups)] for name, groups in kept.items() if groups}


class _Recorder:
    """A matrix that multiplies exactly and keeps a sample of what it multiplies."""

    exact = False  # otherwise the executor would go without it

    def __init__(self, weights: NDArray[np.int64], columns: int, generator: np.random.Generator) -> None:
        self._weights, self._columns, self._generator = weights.astype(np.float64), columns, generator
        self._keys: NDArray[np.float64] = np.zeros(0)
        self._kept = np.empty((weights.shape[1], 0), dtype=np.int32)

    def matmul(self, inputs: NDArray[Any], *, signed: bool | None = None) -> NDArray[np.float64]:
        """Return the exact product [out, n], and keep those of the inputs [in, n] that draw the smallest keys so far."""
        keys: NDArray[np.float64] = self._generator.random((inputs.shape[1],))
        if len(keys) + len(self._keys) > self._columns:
            limit = np.partition(np.concatenate([self._keys, keys]), self._columns - 1)[self._columns - 1]
            held, new = np.flatnonzero(self._keys <= limit), np.flatnonzero(keys <= limit)
        else:
            held, new = np.arange(len(self._keys)), np.arange(len(keys))
        taken = np.rint(inputs[:, new]).astype(np.int32)
        self._kept = np.concatenate([self._kept[:, held], taken], axis=1)
        self._keys = np.concatenate([self._keys[held], keys[new]])
        product: NDArray[np.float64] = self._weights @ np.asarray(inputs, dtype=np.float64)
        return product

    def kept(self) -> NDArray[np.int32]:
        """Return the inputs [in, n] kept so far."""
        return self._kept
