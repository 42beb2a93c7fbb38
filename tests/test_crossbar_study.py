"""The study of crossbars: rounds of images, intervals, tables, and the script as a whole (small)."""

import importlib.util
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from picojoule import crossbar_points, crossbar_pricing, crossbar_tables
from picojoule.crossbar_designs import LOSSLESS, Design, adc_designs, all_designs, device_designs, needed_designs
from picojoule.crossbar_figures import plot_adc, plot_devices, plot_parts
from picojoule.crossbar_report import FIXED_BITS, adc_markdown
from picojoule.crossbar_study import StudySettings, open_folder
from picojoule.networks import load_network
from picojoule.sim.errors import InputError

SETTINGS = StudySettings(network="lenet5", images=600, chips=3, chip_images=80)
NOISY = Design(name="noisy", section="devices", words="noisy", changes={"device.stuck_off": 0.01}, chips=True)
PLAIN = Design(name="plain", section="adc", words="plain")


def right(*counts, of=100):
    return tuple(np.arange(of) < count for count in counts)


# --- designs ----------------------------------------------------------------------------------------------------------------


def test_every_design_can_be_built_and_has_a_name_of_its_own():
    designs = [*adc_designs(), *needed_designs(), *device_designs()]
    assert len({d.name for d in designs}) == len(designs)
    for design in designs:
        spec = design.accelerator().spec
        assert (spec.weight_bits, spec.activation_bits) == (8, 8)
        assert (spec.device is not None) == design.chips
    assert all_designs()[0].name == LOSSLESS


# --- rounds -----------------------------------------------------------------------------------------------------------------


def test_all_designs_see_an_image_before_any_sees_the_next():
    found = crossbar_points.tasks([PLAIN, NOISY], SETTINGS, 10_000)
    assert [c for _, _, c in found] == sorted(c for _, _, c in found)
    of = {
        name: [(p, *crossbar_points.images_of(d, c, SETTINGS)) for d, p, c in found if d.name == name]
        for name in ("float", "plain", "noisy")
    }
    assert of["plain"] == of["float"] == [(0, 0, 250), (0, 250, 250), (0, 500, 100)]
    assert of["noisy"] == [(0, 0, 50), (1, 0, 50), (2, 0, 50), (0, 50, 30), (1, 50, 30), (2, 50, 30)]
    assert len(crossbar_points.tasks([PLAIN], SETTINGS, 260)) == 4  # float and plain, two chunks


def test_points_are_joined_without_gaps_and_checked(tmp_path):
    digest = open_folder(tmp_path, SETTINGS)
    (tmp_path / "points").mkdir()

    def write(chunk, text, **other):
        point = {"settings": digest, "changes": {}, "right": text} | other
        (tmp_path / "points" / f"plain-0-{chunk}.json").write_text(json.dumps(point))

    write(0, "1100")
    write(2, "1111")
    (found,) = crossbar_points.answers_of(tmp_path, SETTINGS, [PLAIN])["plain"]
    assert found.tolist() == [True, True, False, False]  # what follows a gap waits
    write(1, "01", changes={"adc_bits": 4})
    with pytest.raises(
        InputError, match=r"plain-0-1.json: was made with other settings or of another design; delete it"
    ):
        crossbar_points.answers_of(tmp_path, SETTINGS, [PLAIN])
    with pytest.raises(
        InputError, match=r"holds results of other settings \(chips 3 there, 4 here\); take another folder"
    ):
        open_folder(tmp_path, SETTINGS.model_copy(update={"chips": 4}))


# --- intervals ----------------------------------------------------------------------------------------------------------------


def test_differences_are_paired_by_image():
    base, one_worse = right(90)[0], right(89)[0]
    row = crossbar_tables.accuracy_row({"x": (one_worse,), LOSSLESS: (base,)}, "x")
    assert row["accuracy"] == 0.89 and row["difference"] == pytest.approx(-0.01)
    assert row["difference_half"] == pytest.approx(1.959964 * 0.1 / 10)  # one image of a hundred differs
    assert row["low"] < 0.82 and row["high"] > 0.93  # the accuracy itself is known far less well
    same = crossbar_tables.accuracy_row({"x": (base,), LOSSLESS: (base,)}, "x")
    assert same["difference"] == same["difference_half"] == 0


def test_chips_that_differ_widen_the_interval():
    base = right(90)
    alike = crossbar_tables.paired(right(80, 80, 80), base[0])
    apart = crossbar_tables.paired(right(70, 80, 90), base[0])
    assert alike["difference"] == pytest.approx(apart["difference"]) == pytest.approx(-0.1)
    t, spread = 4.302652729911275, 0.1  # Student, 2 degrees of freedom; 0.7, 0.8, 0.9
    images = 1.959964 * np.std([1 / 3] * 10 + [2 / 3] * 10 + [0] * 80, ddof=1) / 10
    assert apart["difference_half"] == pytest.approx(math.hypot(images, t * spread / math.sqrt(3)), rel=1e-6)
    assert apart["difference_half"] > 3 * alike["difference_half"]


def test_what_was_not_measured_is_empty():
    assert set(crossbar_tables.accuracy_row({}, "x").values()) == {None}
    assert crossbar_tables.percent(crossbar_tables.accuracy_row({}, "x")) == ""


# --- prices -------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network():
    return load_network("lenet5")


def test_parts_add_up_and_no_component_is_forgotten(network):
    for more in ({}, {"power_policy": "whole_chip"}):
        found = crossbar_pricing.price(network, PLAIN, **more)
        parts = crossbar_pricing.gathered(found["energy"])
        assert "other" not in parts
        assert sum(parts.values()) == pytest.approx(found["energy_pj"])
        areas = crossbar_pricing.gathered(found["area"])
        assert "other" not in areas
        assert sum(areas.values()) == pytest.approx(found["area_mm2"])
    assert crossbar_pricing.gathered({"adc": 1.0, "novel": 2.0})["other"] == 2.0


def test_savings_are_stated_under_every_law_or_refused(network):
    fixed = {e: next(d for d in adc_designs() if d.name == f"{e}-exact-{b}") for e, b in FIXED_BITS.items()}
    chosen = [d for d in needed_designs() if d.name in ("split-needed-100-run_time", "offset-needed-100-design_time")]
    prices = {d.name: crossbar_pricing.price_by_model(network, d) for d in [*chosen, *fixed.values()]}
    offset, split = crossbar_tables.needed_rows(chosen, fixed, {}, prices)
    assert offset["fixed"] == "offset-exact-9" and split["fixed"] == "split-exact-9"
    assert split["survey_adc_pj_saved"] > 1  # it stops no earlier: narrower converters and empty columns
    assert 1 < split["isaac_sar_adc_pj_saved"] < split["bitslice_paper_adc_pj_saved"]
    assert split["isaac_sar_energy_pj_saved"] < split["isaac_sar_adc_pj_saved"]  # the rest of the chip saves less
    assert (
        crossbar_tables.times(None) == "-"
        and crossbar_tables.times(3.21) == "3.2x"
        and crossbar_tables.times(37.9) == "38x"
    )


def test_needed_bits_of_signed_slices_are_fewer_in_the_top_slice(network):
    designs = [d for d in needed_designs() if d.changes["adc_percentile"] == 100 and d.changes["adc"] == "run_time"]
    rows = {(r["encoding"], r["slice"]): r for r in crossbar_pricing.needs_rows(network, designs)}
    assert rows["split", 3]["most_bits"] < rows["split", 0]["most_bits"] <= rows["offset", 0]["most_bits"]
    assert rows["differential", 3]["most_bits"] == rows["split", 3]["most_bits"] + 1  # the sign


# --- figures ------------------------------------------------------------------------------------------------------------------


def test_figures_draw_what_there_is(network):
    shown = [d for d in adc_designs() if d.changes["encoding"] in ("flip", "split") and d.changes["adc_bits"] in (5, 8)]
    answers = {d.name: right(90) for d in shown} | {"float": right(92)}
    prices = {d.name: crossbar_pricing.price_by_model(network, d) for d in shown}
    rows = crossbar_tables.adc_rows(shown, answers, prices, {LOSSLESS: True})
    single = crossbar_tables.accuracy_row(answers, "float")
    panels = plot_adc(rows, single, "t").figure.axes
    assert len(panels) == 4 and len(panels[3].get_lines()) > 4
    assert "**90.0**" in adc_markdown(rows) and adc_markdown(rows).count("**") == 2
    parts = crossbar_tables.part_rows({"a": prices[LOSSLESS]["isaac_sar"]}, {"a": "A"})
    left, area = plot_parts(parts, "t").figure.axes
    assert [t.get_text() for t in left.get_yticklabels()] == ["A"] and area.get_xlabel() == "area, mm²"
    devices = crossbar_tables.device_rows([NOISY, replace(NOISY, name="missing")], {"noisy": right(70, 80)})
    assert [t.get_text() for t in plot_devices(devices, single, "t").get_yticklabels()] == ["noisy"]


# --- the script -----------------------------------------------------------------------------------------------------------------


@pytest.mark.full
def test_script_trains_measures_and_writes(tmp_path, monkeypatch, capsys):
    path = Path(__file__).parent.parent / "scripts" / "reproduce_crossbar.py"
    spec = importlib.util.spec_from_file_location("reproduce_crossbar", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr("sys.argv", ["reproduce_crossbar", "--quick", "--jobs", "1", "--out", str(tmp_path / "out")])
    assert script.main() == 0
    told = capsys.readouterr().out
    assert "### Devices" in told and "2 x 40" in told and "### Recovery" in told
    for name in ["adc", "needed", "bits", "parts", "policies", "devices", "recovery"]:
        assert (tmp_path / "out" / f"{name}.csv").stat().st_size > 100, name
    for name in ("adc", "parts", "devices", "recovery"):
        assert (tmp_path / "out" / f"crossbar-{name}.png").stat().st_size > 5000, name
    monkeypatch.setattr(crossbar_points, "right_answers", None)  # a second run measures nothing again
    assert script.main() == 0
