"""Fronts: what is not dominated, for any order of the points, as rows and as a figure."""

import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from picojoule import cli
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
from picojoule.pareto_tables import shown_points
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


def write_study(
    folder: Path,
    objectives: str,
    trials: str,
    *,
    hardware: str = "edge-32x32",
    front: dict[int, float] | None = None,
    column: str = "p_non_dominated",
) -> Path:
    """A study's folder as `picojoule search` writes it; `front` has the values of one `column` of pareto.csv by number."""
    metrics = ",".join(part.partition(":")[0] for part in objectives.strip("{}").split(", "))
    data = "data: digits\n" if "accuracy" in metrics else ""
    folder.mkdir(parents=True)
    (folder / "study.yaml").write_text(STUDY.format(data=data, hardware=hardware, objectives=objectives))
    (folder / "trials.csv").write_text(HEAD.format(metrics=metrics) + trials)
    best = [(line.split(","), value) for i, value in (front or {}).items() for line in [trials.splitlines()[i]]]
    kept = "".join(",".join([cells[0], *cells[3:-3], str(value), "false"]) + "\n" for cells, value in best)
    head = f"number,hardware.rows,hardware.dataflow,{metrics},area_mm2,{column},knee\n"
    (folder / "pareto.csv").write_text(head + kept)
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
    found = compare_points([write_study(tmp_path / "one", ENERGY_LATENCY, ONE, front={1: 0.75, 0: 1.0})])
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


def test_accuracy_study_alone_is_compared_by_all_its_objectives(tmp_path: Path) -> None:
    three = "{accuracy: max, latency_s: min, energy_pj_per_sample: min}"
    trials = "0,complete,full,8,os,0.9,0.003,7.0,1.0,,true,\n1,complete,full,8,ws,0.8,0.004,5.0,1.0,,true,\n"
    trials += "2,complete,full,16,ws,0.7,0.005,6.0,1.0,,false,\n"
    made = write_study(tmp_path / "three", three, trials)
    found = compare_points([made])
    assert [(r["number"], r["split"], r["on_front"]) for r in found.rows] == [
        (0, "val", True),
        (1, "val", True),
        (2, "val", False),
    ]
    assert found.note == "" and found.parameters == ("hardware.rows", "hardware.dataflow")
    cut = compare_points([made], "latency_s")
    assert [(r["run"], r["on_front"]) for r in cut.rows] == [
        ("three/00000", True),
        ("three/00001", False),
        ("three/00002", False),
    ]
    assert cut.note == "studies are compared by accuracy on validation data and latency_s (min) only"
    second = write_study(tmp_path / "seed1", ACCURACY_LATENCY, TRAINED)
    compare_points([write_study(tmp_path / "seed0", ACCURACY_LATENCY, TRAINED), second]).save(tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["attainment.png", "pareto.csv", "pareto.png"]


def test_studies_say_what_is_to_be_large(tmp_path: Path) -> None:
    rates = "{accuracy: max, throughput_per_s: max}"
    trials = "0,complete,full,8,os,0.9,100,1.0,,true,\n1,complete,full,8,ws,0.8,200,1.0,,true,\n"
    trials += "2,complete,full,16,ws,0.7,50,1.0,,false,\n"
    made = write_study(tmp_path / "rates", rates, trials)
    assert [(r["number"], r["on_front"]) for r in compare_points([made]).rows] == [(0, True), (1, True), (2, False)]
    found = compare_points([made], "throughput_per_s")
    assert [(r["run"], r["on_front"]) for r in found.rows] == [
        ("rates/00001", True),
        ("rates/00000", True),
        ("rates/00002", False),
    ]
    assert found.note.endswith("throughput_per_s (max) only")
    (line,) = [
        li
        for li in plot_front(found.rows, "throughput_per_s", sense="max").get_lines()
        if "front" in str(li.get_label())
    ]
    assert (list(line.get_xdata()), line.get_drawstyle()) == ([200, 100], "steps-post")
    other = write_study(tmp_path / "slow", "{accuracy: max, throughput_per_s: min}", trials)
    with pytest.raises(
        InputError, match=r"^one study wants 'throughput_per_s' small, another large; give studies of one"
    ):
        compare_points([made, other], "throughput_per_s")
    with pytest.raises(InputError, match=r"^--x is what accuracy is set against; give another total, such as energy"):
        compare_points([made], "accuracy")


def test_beside_runs_a_study_is_its_front_on_test_data(tmp_path: Path) -> None:
    made = write_study(tmp_path / "st", ACCURACY_LATENCY, TRAINED, front={0: 0.85, 2: 0.75}, column="accuracy_test")
    run = write_run(tmp_path / "good", accuracy=0.8, latency_s=0.002)
    partial = write_run(tmp_path / "partial", accuracy=0.95, latency_s=0.0005, complete=False)
    found = compare_points([made, run, partial, run, tmp_path / "good" / ".." / "good"])
    assert [(r["run"], r["split"], r["accuracy"], r["latency_s"], r["on_front"]) for r in found.rows] == [
        ("partial (INCOMPLETE)", "test", 0.95, 0.0005, True),
        ("st/00002", "test", 0.75, 0.001, False),
        ("good", "test", 0.8, 0.002, False),
        ("st/00000", "test", 0.85, 0.003, False),
    ], "latency is what the study minimizes; sources given again count once"
    assert found.note == "studies are compared by accuracy on test data and latency_s (min) only"
    crosses = [li for li in plot_front(found.rows, "latency_s").get_lines() if li.get_marker() == "x"]
    assert [(list(li.get_xdata()), li.get_label()) for li in crosses] == [([0.5], "INCOMPLETE: not all is priced (1)")]
    found.save(tmp_path / "out")
    assert "partial (INCOMPLETE)," in (tmp_path / "out" / "pareto.csv").read_text()
    unfinished = write_study(tmp_path / "unfinished", ACCURACY_LATENCY, TRAINED)
    message = (
        f"{unfinished}: its front has no accuracy on test data yet, which runs and tables have; finish it with "
        "`picojoule search --resume`, or give studies alone"
    )
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        compare_points([unfinished, run])


def test_energy_is_the_cost_unless_a_study_lacks_it(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", accuracy=0.8, latency_s=0.002)
    assert "energy_pj_per_sample" in compare_points([run]).rows[0]
    both = "{accuracy: max, latency_s: min, energy_pj_per_sample: min}"
    trials = "0,complete,full,8,os,0.9,0.003,7.0,1.0,,true,\n"
    made = write_study(tmp_path / "st", both, trials, front={0: 0.9}, column="accuracy_test")
    assert [r["energy_pj_per_sample"] for r in compare_points([made, run]).rows] == [7.0, 1e6]


def test_tables_of_a_study_are_read_as_what_they_are(tmp_path: Path) -> None:
    made = write_study(tmp_path / "st", ACCURACY_LATENCY, TRAINED, front={0: 0.85, 2: 0.75}, column="accuracy_test")
    found = compare_points([made / "trials.csv"], "latency_s")
    assert [(r["run"], r["target"], r["split"]) for r in found.rows] == [
        (f"st/{n:05d}", "edge-32x32", "val") for n in (2, 3, 0)
    ], "no proxy, nothing outside a limit"
    assert found.note == f"{made}/trials.csv: 2 rows do not count (not complete, proxies or outside a limit)"
    front = compare_points([made / "pareto.csv"], "latency_s")
    assert [(r["run"], r["split"], r["accuracy"]) for r in front.rows] == [
        ("st/00002", "test", 0.75),
        ("st/00000", "test", 0.85),
    ]
    with pytest.raises(
        InputError, match=r"^accuracy was measured on different data: test \(st/00000\), val \(st/00000\);"
    ):
        compare_points([made / "pareto.csv", made / "trials.csv"][::-1], "latency_s")


def write_run(folder: Path, *, accuracy: float, latency_s: float, complete: bool = True) -> Path:
    folder.mkdir()
    report = {
        "hardware": {"name": "edge-32x32"},
        "complete": complete,
        "totals": {"energy_pj_per_sample": 1e6, "latency_s": latency_s},
        "accuracy": {"hardware": accuracy, "split": "test"},
    }
    (folder / "report.json").write_text(json.dumps(report))
    return folder


def test_equal_names_of_studies_get_their_parents(tmp_path: Path) -> None:
    made = [write_study(tmp_path / seed / "st", ENERGY_LATENCY, ONE) for seed in ("s0", "s1")]
    assert {r["study"] for r in compare_points(made).rows} == {"s0/st", "s1/st"}


def printed(table: Any, width: int = 120) -> list[str]:
    from rich.console import Console

    out = io.StringIO()
    Console(file=out, width=width).print(table)
    return [line.rstrip() for line in out.getvalue().splitlines() if line.strip()]


def test_table_reads_well(tmp_path: Path) -> None:
    table, note = compare_points([write_study(tmp_path / "one", ENERGY_LATENCY, ONE, front={1: 0.75, 0: 1.0})]).table()
    lines = printed(table)
    assert lines[0] == "study one, target edge-32x32"
    assert [line.split() for line in lines[-3:]] == [
        ["1", "16", "ws", "1", "5", "yes", "0.75"],
        ["0", "8", "os", "2", "3", "yes", "1"],
        ["2", "32", "os", "3", "4", "no", "-"],
    ]
    assert {"µJ", "ms", "rows", "dataflow"} <= set(" ".join(lines[1:4]).split()) and note == ""


def test_long_and_wide_tables_are_cut_and_say_so() -> None:
    front = {"study": "s", "number": 5, **{f"a.key{i}": 1234567.5 for i in range(20)}}
    rows = [{**front, "latency_s": 1.0571e-6, "on_front": i == 99} for i in range(100)]
    keys = tuple(key for key in front if "." in key)
    table, note = shown_points(rows, keys)
    assert table.row_count == 40
    lines = printed(table)
    assert "yes" in lines[-40].split() and all("0.001057" in line for line in lines[-40:]), "front first, numbers whole"
    assert note.startswith("40 of 100 points, the front first; without a.key") and note.endswith(
        "(--format json lists all)"
    )
    all_best, note = shown_points([{**row, "on_front": True} for row in rows])
    assert all_best.row_count == 34 and note.startswith("34 of 100 points, an even choice of the front")


def test_command_says_on_stderr_what_it_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = write_study(tmp_path / "st", ACCURACY_LATENCY, TRAINED)
    assert cli._run(["pareto", str(made), "--x", "latency_s"], False) == 0
    out, err = capsys.readouterr()
    assert err == "studies are compared by accuracy on validation data and latency_s (min) only\n"
    assert ["st/00002", "80", "1", "yes"] in [line.split() for line in out.splitlines()]
    assert cli._run(["pareto", str(made), "--format", "json"], False) == 0
    out, err = capsys.readouterr()
    assert err == "" and [row["number"] for row in json.loads(out)] == [0, 2, 3]


def test_nothing_there(tmp_path: Path) -> None:
    rest = "give the folder of a run or of a study, or a CSV table of results"
    with pytest.raises(InputError, match=f"^{re.escape(f'{tmp_path}/nope: no such file or folder; {rest}')}$"):
        compare_points([tmp_path / "nope"])
    with pytest.raises(InputError, match=re.escape(f"{tmp_path}: holds neither report.json nor study.yaml; {rest}")):
        compare_points([tmp_path])


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
        (ENERGY_LATENCY, ONE.splitlines()[4] + "\n", None, InfeasibleError,
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
    with pytest.raises(InputError, match=re.escape(f"{one}/trials.csv: ")):
        compare_points([one])
