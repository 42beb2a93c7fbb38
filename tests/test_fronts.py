"""Knees, attainment surfaces and the probability of a place on the front: by hand, by definition, by closed form."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from picojoule.fronts import attainment, knee, non_dominated, probability_non_dominated, sample_energies
from picojoule.sim.errors import InputError
from picojoule.sim.technology import all_constants, sample_totals

Costs = NDArray[np.float64]
INF, NAN = float("inf"), float("nan")
few = st.sampled_from([0.0, 1.0, 2.0, 3.0])
plane = st.lists(st.tuples(few, few), min_size=1, max_size=6)


# --- the knee -----------------------------------------------------------------------------------------------------------


def test_knee_by_hand() -> None:
    assert knee([]) is None
    assert knee([[NAN, 1.0], [INF, 0.0]]) is None
    assert knee([[7.0, 7.0]]) == 0
    assert knee([[5.0, 0.0], [1.0, 9.0]]) == 1  # two points: the one with the smaller first cost
    assert knee([[3.0, 3.0], [3.0, 3.0]]) == 0
    assert knee([[0.0, 10.0], [10.0, 0.0], [4.0, 4.0], [2.0, 3.0], [3.0, 2.9], [9.0, 9.0]]) == 3
    assert knee([[0.0, 10.0], [9.0, 9.0], [10.0, 0.0]]) == 0  # bulges outward: an end
    assert knee([[10.0, 0.0], [7.0, 3.0], [0.0, 10.0], [3.0, 7.0]]) == 2  # straight: all are equal
    assert knee([[0.1 * i, 0.7 - 0.07 * i] for i in range(5)]) == 0  # and but for rounding
    assert knee([[-1.7e308, 1.0], [0.0, 0.1], [1.7e308, 0.0]]) == 1
    assert knee([[0.0, 1.0], [0.1, 0.1], [0.1, 0.1], [1.0, 0.0], [NAN, -5.0], [-INF, 5.0]]) == 1


@pytest.mark.parametrize("power", [0.3, 0.5, 0.8])
def test_knee_of_a_curve_is_where_its_slope_is_that_of_the_line(power: float) -> None:
    x = np.linspace(0, 1, 1001)
    y = (1 - x**power) ** (1 / power)  # a superellipse, symmetric: the knee is where x = y
    row = knee(np.stack((x * 1e6, y * 1e-3 - 5), axis=1))
    assert row is not None and x[row] == pytest.approx(0.5 ** (1 / power), abs=2e-3)


def test_knee_uses_the_plane_through_the_best_of_each_objective() -> None:
    # The normal n of the plane through the ends solves ends n = 1.
    ends = np.array([[0.0, 0.5, 0.5], [1.0, 0.0, 0.2], [0.2, 1.0, 0.0]])
    normal = np.linalg.solve(ends, np.ones(3))
    assert (normal > 0).all()
    # Of the others, the second has the smallest sum, and the third is as good as the first end but for its sum.
    inner = np.array([[0.3, 0.35, 0.15], [0.1, 0.05, 0.55], [0.0, 0.3, 1.0]])
    costs = np.vstack((ends, inner)) * [10, 1e-6, 300] + [5, 0, -1]
    assert non_dominated(costs).all()
    distances = (1 - np.vstack((ends, inner)) @ normal) / np.linalg.norm(normal)
    assert knee(costs) == np.argmax(distances) == 3
    assert knee([[0, 0, 1.0], [1, 1, 0], [0.2, 0.2, 0.2]]) == 2  # one point is best twice: no plane


@given(rows=plane, seed=st.integers(0, 99), scale=st.sampled_from([1.0, 1e-9, 1e300]))
def test_knee_does_not_depend_on_order_or_scale(rows: list[tuple[float, float]], seed: int, scale: float) -> None:
    costs = np.array(rows)
    row = knee(costs)
    assert row is not None and non_dominated(costs)[row]
    order = np.random.default_rng(seed).permutation(len(costs))
    moved = knee(costs[order] * [scale, 1])
    assert moved is not None and costs[order][moved].tolist() == costs[row].tolist()
    beyond = np.vstack((costs, [[4.0, 4.0], [INF, -1.0]]))
    assert knee(beyond) == row


# --- attainment ---------------------------------------------------------------------------------------------------------


def test_attainment_by_hand() -> None:
    a, b, c = [[1, 5], [3, 3], [5, 1]], [[2, 4], [4, 2]], [[1, 6], [6, 1]]
    assert attainment([a, b, c], 1).tolist() == [[1, 5], [2, 4], [3, 3], [4, 2], [5, 1]]
    assert attainment([a, b, c], 2).tolist() == [[1, 6], [2, 5], [3, 4], [4, 3], [5, 2], [6, 1]]
    assert attainment([a, b, c], 3).tolist() == [[2, 6], [6, 2]]
    assert attainment([a, b, []], 3).tolist() == []
    assert attainment([[[NAN, 0], [INF, 1], [2, 2], [3, 3]]], 1).tolist() == [[2, 2]]
    for fronts, level, said in (
        ([a], 0, "level must be from 1 to the number of runs (1), got 0"),
        ([a], 2, "level must be from 1 to the number of runs (1), got 2"),
        ([], 1, "level must be from 1 to the number of runs (0), got 1"),
        ([[[1, 2, 3]]], 1, "costs have 3 objectives where 2 are expected"),
    ):
        with pytest.raises(InputError) as caught:
            attainment(fronts, level)
        assert str(caught.value) == said


@given(runs=st.lists(plane, min_size=1, max_size=4), data=st.data())
def test_attainment_counts_runs(runs: list[list[tuple[float, float]]], data: st.DataObject) -> None:
    level = data.draw(st.integers(1, len(runs)))
    corners = attainment(runs, level)
    assert non_dominated(corners).all()
    for x in range(-1, 4):
        for y in range(-1, 4):
            count = sum(any(a <= x and b <= y for a, b in run) for run in runs)
            assert (count >= level) == any(a <= x and b <= y for a, b in corners)


# --- how sure a place on the front is -----------------------------------------------------------------------------------


def by_draw(fixed: Costs, sampled: Costs) -> list[float]:
    draws = [non_dominated(np.column_stack((fixed, draw))) for draw in sampled]
    return np.mean(draws, axis=0).tolist()


@pytest.mark.parametrize(("held", "moving"), [(0, 2), (1, 1), (2, 1), (1, 2), (1, 0)])
def test_probability_is_the_share_of_draws(held: int, moving: int) -> None:
    rng = np.random.default_rng([held, moving])
    for distinct in (3, 1000):
        fixed = rng.integers(0, distinct, (20, held)).astype(float)
        sampled = rng.integers(0, distinct, (31, 20, moving)).astype(float)
        sampled[rng.random(sampled.shape) < 0.03] = NAN
        sampled[rng.random(sampled.shape) < 0.03] = INF
        fixed[rng.random(fixed.shape) < 0.03] = NAN
        shares = probability_non_dominated(fixed, sampled)
        assert shares.tolist() == pytest.approx(by_draw(fixed, sampled))
        still = np.repeat(sampled[:1], 5, axis=0)
        assert probability_non_dominated(fixed, still).tolist() == non_dominated(np.hstack((fixed, still[0]))).tolist()


def energy_names(count: int) -> Sequence[str]:
    return [name for name, c in sorted(all_constants().items()) if c.low < c.value < c.high][:count]


def test_sampled_energies_are_the_totals_of_each_bill() -> None:
    a, b, c = energy_names(3)
    bills = [{a: 3.0, b: 1.0}, {c: 2.0, f"{a}*{b}": 1.0}, {}, {b: 1.0, a: 3.0}]
    energies = sample_energies(bills, draws=50, seed=4)
    assert energies.shape == (50, 4)
    for column, bill in zip(energies.T, bills, strict=True):
        assert column == pytest.approx(sample_totals(bill, 50, 4), rel=1e-14)
    assert (energies[:, 0] == energies[:, 3]).all()
    assert (sample_energies(bills[:1], 20, 4)[:, 0] == energies[:20, 0]).all()
    assert sample_energies([], draws=5).shape == (5, 0)
    with pytest.raises(InputError, match=f"the energy of '{a}' must be finite and not negative, got -1"):
        sample_energies([{a: -1.0}])
    with pytest.raises(InputError, match="number of samples must be at least 1"):
        sample_energies(bills, draws=0)


def test_probability_under_uncertain_constants() -> None:
    a, b = energy_names(2)
    same = [[0.5]] * 3

    def shares(bills: list[dict[str, float]], fixed: list[list[float]]) -> list[float]:
        return probability_non_dominated(fixed, sample_energies(bills)).tolist()

    assert shares([{a: 1.0}, {a: 1.01}, {a: 1.0}], same) == [1, 0, 1]  # what designs share cancels
    assert shares([{a: 1.0}, {a: 1.01}, {a: 1.0}], [[0.5], [0.4], [0.6]]) == [1, 1, 0]
    assert shares([{a: 0.1, b: 0.2}] * 3, same) == [1, 1, 1]
    assert shares([{a: 0.3}, {a: 0.1 * 3}], same[:2]) == [1, 1]  # 0.1 x 3 is 0.3 but for rounding
    first, second = shares([{a: 1.0}, {b: 1.0}], same[:2])
    assert 0.02 < first < 0.98 and first + second == pytest.approx(1)


def test_probability_refuses_shapes_that_do_not_fit() -> None:
    for fixed, sampled in (
        (np.ones((2, 1)), np.ones((4, 3))),
        (np.ones(2), np.ones((4, 2))),
        ([[1.0]], np.ones((0, 1))),
    ):
        with pytest.raises(InputError, match="probabilities need fixed costs of points x objectives and sampled costs"):
            probability_non_dominated(fixed, sampled)
