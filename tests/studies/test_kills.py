"""Studies killed with signal 9 at random moments, on command and in number: see scripts/kill_studies.py."""

import importlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import picojoule as pj
from picojoule.studies import base, trial
from picojoule.studies.session import open_session
from picojoule.studies.spec import read_study_file
from picojoule.studies.trial_network import WEIGHTS, content_digest
from picojoule.studies.trial_task import TrialTask

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
FAULTS = ("lost", "doubled", "unequal", "orphans", "refused", "hung")


@pytest.fixture(scope="module")
def kill_studies() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        yield importlib.import_module("kill_studies")


def without_faults(tallies: dict[str, Any]) -> bool:
    """Refuse any fault of any kind of study, with what is known of it."""
    problems = [problem for tally in tallies.values() for problem in tally.problems]
    found = {name: sum(getattr(tally, name) for tally in tallies.values()) for name in FAULTS}
    assert found == dict.fromkeys(FAULTS, 0), problems
    return not problems


def test_what_a_killed_process_left_half_written_is_removed(make_study: Callable[..., Path], tmp_path: Path) -> None:
    study, out = read_study_file(make_study()), tmp_path / "out"
    open_session(study, out, None, resume=False)
    left = [
        out / ".trials.csv.ab_cd123",
        out / ".study.yaml.00000000",
        out / "front/00003/.config.resolved.yaml.x7x7x7x7",
    ]
    others = [out / ".notes.txt.old", out / ".hidden", out / "front/00003/.layers.csv"]
    for path in (*left, *others):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    open_session(study, out, None, resume=True)
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in others)


@pytest.mark.parametrize("step", ["_run", "_save"])
def test_a_trial_that_another_process_ends_meanwhile(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "small.csv").write_text("name, H, W, R, S, C, K, stride,\nfirst, 18, 18, 3, 3, 3, 16, 1,\n")
    task = TrialTask(
        number=1,
        network=str(tmp_path / "small.csv"),
        weights=None,
        data=None,
        hardware="edge-32x32",
        hardware_keys={"rows": 8},
        methods={},
        metrics=("latency_s",),
        epochs=0,
        fidelity="price",
        limits={},
        folder=str(tmp_path / "alone"),
        base=None,
    )
    alone, twice = trial.run_trial(task), replace(task, folder=str(tmp_path / "twice"))
    original = getattr(trial, step)

    def overtaken(*args: Any) -> None:
        monkeypatch.setattr(trial, step, original)
        trial.run_trial(twice)
        raise pj.InputError("train-0-epoch-1.pt: no such file")

    monkeypatch.setattr(trial, step, overtaken)
    assert trial.run_trial(twice) == alone and alone.state == "complete"
    assert (tmp_path / "twice/result.json").read_bytes() == (tmp_path / "alone/result.json").read_bytes()


@pytest.mark.parametrize("ended", [True, False])
def test_an_original_that_another_process_trains_meanwhile(
    ended: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = base.BaseTask(network="lenet5", data="digits", epochs=1, lr=0.1, folder=str(tmp_path))
    weights = tmp_path / WEIGHTS

    def overtaken(task: base.BaseTask, key: str) -> None:
        weights.write_bytes(b"weights")
        if ended:
            (tmp_path / base.KEY).write_text(json.dumps({"key": key, "sha256": content_digest(weights)}))
        raise pj.InputError("train-0-epoch-1.pt: no such file")

    monkeypatch.setattr(base, "_train", overtaken)
    if ended:
        assert base.train_base(task) == str(weights)
    else:
        with pytest.raises(pj.InputError, match=r"^train-0-epoch-1\.pt: no such file$"):
            base.train_base(task)


def test_a_few_kills_leave_no_trace(kill_studies: ModuleType, tmp_path: Path) -> None:
    kills = {"designs": 4, "optuna-1": 4}
    tallies = kill_studies.run_campaign(tmp_path / "kills", kills, seed=8, by_command=0.0)
    assert without_faults(tallies)
    assert {name: tally.kills for name, tally in tallies.items()} == kills
    assert tallies["designs"].acknowledged == 400 * tallies["designs"].studies
    assert tallies["optuna-1"].acknowledged == 60 * tallies["optuna-1"].studies
    assert not any(
        tally.other_files for tally in tallies.values()
    )  # the figures and runs of the front are the same too


@pytest.mark.full
def test_two_hundred_kills_leave_no_trace(kill_studies: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="needs the extra 'distributed'")
    kills = kill_studies.shares(240, list(kill_studies.KINDS))
    tallies = kill_studies.run_campaign(tmp_path / "kills", kills, parallel=2)
    assert without_faults(tallies)
    assert sum(tally.kills + tally.worker_kills for tally in tallies.values()) >= 200
    assert sum(tallies[name].kills + tallies[name].worker_kills for name in ("train-1", "train-2")) >= 40
    assert tallies["dask"].worker_kills >= 20
