"""What converters cost at N bits under five published laws (`adc_laws`, `sense_amplifier_law`), as constants at 32 nm.

Each law has an anchor, its converter of 8 bits, and ratios to it for other widths; a bill multiplies both, so that designs
compared under one law share the doubt in the anchor. The two laws that give ratios only are anchored at ISAAC's converter
(`isaac.adc.conversion`, `isaac.adc.area`).

- `adc.sar.*` (default): HWComponents' ISAAC converter scaled after Saberi et al. (TCAS-I 2011), 32 nm, pJ a conversion and
  um2: 4 bits 0.79 / 361, 5 0.99 / 477, 6 1.20 / 627, 7 1.42 / 845, 8 1.67 / 1200, 9 1.97 / 1828, 10 2.38 / 3002. A logic
  and comparator part that grows with N and a capacitor array that grows with 2^N meet all seven within 0.2 %, and carry the
  curve on to 1-3 and 11-16 bits (an extrapolation). The ranges span the other laws.
- `adc.survey.*`: regression over Murmann's survey (Accelergy ADC plug-in) at 1.28 GS/s, 4 bits and more.
- `adc.neurosim.*`: NeuroSim's SAR converter, without the current of the column's cells.
- `adc.bitslice.*`: power 2^N / (N + 1) and time N of bit-slice sparsity (arXiv 1909.08496), energy 18 times lower from 8
  to 4 bits. Its area, half below 8 bits, is as published: it follows from nothing that is printed.
- `adc.mlsa.*`: NeuroSim's parallel sense amplifiers, with the current of the column's cells.

The ratios of the last four have a narrow range (our estimate): how far laws disagree is shown by pricing under several.
"""

from picojoule.sim.technology import adc_laws
from picojoule.sim.technology.adc_laws import ANCHOR_BITS, SURVEY_LEAST_BITS
from picojoule.sim.technology.constant import Constant, ConstantClass, estimated
from picojoule.sim.technology.sense_amplifier_law import sense_area_um2, sense_energy_pj

__all__ = ["ADC_CONSTANTS", "MOST_ADC_BITS"]

MOST_ADC_BITS = 16
_NODE_NM = 32.0
_SAMPLES_PER_S = 1.28e9
_WITHIN_A_LAW = 1.25

_SAR = "SAR points of HWComponents after Saberi 2011"
_SURVEY = "Murmann survey regression, Accelergy ADC plug-in ff0fb48, 1.28 GS/s"
_NEUROSIM = "NeuroSim SAR converter, high performance"
_MLSA = "NeuroSim parallel sense amplifiers, low power, column of 128 cells of 6 kohm"
_BITSLICE = "bit-slice sparsity, arXiv 1909.08496"


def _survey(bits: int) -> float:
    return float(adc_laws.survey_energy_pj(bits, _SAMPLES_PER_S, _NODE_NM))


def _bitslice_energy(bits: int) -> float:
    return float(adc_laws.bitslice_power(bits)) * bits


def _bitslice_area(bits: int) -> float:
    return 0.5 if bits < ANCHOR_BITS else float(adc_laws.sar_area_ratio(bits))


def _sar_energy(bits: int) -> Constant:
    value = float(adc_laws.sar_energy_ratio(bits))
    laws = [_bitslice_energy(bits) / _bitslice_energy(ANCHOR_BITS)]
    if bits >= SURVEY_LEAST_BITS:
        laws.append(_survey(bits) / _survey(ANCHOR_BITS))
    if bits < ANCHOR_BITS:
        low, high = min(value, *laws), min(1.0, 1.5 * value)
    else:
        low, high = bits / ANCHOR_BITS, max(value, *laws)
    inside = "" if 4 <= bits <= 10 else "; outside its points"
    source = f"{_SAR}{inside}; range: survey regression and 2^N law"
    return _ratio(f"adc.sar.energy.{bits}bit", value, source, low, high)


def _sar_area(bits: int) -> Constant:
    inside = "" if 4 <= bits <= 10 else "; outside its points"
    value = float(adc_laws.sar_area_ratio(bits))
    return _ratio(f"adc.sar.area.{bits}bit", value, f"{_SAR}{inside}")


def _survey_energy(bits: int) -> Constant:
    return _narrow(f"adc.survey.energy.{bits}bit", _survey(bits) / _survey(ANCHOR_BITS), _SURVEY)


def _survey_area(bits: int) -> Constant:
    areas = adc_laws.survey_area_um2([bits, ANCHOR_BITS], _SAMPLES_PER_S, _NODE_NM)
    return _narrow(f"adc.survey.area.{bits}bit", float(areas[0] / areas[1]), _SURVEY)


def _neurosim_energy(bits: int) -> Constant:
    energies = adc_laws.neurosim_energy_pj([bits, ANCHOR_BITS])
    return _narrow(f"adc.neurosim.energy.{bits}bit", float(energies[0] / energies[1]), _NEUROSIM)


def _neurosim_area(bits: int) -> Constant:
    areas = adc_laws.neurosim_area_um2([bits, ANCHOR_BITS])
    return _narrow(f"adc.neurosim.area.{bits}bit", float(areas[0] / areas[1]), f"{_NEUROSIM}, transistor counts")


def _mlsa_energy(bits: int) -> Constant:
    energies = sense_energy_pj([bits, ANCHOR_BITS])
    return _narrow(f"adc.mlsa.energy.{bits}bit", float(energies[0] / energies[1]), _MLSA)


def _mlsa_area(bits: int) -> Constant:
    areas = sense_area_um2([bits, ANCHOR_BITS])
    return _narrow(f"adc.mlsa.area.{bits}bit", float(areas[0] / areas[1]), f"{_MLSA}, transistor and gate counts")


def _bitslice_energies(bits: int) -> Constant:
    value = _bitslice_energy(bits) / _bitslice_energy(ANCHOR_BITS)
    return _narrow(f"adc.bitslice.energy.{bits}bit", value, f"{_BITSLICE}: power 2^N / (N + 1), time N")


def _bitslice_areas(bits: int) -> Constant:
    below = f"{_BITSLICE}: half below 8 bits, not derivable"
    source = below if bits < ANCHOR_BITS else f"{_BITSLICE} gives none above 8 bits; as the SAR points (our estimate)"
    return _narrow(f"adc.bitslice.area.{bits}bit", _bitslice_area(bits), source)


def _ratio(name: str, value: float, source: str, low: float | None = None, high: float | None = None) -> Constant:
    return estimated(name, value, "1", ConstantClass.OTHER, source, node_nm=_NODE_NM, low=low, high=high)


def _narrow(name: str, value: float, source: str) -> Constant:
    return _ratio(name, value, source, value / _WITHIN_A_LAW, value * _WITHIN_A_LAW)


def _anchor(name: str, value: float, unit: str, source: str, up: float) -> Constant:
    kind = ConstantClass.AREA if unit == "mm2" else ConstantClass.PER_EVENT
    return estimated(name, value, unit, kind, source, node_nm=_NODE_NM, high=value * up)


_ANCHORS: tuple[Constant, ...] = (
    _anchor(
        "adc.survey.conversion", _survey(ANCHOR_BITS), "pJ", f"{_SURVEY}: the best fifth of the parts; 8 bits", 2.0
    ),
    _anchor(
        "adc.survey.area",
        1e-6 * float(adc_laws.survey_area_um2(ANCHOR_BITS, _SAMPLES_PER_S, _NODE_NM)),
        "mm2",
        f"{_SURVEY}: the best tenth of the parts; 8 bits",
        2.0,
    ),
    _anchor(
        "adc.neurosim.conversion",
        float(adc_laws.neurosim_energy_pj(ANCHOR_BITS)),
        "pJ",
        f"{_NEUROSIM}: (1.0157 N + 7.6286) uW for N + 1 ns, 8 bits; ISAAC's part takes 11 times as much (range: our estimate)",
        4.0,
    ),
    _anchor(
        "adc.neurosim.area",
        1e-6 * float(adc_laws.neurosim_area_um2(ANCHOR_BITS)),
        "mm2",
        f"{_NEUROSIM}: 1752 transistors of 212.8 F^2, 8 bits; no capacitors (ISAAC's part: 3.1 times; range: our estimate)",
        3.0,
    ),
    _anchor(
        "adc.mlsa.conversion",
        float(sense_energy_pj(ANCHOR_BITS)),
        "pJ",
        f"{_MLSA}: 255 amplifiers of 0.42 uW for 1.5 ns, twice, and their switching; 8 bits (range: our estimate)",
        2.0,
    ),
    _anchor(
        "adc.mlsa.area",
        1e-6 * float(sense_area_um2(ANCHOR_BITS)),
        "mm2",
        f"{_MLSA}: nine transistors an amplifier, an encoder of one wide gate a bit; 8 bits "
        "(range to a wide gate a level: our estimate)",
        4.0,
    ),
)

_ALL_BITS = tuple(n for n in range(1, MOST_ADC_BITS + 1) if n != ANCHOR_BITS)
_ENTRIES = (
    (_sar_energy, _ALL_BITS),
    (_sar_area, _ALL_BITS),
    (_survey_energy, _ALL_BITS[SURVEY_LEAST_BITS - 1 :]),
    (_survey_area, _ALL_BITS[SURVEY_LEAST_BITS - 1 :]),
    (_neurosim_energy, _ALL_BITS),
    (_neurosim_area, _ALL_BITS),
    (_mlsa_energy, _ALL_BITS),
    (_mlsa_area, _ALL_BITS),
    (_bitslice_energies, _ALL_BITS),
    (_bitslice_areas, _ALL_BITS),
)

ADC_CONSTANTS: tuple[Constant, ...] = (*_ANCHORS, *(entry(bits) for entry, widths in _ENTRIES for bits in widths))
