"""Domination: fronts against the definition, ranks against peeling, crowding against the paper's loop."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from picojoule import dominance, pareto
from picojoule.dominance import crowding_distance, non_dominated, non_domination_ranks
from picojoule.sim.errors import InputError

INF, NAN = float("inf"), float("nan")
Costs = NDArray[np.float64]

# Few distinct values, so that ties and duplicates are common.
few = st.sampled_from([0.0, 1.0, 2.0, 3.0, -1.0, -0.0, INF, -INF, NAN])


@st.composite
def tables(draw: Any, most: int = 25, values: st.SearchStrategy[float] = few) -> Costs:
    columns = draw(st.integers(1, 5))
    row = st.lists(values, min_size=columns, max_size=columns)
    return np.array(draw(st.lists(row, min_size=1, max_size=most)))


def dominates(a: Costs, b: Costs) -> bool:
    return bool((a <= b).all() and (a < b).any())


def front_by_definition(costs: Costs) -> list[bool]:
    return [not np.isnan(c).any() and not any(dominates(o, c) for o in costs if not np.isnan(o).any()) for c in costs]


def by_matrix(costs: Costs) -> Costs:
    """Return the same for hundreds of rows without NaN."""
    nowhere_worse = (costs[:, None] <= costs).all(axis=2)
    return ~(nowhere_worse & ~nowhere_worse.T).any(axis=0)


def peeled(costs: Costs) -> list[int]:
    """Return ranks by taking away one front after the other."""
    ranks, left, rank = np.full(len(costs), -1), ~np.isnan(costs).any(axis=1), 0
    while left.any():
        front = np.zeros(len(costs), dtype=bool)
        front[left] = front_by_definition(costs[left])
        ranks[front], left, rank = rank, left & ~front, rank + 1
    return [int(r) if r >= 0 else max(1, rank) for r in ranks]


# --- the front ----------------------------------------------------------------------------------------------------------


@given(costs=tables(), seed=st.integers(0, 99))
def test_front_is_what_the_definition_says_in_any_order(costs: Costs, seed: int) -> None:
    kept = non_dominated(costs)
    assert kept.tolist() == front_by_definition(costs)
    order = np.random.default_rng(seed).permutation(len(costs))
    assert non_dominated(costs[order]).tolist() == kept[order].tolist()


@pytest.mark.parametrize("columns", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("distinct", [4, 30, 100_000])
def test_longer_sets_are_divided_rightly(columns: int, distinct: int) -> None:
    rng = np.random.default_rng([columns, distinct])
    for count in (15, 16, 17, 33, 64, 400):
        costs = rng.integers(0, distinct, (count, columns)).astype(float)
        costs[rng.random(costs.shape) < 0.02] = INF
        assert (non_dominated(costs) == by_matrix(costs)).all()


@pytest.mark.parametrize("columns", [2, 3, 4])
def test_shells_whose_front_is_long(columns: int) -> None:
    rng = np.random.default_rng(columns)
    directions = np.abs(rng.normal(size=(900, columns)))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    assert non_dominated(-directions).all()
    costs = -directions * np.where(np.arange(900) % 3 == 0, 1, rng.uniform(0.97, 1, 900))[:, None]
    kept = non_dominated(costs)
    assert (kept == by_matrix(costs)).all() and 300 <= kept.sum() < 900


@pytest.mark.parametrize("columns", [2, 3, 4])
@pytest.mark.parametrize("kind", ["uniform", "ties", "shell", "infinities", "sums that overflow"])
def test_filter_of_large_sets_drops_dominated_rows_only(
    kind: str, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(7)
    costs = rng.random((5000, columns))
    if kind == "ties":
        costs = np.floor(costs * 4)
        costs[:, -1] = 2.0
    elif kind == "shell":
        costs = -costs / np.linalg.norm(costs, axis=1)[:, None] * rng.uniform(0.5, 1, 5000)[:, None]
    elif kind == "infinities":
        costs[rng.random(costs.shape) < 0.3] = INF
        costs[rng.random(costs.shape) < 0.01] = -INF
    elif kind == "sums that overflow":
        costs = 1.5e308 + costs * 1e307
    left = dominance._filtered(costs, np.arange(5000))
    assert len(left) < 5000 or kind == "sums that overflow"
    kept = non_dominated(costs)
    assert kept[left].sum() == kept.sum()
    monkeypatch.setattr(dominance, "_MANY", 1 << 60)
    assert (non_dominated(costs) == kept).all()


def test_odd_shapes() -> None:
    assert pareto.non_dominated is non_dominated
    assert non_dominated([]).tolist() == []
    assert non_dominated(np.empty((0, 3))).tolist() == []
    assert non_dominated([[NAN], [INF], [INF]]).tolist() == [False, True, True]
    assert non_dominated([[1.0, INF], [1.0, 2.0], [1.0, 2.0]]).tolist() == [False, True, True]
    for shape in ((3,), (2, 0), (1, 1, 1)):
        with pytest.raises(InputError) as caught:
            non_dominated(np.ones(shape))
        assert str(caught.value) == f"costs must be an array of points x objectives, got shape {shape}"


@pytest.mark.full
@pytest.mark.parametrize("columns", [2, 3, 4])
def test_a_million_points(columns: int) -> None:
    rng = np.random.default_rng(columns)
    costs = np.abs(rng.normal(size=(1_000_000, columns)))
    costs *= -1 / np.linalg.norm(costs, axis=1)[:, None]
    costs[10_000:] *= rng.uniform(0.2, 0.9, 990_000)[:, None]
    kept = non_dominated(costs)
    assert kept[:10_000].all()
    front = costs[kept]
    assert non_dominated(front).all()
    for row in rng.choice(np.flatnonzero(~kept), 100):
        assert ((front <= costs[row]).all(axis=1) & (front < costs[row]).any(axis=1)).any()
    for row in rng.choice(np.flatnonzero(kept), 50):
        assert not ((costs <= costs[row]).all(axis=1) & (costs < costs[row]).any(axis=1)).any()


# --- the fronts behind it -----------------------------------------------------------------------------------------------


@given(costs=tables())
def test_ranks_are_those_of_peeling(costs: Costs) -> None:
    ranks = non_domination_ranks(costs)
    assert ranks.tolist() == peeled(costs)
    assert ((ranks == 0) == non_dominated(costs)).all()


@pytest.mark.parametrize("columns", [1, 2, 3, 4])
def test_ranks_across_blocks(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    costs = np.random.default_rng(columns).integers(0, 9, (150, columns)).astype(float)
    expected = peeled(costs)
    for block in (8, 64, 512):
        monkeypatch.setattr(dominance, "_MATRIX", block)
        assert non_domination_ranks(costs).tolist() == expected


@pytest.mark.full
def test_more_ranks_than_a_short_number_counts() -> None:
    steps = np.random.default_rng(0).permutation(33_000)
    assert (non_domination_ranks(steps[:, None] * np.ones(3)) == steps).all()


@given(
    costs=tables(most=12),
    broken=st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0, INF, NAN]), min_size=12, max_size=12),
)
def test_constrained_ranks_are_those_of_the_definition(costs: Costs, broken: list[float]) -> None:
    violation = np.array(broken[: len(costs)])
    size = np.where(np.isnan(violation), 1e9, np.minimum(violation, 1e8))  # ordered as documented

    def beats(a: int, b: int) -> bool:
        if size[a] <= 0 or size[b] <= 0:
            return bool(size[a] <= 0 and (size[b] > 0 or dominates(costs[a], costs[b])))
        return bool(size[a] < size[b])

    whole = [i for i, c in enumerate(costs) if not np.isnan(c).any()]
    expected, left, rank = np.full(len(costs), -1), set(whole), 0
    while left:
        front = {i for i in left if not any(beats(j, i) for j in left)}
        expected[list(front)] = rank
        left, rank = left - front, rank + 1
    expected[expected < 0] = max(1, rank)
    assert non_domination_ranks(costs, violation).tolist() == expected.tolist()


def test_constrained_ranks_by_hand() -> None:
    costs = [[1.0, 1.0], [5.0, 5.0], [6.0, 6.0], [0.0, 0.0], [NAN, 0.0]]
    assert non_domination_ranks(costs, [0.5, 0.0, 0.0, 3.0, 0.0]).tolist() == [2, 0, 1, 3, 4]
    assert non_domination_ranks(costs[:2], [0.5, 0.1]).tolist() == [1, 0]
    with pytest.raises(InputError, match=r"violation must be one number for each of 2 points, got shape \(3,\)"):
        non_domination_ranks(costs[:2], [0, 0, 0])


# --- crowding -----------------------------------------------------------------------------------------------------------


def crowding_by_the_paper(costs: Costs) -> list[float]:
    """Return the distances in one front without infinities and ties, as the loop of section III-B."""
    distances = [0.0] * len(costs)
    for column in costs.T:
        order = sorted(range(len(costs)), key=lambda i: column[i])
        distances[order[0]] = distances[order[-1]] = INF
        for before, here, after in zip(order, order[1:], order[2:], strict=False):
            distances[here] += (column[after] - column[before]) / (column.max() - column.min())
    return distances


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_crowding_is_that_of_the_paper_on_every_front(columns: int) -> None:
    rng = np.random.default_rng(columns)
    costs = rng.random((60, columns))
    ranks = rng.integers(0, 6, 60)
    distances = crowding_distance(costs, ranks)
    for rank in range(6):
        assert distances[ranks == rank] == pytest.approx(crowding_by_the_paper(costs[ranks == rank]))


def test_crowding_by_hand() -> None:
    def of(costs: list[list[float]]) -> list[float]:
        return crowding_distance(costs, [3] * len(costs)).tolist()

    assert of([[0, 4], [1, 2], [4, 0]]) == [INF, 2.0, INF]
    assert of([[0, 4], [1, 2], [1, 2], [4, 0]]) == [INF, 0.25 + 0.5, 0.75 + 0.5, INF]
    assert of([[0, 4, 7], [1, 2, 7], [4, 0, 7]]) == [INF, 2.0, INF]  # the same everywhere says nothing
    assert of([[1, 1]]) == [INF] and of([[1, 1], [1, 1]]) == [INF, INF]
    assert of([[1, 1]] * 3) == [0, 0, 0]
    assert of([[0, INF], [1, 3], [2, 1], [4, 0]]) == [INF, 0.5 + 2 / 3, 0.75 + 1, INF]
    assert of([[INF, 0], [NAN, 0], [-INF, 1], [INF, INF]]) == [INF, 0, INF, INF]
    assert crowding_distance([], []).tolist() == []
    assert of([[-1.7e308, 3], [0, 1], [1.7e308, 0]]) == [INF, 2.0, INF]
    with pytest.raises(InputError, match=r"ranks must be one number for each of 1 points, got shape \(2,\)"):
        crowding_distance([[1, 2]], [0, 0])


@given(costs=tables(), seed=st.integers(0, 99))
def test_crowding_depends_on_order_for_equal_rows_only(costs: Costs, seed: int) -> None:
    ranks = non_domination_ranks(costs)
    distances = crowding_distance(costs, ranks)
    assert (distances >= 0).all()
    order = np.random.default_rng(seed).permutation(len(costs))
    moved = crowding_distance(costs[order], ranks[order])
    for row in {tuple(c) for c in costs.tolist()}:
        same = (costs == row).all(axis=1)
        assert sorted(distances[same]) == pytest.approx(sorted(moved[same[order]]))
    assert set(distances[np.isnan(costs).any(axis=1)]) <= {0.0}
