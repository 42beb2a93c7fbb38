"""Post-training quantisation by the format rule: a step for each activation that a MAC layer reads.

Ranges come from calibration data, which must be training data.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from picojoule.sim.attributes import MAC_OPS
from picojoule.sim.errors import InputError
from picojoule.sim.formats import FormatKind, NumberFormat
from picojoule.sim.ir import Layer, Network, OperandKind
from picojoule.sim.numerics.quantize import best_step
from picojoule.sim.protocol import Arithmetic

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

    A signed integer format becomes the unsigned one of the same width where calibration sees no negative value (after a
    ReLU), as integer hardware does; a step that the network states is kept.

    Raises:
        InputError: if no batch is given, or a value is not finite.

    """
    from picojoule.sim.numerics.executor import Executor

    wanted = {layer.name: arithmetic(layer) for layer in network.layers if layer.op in MAC_OPS}
    samples: dict[str, list[Tensor]] = {}
    generator = torch.Generator().manual_seed(seed)

    seen: set[str] = set()  # values of the present batch that are sampled already

    def watch(layer: Layer, operands: Sequence[Tensor]) -> None:
        if layer.name not in wanted or wanted[layer.name].activation is None:
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
    return Calibration(quantizers=_choose(network, wanted, samples))


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
        if form is None:
            continue
        for operand in layer.activations:
            stated = operand.step[0] if operand.step else None
            key = (operand.name, form)
            if stated is None and key in known:
                chosen[layer.name, operand.name] = known[key]
                continue
            values = torch.cat(samples[operand.name])
            if not bool(torch.isfinite(values).all()):
                raise InputError(
                    f"layer '{layer.name}' reads NaN or infinite values during calibration; check the data"
                )
            used = _unsigned(form, values) if stated is None else form  # a stated step belongs to the stated range
            step = stated if stated is not None else float(best_step(values, used))
            known[key] = chosen[layer.name, operand.name] = Quantizer(format=used, step=step)
    return chosen


def _unsigned(form: NumberFormat, values: Tensor) -> NumberFormat:
    if form.kind is FormatKind.INTEGER and form.signed and bool((values >= 0).all()):
        return replace(form, signed=False)
    return form
