"""What a crossbar is: encoding, cells, input pulses, converters, tiles and wires; `arithmetic` computes with it.

Weights of n bits lie in K slices of cells 0..q, inputs of m bits come in J steps of pulses 0..p, a tile has R wordlines
(ISAAC, Shafiee et al., ISCA 2016; conventions of ranges as in CrossSim 3.2). Left out: what real cells do (`devices`), and what
anything costs.
"""

from enum import StrEnum
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from picojoule.reram.converter import NO_CONVERTER, Adc, parts_of, snap_to_whole
from picojoule.reram.crossbar_checks import (
    LIMITS,
    MOST_ADC_BITS,
    check_cells,
    check_converter,
    check_inputs,
    check_shapes,
    check_unused_range,
    plain,
    sentence,
    tiles_of,
    value_at,
)
from picojoule.sim.errors import InputError


class Encoding(StrEnum):
    """How a signed weight lies in cells that hold 0 or more."""

    OFFSET = "offset"  # w + 2**(n-1) is stored; 2**(n-1) * sum(x) is removed digitally
    DIFFERENTIAL = "differential"  # positive and negative cells; their currents are subtracted before the ADC
    FLIP = "flip"  # offset, but a column whose sum could pass half range holds its complement (ISAAC)
    SPLIT = "split"  # positive and negative cells, converted apart and subtracted digitally


BitsOfAdc = int | tuple[int, ...] | tuple[tuple[int, ...], ...]
"""One number, one per slice (least significant first), or for each row tile one per slice."""
EndOfRange = float | tuple[float, ...] | tuple[tuple[float, ...], ...]


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
    adc_bits: BitsOfAdc | None = 8
    """b: bits of the ADC, one per slice (least significant first), or for each row tile one per slice; None: sums are taken
    as they are. 0 in a tuple: no converter, for a slice whose cells are all 0."""
    adc_lo: EndOfRange | None = None
    """Lower end of the range, where a full cell under a full pulse adds 1: 0, or -`adc_hi` for a signed ADC."""
    adc_hi: EndOfRange | None = None
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
    wire_model: Literal["exact", "fast"] = "exact"
    """How wires are solved: every node of the array, or an approximation."""
    rows_active: int | None = None
    """Wordlines on at once: a tile is read in groups of at most so many, each converted apart; None is all, and
    so is any number above `tile_rows` (a hardware file refuses it)."""
    device: Any = None
    """What real cells and converters do wrong; None: nothing."""
    seed: int = 0
    """Where the chance of `device` starts: one seed is one piece of hardware."""

    def __init__(self, **values: Any) -> None:
        """Check `values` and hold them; see the fields above."""
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise InputError(
                sentence(error, values, list(type(self).model_fields), [e.value for e in Encoding])
            ) from None

    def replace(self, **changes: Any) -> Self:
        """Return a checked copy with some fields changed."""
        return type(self)(**{**{name: getattr(self, name) for name in type(self).model_fields}, **changes})

    # ---- weights

    @property
    def stores_offset(self) -> bool:
        """Whether cells hold the weight plus 2**(n-1) (offset, flip) instead of its magnitude."""
        return self.encoding in (Encoding.OFFSET, Encoding.FLIP)

    @property
    def stored_bits(self) -> int:
        """Bits of what the cells of a weight hold: all of it, or its magnitude where both polarities exist."""
        return self.weight_bits - int(not self.stores_offset)

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
        Where cells can hold more than a weight has (q), its largest number counts.
        """
        rows = min(self.tile_rows, self.rows_active or self.tile_rows)
        levels = rows * min(self.cell_max, (1 << self.stored_bits) - 1)
        if self.encoding is Encoding.FLIP and rows == self.tile_rows:
            levels = min(levels, rows * self.cell_max // 2)
        return max(1, (levels * self.pulse_max).bit_length()) + int(self.needs_signed_adc)

    def with_lossless_adc(self) -> Self:
        """Return the same crossbar with the narrowest ADC that loses nothing whatever the weights; InputError beyond 24 bits."""
        if self.lossless_adc_bits > MOST_ADC_BITS:
            rows = min(self.tile_rows, self.rows_active or self.tile_rows)
            raise InputError(
                f"no ADC here is lossless: {rows} rows x cells up to {self.cell_max} x pulses up to {self.pulse_max} need "
                f"{self.lossless_adc_bits} bits and at most {MOST_ADC_BITS} are computed; "
                "use narrower cells or pulses, or fewer rows"
            )
        return self.replace(adc_bits=self.lossless_adc_bits, adc_lo=None, adc_hi=None)

    def unit_adc_range(self, bits: int) -> tuple[float, float]:
        """Return (lo, hi) at which an ADC of `bits` has one code per cell unit, in the units of `adc_hi`."""
        signed = self.needs_signed_adc
        top = ((1 << (bits - 1)) - 1 if signed else (1 << bits) - 1) / self.cell_units
        return (-top if signed else 0.0), top

    @property
    def adc_tiles(self) -> int | None:
        """Row tiles that the converters are given for one by one; None: every tile has the same."""
        return tiles_of((self.adc_bits, self.adc_lo, self.adc_hi))

    def converters_of(self, tile: int) -> tuple[Adc, ...] | None:
        """Return the ADC of each slice of a row tile, least significant first, in cell units; None without an ADC."""
        if self.adc_bits is None:
            return None
        return tuple(self._converter(tile, k) for k in range(self.slices))

    @property
    def converters(self) -> tuple[Adc, ...] | None:
        """The ADC of each slice of the first row tile (of every tile, unless `adc_tiles`); None without an ADC."""
        return self.converters_of(0)

    def _converter(self, tile: int, k: int) -> Adc:
        bits, lo, hi = (value_at(v, tile, k) for v in (self.adc_bits, self.adc_lo, self.adc_hi))
        if bits == 0:
            return NO_CONVERTER
        if hi is None:
            lo, hi = self.unit_adc_range(bits)
        elif lo is None:
            lo = -hi if self.needs_signed_adc else 0.0
        codes = (1 << bits) - int(lo < 0)
        low, high = snap_to_whole(lo * self.cell_units), snap_to_whole(hi * self.cell_units)
        parts = None
        if self.encoding is Encoding.DIFFERENTIAL and self.r_off_ohm is not None and not high.is_integer():
            parts = parts_of(hi * self.cell_max * self.pulse_max, self.r_off_ohm / self.r_on_ohm)
        return Adc(lo=low, hi=high, codes=codes, parts=parts)

    # ---- checks

    @model_validator(mode="before")
    @classmethod
    def _plain_values(cls, values: Any) -> Any:
        """Take numpy numbers and lists as Python writes them."""
        if not isinstance(values, dict):
            return values
        return {name: plain(value) for name, value in values.items()}

    @field_validator("device")
    @classmethod
    def _device(cls, value: Any) -> Any:
        if value is None:
            return None
        from picojoule.reram.devices import DeviceSpec

        if not isinstance(value, DeviceSpec | dict):
            hint = f"; write DeviceSpec(preset={value!r})" if isinstance(value, str) else ""
            raise ValueError(f"device must be a DeviceSpec or its fields, got {value!r}{hint}")
        if isinstance(value, dict) and not all(isinstance(key, str) for key in value):
            raise ValueError(f"the keys of a device must be names, got {value!r}")
        return value if isinstance(value, DeviceSpec) else DeviceSpec(**value)

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name, (least, most) in LIMITS.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise InputError(f"{name} must be between {least} and {most}, got {value}")
        check_cells(self)
        check_inputs(self)
        self._check_adc()
        return self

    def _check_adc(self) -> None:
        fields = {name: getattr(self, name) for name in ("adc_bits", "adc_lo", "adc_hi")}
        check_shapes(fields, self.slices)
        if self.adc_bits is None:
            check_unused_range(self.adc_lo, self.adc_hi)
            return
        why = "differential columns" if self.encoding is Encoding.DIFFERENTIAL else "signed inputs"
        for tile in range(self.adc_tiles or 1):
            for k in range(self.slices):
                bits, lo, hi = (value_at(value, tile, k) for value in fields.values())
                if bits or not isinstance(self.adc_bits, tuple):  # 0 in a tuple is no converter
                    check_converter(bits, lo, hi, why if self.needs_signed_adc else None)
