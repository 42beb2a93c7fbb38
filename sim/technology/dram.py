"""Energy of off-chip memory and of links between chips."""

import numpy as np
import numpy.typing as npt

from picojoule.sim.errors import InputError, unknown_choice
from picojoule.sim.technology._checks import not_negative
from picojoule.sim.technology.constants import all_constants, constant

__all__ = ["chip_link_energy_pj", "dram_energy_pj", "dram_key", "dram_types"]

Array = npt.NDArray[np.float64]


def dram_types() -> tuple[str, ...]:
    """Return the DRAM types that have an energy per bit, as `dram_type` of a hardware file names them."""
    return tuple(name.split(".")[1] for name in all_constants() if name.startswith("dram."))


def dram_key(dram_type: str) -> str:
    """Return the constant that the energy of this DRAM is proportional to; InputError for an unknown type."""
    name = f"dram.{dram_type}.bit"
    if name not in all_constants():
        raise InputError(unknown_choice("DRAM type", dram_type, dram_types()))
    return name


def dram_energy_pj(
    bits: npt.ArrayLike,
    dram_type: str,
    *,
    row_activations: npt.ArrayLike = 0,
    activation_pj: npt.ArrayLike = 0.0,
) -> Array:
    """Return the energy in pJ of moving `bits` to or from DRAM; the numbers broadcast.

    pJ per bit by type, core and interface together, row hits and misses averaged (sources: the constants). A caller who
    knows them adds row activations at `activation_pj` each; none is assumed, as the averages hold a share of them
    already. InputError for an unknown type or a negative or non-finite number.
    """
    per_bit_pj = constant(dram_key(dram_type)).value
    activations_pj = not_negative("row activations", row_activations) * not_negative("activation energy", activation_pj)
    return np.asarray(per_bit_pj * not_negative("bits", bits) + activations_pj)


def chip_link_energy_pj(bits: npt.ArrayLike) -> Array:
    """Return the energy in pJ of sending `bits` to another chip (`link.chip.128bit`, HWComponents' ISAAC link).

    Partial packets are not rounded up. InputError for negative or non-finite bits.
    """
    return np.asarray(constant("link.chip.128bit").value / 128 * not_negative("bits", bits))
