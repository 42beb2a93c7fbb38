"""The hardware twin: a torch module that computes as a piece of hardware does, on the user's own parameters.

Where programming leaves something to chance, a twin is one chip: its errors relative to the weights come from its seed, and
stay when the weights change. The twin of seed s is the first chip that `accuracy.measure(seed=s)` measures. Training on one
chip fits the weights to that chip, often at the cost of others; training on a new one in every step (`resample`) makes them
endure any (noise-aware training, as Joshi et al. 2020, Nature Communications 11, 2473). Chips of such training are drawn for it
alone, so none of them is measured.

The hardware is built once, for the network as it is at the start: what a design takes from the network's weights (converters
of `adc_bits: needed` built at design time) stays when they change, on every chip, with gradients or without. What is set when
weights are written (converters that stop early, ranges calibrated on the inputs of the start) follows the weights, in all three
alike.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from picojoule.accuracy import arithmetic_in, checked_seed, formats_in, inputs_wanted, training_chip_seed
from picojoule.sim.errors import UnsupportedError
from picojoule.sim.evaluation import unsupported_sentence
from picojoule.sim.ir import Layer, Network
from picojoule.sim.numerics.calibration import calibrate
from picojoule.sim.numerics.executor import Executor
from picojoule.sim.numerics.torch_importer import evaluating, from_module
from picojoule.sim.numerics.torch_structure import Inputs, inputs_of, output_leaves, rebuilt
from picojoule.sim.passes import fold_batch_norm
from picojoule.sim.protocol import Accelerator, Arithmetic
from picojoule.sim.weights import from_array


class HardwareTwin(torch.nn.Module):
    """Calls and returns like the module it wraps, with hardware arithmetic; gradients pass straight through its errors.

    Args:
        module: the network; its parameters are the twin's.
        example_inputs: as for `pj.trace`; also the calibration data when none is given.
        accelerator: the hardware.
        calibration: batches of *training* inputs.
        seed: of the chip and of calibration.
        resample: whether each call with gradients is a chip of its own; without gradients it is always the chip of `seed`.

    Raises:
        InputError: for a negative seed, or inputs that do not fit the module.
        UnsupportedError: if the module holds operators that cannot be run.

    """

    def __init__(
        self,
        module: torch.nn.Module,
        example_inputs: Sequence[Any] | Mapping[str, Any] | Tensor,
        accelerator: Accelerator,
        *,
        calibration: Sequence[Any] | None = None,
        seed: int = 0,
        resample: bool = False,
    ) -> None:
        super().__init__()
        seed = checked_seed(seed)
        self.module = module
        self.network = fold_batch_norm(from_module(module, example_inputs))
        if self.network.unsupported:
            raise UnsupportedError(unsupported_sentence(self.network))
        self._accelerator, self._seed, self._resample, self._calls = accelerator, seed, resample, 0
        batches = [self._tensors(inputs_of(b)) for b in calibration or [example_inputs]]
        self._returned = self._structure(inputs_of(example_inputs))
        formats = formats_in(accelerator, self.network, seed=seed)
        self._calibration = calibrate(self.network, batches, formats, seed=seed)
        self._samples = inputs_wanted(accelerator, self.network, batches, self._calibration, seed=seed)
        self._built_for = _as_it_is(self.network) if resample else self.network
        self._arithmetic = self._chip(seed)
        self._executor = self._programmed(self._arithmetic)
        self._digests = self._current_digests()

    def _tensors(self, inputs: Inputs) -> list[Tensor]:
        """Return a call's tensors in the network's order."""
        named, names = inputs.named(self.module), [r.name for r in self.network.inputs]
        return [named[n] for n in names] if set(names) == set(named) else list(named.values())

    def _structure(self, inputs: Inputs) -> Any:
        """Return what the module returns, with tensors that hold nothing."""
        with torch.no_grad(), evaluating(self.module):
            result = inputs.call(self.module)
        return rebuilt(result, (torch.empty_like(t, device="meta") for t in output_leaves(result)))

    def _chip(self, seed: int) -> Callable[[Layer], Arithmetic]:
        return arithmetic_in(self._accelerator, self._built_for, seed=seed, samples=self._samples)

    def _programmed(self, arithmetic: Callable[[Layer], Arithmetic]) -> Executor:
        return Executor(self.network, arithmetic=arithmetic, calibration=self._calibration)

    def _current_digests(self) -> tuple[int, ...]:
        """Return what changes when a weight does, also through `.data`: a checksum of each tensor's bytes."""
        return tuple(_digest(t) for t in (*self.module.parameters(), *self.module.buffers()))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the hardware computes for the module's inputs, in the structure that the module returns."""
        results = self._now().run(self._tensors(Inputs(args, kwargs)))
        if len(results) != len(output_leaves(self._returned)):  # some outputs depend on no input
            return results[0] if len(results) == 1 else results
        return rebuilt(self._returned, iter(results))

    def _now(self) -> Executor:
        """Return the executor for a call: with gradients it encodes the weights anew, without it keeps what it encoded."""
        if torch.is_grad_enabled():
            if not self._resample:
                return self._executor
            self._calls += 1
            return self._programmed(self._chip(training_chip_seed(self._seed, self._calls)))
        digests = self._current_digests()
        if digests != self._digests:  # weights changed since they were last encoded
            self._executor, self._digests = self._programmed(self._arithmetic), digests
        return self._executor


def _digest(tensor: Tensor) -> int:
    """Return the CRC-32 of a tensor's values: 10 times the speed of a sum of squares, and it sees signs and places."""
    return zlib.crc32(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)


def _as_it_is(network: Network) -> Network:
    """Return a network whose weights stay what they are now."""
    held = {o.name: o.weights for layer in network.layers for o in layer.parameters if o.weights is not None}
    held = {name: w if w.origin is None else from_array(np.array(w.array()), note=w.note) for name, w in held.items()}

    def kept(layer: Layer) -> Layer:
        operands = (o if o.weights is None else replace(o, weights=held[o.name]) for o in layer.operands)
        return replace(layer, operands=tuple(operands))

    return network.with_layers(tuple(kept(layer) for layer in network.layers))
