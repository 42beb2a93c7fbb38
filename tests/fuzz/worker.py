"""Runs cases one after another under limits of time and memory, and writes a line of JSON for each.

A case may take `SECONDS` of CPU time (a signal then stops it; if it does not listen, a second one ends the process) and
`BYTES` beyond what the process already holds (`RLIMIT_AS`). Beside the outcome, four things are looked at: whether code in a
specimen ran, whether a process was started or the network used, whether a file outside the case's folder was opened that
should not be, and what the error message looks like.
"""

import argparse
import contextlib
import gc
import json
import os
import random
import resource
import shutil
import signal
import sys
import time
import traceback
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .mutate_onnx import SECRET
from .mutate_text import MARKER
from .pricing import STEM
from .readers import READERS, Reader, odd_path, specimen

SECONDS = 2.0
BYTES = 1 << 30
_HARD_SECONDS, _WALL_SECONDS = 8.0, 90.0
_LONGEST_MESSAGE = 2000
_FORBIDDEN_EVENTS = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "subprocess.Popen",
    "socket.connect",
    "ctypes.dlopen",
    "webbrowser.open",
)
_PROBE = "picojoule.sim.importers.onnx_probe_run"
_CHILD_SECONDS = 10.0
"""The one process that may be started runs an ONNX file, under limits of its own, to learn shapes: at most two runs."""


class Overtime(BaseException):
    """The case used up its CPU time; a BaseException, so that no reader takes it for a torn file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of one case; `problem` is empty where all is well."""

    reader: str
    case: int
    outcome: str
    problem: str
    seconds: float
    mebibytes: float
    child_seconds: float
    label: str
    message: str


class Watch:
    """An audit hook that remembers what no reader may do; it looks only while a case is read."""

    def __init__(self) -> None:
        self.active = False
        self.seen: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.active:
            return
        if event in _FORBIDDEN_EVENTS and not (event == "subprocess.Popen" and _PROBE in arguments[1]):
            self.seen.append(event)
        elif event == "open" and isinstance(arguments[0], str | bytes):
            path = os.fsdecode(arguments[0])
            if path.endswith((SECRET, "/etc/passwd")):
                self.seen.append(f"opened {path}")


def _overtime(signum: int, frame: Any) -> None:
    raise Overtime


def _pages(position: int) -> int:
    """Return a field of /proc/self/statm in bytes: 0 the address space, 1 what is resident."""
    return int(Path("/proc/self/statm").read_text().split()[position]) * resource.getpagesize()


def _peak_bytes() -> int:
    """Return the largest resident size since `_reset_peak`."""
    text = Path("/proc/self/status").read_text()
    return int(text.split("VmHWM:")[1].split()[0]) * 1024


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def make(reader: Reader, seed: int, case: int, folder: Path) -> str:
    """Write the specimen of one case into a new folder; the same for the same (seed, reader, case)."""
    rng = random.Random(f"{seed}/{reader.name}/{case}")
    label = reader.write(rng, folder)
    return odd_path(rng, reader.name, folder) if rng.random() < 0.005 else label


def run_case(reader: Reader, seed: int, case: int, folder: Path, watch: Watch) -> Result:
    """Make one specimen, let it be read, and judge what happened."""
    _fresh(folder)
    label = make(reader, seed, case, folder)
    return attempt(reader, case, label, folder, watch)


def _fresh(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder.parent / SECRET).write_bytes(bytes(1 << 12))
    os.chdir(folder)


def attempt(reader: Reader, case: int, label: str, folder: Path, watch: Watch) -> Result:
    """Let the specimen in `folder` be read under limits."""
    path = specimen(reader.name, folder)
    before = _pages(1)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_pages(0) + BYTES, hard))
    watch.seen.clear()
    watch.active = True
    loaded = False
    outcome, problem, message = "ok", "", ""
    signal.setitimer(signal.ITIMER_VIRTUAL, _HARD_SECONDS)
    signal.setitimer(signal.ITIMER_REAL, _WALL_SECONDS)
    _reset_peak()
    children = _children()
    start = time.process_time()
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        made = reader.load(path)
        loaded = True
        reader.use(made)
    except Overtime:
        problem = f"more than {SECONDS:g} s of CPU time\n{traceback.format_exc(limit=-6)}"
    except BaseException as error:  # whatever it is, it is the result
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))  # writing it down needs memory too
        outcome, message, problem = _judged(error, "" if loaded else STEM)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        seconds = time.process_time() - start
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        watch.active = False
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    mebibytes = max(0, _peak_bytes() - before) / 2**20
    child_seconds = _children() - children
    made = None
    if not problem and seconds > SECONDS:
        problem = f"{seconds:.1f} s of CPU time"
    if not problem and mebibytes > BYTES / 2**20:
        problem = f"{mebibytes:.0f} MiB"
    if not problem and child_seconds > _CHILD_SECONDS:
        problem = f"{child_seconds:.1f} s of CPU time in a process of its own"
    ran = [p for p in (folder / MARKER, folder / STEM / MARKER) if p.exists()]
    if ran or watch.seen:
        problem = f"code ran: {ran}" if ran else f"did what no reader may: {', '.join(watch.seen)}"
    return Result(
        reader=reader.name,
        case=case,
        outcome="PROBLEM" if problem else outcome,
        problem=problem,
        seconds=round(seconds, 4),
        mebibytes=round(mebibytes, 1),
        child_seconds=round(child_seconds, 2),
        label=label,
        message=message,
    )


def _judged(error: BaseException, speaks_of: str) -> tuple[str, str, str]:
    """Return (type, message, what is wrong with it)."""
    from picojoule.sim.errors import InfeasibleError, InputError, PicojouleError, UnsupportedError

    name, text = type(error).__name__, str(error)
    if not isinstance(error, InputError | UnsupportedError | InfeasibleError):
        kind = "a bare PicojouleError" if isinstance(error, PicojouleError) else f"{name} escaped"
        return name, text[:500], f"{kind}: {text[:300]}\n{''.join(traceback.format_exception(error, limit=-6))}"
    rules = {
        "is empty": not text.strip(),
        "has several lines": len(text.splitlines()) > 1,
        "holds control characters": not text.isprintable(),
        "shows a traceback": "Traceback" in text,
        f"has {len(text)} characters": len(text) > _LONGEST_MESSAGE,
        f"does not name the file ({speaks_of})": speaks_of not in text,
    }
    broken = [rule for rule, holds in rules.items() if holds]
    return name, text[:500], f"the message {' and '.join(broken)}: {text[:300]!r}" if broken else ""


def warm_up(reader: Reader, folder: Path, watch: Watch) -> list[Result]:
    """Read the sound files first: it loads what is loaded late, and shows that the campaign starts from readable files."""
    found = []
    for attempt_number in range(2):  # the first time pays for imports
        found = []
        number = 0
        while True:
            _fresh(folder)
            if not reader.sound(number, folder):
                break
            path = specimen(reader.name, folder)
            if attempt_number == 0:
                _quietly(reader, path)
            else:
                made = attempt(reader, -1 - number, "sound", folder, watch)
                found.append(made)
            number += 1
    return found


def _quietly(reader: Reader, path: Path) -> None:
    from picojoule.sim.errors import PicojouleError

    with contextlib.suppress(PicojouleError):  # said again, and judged, in the second round
        reader.use(reader.load(path))


def _silence() -> Any:
    """Return the real stdout; what libraries print goes nowhere."""
    kept = os.fdopen(os.dup(1), "w", buffering=1)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    return kept


def main() -> None:
    """Run `reader:first:last` for each argument."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--no-warm-up", action="store_true")
    parser.add_argument("jobs", nargs="+")
    given = parser.parse_args()
    out = _silence()
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", RuntimeWarning)  # numpy's overflows: a number would be silently wrong
    signal.signal(signal.SIGPROF, _overtime)
    for number in (signal.SIGVTALRM, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    watch = Watch()
    folder = given.folder / "case"
    warmed: set[str] = set()
    for job in given.jobs:
        name, first, last = job.split(":")
        reader = READERS[name]
        results = [] if name in warmed else warm_up(reader, folder, watch)
        warmed.add(name)
        for result in () if given.no_warm_up else results:
            bad = result.outcome not in ("ok", "UnsupportedError")
            problem = result.problem or (f"a sound file is refused: {result.message}" if bad else "")
            out.write(json.dumps({**asdict(result), "problem": problem, "outcome": "sound"}) + "\n")
        for case in range(int(first), int(last)):
            result = run_case(reader, given.seed, case, folder, watch)
            out.write(json.dumps(asdict(result)) + "\n")
            if result.problem and given.keep:
                _keep(given.keep / f"{name}-{given.seed}-{case}", folder, result)
            if case % 200 == 0:
                gc.collect()
    os.chdir("/")


def _keep(target: Path, folder: Path, result: Result) -> None:
    shutil.rmtree(target, ignore_errors=True)
    try:
        shutil.copytree(folder, target, symlinks=True, ignore=shutil.ignore_patterns("fifo"))
    except (shutil.Error, OSError):  # names that no file system takes
        target.mkdir(parents=True, exist_ok=True)
    (target / "problem.json").write_text(json.dumps(asdict(result), indent=1))


if __name__ == "__main__":
    main()
