"""Which number formats the PEs of a `pe_format` multiply, how wide their registers are, and what a product costs there.

| pe_format | weights | activations | widths |
| --- | --- | --- | --- |
| integer | integer, ternary, binary, bit planes | as weights | weight_bits, activation_bits |
| float | floats whose exponent and mantissa fit | as weights | of float_format, twice |
| ternary | ternary, binary | integers | 2 bits, activation_bits |
| binary | binary | integers | 1 bit, activation_bits |
| power_of_two | powers of two | integers | weight_bits, activation_bits |
| block_float | block floats; blocks are whole multiples of 16 elements | as weights | weight_bits, activation_bits |

Float PEs and the ends of blocks add in fp32; the others in wrapping integers of accumulator_bits. A block float's exponent (8
bits) travels with its mantissas: in registers and in the price of a MAC half a bit each, as of full blocks of 16; in SRAM and
DRAM as the numerics cut blocks (`exponent_share`: along the channels of a group, so that a depthwise convolution has one per
element). Whether operands fit an SRAM goes by mantissas. A product of two activations needs PEs whose weights have the
activations' format. Prices: `sim.technology.mac_formats`, integers `sim.technology.arithmetic`; all from the 45 nm table.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from picojoule.accel.systolic.bit_planes import plane_area_um2, plane_mac_energy_pj
from picojoule.accel.systolic.spec import SystolicSpec
from picojoule.sim import technology as tech
from picojoule.sim.attributes import RecurrentAttributes
from picojoule.sim.errors import InfeasibleError, InputError, UnsupportedError
from picojoule.sim.formats import FormatKind, Granularity, NumberFormat, integer_format, parse_format
from picojoule.sim.ir import Layer
from picojoule.sim.protocol import Arithmetic
from picojoule.sim.recurrence import state_format

PE_BLOCK = 16
"""Elements of a block float that share an exponent, as in Microsoft's MSFP (Darvish Rouhani et al., NeurIPS 2020)."""
_EXPONENT_BITS = 8
_FP32_BITS = 32

_INTEGERS = frozenset({FormatKind.INTEGER, FormatKind.TERNARY, FormatKind.BINARY, FormatKind.BIT_PLANE})
_RUNS: dict[str, tuple[frozenset[FormatKind], frozenset[FormatKind]]] = {
    "integer": (_INTEGERS, _INTEGERS),
    "float": (frozenset({FormatKind.FLOAT}), frozenset({FormatKind.FLOAT})),
    "ternary": (frozenset({FormatKind.TERNARY, FormatKind.BINARY}), _INTEGERS),
    "binary": (frozenset({FormatKind.BINARY}), _INTEGERS),
    "power_of_two": (frozenset({FormatKind.POWER_OF_TWO}), _INTEGERS),
    "block_float": (frozenset({FormatKind.BLOCK_FLOAT}), frozenset({FormatKind.BLOCK_FLOAT})),
}
"""Kinds of weights and of activations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeWidths:
    """Bits that a PE's registers hold of a weight, an activation and a sum."""

    weight: float
    activation: float
    accumulator: float


def check_pe_format(spec: SystolicSpec) -> None:
    """Refuse combinations of keys that no PE has.

    Raises:
        InputError: naming them.

    """
    kind, name = spec.pe_format, spec.name or spec.kind
    if kind != "integer" and spec.precision != "fixed":
        raise InputError(
            f"{name}: precision={spec.precision} takes integers apart, but pe_format is {kind}; use precision: fixed"
        )
    if kind in ("float", "block_float") and spec.accumulator_bits != _FP32_BITS:
        raise InputError(
            f"{name}: accumulator_bits must be 32 for pe_format {kind}, which adds in fp32, got {spec.accumulator_bits}"
        )
    if kind == "power_of_two" and spec.weight_bits > 16:
        raise InputError(f"{name}: weight_bits must be at most 16 for pe_format {kind}, got {spec.weight_bits}")
    if kind != "integer" and spec.datapath_energy == "toggles":
        raise InputError(f"{name}: datapath_energy=toggles counts bits of integers, but pe_format is {kind}")
    if spec.precision in ("bit_serial", "bit_plane") and spec.datapath_energy == "toggles":
        raise InputError(
            f"{name}: datapath_energy=toggles prices the flips of a multiplier, which precision={spec.precision} has not; use "
            "datapath_energy: average"
        )


def pe_widths(spec: SystolicSpec) -> PeWidths:
    """Return the register widths of the PEs; a block float's hold their share of its exponent."""
    weight, activation = float(spec.weight_bits), float(spec.activation_bits)
    match spec.pe_format:
        case "float":
            weight = activation = float(parse_format(spec.float_format).bits)
        case "ternary":
            weight = 2.0
        case "binary":
            weight = 1.0
        case "block_float":
            weight, activation = weight + _EXPONENT_BITS / PE_BLOCK, activation + _EXPONENT_BITS / PE_BLOCK
    return PeWidths(weight=weight, activation=activation, accumulator=float(spec.accumulator_bits))


# --- formats ------------------------------------------------------------------------------------------------------------


def native_formats(spec: SystolicSpec) -> tuple[NumberFormat, NumberFormat]:
    """Return weight format (a scale per output channel, where it has scales) and activation format where nothing sets another."""
    channel = Granularity.CHANNEL
    activation = integer_format(max(2, spec.activation_bits))
    match spec.pe_format:
        case "float":
            form = parse_format(spec.float_format)
            return form, form
        case "ternary" | "binary":
            return parse_format(spec.pe_format, per="channel"), activation
        case "power_of_two":
            return parse_format(f"pow2_{spec.weight_bits}"), activation
        case "block_float":
            weight, activation = (
                parse_format(f"bfp{bits}_b{PE_BLOCK}") for bits in (spec.weight_bits, spec.activation_bits)
            )
            return weight, activation
    return integer_format(max(2, spec.weight_bits), per=channel), activation


def operand_formats(layer: Layer, spec: SystolicSpec) -> tuple[NumberFormat, NumberFormat]:
    """Return (format of operand 1, format of operand 0) of a MAC layer, checked against the PEs.

    Raises:
        UnsupportedError: for a kind of numbers that the PEs do not multiply.
        InfeasibleError: for more bits than the PEs have.

    """
    native_weight, native_activation = native_formats(spec)
    activation = layer.operands[0].format or native_activation
    if isinstance(layer.attributes, RecurrentAttributes):
        activation = state_format(layer.attributes, activation)
    weight = layer.operands[1].format or (native_weight if layer.parameters else native_activation)
    both_integer = native_weight.kind is FormatKind.INTEGER
    if not layer.parameters and both_integer and weight == native_activation and (weight.bits > native_weight.bits):
        weight = integer_format(native_weight.bits)  # the second activation of a product enters where weights do
    check_operands(layer.name, weight, activation, spec)
    return weight, activation


def check_operands(layer_name: str, weight: NumberFormat, activation: NumberFormat, spec: SystolicSpec) -> None:
    """Refuse formats that the PEs cannot multiply; errors as `operand_formats`."""
    for what, form, kinds in zip(("weight", "activation"), (weight, activation), _RUNS[spec.pe_format], strict=True):
        where = f"layer '{layer_name}': {what} format {form}"
        if form.kind not in kinds:
            raise UnsupportedError(
                f"{where} does not run on the {_plain(spec)} PEs of '{spec.name or spec.kind}'; {_remedy(what, form, spec)}"
            )
        _check_width(where, what, form, spec)


def _check_width(where: str, what: str, form: NumberFormat, spec: SystolicSpec) -> None:
    own = f"the PEs of '{spec.name or spec.kind}'"
    if form.kind is FormatKind.FLOAT:
        pe = parse_format(spec.float_format)
        if (form.exponent_bits or 0) > (pe.exponent_bits or 0) or (form.mantissa_bits or 0) > (pe.mantissa_bits or 0):
            raise InfeasibleError(
                f"{where} does not fit the {spec.float_format} of {own}; set float_format to a wider one or cast to {pe}"
            )
        return
    if form.kind is FormatKind.BLOCK_FLOAT and (form.block or 0) % PE_BLOCK:
        raise UnsupportedError(
            f"{where} has blocks of {form.block} but {own} share an exponent among {PE_BLOCK}; use multiples of {PE_BLOCK}"
        )
    key = f"{what}_bits"
    widths = {"ternary": 2, "binary": 1} if what == "weight" else {}
    bits = widths.get(spec.pe_format, getattr(spec, key))
    if form.bits > bits:
        raise InfeasibleError(
            f"{where} needs {form.bits} bits but {own} have {bits}; set {key}={form.bits} or use fewer bits"
        )


def _plain(spec: SystolicSpec) -> str:
    return spec.pe_format.replace("_", "-")


def _remedy(what: str, form: NumberFormat, spec: SystolicSpec) -> str:
    """Return what a user can do about a format of the wrong kind."""
    native = native_formats(spec)[0 if what == "weight" else 1]
    fits = [kind for kind, runs in _RUNS.items() if form.kind in runs[0] and form.kind in runs[1]]
    if spec.pe_format == "integer":
        return f"quantise it to at most {native}"
    return f"use {native}" + (f" or set pe_format={fits[0]}" if fits else "")


def arithmetic_of(layer: Layer, spec: SystolicSpec) -> Arithmetic:
    """Return how the PEs compute a MAC layer, for the executor; errors as `operand_formats`.

    Integers (ternary, binary, bit planes) exactly, in wrapping accumulators; floats, block floats and powers of two as values
    rounded to their format, whose products are added in float32 (an fp32 accumulator's order of additions is not followed).
    """
    weight, activation = operand_formats(layer, spec)
    if weight.is_integer and activation.is_integer:
        bits = spec.accumulator_bits
        note = f"{weight} x {activation}, {bits}-bit accumulators"
        return Arithmetic(weight=weight, activation=activation, accumulator_bits=bits, note=note)
    note = f"{weight} x {activation}, added in floating point"
    return Arithmetic(weight=weight, activation=activation, note=note)


def exponent_share(form: NumberFormat, channels: int) -> float:
    """Return the bits that block exponents add to a stored element, with `channels` of them in a line; 0 for other formats.

    Blocks are cut along the channels that are summed; the last may be short, and a single channel has an exponent of its own.
    """
    if form.kind is not FormatKind.BLOCK_FLOAT or not form.block:
        return 0.0
    return -(-channels // form.block) * (form.exponent_bits or 0) / channels


# --- prices -------------------------------------------------------------------------------------------------------------


def mac_energy(spec: SystolicSpec, weight_bits: int, activation_bits: int) -> tech.OperationEnergy:
    """Return the energy of one product and its addition, at the operands' widths where the PEs can use them, else at the PEs'.

    bit_serial: for each weight bit the activation, or nothing, is added to the sum. bit_plane: `bit_planes`. decomposable: a
    multiplier of the operands' width; what puts its parts together is left out.
    """
    if spec.precision == "fixed":
        weight_bits, activation_bits = spec.weight_bits, spec.activation_bits
    if spec.precision == "bit_serial":
        return _serial_energy(weight_bits, spec.activation_bits, spec.accumulator_bits, spec.node_nm)
    if spec.precision == "bit_plane":
        return _plane_energy(weight_bits, activation_bits, spec.plane_lanes, spec.accumulator_bits, spec.node_nm)
    return _energy(_circuit(spec), weight_bits, activation_bits, spec.accumulator_bits, spec.node_nm)


def mac_area(spec: SystolicSpec) -> tuple[str, float]:
    """Return the area of a PE's arithmetic in um2, and the constant it is mostly proportional to."""
    if spec.precision == "bit_serial":
        return _area("binary", 1, spec.activation_bits, spec.accumulator_bits, spec.node_nm)
    if spec.precision == "bit_plane":
        key = tech.product_key("mac.int8.multiply.area.45nm", tech.logic_area_key(45, spec.node_nm))
        return key, plane_area_um2(spec.plane_lanes, spec.accumulator_bits, spec.node_nm)
    return _area(_circuit(spec), spec.weight_bits, spec.activation_bits, spec.accumulator_bits, spec.node_nm)


def _circuit(spec: SystolicSpec) -> str:
    return spec.float_format if spec.pe_format == "float" else spec.pe_format


@lru_cache(maxsize=1024)
def _serial_energy(weight: int, activation: int, accumulator: int, node: float) -> tech.OperationEnergy:
    """Return the energy of adding the activation, as wide as the PE's, once per weight bit."""
    step = tech.signed_add_energy_pj(activation, accumulator, node)
    return tech.OperationEnergy(
        energy_pj=weight * step.energy_pj,
        energy_by_constant={key: weight * pj for key, pj in step.energy_by_constant.items()},
        extrapolated=step.extrapolated,
    )


@lru_cache(maxsize=1024)
def _plane_energy(weight: int, activation: int, lanes: int, accumulator: int, node: float) -> tech.OperationEnergy:
    parts = plane_mac_energy_pj(weight, activation, lanes, accumulator, node)
    return tech.OperationEnergy(
        energy_pj=np.asarray(sum(parts.values())),
        energy_by_constant={key: np.asarray(pj) for key, pj in parts.items()},
        extrapolated=np.asarray(False),
    )


@lru_cache(maxsize=1024)
def _energy(circuit: str, weight: int, activation: int, accumulator: int, node: float) -> tech.OperationEnergy:
    match circuit:
        case "integer":
            return tech.multiply_add_energy_pj(weight, activation, accumulator, node)
        case "ternary" | "binary":
            return tech.signed_add_energy_pj(activation, accumulator, node)
        case "power_of_two":
            return tech.shift_add_energy_pj(weight, activation, accumulator, node)
        case "block_float":
            return tech.block_float_energy_pj(weight, activation, PE_BLOCK, node)
    return tech.float_law_energy_pj(parse_format(circuit).mantissa_bits or 0, 23, node)


@lru_cache(maxsize=1024)
def _area(circuit: str, weight: int, activation: int, accumulator: int, node: float) -> tuple[str, float]:
    key = "mac.int32.add.area.45nm"
    match circuit:
        case "integer":
            key = "mac.int8.multiply.area.45nm"
            area = tech.multiply_add_area_um2(weight, activation, accumulator, node)
        case "ternary" | "binary":
            area = tech.signed_add_area_um2(activation, accumulator, node)
        case "power_of_two":
            area = tech.shift_add_area_um2(weight, activation, accumulator, node)
        case "block_float":
            key = "mac.int8.multiply.area.45nm"
            area = tech.block_float_area_um2(weight, activation, PE_BLOCK, node)
        case _:
            key = "mac.fp32.add.area.45nm"
            area = tech.float_law_area_um2(parse_format(circuit).mantissa_bits or 0, 23, node)
    return tech.product_key(key, tech.logic_area_key(45, node)), float(area)
