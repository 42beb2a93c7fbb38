"""Operators of newer graphs, imported and executed, against ONNX Runtime, for one sample and for three."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from picojoule.sim.attributes import Op
from picojoule.sim.gemm import network_macs
from picojoule.sim.importers.onnx_graph import load_onnx

RANDOM = np.random.default_rng(5)
IMAGE = ("N", 4, 9, 7)
LATEST = 22


def rand(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


def ints(*values):
    return np.array(values, dtype=np.int64)


CASES = {
    # operator, further inputs, attributes[, ifmap shape[, opset]]
    "tan": ("Tan", {}, {}),
    "atan": ("Atan", {}, {}),
    "sinh": ("Sinh", {}, {}),
    "cosh": ("Cosh", {}, {}),
    "asinh": ("Asinh", {}, {}),
    "softsign": ("Softsign", {}, {}),
    "celu": ("Celu", {}, {"alpha": 0.8}),
    "selu": ("Selu", {}, {}),
    "thresholded_relu": ("ThresholdedRelu", {}, {"alpha": 0.4}),
    "hard_shrink": ("Shrink", {}, {"lambd": 0.4}),
    "soft_shrink": ("Shrink", {}, {"lambd": 0.4, "bias": 0.4}),
    "hardmax": ("Hardmax", {}, {"axis": 2}),
    "fmod": ("Mod", {"d": np.float32(0.7)}, {"fmod": 1}),
    "clip_low_only": ("Clip", {"low": np.float32(-0.5)}, {}),
    "round": ("Round", {}, {}),
    "einsum_linear": ("Einsum", {"w": rand(7, 5)}, {"equation": "bchw,wk->bchk"}),
    "einsum_two_axes": ("Einsum", {"w": rand(9, 7, 5)}, {"equation": "bchw,hwk->bkc"}),
    "einsum_batched": ("Einsum", {"w": rand(4, 7, 5)}, {"equation": "bchw,cwk->bchk"}),
    "einsum_sum": ("Einsum", {}, {"equation": "bchw->bhc"}),
    "einsum_scaled": ("Einsum", {"w": rand(4)}, {"equation": "b...hw,...->bwh..."}),
    "einsum_outer": ("Einsum", {"w": rand(3)}, {"equation": "bchw,k->bchwk"}),
    "top_k": ("TopK", {"k": ints(3)}, {"axis": 2}),
    "bottom_k": ("TopK", {"k": ints(2)}, {"axis": -1, "largest": 0}),
    "cum_sum": ("CumSum", {"a": np.array(2)}, {}),
    "cum_sum_exclusive_reverse": ("CumSum", {"a": np.array(-1)}, {"exclusive": 1, "reverse": 1}),
    "gather_elements": ("GatherElements", {"i": RANDOM.integers(-9, 9, (1, 4, 5, 7))}, {"axis": 2}, (1, 4, 9, 7)),
    "scatter_elements": (
        "ScatterElements",
        {"i": RANDOM.integers(0, 9, (1, 4, 2, 7)), "u": rand(1, 4, 2, 7)},
        {"axis": 2, "reduction": "add"},
        (1, 4, 9, 7),
        18,
    ),
    "gather_nd": ("GatherND", {"i": ints([0, 1, 2], [0, 3, 3])}, {}, (1, 4, 9, 7)),
    "gather_nd_in_batch": ("GatherND", {"i": RANDOM.integers(0, 4, (1, 6, 1))}, {"batch_dims": 1}, (1, 4, 9)),
    "scatter_nd": ("ScatterND", {"i": ints([0, 1], [0, 3]), "u": rand(2, 9, 7)}, {}, (1, 4, 9, 7)),
    "trilu": ("Trilu", {"k": np.array(-1)}, {"upper": 0}),
    "compress": ("Compress", {"c": np.array([True, False, True, True])}, {"axis": 1}),
    "reverse_sequence": ("ReverseSequence", {"l": ints(5)}, {"time_axis": 1, "batch_axis": 0}, (1, 7, 3)),
    "lp_norm": ("LpNormalization", {}, {"axis": 1, "p": 2}),
    "lp_norm_1": ("LpNormalization", {}, {"axis": 1, "p": 1}),
    "lp_pool": ("LpPool", {}, {"kernel_shape": [3, 2], "p": 3, "strides": [2, 1], "pads": [1, 0, 1, 0]}),
    "global_lp_pool": ("GlobalLpPool", {}, {"p": 2}),
    "average_pool_dilated": (
        "AveragePool",
        {},
        {"kernel_shape": [2, 3], "dilations": [2, 1], "pads": [1, 1, 1, 1]},
        IMAGE,
        19,
    ),
    "mean_variance": ("MeanVarianceNormalization", {}, {}),
    "reduce_l1": ("ReduceL1", {}, {"axes": [1], "keepdims": 0}),
    "reduce_sum_square": ("ReduceSumSquare", {}, {"axes": [1, 2]}),
    "reduce_log_sum": ("ReduceLogSum", {}, {"axes": [1]}, ("P", 4, 9, 7)),
    "pad_wrap": ("Pad", {"p": ints(0, 0, 1, 2, 0, 0, 0, 3)}, {"mode": "wrap"}, IMAGE, 19),
    "pad_cropping": ("Pad", {"p": ints(0, 0, -1, 2, 0, 0, -2, 0), "v": np.float32(1.5)}, {}),
    "resize_cubic": ("Resize", {"": None, "s": np.float32([1, 1, 1.7, 2])}, {"mode": "cubic", "cubic_coeff_a": -0.5}),
    "resize_fractional": ("Resize", {"": None, "s": np.float32([1, 1, 1.3, 0.6])}, {"mode": "linear"}),
    "resize_fractional_nearest": (
        "Resize",
        {"": None, "s": np.float32([1, 1, 1.3, 0.6])},
        {"mode": "nearest", "nearest_mode": "ceil", "coordinate_transformation_mode": "asymmetric"},
    ),
    "resize_not_larger": (
        "Resize",
        {"": None, " ": None, "s": ints(18, 28)},
        {"mode": "linear", "axes": [2, 3], "keep_aspect_ratio_policy": "not_larger"},
        IMAGE,
        18,
    ),
    "upsample": ("Upsample", {"s": np.float32([1, 1, 2, 3])}, {"mode": "nearest"}, IMAGE, 9),
    "upsample_attribute": ("Upsample", {}, {"mode": "linear", "scales": [1.0, 1.0, 2.0, 2.0]}, IMAGE, 7),
    "resize_10": ("Resize", {"s": np.float32([1, 1, 2, 0.5])}, {"mode": "linear"}, IMAGE, 10),
    "grid_sample": ("GridSample", {"g": rand(1, 5, 6, 2)}, {"mode": "bilinear"}, (1, 4, 9, 7), 16),
    "grid_sample_cubic": (
        "GridSample",
        {"g": 1.3 * rand(1, 5, 6, 2)},
        {"mode": "bicubic", "padding_mode": "reflection", "align_corners": 1},
        (1, 4, 9, 7),
        16,
    ),
    "group_norm_18": ("InstanceNormalization", {"s": rand(4), "b": rand(4)}, {}),
    "softmax_with_axis_0_of_three": ("Softmax", {}, {"axis": -2}),
    "depth_to_space": ("DepthToSpace", {}, {"blocksize": 2}, ("N", 8, 3, 2)),
}
POSITIVE = {"P"}


@pytest.mark.parametrize("case", CASES, ids=list(CASES))
def test_operator_equals_the_reference(runtime, case):
    op, further, attributes, *rest = CASES[case]
    shape, opset = (*rest, *(IMAGE, 17)[len(rest) :])
    nodes = [helper.make_node(op, ["x", *(n.strip() for n in further)], ["y"], **attributes)]
    if op == "TopK":
        nodes[0].output.append("i")
    stored = {n: v for n, v in further.items() if v is not None}
    outputs = ["y", "i"] if op == "TopK" else ["y"]
    path = runtime.save(nodes, {"x": shape}, stored, outputs=outputs, opset=opset, types={"i": TensorProto.INT64})
    feeds = {"x": lambda s: np.abs(rand(*s)) + 0.1} if shape[0] in POSITIVE else None
    runtime.agree(load_onnx(path), (1,) if shape[0] == 1 else (1, 3), feeds=feeds)


def test_arg_extremes(runtime):
    nodes = [
        helper.make_node("ArgMax", ["x"], ["a"], axis=2),
        helper.make_node("ArgMin", ["x"], ["b"], axis=2, select_last_index=1),
        helper.make_node("Sub", ["a", "b"], ["y"]),
    ]
    path = runtime.save(nodes, {"x": IMAGE}, types={"y": TensorProto.INT64})
    runtime.agree(load_onnx(path), feeds={"x": lambda s: np.round(rand(*s))})


def test_one_hot_of_computed_indices(runtime):
    nodes = [
        helper.make_node("ArgMax", ["x"], ["a"], axis=1, keepdims=0),
        helper.make_node("OneHot", ["a", "depth", "pair"], ["y"], axis=1),
    ]
    path = runtime.save(nodes, {"x": ("N", 5, 3)}, {"depth": np.array(6), "pair": np.float32([-1, 2])})
    net = load_onnx(path)
    assert net.layers[-1].results[0].shape == (1, 6, 3)
    runtime.agree(net)


def test_logic(runtime):
    nodes = [
        helper.make_node("Log", ["x"], ["l"]),
        helper.make_node("IsNaN", ["l"], ["nan"]),
        helper.make_node("IsInf", ["l"], ["inf"], detect_positive=0),
        helper.make_node("Xor", ["nan", "inf"], ["y"]),
    ]
    path = runtime.save(nodes, {"x": IMAGE}, types={"y": TensorProto.BOOL})
    runtime.agree(load_onnx(path), feeds={"x": lambda s: np.round(rand(*s))})


def test_clip_between_computed_bounds(runtime):
    nodes = [
        helper.make_node("ReduceMin", ["h"], ["low"], keepdims=0),
        helper.make_node("Mul", ["x", "half"], ["h"]),
        helper.make_node("Clip", ["x", "low"], ["y"]),
    ]
    nodes = [nodes[1], nodes[0], nodes[2]]
    path = runtime.save(nodes, {"x": (1, 6)}, {"half": np.float32(0.5)})
    runtime.agree(load_onnx(path), (1,))


def test_einsum_of_two_activations_is_a_product(runtime):
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Einsum", ["x", "r"], ["y"], equation="bhqd,bhkd->bhqk"),
    ]
    net = load_onnx(runtime.save(nodes, {"x": ("N", 4, 9, 7)}))
    assert network_macs(net, 3) == 3 * 4 * 9 * 9 * 7
    runtime.agree(net)


def test_einsum_with_a_stored_matrix_is_linear(runtime):
    nodes = [helper.make_node("Einsum", ["x", "w"], ["y"], equation="bsd,dhk->bhsk")]
    net = load_onnx(runtime.save(nodes, {"x": ("N", 6, 8)}, {"w": rand(8, 2, 5)}))
    assert [x.op for x in net.layers] == [Op.LINEAR, Op.RESHAPE, Op.TRANSPOSE]
    assert network_macs(net, 3) == 3 * 6 * 8 * 10
    runtime.agree(net)


def test_rotary_embedding_by_its_definition(runtime):
    nodes = [helper.make_node("RotaryEmbedding", ["x", "cos", "sin"], ["y"])]
    stored = {"cos": np.cos(rand(1, 5, 4)), "sin": np.sin(rand(1, 5, 4))}
    net = load_onnx(runtime.save(nodes, {"x": (1, 2, 5, 8)}, stored, opset=23))
    assert not {x.op for x in net.layers} - {Op.ELEMENTWISE, Op.SPLIT, Op.CONCAT, Op.RESHAPE, Op.TRANSPOSE, Op.SLICE}
    runtime.agree(net, (1,))


@pytest.mark.parametrize("heads", [4, 2])
@pytest.mark.parametrize("causal", [0, 1])
def test_attention_is_two_products(runtime, heads, causal):
    nodes = [
        helper.make_node("MatMul", ["x", "wk"], ["k"]),
        helper.make_node("MatMul", ["x", "wv"], ["v"]),
        helper.make_node("Attention", ["x", "k", "v"], ["y"], q_num_heads=4, kv_num_heads=heads, is_causal=causal),
    ]
    stored = {"wk": rand(32, 8 * heads), "wv": rand(32, 8 * heads)}
    net = load_onnx(runtime.save(nodes, {"x": ("N", 6, 32)}, stored, opset=23))
    products = [x for x in net.layers if x.op is Op.MATMUL]
    assert len(products) == 2
    assert network_macs(net) - 2 * 6 * 32 * 8 * heads == 2 * 4 * 6 * 6 * 8
    runtime.agree(net)


def test_attention_with_a_boolean_mask_goes_by_its_definition(runtime):
    nodes = [helper.make_node("Attention", ["x", "x", "x", "mask"], ["y"])]
    mask = np.tril(np.ones((5, 5), bool))
    net = load_onnx(runtime.save(nodes, {"x": (1, 2, 5, 8)}, {"mask": mask}, opset=23))
    assert network_macs(net) == 2 * 2 * 5 * 5 * 8
    runtime.agree(net, (1,))


def test_what_cannot_be_said_is_refused_by_name(runtime):
    nodes = [helper.make_node("MaxPool", ["x"], ["y", "i"], kernel_shape=[2, 2])]
    nodes += [helper.make_node("MaxUnpool", ["y", "i"], ["z"], kernel_shape=[2, 2])]
    net = load_onnx(runtime.save(nodes, {"x": IMAGE}, outputs=["z"]))
    assert [(u.op, u.reason) for u in net.unsupported] == [
        ("MaxPool", "its result 'i' beyond the first is used"),
        ("MaxUnpool", "no such operator here"),
    ]


def test_indices_computed_for_the_batch_within_each_sample(runtime):
    """The exporter writes `as_strided` as a gather from all samples laid flat, with indices made from the batch."""
    nodes = [
        helper.make_node("Shape", ["x"], ["n"], end=1),
        helper.make_node("Squeeze", ["n"], ["count"]),
        helper.make_node("Range", ["zero", "count", "one"], ["samples"]),
        helper.make_node("Mul", ["samples", "stride"], ["starts"]),
        helper.make_node("Unsqueeze", ["starts", "axis"], ["column"]),
        helper.make_node("Add", ["column", "picked"], ["indices"]),
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("Reshape", ["f", "all"], ["flat"]),
        helper.make_node("Gather", ["flat", "indices"], ["y"]),
    ]
    stored = {"zero": np.array(0), "one": np.array(1), "stride": np.array(12), "axis": ints(1), "all": ints(-1)}
    for picked, op in ((np.arange(12), Op.RESHAPE), (ints(3, 0, 11), Op.EMBEDDING)):
        net = load_onnx(runtime.save(nodes, {"x": ("N", 3, 4)}, stored | {"picked": picked}))
        assert net.layers[-1].op is op
        assert net.values()[net.outputs[0]].type.at(3) == (3, len(picked))
        runtime.agree(net)


def test_a_table_that_is_also_the_last_matrix_counts_once(runtime):
    nodes = [
        helper.make_node("Gather", ["table", "x"], ["e"]),
        helper.make_node("Transpose", ["table"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["e", "t"], ["y"]),
    ]
    net = load_onnx(runtime.save(nodes, {"x": ("N", 5)}, {"table": rand(11, 6)}, types={"x": TensorProto.INT64}))
    assert [o.name for x in net.layers for o in x.parameters] == ["table", "table"]
    assert net.parameters == 66
    runtime.agree(net, feeds={"x": lambda s: RANDOM.integers(0, 11, s)})
