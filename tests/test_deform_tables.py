"""What is made of the detector's trainings: the table, what bounding costs, published trends, points for a search, the figure."""

import math

import pytest

from picojoule import deform_bounds, deform_figure, deform_grid, deform_tables, deform_trends
from picojoule.deform_points import QUANTIZED, Point
from picojoule.models.centre_net import VARIANTS
from picojoule.sim.errors import InputError
from picojoule.sim.report import rows_to_csv
from picojoule.studies.points import read_points

TUNED = "square_round_w4a8"


def fake(variant, seed, ap50, width=1.0, bound=7.0):
    metrics = {"ap50": ap50, "ap": ap50 / 2, "ap_small": None, "ap_medium": ap50, "ap_large": ap50}
    found = {"val": metrics, "test": metrics, "parameters": 10, "kept_epoch": 4, "arithmetic": "float32"}
    found["history"] = [{}] * (2 if variant in QUANTIZED else 4)
    return Point(variant=variant, seed=seed, width=width, bound=bound), found


def test_intervals_by_hand():
    mean, half = deform_tables.interval([0.5, 0.6, 0.7])
    assert mean == pytest.approx(0.6)
    assert half == pytest.approx(4.302653 * 0.1 / math.sqrt(3), rel=1e-6)  # Student's t, two degrees of freedom
    assert math.isnan(deform_tables.interval([0.5])[1])


def fakes(**by_variant):
    """Points of seeds 0, 1, ... with these AP50s."""
    return dict(fake(v, s, value) for v, values in by_variant.items() for s, value in enumerate(values))


def test_differences_are_paired_by_seed():
    results = fakes(depthwise=(0.5, 0.6, 0.7), conv3=(0.52, 0.62, 0.72))
    prices = {p: {"latency_ms": 1.0 + (p.variant == "conv3"), "accelerator_ms": 1.0} for p in results}
    rounded = {p: {"w8a8": f, "w4a8": fake("", 0, 0.3)[1]} for p, f in results.items() if p.variant == "conv3"}
    rows = {r["variant"]: r for r in deform_tables.variant_rows(results, prices, rounded)}
    assert rows["conv3"]["float_ap50_difference"] == pytest.approx(0.02)
    assert rows["conv3"]["float_ap50_difference_half"] == pytest.approx(0, abs=1e-12)
    assert rows["conv3"]["float_ap50_half"] > 0.1
    assert rows["conv3"]["latency_ms"] == 2.0
    assert rows["conv3"]["w8a8_ap50"] == pytest.approx(0.62)
    assert rows["conv3"]["w8a8_ap50_difference"] is None  # depthwise was not measured in these bits
    assert rows["depthwise"]["w8a8_ap50"] is None
    text = deform_tables.markdown(rows.values())
    assert "| ordinary 3x3 | 3 | 4 | 62.0 ± 24.8 | 62.0 ± 24.8 | 30.0 ± 0.0 | +2.0 ± 0.0 |  |  |" in text
    assert "| depthwise 3x3 | 3 | 4 | 60.0 ± 24.8 |  |" in text
    assert "All seeds share the same test scenes" in text


def test_a_fine_tuned_form_is_compared_with_depthwise_trained_as_long():
    results = fakes(
        depthwise=(0.5, 0.6), square_round=(0.5, 0.6), depthwise_w4a8=(0.55, 0.64), square_round_w4a8=(0.56, 0.66)
    )
    rounded = {p: {"w8a8": f, "w4a8": fake("", 0, 0.3)[1]} for p, f in results.items() if p.base is None}
    rows = {r["variant"]: r for r in deform_tables.variant_rows(results, {}, rounded)}
    tuned = rows[TUNED]
    assert (tuned["epochs"], rows["depthwise_w4a8"]["epochs"], rows["depthwise"]["epochs"]) == ("4 + 2", "4 + 2", "4")
    assert tuned["w4a8_ap50_difference"] == pytest.approx(0.015)  # not 0.61 less the 0.3 that was only rounded
    assert tuned["float_ap50"] is None and tuned["w8a8_ap50"] is None
    assert rows["depthwise_w4a8"]["w4a8_ap50_difference"] is None
    assert rows["square_round"]["w4a8_ap50_difference"] == pytest.approx(0)


def test_what_bounding_costs_is_paired_and_says_where_the_clip_never_acts():
    near = dict(fake("deform_bound", s, v, bound=3.0) for s, v in enumerate((0.50, 0.61, 0.72)))
    near |= dict([fake(TUNED, 0, 0.4, bound=3.0)])
    results = near | fakes(deform_free=(0.53, 0.63), deform_bound=(0.53, 0.63, 0.9), square_round_w4a8=(0.5,))
    shares = {p: 0.25 * (p.bound == 3) for p in results}
    bound, tuned = deform_bounds.bound_rows(results, shares)
    assert (bound["seeds"], bound["near"], bound["far"], bound["free"]) == (2, *map(pytest.approx, (0.555, 0.58, 0.58)))
    assert bound["near_free"] == pytest.approx(-0.025)
    assert bound["near_free_half"] == pytest.approx(12.7062 * 0.01 / 2, rel=1e-4)
    assert (bound["far_free"], bound["far_free_half"]) == (0, 0)
    assert (bound["near_clipped"], bound["far_clipped"]) == (0.25, 0)
    assert tuned["near_far"] == pytest.approx(-0.1) and tuned["free"] is None and tuned["near_far_half"] is None
    text = deform_bounds.bound_markdown([bound, tuned])
    assert (
        "| deformable, bound | 1 | 2 | 55.5 | 58.0 | 58.0 | -2.5 ± 6.4 | -2.5 ± 6.4 | +0.0 ± 0.0 | 25 % | clip never active |"
        in text
    )


@pytest.mark.parametrize(
    ("mean", "half", "sign", "wanted"),
    [
        (0.03, 0.02, 1, "reproduced"),
        (0.03, 0.02, -1, "not reproduced: the opposite"),
        (-0.03, 0.02, -1, "reproduced"),
        (0.03, 0.04, 1, "undecided"),
        (0.001, 0.005, 1, "not reproduced: no difference"),
        (0.001, 0.005, 0, "reproduced"),
        (0.03, 0.015, 0, "not reproduced: they differ"),
        (-0.015, 0.012, 0, "not reproduced: they differ"),
        (0.01, 0.015, 0, "undecided"),
        (0.03, None, 1, "undecided"),
    ],
)
def test_verdicts(mean, half, sign, wanted):
    assert deform_trends.verdict(mean, half, sign) == wanted


def test_published_trends_are_listed_with_what_is_not_reproduced():
    results = fakes(
        depthwise=(0.5, 0.6), conv5=(0.55, 0.651), deform_free=(0.53, 0.631), deform_bound=(0.53, 0.631), conv3=(0.5,)
    )
    bounded = [p for p in results if p.variant == "deform_bound"]
    rows = {r["trend"]: r for r in deform_trends.trend_rows(results, dict.fromkeys(bounded, 0.0))}
    verdicts = {name: r["verdict"] for name, r in rows.items()}
    assert verdicts["deformable above depthwise 3x3"] == "reproduced"
    assert verdicts["depthwise 5x5 below deformable"] == "not reproduced: the opposite"
    assert verdicts["bounding (N = 7) loses"] == "not tested: clip never active"
    assert verdicts["bounding (N = 3) loses"] == "not trained"
    assert verdicts["ordinary 3x3 about as depthwise"] == "undecided"  # one seed
    assert rows["depthwise 5x5 above 3x3"]["published"] == pytest.approx(0.015)
    text = deform_trends.trend_markdown(rows.values())
    assert "Not reproduced: the opposite: depthwise 5x5 below deformable (+2.0 ± 0.0)." in text
    cut = deform_trends.trend_rows(results, dict.fromkeys(bounded, 0.1))
    assert [r["verdict"] for r in cut if r["trend"] == "bounding (N = 7) loses"] == ["not reproduced: no difference"]


def test_grid_takes_the_mean_over_seeds_and_pools_their_spread(tmp_path):
    results = dict(
        [fake("conv3", s, v) for s, v in enumerate((0.5, 0.6))]
        + [fake("square_round", s, v, bound=3.0) for s, v in enumerate((0.7, 0.7))]
        + [fake("square_round", s, v, bound=7.0) for s, v in enumerate((0.8, 0.8))]
    )
    rows = deform_grid.grid_rows(results)
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


def test_rows_of_the_grid_are_means_over_the_same_seeds(tmp_path):
    results = fakes(conv3=(0.5, 0.6, 1.0, 1.0), conv5=(0.5, 0.6, 1.0))
    results |= dict(fake("conv5", s, v, width=0.5) for s, v in enumerate((0.3, 0.5)))
    rows = deform_grid.grid_rows(results)
    assert {r["seeds"] for r in rows} == {2}
    assert [r["accuracy"] for r in rows] == [pytest.approx(v) for v in (0.55, 0.55, 0.4)]
    rounded = {p: {"w8a8": f, "w4a8": f} for p, f in results.items() if (p.variant, p.seed) != ("conv5", 0)}
    assert {(r["seeds"], r["accuracy"]) for r in deform_grid.bits_rows(rounded, results)} == {(1, 0.6), (1, 0.5)}
    with pytest.raises(InputError, match="points of the grid have no seed in common; train them all"):
        deform_grid.grid_rows(results | dict([fake("depthwise", 9, 0.5)]))


def test_points_with_bits_can_be_searched(tmp_path):
    float_points = dict([fake("conv3", 0, 0.5), fake("square_round", 0, 0.7), fake("square_round", 0, 0.6, bound=3.0)])
    rounded = {p: {"w8a8": f, "w4a8": fake("", 0, 0.1)[1]} for p, f in float_points.items()}
    rows = deform_grid.bits_rows(rounded, float_points | dict([fake(TUNED, 0, 0.65)]))
    (tmp_path / "points.csv").write_text(rows_to_csv(rows))
    points = read_points(tmp_path / "points.csv", ("variant", "width", "bound", "weight_bits"))
    asked = {"width": 1.0, "bound": 7}
    for variant, bits, wanted in (("conv3", 8, 0.5), ("conv3", 4, 0.1), (TUNED, 4, 0.65), (TUNED, 8, 0.65)):
        found = points.find({"variant": variant, "weight_bits": bits, **asked})
        assert found["accuracy"] == pytest.approx(wanted)


def rows_for_figure():
    results = {p: f for v in VARIANTS for p, f in fakes(**{v: (0.6, 0.62)}).items()}
    latency = {"conv3": 3.0, "conv3_w4a8": 3.0, "depthwise": 1.0, "depthwise_w4a8": 1.0, "deform_free": 2.0}
    prices = {p: {"latency_ms": latency.get(p.variant, 1.5), "accelerator_ms": 1.0} for p in results}
    low = {"conv3": 0.59, "deform_free": 0.4}
    rounded = {
        p: {"w8a8": f, "w4a8": fake("", 0, low.get(p.variant, 0.3))[1]} for p, f in results.items() if not p.base
    }
    return deform_tables.variant_rows(results, prices, rounded)


def test_only_what_the_engine_computes_stands_on_the_front():
    """In floating point all are equal; in integers the rounded free form falls far, and the fine-tuned depthwise one leads."""
    rows = rows_for_figure()
    assert [m.main["variant"] for m in deform_figure.front(rows)] == ["depthwise_w4a8"]
    for r in rows:
        if r["variant"] == "conv3_w4a8":
            r["w4a8_ap50"] = 0.7
        if r["variant"] == "deform_free":
            r["float_ap50"] = 0.99
    assert [m.main["variant"] for m in deform_figure.front(rows)] == ["depthwise_w4a8", "conv3_w4a8"]


def test_figure_shows_both_accuracies_of_every_form_and_the_front():
    axes = deform_figure.plot_front(rows_for_figure())
    texts = [t.get_text() for t in axes.get_legend().get_texts()]
    forms = [v for v in VARIANTS if v not in QUANTIZED]
    assert len(texts) == len(forms) + 2
    assert "square + round (fine-tuned), n = 2" in texts
    assert "deformable, free (rounded), n = 2" in texts
    faces = [line.get_markerfacecolor() for c in axes.containers for line in c.lines[:1]]
    assert faces.count("white") == len(forms) == len(faces) / 2
    assert axes.get_ylabel() == "test AP50, % (filled: engine's integers, W4A8; hollow: float)"


def test_marks_stand_aside_only_where_latencies_are_equal():
    rows = [r for r in rows_for_figure() if r["variant"] in ("conv5", "deform_square")]
    for other, apart in ((1.5, True), (1.5 * 1.002, True), (1.5 * 1.004, False)):
        rows[1]["latency_ms"] = other
        found = deform_figure.marks(rows)
        assert [deform_figure._aside(m, found) != 0 for m in found] == [apart, apart]


def test_figure_without_measured_integers_has_hollow_marks_and_no_front():
    results = fakes(conv3=(0.6,))
    rows = deform_tables.variant_rows(results, {p: {"latency_ms": 1.0} for p in results}, {})
    axes = deform_figure.plot_front(rows)
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["ordinary 3x3 (float only), n = 1"]
