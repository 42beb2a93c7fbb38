"""ONNX LSTM, GRU and RNN: a linear layer over all steps for the input, then one recurrent layer per direction.

ONNX orders gates i o f c (LSTM) and z r h (GRU); they are put into torch's order (i f c o, r z n) as folded constants.
Semantics: ONNX operator reference, opset 7 and later.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from picojoule.sim import attributes as at
from picojoule.sim.attributes import Op, RecurrentKind
from picojoule.sim.errors import InputError
from picojoule.sim.importers.onnx_scope import Results, Scope
from picojoule.sim.importers.onnx_values import Array, BatchError, Fixed, Node, UnhandledError, Value, number
from picojoule.sim.ir import Operand

_ORDER = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
"""For each gate of torch, the place of that gate in ONNX."""
_ACTIVATIONS = {"LSTM": ("sigmoid", "tanh", "tanh"), "GRU": ("sigmoid", "tanh"), "RNN": ("tanh",)}
_DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}


def recurrent(scope: Scope, node: Node) -> Results:
    """LSTM, GRU and RNN, in one or both directions; results Y, Y_h and (LSTM) Y_c."""
    x, time_axis = scope.operand(node, 0), node.integer("layout", 0)
    directions = _directions(scope, node)
    kinds = _kinds(scope, node, len(directions))
    hidden = _check(scope, node, x, len(directions), time_axis)
    if x.type.batch_axis == time_axis:
        raise BatchError("it runs along the batch")
    made = [
        _direction(scope, node, x, d, kinds[d], hidden, time_axis, reverse=reverse)
        for d, reverse in enumerate(directions)
    ]
    return _joined(scope, node, made, time_axis)


def _directions(scope: Scope, node: Node) -> tuple[bool, ...]:
    direction = node.text("direction", "forward")
    if direction not in _DIRECTIONS:
        raise InputError(f"{scope.where(node)}: direction must be forward, reverse or bidirectional, got '{direction}'")
    for key, meaning in (("clip", "it clips its gates"), ("input_forget", "it couples input and forget gates")):
        if node.attributes.get(key):
            raise UnhandledError(meaning)
    if node.has(7) and scope.fixed(node, 7).array().any():
        raise UnhandledError("it has peepholes")
    return _DIRECTIONS[direction]


def _kinds(scope: Scope, node: Node, directions: int) -> list[RecurrentKind]:
    """Return the kind of each direction; activations other than the usual ones are not known."""
    default = _ACTIVATIONS[node.op]
    given = [str(v.decode() if isinstance(v, bytes) else v).lower() for v in node.attributes.get("activations", ())]
    given = given or [*default] * directions
    if len(given) != len(default) * directions:
        raise InputError(f"{scope.where(node)} needs {len(default) * directions} activations, got {len(given)}")
    kinds = []
    for d in range(directions):
        names = tuple(given[d * len(default) : (d + 1) * len(default)])
        if names == default:
            kinds.append({"LSTM": RecurrentKind.LSTM, "GRU": RecurrentKind.GRU}.get(node.op, RecurrentKind.RNN_TANH))
        elif names == ("relu",) and node.op == "RNN":
            kinds.append(RecurrentKind.RNN_RELU)
        else:
            raise UnhandledError(f"its activations are {', '.join(names)}")
    return kinds


def _check(scope: Scope, node: Node, x: Operand, directions: int, time_axis: int) -> int:
    """Return the number of hidden units after checking all shapes."""
    if len(x.shape) != 3 or time_axis not in (0, 1):
        raise InputError(f"{scope.where(node)} needs an input of 3 axes and layout 0 or 1, got {list(x.shape)}")
    weight, again = scope.value(node, 1), scope.value(node, 2)
    hidden = again.shape[-1] if len(again.shape) == 3 else 0
    hidden = node.integer("hidden_size", hidden)
    rows = hidden * len(_ORDER[node.op])
    wanted = ((directions, rows, x.shape[2]), (directions, rows, hidden))
    if hidden < 1 or (weight.shape, again.shape) != wanted:
        raise InputError(
            f"{scope.where(node)} needs weights {list(wanted[0])} and {list(wanted[1])}, "
            f"got {list(weight.shape)} and {list(again.shape)}"
        )
    if node.has(3) and scope.value(node, 3).shape != (directions, 2 * rows):
        raise InputError(f"{scope.where(node)} needs a bias {[directions, 2 * rows]}")
    if node.has(4) and not _whole_length(scope, node, x.shape[time_axis]):
        raise UnhandledError("its sequences have lengths of their own (sequence_lens)")
    return hidden


def _whole_length(scope: Scope, node: Node, steps: int) -> bool:
    value = scope.value(node, 4)
    return isinstance(value, Fixed) and bool(np.all(value.array() == steps))


def _direction(
    scope: Scope,
    node: Node,
    x: Operand,
    d: int,
    kind: RecurrentKind,
    hidden: int,
    time_axis: int,
    *,
    reverse: bool,
) -> tuple[Operand, ...]:
    """Emit one direction and return its results: y, h[, c]."""
    prefix, order = ("reverse" if reverse else "forward"), _ORDER[node.op]
    reset_after = node.op != "GRU" or bool(node.integer("linear_before_reset", 0))
    apart = kind is RecurrentKind.GRU and reset_after  # the reset gate multiplies the recurrent bias of the new gate
    weight = _gates(scope, node, 1, d, order, hidden)
    operands = [x, weight]
    if node.has(3):
        operands.append(_bias(scope, node, d, order, hidden, "input" if apart else "both"))
    gates = scope.emit(node, Op.LINEAR, operands, at.LinearAttributes(), step=f"{prefix}_input")[0]
    operands = [gates, _gates(scope, node, 2, d, order, hidden)]
    if node.has(3) and apart:
        operands.append(_bias(scope, node, d, order, hidden, "recurrent"))
    states = _states(scope, node, x, d, kind, hidden, time_axis, prefix)
    attributes = at.RecurrentAttributes(
        kind=kind,
        hidden=hidden,
        time_axis=time_axis,
        reverse=reverse,
        has_bias=node.has(3) and apart,
        has_state=bool(states),
        reset_after=reset_after,
    )
    results = 3 if kind is RecurrentKind.LSTM else 2
    return scope.emit(node, Op.RECURRENT, [*operands, *states], attributes, step=prefix, results=results)


def _stored(scope: Scope, node: Node, position: int) -> Fixed:
    found = scope.fixed(node, position)
    if found.at_two is not None:
        raise BatchError(f"its weights '{found.name}' depend on the batch")
    return found


def _gates(scope: Scope, node: Node, position: int, d: int, order: Sequence[int], hidden: int) -> Operand:
    """Return one direction's weight [gates * hidden, in], gates in torch's order."""
    stored = _stored(scope, node, position)

    def chosen(values: Array) -> Array:
        blocks = values[d].reshape(len(order), hidden, -1)
        return np.ascontiguousarray(blocks[list(order)].reshape(len(order) * hidden, -1))

    weights = stored.mapped(stored.shape[1:], chosen)
    return scope.stored_operand(stored, weights, f"direction {d}")


def _bias(scope: Scope, node: Node, d: int, order: Sequence[int], hidden: int, part: str) -> Operand:
    """Return the input bias, the recurrent one, or the sum of both."""
    stored = _stored(scope, node, 3)
    rows = len(order) * hidden

    def chosen(values: Array) -> Array:
        halves = values[d].reshape(2, len(order), hidden)[:, list(order)].reshape(2, rows)
        return np.asarray({"input": halves[0], "recurrent": halves[1], "both": halves.sum(axis=0)}[part])

    return scope.stored_operand(stored, stored.mapped((rows,), chosen), f"direction {d}, {part}")


def _states(
    scope: Scope, node: Node, x: Operand, d: int, kind: RecurrentKind, hidden: int, time_axis: int, prefix: str
) -> list[Operand]:
    """Return the initial states [batch, hidden] of one direction; none where they are zero."""
    names = ("h", "c") if kind is RecurrentKind.LSTM else ("h",)
    values: list[Value | None] = []
    for i in range(len(names)):
        given = scope.value(node, 5 + i) if node.has(5 + i) else None
        zero = isinstance(given, Fixed) and given.at_two is None and not given.array().any()
        zero = zero or (isinstance(given, Fixed) and given.at_two is not None and not given.at_two.any())
        values.append(None if zero else given)
    if all(v is None for v in values):
        return []
    batch = x.shape[1 - time_axis]
    states = []
    for name, value in zip(names, values, strict=True):
        zeros = number(f"{batch} x {hidden} zeros", np.broadcast_to(np.float32(0), (batch, hidden)))
        index: Any = number(f"direction {d}", d, np.int64)
        axis = 0 if time_axis == 0 else 1
        picked = zeros if value is None else scope.lower(node, "Gather", [value, index], f"{prefix}_{name}", axis=axis)
        operand = scope.as_operand(node, picked, trained=True)
        if operand.shape != (batch, hidden):
            raise InputError(
                f"{scope.where(node)} needs an initial state of {[batch, hidden]} per direction, got {list(operand.shape)}"
            )
        states.append(scope.batched(node, operand, 0, x.type.batch_axis is not None))
    return states


def _joined(scope: Scope, node: Node, made: Sequence[tuple[Operand, ...]], time_axis: int) -> Results:
    """Return Y, Y_h and Y_c with their axis of directions."""
    joined: list[Value] = []
    for i in range(len(made[0])):
        if not scope.used(node, i):
            joined.append(made[0][i])
            continue
        axis = (1 if time_axis == 0 else 2) if i == 0 else time_axis
        name = ("y", "h", "c")[i]
        pieces: list[Value] = [
            scope.lower(node, "Unsqueeze", [one[i]], f"{name}_{d}", axes=[axis]) for d, one in enumerate(made)
        ]
        joined.append(pieces[0] if len(pieces) == 1 else scope.lower(node, "Concat", pieces, name, axis=axis))
    return joined
