"""Converters as they are: each one's offset, gain error and integral nonlinearity, drawn once.

An ideal converter rounds v = (sum - lo) / step. A real one rounds what a gain error about input 0, an offset and a smooth
curve that is 0 at both ends make of v (bow and S of random weight: second and third order, as switched-capacitor
converters have). Nothing corrects these errors digitally. Left out: differential nonlinearity, missing codes, noise.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from picojoule.reram.analog_cells import child_generator
from picojoule.reram.devices import Device
from picojoule.reram.encoding import split_evenly

_CURVE_POINTS = np.linspace(0.0, 1.0, 1025)
_S_PEAK = 6.0 * np.sqrt(3.0)  # u (1 - u) (1 - 2 u) is 1 / (6 sqrt 3) at its largest


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ConverterErrors:
    """Errors of the converters of one plane, output by output: [O] each."""

    gain: NDArray[np.float64]
    """Relative."""
    offset: NDArray[np.float64]
    """Codes."""
    bow: NDArray[np.float64]
    ess: NDArray[np.float64]
    """The nonlinearity at share u of the range is u (1 - u) (bow + ess (1 - 2 u)), codes."""


def converter_errors(device: Device, seed: int, tile: int, plane: int, outputs: int, tile_cols: int) -> ConverterErrors:
    """Draw the converters that serve `outputs` bitlines of one plane: `columns_per_adc` neighbours of an array share one."""
    arrays = split_evenly(outputs, tile_cols)
    groups = [-(-(array.stop - array.start) // device.columns_per_adc) for array in arrays]
    firsts = np.cumsum([0, *groups[:-1]]).tolist()
    owner_O = np.concatenate(
        [
            first + np.arange(array.stop - array.start) // device.columns_per_adc
            for first, array in zip(firsts, arrays, strict=True)
        ]
    )

    def drawn(effect: str) -> NDArray[np.float64]:
        normal: NDArray[np.float64] = child_generator(seed, effect, tile, plane).standard_normal(sum(groups))
        return normal

    angle_N = np.arctan2(drawn("adc_bow"), drawn("adc_ess"))
    bow_N, ess_N = 4.0 * np.cos(angle_N), _S_PEAK * np.sin(angle_N)
    u = _CURVE_POINTS
    peak_N = np.abs(u * (1.0 - u) * (bow_N[:, None] + ess_N[:, None] * (1.0 - 2.0 * u))).max(axis=1)
    to_lsb_N = device.adc_inl_lsb / peak_N
    return ConverterErrors(
        gain=(device.adc_gain_sigma * drawn("adc_gain"))[owner_O],
        offset=(device.adc_offset_sigma_lsb * drawn("adc_offset"))[owner_O],
        bow=(bow_N * to_lsb_N)[owner_O],
        ess=(ess_N * to_lsb_N)[owner_O],
    )
