"""Post-training quantisation by the format rule: a step for each activation that a MAC layer reads.

Ranges come from calibration data, which must be training data.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from picojoule.sim.attributes import MAC_OPS, Op, RecurrentAttributes
from picojoule.sim.errors import InputError
from picojoule.sim.formats import FormatKind, NumberFormat
from picojoule.sim.ir import Layer, Network, OperandKind
from picojoule.sim.numerics.float_recurrent import recurrent
from picojoule.sim.numerics.quantize import best_step
from picojoule.sim.protocol import Arithmetic
from picojoule.sim.recurrence import state_is_bounded

_SAMPLES_PER_BATCH = 1 << 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantizer:
    """Format and step of one activation."""

    format: NumberFormat
    step: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Quantisers of activations by (layer, value) name."""

    quantizers: Mapping[tuple[str, str], Quantizer] = field(default_factory=dict)


def calibrate(
    network: Network,
    batches: Iterable[Sequence[Tensor]],
    arithmetic: Callable[[Layer], Arithmetic],
    *,
    seed: int = 0,
) -> Calibration:
    """Run batches in floating point and choose each activation's step.

    An integer format becomes the unsigned one of the same width where calibration sees no negative value (after a ReLU), and
    the signed one where it does: hardware here has no zero points, and cutting negative values off would be no rounding. A
    step that the network states is kept with its format. The state of a recurrent layer is measured where nothing bounds it.

    Raises:
        InputError: if no batch is given, or a value is not finite.

    """
    from picojoule.sim.numerics.executor import Executor

    wanted = {layer.name: arithmetic(layer) for layer in network.layers if layer.op in MAC_OPS}
    samples: dict[str, list[Tensor]] = {}
    generator = torch.Generator().manual_seed(seed)

    states: dict[str, list[Tensor]] = {}
    seen: set[str] = set()  # values of the present batch that are sampled already

    def watch(layer: Layer, operands: Sequence[Tensor]) -> None:
        if layer.name not in wanted or wanted[layer.name].activation is None:
            return
        if isinstance(layer.attributes, RecurrentAttributes):
            if not state_is_bounded(layer.attributes):
                states.setdefault(layer.name, []).append(_subsample(_states(layer, operands), generator))
            return
        for operand, value in zip(layer.operands, operands, strict=True):
            if operand.kind is OperandKind.ACTIVATION and operand.name not in seen:
                seen.add(operand.name)
                samples.setdefault(operand.name, []).append(_subsample(value, generator))

    executor = Executor(network)
    count = 0
    with torch.no_grad():
        for batch in batches:
            seen.clear()
            executor.run(batch, watch=watch)
            count += 1
    if count == 0:
        raise InputError("calibration needs at least one batch of training data")
    return Calibration(quantizers=_choose(network, wanted, samples) | _choose_states(network, wanted, states))


def _subsample(value: Tensor, generator: torch.Generator) -> Tensor:
    flat = value.detach().reshape(-1).float()
    if flat.numel() <= _SAMPLES_PER_BATCH:
        return flat
    return flat[torch.randint(flat.numel(), (_SAMPLES_PER_BATCH,), generator=generator)]


def _choose(
    network: Network, wanted: Mapping[str, Arithmetic], samples: Mapping[str, list[Tensor]]
) -> dict[tuple[str, str], Quantizer]:
    chosen: dict[tuple[str, str], Quantizer] = {}
    known: dict[tuple[str, NumberFormat], Quantizer] = {}
    for layer in network.layers:
        form = wanted[layer.name].activation if layer.name in wanted else None
        if form is None or layer.op is Op.RECURRENT:
            continue
        for operand in layer.activations:
            stated = operand.step[0] if operand.step else None
            key = (operand.name, form)
            if stated is None and key in known:
                chosen[layer.name, operand.name] = known[key]
                continue
            values = _finite(layer, samples[operand.name])
            used = _signed_as(form, values) if stated is None else form  # a stated step belongs to the stated range
            step = stated if stated is not None else float(best_step(values, used))
            known[key] = chosen[layer.name, operand.name] = Quantizer(format=used, step=step)
    return chosen


def _choose_states(
    network: Network, wanted: Mapping[str, Arithmetic], states: Mapping[str, list[Tensor]]
) -> dict[tuple[str, str], Quantizer]:
    """Return the quantisers of recurrent states by (layer, first result)."""
    chosen: dict[tuple[str, str], Quantizer] = {}
    for layer in network.layers:
        form = wanted[layer.name].activation if layer.name in states else None
        if form is not None:
            values = _finite(layer, states[layer.name])
            used = _signed_as(form, values)
            chosen[layer.name, layer.results[0].name] = Quantizer(format=used, step=float(best_step(values, used)))
    return chosen


def _states(layer: Layer, operands: Sequence[Tensor]) -> Tensor:
    """Return every state that a recurrent layer multiplies: the given one and those it makes."""
    a = layer.attributes
    assert isinstance(a, RecurrentAttributes)
    made = recurrent(layer, operands, 1)[0].reshape(-1)
    return torch.cat([operands[2 + a.has_bias].reshape(-1), made]) if a.has_state else made


def _finite(layer: Layer, samples: list[Tensor]) -> Tensor:
    values = torch.cat(samples)
    if not bool(torch.isfinite(values).all()):
        raise InputError(f"layer '{layer.name}' reads NaN or infinite values during calibration; check the data")
    return values


def _signed_as(form: NumberFormat, values: Tensor) -> NumberFormat:
    """Return an integer format with a sign where values have one, and without where none has."""
    if form.kind is not FormatKind.INTEGER:
        return form
    signed = not bool((values >= 0).all())
    return form if signed == form.signed else replace(form, signed=signed, bits=max(form.bits, 2 if signed else 1))
