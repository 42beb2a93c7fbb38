"""Prices the layers that run on the array: all of a network in one call of the timing and traffic formulas."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from picojoule.accel.systolic import timing, traffic
from picojoule.accel.systolic.energy import EnergyModel
from picojoule.accel.systolic.spec import SystolicSpec
from picojoule.sim.attributes import ConvAttributes
from picojoule.sim.cost import Energy, LayerCost
from picojoule.sim.formats import NumberFormat
from picojoule.sim.gemm import Gemm
from picojoule.sim.ir import Layer


@dataclass(frozen=True, slots=True)
class Job:
    """An array layer: its GEMM, formats and distinct ifmap elements."""

    layer: Layer
    gemm: Gemm
    weight: NumberFormat
    activation: NumberFormat
    result_bits: int
    ifmap_elements: int


@dataclass(frozen=True, slots=True)
class ArrayPricing:
    """Prices array layers of one design."""

    spec: SystolicSpec
    energy: EnergyModel

    def price(self, jobs: Sequence[Job]) -> list[LayerCost]:
        """Price all array layers in one array call."""
        if not jobs:
            return []
        spec = self.spec
        flow = int(timing.Dataflow.of(spec.dataflow))
        m, n, k, groups = self._sizes(jobs)
        timed = self._timed(jobs, m, n, k)
        if spec.compat == "scalesim":
            compute = timing.scalesim_cycles(flow, spec.rows, spec.cols, *timed, groups)
            words = traffic.scalesim_sram_counts(flow, spec.rows, spec.cols, m, n, k, groups)
        else:
            compute = timing.fold_cycles(
                flow, spec.rows, spec.cols, *timed, groups, spec.overlap_load, spec.overlap_drain
            )
            words = traffic.sram_counts(flow, spec.rows, spec.cols, m, n, k, groups)
        moved = traffic.dram_traffic(
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
            ofmap_bits=np.array([j.result_bits for j in jobs]),
            accumulator_bits=spec.accumulator_bits,
            ifmap_sram_bytes=int(spec.ifmap_sram_kib * 1024),
            filter_sram_bytes=int(spec.filter_sram_kib * 1024),
            ofmap_sram_bytes=int(spec.ofmap_sram_kib * 1024),
        )
        stalls = traffic.stall_cycles(moved, compute, self.bytes_per_cycle)
        use = timing.utilization(
            flow, spec.rows, spec.cols, *timed, groups, compute_cycles=compute, stall_cycles=stalls
        )
        return [self._array_cost(i, job, compute, stalls, words, moved, use) for i, job in enumerate(jobs)]

    def _sizes(self, jobs: Sequence[Job]) -> tuple[timing.IntArray, ...]:
        """Return m, n, k, groups as arrays, after making sure that no product of them leaves 64 bits.

        Raises:
            InputError: if one would.

        """
        columns = [[getattr(j.gemm, d) for j in jobs] for d in ("m", "n", "k", "groups")]
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

    def _timed(
        self, jobs: Sequence[Job], m: timing.IntArray, n: timing.IntArray, k: timing.IntArray
    ) -> tuple[timing.IntArray, timing.IntArray, timing.IntArray]:
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

    def _array_cost(
        self,
        i: int,
        job: Job,
        compute: timing.IntArray,
        stalls: timing.IntArray,
        words: traffic.SramCounts,
        moved: traffic.DramTraffic,
        use: timing.Utilization,
    ) -> LayerCost:
        bill, energy, macs = self.energy, list[Energy](), job.gemm.macs
        ifmap, filters = int(words.ifmap_reads[i]), int(words.filter_reads[i])
        writes, psums = int(words.ofmap_writes[i]), int(words.psum_reads[i])
        outputs = job.gemm.m * job.gemm.n * job.gemm.groups
        sums, spilled = writes - outputs, int(moved.psum_reads[i] + moved.psum_writes[i])
        energy += bill.mac(macs, job.weight.bits, job.activation.bits)
        energy += bill.registers(macs)
        energy += bill.sram("ifmap", "read", ifmap, job.activation.bits)
        energy += bill.sram("ifmap", "write", int(moved.ifmap_reads[i]), job.activation.bits)
        energy += bill.sram("filter", "read", filters, job.weight.bits)
        energy += bill.sram("filter", "write", int(moved.filter_reads[i]), job.weight.bits)
        energy += bill.sram("ofmap", "write", outputs, job.result_bits)
        energy += bill.sram("ofmap", "write", max(0, sums), self.spec.accumulator_bits)
        energy += bill.sram("ofmap", "read", psums + spilled, self.spec.accumulator_bits)
        energy += bill.sram("ofmap", "read", outputs, job.result_bits)
        energy += bill.dram(int(moved.total_bytes[i]))
        busy, wait = int(compute[i]), int(stalls[i])
        return LayerCost(
            name=job.layer.name,
            op=job.layer.op.value,
            unit="array",
            gemm=job.gemm,
            macs=macs,
            compute_cycles=busy,
            stall_cycles=wait,
            latency_s=(busy + wait) / (self.spec.clock_mhz * 1e6),
            utilization=float(use.utilization[i]),
            mapping_efficiency=float(use.mapping_efficiency[i]),
            compute_utilization=float(use.compute_utilization[i]),
            utilization_lost={
                "padding": float(use.lost_padding[i]),
                "fill_drain": float(use.lost_fill_drain[i]),
                "bandwidth": float(use.lost_bandwidth[i]),
            },
            energy=tuple(energy),
            reads={
                "sram.ifmap": ifmap,
                "sram.filter": filters,
                "sram.ofmap": psums,
                "dram.ifmap": int(moved.ifmap_reads[i]),
                "dram.filter": int(moved.filter_reads[i]),
                "dram.psum": int(moved.psum_reads[i]),
            },
            writes={
                "sram.ofmap": writes,
                "dram.ofmap": int(moved.ofmap_writes[i]),
                "dram.psum": int(moved.psum_writes[i]),
            },
            dram_read_bytes=int(moved.read_bytes[i]),
            dram_write_bytes=int(moved.write_bytes[i]),
        )


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
