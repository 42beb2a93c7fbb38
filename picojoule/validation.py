"""What `picojoule validate` recomputes: figures from outside, ours, and the error, in one table.

`calibrated` says that our figure's own constants were entered from or fitted to the reference; only the others are evidence.
"""

import csv
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import numpy as np

from picojoule import validation_deform
from picojoule.accel.systolic import timing, traffic
from picojoule.models.catalog import describe
from picojoule.networks import load_network
from picojoule.sim.gemm import network_macs
from picojoule.sim.hardware import load_hardware
from picojoule.sim.technology import constant

Row = dict[str, Any]
_NETWORKS = ("resnet20", "mobilenet-v1", "mobilenet-v2", "resnet50")


def validate_rows() -> list[Row]:
    """Return rows {name, source, quantity, reference, ours, error_pct, calibrated}."""
    return [*_scalesim(), *_counts(), *_isaac(), *validation_deform.rows()]


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


def _isaac() -> Iterator[Row]:
    """ISAAC's chip: area, power and peak density. Entered from its table, so calibrated."""
    source = "ISAAC (Shafiee et al., ISCA 2016), table of components"
    accelerator = load_hardware("isaac")
    spec: Any = accelerator.spec
    area = accelerator.area().mm2 or 0.0
    yield _row("isaac", source, "chip area, mm2", 85.4, area, calibrated=True)
    crossbars = spec.tiles_per_chip * spec.imas_per_tile * spec.crossbars_per_ima
    outputs = spec.crossbar_cols // -(-spec.weight_bits // spec.cell_bits)
    pass_s = spec.activation_bits / spec.dac_bits * constant("isaac.crossbar.read_time").value * 1e-9
    gops = 2 * crossbars * spec.crossbar_rows * outputs / pass_s / 1e9
    yield _row("isaac", source, "peak density, GOPS/mm2", 478.95, gops / area, calibrated=True)
