"""Runs compared under sampled constants, with the chance of each to be on the front of energy and accuracy."""

import json
from pathlib import Path
from typing import Any

import pytest

from picojoule.comparison import compare_runs
from picojoule.sim.errors import InputError
from picojoule.sim.technology import all_constants

NAMES = [name for name, c in sorted(all_constants().items()) if c.low < c.value < c.high]


def saved(folder: Path, bill: dict[str, float], accuracy: Any, batch: int = 1) -> Path:
    folder.mkdir()
    report = {"network": {"batch": batch}, "complete": True, "accuracy": accuracy}
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
