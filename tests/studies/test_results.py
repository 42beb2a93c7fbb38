"""Tables of a study: what stands in them, and that torn or edited ones are refused in one sentence."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import picojoule as pj
from picojoule.page import page_of
from picojoule.page.render import render_page
from picojoule.studies import results
from picojoule.studies.spec import StudySpec, parse_study

SPEC = parse_study(
    {
        "network": "resnet20",
        "data": "digits",
        "hardware": "edge-32x32",
        "space": {"hardware.rows": [8, 16], "hardware.dataflow": ["os", "ws"]},
        "objectives": {"accuracy": "max", "energy_pj_per_sample": "min"},
        "constraints": {"area_mm2": {"max": 2.0}, "latency_s": {"min": 0.0, "max": 1.0}},
    },
    "study",
)


def trial(fidelity: str = "full", state: str = "complete", message: str = "", **values: float) -> dict[str, Any]:
    return {"state": state, "fidelity": fidelity, "values": values, "details": {}, "bill": {}, "message": message}


def columns() -> results.Columns:
    points = [{"hardware.rows": rows, "hardware.dataflow": flow} for rows in (8, 16) for flow in ("os", "ws")]
    points += [points[0], points[1], points[2]]
    good = {"area_mm2": 1.0, "latency_s": 0.5}
    outcomes = [
        trial(accuracy=0.9, energy_pj_per_sample=5.0, **good),
        trial(accuracy=0.8, energy_pj_per_sample=5.0, **good),  # beaten by 0
        trial(accuracy=0.7, energy_pj_per_sample=1.0, **good),
        trial(accuracy=0.99, energy_pj_per_sample=0.5, area_mm2=2.5, latency_s=2.0),
        trial(accuracy=0.9, energy_pj_per_sample=5.0, message="as trial 0", **good),
        trial("proxy", accuracy=1.0, energy_pj_per_sample=0.1, **good),
        trial("", "failed", "accuracy is NaN"),
    ]
    return results.columns_of(SPEC, points, outcomes)


def test_what_stands_on_the_front() -> None:
    made = columns()
    assert list(made["on_front"]) == [True, False, True, False, False, False, False]
    assert list(made["violated"]) == ["", "", "", "area_mm2 2.5 > 2; latency_s 2 > 1", "", "", ""]
    rows = results.front_rows(SPEC, made, {2: {"accuracy_test": 0.6, "energy_low": 0.9}}, {0: 1.0, 2: 0.25})
    assert [(row["number"], row["accuracy"], row["p_non_dominated"]) for row in rows] == [(0, 0.9, 1.0), (2, 0.7, 0.25)]
    assert rows[1]["accuracy_test"] == 0.6 and rows[0]["accuracy_test"] is None and rows[1]["energy_low"] == 0.9
    assert sum(row["knee"] for row in rows) == 1


def test_how_far_a_limit_is_exceeded() -> None:
    spec: StudySpec = SPEC.model_copy(update={"constraints": parse_study({**SPEC.dump(), "constraints": {
        "area_mm2": {"max": 2.0}, "utilization": {"min": 0.5}, "chips": {"max": 0}
    }}, "s").constraints})  # fmt: skip
    found = results.violations(spec, {"area_mm2": 3.0, "utilization": 0.25, "chips": 3.0})
    assert found == {"area_mm2": 0.5, "utilization": 0.5, "chips": 3.0}
    assert results.violations(spec, {"area_mm2": 2.0, "utilization": 0.75, "chips": 0.0}) == {
        "area_mm2": 0.0,
        "utilization": -0.5,
        "chips": 0.0,
    }


def test_tables_read_back(tmp_path: Path) -> None:
    made = columns()
    (tmp_path / "study.yaml").write_text(SPEC.to_yaml())
    results.write_trials(tmp_path, made)
    rows = results.front_rows(SPEC, made, {}, {})
    results.write_front(tmp_path, rows, SPEC)
    again = pj.read_study(tmp_path)
    for name, column in made.items():
        np.testing.assert_array_equal(column, again.columns[name], err_msg=name)
    assert list(again.front) == rows
    np.testing.assert_array_equal(again.costs()[:2], [[-0.9, 5.0], [-0.8, 5.0]])
    assert len(again.to_dataframe()) == 7


def test_a_study_in_memory_has_no_page(make_study: Callable[..., Path]) -> None:
    with pytest.raises(
        pj.InputError, match=r"a study that is only in memory has no report; give pj.search an `out` folder"
    ):
        pj.search(make_study(trials=2)).save_report("study.html")


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        (
            "trials.csv",
            "number,state",
            "nummer,state",
            "trials.csv: has no column 'number', which study.yaml asks for; search again",
        ),
        (
            "trials.csv",
            "0,complete",
            "x,complete",
            "trials.csv: column 'number' is not as picojoule writes it (torn or edited?)",
        ),
        ("trials.csv", "true", "inf", "trials.csv: column 'on_front' is not as picojoule writes it"),
        ("trials.csv", ",true,\n", "\n", "cells where the header has"),
        ("pareto.csv", "\n", ",\n", "pareto.csv:"),
        ("study.yaml", "schema: 1", "schema: 0", "study.yaml: schema 0 is an older one"),
        ("study.yaml", "network:", "netwrk:", "study.yaml: unknown key 'netwrk'; did you mean 'network'? (and 1 more)"),
    ],
)
def test_torn_or_edited(name: str, old: str, new: str, message: str, whole_study: Path, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    shutil.copytree(whole_study, folder)
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new, 1))
    with pytest.raises(pj.InputError) as caught:
        pj.read_study(folder)
    assert message in str(caught.value)


def test_whatever_stands_in_the_files_it_is_read_or_refused(whole_study: Path, tmp_path: Path) -> None:
    folder, draw = tmp_path / "study", random.Random(0)
    shutil.copytree(whole_study, folder)
    files = [p for p in folder.rglob("*") if p.suffix in (".csv", ".yaml", ".json") and "config" not in p.name]
    tokens = [b"nan", b"1e999", b"-1", b"{}", b"[", b"\x00", b"\xff", b'"', b",", b"\n", b"9" * 40, b"true", b": "]
    read = refused = 0
    for _ in range(150):
        file = draw.choice(sorted(files))
        sound = file.read_bytes()
        torn = bytearray(sound)
        for _ in range(draw.randint(1, 3)):
            at = draw.randrange(len(torn) + 1)
            torn[at : at + draw.choice((0, 1, 30))] = draw.choice(tokens)
        file.write_bytes(torn[: draw.randrange(len(torn))] if draw.random() < 0.2 else torn)
        try:
            render_page(page_of(folder))
            read += 1
        except pj.PicojouleError as error:
            refused += 1
            assert "\n" not in str(error)
        file.write_bytes(sound)
    assert read > 10 and refused > 50
