"""Range checks shared by the cost functions: an array in, the same numbers as float64 out, or one clear sentence."""

import numpy as np
import numpy.typing as npt

from picojoule.sim.errors import InputError

__all__ = ["not_negative", "within"]

Array = npt.NDArray[np.float64]


def within(what: str, unit: str, values: npt.ArrayLike, low: float, high: float, remedy: str = "") -> Array:
    """Return `values` as float64; InputError naming the first one outside [low, high] (NaN included)."""
    array = np.asarray(values, dtype=np.float64)
    bad = array[~((array >= low) & (array <= high))]
    if bad.size:
        end = f"; {remedy}" if remedy else ""
        raise InputError(f"{what} must be between {low:g} and {high:g} {unit}, got {bad.flat[0]:g}{end}")
    return array


def not_negative(what: str, values: npt.ArrayLike) -> Array:
    """Return `values` as float64; InputError naming the first negative or non-finite one."""
    array = np.asarray(values, dtype=np.float64)
    bad = array[~(np.isfinite(array) & (array >= 0))]
    if bad.size:
        raise InputError(f"{what} must be finite and not negative, got {bad.flat[0]:g}")
    return array
