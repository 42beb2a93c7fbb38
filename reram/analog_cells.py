"""Cells as they are: targets, programming error, drift, stuck cells, wires, and how much every read scatters.

All conductances are shares of that of a full cell, g = G / G_max. Chance comes from child seeds of (seed, effect, tile,
plane), so switching one effect on changes no draw of another. Physical planes: a slice, or one polarity of a slice
(positive ones first), each in arrays of its own.

Letters: P = physical plane, C = converted plane, O = output, R = wordline of the tile.
"""

import math
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from picojoule.reram.crossbar import CrossbarSpec, Encoding
from picojoule.reram.devices import Device
from picojoule.reram.wires import solve_bitlines

_LEAST_SHARE = 1e-7  # smallest g whose logarithm is taken (AIHWKIT's clip)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AnalogTile:
    """What the cells of one row tile add to their column sums, in cell units (1 = a level under a pulse of 1).

    The leak of empty cells is inside, unless a differential pair cancels it or cells are on exact levels.
    """

    sums: NDArray[np.float64]
    """[C, O, R]: mean over reads."""
    on_levels: bool
    """Whether `sums` are the levels themselves, whole numbers: the leak is not in them, nor the lesser swing it leaves."""
    variance: NDArray[np.float64] | None
    """[C, O, R]: variance over reads for a pulse of 1; None without read noise."""
    compensation: float
    """Programmed over drifted current of the tile with all rows on, where that is corrected digitally; else 1."""


def child_generator(seed: int, effect: str, *place: int) -> np.random.Generator:
    """Return the generator of one effect at one place (tile, plane, ...) of the hardware `seed`."""
    return np.random.Generator(np.random.SFC64([seed, zlib.crc32(effect.encode()), *place]))


def analog_tile(cells_COR: NDArray[np.int32], spec: CrossbarSpec, device: Device, seed: int, tile: int) -> AnalogTile:
    """Return the tile whose levels are `cells_COR` (signed where a differential pair is one cell).

    `spec` has the device's conductances and wires (`DeviceSpec.electrical`).
    """
    pairs = spec.encoding is Encoding.DIFFERENTIAL
    levels_POR = np.concatenate([np.maximum(cells_COR, 0), np.maximum(-cells_COR, 0)]) if pairs else cells_COR
    r, q = spec.off_on_ratio, spec.cell_max
    # Cells on exact levels add whole numbers; to a conductance and back must not cost that.
    on_levels = not (spec.has_wires or device.has_inexact_cells)
    sums = np.empty(levels_POR.shape)
    deviation = np.empty(levels_POR.shape) if device.has_read_noise else None
    programmed = drifted = 0.0
    for plane, levels_OR in enumerate(levels_POR):
        now_OR, before_OR = _written(r + (1.0 - r) * levels_OR / q, r, device, seed, (tile, plane))
        programmed, drifted = programmed + float(before_OR.sum()), drifted + float(now_OR.sum())
        if on_levels:
            sums[plane] = np.rint(q * (now_OR - r) / (1.0 - r))
        else:
            sums[plane] = q * (_wired(now_OR, spec) if spec.has_wires else now_OR)
        if deviation is not None:
            deviation[plane] = _read_deviation(before_OR, device) * sums[plane]
    variance = None if deviation is None else np.square(deviation)
    if pairs:
        half, swing = len(cells_COR), 1.0 if on_levels else 1.0 - r
        sums = (sums[:half] - sums[half:]) / swing
        variance = None if variance is None else (variance[:half] + variance[half:]) / swing**2
    correct = device.drift_compensation and drifted > 0
    compensation = programmed / drifted if correct else 1.0
    return AnalogTile(sums=sums, on_levels=on_levels, variance=variance, compensation=compensation)


def _wired(share_OR: NDArray[np.float64], spec: CrossbarSpec) -> NDArray[np.float64]:
    """Return the share of each cell that reaches the end of its bitline."""
    assert spec.wire_ohm_per_cell is not None
    # In units of a full cell's conductance, resistances count in units of its resistance.
    wire = spec.wire_ohm_per_cell / spec.r_on_ohm
    return solve_bitlines(share_OR, wire, spec.wire_model, spec.tile_cols)


def _written(
    target_OR: NDArray[np.float64], r: float, device: Device, seed: int, place: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the shares of cells at the time of the read, and as programmed; stuck cells neither err nor drift."""
    written = target_OR
    if device.has_programming_error:
        normal = child_generator(seed, "programming", *place).standard_normal(target_OR.shape, dtype=np.float32)
        written = np.maximum(target_OR + _programming_sigma(target_OR, device) * normal, 0.0)
    now = written
    if device.has_drift:
        now = written * (device.time_s / device.drift_t0_s) ** -_drift_exponents(target_OR, device, seed, place)
    if device.stuck_on > 0 or device.stuck_off > 0:
        chance = child_generator(seed, "stuck", *place).random(target_OR.shape)
        on, off = chance < device.stuck_on, chance >= 1.0 - device.stuck_off
        written, now = (np.where(on, 1.0, np.where(off, r, share)) for share in (written, now))
    return now, written


def _programming_sigma(target_OR: NDArray[np.float64], device: Device) -> NDArray[np.float64] | float:
    """Return sigma of programmed conductances as a share of g_max: constant, or a polynomial of the state in uS."""
    if device.programming_sigma > 0:
        return device.programming_sigma
    assert device.g_max_us is not None  # a DeviceSpec with a polynomial has it
    scale = device.g_max_us if device.programming_argument == "microsiemens" else 1.0
    sigma_us = np.polynomial.polynomial.polyval(target_OR * scale, device.programming_polynomial_us)
    return np.asarray(np.maximum(sigma_us, 0.0) / device.g_max_us)


def _drift_exponents(
    target_OR: NDArray[np.float64], device: Device, seed: int, place: tuple[int, int]
) -> NDArray[np.float64]:
    """Return nu of every cell."""
    log_share = np.log(np.maximum(target_OR, _LEAST_SHARE))

    def of_state(law: tuple[float, float, float, float] | None, constant: float) -> NDArray[Any] | float:
        return constant if law is None else np.clip(law[0] + law[1] * log_share, law[2], law[3])

    mean = of_state(device.drift_nu_law, device.drift_nu_mean)
    sigma = of_state(device.drift_nu_sigma_law, device.drift_nu_sigma)
    normal = child_generator(seed, "drift", *place).standard_normal(target_OR.shape, dtype=np.float32)
    return np.asarray(np.abs(mean + sigma * normal))


def _read_deviation(share_OR: NDArray[np.float64], device: Device) -> NDArray[np.float64] | float:
    """Return sigma of a read over the cell's own conductance."""
    if device.read_noise_sigma > 0 or device.read_noise_law is None:
        return device.read_noise_sigma
    a, exponent, cap = device.read_noise_law
    time_s, t_read_s = max(device.time_s, device.drift_t0_s), device.read_noise_t_read_s
    growth = math.sqrt(max(0.0, math.log((time_s + t_read_s) / (2.0 * t_read_s))))
    return np.asarray(np.minimum(a / np.maximum(share_OR, _LEAST_SHARE) ** exponent, cap) * growth)
