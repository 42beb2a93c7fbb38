"""A network laid out on a design: which unit runs each layer, in which crossbars, where, and for how long."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from picojoule.reram.mapping import LayerMapping, balanced_copies, map_layer
from picojoule.reram.pipeline import batch_latency_s, fill_s
from picojoule.reram.placement import Placement, place
from picojoule.reram.spec import DynamicMatmul, Replication, ReramSpec, input_width, weight_width
from picojoule.sim.attributes import MAC_OPS, Op, RecurrentAttributes
from picojoule.sim.errors import InfeasibleError, UnsupportedError
from picojoule.sim.formats import NumberFormat
from picojoule.sim.fusion import sole_producers
from picojoule.sim.gemm import Gemm, gemm_view
from picojoule.sim.ir import Layer, Network, OperandKind
from picojoule.sim.recurrence import dependent_products, state_format
from picojoule.sim.vector_unit import HostCost, VectorWork, host_cost, lane_operations, vector_work

CROSSBAR, VECTOR, HOST, UNSUPPORTED = "crossbar", "vector", "host", "unsupported"
_SPECIAL = {
    Op.CONV: CROSSBAR,
    Op.LINEAR: CROSSBAR,
    Op.MATMUL: CROSSBAR,
    Op.RECURRENT: CROSSBAR,
    Op.DEFORM_CONV: HOST,  # its window is sampled between pixels, which no wordline can be
    Op.EMBEDDING: HOST,  # a table to look up, not to multiply with
    # A tile's digital unit streams what its crossbars make; what visits elements in an order that data decide does not stream.
    Op.GATHER: HOST,
    Op.SCATTER: HOST,
    Op.SORT: HOST,
    Op.GRID_SAMPLE: HOST,
    Op.OPAQUE: UNSUPPORTED,
}
UNIT_OF_OP = {op.value: _SPECIAL.get(op, VECTOR) for op in Op}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A network (formats filled in) on a design; services, depths and loads are for the whole batch, in seconds.

    `inline` names activations applied to results on their way to the buffer; `works` holds the digital work, that of recurrent
    cells too, whose time `cell_s` counts. `stages` are the pipeline's stages and how long each is busy: every crossbar layer, the
    digital units of every tile, the host. A recurrent layer is busy until its last step: another batch would need states and
    a schedule of its own.
    """

    network: Network
    batch: int
    units: Mapping[str, str]
    maps: Mapping[str, LayerMapping]
    works: Mapping[str, VectorWork]
    hosted: Mapping[str, HostCost]
    inline: frozenset[str]
    placement: Placement
    cell_s: Mapping[str, float]
    service_s: Mapping[str, float]
    depth_s: Mapping[str, float]
    stages: Mapping[str, float]

    @property
    def interval_s(self) -> float:
        """Steady-state time between batches: the slowest stage."""
        return max(self.stages.values(), default=0.0)

    @property
    def latency_s(self) -> float:
        """Time of the batch, start to finish."""
        return self._latency_s(dict(self.service_s), self.interval_s)

    @property
    def host_latency_s(self) -> float:
        """What the host adds to the latency."""
        service = {n: 0.0 if self.units[n] == HOST else s for n, s in self.service_s.items()}
        rest = max((s for name, s in self.stages.items() if name != HOST), default=0.0)
        return max(0.0, self.latency_s - self._latency_s(service, rest))

    def _latency_s(self, service_s: dict[str, float], interval_s: float) -> float:
        one = {name: s / self.batch for name, s in service_s.items()}
        return batch_latency_s(fill_s(self.network, one, self.depth_s), interval_s / self.batch, self.batch)


def unit_of(layer: Layer, spec: ReramSpec) -> str:
    """Return the unit that runs a layer.

    Raises:
        UnsupportedError: for a product of two activations where they would have to be written into crossbars.

    """
    usual = UNIT_OF_OP[layer.op.value]
    if usual != CROSSBAR or layer.operands[1].kind is not OperandKind.ACTIVATION:
        return usual
    if spec.dynamic_matmul is DynamicMatmul.WRITE:
        raise UnsupportedError(
            f"layer '{layer.name}' multiplies two activations and dynamic_matmul is 'write', but no "
            "technology constant prices writing cells; use 'digital' or 'host'"
        )
    return HOST if spec.dynamic_matmul is DynamicMatmul.HOST else VECTOR


def formats_of(layer: Layer, spec: ReramSpec) -> tuple[NumberFormat, NumberFormat]:
    """Return the formats of a MAC layer's input (of its state where it is recurrent) and of what it is multiplied with."""
    x, w = layer.operands[:2]
    second = spec.native_activation if w.kind is OperandKind.ACTIVATION else spec.native_weight
    first = x.format or spec.native_activation
    if isinstance(layer.attributes, RecurrentAttributes):
        first = state_format(layer.attributes, first)
    return first, w.format or second


def map_network(network: Network, batch: int, spec: ReramSpec) -> dict[str, LayerMapping]:
    """Return one copy of every layer that crossbars run, by name.

    Raises:
        UnsupportedError: for weights or inputs that are not integers.
        InfeasibleError: for more than 16 bits, or crossbars narrower than a weight.

    """
    maps = {}
    for layer in network.layers:
        unit, where = unit_of(layer, spec), f"{network.name}: layer '{layer.name}'"
        if unit == HOST or layer.op not in MAC_OPS:
            continue
        x, w = formats_of(layer, spec)
        bits, signed = input_width(x, where)
        if unit == VECTOR:
            input_width(w, where)
        else:
            a = layer.attributes
            waits = dependent_products(a) if isinstance(a, RecurrentAttributes) else 0
            maps[layer.name] = map_layer(
                _stored(layer, batch), weight_width(w, where), bits, signed, spec, where, waits
            )
    return maps


def _stored(layer: Layer, batch: int) -> Gemm:
    """Return the product with the matrices that are stored: a stack of them is that many groups, whatever the batch."""
    view = gemm_view(layer, batch)
    assert view is not None
    if layer.op is not Op.MATMUL:
        return view
    stack = prod(layer.operands[1].shape[:-2])
    return Gemm(m=view.macs // (view.n * view.k * stack), n=view.n, k=view.k, groups=stack)


def chips_for(maps: Iterable[LayerMapping], spec: ReramSpec) -> int:
    """Return the fewest chips that hold one copy of all layers."""
    imas = sum(m.imas for m in maps)
    return max(1, -(-imas // (spec.imas_per_tile * spec.tiles_per_chip)))


def make_plan(network: Network, batch: int, chips: int | None, spec: ReramSpec) -> Plan:
    """Return the plan of a network (formats filled in) on `chips` chips, None for as many as it needs.

    Raises:
        UnsupportedError, InfeasibleError: as `map_network`, and if the chips are too few.

    """
    units = {layer.name: unit_of(layer, spec) for layer in network.layers}
    maps = map_network(network, batch, spec)
    needed = chips_for(maps.values(), spec)
    if chips is not None and needed > chips:
        crossbars = sum(m.crossbars for m in maps.values())
        raise InfeasibleError(
            f"{network.name} needs {needed} chips of '{spec.name or spec.kind}' for its {crossbars} crossbars, "
            f"got {chips}; pass --chips {needed} or --chips auto"
        )
    if spec.replication is Replication.BALANCED:
        maps = _replicated(maps, batch, needed if chips is None else chips, spec)
    placement = place(network, units, maps, spec, batch)
    inline = _inline(network, units)
    digital = [layer for layer in network.layers if units[layer.name] == VECTOR or _is_stepped(layer, maps)]
    works = {layer.name: vector_work(layer, batch) for layer in digital}
    hosted = {layer.name: host_cost(layer, batch) for layer in network.layers if units[layer.name] == HOST}
    cell_s = {
        layer.name: _lanes_s(lane_operations(works[layer.name]), placement.homes[layer.name].tiles, spec)
        for layer in digital
        if _is_stepped(layer, maps)
    }
    service = {
        layer.name: _service_s(layer, batch, maps, works, hosted, inline, placement, spec) + cell_s.get(layer.name, 0.0)
        for layer in network.layers
    }
    return Plan(
        network=network,
        batch=batch,
        units=units,
        maps=maps,
        works=works,
        hosted=hosted,
        inline=inline,
        placement=placement,
        cell_s=cell_s,
        service_s=service,
        depth_s={
            name: spec.pipeline_reads * spec.read_s if name in maps and not maps[name].waits else 0.0 for name in units
        },
        stages=_stages(units, service, cell_s, placement),
    )


def _is_stepped(layer: Layer, maps: Mapping[str, LayerMapping]) -> bool:
    """Whether crossbars run a layer step by step, with digital work between the steps."""
    return layer.name in maps and maps[layer.name].waits > 0


def _replicated(maps: dict[str, LayerMapping], batch: int, chips: int, spec: ReramSpec) -> dict[str, LayerMapping]:
    copies = balanced_copies(
        [m.service_s(spec) for m in maps.values()],
        [m.positions if m.waits else max(1, m.gemm.m // batch) for m in maps.values()],
        [m.imas for m in maps.values()],
        chips * spec.tiles_per_chip * spec.imas_per_tile,
    )
    return {name: replace(m, copies=c) for (name, m), c in zip(maps.items(), copies, strict=True)}


def _inline(network: Network, units: Mapping[str, str]) -> frozenset[str]:
    """Return activations that alone read what a unit of their tiles makes: they work on it before it is stored."""
    producers = sole_producers(network)
    return frozenset(
        layer.name
        for layer in network.layers
        if layer.op is Op.ACTIVATION
        and layer.name in producers
        and units[producers[layer.name].name] in (CROSSBAR, VECTOR)
    )


def _service_s(
    layer: Layer,
    batch: int,
    maps: Mapping[str, LayerMapping],
    works: Mapping[str, VectorWork],
    hosted: Mapping[str, HostCost],
    inline: frozenset[str],
    placement: Placement,
    spec: ReramSpec,
) -> float:
    """Return how long a layer's unit is busy: crossbar reads; lanes or the buffer, whichever is slower; the host."""
    if layer.name in maps:
        return maps[layer.name].service_s(spec)
    if layer.name in hosted:
        return hosted[layer.name].seconds
    if layer.name not in works:
        return 0.0
    work, view = works[layer.name], gemm_view(layer, batch)
    operations = (view.macs if view else 0) + lane_operations(work)
    moved_bits = 0 if layer.name in inline else 8 * (work.read_bytes + work.write_bytes)
    tiles = placement.homes[layer.name].tiles
    moving_s = moved_bits / spec.edram_bits_per_cycle / (tiles * spec.clock_mhz * 1e6)
    return max(_lanes_s(operations, tiles, spec), moving_s)


def _lanes_s(operations: int, tiles: int, spec: ReramSpec) -> float:
    """Return the time of lane operations on the digital units of some tiles."""
    return operations / spec.vector_lanes / (tiles * spec.clock_mhz * 1e6)


def _stages(
    units: Mapping[str, str], service_s: Mapping[str, float], cell_s: Mapping[str, float], placement: Placement
) -> dict[str, float]:
    stages = {name: service_s[name] for name, unit in units.items() if unit == CROSSBAR}
    load_s = np.zeros(placement.tiles)
    for name, unit in units.items():
        if unit == VECTOR or name in cell_s:
            home = placement.homes[name]
            load_s[home.first : home.last + 1] += cell_s.get(name, service_s[name])
    busiest = int(load_s.argmax())
    stages[f"digital unit of tile {busiest}"] = float(load_s[busiest])
    stages[HOST] = sum(service_s[name] for name, unit in units.items() if unit == HOST)
    return stages
