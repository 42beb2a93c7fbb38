"""Layers of which only parts run for given inputs, as jobs of the array: closed channel gates, resting blocks.

| pattern | on the array                                      | DRAM                                                  |
| ------- | ------------------------------------------------- | ----------------------------------------------------- |
| gates   | both passes of `gated_work`; loads into PEs and   | all inputs, weights and results; sums that do not fit |
|         | drains are counted as without gates               | spill, in the second pass of open gates (os: none)    |
| blocks  | one GEMM of the pixels in active blocks, whole at | tiles with their halo in whole bursts, results of     |
|         | the edges; m: mean over batches, in whole tiles   | whole tiles, all weights                              |

See `live_work` and `block_work` for what the array does. A batch is priced from whole batches of the samples that were recorded
(mean). Such a layer's zero weights are multiplied like any other value. Layers around it are priced whole: an activation behind
a layer of active blocks works on all pixels.
"""

from dataclasses import replace
from math import ceil

from picojoule.accel.systolic.array_work import PortWords, SparseWork
from picojoule.accel.systolic.block_work import block_work
from picojoule.accel.systolic.live_work import GatedWork, gated_work
from picojoule.accel.systolic.spec import SystolicSpec
from picojoule.accel.systolic.workload import Job, Workload
from picojoule.sim.errors import InputError, UnsupportedError
from picojoule.sim.execution import BlockActivity, ExecutionPatterns, SkipMap


def check_patterns(workload: Workload, spec: SystolicSpec, patterns: ExecutionPatterns) -> None:
    """Refuse patterns that no layer of the array has, two for one layer, or those on machines that are not priced with them.

    Raises:
        InputError: for names of other layers, or of both kinds.
        UnsupportedError: for compat scalesim, zero skipping, or gates on PEs that take several cycles for a MAC.

    """
    names = {job.layer.name for job in workload.jobs}
    given = {*patterns.skip_maps, *patterns.blocks}
    for name in sorted(given - names):
        raise InputError(
            f"an execution pattern is given for '{name}', which is no layer of the array in {workload.network.name}"
        )
    for name in sorted({*patterns.skip_maps} & {*patterns.blocks}):
        raise InputError(f"layer '{name}' has a skip map and block activity; give one of them")
    options = {"compat: scalesim": spec.compat != "none", "zero_skipping": spec.zero_skipping != "none"}
    options["precision other than fixed with channel gates"] = bool(patterns.skip_maps) and spec.precision != "fixed"
    for option, used in options.items():
        if given and used:
            raise UnsupportedError(f"{option} is not priced together with execution patterns; leave one of them out")


def with_pattern(job: Job, spec: SystolicSpec, batch: int, patterns: ExecutionPatterns) -> Job | None:
    """Return a job as its pattern lets it run, None where it has none.

    Raises:
        InputError: for a pattern of another shape than the layer's, or of fewer samples than a batch.
        UnsupportedError: for operators without such patterns.

    """
    name = job.layer.name
    if name in patterns.skip_maps:
        return _gated(job, spec, batch, patterns.skip_maps[name])
    return _blocks(job, spec, batch, patterns.blocks[name]) if name in patterns.blocks else None


def _overlap(spec: SystolicSpec) -> bool:
    return spec.overlap_drain if spec.dataflow == "os" else spec.overlap_load


def _gated(job: Job, spec: SystolicSpec, batch: int, skip_map: SkipMap) -> Job:
    made = gated_work(job.layer, skip_map, spec.dataflow, spec.rows, spec.cols, batch=batch, overlap=_overlap(spec))
    total, cycles = job.gemm.macs, ceil(made.cycles)
    gated_share = 1 - made.useful_macs / total
    closed = round(made.lost["closed_gates"])
    clocked = made.useful_macs + made.lost["closed_gates"]
    work = SparseWork(
        gemm=job.gemm,
        ifmap_k=job.gemm.k,
        stored_weights=job.gemm.n * job.gemm.k,
        stored_weight_bits=_weight_bits(job),
        gated_share=gated_share,
        skipped_share=1 - clocked / total,
        compute_cycles=cycles,
        folded_k=_folded_k(made, spec),
        ports=PortWords(ifmap=round(made.ifmap_reads), filters=round(made.filter_reads), sums=round(made.sums)),
        lost={"closed_gates": closed, **_idle(made, spec, cycles, total, closed)},
        notes=(made.note,),
        basis=made.basis,
        kind="channel gates",
    )
    return replace(job, work=work, basis=made.basis)


def _weight_bits(job: Job) -> int:
    return ceil(job.gemm.n * job.gemm.k * job.gemm.groups * job.weight.stored_bits)


def _folded_k(made: GatedWork, spec: SystolicSpec) -> int | None:
    """Return a reduction with as many row folds as both passes, on which spilled sums depend; None in os."""
    if spec.dataflow == "os":
        return None
    whole = made.base.k + made.rest.k
    return None if ceil(whole / spec.rows) == made.row_folds else made.row_folds * spec.rows


def _idle(made: GatedWork, spec: SystolicSpec, cycles: int, total: int, closed: int) -> dict[str, int]:
    """Return the slots that no pair has: PEs that folds leave idle, and those of cycles that fill and drain."""
    pes = spec.rows * spec.cols
    useful = round(made.useful_macs)
    streamed = min(cycles * pes, round(made.streamed * pes))
    padding = max(0, streamed - useful - closed)
    return {"padding": padding, "fill_drain": cycles * pes - useful - closed - padding}


def _blocks(job: Job, spec: SystolicSpec, batch: int, activity: BlockActivity) -> Job:
    bus = spec.dram_gib_per_s * 2**30 / (spec.clock_mhz * 1e6)
    made = block_work(
        job.layer, activity, spec.dataflow, spec.rows, spec.cols, bytes_per_cycle=bus, activation_bits=job.activation.bits,
        result_bits=job.result_bits, burst_bytes=spec.dram_burst_bytes, batch=batch, overlap=_overlap(spec),
    )  # fmt: skip
    area = activity.block[0] * activity.block[1]
    tiles = max(1, ceil(made.gemm_m / area))
    by_tile = made.gather_bytes * area / made.gemm_m if made.gemm_m else 0.0
    gemm = replace(job.gemm, m=tiles * area)
    gain, promised = made.dense_cycles / max(1.0, made.compute_cycles), 1 / max(1e-9, made.share)
    note = (
        f"block activity: {made.share:.0%} of the blocks of {activity.block[0]} x {activity.block[1]} are active; compute takes "
        f"{gain:.2f} times fewer cycles where blocks promise {promised:.2f}; {made.halo_share:.0%} of the words gathered are halo"
    )
    work = SparseWork(
        gemm=gemm,
        ifmap_k=gemm.k,
        stored_weights=gemm.n * gemm.k * gemm.groups,
        stored_weight_bits=_weight_bits(job),
        notes=(note,),
        basis=made.basis,
        kind="active blocks",
    )
    return replace(
        job,
        work=work,
        basis=made.basis,
        ifmap_elements=max(1, ceil(tiles * by_tile * 8 / job.activation.bits)),
        outputs=gemm.m * gemm.n * gemm.groups,
    )
