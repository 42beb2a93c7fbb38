"""Counting common bits against bits packed by NumPy, and against the matrix products of the general path."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from picojoule.reram import arithmetic
from picojoule.reram._kernels import pack_bits, stream_of
from picojoule.reram.bit_streaming import BitStream
from picojoule.reram.crossbar import CrossbarSpec
from picojoule.reram.streaming import Stream


@pytest.mark.parametrize("rows", [1, 8, 27, 32, 33, 72, 128])
def test_packed_bits_equal_numpys(rows):
    rng = np.random.default_rng(rows)
    x = rng.integers(0, 256, (rows, 100)).astype(np.uint8)
    words = np.full((8, -(-rows // 32), 80), 0xFFFFFFFF, dtype=np.uint32)
    pack_bits(x, 15, 70, np.empty((4, 80), dtype=np.uint8), words)
    padded = np.zeros((words.shape[1] * 32, 70), dtype=np.uint8)
    padded[:rows] = x[:, 15:85]
    for n in range(8):
        packed = np.ascontiguousarray(np.packbits((padded >> n & 1).T, axis=1, bitorder="little"))
        assert np.array_equal(words[n, :, :70], packed.view("<u4").T)


def general(monkeypatch, weights, spec):
    """Return the weights with every lossy bitline on the general path."""
    with monkeypatch.context() as patch:
        patch.setattr(arithmetic, "build_bit_stream", lambda *_: None)
        made = arithmetic.program(weights, spec)
    assert all(isinstance(stream, Stream) for stream in made.streams)
    return made


CASES = {
    "bits of one word": {"tile_rows": 20, "adc_bits": 4},
    "a full tile": {"adc_bits": 6},
    "clipped at a part of a code": {"adc_bits": 6, "adc_hi": 41.3},
    "rounded": {"adc_bits": (5, 6, 4, 7), "adc_hi": (40.0, 64 / 3, 14.0, 120.0)},
    "differential": {"encoding": "differential", "adc_bits": 5},
    "differential, rounded": {"encoding": "differential", "adc_bits": 5, "adc_hi": 30.0},
    "flip": {"encoding": "flip", "adc_bits": 5},
    "split": {"encoding": "split", "adc_bits": 4},
    "signed inputs": {"signed_inputs": True, "adc_bits": 6},
    "signed both": {"encoding": "differential", "signed_inputs": True, "adc_bits": 5},
    "pulses of 2 bits": {"input_bits_per_step": 2, "adc_bits": 8},
    "pulses of 3 bits, 8 in all": {"input_bits_per_step": 3, "adc_bits": 8},
    "cells of 1 bit": {"slices": 8, "cell_max": 1, "adc_bits": 5},
    "cells of 4 bits": {"slices": 2, "cell_max": 15, "adc_bits": 7},
    "signed cells of 4 bits": {"slices": 2, "cell_max": 15, "adc_bits": 7, "encoding": "differential"},
    "more than 128 rows": {"tile_rows": 300, "adc_bits": 7},
    "16-bit inputs": {"input_bits": 16, "adc_bits": 6},
    "16-bit operands, one total a slice": {"input_bits": 16, "weight_bits": 16, "slices": 8, "adc_bits": 6},
    "few rows at once": {"rows_active": 30, "adc_bits": 4},
    "converters by tile": {"adc_bits": ((6, 6, 6, 6), (5, 7, 9, 8), (9, 9, 4, 9))},
}


@pytest.mark.parametrize("fields", CASES.values(), ids=CASES.keys())
def test_bits_and_matrix_products_agree(fields, monkeypatch):
    spec, rng = CrossbarSpec(**fields), np.random.default_rng(1)
    low, high = spec.weight_range
    weights = rng.integers(low, high + 1, (5, 300))
    weights[0], weights[1] = high, low
    inputs = rng.integers(spec.input_range[0], spec.input_range[1] + 1, (300, 333))  # several blocks, the last one odd
    inputs[:, 0], inputs[:, 1] = spec.input_range
    fast = arithmetic.program(weights, spec)
    assert fast.streams and all(isinstance(stream, BitStream) for stream in fast.streams)
    slow = general(monkeypatch, weights, spec)
    assert fast.lossless_share == slow.lossless_share < 1
    found, expected = fast.matmul(inputs), slow.matmul(inputs)
    if all(not stream.rounds for stream in fast.streams):
        assert np.array_equal(found, expected)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12 * np.abs(expected).max())
    assert not np.array_equal(np.rint(found), weights @ inputs)


@settings(deadline=None, max_examples=40)
@given(outputs=st.integers(1, 4), rows=st.integers(1, 128), columns=st.integers(1, 40), seed=st.integers(0, 2**32 - 1))
def test_any_shape_agrees(outputs, rows, columns, seed):
    rng = np.random.default_rng(seed)
    spec = CrossbarSpec(adc_bits=int(rng.integers(1, 7)), rows_active=int(rng.integers(1, 129)))
    weights = rng.integers(-128, 128, (outputs, rows))
    inputs = rng.integers(0, 256, (rows, columns)).astype(rng.choice(["uint8", "int64", "float32"]))
    with pytest.MonkeyPatch.context() as patch:
        slow = general(patch, weights, spec)
    assert np.array_equal(arithmetic.program(weights, spec).matmul(inputs), slow.matmul(inputs))


def test_what_bits_cannot_count_stays_with_matrix_products():
    weights = np.full((1, 128), 100)
    for fields in (
        {"adc_bits": 6, "r_off_ohm": 1e6},  # empty cells conduct: sums are not whole
        {"adc_bits": 6, "input_bits_per_step": 0, "adc_hi": 100.0},  # 4 words x 2 x 8 planes in one sum; still bits
        {"adc_bits": 8, "input_bits_per_step": 0, "cell_max": 255, "slices": 1, "adc_hi": 100.0},  # 4 x 8 x 8
    ):
        streams = arithmetic.program(weights, CrossbarSpec(**fields)).streams
        assert isinstance(streams[0], BitStream) == (fields.get("slices") is None and "r_off_ohm" not in fields)


def test_compiled_loops_close_over_numbers_only():
    # A function in the closure would be a new one to numba's cache in every process: compiled each time, kept for ever.
    for compiled in (stream_of(1, 1), stream_of(3, 2)):
        assert all(isinstance(cell.cell_contents, int) for cell in compiled.py_func.__closure__)
