"""Bit-slice sparsity as a compression method: weights whose slices ask for narrow converters, and the plan that says so.

The paper's training (Zhang et al. 2019, arXiv:1908.09496) is `penalty: bitslice_l1`; the default `columns` is ours (see
`bitslice_training`). Weights become a sign and 8 magnitude bits (`int9`) with a power-of-two step, inputs 8 bits, whose steps are
set after training. Only the plan's integers and steps reach a crossbar, so what it needs can be read from them.
"""

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from picojoule.compress.bitslice_config import BitsliceConfig, Polarities, converter_bits
from picojoule.compress.bitslice_hardware import settled
from picojoule.compress.bitslice_slices import (
    MAGNITUDE_BITS,
    codes_of_weight,
    needed_bits,
    scale_exponent,
    slice_shares,
    step_of,
)
from picojoule.compress.bitslice_training import layers_of, train_bitslice
from picojoule.compress.coupling import weighted
from picojoule.compress.method import CompressionArtifact
from picojoule.compress.plan import ActivationPlan, LayerPlan, Plan, WeightPlan, apply_plan
from picojoule.models.data import Dataset
from picojoule.sim.errors import InputError
from picojoule.sim.formats import integer_format
from picojoule.sim.ir import Network
from picojoule.sim.numerics.quantize import best_step
from picojoule.sim.numerics.torch_importer import from_module
from picojoule.sim.protocol import HardwareSpec
from picojoule.sim.signals import CostSignal
from picojoule.training import one_thread

WEIGHT_FORMAT = f"int{MAGNITUDE_BITS + 1}"
INPUT_BITS = 8
_CALIBRATION_SAMPLES = 256
_VALUES_PER_LAYER = 1 << 16


class Bitslice:
    """Training for sparse bit slices."""

    config_type = BitsliceConfig

    def settle(self, hardware: HardwareSpec, settings: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Return the settings with rows, encoding and ADC law from the hardware where they leave them open, and warnings.

        Raises:
            UnsupportedError: unless the hardware has crossbars of 2-bit cells whose zero weights are empty cells.

        """
        return settled(hardware, settings)

    def formats(self, model: nn.Module, network: Network, plan: Plan | None = None) -> Plan:
        """Return the plan of the same formats without training: steps from the largest weights, inputs as in `plan`.

        Input steps are left to calibration. Without a plan, inputs have a sign.

        Raises:
            InputError: if there is no convolution or linear module.

        """
        names, modules = _sliced_layers(model, network), dict(model.named_modules())
        layers = {}
        for path, of_module in names.items():
            weight = modules[path].weight
            assert isinstance(weight, Tensor)
            step = step_of(scale_exponent(weight))
            for name in of_module:
                known = plan.layers[name].activation if plan else None
                layers[name] = LayerPlan(
                    weight=WeightPlan(format=WEIGHT_FORMAT, per="tensor", step=step),
                    activation=ActivationPlan(format=known.format if known else f"int{INPUT_BITS}"),
                )
        return Plan(layers=layers)

    def fit(
        self, model: nn.Module, data: Dataset, signal: CostSignal | None, config: BitsliceConfig
    ) -> tuple[nn.Module, CompressionArtifact]:
        """Return the model with weights on their fixed-point grid, and the plan with formats and steps.

        Raises:
            InputError: if there is no convolution or linear module.

        """
        model = copy.deepcopy(model).eval()
        network = from_module(model, (torch.tensor(data.train.images[:2]),))
        names = _sliced_layers(model, network)
        trained = train_bitslice(model, torch.tensor(data.train.images), torch.tensor(data.train.labels), config)
        exponents = dict(zip(layers_of(model), trained.exponents, strict=True))
        plan = _plan(model, data, names, exponents)
        modules = dict(model.named_modules())
        codes = [codes_of_weight(modules[p].weight, step_of(exponents[p])) for p in names]
        notes = _notes(codes, config)
        if signal is not None:
            cost = signal.price(apply_plan(network, plan)) / signal.baseline
            notes.append(f"{signal.metric} ({signal.hardware}) is {cost:.4f} of the original's")
        history: tuple[Mapping[str, Any], ...] = trained.history
        return model.eval(), CompressionArtifact(plan=plan, history=history, notes=tuple(notes))


def _sliced_layers(model: nn.Module, network: Network) -> dict[str, tuple[str, ...]]:
    """Return the network's layers of every module that is sliced, by the module's path; InputError if there is none."""
    known, found = layers_of(model), dict[str, tuple[str, ...]]()
    for layer in network.layers:
        path = layer.operands[1].name.removesuffix(".weight") if weighted(layer) else ""
        if path in known:
            found[path] = (*found.get(path, ()), layer.name)
    if not found:
        raise InputError(f"{network.name} has no convolution or linear module whose weights could be sliced")
    return found


def _plan(model: nn.Module, data: Dataset, names: Mapping[str, tuple[str, ...]], exponents: Mapping[str, int]) -> Plan:
    modules = dict(model.named_modules())
    inputs = _inputs({p: modules[p] for p in names}, model, torch.tensor(data.train.images[:_CALIBRATION_SAMPLES]))
    layers = {}
    for path, of_module in names.items():
        values = inputs[path]
        form = integer_format(INPUT_BITS, signed=bool(values.min() < 0))
        entry = LayerPlan(
            weight=WeightPlan(format=WEIGHT_FORMAT, per="tensor", step=step_of(exponents[path])),
            activation=ActivationPlan(format=str(form), step=float(best_step(values, form))),
        )
        layers.update(dict.fromkeys(of_module, entry))
    return Plan(layers=layers)


def _inputs(layers: Mapping[str, nn.Module], model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Return a sample of what each layer reads, its extremes among it."""
    found: dict[str, Tensor] = {}
    hooks = []
    for path, layer in layers.items():

        def hook(module: nn.Module, args: tuple[Tensor, ...], path: str = path) -> None:
            values = args[0].detach().flatten()
            some = values[:: max(1, math.ceil(values.numel() / _VALUES_PER_LAYER))]
            found[path] = torch.cat([found.get(path, some[:0]), some, values.min()[None], values.max()[None]])

        hooks.append(layer.register_forward_pre_hook(hook))
    try:
        with one_thread(), torch.no_grad():
            model(images)
    finally:
        for handle in hooks:
            handle.remove()
    return found


def _notes(codes: list[Tensor], config: BitsliceConfig) -> list[str]:
    shares = ", ".join(f"b{k} {share:.1%}" for k, share in enumerate(slice_shares(codes)))
    bits = [converter_bits(config.encoding, b) for b in needed_bits(codes, config.tile_rows)]
    least = 2 if config.encoding is Polarities.DIFFERENTIAL else 1
    pasted = ",".join(str(b or least) for b in bits)
    empty = ", ".join(f"b{k}" for k, b in enumerate(bits) if b == 0)
    unbuilt = f"; {empty} hold nothing, and adc_bits=needed leaves their converters out" if empty else ""
    return [
        f"{len(codes)} layers in slices of 2 bits (b0 the least significant), trained with penalty {config.penalty.value}; "
        f"weights that fill a slice: {shares}",
        f"lossless ADCs for {config.tile_rows} wordlines and {config.encoding.value} columns, b0 first: "
        f"adc_bits=[{pasted}]{unbuilt}",
    ]
