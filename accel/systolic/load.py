"""What designs have to do for a network: its workload with layers of equal price taken together, as arrays.

It depends on the network, the batch and those keys of a design that are not `ARRAY_KEYS`. Making it takes longer than pricing a
design, so it is remembered with the network; of weights it holds shapes and formats only.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from picojoule.accel.systolic.data_work import reads_data, with_data
from picojoule.accel.systolic.design_arrays import ARRAY_KEYS
from picojoule.accel.systolic.job_arrays import JobArrays
from picojoule.accel.systolic.spec import SystolicSpec
from picojoule.accel.systolic.timing import FloatArray, IntArray
from picojoule.accel.systolic.workload import Job, Workload, workload_of
from picojoule.sim.by_network import remembered
from picojoule.sim.errors import InfeasibleError
from picojoule.sim.gemm import layer_macs
from picojoule.sim.ir import Network

SHARED_KEYS = tuple(key for key in SystolicSpec.model_fields if key not in ARRAY_KEYS)
"""Keys that all designs of one load have in common."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kinds:
    """Array jobs that differ in price: each stands once, and `times` says how often it occurs.

    `sample`: the same jobs for one sample, None at batch 1. `weights` are `times` as real numbers. `alike`: places of kinds whose
    operands are equally wide, which share a bill. `cells_pj`: what the cells of recurrent layers add to all bills.
    """

    whole: JobArrays
    sample: JobArrays | None
    times: IntArray
    weights: FloatArray
    alike: tuple[IntArray, ...]
    cells_pj: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A workload as arrays. `places` gives each array job's kind; `vector` are lane operations and DRAM bytes, [layers, 1].

    `spec` has the shared keys; its `ARRAY_KEYS` are those of the first design that asked. `other_pj` is the bill of all layers
    off the array but for their `other_bytes` of DRAM. `notes` are what data say.
    """

    spec: SystolicSpec
    workload: Workload
    kinds: Kinds | None
    places: tuple[int, ...]
    vector: tuple[IntArray, IntArray]
    vector_times: IntArray
    other_pj: float
    other_bytes: int
    macs: int
    host_latency_s: float
    notes: tuple[str, ...]

    @property
    def layers(self) -> int:
        """Length of its arrays along the layers."""
        return max(1, len(self.kinds.times) if self.kinds else 0, len(self.vector_times))

    @property
    def table_kib(self) -> float:
        """Capacity of the tables of channel orders (`weight_order: segments`), 0 without."""
        if self.spec.weight_order != "segments":
            return 0.0
        tables = [
            job.rates.table for job in self.workload.jobs if job.rates is not None and job.rates.table is not None
        ]
        return tables[0].kib if tables else 0.0


def load_of(network: Network, spec: SystolicSpec, batch: int, activations: object | None = None) -> Load:
    """Return what `batch` samples of a network ask of designs with the shared keys of `spec`.

    It is remembered unless it follows from weights or activations, which may change.

    Raises:
        UnsupportedError: for formats that the PEs do not multiply.
        InfeasibleError: for more bits than the PEs have.
        InputError: for a size beyond 64 bits, or weights that are not as declared.

    """
    if reads_data(network, spec, activations):
        workload, notes = with_data(workload_of(network, spec, batch), network, spec, activations)
        return make_load(workload, spec, notes)
    key = (batch, *(getattr(spec, name) for name in SHARED_KEYS))
    found = remembered(network, key, lambda: _load_or_reason(network, spec, batch))
    if isinstance(found, str):
        raise InfeasibleError(found)
    return found


def _load_or_reason(network: Network, spec: SystolicSpec, batch: int) -> Load | str:
    try:
        return make_load(workload_of(without_values(network), spec, batch), spec)
    except InfeasibleError as error:
        return str(error)


def without_values(network: Network) -> Network:
    """Return the network without its weights' values, of which prices do not depend: what is remembered holds none."""
    return replace(
        network,
        layers=tuple(
            replace(layer, operands=tuple(replace(o, weights=None) if o.weights else o for o in layer.operands))
            for layer in network.layers
        ),
    )


def make_load(workload: Workload, spec: SystolicSpec, notes: tuple[str, ...] = ()) -> Load:
    """Return a workload as arrays."""
    pairs = list(zip(workload.jobs, workload.single or workload.jobs, strict=True))
    first: dict[Any, tuple[Job, Job]] = {}
    for pair in pairs:
        first.setdefault(_identity(pair), pair)
    order = {identity: place for place, identity in enumerate(first)}
    places = tuple(order[_identity(pair)] for pair in pairs)
    on_vector = Counter(
        (o.lane_operations, o.dram_bytes) for o in workload.others if o.unit == "vector" and not o.fused
    )
    column = np.array(list(on_vector), dtype=np.int64).reshape(-1, 2)
    return Load(
        spec=spec,
        workload=workload,
        kinds=_kinds(list(first.values()), places, spec) if first else None,
        places=places,
        vector=(column[:, :1], column[:, 1:]),
        vector_times=np.array(list(on_vector.values()), dtype=np.int64),
        other_pj=sum(line.pj for other in workload.others for line in other.energy),
        other_bytes=sum(other.dram_bytes for other in workload.others),
        macs=sum(job.gemm.macs for job in workload.jobs)
        + sum(layer_macs(o.layer, workload.batch) for o in workload.others if o.unit == "host"),
        host_latency_s=workload.host_latency_s,
        notes=notes,
    )


def _identity(pair: tuple[Job, Job]) -> tuple[Any, ...]:
    return pair[0].identity, pair[1].identity


def _kinds(pairs: Sequence[tuple[Job, Job]], places: Sequence[int], spec: SystolicSpec) -> Kinds:
    alike: dict[tuple[object, ...], list[int]] = {}
    for place, (job, _) in enumerate(pairs):
        alike.setdefault((job.word_bits, job.rates), []).append(place)
    batched = pairs[0][0] is not pairs[0][1]
    times = np.bincount(places, minlength=len(pairs)).astype(np.int64)
    cells = [sum(line.pj for line in whole.recurrence.energy) if whole.recurrence else 0.0 for whole, _ in pairs]
    return Kinds(
        whole=JobArrays.of([whole for whole, _ in pairs], spec),
        sample=JobArrays.of([single for _, single in pairs], spec) if batched else None,
        times=times,
        weights=times.astype(np.float64),
        cells_pj=float(times @ np.array(cells)),
        alike=tuple(np.array(some, dtype=np.int64) for some in alike.values()),
    )
