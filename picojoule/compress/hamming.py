"""Hamming-aware training as a compression method: weights whose successive words on the array's ports differ in few bits.

Catalogue S035, Li et al. 2020, arXiv:2002.05293 (`search: bits`: flips join the loss, bits straight-through). The default,
`trellis`, is ours: what a port sees in sequence is rounded together, along the path through all words that costs least in
rounding error and flips (Viterbi's algorithm, exact), and training goes on through the rounding. Squared errors are priced by
how much the loss feels them, flips by how often their weight streams: precision stays where it matters. Weights have one learned
step per output channel; inputs are left to calibration, in 8 bits.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from picojoule.accel.systolic.spec import SystolicSpec
from picojoule.compress.coupling import weighted
from picojoule.compress.hamming_config import HammingConfig, Search
from picojoule.compress.hamming_layers import StreamedLayer, StreamedStep
from picojoule.compress.hamming_training import HammingTerm, error_prices
from picojoule.compress.method import CompressionArtifact
from picojoule.compress.plan import ActivationPlan, LayerPlan, Plan, WeightPlan, apply_plan
from picojoule.models.data import Dataset
from picojoule.sim.errors import InputError, UnsupportedError
from picojoule.sim.formats import Granularity, integer_format
from picojoule.sim.gemm import gemm_view
from picojoule.sim.ir import Layer, Network
from picojoule.sim.numerics.quantize import best_step
from picojoule.sim.numerics.torch_importer import from_module
from picojoule.sim.protocol import HardwareSpec
from picojoule.sim.signals import CostSignal
from picojoule.training import accuracy, one_thread, train

INPUT_BITS = 8
_CALIBRATION_SAMPLES = 256
_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_NO_ORDER = np.zeros((0, 0), dtype=np.int64)


class Hamming:
    """Training for few bit flips on weight ports."""

    config_type = HammingConfig

    def settle(self, hardware: HardwareSpec, settings: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Return the settings with array, dataflow, number code and order from the hardware where they are open, and warnings.

        Raises:
            UnsupportedError: for hardware whose weights do not stream.

        """
        name = hardware.name or hardware.kind
        if not isinstance(hardware, SystolicSpec):
            raise UnsupportedError(
                f"method 'hamming' orders weights that stream into a systolic array, and {name} is none"
            )
        dataflow = settings.get("dataflow", hardware.dataflow)
        if dataflow == "ws":
            raise UnsupportedError(
                f"method 'hamming' saves flips where weights stream, and the weight-stationary {name} holds them; use dataflow "
                "is or os"
            )
        order = "segments" if dataflow == "is" and hardware.weight_order == "segments" else "as_is"
        taken = {"rows": hardware.rows, "cols": hardware.cols, "dataflow": dataflow}
        taken |= {"number_code": hardware.number_code, "order": order}
        blind = hardware.datapath_energy == "average"
        said = f"{name} prices an average MAC, so flips do not show in its energy; price with datapath_energy toggles"
        return {**taken, **settings}, (said,) if blind else ()

    def formats(self, model: nn.Module, network: Network, plan: Plan | None = None) -> Plan:
        """Return the plan of 8-bit weights, one step per output channel, without training; inputs as in `plan`.

        Raises:
            InputError: if there is no convolution or linear module.

        """
        weight = WeightPlan(format="int8", per="channel")
        names = [layer.name for found in _streamed(model, network).values() for layer in found]
        known = {n: plan.layers[n].activation for n in names if plan and n in plan.layers}
        return Plan(
            layers={
                n: LayerPlan(weight=weight, activation=known.get(n) or ActivationPlan(format=f"int{INPUT_BITS}"))
                for n in names
            }
        )

    def fit(
        self, model: nn.Module, data: Dataset, signal: CostSignal | None, config: HammingConfig
    ) -> tuple[nn.Module, CompressionArtifact]:
        """Return the model with rounded weights, and the plan with formats and steps that reproduces its integers.

        Raises:
            InputError: if there is no convolution or linear module.

        """
        model = copy.deepcopy(model).eval()
        network = from_module(model, (torch.tensor(data.train.images[:2]),))
        found = _streamed(model, network)
        modules = dict(model.named_modules())
        layers = _attach([modules[p] for p in found], list(found.values()), model, data, config)
        history: list[Mapping[str, Any]] = []

        def on_epoch(record: Mapping[str, float]) -> None:
            correct, count = accuracy(model, data.val)
            flips = sum(layer.flips() for layer in layers)
            history.append({"phase": "Hamming", **record, "val_accuracy": correct / count, "flips": flips})

        term = HammingTerm(layers, config, len(data.train))
        before = [layer.flips() for layer in layers]
        train(
            model, data.train, epochs=config.epochs, lr=config.lr, batch_size=config.batch_size, seed=config.seed,
            penalty=term, groups=_groups(model, config), on_epoch=on_epoch,
        )  # fmt: skip
        if config.search is Search.TRELLIS:
            term.search()
        after = [layer.flips() for layer in layers]
        signed = _signed_inputs(
            {p: modules[p] for p in found}, model, torch.tensor(data.train.images[:_CALIBRATION_SAMPLES])
        )
        plan = _plan(found, layers, signed)
        for layer in layers:
            parametrize.remove_parametrizations(layer.module, "weight", leave_parametrized=True)
        notes = _notes(before, after, config)
        if signal is not None:
            cost = signal.price(apply_plan(network, plan)) / signal.baseline
            notes.append(f"{signal.metric} ({signal.hardware}) is {cost:.4f} of the original's")
        return model.eval(), CompressionArtifact(plan=plan, history=tuple(history), notes=tuple(notes))


def _streamed(model: nn.Module, network: Network) -> dict[str, tuple[Layer, ...]]:
    """Return the network's layers of every module whose weights stream, by the module's path; InputError if there is none."""
    modules, found = dict(model.named_modules()), dict[str, tuple[Layer, ...]]()
    for layer in network.layers:
        path = layer.operands[1].name.removesuffix(".weight") if weighted(layer) else ""
        if isinstance(modules.get(path), _LAYERS):
            found[path] = (*found.get(path, ()), layer)
    if not found:
        raise InputError(f"{network.name} has no convolution or linear module whose weights could stream")
    return found


def _attach(
    modules: Sequence[nn.Module],
    uses: Sequence[Sequence[Layer]],
    model: nn.Module,
    data: Dataset,
    config: HammingConfig,
) -> list[StreamedLayer]:
    """Put rounding on the weights; a module used several times streams as in its first use."""
    form = integer_format(config.weight_bits, per=Granularity.CHANNEL)
    searching = config.search is Search.TRELLIS
    prices = error_prices(model, modules, data.train, config.seed) if searching else [np.zeros(1)] * len(modules)
    layers = []
    for module, of_module, price in zip(modules, uses, prices, strict=True):
        weight, gemm = module.weight, gemm_view(of_module[0])
        assert isinstance(weight, Tensor) and gemm is not None
        start = best_step(weight, form, 0)
        step = StreamedStep(form, start, weight, _NO_ORDER)
        parametrize.register_parametrization(module, "weight", step)
        square = start.detach().reshape(-1, 1).numpy().astype(np.float64) ** 2
        importance = np.ascontiguousarray((price * square).ravel(), dtype=np.float32)
        layers.append(StreamedLayer(module, step, gemm, importance, config))
    return layers


def _groups(model: nn.Module, config: HammingConfig) -> list[dict[str, Any]]:
    """Only weights decay."""
    steps = {id(m.factor) for m in model.modules() if isinstance(m, StreamedStep)}
    decays = {id(p) for p in model.parameters() if p.dim() > 1 and id(p) not in steps}
    return [
        {"params": [p for p in model.parameters() if id(p) in decays], "weight_decay": config.weight_decay},
        {"params": [p for p in model.parameters() if id(p) not in decays], "weight_decay": 0.0},
    ]


def _signed_inputs(modules: Mapping[str, nn.Module], model: nn.Module, images: Tensor) -> dict[str, bool]:
    """Return whether each module sees negative inputs in calibration."""
    found: dict[str, bool] = {}

    def recorder(path: str) -> Any:
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            found[path] = found.get(path, False) or bool(args[0].min() < 0)

        return hook

    hooks = [m.register_forward_pre_hook(recorder(p)) for p, m in modules.items()]
    try:
        with one_thread(), torch.no_grad():
            model(images)
    finally:
        for handle in hooks:
            handle.remove()
    return found


def _plan(found: Mapping[str, Sequence[Layer]], layers: Sequence[StreamedLayer], signed: Mapping[str, bool]) -> Plan:
    entries = {}
    for (path, uses), layer in zip(found.items(), layers, strict=True):
        steps = tuple(float(s) for s in layer.step.step().detach().flatten())
        activation = integer_format(INPUT_BITS, signed=signed.get(path, True))
        entry = LayerPlan(
            weight=WeightPlan(format=str(layer.step.form), per="channel", step=steps),
            activation=ActivationPlan(format=str(activation)),
        )
        entries.update(dict.fromkeys((use.name for use in uses), entry))
    return Plan(layers=entries)


def _notes(before: Sequence[int], after: Sequence[int], config: HammingConfig) -> list[str]:
    total = sum(before) / max(1, sum(after))
    mean = float(np.mean([b / max(1, a) for b, a in zip(before, after, strict=True)]))
    array = (
        f"{config.dataflow} array of {config.rows} x {config.cols}, {config.number_code.value}, order {config.order}"
    )
    return [
        f"weight-port flips of an image on the {array}: {sum(before):,} to {sum(after):,} ({total:.2f}x fewer; mean of the "
        f"{len(before)} layers' ratios {mean:.2f})"
    ]
