"""Prices the layers that run on the array: all of a network in one call of the timing and traffic formulas."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from picojoule.accel.systolic import timing, traffic
from picojoule.accel.systolic.energy import EnergyModel
from picojoule.accel.systolic.recurrence import Recurrence, StepArrays, carry, turn_sizes
from picojoule.accel.systolic.spec import SystolicSpec
from picojoule.accel.systolic.timing import FloatArray, IntArray
from picojoule.sim.attributes import ConvAttributes
from picojoule.sim.cost import Energy, LayerCost
from picojoule.sim.formats import NumberFormat
from picojoule.sim.gemm import Gemm
from picojoule.sim.ir import Layer


@dataclass(frozen=True, slots=True)
class Job:
    """An array layer: its GEMM, formats, distinct ifmap elements, outputs and bytes of bias; recurrent ones their steps."""

    layer: Layer
    gemm: Gemm
    weight: NumberFormat
    activation: NumberFormat
    result_bits: int
    ifmap_elements: int
    outputs: int
    bias_bytes: int
    recurrence: Recurrence | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counts:
    """What the layers of one schedule do, an element a layer. Shares are of MAC slots, the rest are counts."""

    compute: IntArray
    stalls: IntArray
    dependence: IntArray
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
    mapping_efficiency: FloatArray
    compute_utilization: FloatArray
    utilization: FloatArray
    lost_padding: FloatArray
    lost_fill_drain: FloatArray
    lost_bandwidth: FloatArray
    lost_dependence: FloatArray


_LOST = ("padding", "fill_drain", "bandwidth", "dependence")
_SHARES = frozenset({"mapping_efficiency", "compute_utilization", "utilization", *(f"lost_{cause}" for cause in _LOST)})


def _cheaper(whole: _Counts, sample: _Counts, batch: int) -> _Counts:
    """Return for each layer the schedule that moves fewer bytes: the batch at once, or its samples one after the other."""
    repeated = {f.name: getattr(sample, f.name) * (1 if f.name in _SHARES else batch) for f in fields(_Counts)}
    moved = whole.dram_read_bytes + whole.dram_write_bytes
    apart = repeated["dram_read_bytes"] + repeated["dram_write_bytes"] < moved
    return _Counts(**{name: np.where(apart, values, getattr(whole, name)) for name, values in repeated.items()})


@dataclass(frozen=True, slots=True)
class ArrayPricing:
    """Prices array layers of one design."""

    spec: SystolicSpec
    energy: EnergyModel

    def price(self, jobs: Sequence[Job], single: Sequence[Job], batch: int) -> list[LayerCost]:
        """Price all array layers in one array call; `single` are the same layers for one sample.

        A batch runs at once, or its samples one after the other where that moves fewer bytes (what fits the SRAMs for one
        sample may not for all).
        """
        if not jobs:
            return []
        counts = self._counts(jobs)
        if batch > 1:
            counts = _cheaper(counts, self._counts(single), batch)
        return [self._array_cost(i, job, counts) for i, job in enumerate(jobs)]

    def _counts(self, jobs: Sequence[Job]) -> _Counts:
        spec = self.spec
        flow = int(timing.Dataflow.of(spec.dataflow))
        steps = StepArrays.of(jobs)
        m, n, k, groups = self._sizes(jobs)
        timed = self._timed(jobs, m, n, k)
        ours = traffic.sram_counts(flow, spec.rows, spec.cols, m, n, k, groups)
        sums = traffic.sram_counts(flow, spec.rows, spec.cols, m, n, self._folded(jobs, k), groups)
        if spec.compat == "scalesim":
            compute = timing.scalesim_cycles(flow, spec.rows, spec.cols, *timed, groups)
            ofmap_writes = traffic.scalesim_sram_counts(flow, spec.rows, spec.cols, m, n, k, groups).ofmap_writes
        else:
            compute = steps.turns * timing.fold_cycles(
                flow, spec.rows, spec.cols, *timed, groups // steps.turns, spec.overlap_load, spec.overlap_drain
            )
            ofmap_writes = sums.ofmap_writes
        outputs = np.array([j.outputs for j in jobs], dtype=np.int64)
        bias = np.array([j.bias_bytes for j in jobs], dtype=np.int64)
        products = m * n * groups
        # A transposed convolution adds up what lands on one output.
        landing = np.where(steps.here, 0, np.maximum(0, products - outputs))
        carried = carry(
            jobs,
            steps,
            spec,
            products,
            n * k * groups // steps.turns,
            self._moved(jobs, flow, (m, n, k, groups), outputs),
        )
        moved = replace(carried.traffic, read_bytes=carried.traffic.read_bytes + bias)
        stalls = traffic.stall_cycles(moved, compute + steps.cycles, self.bytes_per_cycle)
        waits = stalls + steps.cycles
        use = timing.utilization(flow, spec.rows, spec.cols, *timed, groups, compute_cycles=compute, stall_cycles=waits)
        lost_dependence = use.lost_bandwidth * steps.cycles / np.maximum(1, waits)
        psum_reads = np.zeros_like(sums.psum_reads) if spec.compat == "scalesim" else sums.psum_reads
        return _Counts(
            compute=compute,
            stalls=stalls,
            dependence=steps.cycles,
            ifmap_reads=ours.ifmap_reads,
            ifmap_writes=carried.ifmap_writes,
            filter_reads=ours.filter_reads,
            ofmap_writes=ofmap_writes + carried.psum_writes + np.where(steps.here, outputs, 0),
            psum_writes=np.maximum(0, sums.ofmap_writes - np.where(steps.here, 0, outputs)) + carried.psum_writes,
            psum_reads=psum_reads + landing + carried.psum_reads,
            dram_ifmap=moved.ifmap_reads,
            dram_gates=steps.gates + steps.given,
            dram_filter=moved.filter_reads,
            dram_psum_reads=moved.psum_reads,
            dram_psum_writes=moved.psum_writes,
            dram_read_bytes=moved.read_bytes,
            dram_write_bytes=moved.write_bytes,
            mapping_efficiency=use.mapping_efficiency,
            compute_utilization=use.compute_utilization,
            utilization=use.utilization,
            lost_padding=use.lost_padding,
            lost_fill_drain=use.lost_fill_drain,
            lost_bandwidth=use.lost_bandwidth - lost_dependence,
            lost_dependence=lost_dependence,
        )

    def _moved(
        self, jobs: Sequence[Job], flow: int, sizes: tuple[IntArray, ...], outputs: IntArray
    ) -> traffic.DramTraffic:
        """Return DRAM traffic; spilled sums follow the folds that really run, written results the outputs that there are."""
        spec = self.spec
        result_bits = np.array([j.result_bits for j in jobs])

        def of(k: IntArray) -> traffic.DramTraffic:
            m, n, _, groups = sizes
            return traffic.dram_traffic(
                flow,
                spec.rows,
                spec.cols,
                m,
                n,
                k,
                groups,
                ifmap_elements=np.array([j.ifmap_elements for j in jobs], dtype=np.int64),
                ifmap_bits=np.array([j.activation.bits for j in jobs]),
                filter_bits=np.array([j.weight.bits for j in jobs]),
                ofmap_bits=result_bits,
                accumulator_bits=spec.accumulator_bits,
                ifmap_sram_bytes=int(spec.ifmap_sram_kib * 1024),
                filter_sram_bytes=int(spec.filter_sram_kib * 1024),
                ofmap_sram_bytes=int(spec.ofmap_sram_kib * 1024),
            )

        moved, folded = of(sizes[2]), of(self._folded(jobs, sizes[2]))
        spilled = (folded.psum_reads * spec.accumulator_bits + 7) // 8
        not_spilled = (moved.psum_reads * spec.accumulator_bits + 7) // 8
        return replace(
            moved,
            psum_reads=folded.psum_reads,
            psum_writes=folded.psum_writes,
            ofmap_writes=outputs,
            read_bytes=moved.read_bytes - not_spilled + spilled,
            write_bytes=(outputs * result_bits + 7) // 8 + spilled,
        )

    def _folded(self, jobs: Sequence[Job], k: IntArray) -> IntArray:
        """Return the reduction's length on the array: PEs that do several narrow MACs at once shorten it."""
        parallel = np.array([self._narrowing(job)[0] for job in jobs], dtype=np.int64)
        return -(-k // parallel)

    def _sizes(self, jobs: Sequence[Job]) -> tuple[IntArray, ...]:
        """Return m, n, k, groups as arrays (steps of recurrent layers are groups); no product of them leaves 64 bits.

        Raises:
            InputError: if one would.

        """
        sizes = [turn_sizes(j.layer, j.gemm) for j in jobs]
        columns = [[getattr(g, d) for g in sizes] for d in ("m", "n", "k", "groups")]
        widest = max(self.spec.accumulator_bits, self.spec.weight_bits, self.spec.activation_bits, 32)
        serial = widest if self.spec.precision == "bit_serial" else 1  # a size may be stretched by the bits of a weight
        timing.check_bounds(
            self.spec.rows,
            self.spec.cols,
            *columns,
            ifmap_elements=[j.ifmap_elements for j in jobs],
            bits=widest * serial,
        )
        return tuple(np.array(c, dtype=np.int64) for c in columns)

    def _timed(self, jobs: Sequence[Job], m: IntArray, n: IntArray, k: IntArray) -> tuple[IntArray, IntArray, IntArray]:
        """Return the sizes that take time: narrow operands shorten the reduction, serial ones lengthen the stream."""
        parallel, serial = np.array([self._narrowing(job) for job in jobs], dtype=np.int64).T
        k = -(-k // parallel)
        flow = self.spec.dataflow
        return m * serial if flow == "ws" else m, n * serial if flow == "is" else n, k * serial if flow == "os" else k

    @property
    def bytes_per_cycle(self) -> float:
        """Bytes that DRAM moves in one cycle of the array."""
        speed = self.spec.dram_gib_per_s * 2**30
        return float(traffic.dram_bytes_per_cycle(speed, self.spec.clock_mhz * 1e6))

    def _narrowing(self, job: Job) -> tuple[int, int]:
        """Return (MACs a PE does at once, cycles a MAC takes) for the layer's operand widths."""
        spec = self.spec
        if spec.precision == "bit_serial":
            return 1, job.weight.bits
        if spec.precision == "decomposable":
            by_weight = max(1, spec.weight_bits // _power_of_two(job.weight.bits))
            by_activation = max(1, spec.activation_bits // _power_of_two(job.activation.bits))
            return by_weight * by_activation, 1
        return 1, 1

    def _array_cost(self, i: int, job: Job, counts: _Counts) -> LayerCost:
        spec, macs = self.spec, job.gemm.macs
        c = {f.name: int(getattr(counts, f.name)[i]) for f in fields(_Counts) if f.name not in _SHARES}
        share = {name: float(getattr(counts, name)[i]) for name in _SHARES}
        parallel, serial = self._narrowing(job)
        return LayerCost(
            name=job.layer.name,
            op=job.layer.op.value,
            unit="array",
            gemm=job.gemm,
            macs=macs,
            compute_cycles=c["compute"],
            stall_cycles=c["stalls"] + c["dependence"],
            latency_s=(c["compute"] + c["stalls"] + c["dependence"]) / (spec.clock_mhz * 1e6),
            utilization=share["utilization"],
            mapping_efficiency=share["mapping_efficiency"],
            compute_utilization=share["compute_utilization"],
            utilization_lost={
                cause: share[f"lost_{cause}"] for cause in _LOST if cause != "dependence" or job.recurrence is not None
            },
            energy=tuple(self._bill(job, c, macs * serial / parallel)),
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

    def _bill(self, job: Job, c: dict[str, int], pe_cycles: float) -> list[Energy]:
        """Return a layer's bill: what SRAMs take in from DRAM is written to them, what leaves is read from them."""
        bill, sum_bits = self.energy, self.spec.accumulator_bits
        w, a, y = job.weight.bits, job.activation.bits, job.result_bits
        return [
            *bill.mac(job.gemm.macs, w, a),
            *bill.registers(pe_cycles),
            *bill.sram("ifmap", "read", c["ifmap_reads"], a),
            *bill.sram("ifmap", "write", c["ifmap_writes"], a),
            *bill.sram("filter", "read", c["filter_reads"], w),
            *bill.sram("filter", "write", c["dram_filter"], w),
            *bill.sram("ofmap", "write", job.outputs, y),
            *bill.sram("ofmap", "write", c["psum_writes"] + c["dram_psum_reads"], sum_bits),
            *bill.sram("ofmap", "read", c["psum_reads"] + c["dram_psum_writes"], sum_bits),
            *bill.sram("ofmap", "read", job.outputs, y),
            *bill.dram(c["dram_read_bytes"] + c["dram_write_bytes"]),
            *(job.recurrence.energy if job.recurrence is not None else ()),
        ]


def _power_of_two(bits: int) -> int:
    return 1 << max(1, (bits - 1).bit_length()) if bits > 1 else 1


def touched_elements(layer: Layer, batch: int) -> int:
    """Return the distinct ifmap elements that any window reads (a stride longer than the window skips some)."""
    elements = layer.operands[0].type.elements(batch)
    a = layer.attributes
    if not isinstance(a, ConvAttributes) or a.transposed:
        return elements
    for i, size in enumerate(layer.operands[0].shape[2:]):
        kernel, stride = layer.operands[1].shape[2 + i], a.stride[i]
        if stride > kernel:
            count = layer.results[0].shape[2 + i]
            elements = elements // size * min(size, count * kernel)
    return elements
