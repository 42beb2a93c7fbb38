"""Processes that `kill_studies` starts and kills: searches, a server that forks them, a dask cluster.

A search over hardware alone is over sooner than Python has read its modules. So most of them are forked from a server that
has read them already: then a kill at a random moment meets the search, not the imports. Every process is told from all
others by a token in its environment, which its own children inherit, and is killed through a handle that cannot mean
another process.
"""

import contextlib
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

TOKEN = "PICOJOULE_KILL_STUDIES"
_MODULES = (
    "optuna.samplers",
    "optuna.storages.journal",
    "sqlalchemy.dialects.sqlite",
    "matplotlib.backends.backend_agg",
    "picojoule.cli",
    "picojoule.searching",
    "picojoule.fronts",
    "picojoule.figures",
    "picojoule.pareto",
    "picojoule.sim.report_plots",
    "picojoule.studies.driver",
    "picojoule.studies.designs_study",
    "picojoule.studies.workers",
)
_START_S = 60.0


class Search:
    """One `picojoule search` in a process of its own, with its error output in a file."""

    def __init__(self, arguments: Sequence[str], errors: Path) -> None:
        self.token, self._errors = uuid.uuid4().hex, errors
        with errors.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "picojoule", "search", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=file,
                env={**os.environ, TOKEN: self.token},
            )
        self.pid = self._process.pid

    def ended(self) -> int | None:
        """Return the exit code, None while it runs."""
        return self._process.poll()

    def kill(self) -> bool:
        """Kill it with signal 9; False if it had ended by itself."""
        if self._process.poll() is None:
            self._process.kill()
        return self._process.wait() == -signal.SIGKILL

    def said(self) -> str:
        """Return what it wrote to its error output."""
        return self._errors.read_text(errors="replace")


class Server:
    """Forks searches, one at a time, from a process that has imported what they need."""

    def __init__(self, *modules: str) -> None:
        self.token = uuid.uuid4().hex
        command = [sys.executable, str(Path(__file__).resolve()), *_MODULES, *modules]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, TOKEN: self.token}
        )
        self.tell("ready")

    def search(self, arguments: Sequence[str], errors: Path) -> "ForkedSearch":
        """Start a search; the one before must have ended."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([list(arguments), str(errors)]).encode() + b"\n")
        self._process.stdin.flush()
        return ForkedSearch(self, errors)

    def tell(self, what: str, wait_s: float = _START_S) -> int | None:
        """Return the number that the server says of `what`, None if it says nothing in time."""
        stream = self._process.stdout
        assert stream is not None
        if not select.select([stream], [], [], wait_s)[0]:
            return None
        word, number = (
            os.read(stream.fileno(), 1 << 10).decode().split()
        )  # lines come one by one: one at a time is asked
        assert word == what, f"{word} instead of {what}"
        return int(number)

    def close(self) -> None:
        """End the server."""
        self._process.kill()
        self._process.communicate()


class ForkedSearch:
    """A search that a server has forked; as `Search`."""

    def __init__(self, server: Server, errors: Path) -> None:
        self._server, self._errors = server, errors
        self.token = server.token
        pid = server.tell("pid")
        assert pid is not None, "the server does not answer"
        self.pid = pid
        self._code: int | None = None
        self._handle = os.pidfd_open(pid)  # the server waits for our word before it lets go of the process
        server._process.stdin.write(b"go\n")  # type: ignore[union-attr]
        server._process.stdin.flush()  # type: ignore[union-attr]

    def ended(self) -> int | None:
        """Return the exit code, None while it runs."""
        return self._wait(0.0)

    def kill(self) -> bool:
        """Kill it with signal 9; False if it had ended by itself."""
        if self._code is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)
        return self._wait(_START_S) == -signal.SIGKILL

    def said(self) -> str:
        """Return what it wrote to its error output."""
        return self._errors.read_text(errors="replace")

    def _wait(self, wait_s: float) -> int | None:
        if self._code is None:
            self._code = self._server.tell("ended", wait_s)
            if self._code is not None:
                os.close(self._handle)
        return self._code


def _serve(modules: Sequence[str]) -> None:
    """Import modules, then fork a search for each line of the standard input and say how it ended."""
    for name in modules:
        importlib.import_module(name)
    from picojoule.store import source_digest

    source_digest()
    _say("ready 0")
    for line in sys.stdin:
        arguments, errors = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become_search(arguments, errors)
        _say(f"pid {pid}")
        sys.stdin.readline()
        _say(f"ended {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}")


def _become_search(arguments: list[str], errors: str) -> None:
    """Run a search as the command line does, and end this process."""
    from picojoule.cli import main

    for number, name, flags in ((0, os.devnull, os.O_RDONLY), (1, os.devnull, os.O_WRONLY), (2, errors, os.O_WRONLY)):
        os.dup2(os.open(name, flags | (os.O_CREAT | os.O_TRUNC if number == 2 else 0), 0o644), number)
    sys.argv = ["picojoule", "search", *arguments]
    code: Any = 0
    try:
        main()
    except SystemExit as end:
        code = end.code
    finally:
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


def _say(line: str) -> None:
    os.write(1, line.encode() + b"\n")


class Cluster:
    """A dask scheduler and two workers of one thread each, which their nanny starts again when they die."""

    def __init__(self, folder: Path) -> None:
        self.token = uuid.uuid4().hex
        place, program = folder / "scheduler.json", str(Path(sys.executable).parent / "dask")
        environment = {**os.environ, TOKEN: self.token}
        self._processes = []
        for name, words in (
            ("scheduler", ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(place)]),
            ("worker", ["--scheduler-file", str(place), "--nworkers", "2", "--nthreads", "1", "--no-dashboard"]),
        ):
            options = [*words, *(["--host", "127.0.0.1", "--local-directory", str(folder)] if name == "worker" else [])]
            with (folder / f"{name}.log").open("wb") as log:
                self._processes.append(
                    subprocess.Popen([program, name, *options], stdout=log, stderr=log, env=environment)
                )
            _wait_for(place.is_file)
        self.address = str(json.loads(place.read_text())["address"])
        from distributed import Client

        self._client = Client(self.address, set_as_default=False, timeout=_START_S)
        self._client.wait_for_workers(2, timeout=_START_S)

    def workers(self) -> list[int]:
        """Return the processes of workers that have joined; one that is killed before takes its nanny with it."""
        found = self._client.run(os.getpid, on_error="return")
        return sorted(pid for pid in found.values() if isinstance(pid, int))

    def close(self) -> None:
        """End scheduler, nanny and workers."""
        self._client.close(timeout=2)
        for process in reversed(self._processes):
            process.kill()
            process.wait()
        for pid in processes_with(self.token):
            kill(pid)


def _wait_for(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + _START_S
    while not happened():
        if time.monotonic() > end:
            raise TimeoutError("a process does not start")
        time.sleep(0.02)


def processes_with(token: str) -> list[int]:
    """Return the living processes that were started with a token, in order of their ids."""
    mark, found = f"{TOKEN}={token}".encode(), []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return sorted(found)


def children_of(token: str) -> list[int]:
    """Return worker processes: those that multiprocessing has spawned, without its tracker of resources."""
    found = []
    for pid in processes_with(token):
        with contextlib.suppress(OSError):
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def kill(pid: int) -> bool:
    """Kill a process with signal 9; False if it had ended."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return True


if __name__ == "__main__":
    _serve(sys.argv[1:])
