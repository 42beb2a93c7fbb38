"""Accuracy of a design on a chunk of test images: the unit of work of `scripts/reproduce_crossbar`, done once and kept.

`points/DESIGN-CHIP-CHUNK.json` says for every image of the chunk whether the answer was right, so that designs can be compared
image by image. Chunks come in rounds: all designs see the first images before any sees the next, so a study that is
stopped early has wider intervals and no gaps.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from picojoule.crossbar_designs import LOSSLESS, Design, adc_designs
from picojoule.crossbar_study import StudySettings, open_folder, priced, trained
from picojoule.sim.errors import InputError
from picojoule.sim.files import write_atomic
from picojoule.sim.ir import Network
from picojoule.studies.process_workers import ProcessWorkers
from picojoule.study_points import read_json

if TYPE_CHECKING:
    from picojoule.models.data import Dataset

CHUNK, CHIP_CHUNK = 250, 50
"""Images of a chunk; fewer where several chips are measured."""
CALIBRATION_IMAGES, _BATCH = 256, 64
FLOAT = Design(name="float", section="float", words="floating point")

Task = tuple[str, dict[str, Any], Design, int, int]
"""What a worker is sent: the folder, the settings, a design, the number of the chip and of the chunk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What all designs share: the network, its activations' steps, and what its layers read of calibration data."""

    network: Network
    data: "Dataset"
    calibration: Any
    inputs: Any


@lru_cache(maxsize=1)
def bench(out: str, settings: StudySettings) -> Bench:
    """Return the bench of a folder; steps and inputs come from the first training images."""
    import torch

    from picojoule.accuracy import arithmetic_in
    from picojoule.models.data import load
    from picojoule.sim.numerics.calibration import calibrate
    from picojoule.sim.numerics.layer_inputs import layer_inputs

    data = load(settings.data)
    network = priced(trained(Path(out), settings, data))
    images = data.train.images[:CALIBRATION_IMAGES]
    batches = [(torch.tensor(images[i : i + _BATCH]),) for i in range(0, len(images), _BATCH)]
    plain = next(d for d in adc_designs() if d.name == LOSSLESS).accelerator()
    formats = arithmetic_in(plain, network)
    with torch.no_grad():
        steps = calibrate(network, batches, formats, seed=settings.seed)
        inputs = layer_inputs(network, batches, formats, steps, seed=settings.seed)
    return Bench(network=network, data=data, calibration=steps, inputs=inputs)


def right_answers(held: Bench, design: Design, chip: int, first: int, count: int) -> list[bool]:
    """Return for test images `first` and so on whether a design answers right; `chip` is the seed of its devices."""
    import torch

    from picojoule.accuracy import arithmetic_in
    from picojoule.sim.numerics.executor import Executor

    test = held.data.test
    if design == FLOAT:
        executor = Executor(held.network)
    else:
        found = arithmetic_in(design.accelerator(), held.network, seed=chip, samples=held.inputs)
        executor = Executor(held.network, arithmetic=found, calibration=held.calibration)
    right: list[bool] = []
    with torch.no_grad():
        for start in range(first, min(first + count, len(test)), _BATCH):
            stop = min(start + _BATCH, first + count, len(test))
            scores = executor.run((torch.tensor(test.images[start:stop]),))[0]
            right += (scores.argmax(1).numpy() == test.labels[start:stop]).tolist()
    return right


def tasks(designs: Iterable[Design], settings: StudySettings, available: int) -> list[tuple[Design, int, int]]:
    """Return (design, chip, chunk) in rounds of chunks, as far as the settings ask for images and chips."""
    every = [FLOAT, *designs]
    found = []
    for chunk in range(-(-available // CHIP_CHUNK)):
        for design in every:
            first, count = images_of(design, chunk, settings)
            if count > 0 and first < available:
                found += [(design, chip, chunk) for chip in range(settings.chips if design.chips else 1)]
    return found


def images_of(design: Design, chunk: int, settings: StudySettings) -> tuple[int, int]:
    """Return the first image of a design's chunk and how many it has; none beyond what the settings ask for."""
    size, most = (CHIP_CHUNK, settings.chip_images) if design.chips else (CHUNK, settings.images)
    return chunk * size, min(size, most - chunk * size)


def run_points(
    out: Path,
    settings: StudySettings,
    designs: Sequence[Design],
    *,
    jobs: int,
    rounds: int,
    tell: Callable[[str], None],
) -> list[str]:
    """Measure what is not there yet, `rounds` chunks at most; returns problems, a sentence for each point that failed."""
    from picojoule.models.data import load

    open_folder(out, settings)
    wanted = tasks(designs, settings, len(load(settings.data).test))
    left = [(d, p, c) for d, p, c in wanted if c < rounds and not _file(out, d, p, c).exists()]
    workers = ProcessWorkers(jobs)
    problems: list[str] = []
    try:
        for key, (design, chip, chunk) in enumerate(left):
            workers.submit(key, run_point, (str(out), settings.model_dump(mode="json"), design, chip, chunk))
        done = 0
        while done < len(left):
            for point in workers.finished(None):
                done += 1
                if point.problem is not None:
                    problems.append(f"{left[point.key][0].name}: {point.problem}")
                tell(f"{done}/{len(left)} {point.problem or point.result}")
    finally:
        workers.close(kill=True)
    return problems


def run_point(task: Task) -> str:
    """Measure one point in this process and write it; returns a line about it."""
    from picojoule.accuracy import chip_seed
    from picojoule.training import one_thread

    folder, values, design, chip, chunk = task
    out, settings = Path(folder), StudySettings.model_validate(values)
    digest = open_folder(out, settings)
    with one_thread():
        held = bench(folder, settings)
        start = time.process_time()
        seed = chip_seed(settings.seed, chip)
        first, count = images_of(design, chunk, settings)
        right = right_answers(held, design, seed, first, count)
    cpu_s = time.process_time() - start
    record = {
        "settings": digest,
        "changes": dict(design.changes),
        "right": "".join("01"[r] for r in right),
        "cpu_s": cpu_s,
    }
    write_atomic(_file(out, design, chip, chunk), json.dumps(record, allow_nan=False) + "\n")
    return f"{design.name} chip {chip} images {first}+: {np.mean(right):.3f} in {cpu_s:.1f} s"


def answers_of(
    out: Path, settings: StudySettings, designs: Iterable[Design]
) -> Mapping[str, tuple[NDArray[np.bool_], ...]]:
    """Return right answers by design, an array [images] for each chip, as far as they were measured without a gap.

    Raises:
        InputError: for a point of other settings or of another design under the same name.

    """
    digest = open_folder(out, settings)
    found: dict[str, tuple[NDArray[np.bool_], ...]] = {}
    for design in [FLOAT, *designs]:
        chips = []
        for chip in range(settings.chips if design.chips else 1):
            parts: list[NDArray[np.bool_]] = []
            while (file := _file(out, design, chip, len(parts))).exists():
                point = read_json(file)
                if point.get("settings") != digest or point.get("changes") != dict(design.changes):
                    raise InputError(
                        f"{file}: was made with other settings or of another design; delete it, and it is made again"
                    )
                parts.append(np.array([c == "1" for c in point["right"]]))
            if parts:
                chips.append(np.concatenate(parts))
        if chips:
            found[design.name] = tuple(chips)
    return found


def _file(out: Path, design: Design, chip: int, chunk: int) -> Path:
    return out / "points" / f"{design.name}-{chip}-{chunk}.json"
