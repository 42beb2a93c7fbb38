"""Number formats in ONNX: integers through QuantizeLinear and DequantizeLinear, half floats as such with a cast.

Weights are int4, int8 or int16 initializers behind DequantizeLinear, activations pass through both operators. Codes are those
that the executor computes with (`numerics.quantize`): a weight's step is the stated one, else the one of least squared error.
Widths that ONNX lacks lie in the next container, with a Clip of the codes of activations to the range of the format, as signed
formats here leave out the most negative code; weights' codes are in range already. Formats without an ONNX spelling (block
float, codebook, powers of two, other floats) and activations whose step nobody knows stay float32, with a remark.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from picojoule.sim.attributes import MAC_OPS, QuantizeAttributes
from picojoule.sim.errors import InputError
from picojoule.sim.exporters.onnx_graph import OnnxGraph
from picojoule.sim.formats import BF16, FP16, FormatKind, Granularity, NumberFormat
from picojoule.sim.ir import Layer, Operand, OperandKind

Array = NDArray[Any]
Change = Callable[[Array], Array]
"""Another arrangement of a tensor, such as its transpose."""


class OperandWriter:
    """Writes operands: reads stored values, quantises, and keeps each form of a tensor once."""

    def __init__(self, graph: OnnxGraph) -> None:
        self.graph = graph
        self._stored: dict[tuple[Any, ...], str] = {}
        self._rounded: dict[tuple[Any, ...], str] = {}
        self._handles: list[Any] = []  # keeps handles alive, so that an id() means one of them
        self._from_quantizer = {
            r.name for y in graph.network.layers if isinstance(y.attributes, QuantizeAttributes) for r in y.results
        }

    def name(self, layer: Layer, position: int) -> str:
        """Return the ONNX name of an operand, with its format applied."""
        operand = layer.operands[position]
        if operand.kind is not OperandKind.ACTIVATION:
            return self.stored(layer, position)
        name = self.graph.names[operand.name]
        return self._activation(operand, name) if layer.op in MAC_OPS and operand.format is not None else name

    # --- activations ------------------------------------------------------------------------------------------------

    def _activation(self, operand: Operand, name: str) -> str:
        form = operand.format
        assert form is not None
        key = (name, form, operand.step)
        if key not in self._rounded:
            self._rounded[key] = self._round(operand, name, form)
        return self._rounded[key]

    def _round(self, operand: Operand, name: str, form: NumberFormat) -> str:
        graph = self.graph
        if form.kind is FormatKind.FLOAT and form.bits == 32:
            return name
        if _same_numbers(form, FP16) or _same_numbers(form, BF16):
            return graph.real(graph.cast(name, "float16" if form.exponent_bits == 5 else "bfloat16"))
        if form.kind is not FormatKind.INTEGER or form.bits > 16:
            graph.remark(f"what these read should be rounded to {form}, which ONNX cannot say; it stays float32")
            return name
        if operand.name in self._from_quantizer:
            return name
        if operand.step is None:
            graph.remark(
                f"what these read should be rounded to {form}, but its step is unknown; it stays float32 "
                "(calibrate with training data)"
            )
            return name
        dtype = ("int" if form.signed else "uint") + ("8" if form.bits <= 8 else "16")
        step = graph.constant(np.float32(operand.step[0]), name="step")
        return fake_quantize(graph, name, step, None, dtype, (form.qmin, form.qmax), None)

    # --- stored values ----------------------------------------------------------------------------------------------

    def stored(
        self, layer: Layer, position: int, change: Change | None = None, label: str = "", axis_after: int | None = None
    ) -> str:
        """Return the name of a stored operand, in another arrangement if `change` says so (`label` tells them apart).

        `axis_after` is where the axis of output channels lies after the change.
        """
        operand = layer.operands[position]
        key = (operand.name, id(operand.weights), operand.format, operand.step, label)
        if key not in self._stored:
            self._handles.append(operand.weights)
            values = self.values(operand)
            values = np.asarray(values, dtype=np.float32) if values.dtype.kind == "f" else values
            self._stored[key] = self._write(layer, position, values, change or (lambda v: v), axis_after)
        return self._stored[key]

    def values(self, operand: Operand) -> Array:
        """Return stored values, whatever their precision as float32."""
        if operand.weights is None:
            raise InputError(
                f"{self.graph.network.name}: '{operand.name}' has no values, and an ONNX file needs them; give weights, or "
                "export to .json or .csv"
            )
        values = np.asarray(operand.weights.array())
        return values.astype(np.float32) if values.dtype.name in ("float16", "float64", "bfloat16") else values

    def _write(self, layer: Layer, position: int, values: Array, change: Change, axis_after: int | None) -> str:
        graph, operand = self.graph, layer.operands[position]
        form = operand.format
        if form is None or values.dtype != np.float32 or operand.kind is not OperandKind.PARAMETER:
            return graph.initializer(change(values), operand.name)
        if form.is_integer and form.bits <= 16:
            return self._integers(layer, position, values, form, change, axis_after)
        if form.kind is FormatKind.FLOAT:
            return self._floats(operand, values, form, change)
        if form.kind is FormatKind.POWER_OF_TWO:
            graph.remark(f"weights are rounded to {form} and held as float32")
            return graph.initializer(change(_power_of_two(values, form)), operand.name)
        graph.remark(f"weights in {form}, which ONNX cannot say, are held as the float32 values they have")
        return graph.initializer(change(values), operand.name)

    def _floats(self, operand: Operand, values: Array, form: NumberFormat, change: Change) -> str:
        import torch

        from picojoule.sim.numerics.quantize import cast_float

        graph = self.graph
        rounded = change(cast_float(torch.from_numpy(values.copy()), form).numpy())
        if _same_numbers(form, FP16):
            return graph.real(graph.initializer(rounded.astype(np.float16), operand.name))
        if _same_numbers(form, BF16):
            bits = (np.ascontiguousarray(rounded).view(np.uint32) >> 16).astype("<u2")  # exact: rounded already
            tensor = onnx.TensorProto(data_type=onnx.TensorProto.BFLOAT16, dims=rounded.shape, raw_data=bits.tobytes())
            return graph.real(graph.store(tensor, operand.name, "bfloat16"))
        if form.bits < 32:
            graph.remark(f"weights are rounded to {form} and held as float32")
        return graph.initializer(rounded, operand.name)

    def _integers(
        self, layer: Layer, position: int, values: Array, form: NumberFormat, change: Change, axis_after: int | None
    ) -> str:
        graph, operand = self.graph, layer.operands[position]
        axis = _channel_axis(layer, position)
        codes, step = integer_codes(values, form, operand.step, axis)
        arranged = change(codes)
        name = operand.name
        if form.bits <= 4:
            tensor = packed_int4(arranged, signed=form.signed)
            stored = graph.store(tensor, name, "int4" if form.signed else "uint4")
        else:
            dtype = ("int" if form.signed else "uint") + ("8" if form.bits <= 8 else "16")
            stored = graph.initializer(arranged.astype(dtype), name)
        if step.size == 1:
            scale = graph.initializer(step.reshape(()), f"{name}.step")
            return graph.emit("DequantizeLinear", [stored, scale], dtype="float32")
        place = axis if axis_after is None else axis_after
        whole = np.broadcast_to(step, values.shape)  # arranged like the codes, then one number per channel
        moved = np.moveaxis(change(whole), place or 0, 0)
        per_channel = moved.reshape(moved.shape[0], -1)[:, 0]
        scale = graph.initializer(per_channel, f"{name}.step")
        return graph.emit("DequantizeLinear", [stored, scale], dtype="float32", axis=place)


def _same_numbers(form: NumberFormat, other: NumberFormat) -> bool:
    return (form.kind, form.exponent_bits, form.mantissa_bits) == (other.kind, other.exponent_bits, other.mantissa_bits)


def _channel_axis(layer: Layer, position: int) -> int | None:
    from picojoule.sim.numerics.mac_layout import weight_channel_axis

    return weight_channel_axis(layer) if position == 1 and layer.op in MAC_OPS else 0


def integer_codes(
    values: Array, form: NumberFormat, step: tuple[float, ...] | None, axis: int | None
) -> tuple[Array, Array]:
    """Return a weight's integer codes and its step (float32), shaped to broadcast against the values."""
    import torch

    from picojoule.sim.numerics.quantize import best_step, codes

    tensor = torch.from_numpy(values.copy())
    if step is None:
        size = best_step(tensor, form, axis if form.per is Granularity.CHANNEL else None)
    elif len(step) == 1:
        size = torch.tensor(step, dtype=torch.float32).reshape([1] * tensor.dim())
    else:
        size = torch.tensor(step, dtype=torch.float32).reshape([-1 if i == axis else 1 for i in range(tensor.dim())])
    made: Array = codes(tensor, size, form).numpy().astype(np.int32)
    return made, size.numpy()


def _power_of_two(values: Array, form: NumberFormat) -> Array:
    import torch

    from picojoule.sim.numerics.quantize import power_of_two

    tensor = torch.from_numpy(values.copy())
    made: Array = power_of_two(tensor, tensor.abs().max().clamp(min=1e-12), form).numpy()
    return made


def packed_int4(codes: Array, *, signed: bool) -> Any:
    """Return a TensorProto of 4-bit integers, two to a byte, the first in the low half (onnx.proto)."""
    flat = codes.reshape(-1).astype(np.int8).view(np.uint8) & 0x0F
    flat = np.append(flat, np.zeros(flat.size % 2, np.uint8))
    kind = onnx.TensorProto.INT4 if signed else onnx.TensorProto.UINT4
    return onnx.TensorProto(data_type=kind, dims=codes.shape, raw_data=(flat[::2] | flat[1::2] << 4).tobytes())


def fake_quantize(
    graph: OnnxGraph, name: str, step: str, zero: str | None, dtype: str, limits: tuple[int, int], axis: int | None
) -> str:
    """Return a value rounded to codes of `dtype` within `limits`, times its step."""
    codes = quantize(graph, name, step, zero, dtype, limits, axis)
    inputs = [codes, step] if zero is None else [codes, step, zero]
    return graph.emit("DequantizeLinear", inputs, dtype="float32", axis=axis)


def quantize(
    graph: OnnxGraph, name: str, step: str, zero: str | None, dtype: str, limits: tuple[int, int], axis: int | None
) -> str:
    """Return integer codes of a value: rounded, then clipped where the container is wider than the limits."""
    info = np.iinfo(np.dtype(dtype))
    narrow = limits != (int(info.min), int(info.max))
    value = graph.real(name)
    if narrow and info.bits > 8:  # runtimes clip 8-bit codes only; before rounding, limits are multiples of the step
        low, high = (graph.emit("Mul", [step, graph.constant(np.float32(v), name="limit")]) for v in limits)
        value, narrow = graph.emit("Clip", [value, low, high]), False
    if zero is None:
        shape = [d for t in graph.initializers if t.name == step for d in t.dims]
        zero = graph.constant(np.zeros(shape, dtype), name="zero")
    codes = graph.emit("QuantizeLinear", [value, step, zero], dtype=dtype, axis=axis)
    if narrow:
        low, high = (graph.constant(np.array(v, dtype), name="limit") for v in limits)
        codes = graph.emit("Clip", [codes, low, high])
    return codes
