"""Energy and area of multiply-adds, vector operations and registers at any width and node.

Integer multiplication: energy goes as the product of the two operand widths, E = E8 (wb ab / 64)^x, with x = 0.988 so
that 8 x 8 and 32 x 32 bits give Horowitz's 0.2 and 3.1 pJ (b^1.98 for equal widths). Below 8 bits this is an
extrapolation and marked as such. Addition is linear in width (0.1 pJ at 32 bits). `mac_formats.py` has floating point and
PEs without a multiplier. Other nodes follow `scaling.py`. Clock, control and registers around the operator are not in these
numbers.

The two tables (Horowitz 45 nm, Jouppi et al. 7 nm) are never mixed: an energy comes from one of them.
"""

import math
from enum import Enum

import numpy as np
import numpy.typing as npt

from picojoule.sim.errors import InputError, unknown_choice
from picojoule.sim.technology._checks import not_negative
from picojoule.sim.technology.constant import product_key
from picojoule.sim.technology.constants import constant
from picojoule.sim.technology.operation import OperationEnergy, at_node, bits_within, split_by_region
from picojoule.sim.technology.scaling import logic_area_scale, logic_energy_scale, logic_scale_key

__all__ = [
    "ArithmeticTable",
    "OperationEnergy",
    "VectorOperation",
    "chosen_table",
    "integer_parts",
    "logic_leakage_mw",
    "multiply_add_area_um2",
    "multiply_add_energy_pj",
    "register_area_um2",
    "register_energy_pj",
    "register_key",
    "vector_operation_energy_pj",
]

Array = npt.NDArray[np.float64]


class ArithmeticTable(Enum):
    """The published table that energies are taken from; the value is its node in nm."""

    HOROWITZ_45NM = 45
    JOUPPI_7NM = 7


class VectorOperation(Enum):
    """What a lane of a vector unit does to one element."""

    ADD = "add"
    MULTIPLY = "multiply"
    COMPARE = "compare"
    """Maximum, ReLU, pooling: priced as the subtraction it is."""
    TRANSCENDENTAL = "transcendental"
    """exp, tanh, reciprocal, root: six multiply-adds."""


def chosen_table(table: ArithmeticTable | int) -> ArithmeticTable:
    """Return the table of that node; InputError for another."""
    try:
        return ArithmeticTable(table)
    except ValueError:
        choices = [str(t.value) for t in ArithmeticTable]
        raise InputError(unknown_choice("arithmetic table", str(table), choices)) from None


def integer_parts(
    weight: Array, activation: Array, accumulator: Array | None, table: ArithmeticTable
) -> tuple[dict[str, Array], npt.NDArray[np.bool_]]:
    """Return energies at the table's node of a multiplication and, if `accumulator` is given, an addition."""
    suffix = f"{table.value}nm"
    small = constant(f"mac.int8.multiply.{suffix}")
    large = constant(f"mac.int32.multiply.{suffix}")
    exponent = math.log(large.value / small.value) / math.log(16)
    extrapolated = (weight < 8) | (activation < 8)
    multiply_pj = np.asarray(small.value * (weight * activation / 64) ** exponent)
    parts = split_by_region({small.name: multiply_pj}, {"": ~extrapolated, "mac.int.multiply.below_8bit": extrapolated})
    if accumulator is not None:
        add = constant(f"mac.int32.add.{suffix}")
        parts[add.name] = np.asarray(add.value / 32 * accumulator)
    return parts, extrapolated


def multiply_add_energy_pj(
    weight_bits: npt.ArrayLike,
    activation_bits: npt.ArrayLike,
    accumulator_bits: npt.ArrayLike,
    node_nm: npt.ArrayLike,
    *,
    table: ArithmeticTable | int = ArithmeticTable.HOROWITZ_45NM,
) -> OperationEnergy:
    """Return the energy of one integer multiply-add: a weight x activation multiplier and an accumulator-wide adder.

    All four broadcast. At 0.9 V. Formula and source: see the module; marked `extrapolated` where an operand has fewer
    than 8 bits. InputError for operands outside 1-32 bits, accumulators outside 1-64 bits, nodes outside 7-130 nm.
    """
    weight, activation = bits_within("weight", weight_bits, 32), bits_within("activation", activation_bits, 32)
    accumulator = bits_within("accumulator", accumulator_bits, 64)
    chosen = chosen_table(table)
    parts, extrapolated = integer_parts(weight, activation, accumulator, chosen)
    return at_node(parts, node_nm, chosen.value, extrapolated)


def multiply_add_area_um2(
    weight_bits: npt.ArrayLike,
    activation_bits: npt.ArrayLike,
    accumulator_bits: npt.ArrayLike,
    node_nm: npt.ArrayLike,
) -> Array:
    """Return the area in um2 of an integer multiplier and its adder; all four broadcast.

    Horowitz's areas at 45 nm (282 and 3495 um2 for 8 x 8 and 32 x 32 bits, 137 um2 for a 32-bit adder), between them
    as the energies: 282 (wb ab / 64)^0.908 and 137 / 32 a bit. Errors as `multiply_add_energy_pj`.
    """
    weight, activation = bits_within("weight", weight_bits, 32), bits_within("activation", activation_bits, 32)
    accumulator = bits_within("accumulator", accumulator_bits, 64)
    small = constant("mac.int8.multiply.area.45nm").value
    exponent = math.log(constant("mac.int32.multiply.area.45nm").value / small) / math.log(16)
    adder = constant("mac.int32.add.area.45nm").value / 32 * accumulator
    return np.asarray((small * (weight * activation / 64) ** exponent + adder) * logic_area_scale(45, node_nm))


def vector_operation_energy_pj(
    operation: VectorOperation | str, bits: npt.ArrayLike, node_nm: npt.ArrayLike
) -> OperationEnergy:
    """Return the energy of one element-wise integer operation of a vector unit; bits and node broadcast.

    Addition and comparison are Horowitz's adder, multiplication his multiplier, a transcendental function six
    multiply-adds. Reading and writing the operands is counted elsewhere. InputError for an unknown operation, widths
    outside 1-32 bits, nodes outside 7-130 nm.
    """
    try:
        chosen = VectorOperation(operation)
    except ValueError:
        choices = [o.value for o in VectorOperation]
        raise InputError(unknown_choice("vector operation", str(operation), choices)) from None
    width = bits_within("vector element", bits, 32)
    table = ArithmeticTable.HOROWITZ_45NM
    if chosen in (VectorOperation.ADD, VectorOperation.COMPARE):
        add = constant("mac.int32.add.45nm")
        return at_node({add.name: np.asarray(add.value / 32 * width)}, node_nm, 45, np.zeros(width.shape, dtype=bool))
    if chosen is VectorOperation.MULTIPLY:
        parts, extrapolated = integer_parts(width, width, None, table)
        return at_node(parts, node_nm, 45, extrapolated)
    steps = constant("vector.transcendental.steps")
    parts, extrapolated = integer_parts(width, width, np.asarray(2 * width), table)
    steps_pj = {product_key(key, steps.name): steps.value * energy for key, energy in parts.items()}
    return at_node(steps_pj, node_nm, 45, extrapolated)


def register_energy_pj(bits: npt.ArrayLike, node_nm: npt.ArrayLike) -> Array:
    """Return the energy in pJ of clocking `bits` into a register (0.009 pJ a bit at 40 nm, Aladdin); broadcasts.

    InputError for negative or non-finite bits or nodes outside 7-130 nm.
    """
    return np.asarray(
        constant("register.bit.40nm").value * not_negative("register bits", bits) * logic_energy_scale(40, node_nm)
    )


def register_area_um2(bits: npt.ArrayLike, node_nm: npt.ArrayLike) -> Array:
    """Return the area in um2 of a register (5.98 um2 a bit at 40 nm, Aladdin); broadcasts. Errors as the energy."""
    return np.asarray(
        constant("register.bit.area.40nm").value * not_negative("register bits", bits) * logic_area_scale(40, node_nm)
    )


def register_key(node_nm: float) -> str:
    """Return the constants that `register_energy_pj` at this node is proportional to."""
    return product_key("register.bit.40nm", logic_scale_key(40, node_nm))


def logic_leakage_mw(area_mm2: npt.ArrayLike) -> Array:
    """Return the leakage in mW of digital logic: 12.6 mW/mm2, from Aladdin's multiplier at 40 nm; broadcasts.

    The same at all nodes: leakage per area hardly moves (CACTI's high-performance SRAM: 207, 390, 356 mW/mm2 at 65, 45,
    22 nm). The constant is `logic.leakage.40nm`. InputError for a negative or non-finite area.
    """
    return np.asarray(constant("logic.leakage.40nm").value * not_negative("logic area", area_mm2))
