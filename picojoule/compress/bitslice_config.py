"""Settings of bit-slice training (`bitslice_training`)."""

from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from picojoule.compress.bitslice_slices import TILE_ROWS
from picojoule.reram.adc_models import AdcModel, adc_energy_pj
from picojoule.sim.specs import Spec
from picojoule.sim.technology.adc_laws import SURVEY_LEAST_BITS


class Penalty(StrEnum):
    """What fine-tuning adds to the loss."""

    NONE = "none"
    L1 = "l1"
    BITSLICE_L1 = "bitslice_l1"
    COLUMNS = "columns"


class Polarities(StrEnum):
    """How the two signs of a weight reach converters: encodings that keep a zero slice's cells empty."""

    DIFFERENTIAL = "differential"
    """Currents are subtracted, then converted with a sign."""
    SPLIT = "split"
    """Each column has a conversion of its own, without a sign."""


def converter_bits(encoding: Polarities, signed_bits: int) -> int:
    """Return the bits of the converter that passes the sums of a signed one (0: none); training counts signed bits."""
    return signed_bits - 1 if encoding is Polarities.SPLIT and signed_bits else signed_bits


def slice_energy_pj(model: AdcModel, encoding: Polarities, signed_bits: int) -> float:
    """Return the energy of converting one slice of a weight column once, both polarities, pJ (32 nm).

    Raises:
        UnsupportedError: for the survey's law below its 4 bits.

    """
    conversions = 2 if encoding is Polarities.SPLIT else 1
    return conversions * float(adc_energy_pj(model, converter_bits(encoding, signed_bits)))


def least_bits(model: AdcModel, encoding: Polarities) -> int:
    """Return the signed bits of the narrowest converter that the law prices; the next step down is no converter."""
    least = SURVEY_LEAST_BITS if model is AdcModel.SURVEY else 1
    return max(2, least + (encoding is Polarities.SPLIT))


class BitsliceConfig(Spec):
    """Settings of bit-slice training."""

    penalty: Penalty = Field(
        default=Penalty.COLUMNS, strict=False, description="none, l1, bitslice_l1 (the paper's) or columns (ours)"
    )
    strength: float = Field(
        default=2e-3, ge=0, description="factor of the penalty (alpha of the paper for l1 and bitslice_l1)"
    )
    budget_pj: float = Field(
        default=2.0, gt=0, description="columns: ADC energy for one conversion of every slice, pJ (32 nm, adc_model)"
    )
    free_scale: bool = Field(default=True, description="columns: choose S too; false keeps ceil(log2 max|w|)")
    shift: int = Field(
        default=0,
        ge=-4,
        le=8,
        description="S is ceil(log2 max|w|) + shift; columns with free_scale: the S chosen + shift",
    )
    adc_model: AdcModel = Field(
        default=AdcModel.ISAAC_SAR,
        strict=False,
        description="columns: the law that prices converters; `compress` takes the hardware's",
    )
    encoding: Polarities = Field(
        default=Polarities.DIFFERENTIAL,
        strict=False,
        description="differential or split: how signs reach converters; `compress` takes the hardware's",
    )
    pretrain_epochs: int = Field(default=0, ge=0, description="phase 1: epochs with plain L1")
    pretrain_strength: float = Field(default=10.0, ge=0, description="phase 1: alpha of plain L1")
    prune_share: float = Field(
        default=0.0, ge=0, lt=1, description="phase 2: share of weights, the smallest, to remove"
    )
    epochs: int = Field(default=5, ge=0, description="phase 3: epochs of fine-tuning")
    lr: float = Field(default=0.05, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    batch_size: int = Field(default=128, ge=2)
    penalty_every: int = Field(default=4, ge=1, description="steps between penalties, each weighted by their number")
    cap_every: int = Field(default=100, ge=1, description="columns: steps between moves to weights that fit")
    tighten: float = Field(default=0.3, ge=0, le=1, description="columns: part of the training in which limits tighten")
    tile_rows: int = Field(
        default=TILE_ROWS, ge=1, description="wordlines read at once; `compress` takes the hardware's"
    )
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _affordable(self) -> Self:
        least = slice_energy_pj(self.adc_model, self.encoding, least_bits(self.adc_model, self.encoding))
        if self.penalty is Penalty.COLUMNS and self.budget_pj < least:
            raise ValueError(
                f"budget_pj must pay for one converter, and the narrowest of {self.adc_model.value} takes {least:.3g} pJ "
                f"({self.encoding.value}), got {self.budget_pj:g}"
            )
        return self
