"""Sequences of ONNX graphs, which exist at import only: lists of values that operators take apart and put together.

Semantics: ONNX operator reference, Sequence*, SplitToSequence, ConcatFromSequence, Optional*.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from picojoule.sim.errors import InputError
from picojoule.sim.importers.onnx_scope import Scope
from picojoule.sim.importers.onnx_values import BatchError, Node, UnhandledError, Value, number
from picojoule.sim.ir import Operand

if TYPE_CHECKING:
    from picojoule.sim.importers.onnx_walk import Walk

Item = Value | tuple[Value, ...]
"""A value, or a sequence of values."""


def item_of(scope: Scope, name: str) -> Item:
    """Return the value or the sequence of a name."""
    if name in scope.sequences:
        return scope.sequences[name]
    found = scope.values.get(name)
    if found is None:
        raise UnhandledError(f"its value '{name}' is unknown")
    return found


def tensor_of(item: Item) -> Value:
    """Return an item that must be a value."""
    if isinstance(item, tuple):
        raise UnhandledError("it stacks sequences")
    return item


def stacked_values(scope: Scope, node: Node, values: Sequence[Value], axis: int, step: str) -> Value:
    """Return values stacked along a new axis."""
    if not values:
        raise UnhandledError("it never runs, so what it collects is empty")
    pieces = [scope.lower(node, "Unsqueeze", [v], f"{step}.{i}", axes=[axis]) for i, v in enumerate(values)]
    return scope.lower(node, "Concat", pieces, f"{step}.stack", axis=axis)


def _items(walk: "Walk", node: Node) -> tuple[Value, ...]:
    found = walk.scope.sequences.get(node.inputs[0])
    if found is None:
        raise UnhandledError(f"its input '{node.inputs[0]}' is no sequence that is known at import")
    return found


def _position(walk: "Walk", node: Node, position: int, count: int) -> int:
    index = int(walk.scope.fixed(node, position).array().reshape(-1)[0])
    if not -count <= index < count:
        raise InputError(f"{walk.scope.where(node)} asks for element {index} of {count}")
    return index % count


def _construct(walk: "Walk", node: Node, proto: Any) -> Sequence[Item]:
    return [tuple(walk.scope.value(node, i) for i in range(len(node.inputs)))]


def _insert(walk: "Walk", node: Node, proto: Any) -> Sequence[Item]:
    items = _items(walk, node)
    place = len(items)
    if node.has(2):  # a negative place counts from the last element, so that -1 is before it
        place = int(walk.scope.fixed(node, 2).array().reshape(-1)[0])
        if not -len(items) <= place <= len(items):
            raise InputError(f"{walk.scope.where(node)} inserts at {place} into {len(items)} elements")
        place = place + len(items) if place < 0 else place
    return [(*items[:place], walk.scope.value(node, 1), *items[place:])]


def _erase(walk: "Walk", node: Node, proto: Any) -> Sequence[Item]:
    items = _items(walk, node)
    place = _position(walk, node, 1, len(items)) if node.has(1) else len(items) - 1
    return [(*items[:place], *items[place + 1 :])]


def _at(walk: "Walk", node: Node, proto: Any) -> Sequence[Item]:
    items = _items(walk, node)
    return [items[_position(walk, node, 1, len(items))]]


def _length(walk: "Walk", node: Node, proto: Any) -> Sequence[Item]:
    return [number(node.outputs[0], len(_items(walk, node)), np.int64)]


def _split(walk: "Walk", node: Node, proto: Any) -> Sequence[Item]:
    scope = walk.scope
    x = scope.value(node, 0)
    axis = scope.axis(node, node.integer("axis", 0), len(x.shape))
    if isinstance(x, Operand) and x.type.batch_axis == axis:
        raise BatchError("it splits the batch")
    total, whole = x.shape[axis], not node.has(1)
    if whole:
        sizes = [1] * total
    else:
        given = scope.ints(node, 1)
        each = scope.fixed(node, 1).shape == ()
        sizes = _pieces(given[0], total) if each else list(given)
    pieces = scope.lower_all(
        node, "Split", [x, number(f"{node.name} sizes", sizes, np.int64)], "pieces", results=len(sizes), axis=axis
    )
    if whole and not node.integer("keepdims", 1):
        pieces = [scope.lower(node, "Squeeze", [p], f"piece_{i}", axes=[axis]) for i, p in enumerate(pieces)]
    return [tuple(pieces)]


def _pieces(size: int, total: int) -> list[int]:
    if size < 1:
        raise InputError(f"a sequence is split in pieces of at least 1, got {size}")
    return [min(size, total - start) for start in range(0, total, size)]


def _concat(walk: "Walk", node: Node, proto: Any) -> Sequence[Item]:
    items, axis = _items(walk, node), node.integer("axis", 0)
    if node.integer("new_axis", 0):
        return [stacked_values(walk.scope, node, items, axis, "out")]
    return [walk.scope.lower(node, "Concat", items, "out", axis=axis)]


def same(walk: "Walk", node: Node, proto: Any) -> Sequence[Item]:
    """Return the value or sequence itself."""
    return [item_of(walk.scope, node.inputs[0])]


def _exists(walk: "Walk", node: Node, proto: Any) -> Sequence[Item]:
    return [number(node.outputs[0], node.has(0), np.bool_)]


HANDLERS: Mapping[str, Callable[["Walk", Node, Any], Sequence[Item]]] = {
    "SequenceConstruct": _construct,
    "SequenceEmpty": _construct,
    "SequenceInsert": _insert,
    "SequenceErase": _erase,
    "SequenceAt": _at,
    "SequenceLength": _length,
    "SplitToSequence": _split,
    "ConcatFromSequence": _concat,
    "Optional": same,
    "OptionalGetElement": same,
    "OptionalHasElement": _exists,
}
"""Operators on sequences and optional values."""
