"""A searched mapping and values kept on chip: layers that keep some are not searched, the better of both ways is taken."""

from functools import cache
from typing import Any

import pytest

import picojoule as pj
from picojoule.sim.ir import Network
from picojoule.variants_systolic import shown_systolic

WORTH = {
    "latency": lambda r: r.totals["latency_s"],
    "energy": lambda r: r.totals["energy_pj"],
    "edp": lambda r: r.totals["latency_s"] * r.totals["energy_pj"],
}


@cache
def lenet5() -> Network:
    return pj.load("lenet5")


@cache
def priced(mapping: str, kib: float, keep: bool, objective: str = "edp", **keys: Any) -> pj.Report:
    changes: dict[str, Any] = {
        "dataflow": "ws",
        "ofmap_sram_kib": kib,
        "keep_on_chip": keep,
        "mapping_objective": objective,
        "dram_gib_per_s": 1.0,
        **keys,
    }
    return pj.evaluate(lenet5(), "edge-16x16", overrides=changes, mapping=mapping)


def search_notes(report: pj.Report) -> list[str]:
    return [note for note in report.coverage.notes if note.startswith("mapping search")]


@pytest.mark.parametrize("objective", list(WORTH))
@pytest.mark.parametrize("dataflow", ["ws", "os"])
@pytest.mark.parametrize("kib", [1.0, 4.0])
def test_both_are_never_worse_than_either(objective: str, dataflow: str, kib: float) -> None:
    kept, both = (priced(m, kib, True, objective, dataflow=dataflow) for m in ("default", "search"))
    searched = priced("search", kib, False, objective, dataflow=dataflow)
    worth = WORTH[objective]
    assert worth(both) <= min(worth(kept), worth(searched)) * (1 + 1e-12)


def test_sums_that_spill_are_worth_more_than_values_that_stay() -> None:
    kept, both, searched = (priced(m, 4.0, k) for m, k in (("default", True), ("search", True), ("search", False)))
    assert both.totals["energy_pj"] == searched.totals["energy_pj"] < kept.totals["energy_pj"]
    assert search_notes(both) == [
        "mapping search: no value is kept on chip: with all through DRAM and every layer searched the edp is lower"
    ]
    assert not any(note.startswith("keep_on_chip") for note in both.coverage.notes)
    assert search_notes(searched) == search_notes(kept) == []


def test_layers_that_keep_values_are_counted() -> None:
    both = priced("search", 1.0, True)
    assert WORTH["edp"](both) < min(
        WORTH["edp"](priced("default", 1.0, True)), WORTH["edp"](priced("search", 1.0, False))
    )
    assert search_notes(both) == ["mapping search: 3 layer(s) keep the default mapping: 3 (values kept on chip)"]
    assert "keep_on_chip: 2 value(s) stay in SRAM, at most 400 bytes at once" in both.coverage.notes


def test_other_layers_that_are_not_searched_are_counted_too() -> None:
    notes = search_notes(priced("search", 64.0, False, compat="scalesim"))
    assert notes == ["mapping search: 5 layer(s) keep the default mapping: 5 (compat: scalesim)"]
    notes = search_notes(priced("search", 64.0, False, precision="bit_serial"))
    assert notes == [
        "mapping search: 5 layer(s) keep the default mapping: 5 (PEs of several MACs a cycle or cycles a MAC)"
    ]


def test_the_demo_shows_searched_kept_and_the_better_apart() -> None:
    figures = {
        "energy_pj_per_sample": 5e6, "searched": 4e6, "kept": 3e6, "both": 2e6, "mac_toggles": 1.0, "mac_average": 2.0,
        "lost": {"useful": 0.5}, "best": {"designs": 3, "no_worse": 0},
    }  # fmt: skip
    row = shown_systolic("net", figures)
    assert [row[name] for name in ("mapping searched", "kept on chip", "better of both")] == ["4", "3", "2"]
    assert "and kept on chip" not in row
