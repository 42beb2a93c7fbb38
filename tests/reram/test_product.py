"""The arithmetic hook: products through a design's crossbars, with and without signs, against slow twins."""

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from picojoule.reram.accelerator import ReramAccelerator
from picojoule.reram.crossbar import CrossbarSpec
from picojoule.reram.devices import DeviceSpec
from picojoule.reram.needs import adc_needs
from picojoule.reram.product import child_seed, programmer
from picojoule.reram.ranges import calibrated_range
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


# ---- converters by row tile, slice and group


SMALL: dict[str, Any] = {"crossbar_rows": 16, "weight_bits": 8, "activation_bits": 8}


def crossbar(encoding: str, **changes: Any) -> CrossbarSpec:
    """Return the arithmetic of `SMALL` with 8-bit weights and inputs."""
    return CrossbarSpec(encoding=encoding, slices=4, tile_rows=16, **changes)


@pytest.mark.parametrize("signed_inputs", ["sign_step", "bipolar"])
@pytest.mark.parametrize("encoding", ["offset", "flip", "split", "differential"])
def test_needed_bits_by_tile_lose_nothing_with_inputs_of_both_signs(encoding: str, signed_inputs: str) -> None:
    rng = np.random.default_rng(3)
    w = np.rint(rng.laplace(0, 6, (5, 40))).clip(-127, 127).astype(np.int64)
    x = rng.integers(-127, 128, (40, 30))
    bipolar = signed_inputs == "bipolar"
    bits = adc_needs(w, crossbar(encoding, signed_inputs=bipolar)).bits
    spec = ReramSpec(**SMALL, encoding=encoding, signed_inputs=signed_inputs)
    made = programmer(spec, 8, 8, True, bits=bits)(w)
    assert made.exact
    np.testing.assert_array_equal(made.matmul(x), w @ x)
    np.testing.assert_array_equal(made.matmul(abs(x)), w @ abs(x))
    # The design's own `needed` finds the same without being told.
    alone = programmer(
        ReramSpec(**SMALL, encoding=encoding, signed_inputs=signed_inputs, adc_bits="needed"), 8, 8, True
    )(w)
    assert alone.exact
    np.testing.assert_array_equal(alone.matmul(x), w @ x)
    fewer = bits.copy()
    fewer[1, 0] -= 1
    narrow = programmer(spec, 8, 8, True, bits=fewer.tolist())(w)
    assert not narrow.exact
    drives = [np.sign(w), -np.sign(w), w > 0, w < 0, np.ones_like(w)]
    many = 127 * np.concatenate(drives).T.astype(np.int64)
    assert (narrow.matmul(many) != w @ many).any()


def test_one_narrow_tile_clips_as_the_slow_twin_of_that_tile() -> None:
    rng = np.random.default_rng(4)
    w, x = random_weights(rng, 8, (3, 48)), rng.integers(-127, 128, (48, 9))
    tiles = [slice(0, 16), slice(16, 32), slice(32, 48)]
    bits = [[8] * 4, [4] * 4, [8] * 4]
    made = programmer(ReramSpec(**SMALL, encoding="offset"), 8, 8, True, bits=bits)(w)
    expected = sum(twos_complement_twin(w[:, tile], x[tile], 8, 8, 2 ** bits[t][0] - 1) for t, tile in enumerate(tiles))
    assert (expected != w @ x).any()
    np.testing.assert_array_equal(made.matmul(x), expected)


def test_a_group_takes_its_own_converters() -> None:
    rng = np.random.default_rng(5)
    w = np.full((2, 16), 127)
    x = np.full((16, 1), 127)
    spec = ReramSpec(**SMALL, encoding="offset")
    place = programmer(spec, 8, 8, True, bits=np.array([[[8] * 4], [[3] * 4]]))
    np.testing.assert_array_equal(place(w).matmul(x), w @ x)
    np.testing.assert_array_equal(place(w, group=0).matmul(x), w @ x)
    assert (place(w, 1).matmul(x) != w @ x).all()
    both = programmer(spec, 8, 8, True, bits=[[3] * 4])
    np.testing.assert_array_equal(both(w, 0).matmul(x), both(w, 7).matmul(x))
    for bits, why in (
        (np.full((2, 1, 4), 8), r"bits are given for 2 group\(s\), so there is none for group 2"),
        ([8] * 4, "bits must be nested by row tile and slice, or by group, row tile and slice; got depth 1"),
        ([[8] * 4] * 2, r"bits must be 1 row tile\(s\) of 4 slice\(s\) for 16 inputs, got 2 of \[4\]"),
        ([[8] * 3], r"bits must be 1 row tile\(s\) of 4 slice\(s\) for 16 inputs, got 1 of \[3\]"),
    ):
        with pytest.raises(InputError, match=why):
            programmer(spec, 8, 8, True, bits=bits)(w, 2).matmul(rng.integers(0, 9, (16, 1)))


@pytest.mark.parametrize("dac_bits", [1, 2])
def test_calibrated_ranges_serve_the_sign_step_too(dac_bits: int) -> None:
    rng = np.random.default_rng(6)
    w = np.rint(rng.laplace(0, 10, (8, 32))).clip(-127, 127).astype(np.int64)
    seen, unseen = (np.rint(rng.normal(0, 30, (32, 200))).clip(-127, 127).astype(np.int64) for _ in range(2))
    design = {**SMALL, "encoding": "split", "adc_bits": 4, "dac_bits": dac_bits}
    arithmetic = crossbar("split", adc_bits=4, input_bits_per_step=dac_bits)
    _, hi = calibrated_range(w, seen, arithmetic, 99)

    def error(made: IntegerProduct) -> float:
        return float(np.sqrt(np.mean((made.matmul(unseen) - w @ unseen) ** 2)))

    calibrated = programmer(ReramSpec(**design), 8, 8, True, hi=hi)(w)
    full = programmer(ReramSpec(**design, adc_range="full"), 8, 8, True)(w)
    assert not calibrated.exact
    assert error(calibrated) < 0.7 * error(full)
    # What `full` spans, given as a range: the sign step's pulse is smaller, its converter the same.
    whole = [[16.0] * 4] * 2
    np.testing.assert_array_equal(
        programmer(ReramSpec(**design), 8, 8, True, hi=whole)(w).matmul(unseen), full.matmul(unseen)
    )
    # One code per cell unit, given as a range, stays exact in every step, the 1-bit pulse of the sign included.
    top = [[255 / arithmetic.cell_units] * 4] * 2
    exact = programmer(ReramSpec(**design), 8, 8, True, hi=top, bits=[[8] * 4] * 2)(w)
    np.testing.assert_array_equal(exact.matmul(unseen), w @ unseen)


# ---- pieces of hardware


def test_child_seeds_follow_seed_layer_and_group_only() -> None:
    seeds = {child_seed(s, n, g) for s in (0, 1) for n in ("conv1", "conv2") for g in (0, 1)}
    assert len(seeds) == 8
    assert child_seed(0, "conv1", 0) == child_seed(0, "conv1", 0) < 1 << 63
    assert child_seed(1, "2", 0) != child_seed(1, "", 20)


def test_a_device_is_never_exact_and_its_errors_follow_the_seed() -> None:
    rng = np.random.default_rng(7)
    w, x = random_weights(rng, 8, (4, 40)), rng.integers(-127, 128, (40, 6))
    spec = ReramSpec(**SMALL, device=DeviceSpec(programming_sigma=0.05))

    def result(seed: int = 0, name: str = "conv", group: int = 0) -> NDArray[np.float64]:
        made = programmer(spec, 8, 8, True, seed=seed, name=name)(w, group)
        assert not made.exact
        return made.matmul(x)

    base = result()
    assert (base != w @ x).any()
    assert np.corrcoef(base.ravel(), (w @ x).ravel())[0, 1] > 0.9
    np.testing.assert_array_equal(base, result())
    all_off = programmer(ReramSpec(**SMALL, device=DeviceSpec()), 8, 8, True)(w)
    assert not all_off.exact
    np.testing.assert_allclose(all_off.matmul(x), w @ x, rtol=1e-9, atol=1e-6)
    for other in (result(seed=1), result(name="fc"), result(group=1)):
        assert (other != base).any()
    # Both streams of two's complement see the same cells: a column without negative inputs computes as unsigned ones do.
    made = programmer(spec, 8, 8, True, seed=0, name="conv")(w)
    mixed = np.concatenate([abs(x), -abs(x)], axis=1)
    np.testing.assert_allclose(made.matmul(mixed)[:, :6], made.matmul(abs(x)), rtol=1e-9, atol=1e-6)


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
