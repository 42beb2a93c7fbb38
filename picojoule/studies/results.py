"""What a study found, as columns: written to trials.csv, pareto.csv and summary.json, and read back from there."""

import contextlib
import csv
import io
import json
import math
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from picojoule.studies.points import TrainedPoints, design_of, metric_words
from picojoule.studies.spec import StudySpec, parse_study

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

STUDY, TRIALS, PARETO, SUMMARY, FRONT = "study.yaml", "trials.csv", "pareto.csv", "summary.json", "front"
POINTS = "points.csv"
"""The trained points as they were when a study was begun."""
_LIMIT_BYTES = 1 << 30
_ROUNDING = 1e-9
"""Costs of one design may differ by so much, relatively: sums depend on what is priced together."""
_TEXT = ("state", "fidelity", "violated", "message")

Columns = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyResult:
    """A study's trials and its front.

    `columns` has an array per column of trials.csv, in order of number: metrics are float64 with NaN where a trial has none,
    `number` int64, `on_front` bool, all else objects. `front` holds the rows of pareto.csv, best first objective first.
    `accuracy_is` says what accuracy is where trained points give it, such as `val AP50, trained points`.
    """

    spec: StudySpec
    columns: Columns
    front: tuple[Mapping[str, Any], ...] = ()
    folder: Path | None = None
    accuracy_is: str = ""

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


def columns_of(
    spec: StudySpec,
    values: Sequence[Mapping[str, Any]],
    outcomes: Sequence[Mapping[str, Any]],
    points: TrainedPoints | None = None,
) -> Columns:
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
    columns["on_front"] = on_front(spec, columns, points)
    return columns


def on_front(spec: StudySpec, columns: Columns, points: TrainedPoints | None = None) -> NDArray[np.bool_]:
    """Return which trials nothing beats; of trials with the same parameters the first stands for all.

    So it does of trials that differ in arguments which mean nothing to their network, by its trained point, and cost the same.
    """
    kept: NDArray[np.bool_] = np.zeros(len(columns["number"]), dtype=np.bool_)
    able = np.flatnonzero(counting(columns))
    if not able.size:
        return kept
    costs = costs_of(spec, columns)
    seen: dict[tuple[tuple[str, str], ...], list[NDArray[np.float64]]] = {}
    for index in able[non_dominated(np.ascontiguousarray(costs[able]))]:
        same = seen.setdefault(design_of({key: columns[key][index] for key in spec.space}, points), [])
        kept[index] = not any(np.allclose(costs[index], cost, rtol=_ROUNDING, atol=0) for cost in same)
        same.append(costs[index])
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


def violated_text(spec: StudySpec, values: Mapping[str, float], *, costs_only: bool = False) -> str:
    """Return the violated limits, such as `area_mm2 7.1 > 5`; empty when all are kept. `costs_only` leaves out accuracy."""
    texts = []
    for metric, (low, high) in spec.limits.items():
        value = values.get(metric)
        if value is None or (costs_only and metric == "accuracy"):
            continue
        if high is not None and value > high:
            texts.append(f"{metric} {unlike(value, high)} > {high:.12g}")
        if low is not None and value < low:
            texts.append(f"{metric} {unlike(value, low)} < {low:.12g}")
    return "; ".join(texts)


def unlike(value: float, limit: float) -> str:
    """Return a value with six digits, or as many as tell it from the limit."""
    text = f"{value:.6g}"
    return repr(float(value)) if float(text) == limit else text


def failed_outcome(fidelity: str, message: str) -> dict[str, Any]:
    """Return the outcome of a trial that could not be run to its end."""
    return {"state": "failed", "fidelity": fidelity, "values": {}, "details": {}, "bill": {}, "message": message}


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
    columns = _read_trials(folder / TRIALS, spec)
    front = _read_front(folder, spec) if (folder / PARETO).is_file() else ()
    words = metric_words(folder / POINTS) if spec.points is not None else ""
    return StudyResult(spec=spec, columns=columns, front=front, folder=folder, accuracy_is=words)


def _read_trials(path: Path, spec: StudySpec) -> dict[str, NDArray[Any]]:
    """Return the columns of trials.csv, row by row: a million of them must not stand in memory as text."""
    wanted = ["number", "state", "fidelity", *spec.space, *spec.metrics, "violated", "on_front", "message"]
    if not path.is_file():
        raise InputError(
            f"{path}: is not there yet: the search was stopped before its first trials; go on with --resume"
        )
    rows = _rows(path)
    head = next(rows)
    if missing := [name for name in wanted if name not in head]:
        raise InputError(f"{path}: has no column '{missing[0]}', which study.yaml asks for; search again")
    readers = [(name, head.index(name), _reader(spec, name)) for name in wanted]
    kinds = {"number": "q", "on_front": "b"} | dict.fromkeys(spec.metrics, "d")
    found: dict[str, Any] = {name: array(kinds[name]) if name in kinds else [] for name in wanted}
    name = "number"
    try:
        for row in rows:
            for name, place, read in readers:
                found[name].append(read(row[place]))
    except InputError:
        raise
    except (ValueError, KeyError, OverflowError):
        raise InputError(f"{path}: column '{name}' is not as picojoule writes it (torn or edited?)") from None
    dtypes = {"number": np.int64, "on_front": np.bool_}
    return {n: np.array(v, dtype=dtypes.get(n, np.float64)) if n in kinds else objects(v) for n, v in found.items()}


def _reader(spec: StudySpec, name: str) -> Callable[[str], Any]:
    """Return what turns a cell of a column into its value."""
    if name == "number":
        return int
    if name == "on_front":
        return {"true": True, "false": False}.__getitem__
    if name in spec.metrics:
        return lambda text: math.nan if text == "" else _number(text)
    if name in _TEXT:
        known: dict[str, str] = {}
        return lambda text: known.setdefault(text, text)  # the same words in a million rows are one
    return _choice(spec, name)


def _choice(spec: StudySpec, key: str) -> Callable[[str], Any]:
    """Return what reads a parameter: the study's own values where they are written the same, else numbers."""
    given = spec.space[key]
    known: dict[str, Any] = {}
    if isinstance(given, tuple):
        known = {str(_plain(v)) if v is not None else "": v for v in given}

    def read(text: str) -> Any:
        return known[text] if text in known else _number(text)

    return read


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
    table = _rows(folder / PARETO)
    head = next(table)
    wanted = ["number", *spec.space, *spec.metrics, "knee"]
    if missing := [name for name in wanted if name not in head]:
        raise InputError(f"{folder / PARETO}: has no column '{missing[0]}', which study.yaml asks for; search again")
    rows = []
    for line in table:
        row: dict[str, Any] = {}
        for name, text in zip(head, line, strict=True):
            try:
                if name in spec.space:
                    row[name] = _choice(spec, name)(text)
                elif name == "knee":
                    row[name] = text == "true"
                elif name == "number":
                    row[name] = int(text)
                else:
                    row[name] = None if text == "" and name not in spec.objectives else _number(text)
            except ValueError:
                raise InputError(f"{folder / PARETO}: '{name}' must be a finite number, got {text!r}") from None
        rows.append(row)
    return tuple(rows)


def _rows(path: Path) -> Iterator[list[str]]:
    """Return the header and the rows of a table, all of the header's length."""
    try:
        text = read_bounded(path, _LIMIT_BYTES, "a table of a study").decode()
        table = csv.reader(io.StringIO(text, newline=""))
        head = next(table)
        yield head
        for number, row in enumerate(table, start=2):
            if len(row) != len(head):
                raise InputError(
                    f"{path}:{number}: has {len(row)} cells where the header has {len(head)}; the file is torn"
                )
            yield row
    except (UnicodeDecodeError, csv.Error):
        raise InputError(f"{path}: is no table of a study (torn or edited?)") from None


def remove_summary(folder: Path) -> None:
    """Remove summary.json, which says that a search is finished."""
    with contextlib.suppress(OSError):
        (folder / SUMMARY).unlink(missing_ok=True)


def write_summary(folder: Path, summary: Mapping[str, Any]) -> None:
    """Write summary.json."""
    write_atomic(folder / SUMMARY, json.dumps(dict(summary), indent=1, allow_nan=False) + "\n")
