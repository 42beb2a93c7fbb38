"""Figures kept of a run of the Verilog array, against twin, closed form and fast counter; needs no simulator."""

import json
from pathlib import Path

import pytest

from picojoule.accel.rtl import cases, icarus
from picojoule.accel.systolic import cycle_twin, timing, toggles
from picojoule.sim.errors import UnsupportedError

KEPT = json.loads((Path(__file__).parents[2] / "picojoule" / "validation_data" / "rtl.json").read_text())
NAMES = [case.name for case in cases.CASES]


def counts(run):
    return {name: getattr(run, name) for name in cases.COUNTS}


@pytest.mark.parametrize("row", KEPT["cases"], ids=[row["name"] for row in KEPT["cases"]])
def test_kept_figures_equal_twin_and_closed_form(row):
    case = cases.RtlCase(**{name: row[name] for name in cases.RtlCase._fields})
    a, b = cases.operands(case)
    twin = cycle_twin.run(a, b, case.dataflow, case.rows, case.cols, bits=KEPT["bits"], code=case.code)
    assert counts(twin) == {name: row[name] for name in cases.COUNTS}
    dataflow = timing.Dataflow.of(case.dataflow)
    assert int(timing.fold_cycles(dataflow, case.rows, case.cols, case.m, case.n, case.k)) == row["cycles"]


@pytest.mark.parametrize("row", KEPT["cases"], ids=[row["name"] for row in KEPT["cases"]])
def test_kept_flips_equal_the_fast_counter(row):
    a, b = cases.operands(cases.RtlCase(**{name: row[name] for name in cases.RtlCase._fields}))
    flips = toggles.port_flips(b.T[None], a.T[None], row["dataflow"], row["rows"], row["cols"], code=row["code"])
    found = (flips.weight, flips.activation, flips.load, flips.weight_port, flips.activation_port)
    assert found == tuple(row[name] for name in cases.COUNTS[1:-1])


def test_kept_figures_are_those_of_the_cases():
    assert [row["name"] for row in KEPT["cases"]] == NAMES
    assert len(set(NAMES)) == len(NAMES) >= 12
    assert KEPT["tool"].startswith("Icarus Verilog version ")


def test_without_the_simulator(monkeypatch, tmp_path):
    monkeypatch.setattr(icarus.shutil, "which", lambda name: None)
    with pytest.raises(UnsupportedError) as caught:
        icarus.build(tmp_path / "x.vvp", "os", 2, 2)
    assert str(caught.value) == "Icarus Verilog is not installed: apt-get install iverilog"
