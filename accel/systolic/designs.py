"""Prices many systolic designs at once: the formulas of `evaluate`, over arrays of designs.

Keys that the formulas take as arrays (`ARRAY_KEYS`: sizes, dataflow, SRAMs, bandwidth, clock, overlaps, lanes) may all differ
from design to design. Those that share the other keys (widths, precision, node, cell, DRAM type, compatibility) are priced
together; each combination of them costs some milliseconds of its own. Where data decide what an array of one size does (zero
skipping, toggles) or what stays on chip, designs are evaluated one by one. Layers of equal price are priced once, recurrent ones
too. Designs go in chunks, so that memory is bounded.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from picojoule.accel.systolic.data_work import differs_by_design
from picojoule.accel.systolic.design_arrays import ARRAY_KEYS, DesignArrays
from picojoule.accel.systolic.load import Load, load_of
from picojoule.accel.systolic.shortage import shortages
from picojoule.accel.systolic.spec import SystolicSpec
from picojoule.accel.systolic.timing import Dataflow
from picojoule.accel.systolic.totals import Totals, totals_of
from picojoule.sim.design_columns import Coded, check_column, coded
from picojoule.sim.designs import DesignTotals, common_length, empty_totals, evaluate_each, point_of, point_text
from picojoule.sim.errors import InfeasibleError, InputError
from picojoule.sim.evaluation import check_evaluation, held_by
from picojoule.sim.hardware import load_hardware
from picojoule.sim.ir import Network

_CHUNK_ELEMENTS = 1 << 15
"""Layers x designs of one array: a quarter of a megabyte, of which some hundred are in use together; longer ones leave caches."""


class DesignPricing:
    """Prices designs that differ from `spec`."""

    def __init__(self, spec: SystolicSpec, chunk_elements: int = _CHUNK_ELEMENTS) -> None:
        self._spec = spec
        self._chunk_elements = chunk_elements

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
        for index in _groups(shared, len(found)):
            spec = self._spec_at(point_of(keys, int(index[0])))
            if differs_by_design(spec):
                evaluate_each(spec, network, keys, index, found, batch=batch)
                continue
            load = _load_of(network, spec, batch)
            if isinstance(load, str):
                found.infeasible[index] = load
                continue
            size = max(1, self._chunk_elements // load.layers)
            for start in range(0, len(index), size):
                _price_some(load, spec, arrays, keys, index[start : start + size], found)
        return found

    def _spec_at(self, point: Mapping[str, Any]) -> SystolicSpec:
        """Return the spec of a design, checked as a whole: keys may be good apart and not together."""
        spec = load_hardware(self._spec, point).spec if point else self._spec
        assert isinstance(spec, SystolicSpec)
        return spec


def _load_of(network: Network, spec: SystolicSpec, batch: int) -> Load | str:
    """Return what a network asks of designs with the shared values of `spec`, or why they cannot hold it."""
    try:
        return load_of(network, spec, batch)
    except InfeasibleError as error:
        return str(error)


# --- keys ---------------------------------------------------------------------------------------------------------------


def _checked(spec: SystolicSpec, keys: Mapping[str, NDArray[Any]]) -> tuple[dict[str, NDArray[Any]], dict[str, Coded]]:
    """Return the columns of `ARRAY_KEYS` as numbers, and the others by their distinct values, each value checked alone.

    Whether there is an `sram_kib` at all is shared too: the keys' common rules ask that, and nothing else of `ARRAY_KEYS`.
    """
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
            if key == "sram_kib":
                given = np.array([value is not None for value in by_value.distinct])[by_value.codes]
                shared[key] = Coded((False, True), given.astype(np.intp))
        else:
            shared[key] = by_value
    return arrays, shared


def _number(key: str, value: Any) -> Any:
    """Return a checked value as `DesignArrays` takes it."""
    if key == "dataflow":
        return int(Dataflow.of(value))
    return 0 if value is None else value


def _groups(shared: Mapping[str, Coded], length: int) -> Iterator[NDArray[np.intp]]:
    """Return for each combination of shared values the places of its designs, in order."""
    place = np.zeros(length, dtype=np.intp)
    for column in shared.values():
        place = np.unique(place * len(column.distinct) + column.codes, return_inverse=True)[1]
    order = np.argsort(place, kind="stable")
    for index in np.split(order, np.flatnonzero(np.diff(place[order])) + 1):
        if len(index):
            yield index


# --- prices -------------------------------------------------------------------------------------------------------------


def _price_some(
    load: Load,
    spec: SystolicSpec,
    arrays: Mapping[str, NDArray[Any]],
    keys: Mapping[str, NDArray[Any]],
    some: NDArray[np.intp],
    found: DesignTotals,
) -> None:
    """Write the totals of some designs; a design whose counts leave 64 bits is found by halving."""
    designs = DesignArrays.of(spec, {key: values[some] for key, values in arrays.items()})
    try:
        made = totals_of(load, designs)
        totals = _columns(load, made)
    except InputError as error:
        if len(some) == 1:
            raise InputError(f"{point_text(point_of(keys, int(some[0])))}: {error}") from None
        for half in np.array_split(some, 2):
            _price_some(load, spec, arrays, keys, half, found)
    else:
        for metric, values in totals.items():
            found.totals[metric][some] = values
        if made.short.any():
            _mark(load, designs, np.broadcast_to(made.short, len(some)), some, found)


def _mark(
    load: Load, designs: DesignArrays, short: NDArray[np.bool_], some: NDArray[np.intp], found: DesignTotals
) -> None:
    """Say of designs with too small SRAMs why they are infeasible, and take their figures away."""
    for values in found.totals.values():
        values[some[short]] = np.nan
    reasons = shortages(load, designs)
    found.infeasible[some] = reasons if len(reasons) == len(some) else reasons * len(some)


def _columns(load: Load, totals: Totals) -> dict[str, NDArray[Any] | float]:
    """Return the totals of a report for each design."""
    batch, network = load.workload.batch, load.workload.network
    latency_s, dynamic, static = totals.latency_s, totals.dynamic_pj, totals.static_pj
    memory = held_by(network, batch)
    return {
        "compute_cycles": totals.compute,
        "stall_cycles": totals.stalls,
        "latency_cycles": np.rint(latency_s * totals.designs.clock_hz),
        "latency_s": latency_s,
        "accelerator_latency_s": latency_s - load.host_latency_s,
        "host_latency_s": load.host_latency_s,
        "interval_s": latency_s,
        "throughput_per_s": np.divide(batch, latency_s, out=np.full(latency_s.shape, np.nan), where=latency_s > 0),
        "energy_pj": dynamic + static,
        "energy_dynamic_pj": dynamic,
        "energy_static_pj": static,
        "energy_pj_per_sample": (dynamic + static) / batch,
        "area_mm2": np.asarray(sum(area.mm2 for area in totals.areas)),
        "chips": 1.0,
        "peak_activation_bytes": float(memory.peak_activation_bytes),
        "weight_bytes": float(memory.weight_bytes_dense),
        "utilization": totals.utilization,
    }
