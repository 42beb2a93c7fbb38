"""Runs compared under sampled constants, with the chance of each to be on the front of energy and accuracy."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from picojoule import cli
from picojoule.comparison import compare, compare_runs, comparison_table, short_names
from picojoule.sim.errors import InputError
from picojoule.sim.technology import all_constants

NAMES = [name for name, c in sorted(all_constants().items()) if c.low < c.value < c.high]


def saved(folder: Path, bill: dict[str, float], accuracy: Any, batch: int = 1, network: str = "lenet5") -> Path:
    folder.mkdir(parents=True)
    report = {"network": {"name": network, "batch": batch}, "complete": True, "accuracy": accuracy}
    (folder / "report.json").write_text(json.dumps(report))
    lines = [f"conv,mac,energy,{value * batch},pJ,{name},statistics" for name, value in bill.items()]
    lines.append(f"conv,mac,area,1,mm2,{NAMES[0]},statistics")
    (folder / "components.csv").write_text("\n".join(["layer,component,metric,value,unit,source,basis", *lines]) + "\n")
    return folder


def test_front_of_energy_and_accuracy(tmp_path: Path) -> None:
    a, b = NAMES[:2]
    runs = [
        saved(tmp_path / "cheap", {a: 1.0}, {"hardware": 0.8}),
        saved(tmp_path / "good", {a: 2.0}, {"hardware": 0.9}, batch=3),
        saved(tmp_path / "beaten", {a: 2.5}, {"hardware": 0.7}),
        saved(tmp_path / "other", {b: 1.0}, {"hardware": 0.8}),
    ]
    rows = compare_runs(runs)
    assert [(r["a"], r["b"]) for r in rows][:3] == [("cheap", "good"), ("cheap", "beaten"), ("cheap", "other")]
    kept = {r[side]: r[f"p_{side}_non_dominated"] for r in rows for side in "ab"}
    assert kept["good"] > 0.9 and kept["beaten"] == 0
    assert rows[2]["p_a_less"] == pytest.approx(kept["cheap"])  # as accurate: the cheaper one stays
    assert 0 < kept["cheap"] < 1 and kept["cheap"] + kept["other"] == pytest.approx(1)
    assert list(rows[0]) == [
        *("a", "b", "a_pj_per_sample", "b_pj_per_sample", "p_a_less", "decided_by"),
        *("p_a_non_dominated", "p_b_non_dominated"),
    ]


def test_without_accuracy_nothing_is_said_of_the_front(tmp_path: Path) -> None:
    runs = [
        saved(tmp_path / "one", {NAMES[0]: 1.0}, {"hardware": 0.8}),
        saved(tmp_path / "two", {NAMES[0]: 2.0}, None),
    ]
    (row,) = compare_runs(runs)
    assert list(row) == ["a", "b", "a_pj_per_sample", "b_pj_per_sample", "p_a_less", "decided_by"]
    assert (row["a_pj_per_sample"], row["b_pj_per_sample"], row["p_a_less"]) == (1, 2, 1)


@pytest.mark.parametrize(
    "accuracy", [[], {}, "high", {"hardware": None}, {"hardware": "x"}, {"hardware": float("nan")}]
)
def test_torn_accuracy(tmp_path: Path, accuracy: Any) -> None:
    runs = [saved(tmp_path / name, {NAMES[0]: 1.0}, accuracy) for name in ("one", "two")]
    with pytest.raises(InputError) as caught:
        compare_runs(runs)
    assert str(caught.value) == f"{runs[0]}: not a run of picojoule (torn or edited?); run `evaluate --out` again"


def test_equal_names_get_as_many_parents_as_they_need(tmp_path: Path) -> None:
    runs = [saved(tmp_path / seed / "front" / "00001", {NAMES[0]: 1.0}, None) for seed in ("s1", "s2")]
    runs.append(saved(tmp_path / "other", {NAMES[0]: 1.0}, None))
    found = compare(runs)
    assert [(r["a"], r["b"]) for r in found.rows] == [
        ("s1/front/00001", "s2/front/00001"),
        ("s1/front/00001", "other"),
        ("s2/front/00001", "other"),
    ]
    assert found.note == ""
    assert short_names([runs[2], runs[2], Path("a/b"), Path("/b")]) == ["other", "other", "a/b", "b"]


def test_different_networks_are_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [saved(tmp_path / name, {NAMES[0]: 1.0}, None, network=name * 2) for name in ("x", "y")]
    assert compare(runs).note == "note: the runs are of different networks: x xx, y yy"
    assert cli._run(["compare", *map(str, runs)], False) == 0
    out, err = capsys.readouterr()
    assert err == "note: the runs are of different networks: x xx, y yy\n" and "decided by" in out


def test_a_study_is_no_run_and_its_runs_are_named(tmp_path: Path) -> None:
    study = tmp_path / "study"
    study.mkdir()
    (study / "study.yaml").write_text("schema: 1\n")
    with pytest.raises(InputError) as caught:
        compare_runs([study])
    assert str(caught.value) == (
        f"{study}: is a study, not a run; it has no runs in front/ yet, search on with `picojoule search --resume`"
    )
    for number in range(4):
        saved(study / "front" / f"0000{number}", {NAMES[0]: 1.0}, None)
    with pytest.raises(InputError) as caught:
        compare_runs([study, study / "front" / "00000"])
    assert str(caught.value) == (
        f"{study}: is a study, not a run; compare runs of its front: "
        f"{study}/front/00000 {study}/front/00001 {study}/front/00002 (4 in all)"
    )


def test_table_of_pairs_breaks_no_number(tmp_path: Path) -> None:
    from rich.console import Console

    accuracy = {"hardware": 0.8}
    runs = [saved(tmp_path / f"{c * 30}", {NAMES[0]: 1057123.0 * n}, accuracy) for n, c in ((1, "a"), (3, "b"))]
    rows = compare_runs(runs)
    out = io.StringIO()
    Console(file=out, width=78).print(comparison_table(rows))
    text = out.getvalue()
    assert all(word in text.split() for word in ("1.057", "3.171", "µJ/sample"))
    assert len(rows) == 1 and rows[0]["a_pj_per_sample"] == 1057123.0, "the rows keep their units"
