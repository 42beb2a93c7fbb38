"""How fake quantisers and quantise/dequantise nodes become number formats.

On parameters they are folded into the values, and state the operand's format and step. On activations they are layers that
cost nothing (whoever writes the value writes it narrow): the value they hand on states its format, and its step where the
zero point is 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from picojoule.sim import attributes as at
from picojoule.sim.attributes import MAC_OPS, Op, PoolAttributes, PoolKind, QuantizeKind
from picojoule.sim.formats import Granularity, NumberFormat, integer_format
from picojoule.sim.ir import Layer, Operand
from picojoule.sim.numerics.torch_types import module_path, operator_name

if TYPE_CHECKING:
    from picojoule.sim.numerics.torch_calls import Call
    from picojoule.sim.numerics.torch_reader import Reader

_KEEP_FORMAT = frozenset(
    {
        "view",
        "reshape",
        "_unsafe_view",
        "clone",
        "contiguous",
        "detach",
        "alias",
        "to",
        "unsqueeze",
        "squeeze",
        "_to_copy",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantizer:
    """Range of codes, and the arguments that hold scale and zero point (nodes or numbers); `axis` per channel."""

    low: int
    high: int
    scale: Any
    zero_point: Any
    axis: int | None = None


def code_format(low: int, high: int, *, per_channel: bool = False) -> NumberFormat:
    """Return the narrowest integer format that holds the codes `low` to `high`."""
    signed = low < 0
    bits = max(max(high, -low - 1 if signed else 0).bit_length() + signed, 2 if signed else 1)
    return integer_format(bits, signed=signed, per=Granularity.CHANNEL if per_channel else Granularity.TENSOR)


def quantizer_of(node: fx.Node) -> Quantizer | None:
    """Return what a node quantises to; None for other operators."""
    from picojoule.sim.numerics.torch_calls import arguments_of

    if node.op != "call_function":
        return None
    name, a = operator_name(node.target), arguments_of(node)
    low, high = (int(a.get(k) or 0) for k in ("quant_min", "quant_max"))
    match name:
        case "fake_quantize_per_tensor_affine" | "fake_quantize_per_tensor_affine_cachemask":
            return Quantizer(low=low, high=high, scale=a["scale"], zero_point=a["zero_point"])
        case "_fake_quantize_per_tensor_affine_cachemask_tensor_qparams":
            return Quantizer(low=low, high=high, scale=a["scale"], zero_point=a["zero_point"])
        case "fake_quantize_per_channel_affine" | "fake_quantize_per_channel_affine_cachemask":
            return Quantizer(low=low, high=high, scale=a["scale"], zero_point=a["zero_point"], axis=int(a["axis"]))
        case "fused_moving_avg_obs_fake_quant" | "_fused_moving_avg_obs_fq_helper":
            axis = int(a["ch_axis"]) if a["per_row_fake_quant"] else None
            return Quantizer(low=low, high=high, scale=a["scale"], zero_point=a["zero_point"], axis=axis)
        case "quantized_decomposed::quantize_per_tensor" | "quantized_decomposed::dequantize_per_tensor":
            return Quantizer(low=low, high=high, scale=a["scale"], zero_point=a["zero_point"])
        case "quantized_decomposed::quantize_per_channel" | "quantized_decomposed::dequantize_per_channel":
            return Quantizer(low=low, high=high, scale=a["scales"], zero_point=a["zero_points"], axis=int(a["axis"]))
        case _:
            return None


def stated_format(reader: "Reader", node: fx.Node) -> tuple[NumberFormat | None, tuple[float, ...] | None]:
    """Return format and step that a fake quantiser states for a folded parameter; (None, None) where there is none."""
    current = node
    while operator_name(current.target) in _KEEP_FORMAT and isinstance(current.args[0], fx.Node):
        current = current.args[0]
    if getattr(current.target, "__name__", "") == "getitem" and isinstance(current.args[0], fx.Node):
        current = current.args[0]
    found = quantizer_of(current)
    if found is None:
        return None, None
    form = code_format(found.low, found.high, per_channel=found.axis is not None)
    shown = node.meta["val"].dim() if node is not current else None
    if found.axis not in (None, 0) and shown is not None:
        return form, None
    zero, scale = (_values(reader, v) for v in (found.zero_point, found.scale))
    if zero is None or scale is None:
        return form, None
    if any(zero):
        return _without_zero_point(reader, module_path(node) or node.name, form), None
    return form, tuple(scale)


def _without_zero_point(reader: "Reader", name: str, form: NumberFormat) -> NumberFormat:
    """Return the signed format of the same width: codes around a zero point stand for values of both signs."""
    signed = replace(form, signed=True, bits=max(form.bits, 2))
    reader.builder.note(
        f"'{name}' is quantised with a zero point; integer hardware here has none and takes it as {signed}"
    )
    return signed


def _values(reader: "Reader", given: Any) -> list[float] | None:
    if isinstance(given, fx.Node):
        value = reader.known_value(given)
        return None if value is None else [float(v) for v in value.reshape(-1)]
    return [float(given)]


def fake(call: "Call") -> Any:
    """Add a fake quantiser on an activation."""
    found = quantizer_of(call.node)
    assert found is not None
    if call.name in ("fused_moving_avg_obs_fake_quant", "_fused_moving_avg_obs_fq_helper"):
        observing, quantising = (call.fixed_value(k) for k in ("observer_on", "fake_quant_on"))
        if observing is None or bool(observing.any()):
            call.refuse("an observer that is still on: disable it (torch.ao.quantization.disable_observer)")
        if quantising is not None and not bool(quantising.any()):
            for key in call.arguments:
                call.seen(key)
            return _first(call, call.operand("self"))
    if call.has("fake_quant_enabled"):
        enabled = call.fixed_value("fake_quant_enabled")
        if enabled is not None and not bool(enabled.any()):
            for key in call.arguments:
                call.seen(key)
            return _first(call, call.operand("self"))
    return _first(call, _layer(call, found, QuantizeKind.FAKE, call.operand("self")))


def _first(call: "Call", made: Operand) -> Any:
    value = call.node.meta["val"]
    return [made, *[None] * (len(value) - 1)] if isinstance(value, list | tuple) else made


def quantize(kind: QuantizeKind) -> Any:
    """Half of a quantiser: to codes, or from codes."""

    def handle(call: "Call") -> Operand:
        found = quantizer_of(call.node)
        assert found is not None
        return _layer(call, found, kind, call.operand("input"))

    return handle


def _layer(call: "Call", found: Quantizer, kind: QuantizeKind, x: Operand) -> Operand:
    for key in call.arguments:
        call.seen(key)
    reader = call.reader
    form = code_format(found.low, found.high)
    zero = _values(reader, found.zero_point)
    if zero is None or any(zero):
        form = _without_zero_point(reader, call.layer_name, form)
    given = call.arguments[call.first("self", "input")]
    if kind is not QuantizeKind.DEQUANTIZE and len(given.users) == 1:
        x = replace(x, format=form)  # whoever makes it writes it narrow
    operands = [x, _parameter(call, found.scale, "scale")]
    has_zero = zero is None or any(zero)
    if has_zero:
        operands.append(_parameter(call, found.zero_point, "zero_point"))
    attributes = at.QuantizeAttributes(
        kind=kind, low=found.low, high=found.high, axis=found.axis, has_zero_point=has_zero
    )
    steps = _values(reader, found.scale)
    made = call.add(Op.QUANTIZE, operands, attributes, types=call.types[:1], formats=[form])[0]
    if kind is not QuantizeKind.QUANTIZE and not has_zero and steps is not None and len(steps) == 1:
        reader.steps[made.name] = steps[0]
    return made


def _parameter(call: "Call", given: Any, name: str) -> Operand:
    if isinstance(given, fx.Node):
        return call.reader.operand(given)
    return (
        call.number(name, given) if isinstance(given, int) else call.constant(name, lambda: torch.tensor(float(given)))
    )


_MOVES = frozenset({Op.RESHAPE, Op.TRANSPOSE, Op.SPLIT, Op.SLICE, Op.EXPAND})


def with_steps(layers: Sequence[Layer], steps: Mapping[str, float]) -> list[Layer]:
    """Return the layers with the stated format and step on what multiply-accumulate layers read.

    Operators that only move or pick values keep both.
    """
    known: dict[str, tuple[NumberFormat | None, float]] = {}
    made = []
    for layer in layers:
        for result in layer.results:
            if result.name in steps:
                known[result.name] = (result.format, steps[result.name])
        a = layer.attributes
        keeps = layer.op in _MOVES or (isinstance(a, PoolAttributes) and a.kind is PoolKind.MAX)
        if keeps and layer.operands[0].name in known:
            known.update((r.name, known[layer.operands[0].name]) for r in layer.results)
        if layer.op in MAC_OPS and any(o.name in known for o in layer.activations):
            operands = (
                replace(o, format=known[o.name][0], step=(known[o.name][1],)) if o.name in known else o
                for o in layer.operands
            )
            layer = replace(layer, operands=tuple(operands))
        made.append(layer)
    return made
