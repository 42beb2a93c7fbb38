"""The one DRAM bus of a design: time of a batch of bytes, moved in whole bursts behind one latency."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from picojoule.accel.systolic.timing import FloatArray

NOISE = 1e-6
"""Share of a burst that is rounding of the shares, not data: it is not moved apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bus:
    """The DRAM bus of designs: bytes in a cycle of the array, cycles until the first byte of a batch, bytes of a burst."""

    bytes_per_cycle: npt.ArrayLike
    latency_cycles: npt.ArrayLike = 0.0
    burst_bytes: npt.ArrayLike = 1

    def cycles(self, data_bytes: npt.ArrayLike) -> FloatArray:
        """Return the time of a batch of so many bytes; nothing takes no time."""
        return bus_cycles(real(data_bytes) / real(self.burst_bytes), self.terms)

    @property
    def terms(self) -> "BusTerms":
        """Cycles of a burst, and of the latency where there is one."""
        latency = real(self.latency_cycles)
        return BusTerms(real(self.burst_bytes) / real(self.bytes_per_cycle), latency if latency.any() else None)


class BusTerms(NamedTuple):
    """Cycles of a burst, and of the latency (None: there is none)."""

    burst_cycles: FloatArray
    latency: FloatArray | None

    @property
    def size(self) -> int:
        """How many designs they are of."""
        return max(self.burst_cycles.size, 1 if self.latency is None else self.latency.size)


def bus_cycles(bursts: FloatArray, bus: BusTerms) -> FloatArray:
    """Return the time of a batch of so many bursts, a real number that is rounded up here."""
    whole = np.ceil(bursts - NOISE)
    time: FloatArray = whole * bus.burst_cycles
    return time if bus.latency is None else time + bus.latency * (whole > 0)


def real(value: npt.ArrayLike) -> FloatArray:
    """Return numbers as float64."""
    return np.asarray(value, dtype=np.float64)
