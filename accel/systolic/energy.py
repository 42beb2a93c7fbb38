"""Energy, leakage and area of systolic arrays, itemised by component and technology constant; arrays over designs.

Sources: Horowitz ISSCC 2014 (arithmetic, 45 nm), Aladdin (registers), CACTI 7 fits (SRAM), published pJ per bit (DRAM), all in
`sim.technology`. A word's SRAM energy is its share of an access of the whole port, which is as wide as the array edge it
feeds (at most 8192 bits): a port that is read half full costs half in this model.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from picojoule.accel.systolic.design_arrays import DesignArrays
from picojoule.accel.systolic.spec import SystolicSpec
from picojoule.accel.systolic.timing import Dataflow, FloatArray
from picojoule.sim import technology as tech
from picojoule.sim.cost import Area, AreaItem, Energy

_WIDEST_PORT_BITS = 8192


@dataclass(frozen=True, slots=True)
class Charge:
    """One line of a bill over designs: `events` of `pj_per_event`, each a number or an array over designs."""

    component: str
    constant: str
    events: npt.ArrayLike
    pj_per_event: npt.ArrayLike

    @property
    def pj(self) -> FloatArray:
        """Energy, pJ."""
        return np.asarray(self.events, dtype=np.float64) * np.asarray(self.pj_per_event, dtype=np.float64)

    def single(self) -> Energy:
        """Return the line of a single design."""
        events, price = single(self.events), single(self.pj_per_event)
        return Energy(component=self.component, constant=self.constant, events=events, pj_per_event=price)


def itemised(charges: Iterable[Charge]) -> tuple[Energy, ...]:
    """Return the bill of a single design, without lines of no events."""
    return tuple(line for charge in charges if (line := charge.single()).events)


def single(value: npt.ArrayLike) -> float:
    """Return the one number of an array of one, or of a number."""
    return float(value.item() if isinstance(value, np.ndarray) else value)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class AreaCharge:
    """Area of one component over designs, mm^2, and the constant that prices it."""

    component: str
    constant: str
    mm2: npt.NDArray[np.floating]


@dataclass(frozen=True)
class EnergyModel:
    """Prices of the events of designs; the lines of each kind build a layer's bill."""

    designs: DesignArrays

    @property
    def spec(self) -> SystolicSpec:
        """The keys that all designs share."""
        return self.designs.spec

    def mac(self, macs: int, weight_bits: int, activation_bits: int) -> list[Charge]:
        """Return the arithmetic of MACs, at the operands' width where the PE can use it, else at the PE's."""
        fixed = self.spec.precision == "fixed"
        w, a = (self.spec.weight_bits, self.spec.activation_bits) if fixed else (weight_bits, activation_bits)
        return [Charge("mac", key, macs, pj) for key, pj in self._mac_price(w, a)]

    def _mac_price(self, weight_bits: int, activation_bits: int) -> tuple[tuple[str, float], ...]:
        key = (weight_bits, activation_bits)
        if key not in self._mac_prices:
            price = tech.multiply_add_energy_pj(
                weight_bits, activation_bits, self.spec.accumulator_bits, self.spec.node_nm
            )
            self._mac_prices[key] = tuple((k, float(v)) for k, v in price.energy_by_constant.items())
        return self._mac_prices[key]

    @cached_property
    def _mac_prices(self) -> dict[tuple[int, int], tuple[tuple[str, float], ...]]:
        return {}

    def registers(self, pe_cycles: float) -> list[Charge]:
        """Return the pipeline registers that busy PEs clock each cycle: moving operands and the partial sum.

        os: both operands move and the sum is updated; ws and is: one operand and the sum move. Loading a stationary
        operand is neglected (once per fold). `overlap_load` adds a shadow register that is clocked as seldom.
        """
        return [
            Charge(
                "register", tech.register_key(self.spec.node_nm), pe_cycles * self._register_bits, self._register_bit_pj
            )
        ]

    @cached_property
    def _register_bits(self) -> FloatArray:
        """Bits that a busy PE clocks in a cycle."""
        weight, activation = self.spec.weight_bits, self.spec.activation_bits
        moving = {Dataflow.OS: weight + activation, Dataflow.WS: activation, Dataflow.IS: weight}
        bits = np.array([moving[flow] for flow in Dataflow], dtype=np.float64) + self.spec.accumulator_bits
        return np.asarray(bits[self.designs.dataflow])

    @cached_property
    def _register_bit_pj(self) -> float:
        return float(tech.register_energy_pj(1, self.spec.node_nm))

    def sram(self, buffer: str, kind: str, words: npt.ArrayLike, bits: float) -> list[Charge]:
        """Return the accesses of `words` of `bits` to a buffer (`ifmap`, `filter`, `ofmap`)."""
        return [Charge(f"sram.{buffer}", self._sram_keys[kind], words, self._word_pj(buffer, kind, bits))]

    @cached_property
    def _sram_keys(self) -> dict[str, str]:
        return {kind: tech.sram_key(self.spec.node_nm, self.spec.sram_cell, kind) for kind in ("read", "write")}

    def _word_pj(self, buffer: str, kind: str, bits: float) -> FloatArray:
        key = (buffer, kind, bits)
        if key not in self._word_prices:
            designs, spec = self.designs, self.spec
            is_is = designs.dataflow == Dataflow.IS
            ports = {"ifmap": np.where(is_is, designs.cols, designs.rows), "ofmap": designs.cols}
            ports["filter"] = np.where(is_is, designs.rows, designs.cols)
            width = np.minimum(_WIDEST_PORT_BITS, np.maximum(1.0, ports[buffer] * bits))
            capacity = dict(designs.buffers)[buffer]
            access = tech.sram_energy_pj(capacity, np.ceil(width), spec.node_nm, spec.sram_cell, kind=kind)
            self._word_prices[key] = access * bits / width
        return self._word_prices[key]

    @cached_property
    def _word_prices(self) -> dict[tuple[str, str, float], FloatArray]:
        return {}

    def dram(self, total_bytes: npt.ArrayLike) -> list[Charge]:
        """Return DRAM traffic."""
        key = tech.dram_key(self.spec.dram_type)
        return [Charge("dram", key, 8.0 * np.asarray(total_bytes), tech.constant(key).value)]

    def areas(self) -> list[AreaCharge]:
        """Return the area of MACs, registers, the SRAMs and the vector unit."""
        spec, designs = self.spec, self.designs
        pes = designs.rows * designs.cols
        bits = 2 * spec.weight_bits + spec.activation_bits + spec.accumulator_bits
        register_bits = bits + np.where(designs.overlap_load, spec.weight_bits, 0)
        mac_um2 = float(
            tech.multiply_add_area_um2(spec.weight_bits, spec.activation_bits, spec.accumulator_bits, spec.node_nm)
        )
        lane_um2 = float(tech.multiply_add_area_um2(16, 16, 32, spec.node_nm)) * designs.lanes
        logic = tech.logic_area_key(45, spec.node_nm)
        register_key = tech.product_key("register.bit.area.40nm", tech.logic_area_key(40, spec.node_nm))
        sram_key = tech.sram_key(spec.node_nm, spec.sram_cell, "area")
        return [
            AreaCharge("mac", tech.product_key("mac.int8.multiply.area.45nm", logic), pes * mac_um2 / 1e6),
            AreaCharge("register", register_key, pes * tech.register_area_um2(register_bits, spec.node_nm) / 1e6),
            AreaCharge("vector", tech.product_key("mac.int32.add.area.45nm", logic), lane_um2 / 1e6),
            *(
                AreaCharge(f"sram.{buffer}", sram_key, tech.sram_area_mm2(kib, spec.node_nm, spec.sram_cell))
                for buffer, kib in designs.buffers
            ),
        ]

    def area(self) -> Area:
        """Return the area of a single design."""
        return Area(
            items=tuple(AreaItem(component=a.component, constant=a.constant, mm2=single(a.mm2)) for a in self.areas())
        )

    def leakage(self, seconds: npt.ArrayLike, areas: Sequence[AreaCharge]) -> list[Charge]:
        """Return what SRAMs and logic leak in `seconds`."""
        spec, nanoseconds = self.spec, np.asarray(seconds, dtype=np.float64) * 1e9  # mW x ns = pJ
        key = tech.sram_key(spec.node_nm, spec.sram_cell, "leakage")
        bill = [
            Charge(f"leakage.sram.{buffer}", key, nanoseconds, tech.sram_leakage_mw(kib, spec.node_nm, spec.sram_cell))
            for buffer, kib in self.designs.buffers
        ]
        logic = sum(a.mm2 for a in areas if not a.component.startswith("sram"))
        # The tabulated logic is high-performance; low-power cells leak as much less as their SRAM does.
        power = tech.logic_leakage_mw(logic) * _relative_leakage(spec)
        return [*bill, Charge("leakage.logic", "logic.leakage.40nm", nanoseconds, power)]


def _relative_leakage(spec: SystolicSpec) -> float:
    own = float(tech.sram_leakage_mw(64.0, spec.node_nm, spec.sram_cell))
    return own / float(tech.sram_leakage_mw(64.0, spec.node_nm, "hp"))
