"""Turns a traced graph of aten calls into a network.

What depends on parameters and constants only is never a layer: it is folded into the operand that uses it, whose `origin`
recomputes it with gradients. An operator without a handler, or with an argument its handler does not understand, becomes
one opaque layer with its name, shapes, place and reason.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx

from picojoule.sim import attributes as at
from picojoule.sim.attributes import Op
from picojoule.sim.builder import NetworkBuilder
from picojoule.sim.errors import InputError, UnsupportedError
from picojoule.sim.ir import Network, Operand, OperandKind, TensorType
from picojoule.sim.numerics.aten import HANDLERS, IGNORED, SHAPE_ONLY
from picojoule.sim.numerics.aten_quantize import stated_format, with_steps
from picojoule.sim.numerics.torch_calls import Call, RefusedError, arguments_of
from picojoule.sim.numerics.torch_types import (
    BatchError,
    DataError,
    module_path,
    operator_name,
    size_at,
    source_of,
    tensor_type,
    to_numpy,
)
from picojoule.sim.numerics.torch_views import writes_in_place
from picojoule.sim.weights import Weights

Getter = Callable[[], torch.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """A graph of aten calls. Nodes carry `meta["val"]` (fake results), and `meta["types"]` where those hide the batch.

    `held` gives the tensors behind placeholders that are no inputs, `names` their dotted names, `trained` says which of
    them are parameters. `outputs` are the nodes (or plain values) that the module returns, in order. A recorded graph holds
    plain sizes, those of its example, and no write that another view sees.
    """

    graph: fx.Graph
    held: Mapping[str, Getter]
    names: Mapping[str, str]
    trained: frozenset[str]
    outputs: Sequence[Any]
    recorded: bool = False


class Reader:
    """Walks a graph once; `env` maps graph nodes to operands (or lists of them)."""

    def __init__(self, traced: Traced, name: str, weights: str) -> None:
        self.traced = traced
        self.builder = NetworkBuilder(name)
        self.weights = weights
        self.env: dict[fx.Node, Any] = {}
        self.fixed: set[fx.Node] = set()
        self.steps: dict[str, float] = {}
        self._place = {node: i for i, node in enumerate(traced.graph.nodes)}
        self._sources: dict[fx.Node, frozenset[fx.Node]] = {}
        self._types: dict[fx.Node, list[TensorType]] = {}
        self._used: set[str] = set()

    def read(self) -> Network:
        """Return the network of the graph.

        Raises:
            BatchError: if something does not simply repeat with the batch.
            DataError: if something depends on the data.
            UnsupportedError: for a write into memory that is read through another view.

        """
        if not self.traced.recorded:
            self._check_writes()
        checks = _checks_only(self.traced.graph)
        for node in self.traced.graph.nodes:
            if node.op == "placeholder":
                self._placeholder(node)
            elif node.op == "call_function" and node not in checks:
                try:
                    self._call(node)
                except DataError as error:
                    self.env[node] = error  # raised again when somebody reads it
        results = [self.operand(n) for n in self.traced.outputs if _holds_tensor(n)]
        outputs = [r for r in results if r.kind is OperandKind.ACTIVATION]
        if not outputs:
            raise UnsupportedError(
                f"{self.builder.name}: no output depends on the inputs, so there is nothing to price"
            )
        if len(outputs) < len(results):
            self.builder.note(f"{len(results) - len(outputs)} output(s) that depend on no input are left out")
        if self.steps:
            self.builder.layers = with_steps(self.builder.layers, self.steps)
        network = self.builder.finish(outputs, weights=self.weights)
        counted = sum(self.traced_elements(name) for name in self._used)
        return network if counted == network.parameters else replace(network, original_parameters=counted)

    def traced_elements(self, placeholder: str) -> int:
        """Return the number of elements behind a placeholder."""
        return self.traced.held[placeholder]().numel()

    def _check_writes(self) -> None:
        """Refuse a write in place into memory that is read later through another value (a view, a detached copy)."""
        writes = [n for n in self.traced.graph.nodes if writes_in_place(n)]
        if not writes:
            return
        memory = {node: _memory(node) for node in self._place}
        for node in self._place:  # these hand their argument on in evaluation, so their result shares its memory
            if node.op == "call_function" and operator_name(node.target) in IGNORED and _is_node(node.args[:1]):
                memory[node] = memory[node.args[0]]
        for write in writes:
            same = [
                n
                for n, m in memory.items()
                if m is not None and m == memory.get(write.args[0]) and self._place[n] < self._place[write]
            ]
            late = [n for n in same if n is not write.args[0]]
            if any(self._place[u] > self._place[write] for n in late for u in n.users):
                raise AliasError(
                    f"{self.builder.name}: {operator_name(write.target)} at {source_of(write, module_path(write))} writes in "
                    "place into a tensor that is read later through another view of it; use the operator without the "
                    "underscore"
                )

    # --- values -----------------------------------------------------------------------------------------------------

    def _placeholder(self, node: fx.Node) -> None:
        if node.name in self.traced.held:
            self.fixed.add(node)
            self._sources[node] = frozenset((node,))
        elif isinstance(node.meta.get("val"), torch.Tensor):
            self.env[node] = self.builder.input(node.name, self.type_of(node))

    def types_of(self, node: fx.Node) -> list[TensorType]:
        """Return the types of a node's results: sizes for one sample and the axis that grows with the batch."""
        if node not in self._types:
            value = node.meta["val"]
            made = node.meta.get("types")
            several = value if isinstance(value, list | tuple) else [value]
            self._types[node] = made or [tensor_type(v) for v in several if isinstance(v, torch.Tensor)]
        return self._types[node]

    def type_of(self, node: fx.Node) -> TensorType:
        """Return the type of a node's single result."""
        return self.types_of(node)[0]

    def operand(self, node: Any) -> Operand:
        """Return the operand for a node or a Python number."""
        if isinstance(node, fx.Node) and node in self.env:
            found = self.env[node]
            if isinstance(found, DataError):
                raise found
            if not isinstance(found, Operand):
                raise RefusedError(f"it reads '{node.name}', which is not computed here")
            return found
        if isinstance(node, fx.Node) and _holds_tensor(node):
            return self._fixed_operand(node)
        value = node.meta.get("val") if isinstance(node, fx.Node) else node
        one = size_at(value)
        if one != size_at(value, 2) and one == one:  # a NaN is no batch
            raise BatchError(f"a number in the network, {value}, grows with the batch")
        if not isinstance(one, bool | int | float):
            raise RefusedError(f"an operand that is {type(one).__name__}")
        return self.constant(f"{one}", lambda: torch.tensor(one))

    def constant(self, name: str, make: Getter) -> Operand:
        """Return an operand for a fixed tensor."""

        def held() -> torch.Tensor:
            with torch.device("cpu"):  # also where the user builds everything else on the meta device
                return make()

        shape = tuple(held().shape)
        handle = Weights(shape=shape, load=lambda: to_numpy(held()), origin=held, note="constant")
        return Operand(kind=OperandKind.CONSTANT, name=name, type=TensorType(shape=handle.shape), weights=handle)

    def derived(
        self, parts: Sequence[Operand], name: str, change: Callable[[Sequence[torch.Tensor]], torch.Tensor]
    ) -> Operand:
        """Return an operand computed from parameters and constants; a format and a step of the whole tensor stay."""
        kind = OperandKind.PARAMETER if any(p.kind is OperandKind.PARAMETER for p in parts) else OperandKind.CONSTANT
        shape = tuple(change([torch.empty(p.shape, device="meta") for p in parts]).shape)
        origins = [p.weights.origin for p in parts if p.weights is not None and p.weights.origin is not None]
        handle = None
        if len(origins) == len(parts):

            def origin() -> torch.Tensor:
                return change([get() for get in origins])

            handle = Weights(shape=shape, load=lambda: to_numpy(origin()), origin=origin, note=_note(kind))
        first = parts[0]
        whole = len(parts) == 1 and (first.step is None or len(first.step) == 1)
        return Operand(
            kind=kind,
            name=name,
            type=TensorType(shape=shape),
            weights=handle,
            format=first.format if len(parts) == 1 else None,
            step=first.step if whole else None,
        )

    def _fixed_operand(self, node: fx.Node) -> Operand:
        """Return the operand for something that depends on parameters and constants only."""
        grows = self.type_of(node)
        origin, sources = self.origin(node), sorted(self._sources[node], key=lambda n: n.name)
        trained = [s.name for s in sources if s.name in self.traced.trained]
        self._used.update(trained)
        kind = OperandKind.PARAMETER if trained else OperandKind.CONSTANT
        name = self.traced.names.get(node.name) or self._folded_name(node, trained)
        described = node.meta["val"].is_meta and not self.traced.recorded
        on_meta = described or any(self.traced.held[s.name]().is_meta for s in sources)
        if grows.batch_axis is not None and self.traced.recorded:  # recorded with several samples, all alike
            origin = _first_sample(origin, grows)
        handle = None if on_meta else Weights(shape=grows.shape, load=lambda: to_numpy(origin()), origin=origin)
        form, step = stated_format(self, node)
        made = Operand(kind=kind, name=name, type=TensorType(shape=grows.shape), weights=handle, format=form, step=step)
        if grows.batch_axis is not None:  # made for the batch, such as an initial state of zeros
            if not self.traced.recorded:
                self._check_repeats(node, grows.batch_axis, on_meta)
            made = self._repeated(node, made, grows)
        self.env[node] = made
        return made

    def _repeated(self, node: fx.Node, one: Operand, kind: TensorType) -> Operand:
        """Return a value for one sample repeated for each."""
        axis, shape = kind.batch_axis or 0, kind.shape
        source = source_of(node, module_path(node))

        def add(op: Op, operand: Operand, attributes: at.Attributes, made: TensorType) -> Operand:
            return self.builder.add(op, [operand], attributes, name=node.name, source=source, types=[made])[0]

        if shape[axis] == 1:
            return add(Op.EXPAND, one, at.ExpandAttributes(), kind)
        wide = TensorType(shape=(*shape[:axis], 1, *shape[axis:]), batch_axis=axis)
        thin = self.derived([one], f"{one.name}.sample", lambda values: values[0].unsqueeze(axis))
        return add(Op.RESHAPE, add(Op.EXPAND, thin, at.ExpandAttributes(), wide), at.ReshapeAttributes(), kind)

    def _check_repeats(self, node: fx.Node, axis: int, on_meta: bool) -> None:
        """Refuse a fixed value whose samples differ, such as a range over the batch."""
        if on_meta:
            needed = (operator_name(n.target) for n in self._needed(node) if n.op == "call_function")
            same = self.type_of(node).shape[axis] == 1 and not any(name in _DIFFERS for name in needed)
        else:
            one, three = self.evaluate(node, 1), self.evaluate(node, 3)
            same = torch.cat([one] * 3, axis).equal(three)
        if not same:
            raise BatchError(f"'{node.name}' at {source_of(node, module_path(node))} is made for the batch as a whole")

    def _folded_name(self, node: fx.Node, trained: Sequence[str]) -> str:
        """Return a name such as `conv1.weight` for a computed parameter: its user's module and its part there."""
        for user in node.users:
            path = module_path(user)
            if path and user.op == "call_function":
                part = next((k for k, v in arguments_of(user).items() if v is node), "")
                leaf = {"weight": "weight", "mat2": "weight", "bias": "bias"}.get(part, node.name)
                return f"{path}.{leaf}"
        return f"{self.traced.names[trained[0]]}.{node.name}" if trained else node.name

    def origin(self, node: fx.Node) -> Getter:
        """Return a function that computes a fixed node anew, with gradients."""
        if node.op == "placeholder":
            return self.traced.held[node.name]
        return lambda: self.evaluate(node)

    def known_value(self, node: fx.Node) -> torch.Tensor | None:
        """Return a fixed node's values for one sample; None where it depends on an input or lies on the meta device."""
        if node not in self.fixed:
            return None
        value = self.origin(node)().detach()
        return None if value.is_meta else value

    def is_constant(self, node: fx.Node) -> bool:
        """Whether a fixed node depends on no parameter."""
        return not any(s.name in self.traced.trained for s in self._sources[node])

    def _needed(self, node: fx.Node) -> list[fx.Node]:
        """Return a fixed node and what it is computed from, in order."""
        found, stack = {node}, [node]
        while stack:
            for n in stack.pop().all_input_nodes:
                if n in self.fixed and n not in found:  # sizes, and tensors that only lend their shape, end the search
                    found.add(n)
                    stack.append(n)
        return sorted(found, key=self._place.__getitem__)

    def evaluate(self, node: fx.Node, batch: int = 1) -> torch.Tensor:
        """Compute a fixed node for a number of samples."""
        values: dict[fx.Node, Any] = {}

        def value_of(n: fx.Node) -> Any:
            if n in values:
                return values[n]
            held = n.meta.get("val")
            if not isinstance(held, torch.Tensor):
                return size_at(held, batch)
            kind = self.type_of(n)
            return torch.zeros((), dtype=held.dtype).expand(kind.at(batch))  # lends its shape only

        for current in self._needed(node):
            if current.op == "placeholder":
                values[current] = self.traced.held[current.name]()
                continue
            args = fx.node.map_arg(current.args, value_of)
            name = operator_name(current.target)
            if writes_in_place(current) and isinstance(args[0], torch.Tensor):
                args = (args[0].clone(), *args[1:])  # never write into the user's own buffers
            made = current.target(*args, **fx.node.map_arg(current.kwargs, value_of))  # type: ignore[operator]
            values[current] = made.zero_() if name in ("empty", "new_empty", "empty_like") else made
        result = values[node]
        assert isinstance(result, torch.Tensor)
        return result

    def _is_fixed(self, node: fx.Node) -> bool:
        if operator_name(node.target) in SHAPE_ONLY:
            return True
        tensors = [n for n in node.all_input_nodes if _holds_tensor(n) or isinstance(n.meta.get("val"), list | tuple)]
        if any(n not in self.fixed for n in tensors):
            return False
        for n in node.all_input_nodes:
            if n not in self.fixed:
                size_at(n.meta.get("val"))  # a number read from the data is no constant: this says so
        return True

    # --- layers -----------------------------------------------------------------------------------------------------

    def _call(self, node: fx.Node) -> None:
        value = node.meta.get("val")
        if getattr(node.target, "__name__", "") == "getitem" and node.args[0] in self.env:
            pieces = self.env[node.args[0]]  # type: ignore[index]
            self.env[node] = pieces if isinstance(pieces, DataError) else pieces[node.args[1]]
            return
        if not isinstance(value, torch.Tensor | list | tuple):
            return  # sizes and assertions: types carry them
        name = operator_name(node.target)
        random = torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())
        if self._is_fixed(node) and not (random and name not in IGNORED):
            self.fixed.add(node)
            inputs = [] if name in SHAPE_ONLY else [n for n in node.all_input_nodes if n in self._sources]
            self._sources[node] = frozenset().union(*(self._sources[n] for n in inputs))
            return
        if name in IGNORED:
            if name.endswith("dropout") and len(node.args) > 2 and node.args[2]:
                self.builder.note(f"dropout at {source_of(node, module_path(node))} stays on in evaluation: left out")
            self.env[node] = self.operand(node.args[0])
            return
        self.env[node] = self._layers(Call(self, node, name))
        if writes_in_place(node) and isinstance(node.args[0], fx.Node):
            self.env[node.args[0]] = self.env[node]  # in-place: later readers of the argument see the result

    def _layers(self, call: Call) -> Any:
        """Return what a call makes: by its handler, or one opaque layer where there is none or it refuses."""
        handler = HANDLERS.get(call.name)
        before = len(self.builder.layers)
        if handler is None:
            branches = isinstance(call.node.target, torch._ops.HigherOrderOperator)
            return self._opaque(call, "a branch or loop on the data" if branches else "no such operator here")
        try:
            made = handler(call)
            unread = call.unread()
            missing = [i for i, m in enumerate(made) if m is None and call.used(i)] if isinstance(made, list) else []
            if not unread and not missing:
                return made
            reason = f"its argument {unread} is not understood" if unread else f"its result {missing[0]} is not known"
        except (BatchError, DataError):
            raise
        except RefusedError as error:
            reason = str(error)
        except InputError as error:
            reason = str(error).rpartition("): ")[2]
        except Exception as error:  # a handler met arguments it was not written for
            reason = f"unusual arguments ({type(error).__name__}: {(str(error).splitlines() or [''])[0]})"
        self.builder.discard(before)  # what the handler made would leave something out
        return self._opaque(call, reason)

    def _opaque(self, call: Call, reason: str) -> Any:
        value = call.node.meta["val"]
        operands = [self.operand(n) for n in call.node.all_input_nodes if _holds_tensor(n)]
        several = isinstance(value, list | tuple)
        made = self.builder.opaque(
            call.name, operands, call.types, name=call.layer_name, source=call.source, reason=reason
        )
        if not several:
            return made[0]
        left = iter(made)
        return [next(left) if isinstance(v, torch.Tensor) else None for v in value]


class AliasError(UnsupportedError):
    """A write in place that is seen through another view; decomposing the program resolves most of them."""


_DIFFERS = frozenset(
    {"arange", "linspace", "eye", "cumsum", "tril_indices", "triu_indices", "logspace", "rand", "randn"}
)


def _note(kind: OperandKind) -> str:
    return "file" if kind is OperandKind.PARAMETER else "constant"


def _first_sample(origin: Getter, kind: TensorType) -> Getter:
    axis = kind.batch_axis or 0
    return lambda: origin().narrow(axis, 0, kind.shape[axis])


_CHECKS = frozenset({"_assert_scalar", "_assert_async", "_assert_tensor_metadata", "sym_constrain_range_for_size"})
_CHECKS |= {
    "sym_constrain_range",
    "_local_scalar_dense",
    "item",
    "_functional_assert_scalar",
    "_functional_assert_async",
}


def _checks_only(graph: fx.Graph) -> set[fx.Node]:
    """Return the calls that serve torch's own run-time checks of sizes and values, and nothing else."""
    found: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        if node.op != "call_function":
            continue
        alone = not node.users and (operator_name(node.target) in _CHECKS or not _is_value(node.meta.get("val")))
        if alone or (node.users and all(u in found for u in node.users)):
            found.add(node)
    return found


def _is_value(value: Any) -> bool:
    return isinstance(value, torch.Tensor | list | tuple)


def _is_node(args: Sequence[Any]) -> bool:
    return bool(args) and isinstance(args[0], fx.Node)


def _holds_tensor(node: Any) -> bool:
    return isinstance(node, fx.Node) and isinstance(node.meta.get("val"), torch.Tensor)


def _memory(node: fx.Node) -> Any:
    """Return what tells one tensor's memory from another's."""
    value = node.meta.get("val")
    return value.untyped_storage()._cdata if isinstance(value, torch.Tensor) else None
