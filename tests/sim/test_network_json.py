"""Our own JSON: everything comes back, nothing in a stranger's file is believed."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from ml_dtypes import bfloat16

import picojoule as pj
from picojoule.sim import attributes as at
from picojoule.sim import formats as fm
from picojoule.sim.attributes import Attributes, Op
from picojoule.sim.builder import NetworkBuilder, constant, parameter
from picojoule.sim.errors import InputError
from picojoule.sim.exporters.network_json import write_network
from picojoule.sim.importers.network_json import class_of_op, load_network_json
from picojoule.sim.ir import Execution, Network, TensorType, Unsupported
from picojoule.sim.weights import Weights, constant_fill, from_array

CHEAP = ("lenet5", "mlp-784-100-10", "dscnn-fashion", "resnet20", "shufflenet-v2")


def bare(network: Network) -> Network:
    """Return the network without handles on weights, which equal only themselves."""
    layers = (replace(y, operands=tuple(replace(o, weights=None) for o in y.operands)) for y in network.layers)
    return network.with_layers(tuple(layers))


def handles(network: Network) -> list[Weights]:
    return [o.weights for y in network.layers for o in y.operands if o.weights is not None]


def there_and_back(network: Network, folder: Path) -> Network:
    path = folder / "net.json"
    write_network(network, path)
    first = {f.name: f.read_bytes() for f in folder.iterdir()}
    found = load_network_json(path)
    write_network(found, path)  # over the files that it is read from
    assert {f.name: f.read_bytes() for f in folder.iterdir()} == first
    return found


def same(a: Network, b: Network) -> None:
    assert bare(a) == bare(b)
    assert [w.note for w in handles(a)] == [w.note for w in handles(b)]
    assert [w.digest() for w in handles(a)] == [w.digest() for w in handles(b)]


def test_operators_and_attributes_are_named_alike() -> None:
    assert {class_of_op(op) for op in Op} == set(get_args(Attributes))


@pytest.mark.parametrize("kind", get_args(Attributes), ids=lambda k: k.__name__)
def test_every_kind_of_layer_comes_back(
    kind: type[Any], examples_of: Callable[[type[Any]], list[Network]], tmp_path: Path
) -> None:
    for network in examples_of(kind):
        assert any(isinstance(y.attributes, kind) for y in network.layers)
        same(network, there_and_back(network, tmp_path))


@pytest.mark.parametrize("name", CHEAP)
def test_a_zoo_network_is_priced_and_run_as_before(name: str, tmp_path: Path) -> None:
    network = pj.load(name)
    path = tmp_path / "net.json"
    assert [f.name for f in pj.export(network, path).files] == ["net.json", "net.safetensors"]
    found = pj.load(path)
    same(network, found)
    for hardware in ("edge-16x16", "isaac"):
        expected, got = (pj.evaluate(n, hardware, chips=None).to_dict() for n in (network, found))
        assert got == expected
    x = torch.randn(network.inputs[0].type.at(2), generator=torch.Generator().manual_seed(0))
    assert torch.equal(pj.run(found, x), pj.run(network, x))


def all_fields() -> Network:
    """Return a network that uses every field of the workload."""
    builder = NetworkBuilder("every field, “quoted” \u00e9")
    x = builder.input("x", TensorType(shape=(1, 4), batch_axis=0))
    w = replace(
        parameter("w", from_array(np.arange(8, dtype=np.float32).reshape(2, 4))),
        format=fm.parse_format("int4", per="channel"),
        step=(0.1, 1 / 3),
        sparsity=fm.parse_sparsity("2:4"),
    )
    y = builder.add(
        Op.LINEAR, [replace(x, format=fm.parse_format("uint8"), step=(0.5,)), w], at.LinearAttributes(),
        name="fc", source="model.py:3", formats=[fm.parse_format("fp8_e4m3")],
    )[0]  # fmt: skip
    w2 = replace(parameter("w2", from_array(np.ones((3, 2), np.float32))), format=fm.parse_format("bfp8_b16"))
    w2 = replace(w2, sparsity=fm.parse_sparsity("block2x1", 0.5))
    z = builder.add(Op.LINEAR, [y, w2], at.LinearAttributes(), name="fc2")[0]
    out = builder.opaque("Strange", [z], [z.type], name="strange", reason="never seen")
    network = builder.finish([*out, y], weights="trained")
    made = replace(network.layers[1], execution=Execution(share=0.25, source="early exit"))
    layers = (network.layers[0], made, *network.layers[2:])
    return replace(network.with_layers(layers), notes=("a note",), original_parameters=99)


def test_every_field_comes_back(tmp_path: Path) -> None:
    network = all_fields()
    same(network, there_and_back(network, tmp_path))
    assert network.unsupported == (Unsupported(op="Strange", layer="strange", where="strange", reason="never seen"),)


@pytest.mark.parametrize(
    "values",
    [
        np.array([1.5, -2.0], bfloat16), np.array([1, 2], np.float16), np.array([1.0, np.pi]), np.array([-1, 2**62]),
        np.array([True, False]), np.array([[1, 2], [3, 4]], np.uint8).T, np.array(3.25, np.float32), np.array(2**60),
        np.array([np.inf, -np.inf], np.float32), np.array(-np.inf, np.float32), np.zeros((0, 3), np.int16),
        constant_fill(1 / 3, (2, 3)).array(), constant_fill(-np.inf, (4,)).array(), constant_fill(7, (5,), "int64").array(),
        constant_fill(0.1, (3,), "bfloat16").array(), constant_fill(1, (3,), "bool").array(),
    ],
    ids=lambda v: f"{v.dtype}{list(v.shape)}",
)  # fmt: skip
def test_element_types_and_layouts_survive(values: Any, tmp_path: Path) -> None:
    builder = NetworkBuilder("constants")
    x = builder.input("x", TensorType(shape=(1, 3), batch_axis=0))
    y = builder.opaque("Strange", [x, constant("c", values)], [x.type], name="strange")
    network = builder.finish(y)
    found = handles(there_and_back(network, tmp_path))[0].array()
    assert found.dtype == values.dtype and found.shape == values.shape
    assert found.tobytes() == np.ascontiguousarray(values).tobytes()


def test_a_fill_stays_a_fill_and_takes_no_bytes(tmp_path: Path) -> None:
    builder = NetworkBuilder("fill")
    x = builder.input("x", TensorType(shape=(1, 4096), batch_axis=0))
    network = builder.finish(
        builder.add(Op.LINEAR, [x, parameter("w", constant_fill(0.5, (4096, 4096)))], at.LinearAttributes(), name="fc")
    )
    assert len(write_network(network, tmp_path / "net.json").files) == 1
    found = handles(load_network_json(tmp_path / "net.json"))[0]
    assert found.note == "constant fill" and found.array().strides == (0, 0) and float(found.array()[1, 2]) == 0.5


def shared(second: Any) -> Network:
    builder = NetworkBuilder("shared")
    x = builder.input("x", TensorType(shape=(1, 2), batch_axis=0))
    first = parameter("w", from_array(np.ones((2, 2), np.float32)))
    y = builder.add(Op.LINEAR, [x, first], at.LinearAttributes(), name="a")[0]
    other = first if second is None else parameter("w", from_array(second))
    return builder.finish(builder.add(Op.LINEAR, [y, other], at.LinearAttributes(), name="b"))


def test_a_shared_tensor_is_stored_once(tmp_path: Path) -> None:
    found = there_and_back(shared(None), tmp_path)
    assert handles(found)[0] is handles(found)[1] and found.parameters == 4
    assert len(json.loads((tmp_path / "net.json").read_text())["tensors"]) == 1


def test_one_name_with_other_values_stays_two_tensors(tmp_path: Path) -> None:
    network = shared(np.full((2, 2), 2.5, np.float32))
    same(network, there_and_back(network, tmp_path))
    assert sorted(json.loads((tmp_path / "net.json").read_text())["tensors"]) == ["w", "w#2"]


def test_structure_only_keeps_everything_but_values(tmp_path: Path) -> None:
    network = all_fields()
    made = write_network(network, tmp_path / "net.json", weights=False)
    assert made.files == (tmp_path / "net.json",)
    assert made.notes == ("structure only: no weight values were written",)
    assert bare(load_network_json(tmp_path / "net.json")) == replace(bare(network), weights="none")
    assert not handles(load_network_json(tmp_path / "net.json"))


def test_somebody_elses_safetensors_file_is_not_overwritten(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"mine": np.ones(2)}, tmp_path / "net.safetensors")
    with pytest.raises(InputError, match="exists and was not written by an export, so it is not overwritten") as caught:
        pj.export("lenet5", tmp_path / "net.json")
    assert str(caught.value) == (
        f"{tmp_path / 'net.safetensors'}: exists and was not written by an export, so it is not overwritten; give the network "
        "another file name"
    )
    assert not (tmp_path / "net.json").exists()


def test_reading_and_pricing_need_no_torch(tmp_path: Path) -> None:
    import subprocess
    import sys

    pj.export("lenet5", tmp_path / "net.json")
    code = (
        "import sys, picojoule as pj; n = pj.load('net.json'); r = pj.evaluate(n, 'edge-16x16'); "
        "pj.export(n, 'b.json'); pj.export(n, 'b.csv'); pj.export(n, 'b.onnx'); "
        "print(r.totals['macs'], 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "416520 False\n"


# --- a stranger's file ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("original") / "net.json"
    pj.export("lenet5", path)
    return path


def refusal(document: Any, original: Path, folder: Path) -> str:
    """Return what is said about a changed document beside the original's values, without the path."""
    path = folder / "net.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    (folder / "net.safetensors").write_bytes(original.with_suffix(".safetensors").read_bytes())
    with pytest.raises(InputError) as caught:
        pj.load(path)
    return str(caught.value).replace(str(path), "net.json").replace(str(folder), "FOLDER")


def put(document: Any, dotted: str, value: Any) -> None:
    """Set `layers.0.attributes.stride` and the like; a value of ... deletes."""
    *parts, last = [int(p) if p.isdigit() else p for p in dotted.split("/")]
    for part in parts:
        document = document[part]
    if value is ...:
        del document[last]
    else:
        document[last] = value


L0 = "layers/0/"
SAYS = [
    ("schema", 2, "schema must be 1, got 2; a newer picojoule may have written this file"),
    ("kind", "other", 'is no network: it has kind the text \'other\' where "kind": "picojoule network" is expected'),
    ("kind", ..., 'is no network: it has no \'kind\' where "kind": "picojoule network" is expected'),
    ("layer", [], "unknown key 'layer'; did you mean 'layers'?"),
    ("name", ..., "the key 'name' is missing"),
    ("layers", {}, "layers must be a list of at most 100000 layers, got an object of 0"),
    ("outputs", ["nowhere"], "lenet5: output 'nowhere' is made by no layer"),
    ("original_parameters", -1, "original_parameters must not be negative, got -1"),
    ("weights_file", "../net.safetensors", "weights_file: must be the plain name of a .safetensors file in the same "
     "folder, got '../net.safetensors'"),
    ("weights_file", "/etc/x.safetensors", "weights_file: must be the plain name of a .safetensors file in the same "
     "folder, got '/etc/x.safetensors'"),
    ("weights_file", "..\\x.safetensors", "weights_file: must be the plain name of a .safetensors file in the same "
     "folder, got '..\\x.safetensors'"),
    ("weights_file", "b.safetensors", "weights_file: 'b.safetensors' is missing; put it beside 'net.json'"),
    ("weights_file", None, "weights_file: is missing, but tensors have values; name the .safetensors file beside "
     "this one"),
    ("tensors/fc1.bias/sha256", "0" * 64, "tensors.fc1.bias: its values in 'net.safetensors' are not those that were "
     "exported (their hash differs); the two files do not belong together"),
    ("tensors/fc1.bias/sha256", "xyz", "tensors.fc1.bias.sha256: must be 64 hexadecimal digits, got the text 'xyz'"),
    ("tensors/fc1.bias/shape", [60, 2], "tensors.fc1.bias: is float32 [60, 2] here, but F32 [120] in "
     "'net.safetensors'; the two files do not belong together"),
    ("tensors/fc1.bias/shape", [-1], "tensors.fc1.bias.shape: must be at most 32 sizes of at least 0, got [-1]"),
    ("tensors/fc1.bias/dtype", "object", "tensors.fc1.bias.dtype: unknown element type 'object' (choose from 'bfloat16', "
     "'bool', 'float16', 'float32', 'float64', 'int16', 'int32', 'int64', 'int8', 'uint16', 'uint32', 'uint64', 'uint8')"),
    ("tensors/fc1.bias", {"dtype": "float32", "shape": [2**40], "fill": 1.0}, "tensors.fc1.bias: a tensor of one value "
     "may have 2147483648 elements, got [1099511627776]"),
    ("tensors/fc1.bias", {"dtype": "int8", "shape": [120], "fill": 300}, "tensors.fc1.bias.fill: 300 does not fit int8"),
    ("tensors/fc1.bias", {"dtype": "int8", "shape": [120], "fill": 0.5}, "tensors.fc1.bias.fill: must be a value of "
     "int8, got 0.5"),
    ("tensors/more", {"dtype": "int8", "shape": [1], "sha256": "0" * 64}, "tensors.more: 'net.safetensors' holds no "
     "tensor of that name; export the network again"),
    ("inputs/0/type/shape", [1, 1, 0, 28], "lenet5: input 'x' has shape [1, 1, 0, 28]; every size must be at least 1"),
    (L0 + "op", "convo", "layers[0].op: unknown word 'convo'; did you mean 'conv'?..."),
    (L0 + "op", ..., "layers[0]: must be an object with an 'op', got an object of 5"),
    (L0 + "name", "", "layers[0] (''): a layer needs a name"),
    (L0 + "strides", 1, "layers[0]: unknown key 'strides'; did you mean 'attributes'?"),
    (L0 + "attributes/strid", [1, 1], "layers[0].attributes: unknown key 'strid'; did you mean 'stride'?"),
    (L0 + "attributes/stride", ..., "layers[0].attributes: the key 'stride' is missing"),
    (L0 + "attributes/stride", [0, 1], "layers[0] ('conv1').attributes.stride: must be at least 1, got [0, 1]"),
    (L0 + "attributes/stride", [1], "layers[0] ('conv1').attributes.stride: needs 2 entries, one per spatial axis, got [1]"),
    (L0 + "attributes/stride", [1, True], "layers[0].attributes.stride[1]: must be a whole number, got true"),
    (L0 + "attributes/stride", [1, 2**70], "layers[0].attributes.stride[1]: must fit 64 bits, got a number of 71 bits"),
    (L0 + "attributes/stride", 1, "layers[0].attributes.stride: must be a list, got 1"),
    (L0 + "attributes/groups", 5, "layers[0] ('conv1').attributes.groups: 5 groups do not fit a filter of shape [6, 1, 5, 5]"),
    (L0 + "attributes/padding_end", [-1, 0], "layers[0] ('conv1').attributes.padding_end: must not be negative, got "
     "[-1, 0]"),
    (L0 + "results/0/type/shape", [1, 6, 28, 29], "layers[0] ('conv1'): its results are said to be [[1, 6, 28, 29]], by "
     "its operands they are [[1, 6, 28, 28]]"),
    (L0 + "results/0/type/batch_axis", 4, "layers[0] ('conv1').results[0].type.batch_axis: a value of 4 axes has no axis 4"),
    (L0 + "results/0/type/shape", [2**40, 2**40], "layers[0] ('conv1').results[0].type.shape: must be at most 32 sizes of "
     "at least 0 with 2^48 elements at most, got [1099511627776, 1099511627776]"),
    (L0 + "results", [], "layers[0] ('conv1').results: a layer makes at least one value, got none"),
    (L0 + "operands/0/name", "conv2", "lenet5: layer 'conv1' reads 'conv2' before any layer makes it; order layers by "
     "dependence"),
    (L0 + "operands/1/weights", "conv2", "layers[0].operands[1].weights: unknown tensor 'conv2'..."),
    (L0 + "operands/1/weights", "fc1.bias", "layers[0] ('conv1').operands[1].weights: the tensor has shape [120], the "
     "operand [6, 1, 5, 5]"),
    (L0 + "operands/0/weights", "fc1.bias", "layers[0] ('conv1').operands[0].weights: the tensor has shape [120], the "
     "operand [1, 1, 28, 28]"),
    (L0 + "operands/1/step", [0.0], "layers[0] ('conv1').operands[1].step: must be finite numbers above 0, got [0.0]"),
    (L0 + "operands/1/step", ["Infinity"], "layers[0] ('conv1').operands[1].step: must be finite numbers above 0, got [inf]"),
    (L0 + "operands/1/format", {"kind": "integer", "bits": 0, "signed": True, "per": "tensor"}, "layers[0] "
     "('conv1').operands[1].format.bits: must be between 1 and 64 (2 with a sign), got 0"),
    (L0 + "operands/1/sparsity", {"structure": "row", "density": 1.5}, "layers[0] ('conv1').operands[1].sparsity.density: is "
     "the share of non-zeros, between 0 and 1, got 1.5"),
    (L0 + "execution", {"share": 7}, "layers[0] ('conv1').execution.share: must lie between 0 and 1, got 7.0"),
    (L0 + "operands", [], "layers[0] ('conv1').operands: 'conv' needs 2 to 3, got 0"),
    ("layers/2/attributes/kernel", [], "layers[2] ('pool1').attributes: a pool has a kernel or an output_size, of as many "
     "axes as its operand or fewer"),
    ("layers/1/attributes/alpha", "much", "layers[1].attributes.alpha: must be a number, got the text 'much'"),
    ("layers/1/name", "conv1", "lenet5: layer 'conv1' appears twice; layer names must be unique"),
    ("layers/1/results/0/name", "x", "lenet5: layer 'relu1' makes 'x' a second time; value names must be unique"),
]  # fmt: skip


@pytest.mark.parametrize(("where", "value", "sentence"), SAYS, ids=[f"{w}={str(v)[:24]}" for w, v, _ in SAYS])
def test_a_doctored_file_is_refused(where: str, value: Any, sentence: str, original: Path, tmp_path: Path) -> None:
    document = json.loads(original.read_text())
    put(document, where, value)
    said = refusal(document, original, tmp_path).removeprefix("net.json: ")
    assert said == sentence or (sentence.endswith("...") and said.startswith(sentence[:-3])), said


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "net.json: is empty, expected a network as JSON, made by `picojoule export -o net.json`"),
        ("{", "net.json:1:2: not JSON (Expecting property name enclosed in double quotes)"),
        ("[]", 'net.json: is no network: it has no \'kind\' where "kind": "picojoule network" is expected'),
        ('{"a": NaN}', 'net.json: not JSON of a network (NaN is no JSON number; write it as the text "NaN")'),
        ('{"a": 1, "a": 2}', "net.json: not JSON of a network (the key 'a' appears twice in one object)"),
        ("[" * 100_000, "net.json: is nested too deeply for a network"),
        (
            '{"kind": "picojoule network", "schema": ' + "9" * 5000 + "}",
            "net.json: not JSON of a network (Exceeds the limit",
        ),
    ],
)
def test_what_is_no_network_is_refused(text: str, sentence: str, original: Path, tmp_path: Path) -> None:
    said = refusal(text, original, tmp_path)
    assert said.startswith(sentence), said


def test_a_large_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "net.json"
    with path.open("wb") as file:
        file.truncate(40 * 1024**2)
    with pytest.raises(InputError, match=re.escape("is larger than the 33554432 bytes allowed for a network as JSON")):
        pj.load(path)


def test_a_link_out_of_the_folder_is_not_followed(original: Path, tmp_path: Path) -> None:
    (tmp_path / "net.json").write_bytes(original.read_bytes())
    (tmp_path / "net.safetensors").symlink_to(original.with_suffix(".safetensors"))
    with pytest.raises(InputError, match=r"is a link out of the folder of 'net\.json', which is not followed"):
        pj.load(tmp_path / "net.json")


def test_a_torn_weights_file_is_refused(original: Path, tmp_path: Path) -> None:
    (tmp_path / "net.json").write_bytes(original.read_bytes())
    (tmp_path / "net.safetensors").write_bytes(original.with_suffix(".safetensors").read_bytes()[:-5])
    with pytest.raises(
        InputError, match=r"net.safetensors: torn, or no safetensors file \(.*\); export the network again"
    ):
        pj.load(tmp_path / "net.json")


def test_changed_values_are_refused_when_read(original: Path, tmp_path: Path) -> None:
    (tmp_path / "net.json").write_bytes(original.read_bytes())
    data = bytearray(original.with_suffix(".safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "net.safetensors").write_bytes(data)
    network = load_network_json(tmp_path / "net.json")  # values are not touched yet
    with pytest.raises(InputError, match="their hash differs"):
        for handle in handles(network):
            handle.array()
