"""Fronts: what is not dominated, for any order of the points, as rows and as a figure."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from picojoule.pareto import (
    collect_points,
    compare_points,
    front_of,
    front_rows,
    non_dominated,
    plot_front,
    save_front,
)
from picojoule.pareto_studies import plot_studies
from picojoule.sim.errors import InfeasibleError, InputError
from picojoule.studies.results import read_study

# Few distinct values, so that ties and duplicates are common.
values = st.sampled_from([0.0, 1.0, 2.0, 3.0, -1.0, float("inf"), float("nan")])
tables = st.integers(1, 4).flatmap(
    lambda m: st.lists(st.lists(values, min_size=m, max_size=m), min_size=1, max_size=12)
)
points = st.lists(
    st.fixed_dictionaries(
        {
            "run": st.sampled_from("abcdefgh"),
            "target": st.sampled_from(["edge", "isaac"]),
            "accuracy": st.sampled_from([0.1, 0.5, 0.9]),
            "energy_pj": st.sampled_from([1.0, 2.0, 3.0]),
        }
    ),
    min_size=1,
    max_size=12,
)


def brute_force(rows: Sequence[Sequence[float]]) -> list[bool]:
    def dominates(a: Sequence[float], b: Sequence[float]) -> bool:
        return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))

    whole = [not any(x != x for x in row) for row in rows]
    return [
        kept and not any(other and dominates(b, a) for b, other in zip(rows, whole, strict=True))
        for a, kept in zip(rows, whole, strict=True)
    ]


@given(rows=tables)
def test_non_dominated_is_what_brute_force_says(rows: list[list[float]]) -> None:
    assert non_dominated(np.array(rows)).tolist() == brute_force(rows)


@given(rows=tables, data=st.data())
def test_order_does_not_matter(rows: list[list[float]], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(rows))))
    kept = non_dominated(np.array(rows))
    assert non_dominated(np.array(rows)[order]).tolist() == kept[order].tolist()


def test_small_fronts_by_hand() -> None:
    #           cheap   good    beaten  twin    twin    unknown
    rows = [[1.0, 9.0], [5.0, 1.0], [6.0, 1.0], [3.0, 3.0], [3.0, 3.0], [float("nan"), 0.0]]
    assert non_dominated(np.array(rows)).tolist() == [True, True, False, True, True, False]
    assert non_dominated(np.empty((0, 2))).tolist() == []
    assert non_dominated(np.full((2, 2), np.nan)).tolist() == [False, False]


@given(rows=points, data=st.data())
def test_rows_do_not_depend_on_order_and_hold_every_point(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    made = front_rows(rows, "energy_pj")
    assert front_rows(data.draw(st.permutations(rows)), "energy_pj") == made
    assert sorted(r["run"] for r in made) == sorted(p["run"] for p in rows)
    assert [(r["target"], r["energy_pj"]) for r in made] == sorted((r["target"], r["energy_pj"]) for r in made)
    for target in {r["target"] for r in made}:
        own = [r for r in made if r["target"] == target]
        assert [r["on_front"] for r in own] == brute_force([[r["energy_pj"], -r["accuracy"]] for r in own])


def test_targets_do_not_beat_each_other() -> None:
    rows = [
        {"run": "a", "target": "edge", "accuracy": 0.9, "energy_pj": 1.0},
        {"run": "b", "target": "isaac", "accuracy": 0.5, "energy_pj": 9.0},
    ]
    assert front_of(rows, "energy_pj") == [True, True]


POINTS = [
    {"run": "a", "target": "edge", "accuracy": 0.80, "energy_pj_per_sample": 1e6},
    {"run": "b", "target": "edge", "accuracy": 0.90, "energy_pj_per_sample": 3e6},
    {"run": "c", "target": "edge", "accuracy": 0.85, "energy_pj_per_sample": 4e6},
    {"run": "d", "target": "isaac", "accuracy": 0.70, "energy_pj_per_sample": 2e6},
]


def test_figure_shows_front_and_beaten() -> None:
    axes = plot_front(POINTS, "energy_pj_per_sample", names=True)
    lines = {str(line.get_label()): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.get_lines()}
    assert lines.pop("edge: front (2 of 3)") == ([1.0, 3.0], [80.0, 90.0])  # microjoule, percent
    assert lines.pop("isaac: front (1 of 1)") == ([2.0], [70.0])
    assert list(lines.values()) == [([4.0], [85.0])], "the one beaten point"
    assert sorted(t.get_text() for t in axes.texts) == ["a", "b", "d"]
    assert axes.get_xscale() == "log" and "µJ" in axes.get_xlabel()


@pytest.mark.parametrize("cost", [1e6, 0.0, -1.0], ids=["positive", "zero", "negative"])
def test_front_is_saved_and_read_back(cost: float, tmp_path: Path) -> None:
    rows = [{**POINTS[0], "energy_pj_per_sample": cost}, *POINTS[1:]]
    folder = tmp_path / "made" / "here"
    save_front(rows, "energy_pj_per_sample", folder)
    assert sorted(p.name for p in folder.iterdir()) == ["pareto.csv", "pareto.png"]
    picture = (folder / "pareto.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) > 5_000
    again = collect_points([folder / "pareto.csv"], "energy_pj_per_sample")
    assert front_rows(again, "energy_pj_per_sample") == front_rows(rows, "energy_pj_per_sample")


def test_results_csv_of_a_folder_is_found(tmp_path: Path) -> None:
    (tmp_path / "results.csv").write_text(
        'variant,target,accuracy_hardware,latency_s\n"two\nlines",edge,0.5,0.1\nplain,edge,0.6,0.2\n'
    )
    made = collect_points([tmp_path], "latency_s")
    assert [(p["run"], p["accuracy"], p["latency_s"]) for p in made] == [("two\nlines", 0.5, 0.1), ("plain", 0.6, 0.2)]
    message = f"{tmp_path}/results.csv:3: has no 'latency'; did you mean 'latency_s'?"
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        collect_points([tmp_path], "latency")


# --- studies ------------------------------------------------------------------------------------------------------------

STUDY = """
schema: 1
network: lenet5
{data}hardware: {hardware}
space:
  hardware.rows: [8, 16, 32]
  hardware.dataflow: [os, ws]
objectives: {objectives}
constraints: {{area_mm2: {{max: 5.0}}}}
"""
HEAD = "number,state,fidelity,hardware.rows,hardware.dataflow,{metrics},area_mm2,violated,on_front,message\n"
ENERGY_LATENCY = "{energy_pj_per_sample: min, latency_s: min}"
ACCURACY_LATENCY = "{accuracy: max, latency_s: min}"


def write_study(folder: Path, objectives: str, trials: str, *, hardware: str = "edge-32x32", front: str = "") -> Path:
    """A study's folder as `picojoule search` writes it; `front` are numbers and P(non-dominated) of pareto.csv."""
    metrics = ",".join(part.partition(":")[0] for part in objectives.strip("{}").split(", "))
    data = "data: digits\n" if "accuracy" in metrics else ""
    folder.mkdir()
    (folder / "study.yaml").write_text(STUDY.format(data=data, hardware=hardware, objectives=objectives))
    (folder / "trials.csv").write_text(HEAD.format(metrics=metrics) + trials)
    (folder / "pareto.csv").write_text("number,p_non_dominated\n" + front)
    return folder


ONE = """0,complete,price,8,os,2000000.0,0.003,1.0,,true,
1,complete,price,16,ws,1000000.0,0.005,1.5,,true,
2,complete,price,32,os,3000000.0,0.004,2.0,,false,
3,complete,price,32,ws,500000.0,0.001,9.0,area_mm2 9 > 5,false,
4,infeasible,,16,os,,,,,false,needs 2 chips
"""
TWO = """0,complete,price,8,ws,1500000.0,0.002,1.0,,true,
1,complete,price,16,ws,900000.0,0.006,1.5,,true,
"""
TRAINED = """0,complete,full,8,os,0.9,0.003,1.0,,true,
1,complete,proxy,8,ws,0.99,0.001,1.0,,false,
2,complete,full,16,ws,0.8,0.001,1.5,,true,
3,complete,full,16,os,0.7,0.002,2.0,,false,
4,complete,full,32,os,0.99,0.001,9.0,area_mm2 9 > 5,false,
"""


def test_one_study_by_its_own_objectives(tmp_path: Path) -> None:
    found = compare_points([write_study(tmp_path / "one", ENERGY_LATENCY, ONE, front="1,0.75\n0,1.0\n")])
    assert [(r["number"], r["on_front"], r["p_non_dominated"]) for r in found.rows] == [
        (1, True, 0.75),
        (0, True, 1.0),
        (2, False, None),
    ]
    assert found.rows[0] == {
        "study": "one", "target": "edge-32x32", "number": 1, "hardware.rows": 16, "hardware.dataflow": "ws",
        "energy_pj_per_sample": 1e6, "latency_s": 0.005, "on_front": True, "p_non_dominated": 0.75,
    }  # fmt: skip
    assert json.loads(json.dumps(found.rows, allow_nan=False)) == found.rows
    found.save(tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["pareto.csv", "pareto.png"]
    written = (tmp_path / "out" / "pareto.csv").read_text().splitlines()
    assert len(written) == 4 and written[0].startswith("study,target,number,hardware.rows,")


def test_studies_on_the_same_hardware_beat_each_other(tmp_path: Path) -> None:
    one, two = write_study(tmp_path / "one", ENERGY_LATENCY, ONE), write_study(tmp_path / "two", ENERGY_LATENCY, TWO)
    other = write_study(tmp_path / "other", ENERGY_LATENCY, ONE, hardware="eyeriss-like.yaml")
    found = compare_points([one, two, other])
    best = [(r["study"], r["number"]) for r in found.rows if r["on_front"]]
    assert best == [("two", 1), ("one", 1), ("two", 0), ("other", 1), ("other", 0)], "one/0 is beaten by two/0"
    found.save(tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["attainment.png", "pareto.csv", "pareto.png"]


def test_figure_of_several_studies_has_a_line_each(tmp_path: Path) -> None:
    paths = [write_study(tmp_path / n, ENERGY_LATENCY, t) for n, t in (("one", ONE), ("two", TWO))]
    axes = plot_studies([read_study(path) for path in paths])
    drawn = {str(li.get_label()): (list(li.get_xdata()), list(li.get_ydata())) for li in axes.get_lines()}
    assert drawn == {
        "one on edge-32x32: 2 of 5": ([1.0, 2.0], [5.0, 3.0]),
        "two on edge-32x32: 2 of 2": ([pytest.approx(0.9), 1.5], [6.0, 2.0]),
    }


def test_study_with_accuracy_is_points_like_runs(tmp_path: Path) -> None:
    trained = write_study(tmp_path / "trained", ACCURACY_LATENCY, TRAINED)
    (tmp_path / "p.csv").write_text("run,target,accuracy,latency_s\na,edge-32x32,0.95,0.0005\nb,isaac,0.5,1\n")
    alone = compare_points([trained])
    assert [(r["run"], r["target"], r["accuracy"], r["latency_s"], r["on_front"]) for r in alone.rows] == [
        ("trained/00002", "edge-32x32", 0.8, 0.001, True),
        ("trained/00003", "edge-32x32", 0.7, 0.002, False),
        ("trained/00000", "edge-32x32", 0.9, 0.003, True),
    ]
    mixed = compare_points([trained, tmp_path / "p.csv"], "latency_s")
    assert [r["run"] for r in mixed.rows if r["on_front"]] == ["a", "b"]
    second = write_study(tmp_path / "seed1", ACCURACY_LATENCY, TRAINED)
    compare_points([trained, second]).save(tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["attainment.png", "pareto.csv", "pareto.png"]


def test_of_a_very_large_study_only_the_front_is_listed(tmp_path: Path) -> None:
    many = "".join(f"{i},complete,price,8,os,{i + 1}.0,{i + 1}.0,1.0,,{str(i == 0).lower()},\n" for i in range(10_001))
    found = compare_points([write_study(tmp_path / "many", ENERGY_LATENCY, many)])
    assert [r["number"] for r in found.rows] == [0]
    assert found.note == "only the front is listed of many (10,001 trials); the rest is in trials.csv"


@pytest.mark.parametrize(
    ("objectives", "trials", "x", "kind", "message"),
    [
        (ENERGY_LATENCY, ONE, "latency_s", InputError, "--x is for accuracy against one cost; these studies are compared by "
         "their own objectives: leave it out"),
        (ENERGY_LATENCY, "", None, InputError, "made: holds no trial yet; run `picojoule search` on it"),
        (ENERGY_LATENCY, ONE.splitlines()[4] + "\n", None, InputError,
         "made: no trial is complete (1 told: 1 infeasible); the first infeasible, trial 4: needs 2 chips"),
        (ENERGY_LATENCY, ONE.splitlines()[3] + "\n", None, InfeasibleError, "made: none of 1 complete trials meets area_mm2 <= 5 "
         "(closest: 9, trial 3); loosen the limit or widen the space"),
        (ACCURACY_LATENCY, TRAINED, "latency", InputError, "made: no column 'latency'; did you mean 'latency_s'?"),
    ],
)  # fmt: skip
def test_refused_studies(
    objectives: str, trials: str, x: str | None, kind: type[Exception], message: str, tmp_path: Path
) -> None:
    made = write_study(tmp_path / "made", objectives, trials)
    with pytest.raises(kind, match=f"^{re.escape(message)}$"):
        compare_points([made], x)


def test_studies_that_do_not_fit_together(tmp_path: Path) -> None:
    one = write_study(tmp_path / "one", ENERGY_LATENCY, ONE)
    trained = write_study(tmp_path / "trained", ACCURACY_LATENCY, TRAINED)
    message = (
        "studies must share their objectives: one has energy_pj_per_sample (min), latency_s (min), trained has "
        "accuracy (max), latency_s (min); give studies of one kind"
    )
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        compare_points([one, trained])
    (tmp_path / "p.csv").write_text("run,target,accuracy,latency_s\na,edge,0.95,0.0005\n")
    message = f"{one}: the study does not measure accuracy; give it alone, or with studies of the same objectives"
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        compare_points([one, tmp_path / "p.csv"], "latency_s")
    (one / "trials.csv").unlink()
    with pytest.raises(InputError, match=re.escape(f"{one}/trials.csv: no such file")):
        compare_points([one])
