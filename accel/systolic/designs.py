"""Prices many systolic designs at once: the formulas of `evaluate`, over arrays of designs.

Keys that the formulas take as arrays (`ARRAY_KEYS`: sizes, dataflow, SRAMs, bandwidth, clock, overlaps, lanes) may all differ
from design to design. Those that share the other keys (widths, precision, node, cell, DRAM type, compatibility) are priced
together; each combination of them costs some milliseconds of its own. Layers of equal price are priced once, recurrent ones
too. Designs go in chunks, so that memory is bounded.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from picojoule.accel.systolic.array_pricing import ArrayPricing
from picojoule.accel.systolic.design_arrays import ARRAY_KEYS, DesignArrays
from picojoule.accel.systolic.energy import EnergyModel
from picojoule.accel.systolic.job_arrays import JobArrays
from picojoule.accel.systolic.spec import SystolicSpec
from picojoule.accel.systolic.timing import Dataflow, FloatArray, IntArray
from picojoule.accel.systolic.totals import exact_sum, run_latency_s, run_utilization
from picojoule.accel.systolic.vector import vector_cycles
from picojoule.accel.systolic.workload import Job, OtherJob, Workload, workload_of
from picojoule.sim.design_columns import Coded, check_column, coded
from picojoule.sim.designs import DesignTotals, common_length, empty_totals, point_of, point_text
from picojoule.sim.errors import InfeasibleError, InputError
from picojoule.sim.evaluation import check_evaluation
from picojoule.sim.hardware import load_hardware
from picojoule.sim.ir import Network
from picojoule.sim.memory import peak_activation_bytes, weight_bytes

_CHUNK_ELEMENTS = 1 << 16
"""Layers x designs of one array: half a megabyte, of which about a hundred are in use together."""
_MOST_LOADS = 256
"""Combinations of shared values remembered at once."""


class DesignPricing:
    """Prices designs that differ from `spec`; remembers what the last network asks of them, for the next call."""

    def __init__(self, spec: SystolicSpec, chunk_elements: int = _CHUNK_ELEMENTS) -> None:
        self._spec = spec
        self._chunk_elements = chunk_elements
        self._network: Network | None = None
        self._loads: dict[tuple[Any, ...], _Load | str] = {}

    def price(self, network: Network, keys: Mapping[str, NDArray[Any]], batch: int) -> DesignTotals:
        """Return the totals of designs that differ from the spec by `keys` (key -> a value per design).

        Each row equals the totals of `evaluate` for that design: counts exactly, other figures but for the order of sums.

        Raises:
            InputError: for a bad batch, an unknown key or a bad value (as `load_hardware`), or counts beyond 64 bits, naming
                a design that has them.
            UnsupportedError: for operators or formats that cannot run.

        """
        check_evaluation(network, batch, allow_unsupported=False)
        found = empty_totals(common_length(keys))
        arrays, shared = _checked(self._spec, keys)
        for point, index in _groups(shared, len(found)):
            load = self._load_of(network, point, batch)
            if isinstance(load, str):
                found.infeasible[index] = load
                continue
            size = max(1, self._chunk_elements // load.layers)
            for start in range(0, len(index), size):
                _price_some(load, arrays, keys, index[start : start + size], found)
        return found

    def _load_of(self, network: Network, point: Mapping[str, Any], batch: int) -> "_Load | str":
        """Return what a network asks of designs with these shared values, or why they cannot hold it."""
        if network is not self._network or len(self._loads) >= _MOST_LOADS:
            self._network, self._loads = network, {}
        key = (batch, *point.items())
        if key not in self._loads:
            spec = load_hardware(self._spec, point).spec
            assert isinstance(spec, SystolicSpec)
            try:
                self._loads[key] = _load(workload_of(network, spec, batch), spec)
            except InfeasibleError as error:
                self._loads[key] = str(error)
        return self._loads[key]


# --- keys ---------------------------------------------------------------------------------------------------------------


def _checked(spec: SystolicSpec, keys: Mapping[str, NDArray[Any]]) -> tuple[dict[str, NDArray[Any]], dict[str, Coded]]:
    """Return the columns of `ARRAY_KEYS` as numbers, and the others by their distinct values, all checked."""
    arrays: dict[str, NDArray[Any]] = {}
    shared: dict[str, Coded] = {}
    for key, column in keys.items():
        if key in ARRAY_KEYS and column.dtype.kind in "biuf":
            check_column(spec, key, np.unique(column).tolist())
            arrays[key] = column
            continue
        by_value = coded(column)
        check_column(spec, key, by_value.distinct)
        if key in ARRAY_KEYS:
            arrays[key] = np.array([_number(key, value) for value in by_value.distinct])[by_value.codes]
        else:
            shared[key] = by_value
    return arrays, shared


def _number(key: str, value: Any) -> Any:
    """Return a checked value as `DesignArrays` takes it."""
    if key == "dataflow":
        return int(Dataflow.of(value))
    return 0 if value is None else value


def _groups(shared: Mapping[str, Coded], length: int) -> Iterator[tuple[dict[str, Any], NDArray[np.intp]]]:
    """Return each combination of shared values and the places of its designs, in order."""
    place = np.zeros(length, dtype=np.intp)
    for column in shared.values():
        place = np.unique(place * len(column.distinct) + column.codes, return_inverse=True)[1]
    order = np.argsort(place, kind="stable")
    for index in np.split(order, np.flatnonzero(np.diff(place[order])) + 1):
        if len(index):
            yield {key: column.distinct[column.codes[index[0]]] for key, column in shared.items()}, index


# --- prices -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Load:
    """A workload with layers of equal price taken together: each kind stands once, and `times` says how often it occurs.

    `vector` are lane operations and DRAM bytes of layers on the vector unit, [layers, 1]. `bills` has all layers in the
    network's order: the kind of one on the array, else its energy in pJ but for DRAM, and its DRAM bytes.
    """

    spec: SystolicSpec
    workload: Workload
    whole: JobArrays | None
    sample: JobArrays | None
    times: IntArray
    vector: tuple[IntArray, IntArray]
    vector_times: IntArray
    bills: tuple[int | tuple[float, int], ...]
    peak_activation_bytes: int
    weight_bytes: int

    @property
    def layers(self) -> int:
        """Length of its arrays along the layers."""
        return max(1, len(self.times), len(self.vector_times))


def _load(workload: Workload, spec: SystolicSpec) -> _Load:
    pairs = list(zip(workload.jobs, workload.single or workload.jobs, strict=True))
    first: dict[Any, tuple[Job, Job]] = {}
    for pair in pairs:
        first.setdefault(_identity(pair), pair)
    places = {identity: place for place, identity in enumerate(first)}
    kinds = {pair[0].layer.name: places[_identity(pair)] for pair in pairs}
    whole, single = [pair[0] for pair in first.values()], [pair[1] for pair in first.values()]
    others = {other.layer.name: other for other in workload.others}
    on_vector = Counter(
        (o.lane_operations, o.dram_bytes) for o in workload.others if o.unit == "vector" and not o.fused
    )
    column = np.array(list(on_vector), dtype=np.int64).reshape(-1, 2)
    return _Load(
        spec=spec,
        workload=workload,
        whole=JobArrays.of(whole, spec) if whole else None,
        sample=JobArrays.of(single, spec) if workload.single else None,
        times=np.bincount(list(kinds.values()), minlength=len(first)).astype(np.int64),
        vector=(column[:, :1], column[:, 1:]),
        vector_times=np.array(list(on_vector.values()), dtype=np.int64),
        bills=tuple(
            kinds[layer.name] if layer.name in kinds else _other_bill(others[layer.name])
            for layer in workload.network.layers
        ),
        peak_activation_bytes=peak_activation_bytes(workload.network, workload.batch),
        weight_bytes=weight_bytes(workload.network),
    )


def _identity(pair: tuple[Job, Job]) -> tuple[Any, ...]:
    return pair[0].identity, pair[1].identity


def _other_bill(job: OtherJob) -> tuple[float, int]:
    return sum(line.pj for line in job.energy), job.dram_bytes


def _price_some(
    load: _Load,
    arrays: Mapping[str, NDArray[Any]],
    keys: Mapping[str, NDArray[Any]],
    some: NDArray[np.intp],
    found: DesignTotals,
) -> None:
    """Write the totals of some designs; a design whose counts leave 64 bits is found by halving."""
    designs = DesignArrays.of(load.spec, {key: values[some] for key, values in arrays.items()})
    try:
        totals = _totals(load, designs)
    except InputError as error:
        if len(some) == 1:
            raise InputError(f"{point_text(point_of(keys, int(some[0])))}: {error}") from None
        for half in np.array_split(some, 2):
            _price_some(load, arrays, keys, half, found)
    else:
        for metric, values in totals.items():
            found.totals[metric][some] = values


def _totals(load: _Load, designs: DesignArrays) -> dict[str, FloatArray | float]:
    """Return the totals of a report for each design."""
    model, workload = EnergyModel(designs), load.workload
    batch, host_s = workload.batch, workload.host_latency_s
    compute, stalls, useful, dynamic = _dynamic_totals(load, designs, model)
    latency_s = run_latency_s(compute + stalls, host_s, designs)
    areas = model.areas()
    static = sum(charge.pj for charge in model.leakage(latency_s, areas))
    return {
        "compute_cycles": compute,
        "stall_cycles": stalls,
        "latency_cycles": np.rint(latency_s * designs.clock_hz),
        "latency_s": latency_s,
        "accelerator_latency_s": latency_s - host_s,
        "host_latency_s": host_s,
        "interval_s": latency_s,
        "throughput_per_s": np.divide(batch, latency_s, out=np.full(latency_s.shape, np.nan), where=latency_s > 0),
        "energy_pj": dynamic + static,
        "energy_dynamic_pj": dynamic,
        "energy_static_pj": static,
        "energy_pj_per_sample": (dynamic + static) / batch,
        "area_mm2": np.asarray(sum(area.mm2 for area in areas)),
        "chips": 1.0,
        "peak_activation_bytes": float(load.peak_activation_bytes),
        "weight_bytes": float(load.weight_bytes),
        "utilization": run_utilization(useful, latency_s, host_s, designs),
    }


def _dynamic_totals(load: _Load, designs: DesignArrays, model: EnergyModel) -> tuple[FloatArray, ...]:
    """Return compute cycles, cycles of waiting, useful slots and dynamic energy of all layers, summed in their order."""
    vector = vector_cycles(*load.vector, designs)
    compute, stalls = (exact_sum(load.vector_times, cycles) for cycles in vector)
    useful = np.zeros(1)
    of_kind: list[FloatArray] = []
    if load.whole is not None:
        pricing = ArrayPricing(designs, model)
        counts = pricing.cheaper_counts(load.whole, load.sample, load.workload.batch)
        compute = compute + exact_sum(load.times, counts.compute)
        stalls = stalls + exact_sum(load.times, counts.stalls) + exact_sum(load.times, counts.dependence)
        useful = exact_sum(load.times, counts.useful)
        for i, job in enumerate(load.whole.jobs):
            cells = () if job.recurrence is None else job.recurrence.energy
            lines = [charge.pj for charge in pricing.bill(job, counts.of_layer(i))]
            of_kind.append(np.asarray(sum(lines) + sum(line.pj for line in cells)))
    energy = np.zeros(1)
    for bill in load.bills:
        if isinstance(bill, int):
            energy = energy + of_kind[bill]
        else:
            energy = energy + (bill[0] + sum(charge.pj for charge in model.dram(bill[1])))
    return compute, stalls, useful, energy
