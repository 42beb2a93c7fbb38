"""What the hardware file of a deformable-convolution engine says; every key has a default, that of the published accelerator.

Structure and limits are published (CoDeNet, arXiv 2006.08357, and its HLS sources); overheads of loops and calls are
calibrated (`calibration`), reading times of sampling points too (`ablation`). Each key's description has its class: published,
derived, calibrated on what, or estimate. The preset `ultra96-codenet` is these defaults.
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from picojoule.accel.deform.boards import board_named
from picojoule.sim.formats import Granularity, NumberFormat, integer_format
from picojoule.sim.protocol import HardwareSpec


class DeformSpec(HardwareSpec):
    """A 1x1 engine and a depthwise 3x3 engine in a dataflow, with a line buffer that deformable layers sample from.

    The processor of the same chip (`host`) runs what the engine lacks. Bytes are streamed from and to DRAM call by call.
    """

    kind: Literal["fpga-deform"] = "fpga-deform"
    board: str = Field(default="ultra96", description="FPGA board; its resources must hold the engine (published)")
    clock_mhz: float = Field(default=250.0, gt=0, le=2000.0, description="published: 250 MHz")
    pe_in: int = Field(default=16, ge=1, le=1024, description="input channels per cycle of the 1x1 engine (published)")
    pe_out: int = Field(
        default=16, ge=1, le=1024, description="output channels per cycle of the 1x1 engine (published)"
    )
    depthwise_lanes: int = Field(
        default=16, ge=1, le=1024, description="channels per cycle of the 3x3 engine, 9 MACs each (published)"
    )
    full_in: int = Field(
        default=0, ge=0, le=1024, description="input channels of a full 3x3 engine; 0: there is none (published)"
    )
    full_out: int = Field(
        default=0, ge=0, le=1024, description="output channels of a full 3x3 engine; 0: there is none (published)"
    )
    first_layer: Literal["host", "engine"] = Field(
        default="host", description="where a k x k convolution of at most 3 channels (an image) runs (published: host)"
    )
    host: str = Field(
        default="cortex_a53_quad", description="processor that runs what the engine lacks (published: the board's)"
    )

    max_offset: int = Field(
        default=7,
        ge=1,
        le=127,
        description="N: bound of offsets, or of a square's d (published: 7); makes 2N + 1 rows, in which the outermost taps of "
        "offsets of N, N + 1 away, are held at N",
    )
    line_buffer_rows: int | None = Field(
        default=None,
        ge=3,
        le=511,
        description="odd; null: 2N + 1 (published: 15); 2N + 3 hold every tap of offsets of N",
    )
    line_buffer_row_bytes: int = Field(
        default=16384, ge=16, le=1 << 24, description="capacity of a row: width x channels (published: 512 x 32)"
    )
    line_buffer_ports: int = Field(
        default=3,
        ge=1,
        le=9,
        description="ports that read rows at once; 3 serve the 3 rows of square offsets (published)",
    )
    reads_per_port: int = Field(
        default=2, ge=1, le=2, description="block RAM has two ports; writing and reading loops do not overlap (derived)"
    )
    far_reads: Literal["dram", "host", "clamp"] = Field(
        default="dram",
        description="layers whose sampling points may leave the line buffer: read every point from DRAM, run on the host, or "
        "cut offsets to the buffer, which changes results (published: dram, as in the paper's ablation)",
    )
    llc: bool = Field(
        default=False, description="read sampling points through the processor's last-level cache (published: without)"
    )
    llc_kib: int = Field(default=1024, ge=16, le=1 << 20, description="published: 1 MiB")
    llc_ways: int = Field(default=16, ge=1, le=64, description="published: 16, pseudo-random replacement")
    llc_line_bytes: int = Field(
        default=64, ge=16, le=1024, description="a power of two (published: 64, Arm Cortex-A53 MPCore manual)"
    )
    dram_read_ns: float = Field(
        default=35.88,
        gt=0,
        le=10000.0,
        description="one 16-byte sampling read in an open DRAM row, no cache, its share of a window's nine; derived from "
        "llc_read_ns and the latencies of LPDDR4 and cache",
    )
    llc_read_ns: float = Field(
        default=33.89, gt=0, le=10000.0, description="the same through the cache; calibrated on Table 2, one entry"
    )
    dram_row_miss_ns: float = Field(
        default=36.0,
        ge=0,
        le=10000.0,
        description="precharge and activate of a DRAM row (published: JEDEC JESD209-4, 18 + 18)",
    )
    outstanding_reads: int = Field(
        default=9,
        ge=1,
        le=64,
        description="reads of a window under way at once; share a row miss (derived: HLS keeps up to 16)",
    )
    dram_gib_per_s: float | None = Field(
        default=None, gt=0, le=100000.0, description="of streams; null: half of the board's peak (estimate)"
    )
    dram_type: str | None = Field(
        default=None, description="sets the energy per bit; null: the board's (published: lpddr4)"
    )

    weight_bits: int = Field(default=4, ge=2, le=16, description="published: 4, one scale per output channel")
    activation_bits: int = Field(default=8, ge=2, le=16, description="published: 8, one scale per layer")
    accumulator_bits: int = Field(default=24, ge=8, le=48, description="partial sums (published: 16 to 24)")
    offset_bits: int = Field(
        default=8, ge=2, le=16, description="an offset as it is read, with its sign (published: a byte per pixel)"
    )
    weight_buffer_kib: float = Field(
        default=256.0,
        gt=0,
        le=65536.0,
        description="weights of one pass; 512 x 1024 of 4 bits (derived from the limits)",
    )
    max_pass_channels: int = Field(
        default=512, ge=1, le=65536, description="output channels of a pass; more take passes (published driver: 512)"
    )
    max_side: int = Field(
        default=512, ge=4, le=65536, description="rows or columns of a map in one call (published: 512)"
    )

    pixel_refill_cycles: float = Field(
        default=43.4,
        ge=0,
        le=10000.0,
        description="a: a loop over one pixel fills its pipeline (calibrated on Table 2's ordinary depthwise entries)",
    )
    tile_refill_cycles: float = Field(
        default=3.0, ge=0, le=10000.0, description="b: the same per tile of outputs (calibrated on codenet-a)"
    )
    call_cycles: float = Field(
        default=16595.0, ge=0, le=1e9, description="c: the driver starts and awaits a call (calibrated on codenet-a)"
    )
    full_step_cycles: float = Field(
        default=2.523,
        ge=1,
        le=1000.0,
        description="cycles per step of the full 3x3 engine (calibrated on Table 2's ordinary full entries)",
    )
    lowering: bool = Field(
        default=True,
        description="k x k convolutions as k^2 shifted 1x1 calls with partial sums in DRAM; else on the host (estimate: ours)",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.full_in == 0) != (self.full_out == 0):
            raise ValueError("full_in and full_out must both be 0 (no full 3x3 engine) or both positive")
        if self.rows % 2 == 0:
            raise ValueError(
                f"line_buffer_rows must be odd, as many above a pixel as below it, got {self.rows}; use {self.rows + 1}"
            )
        if 1 << (self.offset_bits - 1) <= self.max_offset:
            raise ValueError(
                f"offset_bits={self.offset_bits} hold offsets of at most {(1 << (self.offset_bits - 1)) - 1} but max_offset is "
                f"{self.max_offset}; set offset_bits={self.max_offset.bit_length() + 1} or bound them more"
            )
        if self.llc_line_bytes & (self.llc_line_bytes - 1):
            raise ValueError(f"llc_line_bytes must be a power of two, got {self.llc_line_bytes}")
        if self.llc_kib * 1024 < self.llc_ways * self.llc_line_bytes:
            raise ValueError(
                f"llc_kib={self.llc_kib} holds no set of {self.llc_ways} lines of {self.llc_line_bytes} bytes (llc_ways, "
                "llc_line_bytes); raise llc_kib"
            )
        return self

    @property
    def dram(self) -> str:
        """Type of the memory."""
        return board_named(self.board).dram_type if self.dram_type is None else self.dram_type

    @property
    def stream_bytes_per_s(self) -> float:
        """Bandwidth of streams; InputError for an unknown board."""
        if self.dram_gib_per_s is None:
            return board_named(self.board).dram_peak_gb_per_s * 1e9 / 2
        return self.dram_gib_per_s * 2**30

    @property
    def rows(self) -> int:
        """Rows of the line buffer."""
        return 2 * self.max_offset + 1 if self.line_buffer_rows is None else self.line_buffer_rows

    @property
    def reach(self) -> int:
        """Rows (and columns) on either side of a pixel that the line buffer holds."""
        return (self.rows - 1) // 2

    @property
    def native_weight(self) -> NumberFormat:
        """Weight format where nothing sets another: one scale per output channel."""
        return integer_format(self.weight_bits, per=Granularity.CHANNEL)

    @property
    def native_activation(self) -> NumberFormat:
        """Activation format where nothing sets another."""
        return integer_format(self.activation_bits)
