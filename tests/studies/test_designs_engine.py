"""Hardware-only studies: which designs are priced, what is kept of each, and the table of them."""

import csv
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from picojoule.sim.errors import InputError
from picojoule.studies.designs_engine import run_designs
from picojoule.studies.designs_search import DesignProgress
from picojoule.studies.designs_table import front_of, table_columns, write_trials_csv
from picojoule.studies.nsga2 import fresh, next_generation, survivors

from .designs_example import CHOICES, NAMES, SPACE, Priced, run_and_write, same, study

# --- what is priced ---------------------------------------------------------------------------------------------------


def test_grid_is_the_full_factorial_with_the_last_key_fastest() -> None:
    columns = run_designs(study(sampler="grid"), Priced, trials=10**9)
    expected = list(itertools.product(*(range(len(c)) for c in CHOICES)))
    assert [tuple(row) for row in columns.indices.tolist()] == expected
    assert columns.note == "all 900 designs of the space are priced"
    part = run_designs(study(sampler="grid"), Priced, trials=7)
    assert part.indices.tolist() == columns.indices[:7].tolist() and part.note == ""


@pytest.mark.parametrize("sampler", ["nsga2", "random"])
@pytest.mark.parametrize("trials", [1, 150, SPACE, SPACE + 1])
def test_designs_are_distinct_until_the_space_is_exhausted(sampler: str, trials: int) -> None:
    columns = run_designs(study(sampler=sampler), Priced, trials=trials)
    assert len({tuple(r) for r in columns.indices.tolist()}) == len(columns.indices) == min(trials, SPACE)
    assert columns.note == ("all 900 designs of the space are priced" if trials > SPACE else "")


@pytest.mark.parametrize("sampler", ["nsga2", "random", "grid"])
def test_price_gets_the_values_of_each_design(sampler: str) -> None:
    calls: list[Mapping[str, NDArray[Any]]] = []

    def price(keys: Mapping[str, NDArray[Any]]) -> Priced:
        calls.append(keys)
        return Priced(keys)

    columns = run_designs(study(sampler=sampler), price, trials=130)
    assert [tuple(c) for c in calls[0]] == [tuple(n) for n in NAMES]
    for place, (name, choices) in enumerate(zip(NAMES, CHOICES, strict=True)):
        given = np.concatenate([c[name] for c in calls]).tolist()
        assert given == [choices[i] for i in columns.indices[:, place]]
        assert {type(v) for v in given} == {type(choices[0])}


def test_the_seed_decides_and_nothing_else() -> None:
    one = run_designs(study(), Priced, trials=130)
    assert same(one, run_designs(study(), Priced, trials=130))
    assert not same(one, run_designs(study(seed=4), Priced, trials=130))


def test_each_generation_follows_from_the_seed_and_its_number() -> None:
    search = study()
    columns = run_designs(search, Priced, trials=60)
    values, states, seen = columns.values, columns.states, set[Any]()
    rows = fresh(np.random.default_rng([3, 0]), search.sizes, 20, seen)
    kept = np.arange(20)
    for generation in (1, 2):
        best = survivors(search.costs(values[kept]), search.violation(values[kept], states[kept]), 20)
        kept = kept[best.index]
        new = next_generation(
            np.random.default_rng([3, generation]), rows[kept], best.ranks, best.crowding, search.sizes, search.ordered, 20, seen
        )  # fmt: skip
        rows = np.concatenate([rows, new])
        kept = np.concatenate([kept, np.arange(20) + 20 * generation])
    assert columns.indices.tolist() == rows.tolist()


def test_impossible_and_failed_designs_are_kept_with_their_sentences() -> None:
    search = study(sampler="grid")
    columns = run_designs(search, Priced, trials=SPACE)
    table = table_columns(search, columns, front_of(search, columns))
    impossible = (table["hardware.rows"] == 8) & (table["hardware.cols"] > 20)
    failed = (table["hardware.rows"] == 16) & (table["hardware.cols"] == 5)
    assert impossible.any() and failed.any()
    expected = np.where(impossible, "infeasible", np.where(failed, "failed", "complete"))
    assert table["state"].tolist() == expected.tolist()
    assert set(table["message"][impossible]) == {f"needs {c} columns, has 20" for c in (21, 22, 23)}
    assert set(table["message"][failed]) == {"energy_pj is nan: this hardware gives no such number"}
    for metric in search.metrics:
        assert np.isnan(table[metric][impossible | failed]).all()
        assert np.isfinite(table[metric][~(impossible | failed)]).all()
    assert not table["on_front"][impossible | failed].any()


def test_values_that_do_not_go_together_fail_alone() -> None:
    def price(keys: Mapping[str, NDArray[Any]]) -> Priced:
        wrong = np.flatnonzero((keys["hardware.cols"] == 12) & (keys["hardware.rows"] == 64))
        if wrong.size:
            raise InputError(
                f"64 rows and 12 columns do not go together at {keys['hardware.clock_mhz'][wrong[0]]:g} MHz"
            )
        return Priced(keys)

    search = study(sampler="grid")
    columns, plain = (run_designs(search, p, trials=SPACE) for p in (price, Priced))
    table = table_columns(search, columns, front_of(search, columns))
    wrong = (table["hardware.cols"] == 12) & (table["hardware.rows"] == 64)
    assert set(table["state"][wrong]) == {"failed"}
    assert table["message"][wrong].tolist() == [
        f"64 rows and 12 columns do not go together at {c:g} MHz" for c in table["hardware.clock_mhz"][wrong]
    ]
    assert (columns.states[~wrong] == plain.states[~wrong]).all()
    assert np.array_equal(columns.values[~wrong], plain.values[~wrong], equal_nan=True)


def test_a_study_whose_first_designs_are_all_refused_is_refused(tmp_path: Path) -> None:
    def price(keys: Mapping[str, NDArray[Any]]) -> Priced:
        raise InputError("rows must be positive")

    with pytest.raises(InputError, match=r"^rows must be positive$"):
        run_designs(study(), price, trials=40, folder=tmp_path)


def test_the_front_is_of_allowed_designs_only() -> None:
    search = study(sampler="grid")
    columns = run_designs(search, Priced, trials=SPACE)
    costs, area = columns.values[:, :2], columns.values[:, 2]
    allowed = (columns.states == 0) & (area <= 15) & (costs[:, 1] <= 1)
    assert 0 < allowed.sum() < SPACE
    better = [((costs[allowed] <= c).all(axis=1) & (costs[allowed] < c).any(axis=1)).any() for c in costs]
    assert front_of(search, columns).tolist() == (allowed & ~np.array(better)).tolist()


def test_the_front_of_many_designs_is_that_of_all_at_once() -> None:
    """More designs than are compared in one block, two objectives with opposite senses."""
    search = study(
        names=["hardware.x"], choices=[range(20_000)], ordered=[True], limits={},
        objectives={"energy_pj": "min", "latency_s": "max"}, sampler="grid",
    )  # fmt: skip

    class Curve:
        def __init__(self, keys: Mapping[str, NDArray[Any]]) -> None:
            x = (keys["hardware.x"] * 7919) % 20_000
            self.totals = {"energy_pj": x / 1.0, "latency_s": np.where(x % 2 == 0, x, -x) / 1.0}
            self.infeasible = np.full(len(x), "", dtype=object)

    columns = run_designs(search, Curve, trials=20_000)
    x = (np.arange(20_000) * 7919) % 20_000
    assert front_of(search, columns).tolist() == (x % 2 == 0).tolist()


def test_nsga2_goes_where_the_limits_are_kept() -> None:
    """An area limit that 6 % of the designs keep: the search finds more of them than chance does."""
    limits = {"area_mm2": (None, 0.7)}
    shares = {}
    for sampler in ("nsga2", "random"):
        search = study(sampler=sampler, limits=limits)
        columns = run_designs(search, Priced, trials=200)
        shares[sampler] = (search.violation(columns.values, columns.states) == 0).mean()
    assert shares["random"] < 0.1
    assert shares["nsga2"] > 2 * shares["random"]


def test_violation_is_relative_to_each_limit_and_adds_up() -> None:
    search = study(limits={"area_mm2": (4.0, 10.0), "latency_s": (None, 0.0)})
    values = np.array([[1.0, 0.0, 5.0], [1.0, 0.0, 15.0], [1.0, 2.0, 3.0], [np.nan] * 3])
    states = np.array([0, 0, 0, 1], dtype=np.int8)
    assert search.violation(values, states).tolist() == [0.0, 0.5, 2.25, np.inf]


def test_unknown_metric_is_named() -> None:
    with pytest.raises(InputError) as error:
        run_designs(study(objectives={"energy_jp": "min"}), Priced, trials=5)
    assert str(error.value) == (
        "unknown metric 'energy_jp'; did you mean 'energy_pj'? (choose from 'area_mm2', 'energy_pj', 'latency_s')"
    )


def test_progress_counts_and_knows_the_best() -> None:
    seen: list[DesignProgress] = []
    search = study()
    columns = run_designs(search, Priced, trials=130, progress=seen.append)
    allowed = search.violation(columns.values, columns.states) == 0
    assert [p.done for p in seen] == [16, 20, 32, 40, 48, 60, 64, 80, 96, 100, 112, 120, 128, 130]
    assert {(p.saved, p.trials) for p in seen} == {(0, 130)}
    assert seen[-1].best == {m: columns.values[allowed, i].min() for i, m in enumerate(search.objectives)}


# --- trials.csv -------------------------------------------------------------------------------------------------------


def test_table_says_what_was_priced(tmp_path: Path) -> None:
    search = study(
        names=["hardware.rows", "hardware.note"], choices=[[8, 16], ["=a,b", True]], ordered=[True, False],
        sampler="grid", limits={"area_mm2": (2.0, 7.0)}, objectives={"energy_pj": "max"},
    )  # fmt: skip

    class Table:
        totals: ClassVar = {
            "energy_pj": np.array([0.1, 1e22, 2.0, np.nan]),
            "area_mm2": np.array([7.000000001, 1.5, 7.0, np.nan]),
        }
        infeasible = np.array(["", "", None, 'needs "more"'], dtype=object)

    columns = run_designs(search, lambda keys: Table(), trials=4)
    write_trials_csv(tmp_path / "trials.csv", search, columns, front_of(search, columns))
    assert (tmp_path / "trials.csv").read_text() == (
        "number,state,fidelity,hardware.rows,hardware.note,energy_pj,area_mm2,violated,on_front,message\n"
        '0,complete,price,8,"\'=a,b",0.1,7.000000001,area_mm2 7.000000001 > 7,false,\n'
        "1,complete,price,8,true,1e+22,1.5,area_mm2 1.5 < 2,false,\n"
        '2,complete,price,16,"\'=a,b",2.0,7.0,,true,\n'
        '3,infeasible,,16,true,,,,false,"needs ""more"""\n'
    )


def test_table_reads_back_as_the_columns(tmp_path: Path) -> None:
    search = study()
    columns = run_and_write(tmp_path, search, 300)
    table = table_columns(search, columns, front_of(search, columns))
    with (tmp_path / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(table) and len(rows) == 300
    for name, column in table.items():
        texts = [row[name] for row in rows]
        if column.dtype == object:
            assert texts == column.tolist()
        elif column.dtype == bool:
            assert texts == [str(v).lower() for v in column.tolist()]
        else:
            assert np.array_equal([float(t or "nan") for t in texts], column, equal_nan=True)
