"""What the demo adds on ReRAM crossbars: converters that follow a variant's own weights, and its accuracy with real devices.

Both are extra figures of a variant that is already priced and measured, kept beside it in `crossbar.json`.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from picojoule.accuracy import measure
from picojoule.compress.plan import read_plan
from picojoule.compressing import load_compressed
from picojoule.models.data import Dataset, load
from picojoule.networks import load_torch
from picojoule.sim.files import write_atomic
from picojoule.sim.hardware import load_hardware
from picojoule.sim.ir import Network
from picojoule.store import result_key
from picojoule.studies.trial_network import PLAN, WEIGHTS, priced_form
from picojoule.variants import Recipe, Variant

KEPT = "crossbar.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossbarRecipe:
    """What is looked at: keys of data-driven converters, a device, and on how many chips and test images."""

    target: str = "isaac"
    needed: tuple[tuple[str, Any], ...] = (("adc_bits", "needed"), ("adc", "run_time"))
    device: tuple[tuple[str, Any], ...] = (("device.preset", "mnsim-default"),)
    chips: int = 5
    images: int = 200

    @property
    def device_name(self) -> str:
        """The device's name."""
        return str(dict(self.device).get("device.preset", "own"))


def crossbar_figures(recipe: Recipe, variant: Variant, folder: Path, crossbar: CrossbarRecipe) -> dict[str, Any]:
    """Return `energy_pj_per_sample`, `energy_needed_pj`, `area_mm2`, `area_needed_mm2` and `device` accuracy of a variant.

    The variant must be made already; what is on disk and still valid is taken.
    """
    data = load(recipe.data)
    own = folder / variant.name
    settings = {"recipe": asdict(recipe), "variant": asdict(variant), "crossbar": asdict(crossbar)}
    key = result_key(settings, data.digest)
    try:
        found = json.loads((own / KEPT).read_text())
        if found["key"] == key:
            return dict(found["figures"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    figures = _figures(network_of_variant(recipe, variant, folder, data), data, crossbar, recipe.seed)
    write_atomic(own / KEPT, json.dumps({"key": key, "figures": figures}, indent=1, allow_nan=False))
    return figures


def network_of_variant(recipe: Recipe, variant: Variant, folder: Path, data: Dataset) -> Network:
    """Return the workload of a variant from its plan and weights on disk."""
    name = recipe.deform_network if variant.deform else recipe.network
    made = load_torch(name, sample_shape=data.input_shape, classes=data.classes, seed=recipe.seed)
    plan = read_plan(folder / variant.name / PLAN)
    return priced_form(load_compressed(made, plan, folder / variant.name / WEIGHTS), plan)


def _figures(network: Network, data: Dataset, crossbar: CrossbarRecipe, seed: int) -> dict[str, Any]:
    fixed = load_hardware(crossbar.target).evaluate(network, seed=seed).totals
    needed = load_hardware(crossbar.target, dict(crossbar.needed)).evaluate(network, seed=seed).totals
    test = replace(data.test, images=data.test.images[: crossbar.images], labels=data.test.labels[: crossbar.images])
    real = load_hardware(crossbar.target, dict(crossbar.device))
    accuracy = measure(network, real, replace(data, test=test), seed=seed, seeds=crossbar.chips)
    return {
        "energy_pj_per_sample": fixed["energy_pj_per_sample"],
        "energy_needed_pj": needed["energy_pj_per_sample"],
        "area_mm2": fixed["area_mm2"],
        "area_needed_mm2": needed["area_mm2"],
        "device": accuracy.to_dict(),
    }


def shown(name: str, figures: Mapping[str, Any]) -> dict[str, str]:
    """Return a variant's figures as a row for people."""
    device = figures["device"]
    low, high = device["interval"]
    return {
        "variant": name,
        "energy µJ, 8-bit ADCs": f"{figures['energy_pj_per_sample'] * 1e-6:.3g}",
        "energy µJ, bits the weights need": f"{figures['energy_needed_pj'] * 1e-6:.3g}",
        "accuracy with devices": f"{device['hardware']:.1%}",
        "95 % interval": f"{low:.1%} to {high:.1%}",
    }
