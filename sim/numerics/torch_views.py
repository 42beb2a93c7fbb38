"""Rewrites a recorded graph so that a write in place is seen by every view of the same memory, and by nothing else.

A write into a view becomes a new value of the tensor below it (the slice put back, the shape turned back); views read later
are taken from that anew.
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx

from picojoule.sim.errors import UnsupportedError
from picojoule.sim.numerics.torch_types import operator_name

_aten = torch.ops.aten


def _apart(a: fx.Node, b: fx.Node) -> bool:
    """Whether two tensors are different pieces of one cut, which share no element."""
    cut = a.target is operator.getitem and b.target is operator.getitem and a is not b
    return cut and a.args[0] is b.args[0] and a.args[1] != b.args[1]


_SAME = ("detach", "alias", "contiguous", "lift_fresh", "view_as", "to", "_to_copy", "clone")
_SHAPES = ("view", "reshape", "_unsafe_view", "unsqueeze", "squeeze", "flatten", "unflatten", "_reshape_alias")


def writes_in_place(node: fx.Node) -> bool:
    """Whether a call writes into its first argument."""
    if node.op != "call_function" or not node.args or not isinstance(node.args[0], fx.Node):
        return False
    schema = getattr(node.target, "_schema", None)
    if schema is None or not schema.arguments:
        return False
    written = schema.arguments[0].alias_info
    return bool(written is not None and written.is_write)


def resolve_writes(graph: fx.Graph, made: Callable[[fx.Node, fx.Node], None]) -> None:
    """Rewrite a graph whose nodes carry `meta["val"]` and `meta["memory"]`; `made(node, cause)` describes each new node.

    Raises:
        UnsupportedError: for a write through a view that cannot be turned back.

    """
    if any(writes_in_place(n) for n in graph.nodes):
        _Views(graph, made).run()


class _Views:
    """Bookkeeping of views.

    `parents` says which tensor a view was taken from, `versions` how often each memory was put together anew, `held` which
    node has a tensor's values since when. What is written is kept in `pending` until somebody reads another part of the memory.
    """

    def __init__(self, graph: fx.Graph, made: Callable[[fx.Node, fx.Node], None]) -> None:
        self.graph = graph
        self.made = made
        self.parents: dict[fx.Node, fx.Node] = {}
        self.roots: dict[fx.Node, fx.Node] = {}
        self.versions: dict[fx.Node, int] = {}
        self.held: dict[fx.Node, tuple[int, fx.Node]] = {}
        self.pending: dict[fx.Node, dict[fx.Node, fx.Node]] = {}
        self.by_memory: dict[Any, fx.Node] = {}
        self.same: dict[fx.Node, fx.Node] = {}
        self.added: set[fx.Node] = set()

    def run(self) -> None:
        for node in list(self.graph.nodes):
            original = node.args
            with self.graph.inserting_before(node):
                self.renew(node)
                if writes_in_place(node):
                    target = original[0]
                    assert isinstance(target, fx.Node)
                    self.written(node, target)
                elif "memory" in node.meta:
                    self.enter(node, original)
        for node in reversed(self.graph.nodes):
            is_view = node.op == "call_function" and node in self.parents
            if not node.users and (is_view or node in self.added) and not writes_in_place(node):
                self.graph.erase_node(node)

    def renew(self, node: fx.Node) -> None:
        """Make a node read what its operands hold now."""

        def now(operand: fx.Node) -> fx.Node:
            return self.fresh(operand, node)

        node.args, node.kwargs = fx.node.map_arg((node.args, node.kwargs), now)

    def enter(self, node: fx.Node, args: Sequence[Any]) -> None:
        """Note which memory a new tensor lies in, and which tensor it is a view of."""
        memory = node.meta["memory"]
        source = args[0] if args and isinstance(args[0], fx.Node) else None
        if node.target is operator.getitem and source is not None:
            given = source.args[0] if source.args else None  # the tensor that was cut in pieces
            source = given if isinstance(given, fx.Node) else None
        source = self.origin(source) if source is not None else None
        if source is not None and source.meta.get("memory") == memory and source in self.roots:
            self.parents[node] = source
            self.roots[node] = self.roots[source]
        elif memory in self.by_memory:
            self.roots[node] = self.parents[node] = self.by_memory[memory]
        else:
            self.roots[node] = self.by_memory[memory] = node
            self.versions[node], self.pending[node] = 0, {}
        self.held[node] = (self.versions[self.roots[node]], node)

    def origin(self, node: fx.Node) -> fx.Node:
        """Return the tensor that a write returned: the one it was given."""
        while node in self.same:
            node = self.same[node]
        return node

    def fresh(self, node: fx.Node, cause: fx.Node) -> fx.Node:
        """Return the node that holds a tensor's values after all writes so far."""
        node = self.origin(node)
        if node not in self.roots:
            return node
        root = self.roots[node]
        if node in self.pending[root]:
            return self.pending[root][node]
        if not all(_apart(node, written) for written in self.pending[root]):
            self.flush(root, cause)
        version = self.versions[root]
        held_version, held = self.held[node]
        if held_version == version:
            return held
        parent = self.fresh(self.parents[node], cause)
        if node.target is operator.getitem:
            pieces = node.args[0]
            assert isinstance(pieces, fx.Node)
            again = self.call(pieces.target, (parent, *pieces.args[1:]), pieces.kwargs, cause)
            new = self.call(operator.getitem, (again, node.args[1]), {}, cause)
        else:
            new = self.call(node.target, (parent, *node.args[1:]), node.kwargs, cause)
        self.held[node] = (version, new)
        return new

    def written(self, write: fx.Node, target: fx.Node) -> None:
        """Keep a written value; it goes down to the tensor below when somebody reads another part of that."""
        target = self.same[write] = self.origin(target)
        root = self.roots[target]
        if target is root:
            self.pending[root].clear()
            self.versions[root] += 1
            self.held[root] = (self.versions[root], write)
            return
        self.pending[root][target] = write

    def flush(self, root: fx.Node, cause: fx.Node) -> None:
        """Carry what was written down to the tensor below all views."""
        waiting, self.pending[root] = self.pending[root], {}
        for target, write in waiting.items():
            value, view, steps = write, target, [(target, write)]
            while view is not root:
                parent = self.parents[view]
                value = self.put_back(view, self.fresh(parent, cause), value, cause)
                steps.append((parent, value))
                view = parent
            self.versions[root] += 1
            for node, new in steps:
                self.held[node] = (self.versions[root], new)

    def put_back(self, view: fx.Node, below: fx.Node, value: fx.Node, cause: fx.Node) -> fx.Node:
        """Return the tensor below with a view of it replaced."""
        name, args = operator_name(view.target), view.args
        if view.target is operator.getitem:
            return self.put_back_piece(view, below, value, cause)
        if name in _SHAPES:
            return self.call(_aten.view.default, (value, list(below.meta["val"].shape)), {}, cause)
        if name in _SAME:
            return value
        match name:
            case "slice":
                return self.call(_aten.slice_scatter.default, (below, value, *args[1:]), {}, cause)
            case "select":
                return self.call(_aten.select_scatter.default, (below, value, *args[1:]), {}, cause)
            case "transpose":
                return self.call(_aten.transpose.int, (value, *args[1:]), {}, cause)
            case "t":
                return self.call(_aten.t.default, (value,), {}, cause)
            case "permute":
                dims: Any = args[1]
                order = [d % len(dims) for d in dims]
                back = [order.index(i) for i in range(len(order))]
                return self.call(_aten.permute.default, (value, back), {}, cause)
        raise UnsupportedError(
            f"{operator_name(cause.target)} writes in place through {name}, which cannot be turned back; use the operator "
            "without the underscore"
        )

    def put_back_piece(self, view: fx.Node, below: fx.Node, value: fx.Node, cause: fx.Node) -> fx.Node:
        pieces, number = view.args[:2]
        assert isinstance(pieces, fx.Node) and isinstance(number, int)
        rest = [a for a in pieces.args[1:] if isinstance(a, int)]
        if operator_name(pieces.target) == "unbind":
            return self.call(_aten.select_scatter.default, (below, value, rest[0] if rest else 0, number), {}, cause)
        has_sizes = isinstance(pieces.args[1], int)  # the size of a piece comes first, as one number or as a list
        axis = pieces.kwargs.get("dim", (rest[1] if len(rest) > 1 else 0) if has_sizes else rest[0] if rest else 0)
        sizes = [v.shape[axis] for v in pieces.meta["val"]]
        bounds = (sum(sizes[:number]), sum(sizes[: number + 1]))
        return self.call(_aten.slice_scatter.default, (below, value, axis, *bounds), {}, cause)

    def call(self, target: Any, args: tuple[Any, ...], kwargs: Any, cause: fx.Node) -> fx.Node:
        new = self.graph.call_function(target, args, dict(kwargs))
        values = fx.node.map_arg((args, dict(kwargs)), lambda n: n.meta["val"])
        new.meta = {k: v for k, v in cause.meta.items() if k in ("nn_module_stack", "stack_trace")}
        new.meta["val"] = target(*values[0], **values[1])
        self.added.add(new)
        self.made(new, cause)
        return new
