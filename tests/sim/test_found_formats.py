import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from picojoule.sim.formats import FormatKind, Granularity, NumberFormat, parse_format
from picojoule.sim.found_formats import FoundFormat, find_format

Floats = NDArray[np.float32]


def normal(rows: int, columns: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal((rows, columns), dtype=np.float32)


def steps_of(values: Floats, bits: int, per_channel: bool) -> Floats:
    top = np.abs(values).max(axis=1 if per_channel else None, keepdims=True)
    return (top / np.float32(2 ** (bits - 1) - 1)).astype(np.float32)


def quantized(values: Floats, bits: int, per_channel: bool) -> Floats:
    step = steps_of(values, bits, per_channel)
    return np.asarray(np.rint(values / step) * step)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(2, 40),
    columns=st.integers(40, 200),
    bits=st.integers(3, 8),
    per_channel=st.booleans(),
    scale=st.floats(1e-6, 1e6),
)
def test_integers_are_found_with_their_bits_and_steps(
    seed: int, rows: int, columns: int, bits: int, per_channel: bool, scale: float
) -> None:
    values = normal(rows, columns, seed) * np.float32(scale)
    stored = quantized(values, bits, per_channel)
    found = find_format(stored)
    assert found.integer is not None and found.step is not None
    assert found.integer.kind is FormatKind.INTEGER and found.integer.bits <= bits
    step = np.array(found.step, dtype=np.float64)[:, None]
    codes = np.rint(stored / step)
    assert np.abs(codes).max() <= found.integer.qmax
    assert np.abs(codes * step - stored).max() <= 2e-6 * np.abs(stored).max()  # the values are reproduced
    if columns >= 100:  # in short rows all codes may have a common divisor
        assert (found.integer.bits, found.format) == (bits, found.integer)
        assert found.integer.per is (Granularity.CHANNEL if per_channel else Granularity.TENSOR)
        np.testing.assert_allclose(step[:, 0], steps_of(values, bits, per_channel)[:, 0], rtol=1e-6)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 70),
    columns=st.integers(1, 70),
    kind=st.sampled_from(["normal", "uniform", "laplace", "positive"]),
    scale=st.floats(1e-8, 1e8),
)
def test_full_precision_weights_have_no_format(seed: int, rows: int, columns: int, kind: str, scale: float) -> None:
    rng = np.random.default_rng(seed)
    draw = {
        "normal": lambda: rng.standard_normal((rows, columns), dtype=np.float32),
        "uniform": lambda: rng.random((rows, columns), dtype=np.float32) - np.float32(0.5),
        "laplace": lambda: rng.laplace(size=(rows, columns)).astype(np.float32),
        "positive": lambda: rng.random((rows, columns)).astype(np.float32),
    }
    assert find_format(draw[kind]() * np.float32(scale)) == FoundFormat()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 40),
    columns=st.integers(16, 60),
    name=st.sampled_from(["fp16", "bf16"]),
)
def test_half_precision_weights_are_no_integers(seed: int, rows: int, columns: int, name: str) -> None:
    found = find_format(rounded(normal(rows, columns, seed), name))
    assert (str(found.format), found.integer) == (name, None)


def rounded(values: Floats, name: str) -> Floats:
    if name == "fp16":
        return values.astype(np.float16).astype(np.float32)
    bits = values.view(np.uint32) + np.uint32(0x8000)
    return (bits & np.uint32(0xFFFF0000)).view(np.float32)


@pytest.mark.parametrize("name", ["fp16", "bf16"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_integers_are_found_through_the_rounding_of_half_precision(name: str, per_channel: bool) -> None:
    stored = rounded(quantized(normal(64, 200), 4, per_channel), name)
    found = find_format(stored)
    assert str(found.integer) == "int4"
    assert found.format == found.integer
    step = steps_of(normal(64, 200), 4, per_channel)[:, 0]
    np.testing.assert_allclose(found.step or (), step, rtol=4e-3 if name == "bf16" else 3e-4)


@pytest.mark.parametrize("bits", [9, 10, 12, 16])
def test_wide_integers_are_found_per_tensor(bits: int) -> None:
    found = find_format(quantized(normal(256, 512), bits, per_channel=False))
    assert str(found.integer) == f"int{bits}"


def test_a_step_per_channel_must_save_more_than_it_takes() -> None:
    codes = np.random.default_rng(0).integers(-100, 101, (2000, 3)).astype(np.float32)
    found = find_format(codes * np.float32(0.01))
    assert found.evidence == "int8 per tensor, 201 codes used"  # though some rows have even codes only


WEIGHTS = normal(64, 300)
SIGNS = np.sign(WEIGHTS)
LEVELS = np.linspace(-2, 2, 16, dtype=np.float32) ** 3 + np.float32(0.01)
POWERS = np.exp2(np.clip(np.rint(np.log2(np.abs(WEIGHTS))), -9, 0))
FOUND = {
    "binary": (SIGNS * np.float32(0.037), "binary", "binary", "binary per tensor, 2 codes used"),
    "binary per channel": (
        SIGNS * np.abs(WEIGHTS).mean(axis=1, keepdims=True), "binary", "binary", "binary per channel, 2 codes used",
    ),
    "ternary": (
        SIGNS * (np.abs(WEIGHTS) > 0.7) * np.float32(0.37), "ternary", "ternary", "ternary per tensor, 3 codes used",
    ),
    "powers of two": (SIGNS * POWERS * np.float32(0.3), "pow2_5", "int11", "powers of two, 20 values"),
    "few powers of two": (
        SIGNS * np.maximum(POWERS, 2.0**-6) * np.float32(0.3), "pow2_4", "int8", "powers of two, 14 values",
    ),
    "codebook": (
        LEVELS[np.abs(WEIGHTS[..., None] - LEVELS).argmin(axis=-1)], "codebook4", "None", "codebook of 12 values",
    ),
    "unsigned": (
        np.abs(quantized(WEIGHTS, 5, per_channel=False)), "uint4", "uint4", "uint4 per tensor, 16 codes used",
    ),
    "two's complement": (
        np.clip(np.rint(WEIGHTS * 100), -128, 127).astype(np.float32) * np.float32(0.05), "int9", "int9",
        "int9 per tensor, 256 codes used (8-bit two's complement with -128: a symmetric range needs 9 bits)",
    ),
    "zero point": (
        (np.clip(np.rint(WEIGHTS * 40) + 60, 0, 255) - 60).astype(np.float32) * np.float32(0.05), "int9", "int9",
        "int9 per tensor, 194 codes used (8 bits around a zero point: codes -60 to 152)",
    ),
    "fp16": (WEIGHTS.astype(np.float16).astype(np.float32), "fp16", "None", "fp16 values"),
    "bf16": (rounded(WEIGHTS, "bf16"), "bf16", "None", "bf16 values"),
    "fp8_e4m3": (
        (np.where(np.abs(WEIGHTS) < 0.02, 0, WEIGHTS * 20).view(np.uint32) & np.uint32(0xFFF00000)).view(np.float32),
        "fp8_e4m3", "None", "fp8_e4m3 values",
    ),
    "fp8_e5m2": (
        (np.where(np.abs(WEIGHTS) < 0.02, 0, WEIGHTS).view(np.uint32) & np.uint32(0xFFE00000)).view(np.float32),
        "fp8_e5m2", "None", "fp8_e5m2 values",
    ),
    "int8": (np.random.default_rng(0).integers(-127, 128, (64, 64)).astype(np.int8), "int8", "int8",
             "int8, 255 codes used, stored as int8"),
    "int4 in int8": (np.random.default_rng(0).integers(-7, 8, (64, 64)).astype(np.int8), "int4", "int4",
                     "int4, 15 codes used, stored as int8"),
    "uint8": (np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8), "uint8", "uint8",
              "uint8, 256 codes used, stored as uint8"),
    "one value": (np.full((64, 9), 0.5, dtype=np.float32), "None", "None", "one value"),
    "a fixed selection": (np.eye(64, dtype=np.float32), "None", "None", "one value"),
    "mask": (np.ones((64, 9), dtype=np.bool_), "None", "None", "stored as bool"),
    "zeros": (np.zeros((64, 9), dtype=np.float32), "None", "None", ""),
    "few values": (np.array([[1, -1, 2], [3, 0, 1]], dtype=np.float32), "None", "None", ""),
    "one channel is not quantised": (
        np.concatenate([quantized(WEIGHTS, 4, per_channel=True)[:-1], WEIGHTS[-1:]]), "None", "None", "",
    ),
    "noise where zeros were": (
        np.where(np.abs(WEIGHTS) < 0.5, np.float32(1e-9), quantized(WEIGHTS, 4, per_channel=False)), "codebook4", "None",
        "codebook of 15 values",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FOUND)
def test_each_kind_of_values_is_named(case: str) -> None:
    values, form, integer, evidence = FOUND[case]
    found = find_format(values)
    assert (str(found.format), str(found.integer), found.evidence) == (form, integer, evidence)


def test_steps_of_other_grids_are_exact() -> None:
    assert find_format(FOUND["ternary"][0]).step == (float(np.float32(0.37)),)
    found = find_format(FOUND["few powers of two"][0])
    assert found.step == pytest.approx((0.3 / 64,), rel=1e-6)
    means = np.abs(WEIGHTS).mean(axis=1)
    np.testing.assert_allclose(find_format(FOUND["binary per channel"][0]).step or (), means, rtol=1e-6)


def test_a_channel_of_zeros_takes_any_step() -> None:
    stored = quantized(WEIGHTS, 4, per_channel=True)
    stored[5] = 0
    found = find_format(stored)
    assert found.integer == parse_format("int4", per="channel")
    assert found.step is not None and found.step[5] == pytest.approx(np.median(np.delete(found.step, 5)), rel=0.01)


def test_depthwise_filters_are_found_by_all_channels_together() -> None:
    found = find_format(quantized(normal(32, 9), 8, per_channel=True))
    assert found.integer == parse_format("int8", per="channel")


def test_a_codebook_needs_many_elements_a_value() -> None:
    book = np.random.default_rng(1).standard_normal(100).astype(np.float32)
    few = book[np.random.default_rng(2).integers(0, 100, (25, 30))]
    many = book[np.random.default_rng(2).integers(0, 100, (50, 30))]
    assert find_format(few).format is None
    assert find_format(many).format == NumberFormat(kind=FormatKind.CODEBOOK, bits=7)


@pytest.mark.parametrize("scale", [1e-45, 1e-42, 1e-38, 1e38])
def test_the_ends_of_the_range_are_survived(scale: float) -> None:
    values = np.clip(normal(16, 16), -3, 3).astype(np.float64) * scale
    assert find_format(values.astype(np.float32)).step is None or scale < 1e-41  # subnormals lie on a grid of their own
    codes = np.random.default_rng(0).integers(2**64 - 100, 2**64 - 1, (8, 8), dtype=np.uint64)
    assert find_format(codes).distinct == len(np.unique(codes))
