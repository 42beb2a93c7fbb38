"""What array layers do on designs: counts, shares of MAC slots, and the schedules of a batch."""

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from picojoule.accel.systolic.timing import FloatArray, IntArray, Utilization
from picojoule.sim.errors import InputError

_INT64_MAX = 2**63 - 1


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

    def check_cycles(self) -> None:
        """Refuse cycles that would not fit int64 together: computing, stalls and waits for another unit.

        Raises:
            InputError: naming how many.

        """
        if (cycles := _largest_sum((self.compute, self.stalls, self.dependence), 1, True)) > _INT64_MAX:
            raise InputError(
                f"{cycles} cycles of a layer are beyond 64-bit integers; split the layer, make the batch smaller or the DRAM "
                "faster"
            )

    def repeated(self, batch: int, where: npt.NDArray[np.bool_], otherwise: "Counts") -> "Counts":
        """Return the counts of `batch` runs one after the other `where` that is chosen, elsewhere those of `otherwise`.

        Raises:
            InputError: if one that is chosen would not fit int64.

        """
        parts: dict[str, tuple[IntArray, ...]] = {name: (getattr(self, name),) for name in COUNTS}
        parts["cycles"] = (self.compute, self.stalls, self.dependence)
        for name, some in parts.items():
            if some[0].dtype.kind == "i" and (largest := _largest_sum(some, batch, where)) * batch > _INT64_MAX:
                raise InputError(
                    f"{name} of {largest} a sample are beyond 64-bit integers for {batch} samples one after the other; "
                    "make the batch smaller"
                )
        chosen = {name: np.where(where, getattr(self, name) * batch, getattr(otherwise, name)) for name in COUNTS}
        return Counts(**chosen, short=self.short)


COUNTS = tuple(f.name for f in fields(Counts) if f.name != "short")


def _largest_sum(parts: tuple[IntArray, ...], times: int, where: npt.NDArray[np.bool_] | bool) -> int:
    """Return a bound, in Python ints, of the sums of parts `where` they count: exact if the bound x times leaves int64."""
    bound = sum(int(part.max(initial=0)) for part in parts)
    if bound * times <= _INT64_MAX:
        return bound
    total = sum(np.where(where, part, 0).astype(object) for part in parts)
    return int(np.max(total))


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
