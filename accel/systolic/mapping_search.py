"""`mapping: search`: the best tiling and loop order of every layer on one design.

What is made small is linear in energy and time, a E + b T, so that layers can be searched one by one and the network as a
whole is never worse than with the default mapping (which a layer keeps where no mapping beats it): latency (0, 1), energy
(1, 0); edp (1 / E0, 1 / T0) with the default's totals E0 and T0. For E / E0 + T / T0 <= 2 gives E T <= E0 T0, a product of
two numbers being at most the square of their mean.

Pruning: words and compute cycles of all mappings are counted first (closed forms). The array waits for at least what the bus
takes beyond the compute, so that a E + b (compute + max(0, bytes / bandwidth - compute)) bounds the score from below.
Mappings are then timed in the order of their bounds, in blocks, until the next bound is no better than the best score found:
no mapping left out can be better. Same input, same mapping: ties go to the lower bound, then to the earlier mapping of
`mapping_space`.

A layer keeps the default mapping also where tiles would not mean what `mapping_space` says: recurrent layers, transposed
convolutions, PEs of more than one MAC or of several cycles a MAC, and `compat: scalesim`; and layers of which zeros are left out
or values stay on chip, or of block floats. A note counts them (`mapping_ways`).
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from math import prod

import numpy as np

from picojoule.accel.systolic.bill import Events, array_bill
from picojoule.accel.systolic.counts import COUNTS, Counts
from picojoule.accel.systolic.design_arrays import DesignArrays
from picojoule.accel.systolic.dram_bus import Bus
from picojoule.accel.systolic.energy import EnergyModel
from picojoule.accel.systolic.job_arrays import JobArrays, narrowing
from picojoule.accel.systolic.load import Load
from picojoule.accel.systolic.mapping_cost import MappedCounts, count, stall_cycles
from picojoule.accel.systolic.mapping_space import Mappings, Problem, fitting_mappings
from picojoule.accel.systolic.timing import Dataflow, FloatArray
from picojoule.accel.systolic.totals import Totals
from picojoule.accel.systolic.workload import Job
from picojoule.sim.attributes import ConvAttributes

DEFAULT = "default"
_BLOCK = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """The counts of kinds of layers with the best mapping each, [kinds, 1], and how each is mapped, in words."""

    counts: Counts
    texts: tuple[str, ...]
    considered: int
    timed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """The best mapping of a problem: its place, its score, its stalls; how many mappings there are and how many were timed."""

    place: int
    score: float
    stalls: int
    considered: int
    timed: int


def search(load: Load, totals: Totals) -> Searched:
    """Return the best mapping of each kind of layer on the one design of `totals`, which are those of the default mapping."""
    assert load.kinds is not None and totals.schedules is not None
    default, jobs = totals.schedules.chosen, load.kinds.whole
    every = (len(load.kinds.times), 1)
    columns = {name: np.array(np.broadcast_to(getattr(default, name), every)) for name in COUNTS}
    weights = Weights.of(totals, load.spec.mapping_objective)
    texts, considered, timed = [], 0, 0
    for i, job in enumerate(jobs.jobs):
        text = DEFAULT
        problem = problem_of(job, totals.designs, load.workload.batch)
        if problem is not None:
            one = JobArrays.of([job], load.spec)
            own = Counts(**{name: columns[name][i : i + 1] for name in COUNTS}, short=np.zeros((1, 1), dtype=bool))
            pricing = _Pricing(totals.designs, one, job, weights)
            maps = fitting_mappings(problem)
            best = best_mapping(problem, maps, pricing.bound)
            considered, timed = considered + best.considered, timed + best.timed
            if best.place >= 0 and best.score < pricing.score(own):
                chosen = maps.take(np.array([best.place]))
                made = pricing.counts(count(problem, chosen), best.stalls)
                for name in COUNTS:
                    columns[name][i] = np.ravel(getattr(made, name))[0]
                text = chosen.text(0)
        texts.append(text)
    counts = Counts(**columns, short=np.zeros(every, dtype=bool))
    return Searched(counts=counts, texts=tuple(texts), considered=considered, timed=timed)


def best_mapping(
    problem: Problem,
    maps: Mappings,
    bound: Callable[[MappedCounts], tuple[FloatArray, float]],
    block: int = _BLOCK,
) -> Best:
    """Return the best of some mappings, of which `block` are timed at once.

    `bound` gives the score of counts without any wait, [mappings], and what a cycle of waiting adds to it.
    """
    if not len(maps.m):
        return Best(place=-1, score=np.inf, stalls=0, considered=0, timed=0)
    unstalled, per_cycle, bounds = lower_bounds(problem, maps, bound)
    order = np.argsort(bounds, kind="stable")
    best, best_score, best_stalls, timed = -1, np.inf, 0.0, 0
    for start in range(0, len(order), block):
        some = order[start : start + block]
        if bounds[some[0]] >= best_score:
            break
        some = some[bounds[some] < best_score]
        stalls = stall_cycles(problem, maps.take(some))
        scores = unstalled[some] + per_cycle * stalls
        timed += len(some)
        winner = int(np.argmin(scores))
        if scores[winner] < best_score:
            best, best_score, best_stalls = int(some[winner]), float(scores[winner]), float(stalls[winner])
    return Best(place=best, score=best_score, stalls=int(best_stalls), considered=len(order), timed=timed)


def lower_bounds(
    problem: Problem, maps: Mappings, bound: Callable[[MappedCounts], tuple[FloatArray, float]]
) -> tuple[FloatArray, float, FloatArray]:
    """Return the scores of mappings without waiting, what a cycle of it adds, and the bounds that no score falls below."""
    counts = count(problem, maps)
    unstalled, per_cycle = bound(counts)
    bytes_moved = (counts.dram_read_bytes + counts.dram_write_bytes).astype(np.float64)
    waits = np.maximum(0.0, bytes_moved / np.asarray(problem.bus.bytes_per_cycle) * (1 - 1e-9) - counts.compute - 1.0)
    return unstalled, per_cycle, unstalled + per_cycle * waits


@dataclass(frozen=True, slots=True)
class Weights:
    """The score: `per_pj` of energy + `per_cycle` of time, in which leakage is included."""

    per_pj: float
    per_cycle: float

    @classmethod
    def of(cls, totals: Totals, objective: str) -> "Weights":
        """Return the weights of an objective, for a network with these totals in the default mapping."""
        cycle_s = 1.0 / float(totals.designs.clock_hz.item())
        leak = float(totals.static_pj.item()) / float(totals.latency_s.item()) * cycle_s  # pJ in a cycle
        if objective == "latency":
            return cls(0.0, 1.0)
        if objective == "energy":
            return cls(1.0, leak)
        energy = float(totals.dynamic_pj.item() + totals.static_pj.item())
        return cls(1.0 / energy, leak / energy + cycle_s / float(totals.latency_s.item()))


@dataclass(frozen=True, slots=True)
class _Pricing:
    """Prices mappings of one job."""

    designs: DesignArrays
    one: JobArrays
    job: Job
    weights: Weights

    def bound(self, counts: MappedCounts) -> tuple[FloatArray, float]:
        """Return the score without waiting, and what a cycle of it adds."""
        return self._unstalled(self.counts(counts, 0)), self.weights.per_cycle

    def score(self, counts: Counts) -> float:
        """Return the score of one way to run the job."""
        return float(self._unstalled(counts).item() + self.weights.per_cycle * float(counts.stalls.item()))

    def _unstalled(self, counts: Counts) -> FloatArray:
        score = self.weights.per_cycle * counts.compute[0].astype(np.float64)
        if not self.weights.per_pj:
            return np.asarray(score)
        sum_bits = self.designs.spec.accumulator_bits
        events = Events.of(self.one, counts, self.job, sum_bits, lambda c: c[0])
        bill = array_bill(EnergyModel(self.designs), self.job, events)
        return np.asarray(score + self.weights.per_pj * sum(charge.pj for charge in bill))

    def counts(self, c: MappedCounts, stalls: int) -> Counts:
        """Return the counts of mappings as those of layers, [1, mappings]."""
        own = {f.name: getattr(c, f.name)[None, :] for f in fields(c)}
        none, psums = np.zeros_like(own["compute"]), own["psum_reads"]
        return Counts(
            **{name: own[name] for name in own if name in COUNTS and name not in ("psum_reads", "dram_read_bytes")},
            stalls=none + stalls,
            dependence=none,
            useful=none + self.job.gemm.macs,
            ifmap_writes=own["dram_ifmap"],
            psum_writes=psums,
            psum_reads=psums,
            dram_gates=none,
            dram_psum_reads=own["dram_psums"],
            dram_psum_writes=own["dram_psums"],
            dram_read_bytes=own["dram_read_bytes"] + self.job.bias_bytes,
            edge_psum_writes=psums,
            edge_psum_reads=psums,
            psum_write_accesses=own["psum_accesses"],
            psum_read_accesses=own["psum_accesses"],
            short=none.astype(bool),
        )


def why_default(job: Job, designs: DesignArrays) -> str:
    """Return why a job is not searched, an empty text where it is."""
    cases = {
        "compat: scalesim": designs.spec.compat != "none",
        "recurrent": job.recurrence is not None,
        "PEs of several MACs a cycle or cycles a MAC": narrowing(designs.spec, job) != (1, 1),
        "zeros left out": job.work is not None,
        "values kept on chip": any(job.kept),
        "block floats": any(job.exponents),
        "transposed": job.gemm.m * job.gemm.n * job.gemm.groups != job.outputs,
    }
    return next((reason for reason, true in cases.items() if true), "")


def problem_of(job: Job, designs: DesignArrays, batch: int) -> Problem | None:
    """Return a job on one design as a problem of mapping, None where it keeps the default mapping."""
    spec, g, a = designs.spec, job.gemm, job.layer.attributes
    if why_default(job, designs):
        return None
    shape = _Shape(m=g.m, repeats=g.groups)
    if isinstance(a, ConvAttributes):
        out, kernel = job.layer.results[0].shape[2:], job.layer.operands[1].shape[2:]
        span = (kernel[0] - 1) * a.dilation[0] + 1
        channels = g.k // prod(kernel) * g.groups
        shape = _Shape(
            m=prod(out),
            repeats=g.groups * (g.m // prod(out)),
            m_unit=prod(out[1:]),
            k_unit=prod(kernel),
            stride=a.stride[0],
            kernel=span,
            in_rows=(in_rows := min(job.layer.operands[0].shape[2], (out[0] - 1) * a.stride[0] + span, out[0] * span)),
            row_words=-(-job.ifmap_elements // (in_rows * channels * (g.m // prod(out)))),
        )
    halves = [int(np.asarray(size).item()) // 2 for size in designs.sram_bytes]
    shared = designs.shared_sram_bytes
    return Problem(
        dataflow=Dataflow(int(designs.dataflow.item())),
        rows=int(designs.rows.item()),
        cols=int(designs.cols.item()),
        m=shape.m,
        n=g.n,
        k=g.k,
        repeats=shape.repeats,
        m_unit=shape.m_unit,
        k_unit=shape.k_unit,
        stride=shape.stride,
        kernel=shape.kernel,
        in_rows=shape.in_rows or shape.m,
        row_words=shape.row_words,
        ifmap_bits=job.activation.bits,
        filter_bits=job.weight.bits,
        ofmap_bits=job.result_bits,
        accumulator_bits=spec.accumulator_bits,
        other_bytes=job.bias_bytes,
        halves=(halves[0], halves[1], halves[2]),
        shared_half=None if shared is None else int(np.asarray(shared).item()) // 2,
        overlap_load=bool(designs.overlap_load.item()),
        overlap_drain=bool(designs.overlap_drain.item()),
        bus=Bus(
            bytes_per_cycle=float(designs.bytes_per_cycle.item()),
            latency_cycles=float((designs.dram_latency_s * designs.clock_hz).item()),
            burst_bytes=int(np.asarray(designs.burst_bytes).item()),
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """Sizes of a problem that a convolution's geometry sets."""

    m: int
    repeats: int
    m_unit: int = 1
    k_unit: int = 1
    stride: int = 1
    kernel: int = 1
    in_rows: int = 0
    row_words: int = 1
