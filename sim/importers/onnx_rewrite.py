"""What rewrites of an imported network share: who makes and who reads each value, and how layers are replaced."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from picojoule.sim.attributes import ElementwiseAttributes, ElementwiseKind
from picojoule.sim.ir import Layer, Network, Operand, OperandKind


@dataclass(frozen=True, slots=True)
class Graph:
    """Who makes and who reads each value."""

    layers: Sequence[Layer]
    makers: Mapping[str, int]
    readers: Mapping[str, frozenset[int]]
    outputs: frozenset[str]

    def maker(self, operand: Operand) -> tuple[int, Layer] | None:
        """Return the layer that makes an operand."""
        i = self.makers.get(operand.name) if operand.kind is OperandKind.ACTIVATION else None
        return None if i is None else (i, self.layers[i])

    def private(self, inside: frozenset[int], last: int) -> bool:
        """Whether nobody outside reads what these layers make, but for the last one's result."""
        names = [r.name for i in inside if i != last for r in self.layers[i].results]
        return all(n not in self.outputs and self.readers.get(n, frozenset()) <= inside for n in names)

    def only_reader(self, index: int) -> tuple[int, Layer] | None:
        """Return the one layer that reads a layer's only result, if it is no output."""
        results = self.layers[index].results
        readers = self.readers.get(results[0].name, frozenset())
        if len(results) != 1 or results[0].name in self.outputs or len(readers) != 1:
            return None
        (i,) = readers
        return i, self.layers[i]


def graph_of(network: Network) -> Graph:
    """Return who makes and who reads the values of a network."""
    readers: dict[str, set[int]] = {}
    for i, layer in enumerate(network.layers):
        for operand in layer.activations:
            readers.setdefault(operand.name, set()).add(i)
    return Graph(
        network.layers,
        {r.name: i for i, layer in enumerate(network.layers) for r in layer.results},
        {n: frozenset(s) for n, s in readers.items()},
        frozenset(network.outputs),
    )


def put(layers: list[Layer | None], inside: frozenset[int], last: int, made: Layer) -> None:
    """Replace layers by one in the place of the last."""
    for i in inside:
        layers[i] = None
    layers[last] = made


def kept(network: Network, layers: Sequence[Layer | None]) -> Network:
    """Return the network with the layers that are left."""
    return network.with_layers(tuple(layer for layer in layers if layer is not None))


def is_kind(layer: Layer, *kinds: ElementwiseKind) -> bool:
    """Whether a layer is element-wise arithmetic of one of these kinds."""
    return isinstance(layer.attributes, ElementwiseAttributes) and layer.attributes.kind in kinds
