"""Operators whose meaning or spelling changed between operator sets, each set on its own, against ONNX Runtime."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from picojoule.sim.importers.onnx_graph import load_onnx

RANDOM = np.random.default_rng(53)
IMAGE = ("N", 4, 6, 8)


def rand(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


def ints(*values):
    return np.array(values, dtype=np.int64)


CASES = [
    # operator, opset, further inputs, attributes[, ifmap]
    ("Pad", 10, {}, {"pads": [0, 0, 1, 2, 0, 0, 0, 1], "value": 0.5}),
    ("Pad", 11, {"p": ints(0, 0, 1, 2, 0, 0, 0, 1), "v": np.float32(0.5)}, {}),
    ("Pad", 18, {"p": ints(1, 2), "v": np.float32(0.5), "a": ints(-1)}, {}),
    ("Pad", 21, {"p": ints(0, 0, 1, 2, 0, 0, 0, 1)}, {"mode": "wrap"}),
    ("Slice", 9, {}, {"starts": [1, -5], "ends": [4, -1], "axes": [2, 3]}),
    ("Slice", 10, {"s": ints(1, -5), "e": ints(4, -1), "a": ints(2, 3)}, {}),
    ("Slice", 13, {"s": ints(-1), "e": ints(-100), "a": ints(-1), "t": ints(-2)}, {}),
    ("Squeeze", 12, {}, {"axes": [1, -1]}, ("N", 1, 5, 1)),
    ("Squeeze", 13, {"a": ints(1, -1)}, {}, ("N", 1, 5, 1)),
    ("Unsqueeze", 11, {}, {"axes": [1, -1]}),
    ("Unsqueeze", 13, {"a": ints(1, -1)}, {}),
    ("ReduceSum", 11, {}, {"axes": [1, 3], "keepdims": 0}),
    ("ReduceSum", 13, {"a": ints(1, 3)}, {"keepdims": 0}),
    ("ReduceSum", 13, {}, {"noop_with_empty_axes": 1}),
    ("ReduceMean", 17, {}, {"axes": [-1]}),
    ("ReduceMean", 18, {"a": ints(-1)}, {}),
    ("ReduceMax", 12, {}, {"axes": [1]}),
    ("ReduceMax", 20, {"a": ints(1)}, {"keepdims": 0}),
    ("Softmax", 7, {}, {"axis": 2}),
    ("Softmax", 12, {}, {}),
    ("Softmax", 13, {}, {}),
    ("Softmax", 13, {}, {"axis": 1}),
    ("LogSoftmax", 11, {}, {"axis": 3}),
    ("Hardmax", 11, {}, {"axis": 3}),
    ("Hardmax", 13, {}, {}),
    ("Clip", 10, {}, {"min": -0.5}),
    ("Clip", 11, {"low": np.float32(-0.5)}, {}),
    ("Clip", 12, {"": None, "high": np.float32(0.5)}, {}),
    ("Dropout", 7, {}, {"ratio": 0.3}),
    ("Dropout", 12, {"ratio": np.float32(0.3)}, {}),
    ("Dropout", 22, {"ratio": np.float32(0.3), "train": np.array(False)}, {}),
    ("BatchNormalization", 8, {n: np.abs(rand(4)) for n in "sbmv"}, {}),
    ("BatchNormalization", 9, {n: np.abs(rand(4)) for n in "sbmv"}, {"epsilon": 1e-3}),
    ("BatchNormalization", 15, {n: np.abs(rand(4)) for n in "sbmv"}, {"training_mode": 0}),
    ("Resize", 10, {"s": np.float32([1, 1, 2, 2])}, {"mode": "nearest"}),
    ("Resize", 11, {"r": np.float32([]), "s": np.float32([1, 1, 2, 2])}, {"mode": "linear"}),
    ("Resize", 13, {"": None, "s": np.float32([1, 1, 0.5, 2])}, {"mode": "nearest", "nearest_mode": "floor"}),
    ("Resize", 18, {"": None, " ": None, "z": ints(9, 12)}, {"mode": "cubic", "axes": [2, 3]}),
    ("Resize", 19, {"": None, "s": np.float32([2, 2])}, {"mode": "linear", "axes": [2, 3], "antialias": 1}),
    ("Upsample", 8, {}, {"mode": "nearest", "scales": [1.0, 1.0, 2.0, 3.0]}),
    ("Upsample", 9, {"s": np.float32([1, 1, 2, 3])}, {"mode": "linear"}),
    ("Gemm", 7, {"w": rand(6, 5), "b": rand(1, 5)}, {}, ("N", 6)),
    ("Gemm", 11, {"w": rand(6, 5)}, {"alpha": 0.5}, ("N", 6)),
    ("TopK", 9, {}, {"k": 2, "axis": 1}),
    ("TopK", 11, {"k": ints(2)}, {"axis": 1, "largest": 0}),
    ("Gelu", 20, {}, {"approximate": "tanh"}),
    ("AveragePool", 7, {}, {"kernel_shape": [2, 2], "pads": [1, 1, 0, 0], "count_include_pad": 1}),
    ("AveragePool", 10, {}, {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    ("AveragePool", 19, {}, {"kernel_shape": [2, 2], "dilations": [2, 3], "pads": [1, 1, 1, 1]}),
    ("MaxPool", 8, {}, {"kernel_shape": [2, 3], "storage_order": 0}),
    ("MaxPool", 12, {}, {"kernel_shape": [2, 2], "dilations": [2, 2], "ceil_mode": 1}),
    ("Scatter", 9, {"i": np.zeros((1, 4, 1, 8), np.int64), "u": rand(1, 4, 1, 8)}, {"axis": 2}, (1, 4, 6, 8)),
    ("GroupNormalization", 21, {"s": rand(4), "b": rand(4)}, {"num_groups": 2}),
    ("InstanceNormalization", 6 + 1, {"s": rand(4), "b": rand(4)}, {}),
    ("Cast", 9, {}, {"to": TensorProto.FLOAT16}),
    ("Pow", 12, {"e": np.array(3)}, {}),
    ("Reshape", 14, {"to": ints(0, -1)}, {"allowzero": 0}),
]


@pytest.mark.parametrize("case", CASES, ids=[f"{c[0]}-{c[1]}-{i}" for i, c in enumerate(CASES)])
def test_operator_of_its_time(runtime, case):
    op, opset, further, attributes, *rest = case
    shape = rest[0] if rest else IMAGE
    outputs = ["y", "i"] if op == "TopK" else ["y"]
    nodes = [helper.make_node(op, ["x", *(n.strip() for n in further)], outputs, **attributes)]
    if op == "Cast":
        nodes = [
            helper.make_node("Cast", ["x"], ["h"], to=attributes["to"]),
            helper.make_node("Cast", ["h"], ["y"], to=TensorProto.FLOAT),
        ]
    stored = {n: v for n, v in further.items() if v is not None}
    path = runtime.save(nodes, {"x": shape}, stored, outputs=outputs, opset=opset, types={"i": TensorProto.INT64})
    narrow = op == "Cast"
    runtime.agree(load_onnx(path), (1,) if shape[0] == 1 else (1, 2), rtol=2e-3 if narrow else 2e-4)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [(None, None, (1, 4, 6, 8)), (1, None, (4, 6, 8)), (-2, None, (6, 8)), (0, -1, (1, 4, 6))],
)
def test_parts_of_a_shape(runtime, start, end, expected):
    bounds = {k: v for k, v in (("start", start), ("end", end)) if v is not None}
    nodes = [
        helper.make_node("Shape", ["x"], ["s"], **bounds),
        helper.make_node("ConstantOfShape", ["s"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["none"], keepdims=0),
        helper.make_node("Add", ["x", "none"], ["y"]),
    ]
    net = load_onnx(runtime.save(nodes, {"x": (1, 4, 6, 8)}, opset=15))
    assert net.values()[net.outputs[0]].shape == (1, 4, 6, 8)
    nodes = [helper.make_node("Shape", ["x"], ["s"], **bounds), helper.make_node("Expand", ["c", "s"], ["z"])]
    nodes += [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("ReduceMax", ["f"], ["m"], keepdims=0)]
    nodes += [helper.make_node("Mul", ["z", "m"], ["y"])]
    net = load_onnx(runtime.save(nodes, {"x": (1, 4, 6, 8)}, {"c": np.float32(2)}, opset=15))
    assert net.values()[net.outputs[0]].shape == expected
    runtime.agree(net, (1,))


def test_a_newer_operator_set_is_read_with_a_remark(runtime):
    path = runtime.save([helper.make_node("Relu", ["x"], ["y"])], {"x": ("N", 4)}, opset=99)
    assert load_onnx(path).notes == ("opset 99 is newer than 28, the newest one compared",)
