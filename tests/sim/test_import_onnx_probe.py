"""Shapes that nobody can infer are learnt by one run of the file, in a process of its own, and only then."""

import subprocess
import sys

import numpy as np
import pytest
from onnx import TensorProto, helper

from picojoule.sim.attributes import Op
from picojoule.sim.errors import UnsupportedError
from picojoule.sim.gemm import network_macs
from picojoule.sim.importers import onnx_probe
from picojoule.sim.importers.onnx_graph import load_onnx


def ones(*shape):
    return np.ones(shape, np.float32)


def with_nonzero(runtime):
    """A product over as many rows as there are non-zeros."""
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("NonZero", ["r"], ["places"], name="places"),
        helper.make_node("Transpose", ["places"], ["rows"]),
        helper.make_node("Cast", ["rows"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["real", "w"], ["y"]),
    ]
    return runtime.save(nodes, {"x": ("N", 6)}, {"w": ones(2, 5)})


def test_a_shape_that_depends_on_the_data_is_probed_and_noted(runtime):
    net = load_onnx(with_nonzero(runtime))
    assert [(u.op, u.reason) for u in net.unsupported] == [("NonZero", "it has as many results as there are non-zeros")]
    assert net.notes == (
        "places: the shape of its result depends on the data; it was probed with inputs of zeros and ones",
    )
    assert net.layers[1].op is Op.OPAQUE
    assert net.layers[1].results[0].shape == (2, 6)
    assert net.layers[1].results[0].type.batch_axis == 1
    assert network_macs(net) == 6 * 2 * 5
    assert network_macs(net, 3) == 3 * 6 * 2 * 5


def test_an_operator_of_the_runtime_is_opaque_with_its_shape(runtime):
    nodes = [
        helper.make_node("Inverse", ["x"], ["i"], domain="com.microsoft", name="inverse"),
        helper.make_node("MatMul", ["i", "w"], ["y"]),
    ]
    # Ones have no inverse, but the runtime returns infinities and their shape.
    net = load_onnx(runtime.save(nodes, {"x": ("N", 4, 4)}, {"w": ones(4, 3)}))
    assert [(u.op, u.reason) for u in net.unsupported] == [("com.microsoft.Inverse", "no such operator here")]
    assert net.notes == ("inverse: the shape of its result was learnt by running the file in ONNX Runtime",)
    assert network_macs(net, 2) == 2 * 4 * 4 * 3


def test_without_the_runtime_the_refusal_names_the_extra(runtime, monkeypatch):
    path = with_nonzero(runtime)
    monkeypatch.setattr(onnx_probe, "find_spec", lambda name: None)
    with pytest.raises(UnsupportedError) as caught:
        load_onnx(path)
    assert str(caught.value) == (
        "net.onnx: 1 operator is not understood, and not all result shapes are known: 'NonZero' at 'places' (it has as "
        "many results as there are non-zeros); install onnxruntime (pip install 'picojoule[onnx]') so that the file can be "
        "run once to learn its shapes"
    )


def test_a_file_that_cannot_run_is_refused_as_before(runtime):
    nodes = [
        helper.make_node("NonZero", ["x"], ["p"]),
        helper.make_node("Reshape", ["x", "sizes"], ["q"]),
        helper.make_node("Fancy", ["q"], ["y"], domain="my.ops"),
    ]
    path = runtime.save(nodes, {"x": ("N", 6)}, {"sizes": np.array([-1])}, outputs=["p", "y"])
    with pytest.raises(UnsupportedError) as caught:
        load_onnx(path)
    assert str(caught.value) == (
        "net.onnx: 2 operators are not understood, and not all result shapes are known: 'NonZero' at 'NonZero_0' (it has as "
        "many results as there are non-zeros), 'my.ops.Fancy' at 'Fancy_2' (no such operator here); replace them, or store "
        "shapes in the file (onnx.shape_inference)"
    )


def test_a_run_has_bounds(runtime, monkeypatch):
    path = with_nonzero(runtime)
    monkeypatch.setattr(onnx_probe, "LONGEST_S", 0.001)
    with pytest.raises(UnsupportedError):
        load_onnx(path)
    monkeypatch.undo()
    monkeypatch.setattr(onnx_probe, "LARGEST_INPUT_ELEMENTS", 11)
    monkeypatch.setattr(onnx_probe, "_run", None)  # it must not even be started
    with pytest.raises(UnsupportedError):
        load_onnx(path)


def test_the_runtime_is_not_touched_where_shapes_are_known(runtime):
    nodes = [helper.make_node("Det", ["x"], ["d"]), helper.make_node("Neg", ["d"], ["y"])]
    path = runtime.save(nodes, {"x": ("N", 4, 4)})
    code = (
        "import sys; from pathlib import Path; from picojoule.sim.importers.onnx_graph import load_onnx; "
        f"assert load_onnx(Path({str(path)!r})).unsupported; assert 'onnxruntime' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_stale_shapes_of_a_file_are_not_believed(runtime):
    """The file states shapes for 224 x 224; another size is asked for."""
    nodes = [
        helper.make_node("Fancy", ["x"], ["f"], domain="my.ops"),
        helper.make_node("Relu", ["f"], ["y"]),
    ]
    path = runtime.save(nodes, {"x": (1, 3, 224, 224)}, known={"f": [1, 8, 224, 224]})
    assert load_onnx(path).layers[0].results[0].shape == (1, 8, 224, 224)
    with pytest.raises(UnsupportedError):
        load_onnx(path, input_shapes={None: (1, 3, 160, 160)})
