"""`keep_on_chip` for one design: a load whose values that stay in SRAM are neither written to DRAM nor read from it.

What a layer needs of the ofmap SRAM itself is two words for each port and partial sums that do not spill; of a shared SRAM also
its tiles, and the ifmap or filters where they stay for further passes. Inside the chip a kept value is read from where it was
written and written to where it is used next, as it would be on its way over DRAM.
"""

from dataclasses import replace

import numpy as np

from picojoule.accel.systolic.array_pricing import ArrayPricing
from picojoule.accel.systolic.design_arrays import DesignArrays
from picojoule.accel.systolic.load import Load, make_load
from picojoule.accel.systolic.residency import Residency, Saved, keep_on_chip
from picojoule.accel.systolic.timing import Dataflow, IntArray, fold_grid
from picojoule.accel.systolic.workload import Job, OtherJob


def resident_load(load: Load, design: DesignArrays) -> Load:
    """Return the load with what stays on chip in the one design there is."""
    if load.kinds is None:
        return load
    sizes = design.sram_bytes[2] if design.shared_sram_bytes is None else design.shared_sram_bytes
    own = _working_bytes(load, design)
    jobs = load.workload.jobs
    working = {job.layer.name: int(own[place].item()) for job, place in zip(jobs, load.places, strict=True)}
    found = keep_on_chip(load.workload, int(sizes.item()) // 2, working)
    if not found.values:
        return load
    workload = replace(
        load.workload,
        jobs=tuple(_kept(job, found) for job in jobs),
        single=tuple(_kept(job, found) for job in load.workload.single),
        others=tuple(_other(job, found) for job in load.workload.others),
    )
    note = f"keep_on_chip: {len(found.values)} value(s) stay in SRAM, at most {max(found.held_bytes)} bytes at once"
    return make_load(workload, load.spec, (*load.notes, note))


def _working_bytes(load: Load, design: DesignArrays) -> IntArray:
    """Return the bytes of the SRAM's usable half that each kind of array layer needs itself, [kinds, 1]."""
    assert load.kinds is not None
    jobs, pricing = load.kinds.whole, ArrayPricing(design)
    grid = fold_grid(design.dataflow, design.rows, design.cols, jobs.m, jobs.n, jobs.folded_k)
    needs, counts = pricing.needs(jobs, grid, pricing.together(jobs, grid)), pricing.counts(jobs)
    is_os, is_is = grid.dataflow == Dataflow.OS, grid.dataflow == Dataflow.IS
    first_cols = np.minimum(design.cols, grid.col_size)
    sums = -(-grid.streamed * first_cols * load.spec.accumulator_bits // 8)
    held = ~is_os & (grid.row_folds > 1) & (counts.dram_psum_reads == 0)
    working: IntArray = np.where(held, np.maximum(sums, needs.ofmap // 2), needs.ofmap // 2)
    if design.shared_sram_bytes is None:
        return working
    ifmap, words = jobs.ifmap_elements, jobs.turn_weights * jobs.steps.turns
    ifmap_stays = ~is_is & (grid.col_folds > 1) & (counts.dram_ifmap <= ifmap)
    passes = np.where(is_os, grid.row_folds, np.where(is_is, grid.col_folds, 1))
    filter_stays = (passes > 1) & (counts.dram_filter <= words)
    return (
        working
        + np.where(ifmap_stays, -(-ifmap * jobs.activation_bits // 8), needs.ifmap // 2)
        + np.where(filter_stays, -(-words * jobs.weight_bits // 8), needs.filter // 2)
    )


def _kept(job: Job, found: Residency) -> Job:
    saved = found.layers.get(job.layer.name, Saved())
    return replace(job, kept=(0 in saved.operands, 1 in saved.operands, saved.keeps_result))


def _other(job: OtherJob, found: Residency) -> OtherJob:
    saved = found.layers.get(job.layer.name)
    if saved is None or job.fused:
        return job
    work = job.work
    read, written = max(0, work.read_bytes - saved.read_bytes), max(0, work.write_bytes - saved.write_bytes)
    return replace(
        job,
        work=replace(
            work,
            read_bytes=read,
            write_bytes=written,
            read_elements=work.read_elements * read // max(1, work.read_bytes),
            write_elements=work.write_elements * written // max(1, work.write_bytes),
        ),
    )
