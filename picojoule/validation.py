"""What `picojoule validate` recomputes: figures from outside, ours, and the error, in one table.

`calibrated` says that our figure's own constants were entered from or fitted to the reference; only the others are evidence.
"""

import csv
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import numpy as np

from picojoule import validation_deform, validation_reram
from picojoule.accel.systolic import timing, traffic
from picojoule.models.catalog import describe
from picojoule.networks import load_network
from picojoule.sim.gemm import network_macs

Row = dict[str, Any]
_NETWORKS = ("resnet20", "mobilenet-v1", "mobilenet-v2", "resnet50")


def validate_rows() -> list[Row]:
    """Return rows {name, source, quantity, reference, ours, error_pct, calibrated}."""
    return [*_scalesim(), *_counts(), *validation_reram.rows(), *validation_deform.rows()]


def _row(name: str, source: str, quantity: str, reference: float, ours: float, *, calibrated: bool = False) -> Row:
    return {
        "name": name,
        "source": source,
        "quantity": quantity,
        "reference": reference,
        "ours": ours,
        "error_pct": 100.0 * (ours - reference) / reference,
        "calibrated": calibrated,
    }


def _scalesim() -> Iterator[Row]:
    """Yield sums over a network's layers of stall-free cycles and SRAM words, counted as SCALE-Sim does (`compat: scalesim`)."""
    text = files("picojoule").joinpath("validation_data/scalesim.csv").read_text()
    groups: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for row in csv.DictReader(text.splitlines()):
        groups.setdefault((row["topology"], row["dataflow"], row["rows"], row["cols"]), []).append(row)
    for (topology, flow, rows, cols), layers in groups.items():
        m, n, k = (np.array([int(layer[key]) for layer in layers], dtype=np.int64) for key in "MNK")
        shape = (int(timing.Dataflow.of(flow)), int(rows), int(cols), m, n, k)
        words = traffic.scalesim_sram_counts(*shape)
        measured = {
            "cycles": ("lines", timing.scalesim_cycles(*shape)),
            "SRAM words": (
                "sram_ifmap_reads sram_filter_reads sram_ofmap_writes",
                words.ifmap_reads + words.filter_reads + words.ofmap_writes,
            ),
        }
        for quantity, (columns, ours) in measured.items():
            reference = sum(int(layer[c]) for layer in layers for c in columns.split())
            name = f"{topology} {flow} {rows}x{cols}, {len(layers)} layers"
            yield _row(name, "SCALE-Sim 3.0.0, measured", quantity, reference, int(ours.sum()))


def _counts() -> Iterator[Row]:
    """Yield published parameter and MAC counts of reference networks, through the torch importer."""
    published = {entry["name"]: entry for entry in describe()}
    for name in _NETWORKS:
        network, entry = load_network(name), published[name]
        source = entry["source"].split(",")[0] + ", published"
        yield _row(name, source, "MACs", entry["macs"], network_macs(network))
        yield _row(name, source, "parameters", entry["params"], network.parameters)
