"""A differentiable price of a network's channels, to add to a training loss.

For each layer the hardware states the marginal price of an output channel (`signals.marginal`). A channel counts as alive
by n^2 / (n^2 + t^2), where n is the norm of its filter (times its batch-norm scale, folded in) and t a tenth of the layer's
mean norm, held fixed for the gradient: near 1 for working channels, falling to 0 as a channel dies. The penalty is the sum
of price x aliveness; its gradient pushes hardest where a channel costs most and is nearly gone.
"""

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from picojoule.signals import marginal
from picojoule.sim.errors import InputError
from picojoule.sim.ir import Network
from picojoule.sim.numerics.torch_importer import from_module
from picojoule.sim.passes import fold_batch_norm
from picojoule.sim.protocol import Accelerator

_METRICS = ("energy_pj", "energy_pj_per_sample", "latency_s", "latency_cycles")
_Priced = tuple[Network, dict[str, float]]
# A cache, not state: tracing a module and pricing its channels takes seconds, a training step milliseconds.
_cache: "WeakKeyDictionary[torch.nn.Module, dict[tuple[str, str], _Priced]]" = WeakKeyDictionary()


def cost_penalty(
    module: torch.nn.Module, example_inputs: Sequence[Tensor] | Tensor, accelerator: Accelerator, metric: str
) -> Tensor:
    """Return the penalty as a scalar tensor in the metric's unit, with gradients to the module's parameters.

    Raises:
        InputError: for a metric that has no price per channel.

    """
    if metric not in _METRICS:
        raise InputError(f"penalty knows the metrics {', '.join(_METRICS)}, got '{metric}'")
    key = (accelerator.spec.model_dump_json(), metric)
    known = _cache.setdefault(module, {})
    if key not in known:
        plain = from_module(module, example_inputs)
        signal = marginal(plain, accelerator, metric=metric)
        prices = {name: p.output_channel for name, p in signal.layers.items() if p.output_channel}
        known[key] = (fold_batch_norm(plain), prices)
    network, prices = known[key]
    total = torch.zeros(())
    for layer in network.layers:
        if layer.name not in prices:
            continue
        handle = layer.operands[1].weights
        if handle is None or handle.origin is None:
            continue
        square = handle.origin().flatten(1).square().sum(1)
        threshold = (0.1 * square.detach().sqrt().mean()) ** 2
        total = total + prices[layer.name] * (square / (square + threshold.clamp(min=1e-20))).sum()
    return total
