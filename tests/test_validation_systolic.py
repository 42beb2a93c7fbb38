"""What `validate` says about systolic arrays: the measured rows are the reference's, nothing differs that is not documented."""

import csv
import json
import re
from importlib.resources import files
from pathlib import Path

import pytest

from picojoule import validation_systolic, validation_tpu
from picojoule.accel.systolic import timing, traffic
from picojoule.sim.gemm import network_macs

REFERENCE = Path(__file__).parent / "reference"
COLUMNS = {"name", "source", "quantity", "reference", "ours", "error_pct", "calibrated"}
DIFFER = re.compile(r"(\d+) of (\d+) (layers|counts|mappings)")


def read(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def packaged(name):
    return files("picojoule").joinpath(f"validation_data/{name}").read_text()


def test_the_package_holds_every_golden_layer():
    kept = list(csv.DictReader(packaged("scalesim.csv").splitlines()))
    golden = [
        row
        for name in ("conv_nets_calc", "random_calc", "regression_gemm")
        for row in read(REFERENCE / "scalesim" / f"{name}.csv")
    ]
    assert kept == [{key: row[key] for key in kept[0]} for row in golden]
    assert len(kept) == 416 + 420 + 6


def test_the_package_holds_timeloops_cases():
    kept = {case["id"]: case for case in json.loads(packaged("timeloop.json"))}
    golden = json.loads((REFERENCE / "timeloop" / "cases.json").read_text())
    assert len(golden) == len(kept) == 40
    for case in golden:
        mine = kept[case["id"]]
        assert (mine["mapping"], mine["cycles"], mine["keep"]) == (case["mapping"], case["cycles_steps"], case["keep"])
        for level, by_operand in case["counts"].items():
            for operand, counts in by_operand.items():
                found = mine["counts"][level][operand]["overlap"]
                assert found == [counts["overlap"][key] for key in ("reads", "fills", "updates")]


def test_scalesim_rows_have_no_difference():
    rows = list(validation_systolic.scalesim())
    assert len(rows) == 15 and all(row.keys() == COLUMNS for row in rows)
    found = [tuple(map(int, DIFFER.search(row["name"]).groups()[:2])) for row in rows]
    assert all(differ == 0 for differ, _ in found)
    assert sum(layers for _, layers in found) == 3 * 842
    assert all(abs(row["error_pct"]) < 1e-6 and not row["calibrated"] for row in rows)


def test_a_wrong_layer_is_counted_even_where_the_sum_stays(monkeypatch):
    real = timing.scalesim_cycles

    def swapped(*shape):
        found = real(*shape).copy()
        found[0] += 1
        found[1] -= 1
        return found

    monkeypatch.setattr(timing, "scalesim_cycles", swapped)
    row = next(row for row in validation_systolic.scalesim() if row["quantity"] == "cycles")
    assert row["error_pct"] == 0 and "2 of 142 layers differ" in row["name"]


def test_the_regression_product_with_its_stalls():
    for row in read(REFERENCE / "scalesim" / "regression_gemm.csv"):
        sizes = [int(row[key]) for key in ("rows", "cols", "M", "N", "K")]
        shape = (int(timing.Dataflow.of(row["dataflow"])), *sizes)
        assert timing.scalesim_cycles(*shape) - 1 == int(row["compute_cycles"])
        words = traffic.scalesim_sram_counts(*shape)
        measured = [int(row[f"sram_{key}"]) for key in ("ifmap_reads", "filter_reads", "ofmap_writes")]
        assert [words.ifmap_reads, words.filter_reads, words.ofmap_writes] == measured
        use = timing.scalesim_utilizations(*shape, stall_cycles=int(row["stall_cycles"]))
        assert float(use.overall_pct) == pytest.approx(float(row["overall_util_pct"]), abs=6e-7)


def test_timeloop_rows_differ_only_by_the_same_move_rule():
    rows = list(validation_systolic.timeloop())
    theirs = [row for row in rows if row["source"] == validation_systolic.TIMELOOP]
    own = [row for row in rows if row["source"] == validation_systolic.STEP_COUNTER]
    assert (len(theirs), len(own), len(rows)) == (9, 4, 13)
    differing = {row["name"].split(":")[0]: row for row in rows if DIFFER.search(row["name"])[1] != "0"}
    assert differing.keys() == {"DRAM Inputs", "SRAM Inputs"}
    assert all(row["source"] == validation_systolic.TIMELOOP for row in differing.values())
    assert all(row["error_pct"] == 0 for row in rows if row not in differing.values())


def test_rows_of_timeloop_hold_the_tools_own_figures_only():
    valid = [row for row in read(REFERENCE / "timeloop" / "access_counts.csv") if row["tool_valid"] == "1"]
    rows = list(validation_systolic.timeloop())
    counts = dict.fromkeys((validation_systolic.TIMELOOP, validation_systolic.STEP_COUNTER), 0)
    for row in rows[:-1]:
        counts[row["source"]] += int(DIFFER.search(row["name"])[2])
    assert list(counts.values()) == [3 * 343, 3 * 358] and len(valid) == 343
    total = sum(row["reference"] for row in rows if row["source"] == validation_systolic.TIMELOOP)
    assert total == sum(int(row[key]) for row in valid for key in ("reads", "fills", "updates"))


def test_the_overall_utilization_is_not_computed_from_the_tools_own_stalls(monkeypatch):
    asked = []
    real = timing.scalesim_utilizations
    monkeypatch.setattr(timing, "scalesim_utilizations", lambda *a, **k: asked.append(k) or real(*a, **k))
    stalled = [row for row in validation_systolic.scalesim() if row["name"].startswith("product")]
    assert asked == [{}] * 5
    assert [row["quantity"] for row in stalled] == ["cycles without stalls", "SRAM words", "utilizations, mean %"]
    golden = read(REFERENCE / "scalesim" / "regression_gemm.csv")
    means = [float(row[key]) for row in golden for key in ("mapping_eff_pct", "compute_util_pct")]
    assert stalled[-1]["reference"] == pytest.approx(sum(means) / len(means))


def test_twin_and_verilog_agree_to_the_unit():
    rows = [*validation_systolic.twin(), *validation_systolic.rtl()]
    assert len(rows) == 16 and all(row["reference"] == row["ours"] > 0 for row in rows)
    assert all(" 0 of " in row["name"] for row in rows[10:])
    assert not any(row["calibrated"] for row in rows)


def test_cacti_rows_are_calibrated():
    rows = list(validation_systolic.cacti())
    assert len(rows) == 5 and all(row["calibrated"] and abs(row["error_pct"]) < 2 for row in rows)


PUBLISHED = {
    "MLP0": (20e6, 200),
    "MLP1": (5e6, 168),
    "LSTM0": (52e6, 64),
    "LSTM1": (34e6, 96),
    "CNN0": (8e6, 2888),
    "CNN1": (100e6, 1750),
}
"""Weights and operations (MACs of a batch) a byte of weights, of the paper."""


@pytest.mark.parametrize("application", validation_tpu.APPLICATIONS, ids=lambda a: a.name)
def test_stand_ins_hold_the_published_weights_and_reuse(application):
    networks = validation_tpu.networks_of(application)
    weights, reuse = PUBLISHED[application.name]
    found = sum(network.parameters for network in networks)
    assert found == pytest.approx(weights, rel=0.05)
    macs = application.batch * sum(map(network_macs, networks))
    assert macs / found == pytest.approx(reuse, rel=0.01)


def test_weight_bound_stand_ins_land_where_they_should():
    found = {application.name: validation_tpu.tops(application) for application in validation_tpu.APPLICATIONS}
    bounds = {"MLP0": (12.3, 13.6), "MLP1": (9.7, 11.4), "LSTM0": (3.7, 4.4), "LSTM1": (0.0, 4.2)}
    for application in validation_tpu.APPLICATIONS:
        low, high = bounds.get(application.name, (0.0, 92.0))
        assert low <= found[application.name] <= high
        assert application.verdict(found[application.name]) == (
            "inside" if application.name in bounds else "shown only"
        )
        if application.name in bounds:
            assert application.verdict(high + 0.01) == "outside"
    rows = [row for row in validation_tpu.rows() if "rule" in row["quantity"]]
    assert [row["ours"] <= row["reference"] for row in rows] == [True] * 4


def test_the_preset_landed_outside_before_it_kept_activations_and_read_whole_tiles():
    """The first result is kept: each application fails its rule with the keys of then."""
    for application in validation_tpu.APPLICATIONS[:4]:
        assert application.verdict(validation_tpu.tops(application, validation_tpu.FIRST_RUN)) == "outside"


def test_rooflines_are_those_of_34_gigabytes_a_second():
    for application in validation_tpu.APPLICATIONS:
        reuse = {"LSTM1": 96, "LSTM0": 64}.get(application.name, PUBLISHED[application.name][1])
        assert application.roofline_tops == pytest.approx(min(92.0, 2 * reuse * 34e9 / 1e12), abs=0.06)
