"""Folders as `evaluate --out` and `search --out` leave them, small and priced for real; only accuracies are made up."""

import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import picojoule as pj
from picojoule.page import study_tables, write_page
from picojoule.sim.errors import InfeasibleError
from picojoule.sim.hardware import load_hardware
from picojoule.sim.report import Accuracy, Report, rows_to_csv, wilson_interval
from picojoule.studies.results import StudyResult, columns_of, front_rows, write_front, write_summary, write_trials
from picojoule.studies.spec import StudySpec

from .browsing import MISSING, Browser

HOSTILE = "</script><img src=x onerror=\"document.title='owned'\">"
_LAYERS = """name, ifmap h, ifmap w, filter h, filter w, channels, filters, stride,
conv1, 34, 34, 3, 3, 3, 16, 1,
conv2, 34, 34, 3, 3, 16, 32, 2,
{hostile}, 16, 16, 3, 3, 32, 64, 1,
stage.with.a.very.long.name.as.importers.make.them.block3.conv2, 14, 14, 3, 3, 64, 64, 1,
conv5, 7, 7, 3, 3, 64, 128, 1,
fc, 1, 1, 1, 1, 128, 10, 1,
"""


def save_run(report: Report, folder: Path) -> Path:
    """As `Report.save`, without its two figures, which take longer than all else."""
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(report.to_json())
    (folder / "layers.csv").write_text(report.to_csv())
    (folder / "components.csv").write_text(rows_to_csv(report.component_rows()))
    (folder / "provenance.json").write_text(json.dumps(dict(report.provenance)))
    (folder / "config.resolved.yaml").write_text(yaml.safe_dump(dict(report.config), sort_keys=False))
    return folder


def measured(correct: int, samples: int = 2000, split: str = "test") -> Accuracy:
    share = correct / samples
    low, high = wilson_interval(correct, samples)
    return Accuracy(metric="top1", floating=share, hardware=share, interval=(low, high), samples=samples, split=split)


@pytest.fixture(scope="session")
def price(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Report]:
    """Prices the small network on edge-32x32 with changed keys."""
    path = tmp_path_factory.mktemp("net") / "small.csv"
    path.write_text(_LAYERS.format(hostile=HOSTILE.replace(",", "")))
    network = pj.load(path)
    return lambda **keys: load_hardware("edge-32x32", keys).evaluate(network)


@pytest.fixture(scope="session")
def run_folder(price: Callable[..., Report], tmp_path_factory: pytest.TempPathFactory) -> Path:
    report = price().with_accuracy(measured(1820))
    return save_run(report, tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture
def copied(run_folder: Path, tmp_path: Path) -> Path:
    """A run folder that a test may damage."""
    return Path(shutil.copytree(run_folder, tmp_path / "run"))


def make_study(price: Callable[..., Report], folder: Path, objectives: Mapping[str, str], trials: int = 60) -> Path:
    """A study's folder: every kind of trial, front points with run folders."""
    accuracy = "accuracy" in objectives
    space: dict[str, Any] = {
        "hardware.rows": [8, 16, 32, 64],
        "hardware.cols": [8, 16, 32, 64],
        "hardware.dataflow": ["os", "ws", "is"],
    }
    if accuracy:
        space["compression.slimming.ratio"] = {"low": 0.0, "high": 0.8, "step": 0.1}
    spec = StudySpec.model_validate(
        {
            "schema": 1, "network": "small.csv", "data": "fashion-mini" if accuracy else None, "hardware": "edge-32x32",
            "space": space, "objectives": dict(objectives), "constraints": {"area_mm2": {"max": 5.0}}, "trials": trials,
            "sampler": "random",
        }
    )  # fmt: skip
    random = np.random.default_rng(7)
    values, outcomes, reports = [], [], {}
    for number in range(trials):
        value = {k: v[int(random.integers(len(v)))] for k, v in space.items() if isinstance(v, list)}
        if accuracy:
            value["compression.slimming.ratio"] = round(0.1 * int(random.integers(9)), 1)
        report = price(**{k.partition(".")[2]: v for k, v in value.items() if k.startswith("hardware.")})
        found = {m: float(report.totals[m]) for m in spec.metrics if m != "accuracy"}
        if accuracy:
            loss = value["compression.slimming.ratio"]
            found["accuracy"] = 0.93 - 0.2 * loss**2 - 0.02 * float(random.random())
            found = {m: v * (1 - 0.5 * loss) if m != "accuracy" else v for m, v in found.items()}
        outcome: dict[str, Any] = {
            "state": "complete",
            "fidelity": "full" if accuracy else "price",
            "values": found,
            "message": "",
        }
        if number % 13 == 5:
            outcome = {
                "state": "failed",
                "fidelity": "",
                "values": {},
                "message": f"training diverged <b>at</b> step {number}, loss NaN",
            }
        elif number % 17 == 3:
            message = str(
                InfeasibleError("small.csv: the filter needs 4,608 rows, the array holds 8; give it more rows")
            )
            outcome = {"state": "infeasible", "fidelity": "", "values": {}, "message": message}
        elif accuracy and number % 4 == 2:
            outcome["fidelity"] = "proxy"
        values.append(value)
        outcomes.append(outcome)
        reports[number] = report
    columns = columns_of(spec, values, outcomes)
    details = {}
    for number in (int(n) for n in columns["number"][columns["on_front"]]):
        report = reports[number]
        low, high = report.totals["ranges"]["energy_pj_per_sample"]
        left = 1 - 0.5 * values[number].get("compression.slimming.ratio", 0.0)
        details[number] = {"energy_low": left * low, "energy_high": left * high}
        if accuracy:
            share = float(columns["accuracy"][number])
            tested = measured(int(share * 2000) - 9)
            report = report.with_accuracy(tested)
            details[number] |= {
                "accuracy_low": share - 0.012, "accuracy_high": share + 0.011, "accuracy_test": tested.hardware,
                "test_low": tested.interval[0], "test_high": tested.interval[1],
            }  # fmt: skip
        save_run(report, folder / "front" / f"{number:05d}")
    shares = {n: 1 / (1 + math.sqrt(n)) for n in details}
    made = StudyResult(
        spec=spec, columns=columns, front=tuple(front_rows(spec, columns, details, shares)), folder=folder
    )
    (folder / "study.yaml").write_text(spec.to_yaml())
    write_trials(folder, columns)
    write_front(folder, made.front, spec)
    write_summary(folder, {"schema": 1, "trials": trials})
    return folder


@pytest.fixture(scope="session")
def study_folder(price: Callable[..., Report], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two objectives, one of them accuracy."""
    return make_study(
        price, tmp_path_factory.mktemp("studies") / "two", {"accuracy": "max", "energy_pj_per_sample": "min"}
    )


@pytest.fixture(scope="session")
def study_of_three(price: Callable[..., Report], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three objectives over hardware alone."""
    goals = {"energy_pj_per_sample": "min", "latency_s": "min", "area_mm2": "min"}
    return make_study(price, tmp_path_factory.mktemp("studies") / "three", goals)


# --- in a browser, one for all -------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if MISSING:
        pytest.skip(f"the page is not tried in a browser: {', '.join(MISSING)} not installed")
    made = Browser(tmp_path_factory.mktemp("profile"))
    yield made
    made.driver.quit()


@pytest.fixture(scope="session")
def run_page(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("html") / "run.html"
    write_page(run_folder, out)
    return out


@pytest.fixture(scope="session")
def study_page(study_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("html") / "study.html"
    write_page(study_folder, out)
    return out


@pytest.fixture(scope="session")
def sampled_page(study_of_three: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a study of which a sample is drawn."""
    out = tmp_path_factory.mktemp("html") / "sampled.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study_tables, "MOST_TRIALS", 40)
        patch.setattr(study_tables, "SAMPLE", 30)
        write_page(study_of_three, out)
    return out


@pytest.fixture(scope="session")
def long_names_page(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run in which every name is long and has nowhere to break."""
    folder = Path(shutil.copytree(run_folder, tmp_path_factory.mktemp("long") / "run"))
    word = "x" * 230
    document = json.loads((folder / "report.json").read_text())
    document["network"]["name"] = document["hardware"]["name"] = document["accuracy"]["split"] = word
    document["totals"]["resources"] = {word: 3}
    for layer in document["layers"]:
        layer |= {"name": word + layer["name"], "op": word, "unit": word, "basis": word}
        for key in ("energy_pj", "utilization_lost"):
            layer[key] = {word + k: v for k, v in layer[key].items()}
    document["coverage"]["notes"].append(word)
    (folder / "report.json").write_text(json.dumps(document))
    write_page(folder, out := folder.parent / "long.html")
    return out
