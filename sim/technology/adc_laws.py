"""Published laws of what a conversion costs at N bits, as array functions that broadcast.

- SAR after Saberi: how energy and area of ISAAC's converter follow its bits (points: see `table_adc`), ratio to 8 bits.
- Survey: regression over Murmann's survey of converters (Accelergy ADC plug-in, commit ff0fb48); the best fifth of the parts
  in energy and the best tenth in area. Stated for 4 bits and more; below, its formula rises again.
- NeuroSim: column power a N + b of the SAR converter of NeuroSim (V1.3 and later; high-performance transistors, fitted by
  its authors to circuit simulations at 0.5 V, 300 K), N + 1 ns a conversion, and its transistor counts.
- Bit-slice: power 2^N / (N + 1) with N cycles, the law behind the overhead table of bit-slice sparsity (arXiv 1909.08496).

Whole bits of 1 or more; what is not checked here is checked in `reram.adc_models`.
"""

import numpy as np
import numpy.typing as npt

from picojoule.sim.technology._checks import within
from picojoule.sim.technology.scaling import interpolate_loglog, logic_area_scale

__all__ = [
    "ANCHOR_BITS",
    "SURVEY_LEAST_BITS",
    "bitslice_power",
    "neurosim_area_um2",
    "neurosim_column_power_uw",
    "neurosim_energy_pj",
    "neurosim_ns",
    "sar_area_ratio",
    "sar_energy_ratio",
    "survey_area_um2",
    "survey_energy_pj",
]

Array = npt.NDArray[np.float64]

ANCHOR_BITS = 8
SURVEY_LEAST_BITS = 4

_SAR_PJ = (0.19552, 4.1351e-4)
_SAR_UM2 = (81.729, 2.1335)

# Column power of NeuroSim's SAR converter: node nm -> a and b in uW; c in W and d of the part that flows through the cells.
_NEUROSIM_COLUMN = {
    130: (6.4806, 49.047, 0.207452, 2.367),
    90: (4.3474, 31.782, 0.164900, 2.345),
    65: (2.9503, 22.047, 0.128483, 2.321),
    45: (2.1843, 11.931, 0.097754, 2.296),
    32: (1.0157, 7.6286, 0.083709, 2.313),
    22: (0.7213, 3.3041, 0.084273, 2.311),
    14: (0.4710, 1.9529, 0.060584, 2.311),
    10: (0.3076, 1.1543, 0.049418, 2.311),
    7: (0.2008, 0.6823, 0.040310, 2.311),
}
_NEUROSIM_NMOS = (269, 109)
_NEUROSIM_PMOS = (209, 73)
# One minimum transistor is laid out as a gate of standard height: 28 F high, two gate pitches of 1.0 F + 2.8 F wide
# (planar transistors, so 22 nm and above), whether n or p.
_NEUROSIM_TRANSISTOR_F2 = 28 * 2 * (1.0 + 2.8)
_NEUROSIM_PLANAR_FROM_NM = 22.0


def _logic_and_capacitors(fit: tuple[float, float], bits: npt.ArrayLike) -> Array:
    n = np.asarray(bits, dtype=np.float64)
    return np.asarray(fit[0] * n + fit[1] * 2.0**n)


def sar_energy_ratio(bits: npt.ArrayLike) -> Array:
    """Return the energy of a conversion relative to 8 bits: logic that grows with N and capacitors with 2^N.

    Within 0.2 % of the points at 4 to 10 bits; outside them an extrapolation.
    """
    return _logic_and_capacitors(_SAR_PJ, bits) / _logic_and_capacitors(_SAR_PJ, ANCHOR_BITS)


def sar_area_ratio(bits: npt.ArrayLike) -> Array:
    """Return the area of the converter relative to 8 bits, as `sar_energy_ratio`."""
    return _logic_and_capacitors(_SAR_UM2, bits) / _logic_and_capacitors(_SAR_UM2, ANCHOR_BITS)


def survey_energy_pj(bits: npt.ArrayLike, samples_per_s: npt.ArrayLike, node_nm: npt.ArrayLike) -> Array:
    """Return the energy of a conversion by the survey regression."""
    n, rate, node = (np.asarray(v, dtype=np.float64) for v in (bits, samples_per_s, node_nm))
    figure_db = np.minimum(213.780669 - 2.871903 * np.log(rate), 128.306839 + 3.220502 * np.ceil(n))
    ideal_j = 0.5 / 10.0 ** ((figure_db - (6.0206 * n + 1.7609)) / 10.0)
    return np.asarray(ideal_j * np.exp(26.0496216 + 1.8800369 * np.log(node) - 2.8291256 * np.log(n) - 1.4702022))


def survey_area_um2(bits: npt.ArrayLike, samples_per_s: npt.ArrayLike, node_nm: npt.ArrayLike) -> Array:
    """Return the area of the converter by the survey regression."""
    rate, node = (np.asarray(v, dtype=np.float64) for v in (samples_per_s, node_nm))
    log_pj = np.log(survey_energy_pj(bits, rate, node))
    return np.asarray(np.exp(1.3461916 + 0.9932795 * np.log(node) + 0.1807154 * np.log(rate) + 0.2991243 * log_pj))


def neurosim_column_power_uw(
    bits: npt.ArrayLike, node_nm: npt.ArrayLike = 32.0, r_column_ohm: npt.ArrayLike | None = None
) -> Array:
    """Return the power of one column's converter; with `r_column_ohm`, that of the column's cells at 0.5 V as well.

    Nodes between those of the table are interpolated log-log; InputError outside 7-130 nm.
    """
    n = np.asarray(bits, dtype=np.float64)
    nodes = sorted(_NEUROSIM_COLUMN)
    node = within("node of the NeuroSim converter", "nm", node_nm, nodes[0], nodes[-1], "its table ends there")
    rows = [_NEUROSIM_COLUMN[nm] for nm in nodes]
    power = interpolate_loglog(node, nodes, [a * n + b for a, b, _, _ in rows])
    if r_column_ohm is None:
        return power
    decades = np.log10(np.asarray(r_column_ohm, dtype=np.float64))
    return power + interpolate_loglog(node, nodes, [1e6 * c * np.exp(-d * decades) for _, _, c, d in rows])


def neurosim_ns(bits: npt.ArrayLike) -> Array:
    """Return the time of a conversion: a cycle of 1 ns for each bit, and one to sample."""
    return np.asarray(bits, dtype=np.float64) + 1.0


def neurosim_energy_pj(
    bits: npt.ArrayLike, node_nm: npt.ArrayLike = 32.0, r_column_ohm: npt.ArrayLike | None = None
) -> Array:
    """Return the energy of a conversion: column power times time (see both for what they hold)."""
    return neurosim_column_power_uw(bits, node_nm, r_column_ohm) * neurosim_ns(bits) * 1e-3


def neurosim_area_um2(bits: npt.ArrayLike, node_nm: npt.ArrayLike = 32.0) -> Array:
    """Return the area of the converter: (269 + 109 (N - 1)) n and (209 + 73 (N - 1)) p transistors of minimum size.

    Each takes 212.8 F^2, NeuroSim's layout rule for planar transistors; no capacitors are counted. Below 22 nm its area at
    22 nm is scaled as logic. InputError outside 7-130 nm.
    """
    n = np.asarray(bits, dtype=np.float64)
    node = within("node of the NeuroSim converter", "nm", node_nm, 7.0, 130.0, "its table ends there")
    planar = np.maximum(node, _NEUROSIM_PLANAR_FROM_NM)
    transistors = sum(first + more * (n - 1.0) for first, more in (_NEUROSIM_NMOS, _NEUROSIM_PMOS))
    return np.asarray(transistors * _NEUROSIM_TRANSISTOR_F2 * (planar * 1e-3) ** 2 * logic_area_scale(planar, node))


def bitslice_power(bits: npt.ArrayLike) -> Array:
    """Return 2^N / (N + 1), to which the power of a converter is proportional in the bit-slice paper."""
    n = np.asarray(bits, dtype=np.float64)
    return np.asarray(2.0**n / (n + 1.0))
