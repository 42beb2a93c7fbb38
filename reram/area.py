"""Silicon area of tiles and chips from ISAAC's component table, 32 nm; a chip is built whole, whatever it holds.

Parts follow what the design changes: converters and sample-and-holds their number, crossbars their cells, registers
the rows and columns they serve, the buffer its capacity. A DAC of v bits is taken 2^(v-1) times ISAAC's, as its
energy.
"""

from picojoule.reram.energy import ACCUMULATOR_BITS, adc_factor
from picojoule.reram.spec import MOST_BITS, NODE_NM, ReramSpec
from picojoule.sim.cost import Area, AreaItem
from picojoule.sim.technology import constant, logic_area_key, multiply_add_area_um2, product_key

_ISAAC_LINES = 8 * 128
"""Rows, and columns, of the eight crossbars of ISAAC's IMA."""
_ISAAC_CELLS = 128 * 128
_ISAAC_EDRAM_KIB = 64
_TILES_PER_ROUTER = 4


def tile_area(spec: ReramSpec) -> tuple[AreaItem, ...]:
    """Return the area of one tile by component, its share of the router included."""
    imas, crossbars = spec.imas_per_tile, spec.crossbars_per_tile
    rows, cols = crossbars * spec.crossbar_rows, crossbars * spec.crossbar_cols
    lane_mm2 = float(multiply_add_area_um2(MOST_BITS, MOST_BITS, ACCUMULATOR_BITS, NODE_NM)) * 1e-6
    lane_key = product_key("mac.int8.multiply.area.45nm", logic_area_key(45, NODE_NM))
    return (
        _item("adc", imas * spec.adcs_per_ima, factor=adc_factor("area", spec.adc_bits)),
        _item("dac", rows * 2 ** (spec.dac_bits - 1)),
        _item("sample_hold", cols),
        _item("crossbar", crossbars * spec.crossbar_rows * spec.crossbar_cols / _ISAAC_CELLS),
        _item("shift_add", imas * spec.adcs_per_ima / 2 + 1),
        _item("input_register", rows / _ISAAC_LINES),
        _item("output_register", cols / _ISAAC_LINES),
        _item("edram", spec.edram_kib / _ISAAC_EDRAM_KIB),
        _item("bus", 1),
        _item("router", 1 / _TILES_PER_ROUTER),
        _item("sigmoid", 2),
        _item("max_pool", 1),
        _item("tile_output_register", 1),
        AreaItem(component="vector", constant=lane_key, mm2=spec.vector_lanes * lane_mm2),
    )


def tile_mm2(spec: ReramSpec) -> float:
    """Return the area of one tile."""
    return sum(item.mm2 for item in tile_area(spec))


def chip_area(spec: ReramSpec, chips: int) -> Area:
    """Return the area of whole chips by component."""
    tiles = chips * spec.tiles_per_chip
    items = [
        AreaItem(component=item.component, constant=item.constant, mm2=item.mm2 * tiles) for item in tile_area(spec)
    ]
    return Area(items=(*items, _item("hypertransport", chips)))


def _item(component: str, count: float, factor: str = "") -> AreaItem:
    name = f"isaac.{component}.area"
    mm2 = constant(name).value * count * (constant(factor).value if factor else 1.0)
    return AreaItem(component=component, constant=product_key(name, factor), mm2=mm2)
