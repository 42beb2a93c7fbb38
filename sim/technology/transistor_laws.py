"""Planar low-power transistors from 22 to 65 nm, and what gates of them take: capacitance, resistance, layout.

Transistors: PTM's low-power models (ptm.asu.edu) as NeuroSim prints them: gate capacitance is 1.2 times the ideal gate's (the
overlap) and the fringe; the effective resistance is 1.77 times V / I (CACTI's factor). Drains are taken as gates of the same
width. Layout is NeuroSim's rule for planar transistors: gates 28 F high, a pitch of 3.8 F, wide transistors folded. Nodes between
those of the table are interpolated log-log.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from picojoule.sim.technology._checks import within
from picojoule.sim.technology.scaling import interpolate_loglog

__all__ = ["MINIMUM_F", "Transistors", "gate_area_f2", "nand_area_f2", "transistors"]

MINIMUM_F = 2.0
"""Width of a minimum n transistor in features."""
_HEIGHT_F, _PITCH_F = 28.0, 1.0 + 2.8
_GAP_F = 3.5
"""Between n and p transistors."""
_ENDS_F = 2 * (1.0 + 1.6 / 2)
"""Of gates beyond their transistors, both ends."""
_RESISTANCE = 1.77

# nm: supply V, gate fF/um (1.2 times ideal, and fringe), on current of n and p transistors uA/um
_ROWS = {
    22: (0.85, 1.2 * 0.5245 + 0.8004, 791.9, 600.2),
    32: (0.9, 1.2 * 0.8375279 + 0.6856677, 600.2, 400.0),
    45: (1.0, 1.2 * 0.8930709 + 0.8849901, 500.2, 300.0),
    65: (1.1, 1.2 * 1.1926 + 0.962148, 400.0, 238.7),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Transistors:
    """The transistors of a node: feature um, supply V, gate fF/um, effective resistance of n and p ohm um."""

    feature_um: float
    supply_v: float
    gate_ff_per_um: float
    n_ohm_um: float
    p_ohm_um: float

    @property
    def p_to_n(self) -> float:
        """How much wider a p transistor is that drives as well."""
        return self.p_ohm_um / self.n_ohm_um

    @property
    def gate_ff_per_f(self) -> float:
        """Capacitance of a gate that is one feature wide."""
        return self.gate_ff_per_um * self.feature_um

    def switch_widths_f(self, ohm: float) -> tuple[float, float]:
        """Return the widths of a transmission gate of so many ohm, n and p, in features; at least a feature each.

        NeuroSim's rule: either transistor takes half of the current, and at a small voltage resists a fifth of its
        effective resistance.
        """
        return max(1.0, self.linear_width_f(2 * ohm)), max(1.0, self.linear_width_f(2 * ohm) * self.p_to_n)

    def linear_width_f(self, ohm: float) -> float:
        """Return the width of an n transistor of so many ohm at a small voltage, in features."""
        return 0.2 * self.n_ohm_um / ohm / self.feature_um


def transistors(node_nm: float) -> Transistors:
    """Return the transistors of a node; InputError outside 22-65 nm."""
    knots = sorted(_ROWS)
    node = float(within("node of the transistors", "nm", node_nm, knots[0], knots[-1], "their table ends there"))
    supply, gate, n, p = (
        float(interpolate_loglog(node, knots, [_ROWS[nm][k] for nm in knots])) for k in range(len(_ROWS[22]))
    )
    volts = 1e6 * _RESISTANCE * supply
    return Transistors(
        feature_um=node * 1e-3, supply_v=supply, gate_ff_per_um=gate, n_ohm_um=volts / n, p_ohm_um=volts / p
    )


def gate_area_f2(n_f: float, p_f: float, height_f: float = _HEIGHT_F, stretch: float = 1.0) -> float:
    """Return the area in F^2 of an inverter-like gate of transistors so wide (features), folded into its height.

    Both get the height that is left in proportion to their widths; each fold takes a pitch. `stretch` widens the pitch (long
    transistors).
    """
    room = height_f - _GAP_F - _ENDS_F
    folds = math.ceil(round((n_f + p_f) / room, 9))
    return height_f * (max(1, folds) + 1) * _PITCH_F * stretch


def nand_area_f2(inputs: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the area in F^2 of a NAND of minimum transistors, which share drains; any shape."""
    return _HEIGHT_F * _PITCH_F * (np.asarray(inputs, dtype=np.float64) + 1.0)
