"""What converters cost at any resolution, under laws that disagree: an ADC saving is a range over them, never one number.

- `isaac_sar`: ISAAC's converter (8 bits, 1.28 GS/s, 1.56 pJ, 1200 um2, 32 nm), scaled as HWComponents' SAR points.
- `survey`: regression over surveyed converters (Murmann; Accelergy ADC plug-in); refuses fewer than 4 bits.
- `neurosim_sar`: NeuroSim's slow, small SAR converter. Give `r_column_ohm` to have the current of the column's cells in,
  part of its published fit, and then do not bill the cells elsewhere.
- `bitslice_paper`: the law behind the overhead table of bit-slice sparsity (arXiv 1909.08496), anchored at ISAAC's part;
  its 28.4 and 14.2 times (1, 3 bits) are ratios of *power*; energy is 227.6 and 37.9 times lower.

- `neurosim_mlsa`: 2^N - 1 parallel sense amplifiers, NeuroSim's default; the current of the column's cells is in it.

0 bits is no converter: no energy, area or time. `isaac_sar` and `bitslice_paper` are carried to other nodes as logic, the
others have their own. Laws and sources: `sim.technology.adc_laws`, `sense_amplifier_law`; constants of bills: `table_adc`.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Literal, TypedDict

import numpy as np
import numpy.typing as npt

from picojoule.sim.errors import InputError, UnsupportedError, unknown_choice
from picojoule.sim.technology import (
    adc_laws,
    constant,
    logic_area_key,
    logic_area_scale,
    logic_energy_scale,
    logic_scale_key,
    product_key,
)
from picojoule.sim.technology.adc_laws import ANCHOR_BITS, SURVEY_LEAST_BITS
from picojoule.sim.technology.sense_amplifier_law import COLUMN_OHM, sense_area_um2, sense_energy_pj, sense_ns
from picojoule.sim.technology.table_adc import MOST_ADC_BITS

Array = npt.NDArray[np.float64]
Quantity = Literal["energy", "area"]

NODE_NM, MEGASAMPLES_PER_S = 32.0, 1280.0
"""Node of the constants; rate of ISAAC's converter at 8 bits."""


class AdcModel(StrEnum):
    """Which law prices a converter; see the module."""

    ISAAC_SAR = "isaac_sar"
    """ISAAC's converter scaled as a SAR; N cycles."""
    SURVEY = "survey"
    """Regression over surveyed converters; 4 bits and more."""
    NEUROSIM_SAR = "neurosim_sar"
    """NeuroSim's SAR: column power times N + 1 ns, transistor counts."""
    BITSLICE_PAPER = "bitslice_paper"
    """Power 2^N / (N + 1), time N: what the bit-slice sparsity paper assumes."""
    NEUROSIM_MLSA = "neurosim_mlsa"
    """NeuroSim's sense amplifiers: one for each level, all at once."""


_FAMILY = {
    AdcModel.ISAAC_SAR: "sar",
    AdcModel.SURVEY: "survey",
    AdcModel.NEUROSIM_SAR: "neurosim",
    AdcModel.BITSLICE_PAPER: "bitslice",
    AdcModel.NEUROSIM_MLSA: "mlsa",
}
_OWN_ANCHOR = (AdcModel.SURVEY, AdcModel.NEUROSIM_SAR, AdcModel.NEUROSIM_MLSA)


class AdcSaving(TypedDict):
    """How many times less the converters of one product take than equal ones of the baseline's bits."""

    energy: float
    power: float
    area: float
    time: float


def adc_energy_pj(
    model: AdcModel | str,
    bits: npt.ArrayLike,
    *,
    megasamples_per_s: float = MEGASAMPLES_PER_S,
    node_nm: float = NODE_NM,
    r_column_ohm: float | None = None,
) -> Array:
    """Return the energy of one conversion at `bits`, pJ; any shape.

    `megasamples_per_s` matters to the survey, `r_column_ohm` (resistance of the column's driven cells in parallel, read at
    0.5 V) to `neurosim_sar`, and to `neurosim_mlsa` (with all cells on). Errors as `adc_area_um2`.
    """
    chosen, n = _checked(model, bits)
    if r_column_ohm is not None and not 0 < r_column_ohm < np.inf:
        raise InputError(
            f"r_column_ohm must be more than 0 and finite, got {r_column_ohm:g}; leave it out for no cells"
        )
    used = np.maximum(n, 1)
    match chosen:
        case AdcModel.SURVEY:
            used = np.maximum(n, SURVEY_LEAST_BITS)
            energy = adc_laws.survey_energy_pj(used, _samples_per_s(megasamples_per_s), _node(node_nm))
        case AdcModel.NEUROSIM_SAR:
            energy = adc_laws.neurosim_energy_pj(used, node_nm, r_column_ohm)
        case AdcModel.NEUROSIM_MLSA:
            energy = sense_energy_pj(used, _node(node_nm), r_column_ohm or COLUMN_OHM)
        case _:
            scale = logic_energy_scale(NODE_NM, node_nm)
            energy = constant("isaac.adc.conversion").value * scale * _table_ratios(chosen, "energy")[used]
    return np.where(n > 0, energy, 0.0)


def adc_area_um2(
    model: AdcModel | str,
    bits: npt.ArrayLike,
    *,
    megasamples_per_s: float = MEGASAMPLES_PER_S,
    node_nm: float = NODE_NM,
) -> Array:
    """Return the area of one converter of `bits`, um2; any shape.

    Raises:
        InputError: for bits that are not whole numbers of 0 to 16, an unknown model, a node outside 7-130 nm or a rate of 0.
        UnsupportedError: for fewer than 4 bits (and more than 0) under the survey.

    """
    chosen, n = _checked(model, bits)
    used = np.maximum(n, 1)
    match chosen:
        case AdcModel.SURVEY:
            used = np.maximum(n, SURVEY_LEAST_BITS)
            area = adc_laws.survey_area_um2(used, _samples_per_s(megasamples_per_s), _node(node_nm))
        case AdcModel.NEUROSIM_SAR:
            area = adc_laws.neurosim_area_um2(used, node_nm)
        case AdcModel.NEUROSIM_MLSA:
            area = sense_area_um2(used, _node(node_nm))
        case _:
            scale = logic_area_scale(NODE_NM, node_nm)
            area = 1e6 * constant("isaac.adc.area").value * scale * _table_ratios(chosen, "area")[used]
    return np.where(n > 0, area, 0.0)


def adc_seconds(
    model: AdcModel | str,
    bits: npt.ArrayLike,
    *,
    megasamples_per_s: float = MEGASAMPLES_PER_S,
    node_nm: float = NODE_NM,
    r_column_ohm: float | None = None,
) -> Array:
    """Return the time of one conversion at `bits`, s; any shape. Errors as `adc_area_um2`.

    `megasamples_per_s` is the rate at 8 bits: `isaac_sar` and `bitslice_paper` take N/8 of its period, the survey's
    converters all of it; `neurosim_sar` takes N + 1 ns whatever the rate, `neurosim_mlsa` what its node and column take.
    """
    chosen, n = _checked(model, bits)
    period = 1.0 / _samples_per_s(megasamples_per_s)
    match chosen:
        case AdcModel.SURVEY:
            seconds = np.full(n.shape, period)
        case AdcModel.NEUROSIM_SAR:
            seconds = adc_laws.neurosim_ns(n) * 1e-9
        case AdcModel.NEUROSIM_MLSA:
            seconds = np.full(n.shape, 1e-9 * sense_ns(_node(node_nm), r_column_ohm or COLUMN_OHM))
        case _:
            seconds = n * (period / ANCHOR_BITS)
    return np.where(n > 0, seconds, 0.0)


def adc_energy_ratio(model: AdcModel | str, bits: npt.ArrayLike) -> Array:
    """Return how many times less energy a conversion takes than one of 8 bits (32 nm, ISAAC's rate); infinite at 0 bits."""
    return _ratio(adc_energy_pj(model, ANCHOR_BITS), adc_energy_pj(model, bits))


def adc_power_ratio(model: AdcModel | str, bits: npt.ArrayLike) -> Array:
    """Return how many times less power a busy converter takes than one of 8 bits; infinite at 0 bits.

    A converter that is quicker with fewer bits saves less power than energy (bit-slice paper, 1 bit: 28.4 and 227.6 times).
    """
    return _ratio(_power_w(model, ANCHOR_BITS), _power_w(model, bits))


def adc_constant(model: AdcModel | str, quantity: Quantity, bits: int) -> tuple[str, str]:
    """Return the constants whose product is a converter's energy (pJ) or area (mm2) at 32 nm: (anchor, factor).

    Empty factor at 8 bits; `adc_key` serves other nodes. Errors as `adc_area_um2`; 0 bits are an InputError.
    """
    chosen, n = _checked(model, bits)
    if int(n) == 0:
        raise InputError("0 bits are no converter, and no constant prices them; leave the line out of the bill")
    family = _FAMILY[chosen]
    name = "conversion" if quantity == "energy" else "area"
    anchor = f"adc.{family}.{name}" if chosen in _OWN_ANCHOR else f"isaac.adc.{name}"
    return anchor, "" if int(n) == ANCHOR_BITS else f"adc.{family}.{quantity}.{int(n)}bit"


def adc_key(model: AdcModel | str, quantity: Quantity, bits: int, *, node_nm: float = NODE_NM) -> str:
    """Return the key of a bill's line for `adc_energy_pj` or `adc_area_um2` at a node: a product of constants."""
    anchor, factor = adc_constant(model, quantity, bits)
    carried = logic_scale_key(NODE_NM, node_nm) if quantity == "energy" else logic_area_key(NODE_NM, node_nm)
    own_node = AdcModel(model) in _OWN_ANCHOR
    return product_key(anchor, factor, "" if own_node else carried)


def adc_saving(
    bits_per_slice: Sequence[int],
    baseline_bits: int,
    conversions_per_slice: Sequence[float],
    *,
    baseline_conversions: Sequence[float] | None = None,
) -> dict[AdcModel, AdcSaving]:
    """Return, by model, how many times less the converters of bit slices cost than equal ones of `baseline_bits`.

    `baseline_conversions` is for a baseline that converts more (the columns that are empty here). Slices have converters of
    their own and share a shift-and-add, so *time* is that of the slowest; *area* is that of converters built for their slice;
    *energy* that of all conversions, *power* that of busy converters, weighted by conversions. A model that does not reach
    down to these bits (the survey, below 4) is left out. Same node and rate on both sides: 32 nm, 1.28 GS/s.

    Raises:
        InputError: for sequences that differ in length, no conversion at all, or a baseline of 0 bits.

    """
    bits, counts = np.asarray(bits_per_slice), np.asarray(conversions_per_slice, dtype=np.float64)
    base_counts = counts if baseline_conversions is None else np.asarray(baseline_conversions, dtype=np.float64)
    if bits.ndim != 1 or not bits.shape == counts.shape == base_counts.shape:
        raise InputError(
            "bits and conversions must have one value per slice, "
            f"got {bits.size} bits, {counts.size} and {base_counts.size} conversions"
        )
    if not all((np.isfinite(c) & (c >= 0)).all() for c in (counts, base_counts)):
        raise InputError("conversions must be finite and not negative")
    used = (bits > 0) & (counts > 0)
    if not used.any() or baseline_bits == 0:
        raise InputError("no slice has both bits and conversions, or baseline_bits is 0: there is nothing to compare")
    savings: dict[AdcModel, AdcSaving] = {}
    for model in AdcModel:
        try:
            energy, base_energy = adc_energy_pj(model, bits), float(adc_energy_pj(model, baseline_bits))
            power, base_power = _power_w(model, bits), float(_power_w(model, baseline_bits))
            area, base_area = adc_area_um2(model, bits), float(adc_area_um2(model, baseline_bits))
        except UnsupportedError:
            continue
        savings[model] = AdcSaving(
            energy=base_energy * float(base_counts.sum()) / float(energy @ counts),
            power=base_power * float(base_counts.sum()) / float(power @ counts),
            area=base_area * bits.size / float(area.sum()),
            time=float(adc_seconds(model, baseline_bits) / adc_seconds(model, bits)[used].max()),
        )
    return savings


def _power_w(model: AdcModel | str, bits: npt.ArrayLike) -> Array:
    seconds = adc_seconds(model, bits)
    joules = 1e-12 * adc_energy_pj(model, bits)
    return np.asarray(np.divide(joules, seconds, out=np.zeros(seconds.shape), where=seconds > 0))


def _ratio(whole: Array, part: Array) -> Array:
    return np.asarray(np.divide(whole, part, out=np.full(part.shape, np.inf), where=part > 0))


def _table_ratios(model: AdcModel, quantity: Quantity) -> Array:
    """Return the ratio to 8 bits at 0..16 bits, as the constants have it (0 at 0)."""
    ratios = [1.0 if n == ANCHOR_BITS else constant(adc_constant(model, quantity, n)[1]).value for n in _WIDTHS]
    return np.array([0.0, *ratios])


_WIDTHS = range(1, MOST_ADC_BITS + 1)


def _checked(model: AdcModel | str, bits: npt.ArrayLike) -> tuple[AdcModel, npt.NDArray[np.int64]]:
    """Return the model and the bits as whole numbers, or raise."""
    try:
        chosen = AdcModel(model)
    except ValueError:
        raise InputError(unknown_choice("ADC model", str(model), [m.value for m in AdcModel])) from None
    if (given := np.asarray(bits)).dtype.kind not in "iuf":
        raise InputError(f"ADC bits must be whole numbers, got an array of {given.dtype}")
    wrong = given[~((given >= 0) & (given <= MOST_ADC_BITS) & (np.floor(given) == given))]
    if wrong.size:
        raise InputError(f"ADC bits must be whole numbers of 0 to {MOST_ADC_BITS}, got {wrong.flat[0]:g}")
    n: npt.NDArray[np.int64] = given.astype(np.int64)
    few = n[(n > 0) & (n < SURVEY_LEAST_BITS)]
    if chosen is AdcModel.SURVEY and few.size:
        raise UnsupportedError(
            f"the survey regression is stated for {SURVEY_LEAST_BITS} bits and more, got {few.flat[0]}; "
            "use adc_model isaac_sar, neurosim_sar or bitslice_paper"
        )
    return chosen, n


def _samples_per_s(megasamples_per_s: float) -> float:
    if not 0 < megasamples_per_s < np.inf:
        raise InputError(f"megasamples_per_s must be more than 0 and finite, got {megasamples_per_s:g}")
    return megasamples_per_s * 1e6


def _node(node_nm: float) -> float:
    if not 7 <= node_nm <= 130:
        raise InputError(f"node_nm must be between 7 and 130 nm, got {node_nm:g}; the scaling table ends there")
    return node_nm
