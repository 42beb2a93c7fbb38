"""Energy, leakage, area and access time of on-chip SRAM, from fits to a sweep of CACTI 7.

With C the capacity over 32 KiB, w the port width over 64 bits, and v, p, s the constants of `table_sram.py`:

- read   v ((1 - s) C^p + s w), p near 0.9 below 32 KiB (bitlines of one mat) and near 0.5 above (wires of the H-tree).
  A wide read costs little more than a narrow one: per bit it falls ten-fold from 16 to 256 bits.
- write  v C^p (1 - s + s w): each written bit drives its own wires, so a write is nearly proportional to width.
- leakage v C^p and area v C^p with p within 3 % of 1; access time v (s + (1 - s) C^p).

Against all 66 rows of the sweep the fit is off by 4 % in the median and 20 % at worst.

Capacity 1 KiB to 4 MiB is fitted. Above, up to 64 MiB, the memory is banks of 4 MiB of which one is read (the wires
between banks are left out). Below 1 KiB energy and time are those of 1 KiB; leakage and area follow the power law.
Ports of 16 to 256 bits are fitted; a wider one is parallel lanes of at most 256 bits that share the capacity.

Nodes 22 to 65 nm, high-performance cells fitted at 65, 45, 32 and 22 nm and interpolated log-log. The low-power cells
were swept at 45 nm only; elsewhere they follow the ratio of the high-performance cells at 32 KiB and 64 bits. Nothing
is extrapolated beyond 22 or 65 nm: SRAM does not follow the scaling of logic.
"""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from picojoule.sim.errors import InputError, unknown_choice
from picojoule.sim.technology._checks import within
from picojoule.sim.technology.constant import product_key
from picojoule.sim.technology.constants import constant
from picojoule.sim.technology.scaling import interpolate_loglog
from picojoule.sim.technology.table_sram import SHAPES, SramCell, SramShape

__all__ = [
    "SramCell",
    "sram_access_ns",
    "sram_area_mm2",
    "sram_energy_pj",
    "sram_key",
    "sram_leakage_mw",
]

Array = npt.NDArray[np.float64]
# What one family costs at (C, w): shape, C, w -> value relative to 32 KiB, 64 bits.
_Formula = Callable[[SramShape, Array, Array], Array]

_HP_NODES = (22, 32, 45, 65)
_LOW_POWER_NODE = 45
_LARGEST_KIB = 64 * 1024
_BANK_KIB = 4096
_SMALLEST_KIB = 1
_LANE_BITS = 256
_WIDEST_BITS = 8192


def _read(shape: SramShape, capacity: Array, width: Array) -> Array:
    exponent = np.where(capacity < 1, shape.read_exponent_small, shape.read_exponent_large)
    return (1 - shape.read_port_share) * capacity**exponent + shape.read_port_share * width


def _write(shape: SramShape, capacity: Array, width: Array) -> Array:
    return capacity**shape.write_exponent * (1 - shape.write_port_share + shape.write_port_share * width)


def _leakage(shape: SramShape, capacity: Array, width: Array) -> Array:
    return np.asarray(capacity**shape.leakage_exponent)


def _area(shape: SramShape, capacity: Array, width: Array) -> Array:
    return np.asarray(capacity**shape.area_exponent)


def _access(shape: SramShape, capacity: Array, width: Array) -> Array:
    return shape.access_fixed_share + (1 - shape.access_fixed_share) * capacity**shape.access_exponent


_FORMULAS: dict[str, _Formula] = {
    "read": _read,
    "write": _write,
    "leakage": _leakage,
    "area": _area,
    "access": _access,
}


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
    return within("SRAM port", "bits", values, 1, _WIDEST_BITS, "split the memory")


def _cell(cell: SramCell | str) -> SramCell:
    try:
        return SramCell(cell)
    except ValueError:
        raise InputError(unknown_choice("SRAM cell", str(cell), [c.value for c in SramCell])) from None


def _value(quantity: str, capacity_kib: Array, port_bits: Array, node_nm: npt.ArrayLike, cell: SramCell) -> Array:
    capacity, width = capacity_kib / 32, port_bits / 64

    def anchor(row: int, of: SramCell) -> float:
        return constant(f"sram.{of.value}.{row}nm.{quantity}").value

    def fitted(row: int, of: SramCell) -> Array:
        return anchor(row, of) * _FORMULAS[quantity](SHAPES[row, of], capacity, width)

    node = _node(node_nm)
    if cell is SramCell.HP:
        return interpolate_loglog(node, _HP_NODES, [fitted(row, cell) for row in _HP_NODES])
    relative = [anchor(row, SramCell.HP) / anchor(_LOW_POWER_NODE, SramCell.HP) for row in _HP_NODES]
    return fitted(_LOW_POWER_NODE, cell) * interpolate_loglog(node, _HP_NODES, relative)


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
    if kind not in ("read", "write"):
        raise InputError(unknown_choice("SRAM access", kind, ["read", "write"]))
    port = _port(port_bits)
    lanes = np.maximum(1.0, port / _LANE_BITS)  # part of a lane costs its part: energy grows smoothly with width
    lane_kib = np.clip(_capacity(capacity_kib) / lanes, _SMALLEST_KIB, _BANK_KIB)
    return lanes * _value(kind, lane_kib, port / lanes, node_nm, _cell(cell))


def sram_leakage_mw(capacity_kib: npt.ArrayLike, node_nm: npt.ArrayLike, cell: SramCell | str) -> Array:
    """Return the leakage in mW at 360 K; capacity and node broadcast. Source and errors as `sram_energy_pj`."""
    capacity = _capacity(capacity_kib)
    return _value("leakage", capacity, np.asarray(64.0), node_nm, _cell(cell))


def sram_area_mm2(capacity_kib: npt.ArrayLike, node_nm: npt.ArrayLike, cell: SramCell | str) -> Array:
    """Return the area in mm2; capacity and node broadcast. Source and errors as `sram_energy_pj`."""
    capacity = _capacity(capacity_kib)
    return _value("area", capacity, np.asarray(64.0), node_nm, _cell(cell))


def sram_access_ns(capacity_kib: npt.ArrayLike, node_nm: npt.ArrayLike, cell: SramCell | str) -> Array:
    """Return the access time in ns of one bank; capacity and node broadcast. Source and errors as `sram_energy_pj`."""
    capacity = np.clip(_capacity(capacity_kib), _SMALLEST_KIB, _BANK_KIB)
    return _value("access", capacity, np.asarray(64.0), node_nm, _cell(cell))


def sram_key(node_nm: float, cell: SramCell | str, quantity: str) -> str:
    """Return the constants that a figure of `quantity` (read, write, leakage, area, access) is proportional to.

    The fit of the nearest node stands for an interpolated one. The same errors as `sram_energy_pj`.
    """
    if quantity not in _FORMULAS:
        raise InputError(unknown_choice("SRAM quantity", quantity, list(_FORMULAS)))
    node, chosen = float(_node(node_nm)), _cell(cell)
    rows = _HP_NODES if chosen is SramCell.HP else (_LOW_POWER_NODE,)
    nearest_row = min(rows, key=lambda row: abs(math.log(row / node)))
    shared = {"read": "sram.model", "write": "sram.model", "leakage": "sram.temperature"}.get(quantity, "")
    return product_key(f"sram.{chosen.value}.{nearest_row}nm.{quantity}", shared)
