"""Runs a network in torch, with the arithmetic of a piece of hardware for the layers made of multiply-accumulates.

`pj.run`, `pj.hardware_twin` and `--accuracy` are three calls of it. Gradients pass straight through rounding and through
the hardware's own errors, and reach the tensors that the network's weights come from.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from picojoule.sim.attributes import MAC_OPS
from picojoule.sim.errors import InputError
from picojoule.sim.ir import Layer, Network, Operand, OperandKind
from picojoule.sim.numerics import float_ops
from picojoule.sim.numerics.calibration import Calibration
from picojoule.sim.numerics.mac_ops import MacEngine
from picojoule.sim.protocol import FLOAT, Arithmetic

Watch = Callable[[Layer, Sequence[Tensor]], None]


class Executor:
    """A network ready to run; weights are read once unless gradients are wanted.

    Args:
        network: what to run.
        arithmetic: how hardware computes each MAC layer; None means floating point everywhere.
        calibration: steps of activations; needed where an arithmetic has integer formats.

    """

    def __init__(
        self,
        network: Network,
        *,
        arithmetic: Callable[[Layer], Arithmetic] | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        self.network = network
        self.engine = MacEngine(calibration or Calibration())
        self.arithmetic = {
            layer.name: arithmetic(layer) for layer in network.layers if arithmetic and layer.op in MAC_OPS
        }
        self._held: dict[str, Tensor] = {}
        self._last_use = {o.name: layer.name for layer in network.layers for o in layer.activations}

    def run(self, inputs: Sequence[Tensor], watch: Watch | None = None) -> tuple[Tensor, ...]:
        """Return the outputs for inputs in the network's order; `watch` sees each layer's operands.

        Everything is computed in float32, whatever the module's or the inputs' own precision.

        Raises:
            InputError: if the number, shape or batch of the inputs does not fit.
            UnsupportedError: if the network holds an operator nobody understood.

        """
        inputs = [_computable(x) for x in inputs]
        batch = self._batch(inputs)
        values = {r.name: t for r, t in zip(self.network.inputs, inputs, strict=True)}
        kept = set(self.network.outputs)
        for layer in self.network.layers:
            operands = [values[o.name] if o.kind is OperandKind.ACTIVATION else self._tensor(o) for o in layer.operands]
            if watch is not None:
                watch(layer, operands)
            arithmetic = self.arithmetic.get(layer.name, FLOAT)
            if arithmetic.weight is None:
                results = float_ops.compute(layer, operands, batch)
            else:
                results = self.engine.compute(layer, operands, batch, arithmetic)
            values.update((r.name, t) for r, t in zip(layer.results, results, strict=True))
            for operand in layer.activations:
                if self._last_use[operand.name] == layer.name and operand.name not in kept:
                    values.pop(operand.name, None)
        return tuple(values[name] for name in self.network.outputs)

    def _tensor(self, operand: Operand) -> Tensor:
        return _computable(self._stored(operand))

    def _stored(self, operand: Operand) -> Tensor:
        if operand.name in self._held:
            return self._held[operand.name]
        handle = operand.weights
        if handle is None:
            raise InputError(
                f"{self.network.name}: parameter '{operand.name}' has no values (this description of a network can be "
                "priced, not run); give weights"
            )
        if torch.is_grad_enabled() and handle.origin is not None:
            return handle.origin()
        value = handle.origin().detach() if handle.origin is not None else _from_numpy(handle.array())
        if not torch.is_grad_enabled():
            return value if handle.origin is not None else self._held.setdefault(operand.name, value)
        return value

    def _batch(self, inputs: Sequence[Tensor]) -> int:
        expected = self.network.inputs
        if len(inputs) != len(expected):
            raise InputError(f"{self.network.name} takes {len(expected)} input(s), got {len(inputs)}")
        batch: int | None = None
        for result, value in zip(expected, inputs, strict=True):
            axis = result.type.batch_axis
            if axis is not None and value.dim() == len(result.shape):
                times, rest = divmod(value.shape[axis], result.shape[axis])
                batch = times if batch is None and not rest and times else batch
            if (batch is None and axis is not None) or tuple(value.shape) != result.type.at(batch or 1):
                shown = ["batch" if i == axis and s == 1 else s for i, s in enumerate(result.shape)]
                raise InputError(f"input '{result.name}' must have shape {shown}, got {list(value.shape)}")
        return batch or 1


_WIDE_UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)
"""Element types that torch stores but does not compute with."""


def _computable(value: Tensor) -> Tensor:
    """Return real numbers in float32, and whole ones in a type that torch computes with."""
    if value.is_floating_point():
        return value if value.dtype is torch.float32 else value.float()
    return value.long() if value.dtype in _WIDE_UNSIGNED else value


def _from_numpy(values: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]") -> Tensor:
    array = np.array(values)  # a copy: torch must not share memory with a read-only array
    return torch.from_numpy(array.astype(np.float32) if array.dtype == np.float64 else array)
