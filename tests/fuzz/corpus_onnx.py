"""Sound ONNX models to damage: one per operator family, and networks with the idioms of real exporters."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

IMAGE = ("N", 4, 8, 8)


def stored(*shape: int) -> Any:
    """Return real weights of a shape, the same every time."""
    return (np.arange(int(np.prod(shape)), dtype=np.float32).reshape(shape) % 7 - 3) / 4


def ints(*values: int) -> Any:
    """Return whole numbers as files store sizes and axes."""
    return np.array(values, dtype=np.int64)


class Open(tuple[Any, ...]):
    """The shape of a further network input."""


_A, _F = stored(4), np.float32
_MS = "com.microsoft"
_U8, _ZERO = np.array(0.02, _F), np.array(128, np.uint8)
OPERATORS: Sequence[
    tuple[Any, ...]
] = (  # operator, shape of the input, further inputs ("" absent), attributes[, opset[, domain]]
    ("Conv", IMAGE, [stored(6, 4, 3, 3), stored(6)], {"strides": [2, 1], "pads": [1, 1, 1, 1]}),
    ("Conv", IMAGE, [stored(8, 2, 3, 3)], {"group": 2, "dilations": [2, 1], "auto_pad": "SAME_UPPER"}),
    ("Conv", ("N", 4, 11), [stored(5, 4, 3)], {"kernel_shape": [3]}),
    ("ConvTranspose", IMAGE, [stored(4, 3, 3, 3)], {"strides": [2, 2], "output_padding": [1, 1], "pads": [1, 0, 1, 0]}),
    ("ConvTranspose", IMAGE, [stored(4, 3, 3, 3)], {"strides": [2, 2], "output_shape": [17, 17]}),
    ("DeformConv", IMAGE, [stored(6, 4, 3, 3), Open(("N", 18, 6, 6))], {"offset_group": 1}),
    ("Gemm", ("N", 6), [stored(5, 6), stored(5)], {"transB": 1, "alpha": 0.5, "beta": 2.0}),
    ("Gemm", ("N", 6), [Open((6, 5))], {}),
    ("MatMul", IMAGE, [stored(8, 5)], {}),
    ("MatMul", IMAGE, [Open(("N", 4, 8, 3))], {}),
    ("MatMul", IMAGE, [stored(8)], {}),
    ("MatMulInteger", (1, 6), [np.ones((6, 5), np.int8)], {}),
    ("Einsum", ("N", 4, 8), [Open(("N", 8, 3))], {"equation": "bij,bjk->bik"}),
    ("MaxPool", IMAGE, [], {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1], "ceil_mode": 1}),
    ("AveragePool", IMAGE, [], {"kernel_shape": [3, 3], "count_include_pad": 1}),
    ("GlobalAveragePool", IMAGE, [], {}),
    ("LpPool", IMAGE, [], {"kernel_shape": [2, 2], "p": 2}),
    ("BatchNormalization", IMAGE, [_A, _A, _A, np.ones(4, _F)], {"epsilon": 1e-3}),
    ("LayerNormalization", IMAGE, [stored(8), stored(8)], {"axis": -1}),
    ("InstanceNormalization", IMAGE, [_A, _A], {}),
    ("GroupNormalization", IMAGE, [_A, _A], {"num_groups": 2}),
    ("LRN", IMAGE, [], {"size": 3}),
    ("Reshape", IMAGE, [ints(0, 2, -1)], {}),
    ("Flatten", IMAGE, [], {"axis": 2}),
    ("Squeeze", ("N", 1, 8), [ints(1)], {}),
    ("Unsqueeze", IMAGE, [ints(1, 3)], {}),
    ("Transpose", IMAGE, [], {"perm": [0, 2, 3, 1]}),
    ("Concat", IMAGE, [stored(1, 2, 8, 8)], {"axis": 1}),
    ("Split", IMAGE, [ints(1, 3)], {"axis": 1}),
    ("Slice", IMAGE, [ints(1, 0), ints(3, 2**31 - 1), ints(1, 2), ints(1, 2)], {}),
    ("Slice", IMAGE, [ints(-1), ints(-(2**31)), ints(2), ints(-1)], {}),
    ("Pad", IMAGE, [ints(0, 0, 1, 2, 0, 0, 1, 0), np.array(0, _F)], {"mode": "constant"}),
    ("Expand", ("N", 1, 8), [ints(1, 4, 8)], {}),
    ("Tile", IMAGE, [ints(1, 2, 1, 3)], {}),
    ("Resize", IMAGE, ["", np.array([1, 1, 2, 2], _F)], {"mode": "nearest"}),
    ("Resize", IMAGE, ["", "", ints(1, 4, 13, 11)], {"mode": "linear"}),
    ("Gather", IMAGE, [ints(0, 3, 1)], {"axis": 1}),
    ("Gather", IMAGE, [np.array(2, np.int64)], {"axis": 2}),
    ("GatherElements", IMAGE, [np.zeros((1, 4, 8, 2), np.int64)], {"axis": 3}),
    ("GatherND", IMAGE, [np.zeros((1, 2, 1), np.int64)], {"batch_dims": 1}),
    ("ScatterND", (3, 8), [ints(0, 2).reshape(2, 1), stored(2, 8)], {}),
    ("ScatterElements", (3, 8), [np.zeros((2, 8), np.int64), stored(2, 8)], {"axis": 0}),
    ("DepthToSpace", IMAGE, [], {"blocksize": 2, "mode": "CRD"}),
    ("SpaceToDepth", IMAGE, [], {"blocksize": 2}),
    ("Add", IMAGE, [stored(4, 1, 1)], {}),
    ("Mul", IMAGE, [Open(("N", 1, 8, 8))], {}),
    ("Pow", IMAGE, [np.array(2, _F)], {}),
    ("Sum", IMAGE, [Open(IMAGE), stored(8)], {}),
    ("Mean", IMAGE, [Open(IMAGE), Open(IMAGE)], {}),
    ("Where", IMAGE, [Open(IMAGE), stored(8)], {}),
    ("PRelu", IMAGE, [stored(4, 1, 1)], {}),
    ("LeakyRelu", IMAGE, [], {"alpha": 0.1}),
    ("HardSigmoid", IMAGE, [], {"alpha": 0.2, "beta": 0.5}),
    ("Gelu", IMAGE, [], {"approximate": "tanh"}),
    ("Clip", IMAGE, [np.array(0, _F), np.array(6, _F)], {}),
    ("Softmax", IMAGE, [], {"axis": 1}),
    ("LogSoftmax", IMAGE, [], {"axis": -1}),
    ("ReduceMean", IMAGE, [ints(2, 3)], {"keepdims": 0}),
    ("ReduceL2", IMAGE, [ints(1)], {"keepdims": 1}),
    ("ReduceLogSumExp", IMAGE, [], {}),
    ("ArgMax", IMAGE, [], {"axis": 1, "keepdims": 0}),
    ("TopK", IMAGE, [ints(3)], {"axis": 1, "largest": 1}),
    ("CumSum", IMAGE, [np.array(2, np.int64)], {"exclusive": 1}),
    ("Cast", IMAGE, [], {"to": TensorProto.INT32}),
    ("Dropout", IMAGE, [np.array(0.5, _F)], {}),
    ("GridSample", IMAGE, [Open(("N", 5, 5, 2))], {"mode": "linear"}),
    ("OneHot", (3, 8), [np.array(5, np.int64), np.array([0, 1], _F)], {"axis": -1}),
    ("Trilu", ("N", 8, 8), [np.array(1, np.int64)], {"upper": 1}),
    ("NonZero", IMAGE, [], {}),
    ("LSTM", (5, 1, 4), [stored(1, 12, 4), stored(1, 12, 3), stored(1, 24)], {"hidden_size": 3}),
    ("LSTM", (5, 1, 4), [stored(2, 12, 4), stored(2, 12, 3)], {"hidden_size": 3, "direction": "bidirectional"}),
    ("GRU", (5, 1, 4), [stored(1, 9, 4), stored(1, 9, 3)], {"hidden_size": 3, "linear_before_reset": 1}),
    ("RNN", (5, 1, 4), [stored(1, 3, 4), stored(1, 3, 3)], {"hidden_size": 3, "activations": ["Tanh"]}),
    ("QuantizeLinear", IMAGE, [_U8, _ZERO], {}),
    ("QuantizeLinear", IMAGE, [np.full(4, 0.02, _F), np.zeros(4, np.int8)], {"axis": 1}),
    ("DynamicQuantizeLinear", IMAGE, [], {}),
    ("LpNormalization", IMAGE, [], {"axis": 1, "p": 2}),
    ("MeanVarianceNormalization", IMAGE, [], {"axes": [0, 2, 3]}),
    ("RMSNormalization", ("N", 6, 8), [stored(8)], {"axis": -1}, 23),
    ("RotaryEmbedding", ("N", 2, 6, 4), [stored(1, 6, 2), stored(1, 6, 2)], {}, 23),
    (
        "Attention",
        ("N", 6, 8),
        [Open(("N", 6, 8)), Open(("N", 6, 8))],
        {"q_num_heads": 2, "kv_num_heads": 2, "is_causal": 1},
        23,
    ),
    ("CenterCropPad", IMAGE, [ints(6, 10)], {"axes": [2, 3]}, 18),
    ("Col2Im", ("N", 36, 16), [ints(6, 6), ints(3, 3)], {}, 18),
    ("AffineGrid", ("N", 2, 3), [ints(1, 3, 5, 5)], {}, 20),
    ("DFT", ("N", 8, 2), [], {}, 20),
    ("ReverseSequence", (5, 1, 4), [ints(3)], {"time_axis": 0, "batch_axis": 1}),
    ("Hardmax", IMAGE, [], {"axis": 1}),
    ("MaxRoiPool", IMAGE, [stored(2, 5)], {"pooled_shape": [2, 2]}),
    ("RoiAlign", IMAGE, [stored(2, 4), ints(0, 0)], {"output_height": 2, "output_width": 2}),
    ("NonMaxSuppression", (1, 6, 4), [Open((1, 2, 6)), ints(3)], {}),
    ("Unique", IMAGE, [], {}),
    ("Compress", (6, 8), [np.array([True, False, True])], {"axis": 0}),
    ("RandomNormalLike", IMAGE, [], {}),
    ("Celu", IMAGE, [], {"alpha": 2.0}),
    ("ThresholdedRelu", IMAGE, [], {"alpha": 0.5}),
    ("IsNaN", IMAGE, [], {}),
    ("Det", ("N", 4, 4), [], {}),
    ("SplitToSequence", IMAGE, [ints(1, 3)], {"axis": 1}),
    ("BiasGelu", IMAGE, [stored(8)], {}, 17, _MS),
    ("SkipLayerNormalization", ("N", 6, 8), [Open(("N", 6, 8)), stored(8), stored(8)], {"epsilon": 1e-5}, 17, _MS),
    ("FusedMatMul", ("N", 6, 8), [Open(("N", 6, 8))], {"transB": 1, "alpha": 0.5}, 17, _MS),
    ("FusedConv", IMAGE, [stored(4, 4, 3, 3)], {"activation": "Relu"}, 17, _MS),
    ("FusedGemm", ("N", 6), [stored(6, 5)], {"activation": "Tanh"}, 17, _MS),
    (
        "MatMulNBits",
        (1, 6, 32),
        [np.full((8, 1, 16), 136, np.uint8), stored(8)],
        {"K": 32, "N": 8, "bits": 4, "block_size": 32},
        17,
        _MS,
    ),
    ("Attention", (1, 6, 8), [stored(8, 24), stored(24)], {"num_heads": 2}, 17, _MS),
    ("MultiHeadAttention", (1, 6, 8), [Open((1, 6, 8)), Open((1, 6, 8))], {"num_heads": 2}, 17, _MS),
    ("QuickGelu", IMAGE, [], {"alpha": 1.702}, 17, _MS),
    ("DynamicQuantizeMatMul", (6, 8), [np.ones((8, 5), np.int8), _U8], {}, 17, _MS),
)


def single(recipe: tuple[Any, ...], opset: int = 17) -> ModelProto:
    """Return a model of one operator between two activations."""
    op, shape, further, attributes = recipe[:4]
    opset = recipe[4] if len(recipe) > 4 else 21 if op in ("GroupNormalization", "Gelu") else opset
    domain = recipe[5] if len(recipe) > 5 else ""
    names, inputs, initializers = ["x"], [("x", shape)], []
    for i, value in enumerate(further):
        name = "" if isinstance(value, str) else f"in{i}"
        names.append(name)
        if isinstance(value, Open):
            inputs.append((name, tuple(value)))
        elif name:
            initializers.append(numpy_helper.from_array(value, name))
    outputs = ["y", "y2"] if op in ("Split", "TopK") else ["y", "y2", "y3"] if op == "DynamicQuantizeLinear" else ["y"]
    nodes = [
        helper.make_node("Relu", ["x"], ["x_relu"], name="before"),
        helper.make_node(op, ["x_relu", *names[1:]], outputs, name="target", domain=domain, **attributes),
        helper.make_node("Identity", ["y"], ["out"], name="after"),
    ]
    return model(nodes, inputs, ["out"], initializers, opset)


def model(
    nodes: Sequence[Any],
    inputs: Sequence[tuple[str, tuple[Any, ...]]],
    outputs: Sequence[str],
    initializers: Sequence[Any] = (),
    opset: int = 17,
    functions: Sequence[Any] = (),
) -> ModelProto:
    """Return a model with float inputs of these shapes."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(s)) for n, s in inputs],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs],
        list(initializers),
    )
    sets = [helper.make_opsetid("", opset)] + ([helper.make_opsetid("local", 1)] if functions else [])
    return helper.make_model(graph, opset_imports=sets, ir_version=9, functions=list(functions))


def _values(values: Mapping[str, Any]) -> list[Any]:
    return [numpy_helper.from_array(v, n) for n, v in values.items()]


def convnet() -> ModelProto:
    """Return a small classifier with a residual, a batch norm and a computed reshape."""
    n = helper.make_node
    nodes = [
        n("Conv", ["x", "w1", "b1"], ["c1"], name="conv1", pads=[1, 1, 1, 1]),
        n("BatchNormalization", ["c1", "g", "b1", "m", "v"], ["n1"], name="bn1"),
        n("Relu", ["n1"], ["r1"], name="relu1"),
        n("Conv", ["r1", "w2"], ["c2"], name="conv2", pads=[1, 1, 1, 1], group=2),
        n("Add", ["c2", "r1"], ["a"], name="add"),
        n("MaxPool", ["a"], ["p"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        n("Shape", ["p"], ["s"], name="shape"),
        n("Gather", ["s", "zero"], ["s0"], name="first"),
        n("Unsqueeze", ["s0", "axes"], ["s1"], name="list"),
        n("Concat", ["s1", "rest"], ["to"], name="sizes", axis=0),
        n("Reshape", ["p", "to"], ["f"], name="flat"),
        n("Gemm", ["f", "w3", "b3"], ["y"], name="fc", transB=1),
        n("Softmax", ["y"], ["out"], name="prob"),
    ]
    values = {
        "w1": stored(4, 3, 3, 3),
        "b1": stored(4),
        "g": stored(4),
        "m": stored(4),
        "v": np.ones(4, _F),
        "w2": stored(4, 2, 3, 3),
        "w3": stored(10, 64),
        "b3": stored(10),
        "zero": np.array(0, np.int64),
        "axes": ints(0),
        "rest": ints(-1),
    }
    return model(nodes, [("x", ("N", 3, 8, 8))], ["out"], _values(values))


def attention() -> ModelProto:
    """Return one head pair of self-attention, spelt out."""
    n = helper.make_node
    nodes = [
        n("LayerNormalization", ["x", "g", "b"], ["ln"], name="norm"),
        n("MatMul", ["ln", "wqkv"], ["qkv"], name="qkv"),
        n("Reshape", ["qkv", "split_to"], ["heads"], name="heads"),
        n("Transpose", ["heads"], ["t"], name="turn", perm=[2, 0, 3, 1, 4]),
        n("Split", ["t", "ones"], ["q0", "k0", "v0"], name="qkv_split", axis=0),
        *(n("Squeeze", [f"{c}0", "axis0"], [c], name=f"{c}_squeeze") for c in "qkv"),
        n("Transpose", ["k"], ["kt"], name="k_turn", perm=[0, 1, 3, 2]),
        n("MatMul", ["q", "kt"], ["scores"], name="scores"),
        n("Div", ["scores", "scale"], ["scaled"], name="scale"),
        n("Softmax", ["scaled"], ["p"], name="softmax", axis=-1),
        n("MatMul", ["p", "v"], ["o"], name="mix"),
        n("Transpose", ["o"], ["ot"], name="o_turn", perm=[0, 2, 1, 3]),
        n("Reshape", ["ot", "join_to"], ["joined"], name="join"),
        n("MatMul", ["joined", "wo"], ["proj"], name="proj"),
        n("Add", ["proj", "x"], ["out"], name="residual"),
    ]
    values = {
        "g": stored(8),
        "b": stored(8),
        "wqkv": stored(8, 24),
        "wo": stored(8, 8),
        "scale": np.array(2, _F),
        "split_to": ints(0, 6, 3, 2, 4),
        "join_to": ints(0, 6, 8),
        "ones": ints(1, 1, 1),
        "axis0": ints(0),
    }
    return model(nodes, [("x", ("N", 6, 8))], ["out"], _values(values))


def quantized() -> ModelProto:
    """Return quantisers around a convolution, and an integer convolution."""
    n = helper.make_node
    nodes = [
        n("QuantizeLinear", ["x", "s", "z"], ["xq"], name="q"),
        n("DequantizeLinear", ["xq", "s", "z"], ["xd"], name="dq"),
        n("DequantizeLinear", ["wq", "ws", "wz"], ["w"], name="dqw", axis=0),
        n("Conv", ["xd", "w"], ["c"], name="conv"),
        n("QuantizeLinear", ["c", "s", "z"], ["cq"], name="q2"),
        n("QLinearConv", ["cq", "s", "z", "w8", "s", "z8", "s", "z"], ["d"], name="qconv"),
        n("DequantizeLinear", ["d", "s", "z"], ["out"], name="dq2"),
    ]
    values = {
        "s": np.array(0.02, _F),
        "z": np.array(128, np.uint8),
        "z8": np.array(0, np.int8),
        "wq": np.ones((4, 3, 3, 3), np.int8),
        "ws": np.full(4, 0.1, _F),
        "wz": np.zeros(4, np.int8),
        "w8": np.ones((2, 4, 1, 1), np.int8),
    }
    return model(nodes, [("x", ("N", 3, 8, 8))], ["out"], _values(values))


def _body(name: str, op: str, inputs: Sequence[Any] = (), outputs: Sequence[Any] = ()) -> Any:
    value = helper.make_tensor_value_info
    made = outputs or [value(f"{name}_y", TensorProto.FLOAT, None)]
    nodes = [helper.make_node(op, ["x"], [f"{name}_y"], name=f"{name}_node")]
    nodes += [helper.make_node("Identity", ["go"], [f"{name}_go"])] if inputs else []
    return helper.make_graph(nodes, name, list(inputs), list(made))


def control() -> ModelProto:
    """Return a branch whose condition is known, one whose condition is computed, and a loop."""
    n, value = helper.make_node, helper.make_tensor_value_info
    loop_in = [value("i", TensorProto.INT64, []), value("go", TensorProto.BOOL, [])]
    loop_out = [value("l_go", TensorProto.BOOL, []), value("l_y", TensorProto.FLOAT, None)]
    nodes = [
        n("If", ["yes"], ["a"], name="known", then_branch=_body("t", "Relu"), else_branch=_body("e", "Tanh")),
        n("ReduceMean", ["a"], ["mean"], name="mean", keepdims=0),
        n("Greater", ["mean", "zero"], ["some"], name="test"),
        n("If", ["some"], ["b"], name="open", then_branch=_body("t2", "Relu"), else_branch=_body("e2", "Tanh")),
        n("Loop", ["trips", "yes"], ["c"], name="loop", body=_body("l", "Relu", loop_in, loop_out)),
        n("Add", ["a", "b"], ["out"], name="add"),
    ]
    values = {"yes": np.array(True), "zero": np.array(0, _F), "trips": np.array(3, np.int64)}
    return model(nodes, [("x", ("N", 3, 8, 8))], ["out"], _values(values))


def local_functions() -> ModelProto:
    """Return a model whose operators are functions of its own, one calling the other."""
    n = helper.make_node
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    inner = helper.make_function("local", "Inner", ["a"], ["b"], [n("Relu", ["a"], ["b"])], sets)
    twice = [n("Inner", ["a"], ["t"], domain="local"), n("Inner", ["t"], ["b"], domain="local")]
    outer = helper.make_function("local", "Outer", ["a"], ["b"], twice, sets)
    nodes = [n("Outer", ["x"], ["y"], domain="local", name="call"), n("Conv", ["y", "w"], ["out"], name="conv")]
    return model(nodes, [("x", IMAGE)], ["out"], _values({"w": stored(4, 4, 3, 3)}), 17, [inner, outer])


def shape_arithmetic() -> ModelProto:
    """Return sizes computed at run time: a constant of a shape, a range, where, expand."""
    n = helper.make_node
    nodes = [
        n("Shape", ["x"], ["s"], name="shape"),
        n("ConstantOfShape", ["s"], ["zeros"], name="zeros", value=numpy_helper.from_array(np.zeros(1, _F))),
        n("Add", ["x", "zeros"], ["a"], name="add"),
        n("ConstantOfShape", ["wshape"], ["w"], name="weights", value=numpy_helper.from_array(np.ones(1, _F))),
        n("Conv", ["a", "w"], ["c"], name="conv"),
        n("Range", ["zero", "eight", "one"], ["r"], name="range"),
        n("Cast", ["r"], ["rf"], name="cast", to=TensorProto.FLOAT),
        n("Expand", ["rf", "to"], ["e"], name="expand"),
        n("Slice", ["e", "begin", "end"], ["e6"], name="slice"),
        n("Add", ["c", "e6"], ["out"], name="add2"),
    ]
    values = {
        "wshape": ints(4, 4, 3, 3),
        "to": ints(1, 4, 6, 8),
        "begin": ints(0, 0, 0, 0),
        "end": ints(1, 4, 6, 6),
        "zero": np.array(0, np.int64),
        "one": np.array(1, np.int64),
        "eight": np.array(8, np.int64),
    }
    return model(nodes, [("x", IMAGE)], ["out"], _values(values))


def scans() -> ModelProto:
    """Return a Scan over time and values kept in a sequence."""
    n, value = helper.make_node, helper.make_tensor_value_info
    body = helper.make_graph(
        [n("Add", ["state", "piece"], ["next"]), n("Relu", ["next"], ["seen"])],
        "body",
        [value("state", TensorProto.FLOAT, None), value("piece", TensorProto.FLOAT, None)],
        [value("next", TensorProto.FLOAT, None), value("seen", TensorProto.FLOAT, None)],
    )
    nodes = [
        n(
            "Scan",
            ["zeros", "x"],
            ["last", "all"],
            name="scan",
            body=body,
            num_scan_inputs=1,
            scan_input_axes=[1],
            scan_output_axes=[1],
        ),
        n("SplitToSequence", ["all"], ["pieces"], name="split", axis=1),
        n("SequenceAt", ["pieces", "two"], ["third"], name="at"),
        n("ConcatFromSequence", ["pieces"], ["joined"], name="join", axis=1),
        n("Add", ["joined", "third"], ["out"], name="add"),
    ]
    values = {"zeros": stored(1, 4) * 0, "two": np.array(2, np.int64)}
    return model(nodes, [("x", (1, 5, 4))], ["out"], _values(values))


NETWORKS = (scans, convnet, attention, quantized, control, local_functions, shape_arithmetic)


@cache
def models() -> tuple[bytes, ...]:
    """Return every sound model, serialised: networks first."""
    made = [network() for network in NETWORKS] + [single(recipe) for recipe in OPERATORS]
    return tuple(m.SerializeToString(deterministic=True) for m in made)
