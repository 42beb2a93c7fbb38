"""Picojoule: what a compressed neural network costs, and how accurate it is, on a piece of hardware.

    import picojoule as pj
    net = pj.load("model.onnx")
    report = pj.evaluate(net, "isaac")

Importing this package imports nothing heavy; each name below is loaded when it is first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from picojoule.api import evaluate, export, hardware_twin, load, penalty, run, sweep, trace
    from picojoule.inspecting import inspect
    from picojoule.searching import search
    from picojoule.sim.errors import InfeasibleError, InputError, PicojouleError, UnsupportedError
    from picojoule.sim.ir import Network
    from picojoule.sim.numerics.deform_module import DeformConv2d
    from picojoule.sim.numerics.offset_traces import record_offsets
    from picojoule.sim.offsets import OffsetTrace
    from picojoule.sim.report import Report
    from picojoule.studies.results import StudyResult, read_study

__all__ = [
    "evaluate",
    "export",
    "hardware_twin",
    "inspect",
    "load",
    "penalty",
    "read_study",
    "record_offsets",
    "run",
    "search",
    "sweep",
    "trace",
    "DeformConv2d",
    "Network",
    "OffsetTrace",
    "Report",
    "StudyResult",
    "InfeasibleError",
    "InputError",
    "PicojouleError",
    "UnsupportedError",
]

_HOMES = {
    **dict.fromkeys(
        ("evaluate", "export", "hardware_twin", "load", "penalty", "run", "sweep", "trace"), "picojoule.api"
    ),
    **dict.fromkeys(("InfeasibleError", "InputError", "PicojouleError", "UnsupportedError"), "picojoule.sim.errors"),
    "DeformConv2d": "picojoule.sim.numerics.deform_module",
    "inspect": "picojoule.inspecting",
    "Network": "picojoule.sim.ir",
    "OffsetTrace": "picojoule.sim.offsets",
    "record_offsets": "picojoule.sim.numerics.offset_traces",
    "Report": "picojoule.sim.report",
    "search": "picojoule.searching",
    **dict.fromkeys(("StudyResult", "read_study"), "picojoule.studies.results"),
}


def __getattr__(name: str) -> Any:
    import importlib

    if name == "__version__":
        from importlib.metadata import version

        return version("picojoule")
    if name not in _HOMES:
        raise AttributeError(f"module 'picojoule' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
