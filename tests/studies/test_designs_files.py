"""Studies on disk: nothing - faults, kills, torn files - changes a byte of the result, and no other study is taken for it."""

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from picojoule.sim.errors import InputError
from picojoule.studies import designs_files
from picojoule.studies.designs_engine import run_designs
from picojoule.studies.designs_search import DesignProgress, DesignSearch

from .designs_example import CHOICES, NAMES, SPACE, Priced, files_of, run_and_write, same, study


@pytest.fixture(scope="module", autouse=True)
def no_flush() -> Iterator[None]:
    """What is not flushed is lost with the machine's power, which no test cuts; it takes most of the time here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


TRIALS = 90  # the last generation is cut, and so is the last chunk


@pytest.fixture(scope="module", params=["nsga2", "random", "grid"])
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[DesignSearch, Path]:
    """A study that was never stopped."""
    search, folder = study(sampler=request.param), tmp_path_factory.mktemp("finished")
    run_and_write(folder, search, TRIALS)
    return search, folder


def test_disk_and_memory_agree_and_a_finished_study_is_not_priced_again(finished: tuple[DesignSearch, Path]) -> None:
    search, folder = finished
    before = files_of(folder)

    def never(keys: Mapping[str, NDArray[Any]]) -> Priced:
        raise AssertionError("priced twice")

    assert same(run_designs(search, Priced, trials=TRIALS), run_designs(search, never, trials=TRIALS, folder=folder))
    assert files_of(folder) == before


class Fault(BaseException):
    """Stands for whatever ends a process."""


@contextmanager
def fault_at(step: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """End the process at a step of writing: before or after a flush or a rename, or in the middle of a line."""
    steps = [0]

    def reached() -> bool:
        steps[0] += 1
        return steps[0] == step

    def around(real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any) -> Any:
            if reached():
                raise Fault
            result = real(*args)
            if reached():
                raise Fault
            return result

        return wrapped

    real_append = designs_files._append

    def append(path: Path, line: bytes) -> None:
        if reached():
            with path.open("ab") as file:
                file.write(line[: len(line) // 2])
            raise Fault
        real_append(path, line)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", around(os.fsync))
        patch.setattr(Path, "replace", around(Path.replace))
        patch.setattr(designs_files, "_append", append)
        yield steps


def test_a_fault_at_every_step_of_writing_changes_nothing(
    finished: tuple[DesignSearch, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, reference = finished
    with fault_at(0, monkeypatch) as steps:
        run_and_write(tmp_path / "all", search, TRIALS)
    assert steps[0] > 40
    for step in range(1, steps[0] + 1, 1 if search.sampler == "nsga2" else 9):
        folder = tmp_path / str(step)
        saved, priced = [0], [0]

        def note(progress: DesignProgress, saved: list[int] = saved) -> None:
            saved.append(progress.saved)

        def price(keys: Mapping[str, NDArray[Any]], priced: list[int] = priced) -> Priced:
            priced[0] += len(keys[NAMES[0]])
            return Priced(keys)

        with fault_at(step, monkeypatch), pytest.raises(Fault):
            run_designs(search, Priced, trials=TRIALS, folder=folder, progress=note)
            run_and_write(folder, search, TRIALS)
        run_designs(search, price, trials=TRIALS, folder=folder)
        assert priced[0] <= TRIALS - saved[-1]  # what was reported is not priced again
        run_and_write(folder, search, TRIALS)
        assert files_of(folder) == files_of(reference), step


def _whole_lines(folder: Path) -> list[bytes]:
    path = folder / "journal.log"
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


def _damage(path: Path, draw: random.Random) -> None:
    data = path.read_bytes()
    kind = draw.randrange(4)
    if kind == 0:
        path.unlink()
    elif kind == 1:
        path.write_bytes(data[: draw.randrange(len(data))])
    elif kind == 2:
        place = draw.randrange(len(data))
        path.write_bytes(data[:place] + bytes([data[place] ^ (1 << draw.randrange(8))]) + data[place + 1 :])
    else:
        path.write_bytes(data + b"torn")


def test_torn_altered_and_missing_files_are_computed_again(finished: tuple[DesignSearch, Path], tmp_path: Path) -> None:
    search, reference = finished
    draw = random.Random(5)
    for case in range(25):
        folder = tmp_path / str(case)
        shutil.copytree(reference, folder)
        chunks = sorted((folder / "designs").iterdir())
        for path in draw.sample([*chunks, folder / "journal.log"], draw.randrange(1, 3)):
            _damage(path, draw)
        try:
            run_and_write(folder, search, TRIALS)
        except InputError as error:  # a bit of the first line flipped: it could be another study's
            assert "journal.log: " in str(error) and "give another --out folder" in str(error)
            assert _whole_lines(folder)[0] != _whole_lines(reference)[0]
        else:
            assert files_of(folder) == files_of(reference), case


def test_what_a_killed_process_left_half_written_is_removed(
    finished: tuple[DesignSearch, Path], tmp_path: Path
) -> None:
    search, reference = finished
    folder = tmp_path / "left"
    shutil.copytree(reference, folder)
    for name in (".journal.log.x1", ".trials.csv.x2", "designs/.000002.npz.x3"):
        (folder / name).write_text("torn")
    run_and_write(folder, search, TRIALS)
    assert files_of(folder) == files_of(reference)


@pytest.mark.parametrize("sampler", ["nsga2", "random", "grid"])
def test_growing_a_study_goes_on_and_keeps_the_first_trials(sampler: str, tmp_path: Path) -> None:
    search = study(sampler=sampler)
    for trials in (1, 33, 40, 111, 250, SPACE + 5):
        grown = run_and_write(tmp_path, search, trials)
        assert same(grown, run_designs(search, Priced, trials=trials))
    whole = run_designs(search, Priced, trials=SPACE)
    assert (grown.indices == whole.indices).all()
    assert same(run_designs(search, Priced, trials=33, folder=tmp_path), run_designs(search, Priced, trials=33))


def test_chunks_grow_with_the_study(tmp_path: Path) -> None:
    """At most a tenth of what is on disk, or 16 designs, is lost by a kill; and the files stay few."""
    seen: list[DesignProgress] = []
    run_designs(study(), Priced, trials=900, folder=tmp_path, progress=seen.append)
    designs = [json.loads(line)["designs"] for line in _whole_lines(tmp_path)[1:]]
    before = np.concatenate([[0], np.cumsum(designs)[:-1]])
    assert sum(designs) == 900
    assert designs[:-1] == np.maximum(16, before // 10)[:-1].tolist()
    assert {p.saved for p in seen[:-1]} == set(before[1:].tolist())
    assert all(p.done - p.saved < max(16, p.saved // 10) for p in seen[:-1])


def test_interrupt_keeps_what_was_saved(tmp_path: Path) -> None:
    search = study()

    def interrupted(progress: DesignProgress) -> None:
        if progress.done >= 70:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_designs(search, Priced, trials=TRIALS, folder=tmp_path, progress=interrupted)
    seen: list[DesignProgress] = []
    run_designs(search, Priced, trials=TRIALS, folder=tmp_path, progress=seen.append)
    assert seen[0].done > 64 and seen[0].saved >= 64


def test_full_disk_is_said_and_room_lets_it_go_on(
    finished: tuple[DesignSearch, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, reference = finished
    calls, real = itertools.count(), os.fsync

    def full(handle: int) -> None:
        if next(calls) >= 4:
            raise OSError(28, "No space left on device")
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(InputError) as error:
            run_and_write(tmp_path, search, TRIALS)
    assert str(error.value) == f"{tmp_path / 'journal.log'}: cannot write: No space left on device"
    run_and_write(tmp_path, search, TRIALS)
    assert files_of(tmp_path) == files_of(reference)


CHANGES: list[dict[str, Any]] = [
    {"seed": 4},
    {"population": 30},
    {"sampler": "random"},
    {"limits": {}},
    {"objectives": {"energy_pj": "max", "latency_s": "min"}},
    {"choices": (*CHOICES[:3], ("os", "ws"))},
    {"ordered": (False, True, True, False)},
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda c: next(iter(c)))
def test_another_search_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    run_designs(study(), Priced, trials=20, folder=tmp_path)
    before = files_of(tmp_path)
    with pytest.raises(
        InputError, match=r"journal\.log: belongs to another study \(search '\w+', asked is '\w+'\); undo"
    ):
        run_designs(study(**change), Priced, trials=20, folder=tmp_path)
    assert files_of(tmp_path) == before


def test_another_key_schema_or_kind_of_journal_is_refused(tmp_path: Path) -> None:
    run_designs(study(), Priced, trials=20, folder=tmp_path)
    journal = tmp_path / "journal.log"
    with pytest.raises(InputError) as error:
        run_designs(study(key="b"), Priced, trials=20, folder=tmp_path)
    assert str(error.value) == (
        f"{journal}: belongs to another study (key 'a', asked is 'b'); undo the change, or give another --out folder"
    )
    with pytest.raises(InputError) as error:
        run_designs(study(key="b" * 99), Priced, trials=20, folder=tmp_path)
    assert str(error.value) == (
        f"{journal}: belongs to another study (key differs); undo the change, or give another --out folder"
    )
    head, rest = journal.read_text().split("\n", 1)
    journal.write_text(json.dumps({**json.loads(head), "schema": 0}) + "\n" + rest)
    with pytest.raises(InputError) as error:
        run_designs(study(), Priced, trials=20, folder=tmp_path)
    assert str(error.value) == (
        f"{journal}: has schema 0, this version reads 1; finish the study with the version that began it, or give another "
        "--out folder"
    )
    journal.write_text('{"op_code": 0}\n')
    with pytest.raises(InputError) as error:
        run_designs(study(), Priced, trials=20, folder=tmp_path)
    assert str(error.value) == f"{journal}: not the journal of a search over hardware alone; give another --out folder"


def test_designs_that_do_not_follow_from_the_seed_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another numpy may draw other numbers: the second half of a generation would not fit the first."""
    run_designs(study(), Priced, trials=50, folder=tmp_path)
    real = np.random.default_rng
    monkeypatch.setattr(np.random, "default_rng", lambda seed: real([*seed, 1]))
    with pytest.raises(InputError, match="the designs after number 40 are not those that follow from the study's seed"):
        run_designs(study(), Priced, trials=60, folder=tmp_path)


# --- kill -9 ----------------------------------------------------------------------------------------------------------

CHILD = """
import importlib.util, sys, time
from pathlib import Path
spec = importlib.util.spec_from_file_location("designs_example", sys.argv[1])
tests = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tests)
def report(progress):
    print(progress.saved, flush=True)
    time.sleep(0.002)
tests.run_designs(tests.study(), tests.Priced, trials=600, folder=Path(sys.argv[2]), progress=report)
"""


def _killed(folder: Path, after_s: float) -> int:
    """Start the study in a process, kill it so long after its first sign of life, return what it reported as saved."""
    command = [sys.executable, "-c", CHILD, str(Path(__file__).with_name("designs_example.py")), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        said = [child.stdout.readline()]
        time.sleep(after_s)
        child.send_signal(signal.SIGKILL)
        said += child.stdout.readlines()
    return int([s for s in said if s.endswith("\n")][-1])


def _kill_often(folder: Path, kills: int, draw: random.Random) -> None:
    reached = 0
    for _ in range(kills):
        reported = _killed(folder, draw.uniform(0, 0.05))
        saved = sum(json.loads(line)["designs"] for line in _whole_lines(folder)[1:])
        assert saved >= reported > 0 and saved >= reached  # nothing lost
        reached = saved
        if reached == 600:
            break
    search = study()
    resumed = run_and_write(folder, search, 600)
    run_and_write(folder.with_name("straight"), search, 600)
    assert same(resumed, run_designs(search, Priced, trials=600))
    assert files_of(folder) == files_of(folder.with_name("straight"))


def test_kill_9_loses_nothing(tmp_path: Path) -> None:
    _kill_often(tmp_path / "killed", 2, random.Random(1))


@pytest.mark.full
def test_kill_9_a_hundred_times_loses_nothing(tmp_path: Path) -> None:
    draw = random.Random(2)
    for case in range(25):
        (tmp_path / str(case)).mkdir()
        _kill_often(tmp_path / str(case) / "killed", 4, draw)
