"""Measures final points of the study: accuracies on the test part, read once a point, and what their converters must take.

Writes `points/NAME.measured.json`; a point that has it is not measured again.
"""

import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from picojoule.bitslice_points import Point
from picojoule.bitslice_study import StudySettings, Tell, key_of, point_file, read_points
from picojoule.sim.files import write_atomic
from picojoule.studies.process_workers import ProcessWorkers

if TYPE_CHECKING:
    import torch
    from torch import Tensor

ALLOWED_DROP = 0.002
"""Of validation accuracy, when converters are made narrower than lossless."""
_REDUCING_IMAGES = {"mlp": 3000, "cnn": 1000}
"""Validation images that decide how narrow converters may be; a CNN's take longer."""
_CALIBRATION_IMAGES = 1000

Task = tuple[str, dict[str, Any], Point, dict[str, Any]]


def measure_points(
    out: Path, settings: StudySettings, results: Mapping[Point, dict[str, Any]], *, jobs: int, tell: Tell
) -> list[str]:
    """Measure final points that were not measured yet; returns the problems, one sentence a point."""
    left = [p for p in results if p.kind == "final" and not point_file(out, p, "measured.json").exists()]
    if not left:
        return []
    workers, problems = ProcessWorkers(jobs), []
    try:
        for key, point in enumerate(left):
            workers.submit(key, _run, (str(out), settings.model_dump(mode="json"), point, results[point]))
        waiting = len(left)
        while waiting:
            for ended in workers.finished(None):
                waiting -= 1
                if ended.problem is not None:
                    problems.append(f"{left[ended.key].name}: {ended.problem}")
                tell(f"{len(left) - waiting}/{len(left)} {ended.problem or ended.result}")
    finally:
        workers.close(kill=True)
    return problems


def measured_of(out: Path, settings: StudySettings, points: Iterable[Point]) -> dict[Point, dict[str, Any]]:
    """Return what was measured, of every point that has it.

    Raises:
        InputError: if a file cannot be read, or was made with other settings.

    """
    return read_points(out, settings, points, "measured.json")


def _run(task: Task) -> str:
    out, values, point, result = task
    settings = StudySettings.model_validate(values)
    found = measure(Path(out), settings, point, result) | {"key": key_of(settings, point)}
    file = point_file(Path(out), point, "measured.json")
    write_atomic(file, json.dumps(found, indent=1, sort_keys=True, allow_nan=False) + "\n")
    test = found["test"]
    return f"{point.name}: test 8 bit {test['8bit']:.4f}, with {found['reduced_bits']} bits {test['reduced']:.4f}"


def measure(out: Path, settings: StudySettings, point: Point, result: Mapping[str, Any]) -> dict[str, Any]:
    """Return test and validation accuracies, reduced ADC bits, and each layer's counts."""
    from torch import nn

    from picojoule import bitslice_crossbars as crossbars
    from picojoule import bitslice_study as study
    from picojoule.bitslice_networks import build, parts_of
    from picojoule.networks import load_weights

    start = time.process_time()
    parts, model = parts_of(settings.data, settings.limit), build(point.network, point.seed)
    load_weights(model, point_file(out, point, "safetensors"))
    exponents = list(result["exponents"].values())
    assert isinstance(model, nn.Sequential)
    network = crossbars.integer_network(model, exponents, parts.train.images[:_CALIBRATION_IMAGES])
    some = _REDUCING_IMAGES[point.network]
    lossless = tuple(result["adc_bits"])
    reduced, tried = crossbars.reduced_bits(
        network, lossless, parts.val.images[:some], parts.val.labels[:some], allowed_drop=ALLOWED_DROP
    )
    test = parts.test
    found: dict[str, Any] = {
        "reduced_bits": list(reduced),
        "designs_tried": len(tried),
        "val": {"images": min(some, len(parts.val.labels)), "lossless": tried[lossless], "reduced": tried[reduced]},
        "test": {
            "float": study.accuracy(model, test.images, test.labels),
            "8bit": crossbars.accuracy(network, crossbars.crossbar_spec(), test.images, test.labels),
            "reduced": crossbars.accuracy(network, crossbars.crossbar_spec(reduced), test.images, test.labels),
        },
    }
    found["layers"] = _layers(model, study.codes_of(model, exponents), test.images[:1])
    found["input_steps"] = list(network.input_steps)
    found["times"] = {"cpu_s": time.process_time() - start}
    return found


def _layers(model: "torch.nn.Module", codes: "list[Tensor]", image: "Tensor") -> list[dict[str, Any]]:
    from picojoule.bitslice_study import INPUT_STEPS, conversions
    from picojoule.compress.bitslice_slices import column_bounds, signed_bits

    made = []
    for code, count in zip(codes, conversions(model, image), strict=True):
        bounds = column_bounds(code).amax(0)  # [output][row tile][slice]
        made.append(
            {
                "outputs": len(code),
                "positions": count // (INPUT_STEPS * len(code)),
                "tile_bits": [[signed_bits(round(b)) for b in tile] for tile in bounds.amax(0).tolist()],
                "live_columns": [[round(n) for n in tile] for tile in (bounds > 0).sum(0).tolist()],
            }
        )
    return made
