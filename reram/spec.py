"""The hardware description of a ReRAM accelerator; `presets/isaac.yaml` is ISAAC (Shafiee et al., ISCA 2016).

Crossbars with their converters form in-situ multiply-accumulate units (IMAs), IMAs with an eDRAM buffer and a digital
unit form tiles, tiles form chips. Every key has ISAAC's value as its default. The component constants are ISAAC's, at
32 nm; `node_nm` carries them to another node (`technology.py`). What the choices mean: `choices.py`.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from picojoule.reram.adc_models import AdcModel
from picojoule.reram.choices import AdcBuild, AdcRange, DynamicMatmul, PowerPolicy, Replication, SignedInputs
from picojoule.reram.crossbar import CrossbarSpec, Encoding
from picojoule.reram.devices import DeviceSpec
from picojoule.reram.periphery_keys import PeripheryKeys, check_periphery
from picojoule.reram.spec_checks import MOST_BITS, NEEDED, check_adc_bits, check_device, check_names
from picojoule.sim.errors import InfeasibleError, UnsupportedError
from picojoule.sim.formats import FormatKind, NumberFormat, integer_format

__all__ = [
    "MOST_BITS",
    "NEEDED",
    "AdcBuild",
    "AdcModel",
    "AdcRange",
    "DynamicMatmul",
    "PowerPolicy",
    "Replication",
    "ReramSpec",
    "SignedInputs",
    "adc_bits_of",
    "crossbar_spec",
    "input_width",
    "slices_of",
    "steps_of",
    "stored_bits",
    "weight_width",
]

AdcBits = Annotated[int | tuple[int, ...] | Literal["needed"], BeforeValidator(check_adc_bits)]


class ReramSpec(PeripheryKeys):
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
    adc_bits: AdcBits = Field(
        default=8,
        description="resolution of the ADCs, or one per slice (least significant first), or `needed`: what the network's "
        "weights ask for; ISAAC's 8 lose nothing with flip and 1-bit pulses",
    )
    adc: AdcBuild = Field(
        default=AdcBuild.DESIGN_TIME, strict=False, description="when the resolution of a conversion is decided"
    )
    adc_model: AdcModel = Field(
        default=AdcModel.ISAAC_SAR, strict=False, description="law of the converters' energy, area and time"
    )
    adc_percentile: float = Field(
        default=100.0,
        ge=50,
        le=100,
        description="share of columns (`needed`) or of column sums (`calibrated`) that must not clip, percent",
    )
    adc_range: AdcRange = Field(default=AdcRange.EXACT, strict=False, description="which column sums the codes span")
    adc_megasamples_per_s: float = Field(default=1280.0, gt=0, le=1e5, description="conversions of one ADC, 10^6/s")
    rows_active: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        description="wordlines on at once, all by default; a crossbar is read in groups of so many",
    )
    device: Annotated[DeviceSpec | None, BeforeValidator(check_device)] = Field(
        default=None, description="imperfections of cells and wires; none by default"
    )
    write_pj_per_cell: float = Field(
        default=20.0, gt=0, le=1e6, description="energy of one write pulse: (2 V)^2 / 10 kohm for 50 ns, an estimate"
    )
    write_ns: float = Field(default=50.0, gt=0, le=1e9, description="length of a write pulse (set pulses: 40-50 ns)")
    write_pulses: float = Field(
        default=8.5, ge=1, le=1e4, description="pulses of write-verify until a cell holds its level, an estimate"
    )
    endurance_writes: float = Field(
        default=1e8, ge=1, le=1e18, description="writes that wear a cell out: published 1e6 to 1e12, an estimate"
    )
    crossbars_per_ima: int = Field(default=8, ge=1, le=1024, description="crossbars of an IMA")
    adcs_per_ima: int = Field(default=8, ge=1, le=1024, description="ADCs of an IMA, shared by its columns")
    imas_per_tile: int = Field(default=12, ge=1, le=1024, description="IMAs of a tile")
    tiles_per_chip: int = Field(default=168, ge=1, le=65536, description="tiles of a chip")
    hypertransport_links: int = Field(
        default=4, ge=0, le=64, description="off-chip links of a chip, 6.4 GB/s each; 0: values arrive for nothing"
    )
    node_nm: float = Field(
        default=32.0, ge=22, le=65, description="process; ISAAC's parts are scaled from 32 nm (SRAM tables: 22-65 nm)"
    )
    read_ns: float = Field(
        default=100.0, gt=0, le=1e6, description="least time of a read: ISAAC's cycle (cells: 1-10 ns)"
    )
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
    router_bits_per_cycle: int = Field(
        default=32, ge=1, le=1 << 16, description="width of a router port (32-bit flits)"
    )
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

    @model_validator(mode="before")
    @classmethod
    def _names(cls, values: Any) -> Any:
        return check_names(values)

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.rows_active is not None and self.rows_active > self.crossbar_rows:
            raise ValueError(
                f"rows_active must be at most crossbar_rows ({self.crossbar_rows}), got {self.rows_active}"
            )
        if self.signed_sums and any(b < 2 for b in self.stated_adc_bits):
            raise ValueError("adc_bits must be at least 2 where column sums have a sign (differential, bipolar)")
        if self.adc_percentile < 100 and self.adc_bits != NEEDED and self.adc_range is not AdcRange.CALIBRATED:
            raise ValueError("adc_percentile below 100 needs adc_bits 'needed' or adc_range 'calibrated'")
        if self.adc_bits == NEEDED and self.adc_range is not AdcRange.EXACT:
            raise ValueError("adc_bits 'needed' counts codes of one cell unit, so adc_range must be 'exact'")
        check_periphery(self)
        return self

    @property
    def signed_sums(self) -> bool:
        """Whether column sums can be negative."""
        return self.encoding is Encoding.DIFFERENTIAL or self.signed_inputs is SignedInputs.BIPOLAR

    @property
    def stated_adc_bits(self) -> tuple[int, ...]:
        """The resolutions that stand in the file; none where the weights decide."""
        if isinstance(self.adc_bits, tuple):
            return self.adc_bits
        return (self.adc_bits,) if isinstance(self.adc_bits, int) else ()

    @property
    def native_weight(self) -> NumberFormat:
        """Format of weights that nothing else sets."""
        return integer_format(self.weight_bits)

    @property
    def native_activation(self) -> NumberFormat:
        """Format of activations that nothing else sets."""
        return integer_format(self.activation_bits)

    @property
    def columns_per_adc(self) -> float:
        """Columns that an ADC converts in each read; pairs that are subtracted before it count once."""
        subtracted = 2 if self.encoding is Encoding.DIFFERENTIAL else 1
        return self.crossbars_per_ima * self.crossbar_cols / self.adcs_per_ima / subtracted

    @property
    def cell_on_ohm(self) -> float | None:
        """Resistance of a cell that is on, if the device says."""
        on_us = None if self.device is None else self.device.resolved().g_max_us
        return None if on_us is None else 1e6 / on_us

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
    return -(-stored_bits(spec, weight_bits) // spec.cell_bits)


def stored_bits(spec: ReramSpec, weight_bits: int) -> int:
    """Return the bits of a weight that its cells hold: all, or those of its magnitude where two polarities exist."""
    return weight_bits - (spec.polarities - 1)


def steps_of(spec: ReramSpec, input_bits: int, signed: bool) -> int:
    """Return the reads that stream one input."""
    if not signed:
        return -(-input_bits // spec.dac_bits)
    return -(-(input_bits - 1) // spec.dac_bits) + (spec.signed_inputs is SignedInputs.SIGN_STEP)


def adc_bits_of(spec: ReramSpec, slices: int) -> tuple[int, ...] | None:
    """Return the resolution for each slice of a weight, least significant first; None where the weights decide.

    Raises:
        InfeasibleError: if `adc_bits` names fewer slices than the weight has.

    """
    if isinstance(spec.adc_bits, int):
        return (spec.adc_bits,) * slices
    if not isinstance(spec.adc_bits, tuple):
        return None
    if len(spec.adc_bits) < slices:
        raise InfeasibleError(
            f"adc_bits names {len(spec.adc_bits)} slices but a weight takes {slices} cells of {spec.cell_bits} bits; "
            f"give {slices} numbers, or use fewer weight bits"
        )
    return spec.adc_bits[:slices]


def crossbar_spec(spec: ReramSpec, weight_bits: int, input_bits: int, signed_inputs: bool) -> CrossbarSpec:
    """Return the arithmetic of this design's crossbars for weights and (bipolar, if signed) inputs of some bits.

    Where the weights decide the ADCs (`needed`), these are the ones that lose nothing whatever the weights.
    """
    magnitude = input_bits - signed_inputs
    pulse_bits = min(spec.dac_bits, magnitude)
    slices = slices_of(spec, weight_bits)
    made = CrossbarSpec(
        encoding=spec.encoding,
        weight_bits=weight_bits,
        slices=slices,
        cell_max=(1 << spec.cell_bits) - 1,
        input_bits=input_bits,
        signed_inputs=signed_inputs,
        input_bits_per_step=pulse_bits,
        adc_bits=spec.adc_bits if isinstance(spec.adc_bits, int) else adc_bits_of(spec, slices) or 8,
        tile_rows=spec.crossbar_rows,
        tile_cols=spec.crossbar_cols,
        rows_active=spec.rows_active,
        device=spec.device,
    )
    if spec.adc_bits == NEEDED:
        return made.with_lossless_adc()
    if spec.adc_range is not AdcRange.FULL:
        return made
    # The converter's span is that of the widest pulse, whatever the pulse of this stream; flip keeps to half of it
    # where a column is read as a whole.
    read = spec.rows_active or spec.crossbar_rows
    rows = read / (2 if spec.encoding is Encoding.FLIP and read == spec.crossbar_rows else 1)
    return made.replace(adc_hi=rows * ((1 << spec.dac_bits) - 1) / made.pulse_max)
