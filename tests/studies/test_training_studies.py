"""Studies whose trials train: the same front from one job and from two, and after the death of driver and workers."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

import picojoule as pj
from picojoule.studies.driver import promote, survivors
from picojoule.studies.spec import parse_study

RESULTS = ("trials.csv", "pareto.csv", "summary.json", "pareto.png")
STUDY: dict[str, Any] = {
    "schema": 1,
    "data": "digits",
    "hardware": "edge-32x32",
    "space": {
        "hardware.rows": [4, 8, 16, 32, 64],
        "compression.lsq.weight_bits": [8, 6, 5, 4, 3, 2],
        "compression.lsq.first_last_bits": [None],
    },
    "objectives": {"accuracy": "max", "energy_pj_per_sample": "min"},
    "sampler": "nsga2",
    "batch_size": 3,
    "trials": 5,
    "training": {"epochs": 2, "proxy_epochs": 1, "promote": 0.4, "pretrain_epochs": 1},
    "seed": 1,
}
NETWORK = """
import torch

def make():
    torch.manual_seed(0)
    layers = torch.nn.Flatten(), torch.nn.Linear(64, 24), torch.nn.ReLU(), torch.nn.Linear(24, 10)
    return torch.nn.Sequential(*layers), torch.zeros(2, 1, 8, 8)
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    (folder / "net.py").write_text(NETWORK)
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({**STUDY, "network": f"{folder / 'net.py'}:make"}, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def whole(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the study, searched by one job without a stop."""
    out = tmp_path_factory.mktemp("whole") / "out"
    pj.search(study, out=out)
    return out


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in RESULTS}


def test_proxies_first_and_only_some_train_fully(whole: Path) -> None:
    found = pj.read_study(whole)
    journal = [json.loads(line) for line in (whole / "journal.log").read_text().splitlines()]
    told = [entry["user_attr"]["outcome"]["fidelity"] for entry in journal if "outcome" in entry.get("user_attr", {})]
    assert sorted(told) == ["full"] * (2 + 1) + ["proxy"] * 2  # 0.4 of 3 and of 2, rounded up
    looked = [entry for entry in journal if any("last look" in key for key in entry.get("user_attr", {}))]
    assert list(found.columns["fidelity"]).count("full") == 3 + len(looked)
    assert set(found.columns["fidelity"][found.columns["on_front"]]) == {"full"}
    for row in found.front:
        report = json.loads((whole / f"front/{row['number']:05d}/report.json").read_text())
        assert report["accuracy"]["split"] == "test" and report["accuracy"]["hardware"] == row["accuracy_test"]
        assert row["accuracy_low"] <= row["accuracy"] <= row["accuracy_high"]
        assert report["totals"]["energy_pj_per_sample"] == pytest.approx(row["energy_pj_per_sample"], rel=1e-12)
        assert 0 <= row["p_non_dominated"] <= 1
    assert not list(whole.glob("trials/*/*/train-*.pt"))  # checkpoints are for unfinished trials


def test_two_jobs_one_of_them_killed_find_the_same(study: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "picojoule", "search", str(study), "--out", str(out), "--jobs", "2", "--resume"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_for(lambda: bool(list(out.glob("trials/*/*/result.json"))))
        workers = children_of(process.pid)
        assert len(workers) >= 2 and process.poll() is None
        os.kill(workers[0], signal.SIGKILL)  # a worker: its trial starts again
        time.sleep(0.5)
        process.kill()  # the driver, and so its workers
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    kept = {p: p.read_bytes() for p in out.glob("trials/*/*/result.json")}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.wait(120) == 0, process.stderr.read() if process.stderr else ""
    assert contents(out) == contents(whole)
    assert all(path.read_bytes() == before for path, before in kept.items())


def wait_for(happened: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def children_of(pid: int) -> list[int]:
    """Return the worker processes of a driver."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in listed if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text()]


def outcome(state: str = "complete", **values: float) -> Mapping[str, Any]:
    return {"state": state, "fidelity": "proxy", "values": values, "message": ""}


def test_what_is_promoted() -> None:
    spec = parse_study(
        {
            **STUDY,
            "network": "lenet5",
            "constraints": {"area_mm2": {"max": 5.0}},
            "training": {"epochs": 4, "proxy_epochs": 1, "promote": 0.5},
        },
        "study",
    )
    proxies = {
        0: outcome(accuracy=0.9, energy_pj_per_sample=3.0, area_mm2=1.0),
        1: outcome(accuracy=0.8, energy_pj_per_sample=4.0, area_mm2=1.0),  # beaten by 0
        2: outcome(accuracy=0.99, energy_pj_per_sample=1.0, area_mm2=9.0),  # too large
        3: outcome(accuracy=0.5, energy_pj_per_sample=2.0, area_mm2=1.0),
        4: outcome("failed"),
        5: outcome(accuracy=0.7, energy_pj_per_sample=2.5, area_mm2=1.0),  # between 0 and 3: least crowded goes last
    }
    strict = spec.model_copy(update={"constraints": parse_study({**STUDY, "network": "lenet5", "constraints": {
        "area_mm2": {"max": 5.0}, "accuracy": {"min": 0.95}
    }}, "study").constraints})  # fmt: skip
    assert promote(strict, proxies) == [0, 3, 5]  # training may yet bring the accuracy
    assert promote(spec, proxies) == [0, 3, 5]
    assert promote(spec, {n: proxies[n] for n in (0, 1, 3, 5)}) == [0, 3]
    assert promote(spec, {n: proxies[n] for n in (2, 4)}) == []


def test_proxies_that_the_front_does_not_beat_get_a_last_look() -> None:
    spec = parse_study(
        {**STUDY, "network": "lenet5", "training": {"epochs": 4, "proxy_epochs": 1, "promote": 0.5}},
        "study",
    )
    outcomes = {
        0: {**outcome(accuracy=0.9, energy_pj_per_sample=3.0), "fidelity": "full"},
        1: outcome(accuracy=0.8, energy_pj_per_sample=4.0),  # beaten
        2: outcome(accuracy=0.95, energy_pj_per_sample=5.0),
        3: outcome(accuracy=0.9, energy_pj_per_sample=3.0),  # equal is not beaten
        4: outcome("failed"),
        5: outcome(accuracy=0.5, energy_pj_per_sample=2.0),
    }
    assert survivors(spec, outcomes) == [2, 3, 5]
    few = spec.model_copy(update={"training": spec.training.model_copy(update={"promote": 0.2})})
    assert survivors(few, outcomes) == [2, 5]  # two of six, the ends of the front


def test_a_trial_without_a_number_is_kept_with_its_message(study: Path, tmp_path: Path) -> None:
    values = yaml.safe_load(study.read_text())
    network = tmp_path / "net.py"
    network.write_text(
        NETWORK + "\n\ndef broken():\n    net, x = make()\n    net[1].weight.data[:] = 0\n    return net, x\n"
    )
    values |= {
        "network": f"{network}:make",
        "objectives": {"accuracy": "max", "energy_pj_per_sample": "min"},
        "trials": 2,
    }
    values["space"] = {"hardware.rows": [8, 16], "compression.lsq.lr": [1e30]}
    values["training"] = {"epochs": 1, "proxy_epochs": 1, "pretrain_epochs": 1}
    with pytest.raises(pj.InputError, match=r"all 2 trials of the first batch failed for the same reason: .*finite"):
        pj.search(values, out=tmp_path / "out")
    found = pj.read_study(tmp_path / "out")
    assert list(found.columns["state"]) == ["failed", "failed"]
    assert all("not finite; lower lr" in message for message in found.columns["message"])


def test_training_without_a_folder_is_refused(study: Path) -> None:
    with pytest.raises(pj.InputError, match=r"a study that trains needs a folder for weights and checkpoints"):
        pj.search(study)
