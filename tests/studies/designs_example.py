"""A small study in closed form, for the tests of searches over hardware alone; loaded by processes that are killed, too."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from picojoule.studies.designs_engine import run_designs
from picojoule.studies.designs_search import DesignColumns, DesignSearch
from picojoule.studies.designs_table import front_of, write_trials_csv

NAMES = ("hardware.rows", "hardware.cols", "hardware.clock_mhz", "hardware.dataflow")
CHOICES = ((8, 16, 32, 64, 128), tuple(range(4, 24)), (100.0, 250.0, 0.1 + 0.2), ("os", "ws", "is"))


class Priced:
    """Totals in closed form; some designs are impossible, some come out as NaN."""

    def __init__(self, keys: Mapping[str, NDArray[Any]]) -> None:
        rows, cols, clock = (keys[n].astype(float) for n in NAMES[:3])
        factor = np.array([{"os": 1.0, "ws": 1.1, "is": 1.3}[d] for d in keys[NAMES[3]]])
        impossible = (rows == 8) & (cols > 20)
        latency = 1e3 / (rows * cols * clock) * factor
        energy = (rows * 0.3 + cols + 1 / clock) * factor
        energy[(rows == 16) & (cols == 5)] = np.nan
        area = np.where(impossible, np.nan, rows * cols / 100)
        self.totals = {
            "energy_pj": np.where(impossible, np.nan, energy),
            "latency_s": np.where(impossible, np.nan, latency),
            "area_mm2": area,
        }
        self.infeasible = np.array(
            [f"needs {c:.0f} columns, has 20" if i else "" for i, c in zip(impossible, cols, strict=True)], dtype=object
        )


def study(**changes: Any) -> DesignSearch:
    given: dict[str, Any] = {
        "names": NAMES,
        "choices": CHOICES,
        "ordered": (True, True, True, False),
        "objectives": {"energy_pj": "min", "latency_s": "min"},
        "limits": {"area_mm2": (None, 15.0), "latency_s": (None, 1.0)},
        "population": 20,
        "seed": 3,
        "key": "a",
    }
    return DesignSearch(**{**given, **changes})


SPACE = 5 * 20 * 3 * 3


def same(one: DesignColumns, other: DesignColumns) -> bool:
    arrays = ("indices", "values", "states", "message_codes")
    return (one.messages, one.note) == (other.messages, other.note) and all(
        np.array_equal(getattr(one, a), getattr(other, a), equal_nan=True) for a in arrays
    )


def run_and_write(folder: Path, search: DesignSearch, trials: int) -> DesignColumns:
    columns = run_designs(search, Priced, trials=trials, folder=folder)
    write_trials_csv(folder / "trials.csv", search, columns, front_of(search, columns))
    return columns


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
