"""What bit-slice training takes from the hardware, and on which hardware it would earn nothing: asked before it trains."""

from collections.abc import Mapping
from typing import Any

from picojoule.compress.bitslice_config import Polarities
from picojoule.compress.bitslice_slices import CELL_BITS
from picojoule.reram.crossbar import Encoding
from picojoule.reram.spec import NEEDED, ReramSpec, SignedInputs
from picojoule.sim.errors import UnsupportedError
from picojoule.sim.protocol import HardwareSpec

PRESET = "isaac-differential-2b"


def settled(hardware: HardwareSpec, settings: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the settings with `tile_rows`, `encoding` and `adc_model` from the hardware where they are open, and warnings.

    Raises:
        UnsupportedError: unless the hardware has crossbars of 2-bit cells whose zero weights are empty cells.

    """
    spec = _crossbars(hardware)
    taken = {
        "tile_rows": spec.rows_active or spec.crossbar_rows,
        "encoding": Polarities(spec.encoding.value).value,
        "adc_model": spec.adc_model.value,
    }
    return {**taken, **settings}, tuple(_warnings(spec))


def name_of(hardware: HardwareSpec) -> str:
    """Return what sentences call a design."""
    return hardware.name or hardware.kind


def _crossbars(hardware: HardwareSpec) -> ReramSpec:
    name = name_of(hardware)
    if not isinstance(hardware, ReramSpec):
        raise UnsupportedError(
            f"method 'bitslice' saves ADC bits of crossbars and {name} has no crossbars; use {PRESET}, or method 'lsq'"
        )
    if hardware.encoding not in (Encoding.DIFFERENTIAL, Encoding.SPLIT):
        raise UnsupportedError(
            f"method 'bitslice' saves ADC bits where zero slices are empty cells, and the {hardware.encoding.value} encoding of "
            f"{name} fills them; use encoding differential or split with adc_bits needed, as {PRESET} has"
        )
    if hardware.cell_bits != CELL_BITS:
        raise UnsupportedError(
            f"method 'bitslice' trains slices of {CELL_BITS} bits, and the cells of {name} hold {hardware.cell_bits}; "
            f"use cell_bits {CELL_BITS}, as {PRESET} has"
        )
    return hardware


def _warnings(spec: ReramSpec) -> list[str]:
    name, said = name_of(spec), []
    if spec.adc_bits != NEEDED:
        said.append(
            f"{name} has fixed adc_bits, so trained weights cannot make its ADCs cheaper; price them with adc_bits needed"
        )
    if spec.dac_bits > 1:
        said.append(
            f"training counts column sums for pulses of 1 bit, and {name} has dac_bits {spec.dac_bits}: its ADCs need about "
            f"{spec.dac_bits} bits more"
        )
    if spec.signed_inputs is SignedInputs.BIPOLAR:
        said.append(
            f"training bounds the columns of each sign apart, and {name} has bipolar pulses, under which both signs add: "
            "layers whose inputs have a sign may need a bit more"
        )
    if spec.rows_active is not None and spec.rows_active < spec.crossbar_rows:
        said.append(
            f"training cuts columns into equal parts of at most {spec.rows_active} rows, {name} cuts each crossbar's rows so: "
            "the ADC bits in the report are the ones that count"
        )
    return said
