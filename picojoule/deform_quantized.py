"""W4A8 for the detector: fine-tuning with 4-bit weights and 8-bit activations, and its accuracy in integers.

Quantisers are those of `compress.lsq` (learned steps; weights per channel, activations per layer, symmetric), on every
convolution: the published engine computes all layers so (Huang et al. 2021, section 4). The convolution that makes offsets reads
what the deformable one reads, with the same step, since both read the same buffer.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils.hooks import RemovableHandle

from picojoule.compress.coupling import weighted
from picojoule.compress.lsq import LearnedStep
from picojoule.compress.plan import ActivationPlan, LayerPlan, Plan, WeightPlan, apply_plan
from picojoule.deform_training import Fitted, TrainingSettings, fit, training_scenes
from picojoule.models.centre_net import OFFSET_LAYER, example_inputs
from picojoule.networks import prepared
from picojoule.sim.formats import Granularity, integer_format
from picojoule.sim.ir import Layer, Network
from picojoule.sim.numerics.calibration import calibrate
from picojoule.sim.numerics.deform_module import DeformConv2d
from picojoule.sim.numerics.executor import Executor
from picojoule.sim.numerics.quantize import best_step
from picojoule.sim.numerics.torch_importer import from_module
from picojoule.sim.protocol import Arithmetic, OffsetArithmetic

WEIGHT_BITS, ACTIVATION_BITS = 4, 8
_ACCUMULATOR_BITS = 24  # section 4.2 of the paper: partial sums of 16 to 24 bits
_CALIBRATION = 128
_VALUES = 1 << 15


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Quantized:
    """The model with weights on their 4-bit grids, the plan with formats and steps by module path, and its history."""

    model: nn.Module
    plans: Mapping[str, LayerPlan]
    fitted: Fitted


def quantize(model: nn.Module, settings: TrainingSettings, *, seed: int) -> Quantized:
    """Return a copy of a trained detector, fine-tuned at W4A8; the epoch with the best validation AP50 is kept."""
    made = copy.deepcopy(model).eval()
    places = {p: m for p, m in made.named_modules() if isinstance(m, nn.Conv2d | DeformConv2d)}
    inputs = _inputs(made, places, torch.tensor(training_scenes(settings.train_scenes, seed).images[:_CALIBRATION]))
    hooks, steps = [], {}
    for path, module in places.items():
        on_weight, on_input = _attach(module, inputs[path], offsets=path.endswith(OFFSET_LAYER))
        steps[path] = (on_weight, on_input)
        if on_input is not None:
            hooks.append(module.register_forward_pre_hook(_round_input))
    fitted = fit(made, settings, seed=seed, epochs=settings.quantized_epochs, lr=settings.quantized_lr)
    plans = {path: _plan(path, steps) for path in places}
    for hook in hooks:
        hook.remove()
    for path, module in places.items():
        parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
        if steps[path][1] is not None:
            del module._input_step
    return Quantized(model=made.eval(), plans=plans, fitted=fitted)


def _inputs(model: nn.Module, places: Mapping[str, nn.Module], images: Tensor) -> dict[str, Tensor]:
    """Return a sample of what each module reads, with its extremes."""
    found: dict[str, Tensor] = {}

    def recorder(path: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(_: nn.Module, args: tuple[Any, ...]) -> None:
            values = args[0].detach().flatten()
            ends = torch.stack([values.min(), values.max()])
            found[path] = torch.cat([values[:: max(1, values.numel() // _VALUES)], ends])

        return hook

    hooks: list[RemovableHandle] = [m.register_forward_pre_hook(recorder(p)) for p, m in places.items()]
    with torch.no_grad():
        model(images)
    for handle in hooks:
        handle.remove()
    return found


def _attach(module: nn.Module, values: Tensor, *, offsets: bool) -> tuple[LearnedStep, LearnedStep | None]:
    weight = module.weight
    assert isinstance(weight, Tensor)
    form = integer_format(WEIGHT_BITS, per=Granularity.CHANNEL)
    start = best_step(weight, form, 0)
    on_weight = LearnedStep(form, start, weight.numel() // start.numel())
    parametrize.register_parametrization(module, "weight", on_weight)
    if offsets:
        return on_weight, None
    form = integer_format(ACTIVATION_BITS, signed=bool(values.min() < 0))
    on_input = LearnedStep(form, best_step(values, form).reshape(()), values.numel())
    module.add_module("_input_step", on_input)
    return on_weight, on_input


def _round_input(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    return (module._input_step(args[0]), *args[1:])  # type: ignore[operator]


def _plan(path: str, steps: Mapping[str, tuple[LearnedStep, LearnedStep | None]]) -> LayerPlan:
    on_weight = steps[path][0]
    on_input = steps[path][1] or steps[path.removesuffix(f".{OFFSET_LAYER}")][1]
    assert on_input is not None
    sizes = tuple(float(s) for s in on_weight.step().detach().flatten())
    return LayerPlan(
        weight=WeightPlan(format=str(on_weight.form), per="channel", step=sizes),
        activation=ActivationPlan(format=str(on_input.form), step=float(on_input.step().detach())),
    )


def network_of(model: nn.Module, plans: Mapping[str, LayerPlan] | None = None, *, name: str = "centre-net") -> Network:
    """Return the detector's workload, batch norms folded, with the formats and steps of a quantised one."""
    network = from_module(model, example_inputs(batch=2), name=name)
    if plans is not None:
        entries = {y.name: plans[_path(y)] for y in network.layers if weighted(y) and _path(y) in plans}
        network = apply_plan(network, Plan(layers=entries))
    return prepared(network)


def _path(layer: Layer) -> str:
    return layer.operands[1].name.removesuffix(".weight")


def engine_arithmetic(layer: Layer, weight_bits: int = WEIGHT_BITS) -> Arithmetic:
    """Return how the published engine computes: int4 (or so) by int8 in 24-bit accumulators, with whole offsets.

    Formats that the network states (unsigned ones after a ReLU) are kept.
    """
    return Arithmetic(
        weight=layer.operands[1].format or integer_format(weight_bits, per=Granularity.CHANNEL),
        activation=layer.operands[0].format or integer_format(ACTIVATION_BITS),
        accumulator_bits=_ACCUMULATOR_BITS,
        offsets=OffsetArithmetic(),
    )


def in_integers(
    network: Network, images: Tensor, arithmetic: Callable[[Layer], Arithmetic] = engine_arithmetic
) -> Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]:
    """Return a function from images to maps that computes as the hardware does; steps not stated come from `images`."""
    calibration = calibrate(network, [(images,)], arithmetic)
    executor = Executor(network, arithmetic=arithmetic, calibration=calibration)

    def run(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        heat, size, offset = executor.run((x,))
        return heat, size, offset

    return run
