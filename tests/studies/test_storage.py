"""The storage of trials: journals torn and damaged, databases that are not there, one that is."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import picojoule as pj
from picojoule.sim.errors import InputError
from picojoule.studies.storage import hidden_password, repair_journal, study_lock

MakeStudy = Callable[..., Path]


@pytest.mark.parametrize("kept", [b"", b'{"a":1}\n', b'{"a":1}\n{"b":2}\n'])
@pytest.mark.parametrize("torn", [b"", b"{", b'{"c":3}', b"\xff\xfe"])
def test_a_torn_last_line_is_cut_off(kept: bytes, torn: bytes, tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    path.write_bytes(kept + torn)
    repair_journal(path)
    assert path.read_bytes() == kept


@pytest.mark.parametrize("line", [b"{half\n", b"[1]\n", b"\n", b"\xff\n", b"[" * 5000 + b"\n"])
def test_a_damaged_line_is_refused_by_number(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    path.write_bytes(b'{"a":1}\n' + line + b'{"b":2}\n')
    with pytest.raises(
        InputError, match=r"journal.log:2: is damaged \(not a line of JSON\); restore the file or begin"
    ):
        repair_journal(path)


def test_a_journal_of_something_else_is_refused(make_study: MakeStudy, tmp_path: Path) -> None:
    out = tmp_path / "out"
    pj.search(make_study(trials=2), out=out)
    (out / "journal.log").write_text('{"a":1}\n')
    with pytest.raises(InputError, match=r"journal.log: is no journal of a study: "):
        pj.search(make_study(trials=2), out=out, resume=True)


def test_the_lock_goes_with_the_process(tmp_path: Path) -> None:
    with study_lock(tmp_path), pytest.raises(InputError, match="is running this study"), study_lock(tmp_path):
        pass
    child = os.fork()
    if child == 0:
        with study_lock(tmp_path):
            os._exit(0)  # without giving it back
    os.waitpid(child, 0)
    with study_lock(tmp_path):
        pass


def test_passwords_stay_out_of_files_and_messages(make_study: MakeStudy, tmp_path: Path) -> None:
    url = "postgresql://me:secret@127.0.0.1:9/none"
    assert hidden_password(url) == "postgresql://me:***@127.0.0.1:9/none"
    assert (
        hidden_password("postgresql://h/b?user=me&password=s3&sslmode=x")
        == "postgresql://h/b?user=me&password=***&sslmode=x"
    )
    assert hidden_password("sqlite:///a@b:c.db") == "sqlite:///a@b:c.db"
    with pytest.raises(InputError) as caught:
        pj.search(make_study(storage=url), out=tmp_path / "out")
    assert str(caught.value).startswith("postgresql://me:***@127.0.0.1:9/none: cannot be opened as an Optuna storage: ")
    assert "secret" not in str(caught.value)
    assert "secret" not in (tmp_path / "out/study.yaml").read_text()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "nonsense: cannot be opened as an Optuna storage: ArgumentError"),
        ("nosuch://host/base", "nosuch://host/base: cannot be opened as an Optuna storage: NoSuchModuleError"),
        (
            "sqlite:////no/such/folder/base.db",
            "sqlite:////no/such/folder/base.db: cannot be opened as an Optuna storage: ",
        ),
    ],
)
def test_databases_that_cannot_be_opened(url: str, message: str, make_study: MakeStudy, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        pj.search(make_study(storage=url), out=tmp_path / "out")
    assert str(caught.value).startswith(message)


def test_somebody_else_writing_to_the_study_is_noticed(
    make_study: MakeStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from picojoule.studies.storage import TrialStore

    original = TrialStore.begin

    def begin(self: TrialStore, number: int, values: Any) -> None:
        if number == 5:
            original(self, number, values)  # what another process would do
        original(self, number, values)

    monkeypatch.setattr(TrialStore, "begin", begin)
    with pytest.raises(
        InputError, match="trial 5 was to come next, but the storage counted 6: another process writes to"
    ):
        pj.search(make_study(), out=tmp_path / "out")


# --- PostgreSQL ---------------------------------------------------------------------------------------------------------


def postgres_program(name: str) -> Path | None:
    """Return a server program: Debian keeps them out of the path."""
    found = shutil.which(name)
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((f / name for f in folders if (f / name).exists()), None)


@pytest.fixture
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a server of its own on a socket in a temporary folder; return its URL."""
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'picojoule[dev]'")
    programs = {name: postgres_program(name) for name in ("initdb", "postgres")}
    if not all(programs.values()):
        pytest.skip("PostgreSQL's server is not installed: apt-get install postgresql")
    folder = Path("/tmp") / f"picojoule-postgres-{os.getpid()}"  # short: a socket's path has about 100 characters
    as_user: dict[str, Any] = {}
    folder.mkdir(mode=0o755)
    if os.getuid() == 0:  # the server refuses to run as root
        as_user = {"user": "nobody", "group": "nogroup"}
        shutil.chown(folder, "nobody", "nogroup")
    data = folder / "data"
    options = ["--auth=trust", "--username=me", "--no-sync", "--encoding=UTF8", "--locale=C"]
    subprocess.run(
        [str(programs["initdb"]), "-D", str(data), *options], check=True, capture_output=True, cwd=folder, **as_user
    )
    command = [str(programs["postgres"]), "-D", str(data), "-k", str(folder), "-c", "listen_addresses=", "-F"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder, **as_user)
    try:
        end = time.monotonic() + 30
        while not list(folder.glob(".s.PGSQL.*[0-9]")):
            assert server.poll() is None and time.monotonic() < end, "the server does not start"
            time.sleep(0.02)
        yield f"postgresql+psycopg://me@/postgres?host={folder}"
    finally:
        server.kill()
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)


def test_a_real_postgresql_keeps_a_study(
    postgres: str, make_study: MakeStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from picojoule.studies.storage import TrialStore

    pj.search(make_study("whole.yaml"), out=tmp_path / "whole")
    study, original = make_study(storage=postgres), TrialStore.finish

    def finish(self: TrialStore, number: int, *rest: Any) -> None:
        if number == 6:
            raise KeyboardInterrupt
        original(self, number, *rest)

    monkeypatch.setattr(TrialStore, "finish", finish)
    with pytest.raises(KeyboardInterrupt):
        pj.search(study, out=tmp_path / "out")
    monkeypatch.setattr(TrialStore, "finish", original)
    pj.search(study, out=tmp_path / "out", resume=True)
    for name in ("trials.csv", "pareto.csv", "summary.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()

    import optuna

    storage = optuna.storages.RDBStorage(postgres)
    (summary,) = optuna.get_all_study_summaries(storage)
    assert summary.n_trials == 14
    trials = optuna.load_study(study_name=summary.study_name, storage=storage).trials
    storage.remove_session()
    storage.engine.dispose()
    assert {t.state for t in trials} == {optuna.trial.TrialState.COMPLETE}
    assert trials[0].params.keys() == {"hardware.rows", "hardware.dataflow", "hardware.clock_mhz"}
