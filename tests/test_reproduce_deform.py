"""The study of trained detectors: points, resuming, quantised networks in integers, prices; and the script once, tiny."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from picojoule import deform_points, deform_pricing, deform_quantized, deform_study, deform_training
from picojoule.deform_points import QUANTIZED, Point
from picojoule.deform_training import TrainingSettings
from picojoule.models.centre_net import BOUNDED_VARIANTS, VARIANTS, build
from picojoule.models.scenes import make_scenes
from picojoule.sim.attributes import Op
from picojoule.sim.errors import InputError
from picojoule.sim.formats import parse_format
from picojoule.sim.numerics.quantize import codes
from picojoule.sim.offset_traces import OffsetTrace

TUNED = "square_round_w4a8"
TINY = TrainingSettings(train_scenes=48, val_scenes=8, test_scenes=8, epochs=1, quantized_epochs=1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with depthwise, square_round and its quantised point, all of one tiny training."""
    out = tmp_path_factory.mktemp("deform")
    digest = deform_study.open_folder(out, TINY)
    chains = ["depthwise", "deform_free"], ["square_round", TUNED]
    for chain in chains:
        points = tuple(Point(variant=v, width=0.5) for v in chain)
        deform_study._run_chain((str(out), TINY.model_dump(mode="json"), digest, points))
    return out


# --- points ---------------------------------------------------------------------------------------------------------------


def test_points_are_paired_and_the_grid_has_bounds_only_where_they_matter():
    main = deform_points.main_points(5)
    assert len(main) == len(set(main)) == 5 * len(VARIANTS)
    grid = deform_points.grid_points()
    assert len(grid) == len(set(grid)) == 2 * 2 * (7 + 6 * 2)
    assert {p.bound for p in grid if p.variant == "deform_free"} == {7.0}
    assert {p.bound for p in grid if p.variant == "square_round"} == {3.0, 7.0}
    near = deform_points.near_points(5)
    assert {(p.variant, p.bound, p.width) for p in near} == {(v, 3.0, 1.0) for v in BOUNDED_VARIANTS}
    assert len(near) == len(set(near)) == 5 * 6


def test_a_fine_tuned_form_can_be_compared_with_a_fine_tuned_depthwise_one():
    assert {v: v.removesuffix("_w4a8") for v in VARIANTS if v.endswith("_w4a8")} == QUANTIZED
    assert {v for v in VARIANTS if v not in QUANTIZED} - set(QUANTIZED.values()) == {"deform_free"}
    assert Point(variant=TUNED, seed=3, bound=3.0).base == Point(variant="square_round", seed=3, bound=3.0)
    assert Point(variant="depthwise").base is None


def test_quantised_points_come_behind_their_base_which_is_added_where_it_is_missing():
    alone = list(deform_study._chains([Point(variant=TUNED, seed=3)]))
    assert alone == [(Point(variant="square_round", seed=3), Point(variant=TUNED, seed=3))]
    chains = list(deform_study._chains(deform_points.main_points(2)))
    assert sorted(p for c in chains for p in c) == sorted(deform_points.main_points(2))
    assert [len(c) for c in chains].count(2) == 2 * len(QUANTIZED)
    assert all(b.base == a for a, b in (c for c in chains if len(c) == 2))


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


def test_a_point_of_other_settings_is_refused_by_all_who_read_it(trained, tmp_path):
    digest = deform_study.open_folder(tmp_path, TINY.model_copy(update={"epochs": 3}))
    point = Point(variant="depthwise", width=0.5)
    (tmp_path / "points").mkdir()
    copied = tmp_path / "points" / f"{point.name}.json"
    copied.write_bytes((trained / "points" / copied.name).read_bytes())
    sentence = rf"{point.name}.json: was made with other settings \(\w{{16}}\) than this folder's \({digest}, settings.json\); "
    with pytest.raises(InputError, match=sentence + "delete it, and it is made again"):
        deform_study.results_of(tmp_path, [point])
    with pytest.raises(InputError, match=sentence):  # training goes on from no such point either
        deform_study.run_points(tmp_path, TINY.model_copy(update={"epochs": 3}), [point], jobs=1, tell=print)
    copied.rename(copied.with_suffix(".rounded.json"))
    with pytest.raises(InputError, match=r"s0.rounded.json: was made with other settings"):
        deform_study.rounded_of(tmp_path, [point])


def test_weights_come_back_as_they_were_trained(trained):
    point = Point(variant="square_round", width=0.5)
    found = deform_study.results_of(trained, [point])[point]
    model, plans = deform_study.load_point(trained, point)
    assert not plans
    assert deform_training.precision(model, deform_training.validation_scenes(TINY.val_scenes)) == found["val"]


# --- W4A8 -----------------------------------------------------------------------------------------------------------------


def test_quantised_network_is_in_four_and_eight_bits_and_computes_as_it_was_trained(trained):
    model, plans = deform_study.load_point(trained, Point(variant=TUNED, width=0.5))
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


# --- prices and rounding ------------------------------------------------------------------------------------------------------


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


def test_networks_are_measured_rounded_too(trained):
    point, digest = Point(variant="deform_free", width=0.5), deform_study.open_folder(trained, TINY)
    told = deform_study._round_chain((str(trained), TINY.model_dump(mode="json"), digest, (point,)))
    assert told.startswith("deform_free-w0.5-n7-s0: val AP50 W8A8 0.")
    found = deform_study.rounded_of(trained, [point])[point]
    assert set(found) == {"settings", "times", "w4a8", "w8a8"}
    assert set(found["w8a8"]) == {"val", "test"}


# --- the script -------------------------------------------------------------------------------------------------------------


def test_script_writes_its_tables_from_what_is_there(tmp_path, monkeypatch, capsys):
    """Points of another tiny training stand in for the campaign; the script itself trains nothing here."""
    script = load_script()
    monkeypatch.setattr(script, "QUICK", TINY.model_dump())
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "runs" / "deform-quick"  # a quick run stays out of the folder of real ones
    digest = deform_study.open_folder(out, TINY)
    chain = (Point(variant="depthwise"), Point(variant="deform_square"))
    deform_study._run_chain((str(out), TINY.model_dump(mode="json"), digest, chain))
    monkeypatch.setattr("sys.argv", ["reproduce_deform", "--quick", "--jobs", "0", "--seeds", "1"])
    assert script.main() == 0
    assert "| depthwise 3x3 | 1 |" in capsys.readouterr().out
    for name in ("results.csv", "table.csv", "table.md", "trends.md", "pareto.png", "summary.json"):
        assert (out / name).stat().st_size > 100, name
    summary = json.loads((out / "summary.json").read_text())
    assert summary["points"] == 2
    assert summary["variants"][1]["latency_ms"] > 0
    assert summary["variants"][1]["clipped_share"] >= 0
    assert summary["trends"][0]["verdict"] == "not trained"
    monkeypatch.setattr(script, "QUICK", {**TINY.model_dump(), "epochs": 3})
    assert script.main() == 1
    assert "holds results of other settings (epochs 1 there, 3 here)" in capsys.readouterr().err


@pytest.mark.full
def test_script_trains_all_variants_in_processes_and_resumes(tmp_path, capsys):
    points = deform_points.main_points(1)
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
