"""Trials in processes of this machine.

The processes are our own, one pipe each, because the standard ProcessPoolExecutor gives up the whole pool when one
process dies: every running trial would have to start again, and which one killed its process could not be told.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TypeVar

from picojoule.sim.errors import InputError, PicojouleError
from picojoule.studies.workers import (
    GUARD_SENTENCE,
    MOST_STARTS,
    ONE_THREAD,
    UNGUARDED_EXIT,
    WORKER_NAME,
    Done,
    check_main_guard,
    death_sentence,
    pack_call,
    run_packed,
    unpack_outcome,
)

T = TypeVar("T")
R = TypeVar("R")

_READY = b"ready"


@dataclass(slots=True)
class _Call:
    """A task on its way: the bytes that a worker runs, and how often one has begun."""

    key: int
    packed: bytes
    starts: int = 0


@dataclass(slots=True, eq=False)
class _Worker:
    """One process and our end of its pipe. `ready` once it has said so; `call` is what it runs."""

    process: SpawnProcess
    pipe: Connection
    ready: bool = False
    call: _Call | None = None


class ProcessWorkers:
    """Runs tasks in up to `jobs` processes of this machine, each with one thread; Ctrl-C is the driver's alone.

    Processes start when there is work for them (start method spawn: about a second each, as they import the calling
    script) and end with the driver, however it ends.
    """

    def __init__(self, jobs: int) -> None:
        check_main_guard()
        if jobs < 1:
            raise InputError(f"jobs must be 1 or more, got {jobs}")
        self.slots = jobs
        self._context = get_context("spawn")
        self._workers: list[_Worker] = []
        self._waiting: deque[_Call] = deque()
        self._done: list[Done] = []
        self._started = 0
        self._early_deaths = 0

    def submit(self, key: int, function: Callable[[T], R], task: T) -> None:
        """Give the task to a free worker, or keep it for the next one."""
        packed, problem = pack_call(function, task)
        if problem is not None:
            self._done.append(Done(key=key, problem=problem))
            return
        self._waiting.append(_Call(key, packed))
        self._hand_out()

    def finished(self, timeout_s: float | None) -> list[Done]:
        """Return what workers have finished; see `Workers`."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            self._hand_out()
            if self._done or not (self._waiting or any(w.call for w in self._workers)):
                done, self._done = self._done, []
                return done
            left = None if end is None else max(end - time.monotonic(), 0.0)
            signs = {sign: w for w in self._workers for sign in (w.pipe, w.process.sentinel)}
            heard = connection.wait(list(signs), left)
            if not heard and left == 0.0:
                return []
            for worker in dict.fromkeys(signs[sign] for sign in heard):  # type: ignore[index]
                self._hear(worker)

    def check_folder_visible(self, folder: Path) -> None:
        """Nothing to check: the workers are on this machine."""

    def close(self, *, kill: bool = False) -> None:
        """End all processes; with `kill` at once, else after the task that each is running."""
        self._waiting.clear()
        if not kill:
            while any(w.call for w in self._workers):
                self._done.clear()
                self.finished(None)
                self._waiting.clear()  # a task whose worker has died meanwhile
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            self._bury(worker)
        self._workers.clear()
        self._done.clear()

    def _hand_out(self) -> None:
        """Give waiting tasks to ready workers, and start processes while there are fewer of them than work."""
        for worker in list(self._workers):
            if not self._waiting:
                return
            if worker.ready and worker.call is None:
                worker.call = self._waiting.popleft()
                worker.call.starts += 1
                try:
                    worker.pipe.send_bytes(worker.call.packed)
                except OSError:  # dead; it counts as a start, as reading the task may be what kills
                    self._lost(worker)
        starting = sum(not w.ready for w in self._workers)
        for _ in range(min(len(self._waiting) - starting, self.slots - len(self._workers))):
            self._workers.append(self._start())

    def _start(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        self._started += 1
        process = self._context.Process(
            target=_serve, args=(theirs,), name=f"{WORKER_NAME}-{self._started}", daemon=True
        )
        with _environment(ONE_THREAD), _interrupts_blocked(), _importable_main():
            process.start()
        theirs.close()  # the worker's end must be the only one, or its death would not be heard
        return _Worker(process, ours)

    def _hear(self, worker: _Worker) -> None:
        """Take a worker's message, or its death; what it said before it died counts."""
        try:
            said = worker.pipe.recv_bytes() if worker.pipe.poll() else None
        except (EOFError, OSError):
            said = None
        if said is None:
            self._lost(worker)
        elif worker.call is None:
            worker.ready, self._early_deaths = True, 0
        else:
            self._done.append(unpack_outcome(worker.call.key, said))
            worker.call = None

    def _lost(self, worker: _Worker) -> None:
        """Bury a dead worker; its task goes first in the queue, or is given up."""
        self._workers.remove(worker)
        self._bury(worker)
        call = worker.call
        if call is not None and call.starts >= MOST_STARTS:
            self._done.append(Done(key=call.key, problem=death_sentence(call.starts)))
        elif call is not None:
            self._waiting.appendleft(call)
        elif not worker.ready:
            self._early_deaths += 1
            if worker.process.exitcode == UNGUARDED_EXIT:
                self.close(kill=True)
                raise InputError(GUARD_SENTENCE)
            if self._early_deaths >= MOST_STARTS:
                self.close(kill=True)
                raise PicojouleError(
                    f"worker processes end before they begin (exit code {worker.process.exitcode}, "
                    f"{self._early_deaths} in a row); the calling script must be importable, or use one job"
                )

    @staticmethod
    def _bury(worker: _Worker) -> None:
        worker.pipe.close()
        worker.process.kill()  # a worker that closed its pipe without dying can do nothing any more
        worker.process.join()


def _serve(pipe: Connection) -> None:
    """Run tasks until the driver closes the pipe; the body of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group, and the driver decides
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_die_with_the_driver, name="driver-watch", daemon=True).start()
    with contextlib.suppress(EOFError, OSError):
        pipe.send_bytes(_READY)
        while True:
            pipe.send_bytes(run_packed(pipe.recv_bytes()))


def _die_with_the_driver() -> None:
    """End this process at once when the driver is gone, in the middle of a task too."""
    driver = parent_process()
    assert driver is not None, "a worker has been spawned"
    connection.wait([driver.sentinel])
    os._exit(1)


@contextlib.contextmanager
def _environment(added: dict[str, str]) -> Iterator[None]:
    """Have variables set for processes started inside; restored afterwards."""
    before = {name: os.environ.get(name) for name in added}
    os.environ.update(added)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Have processes started inside ignore Ctrl-C from their first instruction on; ours waits until the end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _importable_main() -> Iterator[None]:
    """Have processes started inside not look for a main script that is no file: a program read from standard input."""
    main = sys.modules["__main__"]
    name = getattr(main, "__file__", None)
    if name is None or Path(name).exists():
        yield
        return
    del main.__file__
    try:
        yield
    finally:
        main.__file__ = name
