"""How the energy and area of a SAR converter follow its resolution, relative to 8 bits.

Points of HWComponents' ISAAC converter scaled after Saberi et al. (TCAS-I 2011), 32 nm, pJ a conversion and um2: 4
bits 0.79 / 361, 5 0.99 / 477, 6 1.20 / 627, 7 1.42 / 845, 8 1.67 / 1200, 9 1.97 / 1828, 10 2.38 / 3002. A logic and
comparator part that grows with N and a capacitor array that grows with 2^N meet all seven within 0.2 %, and carry the
curve on to 1-3 and 11-16 bits (an extrapolation). The ranges span published laws that disagree: a survey regression
(Accelergy ADC plug-in: 8.5 times from 8 to 10 bits, refuses fewer than 4) and 2^N / (N + 1) in power with N in time
(bit-slice sparsity, arXiv 1909.08496: 18 times from 8 to 4 bits).
"""

import math

from picojoule.sim.technology.constant import Constant, ConstantClass, estimated

__all__ = ["ADC_CONSTANTS", "MOST_ADC_BITS"]

MOST_ADC_BITS = 16
_ANCHOR = 8
_SAR_PJ = (0.19552, 4.1351e-4)
_SAR_UM2 = (81.729, 2.1335)
_SOURCE = "SAR points of HWComponents after Saberi 2011"


def _sar(fit: tuple[float, float], bits: int) -> float:
    return fit[0] * bits + fit[1] * 2.0**bits


def _survey(bits: int) -> float:
    """Energy of the survey regression at 32 nm and 1.28 GS/s, pJ; stated for 4 bits and more."""
    figure_db = min(213.780669 - 2.871903 * math.log(1.28e9), 128.306839 + 3.220502 * bits)
    ideal_j = 0.5 / 10 ** ((figure_db - 6.0206 * bits - 1.7609) / 10)
    return ideal_j * math.exp(26.0496216 + 1.8800369 * math.log(32) - 2.8291256 * math.log(bits) - 1.4702022)


def _power_law(bits: int) -> float:
    return 2.0**bits / (bits + 1) * bits


def _energy(bits: int) -> Constant:
    value = _sar(_SAR_PJ, bits) / _sar(_SAR_PJ, _ANCHOR)
    laws = [_power_law(bits) / _power_law(_ANCHOR)]
    if bits >= 4:
        laws.append(_survey(bits) / _survey(_ANCHOR))
    if bits < _ANCHOR:
        low, high = min(value, *laws), min(1.0, 1.5 * value)
    else:
        low, high = bits / _ANCHOR, max(value, *laws)
    inside = "" if 4 <= bits <= 10 else "; outside its points"
    source = f"{_SOURCE}{inside}; range: survey regression and 2^N law"
    return estimated(
        f"adc.sar.energy.{bits}bit", value, "1", ConstantClass.OTHER, source, node_nm=32, low=low, high=high
    )


def _area(bits: int) -> Constant:
    value = _sar(_SAR_UM2, bits) / _sar(_SAR_UM2, _ANCHOR)
    inside = "" if 4 <= bits <= 10 else "; outside its points"
    return estimated(f"adc.sar.area.{bits}bit", value, "1", ConstantClass.OTHER, f"{_SOURCE}{inside}", node_nm=32)


ADC_CONSTANTS: tuple[Constant, ...] = tuple(
    entry(bits) for entry in (_energy, _area) for bits in range(1, MOST_ADC_BITS + 1) if bits != _ANCHOR
)
