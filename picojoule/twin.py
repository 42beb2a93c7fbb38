"""The hardware twin: a torch module that computes as a piece of hardware does, on the user's own parameters."""

from collections.abc import Sequence

import torch
from torch import Tensor

from picojoule.sim.errors import UnsupportedError
from picojoule.sim.evaluation import unsupported_sentence
from picojoule.sim.numerics.calibration import calibrate
from picojoule.sim.numerics.executor import Executor
from picojoule.sim.numerics.torch_importer import from_module
from picojoule.sim.passes import fold_batch_norm
from picojoule.sim.protocol import Accelerator


class HardwareTwin(torch.nn.Module):
    """Calls like the module it wraps; forward uses hardware arithmetic, backward passes straight through its errors."""

    def __init__(
        self,
        module: torch.nn.Module,
        example_inputs: Sequence[Tensor] | Tensor,
        accelerator: Accelerator,
        *,
        calibration: Sequence[Sequence[Tensor]] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        inputs = (example_inputs,) if isinstance(example_inputs, Tensor) else tuple(example_inputs)
        self.module = module
        self.network = fold_batch_norm(from_module(module, inputs))
        if self.network.unsupported:
            raise UnsupportedError(unsupported_sentence(self.network))
        self._arithmetic = accelerator.arithmetic
        batches = [(b,) if isinstance(b, Tensor) else tuple(b) for b in calibration] if calibration else [inputs]
        self._calibration = calibrate(self.network, batches, self._arithmetic, seed=seed)
        self._executor = self._fresh()
        self._versions = self._current_versions()

    def _fresh(self) -> Executor:
        return Executor(self.network, arithmetic=self._arithmetic, calibration=self._calibration)

    def _current_versions(self) -> tuple[tuple[int, int, float], ...]:
        """Return what changes when a weight does; changes through `.data` show only in the values, hence the sums."""
        tensors = (*self.module.parameters(), *self.module.buffers())
        return tuple((id(t), t._version, float(t.detach().double().square().sum())) for t in tensors)

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return what the hardware computes for the module's inputs."""
        versions = self._current_versions()
        if versions != self._versions:  # weights changed since they were last encoded
            self._executor, self._versions = self._fresh(), versions
        results = self._executor.run(inputs)
        return results[0] if len(results) == 1 else results
