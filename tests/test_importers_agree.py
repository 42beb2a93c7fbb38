"""The same module through both importers, and both against ONNX Runtime."""

import numpy as np
import onnxruntime
import pytest
import torch

import picojoule as pj
from picojoule.models.zoo import build, example_inputs
from picojoule.sim.attributes import MAC_OPS
from picojoule.sim.gemm import gemm_view, network_macs

QUICK = ["lenet5"]
SLOW = [
    "resnet20",
    "mlp-784-100-10",
    "dscnn-fashion",
    "vgg11-cifar",
    "mobilenet-v1",
    "mobilenet-v2",
    "shufflenet-v2",
    "resnet18",
]
SLOW += ["resnet50", "bert-base"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(n, marks=pytest.mark.full) for n in SLOW)])
def test_a_module_and_its_onnx_export_are_one_network(name, tmp_path):
    module, inputs = build(name), example_inputs(name, batch=2)
    path = tmp_path / f"{name}.onnx"
    batch = torch.export.Dim("batch")
    torch.onnx.export(
        module, inputs, path, dynamo=True, verbose=False, dynamic_shapes=tuple({0: batch} for _ in inputs)
    )
    ours, theirs = pj.trace(module, inputs), pj.load(path)
    assert network_macs(ours) == network_macs(theirs)
    views = [[gemm_view(y) for y in network.layers if y.op in MAC_OPS] for network in (ours, theirs)]
    assert views[0] == views[1]

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feeds = {i.name: x.numpy() for i, x in zip(session.get_inputs(), inputs, strict=True)}
    expected = session.run(None, feeds)[0]
    for network in (ours, theirs):
        got = pj.run(network, list(inputs))
        assert np.abs(got.numpy() - expected).max() <= 1e-4 * max(1.0, np.abs(expected).max())
