"""What ISAAC's parts cost per event, per access or by the time, and how that follows the node.

The constants are ISAAC's, 32 nm (`sim/technology/table_crossbar.py`). At another node logic follows Stillmaker and Baas, the
eDRAM the SRAM of the CACTI sweep (there is no eDRAM table), the area of cells F^2. What does not follow the node: the energy of
reading and writing cells (voltage and resistance are the cell's), links between chips (I/O), leakage per mm2, and powers by the
share of busy power. Converters: `adc_models`.
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import cache

from picojoule.sim.cost import AreaItem, Energy
from picojoule.sim.technology import (
    ConstantClass,
    SramCell,
    constant,
    logic_area_key,
    logic_area_scale,
    logic_energy_scale,
    logic_scale_key,
    product_key,
    sram_area_mm2,
    sram_energy_pj,
)

ISAAC_NM = 32.0
OUTPUT_BITS = 16
"""Bits the output registers hold for each output (256 B for the 128 outputs of an IMA)."""
_EDRAM_KIB, _EDRAM_PORT_BITS = 64, 256


class Follows(StrEnum):
    """What a part's cost follows from node to node."""

    LOGIC = "logic"
    MEMORY = "memory"
    CELL = "cell"
    TRANSISTOR = "transistor"
    """The transistors of its node: geometry, capacitance and supply (`periphery`)."""
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentClass:
    """One component of a bill: its constant, how that enters (per event, per access, static), what one event is."""

    component: str
    constant: str
    kind: ConstantClass
    follows: Follows
    event: str


_ROWS = (
    ("adc", "isaac.adc.conversion", Follows.LOGIC, "a conversion, times the converter law's factor for its bits"),
    ("dac", "isaac.dac.drive", Follows.LOGIC, "a wordline driven for one read"),
    ("sample_hold", "isaac.sample_hold.sample", Follows.LOGIC, "a bitline sampled"),
    ("crossbar", "isaac.crossbar.read", Follows.CELL, "128 x 128 cells in use read for 100 ns"),
    ("shift_add", "isaac.shift_add.step", Follows.LOGIC, "two codes, a partial sum or a correction added"),
    ("row_wire", "wire.capacitance", Follows.TRANSISTOR, "a wordline of switched rows charged"),
    ("row_gates", "transistor.gate.charge", Follows.TRANSISTOR, "the gates of a wordline's cells charged"),
    ("row_switch", "transistor.gate.charge", Follows.TRANSISTOR, "the switches of a row opened"),
    ("row_register", "register.bit.40nm", Follows.LOGIC, "a row's input bit clocked"),
    ("multiplexer", "transistor.gate.charge", Follows.TRANSISTOR, "a column put on its ADC"),
    ("accumulator_adder", "mac.int32.add.45nm", Follows.LOGIC, "a bit added behind an ADC"),
    ("accumulator_register", "register.bit.40nm", Follows.LOGIC, "a bit of an accumulator clocked"),
    ("input_register", "isaac.input_register.bit", Follows.LOGIC, "a bit handed to the DACs"),
    ("output_register", "isaac.output_register.bit", Follows.LOGIC, "a bit of a partial result updated"),
    ("edram", "isaac.edram.bit", Follows.MEMORY, "a bit read or written"),
    ("bus", "isaac.bus.bit", Follows.LOGIC, "a bit between eDRAM and units"),
    ("router", "isaac.router.bit", Follows.LOGIC, "a bit into a tile, one hop"),
    ("sigmoid", "isaac.sigmoid.step", Follows.LOGIC, "a result of the sigmoid unit"),
    ("max_pool", "isaac.max_pool.step", Follows.LOGIC, "a comparison of the pooling unit"),
    ("write", "reram.write.pulse", Follows.CELL, "a write pulse on a cell (dynamic_matmul write)"),
    ("link", "link.chip.128bit", Follows.NOTHING, "128 bits between chips (not under whole_chip)"),
    ("spill", "dram.ddr4.bit", Follows.NOTHING, "a bit that no eDRAM holds, to or from memory off the chip"),
    (
        "leakage",
        "logic.leakage.40nm",
        Follows.NOTHING,
        "a mm2 for as long as the network runs (not under dynamic_only)",
    ),
    ("idle", "isaac.idle.share", Follows.NOTHING, "a part's busy power while it is idle (whole_chip only)"),
    ("hypertransport", "isaac.hypertransport.power", Follows.NOTHING, "four links, always on (whole_chip only)"),
)
_FOLLOWS = {name: follows for _, name, follows, _ in _ROWS}


def component_classes() -> tuple[ComponentClass, ...]:
    """Return what every component of a bill is priced by; `vector` and `host` have constants per operation."""
    return tuple(
        ComponentClass(component=part, constant=name, kind=constant(name).kind, follows=follows, event=event)
        for part, name, follows, event in _ROWS
    )


@cache
def energy_scale(follows: Follows, node_nm: float) -> tuple[float, str]:
    """Return the factor of an event's energy from 32 nm to a node, and the constant that carries its doubt ("" for none)."""
    if follows in (Follows.NOTHING, Follows.CELL, Follows.TRANSISTOR) or node_nm == ISAAC_NM:
        return 1.0, ""
    key = logic_scale_key(ISAAC_NM, node_nm)
    if follows is Follows.LOGIC:
        return float(logic_energy_scale(ISAAC_NM, node_nm)), key
    at, base = (float(sram_energy_pj(_EDRAM_KIB, _EDRAM_PORT_BITS, nm, SramCell.HP)) for nm in (node_nm, ISAAC_NM))
    return at / base, key


@cache
def area_scale(follows: Follows, node_nm: float) -> tuple[float, str]:
    """Return the factor of a part's area from 32 nm to a node, and the constant that carries its doubt ("" for none)."""
    if follows is Follows.NOTHING or node_nm == ISAAC_NM:
        return 1.0, ""
    if follows is Follows.CELL:
        return (node_nm / ISAAC_NM) ** 2, ""
    key = logic_area_key(ISAAC_NM, node_nm)
    if follows is Follows.LOGIC:
        return float(logic_area_scale(ISAAC_NM, node_nm)), key
    at, base = (float(sram_area_mm2(_EDRAM_KIB, nm, SramCell.HP)) for nm in (node_nm, ISAAC_NM))
    return at / base, key


@cache
def _price(name: str, node_nm: float) -> tuple[str, float]:
    factor, doubt = energy_scale(_FOLLOWS[name], node_nm)
    return product_key(name, doubt), constant(name).value * factor


def line(component: str, name: str, events: float, node_nm: float, scale: float = 1.0) -> Energy:
    """Return a line priced by a constant at a node, times `scale`, a property of the design."""
    key, pj = _price(name, node_nm)
    return Energy(component=component, constant=key, events=float(events), pj_per_event=pj * scale)


@cache
def _one(component: str, node_nm: float, follows: Follows) -> tuple[str, float]:
    factor, doubt = area_scale(follows, node_nm)
    name = f"isaac.{component}.area"
    return product_key(name, doubt), constant(name).value * factor


def area_item(component: str, count: float, node_nm: float, follows: Follows = Follows.LOGIC) -> AreaItem:
    """Return the area of `count` instances of a part of ISAAC's table at a node."""
    key, mm2 = _one(component, node_nm, follows)
    return AreaItem(component=component, constant=key, mm2=mm2 * count)
