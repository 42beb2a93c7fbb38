"""Refuses sizes whose counts might not fit int64, which wraps silently."""

from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from picojoule.sim.errors import InputError

_INT64_MAX = 2**63 - 1


def check_bounds(
    rows: npt.ArrayLike,
    cols: npt.ArrayLike,
    m: npt.ArrayLike,
    n: npt.ArrayLike,
    k: npt.ArrayLike,
    groups: npt.ArrayLike = 1,
    *,
    ifmap_elements: npt.ArrayLike = 1,
    bits: npt.ArrayLike = 1,
) -> None:
    """Refuse sizes for which a count of `timing` or of `traffic` might not fit int64.

    `ifmap_elements` and `bits` (the widest operand's width) matter to `traffic.dram_traffic` only. Sizes of layers
    broadcast among themselves; of arrays only the largest matters, so a million designs cost nothing.

    Raises:
        InputError: if a size is not a whole number of at least 1, or a count might exceed 2^63 - 1.

    """
    R, C = (int(_whole(name, value).max()) for name, value in (("rows", rows), ("cols", cols)))
    sizes = [_whole(name, value) for name, value in (("m", m), ("n", n), ("k", k), ("groups", groups))]
    elements = _whole("ifmap_elements", ifmap_elements)
    widest = int(_whole("bits", bits).max())
    # PE x cycle slots: folds x R <= row_size + R, folds x C <= col_size + C, cycles of a fold <= T + 2R + 2C, so for
    # every dataflow at most groups x the product of the three sizes, each made longer by:
    reach = 2 * (R + C)
    M, N, K, G = sizes
    bounds = (
        _largest_product((M, N, K, G), (reach, reach, reach, 0)),
        4 * widest * _largest_product((M, N, K, G), (0, 0, 0, 0)),  # bits of one operand; four of them are added up
        4 * widest * _largest_product((elements, N), (0, 0)),  # bits of an ifmap fetched for every output channel
    )
    if max(bounds) > _INT64_MAX:
        raise InputError(
            f"layer sizes up to m={M.max()} n={N.max()} k={K.max()} groups={G.max()} on a {R}x{C} array "
            "give counts beyond 64-bit integers; split the layer"
        )


def _largest_product(factors: tuple[npt.NDArray[Any], ...], offsets: tuple[int, ...]) -> int:
    """Return an upper bound of the elementwise products of factor + offset: the largest in Python ints, plus 2^-40."""
    arrays = np.broadcast_arrays(*factors)
    # float64 finds the largest element up to a few roundings of 2^-53 each; the margin covers a neighbour it mistook.
    terms = [(a.astype(np.float64) + offset) for a, offset in zip(arrays, offsets, strict=True)]
    where = int(np.argmax(prod(terms, start=np.float64(1.0))))
    exact = prod(int(a.flat[where]) + offset for a, offset in zip(arrays, offsets, strict=True))
    return exact + (exact >> 40)


def _whole(name: str, value: npt.ArrayLike) -> npt.NDArray[Any]:
    array = np.asarray(value)
    if array.size == 0 or array.dtype.kind not in "iuO":
        raise InputError(f"{name} must be whole numbers, got {array.dtype} of shape {array.shape}")
    smallest, largest = array.min(), array.max()
    if smallest < 1:
        raise InputError(f"{name} must be at least 1, got {smallest}")
    if largest > _INT64_MAX:
        raise InputError(f"{name} must be below 2^63, got {largest}")
    return array
