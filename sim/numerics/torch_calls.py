"""One call in a traced graph as its handler sees it: arguments by name, names for people, result types, new layers."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import fx

from picojoule.sim import attributes as at
from picojoule.sim.attributes import ElementwiseKind, Op
from picojoule.sim.formats import NumberFormat
from picojoule.sim.ir import Operand, OperandKind, TensorType
from picojoule.sim.numerics.torch_types import BatchError, is_leaf, module_path, plain_value, source_of

if TYPE_CHECKING:
    from picojoule.sim.numerics.torch_reader import Reader


class RefusedError(Exception):
    """A handler cannot express this call; the message says why."""


class Call:
    """One call, with its arguments by name. Every argument a handler reads is remembered: see `unread`."""

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

    # --- arguments --------------------------------------------------------------------------------------------------

    def operand(self, key: str) -> Operand:
        """Return the operand of an argument."""
        self._read.add(key)
        return self.reader.operand(self.arguments[key])

    def has(self, key: str) -> bool:
        """Whether an argument is given and not None."""
        self._read.add(key)
        return self.arguments.get(key) is not None

    def first(self, *keys: str) -> str:
        """Return the first of some argument names that this operator has."""
        return next(k for k in keys if k in self.arguments)

    def seen(self, *keys: str) -> None:
        """Say that arguments are expressed already, by the result's type or by the value that holds them."""
        self._read.update(keys)

    def unread(self) -> str:
        """Return `name=value` of an argument that matters and that the handler did not look at, or an empty string."""
        schema = getattr(self.node.target, "_schema", None)
        for argument in schema.arguments if schema is not None else ():
            given = self.arguments.get(argument.name)
            if argument.name in self._read or argument.name in _WITHOUT_EFFECT or given is None or given is False:
                continue
            plain = argument.default_value if argument.has_default_value() else None
            if isinstance(given, fx.Node) or given != plain:
                return f"{argument.name}={given.name if isinstance(given, fx.Node) else plain_value(given)}"
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

    def axis(self, key: str, rank: int, default: int = 0) -> int:
        """Return an argument that names one of `rank` axes, as a non-negative number."""
        return int(self.value(key, default)) % max(rank, 1)

    def dtype(self, key: str) -> torch.dtype | None:
        """Return the type of a tensor argument's elements; None for a Python number."""
        given = self.arguments.get(key)
        held = given.meta.get("val") if isinstance(given, fx.Node) else None
        return held.dtype if isinstance(held, torch.Tensor) else None

    def kind(self, key: str) -> type:
        """Return bool, int or float: what a tensor or number argument holds."""
        dtype, given = self.dtype(key), self.arguments.get(key)
        if dtype is None:
            return type(plain_value(given))
        return float if dtype.is_floating_point else bool if dtype is torch.bool else int

    def fixed_value(self, key: str) -> torch.Tensor | None:
        """Return the values of an argument that depends on no input; None where it does, or where there are no values."""
        given = self.arguments.get(key)
        return self.reader.known_value(given) if isinstance(given, fx.Node) else None

    # --- results ----------------------------------------------------------------------------------------------------

    @property
    def types(self) -> list[TensorType]:
        """The types of the results."""
        return self.reader.types_of(self.node)

    @property
    def result_dtype(self) -> torch.dtype:
        """The type of the (first) result's elements."""
        value = self.node.meta["val"]
        found = value[0].dtype if isinstance(value, list | tuple) else value.dtype
        assert isinstance(found, torch.dtype)
        return found

    def used(self, index: int) -> bool:
        """Whether anybody reads this of several results."""
        return any(u.args[1] == index and u.users for u in self.node.users if len(u.args) > 1)

    def refuse(self, reason: str) -> NoReturn:
        """Leave this call as an operator that is not understood, for a reason."""
        raise RefusedError(reason)

    # --- layers -----------------------------------------------------------------------------------------------------

    def add(
        self,
        op: Op,
        operands: Sequence[Operand],
        attributes: at.Attributes,
        *,
        suffix: str = "",
        types: Sequence[TensorType] | None = None,
        formats: Sequence[NumberFormat | None] | None = None,
    ) -> tuple[Operand, ...]:
        """Add a layer for this call; without `types` the result has this call's types."""
        name = f"{self.layer_name}.{suffix}" if suffix else self.layer_name
        wanted = types if types is not None else self.types
        return self.reader.builder.add(
            op, operands, attributes, name=name, source=self.source, types=wanted, formats=formats
        )

    def one(self, op: Op, operands: Sequence[Operand], attributes: at.Attributes) -> Operand:
        """Add a layer with this call's single (or first) result."""
        return self.add(op, operands, attributes, types=self.types[:1])[0]

    def inner(self, op: Op, operands: Sequence[Operand], attributes: at.Attributes, suffix: str) -> Operand:
        """Add a layer whose result is an intermediate of this call (its type is inferred).

        Raises:
            BatchError: if that result grows with the batch along several axes.

        """
        if len(_growing(op, operands)) > 1:
            raise BatchError(
                f"{self.name} at {self.source} pairs every sample with every other, so the inputs' first axis is no batch of "
                "independent samples; put the batch first (batch_first=True)"
            )
        return self.reader.builder.add(
            op, operands, attributes, name=f"{self.layer_name}.{suffix}", source=self.source
        )[0]

    def reshaped(self, x: Operand, kind: TensorType, suffix: str) -> Operand:
        """Return x in another shape (x itself where it has it already)."""
        if x.type == kind:
            return x
        return self.add(Op.RESHAPE, [x], at.ReshapeAttributes(), suffix=suffix, types=[kind])[0]

    def elementwise(self, kind: ElementwiseKind, operands: Sequence[Operand], suffix: str) -> Operand:
        """Add element-wise arithmetic as an intermediate."""
        return self.inner(Op.ELEMENTWISE, operands, at.ElementwiseAttributes(kind=kind), suffix)

    def as_float(self, x: Operand, key: str) -> Operand:
        """Return x converted to floating point where the argument holds whole numbers."""
        if self.kind(key) is float or self.dtype(key) is None:
            return x
        cast = at.ElementwiseAttributes(kind=ElementwiseKind.CAST, dtype="float32")
        return self.inner(Op.ELEMENTWISE, [x], cast, f"{key}_as_float")

    def constant(self, suffix: str, make: Callable[[], torch.Tensor]) -> Operand:
        """Return an operand for a fixed tensor of this call."""
        return self.reader.constant(f"{self.layer_name}.{suffix}", make)

    def number(self, suffix: str, value: float) -> Operand:
        """Return an operand for one number of this call."""
        return self.constant(suffix, lambda: torch.tensor(value))

    def derived(self, x: Operand, suffix: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Operand:
        """Return a parameter or constant changed by a function (transposed, reshaped, added up)."""
        assert x.kind is not OperandKind.ACTIVATION
        return self.reader.derived([x], f"{x.name}.{suffix}", lambda values: change(values[0]))


def _growing(op: Op, operands: Sequence[Operand]) -> set[int]:
    """Return the axes, from the end, along which a product or element-wise result grows with the batch."""
    if op not in (Op.MATMUL, Op.ELEMENTWISE):
        return set()
    axes = [None if o.type.batch_axis is None else len(o.shape) - o.type.batch_axis for o in operands]
    if op is Op.MATMUL:  # the axis that is summed over is gone
        axes = [a for i, a in enumerate(axes) if a != 1 + i]
    return {a for a in axes if a is not None}


_WITHOUT_EFFECT = frozenset(
    {"dtype", "device", "layout", "pin_memory", "memory_format", "non_blocking", "copy", "implicit", "generator"}
    | {"momentum", "cudnn_enabled", "cudnn_enable", "padding_idx", "scale_grad_by_freq", "sparse"}
)
"""Arguments that change precision, place or gradients, never the values computed here in float32."""


def arguments_of(node: fx.Node) -> dict[str, Any]:
    """Return a call's arguments by name, defaults included."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return {str(i): a for i, a in enumerate(node.args)}
    bound = {a.name: a.default_value for a in schema.arguments if a.has_default_value()}
    bound.update((schema.arguments[i].name, value) for i, value in enumerate(node.args))
    bound.update(node.kwargs)
    return bound
