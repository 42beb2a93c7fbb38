"""Spelt-out operators become one layer, with the same values; what somebody else reads stays apart."""

import math

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from picojoule.sim.attributes import ActivationKind as Act
from picojoule.sim.attributes import NormKind, Op
from picojoule.sim.importers.onnx_graph import load_onnx
from picojoule.sim.passes import fold_batch_norm

RANDOM = np.random.default_rng(31)


def rand(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


class Spelling:
    """Writes nodes from expressions."""

    def __init__(self):
        self.nodes, self.stored = [], {}

    def __call__(self, op, *inputs, **attributes):
        names = [i if isinstance(i, str) else self.number(i) for i in inputs]
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, names, [name], **attributes))
        return name

    def number(self, value):
        name = f"c{len(self.stored)}"
        self.stored[name] = np.asarray(value, np.float32)
        return name


def gelu_erf(f, x):
    return f("Mul", f("Mul", x, f("Add", f("Erf", f("Div", x, math.sqrt(2))), 1.0)), 0.5)


def gelu_erf_halved_first(f, x):
    return f("Mul", f("Mul", 0.5, x), f("Add", 1.0, f("Erf", f("Mul", x, 1 / math.sqrt(2)))))


def gelu_tanh(f, x):
    inner = f("Add", x, f("Mul", f("Pow", x, 3.0), 0.044715))
    return f("Mul", f("Mul", x, 0.5), f("Add", f("Tanh", f("Mul", inner, math.sqrt(2 / math.pi))), 1.0))


def gelu_tanh_by_products(f, x):
    inner = f("Mul", f("Mul", x, 0.7978845608), f("Add", f("Mul", f("Mul", 0.044715, x), x), 1.0))
    return f("Mul", f("Mul", 0.5, x), f("Add", 1.0, f("Tanh", inner)))


def silu(f, x):
    return f("Mul", x, f("Sigmoid", x))


def silu_by_exponentials(f, x):
    return f("Div", x, f("Add", f("Exp", f("Neg", x)), 1.0))


def hard_swish(f, x):
    return f("Mul", x, f("HardSigmoid", x, alpha=1 / 6, beta=0.5))


def hard_swish_by_clip(f, x):
    return f("Div", f("Mul", x, f("Clip", f("Add", x, 3.0), 0.0, 6.0)), 6.0)


def hard_sigmoid(f, x):
    return f("Div", f("Clip", f("Add", x, 3.0), 0.0, 6.0), 6.0)


def mish(f, x):
    return f("Mul", x, f("Tanh", f("Softplus", x)))


def leaky(f, x):
    return f("Max", x, f("Mul", x, 0.1))


def relu6(f, x):
    return f("Min", f("Max", x, 0.0), 6.0)


ACTIVATIONS = {
    gelu_erf: Act.GELU,
    gelu_erf_halved_first: Act.GELU,
    gelu_tanh: Act.GELU_TANH,
    gelu_tanh_by_products: Act.GELU_TANH,
    silu: Act.SILU,
    silu_by_exponentials: Act.SILU,
    hard_swish: Act.HARD_SWISH,
    hard_swish_by_clip: Act.HARD_SWISH,
    hard_sigmoid: Act.HARD_SIGMOID,
    mish: Act.MISH,
    leaky: Act.LEAKY_RELU,
    relu6: Act.CLIP,
}


def network(runtime, spell, shape=("N", 6, 8), **options):
    """Return the network of a spelling between two linear maps, so that nothing is an output by chance."""
    f = Spelling()
    x = f("Mul", "x", rand(*shape[1:]))
    y = spell(f, x)
    f.nodes.append(helper.make_node("Add", [y, f.number(rand(*shape[1:]))], ["y"]))
    return load_onnx(runtime.save(f.nodes, {"x": shape}, f.stored, **options))


@pytest.mark.parametrize("spell", ACTIVATIONS, ids=lambda f: f.__name__)
def test_activations(runtime, spell):
    net = network(runtime, spell)
    assert [x.op for x in net.layers] == [Op.ELEMENTWISE, Op.ACTIVATION, Op.ELEMENTWISE]
    assert net.layers[1].attributes.kind is ACTIVATIONS[spell]
    runtime.agree(net, rtol=1e-4, atol=1e-5)


def test_almost_an_activation_is_none(runtime):
    def not_gelu(f, x):
        return f("Mul", f("Mul", x, f("Add", f("Erf", f("Div", x, 1.42)), 1.0)), 0.5)

    def not_relu(f, x):
        return f("Max", f("Clip", x, -100.0, 100.0), 0.0)

    for spell in (not_gelu, not_relu):
        net = network(runtime, spell)
        assert all(getattr(x.attributes, "kind", None) not in (Act.GELU, Act.RELU) for x in net.layers)
        runtime.agree(net, feeds={"x": lambda s: 90 * rand(*s)})


def test_what_others_read_stays(runtime):
    f = Spelling()
    gate = f("Sigmoid", "x")
    product = f("Mul", "x", gate)
    f.nodes.append(helper.make_node("Add", [product, gate], ["y"]))
    net = load_onnx(runtime.save(f.nodes, {"x": ("N", 6)}, f.stored))
    assert [x.op for x in net.layers] == [Op.ACTIVATION, Op.ELEMENTWISE, Op.ELEMENTWISE]
    f = Spelling()
    gate = f("Sigmoid", "x")
    f.nodes.append(helper.make_node("Mul", ["x", gate], ["y"]))
    net = load_onnx(runtime.save(f.nodes, {"x": ("N", 6)}, f.stored, outputs=["y", gate]))
    assert len(net.layers) == 2
    runtime.agree(net)


def layer_norm(f, x):
    centred = f("Sub", x, f("ReduceMean", x, axes=[-1]))
    deviation = f("Sqrt", f("Add", f("ReduceMean", f("Pow", centred, 2.0), axes=[-1]), 1e-5))
    return f("Add", f("Mul", f("Div", centred, deviation), rand(8)), rand(8))


def layer_norm_centred_twice(f, x):
    """TensorFlow's converter subtracts the mean twice and multiplies by a reciprocal."""
    top, below = (f("Sub", x, f("ReduceMean", x, axes=[1, 2])) for _ in range(2))
    variance = f("ReduceMean", f("Mul", below, below), axes=[1, 2])
    inverse = f("Reciprocal", f("Sqrt", f("Add", variance, 1e-6)))
    return f("Add", f("Mul", f("Mul", top, inverse), rand(6, 8)), rand(6, 8))


def rms_norm(f, x):
    mean = f("ReduceMean", f("Pow", x, 2.0), axes=[-1])
    return f("Mul", rand(8), f("Mul", x, f("Div", 1.0, f("Sqrt", f("Add", mean, 1e-6)))))


def norm_alone(f, x):
    centred = f("Sub", x, f("ReduceMean", x, axes=[-1]))
    return f("Div", centred, f("Sqrt", f("Add", f("ReduceMean", f("Mul", centred, centred), axes=[-1]), 1e-5)))


@pytest.mark.parametrize(
    ("spell", "kind", "axes", "stored"),
    [
        (layer_norm, NormKind.LAYER, 1, 2),
        (layer_norm_centred_twice, NormKind.LAYER, 2, 2),
        (rms_norm, NormKind.RMS, 1, 1),
        (norm_alone, NormKind.LAYER, 1, 0),
    ],
)
def test_norms(runtime, spell, kind, axes, stored):
    net = network(runtime, spell)
    assert [x.op for x in net.layers] == [Op.ELEMENTWISE, Op.NORM, Op.ELEMENTWISE]
    a = net.layers[1].attributes
    assert (a.kind, a.axes) == (kind, axes)
    assert len(net.layers[1].operands) == 1 + stored
    runtime.agree(net, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shifted", [False, True])
def test_softmax(runtime, shifted):
    def softmax(f, x):
        power = f("Exp", f("Sub", x, f("ReduceMax", x, axes=[2])) if shifted else x)
        return f("Div", power, f("ReduceSum", power, "axes"))

    f = Spelling()
    y = softmax(f, "x")
    f.nodes.append(helper.make_node("Neg", [y], ["y"]))
    net = load_onnx(runtime.save(f.nodes, {"x": ("N", 6, 8)}, f.stored | {"axes": np.array([2])}))
    assert [x.op for x in net.layers] == [Op.SOFTMAX, Op.ELEMENTWISE]
    runtime.agree(net)


def test_scale_and_shift_of_a_convolution_fold_into_it(runtime):
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Mul", ["c", "scale"], ["m"]),
        helper.make_node("Add", ["m", "shift"], ["a"]),
        helper.make_node("Conv", ["a", "v"], ["d"]),
        helper.make_node("Add", ["bias", "d"], ["y"]),
    ]
    stored = {"w": rand(5, 3, 3, 3), "v": rand(4, 5, 1, 1), "scale": rand(5, 1, 1), "shift": rand(1, 5, 1, 1)}
    stored |= {"bias": rand(4, 1, 1)}
    net = load_onnx(runtime.save(nodes, {"x": ("N", 3, 6, 6)}, stored))
    assert [x.op for x in net.layers] == [Op.CONV, Op.NORM, Op.CONV]
    assert len(net.layers[2].operands) == 3
    runtime.agree(net)
    folded = fold_batch_norm(net)
    assert [x.op for x in folded.layers] == [Op.CONV, Op.CONV]
    assert folded.parameters == sum(v.size for v in stored.values())
    runtime.agree(folded)


def test_scale_and_shift_of_a_batch_norm_merge(runtime):
    """As DenseNet's export spells it: the statistics in one operator, scale and shift in two."""
    nodes = [
        helper.make_node("BatchNormalization", ["x", "one", "zero", "mean", "variance"], ["n"]),
        helper.make_node("Mul", ["n", "scale"], ["m"]),
        helper.make_node("Add", ["m", "shift"], ["a"]),
        helper.make_node("Relu", ["a"], ["y"]),
    ]
    stored = {"one": rand(4), "zero": rand(4), "mean": rand(4), "variance": np.abs(rand(4)) + 0.1}
    stored |= {"scale": rand(4, 1, 1), "shift": rand(4, 1, 1)}
    net = load_onnx(runtime.save(nodes, {"x": ("N", 4, 5, 5)}, stored))
    assert [x.op for x in net.layers] == [Op.NORM, Op.ACTIVATION]
    assert net.parameters == 16
    runtime.agree(net)


def test_a_published_network_with_its_norms_spelt_out():
    from pathlib import Path

    light = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / "light_densenet121.onnx"
    net = load_onnx(light)
    assert {x.op for x in net.layers} == {Op.CONV, Op.NORM, Op.ACTIVATION, Op.POOL, Op.CONCAT}
    assert sum(x.op is Op.NORM for x in net.layers) == 121


@pytest.mark.filterwarnings("ignore")
def test_a_block_of_an_old_exporter(runtime):
    """The exporter before opset 17 spells layer norm, GELU and SiLU; all come back."""
    block = torch.nn.Sequential(
        torch.nn.LayerNorm(16), torch.nn.Linear(16, 32), torch.nn.GELU(), torch.nn.Linear(32, 8), torch.nn.SiLU()
    )
    torch.onnx.export(block.eval(), (torch.randn(1, 5, 16),), runtime.path, dynamo=False, opset_version=14)
    net = load_onnx(runtime.path)
    assert [x.op for x in net.layers] == [Op.NORM, Op.LINEAR, Op.ACTIVATION, Op.LINEAR, Op.ACTIVATION]
    assert [x.attributes.kind for x in net.layers if x.op is Op.ACTIVATION] == [Act.GELU, Act.SILU]
    runtime.agree(net, (1,))
