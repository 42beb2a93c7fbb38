"""Costs of planned layers: one `LayerCost` each, and the shares of cells and time that are used or lost.

Utilization of a layer on crossbars is the share of the cells of its IMAs that hold weights, times the share of the
pipeline's interval in which they are read. What is lost goes to `ima_padding` (crossbars of its IMAs left empty),
`row_padding` (wordlines without inputs), `column_padding` (bitlines without outputs), `block_diagonal` (cells between
packed groups) and `imbalance` (cells with weights that wait for slower stages); all shares sum to 1. A recurrent layer also loses
to `dependence`: its cells wait for the digital unit to make the next state; one whose matrix is written for every product to
`writing`; and one that waits for its bus, router ports or links to `transfer`.
"""

import math

from picojoule.reram import energy
from picojoule.reram.mapping import LayerMapping
from picojoule.reram.plan import Plan
from picojoule.reram.recurrence import carried
from picojoule.reram.spec import ReramSpec, input_width
from picojoule.reram.technology import OUTPUT_BITS
from picojoule.reram.units import HOST, UNSUPPORTED, formats_of
from picojoule.sim.attributes import Op, RecurrentAttributes
from picojoule.sim.cost import Energy, LayerCost
from picojoule.sim.gemm import gemm_view, layer_macs
from picojoule.sim.ir import Layer


def layer_cost(layer: Layer, plan: Plan, spec: ReramSpec) -> LayerCost:
    """Return the cost of one layer of a plan for the whole batch."""
    if layer.name in plan.maps:
        return _on_crossbars(layer, plan, spec)
    name, place, service = layer.name, plan.placement, plan.service_s[layer.name]
    unit = plan.units[name]
    bill: list[Energy] = []
    reads: dict[str, int] = {}
    writes: dict[str, int] = {}
    if unit == HOST:
        bill += plan.hosted[name].energy
        work = plan.hosted[name].work
        reads, writes = {"host.ifmap": work.read_elements}, {"host.ofmap": work.write_elements}
    elif unit != UNSUPPORTED:
        work = plan.works[name]
        if view := gemm_view(layer, plan.batch):
            x, w = (input_width(f, f"layer '{name}'")[0] for f in formats_of(layer, spec))
            bill += energy.product_energy(view.macs, w, x, spec)
        else:
            bill += energy.vector_energy(layer, work, _element_bits(layer), spec)
        if name in plan.moved:
            bill += energy.buffer_energy(plan.moved[name], spec)
            reads, writes = {"edram.ifmap": work.read_elements}, {"edram.ofmap": work.write_elements}
    bill += energy.transfer_energy(place.router_bits[name], place.link_bits[name], 0.0, spec)
    return LayerCost(
        name=name,
        op=layer.op.value,
        unit=unit,
        gemm=gemm_view(layer, plan.batch),
        macs=layer_macs(layer, plan.batch),
        compute_cycles=_cycles(service, spec),
        stall_cycles=0,
        latency_s=service,
        energy=energy.spent(bill),
        reads=reads,
        writes=writes,
    )


def _on_crossbars(layer: Layer, plan: Plan, spec: ReramSpec) -> LayerCost:
    name, mapping, place = layer.name, plan.maps[layer.name], plan.placement
    g = mapping.gemm
    spilled = plan.buffers.spilled_bits.get(name, 0.0)
    results = g.groups * g.n * g.m
    windows = g.groups * g.k * g.m
    busy = plan.service_s[name] + plan.depth_s[name]
    held, lost = _shares(mapping, plan.cell_s.get(name, 0.0), plan.service_s[name], plan.interval_s, spec)
    bill = [
        *energy.crossbar_energy(mapping, plan.converters.layers[name], spec, has_bias=_has_bias(layer)),
        *energy.transfer_energy(place.router_bits[name], place.link_bits[name], spilled, spec),
        *energy.buffer_energy(plan.moved[name], spec),
    ]
    reads, writes = {"edram.ifmap": windows}, {"edram.ofmap": results}
    if isinstance(layer.attributes, RecurrentAttributes):
        moved = carried(layer, plan.batch, 0.0)
        bill += energy.cell_energy(plan.works[name], OUTPUT_BITS, spec)
        reads["edram.gates"], reads["edram.state"] = moved.gates, moved.cell
        writes = {"edram.ofmap": moved.results, "edram.state": moved.cell}
    return LayerCost(
        name=name,
        op=layer.op.value,
        unit="crossbar",
        gemm=gemm_view(layer, plan.batch),
        macs=layer_macs(layer, plan.batch),
        compute_cycles=_cycles(busy, spec),
        stall_cycles=0,
        latency_s=busy,
        utilization=1.0 - sum(lost.values()),
        mapping_efficiency=mapping.used_cells / _cells(mapping.crossbars, spec),
        compute_utilization=held,
        utilization_lost=lost,
        energy=energy.spent(bill),
        reads=reads,
        writes=writes,
    )


def _has_bias(layer: Layer) -> bool:
    a = layer.attributes
    if isinstance(a, RecurrentAttributes):
        return a.has_bias
    return layer.op is not Op.MATMUL and len(layer.operands) > 2


def total_utilization(plan: Plan, spec: ReramSpec) -> float | None:
    """Return the share of the used tiles' cell-time in which cells with weights are read; None without crossbars."""
    if not plan.maps or plan.interval_s == 0:
        return None
    used = sum(m.used_cells * m.copies * m.reading_s for m in plan.maps.values())
    return used / (_cells(plan.placement.tiles * spec.crossbars_per_tile, spec) * plan.interval_s)


def _shares(
    mapping: LayerMapping, cell_s: float, service_s: float, interval_s: float, spec: ReramSpec
) -> tuple[float, dict[str, float]]:
    """Return the share of a layer's IMAs that holds weights, and what is lost by cause."""
    all_cells = _cells(mapping.imas * spec.crossbars_per_ima, spec)
    own_cells = _cells(mapping.crossbars, spec)
    held = mapping.used_cells / all_cells
    lost = {
        "ima_padding": (all_cells - own_cells) / all_cells,
        "row_padding": (own_cells - mapping.row_cells) / all_cells,
        "column_padding": (mapping.row_cells - mapping.block_cells) / all_cells,
        "block_diagonal": (mapping.block_cells - mapping.used_cells) / all_cells,
        "imbalance": held * (1.0 - service_s / interval_s),
    }
    taken_s = mapping.service_s(spec) + cell_s
    if mapping.waits:
        lost["dependence"] = held * (taken_s - mapping.reading_s) / interval_s
    if mapping.writes:
        lost["writing"] = held * mapping.writing_s / interval_s
    if service_s > taken_s:
        lost["transfer"] = held * (service_s - taken_s) / interval_s
    return held, lost


def _cells(crossbars: int, spec: ReramSpec) -> int:
    return crossbars * spec.crossbar_rows * spec.crossbar_cols


def _element_bits(layer: Layer) -> int:
    """Return the width of a digital operation: that of the widest value written."""
    widths = [r.format.stored_bits for r in layer.results if r.format]
    return min(32, math.ceil(max(widths, default=32.0)))


def _cycles(seconds: float, spec: ReramSpec) -> int:
    return math.ceil(round(seconds * spec.clock_mhz * 1e6, 6))
