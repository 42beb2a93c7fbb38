"""MAC layers in hardware arithmetic: quantise, multiply as the hardware does, scale back.

Integer codes are multiplied exactly (float32 where every partial sum stays below 2^24, else float64, below 2^53), or by the
hardware's own product where that differs. Accumulators wrap around; the requantiser then adds the bias. A recurrent layer does
so in every step with its quantised state; gates, cells and what they return are real numbers.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from picojoule.sim.attributes import ConvAttributes, DeformConvAttributes, Op, RecurrentAttributes
from picojoule.sim.errors import InputError, UnsupportedError
from picojoule.sim.formats import FormatKind, Granularity, NumberFormat
from picojoule.sim.ir import Layer, OperandKind
from picojoule.sim.numerics import float_ops
from picojoule.sim.numerics.calibration import Calibration, Quantizer
from picojoule.sim.numerics.deform import deform_conv2d, hardware_offsets
from picojoule.sim.numerics.float_recurrent import run_cells
from picojoule.sim.numerics.float_windows import conv
from picojoule.sim.numerics.mac_layout import (
    channel_axis,
    multiply,
    reduction_axis,
    through_hardware,
    weight_channel_axis,
    weight_matrices,
)
from picojoule.sim.numerics.quantize import best_step, block_float, cast_float, codes, power_of_two, round_ste, wrap
from picojoule.sim.numerics.straight_through import carrying_gradient
from picojoule.sim.protocol import Arithmetic, IntegerProduct
from picojoule.sim.recurrence import state_format, state_is_bounded

_BIAS_FRACTION = 256
"""Biases are held in 1/256 of an accumulator unit: the requantiser adds them after its multiplication, which has bits to
spare. In whole units, which are coarse at few bits, a 2-bit network would lose most of its accuracy to them."""


class MacEngine:
    """Computes MAC layers; keeps programmed weight matrices while no gradients are asked for."""

    def __init__(self, calibration: Calibration) -> None:
        self.calibration = calibration
        self._programmed: dict[str, list[IntegerProduct]] = {}
        self._weights: dict[str, tuple[Tensor, Tensor]] = {}

    def compute(self, layer: Layer, operands: Sequence[Tensor], batch: int, arithmetic: Arithmetic) -> list[Tensor]:
        """Return the layer's result in the given arithmetic.

        Raises:
            InputError: if an activation was never calibrated.
            UnsupportedError: for formats this arithmetic has no meaning for.

        """
        weight_form, activation_form = arithmetic.weight, arithmetic.activation
        assert weight_form is not None and activation_form is not None
        if layer.op is Op.RECURRENT:
            return self._recurrent(layer, operands, arithmetic, weight_form, activation_form)
        if not (weight_form.is_integer and activation_form.is_integer):
            return self._rounded(layer, operands, batch, weight_form, activation_form)
        if layer.op is Op.MATMUL and layer.operands[1].kind is OperandKind.ACTIVATION:
            return [self._dynamic(layer, operands, arithmetic)]
        if layer.op is Op.DEFORM_CONV:
            operands = [*operands[:2], hardware_offsets(layer, operands[2], arithmetic.offsets), *operands[3:]]
        x, step_x = self._activation(layer, 0, operands[0])
        w, step_w = self._weight(layer, operands[1], weight_form)
        bias = operands[2] if len(operands) > 2 and layer.op is not Op.DEFORM_CONV else None
        products = self._products(layer, w, arithmetic)
        if products is None:
            exact_type = self._exact_type(layer, w, x)
            y = self._exact(layer, x.to(exact_type), w.to(exact_type), operands)
        else:
            y = self._hardware(layer, x, w, products)
            if torch.is_grad_enabled():
                # Straight through the hardware's errors. Tried instead with narrow offset, flip and differential converters: no
                # gradient where an error exceeds the product's spread, and a product refitted to the hardware's; neither won
                # everywhere.
                y = carrying_gradient(y, self._exact(layer, x, w, operands))
        unit = step_x * self._per_output(layer, step_w, y.dim())
        if layer.op is Op.DEFORM_CONV:
            assert isinstance(layer.attributes, DeformConvAttributes)
            bias = operands[-1] if layer.attributes.has_bias else None
        y = _wrapped(y, arithmetic)
        if bias is not None:
            y = y + _bias(bias.reshape([-1 if i == channel_axis(layer, y.dim()) else 1 for i in range(y.dim())]), unit)
        return [(y * unit).to(operands[0].dtype)]

    def _recurrent(
        self,
        layer: Layer,
        operands: Sequence[Tensor],
        arithmetic: Arithmetic,
        weight: NumberFormat,
        activation: NumberFormat,
    ) -> list[Tensor]:
        """Run the cells with their state quantised in every step, through one programmed matrix."""
        a = layer.attributes
        assert isinstance(a, RecurrentAttributes)
        if not (weight.is_integer and activation.is_integer):
            turned = _rounded_to(layer, 1, operands[1], weight, 0).transpose(0, 1)
            return run_cells(layer, operands, lambda h: _rounded_to(layer, 0, h, activation, None) @ turned)
        quantizer = self._state(layer, a, activation)
        form, step_h = quantizer.format, torch.tensor(quantizer.step, dtype=operands[0].dtype)
        w, step_w = self._weight(layer, operands[1], weight)
        products = self._products(layer, w, arithmetic)
        largest = float(w.detach().abs().sum(1).max()) * max(form.qmax, -form.qmin)
        turned = w.transpose(0, 1).to(torch.float32 if largest < 2**24 else torch.float64)
        unit = step_h * step_w.reshape(-1)

        def product(h: Tensor) -> Tensor:
            x = codes(h, step_h, form)
            if products is None:
                y = x.to(turned.dtype) @ turned
            else:
                y = multiply(products[0], x.detach().transpose(0, 1), form.signed).transpose(0, 1)
                if torch.is_grad_enabled():
                    y = carrying_gradient(y, x @ w.transpose(0, 1))
            return (_wrapped(y, arithmetic) * unit).to(h.dtype)

        given = list(operands)
        if a.has_bias:
            given[2] = _bias(operands[2], unit) * unit
        return run_cells(layer, given, product)

    def _state(self, layer: Layer, a: RecurrentAttributes, activation: NumberFormat) -> Quantizer:
        """Return how a recurrent layer's state is quantised: by calibration, or over the range it cannot leave."""
        found = self.calibration.quantizers.get((layer.name, layer.results[0].name))
        if found is not None:
            return found
        if not state_is_bounded(a):
            raise InputError(
                f"layer '{layer.name}': its hidden state was never calibrated, and with a ReLU cell or a given initial state "
                "nothing bounds it, so its integer step is unknown; calibrate with training data"
            )
        form = state_format(a, activation)
        return Quantizer(format=form, step=1.0 / form.qmax)

    # --- operands ---------------------------------------------------------------------------------------------------

    def _activation(self, layer: Layer, position: int, value: Tensor) -> tuple[Tensor, Tensor]:
        quantizer = self._quantizer(layer, position)
        step = torch.tensor(quantizer.step, dtype=value.dtype)
        return codes(value, step, quantizer.format), step

    def _quantizer(self, layer: Layer, position: int) -> Quantizer:
        operand = layer.operands[position]
        found = self.calibration.quantizers.get((layer.name, operand.name))
        if found is None and operand.step is not None and operand.format is not None:  # as the network states it
            return Quantizer(format=operand.format, step=operand.step[0])
        if found is None:
            raise InputError(
                f"layer '{layer.name}': its input was never calibrated, so its integer step is unknown; "
                "calibrate with training data"
            )
        return found

    def _weight(self, layer: Layer, value: Tensor, form: NumberFormat) -> tuple[Tensor, Tensor]:
        """Return integer codes and the step, shaped to broadcast against the weight."""
        if not torch.is_grad_enabled() and layer.name in self._weights:
            return self._weights[layer.name]
        operand = layer.operands[1]
        axis = weight_channel_axis(layer)
        if operand.step is not None:
            shape = [-1 if i == axis else 1 for i in range(value.dim())]
            step = torch.tensor(operand.step, dtype=value.dtype).reshape(
                shape if len(operand.step) > 1 else [1] * value.dim()
            )
        else:
            step = best_step(value, form, axis if form.per is Granularity.CHANNEL else None)
        made = codes(value, step, form), step
        if not torch.is_grad_enabled():
            self._weights[layer.name] = made
        return made

    def _products(self, layer: Layer, w: Tensor, arithmetic: Arithmetic) -> list[IntegerProduct] | None:
        """Return the hardware's product per group, or None where it is exact."""
        if arithmetic.program is None:
            return None
        if torch.is_grad_enabled() or layer.name not in self._programmed:
            matrices = weight_matrices(layer, w.detach()).numpy()
            made = [arithmetic.place(np.rint(m).astype(np.int64), i) for i, m in enumerate(matrices)]
            if torch.is_grad_enabled():
                return None if all(p.exact for p in made) else made
            self._programmed[layer.name] = made
        held = self._programmed[layer.name]
        return None if all(p.exact for p in held) else held

    @staticmethod
    def _exact_type(layer: Layer, w: Tensor, x: Tensor) -> torch.dtype:
        """Return float32 where every partial sum is exact in it (below 2^24), else float64."""
        axis = weight_channel_axis(layer) or 0
        per_output = w.detach().abs().sum([i for i in range(w.dim()) if i != axis], dtype=torch.float64).max()
        return torch.float32 if float(per_output) * float(x.detach().abs().max()) < 2**24 else torch.float64

    # --- products ---------------------------------------------------------------------------------------------------

    @staticmethod
    def _exact(layer: Layer, x: Tensor, w: Tensor, operands: Sequence[Tensor]) -> Tensor:
        a = layer.attributes
        if isinstance(a, ConvAttributes):
            if a.transposed:
                return conv(a, x.double(), w.double(), None)
            return conv(a, x, w, None)
        if isinstance(a, DeformConvAttributes):
            extra = [t.to(x.dtype) for t in operands[2 : 4 if a.has_mask else 3]]
            return deform_conv2d(x, w, extra[0], extra[1] if a.has_mask else None, None, a)
        return x @ w.transpose(0, 1) if layer.op is Op.LINEAR else x @ w

    def _hardware(self, layer: Layer, x: Tensor, w: Tensor, products: list[IntegerProduct]) -> Tensor:
        return through_hardware(layer, x.detach(), w, products, self._quantizer(layer, 0).format.signed)

    def _dynamic(self, layer: Layer, operands: Sequence[Tensor], arithmetic: Arithmetic) -> Tensor:
        """Multiply two activations in integers (a digital unit: exact)."""
        (x, step_x), (y, step_y) = (self._activation(layer, i, operands[i]) for i in (0, 1))
        product = x.double() @ y.double()
        if arithmetic.accumulator_bits is not None:
            product = wrap(product, arithmetic.accumulator_bits)
        return (product * (step_x * step_y)).to(operands[0].dtype)

    def _rounded(
        self, layer: Layer, operands: Sequence[Tensor], batch: int, weight: NumberFormat, activation: NumberFormat
    ) -> list[Tensor]:
        """Compute in floating point on operands rounded to their (float, block float, power-of-two) formats."""
        rounded = list(operands)
        rounded[1] = _rounded_to(layer, 1, operands[1], weight, weight_channel_axis(layer))
        if activation.is_integer:
            made, step = self._activation(layer, 0, operands[0])
            rounded[0] = made * step
        else:
            rounded[0] = _rounded_to(layer, 0, operands[0], activation, None)
        return float_ops.compute(layer, rounded, batch)

    @staticmethod
    def _per_output(layer: Layer, step: Tensor, rank: int) -> Tensor:
        """Reshape a weight's step to broadcast against the result."""
        if step.numel() == 1:
            return step.reshape(())
        return step.reshape([-1 if i == channel_axis(layer, rank) else 1 for i in range(rank)])


def _wrapped(y: Tensor, arithmetic: Arithmetic) -> Tensor:
    """Return sums as accumulators of the hardware's width hold them."""
    bits = arithmetic.accumulator_bits
    if bits is None or float(y.detach().abs().max()) < 2.0 ** (bits - 1):
        return y
    return wrap(y, bits)


def _bias(bias: Tensor, unit: Tensor) -> Tensor:
    """Return a bias in accumulator units, rounded as the requantiser holds it."""
    return round_ste(bias / unit * _BIAS_FRACTION) / _BIAS_FRACTION


def _rounded_to(layer: Layer, position: int, value: Tensor, form: NumberFormat, channel: int | None) -> Tensor:
    """Return an operand's values rounded to a format, with one step per index of the axis `channel` where the format has that.

    Raises:
        UnsupportedError: for formats without a rounding rule here.

    """
    if form.kind is FormatKind.FLOAT:
        return cast_float(value, form)
    if form.kind is FormatKind.POWER_OF_TWO:
        return power_of_two(value, value.detach().abs().max().clamp(min=1e-12), form)
    if form.kind is FormatKind.BLOCK_FLOAT:
        return block_float(value, form, *reduction_axis(layer, position))
    if form.is_integer:
        step = best_step(value, form, channel if form.per is Granularity.CHANNEL else None)
        return codes(value, step, form) * step
    raise UnsupportedError(f"layer '{layer.name}': format {form} cannot be executed here; use integer or float")
