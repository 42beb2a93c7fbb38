"""Energy, leakage and area of a systolic array, itemised by component and technology constant.

Sources: Horowitz ISSCC 2014 (arithmetic, 45 nm), Aladdin (registers), CACTI 7 fits (SRAM), published pJ per bit (DRAM), all in
`sim.technology`. A word's SRAM energy is its share of an access of the whole port, which is as wide as the array edge it
feeds (at most 8192 bits): a port that is read half full costs half in this model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from picojoule.accel.systolic.spec import SystolicSpec
from picojoule.sim import technology as tech
from picojoule.sim.cost import Area, AreaItem, Energy

_WIDEST_PORT_BITS = 8192


@dataclass(frozen=True)
class EnergyModel:
    """Prices of one design's events; `lines` of each kind build a layer's bill."""

    spec: SystolicSpec

    def mac(self, macs: int, weight_bits: int, activation_bits: int) -> list[Energy]:
        """Return the arithmetic of MACs, at the operands' width where the PE can use it, else at the PE's."""
        fixed = self.spec.precision == "fixed"
        w, a = (self.spec.weight_bits, self.spec.activation_bits) if fixed else (weight_bits, activation_bits)
        return [
            Energy(component="mac", constant=key, events=float(macs), pj_per_event=pj)
            for key, pj in self._mac_price(w, a)
        ]

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

    def registers(self, pe_cycles: float) -> list[Energy]:
        """Return the pipeline registers that busy PEs clock each cycle: moving operands and the partial sum.

        os: both operands move and the sum is updated; ws and is: one operand and the sum move. Loading a stationary
        operand is neglected (once per fold). `overlap_load` adds a shadow register that is clocked as seldom.
        """
        spec = self.spec
        moving = {"os": spec.weight_bits + spec.activation_bits, "ws": spec.activation_bits, "is": spec.weight_bits}
        bits = moving[spec.dataflow] + spec.accumulator_bits
        return [
            Energy(
                component="register",
                constant=tech.register_key(spec.node_nm),
                events=pe_cycles * bits,
                pj_per_event=self._register_bit_pj,
            )
        ]

    @cached_property
    def _register_bit_pj(self) -> float:
        return float(tech.register_energy_pj(1, self.spec.node_nm))

    def sram(self, buffer: str, kind: str, words: int, bits: float) -> list[Energy]:
        """Return the accesses of `words` of `bits` to a buffer (`ifmap`, `filter`, `ofmap`)."""
        if words == 0:
            return []
        return [
            Energy(
                component=f"sram.{buffer}",
                constant=tech.sram_key(self.spec.node_nm, self.spec.sram_cell, kind),
                events=float(words),
                pj_per_event=self._word_pj(buffer, kind, bits),
            )
        ]

    def _word_pj(self, buffer: str, kind: str, bits: float) -> float:
        key = (buffer, kind, bits)
        if key not in self._word_prices:
            spec = self.spec
            ports = {"ifmap": spec.cols if spec.dataflow == "is" else spec.rows, "ofmap": spec.cols}
            ports["filter"] = spec.rows if spec.dataflow == "is" else spec.cols
            width = min(_WIDEST_PORT_BITS, max(1.0, ports[buffer] * bits))
            capacity = {"ifmap": spec.ifmap_sram_kib, "filter": spec.filter_sram_kib, "ofmap": spec.ofmap_sram_kib}[
                buffer
            ]
            access = float(tech.sram_energy_pj(capacity, np.ceil(width), spec.node_nm, spec.sram_cell, kind=kind))
            self._word_prices[key] = access * bits / width
        return self._word_prices[key]

    @cached_property
    def _word_prices(self) -> dict[tuple[str, str, float], float]:
        return {}

    def dram(self, total_bytes: int) -> list[Energy]:
        """Return DRAM traffic."""
        if total_bytes == 0:
            return []
        key = tech.dram_key(self.spec.dram_type)
        return [Energy(component="dram", constant=key, events=8.0 * total_bytes, pj_per_event=tech.constant(key).value)]

    def area(self) -> Area:
        """Return the area of MACs, registers, SRAMs and the vector unit."""
        spec = self.spec
        pes = spec.rows * spec.cols
        bits = 2 * spec.weight_bits + spec.activation_bits + spec.accumulator_bits
        bits += spec.weight_bits if spec.overlap_load else 0
        mac_um2 = float(
            tech.multiply_add_area_um2(spec.weight_bits, spec.activation_bits, spec.accumulator_bits, spec.node_nm)
        )
        lane_um2 = float(tech.multiply_add_area_um2(16, 16, 32, spec.node_nm)) * (spec.vector_lanes or spec.cols)
        logic = tech.logic_area_key(45, spec.node_nm)
        items = [
            AreaItem(
                component="mac",
                constant=tech.product_key("mac.int8.multiply.area.45nm", logic),
                mm2=pes * mac_um2 / 1e6,
            ),
            AreaItem(
                component="register",
                constant=tech.product_key("register.bit.area.40nm", tech.logic_area_key(40, spec.node_nm)),
                mm2=pes * float(tech.register_area_um2(bits, spec.node_nm)) / 1e6,
            ),
            AreaItem(
                component="vector", constant=tech.product_key("mac.int32.add.area.45nm", logic), mm2=lane_um2 / 1e6
            ),
        ]
        for buffer, kib in self.buffers:
            items.append(
                AreaItem(
                    component=f"sram.{buffer}",
                    constant=tech.sram_key(spec.node_nm, spec.sram_cell, "area"),
                    mm2=float(tech.sram_area_mm2(kib, spec.node_nm, spec.sram_cell)),
                )
            )
        return Area(items=tuple(items))

    @property
    def buffers(self) -> Sequence[tuple[str, float]]:
        """The SRAMs and their capacities, KiB."""
        spec = self.spec
        return (("ifmap", spec.ifmap_sram_kib), ("filter", spec.filter_sram_kib), ("ofmap", spec.ofmap_sram_kib))

    def leakage(self, seconds: float, area: Area) -> tuple[Energy, ...]:
        """Return what SRAMs and logic leak in `seconds`."""
        spec, nanoseconds = self.spec, seconds * 1e9  # mW x ns = pJ
        bill = [
            Energy(
                component=f"leakage.sram.{buffer}",
                constant=tech.sram_key(spec.node_nm, spec.sram_cell, "leakage"),
                events=nanoseconds,
                pj_per_event=float(tech.sram_leakage_mw(kib, spec.node_nm, spec.sram_cell)),
            )
            for buffer, kib in self.buffers
        ]
        logic = sum(item.mm2 for item in area.items if not item.component.startswith("sram"))
        # The tabulated logic is high-performance; low-power cells leak as much less as their SRAM does.
        power = float(tech.logic_leakage_mw(logic)) * _relative_leakage(spec)
        bill.append(
            Energy(component="leakage.logic", constant="logic.leakage.40nm", events=nanoseconds, pj_per_event=power)
        )
        return tuple(bill)


def _relative_leakage(spec: SystolicSpec) -> float:
    own = float(tech.sram_leakage_mw(64.0, spec.node_nm, spec.sram_cell))
    return own / float(tech.sram_leakage_mw(64.0, spec.node_nm, "hp"))
