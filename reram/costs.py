"""Costs of planned layers: one `LayerCost` each, and the shares of cells and time that are used or lost.

Utilization of a layer on crossbars is the share of the cells of its IMAs that hold weights, times the share of the
pipeline's interval in which they are read. What is lost goes to `ima_padding` (crossbars of its IMAs left empty),
`row_padding` (wordlines without inputs), `column_padding` (bitlines without outputs), `block_diagonal` (cells between
packed groups) and `imbalance` (cells with weights that wait for slower stages); all shares sum to 1. A recurrent layer also loses
to `dependence`: its cells wait for the digital unit to make the next state.
"""

import math

from picojoule.reram import energy
from picojoule.reram.mapping import LayerMapping
from picojoule.reram.pipeline import wait
from picojoule.reram.plan import HOST, UNSUPPORTED, Plan, formats_of
from picojoule.reram.recurrence import carried
from picojoule.reram.spec import ReramSpec, input_width
from picojoule.sim.attributes import Op, RecurrentAttributes
from picojoule.sim.cost import Energy, LayerCost
from picojoule.sim.gemm import gemm_view, layer_macs
from picojoule.sim.ir import Layer
from picojoule.sim.passes import result_bytes


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
            bill += energy.product_energy(view.macs, w, x)
        else:
            bill += energy.vector_energy(layer, work, _element_bits(layer))
        if name not in plan.inline:
            bill += energy.buffer_energy(8 * work.read_bytes, 8 * work.write_bytes)
            reads, writes = {"edram.ifmap": work.read_elements}, {"edram.ofmap": work.write_elements}
    bill += energy.transfer_energy(place.router_bits[name], place.link_bits[name], spec)
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
    x_form = formats_of(layer, spec)[0]
    results = g.groups * g.n * g.m
    windows = g.groups * g.k * g.m
    y_form = layer.results[0].format or spec.native_activation
    busy = plan.service_s[name] + plan.depth_s[name]
    held, lost = _shares(mapping, plan.service_s[name], plan.interval_s, spec)
    bill = [
        *energy.crossbar_energy(mapping, spec, has_bias=_has_bias(layer)),
        *energy.transfer_energy(place.router_bits[name], place.link_bits[name], spec),
    ]
    reads, writes = {"edram.ifmap": windows}, {"edram.ofmap": results}
    if isinstance(layer.attributes, RecurrentAttributes):
        moved = carried(layer, plan.batch, windows * x_form.stored_bits)
        bill += energy.buffer_energy(moved.read_bits, moved.write_bits)
        bill += energy.cell_energy(plan.works[name], energy.OUTPUT_BITS)
        reads["edram.gates"], reads["edram.state"] = moved.gates, moved.cell
        writes = {"edram.ofmap": moved.results, "edram.state": moved.cell}
    else:
        bill += energy.buffer_energy(windows * x_form.stored_bits, results * y_form.stored_bits)
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
    used = sum(m.used_cells * m.copies * m.reading_s(spec) for m in plan.maps.values())
    return used / (_cells(plan.placement.tiles * spec.crossbars_per_tile, spec) * plan.interval_s)


def _shares(
    mapping: LayerMapping, service_s: float, interval_s: float, spec: ReramSpec
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
    if mapping.waits:
        lost["dependence"] = held * (service_s - mapping.reading_s(spec)) / interval_s
    return held, lost


def _cells(crossbars: int, spec: ReramSpec) -> int:
    return crossbars * spec.crossbar_rows * spec.crossbar_cols


def _element_bits(layer: Layer) -> int:
    """Return the width of a digital operation: that of the widest value written."""
    widths = [r.format.stored_bits for r in layer.results if r.format]
    return min(32, math.ceil(max(widths, default=32.0)))


def _cycles(seconds: float, spec: ReramSpec) -> int:
    return math.ceil(round(seconds * spec.clock_mhz * 1e6, 6))


def buffer_shortage(plan: Plan, spec: ReramSpec) -> str | None:
    """Return a note on layers whose first windows do not fit the eDRAM of their tiles, or None."""
    short: list[tuple[float, str]] = []
    for layer in plan.network.layers:
        if layer.name in plan.maps:
            need_kib = wait(layer, 0).first * result_bytes(layer.operands[0], 1) / 1024
            if need_kib > spec.edram_kib * plan.placement.homes[layer.name].tiles:
                short.append((need_kib, layer.name))
    if not short:
        return None
    need_kib, name = max(short)
    return (
        f"{len(short)} layer(s) wait for more input than the eDRAM of their tiles holds (most: '{name}', "
        f"{need_kib:.0f} KiB); what spills is not priced"
    )
