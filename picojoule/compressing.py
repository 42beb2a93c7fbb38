"""What `picojoule compress` does: train, compress, price and measure before and after, and write what `evaluate` reads."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from picojoule.accuracy import check_fits, measure
from picojoule.checkpoints import read_state
from picojoule.compress import load_method
from picojoule.compress.plan import ActivationPlan, LayerPlan, Plan, WeightPlan, apply_plan
from picojoule.compress.preparation import PreparedMethod
from picojoule.compress.surgery import tensors_of, update_attributes
from picojoule.models.data import Dataset, load
from picojoule.networks import TorchNetwork, load_torch, network_of, prepared
from picojoule.signals import marginal
from picojoule.sim.errors import InfeasibleError, InputError, nearest, unknown_choice
from picojoule.sim.files import write_atomic
from picojoule.sim.hardware import load_hardware
from picojoule.sim.ir import Network
from picojoule.sim.protocol import Accelerator
from picojoule.sim.signals import CostSignal
from picojoule.sim.specs import Spec, parse_spec
from picojoule.training import train

if TYPE_CHECKING:
    from picojoule.compress.method import CompressionArtifact, CompressionMethod

METRICS = {"energy": "energy_pj_per_sample", "latency": "latency_s", "interval": "interval_s", "area": "area_mm2"}
_BITS = (8, 6, 4, 3, 2)
_PRETRAIN_LR = 5e-3

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressionRequest:
    """One compression as the command line states it."""

    network: str
    method: str
    hardware: str
    data: str
    out: Path
    budget: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    weights: Path | None = None
    epochs: int | None = None
    pretrain: int = 5
    seed: int = 0


def run_compression(request: CompressionRequest, say: Say) -> dict[str, Any]:
    """Run a method on a network and write `plan.yaml`, `model.safetensors`, `summary.json` and a report per stage.

    What can be refused without trained weights is refused before any training, and before any file is written.

    Raises:
        InputError: for a network that is no torch module, an unknown method or setting, data that do not fit.
        UnsupportedError: for operators or formats that the hardware does not run, or a method that earns nothing there.
        InfeasibleError: if the hardware cannot hold the network, or no setting meets the budget.

    """
    method = load_method(request.method)
    metric, budget = parse_budget(request.budget)
    _check_budget(request.method, method.config_type, budget)
    accelerator = load_hardware(request.hardware)
    settings, warnings = _settings(method, accelerator, request)
    data = load(request.data)
    made = _loaded(request, data)
    _check(method, made, accelerator, data)
    for warning in warnings:
        say(f"warning: {warning}")
    made = _trained(made, request, data, say)
    network = network_of(made, fold=False)
    stages = [_stage("original", prepared(network), accelerator, data, request)]
    save_weights(made.module, request.out / "original.safetensors")
    signal = marginal(network, accelerator, metric=metric)
    if budget is not None:
        settings |= _budget_settings(request.method, method.config_type.model_fields, network, signal, budget, say)
    config = parse_spec(method.config_type, settings, f"method {request.method}")
    say(f"{request.method} on {made.name}: {_config_text(config)}")
    model, artifact = method.fit(made.module, data, signal, config)
    after = TorchNetwork(name=made.name, module=model, inputs=made.inputs, weights="trained")
    artifact.plan.save(request.out / "plan.yaml")
    save_weights(model, request.out / "model.safetensors")
    if isinstance(method, PreparedMethod):
        plain = prepared(apply_plan(network, method.formats(made.module, network, artifact.plan)))
        stages.append(_stage("formats alone", plain, accelerator, data, request))
    compressed = prepared(apply_plan(network_of(after, fold=False), artifact.plan))
    stages.append(_stage("compressed", compressed, accelerator, data, request))
    notes = (*(f"warning: {w}" for w in warnings), *artifact.notes, *_adc_note(stages))
    for note in notes[len(warnings) :]:
        say(f"note: {note}")
    document = _document(request, stages, notes, artifact)
    write_atomic(request.out / "summary.json", json.dumps(document, indent=1, allow_nan=False))
    return document


def _settings(
    method: "CompressionMethod", accelerator: Accelerator, request: CompressionRequest
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the method's settings, checked, and warnings; what is left open comes from the hardware where it decides."""
    settings: dict[str, Any] = {"seed": request.seed, **request.options}
    if request.epochs is not None:
        settings["epochs"] = request.epochs
    where = f"method {request.method}"
    parse_spec(method.config_type, settings, where)
    if not isinstance(method, PreparedMethod):
        return settings, ()
    settled, warnings = method.settle(accelerator.spec, settings)
    parse_spec(method.config_type, settled, where)
    return settled, warnings


def _check(method: "CompressionMethod", made: TorchNetwork, accelerator: Accelerator, data: Dataset) -> None:
    """Refuse what training would not mend: data that do not fit, and operators, sizes or formats that hardware refuses."""
    network = network_of(made, fold=False)
    check_fits(network, data)
    accelerator.evaluate(prepared(network))
    if isinstance(method, PreparedMethod):
        accelerator.evaluate(prepared(apply_plan(network, method.formats(made.module, network))))


def _config_text(config: Spec) -> str:
    return ", ".join(f"{key} {value}" for key, value in config.model_dump(mode="json").items())


def _adc_note(stages: list[dict[str, Any]]) -> tuple[str, ...]:
    """Return what training did to the converters' energy, formats being equal."""
    found = {s["stage"]: s.get("adc_pj_per_sample") for s in stages}
    plain, trained = found.get("formats alone"), found["compressed"]
    if not plain or trained is None:
        return ()
    return (
        f"ADC energy per sample in the same formats: {plain * 1e-3:.4g} nJ without training, {trained * 1e-3:.4g} nJ with "
        f"it ({trained / plain:.3g} of it)",
    )


def _document(
    request: CompressionRequest,
    stages: list[dict[str, Any]],
    notes: tuple[str, ...],
    artifact: "CompressionArtifact",
) -> dict[str, Any]:
    return {
        "schema": 1,
        "network": request.network,
        "method": request.method,
        "hardware": request.hardware,
        "data": request.data,
        "seed": request.seed,
        "stages": stages,
        "notes": list(notes),
        "history": [dict(h) for h in artifact.history],
    }


def parse_budget(text: str | None) -> tuple[str, float | None]:
    """Return (metric, share) of `energy=0.5`; energy and no share where nothing is asked.

    Raises:
        InputError: for another spelling, an unknown metric, or a share outside 0 to 1.

    """
    if text is None:
        return METRICS["energy"], None
    name, _, share = text.partition("=")
    known = {**METRICS, **{m: m for m in METRICS.values()}}
    if name not in known:
        raise InputError(unknown_choice("budget", name, list(METRICS)))
    try:
        value = float(share)
    except ValueError:
        value = -1.0
    if not 0 < value <= 1:
        raise InputError(
            f"--budget takes METRIC=SHARE with a share between 0 and 1, for instance energy=0.5, got '{text}'"
        )
    return known[name], value


def _loaded(request: CompressionRequest, data: Dataset) -> TorchNetwork:
    """Return the network for the data's shape."""
    sample = tuple(data.train.images.shape[1:])
    return load_torch(
        request.network, sample_shape=sample, classes=len(data.class_names), weights=request.weights, seed=request.seed
    )


def _trained(made: TorchNetwork, request: CompressionRequest, data: Dataset, say: Say) -> TorchNetwork:
    """Return the network with trained weights: random ones are trained first."""
    if made.weights != "random" or request.pretrain == 0:
        return made
    say(
        f"training {made.name} for {request.pretrain} epoch{'s' if request.pretrain > 1 else ''}, because its weights are random"
    )

    def on_epoch(record: Mapping[str, float]) -> None:
        say(f"  epoch {record['epoch']:.0f}: loss {record['loss']:.3f}")

    train(made.module, data.train, epochs=request.pretrain, lr=_PRETRAIN_LR, seed=request.seed, on_epoch=on_epoch)
    return TorchNetwork(name=made.name, module=made.module, inputs=made.inputs, weights="trained")


def _stage(
    name: str, network: Network, accelerator: Accelerator, data: Dataset, request: CompressionRequest
) -> dict[str, Any]:
    report = accelerator.evaluate(network, seed=request.seed)
    accuracy = measure(network, accelerator, data, seed=request.seed)
    report.with_accuracy(accuracy).save(request.out / name.replace(" ", "-"))
    t, components = report.totals, report.energy_by_component()
    return {
        "stage": name,
        "accuracy_float": accuracy.floating,
        "accuracy_hardware": accuracy.hardware,
        "energy_pj_per_sample": t["energy_pj_per_sample"],
        **({"adc_pj_per_sample": components.get("adc", 0.0)} if _has_adcs(accelerator) else {}),
        "latency_s": t["latency_s"],
        "macs": t["macs"],
        "weight_bytes": t["weight_bytes"],
        "params": report.network["params"],
    }


def _has_adcs(accelerator: Accelerator) -> bool:
    return "adc_bits" in type(accelerator.spec).model_fields


def _check_budget(name: str, config_type: type[Spec], budget: float | None) -> None:
    if budget is not None and not {"budget", "weight_bits"} & set(config_type.model_fields):
        raise InputError(f"method '{name}' has no setting that a budget could choose; leave out --budget")


def _budget_settings(
    name: str, fields: Mapping[str, Any], network: Network, signal: CostSignal, budget: float, say: Say
) -> dict[str, Any]:
    """Return the settings that aim at a budget: the method's own, or the most bits that meet it."""
    if "budget" in fields:
        return {"budget": budget}
    whole = signal.price(network)
    for bits in _BITS:
        share = signal.price(apply_plan(network, uniform_bits(bits))) / whole
        say(f"  {bits} bits everywhere: {share:.3f} of the original's {signal.metric}")
        if share <= budget:
            return {"weight_bits": bits, "activation_bits": bits, "first_last_bits": None}
    raise InfeasibleError(
        f"method '{name}': even {_BITS[-1]} bits leave {share:.3g} of the original's {signal.metric}, more than the budget of "
        f"{budget:g}; raise the budget or remove channels first (slimming)"
    )


def uniform_bits(bits: int) -> Plan:
    """Return the plan that gives every MAC layer weights and activations of `bits`."""
    entry = LayerPlan(
        weight=WeightPlan(format=f"int{bits}", per="channel"), activation=ActivationPlan(format=f"int{bits}")
    )
    return Plan(layers={"*": entry})


def save_weights(module: torch.nn.Module, path: Path) -> None:
    """Write a module's state dict as safetensors, whole or not at all."""
    from safetensors.torch import save

    state = {k: v.detach().clone().contiguous() for k, v in module.state_dict().items()}
    write_atomic(path, save(state))


def load_compressed(made: TorchNetwork, plan: Plan, path: Path) -> TorchNetwork:
    """Return the network with the weights that `compress` wrote, which may have fewer channels as `plan` says.

    Raises:
        InputError: naming the first tensor that is missing or has neither the original's nor the plan's shape.

    """
    state = read_state(path)
    network = network_of(made, fold=False)
    pruned = apply_plan(network, plan)
    shapes = {o.name: o.shape for layer in pruned.layers for o in layer.operands if o.weights is not None}
    saved = made.module.state_dict().keys()
    for name, tensor in tensors_of(made.module).items():
        if name not in state:
            if name.endswith("num_batches_tracked") or name not in saved:  # buffers that a module makes itself
                continue
            raise InputError(f"{path}: has no tensor '{name}'{nearest(name, list(state))}")
        value = state[name]
        if tuple(value.shape) != shapes.get(name, tuple(tensor.shape)):
            raise InputError(
                f"{path}: tensor '{name}' is {list(value.shape)}, the plan makes it {list(shapes.get(name, tensor.shape))}; "
                "weights and plan must come from the same compression"
            )
        tensor.data = value.to(tensor.dtype)
    update_attributes(made.module, pruned)
    return TorchNetwork(name=made.name, module=made.module, inputs=made.inputs, weights=f"file {path.name}")
