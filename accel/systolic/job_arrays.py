"""Jobs of the array as arrays: sizes and operand widths, [layers, 1], against which designs broadcast."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from picojoule.accel.systolic import timing
from picojoule.accel.systolic.design_arrays import DesignArrays
from picojoule.accel.systolic.recurrence import turn_sizes
from picojoule.accel.systolic.spec import SystolicSpec
from picojoule.accel.systolic.timing import Dataflow, IntArray
from picojoule.accel.systolic.workload import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class JobArrays:
    """Sizes and widths of jobs, [layers, 1]. `folded_k` is the reduction's length on the array, `serial` cycles of a MAC."""

    jobs: tuple[Job, ...]
    m: IntArray
    n: IntArray
    k: IntArray
    groups: IntArray
    folded_k: IntArray
    serial: IntArray
    activation_bits: IntArray
    weight_bits: IntArray
    result_bits: IntArray
    ifmap_elements: IntArray
    outputs: IntArray
    bias_bytes: IntArray

    @classmethod
    def of(cls, jobs: Sequence[Job], spec: SystolicSpec) -> "JobArrays":
        """Return the arrays of jobs (at least one); steps of recurrent layers are groups."""

        def column(values: Sequence[int]) -> IntArray:
            return np.array(values, dtype=np.int64)[:, None]

        sizes = [turn_sizes(j.layer, j.gemm) for j in jobs]
        parallel, serial = (column(c) for c in zip(*(narrowing(spec, j) for j in jobs), strict=True))
        k = column([s.k for s in sizes])
        return cls(
            jobs=tuple(jobs),
            m=column([s.m for s in sizes]),
            n=column([s.n for s in sizes]),
            k=k,
            groups=column([s.groups for s in sizes]),
            folded_k=k if (parallel == 1).all() else -(-k // parallel),
            serial=serial,
            activation_bits=column([j.activation.bits for j in jobs]),
            weight_bits=column([j.weight.bits for j in jobs]),
            result_bits=column([j.result_bits for j in jobs]),
            ifmap_elements=column([j.ifmap_elements for j in jobs]),
            outputs=column([j.outputs for j in jobs]),
            bias_bytes=column([j.bias_bytes for j in jobs]),
        )

    def check_bounds(self, designs: DesignArrays) -> None:
        """Refuse sizes of which a product leaves 64 bits on the largest of the designs.

        Raises:
            InputError: naming the sizes.

        """
        spec = designs.spec
        widest = max(spec.accumulator_bits, spec.weight_bits, spec.activation_bits, 32)
        stretch = widest if spec.precision == "bit_serial" else 1  # a size may be stretched by the bits of a weight
        rows, cols = np.broadcast_arrays(designs.rows, designs.cols)
        largest = int(np.argmax(rows + cols))  # bounds grow with rows + cols
        timing.check_bounds(
            rows[largest],
            cols[largest],
            self.m,
            self.n,
            self.k,
            self.groups,
            ifmap_elements=self.ifmap_elements,
            bits=widest * stretch,
        )

    def timed(self, designs: DesignArrays) -> tuple[IntArray, IntArray, IntArray]:
        """Return the sizes that take time: narrow operands shorten the reduction, serial ones lengthen the stream."""
        if (self.serial == 1).all():
            return self.m, self.n, self.folded_k

        def streamed(size: IntArray, dataflow: Dataflow) -> IntArray:
            return size * np.where(designs.dataflow == dataflow, self.serial, 1)

        return (
            streamed(self.m, Dataflow.WS),
            streamed(self.n, Dataflow.IS),
            streamed(self.folded_k, Dataflow.OS),
        )


def narrowing(spec: SystolicSpec, job: Job) -> tuple[int, int]:
    """Return (MACs a PE does at once, cycles a MAC takes) for a job's operand widths."""
    if spec.precision == "bit_serial":
        return 1, job.weight.bits
    if spec.precision == "decomposable":
        by_weight = max(1, spec.weight_bits // _power_of_two(job.weight.bits))
        by_activation = max(1, spec.activation_bits // _power_of_two(job.activation.bits))
        return by_weight * by_activation, 1
    return 1, 1


def _power_of_two(bits: int) -> int:
    return 1 << max(1, (bits - 1).bit_length()) if bits > 1 else 1
