"""What a crossbar is: encoding, cells, input pulses, converters, tiles and wires; `arithmetic` computes with it.

Weights of n bits lie in K slices of cells 0..q, inputs of m bits come in J steps of pulses 0..p, a tile has R wordlines
(ISAAC, Shafiee et al., ISCA 2016; conventions of ranges as in CrossSim 3.2). Left out: noise, variation and drift of
cells, and what anything costs.
"""

import math
from enum import StrEnum
from typing import Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from picojoule.reram.converter import Adc, snap_to_whole
from picojoule.sim.errors import InputError, nearest, unknown_choice


class Encoding(StrEnum):
    """How a signed weight lies in cells that hold 0 or more."""

    OFFSET = "offset"  # w + 2**(n-1) is stored; 2**(n-1) * sum(x) is removed digitally
    DIFFERENTIAL = "differential"  # positive and negative cells; their currents are subtracted before the ADC
    FLIP = "flip"  # offset, but a column whose sum could pass half range holds its complement (ISAAC)
    SPLIT = "split"  # positive and negative cells, converted apart and subtracted digitally


# Whole-number fields: smallest and largest value. Products of the largest ones stay far inside int64.
_LIMITS = {
    "weight_bits": (2, 16),
    "slices": (1, 16),
    "cell_max": (1, 65535),
    "input_bits": (1, 16),
    "input_bits_per_step": (0, 16),
    "tile_rows": (1, 65536),
    "tile_cols": (1, 65536),
    "rows_active": (1, 65536),
}
_ADC_BITS = (1, 24)

_TYPES = dict.fromkeys(_LIMITS, "a whole number") | {
    "rows_active": "a whole number, or None for all rows",
    "signed_inputs": "true or false",
    "adc_bits": "a whole number, one per slice (least significant first), or None for no ADC",
    "adc_lo": "a number, one per slice (least significant first), or None",
    "adc_hi": "a number, one per slice (least significant first), or None",
    "r_on_ohm": "a number",
    "r_off_ohm": "a number, or None for infinite",
    "wire_ohm_per_cell": "a number, or None for ideal wires",
}


class CrossbarSpec(BaseModel):
    """One crossbar design; every field has a default, the defaults are ISAAC's array with 8-bit weights and inputs.

    Raises InputError (one sentence) for unknown fields, wrong types and designs that cannot hold their weights.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    encoding: Encoding = Field(default=Encoding.OFFSET, strict=False)
    """How signed weights lie in the cells: offset, differential, flip or split."""
    weight_bits: int = 8
    """n: weights are whole numbers of n bits, sign included."""
    slices: int = 4
    """K: cells that together hold one weight (or one polarity of it)."""
    cell_max: int = 3
    """q: largest level of a cell; 3 is a 2-bit cell."""
    input_bits: int = 8
    """m: bits of an input, sign included where `signed_inputs`."""
    signed_inputs: bool = False
    """Whether inputs have a sign: magnitudes of m - 1 bits as pulses of both polarities."""
    input_bits_per_step: int = 1
    """v: bits that a wordline pulse carries (the DAC); 1 is bit serial, 0 sends an input as one analogue pulse."""
    adc_bits: int | tuple[int, ...] | None = 8
    """b: bits of the ADC, or one number per slice (least significant first); None: sums are taken as they are."""
    adc_lo: float | tuple[float, ...] | None = None
    """Lower end of the range, where a full cell under a full pulse adds 1: 0, or -`adc_hi` for a signed ADC."""
    adc_hi: float | tuple[float, ...] | None = None
    """Upper end of the range; None gives one code per cell unit (wider sums clip)."""
    tile_rows: int = 128
    """R: wordlines of one array; longer reductions take several tiles of about equal size."""
    tile_cols: int = 128
    """Bitlines of one array."""
    r_on_ohm: float = 1e4
    """Resistance of a full cell."""
    r_off_ohm: float | None = None
    """Resistance of an empty cell; None is infinite."""
    wire_ohm_per_cell: float | None = None
    """Resistance of one wire segment between neighbouring cells; None or 0 is an ideal wire."""
    rows_active: int | None = None
    """Wordlines on at once: a tile is read in groups of at most so many, each converted apart; None is all."""

    def __init__(self, **values: Any) -> None:
        """Check `values` and hold them; see the fields above."""
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise InputError(_sentence(error, values)) from None

    def replace(self, **changes: Any) -> Self:
        """Return a checked copy with some fields changed."""
        return type(self)(**{**self.model_dump(), **changes})

    # ---- weights

    @property
    def stores_offset(self) -> bool:
        """Whether cells hold the weight plus 2**(n-1) (offset, flip) instead of its magnitude."""
        return self.encoding in (Encoding.OFFSET, Encoding.FLIP)

    @property
    def weight_range(self) -> tuple[int, int]:
        """Smallest and largest weight that the cells can hold."""
        half = 1 << (self.weight_bits - 1)
        return (-half if self.stores_offset else 1 - half), half - 1

    @property
    def planes(self) -> int:
        """Cells a weight takes: one per slice, two where both polarities exist."""
        return self.slices * (1 if self.stores_offset else 2)

    # ---- inputs

    @property
    def magnitude_bits(self) -> int:
        """Bits of an input without its sign."""
        return self.input_bits - int(self.signed_inputs)

    @property
    def input_range(self) -> tuple[int, int]:
        """Smallest and largest input."""
        top = (1 << self.magnitude_bits) - 1
        return (-top if self.signed_inputs else 0), top

    @property
    def bits_per_pulse(self) -> int:
        """Input bits in one step; all of them where the input is one analogue pulse."""
        return self.input_bits_per_step or self.magnitude_bits

    @property
    def pulse_max(self) -> int:
        """p: the largest pulse."""
        return (1 << self.bits_per_pulse) - 1

    @property
    def steps(self) -> int:
        """J: pulses that carry one input."""
        return -(-self.magnitude_bits // self.bits_per_pulse)

    # ---- columns and converters

    @property
    def off_on_ratio(self) -> float:
        """Conductance of an empty cell over that of a full one; 0 for an infinite off resistance."""
        return 0.0 if self.r_off_ohm is None else self.r_on_ohm / self.r_off_ohm

    @property
    def has_wires(self) -> bool:
        """Whether wires have resistance."""
        return bool(self.wire_ohm_per_cell)

    @property
    def needs_signed_adc(self) -> bool:
        """Whether column sums can be negative."""
        return self.signed_inputs or self.encoding is Encoding.DIFFERENTIAL

    @property
    def cell_units(self) -> float:
        """Column sum, counted in cell units, of a full cell under a full pulse (the 1 of `adc_hi`).

        A differential pair cancels the current of its empty cells before the ADC, which leaves 1 - r of the swing.
        """
        swing = 1.0 - self.off_on_ratio if self.encoding is Encoding.DIFFERENTIAL else 1.0
        return self.cell_max * self.pulse_max / swing

    @property
    def lossless_adc_bits(self) -> int:
        """Fewest ADC bits at one code per cell unit that lose nothing whatever the weights (infinite `r_off_ohm`).

        ceil(log2(R q p + 1)), one more with a sign, one fewer for `flip`, whose columns stay below half range as long
        as all rows are read at once. 9 for 128 rows, 2-bit cells and 1-bit inputs; 8 with flip, as ISAAC builds it.
        """
        rows = min(self.tile_rows, self.rows_active or self.tile_rows)
        levels = rows * self.cell_max
        if self.encoding is Encoding.FLIP and rows == self.tile_rows:
            levels //= 2
        return max(1, (levels * self.pulse_max).bit_length()) + int(self.needs_signed_adc)

    def with_lossless_adc(self) -> Self:
        """Return the same crossbar with the narrowest ADC that loses nothing whatever the weights."""
        return self.replace(adc_bits=self.lossless_adc_bits, adc_lo=None, adc_hi=None)

    def unit_adc_range(self, bits: int) -> tuple[float, float]:
        """Return (lo, hi) at which an ADC of `bits` has one code per cell unit, in the units of `adc_hi`."""
        signed = self.needs_signed_adc
        top = ((1 << (bits - 1)) - 1 if signed else (1 << bits) - 1) / self.cell_units
        return (-top if signed else 0.0), top

    @property
    def converters(self) -> tuple[Adc, ...] | None:
        """The ADC of each slice, least significant first, in cell units; None without an ADC."""
        if self.adc_bits is None:
            return None
        found = []
        for k in range(self.slices):
            bits, lo, hi = _of_slice(self.adc_bits, k), _of_slice(self.adc_lo, k), _of_slice(self.adc_hi, k)
            if hi is None:
                lo, hi = self.unit_adc_range(bits)
            elif lo is None:
                lo = -hi if self.needs_signed_adc else 0.0
            codes = (1 << bits) - int(lo < 0)
            found.append(
                Adc(lo=snap_to_whole(lo * self.cell_units), hi=snap_to_whole(hi * self.cell_units), codes=codes)
            )
        return tuple(found)

    # ---- checks

    @model_validator(mode="before")
    @classmethod
    def _plain_values(cls, values: Any) -> Any:
        """Take numpy numbers and lists as Python writes them."""
        if not isinstance(values, dict):
            return values
        return {name: _plain(value) for name, value in values.items()}

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name, (least, most) in _LIMITS.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise InputError(f"{name} must be between {least} and {most}, got {value}")
        self._check_cells()
        self._check_inputs()
        if self.adc_bits is not None:
            self._check_adc()
        return self

    def _check_cells(self) -> None:
        needed_bits = self.weight_bits - int(not self.stores_offset)
        cell_bits = self.cell_max.bit_length()
        held = f"{self.weight_bits}-bit weights in {self.encoding.value} encoding"
        if self.cell_max + 1 != 1 << cell_bits:
            if self.slices > 1:
                raise InputError(
                    f"cell_max must be 1, 3, 7, 15, ... (2**bits - 1) with several slices, got {self.cell_max}; "
                    "use slices=1 for one analogue cell"
                )
            if self.cell_max < (1 << needed_bits) - 1:
                raise InputError(f"{held} need cell_max of at least {(1 << needed_bits) - 1}, got {self.cell_max}")
        elif self.slices * cell_bits < needed_bits:
            raise InputError(
                f"{held} need {needed_bits} bits of cells, got {self.slices} x {cell_bits}; "
                "use more slices or a larger cell_max"
            )
        for name in ("r_on_ohm", "r_off_ohm"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InputError(f"{name} must be more than 0 and finite, got {value:g}")
        wire_ohm = self.wire_ohm_per_cell
        if wire_ohm is not None and not (math.isfinite(wire_ohm) and wire_ohm >= 0):
            raise InputError(f"wire_ohm_per_cell must be 0 or more and finite, got {wire_ohm:g}")
        if self.r_off_ohm is not None and self.r_off_ohm <= self.r_on_ohm:
            raise InputError(f"r_off_ohm must be larger than r_on_ohm ({self.r_on_ohm:g}), got {self.r_off_ohm:g}")

    def _check_inputs(self) -> None:
        if self.magnitude_bits < 1:
            raise InputError(f"input_bits must be at least 2 where signed_inputs is true, got {self.input_bits}")
        if self.input_bits_per_step > self.magnitude_bits:
            raise InputError(
                f"input_bits_per_step must be at most the {self.magnitude_bits} magnitude bits of an input, "
                f"got {self.input_bits_per_step}; use 0 for one analogue pulse"
            )

    def _check_adc(self) -> None:
        for name in ("adc_bits", "adc_lo", "adc_hi"):
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) != self.slices:
                raise InputError(f"{name} must have one value per slice ({self.slices}), got {len(value)}")
        signed_why = "differential columns" if self.encoding is Encoding.DIFFERENTIAL else "signed inputs"
        for k in range(self.slices):
            bits, lo, hi = _of_slice(self.adc_bits, k), _of_slice(self.adc_lo, k), _of_slice(self.adc_hi, k)
            if not _ADC_BITS[0] <= bits <= _ADC_BITS[1]:
                hint = "; use None for no ADC" if bits == 0 else ""
                raise InputError(f"adc_bits must be between {_ADC_BITS[0]} and {_ADC_BITS[1]}, got {bits}{hint}")
            if hi is None and lo is not None:
                raise InputError("adc_lo is given without adc_hi; give both, or neither for one code per cell unit")
            if hi is not None and not (math.isfinite(hi) and hi > 0):
                raise InputError(f"adc_hi must be more than 0 and finite, got {hi:g}")
            if lo is not None and not (lo == 0 or abs(lo + hi) <= 1e-9 * hi):
                raise InputError(f"adc_lo must be 0, or -adc_hi for a signed ADC, got {lo:g} with adc_hi {hi:g}")
            if lo == 0 and self.needs_signed_adc:
                raise InputError(f"{signed_why} need a signed ADC: adc_lo must be -adc_hi, got 0")
            if bits < 2 and (self.needs_signed_adc or (lo is not None and lo < 0)):
                raise InputError("a signed ADC has at least 2 bits, got adc_bits 1")


def _of_slice(value: Any, k: int) -> Any:
    return value[k] if isinstance(value, tuple) else value


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    return tuple(_plain(v) for v in value) if isinstance(value, list | tuple) else value


def _sentence(error: ValidationError, values: dict[str, Any]) -> str:
    """Return what is wrong in one sentence; only the first of several faults is named."""
    first = error.errors()[0]
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    name = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        return f"a crossbar has no field '{name}'{nearest(name, list(CrossbarSpec.model_fields))}"
    if name == "encoding":
        return unknown_choice("encoding", str(values[name]), [e.value for e in Encoding])
    return f"{name} must be {_TYPES[name]}, got {values[name]!r}"
