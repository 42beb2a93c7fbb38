"""What a network's weights and activations change in its array jobs: zeros that are left out, and bits that flip.

Beside these, parts of a layer that do not run for given inputs: closed channel gates and resting blocks (`pattern_work`).
All are read anew whenever a network is priced, because weights of a traced module are its own and may have been trained on.
Zeros: `sparse_work`; with `zero_gating` PEs also rest on zero activations where samples of them were recorded. Flips
(`datapath_energy: toggles`): `flip_work`; weights are counted exactly, activations from recorded samples
(`sim.activation_source`), or as independent random words where there are none. Products of two activations, and recurrent
layers, are random words too.
"""

from collections import Counter
from dataclasses import replace

import numpy as np

from picojoule.accel.systolic.flip_work import flip_notes, flip_work, with_tables
from picojoule.accel.systolic.pattern_work import check_patterns, with_pattern
from picojoule.accel.systolic.sparse_work import is_concerned, sparse_work
from picojoule.accel.systolic.spec import SystolicSpec
from picojoule.accel.systolic.workload import Job, Workload
from picojoule.sim.activation_source import ActivationSource
from picojoule.sim.execution import ExecutionPatterns
from picojoule.sim.ir import Network


def differs_by_design(spec: SystolicSpec) -> bool:
    """Whether sizes of a design decide what data do or what stays on chip, so that designs must be priced one by one."""
    return reads_sizes(spec) or spec.keep_on_chip


def reads_sizes(spec: SystolicSpec) -> bool:
    """Whether what data do depends on the array's size."""
    return spec.zero_skipping != "none" or spec.datapath_energy == "toggles"


def reads_data(network: Network, spec: SystolicSpec, activations: object | None = None) -> bool:
    """Whether prices of a network depend on its weights' values, or on which parts of its layers run."""
    patterns = isinstance(activations, ExecutionPatterns)
    return patterns or reads_sizes(spec) or any(is_concerned(layer, spec) for layer in network.layers)


def with_data(
    workload: Workload, network: Network, spec: SystolicSpec, activations: object | None
) -> tuple[Workload, tuple[str, ...]]:
    """Return a workload of a network (with values) as its data let it run on the array of `spec`, and what there is to say.

    Raises:
        InputError: for weights that are not as declared, or patterns of layers that the network does not have.
        UnsupportedError: for flips of weights that the network does not have, or patterns that are not priced.

    """
    patterns = activations if isinstance(activations, ExecutionPatterns) else ExecutionPatterns()
    source = activations if isinstance(activations, ActivationSource) else patterns.activations
    check_patterns(workload, spec, patterns)
    random_weights = network.weights == "random"

    def left(job: Job, batch: int) -> Job:
        made = with_pattern(job, spec, batch, patterns)
        return _with_zeros(job, spec, batch, random_weights, source) if made is None else made

    notes: Counter[str] = Counter()
    first: dict[str, str] = {}
    jobs = []
    for job in workload.jobs:
        made = left(job, workload.batch)
        for note in made.work.notes if made.work else ():
            notes[note] += 1
            first.setdefault(note, job.layer.name)
        jobs.append(made)
    flips_said: tuple[str, ...] = ()
    if spec.datapath_energy == "toggles":
        works = [flip_work(job, spec, source) for job in jobs]
        flips_said = flip_notes([job.layer.name for job in jobs], works, spec, source, random_weights)
        jobs = [
            replace(job, rates=rates, basis=job.basis if job.work else work.basis)
            for job, work, rates in zip(jobs, works, with_tables(works), strict=True)
        ]
    single = tuple(
        replace(left(one, 1), rates=job.rates, basis=job.basis) for one, job in zip(workload.single, jobs, strict=False)
    )
    said = tuple(
        f"layer '{first[note]}'{f' and {count - 1} more' if count > 1 else ''}: {note}" for note, count in notes.items()
    )
    return replace(workload, jobs=tuple(jobs), single=single), (*said, *flips_said)


def _with_zeros(job: Job, spec: SystolicSpec, batch: int, random_weights: bool, source: ActivationSource | None) -> Job:
    """Return a job as its zero weights let it run."""
    if not is_concerned(job.layer, spec):
        return job
    samples = source.of_layer(job.layer.name) if source is not None and spec.zero_gating else ()
    work = sparse_work(
        job.layer, job.gemm, job.weight, spec, spec.rows, spec.cols, spec.dataflow, batch, random_weights=random_weights,
        inputs=np.concatenate(samples, axis=2) if samples else None,
    )  # fmt: skip
    return job if work is None else replace(job, work=work, basis=work.basis)
