"""Quantisation-aware training with learned steps (LSQ, Esser et al. 2020, arXiv:1902.08153; symmetric weights, no offsets).

Each convolution and linear layer rounds its weights and its input to integers times a step; steps learn with the weights by
LSQ's gradient (section 2.1), scaled by 1 / sqrt(N qmax) (section 2.2, N: weights, or features of one sample). Departures:
weight codes are symmetric, -(2^(b-1) - 1) ... 2^(b-1) - 1, as `formats.NumberFormat` has them; steps start at the least squared
error instead of 2 mean|x| / sqrt(qmax), which a short training needs; weights may have a step per output channel.
Inputs are unsigned where calibration sees no negative value. Offsets (LSQ+, arXiv:2004.09576) are left out.
"""

import copy
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils.hooks import RemovableHandle

from picojoule.compress.coupling import weighted
from picojoule.compress.method import CompressionArtifact
from picojoule.compress.plan import ActivationPlan, LayerPlan, Plan, WeightPlan, apply_plan
from picojoule.models.data import Dataset, Split
from picojoule.sim.errors import InputError
from picojoule.sim.formats import Granularity, NumberFormat, integer_format, parse_format
from picojoule.sim.ir import Network
from picojoule.sim.numerics.deform_module import DeformConv2d
from picojoule.sim.numerics.quantize import best_step, codes
from picojoule.sim.numerics.torch_importer import from_module
from picojoule.sim.signals import CostSignal
from picojoule.sim.specs import Spec
from picojoule.training import accuracy, one_thread, train

_log = logging.getLogger("picojoule.compress.lsq")

_SMALLEST_STEP = 1e-8
_CALIBRATION_SAMPLES = 256
_VALUES_PER_LAYER = 1 << 16

_LAYERS = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear, DeformConv2d,
)  # fmt: skip


class LsqConfig(Spec):
    """Settings of LSQ."""

    weight_bits: int = Field(default=4, ge=2, le=8)
    activation_bits: int = Field(default=4, ge=2, le=8)
    first_last_bits: int | None = Field(
        default=8,
        ge=2,
        le=8,
        description="bits of the first and last layer; None: as the others (section 2.3 of the paper: 8)",
    )
    per: Literal["tensor", "channel"] = Field(default="channel", description="what shares a weight step")
    epochs: int = Field(default=3, ge=0)
    lr: float = Field(default=1e-3, gt=0)
    step_lr: float = Field(
        default=1.0, gt=0, description="learning rate of steps relative to the step's own size and lr"
    )
    optimizer: Literal["adam", "sgd"] = "adam"
    batch_size: int = Field(default=64, ge=2)
    weight_decay: float = Field(default=1e-4, ge=0)
    seed: int = Field(default=0, ge=0)


class LearnedStep(nn.Module):
    """Rounds to integers times a learned step; the step is `start` times a learned factor, so one rate suits all widths."""

    start: Tensor

    def __init__(self, form: NumberFormat, start: Tensor, elements: int) -> None:
        super().__init__()
        self.form = form
        self.gradient_scale = 1 / math.sqrt(max(1, elements) * form.qmax)
        self.register_buffer("start", start.detach().clone())
        self.factor = nn.Parameter(torch.ones_like(self.start))

    def step(self) -> Tensor:
        """Return the step, with gradients."""
        return (self.start * self.factor).clamp(min=_SMALLEST_STEP)

    def forward(self, x: Tensor) -> Tensor:
        """Return x rounded; gradients of LSQ's equation 3 follow from straight-through rounding of clamp(x / step)."""
        exact = self.step()
        scaled = exact * self.gradient_scale
        step = scaled + (exact - scaled).detach()
        return codes(x, step, self.form) * step


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """A layer to quantise: its module, its names in the network (several where a module is used twice), and its channels.

    `reader`: whose input step it uses, its own as a rule; the convolutions inside a deformable one read what that reads.
    """

    path: str
    reader: str
    layers: tuple[str, ...]
    module: nn.Module
    channel_axis: int
    bits: tuple[int, int]


class Lsq:
    """Learned step size quantisation."""

    config_type = LsqConfig

    def fit(
        self, model: nn.Module, data: Dataset, signal: CostSignal | None, config: LsqConfig
    ) -> tuple[nn.Module, CompressionArtifact]:
        """Return the model with quantised weights, and the plan with formats and steps that reproduces its integers.

        The returned model's activations are floating point; `with_activation_steps` adds the plan's rounding, and the
        executor computes the integers themselves.

        Raises:
            InputError: if there is no layer to quantise.

        """
        model = copy.deepcopy(model).eval()
        network = from_module(model, (torch.tensor(data.train.images[:2]),))
        places = _places(model, network, config)
        inputs = _inputs(model, places, data.train)
        places = [p for p in places if p.path in inputs]
        if not places:
            raise InputError(f"{network.name} has no convolution or linear module to quantise")
        held, hooks = _attach(places, inputs, config)
        history: list[Mapping[str, Any]] = []

        def on_epoch(record: Mapping[str, float]) -> None:
            correct, count = accuracy(model, data.val)
            history.append({"phase": "quantised training", **record, "val_accuracy": correct / count})
            _log.info("epoch %d: loss %.4f, val %.4f", record["epoch"], record["loss"], correct / count)

        train(
            model, data.train, epochs=config.epochs, lr=config.lr, batch_size=config.batch_size, seed=config.seed,
            optimizer=config.optimizer, groups=_parameter_groups(model, config), on_epoch=on_epoch,
        )  # fmt: skip
        plan = _plan(places, held, config)
        for hook in hooks:
            hook.remove()
        for place in places:
            parametrize.remove_parametrizations(place.module, "weight", leave_parametrized=True)
        notes = [
            f"{len(places)} layers quantised to {config.weight_bits}-bit weights, {config.activation_bits}-bit inputs"
        ]
        if signal is not None:
            cost = signal.price(apply_plan(network, plan)) / signal.price(network)
            notes.append(f"{signal.metric} ({signal.hardware}) is {cost:.4f} of the original's")
        return model.eval(), CompressionArtifact(plan=plan, history=tuple(history), notes=tuple(notes))


def with_activation_steps(model: nn.Module, plan: Plan) -> nn.Module:
    """Return a copy of the model that rounds what each layer of the plan reads, with the plan's formats and steps.

    Together with quantised weights this is the fake-quantised network that the executor computes in integers.

    Raises:
        InputError: if a layer of the plan is no module of this model.

    """
    made = copy.deepcopy(model).eval()
    modules = dict(made.named_modules())
    for name, entry in plan.layers.items():
        path = name.partition("#")[0]  # a second use of a module is called `path#2`
        if path not in modules:
            raise InputError(f"plan: layer '{name}' is no module of this model")
        activation = entry.activation
        if activation is not None and activation.step is not None and name == path:
            modules[path].register_forward_pre_hook(_rounding(parse_format(activation.format), activation.step))
    return made


def _rounding(form: NumberFormat, size: float) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...]]:
    def hook(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        step = torch.tensor(size, dtype=args[0].dtype)
        return (codes(args[0], step, form) * step, *args[1:])

    return hook


def _places(model: nn.Module, network: Network, config: LsqConfig) -> list[_Place]:
    modules = dict(model.named_modules())
    layers: dict[str, list[str]] = {}
    for layer in network.layers:
        path = layer.operands[1].name.removesuffix(".weight") if weighted(layer) else ""
        if isinstance(modules.get(path), _LAYERS):
            layers.setdefault(path, []).append(layer.name)
    found = []
    for i, (path, names) in enumerate(layers.items()):
        edge = i in (0, len(layers) - 1) and config.first_last_bits is not None
        first_last = config.first_last_bits or 8
        bits = (first_last, first_last) if edge else (config.weight_bits, config.activation_bits)
        module = modules[path]
        transposed = bool(getattr(module, "transposed", False))
        axis = 1 if transposed and getattr(module, "groups", 1) == 1 else 0
        owner = path.rpartition(".")[0]
        reader = owner if owner in layers and isinstance(modules[owner], DeformConv2d) else path
        place = _Place(path=path, reader=reader, layers=tuple(names), module=module, channel_axis=axis, bits=bits)
        found.append(place)
    return found


def _inputs(model: nn.Module, places: Sequence[_Place], split: Split) -> dict[str, tuple[Tensor, int]]:
    """Return what each module reads over some training samples (a sample of the values), and its features per sample."""
    found: dict[str, tuple[Tensor, int]] = {}

    def recorder(path: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            values = args[0].detach().flatten()
            stride = max(1, values.numel() // _VALUES_PER_LAYER)
            sample = values[::stride]
            low = torch.stack([values.min(), values.max()])  # the extremes decide sign and range
            joined = torch.cat([sample, low])
            before = found.get(path)
            found[path] = (torch.cat([before[0], joined]) if before else joined, args[0][0].numel())

        return hook

    hooks = [p.module.register_forward_pre_hook(recorder(p.path)) for p in places]
    try:
        with one_thread(), torch.no_grad():
            model(torch.tensor(split.images[:_CALIBRATION_SAMPLES]))
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _attach(
    places: Sequence[_Place], inputs: Mapping[str, tuple[Tensor, int]], config: LsqConfig
) -> tuple[dict[str, tuple[LearnedStep, LearnedStep]], list[RemovableHandle]]:
    """Put learned steps on weights (parametrisations) and inputs (hooks); the input's step is a submodule, so it trains."""
    on_weights, on_inputs, hooks = {}, {}, []
    for place in places:
        weight_bits, activation_bits = place.bits
        weight = place.module.weight
        assert isinstance(weight, Tensor)
        per_channel = config.per == "channel" and not (
            getattr(place.module, "transposed", False) and place.channel_axis == 0
        )
        form = integer_format(weight_bits, per=Granularity.CHANNEL if per_channel else Granularity.TENSOR)
        start = best_step(weight, form, place.channel_axis if per_channel else None)
        on_weights[place.path] = LearnedStep(form, start, weight.numel() // start.numel())
        parametrize.register_parametrization(place.module, "weight", on_weights[place.path])
        if place.reader != place.path:
            continue
        values, features = inputs[place.path]
        form = integer_format(activation_bits, signed=bool(values.min() < 0))
        on_input = LearnedStep(form, best_step(values, form).reshape(()), features)
        place.module.add_module("_input_step", on_input)
        hooks.append(place.module.register_forward_pre_hook(_round_input))
        on_inputs[place.path] = on_input
    return {p.path: (on_weights[p.path], on_inputs[p.reader]) for p in places}, hooks


def _round_input(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    return (module._input_step(args[0]), *args[1:])  # type: ignore[operator]


def _parameter_groups(model: nn.Module, config: LsqConfig) -> list[dict[str, Any]]:
    """Let steps learn at their own rate; only weights decay."""
    steps = {id(m.factor) for m in model.modules() if isinstance(m, LearnedStep)}
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if id(p) not in steps and p.dim() > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if id(p) not in steps and p.dim() <= 1], "weight_decay": 0.0},
        {
            "params": [p for p in parameters if id(p) in steps],
            "weight_decay": 0.0,
            "lr": config.lr * config.step_lr,
        },
    ]


def _plan(places: Sequence[_Place], held: Mapping[str, tuple[LearnedStep, LearnedStep]], config: LsqConfig) -> Plan:
    """Return formats and final steps, and take the input steps off the modules."""
    layers = {}
    for place in places:
        on_weight, on_input = held[place.path]
        steps = tuple(float(s) for s in on_weight.step().detach().flatten())
        entry = LayerPlan(
            weight=WeightPlan(
                format=str(on_weight.form), per=on_weight.form.per.value, step=steps if len(steps) > 1 else steps[0]
            ),
            activation=ActivationPlan(format=str(on_input.form), step=float(on_input.step().detach())),
        )
        layers.update(dict.fromkeys(place.layers, entry))
        if place.reader == place.path:
            del place.module._input_step
    return Plan(layers=layers)
