"""Files of PyTorch that run code, lie about their size or unpack to terabytes: one for each defect that campaigns found."""

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import picojoule as pj
from picojoule.networks import load_weights
from picojoule.sim.errors import InputError
from picojoule.sim.numerics.pt2_checks import is_plain_size


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        pj.load(path)
    return str(caught.value).replace(f"{path.parent}/", "")


class Touch:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> object:
        return os.system, ("touch EXECUTED",)


@pytest.fixture(scope="module")
def program() -> bytes:
    stream = io.BytesIO()
    batch = ({0: torch.export.Dim.DYNAMIC},)
    linear = torch.nn.Linear(4, 3).eval()
    torch.export.save(torch.export.export(linear, (torch.ones(2, 4),), dynamic_shapes=batch, strict=False), stream)
    return stream.getvalue()


def rewritten(program: bytes, added: dict[str, bytes], changed: dict[str, Callable[[bytes], bytes]]) -> bytes:
    stream = io.BytesIO()
    source = zipfile.ZipFile(io.BytesIO(program))
    with zipfile.ZipFile(stream, "w") as made:
        for name in source.namelist():
            change = next((c for end, c in changed.items() if name.endswith(end)), bytes)
            made.writestr(name, change(source.read(name)))
        for name, content in added.items():
            made.writestr(name, content)
    return stream.getvalue()


def test_pickled_constants_of_a_program_are_never_loaded(
    program: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch itself unpickles a constant that is called opaque_obj_N, whatever else its entry says."""
    monkeypatch.chdir(tmp_path)
    meta = {
        "dtype": 1, "sizes": [{"as_int": 1}], "requires_grad": False, "device": {"type": "cpu", "index": None},
        "strides": [{"as_int": 1}], "storage_offset": {"as_int": 0}, "layout": 7,
    }  # fmt: skip
    entry = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": False, "tensor_meta": meta}
    listed = json.dumps({"config": {"c": entry}}).encode()
    evil = {"archive/data/constants/opaque_obj_0": pickle.dumps(Touch())}
    path = tmp_path / "net.pt2"
    path.write_bytes(rewritten(program, evil, {"model_constants_config.json": lambda _: listed}))
    assert refusal(path) == (
        "net.pt2: 'archive/data/constants/model_constants_config.json' lists 'opaque_obj_0', which is no plain tensor and "
        "could run code; refused"
    )
    path.write_bytes(rewritten(program, {"archive/data/aotinductor/model/a.so": b"\x7fELF"}, {}))
    assert refusal(path) == (
        "net.pt2: record 'archive/data/aotinductor/model/a.so' is none of those that torch.export.save writes for a plain "
        "program, and could run code; refused"
    )
    assert not (tmp_path / "EXECUTED").exists()


def test_records_that_unpack_to_more_than_the_file(program: bytes, tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    stream = io.BytesIO(program)
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/extra/zeros", bytes(1 << 24))
    path.write_bytes(stream.getvalue())
    assert " its records unpack to " in refusal(path)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("sizes", [{"as_int": 2**20}, {"as_int": 2**20}], "has only 12 elements in the file"),
        ("dtype", 99, "not a readable torch.export archive"),
    ],
)
def test_weights_that_claim_more_than_they_hold(
    field: str, value: object, message: str, program: bytes, tmp_path: Path
) -> None:
    def lie(content: bytes) -> bytes:
        document = json.loads(content)
        meta = document["config"]["weight"]["tensor_meta"]
        meta.update({"strides": [{"as_int": 0}, {"as_int": 0}], field: value})
        return json.dumps(document).encode()

    path = tmp_path / "net.pt2"
    path.write_bytes(rewritten(program, {}, {"model_weights_config.json": lie}))
    assert message in refusal(path)


@pytest.mark.parametrize("kind", ["full", "expand"])
def test_constants_far_larger_than_the_file_are_not_computed(kind: str, tmp_path: Path) -> None:
    class Bomb(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = torch.nn.Parameter(torch.ones(1, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ (torch.full((4, 2**28), 1.5) if kind == "full" else self.w.expand(4, 2**28))

    path = tmp_path / "net.pt2"
    batch = ({0: torch.export.Dim.DYNAMIC},)
    torch.export.save(torch.export.export(Bomb(), (torch.ones(2, 4),), dynamic_shapes=batch, strict=False), path)
    assert refusal(path) == (
        f"net.pt2: '{kind}' makes 1073741824 elements from weights alone, far more than the file holds; refused"
    )


@pytest.mark.parametrize(
    ("size", "plain"),
    [
        ("Symbol('s77', positive=True, integer=True)", True),
        ("FloorDiv(Add(Symbol('s0', positive=True, integer=True), Integer(-1)), Integer(2))", True),
        ("2*s0 + 1", True),
        ("Pow(Symbol('u0'), Integer(-1))", True),
        ("9**9**9", False),
        ("Pow(Integer(9), Pow(Integer(9), Integer(99)))", False),
        ("Pow(Pow(Pow(Pow(Pow(Integer(9), Integer(16)), Integer(16)), Integer(16)), Integer(16)), Integer(16))", False),
        ("Integer(" + "9" * 400 + ")", False),
        ("__import__('os').system('touch EXECUTED')", False),
        ("Symbol('s0').__class__", False),
        ("[1 for s0 in s1]", False),
        ("(" * 1000, False),
    ],
)
def test_sizes_are_plain_arithmetic_that_ends(size: str, plain: bool) -> None:
    assert is_plain_size(size) is plain


@pytest.mark.parametrize("form", ["sparse", "meta"])
def test_tensors_that_are_not_plain(form: str, tmp_path: Path) -> None:
    module = torch.nn.Linear(2, 2)
    weight = module.weight.detach()
    path = tmp_path / "w.pt"
    torch.save({**module.state_dict(), "weight": weight.to_sparse() if form == "sparse" else weight.to("meta")}, path)
    with pytest.raises(InputError) as caught:
        load_weights(module, path)
    assert str(caught.value) == (f"{path}: tensor 'weight' is sparse, quantised or without values; save plain tensors")
