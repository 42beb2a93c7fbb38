"""Trains the points of the Hamming study one after the other, and goes on where it was interrupted.

A point leaves `points/NAME.safetensors` and then `points/NAME.json`, each written whole or not at all; a point whose JSON is
there is done. The JSON carries a key of all that the point depends on, and one of another key is refused. The test part is not
looked at here.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from picojoule.hamming_points import ARMS, ARRAY, TRIALS, Point, choose, final_points, trial_points
from picojoule.sim.errors import InputError
from picojoule.sim.evaluation import versions
from picojoule.sim.files import write_atomic
from picojoule.sim.specs import Spec, parse_spec
from picojoule.study_points import read_json, read_keyed

if TYPE_CHECKING:
    from torch import nn

    from picojoule.models.data import Dataset

NETWORK = "mobilenetv2-fashion"
METHOD_VERSION = 1
"""Raised when the method changes what a point would be."""

Tell = Callable[[str], None]


class StudySettings(Spec):
    """Everything a point depends on beside itself."""

    data: str
    network: str = NETWORK
    limit: int | None = Field(default=None, ge=10, description="only so many images of each part (quick runs)")
    base_epochs: int = Field(default=4, ge=0)
    base_lr: float = Field(default=3e-3, gt=0)
    base_weight_decay: float = Field(default=1e-2, ge=0)
    epochs: int = Field(default=1, ge=0)
    lr: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    batch_size: int = Field(default=128, ge=2)


def data_of(settings: StudySettings) -> "Dataset":
    """Return the data, cut to the limit if there is one."""
    from dataclasses import replace

    from picojoule.models.data import Split, load

    data = load(settings.data)
    if settings.limit is None:
        return data
    train, val, test = (
        Split(images=part.images[: settings.limit], labels=part.labels[: settings.limit])
        for part in (data.train, data.val, data.test)
    )
    return replace(data, train=train, val=val, test=test)


def config_of(settings: StudySettings, point: Point) -> dict[str, Any]:
    """Return the fields of the training's HammingConfig; of a base, its own settings."""
    if point.kind == "base":
        names = ("base_epochs", "base_lr", "base_weight_decay", "batch_size")
        return {name: getattr(settings, name) for name in names} | {"seed": point.seed}
    shared = {name: getattr(settings, name) for name in ("epochs", "lr", "weight_decay", "batch_size")}
    searched = TRIALS[point.trial] if point.trial is not None else {}
    return {**shared, "rows": ARRAY, "cols": ARRAY, "seed": point.seed, **ARMS[point.arm].settings, **searched}


def key_of(settings: StudySettings, point: Point) -> str:
    """Return a hash of everything that a point's result depends on."""
    values: dict[str, Any] = {"data": settings.data, "limit": settings.limit, "network": settings.network}
    values |= {"config": config_of(settings, point), "version": METHOD_VERSION if point.base else 0}
    values["base"] = config_of(settings, point.base) if point.base else None
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def run_study(out: Path, settings: StudySettings, seeds: int, tell: Tell) -> list[Point]:
    """Train what is not done yet; returns the final points.

    Raises:
        InputError: if a point in the folder is of other settings.

    """
    run_points(out, settings, trial_points(), tell)
    trial, good = choose(results_of(out, settings, trial_points()))
    tell(f"chosen {dict(TRIALS[trial])}{'' if good else ' (no trial was accurate enough)'}")
    finals = final_points(seeds, trial)
    run_points(out, settings, finals, tell)
    return finals


def chosen_finals(out: Path, settings: StudySettings, seeds: int) -> list[Point]:
    """Return the final points, once all trials are done.

    Raises:
        InputError: if a trial is missing.

    """
    results = results_of(out, settings, trial_points())
    missing = [p.name for p in trial_points() if p not in results]
    if missing:
        raise InputError(f"{out}: trial {missing[0]} was not trained yet; run the study without --tables-only")
    return final_points(seeds, choose(results)[0])


def run_points(out: Path, settings: StudySettings, points: Sequence[Point], tell: Tell) -> None:
    """Train the points that are not done, each after its base."""
    done = results_of(out, settings, [*points, *(p.base for p in points if p.base)])
    data: Dataset | None = None
    for point in points:
        for needed in (point.base, point):
            if needed is None or needed in done:
                continue
            data = data or data_of(settings)
            result = train_point(out, settings, needed, data) | {"key": key_of(settings, needed)}
            text = json.dumps(result, indent=1, sort_keys=True, allow_nan=False) + "\n"
            write_atomic(point_file(out, needed, "json"), text)
            done[needed] = result
            tell(
                f"{needed.name}: val {result['val_accuracy']:.4f}, {result['times']['cpu_s']:.0f} s CPU {result['notes']}"
            )


def point_file(out: Path, point: Point, ending: str) -> Path:
    """Return a file of a point."""
    return out / "points" / f"{point.name}.{ending}"


def train_point(out: Path, settings: StudySettings, point: Point, data: "Dataset") -> dict[str, Any]:
    """Train one point, write its weights, and return what its JSON holds."""
    from safetensors.torch import save

    start = time.process_time()
    model, plan, history, notes = (
        _base(settings, point, data) if point.base is None else _arm(out, settings, point, data)
    )
    state = {n: t.detach().contiguous() for n, t in model.state_dict().items()}
    write_atomic(point_file(out, point, "safetensors"), save(state))
    return {
        "point": {"kind": point.kind, "arm": point.arm, "trial": point.trial},
        "seed": point.seed,
        "config": config_of(settings, point),
        "plan": plan,
        "val_accuracy": history[-1]["val_accuracy"] if history else None,
        "flips": history[-1].get("flips") if history else None,
        "history": history,
        "notes": notes,
        "versions": versions(),
        "data_digest": data.digest,
        "times": {"cpu_s": time.process_time() - start},
    }


def _base(settings: StudySettings, point: Point, data: "Dataset") -> "tuple[nn.Module, None, list[Any], list[str]]":
    from picojoule.training import accuracy, train

    model, history = fresh(settings, point.seed, data), list[dict[str, float]]()

    def on_epoch(record: Any) -> None:
        correct, count = accuracy(model, data.val)
        history.append({**record, "val_accuracy": correct / count})

    train(
        model, data.train, epochs=settings.base_epochs, lr=settings.base_lr, batch_size=settings.batch_size,
        seed=point.seed, weight_decay=settings.base_weight_decay, on_epoch=on_epoch,
    )  # fmt: skip
    return model, None, history, []


def _arm(
    out: Path, settings: StudySettings, point: Point, data: "Dataset"
) -> "tuple[nn.Module, dict[str, Any], list[Any], list[str]]":
    from picojoule.compress.hamming import Hamming
    from picojoule.compress.hamming_config import HammingConfig
    from picojoule.networks import load_weights

    assert point.base is not None
    model = fresh(settings, point.seed, data)
    load_weights(model, point_file(out, point.base, "safetensors"))
    config = parse_spec(HammingConfig, config_of(settings, point), point.name)
    made, artefact = Hamming().fit(model, data, None, config)
    plan = artefact.plan.model_dump(by_alias=True, exclude_none=True, mode="json")
    return made, plan, [dict(h) for h in artefact.history], list(artefact.notes)


def fresh(settings: StudySettings, seed: int, data: "Dataset") -> "nn.Module":
    """Return the untrained network, laid out for the speed of its depthwise convolutions."""
    import torch

    from picojoule.models import zoo

    made = zoo.build(settings.network, input_shape=data.input_shape, classes=data.classes, seed=seed)
    made.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return made


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


# --- what is made of final points and can be made again -------------------------------------------------------------------


def derived_key(result: Mapping[str, Any], basis: Mapping[str, Any]) -> str:
    """Return a hash of a point's whole result (its data, plan and training with it) and of what else a figure depends on."""
    values = {"trained": result, "basis": basis}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def current(
    out: Path, results: Mapping[Point, Mapping[str, Any]], ending: str, basis: Mapping[str, Any]
) -> dict[Point, dict[str, Any]]:
    """Return what `points/NAME.ending` holds, of final points whose file is of this result and basis; older ones are stale.

    Raises:
        InputError: if a file cannot be read.

    """
    found = {}
    for point, result in results.items():
        file = point_file(out, point, ending)
        if point.kind == "final" and file.exists():
            values = read_json(file)
            if values.get("key") == derived_key(result, basis):
                found[point] = values
    return found


def derive(
    out: Path,
    settings: StudySettings,
    results: Mapping[Point, Mapping[str, Any]],
    ending: str,
    basis: Mapping[str, Any],
    made: "Callable[[Point, Mapping[str, Any], Dataset], dict[str, Any]]",
    tell: Tell,
) -> None:
    """Write `points/NAME.ending` of every final point that has none, or a stale one.

    Raises:
        InputError: if the data are no longer those that a point was trained with.

    """
    done, data = current(out, results, ending, basis), None
    for point, result in results.items():
        if point.kind != "final" or point in done:
            continue
        data = data or data_of(settings)
        if data.digest != result["data_digest"]:
            raise InputError(
                f"{settings.data}: its images are not those that {point.name} was trained with; restore them"
            )
        found = made(point, result, data) | {"key": derived_key(result, basis), "basis": dict(basis)}
        text = json.dumps(found, indent=1, sort_keys=True, allow_nan=False) + "\n"
        write_atomic(point_file(out, point, ending), text)
        tell(f"{point.name}: {ending}")
