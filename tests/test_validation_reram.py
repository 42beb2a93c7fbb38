"""What `validate` says about crossbars, and whether it says honestly which rows are predictions."""

import json
from pathlib import Path

import numpy as np
import pytest

from picojoule import validation, validation_reram, validation_systolic
from picojoule.sim.hardware import load_hardware

REFERENCE = Path(__file__).parent / "reference" / "cim"


@pytest.fixture(scope="module", name="found")
def rows_by_name():
    return {(r["name"], r["quantity"]): r for r in validation_reram.rows()}


def test_isaac_and_the_survey_are_calibrated_and_close(found):
    isaac = [r for r in found.values() if r["name"] == "isaac"]
    assert len(isaac) == 7 and all(r["calibrated"] and abs(r["error_pct"]) < 1 for r in isaac)
    survey = [r for r in found.values() if r["name"].startswith("ADC")]
    assert len(survey) == 4 and all(r["calibrated"] and abs(r["error_pct"]) < 0.01 for r in survey)


def test_products_equal_crosssims_and_are_predicted(found):
    plain = found["crossbar product, 19 cases without wires", "worst output / largest output"]
    wires = found["crossbar product, 3 cases with wires", "worst output / largest output"]
    assert not plain["calibrated"] and not wires["calibrated"]
    assert 0 <= plain["error_pct"] < 1e-7 and 0 <= wires["error_pct"] < 1e-4


def test_packaged_cases_are_the_reference():
    cases = list(validation_reram._crosssim_cases())
    files = sorted(REFERENCE.glob("*.npz"))
    assert len(cases) == len(files) == 22
    for case, file in zip(cases, files, strict=True):
        with np.load(file) as held:
            assert all(np.array_equal(case[key], held[key]) for key in "WXY"), file.stem
            assert case["config"] == json.loads(str(held["config"]))


def test_neurosim_is_a_prediction_and_its_parts_add_up(found):
    rows = [r for r in found.values() if "vgg8" in r["name"]]
    assert [r["reference"] for r in rows] == [120.4, 68.5, pytest.approx(0.6847, abs=1e-4)]
    assert not any(r["calibrated"] for r in rows)
    for parts in (validation_reram.neurosim_parts(), validation_reram.NEUROSIM_RUN):
        assert sum(dict(parts.areas).values()) == pytest.approx(parts.area_mm2, abs=0.5)
        assert sum(dict(parts.energies).values()) == pytest.approx(parts.energy_uj, abs=0.1)
    report = validation_reram.neurosim_report()
    assert rows[0]["ours"] == pytest.approx(report.totals["area_mm2"])
    assert rows[1]["ours"] == pytest.approx(report.totals["energy_dynamic_pj"] * 1e-6)


def test_the_neurosim_chip_is_built_for_its_network():
    spec = load_hardware("neurosim-22nm").spec
    resources = validation_reram.neurosim_report().totals["resources"]
    assert resources["chips"] == 1 and resources["tiles"] == spec.tiles_per_chip
    assert spec.columns_per_adc == 8 and 2**spec.adc_bits == 128


def test_validate_shows_them(found, monkeypatch):
    monkeypatch.setattr(validation, "_counts", list)  # whole networks; tested elsewhere
    monkeypatch.setattr(validation_systolic, "rows", list)
    assert {(r["name"], r["quantity"]) for r in validation.validate_rows()} >= set(found)
