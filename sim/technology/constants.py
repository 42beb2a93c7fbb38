"""The registry: every technology constant by name, and a hash of them all for provenance."""

import hashlib
from collections.abc import Mapping
from types import MappingProxyType

from picojoule.sim.errors import InputError, nearest
from picojoule.sim.technology.constant import DEFAULT_FACTOR, Constant, ConstantClass, product_key
from picojoule.sim.technology.scaling import AREA_RELATIVE_TO_45NM, ENERGY_POLYNOMIALS
from picojoule.sim.technology.table_adc import ADC_CONSTANTS
from picojoule.sim.technology.table_arithmetic import ARITHMETIC_CONSTANTS
from picojoule.sim.technology.table_crossbar import CROSSBAR_CONSTANTS
from picojoule.sim.technology.table_fpga import FPGA_CONSTANTS
from picojoule.sim.technology.table_host import HOST_CONSTANTS
from picojoule.sim.technology.table_memory import MEMORY_CONSTANTS
from picojoule.sim.technology.table_periphery import PERIPHERY_CONSTANTS
from picojoule.sim.technology.table_sram import SHAPES, SRAM_CONSTANTS
from picojoule.sim.technology.table_toggle import TOGGLE_CONSTANTS

__all__ = ["DEFAULT_FACTOR", "Constant", "ConstantClass", "all_constants", "constant", "constants_hash", "product_key"]

_ALL: tuple[Constant, ...] = (
    *ARITHMETIC_CONSTANTS,
    *SRAM_CONSTANTS,
    *MEMORY_CONSTANTS,
    *CROSSBAR_CONSTANTS,
    *ADC_CONSTANTS,
    *PERIPHERY_CONSTANTS,
    *HOST_CONSTANTS,
    *FPGA_CONSTANTS,
    *TOGGLE_CONSTANTS,
)
_BY_NAME: Mapping[str, Constant] = MappingProxyType({c.name: c for c in _ALL})
assert len(_BY_NAME) == len(_ALL), "two technology constants share a name"


def constant(name: str) -> Constant:
    """Return the constant of that name; InputError with the nearest name if there is none."""
    found = _BY_NAME.get(name)
    if found is None:
        raise InputError(f"unknown technology constant '{name}'{nearest(name, list(_BY_NAME))}")
    return found


def all_constants() -> Mapping[str, Constant]:
    """Return all constants by name, read-only, in the order of the tables."""
    return _BY_NAME


def constants_hash() -> str:
    """Return 16 hex digits over every constant, the scaling tables and the SRAM shapes."""
    lines = [repr(_BY_NAME[name]) for name in sorted(_BY_NAME)]
    lines += [
        f"{family.value} {node} {row}" for family, rows in ENERGY_POLYNOMIALS.items() for node, row in rows.items()
    ]
    lines += [f"area {node} {ratio}" for node, ratio in AREA_RELATIVE_TO_45NM.items()]
    lines += [f"{node} {cell.value} {shape!r}" for (node, cell), shape in SHAPES.items()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
