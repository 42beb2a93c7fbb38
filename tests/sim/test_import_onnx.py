import csv
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from picojoule.sim.attributes import ConvAttributes, Op
from picojoule.sim.errors import InputError, UnsupportedError
from picojoule.sim.gemm import layer_macs, network_macs
from picojoule.sim.importers import onnx_file
from picojoule.sim.importers.onnx_graph import load_onnx
from picojoule.sim.ir import OperandKind

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
ROWS = Path(__file__).parent.parent / "reference" / "networks" / "onnx_layers.csv"
Shape = Sequence[int | str | None] | None


def save(
    folder: Path,
    nodes: Sequence[Any],
    inputs: Mapping[str, Shape],
    outputs: Sequence[str],
    stored: Mapping[str, Any] | None = None,
    *,
    opset: int = 17,
    known: Mapping[str, Shape] | None = None,
    name: str = "net.onnx",
) -> Path:
    def info(value: str, shape: Shape) -> Any:
        return helper.make_tensor_value_info(value, TensorProto.FLOAT, shape)

    graph = helper.make_graph(
        list(nodes),
        "g",
        [info(n, s) for n, s in inputs.items()],
        [info(n, None) for n in outputs],
        [v if isinstance(v, TensorProto) else numpy_helper.from_array(v, n) for n, v in (stored or {}).items()],
        value_info=[info(n, s) for n, s in (known or {}).items()],
    )
    sets = [helper.make_opsetid("", opset), helper.make_opsetid("my.ops", 1)]
    path = folder / name
    path.write_bytes(helper.make_model(graph, opset_imports=sets).SerializeToString())
    return path


def ones(*shape: int) -> Any:
    return np.ones(shape, np.float32)


def refusal(path: Path, kind: type[Exception] = InputError, **options: Any) -> str:
    with pytest.raises(kind) as caught:
        load_onnx(path, **options)
    return str(caught.value)


# Published counts and measured layers


@pytest.mark.parametrize(
    ("name", "mmacs", "parameters"),
    [
        ("bvlc_alexnet", 654.56, 60_965_224),
        ("zfnet512", 1481.73, None),
        ("squeezenet", 349.15, 1_235_496),
        ("inception_v1", 1431.56, 6_998_552),
        ("inception_v2", 2018.85, None),
        ("resnet50", 4089.18, 25_557_032),
        ("densenet121", 2834.16, None),
        ("vgg19", 19632.06, 143_667_240),
        ("shufflenet", 124.66, None),
    ],
)
def test_published_networks(name, mmacs, parameters):
    net = load_onnx(LIGHT / f"light_{name}.onnx")
    assert round(network_macs(net) / 1e6, 2) == mmacs
    assert network_macs(net, 7) == 7 * network_macs(net)
    assert not net.unsupported
    assert parameters in (None, net.parameters)


def test_shufflenet_layer_by_layer():
    with ROWS.open(newline="") as file:
        rows = list(csv.DictReader(file))
    layers = [x for x in load_onnx(LIGHT / "light_shufflenet.onnx").layers if x.op in (Op.CONV, Op.LINEAR)]
    assert len(layers) == len(rows) == 50

    def joined(sizes: Sequence[int]) -> str:
        return "x".join(str(s) for s in sizes)

    for layer, row in zip(layers, rows, strict=True):
        assert joined(layer.operands[0].shape) == row["in_shape"]
        assert joined(layer.operands[1].shape) == row["w_shape"]
        assert joined(layer.results[0].shape) == row["out_shape"]
        assert layer_macs(layer) == int(row["macs"])
        a = layer.attributes
        if isinstance(a, ConvAttributes):
            assert joined(a.stride) == row["stride"]
            assert joined((*a.padding_begin, *a.padding_end)) == (row["pad"] or "0x0x0x0")
            assert a.groups == int(row["group"] or 1)


def test_filled_weights_are_never_allocated_and_noted():
    net = load_onnx(LIGHT / "light_vgg19.onnx")
    largest = max((o for x in net.layers for o in x.parameters), key=lambda o: o.type.elements())
    assert largest.weights is not None
    assert largest.weights.array().strides == (0, 0)
    assert net.notes == ("36 weight tensors of the file are one repeated number, not trained values",)


def test_import_needs_no_torch():
    code = (
        "import sys; from pathlib import Path; from picojoule.sim.importers.onnx_graph import load_onnx; "
        "from picojoule.sim.importers.scalesim_csv import load_csv; "
        f"load_onnx(Path({str(LIGHT / 'light_squeezenet.onnx')!r})); "
        "assert not {'torch', 'matplotlib', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Names, operands, folding


def test_layers_and_values_keep_the_names_of_the_file(tmp_path):
    nodes = [
        helper.make_node("Relu", ["x"], ["gpu_0/a:0"], name="first"),
        helper.make_node("Relu", ["gpu_0/a:0"], ["b"]),
        helper.make_node("Identity", ["b"], ["c"], name="same"),
        helper.make_node("Tanh", ["c"], ["d"], name="twice"),
        helper.make_node("Tanh", ["d"], ["y"], name="twice"),
    ]
    net = load_onnx(save(tmp_path, nodes, {"x": ["N", 4]}, ["y"]), name="mine")
    assert net.name == "mine"
    assert [x.name for x in net.layers] == ["first", "Relu_1", "Tanh_3", "Tanh_4"]
    assert [x.results[0].name for x in net.layers] == ["gpu_0/a:0", "b", "d", "y"]
    assert net.layers[2].operands[0].name == "b"
    assert net.layers[1].source == "node 1, Relu"


def test_which_stored_values_are_parameters(tmp_path):
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"]),
        helper.make_node("BatchNormalization", ["c", "b", "b2", "mean", "variance"], ["n"]),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("Mul", ["r", "scale"], ["s"]),
        helper.make_node("Add", ["s", "map"], ["a"]),
        helper.make_node("Sub", ["a", "scale"], ["d"]),
        helper.make_node("Add", ["d", "one"], ["y"]),
    ]
    stored = {"w": ones(4, 3, 1, 1), "one": ones(1), "scale": ones(4, 1, 1), "map": ones(1, 4, 5, 5)}
    stored |= {n: ones(4) for n in ("b", "b2", "mean", "variance")}
    net = load_onnx(save(tmp_path, nodes, {"x": [1, 3, 5, 5]}, ["y"], stored))
    kinds = [(o.name, o.kind) for x in net.layers for o in x.operands if o.kind is not OperandKind.ACTIVATION]
    trained, fixed = OperandKind.PARAMETER, OperandKind.CONSTANT
    assert kinds == [
        *(("w", trained), ("b", trained), ("b", trained), ("b2", trained), ("mean", fixed), ("variance", fixed)),
        *(("scale", trained), ("map", fixed), ("scale", fixed), ("one", fixed)),
    ]
    assert net.parameters == 12 + 4 + 4 + 4


def test_a_stored_matrix_is_a_linear_layer_with_the_bias_that_follows(tmp_path):
    weight, bias = np.arange(12, dtype=np.float32).reshape(3, 4), np.arange(4, dtype=np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"], name="fc"),
        helper.make_node("MatMul", ["x", "w"], ["q"]),
        helper.make_node("Add", ["bias", "p"], ["biased"]),
        helper.make_node("Add", ["q", "bias"], ["r"]),
        helper.make_node("Add", ["biased", "r"], ["y"]),
    ]
    net = load_onnx(save(tmp_path, nodes, {"x": ["N", 7, 3]}, ["y", "q"], {"w": weight, "bias": bias}))
    assert [x.op for x in net.layers] == [Op.LINEAR, Op.LINEAR, Op.ELEMENTWISE, Op.ELEMENTWISE]
    first = net.layers[0]
    assert [o.name for o in first.operands] == ["x", "w", "bias"]
    assert first.results[0].name == "biased"
    assert first.operands[1].weights is not None
    assert np.array_equal(first.operands[1].weights.array(), weight.T)
    assert len(net.layers[1].operands) == 2  # its product is an output of its own
    assert network_macs(net, 2) == 2 * 2 * 7 * 3 * 4
    assert net.parameters == 12 + 4


def test_one_tensor_in_two_forms_has_two_names(tmp_path):
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["a"], transB=1),
        helper.make_node("Gemm", ["a", "w"], ["b"]),
        helper.make_node("Gemm", ["b", "w"], ["y"], transB=1, alpha=0.5),
    ]
    net = load_onnx(save(tmp_path, nodes, {"x": [1, 4]}, ["y"], {"w": ones(3, 4)}))
    assert [x.operands[1].name for x in net.layers] == ["w", "w (transposed)", "w (times 0.5)"]
    assert [x.operands[1].shape for x in net.layers] == [(3, 4), (4, 3), (3, 4)]


def test_weights_are_folded_when_loaded_not_before(tmp_path):
    values = (np.arange(60_000 * 4).reshape(4, 60_000) % 7).astype(np.float16)
    nodes = [
        helper.make_node("Cast", ["w"], ["w32"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["w32"], ["wt"]),
        helper.make_node("Constant", [], ["two"], value_float=2.0),
        helper.make_node("Mul", ["wt", "two"], ["doubled"]),
        helper.make_node("MatMul", ["x", "doubled"], ["y"]),
    ]
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT16, dims=values.shape)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="w.bin")
    (tmp_path / "w.bin").write_bytes(values.tobytes())
    net = load_onnx(save(tmp_path, nodes, {"x": ["batch", 60_000]}, ["y"], {"w": tensor}))
    assert [x.op for x in net.layers] == [Op.LINEAR]
    handle = net.layers[0].operands[1].weights
    assert handle is not None
    loaded = handle.array()
    assert loaded.dtype == np.float32
    assert np.array_equal(loaded, values.astype(np.float32) * 2)
    (tmp_path / "w.bin").write_bytes(b"short")
    with pytest.raises(InputError, match=r"tensor 'w' needs \d+ bytes at 0 of 'w\.bin', which has 5; it is torn$"):
        handle.array()


def test_branches_with_a_known_condition_are_taken(tmp_path):
    def branch(op: str) -> Any:
        return helper.make_graph([helper.make_node(op, ["x"], [f"{op}_out"])], op, [], [_info(f"{op}_out")])

    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "one"], ["channels"]),
        helper.make_node("Greater", ["channels", "two"], ["many"]),
        helper.make_node(
            "If", ["many"], ["y"], name="choice", then_branch=branch("Tanh"), else_branch=branch("Sigmoid")
        ),
    ]
    stored = {"one": np.array(1), "two": np.array(2)}
    path = save(tmp_path, nodes, {"x": ["N", 4, 5]}, ["y"], stored)
    net = load_onnx(path)
    assert [(x.name, x.attributes.kind) for x in net.layers] == [("choice.then_branch.Tanh_0", "tanh")]
    assert net.outputs == ("Tanh_out",)
    assert [x.attributes.kind for x in load_onnx(path, input_shapes={None: (1, 2, 5)}).layers] == ["sigmoid"]


def _info(name: str) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)


# Inputs


@pytest.mark.parametrize("first", ["N", "batch", None, 0, 1])
def test_axis_0_is_the_batch(tmp_path, first):
    path = save(tmp_path, [helper.make_node("Relu", ["x"], ["y"])], {"x": [first, 3, 8, 8]}, ["y"])
    kind = load_onnx(path).inputs[0].type
    assert (kind.shape, kind.batch_axis) == ((1, 3, 8, 8), 0)


def test_a_fixed_batch_is_kept_and_noted(tmp_path):
    net = load_onnx(save(tmp_path, [helper.make_node("Relu", ["x"], ["y"])], {"x": [4, 3]}, ["y"]))
    assert (net.inputs[0].shape, net.inputs[0].type.batch_axis) == ((4, 3), 0)
    assert net.notes == ("the graph is fixed to batch 4; counts are for that batch",)


def test_a_batch_named_on_another_axis_is_found(tmp_path):
    net = load_onnx(save(tmp_path, [helper.make_node("Relu", ["x"], ["y"])], {"x": [5, "batch", 3]}, ["y"]))
    assert (net.inputs[0].shape, net.inputs[0].type.batch_axis) == ((5, 1, 3), 1)


def test_given_shapes(tmp_path):
    path = save(tmp_path, [helper.make_node("Relu", ["x"], ["y"])], {"x": ["N", 3, "h", "w"]}, ["y"])
    assert refusal(path) == (
        "net.onnx: input 'x' leaves axis 2 ('h') open; give its shape, for instance --input-shape x=1,3,224,224"
    )
    for key in (None, "x"):
        assert load_onnx(path, input_shapes={key: (1, 3, 32, 48)}).layers[0].results[0].shape == (1, 3, 32, 48)
    net = load_onnx(path, input_shapes={None: (8, 4, 32, 48)})
    assert net.inputs[0].shape == (1, 4, 32, 48)
    assert net.notes == (
        "input 'x': axis 0 of the given shape [8, 4, 32, 48] is the batch; "
        "counts are per sample times the batch asked for",
        "input 'x' is declared as ['N', 3, 'h', 'w'] in the file and taken as [1, 4, 32, 48]",
    )
    assert refusal(path, input_shapes={"xx": (1, 3, 4, 4)}) == (
        "net.onnx has no input 'xx'; did you mean 'x'? (its inputs: 'x')"
    )
    assert refusal(path, input_shapes={None: (1, 3, 4)}) == ("net.onnx: input 'x' has 4 axes, got the shape [1, 3, 4]")
    assert refusal(path, input_shapes={None: (1, 3, 0, 4)}) == (
        "net.onnx: sizes of input 'x' must be between 1 and 2147483647, got [1, 3, 0, 4]"
    )
    assert refusal(path, input_shapes={None: (1, 3, 2**31 - 1, 2**31 - 1)}) == (
        "net: input 'x' has shape [1, 3, 2147483647, 2147483647], more than 2^48 elements; check the input shape"
    )


def test_several_inputs_need_names_and_share_symbols(tmp_path):
    nodes = [helper.make_node("Add", ["a", "b"], ["y"])]
    path = save(tmp_path, nodes, {"a": ["N", "t", 4], "b": ["N", "t", 4]}, ["y"])
    assert refusal(path, input_shapes={None: (1, 9, 4)}) == (
        "net.onnx has 2 inputs ('a', 'b'); name one: --input-shape NAME=1,3,224,224"
    )
    assert load_onnx(path, input_shapes={"a": (1, 9, 4)}).inputs[1].shape == (1, 9, 4)


def test_an_input_without_a_shape_needs_one(tmp_path):
    path = save(tmp_path, [helper.make_node("Relu", ["x"], ["y"])], {"x": None}, ["y"])
    assert refusal(path) == ("net.onnx: input 'x' declares no shape; give it, for instance --input-shape x=1,3,224,224")
    assert load_onnx(path, input_shapes={None: (1, 7)}).inputs[0].shape == (1, 7)


# What is not understood


def test_an_unknown_operator_is_opaque_where_its_shape_is_known(tmp_path):
    nodes = [
        helper.make_node("Fancy", ["x"], ["f"], name="fancy", domain="my.ops"),
        helper.make_node("Bernoulli", ["f"], ["v"]),
        helper.make_node("Relu", ["v"], ["y"]),
    ]
    net = load_onnx(save(tmp_path, nodes, {"x": ["N", 8]}, ["y"], known={"f": ["N", 8]}))
    assert [x.op for x in net.layers] == [Op.OPAQUE, Op.OPAQUE, Op.ACTIVATION]
    assert [(u.op, u.layer, u.where, u.reason) for u in net.unsupported] == [
        ("my.ops.Fancy", "fancy", "node 0, Fancy", "no such operator here"),
        ("Bernoulli", "Bernoulli_1", "node 1, Bernoulli", "no such operator here"),
    ]
    assert [(r.name, r.shape, r.type.batch_axis) for r in net.layers[1].results] == [("v", (1, 8), 0)]


def test_operators_with_unknown_shapes_are_refused_all_at_once(tmp_path):
    nodes = [
        helper.make_node("Fancy", ["x"], ["f"], name="fancy", domain="my.ops"),
        helper.make_node("Relu", ["f"], ["r"]),
        helper.make_node("Det", ["r"], ["e"]),
        helper.make_node("Unique", ["x"], ["v"]),
        helper.make_node("Concat", ["e", "v"], ["y"], axis=0),
    ]
    path = save(tmp_path, nodes, {"x": ["N", 8]}, ["y"])
    assert refusal(path, UnsupportedError) == (
        "net.onnx: 3 operators are not understood, and not all result shapes are known: "
        "'my.ops.Fancy' at 'fancy' (no such operator here), 'Det' at 'Det_2' (no such operator here), "
        "'Unique' at 'Unique_3' (it has as many results as there are different values); "
        "replace them, or store shapes in the file (onnx.shape_inference)"
    )


def test_a_use_that_the_workload_cannot_say_is_opaque_with_its_reason(tmp_path):
    nodes = [helper.make_node("MaxPool", ["x"], ["y", "places"], kernel_shape=[2, 2])]
    net = load_onnx(save(tmp_path, nodes, {"x": ["N", 2, 4, 4]}, ["y", "places"]))
    assert [u.reason for u in net.unsupported] == ["its result 'places' beyond the first is used"]
    assert net.layers[0].results[0].shape == (1, 2, 3, 3)


def test_old_operator_sets_are_refused(tmp_path):
    path = save(tmp_path, [helper.make_node("Relu", ["x"], ["y"])], {"x": [1, 4]}, ["y"], opset=6)
    assert refusal(path, UnsupportedError) == (
        f"{path}: opset 6 is older than 7; convert it with onnx.version_converter"
    )


# Damaged files


def test_files_that_are_no_model(tmp_path):
    path = tmp_path / "net.onnx"
    assert refusal(path) == f"{path}: no such file; give the path of an ONNX model"
    path.write_bytes(b"")
    assert refusal(path) == f"{path}: the file is empty; an ONNX model was expected"
    torn = f"{path}: this is no ONNX model or a torn one (protobuf cannot decode it); export it again"
    whole = (LIGHT / "light_squeezenet.onnx").read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert refusal(path) == torn
    path.write_bytes(b"name,M,N,K\nfc,1,2,3\n")
    assert refusal(path) == torn
    path.write_bytes(onnx.ModelProto(ir_version=8).SerializeToString())
    assert refusal(path) == (f"{path}: this is no ONNX model or a torn one (it holds no operator set); export it again")


def test_no_flipped_byte_or_cut_ends_in_a_foreign_error(tmp_path):
    whole = (LIGHT / "light_bvlc_alexnet.onnx").read_bytes()
    generator = np.random.default_rng(0)
    path = tmp_path / "net.onnx"
    for trial in range(60):
        damaged = bytearray(whole)
        for place in generator.integers(0, len(whole), 3):
            damaged[place] = generator.integers(0, 256)
        path.write_bytes(damaged[: generator.integers(1, len(whole))] if trial % 4 == 0 else damaged)
        try:
            load_onnx(path)
        except (InputError, UnsupportedError) as error:
            assert "\n" not in str(error)


def test_sizes_are_bounded(tmp_path, monkeypatch):
    path = save(tmp_path, [helper.make_node("Relu", ["x"], ["y"])] * 3, {"x": [1, 4]}, ["y"])
    monkeypatch.setattr(onnx_file, "LARGEST_NODES", 2)
    assert refusal(path) == f"{path}: a graph may have 2 nodes, got 3"
    monkeypatch.setattr(onnx_file, "LARGEST_FILE_BYTES", 10)
    assert refusal(path) == (
        f"{path}: an ONNX file holds at most 2 GiB, got {path.stat().st_size} bytes; store its weights as external data"
    )


def _external(location: str, **entries: str) -> Any:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4, 4], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def test_external_data_stay_inside_the_folder(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(64))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "short.bin").write_bytes(bytes(60))
    (folder / "good.bin").write_bytes(bytes(8) + ones(4, 4).tobytes())

    def load(tensor: Any) -> Any:
        nodes = [helper.make_node("Gemm", ["x", "w"], ["y"])]
        return load_onnx(save(folder, nodes, {"x": [1, 4]}, ["y"], {"w": tensor}))

    def sentence(tensor: Any) -> str:
        with pytest.raises(InputError) as caught:
            load(tensor)
        return str(caught.value)

    relative = "external data must be named relative to the model's folder"
    for outside in ("../secret.bin", str(tmp_path / "secret.bin"), "..\\secret.bin", "C:\\secret.bin", ""):
        assert sentence(_external(outside)) == f"net.onnx: tensor 'w' is stored in '{outside}'; {relative}"
    assert sentence(_external("link.bin")) == (
        "net.onnx: tensor 'w' is stored in 'link.bin', a link out of the model's folder, which is not followed"
    )
    assert sentence(_external("none.bin")) == (
        "net.onnx: tensor 'w' is stored in 'none.bin', which is missing; put that file beside the model"
    )
    assert sentence(_external("short.bin")) == (
        "net.onnx: tensor 'w' needs 64 bytes at 0 of 'short.bin', which has 60; it is torn"
    )
    assert sentence(_external("good.bin", offset="x")) == (
        "net.onnx: tensor 'w': offset and length of external data must be whole numbers"
    )
    handle = load(_external("good.bin", offset="8", length="64")).layers[0].operands[1].weights
    assert np.array_equal(handle.array(), ones(4, 4))


def test_stored_tensors_must_have_the_data_they_declare(tmp_path):
    nodes = [helper.make_node("Gemm", ["x", "w"], ["y"])]
    short = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4, 4], raw_data=bytes(60))
    assert refusal(save(tmp_path, nodes, {"x": [1, 4]}, ["y"], {"w": short})) == (
        "net.onnx: tensor 'w' of shape [4, 4] needs 64 bytes, the file holds 60"
    )
    negative = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4, -4], raw_data=bytes(64))
    assert refusal(save(tmp_path, nodes, {"x": [1, 4]}, ["y"], {"w": negative})) == (
        "net.onnx: tensor 'w' has the impossible shape [4, -4]; the file is damaged"
    )
    unknown = TensorProto(name="w", data_type=99, dims=[4], raw_data=bytes(64))
    assert refusal(save(tmp_path, nodes, {"x": [1, 4]}, ["y"], {"w": unknown})) == (
        "net.onnx: tensor 'w': 99 is no ONNX element type; the file is damaged"
    )


@pytest.mark.parametrize(
    ("node", "sentence"),
    [
        (("Relu", ["q"]), "net.onnx: Relu 'Relu_0' reads 'q', which nothing before it makes; the file is damaged"),
        (("Conv", ["x"]), "net.onnx: Conv 'Conv_0' lacks its input 1; the file is damaged"),
        (
            ("Conv", ["x", "w"], {"strides": [0, 1]}),
            "net.onnx: Conv 'Conv_0': strides needs 2 numbers of at least 1, got [0, 1]",
        ),
        (
            ("Conv", ["x", "w"], {"pads": [1, 1]}),
            "net.onnx: Conv 'Conv_0': pads needs 4 numbers of at least 0, got [1, 1]",
        ),
        (
            ("Conv", ["x", "w"], {"kernel_shape": [5, 5]}),
            "net.onnx: Conv 'Conv_0': kernel_shape [5, 5] does not fit its filter [4, 3, 3, 3]",
        ),
        (
            ("Conv", ["x", "w"], {"group": 3}),
            "net.onnx: Conv 'Conv_0': group 3 does not divide its filter [4, 3, 3, 3]",
        ),
        (
            ("Conv", ["x", "w"], {"group": 2}),
            "net: layer 'Conv_0' (node 0, Conv): the filter takes 6 channels but the ifmap [1, 3, 8, 8] has 3",
        ),
        (
            ("Conv", ["x", "w"], {"auto_pad": "SAME"}),
            "net.onnx: Conv 'Conv_0': auto_pad must be NOTSET, SAME_UPPER, SAME_LOWER or VALID, got 'SAME'",
        ),
        (
            ("Transpose", ["x"], {"perm": [0, 1]}),
            "net: layer 'Transpose_0' (node 0, Transpose): [0, 1] is no permutation of the axes of [1, 3, 8, 8]",
        ),
        (
            ("Reshape", ["x", "five"]),
            "net.onnx: Reshape 'Reshape_0': cannot reshape [1, 3, 8, 8] (192 elements) to [5]",
        ),
        (("Softmax", ["x"], {"axis": 4}), "net.onnx: Softmax 'Softmax_0': axis 4 does not exist in a value of 4 axes"),
        (
            ("Concat", ["x", "x"]),
            "net.onnx: Concat 'Concat_0' is malformed ('axis'); check the file with onnx.checker",
        ),
        (("Gather", ["x", "five"]), "net.onnx: Gather 'Gather_0' takes beyond the 1 elements of axis 0"),
    ],
)
def test_wrong_nodes_are_named(tmp_path, node, sentence):
    op, inputs, attributes = (*node, {})[:3]
    stored = {"w": ones(4, 3, 3, 3), "five": np.array([5])}
    path = save(tmp_path, [helper.make_node(op, inputs, ["y"], **attributes)], {"x": [1, 3, 8, 8]}, ["y"], stored)
    assert refusal(path) == sentence


def test_an_output_that_depends_on_no_input(tmp_path):
    nodes = [helper.make_node("Relu", ["w"], ["y"]), helper.make_node("Relu", ["x"], ["z"])]
    path = save(tmp_path, nodes, {"x": [1, 4]}, ["y"], {"w": ones(3)})
    assert refusal(path) == "net.onnx: no output depends on an input; there is nothing to price"
    net = load_onnx(save(tmp_path, nodes, {"x": [1, 4]}, ["y", "z"], {"w": ones(3)}))
    assert net.outputs == ("z",)
    assert net.notes == ("outputs that depend on no input are left out: y",)
