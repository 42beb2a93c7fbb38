"""The bit-slice study: equal trials, the rule of choice, resuming, integers in crossbars, prices by hand, and its tables."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from picojoule import (
    bitslice_chip,
    bitslice_document,
    bitslice_measure,
    bitslice_points,
    bitslice_pricing,
    bitslice_study,
    bitslice_tables,
)
from picojoule import bitslice_crossbars as crossbars
from picojoule.bitslice_figure import plot_study
from picojoule.bitslice_networks import NETWORKS, build, parts_of
from picojoule.bitslice_points import METHODS, TUNING_SEED, Choice, Point
from picojoule.bitslice_pricing import LayerCounts
from picojoule.bitslice_study import StudySettings
from picojoule.compress.bitslice_config import BitsliceConfig
from picojoule.compress.bitslice_training import layers_of
from picojoule.reram.adc_models import AdcModel
from picojoule.sim.errors import InputError

TINY = StudySettings(
    data="fashion-mini", limit=100, mlp_pretrain_epochs=1, mlp_epochs=1, cnn_pretrain_epochs=1, cnn_epochs=1
)


def run(out: Path, point: Point, settings: StudySettings = TINY) -> None:
    bitslice_study._run((str(out), settings.model_dump(mode="json"), point))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with both bases, a trial and a measured final point of each of two methods."""
    out = tmp_path_factory.mktemp("bitslice")
    for base in bitslice_points.BASES:
        run(out, bitslice_points.base_point("mlp", base, 0))
    for name in ("dense", "ours"):
        point = Point(network="mlp", kind="final", method=name, trial=0, seed=0)
        run(out, point)
        result = bitslice_study.results_of(out, TINY, [point])[point]
        bitslice_measure._run((str(out), TINY.model_dump(mode="json"), point, result))
    return out


def finals() -> list[Point]:
    return [Point(network="mlp", kind="final", method=name, trial=0, seed=0) for name in ("dense", "ours")]


# --- points ---------------------------------------------------------------------------------------------------------------


def test_methods_have_equal_trials_on_a_seed_of_its_own():
    assert {name: len(m.trials) for name, m in METHODS.items()} == {**dict.fromkeys(METHODS, 6), "dense": 1}
    assert all(len({json.dumps(t) for t in m.trials}) == len(m.trials) for m in METHODS.values())
    points = bitslice_points.trial_points("mlp")
    assert {p.seed for p in points} == {TUNING_SEED} and len(points) == 6 * (len(METHODS) - 1) + 1
    finals = bitslice_points.final_points("mlp", 5, dict.fromkeys(METHODS, 0))
    assert {p.seed for p in finals} == set(range(5)) and len(finals) == 5 * len(METHODS)
    bases = set(bitslice_points.base_points("mlp", 5))
    assert {p.base for p in [*points, *finals]} <= bases
    assert len({p.name for p in [*points, *finals, *bases]}) == len(points) + len(finals) + len(bases)
    for network in NETWORKS:
        for point in (*bitslice_points.base_points(network, 1), *bitslice_points.trial_points(network)):
            BitsliceConfig(**bitslice_study.config_of(TINY, point))


def test_all_methods_train_as_long():
    epochs = {bitslice_study.config_of(TINY, p)["epochs"] for p in bitslice_points.trial_points("cnn")}
    assert epochs == {1}
    first = {bitslice_study.config_of(TINY, p)["pretrain_epochs"] for p in bitslice_points.base_points("cnn", 1)}
    assert first == {1}


def test_the_cheapest_trial_that_is_accurate_enough_is_chosen():
    def result(accuracy: float, energy: float) -> dict[str, float]:
        return {"val_accuracy": accuracy, "adc_energy_pj": energy}

    points = {p: result(0.90, 100.0) for p in bitslice_points.trial_points("mlp")}
    of = {(p.method, p.trial): p for p in points}
    points[of["ours", 3]] = result(0.895, 10.0)  # just within half a point
    points[of["ours", 4]] = result(0.8949, 5.0)
    points |= {p: result(0.85 + p.trial / 1000, 1.0) for p in points if p.method == "l1"}
    chosen = bitslice_points.choose(points, "mlp")
    assert chosen["ours"] == Choice(trial=3, qualified=True)
    assert chosen["l1"] == Choice(trial=5, qualified=False)
    assert chosen["dense"] == Choice(trial=0, qualified=True)


# --- training and resuming ------------------------------------------------------------------------------------------------


def test_a_finished_point_is_not_trained_again_and_a_torn_one_is(trained, tmp_path):
    said: list[str] = []
    assert bitslice_study.run_points(trained, TINY, finals(), jobs=1, tell=said.append) == [] and said == []
    for file in (trained / "points").iterdir():
        (tmp_path / "points").mkdir(exist_ok=True)
        (tmp_path / "points" / file.name).write_bytes(file.read_bytes())
    dense = finals()[0]
    file = bitslice_study.point_file(tmp_path, dense, "json")
    before = json.loads(file.read_text())
    file.unlink()  # killed between weights and JSON
    assert dense not in bitslice_study.results_of(tmp_path, TINY, finals())
    run(tmp_path, dense)
    after = json.loads(file.read_text())
    assert {k: v for k, v in after.items() if k != "times"} == {k: v for k, v in before.items() if k != "times"}


def test_results_of_other_settings_are_refused(trained):
    other = TINY.model_copy(update={"mlp_epochs": 2})
    with pytest.raises(
        InputError, match=r"mlp-dense-final-s0\.json: was made with other settings; delete it, and it is made again"
    ):
        bitslice_study.results_of(trained, other, finals())
    assert bitslice_study.results_of(trained, TINY.model_copy(update={"cnn_epochs": 2}), finals())
    other = TINY.model_copy(update={"mlp_pretrain_epochs": 2})  # changes the base
    assert bitslice_study.key_of(other, finals()[0]) != bitslice_study.key_of(TINY, finals()[0])


def test_an_unreadable_result_is_named(trained, tmp_path):
    file = bitslice_study.point_file(tmp_path, finals()[0], "json")
    file.parent.mkdir()
    file.write_text("{")
    with pytest.raises(InputError, match=r"cannot be read .*; delete it, and it is made again$"):
        bitslice_study.results_of(tmp_path, TINY, finals())


def test_tables_before_all_trials_are_refused(trained):
    with pytest.raises(InputError, match=r"trial mlp-dense-t0-s100 was not trained yet"):
        bitslice_study.choices(trained, TINY, "mlp")


# --- integers and crossbars -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", NETWORKS)
def test_integers_in_lossless_crossbars_are_the_rounded_network(network):
    parts = parts_of("fashion-mini", 100)
    model = build(network, 3)
    exponents = [1] * len(layers_of(model))
    with torch.no_grad():
        for m in layers_of(model).values():
            m.weight.copy_((m.weight * 2**7).round().clamp(-255, 255) / 2**7)  # type: ignore[operator]
    made = crossbars.integer_network(model, exponents, parts.train.images)
    assert made.input_steps[0] == 1 / 255
    exact = crossbars._forward(
        made, [lambda x, c=c: (c @ x.astype(np.int64)).astype(float) for c in made.codes], parts.val.images[:20]
    )
    spec = crossbars.crossbar_spec((9, 9, 9, 9))
    in_crossbars = crossbars._forward(
        made, [crossbars.program(c, spec).matmul for c in made.codes], parts.val.images[:20]
    )
    assert torch.equal(exact, in_crossbars)
    floating = model(parts.val.images[:20]).detach()
    assert torch.allclose(exact, floating, atol=0.02 * float(floating.abs().max()))


def test_reduced_bits_are_fewer_and_accurate_enough(trained):
    point = finals()[0]
    result = bitslice_study.results_of(trained, TINY, [point])[point]
    measured = bitslice_measure.measured_of(trained, TINY, [point])[point]
    assert all(2 <= r <= b or b == 0 for r, b in zip(measured["reduced_bits"], result["adc_bits"], strict=True))
    assert sum(measured["reduced_bits"]) < sum(result["adc_bits"])
    assert measured["val"]["reduced"] >= measured["val"]["lossless"] - bitslice_measure.ALLOWED_DROP - 1e-9
    bits = np.max([tile for y in measured["layers"] for tile in y["tile_bits"]], axis=0)
    assert bits.tolist() == result["adc_bits"]


# --- prices ---------------------------------------------------------------------------------------------------------------


def test_prices_by_hand():
    layers = [
        LayerCounts(outputs=10, positions=2, tile_bits=((5, 0), (4, 8)), live_columns=((10, 0), (6, 3))),
        LayerCounts(outputs=200, positions=1, tile_bits=((8, 0),), live_columns=((200, 0),)),
    ]
    unit = {AdcModel.BITSLICE_PAPER: {8: 1.5625, 4: 1.5625 * (2**4 / 5 * 4) / (2**8 / 9 * 8)}}
    found = bitslice_pricing.price(layers, (8, 8), AdcModel.BITSLICE_PAPER)
    assert found is not None
    conversions = [2 * 8 * 16 + 8 * 200, 2 * 8 * 3]
    assert found.energy_pj == pytest.approx(sum(conversions) * unit[AdcModel.BITSLICE_PAPER][8], rel=1e-3)
    period = 1 / 1.28e9
    assert found.latency_s == pytest.approx((2 * 8 * 10 + 8 * 128) * period)
    assert found.area_um2 == pytest.approx((2 + 2 + 1) * 1200, rel=1e-6)  # 200 outputs take two arrays
    own = found.own_width_energy_pj
    assert own is not None and own < found.energy_pj
    narrow = bitslice_pricing.price(layers, (4, 0), AdcModel.BITSLICE_PAPER, lossless=False)
    assert narrow is not None and narrow.own_width_energy_pj is None
    assert narrow.energy_pj == pytest.approx(conversions[0] * unit[AdcModel.BITSLICE_PAPER][4], rel=1e-3)
    assert bitslice_pricing.price(layers, (3, 8), AdcModel.SURVEY) is None
    assert bitslice_pricing.price(layers, (4, 8), AdcModel.SURVEY) is not None


def test_the_simulators_bill_agrees_with_the_counts(trained):
    for point in finals():
        result = bitslice_study.results_of(trained, TINY, [point])[point]
        measured = bitslice_measure.measured_of(trained, TINY, [point])[point]
        file = bitslice_study.point_file(trained, point, "safetensors")
        chip = bitslice_chip.chip_price("mlp", file, result["exponents"], measured["input_steps"])
        counted = bitslice_pricing.price(
            bitslice_pricing.layer_counts(measured["layers"]), result["adc_bits"], AdcModel.ISAAC_SAR
        )
        assert counted is not None and chip["adc_pj"] == pytest.approx(counted.energy_pj)
        assert chip["energy_pj"] > chip["adc_pj"]


# --- tables ---------------------------------------------------------------------------------------------------------------


def test_tables_pair_by_seed(trained):
    results, measured = {}, {}
    found = bitslice_study.results_of(trained, TINY, finals())
    more = bitslice_measure.measured_of(trained, TINY, finals())
    for seed in range(3):
        for old in finals():
            point = Point(network="mlp", kind="final", method=old.method, trial=0, seed=seed)
            results[point] = found[old]
            shifted = {k: v + seed / 100 for k, v in more[old]["test"].items()}  # a seed moves both methods alike
            measured[point] = {**more[old], "test": shifted}
    chosen = {"mlp": {name: Choice(trial=0, qualified=name != "ours") for name in METHODS}}
    one = dict.fromkeys(("energy_pj", "adc_pj", "latency_s", "area_mm2"), 1.0)
    chips = {p: {**one, "energy_pj": 2.0 if p.method == "dense" else 1.0} for p in results}
    rows = {r["method"]: r for r in bitslice_tables.method_rows(results, measured, chosen, chips)}
    assert rows["ours"]["vs_dense_chip_energy_pj"] == pytest.approx(2)
    assert rows["dense"]["vs_dense_lossless_isaac_sar_energy_pj"] == 1
    ours = rows["ours"]
    assert ours["seeds"] == 3 and ours["drop_8bit_half"] == pytest.approx(0, abs=1e-9) and ours["test_8bit_half"] > 1
    prices = [
        bitslice_pricing.price(
            bitslice_pricing.layer_counts(more[p]["layers"]), found[p]["adc_bits"], AdcModel.ISAAC_SAR
        )
        for p in finals()
    ]
    assert prices[0] is not None and prices[1] is not None
    assert ours["vs_dense_lossless_isaac_sar_energy_pj"] == pytest.approx(prices[0].energy_pj / prices[1].energy_pj)
    assert ours["vs_dense_lossless_isaac_sar_energy_pj"] > 2
    assert ours["vs_bl1_lossless_isaac_sar_energy_pj"] is None
    text = bitslice_document.markdown(list(rows.values()))
    assert "no trial was accurate enough" in text and "MLP 784-100-10, 3 seeds" in text
    points = bitslice_tables.result_rows(results, measured, chosen, chips)
    assert len(points) == 6 and {r["test_8bit"] for r in points} == {m["test"]["8bit"] for m in measured.values()}
    trials = [{**r, "kind": "trial", "chosen": True} for r in points]
    figure = plot_study([*points, *trials])
    assert len(figure.axes) == 2 and not math.isnan(figure.axes[1].get_ylim()[0])


@pytest.mark.full
def test_the_script_runs_quickly_and_again_from_where_it_was(tmp_path):
    import subprocess
    import sys

    script = Path(__file__).parents[1] / "scripts" / "reproduce_bitslice.py"
    words = [
        sys.executable,
        str(script),
        "--quick",
        "--network",
        "mlp",
        "--seeds",
        "2",
        "--data",
        "fashion-mini",
        "--out",
        str(tmp_path),
    ]
    subprocess.run(words, check=True, capture_output=True)
    table = (tmp_path / "table.md").read_text()
    again = subprocess.run(words, check=True, capture_output=True, text=True)
    assert "s CPU" not in again.stdout and (tmp_path / "table.md").read_text() == table
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["finals_measured"] == summary["finals_wanted"] == 2 * len(METHODS)
    assert (tmp_path / "bitslice.png").stat().st_size > 10_000
