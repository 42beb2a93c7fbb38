"""A differentiable price of a network's channels, to add to a training loss.

For each layer the hardware states the marginal price of an output channel (`signals.marginal`). A channel counts as alive
by n^2 / (n^2 + t^2), where n is the norm of its filter (times its batch-norm scale, folded in) and t a tenth of the layer's
mean norm, held fixed for the gradient: near 1 for working channels, falling to 0 as a channel dies. The penalty is the sum
of price x aliveness; its gradient pushes hardest where a channel costs most and is nearly gone.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from picojoule.signals import marginal
from picojoule.sim.errors import InputError
from picojoule.sim.ir import Network
from picojoule.sim.numerics.mac_layout import weight_channel_axis
from picojoule.sim.numerics.torch_importer import from_module
from picojoule.sim.passes import fold_batch_norm
from picojoule.sim.protocol import Accelerator

_METRICS = ("energy_pj", "energy_pj_per_sample", "latency_s", "latency_cycles")
_ATTRIBUTE = "_picojoule_prices"
_Priced = tuple[Network, dict[str, float]]


def cost_penalty(
    module: torch.nn.Module, example_inputs: Sequence[Tensor] | Tensor, accelerator: Accelerator, metric: str
) -> Tensor:
    """Return the penalty as a scalar tensor in the metric's unit, with gradients to the module's parameters.

    Raises:
        InputError: for a metric that has no price per channel.

    """
    if metric not in _METRICS:
        raise InputError(f"penalty knows the metrics {', '.join(_METRICS)}, got '{metric}'")
    network, prices = _priced(module, example_inputs, accelerator, metric)
    total = torch.zeros(())
    for layer in network.layers:
        if layer.name not in prices:
            continue
        handle = layer.operands[1].weights
        if handle is None or handle.origin is None:
            continue
        axis = weight_channel_axis(layer)
        if axis is None:
            continue
        square = handle.origin().movedim(axis, 0).flatten(1).square().sum(1)
        threshold = (0.1 * square.detach().sqrt().mean()) ** 2
        total = total + prices[layer.name] * (square / (square + threshold.clamp(min=1e-20))).sum()
    return total


def _priced(
    module: torch.nn.Module, example_inputs: Sequence[Tensor] | Tensor, accelerator: Accelerator, metric: str
) -> _Priced:
    """Return the module's network and its prices per channel, kept on the module: tracing takes seconds, a step milliseconds.

    They are made anew when the module is another (a copy), its tensors or inputs have other shapes, or the hardware changes.
    """
    inputs = (example_inputs,) if isinstance(example_inputs, Tensor) else tuple(example_inputs)
    shapes: tuple[Any, ...] = tuple(tuple(t.shape) for t in (*inputs, *module.parameters()))
    key = (id(module), accelerator.spec.model_dump_json(), metric, shapes)
    held = module.__dict__.get(_ATTRIBUTE)
    if held is None or held[0] != key:
        plain = from_module(module, inputs)
        signal = marginal(plain, accelerator, metric=metric)
        prices = {name: p.output_channel for name, p in signal.layers.items() if p.output_channel}
        held = module.__dict__[_ATTRIBUTE] = (key, (fold_batch_norm(plain), prices))
    found: _Priced = held[1]
    return found
