"""Tasks for the tests of workers: functions of a module, so that other processes can import them."""

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any


def square(number: int) -> int:
    return number * number


def environment(_: object) -> dict[str, Any]:
    return {
        "threads": (os.environ.get("OMP_NUM_THREADS"), os.environ.get("NUMBA_NUM_THREADS")),
        "torch": "torch" in sys.modules,
        "interrupt": signal.getsignal(signal.SIGINT) == signal.SIG_IGN,
        "pid": os.getpid(),
    }


def failing(what: str) -> None:
    if what == "exit":
        sys.exit(3)
    if what == "message":
        raise MessageError
    raise ValueError(f"no {what}\nhere")


class MessageError(Exception):
    """An exception that cannot even say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no message either")


def unpicklable(_: object) -> Any:
    return threading.Lock()


class Breaks:
    """Travels to a worker and breaks on arrival."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (_refuse, ())


def _refuse() -> None:
    raise ValueError("broken on arrival")


def killing_arrival(_: object) -> Breaks:
    return Breaks()


def dying(given: tuple[Path, int]) -> str:
    """Die by kill -9 at the first `deaths` starts; each start leaves a marker."""
    folder, deaths = given
    starts = len(list(folder.iterdir()))
    (folder / str(starts)).touch(exist_ok=False)
    if starts < deaths:
        os.kill(os.getpid(), signal.SIGKILL)
    return f"start {starts + 1}"


def slow(given: tuple[Path, float]) -> str:
    """Mark the start and take a while; `folder` then holds one file a start, named after its process."""
    folder, seconds = given
    (folder / f"{os.getpid()}-{time.monotonic_ns()}").touch()
    time.sleep(seconds)
    return "slept"


def meeting(given: tuple[Path, int, int]) -> str:
    """Wait until `count` tasks have begun; each leaves a marker."""
    folder, own, count = given
    (folder / str(own)).touch()
    for _ in range(1200):
        if len(list(folder.iterdir())) == count:
            return "met"
        time.sleep(0.05)
    return "alone"


def finishing(given: tuple[Path, float]) -> None:
    slow(given)
    (given[0] / "written").touch()


def repeated(data: bytes) -> bytes:
    return data * 3


def timed(seconds: float) -> tuple[float, float]:
    """Return when the task began and ended."""
    begin = time.monotonic()
    time.sleep(seconds)
    return begin, time.monotonic()
