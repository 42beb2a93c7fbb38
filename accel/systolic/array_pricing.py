"""Prices the layers that run on the array: all of a network on one design or many, in one call of the formulas."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

from picojoule.accel.systolic import timing, traffic
from picojoule.accel.systolic.design_arrays import DesignArrays
from picojoule.accel.systolic.energy import Charge, EnergyModel, itemised
from picojoule.accel.systolic.job_arrays import JobArrays, narrowing
from picojoule.accel.systolic.recurrence import StepArrays, carry
from picojoule.accel.systolic.spec import SystolicSpec
from picojoule.accel.systolic.timing import FloatArray, FoldGrid, IntArray
from picojoule.accel.systolic.workload import Job
from picojoule.sim.cost import LayerCost


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What the layers of one schedule do, [layers, designs] or what broadcasts to it. `useful` counts MAC slots."""

    compute: IntArray
    stalls: IntArray
    dependence: IntArray
    useful: IntArray
    ifmap_reads: IntArray
    ifmap_writes: IntArray
    filter_reads: IntArray
    ofmap_writes: IntArray
    psum_writes: IntArray
    psum_reads: IntArray
    dram_ifmap: IntArray
    dram_gates: IntArray
    dram_filter: IntArray
    dram_psum_reads: IntArray
    dram_psum_writes: IntArray
    dram_read_bytes: IntArray
    dram_write_bytes: IntArray

    @property
    def moved_bytes(self) -> IntArray:
        """Bytes from and to DRAM."""
        return self.dram_read_bytes + self.dram_write_bytes

    def of_layer(self, index: int) -> dict[str, IntArray]:
        """Return the counts of one layer, arrays over designs."""
        return {name: getattr(self, name)[index] for name in _COUNTS}


_COUNTS = tuple(f.name for f in fields(Counts))
_LOST = ("padding", "fill_drain", "bandwidth", "dependence")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shares:
    """Shares of MAC slots of the layers of one schedule, [layers, designs]."""

    mapping_efficiency: FloatArray
    compute_utilization: FloatArray
    utilization: FloatArray
    lost_padding: FloatArray
    lost_fill_drain: FloatArray
    lost_bandwidth: FloatArray
    lost_dependence: FloatArray


_SHARES = tuple(f.name for f in fields(_Shares))


@dataclass(frozen=True, slots=True)
class ArrayPricing:
    """Prices array layers on designs."""

    designs: DesignArrays
    energy: EnergyModel

    @property
    def spec(self) -> SystolicSpec:
        """The keys that all designs share."""
        return self.designs.spec

    def price(self, jobs: Sequence[Job], single: Sequence[Job], batch: int) -> list[LayerCost]:
        """Price all array layers on the one design there is; `single` are the same layers for one sample."""
        if not jobs:
            return []
        whole, sample = (JobArrays.of(some, self.spec) if some else None for some in (jobs, single))
        assert whole is not None
        counts = self.counts(whole)
        shares = self._shares(whole, counts)
        if sample is not None:
            repeated = self.counts(sample)
            apart = _apart(repeated, counts, batch)
            apart_shares = self._shares(sample, repeated)
            counts = _chosen(apart, repeated, counts, batch)
            shares = _Shares(
                **{name: np.where(apart, getattr(apart_shares, name), getattr(shares, name)) for name in _SHARES}
            )
        layers = (len(jobs), 1)
        c = {name: np.broadcast_to(getattr(counts, name), layers)[:, 0].tolist() for name in _COUNTS}
        s = {name: np.broadcast_to(getattr(shares, name), layers)[:, 0].tolist() for name in _SHARES}
        return [
            self._array_cost(job, {k: v[i] for k, v in c.items()}, {k: v[i] for k, v in s.items()})
            for i, job in enumerate(jobs)
        ]

    def cheaper_counts(self, whole: JobArrays, sample: JobArrays | None, batch: int) -> Counts:
        """Return the counts of the schedule that moves fewer bytes, for each layer and design.

        A batch runs at once, or its samples one after the other where that moves fewer bytes (what fits the SRAMs for one
        sample may not for all).
        """
        counts = self.counts(whole)
        if sample is None:
            return counts
        repeated = self.counts(sample)
        return _chosen(_apart(repeated, counts, batch), repeated, counts, batch)

    def counts(self, jobs: JobArrays) -> Counts:
        """Return what jobs do when each runs at once.

        Raises:
            InputError: if a count would leave 64 bits.

        """
        jobs.check_bounds(self.designs)
        d, scalesim = self.designs, self.spec.compat == "scalesim"
        design = (d.dataflow, d.rows, d.cols)
        m, n, k, groups = jobs.m, jobs.n, jobs.k, jobs.groups
        steps = StepArrays.of(jobs.jobs, d.lanes)
        grid = timing.fold_grid(*design, m, n, k)
        folded = grid if jobs.folded_k is k else timing.fold_grid(*design, m, n, jobs.folded_k)
        ours = traffic.sram_counts(*design, m, n, k, groups, grid=grid)
        sums = ours if folded is grid else traffic.sram_counts(*design, m, n, jobs.folded_k, groups, grid=folded)
        timed = jobs.timed(d)
        timed_grid = folded if timed[0] is m and timed[2] is jobs.folded_k else timing.fold_grid(*design, *timed)
        if scalesim:
            compute = timing.scalesim_cycles(*design, *timed, groups)
            ofmap_writes = traffic.scalesim_sram_counts(*design, m, n, k, groups).ofmap_writes
        else:
            compute = steps.turns * timing.fold_cycles(
                *design, *timed, groups // steps.turns, d.overlap_load, d.overlap_drain, grid=timed_grid
            )
            ofmap_writes = sums.ofmap_writes
        products = m * n * groups
        # A transposed convolution adds up what lands on one output.
        landing: IntArray = np.where(steps.here, 0, np.maximum(0, products - jobs.outputs))
        carried = carry(
            steps,
            d,
            (jobs.activation_bits, jobs.weight_bits),
            products,
            n * k * groups // steps.turns,
            self._moved(jobs, grid, folded),
        )
        moved = replace(carried.traffic, read_bytes=carried.traffic.read_bytes + jobs.bias_bytes)
        stalls = traffic.stall_cycles(moved, compute + steps.cycles, d.bytes_per_cycle)
        psum_reads = np.zeros_like(sums.psum_reads) if scalesim else sums.psum_reads
        return Counts(
            compute=compute,
            stalls=stalls,
            dependence=steps.cycles,
            useful=timing.useful_slots(*timed, groups),
            ifmap_reads=ours.ifmap_reads,
            ifmap_writes=carried.ifmap_writes,
            filter_reads=ours.filter_reads,
            ofmap_writes=ofmap_writes + carried.psum_writes + np.where(steps.here, jobs.outputs, 0),
            psum_writes=np.maximum(0, sums.ofmap_writes - np.where(steps.here, 0, jobs.outputs)) + carried.psum_writes,
            psum_reads=psum_reads + landing + carried.psum_reads,
            dram_ifmap=moved.ifmap_reads,
            dram_gates=steps.gates + steps.given,
            dram_filter=moved.filter_reads,
            dram_psum_reads=moved.psum_reads,
            dram_psum_writes=moved.psum_writes,
            dram_read_bytes=moved.read_bytes,
            dram_write_bytes=moved.write_bytes,
        )

    def _moved(self, jobs: JobArrays, grid: FoldGrid, folded_grid: FoldGrid) -> traffic.DramTraffic:
        """Return DRAM traffic; spilled sums follow the folds that really run, written results the outputs that there are."""
        d, sum_bits = self.designs, self.spec.accumulator_bits
        ifmap_bytes, filter_bytes, ofmap_bytes = d.sram_bytes

        def of(k: IntArray, grid: FoldGrid) -> traffic.DramTraffic:
            return traffic.dram_traffic(
                d.dataflow,
                d.rows,
                d.cols,
                jobs.m,
                jobs.n,
                k,
                jobs.groups,
                ifmap_elements=jobs.ifmap_elements,
                ifmap_bits=jobs.activation_bits,
                filter_bits=jobs.weight_bits,
                ofmap_bits=jobs.result_bits,
                accumulator_bits=sum_bits,
                ifmap_sram_bytes=ifmap_bytes,
                filter_sram_bytes=filter_bytes,
                ofmap_sram_bytes=ofmap_bytes,
                grid=grid,
            )

        moved = of(jobs.k, grid)
        folded = moved if folded_grid is grid else of(jobs.folded_k, folded_grid)
        spilled = (folded.psum_reads * sum_bits + 7) // 8
        not_spilled = spilled if folded is moved else (moved.psum_reads * sum_bits + 7) // 8
        return replace(
            moved,
            psum_reads=folded.psum_reads,
            psum_writes=folded.psum_writes,
            ofmap_writes=jobs.outputs,
            read_bytes=moved.read_bytes + (spilled - not_spilled),
            write_bytes=(jobs.outputs * jobs.result_bits + 7) // 8 + spilled,
        )

    def _shares(self, jobs: JobArrays, counts: Counts) -> _Shares:
        d = self.designs
        waits = counts.stalls + counts.dependence
        use = timing.utilization(
            d.dataflow,
            d.rows,
            d.cols,
            *jobs.timed(d),
            jobs.groups,
            compute_cycles=counts.compute,
            stall_cycles=waits,
        )
        lost_dependence = use.lost_bandwidth * counts.dependence / np.maximum(1, waits)
        return _Shares(
            mapping_efficiency=use.mapping_efficiency,
            compute_utilization=use.compute_utilization,
            utilization=use.utilization,
            lost_padding=use.lost_padding,
            lost_fill_drain=use.lost_fill_drain,
            lost_bandwidth=use.lost_bandwidth - lost_dependence,
            lost_dependence=lost_dependence,
        )

    def _array_cost(self, job: Job, c: Mapping[str, int], share: Mapping[str, float]) -> LayerCost:
        cycles = c["compute"] + c["stalls"] + c["dependence"]
        return LayerCost(
            name=job.layer.name,
            op=job.layer.op.value,
            unit="array",
            gemm=job.gemm,
            macs=job.gemm.macs,
            compute_cycles=c["compute"],
            stall_cycles=c["stalls"] + c["dependence"],
            latency_s=cycles / (self.spec.clock_mhz * 1e6),
            utilization=share["utilization"],
            mapping_efficiency=share["mapping_efficiency"],
            compute_utilization=share["compute_utilization"],
            utilization_lost={
                cause: share[f"lost_{cause}"] for cause in _LOST if cause != "dependence" or job.recurrence is not None
            },
            energy=itemised(self.bill(job, c)) + (job.recurrence.energy if job.recurrence is not None else ()),
            reads={
                "sram.ifmap": c["ifmap_reads"],
                "sram.filter": c["filter_reads"],
                "sram.ofmap": c["psum_reads"],
                "dram.ifmap": c["dram_ifmap"],
                "dram.filter": c["dram_filter"],
                "dram.psum": c["dram_psum_reads"],
                **({"dram.gates": c["dram_gates"]} if job.recurrence is not None else {}),
            },
            writes={
                "sram.ifmap": c["ifmap_writes"],
                "sram.filter": c["dram_filter"],
                "sram.ofmap": c["ofmap_writes"],
                "dram.ofmap": job.outputs,
                "dram.psum": c["dram_psum_writes"],
            },
            dram_read_bytes=c["dram_read_bytes"],
            dram_write_bytes=c["dram_write_bytes"],
        )

    def bill(self, job: Job, c: Mapping[str, npt.ArrayLike]) -> list[Charge]:
        """Return a layer's bill but for a recurrent one's cells; `c` are its counts, numbers or arrays over designs.

        What SRAMs take in from DRAM is written to them, what leaves is read from them.
        """
        bill, sum_bits = self.energy, self.spec.accumulator_bits
        w, a, y = job.weight.bits, job.activation.bits, job.result_bits
        parallel, serial = narrowing(self.spec, job)
        return [
            *bill.mac(job.gemm.macs, w, a),
            *bill.registers(job.gemm.macs * serial / parallel),
            *bill.sram("ifmap", "read", c["ifmap_reads"], a),
            *bill.sram("ifmap", "write", c["ifmap_writes"], a),
            *bill.sram("filter", "read", c["filter_reads"], w),
            *bill.sram("filter", "write", c["dram_filter"], w),
            *bill.sram("ofmap", "write", job.outputs, y),
            *bill.sram("ofmap", "write", np.add(c["psum_writes"], c["dram_psum_reads"]), sum_bits),
            *bill.sram("ofmap", "read", np.add(c["psum_reads"], c["dram_psum_writes"]), sum_bits),
            *bill.sram("ofmap", "read", job.outputs, y),
            *bill.dram(np.add(c["dram_read_bytes"], c["dram_write_bytes"])),
        ]


def _apart(sample: Counts, whole: Counts, batch: int) -> npt.NDArray[np.bool_]:
    """Return where the samples of a batch move fewer bytes one after the other than at once."""
    return np.asarray(sample.moved_bytes * batch < whole.moved_bytes)


def _chosen(apart: npt.NDArray[np.bool_], sample: Counts, whole: Counts, batch: int) -> Counts:
    return Counts(**{name: np.where(apart, getattr(sample, name) * batch, getattr(whole, name)) for name in _COUNTS})
