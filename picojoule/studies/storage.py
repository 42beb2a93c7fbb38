"""Trials on disk: an Optuna storage (journal file or database) that one driver writes, so that a crash loses nothing.

A trial is written twice: with its parameters before it runs, with its outcome when it is done. Both are single steps: a torn
last line of the journal is cut off at the next start, and the trial runs again with the same number and parameters. The driver
holds a lock on the folder that the system gives back when the process dies, however it dies.
"""

import contextlib
import fcntl
import json
import logging
import os
import re
import socket
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from picojoule.sim.errors import InputError, one_sentence
from picojoule.studies.space import Parameter
from picojoule.studies.spec import SCHEMA, Scalar, StudySpec

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

_log = logging.getLogger("picojoule.studies")

JOURNAL = "journal.log"
_SECRET = re.compile(r"([?&;][^=&;]*(?:pass|pwd|secret|token|key)[^=&;]*=)[^&;]*", re.IGNORECASE)
_LOCK = ".lock"


@contextlib.contextmanager
def study_lock(folder: Path) -> Iterator[None]:
    """Hold a study's folder for this process.

    Raises:
        InputError: if another process holds it (said which), or the folder cannot be written.

    """
    path = folder / _LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise InputError(f"{folder}: cannot write: {error.strerror or error}") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(handle, 200).decode(errors="replace").strip() or "another process"
            raise InputError(f"{folder}: {holder} is running this study; wait for it, or give another --out") from None
        with contextlib.suppress(OSError):  # a full disk is found at the first result; the lock itself holds
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield
    finally:
        os.close(handle)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTrial:
    """A trial as the storage has it; `outcome` is None while it runs (or ran when the driver died)."""

    number: int
    values: Mapping[str, Scalar]
    outcome: Mapping[str, Any] | None


class TrialStore:
    """The trials of one study in an Optuna storage."""

    def __init__(self, storage: "BaseStorage", study_id: int, where: str, parameters: tuple[Parameter, ...]) -> None:
        self._storage, self._study_id, self._where = storage, study_id, where
        self._distributions = {p.name: p.stored_distribution() for p in parameters}
        self._ids: dict[int, int] = {}

    def read(self) -> list[StoredTrial]:
        """Return all trials in order of their numbers.

        Raises:
            InputError: if the storage is damaged.

        """
        from optuna.trial import TrialState

        found = []
        with self._said():
            for trial in self._storage.get_all_trials(self._study_id, deepcopy=False):
                self._ids[trial.number] = trial._trial_id
                outcome = trial.user_attrs.get("outcome") if trial.state != TrialState.RUNNING else None
                found.append(StoredTrial(number=trial.number, values=trial.params, outcome=outcome))
        return found

    def begin(self, number: int, values: Mapping[str, Scalar]) -> None:
        """Write a trial before it runs.

        Raises:
            InputError: if it cannot be written, or somebody else has written a trial of this number.

        """
        from optuna.trial import TrialState, create_trial

        trial = create_trial(
            state=TrialState.RUNNING,
            params=dict(values),
            distributions=dict(self._distributions),
        )
        with self._said():
            made = self._storage.create_new_trial(self._study_id, template_trial=trial)
            given = self._storage.get_trial_number_from_id(made)
        if given != number:
            raise InputError(
                f"{self._where}: trial {number} was to come next, but the storage counted {given}: another process writes to "
                "the same study; stop one of them and go on with --resume"
            )
        self._ids[number] = made

    def finish(
        self, number: int, outcome: Mapping[str, Any], values: list[float] | None, limits: Mapping[str, float]
    ) -> None:
        """Write a trial's outcome; `values` are its objectives (None: failed), `limits` its violations (0 or less: kept).

        Raises:
            InputError: if it cannot be written.

        """
        from optuna.trial import TrialState

        trial_id = self._ids[number]
        with self._said():
            self._storage.set_trial_user_attr(trial_id, "outcome", dict(outcome))
            for name, violation in limits.items():
                self._storage.set_trial_system_attr(trial_id, f"constraints:{name}", violation)
            state = TrialState.FAIL if values is None else TrialState.COMPLETE
            self._storage.set_trial_state_values(trial_id, state, values)

    def attributes(self) -> dict[str, Any]:
        """Return what is written about the study as a whole."""
        with self._said():
            return self._storage.get_study_user_attrs(self._study_id)

    def set_attribute(self, name: str, value: Any) -> None:
        """Write something about the study as a whole."""
        with self._said():
            self._storage.set_study_user_attr(self._study_id, name, value)

    def close(self) -> None:
        """Give back connections to a database."""
        _close(self._storage)

    @contextlib.contextmanager
    def _said(self) -> Iterator[None]:
        """Turn what storages raise into one sentence."""
        try:
            yield
        except InputError:
            raise
        except OSError as error:
            raise InputError(
                f"{self._where}: cannot write: {error.strerror or error}; finished trials are kept, make room and go on with "
                "--resume"
            ) from None
        except Exception as error:  # Optuna, SQLAlchemy and database drivers each have their own
            raise InputError(
                f"{self._where}: {_first_line(error)}; finished trials are kept, go on with --resume"
            ) from None


def open_store(
    spec: StudySpec, folder: Path, name: str, parameters: tuple[Parameter, ...], *, resume: bool
) -> TrialStore:
    """Open a study's storage; without `resume` it must not hold the study yet.

    Raises:
        InputError: if it cannot be opened, is damaged, or holds the study already.

    """
    quiet_optuna()
    where = str(folder / JOURNAL) if spec.storage is None else hidden_password(spec.storage)
    storage = _journal(folder / JOURNAL) if spec.storage is None else _database(spec.storage, where)
    try:
        return _store_in(storage, spec, name, where, parameters, resume)
    except BaseException:
        _close(storage)
        raise


def _store_in(
    storage: "BaseStorage", spec: StudySpec, name: str, where: str, parameters: tuple[Parameter, ...], resume: bool
) -> TrialStore:
    optuna = quiet_optuna()
    try:
        directions = [
            optuna.study.StudyDirection.MAXIMIZE if sense == "max" else optuna.study.StudyDirection.MINIMIZE
            for sense in spec.objectives.values()
        ]
        known = {s.study_name: s._study_id for s in storage.get_all_studies()}
        if name in known and not resume:
            raise InputError(f"{where}: holds this study already; add --resume to go on with it")
        study_id = known[name] if name in known else storage.create_new_study(directions, study_name=name)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{where}: cannot write: {error.strerror or error}") from None
    except Exception as error:  # Optuna, SQLAlchemy and database drivers each have their own
        raise InputError(f"{where}: cannot be read as an Optuna storage: {_first_line(error)}") from None
    store = TrialStore(storage, study_id, where, parameters)
    schema = store.attributes().get("schema")
    if schema is None:
        store.set_attribute("schema", SCHEMA)
        store.set_attribute("metrics", list(spec.objectives))
    elif schema != SCHEMA:
        raise InputError(f"{where}: was written with schema {schema}, this version reads {SCHEMA}; begin a new study")
    return store


def _close(storage: "BaseStorage") -> None:
    storage.remove_session()
    engine = getattr(storage, "engine", None)  # of a database
    if engine is not None:
        engine.dispose()


def quiet_optuna() -> Any:
    """Return Optuna, with its own log on warnings only.

    Raises:
        InputError: if it is not installed.

    """
    try:
        import optuna
    except ImportError:
        raise InputError("searching needs optuna; install it with: pip install 'picojoule[search]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _journal(path: Path) -> "BaseStorage":
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    class Held(JournalFileOpenLock):
        """The folder's lock is held already; a lock file would outlive a killed driver."""

        def acquire(self) -> bool:
            return True

        def release(self) -> None:
            pass

    class Journal(JournalFileBackend):
        """Flushed to the disk with each trial's end, and all before it; what is lost with the power is proposed again."""

        def append_logs(self, logs: list[dict[str, Any]]) -> None:
            with path.open("ab") as file:
                file.write(b"".join(json.dumps(log, separators=(",", ":")).encode() + b"\n" for log in logs))
                file.flush()
                if any("state" in log and "trial_id" in log for log in logs):
                    os.fsync(file.fileno())

    repair_journal(path)
    try:
        return JournalStorage(Journal(str(path), lock_obj=Held(str(path))))
    except OSError as error:
        raise InputError(f"{path}: cannot write: {error.strerror or error}") from None
    except Exception as error:  # a line that is JSON but no entry of a journal
        raise InputError(f"{path}: is no journal of a study: {_first_line(error)}; begin a new study") from None


def repair_journal(path: Path) -> None:
    """Cut off a torn last line (a driver killed while writing); what it was to say will be done again.

    Raises:
        InputError: if an earlier line is damaged, which no crash does.

    """
    if not path.exists():
        return
    try:
        data, number = path.read_bytes(), 0
        whole = data.rfind(b"\n") + 1
        for line in data[:whole].splitlines():
            number += 1
            entry = json.loads(line)
            if not isinstance(entry, dict):
                raise ValueError(line)
        if whole < len(data):
            _log.warning("%s: cut off a torn last line of %d bytes", path, len(data) - whole)
            with path.open("rb+") as file:
                file.truncate(whole)
                os.fsync(file.fileno())
    except OSError as error:
        raise InputError(f"{path}: cannot be read or repaired: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        raise InputError(
            f"{path}:{number}: is damaged (not a line of JSON); restore the file or begin a new study"
        ) from None


def _database(url: str, where: str) -> "BaseStorage":
    from optuna.storages import RDBStorage

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # SQLAlchemy comments on the URL; what matters is refused below
            return RDBStorage(url, skip_compatibility_check=False)
    except ImportError as error:
        missing = error.name or one_sentence(str(error))
        raise InputError(f"{where}: the database's driver is missing ({missing}); install it with pip") from None
    except Exception as error:  # SQLAlchemy and the drivers each have their own
        raise InputError(f"{where}: cannot be opened as an Optuna storage: {_first_line(error)}") from None


def hidden_password(url: str) -> str:
    """Return a database URL without its password; text that is no URL as it is."""
    url = _SECRET.sub(r"\1***", url)
    scheme, slashes, rest = url.partition("://")
    user, at, host = rest.rpartition("@")
    name, colon, _ = user.partition(":")
    return f"{scheme}{slashes}{name}:***@{host}" if slashes and at and colon else url


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return one_sentence(f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__)
