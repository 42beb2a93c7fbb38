"""The Verilog array in its simulator, against A times B, the cycle twin and the figures kept of an earlier run."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from picojoule.accel.rtl import cases, icarus
from picojoule.accel.systolic import cycle_twin

if icarus.version() is None:  # the whole file: one line
    pytest.skip(
        "the Verilog array is not simulated: Icarus Verilog is not installed: apt-get install iverilog",
        allow_module_level=True,
    )

ROOT = Path(__file__).parents[2]
KEPT = json.loads((ROOT / "picojoule" / "validation_data" / "rtl.json").read_text())
NAMES = [case.name for case in cases.CASES]


def counts(run):
    return {name: getattr(run, name) for name in cases.COUNTS}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A function that compiles the array for a case, once for all cases that differ in the layer only."""
    folder, programs = tmp_path_factory.mktemp("rtl"), {}

    def program(case):
        key = f"{'os' if case.dataflow == 'os' else 'stationary'}-{case.rows}x{case.cols}-{case.code}"
        if key not in programs:
            file = folder / f"{key}.vvp"
            programs[key] = icarus.build(file, case.dataflow, case.rows, case.cols, code=case.code)
        return programs[key]

    return program


@pytest.mark.parametrize("case", cases.CASES, ids=NAMES)
def test_verilog_equals_product_twin_and_kept_figures(case, built):
    a, b = cases.operands(case)
    run = icarus.simulate(built(case), a, b, case.dataflow, code=case.code)
    assert np.array_equal(run.outputs, a @ b)
    assert counts(run) == counts(cycle_twin.run(a, b, case.dataflow, case.rows, case.cols, code=case.code))
    (kept,) = [row for row in KEPT["cases"] if row["name"] == case.name]
    assert counts(run) == {name: kept[name] for name in cases.COUNTS}


def test_random_layers_equal_the_twin(built):
    """Also words that `cases` leaves out: -128, in two's complement."""
    rng = np.random.default_rng(5)
    for trial in range(9):
        dataflow = ("os", "ws", "is")[trial % 3]
        case = cases.RtlCase(dataflow, 4, 4, *(int(x) for x in rng.integers(1, 14, 3)))
        a, b = rng.integers(-128, 128, (case.m, case.k)), rng.integers(-128, 128, (case.k, case.n))
        run, twin = icarus.simulate(built(case), a, b, dataflow), cycle_twin.run(a, b, dataflow, 4, 4)
        assert np.array_equal(run.outputs, a @ b), case
        assert counts(run) == counts(twin), case


def test_the_folder_explains_itself(tmp_path):
    """What README.md says to type works, and prints what it says."""
    folder = ROOT / "accel" / "rtl"
    for source in folder.glob("*.v"):
        shutil.copy(source, tmp_path)
    (commands,) = re.findall(r"```sh\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    done = subprocess.run(["bash", "-eu", "-c", commands], cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert sorted(line.rsplit(" ", 1)[0] for line in lines[:4]) == [
        "out 0 0 19",
        "out 0 1 43",
        "out 1 0 22",
        "out 1 1 50",
    ]
    assert lines[4:] == [
        "cycles 6",
        "products 8",
        "left_flips 16",
        "top_flips 16",
        "left_port_flips 8",
        "top_port_flips 8",
    ]
    assert done.stderr == ""
