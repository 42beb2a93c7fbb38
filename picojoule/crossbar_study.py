"""The network that `scripts/reproduce_crossbar` measures on: trained once on real images, kept in the folder of the study.

The folder remembers its settings and refuses others. A training that was killed goes on after its last whole epoch.
"""

import hashlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from picojoule.sim.errors import InputError
from picojoule.sim.files import write_atomic
from picojoule.sim.ir import Network
from picojoule.sim.specs import Spec
from picojoule.study_points import read_json

if TYPE_CHECKING:
    from picojoule.models.data import Dataset
    from picojoule.networks import TorchNetwork

WEIGHTS, RECORD, SETTINGS = "network.safetensors", "network.json", "settings.json"


class StudySettings(Spec):
    """Everything that all results of a folder depend on."""

    network: str = Field(default="resnet20", description="a zoo name; built for the data's images")
    data: str = Field(default="fashion-mini", description="as --data of `picojoule evaluate`")
    epochs: int = Field(default=4, ge=1)
    lr: float = Field(default=0.05, gt=0)
    batch_size: int = Field(default=128, ge=2)
    weight_decay: float = Field(default=5e-4, ge=0)
    images: int = Field(default=2000, ge=1, description="the first of the test part that each design is measured on")
    chips: int = Field(default=5, ge=2, description="simulated chips (seeds of the devices) behind a mean")
    chip_images: int = Field(default=1000, ge=1, description="images each of these chips is measured on")
    seed: int = Field(default=0, ge=0)


def open_folder(out: Path, settings: StudySettings) -> str:
    """Return the digest of the settings, after noting them in the folder or comparing with what it notes.

    Raises:
        InputError: if the folder holds results of other settings, or cannot be written.

    """
    values = settings.model_dump(mode="json")
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
    file = out / SETTINGS
    if not file.exists():
        write_atomic(file, json.dumps({"digest": digest, "settings": values}, indent=1, sort_keys=True) + "\n")
        return digest
    found = read_json(file)
    if found.get("digest") != digest:
        other = found.get("settings", {})
        told = [f"{k} {other.get(k)} there, {v} here" for k, v in values.items() if other.get(k) != v]
        raise InputError(
            f"{file}: holds results of other settings ({'; '.join(told) or 'unreadable'}); take another folder with --out"
        )
    return digest


def blank(settings: StudySettings, data: "Dataset") -> "TorchNetwork":
    """Return the untrained network for the data's images."""
    from picojoule.networks import load_torch

    return load_torch(settings.network, sample_shape=data.input_shape, classes=data.classes, seed=settings.seed)


def trained(out: Path, settings: StudySettings, data: "Dataset") -> "TorchNetwork":
    """Return the trained network, from the folder if it is there; weights and history are written to it."""
    from dataclasses import replace

    from picojoule.compressing import save_weights
    from picojoule.networks import load_weights
    from picojoule.training import accuracy, train
    from picojoule.training_checkpoints import checkpoints, remove_checkpoints

    digest = open_folder(out, settings)
    made = replace(blank(settings, data), weights="trained")
    if (out / RECORD).exists():
        load_weights(made.module, out / WEIGHTS)
        made.module.eval()
        return made
    start = time.process_time()
    (out / "training").mkdir(parents=True, exist_ok=True)
    with checkpoints(out / "training", digest):
        history = train(
            made.module,
            data.train,
            epochs=settings.epochs,
            lr=settings.lr,
            batch_size=settings.batch_size,
            weight_decay=settings.weight_decay,
            seed=settings.seed,
            optimizer="sgd",
        )
    right, total = accuracy(made.module, data.val)
    save_weights(made.module, out / WEIGHTS)
    record = {"history": history, "val": right / total, "data": data.digest, "cpu_s": time.process_time() - start}
    write_atomic(out / RECORD, json.dumps(record, indent=1, allow_nan=False) + "\n")
    remove_checkpoints(out / "training")
    return made


def priced(made: "TorchNetwork") -> Network:
    """Return the workload of the trained network, batch norms folded."""
    from picojoule.networks import network_of

    return network_of(made)
