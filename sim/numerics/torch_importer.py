"""Imports a `torch.nn.Module` through `torch.export`, before decompositions.

The program is exported with a dynamic batch (a sample batch of one is repeated, invisibly). Everything that depends on
parameters only (masks, parametrisations, weight norm) is folded into the operand, whose `origin` recomputes it with
gradients. Left out: data-dependent control flow, which export cannot follow and which is refused with its source line.
"""

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import fx

from picojoule.sim import attributes as at
from picojoule.sim.attributes import Op
from picojoule.sim.builder import NetworkBuilder
from picojoule.sim.errors import InputError, PicojouleError, UnsupportedError
from picojoule.sim.ir import Network, Operand, OperandKind, TensorType
from picojoule.sim.numerics.aten import HANDLERS, IGNORED
from picojoule.sim.numerics.torch_calls import (
    Call,
    flattened,
    module_path,
    operator_name,
    size_at_one,
    source_of,
    tensor_of,
    tensor_type,
    to_numpy,
)
from picojoule.sim.weights import Weights

_MAX_BATCH = 1024


def from_module(
    module: torch.nn.Module,
    example_inputs: Sequence[torch.Tensor] | torch.Tensor,
    *,
    name: str = "",
    weights: str = "module",
) -> Network:
    """Return the network of a module, with weights that stay the module's own.

    Args:
        module: traced in evaluation mode; its mode is restored.
        example_inputs: tensors as for `module(*example_inputs)`; their first axis is the batch.
        name: shown in reports; the class's name when empty.
        weights: where the values come from, as reports say it (`random` for an untrained network).

    Raises:
        InputError: if the inputs do not fit the module.
        UnsupportedError: if the program depends on the data in a way that cannot be exported.

    """
    inputs = _tensors(example_inputs)
    modes = {m: m.training for m in module.modules()}
    fastpath = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # the fused encoder path hides its layers
    module.eval()
    try:
        program, batched = _export(module, inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)
        for m, mode in modes.items():
            m.training = mode
    reader = Reader(lambda key: tensor_of(module, key), program, name or type(module).__name__, weights)
    if not batched:
        reader.builder.note(_FIXED_BATCH)
    return reader.read()


def from_program(program: torch.export.ExportedProgram, *, name: str, weights: str = "file") -> Network:
    """Return the network of an exported program, with the weights it carries."""
    return Reader(lambda key: program.state_dict[key], program, name, weights).read()


_FIXED_BATCH = "exported for one batch: counts are for the batch of its example"


def _tensors(example_inputs: Sequence[torch.Tensor] | torch.Tensor) -> tuple[torch.Tensor, ...]:
    if isinstance(example_inputs, torch.Tensor):
        return (example_inputs,)
    made = tuple(example_inputs)
    for i, value in enumerate(made):
        if not isinstance(value, torch.Tensor):
            raise InputError(f"example input {i} must be a tensor, got {type(value).__name__}")
    return made


def _export(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.export.ExportedProgram, bool]:
    """Export with a dynamic batch, or for one fixed batch where that fails."""
    sizes = {t.shape[0] for t in inputs if t.dim() > 0}
    first_error: Exception | None = None
    if len(sizes) == 1 and inputs:
        repeated = tuple(torch.cat([t, t]) if t.dim() > 0 and t.shape[0] == 1 else t for t in inputs)
        batch = torch.export.Dim("batch", min=1, max=_MAX_BATCH)
        dynamic = tuple({0: batch} if t.dim() > 0 else {} for t in repeated)
        try:
            return _call_export(module, repeated, dynamic), True
        except Exception as error:  # export raises many kinds; the fixed batch is tried before giving up
            first_error = error
    try:
        return _call_export(module, inputs, None), False
    except Exception as error:
        raise _explained(module, inputs, first_error or error) from None


def _call_export(
    module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], dynamic: tuple[Any, ...] | None
) -> torch.export.ExportedProgram:
    with warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore")
        return torch.export.export(module, inputs, dynamic_shapes=dynamic, strict=False)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's own account of a failing export (tracebacks, graphs) off stderr; the error says what matters."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def _explained(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], error: Exception) -> PicojouleError:
    """Say whether the module itself fails on the inputs, or only its export."""
    name = type(module).__name__
    shapes = ", ".join(str(list(t.shape)) for t in inputs)
    try:
        with torch.no_grad():
            module(*inputs)
    except Exception as own:
        text = str(own).splitlines()[0] if str(own) else type(own).__name__
        return InputError(f"{name} fails on inputs of shape {shapes}: {text}; give fitting inputs (--input-shape)")
    text = str(error)
    place = re.findall(r'File "([^"]+)", line (\d+)', text)
    users = [f"{f}:{n}" for f, n in place if "/torch/" not in f]
    first = text.strip().splitlines()[0] if text.strip() else type(error).__name__
    where = f" at {users[-1]}" if users else ""
    return UnsupportedError(
        f"{name} cannot be exported{where}: {first}; rewrite control flow that depends on the data (torch.where), "
        "or export the network to ONNX"
    )


class Reader:
    """Walks an exported graph once; `env` maps graph nodes to operands (or lists of them)."""

    def __init__(
        self,
        lookup: Callable[[str], torch.Tensor],
        program: torch.export.ExportedProgram,
        name: str,
        weights: str,
    ) -> None:
        self.lookup = lookup
        self.program = program
        self.builder = NetworkBuilder(name)
        self.env: dict[fx.Node, Any] = {}
        self.fixed: dict[fx.Node, Callable[[], Any]] = {}
        signature = program.graph_signature
        self.targets = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        self.trained = set(signature.inputs_to_parameters)
        self.weights = weights

    def read(self) -> Network:
        """Return the network of the program."""
        self._check_symbols()
        self._check_writes()
        for node in self.program.graph.nodes:
            if node.op == "placeholder":
                self._placeholder(node)
            elif node.op == "call_function":
                self._call(node)
            elif node.op == "output":
                results = [self.operand(n) for n in flattened(node.args[0]) if isinstance(n, fx.Node)]
                return self.builder.finish(
                    [r for r in results if r.kind is OperandKind.ACTIVATION], weights=self.weights
                )
        raise UnsupportedError(f"{self.builder.name}: the exported program has no output")

    def _check_symbols(self) -> None:
        """Refuse a program in which more than the batch is left open: its sizes would have to be guessed."""
        for node in self.program.graph.nodes:
            value = node.meta.get("val")
            if node.op != "placeholder" or node.name in self.targets or not isinstance(value, torch.Tensor):
                continue
            for axis, size in enumerate(value.shape):
                if axis > 0 and isinstance(size, torch.SymInt) and size.node.expr.free_symbols:
                    raise InputError(
                        f"{self.builder.name}: input '{node.name}' leaves axis {axis} open; only the batch (axis 0) may be open: "
                        "export with fixed sizes"
                    )

    def _check_writes(self) -> None:
        """Refuse a write in place into memory that is read later through another value (a view, a detached copy)."""
        nodes = list(self.program.graph.nodes)
        place = {node: i for i, node in enumerate(nodes)}
        memory: dict[fx.Node, int] = {}
        for node in nodes:
            value = node.meta.get("val")
            if (
                node.op == "call_function"
                and operator_name(node.target) in IGNORED
                and isinstance(node.args[0], fx.Node)
            ):
                memory[node] = memory.get(node.args[0], -1 - place[node])  # hands its argument on in evaluation
            elif isinstance(value, torch.Tensor):
                memory[node] = value.untyped_storage()._cdata
        for write in nodes:
            name = operator_name(write.target) if write.op == "call_function" else ""
            if not name.endswith("_") or name.startswith("_") or not isinstance(write.args[0], fx.Node):
                continue
            same = [n for n in nodes if memory.get(n) == memory.get(write.args[0]) and place[n] < place[write]]
            late = [n for n in same if n is not write.args[0] and any(place[u] > place[write] for u in n.users)]
            if late:
                raise UnsupportedError(
                    f"{self.builder.name}: {name} at {source_of(write, module_path(write))} writes in place into a tensor that "
                    "is read later through another view of it; use the operator without the underscore"
                )

    # --- values -----------------------------------------------------------------------------------------------------

    def _placeholder(self, node: fx.Node) -> None:
        target = self.targets.get(node.name)
        if target is None:
            if isinstance(node.meta.get("val"), torch.Tensor):
                self.env[node] = self.builder.input(node.name, self.type_of(node))
            return
        if target in self.program.constants:
            held = self.program.constants[target]
            self.fixed[node] = lambda: held
        else:
            self.fixed[node] = lambda: self.lookup(target)

    def type_of(self, node: fx.Node) -> TensorType:
        """Return a node's type: sizes for one sample and the axis that grows with the batch."""
        return tensor_type(node.meta["val"])

    def operand(self, node: Any) -> Operand:
        """Return the operand for a node or a Python number."""
        if isinstance(node, fx.Node):
            if node in self.env:
                found = self.env[node]
                assert isinstance(found, Operand)
                return found
            return self._fixed_operand(node)
        return self._constant(f"{node}", lambda: torch.tensor(node))

    def _constant(self, name: str, make: Callable[[], torch.Tensor]) -> Operand:
        value = make()
        handle = Weights(shape=tuple(value.shape), load=lambda: make().detach().numpy(), origin=make, note="constant")
        return Operand(kind=OperandKind.CONSTANT, name=name, type=TensorType(shape=handle.shape), weights=handle)

    def _fixed_operand(self, node: fx.Node) -> Operand:
        """Return the operand for something that depends on parameters and constants only."""
        value, origin = node.meta["val"], self.origin(node)
        sources = self._sources(node)
        trained = any(s.name in self.trained for s in sources)
        kind = OperandKind.PARAMETER if trained else OperandKind.CONSTANT
        name = self.targets.get(node.name) or self._folded_name(node, sources)
        shape = tensor_type(value).shape
        on_meta = any(self.fixed[s]().is_meta for s in sources)
        handle = None if on_meta else Weights(shape=shape, load=lambda: to_numpy(origin()), origin=origin)
        made = Operand(kind=kind, name=name, type=TensorType(shape=shape), weights=handle)
        grows = tensor_type(value)
        if grows.batch_axis is not None:  # made for the batch, such as an initial state of zeros
            (made,) = self.builder.add(Op.EXPAND, [made], at.ExpandAttributes(), name=f"{node.name}", types=[grows])
        self.env[node] = made
        return made

    def _folded_name(self, node: fx.Node, sources: Sequence[fx.Node]) -> str:
        """Return a name such as `conv1.weight` for a computed parameter: its user's module and its original's leaf."""
        for user in node.users:
            path = module_path(user)
            if path:
                position = [i for i, a in enumerate(user.args) if a is node]
                leaf = {1: "weight", 2: "bias"}.get(position[0] if position else 0, node.name)
                return f"{path}.{leaf}"
        trained = [self.targets[s.name] for s in sources if s.name in self.trained]
        return f"{trained[0]}.{node.name}" if trained else node.name

    def _sources(self, node: fx.Node) -> list[fx.Node]:
        """Return the placeholders a fixed node is computed from."""
        found, stack, seen = [], [node], set()
        while stack:
            current = stack.pop()
            if current in seen:
                continue
            seen.add(current)
            if current.op == "placeholder" and current in self.fixed:
                found.append(current)
            # Sizes of the input may reach it (a state of zeros made for the batch); they are no source of values.
            stack.extend(n for n in current.all_input_nodes if isinstance(n.meta.get("val"), torch.Tensor))
        return sorted(found, key=lambda n: n.name)

    def origin(self, node: fx.Node) -> Callable[[], torch.Tensor]:
        """Return a function that computes a fixed node anew, with gradients."""

        def compute(current: Any) -> Any:
            if not isinstance(current, fx.Node):
                return current
            if current.op == "placeholder":
                return self.fixed[current]()
            value = current.meta.get("val")
            if isinstance(value, torch.SymInt | int | float | bool):
                return size_at_one(value)
            args = fx.node.map_arg(current.args, compute)
            if operator_name(current.target).endswith("_") and args and isinstance(args[0], torch.Tensor):
                args = (args[0].clone(), *args[1:])  # never write into the user's own buffers
            kwargs = fx.node.map_arg(current.kwargs, compute)
            assert callable(current.target)
            return current.target(*args, **kwargs)

        def run() -> torch.Tensor:
            result = compute(node)
            assert isinstance(result, torch.Tensor)
            return result

        return run

    def _is_fixed(self, node: fx.Node) -> bool:
        return all(n in self.fixed or self._known_fixed(n) for n in node.all_input_nodes)

    def _known_fixed(self, node: fx.Node) -> bool:
        return node not in self.env and not isinstance(node.meta.get("val"), torch.Tensor | list | tuple)

    # --- layers -----------------------------------------------------------------------------------------------------

    def _call(self, node: fx.Node) -> None:
        value = node.meta.get("val")
        target = node.target
        if (
            getattr(target, "__name__", "") == "getitem"
            and isinstance(node.args[0], fx.Node)
            and node.args[0] in self.env
        ):
            self.env[node] = self.env[node.args[0]][node.args[1]]
            return
        if not isinstance(value, torch.Tensor | list | tuple):
            return  # sizes and assertions: types carry them
        if self._is_fixed(node):
            self.fixed[node] = self.origin(node)
            return
        name = operator_name(target)
        if name in IGNORED:
            self.env[node] = self.operand(node.args[0])
            return
        handler = HANDLERS.get(name)
        call = Call(self, node, name)
        before = len(self.builder.layers)
        self.env[node] = handler(call) if handler else self._opaque(call, value)
        refused = len(self.builder.layers) > before and self.builder.layers[-1].op is Op.OPAQUE
        if unread := call.unread() if handler and not refused else "":
            del self.builder.layers[before:]  # what the handler made leaves that argument out
            self.env[node] = self._opaque(call, value, f"its argument {unread} is not understood")
        if name.endswith("_") and not name.startswith("_") and isinstance(node.args[0], fx.Node):
            self.env[node.args[0]] = self.env[node]  # in-place: later readers of the argument see the result

    def _opaque(self, call: "Call", value: Any, reason: str = "no such operator here") -> Any:
        operands = [self.operand(n) for n in call.node.all_input_nodes if isinstance(n.meta.get("val"), torch.Tensor)]
        several = isinstance(value, list | tuple)
        types = [tensor_type(v) for v in (value if several else [value]) if isinstance(v, torch.Tensor)]
        made = self.builder.opaque(call.name, operands, types, name=call.layer_name, source=call.source, reason=reason)
        return list(made) if several else made[0]
