import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from picojoule.checkpoints import read_state, stored_tensors
from picojoule.networks import load_weights
from picojoule.sim.errors import InputError


def model() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))


def test_the_checkpoints_of_training_scripts_are_read(tmp_path: Path) -> None:
    state = model().state_dict()
    optimizer = torch.optim.Adam(model().parameters()).state_dict()
    layouts: dict[str, Any] = {
        "plain": state,
        "nested": {"state_dict": state, "epoch": 3},
        "trainer": {"epoch": 3, "model": state, "optimizer": optimizer, "args": {"lr": 0.1, "name": "x"}},
        "deep": {"checkpoint": {"model_state_dict": state, "best": 0.9}},
        "settings beside tensors": {**state, "version": "1.2", "classes": 10},
        "alone under a name of its own": {"generator": state, "step": 7},
    }
    for layout in layouts.values():
        torch.save(layout, tmp_path / "w.pt")
        read = read_state(tmp_path / "w.pt")
        assert list(read) == list(state)
        assert all(torch.equal(read[k], state[k]) for k in state)
    torch.save(layouts["trainer"], tmp_path / "w.pt")
    assert stored_tensors(tmp_path / "w.pt").left_out == ("epoch", "optimizer", "args")


def test_weights_trained_in_parallel_fit(tmp_path: Path) -> None:
    torch.save({f"module.{k}": v + 1 for k, v in model().state_dict().items()}, tmp_path / "w.pt")
    made = model()
    load_weights(made, tmp_path / "w.pt")
    assert torch.equal(made[0].weight, model()[0].weight + 1)


@pytest.mark.parametrize(
    ("loaded", "problem"),
    [
        ([torch.ones(2)], "must hold a state dict of tensors, got list"),
        ({"a": {"x": torch.ones(1)}, "b": {"x": torch.ones(1)}}, "must hold one state dict of tensors, "
         "got 'a', 'b'; save one of them"),
        ({"epoch": 3}, "must hold a state dict of tensors, got int under 'epoch'"),
        ({1: torch.ones(1)}, "must hold a state dict of tensors, got Tensor under 1"),
    ],
)  # fmt: skip
def test_what_is_no_state_dict_is_refused(loaded: Any, problem: str, tmp_path: Path) -> None:
    torch.save(loaded, tmp_path / "w.pt")
    for read in (read_state, stored_tensors):
        with pytest.raises(InputError) as caught:
            read(tmp_path / "w.pt")
        assert str(caught.value) == f"{tmp_path / 'w.pt'}: {problem}"


@pytest.mark.parametrize("kind", ["safetensors", "pt", "old pt"])
def test_every_type_is_read_as_it_is_stored(kind: str, tmp_path: Path) -> None:
    values = torch.tensor([[0.5, -1.5], [0.0, 2.0]])
    types = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2]
    whole = [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool]
    if kind == "old pt":
        types = types[:4]  # older than 8-bit floats
    state = {str(t): values.to(t) for t in types} | {str(t): values.abs().to(t) for t in whole}
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pt")
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "pt")
    held = {t.name: t for t in stored_tensors(path).tensors}
    assert set(held) == set(state)
    for name, tensor in held.items():
        assert f"torch.{tensor.dtype}" == name
        assert tensor.stored_bytes == 4 * state[name].element_size()
        assert tensor.load is not None
        assert np.array_equal(tensor.load().astype(np.float64), state[name].double().numpy())


def test_compressed_archives_are_read_too(tmp_path: Path) -> None:
    import zipfile

    torch.save({"w": torch.arange(6.0)}, tmp_path / "w.pt")
    with (
        zipfile.ZipFile(tmp_path / "w.pt") as whole,
        zipfile.ZipFile(tmp_path / "z.pt", "w", zipfile.ZIP_DEFLATED) as made,
    ):
        for record in whole.infolist():
            made.writestr(record.filename, whole.read(record))
    (tensor,) = stored_tensors(tmp_path / "z.pt").tensors
    assert tensor.load is not None
    assert tensor.load().tolist() == [0, 1, 2, 3, 4, 5]


RESIDENT = Path("/proc/self/statm")


@pytest.mark.skipif(not RESIDENT.exists(), reason="needs Linux's account of memory")
def test_tensors_are_read_one_at_a_time(tmp_path: Path) -> None:
    def pages() -> int:
        return int(RESIDENT.read_text().split()[1])

    save_file({f"t{i}": torch.ones(1 << 21) for i in range(16)}, tmp_path / "w.safetensors")  # 8 MiB each, 128 in all
    tensors = stored_tensors(tmp_path / "w.safetensors").tensors
    before, most = pages(), 0
    for tensor in tensors:
        assert tensor.load is not None
        assert float(tensor.load().sum()) == 1 << 21
        most = max(most, pages())
    assert (most - before) * resource.getpagesize() < 48 << 20
