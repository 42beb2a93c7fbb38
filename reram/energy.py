"""Energy by component: events of ISAAC's parts times their energies, 32 nm; every line names its technology constant.

A position (one window through all crossbars of a layer) takes `steps` reads. Per read every used row is driven and
every used column sampled and converted; a pair of ADCs shares a shift-and-add unit, which takes two codes in a step.
Events follow the cells in use, not the crossbars occupied. Busy powers (`isaac.*.power`) are never charged beside
events. Left out: writing cells, control, clock trees, and savings from zero inputs or weights.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from picojoule.reram.crossbar import Encoding
from picojoule.reram.mapping import LayerMapping
from picojoule.reram.spec import NODE_NM, PowerPolicy, ReramSpec
from picojoule.sim.attributes import ActivationAttributes, ActivationKind, PoolAttributes, PoolKind
from picojoule.sim.cost import Energy
from picojoule.sim.ir import Layer
from picojoule.sim.technology import VectorOperation, constant, multiply_add_energy_pj, product_key
from picojoule.sim.vector_unit import VectorWork, operation_energy

_ISAAC_CELLS = 128 * 128
_ISAAC_READ_NS = 100.0
_CODES_PER_STEP = 2
"""Codes a shift-and-add unit takes in a step: four units serve eight ADCs (and HWComponents gives half the energy a
code)."""
OUTPUT_BITS = 16
"""Bits the output registers hold for each output (256 B for the 128 outputs of an IMA)."""
ACCUMULATOR_BITS = 32


def line(component: str, name: str, events: float, scale: float = 1.0, factor: str = "") -> Energy:
    """Return a line priced by a constant, times `scale` (a property of the design) and another constant `factor`."""
    pj = constant(name).value * scale * (constant(factor).value if factor else 1.0)
    return Energy(component=component, constant=product_key(name, factor), events=float(events), pj_per_event=pj)


def adc_factor(quantity: str, bits: int) -> str:
    """Return the constant that carries the 8-bit converter's `energy` or `area` to other resolutions; empty for 8."""
    return "" if bits == 8 else f"adc.sar.{quantity}.{bits}bit"


def conversions(mapping: LayerMapping, spec: ReramSpec) -> int:
    """Return the A/D conversions of a layer: outputs x row tiles x slices x steps, twice for `split`."""
    apart = 2 if spec.encoding is Encoding.SPLIT else 1
    return _columns(mapping) * apart * mapping.steps * mapping.gemm.m


def _columns(mapping: LayerMapping) -> int:
    return mapping.gemm.groups * mapping.gemm.n * mapping.slices * mapping.row_tiles


def crossbar_energy(mapping: LayerMapping, spec: ReramSpec, has_bias: bool) -> list[Energy]:
    """Return the bill of a layer inside its IMAs.

    A wordline pulse of v bits costs 2^(v-1) times ISAAC's 1-bit one (MNSIM's DACs double per bit), a read follows its
    time.
    """
    g = mapping.gemm
    reads = mapping.steps * g.m
    drives = g.groups * g.k * mapping.column_tiles * spec.polarities * reads
    codes = conversions(mapping, spec)
    outputs = g.groups * g.n * g.m
    merges = outputs * (mapping.row_tiles - 1 + has_bias)
    if spec.polarities == 1:  # the weights' offset times the sum of the inputs is taken off
        merges += g.groups * g.k * g.m + outputs * mapping.row_tiles
    return [
        line("adc", "isaac.adc.conversion", codes, factor=adc_factor("energy", spec.adc_bits)),
        line("dac", "isaac.dac.drive", drives, scale=2.0 ** (spec.dac_bits - 1)),
        line("sample_hold", "isaac.sample_hold.sample", _columns(mapping) * spec.polarities * reads),
        line(
            "crossbar",
            "isaac.crossbar.read",
            mapping.used_cells * reads / _ISAAC_CELLS,
            scale=spec.read_s * 1e9 / _ISAAC_READ_NS,
        ),
        line("shift_add", "isaac.shift_add.step", codes / _CODES_PER_STEP + merges),
        line("input_register", "isaac.input_register.bit", drives * spec.dac_bits),
        line("output_register", "isaac.output_register.bit", outputs * mapping.row_tiles * OUTPUT_BITS * mapping.steps),
    ]


def buffer_energy(read_bits: float, write_bits: float) -> list[Energy]:
    """Return the bill of moving bits between a tile's eDRAM and its units, over the bus."""
    moved = read_bits + write_bits
    return [line("edram", "isaac.edram.bit", moved), line("bus", "isaac.bus.bit", moved)]


def transfer_energy(router_bits: int, link_bits: int, spec: ReramSpec) -> list[Energy]:
    """Return the bill of values that come from other tiles and chips; an always-on link is static energy instead."""
    bill = [line("router", "isaac.router.bit", router_bits)]
    if spec.power_policy is not PowerPolicy.WHOLE_CHIP:
        bill.append(line("link", "link.chip.128bit", link_bits / 128))
    return bill


def vector_energy(layer: Layer, work: VectorWork, bits: int) -> list[Energy]:
    """Return the bill of a layer on the tile's digital unit: ISAAC's sigmoid and max-pool units where they fit."""
    match layer.attributes:
        case ActivationAttributes(kind=ActivationKind.SIGMOID | ActivationKind.TANH):
            return [line("sigmoid", "isaac.sigmoid.step", work.write_elements)]
        case PoolAttributes(kind=PoolKind.MAX):
            return [line("max_pool", "isaac.max_pool.step", sum(work.operations.values()))]
    return operation_energy("vector", work, bits, NODE_NM)


def cell_energy(work: VectorWork, bits: int) -> list[Energy]:
    """Return the bill of recurrent cells: sigmoids and tanh in ISAAC's sigmoid unit, the rest in the vector lanes."""
    curves = work.operations.get(VectorOperation.TRANSCENDENTAL, 0)
    rest = dict(work.operations)
    rest.pop(VectorOperation.TRANSCENDENTAL, None)
    bill = operation_energy("vector", replace(work, operations=rest), bits, NODE_NM)
    return [line("sigmoid", "isaac.sigmoid.step", curves), *bill]


def product_energy(macs: int, weight_bits: int, input_bits: int) -> list[Energy]:
    """Return the bill of a product of two activations on the digital unit."""
    price = multiply_add_energy_pj(weight_bits, input_bits, ACCUMULATOR_BITS, NODE_NM)
    return [
        Energy(component="vector", constant=key, events=float(macs), pj_per_event=float(np.asarray(pj)))
        for key, pj in price.energy_by_constant.items()
    ]


def static_energy(
    latency_s: float, used_mm2: float, built_mm2: float, chips: int, spec: ReramSpec
) -> tuple[Energy, ...]:
    """Return what flows for as long as the network runs (see `PowerPolicy`).

    Leakage is that of logic per area, for all of a tile; ISAAC prints busy powers only.
    """
    if spec.power_policy is PowerPolicy.DYNAMIC_ONLY:
        return ()
    ns = latency_s * 1e9  # mW x ns = pJ
    if spec.power_policy is PowerPolicy.USED_TILES:
        return (line("leakage", "logic.leakage.40nm", used_mm2 * ns),)
    return (
        line("leakage", "logic.leakage.40nm", built_mm2 * ns),
        line("hypertransport", "isaac.hypertransport.power", chips * ns),
    )


def spent(lines: Iterable[Energy]) -> tuple[Energy, ...]:
    """Return the lines that cost something."""
    return tuple(entry for entry in lines if entry.events > 0)
