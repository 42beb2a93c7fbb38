"""The arithmetic hook: products through a design's crossbars, with and without signs, against slow twins."""

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from picojoule.reram.accelerator import ReramAccelerator
from picojoule.reram.product import programmer
from picojoule.reram.spec import ReramSpec
from picojoule.sim import attributes as at
from picojoule.sim.attributes import Op
from picojoule.sim.errors import InputError, UnsupportedError
from picojoule.sim.formats import parse_format
from picojoule.sim.ir import Layer, Operand, OperandKind, Result, TensorType
from picojoule.sim.protocol import FLOAT, IntegerProduct


def product(
    weights: NDArray[np.int64], weight_bits: int, input_bits: int, signed: bool = True, **changes: Any
) -> IntegerProduct:
    return programmer(ReramSpec(**changes), weight_bits, input_bits, signed)(weights)


def random_weights(rng: np.random.Generator, bits: int, shape: tuple[int, int]) -> NDArray[np.int64]:
    top = 2 ** (bits - 1) - 1
    return rng.integers(-top, top + 1, shape)


def twos_complement_twin(
    w: NDArray[np.int64], x: NDArray[np.int64], weight_bits: int, input_bits: int, adc_top: int
) -> NDArray[np.int64]:
    """One tile, offset encoding, 2-bit cells, 1-bit pulses, an ADC that clips at `adc_top`; the top bit is negative."""
    u = w + 2 ** (weight_bits - 1)
    y = np.zeros((len(w), x.shape[1]), dtype=np.int64)
    for k in range((weight_bits + 1) // 2):
        for j in range(input_bits):
            sums = np.minimum((u >> 2 * k & 3) @ (x >> j & 1), adc_top)
            y += sums * (1 << 2 * k) * (-(1 << j) if j == input_bits - 1 else 1 << j)
    return y - 2 ** (weight_bits - 1) * x.sum(axis=0)


@settings(max_examples=30, deadline=None)
@given(
    bits=st.tuples(st.integers(2, 16), st.integers(2, 16)),
    k=st.integers(1, 300),
    negative=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_isaac_computes_integer_products_exactly(bits: tuple[int, int], k: int, negative: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    w = random_weights(rng, bits[0], (5, k))
    top = 2 ** (bits[1] - 1) - 1 if negative else 2 ** bits[1] - 1
    x = rng.integers(-top if negative else 0, top + 1, (k, 4))
    made = product(w, *bits)
    assert made.exact
    np.testing.assert_array_equal(made.matmul(x), w @ x)


@pytest.mark.parametrize("adc_bits", [4, 5, 6])
def test_the_sign_step_clips_as_the_slow_twin(adc_bits: int) -> None:
    rng = np.random.default_rng(adc_bits)
    w, x = random_weights(rng, 8, (6, 100)), rng.integers(-127, 128, (100, 7))
    made = product(w, 8, 8, encoding="offset", adc_bits=adc_bits)
    twin = twos_complement_twin(w, x, 8, 8, 2**adc_bits - 1)
    assert not made.exact
    assert (twin != w @ x).any()
    np.testing.assert_array_equal(made.matmul(x), twin)


def test_bipolar_pulses_need_an_adc_with_a_sign() -> None:
    rng = np.random.default_rng(0)
    w, x = np.full((2, 128), 127), np.full((128, 1), 127)
    w[1] = random_weights(rng, 8, (1, 128))
    narrow, wide = (product(w, 8, 8, signed_inputs="bipolar", adc_bits=b, encoding="offset") for b in (8, 10))
    assert wide.exact
    assert not narrow.exact
    np.testing.assert_array_equal(wide.matmul(-x), w @ -x)
    assert (narrow.matmul(-x) != w @ -x).any()


def test_a_full_range_adc_rounds_and_its_span_is_that_of_the_widest_pulse() -> None:
    rng = np.random.default_rng(1)
    w = random_weights(rng, 8, (4, 128))
    x = rng.integers(-127, 128, (128, 5))
    made = product(w, 8, 8, encoding="offset", adc_range="full", dac_bits=2, adc_bits=8)
    relative = np.abs(made.matmul(x) - w @ x).max() / np.abs(w @ x).max()
    assert 0 < relative < 2.0
    wide = product(w, 8, 8, encoding="offset", adc_range="full", dac_bits=2, adc_bits=16)
    # 16 bits over 128 x 3 x 3 cell units: a code is 1/57 of a unit, so every sum rounds to within 1/114 of itself.
    np.testing.assert_allclose(wide.matmul(x), w @ x, atol=(85 * 85 + 85 * 128) / 57)


def test_unsigned_formats_refuse_negative_inputs() -> None:
    made = product(np.ones((1, 4), dtype=np.int64), 8, 8, signed=False)
    with pytest.raises(InputError, match=r"inputs must be between 0 and 255 \(8 bits, unsigned\), got -1"):
        made.matmul(np.array([[1], [2], [-1], [3]]))


def test_the_programmer_pickles() -> None:
    made = pickle.loads(pickle.dumps(programmer(ReramSpec(), 8, 8, True)))
    np.testing.assert_array_equal(made(np.eye(2, dtype=np.int64)).matmul(np.array([[3], [-4]])), [[3], [-4]])


def layer(
    op: Op, weight_shape: tuple[int, ...], weight: str | None, activation: str | None, computed: bool = False
) -> Layer:
    def operand(name: str, kind: OperandKind, shape: tuple[int, ...], form: str | None) -> Operand:
        return Operand(kind=kind, name=name, type=TensorType(shape=shape), format=parse_format(form) if form else None)

    attributes = at.LinearAttributes() if op is Op.LINEAR else at.MatmulAttributes()
    kind = OperandKind.ACTIVATION if computed else OperandKind.PARAMETER
    operands = (operand("x", OperandKind.ACTIVATION, (1, 8), activation), operand("w", kind, weight_shape, weight))
    result = Result(name="y", type=TensorType(shape=(1, 8)))
    return Layer(name="fc", op=op, operands=operands, results=(result,), attributes=attributes)


def test_arithmetic_of_layers() -> None:
    design = ReramAccelerator(ReramSpec())
    native = design.arithmetic(layer(Op.LINEAR, (8, 8), None, None))
    assert (str(native.weight), str(native.activation), native.accumulator_bits) == ("int16", "int16", None)
    set_by_compression = design.arithmetic(layer(Op.LINEAR, (8, 8), "ternary", "uint4"))
    assert (str(set_by_compression.weight), str(set_by_compression.activation)) == ("ternary", "uint4")
    assert set_by_compression.program is not None
    w = np.array([[1, -1, 0, 1]])
    np.testing.assert_array_equal(set_by_compression.program(w).matmul(np.array([[1], [2], [3], [15]])), [[14]])
    dynamic = design.arithmetic(layer(Op.MATMUL, (8, 8), None, None, computed=True))
    assert dynamic.program is None
    assert dynamic.weight == dynamic.activation == design.spec.native_activation
    with pytest.raises(UnsupportedError, match="layer 'fc': weights in fp16 cannot be multiplied here"):
        design.arithmetic(layer(Op.LINEAR, (8, 8), "fp16", None))
    other = layer(Op.LINEAR, (8, 8), None, None)
    pool = Layer(name="p", op=Op.POOL, operands=other.operands[:1], results=other.results, attributes=other.attributes)
    assert design.arithmetic(pool) is FLOAT
