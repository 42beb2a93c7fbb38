"""Energy, leakage and area of systolic arrays, itemised by component and technology constant; arrays over designs.

Sources: Horowitz ISSCC 2014 (arithmetic, 45 nm), Aladdin (registers), CACTI 7 fits (SRAM), published pJ per bit (DRAM), all in
`sim.technology`; what PEs multiply is in `pe_formats`. Clock trees and wires between PEs are in no table and left out.

An SRAM's port is as wide as the array edge it feeds (of the accumulator's width at the ofmap's). An access costs a part for
waking lanes of 256 bits (at least one; beyond it, part of a lane costs its part) and a part for each bit moved (`SramPort`): a
narrow port that is used half costs more than half. What DRAM brings and takes moves in whole ports.

Own orders of output channels per row fold (`weight_order: segments`) need a table of accumulator addresses; those of all layers
stay on chip, in an SRAM of their own that is read `TABLE_PORT_BITS` at a time.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from picojoule.accel.systolic import pe_formats
from picojoule.accel.systolic.design_arrays import DesignArrays
from picojoule.accel.systolic.flips import FlipRates, OrderTable
from picojoule.accel.systolic.spec import SystolicSpec
from picojoule.accel.systolic.timing import Dataflow, FloatArray
from picojoule.sim import technology as tech
from picojoule.sim.cost import Area, AreaItem, Energy
from picojoule.sim.technology.toggle_law import toggled_register_price

TABLE_PORT_BITS = 64
"""Bits that one read of the address table brings (our choice): eight addresses of one byte."""


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

    def mac(self, macs: npt.ArrayLike, weight_bits: int, activation_bits: int) -> list[Charge]:
        """Return the arithmetic of MACs, at the operands' width where the PE can use it, else at the PE's."""
        return [Charge("mac", key, macs, pj) for key, pj in self._mac_price(weight_bits, activation_bits)]

    def _mac_price(self, weight_bits: int, activation_bits: int) -> tuple[tuple[str, float], ...]:
        key = (weight_bits, activation_bits)
        if key not in self._mac_prices:
            price = pe_formats.mac_energy(self.spec, weight_bits, activation_bits)
            self._mac_prices[key] = tuple((k, float(v)) for k, v in price.energy_by_constant.items())
        return self._mac_prices[key]

    @cached_property
    def _mac_prices(self) -> dict[tuple[int, int], tuple[tuple[str, float], ...]]:
        return {}

    def registers(
        self, pe_cycles: npt.ArrayLike, shifts: npt.ArrayLike | None = None, tiles: npt.ArrayLike = 0.0
    ) -> list[Charge]:
        """Return the pipeline registers that busy PEs clock each cycle, and those of loads and drains.

        os: both operands move and the sum is updated; ws and is: one operand and the sum move. `shifts` are words moved along
        a column in loads (ws, is) or drains (os), `tiles` words of those tiles (`PortAccesses`): with `overlap_load` or
        `overlap_drain` each is copied once more, between the PE's register and its shadow. None: neglected.
        """
        key, bit_pj = tech.register_key(self.spec.node_nm), self._register_bit_pj
        bill = [Charge("register", key, np.asarray(pe_cycles, dtype=np.float64) * self._register_bits, bit_pj)]
        if shifts is not None:
            copied = np.where(self._overlapped, np.asarray(tiles, dtype=np.float64), 0.0)
            bill.append(
                Charge("register", key, (np.asarray(shifts, dtype=np.float64) + copied) * self._shifted_bits, bit_pj)
            )
        return bill

    def toggled_registers(
        self, pe_cycles: npt.ArrayLike, shifts: npt.ArrayLike, tiles: npt.ArrayLike, rates: FlipRates
    ) -> list[Charge]:
        """Return what `registers` prices, from the bits that flip; sums, results and shadow copies as random data."""
        w, a, y = self._widths.weight, self._widths.activation, self._widths.accumulator
        key, bit_pj = tech.register_key(self.spec.node_nm), self._register_bit_pj
        cycles, moved = (np.asarray(count, dtype=np.float64) for count in (pe_cycles, shifts))
        copied = np.where(self._overlapped, np.asarray(tiles, dtype=np.float64), 0.0)
        drains = self._by_dataflow(y, 0.0, 0.0)
        counted = (
            (cycles * self._by_dataflow(w, 0.0, w), rates.weight_register),
            (cycles * self._by_dataflow(a, a, 0.0), rates.activation_register),
            (moved * self._by_dataflow(0.0, w, a), rates.load),
        )
        random = cycles * y + moved * drains + copied * self._shifted_bits
        bill = [Charge("register", key, random, bit_pj)]
        for bits, rate in counted:
            prices = toggled_register_price(key, bit_pj, rate)
            bill += [Charge("register", part, bits, pj) for part, pj in prices.items()]
        return bill

    def order_table(self, table: OrderTable, times: npt.ArrayLike) -> list[Charge]:
        """Return the reads of a layer's address table, `times` over."""
        node, cell = self.spec.node_nm, self.spec.sram_cell
        pj = tech.sram_energy_pj(table.kib, TABLE_PORT_BITS, node, cell, kind="read")
        key = tech.sram_key(node, cell, "read")
        return [Charge("sram.order", key, table.reads * np.asarray(times, dtype=np.float64), pj)]

    def _by_dataflow(self, os: float, ws: float, is_: float) -> FloatArray:
        return np.asarray(np.array([os, ws, is_])[self.designs.dataflow])

    @cached_property
    def _widths(self) -> pe_formats.PeWidths:
        return pe_formats.pe_widths(self.spec)

    @cached_property
    def _register_bits(self) -> FloatArray:
        """Bits that a busy PE clocks in a cycle."""
        w, a, y = self._widths.weight, self._widths.activation, self._widths.accumulator
        return self._by_dataflow(w + a + y, a + y, w + y)

    @cached_property
    def _shifted_bits(self) -> FloatArray:
        """Bits of a word that loads or drains move, and that a shadow register holds."""
        return self._by_dataflow(self._widths.accumulator, self._widths.weight, self._widths.activation)

    @cached_property
    def _overlapped(self) -> npt.NDArray[np.bool_]:
        d = self.designs
        return np.where(d.dataflow == Dataflow.OS, d.overlap_drain, d.overlap_load)

    @cached_property
    def _register_bit_pj(self) -> float:
        return float(tech.register_energy_pj(1, self.spec.node_nm))

    def sram(
        self, buffer: str, kind: str, words: npt.ArrayLike, bits: float, accesses: npt.ArrayLike | None = None
    ) -> list[Charge]:
        """Return what moving `words` of `bits` to or from a buffer (`ifmap`, `filter`, `ofmap`) costs.

        They move in so many `accesses` of its port, which may be used in part; None: as few as hold them, whole ports. Two
        lines: lanes woken, and words moved. Lines of one buffer and kind add up before pricing: the price is linear but for
        the larger of `accesses` and the lanes that the bits fill.
        """
        lane_bits, port = self._ports[buffer], self._port_prices(buffer, kind)
        moved_bits = np.asarray(words, dtype=np.float64) * bits
        lanes = moved_bits / lane_bits
        if accesses is not None:
            lanes = np.maximum(moved_bits / tech.SRAM_LANE_BITS, np.asarray(accesses, dtype=np.float64))
        component, key = f"sram.{buffer}", self._sram_keys[kind]
        return [Charge(component, key, lanes, port.lane_pj), Charge(component, key, words, port.bit_pj * bits)]

    @cached_property
    def _sram_keys(self) -> dict[str, str]:
        return {kind: tech.sram_key(self.spec.node_nm, self.spec.sram_cell, kind) for kind in ("read", "write")}

    @cached_property
    def _port_bits(self) -> dict[str, FloatArray]:
        designs, widths = self.designs, self._widths
        is_is = designs.dataflow == Dataflow.IS
        return {
            "ifmap": np.where(is_is, designs.cols, designs.rows) * np.ceil(widths.activation),
            "filter": np.where(is_is, designs.rows, designs.cols) * np.ceil(widths.weight),
            "ofmap": designs.cols * np.ceil(widths.accumulator),
        }

    @cached_property
    def _ports(self) -> dict[str, FloatArray]:
        """Bits that one lane of a buffer's port moves when all of it is used."""
        return {buffer: np.minimum(tech.SRAM_LANE_BITS, bits) for buffer, bits in self._port_bits.items()}

    def _port_prices(self, buffer: str, kind: str) -> tech.SramPort:
        """Return the prices of a buffer's port; one beyond the widest tabulated is several SRAMs, each its part of the words."""
        if kind not in self._prices:
            capacities = dict(self.designs.buffers)
            shared = next(iter(capacities.values()))
            sizes = [capacities.get(name, shared) for name in self._port_bits]  # each its own, or the one they share
            shape = np.broadcast_shapes(*(bits.shape for bits in self._port_bits.values()), *(s.shape for s in sizes))
            widths, kibs = np.empty((2, len(sizes), *shape))
            for i, (bits, size) in enumerate(zip(self._port_bits.values(), sizes, strict=True)):
                np.minimum(tech.SRAM_WIDEST_BITS, bits, out=widths[i])
                kibs[i] = size * (widths[i] / bits)
            made = tech.sram_port(kibs, widths, self.spec.node_nm, self.spec.sram_cell, kind=kind)
            self._prices[kind] = {
                name: tech.SramPort(lane_pj=made.lane_pj[i], bit_pj=made.bit_pj[i])
                for i, name in enumerate(self._port_bits)
            }
        return self._prices[kind][buffer]

    @cached_property
    def _prices(self) -> dict[str, dict[str, tech.SramPort]]:
        return {}

    def dram(self, total_bytes: npt.ArrayLike) -> list[Charge]:
        """Return DRAM traffic."""
        key = tech.dram_key(self.spec.dram_type)
        return [Charge("dram", key, 8.0 * np.asarray(total_bytes), tech.constant(key).value)]

    def areas(self, table_kib: float = 0.0) -> list[AreaCharge]:
        """Return the area of MACs, registers, the SRAMs, the vector unit and a table of channel orders of `table_kib`.

        A PE has one register for each operand (the stationary one's is the chain it is loaded through) and one for its sum; a
        shadow of what is loaded or drained where that overlaps.
        """
        if not table_kib:
            return list(self._areas)
        node, cell = self.spec.node_nm, self.spec.sram_cell
        mm2 = np.asarray(tech.sram_area_mm2(table_kib, node, cell))
        return [*self._areas, AreaCharge("sram.order", tech.sram_key(node, cell, "area"), mm2)]

    @cached_property
    def _areas(self) -> tuple[AreaCharge, ...]:
        spec, designs = self.spec, self.designs
        pes = designs.rows * designs.cols
        w = self._widths
        shadow = np.where(self._overlapped, self._shifted_bits, 0.0)
        register_bits = np.ceil(w.weight) + np.ceil(w.activation) + w.accumulator + np.ceil(shadow)
        mac_key, mac_um2 = pe_formats.mac_area(spec)
        lane_um2 = _lane_um2(spec.node_nm) * designs.lanes
        logic = tech.logic_area_key(45, spec.node_nm)
        register_key = tech.product_key("register.bit.area.40nm", tech.logic_area_key(40, spec.node_nm))
        sram_key = tech.sram_key(spec.node_nm, spec.sram_cell, "area")
        return (
            AreaCharge("mac", mac_key, pes * mac_um2 / 1e6),
            AreaCharge("register", register_key, pes * tech.register_area_um2(register_bits, spec.node_nm) / 1e6),
            AreaCharge("vector", tech.product_key("mac.int32.add.area.45nm", logic), lane_um2 / 1e6),
            *(
                AreaCharge(f"sram.{buffer}", sram_key, tech.sram_area_mm2(kib, spec.node_nm, spec.sram_cell))
                for buffer, kib in designs.buffers
            ),
        )

    def area(self) -> Area:
        """Return the area of a single design."""
        return Area(
            items=tuple(AreaItem(component=a.component, constant=a.constant, mm2=single(a.mm2)) for a in self.areas())
        )

    def leakage(self, seconds: npt.ArrayLike, areas: Sequence[AreaCharge], table_kib: float = 0.0) -> list[Charge]:
        """Return what SRAMs (a table of orders among them) and logic leak in `seconds`."""
        spec, nanoseconds = self.spec, np.asarray(seconds, dtype=np.float64) * 1e9  # mW x ns = pJ
        key = tech.sram_key(spec.node_nm, spec.sram_cell, "leakage")
        bill = [
            Charge(f"leakage.sram.{buffer}", key, nanoseconds, tech.sram_leakage_mw(kib, spec.node_nm, spec.sram_cell))
            for buffer, kib in self.designs.buffers + ((("order", np.asarray(table_kib)),) if table_kib else ())
        ]
        logic = sum(a.mm2 for a in areas if not a.component.startswith("sram"))
        # The tabulated logic is high-performance; low-power cells leak as much less as their SRAM does.
        power = tech.logic_leakage_mw(logic) * _relative_leakage(spec.node_nm, spec.sram_cell)
        return [*bill, Charge("leakage.logic", "logic.leakage.40nm", nanoseconds, power)]


@lru_cache(maxsize=256)
def _lane_um2(node_nm: float) -> float:
    """Return the area of a lane of the vector unit."""
    return float(tech.multiply_add_area_um2(16, 16, 32, node_nm))


@lru_cache(maxsize=256)
def _relative_leakage(node_nm: float, cell: str) -> float:
    return float(tech.sram_leakage_mw(64.0, node_nm, cell)) / float(tech.sram_leakage_mw(64.0, node_nm, "hp"))
