"""Compressed variants of one network: pruning x bits, and a deformable form, priced and measured on several pieces of hardware.

Used by the demo. A variant is finished when its JSON file is on disk; running again takes what is there. Steps run in order:
the trained original, its pruned forms, then quantised forms of each; those that do not depend on each other may run in
different processes.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from picojoule.accuracy import measure
from picojoule.compress.plan import Plan, read_plan
from picojoule.compressing import load_compressed, save_weights
from picojoule.models.data import Dataset, load
from picojoule.networks import TorchNetwork, load_torch
from picojoule.sim.errors import InfeasibleError, PicojouleError
from picojoule.sim.files import write_atomic
from picojoule.sim.hardware import load_hardware
from picojoule.store import result_key
from picojoule.studies.trial_network import PLAN, WEIGHTS, apply_method, priced_form
from picojoule.training import train


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What is common to all variants: network, data, targets and training lengths."""

    network: str
    data: str
    targets: tuple[str, ...]
    epochs: int
    lr: float
    prune_for: str
    prune_lr: float
    sparse_epochs: int
    finetune_epochs: int
    quantise_epochs: int
    quantise_lr: float
    deform_network: str = ""
    deform_epochs: int = 0
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One point: the share of energy that pruning aims at (None: not pruned) and bits (None: post-training, native).

    `deform`: of the network with deformable convolutions, which is not pruned. With `activation_bits` every layer has those
    and `bits` of weights; without, activations have as many bits as weights, and the first and last layer 8 of both.
    """

    energy: float | None = None
    bits: int | None = None
    activation_bits: int | None = None
    deform: bool = False

    @property
    def name(self) -> str:
        """Short name such as `e45-w4` or `deform-w4a8`."""
        wide = "" if self.activation_bits is None else f"a{self.activation_bits}"
        pruned = "deform" if self.deform else "full" if self.energy is None else f"e{self.energy * 100:.0f}"
        return pruned if self.bits is None else f"{pruned}-w{self.bits}{wide}"

    @property
    def parent(self) -> "Variant | None":
        """The variant this one starts from."""
        if self.bits is not None:
            return Variant(energy=self.energy, deform=self.deform)
        return Variant() if self.energy is not None else None


def key_of(recipe: Recipe, variant: Variant, data: Dataset) -> str:
    """Return the key under which a variant's results are valid."""
    return result_key({"recipe": asdict(recipe), "variant": asdict(variant)}, data.digest)


def finished(recipe: Recipe, variant: Variant, folder: Path, data: Dataset) -> list[dict[str, Any]] | None:
    """Return a variant's rows (one per target) if they are on disk and still valid."""
    path = folder / variant.name / "result.json"
    try:
        found = json.loads(path.read_text())
        return list(found["rows"]) if found["key"] == key_of(recipe, variant, data) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def make_variant(recipe: Recipe, variant: Variant, folder: Path) -> list[dict[str, Any]]:
    """Train (from the parent's weights on disk), price and measure a variant; write its folder and return its rows.

    A target that cannot hold it (more bits than it has) gets a row without figures whose `message` says why.
    """
    data = load(recipe.data)
    done = finished(recipe, variant, folder, data)
    if done is not None:
        return done
    made, plan = _model(recipe, variant, folder, data)
    own = folder / variant.name
    save_weights(made.module, own / WEIGHTS)
    plan.save(own / PLAN)
    network = priced_form(made, plan)
    rows: list[dict[str, Any]] = []
    for target in recipe.targets:
        accelerator = load_hardware(target)
        try:
            report = accelerator.evaluate(network, seed=recipe.seed)
        except InfeasibleError as error:
            rows.append(_row(variant, target, None, network.parameters, None, message=str(error)))
            continue
        accuracy = measure(network, accelerator, data, seed=recipe.seed)
        report.with_accuracy(accuracy).save(own / target)
        rows.append(_row(variant, target, report.totals, network.parameters, asdict(accuracy)))
    result = {"key": key_of(recipe, variant, data), "rows": rows}
    write_atomic(own / "result.json", json.dumps(result, indent=1, allow_nan=False))
    return rows


_TOTALS = ("energy_pj_per_sample", "latency_s", "interval_s", "area_mm2", "macs", "weight_bytes")


def _row(
    variant: Variant,
    target: str,
    totals: Mapping[str, Any] | None,
    params: int,
    accuracy: Mapping[str, Any] | None,
    message: str = "",
) -> dict[str, Any]:
    """Return a row of results.csv; without totals and accuracy its figures are empty."""
    found = totals or {}
    measured = accuracy or {}
    low, high = measured.get("interval", (None, None))
    energy_low, energy_high = found.get("ranges", {}).get("energy_pj_per_sample", (None, None))
    return {
        "variant": variant.name,
        "target": target,
        "state": "infeasible" if message else "complete",
        "weight_bits": variant.bits,
        "activation_bits": variant.activation_bits or variant.bits,
        "pruned_to_energy": variant.energy,
        "deformable": variant.deform,
        "accuracy_hardware": measured.get("hardware"),
        "accuracy_low": low,
        "accuracy_high": high,
        "accuracy_float": measured.get("floating"),
        **{name: found.get(name) for name in _TOTALS},
        "energy_low": energy_low,
        "energy_high": energy_high,
        "params": params,
        "samples": measured.get("samples"),
        "message": message,
    }


def _model(recipe: Recipe, variant: Variant, folder: Path, data: Dataset) -> tuple[TorchNetwork, Plan]:
    """Return the trained module of a variant and its plan."""
    sample = tuple(data.train.images.shape[1:])
    name = recipe.deform_network if variant.deform else recipe.network
    made = load_torch(name, sample_shape=sample, classes=len(data.class_names), seed=recipe.seed)
    if variant.parent is None:
        epochs = recipe.deform_epochs if variant.deform else recipe.epochs
        train(made.module, data.train, epochs=epochs, lr=recipe.lr, seed=recipe.seed, weight_decay=1e-4)
        return replace(made, weights="trained"), Plan(layers={})
    parent = folder / variant.parent.name
    if not (parent / PLAN).is_file():
        raise PicojouleError(f"variant {variant.name} starts from {variant.parent.name}, which is not made yet")
    before = read_plan(parent / PLAN)
    start = load_compressed(made, before, parent / WEIGHTS)
    if variant.bits is None:
        settings = {
            "budget": variant.energy,
            "epochs": recipe.sparse_epochs,
            "finetune_epochs": recipe.finetune_epochs,
            "lr": recipe.prune_lr,
            "seed": recipe.seed,
        }
        name = "slimming"
    else:
        settings = {
            "weight_bits": variant.bits,
            "activation_bits": variant.activation_bits or variant.bits,
            "epochs": recipe.quantise_epochs,
            "lr": recipe.quantise_lr,
            "seed": recipe.seed,
        }
        if variant.activation_bits is not None:
            settings["first_last_bits"] = None
        name = "lsq"
    return apply_method(start, before, name, settings, data, load_hardware(recipe.prune_for))
