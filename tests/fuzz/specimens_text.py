"""Hostile text that people or picojoule write: hardware files, plans, run folders, tables of points."""

import json
import random
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from .mutate_bytes import damaged
from .mutate_text import as_json, encoded, write_tree
from .pricing import HARDWARE, STEM, array, price, small_network
from .specimens_networks import field


@cache
def _specs() -> tuple[dict[str, Any], ...]:
    from picojoule.sim.hardware import load_spec, presets

    full = [load_spec(name).model_dump(mode="json") for name in ("edge-16x16", "isaac")]
    assert {"edge-16x16", "isaac"} <= set(presets())
    return ({"kind": "systolic", **HARDWARE}, {"extends": "isaac", "adc_bits": 6, "name": "mine"}, *full)


def write_hardware(rng: random.Random, folder: Path) -> str:
    return write_tree(rng, folder / f"{STEM}.yaml", rng.choice(_specs()), yaml=True)


def load_hardware(path: Path) -> Any:
    from picojoule.sim.hardware import load_hardware

    return load_hardware(path)


def sound_hardware(number: int, folder: Path) -> bool:
    if number < len(_specs()):
        (folder / f"{STEM}.yaml").write_text(as_json(_specs()[number]))
    return number < len(_specs())


_PLANS: tuple[dict[str, Any], ...] = (
    {
        "schema": 1,
        "layers": {
            "conv1": {"keep_channels": 6, "weight": {"format": "int4", "per": "channel", "step": 0.5}},
            "conv*": {"activation": {"format": "uint8", "step": 0.1}, "sparsity": {"structure": "2:4"}},
            "fc": {"weight": {"format": "int8"}, "sparsity": {"structure": "unstructured", "density": 0.25}},
        },
    },
    {"schema": 1, "layers": {"*": {"weight": {"format": "bfp8_b16"}, "activation": {"format": "fp8_e4m3"}}}},
    {"schema": 1, "layers": {"conv2": {"keep_channels": [0, 1, 3], "weight": {"format": "ternary"}}}},
)


def write_plan(rng: random.Random, folder: Path) -> str:
    return write_tree(rng, folder / f"{STEM}.yaml", rng.choice(_PLANS), yaml=True)


def load_plan(path: Path) -> Any:
    from picojoule.compress.plan import read_plan

    return read_plan(path)


def use_plan(plan: Any) -> None:
    from picojoule.compress.plan import apply_plan

    price(apply_plan(small_network(), plan))


def sound_plan(number: int, folder: Path) -> bool:
    if number < 2:
        (folder / f"{STEM}.yaml").write_text(as_json(_PLANS[1]))
    return number < 2


# --- results of earlier runs ------------------------------------------------------------------------------------------


@cache
def _run_files() -> Mapping[str, str]:
    """Return the text of report.json and components.csv of a run, an accuracy entered."""
    import picojoule as pj

    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "run"
        pj.evaluate(small_network(), array()).save(home)
        document = json.loads((home / "report.json").read_text())
        document["accuracy"] = {
            "metric": "top-1",
            "float": 0.9,
            "hardware": 0.8,
            "interval": [0.7, 0.9],
            "samples": 100,
            "split": "test",
        }
        return {"report.json": json.dumps(document), "components.csv": (home / "components.csv").read_text()}


def sound_run(number: int, folder: Path) -> bool:
    for name in (STEM, "other"):
        (folder / name).mkdir()
        for file, text in _run_files().items():
            (folder / name / file).write_text(text)
    return number < 1


def write_run(rng: random.Random, folder: Path) -> str:
    sound_run(0, folder)
    if rng.random() < 0.6:
        tree = json.loads(_run_files()["report.json"])
        return "report: " + write_tree(rng, folder / STEM / "report.json", tree, yaml=False)
    table = _run_files()["components.csv"]
    if rng.random() < 0.4:
        (folder / STEM / "components.csv").write_bytes(damaged(rng, table.encode()))
        return "table: bytes"
    rows = [row.split(",") for row in table.splitlines()[:30]]
    for _ in range(rng.choice((1, 2, 4))):
        row = rng.choice(rows)
        row[rng.randrange(len(row))] = field(rng)
    (folder / STEM / "components.csv").write_bytes(encoded(rng, "\n".join(map(",".join, rows))))
    return "table: fields"


def load_run(path: Path) -> Any:
    from picojoule.comparison import compare_runs
    from picojoule.pareto import collect_points, front_rows
    from picojoule.sim.errors import PicojouleError

    errors = []
    for read in (
        lambda: compare_runs([path, path.parent / "other"]),
        lambda: front_rows(
            collect_points([path, path.parent / "other"], "energy_pj_per_sample"), "energy_pj_per_sample"
        ),
    ):
        try:
            json.dumps(read(), allow_nan=False)
        except PicojouleError as error:
            errors.append(error)
    if errors:
        raise errors[0]


_POINTS = "run,target,accuracy,energy_pj_per_sample\na,edge,0.9,100\nb,edge,0.8,50\nc,isaac,0.7,20\n"


def write_points(rng: random.Random, folder: Path) -> str:
    path = folder / f"{STEM}.csv"
    if rng.random() < 0.3:
        path.write_bytes(damaged(rng, _POINTS.encode()))
        return "bytes"
    if rng.random() < 0.1:
        path.write_text(
            rng.choice((_POINTS + "d,edge,0.5,5\n" * 20_000, '"' * 200_000, "a," * 200_000, "\n" * 200_000))
        )
        return "bulk"
    rows = [row.split(",") for row in _POINTS.splitlines()]
    for _ in range(rng.choice((1, 1, 3))):
        row = rng.choice(rows)
        row[rng.randrange(len(row))] = field(rng)
    path.write_bytes(encoded(rng, rng.choice(("\n", "\r\n")).join(map(",".join, rows))))
    return "fields"


def load_points(path: Path) -> Any:
    from picojoule.pareto import collect_points, front_rows

    json.dumps(front_rows(collect_points([path], "energy_pj_per_sample"), "energy_pj_per_sample"), allow_nan=False)


def sound_points(number: int, folder: Path) -> bool:
    (folder / f"{STEM}.csv").write_text(_POINTS)
    return number < 1
