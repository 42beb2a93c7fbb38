"""The page in headless Chromium: drawn, sorted, opened, at two widths and in the dark; it fetches nothing."""

import importlib.util
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from picojoule.page import write_page

_MISSING = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
_MISSING += [name for name in ("selenium",) if importlib.util.find_spec(name) is None]
if _MISSING:
    pytest.skip(f"the page is not tried in a browser: {', '.join(_MISSING)} not installed", allow_module_level=True)

WIDE, NARROW = (1400, 900), (360, 740)
_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip

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
_MIDDLE = """
const e = document.querySelector(arguments[0]), b = e.getBoundingClientRect();
return [b.x + b.width / 2, b.y + b.height / 2];
"""


class Browser:
    """A browser window that keeps what went wrong."""

    def __init__(self, profile: Path) -> None:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        options.binary_location = str(shutil.which("chromium"))
        for flag in (*_FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        self.driver.set_script_timeout(10)

    def open(self, page: Path, size: tuple[int, int] = WIDE, *, dark: bool = False) -> None:
        self.driver.get_log("browser")
        self.driver.get_log("performance")
        width, height = size
        window = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", window)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
        self.driver.get(page.as_uri())
        self.wait(
            "return document.querySelectorAll('.plot .main-svg').length >= 2 * document.querySelectorAll('.plot').length"
        )

    def run(self, script: str, *words: Any) -> Any:
        return self.driver.execute_script(script, *words)

    def wait(self, script: str) -> None:
        """Wait until a script returns something true."""
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.driver, 10, poll_frequency=0.05).until(lambda _: self.run(script))

    def mouse(self, x: float, y: float, kind: str = "mouseMoved", **more: Any) -> None:
        self.driver.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": kind, "x": x, "y": y, **more})

    def click(self, selector: str, done: str) -> None:
        """Click on a mark until `done` is true: plotly drops a click that comes within 50 ms of the mouse."""
        for _ in range(10):
            x, y = self.run(_MIDDLE, selector)
            self.mouse(x, y)
            time.sleep(0.2)
            self.mouse(x, y, kind="mousePressed", button="left", buttons=1, clickCount=1)
            self.mouse(x, y, kind="mouseReleased", button="left", clickCount=1)
            if self.run(f"return {done}"):
                return
        raise AssertionError(f"ten clicks on {selector} did nothing")

    def key(self, key: str, code: int, text: str = "") -> None:
        for kind in ("keyDown", "keyUp"):
            down = {"text": text} if text and kind == "keyDown" else {}
            self.driver.execute_cdp_cmd(
                "Input.dispatchKeyEvent", {"type": kind, "key": key, "windowsVirtualKeyCode": code, **down}
            )

    def complaints(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """What was loaded: everything but the page itself and data in it."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
        urls = [
            p["request"]["url"] for p in sent if p["documentURL"].startswith("file:")
        ]  # not the browser's own first tab
        return [url for url in urls if not url.startswith(("file:", "data:", "blob:"))]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    made = Browser(tmp_path_factory.mktemp("profile"))
    yield made
    made.driver.quit()


@pytest.fixture(scope="module")
def run_page(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("html") / "run.html"
    write_page(run_folder, out)
    return out


@pytest.fixture(scope="module")
def study_page(study_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("html") / "study.html"
    write_page(study_folder, out)
    return out


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
    x, y = browser.run(_MIDDLE, selector)
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
