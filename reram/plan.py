"""A network laid out on a design: which unit runs each layer, in which crossbars, where, and for how long."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from picojoule.reram.adcs import LayerNeeds, read_seconds
from picojoule.reram.mapping import LayerMapping
from picojoule.reram.pipeline import batch_latency_s, fill_s, rests_s
from picojoule.reram.placement import Placement, place
from picojoule.reram.replication import replications
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

_NEAR = 1.1
"""Intervals to the shortest that count as equal: which tiles a layer's copies happen to share moves them by as much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A network (formats filled in) on a design; services, depths and loads are for the whole batch, in seconds.

    `inline` names activations applied to results on their way to the buffer; `works` holds the digital work, that of recurrent
    cells too, whose time `cell_s` counts. `stages` are the pipeline's stages and how long each is busy: every crossbar layer, the
    digital units of every tile, the host. A recurrent layer is busy until its last step: another batch would need states and
    a schedule of its own. `sample_s` is the service of one sample alone.
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
    sample_s: Mapping[str, float]
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
        return self._latency_s(dict(self.sample_s), dict(self.stages))

    @property
    def host_latency_s(self) -> float:
        """What the host adds to the latency."""
        if not self.hosted:
            return 0.0
        samples = {n: 0.0 if self.units[n] == HOST else s for n, s in self.sample_s.items()}
        rest = {name: s for name, s in self.stages.items() if name != HOST}
        return max(0.0, self.latency_s - self._latency_s(samples, rest))

    def _latency_s(self, sample_s: dict[str, float], stages: dict[str, float]) -> float:
        alone = {name: sample_s[name] for name, m in self.maps.items() if m.waits}
        return batch_latency_s(fill_s(self.network, sample_s, self.depth_s), stages, rests_s(stages, alone, self.batch))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """What a network asks of a design, however often its weights are copied; fields as in `Plan`."""

    network: Network
    batch: int
    units: Mapping[str, str]
    converters: Converters
    moved: Mapping[str, Moved]
    works: Mapping[str, VectorWork]
    hosted: Mapping[str, HostCost]
    inline: frozenset[str]


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
    inline = _inline(network, units)
    digital = [layer for layer in network.layers if units[layer.name] == VECTOR or _is_stepped(layer, maps)]
    works = {layer.name: vector_work(layer, batch) for layer in digital}
    moved = {
        layer.name: moved_on_crossbars(layer, maps[layer.name], batch, formats_of(layer, spec)[0].stored_bits, spec)
        if layer.name in maps
        else moved_on_lanes(works[layer.name])
        for layer in network.layers
        if layer.name in maps or (layer.name in works and layer.name not in inline)
    }
    work = _Work(
        network=network,
        batch=batch,
        units=units,
        converters=converters,
        moved=moved,
        works=works,
        hosted={layer.name: host_cost(layer, batch) for layer in network.layers if units[layer.name] == HOST},
        inline=inline,
    )
    if spec.replication is Replication.NONE or not maps:
        return _laid_out(work, maps, spec)
    return _balanced(work, maps, needed if chips is None else chips, spec)


def _balanced(work: _Work, maps: Mapping[str, LayerMapping], chips: int, spec: ReramSpec) -> Plan:
    """Return the plan with the shortest latency among numbers of copies whose intervals are about the shortest.

    A chip more must not make the interval longer. Copies end where no layer that they speed up is slower than the host, which
    they do not.
    """
    plans: list[tuple[float, float, Plan]] = []
    best: tuple[float, float, Plan] | None = None
    for copied in replications(maps, work.batch, chips, spec):
        plan = _laid_out(work, copied, spec)
        if plans and plan.placement.chips > plans[-1][2].placement.chips:
            best = _best(plans, best)
        plans.append((plan.interval_s, plan.latency_s, plan))
        if max((m.service_s(spec) for m in copied.values() if not m.waits), default=0.0) < plan.stages[HOST]:
            break
    return _best(plans, best)[2]


def _best(
    plans: list[tuple[float, float, Plan]], before: tuple[float, float, Plan] | None
) -> tuple[float, float, Plan]:
    """Return the (interval, latency, plan) with the shortest latency of intervals near the shortest and none beyond `before`."""
    bound = _NEAR * min(interval for interval, _, _ in plans)
    if before is not None:
        bound = min(bound, before[0])
    return min((p for p in plans if p[0] <= bound), key=lambda p: (p[1], p[0]))


def _laid_out(work: _Work, maps: Mapping[str, LayerMapping], spec: ReramSpec) -> Plan:
    network, batch, units, moved = work.network, work.batch, work.units, work.moved
    placement = place(network, units, maps, spec, batch)
    homes = placement.homes
    cell_s = {
        layer.name: _lanes_s(lane_operations(work.works[layer.name]), homes[layer.name].tiles, spec)
        for layer in network.layers
        if _is_stepped(layer, maps)
    }
    held = buffers(network, maps, placement, batch, spec)
    busy = {
        layer.name: _busy_s(layer, work, maps, placement, spec) + cell_s.get(layer.name, 0.0)
        for layer in network.layers
    }
    carried = {n: transfer_s(n, moved.get(n, Moved()), placement, held.spilled_bits.get(n, 0.0), spec) for n in busy}
    service = {name: max(s, carried[name]) for name, s in busy.items()}
    sample = {name: s / batch for name, s in service.items()}
    for name, m in maps.items():
        share = _share_of_tiles(m, homes[name].tiles, spec) / batch
        sample[name] = max(m.sample_s(batch, spec) + cell_s.get(name, 0.0) * share, carried[name] * share)
    return Plan(
        network=network,
        batch=batch,
        units=units,
        maps=maps,
        converters=work.converters,
        moved=moved,
        buffers=held,
        works=work.works,
        hosted=work.hosted,
        inline=work.inline,
        placement=placement,
        cell_s=cell_s,
        service_s=service,
        sample_s=sample,
        depth_s={
            name: spec.pipeline_reads * maps[name].read_s if name in maps and not maps[name].waits else 0.0
            for name in units
        },
        stages=_stages(units, service, {n: cell_s.get(n, s) for n, s in busy.items()}, cell_s, placement)
        | shared_stages(moved, placement, held.spilled_bits, spec),
    )


def _share_of_tiles(mapping: LayerMapping, tiles: int, spec: ReramSpec) -> float:
    """Return how many times fewer tiles serve one sample than the layer: where steps wait, those of one copy."""
    return max(1.0, tiles / -(-mapping.imas // spec.imas_per_tile)) if mapping.waits else 1.0


def _is_stepped(layer: Layer, maps: Mapping[str, LayerMapping]) -> bool:
    """Whether crossbars run a layer step by step, with digital work between the steps."""
    return layer.name in maps and maps[layer.name].waits > 0


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
    layer: Layer, work: _Work, maps: Mapping[str, LayerMapping], placement: Placement, spec: ReramSpec
) -> float:
    """Return how long a layer's unit is busy: writing and reading crossbars, lanes, or the host."""
    if layer.name in maps:
        return maps[layer.name].service_s(spec)
    if layer.name in work.hosted:
        return work.hosted[layer.name].seconds
    if layer.name not in work.works:
        return 0.0
    view = gemm_view(layer, work.batch)
    operations = (view.macs if view else 0) + lane_operations(work.works[layer.name])
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
