"""Products of crossbars made of real cells, wires and converters (`devices`), for all encodings, slices and ADCs.

With no effect on, the result is the ideal crossbar's (`arithmetic`), bit for bit. The digital side knows nominal values
only: the leak of empty cells is removed as if conductances were right, errors stay.

A column all of whose cells are meant to be empty is not read, so that neither its leak nor its errors count.

Without an ADC everything is linear: one matrix of effective weights, and one Gaussian per output whose variance is the
sum over cells, slices and steps. With one, `analog_streaming` computes pulse by pulse.

Read noise depends on the seed and on the inputs (a digest of them), never on the order of calls: the same inputs in the
same hardware read the same, other inputs read other noise. Wires change a cell's noise as they change its current; that
a noisy cell moves its own and its neighbours' voltages is left out (2 % too much noise in 32x32 cells of 10 kohm where
wires of 2 ohm take 6 % of the current, 8 % too much at 10 ohm and 26 %).

Letters: O = output, I = input, R = wordline of a tile, G = group of rows, B = batch.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from picojoule.reram.analog_cells import AnalogTile, analog_tile, child_generator
from picojoule.reram.analog_streaming import AnalogStream, add_stream, build_stream
from picojoule.reram.crossbar import CrossbarSpec
from picojoule.reram.devices import DeviceSpec
from picojoule.reram.encoding import TileCells, encode_tile, split_evenly
from picojoule.reram.streaming import leak_ratio, pulses, step_worth
from picojoule.reram.whole import check_unconverted, input_matrix, row_tiles, weight_matrix

_BLOCK_COLUMNS = 4096


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AnalogCrossbar:
    """Weights written into real crossbars once, for many products; made by `program_analog`."""

    spec: CrossbarSpec
    shape: tuple[int, int]
    """(outputs, inputs) of the weights."""
    lossless_share: float
    """1 where the product is the integer product whatever the inputs (no ADC and no effect on), else 0."""
    weights: NDArray[Any] | None
    """[O, I]: effective weights, in the linear case (no ADC)."""
    variance: NDArray[np.float32] | None
    """[O, I]: variance of a read in that case, per square of a pulse and of what its step is worth."""
    streams: tuple[AnalogStream, ...]
    """Groups of rows, where there is an ADC."""

    def matmul(self, inputs: ArrayLike) -> NDArray[np.float64]:
        """Return the crossbar's product with `inputs` [in, batch] (whole numbers): float64 [out, batch]."""
        spec = self.spec
        x_IB, _ = input_matrix(inputs, spec, self.shape[1])
        if self.weights is not None:
            return self._linear(x_IB)
        sums_GB = np.stack([x_IB[stream.rows].sum(axis=0, dtype=np.float64) for stream in self.streams])
        y_OB: NDArray[np.float64] = np.stack([stream.digital for stream in self.streams], axis=1) @ sums_GB
        digest = _digest(x_IB) if any(stream.variance is not None for stream in self.streams) else 0
        for stream in self.streams:
            noise = child_generator(spec.seed, "read", digest, *stream.place)
            add_stream(y_OB, stream, x_IB, spec, noise)
        return y_OB

    def _linear(self, x_IB: NDArray[Any]) -> NDArray[np.float64]:
        """Return the product without converters: effective weights, and one Gaussian per output."""
        assert self.weights is not None
        y_OB = np.empty((self.shape[0], x_IB.shape[1]))
        noise = None if self.variance is None else child_generator(self.spec.seed, "read", _digest(x_IB))
        for start in range(0, x_IB.shape[1], _BLOCK_COLUMNS):
            block = slice(start, start + _BLOCK_COLUMNS)
            y_OB[:, block] = self.weights @ x_IB[:, block].astype(self.weights.dtype)
            if self.variance is not None and noise is not None:
                deviation_OB = np.sqrt(self.variance @ _squares(x_IB[:, block], self.spec))
                y_OB[:, block] += deviation_OB * noise.standard_normal(deviation_OB.shape, dtype=np.float32)
        return y_OB


def program_analog(
    weights: ArrayLike, spec: CrossbarSpec, *, solved: dict[int, AnalogTile] | None = None
) -> AnalogCrossbar:
    """Return `weights` [out, in] (whole numbers within `spec.weight_range`) in crossbars with the errors of `spec.device`.

    `spec.seed` is the piece of hardware: the same seed gives the same cells and converters. Raises InputError for weights
    that are not whole or too large, and where converters are given for another number of row tiles.

    Wires are the costly part and do not depend on the inputs: calls with the same weights, cells and seed may share `solved`,
    which holds their row tiles.
    """
    w_OI = weight_matrix(weights, spec)
    described = spec.device if spec.device is not None else DeviceSpec()
    device, nominal = described.resolved(), described.electrical(spec)
    outputs, inputs = w_OI.shape
    tiles = row_tiles(inputs, nominal)
    solved = solved if solved is not None and nominal.has_wires else {}
    linear = nominal.adc_bits is None
    dtype = np.float32 if device.has_inexact_cells else np.float64
    weights_OI: NDArray[Any] | None = np.zeros((outputs, inputs), dtype=dtype) if linear else None
    variance_OI = np.zeros((outputs, inputs), dtype=np.float32) if linear and device.has_read_noise else None
    streams: list[AnalogStream] = []
    for t, rows in enumerate(tiles):
        groups = split_evenly(rows.stop - rows.start, spec.rows_active)
        encoded = encode_tile(w_OI[:, rows], nominal, groups)
        adcs = nominal.converters_of(t)
        check_unconverted(encoded, adcs, t)
        cells = solved[t] if t in solved else analog_tile(encoded.cells, nominal, device, spec.seed, t)
        if nominal.has_wires:
            solved[t] = cells
        if adcs is None:
            assert weights_OI is not None
            weights_OI[:, rows] = _effective_weights(cells, encoded, nominal)
            if variance_OI is not None and cells.variance is not None:
                worth_PO = encoded.gain * cells.compensation / (1.0 - leak_ratio(nominal))
                variance_OI[:, rows] = np.einsum("por,po->or", cells.variance, worth_PO**2)
            continue
        for g, group in enumerate(groups):
            inside = slice(rows.start + group.start, rows.start + group.stop)
            streams.append(build_stream(cells, encoded, adcs, group, inside, (t, g), nominal, device, spec.seed))

    untouched = linear and not device.has_errors and not nominal.has_wires
    return AnalogCrossbar(
        spec=nominal.replace(seed=spec.seed),
        shape=(outputs, inputs),
        lossless_share=1.0 if untouched else 0.0,
        weights=weights_OI,
        variance=variance_OI,
        streams=tuple(streams),
    )


def _effective_weights(cells: AnalogTile, encoded: TileCells, spec: CrossbarSpec) -> NDArray[np.float64]:
    """Return what the tile multiplies its inputs by, without converters: [O, R]."""
    r = leak_ratio(spec)
    codes_POR = cells.sums if cells.on_levels else (cells.compensation * cells.sums - r * spec.cell_max) / (1.0 - r)
    weights_OR: NDArray[np.float64] = np.einsum("por,po->or", codes_POR, encoded.gain.astype(np.float64))
    return weights_OR + encoded.digital[:, None]


def _squares(x_IB: NDArray[Any], spec: CrossbarSpec) -> NDArray[np.float32]:
    """Return the sum over steps of (pulse times what the step is worth)^2: what variances of a read are multiplied by."""
    every_size = np.arange(spec.input_range[1] + 1)[None]
    square_of = (np.square(step_worth(spec)) @ np.square(pulses(every_size, spec, np.float64))[:, 0]).astype(np.float32)
    return np.asarray(square_of[np.abs(x_IB.astype(np.intp))])


def _digest(x_IB: NDArray[Any]) -> int:
    """Return a hash of 64 bits of the inputs and their order: other ones almost surely have another."""
    content = np.ascontiguousarray(x_IB, dtype=np.int32)
    return int.from_bytes(hashlib.blake2b(content.tobytes(), digest_size=8).digest(), "little")
