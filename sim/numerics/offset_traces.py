"""Records the offsets that a network really computes, for pricing on them."""

from collections.abc import Mapping, Sequence
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
        InputError: if there is no such layer, the inputs do not fit or are none, or an offset is NaN or infinite.

    """
    if not isinstance(network, Network | torch.nn.Module):
        raise InputError(f"record_offsets takes a network or a torch module, got {type(network).__name__}")
    given = _given(x)
    if isinstance(network, torch.nn.Module):
        network = from_module(network, given)
    elif isinstance(given, dict):
        given = _in_order(network, given)
    tensors = list(inputs_of(given).tensors)
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


def _given(x: Any) -> Any:
    """Return inputs as `inputs_of` takes them, arrays as tensors; it refuses what is neither."""
    if isinstance(x, Mapping):
        return {name: _tensor(value) for name, value in x.items()}
    if isinstance(x, list | tuple):
        return tuple(_tensor(value) for value in x)
    return _tensor(x)


def _in_order(network: Network, given: dict[str, Any]) -> tuple[Any, ...]:
    names = [r.name for r in network.inputs]
    if set(given) != set(names):
        raise InputError(f"inputs of {network.name} are {', '.join(names)}, got {', '.join(map(str, given))}")
    return tuple(given[name] for name in names)


def _tensor(value: Any) -> Any:
    return torch.as_tensor(value) if isinstance(value, np.ndarray | np.generic) else value
