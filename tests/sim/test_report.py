import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from picojoule.sim.cost import Area, AreaItem, Energy, LayerCost, energy_by
from picojoule.sim.gemm import Gemm
from picojoule.sim.report import SCHEMA, Accuracy, Coverage, Report, rows_to_csv, wilson_interval

MAC = Energy(component="mac", constant="mac.int8.45nm", events=1000.0, pj_per_event=0.2)
DRAM = Energy(component="dram", constant="dram.lpddr4", events=64.0, pj_per_event=4.0)
LEAK = Energy(component="leakage", constant="sram.leakage", events=1e-6, pj_per_event=5e7)


def layer(name: str, **changes: Any) -> LayerCost:
    values: dict[str, Any] = {
        "name": name,
        "op": "conv",
        "unit": "array",
        "gemm": Gemm(m=4, n=5, k=6, groups=2),
        "macs": 240,
        "compute_cycles": 30,
        "stall_cycles": 12,
        "latency_s": 42e-9,
        "utilization": 0.25,
        "utilization_lost": {"padding": 0.5, "bandwidth": 0.25},
        "energy": (MAC, DRAM),
        "reads": {"sram.ifmap": 24, "dram.filter": 30},
        "writes": {"sram.ofmap": 20},
    }
    return LayerCost(**{**values, **changes})


@pytest.fixture
def report() -> Report:
    pool = layer(
        "pool", op="pool", unit="vector", gemm=None, macs=0, energy=(DRAM,), utilization=None, utilization_lost={}
    )
    return Report(
        network={"name": "net", "layers": 2, "macs": 240, "params": 60, "batch": 2},
        hardware={"name": "hw", "kind": "systolic", "model_version": "1", "assumed_precision": None},
        totals={"energy_pj": 200.0 + 256.0 * 2 + 50.0, "energy_static_pj": 50.0, "area_mm2": 3.0},
        layers=(layer("conv"), pool),
        static_energy=(LEAK,),
        area=Area(
            items=(AreaItem(component="sram", constant="a", mm2=2.0), AreaItem(component="mac", constant="b", mm2=1.0))
        ),
        coverage=Coverage(macs_priced=1.0, bytes_priced=1.0),
        provenance={"seed": 0},
        config={"kind": "systolic", "rows": 4},
    )


def test_component_rows_sum_to_totals(report: Report) -> None:
    rows = report.component_rows()
    assert all(
        list(r) == ["layer", "component", "metric", "value", "unit", "source", "basis", "complete"] for r in rows
    )
    energy = [r for r in rows if r["metric"] == "energy"]
    assert sum(r["value"] for r in energy) == report.totals["energy_pj"]
    assert sum(r["value"] for r in energy if not r["layer"]) == report.totals["energy_static_pj"]
    assert all(r["unit"] == "pJ" and r["source"] and r["basis"] for r in energy)
    assert sum(r["value"] for r in rows if r["metric"] == "area") == report.totals["area_mm2"] == report.area.mm2
    reads = {(r["layer"], r["component"]): r["value"] for r in rows if r["metric"] == "reads"}
    assert reads[("conv", "dram.filter")] == 30 and len(reads) == 4
    by_component = {}
    for r in energy:
        by_component[r["component"]] = by_component.get(r["component"], 0.0) + r["value"]
    assert by_component == report.energy_by_component() == {"mac": 200.0, "dram": 512.0, "leakage": 50.0}
    assert report.energy_by_constant() == {"mac.int8.45nm": 200.0, "dram.lpddr4": 512.0, "sram.leakage": 50.0}


def test_layer_rows_are_flat(report: Report) -> None:
    conv, pool = report.layer_rows()
    assert not any(isinstance(v, dict | list) for row in (conv, pool) for v in row.values())
    assert conv["energy_pj"] == conv["energy_pj.mac"] + conv["energy_pj.dram"] == 456.0
    assert (conv["m"], conv["n"], conv["k"], conv["groups"], conv["latency_cycles"]) == (4, 5, 6, 2, 42)
    assert pool["m"] is pool["groups"] is pool["utilization"] is None


def test_csv_holds_the_layer_rows(report: Report) -> None:
    rows = list(csv.DictReader(io.StringIO(report.to_csv())))
    assert [r["name"] for r in rows] == ["conv", "pool"]
    assert (rows[1]["m"], rows[1]["energy_pj.mac"]) == ("", "")
    assert float(rows[0]["utilization_lost.padding"]) == 0.5


def test_dataframe_holds_the_layer_rows(report: Report) -> None:
    frame = report.to_dataframe()
    assert frame.shape[0] == 2 and list(frame["name"]) == ["conv", "pool"]
    assert frame["energy_pj"].sum() + 50.0 == report.totals["energy_pj"]


def test_json_has_no_nan(report: Report) -> None:
    made = json.loads(report.to_json())
    assert made["schema"] == SCHEMA == 1 and made["complete"] is True and made["accuracy"] is None
    broken = Report(
        **{f: getattr(report, f) for f in Report.__dataclass_fields__} | {"totals": {"energy_pj": math.nan}}
    )
    with pytest.raises(ValueError, match="not JSON compliant"):
        broken.to_json()


def test_accuracy_and_incompleteness_show(report: Report) -> None:
    measured = Accuracy(metric="top1", floating=0.9, hardware=0.8, interval=(0.7, 0.85), samples=100, split="test")
    made = report.with_accuracy(measured)
    assert report.accuracy is None and made.to_dict()["accuracy"] == {
        "metric": "top1", "float": 0.9, "hardware": 0.8, "interval": [0.7, 0.85], "samples": 100, "split": "test",
        "seeds": 1, "per_seed": [0.8],
    }  # fmt: skip
    missing = Coverage(macs_priced=0.5, bytes_priced=0.5, unsupported=({"op": "Frob", "layer": "f"},))
    partial = Report(**{f: getattr(report, f) for f in Report.__dataclass_fields__} | {"coverage": missing})
    assert not partial.complete and partial.to_dict()["complete"] is False


def test_saved_folder(report: Report, tmp_path: Path) -> None:
    folder = report.save(tmp_path / "a" / "run")
    names = [
        "components.csv",
        "config.resolved.yaml",
        "energy.png",
        "latency.png",
        "layers.csv",
        "provenance.json",
        "report.json",
    ]
    assert sorted(p.name for p in folder.iterdir()) == names
    assert json.loads((folder / "report.json").read_text()) == report.to_dict()
    assert (folder / "config.resolved.yaml").read_text() == "kind: systolic\nrows: 4\n"
    assert (folder / "layers.csv").read_text() == report.to_csv()


def test_figures(report: Report) -> None:
    axes = report.plot_energy()
    _, labels = axes.get_legend_handles_labels()
    assert labels == ["dram (0.000512)", "mac (0.0002)"]
    assert sum(p.get_width() for p in axes.patches) == pytest.approx(712e-6)
    latency = report.plot_latency()
    assert latency.get_legend_handles_labels()[1] == ["compute", "stall"]
    assert sum(p.get_width() for p in latency.patches) == pytest.approx(2 * 0.042)


# --- tables -----------------------------------------------------------------------------------------------------------


def test_cells_a_spreadsheet_would_run_are_text() -> None:
    texts = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "plain", "a=b", ""]
    made = list(csv.DictReader(io.StringIO(rows_to_csv([{"name": t, "value": -1.5} for t in texts]), newline="")))
    assert [r["name"] for r in made] == ["'=1+1", "'+1", "'-1", "'@SUM(A1)", "'\tx", "plain", "a=b", ""]
    assert {r["value"] for r in made} == {"-1.5"}, "numbers stay numbers"


def test_columns_are_the_union_of_keys() -> None:
    assert rows_to_csv([{"a": 1, "b": None}, {"c": 'x,"y"\n', "a": 2}]) == 'a,b,c\n1,,\n2,,"x,""y""\n"\n'
    assert rows_to_csv([]) == "\n"


@given(bill=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.floats(0, 1e6)), max_size=20))
def test_a_bill_sums_the_same_either_way(bill: list[tuple[str, str, float]]) -> None:
    lines = [Energy(component=c, constant=k, events=e, pj_per_event=0.5) for c, k, e in bill]
    total = sum(line.pj for line in lines)
    for key in ("component", "constant"):
        assert sum(energy_by(lines, key).values()) == pytest.approx(total)


# --- intervals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("successes", "samples", "low", "high"),
    [
        (0, 10, 0.0, 0.2775328),  # closed form at the ends: z^2 / (n + z^2)
        (10, 10, 0.7224672, 1.0),
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, Statistics in Medicine 17:857, table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval(successes: int, samples: int, low: float, high: float) -> None:
    assert wilson_interval(successes, samples) == pytest.approx((low, high), abs=6e-5)


@given(samples=st.integers(1, 10_000), data=st.data())
def test_wilson_interval_holds_the_share_and_is_symmetric(samples: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, samples))
    low, high = wilson_interval(successes, samples)
    assert 0.0 <= low < high <= 1.0
    assert low - 1e-12 <= successes / samples <= high + 1e-12
    other = wilson_interval(samples - successes, samples)
    assert (1 - other[1], 1 - other[0]) == pytest.approx((low, high), abs=1e-12)
