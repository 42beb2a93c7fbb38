"""Where each layer runs, and which values travel: layers take consecutive IMAs in network order, from tile 0 of chip 0.

What crossbars do not run stays in the tiles that made its (largest) operand, or goes to the host; a view, which moves nothing,
stays wherever its operand is. A value is sent
once to each place that reads it: by the routers where it enters other tiles, by the link where it enters another chip
or the host. Partial sums of a layer that spans tiles are left out, so are hops beyond the first.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from picojoule.reram.mapping import LayerMapping
from picojoule.reram.spec import ReramSpec
from picojoule.sim.ir import Layer, Network, OperandKind
from picojoule.sim.passes import moves_nothing, result_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """The tiles a layer runs on, first and last; on the host there are none."""

    first: int
    last: int
    on_host: bool = False

    @property
    def tiles(self) -> int:
        """Number of tiles."""
        return self.last - self.first + 1

    def chip(self, spec: ReramSpec) -> int:
        """Return the chip of its first tile; -1 is off chip."""
        return -1 if self.on_host else self.first // spec.tiles_per_chip


HOST = Home(first=0, last=0, on_host=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Homes by layer, bits each layer takes from routers and from off-chip links, and what is in use."""

    homes: Mapping[str, Home]
    router_bits: Mapping[str, int]
    link_bits: Mapping[str, int]
    imas: int
    tiles: int
    chips: int


def place(
    network: Network, units: Mapping[str, str], maps: Mapping[str, LayerMapping], spec: ReramSpec, batch: int
) -> Placement:
    """Return where the layers of a network (formats filled in) run; `units` names the unit of each layer."""
    homes: dict[str, Home] = {}
    made_at: dict[str, Home] = {r.name: HOST for r in network.inputs}
    router: dict[str, int] = {}
    link: dict[str, int] = {}
    sent: set[tuple[str, Home]] = set()
    landed: set[tuple[str, int]] = set()
    imas = 0
    for layer in network.layers:
        if layer.name in maps:
            mapping = maps[layer.name]
            taken = mapping.imas * mapping.copies
            home = Home(first=imas // spec.imas_per_tile, last=(imas + taken - 1) // spec.imas_per_tile)
            imas += taken
        elif moves_nothing(layer):
            home = made_at.get(layer.operands[0].name, HOST)
        else:
            home = HOST if units[layer.name] == "host" else _beside(layer, made_at)
        homes[layer.name] = home
        router[layer.name] = link[layer.name] = 0
        for operand in layer.operands:
            origin = made_at.get(operand.name)
            if operand.kind is not OperandKind.ACTIVATION or origin is None or origin == home:
                continue
            bits = 8 * result_bytes(operand, batch)
            chip = home.chip(spec)
            if chip != origin.chip(spec) and (operand.name, chip) not in landed:
                landed.add((operand.name, chip))
                link[layer.name] += bits
            if not home.on_host and (operand.name, home) not in sent:
                sent.add((operand.name, home))
                router[layer.name] += bits
        for result in layer.results:
            made_at[result.name] = home
            if result.name in network.outputs and not home.on_host:
                link[layer.name] += 8 * result_bytes(result, batch)
                router[layer.name] += 8 * result_bytes(result, batch)
    tiles = max(1, -(-imas // spec.imas_per_tile))
    return Placement(
        homes=homes,
        router_bits=router,
        link_bits=link,
        imas=imas,
        tiles=tiles,
        chips=-(-tiles // spec.tiles_per_chip),
    )


def _beside(layer: Layer, made_at: Mapping[str, Home]) -> Home:
    """Return the tiles that made the largest operand (of equals the one further down); tile 0 if all are off chip."""
    on_chip = [o for o in layer.activations if not made_at[o.name].on_host]
    if not on_chip:
        return Home(first=0, last=0)
    return made_at[max(on_chip, key=lambda o: (o.type.elements(), made_at[o.name].first)).name]
