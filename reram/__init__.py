"""ReRAM crossbars: their exact arithmetic, and accelerators built from them."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from picojoule.reram.accelerator import ReramAccelerator
    from picojoule.reram.arithmetic import ProgrammedCrossbar, crossbar_matmul, program
    from picojoule.reram.crossbar import CrossbarSpec, Encoding
    from picojoule.reram.spec import ReramSpec

__all__ = [
    "CrossbarSpec",
    "Encoding",
    "ProgrammedCrossbar",
    "ReramAccelerator",
    "ReramSpec",
    "crossbar_matmul",
    "program",
]

_HOMES = {
    "CrossbarSpec": "crossbar",
    "Encoding": "crossbar",
    "ProgrammedCrossbar": "arithmetic",
    "ReramAccelerator": "accelerator",
    "ReramSpec": "spec",
    "crossbar_matmul": "arithmetic",
    "program": "arithmetic",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for, when it is asked for."""
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
