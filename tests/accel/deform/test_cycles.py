"""Cycles of calls: counted by hand and by a slow twin that walks the loops, and properties that always hold."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from picojoule.accel.deform.cycles import WINDOW, Access, call_cycles, full_cycles, window_interval
from picojoule.sim.errors import InputError


def test_a_fused_call_counted_by_hand():
    # 2 x 2 pixels, 17 -> 33 channels: I = 2 steps in, O = 3 out, C = 3 of the window; stride 2 leaves 1 pixel.
    cycles = call_cycles(
        pixels=4, out_pixels=1, in_channels=17, out_channels=33, pointwise=True, window=True, interval=2,
        pixel_refill_cycles=10, tile_refill_cycles=5, start_cycles=100,
    )  # fmt: skip
    assert cycles.pointwise == 4 * (2 + 3 * 2 + 10 + 3 * 5)
    assert cycles.window == 4 * (3 + 10) + 1 * (2 * 3 + 10)
    assert cycles.weights == 48 * 2 + 9 * 3
    assert cycles.total == 123 + 132 + 100
    assert cycles.without_window == 96 + 132 + 100


def test_a_3x3_call_and_a_1x1_call_skip_the_other_engine():
    alone = {"pixels": 9, "out_pixels": 9, "in_channels": 32, "out_channels": 32, "pixel_refill_cycles": 7}
    three = call_cycles(pointwise=False, window=True, **alone)
    assert (three.pointwise, three.window, three.weights) == (9 * (2 + 7), 9 * (2 + 7) + 9 * (2 + 7), 18)
    one = call_cycles(pointwise=True, window=False, **alone)
    assert (one.pointwise, one.window, one.weights) == (9 * (2 + 4 + 7), 9 * 2, 64)


def walked(pixels, out_pixels, inputs, outputs, one, three, interval, a, b, c):
    """Slow twin: walk the loops of each process cycle by cycle; 16 channels a step."""
    steps_in, steps_out = -(-inputs // 16), -(-outputs // 16)
    window_steps = steps_out if one else steps_in
    first = second = weights = 0
    for _ in range(pixels):
        first += a + sum(1 for _ in range(steps_in))  # read the pixel
        if one:
            for _ in range(steps_out):
                first += b + sum(1 for _ in range(steps_in))
        second += sum(1 for _ in range(window_steps)) + (a if three else 0)  # into the line buffer
    for _ in range(out_pixels if three else 0):
        second += a + sum(interval for _ in range(window_steps))
    weights += steps_in * steps_out * 16 if one else 0
    weights += 9 * window_steps if three else 0
    streams = max(pixels * steps_in, out_pixels * window_steps)
    return weights + max(first, second, streams) + c


call_sizes = st.fixed_dictionaries(
    {
        "pixels": st.integers(1, 40),
        "out_pixels": st.integers(1, 40),
        "inputs": st.integers(1, 70),
        "outputs": st.integers(1, 70),
        "one": st.booleans(),
        "three": st.booleans(),
        "interval": st.integers(1, 5),
        "a": st.integers(0, 30),
        "b": st.integers(0, 9),
        "c": st.integers(0, 50),
    }
)


def formula(s):
    return call_cycles(
        pixels=s["pixels"], out_pixels=s["out_pixels"], in_channels=s["inputs"], out_channels=s["outputs"],
        pointwise=s["one"], window=s["three"], interval=s["interval"], pixel_refill_cycles=s["a"],
        tile_refill_cycles=s["b"], start_cycles=s["c"],
    )  # fmt: skip


@given(call_sizes)
@settings(max_examples=60, deadline=None)
def test_it_equals_walking_the_loops(sizes):
    assert formula(sizes).total == walked(**sizes)


@given(st.lists(call_sizes, min_size=2, max_size=5))
@settings(max_examples=20, deadline=None)
def test_many_calls_at_once_equal_one_by_one_and_never_beat_their_macs(sizes):
    columns = {k: np.array([s[k] for s in sizes]) for k in sizes[0]}
    together = formula(columns).total
    assert together.tolist() == [int(formula(s).total) for s in sizes]
    one = columns["pixels"] * columns["inputs"] * columns["outputs"] * columns["one"]
    channels = np.where(columns["one"], columns["outputs"], columns["inputs"])
    three = columns["out_pixels"] * channels * WINDOW * columns["three"]
    assert (together * 256 >= one).all()
    assert (together * 144 >= three).all()


def test_windows_are_read_in_1_2_and_5_cycles_and_more_ports_are_never_slower():
    assert window_interval(Access.ORDINARY, 1, 1) == 1
    assert window_interval(Access.SQUARE, 3, 2) == 2  # 9 taps in 3 rows: 3 reads a port, 2 a cycle
    assert window_interval(Access.TAPS, 3, 2) == 5  # 9 taps anywhere, maybe all in one row
    assert window_interval(Access.SQUARE, 1, 2) == window_interval(Access.TAPS, 1, 2)
    assert window_interval(Access.SQUARE, 9, 1) == 3  # a row has 3 of the taps, however many ports there are
    for access in Access:
        for reads in (1, 2):
            found = window_interval(access, np.arange(1, 10), reads)
            assert (np.diff(found) <= 0).all() and (found >= 1).all()


def test_the_full_engine_takes_the_published_number_of_steps():
    sizes = {"out_pixels": 64 * 64, "in_channels": 256, "out_channels": 256, "full_in": 8, "full_out": 8}
    assert full_cycles(**sizes, full_step_cycles=1) == 4_194_304  # facts: 64*64*256*256/64
    assert full_cycles(**sizes, full_step_cycles=2.5) == 10_485_760


def test_counts_beyond_64_bits_are_refused():
    with pytest.raises(
        InputError, match=r"^a call of 1099511627776 pixels and 65536 x 65536 channels would take more than"
    ):
        call_cycles(
            pixels=2**40, out_pixels=1, in_channels=2**16, out_channels=2**16, pointwise=True, window=False,
        )  # fmt: skip
    with pytest.raises(InputError, match=r"^a full 3x3 call would take more than 2\^62 cycles"):
        full_cycles(out_pixels=2**50, in_channels=2**16, out_channels=2**16, full_in=1, full_out=1, full_step_cycles=1)
