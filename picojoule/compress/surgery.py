"""Cuts channel groups out of a user's torch module: smaller parameters and buffers, the same class and names.

Only tensors that the module holds under the names of the IR are cut; the result is run and compared with the pruned network,
so a forward that hard-codes a channel count is refused instead of computing something else.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from picojoule.compress.coupling import Coupling, channel_groups
from picojoule.compress.pruning import kept_indices, prune_network
from picojoule.compress.same_outputs import output_tensors, same_outputs
from picojoule.sim.attributes import ConvAttributes, DeformConvAttributes
from picojoule.sim.errors import UnsupportedError
from picojoule.sim.ir import Network, Operand, OperandKind
from picojoule.sim.numerics.deform_module import DeformConv2d
from picojoule.sim.numerics.executor import Executor
from picojoule.sim.weights import Weights


def prune_module(
    module: nn.Module,
    network: Network,
    keep: NDArray[np.bool_],
    coupling: Coupling | None = None,
    *,
    example_inputs: Sequence[Tensor] | None = None,
) -> nn.Module:
    """Return a copy of the module without the channel groups that `keep` leaves out, in eval mode.

    `network` must have been imported from this module or one like it (batch norms unfolded). The copy is run on
    `example_inputs` (standard normal values when not given) and must equal the pruned network.

    Raises:
        UnsupportedError: if a tensor to be cut is computed and not held by the module, or if the module's own code counts
            on the old sizes.

    """
    coupling = coupling or channel_groups(network)
    pruned = prune_network(rebind(network, module), keep, coupling)
    made = copy.deepcopy(module).eval()
    held = tensors_of(made)
    for name, axes in coupling.tensors.items():
        kept = kept_indices(axes, keep)
        if all(len(k) == len(a) for k, a in zip(kept, axes, strict=True)):
            continue
        tensor = held.get(name)
        if tensor is None or tuple(tensor.shape) != tuple(len(a) for a in axes):
            raise UnsupportedError(
                f"{type(module).__name__}: '{name}' must lose channels but is computed, not a parameter or buffer of that "
                "shape; remove parametrisations first or keep its channels"
            )
        data = tensor.data
        for axis, indices in enumerate(kept):
            data = data.index_select(axis, torch.from_numpy(indices))
        tensor.data = data.clone()
        tensor.grad = None
    update_attributes(made, pruned)
    _check(module, made, pruned, example_inputs)
    return made


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Return a module's parameters and buffers by every name they have."""
    found: dict[str, Tensor] = dict(module.named_buffers(remove_duplicate=False))
    found.update(module.named_parameters(remove_duplicate=False))
    return found


def rebind(network: Network, module: nn.Module) -> Network:
    """Return the network with the module's tensors of the same names and shapes as its weights."""
    held = tensors_of(module)

    def bound(operand: Operand) -> Operand:
        tensor = held.get(operand.name)
        if operand.kind is OperandKind.ACTIVATION or tensor is None or tuple(tensor.shape) != operand.shape:
            return operand
        note = operand.weights.note if operand.weights else "module"
        handle = Weights(shape=operand.shape, load=_loader(tensor), origin=_origin(tensor), note=note)
        return replace(operand, weights=handle)

    layers = tuple(replace(y, operands=tuple(bound(o) for o in y.operands)) for y in network.layers)
    return network.with_layers(layers)


def _loader(tensor: Tensor) -> Callable[[], NDArray[np.generic]]:
    return lambda: tensor.detach().cpu().numpy()


def _origin(tensor: Tensor) -> Callable[[], Tensor]:
    return lambda: tensor


def update_attributes(module: nn.Module, network: Network) -> None:
    """Make the numbers that torch's layers keep about themselves agree with their new weights."""
    groups = {
        layer.operands[1].name: layer.attributes.groups
        for layer in network.layers
        if isinstance(layer.attributes, ConvAttributes | DeformConvAttributes)
    }
    for path, part in module.named_modules():
        weight = getattr(part, "weight", None)
        if isinstance(part, nn.modules.batchnorm._NormBase):
            found = [t for t in (weight, part.running_mean) if t is not None]
            part.num_features = len(found[0]) if found else part.num_features
        from_input = getattr(part, "weight_ih_l0", None)
        if isinstance(part, nn.RNNBase) and isinstance(
            from_input, Tensor
        ):  # its states are never cut, its input may be
            part.input_size = from_input.shape[1]
        if not isinstance(weight, Tensor):
            continue
        if isinstance(part, DeformConv2d):
            part.groups = groups.get(f"{path}.weight" if path else "weight", part.groups)
            part.in_channels, part.out_channels = weight.shape[1] * part.groups, weight.shape[0]
        elif isinstance(part, nn.modules.conv._ConvNd):
            part.groups = groups.get(f"{path}.weight" if path else "weight", part.groups)
            first, second = weight.shape[0], weight.shape[1] * part.groups
            part.in_channels, part.out_channels = (first, second) if part.transposed else (second, first)
        elif isinstance(part, nn.Linear):
            part.out_features, part.in_features = weight.shape
        elif isinstance(part, nn.Embedding):
            part.embedding_dim = weight.shape[1]


def _check(before: nn.Module, made: nn.Module, pruned: Network, example_inputs: Sequence[Tensor] | None) -> None:
    name = type(before).__name__
    inputs = tuple(example_inputs) if example_inputs is not None else _random_inputs(pruned)
    with torch.no_grad():
        expected = Executor(pruned).run(inputs)
        try:
            result = made(*inputs)
        except (RuntimeError, ValueError, IndexError, TypeError, AssertionError) as error:
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UnsupportedError(
                f"{name} cannot run with fewer channels: {first}; take sizes from tensors instead of fixed numbers in forward"
            ) from None
    if not same_outputs(output_tensors(result), expected):
        raise UnsupportedError(
            f"{name} computes something else with fewer channels; its forward counts on the old number of channels, take "
            "sizes from tensors instead"
        )


def _random_inputs(network: Network) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    batch = 1 if any(r.type.batch_axis is None for r in network.inputs) else 2
    return tuple(torch.randn(r.type.at(batch), generator=generator) for r in network.inputs)
