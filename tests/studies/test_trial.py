"""One trial: the same outcome in every process and after every interruption; whatever goes wrong is a sentence, not a crash."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from picojoule import training
from picojoule.accuracy import measure
from picojoule.compress.lsq import LsqConfig
from picojoule.compress.plan import read_plan
from picojoule.compress.slimming import SlimmingConfig
from picojoule.evaluating import Request, network_of_request
from picojoule.models.data import load
from picojoule.sim.errors import InputError, PicojouleError
from picojoule.sim.hardware import load_hardware
from picojoule.sim.report import wilson_interval
from picojoule.studies import trial as trials
from picojoule.studies import trial_network
from picojoule.studies.base import BaseTask, train_base
from picojoule.studies.trial import (
    FrontTask,
    TrialOutcome,
    TrialTask,
    finish_front_point,
    outcome_from_json,
    outcome_to_json,
    run_trial,
)
from picojoule.studies.trial_network import active, settings_for
from picojoule.training_checkpoints import Checkpoint

NETWORK = """
import torch
from torch import nn


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8)
        self.fc = nn.Linear(8 * 16, 10)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        return self.fc(torch.relu(self.bn2(self.conv2(x))).flatten(1))


def make():
    return Small(), torch.zeros(2, 1, 8, 8)


def broken():
    net = Small()
    with torch.no_grad():
        net.fc.weight[0, 0] = float("nan")
    return net, torch.zeros(2, 1, 8, 8)


def failing():
    raise ZeroDivisionError("no luck")
"""
BOTH = {"lsq": {"weight_bits": 4}, "slimming": {"ratio": 0.3, "min_channels": 1}}


class KilledError(BaseException):
    """Stands for kill -9."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("trials")
    (made / "small.py").write_text(NETWORK)
    return made


def base_task(folder: Path, /, **changes: Any) -> BaseTask:
    network = f"{folder / 'small.py'}:make"
    return BaseTask(
        **{"network": network, "data": "digits", "epochs": 2, "lr": 1e-2, "folder": str(folder / "base")} | changes
    )


@pytest.fixture(scope="module")
def base(folder: Path) -> str:
    return train_base(base_task(folder))


@pytest.fixture(autouse=True)
def no_path_left_behind() -> Iterator[None]:
    """A network's folder goes first on the path of the process that loads it."""
    before = list(sys.path)
    yield
    sys.path[:] = before


def task(folder: Path, base: str | None, /, **changes: Any) -> TrialTask:
    asked: dict[str, Any] = {
        "number": 7,
        "network": f"{folder / 'small.py'}:make",
        "weights": None,
        "data": "digits",
        "hardware": "edge-16x16",
        "hardware_keys": {"rows": 8, "dataflow": "os"},
        "methods": BOTH,
        "metrics": ("accuracy", "energy_pj_per_sample", "area_mm2"),
        "epochs": 1,
        "fidelity": "full",
        "limits": {"area_mm2": (None, 5.0)},
        "folder": None,
        "base": base,
    }
    return TrialTask(**asked | changes)


@pytest.fixture(scope="module")
def kept(folder: Path, base: str) -> tuple[TrialTask, TrialOutcome]:
    """A finished trial of both methods, run where torch has two threads."""
    made, before = task(folder, base, folder=str(folder / "kept")), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        outcome = run_trial(made)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    return made, outcome


def test_a_trial_compresses_prices_and_measures(kept: tuple[TrialTask, TrialOutcome]) -> None:
    """The files it leaves are those of `evaluate`, which finds the same figures."""
    asked, outcome = kept
    assert (outcome.number, outcome.state, outcome.fidelity, outcome.message) == (7, "complete", "full", "")
    own = Path(str(asked.folder))
    assert sorted(p.name for p in own.iterdir()) == ["model.safetensors", "plan.yaml", "result.json"]
    request = Request(
        network=asked.network, hardware="edge-16x16", weights=own / "model.safetensors", compression=own / "plan.yaml"
    )
    data, accelerator = load("digits"), load_hardware("edge-16x16", {"rows": 8, "dataflow": "os"})
    network = network_of_request(request, data)
    report = accelerator.evaluate(network)
    accuracy = measure(network, accelerator, data, split="val")
    low, high = wilson_interval(round(accuracy.hardware * 180), 180)
    ranges = report.totals["ranges"]["energy_pj_per_sample"]
    assert outcome.values == {
        "accuracy": accuracy.hardware,
        "energy_pj_per_sample": report.totals["energy_pj_per_sample"],
        "area_mm2": report.totals["area_mm2"],
    }
    assert accuracy.hardware > 0.5
    assert outcome.details == {
        "accuracy_low": low,
        "accuracy_high": high,
        "accuracy_float": accuracy.floating,
        "samples": 180.0,
        "energy_low": ranges[0],
        "energy_high": ranges[1],
        "macs": report.totals["macs"],
        "params": report.network["params"],
        "weight_bytes": report.totals["weight_bytes"],
    }
    assert sum(outcome.bill.values()) == pytest.approx(outcome.values["energy_pj_per_sample"])
    plan = read_plan(own / "plan.yaml")
    assert plan.layers["conv2"].weight is not None and plan.layers["fc"].weight is not None
    kept_channels = [plan.layers[name].keep_channels for name in ("conv1", "conv2")]
    assert sum(8 if k is None else len(k) for k in kept_channels if not isinstance(k, int)) == 16 - 5


def test_a_worker_process_makes_the_same_bytes(kept: tuple[TrialTask, TrialOutcome], tmp_path: Path) -> None:
    """Whatever the number of threads: trials keep torch on one."""
    asked, outcome = kept
    there = replace(asked, folder=str(tmp_path))
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(run_trial, there).result(timeout=120) == outcome
    for name in ("model.safetensors", "plan.yaml", "result.json"):
        assert (tmp_path / name).read_bytes() == (Path(str(asked.folder)) / name).read_bytes(), name


def test_a_trial_killed_in_any_epoch_resumes_and_a_finished_one_is_not_run_again(
    kept: tuple[TrialTask, TrialOutcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, outcome = kept
    mine = replace(asked, folder=str(tmp_path))
    write = Checkpoint.write
    written = 0

    def dying(self: Checkpoint, history: list[dict[str, float]]) -> None:
        nonlocal written
        write(self, history)
        written += 1
        raise KilledError

    monkeypatch.setattr(Checkpoint, "write", dying)
    for _ in range(2):  # an epoch of each method
        with pytest.raises(KilledError):
            run_trial(mine)
        (tmp_path / ".model.safetensors.x1y2").write_bytes(b"left by a killed process")
    assert run_trial(mine) == outcome
    assert written == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.safetensors", "plan.yaml", "result.json"]
    for name in ("model.safetensors", "plan.yaml", "result.json"):
        assert (tmp_path / name).read_bytes() == (Path(str(asked.folder)) / name).read_bytes()

    def not_again(*args: object) -> Any:
        raise AssertionError("the trial is finished")

    monkeypatch.setattr(trials, "compress", not_again)
    (tmp_path / "train-0.pt").write_bytes(b"killed before this was removed")
    assert run_trial(mine) == outcome
    assert not (tmp_path / "train-0.pt").exists()
    assert run_trial(replace(mine, epochs=2)).message == "AssertionError: the trial is finished"


@pytest.mark.parametrize("damage", ["torn", "foreign", "other key", "hostile", "no weights"])
def test_a_stored_result_that_does_not_belong_is_not_taken(
    damage: str, kept: tuple[TrialTask, TrialOutcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, _ = kept
    text = (Path(str(asked.folder)) / "result.json").read_text()
    found = json.loads(text)
    changed = {
        "torn": text[: len(text) // 2],
        "foreign": "[1, 2]",
        "other key": json.dumps(found | {"key": "0123"}),
        "hostile": json.dumps(found | {"outcome": {**found["outcome"], "values": {"accuracy": "1"}}}),
        "no weights": text,
    }
    (tmp_path / "result.json").write_text(changed[damage])
    (tmp_path / "plan.yaml").write_text("schema: 1\n")
    if damage != "no weights":
        (tmp_path / "model.safetensors").write_bytes(b"")

    def again(*args: object) -> Any:
        raise InputError("it runs again")

    monkeypatch.setattr(trials, "compress", again)
    mine = replace(asked, folder=str(tmp_path))
    assert run_trial(mine) == TrialOutcome(number=7, state="failed", fidelity="full", message="it runs again")


def test_the_key_covers_what_files_hold(
    kept: tuple[TrialTask, TrialOutcome], folder: Path, base: str, tmp_path: Path
) -> None:
    asked, _ = kept
    accelerator = load_hardware("edge-16x16")
    first = trials.trial_key(asked, accelerator)
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(Path(base).read_bytes())
    assert trials.trial_key(replace(asked, base=str(moved), folder=str(tmp_path)), accelerator) == first
    moved.write_bytes(Path(base).read_bytes()[:-1] + b"\0\0")
    keys = {
        first,
        trials.trial_key(replace(asked, base=str(moved)), accelerator),
        trials.trial_key(asked, load_hardware("edge-16x16", {"rows": 8})),
        trials.trial_key(replace(asked, methods={"lsq": {"weight_bits": 4}}), accelerator),
        trials.trial_key(replace(asked, data="fashion-mini"), accelerator),
    }
    assert len(keys) == 5


def test_a_trial_of_a_batch_runs_on_one_thread(folder: Path, base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []

    def counted(*args: Any, **kwargs: Any) -> Any:
        threads.append(torch.get_num_threads())
        return measure(*args, **kwargs)

    monkeypatch.setattr("picojoule.accuracy.measure", counted)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        outcome = run_trial(task(folder, base, methods={}, batch=2))
    finally:
        torch.set_num_threads(before)
    assert threads == [1]
    assert sum(outcome.bill.values()) == pytest.approx(outcome.values["energy_pj_per_sample"])


# --- what goes wrong ----------------------------------------------------------------------------------------------------


def test_what_all_trials_share_stops_the_study(folder: Path) -> None:
    """It is not stored as a failed trial: when it is mended, the study goes on."""
    network, gone = str(folder / "small.py"), str(folder / "gone.safetensors")
    for changes, message in (
        ({"network": f"{network}:failing"}, f"{network}: failing() failed: ZeroDivisionError: no luck"),
        (
            {"network": f"{network}:broken"},
            "small.broken: layer 'fc': parameter 'fc.weight' holds NaN or infinite values",
        ),
        ({"data": None}, "accuracy and compression need data; add the key 'data' to the study"),
        ({"base": gone}, f"{gone}: the weights of the trained original are gone; put them back, or search anew"),
        ({"hardware": "isaak"}, "unknown hardware preset 'isaak'"),
    ):
        with pytest.raises(PicojouleError) as caught:
            run_trial(task(folder, None, **{"methods": {}} | changes))
        assert str(caught.value).startswith(message)


def test_a_lack_of_memory_stops_the_study(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> Any:
        raise MemoryError("64 GiB")

    monkeypatch.setattr("picojoule.accuracy.measure", full)
    with pytest.raises(InputError, match=r"trial \d+ could not be run here: MemoryError: 64 GiB"):
        run_trial(task(folder, None, methods={}))


def test_failures_are_outcomes_with_a_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(**changes: Any) -> tuple[str, str]:
        outcome = run_trial(task(folder, None, **{"methods": {}} | changes))
        assert not (outcome.values or outcome.details or outcome.bill)
        return outcome.state, outcome.message

    assert ended(metrics=("energy",))[1].startswith("unknown objective 'energy'; did you mean 'energy_pj'? (choose")
    assert ended(metrics=("resources",)) == (
        "failed",
        "objective resources is null: edge-16x16 has no such figure; choose another metric",
    )
    assert ended(metrics=("ranges",)) == ("failed", "objective ranges is no number; choose another metric")
    assert ended(hardware_keys={"rows": 0})[0] == "failed"
    assert ended(methods={"lsk": {}}) == (
        "failed",
        "unknown method 'lsk'; did you mean 'lsq'? (choose from 'bitslice', 'hamming', 'lsq', 'reorder', 'slimming')",
    )
    for value, name in ((float("nan"), "NaN"), (float("inf"), "infinite")):

        def odd(*args: object, value: float = value, **kwargs: object) -> Any:
            return replace(measure(*args, **kwargs), hardware=value)  # type: ignore[arg-type]

        monkeypatch.setattr("picojoule.accuracy.measure", odd)
        assert ended() == ("failed", f"objective accuracy is {name}: this network on edge-16x16 gives no number for it")

    def raising(*args: object, **kwargs: object) -> Any:
        raise TypeError("a\nlong story " * 100)

    monkeypatch.setattr("picojoule.accuracy.measure", raising)
    state, message = ended()
    assert state == "failed" and message.startswith("TypeError: a long story a long") and len(message) == 300

    def interrupted(*args: object, **kwargs: object) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("picojoule.accuracy.measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ended()


def test_a_design_that_cannot_hold_the_network_trains_nothing(
    folder: Path, base: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def no_epochs(self: Checkpoint, history: list[dict[str, float]]) -> None:
        raise AssertionError("nothing should be trained")

    monkeypatch.setattr(Checkpoint, "write", no_epochs)
    asked = task(
        folder,
        base,
        methods={"slimming": {"ratio": 0}, "lsq": {"weight_bits": 4, "first_last_bits": 4}},
        hardware_keys={"weight_bits": 2},
        folder=str(tmp_path),
    )
    outcome = run_trial(asked)
    assert outcome.state == "infeasible"
    assert outcome.message == (
        "layer 'conv1': weight format int4 needs 4 bits but the PEs of 'edge-16x16' have 2; set weight_bits=4 or use fewer bits"
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["result.json"]
    limited = replace(asked, hardware_keys={}, limits={"area_mm2": (None, 0.5), "accuracy": (0.5, None)})
    outcome = run_trial(limited)
    assert outcome.state == "complete" and outcome.values["area_mm2"] > 0.5
    assert str(outcome.details["skipped"]).startswith("nothing was trained: area_mm2 1.")
    assert str(outcome.details["skipped"]).endswith(" > 0.5 whatever is trained")
    pruned = replace(limited, methods=BOTH)  # what it costs is known after training only
    assert run_trial(pruned).message == "AssertionError: nothing should be trained"


def test_a_folder_that_cannot_be_written_is_no_outcome(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    asked = task(folder, None, methods={}, metrics=("latency_s",), folder=str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"result.json: cannot write: '.*file' is not a folder"):
        run_trial(asked)


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"accuracy": (2.0, None)}, ""),
        ({"latency_s": (0.5, 1.0)}, ""),
        ({"latency_s": (0.5, None), "area_mm2": (None, 2)}, "area_mm2 2.5 > 2"),
        ({"latency_s": (0.75, None)}, "latency_s 0.5 < 0.75"),
    ],
)
def test_limits_include_their_bounds(limits: Any, said: str) -> None:
    class Report:
        totals: ClassVar[dict[str, float]] = {"latency_s": 0.5, "area_mm2": 2.5}

    found = trials._broken_limit(task(Path(), None, limits=limits), Report())  # type: ignore[arg-type]
    assert found == (said and f"nothing was trained: {said} whatever is trained")


# --- settings -----------------------------------------------------------------------------------------------------------


def test_methods_run_in_the_order_of_the_table_and_idle_ones_not_at_all() -> None:
    assert list(active(BOTH)) == ["slimming", "lsq"]
    for ratio in (0, 0.0, None):
        assert list(active({"lsq": {}, "slimming": {"ratio": ratio}})) == ["lsq"]
    assert list(active({"slimming": {"ratio": None, "budget": 0.5}})) == ["slimming"]
    assert list(active({"slimming": {"l1": 1e-4}})) == ["slimming"]


@pytest.mark.parametrize(
    ("config", "given", "epochs", "expected"),
    [
        (SlimmingConfig, {"ratio": 0.3}, 5, {"ratio": 0.3, "epochs": 3, "finetune_epochs": 2, "seed": 4}),
        (SlimmingConfig, {"finetune_epochs": 9}, 1, {"epochs": 1, "finetune_epochs": 9, "seed": 4}),
        (LsqConfig, {"weight_bits": 2}, 5, {"weight_bits": 2, "epochs": 5, "seed": 4}),
        (LsqConfig, {"epochs": 7, "seed": 1}, 5, {"epochs": 7, "seed": 1}),
        (LsqConfig, {"epochs": 7}, 0, {"epochs": 0, "seed": 4}),
    ],
)
def test_epochs_are_shared_and_what_is_given_wins(
    config: Any, given: Mapping[str, Any], epochs: int, expected: Mapping[str, Any]
) -> None:
    assert settings_for(config, given, epochs, 4) == expected
    config(**expected)


# --- outcomes as text ---------------------------------------------------------------------------------------------------


def test_outcomes_come_back_from_json_as_they_were() -> None:
    outcome = TrialOutcome(
        number=3,
        state="complete",
        fidelity="proxy",
        values={"a": 0.1 + 0.2, "b": 5e-324, "c": 1.7976931348623157e308},
        details={"skipped": "é", "x": 1 / 3},
        bill={"k": 2 / 3},
    )
    assert outcome_from_json(outcome_to_json(outcome)) == outcome
    assert "\n" not in outcome_to_json(outcome)
    good = json.loads(outcome_to_json(outcome))
    bad: list[Any] = ["", "{", [], {}, good | {"x": 1}, good | {"state": "fine"}, good | {"values": [1.0]}]
    bad += [good | {"values": {"a": True}}, good | {"bill": None}]
    bad += [outcome_to_json(outcome).replace("5e-324", "NaN")]
    for text in bad:
        with pytest.raises(InputError, match="no outcome of a trial"):
            outcome_from_json(text if isinstance(text, str) else json.dumps(text))


# --- hardware only ------------------------------------------------------------------------------------------------------


def test_a_hardware_only_trial_needs_no_torch_and_loads_its_network_once(tmp_path: Path) -> None:
    (tmp_path / "net.csv").write_text("conv1, 8, 8, 3, 3, 4, 8, 1\n")
    code = """
import sys
from picojoule import networks
from picojoule.studies import trial_network
from picojoule.studies.trial import FrontTask, TrialTask, finish_front_point, run_trial
loaded = []
def counted(*args, before=trial_network.load_network, **kwargs):
    loaded.append(args)
    return before(*args, **kwargs)
trial_network.load_network = counted
values = []
for rows in (8, 16, 32):
    task = TrialTask(
        number=0, network="net.csv", weights=None, data=None, hardware="edge-16x16", hardware_keys={"rows": rows},
        methods={}, metrics=("latency_s", "area_mm2"), epochs=0, fidelity="price", limits={}, folder="kept", base=None)
    outcome = run_trial(task)
    assert outcome.state == "complete", outcome.message
    values.append(outcome.values["area_mm2"])
assert len(loaded) == 1 and values == sorted(set(values)), (loaded, values)
assert "torch" not in sys.modules
found = finish_front_point(FrontTask(trial=task, folder="front"))
assert found == {k: outcome.details[k] for k in ("energy_low", "energy_high")}
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert {"report.json", "layers.csv", "point.json"} <= {p.name for p in (tmp_path / "front").iterdir()}


def test_a_network_is_loaded_again_when_its_file_changes(folder: Path, base: str, tmp_path: Path) -> None:
    path = tmp_path / "base.safetensors"
    path.write_bytes(Path(base).read_bytes())
    source = task(folder, str(path)).source
    first = trial_network.original(source)
    assert trial_network.original(source) is first
    other = train_base(base_task(folder, epochs=1, folder=str(tmp_path / "other")))
    path.write_bytes(Path(other).read_bytes())
    os.utime(path, ns=(1, 1))  # a coarse clock may give both the same time
    assert not torch.equal(trial_network.original(source).module.fc.weight, first.module.fc.weight)


# --- the original, the front --------------------------------------------------------------------------------------------


def test_the_original_is_trained_once_resumed_and_checked(
    folder: Path, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = base_task(folder, folder=str(tmp_path))
    calls = 0

    def counting(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        return before(*args, **kwargs)

    before = training.train
    monkeypatch.setattr(training, "train", counting)
    write = Checkpoint.write

    def dying(self: Checkpoint, history: list[dict[str, float]]) -> None:
        write(self, history)
        raise KilledError

    with monkeypatch.context() as patched, pytest.raises(KilledError):
        patched.setattr(Checkpoint, "write", dying)
        train_base(asked)
    torch.manual_seed(123)  # a user's function that draws values draws the same ones in any process
    path = Path(train_base(asked))
    assert path.read_bytes() == Path(base).read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["key.json", "model.safetensors"]
    assert (train_base(asked), calls) == (str(path), 2)
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    train_base(asked)
    train_base(replace(asked, lr=2e-2))
    assert calls == 4
    assert path.read_bytes() != Path(base).read_bytes()


def test_a_front_point_is_saved_whole_and_read_on_test_data_once(
    kept: tuple[TrialTask, TrialOutcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, outcome = kept
    front = FrontTask(trial=asked, folder=str(tmp_path / "front"))
    found = finish_front_point(front)
    document = json.loads((tmp_path / "front" / "report.json").read_text())
    assert document["accuracy"]["split"] == "test" and document["accuracy"]["samples"] == 360
    low, high = wilson_interval(round(document["accuracy"]["hardware"] * 360), 360)
    assert found == {
        "energy_low": outcome.details["energy_low"],
        "energy_high": outcome.details["energy_high"],
        "accuracy_test": document["accuracy"]["hardware"],
        "test_low": low,
        "test_high": high,
    }
    assert document["totals"]["energy_pj_per_sample"] == outcome.values["energy_pj_per_sample"]
    assert document["provenance"]["weights"] == "trained"

    def split_used(*args: object, split: str = "", **kwargs: object) -> Any:
        raise InputError(f"read {split}")

    monkeypatch.setattr("picojoule.accuracy.measure", split_used)
    assert finish_front_point(front) == found
    with pytest.raises(InputError, match="read test"):
        finish_front_point(FrontTask(trial=asked, folder=str(tmp_path / "other")))
    with pytest.raises(InputError, match="trial 7 kept no compressed network"):
        finish_front_point(FrontTask(trial=replace(asked, folder=None), folder=str(tmp_path / "other")))
