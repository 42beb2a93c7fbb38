"""The report: what one network costs on one design, in numbers that add up.

Contract: the JSON of schema 1. Every key is always there, null where meaningless. Dynamic energy stands with its layer,
static energy in the totals; sum of layers' `energy_pj` + `energy_static_pj` = `energy_pj`.
"""

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from picojoule.sim.cost import Area, Energy, LayerCost, energy_by
from picojoule.sim.files import write_atomic

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """What was priced: shares of MACs and of bytes moved, what was not understood, remarks of importer and accelerator.

    The shares are None where the sizes of something not understood are unknown. `by_op` has a row per operator, heaviest
    first: `op layers macs macs_share bytes bytes_share parameters weight_bytes priced`; one that is not understood stands
    under its own name with `macs` None. `unsupported`, largest share first: `op layer where reason bytes_share`.
    """

    macs_priced: float | None
    bytes_priced: float | None
    unsupported: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    by_op: tuple[Mapping[str, Any], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "macs_priced": self.macs_priced,
            "bytes_priced": self.bytes_priced,
            "unsupported": [dict(u) for u in self.unsupported],
            "notes": list(self.notes),
            "by_op": [dict(row) for row in self.by_op],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Measured accuracy: as floating point and under the hardware's arithmetic.

    `interval` is the 95 % interval of `hardware`: over `samples` images of `split` (Wilson), and over the chips (then at least
    95 %) where several were measured (see `picojoule.accuracy.chips_interval`). `per_seed` holds each chip's accuracy, whose
    mean `hardware` is; empty: one chip. `chips_differ` says whether programming another chip would change anything.
    """

    metric: str
    floating: float
    hardware: float
    interval: tuple[float, float]
    samples: int
    split: str
    per_seed: tuple[float, ...] = ()
    chips_differ: bool = False

    @property
    def seeds(self) -> int:
        """Chips measured."""
        return max(1, len(self.per_seed))

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "metric": self.metric,
            "float": self.floating,
            "hardware": self.hardware,
            "interval": list(self.interval),
            "samples": self.samples,
            "split": self.split,
            "seeds": self.seeds,
            "per_seed": list(self.per_seed or (self.hardware,)),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Cost of a network on a design. Cycles, counts and `latency_s` are for the whole batch, start to finish."""

    network: Mapping[str, Any]
    hardware: Mapping[str, Any]
    totals: Mapping[str, Any]
    layers: Sequence[LayerCost]
    static_energy: tuple[Energy, ...]
    area: Area
    coverage: Coverage
    provenance: Mapping[str, Any]
    config: Mapping[str, Any] = field(default_factory=dict)
    accuracy: Accuracy | None = None
    memory: Mapping[str, Any] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether everything in the network was priced."""
        return not self.coverage.unsupported

    def energy_by_component(self) -> dict[str, float]:
        """Return pJ by component, static ones included."""
        return energy_by(self._bill(), "component")

    def energy_by_constant(self) -> dict[str, float]:
        """Return pJ by the technology constant that prices it (what ranges and comparisons sample)."""
        return energy_by(self._bill(), "constant")

    def _bill(self) -> Iterator[Energy]:
        for layer in self.layers:
            yield from layer.energy
        yield from self.static_energy

    def with_accuracy(self, accuracy: Accuracy) -> "Report":
        """Return the same report with a measured accuracy, marked where the weights were never trained."""
        coverage = self.coverage
        if self.provenance.get("weights") == "random":
            coverage = replace(coverage, notes=(*coverage.notes, "weights: random, so the accuracy is that of chance"))
        return replace(self, accuracy=accuracy, coverage=coverage)

    def with_notes(self, notes: Sequence[str]) -> "Report":
        """Return the same report with further remarks."""
        return replace(self, coverage=replace(self.coverage, notes=(*self.coverage.notes, *notes)))

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, schema 1."""
        return {
            "schema": SCHEMA,
            "complete": self.complete,
            "network": dict(self.network),
            "hardware": dict(self.hardware),
            "totals": dict(self.totals),
            "memory": dict(self.memory),
            "layers": [_layer_dict(layer) for layer in self.layers],
            "accuracy": self.accuracy.to_dict() if self.accuracy else None,
            "coverage": self.coverage.to_dict(),
            "provenance": dict(self.provenance),
        }

    def to_json(self) -> str:
        """Return one JSON document; a NaN cannot get into it."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)

    def component_rows(self) -> list[dict[str, Any]]:
        """Return the tidy long table: layer, component, metric, value, unit, source, basis, complete.

        `complete` is the same in every row: whether the whole network was priced.
        """
        rows: list[dict[str, Any]] = []
        for layer in self.layers:
            rows.extend(_energy_row(layer.name, line, layer.basis) for line in layer.energy)
            for name, count in layer.reads.items():
                rows.append(_row(layer.name, name, "reads", count, "elements", "", layer.basis))
            for name, count in layer.writes.items():
                rows.append(_row(layer.name, name, "writes", count, "elements", "", layer.basis))
            for cause, share in layer.utilization_lost.items():
                rows.append(_row(layer.name, cause, "utilization_lost", share, "share", "", layer.basis))
        rows.extend(_energy_row("", line, "static power x latency") for line in self.static_energy)
        rows.extend(_row("", i.component, "area", i.mm2, "mm2", i.constant, "closed form") for i in self.area.items)
        return [{**row, "complete": self.complete} for row in rows]

    def layer_rows(self) -> list[dict[str, Any]]:
        """Return the wide table, one flat row a layer; `complete` says in every row whether the whole network was priced."""
        rows = []
        for layer in self.layers:
            row = {**_layer_dict(layer), "complete": self.complete}
            for key in ("energy_pj", "reads", "writes", "utilization_lost"):
                inner = row.pop(key)
                if key == "energy_pj":
                    row["energy_pj"] = layer.energy_pj
                row.update({f"{key}.{k}": v for k, v in inner.items()})
            rows.append(row)
        return rows

    def to_dataframe(self) -> "pandas.DataFrame":
        """Return the wide per-layer table as a pandas DataFrame."""
        import pandas

        return pandas.DataFrame(self.layer_rows())

    def to_csv(self) -> str:
        """Return the wide per-layer table as CSV."""
        return rows_to_csv(self.layer_rows())

    def save(self, folder: str | Path, *, figures: bool = True) -> Path:
        """Write report.json, layers.csv, components.csv, provenance.json, config.resolved.yaml and, with `figures`, two PNG."""
        import yaml

        target = Path(folder)
        write_atomic(target / "report.json", self.to_json())
        write_atomic(target / "layers.csv", self.to_csv())
        write_atomic(target / "components.csv", rows_to_csv(self.component_rows()))
        write_atomic(target / "provenance.json", json.dumps(dict(self.provenance), indent=1, allow_nan=False))
        write_atomic(target / "config.resolved.yaml", yaml.safe_dump(dict(self.config), sort_keys=False))
        if figures:
            from picojoule.sim.report_plots import save_figures

            save_figures(self, target)
        return target

    def plot_energy(self, axes: "Axes | None" = None) -> "Axes":
        """Draw energy per layer, stacked by component, and return the axes."""
        from picojoule.sim.report_plots import plot_energy

        return plot_energy(self, axes)

    def plot_latency(self, axes: "Axes | None" = None) -> "Axes":
        """Draw latency per layer, split in compute and stall, and return the axes."""
        from picojoule.sim.report_plots import plot_latency

        return plot_latency(self, axes)


def _layer_dict(layer: LayerCost) -> dict[str, Any]:
    g = layer.gemm
    return {
        "name": layer.name,
        "op": layer.op,
        "unit": layer.unit,
        "m": g.m if g else None,
        "n": g.n if g else None,
        "k": g.k if g else None,
        "groups": g.groups if g else None,
        "macs": layer.macs,
        "compute_cycles": layer.compute_cycles,
        "stall_cycles": layer.stall_cycles,
        "latency_cycles": layer.latency_cycles,
        "latency_s": layer.latency_s,
        "utilization": layer.utilization,
        "mapping_efficiency": layer.mapping_efficiency,
        "compute_utilization": layer.compute_utilization,
        "utilization_lost": dict(layer.utilization_lost),
        "energy_pj": energy_by(layer.energy, "component"),
        "reads": dict(layer.reads),
        "writes": dict(layer.writes),
        "dram_read_bytes": layer.dram_read_bytes,
        "dram_write_bytes": layer.dram_write_bytes,
        "basis": layer.basis,
    }


def _row(layer: str, component: str, metric: str, value: float, unit: str, source: str, basis: str) -> dict[str, Any]:
    return {
        "layer": layer,
        "component": component,
        "metric": metric,
        "value": value,
        "unit": unit,
        "source": source,
        "basis": basis,
    }


def _energy_row(layer: str, line: Energy, basis: str) -> dict[str, Any]:
    return _row(layer, line.component, "energy", line.pj, "pJ", line.constant, basis)


def rows_to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV with the union of their keys as columns, in order of first appearance.

    Text cells that a spreadsheet would take for a formula get a leading apostrophe.
    """
    columns = list(dict.fromkeys(key for row in rows for key in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: _cell(v) for k, v in row.items()})
    return out.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        value = value.replace("\r", " ")  # csv does not quote it, and readers take it for the end of a row
        return "'" + value if value[:1] in ("=", "+", "-", "@", "\t") else value
    return "" if value is None else value


def wilson_interval(successes: float, samples: int, z: float = 1.959964) -> tuple[float, float]:
    """Return the 95 % score interval of a share (Wilson 1927); `samples` must be positive."""
    p = successes / samples
    centre = (p + z * z / (2 * samples)) / (1 + z * z / samples)
    half = z * math.sqrt(p * (1 - p) / samples + z * z / (4 * samples * samples)) / (1 + z * z / samples)
    return max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half))
