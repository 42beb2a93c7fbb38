"""Where trials run: in this process, in worker processes beside it (`process_workers.py`) or on a cluster (`dask_workers.py`).

All of them take tasks and give each one back exactly once, in any order: the driver alone decides, writes and counts.
A task is a function of a module and one argument that can be sent to another process. Whatever the function raises
comes back as text. A worker that dies (kill -9, out of memory, a crash in compiled code) loses only its own task, which
is started again, at most `MOST_STARTS` times in all; so a task must be something that can be started again.
"""

import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import current_process
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, Protocol, TypeVar

from picojoule.sim.errors import InputError, one_sentence

T = TypeVar("T")
R = TypeVar("R")

MOST_STARTS = 3
"""A task that takes its worker with it is started this often; once could be bad luck on a full machine."""

ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
"""Environment of a worker: parallelism is over processes, and results must not depend on a thread count."""

WORKER_NAME = "picojoule-worker"
UNGUARDED_EXIT = 93
"""Exit code of a worker whose import of the user's script led back to a search; no signal and no Python exit code."""

GUARD_SENTENCE = (
    "a search with several jobs starts processes that import the calling script again, and this script would search "
    'in each of them: put the call under `if __name__ == "__main__":`'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """One finished task: its result, or the problem in one sentence (then the result is None)."""

    key: int
    result: Any = None
    problem: str | None = None


class Workers(Protocol):
    """A place where tasks run."""

    @property
    def slots(self) -> int:
        """Tasks worth having in flight, at least 1; may change while a study runs."""

    def submit(self, key: int, function: Callable[[T], R], task: T) -> None:
        """Have `function(task)` run; `key` names it in `finished` and must not be in flight already."""

    def finished(self, timeout_s: float | None) -> list[Done]:
        """Return finished tasks, each once, in any order; wait for at least one, or `timeout_s` seconds.

        Empty when the time is over or when nothing is in flight.

        Raises:
            InputError: if workers cannot do the work as they are set up.
            PicojouleError: if the place itself is lost; nothing that was returned before is.

        """

    def check_folder_visible(self, folder: Path) -> None:
        """Refuse workers that do not see `folder`, in which the driver has written a study.yaml, as the driver does."""

    def close(self, *, kill: bool = False) -> None:
        """End the workers; waits for running tasks and drops their results, or (`kill`) does not wait."""


def check_main_guard() -> None:
    """Refuse to search while a process that a search has started imports the user's script again.

    Call it before a search touches anything: each such process would otherwise do the same, and so on.

    Raises:
        InputError: saying where the call belongs. In our own workers the process ends instead, and the driver says so
            once instead of every worker.

    """
    if getattr(current_process(), "_inheriting", False):  # set by multiprocessing while it imports the main script
        if current_process().name.startswith(WORKER_NAME):
            os._exit(UNGUARDED_EXIT)
        raise InputError(GUARD_SENTENCE)


def problem_of(error: BaseException) -> str:
    """Return an exception's type and message as one sentence."""
    try:
        text = str(error)
    except Exception:
        text = "(its message cannot be shown)"
    name = type(error).__name__
    return one_sentence(f"{name}: {text}" if text else name)


def death_sentence(deaths: int) -> str:
    """Return the problem of a task that was given up."""
    return f"its worker died {deaths} times (out of memory?)"


def attempt(function: Callable[[T], R], task: T) -> tuple[R | None, str | None]:
    """Return the function's result, or None and the problem; only Ctrl-C passes."""
    try:
        return function(task), None
    except (Exception, SystemExit) as error:
        return None, problem_of(error)


def pack_call(function: Callable[[T], R], task: T) -> tuple[bytes, str | None]:
    """Return what a worker needs to run `function(task)`, or the problem why it cannot be sent.

    In the form in which processes of multiprocessing (and dask) talk to each other anyway; no file is ever read this way.
    """
    try:
        return bytes(ForkingPickler.dumps((function, task))), None
    except Exception as error:
        return b"", f"the task cannot be sent to a worker: {problem_of(error)}"


def run_packed(call: bytes) -> bytes:
    """Run what `pack_call` packed and return its outcome for `unpack_outcome`; never raises, but for Ctrl-C."""
    try:
        function, task = ForkingPickler.loads(call)
    except Exception as error:
        return bytes(ForkingPickler.dumps((None, f"the worker cannot read its task: {problem_of(error)}")))
    result, problem = attempt(function, task)
    try:
        return bytes(ForkingPickler.dumps((result, problem)))
    except Exception as error:
        problem = f"the result cannot be sent to the driver: {problem_of(error)}"
        return bytes(ForkingPickler.dumps((None, problem)))


def unpack_outcome(key: int, outcome: bytes) -> Done:
    """Return the finished task of a worker's bytes (our own worker's: this is no way to read a file)."""
    try:
        result, problem = ForkingPickler.loads(outcome)
    except Exception as error:
        return Done(key=key, problem=f"the driver cannot read the result: {problem_of(error)}")
    return Done(key=key, result=result, problem=problem)


class InlineWorkers:
    """Runs tasks in this process, one in each call of `finished`, so that Ctrl-C lands in the running task."""

    slots = 1

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, Callable[[Any], Any], Any]] = deque()

    def submit(self, key: int, function: Callable[[T], R], task: T) -> None:
        """Keep the task for `finished`."""
        self._waiting.append((key, function, task))

    def finished(self, timeout_s: float | None) -> list[Done]:
        """Run the next task to its end; the time limit does not interrupt it."""
        if not self._waiting:
            return []
        key, function, task = self._waiting.popleft()
        result, problem = attempt(function, task)
        return [Done(key=key, result=result, problem=problem)]

    def check_folder_visible(self, folder: Path) -> None:
        """Nothing to check: this process is the driver."""

    def close(self, *, kill: bool = False) -> None:
        """Drop what has not run."""
        self._waiting.clear()


def make_workers(jobs: int, scheduler: str | None) -> Workers:
    """Return the workers that a user asks for: `jobs` processes here, or those of a dask scheduler.

    Raises:
        InputError: on less than one job, on jobs together with a scheduler, or if the scheduler cannot be used.

    """
    check_main_guard()
    if jobs < 1:
        raise InputError(f"jobs must be 1 or more, got {jobs}")
    if scheduler is None:
        if jobs == 1:
            return InlineWorkers()
        from picojoule.studies.process_workers import ProcessWorkers

        return ProcessWorkers(jobs)
    if jobs > 1:
        raise InputError(f"jobs must stay 1 with a scheduler, whose workers set the pace, got {jobs}; leave it out")
    from picojoule.studies.dask_workers import DaskWorkers

    return DaskWorkers(scheduler)
