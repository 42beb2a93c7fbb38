"""The page in headless Chromium: drawn, sorted, opened, at two widths and in the dark; it fetches nothing."""

import json
from pathlib import Path

import pytest

from .browsing import MIDDLE, NARROW, WIDE, Browser

_CONTRAST = """
const rgb = (text) => (text.match(/[\\d.]+/g) || [0, 0, 0]).map(Number);
const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const ground = (e) => {
  for (; e; e = e.parentElement) {
    const c = rgb(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] > 0) return c;
  }
  return [255, 255, 255];
};
const seen = 'p, li, dt, dd span, th, td, caption, a, button, select, pre, .plot text';
return [...document.querySelectorAll(seen)].filter(e => e.textContent.trim())
  .map(e => { const s = getComputedStyle(e), a = light(rgb(e instanceof SVGElement ? s.fill : s.color)), b = light(ground(e));
    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.tagName, e.textContent.trim().slice(0, 40)]; })
  .filter(([ratio]) => ratio < 4.5).slice(0, 5);
"""


def column(browser: Browser, table: str, index: int, attribute: str = "textContent") -> list[str]:
    script = (
        "return [...document.getElementById(arguments[0]).tBodies[0].rows].map(r => r.cells[arguments[1]]).map(c => "
    )
    return list(browser.run(f"{script}c.{attribute})", table, index))


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("page", ["run_page", "study_page"])
def test_it_is_drawn_within_the_window_and_fetches_nothing(
    browser: Browser, page: str, size: tuple[int, int], request: pytest.FixtureRequest
) -> None:
    browser.open(request.getfixturevalue(page), size)
    assert browser.run("return document.documentElement.scrollWidth <= window.innerWidth")
    assert browser.run("return window.innerWidth") == size[0]
    marks = browser.run("return document.querySelectorAll('.plot .point path, .plot path.point').length")
    assert marks >= 12
    outside = browser.run(
        "return [...document.querySelectorAll('h1, h2, p, li, select, dd, .plot, .box')]"
        ".filter(e => e.getBoundingClientRect().right > window.innerWidth + 1).map(e => e.outerHTML.slice(0, 90))"
    )
    assert outside == []
    assert browser.run("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.run(_CONTRAST) == []
    assert browser.complaints() == []
    assert browser.requests() == []
    assert browser.run("return document.title").endswith("picojoule")  # a layer's name would have changed it
    assert browser.run("return document.querySelectorAll('img').length") == 0


def test_a_click_on_a_header_sorts_and_a_second_turns_round(browser: Browser, run_page: Path) -> None:
    browser.open(run_page)
    heads = browser.run("return [...document.querySelectorAll('#table-layers thead th')].map(h => h.innerText.trim())")
    at = next(i for i, head in enumerate(heads) if head.startswith("energy"))
    before = [float(v) for v in column(browser, "table-layers", at, "dataset.v")]
    click = "document.querySelectorAll('#table-layers thead button')[arguments[0]].click();"
    state = "return document.querySelectorAll('#table-layers thead th')[arguments[0]].getAttribute('aria-sort')"
    assert browser.run(state, at) == "none"
    browser.run(click, at)
    assert browser.run(state, at) == "descending"
    assert (
        [float(v) for v in column(browser, "table-layers", at, "dataset.v")] == sorted(before, reverse=True) != before
    )
    browser.run(click, at)
    assert browser.run(state, at) == "ascending"
    assert [float(v) for v in column(browser, "table-layers", at, "dataset.v")] == sorted(before)
    browser.run("document.querySelector('#table-layers thead button').focus()")
    browser.key("Enter", 13, "\r")
    names = column(browser, "table-layers", 0)
    assert names[-1].startswith("stage.") and names.index("conv2") < names.index("fc")
    assert browser.run(state, at) == "none" and browser.run(state, 0) == "ascending"
    browser.key("Enter", 13, "\r")
    assert column(browser, "table-layers", 0) == names[::-1]


def test_a_row_opens_to_components_that_sum_to_it(browser: Browser, run_page: Path, run_folder: Path) -> None:
    layers = json.loads((run_folder / "report.json").read_text())["layers"]
    browser.open(run_page)
    for index, layer in enumerate(layers):
        browser.run("document.querySelector(`#table-layers [data-open='${arguments[0]}']`).focus()", index)
        browser.key("Enter", 13, "\r")
        row = browser.run(
            "const b = document.querySelector(`#table-layers [data-open='${arguments[0]}']`), r = b.closest('tr');"
            "const d = r.nextElementSibling;"
            "return {open: b.getAttribute('aria-expanded'), row: Number(r.cells[10].dataset.v), shown: r.cells[10].textContent,"
            " parts: [...d.querySelectorAll('[data-pj]')].map(e => Number(e.dataset.pj)), text: d.textContent,"
            " total: d.querySelector('.sum').cells[1].textContent, heading: d.querySelector('h3').textContent}",
            index,
        )
        assert row["open"] == "true" and row["heading"] == layer["name"]
        assert sum(row["parts"]) == pytest.approx(row["row"], rel=1e-5) and row["total"] == row["shown"]
        assert sorted(row["parts"]) == pytest.approx(sorted(layer["energy_pj"].values()), rel=1e-5)
        for cause, share in layer["utilization_lost"].items():
            assert f"lost to {'fill/drain' if cause == 'fill_drain' else cause}" in row["text"] or share == 0
        assert "reads" in row["text"] and layer["basis"] in row["text"]
        browser.key("Enter", 13, "\r")
    assert browser.run("return document.querySelectorAll('#table-layers tr.more').length") == 0
    assert browser.complaints() == [] and browser.run("return document.querySelectorAll('img').length") == 0


_LABELS = "return [...document.querySelectorAll('.hoverlayer')].map(h => h.textContent).join(' ')"


def hover(browser: Browser, selector: str, text: str) -> str:
    """Move the mouse onto a mark and return what is shown there, once it holds `text`."""
    browser.run("document.querySelector(arguments[0]).scrollIntoView({block: 'center'})", selector)
    x, y = browser.run(MIDDLE, selector)
    browser.mouse(x + 5, y + 3)
    browser.mouse(x, y)
    browser.wait(f"{_LABELS}.includes({json.dumps(text)})")
    return str(browser.run(_LABELS))


def test_hover_says_what_a_bar_is(browser: Browser, run_page: Path) -> None:
    browser.open(run_page)
    shown = hover(browser, "#plot-energy .trace .point:nth-child(3) path", "</scrip…")
    assert "dram" in shown and ("µJ" in shown or "nJ" in shown)
    shapes = browser.run("return document.getElementById('plot-energy').data.map(t => t.marker.pattern.shape)")
    assert len(set(shapes)) == len(shapes) >= 5  # told apart without color
    assert browser.complaints() == []


def test_hover_and_click_on_a_point_of_the_front(browser: Browser, study_page: Path, study_folder: Path) -> None:
    browser.open(study_page)
    traces = browser.run("return document.getElementById('plot-front').data.map(t => [t.name, t.marker.symbol])")
    symbols = [symbol for _, symbol in traces]
    assert len(set(symbols)) == len(symbols) == 5  # told apart without color
    number = browser.run(
        "const p = document.getElementById('plot-front'), i = p.data.findIndex(t => t.name.startsWith('front'));"
        "p.querySelectorAll('.scatterlayer .trace')[i].setAttribute('data-front', '1'); return p.data[i].customdata[0]"
    )
    shown = hover(browser, "#plot-front [data-front] path.point", f"trial {number},")
    assert "P(non-dominated)" in shown and " to " in shown and "dataflow" in shown
    browser.click(
        "#plot-front [data-front] path.point",
        f"document.querySelector('.view').textContent.includes('Trial {number}:')",
    )
    report = json.loads((study_folder / "front" / f"{number:05d}" / "report.json").read_text())
    assert column(browser, f"table-layers{number}", 0) == [layer["name"] for layer in report["layers"]]
    assert browser.complaints() == []


def test_trials_are_filtered_and_axes_chosen(browser: Browser, study_page: Path) -> None:
    browser.open(study_page)
    change = (
        "const s = document.querySelector(arguments[0]); s.value = arguments[1];"
        "s.dispatchEvent(new Event(arguments[2], {bubbles: true}));"
    )
    left = (
        "return [...document.querySelectorAll('#table-trials tbody tr')].filter(r => !r.hidden)"
        ".map(r => r.cells[1].textContent)"
    )
    browser.run(change, "[data-kinds=trials]", "front", "input")
    assert set(browser.run(left)) == {"front"}
    browser.run(change, "[data-kinds=trials]", "", "input")
    browser.run(change, "[data-filter=trials]", "area_mm2", "input")
    assert set(browser.run(left)) <= {"violating", "proxy"} and browser.run(left)
    browser.run(change, "#controls-front select", "2", "change")
    browser.wait("return document.getElementById('plot-front').layout.xaxis.title.text.startsWith('area')")
    assert browser.complaints() == []


def test_the_dark_page_is_dark_and_readable(browser: Browser, study_page: Path) -> None:
    browser.open(study_page, dark=True)
    assert browser.run("return getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert browser.run(_CONTRAST) == []
