"""Weights as cells: slicing and the four encodings of one tile.

Letters: P = plane (a slice, or one polarity of it), O = output, R = wordline of the tile.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from picojoule.reram.crossbar import CrossbarSpec, Encoding


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TileCells:
    """One tile's cells and how its columns are put together again.

    Output o of the tile is the sum over planes of gain * (column sum of cells), plus digital * (sum of inputs).
    """

    cells: NDArray[np.int32]
    """[P, O, R]: levels 0..q; differential pairs are shown as one cell from -q to q."""
    slice_of_plane: tuple[int, ...]
    """Slice of each plane, 0 the least significant: it chooses the ADC."""
    gain: NDArray[np.int64]
    """[P, O]: what one unit of a column sum is worth."""
    digital: NDArray[np.int64]
    """[O]: what is added per unit of the sum of the tile's inputs."""


def split_evenly(count: int, most: int | None) -> list[slice]:
    """Cut `count` rows into the fewest parts of at most `most` rows, as equal as possible, larger ones first."""
    parts = 1 if most is None else -(-count // most)
    size, larger = divmod(count, parts)
    stops = np.cumsum([size + 1] * larger + [size] * (parts - larger)).tolist()
    return [slice(start, stop) for start, stop in zip([0, *stops[:-1]], stops, strict=True)]


def encode_tile(weights: NDArray[Any], spec: CrossbarSpec, groups: list[slice]) -> TileCells:
    """Return the cells of one tile for checked weights [O, R]; `groups` are the rows read together (they decide flips)."""
    weights_OR = weights.astype(np.int32)
    base, slices = spec.cell_max + 1, range(spec.slices)
    place_K = np.array([base**k for k in slices], dtype=np.int64)
    outputs = len(weights_OR)
    no_digital = np.zeros(outputs, dtype=np.int64)

    def sliced(values_OR: NDArray[np.int32]) -> NDArray[np.int32]:
        return np.stack([values_OR // place % base for place in place_K.tolist()]).astype(np.int32, copy=False)

    gain_KO = np.repeat(place_K[:, None], outputs, axis=1)
    if spec.encoding is Encoding.DIFFERENTIAL:
        signed = sliced(np.abs(weights_OR)) * np.sign(weights_OR).astype(np.int32)
        return TileCells(cells=signed, slice_of_plane=tuple(slices), gain=gain_KO, digital=no_digital)
    if spec.encoding is Encoding.SPLIT:
        both = np.concatenate([sliced(np.maximum(weights_OR, 0)), sliced(np.maximum(-weights_OR, 0))])
        gain = np.concatenate([gain_KO, -gain_KO])
        return TileCells(cells=both, slice_of_plane=(*slices, *slices), gain=gain, digital=no_digital)

    offset = 1 << (spec.weight_bits - 1)
    cells = sliced(weights_OR + offset)
    digital = no_digital - offset
    if spec.encoding is Encoding.FLIP:
        # q * sum(x) - (complement's sum) is the sum itself, so a column may hold whichever has the smaller largest sum.
        flipped_KO = _largest_sum(cells, groups) > _largest_sum(spec.cell_max - cells, groups)
        cells = np.where(flipped_KO[:, :, None], np.int32(spec.cell_max) - cells, cells)
        digital = digital + spec.cell_max * (gain_KO * flipped_KO).sum(axis=0)
        gain_KO = np.where(flipped_KO, -gain_KO, gain_KO)
    return TileCells(cells=cells, slice_of_plane=tuple(slices), gain=gain_KO, digital=digital)


def _largest_sum(cells_POR: NDArray[Any], groups: list[slice]) -> NDArray[np.int64]:
    """Largest column sum, in cell levels, that any group of rows can give."""
    sums_GPO = np.stack([cells_POR[:, :, rows].sum(axis=2, dtype=np.int64) for rows in groups])
    return np.asarray(sums_GPO.max(axis=0))
