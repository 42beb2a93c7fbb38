"""What array layers do on designs: counts, shares of MAC slots, and the schedules of a batch."""

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from picojoule.accel.systolic.timing import FloatArray, IntArray, Utilization


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What the layers of one schedule do, [layers, designs] or what broadcasts to it. `useful` counts MAC slots.

    `edge_` are partial sums that the array itself writes and reads, `_accesses` those of its edge, `shifts` and `tiles` what
    loads and drains move (see `port_accesses`). `short`: some SRAM is too small for the layer.
    """

    compute: IntArray
    stalls: IntArray
    dependence: IntArray
    useful: IntArray
    ifmap_reads: IntArray
    ifmap_writes: IntArray
    filter_reads: IntArray
    ofmap_writes: IntArray
    psum_writes: IntArray
    psum_reads: IntArray
    dram_ifmap: IntArray
    dram_gates: IntArray
    dram_filter: IntArray
    dram_psum_reads: IntArray
    dram_psum_writes: IntArray
    dram_read_bytes: IntArray
    dram_write_bytes: IntArray
    edge_psum_writes: IntArray
    edge_psum_reads: IntArray
    ifmap_accesses: IntArray
    filter_accesses: IntArray
    psum_write_accesses: IntArray
    psum_read_accesses: IntArray
    output_accesses: IntArray
    shifts: FloatArray
    tiles: FloatArray
    short: npt.NDArray[np.bool_]

    @property
    def moved_bytes(self) -> IntArray:
        """Bytes from and to DRAM."""
        return self.dram_read_bytes + self.dram_write_bytes


COUNTS = tuple(f.name for f in fields(Counts) if f.name != "short")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares(Utilization):
    """Shares of MAC slots of the layers of one schedule, [layers, designs]; those of the array and what dependence loses."""

    lost_dependence: FloatArray


SHARES = tuple(f.name for f in fields(Shares))


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedules:
    """Counts of kinds of layers: of all samples at once, of one sample, and of what is chosen where `apart` says the latter.

    `mappings` says in words how each kind is mapped, where that was searched for.
    """

    chosen: Counts
    whole: Counts
    sample: Counts | None = None
    apart: npt.NDArray[np.bool_] | bool = False
    mappings: tuple[str, ...] = ()
