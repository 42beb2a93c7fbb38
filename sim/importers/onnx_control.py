"""Control flow of ONNX graphs that is known at import: branches are taken, loops unrolled.

A branch whose condition depends on the input, and a loop whose number of turns does, stay opaque; their reason says what is
inside. Semantics: ONNX operator reference, If, Loop, Scan and SequenceMap.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from picojoule.sim.errors import InputError, PicojouleError
from picojoule.sim.gemm import layer_macs
from picojoule.sim.importers.onnx_scope import Scope
from picojoule.sim.importers.onnx_sequences import HANDLERS, Item, item_of, same, stacked_values, tensor_of
from picojoule.sim.importers.onnx_values import BatchError, Fixed, Node, UnhandledError, Value, number
from picojoule.sim.ir import Operand

if TYPE_CHECKING:
    from picojoule.sim.importers.onnx_walk import Walk

Results = Sequence[Value | None] | None

LARGEST_UNROLLED_LAYERS = 4096
"""Layers that the turns of one loop may come to, and turns of a loop that makes none."""
_BODIES = ("If", "Loop", "Scan", "SequenceMap")


def concerns(scope: Scope, node: Node) -> bool:
    """Whether a node is control flow or reads a sequence."""
    return not node.domain and (node.op in _TABLE or any(n in scope.sequences for n in node.inputs))


def understood(node: Node) -> bool:
    """Whether a node needs no handler of its own."""
    return not node.domain and (node.op in _TABLE or node.op in ("Shape", "Size", "ConstantOfShape", "Range"))


def results(walk: "Walk", node: Node, proto: Any) -> Results:
    """Return the results of a node that `concerns` names; sequences go to the scope."""
    function = same if node.op == "Identity" else _TABLE.get(node.op)
    if function is None:
        raise UnhandledError("it reads a sequence")
    if proto is None and node.op in _BODIES:
        raise UnhandledError("it has a body of its own")
    before = len(walk.scope.builder.layers), len(walk.scope.builder.unsupported)
    try:
        items = function(walk, node, proto)
    except _UnknownTurnsError as error:
        walk.undo(before)
        return walk.opaque(node, proto, str(error))
    if items is None:
        return None
    made: list[Value | None] = []
    for name, item in zip(node.outputs, items, strict=False):
        walk.scope.sequences.pop(name, None)
        if isinstance(item, tuple):
            walk.scope.sequences[name] = item
            made.append(None)
        else:
            made.append(item)
    return made


class _UnknownTurnsError(Exception):
    """A body that runs under a condition, or a number of times, that depends on the input."""


# --- bodies ---------------------------------------------------------------------------------------------------------------


def _body(proto: Any, name: str) -> Any:
    found = next((a.g for a in proto.attribute if a.name == name), None)
    if found is None:
        raise InputError(f"'{proto.name or proto.op_type}' lacks its {name}; the file is damaged")
    return found


def _bind(walk: "Walk", name: str, item: Item) -> None:
    walk.scope.sequences.pop(name, None)
    if isinstance(item, tuple):
        walk.scope.sequences[name] = item
        walk.scope.values.pop(name, None)
        return
    dtype = item.dtype if isinstance(item, Fixed) else walk.scope.dtypes.get(item.name, np.dtype(np.float32))
    walk.define(name, item, dtype)


def _turn(walk: "Walk", body: Any, inputs: Sequence[Item], prefix: str) -> list[Item]:
    """Walk a body once and return its results."""
    if len(inputs) != len(body.input):
        raise InputError(f"{walk.path.name}: body '{prefix}' takes {len(body.input)} inputs, got {len(inputs)}")
    for info, item in zip(body.input, inputs, strict=True):
        _bind(walk, info.name, item)
    refused = len(walk.refused)
    walk.graph(body, prefix)
    if len(walk.refused) > refused:
        raise _RefusedError
    return [item_of(walk.scope, o.name) for o in body.output]


class _RefusedError(Exception):
    """Something inside a body was refused; the walk has it on its list."""


def _inside(walk: "Walk", body: Any, inputs: Sequence[Item], prefix: str) -> str:
    """Return what a body holds: its operators, and the multiply-accumulates of one turn where they can be counted."""
    scope = walk.scope
    before, refused = (len(scope.builder.layers), len(scope.builder.unsupported)), len(walk.refused)
    counted = ""
    try:
        _turn(walk, body, inputs, prefix)
        macs = sum(layer_macs(layer) for layer in scope.builder.layers[before[0] :])
        counted = f", {macs:,} multiply-accumulates"
    except (PicojouleError, UnhandledError, _RefusedError, _UnknownTurnsError):
        pass
    finally:
        walk.undo(before)
        del walk.refused[refused:]
    ops = _operators(body)
    names = ", ".join(f"{count} {op}" if count > 1 else op for op, count in ops.items()) or "nothing"
    return f"{names}{counted}"


def _operators(body: Any) -> Counter[str]:
    found: Counter[str] = Counter()
    for node in body.node:
        if node.op_type != "Constant":
            found[node.op_type] += 1
        for attribute in node.attribute:
            if attribute.HasField("g"):
                found.update(_operators(attribute.g))
    return found


def _known(scope: Scope, node: Node, position: int) -> Fixed | None:
    """Return an input that is known at import and the same for every batch, or None."""
    value = scope.value(node, position)
    if not isinstance(value, Fixed):
        return None
    if value.at_two is not None:
        raise BatchError(f"its input {position} ('{value.name}') depends on the batch")
    return value


# --- If, Loop, Scan -----------------------------------------------------------------------------------------------------


def _if(walk: "Walk", node: Node, proto: Any) -> Sequence[Item] | None:
    condition = _known(walk.scope, node, 0)
    if condition is None:
        parts = [
            f"{label}: {_inside(walk, _body(proto, key), [], f'{node.name}.{key}.')}"
            for label, key in (("then", "then_branch"), ("else", "else_branch"))
        ]
        raise _UnknownTurnsError(f"its condition depends on the input ({'; '.join(parts)})")
    taken = "then_branch" if bool(condition.array().reshape(-1)[0]) else "else_branch"
    try:
        return _turn(walk, _body(proto, taken), [], f"{node.name}.{taken}.")
    except _RefusedError:
        return None


def _loop(walk: "Walk", node: Node, proto: Any) -> Sequence[Item] | None:
    scope, body = walk.scope, _body(proto, "body")
    carried = [item_of(scope, n) for n in node.inputs[2:]]
    trips = _known(scope, node, 0) if node.has(0) else None
    condition = _known(scope, node, 1) if node.has(1) else number("true", True, np.bool_)
    if condition is None or (node.has(0) and trips is None):
        turn = [_index(0), number("true", True, np.bool_), *carried]
        inside = _inside(walk, body, turn, f"{node.name}.0.")
        raise _UnknownTurnsError(f"its number of turns depends on the input (one turn: {inside})")
    count = int(trips.array().reshape(-1)[0]) if trips is not None else LARGEST_UNROLLED_LAYERS + 1
    stacked: list[list[Value]] = [[] for _ in body.output[1 + len(carried) :]]
    go, done, start = bool(condition.array().reshape(-1)[0]), 0, len(scope.builder.layers)
    while go and done < count:
        try:
            made = _turn(walk, body, [_index(done), condition, *carried], f"{node.name}.{done}.")
        except _RefusedError:
            return None
        if not isinstance(made[0], Fixed):
            inside = _inside(walk, body, [_index(done), condition, *carried], f"{node.name}.{done}.")
            raise _UnknownTurnsError(f"it stops when a value of the network says so (one turn: {inside})")
        go, carried = bool(made[0].array().reshape(-1)[0]), made[1 : 1 + len(carried)]
        for held, item in zip(stacked, made[1 + len(carried) :], strict=True):
            held.append(tensor_of(item))
        done += 1
        _bounded(scope, start, done, count if trips is not None else 0, len(stacked))
    return [*carried, *(stacked_values(scope, node, held, 0, f"out_{i}") for i, held in enumerate(stacked))]


def _index(turn: int) -> Fixed:
    return number(f"turn {turn}", turn, np.int64)


def _bounded(scope: Scope, start: int, done: int, count: int, stacked: int) -> None:
    """Refuse to unroll too much; each collected value takes a layer a turn to be stacked."""
    layers = len(scope.builder.layers) - start + done * stacked
    expected = layers * max(count, done) // done
    if max(expected, done) > LARGEST_UNROLLED_LAYERS:
        raise UnhandledError(
            f"its {count or done} turns come to {max(expected, done):,} layers; at most {LARGEST_UNROLLED_LAYERS:,} are "
            "unrolled"
        )


_SCAN_WITHOUT_BATCH_SINCE = 9


def _scan(walk: "Walk", node: Node, proto: Any) -> Sequence[Item] | None:
    scope, body = walk.scope, _body(proto, "body")
    if node.opset < _SCAN_WITHOUT_BATCH_SINCE:
        raise UnhandledError("a Scan before opset 9 runs over lengths given per sample")
    scanned = node.integer("num_scan_inputs", 1)
    first = len(node.inputs) - scanned
    carried = [item_of(scope, n) for n in node.inputs[:first]]
    inputs = [scope.value(node, first + i) for i in range(scanned)]
    given = node.ints("scan_input_axes", (0,) * scanned)
    axes = [scope.axis(node, a, len(x.shape)) for a, x in zip(given, inputs, strict=True)]
    backwards = node.ints("scan_input_directions", (0,) * scanned)
    lengths = {x.shape[a] for a, x in zip(axes, inputs, strict=True)}
    if len(lengths) != 1:
        raise InputError(f"{scope.where(node)} scans over lengths {sorted(lengths)}; they must be one")
    if any(isinstance(x, Operand) and x.type.batch_axis == a for a, x in zip(axes, inputs, strict=True)):
        raise BatchError("it scans over the batch")
    length, start = lengths.pop(), len(scope.builder.layers)
    stacked: list[list[Value]] = [[] for _ in body.output[first:]]
    for turn in range(length):
        pieces = [
            scope.lower(
                node,
                "Gather",
                [x, _index(length - 1 - turn if back else turn)],
                f"{turn}.in_{i}",
                axis=a,
            )
            for i, (x, a, back) in enumerate(zip(inputs, axes, backwards, strict=True))
        ]
        try:
            made = _turn(walk, body, [*carried, *pieces], f"{node.name}.{turn}.")
        except _RefusedError:
            return None
        carried = made[:first]
        for held, item in zip(stacked, made[first:], strict=True):
            held.append(tensor_of(item))
        _bounded(scope, start, turn + 1, length, len(stacked))
    out_axes = node.ints("scan_output_axes", (0,) * len(stacked))
    reverse = node.ints("scan_output_directions", (0,) * len(stacked))
    collected: list[Item] = []
    for i, held in enumerate(stacked):
        axis = scope.axis(node, out_axes[i], len(held[0].shape) + 1)
        collected.append(stacked_values(scope, node, held[::-1] if reverse[i] else held, axis, f"out_{i}"))
    return [*carried, *collected]


def _sequence_map(walk: "Walk", node: Node, proto: Any) -> Sequence[Item] | None:
    scope, body = walk.scope, _body(proto, "body")
    first = item_of(scope, node.inputs[0])
    if not isinstance(first, tuple):
        raise InputError(f"{scope.where(node)} maps over a sequence, got a tensor")
    items = [item_of(scope, n) for n in node.inputs]
    columns: list[list[Value]] = [[] for _ in body.output]
    for turn in range(len(first)):
        inputs = [item[turn] if isinstance(item, tuple) else item for item in items]
        try:
            made = _turn(walk, body, inputs, f"{node.name}.{turn}.")
        except _RefusedError:
            return None
        for column, item in zip(columns, made, strict=True):
            column.append(tensor_of(item))
    return [tuple(column) for column in columns]


_TABLE: Mapping[str, Callable[["Walk", Node, Any], Sequence[Item] | None]] = {
    **HANDLERS,
    "If": _if,
    "Loop": _loop,
    "Scan": _scan,
    "SequenceMap": _sequence_map,
}
