"""What moves over a tile's bus, the routers and the off-chip links, how long that takes, and what no eDRAM holds.

Times are bits over widths and clocks; each resource is a stage of the pipeline, because layers share it:

- the bus between a tile's eDRAM and its units, `edram_bits_per_cycle` wide: every window read and every result written;
- a tile's router port, `router_bits_per_cycle` wide: what enters the tile (and the network's outputs);
- a chip's off-chip links, 6.4 GB/s each: what enters or leaves the chip, and spills.

A layer's traffic is spread evenly over its tiles. Left out: hops beyond the first, contention inside the network on chip,
partial sums of a layer that spans tiles, buffers of values that wait for another branch.

An eDRAM holds the rows that the windows of its layers wait for. What it is short of spills: that share of the layer's input is
written to memory off the chip and read back once.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from picojoule.reram.mapping import LayerMapping
from picojoule.reram.pipeline import wait
from picojoule.reram.placement import Placement
from picojoule.reram.recurrence import carried
from picojoule.reram.spec import ReramSpec
from picojoule.sim.attributes import RecurrentAttributes
from picojoule.sim.ir import Layer, Network
from picojoule.sim.passes import result_bytes
from picojoule.sim.technology import constant
from picojoule.sim.vector_unit import VectorWork

_LINKS = 4
"""Links behind `isaac.hypertransport.rate`, `.power` and `.area`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """Bits of a layer between eDRAM and units."""

    read_bits: float = 0.0
    write_bits: float = 0.0

    @property
    def bits(self) -> float:
        """Both ways."""
        return self.read_bits + self.write_bits


def moved_on_crossbars(layer: Layer, mapping: LayerMapping, batch: int, x_bits: float, spec: ReramSpec) -> Moved:
    """Return what a layer on crossbars moves: windows of inputs of `x_bits`, results; states and gates if recurrent.

    What is multiplied with is read once for each time it is written.
    """
    g = mapping.gemm
    windows = g.groups * g.k * g.m
    if isinstance(layer.attributes, RecurrentAttributes):
        held = carried(layer, batch, windows * x_bits)
        return Moved(read_bits=held.read_bits, write_bits=held.write_bits)
    y = layer.results[0].format or spec.native_activation
    written = 8 * result_bytes(layer.operands[1], batch) if mapping.writes else 0
    return Moved(read_bits=windows * x_bits + written, write_bits=g.groups * g.n * g.m * y.stored_bits)


def moved_on_lanes(work: VectorWork) -> Moved:
    """Return what a layer on the digital unit moves."""
    return Moved(read_bits=8 * work.read_bytes, write_bits=8 * work.write_bytes)


def bus_s(bits: float, tiles: int, spec: ReramSpec) -> float:
    """Return the time of bits over the buses of some tiles."""
    return bits / spec.edram_bits_per_cycle / (tiles * spec.clock_mhz * 1e6)


def router_s(bits: float, tiles: int, spec: ReramSpec) -> float:
    """Return the time of bits through the router ports of some tiles."""
    return bits / spec.router_bits_per_cycle / (tiles * spec.clock_mhz * 1e6)


def link_s(bits: float, spec: ReramSpec) -> float:
    """Return the time of bits over the off-chip links of one chip; none without links."""
    share = spec.hypertransport_links / _LINKS
    return bits / (share * constant("isaac.hypertransport.rate").value * 8e9) if share else 0.0


def link_share(spec: ReramSpec) -> float:
    """Return a chip's links as a share of ISAAC's four."""
    return spec.hypertransport_links / _LINKS


@dataclass(frozen=True, slots=True, kw_only=True)
class Buffers:
    """What the windows wait for: `most_kib` in the fullest tile, and the bits that spill, there and back, by layer."""

    most_kib: float
    spilled_bits: Mapping[str, float]


def buffers(
    network: Network, maps: Mapping[str, LayerMapping], placement: Placement, batch: int, spec: ReramSpec
) -> Buffers:
    """Return the eDRAM that the layers on crossbars ask of their tiles, and what does not fit."""
    tile_kib = np.zeros(placement.tiles)
    layers = [layer for layer in network.layers if layer.name in maps]
    for layer in layers:
        home = placement.homes[layer.name]
        tile_kib[home.first : home.last + 1] += _need_kib(layer) / home.tiles
    spilled: dict[str, float] = {}
    if tile_kib.max(initial=0.0) > spec.edram_kib:
        short = np.maximum(0.0, 1.0 - spec.edram_kib / np.maximum(tile_kib, 1e-300))
        for layer in layers:
            home = placement.homes[layer.name]
            share = float(short[home.first : home.last + 1].mean())
            if share > 0:
                spilled[layer.name] = 2 * share * 8 * result_bytes(layer.operands[0], batch)
    return Buffers(most_kib=float(tile_kib.max(initial=0.0)), spilled_bits=spilled)


def _need_kib(layer: Layer) -> float:
    return wait(layer, 0).first * result_bytes(layer.operands[0], 1) / 1024


def transfer_s(layer: str, moved: Moved, placement: Placement, spilled_bits: float, spec: ReramSpec) -> float:
    """Return the time a layer's own traffic takes on the slowest of bus, router ports and links."""
    tiles = placement.homes[layer].tiles
    return max(
        bus_s(moved.bits, tiles, spec),
        router_s(placement.router_bits[layer], tiles, spec),
        link_s(placement.link_bits[layer] + spilled_bits, spec),
    )


def shared_stages(
    moved: Mapping[str, Moved], placement: Placement, spilled_bits: Mapping[str, float], spec: ReramSpec
) -> dict[str, float]:
    """Return how long the busiest bus, router port and links are busy: stages that layers share."""
    bus, port = np.zeros(placement.tiles), np.zeros(placement.tiles)
    links: dict[int, float] = {}
    for name, home in placement.homes.items():
        chip = max(0, home.chip(spec))
        links[chip] = links.get(chip, 0.0) + placement.link_bits[name] + spilled_bits.get(name, 0.0)
        if home.on_host:
            continue
        own = slice(home.first, home.last + 1)
        bus[own] += bus_s(moved[name].bits, home.tiles, spec) if name in moved else 0.0
        port[own] += router_s(placement.router_bits[name], home.tiles, spec)
    busiest = max(links, key=lambda c: links[c], default=0)
    return {
        f"bus of tile {int(bus.argmax())}": float(bus.max()),
        f"router port of tile {int(port.argmax())}": float(port.max()),
        f"off-chip links of chip {busiest}": link_s(links.get(busiest, 0.0), spec),
    }
