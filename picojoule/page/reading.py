"""A saved run, read back and checked once, so that nothing after this meets a missing key or a NaN."""

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from picojoule.sim.errors import InputError
from picojoule.sim.files import read_bounded
from picojoule.sim.report import SCHEMA

_LIMIT_BYTES = 64 << 20
_COMPONENT_COLUMNS = ("layer", "component", "metric", "value", "source", "basis")
_TOTALS = (
    "macs", "latency_s", "accelerator_latency_s", "host_latency_s", "interval_s", "throughput_per_s", "energy_pj",
    "energy_dynamic_pj", "energy_static_pj", "energy_pj_per_sample", "area_mm2", "chips", "peak_activation_bytes",
    "weight_bytes", "utilization",
)  # fmt: skip
_MAY_BE_NULL = ("area_mm2", "utilization", "throughput_per_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer's bill; cycles, counts and times for the whole batch, energies in pJ (dynamic), `lost` as shares."""

    name: str
    op: str
    unit: str
    basis: str
    gemm: tuple[int, int, int, int] | None
    macs: float
    compute_cycles: float
    stall_cycles: float
    latency_s: float
    utilization: float | None
    mapping_efficiency: float | None
    dram_read_bytes: float
    dram_write_bytes: float
    lost: Mapping[str, float]
    energy_pj: Mapping[str, float]
    reads: Mapping[str, float]
    writes: Mapping[str, float]

    @property
    def total_pj(self) -> float:
        """Return the layer's dynamic energy."""
        return sum(self.energy_pj.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run folder: report.json with finite numbers, the static energy, area and constants of components.csv, and the config.

    `static_pj`, `area_mm2` by component; `constants_pj` by the technology constant (or product of them) that prices it.
    """

    name: str
    complete: bool
    network: Mapping[str, Any]
    hardware: Mapping[str, Any]
    totals: Mapping[str, Any]
    ranges: Mapping[str, tuple[float, float]]
    layers: tuple[Layer, ...]
    accuracy: Mapping[str, Any] | None
    coverage: Mapping[str, Any]
    provenance: Mapping[str, Any]
    config: str
    static_pj: Mapping[str, float]
    area_mm2: Mapping[str, float]
    constants_pj: Mapping[str, float]


def read_run(folder: Path) -> Run:
    """Return a run folder of `evaluate --out`.

    Raises:
        InputError: for a missing, torn or edited file, another schema, or a number that is not finite.

    """
    path = folder / "report.json"
    document = read_json(path, "the report.json of `evaluate --out`")
    if (schema := document.get("schema")) != SCHEMA:
        raise InputError(f"{path}: must be a report of schema {SCHEMA}, got schema {schema!r}; run `evaluate` again")
    config = read_text(folder / "config.resolved.yaml", "the config.resolved.yaml of `evaluate --out`")
    static, area, constants = _components(folder / "components.csv")
    try:
        return Run(
            name=folder.resolve().name,
            complete=_true_or_false(document["complete"]),
            network={**document["network"], **_numbers(document["network"], ("macs", "params", "batch"))},
            hardware={k: str(document["hardware"][k]) for k in ("name", "kind", "model_version")}
            | {"assumed_precision": document["hardware"]["assumed_precision"]},
            totals={**document["totals"], **_numbers(document["totals"], _TOTALS)},
            ranges={str(k): _pair(v) for k, v in document["totals"]["ranges"].items()},
            layers=tuple(_layer(row) for row in document["layers"]),
            accuracy=_accuracy(document["accuracy"]),
            coverage=_coverage(document["coverage"]),
            provenance=dict(document["provenance"]),
            config=config,
            static_pj=static,
            area_mm2=area,
            constants_pj=constants,
        )
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else f"{error}"
        raise InputError(f"{path}: not a report of picojoule (torn or edited?): {what}; run `evaluate` again") from None


def read_text(path: Path, what: str, limit_bytes: int = _LIMIT_BYTES) -> str:
    """Return a UTF-8 file's text.

    Raises:
        InputError: if it is missing, empty, too large or not UTF-8.

    """
    try:
        return read_bounded(path, limit_bytes, what).decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text at byte {error.start}; expected {what}") from None


def read_json(path: Path, what: str) -> dict[str, Any]:
    """Return the object a JSON file holds.

    Raises:
        InputError: if it is missing, torn, no object, or holds NaN.

    """
    text = read_text(path, what)
    try:
        document = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({error}); expected {what}") from None
    if not isinstance(document, dict):
        raise InputError(f"{path}: must hold a JSON object, got {type(document).__name__}; expected {what}")
    return document


def _refuse(word: str) -> float:
    raise ValueError(f"{word} is no number")


def csv_rows(path: Path, what: str, needed: Sequence[str], limit_bytes: int = _LIMIT_BYTES) -> "Iterator[list[str]]":
    """Yield the header of a CSV file, then its rows, each as long as the header.

    Raises:
        InputError: if it is missing, torn, or lacks one of the `needed` columns.

    """
    rows = csv.reader(io.StringIO(read_text(path, what, limit_bytes), newline=""))
    try:
        header = next(rows, [])
        if missing := [c for c in needed if c not in header]:
            raise InputError(f"{path}: has no column '{missing[0]}'; expected {what}")
        yield header
        for row in rows:
            if len(row) != len(header):
                raise InputError(f"{path}:{rows.line_num}: has {len(row)} cells, the header {len(header)} (torn?)")
            yield row
    except csv.Error as error:
        raise InputError(f"{path}:{rows.line_num}: not a CSV table ({error}); expected {what}") from None


def _components(path: Path) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
    """Return static pJ and mm² by component, and pJ by constant."""
    static: dict[str, float] = {}
    area: dict[str, float] = {}
    constants: dict[str, float] = {}
    rows = csv_rows(path, "the components.csv of `evaluate --out`", _COMPONENT_COLUMNS)
    at = {name: i for i, name in enumerate(next(rows))}
    for line, row in enumerate(rows, start=2):
        layer, component, metric, source = (row[at[k]] for k in ("layer", "component", "metric", "source"))
        if metric not in ("energy", "area"):
            continue
        try:
            value = finite(row[at["value"]])
        except ValueError as error:
            raise InputError(f"{path}: row {line}: 'value' {error}") from None
        if metric == "area":
            area[component] = area.get(component, 0.0) + value
            continue
        constants[source] = constants.get(source, 0.0) + value
        if not layer:
            static[component] = static.get(component, 0.0) + value
    return static, area, constants


def _layer(row: Mapping[str, Any]) -> Layer:
    gemm = [row[k] for k in ("m", "n", "k", "groups")]
    return Layer(
        name=str(row["name"]),
        op=str(row["op"]),
        unit=str(row["unit"]),
        basis=str(row["basis"]),
        gemm=None if gemm[0] is None else (int(gemm[0]), int(gemm[1]), int(gemm[2]), int(gemm[3])),
        macs=finite(row["macs"]),
        compute_cycles=finite(row["compute_cycles"]),
        stall_cycles=finite(row["stall_cycles"]),
        latency_s=finite(row["latency_s"]),
        utilization=None if row["utilization"] is None else finite(row["utilization"]),
        mapping_efficiency=None if row["mapping_efficiency"] is None else finite(row["mapping_efficiency"]),
        dram_read_bytes=finite(row["dram_read_bytes"]),
        dram_write_bytes=finite(row["dram_write_bytes"]),
        lost=_map(row["utilization_lost"]),
        energy_pj=_map(row["energy_pj"]),
        reads=_map(row["reads"]),
        writes=_map(row["writes"]),
    )


def _accuracy(row: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if row is None:
        return None
    return {
        "metric": str(row["metric"]),
        "split": str(row["split"]),
        "interval": _pair(row["interval"]),
        **_numbers(row, ("float", "hardware", "samples")),
    }


def _coverage(row: Mapping[str, Any]) -> Mapping[str, Any]:
    shares = {k: None if row[k] is None else finite(row[k]) for k in ("macs_priced", "bytes_priced")}
    return {
        **shares,
        "unsupported": [dict(u) for u in row["unsupported"]],
        "notes": [str(n) for n in row["notes"]],
        "by_op": [dict(r) for r in row.get("by_op", [])],
    }


def finite(value: Any) -> float:
    """Return a finite number, or raise ValueError saying what came."""
    number = float(value)
    if not math.isfinite(number) or isinstance(value, bool):
        raise ValueError(f"must be a finite number, got {value!r}")
    return number


def _numbers(values: Mapping[str, Any], keys: Sequence[str]) -> dict[str, float | None]:
    return {k: None if values[k] is None and k in _MAY_BE_NULL else finite(values[k]) for k in keys}


def _map(values: Mapping[str, Any]) -> dict[str, float]:
    return {str(k): finite(v) for k, v in values.items()}


def _pair(values: Sequence[Any]) -> tuple[float, float]:
    low, high = values
    return finite(low), finite(high)


def _true_or_false(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"'complete' must be true or false, got {value!r}")
    return value
