from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

TOPOLOGY = """Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,
first, 18, 18, 3, 3, 3, 16, 1,
second, 16, 16, 3, 3, 16, 32, 2,
third, 7, 7, 1, 1, 32, 10, 1,
"""


@pytest.fixture
def make_study(tmp_path: Path) -> Callable[..., Path]:
    """Write a STUDY.yaml over hardware alone, priced without torch; keywords replace keys, None removes one."""

    def make(name: str = "study.yaml", **changes: Any) -> Path:
        network = tmp_path / "small.csv"
        network.write_text(TOPOLOGY)
        study: dict[str, Any] = {
            "schema": 1,
            "network": str(network),
            "hardware": "edge-32x32",
            "space": {
                "hardware.rows": [4, 8, 16, 32],
                "hardware.dataflow": ["os", "ws", "is"],
                "hardware.clock_mhz": {"low": 200.0, "high": 800.0},
            },
            "objectives": {"energy_pj_per_sample": "min", "latency_s": "min"},
            "constraints": {"area_mm2": {"max": 3.8}},
            "sampler": "nsga2",
            "batch_size": 4,
            "population": 4,
            "trials": 14,
            "seed": 3,
        }
        study.update(changes)
        path = tmp_path / name
        path.write_text(yaml.safe_dump({k: v for k, v in study.items() if v is not None}, sort_keys=False))
        return path

    return make


@pytest.fixture(scope="session")
def whole_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished study over hardware alone."""
    import picojoule as pj

    folder = tmp_path_factory.mktemp("whole")
    network = folder / "small.csv"
    network.write_text(TOPOLOGY)
    study = {
        "network": str(network),
        "hardware": "edge-32x32",
        "space": {"hardware.rows": [4, 8, 16, 32], "hardware.dataflow": ["os", "ws", "is"]},
        "objectives": {"energy_pj_per_sample": "min", "latency_s": "min"},
        "trials": 12,
    }
    pj.search(study, out=folder / "study")
    return folder / "study"
