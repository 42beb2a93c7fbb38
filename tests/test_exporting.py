"""`pj.export` and `picojoule export`: suffixes, files, messages, and the way of a compressed network."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from torch import Tensor

import picojoule as pj
from picojoule import cli
from picojoule.models.zoo import build, example_inputs
from picojoule.sim.ir import Network


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


def called(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = cli._run(list(words), False)
    out, err = capsys.readouterr()
    return code, out, err


def test_the_command_says_what_it_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = called(capsys, "export", "lenet5", "-o", "new/net.json")
    sizes = [(tmp_path / "new" / n).stat().st_size for n in ("net.json", "net.safetensors")]
    assert (code, out) == (0, "")
    assert err == f"wrote new/net.json ({sizes[0]:,} bytes)\nwrote new/net.safetensors ({sizes[1]:,} bytes)\n"
    code, out, err = called(capsys, "evaluate", "new/net.json", "-H", "edge-16x16", "--format", "json")
    assert code == 0 and json.loads(out)["totals"]["macs"] == 416_520
    code, out, err = called(capsys, "export", "new/net.json", "-o", "bare.json", "--no-weights")
    assert err.splitlines()[0] == "note: structure only: no weight values were written"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bare.json", "new"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["-o", "net.jsn"], "net.jsn: the suffix says what is written, .json (picojoule's own), .onnx (ONNX), .csv (SCALE-Sim "
         "topology); got '.jsn'; did you mean '.json'?"),
        (["-o", "net"], "net: the suffix says what is written, .json (picojoule's own), .onnx (ONNX), .csv (SCALE-Sim "
         "topology); got no suffix"),
        (["-o", "here.json"], "here.json: is a folder; give the name of a file to write"),
        (["-o", "file.txt/net.json"], "file.txt/net.safetensors: cannot write: 'file.txt' is not a folder"),
        (["-o", "net.onnx", "--no-weights"], "net.onnx: an ONNX file carries weights; leave out --no-weights or export to .json"),
        ([], "missing option '--out' / '-o'; see `picojoule export --help`"),
    ],
)  # fmt: skip
def test_the_command_refuses_in_one_sentence(
    words: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.json").mkdir()
    (tmp_path / "file.txt").write_text("x")
    code, out, err = called(capsys, "export", "lenet5", *words)
    assert (code, out) == (2, "")
    assert err.lower().startswith(f"picojoule: {sentence}".lower()), err


def test_a_plan_is_applied_before_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plan.yaml").write_text(
        yaml.safe_dump(
            {"schema": 1, "layers": {"*": {"weight": {"format": "int4"}, "activation": {"format": "uint8"}}}}
        )
    )
    code, _, _err = called(capsys, "export", "lenet5", "-o", "net.json", "--compression", "plan.yaml")
    assert code == 0
    expected = pj.load("lenet5", compression="plan.yaml")
    found = pj.load("net.json")
    assert [o.format for y in found.layers for o in y.operands] == [
        o.format for y in expected.layers for o in y.operands
    ]
    assert str(found.layers[0].operands[1].format) == "int4"


def test_the_example_inputs_of_the_zoo_are_not_needed(tmp_path: Path) -> None:
    """A module of one's own goes the same way."""
    module, x = build("lenet5"), example_inputs("lenet5")
    pj.export(pj.trace(module, x), tmp_path / "net.onnx")
    with torch.no_grad():
        assert difference(ran(session(tmp_path / "net.onnx"), list(x))[0], module(*x)) < 1e-4


def test_import_of_export_needs_no_torch() -> None:
    code = "import sys, picojoule.exporting; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
