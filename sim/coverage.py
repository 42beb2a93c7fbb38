"""What share of a network is understood: by MACs, by bytes and by operator."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from picojoule.sim.attributes import MAC_OPS, Op, OpaqueAttributes
from picojoule.sim.by_network import remembered
from picojoule.sim.gemm import layer_macs
from picojoule.sim.ir import Layer, Network
from picojoule.sim.memory import unconnected
from picojoule.sim.passes import result_bytes
from picojoule.sim.report import Coverage
from picojoule.sim.vector_unit import vector_work

_OPAQUE_MACS = (
    "the MACs of operators that are not understood are unknown: macs_priced is the share, by bytes moved, that understood "
    "layers with MACs have among those and the layers that are not understood"
)
_OPAQUE_SIZES = "sizes are unknown for some operators that are not understood: shares of the whole cannot be given"

_LOOSE_LAYERS = "no two layers share a value, so the peak of activations is that of the largest layer alone"


def coverage_of(network: Network, batch: int = 1, notes: Sequence[str] = ()) -> Coverage:
    """Return what share of MACs and bytes is understood, by operator, and each operator that is not, with its share of bytes.

    Bytes are those that layers read and write, each on its own (`vector_work`): a view moves none, a gather reads what it
    returns. A value without a format counts as float32. An operator that is not understood has an unknown number of MACs;
    `macs_priced` is then the share of MAC-bearing and unknown layers that are understood, by bytes. An operator that
    stands in no layer has no known size either, and both shares are None.
    """
    found = remembered(network, ("coverage", batch), lambda: _coverage_of(network, batch))
    return replace(
        found,
        unsupported=tuple(dict(row) for row in found.unsupported),
        notes=tuple(dict.fromkeys((*network.notes, *notes, *found.notes))),
        by_op=tuple(dict(row) for row in found.by_op),
    )


def _coverage_of(network: Network, batch: int) -> Coverage:
    moved = {layer.name: _moved_bytes(layer, batch) for layer in network.layers}
    total = sum(moved.values()) or 1
    opaque = sum(moved[layer.name] for layer in network.layers if layer.op is Op.OPAQUE)
    heavy = opaque + sum(moved[layer.name] for layer in network.layers if layer.op in MAC_OPS)
    unsupported = [
        {
            "op": u.op,
            "layer": u.layer,
            "where": u.where,
            "reason": u.reason,
            "bytes_share": moved[u.layer] / total if u.layer in moved else None,
        }
        for u in network.unsupported
    ]
    unknown = any(u["bytes_share"] is None for u in unsupported)
    notes = (_LOOSE_LAYERS,) if unconnected(network) else ()
    if unsupported:
        notes = (*notes, _OPAQUE_SIZES if unknown else _OPAQUE_MACS)
    return Coverage(
        macs_priced=None if unknown else 1.0 - opaque / (heavy or 1),
        bytes_priced=None if unknown else 1.0 - opaque / total,
        unsupported=tuple(sorted(unsupported, key=lambda u: -(u["bytes_share"] or 0.0))),
        notes=notes,
        by_op=tuple(_by_op(network, batch, moved)),
    )


def _moved_bytes(layer: Layer, batch: int) -> int:
    work = vector_work(layer, batch)
    return work.read_bytes + work.write_bytes


def _by_op(network: Network, batch: int, moved: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return a row per operator, heaviest first: by MACs, then bytes. A shared tensor counts where it is first read."""
    rows: dict[tuple[str, bool], dict[str, Any]] = {}
    seen: set[str] = set()
    for layer in network.layers:
        a = layer.attributes
        priced = not isinstance(a, OpaqueAttributes)
        op = a.original if isinstance(a, OpaqueAttributes) else layer.op.value
        counts = ("layers", "macs", "bytes", "parameters", "weight_bytes")
        row = rows.setdefault((op, priced), {"op": op, **dict.fromkeys(counts, 0), "priced": priced})
        row["layers"] += 1
        row["macs"] += layer_macs(layer, batch)
        row["bytes"] += moved[layer.name]
        for operand in layer.parameters:
            if operand.name not in seen:
                seen.add(operand.name)
                row["parameters"] += operand.type.elements()
                row["weight_bytes"] += result_bytes(operand, 1)
    macs = sum(row["macs"] for row in rows.values()) or 1
    total = sum(moved.values()) or 1
    return [
        {
            "op": row["op"],
            "layers": row["layers"],
            "macs": row["macs"] if row["priced"] else None,
            "macs_share": row["macs"] / macs if row["priced"] else None,
            "bytes": row["bytes"],
            "bytes_share": row["bytes"] / total,
            "parameters": row["parameters"],
            "weight_bytes": row["weight_bytes"],
            "priced": row["priced"],
        }
        for row in sorted(rows.values(), key=lambda r: (-r["macs"], -r["bytes"], r["op"]))
    ]
