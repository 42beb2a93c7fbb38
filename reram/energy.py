"""Energy by component: events of ISAAC's parts times their energies; every line names its technology constant.

A position (one window through all crossbars of a layer) takes `steps` reads. Per read every used row is driven and
every used column sampled and converted; a pair of ADCs shares a shift-and-add unit, which takes two codes in a step.
Events follow the cells in use, not the crossbars occupied. Busy powers (`isaac.*.power`) are never charged beside
events. Writing the weights happens once per deployment and is no part of an inference. Left out: control. Inputs
that are 0 save row drives where `input_activity` says how many; zero weights save conversions where `adc_bits` is `needed`.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from picojoule.reram.adc_models import AdcModel
from picojoule.reram.adcs import LayerAdc, adc_lines
from picojoule.reram.mapping import LayerMapping
from picojoule.reram.periphery import accumulator_energy, column_energy, row_energy
from picojoule.reram.periphery_keys import Accumulators
from picojoule.reram.spec import PowerPolicy, ReramSpec
from picojoule.reram.technology import OUTPUT_BITS, line
from picojoule.reram.traffic import Moved, link_share
from picojoule.sim.attributes import ActivationAttributes, ActivationKind, PoolAttributes, PoolKind
from picojoule.sim.cost import Energy
from picojoule.sim.ir import Layer
from picojoule.sim.technology import VectorOperation, constant, multiply_add_energy_pj
from picojoule.sim.vector_unit import VectorWork, operation_energy

_ISAAC_CELLS = 128 * 128
_ISAAC_READ_NS = 100.0
_CODES_PER_STEP = 2
"""Codes a shift-and-add unit takes in a step: four units serve eight ADCs (and HWComponents gives half the energy a
code)."""
ACCUMULATOR_BITS = 32


def crossbar_energy(mapping: LayerMapping, adc: LayerAdc, spec: ReramSpec, has_bias: bool) -> list[Energy]:
    """Return the bill of a layer inside its IMAs.

    A wordline pulse of v bits costs 2^(v-1) times ISAAC's 1-bit one (MNSIM's DACs double per bit); cells are read for the
    time the array settles, also where converters take longer (sample-and-holds keep the sums). `neurosim_mlsa` has their
    current in it. Parts that ISAAC has not: `periphery`.
    """
    g, nm, reads = mapping.gemm, spec.node_nm, mapping.reads
    drives = g.groups * g.k * mapping.column_tiles * spec.polarities * reads
    sampled = g.groups * g.n * mapping.slices * mapping.row_reads * spec.polarities
    codes = adc.conversions * reads
    outputs = g.groups * g.n * g.m
    merges = outputs * (mapping.row_tiles - 1 + has_bias)
    if spec.polarities == 1:  # the weights' offset times the sum of the inputs is taken off
        merges += g.groups * g.k * g.m + outputs * mapping.row_tiles
    settled = spec.read_ns / _ISAAC_READ_NS
    shared = spec.accumulators is Accumulators.SHARED
    read_cells = 0 if spec.adc_model is AdcModel.NEUROSIM_MLSA else mapping.used_cells * reads
    results = outputs * mapping.row_reads * OUTPUT_BITS * mapping.steps
    return [
        *adc_lines(adc, reads, spec),
        *row_energy(drives, spec),
        *column_energy(sampled * reads, codes, spec),
        line("crossbar", "isaac.crossbar.read", read_cells / _ISAAC_CELLS, nm, scale=settled),
        line("shift_add", "isaac.shift_add.step", (codes / _CODES_PER_STEP if shared else 0) + merges, nm),
        *(() if shared else accumulator_energy(mapping, adc, codes, spec)),
        line("input_register", "isaac.input_register.bit", drives * spec.dac_bits, nm),
        line("output_register", "isaac.output_register.bit", results if shared else 0, nm),
        *(write_energy(mapping.used_cells * mapping.writes, spec) if mapping.writes else ()),
    ]


def write_energy(cells: float, spec: ReramSpec) -> list[Energy]:
    """Return the bill of writing cells, all pulses of write-verify; the verifying reads are left out (a thousandth)."""
    scale = spec.write_pj_per_cell / constant("reram.write.pulse").value
    return [line("write", "reram.write.pulse", cells * spec.write_pulses, spec.node_nm, scale=scale)]


def buffer_energy(moved: Moved, spec: ReramSpec) -> list[Energy]:
    """Return the bill of moving bits between a tile's eDRAM and its units, over the bus."""
    return [
        line("edram", "isaac.edram.bit", moved.bits, spec.node_nm),
        line("bus", "isaac.bus.bit", moved.bits, spec.node_nm),
    ]


def transfer_energy(router_bits: float, link_bits: float, spilled_bits: float, spec: ReramSpec) -> list[Energy]:
    """Return the bill of values that come from other tiles, chips and memory; an always-on link is static energy instead."""
    bill = [line("router", "isaac.router.bit", router_bits, spec.node_nm)]
    if spilled_bits:
        bill.append(line("spill", "dram.ddr4.bit", spilled_bits, spec.node_nm))
    if spec.power_policy is not PowerPolicy.WHOLE_CHIP and spec.hypertransport_links:
        bill.append(line("link", "link.chip.128bit", (link_bits + spilled_bits) / 128, spec.node_nm))
    return bill


def vector_energy(layer: Layer, work: VectorWork, bits: int, spec: ReramSpec) -> list[Energy]:
    """Return the bill of a layer on the tile's digital unit: ISAAC's sigmoid and max-pool units where they fit."""
    match layer.attributes:
        case ActivationAttributes(kind=ActivationKind.SIGMOID | ActivationKind.TANH):
            return [line("sigmoid", "isaac.sigmoid.step", work.write_elements, spec.node_nm)]
        case PoolAttributes(kind=PoolKind.MAX):
            return [line("max_pool", "isaac.max_pool.step", sum(work.operations.values()), spec.node_nm)]
    return operation_energy("vector", work, bits, spec.node_nm)


def cell_energy(work: VectorWork, bits: int, spec: ReramSpec) -> list[Energy]:
    """Return the bill of recurrent cells: sigmoids and tanh in ISAAC's sigmoid unit, the rest in the vector lanes."""
    curves = work.operations.get(VectorOperation.TRANSCENDENTAL, 0)
    rest = dict(work.operations)
    rest.pop(VectorOperation.TRANSCENDENTAL, None)
    bill = operation_energy("vector", replace(work, operations=rest), bits, spec.node_nm)
    return [line("sigmoid", "isaac.sigmoid.step", curves, spec.node_nm), *bill]


def product_energy(macs: int, weight_bits: int, input_bits: int, spec: ReramSpec) -> list[Energy]:
    """Return the bill of a product of two activations on the digital unit."""
    price = multiply_add_energy_pj(weight_bits, input_bits, ACCUMULATOR_BITS, spec.node_nm)
    return [
        Energy(component="vector", constant=key, events=float(macs), pj_per_event=float(np.asarray(pj)))
        for key, pj in price.energy_by_constant.items()
    ]


def static_energy(latency_s: float, used_mm2: float, idle_pj: float, chips: int, spec: ReramSpec) -> tuple[Energy, ...]:
    """Return what flows for as long as the network runs (see `PowerPolicy`).

    Leakage is that of logic per area, for all of a tile; ISAAC prints busy powers only. `idle_pj` is what the chips' parts
    would draw, were they busy, in the time that they are not;
    the share of it that flows has their leakage in it, so idle tiles have no other.
    """
    ns = latency_s * 1e9  # mW x ns = pJ
    nm = spec.node_nm
    if spec.power_policy is PowerPolicy.DYNAMIC_ONLY:
        return ()
    if spec.power_policy is PowerPolicy.USED_TILES:
        return (line("leakage", "logic.leakage.40nm", used_mm2 * ns, nm),)
    return (
        line("leakage", "logic.leakage.40nm", used_mm2 * ns, nm),
        line("idle", "isaac.idle.share", idle_pj, nm),
        line("hypertransport", "isaac.hypertransport.power", link_share(spec) * chips * ns, nm),
    )


def spent(lines: Iterable[Energy]) -> tuple[Energy, ...]:
    """Return the lines that cost something."""
    return tuple(entry for entry in lines if entry.events > 0)
