"""Energy, leakage, area and access time of on-chip SRAM, from fits to a sweep of CACTI 7.

With C the capacity over 32 KiB, w the port width over 64 bits, and v, p, s the constants of `table_sram.py`:

- read and write  v C^p (1 - s + s w), p apart below 32 KiB (one mat) and above (wires of the H-tree). Of a read most is
  fixed (s 0.15 to 0.32: a wide read costs little more than a narrow one; per bit it falls ten-fold from 16 to 256 bits),
  of a write little (s 0.74 to 0.81: each written bit drives its own wires).
- leakage and area  v C; access time  v (s + (1 - s) C^0.5).

Against all 66 rows of the sweep the fit is off by 3 % in the median and 17 % at worst; rows that it has not seen it
predicts within 5 % in the median and 23 % at worst (`sram_fit.py`).

Capacity 1 KiB to 4 MiB is fitted. Above, up to 64 MiB, the memory is banks of 4 MiB of which one is read (the wires
between banks are left out). Below 1 KiB energy and time are those of 1 KiB; leakage and area follow the power law.
Ports of 16 to 256 bits are fitted; a wider one is parallel lanes of at most 256 bits that share the capacity.

Nodes 22 to 65 nm, high-performance cells fitted at 65, 45, 32 and 22 nm; between them v goes log-log with the node, and
p and s linearly with its logarithm. The low-power cells
were swept at 45 nm only; elsewhere they follow the ratio of the high-performance cells at 32 KiB and 64 bits. Nothing
is extrapolated beyond 22 or 65 nm: SRAM does not follow the scaling of logic.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from picojoule.sim.errors import InputError, unknown_choice
from picojoule.sim.technology._checks import within
from picojoule.sim.technology.constant import product_key
from picojoule.sim.technology.constants import constant
from picojoule.sim.technology.scaling import interpolate_loglog
from picojoule.sim.technology.table_sram import SHAPES, SramCell, SramShape

__all__ = [
    "SRAM_LANE_BITS",
    "SRAM_WIDEST_BITS",
    "SramCell",
    "SramPort",
    "sram_access_ns",
    "sram_area_mm2",
    "sram_energy_pj",
    "sram_key",
    "sram_leakage_mw",
    "sram_port",
]

Array = npt.NDArray[np.float64]

SRAM_LANE_BITS = 256
"""A wider port is parallel lanes of at most so many bits: what the sweep holds."""
SRAM_WIDEST_BITS = 8192

_QUANTITIES = ("read", "write", "leakage", "area", "access")
_HP_NODES = (22, 32, 45, 65)
_LOW_POWER_NODE = 45
_LARGEST_KIB = 64 * 1024
_BANK_KIB = 4096
_SMALLEST_KIB = 1
_ACCESS_TIME_EXPONENT = 0.5


def _capacity(values: npt.ArrayLike) -> Array:
    array = np.asarray(values, dtype=np.float64)
    bad = array[~((array > 0) & (array <= _LARGEST_KIB))]
    if bad.size:
        raise InputError(
            f"SRAM capacity must be above 0 and at most {_LARGEST_KIB} KiB, got {bad.flat[0]:g}; "
            "split a larger memory into several"
        )
    return array


def _node(values: npt.ArrayLike) -> Array:
    remedy = "the CACTI sweep ends there and SRAM does not scale as logic does"
    return within("SRAM node", "nm", values, _HP_NODES[0], _HP_NODES[-1], remedy)


def _port(values: npt.ArrayLike) -> Array:
    return within("SRAM port", "bits", values, 1, SRAM_WIDEST_BITS, "split the memory")


def _cell(cell: SramCell | str) -> SramCell:
    try:
        return SramCell(cell)
    except ValueError:
        raise InputError(unknown_choice("SRAM cell", str(cell), [c.value for c in SramCell])) from None


def _shapes(cell: SramCell) -> list[SramShape]:
    """Return the shape at each of `_HP_NODES`; low-power cells have one."""
    return [SHAPES[row if cell is SramCell.HP else _LOW_POWER_NODE, cell] for row in _HP_NODES]


def _shape_values(quantity: str, shape: SramShape) -> tuple[float, ...]:
    """Return the parameters of a quantity's formula beside its value at 32 KiB and 64 bits."""
    if quantity in ("leakage", "area"):
        return ()
    if quantity == "access":
        return (shape.access_fixed_share,)
    access = shape.read if quantity == "read" else shape.write
    return access.exponent_small, access.exponent_large, access.port_share


def _fit(quantity: str, node_nm: npt.ArrayLike, cell: SramCell | str) -> tuple[Array, ...]:
    """Return the value at 32 KiB and 64 bits and the shape's parameters at a node between `_HP_NODES`."""
    node, chosen = _node(node_nm), _cell(cell)
    return _fit_of_one(quantity, float(node), chosen) if node.ndim == 0 else _fit_of_nodes(quantity, node, chosen)


@lru_cache(maxsize=512)
def _fit_of_one(quantity: str, node: float, cell: SramCell) -> tuple[Array, ...]:
    return _fit_of_nodes(quantity, np.asarray(node), cell)


def _fit_of_nodes(quantity: str, node: Array, cell: SramCell) -> tuple[Array, ...]:
    def fitted(row: int, of: SramCell) -> float:
        return constant(f"sram.{of.value}.{row}nm.{quantity}").value

    level = interpolate_loglog(node, _HP_NODES, [fitted(row, SramCell.HP) for row in _HP_NODES])
    if cell is not SramCell.HP:
        level = level * (fitted(_LOW_POWER_NODE, cell) / fitted(_LOW_POWER_NODE, SramCell.HP))
    rows = zip(*(_shape_values(quantity, shape) for shape in _shapes(cell)), strict=True)
    return level, *(np.asarray(np.interp(np.log(node), np.log(_HP_NODES), values)) for values in rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class SramPort:
    """What an access of a port costs in its two parts, pJ; arrays of one shape, or numbers.

    An access that uses `bits` of a port costs `lane_pj` for a lane of 256 bits that it wakes (decoder, wordline, bitlines), at
    least one, and beyond it for parts of lanes their part, and `bit_pj` for each bit it moves: lane_pj max(1, bits / 256) +
    bit_pj bits. So a port of at most one lane that is used half costs more than half.
    """

    lane_pj: Array
    bit_pj: Array


def sram_port(
    capacity_kib: npt.ArrayLike,
    port_bits: npt.ArrayLike,
    node_nm: npt.ArrayLike,
    cell: SramCell | str,
    *,
    kind: str = "read",
) -> SramPort:
    """Return the two parts of an access's energy; arguments, validity and errors as `sram_energy_pj`."""
    if kind not in ("read", "write"):
        raise InputError(unknown_choice("SRAM access", kind, ["read", "write"]))
    port = _port(port_bits)
    lanes = np.maximum(1.0, port / SRAM_LANE_BITS)  # part of a lane costs its part: energy grows smoothly with width
    capacity = np.minimum(np.maximum(_capacity(capacity_kib) / lanes, _SMALLEST_KIB), _BANK_KIB) / 32
    anchor, small, large, share = _fit(kind, node_nm, cell)
    level = anchor * capacity ** np.where(capacity < 1, small, large)
    return SramPort(lane_pj=np.asarray(level * (1 - share)), bit_pj=np.asarray(level * share / 64))


def sram_energy_pj(
    capacity_kib: npt.ArrayLike,
    port_bits: npt.ArrayLike,
    node_nm: npt.ArrayLike,
    cell: SramCell | str,
    *,
    kind: str = "read",
) -> Array:
    """Return the energy in pJ of one access of the whole port; capacity, width and node broadcast.

    `kind` is 'read' or 'write'. Source, validity and banking: see the module. InputError for capacity outside
    (0, 64 MiB], a port outside 1-8192 bits, a node outside 22-65 nm, an unknown cell or kind.
    """
    made, port = sram_port(capacity_kib, port_bits, node_nm, cell, kind=kind), _port(port_bits)
    return np.asarray(np.maximum(1.0, port / SRAM_LANE_BITS) * made.lane_pj + port * made.bit_pj)


def sram_leakage_mw(capacity_kib: npt.ArrayLike, node_nm: npt.ArrayLike, cell: SramCell | str) -> Array:
    """Return the leakage in mW at 360 K; capacity and node broadcast. Source and errors as `sram_energy_pj`."""
    return np.asarray(_fit("leakage", node_nm, cell)[0] * (_capacity(capacity_kib) / 32))


def sram_area_mm2(capacity_kib: npt.ArrayLike, node_nm: npt.ArrayLike, cell: SramCell | str) -> Array:
    """Return the area in mm2; capacity and node broadcast. Source and errors as `sram_energy_pj`."""
    return np.asarray(_fit("area", node_nm, cell)[0] * (_capacity(capacity_kib) / 32))


def sram_access_ns(capacity_kib: npt.ArrayLike, node_nm: npt.ArrayLike, cell: SramCell | str) -> Array:
    """Return the access time in ns of one bank; capacity and node broadcast. Source and errors as `sram_energy_pj`."""
    capacity = np.clip(_capacity(capacity_kib), _SMALLEST_KIB, _BANK_KIB) / 32
    anchor, fixed = _fit("access", node_nm, cell)
    return np.asarray(anchor * (fixed + (1 - fixed) * capacity**_ACCESS_TIME_EXPONENT))


def sram_key(node_nm: float, cell: SramCell | str, quantity: str) -> str:
    """Return the constants that a figure of `quantity` (read, write, leakage, area, access) is proportional to.

    The fit of the nearest node stands for an interpolated one. The same errors as `sram_energy_pj`.
    """
    if quantity not in _QUANTITIES:
        raise InputError(unknown_choice("SRAM quantity", quantity, list(_QUANTITIES)))
    node, chosen = float(_node(node_nm)), _cell(cell)
    rows = _HP_NODES if chosen is SramCell.HP else (_LOW_POWER_NODE,)
    nearest_row = min(rows, key=lambda row: abs(math.log(row / node)))
    shared = {"read": "sram.model", "write": "sram.model", "leakage": "sram.temperature"}.get(quantity, "")
    return product_key(f"sram.{chosen.value}.{nearest_row}nm.{quantity}", shared)
