"""Energy and area of multiply-adds in other number formats: floats of any width, weights without multipliers, block floats.

- Float: multiplication and addition go as powers of the significand's bits s (mantissa and hidden bit) through the two
  published points, fp16 (s = 11) and fp32 (s = 24): at 45 nm, multiply 1.1 (s / 11)^1.55 pJ, add 0.4 (s / 11)^1.04 pJ. The
  width of the exponent is not charged apart. Not fitted to it, the law gives bf16 at 0.61 (multiply) and 0.72 (add) of fp16;
  the 7 nm column of Jouppi et al. says 0.62 and 0.69.
- Ternary and binary weights: no multiplier. The activation is negated or zeroed (a `mac.select.share` of an adder's bit for
  each of its bits) and added. One product a cycle: popcount trees over many are not modeled.
- Power-of-two weights: a barrel shifter, b - 1 stages of multiplexers for weights of b bits (no more than shift across the
  accumulator), as wide as what leaves it, then the addition.
- Block float: integer mantissas (sign and mantissa) add up exactly over a block; once per block the two exponents are added and
  the sum joins an fp32 accumulator. Both are shared by the block's elements.

Class of the constants: published (Horowitz, Jouppi) where they are anchors, our estimate for `mac.select.share` and
`mac.float.below_fp16`. Energies are of one table, never of two mixed. Registers, clock and control are elsewhere.
"""

import math

import numpy as np
import numpy.typing as npt

from picojoule.sim.technology._checks import within
from picojoule.sim.technology.arithmetic import ArithmeticTable, chosen_table, integer_parts, multiply_add_area_um2
from picojoule.sim.technology.constant import product_key
from picojoule.sim.technology.constants import constant
from picojoule.sim.technology.operation import OperationEnergy, at_node, bits_within, split_by_region
from picojoule.sim.technology.scaling import logic_area_scale

__all__ = [
    "block_float_area_um2",
    "block_float_energy_pj",
    "float_law_area_um2",
    "float_law_energy_pj",
    "shift_add_area_um2",
    "shift_add_energy_pj",
    "signed_add_area_um2",
    "signed_add_energy_pj",
]

Array = npt.NDArray[np.float64]
_FP16, _FP32 = 11.0, 24.0  # bits of the significand
_SELECT = "mac.select.share"
_EXPONENT_BITS = 8


# --- floats -------------------------------------------------------------------------------------------------------------


def _float_law(quantity: str, suffix: str, mantissa_bits: Array) -> Array:
    """Return the value for a mantissa: a power of the significand's bits through fp16 and fp32."""
    half = constant(f"mac.fp16.{quantity}.{suffix}").value
    exponent = math.log(constant(f"mac.fp32.{quantity}.{suffix}").value / half) / math.log(_FP32 / _FP16)
    return np.asarray(half * ((mantissa_bits + 1) / _FP16) ** exponent)


def _mantissa(what: str, values: npt.ArrayLike) -> Array:
    return within(what, "bits", values, 1, 23, "the law ends at fp32")


def float_law_energy_pj(
    mantissa_bits: npt.ArrayLike,
    accumulator_mantissa_bits: npt.ArrayLike,
    node_nm: npt.ArrayLike,
    *,
    table: ArithmeticTable | int = ArithmeticTable.HOROWITZ_45NM,
) -> OperationEnergy:
    """Return the energy of one float multiply-add by the mantissas of operands and accumulator; all broadcast.

    fp32 has 23 mantissa bits, fp16 10, bf16 7, fp8_e4m3 3, fp8_e5m2 2. Marked `extrapolated` below fp16. InputError for
    mantissas outside 1-23 bits or nodes outside 7-130 nm.
    """
    mantissa = _mantissa("mantissa", mantissa_bits)
    accumulator = _mantissa("accumulator mantissa", accumulator_mantissa_bits)
    chosen = chosen_table(table)
    suffix = f"{chosen.value}nm"
    parts: dict[str, Array] = {}
    for quantity, bits in (("multiply", mantissa), ("add", accumulator)):
        below = bits + 1 < _FP16
        regions = {"": ~below, "mac.float.below_fp16": below}
        parts |= split_by_region({f"mac.fp16.{quantity}.{suffix}": _float_law(quantity, suffix, bits)}, regions)
    return at_node(parts, node_nm, chosen.value, (mantissa + 1 < _FP16) | (accumulator + 1 < _FP16))


def float_law_area_um2(
    mantissa_bits: npt.ArrayLike, accumulator_mantissa_bits: npt.ArrayLike, node_nm: npt.ArrayLike
) -> Array:
    """Return the area in um2 of a float multiplier and adder (Horowitz 45 nm), as `float_law_energy_pj`."""
    multiplier = _float_law("multiply.area", "45nm", _mantissa("mantissa", mantissa_bits))
    adder = _float_law("add.area", "45nm", _mantissa("accumulator mantissa", accumulator_mantissa_bits))
    return np.asarray((multiplier + adder) * logic_area_scale(45, node_nm))


# --- weights without multipliers ----------------------------------------------------------------------------------------


def _shifter_bits(weight: Array, activation: Array, accumulator: Array) -> Array:
    """Return the multiplexer bits of a barrel shifter and of the negation before it."""
    stages = np.minimum(weight - 1, np.ceil(np.log2(accumulator)))
    width = np.minimum(accumulator, activation + 2.0 ** (weight - 1) - 2)
    return np.asarray(activation + np.maximum(0.0, stages) * np.maximum(width, activation))


def _selected_add(select_bits: Array, accumulator: Array, node_nm: npt.ArrayLike) -> OperationEnergy:
    add = constant("mac.int32.add.45nm")
    share = constant(_SELECT).value
    parts = {
        add.name: np.asarray(add.value / 32 * accumulator),
        product_key(add.name, _SELECT): np.asarray(add.value / 32 * share * select_bits),
    }
    return at_node(parts, node_nm, 45, np.zeros(np.broadcast_shapes(select_bits.shape, accumulator.shape), dtype=bool))


def _selected_add_area(select_bits: Array, accumulator: Array, node_nm: npt.ArrayLike) -> Array:
    bit_um2 = constant("mac.int32.add.area.45nm").value / 32
    return np.asarray(bit_um2 * (accumulator + constant(_SELECT).value * select_bits) * logic_area_scale(45, node_nm))


def signed_add_energy_pj(
    activation_bits: npt.ArrayLike, accumulator_bits: npt.ArrayLike, node_nm: npt.ArrayLike
) -> OperationEnergy:
    """Return the energy of adding a ternary or binary weight times an activation (45 nm table); all broadcast.

    InputError for activations outside 1-32 bits, accumulators outside 1-64 bits, nodes outside 7-130 nm.
    """
    activation = bits_within("activation", activation_bits, 32)
    return _selected_add(activation, bits_within("accumulator", accumulator_bits, 64), node_nm)


def signed_add_area_um2(
    activation_bits: npt.ArrayLike, accumulator_bits: npt.ArrayLike, node_nm: npt.ArrayLike
) -> Array:
    """Return the area in um2 of what `signed_add_energy_pj` prices; errors as there."""
    activation = bits_within("activation", activation_bits, 32)
    return _selected_add_area(activation, bits_within("accumulator", accumulator_bits, 64), node_nm)


def shift_add_energy_pj(
    weight_bits: npt.ArrayLike,
    activation_bits: npt.ArrayLike,
    accumulator_bits: npt.ArrayLike,
    node_nm: npt.ArrayLike,
) -> OperationEnergy:
    """Return the energy of adding a power-of-two weight times an activation (45 nm table); all broadcast.

    Weights of b bits have a sign and 2^(b-1) - 1 exponents. InputError for weights outside 1-16 bits, activations outside 1-32
    bits, accumulators outside 1-64 bits, nodes outside 7-130 nm.
    """
    weight, activation = bits_within("weight", weight_bits, 16), bits_within("activation", activation_bits, 32)
    accumulator = bits_within("accumulator", accumulator_bits, 64)
    return _selected_add(_shifter_bits(weight, activation, accumulator), accumulator, node_nm)


def shift_add_area_um2(
    weight_bits: npt.ArrayLike,
    activation_bits: npt.ArrayLike,
    accumulator_bits: npt.ArrayLike,
    node_nm: npt.ArrayLike,
) -> Array:
    """Return the area in um2 of what `shift_add_energy_pj` prices; errors as there."""
    weight, activation = bits_within("weight", weight_bits, 16), bits_within("activation", activation_bits, 32)
    accumulator = bits_within("accumulator", accumulator_bits, 64)
    return _selected_add_area(_shifter_bits(weight, activation, accumulator), accumulator, node_nm)


# --- block floats -------------------------------------------------------------------------------------------------------


def _block_sum_bits(weight: Array, activation: Array, block: Array) -> Array:
    return np.minimum(64.0, weight + activation + np.ceil(np.log2(block)))


def _block(values: npt.ArrayLike) -> Array:
    return within("block", "elements", values, 1, 9999)


def block_float_energy_pj(
    weight_bits: npt.ArrayLike, activation_bits: npt.ArrayLike, block: npt.ArrayLike, node_nm: npt.ArrayLike
) -> OperationEnergy:
    """Return the energy of one block-float multiply-add (45 nm table), with its share of the block's; all broadcast.

    Widths are of mantissas with their signs; exponents have 8 bits. Marked `extrapolated` below 8 bits as integer multiplication
    is. InputError for widths outside 1-32 bits, blocks outside 1-9999 elements, nodes outside 7-130 nm.
    """
    weight, activation = bits_within("weight", weight_bits, 32), bits_within("activation", activation_bits, 32)
    size = _block(block)
    sum_bits = _block_sum_bits(weight, activation, size)
    parts, extrapolated = integer_parts(weight, activation, sum_bits, ArithmeticTable.HOROWITZ_45NM)
    join, exponent = constant("mac.fp32.add.45nm"), constant("mac.int8.add.45nm")
    parts[join.name] = np.asarray(join.value / size)
    parts[exponent.name] = np.asarray(exponent.value * _EXPONENT_BITS / 8 / size)
    return at_node(parts, node_nm, 45, extrapolated)


def block_float_area_um2(
    weight_bits: npt.ArrayLike, activation_bits: npt.ArrayLike, block: npt.ArrayLike, node_nm: npt.ArrayLike
) -> Array:
    """Return the area in um2 of what `block_float_energy_pj` prices: a block's adders are shared by its elements."""
    weight, activation = bits_within("weight", weight_bits, 32), bits_within("activation", activation_bits, 32)
    size = _block(block)
    mac = multiply_add_area_um2(weight, activation, _block_sum_bits(weight, activation, size), node_nm)
    shared = constant("mac.fp32.add.area.45nm").value + constant("mac.int8.add.area.45nm").value * _EXPONENT_BITS / 8
    return np.asarray(mac + shared / size * logic_area_scale(45, node_nm))
