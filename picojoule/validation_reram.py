"""Rows of `picojoule validate` for crossbars: ISAAC's table, CrossSim's products, the ADC survey, NeuroSim's VGG-8.

ISAAC's components and the survey's regression are entered as constants, so their rows are `calibrated`. CrossSim and NeuroSim
are other people's tools, run unchanged; nothing here was fitted to what they gave. `docs/crossbar.md` takes the NeuroSim rows
apart by component.
"""

import io
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np

from picojoule.networks import load_network
from picojoule.reram import CrossbarSpec, crossbar_matmul
from picojoule.reram.adc_models import AdcModel, adc_area_um2, adc_energy_pj
from picojoule.reram.area import tile_area, tile_busy_mw
from picojoule.sim.hardware import load_hardware
from picojoule.sim.report import Report
from picojoule.sim.technology import constant
from picojoule.validation_rows import Row, make_row

ISAAC = "ISAAC (Shafiee et al., ISCA 2016), table of components"
CROSSSIM = "CrossSim 3.2.0, measured"
SURVEY = "Accelergy ADC plug-in (regression over Murmann's survey), measured"
NEUROSIM = "DNN+NeuroSim 1.5-dev, default 22 nm design, random traces, measured"
NEUROSIM_PRESET, NEUROSIM_NETWORK = "neurosim-22nm", "vgg8-cifar"


@dataclass(frozen=True, slots=True, kw_only=True)
class NeurosimParts:
    """What NeuroSim reports of an image of VGG-8: mm2 and uJ by component (facts of one run of its default)."""

    area_mm2: float = 120.4
    energy_uj: float = 68.5
    adc_share: float = 46.9 / 68.5
    areas: tuple[tuple[str, float], ...] = (
        ("array", 3.6),
        ("adc", 28.5),
        ("accumulation", 17.5),
        ("interconnect", 15.1),
        ("other", 55.3),
    )
    energies: tuple[tuple[str, float], ...] = (("adc", 46.9), ("accumulation", 4.6), ("other", 17.0))


NEUROSIM_RUN = NeurosimParts()


def rows() -> list[Row]:
    """Return rows {name, source, quantity, reference, ours, error_pct, calibrated}."""
    return [*isaac(), *crosssim(), *survey(), *neurosim()]


def isaac() -> Iterator[Row]:
    """Yield sums over ISAAC's table: an IMA, a tile, a chip, and the peak density. Entered from it, so calibrated."""
    accelerator = load_hardware("isaac")
    spec: Any = accelerator.spec
    tile_mm2 = sum(
        item.mm2 for item in tile_area(spec, (spec.adc_bits,)) if item.component != "vector"
    )  # lanes are ours
    tile_mw = tile_busy_mw(spec, (spec.adc_bits,))
    chip_w = (spec.tiles_per_chip * tile_mw + constant("isaac.hypertransport.power").value) / 1e3
    area = accelerator.area().mm2 or 0.0
    crossbars = spec.tiles_per_chip * spec.imas_per_tile * spec.crossbars_per_ima
    outputs = spec.crossbar_cols // -(-spec.weight_bits // spec.cell_bits)
    pass_s = spec.activation_bits / spec.dac_bits * constant("isaac.crossbar.read_time").value * 1e-9
    gops = 2 * crossbars * spec.crossbar_rows * outputs / pass_s / 1e9
    for quantity, reference, ours in (
        ("IMA power, mW", 24.08, _isaac_ima("power")),
        ("IMA area, mm2", 0.01312, _isaac_ima("area")),
        ("tile power, mW", 329.8, tile_mw),
        ("tile area, mm2", 0.372, tile_mm2),
        ("chip power, W", 65.8, chip_w),
        ("chip area, mm2", 85.4, area),
        ("peak density, GOPS/mm2", 478.95, gops / area),
    ):
        yield make_row("isaac", ISAAC, quantity, reference, ours, calibrated=True)


def crosssim() -> Iterator[Row]:
    """Yield the worst output over CrossSim's cases, as a share of a case's largest: 1 is CrossSim's, the rest our deviation."""
    errors: dict[bool, list[float]] = {False: [], True: []}
    for case in _crosssim_cases():
        spec = crossbar_spec(case["config"])
        y = crossbar_matmul(case["W"], case["X"], spec)
        errors[spec.has_wires].append(float(np.abs(y - case["Y"]).max() / np.abs(case["Y"]).max()))
    for wires, found in errors.items():
        name = f"crossbar product, {len(found)} cases {'with' if wires else 'without'} wires"
        yield make_row(name, CROSSSIM, "worst output / largest output", 1.0, 1.0 + max(found))


def survey() -> Iterator[Row]:
    """Yield points of the survey model; its formula is entered as it is, so calibrated."""
    for bits, node_nm, energy_pj, area_um2 in ((8, 32.0, 1.92921, 6469.27), (8, 22.0, 0.953776, 3611.68)):
        at = {"megasamples_per_s": 1280.0, "node_nm": node_nm}
        name = f"ADC, {bits} bits, {node_nm:g} nm, 1.28 GS/s"
        energy = float(adc_energy_pj(AdcModel.SURVEY, np.array([bits]), **at)[0])
        area = float(adc_area_um2(AdcModel.SURVEY, np.array([bits]), **at)[0])
        yield make_row(name, SURVEY, "energy, pJ a conversion", energy_pj, energy, calibrated=True)
        yield make_row(name, SURVEY, "area, um2", area_um2, area, calibrated=True)


def neurosim() -> Iterator[Row]:
    """Yield NeuroSim's default VGG-8 beside ours: predicted, no constant or key was chosen by what it gives."""
    parts = neurosim_parts()
    ours = (parts.area_mm2, parts.energy_uj, parts.adc_share)
    reference = (NEUROSIM_RUN.area_mm2, NEUROSIM_RUN.energy_uj, NEUROSIM_RUN.adc_share)
    quantities = ("chip area, mm2", "dynamic energy, uJ an image", "share of the ADCs in it")
    for quantity, theirs, mine in zip(quantities, reference, ours, strict=True):
        yield make_row(f"neurosim-22nm {NEUROSIM_NETWORK}", NEUROSIM, quantity, theirs, mine)


_COMPONENTS = {
    "crossbar": "array",
    "adc": "adc",
    "row_wire": "adc",
    "row_gates": "adc",
    "shift_add": "accumulation",
    "accumulator_adder": "accumulation",
    "accumulator_register": "accumulation",
    "output_register": "accumulation",
    "tile_output_register": "accumulation",
    "bus": "interconnect",
    "router": "interconnect",
}
"""NeuroSim's words for our components; everything else is "other". It books the wordlines' charge and the columns' current with
its ADCs, and the registers of its accumulators with them."""


@lru_cache(maxsize=1)
def neurosim_parts() -> NeurosimParts:
    """Return our figures for NeuroSim's network and design, by its components; energy is dynamic, as the 68.5 uJ are."""
    report = neurosim_report()
    areas = dict.fromkeys((name for name, _ in NEUROSIM_RUN.areas), 0.0)
    for item in report.area.items:
        areas[_COMPONENTS.get(item.component, "other")] += item.mm2
    energies = dict.fromkeys((name for name, _ in NEUROSIM_RUN.energies), 0.0)
    for line in (line for layer in report.layers for line in layer.energy):
        part = _COMPONENTS.get(line.component, "other")
        energies[part if part in energies else "other"] += line.pj * 1e-6
    energy = sum(energies.values())
    return NeurosimParts(
        area_mm2=sum(areas.values()),
        energy_uj=energy,
        adc_share=energies["adc"] / energy,
        areas=tuple(areas.items()),
        energies=tuple(energies.items()),
    )


def neurosim_report() -> Report:
    """Return the evaluation behind `neurosim_parts`."""
    return load_hardware(NEUROSIM_PRESET).evaluate(load_network(NEUROSIM_NETWORK), chips=None)


def crossbar_spec(config: dict[str, Any]) -> CrossbarSpec:
    """Return the spec of a packaged case."""
    same = ("weight_bits slices cell_max input_bits signed_inputs input_bits_per_step encoding "
            "adc_lo adc_hi tile_rows tile_cols wire_ohm_per_cell")  # fmt: skip
    return CrossbarSpec(
        adc_bits=config["adc_bits"] or None,
        r_on_ohm=config["r_on"],
        r_off_ohm=config["r_off"],
        **{key: config[key] for key in same.split()},
    )


def _crosssim_cases() -> Iterator[dict[str, Any]]:
    data = files("picojoule").joinpath("validation_data/crosssim.npz").read_bytes()
    with np.load(io.BytesIO(data), allow_pickle=False) as found:
        for name in sorted({key.partition("/")[0] for key in found.files}):
            case: dict[str, Any] = {key: found[f"{name}/{key}"] for key in "WXY"}
            yield {**case, "config": json.loads(str(found[f"{name}/config"]))}


def _isaac_ima(quantity: str) -> float:
    """Return `power` (mW) or `area` (mm2) of an IMA: ISAAC's counts of its components."""

    def of(name: str) -> float:
        return constant(f"isaac.{name}.{quantity}").value

    counts = {
        "adc": 8,
        "crossbar": 8,
        "dac": 1024,
        "sample_hold": 1024,
        "shift_add": 4,
        "input_register": 1,
        "output_register": 1,
    }
    return math.fsum(count * of(name) for name, count in counts.items())
