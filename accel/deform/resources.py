"""What an engine takes of an FPGA: DSP slices, 36 Kbit block RAMs, LUTs and flip-flops, by component, from its parameters.

Predicted from the structure, fitted to nothing. The published accelerator (CoDeNet: 360 DSP, 216 BRAM, 34,144 LUT, 41,827 FF
on an XCZU3EG) is what we compare with. Two of its entries say little: DSP and BRAM are exactly 100 % of the device, because
the tools put multipliers and memories there until none is left and the rest into LUTs. Our demand is 446 DSP, so our 360 is
the device's number too (86 multipliers spill into LUTs); our BRAM is what the buffers need, and tools take more:
ping-pong copies between processes and copies for writers are in the upper end of the range, not in the estimate. What comes
out: 360 (+0 %, the device's), 151 (-30 %), 30,480 (-11 %), 32,657 (-22 %).

Rules, with sources beside the numbers below: one multiplier per DSP slice in the estimate (two 4 x 8 bit products that share
an activation fit in one, WP486/WP521: lower end); memories by the shapes of a block RAM (UG573); adders one LUT per bit; loops,
AXI ports and FIFOs as HLS reports print them. LUT and FF are good to a factor of about two, which is what the range says.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from picojoule.accel.deform.boards import Board, board_named
from picojoule.accel.deform.engine_parts import ENGINES, Amount, Part, parts_of, spilled_multipliers
from picojoule.accel.deform.spec import DeformSpec
from picojoule.sim.errors import InfeasibleError

__all__ = ["Amount", "Part", "Resources", "check_fits", "resource_notes", "resources_of"]

CLOSING_MHZ = 300
"""Clock above which a report warns: the published designs of this class run at 200 to 333 MHz (estimate)."""
_WORDS = {"dsp": "DSP slices", "bram36": "36 Kbit block RAMs", "lut": "LUTs", "ff": "flip-flops"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What a design takes, by component; the totals are what is placed on its board.

    `spilled` counts the multipliers that find no DSP slice and become LUTs (a part of their own).
    """

    parts: tuple[Part, ...]
    board: Board
    spilled: int

    @property
    def dsp_demand(self) -> int:
        """DSP slices the design would take on a device of any size."""
        return self._sum("amount").dsp

    @property
    def total(self) -> Amount:
        """What is placed."""
        found = self._sum("amount")
        return replace(found, dsp=found.dsp - self.spilled)

    @property
    def low(self) -> Amount:
        """Lower end of what is placed."""
        found = self._sum("low")
        return replace(found, dsp=min(found.dsp, self.dsp))

    @property
    def high(self) -> Amount:
        """Upper end of the demand; where it is above the board's counts the tools save, as they do on the published one."""
        return self._sum("high")

    @property
    def dsp(self) -> int:
        """DSP slices placed."""
        return self.total.dsp

    @property
    def bram36(self) -> int:
        """Block RAMs of 36 Kbit."""
        return self.total.bram36

    @property
    def lut(self) -> int:
        """LUTs, those of spilled multipliers included."""
        return self.total.lut

    @property
    def ff(self) -> int:
        """Flip-flops."""
        return self.total.ff

    def breakdown(self) -> Mapping[str, Amount]:
        """Return the estimate by component."""
        return {part.name: part.amount for part in self.parts}

    def _sum(self, which: str) -> Amount:
        return sum((getattr(part, which) for part in self.parts), Amount())


def resources_of(spec: DeformSpec) -> Resources:
    """Return what a design takes of its board, by component; a design too large is returned too (`check_fits` refuses it)."""
    board = board_named(spec.board)
    parts = parts_of(spec, board)
    demand = sum(part.amount.dsp for part in parts)
    narrow = sum(part.amount.dsp for part in parts if part.name in ENGINES)
    spilled = min(narrow, max(0, demand - board.dsp))
    if spilled:
        parts.append(spilled_multipliers(spec, spilled))
    return Resources(parts=tuple(part for part in parts if part.amount != Amount()), board=board, spilled=spilled)


def check_fits(spec: DeformSpec) -> None:
    """Refuse a design that its board cannot hold, cannot clock or cannot feed.

    Raises:
        InfeasibleError: naming the resource, what takes most of it, what the board has, and the key to reduce.

    """
    found = resources_of(spec)
    board, where = found.board, spec.name or spec.kind
    on = f"{board.name} ({board.device})"
    for field, words in _WORDS.items():
        need, has = getattr(found.total, field), getattr(board, field)
        if need > has:
            # Multipliers of the engines have spilled, so if slices are short, it is for the others.
            stuck = [p for p in found.parts if field != "dsp" or p.name not in ENGINES]
            largest = sorted(stuck, key=lambda p: getattr(p.amount, field), reverse=True)[:2]
            by = ", ".join(f"{p.name} {getattr(p.amount, field):,}" for p in largest)
            slices = (
                f"; {found.spilled:,} multipliers are LUTs, as it has {board.dsp:,} DSP slices of the {found.dsp_demand:,} wanted"
                if found.spilled and field in ("lut", "ff")
                else ""
            )
            raise InfeasibleError(
                f"{where}: the engine needs {need:,} {words} ({by}) but {on} has {has:,}{slices}; "
                f"reduce {largest[0].keys}, or choose a larger board"
            )
    if spec.clock_mhz > board.max_clock_mhz:
        raise InfeasibleError(
            f"{where}: clock_mhz is {spec.clock_mhz:g} but DSP slices of {on} run at {board.max_clock_mhz:g} MHz at most; "
            "reduce clock_mhz"
        )
    peak_gib = board.dram_peak_gb_per_s * 1e9 / 2**30
    if spec.dram_gib_per_s is not None and spec.dram_gib_per_s > peak_gib:
        raise InfeasibleError(
            f"{where}: dram_gib_per_s is {spec.dram_gib_per_s:g} but the memory of {on} delivers {peak_gib:.1f} at most; "
            "reduce dram_gib_per_s"
        )


def resource_notes(spec: DeformSpec) -> list[str]:
    """Return remarks on what the board makes of a design that it holds."""
    found, notes = resources_of(spec), []
    board = found.board
    if found.spilled:
        notes.append(
            f"the engine wants {found.dsp_demand:,} DSP slices, {board.name} has {board.dsp:,}: {found.spilled:,} multipliers "
            "are LUTs"
        )
    if spec.clock_mhz > CLOSING_MHZ:
        notes.append(
            f"clock_mhz is {spec.clock_mhz:g}: below the DSP slices' limit ({board.max_clock_mhz:g}), but whether timing closes "
            f"is not modeled, and few such designs run above {CLOSING_MHZ} MHz"
        )
    if spec.dram != board.dram_type:
        notes.append(f"dram_type is {spec.dram}, but {board.name} has {board.dram_type}: energy is that of {spec.dram}")
    return notes
