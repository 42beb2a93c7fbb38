"""Studies end to end: what a search leaves on disk, and that no interruption shows in it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import picojoule as pj
from picojoule.searching import SearchRequest, run_search
from picojoule.studies.results import read_study

MakeStudy = Callable[..., Path]
RESULTS = ("trials.csv", "pareto.csv", "summary.json", "study.yaml")


def search(study: Path | dict[str, Any], out: Path | None, **options: Any) -> pj.StudyResult:
    return run_search(SearchRequest(study=study, out=out, **options), say=lambda text: None)


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in RESULTS}


def told(folder: Path) -> list[int]:
    """Return the ids of trials whose end stands in the journal, in its order."""
    text = (folder / "journal.log").read_text()
    lines = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]  # the last may be half written
    return [entry["trial_id"] for entry in lines if entry["op_code"] == 6 and entry["state"] in (1, 3)]


@pytest.fixture(scope="module", autouse=True)
def _no_figures() -> Any:
    """Leave figures out: they have tests of their own, and are drawn from what is on disk."""
    patch = pytest.MonkeyPatch()
    patch.setattr("picojoule.figures.save_study_figures", lambda *args: None)
    patch.setattr("picojoule.sim.report_plots.save_figures", lambda *args: None)
    yield
    patch.undo()


def test_a_study_leaves_tables_that_read_back(make_study: MakeStudy, tmp_path: Path) -> None:
    found = search(make_study(), tmp_path / "out")
    again = read_study(tmp_path / "out")
    assert len(found) == len(again) == 14
    assert list(found.columns) == list(again.columns)
    for name, column in found.columns.items():
        np.testing.assert_array_equal(column, again.columns[name], err_msg=name)
    assert [dict(row) for row in again.front] == [dict(row) for row in found.front]
    assert sorted(told(tmp_path / "out")) == list(range(14))
    assert (found.columns["violated"][found.columns["on_front"]] == "").all()


def test_a_front_point_costs_what_evaluate_says(make_study: MakeStudy, tmp_path: Path) -> None:
    found = search(make_study(), tmp_path / "out")
    for row in found.front:
        keys = {key.removeprefix("hardware."): row[key] for key in found.spec.space}
        report = pj.evaluate(found.spec.network, "edge-32x32", overrides=keys, seed=3)
        assert row["energy_pj_per_sample"] == pytest.approx(report.totals["energy_pj_per_sample"], rel=1e-12)
        assert row["latency_s"] == pytest.approx(report.totals["latency_s"], rel=1e-12)
        low, high = report.totals["ranges"]["energy_pj_per_sample"]
        assert (row["energy_low"], row["energy_high"]) == (low, high)
        assert json.loads((tmp_path / f"out/front/{row['number']:05d}/report.json").read_text())["complete"]


def test_stopped_at_any_write_a_study_ends_the_same(
    make_study: MakeStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, trials = make_study(trials=5, batch_size=2), 5
    search(study, tmp_path / "whole")
    wanted = contents(tmp_path / "whole")
    original, count = Path.open, [0, 0]

    def opened(self: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
        if self.name == "journal.log" and mode == "ab":
            count[0] += 1
            if count[0] == count[1]:
                if count[0] % 3:  # a part of the line, or none of it
                    with original(self, "ab") as file:
                        file.write(b'{"op_code":4,"worker_id":"0123456789","study_id":0'[: 5 * (count[0] % 10)])
                raise OSError(28, "No space left on device")
        return original(self, mode, *rest, **options)

    monkeypatch.setattr(Path, "open", opened)
    stopped = 0
    for stop in range(1, 100):
        count[:] = [0, stop]
        out = tmp_path / f"stopped-{stop}"
        try:
            search(study, out)
        except pj.InputError as error:
            assert "journal.log: cannot write: No space left on device" in str(error)
            stopped += 1
            count[1] = -1
            search(study, out, resume=True)
        assert contents(out) == wanted, f"stopped at write {stop}"
        assert sorted(told(out)) == list(range(trials))
        if count[1] != -1:
            break
    assert stopped > 4 * trials  # each trial is written before and after, with its limits and its state


def test_a_damaged_middle_of_the_journal_is_refused(make_study: MakeStudy, tmp_path: Path) -> None:
    study, out = make_study(), tmp_path / "out"
    search(study, out)
    lines = (out / "journal.log").read_text().splitlines(keepends=True)
    (out / "journal.log").write_text("".join([*lines[:7], "{half a li\n", *lines[7:]]))
    with pytest.raises(pj.InputError, match=r"journal.log:8: is damaged \(not a line of JSON\); restore the file or"):
        search(study, out, resume=True)


def test_the_same_batches_in_any_number_of_jobs_and_storages(make_study: MakeStudy, tmp_path: Path) -> None:
    in_memory = search(make_study(), None)
    on_disk = search(make_study(), tmp_path / "journal")
    in_base = search(make_study(storage=f"sqlite:///{tmp_path}/base.db"), tmp_path / "sqlite")
    for other in (on_disk, in_base):
        np.testing.assert_array_equal(in_memory.costs(), other.costs())
    assert (tmp_path / "journal/trials.csv").read_bytes() == (tmp_path / "sqlite/trials.csv").read_bytes()


def test_a_database_keeps_a_study_through_a_stop(
    make_study: MakeStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from picojoule.studies.storage import TrialStore

    study = make_study(storage=f"sqlite:///{tmp_path}/base.db")
    search(make_study("whole.yaml"), tmp_path / "whole")
    original = TrialStore.finish

    def finish(self: TrialStore, number: int, *rest: Any) -> None:
        if number == 6:
            raise KeyboardInterrupt
        original(self, number, *rest)

    monkeypatch.setattr(TrialStore, "finish", finish)
    with pytest.raises(KeyboardInterrupt):
        search(study, tmp_path / "out")
    assert len(read_study(tmp_path / "out")) == 6
    monkeypatch.setattr(TrialStore, "finish", original)
    with pytest.raises(pj.InputError, match="holds this study already; add --resume"):
        search(study, tmp_path / "elsewhere")
    search(study, tmp_path / "out", resume=True)
    assert (tmp_path / "out/trials.csv").read_bytes() == (tmp_path / "whole/trials.csv").read_bytes()


def test_a_study_that_grows_is_the_longer_study(make_study: MakeStudy, tmp_path: Path) -> None:
    search(make_study(), tmp_path / "grown", trials=6)
    search(make_study(), tmp_path / "grown", trials=14, resume=True)
    search(make_study(), tmp_path / "whole")
    assert contents(tmp_path / "grown") == contents(tmp_path / "whole")


def test_a_folder_with_a_study_needs_resume_and_the_same_study(make_study: MakeStudy, tmp_path: Path) -> None:
    out = tmp_path / "out"
    search(make_study(), out)
    with pytest.raises(
        pj.InputError, match="out: holds a study already; add --resume to go on with it, or give another"
    ):
        search(make_study(), out)
    with pytest.raises(pj.InputError) as caught:
        search(make_study(seed=4, objectives={"energy_pj_per_sample": "min", "latency_s": "max"}), out, resume=True)
    assert 'holds another study than is asked for: objectives.latency_s: "min" -> "max"; seed: 3 -> 4' in str(
        caught.value
    )


def test_a_changed_network_file_is_named(make_study: MakeStudy, tmp_path: Path) -> None:
    study, out = make_study(), tmp_path / "out"
    search(study, out)
    network = tmp_path / "small.csv"
    network.write_text(network.read_text().replace("10, 1", "12, 1"))
    with pytest.raises(
        pj.InputError, match=r"cannot be resumed, because what its results depend on has changed: network"
    ):
        search(study, out, resume=True)


def test_a_study_file_changed_while_it_runs_stops_the_study(
    make_study: MakeStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from picojoule.studies.pricing import BatchPricing

    study, out = make_study(), tmp_path / "out"
    original, calls = BatchPricing.__call__, [0]

    def change(self: BatchPricing, batch: Any) -> Any:
        calls[0] += 1
        if calls[0] == 2:
            values = yaml.safe_load(study.read_text())
            study.write_text(yaml.safe_dump({**values, "seed": 9}))
        return original(self, batch)

    monkeypatch.setattr(BatchPricing, "__call__", change)
    with pytest.raises(pj.InputError, match=r"study.yaml: was changed while the study runs: seed: 3 -> 9"):
        search(study, out)
    assert len(read_study(out)) == 8  # two batches are kept


def test_constraints_that_nothing_keeps_are_named(make_study: MakeStudy, tmp_path: Path) -> None:
    study = make_study(constraints={"area_mm2": {"max": 0.001}, "latency_s": {"max": 10.0}})
    with pytest.raises(
        pj.InfeasibleError, match=r"none of 14 complete trials meets area_mm2 <= 0.001 \(closest: 3.18423, trial 2\)"
    ):
        search(study, tmp_path / "out")
    found = read_study(tmp_path / "out")
    assert len(found) == 14 and not found.front
    assert all(text.startswith("area_mm2 ") for text in found.columns["violated"])


def test_designs_that_cannot_hold_the_network_are_kept_with_their_reason(make_study: MakeStudy, tmp_path: Path) -> None:
    study = make_study(
        hardware="isaac", space={"hardware.clock_mhz": {"low": 5.0, "high": 10.0}}, sampler="tpe", trials=3
    )
    network = tmp_path / "small.csv"
    network.write_text(network.read_text() + "huge, 9, 9, 3, 3, 8192, 16384, 1,\n")
    with pytest.raises(
        pj.InfeasibleError,
        match=r"no trial is complete \(3 told: 3 infeasible\); the first infeasible, trial 0: .* chips",
    ):
        search(study, tmp_path / "out")
    found = read_study(tmp_path / "out")
    assert list(found.columns["state"]) == ["infeasible"] * 3
    assert all("chips" in message for message in found.columns["message"])
    assert np.isnan(found.costs()).all()


def test_values_that_do_not_go_together_fail_alone(make_study: MakeStudy, tmp_path: Path) -> None:
    space = {"hardware.adc_bits": [1, 8], "hardware.encoding": ["offset", "differential"]}
    for name, more in (("own", {}), ("optuna", {"hardware.clock_mhz": {"low": 5.0, "high": 10.0}})):
        study = make_study(hardware="isaac", space={**space, **more}, constraints=None, trials=12, sampler="random")
        found = search(study, tmp_path / name)
        failed = found.columns["state"] == "failed"
        wrong = (found.columns["hardware.adc_bits"] == 1) & (found.columns["hardware.encoding"] == "differential")
        assert failed.any() and not failed.all()
        np.testing.assert_array_equal(failed, wrong)
        assert all("adc_bits must be at least 2" in message for message in found.columns["message"][failed])


def test_the_hardware_of_a_study_is_that_of_its_beginning(
    make_study: MakeStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from picojoule.studies.storage import TrialStore

    hardware = tmp_path / "mine.yaml"
    hardware.write_text("extends: edge-32x32\ndram_gib_per_s: 4.0\n")
    study, original = make_study(hardware=str(hardware)), TrialStore.finish
    search(study, tmp_path / "whole")

    def finish(self: TrialStore, number: int, *rest: Any) -> None:
        if number == 5:
            hardware.write_text("extends: edge-32x32\ndram_gib_per_s: 0.1\n")
        original(self, number, *rest)

    monkeypatch.setattr(TrialStore, "finish", finish)
    search(study, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    with pytest.raises(pj.InputError, match="what its results depend on has changed: hardware"):
        search(study, tmp_path / "out", resume=True)


def test_results_of_a_changed_network_are_not_written(
    make_study: MakeStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from picojoule.studies.pricing import BatchPricing

    study, original, calls = make_study(), BatchPricing.__call__, [0]
    network = tmp_path / "small.csv"

    def change(self: BatchPricing, batch: Any) -> Any:
        calls[0] += 1
        if calls[0] == 2:
            network.write_text(network.read_text().replace("10, 1", "12, 1"))
        return original(self, batch)

    monkeypatch.setattr(BatchPricing, "__call__", change)
    with pytest.raises(pj.InputError, match="what its results depend on has changed: network"):
        search(study, tmp_path / "out")
    assert len(read_study(tmp_path / "out")) == 4


@pytest.mark.parametrize("sampler", ["nsga2", "tpe"])
def test_every_metric_can_be_asked_for(sampler: str, make_study: MakeStudy, tmp_path: Path) -> None:
    from picojoule.studies.spec import METRICS

    space = {"hardware.rows": [4, 8, 16, 32], "hardware.cols": [8, 16]}
    asked = {metric: "min" for metric in METRICS if metric != "accuracy"}
    found = search(make_study(space=space, objectives=asked, constraints=None, sampler=sampler, trials=3), None)
    row = found.rows()[1]
    keys = {key.removeprefix("hardware."): row[key] for key in space}
    totals = pj.evaluate(found.spec.network, "edge-32x32", overrides=keys).totals
    for metric in asked:
        assert row[metric] == pytest.approx(totals[metric], rel=1e-12), metric


def test_stopped_while_it_resumes_a_study_shows_all_that_is_kept(
    make_study: MakeStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from picojoule.studies.proposals import Proposals

    out, said, original = tmp_path / "out", [], Proposals.ask
    search(make_study(), out, trials=9)

    def ask(self: Proposals, batch: int, count: int) -> Any:
        if batch == 1:
            raise KeyboardInterrupt
        return original(self, batch, count)

    monkeypatch.setattr(Proposals, "ask", ask)
    with pytest.raises(KeyboardInterrupt):
        run_search(SearchRequest(study=make_study(), out=out, resume=True), say=said.append)
    assert any(text.startswith("interrupted: 9 of 14 trials are kept in ") for text in said)
    assert len(read_study(out)) == 9 and not (out / "summary.json").exists()
    monkeypatch.setattr(Proposals, "ask", original)
    said.clear()
    run_search(SearchRequest(study=make_study(), out=out, resume=True), say=said.append)
    first = next(text for text in said if " trials after" in text)
    assert first.startswith("10 of 14 trials after ")
    assert len(read_study(out)) == 14


def test_less_trials_than_there_are_is_refused(make_study: MakeStudy, tmp_path: Path) -> None:
    search(make_study(), tmp_path / "out")
    with pytest.raises(pj.InputError, match="the study has 14 trials already, 3 are asked for; give at least 14"):
        search(make_study(), tmp_path / "out", trials=3, resume=True)


def test_files_of_the_user_stay_as_they_are(make_study: MakeStudy, tmp_path: Path) -> None:
    study = make_study()
    before = study.read_bytes()
    with pytest.raises(
        pj.InputError, match=r"a search would write over .*study.yaml here; give another folder to --out"
    ):
        search(study, tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("")
    with pytest.raises(
        pj.InputError, match="other: holds other files and no study; give an empty or a new folder to --out"
    ):
        search(study, other)
    assert study.read_bytes() == before and [p.name for p in other.iterdir()] == ["thesis.tex"]


def test_methods_train_torch_modules_only(make_study: MakeStudy, tmp_path: Path) -> None:
    study = make_study(space={"compression.lsq.weight_bits": [4, 8]}, data="digits")
    with pytest.raises(
        pj.InputError, match=r"compression methods train torch modules \(a zoo name or file.py:callable\)"
    ):
        search(study, tmp_path / "out")


def test_a_stopped_search_over_designs_leaves_its_tables(
    make_study: MakeStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from picojoule.studies.pricing import BatchPricing

    space = {"hardware.rows": {"low": 4, "high": 64}, "hardware.cols": {"low": 4, "high": 64}}
    study, original, calls = make_study(space=space, population=20, trials=400), BatchPricing.totals, [0]

    def totals(self: BatchPricing, keys: Any) -> Any:
        calls[0] += 1
        if calls[0] == 9:
            raise KeyboardInterrupt
        return original(self, keys)

    search(study, tmp_path / "whole")
    monkeypatch.setattr(BatchPricing, "totals", totals)
    with pytest.raises(KeyboardInterrupt):
        search(study, tmp_path / "out")
    shown = read_study(tmp_path / "out")
    assert 20 < len(shown) < 400 and shown.front
    monkeypatch.setattr(BatchPricing, "totals", original)
    search(study, tmp_path / "out", resume=True)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_two_processes_cannot_run_one_study(make_study: MakeStudy, tmp_path: Path) -> None:
    from picojoule.studies.storage import study_lock

    out = tmp_path / "out"
    with study_lock(out):
        command = [sys.executable, "-m", "picojoule", "search", str(make_study()), "--out", str(out)]
        other = subprocess.run(command, capture_output=True, text=True, check=False)
    assert other.returncode == 2
    assert f"process {os.getpid()} on " in other.stderr and "is running this study; wait for it" in other.stderr


def test_killed_with_9_and_resumed(make_study: MakeStudy, tmp_path: Path) -> None:
    study, whole, out = make_study(trials=60), tmp_path / "whole", tmp_path / "out"
    command = [sys.executable, "-m", "picojoule", "search", str(study), "--out"]
    subprocess.run([*command, str(whole)], check=True, capture_output=True)
    kept: list[int] = []
    for done in (5, 33):
        with subprocess.Popen(
            [*command, str(out), "--resume"], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        ) as process:
            while process.poll() is None and not ((out / "journal.log").exists() and len(told(out)) >= done):
                time.sleep(0.002)
            assert process.poll() is None, "it ended before it could be killed"
            process.kill()
        assert told(out)[: len(kept)] == kept
        kept = told(out)
        assert len(kept) >= done
    subprocess.run([*command, str(out), "--resume"], check=True, capture_output=True)
    assert told(out)[: len(kept)] == kept and sorted(told(out)) == list(range(60))
    assert contents(out) == contents(whole)
    assert (out / "pareto.png").read_bytes() == (whole / "pareto.png").read_bytes()
