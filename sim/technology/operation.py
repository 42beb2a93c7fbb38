"""The energy of an operation as a sum over constants, and how it is carried to another node."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from picojoule.sim.technology._checks import within
from picojoule.sim.technology.constant import product_key
from picojoule.sim.technology.scaling import logic_energy_scale, logic_is_near

__all__ = ["OperationEnergy", "at_node", "bits_within", "split_by_region"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationEnergy:
    """Energy of an operation, and which constants it is proportional to (arrays of one shape).

    `energy_by_constant` sums to `energy_pj`; its keys are constants or products of them joined by '*', as `sampling.py`
    takes them. `extrapolated` is true where a formula is used outside its data.
    """

    energy_pj: Array
    energy_by_constant: Mapping[str, Array]
    extrapolated: npt.NDArray[np.bool_]


def bits_within(what: str, values: npt.ArrayLike, high: int) -> Array:
    """Return widths as float64; InputError outside 1 to `high` bits."""
    return within(what, "bits", values, 1, high)


def split_by_region(parts: Mapping[str, Array], regions: Mapping[str, npt.NDArray[np.bool_]]) -> dict[str, Array]:
    """Give each part's energy in each region a key that also carries the region's constant; regions do not overlap."""
    return {
        product_key(key, factor): np.where(region, energy, 0.0)
        for factor, region in regions.items()
        if region.any()
        for key, energy in parts.items()
    }


def at_node(
    parts: Mapping[str, Array], node_nm: npt.ArrayLike, from_nm: float, extrapolated: npt.NDArray[np.bool_]
) -> OperationEnergy:
    """Scale energies stated at `from_nm` to other nodes, note the doubt in doing so, and add up."""
    node = np.asarray(node_nm, dtype=np.float64)
    scale = logic_energy_scale(from_nm, node)
    shape = np.broadcast_shapes(scale.shape, extrapolated.shape, *(part.shape for part in parts.values()))
    scaled = {key: np.broadcast_to(energy * scale, shape) for key, energy in parts.items()}
    moved, near = node != from_nm, logic_is_near(from_nm, node)
    regions = {"": ~moved, "scaling.logic.near": moved & near, "scaling.logic.far": moved & ~near}
    return OperationEnergy(
        energy_pj=np.asarray(sum(scaled.values())),
        energy_by_constant=split_by_region(scaled, regions),
        extrapolated=np.broadcast_to(extrapolated, shape),
    )
