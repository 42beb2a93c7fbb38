"""Trials on a cluster: the workers of a dask scheduler that the user has started (extra `distributed`).

The scheduler starts a task again when its worker dies; results are taken once, whatever runs twice. dask counts deaths
for the scheduler as a whole, not by task, so connecting sets its limit to ours. A worker runs one task at a time,
whatever its threads (torch's random state belongs to the process), so `dask worker --nworkers N --nthreads 1` is the way
to use N cores. Nothing can stop a task that runs on a worker: after Ctrl-C it runs to its end there, and nobody listens;
so whatever a task writes must be written atomically, and the same bytes each time.

Workers must have this very picojoule and see the study's folder. Both are looked at when the study starts, and by every
task again, because workers come and go.
"""

import contextlib
import functools
import logging
import os
import queue
import re
import socket
import sys
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import picojoule
from picojoule.sim.errors import InputError, PicojouleError
from picojoule.store import source_digest
from picojoule.studies.workers import (
    MOST_STARTS,
    ONE_THREAD,
    Done,
    death_sentence,
    pack_call,
    problem_of,
    run_packed,
    unpack_outcome,
)

if TYPE_CHECKING:
    from distributed import Client, Future

T = TypeVar("T")
R = TypeVar("R")

CONNECT_S = 8.0
"""How long a scheduler may take to answer."""

STUDY_FILE = "study.yaml"

_LOOK_S = 1.0
"""Seconds between looks at who is in the cluster."""

_LONGEST_GREETING_BYTES = 1 << 20

_ADDRESS = re.compile(r"(tcp|tls)://(\[[0-9a-fA-F:.%]+\]|[\w.-]+):\d{1,5}")
_ONE_AT_A_TIME = threading.Lock()

_log = logging.getLogger("picojoule.studies")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Terms:
    """What a worker must share with the driver: package version, digest of its sources, the study's folder."""

    version: str
    digest: str
    folder: str | None = None


class DaskWorkers:
    """Runs tasks on the workers of the scheduler at `address` (`tcp://host:8786`); one slot a worker."""

    def __init__(self, address: str, *, connect_s: float = CONNECT_S) -> None:
        self._address = checked_address(address)
        self._client = _connected(self._address, connect_s)
        self._terms = _Terms(version=picojoule.__version__, digest=source_digest())
        self._name = f"picojoule-{uuid.uuid4().hex}"
        self._futures: dict[int, Future] = {}
        self._done: list[Done] = []
        self._ended: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._seen: frozenset[str] = frozenset()
        self._looked = -_LOOK_S
        self._lost = False
        try:
            self._limit_starts()
            if not self._look():
                _log.warning("the scheduler at %s has no workers yet; waiting for some to join", self._address)
        except BaseException:
            self.close(kill=True)
            raise

    @property
    def slots(self) -> int:
        """The cluster's workers at last sight, at least 1."""
        if time.monotonic() - self._looked >= _LOOK_S:
            self._look()
        return max(len(self._seen), 1)

    def submit(self, key: int, function: Callable[[T], R], task: T) -> None:
        """Hand the task to the scheduler."""
        packed, problem = pack_call(function, task)
        if problem is not None:
            self._done.append(Done(key=key, problem=problem))
            return
        with self._scheduler_needed():
            self._futures[key] = self._client.submit(
                _run_on_worker, self._terms, packed, key=f"{self._name}-{key}-{uuid.uuid4().hex}", pure=False
            )
            self._listen(key)

    def finished(self, timeout_s: float | None) -> list[Done]:
        """Return what has been finished; see `Workers`."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._done and self._futures:
            left = None if end is None else max(end - time.monotonic(), 0.0)
            try:
                keys = [self._ended.get(timeout=left)]
            except queue.Empty:
                break
            with contextlib.suppress(queue.Empty):
                while True:
                    keys.append(self._ended.get_nowait())
            self._collect(keys)
        done, self._done = self._done, []
        return done

    def check_folder_visible(self, folder: Path) -> None:
        """Refuse workers that do not see the driver's study file in `folder`, now and later ones; writes nothing.

        Raises:
            InputError: naming the worker.

        """
        self._terms = replace(self._terms, folder=str(folder.resolve()))
        self._seen = frozenset()
        self._look()

    def close(self, *, kill: bool = False) -> None:
        """Leave the cluster as it is; drop what has not begun, and (unless `kill`) wait for what runs."""
        with contextlib.suppress(Exception):  # nothing that goes wrong here can be helped or matters
            if not (kill or self._lost) and self._futures:
                from distributed import wait

                wait(list(self._futures.values()))
        self._futures.clear()  # the scheduler drops tasks that nobody wants any more
        self._done.clear()
        with contextlib.suppress(Exception):
            self._client.close(timeout=2)

    def _limit_starts(self) -> None:
        try:
            self._client.run_on_scheduler(_allow_deaths, MOST_STARTS - 1)
        except Exception as error:
            _log.info("the scheduler keeps its own limit of worker deaths by task: %s", problem_of(error))

    def _look(self) -> int:
        """See who is in the cluster and check those who are new; return how many there are."""
        with self._scheduler_needed():
            seen = frozenset(self._client.nthreads())
        new = sorted(seen - self._seen)
        if new:
            self._check(new)
        self._seen, self._looked = seen, time.monotonic()
        return len(seen)

    def _check(self, workers: list[str]) -> None:
        """Refuse workers without picojoule, with another one, or that cannot see the folder."""
        from importlib import metadata

        with self._scheduler_needed():
            # From the standard library first: what only picojoule has could not even be named on a worker without it.
            found = self._client.run(metadata.version, "picojoule", workers=workers, on_error="return")
            for worker, version in found.items():
                if isinstance(version, metadata.PackageNotFoundError):
                    raise InputError(
                        f"the dask worker {worker} has no picojoule; install version {self._terms.version} there"
                    )
                if isinstance(version, str) and version != self._terms.version:
                    raise InputError(
                        f"the dask worker {worker} has picojoule {version} and the driver {self._terms.version}; "
                        "install the same on both"
                    )
            objections = self._client.run(objection, self._terms, workers=workers, on_error="return")
        for worker, said in objections.items():
            if isinstance(said, OSError):  # it has left in between; its tasks are the scheduler's to place again
                _log.info("the dask worker %s has left: %s", worker, problem_of(said))
            elif isinstance(said, Exception):
                raise InputError(f"the dask worker {worker} cannot import this picojoule: {problem_of(said)}")
            elif said is not None:
                raise InputError(f"the dask worker {worker} {said}")

    def _collect(self, keys: list[int]) -> None:
        """Take the outcomes of ended tasks: bytes of a result, a refusal of the worker, or the scheduler's giving up."""
        good = {}
        for key in keys:
            future = self._futures.get(key)
            if future is None:
                continue
            if future.status == "finished":
                good[key] = future
            elif future.status == "error":
                del self._futures[key]
                self._done.append(Done(key=key, problem=_given_up(future)))
            elif future.status == "cancelled":  # which dask does when the scheduler is gone or was restarted
                raise self._scheduler_lost()
            else:  # its worker died with the result in hand, and the task runs again
                self._listen(key)
        if not good:
            return
        with self._scheduler_needed():
            outcomes = self._client.gather(good, errors="skip")
        for key, outcome in outcomes.items():
            if outcome is None:  # the same, and then the task was given up
                self._listen(key)
                continue
            del self._futures[key]
            refusal, packed = outcome
            if refusal is not None:
                raise InputError(f"the dask worker {refusal}")
            self._done.append(unpack_outcome(key, packed))

    def _listen(self, key: int) -> None:
        self._futures[key].add_done_callback(functools.partial(_tell, self._ended, key))

    @contextlib.contextmanager
    def _scheduler_needed(self) -> Iterator[None]:
        """Turn the many ways in which dask reports a lost scheduler into one sentence."""
        from asyncio import CancelledError as AsyncioCancelledError
        from concurrent.futures import CancelledError

        if self._lost:  # asking again would only wait for dask's own attempts to reconnect
            raise self._scheduler_lost()
        try:
            yield
        except PicojouleError:
            raise
        except (OSError, CancelledError, AsyncioCancelledError, RuntimeError, ValueError) as error:
            _log.info("talking to the scheduler failed: %s", problem_of(error))
            raise self._scheduler_lost() from None

    def _scheduler_lost(self) -> PicojouleError:
        self._lost = True
        return PicojouleError(
            f"lost the dask scheduler at {self._address}; finished trials are on disk: "
            "start the scheduler again and go on with --resume"
        )


def checked_address(address: str) -> str:
    """Return a scheduler's address.

    Raises:
        InputError: if it is not of the form `tcp://host:port` or `tls://host:port`.

    """
    if not _ADDRESS.fullmatch(address) or not 0 < int(address.rpartition(":")[2]) < 65536:
        raise InputError(f"scheduler must be an address like 'tcp://host:8786', got '{address}'")
    return address


def _connected(address: str, timeout_s: float) -> "Client":
    """Return a client of the scheduler; dask's warnings of unequal versions go to the log."""
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("dask", "distributed"):
            raise
        raise InputError(
            "a scheduler needs dask.distributed, which is not installed; pip install 'picojoule[distributed]'"
        ) from None
    try:
        _knock(address, timeout_s)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            client = Client(address, timeout=timeout_s, set_as_default=False, name="picojoule")
    except Exception as error:  # time-outs, refused connections, unknown hosts, something else that listens there
        _log.info("connecting to %s failed: %s", address, problem_of(error))
        raise InputError(
            f"no dask scheduler answers at {address}; start one with `dask scheduler` there, and workers with "
            f"`dask worker {address} --nthreads 1`"
        ) from None
    for warning in caught:
        _log.info("dask: %s", warning.message)
    return client


def _knock(address: str, timeout_s: float) -> None:
    """Wait until something that speaks like a dask scheduler listens; dask itself waits without end for its first word.

    Raises:
        OSError: if nobody listens, or something else does.

    """
    scheme, _, place = address.partition("://")
    host, _, port = place.rpartition(":")
    end = time.monotonic() + timeout_s
    while True:
        try:
            with socket.create_connection((host.strip("[]"), int(port)), max(end - time.monotonic(), 0.1)) as line:
                # A dask server speaks first: a length of 8 bytes. Under TLS the client does.
                length = line.recv(8, socket.MSG_WAITALL) if scheme == "tcp" else bytes(8)
            break
        except ConnectionRefusedError:  # it may just be starting
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
    if len(length) < 8 or int.from_bytes(length, "little") > _LONGEST_GREETING_BYTES:
        raise OSError("not a dask scheduler")


def _allow_deaths(deaths: int, dask_scheduler: Any = None) -> None:
    """On the scheduler: how many deaths of workers a task survives."""
    dask_scheduler.allowed_failures = deaths


def _tell(ended: "queue.SimpleQueue[int]", key: int, _future: object) -> None:
    ended.put(key)


def _given_up(future: "Future") -> str:
    from distributed import KilledWorker

    error = future.exception()
    if isinstance(error, KilledWorker):
        return death_sentence(error.allowed_failures + 1)
    return f"the dask worker could not run it: {problem_of(error)}"


def _run_on_worker(terms: _Terms, packed: bytes) -> tuple[str | None, bytes]:
    """On a worker: run a packed task, or say why this worker must not (naming itself)."""
    refused = _settled(terms)
    if refused is not None:
        return f"on {socket.gethostname()} {refused}", b""
    with _ONE_AT_A_TIME:
        if "torch" in sys.modules:  # where it is not, the environment is in time
            sys.modules["torch"].set_num_threads(1)
        return None, run_packed(packed)


@functools.lru_cache(maxsize=16)
def _settled(terms: _Terms) -> str | None:
    """On a worker, once a study: have one thread from now on; return the objection to working here, if any."""
    os.environ.update(ONE_THREAD)
    return objection(terms)


def objection(terms: _Terms) -> str | None:
    """On a worker: return why its results would not be the driver's, as the end of a sentence, or None."""
    own = picojoule.__version__, source_digest()
    if own != (terms.version, terms.digest):
        return (
            f"(host {socket.gethostname()}) has picojoule {own[0]} with sources {own[1][:12]} and the driver "
            f"{terms.version} with sources {terms.digest[:12]}; install the same on both"
        )
    if terms.folder is not None and not (Path(terms.folder) / STUDY_FILE).is_file():
        return (
            f"(host {socket.gethostname()}) does not see {terms.folder}/{STUDY_FILE}; "
            "put --out in a folder that all workers share"
        )
    return None
