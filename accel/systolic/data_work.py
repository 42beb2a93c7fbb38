"""What a network's weights and activations change in its array jobs: zeros that are left out, and bits that flip.

Both are read anew whenever a network is priced, because weights of a traced module are its own and may have been trained on.
Zeros: `sparse_work`. Flips (`datapath_energy: toggles`): `toggles`; weights are counted exactly, activations from recorded
samples (`sim.activation_source`), or as independent random words where there are none. Products of two activations, and recurrent
layers, are random words too.
"""

from collections import Counter
from dataclasses import replace

from picojoule.accel.systolic.ordering import order_of
from picojoule.accel.systolic.recurrence import turn_sizes
from picojoule.accel.systolic.sparse_work import is_concerned, sparse_work
from picojoule.accel.systolic.spec import SystolicSpec
from picojoule.accel.systolic.toggles import expected_flips, layer_flips
from picojoule.accel.systolic.workload import Job, Workload
from picojoule.sim.activation_source import ActivationSource
from picojoule.sim.errors import UnsupportedError
from picojoule.sim.integer_weights import integer_weights
from picojoule.sim.ir import Network


def differs_by_design(spec: SystolicSpec) -> bool:
    """Whether sizes of a design decide what data do or what stays on chip, so that designs must be priced one by one."""
    return reads_sizes(spec) or spec.keep_on_chip


def reads_sizes(spec: SystolicSpec) -> bool:
    """Whether what data do depends on the array's size."""
    return spec.zero_skipping != "none" or spec.datapath_energy == "toggles"


def reads_data(network: Network, spec: SystolicSpec) -> bool:
    """Whether prices of a network depend on its weights' values."""
    return reads_sizes(spec) or any(is_concerned(layer, spec) for layer in network.layers)


def with_data(
    workload: Workload, network: Network, spec: SystolicSpec, activations: object | None
) -> tuple[Workload, tuple[str, ...]]:
    """Return a workload of a network (with values) as its data let it run on the array of `spec`, and what there is to say.

    Raises:
        InputError: for weights that are not as declared.
        UnsupportedError: for flips of weights that the network does not have.

    """
    source = activations if isinstance(activations, ActivationSource) else None
    notes: Counter[str] = Counter()
    first: dict[str, str] = {}
    jobs = []
    for job in workload.jobs:
        made = _with_zeros(job, spec, workload.batch, network.weights == "random")
        if spec.datapath_energy == "toggles":
            made = _with_flips(made, spec, source)
        for note in made.work.notes if made.work else ():
            notes[note] += 1
            first.setdefault(note, job.layer.name)
        jobs.append(made)
    single = tuple(
        replace(
            _with_zeros(one, spec, 1, network.weights == "random"),
            rates=job.rates,
            basis=job.basis,
        )
        for one, job in zip(workload.single, jobs, strict=False)
    )
    said = tuple(
        f"layer '{first[note]}'{f' and {count - 1} more' if count > 1 else ''}: {note}" for note, count in notes.items()
    )
    return replace(workload, jobs=tuple(jobs), single=single), said


def _with_zeros(job: Job, spec: SystolicSpec, batch: int, random_weights: bool) -> Job:
    """Return a job as its zero weights let it run."""
    if not is_concerned(job.layer, spec):
        return job
    work = sparse_work(
        job.layer, job.gemm, job.weight, spec, spec.rows, spec.cols, spec.dataflow, batch, random_weights=random_weights
    )
    return job if work is None else replace(job, work=work, basis=work.basis)


def _with_flips(job: Job, spec: SystolicSpec, source: ActivationSource | None) -> Job:
    """Return a job with the flips per bit at its multipliers."""
    if not (job.weight.is_integer and job.activation.is_integer):
        raise UnsupportedError(
            f"layer '{job.layer.name}': datapath_energy=toggles counts bits of integers, got {job.weight} x {job.activation}; "
            "use datapath_energy: average"
        )
    turns = turn_sizes(job.layer, job.gemm)
    w, a = job.weight.bits, job.activation.bits
    beside = spec.groups == "side_by_side" and job.recurrence is None
    samples = source.of_layer(job.layer.name) if source is not None else ()
    if job.layer.parameters and job.recurrence is None:
        needed = {"needed_by": "datapath_energy=toggles", "remedy": "use datapath_energy: average"}
        weights = integer_weights(job.layer, job.weight, **needed)
        order = order_of(weights, spec.dataflow, spec.rows, spec.weight_order, bits=w, code=spec.number_code)
        flips, _ = layer_flips(
            weights, samples, spec.dataflow, spec.rows, spec.cols, m=turns.m, weight_bits=w, activation_bits=a,
            code=spec.number_code, order=order, side_by_side=beside,
        )  # fmt: skip
    else:
        flips = expected_flips(
            spec.dataflow, spec.rows, spec.cols, m=turns.m, n=turns.n, k=turns.k, groups=turns.groups,
            weight_bits=w, activation_bits=a, side_by_side=beside,
        )  # fmt: skip
    rates = flips.weight_mac / (flips.macs * w), flips.activation_mac / (flips.macs * a)
    return replace(job, rates=rates, basis=flips.basis if job.work is None else job.basis)
