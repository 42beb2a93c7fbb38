"""Constants of on-chip SRAM, fitted to a sweep of CACTI 7.

The sweep: plain RAM, one read/write port, one bank, 360 K, energy-optimized; nodes 65 to 22 nm, three cell types, 1 KiB
to 4 MiB, ports of 16 to 256 bits. A constant is the fitted value at 32 KiB and a 64-bit port, `SHAPES` carries it to
other sizes (formulas: `sram.py`). The fit is a least-squares fit of logarithms, residuals weighted by a soft L1 norm
(`sram_fit.py` does it again, and says how well it predicts rows that were left out).
A constant's range is the worst error of its fit; how far CACTI itself is from silicon is the one shared factor
`sram.model`, so that all SRAM of all designs moves together when sampled.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from picojoule.sim.technology.constant import Constant, ConstantClass, estimated

__all__ = ["SHAPES", "SRAM_CONSTANTS", "AccessShape", "SramCell", "SramShape"]


class SramCell(Enum):
    """ITRS transistor type of cells and periphery: leakage differs 70-fold from hp to lop and 60-fold again to lstp."""

    HP = "hp"
    """High performance."""
    LOP = "lop"
    """Low operating power."""
    LSTP = "lstp"
    """Low standby power."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessShape:
    """How an access's energy goes with capacity and port width: C^p (1 - s + s w), which is 1 at 32 KiB and 64 bits."""

    exponent_small: float
    """Below 32 KiB: bitlines of one mat, and its decoder."""
    exponent_large: float
    """Above 32 KiB: near one half, the wires of the H-tree."""
    port_share: float
    """Share at 64 bits that grows with the port's width: its sense amplifiers or drivers, and its wires of the H-tree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SramShape:
    """How one CACTI family goes with capacity and port width; every formula is 1 at 32 KiB and 64 bits."""

    read: AccessShape
    write: AccessShape
    access_fixed_share: float
    """Share of the access time at 32 KiB that does not depend on capacity (decode, sense)."""


def _shape(*v: float) -> SramShape:
    return SramShape(
        read=AccessShape(exponent_small=v[0], exponent_large=v[1], port_share=v[2]),
        write=AccessShape(exponent_small=v[3], exponent_large=v[4], port_share=v[5]),
        access_fixed_share=v[6],
    )


SHAPES: Mapping[tuple[int, SramCell], SramShape] = MappingProxyType(
    {
        (65, SramCell.HP): _shape(0.742, 0.454, 0.162, 0.442, 0.454, 0.780, 0.363),
        (45, SramCell.HP): _shape(0.729, 0.412, 0.152, 0.445, 0.446, 0.747, 0.306),
        (45, SramCell.LOP): _shape(0.642, 0.457, 0.293, 0.427, 0.497, 0.743, 0.430),
        (45, SramCell.LSTP): _shape(0.641, 0.514, 0.324, 0.434, 0.497, 0.783, 0.519),
        (32, SramCell.HP): _shape(0.641, 0.463, 0.295, 0.422, 0.488, 0.763, 0.267),
        (22, SramCell.HP): _shape(0.657, 0.463, 0.317, 0.412, 0.517, 0.810, 0.200),
    }
)

_FIT_FACTOR = (
    1.2  # worst fit errors: read 15 %, write 16 %, leakage 17 %, area and access 14 % (`sram_fit.py` measures them)
)

_QUANTITIES = (
    ("read", "pJ", ConstantClass.PER_ACCESS),
    ("write", "pJ", ConstantClass.PER_ACCESS),
    ("leakage", "mW", ConstantClass.STATIC),
    ("area", "mm2", ConstantClass.AREA),
    ("access", "ns", ConstantClass.RATE),
)
_ANCHORS = {  # in the order of _QUANTITIES
    (65, SramCell.HP): (25.26, 22, 40.94, 0.2097, 0.6951),
    (45, SramCell.HP): (14.82, 12.45, 37.49, 0.1042, 0.4438),
    (45, SramCell.LOP): (7.289, 5.759, 0.5193, 0.1088, 0.9178),
    (45, SramCell.LSTP): (14.68, 14.72, 0.008227, 0.107, 1.392),
    (32, SramCell.HP): (6.805, 6.073, 20.18, 0.05523, 0.3576),
    (22, SramCell.HP): (3.487, 2.894, 9.869, 0.02654, 0.2392),
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
