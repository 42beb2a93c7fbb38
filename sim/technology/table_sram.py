"""Constants of on-chip SRAM, fitted to a sweep of CACTI 7.

The sweep: plain RAM, one read/write port, one bank, 360 K, energy-optimized; nodes 65 to 22 nm, three cell types, 1 KiB
to 4 MiB, ports of 16 to 256 bits. A constant is the fitted value at 32 KiB and a 64-bit port, `SHAPES` carries it to
other sizes (formulas: `sram.py`). The fit is a least-squares fit of logarithms, residuals weighted by a soft L1 norm.
A constant's range is the worst error of its fit; how far CACTI itself is from silicon is the one shared factor
`sram.model`, so that all SRAM of all designs moves together when sampled.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from picojoule.sim.technology.constant import Constant, ConstantClass, estimated

__all__ = ["SHAPES", "SRAM_CONSTANTS", "SramCell", "SramShape"]


class SramCell(Enum):
    """ITRS transistor type of cells and periphery: leakage differs 70-fold from hp to lop and 60-fold again to lstp."""

    HP = "hp"
    """High performance."""
    LOP = "lop"
    """Low operating power."""
    LSTP = "lstp"
    """Low standby power."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SramShape:
    """How one CACTI family goes with capacity and port width; every formula is 1 at 32 KiB and 64 bits."""

    read_exponent_small: float
    """Below 32 KiB: nearly linear, one mat whose bitlines are discharged."""
    read_exponent_large: float
    """Above 32 KiB: near one half, the wires of the H-tree."""
    read_port_share: float
    """Share of the read at 32 KiB, 64 bits that belongs to the port and grows with its width."""
    write_exponent: float
    write_port_share: float
    """Share of a write that grows with port width, at every capacity: each written bit drives its own wires."""
    leakage_exponent: float
    area_exponent: float
    access_exponent: float
    access_fixed_share: float
    """Share of the access time at 32 KiB that does not depend on capacity (decode, sense)."""


def _shape(*v: float) -> SramShape:
    return SramShape(
        read_exponent_small=v[0],
        read_exponent_large=v[1],
        read_port_share=v[2],
        write_exponent=v[3],
        write_port_share=v[4],
        leakage_exponent=v[5],
        area_exponent=v[6],
        access_exponent=v[7],
        access_fixed_share=v[8],
    )


SHAPES: Mapping[tuple[int, SramCell], SramShape] = MappingProxyType(
    {
        (65, SramCell.HP): _shape(0.905, 0.473, 0.116, 0.453, 0.771, 0.976, 0.988, 0.534, 0.413),
        (45, SramCell.HP): _shape(0.876, 0.437, 0.124, 0.447, 0.742, 0.987, 0.997, 0.542, 0.362),
        (45, SramCell.LOP): _shape(0.927, 0.511, 0.233, 0.474, 0.720, 0.987, 0.998, 0.433, 0.321),
        (45, SramCell.LSTP): _shape(0.961, 0.573, 0.247, 0.478, 0.753, 0.978, 0.997, 0.416, 0.380),
        (32, SramCell.HP): _shape(0.923, 0.516, 0.230, 0.467, 0.739, 0.988, 1.001, 0.488, 0.255),
        (22, SramCell.HP): _shape(1.0, 0.522, 0.248, 0.482, 0.775, 0.997, 1.005, 0.508, 0.218),
    }
)

_FIT_FACTOR = 1.2  # worst fit errors: read 19 %, write 17 %, leakage, area and access 14 %

_QUANTITIES = (
    ("read", "pJ", ConstantClass.PER_ACCESS),
    ("write", "pJ", ConstantClass.PER_ACCESS),
    ("leakage", "mW", ConstantClass.STATIC),
    ("area", "mm2", ConstantClass.AREA),
    ("access", "ns", ConstantClass.RATE),
)
_ANCHORS = {  # in the order of _QUANTITIES
    (65, SramCell.HP): (26.21, 22.06, 41.46, 0.2122, 0.6781),
    (45, SramCell.HP): (14.96, 12.33, 37.76, 0.1037, 0.4307),
    (45, SramCell.LOP): (7.407, 6.095, 0.5226, 0.1107, 0.9651),
    (45, SramCell.LSTP): (14.88, 15.30, 0.008325, 0.1078, 1.469),
    (32, SramCell.HP): (6.940, 6.388, 20.41, 0.05589, 0.3561),
    (22, SramCell.HP): (3.540, 3.130, 10.00, 0.02671, 0.2378),
}


def _anchors() -> tuple[Constant, ...]:
    source = "fit to a sweep of CACTI 7 (360 K, one port, one bank), at 32 KiB and a 64-bit port"
    return tuple(
        estimated(
            f"sram.{cell.value}.{node}nm.{quantity}",
            value,
            unit,
            kind,
            source,
            node_nm=float(node),
            low=value / _FIT_FACTOR,
            high=value * _FIT_FACTOR,
        )
        for (node, cell), values in _ANCHORS.items()
        for (quantity, unit, kind), value in zip(_QUANTITIES, values, strict=True)
    )


SRAM_CONSTANTS: tuple[Constant, ...] = (
    *_anchors(),
    estimated(
        "sram.model",
        1.0,
        "1",
        ConstantClass.OTHER,
        "CACTI against silicon: Horowitz's 45 nm reads (10, 20, 100 pJ at 8 KB, 32 KB, 1 MB) are 1.3 to 1.9 times "
        "CACTI's high-performance cells; lower end our estimate",
        low=0.75,
        high=1.9,
    ),
    estimated(
        "sram.temperature",
        1.0,
        "1",
        ConstantClass.OTHER,
        "CACTI leakage is for 360 K; our estimate for chips between 300 and 385 K",
        low=0.1,
        high=2.0,
    ),
)
