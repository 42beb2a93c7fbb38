"""Recurrent layers on a systolic array: products in dependent turns, and what goes from step to step between them.

The input's share of the gates is a linear layer of its own; here each step multiplies h, [batch, hidden], by the recurrent
weight on the array, and the vector unit makes the next h from the sums and the gates. The next step cannot start before, so the
vector unit's time is lost to the array ("dependence"). Per step:

| what              | where it is                                                                        |
| ----------------- | ---------------------------------------------------------------------------------- |
| recurrent weight  | filter SRAM: loaded once if it fits the usable half, else again in every step      |
| h                 | ifmap SRAM, written by the vector unit; read back from DRAM if it does not fit      |
| gates             | DRAM to the vector unit, once                                                      |
| sums of the array | ofmap SRAM to the vector unit, at the accumulator's width                          |
| c of an LSTM      | ofmap SRAM at the accumulator's width; to DRAM and back if it does not fit         |
| results           | ofmap SRAM to DRAM, once: y, last h, last c                                        |

A GRU that resets h before its last gate multiplies in two turns; its three gates then run one after the other, which counts the
fill and drain of each. Left out: the first step of a layer that starts from zero needs no product.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from picojoule.accel.systolic.design_arrays import DesignArrays
from picojoule.accel.systolic.timing import IntArray
from picojoule.accel.systolic.traffic import DramTraffic
from picojoule.sim.attributes import RecurrentAttributes
from picojoule.sim.cost import Energy
from picojoule.sim.gemm import Gemm
from picojoule.sim.ir import Layer
from picojoule.sim.passes import result_bytes
from picojoule.sim.recurrence import dependent_products, holds_cell_state
from picojoule.sim.vector_unit import VectorWork, lane_operations


@dataclass(frozen=True, slots=True, kw_only=True)
class Recurrence:
    """What a recurrent layer does beside its products, for the whole batch.

    `units` are the elements of h, `turns` the steps. `given` counts initial states that come from DRAM. `operations` are
    those of the vector unit's lanes in all steps.
    """

    turns: int
    units: int
    gate_elements: int
    gate_bytes: int
    given_elements: int
    given_bytes: int
    cell_elements: int
    operations: int
    energy: tuple[Energy, ...]


def recurrence_of(layer: Layer, batch: int, gemm: Gemm, work: VectorWork, energy: list[Energy]) -> Recurrence:
    """Return the recurrence of a layer (formats filled in); `energy` is the bill of the cells' operations."""
    a = layer.attributes
    assert isinstance(a, RecurrentAttributes)
    units = gemm.m // gemm.steps * a.hidden
    states = layer.operands[2 + a.has_bias :]
    return Recurrence(
        turns=gemm.steps,
        units=units,
        gate_elements=layer.operands[0].type.elements(batch),
        gate_bytes=result_bytes(layer.operands[0], batch),
        given_elements=sum(o.type.elements(batch) for o in states),
        given_bytes=sum(result_bytes(o, batch) for o in states),
        cell_elements=units if holds_cell_state(a) else 0,
        operations=lane_operations(work),
        energy=tuple(energy),
    )


def turn_sizes(layer: Layer, gemm: Gemm) -> Gemm:
    """Return a layer's products with the dependent ones counted as groups: rows of one step, `groups` of all steps."""
    a = layer.attributes
    if not isinstance(a, RecurrentAttributes):
        return gemm
    apart = gemm.n // a.hidden if dependent_products(a) > 1 else 1
    return replace(gemm, m=gemm.m // gemm.steps, n=gemm.n // apart, groups=gemm.groups * gemm.steps * apart)


class _Job(Protocol):
    """What this file needs to know of a job."""

    @property
    def recurrence(self) -> Recurrence | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StepArrays:
    """The recurrences of all layers, [layers, 1]; zeros (and one turn) where a layer has none. `present`: some layer has one."""

    present: bool
    here: IntArray
    turns: IntArray
    units: IntArray
    cell: IntArray
    gates: IntArray
    given: IntArray
    outside_bytes: IntArray
    operations: IntArray

    @classmethod
    def of(cls, jobs: Sequence[_Job]) -> "StepArrays":
        """Return the arrays of a list of jobs."""
        rows = [
            (
                1,
                r.turns,
                r.units,
                r.cell_elements,
                r.gate_elements,
                r.given_elements,
                r.gate_bytes + r.given_bytes,
                r.operations,
            )
            if (r := job.recurrence)
            else (0, 1, 0, 0, 0, 0, 0, 0)
            for job in jobs
        ]
        here, turns, units, cell, gates, given, outside_bytes, operations = np.array(rows, dtype=np.int64).T[..., None]
        return cls(
            present=bool(here.any()), here=here, turns=turns, units=units, cell=cell, gates=gates, given=given,
            outside_bytes=outside_bytes, operations=operations,
        )  # fmt: skip

    def cycles(self, lanes: IntArray) -> IntArray:
        """Return the vector unit's cycles between the steps of each layer, [layers, designs]."""
        if not self.present:
            return self.operations
        cycles: IntArray = self.turns * -(-self.operations // (self.turns * lanes))
        return cycles


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """Words that step to step adds: to the ifmap SRAM (h), to and from the ofmap SRAM (sums, c); and the DRAM traffic."""

    ifmap_writes: IntArray
    psum_writes: IntArray
    psum_reads: IntArray
    traffic: DramTraffic


def carry(
    steps: StepArrays,
    designs: DesignArrays,
    widths: tuple[IntArray, IntArray],
    products: IntArray,
    weights: IntArray,
    moved: DramTraffic,
) -> Carried:
    """Return what recurrent layers keep on chip between steps, and the DRAM traffic that is left.

    `widths` are the bits of h and of weights, `products` the sums of all steps, `weights` the elements of the recurrent
    weights, `moved` the traffic of steps that keep nothing. Layers without recurrence pass unchanged.
    """
    if not steps.present:
        none = np.zeros_like(products)
        return Carried(ifmap_writes=moved.ifmap_reads, psum_writes=none, psum_reads=none, traffic=moved)
    here = steps.here.astype(bool)
    halves = [size // 2 for size in designs.sram_bytes]
    h_bits, w_bits = widths
    sum_bits = np.int64(designs.spec.accumulator_bits)
    h_stays = here & (_bytes(steps.units, h_bits) <= halves[0])
    weight_stays = here & (_bytes(weights, w_bits) <= halves[1])
    c_leaves = here & (_bytes(steps.cell, sum_bits) > halves[2])

    ifmap_reads = np.where(h_stays, 0, moved.ifmap_reads)
    filter_reads = np.where(weight_stays, weights, moved.filter_reads)
    c_words = steps.turns * steps.cell
    spilled = np.where(c_leaves, c_words, 0)
    kept = np.where(c_leaves, 0, c_words)
    psum_reads, psum_writes = moved.psum_reads + spilled, moved.psum_writes + spilled
    reads = (
        _bytes(ifmap_reads, h_bits) + _bytes(filter_reads, w_bits) + _bytes(psum_reads, sum_bits) + steps.outside_bytes
    )
    return Carried(
        ifmap_writes=np.where(h_stays, steps.turns * steps.units, ifmap_reads),
        psum_writes=kept,
        psum_reads=kept + np.where(here, products, 0),
        traffic=replace(
            moved,
            ifmap_reads=ifmap_reads,
            filter_reads=filter_reads,
            psum_reads=psum_reads,
            psum_writes=psum_writes,
            read_bytes=np.where(here, reads, moved.read_bytes),
            write_bytes=moved.write_bytes + _bytes(spilled, sum_bits),
        ),
    )


def _bytes(words: IntArray, bits: IntArray | np.int64) -> IntArray:
    made: IntArray = -(-(words * bits) // 8)
    return made
