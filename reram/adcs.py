"""Which conversions a layer makes, at how many bits, and what they cost: numbers from the file, or from the weights.

With `adc_bits` as numbers every column of a slice is converted at that slice's bits, whatever it holds. With `needed` the
network's own integer weights decide (`needs.py`): columns without a filled cell are not converted, and a conversion takes

- under `design_time` the bits of its slice's converters, which are what any tile of the network needs of that slice;
- under `run_time` the bits that its own row tile and slice need: converters are built as wide as the widest, and stop early.

A SAR that stops early has done b of its B cycles, all of them with the capacitors and at the power of B bits: it saves time and
energy in proportion, less than a converter built for b bits. What converts in one go (survey, sense amplifiers) saves nothing.

The slices of a weight share a shift-and-add, so a read lasts as long as its widest conversion:

    read = max(array's read_ns, columns per ADC x time of one conversion)

where a pair of columns that are subtracted (differential) is one column to its ADC.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from picojoule.reram.adc_models import AdcModel, adc_area_um2, adc_energy_pj, adc_key, adc_seconds
from picojoule.reram.mapping import LayerMapping
from picojoule.reram.needs import adc_needs
from picojoule.reram.spec import NEEDED, AdcBuild, ReramSpec, SignedInputs, adc_bits_of, crossbar_spec, slices_of
from picojoule.sim.cost import AreaItem, Energy
from picojoule.sim.formats import NumberFormat
from picojoule.sim.integer_weights import integer_weights
from picojoule.sim.ir import Layer


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceAdc:
    """Conversions of one slice of a layer for one input step, all groups, outputs and row tiles of one position.

    `conversions` by resolution; `skipped` columns hold no filled cell.
    """

    conversions: Mapping[int, int]
    skipped: int = 0

    @property
    def bits(self) -> int:
        """The widest conversion; 0 where there is none."""
        return max(self.conversions, default=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerAdc:
    """The converters of a layer by slice, least significant first; `empty_pairs` of `pairs` (row tile, slice) hold nothing.

    `built` are the bits of converters that stop early; 0: each conversion has a converter of its width.
    """

    slices: tuple[SliceAdc, ...]
    pairs: int = 0
    empty_pairs: int = 0
    built: int = 0

    @property
    def widest(self) -> int:
        """Bits of the widest conversion."""
        return max(s.bits for s in self.slices)

    @property
    def conversions(self) -> int:
        """Conversions of one input step of one position."""
        return sum(sum(s.conversions.values()) for s in self.slices)

    @property
    def skipped(self) -> int:
        """Columns left out in one input step of one position."""
        return sum(s.skipped for s in self.slices)

    def by_bits(self) -> dict[int, int]:
        """Return the conversions of one input step of one position by resolution."""
        found: dict[int, int] = defaultdict(int)
        for part in self.slices:
            for bits, count in part.conversions.items():
                found[bits] += count
        return dict(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerNeeds:
    """What a layer's own weights ask for, [groups, row tiles, K]: bits, columns, and columns without a filled cell."""

    bits: NDArray[np.int64]
    columns: NDArray[np.int64]
    zero_columns: NDArray[np.int64]

    @property
    def per_slice(self) -> tuple[int, ...]:
        """Bits per slice that serve the whole layer."""
        return tuple(int(b) for b in self.bits.max(axis=(0, 1)))


def layer_needs(layer: Layer, form: NumberFormat, mapping: LayerMapping, signed: bool, spec: ReramSpec) -> LayerNeeds:
    """Return what the weights of a layer in an integer format need of their converters.

    Raises:
        UnsupportedError: if the network has no weights.

    """
    bipolar = signed and spec.signed_inputs is SignedInputs.BIPOLAR
    crossbar = crossbar_spec(spec, mapping.weight_bits, mapping.input_bits, bipolar)
    weights = integer_weights(layer, form, needed_by="adc_bits 'needed'", remedy="give adc_bits as a number")
    found = [adc_needs(w, crossbar, percentile=spec.adc_percentile) for w in weights]
    return LayerNeeds(
        bits=np.stack([n.bits for n in found]),
        columns=np.stack([n.columns for n in found]),
        zero_columns=np.stack([n.zero_columns for n in found]),
    )


def any_needs(mapping: LayerMapping, signed: bool, spec: ReramSpec) -> LayerNeeds:
    """Return what whatever values in a layer's crossbars could need: for products of two activations."""
    bipolar = signed and spec.signed_inputs is SignedInputs.BIPOLAR
    bits = crossbar_spec(spec, mapping.weight_bits, mapping.input_bits, bipolar).lossless_adc_bits
    shape = (1, 1, mapping.slices)
    columns = np.full(shape, mapping.columns_per_slice)
    return LayerNeeds(bits=np.full(shape, bits), columns=columns, zero_columns=np.zeros(shape, dtype=np.int64))


def built_bits(needs: Mapping[str, LayerNeeds]) -> tuple[int, ...]:
    """Return the bits per slice that serve a whole network, least significant first."""
    rows = [n.per_slice for n in needs.values()]
    return tuple(max(row[k] for row in rows if k < len(row)) for k in range(max(map(len, rows), default=0)))


def stated_adc(mapping: LayerMapping, spec: ReramSpec) -> LayerAdc:
    """Return the converters of a layer where the file says how many bits.

    Raises:
        InfeasibleError: if the file names fewer slices than the weight has.

    """
    bits = adc_bits_of(spec, mapping.slices)
    assert bits is not None
    return LayerAdc(slices=tuple(SliceAdc(conversions={b: mapping.columns_per_slice}) for b in bits))


def needed_adc(needs: LayerNeeds, built: tuple[int, ...], spec: ReramSpec) -> LayerAdc:
    """Return the converters of a layer that follow its weights; `built`: the network's per slice."""
    converted = needs.columns - needs.zero_columns
    at_run_time = spec.adc is AdcBuild.RUN_TIME
    parts = []
    for k in range(needs.bits.shape[2]):
        counts: dict[int, int] = defaultdict(int)
        widths = needs.bits[..., k] if at_run_time else np.full(needs.bits.shape[:2], built[k])
        for bits, count in zip(widths.ravel().tolist(), converted[..., k].ravel().tolist(), strict=True):
            if count:
                counts[bits] += count
        parts.append(SliceAdc(conversions=dict(counts), skipped=int(needs.zero_columns[..., k].sum())))
    empty = converted == 0
    return LayerAdc(slices=tuple(parts), pairs=empty.size, empty_pairs=int(empty.sum()))


def read_seconds(bits: int, spec: ReramSpec) -> float:
    """Return the time of one read whose widest conversion has `bits`: the array settles while the ADCs convert."""
    return max(spec.read_ns * 1e-9, converting_seconds(bits, spec))


def converting_seconds(bits: int, spec: ReramSpec) -> float:
    """Return how long an ADC takes for its columns of a read."""
    return spec.columns_per_adc * _seconds(
        spec.adc_model, bits, spec.adc_megasamples_per_s, spec.node_nm, _column_ohm(spec)
    )


def adc_lines(adc: LayerAdc, steps: int, spec: ReramSpec) -> list[Energy]:
    """Return the bill of the converters for `steps` input steps of positions: a line per resolution.

    A conversion of b bits by a converter of `adc.built` bits B costs the energy of B bits times the share of its cycles: b / B
    (`isaac_sar`, `bitslice_paper`) or (b + 1) / (B + 1) (`neurosim_sar`).
    """
    return [
        Energy(
            component="adc",
            constant=key,
            events=float(count * steps),
            pj_per_event=pj,
        )
        for bits, count in sorted(adc.by_bits().items())
        for key, pj in (_stopped(bits, adc.built or bits, spec),)
    ]


def adc_area(per_slice: tuple[int, ...], count: float, spec: ReramSpec) -> list[AreaItem]:
    """Return the area of `count` ADCs: shared equally by the slices, or all as wide as the widest (`run_time`)."""
    widths = per_slice if spec.adc is AdcBuild.DESIGN_TIME else (max(per_slice),)
    share = {bits: widths.count(bits) / len(widths) for bits in sorted(set(widths)) if bits}
    items = []
    for bits, part in share.items():
        key, mm2 = _area(spec.adc_model, bits, spec.adc_megasamples_per_s, spec.node_nm)
        items.append(AreaItem(component="adc", constant=key, mm2=mm2 * count * part))
    return items


def adc_power_mw(per_slice: tuple[int, ...], spec: ReramSpec) -> float:
    """Return the power of one busy ADC, the mean over the slices: its columns in the time of a read."""
    widths = per_slice if spec.adc is AdcBuild.DESIGN_TIME else (max(per_slice),)
    pj = sum(_conversion(b, spec)[1] for b in widths if b) / len(widths)
    return pj * spec.columns_per_adc / read_seconds(max(widths), spec) * 1e-9


def widest_bits(spec: ReramSpec) -> tuple[int, ...]:
    """Return the bits per slice of a chip whose network is unknown: those stated, or such as lose nothing."""
    if spec.adc_bits != NEEDED:
        return spec.stated_adc_bits[: slices_of(spec, spec.weight_bits)]
    return (crossbar_spec(spec, spec.weight_bits, spec.activation_bits, spec.signed_sums).lossless_adc_bits,)


def _column_ohm(spec: ReramSpec) -> float | None:
    """Return the resistance of a column with all cells on, where the law has the column's current in it."""
    if spec.adc_model is not AdcModel.NEUROSIM_MLSA or spec.cell_on_ohm is None:
        return None
    return spec.cell_on_ohm / (spec.rows_active or spec.crossbar_rows)


def _stopped(bits: int, built: int, spec: ReramSpec) -> tuple[str, float]:
    """Return the constant and energy of a conversion that a converter of `built` bits ends after `bits` of them."""
    key, pj = _conversion(built, spec)
    match spec.adc_model:
        case AdcModel.SURVEY | AdcModel.NEUROSIM_MLSA:
            return key, pj
        case AdcModel.NEUROSIM_SAR:
            return key, pj * (bits + 1) / (built + 1)
    return key, pj * bits / built


def _conversion(bits: int, spec: ReramSpec) -> tuple[str, float]:
    return _energy(spec.adc_model, bits, spec.adc_megasamples_per_s, spec.node_nm, _column_ohm(spec))


@cache
def _seconds(model: AdcModel, bits: int, rate: float, node_nm: float, ohm: float | None) -> float:
    return float(adc_seconds(model, bits, megasamples_per_s=rate, node_nm=node_nm, r_column_ohm=ohm))


@cache
def _energy(model: AdcModel, bits: int, rate: float, node_nm: float, ohm: float | None) -> tuple[str, float]:
    pj = float(adc_energy_pj(model, bits, megasamples_per_s=rate, node_nm=node_nm, r_column_ohm=ohm))
    return adc_key(model, "energy", bits, node_nm=node_nm), pj


@cache
def _area(model: AdcModel, bits: int, rate: float, node_nm: float) -> tuple[str, float]:
    mm2 = 1e-6 * float(adc_area_um2(model, bits, megasamples_per_s=rate, node_nm=node_nm))
    return adc_key(model, "area", bits, node_nm=node_nm), mm2
