"""Reference networks and data sets: what the simulator is tried and taught on.

`build` and `example_inputs` make the networks that `names` lists (`catalog` has their published sizes); `load_data`
loads labelled images. Networks are seeded and untrained; data sets have fixed training, validation and test parts.
Importing this room imports neither torch nor any data.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from picojoule.models.catalog import describe, names
    from picojoule.models.data import load as load_data
    from picojoule.models.zoo import build, example_inputs

__all__ = ["build", "describe", "example_inputs", "load_data", "names"]

_HOMES = {
    "build": ("zoo", "build"),
    "example_inputs": ("zoo", "example_inputs"),
    "names": ("catalog", "names"),
    "describe": ("catalog", "describe"),
    "load_data": ("data", "load"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'picojoule.models' has no attribute '{name}'")
    import importlib

    module, attribute = _HOMES[name]
    return getattr(importlib.import_module(f"picojoule.models.{module}"), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
