"""What a conversion by parallel sense amplifiers costs, NeuroSim's default: 2^N - 1 compare the column's current at once.

- Power: p of each amplifier, once for the column (whose cells' current is in the fit) and once for its share of the reference
  columns, p = b - s R. R is the resistance of a column with all cells on, which also sets the time, a - c ln R. Both fits are
  NeuroSim's, to circuit simulations of low-power transistors, for columns below 4.8 kohm.
- Switching: each amplifier's latch (6 p and 5 n gates, 4 p and 3 n drains), and an encoder of an inverter and a NAND for
  each level and each bit, and for each bit a NAND of half the levels. All switch once.
- Area: nine transistors an amplifier, and the gates of the encoder. NeuroSim draws a wide NAND for each level, but its energy,
  and a thermometer code, have one for each bit; so have we. The cells of reference columns are left out (2 %).

Transistor table and layout: `transistor_laws`. Below 22 nm and above 65 nm, what follows transistors is scaled as logic.
"""

import numpy as np
import numpy.typing as npt

from picojoule.sim.technology._checks import within
from picojoule.sim.technology.scaling import interpolate_loglog, logic_area_scale, logic_energy_scale
from picojoule.sim.technology.transistor_laws import MINIMUM_F, gate_area_f2, nand_area_f2, transistors

__all__ = ["COLUMN_OHM", "sense_area_um2", "sense_energy_pj", "sense_ns"]

Array = npt.NDArray[np.float64]

COLUMN_OHM = 6000 / 128
"""NeuroSim's default column, 128 cells of 6 kohm."""
_MOST_OHM = 4832.0
_AMPLIFIER_TRANSISTORS = 9
# nm: b in uW and s in uW/ohm of an amplifier's power, a in ns and c in ns of the time.
_FITS = {
    130: (1.48536, 4.12599e-5, 2.54175, 0.118573),
    90: (0.854958, 1.67004e-5, 2.43204, 0.108914),
    65: (0.482814, 6.08647e-6, 2.2554, 0.0811436),
    45: (0.344344, 3.96471e-6, 2.16762, 0.112976),
    32: (0.419847, 6.72783e-6, 2.03151, 0.131777),
    22: (0.916744, 2.85373e-5, 1.7552, 0.132118),
}


def _planar(node_nm: npt.ArrayLike, most: float) -> tuple[float, float]:
    node = float(within("node of the sense amplifiers", "nm", node_nm, 7.0, 130.0, "their table ends there"))
    return node, min(max(node, 22.0), most)


def _column(node_nm: npt.ArrayLike, column_ohm: float) -> tuple[float, float]:
    """Return an amplifier's power, uW, and the time, ns, at a node; below 22 nm those of 22 nm."""
    _, planar = _planar(node_nm, 130.0)
    ohm = min(column_ohm, _MOST_OHM)
    nodes = sorted(_FITS)
    power = interpolate_loglog(planar, nodes, [b - s * ohm for b, s, _, _ in (_FITS[nm] for nm in nodes)])
    time = interpolate_loglog(planar, nodes, [a - c * np.log(ohm) for _, _, a, c in (_FITS[nm] for nm in nodes)])
    return float(power), float(time)


def sense_ns(node_nm: npt.ArrayLike = 32.0, column_ohm: float = COLUMN_OHM) -> float:
    """Return the time of a conversion, whatever its bits. InputError outside 7-130 nm."""
    return _column(node_nm, column_ohm)[1]


def sense_energy_pj(bits: npt.ArrayLike, node_nm: npt.ArrayLike = 32.0, column_ohm: float = COLUMN_OHM) -> Array:
    """Return the energy of a conversion of N bits, the column's current included. InputError outside 7-130 nm."""
    n = np.asarray(bits, dtype=np.float64)
    amplifiers = 2.0**n - 1.0
    power_uw, ns = _column(node_nm, column_ohm)
    node, planar = _planar(node_nm, 65.0)
    t = transistors(planar)
    r = t.p_to_n
    latch = amplifiers * (10 * r + 8) * MINIMUM_F
    inverter, nand = 2 * MINIMUM_F * (1 + r), MINIMUM_F * ((2 + r) + (2 + 2 * r))
    wide = MINIMUM_F * ((2 + r) + (2 + r * 2.0 ** (n - 1)))
    widths = latch + (amplifiers + n) * (inverter + nand) + n * wide
    switched = widths * t.gate_ff_per_f * t.supply_v**2 * 1e-3 * logic_energy_scale(planar, node)
    return np.asarray(2.0 * amplifiers * power_uw * ns * 1e-3 + switched)


def sense_area_um2(bits: npt.ArrayLike, node_nm: npt.ArrayLike = 32.0) -> Array:
    """Return the area of the amplifiers of one converter and their encoder. InputError outside 7-130 nm."""
    n = np.asarray(bits, dtype=np.float64)
    amplifiers = 2.0**n - 1.0
    node, _ = _planar(node_nm, 65.0)
    planar = max(node, 22.0)
    cell = gate_area_f2(MINIMUM_F, 0.0)
    features = amplifiers * _AMPLIFIER_TRANSISTORS * cell + (amplifiers + n) * (cell + nand_area_f2(2))
    features = features + n * nand_area_f2(2.0 ** (n - 1))
    return np.asarray(features * (planar * 1e-3) ** 2 * logic_area_scale(planar, node))
