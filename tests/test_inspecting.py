import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file

import picojoule as pj
from picojoule.cli import _run
from picojoule.inspecting import TensorRow


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape, dtype=np.float32))


def quantized(values: torch.Tensor, bits: int) -> torch.Tensor:
    step = values.abs().amax(list(range(1, values.dim())), keepdim=True) / (2 ** (bits - 1) - 1)
    return torch.round(values / step) * step


def two_of_four(values: torch.Tensor) -> torch.Tensor:
    kept = values.abs().reshape(values.shape[0], -1, 4).argsort(2).argsort(2) >= 2
    return values * kept.reshape(values.shape)


def rows(source: Any) -> dict[str, TensorRow]:
    return {r.name: r for r in pj.inspect(source).rows}


def as_onnx(path: Path, weight: torch.Tensor) -> None:
    """A linear layer as MatMul (weight [in, out]) and as Gemm with transB, the second stored in a Constant node."""
    matrix = numpy_helper.from_array(weight.T.contiguous().numpy(), "a.weight")
    constant = helper.make_node("Constant", [], ["b.weight"], value=numpy_helper.from_array(weight.numpy()))
    nodes = [
        constant,
        helper.make_node("MatMul", ["x", "a.weight"], ["y"]),
        helper.make_node("Gemm", ["x", "b.weight"], ["z"], transB=1),
    ]
    value = helper.make_tensor_value_info
    outputs = [value(n, TensorProto.FLOAT, [1, weight.shape[0]]) for n in ("y", "z")]
    graph = helper.make_graph(nodes, "g", [value("x", TensorProto.FLOAT, [1, weight.shape[1]])], outputs, [matrix])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def test_every_source_tells_the_same(tmp_path: Path) -> None:
    weight = two_of_four(quantized(normal(48, 64), 4))
    module = torch.nn.Sequential(torch.nn.Linear(64, 48))
    module[0].weight.data = weight
    save_file({"0.weight": weight}, tmp_path / "w.safetensors")
    torch.save({"model": module.state_dict(), "epoch": 1}, tmp_path / "w.pt")
    torch.export.save(torch.export.export(module, (torch.randn(2, 64),)), tmp_path / "w.pt2")
    as_onnx(tmp_path / "w.onnx", weight)
    found = [rows(tmp_path / f"w.{end}")["0.weight"] for end in ("safetensors", "pt", "pt2")]
    found += [rows(module)["0.weight"], rows(pj.trace(module, torch.randn(2, 64)))["0.weight"]]
    found += [rows(tmp_path / "w.onnx")[f"{n}.weight"] for n in "ab"]
    for row in found:
        assert (row.format, row.structure, row.distinct, row.dtype) == ("int4 per channel", "2:4", 15, "float32")
        assert row.density == pytest.approx(float((weight != 0).float().mean()))
        nonzeros = int((weight != 0).sum())
        assert row.compact_bytes == -(-(4 * nonzeros + 64 * 48) // 8) + 4 * 48
        assert (row.elements, row.stored_bytes) == (64 * 48, 4 * 64 * 48)


def test_the_total_counts_all() -> None:
    found = pj.inspect(torch.nn.Linear(10, 5))
    assert found.total == {"tensors": 2, "elements": 55, "density": 1.0, "stored_bytes": 220, "compact_bytes": 220}


QUANTISED = {
    "gptq.qweight": torch.zeros(64, 96, dtype=torch.int32),  # 512 inputs of 4 bits, 96 outputs
    "gptq.qzeros": torch.zeros(4, 12, dtype=torch.int32),
    "gptq.scales": torch.rand(4, 96).half(),
    "gptq3.qweight": torch.zeros(48, 96, dtype=torch.int32),
    "gptq3.qzeros": torch.zeros(4, 9, dtype=torch.int32),
    "gptq3.scales": torch.rand(4, 96).half(),
    "awq.qweight": torch.zeros(512, 12, dtype=torch.int32),
    "awq.qzeros": torch.zeros(4, 12, dtype=torch.int32),
    "awq.scales": torch.rand(4, 96).half(),
    "bnb.weight": torch.zeros(2048, 1, dtype=torch.uint8),
    "bnb.weight.quant_state.bitsandbytes__nf4": torch.zeros(90, dtype=torch.uint8),
    "odd.weight": torch.zeros(64, 8, dtype=torch.int32),
    "odd.scales": torch.rand(64, 4).half(),
    "int8.weight": torch.arange(-127, 128, dtype=torch.int8).reshape(51, 5),
    "int8.weight_scale": torch.rand(51, 1),
    "llm.weight": torch.arange(-127, 128, dtype=torch.int8).reshape(51, 5),
    "llm.SCB": torch.rand(51),
    "fp8.weight": normal(32, 32).to(torch.float8_e4m3fn),
    "fp8.weight_scale_inv": torch.rand(1, 1),
    "ids": torch.arange(6, dtype=torch.int32).reshape(2, 3),
}


def test_quantised_checkpoints_are_named_honestly(tmp_path: Path) -> None:
    save_file(QUANTISED, tmp_path / "q.safetensors")
    found = rows(tmp_path / "q.safetensors")
    packed = {n: (r.format, r.elements, r.density, r.scale) for n, r in found.items() if "packed" in (r.format or "")}
    assert packed == {
        "gptq.qweight": ("packed 4-bit", 512 * 96, None, "gptq.scales"),
        "gptq.qzeros": ("packed 4-bit", 4 * 96, None, "gptq.scales"),
        "gptq3.qweight": ("packed 3-bit", 512 * 96, None, "gptq3.scales"),
        "gptq3.qzeros": ("packed 3-bit", 4 * 96, None, "gptq3.scales"),
        "awq.qweight": ("packed 4-bit", 512 * 96, None, "awq.scales"),
        "awq.qzeros": ("packed 4-bit", 4 * 96, None, "awq.scales"),
        "bnb.weight": ("packed 4-bit", 4096, None, None),
        "odd.weight": ("packed", 512, None, None),
    }
    assert found["odd.weight"].remark == "packed integers; no companion tells their width"
    assert found["bnb.weight"].remark == "bitsandbytes nf4, two a byte"
    assert (found["int8.weight"].format, found["int8.weight"].scale) == ("int8", "int8.weight_scale")
    assert found["llm.weight"].scale == "llm.SCB"
    assert (found["fp8.weight"].format, found["fp8.weight"].scale) == (None, "fp8.weight_scale_inv")
    assert found["ids"].scale is None


def test_networks_without_values_are_listed() -> None:
    with torch.device("meta"):
        module = torch.nn.Linear(10, 5)
    row = rows(module)["weight"]
    assert (row.density, row.format, row.stored_bytes, row.remark) == (
        None, None, 200, "without values (on the meta device)",
    )  # fmt: skip


def test_the_command_prints_a_table_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_file({"a.weight": quantized(normal(16, 20), 3), "a.bias": torch.zeros(16)}, tmp_path / "w.safetensors")
    assert _run(["inspect", str(tmp_path / "w.safetensors")], False) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines[1] == ["tensor", "shape", "type", "density", "structure", "format", "values", "stored", "compact"]
    assert lines[3][:3] == ["a.weight", "16x20", "float32"]
    assert lines[3][-8:] == ["int3", "per", "channel", "7", "1.28", "kB", "184", "B"]
    assert lines[4][:7] == ["1", "of", "one", "axis", "or", "none", "0.0%"]
    assert lines[5][:4] == ["all", "2:", "336", "elements"]
    assert _run(["inspect", str(tmp_path / "w.safetensors"), "--format", "json"], False) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["name"] == "w.safetensors"
    assert {t["name"]: t["format"] for t in document["tensors"]} == {"a.bias": None, "a.weight": "int3 per channel"}
    assert document["total"]["elements"] == 336


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("gone.safetensors", "gone.safetensors: no such file; expected .safetensors or .pt weights"),
        ("gone.onnx", "gone.onnx: no such file; give the path of an ONNX model"),
        (
            "lenet6",
            "'lenet6' is no file of weights; did you mean 'lenet5'? Give .safetensors, .pt, .pth, .onnx, .pt2 or .json, "
            "a zoo name or file.py:callable",
        ),
        (
            "topology.csv",
            "'topology.csv' is no file of weights. Give .safetensors, .pt, .pth, .onnx, .pt2 or .json, a zoo name or "
            "file.py:callable",
        ),
    ],
)
def test_other_sources_are_refused(source: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(["inspect", source], False) == 2
    assert capsys.readouterr().err == f"picojoule: {sentence}\n"
    with pytest.raises(pj.InputError):
        pj.inspect(source)


def test_other_objects_are_refused() -> None:
    with pytest.raises(pj.InputError) as caught:
        pj.inspect(3)  # type: ignore[arg-type]
    assert str(caught.value) == "pj.inspect takes a path, a network or a torch module, got int"


# --- and what is found is what is priced and run -------------------------------------------------------------------------


def test_masks_and_grids_of_a_module_arrive() -> None:
    from torch.nn.utils import prune

    module = torch.nn.Sequential(torch.nn.Conv2d(16, 32, 3, bias=False), torch.nn.BatchNorm2d(32), torch.nn.Flatten())
    prune.custom_from_mask(
        module[0],
        "weight",
        two_of_four(normal(32, 16, 3, 3).movedim(1, 3).reshape(-1, 16)).reshape(32, 3, 3, 16).movedim(3, 1) != 0,
    )
    weight = pj.trace(module, torch.randn(2, 16, 8, 8)).layers[0].operands[1]
    assert (str(weight.sparsity), weight.sparsity.density, weight.format) == ("2:4", 0.5, None)


def test_a_plan_wins_over_what_is_found(tmp_path: Path) -> None:
    as_onnx(tmp_path / "w.onnx", quantized(normal(48, 64), 4))
    (tmp_path / "plan.yaml").write_text("layers: {'*': {weight: {format: int6}, sparsity: {structure: '1:4'}}}\n")
    found = [y.operands[1] for y in pj.load(tmp_path / "w.onnx").layers]
    planned = [y.operands[1] for y in pj.load(tmp_path / "w.onnx", compression=tmp_path / "plan.yaml").layers]
    assert [str(o.format) for o in found] == ["int4", "int4"]
    assert [(str(o.format), o.step, str(o.sparsity)) for o in planned] == [("int6", None, "1:4")] * 2


def test_codes_found_are_the_codes_that_hardware_multiplies() -> None:
    """In the grid's own steps the hardware makes no error on the weights; with steps of its own it would."""
    from picojoule.sim.hardware import load_hardware
    from picojoule.sim.numerics.calibration import calibrate
    from picojoule.sim.numerics.executor import Executor

    module = torch.nn.Sequential(torch.nn.Conv2d(4, 8, 3, bias=False), torch.nn.BatchNorm2d(8))
    module[0].weight.data = quantized(normal(8, 4, 3, 3), 3)
    module[1].running_mean.data = normal(8)
    module[1].weight.data = normal(8, seed=1)
    x = torch.round(normal(2, 4, 6, 6) * 40).clamp(-127, 127)  # whole numbers: activations have no error either
    x[0, 0, 0, 0] = 127
    network = pj.trace(module, x)
    accelerator = load_hardware("edge-32x32")
    calibration = calibrate(network, [(x,)], accelerator.arithmetic)
    with torch.no_grad():
        (got,) = Executor(network, arithmetic=accelerator.arithmetic, calibration=calibration).run((x,))
        wanted = module.eval()(x)
    assert str(network.layers[0].operands[1].format) == "int3"
    assert float((got - wanted).abs().max()) < 1e-4 * float(wanted.abs().max())
