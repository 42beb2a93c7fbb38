"""The study of trained detectors: points, resuming, quantised networks in integers, prices, tables; and the script once, tiny."""

import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from picojoule import deform_pricing, deform_quantized, deform_study, deform_tables, deform_training
from picojoule.deform_study import QUANTIZED, Point
from picojoule.deform_training import TrainingSettings
from picojoule.models.centre_net import VARIANTS, build
from picojoule.models.scenes import make_scenes
from picojoule.sim.attributes import Op
from picojoule.sim.errors import InputError
from picojoule.sim.formats import parse_format
from picojoule.sim.numerics.quantize import codes
from picojoule.sim.offset_traces import OffsetTrace
from picojoule.sim.report import rows_to_csv
from picojoule.studies.points import read_points

TINY = TrainingSettings(train_scenes=48, val_scenes=8, test_scenes=8, epochs=1, quantized_epochs=1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with depthwise, square_round and its quantised point, all of one tiny training."""
    out = tmp_path_factory.mktemp("deform")
    digest = deform_study.open_folder(out, TINY)
    chains = ["depthwise", "deform_free"], ["square_round", QUANTIZED]
    for chain in chains:
        points = tuple(Point(variant=v, width=0.5) for v in chain)
        deform_study._run_chain((str(out), TINY.model_dump(mode="json"), digest, points))
    return out


# --- points ---------------------------------------------------------------------------------------------------------------


def test_points_are_paired_and_the_grid_has_bounds_only_where_they_matter():
    main = deform_study.main_points(5)
    assert len(main) == len(set(main)) == 5 * len(VARIANTS)
    grid = deform_study.grid_points()
    assert len(grid) == len(set(grid)) == 2 * 2 * (4 + 4 * 2)
    assert {p.bound for p in grid if p.variant == "deform_free"} == {7.0}
    assert {p.bound for p in grid if p.variant == "square_round"} == {3.0, 7.0}


def test_quantised_points_come_behind_their_base_which_is_added_where_it_is_missing():
    alone = list(deform_study._chains([Point(variant=QUANTIZED, seed=3)]))
    assert alone == [(Point(variant="square_round", seed=3), Point(variant=QUANTIZED, seed=3))]
    chains = list(deform_study._chains(deform_study.main_points(2)))
    assert sorted(p for c in chains for p in c) == sorted(deform_study.main_points(2))
    assert [len(c) for c in chains].count(2) == 2


# --- training -------------------------------------------------------------------------------------------------------------


def test_training_is_reproducible_and_better_than_nothing():
    settings = TINY.model_copy(update={"epochs": 2})
    runs = []
    for _ in range(2):
        model = build("depthwise", width=0.5)
        fitted = deform_training.fit(model, settings, seed=0, epochs=2, lr=settings.lr)
        runs.append((fitted.history, model.state_dict()))
        assert fitted.history[1]["loss"] < fitted.history[0]["loss"]
        assert not model.training
    assert runs[0][0] == runs[1][0]
    assert all(torch.equal(a, b) for a, b in zip(runs[0][1].values(), runs[1][1].values(), strict=True))


def test_mirrored_batches_mirror_boxes_too():
    scenes = make_scenes("train", 12)
    seen = set()
    for seed in range(6):
        for images, boxes, labels in deform_training.batches(scenes, 4, torch.Generator().manual_seed(seed)):
            for image, box, label in zip(images.numpy(), boxes.numpy(), labels.numpy(), strict=True):
                same = [i for i in range(12) if np.array_equal(scenes.images[i], image)]
                mirrored = [i for i in range(12) if np.array_equal(scenes.images[i][:, :, ::-1], image)]
                seen |= {bool(same), not mirrored}
                number = (same or mirrored)[0]
                wanted = scenes.boxes[number].copy()
                if not same:
                    wanted[:, [0, 2]] = 64 - wanted[:, [2, 0]]
                assert np.array_equal(box[label >= 0], wanted[label >= 0])
                assert np.array_equal(label, scenes.labels[number])
    assert seen == {True, False}


def test_layers_that_make_offsets_learn_slower():
    groups = deform_training._parameter_groups(build("deform_free"), TINY, 1.0)
    slow = [len(p) for g in groups if g["lr"] == 0.1 for p in [g["params"]]]
    assert sum(slow) == 4  # weight and bias in two slots
    assert {g["weight_decay"] for g in groups} == {0.0, TINY.weight_decay}


def test_a_training_that_diverges_says_so():
    with pytest.raises(
        InputError, match=r"training diverged in epoch 1: the loss is not finite; lower lr \(it is 1e\+30\)"
    ):
        deform_training.fit(build("depthwise", width=0.5), TINY, seed=0, epochs=1, lr=1e30)


# --- results on disk --------------------------------------------------------------------------------------------------------


def test_a_folder_refuses_other_settings(trained):
    assert deform_study.open_folder(trained, TINY) == deform_study.open_folder(trained, TINY)
    with pytest.raises(
        InputError, match=r"holds results of other settings \(epochs 1 there, 2 here\); take another folder"
    ):
        deform_study.open_folder(trained, TINY.model_copy(update={"epochs": 2}))


def test_finished_points_are_not_trained_again_and_torn_ones_are_named(trained, monkeypatch):
    def never(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr(deform_study, "train_point", never)
    point = Point(variant="depthwise", width=0.5)
    told = deform_study._run_chain((str(trained), TINY.model_dump(mode="json"), "", (point,)))
    assert told == ""
    torn = Point(variant="conv3")
    (trained / "points" / f"{torn.name}.json").write_text('{"val": ')
    try:
        with pytest.raises(
            InputError, match=r"conv3-w1-n7-s0.json: cannot be read .*; delete it, and it is made again"
        ):
            deform_study.results_of(trained, [torn])
    finally:
        (trained / "points" / f"{torn.name}.json").unlink()


def test_weights_come_back_as_they_were_trained(trained):
    point = Point(variant="square_round", width=0.5)
    found = deform_study.results_of(trained, [point])[point]
    model, plans = deform_study.load_point(trained, point)
    assert not plans
    assert deform_training.precision(model, deform_training.validation_scenes(TINY.val_scenes)) == found["val"]


# --- W4A8 -----------------------------------------------------------------------------------------------------------------


def test_quantised_network_is_in_four_and_eight_bits_and_computes_as_it_was_trained(trained):
    model, plans = deform_study.load_point(trained, Point(variant=QUANTIZED, width=0.5))
    network = deform_quantized.network_of(model, plans)
    macs = [layer for layer in network.layers if layer.op in (Op.CONV, Op.DEFORM_CONV)]
    assert len(macs) == 14
    for layer in macs:
        assert str(layer.operands[1].format) == "int4", layer.name
        assert layer.operands[0].format.bits == 8, layer.name
        assert layer.operands[0].step is not None, layer.name
    for name, module in model.named_modules():
        if name in plans:
            step = torch.tensor(plans[name].weight.step).reshape(-1, 1, 1, 1)
            whole = module.weight / step
            assert (whole - whole.round()).abs().max() < 1e-3
            assert whole.abs().max() < 7.001
    x = torch.tensor(make_scenes("val", 4).images)
    got = deform_quantized.in_integers(network, x)(x)
    for path, module in model.named_modules():
        if path in plans and not path.endswith("offset_conv"):
            module.register_forward_pre_hook(rounding(plans[path].activation))
    with torch.no_grad():
        wanted = model(x)
    for a, b in zip(got, wanted, strict=True):  # a value on the edge of two integers may fall to either side
        assert (a - b).abs().mean() < 0.02 * (b - b.mean()).abs().mean()


def rounding(plan):
    form, step = parse_format(plan.format), torch.tensor(plan.step)
    return lambda module, args: (codes(args[0], step, form) * step, *args[1:])


# --- prices and tables ------------------------------------------------------------------------------------------------------


def test_prices_come_with_traces_and_hit_rates(trained):
    points = [Point(variant=v, width=0.5) for v in ("depthwise", "deform_free", "square_round")]
    prices = deform_pricing.price_points(trained, points)
    plain, free, square = (prices[p] for p in points)
    assert 0 < plain["accelerator_ms"] < square["accelerator_ms"] < free["accelerator_ms"]
    assert plain["latency_ms"] == pytest.approx(plain["accelerator_ms"] + plain["host_ms"])
    assert "hit_rate_map" not in plain
    for found in (free, square):
        assert 0.5 < found["random_hit_rate_map"] <= 1
        assert 0.5 < found["hit_rate_map"] <= found["hit_rate_1m"] <= 1
    trace = OffsetTrace.load(trained / "offsets" / f"{points[1].name}.npz")
    assert [o.shape for o in trace.offsets.values()] == [(16, 18, 16, 16)] * 2


def test_random_offsets_keep_the_form():
    model = build("square_round", width=0.5)
    network = deform_quantized.network_of(model)
    names = [layer.name for layer in network.layers if layer.op is Op.DEFORM_CONV]
    zero = OffsetTrace(offsets={n: np.zeros((3, 18, 16, 16), dtype=np.int16) for n in names})
    drawn = deform_pricing.random_trace(network, zero, Point(variant="square_round", bound=3.0))
    for values in drawn.offsets.values():
        pairs = values.reshape(3, 3, 3, 2, 16, 16)
        d = pairs[:, 2, 2, 0] + 1  # the lower right tap moves by d - 1 both ways
        assert set(np.unique(d)) == {0, 1, 2, 3}
        assert np.array_equal(pairs[:, 0, 2, 0], 1 - d) and np.array_equal(pairs[:, 0, 2, 1], d - 1)
        assert not pairs[:, 1, 1].any()
    bound = deform_pricing.random_trace(network, zero, Point(variant="deform_bound", bound=3.0))
    assert {(int(v.min()), int(v.max())) for v in bound.offsets.values()} == {(-2, 2)}


def fake(variant, seed, ap50, width=1.0, bound=7.0):
    metrics = {"ap50": ap50, "ap": ap50 / 2, "ap_small": None, "ap_medium": ap50, "ap_large": ap50}
    found = {"val": metrics, "test": metrics, "parameters": 10, "kept_epoch": 4, "arithmetic": "float32"}
    return Point(variant=variant, seed=seed, width=width, bound=bound), found


def test_intervals_by_hand():
    mean, half = deform_tables.interval([0.5, 0.6, 0.7])
    assert mean == pytest.approx(0.6)
    assert half == pytest.approx(4.302653 * 0.1 / math.sqrt(3), rel=1e-6)  # Student's t, two degrees of freedom
    assert math.isnan(deform_tables.interval([0.5])[1])


def test_differences_are_paired_by_seed():
    results = dict(
        [fake("depthwise", s, v) for s, v in enumerate((0.5, 0.6, 0.7))]
        + [fake("conv3", s, v) for s, v in enumerate((0.52, 0.62, 0.72))]
    )
    prices = {p: {"latency_ms": 1.0 + (p.variant == "conv3"), "accelerator_ms": 1.0} for p in results}
    rounded = {p: {"w8a8": f, "w4a8": f} for p, f in results.items() if p.variant == "conv3"}
    rows = {r["variant"]: r for r in deform_tables.variant_rows(results, prices, rounded)}
    assert rows["conv3"]["ap50_difference"] == pytest.approx(0.02)
    assert rows["conv3"]["ap50_difference_half"] == pytest.approx(0, abs=1e-12)
    assert rows["conv3"]["ap50_half"] > 0.1
    assert rows["conv3"]["latency_ms"] == 2.0
    assert rows["conv3"]["ap50_w8a8"] == pytest.approx(0.62)
    assert rows["depthwise"]["ap50_w8a8"] is None
    text = deform_tables.markdown(rows.values())
    assert "| 62.0 / 62.0 | 2.000 |" in text
    assert "| ordinary 3x3 | 3 | 62.0 ± 24.8 | +2.0 ± 0.0 |" in text
    assert "| depthwise 3x3 | 3 | 60.0 ± 24.8 |  |" in text


def test_grid_takes_the_mean_over_seeds_and_pools_their_spread(tmp_path):
    results = dict(
        [fake("conv3", s, v) for s, v in enumerate((0.5, 0.6))]
        + [fake("square_round", s, v, bound=3.0) for s, v in enumerate((0.7, 0.7))]
        + [fake("square_round", s, v, bound=7.0) for s, v in enumerate((0.8, 0.8))]
    )
    rows = deform_tables.grid_rows(results)
    assert [(r["network.variant"], r["network.bound"]) for r in rows] == [
        ("conv3", None), ("square_round", 7.0), ("square_round", 3.0),
    ]  # fmt: skip
    half = 3.182446 * math.sqrt(0.005 / 3) / math.sqrt(2)  # three degrees of freedom, one pair that differs by 0.1
    assert rows[0]["accuracy"] == pytest.approx(0.55)
    assert rows[1]["accuracy_high"] - 0.8 == pytest.approx(half, rel=1e-5)
    (tmp_path / "points.csv").write_text(rows_to_csv(rows))
    points = read_points(tmp_path / "points.csv", ("variant", "width", "bound"))
    assert points.metric == "val AP50"
    assert points.find({"variant": "conv3", "width": 1.0, "bound": 3})["accuracy"] == pytest.approx(0.55)
    assert points.find({"variant": "square_round", "width": 1.0, "bound": 3})["accuracy"] == pytest.approx(0.7)
    assert points.find({"variant": "square_round", "width": 0.5, "bound": 3}) is None


def test_points_with_bits_can_be_searched(tmp_path):
    float_points = dict([fake("conv3", 0, 0.5), fake("square_round", 0, 0.7), fake("square_round", 0, 0.6, bound=3.0)])
    rounded = {p: {"w8a8": f, "w4a8": fake("", 0, 0.1)[1]} for p, f in float_points.items()}
    rows = deform_tables.bits_rows(rounded, float_points | dict([fake(QUANTIZED, 0, 0.65)]))
    (tmp_path / "points.csv").write_text(rows_to_csv(rows))
    points = read_points(tmp_path / "points.csv", ("variant", "width", "bound", "weight_bits"))
    asked = {"width": 1.0, "bound": 7}
    for variant, bits, wanted in (("conv3", 8, 0.5), ("conv3", 4, 0.1), (QUANTIZED, 4, 0.65), (QUANTIZED, 8, 0.65)):
        found = points.find({"variant": variant, "weight_bits": bits, **asked})
        assert found["accuracy"] == pytest.approx(wanted)


def test_networks_are_measured_rounded_too(trained):
    point = Point(variant="deform_free", width=0.5)
    told = deform_study._round_chain((str(trained), TINY.model_dump(mode="json"), "", (point,)))
    assert told.startswith("deform_free-w0.5-n7-s0: val AP50 W8A8 0.")
    found = deform_study.rounded_of(trained, [point])[point]
    assert set(found) == {"settings", "times", "w4a8", "w8a8"}
    assert set(found["w8a8"]) == {"val", "test"}


def test_figure_shows_every_variant_with_its_interval_and_the_front():
    results = dict(fake(v, s, 0.5 + 0.01 * i + 0.001 * s) for i, v in enumerate(VARIANTS) for s in range(2))
    prices = {p: {"latency_ms": 1.0 + VARIANTS.index(p.variant), "accelerator_ms": 1.0} for p in results}
    axes = deform_tables.plot_front(deform_tables.variant_rows(results, prices, {}))
    texts = [t.get_text() for t in axes.get_legend().get_texts()]
    assert len(texts) == len(VARIANTS) + 1
    assert "square + round, W4A8, n = 2" in texts
    assert "latency on ultra96-codenet (W4A8), ms" in axes.get_xlabel()


# --- the script -------------------------------------------------------------------------------------------------------------


def test_script_writes_its_tables_from_what_is_there(tmp_path, monkeypatch, capsys):
    """Points of another tiny training stand in for the campaign; the script itself trains nothing here."""
    script = load_script()
    monkeypatch.setattr(script, "QUICK", TINY.model_dump())
    digest = deform_study.open_folder(tmp_path, TINY)
    chain = (Point(variant="depthwise"), Point(variant="deform_square"))
    deform_study._run_chain((str(tmp_path), TINY.model_dump(mode="json"), digest, chain))
    monkeypatch.setattr(
        "sys.argv", ["reproduce_deform", "--out", str(tmp_path), "--quick", "--jobs", "0", "--seeds", "1"]
    )
    assert script.main() == 0
    assert "| depthwise 3x3 | 1 |" in capsys.readouterr().out
    for name in ("results.csv", "table.csv", "table.md", "pareto.png", "summary.json"):
        assert (tmp_path / name).stat().st_size > 100, name
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["points"] == 2
    assert summary["variants"][1]["latency_ms"] > 0
    monkeypatch.setattr(script, "QUICK", {**TINY.model_dump(), "epochs": 3})
    assert script.main() == 1
    assert "holds results of other settings (epochs 1 there, 3 here)" in capsys.readouterr().err


@pytest.mark.full
def test_script_trains_all_variants_in_processes_and_resumes(tmp_path, capsys):
    points = deform_study.main_points(1)
    told: list[str] = []
    assert deform_study.run_points(tmp_path, TINY, points, jobs=2, tell=told.append) == []
    assert len(deform_study.results_of(tmp_path, points)) == len(VARIANTS)
    (tmp_path / "points" / f"{points[1].name}.json").unlink()
    told.clear()
    assert deform_study.run_points(tmp_path, TINY, points, jobs=1, tell=told.append) == []
    assert len(told) == 1 and points[1].name in told[0]


def load_script():
    path = Path(__file__).parent.parent / "scripts" / "reproduce_deform.py"
    spec = importlib.util.spec_from_file_location("reproduce_deform", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
