"""Fronts: what is not dominated, for any order of the points, as rows and as a figure."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from picojoule.pareto import collect_points, front_of, front_rows, non_dominated, plot_front, save_front
from picojoule.sim.errors import InputError

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
