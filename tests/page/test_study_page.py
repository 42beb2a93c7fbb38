"""What the page of a study says, against the tables it was made from."""

import csv
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from picojoule.fronts import hypervolume_history, reference_point
from picojoule.page import page_of, study_tables
from picojoule.page.content import Card, Page
from picojoule.page.render import render_page
from picojoule.page.study_tables import SAMPLE, chosen_trials
from picojoule.sim.errors import InputError
from picojoule.studies.results import (
    StudyResult,
    columns_of,
    front_rows,
    read_study,
    write_front,
    write_summary,
    write_trials,
)  # fmt: skip
from picojoule.studies.spec import StudySpec
from picojoule.tables import joules

from .parsed import Parsed, column


@pytest.fixture(scope="module")
def study_html(study_folder: Path) -> Parsed:
    return Parsed(render_page(page_of(study_folder)))


def test_every_trial_is_listed_as_what_it_is(study_html: Parsed, study_folder: Path) -> None:
    with (study_folder / "trials.csv").open(newline="") as file:
        trials = list(csv.DictReader(file))
    rows = study_html.tables["table-trials"]
    assert column(rows, "trial") == [t["number"] for t in trials]
    kinds = column(rows, "is")
    assert [k == "front" for k in kinds] == [t["on_front"] == "true" for t in trials]
    assert [k == "failed" for k in kinds] == [t["state"] == "failed" for t in trials]
    assert {"front", "dominated", "violating", "proxy", "infeasible", "failed"} == set(kinds)
    failed = [t["message"] for t in trials if t["state"] in ("failed", "infeasible")]
    assert column(study_html.tables["table-failures"], "message") == failed
    assert (study_folder / "study.yaml").read_text() in study_html.text


def test_the_front_has_ranges_a_knee_and_its_reports(study_html: Parsed, study_folder: Path) -> None:
    with (study_folder / "pareto.csv").open(newline="") as file:
        front = list(csv.DictReader(file))
    rows = study_html.tables["table-front"]
    assert column(rows, "trial") == [r["number"] for r in front]
    assert column(rows, "knee").count("knee") == 1
    energies = column(rows, "energy per sample")
    for shown, row in zip(energies, front, strict=True):
        assert (
            shown
            == joules(float(row["energy_pj_per_sample"]))
            + f"{joules(float(row['energy_low']))} to {joules(float(row['energy_high']))}"
        )
    for row in front:
        assert f"table-layers{row['number']}" in study_html.tables
    data = json.loads(study_html.scripts[0])
    assert set(data["runs"]) == {r["number"] for r in front}
    assert sum(p["kind"] == "front" for p in data["figures"]["front"]["points"]) == len(front)
    assert data["figures"]["history"]["y"][-1] == 1 and data["figures"]["history"]["y"] == sorted(
        data["figures"]["history"]["y"]
    )


def test_three_objectives_choose_axes_and_a_size(study_of_three: Path) -> None:
    data = json.loads(Parsed(render_page(page_of(study_of_three))).scripts[0])
    assert data["figures"]["front"]["axes"] == [0, 1, 2]


def test_a_long_study_shows_its_front_and_says_what_it_samples() -> None:
    kinds = np.full(20_000, "dominated")
    kinds[[3, 777, 19_999]] = "front"
    chosen = chosen_trials(kinds)
    assert len(chosen) == SAMPLE and {3, 777, 19_999} <= set(chosen.tolist())
    assert (np.diff(chosen) > 0).all() and np.diff(chosen).max() <= 12
    kinds[:10_000] = "front"
    chosen = kinds[chosen_trials(kinds)]
    assert (chosen == "front").sum() == SAMPLE and (chosen == "dominated").sum() == SAMPLE // 2


def test_an_unfinished_study_is_shown_as_far_as_it_is(study_of_three: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(study_of_three, tmp_path / "part"))
    shutil.rmtree(folder / "front")
    (folder / "summary.json").unlink()
    lines = (folder / "trials.csv").read_text().splitlines(keepends=True)
    (folder / "trials.csv").write_text("".join(lines[:40]))
    parsed = Parsed(render_page(page_of(folder)))
    assert "UNFINISHED" in parsed.text and "39 of 60 trials are told" in parsed.text
    assert "cannot be opened here" in parsed.text
    (folder / "trials.csv").write_text("".join([lines[0], *(line for line in lines if ",failed," in line)]))
    (folder / "pareto.csv").unlink()
    parsed = Parsed(render_page(page_of(folder)))
    assert "NO FRONT" in parsed.text and "training diverged <b>at</b> step 5" in parsed.text


# --- studies that were stopped ---------------------------------------------------------------------------------------------


def told(folder: Path) -> tuple[StudyResult, dict[str, Any], Parsed, Page]:
    """The study, the script's data, the page as it reads, and as it was made."""
    made = page_of(folder)
    parsed = Parsed(render_page(made))
    return read_study(folder), json.loads(parsed.scripts[0]), parsed, made


UNRANGED = "ranges are not there yet: the study is unfinished"


def test_a_front_older_than_the_trials_is_worked_out_anew(study_of_three: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(study_of_three, tmp_path / "killed"))
    study = read_study(folder)
    early = np.arange(len(study)) < 12
    columns = {name: values[early] for name, values in study.columns.items()}
    columns["on_front"] = columns_of(
        study.spec,
        [{k: columns[k][i] for k in study.spec.space} for i in range(12)],
        [
            {"state": columns["state"][i], "fidelity": columns["fidelity"][i], "message": "",
             "values": {m: columns[m][i] for m in study.spec.metrics if np.isfinite(columns[m][i])}}
            for i in range(12)
        ],
    )["on_front"]  # fmt: skip
    before = front_rows(study.spec, columns, {}, {})
    write_front(folder, before, study.spec)
    front = {int(n) for n in study.columns["number"][study.columns["on_front"]]}
    assert {row["number"] for row in before} != front
    _, data, page, made = told(folder)
    assert "OLD FRONT" in made.banner[0] and "pareto.csv does not fit trials.csv" in made.banner[1]
    assert {int(n) for n in column(page.tables["table-front"], "trial")} == front and UNRANGED in page.text
    points = {p["n"]: p for p in data["figures"]["front"]["points"]}
    knee = next(row["number"] for row in front_rows(study.spec, study.columns, {}, {}) if row["knee"])
    assert [n for n, p in points.items() if p.get("knee")] == [knee] and points[knee]["kind"] == "front"


def test_figures_of_another_front_do_not_count(study_of_three: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(study_of_three, tmp_path / "edited"))
    study = read_study(folder)
    write_front(folder, [{**row, "latency_s": 2 * row["latency_s"]} for row in study.front], study.spec)
    assert told(folder)[3].banner[0] == "OLD FRONT"


def test_a_search_that_was_interrupted_says_so_though_its_front_is_written(
    study_of_three: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(study_of_three, tmp_path / "part"))
    study, _, page, made = told(folder)
    assert made.banner == () and UNRANGED not in page.text
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").unlink()
    write_front(folder, front_rows(study.spec, study.columns, {}, {}), study.spec)  # as an interrupt leaves it
    _, _, page, made = told(folder)
    assert (
        made.banner[0] == "UNFINISHED" and "all 60 trials are told, but the front is not worked out" in made.banner[1]
    )
    assert UNRANGED in page.text
    (folder / "study.yaml").write_text(study.spec.model_copy(update={"trials": 80}).to_yaml())
    write_summary(folder, {**summary, "trials": 60, "asked": 60})  # of the search that this one goes on with
    _, _, page, made = told(folder)
    assert (
        made.banner[0] == "UNFINISHED"
        and "60 of 80 trials are told; go on with" in made.banner[1]
        and UNRANGED in page.text
    )
    write_summary(folder, {**summary, "trials": 59, "asked": 80})
    assert told(folder)[3].banner[0] == "UNFINISHED"
    write_summary(folder, {**summary, "trials": 60, "asked": 80})  # the space holds no more than these
    assert told(folder)[3].banner == ()


def test_a_study_without_a_table_yet_names_the_remedy(study_of_three: Path, tmp_path: Path) -> None:
    shutil.copy(study_of_three / "study.yaml", tmp_path)
    with pytest.raises(InputError, match=r"stopped before its first table .* --resume`, then report again$"):
        page_of(tmp_path)


# --- figures against the tables --------------------------------------------------------------------------------------------


def cards(page: Page) -> dict[str, Card]:
    return {card.label: card for part in page.sections[0].parts for card in getattr(part, "cards", ())}


def test_the_best_values_are_those_of_the_trials(study_folder: Path) -> None:
    study, _, _, made = told(study_folder)
    counted = study.counting() & np.isfinite(study.columns["accuracy"])
    shown = cards(made)
    for label, name, pick in (
        ("highest accuracy", "accuracy", np.nanargmax),
        ("lowest energy per sample", "energy_pj_per_sample", np.nanargmin),
    ):
        best = int(pick(np.where(counted, study.columns[name], np.nan)))
        value = float(study.columns[name][best])
        assert shown[label].value == (f"{value:.2%}" if name == "accuracy" else joules(value))
        assert shown[label].details == (f"trial {study.columns['number'][best]}",)


def small_study(folder: Path, parameters: Sequence[Any], metrics: Sequence[Mapping[str, float]]) -> Path:
    """A finished study with one parameter and a trial for each of its values."""
    spec = StudySpec.model_validate(
        {
            "schema": 1, "network": "resnet20", "hardware": "edge-32x32", "space": {"hardware.dataflow": list(parameters)},
            "objectives": {"energy_pj_per_sample": "min", "latency_s": "min"}, "trials": len(parameters), "sampler": "random",
        }
    )  # fmt: skip
    outcomes = [{"state": "complete", "fidelity": "price", "values": dict(m), "message": ""} for m in metrics]
    columns = columns_of(spec, [{"hardware.dataflow": v} for v in parameters], outcomes)
    folder.mkdir()
    (folder / "study.yaml").write_text(spec.to_yaml())
    write_trials(folder, columns)
    write_front(folder, front_rows(spec, columns, {}, dict.fromkeys(range(3), 0.9983)), spec)
    write_summary(folder, {"schema": 1, "trials": len(parameters), "asked": len(parameters)})
    return folder


def test_of_equals_the_one_on_the_front_is_the_best_and_names_are_no_markup(tmp_path: Path) -> None:
    values = [(5e6, 9e-3), (5e6, 2e-3), (8e6, 1e-3)]
    metrics = [{"energy_pj_per_sample": e, "latency_s": t} for e, t in values]
    study, data, page, made = told(small_study(tmp_path / "tie", ["<b>os</b>", "w&s", "is"], metrics))
    assert study.columns["on_front"].tolist() == [False, True, True]
    assert cards(made)["lowest energy per sample"].details == ("trial 1",)
    assert cards(made)["lowest latency"].details == ("trial 2",)
    points = data["figures"]["front"]["points"]
    assert [p["p"] for p in points] == [["&lt;b&gt;os&lt;/b&gt;"], ["w&amp;s"], ["is"]]  # plotly reads markup
    assert column(page.tables["table-trials"], "dataflow") == ["<b>os</b>", "w&s", "is"]
    assert column(page.tables["table-front"], "P(non-dominated)") == [">0.99", ">0.99"]


def test_points_have_their_units(study_folder: Path) -> None:
    study, data, _, _ = told(study_folder)
    factors = {"accuracy": 1.0, "energy_pj_per_sample": 1e-12, "area_mm2": 1.0}
    assert [m["unit"] for m in data["figures"]["front"]["metrics"]] == ["%", "J", "mm²"]
    valued = np.flatnonzero(study.columns["state"] == "complete")
    points = {p["n"]: p["v"] for p in data["figures"]["front"]["points"]}
    assert sorted(points) == study.columns["number"][valued].tolist()
    for i in valued.tolist():
        expected = [study.columns[m][i] * factors[m] for m in study.spec.metrics]
        assert points[int(study.columns["number"][i])] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("which", ["study_folder", "study_of_three"])
def test_the_history_is_that_of_the_trials(which: str, request: pytest.FixtureRequest) -> None:
    study, data, _, _ = told(request.getfixturevalue(which))
    costs = np.where(study.counting()[:, None], study.costs(), np.nan)
    volumes = hypervolume_history(costs, reference_point(costs[study.counting()]))
    shown = data["figures"]["history"]
    assert shown["y"] == pytest.approx(volumes[shown["x"]] / volumes[-1], rel=1e-5)
    assert set(np.flatnonzero(np.diff(volumes, prepend=0.0) > 0).tolist()) <= set(shown["x"]) and len(shown["x"]) >= 4


def test_a_sample_is_counted_as_a_sample(study_of_three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_tables, "MOST_TRIALS", 40)
    monkeypatch.setattr(study_tables, "SAMPLE", 30)
    study, data, page, _ = told(study_of_three)
    figure = data["figures"]["front"]
    assert len(figure["points"]) <= 30 < len(study)
    front = int(study.columns["on_front"].sum())
    assert figure["counts"]["front"] == front
    assert figure["counts"]["dominated"] == int(study.counting().sum()) - front
    assert sum(figure["counts"].values()) == len(study) and "30 of 60 trials" in page.text


def test_a_batch_is_named_beside_what_is_for_all_of_it(study_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(study_folder, tmp_path / "batch"))
    spec = read_study(folder).spec.model_copy(update={"batch": 7})
    (folder / "study.yaml").write_text(spec.to_yaml())
    assert "for the batch of 7" in page_of(folder).about and "batch" not in page_of(study_folder).about
