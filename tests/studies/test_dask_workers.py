"""What is special about a cluster; what it shares with other places is in test_workers.py."""

import builtins
import importlib
import json
import logging
import os
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import picojoule
from picojoule.sim.errors import InputError, PicojouleError
from picojoule.studies import dask_workers
from picojoule.studies.dask_workers import DaskWorkers, checked_address
from picojoule.studies.workers import ONE_THREAD, pack_call, unpack_outcome

distributed = pytest.importorskip("distributed", reason="needs the extra 'distributed'")

HERE = Path(__file__).parent
HOST = socket.gethostname()


@pytest.fixture(scope="module")
def tasks() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(HERE))
        yield importlib.import_module("worker_tasks")


@pytest.fixture(scope="module")
def cluster(tasks: ModuleType) -> Iterator[Any]:
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address=":0") as made:
        yield made


@pytest.fixture
def workers(cluster: Any) -> Iterator[DaskWorkers]:
    made = DaskWorkers(cluster.scheduler_address)
    yield made
    made.close(kill=True)


def worker_of(cluster: Any) -> str:
    (address,) = cluster.scheduler_info["workers"]
    return str(address)


@pytest.mark.parametrize(
    "address", ["tcp://10.0.0.1:8786", "tls://node-1.cluster.local:1", "tcp://[::1]:8786", "tcp://localhost:65535"]
)
def test_good_addresses(address: str) -> None:
    assert checked_address(address) == address


@pytest.mark.parametrize(
    "address",
    (
        *("", "localhost", "localhost:8786", "tcp://localhost", "tcp://:8786", "tcp://a:0", "tcp://a:65536"),
        *("tcp://a b:1", "http://localhost:8786", "inproc://1/2/3", "tcp://a:1\n", "tcp://a:1/x"),
    ),
)
def test_bad_addresses(address: str) -> None:
    with pytest.raises(InputError) as caught:
        DaskWorkers(address)
    assert str(caught.value).startswith("scheduler must be an address like 'tcp://host:8786', got '")


@pytest.mark.parametrize("listens", [False, True], ids=["nobody", "something else"])
def test_no_scheduler_there(listens: bool, caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        if listens:
            taken.listen()
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(InputError) as caught:
            DaskWorkers(address, connect_s=0.5)
    assert str(caught.value) == (
        f"no dask scheduler answers at {address}; start one with `dask scheduler` there, and workers with "
        f"`dask worker {address} --nthreads 1`"
    )


def test_without_dask(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "distributed":
            raise ModuleNotFoundError("No module named 'distributed'", name="distributed")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(InputError) as caught:
        DaskWorkers("tcp://127.0.0.1:1")
    assert str(caught.value) == (
        "a scheduler needs dask.distributed, which is not installed; pip install 'picojoule[distributed]'"
    )


def test_importing_the_module_imports_no_dask() -> None:
    code = "import sys, picojoule.studies.dask_workers; print([m for m in ('torch', 'dask') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_unequal_dask_versions_are_logged_only(
    cluster: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = distributed.Client

    class Mismatched(client):  # type: ignore[misc,valid-type]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            warnings.warn("Mismatched versions found", distributed.versions.VersionMismatchWarning, stacklevel=1)
            super().__init__(*args, **kwargs)

    monkeypatch.setattr(distributed, "Client", Mismatched)
    with caplog.at_level(logging.INFO, "picojoule.studies"):
        DaskWorkers(cluster.scheduler_address).close()
    assert "dask: Mismatched versions found" in caplog.messages


def test_another_picojoule_on_the_workers(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    own = dask_workers.source_digest()
    monkeypatch.setattr(dask_workers, "source_digest", lambda: "0123456789abcdef")
    with pytest.raises(InputError) as caught:
        DaskWorkers(cluster.scheduler_address)
    version = metadata.version("picojoule")
    assert str(caught.value) == (
        f"the dask worker {worker_of(cluster)} (host {HOST}) has picojoule {version} with sources {own[:12]} and the "
        f"driver {version} with sources 0123456789ab; install the same on both"
    )


def test_another_version_on_the_workers(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    own = metadata.version("picojoule")
    monkeypatch.setattr(picojoule, "__version__", "99.0", raising=False)
    with pytest.raises(InputError) as caught:
        DaskWorkers(cluster.scheduler_address)
    assert str(caught.value) == (
        f"the dask worker {worker_of(cluster)} has picojoule {own} and the driver 99.0; install the same on both"
    )


def test_a_folder_that_workers_do_not_see(workers: DaskWorkers, cluster: Any, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").touch()
    workers.check_folder_visible(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["study.yaml"]  # looked, and wrote nothing
    with pytest.raises(InputError) as caught:
        workers.check_folder_visible(tmp_path / "elsewhere")
    assert str(caught.value) == (
        f"the dask worker {worker_of(cluster)} (host {HOST}) does not see {tmp_path}/elsewhere/study.yaml; "
        "put --out in a folder that all workers share"
    )


def test_each_task_looks_for_the_folder_too(workers: DaskWorkers, tasks: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").touch()
    workers.check_folder_visible(tmp_path)
    (tmp_path / "study.yaml").unlink()  # as on a machine that joins later
    workers.submit(0, tasks.square, 3)
    with pytest.raises(InputError) as caught:
        workers.finished(60.0)
    assert str(caught.value) == (
        f"the dask worker on {HOST} (host {HOST}) does not see {tmp_path}/study.yaml; "
        "put --out in a folder that all workers share"
    )


def test_a_worker_of_many_threads_runs_one_task_at_a_time(tasks: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ONE_THREAD:
        monkeypatch.setenv(name, "4")
    terms = dask_workers._Terms(version=picojoule.__version__, digest=dask_workers.source_digest())
    packed, _ = pack_call(tasks.timed, 0.05)
    with ThreadPoolExecutor(3) as threads:
        spans = sorted(
            unpack_outcome(0, f.result()[1]).result
            for f in [threads.submit(dask_workers._run_on_worker, terms, packed) for _ in range(3)]
        )
    assert all(end <= begin for (_, end), (begin, _) in pairwise(spans))
    assert {os.environ[name] for name in ONE_THREAD} == {"1"}


def test_slots_follow_workers_and_results_stay_single(
    workers: DaskWorkers, cluster: Any, tasks: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_workers, "_LOOK_S", 0.0)
    assert workers.slots == 1
    cluster.scale(2)
    until(lambda: workers.slots == 2)
    for key in range(2):
        workers.submit(key, tasks.meeting, (tmp_path, key, 2))
    found = workers.finished(60.0)
    while len(found) < 2:
        found += workers.finished(60.0)
    assert sorted(d.key for d in found) == [0, 1]
    cluster.scale(1)
    until(lambda: workers.slots == 1)


def test_a_lost_scheduler(tasks: ModuleType, tmp_path: Path) -> None:
    code = "from distributed.cli.dask_scheduler import main; main()"
    port_file = tmp_path / "scheduler.json"
    arguments = ["--host", "127.0.0.1", "--port", "0", "--dashboard-address", ":0", "--scheduler-file", str(port_file)]
    with subprocess.Popen([sys.executable, "-c", code, *arguments], stderr=subprocess.DEVNULL) as scheduler:
        try:
            until(port_file.exists)
            until(lambda: port_file.read_text().endswith("}"))
            address = json.loads(port_file.read_text())["address"]
            workers = DaskWorkers(address)
            assert workers.slots == 1  # though nobody has joined yet
            workers.submit(0, tasks.square, 3)
            assert workers.finished(0.1) == []
        finally:
            scheduler.kill()
    sentence = (
        f"lost the dask scheduler at {address}; finished trials are on disk: "
        "start the scheduler again and go on with --resume"
    )
    with pytest.raises(PicojouleError) as caught:
        workers.finished(60.0)
    assert str(caught.value) == sentence
    with pytest.raises(PicojouleError) as caught:
        workers.check_folder_visible(tmp_path)
    assert str(caught.value) == sentence
    workers.close()


def test_workers_without_picojoule(tmp_path: Path) -> None:
    """A worker started where the package's metadata cannot be found, as in another environment."""
    hidden = tmp_path / "hide.py"
    hidden.write_text(
        "import importlib.metadata as m\n"
        "real = m.version\n"
        "def version(name):\n"
        "    if name == 'picojoule':\n"
        "        raise m.PackageNotFoundError(name)\n"
        "    return real(name)\n"
        "m.version = version\n"
    )
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address=":0", preload=[str(hidden)]
    ) as other:
        with pytest.raises(InputError) as caught:
            DaskWorkers(other.scheduler_address)
        version = metadata.version("picojoule")
        assert str(caught.value) == (
            f"the dask worker {worker_of(other)} has no picojoule; install version {version} there"
        )


def until(condition: Any) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("never became true")
