"""Trains the points of the bit-slice study, and goes on where it was interrupted.

A point leaves `points/NAME.safetensors` (weights on their fixed-point grid, biases) and then `points/NAME.json`, each written
whole or not at all; a point whose JSON is there is done. The JSON carries a key of all settings that the point depends on, and
one of another key is refused. Trainings run in `jobs` processes with one thread each: first phase 1, then the trials, then
the final points with the settings chosen.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from picojoule.bitslice_points import BASES, METHODS, Choice, Point, base_points, choose, final_points, trial_points
from picojoule.sim.errors import InputError
from picojoule.sim.evaluation import versions
from picojoule.sim.files import write_atomic
from picojoule.sim.specs import Spec
from picojoule.studies.process_workers import ProcessWorkers
from picojoule.study_points import read_keyed

if TYPE_CHECKING:
    from torch import Tensor, nn

INPUT_STEPS = 8
"""An 8-bit input comes in 8 pulses."""

Task = tuple[str, dict[str, Any], Point]
Tell = Callable[[str], None]


class StudySettings(Spec):
    """Everything a point depends on beside itself."""

    data: str
    limit: int | None = Field(default=None, ge=10, description="only so many images of each part (quick runs)")
    mlp_pretrain_epochs: int = Field(default=6, ge=0)
    mlp_epochs: int = Field(default=5, ge=0)
    cnn_pretrain_epochs: int = Field(default=5, ge=0)
    cnn_epochs: int = Field(default=4, ge=0)
    pretrain_lr: float = Field(default=0.1, gt=0)
    lr: float = Field(default=0.05, gt=0)

    def epochs(self, network: str) -> tuple[int, int]:
        """Return the epochs of phase 1 and of fine-tuning."""
        values = self.model_dump()
        return values[f"{network}_pretrain_epochs"], values[f"{network}_epochs"]


def key_of(settings: StudySettings, point: Point) -> str:
    """Return a hash of everything that a point's result depends on: data, its own settings, and those of its base."""
    values: dict[str, Any] = {"data": settings.data, "limit": settings.limit, "network": point.network}
    values |= {"config": config_of(settings, point), "base": config_of(settings, point.base) if point.base else None}
    if values["config"]["penalty"] == "columns":
        values["method_version"] = 2  # 2: the training loss chooses S, not the damage to weights
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def run_study(
    out: Path, settings: StudySettings, networks: Sequence[str], *, seeds: int, jobs: int, tell: Tell
) -> list[str]:
    """Train what is not done yet; returns the problems, one sentence a point that failed.

    Raises:
        InputError: if a point in the folder is of other settings.

    """
    problems: list[str] = []
    for stage in (base_points, None):
        points = [p for n in networks for p in (stage(n, seeds) if stage else trial_points(n))]
        problems += run_points(out, settings, points, jobs=jobs, tell=tell)
        if problems:
            return problems
    chosen = {n: choices(out, settings, n) for n in networks}
    for network, of_network in chosen.items():
        for name, choice in of_network.items():
            tell(
                f"{network} {name}: trial {choice.trial} {dict(METHODS[name].trials[choice.trial])} {choice.qualified}"
            )
    finals = [p for n in networks for p in final_points(n, seeds, trials_of(chosen[n]))]
    return run_points(out, settings, finals, jobs=jobs, tell=tell)


def choices(out: Path, settings: StudySettings, network: str) -> dict[str, Choice]:
    """Return the chosen trial of each method, once all trials are done.

    Raises:
        InputError: if a trial is missing.

    """
    wanted = trial_points(network)
    results = results_of(out, settings, wanted)
    missing = [p.name for p in wanted if p not in results]
    if missing:
        raise InputError(f"{out}: trial {missing[0]} was not trained yet; run the study without --tables-only")
    return choose(results, network)


def trials_of(chosen: Mapping[str, Choice]) -> dict[str, int]:
    """Return the trials alone."""
    return {name: c.trial for name, c in chosen.items()}


def run_points(out: Path, settings: StudySettings, points: Sequence[Point], *, jobs: int, tell: Tell) -> list[str]:
    """Train the points that are not done, in this order."""
    done = results_of(out, settings, points)
    left = [p for p in points if p not in done]
    if not left:
        return []
    workers, problems = ProcessWorkers(jobs), []
    try:
        for key, point in enumerate(left):
            workers.submit(key, _run, (str(out), settings.model_dump(mode="json"), point))
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


def _run(task: Task) -> str:
    out, values, point = task
    settings = StudySettings.model_validate(values)
    result = train_point(Path(out), settings, point) | {"key": key_of(settings, point)}
    write_atomic(
        point_file(Path(out), point, "json"), json.dumps(result, indent=1, sort_keys=True, allow_nan=False) + "\n"
    )
    return (
        f"{point.name}: val {result['val_accuracy']:.4f}, bits {result['adc_bits']}, "
        f"{result['adc_energy_pj'] / 1e3:.2f} nJ, {result['times']['cpu_s']:.0f} s CPU"
    )


def point_file(out: Path, point: Point, ending: str) -> Path:
    """Return a file of a point."""
    return out / "points" / f"{point.name}.{ending}"


def train_point(out: Path, settings: StudySettings, point: Point) -> dict[str, Any]:
    """Train one point, write its weights, and return what its JSON holds; the test part is not looked at."""
    from safetensors.torch import save

    from picojoule.bitslice_networks import build, parts_of
    from picojoule.compress.bitslice_columns import conversion_energy
    from picojoule.compress.bitslice_config import BitsliceConfig
    from picojoule.compress.bitslice_training import layers_of, train_bitslice
    from picojoule.networks import load_weights

    start = time.process_time()
    parts, model = parts_of(settings.data, settings.limit), build(point.network, point.seed)
    config = BitsliceConfig(**config_of(settings, point))
    if point.base is not None:
        load_weights(model, point_file(out, point.base, "safetensors"))
    trained = train_bitslice(model, parts.train.images, parts.train.labels, config)
    write_atomic(
        point_file(out, point, "safetensors"), save({n: t.contiguous() for n, t in model.state_dict().items()})
    )
    codes = codes_of(model, trained.exponents)
    lossless = lossless_of(codes, conversions(model, parts.val.images[:1]), conversion_energy(config.adc_model))
    return {
        "point": {"network": point.network, "kind": point.kind, "method": point.method, "trial": point.trial},
        "seed": point.seed,
        "config": config.model_dump(mode="json"),
        "exponents": dict(zip(layers_of(model), trained.exponents, strict=True)),
        "aimed_bits": list(trained.caps.bits) if trained.caps else None,
        "val_accuracy": accuracy(model, parts.val.images, parts.val.labels),
        **lossless,
        "history": list(trained.history),
        "versions": versions(),
        "data_digest": parts.digest,
        "times": {"cpu_s": time.process_time() - start},
    }


def config_of(settings: StudySettings, point: Point) -> dict[str, Any]:
    """Return the fields of the training's BitsliceConfig."""
    first, second = settings.epochs(point.network)
    if point.kind == "base":
        phase = {"penalty": "none", "pretrain_epochs": first, "epochs": 0, "lr": settings.pretrain_lr}
        return {**phase, **BASES[point.method][point.network], "seed": point.seed}
    return {"epochs": second, "lr": settings.lr, "seed": point.seed, **METHODS[point.method].trials[point.trial]}


def accuracy(model: "nn.Module", images: "Tensor", labels: "Tensor") -> float:
    """Return the share of labels found, with rounded weights and floating-point activations."""
    import torch

    from picojoule.training import one_thread

    model.eval()
    with one_thread(), torch.no_grad():
        pairs = zip(torch.split(images, 500), torch.split(labels, 500), strict=True)
        found = [int((model(x).argmax(1) == y).sum()) for x, y in pairs]
    return sum(found) / len(labels)


def codes_of(model: "nn.Module", exponents: Iterable[int]) -> "list[Tensor]":
    """Return the signed integer weights of every layer, as float tensors."""
    from picojoule.compress.bitslice_slices import codes_of_weight, step_of
    from picojoule.compress.bitslice_training import layers_of

    layers = layers_of(model).values()
    return [codes_of_weight(m.weight, step_of(e)) for m, e in zip(layers, exponents, strict=True)]  # type: ignore[arg-type]


def conversions(model: "nn.Module", image: "Tensor") -> list[int]:
    """Return, per layer, the conversions of one image for one row tile and one slice: positions x outputs x input steps."""
    import torch

    from picojoule.compress.bitslice_training import layers_of

    counts: dict[int, int] = {}
    layers = list(layers_of(model).values())
    hooks = [m.register_forward_hook(lambda m, _, y: counts.update({id(m): y[0].numel()})) for m in layers]
    with torch.no_grad():
        model(image)
    for hook in hooks:
        hook.remove()
    return [counts[id(m)] * INPUT_STEPS for m in layers]


def lossless_of(codes: "Sequence[Tensor]", counts: Sequence[int], energy_pj: Callable[[int], float]) -> dict[str, Any]:
    """Return slice shares, lossless ADC bits per slice over all tiles (signed) and the ADC energy of an image.

    A slice that is empty in a whole row tile needs no conversion there.
    """
    from picojoule.compress.bitslice_slices import SLICES, column_bounds, needed_bits, slice_shares

    bits = needed_bits(list(codes))
    live = [
        (column_bounds(c).amax((0, 1)) > 0).sum(0).tolist() for c in codes
    ]  # tiles in which each slice holds anything
    per_slice = [sum(n * tiles[k] for n, tiles in zip(counts, live, strict=True)) for k in range(SLICES)]
    energy = math.fsum(n * energy_pj(b) for n, b in zip(per_slice, bits, strict=True))
    return {
        "slice_shares": list(slice_shares(list(codes))),
        "adc_bits": list(bits),
        "conversions_per_slice": per_slice,
        "adc_energy_pj": energy,
    }


def results_of(out: Path, settings: StudySettings, points: Iterable[Point]) -> dict[Point, dict[str, Any]]:
    """Return the JSON of every point that is done.

    Raises:
        InputError: if one cannot be read, or was made with other settings.

    """
    return read_points(out, settings, points, "json")


def read_points(
    out: Path, settings: StudySettings, points: Iterable[Point], ending: str
) -> dict[Point, dict[str, Any]]:
    """Return what `points/NAME.ending` holds, of every point that has it; errors as `results_of`."""
    return read_keyed(points, lambda p: point_file(out, p, ending), lambda p: key_of(settings, p))
