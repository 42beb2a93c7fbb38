"""Keys of a ReRAM hardware file for what drives, selects and writes the lines of its crossbars; `ReramSpec` has them.

Each is off by default: ISAAC drives rows by 1-bit DACs, samples every column, shares accumulators between two ADCs, and its table
has no parts for writing. What the parts cost: `periphery.py`.
"""

import math
from enum import StrEnum
from typing import Any

from pydantic import Field

from picojoule.sim.protocol import HardwareSpec


class RowDriver(StrEnum):
    """What puts an input on a wordline."""

    DAC = "dac"
    """ISAAC's DAC, in its table."""
    SWITCH = "switch"
    """Switches charge the wordline and the gates of its cells' transistors, for inputs that are 1; a flip-flop per row."""


class ColumnSelect(StrEnum):
    """How an ADC comes to its columns."""

    SAMPLE_HOLD = "sample_hold"
    """All columns are sampled in one pulse (ISAAC)."""
    MULTIPLEXER = "multiplexer"
    """A transmission gate per column; rows are pulsed again for each column of an ADC."""


class Accumulators(StrEnum):
    """What adds up the codes."""

    SHARED = "shared"
    """A shift-and-add for two ADCs, and output registers (ISAAC)."""
    PER_ADC = "per_adc"
    """Behind each ADC a shift-and-add over slices and one over input steps, with registers of their own."""


class PeripheryKeys(HardwareSpec):
    """Lines, their drivers and accumulators."""

    cell_area_f2: float | None = Field(
        default=None,
        gt=0,
        le=1e5,
        description="area of a cell with its transistor, F^2; ISAAC's table by default (1.5)",
    )
    cell_width_f: float | None = Field(
        default=None, gt=0, le=1e3, description="its width along the wordline, F; square by default"
    )
    row_driver: RowDriver = Field(default=RowDriver.DAC, strict=False, description="what puts an input on a wordline")
    wordline_v: float | None = Field(
        default=None, gt=0, le=10, description="voltage that a switch puts on a wordline; the node's supply by default"
    )
    input_activity: float = Field(
        default=1.0, ge=0, le=1, description="share of the input bits that are 1: rows that are pulsed in a read"
    )
    column_select: ColumnSelect = Field(
        default=ColumnSelect.SAMPLE_HOLD, strict=False, description="how an ADC comes to its columns"
    )
    write_v: float | None = Field(
        default=None,
        gt=0,
        le=10,
        description="voltage of writes: switches on columns, and level shifters above 1.5 V; no parts by default (ISAAC)",
    )
    accumulators: Accumulators = Field(default=Accumulators.SHARED, strict=False, description="what adds up the codes")

    @property
    def cell_pitch_f(self) -> float:
        """Width of a cell along its wordline, in features; of a cell of ISAAC's if the file says nothing."""
        return self.cell_width_f or math.sqrt(self.cell_area_f2 or 1.5)


def check_periphery(spec: Any) -> None:
    """Check the keys of a `ReramSpec` together.

    Raises:
        ValueError: if parts lack what sizes them: a switch the length of its row, a multiplexer the resistance of its column.

    """
    if spec.row_driver is RowDriver.SWITCH:
        if spec.dac_bits != 1:
            raise ValueError(
                f"row_driver 'switch' puts 1-bit pulses on rows, so dac_bits must be 1, got {spec.dac_bits}"
            )
        if spec.cell_area_f2 is None:
            raise ValueError(
                "row_driver 'switch' needs cell_area_f2, which gives the length of a row; NeuroSim's is 48"
            )
        if spec.cell_on_ohm is None:
            raise ValueError(
                "row_driver 'switch' needs device.g_max_us, which gives the width of the cells' transistors"
            )
    if spec.column_select is ColumnSelect.MULTIPLEXER and spec.cell_on_ohm is None:
        raise ValueError("column_select 'multiplexer' needs device.g_max_us, which gives the width of its gates")
