"""What `picojoule presets` and `picojoule doctor` list."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from picojoule.sim.errors import PicojouleError
from picojoule.sim.hardware import load_hardware, load_spec, plugins, presets

_OPTIONAL = {
    "onnxruntime": "onnx",
    "onnxscript": "onnx",
    "optuna": "search",
    "distributed": "distributed",
    "plotly": "report",
    "pandas": "dev",
    "Pillow": "samples",
}
_CORE = ("picojoule", "torch", "numpy", "scipy", "numba", "networkx", "matplotlib", "pydantic", "PyYAML", "onnx", "safetensors")


def preset_rows() -> list[dict[str, Any]]:
    """Return each preset: name, kind, what it is (the first line of its file), area, and its file."""
    rows = []
    for name, path in presets().items():
        first = path.read_text().splitlines()[0]
        area = load_hardware(name).area().mm2
        rows.append(
            {
                "name": name,
                "kind": load_spec(name).kind,
                "about": first.lstrip("# ").strip() if first.startswith("#") else "",
                "area_mm2": area,
            }
        )
    return rows


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
        rows.append(_row(f"accelerator {plugin.kind}", "problem" if plugin.problem else "ok", plugin.problem or plugin.origin))
    for name in presets():
        try:
            load_hardware(name)
            rows.append(_row(f"preset {name}", "ok", ""))
        except PicojouleError as error:
            rows.append(_row(f"preset {name}", "problem", str(error)))
    threads = os.environ.get("OMP_NUM_THREADS")
    advice = f"OMP_NUM_THREADS={threads}" if threads else "OMP_NUM_THREADS is not set; 1 is best on small or busy machines"
    rows.append(_row("threads", "ok", advice))
    return rows


def _row(check: str, state: str, detail: str) -> dict[str, Any]:
    return {"check": check, "state": state, "detail": detail}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
