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
        pj.InfeasibleError, match=r"none of 14 trials keeps the constraints: area_mm2 must be at most 0.001, the"
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
    with pytest.raises(pj.InfeasibleError, match=r"no design of 3 trials holds the network; the first: .* chips"):
        search(study, tmp_path / "out")
    found = read_study(tmp_path / "out")
    assert list(found.columns["state"]) == ["infeasible"] * 3
    assert all("chips" in message for message in found.columns["message"])
    assert np.isnan(found.costs()).all()


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
            process.kill()
        assert told(out)[: len(kept)] == kept
        kept = told(out)
        assert len(kept) >= done
    subprocess.run([*command, str(out), "--resume"], check=True, capture_output=True)
    assert told(out)[: len(kept)] == kept and sorted(told(out)) == list(range(60))
    assert contents(out) == contents(whole)
    assert (out / "pareto.png").read_bytes() == (whole / "pareto.png").read_bytes()
