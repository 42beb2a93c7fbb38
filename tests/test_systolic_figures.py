"""The figures of the systolic study say what the reports say."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import picojoule as pj
from picojoule.accel import systolic
from picojoule.systolic_figures import CAUSE_WORDS, energy_parts, plot_front3, plot_layers, slot_shares


@pytest.fixture(scope="module")
def reports() -> list[pj.Report]:
    """Return a small depthwise network on two arrays."""
    network = pj.load("dscnn-fashion")
    return [pj.evaluate(network, "edge-16x16", overrides={"dataflow": flow}) for flow in ("os", "ws")]


def test_parts_and_slots_are_all_there_is(reports: list[pj.Report]) -> None:
    for report in reports:
        for layer in report.layers:
            assert sum(energy_parts(layer).values()) == pytest.approx(layer.energy_pj)
            if layer.unit == "array":
                assert sum(slot_shares(layer).values()) == pytest.approx(1.0)


def test_bars_add_up_to_the_layers(reports: list[pj.Report]) -> None:
    axes = plot_layers(reports, ["os", "ws"])
    figure = axes.get_figure()
    assert figure is not None
    for row, report in enumerate(reports):
        layers = [lay for lay in report.layers if lay.unit == "array"]
        cycles, energy, slots = figure.axes[3 * row : 3 * row + 3]
        for panel, whole in (
            (cycles, sum(lay.latency_cycles for lay in layers) / 1e3),
            (energy, sum(lay.energy_pj for lay in layers) / 1e6),
            (slots, 100.0 * len(layers)),
        ):
            assert sum(bar.get_width() for bar in panel.patches) == pytest.approx(whole)
    words = {text.get_text() for text in figure.axes[2].get_legend().get_texts()}
    assert {"multiplying", "edge folds", "skew, load, drain"} <= words


def test_a_cause_without_a_word_is_refused_not_left_out(reports: list[pj.Report]) -> None:
    layers = [replace(lay, utilization_lost={**lay.utilization_lost, "gremlins": 0.1}) for lay in reports[0].layers]
    with pytest.raises(ValueError, match="has no word for slots lost to gremlins; add it to CAUSE_WORDS"):
        plot_layers([replace(reports[0], layers=layers)], ["os"])


def test_every_cause_that_a_layer_can_lose_slots_to_has_a_word() -> None:
    named = set()
    for file in Path(systolic.__file__).parent.glob("*.py"):
        for part in re.findall(
            r"\blost\s*=\s*\{(.*?)\},?\n|return \{(\"imbalance\".*?)\}", file.read_text(), re.DOTALL
        ):
            named |= set(re.findall(r'"(\w+)":', "".join(part)))
    assert {"imbalance", "closed_gates", "padding"} <= named <= CAUSE_WORDS.keys()


def test_front_shows_every_point_that_nothing_beats() -> None:
    rng = np.random.default_rng(0)
    points = {m: rng.uniform(1.0, 2.0, 300) for m in ("latency_s", "energy_pj_per_sample", "area_mm2")}
    front = points["latency_s"] < 1.1
    axes = plot_front3(points, front, "title", most=50)
    beaten, best = axes.collections
    assert len(beaten.get_offsets()) == 50
    assert len(best.get_offsets()) == front.sum()
