"""What plotly was given to draw in headless Chromium, against trials.csv; and that it is readable."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from picojoule.page.study_tables import kinds_of
from picojoule.studies.results import StudyResult, read_study

from .browsing import NARROW, WIDE, Browser

_NAMES = {"dominated": "dominated", "violating": "violates a constraint", "proxy": "proxy", "front": "front"}
_DRAWN = """
const p = document.getElementById('plot-front');
return {titles: [p.layout.xaxis.title.text, p.layout.yaxis.title.text],
  traces: p.data.map(t => ({name: t.name, x: [...t.x], y: [...t.y], n: t.customdata, mode: t.mode,
    shape: (t.line || {}).shape}))};
"""
_CHOOSE = """
const s = document.querySelectorAll('#controls-front select')[arguments[0]];
s.value = arguments[1]; s.dispatchEvent(new Event('change'));
"""
_TICKS = """
return [...document.querySelectorAll(`#plot-front .${arguments[0]}tick text`)].map(t => { const b = t.getBoundingClientRect();
  return {text: t.textContent, from: arguments[0] === 'x' ? b.left : b.top, to: arguments[0] === 'x' ? b.right : b.bottom}; })
  .sort((a, b) => a.from - b.from);
"""


def check_traces(drawn: dict[str, Any], study: StudyResult, x: tuple[str, float], y: tuple[str, float]) -> None:
    """Every trial with values lies where trials.csv has it, among its own kind; the knee where pareto.csv has it."""
    kinds, columns = kinds_of(study), study.columns
    for kind, name in _NAMES.items():
        trace = next(t for t in drawn["traces"] if t["name"].startswith(name))
        at = np.flatnonzero(kinds == kind)
        at = at[np.argsort(columns[x[0]][at], kind="stable")]
        assert trace["name"].endswith(f"({len(at)})")
        assert sorted(trace["n"]) == sorted(columns["number"][at].tolist())
        assert trace["x"] == pytest.approx(columns[x[0]][trace["n"]] * x[1], rel=1e-5) and trace["x"] == sorted(
            trace["x"]
        )
        assert trace["y"] == pytest.approx(columns[y[0]][trace["n"]] * y[1], rel=1e-5)
    knee = next(row for row in study.front if row["knee"])
    star = next(t for t in drawn["traces"] if t["name"] == "knee")
    assert [*star["x"], *star["y"]] == pytest.approx([knee[x[0]] * x[1], knee[y[0]] * y[1]], rel=1e-5)


def test_points_steps_and_titles_are_those_of_the_trials(
    browser: Browser, study_page: Path, study_folder: Path
) -> None:
    study = read_study(study_folder)
    energy, accuracy = ("energy_pj_per_sample", 1e-12), ("accuracy", 1.0)
    words = ["energy per sample, lower is better", "accuracy, higher is better"]
    browser.open(study_page)
    drawn = browser.run(_DRAWN)
    check_traces(drawn, study, energy, accuracy)
    assert drawn["titles"] == words
    # Rightwards the energy gets worse: what is reached stays until the next point, then rises.
    line = next(t for t in drawn["traces"] if t["name"].startswith("front"))
    assert (line["mode"], line["shape"]) == ("lines+markers", "hv") and line["y"] == sorted(line["y"])
    browser.run(_CHOOSE, 0, "0")
    browser.run(_CHOOSE, 1, "1")
    drawn = browser.run(_DRAWN)
    check_traces(drawn, study, accuracy, energy)
    assert drawn["titles"] == words[::-1]
    # Rightwards the accuracy gets better: the cost of the next point holds from just beyond the last.
    assert next(t for t in drawn["traces"] if t["name"].startswith("front"))["shape"] == "vh"
    browser.run(_CHOOSE, 1, "2")
    drawn = browser.run(_DRAWN)
    assert drawn["titles"] == [words[1], "area"]  # a constraint has no better side, and no front of its own
    assert {t["mode"] for t in drawn["traces"]} == {"markers"}
    assert browser.complaints() == []


def test_trials_without_a_value_sort_last_both_ways(browser: Browser, study_page: Path, study_folder: Path) -> None:
    accuracies = read_study(study_folder).columns["accuracy"]
    shown = (
        "const t = document.getElementById('table-trials');"
        "const i = [...t.tHead.rows[0].cells].findIndex(h => h.textContent.startsWith('accuracy'));"
        "t.tHead.rows[0].cells[i].querySelector('button').click();"
        "return [...t.tBodies[0].rows].map(r => r.cells[i].dataset.v === undefined ? null : Number(r.cells[i].dataset.v))"
    )
    expected = sorted(accuracies[np.isfinite(accuracies)].tolist())
    browser.open(study_page)
    for values in (expected[::-1], expected):
        found = browser.run(shown)
        assert found[: len(values)] == pytest.approx(values, rel=1e-5)
        assert found[len(values) :] == [None] * (len(accuracies) - len(values)) != []


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_logarithmic_axes_are_readable_and_samples_are_counted(
    browser: Browser, sampled_page: Path, study_of_three: Path, size: tuple[int, int]
) -> None:
    study = read_study(study_of_three)
    browser.open(sampled_page, size)
    total = int(study.counting().sum() - study.columns["on_front"].sum())
    trace = next(t for t in browser.run(_DRAWN)["traces"] if t["name"].startswith("dominated"))
    assert trace["name"] == f"dominated ({total}; {len(trace['x'])} drawn)" and len(trace["x"]) < total
    browser.run(
        "for (const i of [0, 1]) { const b = document.querySelectorAll('#controls-front input')[i]; if (!b.checked) b.click(); }"
    )
    drawn_first = browser.run(
        "const l = document.getElementById('plot-front').layout; return [l.xaxis.ticktext, l.yaxis.ticktext]"
    )
    assert all(drawn_first), "without a zoom"
    for powers in (0.2, 1.1, 2.2, 5):
        browser.run(
            "const r = [-4.5, -4.5 + arguments[0]]; Plotly.relayout('plot-front', {'xaxis.range': r, 'yaxis.range': [...r]})",
            powers,
        )
        for axis, unit in (("x", "J"), ("y", "s")):
            ticks = browser.run(_TICKS, axis)
            assert 2 <= len(ticks) <= 11 and all(t["text"].endswith(unit) for t in ticks), ticks
            assert all(a["to"] < b["from"] for a, b in itertools.pairwise(ticks)), ticks
    # Plotly complains of its own title while a deep zoom has no tick yet; nothing else may be wrong.
    assert [text for text in browser.complaints() if "-Infinity" not in text] == []


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_long_names_stay_within_the_window(browser: Browser, long_names_page: Path, size: tuple[int, int]) -> None:
    browser.open(long_names_page, size)
    assert browser.run("return document.documentElement.scrollWidth") <= size[0]
    labels = browser.run("return [...document.querySelectorAll('.legendtext')].map(t => t.textContent.length)")
    assert labels and max(labels) <= 40
    assert browser.complaints() == []
