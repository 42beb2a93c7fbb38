"""What a report on crossbars says besides its numbers: the slowest stage, converters, buffers, writing the weights."""

from dataclasses import dataclass

from picojoule.reram.adc_models import MEGASAMPLES_PER_S, AdcModel
from picojoule.reram.adcs import converting_seconds
from picojoule.reram.crossbar import Encoding
from picojoule.reram.energy import write_energy
from picojoule.reram.mapping import write_seconds
from picojoule.reram.periphery_keys import ColumnSelect, RowDriver
from picojoule.reram.plan import Plan
from picojoule.reram.spec import NEEDED, AdcBuild, ReramSpec, slices_of, stored_bits
from picojoule.sim.formats import Structure
from picojoule.sim.technology.adc_laws import SURVEY_LEAST_BITS

_ISAAC_CYCLE_NS = 100.0


def notes(plan: Plan, spec: ReramSpec) -> tuple[str, ...]:
    """Return the remarks that every result repeats."""
    said = ["layers overlap in a pipeline: latencies of layers need not sum to the total"]
    if plan.interval_s > 0:
        slowest = max(plan.stages, key=lambda name: plan.stages[name])
        said.append(f"the slowest pipeline stage is '{slowest}'")
    mapped = [layer for layer in plan.network.layers if layer.name in plan.maps]
    sparse = [layer for layer in mapped if layer.operands[1].sparsity.structure is not Structure.DENSE]
    if sparse:
        saves = "their conversions at most" if spec.adc_bits == NEEDED else "nothing here"
        said.append(f"zero weights keep their cells: the sparsity of {len(sparse)} layer(s) saves {saves}")
    for more in (_cells, _converters, _prices, _buffers, _writing):
        said += more(plan, spec)
    return tuple(said)


def _cells(plan: Plan, spec: ReramSpec) -> list[str]:
    """Say what stays empty where cells do not divide the weights."""
    said = []
    for bits in sorted({m.weight_bits for m in plan.maps.values()}):
        stored, room = stored_bits(spec, bits), slices_of(spec, bits) * spec.cell_bits
        what = f"{bits}-bit weights" if stored == bits else f"the {stored}-bit magnitudes of {bits}-bit weights"
        if room > stored:
            count = f"{room - stored} of {room} bits {'stays' if room == stored + 1 else 'stay'}"
            said.append(f"{spec.cell_bits}-bit cells do not divide {what}: {count} empty in every weight")
    return said


def _converters(plan: Plan, spec: ReramSpec) -> list[str]:
    if not plan.maps:
        return []
    layers = plan.converters.layers
    said = []
    converting_ns = 1e9 * max(converting_seconds(adc.widest, spec) for adc in layers.values())
    if converting_ns < 0.999 * spec.read_ns:
        whose = "ISAAC's cycle of 100 ns" if spec.read_ns == _ISAAC_CYCLE_NS else f"read_ns of {spec.read_ns:g} ns"
        said.append(
            f"{whose}, not the ADC, sets the time of every read: ADCs convert for {converting_ns:.3g} ns and idle for the rest; "
            "cells settle in 1-10 ns, so read_ns may be set lower to see the time of the ADC"
        )
    if spec.encoding is Encoding.DIFFERENTIAL:
        said.append(
            f"a pair of columns is subtracted before its ADC, so an ADC converts {spec.columns_per_adc:g} pairs in a "
            "read, half as many as it has columns"
        )
    if isinstance(spec.adc_bits, int):
        return said
    bits = "/".join(str(b) for b in plan.converters.built_bits)
    when = (
        "built so for all tiles" if spec.adc is AdcBuild.DESIGN_TIME else "the widest is built, conversions stop early"
    )
    said.append(f"ADC bits by slice, least significant first: {bits} ({when})")
    if spec.adc_bits == NEEDED:
        pairs, empty = (sum(getattr(a, key) for a in layers.values()) for key in ("pairs", "empty_pairs"))
        skipped, made = (sum(getattr(a, key) for a in layers.values()) for key in ("skipped", "conversions"))
        said.append(
            f"{empty} of {pairs} (row tile, slice) pairs and {skipped} of {skipped + made} columns hold no filled cell and "
            "are not converted"
        )
    if plan.converters.floored:
        said.append(
            f"the survey states {SURVEY_LEAST_BITS} bits and more: converters that need fewer are built and priced with "
            f"{SURVEY_LEAST_BITS}"
        )
    return said


def _prices(plan: Plan, spec: ReramSpec) -> list[str]:
    """Say where a key of the design changes less than it seems to."""
    if not plan.maps:
        return []
    said = []
    rate = spec.adc_megasamples_per_s
    if rate != MEGASAMPLES_PER_S and spec.adc_model in (AdcModel.ISAAC_SAR, AdcModel.BITSLICE_PAPER):
        said.append(
            f"at {rate:g} MS/s only the time of a conversion changes: under {spec.adc_model.value} energy and area of an ADC "
            f"stay those of {MEGASAMPLES_PER_S:g} MS/s (adc_model survey knows the rate)"
        )
    if spec.device is not None:
        priced = spec.row_driver is RowDriver.SWITCH or spec.column_select is ColumnSelect.MULTIPLEXER
        known = [
            *(["the converters' column current"] if spec.adc_model is AdcModel.NEUROSIM_MLSA else []),
            *(["the transistors around the cells"] if priced else []),
        ]
        read = "its resistances price " + " and ".join(known) if known else "its resistances price nothing"
        cells = "" if spec.adc_model is AdcModel.NEUROSIM_MLSA else "; reading a cell costs what ISAAC's costs"
        said.append(f"the device decides what is computed; {read}{cells}")
    return said


def _buffers(plan: Plan, spec: ReramSpec) -> list[str]:
    spilled = plan.buffers.spilled_bits
    if not spilled:
        return []
    most = max(spilled, key=lambda name: spilled[name])
    return [
        f"{len(spilled)} layer(s) wait for more input than the eDRAM of their tiles holds (fullest tile: "
        f"{plan.buffers.most_kib:.0f} of {spec.edram_kib:g} KiB, most for '{most}'): {sum(spilled.values()) / 8192:.0f} KiB "
        "go to memory off the chip and back"
    ]


def _writing(plan: Plan, spec: ReramSpec) -> list[str]:
    said = []
    once = deployment(plan, spec)
    if once.cells:
        spent = f"{once.energy_pj * 1e-9:.3g} mJ, {once.seconds * 1e3:.3g} ms"
        said.append(
            f"writing the weights, once per deployment and in no total: {spent}; cells of {spec.endurance_writes:g} writes "
            "bear as many deployments"
        )
    rewritten = {name: m for name, m in plan.maps.items() if m.writes}
    if rewritten:
        cells = sum(m.used_cells * m.writes for m in rewritten.values())
        said.append(
            f"products of two activations write {cells} cells in {len(rewritten)} layer(s), each cell once per sample: "
            f"{spec.endurance_writes:g} inferences wear them out"
        )
    return said


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """Writing the weights once: cells (copies included), energy, and time with all crossbars written at once."""

    cells: int
    energy_pj: float
    seconds: float


def deployment(plan: Plan, spec: ReramSpec) -> Deployment:
    """Return what a deployment writes and costs; all pulses of write-verify are one write of `endurance_writes`."""
    stored = [m for m in plan.maps.values() if not m.writes]
    cells = sum(m.used_cells * m.copies for m in stored)
    rows = max((min(m.gemm.k, spec.crossbar_rows) for m in stored), default=0)
    return Deployment(
        cells=cells,
        energy_pj=sum(entry.pj for entry in write_energy(cells, spec)),
        seconds=write_seconds(rows, spec),
    )
