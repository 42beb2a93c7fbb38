"""Hamming-aware training: streams against the toggle counter, the search against brute force, bits with gradients, the method."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from picojoule.accel.systolic.operand_words import code_words
from picojoule.accel.systolic.ordering import order_rows
from picojoule.accel.systolic.toggles import port_flips
from picojoule.compress._hamming_kernels import cheapest_words
from picojoule.compress.hamming_codes import NumberCode, bit_planes, values_of_patterns
from picojoule.compress.hamming_streams import Streamed, weight_stream
from picojoule.sim.gemm import Gemm

CODES = st.sampled_from(list(NumberCode))
FLOWS = st.sampled_from(["is", "os"])


def weights(seed: int, bits: int, *shape: int) -> NDArray[np.int64]:
    most = (1 << (bits - 1)) - 1
    return np.random.default_rng(seed).integers(-most, most + 1, shape)


@settings(max_examples=60, deadline=None)
@given(
    flow=FLOWS, code=CODES, groups=st.integers(1, 5), m=st.integers(1, 9), n=st.integers(1, 7), k=st.integers(1, 9),
    rows=st.integers(1, 6), cols=st.integers(1, 6), ordered=st.booleans(),
)  # fmt: skip
def test_streams_flip_as_many_bits_as_the_toggle_counter_says(
    flow: Streamed, code: NumberCode, groups: int, m: int, n: int, k: int, rows: int, cols: int, ordered: bool
):
    order = None
    w = weights(n * k, 8, groups, n, k)
    if ordered and flow == "is" and groups == 1:
        order = order_rows(w[0], bits=8, code=code.value, segment=rows)
    stream = weight_stream(Gemm(m=m, n=n, k=k, groups=groups), flow, rows, cols, order)
    counted = port_flips(w, None, flow, rows, cols, m=m, weight_bits=8, code=code.value, order=order)
    assert stream.flips(code_words(w, 8, code.value).ravel()) == counted.weight_port
    used = stream.places[stream.places >= 0]
    assert sorted(used) == list(range(w.size))


def brute_force(
    wanted: list[float], curvature: list[float], price: list[float], values: NDArray[np.float32], zero_price: float
) -> float:
    """Return the least cost over every sequence of words."""
    words = [s for s, v in enumerate(values) if not np.isnan(v)]
    return min(
        cost_of(path, wanted, curvature, price, values, zero_price)
        for path in itertools.product(words, repeat=len(wanted))
    )


def cost_of(path: Any, wanted: Any, curvature: Any, price: Any, values: Any, zero_price: float) -> float:
    before, total = 0, 0.0
    for word, x, h, p in zip(path, wanted, curvature, price, strict=True):
        distance = (float(values[word]) - float(x)) ** 2 + zero_price * bool(values[word])
        total += float(h) * distance + float(p) * (before ^ int(word)).bit_count()
        before = int(word)
    return total


@pytest.mark.parametrize("code", list(NumberCode))
@pytest.mark.parametrize("bits", [2, 3])
@pytest.mark.parametrize("zero_price", [0.0, 0.7])
def test_the_search_finds_the_cheapest_of_all_sequences(code: NumberCode, bits: int, zero_price: float):
    rng = np.random.default_rng(bits)
    values = values_of_patterns(bits, code)
    wanted = rng.normal(0, 2, (4, 6)).astype(np.float32)
    curvature = rng.uniform(0.1, 2, wanted.shape).astype(np.float32)
    price = rng.uniform(0, 1.5, wanted.shape).astype(np.float32)
    curvature[2, 1] = curvature[0, 3] = curvature[3, 4] = -1  # the port holds
    curvature[:, 5] = -1
    found = cheapest_words(wanted, curvature, price, values, np.float32(zero_price), 0)
    assert not found[:, 5].any()
    for p in range(5):
        there = curvature[:, p] >= 0
        port = [list(a[there, p]) for a in (wanted, curvature, price)]
        least = brute_force(*port, values, zero_price)
        assert cost_of(found[there, p], *port, values, zero_price) == pytest.approx(least, rel=1e-5)


def test_without_a_price_the_search_rounds_and_with_a_high_one_nothing_flips():
    values = values_of_patterns(8, NumberCode.TWOS_COMPLEMENT)
    wanted = np.array([[0.4], [-127.9], [60.2], [3.6]], dtype=np.float32)
    one = np.ones_like(wanted)
    rounded = cheapest_words(wanted, one, 0 * one, values, np.float32(0), 0)
    assert values[rounded].ravel().tolist() == [0, -127, 60, 4]
    assert not cheapest_words(wanted, one, 1e6 * one, values, np.float32(0), 0).any()


@pytest.mark.parametrize("code", list(NumberCode))
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_bits_are_those_on_the_wire_and_their_gradients_point_to_the_next_flip(code: NumberCode, bits: int):
    most = (1 << (bits - 1)) - 1
    numbers = torch.arange(-most, most + 1, dtype=torch.float32).requires_grad_()
    planes = bit_planes(numbers, bits, code)
    words = code_words(np.arange(-most, most + 1), bits, code.value)
    np.testing.assert_array_equal(planes.detach().numpy(), words[:, None] >> np.arange(bits) & 1)
    for n in range(bits):
        (slope,) = torch.autograd.grad(planes[:, n].sum(), numbers, retain_graph=True)
        size = 2.0 ** -(n if n < bits - 1 else bits - 1)
        assert set(slope.abs().tolist()) <= {size, 0.0}  # 0: a magnitude's at zero, which has no sign
        assert n < bits - 1 or (slope < 0).all()  # more makes it less negative
    if bits == 8 and code is NumberCode.TWOS_COMPLEMENT:
        (slope,) = torch.autograd.grad(planes[:, 3].sum(), numbers)
        at = {int(v): s for v, s in zip(numbers.tolist(), slope.tolist(), strict=True)}
        assert at[7] == 1 / 8 and at[0] == -1 / 8  # 8 sets the bit, and so does -1
        assert at[8] == 1 / 8 and at[15] == -1 / 8  # 7 and 16 clear it
