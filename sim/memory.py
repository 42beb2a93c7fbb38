"""What a network needs to be held: activations alive at once, SpArSe's working memory, and the bytes of its weights.

Counts follow the layers' own order; formats must be filled in (a value without one counts as float32). No hardware is
involved: what a design keeps on chip, tiles or stores compressed is its own matter. Index storage of sparse weights is not
counted anywhere here.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any

from picojoule.sim.attributes import VIEW_OPS, Op, QuantizeAttributes, QuantizeKind
from picojoule.sim.ir import Layer, Network, Operand, OperandKind
from picojoule.sim.passes import result_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Memory of a network for a batch.

    `peak_activation_bytes`: most bytes of inputs, results and outputs alive at once, reached at `peak_layer`.
    `working_memory_*`: SpArSe's two figures (Fedorov et al. 2019, arXiv 1905.12107), the largest over layers of
    l0(x) + l0(w), or of l0(x) + l0(y) where weights are read from where they are stored; x are a layer's activation
    operands, w its parameters, y its results, l0 counts non-zeros. Layers that need no memory of their own are left out.
    `model_size_nonzeros`: l0 of all parameters (SpArSe's ModelSize). Bytes of non-zeros are non-zeros x bits / 8.
    `weight_bytes_dense` counts every element, `weight_bytes_nonzero` only those that are not zero: what is left to store
    where a design skips zeros for free, which no design here claims. `constant_bytes` are fixed arrays, in no other figure.
    """

    peak_activation_bytes: int
    peak_layer: str | None
    working_memory_input_weight_bytes: int
    working_memory_input_weight_elements: int
    working_memory_input_output_bytes: int
    working_memory_input_output_elements: int
    model_size_nonzeros: int
    weight_bytes_dense: int
    weight_bytes_nonzero: int
    constant_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


def memory_of(network: Network, batch: int = 1) -> Memory:
    """Return what holding a network takes for `batch` samples (formats must be filled in)."""
    lives = _lifetimes(network, batch)
    peak, where = _peak(network, batch, lives)
    in_place = _in_place(network, lives)
    working = [_working_memory(layer, batch) for layer in network.layers if layer.name not in in_place]
    parameters = tuple(_by_name(network, OperandKind.PARAMETER).values())
    return Memory(
        peak_activation_bytes=peak,
        peak_layer=where,
        working_memory_input_weight_elements=max((w[0] for w in working), default=0),
        working_memory_input_weight_bytes=max((w[1] for w in working), default=0),
        working_memory_input_output_elements=max((w[2] for w in working), default=0),
        working_memory_input_output_bytes=max((w[3] for w in working), default=0),
        model_size_nonzeros=sum(nonzeros(o) for o in parameters),
        weight_bytes_dense=weight_bytes(network),
        weight_bytes_nonzero=sum(nonzero_bytes(o) for o in parameters),
        constant_bytes=sum(result_bytes(o, 1) for o in _by_name(network, OperandKind.CONSTANT).values()),
    )


# --- activations -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lives:
    """`base`: the value whose memory each value lives in (its own, but for views). `last`: the last layer needing it.

    A value nobody reads lives while its layer runs, an input at least while the first layer does; `len(layers)` means
    until the end.
    """

    base: Mapping[str, str]
    last: Mapping[str, int]


def peak_activation_bytes(network: Network, batch: int = 1) -> int:
    """Return the most bytes of values alive at once when layers run in their order (formats must be filled in).

    Inputs are there from the start until their last reader, outputs until the end; a layer's operands and results are
    alive together. A view shares its operand's memory. An activation, or a change of format, whose operand nobody reads
    afterwards (nor any view of it), overwrites it. Layers that share no value at all, as in a topology CSV, are taken one
    by one, because nothing says what waits for what.
    """
    return _peak(network, batch, _lifetimes(network, batch))[0]


def in_place_layers(network: Network, batch: int = 1) -> frozenset[str]:
    """Return the layers that need no memory of their own: views, and those that overwrite their operand."""
    return _in_place(network, _lifetimes(network, batch))


def _peak(network: Network, batch: int, lives: _Lives) -> tuple[int, str | None]:
    """Return the peak and the first layer where it is reached."""
    if unconnected(network):
        alone = {layer.name: sum(_moved(layer, batch)) for layer in network.layers}
        largest = max(alone, key=lambda name: alone[name])
        return alone[largest], largest
    base, last = lives.base, lives.last
    size = {name: result_bytes(r, batch) for name, r in network.values().items() if base[name] == name}
    dies: dict[int, list[str]] = {}
    for name in size:
        dies.setdefault(last[name], []).append(name)
    alive = peak = sum(size[r.name] for r in network.inputs)
    where: str | None = None
    for i, layer in enumerate(network.layers):
        overwritten = _overwritten(layer, i, lives)
        alive += sum(size[r.name] for r in layer.results if base[r.name] == r.name)
        alive -= size.get(overwritten or "", 0)
        if alive > peak or where is None:
            peak, where = max(alive, peak), layer.name
        alive -= sum(size[name] for name in dies.get(i, ()) if name != overwritten)
    return peak, where


def _in_place(network: Network, lives: _Lives) -> frozenset[str]:
    return frozenset(
        layer.name
        for i, layer in enumerate(network.layers)
        if any(lives.base[r.name] != r.name for r in layer.results) or _overwritten(layer, i, lives)
    )


def _lifetimes(network: Network, batch: int) -> _Lives:
    base = {r.name: r.name for r in network.inputs}
    last = {r.name: 0 for r in network.inputs}
    for i, layer in enumerate(network.layers):
        for operand in layer.activations:
            last[base[operand.name]] = i
        for result in layer.results:
            base[result.name] = base[layer.operands[0].name] if _is_view(layer, batch) else result.name
            last.setdefault(base[result.name], i)
    last.update((base[name], len(network.layers)) for name in network.outputs)
    return _Lives(base=base, last=last)


def _is_view(layer: Layer, batch: int) -> bool:
    """Whether the result is the operand's memory under another shape; another format makes it a copy."""
    if layer.op not in VIEW_OPS or not layer.operands or layer.operands[0].kind is not OperandKind.ACTIVATION:
        return False
    return result_bytes(layer.operands[0], batch) == result_bytes(layer.results[0], batch)


def _overwritten(layer: Layer, index: int, lives: _Lives) -> str | None:
    """Return the value whose memory a layer's result takes over, None where it needs memory of its own."""
    first = next(iter(layer.activations), None)
    if not _elementwise(layer) or first is None or any(lives.base[r.name] != r.name for r in layer.results):
        return None
    held = lives.base[first.name]
    return held if lives.last[held] == index else None


def _elementwise(layer: Layer) -> bool:
    """Whether a layer replaces each element of its one operand: activations, changes of format, views that are copies."""
    a = layer.attributes
    if isinstance(a, QuantizeAttributes):
        return a.kind is not QuantizeKind.DYNAMIC
    return layer.op is Op.ACTIVATION or layer.op in VIEW_OPS


def unconnected(network: Network) -> bool:
    """Whether no two layers share a value: a list of layers rather than a network."""
    read = [o.name for layer in network.layers for o in _distinct(layer)]
    made = {r.name for layer in network.layers for r in layer.results}
    return len(network.layers) > 1 and len(set(read)) == len(read) and made.isdisjoint(read)


def _distinct(layer: Layer) -> tuple[Operand, ...]:
    """Return a layer's activation operands, one that it reads twice once."""
    return tuple({o.name: o for o in layer.activations}.values())


def _moved(layer: Layer, batch: int) -> tuple[int, int]:
    """Return the bytes of a layer's activation operands and of its results."""
    return (
        sum(result_bytes(o, batch) for o in _distinct(layer)),
        sum(result_bytes(r, batch) for r in layer.results),
    )


# --- weights, and SpArSe's formulas -------------------------------------------------------------------------------------


def _working_memory(layer: Layer, batch: int) -> tuple[int, int, int, int]:
    """Return l0(x) + l0(w) in elements and bytes, and l0(x) + l0(y) in elements and bytes, of one layer."""
    x, w = _distinct(layer), tuple({o.name: o for o in layer.parameters}.values())
    x_elements, x_bytes = sum(nonzeros(o, batch) for o in x), sum(nonzero_bytes(o, batch) for o in x)
    w_elements, w_bytes = sum(nonzeros(o) for o in w), sum(nonzero_bytes(o) for o in w)
    y_elements = sum(r.type.elements(batch) for r in layer.results)
    return x_elements + w_elements, x_bytes + w_bytes, x_elements + y_elements, x_bytes + _moved(layer, batch)[1]


def nonzeros(operand: Operand, batch: int = 1) -> int:
    """Return the elements of an operand that are not zero, by its density (1 where nothing is known)."""
    return round(operand.type.elements(batch) * operand.sparsity.density)


def nonzero_bytes(operand: Operand, batch: int = 1) -> int:
    """Return the bytes of an operand's non-zeros at its format, rounded up; where they stand is not counted."""
    bits = operand.format.stored_bits if operand.format else 32.0
    return ceil(nonzeros(operand, batch) * bits / 8)


def weight_bytes(network: Network) -> int:
    """Return the bytes of all parameters at their formats, zeros included, shared tensors once."""
    return sum(result_bytes(o, 1) for o in _by_name(network, OperandKind.PARAMETER).values())


def _by_name(network: Network, kind: OperandKind) -> dict[str, Operand]:
    return {o.name: o for layer in network.layers for o in layer.operands if o.kind is kind}
