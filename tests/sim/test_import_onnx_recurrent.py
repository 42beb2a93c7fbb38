"""LSTM, GRU and RNN of ONNX: shapes, multiply-accumulates and values, in every direction, layout and state."""

import numpy as np
import pytest
from onnx import helper

from picojoule.sim.attributes import GATES, Op, RecurrentAttributes, RecurrentKind
from picojoule.sim.errors import InputError
from picojoule.sim.gemm import network_macs
from picojoule.sim.importers.onnx_graph import load_onnx

RANDOM = np.random.default_rng(17)
STEPS, WIDTH, HIDDEN = 5, 3, 4
GATE_COUNT = {"LSTM": 4, "GRU": 3, "RNN": 1}


def rand(*shape):
    return (0.5 * RANDOM.standard_normal(shape)).astype(np.float32)


def cell(op, directions, *, bias=True):
    rows = GATE_COUNT[op] * HIDDEN
    stored = {"w": rand(directions, rows, WIDTH), "r": rand(directions, rows, HIDDEN)}
    return stored | ({"b": rand(directions, 2 * rows)} if bias else {})


def outputs(op):
    return ["y", "y_h", "y_c"] if op == "LSTM" else ["y", "y_h"]


@pytest.mark.parametrize(("op", "after"), [("LSTM", 0), ("GRU", 0), ("GRU", 1), ("RNN", 0)])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_recurrent_networks_equal_the_reference(runtime, op, direction, after):
    directions = 2 if direction == "bidirectional" else 1
    stored = cell(op, directions)
    more = {"linear_before_reset": after} if op == "GRU" else {}
    node = helper.make_node(op, ["x", "w", "r", "b"], outputs(op), hidden_size=HIDDEN, direction=direction, **more)
    path = runtime.save([node], {"x": (STEPS, "batch", WIDTH)}, stored, outputs=outputs(op))
    net = load_onnx(path)
    assert net.inputs[0].type.batch_axis == 1
    values = net.values()
    assert [values[n].shape for n in net.outputs] == [
        (STEPS, directions, 1, HIDDEN),
        *[(directions, 1, HIDDEN)] * (len(outputs(op)) - 1),
    ]
    assert network_macs(net, 3) == 3 * STEPS * directions * GATE_COUNT[op] * HIDDEN * (WIDTH + HIDDEN)
    assert [x.op for x in net.layers].count(Op.RECURRENT) == directions
    assert net.parameters == sum(v.size for v in stored.values()) - (
        0 if after else directions * GATE_COUNT[op] * HIDDEN  # both biases are added up, where no gate parts them
    )
    runtime.agree(net)


def test_initial_states_and_no_bias(runtime):
    stored = cell("LSTM", 2, bias=False) | {"c": rand(2, 1, HIDDEN)}
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "one"], ["n"]),
        helper.make_node("Concat", ["two", "n", "width"], ["state_shape"], axis=0),
        helper.make_node("Expand", ["c", "state_shape"], ["c0"]),
        helper.make_node("ConstantOfShape", ["state_shape"], ["h0"]),
        helper.make_node(
            "LSTM", ["x", "w", "r", "", "", "h0", "c0"], ["y"], hidden_size=HIDDEN, direction="bidirectional"
        ),
    ]
    numbers = {"one": np.array([1]), "two": np.array([2]), "width": np.array([HIDDEN])}
    net = load_onnx(runtime.save(nodes, {"x": (STEPS, "batch", WIDTH)}, stored | numbers))
    cells = [x for x in net.layers if x.op is Op.RECURRENT]
    assert [x.attributes.has_state for x in cells] == [True, True]
    runtime.agree(net)


def test_states_of_zero_are_none(runtime):
    stored = cell("GRU", 1) | {"h": np.zeros((1, 1, HIDDEN), np.float32)}
    node = helper.make_node("GRU", ["x", "w", "r", "b", "", "h"], ["y"], hidden_size=HIDDEN)
    net = load_onnx(runtime.save([node], {"x": (STEPS, 1, WIDTH)}, stored))
    assert [x.attributes.has_state for x in net.layers if x.op is Op.RECURRENT] == [False]
    runtime.agree(net, (1,))


def test_batch_first(runtime):
    """ONNX Runtime has no layout 1, so the same graph with transposes around it is the reference."""
    stored = cell("LSTM", 1)
    node = helper.make_node("LSTM", ["x", "w", "r", "b"], ["y", "h", "c"], hidden_size=HIDDEN, layout=1)
    net = load_onnx(runtime.save([node], {"x": ("N", STEPS, WIDTH)}, stored, outputs=["y", "h", "c"], opset=14))
    values = net.values()
    assert [values[n].type.at(3) for n in net.outputs] == [(3, STEPS, 1, HIDDEN), (3, 1, HIDDEN), (3, 1, HIDDEN)]
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        helper.make_node("LSTM", ["t", "w", "r", "b"], ["ty", "th", "tc"], hidden_size=HIDDEN),
        helper.make_node("Transpose", ["ty"], ["y"], perm=[2, 0, 1, 3]),
        helper.make_node("Transpose", ["th"], ["h"], perm=[1, 0, 2]),
        helper.make_node("Transpose", ["tc"], ["c"], perm=[1, 0, 2]),
    ]
    runtime.save(nodes, {"x": ("N", STEPS, WIDTH)}, stored, outputs=["y", "h", "c"], opset=14)
    runtime.agree(net)


def test_a_rectifying_cell_without_the_steps_in_between(runtime):
    stored = cell("RNN", 1)
    node = helper.make_node("RNN", ["x", "w", "r", "b"], ["", "y"], hidden_size=HIDDEN, activations=["Relu"])
    net = load_onnx(runtime.save([node], {"x": (STEPS, "batch", WIDTH)}, stored))
    assert isinstance(net.layers[1].attributes, RecurrentAttributes)
    assert net.layers[1].attributes.kind is RecurrentKind.RNN_RELU
    assert GATES[RecurrentKind.RNN_RELU] == 1
    runtime.agree(net)


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "reason"),
    [
        ("LSTM", ["x", "w", "r", "b"], {"clip": 3.0}, "it clips its gates"),
        ("LSTM", ["x", "w", "r", "b"], {"input_forget": 1}, "it couples input and forget gates"),
        ("LSTM", ["x", "w", "r", "b", "", "", "", "p"], {}, "it has peepholes"),
        ("GRU", ["x", "w", "r", "b", "l"], {}, "its sequences have lengths of their own (sequence_lens)"),
        (
            "GRU",
            ["x", "w", "r", "b"],
            {"activations": ["Sigmoid", "Softsign"]},
            "its activations are sigmoid, softsign",
        ),
    ],
)
def test_uses_that_the_workload_cannot_say(runtime, op, inputs, attributes, reason):
    stored = cell(op, 1) | {"p": rand(1, 3 * HIDDEN), "l": np.int32([4])}
    stored = {n: v for n, v in stored.items() if n in inputs}
    node = helper.make_node(op, inputs, ["y"], hidden_size=HIDDEN, **attributes)
    net = load_onnx(runtime.save([node], {"x": (STEPS, 1, WIDTH)}, stored))
    assert [(u.op, u.reason) for u in net.unsupported] == [(op, reason)]
    assert net.layers[0].results[0].shape == (STEPS, 1, 1, HIDDEN)


def test_weights_of_the_wrong_shape(runtime):
    stored = cell("GRU", 1) | {"r": rand(1, 12, 3)}
    node = helper.make_node("GRU", ["x", "w", "r", "b"], ["y"], hidden_size=HIDDEN, name="cell")
    with pytest.raises(InputError) as caught:
        load_onnx(runtime.save([node], {"x": (STEPS, 1, WIDTH)}, stored))
    assert str(caught.value) == (
        "net.onnx: GRU 'cell' needs weights [1, 12, 3] and [1, 12, 4], got [1, 12, 3] and [1, 12, 3]"
    )


def test_one_tensor_of_both_directions_has_two_names(runtime):
    stored = cell("RNN", 2)
    node = helper.make_node("RNN", ["x", "w", "r", "b"], ["y"], hidden_size=HIDDEN, direction="bidirectional")
    net = load_onnx(runtime.save([node], {"x": (STEPS, 1, WIDTH)}, stored))
    names = [o.name for x in net.layers for o in x.parameters]
    assert names == ["w", "b", "r", "w (direction 1)", "b (direction 1, both)", "r (direction 1)"]
