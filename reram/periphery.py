"""What ISAAC's table lacks: cells with transistors, switched rows, column multiplexers, write drivers, an accumulator per ADC.

Transistors and layout rules: `sim.technology.transistor_laws`. Widths follow from what a part must resist, or are those of
NeuroSim's circuits (V1.4: NewSwitchMatrix, SwitchMatrix, Mux, LevelShifter, ShiftAdd, read as facts):

- A cell's transistor resists a quarter of the cell; so does a multiplexer's gate of a column with half of its cells on.
- A row is switched by 4 transmission gates of 28 F, 3 of which open for a pulse; a column, for writes, by 2 of minimum size.
- A level shifter has a low stage, two latches and a pull-up of 15/20, 32/10 and 64/82 minimum widths, doubled, in gates 70 F
  high, all but the first 2.5 times as long (I/O transistors), and 1.44 times the area with wires; two a row, one a column.
- An accumulator adds N-bit codes over K slices in N + K bits and these over J input steps in N + K + J bits.

Left out: decoders of multiplexers, repeaters, empty area, busy power of these parts while they idle (`whole_chip`), and the
energy of write drivers (the write pulse is billed).
"""

from functools import cache

from picojoule.reram.adcs import LayerAdc
from picojoule.reram.mapping import LayerMapping
from picojoule.reram.periphery_keys import Accumulators, ColumnSelect, RowDriver
from picojoule.reram.spec import ReramSpec, slices_of, steps_of
from picojoule.reram.technology import line
from picojoule.sim.cost import AreaItem, Energy
from picojoule.sim.technology import (
    VectorOperation,
    constant,
    logic_area_key,
    logic_area_scale,
    product_key,
    register_area_um2,
    register_energy_pj,
    register_key,
    vector_operation_energy_pj,
)
from picojoule.sim.technology.transistor_laws import MINIMUM_F, Transistors, gate_area_f2, transistors

_DROP = 0.25
"""Share of what they serve that transistors may resist."""
_ROW_SWITCHES, _ROW_OPENED, _ROW_SWITCH_F = 4, 3, 14 * MINIMUM_F
_COLUMN_SWITCHES = 2
_SHIFTERS_PER_ROW, _SHIFTERS_PER_COLUMN = 2, 1
_SHIFTED_FROM_V = 1.5
_SHIFTER_WIDTHS = ((15, 20, 1, 1.0), (32, 10, 2, 2.5), (64, 82, 1, 2.5))
"""Stages of a level shifter: minimum widths n and p, how many, how much longer."""
_SHIFTER_HEIGHT_F, _SHIFTER_WIRES = 70.0, 1.44


@cache
def transistor_width_f(spec: ReramSpec) -> float:
    """Return the width of a cell's transistor in features."""
    assert spec.cell_on_ohm is not None
    return transistors(spec.node_nm).linear_width_f(_DROP * spec.cell_on_ohm)


def _column_ohm(spec: ReramSpec) -> float:
    """Return the resistance of a column's cells and their transistors, half of them on."""
    assert spec.cell_on_ohm is not None and spec.device is not None
    on, ratio = spec.cell_on_ohm, spec.device.resolved().on_off_ratio
    access = _DROP * on
    conductance = 1 / (on + access) + (1 / (ratio * on + access) if ratio else 0.0)
    return 2 / conductance / (spec.rows_active or spec.crossbar_rows)


@cache
def _multiplexer_f(spec: ReramSpec) -> tuple[float, float]:
    return transistors(spec.node_nm).switch_widths_f(_DROP * _column_ohm(spec))


# ---- energy


def row_energy(drives: float, spec: ReramSpec) -> list[Energy]:
    """Return the bill of `drives` rows driven for a read: DACs, or switches for the share of inputs that are 1."""
    if spec.row_driver is RowDriver.DAC:
        scale = 2.0 ** (spec.dac_bits - 1)
        return [line("dac", "isaac.dac.drive", drives * spec.input_activity, spec.node_nm, scale=scale)]
    t = transistors(spec.node_nm)
    again = spec.columns_per_adc if spec.column_select is ColumnSelect.MULTIPLEXER else 1.0
    pulses = drives * spec.input_activity * again
    volts = spec.wordline_v or t.supply_v
    length_um = spec.crossbar_cols * spec.cell_pitch_f * t.feature_um
    gates_ff = spec.crossbar_cols * transistor_width_f(spec) * t.gate_ff_per_f
    switches_ff = _ROW_OPENED * _ROW_SWITCH_F * (1 + t.p_to_n) * t.gate_ff_per_f
    wire_ff = length_um * constant("wire.capacitance").value
    return [
        _charge("row_wire", "wire.capacitance", pulses, wire_ff, volts),
        _charge("row_gates", "transistor.gate.charge", pulses, gates_ff, volts),
        _charge("row_switch", "transistor.gate.charge", pulses, switches_ff, t.supply_v),
        Energy(
            component="row_register",
            constant=register_key(spec.node_nm),
            events=float(drives),
            pj_per_event=float(register_energy_pj(1, spec.node_nm)),
        ),
    ]


def column_energy(sampled: float, codes: float, spec: ReramSpec) -> list[Energy]:
    """Return the bill of `sampled` columns held in a read, or of multiplexers that take an ADC to `codes` columns."""
    if spec.column_select is ColumnSelect.SAMPLE_HOLD:
        return [line("sample_hold", "isaac.sample_hold.sample", sampled, spec.node_nm)]
    t = transistors(spec.node_nm)
    return [
        _charge("multiplexer", "transistor.gate.charge", codes, sum(_multiplexer_f(spec)) * t.gate_ff_per_f, t.supply_v)
    ]


def accumulator_energy(mapping: LayerMapping, adc: LayerAdc, codes: float, spec: ReramSpec) -> list[Energy]:
    """Return the bill of the accumulators behind the ADCs for `codes`: each is added over slices, their sums over steps."""
    bits, per_slice, per_step = _accumulator_bits(adc.widest, mapping.slices, mapping.steps)
    words = codes / mapping.slices
    add = vector_operation_energy_pj(VectorOperation.ADD, 1, spec.node_nm)
    ((adder_key, adder_pj),) = add.energy_by_constant.items()
    return [
        Energy(
            component="accumulator_adder",
            constant=adder_key,
            events=codes * bits + words * per_slice,
            pj_per_event=float(adder_pj),
        ),
        Energy(
            component="accumulator_register",
            constant=register_key(spec.node_nm),
            events=codes * per_slice + words * per_step,
            pj_per_event=float(register_energy_pj(1, spec.node_nm)),
        ),
    ]


def _charge(component: str, name: str, events: float, femtofarad: float, volts: float) -> Energy:
    return Energy(component=component, constant=name, events=float(events), pj_per_event=femtofarad * volts**2 * 1e-3)


def _accumulator_bits(bits: int, slices: int, steps: int) -> tuple[int, int, int]:
    """Return the bits of a code, of its sum over slices, and of that over input steps."""
    return bits, bits + slices, bits + slices + steps


# ---- area


def periphery_area(spec: ReramSpec, built_bits: tuple[int, ...]) -> list[AreaItem]:
    """Return the area in one tile of the parts that the file asks for."""
    rows, cols = spec.crossbars_per_tile * spec.crossbar_rows, spec.crossbars_per_tile * spec.crossbar_cols
    items: list[AreaItem] = []
    registers = 0.0
    if spec.cell_area_f2 is not None:
        mm2 = rows * spec.crossbar_cols * spec.cell_area_f2 * (spec.node_nm * 1e-6) ** 2
        items.append(AreaItem(component="crossbar", constant="reram.cell.area", mm2=mm2))
    needs_gates = spec.row_driver is RowDriver.SWITCH or spec.column_select is ColumnSelect.MULTIPLEXER
    if not needs_gates and spec.write_v is None and spec.accumulators is Accumulators.SHARED:
        return items
    t = transistors(spec.node_nm)
    if spec.row_driver is RowDriver.SWITCH:
        switch = gate_area_f2(_ROW_SWITCH_F, _ROW_SWITCH_F * t.p_to_n)
        items.append(_gates("row_switch", rows * _ROW_SWITCHES * switch, spec))
        registers += rows
    if spec.column_select is ColumnSelect.MULTIPLEXER:
        items.append(_gates("multiplexer", cols * gate_area_f2(*_multiplexer_f(spec)), spec))
    if spec.write_v is not None:
        items.append(_gates("column_switch", cols * _COLUMN_SWITCHES * gate_area_f2(MINIMUM_F, MINIMUM_F), spec))
        registers += cols
        if spec.write_v > _SHIFTED_FROM_V:
            shifters = rows * _SHIFTERS_PER_ROW + cols * _SHIFTERS_PER_COLUMN
            items.append(_gates("level_shifter", shifters * level_shifter_f2(t), spec))
    if registers:
        items.append(_registers("line_register", registers, spec))
    if spec.accumulators is Accumulators.PER_ADC:
        items += _accumulators(spec, max(built_bits, default=0))
    return items


def level_shifter_f2(t: Transistors) -> float:
    """Return the area of a level shifter in F^2."""
    stages = (
        count * gate_area_f2(2 * MINIMUM_F * n, 2 * MINIMUM_F * p * t.p_to_n, _SHIFTER_HEIGHT_F, longer)
        for n, p, count, longer in _SHIFTER_WIDTHS
    )
    return sum(stages) * _SHIFTER_WIRES


def _accumulators(spec: ReramSpec, bits: int) -> list[AreaItem]:
    adcs = spec.imas_per_tile * spec.adcs_per_ima
    slices, steps = slices_of(spec, spec.weight_bits), steps_of(spec, spec.activation_bits, signed=False)
    code, per_slice, per_step = _accumulator_bits(bits, slices, steps)
    adder = constant("mac.int32.add.area.45nm").value / 32 * float(logic_area_scale(45, spec.node_nm))
    return [
        AreaItem(
            component="accumulator_adder",
            constant=product_key("mac.int32.add.area.45nm", logic_area_key(45, spec.node_nm)),
            mm2=adcs * (code + per_slice) * adder * 1e-6,
        ),
        _registers("accumulator_register", adcs * (per_slice + per_step), spec),
    ]


def _gates(component: str, f2: float, spec: ReramSpec) -> AreaItem:
    return AreaItem(component=component, constant="periphery.gate.area", mm2=f2 * (spec.node_nm * 1e-6) ** 2)


def _registers(component: str, bits: float, spec: ReramSpec) -> AreaItem:
    key = product_key("register.bit.area.40nm", logic_area_key(40, spec.node_nm))
    return AreaItem(component=component, constant=key, mm2=float(register_area_um2(bits, spec.node_nm)) * 1e-6)
