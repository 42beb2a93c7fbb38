"""Who alone reads what a layer makes: the question behind every activation that runs where its operand is made."""

from picojoule.sim.attributes import Op
from picojoule.sim.ir import Layer, Network
from picojoule.sim.passes import moves_nothing


def sole_producers(network: Network) -> dict[str, Layer]:
    """Return by layer name the layer that makes its first operand for it alone; layers without such a one are absent.

    A change of format between the two is no reader of its own. A value that leaves the network has another reader.
    """
    makers = {r.name: layer for layer in network.layers for r in layer.results}
    consumers = network.consumers()
    outputs = set(network.outputs)
    found: dict[str, Layer] = {}
    for layer in network.layers:
        name = layer.operands[0].name if layer.operands else ""
        before = makers.get(name)
        if before is None or len(consumers.get(name, ())) != 1 or name in outputs:
            continue
        if before.op is Op.QUANTIZE and moves_nothing(before):
            if before.name in found:
                found[layer.name] = found[before.name]
        else:
            found[layer.name] = before
    return found
