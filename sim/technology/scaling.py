"""Carrying logic from one node and supply to another, after Stillmaker and Baas.

A. Stillmaker, B. Baas, "Scaling equations for the accurate prediction of CMOS device performance from 180 nm to 7 nm",
Integration 58 (2017), with its corrigendum: energy of an inverter stage E = a V^2 + b V + c per node. From 45 nm on the
paper has a high-performance and a low-power device family; mixing the two (as the table in Accelergy does: low power at
45 and 32 nm, high performance from 20 nm on) makes the step from 32 to 20 nm a change of family as well.

Logic only: SRAM and wires scale differently, see `sram.py`. Nodes between rows are interpolated log-log (28 and
22 nm are in no table); nothing is extrapolated. Leakage and delay are not scaled here.
"""

from collections.abc import Mapping, Sequence
from enum import Enum
from functools import lru_cache
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from picojoule.sim.errors import InputError, unknown_choice
from picojoule.sim.technology._checks import within

__all__ = [
    "AREA_RELATIVE_TO_45NM",
    "ENERGY_POLYNOMIALS",
    "DeviceFamily",
    "interpolate_loglog",
    "logic_area_key",
    "logic_area_scale",
    "logic_energy_scale",
    "logic_is_near",
    "logic_scale_key",
]

Array = npt.NDArray[np.float64]


class DeviceFamily(Enum):
    """Which transistors the scaling curves are for; at 65 nm and above there is one family only."""

    HIGH_PERFORMANCE = "high_performance"
    LOW_POWER = "low_power"
    ACCELERGY = "accelergy"
    """Low power at 45 and 32 nm, high performance below: what Accelergy and HWComponents use; for comparison only."""


_PLANAR = {130: (7.171, -6.709, 2.904), 90: (4.762, -4.781, 2.092), 65: (3.755, -4.398, 1.975)}
_HIGH_PERFORMANCE = {
    45: (1.018, -0.3107, 0.1539),
    32: (0.8367, -0.4341, 0.1701),
    20: (0.373, -0.1582, 0.04104),
    16: (0.2958, -0.1241, 0.03024),
    14: (0.2363, -0.09675, 0.02239),
    10: (0.2068, -0.09311, 0.02375),
    7: (0.1776, -0.09097, 0.02447),
}
_LOW_POWER = {
    45: (1.103, -0.362, 0.2767),
    32: (0.9559, -0.7823, 0.471),
    20: (0.2632, -0.14, 0.06841),
    16: (0.2139, -0.1187, 0.05639),
    14: (0.1556, -0.06472, 0.03066),
    10: (0.1261, -0.0518, 0.02769),
    7: (0.09365, -0.03409, 0.02043),
}

ENERGY_POLYNOMIALS: Mapping[DeviceFamily, Mapping[int, tuple[float, float, float]]] = MappingProxyType(
    {
        DeviceFamily.HIGH_PERFORMANCE: MappingProxyType(_PLANAR | _HIGH_PERFORMANCE),
        DeviceFamily.LOW_POWER: MappingProxyType(_PLANAR | _LOW_POWER),
        DeviceFamily.ACCELERGY: MappingProxyType(
            _PLANAR | {n: (_LOW_POWER if n >= 32 else _HIGH_PERFORMANCE)[n] for n in _HIGH_PERFORMANCE}
        ),
    }
)
"""(a, b, c) of E = a V^2 + b V + c by node; the unit cancels in every ratio."""

AREA_RELATIVE_TO_45NM: Mapping[int, float] = MappingProxyType(
    {130: 6.4, 90: 2.8, 65: 1.5, 45: 1.0, 32: 0.46, 20: 0.21, 16: 0.19, 14: 0.17, 10: 0.1, 7: 0.059}
)
"""Area of the same logic, same paper, two digits."""

_NODE_RANGE_NM = (7.0, 130.0)
# Below 0.6 V the polynomials of 65 to 130 nm turn upwards again; above 1.4 V there is no data.
_VDD_RANGE_V = (0.6, 1.4)
_NEAR_RATIO = 2.1


def interpolate_loglog(at: npt.ArrayLike, knots: Sequence[float], values: Sequence[npt.ArrayLike]) -> Array:
    """Return values interpolated linearly in log(value) over log(knot); exact at the knots.

    `knots` ascend, `values[i]` belongs to `knots[i]`, is positive and broadcasts with `at`. The caller has checked
    that `at` lies within the knots.
    """
    log_at = np.log(np.asarray(at, dtype=np.float64))
    log_knots = np.log(np.asarray(knots, dtype=np.float64))
    result = np.zeros(np.broadcast_shapes(log_at.shape, *(np.shape(v) for v in values)))
    for index, value in enumerate(values):
        corner = np.zeros(len(knots))
        corner[index] = 1.0
        weight = np.interp(log_at, log_knots, corner)
        if np.any(weight):
            result = result + weight * np.log(np.asarray(value, dtype=np.float64))
    return np.exp(result)


def _node(values: npt.ArrayLike) -> Array:
    return within("logic node", "nm", values, *_NODE_RANGE_NM, "the scaling table ends there")


def _family(family: DeviceFamily | str) -> DeviceFamily:
    try:
        return DeviceFamily(family)
    except ValueError:
        raise InputError(unknown_choice("device family", str(family), [f.value for f in DeviceFamily])) from None


def _relative_energy(node_nm: npt.ArrayLike, vdd_v: npt.ArrayLike, family: DeviceFamily) -> Array:
    node = _node(node_nm)
    vdd = within("supply", "V", vdd_v, *_VDD_RANGE_V, "the scaling curves end there")
    rows = ENERGY_POLYNOMIALS[family]
    knots = sorted(rows)
    curves = [a * vdd**2 + b * vdd + c for a, b, c in (rows[knot] for knot in knots)]
    return interpolate_loglog(node, knots, curves)


def logic_energy_scale(
    from_nm: npt.ArrayLike,
    to_nm: npt.ArrayLike,
    vdd_v: npt.ArrayLike = 0.9,
    *,
    to_vdd_v: npt.ArrayLike | None = None,
    family: DeviceFamily | str = DeviceFamily.HIGH_PERFORMANCE,
) -> Array:
    """Return the factor by which the energy of the same logic changes from node `from_nm` to `to_nm`; broadcasts.

    `vdd_v` is the supply at both nodes unless `to_vdd_v` gives another at the second. Source: see the module; the
    corrigendum's worked case (65 nm at 1.3 V to 32 nm at 0.9 V: 0.1755) is a test. InputError outside 7-130 nm or
    0.6-1.4 V, or for an unknown family.
    """
    single = all(isinstance(value, int | float | None) for value in (from_nm, to_nm, vdd_v, to_vdd_v))
    make = _single_energy_scale if single else _energy_scale
    return make(from_nm, to_nm, vdd_v, to_vdd_v, _family(family))  # type: ignore[arg-type]


def _energy_scale(
    from_nm: npt.ArrayLike,
    to_nm: npt.ArrayLike,
    vdd_v: npt.ArrayLike,
    to_vdd_v: npt.ArrayLike | None,
    chosen: DeviceFamily,
) -> Array:
    return _relative_energy(to_nm, vdd_v if to_vdd_v is None else to_vdd_v, chosen) / _relative_energy(
        from_nm, vdd_v, chosen
    )


def logic_area_scale(from_nm: npt.ArrayLike, to_nm: npt.ArrayLike) -> Array:
    """Return the factor by which the area of the same logic changes between two nodes; broadcasts.

    Source: area table of Stillmaker and Baas 2017. InputError outside 7-130 nm.
    """
    single = isinstance(from_nm, int | float) and isinstance(to_nm, int | float)
    return _single_area_scale(from_nm, to_nm) if single else _area_scale(from_nm, to_nm)  # type: ignore[arg-type]


def _area_scale(from_nm: npt.ArrayLike, to_nm: npt.ArrayLike) -> Array:
    knots = sorted(AREA_RELATIVE_TO_45NM)
    values = [AREA_RELATIVE_TO_45NM[knot] for knot in knots]
    return interpolate_loglog(_node(to_nm), knots, values) / interpolate_loglog(_node(from_nm), knots, values)


@lru_cache(maxsize=4096)
def _single_energy_scale(
    from_nm: float, to_nm: float, vdd_v: float, to_vdd_v: float | None, chosen: DeviceFamily
) -> Array:
    """Return `_energy_scale` of numbers, remembered: pricing a design asks for the same few again and again."""
    return _read_only(_energy_scale(from_nm, to_nm, vdd_v, to_vdd_v, chosen))


@lru_cache(maxsize=4096)
def _single_area_scale(from_nm: float, to_nm: float) -> Array:
    """Return `_area_scale` of numbers, remembered."""
    return _read_only(_area_scale(from_nm, to_nm))


def _read_only(made: Array) -> Array:
    made = np.asarray(made)
    made.flags.writeable = False
    return made


def logic_is_near(from_nm: npt.ArrayLike, to_nm: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Tell where two nodes are within a factor 2.1, so that the smaller uncertainty of scaling applies; broadcasts."""
    ratio = np.asarray(from_nm, dtype=np.float64) / np.asarray(to_nm, dtype=np.float64)
    return np.maximum(ratio, 1 / ratio) <= _NEAR_RATIO


def logic_scale_key(from_nm: float, to_nm: float) -> str:
    """Return the constant that carries the doubt in `logic_energy_scale` for these nodes; empty if they are equal."""
    if from_nm == to_nm:
        return ""
    return "scaling.logic.near" if bool(logic_is_near(from_nm, to_nm)) else "scaling.logic.far"


def logic_area_key(from_nm: float, to_nm: float) -> str:
    """Return the constant that carries the doubt in `logic_area_scale` for these nodes; empty if they are equal."""
    return "" if from_nm == to_nm else "scaling.area"
