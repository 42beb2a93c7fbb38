"""Cycles of layers on the vector unit, as array functions."""

import numpy as np
import numpy.typing as npt

from picojoule.accel.systolic.design_arrays import DesignArrays
from picojoule.accel.systolic.timing import IntArray
from picojoule.accel.systolic.traffic import whole_cycles


def vector_cycles(
    lane_operations: npt.ArrayLike, dram_bytes: npt.ArrayLike, designs: DesignArrays
) -> tuple[IntArray, IntArray]:
    """Return (compute, stall) cycles of layers that read and write DRAM as they go; all broadcast, [layers, designs].

    Raises:
        InputError: if a count would not fit int64.

    """
    compute = -(-np.asarray(lane_operations, dtype=np.int64) // designs.lanes)
    transfer = whole_cycles(np.asarray(dram_bytes, dtype=np.int64) / designs.bytes_per_cycle, designs.bytes_per_cycle)
    return compute, np.maximum(0, transfer - compute)
