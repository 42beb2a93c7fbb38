"""Totals of a network on designs: the one place where layers are added up, for a single design and for many.

Layers run one after the other, on the array, the vector unit and the host alike. Energy is summed by kinds of layers with equally
wide operands: a bill is linear in what it counts, so one bill of the summed counts is the sum of the layers' bills.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from picojoule.accel.systolic.array_pricing import ArrayPricing
from picojoule.accel.systolic.bill import Events, Reduce, array_bill
from picojoule.accel.systolic.counts import Schedules
from picojoule.accel.systolic.design_arrays import DesignArrays
from picojoule.accel.systolic.energy import AreaCharge, Charge, EnergyModel
from picojoule.accel.systolic.load import Kinds, Load
from picojoule.accel.systolic.timing import FloatArray, IntArray
from picojoule.accel.systolic.vector import vector_cycles


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Totals over all layers, an element per design (or one for all); cycles are exact, `useful` counts MAC slots.

    `short`: some SRAM is too small, and the other figures mean nothing.
    """

    designs: DesignArrays
    schedules: Schedules | None
    compute: npt.NDArray[Any]
    stalls: npt.NDArray[Any]
    useful: npt.NDArray[Any]
    dynamic_pj: FloatArray
    host_latency_s: float
    latency_s: FloatArray
    short: npt.NDArray[np.bool_]
    areas: list[AreaCharge]
    leakage: list[Charge]

    @property
    def static_pj(self) -> FloatArray:
        """What leaks in the time of the run."""
        return np.asarray(sum(charge.pj for charge in self.leakage))

    @property
    def utilization(self) -> FloatArray:
        """Share of the PEs' slots in the accelerator's time that multiply, NaN where it has no time."""
        d = self.designs
        busy_s = self.latency_s - self.host_latency_s
        useful_s = self.useful.astype(np.float64) / (d.rows * d.cols) / d.clock_hz
        share = np.full(np.broadcast_shapes(useful_s.shape, busy_s.shape), np.nan)
        np.divide(useful_s, busy_s, out=share, where=busy_s > 0)
        return share


def totals_of(load: Load, designs: DesignArrays) -> Totals:
    """Return the totals of a load on designs.

    Raises:
        InputError: if a count would leave 64 bits.

    """
    schedules = None if load.kinds is None else ArrayPricing(designs).schedules(load.kinds, load.workload.batch)
    return _added_up(load, designs, schedules)


def searched_totals(load: Load, default: Totals) -> Totals:
    """Return the totals of the one design of `default` with the best mapping of every array layer."""
    from picojoule.accel.systolic.mapping_search import search  # it prices with this module

    found = search(load, default)
    schedules = Schedules(chosen=found.counts, whole=found.counts, mappings=found.texts)
    return _added_up(load, default.designs, schedules)


def _added_up(load: Load, designs: DesignArrays, schedules: Schedules | None) -> Totals:
    model = EnergyModel(designs)
    compute, stalls = (exact_sum(load.vector_times, cycles) for cycles in vector_cycles(*load.vector, designs))
    useful = np.zeros(1, dtype=np.int64)
    dynamic = load.other_pj + sum(charge.pj for charge in model.dram(load.other_bytes))
    short: npt.NDArray[np.bool_] = np.zeros(1, dtype=bool)
    if load.kinds is not None and schedules is not None:
        times = load.kinds.times
        counts = schedules.chosen
        short = np.asarray(counts.short.any(axis=0))
        compute = compute + exact_sum(times, counts.compute)
        stalls = stalls + exact_sum(times, counts.stalls + counts.dependence)
        useful = exact_sum(times, counts.useful)
        dynamic = dynamic + _array_pj(load.kinds, schedules, model)
    latency_s = (compute + stalls).astype(np.float64) / designs.clock_hz + load.host_latency_s
    areas = model.areas(load.table_kib)
    return Totals(
        designs=designs,
        schedules=schedules,
        compute=compute,
        stalls=stalls,
        useful=useful,
        dynamic_pj=np.asarray(dynamic),
        host_latency_s=load.host_latency_s,
        latency_s=latency_s,
        short=short,
        areas=areas,
        leakage=model.leakage(latency_s, areas, load.table_kib),
    )


def _array_pj(kinds: Kinds, schedules: Schedules, model: EnergyModel) -> FloatArray:
    """Return the dynamic energy of all array layers, pJ."""
    jobs, pj = kinds.whole, np.zeros(1)
    for some in kinds.alike:
        first = jobs.jobs[int(some[0])]
        events = Events.of(jobs, schedules.chosen, first, model.spec.accumulator_bits, _weighted(kinds, some))
        for charge in array_bill(model, first, events):
            pj = pj + charge.pj
    return pj + kinds.cells_pj


def _weighted(kinds: Kinds, some: IntArray) -> Reduce:
    """Return the function that sums counts of some kinds, each as often as it occurs."""
    if len(some) == len(kinds.times):
        return lambda counts: kinds.weights @ counts
    times = kinds.weights[some]
    return lambda counts: times @ counts[some]


def exact_sum(times: IntArray, counts: IntArray) -> npt.NDArray[Any]:
    """Return the sum over layers of times [layers] x counts [layers, designs], in Python ints where int64 would wrap.

    A quarter of int64 is the limit, so that the four sums that make a latency add up: array and vector unit, compute and stalls.
    """
    if int(counts.max(initial=0)) * int(times.sum()) < 2**61:
        made: IntArray = times @ counts
        return made
    return times.astype(object) @ counts.astype(object)  # type: ignore[no-any-return]
