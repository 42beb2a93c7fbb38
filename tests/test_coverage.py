"""What `picojoule coverage` says about networks that are not all understood, are compressed, or do not fit a design."""

import json
from dataclasses import replace
from io import StringIO

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console

import picojoule as pj
from picojoule.cli import _run
from picojoule.coverage import coverage_document
from picojoule.coverage_tables import coverage_lines, coverage_view
from picojoule.sim.attributes import MatmulAttributes, Op
from picojoule.sim.builder import NetworkBuilder, parameter
from picojoule.sim.errors import InputError
from picojoule.sim.formats import Sparsity, Structure, integer_format
from picojoule.sim.ir import TensorType
from picojoule.sim.weights import constant_fill
from picojoule.tables import si


@pytest.fixture
def custom(tmp_path):
    """Write conv -> Frobnicate -> ReLU -> Quux -> Frobnicate of an unknown domain, shapes stored in the file."""
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="stem"),
        helper.make_node("Frobnicate", ["c"], ["f"], name="block0.frob", domain="com.acme"),
        helper.make_node("Relu", ["f"], ["r"], name="relu"),
        helper.make_node("Quux", ["r"], ["q"], name="quux", domain="com.acme"),
        helper.make_node("Frobnicate", ["q"], ["y"], name="head.frob", domain="com.acme"),
    ]
    weight = numpy_helper.from_array(np.full((4, 3, 3, 3), 0.1, np.float32), "w")

    def write(name, *, shapes=True):
        known = [value(n, TensorProto.FLOAT, [1, 4, 6, 6]) for n in "cfrq"] if shapes else []
        graph = helper.make_graph(
            nodes, "g", [value("x", TensorProto.FLOAT, [1, 3, 8, 8])],
            [value("y", TensorProto.FLOAT, [1, 4, 6, 6] if shapes else None)], [weight], value_info=known,
        )  # fmt: skip
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.acme", 1)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / name)
        return tmp_path / name

    return write


def test_custom_operators_are_listed_at_once_and_nothing_fails(custom, capsys):
    path = custom("custom.onnx")
    for words in ([], ["--hardware", "isaac"], ["--hardware", "edge-16x16"]):
        assert _run(["coverage", str(path), *words, "--format", "json"], False) == 0
        document = json.loads(capsys.readouterr().out)
        assert document["complete"] is False
        assert {(u["op"], u["layer"]) for u in document["unsupported"]} == {
            ("com.acme.Frobnicate", "block0.frob"), ("com.acme.Quux", "quux"), ("com.acme.Frobnicate", "head.frob"),
        }  # fmt: skip
        assert all(u["where"].startswith("node ") and u["bytes_share"] > 0 for u in document["unsupported"])
        assert [row["layers"] for row in document["by_op"] if row["op"] == "com.acme.Frobnicate"] == [2]
        assert document["inputs"] == [{"name": "x", "shape": [1, 3, 8, 8], "batch_axis": 0, "format": None}]
        assert [o["shape"] for o in document["outputs"]] == [[1, 4, 6, 6]]
    assert _run(["coverage", str(path)], False) == 0
    shown = capsys.readouterr().out
    for word in ("com.acme.Quux", "head.frob: node 4, Frobnicate", "INCOMPLETE", "x [1, 3, 8, 8]", "at the peak"):
        assert word in shown


def test_operators_of_unknown_size_are_listed_too_with_what_stands_before_them(custom, capsys, monkeypatch):
    monkeypatch.setattr("picojoule.sim.importers.onnx_probe.shapes", lambda *_: ({}, ""))  # as without ONNX Runtime
    path = custom("custom.onnx", shapes=False)
    assert _run(["coverage", str(path), "--format", "json"], False) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["complete"], document["macs_priced"], document["bytes_priced"]) == (False, None, None)
    assert [u["layer"] for u in document["unsupported"]] == ["block0.frob", "quux", "head.frob"]
    assert {u["bytes_share"] for u in document["unsupported"]} == {None}
    assert [(row["op"], row["macs"]) for row in document["by_op"]] == [("conv", 36 * 27 * 4)]
    assert document["outputs"] == []
    assert document["notes"] == [
        "whatever reads the result of an operator of unknown size is left out: all figures are of the layers before",
        "sizes are unknown for some operators that are not understood: shares of the whole cannot be given",
    ]
    assert _run(["coverage", str(path), "--hardware", "isaac"], False) == 0
    assert "3 operator(s) not understood; the rest is unknown" in capsys.readouterr().out
    assert _run(["evaluate", str(path), "--hardware", "isaac", "--allow-unsupported"], False) == 3
    assert "3 operators are not understood, and not all result shapes are known" in capsys.readouterr().err


def test_units_are_those_that_run_each_layer():
    builder = NetworkBuilder("products")
    x = builder.input("x", TensorType(shape=(1, 4, 8), batch_axis=0))
    (y,) = builder.add(Op.MATMUL, [x, parameter("w", constant_fill(0.5, (8, 4)))], MatmulAttributes(), name="stored")
    (y,) = builder.add(Op.MATMUL, [y, x], MatmulAttributes(), name="computed")
    network = builder.finish([y])
    on_crossbars, on_array = (coverage_document(network, name) for name in ("isaac", "edge-16x16"))
    assert [row["units"] for row in on_crossbars["by_op"]] == [{"crossbar": 1, "vector": 1}]
    assert [row["units"] for row in on_array["by_op"]] == [{"array": 2}]
    assert (on_crossbars["memory"]["weight_bytes_dense"], on_array["memory"]["weight_bytes_dense"]) == (2 * 32, 32)
    assert "crossbar 1, vector 1" in text_of(on_crossbars)


def text_of(document, width=120):
    out = StringIO()
    Console(file=out, width=width, highlight=False).print(coverage_view(document))
    return out.getvalue()


def test_hardware_that_refuses_the_network_is_a_note():
    network = pj.load("lenet5")
    first, *rest = network.layers
    x, weight, *others = first.operands
    conv = replace(first, operands=(x, replace(weight, format=integer_format(32)), *others))
    wide = network.with_layers((conv, *rest))
    document = coverage_document(wide, "edge-16x16")
    assert document["complete"] is True
    assert document["notes"][-1].startswith(
        "edge-16x16 refuses this network: layer 'conv1': weight format int32 needs 32 bits"
    )
    assert {row["op"]: list(row["units"]) for row in document["by_op"]}["conv"] == ["array"]
    with pytest.raises(InputError, match="unknown hardware preset 'edge-16x17'"):
        coverage_document(network, "edge-16x17")


def test_compression_that_is_found_is_listed():
    network = pj.load("lenet5")
    pruned = Sparsity(structure=Structure.N_OF_M, density=0.5, n=2, m=4)
    layer = max(network.layers, key=lambda lay: sum(o.type.elements() for o in lay.parameters))
    weight = replace(layer.operands[1], format=integer_format(4), sparsity=pruned)
    x = replace(layer.operands[0], format=integer_format(8, signed=False))
    smaller = replace(layer, operands=(x, weight, *layer.operands[2:]))
    network = network.with_layers(tuple(smaller if lay is layer else lay for lay in network.layers))
    document = coverage_document(network)
    count = weight.type.elements()
    assert {"format": "int4", "sparsity": "2:4", "tensors": 1, "parameters": count, "nonzeros": count // 2, "density": 0.5} in (
        document["compression"]["weights"]
    )  # fmt: skip
    assert document["compression"]["activations"] == [{"format": "uint8", "values": 1}]
    lines = dict(coverage_lines(document))
    assert f"{si(count)} in 1 tensor: int4, 2:4, density 50.0%" in lines["weights"]
    assert "of them not zero" in lines["memory"]


@pytest.mark.parametrize("width", [80, 120])
def test_the_tables_fit(width, custom):
    for hardware in (None, "edge-16x16"):
        for network in (pj.load("lenet5"), pj.load(custom("custom.onnx"))):
            document = coverage_document(network, hardware)
            shown = text_of(document, width)
            assert max(len(line.rstrip()) for line in shown.splitlines()) <= width
            assert "…" not in shown  # nothing is cut off
            assert all(si(row["bytes"], "B") in shown for row in document["by_op"])
