"""The energy bill of array layers from what they count: of one layer, or of all layers whose operands are equally wide."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from picojoule.accel.systolic.counts import Counts
from picojoule.accel.systolic.energy import Charge, EnergyModel
from picojoule.accel.systolic.job_arrays import JobArrays, narrowing
from picojoule.accel.systolic.timing import FloatArray, IntArray
from picojoule.accel.systolic.workload import Job
from picojoule.sim import technology as tech
from picojoule.sim.technology.toggle_law import toggled_price

Reduce = Callable[[IntArray | FloatArray], npt.NDArray[Any]]
"""Takes counts [layers, designs] (or what broadcasts to it) to those of one layer, or to sums over some: [designs]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """Words that the array's edge moves to or from an SRAM, and the accesses it takes (in lanes of the port, see `energy`)."""

    words: npt.ArrayLike
    accesses: npt.ArrayLike

    @classmethod
    def of(cls, words: IntArray, accesses: IntArray, bits: float, reduce: Reduce) -> "Words":
        """Return the words and accesses of layers; an access that fills more than a lane counts as the lanes it fills."""
        return cls(words=reduce(words), accesses=reduce(np.maximum(accesses, words * (bits / tech.SRAM_LANE_BITS))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """What is charged: numbers or arrays over designs. `swapped_` are words that DRAM or the vector unit moves."""

    macs: npt.ArrayLike
    pe_steps: npt.ArrayLike
    shifts: npt.ArrayLike
    tiles: npt.ArrayLike
    ifmap: Words
    filter: Words
    outputs: Words
    sums_written: Words
    sums_read: Words
    swapped_ifmap: npt.ArrayLike
    swapped_filter: npt.ArrayLike
    swapped_sums_written: npt.ArrayLike
    swapped_sums_read: npt.ArrayLike
    dram_bytes: npt.ArrayLike
    layers: npt.ArrayLike

    @classmethod
    def of(cls, jobs: JobArrays, counts: Counts, widths: Job, sum_bits: int, reduce: Reduce) -> "Events":
        """Return what one layer does, or some of them together; what leaves an SRAM for DRAM is read from it."""
        (w, a, y), c = widths.word_bits, counts
        return cls(
            macs=reduce(jobs.macs),
            pe_steps=reduce(jobs.pe_steps),
            shifts=reduce(c.shifts),
            tiles=reduce(c.tiles),
            ifmap=Words.of(c.ifmap_reads, c.ifmap_accesses, a, reduce),
            filter=Words.of(c.filter_reads, c.filter_accesses, w, reduce),
            outputs=Words.of(jobs.outputs, c.output_accesses, y, reduce),
            sums_written=Words.of(c.edge_psum_writes, c.psum_write_accesses, sum_bits, reduce),
            sums_read=Words.of(c.edge_psum_reads, c.psum_read_accesses, sum_bits, reduce),
            swapped_ifmap=reduce(c.ifmap_writes),
            swapped_filter=reduce(c.dram_filter),
            swapped_sums_written=reduce(c.psum_writes - c.edge_psum_writes + c.dram_psum_reads),
            swapped_sums_read=reduce(c.psum_reads - c.edge_psum_reads + c.dram_psum_writes),
            dram_bytes=reduce(c.moved_bytes),
            layers=1.0 if widths.rates is None else reduce(np.ones((len(jobs.jobs), 1))),
        )


def array_bill(model: EnergyModel, widths: Job, events: Events) -> list[Charge]:
    """Return the bill of events of layers that are as wide as `widths`, but for a recurrent layer's cells."""
    (w, a, y), sum_bits, rates = widths.word_bits, model.spec.accumulator_bits, widths.rates
    parallel, serial = narrowing(model.spec, widths)
    steps: FloatArray = np.asarray(events.pe_steps, dtype=np.float64) * (serial / parallel)
    e = events
    return [
        *_mac(model, widths, events.macs),
        *(
            model.registers(steps, e.shifts, e.tiles)
            if rates is None
            else model.toggled_registers(steps, e.shifts, e.tiles, rates)
        ),
        *(model.order_table(rates.table, e.layers) if rates is not None and rates.table is not None else ()),
        *model.sram("ifmap", "read", e.ifmap.words, a, e.ifmap.accesses),
        *model.sram("ifmap", "write", e.swapped_ifmap, a),
        *model.sram("filter", "read", e.filter.words, w, e.filter.accesses),
        *model.sram("filter", "write", e.swapped_filter, w),
        *model.sram("ofmap", "write", e.outputs.words, y, e.outputs.accesses),
        *model.sram("ofmap", "write", e.sums_written.words, sum_bits, e.sums_written.accesses),
        *model.sram("ofmap", "write", e.swapped_sums_written, sum_bits),
        *model.sram("ofmap", "read", e.sums_read.words, sum_bits, e.sums_read.accesses),
        *model.sram("ofmap", "read", e.swapped_sums_read, sum_bits),
        *model.sram("ofmap", "read", e.outputs.words, y),
        *model.dram(e.dram_bytes),
    ]


def _mac(model: EnergyModel, widths: Job, macs: npt.ArrayLike) -> list[Charge]:
    """Return the arithmetic of MACs: on average, or known flips by the law of `toggle_law`."""
    charges = model.mac(macs, widths.weight.bits, widths.activation.bits)
    if widths.rates is None:
        return charges
    prices = {charge.constant: float(np.asarray(charge.pj_per_event)) for charge in charges}
    return [
        Charge("mac", key, macs, pj)
        for key, pj in toggled_price(prices, widths.rates.weight, widths.rates.activation).items()
    ]
