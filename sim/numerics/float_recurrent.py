"""Recurrent layers, step by step: LSTM (Hochreiter and Schmidhuber 1997), GRU (Cho et al. 2014) and the plain cell.

The product with the hidden state is a function that comes in, so that hardware arithmetic can take its place.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from picojoule.sim import attributes as at
from picojoule.sim.attributes import RecurrentKind
from picojoule.sim.ir import Layer

Product = Callable[[Tensor], Tensor]
"""From a state [batch, hidden] to its product with the recurrent weight, [batch, gates * hidden]."""


def recurrent(layer: Layer, x: Sequence[Tensor], batch: int) -> list[Tensor]:
    """Return y of every step and the last states."""
    transposed = x[1].transpose(0, 1)
    return run_cells(layer, x, lambda h: h @ transposed)


def run_cells(layer: Layer, x: Sequence[Tensor], product: Product) -> list[Tensor]:
    """Return y of every step and the last states, with `product` for the recurrent weight; the bias is added here."""
    a = layer.attributes
    assert isinstance(a, at.RecurrentAttributes)
    rest = list(x[2:])
    bias = rest.pop(0) if a.has_bias else torch.zeros(())
    gates = x[0].transpose(0, 1) if a.time_axis == 1 else x[0]
    zero = gates.new_zeros(gates.shape[1], a.hidden)
    h = _state(rest.pop(0), zero) if a.has_state else zero
    c = _state(rest.pop(0), zero) if a.has_state and a.kind is RecurrentKind.LSTM else zero
    made: list[Tensor] = []
    for z in reversed(gates.unbind(0)) if a.reverse else gates.unbind(0):
        match a.kind:
            case RecurrentKind.LSTM:
                i, f, g, o = (z + product(h) + bias).chunk(4, -1)
                c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
                h = torch.sigmoid(o) * torch.tanh(c)
            case RecurrentKind.GRU:
                h = _gru(a, z, h, bias, product)
            case RecurrentKind.RNN_TANH:
                h = torch.tanh(z + product(h) + bias)
            case RecurrentKind.RNN_RELU:
                h = torch.relu(z + product(h) + bias)
        made.append(h)
    y = torch.stack(made[::-1] if a.reverse else made, dim=a.time_axis)
    return [y, h, c] if a.kind is RecurrentKind.LSTM else [y, h]


def _gru(a: at.RecurrentAttributes, z: Tensor, h: Tensor, bias: Tensor, product: Product) -> Tensor:
    x_ru, x_n = z[:, : 2 * a.hidden], z[:, 2 * a.hidden :]
    p = product(h) + bias
    reset, update = torch.sigmoid(x_ru + p[:, : 2 * a.hidden]).chunk(2, -1)
    if a.reset_after:
        new = torch.tanh(x_n + reset * p[:, 2 * a.hidden :])
    else:
        new = torch.tanh(x_n + (product(reset * h) + bias)[:, 2 * a.hidden :])
    return (1 - update) * new + update * h


def _state(value: Tensor, like: Tensor) -> Tensor:
    """Return an initial state for the whole batch; a fixed one serves every sample."""
    return value.repeat(len(like) // len(value), 1) if len(value) != len(like) else value
