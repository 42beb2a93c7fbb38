"""Orders of output channels: greedy, improved, clustered, and what they gain on random weights."""

import numpy as np
import pytest

from picojoule.accel.systolic import _ordering_kernels, ordering
from picojoule.accel.systolic.ordering import (
    address_table,
    combined_distance,
    normalized_distance,
    order_by_distance,
    order_flips,
    order_of,
    order_rows,
)
from picojoule.accel.systolic.ordering_check import random_gain, random_weight_table, random_weights
from picojoule.sim.errors import InputError


def distances(weights: np.ndarray, bits: int = 8) -> np.ndarray:
    words = weights & ((1 << bits) - 1)
    return np.array([[sum(int(x).bit_count() for x in a ^ b) for b in words] for a in words])


def greedy(distance: np.ndarray, start: int) -> list[int]:
    """Twin: the nearest row not yet visited, of equals the first."""
    order, left = [start], [i for i in range(len(distance)) if i != start]
    while left:
        order.append(min(left, key=lambda row: (distance[order[-1], row], row)))
        left.remove(order[-1])
    return order


def walk(distance: np.ndarray, order: np.ndarray) -> int:
    return int(distance[order[:-1], order[1:]].sum())


@pytest.mark.parametrize("start", [0, 7])
def test_greedy_equals_its_twin_in_every_segment(start: int) -> None:
    weights = random_weights(40, 21, seed=3)
    orders = order_rows(weights, segment=8, start=start)
    assert orders.shape == (3, 40)
    for order, low in zip(orders, (0, 8, 16), strict=True):
        assert order.tolist() == greedy(distances(weights[:, low : low + 8]), start)


def test_flips_of_an_order_are_the_steps_of_its_walk() -> None:
    weights = random_weights(20, 10, seed=4)
    orders = order_rows(weights, segment=4)
    by_hand = sum(
        walk(distances(weights[:, low : low + 4]), order) for order, low in zip(orders, (0, 4, 8), strict=True)
    )
    assert order_flips(weights, orders, segment=4) == by_hand
    assert order_flips(weights) == walk(distances(weights), np.arange(20))
    shared = np.random.default_rng(0).permutation(20)
    assert order_flips(weights, shared, segment=4) == order_flips(weights, shared) == walk(distances(weights), shared)


def test_improvement_saves_what_it_says_and_never_hurts() -> None:
    rng = np.random.default_rng(5)
    for rows in (2, 3, 5, 30):
        distance = distances(rng.integers(-127, 128, (rows, 6))).astype(np.int32)
        order = order_by_distance(distance)
        better = order.copy()
        saved = _ordering_kernels.improve_path(distance, better, 0, rows, 50)
        assert sorted(better.tolist()) == list(range(rows))
        assert walk(distance, order) - walk(distance, better) == saved >= 0
        again = better.copy()
        assert _ordering_kernels.improve_path(distance, again, 0, rows, 1) == 0


def test_improvement_finds_the_best_of_all_orders_of_a_line() -> None:
    """Points on a line: the best walk is from end to end."""
    places = np.array([5, 0, 9, 2, 7, 1, 8, 3])
    distance = np.abs(places[:, None] - places).astype(np.int32)
    order = order_by_distance(distance, sweeps=20)
    assert walk(distance, order) == 9


def test_clusters_stay_together_in_every_segment() -> None:
    weights = random_weights(30, 16, seed=6)
    orders = order_rows(weights, segment=4, clusters=4, sweeps=3)
    sets = [[frozenset(piece.tolist()) for piece in np.split(order, [8, 16, 23])] for order in orders]
    assert all(found == sets[0] for found in sets)
    assert [len(piece) for piece in sets[0]] == [8, 8, 7, 7]
    free = order_flips(weights, order_rows(weights, segment=4, sweeps=3), segment=4)
    assert free <= order_flips(weights, orders, segment=4) < order_flips(weights)


def test_address_tables() -> None:
    table = address_table(512, 16)
    assert (table.entries, table.bits_per_entry, table.bits) == (8192, 9, 73728)
    assert address_table(512, 16, clusters=8).bits_per_entry == 6
    assert address_table(512, 1).bits == 0


def test_rows_that_share_an_order_add_up() -> None:
    rng = np.random.default_rng(8)
    a, b = rng.integers(-127, 128, (9, 4)), rng.integers(-127, 128, (9, 7))
    assert np.array_equal(combined_distance([a, b], [3, 1]), 3 * distances(a) + distances(b))
    huge = combined_distance([a, b], [2**40, 2**40])
    assert huge.max() > 0 and np.array_equal(np.argsort(huge[0]), np.argsort((distances(a) + distances(b))[0]))


@pytest.mark.parametrize("bits", [2, 8, 12, 20])
def test_any_width_of_word(bits: int) -> None:
    weights = np.random.default_rng(9).integers(1 - 2 ** (bits - 1), 2 ** (bits - 1), (12, 5))
    assert order_rows(weights, bits=bits)[0].tolist() == greedy(distances(weights, bits), 0)


def test_what_does_not_stream_has_no_order() -> None:
    weights = np.ones((2, 4, 3), dtype=int)
    assert order_of(weights, "is", 2, "as_is") is None
    assert order_of(weights[:, :1], "is", 2, "segments") is None
    found = order_of(weights, "is", 2, "segments")
    assert found is not None and found.shape == (2, 2, 4)
    with pytest.raises(InputError, match="unknown weight order 'segment'; did you mean 'segments'"):
        order_of(weights, "is", 2, "segment")


def test_an_order_that_is_there_stays_unless_a_better_one_is_found() -> None:
    """Rows in an improved order: greedy alone would undo some of it."""
    greedy_is_worse = 0
    for seed in range(12):
        weights = random_weights(24, 6, seed=seed)
        plain, improved = order_rows(weights), order_rows(weights, sweeps=20)
        assert order_flips(weights, improved) <= order_flips(weights, plain)
        ordered = weights[improved[0]]
        found = order_of(ordered[None], "is", 6, "segments")
        assert found is not None and order_flips(ordered, found[0]) <= order_flips(ordered)
        greedy_is_worse += order_flips(ordered, order_rows(ordered)) > order_flips(ordered)
    assert greedy_is_worse > 3


def test_long_orders_are_improved_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = random_weights(50, 6, seed=2)
    plain = order_rows(weights)
    whole = order_flips(weights, order_rows(weights, sweeps=20))
    monkeypatch.setattr(ordering, "PIECE_ROWS", 20)
    found = order_rows(weights, sweeps=20)
    assert [set(found[0, low : low + 20]) for low in (0, 20, 40)] == [
        set(plain[0, low : low + 20]) for low in (0, 20, 40)
    ]
    assert whole <= order_flips(weights, found) < order_flips(weights, plain)


def test_matrices_that_share_an_order_may_have_words_of_different_widths() -> None:
    rng = np.random.default_rng(8)
    a, b = rng.integers(-(2**15), 2**15, (9, 4)), rng.integers(-8, 8, (9, 7))
    assert np.array_equal(combined_distance([a, b], [3, 1], bits=[16, 4]), 3 * distances(a, 16) + distances(b, 4))


def test_rows_too_wide_for_32_bits_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordering, "_MOST_ROW_BITS", 64)
    combined_distance([np.ones((3, 7), dtype=int)], [5])
    with pytest.raises(InputError, match="rows of 64 bits are too wide to share an order; give them less than 64"):
        combined_distance([np.ones((3, 7), dtype=int), np.ones((3, 1), dtype=int)], [5, 1])


def test_bad_requests_are_refused() -> None:
    weights = np.ones((4, 3), dtype=int)
    for keywords, message in (
        ({"start": 4}, "starts with one of 4 rows, got 4"),
        ({"clusters": 5}, "make 1 to 4 clusters, got 5"),
        ({"segment": 0}, "at least one column wide"),
        ({"sweeps": -1}, "must not be negative"),
    ):
        with pytest.raises(InputError, match=message):
            order_rows(weights, **keywords)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="at most 16384 at a time"):
        order_rows(np.ones((20000, 1), dtype=int))


# Goals: gain of greedy order from row 0 on independent Laplace weights, 8 bits, a step per channel (issue 7).
GAINS = {1: 13.9, 4: 2.27, 8: 1.69, 16: 1.42, 32: 1.27, 64: 1.18, 512: 1.05}
SPARSE_GAINS = {0.8: 2.2, 0.95: 2.7}


def test_random_weights_gain_what_is_expected() -> None:
    dense = random_weights(512, 512)
    for segment in (8, 32, 512):
        narrow = dense[:, : max(64, segment)]
        assert random_gain(narrow, segment).gain == pytest.approx(GAINS[segment], rel=0.1)
    for sparsity, gain in SPARSE_GAINS.items():
        weights = random_weights(512, 512, sparsity=sparsity)[:, :64]
        assert random_gain(weights, 8, sparsity=sparsity).gain == pytest.approx(gain, rel=0.1)


def test_distances_of_random_weights() -> None:
    """Flips per bit: 8 bits 0.50 and 0.36-0.43 (sign-magnitude), 4 bits 0.46-0.47 and 0.33-0.37, sparse ones fewer."""
    eight, four = (random_weights(512, 256, bits=bits) for bits in (8, 4))
    assert normalized_distance(eight) == pytest.approx(0.50, abs=0.005)
    assert 0.36 <= normalized_distance(eight, code="sign_magnitude") <= 0.43
    assert normalized_distance(four, bits=4) == pytest.approx(0.465, abs=0.015)
    assert 0.32 <= normalized_distance(four, bits=4, code="sign_magnitude") <= 0.37
    assert normalized_distance(random_weights(512, 256, sparsity=0.8)) == pytest.approx(0.18, abs=0.01)
    assert normalized_distance(random_weights(512, 256, sparsity=0.95)) == pytest.approx(0.049, abs=0.003)


@pytest.mark.full
def test_the_whole_table_of_random_gains() -> None:
    rows = random_weight_table()
    expected = [*GAINS.values(), *SPARSE_GAINS.values()]
    assert [r.gain for r in rows] == [pytest.approx(g, rel=0.1) for g in expected]
    better = random_weight_table(segments=(64, 512), sparse=(), sweeps=10)
    assert all(b.gain >= a.gain for a, b in zip(rows[5:7], better, strict=True))
