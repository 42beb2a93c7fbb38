"""A window of headless Chromium that tests drive, and that keeps what went wrong in it."""

import importlib.util
import json
import shutil
import time
from pathlib import Path
from typing import Any

MISSING = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
MISSING += [name for name in ("selenium",) if importlib.util.find_spec(name) is None]

WIDE, NARROW = (1400, 900), (360, 740)
_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip

MIDDLE = """
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
            x, y = self.run(MIDDLE, selector)
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
