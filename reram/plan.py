"""A network laid out on a design: which unit runs each layer, in which crossbars, where, and for how long."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from picojoule.reram.adcs import LayerNeeds, read_seconds
from picojoule.reram.mapping import LayerMapping, balanced_copies
from picojoule.reram.pipeline import batch_latency_s, fill_s
from picojoule.reram.placement import Placement, place
from picojoule.reram.spec import Replication, ReramSpec
from picojoule.reram.traffic import (
    Buffers,
    Moved,
    buffers,
    moved_on_crossbars,
    moved_on_lanes,
    shared_stages,
    transfer_s,
)
from picojoule.reram.units import (
    CROSSBAR,
    HOST,
    VECTOR,
    Converters,
    chips_for,
    formats_of,
    map_network,
    network_adcs,
    unit_of,
)
from picojoule.sim.attributes import Op
from picojoule.sim.errors import InfeasibleError
from picojoule.sim.fusion import sole_producers
from picojoule.sim.gemm import gemm_view
from picojoule.sim.ir import Layer, Network
from picojoule.sim.vector_unit import HostCost, VectorWork, host_cost, lane_operations, vector_work


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
    converters: Converters
    moved: Mapping[str, Moved]
    buffers: Buffers
    works: Mapping[str, VectorWork]
    hosted: Mapping[str, HostCost]
    inline: frozenset[str]
    placement: Placement
    cell_s: Mapping[str, float]
    service_s: Mapping[str, float]
    depth_s: Mapping[str, float]
    stages: Mapping[str, float]

    @property
    def needs(self) -> Mapping[str, LayerNeeds]:
        """What the weights of each layer on crossbars need of their converters; empty where the file says how many bits."""
        return self.converters.needs

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
        if not self.hosted:
            return 0.0
        service = {n: 0.0 if self.units[n] == HOST else s for n, s in self.service_s.items()}
        rest = max((s for name, s in self.stages.items() if name != HOST), default=0.0)
        return max(0.0, self.latency_s - self._latency_s(service, rest))

    def _latency_s(self, service_s: dict[str, float], interval_s: float) -> float:
        one = {name: s / self.batch for name, s in service_s.items()}
        return batch_latency_s(fill_s(self.network, one, self.depth_s), interval_s / self.batch, self.batch)


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
    converters = network_adcs(network, maps, spec)
    maps = {name: m.with_reads_of(read_seconds(converters.layers[name].widest, spec)) for name, m in maps.items()}
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
    moved = {
        layer.name: moved_on_crossbars(layer, maps[layer.name], batch, formats_of(layer, spec)[0].stored_bits, spec)
        if layer.name in maps
        else moved_on_lanes(works[layer.name])
        for layer in network.layers
        if layer.name in maps or (layer.name in works and layer.name not in inline)
    }
    held = buffers(network, maps, placement, batch, spec)
    busy = {
        layer.name: _busy_s(layer, batch, maps, works, hosted, placement, spec) + cell_s.get(layer.name, 0.0)
        for layer in network.layers
    }
    service = {
        name: max(s, transfer_s(name, moved.get(name, Moved()), placement, held.spilled_bits.get(name, 0.0), spec))
        for name, s in busy.items()
    }
    return Plan(
        network=network,
        batch=batch,
        units=units,
        maps=maps,
        converters=converters,
        moved=moved,
        buffers=held,
        works=works,
        hosted=hosted,
        inline=inline,
        placement=placement,
        cell_s=cell_s,
        service_s=service,
        depth_s={
            name: spec.pipeline_reads * maps[name].read_s if name in maps and not maps[name].waits else 0.0
            for name in units
        },
        stages=_stages(units, service, {n: cell_s.get(n, s) for n, s in busy.items()}, cell_s, placement)
        | shared_stages(moved, placement, held.spilled_bits, spec),
    )


def _is_stepped(layer: Layer, maps: Mapping[str, LayerMapping]) -> bool:
    """Whether crossbars run a layer step by step, with digital work between the steps."""
    return layer.name in maps and maps[layer.name].waits > 0


def _replicated(maps: dict[str, LayerMapping], batch: int, chips: int, spec: ReramSpec) -> dict[str, LayerMapping]:
    copies = balanced_copies(
        [m.service_s(spec) for m in maps.values()],
        [1 if m.writes else m.positions if m.waits else max(1, m.gemm.m // batch) for m in maps.values()],
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


def _busy_s(
    layer: Layer,
    batch: int,
    maps: Mapping[str, LayerMapping],
    works: Mapping[str, VectorWork],
    hosted: Mapping[str, HostCost],
    placement: Placement,
    spec: ReramSpec,
) -> float:
    """Return how long a layer's unit is busy: writing and reading crossbars, lanes, or the host."""
    if layer.name in maps:
        return maps[layer.name].service_s(spec)
    if layer.name in hosted:
        return hosted[layer.name].seconds
    if layer.name not in works:
        return 0.0
    view = gemm_view(layer, batch)
    operations = (view.macs if view else 0) + lane_operations(works[layer.name])
    return _lanes_s(operations, placement.homes[layer.name].tiles, spec)


def _lanes_s(operations: int, tiles: int, spec: ReramSpec) -> float:
    """Return the time of lane operations on the digital units of some tiles."""
    return operations / spec.vector_lanes / (tiles * spec.clock_mhz * 1e6)


def _stages(
    units: Mapping[str, str],
    service_s: Mapping[str, float],
    lanes_s: Mapping[str, float],
    cell_s: Mapping[str, float],
    placement: Placement,
) -> dict[str, float]:
    stages = {name: service_s[name] for name, unit in units.items() if unit == CROSSBAR}
    load_s = np.zeros(placement.tiles)
    for name, unit in units.items():
        if unit == VECTOR or name in cell_s:
            home = placement.homes[name]
            load_s[home.first : home.last + 1] += lanes_s[name]
    busiest = int(load_s.argmax())
    stages[f"digital unit of tile {busiest}"] = float(load_s[busiest])
    stages[HOST] = sum(service_s[name] for name, unit in units.items() if unit == HOST)
    return stages
