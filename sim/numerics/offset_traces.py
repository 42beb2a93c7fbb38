"""Records the offsets that a network really computes, for pricing on them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from picojoule.sim.attributes import DeformConvAttributes
from picojoule.sim.errors import InputError
from picojoule.sim.ir import Layer, Network
from picojoule.sim.numerics.executor import Executor
from picojoule.sim.numerics.torch_importer import from_module
from picojoule.sim.numerics.torch_structure import inputs_of
from picojoule.sim.offset_traces import LARGEST, OffsetTrace


def record_offsets(network: "Network | torch.nn.Module", x: Any) -> OffsetTrace:
    """Return the offsets of every deformable convolution for the inputs x, in whole pixels (half to even).

    Args:
        network: a network, or a module (which is traced with x).
        x: a tensor or array, a sequence of them, or a mapping, as `pj.run` takes them; the first axis is the batch. Take
            calibration or validation data, never test data.

    Raises:
        InputError: if there is no such layer, the inputs do not fit, or an offset is NaN or infinite.

    """
    given = x if isinstance(x, dict) else [_tensor(v) for v in ((x,) if isinstance(x, Tensor | np.ndarray) else x)]
    if isinstance(network, torch.nn.Module):
        network = from_module(network, given if isinstance(given, dict) else tuple(given))
    tensors = list(inputs_of(given if isinstance(given, dict) else tuple(given)).tensors)
    found: dict[str, NDArray[np.int16]] = {}

    def watch(layer: Layer, operands: Sequence[Tensor]) -> None:
        if isinstance(layer.attributes, DeformConvAttributes):
            found[layer.name] = whole_offsets(layer, operands[2])

    with torch.no_grad():
        Executor(network).run(tensors, watch)
    if not found:
        raise InputError(f"{network.name} has no deformable convolution, so there are no offsets to record")
    return OffsetTrace(offsets=found, source="data")


def whole_offsets(layer: Layer, offsets: Tensor) -> NDArray[np.int16]:
    """Return offsets rounded half to even as int16 (larger ones become the largest).

    Raises:
        InputError: naming the layer, if one is NaN or infinite.

    """
    values = offsets.detach().double().numpy()
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        raise InputError(
            f"layer '{layer.name}': {bad} of {values.size} offsets are NaN or infinite; look at what its offset convolution "
            "is given, or train it again"
        )
    made: NDArray[np.int16] = np.clip(np.rint(values), -LARGEST, LARGEST).astype(np.int16)
    return made


def _tensor(value: Any) -> Tensor:
    return value if isinstance(value, Tensor) else torch.as_tensor(value)
