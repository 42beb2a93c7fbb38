"""trials.csv of a hardware-only study: a million rows in seconds, since each different choice and message is formatted once."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from picojoule.fronts import non_dominated
from picojoule.sim.files import replaced
from picojoule.studies.designs_search import COMPLETE, STATES, DesignColumns, DesignSearch
from picojoule.studies.results import objects, unlike

_BLOCK_ROWS = 50_000
_FRONT_BLOCK = 4_096
_BEFORE, _AFTER = ("number", "state", "fidelity"), ("violated", "on_front", "message")


def front_of(search: DesignSearch, columns: DesignColumns) -> NDArray[np.bool_]:
    """Return which designs [designs] are on the front: complete, within all limits, and dominated by no other such."""
    allowed = np.flatnonzero(search.violation(columns.values, columns.states) == 0)
    costs = search.costs(columns.values[allowed])
    left = np.arange(len(costs))
    while len(left) > _FRONT_BLOCK:  # most go in the first rounds, in blocks whose fronts are found fast
        blocks = [left[start : start + _FRONT_BLOCK] for start in range(0, len(left), _FRONT_BLOCK)]
        kept = np.concatenate([block[non_dominated(costs[block])] for block in blocks])
        if 2 * len(kept) > len(left):
            break
        left = kept
    front = np.zeros(len(columns.states), dtype=np.bool_)
    front[allowed[left[non_dominated(costs[left])]]] = True
    return front


def table_columns(search: DesignSearch, columns: DesignColumns, on_front: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
    """Return the columns of trials.csv as arrays [designs]: numbers as such with NaN where empty, texts as objects."""
    found: dict[str, NDArray[Any]] = {
        "number": np.arange(len(columns.states)),
        "state": objects(STATES)[columns.states],
        "fidelity": np.where(columns.states == COMPLETE, objects(["price"]), objects([""])),
    }
    for place, (name, choices) in enumerate(zip(search.names, search.choices, strict=True)):
        numbers = all(isinstance(c, int | float) and not isinstance(c, bool) for c in choices)
        values = np.asarray(choices, dtype=np.float64) if numbers else objects(choices)
        found[name] = values[columns.indices[:, place]]
    for place, metric in enumerate(search.metrics):
        found[metric] = columns.values[:, place]
    found["violated"] = objects(_violated(search, columns, slice(None)))
    found["on_front"] = on_front
    found["message"] = objects(columns.messages)[columns.message_codes]
    return found


def write_trials_csv(path: Path, search: DesignSearch, columns: DesignColumns, on_front: NDArray[np.bool_]) -> None:
    """Write one row per design, in order of their numbers; floats as the shortest text that reads back as the same.

    Raises:
        InputError: if the file cannot be written; an older one stays whole.

    """
    for left in path.parent.glob(f".{path.name}.*"):  # of a process that was killed while it wrote
        left.unlink(missing_ok=True)
    header = ",".join(_cells([*_BEFORE, *search.names, *search.metrics, *_AFTER]))
    with replaced(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        file.write(header + "\n")
        for text in _blocks(search, columns, on_front):
            file.write(text)


def _blocks(search: DesignSearch, columns: DesignColumns, on_front: NDArray[np.bool_]) -> Iterator[str]:
    """Give the rows as text, many at a time."""
    states, fidelities = objects(STATES), objects(["price" if s == COMPLETE else "" for s in range(len(STATES))])
    choices = [objects(_cells(c)) for c in search.choices]
    messages, truths = objects(_cells(columns.messages)), objects(["false", "true"])
    for start in range(0, len(columns.states), _BLOCK_ROWS):
        at = slice(start, min(start + _BLOCK_ROWS, len(columns.states)))
        state = columns.states[at]
        cells: list[Sequence[str]] = [list(map(str, range(at.start, at.stop)))]
        cells += [states[state].tolist(), fidelities[state].tolist()]
        cells += [texts[columns.indices[at, place]].tolist() for place, texts in enumerate(choices)]
        cells += [_numbers(columns.values[at, place]) for place in range(len(search.metrics))]
        cells.append(_violated(search, columns, at))
        cells += [truths[on_front[at].astype(np.int8)].tolist(), messages[columns.message_codes[at]].tolist()]
        yield "".join([",".join(row) + "\n" for row in zip(*cells, strict=True)])


def _numbers(values: NDArray[np.float64]) -> list[str]:
    """Return floats as text, empty for NaN."""
    texts = list(map(repr, values.tolist()))
    for place in np.flatnonzero(np.isnan(values)).tolist():
        texts[place] = ""
    return texts


def _violated(search: DesignSearch, columns: DesignColumns, at: slice) -> list[str]:
    """Return the limits each design misses, such as `area_mm2 7.1 > 5`, joined by semicolons."""
    texts = [""] * len(columns.states[at])
    for metric, (low, high) in search.limits.items():
        values = columns.values[at, search.metrics.index(metric)]
        missed = [] if low is None else [(p, "<", low) for p in np.flatnonzero(values < low).tolist()]
        missed += [] if high is None else [(p, ">", high) for p in np.flatnonzero(values > high).tolist()]
        for place, sign, limit in missed:
            text = f"{metric} {unlike(values[place], limit)} {sign} {limit:.12g}"
            texts[place] = f"{texts[place]}; {text}" if texts[place] else text
    return texts


def _cells(values: Sequence[Any]) -> list[str]:
    """Return values as CSV cells; texts that a spreadsheet would take for formulas get an apostrophe, as in our reports."""
    return [_cell(value) for value in values]


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        value = value.replace("\r", " ")
        value = "'" + value if value[:1] in ("=", "+", "-", "@", "\t") else value
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(["" if value is None else value])
    text = out.getvalue()
    return "" if text == '""' else text
