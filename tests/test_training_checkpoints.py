"""A training that was killed and resumed gives the bytes of one that never stopped; files that do not belong are left alone."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import nn

from picojoule.compress import load_method
from picojoule.models import data as datasets
from picojoule.models.data import Dataset, Split
from picojoule.sim.errors import InputError
from picojoule.training import accuracy, train
from picojoule.training_checkpoints import Checkpoint, checkpoints, remove_checkpoints

EPOCHS = 4


class KilledError(Exception):
    """Stands for kill -9."""


def split(shift: float = 0.0) -> Split:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 50)
    images = rng.normal(size=(50, 1, 2, 2)).astype(np.float32) + 2 * labels[:, None, None, None].astype(np.float32)
    return Split(images=images + np.float32(shift), labels=labels)


def network(dropout: float = 0.3) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 2)
        )


def fit(
    model: nn.Sequential, *, kill_after: int = 0, silent: bool = False, **settings: Any
) -> tuple[tuple[dict[str, float], ...], list[tuple[float, int]]]:
    """Train with a penalty and return (history, what `on_epoch` saw); killed in or after that epoch unless 0."""
    seen: list[tuple[float, int]] = []
    steps = 0

    def on_epoch(record: Mapping[str, float]) -> None:
        assert not model.training
        seen.append((record["loss"], accuracy(model, split())[0]))
        if len(seen) == kill_after:
            raise KilledError

    def penalty() -> torch.Tensor:
        nonlocal steps
        steps += 1
        if silent and kill_after and steps > 5 * kill_after + 2:  # 5 batches an epoch
            raise KilledError
        return 0.01 * model[1].weight.abs().sum()

    used = {"lr": 2e-2, "batch_size": 10, "seed": 3, "penalty": penalty} | settings
    data = used.pop("split", split())
    history = train(model, data, epochs=used.pop("epochs", EPOCHS), on_epoch=None if silent else on_epoch, **used)
    return history, seen


def state(model: nn.Module) -> bytes:
    made = save({k: v.clone().contiguous() for k, v in model.state_dict().items()})
    assert isinstance(made, bytes)
    return made


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Which epochs were trained: those after which a checkpoint was written."""
    epochs: list[int] = []
    before = Checkpoint.write

    def write(self: Checkpoint, history: list[dict[str, float]]) -> None:
        epochs.append(len(history))
        before(self, history)

    monkeypatch.setattr(Checkpoint, "write", write)
    return epochs


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("silent", [False, True])
def test_killed_after_any_epoch_and_resumed_is_the_same(
    optimizer: str, silent: bool, tmp_path: Path, written: list[int]
) -> None:
    """Weights, statistics of batch norm, momenta, dropout, history and what `on_epoch` sees: all as if nothing had happened."""
    whole = network()
    expected = fit(whole, optimizer=optimizer, silent=silent)
    assert written == []  # without a folder nothing is kept
    for epoch in range(1, EPOCHS):
        del written[:]
        folder = tmp_path / str(epoch)
        random = torch.get_rng_state()
        with pytest.raises(KilledError), checkpoints(folder):
            fit(network(), optimizer=optimizer, silent=silent, kill_after=epoch)
        made = network()
        with checkpoints(folder):
            assert fit(made, optimizer=optimizer, silent=silent) == expected
        assert state(made) == state(whole)
        assert not made.training and torch.equal(torch.get_rng_state(), random)
        assert written == [1, 2, 3, 4]  # no epoch twice
        left = sorted(p.name for p in folder.iterdir())
        kept = range(4, 5) if silent else range(1, 5)
        assert left == sorted([*(f"train-0-epoch-{e}.pt" for e in kept), "train-0.pt"])
    with checkpoints(folder):  # finished: nothing is trained
        again = network()
        assert fit(again, optimizer=optimizer, silent=silent) == expected
    assert state(again) == state(whole) and written == [1, 2, 3, 4]
    remove_checkpoints(folder)
    assert list(folder.iterdir()) == []


def test_calls_are_numbered_and_each_resumes_its_own(tmp_path: Path, written: list[int]) -> None:
    def both(kill_after: int = 0) -> bytes:
        model = network()
        fit(model, epochs=2)
        fit(model, epochs=2, seed=4, kill_after=kill_after)
        return state(model)

    expected = both()
    with pytest.raises(KilledError), checkpoints(tmp_path):
        both(kill_after=1)
    assert written == [1, 2, 1]
    with checkpoints(tmp_path):
        assert both() == expected
    assert written == [1, 2, 1, 2]


OTHERS: dict[str, dict[str, Any]] = {
    "epochs": {"epochs": EPOCHS + 1},
    "lr": {"lr": 1e-2},
    "batch size": {"batch_size": 11},
    "seed": {"seed": 4},
    "weight decay": {"weight_decay": 0.1},
    "optimiser": {"optimizer": "sgd"},
    "no penalty": {"penalty": None},
    "images": {"split": split(0.5)},
    "labels": {"split": replace(split(), labels=1 - split().labels)},
}


@pytest.mark.parametrize("case", [*OTHERS, "starting values", "dropout", "groups", "key"])
def test_a_checkpoint_of_another_training_is_not_used(
    case: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def other() -> tuple[nn.Sequential, dict[str, Any]]:
        made, changed = network(0.4 if case == "dropout" else 0.3), OTHERS.get(case, {})
        if case == "starting values":
            with torch.no_grad():
                made[1].weight[0, 0] += 1e-6
        if case == "groups":
            changed = {"groups": [{"params": list(made.parameters()), "lr": 1e-3}]}
        return made, changed

    with pytest.raises(KilledError), checkpoints(tmp_path):
        fit(network(), kill_after=2)
    alone, settings = other()
    expected = fit(alone, **settings)
    made, settings = other()
    with caplog.at_level(logging.INFO, "picojoule.training"), checkpoints(tmp_path, key="b" if case == "key" else ""):
        assert fit(made, **settings) == expected
    assert state(made) == state(alone)
    message = "not used, the training starts afresh: train-0.pt is torn, or belongs to a training of other settings"
    assert [message in r.getMessage() for r in caplog.records] == [True]


def test_the_addresses_in_a_networks_text_do_not_matter(tmp_path: Path, written: list[int]) -> None:
    class Shown(nn.Flatten):
        def extra_repr(self) -> str:
            return repr(object())

    for _ in range(2):
        made = network()
        made[0] = Shown()
        with checkpoints(tmp_path):
            fit(made)
    assert written == [1, 2, 3, 4]


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.parametrize("name", ["train-0.pt", "train-0-epoch-1.pt", "train-0-epoch-2.pt"])
@pytest.mark.parametrize(
    "damage", [lambda d: d[: len(d) // 2], flipped, lambda d: b"", lambda d: b"\x80\x04" + d, None], ids=range(5)
)
def test_damaged_files_are_not_used(name: str, damage: Callable[[bytes], bytes] | None, tmp_path: Path) -> None:
    """Also a single flipped bit in a weight, which torch's own reader takes."""
    whole = network()
    expected = fit(whole)
    with pytest.raises(KilledError), checkpoints(tmp_path):
        fit(network(), kill_after=2)
    file = tmp_path / name
    if damage is None:
        file.unlink()
        file.mkdir()
    else:
        file.write_bytes(damage(file.read_bytes()))
    made = network()
    with checkpoints(tmp_path):
        assert fit(made) == expected
    assert state(made) == state(whole)


def test_a_full_disk_stops_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    calls = 0

    def full(path: Path, content: bytes) -> None:
        nonlocal calls
        calls += 1
        raise InputError(f"{path}: cannot write: No space left on device")

    monkeypatch.setattr("picojoule.training_checkpoints.write_atomic", full)
    whole, made = network(), network()
    expected = fit(whole)
    with caplog.at_level(logging.INFO, "picojoule.training"), checkpoints(tmp_path):
        assert fit(made) == expected
        fit(made)
    assert state(made) != state(whole)
    assert calls == 1
    assert [r.getMessage() for r in caplog.records] == [
        f"no more checkpoints, the training goes on without: {tmp_path / 'train-0-epoch-1.pt'}: cannot write: "
        "No space left on device"
    ]


# --- methods ------------------------------------------------------------------------------------------------------------


class Small(nn.Module):
    """A convolution whose channels can go, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8 * 16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        return self.fc(torch.relu(self.bn2(self.conv2(x))).flatten(1))


@pytest.fixture(scope="module")
def digits() -> Dataset:
    data = datasets.load("digits")
    return replace(data, train=Split(images=data.train.images[:300], labels=data.train.labels[:300]))


@pytest.mark.parametrize(
    ("method", "settings", "epochs"),
    [
        ("slimming", {"ratio": 0.3, "epochs": 1, "finetune_epochs": 2, "min_channels": 1}, 3),
        ("lsq", {"weight_bits": 3, "epochs": 2}, 2),
        ("lsq", {"weight_bits": 4, "epochs": 2, "optimizer": "sgd", "per": "tensor"}, 2),
        (
            "hamming",
            {"epochs": 2, "order": "segments", "order_until": 1.0, "refresh_every": 2, "lr": 0.02, "strength": 1.0},
            2,
        ),
    ],
    ids=["slimming", "lsq", "lsq sgd", "hamming"],
)
def test_a_fit_killed_in_every_epoch_gives_the_same_model_plan_and_history(
    method: str,
    settings: dict[str, Any],
    epochs: int,
    tmp_path: Path,
    digits: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    written: list[int],
) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        original = Small().eval()
    found = load_method(method)
    config = found.config_type(**settings)
    module, artefact = found.fit(original, digits, None, config)
    assert len(artefact.history) == epochs
    for until in range(1, epochs + 1):
        calls = 0

        def dying(model: nn.Module, part: Split, until: int = until) -> tuple[int, int]:
            nonlocal calls
            calls += 1
            if calls == until:
                raise KilledError
            return accuracy(model, part)

        with monkeypatch.context() as patched, checkpoints(tmp_path), pytest.raises(KilledError):
            patched.setattr(f"picojoule.compress.{method}.accuracy", dying)
            found.fit(original, digits, None, config)
    assert len(written) == epochs  # each start went one epoch further
    with checkpoints(tmp_path):
        resumed, after = found.fit(original, digits, None, config)
    assert len(written) == epochs
    assert state(resumed) == state(module)
    assert after.plan.to_yaml() == artefact.plan.to_yaml()
    assert after == artefact
