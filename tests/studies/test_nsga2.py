"""NSGA-II on choices: its parts by hand, and its fronts against exhaustive ones and against random search."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

import picojoule as pj
from picojoule.fronts import hypervolume as fast_hypervolume
from picojoule.fronts import non_dominated
from picojoule.sim.designs import price_designs
from picojoule.sim.hardware import load_hardware
from picojoule.studies.designs_engine import run_designs
from picojoule.studies.designs_search import DesignSearch
from picojoule.studies.nsga2 import (
    Rows,
    fresh,
    from_numbers,
    good_population,
    initial,
    keys_of,
    next_generation,
    offspring,
    survivors,
    unseen,
)

Floats = NDArray[np.float64]


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# --- keys and fresh designs -------------------------------------------------------------------------------------------


def test_numbers_run_through_the_full_factorial_last_parameter_fastest() -> None:
    rows = from_numbers(np.arange(12), (2, 3, 2))
    assert rows[:4].tolist() == [[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 1]]
    assert keys_of(rows, (2, 3, 2)) == list(range(12))


def test_keys_of_a_space_beyond_int64_are_different() -> None:
    sizes = (1000,) * 30
    rows = initial(generator(), sizes, 500)
    assert len(set(keys_of(rows, sizes))) == 500
    assert (
        len(next_generation(generator(), rows, np.zeros(500, int), np.zeros(500), sizes, [True] * 30, 40, set())) == 40
    )


def test_unseen_keeps_first_of_equal_rows_and_notes_only_what_it_returns() -> None:
    rows = np.array([[0], [1], [1], [2], [3]])
    seen = {0}
    assert unseen(rows, (9,), 2, seen).tolist() == [[1], [2]]
    assert seen == {0, 1, 2}


@pytest.mark.parametrize("known", [0, 40, 95, 119, 120])
def test_fresh_gives_all_that_is_left_and_no_more(known: int) -> None:
    sizes = (4, 5, 6)
    seen = set(range(known))
    rows = fresh(generator(), sizes, 30, seen)
    keys = keys_of(rows, sizes)
    assert len(keys) == len(set(keys)) == min(30, 120 - known)
    assert not set(keys) & set(range(known))
    assert seen == set(range(known)) | set(keys)


def test_fresh_draws_every_design_as_often() -> None:
    found = np.zeros(12)
    for seed in range(600):
        np.add.at(found, np.array(keys_of(fresh(generator(seed), (3, 4), 3, set()), (3, 4)), dtype=int), 1)
    assert np.abs(found - 150).max() < 5 * math.sqrt(150)


# --- operators --------------------------------------------------------------------------------------------------------


def children_of(parent: list[int], sizes: list[int], ordered: list[bool], count: int = 4000) -> Rows:
    population = np.array([parent])
    return offspring(generator(), population, np.zeros(1, int), np.zeros(1), sizes, ordered, count)


def test_a_parameter_changes_with_probability_one_over_parameters() -> None:
    children = children_of([5, 1, 2, 0], [10, 3, 4, 1], [True, False, False, False])
    changed = (children != [5, 1, 2, 0]).mean(axis=0)
    assert changed[:3] == pytest.approx([0.25] * 3, abs=0.03)
    assert changed[3] == 0  # a single choice


def test_an_ordered_parameter_mostly_steps_to_neighbors_and_a_category_goes_anywhere() -> None:
    children = children_of([50, 50], [101, 101], [True, False], 20_000)
    steps = np.abs(children[children[:, 0] != 50, 0] - 50)
    assert (steps == 1).mean() == pytest.approx(0.8 * 0.5 + 0.2 * 0.02, abs=0.02)
    assert (steps == 2).mean() == pytest.approx(0.8 * 0.25 + 0.2 * 0.02, abs=0.02)
    assert np.abs(children[children[:, 1] != 50, 1] - 50.0).mean() == pytest.approx(25.5, abs=1)


def test_steps_turn_round_at_the_ends() -> None:
    children = children_of([0, 2], [4, 3], [True, True])
    assert children.min() == 0 and children[:, 0].max() <= 3 and children[:, 1].max() == 2
    assert (children[:, 0] != 0).mean() == pytest.approx(0.5, abs=0.04)


def test_a_child_takes_each_parameter_from_one_of_its_parents() -> None:
    population = np.array([[0] * 200, [1] * 200])
    children = offspring(generator(), population, np.zeros(2, int), np.zeros(2), [2] * 200, [False] * 200, 400)
    ones = children.mean(axis=1)
    mixed = (ones > 0.3) & (ones < 0.7)
    assert mixed.mean() == pytest.approx(0.45, abs=0.08)  # half the pairs differ, nine in ten are crossed
    assert ((ones < 0.05) | (ones > 0.95))[~mixed].all()


def test_the_better_rank_wins_then_the_emptier_place() -> None:
    population = np.arange(3)[:, None]
    ranks, crowding = np.array([0, 0, 1]), np.array([1.0, 2.0, np.inf])
    drawn = offspring(generator(), population, ranks, crowding, [3] * 1, [False], 0)
    assert drawn.shape == (0, 1)
    wide = np.repeat(population, 500, axis=1)  # mutation touches one parameter in 500: the first tells the parent
    parents = np.median(offspring(generator(), wide, ranks, crowding, [3] * 500, [False] * 500, 4000), axis=1)
    shares = [(parents == i).mean() for i in range(3)]
    assert shares[1] > shares[0] > shares[2]


# --- selection --------------------------------------------------------------------------------------------------------


def test_survivors_are_fronts_in_order_then_the_emptiest() -> None:
    costs = np.array([[2.0, 2.0], [0.0, 4.0], [4.0, 0.0], [1.0, 3.0], [3.9, 0.1], [5.0, 5.0]])
    best = survivors(costs, np.zeros(6), 4)
    assert best.index.tolist()[:2] == [1, 2]  # the ends
    assert set(best.index.tolist()) == {0, 1, 2, 3}  # number 4 is next to an end
    assert best.ranks.tolist() == [0, 0, 0, 0] and np.isinf(best.crowding[:2]).all()


def test_allowed_designs_come_first_then_the_smallest_violation_then_those_without_a_price() -> None:
    nan = float("nan")
    costs = np.array([[0.0, 0.0], [nan, nan], [9.0, 9.0], [0.0, 0.0], [8.0, 9.0]])
    best = survivors(costs, np.array([0.5, np.inf, 0.0, 0.1, 0.0]), 9)
    assert best.index.tolist() == [4, 2, 3, 0, 1]
    assert best.ranks.tolist() == [0, 1, 2, 3, 4]


def test_a_pool_without_any_allowed_design_still_has_an_order() -> None:
    best = survivors(np.zeros((3, 2)), np.array([3.0, 1.0, 2.0]), 2)
    assert best.index.tolist() == [1, 2] and best.ranks.tolist() == [0, 1]


# --- the search as a whole --------------------------------------------------------------------------------------------

Costs = Callable[[Rows], Floats]
SIZES = (21, 6, 6, 6, 4)


def zdt1(rows: Rows) -> Floats:
    """ZDT1 (Zitzler, Deb, Thiele 2000) on a grid; every tail parameter has its best value somewhere inside."""
    first = rows[:, 0] / 20
    tail = np.abs(rows[:, 1:] - np.array([3, 1, 4, 2])) / np.array([5, 5, 5, 3])
    g = 1 + 9 * tail.mean(axis=1)
    return np.stack([first, g * (1 - np.sqrt(first / g))], axis=1)


def dtlz2(rows: Rows) -> Floats:
    """DTLZ2 (Deb et al. 2002) with three objectives on a grid."""
    a, b = rows[:, 0] / 20 * np.pi / 2, rows[:, 1] / 5 * np.pi / 2
    g = 1 + ((rows[:, 2:] / np.array([5, 5, 3]) - [0.4, 0.6, 1 / 3]) ** 2).sum(axis=1)
    return np.stack([g * np.cos(a) * np.cos(b), g * np.cos(a) * np.sin(b), g * np.sin(a)], axis=1)


def hypervolume(costs: Floats, reference: Floats) -> float:
    """Volume dominated up to a point, by slices along the last objective; slow and plain."""
    inside = costs[(costs < reference).all(axis=1)]
    if costs.shape[1] == 1:
        return float(reference[0] - inside.min()) if len(inside) else 0.0
    levels = np.unique(inside[:, -1])
    heights = np.diff(np.append(levels, reference[-1]))
    return sum(
        float(height) * hypervolume(inside[inside[:, -1] <= level, :-1], reference[:-1])
        for level, height in zip(levels, heights, strict=True)
    )


def front(costs: Floats) -> Floats:
    """Keep what no other row dominates, so that the slices are few."""
    unique = np.unique(costs.round(9), axis=0)
    kept = [c for c in unique if not ((unique <= c).all(axis=1) & (unique < c).any(axis=1)).any()]
    return np.array(kept)


def search(costs_of: Costs, seed: int, trials: int, population: int) -> Floats:
    seen: set[int] = set()
    rows = fresh(generator(seed), SIZES, population, seen)
    costs = costs_of(rows)
    tried = [costs]
    for generation in range(1, trials // population):
        best = survivors(costs, np.zeros(len(costs)), population)
        rows, costs = rows[best.index], costs[best.index]
        draw = np.random.default_rng([seed, generation])
        new = next_generation(
            draw, rows, best.ranks, best.crowding, SIZES, [True] * 4 + [False], population, seen
        )  # fmt: skip
        rows, costs = np.concatenate([rows, new]), np.concatenate([costs, costs_of(new)])
        tried.append(costs[-len(new) :])
    assert len(seen) == trials  # no design twice
    return np.concatenate(tried)


@pytest.mark.parametrize(("costs_of", "trials"), [(zdt1, 800), (dtlz2, 1200)])
def test_reaches_the_true_front_and_beats_random_search(costs_of: Costs, trials: int) -> None:
    """At least 99 % of the hypervolume of all 18,144 designs after pricing 4 to 7 % of them, with each of five seeds."""
    every = front(costs_of(from_numbers(np.arange(math.prod(SIZES)), SIZES)))
    reference = every.max(axis=0) * 1.2 + 0.1
    true = hypervolume(every, reference)
    for seed in range(5):
        found = hypervolume(front(search(costs_of, seed, trials, 40)), reference)
        blind = hypervolume(front(costs_of(fresh(generator(seed), SIZES, trials, set()))), reference)
        assert found >= 0.99 * true
        assert found > blind


NETWORK = """name,
a, 30, 30, 3, 3, 8, 40, 1,
b, 14, 14, 3, 3, 40, 70, 1,
c, 1, 1, 1, 1, 640, 10, 1,
"""


def test_finds_the_front_of_real_designs(tmp_path: Path) -> None:
    """Of 10,800 systolic arrays, 7 % priced: 99 % of the hypervolume of all, with five seeds, and more than by chance."""
    (tmp_path / "net.csv").write_text(NETWORK)
    network, base = pj.load(str(tmp_path / "net.csv")), load_hardware("edge-32x32", {})
    sides, srams = [*range(4, 52, 4)], [8, 16, 32, 64, 128]
    flows = ["os", "ws", "is"]
    space = {"rows": sides, "cols": sides, "dataflow": flows, "ifmap_sram_kib": srams, "filter_sram_kib": srams}

    def found(sampler: Literal["nsga2", "random", "grid"], trials: int, seed: int) -> Floats:
        search = DesignSearch(
            names=list(space), choices=list(space.values()), ordered=[k != "dataflow" for k in space], population=40,
            objectives={"energy_pj": "min", "latency_s": "min", "area_mm2": "min"}, sampler=sampler, seed=seed,
        )  # fmt: skip
        return run_designs(search, lambda keys: price_designs(base, network, keys), trials=trials).values

    every = found("grid", 10_800, 0)
    best = every[non_dominated(every)]
    low, span = best.min(axis=0), np.ptp(best, axis=0)

    def volume(costs: Floats) -> float:
        return fast_hypervolume((costs - low) / span, np.full(3, 1.1))

    true = volume(best)
    for seed in range(5):
        reached = volume(found("nsga2", 800, seed))
        assert reached >= 0.99 * true
        assert reached > volume(found("random", 800, seed))


def test_population_grows_with_the_trials_within_bounds() -> None:
    assert [good_population(t) for t in (1, 100, 1000, 10_000, 10**6)] == [20, 20, 50, 500, 1000]
