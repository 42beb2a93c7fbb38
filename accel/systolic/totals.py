"""How the layers of a run add up in time: one after the other, array, vector unit and host alike; arrays over designs."""

import numpy as np
import numpy.typing as npt

from picojoule.accel.systolic.design_arrays import DesignArrays
from picojoule.accel.systolic.timing import FloatArray, IntArray


def run_latency_s(cycles: npt.ArrayLike, host_s: float, designs: DesignArrays) -> FloatArray:
    """Return the time of so many cycles of the accelerator and of the layers on the host."""
    return np.asarray(np.asarray(cycles, dtype=np.float64) / designs.clock_hz + host_s)


def run_utilization(
    useful_slots: npt.ArrayLike, latency_s: FloatArray, host_s: float, designs: DesignArrays
) -> FloatArray:
    """Return the share of the PEs' slots in the accelerator's time that multiply, NaN where it has no time."""
    busy_s = latency_s - host_s
    useful_s = np.asarray(useful_slots, dtype=np.float64) / (designs.rows * designs.cols) / designs.clock_hz
    share = np.full(np.broadcast_shapes(useful_s.shape, busy_s.shape), np.nan)
    np.divide(useful_s, busy_s, out=share, where=busy_s > 0)
    return share


def exact_sum(times: IntArray, counts: IntArray) -> FloatArray:
    """Return the sum over layers of times [layers] x counts [layers, designs], in Python ints where int64 would wrap."""
    if int(np.max(counts, initial=0)) * int(times.sum()) < 2**63:
        return (times @ counts).astype(np.float64)
    return np.asarray(times.astype(object) @ counts.astype(object), dtype=np.float64)
