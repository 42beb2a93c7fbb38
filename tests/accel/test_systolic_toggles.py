"""Flips of streamed operands: by hand, against the cycle-by-cycle twin, and what reordering may and may not save."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from picojoule.accel.systolic import _toggle_kernels, cycle_twin, toggles
from picojoule.accel.systolic.operand_words import code_words
from picojoule.accel.systolic.ordering import order_of
from picojoule.sim.errors import InputError

DATAFLOWS = ("os", "ws", "is")


def twin_flips(
    weights: np.ndarray, inputs: np.ndarray, dataflow: str, rows: int, cols: int, **keywords: object
) -> tuple[int, ...]:
    run = cycle_twin.run_groups(
        [(x.T, w.T) for x, w in zip(inputs, weights, strict=True)],
        dataflow,
        rows,
        cols,
        **keywords,  # type: ignore[arg-type]
    )
    return (
        run.weight_flips,
        run.activation_flips,
        run.load_flips,
        run.weight_port_flips,
        run.activation_port_flips,
    )


def counted(flips: toggles.Flips) -> tuple[float, ...]:
    return flips.weight, flips.activation, flips.load, flips.weight_port, flips.activation_port


@settings(max_examples=120, deadline=None)
@given(
    groups=st.integers(1, 5),
    sizes=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)),
    array=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    dataflow=st.sampled_from(DATAFLOWS),
    code=st.sampled_from(cycle_twin.CODES),
    bits=st.tuples(st.integers(2, 9), st.integers(2, 9)),
    side_by_side=st.booleans(),
    overlap=st.booleans(),
    seed=st.integers(0, 999),
)
def test_flips_equal_the_cycle_twin(
    groups: int,
    sizes: tuple[int, int, int],
    array: tuple[int, int],
    dataflow: str,
    code: str,
    bits: tuple[int, int],
    side_by_side: bool,
    overlap: bool,
    seed: int,
) -> None:
    m, n, k = sizes
    rng = np.random.default_rng(seed)
    w = rng.integers(1 - 2 ** (bits[0] - 1), 2 ** (bits[0] - 1), (groups, n, k))
    x = rng.integers(1 - 2 ** (bits[1] - 1), 2 ** (bits[1] - 1), (groups, k, m))
    ours = toggles.port_flips(
        w, x, dataflow, *array, weight_bits=bits[0], activation_bits=bits[1], code=code, side_by_side=side_by_side
    )
    twin = twin_flips(
        w,
        x,
        dataflow,
        *array,
        bits=bits[0],
        activation_bits=bits[1],
        code=code,
        side_by_side=side_by_side,
        overlap_load=overlap,
        overlap_drain=overlap,
    )
    assert counted(ours) == twin
    assert ours.macs == groups * m * n * k


def test_an_input_stationary_array_by_hand() -> None:
    """1 x 1 array, two weights 3 and 5 stream past one input: 0 -> 3 (2 bits) -> 5 (2 bits); the input 7 is loaded (3 bits)."""
    flips = toggles.port_flips(np.array([[[3], [5]]]), np.array([[[7]]]), "is", 1, 1)
    assert counted(flips) == (4, 0, 3, 4, 3)


def test_a_weight_stationary_column_by_hand() -> None:
    """Weights 1 (row 0) and 2 (row 1) go in 2 first: row 0 sees 2, 1 (1 + 2 flips), row 1 sees 2 (1 flip)."""
    flips = toggles.port_flips(np.array([[[1, 2]]]), np.array([[[0, 15], [1, 1]]]), "ws", 2, 1)
    assert counted(flips) == (0, 5, 4, 3, 5)


@pytest.mark.parametrize(
    ("dataflow", "field"), [("is", "weight"), ("ws", "activation"), ("os", "weight"), ("os", "activation")]
)
def test_only_pes_on_the_diagonal_multiply(dataflow: str, field: str) -> None:
    """Depthwise groups side by side: the multiplier's flips are those of registers in the blocks, counted one group at a time."""
    rng = np.random.default_rng(5)
    w, x = rng.integers(-9, 9, (4, 2, 3)), rng.integers(-9, 9, (4, 3, 2))
    rows, cols = {"os": (2, 2), "ws": (3, 2), "is": (3, 2)}[dataflow]  # of a group
    whole = toggles.port_flips(w, x, dataflow, 2 * rows, 2 * cols)  # two groups a fold
    alone = 0.0
    for lane in range(2):  # the registers of a block see the groups that come to it, in turn
        some = slice(lane, None, 2)
        alone += getattr(toggles.port_flips(w[some], x[some], dataflow, rows, cols), field)
    assert getattr(whole, f"{field}_mac") == alone
    assert getattr(whole, field) > alone


def test_where_weights_do_not_stream_an_order_saves_nothing() -> None:
    rng = np.random.default_rng(1)
    w, x = rng.integers(-127, 128, (1, 24, 20)), rng.integers(0, 128, (1, 20, 9))
    for dataflow in ("ws", "os"):
        assert order_of(w, dataflow, 8, "segments") is None
        with pytest.raises(InputError, match="changes what streams in dataflow 'is' only, and this is"):
            toggles.port_flips(w, x, dataflow, 8, 8, order=np.arange(24)[None])
    # ws: whatever the order of channels, no weight moves while it multiplies, and activations flip as before
    permuted = toggles.port_flips(w[:, rng.permutation(24)], x, "ws", 8, 8)
    plain = toggles.port_flips(w, x, "ws", 8, 8)
    assert permuted.weight == plain.weight == 0
    assert permuted.activation == plain.activation


@pytest.mark.parametrize("code", cycle_twin.CODES)
def test_where_weights_stream_an_order_saves_flips_and_equals_a_permuted_network(code: str) -> None:
    rng = np.random.default_rng(2)
    w, x = np.rint(rng.laplace(size=(2, 32, 20)) * 20).astype(int).clip(-127, 127), rng.integers(0, 128, (2, 20, 9))
    plain = toggles.port_flips(w, x, "is", 8, 8, code=code)
    channels = order_of(w, "is", 8, "channels", code=code)
    segments = order_of(w, "is", 8, "segments", code=code)
    assert channels is not None and segments is not None
    assert (channels.shape, segments.shape) == ((2, 1, 32), (2, 3, 32))
    by_channels = toggles.port_flips(w, x, "is", 8, 8, code=code, order=channels)
    by_segments = toggles.port_flips(w, x, "is", 8, 8, code=code, order=segments)
    assert by_segments.weight < by_channels.weight < plain.weight
    assert by_segments.load == plain.load and by_segments.activation == plain.activation == 0
    permuted = np.stack([group[order[0]] for group, order in zip(w, channels, strict=True)])
    assert toggles.port_flips(permuted, x, "is", 8, 8, code=code) == by_channels


def test_an_order_must_fit_the_row_folds() -> None:
    w = np.ones((1, 4, 20), dtype=int)
    with pytest.raises(InputError, match=r"an order of 4 rows in 3 segments has shape \(3, 4\), got \(2, 4\)"):
        toggles.port_flips(w, None, "is", 8, 8, m=3, order=np.stack([np.arange(4)] * 2))
    with pytest.raises(InputError, match="must name each row once"):
        toggles.port_flips(w, None, "is", 8, 8, m=3, order=np.zeros((1, 4), dtype=int))


@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_without_inputs_expected_flips_are_those_of_random_words(dataflow: str) -> None:
    rng = np.random.default_rng(3)
    w, x = rng.integers(-128, 128, (3, 40, 30)), rng.integers(-128, 128, (3, 30, 50))
    real = toggles.port_flips(w, x, dataflow, 16, 16)
    guessed = toggles.port_flips(w, None, dataflow, 16, 16, m=50)
    unknown = toggles.expected_flips(dataflow, 16, 16, m=50, n=40, k=30, groups=3)
    assert (real.basis, guessed.basis, unknown.basis) == ("data", "statistics", "statistics")
    for a, b, c in zip(counted(real), counted(guessed), counted(unknown), strict=True):
        assert b == pytest.approx(a, rel=0.02, abs=1e-9)
        assert c == pytest.approx(a, rel=0.02, abs=1e-9)
    assert unknown.weight_mac == pytest.approx(real.weight_mac, rel=0.02)


def test_random_words_side_by_side_as_expected() -> None:
    rng = np.random.default_rng(4)
    for dataflow in DATAFLOWS:
        w, x = rng.integers(-128, 128, (300, 2, 9)), rng.integers(-128, 128, (300, 9, 3))
        real = toggles.port_flips(w, x, dataflow, 40, 20)
        unknown = toggles.expected_flips(dataflow, 40, 20, m=3, n=2, k=9, groups=300)
        for name in ("weight", "activation", "load", "weight_port", "activation_port", "weight_mac", "activation_mac"):
            assert getattr(unknown, name) == pytest.approx(getattr(real, name), rel=0.03, abs=1e-9), (dataflow, name)


@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_samples_of_whole_layers_are_exact_and_give_an_interval(dataflow: str) -> None:
    rng = np.random.default_rng(6)
    w = rng.integers(-127, 128, (1, 10, 12))
    samples = [rng.integers(0, 120, (1, 12, 7)) for _ in range(4)]
    whole = [toggles.port_flips(w, x, dataflow, 5, 5) for x in samples]
    found, interval = toggles.layer_flips(w, samples, dataflow, 5, 5, m=7)
    assert found.basis == "data" and interval is not None
    moving = [f.load if dataflow == "is" else f.activation for f in whole]
    assert (found.load if dataflow == "is" else found.activation) == pytest.approx(np.mean(moving))
    half = 3.182 * np.std(moving, ddof=1) / 2
    assert interval == (pytest.approx(np.mean(moving) - half), pytest.approx(np.mean(moving) + half))
    assert found.weight == whole[0].weight and found.weight_port == whole[0].weight_port
    nothing, none = toggles.layer_flips(w, [], dataflow, 5, 5, m=7)
    assert none is None and nothing.basis == "statistics"


def test_words_in_both_codes() -> None:
    values = np.array([0, 1, -1, 127, -127])
    assert code_words(values, 8, "twos_complement").tolist() == [0, 1, 255, 127, 129]
    assert code_words(values, 8, "sign_magnitude").tolist() == [0, 1, 129, 127, 255]
    assert code_words(np.array([0, 255]), 8, "sign_magnitude").tolist() == [0, 255]
    for bad, code in (([-128], "sign_magnitude"), ([128, -1], "twos_complement"), ([256], "twos_complement")):
        with pytest.raises(InputError, match=r"8-bit words .* hold .* use more bits"):
            code_words(np.array(bad), 8, code)
    with pytest.raises(InputError, match="did you mean 'twos_complement'"):
        code_words(values, 8, "two_complement")


def test_kernels_equal_plain_python() -> None:
    rng = np.random.default_rng(7)
    words = rng.integers(0, 256, (2, 5, 6)).astype(np.uint32)
    first, last = (np.empty((2, 5), np.uint32) for _ in range(2))
    inside = np.empty((2, 5), np.int64)
    _toggle_kernels.stream_ends(words, first, last, inside)
    folds = toggles.fold_table(2, 5, 3, 2, 2)
    flips = np.zeros(2, np.int64)
    _toggle_kernels.moving_flips(first, last, inside, folds, True, flips)
    total, port = 0, 0
    held = np.zeros((2, 2), int)
    for group, members, low, height, _, width in folds.tolist():
        assert members == 1
        for p in range(height):
            for c in range(width):
                for word in words[group, low + p].tolist():
                    changed = (int(held[p, c]) ^ word).bit_count()
                    total += changed
                    port += changed if c == 0 else 0
                    held[p, c] = word
    assert flips.tolist() == [total, port]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataflow": "wss"}, "unknown dataflow 'wss'"),
        ({"rows": 0}, "at least one row and one column, got 0 x 4"),
        ({"weights": np.zeros((2, 3), int)}, r"weights must be integers \[groups, out, in\]"),
        ({"inputs": np.zeros((1, 4, 2), int)}, r"need inputs of shape \(1, 3, columns\)"),
        ({"inputs": None}, "m must say how many columns stream"),
        ({"m": 5}, "m is 5 but the inputs have 2 columns"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, object], message: str) -> None:
    given_: dict[str, object] = {
        "weights": np.ones((1, 2, 3), int), "inputs": np.ones((1, 3, 2), int), "dataflow": "is", "rows": 4, "cols": 4,
    }  # fmt: skip
    with pytest.raises(InputError, match=message):
        toggles.port_flips(**(given_ | change))  # type: ignore[arg-type]


def test_counts_that_might_leave_64_bits_are_refused() -> None:
    w = np.broadcast_to(np.ones((1, 1, 1), int), (1, 2**13, 2**11))
    with pytest.raises(InputError, match="might leave 64 bits"):
        toggles.port_flips(w, None, "is", 65536, 65536, m=2**39)
    with pytest.raises(InputError, match="folds take too long to count"):
        toggles.port_flips(w, None, "is", 1, 1, m=2**39)
