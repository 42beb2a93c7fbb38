"""Records what a module really computes on its example inputs, where `torch.export` cannot follow it.

Every aten call is written down with its shapes, its module and its source line; recurrent layers, attention, linear layers and
convolutions stay whole. Recordings with two and three samples tell which axes grow with the batch; where they take
another path, the batch is fixed. What is lost: branches that the example does not take, and numbers read out of tensors
(`.item()`), which keep the example's values. The network's notes say so.
"""

import logging
import operator
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx
from torch._decomp import decomposition_table
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from picojoule.sim.ir import TensorType
from picojoule.sim.numerics.aten import HANDLERS, IGNORED, SHAPE_ONLY
from picojoule.sim.numerics.torch_reader import Traced
from picojoule.sim.numerics.torch_structure import Inputs, output_leaves
from picojoule.sim.numerics.torch_types import operator_name, tensor_of
from picojoule.sim.numerics.torch_views import resolve_writes

_aten = torch.ops.aten
_reference: Any = StorageWeakRef
_UNDERSTOOD = frozenset(HANDLERS) | IGNORED | SHAPE_ONLY
_WHOLE: Mapping[str, Any] = {
    "linear": _aten.linear.default,
    "lstm": _aten.lstm.input,
    "gru": _aten.gru.input,
    "rnn_tanh": _aten.rnn_tanh.input,
    "rnn_relu": _aten.rnn_relu.input,
    "scaled_dot_product_attention": _aten.scaled_dot_product_attention.default,
    "conv1d": _aten.conv1d.default,
    "conv2d": _aten.conv2d.default,
    "conv3d": _aten.conv3d.default,
    "conv_transpose1d": _aten.conv_transpose1d.default,
    "conv_transpose2d": _aten.conv_transpose2d.input,
    "conv_transpose3d": _aten.conv_transpose3d.input,
}
"""Functions that are written down as one operator, by their name in torch."""
_LEAVING = frozenset({"numpy", "tolist", "__array__", "__dlpack__", "data_ptr"})
"""Ways out of torch: what comes back from there is a constant to a recording."""


@dataclass
class _Tape:
    """One recording while it is being made."""

    module: torch.nn.Module
    graph: fx.Graph = field(default_factory=fx.Graph)
    held: dict[str, torch.Tensor] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    trained: set[str] = field(default_factory=set)
    decisions: dict[str, None] = field(default_factory=dict)
    read: list[Any] = field(default_factory=list)
    stack: list[tuple[str, str]] = field(default_factory=list)
    dependent: set[fx.Node] = field(default_factory=set)
    outputs: list[Any] = field(default_factory=list)
    paused: bool = False

    def __post_init__(self) -> None:
        self.nodes: Any = WeakTensorKeyDictionary()
        self._storages: list[Any] = []  # kept, so that a freed address does not come to mean another memory
        self._own = {id(t): (n, True) for n, t in self.module.named_parameters(remove_duplicate=False)}
        self._own |= {id(t): (n, False) for n, t in self.module.named_buffers(remove_duplicate=False)}

    def note_value(self, node: fx.Node, value: Any) -> None:
        """Keep a result's description; the tensor itself only where it depends on no input."""
        several = isinstance(value, list | tuple)
        node.meta["val"] = [_described(v) for v in value] if several else _described(value)
        if isinstance(value, torch.Tensor):
            reference = _reference(value.untyped_storage())
            self._storages.append(reference)
            node.meta["memory"] = reference.cdata
            self.nodes[value] = node
            if node not in self.dependent:
                node.meta["value"] = value.detach().clone()

    def describe(self, node: fx.Node, cause: fx.Node) -> None:
        """Say of a node made afterwards whether it depends on an input; where it does not, keep its values."""
        if any(n in self.dependent for n in node.all_input_nodes):
            self.dependent.add(node)
        elif isinstance(node.meta["val"], torch.Tensor) and all("value" in n.meta for n in node.all_input_nodes):
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: n.meta["value"])
            node.meta["value"] = node.target(*args, **kwargs)  # type: ignore[operator]

    def placeholder(self, name: str, value: torch.Tensor, *, is_input: bool) -> fx.Node:
        node = self.graph.placeholder(name)
        if is_input:
            self.dependent.add(node)
        else:
            self.held[node.name] = value
        self.note_value(node, value)
        return node

    def node_of(self, value: torch.Tensor) -> fx.Node:
        """Return the node of a tensor; one nobody has seen yet is a parameter, a buffer or a constant."""
        if value not in self.nodes:
            name, is_parameter = self._own.get(id(value), ("", False))
            node = self.placeholder(f"held_{len(self.held)}", value, is_input=False)
            if name:
                self.names[node.name] = name
            if is_parameter:
                self.trained.add(node.name)
        found: fx.Node = self.nodes[value]
        return found

    def _decides(self, target: Any, args: Sequence[Any]) -> bool:
        """Whether a call that depends on an input gives a number, or a shape, that depends on its values."""
        tags = getattr(target, "tags", ())
        if operator_name(target) == "index":  # only a computed mask makes its shape depend on values
            return any(n in self.dependent and n.meta["val"].dtype is torch.bool for n in args[1] if n is not None)
        return torch.Tag.data_dependent_output in tags or torch.Tag.dynamic_output_shape in tags

    def depends_on_input(self, arguments: Any) -> bool:
        """Whether some tensor among a call's arguments was computed from an input."""
        tensors = [t for t in pytree.tree_leaves(arguments) if isinstance(t, torch.Tensor)]
        return any(t in self.nodes and self.nodes[t] in self.dependent for t in tensors)

    def left(self, value: torch.Tensor) -> None:
        """Note that computed values leave torch at this line."""
        self.decisions.setdefault(_user_line())
        self.read.append(tuple(value.shape))

    def call(self, target: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> None:
        """Write one call down."""
        place = pytree.tree_map_only(torch.Tensor, self.node_of, (tuple(args), dict(kwargs)))
        tensors = [n for n in pytree.tree_leaves(place) if isinstance(n, fx.Node)]
        depends = any(n in self.dependent for n in tensors)
        if depends and self._decides(target, place[0]):
            self.decisions.setdefault(_user_line())
            self.read.append(None if isinstance(result, torch.Tensor) else result)
        leaves = [v for v in pytree.tree_leaves(result) if isinstance(v, torch.Tensor)]
        if not leaves:
            return
        node = self.graph.call_function(target, place[0], place[1])
        node.meta["nn_module_stack"] = {str(i): entry for i, entry in enumerate(self.stack)}
        node.meta["stack_trace"] = _user_frame()
        if depends:
            self.dependent.add(node)
        self.note_value(node, result)
        if isinstance(result, list | tuple):
            for i, value in enumerate(result):
                if isinstance(value, torch.Tensor):
                    item = self.graph.call_function(operator.getitem, (node, i))
                    item.meta.update({k: v for k, v in node.meta.items() if k != "val"})
                    if depends:
                        self.dependent.add(item)
                    self.note_value(item, value)


def _described(value: Any) -> Any:
    """Return a tensor without its values."""
    if not isinstance(value, torch.Tensor):
        return value
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")


class _Calls(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, tape: _Tape) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tape = tape

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        rule = decomposition_table.get(func) if operator_name(func) not in _UNDERSTOOD else None
        if rule is not None and not self.tape.paused and self.tape.depends_on_input((args, kwargs)):
            with self:  # an operator nobody knows is written down as what torch says it consists of
                result = rule(*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs)
        if not self.tape.paused:
            self.tape.call(func, args, kwargs, result)
        return result


class _Functions(TorchFunctionMode):
    def __init__(self, tape: _Tape) -> None:
        super().__init__()
        self.tape = tape

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in _LEAVING and args and self.tape.depends_on_input(args[0]):
            self.tape.left(args[0])
        target = _WHOLE.get(getattr(func, "__name__", "")) if not hasattr(func, "__code__") else None
        if target is None or self.tape.paused or not _fits(target, args, kwargs):
            return func(*args, **kwargs)
        self.tape.paused = True
        try:
            result = func(*args, **kwargs)
            self.tape.call(target, args, kwargs, result)
        finally:
            self.tape.paused = False
        return result


def _fits(target: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether arguments are those of the operator's own form (a packed sequence, or padding in words, is another)."""
    names = {a.name for a in target._schema.arguments}
    if target in (_aten.lstm.input, _aten.gru.input, _aten.rnn_tanh.input, _aten.rnn_relu.input):
        return not kwargs and len(args) == len(target._schema.arguments) and isinstance(args[3], bool)
    return set(kwargs) <= names and not any(isinstance(a, str) for a in (*args, *kwargs.values()))


def _user_frame() -> str:
    """Return the innermost line that is neither torch's nor this file's, written as a stack trace writes it."""
    frame: Any = sys._getframe(1)
    while frame is not None and ("/torch/" in frame.f_code.co_filename or frame.f_code.co_filename == __file__):
        frame = frame.f_back
    return f'File "{frame.f_code.co_filename}", line {frame.f_lineno}' if frame is not None else ""


def _user_line() -> str:
    text = _user_frame()
    file, _, line = text.removeprefix('File "').partition('", line ')
    return f"{file.rpartition('/')[2]}:{line}" if text else "a line of the module"


def _tape(module: torch.nn.Module, inputs: Inputs, names: Sequence[str]) -> _Tape:
    """Run a module once and return what it did."""
    tape = _Tape(module)
    for name, value in zip(names, inputs.tensors, strict=True):
        tape.placeholder(name, value, is_input=True)
    hooks = []
    for path, part in module.named_modules():
        entry = (path, f"{type(part).__module__}.{type(part).__qualname__}")
        hooks.append(part.register_forward_pre_hook(_entering(tape, entry), prepend=True))
        hooks.append(part.register_forward_hook(_leaving(tape), always_call=True))
    try:
        with torch.no_grad(), _Calls(tape), _Functions(tape):
            result = inputs.call(module)
        tape.outputs = [tape.node_of(v) for v in output_leaves(result)]
        output = tape.graph.output(tuple(tape.outputs))
        resolve_writes(tape.graph, tape.describe)
        tape.outputs = list(output.args[0])
        tape.graph.erase_node(output)
    finally:
        for hook in hooks:
            hook.remove()
    return tape


def _entering(tape: _Tape, entry: tuple[str, str]) -> Callable[..., None]:
    return lambda *_: tape.stack.append(entry)


def _leaving(tape: _Tape) -> Callable[..., None]:
    return lambda *_: tape.stack.pop() and None


# --- what grows with the batch ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A graph, whether its batch is free, and the lines whose outcome depended on the data."""

    traced: Traced
    batched: bool
    decisions: tuple[str, ...]


def record(
    module: torch.nn.Module, inputs: Inputs, plans: Sequence[Mapping[int, int]], *, batched: bool = True
) -> Recording:
    """Run a module on its example inputs and return what it did, for any batch where runs with more samples agree."""
    names = list(inputs.named(module))
    whole = _tape(module, inputs, names)
    for plan in plans if batched else ():
        try:
            two, three = (_tape(module, _samples(inputs, plan, n), names) for n in (2, 3))
        except Exception:  # nothing that is called with one sample after the other
            logging.getLogger(__name__).debug("no batch along %s", plan, exc_info=True)
            continue
        alike = two.read == three.read == whole.read and _path(two) == _path(three) and _work(two) == _work(whole)
        if alike and _mark_growth(two, three):
            return Recording(traced=_traced(two), batched=True, decisions=tuple({**whole.decisions, **two.decisions}))
    return Recording(traced=_traced(whole), batched=False, decisions=tuple(whole.decisions))


def _samples(inputs: Inputs, plan: Mapping[int, int], count: int) -> Inputs:
    """Return the first sample, `count` times."""
    places = iter(range(len(inputs.tensors)))

    def cut(value: torch.Tensor) -> torch.Tensor:
        i = next(places)
        return torch.cat([value.narrow(plan[i], 0, 1)] * count, plan[i]) if i in plan else value.clone()

    return inputs.changed(cut)


def _path(tape: _Tape) -> list[Any]:
    return [n.target for n in tape.graph.nodes if n.op == "call_function"]


_LAYOUT = frozenset(
    {
        "view",
        "_unsafe_view",
        "reshape",
        "_reshape_alias",
        "clone",
        "contiguous",
        "expand",
        "as_strided",
        "alias",
        "detach",
    }
    | {"t", "transpose", "permute", "unsqueeze", "squeeze", "copy", "copy_"}
)


def _work(tape: _Tape) -> list[Any]:
    """Return the path without calls that depend on how a tensor lies in memory, which a batch of one changes."""
    return [t for t in _path(tape) if t is not operator.getitem and operator_name(t) not in _LAYOUT]


def _mark_growth(two: _Tape, three: _Tape) -> bool:
    """Write each result's type into the recording of two samples; False where shapes do not grow with the batch."""
    for a, b in zip(two.graph.nodes, three.graph.nodes, strict=True):
        first, second = (n.meta["val"] if isinstance(n.meta["val"], list | tuple) else [n.meta["val"]] for n in (a, b))
        types = []
        for x, y in zip(first, second, strict=True):
            if not isinstance(x, torch.Tensor):
                continue
            growing = [i for i, (s, t) in enumerate(zip(x.shape, y.shape, strict=True)) if s != t]
            if len(growing) > 1 or any(3 * x.shape[i] != 2 * y.shape[i] for i in growing):
                return False
            shape = tuple(s // 2 if i in growing else s for i, s in enumerate(x.shape))
            types.append(TensorType(shape=shape, batch_axis=growing[0] if growing else None))
        a.meta["types"] = types
        if a in two.dependent and not _same_numbers(a, b):
            return False
        grows = bool(types) and types[0].batch_axis is not None
        if a not in two.dependent and ("value" in a.meta or grows) and not _alike(a, b, types[0]):
            return False
    return True


_SIZED = _LAYOUT | {"slice", "narrow", "split", "split_with_sizes", "unsafe_split", "repeat", "chunk", "new_zeros"}


def _same_numbers(a: fx.Node, b: fx.Node) -> bool:
    """Whether two calls have the same plain arguments; sizes may differ, as results tell them."""
    plain = [[v for v in pytree.tree_leaves((n.args, n.kwargs)) if isinstance(v, int | float)] for n in (a, b)]
    return plain[0] == plain[1] or a.op != "call_function" or operator_name(a.target) in _SIZED


def _alike(a: fx.Node, b: fx.Node, kind: TensorType) -> bool:
    """Whether a value that depends on no input is the same for every sample."""
    axis = kind.batch_axis
    if "value" not in a.meta or "value" not in b.meta:
        return False
    if axis is None:
        return bool(a.meta["value"].equal(b.meta["value"]))
    one: torch.Tensor = a.meta["value"].narrow(axis, 0, kind.shape[axis])
    return all(torch.cat([one] * n, axis).equal(t.meta["value"]) for n, t in ((2, a), (3, b)))


def _traced(tape: _Tape) -> Traced:
    held = dict(tape.held)
    module = tape.module

    def getter(name: str) -> Callable[[], torch.Tensor]:
        dotted = tape.names.get(name)
        if dotted is None:
            return lambda: held[name]
        return lambda: tensor_of(module, dotted)

    return Traced(
        graph=tape.graph,
        held={name: getter(name) for name in held},
        names=dict(tape.names),
        trained=frozenset(tape.trained),
        outputs=tape.outputs,
        recorded=True,
    )
