"""What `kill_studies` kills: small studies, and the ways of searching them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

TOPOLOGY = """Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,
first, 18, 18, 3, 3, 3, 16, 1,
second, 16, 16, 3, 3, 16, 32, 2,
third, 7, 7, 1, 1, 32, 10, 1,
"""
NETWORK = """import torch


def make():
    torch.manual_seed(0)
    layers = torch.nn.Flatten(), torch.nn.Linear(64, 24), torch.nn.ReLU(), torch.nn.Linear(24, 10)
    return torch.nn.Sequential(*layers), torch.zeros(2, 1, 8, 8)
"""
_HARDWARE_ALONE: dict[str, Any] = {
    "schema": 1,
    "network": "small.csv",
    "hardware": "edge-32x32",
    "objectives": {"energy_pj_per_sample": "min", "latency_s": "min"},
    "constraints": {"area_mm2": {"max": 3.8}},
    "seed": 3,
}
STUDIES: dict[str, dict[str, Any]] = {
    "optuna": {
        **_HARDWARE_ALONE,
        "space": {
            "hardware.rows": [4, 8, 16, 32],
            "hardware.dataflow": ["os", "ws", "is"],
            "hardware.clock_mhz": {"low": 200.0, "high": 800.0},
        },
        "sampler": "nsga2",
        "batch_size": 8,
        "population": 8,
        "trials": 60,
    },
    "designs": {
        **_HARDWARE_ALONE,
        "space": {
            "hardware.rows": [4, 8, 16, 32, 64],
            "hardware.cols": [4, 8, 16, 32, 64],
            "hardware.dataflow": ["os", "ws", "is"],
            "hardware.clock_mhz": [200.0, 300.0, 400.0, 500.0, 600.0, 800.0],
        },
        "sampler": "nsga2",
        "population": 20,
        "trials": 400,
    },
    "train": {
        "schema": 1,
        "network": "net.py:make",
        "data": "digits",
        "hardware": "edge-32x32",
        "space": {
            "hardware.rows": [4, 8, 16, 32, 64],
            "compression.lsq.weight_bits": [8, 6, 5, 4, 3, 2],
            "compression.lsq.first_last_bits": [None],
        },
        "objectives": {"accuracy": "max", "energy_pj_per_sample": "min"},
        "sampler": "nsga2",
        "batch_size": 3,
        "trials": 6,
        "training": {"epochs": 2, "proxy_epochs": 1, "promote": 0.4, "pretrain_epochs": 1},
        "seed": 1,
    },
}
"""The studies; one that is searched in several ways must come out the same in all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A way of searching: the study, the options, and what share of kills it gets."""

    study: str
    options: tuple[str, ...] = ()
    share: int
    workers: bool = False
    database: bool = False
    modules: tuple[str, ...] | None = ()
    """What the server of searches imports besides; None where each search is a process of its own."""


KINDS = {
    "dask": Kind(study="train", share=48, workers=True, modules=None),
    "train-2": Kind(study="train", share=32, options=("--jobs", "2"), workers=True, modules=None),
    "train-1": Kind(study="train", share=24, modules=("torch", "picojoule.training", "picojoule.compress.lsq")),
    "sqlite": Kind(study="optuna", share=30, database=True),
    "designs": Kind(study="designs", share=50),
    "optuna-1": Kind(study="optuna", share=52),
}


def shares(kills: int, kinds: Sequence[str]) -> dict[str, int]:
    """Return how many kills each kind gets, at least one."""
    whole = sum(KINDS[name].share for name in kinds)
    return {name: max(1, round(kills * KINDS[name].share / whole)) for name in KINDS if name in kinds}
