"""Jobs of the array as arrays: sizes and operand widths, [layers, 1], against which designs broadcast."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np
import numpy.typing as npt

from picojoule.accel.systolic import bit_planes, timing
from picojoule.accel.systolic.design_arrays import DesignArrays
from picojoule.accel.systolic.recurrence import StepArrays, turn_sizes
from picojoule.accel.systolic.spec import LARGEST_SIDE, SystolicSpec
from picojoule.accel.systolic.timing import Dataflow, FloatArray, IntArray
from picojoule.accel.systolic.workload import Job
from picojoule.sim.errors import InputError
from picojoule.sim.gemm import Gemm

_INT64_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class JobArrays:
    """Sizes and widths of jobs, [layers, 1]. `folded_k` is the reduction's length on the array, `serial` cycles of a MAC.

    `macs` multiply and `pe_steps` clock registers; these and the columns up to `given_cycles` say what zero weights save (see
    `ZeroSavings`), `saves` whether any do. `sharing_groups` are groups that may share a fold (1 of a recurrent layer, whose
    steps depend on each other); `may_share` says whether any does. `products` are sums that the array makes, `turn_weights`
    weights of one turn, `array_outputs` results that the array itself writes (the vector unit writes those of recurrent
    layers), `landing` sums of a transposed convolution that are added to others, `other_bytes` what DRAM brings beside the
    operands, `exponents` bits of block exponents per word of weights, activations and results (None: there are none), `kept`
    whether operand 0, operand 1 and the result stay on chip (None: nothing does). `always_bounded`: no count leaves 64 bits
    even on the largest array there may be. `given_ports`: words of ifmap and weights into the array, and partial sums, [3,
    layers, 1], -1 where they follow from the sizes (None: all do).
    """

    jobs: tuple[Job, ...]
    macs: FloatArray
    pe_steps: FloatArray
    saves: bool
    kept: npt.NDArray[np.bool_] | None
    read_k: IntArray
    stored_words: IntArray
    stored_bytes: IntArray
    idle_slots: IntArray
    given_cycles: IntArray
    given_ports: IntArray | None
    sharing_groups: IntArray
    may_share: bool
    always_bounded: bool
    steps: StepArrays
    products: IntArray
    turn_weights: IntArray
    array_outputs: IntArray
    landing: IntArray
    other_bytes: IntArray
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
    exponents: tuple[FloatArray, FloatArray, FloatArray] | None

    @classmethod
    def of(cls, jobs: Sequence[Job], spec: SystolicSpec) -> "JobArrays":
        """Return the arrays of jobs (at least one); steps of recurrent layers are groups.

        Raises:
            InputError: for a size beyond 64 bits, naming the layer.

        """

        def column(values: Sequence[int]) -> IntArray:
            for job, value in zip(jobs, values, strict=True):
                if value > _INT64_MAX:
                    raise InputError(
                        f"layer '{job.layer.name}': a size of {value} is beyond 64-bit integers; split the layer or the batch"
                    )
            return np.array(values, dtype=np.int64)[:, None]

        sizes = [turn_sizes(j.layer, j.on_array) for j in jobs]
        zeros = [ZeroSavings.of(j, s) for j, s in zip(jobs, sizes, strict=True)]
        parallel, serial = (column(c) for c in zip(*(narrowing(spec, j) for j in jobs), strict=True))
        k = column([s.k for s in sizes])
        m, n, groups = (column([getattr(s, axis) for s in sizes]) for axis in ("m", "n", "groups"))
        steps, outputs = StepArrays.of(jobs), column([j.outputs for j in jobs])
        bias_bytes = column([j.bias_bytes for j in jobs])
        products = column([s.m * s.n * s.groups for s in sizes])
        sharing = [1 if j.recurrence else s.groups for j, s in zip(jobs, sizes, strict=True)]
        made = cls(
            jobs=tuple(jobs),
            macs=np.array([[z.macs] for z in zeros]),
            pe_steps=np.array([[z.pe_steps] for z in zeros]),
            saves=any(j.work is not None for j in jobs),
            kept=np.array([j.kept for j in jobs]).T[..., None] if any(any(j.kept) for j in jobs) else None,
            read_k=column([z.read_k for z in zeros]),
            stored_words=column([z.stored_words for z in zeros]),
            stored_bytes=column([z.stored_bytes for z in zeros]),
            idle_slots=column([z.idle_slots for z in zeros]),
            given_cycles=column([z.given_cycles for z in zeros]),
            given_ports=_given_ports(jobs),
            sharing_groups=column(sharing),
            may_share=max(sharing) > 1,
            always_bounded=False,
            steps=steps,
            products=products,
            turn_weights=column([s.n * s.k * s.groups for s in sizes]) // steps.turns,
            array_outputs=np.where(steps.here, 0, outputs),
            landing=np.where(steps.here, 0, np.maximum(0, products - outputs)),
            other_bytes=bias_bytes + steps.outside_bytes,
            m=m,
            n=n,
            k=k,
            groups=groups,
            folded_k=_folded_k(zeros, k, parallel),
            serial=serial,
            activation_bits=column([j.activation.bits for j in jobs]),
            weight_bits=column([j.weight.bits for j in jobs]),
            result_bits=column([j.result_bits for j in jobs]),
            ifmap_elements=column([z.ifmap_elements for z in zeros]),
            outputs=outputs,
            bias_bytes=bias_bytes,
            exponents=_exponents(jobs),
        )
        try:
            made.check_bounds(_largest_array(spec))
        except InputError:
            return made
        return replace(made, always_bounded=True)

    def check_bounds(self, designs: DesignArrays) -> None:
        """Refuse sizes of which a product leaves 64 bits on the largest of the designs.

        Raises:
            InputError: naming the sizes.

        """
        spec = designs.spec
        widest = max(spec.accumulator_bits, spec.weight_bits, spec.activation_bits, 32)
        stretches = {
            "bit_serial": widest,
            "bit_plane": widest * widest,
        }  # of the streamed size, by the bits of operands
        stretch = stretches.get(spec.precision, 1)
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


def _exponents(jobs: Sequence[Job]) -> tuple[FloatArray, FloatArray, FloatArray] | None:
    shares = [job.word_exponents for job in jobs]
    if not any(any(share) for share in shares):
        return None
    w, a, y = (np.array(column)[:, None] for column in zip(*shares, strict=True))
    return w, a, y


def _largest_array(spec: SystolicSpec) -> DesignArrays:
    most = np.array([LARGEST_SIDE], dtype=np.int64)
    return DesignArrays.of(spec, {"rows": most, "cols": most})


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroSavings:
    """A job's counts that zero weights change; without zeros, those of the dense job.

    `read_k`: reduction positions for which ifmap words are read. `stored_words`: words of a weight's width that hold the weights
    of one turn and their positions. `idle_slots`: slots of the array's products that do not multiply for want of a weight.
    `given_cycles`: compute cycles, 0 where they follow from the sizes. `folded_k`: reduction along the rows, 0 likewise.
    """

    macs: float
    pe_steps: float
    read_k: int
    stored_words: int
    stored_bytes: int
    ifmap_elements: int
    idle_slots: int
    given_cycles: int
    folded_k: int = 0

    @classmethod
    def of(cls, job: Job, sizes: Gemm) -> "ZeroSavings":
        """Return the counts of a job of which `sizes` are the products of one turn."""
        work, turns = job.work, job.recurrence.turns if job.recurrence else 1
        words, macs = sizes.n * sizes.k * sizes.groups // turns, float(sizes.macs)
        if work is None:
            return cls(
                macs=macs, pe_steps=macs, read_k=sizes.k, stored_words=words,
                stored_bytes=-(-words * job.weight.bits // 8), ifmap_elements=job.ifmap_elements, idle_slots=0, given_cycles=0,
            )  # fmt: skip
        bits = work.stored_weight_bits + work.metadata_bits
        busy = round(macs * (1 - work.gated_share))
        folded = sizes.m * sizes.n * sizes.groups * (work.folded_k or sizes.k)
        return cls(
            macs=macs * (1 - work.gated_share),
            pe_steps=macs * (1 - work.skipped_share),
            read_k=work.ifmap_k,
            stored_words=-(-bits // job.weight.bits),
            stored_bytes=-(-bits // 8),
            ifmap_elements=ceil(job.ifmap_elements * work.ifmap_share),
            idle_slots=work.lost.get("imbalance", 0) if work.compute_cycles is None else folded - busy,
            given_cycles=work.compute_cycles or 0,
            folded_k=work.folded_k or 0,
        )


def _folded_k(zeros: Sequence[ZeroSavings], k: IntArray, parallel: IntArray) -> IntArray:
    """Return the reduction's length on the array: PEs take `parallel` positions at once, and zeros shorten it."""
    given = np.array([z.folded_k for z in zeros], dtype=np.int64)[:, None]
    if given.any():
        return np.where(given > 0, given, -(-k // parallel))
    return k if (parallel == 1).all() else -(-k // parallel)


def _given_ports(jobs: Sequence[Job]) -> IntArray | None:
    ports = [job.work.ports if job.work else None for job in jobs]
    if not any(ports):
        return None
    rows = [(p.ifmap, p.filters, p.sums) if p else (-1, -1, -1) for p in ports]
    return np.array(rows, dtype=np.int64).T[..., None]


def narrowing(spec: SystolicSpec, job: Job) -> tuple[int, int]:
    """Return (MACs a PE does at once, cycles it takes for them) for a job's operand widths."""
    if spec.precision in ("bit_serial", "bit_plane"):
        return bit_planes.narrowing(spec.precision, job.weight.bits, job.activation.bits, spec.plane_lanes)
    if spec.precision == "decomposable":
        by_weight = max(1, spec.weight_bits // _power_of_two(job.weight.bits))
        by_activation = max(1, spec.activation_bits // _power_of_two(job.activation.bits))
        return by_weight * by_activation, 1
    return 1, 1


def _power_of_two(bits: int) -> int:
    return 1 << max(1, (bits - 1).bit_length()) if bits > 1 else 1
