"""Many trainings of the detector, variant by variant and seed by seed, that go on where they were interrupted.

A point (variant, width, bound, seed) is trained in a process with one thread and leaves two files, written whole or not at
all: `points/NAME.safetensors` (weights) and then `points/NAME.json` (what it reached). A point whose JSON is there is done. The
folder remembers its settings and refuses others, also those of a point copied into it. A quantised point starts from the
weights of its floating-point one.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from picojoule.deform_points import Point
from picojoule.sim.errors import InputError
from picojoule.sim.evaluation import versions
from picojoule.sim.files import write_atomic
from picojoule.studies.process_workers import ProcessWorkers
from picojoule.study_points import read_json

if TYPE_CHECKING:
    from torch import nn

    from picojoule.compress.plan import LayerPlan
    from picojoule.deform_training import TrainingSettings

ROUNDED_BITS = (8, 4)
"""Weight bits at which floating-point networks are measured as they are, without fine-tuning; activations have 8."""
_CALIBRATION = 128


Task = tuple[str, dict[str, Any], str, tuple[Point, ...]]
"""What a worker is sent: the folder, the settings, their digest, and points to do one after the other."""


def open_folder(out: Path, settings: "TrainingSettings") -> str:
    """Return the digest of the settings, after noting them in the folder or comparing with what it notes.

    Raises:
        InputError: if the folder holds results of other settings, or cannot be written.

    """
    values = settings.model_dump(mode="json")
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
    file = out / "settings.json"
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


def run_points(
    out: Path, settings: "TrainingSettings", points: Sequence[Point], *, jobs: int, tell: Callable[[str], None]
) -> list[str]:
    """Train what is not done yet, in `jobs` processes; returns the problems, one sentence a point that failed.

    Raises:
        InputError: if the folder, or a point in it, is of other settings.

    """
    open_folder(out, settings)
    every = list(_chains(points))
    done = results_of(out, [p for chain in every for p in chain])
    chains = [chain for chain in every if any(p not in done for p in chain)]
    return _run(_run_chain, out, settings, chains, jobs=jobs, tell=tell)


def round_points(
    out: Path, settings: "TrainingSettings", points: Iterable[Point], *, jobs: int, tell: Callable[[str], None]
) -> list[str]:
    """Measure trained floating-point networks in integers (`points/NAME.rounded.json`); returns problems as `run_points`."""
    trained = [p for p in results_of(out, points) if p.base is None]
    done = rounded_of(out, trained)
    left = [(p,) for p in trained if p not in done]
    return _run(_round_chain, out, settings, left, jobs=jobs, tell=tell)


def _run(
    function: Callable[[Task], str],
    out: Path,
    settings: "TrainingSettings",
    chains: Sequence[tuple[Point, ...]],
    *,
    jobs: int,
    tell: Callable[[str], None],
) -> list[str]:
    digest = open_folder(out, settings)
    workers = ProcessWorkers(jobs)
    problems: list[str] = []
    try:
        for key, chain in enumerate(chains):
            workers.submit(key, function, (str(out), settings.model_dump(mode="json"), digest, chain))
        left = len(chains)
        while left:
            for done in workers.finished(None):
                left -= 1
                if done.problem is not None:
                    problems.append(f"{chains[done.key][-1].name}: {done.problem}")
                tell(f"{len(chains) - left}/{len(chains)} {done.problem or done.result}")
    finally:
        workers.close(kill=True)
    return problems


def _chains(points: Iterable[Point]) -> Iterator[tuple[Point, ...]]:
    """Yield points to train one after the other: a quantised one behind the one that it starts from."""
    wanted = dict.fromkeys(points)
    quantized = {p.base: p for p in wanted if p.base is not None}
    for point in dict.fromkeys([*wanted, *quantized]):
        if point.base is None:
            yield (point, quantized[point]) if point in quantized else (point,)


def _run_chain(task: Task) -> str:
    from picojoule.deform_training import TrainingSettings

    out, values, digest, chain = task
    settings, told = TrainingSettings.model_validate(values), []
    for point in chain:
        file = Path(out) / "points" / f"{point.name}.json"
        if not file.exists():
            result = train_point(Path(out), settings, point, digest)
            write_atomic(file, json.dumps(result, indent=1, sort_keys=True, allow_nan=False) + "\n")
            told.append(f"{point.name}: val AP50 {result['val']['ap50']:.3f}, {result['times']['cpu_s']:.0f} s CPU")
    return "; ".join(told)


def _round_chain(task: Task) -> str:
    import torch

    from picojoule import deform_quantized, deform_training

    out, values, digest, (point,) = task
    settings = deform_training.TrainingSettings.model_validate(values)
    start = time.process_time()
    network = deform_quantized.network_of(load_point(Path(out), point)[0])
    images = deform_training.training_scenes(settings.train_scenes, point.seed).images[:_CALIBRATION]
    found: dict[str, Any] = {"settings": digest}
    for bits in ROUNDED_BITS:
        arithmetic = partial(deform_quantized.engine_arithmetic, weight_bits=bits)
        run = deform_quantized.in_integers(network, torch.tensor(images), arithmetic)
        found[f"w{bits}a8"] = deform_training.both_parts(run, settings)
    found["times"] = {"cpu_s": time.process_time() - start}
    file = Path(out) / "points" / f"{point.name}.rounded.json"
    write_atomic(file, json.dumps(found, indent=1, sort_keys=True, allow_nan=False) + "\n")
    told = ", ".join(f"W{bits}A8 {found[f'w{bits}a8']['val']['ap50']:.3f}" for bits in ROUNDED_BITS)
    return f"{point.name}: val AP50 {told}"


def train_point(out: Path, settings: "TrainingSettings", point: Point, digest: str) -> dict[str, Any]:
    """Train one point, write its weights, and return what its JSON holds; the test part is read here, once, at the end."""
    import torch
    from safetensors.torch import save

    from picojoule import deform_quantized, deform_training
    from picojoule.networks import load_weights

    start, weights = time.process_time(), out / "points" / f"{point.name}.safetensors"
    model = fresh(point)
    if point.base is not None:
        load_weights(model, out / "points" / f"{point.base.name}.safetensors")
    run: Any = model
    plans: dict[str, LayerPlan] = {}
    if point.base is not None:
        quantized = deform_quantized.quantize(model, settings, seed=point.seed)
        model, fitted, plans = quantized.model, quantized.fitted, dict(quantized.plans)
        images = deform_training.training_scenes(settings.train_scenes, point.seed).images[:_CALIBRATION]
        run = deform_quantized.in_integers(deform_quantized.network_of(model, plans), torch.tensor(images))
    else:
        fitted = deform_training.fit(model, settings, seed=point.seed, epochs=settings.epochs, lr=settings.lr)
    write_atomic(weights, save({name: t.contiguous() for name, t in model.state_dict().items()}))
    return {
        "point": {"variant": point.variant, "width": point.width, "bound": point.bound, "seed": point.seed},
        "settings": digest,
        "arithmetic": "integers, W4A8" if plans else "float32",
        "parameters": sum(p.numel() for p in model.parameters()),
        "history": [dict(h) for h in fitted.history],
        "kept_epoch": fitted.kept,
        "plan": {path: plan.model_dump(mode="json", exclude_none=True) for path, plan in plans.items()},
        **deform_training.both_parts(run, settings),
        "versions": versions(),
        "times": {"cpu_s": time.process_time() - start},
    }


def fresh(point: Point) -> "nn.Module":
    """Return the untrained detector of a point."""
    from picojoule.models.centre_net import build

    return build(point.variant, width=point.width, bound=point.bound, seed=point.seed)


def load_point(out: Path, point: Point) -> "tuple[nn.Module, dict[str, LayerPlan]]":
    """Return a trained detector in evaluation mode and, for a quantised one, formats and steps by module path.

    Raises:
        InputError: if the point was not trained, or its files are torn.

    """
    from picojoule.compress.plan import LayerPlan
    from picojoule.networks import load_weights

    model = fresh(point)
    load_weights(model, out / "points" / f"{point.name}.safetensors")
    plans = {}
    if point.base is not None:
        found = read_json(out / "points" / f"{point.name}.json")
        plans = {path: LayerPlan.model_validate(plan) for path, plan in found["plan"].items()}
    return model.eval(), plans


def results_of(out: Path, points: Iterable[Point]) -> dict[Point, dict[str, Any]]:
    """Return the JSON of every point that is done.

    Raises:
        InputError: if one cannot be read, or was made with other settings than the folder's.

    """
    return _read_points(out, points, "json")


def rounded_of(out: Path, points: Iterable[Point]) -> dict[Point, dict[str, Any]]:
    """Return what `round_points` found, of every point that it has measured: {w8a8: {val, test}, w4a8: {val, test}}."""
    return _read_points(out, points, "rounded.json")


def _read_points(out: Path, points: Iterable[Point], ending: str) -> dict[Point, dict[str, Any]]:
    files = {p: out / "points" / f"{p.name}.{ending}" for p in dict.fromkeys(points)}
    found = {p: read_json(file) for p, file in files.items() if file.exists()}
    here = read_json(out / "settings.json").get("digest") if found else ""
    for point, values in found.items():
        if values.get("settings") != here:
            raise InputError(
                f"{files[point]}: was made with other settings ({values.get('settings')}) than this folder's ({here}, "
                "settings.json); delete it, and it is made again"
            )
    return found
