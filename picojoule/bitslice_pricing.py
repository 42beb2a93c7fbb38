"""What the converters of a trained point cost an image: energy, time and area under three laws and a survey.

Counts follow the crossbars alone (no buffers, no routers): a layer takes positions x 8 input steps conversions for every column
(an output's slice in a row tile) that holds anything. Each array of 128 columns has one converter, which serves them one after
the other; tiles and slices work side by side, so the slowest sets the time; layers follow each other. All tiles share the
bits of their slice (`design_time`), which the widest column of the network asks; own-width energy builds every tile's converters
as wide as that tile needs (not `adc: run_time`, whose wide converters stop early).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from picojoule.reram.adc_models import AdcModel, adc_area_um2, adc_energy_pj, adc_seconds
from picojoule.sim.errors import UnsupportedError

ARRAY_COLUMNS = 128
INPUT_STEPS = 8
MODELS = (AdcModel.ISAAC_SAR, AdcModel.SURVEY, AdcModel.NEUROSIM_SAR, AdcModel.BITSLICE_PAPER)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCounts:
    """One layer on crossbars, by row tile and slice: lossless bits (signed; 0: empty), and columns that hold anything."""

    outputs: int
    positions: int
    tile_bits: tuple[tuple[int, ...], ...]
    live_columns: tuple[tuple[int, ...], ...]

    @property
    def reads(self) -> int:
        """Conversions of one image for one column."""
        return self.positions * INPUT_STEPS

    @property
    def arrays(self) -> tuple[int, ...]:
        """Arrays that hold anything, per slice."""
        wide = math.ceil(self.outputs / ARRAY_COLUMNS)
        return tuple(wide * sum(n > 0 for n in tiles) for tiles in zip(*self.live_columns, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class AdcPrice:
    """Converters of one image: None where the law refuses these bits (the survey, fewer than 4)."""

    energy_pj: float
    own_width_energy_pj: float | None
    latency_s: float
    area_um2: float


def layer_counts(values: Sequence[Mapping[str, Any]]) -> list[LayerCounts]:
    """Return the layers that a point's measurement holds."""
    return [
        LayerCounts(
            outputs=v["outputs"],
            positions=v["positions"],
            tile_bits=tuple(map(tuple, v["tile_bits"])),
            live_columns=tuple(map(tuple, v["live_columns"])),
        )
        for v in values
    ]


def price(
    layers: Sequence[LayerCounts], bits: Sequence[int], model: AdcModel, *, lossless: bool = True
) -> AdcPrice | None:
    """Return the price of converters with `bits` per slice; None where the law refuses them.

    `lossless`: also the energy where every tile uses its own bits.
    """
    try:
        energy, seconds, area = (
            [float(v) for v in law(model, list(bits))] for law in (adc_energy_pj, adc_seconds, adc_area_um2)
        )
    except UnsupportedError:
        return None
    per_slice = [sum(y.reads * sum(n[k] for n in y.live_columns) for y in layers) for k in range(len(bits))]
    arrays = [sum(y.arrays[k] for y in layers) for k in range(len(bits))]
    latency = 0.0
    for y in layers:
        tiles = [min(n, ARRAY_COLUMNS) * s for row in y.live_columns for n, s in zip(row, seconds, strict=True)]
        latency += y.reads * max(tiles)
    return AdcPrice(
        energy_pj=math.fsum(n * e for n, e in zip(per_slice, energy, strict=True)),
        own_width_energy_pj=_own_bits_energy(layers, model) if lossless else None,
        latency_s=latency,
        area_um2=math.fsum(n * a for n, a in zip(arrays, area, strict=True)),
    )


def _own_bits_energy(layers: Sequence[LayerCounts], model: AdcModel) -> float | None:
    try:
        return math.fsum(
            y.reads * n * e
            for y in layers
            for columns, tile in zip(y.live_columns, adc_energy_pj(model, y.tile_bits).tolist(), strict=True)
            for n, e in zip(columns, tile, strict=True)
        )
    except UnsupportedError:
        return None
