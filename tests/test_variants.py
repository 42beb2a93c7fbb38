import csv
import importlib.util
import io
from pathlib import Path

import pytest
from rich.console import Console

from picojoule.models.data import load
from picojoule.pareto_sources import gather
from picojoule.variants import Recipe, Variant, finished, make_variant
from picojoule.variants_crossbar import CrossbarRecipe, crossbar_figures, shown

RECIPE = Recipe(
    network="dscnn-fashion",
    data="digits",
    targets=("edge-16x16", "ultra96-codenet"),
    epochs=0,
    lr=1e-2,
    prune_for="edge-16x16",
    prune_lr=5e-3,
    sparse_epochs=0,
    finetune_epochs=0,
    quantise_epochs=0,
    quantise_lr=3e-3,
    deform_network="dscnn-fashion-deform",
    deform_epochs=0,
)
MADE = (Variant(deform=True), Variant(deform=True, bits=4, activation_bits=8), Variant(), Variant(bits=8))
UNFIT = "needs 8 bits but the engine of 'ultra96-codenet' has 4"


def demo():
    path = Path(__file__).parent.parent / "scripts" / "demo.py"
    spec = importlib.util.spec_from_file_location("demo_of_the_project", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("variants")
    return folder, {variant.name: make_variant(RECIPE, variant, folder) for variant in MADE}


def test_every_variant_has_a_row_for_every_target(rows):
    folder, found = rows
    assert list(found) == ["deform", "deform-w4a8", "full", "full-w8"]
    for variant in MADE:
        assert [r["target"] for r in found[variant.name]] == list(RECIPE.targets)
        assert finished(RECIPE, variant, folder, load(RECIPE.data)) == found[variant.name]


def test_a_design_that_does_not_fit_says_why_and_has_no_figures(rows):
    good, unfit = rows[1]["full-w8"]
    assert good["state"] == "complete" and good["message"] == "" and good["energy_pj_per_sample"] > 0
    assert unfit["state"] == "infeasible" and UNFIT in unfit["message"]
    assert all(unfit[key] is None for key in ("accuracy_hardware", "energy_pj_per_sample", "latency_s", "macs"))


def test_deformable_layers_run_on_the_unit_in_its_own_integers(rows):
    systolic, unit = rows[1]["deform-w4a8"]
    assert unit["state"] == "complete" and (unit["weight_bits"], unit["activation_bits"]) == (4, 8)
    assert unit["accuracy_hardware"] is not None and unit["area_mm2"] is None and systolic["area_mm2"] > 0


def test_the_demo_tells_and_draws_what_fits(rows, tmp_path):
    script, found = demo(), rows[1]
    out = io.StringIO()
    script.finish([r for own in found.values() for r in own], RECIPE, tmp_path, 1.0, Console(file=out, width=200))
    assert "1 of 8 do not fit their target" in out.getvalue() and UNFIT in out.getvalue()
    assert (tmp_path / "pareto.png").stat().st_size > 10_000
    script.save_rows(found, tmp_path)
    listed = list(csv.DictReader((tmp_path / "results.csv").read_text().splitlines()))
    assert [r["state"] for r in listed].count("infeasible") == 1
    assert script.describe(found["full-w8"]).endswith("does not fit ultra96-codenet")


def test_an_original_that_fits_nowhere_is_no_crash(rows, tmp_path):
    rows_without = [r for own in rows[1].values() for r in own if r["variant"] != "full" or r["target"] == "edge-16x16"]
    demo().finish(rows_without, RECIPE, tmp_path, 1.0, Console(file=io.StringIO()))
    assert "ultra96-codenet" not in (tmp_path / "summary.json").read_text().split('"targets"')[1]


def test_its_table_is_read_by_pareto(rows, tmp_path):
    demo().save_rows(rows[1], tmp_path)
    found = gather([tmp_path / "results.csv"], "energy_pj_per_sample")
    assert len(found.points) == 7 and all(p["run"] != "full-w8" or p["target"] == "edge-16x16" for p in found.points)


def test_crossbars_follow_the_weights_and_meet_real_devices(rows, monkeypatch):
    folder, small = rows[0], CrossbarRecipe(chips=2, images=20)
    found = crossbar_figures(RECIPE, Variant(bits=8), folder, small)
    assert 0 < found["energy_needed_pj"] < found["energy_pj_per_sample"]
    assert found["device"]["seeds"] == 2 and found["device"]["samples"] == 20
    assert shown("full-w8", found)["accuracy with devices"].endswith("%")
    monkeypatch.setattr("picojoule.variants_crossbar.measure", None)
    assert crossbar_figures(RECIPE, Variant(bits=8), folder, small) == found  # kept; anything else is made anew
    with pytest.raises(TypeError):
        crossbar_figures(RECIPE, Variant(bits=8), folder, CrossbarRecipe(chips=1, images=20))
