"""DeformConv of ONNX files, read and executed, against ONNX Runtime and ONNX's own reference, opsets 19 and 22."""

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from picojoule.sim.attributes import Op
from picojoule.sim.exporters.onnx_file import write_onnx
from picojoule.sim.importers.onnx_graph import load_onnx
from picojoule.sim.numerics.executor import Executor

FAR = (1e9, -1e9, np.inf, -1.0)
"""Offsets far outside; one that puts a sample exactly beside the map."""


@st.composite
def nodes(draw):
    """Return one DeformConv: its operands by name, and its attributes."""
    groups, offset_groups = draw(st.sampled_from([(1, 1), (1, 2), (2, 1), (2, 2), (4, 1), (4, 4)]))
    kernel, strides, dilations = ([draw(st.integers(1, high)), draw(st.integers(1, high))] for high in (3, 3, 2))
    pads = [draw(st.integers(0, 2)) for _ in range(4)]
    space = [draw(st.integers(5, 7)), draw(st.integers(5, 6))]
    size = [
        (n + pads[i] + pads[2 + i] - dilations[i] * (kernel[i] - 1) - 1) // strides[i] + 1 for i, n in enumerate(space)
    ]
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    taps, out = kernel[0] * kernel[1] * offset_groups, groups * draw(st.integers(1, 3))
    offset = rng.normal(scale=draw(st.sampled_from([0.3, 4.0, 40.0])), size=(2, 2 * taps, *size))
    offset[rng.random(offset.shape) < 0.05] = draw(st.sampled_from(FAR))
    values = {
        "x": rng.normal(size=(2, 4, *space)), "w": rng.normal(size=(out, 4 // groups, *kernel)), "offset": offset,
        "b": rng.normal(size=out), "mask": rng.random((2, taps, *size)),
    }  # fmt: skip
    dropped = draw(st.sampled_from([(), ("b",), ("mask",), ("b", "mask")]))
    kept = {name: v.astype(np.float32) for name, v in values.items() if name not in dropped}
    return kept, {
        "group": groups,
        "offset_group": offset_groups,
        "strides": strides,
        "dilations": dilations,
        "pads": pads,
    }


def proto_of(values, attributes, opset):
    names = [name if name in values else "" for name in ("x", "w", "offset", "b", "mask")]
    node = helper.make_node("DeformConv", names, ["y"], kernel_shape=values["w"].shape[2:], **attributes)
    stored = [numpy_helper.from_array(values[n], n) for n in ("w", "b") if n in values]
    inputs = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", *v.shape[1:]])
        for n, v in values.items()
        if n not in ("w", "b")
    ]
    graph = helper.make_graph(
        [node], "g", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], stored
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def run(network, fed):
    with torch.no_grad():
        return Executor(network).run([torch.from_numpy(fed[r.name]) for r in network.inputs])[0].numpy()


SLOW = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@settings(max_examples=16, deadline=None, suppress_health_check=SLOW)
@given(node=nodes(), opset=st.sampled_from([19, 22]))
def test_an_imported_file_computes_what_onnx_runtime_and_the_reference_do(node, opset, tmp_path):
    check(node, opset, tmp_path)


@pytest.mark.full
@pytest.mark.parametrize("opset", [19, 22])
@settings(max_examples=150, deadline=None, suppress_health_check=SLOW)
@given(node=nodes())
def test_many_imported_files_compute_what_onnx_runtime_and_the_reference_do(opset, node, tmp_path):
    check(node, opset, tmp_path)


def check(node, opset, tmp_path):
    values, attributes = node
    proto = proto_of(values, attributes, opset)
    fed = {n: v for n, v in values.items() if n not in ("w", "b")}
    path = tmp_path / "deform.onnx"
    path.write_bytes(proto.SerializeToString())
    network = load_onnx(path)
    assert [layer.op for layer in network.layers] == [Op.DEFORM_CONV]
    ours = run(network, fed)
    runtime = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(ours, runtime.run(None, fed)[0], rtol=1e-4, atol=2e-5)
    if np.isfinite(values["offset"]).all():  # the reference cannot turn an infinite position into a number
        np.testing.assert_allclose(ours, ReferenceEvaluator(proto).run(None, fed)[0], rtol=1e-4, atol=2e-5)


def test_what_we_write_is_what_onnx_runtime_computes(tmp_path):
    rng = np.random.default_rng(0)
    values = {
        "x": rng.normal(size=(2, 4, 6, 6)), "w": rng.normal(size=(4, 1, 3, 3)), "offset": rng.normal(size=(2, 36, 6, 6)),
        "b": rng.normal(size=4), "mask": rng.random((2, 18, 6, 6)),
    }  # fmt: skip
    values = {n: v.astype(np.float32) for n, v in values.items()}
    attributes = {"group": 4, "offset_group": 2, "strides": [1, 1], "dilations": [1, 1], "pads": [1, 1, 1, 1]}
    first, second = tmp_path / "first.onnx", tmp_path / "second.onnx"
    first.write_bytes(proto_of(values, attributes, 19).SerializeToString())
    write_onnx(load_onnx(first), second)
    fed = {n: values[n] for n in ("x", "offset", "mask")}
    runtime = onnxruntime.InferenceSession(second.read_bytes(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(run(load_onnx(first), fed), runtime.run(None, fed)[0], rtol=1e-4, atol=2e-5)
