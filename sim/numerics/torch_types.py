"""Sizes, types and names of what torch traced: symbols of the batch become sizes for one sample and a batch axis."""

import re
from typing import Any

import numpy as np
import sympy  # type: ignore[import-untyped]
import torch
from numpy.typing import NDArray
from torch import fx
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

from picojoule.sim.errors import UnsupportedError
from picojoule.sim.ir import TensorType


class BatchError(UnsupportedError):
    """A size or value that does not simply repeat with the batch; another axis, or a fixed batch, may still do."""


class DataError(UnsupportedError):
    """A size or value that depends on the data; only a recording knows it."""


def size_at(value: Any, batch: int = 1) -> Any:
    """Return a symbolic size (or truth) for `batch` samples; plain values as they are.

    Raises:
        DataError: if it depends on the data.

    """
    if not isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool):
        return value
    if free_unbacked_symbols(value):
        raise DataError(f"a size or number, {value}, depends on the data")
    expression = value.node.expr
    number = expression.xreplace(dict.fromkeys(expression.free_symbols, sympy.Integer(batch)))
    return {torch.SymInt: int, torch.SymFloat: float, torch.SymBool: bool}[type(value)](number)


def plain_value(value: Any) -> Any:
    """Return a value with sizes for one sample in place of symbols and size nodes."""
    if isinstance(value, fx.Node):
        return size_at(value.meta.get("val"))
    if isinstance(value, list | tuple):
        return [plain_value(v) for v in value]
    return size_at(value)


def tensor_type(value: Any) -> TensorType:
    """Return the type of a (fake) tensor: sizes for one sample and the axis that grows with the batch.

    Raises:
        BatchError: if several axes grow with the batch, or one grows otherwise than in proportion to it.
        DataError: if a size depends on the data.

    """
    shape: list[int] = []
    growing: list[int] = []
    for i, size in enumerate(value.shape):
        one = int(size_at(size))
        shape.append(one)
        if isinstance(size, int):
            continue
        two, three = int(size_at(size, 2)), int(size_at(size, 3))
        if one == two == three:
            continue
        if (two, three) != (2 * one, 3 * one):
            raise BatchError(
                f"a value of shape {[str(s) for s in value.shape]} does not grow in proportion to the batch"
            )
        growing.append(i)
    if len(growing) > 1:
        raise BatchError(
            f"a value of shape {[str(s) for s in value.shape]} grows with the batch along {len(growing)} axes, so the inputs' "
            "first axis is no batch of independent samples; put the batch first (batch_first=True)"
        )
    return TensorType(shape=tuple(shape), batch_axis=growing[0] if growing else None)


def flattened(value: Any) -> list[Any]:
    """Return the leaves of nested lists, tuples and dicts."""
    if isinstance(value, list | tuple):
        return [v for item in value for v in flattened(item)]
    if isinstance(value, dict):
        return [v for item in value.values() for v in flattened(item)]
    return [value]


def to_numpy(value: torch.Tensor) -> NDArray[np.generic]:
    """Return a tensor as an array; floats that NumPy lacks (bfloat16, 8 bits and less) as float32."""
    value = value.detach().cpu().resolve_conj().resolve_neg()
    lacking = value.dtype.is_floating_point and value.dtype not in (torch.float16, torch.float32, torch.float64)
    return (value.float() if lacking else value).numpy()


def tensor_of(module: torch.nn.Module, dotted: str) -> torch.Tensor:
    """Return a module's parameter or buffer by its dotted name."""
    owner, _, leaf = dotted.rpartition(".")
    found = getattr(module.get_submodule(owner), leaf)
    assert isinstance(found, torch.Tensor)
    return found


# --- names for people ------------------------------------------------------------------------------------------------


def operator_name(target: Any) -> str:
    """Return `conv2d`, `add_`, ... for aten operators and `namespace::name` for others."""
    packet = str(getattr(target, "_schema", target)).split("(")[0]
    namespace, _, rest = packet.partition("::")
    return rest.split(".")[0] if namespace == "aten" else packet.split(".")[0] if rest else packet


def module_stack(node: fx.Node) -> list[tuple[str, Any]]:
    """Return the modules a node was traced in, outermost first, as (path, class)."""
    stack = node.meta.get("nn_module_stack") or {}
    return [entry for entry in stack.values() if "_empty_nn_module_stack" not in entry[0]]


def module_path(node: fx.Node) -> str:
    """Return the path of the innermost module."""
    stack = module_stack(node)
    return re.sub(r"@\d+", "", stack[-1][0]) if stack else ""


_CONTAINERS = ("Sequential", "ModuleList", "MultiheadAttention", "Transformer", "LSTM", "GRU", "RNN")


def is_leaf(node: fx.Node) -> bool:
    """Whether the innermost module is a layer of torch's own, so that its path names the layer."""
    stack = module_stack(node)
    if not stack:
        return False
    kind = str(stack[-1][1])
    return "torch.nn.modules" in kind and not any(word in kind for word in _CONTAINERS)


def user_line(trace: str) -> str:
    """Return `file.py:12`, the innermost line of a stack trace that is not torch's own, or an empty string."""
    lines = re.findall(r'File "([^"]+)", line (\d+)', trace)
    users = [f"{f.rpartition('/')[2]}:{n}" for f, n in lines if "/torch/" not in f and not f.startswith("<")]
    return users[-1] if users else ""


def source_of(node: fx.Node, path: str) -> str:
    """Return the module's path and the user's own line, as reports show them."""
    line = user_line(node.meta.get("stack_trace") or "")
    return f"{path} ({line})" if line and path else path or line or node.name
