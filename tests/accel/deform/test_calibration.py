"""Overheads from one network's measurements: the call list, the set of triples, the rule of the central one."""

import csv
from pathlib import Path

import numpy as np
import pytest

from picojoule.accel.deform import calibration
from picojoule.accel.deform.ablation import Entry, fit
from picojoule.accel.deform.calibration import (
    Overheads,
    best_gops,
    central,
    codenet_calls,
    consistent_set,
    milliseconds,
    operations,
    predict,
)
from picojoule.accel.deform.calls import cycles_of
from picojoule.accel.deform.cycles import Access
from picojoule.accel.deform.spec import DeformSpec
from picojoule.sim.errors import InputError

BOARD = Path(__file__).parents[2] / "reference" / "deform" / "board.csv"
SPEC = DeformSpec()
STEP = 1.0


def board() -> dict[str, float]:
    (row,) = csv.DictReader(BOARD.read_text().splitlines())
    return {k: float(v) for k, v in row.items() if k != "configuration"}


def test_call_list() -> None:
    assert [len(codenet_calls(c)) for c in "abcde"] == [52, 52, 52, 56, 56]
    # Three deformable layers; the first has 1024 channels, two passes, or 2048, four.
    assert [sum(c.access is Access.SQUARE for c in codenet_calls(k)) for k in "ad"] == [4, 6]
    assert codenet_calls("a") == codenet_calls("b") and codenet_calls("d") == codenet_calls("e")
    for config, published_gop, tolerance in (("a", 0.573, 0.01), ("c", 2.292, 0.01), ("d", 6.641, 0.11)):
        # The board's own counting, whose rule is not published, is up to 10 % below plain counting.
        assert operations(codenet_calls(config)).sum() / 1e9 == pytest.approx(published_gop, rel=tolerance)
    assert operations(codenet_calls("c")).sum() == 4 * operations(codenet_calls("a")).sum()
    with pytest.raises(InputError, match=r"^unknown configuration 'f' of CoDeNet \(choose from a, b, c, d, e\)$"):
        codenet_calls("f")


def test_measurements_are_those_of_the_board() -> None:
    assert (board()["conv_ms"], board()["best_call_gops"]) == (calibration.MEASURED_MS, calibration.MEASURED_BEST_GOPS)


def test_every_triple_meets_both_measurements() -> None:
    calls, found = codenet_calls("a"), consistent_set(SPEC, step=STEP)
    assert len(found) > 100
    assert np.abs(milliseconds(calls, SPEC, found) / 19.73 - 1).max() < 0.0051
    assert np.abs(best_gops(calls, SPEC, found) / 78.0 - 1).max() <= 0.02
    call_us = found.call_cycles / SPEC.clock_mhz
    assert call_us.min() >= 10 and call_us.max() <= 100
    assert np.ptp(found.pixel_refill_cycles) >= 30 and np.ptp(found.tile_refill_cycles) >= 15, "much stays open"


def test_central_triple() -> None:
    middle, found = central(SPEC), consistent_set(SPEC, step=STEP)
    calls = codenet_calls("a")
    assert milliseconds(calls, SPEC, middle)[0] == pytest.approx(board()["conv_ms"], rel=1e-4)
    assert best_gops(calls, SPEC, middle)[0] == pytest.approx(board()["best_call_gops"], rel=0.02)
    for config in "abcde":
        p = predict(config, SPEC, found, middle)
        assert p.low <= p.central <= p.high
    assert predict("a", SPEC, found, middle) == predict("b", SPEC, found, middle)
    # a from Table 2; b: 0 to 6 meet the best call, but for a gap; c in tens of microseconds.
    assert (middle.pixel_refill_cycles[0], middle.tile_refill_cycles[0]) == (43.4, pytest.approx(3.0, abs=0.1))
    assert middle.call_cycles[0] / SPEC.clock_mhz == pytest.approx(66.4, rel=0.02)
    wide = predict("d", SPEC, found, middle)
    assert wide.high / wide.low > 1.3, "two measurements of one network leave another one open by a third"


def test_ideal_pipeline_is_far_too_fast() -> None:
    none = Overheads(pixel_refill_cycles=np.zeros(1), tile_refill_cycles=np.zeros(1), call_cycles=np.zeros(1))
    ratio = board()["conv_ms"] / milliseconds(codenet_calls("a"), SPEC, none)[0]
    assert 2 < ratio < 4


def test_same_cycles_as_the_accelerators() -> None:
    middle = central(SPEC)
    spec = SPEC.model_copy(
        update={
            "pixel_refill_cycles": float(middle.pixel_refill_cycles[0]),
            "tile_refill_cycles": float(middle.tile_refill_cycles[0]),
            "call_cycles": float(middle.call_cycles[0]),
        }
    )
    total = cycles_of(codenet_calls("a"), spec).total.sum() / (spec.clock_mhz * 1e3)
    assert total == pytest.approx(milliseconds(codenet_calls("a"), SPEC, middle)[0], rel=1e-9)


def test_preset_holds_the_central_triple() -> None:
    from picojoule.sim.hardware import load_hardware

    spec, middle = load_hardware("ultra96-codenet").spec, central(SPEC)
    for key in ("pixel_refill_cycles", "tile_refill_cycles", "call_cycles"):
        assert getattr(spec, key) == pytest.approx(float(getattr(middle, key)[0]), rel=1e-3), key


def test_table2_refill_is_that_of_the_fit() -> None:
    """The two ordinary depthwise entries, 1.9 and 2.0 ms, set it on their own."""
    both = {Entry("depthwise", "ordinary", False): 1.9, Entry("depthwise", "ordinary", True): 2.0}
    fitted = fit(both, both, ["pixel_refill_cycles"])
    assert fitted.pixel_refill_cycles == pytest.approx(calibration.TABLE2_PIXEL_REFILL, abs=0.05)
