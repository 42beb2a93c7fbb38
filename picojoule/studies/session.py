"""A study's folder from the first look to the last file: what may be resumed, what it depends on, what is written when."""

import contextlib
import hashlib
import json
import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from picojoule.sim.errors import InputError
from picojoule.sim.files import read_bounded, write_atomic
from picojoule.sim.hardware import load_spec
from picojoule.sim.specs import read_yaml_mapping
from picojoule.store import package_identity
from picojoule.studies.results import POINTS, STUDY, TRIALS
from picojoule.studies.spec import StudySpec, differences, parse_study, read_study_file
from picojoule.studies.storage import JOURNAL, hidden_password

INPUTS = "inputs.json"
HARDWARE = "hardware.resolved.yaml"
_LIMIT_BYTES = 1 << 20
_UNFINISHED = re.compile(r"\.[\w.-]+\.(json|csv|md|png|yaml|npz|pt|safetensors|log)\.[a-z0-9_]{8}")
_REMEDY = "undo the change, or search anew in another folder"


def written_form(spec: StudySpec) -> StudySpec:
    """Return the study as it may stand in its folder: without a password, with its own copy of the points."""
    if spec.points is not None:
        spec = spec.model_copy(update={"points": POINTS})
    return spec if spec.storage is None else spec.model_copy(update={"storage": hidden_password(spec.storage)})


def inputs_of(spec: StudySpec) -> dict[str, str]:
    """Return what results depend on besides the study itself: files, hardware, data, our own sources, libraries that compute.

    Raises:
        InputError: if one of them cannot be read.

    """
    found = {"network": _file_digest(spec.network), "hardware": _digest(load_spec(spec.hardware).model_dump_json())}
    if spec.weights is not None:
        found["weights"] = _file_digest(spec.weights)
    if spec.points is not None:
        found["points"] = _digest_of(Path(spec.points))
    if spec.data is not None:
        from picojoule.models.data import load

        found["data"] = load(spec.data).digest
    computing = ["numpy", "optuna"] if spec.hardware_only else ["numpy", "optuna", "torch"]
    return found | package_identity() | {name: _version(name) for name in computing}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def _file_digest(name: str) -> str:
    """Return the digest of a network's or weights' file; names of the zoo belong to our own sources."""
    path = _file_of(name)
    return name if path is None else _digest_of(path)


def _digest_of(path: Path) -> str:
    whole = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            whole.update(part)
    return whole.hexdigest()[:16]


def _file_of(name: str) -> Path | None:
    """Return the file behind `file` or `file.py:callable`; None for a name of the zoo."""
    path = Path(name if Path(name).is_file() else name.rpartition(":")[0] or name)
    return path if path.is_file() else None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """An open study folder (its lock is held)."""

    folder: Path
    spec: StudySpec
    inputs: dict[str, str]
    hardware: str
    """The hardware as it was resolved when the study was begun: a file of the study's own, which all trials take."""
    files: dict[Path, tuple[int, int]]
    """The study's own file and the one it was begun from, with time of change and size."""
    sources: dict[Path, tuple[int, int]]
    """Files of network, weights and points."""

    def check_sources(self) -> None:
        """Refuse results when the files of network, weights or points are no longer what they were.

        Raises:
            InputError: with what changed.

        """
        for path, before in self.sources.items():
            now = _stamp(path)
            if now != before:
                _check_inputs(self.folder / INPUTS, inputs_of(self.spec))
                self.sources[path] = now or before

    def check_unchanged(self) -> None:
        """Refuse to go on when the study's file, or the one it was begun from, now asks something else.

        Raises:
            InputError: with the differences.

        """
        for path, before in self.files.items():
            now = _stamp(path)
            if now is not None and now != before:
                changed = written_form(read_study_file(path))
                if changed.population is None:
                    changed = changed.model_copy(update={"population": self.spec.population})
                _check_same(written_form(self.spec), changed, f"{path}: was changed while the study runs")
                self.files[path] = now


def open_session(spec: StudySpec, folder: Path, source: Path | None, *, resume: bool) -> Session:
    """Return the session of a new study, or of the one that lies in the folder; `spec.trials` may have grown.

    Raises:
        InputError: if a study lies there and `resume` is not set, or it asks or depends on something else.

    """
    inputs = inputs_of(spec)
    path = folder / STUDY
    begun = _begun(folder)
    if path.is_file() and (begun or resume):
        if not resume:
            raise InputError(f"{folder}: holds a study already; add --resume to go on with it, or give another --out")
        stored = parse_study(read_yaml_mapping(path, "a study"), str(path))
        if spec.population is None:  # chosen when the study was begun
            spec = spec.model_copy(update={"population": stored.population})
        _check_same(stored, written_form(spec), f"{folder}: holds another study than is asked for")
        _check_inputs(folder / INPUTS, inputs)
    else:
        spec = spec.model_copy(update={"population": population_of(spec)})
    _sweep(folder)
    write_atomic(folder / INPUTS, json.dumps(inputs, indent=1) + "\n")
    write_atomic(path, written_form(spec).to_yaml())
    if spec.points is not None:
        write_atomic(folder / POINTS, Path(spec.points).read_bytes())
    hardware = folder / HARDWARE
    write_atomic(hardware, yaml.safe_dump(load_spec(spec.hardware).model_dump(mode="json"), sort_keys=False))
    named = [_file_of(name) for name in (spec.network, spec.weights, spec.points) if name is not None]
    return Session(
        folder=folder,
        spec=spec,
        inputs=inputs,
        hardware=str(hardware),
        files={p: stamp for p in (path, source) if p is not None and (stamp := _stamp(p)) is not None},
        sources={p: stamp for p in named if p is not None and (stamp := _stamp(p)) is not None},
    )


def check_folder(folder: Path, source: Path | None) -> None:
    """Refuse a folder that holds something else than a study, before anything is written into it.

    Raises:
        InputError: saying what to do.

    """
    if not folder.is_dir() or _begun(folder):
        return
    if source is not None and source.resolve() == (folder / STUDY).resolve():
        raise InputError(f"{folder}: a search would write over {source} here; give another folder to --out")
    ours = (INPUTS, STUDY, HARDWARE, POINTS)  # of a search that failed at its first step
    if any(p.name not in ours and not p.name.startswith(".") for p in folder.iterdir()):
        raise InputError(f"{folder}: holds other files and no study; give an empty or a new folder to --out")


def _begun(folder: Path) -> bool:
    return any((folder / name).exists() for name in (JOURNAL, TRIALS, "base"))


def _sweep(folder: Path) -> None:
    """Remove what `write_atomic` had not finished when a process was killed."""
    for left in folder.rglob(".*.*"):
        if _UNFINISHED.fullmatch(left.name) and left.is_file():
            with contextlib.suppress(OSError):
                left.unlink()


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size


def population_of(spec: StudySpec) -> int | None:
    """Return the population of a study that names none: 24 or a batch; more where designs cost microseconds.

    It is fixed when a study begins, so that a study that grows goes on as it was.
    """
    if spec.population is not None or spec.sampler not in ("nsga2", "nsga3"):
        return spec.population
    if spec.hardware_only and spec.sampler == "nsga2":
        from picojoule.studies.nsga2 import good_population

        return good_population(spec.trials)
    return max(24, spec.batch_size)


def _check_same(old: StudySpec, new: StudySpec, what: str) -> None:
    if found := differences(old, new):
        raise InputError(f"{what}: {'; '.join(found)}; {_REMEDY}")


def _check_inputs(path: Path, now: dict[str, str]) -> None:
    try:
        then: Any = json.loads(read_bounded(path, _LIMIT_BYTES, "what the study depends on"))
        changed = [f"{k} ({then.get(k, 'absent')} -> {v})" for k, v in now.items() if then.get(k) != v]
    except (ValueError, AttributeError, RecursionError):
        raise InputError(f"{path}: is torn or edited; restore it, or search anew in another folder") from None
    if changed:
        raise InputError(
            f"{path.parent}: cannot be resumed, because what its results depend on has changed: {', '.join(changed)}; {_REMEDY}"
        )
