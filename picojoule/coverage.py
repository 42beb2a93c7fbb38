"""What `picojoule coverage` says: what a network consists of, what compression left in it, and what is not understood.

It refuses nothing: whatever is not understood is listed with its place and its share, for that is what it is for.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from picojoule.networks import load_network, parse_shapes
from picojoule.sim.attributes import OpaqueAttributes
from picojoule.sim.errors import PicojouleError, UnsupportedError
from picojoule.sim.evaluation import coverage_of
from picojoule.sim.gemm import network_macs
from picojoule.sim.hardware import load_hardware
from picojoule.sim.ir import Network, Operand, Result
from picojoule.sim.memory import memory_of, nonzeros
from picojoule.sim.protocol import Accelerator
from picojoule.sim.report import Coverage

_ENDS = "whatever reads the result of an operator of unknown size is left out: all figures are of the layers before"


def load_as_far_as_understood(name: str, shapes: tuple[str, ...] = (), weights: Path | None = None) -> Network:
    """Return a network as `evaluate` reads it; where shapes end at an unknown operator, what stands before and all of those.

    Raises:
        PicojouleError: as `load_network`, where nothing of the network can be shown.

    """
    try:
        return load_network(name, shapes=parse_shapes(shapes), weights=weights)
    except UnsupportedError as error:
        if error.partial is None:
            raise
        return replace(error.partial, notes=(*error.partial.notes, _ENDS))


def coverage_document(network: Network, hardware: str | None = None) -> dict[str, Any]:
    """Return the coverage of a network alone, for one sample.

    Without hardware, values that nothing gives a format count as float32. With it, they have its native formats, rows of
    `by_op` say which units run them (`units`: unit -> layers), and a refusal by that hardware is a note, not an error.

    Raises:
        InputError: for unknown hardware.

    """
    accelerator = load_hardware(hardware) if hardware is not None else None
    coverage, memory, units = _on(accelerator, network) if accelerator else (coverage_of(network), None, None)
    rows = coverage.to_dict()
    if units is not None:
        for row in rows["by_op"]:
            row["units"] = units[row["op"], row["priced"]]
    return {
        "schema": 1,
        "complete": not network.unsupported,
        "network": {"name": network.name, "layers": len(network.layers), "params": network.parameters},
        "hardware": hardware,
        "macs": network_macs(network),
        **rows,
        "inputs": [_value(r) for r in network.inputs],
        "outputs": [_value(network.values()[name]) for name in network.outputs],
        "compression": {"weights": _weights(network), "activations": _activations(network)},
        "memory": memory or memory_of(network).to_dict(),
    }


def _on(
    accelerator: Accelerator, network: Network
) -> tuple[Coverage, Mapping[str, Any] | None, dict[tuple[str, bool], dict[str, int]]]:
    """Return coverage and memory at the formats of an accelerator, and the units that run each operator there."""
    try:
        report = accelerator.evaluate(network, chips=None, allow_unsupported=True)
    except PicojouleError as error:
        name = accelerator.spec.name or accelerator.spec.kind
        units = {layer.name: accelerator.unit_of_op.get(layer.op.value, "refused") for layer in network.layers}
        return coverage_of(network, notes=(f"{name} refuses this network: {error}",)), None, _counted(network, units)
    return report.coverage, report.memory, _counted(network, {row.name: row.unit for row in report.layers})


def _counted(network: Network, units: Mapping[str, str]) -> dict[tuple[str, bool], dict[str, int]]:
    """Return the units that run each operator (its name, and whether it is understood) with their layers."""
    found: dict[tuple[str, bool], Counter[str]] = {}
    for layer in network.layers:
        a = layer.attributes
        key = (a.original, False) if isinstance(a, OpaqueAttributes) else (layer.op.value, True)
        found.setdefault(key, Counter())[units[layer.name]] += 1
    return {key: dict(counts.most_common()) for key, counts in found.items()}


def _value(result: Result) -> dict[str, Any]:
    """Return an input or output: its shape for one sample, the axis that grows with the batch, its format if one is set."""
    return {
        "name": result.name,
        "shape": list(result.shape),
        "batch_axis": result.type.batch_axis,
        "format": str(result.format) if result.format else None,
    }


def _weights(network: Network) -> list[dict[str, Any]]:
    """Return the parameters by format and structure of their zeros, most elements first; a shared tensor counts once."""
    tensors: dict[str, Operand] = {}
    for layer in network.layers:
        for operand in layer.parameters:
            tensors.setdefault(operand.name, operand)
    rows: dict[tuple[str | None, str], dict[str, Any]] = {}
    for operand in tensors.values():
        form = str(operand.format) if operand.format else None
        structure = str(operand.sparsity)
        empty = {"format": form, "sparsity": structure, "tensors": 0, "parameters": 0, "nonzeros": 0}
        row = rows.setdefault((form, structure), empty)
        row["tensors"] += 1
        row["parameters"] += operand.type.elements()
        row["nonzeros"] += nonzeros(operand)
    for row in rows.values():
        row["density"] = row["nonzeros"] / row["parameters"]
    return sorted(rows.values(), key=lambda r: -r["parameters"])


def _activations(network: Network) -> list[dict[str, Any]]:
    """Return how many values have each format that the source or a plan sets."""
    formats: dict[str, str] = {r.name: str(r.format) for r in network.values().values() if r.format}
    for layer in network.layers:
        formats.update((o.name, str(o.format)) for o in layer.activations if o.format)
    return [{"format": form, "values": count} for form, count in Counter(formats.values()).most_common()]
