"""Column sums of real cells, converted pulse by pulse.

Without chance, sums are converted by the definition in float64 (`converter.Adc`), so ties round as in the ideal crossbar.
Otherwise ties have no weight: cells are scaled to codes, everything runs in float32.

A cell's read noise is Gaussian and new in every read, so a column sum's is exactly Gaussian, with the sum of the cells'
variances: one draw per column sum stands for one per cell. As an ADC rounds it anyway, it is drawn from 65,536 equally
likely quantiles, six times as fast: nowhere more than 1/131072 from the normal distribution, variance 1, kurtosis 2.999.

Letters: C = converted bitline (plane by plane, all outputs each), O = output, R = wordline of a group, J = input step,
B = batch.
"""

from dataclasses import dataclass
from functools import cache
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from picojoule.reram.analog_cells import AnalogTile
from picojoule.reram.analog_converters import converter_errors
from picojoule.reram.converter import NO_CONVERTER, Adc
from picojoule.reram.crossbar import CrossbarSpec
from picojoule.reram.devices import Device
from picojoule.reram.encoding import TileCells
from picojoule.reram.streaming import leak_ratio, pulses, step_worth

_BLOCK_BYTES = 2 << 20  # column sums of one block: about a second-level cache
_MIN_BLOCK, _MAX_BLOCK = 128, 4096


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ConvertedPlane:
    """Bitlines of one plane."""

    bitlines: slice
    adc: Adc
    gain: NDArray[np.float64]
    """[O]: what one code is worth; 0 where all cells of the group are empty, so that the column is not read."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AnalogStream:
    """The converted bitlines of one group of rows."""

    rows: slice
    place: tuple[int, int]
    """Row tile and group of rows in it: where the chance of a read starts."""
    cells: NDArray[Any]
    """[C, R]: what a pulse of 1 adds, in cell units (float64), or in codes (float32, with a last column: code of a 0)."""
    leak: float
    """What an empty cell adds under a pulse of 1, in cell units, unless `cells` has it already."""
    variance: NDArray[np.float32] | None
    """[C, R]: variance that a pulse of 1 adds in every read, in codes."""
    curve: NDArray[np.float32] | None
    """[C, 2]: bow and S of the converters' nonlinearity, codes."""
    planes: tuple[ConvertedPlane, ...]
    digital: NDArray[np.float64]
    """[O]: what is added per unit of the sum of these rows' inputs."""

    @property
    def is_exact(self) -> bool:
        """Whether conversions follow the definition in float64."""
        return self.cells.dtype == np.float64


def build_stream(
    tile: AnalogTile,
    encoded: TileCells,
    adcs: tuple[Adc, ...],
    group: slice,
    rows: slice,
    place: tuple[int, int],
    spec: CrossbarSpec,
    device: Device,
    seed: int,
) -> AnalogStream:
    """Return the bitlines of rows `group` of a tile; `rows` are the same among all inputs.

    `device` with chance in cells or converters means the float32 way.
    """
    scaled = device.has_inexact_cells or device.has_adc_error
    outputs, r = tile.sums.shape[1], leak_ratio(spec)
    leak = r * spec.cell_max
    cells: list[NDArray[Any]] = []
    variances: list[NDArray[np.float32]] = []
    curves: list[NDArray[np.float32]] = []
    planes: list[ConvertedPlane] = []
    digital_O = encoded.digital.astype(np.float64)
    for plane, k in enumerate(encoded.slice_of_plane):
        adc = adcs[k]
        if adc == NO_CONVERTER:
            continue
        gain_O = encoded.gain[plane] * encoded.cells[plane][:, group].any(axis=1)
        worth_O = gain_O * tile.compensation / (1.0 - r)
        digital_O -= gain_O * leak / (1.0 - r)
        start = len(planes) * outputs
        planes.append(ConvertedPlane(bitlines=slice(start, start + outputs), adc=adc, gain=worth_O * adc.step))
        sums_OR = tile.sums[plane][:, group]
        if not scaled:
            cells.append(sums_OR)
            continue
        if tile.on_levels:
            sums_OR = (1.0 - r) * sums_OR + leak
        errors = converter_errors(device, seed, place[0], plane, outputs, spec.tile_cols)
        scale_O1 = ((1.0 + errors.gain) / adc.step)[:, None]
        zero_O1 = (errors.offset - adc.lo / adc.step)[:, None]
        cells.append(np.concatenate([sums_OR * scale_O1, zero_O1], axis=1).astype(np.float32))
        curves.append(np.stack([errors.bow, errors.ess], axis=1).astype(np.float32))
        if tile.variance is not None:
            variances.append((tile.variance[plane][:, group] * scale_O1**2).astype(np.float32))
    return AnalogStream(
        rows=rows,
        place=place,
        cells=np.concatenate(cells) if cells else np.zeros((0, rows.stop - rows.start)),
        leak=leak if tile.on_levels and not scaled else 0.0,
        variance=np.concatenate(variances) if variances else None,
        curve=np.concatenate(curves) if device.adc_inl_lsb > 0 and curves else None,
        planes=tuple(planes),
        digital=digital_O,
    )


def add_stream(
    y_OB: NDArray[np.float64], stream: AnalogStream, x_IB: NDArray[Any], spec: CrossbarSpec, noise: np.random.Generator
) -> None:
    """Add what a group of rows computes from `x_IB` (checked whole numbers) to `y_OB`, in place."""
    if not stream.planes:
        return
    dtype = stream.cells.dtype
    worth_J = step_worth(spec).astype(dtype)
    bitlines = len(stream.cells)
    columns = _BLOCK_BYTES // (bitlines * spec.steps * dtype.itemsize)
    size = min(max(columns, _MIN_BLOCK), _MAX_BLOCK)
    for start in range(0, x_IB.shape[1], size):
        block = slice(start, start + size)
        pulses_JRB = pulses(x_IB[stream.rows, block], spec, dtype)
        sums_JCB = _column_sums(stream, pulses_JRB, 1.0 - leak_ratio(spec))
        if stream.variance is not None:
            _add_noise(sums_JCB, stream.variance, pulses_JRB, noise)
        _convert(sums_JCB, stream)
        codes_CB = (worth_J @ sums_JCB.reshape(spec.steps, -1)).reshape(bitlines, -1)
        for plane in stream.planes:
            y_OB[:, block] += plane.gain[:, None] * codes_CB[plane.bitlines]


def _column_sums(stream: AnalogStream, pulses_JRB: NDArray[Any], level: float) -> NDArray[Any]:
    """Return the sums [J, C, B] without read noise; `level` is what a level adds where the leak is apart."""
    if not stream.is_exact:
        in_codes_JCB: NDArray[Any] = stream.cells[:, :-1] @ pulses_JRB
        in_codes_JCB += stream.cells[:, -1:]
        return in_codes_JCB
    sums_JCB: NDArray[Any] = stream.cells @ pulses_JRB
    if stream.leak > 0:
        sums_JCB *= level
        sums_JCB += stream.leak * pulses_JRB.sum(axis=1, keepdims=True)
    return sums_JCB


def _add_noise(
    sums_JCB: NDArray[Any], variance_CR: NDArray[np.float32], pulses_JRB: NDArray[Any], noise: np.random.Generator
) -> None:
    """Add one Gaussian per column sum: its variance is that of its cells times the squares of their pulses."""
    variance_JCB = variance_CR @ np.square(pulses_JRB)
    np.sqrt(variance_JCB, out=variance_JCB)
    draws = noise.bit_generator.random_raw(-(-variance_JCB.size // 4)).view(np.uint16)[: variance_JCB.size]
    variance_JCB *= np.take(_normal_quantiles(), draws).reshape(variance_JCB.shape)
    sums_JCB += variance_JCB


@cache
def _normal_quantiles() -> NDArray[np.float32]:
    """Return 65,536 equally likely values of a normal variable: the middles of its quantiles, of variance 1."""
    upper_half = [NormalDist().inv_cdf((k + 0.5) / 65536) for k in range(32768, 65536)]
    values = np.array([*(-value for value in reversed(upper_half)), *upper_half])
    return np.asarray((values / values.std()).astype(np.float32))


def _convert(sums_JCB: NDArray[Any], stream: AnalogStream) -> None:
    """Replace column sums by codes, counted from the code of a sum of 0, in place."""
    for plane in stream.planes:
        part = sums_JCB[:, plane.bitlines]
        if stream.is_exact:
            plane.adc.convert(part)
            part -= plane.adc.zero_code
            continue
        top = np.float32(plane.adc.codes - 1)
        if stream.curve is not None:
            np.clip(part, np.float32(0), top, out=part)
            u = part / top
            bow, ess = stream.curve[plane.bitlines, :1], stream.curve[plane.bitlines, 1:]
            part += u * (1 - u) * (bow + ess * (1 - 2 * u))
        np.clip(part, np.float32(0), top, out=part)
        np.rint(part, out=part)
        part -= np.float32(plane.adc.zero_code)
