"""Files that ONNX Runtime's optimiser wrote: its fused operators are taken apart into the same network."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from picojoule.sim.attributes import Op
from picojoule.sim.gemm import network_macs
from picojoule.sim.importers.onnx_graph import load_onnx

RANDOM = np.random.default_rng(41)
IMAGE = ("N", 4, 8, 8)
ROWS = ("N", 6, 16)


def rand(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


def fused(op, inputs, **attributes):
    return helper.make_node(op, inputs, ["y"], domain="com.microsoft", name="it", **attributes)


CASES = {
    # node, stored, ifmap, operators of the layers, multiply-accumulates of one sample
    "conv": (
        fused("FusedConv", ["x", "w", "b"], activation="Relu", pads=[1, 1, 1, 1]),
        {"w": rand(5, 4, 3, 3), "b": rand(5)},
        IMAGE,
        [Op.CONV, Op.ACTIVATION],
        64 * 5 * 36,
    ),
    "conv_with_parameters": (
        fused("FusedConv", ["x", "w"], activation="LeakyRelu", activation_params=[0.3]),
        {"w": rand(5, 4, 3, 3)},
        IMAGE,
        [Op.CONV, Op.ACTIVATION],
        36 * 5 * 36,
    ),
    "conv_clipped": (
        fused("FusedConv", ["x", "w"], activation="Clip", activation_params=[0.0, 6.0]),
        {"w": rand(5, 4, 3, 3)},
        IMAGE,
        [Op.CONV, Op.ACTIVATION],
        36 * 5 * 36,
    ),
    "conv_with_addend": (
        fused("FusedConv", ["x", "w", "b", "x"], activation="Relu", pads=[1, 1, 1, 1]),
        {"w": rand(4, 4, 3, 3), "b": rand(4)},
        IMAGE,
        [Op.CONV, Op.ELEMENTWISE, Op.ACTIVATION],
        64 * 4 * 36,
    ),
    "gemm": (
        fused("FusedGemm", ["x", "w", "b"], activation="Relu"),
        {"w": rand(16, 5), "b": rand(5)},
        ("N", 16),
        [Op.LINEAR, Op.ACTIVATION],
        80,
    ),
    "matmul": (
        fused("FusedMatMul", ["x", "x"], transB=1, alpha=0.25),
        {},
        ROWS,
        [Op.TRANSPOSE, Op.MATMUL, Op.ELEMENTWISE],
        6 * 6 * 16,
    ),
    "gelu": (fused("Gelu", ["x"]), {}, ROWS, [Op.ACTIVATION], 0),
    "bias_gelu": (fused("BiasGelu", ["x", "b"]), {"b": rand(16)}, ROWS, [Op.ELEMENTWISE, Op.ACTIVATION], 0),
    "fast_gelu": (fused("FastGelu", ["x", "b"]), {"b": rand(16)}, ROWS, [Op.ELEMENTWISE, Op.ACTIVATION], 0),
    "quick_gelu": (fused("QuickGelu", ["x"]), {}, ROWS, [Op.ELEMENTWISE, Op.ACTIVATION, Op.ELEMENTWISE], 0),
    "skip_layer_norm": (
        fused("SkipLayerNormalization", ["x", "x", "g", "b", "c"]),
        {"g": rand(16), "b": rand(16), "c": rand(16)},
        ROWS,
        [Op.ELEMENTWISE, Op.ELEMENTWISE, Op.NORM],
        0,
    ),
    "skip_rms_norm": (
        fused("SkipSimplifiedLayerNormalization", ["x", "x", "g"]),
        {"g": rand(16)},
        ROWS,
        [Op.ELEMENTWISE, Op.NORM],
        0,
    ),
    "attention": (
        fused("Attention", ["x", "w", "b"], num_heads=2, unidirectional=1),
        {"w": rand(16, 48) / 4, "b": rand(48)},
        ROWS,
        None,
        6 * 16 * 48 + 2 * 2 * 6 * 6 * 8,
    ),
    "multi_head_attention": (
        fused("MultiHeadAttention", ["x", "x", "x", "b"], num_heads=4),
        {"b": rand(48)},
        ROWS,
        None,
        2 * 4 * 6 * 6 * 4,
    ),
}


@pytest.mark.parametrize("case", CASES, ids=list(CASES))
def test_fused_operators(runtime, case):
    node, stored, shape, ops, macs = CASES[case]
    net = load_onnx(runtime.save([node], {"x": shape}, stored))
    assert ops is None or [x.op for x in net.layers] == ops
    assert network_macs(net, 2) == 2 * macs
    runtime.agree(net, rtol=1e-3, atol=1e-4)


def test_embeddings_with_their_norm_and_the_mask_of_attention(runtime):
    nodes = [
        helper.make_node(
            "EmbedLayerNormalization",
            ["ids", "", "words", "places", "", "g", "b", "mask"],
            ["e", "lengths"],
            domain="com.microsoft",
        ),
        fused("Attention", ["e", "w", "bias", "lengths"], num_heads=2),
    ]
    stored = {"words": rand(11, 16), "places": rand(9, 16), "g": rand(16), "b": rand(16)}
    stored |= {"w": rand(16, 48) / 4, "bias": rand(48)}
    kinds = dict.fromkeys(("ids", "mask"), TensorProto.INT32)
    net = load_onnx(runtime.save(nodes, {"ids": ("N", 5), "mask": ("N", 5)}, stored, types=kinds))
    feeds = {
        "ids": lambda s: RANDOM.integers(0, 11, s).astype(np.int32),
        "mask": lambda s: np.broadcast_to(np.int32([1, 1, 1, 0, 0]), s).copy(),
    }
    runtime.agree(net, feeds=feeds, rtol=1e-3, atol=1e-4)


def test_what_a_fused_operator_has_besides_is_refused_by_name(runtime):
    node = fused("FusedMatMul", ["x", "x"], transBatchA=1, transB=1)
    net = load_onnx(runtime.save([node], {"x": (6, 6, 16)}, known={"y": [6, 6, 6]}))
    assert [(u.op, u.reason) for u in net.unsupported] == [("com.microsoft.FusedMatMul", "it moves batch axes")]


def test_a_network_and_what_the_optimiser_made_of_it(runtime):
    import onnxruntime

    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Reshape", ["r", "shape"], ["t"]),
        helper.make_node("MatMul", ["t", "v"], ["m"]),
        helper.make_node("Add", ["m", "vb"], ["a"]),
        helper.make_node("Div", ["a", "root"], ["d"]),
        helper.make_node("Erf", ["d"], ["e"]),
        helper.make_node("Add", ["e", "one"], ["o"]),
        helper.make_node("Mul", ["a", "o"], ["h"]),
        helper.make_node("Mul", ["h", "half"], ["g"]),
        helper.make_node("Add", ["g", "t"], ["s"]),
        helper.make_node("LayerNormalization", ["s", "gain", "shift"], ["y"]),
    ]
    stored = {"w": rand(16, 4, 3, 3), "b": rand(16), "shape": np.array([0, 64, 16]), "v": rand(16, 16)}
    stored |= {"vb": rand(16), "root": np.float32(2**0.5), "one": np.float32(1), "half": np.float32(0.5)}
    stored |= {"gain": rand(16), "shift": rand(16)}
    path = runtime.save(nodes, {"x": IMAGE}, stored)
    plain = load_onnx(path)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    runtime.path = path.with_name("optimised.onnx")
    options.optimized_model_filepath = str(runtime.path)
    options.log_severity_level = 4
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    used = {n.op_type for n in onnx.load(runtime.path).graph.node}
    assert {"FusedConv", "BiasGelu", "SkipLayerNormalization"} <= used
    net = load_onnx(runtime.path)
    assert network_macs(net, 3) == network_macs(plain, 3)
    assert net.parameters == plain.parameters
    runtime.agree(net, rtol=1e-3, atol=1e-4)
