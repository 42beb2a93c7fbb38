"""FPGA boards that an engine can be put on: what their device holds, and what their memory delivers at most.

Counts of slices are published (AMD data sheets: DS891 Zynq UltraScale+, DS180 7 series, DS890 UltraScale; the Kria K26 by its
own). DRAM peaks are derived from the board's user guide: width of the bus x transfers per second. Static power is not
here: it is an estimate (`power`). A device by itself (`zu3eg`) stands for the first board that carries it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from picojoule.sim.errors import InputError, unknown_choice

__all__ = ["ALIASES", "BOARDS", "Board", "board_named", "list_boards"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A board and its device.

    `bram36` counts blocks of 36 Kbit (each is two of 18 Kbit); `uram` blocks of 288 Kbit; `dram_peak_gb_per_s` is 1e9 bytes
    per second; `max_clock_mhz` is the DSP slices' limit with all registers used: what no design exceeds.
    `hard_processor`: Arm cores with a memory controller beside the logic; without one the logic must hold the controller.
    """

    name: str
    device: str
    family: str
    node_nm: float
    dsp: int
    bram36: int
    lut: int
    ff: int
    uram: int
    multiplier_bits: tuple[int, int]
    dram_peak_gb_per_s: float
    dram_type: str
    hard_processor: bool
    max_clock_mhz: float
    source: str


_DSP48E1, _DSP48E2 = (25, 18), (27, 18)
"""Widths of the two operands of a DSP slice's multiplier (UG479, UG579)."""


def _zynq_ultrascale_plus(
    name: str,
    device: str,
    counts: tuple[int, int, int, int, int],
    dram: tuple[float, str],
    clock_mhz: float,
    source: str,
) -> Board:
    dsp, bram36, lut, ff, uram = counts
    return Board(
        name=name,
        device=device,
        family="Zynq UltraScale+",
        node_nm=16.0,
        dsp=dsp,
        bram36=bram36,
        lut=lut,
        ff=ff,
        uram=uram,
        multiplier_bits=_DSP48E2,
        dram_peak_gb_per_s=dram[0],
        dram_type=dram[1],
        hard_processor=True,
        max_clock_mhz=clock_mhz,
        source=source,
    )


_ALL: tuple[Board, ...] = (
    _zynq_ultrascale_plus(
        "ultra96",
        "XCZU3EG-1",
        (360, 216, 70_560, 141_120, 0),
        (8.53, "lpddr4"),
        645.0,
        "DS891 (ZU3EG), DS925 (clock, speed grade -1, 0.85 V); Ultra96 guide: 32-bit LPDDR4 at 2133 MT/s",
    ),
    _zynq_ultrascale_plus(
        "kv260",
        "K26 (XCK26-2LV)",
        (1248, 144, 117_120, 234_240, 64),
        (19.2, "ddr4"),
        644.0,
        "DS987 (Kria K26), DS925 (clock, speed grade -2, 0.72 V); 64-bit DDR4 at 2400 MT/s",
    ),
    _zynq_ultrascale_plus(
        "zcu104",
        "XCZU7EV-2",
        (1728, 312, 230_400, 460_800, 96),
        (19.2, "ddr4"),
        775.0,
        "DS891 (ZU7EV), DS925 (clock, speed grade -2, 0.85 V); UG1267: 64-bit DDR4 at 2400 MT/s",
    ),
    _zynq_ultrascale_plus(
        "zcu102",
        "XCZU9EG-2",
        (2520, 912, 274_080, 548_160, 0),
        (19.2, "ddr4"),
        775.0,
        "DS891 (ZU9EG), DS925 (clock, speed grade -2, 0.85 V); UG1182: 64-bit DDR4 at 2400 MT/s",
    ),
    Board(
        name="ac701",
        device="XC7A200T-2",
        family="Artix-7",
        node_nm=28.0,
        dsp=740,
        bram36=365,
        lut=134_600,
        ff=269_200,
        uram=0,
        multiplier_bits=_DSP48E1,
        dram_peak_gb_per_s=8.53,
        dram_type="ddr3",
        hard_processor=False,
        max_clock_mhz=550.66,
        source="DS180 (XC7A200T), DS181 (clock, speed grade -2); UG952: 64-bit DDR3 at 1066 MT/s",
    ),
    Board(
        name="kc705",
        device="XC7K325T-2",
        family="Kintex-7",
        node_nm=28.0,
        dsp=840,
        bram36=445,
        lut=203_800,
        ff=407_600,
        uram=0,
        multiplier_bits=_DSP48E1,
        dram_peak_gb_per_s=12.8,
        dram_type="ddr3",
        hard_processor=False,
        max_clock_mhz=650.2,
        source="DS180 (XC7K325T), DS182 (clock, speed grade -2); UG810: 64-bit DDR3 at 1600 MT/s",
    ),
    Board(
        name="kcu1500",
        device="XCKU115-2",
        family="Kintex UltraScale",
        node_nm=20.0,
        dsp=5520,
        bram36=2160,
        lut=663_360,
        ff=1_326_720,
        uram=0,
        multiplier_bits=_DSP48E2,
        dram_peak_gb_per_s=76.8,
        dram_type="ddr4",
        hard_processor=False,
        max_clock_mhz=661.0,
        source="DS890 (KU115), DS892 (clock, speed grade -2); UG1260: four channels of 64-bit DDR4 at 2400 MT/s",
    ),
)
BOARDS: Mapping[str, Board] = MappingProxyType({board.name: board for board in _ALL})
ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "zu3eg": "ultra96",
        "xczu3eg": "ultra96",
        "k26": "kv260",
        "zu7ev": "zcu104",
        "xczu7ev": "zcu104",
        "zu9eg": "zcu102",
        "xczu9eg": "zcu102",
        "xc7a200t": "ac701",
        "xc7k325t": "kc705",
        "ku115": "kcu1500",
        "xcku115": "kcu1500",
    }
)
"""A device's name, and the board of the table that carries it."""


def board_named(name: str) -> Board:
    """Return a board by its name or its device's, capitals ignored; InputError with the nearest name if there is none."""
    key = name.strip().lower()
    found = BOARDS.get(ALIASES.get(key, key))
    if found is None:
        raise InputError(unknown_choice("board", name, [*BOARDS, *ALIASES]))
    return found


def list_boards() -> tuple[Board, ...]:
    """Return the boards, those with a hard processor first, smaller devices before larger ones."""
    return _ALL
