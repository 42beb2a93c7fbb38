"""What `picojoule presets` and `picojoule doctor` list."""

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from picojoule.models.data import EMBEDDED, load
from picojoule.sim.errors import PicojouleError
from picojoule.sim.hardware import load_hardware, plugins, presets

_OPTIONAL = {
    "onnxruntime": "onnx",
    "onnxscript": "onnx",
    "optuna": "search",
    "distributed": "distributed",
    "plotly": "report",
    "pandas": "dev",
    "Pillow": "samples",
}
_CORE = (
    "picojoule",
    "torch",
    "numpy",
    "scipy",
    "numba",
    "networkx",
    "matplotlib",
    "pydantic",
    "PyYAML",
    "onnx",
    "safetensors",
)


def preset_rows() -> list[dict[str, Any]]:
    """Return each preset: name, kind, what it is (the first sentence of its file) and area.

    A preset that cannot be read (a plug-in's) stands with its problem and spoils nothing else.
    """
    rows: list[dict[str, Any]] = []
    for name, path in presets().items():
        try:
            made = load_hardware(name)
            rows.append({"name": name, "kind": made.spec.kind, "about": _about(path), "area_mm2": made.area().mm2})
        except PicojouleError as error:
            rows.append({"name": name, "kind": None, "about": f"problem: {error}", "area_mm2": None})
    return rows


def _about(path: Path) -> str:
    """Return the first sentence of the comment that a file begins with."""
    text = re.match(r"(?:#.*\n)*", path.read_text(encoding="utf-8"))
    words = " ".join(line.lstrip("# ").rstrip() for line in text[0].splitlines()) if text else ""
    return re.split(r"(?<=\.)\s+(?=[A-Z])", words)[0]


def doctor_rows() -> list[dict[str, Any]]:
    """Return one row per check: what, state (`ok`, `missing`, `problem`) and detail."""
    rows = [_row("python", "ok", platform.python_version())]
    for package in _CORE:
        found = _version(package)
        rows.append(_row(package, "ok" if found else "problem", found or "not installed; reinstall picojoule"))
    for package, extra in _OPTIONAL.items():
        found = _version(package)
        rows.append(_row(package, "ok" if found else "missing", found or f"optional: pip install 'picojoule[{extra}]'"))
    for plugin in plugins():
        rows.append(
            _row(f"accelerator {plugin.kind}", "problem" if plugin.problem else "ok", plugin.problem or plugin.origin)
        )
    for name in presets():
        try:
            load_hardware(name)
            rows.append(_row(f"preset {name}", "ok", ""))
        except PicojouleError as error:
            rows.append(_row(f"preset {name}", "problem", str(error)))
    rows.extend(_data_row(name) for name in EMBEDDED)
    threads = os.environ.get("OMP_NUM_THREADS")
    advice = (
        f"OMP_NUM_THREADS={threads}" if threads else "OMP_NUM_THREADS is not set; 1 is best on small or busy machines"
    )
    rows.append(_row("threads", "ok", advice))
    return rows


def _data_row(name: str) -> dict[str, Any]:
    try:
        data = load(name)
        parts = ", ".join(f"{len(getattr(data, part))} {part}" for part in ("train", "val", "test"))
    except PicojouleError as error:
        return _row(f"data set {name}", "problem", str(error))
    return _row(f"data set {name}", "ok", parts)


def _row(check: str, state: str, detail: str) -> dict[str, Any]:
    return {"check": check, "state": state, "detail": detail}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
