"""Networks and designs that the tests of this room share."""

from dataclasses import replace
from typing import Any

import numpy as np

from picojoule.reram.accelerator import ReramAccelerator
from picojoule.sim import attributes as at
from picojoule.sim.attributes import Op
from picojoule.sim.builder import NetworkBuilder, parameter
from picojoule.sim.formats import parse_format
from picojoule.sim.hardware import load_hardware
from picojoule.sim.ir import Layer, Network, Operand, TensorType
from picojoule.sim.report import Report
from picojoule.sim.weights import constant_fill, from_array

EIGHT = {"weight_bits": 8, "activation_bits": 8}
DIFFERENTIAL = {"encoding": "differential", "adc_bits": "needed", **EIGHT}


def image(channels: int, size: int) -> TensorType:
    return TensorType(shape=(1, channels, size, size), batch_axis=0)


def conv(
    b: NetworkBuilder, x: Operand, n: int, name: str, *, kernel: int = 3, stride: int = 1, groups: int = 1
) -> Operand:
    weight = parameter(f"{name}.weight", constant_fill(0.5, (n, x.shape[1] // groups, kernel, kernel)))
    pad = (kernel // 2,) * 2
    a = at.ConvAttributes(stride=(stride, stride), padding_begin=pad, padding_end=pad, dilation=(1, 1), groups=groups)
    return b.add(Op.CONV, [x, weight], a, name=name)[0]


def relu(b: NetworkBuilder, x: Operand, name: str) -> Operand:
    return b.add(Op.ACTIVATION, [x], at.ActivationAttributes(kind=at.ActivationKind.RELU), name=name)[0]


def linear(b: NetworkBuilder, x: Operand, n: int, name: str) -> Operand:
    weight = parameter(f"{name}.weight", constant_fill(0.5, (n, x.shape[-1])))
    return b.add(Op.LINEAR, [x, weight], at.LinearAttributes(), name=name)[0]


def one_conv(k_channels: int = 64, n: int = 128, size: int = 8, **options: Any) -> Network:
    b = NetworkBuilder("one")
    return b.finish([conv(b, b.input("x", image(k_channels, size)), n, "conv", **options)])


def one_linear(k: int, n: int, tokens: int = 1) -> Network:
    b = NetworkBuilder("one")
    x = b.input("x", TensorType(shape=(1, tokens, k), batch_axis=0))
    return b.finish([linear(b, x, n, "fc")])


def small_cnn() -> Network:
    """Convolutions, a depthwise one, a residual addition, pooling, sigmoid, a classifier."""
    b = NetworkBuilder("small")
    x = b.input("x", image(3, 16))
    a = relu(b, conv(b, x, 16, "conv1"), "relu1")
    d = relu(b, conv(b, a, 16, "depthwise", groups=16), "relu2")
    p = conv(b, d, 16, "point", kernel=1)
    s = b.add(Op.ELEMENTWISE, [p, a], at.ElementwiseAttributes(kind=at.ElementwiseKind.ADD), name="add")[0]
    pool = at.PoolAttributes(
        kind=at.PoolKind.MAX, kernel=(2, 2), stride=(2, 2), padding_begin=(0, 0), padding_end=(0, 0), dilation=(1, 1)
    )
    s = b.add(Op.POOL, [s], pool, name="pool")[0]
    s = b.add(Op.ACTIVATION, [s], at.ActivationAttributes(kind=at.ActivationKind.SIGMOID), name="sigmoid")[0]
    flat = b.add(
        Op.RESHAPE, [s], at.ReshapeAttributes(), name="flat", types=[TensorType(shape=(1, 1024), batch_axis=0)]
    )[0]
    return b.finish([linear(b, flat, 10, "fc")])


def attention() -> Network:
    """Return a product of two activations between two linear layers."""
    b = NetworkBuilder("attention")
    x = b.input("x", TensorType(shape=(1, 32, 64), batch_axis=0))
    q, k = linear(b, x, 64, "q"), linear(b, x, 64, "k")
    t = b.add(Op.TRANSPOSE, [k], at.TransposeAttributes(permutation=(0, 2, 1)), name="transpose")[0]
    return b.finish([b.add(Op.MATMUL, [q, t], at.MatmulAttributes(), name="scores")[0]])


def with_bits(network: Network, weight: str, activation: str) -> Network:
    """Return the network with these formats on every MAC layer."""
    w, x = parse_format(weight), parse_format(activation)

    def changed(layer: Layer) -> Layer:
        if layer.op not in at.MAC_OPS:
            return layer
        first, second = layer.operands[:2]
        return replace(layer, operands=(replace(first, format=x), replace(second, format=w), *layer.operands[2:]))

    return network.with_layers(tuple(changed(layer) for layer in network.layers))


def isaac(**changes: Any) -> ReramAccelerator:
    made = load_hardware("isaac", changes)
    assert isinstance(made, ReramAccelerator)
    return made


def priced(network: Network, chips: int | None = None, batch: int = 1, **changes: Any) -> Report:
    return isaac(**changes).evaluate(network, chips=chips, batch=batch)


def linears(*codes: np.ndarray, tokens: int = 1) -> Network:
    """Return a chain of linear layers whose weights are these integers."""
    b = NetworkBuilder("codes")
    x = b.input("x", TensorType(shape=(1, tokens, codes[0].shape[1]), batch_axis=0))
    for i, code in enumerate(codes):
        (x,) = b.add(
            Op.LINEAR, [x, parameter(f"w{i}", from_array(code.astype("float32")))], at.LinearAttributes(), name=f"fc{i}"
        )
    network = b.finish([x])

    def stated(layer: Any) -> Any:
        w = replace(layer.operands[1], format=parse_format("int8"), step=(1.0,))
        return replace(layer, operands=(layer.operands[0], w))

    return network.with_layers(tuple(stated(layer) for layer in network.layers))


def random_net(seed: int = 0, groups: int = 1) -> Network:
    """Return two convolutions and a classifier with random weights."""
    rng = np.random.default_rng(seed)
    b = NetworkBuilder("random")
    x = b.input("x", TensorType(shape=(1, 16, 6, 6), batch_axis=0))
    for i in range(2):
        w = rng.normal(size=(32 if i else 16, 16 // groups, 3, 3)).astype("float32")
        a = at.ConvAttributes(stride=(1, 1), padding_begin=(1, 1), padding_end=(1, 1), dilation=(1, 1), groups=groups)
        (x,) = b.add(Op.CONV, [x, parameter(f"w{i}", from_array(w))], a, name=f"conv{i}")
    (x,) = b.add(
        Op.RESHAPE, [x], at.ReshapeAttributes(), name="flat", types=[TensorType(shape=(1, 32 * 36), batch_axis=0)]
    )
    w = rng.normal(size=(10, 32 * 36)).astype("float32")
    return b.finish(b.add(Op.LINEAR, [x, parameter("w", from_array(w))], at.LinearAttributes(), name="fc"))


def product_of_activations() -> Network:
    b = NetworkBuilder("attention")
    q = b.input("q", TensorType(shape=(1, 4, 32, 64), batch_axis=0))
    k = b.input("k", TensorType(shape=(1, 4, 64, 48), batch_axis=0))
    return b.finish(b.add(Op.MATMUL, [q, k], at.MatmulAttributes(), name="scores"))


A = np.array([[1, 1, 1, 1], [0, 0, 0, 0]])  # slice 0: sums to 4 (3 bits and a sign), and an empty column
B = np.array([[64, 64]])  # slice 3: sums to 2 (2 bits and a sign)
C = np.array([[1]])  # slice 0: sums to 1 (1 bit and a sign)
