"""Number formats found in a tensor's values: integer grids, powers of two, narrow floats, codebooks.

A full-precision tensor is let go after a sample of its values; what passes the sample is checked on every value.

Integer grids are told from chance as `integer_grids` says; for values that were rounded to fp16 or bf16 on top, within what
this rounding takes. Narrow floats: the low mantissa bits of every value are zero, and the exponents fit. Powers of two: all
mantissas are equal, and so a step times 2^-i. Codebook: at most 256 different values, each used eight times on average;
repeats do not happen in full-precision weights, and 256 values are too few for fp16 or bf16 weights of that many elements.

Of several descriptions the one with the fewest bits is taken. An integer grid of up to 9 bits and an 8-bit float have few
values by nature: the float is never called a codebook, the grid only where a codebook saves three bits or more. Fewer than 16
non-zeros, or a single value, say nothing about a format.

Left out: a step per group of inputs, a step per input channel, block floats.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from picojoule.sim.formats import BF16, FP16, FormatKind, Granularity, NumberFormat, parse_format
from picojoule.sim.integer_grids import EXACT, Floats, Grid, blocks, evidence_of, find_grid, narrowest_integer

FEWEST = 16
"""Non-zeros below which a tensor says nothing about its format."""
RUNNABLE_BITS = 8
"""Integers up to this width run on every accelerator."""
_SAMPLE = 2048
_ROUNDED = {"fp16": 2.0**-10 + EXACT, "bf16": 2.0**-7 + EXACT}
"""Half a unit in the last place of the value and of the largest magnitude, relative to the latter."""
_LARGEST_CODEBOOK = 256
_USES_PER_VALUE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFormat:
    """What the values show.

    `format` describes them in the fewest bits, None where nothing narrower than float32 does. `integer` is the integer grid
    they lie on with its `step` (one number, or one per output channel), which hardware may run even where `format` is another.
    Its codes fit `code_bits`, which may be one fewer than a symmetric format takes.
    `distinct` counts different values (codes, on a grid), None for more than 256 off a grid.
    """

    format: NumberFormat | None = None
    integer: NumberFormat | None = None
    step: tuple[float, ...] | None = None
    code_bits: int | None = None
    distinct: int | None = None
    evidence: str = ""


def find_format(rows: NDArray[np.generic]) -> FoundFormat:
    """Return the format of finite real values [output channels, rest]."""
    if rows.dtype.kind in "iub":
        return _of_codes(rows)
    with np.errstate(all="ignore"):  # the smallest and largest floats leave the range on the way, and fit nothing
        return _of_reals(np.ascontiguousarray(rows, dtype=np.float32))


def _of_reals(exact: Floats) -> FoundFormat:
    sample = _sample(exact)
    if len(sample) < FEWEST:
        return FoundFormat()
    if np.ptp(sample) == 0 and np.isin(exact, (0.0, sample[0])).all():
        return FoundFormat(distinct=1 + bool((exact == 0).any()), evidence="one value")
    narrow = narrowest_float(sample)
    grid = find_grid(exact, sample, EXACT)
    if str(narrow) in _ROUNDED and (grid is None or grid.format.bits > RUNNABLE_BITS + 1):
        grid = find_grid(exact, sample, _ROUNDED[str(narrow)]) or grid
    return _fewest_bits(exact, sample, grid, narrow)


def _fewest_bits(exact: Floats, sample: Floats, grid: Grid | None, narrow: NumberFormat | None) -> FoundFormat:
    integer = grid.format if grid else None
    power = _power_of_two(sample) and _power_of_two(exact)
    narrow = narrow and narrowest_float(exact)
    if grid is not None and grid.format.bits <= RUNNABLE_BITS + 1:
        book = _codebook_of_codes(grid, exact.size)
    else:
        book = None if narrow and narrow.bits <= RUNNABLE_BITS else _codebook(exact, sample)
    if integer is not None and narrow and integer.bits > RUNNABLE_BITS and (integer.bits > 9 or exact.size < _SAMPLE):
        integer = None  # few values of a narrow float lie on a fine grid too
    described = [f for f in (integer, power, narrow, book.format if book else None) if f]
    if not described:
        return FoundFormat()
    best = min(described, key=lambda f: f.bits)  # the first of equals
    found = FoundFormat(format=best, distinct=book.distinct if book else None)
    if grid is not None and integer is not None:
        found = replace(
            found, integer=integer, step=grid.step, code_bits=grid.code_bits, distinct=grid.used, evidence=grid.evidence
        )
    if best == integer:
        return found
    return replace(found, evidence=_description(best, found))


def _description(form: NumberFormat, found: FoundFormat) -> str:
    if form.kind is FormatKind.CODEBOOK:
        return f"codebook of {found.distinct} values"
    if form.kind is FormatKind.POWER_OF_TWO:
        return "powers of two" + (f", {found.distinct} values" if found.distinct else "")
    return f"{form} values"


def _sample(rows: Floats) -> Floats:
    """Return up to 2,048 non-zeros from all over the tensor."""
    flat = rows.reshape(-1)
    if flat.size > _SAMPLE:
        jump = int(flat.size * 0.618034) | 1  # lands on every column, whatever the length of a row
        picked = flat[np.arange(_SAMPLE, dtype=np.int64) * jump % flat.size]
        found: Floats = picked[picked != 0]
        if len(found) >= _SAMPLE // 8:
            return found
    kept: Floats = flat[flat != 0][:_SAMPLE]
    return kept


def _of_codes(rows: NDArray[np.generic]) -> FoundFormat:
    """Return the format of a tensor of whole numbers: the bits that its codes need."""
    name = str(rows.dtype)
    if rows.dtype.kind == "b" or rows.size == 0:
        return FoundFormat(evidence=f"stored as {name}")
    low, high = int(rows.min()), int(rows.max())
    distinct = None
    if high - low < 1 << 16:
        wide = rows if rows.dtype.kind == "u" else rows.astype(np.int64)
        distinct = int(np.count_nonzero(np.bincount((wide - wide.min()).astype(np.int64).reshape(-1))))
    says = rows.size >= FEWEST and (low < 0 or high > 1)
    form = narrowest_integer(low, high, zeros=not rows.all()) if says else None
    if form is None or distinct == 1:
        return FoundFormat(distinct=distinct, evidence=f"stored as {name}")
    text = f"{evidence_of(form, low, high, distinct or 0)}, stored as {name}"
    return FoundFormat(
        format=form,
        integer=form,
        step=(1.0,),
        code_bits=(high - low).bit_length(),
        distinct=distinct,
        evidence=text.replace(f" per {Granularity.TENSOR}", ""),
    )


# --- other formats ----------------------------------------------------------------------------------------------------

_FLOATS = (  # low bits of a float32's mantissa that are zero, multiples of which unit, largest magnitude
    (parse_format("fp8_e5m2"), 21, 2.0**-16, 57344.0),
    (parse_format("fp8_e4m3"), 20, 2.0**-9, 448.0),
    (BF16, 16, None, np.inf),
    (FP16, 13, 2.0**-24, 65504.0),
)
"""fp8 as in OCP's 8-bit floating point specification (E4M3 has no infinities), fp16 as in IEEE 754."""


def narrowest_float(values: Floats) -> NumberFormat | None:
    """Return the narrowest of fp8_e5m2, fp8_e4m3, bf16 and fp16 that holds every value (float32), None for wider ones."""
    bits = int(np.bitwise_or.reduce(values.view(np.uint32), axis=None)) & 0x7FFFFF
    for form, zeros, unit, largest in _FLOATS:
        if bits & ((1 << zeros) - 1):
            continue
        if unit is None:
            return form
        scaled = values / np.float32(unit)
        if np.abs(scaled).max(initial=0) <= largest / unit and bool((np.rint(scaled) == scaled).all()):
            return form
    return None


def _power_of_two(values: Floats) -> NumberFormat | None:
    """Return the power-of-two format of the values: at least three levels step 2^-i, and zero."""
    mantissa, exponent = np.frexp(np.abs(values[values != 0]))
    if mantissa.size == 0 or not (mantissa == mantissa.flat[0]).all():
        return None
    levels = int(exponent.max()) - int(exponent.min()) + 1
    bits = levels.bit_length() + 1
    made = NumberFormat(kind=FormatKind.POWER_OF_TWO, bits=bits)
    return made if len(np.unique(exponent)) >= 3 and bits <= RUNNABLE_BITS else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Codebook:
    format: NumberFormat
    distinct: int


def _codebook_of_codes(grid: Grid, elements: int) -> _Codebook | None:
    """Return the codebook of a grid for the whole tensor that leaves most codes of its format unused."""
    bits = max(1, (grid.used - 1).bit_length())
    fewer = bits < grid.format.bits - 2 and len(grid.step) == 1
    if not fewer or elements < _USES_PER_VALUE * grid.used:
        return None
    return _Codebook(format=NumberFormat(kind=FormatKind.CODEBOOK, bits=bits), distinct=grid.used)


def _codebook(rows: Floats, sample: Floats) -> _Codebook | None:
    """Return the codebook of at most 256 values, each used eight times on average."""
    known: Floats = np.unique(sample)
    if len(known) > _LARGEST_CODEBOOK:
        return None
    for _, block in blocks(rows.reshape(1, -1)):
        flat = block.reshape(-1)
        place = np.minimum(np.searchsorted(known, flat), len(known) - 1)
        new = flat[known[place] != flat]
        if new.size:
            known = np.union1d(known, new)
        if len(known) > _LARGEST_CODEBOOK:
            return None
    if rows.size < _USES_PER_VALUE * len(known) or len(known) < 3:
        return None
    bits = max(1, (len(known) - 1).bit_length())
    return _Codebook(format=NumberFormat(kind=FormatKind.CODEBOOK, bits=bits), distinct=len(known))
