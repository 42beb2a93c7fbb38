"""What a STUDY.yaml says, checked once: the space, the objectives, the limits, and how it is searched."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, model_validator

from picojoule.sim.errors import InputError, nearest, unknown_choice
from picojoule.sim.specs import Spec, parse_spec, read_yaml_mapping

SCHEMA = 1

Scalar = bool | int | float | str | None
_ROOMS = ("hardware", "network", "compression")
Sampler = Literal["nsga2", "nsga3", "tpe", "random", "grid"]

METRICS = (
    "accuracy",
    "energy_pj_per_sample",
    "energy_pj",
    "energy_dynamic_pj",
    "energy_static_pj",
    "latency_s",
    "interval_s",
    "accelerator_latency_s",
    "host_latency_s",
    "throughput_per_s",
    "latency_cycles",
    "compute_cycles",
    "stall_cycles",
    "area_mm2",
    "chips",
    "utilization",
    "weight_bytes",
    "peak_activation_bytes",
    "macs",
)
"""What can be an objective or a constraint: accuracy on the validation split, and the numbers of a report's totals."""


class Range(Spec):
    """A range of numbers: whole ones when `low` and `high` are, in steps where `step` is given, even in the logarithm."""

    low: int | float
    high: int | float
    step: Annotated[int | float, Field(gt=0)] | None = None
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> "Range":
        if self.low > self.high:
            raise ValueError(f"low must not be above high, got {self.low} and {self.high}")
        if self.log and self.step is not None:
            raise ValueError("takes a step or log, not both; leave one out")
        if self.log and self.low <= 0:
            raise ValueError(f"a range in the logarithm must begin above 0, got low {self.low}")
        return self

    @property
    def whole(self) -> bool:
        """Whether the range holds whole numbers."""
        return all(isinstance(v, int) for v in (self.low, self.high) if v is not None) and (
            self.step is None or isinstance(self.step, int)
        )


def _listed(value: Any) -> Any:
    """Refuse a scalar where choices are expected, with the remedy, and choices that appear twice."""
    if isinstance(value, Mapping):
        return value
    if not isinstance(value, list | tuple):
        raise ValueError(
            f"must be a list of values or a range (low, high), got {value!r}; one value is written [{value}]"
        )
    if not value:
        raise ValueError("must hold at least one value, got an empty list")
    shown = [json.dumps(v, sort_keys=True, default=str) for v in value]
    if twice := [text for i, text in enumerate(shown) if text in shown[:i]]:
        raise ValueError(f"holds {twice[0]} twice; a value may appear once")
    return tuple(value)


Choices = Annotated[Range | tuple[Scalar, ...], BeforeValidator(_listed)]


class Limits(Spec):
    """Bounds of a metric, both inclusive; at least one."""

    min: float | int | None = None
    max: float | int | None = None

    @model_validator(mode="after")
    def _some(self) -> "Limits":
        if self.min is None and self.max is None:
            raise ValueError("needs min, max or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"nothing lies between min {self.min} and max {self.max}")
        return self


class TrainingSpec(Spec):
    """How much a trial trains, and which trials train fully.

    Every trial with a compression method trains `proxy_epochs`; of each batch the share `promote` that is best by rank then
    trains `epochs`. Where `proxy_epochs` is not below `epochs`, or `promote` is 1, all train fully at once.
    """

    epochs: int = Field(default=6, ge=0, description="of a method, in a trial that trains fully")
    proxy_epochs: int = Field(default=1, ge=0, description="of a method, in the first look at a trial")
    promote: float = Field(default=0.3, gt=0, le=1, description="share of a batch that trains fully")
    pretrain_epochs: int = Field(default=5, ge=0, description="of the original, once, where no weights are given")
    pretrain_lr: float = Field(default=5e-3, gt=0)


class StudySpec(Spec):
    """A study: what is searched, for what, and how."""

    schema_: int = Field(default=SCHEMA, alias="schema")
    network: str
    weights: str | None = Field(default=None, description="state dict of the trained original")
    data: str | None = None
    points: str | None = Field(
        default=None, description="CSV of trained points, which give accuracy; from the study file's folder"
    )
    hardware: str
    space: dict[str, Choices]
    objectives: dict[str, Literal["min", "max"]]
    constraints: dict[str, Limits] = Field(default_factory=dict)
    sampler: Sampler = "nsga2"
    batch_size: int = Field(default=8, ge=1, le=100_000, description="trials proposed at once; not the number of jobs")
    population: int | None = Field(
        default=None, ge=2, le=100_000, description="of nsga2, nsga3; null: chosen at the start"
    )
    trials: int = Field(default=100, ge=1, le=100_000_000)
    training: TrainingSpec = Field(default_factory=TrainingSpec)
    batch: int = Field(default=1, ge=1, description="samples that are priced together")
    storage: str | None = Field(default=None, description="an Optuna RDB URL; null: journal.log in the study's folder")
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> "StudySpec":
        if not self.space:
            raise ValueError("space must hold at least one key, such as hardware.rows: [8, 16]")
        if not self.objectives:
            raise ValueError("objectives must name at least one metric, such as energy_pj_per_sample: min")
        for key in self.space:
            room, _, rest = key.partition(".")
            if room not in _ROOMS or not rest:
                raise ValueError(
                    f"space key '{key}' must be 'hardware.<key>', 'network.<argument>' or 'compression.<method>.<setting>'"
                    + nearest(room, _ROOMS)
                )
            if room == "compression" and "." not in rest:
                raise ValueError(
                    f"space key '{key}' must name a method and a setting: 'compression.<method>.<setting>'"
                )
        for where, metrics in (("objectives", self.objectives), ("constraints", self.constraints)):
            for metric in metrics:
                if metric not in METRICS:
                    raise ValueError(f"{where}: {unknown_choice('metric', metric, list(METRICS))}")
        if self.points is not None and self.compresses:
            raise ValueError("points say what networks reached as they are; leave out points, or the compression keys")
        if self.points is not None and not self.measures_accuracy:
            raise ValueError("points give accuracy; add it to the objectives (accuracy: max), or leave out points")
        if self.compresses and "network.weight_bits" in self.space:
            raise ValueError("network.weight_bits and compression methods both set formats; leave out one")
        if self.data is None and not self.priced_only:
            known = ", or points: FILE.csv with what networks reached" if not self.compresses else ""
            raise ValueError(
                f"accuracy and compression need data; add the key 'data', such as data: fashion-mini{known}"
            )
        return self

    @property
    def compresses(self) -> bool:
        """Whether the space holds settings of compression methods."""
        return any(key.startswith("compression.") for key in self.space)

    @property
    def measures_accuracy(self) -> bool:
        """Whether accuracy is an objective or a constraint."""
        return "accuracy" in self.objectives or "accuracy" in self.constraints

    @property
    def varied(self) -> tuple[str, ...]:
        """Arguments of the network that the space varies."""
        return tuple(key.partition(".")[2] for key in self.space if key.startswith("network."))

    @property
    def priced_only(self) -> bool:
        """Whether a trial is one pricing: nothing is trained and nothing is run."""
        return not self.compresses and (self.points is not None or not self.measures_accuracy)

    @property
    def hardware_only(self) -> bool:
        """Whether a trial is one pricing of the same network on other hardware."""
        return self.priced_only and self.points is None and not self.varied

    @property
    def metrics(self) -> tuple[str, ...]:
        """Objectives, then the constraints that are no objectives."""
        return tuple(dict.fromkeys((*self.objectives, *self.constraints)))

    @property
    def signs(self) -> tuple[float, ...]:
        """What turns each objective into a cost: 1 where it is minimized, -1 where it is maximized."""
        return tuple(-1.0 if sense == "max" else 1.0 for sense in self.objectives.values())

    @property
    def limits(self) -> dict[str, tuple[float | None, float | None]]:
        """Constraints as (min, max)."""
        return {metric: (limit.min, limit.max) for metric, limit in self.constraints.items()}

    def dump(self) -> dict[str, Any]:
        """Return the plain values, keys as in the file."""
        return self.model_dump(mode="json", by_alias=True)

    def to_yaml(self) -> str:
        """Return the study with every default written out."""
        return yaml.safe_dump(self.dump(), sort_keys=False, allow_unicode=True, width=120)


def parse_study(values: dict[str, Any], where: str) -> StudySpec:
    """Return checked values.

    Raises:
        InputError: for another schema, an unknown key, a bad value; one sentence.

    """
    schema = values.get("schema", SCHEMA)
    if isinstance(schema, int) and not isinstance(schema, bool) and schema != SCHEMA:
        age = "an older" if schema < SCHEMA else "a newer"
        raise InputError(
            f"{where}: schema {schema} is {age} one; this version reads schema {SCHEMA}: "
            + ("write the study anew by the README" if schema < SCHEMA else "install a newer picojoule")
        )
    for key, value in dict(values.get("space") or {}).items() if isinstance(values.get("space"), dict) else ():
        if isinstance(value, dict):  # the union's own message would be about tuples
            parse_spec(Range, value, f"{where}: space.{key}")
    return parse_spec(StudySpec, values, where)


def read_study_file(path: Path) -> StudySpec:
    """Return the study in a YAML file.

    Files of network, weights, hardware and data are named from where one stands, those of points from the study's folder.

    Raises:
        InputError: as `parse_study`, and for a file that is missing, torn or no mapping.

    """
    spec = parse_study(read_yaml_mapping(path, "a STUDY.yaml"), str(path))
    return spec if spec.points is None else spec.model_copy(update={"points": str(path.parent / spec.points)})


def differences(old: StudySpec, new: StudySpec) -> list[str]:
    """Return what a study asks differently, one text per key, `trials` aside: a study may grow."""
    before, after = _flat(old.dump()), _flat(new.dump())
    found = []
    for key in dict.fromkeys((*before, *after)):
        if key != "trials" and before.get(key, _ABSENT) != after.get(key, _ABSENT):
            found.append(f"{key}: {_shown(before, key)} -> {_shown(after, key)}")
    if not found and [*old.space] != [*new.space]:
        found.append(f"order of space: {', '.join(old.space)} -> {', '.join(new.space)}")
    return found


_ABSENT = object()


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _shown(values: Mapping[str, Any], key: str) -> str:
    return json.dumps(values[key]) if key in values else "(absent)"
