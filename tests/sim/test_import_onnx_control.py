"""Branches, loops and sequences: unrolled where they are known at import, else named with what is inside."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from picojoule.sim.attributes import Op
from picojoule.sim.errors import UnsupportedError
from picojoule.sim.gemm import network_macs
from picojoule.sim.importers import onnx_control
from picojoule.sim.importers.onnx_graph import load_onnx

RANDOM = np.random.default_rng(23)
FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def rand(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


def info(name, kind=FLOAT, shape=None):
    return helper.make_tensor_value_info(name, kind, shape)


def loop_body():
    """next = tanh(state W); the turn's result is next."""
    return helper.make_graph(
        [
            helper.make_node("MatMul", ["state", "w"], ["product"], name="product"),
            helper.make_node("Tanh", ["product"], ["next"], name="tanh"),
            helper.make_node("Identity", ["next"], ["kept"]),
            helper.make_node("Identity", ["go"], ["go_on"]),
        ],
        "body",
        [info("i", INT64, []), info("go", BOOL, []), info("state")],
        [info("go_on", BOOL, []), info("next"), info("kept")],
    )


def test_a_loop_of_known_length_is_unrolled(runtime):
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Loop", ["times", "", "r"], ["y", "all"], name="again", body=loop_body()),
    ]
    stored = {"times": np.array(3), "w": rand(4, 4)}
    net = load_onnx(runtime.save(nodes, {"x": ("N", 4)}, stored, outputs=["y", "all"]))
    assert [x.name for x in net.layers if x.op is Op.LINEAR] == [f"again.{i}.product" for i in range(3)]
    assert network_macs(net, 2) == 3 * 2 * 4 * 4
    assert net.parameters == 16  # the same matrix at every turn
    assert [net.values()[n].shape for n in net.outputs] == [(1, 4), (3, 1, 4)]
    runtime.agree(net)


def test_a_loop_that_computes_on_its_own_counter(runtime):
    body = helper.make_graph(
        [
            helper.make_node("Cast", ["i"], ["turn"], to=FLOAT),
            helper.make_node("Mul", ["table", "turn"], ["row"]),
            helper.make_node("Add", ["state", "row"], ["next"]),
            helper.make_node("Less", ["i", "limit"], ["go_on"]),
        ],
        "body",
        [info("i", INT64, []), info("go", BOOL, []), info("state")],
        [info("go_on", BOOL, []), info("next")],
    )
    stored = {"table": rand(4), "limit": np.array(2), "true": np.array(True)}
    nodes = [helper.make_node("Loop", ["", "true", "x"], ["y"], body=body)]
    net = load_onnx(runtime.save(nodes, {"x": ("N", 4)}, stored))
    assert len(net.layers) == 3  # the condition is known to fail in turn 2
    assert len({o.name for x in net.layers for o in x.operands if o.weights}) == 3  # a row for each turn
    runtime.agree(net)


def test_a_loop_of_unknown_length_says_what_is_inside(runtime):
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["m"], keepdims=0),
        helper.make_node("Cast", ["m"], ["times"], to=INT64),
        helper.make_node("Loop", ["times", "", "x"], ["y", "all"], name="again", body=loop_body()),
    ]
    path = runtime.save(nodes, {"x": (1, 4)}, {"w": rand(4, 4)}, outputs=["y", "all"])
    with pytest.raises(UnsupportedError) as caught:
        load_onnx(path)
    assert str(caught.value) == (
        "net.onnx: 1 operator is not understood, and not all result shapes are known: 'Loop' at 'again' (its number of "
        "turns depends on the input (one turn: MatMul, Tanh, 2 Identity, 16 multiply-accumulates)); replace them, or "
        "store shapes in the file (onnx.shape_inference)"
    )


def test_a_loop_that_would_be_too_long_is_refused_with_the_number(runtime):
    nodes = [helper.make_node("Loop", ["times", "", "x"], ["y", "all"], name="again", body=loop_body())]
    path = runtime.save(nodes, {"x": (1, 4)}, {"w": rand(4, 4), "times": np.array(10**9)}, outputs=["y", "all"])
    with pytest.raises(UnsupportedError) as caught:
        load_onnx(path)
    assert str(caught.value) == (
        "net.onnx: 1 operator is not understood, and not all result shapes are known: 'Loop' at 'again' (its 1000000000 "
        f"turns come to 3,000,000,000 layers; at most {onnx_control.LARGEST_UNROLLED_LAYERS:,} are unrolled); replace "
        "them, or store shapes in the file (onnx.shape_inference)"
    )


@pytest.mark.parametrize("backwards", [0, 1])
def test_a_scan_is_unrolled(runtime, backwards):
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["state", "w"], ["product"]),
            helper.make_node("Add", ["product", "piece"], ["next"]),
            helper.make_node("Relu", ["next"], ["out"]),
        ],
        "body",
        [info("state"), info("piece")],
        [info("next"), info("out")],
    )
    node = helper.make_node(
        "Scan",
        ["first", "x"],
        ["last", "y"],
        name="steps",
        num_scan_inputs=1,
        scan_input_axes=[1],
        scan_output_axes=[1],
        scan_input_directions=[backwards],
        scan_output_directions=[backwards],
        body=body,
    )
    nodes = [helper.make_node("ReduceSum", ["x", "axis"], ["first"], keepdims=0), node]
    stored = {"w": rand(4, 4), "axis": np.array([1])}
    net = load_onnx(runtime.save(nodes, {"x": ("N", 5, 4)}, stored, outputs=["last", "y"]))
    assert network_macs(net, 3) == 5 * 3 * 16
    assert net.parameters == 16
    runtime.agree(net)


def branches(condition):
    then = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["a"])], "then", [], [info("a")])
    other = helper.make_graph(
        [helper.make_node("Conv", ["x", "k"], ["c"]), helper.make_node("Relu", ["c"], ["b"])], "else", [], [info("b")]
    )
    return helper.make_node("If", [condition], ["y"], name="either", then_branch=then, else_branch=other)


def test_a_known_branch_is_taken(runtime):
    stored = {"w": rand(6, 6), "k": rand(2, 2, 1), "true": np.array(True)}
    net = load_onnx(runtime.save([branches("true")], {"x": ("N", 2, 6)}, stored))
    assert [x.name for x in net.layers] == ["either.then_branch.MatMul_0"]
    runtime.agree(net)


def test_an_unknown_branch_says_what_is_inside_both(runtime):
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["m"], keepdims=0),
        helper.make_node("Greater", ["m", "zero"], ["positive"]),
        branches("positive"),
    ]
    stored = {"w": rand(6, 6), "k": rand(2, 2, 1), "zero": np.float32(0)}
    net = load_onnx(runtime.save(nodes, {"x": ("N", 2, 6)}, stored))
    assert [(u.op, u.layer, u.reason) for u in net.unsupported] == [
        (
            "If",
            "either",
            "its condition depends on the input (then: MatMul, 72 multiply-accumulates; else: Conv, Relu, "
            "24 multiply-accumulates)",
        )
    ]
    assert [o.name for o in net.layers[-1].operands] == ["positive", "x", "k", "w"]


def test_sequences_exist_at_import_only(runtime):
    nodes = [
        helper.make_node("SplitToSequence", ["x", "two"], ["pieces"], axis=1),
        helper.make_node("SequenceAt", ["pieces", "last"], ["z"]),
        helper.make_node("SequenceLength", ["pieces"], ["count"]),
        helper.make_node("Cast", ["count"], ["real"], to=FLOAT),
        helper.make_node("Mul", ["z", "real"], ["scaled"]),
        helper.make_node("SequenceErase", ["pieces", "zero"], ["rest"]),
        helper.make_node("SequenceInsert", ["rest", "scaled", "zero"], ["more"]),
        helper.make_node("ConcatFromSequence", ["more"], ["y"], axis=1),
    ]
    stored = {"two": np.array(2), "last": np.array(-1), "zero": np.array(0)}
    net = load_onnx(runtime.save(nodes, {"x": ("N", 6, 3)}, stored))
    assert [x.op for x in net.layers] == [Op.SPLIT, Op.ELEMENTWISE, Op.CONCAT]
    runtime.agree(net)


def test_a_sequence_carried_by_a_loop(runtime):
    body = helper.make_graph(
        [
            helper.make_node("Mul", ["x", "x"], ["square"]),
            helper.make_node("SequenceInsert", ["held", "square"], ["more"]),
            helper.make_node("Identity", ["go"], ["go_on"]),
        ],
        "body",
        [
            info("i", INT64, []),
            info("go", BOOL, []),
            helper.make_tensor_sequence_value_info("held", FLOAT, None),
        ],
        [info("go_on", BOOL, []), helper.make_tensor_sequence_value_info("more", FLOAT, None)],
    )
    nodes = [
        helper.make_node("SequenceEmpty", [], ["empty"]),
        helper.make_node("Loop", ["times", "", "empty"], ["held_all"], body=body),
        helper.make_node("ConcatFromSequence", ["held_all"], ["y"], axis=1, new_axis=1),
    ]
    net = load_onnx(runtime.save(nodes, {"x": ("N", 3)}, {"times": np.array(3)}))
    assert net.values()[net.outputs[0]].shape == (1, 3, 3)
    runtime.agree(net)


def test_elements_of_a_sequence_are_outputs(runtime):
    nodes = [helper.make_node("SplitToSequence", ["x"], ["y"], axis=1, keepdims=0)]
    net = load_onnx(runtime.save(nodes, {"x": ("N", 3, 2)}))
    assert [net.values()[n].shape for n in net.outputs] == [(1, 2)] * 3
    assert net.notes == ("output 'y' is a sequence; its elements are outputs one by one",)


def test_local_functions_are_written_out(runtime):
    import onnx

    function = helper.make_function(
        "mine",
        "block",
        ["a", "m"],
        ["b"],
        [helper.make_node("MatMul", ["a", "m"], ["t"]), helper.make_node("Relu", ["t"], ["b"])],
        [helper.make_opsetid("", 17)],
    )
    nodes = [
        helper.make_node("block", ["x", "v"], ["h"], domain="mine"),
        helper.make_node("block", ["h", "w"], ["y"], domain="mine"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [info("x", FLOAT, ["N", 4])],
        [info("y", FLOAT, ["N", 4])],
        [numpy_helper.from_array(rand(4, 4), n) for n in "vw"],
    )
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    onnx.save(helper.make_model(graph, opset_imports=sets, functions=[function], ir_version=9), runtime.path)
    net = load_onnx(runtime.path)
    assert [x.op for x in net.layers] == [Op.LINEAR, Op.ACTIVATION] * 2
    runtime.agree(net)
