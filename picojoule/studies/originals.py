"""The trained originals that trials start from: one, or one for each network that the space builds."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from picojoule.networks import is_torch
from picojoule.sim.errors import InputError
from picojoule.studies.base import BaseTask
from picojoule.studies.network_keys import shown, split_bits
from picojoule.studies.spec import Scalar, StudySpec
from picojoule.studies.tasks import Stopped, make_base, warm_up
from picojoule.studies.workers import Workers

BASE = "base"
_NO_FOLDER = "a study that trains needs a folder for weights and checkpoints; give it one (--out, `out=`)"


def needs_original(spec: StudySpec) -> bool:
    """Whether trials start from an original that is trained here."""
    return not spec.priced_only and is_torch(spec.network) and spec.weights is None


def train_original(spec: StudySpec, folder: Path | None, workers: Workers, note: Callable[[str], None]) -> str:
    """Train the original of a study of one network, and return the file of its weights.

    Raises:
        InputError: if there is no folder, or it cannot be trained.

    """
    task = _task(spec, folder, {})
    if not (Path(task.folder) / "model.safetensors").is_file():
        note(f"training the original ({spec.training.pretrain_epochs} epochs)")
    workers.submit(-1, make_base, task)
    others = min(workers.slots, spec.batch_size) - 1
    for i in range(others):
        workers.submit(-2 - i, warm_up, task)
    found, left = "", 1 + max(0, others)
    while left:
        for done in workers.finished(None):
            left -= 1
            if done.key != -1:
                continue  # what a warm-up meets, the first trials will meet and tell
            if done.problem is not None or isinstance(done.result, Stopped):
                raise InputError(f"the original cannot be trained: {done.problem or done.result.message}")
            found = str(done.result)
    return found


class Originals:
    """Trains each network that the space builds when its first trial comes, in base/<key> of the study's folder."""

    def __init__(self, spec: StudySpec, folder: Path | None, workers: Workers, note: Callable[[str], None]) -> None:
        self._spec, self._folder, self._workers, self._note = spec, folder, workers, note
        self._found: dict[str, str] = {}

    def train(self, networks: Sequence[Mapping[str, Scalar]]) -> None:
        """Train the networks of these arguments that are not trained yet.

        Raises:
            InputError: if one of them cannot be trained, saying which and why.

        """
        tasks = [_task(self._spec, self._folder, self._built_with(arguments)) for arguments in networks]
        todo = list({task.folder: task for task in tasks if task.folder not in self._found}.values())
        untrained = [task for task in todo if not (Path(task.folder) / "model.safetensors").is_file()]
        if untrained:
            self._note(f"training {len(untrained)} networks ({self._spec.training.pretrain_epochs} epochs each)")
        for i, task in enumerate(todo):
            self._workers.submit(-1 - i, make_base, task)
        left = len(todo)
        while left:
            for done in self._workers.finished(None):
                left -= 1
                task = todo[-1 - done.key]
                if done.problem is not None or isinstance(done.result, Stopped):
                    why = done.problem or done.result.message
                    raise InputError(f"the network of {shown(task.arguments)} cannot be trained: {why}")
                self._found[task.folder] = str(done.result)

    def weights(self, arguments: Mapping[str, Scalar]) -> str:
        """Return the file of a network's weights, which `train` made."""
        return self._found[_task(self._spec, self._folder, self._built_with(arguments)).folder]

    def _built_with(self, arguments: Mapping[str, Scalar]) -> dict[str, Scalar]:
        return split_bits(self._spec.network, arguments)[0]


def _task(spec: StudySpec, folder: Path | None, arguments: Mapping[str, Any]) -> BaseTask:
    if folder is None:
        raise InputError(_NO_FOLDER)
    own = folder / BASE
    if arguments:
        text = json.dumps(arguments, sort_keys=True)
        own = own / hashlib.sha256(text.encode()).hexdigest()[:12]
    return BaseTask(
        network=spec.network,
        data=str(spec.data),
        folder=str(own),
        epochs=spec.training.pretrain_epochs,
        lr=spec.training.pretrain_lr,
        seed=spec.seed,
        arguments=arguments,
    )
