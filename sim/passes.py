"""Rewrites of a network that every accelerator wants: batch norm folded into its convolution, formats filled in.

Each takes a network and returns another; nothing is changed in place.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from picojoule.sim.attributes import (
    MAC_OPS,
    VIEW_OPS,
    ConvAttributes,
    DeformConvAttributes,
    NormAttributes,
    NormKind,
    Op,
    PoolAttributes,
    PoolKind,
    QuantizeAttributes,
    QuantizeKind,
)
from picojoule.sim.errors import InputError
from picojoule.sim.formats import NumberFormat, integer_format
from picojoule.sim.ir import Layer, Network, Operand, OperandKind, Result, TensorType
from picojoule.sim.weights import Weights

if TYPE_CHECKING:
    import torch

BIAS_FORMAT = integer_format(32)
"""Biases and other one-dimensional parameters are held at accumulator width."""


def fold_batch_norm(network: Network) -> Network:
    """Return the network with each batch norm merged into the convolution or linear layer that alone feeds it.

    y = s (W x + b - mean) / sqrt(var + eps) + shift becomes one layer with W' = W g, b' = (b - mean) g + shift and
    g = s / sqrt(var + eps). Gradients still reach all of them through the weights' `origin`. Batch norms elsewhere stay.
    A known weight step becomes step |g| per output channel, so the integer codes stay those that were learned (with their
    signs turned where g is negative).
    """
    makers = {r.name: i for i, layer in enumerate(network.layers) for r in layer.results}
    consumers = network.consumers()
    layers: list[Layer | None] = list(network.layers)
    for i, layer in enumerate(network.layers):
        norm = layer.attributes
        if not isinstance(norm, NormAttributes) or norm.kind is not NormKind.BATCH:
            continue
        source = layer.operands[0].name
        j = makers.get(source, -1)
        before = layers[j] if j >= 0 else None
        if (
            before is None
            or not _foldable(before)
            or not _same_channels(before, layer)
            or len(consumers[source]) > 1
            or source in network.outputs
        ):
            continue
        if any(o.weights is None for o in (*_weights(before), *layer.operands[1:])):
            continue
        a = before.attributes
        layers[j] = replace(
            before,
            operands=_folded(before, layer, norm.epsilon),
            results=layer.results,
            attributes=replace(a, has_bias=True) if isinstance(a, DeformConvAttributes) else a,
        )
        layers[i] = None
    kept = tuple(layer for layer in layers if layer is not None)
    return replace(network, layers=kept, original_parameters=network.parameters)


def _foldable(layer: Layer) -> bool:
    a = layer.attributes
    if isinstance(a, ConvAttributes) and a.transposed and a.groups > 1:
        return False
    return layer.op in (Op.CONV, Op.LINEAR, Op.DEFORM_CONV) and layer.operands[1].kind is OperandKind.PARAMETER


def _weights(layer: Layer) -> tuple[Operand, ...]:
    """Return a layer's filter and, where it has one, its bias (which a deformable convolution has behind offsets and mask)."""
    a = layer.attributes
    if isinstance(a, DeformConvAttributes):
        return (layer.operands[1], *layer.operands[3 + a.has_mask :])
    return layer.operands[1:]


def _same_channels(before: Layer, norm: Layer) -> bool:
    """Whether the norm's channels (axis 1) are the layer's output channels: a linear layer has them last."""
    return before.op is not Op.LINEAR or len(norm.operands[0].shape) == 2


def _folded(before: Layer, norm: Layer, epsilon: float) -> tuple[Operand, ...]:
    weight, *held = _weights(before)
    bias = held[0] if held else None
    scale, shift, mean, variance = norm.operands[1:5]
    a = before.attributes
    axis = 1 if isinstance(a, ConvAttributes) and a.transposed else 0
    shape = tuple(-1 if i == axis else 1 for i in range(len(weight.shape)))

    def gain() -> NDArray[np.float64]:
        with np.errstate(all="ignore"):  # what becomes infinite or NaN is refused with the other weights
            return _load(scale) / np.sqrt(_load(variance) + epsilon)

    def load_weight() -> NDArray[np.generic]:
        with np.errstate(all="ignore"):
            return (_load(weight) * gain().reshape(shape)).astype(np.float32)

    def load_bias() -> NDArray[np.generic]:
        start = _load(bias) if bias else 0.0
        with np.errstate(all="ignore"):
            return ((start - _load(mean)) * gain() + _load(shift)).astype(np.float32)

    # The same operations in the same precision as above: what is priced and stored equals, bit for bit, what is run.
    def gain_tensor() -> "torch.Tensor":
        return _tensor(scale) / (_tensor(variance) + epsilon).sqrt()

    def weight_tensor() -> "torch.Tensor":
        return (_tensor(weight) * gain_tensor().reshape(shape)).float()

    def bias_tensor() -> "torch.Tensor":
        start = _tensor(bias) if bias else 0.0
        return ((start - _tensor(mean)) * gain_tensor() + _tensor(shift)).float()

    note = weight.weights.note if weight.weights else "file"
    handle = Weights(shape=weight.shape, load=load_weight, origin=weight_tensor, note=note)
    new_weight = replace(weight, weights=handle, **_folded_step(weight, gain() if weight.step is not None else None))
    channels = (weight.shape[axis],)
    new_bias = Operand(
        kind=OperandKind.PARAMETER,
        name=bias.name if bias else f"{weight.name}.folded_bias",
        type=TensorType(shape=channels),
        weights=Weights(shape=channels, load=load_bias, origin=bias_tensor, note=note),
    )
    moving = before.operands[2 : 3 + a.has_mask] if isinstance(a, DeformConvAttributes) else ()
    return (before.operands[0], new_weight, *moving, new_bias)


def _folded_step(weight: Operand, gain: NDArray[np.float64] | None) -> dict[str, Any]:
    """Return step and format of a weight multiplied by a gain per channel; a gain of zero leaves any step valid."""
    if weight.step is None or gain is None:
        return {"step": None}
    factor = np.where(gain == 0, 1.0, np.abs(gain))
    step = np.broadcast_to(np.array(weight.step, dtype=np.float64), gain.shape) * factor
    form = weight.format
    if form is not None and not form.signed and (gain < 0).any():
        form = replace(form, signed=True, bits=form.bits + 1)  # its codes change sign
    return {"step": tuple(float(s) for s in step), "format": form.per_channel() if form is not None else None}


def _load(operand: Operand) -> NDArray[np.float64]:
    assert operand.weights is not None
    return np.asarray(operand.weights.array(), dtype=np.float64)


def _tensor(operand: Operand) -> "torch.Tensor":
    import torch

    handle = operand.weights
    assert handle is not None
    return (handle.origin() if handle.origin else torch.from_numpy(np.array(handle.array()))).double()


def fill_formats(network: Network, weight: NumberFormat, activation: NumberFormat) -> tuple[Network, bool]:
    """Return the network with every format set, and whether any format of a MAC operand had to be assumed.

    A value is stored in the format its first reader wants (hardware requantises when it writes). Integer tensors such as
    indices keep no format of their own and are priced like activations.
    """
    wanted = _wanted_formats(network)
    assumed = False

    def of_value(result: Result) -> Result:
        return replace(result, format=wanted.get(result.name) or result.format or activation)

    values: dict[str, NumberFormat] = {}
    inputs = tuple(of_value(r) for r in network.inputs)
    values.update((r.name, r.format or activation) for r in inputs)
    layers = []
    for layer in network.layers:
        if layer.op in MAC_OPS:
            assumed = assumed or any(o.format is None for o in layer.operands[:2])
        operands = tuple(_filled(i, o, weight, values.get(o.name, activation)) for i, o in enumerate(layer.operands))
        results = tuple(of_value(r) for r in layer.results)
        values.update((r.name, r.format or activation) for r in results)
        layers.append(replace(layer, operands=operands, results=results))
    return replace(network, inputs=inputs, layers=tuple(layers)), assumed


_KEEP_VALUES = frozenset({Op.ACTIVATION, Op.RESHAPE, Op.TRANSPOSE, Op.CONCAT, Op.SPLIT, Op.SLICE, Op.EXPAND, Op.PAD})
"""Operators whose operands may be stored as narrowly as their result: they move values, or (activations) run where the value
is made."""
_LOOK_UP = frozenset({Op.EMBEDDING, Op.GATHER})
"""Operators that do so with their first operand; the others are indices."""


def _wanted_formats(network: Network) -> dict[str, NumberFormat]:
    """Return the format each value is wanted in: by its first reader, or by whoever reads it further on unchanged."""
    wanted: dict[str, NumberFormat] = {}
    for layer in network.layers:
        for operand in layer.activations:
            if operand.format:
                wanted.setdefault(operand.name, operand.format)
    consumers = network.consumers()
    for layer in reversed(network.layers):
        form = next((wanted[r.name] for r in layer.results if r.name in wanted), None)
        for operand in _kept(layer):
            if form and len(consumers[operand.name]) == 1 and operand.name not in network.outputs:
                wanted.setdefault(operand.name, form)
    return wanted


def _kept(layer: Layer) -> tuple[Operand, ...]:
    """Return the activations whose values a layer hands on."""
    a = layer.attributes
    first = tuple(o for o in layer.operands[:1] if o.kind is OperandKind.ACTIVATION)
    if layer.op in _LOOK_UP or (layer.op is Op.QUANTIZE and moves_nothing(layer)):
        return first
    keeps = layer.op in _KEEP_VALUES or (isinstance(a, PoolAttributes) and a.kind is PoolKind.MAX)
    return layer.activations if keeps else ()


def moves_nothing(layer: Layer) -> bool:
    """Whether a layer costs nothing: a view, or a change of format, since whoever writes a value writes it in its format."""
    a = layer.attributes
    return layer.op in VIEW_OPS or (isinstance(a, QuantizeAttributes) and a.kind is not QuantizeKind.DYNAMIC)


def _filled(position: int, operand: Operand, weight: NumberFormat, activation: NumberFormat) -> Operand:
    if operand.format is not None:
        return operand
    if operand.kind is OperandKind.ACTIVATION:
        return replace(operand, format=activation)
    one_dimensional = len(operand.shape) <= 1 or position >= 2
    return replace(operand, format=BIAS_FORMAT if one_dimensional else weight)


def check_weights(network: Network) -> None:
    """Refuse a network with NaN or infinite weights.

    Raises:
        InputError: naming the layer and the parameter.

    """
    seen: set[str] = set()
    for layer in network.layers:
        for operand in layer.operands:
            if operand.weights is None or operand.name in seen:
                continue
            seen.add(operand.name)
            fixed = operand.kind is OperandKind.CONSTANT  # may hold infinities: an attention mask does
            if not (operand.weights.finite() or (fixed and not np.isnan(operand.weights.array()).any())):
                raise InputError(
                    f"{network.name}: layer '{layer.name}': {operand.kind} '{operand.name}' holds NaN or infinite values; "
                    "every weight must be finite"
                )


def result_bytes(value: Result | Operand, batch: int) -> int:
    """Return the bytes of a value or operand for `batch` samples, rounded up (its format must be filled in)."""
    bits = value.format.stored_bits if value.format else 32.0
    return -(-int(value.type.elements(batch) * bits) // 8)
