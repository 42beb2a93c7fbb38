"""One step of a recurrent layer beside its product: element-wise work, dependent products, the formats of its states.

The recurrent bias is added where every array layer's bias is, in the requantiser. Left out: starting from zero, which
would save the first product; peepholes, projections and clipped cells, which no importer makes.
"""

from dataclasses import replace

from picojoule.sim.attributes import RecurrentAttributes, RecurrentKind
from picojoule.sim.formats import FormatKind, NumberFormat
from picojoule.sim.technology import VectorOperation

_ADD, _MULTIPLY = VectorOperation.ADD, VectorOperation.MULTIPLY
_COMPARE, _TRANSCENDENTAL = VectorOperation.COMPARE, VectorOperation.TRANSCENDENTAL

CELL_OPERATIONS: dict[RecurrentKind, dict[VectorOperation, int]] = {
    # Four gate sums; f c + i g and o tanh(c); three sigmoids, two tanh.
    RecurrentKind.LSTM: {_ADD: 5, _MULTIPLY: 3, _TRANSCENDENTAL: 5},
    # Three gate sums, one of them with r times the product (or r times h before it); n + u (h - n); two sigmoids, one tanh.
    RecurrentKind.GRU: {_ADD: 5, _MULTIPLY: 2, _TRANSCENDENTAL: 3},
    RecurrentKind.RNN_TANH: {_ADD: 1, _TRANSCENDENTAL: 1},
    RecurrentKind.RNN_RELU: {_ADD: 1, _COMPARE: 1},
}
"""Lane operations per hidden unit, sample and step, counted from the cells' equations."""


def holds_cell_state(a: RecurrentAttributes) -> bool:
    """Whether a second state, c, goes from step to step."""
    return a.kind is RecurrentKind.LSTM


def dependent_products(a: RecurrentAttributes) -> int:
    """Return the products of one step that wait for each other: two where a GRU resets h before its last gate."""
    return 2 if a.kind is RecurrentKind.GRU and not a.reset_after else 1


def state_is_bounded(a: RecurrentAttributes) -> bool:
    """Whether |h| never exceeds 1: it starts at zero and every step ends in a tanh (times or mixed by sigmoids)."""
    return a.kind is not RecurrentKind.RNN_RELU and not a.has_state


def state_format(a: RecurrentAttributes, activation: NumberFormat) -> NumberFormat:
    """Return the format in which h enters the product: the layer's activation format, with a sign where h has one."""
    if activation.kind is FormatKind.INTEGER and not activation.signed and a.kind is not RecurrentKind.RNN_RELU:
        return replace(activation, signed=True, bits=max(2, activation.bits))
    return activation
