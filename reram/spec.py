"""The hardware description of a ReRAM accelerator; `presets/isaac.yaml` is ISAAC (Shafiee et al., ISCA 2016).

Crossbars with their converters form in-situ multiply-accumulate units (IMAs), IMAs with an eDRAM buffer and a digital
unit form tiles, tiles form chips. Every key has ISAAC's value as its default. The node is fixed at 32 nm, because the
component constants are ISAAC's.
"""

from enum import StrEnum
from typing import Literal, Self

from pydantic import Field, model_validator

from picojoule.reram.crossbar import CrossbarSpec, Encoding
from picojoule.sim.errors import InfeasibleError, UnsupportedError
from picojoule.sim.formats import FormatKind, NumberFormat, integer_format
from picojoule.sim.protocol import HardwareSpec

NODE_NM = 32.0
MOST_BITS = 16
"""Widest weight or input that crossbars take (ISAAC's native width and the limit of `CrossbarSpec`)."""


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


class Replication(StrEnum):
    """What is done with crossbars that are left over."""

    NONE = "none"
    """Every weight is stored once."""
    BALANCED = "balanced"
    """Copies of the slowest layer, one after the other, until the chips are full: positions are shared among copies."""


class DynamicMatmul(StrEnum):
    """What multiplies two activations, whose values no crossbar holds."""

    DIGITAL = "digital"
    """The tile's digital unit."""
    HOST = "host"
    """The host."""
    WRITE = "write"
    """Crossbars, written anew for each product (refused: no constant here prices writing)."""


class PowerPolicy(StrEnum):
    """Which power flows for as long as the network runs."""

    USED_TILES = "used_tiles"
    """Leakage of the tiles that hold the network; the off-chip link is charged by the bit."""
    WHOLE_CHIP = "whole_chip"
    """Leakage of all tiles of the chips, and the always-on HyperTransport links (nothing by the bit)."""
    DYNAMIC_ONLY = "dynamic_only"
    """None; the off-chip link is charged by the bit."""


class ReramSpec(HardwareSpec):
    """A ReRAM accelerator. Sources: ISAAC's component table unless a key says otherwise."""

    kind: Literal["reram"] = Field(default="reram", description="entry point of the accelerator class")
    encoding: Encoding = Field(
        default=Encoding.FLIP,
        strict=False,
        description="how signed weights lie in cells; differential and split take two crossbars for one",
    )
    cell_bits: int = Field(default=2, ge=1, le=8, description="bits of a cell")
    crossbar_rows: int = Field(default=128, ge=1, le=4096, description="wordlines of a crossbar")
    crossbar_cols: int = Field(default=128, ge=1, le=4096, description="bitlines of a crossbar")
    dac_bits: int = Field(default=1, ge=1, le=8, description="input bits a wordline pulse carries; 1 is bit serial")
    signed_inputs: SignedInputs = Field(
        default=SignedInputs.SIGN_STEP, strict=False, description="how inputs with a sign are streamed"
    )
    adc_bits: int = Field(
        default=8, ge=1, le=16, description="resolution of the ADCs; ISAAC's 8 lose nothing with flip and 1-bit pulses"
    )
    adc_range: AdcRange = Field(default=AdcRange.EXACT, strict=False, description="which column sums the codes span")
    adc_megasamples_per_s: float = Field(default=1280.0, gt=0, le=1e5, description="conversions of one ADC, 10^6/s")
    crossbars_per_ima: int = Field(default=8, ge=1, le=1024, description="crossbars of an IMA")
    adcs_per_ima: int = Field(default=8, ge=1, le=1024, description="ADCs of an IMA, shared by its columns")
    imas_per_tile: int = Field(default=12, ge=1, le=1024, description="IMAs of a tile")
    tiles_per_chip: int = Field(default=168, ge=1, le=65536, description="tiles of a chip")
    read_ns: float = Field(default=100.0, gt=0, le=1e6, description="shortest time of one crossbar read")
    pipeline_reads: int = Field(
        default=6,
        ge=0,
        le=1000,
        description="reads' time a result spends before and after the crossbar (ISAAC's pipeline of 22 has 16 reads)",
    )
    clock_mhz: float = Field(default=1200.0, gt=0, le=1e5, description="clock of the digital parts")
    weight_bits: int = Field(default=16, ge=2, le=MOST_BITS, description="width of weights without a format")
    activation_bits: int = Field(default=16, ge=2, le=MOST_BITS, description="width of inputs without a format")
    edram_kib: float = Field(default=64.0, gt=0, le=1 << 20, description="buffer of a tile")
    edram_bits_per_cycle: int = Field(default=256, ge=1, le=1 << 16, description="width of a tile's buffer and bus")
    vector_lanes: int = Field(
        default=8,
        ge=1,
        le=1 << 16,
        description="16-bit multiply-add lanes of a tile; ours: ISAAC's digital unit has sigmoid and pooling only",
    )
    replication: Replication = Field(default=Replication.NONE, strict=False, description="use of spare crossbars")
    dynamic_matmul: DynamicMatmul = Field(
        default=DynamicMatmul.DIGITAL, strict=False, description="what multiplies two activations"
    )
    power_policy: PowerPolicy = Field(
        default=PowerPolicy.USED_TILES, strict=False, description="which power flows all the time"
    )

    @model_validator(mode="after")
    def _signed_adc(self) -> Self:
        signed = self.encoding is Encoding.DIFFERENTIAL or self.signed_inputs is SignedInputs.BIPOLAR
        if signed and self.adc_bits < 2:
            raise ValueError("adc_bits must be at least 2 where column sums have a sign (differential, bipolar)")
        return self

    @property
    def native_weight(self) -> NumberFormat:
        """Format of weights that nothing else sets."""
        return integer_format(self.weight_bits)

    @property
    def native_activation(self) -> NumberFormat:
        """Format of activations that nothing else sets."""
        return integer_format(self.activation_bits)

    @property
    def read_s(self) -> float:
        """Time of one read: the array settles while the ADCs convert the columns of the read before."""
        columns_per_adc = self.crossbars_per_ima * self.crossbar_cols / self.adcs_per_ima
        return max(self.read_ns * 1e-9, columns_per_adc / (self.adc_megasamples_per_s * 1e6))

    @property
    def polarities(self) -> int:
        """Crossbars that share a weight: two where positive and negative cells exist."""
        return 1 if self.encoding in (Encoding.OFFSET, Encoding.FLIP) else 2

    @property
    def crossbars_per_tile(self) -> int:
        """Crossbars of a tile."""
        return self.crossbars_per_ima * self.imas_per_tile


def weight_width(form: NumberFormat, where: str) -> int:
    """Return the bits of a weight as crossbars store it, its sign included.

    Ternary and binary weights are 2-bit integers; unsigned ones need a bit more for the sign all encodings provide.

    Raises:
        UnsupportedError: for formats that are not integers.
        InfeasibleError: for more than 16 bits.

    """
    return _width(form, form.bits if form.signed else form.bits + 1, f"{where}: weights in {form}")


def input_width(form: NumberFormat, where: str) -> tuple[int, bool]:
    """Return the bits of an input as it is streamed, and whether one of them is a sign; errors as `weight_width`."""
    return _width(form, form.bits, f"{where}: inputs in {form}"), form.signed


def _width(form: NumberFormat, bits: int, what: str) -> int:
    if not form.is_integer:
        raise UnsupportedError(f"{what} cannot be multiplied here, crossbars take integers; use int2 to int{MOST_BITS}")
    if form.kind in (FormatKind.TERNARY, FormatKind.BINARY) or (form.signed and bits < 2):
        return 2
    if bits > MOST_BITS:
        raise InfeasibleError(f"{what} have {bits} bits but crossbars take at most {MOST_BITS}; quantise to fewer")
    return bits


def slices_of(spec: ReramSpec, weight_bits: int) -> int:
    """Return the cells that hold one weight (one polarity of it): magnitudes leave out the sign."""
    return -(-(weight_bits - (spec.polarities - 1)) // spec.cell_bits)


def steps_of(spec: ReramSpec, input_bits: int, signed: bool) -> int:
    """Return the reads that stream one input."""
    if not signed:
        return -(-input_bits // spec.dac_bits)
    return -(-(input_bits - 1) // spec.dac_bits) + (spec.signed_inputs is SignedInputs.SIGN_STEP)


def crossbar_spec(spec: ReramSpec, weight_bits: int, input_bits: int, signed_inputs: bool) -> CrossbarSpec:
    """Return the arithmetic of this design's crossbars for weights and (bipolar, if signed) inputs of some bits."""
    magnitude = input_bits - signed_inputs
    pulse_bits = min(spec.dac_bits, magnitude)
    made = CrossbarSpec(
        encoding=spec.encoding,
        weight_bits=weight_bits,
        slices=slices_of(spec, weight_bits),
        cell_max=(1 << spec.cell_bits) - 1,
        input_bits=input_bits,
        signed_inputs=signed_inputs,
        input_bits_per_step=pulse_bits,
        adc_bits=spec.adc_bits,
        tile_rows=spec.crossbar_rows,
        tile_cols=spec.crossbar_cols,
    )
    if spec.adc_range is AdcRange.EXACT:
        return made
    # The converter's span is that of the widest pulse, whatever the pulse of this stream; flip keeps to half of it.
    rows = spec.crossbar_rows / (2 if spec.encoding is Encoding.FLIP else 1)
    return made.replace(adc_hi=rows * ((1 << spec.dac_bits) - 1) / made.pulse_max)
