"""The hardware twin: a torch module that computes as a piece of hardware does, on the user's own parameters."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from picojoule.accuracy import arithmetic_in
from picojoule.sim.errors import UnsupportedError
from picojoule.sim.evaluation import unsupported_sentence
from picojoule.sim.numerics.calibration import calibrate
from picojoule.sim.numerics.executor import Executor
from picojoule.sim.numerics.torch_importer import evaluating, from_module
from picojoule.sim.numerics.torch_structure import Inputs, inputs_of, output_leaves, rebuilt
from picojoule.sim.passes import fold_batch_norm
from picojoule.sim.protocol import Accelerator


class HardwareTwin(torch.nn.Module):
    """Calls and returns like the module it wraps, with hardware arithmetic; gradients pass straight through its errors."""

    def __init__(
        self,
        module: torch.nn.Module,
        example_inputs: Sequence[Any] | Mapping[str, Any] | Tensor,
        accelerator: Accelerator,
        *,
        calibration: Sequence[Any] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.module = module
        self.network = fold_batch_norm(from_module(module, example_inputs))
        if self.network.unsupported:
            raise UnsupportedError(unsupported_sentence(self.network))
        self._arithmetic = arithmetic_in(accelerator, self.network)
        batches = [self._tensors(inputs_of(b)) for b in calibration or [example_inputs]]
        self._returned = self._structure(inputs_of(example_inputs))
        self._calibration = calibrate(self.network, batches, self._arithmetic, seed=seed)
        self._executor = self._fresh()
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

    def _fresh(self) -> Executor:
        return Executor(self.network, arithmetic=self._arithmetic, calibration=self._calibration)

    def _current_versions(self) -> tuple[tuple[int, int, float], ...]:
        """Return what changes when a weight does; changes through `.data` show only in the values, hence the sums."""
        tensors = (*self.module.parameters(), *self.module.buffers())
        return tuple((id(t), t._version, float(t.detach().double().square().sum())) for t in tensors)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the hardware computes for the module's inputs, in the structure that the module returns."""
        versions = self._current_versions()
        if versions != self._versions:  # weights changed since they were last encoded
            self._executor, self._versions = self._fresh(), versions
        results = self._executor.run(self._tensors(Inputs(args, kwargs)))
        if len(results) != len(output_leaves(self._returned)):  # some outputs depend on no input
            return results[0] if len(results) == 1 else results
        return rebuilt(self._returned, iter(results))
