"""Points of accuracy against one cost, read from runs, CSV tables and studies."""

import csv
import io
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from picojoule.comparison import marked, short_names
from picojoule.sim.errors import InputError, nearest
from picojoule.sim.files import read_bounded

if TYPE_CHECKING:
    from picojoule.studies.results import StudyResult

_LIMIT_BYTES = 32 << 20
_LIMIT_POINTS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """Points {run, target, split, accuracy, x}; `split` says on which data accuracy was measured, where one source tells.

    `left_out` says in words which rows are no points.
    """

    points: list[dict[str, Any]]
    left_out: tuple[str, ...] = ()


def is_study(path: Path) -> bool:
    """Return whether a path is the folder of a study."""
    return (path / "study.yaml").is_file()


def open_study(path: Path) -> "StudyResult":
    """Return a study that has something on its front; raises why not."""
    from picojoule.figures_trials import why_empty
    from picojoule.studies.results import read_study

    result = read_study(path)
    if (reason := why_empty(result)) is not None:
        raise reason
    return result


def gather(sources: Sequence[Path], x: str) -> Gathered:
    """Return the points of runs (report.json), CSV tables such as the demo's, and studies, in the order given.

    Studies alone give all trials that count, with the accuracy on validation data that the search saw. Beside runs or tables,
    whose accuracy is that of test data, they give their front with its test accuracy.

    Raises:
        InputError: for a missing or torn file, an unknown total, a run without accuracy, or accuracy of different data.

    """
    alone = all(is_study(path) for path in sources)
    points: list[dict[str, Any]] = []
    left_out = []
    names = short_names([path.parent if path.suffix == ".csv" else path for path in sources])
    for path, name in zip(sources, names, strict=True):
        table = path if path.suffix == ".csv" else path / "results.csv"
        if table == path or table.is_file():
            found, skipped = _from_table(table, x, name)
            points.extend(found)
            if skipped:
                left_out.append(f"{table}: {skipped} rows do not count (not complete, proxies or outside a limit)")
        elif is_study(path):
            result = open_study(path)
            points.extend(_from_trials(result, path, x, name) if alone else _from_front(result, path, x, name))
        else:
            points.append(_from_report(path, x, name))
    if not points:
        given = ", ".join(str(p) for p in sources) or "nothing was given"
        raise InputError(
            f"no points to compare ({given}); give folders made with `evaluate --accuracy --out`, or a CSV of results"
        )
    _check_splits(points)
    if any(p["split"] for p in points):
        return Gathered(points=points, left_out=tuple(left_out))
    return Gathered(points=[{k: v for k, v in p.items() if k != "split"} for p in points], left_out=tuple(left_out))


def _check_splits(points: Sequence[Mapping[str, Any]]) -> None:
    first = {str(p["split"]): p["run"] for p in reversed(points) if p["split"]}
    if len(first) > 1:
        told = ", ".join(f"{split} ({run})" for split, run in first.items())
        raise InputError(
            f"accuracy was measured on different data: {told}; compare points of one kind, such as the runs in STUDY/front"
        )


def _point(run: str, target: str, split: str | None, accuracy: float, cost: tuple[str, float]) -> dict[str, Any]:
    return {"run": run, "target": target, "split": split, "accuracy": accuracy, cost[0]: cost[1]}


def _from_report(folder: Path, x: str, run: str) -> dict[str, Any]:
    path = folder / "report.json" if folder.is_dir() or not folder.suffix else folder
    if path != folder and not path.exists():
        what = "holds neither report.json nor study.yaml" if folder.is_dir() else "no such file or folder"
        raise InputError(f"{folder}: {what}; give the folder of a run or of a study, or a CSV table of results")
    try:
        document = json.loads(read_bounded(path, _LIMIT_BYTES, "a report.json of `evaluate --out`"))
        totals, accuracy, target = dict(document["totals"]), document["accuracy"], str(document["hardware"]["name"])
        reached = None if accuracy is None else _number(dict(accuracy), "hardware", f"{path}: accuracy")
        split = None if accuracy is None else dict(accuracy).get("split")
        run = marked(run, complete=bool(document["complete"]))
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InputError(f"{path}: not a report of picojoule (torn or edited?); run `evaluate --out` again") from None
    if reached is None:
        raise InputError(f"{path}: holds no accuracy; run `evaluate` with --accuracy --data")
    return _point(run, target, None if split is None else str(split), reached, (x, _number(totals, x, str(path))))


def _from_trials(result: "StudyResult", path: Path, x: str, name: str) -> list[dict[str, Any]]:
    """Return the trials that were fully measured and are within the limits, with accuracy on validation data."""
    from picojoule.figures_trials import numeric_column, sort_trials, target_of

    rows = np.flatnonzero(sort_trials(result).counted)
    if len(rows) > _LIMIT_POINTS:
        raise InputError(f"{path}: holds more than {_LIMIT_POINTS} points; give its pareto.csv")
    columns = (result.columns["number"], numeric_column(result, "accuracy"), numeric_column(result, x))
    points = []
    for number, accuracy, cost in zip(*(column[rows].tolist() for column in columns), strict=True):
        values, where = {"accuracy": accuracy, x: cost}, f"{path}: trial {number}"
        reached, spent = (_number(values, key, where) for key in ("accuracy", x))
        split = result.accuracy_is or "val"
        points.append(_point(f"{name}/{number:05d}", target_of(result), split, reached, (x, spent)))
    return points


def _from_front(result: "StudyResult", path: Path, x: str, name: str) -> list[dict[str, Any]]:
    """Return the points of pareto.csv with accuracy on test data, as runs have it."""
    from picojoule.figures_trials import target_of

    if "accuracy" not in result.columns:
        raise InputError(
            f"{path}: the study does not measure accuracy; give it alone, or with studies of the same objectives"
        )
    if not result.front or any(row.get("accuracy_test") is None for row in result.front):
        raise InputError(
            f"{path}: its front has no accuracy on test data yet, which runs and tables have; finish it with "
            "`picojoule search --resume`, or give studies alone"
        )
    points = []
    for row in result.front:
        where = f"{path}/pareto.csv: trial {row['number']}"
        reached, spent = _number(row, "accuracy_test", where), (x, _number(row, x, where))
        split = "test of trained points" if result.accuracy_is else "test"
        points.append(_point(f"{name}/{int(row['number']):05d}", target_of(result), split, reached, spent))
    return points


def _from_table(path: Path, x: str, folder: str) -> tuple[list[dict[str, Any]], int]:
    """Return the points of a CSV table and how many rows are none, as trials.csv tells them apart."""
    try:
        text = read_bounded(path, _LIMIT_BYTES, "a CSV table of results").decode()
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text; expected a CSV table of results") from None
    table = csv.DictReader(io.StringIO(text, newline=""))
    try:
        rows = [(table.line_num, row) for row in itertools.islice(table, _LIMIT_POINTS + 1)]
    except csv.Error as error:
        raise InputError(f"{path}:{table.line_num}: not a CSV table of results ({error})") from None
    if len(rows) > _LIMIT_POINTS:
        raise InputError(f"{path}: holds more than {_LIMIT_POINTS} points; give a part of them")
    target = _target_beside(path)
    points = []
    for line, row in rows:
        if row.get("state", "complete") != "complete" or row.get("fidelity") == "proxy" or row.get("violated"):
            continue
        where = f"{path}:{line}"
        key, split = _accuracy_of(row, in_study=target is not None)
        spent = (x, _number(row, x, where))
        name = row.get("variant") or row.get("run") or _numbered(row, folder) or f"line {line}"
        points.append(_point(name, row.get("target") or target or "", split, _number(row, key, where), spent))
    return points, len(rows) - len(points)


def _accuracy_of(row: Mapping[str, Any], *, in_study: bool) -> tuple[str, str | None]:
    """Return the column of accuracy in a row, and on which data it was measured if the table tells."""
    if "accuracy_hardware" in row:
        return "accuracy_hardware", row.get("split") or None
    if row.get("accuracy_test"):
        return "accuracy_test", "test"
    searched = in_study or {"number", "state", "fidelity"} <= set(row) or "accuracy_test" in row
    return "accuracy", row.get("split") or ("val" if searched else None)


def _numbered(row: Mapping[str, Any], folder: str) -> str | None:
    """Return the name of a trial in a study's table, as its run in front/ is called."""
    number = row.get("number") or ""
    return f"{row.get('study') or folder}/{int(number):05d}" if number.isdecimal() and len(number) < 19 else None


def _target_beside(table: Path) -> str | None:
    """Return the hardware of the study in whose folder a table lies; None where there is no study."""
    if table.name not in ("trials.csv", "pareto.csv") or not is_study(table.parent):
        return None
    from picojoule.figures_trials import hardware_name
    from picojoule.sim.specs import read_yaml_mapping
    from picojoule.studies.spec import parse_study

    path = table.parent / "study.yaml"
    return hardware_name(parse_study(read_yaml_mapping(path, "a study"), str(path)).hardware)


def _number(values: Mapping[str, Any], key: str, where: str) -> float:
    if key not in values:
        raise InputError(f"{where}: has no '{key}'{nearest(key, [str(k) for k in values])}")
    try:
        number = float(values[key])
    except (TypeError, ValueError):
        raise InputError(f"{where}: '{key}' must be a number, got {values[key]!r}") from None
    if not np.isfinite(number):
        raise InputError(f"{where}: '{key}' must be finite, got {number}")
    return number
