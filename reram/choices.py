"""What the words in a ReRAM accelerator's hardware file mean."""

from enum import StrEnum


class SignedInputs(StrEnum):
    """How an input with a sign is streamed."""

    SIGN_STEP = "sign_step"
    """Two's complement; the sign bit is a step of its own, whose codes are subtracted (ISAAC)."""
    BIPOLAR = "bipolar"
    """Magnitudes as pulses of both polarities; column sums have a sign, so the ADC needs one too."""


class AdcRange(StrEnum):
    """Which column sums the ADC's codes span."""

    EXACT = "exact"
    """One code per cell unit; sums beyond the last code clip."""
    FULL = "full"
    """The largest sum of a whole column; smaller ADCs round."""
    CALIBRATED = "calibrated"
    """The sums that calibration data make, but for the share above `adc_percentile`; smaller ADCs round."""


class AdcBuild(StrEnum):
    """When the resolution of a conversion is decided."""

    DESIGN_TIME = "design_time"
    """ADCs are built for a slice: one width per slice for all tiles, the ADCs of an IMA shared equally by the slices."""
    RUN_TIME = "run_time"
    """All ADCs are built as wide as the widest slice and stop early: a conversion takes the cycles that its tile and slice need,
    each at the power of the full width."""


class Replication(StrEnum):
    """What is done with crossbars that are left over."""

    NONE = "none"
    """Every weight is stored once."""
    BALANCED = "balanced"
    """Copies of the slowest layer, one after the other, which share its positions; as many as shorten the interval between
    batches, buses, routers and links included, so not always until the chips are full."""


class DynamicMatmul(StrEnum):
    """What multiplies two activations, whose values no crossbar holds."""

    DIGITAL = "digital"
    """The tile's digital unit."""
    HOST = "host"
    """The host."""
    WRITE = "write"
    """Crossbars, written anew for each product, rows one after the other; wears the cells."""


class PowerPolicy(StrEnum):
    """Which power flows for as long as the network runs."""

    USED_TILES = "used_tiles"
    """Leakage of the tiles that hold the network; the off-chip link is charged by the bit."""
    WHOLE_CHIP = "whole_chip"
    """All of the chips, clocked: leakage of the tiles in use, the share of busy power that idle parts draw (their leakage is in
    it), the always-on HyperTransport links (nothing by the bit). An upper figure."""
    DYNAMIC_ONLY = "dynamic_only"
    """None; the off-chip link is charged by the bit."""
