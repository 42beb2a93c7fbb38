"""The tables of operators say what importers really do."""

import onnx
import onnx.parser
import pytest
import torch

from picojoule.operators import importer_operators, operators_named, support_matrix
from picojoule.sim.attributes import Op
from picojoule.sim.importers.onnx_graph import load_onnx
from picojoule.sim.numerics.torch_importer import from_module

TABLES = importer_operators()


class Calls(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


F = torch.nn.functional
CALLS = {
    "prelu": lambda x: F.prelu(x, torch.tensor([0.25, 0.5, 0.75])),
    "matmul": lambda x: x @ x.transpose(-1, -2),
    "softmax": lambda x: x.softmax(-1),
    "stack": lambda x: torch.stack([x, x]),
    "unbind": lambda x: x.unbind(1),
    "select": lambda x: x.select(1, 0),
    "pixel_shuffle": lambda x: F.pixel_shuffle(x.reshape(-1, 12, 4, 4), 2),
    "adaptive_avg_pool2d": lambda x: F.adaptive_avg_pool2d(x, 1),
    "masked_fill": lambda x: x.masked_fill(x > 0, 0.0),
    "scaled_dot_product_attention": lambda x: F.scaled_dot_product_attention(x, x, x),
    "dropout": lambda x: F.dropout(x, 0.5, False) + 1,
}


@pytest.mark.parametrize("name", CALLS)
def test_what_an_operator_of_torch_becomes_is_in_its_row(name):
    network = from_module(Calls(CALLS[name]).eval(), (torch.randn(2, 3, 8, 8),), name="calls")
    made = {layer.op for layer in network.layers if name in layer.name}
    assert made <= TABLES["torch"][name]
    assert made or name == "dropout"


NODES = {
    "PRelu": "y = PRelu(x, slope)",
    "Softmax": "y = Softmax<axis = 1>(x)",
    "Reshape": "y = Reshape(x, shape)",
    "Transpose": "y = Transpose<perm = [0, 2, 1, 3]>(x)",
    "GlobalLpPool": "y = GlobalLpPool<p = 2>(x)",
    "LpNormalization": "y = LpNormalization<axis = 1>(x)",
    "Einsum": 'y = Einsum<equation = "bchw,bdhw->bcd">(x, x)',
    "Hardmax": "y = Hardmax(x)",
    "Trilu": "y = Trilu(x)",
    "ReduceLogSumExp": "y = ReduceLogSumExp(x)",
    "QuantizeLinear": "y = QuantizeLinear(x, scale, zero)",
    "com.microsoft.QuickGelu": "y = com.microsoft.QuickGelu(x)",
}


@pytest.mark.parametrize("name", NODES)
def test_what_an_operator_of_onnx_becomes_is_in_its_row(name, tmp_path):
    out = "uint8[N]" if name == "QuantizeLinear" else "float[N]"
    text = f"""<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
    agraph (float[1, 3, 4, 4] x) => ({out} y)
    <float[3, 1, 1] slope = {{0.1, 0.2, 0.3}}, int64[2] shape = {{1, 48}}, float scale = {{0.5}}, uint8 zero = {{3}}>
    {{ {NODES[name]} }}"""
    model = onnx.parser.parse_model(text)
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    model.graph.output[0].type.tensor_type.ClearField("shape")
    onnx.save(model, tmp_path / "one.onnx")
    made = {layer.op for layer in load_onnx(tmp_path / "one.onnx").layers}
    assert made
    assert made <= TABLES["ONNX"][name]


def test_rows_by_hand():
    torch_table, onnx_table = TABLES["torch"], TABLES["ONNX"]
    assert torch_table["conv2d"] == onnx_table["Conv"] == {Op.CONV}
    assert torch_table["relu"] == {Op.ACTIVATION} <= onnx_table["Relu"]
    assert torch_table["contiguous"] == frozenset()
    assert {Op.ACTIVATION, Op.ELEMENTWISE} <= onnx_table["PRelu"]
    assert TABLES["CSV"]["topology"] == {Op.CONV, Op.LINEAR}
    assert "relu_" not in torch_table  # in-place twins are not listed again


def test_names_are_followed_through_functions_modules_and_closures():
    def inner():
        return Op.CONV

    def outer():
        return [inner() for _ in range(2)], Op.PAD

    inner.__module__ = outer.__module__ = "picojoule.example"
    assert operators_named(outer) == {Op.CONV, Op.PAD}
    assert operators_named(lambda: Op.CONV) == frozenset()  # not ours


def test_products_of_activations_run_elsewhere_than_products_with_weights():
    rows = [line.split(" | ") for line in support_matrix().splitlines()]
    table = {row[0].removeprefix("| "): dict(zip(rows[0][1:], row[1:], strict=True)) for row in rows}
    kinds = [kind.removesuffix(" |") for kind in rows[0][1:]]
    assert kinds == ["fpga-deform", "reram", "systolic"]
    assert list(table["matmul (weights)"].values()) == ["engine", "crossbar", "array |"]
    assert list(table["matmul (activations)"].values()) == ["host", "vector", "array |"]
