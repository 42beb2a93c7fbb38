"""What `kill_studies` reads from a study's folder: which trials have an end on record, and which files differ from others.

Read here with the standard library alone, so that a fault in the readers of the package cannot hide one in its writers.
"""

import csv
import hashlib
import json
import sqlite3
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULTS = ("trials.csv", "pareto.csv", "summary.json", "pareto.png")
_OWN = ("journal.log", "study.yaml", ".lock")
"""Differ between any two studies: names of processes, times, the database's place."""

_SET_ATTRIBUTE, _SET_STATE, _ENDED = 8, 6, (1, 3)
"""Optuna's journal: its operations, and the states complete and failed."""

_ENDED_ROWS = """
select number, state, datetime_complete,
    (select group_concat(objective || ' ' || value) from trial_values v where v.trial_id = t.trial_id),
    (select value_json from trial_user_attributes a where a.trial_id = t.trial_id and key = 'outcome')
from trials t where state in ('COMPLETE', 'FAIL')
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """Trials with an end on record: what is said of each, and how many ends are more than one trial's only one.

    What is said holds the time of the end: a trial that is forgotten and run again to the same values is lost all the same.
    """

    said: dict[int, str]
    doubled: int


def ends_of(folder: Path, database: Path | None) -> Ends:
    """Return the ends on record of a study of any kind; none if it has not begun."""
    if database is not None:
        return _of_database(database) if database.is_file() else Ends(said={}, doubled=0)
    journal = folder / "journal.log"
    data = journal.read_bytes() if journal.is_file() else b""
    lines = [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]  # the last may be half written
    if lines and "engine" in lines[0]:
        return _of_chunks(folder, lines[1:])
    return _of_journal(lines)


def _of_journal(lines: list[dict[str, Any]]) -> Ends:
    outcomes: dict[int, str] = {}
    said: dict[int, str] = {}
    times: Counter[int] = Counter()
    for line in lines:
        trial = line.get("trial_id", -1)
        if line["op_code"] == _SET_ATTRIBUTE and "outcome" in line["user_attr"]:
            outcomes[trial] = json.dumps(line)
        elif line["op_code"] == _SET_STATE and line["state"] in _ENDED:
            said[trial] = f"{json.dumps(line)} {outcomes[trial]}"
            times[trial] += 1
    return Ends(said=said, doubled=sum(n - 1 for n in times.values()))


def _of_chunks(folder: Path, lines: list[dict[str, Any]]) -> Ends:
    """Every design of a chunk is said to be the chunk's file: its digest, as it is and as it should be, and its time."""
    said: dict[int, str] = {}
    seen: Counter[int] = Counter()
    doubled = first = 0
    for line in lines:
        path = folder / "designs" / f"{line['chunk']:06d}.npz"
        file = (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns) if path.is_file() else None
        seen[line["chunk"]] += 1
        if seen[line["chunk"]] > 1:
            doubled += line["designs"]
        said |= dict.fromkeys(range(first, first + line["designs"]), f"{file} {line['sha256']}")
        first += line["designs"]
    return Ends(said=said, doubled=doubled)


def _of_database(database: Path) -> Ends:
    connection = sqlite3.connect(database, timeout=30)
    try:
        known = {row[0] for row in connection.execute("select name from sqlite_master where type = 'table'")}
        if not {"trials", "trial_values", "trial_user_attributes"} <= known:
            return Ends(said={}, doubled=0)  # killed while the tables were made
        rows = connection.execute(_ENDED_ROWS).fetchall()
        numbers = [row[0] for row in connection.execute("select number from trials")]
    finally:
        connection.close()
    return Ends(said={row[0]: repr(row[1:]) for row in rows}, doubled=len(numbers) - len(set(numbers)))


def lost(before: Ends, after: Ends) -> int:
    """Return how many trials whose end stood on record have none any more, or another."""
    return sum(after.said.get(number) != said for number, said in before.said.items())


def doubled_rows(folder: Path) -> int:
    """Return how many rows of trials.csv say again what trial they are."""
    with (folder / "trials.csv").open(newline="") as file:
        numbers = [row["number"] for row in csv.DictReader(file)]
    return len(numbers) - len(set(numbers))


def differing(folder: Path, whole: Path) -> tuple[list[str], list[str]]:
    """Return which results differ from an uninterrupted study's, and which other files do, are missing or are left over."""
    ours, theirs = _files(folder), _files(whole)
    names = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    return [n for n in names if n in RESULTS], [n for n in names if n not in RESULTS]


def _files(folder: Path) -> dict[str, str]:
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in _OWN)
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}
