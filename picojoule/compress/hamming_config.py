"""Settings of Hamming-aware training."""

from enum import StrEnum
from typing import Literal, Self

from pydantic import Field, model_validator

from picojoule.compress.hamming_codes import NumberCode
from picojoule.sim.specs import Spec


class Search(StrEnum):
    """How training takes flips into account."""

    NONE = "none"
    BITS = "bits"
    TRELLIS = "trellis"


class HammingConfig(Spec):
    """Settings of Hamming-aware training; the array's keys are taken from the hardware unless they are given."""

    search: Search = Field(
        default=Search.TRELLIS,
        strict=False,
        description="none: plain quantised training; bits: flips in the loss, bits straight-through (Li et al.); trellis: each "
        "port's weights rounded together, along the cheapest path of rounding error and flips",
    )
    strength: float = Field(
        default=0.1,
        ge=0,
        description="what all flips of the network as it starts are worth in the loss; about the loss that may be given for them",
    )
    weight_bits: int = Field(default=8, ge=2, le=8)
    zero_pull: float = Field(
        default=0.0, ge=0, description="trellis: price of a word that is not zero, in squared steps (0: none)"
    )
    weighting: Literal["hardware", "uniform"] = Field(
        default="hardware",
        description="hardware: a flip counts as often as its weight streams; uniform: every layer's flips count the same in all",
    )
    order: Literal["as_is", "segments"] = Field(
        default="as_is",
        description="of output channels, that is trained for: as it comes, or every segment's own (dataflow is)",
    )
    number_code: NumberCode = Field(
        default=NumberCode.TWOS_COMPLEMENT, strict=False, description="of words on the wires"
    )
    dataflow: Literal["is", "os"] = "is"
    rows: int = Field(default=16, ge=1, le=65536)
    cols: int = Field(default=16, ge=1, le=65536)
    refresh_every: int = Field(default=20, ge=1, description="trellis: steps between two searches")
    order_until: float = Field(
        default=0.5, ge=0, le=1, description="orders are found anew at each quarter of training until this part of it"
    )
    ramp: float = Field(default=0.5, ge=0, le=1, description="part of the training in which strength grows from zero")
    epochs: int = Field(default=3, ge=0, description="0: search once, train nothing")
    lr: float = Field(default=1e-3, gt=0)
    batch_size: int = Field(default=128, ge=2)
    weight_decay: float = Field(default=1e-4, ge=0)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _only_channels_are_ordered(self) -> Self:
        if self.order == "segments" and self.dataflow == "os":
            raise ValueError("order segments is for dataflow is; in os the reduction streams, which has one order")
        return self
