"""How an ADC turns column sums into codes: clip to its range, then round half to even.

Everything here is counted in cell units: 1 is one cell level times one input level, so that an ideal column sum is a
whole number. What a conversion costs is priced elsewhere; offset, gain and noise of a converter are left out.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

# A range within this relative distance of a whole number of cell units is taken as whole: 127/3 has no exact decimal,
# and without this float noise would decide ties.
_WHOLE_RTOL = 1e-9
_LARGEST_DENOMINATOR = 1000  # of an on/off ratio whose ties are decided exactly

# Up to this many different column sums, float32 conversion is proved against the definition by trying every one.
_MOST_TRIED_SUMS = 1 << 21


def snap_to_whole(value: float) -> float:
    """Return the nearest whole number where `value` is within 1e-9 of it (relative), else `value`."""
    nearest_whole = float(np.rint(value))
    return nearest_whole if abs(value - nearest_whole) <= _WHOLE_RTOL * max(1.0, abs(value)) else value


def parts_of(top: float, ratio: float) -> tuple[float, float] | None:
    """Return `Adc.parts` of a differential pair whose range ends at `top` full swings of a level, for r_off / r_on = `ratio`.

    A level's swing is 1 - r = (n - d) / n for a ratio n / d: the range spans top n parts, of which a cell unit has n - d. None
    where `top` is not whole, or the ratio is no fraction with a small d.
    """
    fraction, whole = Fraction(ratio).limit_denominator(_LARGEST_DENOMINATOR), snap_to_whole(top)
    if abs(fraction - Fraction(ratio)) > _WHOLE_RTOL * ratio or not whole.is_integer():
        return None
    return float(fraction.numerator - fraction.denominator), whole * fraction.numerator


@dataclass(frozen=True, slots=True, kw_only=True)
class Adc:
    """A uniform converter: `codes` levels from `lo` to `hi` (cell units).

    Unsigned converters have `lo` 0 and 2**bits codes, sign-magnitude ones `lo` = -`hi` and 2**bits - 1. With one code
    there is no converter: it reads 0.
    """

    lo: float
    hi: float
    codes: int
    parts: tuple[float, float] | None = None
    """(parts of a cell unit, `hi` in these parts), where the range is whole in parts but not in cell units: the same range,
    in which ties are then real ties (a differential pair with a finite on/off ratio)."""

    @property
    def step(self) -> float:
        """Distance of two neighbouring codes, in cell units."""
        return snap_to_whole((self.hi - self.lo) / (self.codes - 1)) if self.codes > 1 else 1.0

    @property
    def zero_code(self) -> int:
        """Code of a sum of 0: results count codes from here, so that a sum of 0 is worth exactly 0."""
        return self.codes // 2 if self.lo < 0 else 0

    @property
    def only_clips(self) -> bool:
        """Whether whole sums inside the range come out unchanged, one code per cell unit."""
        return self.step == 1.0 and self.lo == np.rint(self.lo)

    def is_lossless(self, low: NDArray[Any], high: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether every whole sum between `low` and `high` (arrays of one shape) comes out unchanged.

        So it is where each cell unit is a whole number of codes and the range is wide enough, or where the sum is
        always 0 (0 is a code of both kinds of converter).
        """
        if self.codes == 1:
            return np.asarray((low == 0) & (high == 0))
        codes_per_unit = snap_to_whole((self.codes - 1) / (self.hi - self.lo))
        first_code = snap_to_whole(self.lo * codes_per_unit)
        on_grid = codes_per_unit == np.rint(codes_per_unit) and first_code == np.rint(first_code)
        inside = (low >= self.lo) & (high <= self.hi)
        return np.asarray((inside & on_grid) | ((low == 0) & (high == 0)))

    def convert(self, sums: NDArray[Any]) -> None:
        """Replace `sums` (float64; float32 only where `float32_is_exact`) by codes 0 .. codes - 1, in place.

        The float64 branch is the definition: with a range whole in cell units or in `parts`, the product is exact and the
        quotient correctly rounded, so ties are real ties, never float noise. Ranges whole in neither have theirs by float
        noise.
        """
        if self.codes == 1:
            sums[...] = 0
            return
        if sums.dtype == np.float32:
            np.multiply(sums, np.float32((self.codes - 1) / (self.hi - self.lo)), out=sums)
            if self.lo != 0.0:
                np.subtract(sums, np.float32(self.lo * (self.codes - 1) / (self.hi - self.lo)), out=sums)
            np.rint(sums, out=sums)
            np.clip(sums, np.float32(0), np.float32(self.codes - 1), out=sums)
            return
        np.clip(sums, self.lo, self.hi, out=sums)
        lo, hi = self.lo, self.hi
        if self.parts is not None:
            unit, hi = self.parts
            lo = -hi if self.lo < 0 else 0.0
            np.multiply(sums, unit, out=sums)
        np.subtract(sums, lo, out=sums)
        np.multiply(sums, float(self.codes - 1), out=sums)
        np.divide(sums, hi - lo, out=sums)
        np.rint(sums, out=sums)

    def float32_is_exact(self, largest_sum: int) -> bool:
        """Whether float32 gives the defined code for every whole sum up to `largest_sum` in size."""
        if 2 * largest_sum + 1 > _MOST_TRIED_SUMS or self.codes > 1 << 20:
            return False
        every_sum = np.arange(-largest_sum, largest_sum + 1)
        fast, defined = every_sum.astype(np.float32), every_sum.astype(np.float64)
        self.convert(fast)
        self.convert(defined)
        return bool(np.array_equal(fast, defined))


NO_CONVERTER = Adc(lo=0.0, hi=0.0, codes=1)
"""Where a bitline is not converted because its cells are all 0."""
