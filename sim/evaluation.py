"""Puts a report together from the costs of its layers: what every accelerator does the same way.

Totals are computed at once. What few readers look at (ranges, provenance, the hardware's keys, layers where the accelerator
hands over a lazy sequence) is made when somebody does; what follows from the network alone is remembered with it.
"""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from picojoule.sim.by_network import remembered
from picojoule.sim.cost import Area, Energy, LayerCost, energy_by
from picojoule.sim.coverage import coverage_of
from picojoule.sim.errors import InputError, UnsupportedError
from picojoule.sim.ir import Network
from picojoule.sim.lazy import LazyMapping
from picojoule.sim.memory import Memory, memory_of
from picojoule.sim.protocol import HardwareSpec
from picojoule.sim.report import Report

__all__ = [
    "LARGEST_BATCH",
    "Priced",
    "Sums",
    "check_evaluation",
    "coverage_of",
    "held_by",
    "make_report",
    "unsupported_sentence",
    "versions",
]

LARGEST_BATCH = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """Sums over the layers of a report, for an accelerator that has them before its layers' costs are made."""

    macs: int
    compute_cycles: int
    stall_cycles: int
    energy_dynamic_pj: float

    @classmethod
    def of(cls, layers: Sequence[LayerCost]) -> "Sums":
        """Return the sums of costs that are at hand."""
        return cls(
            macs=sum(layer.macs for layer in layers),
            compute_cycles=sum(layer.compute_cycles for layer in layers),
            stall_cycles=sum(layer.stall_cycles for layer in layers),
            energy_dynamic_pj=sum(layer.energy_pj for layer in layers),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Priced:
    """What an accelerator hands over: costs of layers and how they add up in time. `sums` None: of the layers."""

    layers: Sequence[LayerCost]
    latency_s: float
    host_latency_s: float
    interval_s: float
    clock_hz: float
    utilization: float | None
    area: Area
    static_energy: tuple[Energy, ...] = ()
    chips: int = 1
    resources: Mapping[str, Any] | None = None
    assumed_precision: str | None = None
    notes: tuple[str, ...] = field(default=())
    sums: Sums | None = None


def check_evaluation(network: Network, batch: int, allow_unsupported: bool) -> None:
    """Refuse a bad batch, and operators nobody understood unless they are allowed.

    Raises:
        InputError: if the batch is not between 1 and 2^20.
        UnsupportedError: listing every operator not understood and where it is.

    """
    if not isinstance(batch, int):
        raise InputError(f"batch must be a whole number, got {batch!r}")
    if not 1 <= batch <= LARGEST_BATCH:
        raise InputError(f"batch must be between 1 and {LARGEST_BATCH}, got {batch}")
    if batch != 1 and network.inputs and all(r.type.batch_axis is None for r in network.inputs):
        raise InputError(
            f"{network.name} is fixed to the batch of its example, so --batch {batch} means nothing for it; export it with a "
            "dynamic batch (first axis)"
        )
    if network.unsupported and not allow_unsupported:
        raise UnsupportedError(unsupported_sentence(network))


def unsupported_sentence(network: Network) -> str:
    """Return the one sentence that lists every operator not understood."""
    places: dict[str, list[str]] = {}
    for item in network.unsupported:
        places.setdefault(item.op, []).append(item.where)
    listed = "; ".join(
        f"{op} ({len(at)}x: {' / '.join(at[:3])}{' / ...' if len(at) > 3 else ''})" for op, at in places.items()
    )
    all_places = " (`picojoule coverage` lists every place)" if any(len(at) > 3 for at in places.values()) else ""
    return (
        f"{network.name}: cannot price {len(network.unsupported)} operator(s): {listed}{all_places}. "
        "Replace them, or pass --allow-unsupported to price the rest and mark the result INCOMPLETE"
    )


def make_report(
    network: Network, spec: HardwareSpec, model_version: str, priced: Priced, *, batch: int, seed: int
) -> Report:
    """Return the report of schema 1; `network` has its formats filled in."""
    memory, params = held_by(network, batch), remembered(network, "parameters", lambda: network.parameters)
    sums = priced.sums or Sums.of(priced.layers)
    dynamic, static = sums.energy_dynamic_pj, sum(line.pj for line in priced.static_energy)
    totals = {
        "macs": sums.macs,
        "compute_cycles": sums.compute_cycles,
        "stall_cycles": sums.stall_cycles,
        "latency_cycles": round(priced.latency_s * priced.clock_hz),
        "latency_s": priced.latency_s,
        "accelerator_latency_s": priced.latency_s - priced.host_latency_s,
        "host_latency_s": priced.host_latency_s,
        "interval_s": priced.interval_s,
        "throughput_per_s": batch / priced.interval_s if priced.interval_s > 0 else None,
        "energy_pj": dynamic + static,
        "energy_dynamic_pj": dynamic,
        "energy_static_pj": static,
        "energy_pj_per_sample": (dynamic + static) / batch,
        "area_mm2": priced.area.mm2,
        "chips": priced.chips,
        "resources": dict(priced.resources) if priced.resources is not None else None,
        "peak_activation_bytes": memory.peak_activation_bytes,
        "weight_bytes": memory.weight_bytes_dense,
        "utilization": priced.utilization,
    }
    weights = network.weights
    return Report(
        network={
            "name": network.name,
            "layers": len(network.layers),
            "macs": sums.macs,
            "params": params,
            "batch": batch,
        },
        hardware={
            "name": spec.name or spec.kind,
            "kind": spec.kind,
            "model_version": model_version,
            "assumed_precision": priced.assumed_precision,
        },
        totals=LazyMapping(totals, {"ranges": lambda: _ranges(priced, batch, seed)}),
        layers=priced.layers,
        static_energy=priced.static_energy,
        area=priced.area,
        coverage=coverage_of(network, batch, _notes(priced)),
        provenance=LazyMapping(
            {"versions": versions(), "seed": seed},
            {
                "constants_hash": _constants_hash,
                "weights": lambda: weights,
                "sources": lambda: _sources(priced),
            },
        ),
        config=spec.model_dump(mode="json"),
        memory=dict(remembered(network, ("memory dict", batch), memory.to_dict)),
    )


def held_by(network: Network, batch: int) -> Memory:
    """Return what holding a network takes (`memory_of`), remembered with it."""
    return remembered(network, ("memory", batch), lambda: memory_of(network, batch))


def _notes(priced: Priced) -> list[str]:
    notes = list(priced.notes)
    if priced.assumed_precision is not None:
        notes.append(f"assumed {priced.assumed_precision}: no format is set for some layers")
    if priced.latency_s > 0 and priced.host_latency_s > 0.2 * priced.latency_s:
        share = priced.host_latency_s / priced.latency_s
        notes.insert(0, f"warning: {share:.0%} of the time is spent on the host")
    return notes


def _ranges(priced: Priced, batch: int, seed: int) -> dict[str, list[float]]:
    """Return the 90 % ranges of energies and area, from jointly sampled constants."""
    from picojoule.sim.technology import total_range

    dynamic = [line for layer in priced.layers for line in layer.energy]
    bills = {
        "energy_pj": [*dynamic, *priced.static_energy],
        "energy_dynamic_pj": dynamic,
        "energy_static_pj": list(priced.static_energy),
    }
    ranges: dict[str, list[float]] = {
        metric: list(total_range(energy_by(bill, "constant"), seed=seed)) for metric, bill in bills.items()
    }
    ranges["energy_pj_per_sample"] = [v / batch for v in ranges["energy_pj"]]
    if priced.area.items:
        areas: dict[str, float] = {}
        for item in priced.area.items:
            areas[item.constant] = areas.get(item.constant, 0.0) + item.mm2
        ranges["area_mm2"] = list(total_range(areas, seed=seed))
    return ranges


def _sources(priced: Priced) -> dict[str, str]:
    """Return where each constant that prices anything comes from."""
    from picojoule.sim.technology import all_constants

    known = all_constants()
    bill = [line for layer in priced.layers for line in layer.energy] + list(priced.static_energy)
    keys = {line.constant for line in bill} | {i.constant for i in priced.area.items}
    return {name: known[name].source for name in sorted({name for key in keys for name in key.split("*")})}


def _constants_hash() -> str:
    from picojoule.sim.technology import constants_hash

    return constants_hash()


@cache
def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    found = {"python": platform.python_version()}
    for package in ("picojoule", "numpy", "torch", "onnx"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found
