"""Hypervolumes: closed forms, counted cells, drawn points, another package; histories and reference points."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from picojoule.dominance import non_dominated
from picojoule.hypervolumes import hypervolume, hypervolume_history, reference_point
from picojoule.sim.errors import InputError

Costs = NDArray[np.float64]
INF, NAN = float("inf"), float("nan")


@st.composite
def grids(draw: st.DrawFn, most: int = 4) -> Costs:
    """Costs on a grid of whole numbers from 0 to 5, so that cells can be counted; 4 and 5 are beyond the reference 4."""
    columns = draw(st.integers(1, most))
    row = st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0, 4.0, 5.0]), min_size=columns, max_size=columns)
    return np.array(draw(st.lists(row, min_size=1, max_size=10)))


def cells(costs: Costs) -> int:
    """Count the cells of the grid up to 4 whose lower corner a row is nowhere worse than."""
    corners = np.stack(np.meshgrid(*[np.arange(4.0)] * costs.shape[1], indexing="ij"), axis=-1)
    return int((costs <= corners[..., None, :]).all(axis=-1).any(axis=-1).sum())


@given(costs=grids())
def test_volume_is_the_number_of_cells(costs: Costs) -> None:
    reference = [4.0] * costs.shape[1]
    assert hypervolume(costs, reference) == cells(costs)
    assert hypervolume(costs[::-1], reference) == cells(costs)
    assert hypervolume_history(costs, reference).tolist() == [cells(costs[: i + 1]) for i in range(len(costs))]


@pytest.mark.parametrize("columns", [1, 2, 3, 4, 5, 6])
def test_boxes_and_stairs_in_closed_form(columns: int) -> None:
    assert hypervolume([[0.5] * columns], [2.0] * columns) == pytest.approx(1.5**columns)
    # A unit box in each corner but the last: two boxes a x 1 x 1 ... and 1 x b x ... share the unit cube.
    tall, wide = [0.0] + [2.0] * (columns - 1), [2.0] * (columns - 1) + [0.0]
    union = 3 if columns == 1 else 3 + 3 - 1
    assert hypervolume([tall, wide], [3.0] * columns) == pytest.approx(union)


def test_simplex_of_stairs() -> None:
    """Points i + j + k = n on a grid dominate sum over cells of the corner: n (n + 1) (n + 2) / 6 cells are left out."""
    n = 12
    points = [[i, j, n - i - j] for i in range(n + 1) for j in range(n + 1 - i)]
    left_out = n * (n + 1) * (n + 2) // 6
    assert hypervolume(points, [n + 1] * 3) == (n + 1) ** 3 - left_out
    flat = [[i, n - i] for i in range(n + 1)]
    assert hypervolume(flat, [n + 1] * 2) == (n + 1) ** 2 - n * (n + 1) // 2


@given(
    rows=st.lists(st.tuples(*[st.fractions(0, 1, max_denominator=50)] * 3), min_size=1, max_size=6),
)
def test_three_objectives_by_inclusion_and_exclusion(rows: list[tuple[Fraction, Fraction, Fraction]]) -> None:
    exact = Fraction(0)
    for chosen in range(1, 1 << len(rows)):
        members = [row for i, row in enumerate(rows) if chosen >> i & 1]
        x, y, z = (max(column) for column in zip(*members, strict=True))
        exact += (-1) ** (len(members) + 1) * (1 - x) * (1 - y) * (1 - z)
    assert hypervolume([[float(v) for v in row] for row in rows], [1, 1, 1]) == pytest.approx(float(exact), abs=1e-12)


@pytest.mark.parametrize("columns", [1, 2, 3, 4, 5])
def test_every_objective_has_its_own_unit_and_zero(columns: int) -> None:
    rng = np.random.default_rng(columns)
    costs, unit, zero = rng.random((15, columns)), np.array([2.0, 30, 0.5, 7, 1e-3])[:columns], rng.random(columns)
    expected = hypervolume(costs, np.ones(columns)) * unit.prod()
    assert hypervolume(costs * unit + zero, unit + zero) == pytest.approx(expected)
    assert hypervolume(costs[:, ::-1] * unit + zero, unit + zero) == pytest.approx(expected)
    assert hypervolume_history(costs * unit + zero, unit + zero)[-1] == pytest.approx(expected)


@pytest.mark.parametrize("columns", [2, 3, 4, 5])
def test_share_of_drawn_points(columns: int) -> None:
    rng = np.random.default_rng(columns)
    costs, drawn = rng.random((12, columns)), rng.random((40_000, columns))
    share = np.mean([(costs <= point).all(axis=1).any() for point in drawn[:: 40_000 // 8000]])
    volume = hypervolume(costs, [1.0] * columns)
    assert abs(share - volume) < 4 * np.sqrt(volume * (1 - volume) / 8000)


@pytest.mark.parametrize("columns", [1, 2, 3, 4, 5])
def test_another_package_agrees(columns: int) -> None:
    from optuna._hypervolume import compute_hypervolume

    rng = np.random.default_rng(columns)
    for count in (1, 2, 7, 40):
        costs = np.floor(rng.random((count, columns)) * 10) / 10 if count == 7 else rng.random((count, columns))
        theirs = compute_hypervolume(costs, np.ones(columns))
        assert hypervolume(costs, np.ones(columns)) == pytest.approx(theirs, rel=1e-12)


@given(costs=grids(3), point=st.lists(st.sampled_from([0.0, 1.0, 2.5, 4.0, 9.0]), min_size=3, max_size=3))
def test_more_points_never_mean_less(costs: Costs, point: list[float]) -> None:
    reference = [4.0] * costs.shape[1]
    more = np.vstack((costs, point[: costs.shape[1]]))
    before, after = hypervolume(costs, reference), hypervolume(more, reference)
    assert after >= before
    new = (more[-1] < 4).all() and not (costs <= more[-1]).all(axis=1).any()
    assert (after > before) == new


def test_what_contributes_nothing_and_what_is_refused() -> None:
    assert hypervolume([], [1, 1]) == 0
    assert hypervolume([[1, 0], [0, 1], [NAN, 0], [INF, -1], [2, 2]], [1, 1]) == 0
    assert hypervolume([[0.5, 0.5], [NAN, 0]], [1, 1]) == 0.25
    assert hypervolume_history([[NAN, 0], [0.5, 0.5], [0.5, 0.5], [2, 0]], [1, 1]).tolist() == [0, 0.25, 0.25, 0.25]
    assert hypervolume_history([], [1, 1, 1]).tolist() == []
    for costs, reference, said in (
        ([[0, 0]], [1, INF], "the reference point must be one finite number for each objective, got [1.0, inf]"),
        ([[0, 0]], [1], "costs have 2 objectives where 1 are expected"),
        ([[0, -INF]], [1, 1], "a cost of -inf dominates an infinite volume; give finite costs"),
        ([[0] * 7], [1] * 7, "the hypervolume of 7 objectives takes too long; give at most 6 objectives"),
    ):
        for function in (hypervolume, hypervolume_history):
            with pytest.raises(InputError) as caught:
                function(costs, reference)
            assert str(caught.value) == said


@pytest.mark.parametrize("columns", [1, 2, 3, 4])
def test_history_is_the_volume_of_every_beginning(columns: int) -> None:
    rng = np.random.default_rng(columns)
    costs = rng.random((40, columns)) * 1.3
    history = hypervolume_history(costs, [1.0] * columns)
    assert (np.diff(history) >= 0).all()
    expected = [hypervolume(costs[: i + 1], [1.0] * columns) for i in range(40)]
    assert history == pytest.approx(expected, rel=1e-12)


# --- reference points ---------------------------------------------------------------------------------------------------

ordinary = st.floats(-1e300, 1e300) | st.sampled_from([0.0, 1.0, INF, NAN])


@given(costs=st.lists(st.tuples(ordinary, ordinary), min_size=1, max_size=8))
def test_reference_is_worse_than_every_finite_cost(costs: list[tuple[float, float]]) -> None:
    values = np.array(costs)
    whole = values[~np.isnan(values).any(axis=1)]
    assume(np.isfinite(whole).any(axis=0).all())
    reference = reference_point(values)
    assert (reference > np.where(np.isfinite(whole), whole, -INF)).all()
    assert reference_point(values[::-1]).tolist() == reference.tolist()


def test_reference_by_hand() -> None:
    costs = [[1.0, 9.0], [3.0, 4.0], [8.0, 9.5], [NAN, 50.0], [INF, 50.0], [INF, INF]]
    assert non_dominated(np.array(costs)).tolist() == [True, True, False, False, False, False]
    assert reference_point(costs) == pytest.approx([8 + 0.1 * 2, 50 + 0.1 * 5])
    assert reference_point([[5.0, 0.0, -20.0]]) == pytest.approx([5.5, 0.1, -18])
    for costs in ([], [[NAN, 1.0]], [[INF, 1.0]]):
        with pytest.raises(InputError) as caught:
            reference_point(costs)
        assert str(caught.value) == "objective 0 of the costs has no finite value, so a reference point has no place"
