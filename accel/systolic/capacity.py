"""The least SRAM a layer needs on a systolic array, and what to say when there is less.

Double-buffered, each SRAM must hold two of what a fold works with: one stationary tile (ws: filter, is: ifmap, os: the results it
drains), and one word for each port that streams (sums at the accumulator's width). Groups side by side have a tile each.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from picojoule.accel.systolic.timing import Dataflow, FoldGrid, IntArray
from picojoule.sim.errors import InfeasibleError

OPERANDS = ("ifmap", "filter", "ofmap")


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """Bytes that each operand needs at least, [layers, designs] or what broadcasts to it."""

    ifmap: IntArray
    filter: IntArray
    ofmap: IntArray

    def short(
        self, sram_bytes: Sequence[npt.ArrayLike], shared_sram_bytes: npt.ArrayLike | None = None
    ) -> npt.NDArray[np.bool_]:
        """Return where the SRAMs (ifmap, filter, ofmap), or the one they share, are too small."""
        needs = (self.ifmap, self.filter, self.ofmap)
        if shared_sram_bytes is not None:
            return np.asarray(sum(needs) > np.asarray(shared_sram_bytes))
        a, w, y = (need > np.asarray(size) for need, size in zip(needs, sram_bytes, strict=True))
        return np.asarray(a | w | y)


def least_needs(
    grid: FoldGrid,
    cols: npt.ArrayLike,
    *,
    ifmap_bits: npt.ArrayLike,
    filter_bits: npt.ArrayLike,
    ofmap_bits: npt.ArrayLike,
    accumulator_bits: npt.ArrayLike,
    together: npt.ArrayLike = 1,
) -> Needs:
    """Return the least bytes of each SRAM for the folds of `grid`, of which `together` groups share one."""
    P = np.asarray(together, dtype=np.int64)
    first_cols = np.minimum(np.asarray(cols, dtype=np.int64), grid.col_size)
    r, c, tile = P * grid.first_rows, P * first_cols, P * grid.first_rows * first_cols
    is_os, is_ws, is_is = (grid.dataflow == flow for flow in Dataflow)
    drained, streamed = _bytes(tile, ofmap_bits), _bytes(c, accumulator_bits)
    return Needs(
        ifmap=2 * _bytes(np.where(is_is, tile, r), ifmap_bits),
        filter=2 * _bytes(np.where(is_os, c, np.where(is_ws, tile, r)), filter_bits),
        ofmap=2 * np.where(is_os, drained, streamed),
    )


def require(
    layer: str,
    needs: Needs,
    sram_bytes: Sequence[int],
    shared_sram_bytes: int | None = None,
) -> None:
    """Refuse SRAMs of one design that cannot hold what one layer needs (each count an array of one).

    Raises:
        InfeasibleError: naming the layer, the SRAM, the need and the remedy.

    """
    least = {name: int(np.asarray(getattr(needs, name)).item()) for name in OPERANDS}
    if shared_sram_bytes is not None:
        if sum(least.values()) > shared_sram_bytes:
            parts = " + ".join(f"{size} for the {name}" for name, size in least.items())
            raise InfeasibleError(
                f"layer '{layer}' needs {sum(least.values())} bytes of shared SRAM ({parts}), double-buffered, but there are "
                f"{shared_sram_bytes}; set sram_kib to at least {_kib(sum(least.values()))} or use a smaller array"
            )
        return
    for (name, need), there in zip(least.items(), sram_bytes, strict=True):
        if need > there:
            raise InfeasibleError(
                f"layer '{layer}' needs {need} bytes of {name} SRAM, double-buffered, but there are {there}; "
                f"set {name}_sram_kib to at least {_kib(need)} or use a smaller array"
            )


def _kib(size: int) -> str:
    return f"{size / 1024:.10g}"


def _bytes(words: IntArray, bits: npt.ArrayLike) -> IntArray:
    made: IntArray = -(-(words * np.asarray(bits, dtype=np.int64)) // 8)
    return made
