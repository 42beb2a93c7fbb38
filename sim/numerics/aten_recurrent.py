"""How LSTM, GRU and plain recurrent layers become layers.

Per layer and direction one product of the whole input, then the recurrence over it. Left out: projections of the state,
packed sequences, dropout between layers in training.
"""

from typing import TYPE_CHECKING

import torch

from picojoule.sim import attributes as at
from picojoule.sim.attributes import Op, RecurrentKind
from picojoule.sim.ir import Operand, TensorType
from picojoule.sim.numerics.aten_compute import Handler
from picojoule.sim.numerics.aten_layout import cut
from picojoule.sim.numerics.torch_types import operator_name

if TYPE_CHECKING:
    from picojoule.sim.numerics.torch_calls import Call

_ZEROS = frozenset({"zeros", "new_zeros", "zeros_like"})


def recurrent(kind: RecurrentKind) -> Handler:
    def handle(call: "Call") -> list[Operand | None]:
        if "batch_sizes" in call.arguments:
            call.refuse("a packed sequence")
        if call.value("train") and float(call.value("dropout", 0.0)):
            call.refuse("dropout that stays on in evaluation")
        call.seen("dropout", "train", "hx", "params")
        x, layers = call.operand("input"), int(call.value("num_layers"))
        directions = 2 if call.value("bidirectional") else 1
        first = bool(call.value("batch_first"))
        per_cell = 4 if call.value("has_biases") else 2
        params = [call.reader.operand(n) for n in call.arguments["params"]]
        if len(params) != layers * directions * per_cell:
            call.refuse("a projected state (proj_size)")
        given = call.arguments["hx"]
        states = given if isinstance(given, list | tuple) else [given]
        cells = [params[i : i + per_cell] for i in range(0, len(params), per_cell)]
        return stacked(call, kind, x, cells, layers, directions, list(states), time_axis=int(first))

    return handle


def stacked(
    call: "Call",
    kind: RecurrentKind,
    x: Operand,
    cells: list[list[Operand]],
    layers: int,
    directions: int,
    states: list[torch.fx.Node],
    time_axis: int,
) -> list[Operand | None]:
    """Return y, last h[, last c] of a stack of layers."""
    lasts: list[list[Operand]] = [[] for _ in states]
    starts = None if all(_is_zero(call, s) for s in states) else [call.reader.operand(s) for s in states]
    for layer in range(layers):
        outs = []
        for direction in range(directions):
            number = layer * directions + direction
            suffix = f"l{layer}" + ("_reverse" if direction else "")
            picked = [_state(call, s, number, f"{suffix}.start{i}") for i, s in enumerate(starts or [])]
            y, *last = _cell(call, kind, x, cells[number], picked, suffix, time_axis, reverse=bool(direction))
            outs.append(y)
            for held, value in zip(lasts, last, strict=True):
                held.append(value)
        x = outs[0]
        if directions == 2:
            x = call.inner(Op.CONCAT, outs, at.ConcatAttributes(axis=2), f"l{layer}.directions")
    made: list[Operand | None] = [x]
    for i, values in enumerate(lasts):
        made.append(_stack(call, values, f"last{i}") if call.used(i + 1) else None)
    return made


def _is_zero(call: "Call", node: torch.fx.Node) -> bool:
    name = operator_name(node.target) if node.op == "call_function" else ""
    if name in _ZEROS or (name in ("full", "new_full", "full_like") and float(node.args[-1]) == 0):  # type: ignore[arg-type]
        return True
    value = call.reader.known_value(node)
    return value is not None and not bool(value.any()) and call.reader.is_constant(node)


def _state(call: "Call", x: Operand, number: int, suffix: str) -> Operand:
    """Return row `number` of [layers * directions, batch, hidden]."""
    row = cut(call, x, 0, number, number + 1, suffix=f"{suffix}_row")
    axis = x.type.batch_axis
    return call.reshaped(row, TensorType(shape=x.shape[1:], batch_axis=axis if axis is None else axis - 1), suffix)


def _cell(
    call: "Call",
    kind: RecurrentKind,
    x: Operand,
    cell: list[Operand],
    states: list[Operand],
    suffix: str,
    time_axis: int,
    *,
    reverse: bool,
) -> tuple[Operand, ...]:
    weight, recurrent_weight, *biases = cell
    is_gru = kind is RecurrentKind.GRU
    inputs, rest = [x, weight], []
    if biases and is_gru:  # the reset gate multiplies the recurrent bias too, so it stays apart
        inputs, rest = [*inputs, biases[0]], [biases[1]]
    elif biases:
        name = f"{biases[0].name}+{biases[1].name.rpartition('.')[2]}"  # neither of them: nobody may write it back
        summed = call.reader.derived(biases, name, lambda values: values[0] + values[1])
        inputs = [*inputs, summed]
    gates = call.inner(Op.LINEAR, inputs, at.LinearAttributes(), f"{suffix}.input")
    attributes = at.RecurrentAttributes(
        kind=kind,
        hidden=recurrent_weight.shape[1],
        time_axis=time_axis,
        reverse=reverse,
        has_bias=bool(rest),
        has_state=bool(states),
    )
    operands = [gates, recurrent_weight, *rest, *states]
    return call.reader.builder.add(
        Op.RECURRENT, operands, attributes, name=f"{call.layer_name}.{suffix}", source=call.source
    )


def _stack(call: "Call", values: list[Operand], suffix: str) -> Operand:
    """Join [batch, hidden] states to [layers * directions, batch, hidden]."""
    axis = values[0].type.batch_axis
    thin = TensorType(shape=(1, *values[0].shape), batch_axis=None if axis is None else axis + 1)
    raised = [call.reshaped(v, thin, f"{suffix}.{i}") for i, v in enumerate(values)]
    return raised[0] if len(raised) == 1 else call.inner(Op.CONCAT, raised, at.ConcatAttributes(axis=0), suffix)


_MKLDNN_KINDS = {2: RecurrentKind.LSTM, 3: RecurrentKind.GRU}


def mkldnn(call: "Call") -> list[Operand | None]:
    """One direction of one layer as oneDNN computes it; what a decomposed program or a recording shows of an LSTM."""
    kind = _MKLDNN_KINDS.get(int(call.value("mode")))
    if kind is None or int(call.value("num_layers")) != 1 or call.value("bidirectional") or call.value("train"):
        call.refuse("a cell that is neither LSTM nor GRU, or training")
    call.seen("hidden_size", "batch_sizes", "batch_first", "train", "hx_", "cx_", "weight2", "weight3")
    x, keys = call.operand("input"), ["weight0", "weight1"]
    if call.value("has_biases"):
        keys += ["weight2", "weight3"]
    states = [call.arguments["hx_"], call.arguments["cx_"]][: 2 if kind is RecurrentKind.LSTM else 1]
    zero = all(_is_zero(call, s) for s in states)
    picked = [] if zero else [_row(call, call.reader.operand(s), f"start{i}") for i, s in enumerate(states)]
    cell = [call.operand(k) for k in keys]
    made = _cell(call, kind, x, cell, picked, "", 0, reverse=bool(call.value("reverse")))
    pairs = enumerate(zip(made[1:], call.types[1:], strict=False))
    lasts = [_raised(call, m, t, i) if call.used(i + 1) else None for i, (m, t) in pairs]
    return [made[0], *lasts, *[None] * (3 - len(lasts))]


def _row(call: "Call", x: Operand, suffix: str) -> Operand:
    if len(x.shape) == 2:
        return x
    axis = x.type.batch_axis
    return call.reshaped(x, TensorType(shape=x.shape[1:], batch_axis=axis if axis is None else axis - 1), suffix)


def _raised(call: "Call", x: Operand, kind: TensorType, number: int) -> Operand:
    return call.reshaped(x, kind, f"last{number}")
