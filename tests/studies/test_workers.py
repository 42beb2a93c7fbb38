"""What every place where trials run promises, and what is special about processes."""

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from picojoule.sim.errors import InputError
from picojoule.studies.process_workers import ProcessWorkers
from picojoule.studies.workers import Done, InlineWorkers, Workers, make_workers

KINDS = ("inline", "processes", "dask")
OTHER_PROCESSES = ("processes", "dask")


@pytest.fixture(scope="module")
def tasks() -> Iterator[ModuleType]:
    """Tasks in a module that workers can import too: they are given this process's search path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        yield importlib.import_module("worker_tasks")


@pytest.fixture(scope="module")
def places(tasks: ModuleType) -> Iterator[Callable[[str], Workers]]:
    """One of each kind for the whole file, made when first asked for: processes take a second to start."""
    made: dict[str, Workers] = {}
    with contextlib.ExitStack() as stack:

        def place(kind: str) -> Workers:
            if kind not in made:
                if kind == "dask":
                    from picojoule.studies.dask_workers import DaskWorkers

                    distributed = pytest.importorskip("distributed", reason="needs the extra 'distributed'")
                    cluster = stack.enter_context(
                        distributed.LocalCluster(
                            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=":0"
                        )
                    )
                    made[kind] = DaskWorkers(cluster.scheduler_address)
                else:
                    made[kind] = InlineWorkers() if kind == "inline" else ProcessWorkers(2)
                stack.callback(made[kind].close, kill=True)
            return made[kind]

        yield place


@pytest.fixture(params=KINDS)
def workers(request: pytest.FixtureRequest, places: Callable[[str], Workers]) -> Workers:
    return places(request.param)


@pytest.fixture(params=OTHER_PROCESSES)
def others(request: pytest.FixtureRequest, places: Callable[[str], Workers]) -> Workers:
    return places(request.param)


def all_of(workers: Workers, count: int) -> dict[int, Done]:
    """Return `count` finished tasks by key, after checking that each came once and no more come."""
    found: list[Done] = []
    while len(found) < count:
        part = workers.finished(120.0)
        assert part, f"only {len(found)} of {count} tasks came back"
        found += part
    assert workers.finished(0.0) == []
    assert len({d.key for d in found}) == len(found) == count
    return {d.key: d for d in found}


class TestEveryPlace:
    def test_nothing_in_flight_does_not_wait(self, workers: Workers) -> None:
        assert workers.finished(None) == []

    def test_each_task_comes_back_once_with_its_own_result(self, workers: Workers, tasks: ModuleType) -> None:
        for key in range(20):
            workers.submit(key, tasks.square, key)
        assert {k: d.result for k, d in all_of(workers, 20).items()} == {k: k * k for k in range(20)}

    def test_results_larger_than_a_pipe_come_back(self, workers: Workers, tasks: ModuleType) -> None:
        workers.submit(7, tasks.repeated, b"x" * 300_000)
        assert all_of(workers, 1)[7].result == b"x" * 900_000

    def test_slots(self, workers: Workers) -> None:
        assert workers.slots == (1 if isinstance(workers, InlineWorkers) else 2)

    def test_exceptions_come_back_as_a_sentence(self, workers: Workers, tasks: ModuleType) -> None:
        for key, what in enumerate(("luck", "exit", "message")):
            workers.submit(key, tasks.failing, what)
        found = all_of(workers, 3)
        assert [found[k].problem for k in range(3)] == [
            "ValueError: no luck here",
            "SystemExit: 3",
            "MessageError: (its message cannot be shown)",
        ]
        assert all(d.result is None for d in found.values())

    def test_a_key_may_be_used_again(self, workers: Workers, tasks: ModuleType) -> None:
        for number in (2, 3):
            workers.submit(0, tasks.square, number)
            assert all_of(workers, 1)[0].result == number**2


class TestOtherProcesses:
    def test_what_cannot_travel_is_a_problem_of_its_task_only(self, others: Workers, tasks: ModuleType) -> None:
        others.submit(0, tasks.square, 5)
        others.submit(1, lambda x: x, 0)
        others.submit(2, tasks.square, tasks.Breaks())
        others.submit(3, tasks.unpicklable, 0)
        others.submit(4, tasks.killing_arrival, 0)
        found = all_of(others, 5)
        assert found[0].result == 25
        starts = [
            "the task cannot be sent to a worker: ",
            "the worker cannot read its task: ValueError: broken on arrival",
            "the result cannot be sent to the driver: TypeError: cannot pickle '_thread.lock' object",
            "the driver cannot read the result: ValueError: broken on arrival",
        ]
        assert all(str(found[k + 1].problem).startswith(start) for k, start in enumerate(starts))

    def test_workers_have_one_thread_and_import_nothing_heavy(self, others: Workers, tasks: ModuleType) -> None:
        before = dict(os.environ)
        others.submit(0, tasks.environment, 0)
        found = all_of(others, 1)[0].result
        assert found["threads"] == ("1", "1")
        assert not found["torch"]
        assert found["pid"] != os.getpid()
        assert dict(os.environ) == before

    def test_tasks_run_side_by_side(self, others: Workers, tasks: ModuleType, tmp_path: Path) -> None:
        for key in range(2):  # each waits until both have begun
            others.submit(key, tasks.meeting, (tmp_path, key, 2))
        assert {d.result for d in all_of(others, 2).values()} == {"met"}

    def test_a_worker_death_costs_its_own_task_a_second_start(
        self, others: Workers, tasks: ModuleType, tmp_path: Path
    ) -> None:
        (tmp_path / "dying").mkdir()
        (tmp_path / "slow").mkdir()
        others.submit(0, tasks.slow, (tmp_path / "slow", 1.0))
        others.submit(1, tasks.dying, (tmp_path / "dying", 1))
        found = all_of(others, 2)
        assert (found[0].result, found[1].result) == ("slept", "start 2")
        assert len(list((tmp_path / "slow").iterdir())) == 1  # the other running task did not start again

    def test_a_task_that_always_kills_is_given_up(self, others: Workers, tasks: ModuleType, tmp_path: Path) -> None:
        others.submit(4, tasks.dying, (tmp_path, 100))
        assert all_of(others, 1)[4] == Done(key=4, problem="its worker died 3 times (out of memory?)")
        assert len(list(tmp_path.iterdir())) == 3
        others.submit(5, tasks.square, 3)  # and the place goes on
        assert all_of(others, 1)[5].result == 9

    def test_waiting_has_an_end(self, others: Workers, tasks: ModuleType, tmp_path: Path) -> None:
        others.submit(0, tasks.slow, (tmp_path, 0.5))
        assert others.finished(0.01) == []
        assert all_of(others, 1)[0].result == "slept"


class TestInline:
    def test_one_task_a_call_in_order(self, tasks: ModuleType) -> None:
        workers = InlineWorkers()
        for key in range(3):
            workers.submit(key, tasks.square, key)
        assert [workers.finished(None) for _ in range(4)] == [[Done(key=k, result=k * k)] for k in range(3)] + [[]]

    def test_interrupts_pass(self) -> None:
        def interrupted(_: object) -> None:
            raise KeyboardInterrupt

        workers = InlineWorkers()
        workers.submit(0, interrupted, 0)
        with pytest.raises(KeyboardInterrupt):
            workers.finished(None)


class TestProcesses:
    def test_ctrl_c_is_not_for_workers(self, places: Callable[[str], Workers], tasks: ModuleType) -> None:
        workers = places("processes")
        workers.submit(0, tasks.environment, 0)
        assert all_of(workers, 1)[0].result["interrupt"]

    def test_closing_kills_or_waits(self, tasks: ModuleType, tmp_path: Path) -> None:
        workers = ProcessWorkers(1)
        workers.submit(0, tasks.slow, (tmp_path, 60.0))
        pid = started_pid(tmp_path, workers)
        workers.close(kill=True)  # would take a minute if it waited
        assert not alive(pid)
        assert workers.finished(None) == []

        patient = ProcessWorkers(1)
        (tmp_path / "patient").mkdir()
        patient.submit(0, tasks.finishing, (tmp_path / "patient", 0.3))
        started_pid(tmp_path / "patient", patient)
        patient.close()
        assert (tmp_path / "patient" / "written").is_file()

    @pytest.mark.parametrize("when", ["idle", "running"])
    def test_no_worker_outlives_its_driver(self, when: str, tmp_path: Path) -> None:
        code = f"""
            import sys, time
            from pathlib import Path
            sys.path.insert(0, {str(Path(__file__).parent)!r})
            import worker_tasks
            from picojoule.studies.process_workers import ProcessWorkers
            if __name__ == "__main__":
                workers = ProcessWorkers(1)
                workers.submit(0, worker_tasks.slow, (Path({str(tmp_path)!r}), {60.0 if when == "running" else 0.0}))
                workers.finished(None)
                time.sleep(60)
        """
        script = tmp_path.parent / f"{tmp_path.name}.py"
        script.write_text(textwrap.dedent(code))
        with subprocess.Popen([sys.executable, script]) as driver:
            pid = started_pid(tmp_path)
            assert alive(pid)
            driver.send_signal(signal.SIGKILL)
        for _ in range(200):
            if not alive(pid):
                break
            time.sleep(0.05)
        assert not alive(pid)

    def test_a_script_without_guard_gets_one_sentence(self, tmp_path: Path) -> None:
        done = run_script(
            tmp_path,
            """
            import math
            from picojoule.sim.errors import InputError
            from picojoule.studies.process_workers import ProcessWorkers
            try:
                workers = ProcessWorkers(2)
                workers.submit(0, math.sqrt, 4)
                workers.submit(1, math.sqrt, 4)
                workers.finished(None)
            except InputError as error:
                print(error)
            """,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == (
            "a search with several jobs starts processes that import the calling script again, and this script would "
            'search in each of them: put the call under `if __name__ == "__main__":`\n'
        )

    def test_a_program_from_standard_input_may_search(self) -> None:
        code = """
            import math
            from picojoule.studies.process_workers import ProcessWorkers
            workers = ProcessWorkers(1)
            workers.submit(0, math.sqrt, 4)
            print(workers.finished(None))
            workers.close()
        """
        done = subprocess.run(
            [sys.executable, "-"], input=textwrap.dedent(code), capture_output=True, text=True, timeout=120
        )
        assert (done.stdout, done.stderr) == ("[Done(key=0, result=2.0, problem=None)]\n", "")

    def test_a_script_that_cannot_be_imported_is_named(self, tmp_path: Path) -> None:
        done = run_script(
            tmp_path,
            """
            import math, os
            from picojoule.sim.errors import PicojouleError
            from picojoule.studies.process_workers import ProcessWorkers
            if __name__ != "__main__":
                os._exit(7)
            workers = ProcessWorkers(1)
            workers.submit(0, math.sqrt, 4)
            try:
                workers.finished(None)
            except PicojouleError as error:
                print(error)
            """,
        )
        assert done.stdout == (
            "worker processes end before they begin (exit code 7, 3 in a row); the calling script must be importable, "
            "or use one job\n"
        )


class TestMakeWorkers:
    def test_by_number_of_jobs(self) -> None:
        assert isinstance(make_workers(1, None), InlineWorkers)
        several = make_workers(3, None)
        assert isinstance(several, ProcessWorkers)
        assert several.slots == 3

    @pytest.mark.parametrize(
        ("jobs", "scheduler", "sentence"),
        [
            (0, None, "jobs must be 1 or more, got 0"),
            (
                2,
                "tcp://127.0.0.1:8786",
                "jobs must stay 1 with a scheduler, whose workers set the pace, got 2; leave it out",
            ),
            (1, "here", "scheduler must be an address like 'tcp://host:8786', got 'here'"),
        ],
    )
    def test_refusals(self, jobs: int, scheduler: str | None, sentence: str) -> None:
        with pytest.raises(InputError) as caught:
            make_workers(jobs, scheduler)
        assert str(caught.value) == sentence


def test_import_is_light() -> None:
    code = "import sys, picojoule.studies.process_workers; print([m for m in ('torch', 'dask', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def started_pid(folder: Path, workers: Workers | None = None) -> int:
    """Return the process of the task `slow` that marks its start in `folder`."""
    for _ in range(600):
        for mark in folder.glob("*-*"):
            return int(mark.name.partition("-")[0])
        if workers is None:
            time.sleep(0.05)
        else:
            assert workers.finished(0.05) == []
    raise AssertionError("the task has not started")


def alive(pid: int) -> bool:
    """Whether a process still runs; one that has ended but not been collected by its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def run_script(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    script = folder / "script.py"
    script.write_text(textwrap.dedent(code))
    return subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
