"""Silicon area and busy power of tiles and chips from ISAAC's component table; a chip is built whole, whatever it holds.

Parts follow what the design changes: converters their number, bits and law, sample-and-holds their number, crossbars their
cells, registers the rows and columns they serve, the buffer its capacity, and all of them the node (`technology.py`). A DAC
of v bits is taken 2^(v-1) times ISAAC's, as its energy. Parts that ISAAC has not: `periphery`.
"""

from picojoule.reram.adcs import adc_area, adc_power_mw
from picojoule.reram.energy import ACCUMULATOR_BITS
from picojoule.reram.periphery import periphery_area
from picojoule.reram.periphery_keys import Accumulators, ColumnSelect, RowDriver
from picojoule.reram.spec import MOST_BITS, ReramSpec
from picojoule.reram.technology import Follows, area_item, energy_scale
from picojoule.reram.traffic import link_share
from picojoule.sim.cost import Area, AreaItem
from picojoule.sim.technology import constant, logic_area_key, multiply_add_area_um2, product_key

_ISAAC_LINES = 8 * 128
"""Rows, and columns, of the eight crossbars of ISAAC's IMA."""
_ISAAC_CELLS = 128 * 128
_ISAAC_EDRAM_KIB = 64
_TILES_PER_ROUTER = 4
_LINKS = "hypertransport"
_FOLLOWS = {"crossbar": Follows.CELL, "edram": Follows.MEMORY}


def _instances(spec: ReramSpec) -> dict[str, float]:
    """Return the parts of one tile but its converters and lanes, as so many of ISAAC's; its share of a router included."""
    imas, crossbars = spec.imas_per_tile, spec.crossbars_per_tile
    shared = spec.accumulators is Accumulators.SHARED
    rows, cols = crossbars * spec.crossbar_rows, crossbars * spec.crossbar_cols
    counts = {
        "dac": rows * 2 ** (spec.dac_bits - 1) if spec.row_driver is RowDriver.DAC else 0,
        "sample_hold": cols if spec.column_select is ColumnSelect.SAMPLE_HOLD else 0,
        "crossbar": rows * spec.crossbar_cols / _ISAAC_CELLS,
        "shift_add": (imas * spec.adcs_per_ima / 2 if shared else 0) + 1,
        "input_register": rows / _ISAAC_LINES,
        "output_register": cols / _ISAAC_LINES if shared else 0,
        "edram": spec.edram_kib / _ISAAC_EDRAM_KIB,
        "bus": 1,
        "router": 1 / _TILES_PER_ROUTER,
        "sigmoid": 2,
        "max_pool": 1,
        "tile_output_register": 1,
    }
    return {name: count for name, count in counts.items() if count}


def tile_area(spec: ReramSpec, built_bits: tuple[int, ...]) -> tuple[AreaItem, ...]:
    """Return the area of one tile by component; `built_bits` are its converters' bits per slice."""
    nm = spec.node_nm
    lane_mm2 = float(multiply_add_area_um2(MOST_BITS, MOST_BITS, ACCUMULATOR_BITS, nm)) * 1e-6
    lane_key = product_key("mac.int8.multiply.area.45nm", logic_area_key(45, nm))
    instances = _instances(spec)
    if spec.cell_area_f2 is not None:
        instances.pop("crossbar")
    parts = [area_item(name, count, nm, _FOLLOWS.get(name, Follows.LOGIC)) for name, count in instances.items()]
    adcs = adc_area(built_bits, spec.imas_per_tile * spec.adcs_per_ima, spec)
    lanes = AreaItem(component="vector", constant=lane_key, mm2=spec.vector_lanes * lane_mm2)
    return (*adcs, *parts, *periphery_area(spec, built_bits), lanes)


def tile_busy_mw(spec: ReramSpec, built_bits: tuple[int, ...]) -> float:
    """Return the power of one tile whose parts are all busy (ISAAC's: 329.8 mW); lanes are left out."""
    parts = 0.0
    for name, count in _instances(spec).items():
        scale, _ = energy_scale(_FOLLOWS.get(name, Follows.LOGIC), spec.node_nm)
        parts += count * scale * constant(f"isaac.{name}.power").value
    return parts + spec.imas_per_tile * spec.adcs_per_ima * adc_power_mw(built_bits, spec)


def chip_area(spec: ReramSpec, built_bits: tuple[int, ...], chips: int) -> Area:
    """Return the area of whole chips by component."""
    tiles = chips * spec.tiles_per_chip
    items = [
        AreaItem(component=item.component, constant=item.constant, mm2=item.mm2 * tiles)
        for item in tile_area(spec, built_bits)
    ]
    links = chips * link_share(spec)
    if links:
        items.append(area_item(_LINKS, links, spec.node_nm, Follows.NOTHING))
    return Area(items=tuple(items))


def tile_mm2(spec: ReramSpec, area: Area, chips: int) -> float:
    """Return the area of one tile of chips that take `area`."""
    on_tiles = sum(item.mm2 for item in area.items if item.component != _LINKS)
    return on_tiles / (chips * spec.tiles_per_chip)
