"""What pricing a layer yields: cycles, an itemised energy bill, accesses. Plain frozen values.

Energy is kept as events x (energy of one event) with the name of the technology constant behind it, so that ranges of
totals come from jointly sampled constants and every picojoule can be traced.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from picojoule.sim.gemm import Gemm


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """One line of an energy bill: `events` of `pj_per_event` in a component, priced by a named constant."""

    component: str
    constant: str
    events: float
    pj_per_event: float

    @property
    def pj(self) -> float:
        """Energy, pJ."""
        return self.events * self.pj_per_event


def energy_by(lines: Iterable[Energy], key: str) -> dict[str, float]:
    """Return pJ summed by `component` or by `constant`, in order of first appearance."""
    totals: dict[str, float] = defaultdict(float)
    for line in lines:
        totals[line.component if key == "component" else line.constant] += line.pj
    return dict(totals)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCost:
    """Cost of one layer for the whole batch.

    `unit` names what ran it (`array`, `crossbar`, `vector`, `host`, ...). Cycles are of the accelerator's clock;
    `latency_s` is this layer's own time, also on a pipelined target where layers overlap. `utilization_lost` maps a cause
    to the share of the array's MAC slots lost to it. `reads` and `writes` count elements. `basis` says what a figure
    rests on: `closed form`, `data`, `statistics`.
    """

    name: str
    op: str
    unit: str
    gemm: Gemm | None
    macs: int
    compute_cycles: int
    stall_cycles: int
    latency_s: float
    utilization: float | None = None
    mapping_efficiency: float | None = None
    compute_utilization: float | None = None
    utilization_lost: Mapping[str, float] = field(default_factory=dict)
    energy: tuple[Energy, ...] = ()
    reads: Mapping[str, int] = field(default_factory=dict)
    writes: Mapping[str, int] = field(default_factory=dict)
    dram_read_bytes: int = 0
    dram_write_bytes: int = 0
    basis: str = "closed form"

    @property
    def latency_cycles(self) -> int:
        """Compute and stall cycles."""
        return self.compute_cycles + self.stall_cycles

    @property
    def energy_pj(self) -> float:
        """Dynamic energy, pJ."""
        return sum(line.pj for line in self.energy)


@dataclass(frozen=True, slots=True, kw_only=True)
class AreaItem:
    """Area of one component, priced by a named constant."""

    component: str
    constant: str
    mm2: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """Silicon area by component; an FPGA has none and reports resources instead."""

    items: tuple[AreaItem, ...] = ()

    @property
    def mm2(self) -> float | None:
        """Total area, mm^2 (None where it has no meaning)."""
        return sum(item.mm2 for item in self.items) if self.items else None
