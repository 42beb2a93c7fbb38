"""Shares cases out among worker processes, survives their deaths, and counts what happened."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TESTS = Path(__file__).resolve().parent.parent
_CHUNK = 5000
"""Cases that one worker process runs at most: a fresh one now and then keeps memory comparable."""
Job = tuple[str, int, int]
Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What became of the cases of one reader."""

    tried: int
    outcomes: Counter[str]
    slowest: Row
    largest: Row


def reader_names() -> tuple[str, ...]:
    """Return the names of all readers."""
    from .readers import READERS

    return tuple(READERS)


def shared(total: int, names: Sequence[str] = ()) -> dict[str, int]:
    """Return how many of `total` cases each reader gets, by its share."""
    from .readers import READERS

    chosen = [READERS[n] for n in names] or [r for r in READERS.values() if r.share]
    whole = sum(r.share for r in chosen) or len(chosen)
    return {r.name: max(1, round(total * (r.share or 1) / whole)) for r in chosen}


def jobs_of(counts: dict[str, int]) -> list[list[Job]]:
    """Return lists of jobs, one list a worker: readers of a group together, long ones in pieces."""
    from .readers import READERS

    made: list[list[Job]] = []
    for group in dict.fromkeys(READERS[n].group for n in counts):
        current: list[Job] = []
        room = _CHUNK
        for name in (n for n in counts if READERS[n].group == group):
            first = 0
            while first < counts[name]:
                last = min(counts[name], first + room)
                current.append((name, first, last))
                room -= last - first
                first = last
                if room == 0:
                    made.append(current)
                    current, room = [], _CHUNK
        if current:
            made.append(current)
    return made


def run(
    lists: Iterable[Sequence[Job]], seed: int, *, processes: int, keep: Path | None, tell: Callable[[Row], None]
) -> None:
    """Run all jobs; `tell` gets every result as it comes (from threads, one at a time a worker)."""
    with ThreadPoolExecutor(processes) as pool:
        for done in [pool.submit(_work, list(jobs), seed, keep, tell) for jobs in lists]:
            done.result()


def _work(jobs: list[Job], seed: int, keep: Path | None, tell: Callable[[Row], None]) -> None:
    """Run one list in worker processes: when a case kills its process, the next one goes on behind it."""
    warmed = False
    while jobs:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            code, words = _one_worker(jobs, seed, Path(folder), keep, warmed, tell)
            if code == 0:
                return
            name, case, last = jobs[0]
            why = f"killed by {signal.Signals(-code).name}" if code < 0 else f"left with code {code}"
            row = {"reader": name, "case": case, "outcome": "PROBLEM", "problem": f"the process was {why}\n{words}"}
            tell({**row, "seconds": 0.0, "mebibytes": 0.0, "child_seconds": 0.0, "label": "", "message": ""})
            if keep and (Path(folder) / "case").is_dir():
                files = shutil.ignore_patterns("fifo")
                target = keep / f"{name}-{seed}-{case}"
                shutil.copytree(Path(folder) / "case", target, symlinks=True, ignore=files, dirs_exist_ok=True)
            jobs[0] = (name, case + 1, last)
            warmed = True
            while jobs and jobs[0][1] >= jobs[0][2]:
                jobs.pop(0)


def _one_worker(
    jobs: list[Job], seed: int, folder: Path, keep: Path | None, warmed: bool, tell: Callable[[Row], None]
) -> tuple[int, str]:
    """Run until the end or a death; `jobs` is left with what was not finished. Return the exit code and last words."""
    command = [sys.executable, "-m", "fuzz.worker", "--seed", str(seed), "--folder", str(folder)]
    command += ["--keep", str(keep.resolve())] if keep else []
    command += ["--no-warm-up"] if warmed else []
    command += [f"{n}:{a}:{b}" for n, a, b in jobs]
    environment = os.environ | {"PYTHONPATH": str(_TESTS), "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}
    with (folder / "stderr").open("w+b") as errors:
        worker = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, env=environment, cwd=folder, text=True
        )
        assert worker.stdout is not None
        for line in worker.stdout:
            row = json.loads(line)
            tell(row)
            if row["case"] < 0:
                continue
            name, _, last = jobs[0]
            assert row["reader"] == name
            jobs[0] = (name, row["case"] + 1, last)
            if jobs[0][1] >= last:
                jobs.pop(0)
        code = worker.wait()
        errors.seek(0)
        words = errors.read().decode(errors="replace")[-1500:]
    if code and not jobs:
        return 0, words
    return code, words


class Tally:
    """Collects results: counts by reader, and every problem."""

    def __init__(self) -> None:
        self.rows: dict[str, list[Row]] = defaultdict(list)
        self.problems: list[Row] = []
        self._outcomes: dict[str, Counter[str]] = defaultdict(Counter)
        self._slowest: dict[str, Row] = {}
        self._largest: dict[str, Row] = {}

    def add(self, row: Row) -> None:
        """Take one result."""
        name = row["reader"]
        if row["problem"]:
            self.problems.append(row)
        if row["outcome"] == "sound":
            return
        self._outcomes[name][row["outcome"]] += 1
        for kept, key in ((self._slowest, "seconds"), (self._largest, "mebibytes")):
            if name not in kept or row[key] > kept[name][key]:
                kept[name] = row

    def counts(self) -> dict[str, Counts]:
        """Return the counts by reader."""
        return {
            name: Counts(tried=found.total(), outcomes=found, slowest=self._slowest[name], largest=self._largest[name])
            for name, found in self._outcomes.items()
        }

    def table(self) -> list[Row]:
        """Return a row per reader and one for all."""
        rows = []
        for name, c in self.counts().items():
            rows.append({"reader": name, "tried": c.tried, **_columns(c.outcomes)})
            rows[-1] |= {
                "slowest s": c.slowest["seconds"],
                "case": c.slowest["case"],
                "largest MiB": c.largest["mebibytes"],
                "case ": c.largest["case"],
            }
        if rows:
            whole = sum((c.outcomes for c in self.counts().values()), Counter[str]())
            rows.append({"reader": "all", "tried": whole.total(), **_columns(whole)})
            rows[-1] |= {
                "slowest s": max(r["slowest s"] for r in rows[:-1]),
                "case": "",
                "largest MiB": max(r["largest MiB"] for r in rows[:-1]),
                "case ": "",
            }
        return rows


def _columns(outcomes: Counter[str]) -> Row:
    return {
        "ok": outcomes["ok"],
        "InputError": outcomes["InputError"],
        "Unsupported": outcomes["UnsupportedError"],
        "Infeasible": outcomes["InfeasibleError"],
        "PROBLEM": outcomes["PROBLEM"],
    }
