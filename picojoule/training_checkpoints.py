"""Checkpoints inside a training, so that one which was killed goes on after its last whole epoch.

`with checkpoints(folder):` makes every call of `training.train` inside it leave files, in order of the calls K = 0, 1, ...:

    train-K.pt           after the last finished epoch: the records of all epochs, the optimiser, the order of batches
    train-K-epoch-E.pt   after epoch E: parameters, buffers, and the state of torch's random numbers

What a method keeps of an epoch (its accuracy on validation data, say) is known to its `on_epoch` only. So a call that
resumes goes through the finished epochs again, each with that epoch's parameters, and calls `on_epoch`: methods need no
change, and their histories are complete. It costs a state per epoch on disk; without `on_epoch` only the last is kept.

Each file ends in a hash over its content and the training's key. A torn file, one of another training or one that somebody
changed does not match and is not even opened: a log line says so and the training starts afresh. The key covers settings,
data, starting values, the network as it prints itself, and the versions of torch and of this package. It cannot cover what
a penalty computes: whoever changes that between two runs gives another `key`.
"""

import hashlib
import io
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from picojoule.models.data import Split
from picojoule.sim.errors import InputError
from picojoule.sim.files import read_bounded, write_atomic
from picojoule.store import result_key

_log = logging.getLogger("picojoule.training")

_HASH_BYTES = 32
_LARGEST_BYTES = 1 << 36

Record = dict[str, float]


@dataclass(slots=True)
class _Place:
    """Where checkpoints go: the folder, what else they depend on, how many trainings have begun, whether writing failed."""

    folder: Path
    key: str
    begun: int = 0
    full: bool = False


_place: ContextVar[_Place | None] = ContextVar("picojoule_checkpoints", default=None)


@contextmanager
def checkpoints(folder: Path, key: str = "") -> Iterator[None]:
    """Make trainings inside the block resumable; `key` names everything else that their results depend on."""
    token = _place.set(_Place(folder=folder, key=key))
    try:
        yield
    finally:
        _place.reset(token)


def remove_checkpoints(folder: Path) -> None:
    """Remove the files of all trainings, also temporary ones that a killed process left."""
    for pattern in ("train-*.pt", ".train-*.pt.*"):
        for file in folder.glob(pattern):
            file.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingState:
    """Everything that changes while a model trains, apart from torch's random numbers."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    generator: torch.Generator

    def tensors(self) -> dict[str, Tensor]:
        """Return parameters and buffers by name, also what the optimiser trains outside the model."""
        found = {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}
        held = {id(tensor) for tensor in found.values()}
        for i, group in enumerate(self.optimizer.param_groups):
            found |= {f"group {i} parameter {j}": p for j, p in enumerate(group["params"]) if id(p) not in held}
        return found


def checkpoint_of(
    state: TrainingState, split: Split, settings: Mapping[str, Any], *, every_epoch: bool
) -> "Checkpoint | None":
    """Return the checkpoint of the training that begins now, None outside of `checkpoints`.

    `every_epoch`: whether all finished epochs are gone through again on resuming, or the last only.
    """
    place = _place.get()
    if place is None:
        return None
    number = place.begun
    place.begun += 1
    key = _key(state, split, settings, place.key)
    path = place.folder / f"train-{number}.pt"
    return Checkpoint(place=place, path=path, key=key, state=state, every_epoch=every_epoch)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The files of one training; the random numbers it keeps are those of the thread that calls it."""

    place: _Place
    path: Path
    key: str
    state: TrainingState
    every_epoch: bool

    def finished(self) -> Iterator[Record]:
        """Yield the record of each finished epoch, with the state set to what it was at that epoch's end.

        Without `every_epoch` the state is set for the last one only. What cannot be taken over whole is left alone.
        """
        history = self._read()
        if history:
            _log.info("%s: going on after epoch %d", self.path, len(history))
        for record in history:
            if self.every_epoch or len(history) == record["epoch"]:
                content = self._load_epoch(int(record["epoch"]))
                with torch.no_grad():
                    for name, tensor in self.state.tensors().items():
                        tensor.copy_(content["tensors"][name])
                torch.set_rng_state(content["random"])
            yield dict(record)

    def write(self, history: list[Record]) -> None:
        """Keep the state after the last epoch of `history`; where that fails, say so once and go on without checkpoints."""
        if self.place.full:
            return
        epoch = len(history)
        tensors = {name: tensor.detach() for name, tensor in self.state.tensors().items()}
        main = {
            "history": history,
            "optimizer": self.state.optimizer.state_dict(),
            "generator": self.state.generator.get_state(),
        }
        try:
            self._save(self._epoch_path(epoch), {"tensors": tensors, "random": torch.get_rng_state()})
            self._save(self.path, main)
            if not self.every_epoch:
                self._epoch_path(epoch - 1).unlink(missing_ok=True)
        except (InputError, OSError) as error:
            self.place.full = True
            _log.warning("no more checkpoints, the training goes on without: %s", error)

    def _epoch_path(self, epoch: int) -> Path:
        return self.path.with_name(f"{self.path.stem}-epoch-{epoch}.pt")

    def _save(self, path: Path, content: Mapping[str, Any]) -> None:
        buffer = io.BytesIO()
        torch.save(content, buffer)
        data = buffer.getvalue()
        write_atomic(path, data + self._hash(path, data))

    def _hash(self, path: Path, data: bytes) -> bytes:
        return hashlib.sha256(f"{self.key} {path.name} ".encode() + hashlib.sha256(data).digest()).digest()

    def _read(self) -> list[Record]:
        """Return the finished epochs, with optimiser and order of batches set; none if there is nothing to go on from."""
        if not self.path.is_file():
            return []
        before = self.state.optimizer.state_dict(), self.state.generator.get_state()
        try:
            main = self._load(self.path)
            history: list[Record] = main["history"]
            for epoch in range(1 if self.every_epoch else len(history), len(history) + 1):
                self._load_epoch(epoch)  # to know that it can be: nothing may change before all is there
            self.state.optimizer.load_state_dict(main["optimizer"])
            self.state.generator.set_state(main["generator"])
        except Exception as error:  # whatever lies there, a training that can start afresh must not fail over it
            self.state.optimizer.load_state_dict(before[0])
            self.state.generator.set_state(before[1])
            _log.warning("%s: not used, the training starts afresh: %s", self.path, error)
            return []
        return history

    def _load_epoch(self, epoch: int) -> dict[str, Any]:
        content = self._load(self._epoch_path(epoch))
        held = [
            {n: (tuple(t.shape), t.dtype) for n, t in s.items()} for s in (self.state.tensors(), content["tensors"])
        ]
        if held[0] != held[1]:
            raise InputError(f"{self._epoch_path(epoch).name} holds other tensors than the network")
        return content

    def _load(self, path: Path) -> dict[str, Any]:
        content = read_bounded(path, _LARGEST_BYTES, "a checkpoint")
        data, kept = content[:-_HASH_BYTES], content[-_HASH_BYTES:]
        if kept != self._hash(path, data):
            raise InputError(
                f"{path.name} is torn, or belongs to a training of other settings, data or starting values"
            )
        loaded: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        return loaded


def _key(state: TrainingState, split: Split, settings: Mapping[str, Any], outer: str) -> str:
    """Return the key of a training: what its result depends on."""
    data = hashlib.sha256(f"{split.images.shape} {split.images.dtype} {split.labels.dtype}".encode())
    data.update(split.images.tobytes())
    data.update(split.labels.tobytes())
    tensors = state.tensors()
    names = {id(tensor): name for name, tensor in tensors.items()}
    values = hashlib.sha256()
    for name, tensor in tensors.items():
        values.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} {tensor.requires_grad} ".encode())
        values.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    config = {
        "settings": repr(sorted(settings.items())),
        "outer": outer,
        "torch": torch.__version__,
        "network": re.sub(r"0x[0-9a-f]+", "", repr(state.model)),  # addresses differ from process to process
        "values": values.hexdigest(),
        "groups": [
            {k: [names[id(p)] for p in v] if k == "params" else repr(v) for k, v in group.items()}
            for group in state.optimizer.param_groups
        ],
    }
    return result_key(config, data.hexdigest())
