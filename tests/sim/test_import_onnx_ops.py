"""Each operator, imported and executed, against ONNX Runtime, for one sample and for three."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from picojoule.sim.attributes import ConvAttributes, Op
from picojoule.sim.gemm import Gemm, gemm_view, network_macs
from picojoule.sim.importers.onnx_graph import load_onnx
from picojoule.sim.ir import Network, TensorType
from picojoule.sim.numerics.executor import Executor

RANDOM = np.random.default_rng(7)
IMAGE = ("N", 4, 9, 7)


def rand(*shape: int) -> Any:
    return RANDOM.standard_normal(shape).astype(np.float32)


def ints(*values: int) -> Any:
    return np.array(values, dtype=np.int64)


def imported(folder: Path, nodes: Any, shape: Any, stored: Mapping[str, Any], opset: int) -> tuple[Network, Any]:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v, n) for n, v in stored.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    path = folder / "net.onnx"
    path.write_bytes(proto.SerializeToString())
    return load_onnx(path), proto


def agree(net: Network, proto: Any, batches: tuple[int, ...] = (1, 3)) -> None:
    assert not net.unsupported
    runtime = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for batch in batches:
        x = rand(*net.inputs[0].type.at(batch))
        expected = runtime.run(None, {"x": x})[0]
        with torch.no_grad():
            got = Executor(net).run([torch.from_numpy(x)])[0].numpy()
        assert got.shape == expected.shape == net.values()[net.outputs[0]].type.at(batch)
        np.testing.assert_allclose(got, expected, rtol=2e-4, atol=2e-5)


CASES: dict[str, tuple[Any, ...]] = {
    # operator, further inputs, attributes[, ifmap shape[, opset]]
    "conv": ("Conv", {"w": rand(6, 4, 3, 3), "b": rand(6)}, {"strides": [2, 1], "pads": [1, 0, 2, 1]}),
    "conv_grouped_dilated": ("Conv", {"w": rand(8, 2, 3, 3)}, {"group": 2, "dilations": [2, 1]}),
    "conv_same_upper": ("Conv", {"w": rand(4, 4, 2, 3)}, {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "conv_same_lower": ("Conv", {"w": rand(4, 4, 2, 3)}, {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    "conv_valid": ("Conv", {"w": rand(4, 4, 2, 3)}, {"auto_pad": "VALID"}),
    "conv_1d": ("Conv", {"w": rand(5, 4, 3)}, {"pads": [1, 1]}, ("N", 4, 11)),
    "conv_3d": ("Conv", {"w": rand(5, 2, 2, 3, 1)}, {"strides": [1, 2, 1]}, ("N", 2, 4, 5, 3)),
    "transposed": ("ConvTranspose", {"w": rand(4, 5, 3, 3), "b": rand(5)}, {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "transposed_lengthened": (
        "ConvTranspose",
        {"w": rand(4, 3, 3, 3)},
        {"strides": [2, 3], "output_padding": [1, 2], "group": 2},
    ),
    "transposed_to_shape": ("ConvTranspose", {"w": rand(4, 3, 3, 3)}, {"strides": [2, 2], "output_shape": [18, 14]}),
    "gemm": ("Gemm", {"w": rand(6, 5), "b": rand(5)}, {}, ("N", 6)),
    "gemm_scaled": ("Gemm", {"w": rand(5, 6), "b": rand(1, 5)}, {"transB": 1, "alpha": 0.5, "beta": 2.0}, ("N", 6)),
    "gemm_scalar_bias": ("Gemm", {"w": rand(6, 5), "b": rand(1)}, {"beta": 0.5}, ("N", 6)),
    "matmul": ("MatMul", {"w": rand(7, 5)}, {}),
    "matmul_stack": ("MatMul", {"w": rand(4, 7, 5)}, {}),
    "matmul_vector": ("MatMul", {"w": rand(7)}, {}),
    "max_pool": ("MaxPool", {}, {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]}),
    "max_pool_ceil": ("MaxPool", {}, {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
    "max_pool_same": ("MaxPool", {}, {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    "average_pool": ("AveragePool", {}, {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]}),
    "average_pool_counting_pads": (
        "AveragePool",
        {},
        {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1},
    ),
    "global_average_pool": ("GlobalAveragePool", {}, {}),
    "global_max_pool": ("GlobalMaxPool", {}, {}),
    "batch_norm": (
        "BatchNormalization",
        {"s": rand(4), "b": rand(4), "m": rand(4), "v": np.abs(rand(4))},
        {"epsilon": 1e-3},
    ),
    "layer_norm": ("LayerNormalization", {"s": rand(9, 7), "b": rand(9, 7)}, {"axis": -2}),
    "layer_norm_without_bias": ("LayerNormalization", {"s": rand(7)}, {}),
    "instance_norm": ("InstanceNormalization", {"s": rand(4), "b": rand(4)}, {}),
    "group_norm": ("GroupNormalization", {"s": rand(4), "b": rand(4)}, {"num_groups": 2}, IMAGE, 21),
    "lrn": ("LRN", {}, {"size": 3, "alpha": 0.01, "bias": 2.0}),
    "clip": ("Clip", {"low": np.float32(-0.5), "high": np.float32(0.7)}, {}),
    "clip_old": ("Clip", {}, {"min": -0.5, "max": 0.7}, IMAGE, 8),
    "hard_sigmoid": ("HardSigmoid", {}, {"alpha": 0.3}),
    "hard_swish": ("HardSwish", {}, {}),
    "leaky_relu": ("LeakyRelu", {}, {"alpha": 0.2}),
    "elu": ("Elu", {}, {"alpha": 0.7}),
    "softplus": ("Softplus", {}, {}),
    "erf": ("Erf", {}, {}),
    "gelu": ("Gelu", {}, {}, IMAGE, 20),
    "gelu_tanh": ("Gelu", {}, {"approximate": "tanh"}, IMAGE, 20),
    "mish": ("Mish", {}, {}, IMAGE, 18),
    "prelu": ("PRelu", {"slope": rand(4, 1, 1)}, {}),
    "softmax": ("Softmax", {}, {"axis": 1}),
    "softmax_old_over_all_axes": ("Softmax", {}, {}, IMAGE, 11),
    "softmax_old_over_one_axis": ("Softmax", {}, {}, ("N", 6, 1, 1), 11),
    "log_softmax": ("LogSoftmax", {}, {}),
    "sum": ("Sum", {"a": rand(4, 1, 1), "b": rand(7), "c": rand(9, 7)}, {}),
    "mean": ("Mean", {"a": rand(4, 1, 1), "b": rand(7)}, {}),
    "max": ("Max", {"a": rand(4, 1, 1), "b": rand(7)}, {}),
    "pow": ("Pow", {"a": np.float32(2)}, {}),
    "div": ("Div", {"a": rand(9, 1) + 5}, {}),
    "reduce_mean": ("ReduceMean", {}, {"axes": [-1, 2], "keepdims": 0}),
    "reduce_mean_new": ("ReduceMean", {"axes": ints(2, 3)}, {}, IMAGE, 18),
    "reduce_sum": ("ReduceSum", {"axes": ints(1)}, {"keepdims": 0}),
    "reduce_l2": ("ReduceL2", {}, {"axes": [1]}),
    "reduce_log_sum_exp": ("ReduceLogSumExp", {}, {"axes": [1], "keepdims": 0}),
    "flatten": ("Flatten", {}, {}),
    "reshape_copying": ("Reshape", {"to": ints(0, 2, -1)}, {}),
    "squeeze": ("Squeeze", {"axes": ints(1, -1)}, {}, ("N", 1, 5, 1)),
    "squeeze_all": ("Squeeze", {}, {}, (1, 1, 5, 1)),
    "unsqueeze": ("Unsqueeze", {"axes": ints(0, -2)}, {}),
    "transpose": ("Transpose", {}, {"perm": [2, 0, 3, 1]}),
    "concat_constant": ("Concat", {"a": rand(1, 2, 9, 7)}, {"axis": 1}, (1, 4, 9, 7)),
    "slice": ("Slice", {"s": ints(1, -1), "e": ints(100, -6), "a": ints(2, 3), "t": ints(2, -2)}, {}),
    "pad": ("Pad", {"p": ints(0, 0, 1, 2, 0, 0, 0, 3), "v": np.float32(1.5)}, {}),
    "pad_reflect": ("Pad", {"p": ints(0, 0, 1, 2, 0, 0, 0, 3)}, {"mode": "reflect"}),
    "pad_edge_axes": ("Pad", {"p": ints(1, 2), "": None, "a": ints(-1)}, {"mode": "edge"}, IMAGE, 18),
    "expand": ("Expand", {"to": ints(5, 1)}, {}, ("N", 4, 1, 7)),
    "tile": ("Tile", {"r": ints(1, 2, 1, 3)}, {}),
    "tile_ones": ("Tile", {"r": ints(1, 1, 5)}, {}, ("N", 4, 1)),
    "resize_nearest": ("Resize", {"": None, "s": np.array([1, 1, 2, 3], np.float32)}, {"mode": "nearest"}),
    "resize_linear": ("Resize", {"": None, "s": np.array([1, 1, 2, 2], np.float32)}, {"mode": "linear"}),
    "resize_aligned": (
        "Resize",
        {"": None, " ": None, "s": ints(1, 4, 5, 10)},
        {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
        (1, 4, 9, 7),
    ),
    "gather_one": ("Gather", {"i": np.array(-1)}, {"axis": 2}),
    "gather_some": ("Gather", {"i": np.array([[0, -1], [2, 2]])}, {"axis": 1}),
    "depth_to_space": ("DepthToSpace", {}, {"blocksize": 2}, ("N", 8, 3, 2)),
    "depth_to_space_columns": ("DepthToSpace", {}, {"blocksize": 2, "mode": "CRD"}, ("N", 8, 3, 2)),
    "space_to_depth": ("SpaceToDepth", {}, {"blocksize": 3}, ("N", 2, 9, 6)),
}


@pytest.mark.parametrize("case", CASES, ids=list(CASES))
def test_operator_equals_the_reference(tmp_path, case):
    op, further, attributes, *rest = CASES[case]
    shape, opset = (*rest, *(IMAGE, 17)[len(rest) :])
    inputs = ["x", *(n.strip() for n in further)]
    stored = {n: np.asarray(v) for n, v in further.items() if v is not None}
    net, proto = imported(tmp_path, [helper.make_node(op, inputs, ["y"], **attributes)], shape, stored, opset)
    agree(net, proto, (1,) if shape[0] == 1 else (1, 3))


def test_repeated_operands_keep_their_places(tmp_path):
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["a"]),
        helper.make_node("Concat", ["a", "x", "a"], ["b"], axis=1),
        helper.make_node("Split", ["b", "sizes"], ["p", "q"], axis=1),
        helper.make_node("Sub", ["q", "p"], ["y"]),
    ]
    net, proto = imported(tmp_path, nodes, IMAGE, {"sizes": ints(6, 6)}, 17)
    assert [o.name for o in net.layers[1].operands] == ["a", "x", "a"]
    agree(net, proto)


def test_squeeze_without_axes_keeps_an_open_batch(tmp_path):
    net, proto = imported(tmp_path, [helper.make_node("Squeeze", ["x"], ["y"])], ("N", 1, 5, 1), {}, 17)
    agree(net, proto, (3,))


def test_comparisons_and_casts(tmp_path):
    nodes = [
        helper.make_node("Greater", ["x", "zero"], ["positive"]),
        helper.make_node("Not", ["positive"], ["negative"]),
        helper.make_node("Cast", ["negative"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Where", ["positive", "x", "low"], ["w"]),
        helper.make_node("CastLike", ["w", "x"], ["same"]),
        helper.make_node("Sub", ["same", "mask"], ["y"]),
    ]
    stored = {"zero": np.float32(0), "low": np.float32(-9)}
    net, proto = imported(tmp_path, nodes, IMAGE, {n: np.asarray(v) for n, v in stored.items()}, 17)
    assert [x.name for x in net.layers] == ["Greater_0", "Not_1", "Cast_2", "Where_3", "Sub_5"]
    agree(net, proto)


def test_old_group_norm_scales_groups(tmp_path):
    scale, bias = rand(2), rand(2)
    nodes = [helper.make_node("GroupNormalization", ["x", "s", "b"], ["y"], num_groups=2)]
    net, _ = imported(tmp_path, nodes, IMAGE, {"s": scale, "b": bias}, 18)
    _, repeated = imported(tmp_path, nodes, IMAGE, {"s": scale.repeat(2), "b": bias.repeat(2)}, 21)
    agree(net, repeated)


def test_embedding_and_deformable_convolution(tmp_path):
    nodes = [
        helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "i"], ["e"]),
        helper.make_node("Reshape", ["e", "image"], ["f"]),
        helper.make_node("Conv", ["f", "offset_w"], ["offset"], pads=[1, 1, 1, 1]),
        helper.make_node("Slice", ["offset", "from", "to", "axis"], ["mask"]),
        helper.make_node("DeformConv", ["f", "w", "offset", "b", "mask"], ["y"], pads=[1, 1, 1, 1]),
    ]
    stored = {"table": rand(9, 8), "image": ints(-1, 2, 6, 4), "offset_w": rand(18, 2, 3, 3) / 9, "w": rand(3, 2, 3, 3)}
    stored |= {"b": rand(3), "from": ints(0), "to": ints(9), "axis": ints(1)}
    net, proto = imported(tmp_path, nodes, ("N", 6), stored, 19)
    assert [x.op for x in net.layers] == [
        *(Op.ELEMENTWISE, Op.EMBEDDING, Op.RESHAPE, Op.CONV, Op.SLICE, Op.DEFORM_CONV),
    ]
    assert gemm_view(net.layers[-1]) == Gemm(m=24, n=3, k=18)
    agree(net, proto)


def test_product_of_two_activations(tmp_path):
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", ["x", "t"], ["y"]),
    ]
    net, proto = imported(tmp_path, nodes, IMAGE, {}, 17)
    assert gemm_view(net.layers[1], 3) == Gemm(m=9, n=9, k=7, groups=12)
    agree(net, proto)


def test_gemm_of_activations(tmp_path):
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Gemm", ["x", "r", "c"], ["y"], transA=1, alpha=0.5, beta=3.0),
    ]
    net, proto = imported(tmp_path, nodes, (5, 4), {"c": rand(4, 4)}, 17)
    assert [x.op for x in net.layers].count(Op.MATMUL) == 1
    agree(net, proto, (1,))


def test_same_padding_is_uneven(tmp_path):
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], auto_pad="SAME_UPPER", strides=[2, 2])]
    net, _ = imported(tmp_path, nodes, ("N", 4, 8, 8), {"w": rand(4, 4, 3, 3)}, 17)
    attributes = net.layers[0].attributes
    assert isinstance(attributes, ConvAttributes)
    assert (attributes.padding_begin, attributes.padding_end) == ((0, 0), (1, 1))


# The batch


WEIGHTS = ("token", "qkv", "bias", "out")


def attention(*, open_batch: bool) -> tuple[list[Any], dict[str, Any]]:
    """Class token and attention, sequence first inside; shapes asked for at run time or written for one sample."""
    nodes = []
    stored = {"token": rand(1, 1, 8), "qkv": rand(8, 24), "bias": rand(24), "out": rand(8, 8), "first": np.array(0)}
    if open_batch:
        nodes += [
            helper.make_node("Shape", ["x"], ["shape"]),
            helper.make_node("Gather", ["shape", "zero"], ["n"]),
            helper.make_node("Concat", ["n", "one", "eight"], ["token_shape"], axis=0),
            helper.make_node("Expand", ["token", "token_shape"], ["tokens"]),
            helper.make_node("Mul", ["n", "two"], ["heads"]),
            helper.make_node("Concat", ["six", "heads", "four"], ["split"], axis=0),
            helper.make_node("Mul", ["n", "six"], ["rows"]),
            helper.make_node("Concat", ["rows", "eight"], ["merge"], axis=0),
            helper.make_node("Concat", ["six", "n", "eight"], ["again"], axis=0),
        ]
        stored |= {"zero": ints(0), "one": ints(1), "two": ints(2), "four": ints(4), "six": ints(6), "eight": ints(8)}
    else:
        nodes.append(helper.make_node("Identity", ["token"], ["tokens"]))
        stored |= {"split": ints(6, 2, 4), "merge": ints(6, 8), "again": ints(6, 1, 8)}
    nodes += [
        helper.make_node("Concat", ["tokens", "x"], ["sequence"], axis=1),
        helper.make_node("Transpose", ["sequence"], ["s"], perm=[1, 0, 2]),
        helper.make_node("MatMul", ["s", "qkv"], ["projected"]),
        helper.make_node("Add", ["projected", "bias"], ["biased"]),
        helper.make_node("Split", ["biased", "thirds"], ["q", "k", "v"], axis=2),
    ]
    stored["thirds"] = ints(8, 8, 8)
    for name in "qkv":
        nodes += [
            helper.make_node("Reshape", [name, "split"], [f"{name}_split"]),
            helper.make_node("Transpose", [f"{name}_split"], [f"{name}_heads"], perm=[1, 0, 2]),
        ]
    nodes += [
        helper.make_node("Transpose", ["k_heads"], ["k_turned"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q_heads", "k_turned"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["weights"], axis=-1),
        helper.make_node("MatMul", ["weights", "v_heads"], ["mixed"]),
        helper.make_node("Transpose", ["mixed"], ["mixed_turned"], perm=[1, 0, 2]),
        helper.make_node("Reshape", ["mixed_turned", "merge"], ["rows_of_all"]),
        helper.make_node("Gemm", ["rows_of_all", "out"], ["projected_out"]),
        helper.make_node("Reshape", ["projected_out", "again"], ["o"]),
        helper.make_node("Add", ["o", "s"], ["residual"]),
        helper.make_node("Gather", ["residual", "first"], ["y"], axis=0),
    ]
    return nodes, stored


@pytest.mark.parametrize("open_batch", [True, False])
def test_the_batch_is_followed_through_attention(tmp_path, open_batch):
    nodes, stored = attention(open_batch=True)
    reference = imported(tmp_path, nodes, ("N", 5, 8), stored, 17)[1]
    nodes, sizes = attention(open_batch=open_batch)
    shape = ("N", 5, 8) if open_batch else (1, 5, 8)
    net, _ = imported(tmp_path, nodes, shape, sizes | {n: stored[n] for n in WEIGHTS}, 17)
    assert net.notes == ()
    # per sample: 6 rows x 8 x 24, two products of 2 heads x 6 x 6 x 4, and 6 rows x 8 x 8
    assert network_macs(net) == 6 * 8 * 24 + 2 * (2 * 6 * 6 * 4) + 6 * 8 * 8
    assert network_macs(net, 3) == 3 * network_macs(net)
    agree(net, reference)


def test_a_graph_that_cannot_follow_the_batch_says_so(tmp_path):
    nodes = [
        helper.make_node("Reshape", ["x", "to"], ["r"]),
        helper.make_node("Add", ["r", "x"], ["y"]),
    ]
    net, proto = imported(tmp_path, nodes, (1, 4, 4), {"to": ints(4, 4, 1)}, 17)
    assert net.notes == ("the graph is written for one sample from layer 'Add_1' on; larger batches are not exact",)
    agree(net, proto, (1,))


def test_arithmetic_with_the_batch_size_is_not_frozen(tmp_path):
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Cast", ["shape"], ["sizes"], to=TensorProto.FLOAT),
        helper.make_node("ReduceProd", ["sizes"], ["count"], keepdims=0),
        helper.make_node("Div", ["x", "count"], ["y"]),
    ]
    net, proto = imported(tmp_path, nodes, ("N", 4), {}, 17)
    assert net.inputs[0].type == TensorType(shape=(1, 4))
    assert net.notes == (
        "the graph mixes the samples of a batch, so it is read for the one size it states; a batch multiplies nothing",
    )
    agree(net, proto, (1,))


def test_constants_made_for_the_batch_are_expanded(tmp_path):
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["halves"], value=numpy_helper.from_array(np.float32([0.5]))),
        helper.make_node("Concat", ["x", "halves"], ["y"], axis=1),
    ]
    net, proto = imported(tmp_path, nodes, ("N", 4), {}, 17)
    assert [x.op for x in net.layers] == [Op.EXPAND, Op.CONCAT]
    agree(net, proto)
