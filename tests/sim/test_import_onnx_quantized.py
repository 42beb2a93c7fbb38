"""Quantised graphs: formats and steps arrive, nothing of it is work, and results are ONNX Runtime's codes."""

import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from picojoule.sim.attributes import MAC_OPS, Op, QuantizeAttributes, QuantizeKind
from picojoule.sim.formats import Granularity, parse_format
from picojoule.sim.gemm import gemm_view, network_macs
from picojoule.sim.importers.onnx_graph import load_onnx
from picojoule.sim.memory import weight_bytes
from picojoule.sim.passes import fill_formats

RANDOM = np.random.default_rng(3)
INT8, UINT8 = parse_format("int8"), parse_format("uint8")


def rand(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


def small_cnn(runtime):
    """Two convolutions, a residual addition, pooling and a classifier."""
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("MaxPool", ["r1"], ["p1"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p1", "w2", "b2"], ["c2"], name="second", pads=[1, 1, 1, 1], group=2),
        helper.make_node("Add", ["c2", "p1"], ["a2"], name="residual"),
        helper.make_node("Relu", ["a2"], ["r2"]),
        helper.make_node("GlobalAveragePool", ["r2"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["y"], name="classifier", transB=1),
    ]
    stored = {"w1": rand(8, 3, 3, 3), "b1": rand(8), "w2": rand(8, 4, 3, 3), "b2": rand(8)}
    stored |= {"w3": rand(10, 8), "b3": rand(10)}
    return runtime.save(nodes, {"x": ("N", 3, 12, 12)}, stored, opset=17)


def quantised(path, form, per_channel, activation="QUInt8", weight="QInt8"):
    """Quantise with ONNX Runtime's own tool."""
    from onnxruntime import quantization as tool

    class Reader(tool.CalibrationDataReader):
        def __init__(self):
            self.rest = iter([{"x": rand(2, 3, 12, 12)} for _ in range(3)])

        def get_next(self):
            return next(self.rest, None)

    made = path.with_name("quantised.onnx")
    tool.quantize_static(
        path,
        made,
        Reader(),
        quant_format=getattr(tool.QuantFormat, form),
        per_channel=per_channel,
        activation_type=getattr(tool.QuantType, activation),
        weight_type=getattr(tool.QuantType, weight),
    )
    return made


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_statically_quantised_networks(runtime, form, per_channel):
    path = small_cnn(runtime)
    plain = load_onnx(path)
    runtime.path = quantised(path, form, per_channel)
    net = load_onnx(runtime.path)
    assert network_macs(net, 2) == network_macs(plain, 2)
    products = [x for x in net.layers if x.op in MAC_OPS]
    assert [gemm_view(x) for x in products] == [gemm_view(x) for x in plain.layers if x.op in MAC_OPS]
    for layer in products:
        x, weight = layer.operands[:2]
        assert x.format == UINT8
        assert weight.format == (INT8.per_channel() if per_channel else INT8)
        channels = layer.results[0].shape[1]
        assert weight.step is not None
        assert len(weight.step) == (channels if per_channel else 1)
        codes = np.asarray(weight.weights.array()) / np.reshape(weight.step, (-1, *[1] * (len(weight.shape) - 1)))
        assert np.abs(codes - np.rint(codes)).max() < 1e-3
        assert np.abs(codes).max() <= 128
    assert products[1].operands[0].step is not None  # after a ReLU the zero point is zero
    assert products[0].operands[0].step is None  # the image has a zero point
    filled, assumed = fill_formats(net, INT8, INT8)
    assert not assumed
    stored = {x.name: x.results[0].format for x in filled.layers if x.op in MAC_OPS}
    assert set(list(stored.values())[:2]) == {UINT8}  # a producer writes the codes its reader wants
    assert weight_bytes(filled) == 8 * 27 + 8 * 36 + 80 + 4 * 26
    runtime.agree(net, (1, 2), atol=1e-6)  # the same codes, bit by bit


@pytest.mark.filterwarnings("ignore")
def test_asymmetric_weights_keep_their_bits_and_lose_their_step(runtime):
    runtime.path = quantised(small_cnn(runtime), "QDQ", False, weight="QUInt8")
    net = load_onnx(runtime.path)
    weights = [x.operands[1] for x in net.layers if x.op in MAC_OPS]
    assert {w.format for w in weights} == {INT8}
    without = [w.name for w in weights if w.step is None]
    assert without
    assert [n for n in net.notes if "zero point" in n] == [
        f"{name.removesuffix('_DequantizeLinear_Output')}_quantized: its codes have a zero point, so hardware of symmetric "
        "integers rounds it anew to int8"
        for name in without
    ]
    runtime.agree(net, (1, 2), atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_dynamically_quantised_networks(runtime):
    from onnxruntime import quantization as tool

    path = small_cnn(runtime)
    plain = load_onnx(path)
    runtime.path = path.with_name("dynamic.onnx")
    tool.quantize_dynamic(path, runtime.path)
    net = load_onnx(runtime.path)
    assert {n.op_type for n in onnx.load(runtime.path).graph.node} >= {"ConvInteger", "DynamicQuantizeLinear"}
    assert network_macs(net, 2) == network_macs(plain, 2)
    products = [x for x in net.layers if x.op in MAC_OPS]
    assert {(x.operands[0].format, x.operands[1].format) for x in products} == {(UINT8, INT8)}
    assert {x.operands[1].step for x in products} == {(1.0,)}
    kinds = [x.attributes.kind for x in net.layers if isinstance(x.attributes, QuantizeAttributes)]
    assert set(kinds) == {QuantizeKind.DYNAMIC, QuantizeKind.DEQUANTIZE}
    runtime.agree(net, (1, 2), atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_pricing_a_quantised_network_needs_no_torch(runtime):
    path = quantised(small_cnn(runtime), "QDQ", True)
    code = (
        "import sys, picojoule as pj; "
        f"report = pj.evaluate(pj.load({str(path)!r}), 'edge-32x32'); "
        "assert report.provenance is not None; "
        "assert not {'torch', 'matplotlib', 'onnxruntime'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def code_type(name):
    return helper.tensor_dtype_to_np_dtype(getattr(TensorProto, name))


@pytest.mark.parametrize(
    ("name", "form", "opset"),
    [("INT8", "int8", 13), ("INT16", "int16", 21), ("INT4", "int4", 21), ("UINT4", "int4", 21), ("INT2", "int2", 25)],
)
def test_stored_codes_of_every_width(runtime, name, form, opset):
    low, high = {"INT8": (-127, 127), "INT16": (-999, 999), "INT4": (-7, 7), "UINT4": (1, 15), "INT2": (-1, 1)}[name]
    codes = RANDOM.integers(low, high, (6, 5), endpoint=True)
    zero = 8 if name == "UINT4" else 0  # the middle of an unsigned range: signed codes
    scale = np.float32([0.5, 0.25, 0.125, 1, 2])
    stored = {
        "q": numpy_helper.from_array(codes.astype(code_type(name)), "q"),
        "s": scale,
        "z": numpy_helper.from_array(np.full(5, zero).astype(code_type(name)), "z"),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], axis=1),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    net = load_onnx(runtime.save(nodes, {"x": ("N", 6)}, stored, opset=opset))
    (layer,) = net.layers
    assert layer.op is Op.LINEAR
    weight = layer.operands[1]
    assert str(weight.format) == form
    assert weight.format.per is Granularity.CHANNEL
    assert weight.step == tuple(scale)
    assert np.array_equal(weight.weights.array(), ((codes - zero) * scale).T)


def test_steps_along_the_inputs_are_left_out(runtime):
    stored = {"q": np.int8(RANDOM.integers(-9, 9, (6, 5))), "s": np.abs(rand(6)) + 1}
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s"], ["w"], axis=0),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    net = load_onnx(runtime.save(nodes, {"x": ("N", 6)}, stored))
    assert net.layers[0].operands[1].format == INT8
    assert net.layers[0].operands[1].step is None
    runtime.agree(net)


def test_a_transposed_weight_keeps_its_channels(runtime):
    stored = {"q": np.int8(RANDOM.integers(-9, 9, (5, 6))), "s": np.abs(rand(5)) + 1}
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s"], ["w"], axis=0),
        helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "t"], ["y"]),
    ]
    net = load_onnx(runtime.save(nodes, {"x": ("N", 6)}, stored))
    weight = net.layers[-1].operands[1]
    assert weight.format == INT8.per_channel()
    assert weight.step == tuple(float(s) for s in stored["s"])
    runtime.agree(net)


def test_fake_quantised_weights_are_stored_codes(runtime):
    """Quantisation-aware training writes real weights through a quantiser and back."""
    stored = {"w": rand(4, 3, 3, 3), "s": np.abs(rand(4)) / 20 + 0.01, "z": np.zeros(4, np.int8)}
    nodes = [
        helper.make_node("QuantizeLinear", ["w", "s", "z"], ["q"], axis=0),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], axis=0),
        helper.make_node("Conv", ["x", "d"], ["y"]),
    ]
    net = load_onnx(runtime.save(nodes, {"x": ("N", 3, 6, 6)}, stored))
    assert [x.op for x in net.layers] == [Op.CONV]
    assert net.layers[0].operands[1].format == INT8.per_channel()
    assert net.layers[0].operands[1].step == tuple(float(s) for s in stored["s"])
    runtime.agree(net)


def test_blocks_of_weights_are_read_and_noted(runtime):
    stored = {"q": np.int8(RANDOM.integers(-7, 7, (8, 5))), "s": np.abs(rand(2, 5)) + 1}
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s"], ["w"], axis=0, block_size=4),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    net = load_onnx(runtime.save(nodes, {"x": ("N", 8)}, stored, opset=21))
    assert net.layers[0].operands[1].format == INT8
    assert net.notes == ("q: each 4 of its codes have a scale of their own, whose bits are not counted",)
    runtime.agree(net)


def test_formats_pass_what_only_moves_values(runtime):
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("Transpose", ["d"], ["t"], perm=[0, 2, 1]),
        helper.make_node("Relu", ["t"], ["r"]),
        helper.make_node("MatMul", ["d", "r"], ["p"]),
        helper.make_node("Sigmoid", ["r"], ["g"]),
        helper.make_node("MatMul", ["g", "p"], ["y"]),
    ]
    stored = {"s": np.float32(0.05), "z": np.int8(0)}
    net = load_onnx(runtime.save(nodes, {"x": ("N", 6, 5)}, stored))
    first, second = [x for x in net.layers if x.op is Op.MATMUL]
    assert [(o.format, o.step) for o in first.operands] == [(INT8, (float(np.float32(0.05)),))] * 2
    assert [o.format for o in second.operands] == [None, None]
    runtime.agree(net)


def test_quantisers_per_channel_of_an_activation(runtime):
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], axis=1),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], axis=1),
    ]
    stored = {"s": np.float32([0.5, 0.01, 0.1]), "z": np.uint8([3, 128, 0])}
    net = load_onnx(runtime.save(nodes, {"x": ("N", 3, 7)}, stored))
    assert [x.attributes for x in net.layers] == [
        QuantizeAttributes(kind=QuantizeKind.QUANTIZE, low=0, high=255, axis=1, has_zero_point=True),
        QuantizeAttributes(kind=QuantizeKind.DEQUANTIZE, low=0, high=255, axis=1, has_zero_point=True),
    ]
    runtime.agree(net, atol=1e-6)


# Integer operators


def codes(low, high, *shape, dtype=np.uint8):
    return RANDOM.integers(low, high, shape).astype(dtype)


SCALES = {"xs": np.float32(0.04), "xz": np.uint8(120), "ys": np.float32(0.1), "yz": np.uint8(90)}
ON_CODES = ["x", "xs", "xz"]


def on_codes(op, further=(), **attributes):
    return helper.make_node(op, [*ON_CODES, *further, "ys", "yz"], ["q"], domain="com.microsoft", **attributes)


INTEGER = {
    "add": (on_codes("QLinearAdd", ["c", "cs", "cz"]), {"c": codes(0, 255, 4, 1, 1)}),
    "mul": (on_codes("QLinearMul", ["c", "cs", "cz"]), {"c": codes(0, 255, 4, 1, 1)}),
    "leaky_relu": (on_codes("QLinearLeakyRelu", alpha=0.2), {}),
    "sigmoid": (on_codes("QLinearSigmoid"), {}),
    "softmax": (on_codes("QLinearSoftmax", axis=1, opset=13), {"ys": np.float32(1 / 256), "yz": np.uint8(0)}),
    "global_average": (on_codes("QLinearGlobalAveragePool"), {}),
    "average": (on_codes("QLinearAveragePool", kernel_shape=[2, 2]), {}),
    "concat": (
        helper.make_node(
            "QLinearConcat", ["ys", "yz", *ON_CODES, *ON_CODES], ["q"], domain="com.microsoft", axis=1
        ),
        {},
    ),
    "conv": (
        helper.make_node("QLinearConv", [*ON_CODES, "w", "ws", "wz", "ys", "yz", "b"], ["q"], pads=[1, 1, 1, 1]),
        {
            "w": codes(-99, 99, 6, 4, 3, 3, dtype=np.int8),
            "ws": np.float32(RANDOM.uniform(0.01, 0.02, 6)),
            "wz": np.zeros(6, np.int8),
            "b": codes(-9999, 9999, 6, dtype=np.int32),
        },
    ),
    "matmul": (
        helper.make_node("QLinearMatMul", [*ON_CODES, "w", "ws", "wz", "ys", "yz"], ["q"]),
        {"w": codes(0, 255, 5, 6), "ws": np.float32(0.02), "wz": np.uint8(99)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", INTEGER, ids=list(INTEGER))
def test_integer_operators_give_the_codes_of_the_reference(runtime, case):
    node, more = INTEGER[case]
    stored = {**SCALES, "cs": np.float32(0.03), "cz": np.uint8(10), **more}
    stored = {n: v for n, v in stored.items() if n in node.input}
    path = runtime.save(
        [node], {"x": ("N", 4, 5, 5)}, stored, outputs=["q"], types=dict.fromkeys("xq", TensorProto.UINT8)
    )
    net = load_onnx(path)
    assert net.layers[-1].results[0].format == UINT8
    assert net.layers[0].operands[0].format == UINT8
    runtime.agree(net, feeds={"x": lambda s: codes(0, 255, *s)}, rtol=0, atol=1)


def test_qgemm_with_a_real_result(runtime):
    stored = {"xs": np.float32(0.04), "xz": np.uint8(3), "w": codes(-99, 99, 6, 5, dtype=np.int8)}
    stored |= {"ws": np.float32(RANDOM.uniform(0.01, 0.02, 6)), "wz": np.zeros(6, np.int8)}
    stored |= {"b": codes(-999, 999, 6, dtype=np.int32)}
    node = helper.make_node(
        "QGemm", [*ON_CODES, "w", "ws", "wz", "b"], ["y"], domain="com.microsoft", transB=1, alpha=1.0
    )
    net = load_onnx(runtime.save([node], {"x": ("N", 5)}, stored, types={"x": TensorProto.UINT8}))
    assert net.layers[-1].operands[1].format == INT8.per_channel()
    assert len(net.layers[-1].operands) == 3
    runtime.agree(net, feeds={"x": lambda s: codes(0, 255, *s)})


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("bits", [4, 8])
def test_packed_weights(runtime, zeros, bits):
    inner, out, block = 40, 6, 16
    stored = {"w": codes(0, 255, out, 3, block * bits // 8), "s": np.abs(rand(out * 3)) + 0.1}
    if zeros:
        stored["z"] = codes(0, 255, out * -(-3 * bits // 8))
    node = helper.make_node(
        "MatMulNBits", ["x", *stored], ["y"], domain="com.microsoft", K=inner, N=out, bits=bits, block_size=block
    )
    net = load_onnx(runtime.save([node], {"x": ("N", 7, inner)}, stored))
    assert [x.op for x in net.layers] == [Op.LINEAR]
    assert net.layers[0].operands[1].format.bits == bits
    assert network_macs(net, 2) == 2 * 7 * inner * out
    assert net.parameters == inner * out
    runtime.agree(net, rtol=1e-3, atol=2e-2 if bits == 8 else 1e-4)


def test_wrong_scales_are_named(runtime):
    from picojoule.sim.errors import InputError

    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s"], ["w"], axis=1, name="back"),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    path = runtime.save(nodes, {"x": ("N", 6)}, {"q": np.ones((6, 5), np.int8), "s": rand(4)})
    with pytest.raises(InputError) as caught:
        load_onnx(path)
    assert str(caught.value) == ("net.onnx: DequantizeLinear 'back' has 4 scales for the 5 elements of axis 1")
    path = runtime.save(nodes, {"x": ("N", 6)}, {"q": np.ones((6, 5), np.int8), "s": np.float32([1, 1, 0, 1, 1])})
    with pytest.raises(InputError) as caught:
        load_onnx(path)
    assert str(caught.value) == (
        "net.onnx: DequantizeLinear 'back' has a scale of zero or not finite; the file is damaged"
    )
