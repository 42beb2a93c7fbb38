"""What goes into a module and what comes out of it: named, flattened, and put together again."""

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree

from picojoule.sim.errors import InputError

_CONSTANTS = (bool, int, float, str, type(None), torch.dtype, torch.device)


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a module is called with: `module(*args, **kwargs)`; nested tensors are inputs, other values constants."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    @property
    def tensors(self) -> list[torch.Tensor]:
        """The tensors, in the network's input order."""
        return [v for v in pytree.tree_leaves((self.args, dict(self.kwargs))) if isinstance(v, torch.Tensor)]

    def changed(self, change: Callable[[torch.Tensor], Any]) -> "Inputs":
        """Return the inputs with every tensor replaced."""
        args, kwargs = pytree.tree_map_only(torch.Tensor, change, (self.args, dict(self.kwargs)))
        return Inputs(args, kwargs)

    def call(self, module: torch.nn.Module) -> Any:
        """Return what the module returns for them."""
        return module(*self.args, **self.kwargs)

    def named(self, module: torch.nn.Module) -> dict[str, torch.Tensor]:
        """Return the tensors by the argument they are given as, with their place inside that: `x`, `states_0`."""
        try:
            bound = dict(inspect.signature(module.forward).bind(*self.args, **self.kwargs).arguments)
        except (TypeError, ValueError):
            bound = {"x": self.args, **self.kwargs}
        leaves = pytree.tree_leaves_with_path((self.args, dict(self.kwargs)))
        places = {id(v): [_word(k) for k in p] for p, v in pytree.tree_leaves_with_path(bound)}
        found: dict[str, torch.Tensor] = {}
        for place, value in leaves:
            if isinstance(value, torch.Tensor):
                name = "_".join(places.get(id(value), [_word(k) for k in place[1:]]))
                found[name if name not in found else f"{name}_{len(found)}"] = value
        return found

    def __str__(self) -> str:
        """Return the shapes, as messages show them."""
        return ", ".join(str(list(t.shape)) for t in self.tensors)


def _word(key: Any) -> str:
    return str(getattr(key, "key", getattr(key, "idx", key)))


def inputs_of(example_inputs: Any) -> Inputs:
    """Return example inputs given as one tensor, a sequence of positional ones, or a mapping of keyword ones.

    Raises:
        InputError: for anything that is neither a tensor nor a plain constant.

    """
    if isinstance(example_inputs, torch.Tensor):
        made = Inputs((example_inputs,), {})
    elif isinstance(example_inputs, Mapping):
        made = Inputs((), dict(example_inputs))
    elif isinstance(example_inputs, Sequence) and not isinstance(example_inputs, str):
        made = Inputs(tuple(example_inputs), {})
    else:
        raise InputError(
            "example inputs are a tensor, a sequence of them, or a mapping of argument names to them, got "
            f"{type(example_inputs).__name__}"
        )
    alone = not made.tensors
    for place, value in pytree.tree_leaves_with_path((made.args, dict(made.kwargs))):
        if alone or not isinstance(value, (torch.Tensor, *_CONSTANTS)):
            where = "_".join(_word(k) for k in place[1:])
            raise InputError(f"example input {where} must be a tensor, got {type(value).__name__}")
    if any(t.is_complex() for t in made.tensors):
        raise InputError("example inputs are complex; give real and imaginary part apart")
    return made


def output_leaves(result: Any) -> list[torch.Tensor]:
    """Return the tensors in what a module returns: nested containers, mappings and dataclasses, in order."""
    return list(_leaves(result))


def _leaves(result: Any) -> Iterator[torch.Tensor]:
    if isinstance(result, torch.Tensor):
        yield result
        return
    if isinstance(result, Mapping):
        parts: Any = result.values()
    elif isinstance(result, list | tuple):
        parts = result
    elif dataclasses.is_dataclass(result):
        parts = [getattr(result, f.name) for f in dataclasses.fields(result)]
    else:
        parts = ()
    for part in parts:
        yield from _leaves(part)


def rebuilt(result: Any, values: Iterator[torch.Tensor]) -> Any:
    """Return something of the structure of `result` with other tensors, taken in the order of `output_leaves`."""
    if isinstance(result, torch.Tensor):
        return next(values)
    if isinstance(result, Mapping):
        made = {k: rebuilt(v, values) for k, v in result.items()}
        return type(result)(**made) if type(result) is not dict and all(isinstance(k, str) for k in made) else made
    if isinstance(result, list | tuple):
        parts = [rebuilt(v, values) for v in result]
        return type(result)(*parts) if hasattr(result, "_fields") else type(result)(parts)
    if dataclasses.is_dataclass(result) and not isinstance(result, type):
        return dataclasses.replace(
            result, **{f.name: rebuilt(getattr(result, f.name), values) for f in dataclasses.fields(result)}
        )
    return result
