import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from picojoule.sim.errors import InputError
from picojoule.sim.formats import (
    BF16,
    DENSE,
    FP32,
    FormatKind,
    Granularity,
    NumberFormat,
    Sparsity,
    Structure,
    integer_format,
    parse_format,
    parse_sparsity,
)

whole = st.builds(integer_format, st.integers(2, 32), signed=st.booleans())
floats = st.tuples(st.integers(1, 11), st.integers(0, 52)).map(
    lambda p: NumberFormat(kind=FormatKind.FLOAT, bits=1 + sum(p), exponent_bits=p[0], mantissa_bits=p[1])
)
block_floats = st.tuples(st.integers(2, 32), st.integers(1, 9999)).map(lambda p: parse_format(f"bfp{p[0]}_b{p[1]}"))
coded = st.tuples(st.sampled_from(["pow2_", "planes", "codebook"]), st.integers(1, 16)).map(
    lambda p: parse_format(f"{p[0]}{p[1]}")
)
named = st.sampled_from(["ternary", "binary", "fp32", "fp16", "bf16", "fp64"]).map(parse_format)
formats = whole | floats | block_floats | coded | named

shares = st.floats(0, 1)
sparsities = st.one_of(
    st.just(DENSE),
    st.builds(Sparsity, structure=st.sampled_from([Structure.UNSTRUCTURED, Structure.ROW, Structure.COLUMN]), density=shares),
    st.builds(Sparsity, structure=st.just(Structure.BLOCK), density=shares, block=st.tuples(*[st.integers(1, 64)] * 2)),
    st.integers(1, 32).flatmap(
        lambda m: st.builds(Sparsity, structure=st.just(Structure.N_OF_M), density=shares, n=st.integers(1, m), m=st.just(m))
    ),
)  # fmt: skip


def refuses(message: str):
    return pytest.raises(InputError, match=f"^{re.escape(message)}$")


@given(form=formats, per=st.sampled_from(["tensor", "channel"]))
def test_a_format_is_read_back_from_its_spelling(form: NumberFormat, per: str) -> None:
    read = parse_format(str(form), per=per)
    assert read.per is Granularity(per)
    expected = form.per_channel() if per == "channel" else form
    assert read == expected
    assert parse_format(f"  {str(form).upper()} ", per=per) == read


@given(text=st.text("uintfpbe_m0123456789:x ", max_size=10))
def test_any_other_text_is_refused_or_read_back(text: str) -> None:
    try:
        read = parse_format(text)
    except InputError:
        return
    assert parse_format(str(read)) == read
    assert 1 <= read.bits <= 64


@pytest.mark.parametrize(
    ("text", "bits", "stored", "codes"),
    [
        ("int8", 8, 8.0, (-127, 127)),
        ("int2", 2, 2.0, (-1, 1)),
        ("uint8", 8, 8.0, (0, 255)),
        ("uint1", 1, 1.0, (0, 1)),
        ("ternary", 2, 2.0, (-1, 1)),
        ("binary", 1, 1.0, (-1, 1)),
        ("planes4", 4, 4.0, (-7, 7)),
    ],
)
def test_codes_of_integer_formats(text: str, bits: int, stored: float, codes: tuple[int, int]) -> None:
    form = parse_format(text)
    assert form.is_integer
    assert (form.bits, form.stored_bits, (form.qmin, form.qmax)) == (bits, stored, codes)


def test_floats_and_block_floats() -> None:
    assert parse_format("float32") == FP32 == parse_format("fp32_e8m23")
    assert str(parse_format("fp16_e8m7")) == "bf16" and parse_format("bfloat16") == BF16
    eight = parse_format("fp8_e4m3")
    assert (eight.bits, eight.exponent_bits, eight.mantissa_bits, eight.is_integer) == (8, 4, 3, False)
    shared = parse_format("bfp8_b16")
    assert (shared.bits, shared.mantissa_bits, shared.block, shared.stored_bits) == (8, 7, 16, 8.5)


SPELLINGS = (
    "write one of int2..int32, uint1..uint32, fp32, fp16, bf16, fpB_eEmM, bfpB_bN, "
    "ternary, binary, pow2_B, planesB, codebookB"
)


@pytest.mark.parametrize(
    "text", ["", "int", "int8.5", "int-8", "int 8", "int008", "fp8_e4m4", "fp8_e0m7", "bfp1_b16", "bfp8_b0", "pow2_17"]
)  # fmt: skip
def test_unknown_formats(text: str) -> None:
    with refuses(f"unknown number format '{text}'; {SPELLINGS}"):
        parse_format(text)


def test_formats_out_of_range() -> None:
    for text, message in (
        ("int1", "an integer format needs 2 to 32 bits, got 1"),
        ("int33", "an integer format needs 2 to 32 bits, got 33"),
        ("uint0", "an integer format needs 1 to 32 bits, got 0"),
    ):
        with refuses(message):
            parse_format(text)
    with refuses("a format is per 'tensor' or per 'channel', got 'row'"):
        parse_format("int8", per="row")


@given(sparsity=sparsities)
def test_a_sparsity_is_read_back_from_its_spelling(sparsity: Sparsity) -> None:
    assert parse_sparsity(str(sparsity), sparsity.density) == sparsity


def test_sparsities() -> None:
    assert parse_sparsity("2:4") == Sparsity(structure=Structure.N_OF_M, density=0.5, n=2, m=4)
    assert parse_sparsity("Block4x8", 0.25).block == (4, 8)
    for text, density, message in (
        ("5:4", None, "N:M sparsity keeps N of M with 1 <= N <= M, got 5:4"),
        ("0:4", None, "N:M sparsity keeps N of M with 1 <= N <= M, got 0:4"),
        ("row", None, "sparsity 'row' needs a density between 0 and 1"),
        ("row", 1.5, "density is the share of non-zeros and lies between 0 and 1, got 1.5"),
        ("row", float("nan"), "density is the share of non-zeros and lies between 0 and 1, got nan"),
        ("rows", 0.5, "unknown sparsity 'rows'; write dense, unstructured, N:M, blockRxC, row or column"),
    ):
        with refuses(message):
            parse_sparsity(text, density)
