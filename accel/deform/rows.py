"""Costs of layers: those of jobs of the engine, of what it absorbs, and of what the host runs, in the network's order."""

from dataclasses import dataclass

from picojoule.accel.deform.cycles import WINDOW
from picojoule.accel.deform.gather import WORD_BYTES, GatherCost
from picojoule.accel.deform.offsets_given import GivenOffsets
from picojoule.accel.deform.plan import Job, Plan
from picojoule.accel.deform.power import EngineEvents, call_energy
from picojoule.accel.deform.pricing import (
    Timed,
    Traffic,
    dram_bytes,
    job_cycles,
    line_accesses,
    time_job,
    traffic_of,
)
from picojoule.accel.deform.roles import ENGINE, ENGINE_ROLES, HOST, UNSUPPORTED, Role
from picojoule.accel.deform.spec import DeformSpec
from picojoule.accel.deform.utilization import slots_of
from picojoule.sim.cost import LayerCost
from picojoule.sim.gemm import gemm_view
from picojoule.sim.ir import Layer
from picojoule.sim.vector_unit import host_cost

_BASIS = {Role.REQUANTISER: "in the requantiser", Role.OFFSETS: "in the engine's offset path"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """A row per layer; the engine's cycles, the host's time, and the engine's utilization over its time (None: unused)."""

    layers: tuple[LayerCost, ...]
    engine_cycles: int
    host_s: float
    utilization: float | None


def rows_of(plan: Plan, spec: DeformSpec, offsets: GivenOffsets, seed: int) -> Rows:
    """Return the costs of a plan's layers.

    Raises:
        InputError: for offsets that do not fit a layer, or sizes beyond 64 bits.

    """
    found: dict[str, LayerCost] = {}
    for job in plan.jobs:
        found.update((row.name, row) for row in _job_rows(job, plan.batch, spec, offsets, seed))
    for layer in plan.network.layers:
        role = plan.choices[layer.name].role
        if role not in ENGINE_ROLES:
            found[layer.name] = _other_row(layer, role, plan.batch, spec)
    layers = tuple(found[layer.name] for layer in plan.network.layers)
    cycles = sum(row.latency_cycles for row in layers if row.unit == ENGINE)
    macs = sum(row.macs for row in layers if row.unit == ENGINE)
    arrays = spec.pe_in * spec.pe_out + WINDOW * (spec.depthwise_lanes + spec.full_in * spec.full_out)
    return Rows(
        layers=layers,
        engine_cycles=cycles,
        host_s=sum(row.latency_s for row in layers if row.unit == HOST),
        utilization=macs / (arrays * cycles) if cycles else None,
    )


def _job_rows(job: Job, batch: int, spec: DeformSpec, offsets: GivenOffsets, seed: int) -> list[LayerCost]:
    cycles, counts = job_cycles(job, spec)
    traffic = traffic_of(job, counts, spec)
    gather = offsets.cost(job, spec, seed) if job.far else None
    timed = time_job(job, cycles, counts, traffic, gather.seconds * batch if gather else 0.0, spec)
    bases = _bases(job, gather)
    rows = []
    for position, layer in enumerate(job.layers):
        view = gemm_view(layer, batch)
        assert view is not None
        compute, stall = _share(timed, position, len(job.layers))
        slots = slots_of(job, position, view.macs, cycles, counts, timed, spec)
        sampled = gather if position == len(job.layers) - 1 else None
        read, written = dram_bytes(job, traffic, position, spec)
        read += sampled.dram_bytes * batch if sampled else 0
        reads, writes = _accesses(job, position, traffic, spec, slots.slots)
        reads |= _sampled(sampled, batch)
        moved = read + written
        events = _events(job, position, slots.slots, compute + stall, traffic, spec, moved)
        rows.append(
            LayerCost(
                name=layer.name,
                op=layer.op.value,
                unit=ENGINE,
                gemm=view,
                macs=view.macs,
                compute_cycles=compute,
                stall_cycles=stall,
                latency_s=(compute + stall) / (spec.clock_mhz * 1e6),
                utilization=slots.utilization,
                mapping_efficiency=slots.mapping_efficiency,
                compute_utilization=slots.compute_utilization,
                utilization_lost=slots.lost,
                energy=call_energy(events, spec),
                reads=reads,
                writes=writes,
                dram_read_bytes=read,
                dram_write_bytes=written,
                basis=bases[position],
            )
        )
    return rows


def _bases(job: Job, gather: GatherCost | None) -> list[str]:
    """Return what the figures of each layer of a job rest on."""
    if len(job.layers) == 2:
        one, three = job.layers
        return [f"fused with '{three.name}'", f"fused with '{one.name}'"]
    if gather is None:
        return ["closed form"]
    hits = f" through the cache, {gather.hit_rate:.0%} hits" if gather.hit_rate is not None else ""
    return [f"{gather.basis}: sampling points read from DRAM{hits}"]


def _share(timed: Timed, position: int, layers: int) -> tuple[int, int]:
    """Return (compute, stall) cycles of the layer at `position`; the last of two has what the first does not explain."""
    if layers == 1:
        return timed.compute, timed.bandwidth_stall + timed.sampling_stall
    if position == 0:
        return timed.first, timed.bandwidth_stall
    return timed.compute - timed.first, timed.sampling_stall


def _sampled(gather: GatherCost | None, batch: int) -> dict[str, int]:
    """Return elements of far sampling points by where they were found; filling bursts and cache lines moves more bytes."""
    if gather is None:
        return {}
    found = {"dram.samples": WORD_BYTES * (gather.reads - gather.cache_hits) * batch}
    return found | ({} if gather.hit_rate is None else {"llc.points": WORD_BYTES * gather.cache_hits * batch})


def _accesses(
    job: Job, position: int, traffic: Traffic, spec: DeformSpec, slots: int
) -> tuple[dict[str, int], dict[str, int]]:
    """Return elements read and written by the layer at `position` of a job, by memory, but for far sampling points.

    Each of the `slots` that multiply reads its weight from block RAM.
    """
    last = position == len(job.layers) - 1
    weights = traffic.weights[position]
    reads: dict[str, int] = {"dram.filter": weights, "bram.filter": slots}
    writes: dict[str, int] = {"bram.filter": weights}
    if position == 0:
        reads["dram.ifmap"] = traffic.ifmap
    if last and job.role in (Role.WINDOW, Role.FULL) and not job.far:
        writes["bram.lines"], reads["bram.lines"] = line_accesses(job, spec)
    if last:
        writes["dram.ofmap"] = traffic.ofmap
        reads |= {"dram.offset": traffic.offsets} if traffic.offsets else {}
        if traffic.sums_read:
            reads["dram.psum"], writes["dram.psum"] = traffic.sums_read, traffic.sums_written
    return reads, writes


def _other_row(layer: Layer, role: Role, batch: int, spec: DeformSpec) -> LayerCost:
    """Return the row of a layer off the engine: absorbed, on the host, or not understood."""
    view = gemm_view(layer, batch)
    macs = view.macs if view else 0
    if role is Role.UNSUPPORTED:
        return LayerCost(
            name=layer.name, op=layer.op.value, unit=UNSUPPORTED, gemm=None, macs=0, compute_cycles=0, stall_cycles=0,
            latency_s=0.0, basis="not priced",
        )  # fmt: skip
    if role in _BASIS:
        return LayerCost(
            name=layer.name, op=layer.op.value, unit=ENGINE, gemm=None, macs=0, compute_cycles=0, stall_cycles=0,
            latency_s=0.0, energy=call_energy(EngineEvents(requantized=_results(layer, batch)), spec), basis=_BASIS[role],
        )  # fmt: skip
    cost = host_cost(layer, batch, spec.host)
    moved = cost.work.read_bytes + cost.work.write_bytes
    return LayerCost(
        name=layer.name,
        op=layer.op.value,
        unit=HOST,
        gemm=view,
        macs=macs,
        compute_cycles=0,
        stall_cycles=0,
        latency_s=cost.seconds,
        energy=(*cost.energy, *call_energy(EngineEvents(dram_bytes=moved), spec)) if cost.seconds else (),
        reads={"dram.ifmap": cost.work.read_elements},
        writes={"dram.ofmap": cost.work.write_elements},
        dram_read_bytes=cost.work.read_bytes,
        dram_write_bytes=cost.work.write_bytes,
    )


def _results(layer: Layer, batch: int) -> int:
    return sum(r.type.elements(batch) for r in layer.results)


def _events(
    job: Job, position: int, slots: int, busy_cycles: int, traffic: Traffic, spec: DeformSpec, moved: int
) -> EngineEvents:
    """Return what the layer at `position` of a job does, for its energy; `slots` are MACs with padding."""
    last = position == len(job.layers) - 1
    windowed = last and job.role in (Role.WINDOW, Role.FULL)
    full = job.role is Role.FULL
    lines = line_accesses(job, spec) if windowed and not job.far else (0, 0)
    word = max(spec.depthwise_lanes, spec.full_in)
    outputs = traffic.ofmap + traffic.sums_written if last else line_accesses(job, spec)[0]
    return EngineEvents(
        pointwise_macs=0 if windowed else slots,
        depthwise_macs=slots if windowed and not full else 0,
        full_macs=slots if full else 0,
        line_writes=-(-lines[0] // word),
        line_reads=-(-lines[1] // word),
        requantized=outputs,
        dram_bytes=moved,
        busy_cycles=busy_cycles,
    )
