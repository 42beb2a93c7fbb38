"""One call in an exported graph: its arguments by name, its names for people, its result types."""

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import fx

from picojoule.sim import attributes as at
from picojoule.sim.attributes import Op
from picojoule.sim.errors import UnsupportedError
from picojoule.sim.ir import Operand, TensorType

if TYPE_CHECKING:
    from picojoule.sim.numerics.torch_importer import Reader


class Call:
    """One call in the exported graph, with its arguments by name."""

    def __init__(self, reader: "Reader", node: fx.Node, name: str) -> None:
        self.reader = reader
        self.node = node
        self.name = name
        self.arguments = arguments_of(node)
        self._read: set[str] = set()
        path, leaf = module_path(node), is_leaf(node)
        bare = name.split(".")[0].rstrip("_")
        self.layer_name = path if path and leaf else f"{path}.{bare}" if path else bare
        self.source = source_of(node, path)

    def operand(self, key: str) -> Operand:
        """Return the operand of an argument."""
        self._read.add(key)
        return self.reader.operand(self.arguments[key])

    def has(self, key: str) -> bool:
        """Whether an argument is given and not None."""
        self._read.add(key)
        return self.arguments.get(key) is not None

    def unread(self) -> str:
        """Return `name=value` of an argument that matters and that the handler did not look at, or an empty string."""
        schema = getattr(self.node.target, "_schema", None)
        for argument in schema.arguments if schema is not None else ():
            given = self.arguments.get(argument.name)
            plain = argument.default_value if argument.has_default_value() else None
            harmless = given is None or given is False or given == plain or argument.name in _WITHOUT_EFFECT
            if argument.name not in self._read and not harmless:
                return f"{argument.name}={plain_value(given)}"
        return ""

    def operands(self, key: str) -> list[Operand]:
        """Return the operands of a list argument."""
        self._read.add(key)
        return [self.reader.operand(n) for n in self.arguments[key]]

    def value(self, key: str, default: Any = None) -> Any:
        """Return a plain argument, with sizes for one sample."""
        self._read.add(key)
        found = self.arguments.get(key, default)
        return plain_value(default if found is None else found)

    def ints(self, key: str, count: int, default: int | None = None) -> tuple[int, ...]:
        """Return an argument of `count` integers (one number is repeated, an empty list takes the default)."""
        found = self.value(key, default)
        values = [found] if isinstance(found, int) else list(found)
        values = values or [default]
        return tuple(int(v) for v in (values * count if len(values) == 1 else values))

    @property
    def types(self) -> list[TensorType]:
        """The types of the results."""
        value = self.node.meta["val"]
        return [tensor_type(v) for v in value] if isinstance(value, list | tuple) else [tensor_type(value)]

    def add(
        self,
        op: Op,
        operands: Sequence[Operand],
        attributes: at.Attributes,
        *,
        suffix: str = "",
        types: Sequence[TensorType] | None = None,
    ) -> tuple[Operand, ...]:
        """Add a layer for this call; without `types` the result has this call's types."""
        name = f"{self.layer_name}.{suffix}" if suffix else self.layer_name
        return self.reader.builder.add(
            op, operands, attributes, name=name, source=self.source, types=types if types is not None else self.types
        )

    def one(self, op: Op, operands: Sequence[Operand], attributes: at.Attributes) -> Operand:
        """Add a layer with this call's single result."""
        return self.add(op, operands, attributes)[0]

    def inner(self, op: Op, operands: Sequence[Operand], attributes: at.Attributes, suffix: str) -> Operand:
        """Add a layer whose result is an intermediate of this call (its type is inferred)."""
        return self.reader.builder.add(
            op, operands, attributes, name=f"{self.layer_name}.{suffix}", source=self.source
        )[0]

    def constant(self, suffix: str, make: Callable[[], torch.Tensor]) -> Operand:
        """Return an operand for a fixed tensor of this call."""
        return self.reader._constant(f"{self.layer_name}.{suffix}", make)


_WITHOUT_EFFECT = frozenset(
    {"self", "input", "dtype", "device", "layout", "pin_memory", "memory_format", "non_blocking", "copy", "momentum"}
    | {"cudnn_enabled", "cudnn_enable", "train", "p", "dropout_p", "implicit", "size", "shape", "sizes", "output_size"}
    | {"padding_idx", "scale_grad_by_freq", "sparse", "other", "out_features", "start_dim", "end_dim", "dim", "chunks"}
    | {"split_size", "split_sizes", "scalar", "weight", "bias"}
)
"""Arguments that say nothing beyond the result's type in evaluation, or that every handler of theirs reads by another way."""


def flattened(value: Any) -> list[Any]:
    """Return the leaves of nested lists, tuples and dicts."""
    if isinstance(value, list | tuple):
        return [v for item in value for v in flattened(item)]
    return list(value.values()) if isinstance(value, dict) else [value]


def operator_name(target: Any) -> str:
    """Return `conv2d`, `add_`, ... for aten operators and `namespace::name` for others."""
    packet = str(getattr(target, "_schema", target)).split("(")[0]
    namespace, _, rest = packet.partition("::")
    return rest.split(".")[0] if namespace == "aten" else packet


def arguments_of(node: fx.Node) -> dict[str, Any]:
    """Return a call's arguments by name, defaults included."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return {str(i): a for i, a in enumerate(node.args)}
    bound = {a.name: a.default_value for a in schema.arguments if a.has_default_value()}
    bound.update((schema.arguments[i].name, value) for i, value in enumerate(node.args))
    bound.update(node.kwargs)
    return bound


def size_at_one(value: Any) -> Any:
    """Return a symbolic size for a batch of one; plain values as they are."""
    if isinstance(value, torch.SymInt):
        expression = value.node.expr
        return int(expression.subs(dict.fromkeys(expression.free_symbols, 1)))
    return value


def plain_value(value: Any) -> Any:
    """Return a value with sizes for one sample in place of symbols and size nodes."""
    if isinstance(value, fx.Node):
        return size_at_one(value.meta.get("val"))
    if isinstance(value, list | tuple):
        return [plain_value(v) for v in value]
    return size_at_one(value)


def tensor_type(value: Any) -> TensorType:
    """Return the type of a (fake) tensor: sizes for one sample and the axis that grows with the batch.

    Raises:
        UnsupportedError: if several axes grow with the batch.

    """
    shape: list[int] = []
    growing: list[int] = []
    for i, size in enumerate(value.shape):
        one = int(size_at_one(size))
        if isinstance(size, torch.SymInt) and size.node.expr.free_symbols:
            two = int(size.node.expr.subs(dict.fromkeys(size.node.expr.free_symbols, 2)))
            growing += [i] if two != one else []
        shape.append(one)
    if len(growing) > 1:
        raise UnsupportedError(
            f"a value of shape {[str(s) for s in value.shape]} grows with the batch along {len(growing)} axes, so the inputs' "
            "first axis is no batch of independent samples; put the batch first (batch_first=True)"
        )
    return TensorType(shape=tuple(shape), batch_axis=growing[0] if growing else None)


def to_numpy(value: torch.Tensor) -> "np.ndarray[tuple[int, ...], np.dtype[np.generic]]":
    """Return a tensor as an array; bfloat16, which NumPy lacks, as float32."""
    value = value.detach().cpu()
    return (value.float() if value.dtype is torch.bfloat16 else value).numpy()


def tensor_of(module: torch.nn.Module, dotted: str) -> torch.Tensor:
    """Return a module's parameter or buffer by its dotted name."""
    owner, _, leaf = dotted.rpartition(".")
    found = getattr(module.get_submodule(owner), leaf)
    assert isinstance(found, torch.Tensor)
    return found


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


def source_of(node: fx.Node, path: str) -> str:
    """Return the module's path and the user's own line, as reports show them."""
    lines = re.findall(r'File "([^"]+)", line (\d+)', node.meta.get("stack_trace") or "")
    users = [f"{f.rpartition('/')[2]}:{n}" for f, n in lines if "/torch/" not in f]
    return f"{path} ({users[-1]})" if users and path else path or (users[-1] if users else node.name)
