"""One small file for each kind of defect that campaigns found, so that it is seen again without luck."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import picojoule as pj
from picojoule.pareto import non_dominated
from picojoule.sim.errors import LONGEST_SENTENCE, InputError, UnsupportedError
from picojoule.sim.files import read_bounded
from picojoule.sim.specs import parse_yaml


def refusal(path: Path, kind: type[Exception] = InputError) -> str:
    with pytest.raises(kind) as caught:
        pj.load(path)
    return str(caught.value).replace(f"{path.parent}/", "")


# --- messages -----------------------------------------------------------------------------------------------------------


def test_a_message_is_one_printable_line_of_bounded_length() -> None:
    assert str(InputError("a\n  b\x1b[31m\x00 é")) == "a b\\x1b[31m\\x00 é"
    long = str(UnsupportedError("x.onnx: " + "\n" * 10**6 + "z" * 10**6))
    assert len(long) <= LONGEST_SENTENCE and long.startswith("x.onnx: ") and long.endswith("zzz")
    assert long.count("characters) ...") == 1
    assert str(InputError("plain")) == "plain" and InputError("plain").args == ("plain",)


# --- YAML and tables ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: !!timestamp x\n", "1:4: not valid YAML: tags such as !!timestamp are not accepted here"),
        ("a: !!bool maybe\n", "1:4: not valid YAML: tags such as !!bool are not accepted here"),
        ("a: [" + "1," * 30_000 + "1]\n", "1:59999: not valid YAML: holds more than 30000 values"),
        ("a: " + "9" * 41, "1:4: not valid YAML: a whole number may have 40 digits, got 41"),
        ("a: 0x" + "f" * 5000, "1:4: not valid YAML: a whole number may have 40 digits, got 5002"),
    ],
)
def test_yaml_that_is_slow_or_runs_constructors(text: str, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_yaml(text, "f.yaml")
    assert str(caught.value) == f"f.yaml:{problem}"


def test_fronts_of_many_points_match_the_definition() -> None:
    rng = np.random.default_rng(0)
    for columns in (1, 2, 3):
        for _ in range(60):
            costs = rng.integers(0, 5, (20, columns)).astype(float)
            costs[rng.random(costs.shape) < 0.05] = np.nan
            usable = ~np.isnan(costs).any(axis=1)
            expected = [
                usable[i] and not any((o <= c).all() and (o < c).any() for o in costs[usable])
                for i, c in enumerate(costs)
            ]
            assert non_dominated(costs).tolist() == expected
    steps = np.arange(50_000.0)
    assert non_dominated(np.stack([steps, -steps], axis=1)).all()


def test_memory_is_taken_for_what_a_file_holds(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"abc")
    assert read_bounded(tmp_path / "small", 1 << 50, "a text") == b"abc"


# --- ONNX ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    def save(nodes: list[onnx.NodeProto], values: dict[str, np.ndarray] | None = None, functions: object = ()) -> Path:
        graph = helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 8, 8])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(v, n) for n, v in (values or {}).items()],
        )
        sets = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
        proto = helper.make_model(graph, opset_imports=sets, ir_version=9, functions=functions)
        path = tmp_path / "net.onnx"
        path.write_bytes(proto.SerializeToString())
        return path

    return save


def tower(levels: int, base: str = "Relu", domain: str = "") -> list[onnx.FunctionProto]:
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    lowest = helper.make_node(base, ["a"], ["b"], domain=domain)
    made = [helper.make_function("f", "F0", ["a"], ["b"], [lowest], sets)]
    for i in range(1, levels):
        calls = [
            helper.make_node(f"F{i - 1}", ["a"], ["t"], domain="f"),
            helper.make_node(f"F{i - 1}", ["t"], ["b"], domain="f"),
        ]
        made.append(helper.make_function("f", f"F{i}", ["a"], ["b"], calls, sets))
    return made


def test_functions_that_stand_for_billions_of_operators(saved: Callable[..., Path]) -> None:
    def call(name: str) -> list[onnx.NodeProto]:
        return [helper.make_node(name, ["x"], ["y"], domain="f")]

    assert len(pj.load(saved(call("F3"), functions=tower(4))).layers) == 8
    assert refusal(saved(call("F40"), functions=tower(41))).startswith(
        "net.onnx: its functions stand for more than 10^12 operators of more than 10^13 bytes, the file holds 82; "
    )
    assert refusal(saved(call("F2"), functions=tower(3, "F2", "f"))) == (
        "net.onnx: function 'f.F0' calls itself, which ONNX forbids; remove the circle"
    )
    assert refusal(saved(call("F0"), functions=tower(1) * 2)) == (
        "net.onnx: function 'f.F0' is defined twice; the file is damaged"
    )
    assert refusal(saved(call("F79"), functions=tower(80))) == (
        "net.onnx: functions call functions more than 64 deep; inline them first"
    )


@pytest.mark.parametrize("place", ["loop.bin", "a" * 5000, "a\0b", "down/loop.bin"])
def test_external_data_in_impossible_places(place: str, saved: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "loop.bin").symlink_to("loop.bin")
    path = saved([helper.make_node("Add", ["x", "w"], ["y"])], {"w": np.ones((8, 8), np.float32)})
    proto = onnx.load(path)
    proto.graph.initializer[0].ClearField("raw_data")
    proto.graph.initializer[0].data_location = TensorProto.EXTERNAL
    proto.graph.initializer[0].external_data.add(key="location", value=place)
    path.write_bytes(proto.SerializeToString())
    assert refusal(path).startswith("net.onnx: tensor 'w' is stored in '")


def test_external_data_are_checked_inside_bodies_too(saved: Callable[..., Path]) -> None:
    value = helper.make_tensor_value_info
    body = helper.make_graph([helper.make_node("Add", ["x", "w"], ["r"])], "b", [], [value("r", 1, None)])
    tensor = body.initializer.add(name="w", data_type=1, dims=[8, 8], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../secret")
    path = saved([helper.make_node("If", ["x"], ["y"], then_branch=body, else_branch=body)])
    assert refusal(path) == (
        "net.onnx: tensor 'w' is stored in '../secret'; external data must be named relative to the model's folder"
    )


def test_values_in_the_field_of_another_type(saved: Callable[..., Path]) -> None:
    path = saved([helper.make_node("Add", ["x", "w"], ["y"])], {"w": np.ones((8, 8), np.float32)})
    proto = onnx.load(path)
    proto.graph.initializer[0].ClearField("raw_data")
    proto.graph.initializer[0].int32_data.extend([1] * 64)
    path.write_bytes(proto.SerializeToString())
    assert refusal(path) == "net.onnx: tensor 'w' of shape [8, 8] needs 64 values, the file holds 0"


def test_stored_values_that_double_are_not_computed(saved: Callable[..., Path]) -> None:
    nodes, name = [], "w"
    for i in range(60):
        nodes.append(helper.make_node("Add" if i % 2 else "Mul", [name, name], [f"v{i}"]))
        name = f"v{i}"
    nodes.append(helper.make_node("Add", ["x", name], ["y"]))
    net = pj.load(saved(nodes, {"w": np.zeros((2000, 1, 8, 8), np.float32)}))
    assert net.outputs == ("y",)


@pytest.mark.parametrize("user", ["Conv", "Add", "OneHot", "NonZero", "Clip", "Cast", "Slice"])
def test_terabytes_of_one_number_are_never_made(user: str, saved: Callable[..., Path]) -> None:
    shape = [2**30, 4, 3, 3] if user == "Conv" else [2**20, 2**20]
    fill = numpy_helper.from_array(np.ones(1, np.int64 if user == "OneHot" else np.float32))
    inputs = {"Conv": ["x", "w"], "OneHot": ["w", "depth", "pair"], "Slice": ["w", "low", "low"]}.get(user, ["w"])
    inputs = ["w", "w"] if user == "Add" else inputs
    extra = {"to": 7} if user == "Cast" else {}
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["w"], value=fill),
        helper.make_node(user, inputs, ["y" if user == "Conv" else "c"], **extra),
    ]
    if user != "Conv":
        nodes.append(helper.make_node("Add", ["x", "c"], ["y"]))
    values = {"shape": np.array(shape), "depth": np.array(3), "pair": np.zeros(2, np.float32), "low": np.array([0, 1])}
    path = saved(nodes, values)
    try:
        pj.evaluate(path, "edge-16x16", allow_unsupported=True)
    except (InputError, UnsupportedError) as error:
        assert "net" in str(error)


def test_loops_within_loops_end(saved: Callable[..., Path]) -> None:
    value = helper.make_tensor_value_info
    node = helper.make_node("Identity", ["x"], ["r0"])
    for i in range(3):
        inputs = [value(f"i{i}", TensorProto.INT64, []), value(f"go{i}", TensorProto.BOOL, [])]
        outputs = [value(f"on{i}", TensorProto.BOOL, None)]
        body = helper.make_graph([node, helper.make_node("Identity", ["yes"], [f"on{i}"])], "b", inputs, outputs)
        node = helper.make_node("Loop", ["trips", "yes"], [], body=body)
    nodes = [node, helper.make_node("Relu", ["x"], ["y"])]
    path = saved(nodes, {"trips": np.array(4000), "yes": np.array(True)})
    assert refusal(path, UnsupportedError).startswith(
        "net.onnx: its loops and functions come to more than 20000 operators and 10 times those in the file; "
    )


def test_complex_numbers_are_named(saved: Callable[..., Path]) -> None:
    path = saved([helper.make_node("Add", ["x", "w"], ["y"])], {"w": np.ones((8, 8), np.complex64)})
    assert refusal(path, UnsupportedError) == (
        "net.onnx: tensor 'w': complex numbers are not read; store real and imaginary parts apart"
    )
