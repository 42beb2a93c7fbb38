"""What a technology constant is: a number with unit, node, class, source and the range it may lie in.

The range policy. Where two sources give the same quantity, the range spans them. Where there is one source only, it is
value / f to value * f with the factor of its class (`DEFAULT_FACTOR`). The factors are our judgement, and a constant
that knows better overrides them:

- per event, per access 1.5: what synthesis style, toggling and supply move a cell of one node; published adders and
  memories of one node differ by that much and more.
- static 3: leakage follows temperature and cell type, which most tables do not print.
- area 1.5: layout density and aspect of the macro.
- rate, other 1.5.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from picojoule.sim.errors import InputError

__all__ = ["DEFAULT_FACTOR", "Constant", "ConstantClass", "estimated", "product_key"]


class ConstantClass(Enum):
    """How a constant enters a cost."""

    PER_EVENT = "per_event"
    """Multiplied by a count of operations, conversions or steps."""
    PER_ACCESS = "per_access"
    """Multiplied by a count of bits or words moved."""
    STATIC = "static"
    """A power that flows for as long as the chip is on."""
    AREA = "area"
    """Silicon area."""
    RATE = "rate"
    """Operations or bytes per second, or the time of an access."""
    OTHER = "other"
    """Multipliers of model uncertainty (nominally 1), counts, and name-plate powers of the ISAAC table."""


DEFAULT_FACTOR: Mapping[ConstantClass, float] = MappingProxyType(
    {
        ConstantClass.PER_EVENT: 1.5,
        ConstantClass.PER_ACCESS: 1.5,
        ConstantClass.STATIC: 3.0,
        ConstantClass.AREA: 1.5,
        ConstantClass.RATE: 1.5,
        ConstantClass.OTHER: 1.5,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """One technology number and where it comes from.

    `name` is dotted and unique; `unit` is spelt as in our identifiers (pJ, mW, mm2, um2, ns, GOP/s; 1 for a ratio);
    `node_nm` is the node it was stated for, or None; 0 < low <= value <= high, all finite, else InputError.
    """

    name: str
    value: float
    unit: str
    node_nm: float | None
    kind: ConstantClass
    source: str
    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.name or "*" in self.name or any(c.isspace() for c in self.name):
            raise InputError(f"constant name must be dotted words without '*' or blanks, got '{self.name}'")
        if not self.source or not self.unit:
            raise InputError(f"constant '{self.name}' needs a unit and a source")
        if not all(math.isfinite(x) for x in (self.low, self.value, self.high)) or not (
            0 < self.low <= self.value <= self.high
        ):
            raise InputError(
                f"constant '{self.name}' needs finite 0 < low <= value <= high, "
                f"got low {self.low}, value {self.value}, high {self.high}"
            )


def estimated(
    name: str,
    value: float,
    unit: str,
    kind: ConstantClass,
    source: str,
    *,
    node_nm: float | None = None,
    low: float | None = None,
    high: float | None = None,
) -> Constant:
    """Return a Constant whose missing range ends are value / f and value * f, f the factor of its class."""
    factor = DEFAULT_FACTOR[kind]
    return Constant(
        name=name,
        value=value,
        unit=unit,
        node_nm=node_nm,
        kind=kind,
        source=source,
        low=value / factor if low is None else low,
        high=value * factor if high is None else high,
    )


def product_key(*names: str) -> str:
    """Return the key of an energy that is proportional to several constants: 'a*b'; empty names drop out."""
    return "*".join(name for name in names if name)
