import csv
import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from picojoule.page import page_of, write_page
from picojoule.page.content import Figure
from picojoule.page.reading import read_run
from picojoule.page.render import json_for_script, render_page
from picojoule.page.run_content import run_page
from picojoule.page.words import cause, metric, percent, probability, shortened
from picojoule.sim.errors import InputError
from picojoule.studies.results import read_study
from picojoule.tables import joules, resources_text

from .conftest import HOSTILE
from .parsed import Parsed, column


@pytest.fixture(scope="module")
def page(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Parsed:
    out = tmp_path_factory.mktemp("page") / "report.html"
    write_page(run_folder, out)
    return Parsed(out.read_text(encoding="utf-8"))


def test_the_table_holds_every_layer_with_its_energy(page: Parsed, run_folder: Path) -> None:
    report = json.loads((run_folder / "report.json").read_text())
    rows = page.tables["table-layers"]
    assert column(rows, "layer") == [layer["name"] for layer in report["layers"]]
    assert HOSTILE in column(rows, "layer")
    assert column(rows, "energy") == [joules(sum(layer["energy_pj"].values())) for layer in report["layers"]]
    assert sum(float(v[:-1].lstrip("<")) for v in column(rows, "share")) == pytest.approx(100, abs=2)


def test_headline_figures_stand_in_the_text_with_units_and_ranges(page: Parsed, run_folder: Path) -> None:
    totals = json.loads((run_folder / "report.json").read_text())["totals"]
    low, high = totals["ranges"]["energy_pj_per_sample"]
    assert f"range {joules(low)} to {joules(high)}" in page.text
    assert joules(totals["energy_pj_per_sample"]) in page.text
    assert "91.00%" in page.text and "89.67% to 92.18% (95 %)" in page.text and "2,000 test samples" in page.text


def test_components_add_up_to_the_whole_bill(page: Parsed, run_folder: Path) -> None:
    with (run_folder / "components.csv").open(newline="") as file:
        lines = [row for row in csv.DictReader(file) if row["metric"] == "energy"]
    names = {row["component"] for row in lines}
    rows = page.tables["table-components"]
    assert set(column(rows, "component")) == names
    static = {row["component"] for row in lines if not row["layer"]}
    assert {
        c for c, kind in zip(column(rows, "component"), column(rows, "energy is"), strict=True) if kind == "static"
    } == static


def test_why_utilization_is_lost_sums_to_one(run_folder: Path) -> None:
    table = next(
        p
        for s in run_page(read_run(run_folder)).sections
        for b in s.parts
        for p in getattr(b, "parts", ())
        if p.name == "losses"
    )
    shares = [row.cells[1].value for row in table.rows]
    assert sum(shares) == pytest.approx(1, abs=1e-4)
    used = json.loads((run_folder / "report.json").read_text())["totals"]["utilization"]
    assert shares[0] == pytest.approx(used, rel=1e-4)


def test_nothing_is_fetched_and_nothing_hostile_becomes_an_element(page: Parsed) -> None:
    for tag, values in page.tags:
        assert tag not in ("img", "iframe", "object", "embed", "audio", "video")
        assert not any(key.startswith("on") for key in values)
        for key in ("src", "href", "srcset", "action", "data", "poster"):
            assert (values.get(key) or "#").startswith(("#", "data:,"))
    policy = next(
        v["content"] for t, v in page.tags if t == "meta" and v.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy == "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
    assert len(page.scripts) == 3
    data = page.scripts[0]
    assert not set(data) & set("<>&\u2028\u2029")
    assert HOSTILE in [layer["name"] for layer in json.loads(data)["runs"][""]["layers"]]


def test_json_cannot_leave_its_script() -> None:
    value = {"a": "</script><!--&\u2028\u2029", "lone": "\ud800"}
    text = json_for_script({"a": value["a"]})
    assert not set(text) & set("<>&\u2028\u2029") and json.loads(text) == {"a": value["a"]}
    json_for_script(value).encode()


def test_same_folder_same_bytes(run_folder: Path, study_of_three: Path, tmp_path: Path) -> None:
    for source in (run_folder, study_of_three):
        write_page(source, tmp_path / "a.html")
        write_page(source, tmp_path / "b.html")
        assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_coverage_provenance_and_basis_are_there(page: Parsed, run_folder: Path) -> None:
    provenance = json.loads((run_folder / "provenance.json").read_text())
    assert provenance["constants_hash"] in page.text
    for name, source in provenance["sources"].items():
        assert [name, source] in [[row[0], row[2]] for row in page.tables["table-sources"]]
    assert "assumed int8" in page.text and "all of the MACs" in page.text
    assert column(page.tables["table-bases"], "basis")
    assert (run_folder / "config.resolved.yaml").read_text() in page.text


def test_what_is_not_priced_is_said_on_top(copied: Path) -> None:
    path = copied / "report.json"
    document = json.loads(path.read_text())
    document["complete"] = False
    document["coverage"] |= {"bytes_priced": 0.75, "macs_priced": None}
    document["coverage"]["unsupported"] = [
        {"op": "my.Frob", "layer": "fc", "where": "node 5", "reason": "unknown", "bytes_share": 0.25}
    ]
    document["layers"][-1] |= {"unit": "unsupported", "energy_pj": {}, "utilization_lost": {}, "utilization": None}
    path.write_text(json.dumps(document))
    made = page_of(copied)
    assert made.title.endswith("(INCOMPLETE)") and made.banner[0] == "INCOMPLETE"
    assert "my.Frob (1x), which move 25% of the bytes" in made.banner[1]
    parsed = Parsed(render_page(made))
    assert parsed.tables["table-layers"][-1][3] == "not priced"
    assert ["my.Frob", "fc", "node 5", "unknown", "25%"] in parsed.tables["table-unsupported"]


# --- bad input ------------------------------------------------------------------------------------------------------------


def _edit(folder: Path, name: str, change: Callable[[str], str]) -> None:
    (folder / name).write_text(change((folder / name).read_text()))


def _without(key: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        document: dict[str, Any] = json.loads(text)
        document.pop(key)
        return json.dumps(document)

    return change


def _latency(text: str) -> Callable[[str], str]:
    return lambda report: re.sub(r'"latency_s": [^,]+', f'"latency_s": {text}', report)


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        (
            "report.json",
            lambda t: t[: len(t) // 2],
            r"not valid JSON \(.*\); expected the report.json of `evaluate --out`",
        ),
        ("report.json", lambda t: "", "is empty, expected the report.json of `evaluate --out`"),
        ("report.json", lambda t: "[1]", "must hold a JSON object, got list; expected .*"),
        (
            "report.json",
            lambda t: t.replace('"schema": 1', '"schema": 7'),
            "must be a report of schema 1, got schema 7; .*",
        ),
        (
            "report.json",
            _without("layers"),
            r"not a report of picojoule \(torn or edited\?\): no 'layers'; run .* again",
        ),
        ("report.json", _latency("NaN"), r"not valid JSON \(NaN is no number\); .*"),
        ("report.json", _latency("1e999"), "not a report of .*: must be a finite number, got inf; .*"),
        ("report.json", _latency("null"), "not a report of .*"),
        (
            "report.json",
            lambda t: t.replace('"utilization_lost": {', '"utilization_lost": 3, "x": {'),
            "not a report of .*",
        ),
        ("components.csv", lambda t: t.replace("metric,", "measure,"), "has no column 'metric'; expected .*"),
        (
            "components.csv",
            lambda t: re.sub(r"energy,[^,]+", "energy,nan", t, count=1),
            "row 2: 'value' must be a finite .*",
        ),
        ("config.resolved.yaml", lambda t: "", "is empty, .*"),
    ],
)
def test_a_damaged_run_is_refused_in_a_sentence(
    copied: Path, name: str, change: Callable[[str], str], sentence: str
) -> None:
    _edit(copied, name, change)
    with pytest.raises(InputError) as caught:
        page_of(copied)
    assert re.fullmatch(f"{re.escape(str(copied / name))}: {sentence}", str(caught.value))


def test_a_torn_last_line_is_named(copied: Path) -> None:
    _edit(copied, "components.csv", lambda t: t[:-20])
    with pytest.raises(InputError, match=r"components.csv:\d+: has \d cells, the header 8 \(torn\?\)"):
        page_of(copied)


@pytest.mark.parametrize("name", ["components.csv", "config.resolved.yaml"])
def test_a_missing_file_is_named(copied: Path, name: str) -> None:
    (copied / name).unlink()
    with pytest.raises(InputError, match=f"{name}: no such file"):
        page_of(copied)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"holds neither a run \(report.json\) nor a study \(study.yaml, trials.csv\); give"
    ):
        page_of(tmp_path)
    with pytest.raises(InputError, match="none: no such folder; give one made with"):
        page_of(tmp_path / "none")


def test_the_page_must_go_to_a_file(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder; name a file, such as"):
        write_page(run_folder, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("trials.csv", lambda t: t.replace("hardware.rows", "rows"), "has no column 'hardware.rows'"),
        ("trials.csv", lambda t: t[:-9], "torn"),
        ("study.yaml", lambda t: t.replace("schema: 1", "schema: 0"), "schema 0 is an older one"),
    ],
)
def test_a_damaged_study_is_refused(
    study_of_three: Path, tmp_path: Path, name: str, change: Callable[[str], str], sentence: str
) -> None:
    folder = Path(shutil.copytree(study_of_three, tmp_path / "study"))
    _edit(folder, name, change)
    with pytest.raises(InputError, match=sentence):
        page_of(folder)


def test_a_torn_report_of_the_front_is_refused(study_of_three: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(study_of_three, tmp_path / "study"))
    torn = sorted((folder / "front").iterdir())[0] / "report.json"
    torn.write_text(torn.read_text()[:100])
    with pytest.raises(InputError, match=r"front/\d{5}/report.json: not valid JSON"):
        page_of(folder)


def test_without_plotly_the_remedy_is_named(run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(
        InputError, match=r"plotly, which is not installed; install it with `pip install 'picojoule\[report\]'`"
    ):
        write_page(run_folder, tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


# --- words ----------------------------------------------------------------------------------------------------------------


def test_figures_are_written_with_their_units() -> None:
    assert metric("energy_pj_per_sample").show(88_154_481.5) == "88.2 µJ"
    assert metric("latency_s").show(1.5e-4) == "150 µs"
    assert metric("area_mm2").show(3.99852) == "3.999 mm²"
    assert metric("accuracy").show(0.9123) == "91.23%"
    assert metric("weight_bytes").show(273_784) == "274 kB"
    assert metric("chips").show(3) == "3" and metric("chips").show(float("nan")) == "-"
    assert [percent(s) for s in (None, 0, 0.0004, 0.034, 0.5)] == ["-", "0%", "<0.1%", "3.4%", "50%"]
    assert [probability(s) for s in (1, 0.9983, 0.994, 0.5, 0.004, 0)] == [
        "1.00",
        ">0.99",
        "0.99",
        "0.50",
        "<0.01",
        "0.00",
    ]
    assert cause("fill_drain") == "fill/drain" and cause("ima_padding") == "ima padding"
    assert shortened("a" * 40 + "tail").endswith("tail") and len(shortened("a" * 90)) == 28


def test_what_is_for_the_whole_batch_says_so(copied: Path) -> None:
    alone = page_of(copied)
    assert "for the batch" not in render_page(alone).partition("<script")[0]
    _edit(copied, "report.json", lambda t: t.replace('"batch": 1', '"batch": 4'))
    made = page_of(copied)
    assert "batch 4" in made.about
    shown = {card.label: card for part in made.sections[0].parts for card in getattr(part, "cards", ())}
    assert shown["latency"].details[0] == shown["MACs"].details[0] == "for the batch of 4"
    parts = {getattr(p, "name", ""): p for s in made.sections for p in s.parts}
    assert "All 6 layers for the batch of 4; dynamic energy" in parts["layers"].caption
    for name, what in (("energy", "energy"), ("latency", "latency")):
        assert parts[name].title.endswith("for the batch of 4") and "execution for the batch of 4:" in parts[name].about
        assert parts[name].spec["layout"]["yaxis"]["title"]["text"] == f"{what} for the batch of 4"


def test_resources_are_counted_once_and_as_one_or_many(copied: Path) -> None:
    path = copied / "report.json"
    document = json.loads(path.read_text())
    document["totals"]["resources"] = {"crossbars": 166, "imas": 33, "tiles": 1, "chips": 1}
    path.write_text(json.dumps(document))
    shown = {card.label: card for part in page_of(copied).sections[0].parts for card in getattr(part, "cards", ())}
    assert (shown["uses"].value, shown["uses"].details) == ("1 chip", ("166 crossbars, 33 imas, 1 tile",))


def test_a_boards_resources_stand_with_their_shares(copied: Path) -> None:
    path = copied / "report.json"
    document = json.loads(path.read_text())
    used = {"dsp": 360, "bram36": 151, "lut": 1, "dsp_share": 1.0, "bram36_share": 0.6991, "board": "ultra96"}
    document["totals"]["resources"] = used
    path.write_text(json.dumps(document))
    shown = {card.label: card for part in page_of(copied).sections[0].parts for card in getattr(part, "cards", ())}
    assert shown["uses"].details == ("360 DSP (100%), 151 BRAM36 (70%), 1 LUT of ultra96",)
    assert resources_text(used) == shown["uses"].details[0]


def test_names_in_drawings_are_no_markup(run_folder: Path, page: Parsed, copied: Path) -> None:
    labels = json.loads(page.scripts[0])["figures"]["energy"]["labels"]
    assert labels[2].startswith("3 &lt;/scrip…") and labels[0] == "1 conv1"
    _edit(copied, "report.json", lambda t: t.replace('"register"', '"<i>&register</i>"'))
    figure = page_of(copied).sections[1].parts[0]
    assert isinstance(figure, Figure)
    traces = figure.spec["data"]
    assert "&lt;i&gt;&amp;register&lt;/i&gt;" in [t["name"] for t in traces]


def test_a_study_without_any_trial_says_so(study_of_three: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(study_of_three, tmp_path / "empty"))
    for name in ("trials.csv", "pareto.csv"):
        _edit(folder, name, lambda t: t.splitlines(keepends=True)[0])
    assert len(read_study(folder)) == 0
    made = page_of(folder)
    assert made.banner[0] == "NO FRONT" and "holds no trial yet" in made.banner[1]
    Parsed(render_page(made))
