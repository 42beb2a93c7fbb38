"""The costs of a network's layers on one design, from the counts that its totals were added up from."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from picojoule.accel.systolic.array_pricing import ArrayPricing
from picojoule.accel.systolic.bill import Events, array_bill
from picojoule.accel.systolic.counts import COUNTS, SHARES
from picojoule.accel.systolic.design_arrays import DesignArrays
from picojoule.accel.systolic.energy import EnergyModel, itemised
from picojoule.accel.systolic.load import Kinds, Load
from picojoule.accel.systolic.totals import Totals
from picojoule.accel.systolic.vector import vector_cycles
from picojoule.accel.systolic.workload import UNIT_OF_OP, Job, OtherJob
from picojoule.sim.cost import Energy, LayerCost
from picojoule.sim.gemm import gemm_view

_LOST = ("padding", "fill_drain", "bandwidth")


def layer_costs(load: Load, totals: Totals) -> tuple[LayerCost, ...]:
    """Return the cost of every layer on the one design of `totals`."""
    model = EnergyModel(totals.designs)
    on_array = iter(_array_costs(load, totals, model))
    others = iter([_other_cost(job, model, load.workload.batch) for job in load.workload.others])
    return tuple(
        next(on_array if UNIT_OF_OP[layer.op.value] == "array" else others) for layer in load.workload.network.layers
    )


def _array_costs(load: Load, totals: Totals, model: EnergyModel) -> list[LayerCost]:
    kinds, schedules = load.kinds, totals.schedules
    if kinds is None or schedules is None:
        return []
    shares = ArrayPricing(totals.designs).shares(kinds, schedules)
    every = (len(kinds.times), 1)
    c = {name: np.broadcast_to(getattr(schedules.chosen, name), every)[:, 0].tolist() for name in COUNTS}
    s = {name: np.broadcast_to(getattr(shares, name), every)[:, 0].tolist() for name in SHARES}
    bills = [itemised(array_bill(model, job, _events(kinds, totals, job, i))) for i, job in enumerate(kinds.whole.jobs)]
    maps = schedules.mappings or ("",) * len(kinds.times)
    lost = _lost_slots(load, totals)
    return [
        _array_cost(
            job,
            {k: v[i] for k, v in c.items()},
            {k: v[i] for k, v in s.items()},
            bills[i],
            totals.designs,
            maps[i],
            lost[i],
        )
        for job, i in zip(load.workload.jobs, load.places, strict=True)
    ]


def _lost_slots(load: Load, totals: Totals) -> list[Mapping[str, int]]:
    """Return the slots that zeros and patterns lose in each kind of layer, in the schedule that was chosen."""
    kinds, schedules = load.kinds, totals.schedules
    assert kinds is not None and schedules is not None
    whole = [job.work.lost if job.work else {} for job in kinds.whole.jobs]
    if kinds.sample is None or schedules.sample is None:
        return whole
    single = [job.work.lost if job.work else {} for job in kinds.sample.jobs]
    apart = np.broadcast_to(schedules.apart, (len(whole), 1))[:, 0]
    batch = load.workload.batch
    return [
        {cause: count * batch for cause, count in one.items()} if alone else every
        for every, one, alone in zip(whole, single, apart, strict=True)
    ]


def _events(kinds: Kinds, totals: Totals, job: Job, place: int) -> Events:
    assert totals.schedules is not None
    sum_bits = totals.designs.spec.accumulator_bits
    return Events.of(kinds.whole, totals.schedules.chosen, job, sum_bits, lambda counts: counts[place])


def _array_cost(
    job: Job,
    c: Mapping[str, int],
    share: Mapping[str, float],
    bill: tuple[Energy, ...],
    design: DesignArrays,
    mapping: str,
    lost: Mapping[str, int],
) -> LayerCost:
    cycles = c["compute"] + c["stalls"] + c["dependence"]
    recurrent = job.recurrence is not None
    use = Use.of(job, c, share, int(design.rows.item()) * int(design.cols.item()), lost)
    return LayerCost(
        name=job.layer.name,
        op=job.layer.op.value,
        unit="array",
        gemm=job.gemm,
        macs=job.gemm.macs,
        compute_cycles=c["compute"],
        stall_cycles=c["stalls"] + c["dependence"],
        latency_s=cycles / design.clock_hz.item(),
        utilization=use.utilization,
        mapping_efficiency=use.mapping_efficiency,
        compute_utilization=use.compute_utilization,
        utilization_lost=use.lost,
        energy=bill + (job.recurrence.energy if job.recurrence is not None else ()),
        reads={
            "sram.ifmap": c["ifmap_reads"],
            "sram.filter": c["filter_reads"],
            "sram.ofmap": c["psum_reads"],
            "dram.ifmap": c["dram_ifmap"],
            "dram.filter": c["dram_filter"],
            "dram.psum": c["dram_psum_reads"],
            **({"dram.gates": c["dram_gates"]} if recurrent else {}),
        },
        writes={
            "sram.ifmap": c["ifmap_writes"],
            "sram.filter": c["dram_filter"],
            "sram.ofmap": c["ofmap_writes"],
            "dram.ofmap": 0 if job.kept[2] else job.outputs,
            "dram.psum": c["dram_psum_writes"],
        },
        dram_read_bytes=c["dram_read_bytes"],
        dram_write_bytes=c["dram_write_bytes"],
        basis=_basis(job, mapping),
    )


def _basis(job: Job, mapping: str) -> str:
    """Return what a layer's figures rest on, which parts of it run, and how it was mapped."""
    parts = [job.basis, job.work.kind if job.work else "", "" if mapping in ("", "default") else f"mapping {mapping}"]
    return ", ".join(part for part in parts if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What a layer makes of its MAC slots."""

    utilization: float
    mapping_efficiency: float
    compute_utilization: float
    lost: dict[str, float]

    @classmethod
    def of(
        cls, job: Job, c: Mapping[str, int], share: Mapping[str, float], pes: int, slots_lost: Mapping[str, int]
    ) -> "Use":
        """Return the shares of a layer's slots, `slots_lost` to zeros or patterns among them; they add up to 1."""
        causes = [*_LOST, *(["groups"] if job.gemm.groups > 1 else []), *(["dependence"] if job.recurrence else [])]
        lost = {cause: share[f"lost_{cause}"] for cause in causes}
        work = job.work
        if work is None or not (slots_lost or work.compute_cycles):
            return cls(
                utilization=share["utilization"],
                mapping_efficiency=share["mapping_efficiency"],
                compute_utilization=share["compute_utilization"],
                lost=lost,
            )
        busy = c["compute"] * pes
        slots = (c["compute"] + c["stalls"] + c["dependence"]) * pes
        if work.compute_cycles is not None:  # `work` knows where every slot of its cycles went
            for cause in ("padding", "fill_drain", "groups"):
                lost.pop(cause, None)
        lost |= {cause: count / slots for cause, count in slots_lost.items()}
        return cls(
            utilization=c["useful"] / slots,
            mapping_efficiency=min(1.0, max(share["mapping_efficiency"], c["useful"] / busy)),
            compute_utilization=c["useful"] / busy,
            lost=lost,
        )


def _other_cost(job: OtherJob, model: EnergyModel, batch: int) -> LayerCost:
    layer, work, on_host, design = job.layer, job.work, job.unit == "host", model.designs
    if job.unit == "unsupported":
        return LayerCost(
            name=layer.name, op=layer.op.value, unit=job.unit, gemm=None, macs=0, compute_cycles=0, stall_cycles=0,
            latency_s=0.0, basis="not priced",
        )  # fmt: skip
    view = gemm_view(layer, batch) if on_host else None
    compute, stall = 0, 0
    if not on_host and not job.fused:
        compute, stall = (int(cycles.item()) for cycles in vector_cycles(job.lane_operations, job.dram_bytes, design))
    return LayerCost(
        name=layer.name,
        op=layer.op.value,
        unit=job.unit,
        gemm=view,
        macs=view.macs if view else 0,
        compute_cycles=compute,
        stall_cycles=stall,
        latency_s=job.host_seconds if on_host else (compute + stall) / design.clock_hz.item(),
        energy=(*job.energy, *itemised(model.dram(job.dram_bytes))),
        reads={} if job.fused else {"dram.ifmap": work.read_elements},
        writes={} if job.fused else {"dram.ofmap": work.write_elements},
        dram_read_bytes=0 if job.fused else work.read_bytes,
        dram_write_bytes=0 if job.fused else work.write_bytes,
        basis="in the array's output path" if job.fused else "closed form",
    )
