"""The matrix-product view of a layer: m x k times k x n, `groups` times."""

from dataclasses import dataclass
from math import prod

from picojoule.sim.attributes import ConvAttributes, DeformConvAttributes, Op, RecurrentAttributes
from picojoule.sim.ir import Layer, Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Gemm:
    """`groups` products of m x k by k x n.

    Convolution: m = output pixels x batch, n = output channels of a group, k = input channels of a group x window.
    Transposed convolution: m = input pixels x batch, n = output channels of a group x window, k = input channels of a
    group. A batched product: groups = its different right-hand matrices, and
    products that share one are more rows of it. A recurrent layer: m = steps x batch; the rows of one step need the results
    of the step before, so they come in `steps` turns.
    """

    m: int
    n: int
    k: int
    groups: int = 1
    steps: int = 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.m * self.n * self.k * self.groups


def gemm_view(layer: Layer, batch: int = 1) -> Gemm | None:
    """Return the GEMM of a layer for `batch` samples, or None for an operator without multiply-accumulates."""
    match layer.op:
        case Op.CONV | Op.DEFORM_CONV:
            return _conv(layer, batch)
        case Op.LINEAR:
            x, weight = layer.operands[0].type.at(batch), layer.operands[1].shape
            return Gemm(m=prod(x[:-1]), n=weight[0], k=weight[1])
        case Op.MATMUL:
            return _matmul(layer, batch)
        case Op.RECURRENT:
            return _recurrent(layer, batch)
        case _:
            return None


def _conv(layer: Layer, batch: int) -> Gemm:
    attributes = layer.attributes
    assert isinstance(attributes, ConvAttributes | DeformConvAttributes)
    x, weight = layer.operands[0].type.at(batch), layer.operands[1].shape
    groups = attributes.groups
    if isinstance(attributes, ConvAttributes) and attributes.transposed:
        pixels = x[0] * prod(x[2:])
        return Gemm(m=pixels, n=prod(weight[1:]), k=weight[0] // groups, groups=groups)
    y = layer.results[0].type.at(batch)
    return Gemm(m=y[0] * prod(y[2:]), n=weight[0] // groups, k=prod(weight[1:]), groups=groups)


def _matmul(layer: Layer, batch: int) -> Gemm:
    a, b = (o.type.at(batch) for o in layer.operands[:2])
    m = a[-2] if len(a) > 1 else 1
    n = b[-1] if len(b) > 1 else 1
    lead = prod(layer.results[0].type.at(batch)) // (m * n)
    matrices = prod(b[:-2])  # different right-hand matrices; products that share one are more rows of it
    return Gemm(m=m * lead // matrices, n=n, k=a[-1], groups=matrices)


def _recurrent(layer: Layer, batch: int) -> Gemm:
    a = layer.attributes
    assert isinstance(a, RecurrentAttributes)
    gates, weight = layer.operands[0].type.at(batch), layer.operands[1].shape
    return Gemm(m=prod(gates[:2]), n=weight[0], k=weight[1], steps=gates[a.time_axis])


def layer_macs(layer: Layer, batch: int = 1) -> int:
    """Return a layer's multiply-accumulates (0 for other operators)."""
    view = gemm_view(layer, batch)
    return view.macs if view else 0


def network_macs(network: Network, batch: int = 1) -> int:
    """Return the multiply-accumulates of all layers."""
    return sum(layer_macs(layer, batch) for layer in network.layers)
