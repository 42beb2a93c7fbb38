"""How numbers are stored: number formats and sparsity structures of an operand.

Everything a compression method produces arrives here as a value (bits, exponent and mantissa, block, codebook, N:M, ...).
Left out: the values themselves (see `weights`) and how hardware computes with them (see `protocol.Arithmetic`).
"""

import re
from dataclasses import dataclass, replace
from enum import StrEnum

from picojoule.sim.errors import InputError


class FormatKind(StrEnum):
    """Families of number formats; hardware decides which of them it runs."""

    INTEGER = "integer"
    FLOAT = "float"
    BLOCK_FLOAT = "block_float"
    TERNARY = "ternary"
    BINARY = "binary"
    POWER_OF_TWO = "power_of_two"
    BIT_PLANE = "bit_plane"
    CODEBOOK = "codebook"


class Granularity(StrEnum):
    """What shares one scale: the whole tensor, or each output channel."""

    TENSOR = "tensor"
    CHANNEL = "channel"


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberFormat:
    """A number format; `bits` is what one element occupies in memory.

    Signed integers are symmetric: the most negative code is unused, so that sign-magnitude and differential hardware
    can hold every value. `exponent_bits` and `mantissa_bits` belong to floats, `block` to block floats (elements sharing
    an exponent of `exponent_bits`).
    """

    kind: FormatKind
    bits: int
    signed: bool = True
    exponent_bits: int | None = None
    mantissa_bits: int | None = None
    block: int | None = None
    per: Granularity = Granularity.TENSOR

    @property
    def is_integer(self) -> bool:
        """Whether values are integers times a step, so that integer hardware computes them exactly."""
        return self.kind in (FormatKind.INTEGER, FormatKind.TERNARY, FormatKind.BINARY, FormatKind.BIT_PLANE)

    @property
    def qmax(self) -> int:
        """Largest integer code."""
        if self.kind in (FormatKind.TERNARY, FormatKind.BINARY):
            return 1
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    @property
    def qmin(self) -> int:
        """Smallest integer code."""
        return -self.qmax if self.signed else 0

    @property
    def stored_bits(self) -> float:
        """Bits an element occupies, with its share of a block's exponent."""
        if self.kind is FormatKind.BLOCK_FLOAT and self.block and self.exponent_bits:
            return self.bits + self.exponent_bits / self.block
        return float(self.bits)

    def per_channel(self) -> "NumberFormat":
        """Return the same format with one scale per output channel."""
        return replace(self, per=Granularity.CHANNEL)

    def __str__(self) -> str:
        """Return the spelling that `parse_format` reads (granularity apart)."""
        match self.kind:
            case FormatKind.INTEGER:
                return f"{'int' if self.signed else 'uint'}{self.bits}"
            case FormatKind.FLOAT:
                short = {(5, 10): "fp16", (8, 7): "bf16", (8, 23): "fp32", (11, 52): "fp64"}
                pair = (self.exponent_bits or 0, self.mantissa_bits or 0)
                return short.get(pair, f"fp{self.bits}_e{pair[0]}m{pair[1]}")
            case FormatKind.BLOCK_FLOAT:
                return f"bfp{self.bits}_b{self.block}"
            case FormatKind.POWER_OF_TWO:
                return f"pow2_{self.bits}"
            case FormatKind.CODEBOOK:
                return f"codebook{self.bits}"
            case FormatKind.BIT_PLANE:
                return f"planes{self.bits}"
            case _:
                return self.kind.value


def _float(bits: int, exponent: int, mantissa: int) -> NumberFormat:
    return NumberFormat(kind=FormatKind.FLOAT, bits=bits, exponent_bits=exponent, mantissa_bits=mantissa)


FP32 = _float(32, 8, 23)
FP16 = _float(16, 5, 10)
BF16 = _float(16, 8, 7)
FP64 = _float(64, 11, 52)
_NAMED = {"fp32": FP32, "float32": FP32, "fp16": FP16, "float16": FP16, "bf16": BF16, "bfloat16": BF16, "fp64": FP64}
_NAMED |= {
    "ternary": NumberFormat(kind=FormatKind.TERNARY, bits=2),
    "binary": NumberFormat(kind=FormatKind.BINARY, bits=1),
}
_SPELLINGS = (
    "int2..int32, uint1..uint32, fp32, fp16, bf16, fpB_eEmM, bfpB_bN, ternary, binary, pow2_B, planesB, codebookB"
)


def integer_format(bits: int, *, signed: bool = True, per: Granularity = Granularity.TENSOR) -> NumberFormat:
    """Return an integer format; signed ones need at least 2 bits because the range is symmetric."""
    if not (2 if signed else 1) <= bits <= 32:
        raise InputError(f"an integer format needs {2 if signed else 1} to 32 bits, got {bits}")
    return NumberFormat(kind=FormatKind.INTEGER, bits=bits, signed=signed, per=per)


def parse_format(text: str, *, per: str = "tensor") -> NumberFormat:
    """Return the format spelt `text`, for instance `int4`, `uint8`, `bf16`, `fp8_e4m3`, `bfp8_b16`, `ternary`.

    Raises:
        InputError: for any other spelling.

    """
    word = text.strip().lower()
    made = _NAMED.get(word) or _parse_pattern(word)
    if made is None:
        raise InputError(f"unknown number format '{text}'; write one of {_SPELLINGS}")
    if per not in ("tensor", "channel"):
        raise InputError(f"a format is per 'tensor' or per 'channel', got '{per}'")
    return replace(made, per=Granularity(per))


def _parse_pattern(word: str) -> NumberFormat | None:
    if match := re.fullmatch(r"(u?)int([0-9]{1,2})", word):
        return integer_format(int(match[2]), signed=not match[1])
    if match := re.fullmatch(r"fp([0-9]{1,2})_e([0-9]{1,2})m([0-9]{1,2})", word):
        bits, exponent, mantissa = (int(g) for g in match.groups())
        return _float(bits, exponent, mantissa) if bits == 1 + exponent + mantissa and exponent else None
    if match := re.fullmatch(r"bfp([0-9]{1,2})_b([0-9]{1,4})", word):
        bits, block = int(match[1]), int(match[2])
        made = NumberFormat(
            kind=FormatKind.BLOCK_FLOAT, bits=bits, exponent_bits=8, mantissa_bits=bits - 1, block=block
        )
        return made if 2 <= bits <= 32 and block >= 1 else None
    for prefix, kind in (
        ("pow2_", FormatKind.POWER_OF_TWO),
        ("planes", FormatKind.BIT_PLANE),
        ("codebook", FormatKind.CODEBOOK),
    ):
        if (match := re.fullmatch(prefix + r"([0-9]{1,2})", word)) and 1 <= int(match[1]) <= 16:
            return NumberFormat(kind=kind, bits=int(match[1]))
    return None


class Structure(StrEnum):
    """Where the zeros of a sparse operand may be."""

    DENSE = "dense"
    UNSTRUCTURED = "unstructured"
    N_OF_M = "n:m"
    BLOCK = "block"
    ROW = "row"
    COLUMN = "column"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sparsity:
    """Structure of an operand's zeros and its density (share of non-zeros, 0 to 1).

    `n` of every `m` consecutive inputs are kept for `N_OF_M`; `block` is (rows, columns) for `BLOCK`.
    """

    structure: Structure = Structure.DENSE
    density: float = 1.0
    n: int | None = None
    m: int | None = None
    block: tuple[int, int] | None = None

    def __str__(self) -> str:
        """Return the spelling that `parse_sparsity` reads, without the density."""
        if self.structure is Structure.N_OF_M:
            return f"{self.n}:{self.m}"
        if self.structure is Structure.BLOCK and self.block:
            return f"block{self.block[0]}x{self.block[1]}"
        return self.structure.value


DENSE = Sparsity()


def parse_sparsity(text: str, density: float | None = None) -> Sparsity:
    """Return the sparsity spelt `dense`, `unstructured`, `2:4`, `block4x4`, `row` or `column`.

    Raises:
        InputError: for another spelling, N > M, or a density outside 0 to 1 (or missing where the structure has none).

    """
    word = text.strip().lower()
    if word == "dense" and density not in (None, 1.0):
        raise InputError(f"'dense' means a density of 1, got {density}; write 'unstructured' for scattered zeros")
    if density is not None and not 0.0 <= density <= 1.0:
        raise InputError(f"density is the share of non-zeros and lies between 0 and 1, got {density}")
    if word == "dense":
        return DENSE
    if match := re.fullmatch(r"([0-9]{1,3}):([0-9]{1,3})", word):
        n, m = int(match[1]), int(match[2])
        if not 1 <= n <= m:
            raise InputError(f"N:M sparsity keeps N of M with 1 <= N <= M, got {n}:{m}")
        return Sparsity(structure=Structure.N_OF_M, density=n / m if density is None else density, n=n, m=m)
    if match := re.fullmatch(r"block([0-9]{1,4})x([0-9]{1,4})", word):
        if not int(match[1]) * int(match[2]):
            raise InputError(f"a block needs at least 1 row and 1 column, got '{text}'")
        made = Sparsity(structure=Structure.BLOCK, block=(int(match[1]), int(match[2])))
    elif word in ("unstructured", "row", "column"):
        made = Sparsity(structure=Structure(word))
    else:
        raise InputError(f"unknown sparsity '{text}'; write dense, unstructured, N:M, blockRxC, row or column")
    if density is None:
        raise InputError(f"sparsity '{text}' needs a density between 0 and 1")
    return replace(made, density=density)
