"""What a systolic array's hardware file says; every key has a default."""

from typing import Literal

from pydantic import Field

from picojoule.sim.protocol import HardwareSpec


class SystolicSpec(HardwareSpec):
    """A systolic array with three double-buffered SRAMs, one DRAM bus and a vector unit.

    The defaults describe an edge accelerator of 16 x 16 int8 PEs at 45 nm (the node of the sourced arithmetic energies).
    """

    kind: Literal["systolic"] = "systolic"
    rows: int = Field(default=16, ge=1, le=65536, description="PEs along a column")
    cols: int = Field(default=16, ge=1, le=65536, description="PEs along a row")
    dataflow: Literal["os", "ws", "is"] = Field(default="ws", description="operand that stays in the PEs")
    clock_mhz: float = Field(default=500.0, gt=0, le=10000.0)
    ifmap_sram_kib: float = Field(default=64.0, gt=0, le=65536.0)
    filter_sram_kib: float = Field(default=64.0, gt=0, le=65536.0)
    ofmap_sram_kib: float = Field(default=64.0, gt=0, le=65536.0)
    sram_cell: Literal["hp", "lop", "lstp"] = Field(
        default="lop", description="transistor type; leakage differs 70-fold and more between them"
    )
    dram_gib_per_s: float = Field(default=8.0, gt=0, le=100000.0, description="of the one bus all operands share")
    dram_type: str = Field(default="lpddr4", description="sets the energy per bit")
    weight_bits: int = Field(default=8, ge=2, le=32, description="width of a PE's weight operand")
    activation_bits: int = Field(default=8, ge=2, le=32, description="width of a PE's activation operand")
    accumulator_bits: int = Field(default=32, ge=2, le=64)
    precision: Literal["fixed", "decomposable", "bit_serial"] = Field(
        default="fixed",
        description="fixed: fewer bits save traffic only; decomposable: a PE does several narrow MACs at once (Sharma et "
        "al., ISCA 2018); bit_serial: a MAC takes as many cycles as the weight has bits (Judd et al., MICRO 2016)",
    )
    overlap_load: bool = Field(default=False, description="ws, is: load a fold behind the one before")
    overlap_drain: bool = Field(default=False, description="os: drain a fold behind the one after")
    compat: Literal["none", "scalesim"] = Field(
        default="none", description="count cycles and SRAM words as SCALE-Sim 3"
    )
    vector_lanes: int | None = Field(default=None, ge=1, le=65536, description="lanes of the vector unit; null: cols")
    node_nm: float = Field(default=45.0, ge=22.0, le=65.0, description="technology node; energies scale from 45 nm")
