"""One study of `kill_studies`: sessions that are killed, the session that ends, and what is counted on the way."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from kill_studies_kinds import Kind
from kill_studies_processes import Cluster, ForkedSearch, Search, children_of, kill, processes_with
from kill_studies_records import Ends, differing, doubled_rows, ends_of, lost

_GRACE_S = 5.0
"""In which the workers of a killed driver must have ended."""
_POLL_S = 0.0005
_LOOK_S = 0.05
_HANGS_S = 300.0
"""A session that takes longer hangs; on a busy machine one of two seconds may take a minute."""


@dataclass(slots=True, kw_only=True)
class Tally:
    """What came of the kills of one kind."""

    kills: int = 0
    worker_kills: int = 0
    studies: int = 0
    acknowledged: int = 0
    lost: int = 0
    doubled: int = 0
    unequal: int = 0
    orphans: int = 0
    refused: int = 0
    hung: int = 0
    uninterrupted_s: float = 0.0
    longest_resume_s: float = 0.0
    """Of a session after the last kill, to the study's end."""
    longest_death_s: float = 0.0
    """From a driver's death, or the look that follows some deaths, to that of its last worker."""
    other_files: dict[str, int] = field(default_factory=dict)
    """Files besides the results that differ from the uninterrupted study's, with the number of studies."""
    problems: list[str] = field(default_factory=list)

    @property
    def faults(self) -> int:
        """How much was found that must not be."""
        return self.lost + self.doubled + self.unequal + self.orphans + self.refused + self.hung


@dataclass(slots=True, kw_only=True)
class Study:
    """One study from its first session to the comparison of its results."""

    kind: Kind
    out: Path
    whole: Path
    took_s: float
    start: Callable[[], Search | ForkedSearch]
    tally: Tally
    random: np.random.Generator
    cluster: Cluster | None
    database: Path | None
    ends: Ends = field(default_factory=lambda: Ends(said={}, doubled=0))
    tokens: list[str] = field(default_factory=list)

    def kill_and_resume(self, most: int) -> None:
        """Kill sessions (at most so many kills), let the last one end, and count what is wrong."""
        burst = self.random.random() < 0.3
        sessions = int(self.random.integers(4, 9)) if burst else int(self.random.integers(2, 7))
        finished = False
        while sessions and most > 0 and not finished:
            before = self.tally.kills + self.tally.worker_kills
            finished = self._session(self._moment(burst), workers=self.kind.workers)
            most -= self.tally.kills + self.tally.worker_kills - before
            sessions -= 1
        for _ in range(3):
            if finished:
                break
            start = time.monotonic()
            finished = self._session(None, workers=False)
            self.tally.longest_resume_s = max(self.tally.longest_resume_s, time.monotonic() - start)
        self._compare(finished)

    def _moment(self, burst: bool) -> Callable[[], bool]:
        """Return what tells that the moment of the next kill has come."""
        start, draw = time.monotonic(), self.random.random()
        if burst or draw < 0.4 or self.kind.database:
            after = start + self.random.uniform(0, self.took_s * (0.4 if burst else 0.9))
            return lambda: time.monotonic() > after
        late = self.random.uniform(0, 0.03)
        if draw < 0.7:
            journal = self.out / "journal.log"
            begun, whole = (
                path.stat().st_size if path.is_file() else 0 for path in (journal, self.whole / "journal.log")
            )
            size = begun + self.random.uniform(0, 1) * (whole - begun)
            return _later(lambda: journal.is_file() and journal.stat().st_size >= size, late)
        names = ("front", "trials.csv", "pareto.csv", "summary.json", "pareto.png", "hypervolume.png")
        path = self.out / names[int(self.random.integers(len(names)))]
        before = _stamp(path)
        return _later(lambda: _stamp(path) != before, late * 3)

    def _session(self, moment: Callable[[], bool] | None, *, workers: bool) -> bool:
        """Run a session until its end or the moment to kill it; return whether it ended well by itself."""
        search = self.start()
        self.tokens.append(search.token)
        if workers and moment is not None:
            for _ in range(int(self.random.integers(1, 3))):
                after = self.random.uniform(0, self.took_s * 0.3)
                if self._wait(search, _later(_seldom(lambda: bool(self._workers(search))), after)):
                    found = self._workers(search)
                    self.tally.worker_kills += bool(found) and kill(found[int(self.random.integers(len(found)))])
        if not self._wait(search, moment) or not search.kill():
            return self._ended(search)
        self.tally.kills += 1
        self._read_ends()
        if self.random.random() < 0.5:  # the others are resumed at once
            self._count_orphans()
        return False

    def _wait(self, search: Search | ForkedSearch, moment: Callable[[], bool] | None) -> bool:
        """Wait for a moment; False if the session ends before."""
        limit = time.monotonic() + _HANGS_S + 20 * self.took_s
        while search.ended() is None:
            if moment is not None and moment():
                return True
            if time.monotonic() > limit:
                self.tally.hung += 1
                self._note("a session did not end; it was killed")
                search.kill()
            time.sleep(_POLL_S if moment is not None else 0.01)
        return False

    def _ended(self, search: Search | ForkedSearch) -> bool:
        self._read_ends()
        if search.ended() == 0:
            return True
        if search.ended() != -9:
            self.tally.refused += 1
            self._note(f"exit code {search.ended()}: {search.said()[-600:].strip()}")
        return False

    def _workers(self, search: Search | ForkedSearch) -> list[int]:
        return self.cluster.workers() if self.cluster is not None else children_of(search.token)

    def _read_ends(self) -> None:
        """Compare what is on record with what was before."""
        now = ends_of(self.out, self.database)
        self._count("lost", lost(self.ends, now))
        self._count("doubled", max(0, now.doubled - self.ends.doubled))
        self.tally.acknowledged += len(now.said.keys() - self.ends.said.keys())
        self.ends = now

    def _compare(self, finished: bool) -> None:
        self._count_orphans()
        if not finished:
            self._count("hung", 1)
            return
        self._count("doubled", doubled_rows(self.out))
        results, others = differing(self.out, self.whole)
        self._count("unequal", int(bool(results)), ", ".join(results))
        for name in others:
            self.tally.other_files[name] = self.tally.other_files.get(name, 0) + 1

    def _count_orphans(self) -> None:
        """Wait until the processes of all sessions have ended; those of a server or a cluster live on."""
        start, tokens = time.monotonic(), self.tokens if self.kind.modules is None else []
        while left := [pid for token in tokens for pid in processes_with(token)]:
            if time.monotonic() - start > _GRACE_S:
                break
            time.sleep(0.02)
        self._count("orphans", sum(kill(pid) for pid in left))
        self.tally.longest_death_s = max(self.tally.longest_death_s, time.monotonic() - start)
        self.tokens.clear()

    def _count(self, what: str, number: int, more: str = "") -> None:
        if number:
            setattr(self.tally, what, getattr(self.tally, what) + number)
            self._note(f"{what} {number} {more}".rstrip())

    def _note(self, problem: str) -> None:
        self.tally.problems.append(f"{self.out}: {problem}")
        print(self.tally.problems[-1], file=sys.stderr, flush=True)


def _later(happened: Callable[[], bool], wait_s: float) -> Callable[[], bool]:
    """Return what tells that something happened some time ago."""
    since: list[float] = []

    def reached() -> bool:
        if not since and happened():
            since.append(time.monotonic())
        return bool(since) and time.monotonic() - since[0] >= wait_s

    return reached


def _seldom(happened: Callable[[], bool]) -> Callable[[], bool]:
    """Return a condition that is looked at only now and then, as looking takes time."""
    looked = [0.0]

    def reached() -> bool:
        if time.monotonic() - looked[0] < _LOOK_S:
            return False
        looked[0] = time.monotonic()
        return happened()

    return reached


def _stamp(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None
