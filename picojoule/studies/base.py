"""The original of a study, trained once: every trial that compresses starts from its weights."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from picojoule.sim.errors import InputError
from picojoule.sim.files import write_atomic
from picojoule.store import result_key
from picojoule.studies.trial_network import WEIGHTS, Source, content_digest, dataset, file_of, load_module

KEY = "key.json"
_WEIGHT_DECAY = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseTask:
    """What training the original takes, as plain values; `weights` are those it starts from, if not random ones."""

    network: str
    data: str
    epochs: int
    lr: float
    folder: str
    weights: str | None = None
    seed: int = 0
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def source(self) -> Source:
        """The network as it is before training."""
        return Source(
            network=self.network,
            weights=self.weights,
            data=self.data,
            seed=self.seed,
            arguments=tuple(self.arguments.items()),
        )


def train_base(task: BaseTask) -> str:
    """Train the original and return the file of its weights, `folder`/model.safetensors.

    Deterministic, and resumed where it was when it was killed. Taken as it is if it is there for the same network, data,
    settings and version of this package, and whole (key.json beside it says so).

    Raises:
        InputError: if the network is no torch module or does not fit the data, training diverges, or nothing can be written.

    """
    from picojoule.training_checkpoints import remove_checkpoints

    folder = Path(task.folder)
    files = [content_digest(file_of(task.network)), content_digest(Path(task.weights) if task.weights else None)]
    training = [task.epochs, task.lr, task.seed]
    asked = {"network": task.network, "arguments": dict(task.arguments), "files": files, "training": training}
    key = result_key(asked, dataset(task.data).digest)
    if not _is_whole(folder, key):
        try:
            _train(task, key)
        except InputError:  # a worker that the cluster lost sight of may have done it, and taken its checkpoints away
            if not _is_whole(folder, key):
                raise
    remove_checkpoints(folder)
    return str(folder / WEIGHTS)


def _train(task: BaseTask, key: str) -> None:
    from picojoule.accuracy import check_fits
    from picojoule.compressing import save_weights
    from picojoule.networks import network_of
    from picojoule.training import one_thread, train
    from picojoule.training_checkpoints import checkpoints

    data, folder = dataset(task.data), Path(task.folder)
    with one_thread(), checkpoints(folder, key):
        made = load_module(task.source)
        check_fits(network_of(made), data)
        train(made.module, data.train, epochs=task.epochs, lr=task.lr, seed=task.seed, weight_decay=_WEIGHT_DECAY)
    path = folder / WEIGHTS
    save_weights(made.module, path)
    write_atomic(folder / KEY, json.dumps({"key": key, "sha256": content_digest(path)}))


def _is_whole(folder: Path, key: str) -> bool:
    try:
        kept = json.loads((folder / KEY).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return bool(kept == {"key": key, "sha256": content_digest(folder / WEIGHTS)})
