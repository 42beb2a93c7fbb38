"""What a study found, as columns: written to trials.csv, pareto.csv and summary.json, and read back from there."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from picojoule.fronts import knee, non_dominated
from picojoule.sim.errors import InputError
from picojoule.sim.files import read_bounded, write_atomic
from picojoule.sim.report import rows_to_csv
from picojoule.sim.specs import read_yaml_mapping
from picojoule.studies.spec import StudySpec, parse_study

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

STUDY, TRIALS, PARETO, SUMMARY, FRONT = "study.yaml", "trials.csv", "pareto.csv", "summary.json", "front"
_LIMIT_BYTES = 1 << 30
_TEXT = ("state", "fidelity", "violated", "message")

Columns = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyResult:
    """A study's trials and its front.

    `columns` has an array per column of trials.csv, in order of number: metrics are float64 with NaN where a trial has none,
    `number` int64, `on_front` bool, all else objects. `front` holds the rows of pareto.csv, best first objective first.
    """

    spec: StudySpec
    columns: Columns
    front: tuple[Mapping[str, Any], ...] = ()
    folder: Path | None = None

    def __len__(self) -> int:
        return len(self.columns["number"])

    def costs(self) -> NDArray[np.float64]:
        """Return objectives [trials, objectives], all to be small (what is maximised is negated); NaN where a trial has none."""
        return costs_of(self.spec, self.columns)

    def counting(self) -> NDArray[np.bool_]:
        """Return which trials count for the front: complete, no mere proxy, within all limits."""
        return counting(self.columns)

    def rows(self) -> list[dict[str, Any]]:
        """Return the trials as rows."""
        names = list(self.columns)
        return [dict(zip(names, values, strict=True)) for values in zip(*self.columns.values(), strict=True)]

    def to_dataframe(self) -> "pandas.DataFrame":
        """Return the trials as a pandas DataFrame."""
        import pandas

        return pandas.DataFrame(dict(self.columns))

    def plot_front(self, axes: "Axes | None" = None, **options: Any) -> "Axes":
        """Draw the front; see `picojoule.figures.plot_front`."""
        from picojoule.figures import plot_front

        return plot_front(self, axes=axes, **options)

    def plot_hypervolume(self, axes: "Axes | None" = None) -> "Axes":
        """Draw the hypervolume after each trial; see `picojoule.figures.plot_hypervolume`."""
        from picojoule.figures import plot_hypervolume

        return plot_hypervolume(self, axes=axes)

    def plot_importance(self, objective: str | None = None, axes: "Axes | None" = None) -> "Axes":
        """Draw how much each parameter decides; see `picojoule.figures.plot_importance`."""
        from picojoule.figures import plot_importance

        return plot_importance(self, objective=objective, axes=axes)

    def save_report(self, path: str | Path) -> Path:
        """Write the study as one HTML page (needs the extra `report`); the study must be in a folder.

        Raises:
            InputError: for a study that is only in memory.

        """
        from picojoule.page import write_page

        if self.folder is None:
            raise InputError("a study that is only in memory has no report; give pj.search an `out` folder")
        write_page(self.folder, Path(path))
        return Path(path)


def costs_of(spec: StudySpec, columns: Columns) -> NDArray[np.float64]:
    """Return objectives [trials, objectives], all to be small."""
    return np.stack([sign * columns[name] for sign, name in zip(spec.signs, spec.objectives, strict=True)], axis=1)


def counting(columns: Columns) -> NDArray[np.bool_]:
    """Return which trials count for the front."""
    return np.asarray(
        (columns["state"] == "complete") & (columns["fidelity"] != "proxy") & (columns["violated"] == ""),
        dtype=np.bool_,
    )


def columns_of(spec: StudySpec, values: Sequence[Mapping[str, Any]], outcomes: Sequence[Mapping[str, Any]]) -> Columns:
    """Return the columns of trials.csv for trials numbered from 0: their parameters, and their outcomes."""
    columns: dict[str, NDArray[Any]] = {"number": np.arange(len(values), dtype=np.int64)}
    for name in ("state", "fidelity"):
        columns[name] = objects([o[name] for o in outcomes])
    for key in spec.space:
        columns[key] = objects([v[key] for v in values])
    for metric in spec.metrics:
        columns[metric] = np.array([o["values"].get(metric, math.nan) for o in outcomes], dtype=np.float64)
    columns["violated"] = objects([violated_text(spec, o["values"]) for o in outcomes])
    columns["on_front"] = np.zeros(len(values), dtype=np.bool_)
    columns["message"] = objects([o["message"] for o in outcomes])
    columns["on_front"] = on_front(spec, columns)
    return columns


def on_front(spec: StudySpec, columns: Columns) -> NDArray[np.bool_]:
    """Return which trials nothing beats; of trials with the same parameters the first stands for all."""
    kept: NDArray[np.bool_] = np.zeros(len(columns["number"]), dtype=np.bool_)
    able = np.flatnonzero(counting(columns))
    if not able.size:
        return kept
    costs = np.stack([c[able] for c in costs_of(spec, columns).T], axis=1)
    best = able[non_dominated(costs)]
    seen = set()
    for index in best:
        values = tuple(repr(columns[key][index]) for key in spec.space)
        kept[index] = values not in seen
        seen.add(values)
    return kept


def violations(spec: StudySpec, values: Mapping[str, float]) -> dict[str, float]:
    """Return by how much each limit is exceeded, relative to the limit (0 or less: kept)."""
    found = {}
    for metric, (low, high) in spec.limits.items():
        if metric not in values:
            continue
        sides = [(low - values[metric]) / (abs(low) or 1.0)] if low is not None else []
        sides += [(values[metric] - high) / (abs(high) or 1.0)] if high is not None else []
        found[metric] = max(sides)
    return found


def violated_text(spec: StudySpec, values: Mapping[str, float]) -> str:
    """Return the violated limits, such as `area_mm2 7.1 > 5`; empty when all are kept."""
    texts = []
    for metric, (low, high) in spec.limits.items():
        value = values.get(metric)
        if value is not None and high is not None and value > high:
            texts.append(f"{metric} {value:.6g} > {high:g}")
        if value is not None and low is not None and value < low:
            texts.append(f"{metric} {value:.6g} < {low:g}")
    return ", ".join(texts)


def front_rows(
    spec: StudySpec, columns: Columns, details: Mapping[int, Mapping[str, Any]], shares: Mapping[int, float]
) -> list[dict[str, Any]]:
    """Return the rows of pareto.csv, best first objective first: parameters, objectives, ranges, P(non-dominated), knee."""
    chosen = np.flatnonzero(columns["on_front"])
    costs = costs_of(spec, columns)[chosen]
    order = sorted(range(len(chosen)), key=lambda i: (*costs[i].tolist(), int(chosen[i])))
    bend = knee(costs) if len(chosen) else None
    rows = []
    for i in order:
        index = int(chosen[i])
        row: dict[str, Any] = {"number": int(columns["number"][index])}
        row |= {key: columns[key][index] for key in spec.space}
        row |= {metric: float(columns[metric][index]) for metric in spec.metrics}
        extra = details.get(row["number"], {})
        if spec.measures_accuracy:
            names = ("accuracy_low", "accuracy_high", "accuracy_test", "test_low", "test_high")
            row |= {name: extra.get(name) for name in names}
        row |= {name: extra.get(name) for name in ("energy_low", "energy_high")}
        row["p_non_dominated"] = shares.get(row["number"])
        row["knee"] = i == bend
        rows.append(row)
    return rows


def write_trials(folder: Path, columns: Columns) -> None:
    """Write trials.csv."""
    names = list(columns)
    rows = [
        {name: _plain(v) for name, v in zip(names, values, strict=True)}
        for values in zip(*(c.tolist() for c in columns.values()), strict=True)
    ]
    write_atomic(folder / TRIALS, rows_to_csv(rows) if rows else ",".join(names) + "\n")


def write_front(folder: Path, rows: Sequence[Mapping[str, Any]], spec: StudySpec) -> None:
    """Write pareto.csv; its header stands even when the front is empty."""
    head = ["number", *spec.space, *spec.metrics, "knee"]
    plain = [{k: _plain(v) for k, v in row.items()} for row in rows]
    write_atomic(folder / PARETO, rows_to_csv(plain) if plain else ",".join(head) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and math.isnan(value):
        return ""
    return value


def objects(values: Sequence[Any]) -> NDArray[Any]:
    """Return an array of the values as they are."""
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made


def read_study(folder: str | Path) -> StudyResult:
    """Return a study from its folder.

    Raises:
        InputError: if it is no study's folder, or a file in it is torn or does not fit the others.

    """
    folder = Path(folder)
    if not (folder / STUDY).is_file():
        raise InputError(f"{folder}: is no study (has no {STUDY}); give the folder that `picojoule search --out` wrote")
    spec = parse_study(read_yaml_mapping(folder / STUDY, "a study"), str(folder / STUDY))
    head, cells = _read_csv(folder / TRIALS)
    wanted = ["number", "state", "fidelity", *spec.space, *spec.metrics, "violated", "on_front", "message"]
    if missing := [name for name in wanted if name not in head]:
        raise InputError(f"{folder / TRIALS}: has no column '{missing[0]}', which study.yaml asks for; search again")
    columns: dict[str, NDArray[Any]] = {}
    try:
        for name in wanted:
            texts = [row[head.index(name)] for row in cells]
            if name == "number":
                columns[name] = np.array(texts, dtype=np.int64)
            elif name in spec.metrics:
                columns[name] = np.array([math.nan if t == "" else _number(t) for t in texts], dtype=np.float64)
            elif name == "on_front":
                columns[name] = np.array([{"true": True, "false": False}[t] for t in texts], dtype=np.bool_)
            else:
                columns[name] = objects(texts if name in _TEXT else _choices(spec, name, texts))
    except (ValueError, KeyError, IndexError):
        raise InputError(
            f"{folder / TRIALS}: column '{name}' is not as picojoule writes it (torn or edited?)"
        ) from None
    front = _read_front(folder, spec) if (folder / PARETO).is_file() else ()
    return StudyResult(spec=spec, columns=columns, front=front, folder=folder)


def _choices(spec: StudySpec, key: str, texts: Sequence[str]) -> list[Any]:
    """Return a parameter's values: the study's own where they are written the same, else numbers."""
    given = spec.space[key]
    known = {str(_plain(v)) if v is not None else "": v for v in given} if isinstance(given, tuple) else {}
    return [known[t] if t in known else _number(t) for t in texts]


def _number(text: str) -> int | float:
    """Return a finite number; a ValueError for all else."""
    try:
        return int(text)
    except ValueError:
        value = float(text)
        if not math.isfinite(value):
            raise ValueError(text) from None
        return value


def _read_front(folder: Path, spec: StudySpec) -> tuple[dict[str, Any], ...]:
    head, cells = _read_csv(folder / PARETO)
    rows = []
    for line in cells:
        row: dict[str, Any] = {}
        for name, text in zip(head, line, strict=True):
            try:
                if name in spec.space:
                    row[name] = _choices(spec, name, [text])[0]
                elif name == "knee":
                    row[name] = text == "true"
                else:
                    row[name] = None if text == "" else _number(text)
            except ValueError:
                raise InputError(f"{folder / PARETO}: '{name}' must be a finite number, got {text!r}") from None
        rows.append(row)
    return tuple(rows)


def _read_csv(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        text = read_bounded(path, _LIMIT_BYTES, "a table of a study").decode()
        table = list(csv.reader(io.StringIO(text, newline="")))
    except (UnicodeDecodeError, csv.Error):
        raise InputError(f"{path}: is no table of a study (torn or edited?)") from None
    head, cells = table[0], table[1:]
    for number, row in enumerate(cells, start=2):
        if len(row) != len(head):
            raise InputError(
                f"{path}:{number}: has {len(row)} cells where the header has {len(head)}; the file is torn"
            )
    return head, cells


def write_summary(folder: Path, summary: Mapping[str, Any]) -> None:
    """Write summary.json."""
    write_atomic(folder / SUMMARY, json.dumps(dict(summary), indent=1, allow_nan=False) + "\n")
