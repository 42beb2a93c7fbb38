"""Figures of studies and runs: what the axes say and hold, refusals, and the same bytes every time."""

import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import picojoule as pj
from picojoule.figures import (
    importance,
    plot_attainment,
    plot_breakdown,
    plot_front,
    plot_hypervolume,
    plot_importance,
    plot_loss,
    save_study_figures,
)
from picojoule.figures_trials import sort_trials, why_empty
from picojoule.fronts import hypervolume_history, reference_point
from picojoule.sim.errors import InfeasibleError, InputError
from picojoule.sim.report_plots import new_axes, save

from .fake_studies import Limits, Result, study, text

NAN, INF = float("nan"), float("inf")
ACCURACY_ENERGY = {"accuracy": "max", "energy_pj_per_sample": "min"}
ENERGY_LATENCY = {"energy_pj_per_sample": "min", "latency_s": "min"}


def small(name: str = "small") -> Result:
    """Four on the front (trials 0 to 2 and 6), one beaten, one proxy, one outside a limit, one infeasible, one failed."""
    return study(
        ACCURACY_ENERGY,
        {
            "accuracy": [0.9, 0.6, 0.8, 0.7, 0.95, 0.99, 0.6, NAN, NAN],
            "energy_pj_per_sample": [4e6, 1e6, 2e6, 3e6, 9e6, 9e6, 1e6, NAN, NAN],
            "area_mm2": [1.0, 2.0, 3.0, 3.0, 1.0, 9.0, 2.0, NAN, NAN],
        },
        name=name,
        constraints={"area_mm2": Limits(max=5.0)},
        state=text(["complete"] * 7 + ["infeasible", "failed"]),
        fidelity=text(["full"] * 4 + ["proxy", "full", "full", "", ""]),
        violated=text([""] * 5 + ["area_mm2 9 > 5"] + [""] * 3),
        message=text([""] * 7 + ["needs 3 chips", "the loss is not a number"]),
    )


def lines(axes: Any) -> dict[str, tuple[list[float], list[float]]]:
    return {str(li.get_label()): (list(li.get_xdata()), list(li.get_ydata())) for li in axes.get_lines()}


def legend(axes: Any) -> list[str]:
    return [t.get_text() for t in axes.get_legend().get_texts()]


def close(points: Any, xs: list[float], ys: list[float]) -> None:
    np.testing.assert_allclose(points[0], xs)
    np.testing.assert_allclose(points[1], ys)


# --- the front ----------------------------------------------------------------------------------------------------------


def test_front_shows_every_kind_of_trial() -> None:
    axes = plot_front(small())
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("energy per sample, µJ", "accuracy, %")
    drawn = lines(axes)
    close(drawn["front (4)"], [1, 1, 2, 4], [60, 60, 80, 90])
    close(drawn["dominated (1)"], [3], [70])
    close(drawn["proxy only (1)"], [9], [95])
    close(drawn["outside a limit (1)"], [9], [99])
    assert legend(axes)[-2:] == ["infeasible: 1 (not drawn)", "failed: 1 (not drawn)"]
    assert axes.get_legend().get_title().get_text() == "lenet5 on edge-32x32: 9 trials"
    assert axes.get_xscale() == "linear", "less than a decade"


@pytest.mark.parametrize("sense_y", ["min", "max"])
@pytest.mark.parametrize("sense_x", ["min", "max"])
def test_steps_turn_where_the_front_dominates(sense_x: str, sense_y: str) -> None:
    values = {
        "energy_pj_per_sample": np.array([2e6, 1e6, 3e6]),
        "latency_s": np.array([2e-3, 3e-3, 1e-3] if sense_x == sense_y else [2e-3, 1e-3, 3e-3]),
    }
    made = study(dict(zip(values, (sense_x, sense_y), strict=True)), values)
    axes = plot_front(made, x="energy_pj_per_sample", y="latency_s")
    line = next(li for li in axes.get_lines() if li.get_label() == "front (3)")
    assert line.get_drawstyle() == "steps-post"
    xs, ys = np.array(line.get_xdata()), np.array(line.get_ydata())
    for corner_x, corner_y in zip(xs[1:], ys[:-1], strict=True):  # where a post step turns
        nowhere_worse_x = xs >= corner_x if sense_x == "max" else xs <= corner_x
        nowhere_worse_y = ys >= corner_y if sense_y == "max" else ys <= corner_y
        assert (nowhere_worse_x & nowhere_worse_y).sum() == 2, "dominated by both points that the corner joins"


def test_ranges_knee_and_names() -> None:
    made = small()
    ranged: list[dict[str, Any]] = [dict(row) for row in made.front]
    for row in ranged:
        row |= {"energy_low": row["energy_pj_per_sample"] / 2, "energy_high": row["energy_pj_per_sample"] * 2}
        row |= {"accuracy_low": row["accuracy"] - 0.02, "accuracy_high": row["accuracy"] + 0.02}
        row["knee"] = row["number"] == 2
    ranged[0]["energy_low"] = None
    axes = plot_front(replace(made, front=tuple(ranged)), names=True)
    bars = [(list(li.get_xdata()), list(li.get_ydata())) for li in axes.get_lines() if li.get_alpha() == 0.3]
    assert ([1.0, 4.0], [80.0, 80.0]) in bars and ([2.0, 2.0], pytest.approx([78.0, 82.0])) in bars
    assert len(bars) == 4 + 3
    assert "bars of energy per sample: 90 % of sampled constants (3 of 4 points have one)" in legend(axes)
    assert "bars of accuracy: 95 % interval" in legend(axes)
    words = [t.get_text() for t in axes.texts]
    assert words.count("knee") == 1 and {"0", "2"} <= set(words)
    assert len(words) == 4, "trials 1 and 6 lie on one spot: one is named"


def test_range_of_a_batch_is_that_of_its_samples() -> None:
    made = study({"energy_pj": "min", "latency_s": "min"}, {"energy_pj": [8e6], "latency_s": [1e-3]})
    front = ({**made.front[0], "energy_low": 1e6, "energy_high": 3e6},)
    axes = plot_front(replace(made, spec=replace(made.spec, batch=4), front=front))
    assert [list(li.get_xdata()) for li in axes.get_lines() if li.get_alpha() == 0.3] == [[4.0, 12.0]]


@pytest.mark.parametrize("sense_y", ["min", "max"])
@pytest.mark.parametrize("sense_x", ["min", "max"])
def test_knee_is_written_on_the_side_where_nothing_is(sense_x: str, sense_y: str) -> None:
    senses = {"energy_pj_per_sample": sense_x, "latency_s": sense_y}
    made = study(senses, {"energy_pj_per_sample": [1e6], "latency_s": [1e-3]})
    axes = plot_front(replace(made, front=({**made.front[0], "knee": True},)), x="energy_pj_per_sample", y="latency_s")
    (word,) = axes.texts
    assert word.get_text() == "knee"
    right, up = word.get_position()
    assert (right > 0, up > 0) == (sense_x == "max", sense_y == "max")


def test_third_objective_is_the_size_and_limits_are_lines() -> None:
    senses = ENERGY_LATENCY | {"area_mm2": "min"}
    values = {"energy_pj_per_sample": [1e6, 2e6, 30e6], "latency_s": [3e-3, 1e-3, 4e-3], "area_mm2": [3.0, 2.0, 1.0]}
    made = study(senses, values, constraints={"latency_s": Limits(max=5e-3)})
    axes = plot_front(made)
    labels = legend(axes)
    assert "front in all 3 objectives (3)" in labels and "best in these two (2)" in labels
    assert "size: area 1 mm²" in labels and "size: area 3 mm²" in labels
    assert "limit: latency ≤ 5 ms" in labels
    assert axes.get_xscale() == "log" and axes.get_yscale() == "linear"
    sizes = axes.collections[0].get_sizes()
    assert sizes[0] > sizes[1] > sizes[2]
    other = plot_front(made, x="area_mm2")
    assert (other.get_xlabel(), other.get_ylabel()) == ("area, mm²", "energy per sample, µJ")


def test_front_against_a_parameter_and_of_one_objective() -> None:
    axes = plot_front(small(), x="hardware.rows", y="accuracy")
    assert axes.get_xlabel() == "hardware.rows"
    one = plot_front(study({"latency_s": "min"}, {"latency_s": [2e-3, 1e-3, 3e-3]}))
    assert (one.get_xlabel(), one.get_ylabel()) == ("trial", "latency, ms")
    assert one.collections[0].get_offsets().tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize(
    "values",
    [[], [1e6], [2e6, 2e6, 2e6], [1e6, NAN, INF], [NAN], [0.0, 1e6, 2e7]],
    ids=["empty", "one", "equal", "not finite", "nothing", "zero"],
)
def test_odd_studies_are_drawn(values: list[float], tmp_path: Path) -> None:
    made = study(
        ENERGY_LATENCY, {"energy_pj_per_sample": values, "latency_s": values}, params={"a.b": np.array(values)}
    )
    save_study_figures(made, tmp_path)
    finite = sum(np.isfinite(values))
    assert sorted(p.name for p in tmp_path.iterdir()) == (["hypervolume.png"] if finite else []) + ["pareto.png"]
    axes = plot_front(made)
    assert any(label.startswith("front") for label in legend(axes))
    assert axes.get_xscale() == "linear"


def test_many_dominated_are_sampled_and_it_is_said() -> None:
    values = np.linspace(1, 2, 20_000)
    made = study(ENERGY_LATENCY, {"energy_pj_per_sample": values, "latency_s": values})
    axes = plot_front(made)
    label = "dominated (19,999; a sample of 5,000)"
    assert label in legend(axes)
    xs, _ = lines(axes)[label]
    assert len(xs) == 5_000 and xs == sorted(xs)
    assert lines(plot_front(made))[label][0] == xs, "the same sample every time"


# --- how a search went --------------------------------------------------------------------------------------------------


def test_hypervolume_by_hand() -> None:
    #                    infeasible  proxy  all else counts
    made = study(
        ENERGY_LATENCY,
        {"energy_pj_per_sample": [NAN, 1e6, 4e6, 2e6, 3e6], "latency_s": [NAN, 1e-3, 1e-3, 3e-3, 2e-3]},
        state=text(["infeasible"] + ["complete"] * 4),
        fidelity=text(["", "proxy", "full", "full", "full"]),
    )
    axes = plot_hypervolume(made)
    # The reference is a tenth of the front's range beyond the worst: 4.2 µJ, 3.2 ms; of 0.44 + 0.36 + 1.2:
    xs, ys = lines(axes)["lenet5 on edge-32x32 (5 trials)"]
    volume = [0, 0, 0.2 * 2.2, 0.44 + 2.2 * 0.2 - 0.04, 0.44 + 0.4 + 1]
    np.testing.assert_allclose(xs, [0, 3, 4, 5, 5])
    np.testing.assert_allclose(ys, [0, *(100 * v / volume[-1] for v in volume[2:]), 100])
    assert legend(axes)[1:] == ["reference point:", "  energy per sample 4.2 µJ", "  latency 3.2 ms"]
    assert axes.get_ylabel() == "hypervolume, % of the last"


def test_hypervolume_of_seeds_has_a_median() -> None:
    axes = plot_hypervolume([small("a"), small("b"), small("c")])
    drawn = lines(axes)
    assert {"a (9 trials)", "b (9 trials)", "c (9 trials)", "median of 3"} <= set(drawn)
    assert drawn["median of 3"] == drawn["a (9 trials)"]
    assert "  accuracy 57 %" in legend(axes)


@pytest.mark.parametrize("objectives", [2, 3])
def test_hypervolume_of_many_trials_is_that_of_every_trial(objectives: int) -> None:
    names = ("energy_pj_per_sample", "latency_s", "area_mm2")[:objectives]
    values = np.random.default_rng(0).integers(0, 40, (objectives, 4_000)).astype(float)  # ties are common
    values[:, 7] = NAN
    made = study(dict.fromkeys(names, "min"), dict(zip(names, values, strict=True)))
    costs = values.T
    whole = hypervolume_history(costs, reference_point(costs))
    xs, ys = next(iter(lines(plot_hypervolume(made)).values()))
    drawn = np.interp(np.arange(1, 4_001), xs, np.arange(len(xs))).astype(int)
    np.testing.assert_allclose(np.array(ys)[drawn], 100 * whole / whole[-1], rtol=1e-9)


def test_attainment_by_hand() -> None:
    def seed(energies: list[float], latencies: list[float], name: str) -> Result:
        return study(ENERGY_LATENCY, {"energy_pj_per_sample": energies, "latency_s": latencies}, name=name)

    seeds = [seed([1e6, 3e6], [3e-3, 1e-3], "a"), seed([2e6], [2e-3], "b"), seed([3e6], [3e-3], "c")]
    axes = plot_attainment(seeds)
    drawn = lines(axes)
    close(drawn["best: at least 1 of 3"], [1, 2, 3], [3, 2, 1])
    close(drawn["median: at least 2 of 3"], [2, 3], [3, 2])
    close(drawn["worst: all 3"], [3], [3])
    assert all(li.get_drawstyle() == "steps-post" for li in axes.get_lines() if not li.get_label().startswith("_"))
    right, top = axes.get_xlim()[1], axes.get_ylim()[1]
    assert right > 3 and top > 3
    close(drawn["_best"], [1, 1, NAN, 3, right], [top, 3, NAN, 1, 1])
    close(drawn["_worst"], [3, 3, NAN, 3, right], [top, 3, NAN, 3, 3])
    (shaded,) = axes.patches
    best = [(1, top), (1, 3), (2, 3), (2, 2), (3, 2), (3, 1), (right, 1)]
    np.testing.assert_allclose(shaded.get_xy(), [*best, (right, 3), (3, 3), (3, top), (1, top)])
    assert shaded.get_xy()[0].tolist() == shaded.get_xy()[-1].tolist()


@pytest.mark.parametrize("sense_y", ["min", "max"])
@pytest.mark.parametrize("sense_x", ["min", "max"])
def test_attainment_of_one_point_runs_out_to_the_bad_ends(sense_x: str, sense_y: str) -> None:
    senses = {"energy_pj_per_sample": sense_x, "latency_s": sense_y}
    x_first = not (sense_x == "max" and sense_y == "min")
    seeds = [study(senses, {"energy_pj_per_sample": [v * 1e6], "latency_s": [v * 1e-3]}) for v in (2.0, 2.0)]
    axes = plot_attainment(seeds)
    marks = [li for li in axes.get_lines() if not li.get_label().startswith("_")]
    assert [li.get_marker() for li in marks] == ["o", "o"]
    bad_x, bad_y = (
        ends[0 if sense == "max" else 1]
        for ends, sense in zip(
            (axes.get_xlim(), axes.get_ylim()), (sense_x, sense_y) if x_first else (sense_y, sense_x), strict=True
        )
    )
    close(lines(axes)["_best"], [2, 2, NAN, 2, bad_x], [bad_y, 2, NAN, 2, 2])
    assert abs(bad_x - 2) > 0.05 and abs(bad_y - 2) > 0.05


def test_attainment_of_an_objective_to_be_large() -> None:
    axes = plot_attainment([small("a"), small("b")])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("energy per sample, µJ", "accuracy, %")
    close(lines(axes)["best: at least 1 of 2"], [1, 2, 4], [60, 80, 90])
    (shaded,) = axes.patches
    corners = shaded.get_xy()
    assert corners[0].tolist() == [1, axes.get_ylim()[0]], "accuracy is bad at the bottom"
    assert [axes.get_xlim()[1], 90] in corners.tolist(), "energy at the right"
    assert corners.min(axis=0).tolist() == [1, axes.get_ylim()[0]] and corners.max(axis=0).tolist() == [
        axes.get_xlim()[1],
        90,
    ]


# --- importance ---------------------------------------------------------------------------------------------------------


def factorial(noise: float = 0.0) -> Result:
    """Energy is decided by rows, latency by dataflow; depth decides nothing."""
    rows, flow, depth = np.meshgrid([8, 16, 32, 64], [0, 1, 2], np.arange(10))
    names = text([("os", "ws", "is")[i] for i in flow.ravel()])
    random = np.random.default_rng(0)
    n = rows.size
    return study(
        ENERGY_LATENCY,
        {
            "energy_pj_per_sample": rows.ravel() * (1 + noise * random.random(n)),
            "latency_s": 10.0 ** flow.ravel(),
        },
        params={
            "hardware.rows": text(rows.ravel().tolist()),
            "hardware.dataflow": names,
            "hardware.depth": depth.ravel(),
        },
    )


def test_importance_by_hand() -> None:
    found = {(row["objective"], row["parameter"]): row for row in importance(factorial())}
    assert found["energy_pj_per_sample", "hardware.rows"]["share"] == pytest.approx(1.0)
    assert found["latency_s", "hardware.dataflow"]["share"] == pytest.approx(1.0)
    for pair in (("energy_pj_per_sample", "hardware.dataflow"), ("latency_s", "hardware.depth")):
        assert found[pair]["share"] == pytest.approx(0.0, abs=1e-12), "a balanced design"
        levels = 3 if "dataflow" in pair[1] else 8
        mean = (levels - 1) / 119  # of eta^2 when nothing is there
        assert mean < found[pair]["noise"] < 4 * mean


def test_importance_is_kruskal_wallis_over_n_less_one() -> None:
    made = factorial(noise=3.0)
    energy, rows = made.columns["energy_pj_per_sample"], made.columns["hardware.rows"]
    n = len(energy)
    assert len(set(energy)) == n, "no ties, so the textbook's short form holds"
    ranks = np.argsort(np.argsort(energy)) + 1
    sums = [ranks[rows == value].sum() ** 2 / (rows == value).sum() for value in (8, 16, 32, 64)]
    h = 12 / (n * (n + 1)) * sum(sums) - 3 * (n + 1)
    found = importance(made, "energy_pj_per_sample")
    assert found[0]["parameter"] == "hardware.rows" and found[0]["share"] == pytest.approx(h / (n - 1))


def test_importance_figure_marks_what_is_noise() -> None:
    axes = plot_importance(factorial(noise=0.5))
    assert [t.get_text() for t in axes.get_yticklabels()][-1] == "hardware.depth"
    bars = [bar for bar in axes.patches if bar.get_width() > 0]
    assert sum(bar.get_fill() for bar in bars) == 2, "two are clear of the noise"
    assert all(bar.get_width() < 10 for bar in bars if not bar.get_fill())
    ticks = [li for li in axes.get_lines() if li.get_marker() == "|" and len(li.get_xdata()) == 1]
    assert len(ticks) == 6 and all(0 < li.get_xdata()[0] < 20 for li in ticks)
    assert {"energy per sample", "latency", "unfilled: within the noise"} <= set(legend(axes))


def test_importance_of_equal_values_is_nothing() -> None:
    made = study(ENERGY_LATENCY, {"energy_pj_per_sample": [1.0] * 12, "latency_s": np.arange(12)})
    assert {row["share"] for row in importance(made)} == {0.0}
    plot_importance(made)


# --- runs ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    path = tmp_path_factory.mktemp("net") / "two.csv"
    path.write_text(
        "name,ifmap h,ifmap w,filter h,filter w,channels,filters,stride,\na,18,18,3,3,8,16,1,\nb,16,16,1,1,16,24,1,\n"
    )
    net = pj.load(str(path))
    return [pj.evaluate(net, name, batch=2) for name in ("edge-32x32", "isaac")]


def test_breakdown_adds_up_to_the_totals(reports: list[Any], tmp_path: Path) -> None:
    axes = plot_breakdown(reports)
    tops = np.zeros(2)
    for bars in axes.containers:
        np.testing.assert_allclose([bar.get_y() for bar in bars], tops, rtol=1e-12)
        tops += [bar.get_height() for bar in bars]
    np.testing.assert_allclose(tops, [r.totals["energy_pj"] / 2 * 1e-6 for r in reports])
    static = next(bars for bars in axes.containers if bars.get_label() == "static")
    np.testing.assert_allclose(
        [b.get_height() for b in static], [r.totals["energy_static_pj"] / 2 * 1e-6 for r in reports]
    )
    assert [t.get_text() for t in axes.texts] == [f"{top:.3g}" for top in tops]
    assert axes.get_ylabel() == "energy per sample, µJ"
    assert len({bars.patches[0].get_hatch() for bars in axes.containers}) == len(axes.containers), "told without color"
    (tmp_path / "00003").mkdir()
    (tmp_path / "00003" / "report.json").write_text(reports[0].to_json())
    again = plot_breakdown([tmp_path / "00003"])
    assert [t.get_text() for t in again.texts] == [f"{tops[0]:.3g}"]
    assert [t.get_text() for t in again.get_xticklabels()] == ["00003"]


def test_many_runs_are_picked_evenly(reports: list[Any]) -> None:
    axes = plot_breakdown([reports[0]] * 60)
    assert len(axes.get_xticklabels()) == 24 and axes.get_xlabel() == "24 of 60 runs, evenly picked"


def test_losses_and_use_fill_the_array(reports: list[Any]) -> None:
    axes = plot_loss(reports[:1])
    heights = {bars.get_label(): bars[0].get_height() for bars in axes.containers}
    assert sum(heights.values()) == pytest.approx(100) and set(heights) > {"used"}
    assert next(iter(heights)) == "used"


# --- refusals -----------------------------------------------------------------------------------------------------------

THREE = study(ENERGY_LATENCY | {"area_mm2": "min"}, {m: [1.0] for m in (*ENERGY_LATENCY, "area_mm2")}, name="three")
NO_TRIAL = study(ENERGY_LATENCY, {m: [] for m in ENERGY_LATENCY})
FAILED = replace(small("f"), columns={**small().columns, "state": text(["failed"] * 9)})


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plot_front(small(), x="area"), "small: no column 'area'; did you mean 'area_mm2'?"),
        (lambda: plot_front(small(), x="accuracy", y="accuracy"), "a figure needs two different columns, got 'accuracy' twice"),
        (lambda: plot_front(small(), x="message"), "column 'message' holds no numbers; choose an objective or a number"),
        (lambda: plot_importance(small()), "importance needs at least 10 complete trials, the study has 6; search on with"),
        (
            lambda: plot_importance(factorial(), "latency"),
            "unknown objective 'latency'; did you mean 'latency_s'? (choose from 'energy_pj_per_sample', 'latency_s')",
        ),
        (lambda: plot_hypervolume([]), "nothing to draw: give at least one study"),
        (lambda: plot_hypervolume(FAILED), "f: no trial counts, so there is no hypervolume to draw"),
        (
            lambda: plot_attainment([small("a"), factorial()]),
            "a has accuracy (max), energy_pj_per_sample (min), study has energy_pj_per_sample (min), latency_s (min)",
        ),
        (lambda: plot_attainment([THREE]), "an attainment surface needs two objectives, the studies have 3"),
        (lambda: plot_attainment([FAILED]), "no study has a front, so nothing is attained"),
        (lambda: plot_breakdown([]), "nothing to draw: give at least one report or run folder"),
        (lambda: plot_breakdown(["gone"]), "gone/report.json: no such file; expected the report.json of `evaluate --out`"),
    ],
)  # fmt: skip
def test_refusals(draw: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        draw()


@pytest.mark.parametrize("content", ["[]", "{}", '{"layers": 3}', "{", '{"network": {"batch": 0}}'])
def test_torn_report(content: str, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(content)
    message = f"{tmp_path}/report.json: not a report of picojoule (torn or edited?); run `evaluate --out` again"
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        plot_breakdown([tmp_path])


def limited(latencies: list[float], violated: list[str], **limits: Limits) -> Result:
    values = {"energy_pj_per_sample": [1.0, 2.0, 3.0], "latency_s": latencies}
    return study(ENERGY_LATENCY, values, constraints=limits, violated=text(violated))


@pytest.mark.parametrize(
    ("made", "kind", "message"),
    [
        (FAILED, InputError, "f: no trial is complete (9 told: 9 failed); the first failed, trial 7: needs 3 chips"),
        (NO_TRIAL, InputError, "study: holds no trial yet; run `picojoule search` on it"),
        (
            replace(small(), columns={**small().columns, "fidelity": text(["proxy"] * 9), "state": text(["complete"] * 9)}),
            InputError,
            "small: no trial is complete (9 told: 2 failed, 7 only a proxy); the first failed, trial 7: needs 3 chips",
        ),
        (
            limited([3.0, 2.0, 2.5], ["latency_s 3 > 1", "latency_s 2 > 1", "latency_s 2.5 > 1"], latency_s=Limits(max=1.0)),
            InfeasibleError,
            "study: none of 3 complete trials meets latency_s <= 1 (closest: 2, trial 1); loosen the limit or widen the space",
        ),
        (
            limited(
                [3.0, 2.0, 0.9],
                ["latency_s 3 > 1", "latency_s 2 > 1", "energy_pj_per_sample 3 > 2.9"],
                latency_s=Limits(max=1.0),
                energy_pj_per_sample=Limits(max=2.9),
            ),
            InfeasibleError,
            "study: none of 3 complete trials meets all constraints at once; closest is trial 2: energy_pj_per_sample 3 > 2.9; "
            "loosen the limit or widen the space",
        ),
    ],
    ids=["failed", "no trial", "proxies", "one limit", "two limits"],
)  # fmt: skip
def test_why_a_front_is_empty(made: Any, kind: type[Exception], message: str) -> None:
    assert not sort_trials(made).counted.any()
    reason = why_empty(made)
    assert type(reason) is kind and str(reason) == message


def test_a_front_has_no_reason_to_be_empty() -> None:
    assert why_empty(small()) is None


# --- files --------------------------------------------------------------------------------------------------------------


def test_study_figures_are_the_same_bytes_again(reports: list[Any], tmp_path: Path) -> None:
    made = factorial(noise=0.5)
    for name in ("a", "b"):
        run = tmp_path / name / "front" / f"{made.front[0]['number']:05d}"
        run.mkdir(parents=True)
        (run / "report.json").write_text(reports[0].to_json())
        save_study_figures(made, tmp_path / name)
    pictures = sorted(p.name for p in (tmp_path / "a").glob("*.png"))
    assert pictures == ["breakdown.png", "hypervolume.png", "importance.png", "pareto.png"]
    for name in pictures:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_axes_of_the_caller_are_used(tmp_path: Path) -> None:
    for draw in (plot_front, plot_hypervolume):
        axes = new_axes(5, 4)
        assert draw(small(), axes=axes) is axes
        save(axes, tmp_path / "x.png")
    picture = io.BytesIO((tmp_path / "x.png").read_bytes())
    assert picture.read(4) == b"\x89PNG"
