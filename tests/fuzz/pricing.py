"""What is done with what was read: a network is priced on small hardware, and every figure looked at."""

import json
import math
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

STEM = "specimen"
"""Name of every specimen, whatever its suffix."""
HARDWARE = {"rows": 8, "cols": 8, "dataflow": "os"}
TOPOLOGY = "conv1, 8, 8, 3, 3, 4, 8, 1,\nconv2, 6, 6, 3, 3, 8, 4, 1,\nfc, 1, 1, 1, 1, 64, 10, 1,\n"


def _finite(value: Any, where: str = "report") -> None:
    """Refuse a result with NaN, infinite or negative figures."""
    stack = [(where, value)]
    while stack:
        place, item = stack.pop()
        if isinstance(item, Mapping):
            stack.extend((f"{place}.{k}", v) for k, v in item.items())
        elif isinstance(item, list | tuple):
            stack.extend((place, v) for v in item)
        elif isinstance(item, float | int) and not isinstance(item, bool):
            assert math.isfinite(item), f"{place} is {item}"
            assert item >= 0, f"{place} is {item}"


def price(network: Any, hardware: Any = None) -> None:
    """Price a network and look at the figures."""
    import picojoule as pj

    report = pj.evaluate(network, hardware or array(), allow_unsupported=True)
    document = json.loads(report.to_json())
    _finite(document["totals"], "totals")
    for layer in document["layers"]:
        _finite({k: v for k, v in layer.items() if k not in ("name", "utilization_lost")}, "layer")


@cache
def array() -> Any:
    from picojoule.sim.hardware import accelerator_class

    kind = accelerator_class("systolic", "fuzz")
    return kind(kind.spec_type(**HARDWARE))  # type: ignore[call-arg, arg-type]


@cache
def small_network() -> Any:
    import picojoule as pj

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.csv"
        path.write_text(TOPOLOGY)
        return pj.load(path)


def load_network(path: Path) -> Any:
    import picojoule as pj

    return pj.load(path)
