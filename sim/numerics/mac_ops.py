"""MAC layers in hardware arithmetic: quantise, multiply as the hardware does, scale back.

Integer codes are multiplied exactly (float32 where every partial sum stays below 2^24, else float64, below 2^53), or by the
hardware's own product where that differs. Accumulators wrap around; the requantiser then adds the bias.
"""

from collections.abc import Sequence
from math import prod

import numpy as np
import torch
from torch import Tensor

from picojoule.sim.attributes import ConvAttributes, DeformConvAttributes, Op
from picojoule.sim.errors import InputError, UnsupportedError
from picojoule.sim.formats import FormatKind, Granularity, NumberFormat
from picojoule.sim.ir import Layer, OperandKind
from picojoule.sim.numerics import float_ops
from picojoule.sim.numerics.calibration import Calibration, Quantizer
from picojoule.sim.numerics.deform import deform_conv2d
from picojoule.sim.numerics.quantize import best_step, cast_float, codes, power_of_two, round_ste, wrap
from picojoule.sim.protocol import Arithmetic, IntegerProduct

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
        if not (weight_form.is_integer and activation_form.is_integer):
            return self._rounded(layer, operands, batch, weight_form, activation_form)
        if layer.op is Op.MATMUL and layer.operands[1].kind is OperandKind.ACTIVATION:
            return [self._dynamic(layer, operands, arithmetic)]
        x, step_x = self._activation(layer, 0, operands[0])
        w, step_w = self._weight(layer, operands[1], weight_form)
        bias = operands[2] if len(operands) > 2 and layer.op is not Op.DEFORM_CONV else None
        exact_type = self._exact_type(layer, w, x)
        products = self._products(layer, w, arithmetic)
        if products is None:
            y = self._exact(layer, x.to(exact_type), w.to(exact_type), operands)
        else:
            y = self._hardware(layer, x, w, products, operands)
            if torch.is_grad_enabled():
                smooth = self._exact(layer, x.to(torch.float64), w.to(torch.float64), operands)
                y = smooth + (y - smooth).detach()
        unit = step_x * self._per_output(layer, step_w, y.dim())
        if layer.op is Op.DEFORM_CONV:
            assert isinstance(layer.attributes, DeformConvAttributes)
            bias = operands[-1] if layer.attributes.has_bias else None
        if arithmetic.accumulator_bits is not None:
            limit = 2.0 ** (arithmetic.accumulator_bits - 1)
            if float(y.detach().abs().max()) >= limit:
                y = wrap(y, arithmetic.accumulator_bits)
        if bias is not None:
            shaped = bias.reshape([-1 if i == _channel_axis(layer, y.dim()) else 1 for i in range(y.dim())])
            y = y + round_ste(shaped / unit * _BIAS_FRACTION) / _BIAS_FRACTION
        return [(y * unit).to(operands[0].dtype)]

    # --- operands ---------------------------------------------------------------------------------------------------

    def _activation(self, layer: Layer, position: int, value: Tensor) -> tuple[Tensor, Tensor]:
        quantizer = self._quantizer(layer, position)
        step = torch.tensor(quantizer.step, dtype=value.dtype)
        return codes(value, step, quantizer.format), step

    def _quantizer(self, layer: Layer, position: int) -> Quantizer:
        found = self.calibration.quantizers.get((layer.name, layer.operands[position].name))
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
            matrices = _weight_matrices(layer, w.detach()).numpy()
            made = [arithmetic.program(np.rint(m).astype(np.int64)) for m in matrices]
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
                return float_ops.conv(a, x.double(), w.double(), None)
            return float_ops.conv(a, x, w, None)
        if isinstance(a, DeformConvAttributes):
            extra = [t.to(x.dtype) for t in operands[2 : 4 if a.has_mask else 3]]
            return deform_conv2d(x, w, extra[0], extra[1] if a.has_mask else None, None, a)
        return x @ w.transpose(0, 1) if layer.op is Op.LINEAR else x @ w

    def _hardware(
        self, layer: Layer, x: Tensor, w: Tensor, products: list[IntegerProduct], operands: Sequence[Tensor]
    ) -> Tensor:
        """Return the product through the hardware, group by group, as float64 integers."""
        a, x = layer.attributes, x.detach()
        signed = self._quantizer(layer, 0).format.signed
        if isinstance(a, ConvAttributes) and a.transposed:
            return _transposed_conv(a, x, tuple(w.shape), products, signed)
        if isinstance(a, ConvAttributes):
            columns, space = im2col(a, x, tuple(w.shape[2:]))
            rows = torch.cat([_matmul(p, c, signed) for p, c in zip(products, columns, strict=True)])
            return rows.reshape(w.shape[0], x.shape[0], *space).movedim(0, 1)
        if isinstance(a, DeformConvAttributes):
            raise UnsupportedError(
                f"layer '{layer.name}': sampled inputs are not integers, so this hardware cannot take them"
            )
        flat = x.reshape(-1, x.shape[-1])
        y = _matmul(products[0], flat.transpose(0, 1), signed).transpose(0, 1)
        return y.reshape(*x.shape[:-1], -1)

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
        for position, form in ((0, activation), (1, weight)):
            value = rounded[position]
            if form.kind is FormatKind.FLOAT:
                rounded[position] = cast_float(value, form)
            elif form.kind is FormatKind.POWER_OF_TWO:
                rounded[position] = power_of_two(value, value.detach().abs().max().clamp(min=1e-12), form)
            elif form.is_integer and position == 1:
                step = best_step(value, form, weight_channel_axis(layer) if form.per is Granularity.CHANNEL else None)
                rounded[position] = codes(value, step, form) * step
            elif form.is_integer:
                made, step = self._activation(layer, 0, value)
                rounded[position] = made * step
            else:
                raise UnsupportedError(
                    f"layer '{layer.name}': format {form} cannot be executed here; use integer or float"
                )
        return float_ops.compute(layer, rounded, batch)

    @staticmethod
    def _per_output(layer: Layer, step: Tensor, rank: int) -> Tensor:
        """Reshape a weight's step to broadcast against the result."""
        if step.numel() == 1:
            return step.reshape(())
        return step.reshape([-1 if i == _channel_axis(layer, rank) else 1 for i in range(rank)])


def _matmul(product: IntegerProduct, columns: Tensor, signed: bool) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(product.matmul(columns.contiguous().numpy(), signed=signed)))


def _channel_axis(layer: Layer, rank: int) -> int:
    return 1 if layer.op in (Op.CONV, Op.DEFORM_CONV) else rank - 1


def weight_channel_axis(layer: Layer) -> int | None:
    """Return the axis of a layer's weights that counts output channels; None where groups mix them."""
    a = layer.attributes
    if isinstance(a, ConvAttributes) and a.transposed:
        return 1 if a.groups == 1 else None
    return len(layer.operands[1].shape) - 1 if layer.op is Op.MATMUL else 0


def _weight_matrices(layer: Layer, w: Tensor) -> Tensor:
    """Return the weights as [groups, out, in] matrices, one per group."""
    a = layer.attributes
    if isinstance(a, ConvAttributes) and a.transposed:  # [in, out/g, *kernel] -> [g, out/g * kernel, in/g]
        return w.reshape(a.groups, w.shape[0] // a.groups, prod(w.shape[1:])).transpose(1, 2)
    if isinstance(a, ConvAttributes | DeformConvAttributes):
        return w.reshape(a.groups, w.shape[0] // a.groups, prod(w.shape[1:]))
    return (w.transpose(0, 1) if layer.op is Op.MATMUL else w).unsqueeze(0)


def im2col(a: ConvAttributes, x: Tensor, kernel: tuple[int, ...]) -> tuple[Tensor, tuple[int, ...]]:
    """Return the windows as [groups, in/groups * kernel, batch * pixels], and the output space."""
    rank = len(kernel)
    x = torch.nn.functional.pad(x, float_ops._asymmetric(a.padding_begin, a.padding_end))
    space = []
    for i in range(rank):  # axis 2 + 2i becomes (window position, tap)
        axis = 2 + 2 * i
        count = (x.shape[axis] - a.dilation[i] * (kernel[i] - 1) - 1) // a.stride[i] + 1
        index = torch.arange(count)[:, None] * a.stride[i] + torch.arange(kernel[i])[None, :] * a.dilation[i]
        x = x.index_select(axis, index.reshape(-1))
        x = x.reshape(*x.shape[:axis], count, kernel[i], *x.shape[axis + 1 :])
        space.append(count)
    positions, taps = [2 + 2 * i for i in range(rank)], [3 + 2 * i for i in range(rank)]
    x = x.permute(1, *taps, 0, *positions)
    return x.reshape(a.groups, x.shape[0] // a.groups * prod(kernel), -1), tuple(space)


def _transposed_conv(
    a: ConvAttributes, x: Tensor, w_shape: tuple[int, ...], products: list[IntegerProduct], signed: bool
) -> Tensor:
    """Multiply each input pixel by all taps, then add the taps where they land."""
    rank, kernel, out = len(a.stride), w_shape[2:], w_shape[1] * a.groups
    batch, space = x.shape[0], tuple(x.shape[2:])
    pixels = x.movedim(1, 0).reshape(a.groups, x.shape[1] // a.groups, -1)
    columns = torch.cat([_matmul(p, c, signed) for p, c in zip(products, pixels, strict=True)])
    columns = columns.reshape(out, prod(kernel), batch, *space)
    extra = a.output_padding or (0,) * rank
    full = [(s - 1) * a.stride[i] + a.dilation[i] * (kernel[i] - 1) + 1 + extra[i] for i, s in enumerate(space)]
    y = torch.zeros((batch, out, *full), dtype=torch.float64)
    for tap in range(prod(kernel)):
        place: list[int] = []
        rest = tap
        for size in reversed(kernel):
            rest, digit = divmod(rest, size)
            place.insert(0, digit)
        where = [
            slice(p * a.dilation[i], p * a.dilation[i] + (space[i] - 1) * a.stride[i] + 1, a.stride[i])
            for i, p in enumerate(place)
        ]
        y[(slice(None), slice(None), *where)] += columns[:, tap].movedim(0, 1)
    cut = [slice(b, y.shape[2 + i] - e) for i, (b, e) in enumerate(zip(a.padding_begin, a.padding_end, strict=True))]
    return y[(slice(None), slice(None), *cut)]
