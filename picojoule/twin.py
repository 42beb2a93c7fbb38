"""The hardware twin: a torch module that computes as a piece of hardware does, on the user's own parameters.

Where programming leaves something to chance, a twin is one chip: its errors relative to the weights come from its seed, and
stay when the weights change. Training on one chip fits the weights to that chip, often at the cost of others; training on a
new one in every step (`resample`) makes them endure any (noise-aware training, as Joshi et al. 2020, Nature Communications
11, 2473). What a design takes from the network (converters as wide as its weights need, ranges from calibration data) is that
of the weights at the start.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from picojoule.accuracy import arithmetic_in, chip_seed, formats_in, inputs_wanted
from picojoule.sim.errors import UnsupportedError
from picojoule.sim.evaluation import unsupported_sentence
from picojoule.sim.numerics.calibration import calibrate
from picojoule.sim.numerics.executor import Executor
from picojoule.sim.numerics.torch_importer import evaluating, from_module
from picojoule.sim.numerics.torch_structure import Inputs, inputs_of, output_leaves, rebuilt
from picojoule.sim.passes import fold_batch_norm
from picojoule.sim.protocol import Accelerator


class HardwareTwin(torch.nn.Module):
    """Calls and returns like the module it wraps, with hardware arithmetic; gradients pass straight through its errors.

    Args:
        module: the network; its parameters are the twin's.
        example_inputs: as for `pj.trace`; also the calibration data when none is given.
        accelerator: the hardware.
        calibration: batches of *training* inputs.
        seed: of the chip and of calibration.
        resample: whether each call with gradients is a chip of its own; without gradients it is always the chip of `seed`.

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
        self._executor = self._programmed(seed)
        self._versions = self._current_versions()

    def _tensors(self, inputs: Inputs) -> list[Tensor]:
        """Return a call's tensors in the network's order."""
        named, names = inputs.named(self.module), [r.name for r in self.network.inputs]
        return [named[n] for n in names] if set(names) == set(named) else list(named.values())

    def _structure(self, inputs: Inputs) -> Any:
        """Return what the module returns, with tensors that hold nothing."""
        with torch.no_grad(), evaluating(self.module):
            result = inputs.call(self.module)
        return rebuilt(result, (torch.empty_like(t, device="meta") for t in output_leaves(result)))

    def _programmed(self, chip: int) -> Executor:
        arithmetic = arithmetic_in(self._accelerator, self.network, seed=chip, samples=self._samples)
        return Executor(self.network, arithmetic=arithmetic, calibration=self._calibration)

    def _current_versions(self) -> tuple[tuple[int, int, float], ...]:
        """Return what changes when a weight does; changes through `.data` show only in the values, hence the sums."""
        tensors = (*self.module.parameters(), *self.module.buffers())
        return tuple((id(t), t._version, float(t.detach().double().square().sum())) for t in tensors)

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
            return self._programmed(chip_seed(self._seed, self._calls))
        versions = self._current_versions()
        if versions != self._versions:  # weights changed since they were last encoded
            self._executor, self._versions = self._programmed(self._seed), versions
        return self._executor
