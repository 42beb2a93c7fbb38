"""Networks as ONNX files: every operator computes the same there, integers arrive as integers."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import picojoule as pj
from picojoule import cli
from picojoule.compress.plan import LayerPlan, Plan, apply_plan, read_plan
from picojoule.compressing import uniform_bits
from picojoule.models.zoo import build
from picojoule.networks import load_network
from picojoule.sim import attributes as at
from picojoule.sim.attributes import MAC_OPS, Attributes, Op
from picojoule.sim.builder import NetworkBuilder, parameter
from picojoule.sim.errors import InputError, UnsupportedError
from picojoule.sim.exporters.onnx_file import build_model
from picojoule.sim.formats import parse_format
from picojoule.sim.gemm import layer_macs
from picojoule.sim.ir import Network, TensorType
from picojoule.sim.numerics.calibration import calibrate
from picojoule.sim.numerics.executor import Executor
from picojoule.sim.protocol import Arithmetic
from picojoule.sim.weights import from_array

SMALL = ("lenet5", "mlp-784-100-10", "dscnn-fashion", "resnet20")
WIDE = ("mobilenet-v2", "shufflenet-v2", "vit-tiny", "yolov3-tiny", "pointnet", "mobilenet-v3-small", "lstm-tagger")


def inputs_of(network: Network, batch: int, kinds: Sequence[str] = ()) -> list[Tensor]:
    g = torch.Generator().manual_seed(1)
    whole = ["int" in k for k in kinds] or [False] * len(network.inputs)
    return [
        torch.randint(0, 5, r.type.at(batch), generator=g) if w else torch.randn(r.type.at(batch), generator=g)
        for r, w in zip(network.inputs, whole, strict=True)
    ]


def session(model: Path | bytes) -> Any:
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


def ran(runtime: Any, x: Sequence[Tensor]) -> list[Tensor]:
    names = [i.name for i in runtime.get_inputs()]
    return [
        torch.from_numpy(np.array(y)) for y in runtime.run(None, {n: v.numpy() for n, v in zip(names, x, strict=True)})
    ]


def difference(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return float((found.double() - expected.double()).abs().max() / expected.double().abs().max().clamp(min=1e-9))


NOT_IN_ONNX = {
    at.OpaqueAttributes: "opaque example cannot be written as ONNX: Wobble at 'layer' not understood here",
    at.CumulativeAttributes: "layer 'layer': ONNX has no running product in opset 21",
}


@pytest.mark.parametrize("kind", get_args(Attributes), ids=lambda k: k.__name__)
def test_every_operator_computes_the_same_in_onnx(
    kind: type[Any], examples_of: Callable[[type[Any]], list[Network]]
) -> None:
    done = 0
    for network in examples_of(kind):
        a = network.layers[-1].attributes
        if kind is at.OpaqueAttributes or getattr(a, "kind", None) is at.CumulativeKind.PROD:
            with pytest.raises(UnsupportedError) as caught:
                build_model(network)
            assert str(caught.value) == NOT_IN_ONNX[kind]
            done += 1
            continue
        model, _ = build_model(network)
        onnx.checker.check_model(model, full_check=True)
        runtime = session(model.SerializeToString())
        batch = 2 if any(r.type.batch_axis is not None for r in network.inputs) else 1
        x = inputs_of(network, batch, [i.type for i in runtime.get_inputs()])
        with torch.no_grad():
            expected = Executor(network).run(x)
        for ours, theirs in zip(expected, ran(runtime, x), strict=True):
            assert ours.shape == theirs.shape, a
            torch.testing.assert_close(theirs.double(), ours.double(), rtol=1e-4, atol=1e-5, equal_nan=True, msg=str(a))
        done += 1
    assert done


def check_onnx(name: str, folder: Path) -> None:
    network, path = pj.load(name), folder / "net.onnx"
    made = pj.export(network, path)
    assert made.files == (path,) and made.notes == ()
    onnx.checker.check_model(str(path), full_check=True)
    runtime = session(path)
    x = inputs_of(network, 3, [i.type for i in runtime.get_inputs()])
    expected = pj.run(network, x)
    for ours, theirs in zip(expected if isinstance(expected, tuple) else (expected,), ran(runtime, x), strict=True):
        assert difference(theirs, ours) < 1e-4
    found = pj.load(path)
    macs, again = macs_by_layer(network), macs_by_layer(found)
    if any(y.op is Op.RECURRENT for y in network.layers):  # input product and recurrence are one node, named once
        assert list(again.values()) == list(macs.values())
    else:
        assert again == macs


def macs_by_layer(network: Network) -> dict[str, int]:
    return {y.name: layer_macs(y) for y in network.layers if y.op in MAC_OPS}


@pytest.mark.parametrize("name", SMALL)
def test_a_network_computes_the_same_in_onnx_and_comes_back(name: str, tmp_path: Path) -> None:
    check_onnx(name, tmp_path)


@pytest.mark.full
@pytest.mark.parametrize("name", WIDE)
def test_a_larger_network_computes_the_same_in_onnx_and_comes_back(name: str, tmp_path: Path) -> None:
    check_onnx(name, tmp_path)


def integers(network: Network, x: Tensor) -> Tensor:
    """Return what integer hardware computes for the network's own formats and steps."""

    def arithmetic(layer: Any) -> Arithmetic:
        return Arithmetic(weight=layer.operands[1].format, activation=layer.operands[0].format)

    executor = Executor(network, arithmetic=arithmetic, calibration=calibrate(network, [(x,)], arithmetic))
    with torch.no_grad():
        return executor.run((x,))[0]


@pytest.mark.parametrize(
    ("name", "bits"),
    [("resnet20", 8), ("dscnn-fashion", 5), ("dscnn-fashion", 4)]
    + [pytest.param(n, b, marks=pytest.mark.full) for n, b in (("resnet20", 4), ("mobilenet-v2", 8))],
)
def test_integers_arrive_as_integers(name: str, bits: int, tmp_path: Path) -> None:
    from picojoule.exporting import calibrated

    network = apply_plan(pj.load(name), uniform_bits(bits))
    (x,) = inputs_of(network, 2)
    network, path = calibrated(network, [(x,)]), tmp_path / "net.onnx"
    assert pj.export(network, path).notes == ()
    expected = integers(network, x)
    assert difference(ran(session(path), [x])[0], expected) < (1e-4 if bits == 4 else 0.02)  # a rounding may tip over
    assert difference(pj.run(pj.load(name), x), expected) > 1e-3  # unlike the network before compression
    graph = onnx.load(path).graph
    stored = {t.name: t for t in graph.initializer}
    for layer in network.layers:
        if layer.op in MAC_OPS:
            tensor = stored[layer.operands[1].name]
            wanted = onnx.TensorProto.INT4 if bits == 4 else onnx.TensorProto.INT8
            assert (tensor.data_type, tuple(tensor.dims)) == (wanted, layer.operands[1].shape)
            assert len(stored[f"{tensor.name}.step"].float_data or stored[f"{tensor.name}.step"].raw_data)
    found = pj.load(path)
    assert {y.name: y.operands[1].format for y in found.layers if y.op in MAC_OPS} == {
        y.name: replace(y.operands[1].format, bits=8 if bits == 5 else bits)  # 5 bits lie in a container of 8
        for y in network.layers
        if y.op in MAC_OPS and y.operands[1].format
    }
    assert difference(pj.run(found, x), expected) < 0.02
    clips = [n for n in graph.node if n.op_type == "Clip"]
    assert bool(clips)  # 5 bits in 8, and -128 of the network's signed input, are out of range


def test_the_codes_are_those_of_the_step_that_the_plan_states(tmp_path: Path) -> None:
    entry = {
        "weight": {"format": "int4", "per": "channel", "step": [0.1, 0.2]},
        "activation": {"format": "uint8", "step": 0.5},
    }
    network = two_channels()
    network = apply_plan(network, Plan(layers={"fc": LayerPlan.model_validate(entry)}))
    pj.export(network, tmp_path / "net.onnx")
    graph = onnx.load(tmp_path / "net.onnx").graph
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    assert stored["fc.weight"].astype(int).tolist() == [[1, -2, 7], [2, -7, 0]]
    assert stored["fc.weight.step"].tolist() == [np.float32(0.1), np.float32(0.2)]
    assert [n.op_type for n in graph.node] == ["QuantizeLinear", "DequantizeLinear", "DequantizeLinear", "Gemm"]
    y = ran(session(tmp_path / "net.onnx"), [torch.tensor([[0.3, 1.2, -4.0]])])[0]
    # inputs round to 0.5, 1.0, 0; weights are 0.1, -0.2, 0.7 and 0.4, -1.4, 0
    torch.testing.assert_close(y, torch.tensor([[0.05 - 0.2, 0.2 - 1.4]]))


def two_channels() -> Network:
    builder = NetworkBuilder("two")
    x = builder.input("x", TensorType(shape=(1, 3), batch_axis=0))
    weight = from_array(np.array([[0.12, -0.24, 9.0], [0.41, -7.0, 0.05]], np.float32))
    return builder.finish(builder.add(Op.LINEAR, [x, parameter("fc.weight", weight)], at.LinearAttributes(), name="fc"))


def test_an_unknown_step_is_said_and_stays_float(tmp_path: Path) -> None:
    network = apply_plan(two_channels(), uniform_bits(8))
    assert pj.export(network, tmp_path / "net.onnx").notes == (
        "what these read should be rounded to int8, but its step is unknown; it stays float32 (calibrate with training "
        "data): fc",
    )
    assert [n.op_type for n in onnx.load(tmp_path / "net.onnx").graph.node] == ["DequantizeLinear", "Gemm"]
    assert pj.export(network, tmp_path / "net.onnx", calibration=[[torch.ones(4, 3)]]).notes == ()
    kinds = [n.op_type for n in onnx.load(tmp_path / "net.onnx").graph.node]
    assert kinds == ["QuantizeLinear", "DequantizeLinear", "DequantizeLinear", "Gemm"]


@pytest.mark.parametrize(
    ("form", "dtype", "notes"),
    [
        ("fp16", "float16", ()),
        ("bf16", "bfloat16", ()),
        ("ternary", "int4", ()),
        ("uint3", "uint4", ()),
        ("int12", "int16", ()),
        ("fp8_e4m3", "float32", ("weights are rounded to fp8_e4m3 and held as float32: fc",)),
        ("pow2_4", "float32", ("weights are rounded to pow2_4 and held as float32: fc",)),
        (
            "bfp8_b16",
            "float32",
            ("weights in bfp8_b16, which ONNX cannot say, are held as the float32 values they have: fc",),
        ),
    ],
)
def test_formats_find_a_container_or_are_named(form: str, dtype: str, notes: tuple[str, ...], tmp_path: Path) -> None:
    network = two_channels()
    layer = network.layers[0]
    weight = replace(layer.operands[1], format=parse_format(form))
    network = network.with_layers((replace(layer, operands=(layer.operands[0], weight)),))
    assert pj.export(network, tmp_path / "net.onnx").notes == notes
    stored = {t.name: t for t in onnx.load(tmp_path / "net.onnx").graph.initializer}["fc.weight"]
    assert onnx.TensorProto.DataType.Name(stored.data_type).lower().replace("float", "float32") in (
        dtype, dtype.replace("float", "float32"), dtype.replace("bfloat16", "bfloat3216")
    )  # fmt: skip
    y = ran(session(tmp_path / "net.onnx"), [torch.eye(3)])[0]
    assert difference(y.T, torch.from_numpy(np.array(layer.operands[1].weights.array()))) < 0.9  # type: ignore[union-attr]


def test_pruned_channels_are_smaller_layers(tmp_path: Path) -> None:
    network = load_network("resnet20")
    plan = Plan(layers={"layer1.0.conv1": LayerPlan(keep_channels=5), "layer3.2.conv1": LayerPlan(keep_channels=40)})
    pruned = apply_plan(network, plan)
    pj.export(pruned, tmp_path / "net.onnx")
    (x,) = inputs_of(pruned, 2)
    expected = pj.run(pruned, x)
    assert isinstance(expected, Tensor)
    assert difference(ran(session(tmp_path / "net.onnx"), [x])[0], expected) < 1e-4
    stored = {t.name: tuple(t.dims) for t in onnx.load(tmp_path / "net.onnx").graph.initializer}
    assert stored["layer1.0.conv1.weight"] == (5, 16, 3, 3) and stored["layer1.0.conv2.weight"] == (16, 5, 3, 3)


def test_a_module_trained_with_learned_steps_is_exported_with_them(tmp_path: Path) -> None:
    """The whole way: compress writes plan and weights, export reads them, the file computes as the integers do."""
    from picojoule.compress.lsq import Lsq, LsqConfig
    from picojoule.compressing import save_weights
    from picojoule.models.data import load as load_data

    data = load_data("digits")
    sample = tuple(data.train.images.shape[1:])
    module = build("dscnn-fashion", input_shape=sample, classes=10)
    made, artefact = Lsq().fit(module, data, None, LsqConfig(weight_bits=4, activation_bits=4, epochs=0))
    artefact.plan.save(tmp_path / "plan.yaml")
    save_weights(made, tmp_path / "model.safetensors")
    code = cli._run(
        ["export", "dscnn-fashion", "-o", str(tmp_path / "net.onnx"), "--compression", str(tmp_path / "plan.yaml"),
         "--weights", str(tmp_path / "model.safetensors"), "--data", "digits"], False,
    )  # fmt: skip
    assert code == 0
    x = torch.tensor(data.test.images[:20])
    # the same network, in the integers that hardware computes with
    network = pj.trace(made, x, compression=tmp_path / "plan.yaml")
    assert all(o.step for y in network.layers if y.op in MAC_OPS for o in y.operands[:2])
    assert difference(ran(session(tmp_path / "net.onnx"), [x])[0], integers(network, x)) < 1e-4
    assert read_plan(tmp_path / "plan.yaml").layers


class Tied(nn.Module):
    """A table that is also the last weight, an input that grows with the batch only inside, and two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 6)
        self.start = nn.Parameter(torch.randn(1, 1, 6))

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        x = self.table(tokens)
        x = torch.cat([self.start.expand(x.shape[0], 1, 6), x], 1)
        y = nn.functional.linear(x, self.table.weight)
        return y, tokens


def test_shared_tables_open_batches_and_inputs_as_outputs(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = pj.trace(Tied().eval(), torch.randint(0, 11, (2, 4)))
    pj.export(network, tmp_path / "net.onnx")
    onnx.checker.check_model(str(tmp_path / "net.onnx"), full_check=True)
    tokens = torch.randint(0, 11, (5, 4))
    ours, theirs = pj.run(network, tokens), ran(session(tmp_path / "net.onnx"), [tokens])
    torch.testing.assert_close(theirs[0], ours[0])
    assert torch.equal(theirs[1], tokens)
    assert sum(list(t.dims) == [11, 6] for t in onnx.load(tmp_path / "net.onnx").graph.initializer) == 1


def test_onnx_needs_values(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("conv1, 8, 8, 3, 3, 4, 8, 1,\n")
    with pytest.raises(InputError) as caught:
        pj.export(tmp_path / "one.csv", tmp_path / "net.onnx")
    assert str(caught.value) == (
        "one: 'conv1.filter' has no values, and an ONNX file needs them; give weights, or export to .json or .csv"
    )
