"""What a systolic array's hardware file says; every key has a default."""

import re
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from picojoule.sim.protocol import HardwareSpec

LARGEST_SIDE = 65536
"""PEs along a side of an array, at most."""
LARGEST_SPARSITY_BLOCK = 64
"""M of an N:M pattern: metadata names a place among M."""


class SystolicSpec(HardwareSpec):
    """A systolic array with three double-buffered SRAMs (or one they share), one DRAM bus and a vector unit.

    The defaults describe an edge accelerator of 16 x 16 int8 PEs at 45 nm (the node of the sourced arithmetic energies).
    """

    kind: Literal["systolic"] = "systolic"
    # --- array ----------------------------------------------------------------------------------------------------------
    rows: int = Field(default=16, ge=1, le=LARGEST_SIDE, description="PEs along a column")
    cols: int = Field(default=16, ge=1, le=LARGEST_SIDE, description="PEs along a row")
    dataflow: Literal["os", "ws", "is"] = Field(default="ws", description="operand that stays in the PEs")
    groups: Literal["side_by_side", "sequential"] = Field(
        default="side_by_side",
        description="groups of a convolution that are small enough share a fold, block by block, or run one after the other",
    )
    overlap_load: bool = Field(default=False, description="ws, is: load a fold behind the one before")
    overlap_drain: bool = Field(default=False, description="os: drain a fold behind the one after")
    compat: Literal["none", "scalesim"] = Field(
        default="none", description="count cycles and SRAM words as SCALE-Sim 3"
    )
    clock_mhz: float = Field(default=500.0, ge=1e-3, le=10000.0)
    # --- memory ---------------------------------------------------------------------------------------------------------
    sram: Literal["separate", "shared"] = Field(
        default="separate", description="separate: one SRAM per operand; shared: one of `sram_kib` for all three"
    )
    sram_kib: float | None = Field(default=None, gt=0, le=65536.0, description="capacity of the shared SRAM")
    ifmap_sram_kib: float = Field(default=64.0, gt=0, le=65536.0)
    filter_sram_kib: float = Field(default=64.0, gt=0, le=65536.0)
    ofmap_sram_kib: float = Field(default=64.0, gt=0, le=65536.0)
    sram_cell: Literal["hp", "lop", "lstp"] = Field(
        default="lop", description="transistor type; leakage differs 70-fold and more between them"
    )
    dram_gib_per_s: float = Field(default=8.0, ge=1e-6, le=100000.0, description="of the one bus all operands share")
    dram_latency_ns: float = Field(
        default=0.0, ge=0.0, le=1e6, description="from asking DRAM to the first byte, where it cannot be hidden"
    )
    dram_burst_bytes: int = Field(
        default=64, ge=1, le=65536, description="DRAM moves whole bursts; 64: 16 beats of a 32-bit LPDDR4 channel"
    )
    dram_type: str = Field(default="lpddr4", description="sets the energy per bit")
    keep_on_chip: bool = Field(
        default=False, description="an ofmap that fits half of its SRAM stays there for the layer that reads it"
    )
    mapping_objective: Literal["latency", "energy", "edp"] = Field(
        default="edp", description="what `--mapping search` makes small; edp: energy x latency"
    )
    # --- arithmetic -----------------------------------------------------------------------------------------------------
    weight_bits: int = Field(default=8, ge=2, le=32, description="width of a PE's weight operand")
    activation_bits: int = Field(default=8, ge=2, le=32, description="width of a PE's activation operand")
    accumulator_bits: int = Field(default=32, ge=2, le=64)
    precision: Literal["fixed", "decomposable", "bit_serial", "bit_plane"] = Field(
        default="fixed",
        description="fixed: fewer bits save traffic only; decomposable: a PE does several narrow MACs at once (Sharma et "
        "al., ISCA 2018); bit_serial: a MAC takes as many cycles as the weight has bits (Judd et al., MICRO 2016); "
        "bit_plane: as many as weight bits x activation bits, a binary product each",
    )
    plane_lanes: int = Field(
        default=64, ge=1, le=65536, description="bit_plane: AND gates of a PE; 64: as many as an 8 x 8 multiplier has"
    )
    pe_format: Literal["integer", "float", "ternary", "binary", "power_of_two", "block_float"] = Field(
        default="integer", description="numbers a PE multiplies; the widths say how many bits of them"
    )
    float_format: Literal["fp16", "bf16", "fp32", "fp8_e4m3", "fp8_e5m2"] = Field(
        default="bf16", description="of pe_format float"
    )
    datapath_energy: Literal["average", "toggles"] = Field(
        default="average",
        description="average: a MAC of its width; toggles: from the bits that flip, of the real weights",
    )
    number_code: Literal["twos_complement", "sign_magnitude"] = Field(
        default="twos_complement", description="of operands on wires and in registers (toggles)"
    )
    weight_order: Literal["as_is", "channels", "segments"] = Field(
        default="as_is", description="output channels as they come, or ordered to flip few bits (toggles)"
    )
    # --- zeros ----------------------------------------------------------------------------------------------------------
    zero_gating: bool = Field(default=False, description="a PE rests on a zero: saves energy, no time")
    zero_skipping: Literal["none", "weights"] = Field(default="none", description="PEs pass over zero weights")
    structured_sparsity: str | None = Field(
        default=None, description="pattern N:M (such as 2:4) that PEs take compressed; null: none"
    )
    # --- the rest -------------------------------------------------------------------------------------------------------
    vector_lanes: int | None = Field(default=None, ge=1, le=65536, description="lanes of the vector unit; null: cols")
    node_nm: float = Field(default=45.0, ge=22.0, le=65.0, description="technology node; energies scale from 45 nm")

    @field_validator("structured_sparsity")
    @classmethod
    def _pattern(cls, text: str | None) -> str | None:
        """Refuse what is no pattern."""
        if text is not None:
            parse_pattern(text)
        return text

    @model_validator(mode="after")
    def _sram_has_a_size(self) -> Self:
        if self.sram == "shared" and self.sram_kib is None:
            raise ValueError("sram: shared needs sram_kib, the capacity of the one SRAM in KiB")
        if self.sram == "separate" and self.sram_kib is not None:
            raise ValueError("sram_kib is the capacity of a shared SRAM; set sram: shared, or leave it out")
        return self

    @model_validator(mode="after")
    def _zeros_are_left_out_one_way(self) -> Self:
        if self.zero_skipping != "none" and self.structured_sparsity is not None:
            raise ValueError(
                "zero_skipping and structured_sparsity are two machines for leaving out zero weights, and PEs are one of them; "
                "set one"
            )
        options = {
            "zero_skipping": self.zero_skipping != "none",
            "structured_sparsity": self.structured_sparsity is not None,
        }
        used = [name for name, on in options.items() if on]
        if self.compat == "scalesim" and used:
            raise ValueError(
                f"compat: scalesim counts cycles as SCALE-Sim does, which has no {used[0]}; leave one of them out"
            )
        return self

    @property
    def pattern(self) -> tuple[int, int] | None:
        """(N, M) of the N:M pattern that the PEs take, None if they take none."""
        return None if self.structured_sparsity is None else parse_pattern(self.structured_sparsity)


def parse_pattern(text: str) -> tuple[int, int]:
    """Return (N, M) of a pattern written N:M.

    Raises:
        ValueError: unless 1 <= N < M <= 64.

    """
    found = re.fullmatch(r"(\d{1,3}):(\d{1,3})", text)
    if found is None or not 1 <= int(found[1]) < int(found[2]) <= LARGEST_SPARSITY_BLOCK:
        raise ValueError(f"a pattern is written N:M with 1 <= N < M <= {LARGEST_SPARSITY_BLOCK}, such as 2:4")
    return int(found[1]), int(found[2])
