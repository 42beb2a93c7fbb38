"""Totals of one network on many designs: one call for a sweep or a generation of a search.

An accelerator that can price designs side by side has `price_designs` of its own (`PricesDesigns`); any other is evaluated
point by point.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from picojoule.sim.errors import InfeasibleError, InputError
from picojoule.sim.hardware import load_hardware
from picojoule.sim.ir import Network
from picojoule.sim.protocol import Accelerator, HardwareSpec

DESIGN_METRICS = (
    "compute_cycles",
    "stall_cycles",
    "latency_cycles",
    "latency_s",
    "accelerator_latency_s",
    "host_latency_s",
    "interval_s",
    "throughput_per_s",
    "energy_pj",
    "energy_dynamic_pj",
    "energy_static_pj",
    "energy_pj_per_sample",
    "area_mm2",
    "chips",
    "peak_activation_bytes",
    "weight_bytes",
    "utilization",
)
"""Totals of a report that every design gets, by the report's names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DesignTotals:
    """Totals of designs, an element each: `totals[metric]` and, in `infeasible`, why a design cannot hold the network.

    A total is NaN where a design is infeasible, and where a report has null (the area of an FPGA). Counts are exact up to
    2^53. `infeasible` is an empty text for a design that holds the network.
    """

    totals: Mapping[str, NDArray[np.float64]]
    infeasible: NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.infeasible)


@runtime_checkable
class PricesDesigns(Protocol):
    """An accelerator that prices many designs in one call."""

    def price_designs(self, network: Network, keys: Mapping[str, NDArray[Any]], *, batch: int = 1) -> DesignTotals:
        """Return the totals of the designs that differ from this one by `keys` (dotted key -> a value per design)."""
        ...


def price_designs(
    accelerator: Accelerator,
    network: Network,
    keys: Mapping[str, Sequence[Any] | NDArray[Any]],
    *,
    batch: int = 1,
    seed: int = 0,
) -> DesignTotals:
    """Return the totals of a network on designs that differ from `accelerator` by `keys`.

    Args:
        accelerator: the base design.
        network: the workload.
        keys: dotted keys of the hardware file, each with one value per design (arrays of one length).
        batch: samples; counts and latency are for all of them.
        seed: handed to `evaluate` where designs are priced one by one.

    Raises:
        InputError: for an unknown key or a bad value, as the hardware file's; for arrays that do not match; for sizes beyond
            64 bits, naming the design.
        UnsupportedError: if the hardware cannot price the network at all.

    """
    columns = {key: _column(values) for key, values in keys.items()}
    length = common_length(columns)
    if isinstance(accelerator, PricesDesigns):
        return accelerator.price_designs(network, columns, batch=batch)
    found = empty_totals(length)
    evaluate_each(accelerator.spec, network, columns, range(length), found, batch=batch, seed=seed)
    return found


def evaluate_each(
    spec: HardwareSpec,
    network: Network,
    columns: Mapping[str, NDArray[Any]],
    places: Iterable[int],
    found: DesignTotals,
    *,
    batch: int = 1,
    seed: int = 0,
) -> None:
    """Write the totals of some designs that differ from `spec` by `columns`, evaluated one by one; errors as `price_designs`."""
    for i in places:
        point = point_of(columns, int(i))
        design = load_hardware(spec, point)
        try:
            totals = design.evaluate(network, batch=batch, seed=seed).totals
        except InfeasibleError as error:
            found.infeasible[i] = str(error)
            continue
        except InputError as error:
            raise InputError(f"{point_text(point)}: {error}") from None
        for metric, values in found.totals.items():
            values[i] = np.nan if totals[metric] is None else totals[metric]


def factorial(space: Mapping[str, Sequence[Any] | NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return every combination of the keys' values as columns, the last key fastest."""
    values = {key: _column(some) for key, some in space.items()}
    count = prod(len(some) for some in values.values())
    columns, repeats = {}, count
    for key, some in values.items():
        repeats //= len(some)
        columns[key] = np.tile(np.repeat(some, repeats), count // (repeats * len(some)))
    return columns


def empty_totals(length: int) -> DesignTotals:
    """Return totals of `length` designs to be filled in: NaN, and nothing infeasible."""
    return DesignTotals(
        totals={metric: np.full(length, np.nan) for metric in DESIGN_METRICS},
        infeasible=np.full(length, "", dtype=object),
    )


def common_length(columns: Mapping[str, NDArray[Any]]) -> int:
    """Return the length all columns have.

    Raises:
        InputError: if there is no column, or they differ in length.

    """
    lengths = {key: len(values) for key, values in columns.items()}
    if not lengths:
        raise InputError("pricing designs takes at least one key with a value per design, such as {'rows': [16, 32]}")
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{key} {length}" for key, length in lengths.items())
        raise InputError(f"every key needs one value per design, got {listed}")
    return next(iter(lengths.values()))


def point_of(columns: Mapping[str, NDArray[Any]], index: int) -> dict[str, Any]:
    """Return one design's keys and plain values."""
    return {key: plain(values[index]) for key, values in columns.items()}


def point_text(point: Mapping[str, Any]) -> str:
    """Return `key=value, ...` of a design."""
    return ", ".join(f"{key}={value}" for key, value in point.items())


def plain(value: Any) -> Any:
    """Return a Python value for one of an array."""
    return value.item() if isinstance(value, np.generic) else value


def _column(values: Sequence[Any] | NDArray[Any]) -> NDArray[Any]:
    """Return values as an array of one axis; values of several kinds stay what they are."""
    if isinstance(values, np.ndarray):
        column = values
    elif isinstance(values, str) or not isinstance(values, Iterable):
        column = np.array(values)
    else:
        listed = list(values)
        if len({type(v) for v in listed}) == 1 and isinstance(listed[0], bool | int | float | str):
            column = np.array(listed)
        else:
            column = np.empty(len(listed), dtype=object)
            column[:] = listed
    if column.ndim != 1:
        raise InputError(f"every key needs an array of one value per design, got one of shape {column.shape}")
    return column
