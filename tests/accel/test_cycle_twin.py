from itertools import pairwise

import numpy as np
import pytest

from picojoule.accel.systolic import cycle_twin, timing
from picojoule.sim.errors import InputError

CODES = ("twos_complement", "sign_magnitude")


def matrices(rng, groups, m, k, n, low=-128, high=128):
    return [(rng.integers(low, high, (m, k)), rng.integers(low, high, (k, n))) for _ in range(groups)]


def closed_form(dataflow, rows, cols, m, n, k, groups, overlaps):
    code = timing.Dataflow.of(dataflow)
    grid = timing.fold_grid(code, rows, cols, m, n, k)
    together = timing.packed_groups(grid, rows, cols, groups)
    return int(timing.fold_cycles(code, rows, cols, m, n, k, groups, *overlaps, together=together))


def sizes_near(rng, edge):
    """One size of a layer: often just around what fits the array, at times far above it."""
    kind = rng.integers(4)
    if kind == 0:
        return int(rng.integers(1, 6))
    if kind == 1:
        return max(1, edge + int(rng.integers(-1, 2)))
    if kind == 2:
        return max(1, 2 * edge + int(rng.integers(-1, 2)))
    return int(rng.integers(1, 3 * edge + 12))


def compare_random_shapes(count, seed):
    """Compare `count` layers of random shapes; return how often each dataflow came and the groups and overlaps seen."""
    rng = np.random.default_rng(seed)
    seen = {"os": 0, "ws": 0, "is": 0, "overlap": 0, "groups": 0, "vector": 0, "fewer cycles by overlap": 0}
    for _ in range(count):
        dataflow = ("os", "ws", "is")[rng.integers(3)]
        rows, cols = (int(1 if rng.random() < 0.1 else rng.integers(1, 13)) for _ in range(2))
        m, n, k = sizes_near(rng, rows), sizes_near(rng, cols), sizes_near(rng, rows if rng.random() < 0.5 else cols)
        groups = int(rng.integers(2, 9)) if rng.random() < 0.3 else 1
        if groups > 1 and rng.random() < 0.7:  # small enough to stand side by side
            m, n, k = (int(x) for x in rng.integers(1, 4, 3))
        overlaps = bool(rng.integers(2)), bool(rng.integers(2))
        pairs = matrices(rng, groups, m, k, n)
        where = (dataflow, rows, cols, m, n, k, groups, overlaps)
        done = cycle_twin.run_groups(pairs, dataflow, rows, cols, overlap_load=overlaps[0], overlap_drain=overlaps[1])
        expected = np.array([a @ b for a, b in pairs])
        assert np.array_equal(done.outputs, expected), where
        assert done.cycles == closed_form(dataflow, rows, cols, m, n, k, groups, overlaps), where
        assert done.macs == m * n * k * groups, where
        seen[dataflow] += 1
        seen["overlap"] += overlaps[dataflow == "os"]
        seen["groups"] += groups > 1
        seen["vector"] += min(m, n, k) == 1
        seen["fewer cycles by overlap"] += done.cycles < closed_form(
            dataflow, rows, cols, m, n, k, groups, (False, False)
        )
    return seen


def test_outputs_and_cycles_equal_product_and_closed_form():
    seen = compare_random_shapes(500, seed=7)
    assert min(seen.values()) > 50, seen


@pytest.mark.full
def test_outputs_and_cycles_of_twelve_thousand_shapes():
    seen = compare_random_shapes(12_000, seed=2026)
    assert min(seen.values()) > 1_000, seen


@pytest.mark.parametrize("overlaps", [(False, False), (True, True)])
@pytest.mark.parametrize("dataflow", ["os", "ws", "is"])
def test_every_small_shape(dataflow, overlaps):
    """No shape of up to 3 on arrays of up to 3 x 2 is left to chance."""
    rng = np.random.default_rng(0)
    for rows, cols, m, n, k in np.ndindex(3, 2, 3, 3, 3):
        rows, cols, m, n, k = rows + 1, cols + 1, m + 1, n + 1, k + 1
        ((a, b),) = matrices(rng, 1, m, k, n)
        done = cycle_twin.run(a, b, dataflow, rows, cols, overlap_load=overlaps[0], overlap_drain=overlaps[1])
        assert np.array_equal(done.outputs, a @ b)
        assert done.cycles == closed_form(dataflow, rows, cols, m, n, k, 1, overlaps), (rows, cols, m, n, k)


# A 2 x 2 array counted by hand, A = [[1, 2], [3, 4]], B = [[5, 6], [7, 8]]. os: the PEs start in cycles 0, 1, 1, 2 and take
# two operands each, so the last product is made in cycle 3 (4 cycles), and two rows leave: 6. ws: two cycles of loading, then
# row 0 begins one cycle after row 1, the last sum reaches the top of column 1 in cycle 3: 6.
@pytest.mark.parametrize(
    ("dataflow", "weight", "activation", "load", "weight_port", "activation_port"),
    [
        # columns of B from the top: 0,5,7 flips 2+1, 0,6,8 flips 2+3, each through two rows; rows of A: 0,1,2 flips 1+2,
        # 0,3,4 flips 2+3, each through two columns.
        ("os", 16, 16, 0, 8, 8),
        # down column 0 go 7, then 5: row 0 sees 0,7,5 (3+1), row 1 sees 0,7 (3); column 1: 0,8,6 (1+3) and 0,8 (1).
        # columns of A from the left: 0,1,3 flips 1+1, 0,2,4 flips 1+2, each through two columns.
        ("ws", 0, 10, 12, 8, 5),
        # A stands: down column 0 go 2, then 1: 0,2,1 (1+2) and 0,2 (1); column 1: 0,4,3 (1+3) and 0,4 (1); rows of B:
        # 0,5,6 flips 2+2, 0,7,8 flips 3+4, each through two columns.
        ("is", 22, 0, 9, 11, 7),
    ],
)
def test_two_by_two_counted_by_hand(dataflow, weight, activation, load, weight_port, activation_port):
    done = cycle_twin.run(np.array([[1, 2], [3, 4]]), np.array([[5, 6], [7, 8]]), dataflow, 2, 2)
    assert done.outputs.tolist() == [[19, 22], [43, 50]]
    assert done.cycles == 6
    assert (done.weight_flips, done.activation_flips, done.load_flips) == (weight, activation, load)
    assert (done.weight_port_flips, done.activation_port_flips) == (weight_port, activation_port)


def test_what_overlap_can_not_hide():
    """ws, 4 x 1 array, K = 5, N = 2, M = 1: folds of 4, 1, 4, 1 rows stream for 4, 1, 4, 1 cycles.

    Loads of 4, 1, 4, 1 rows: the first is exposed (4), the second and fourth hide behind 4 cycles, the third lasts 3 cycles
    longer than the one-cycle stream beside it: 4 + 4 + 1 + 3 + 4 + 1 = 17 where one after the other takes 20.
    """
    a, b = np.arange(5).reshape(1, 5), np.arange(10).reshape(5, 2)
    assert cycle_twin.run(a, b, "ws", 4, 1).cycles == 20
    assert cycle_twin.run(a, b, "ws", 4, 1, overlap_load=True).cycles == 17
    assert cycle_twin.run(a, b, "ws", 4, 1, overlap_drain=True).cycles == 20


def test_a_drain_outlasts_the_last_fold_which_holds_fewer_groups():
    """os, 6 x 3 array, four groups of M = 2, N = 1, K = 1: folds of three groups (6 x 3) and of one (2 x 1).

    The first streams for 1 + 6 + 3 - 2 = 8 cycles and drains for 6, behind which the second's 1 + 2 + 1 - 2 = 2 cycles are
    hidden; its own drain of 2 follows: 16. One after the other: 8 + 6 + 2 + 2 = 18.
    """
    pairs = matrices(np.random.default_rng(2), 4, 2, 1, 1)
    for overlap, cycles in ((True, 16), (False, 18)):
        assert cycle_twin.run_groups(pairs, "os", 6, 3, overlap_drain=overlap).cycles == cycles
        assert closed_form("os", 6, 3, 2, 1, 1, 4, (False, overlap)) == cycles


# --- flips: the sequence of words that each register sees, written down fold by fold -----------------------------------


def word_of(value, bits, code):
    return (1 << (bits - 1)) - value if code == "sign_magnitude" and value < 0 else value % (1 << bits)


def flips_of(words, bits, code):
    coded = [0, *(word_of(int(w), bits, code) for w in words)]
    return sum((old ^ new).bit_count() for old, new in pairwise(coded))


def blocks(groups, row_size, col_size, rows, cols):
    """Folds as lists of (group, index) in rows and in columns: groups outermost, then column folds, then row folds."""
    together = max(1, min(rows // row_size, cols // col_size, groups))
    for first in range(0, groups, together):
        members = range(first, min(first + together, groups))
        for col in range(0, col_size, cols):
            for row in range(0, row_size, rows):
                yield (
                    [(g, i) for g in members for i in range(row_size)[row : row + rows]],
                    [(g, j) for g in members for j in range(col_size)[col : col + cols]],
                )


def seen_words(pairs, dataflow, rows, cols):
    """Words every register sees, as {(row, col): words} for left and top operands; the slow and obvious way."""
    groups, (m, k), n = len(pairs), pairs[0][0].shape, pairs[0][1].shape[1]
    left = {at: [] for at in np.ndindex(rows, cols)}
    top = {at: [] for at in np.ndindex(rows, cols)}
    sizes = {"os": (m, n), "ws": (k, n), "is": (k, m)}[dataflow]
    for of_rows, of_cols in blocks(groups, *sizes, rows, cols):
        for i, (g, row) in enumerate(of_rows):
            a, b = pairs[g]
            moving = {"os": a, "ws": a.T, "is": b}[dataflow][row]
            for j, (h, col) in enumerate(of_cols):
                left[i, j].extend(moving)
                a_col, b_col = pairs[h]
                if dataflow == "os":
                    top[i, j].extend(b_col[:, col])
                else:  # the words of rows r-1 to i pass, those of other groups' rows are not sent
                    standing = b_col[:, col] if dataflow == "ws" else a_col[col]
                    top[i, j].extend(standing[line] for q, line in reversed(of_rows[i:]) if q == h)
    return left, top


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("dataflow", ["os", "ws", "is"])
def test_flips_are_those_of_the_words_each_register_sees(dataflow, code):
    rng = np.random.default_rng(3)
    for trial in range(150):
        rows, cols, m, n, k = (int(x) for x in rng.integers(1, 7, 5))
        groups = int(rng.integers(2, 5)) if trial % 3 == 0 else 1
        pairs = matrices(rng, groups, m, k, n, low=-127)
        overlap = bool(trial % 2)
        done = cycle_twin.run_groups(
            pairs, dataflow, rows, cols, code=code, overlap_load=overlap, overlap_drain=overlap
        )
        left, top = seen_words(pairs, dataflow, rows, cols)
        left_flips = {at: flips_of(words, 8, code) for at, words in left.items()}
        top_flips = {at: flips_of(words, 8, code) for at, words in top.items()}
        left_port, top_port = (
            sum(left_flips[i, 0] for i in range(rows)),
            sum(top_flips[0, j] for j in range(cols)),
        )
        moving, standing = sum(left_flips.values()), sum(top_flips.values())
        expected = {
            "os": (standing, moving, 0, top_port, left_port),
            "ws": (0, moving, standing, top_port, left_port),
            "is": (moving, 0, standing, left_port, top_port),
        }[dataflow]
        found = (done.weight_flips, done.activation_flips, done.load_flips)
        assert (*found, done.weight_port_flips, done.activation_port_flips) == expected, (rows, cols, m, n, k, groups)


def test_words_of_different_widths_and_without_sign():
    a, b = np.array([[255, 0, 255]]), np.array([[-8], [7], [-1]])
    done = cycle_twin.run(a, b, "os", 1, 1, bits=4, activation_bits=8)
    assert done.outputs.tolist() == [[-8 * 255 - 255]]
    assert (done.activation_flips, done.weight_flips) == (24, 1 + 4 + 1)  # 1000, 0111, 1111


def test_groups_one_after_the_other():
    pairs = matrices(np.random.default_rng(1), 3, 2, 2, 2)
    apart = cycle_twin.run_groups(pairs, "ws", 6, 6, side_by_side=False)
    alone = [cycle_twin.run(a, b, "ws", 6, 6) for a, b in pairs]
    assert apart.cycles == sum(run.cycles for run in alone) == 3 * 6
    assert cycle_twin.run_groups(pairs, "ws", 6, 6).cycles == 6 + 2 + 6 + 6 - 2  # a load of 6, T + 6 + 6 - 2
    assert np.array_equal(apart.outputs, [run.outputs for run in alone])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataflow": "wss"}, "unknown dataflow 'wss'; choose from 'is', 'os', 'ws'"),
        ({"rows": 0}, "an array needs at least one row and one column, got 0 x 2"),
        ({"bits": 0}, "weights: bits must be between 1 and 32, got 0"),
        ({"code": "gray"}, "unknown number code 'gray'; choose from 'twos_complement', 'sign_magnitude'"),
        ({"bits": 3}, "weights: words of 3 bits (twos_complement) range from -4 to 3, or 0 to 7, got 5 to 8"),
        (
            {"bits": 4, "code": "sign_magnitude"},
            "weights: words of 4 bits (sign_magnitude) range from -7 to 7, got 5 to 8",
        ),
        ({"bits": 31, "activation_bits": 31}, "sums of 2 products of 31 by 31 bits may need more than 63 bits"),
        (
            {"a": np.array([[0.5, 2.0], [3.0, 4.0]])},
            "operands must be integers of a type that int64 holds, got float64, int64; quantize them first",
        ),
        (
            {"a": np.full((2, 2), 2**64 - 1, np.uint64)},
            "operands must be integers of a type that int64 holds, got int64, uint64; quantize them first",
        ),
        (
            {"b": np.ones((3, 2), int)},
            "every group must be a pair a [M, K], b [K, N] of non-empty integer matrices, and there must be one",
        ),
    ],
)
def test_refusals(change, message):
    given = {
        "a": np.array([[1, 2], [3, 4]]),
        "b": np.array([[5, 6], [7, 8]]),
        "dataflow": "os",
        "rows": 2,
        "cols": 2,
    } | change
    with pytest.raises(InputError) as caught:
        cycle_twin.run(**given)
    assert str(caught.value) == message


def test_groups_of_different_shapes_are_refused():
    pairs = [(np.ones((1, 2), int), np.ones((2, 1), int)), (np.ones((2, 2), int), np.ones((2, 1), int))]
    with pytest.raises(InputError, match="all groups of a layer must have the same shapes"):
        cycle_twin.run_groups(pairs, "os", 4, 4)
