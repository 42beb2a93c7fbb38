"""The space of a study: parameters in the order of the file, their choices, and what a point of it means."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from picojoule.sim.errors import InputError, PicojouleError
from picojoule.sim.hardware import load_spec
from picojoule.sim.specs import parse_spec
from picojoule.studies.spec import Range, Scalar, StudySpec

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

_MOST_CHOICES = 1 << 20
_LISTED_CHOICES = 256
_CHECKED_CHOICES = 64
"""Values of a range that are tried on the hardware's rules before a study begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One key of the space: its choices, or a range of real numbers without steps (`choices` None)."""

    name: str
    choices: tuple[Scalar, ...] | None
    ordered: bool
    low: float = 0.0
    high: float = 0.0
    log: bool = False

    def distribution(self) -> "BaseDistribution":
        """Return the parameter as Optuna has it; lists are categories, ranges are numbers."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.choices is None:
            return FloatDistribution(self.low, self.high, log=self.log)
        if self.ordered:
            return IntDistribution(0, len(self.choices) - 1)
        return CategoricalDistribution(list(range(len(self.choices))))

    def stored_distribution(self) -> "BaseDistribution":
        """Return the parameter as it stands in a storage, with its real values, which other tools show."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution

        if self.choices is None:
            return FloatDistribution(self.low, self.high, log=self.log)
        numbers = [v for v in self.choices if isinstance(v, int | float) and not isinstance(v, bool)]
        if len(numbers) == len(self.choices) > _LISTED_CHOICES:  # each trial repeats them
            return FloatDistribution(min(numbers), max(numbers))
        return CategoricalDistribution(self.choices)

    def value(self, suggested: Any) -> Scalar:
        """Return the value behind what a sampler suggests: an index of the choices, or the number itself."""
        return float(suggested) if self.choices is None else self.choices[int(suggested)]


def parameters(spec: StudySpec) -> tuple[Parameter, ...]:
    """Return the parameters of a study, in the file's order.

    Raises:
        InputError: for a range of more than a million steps.

    """
    return tuple(_parameter(name, given) for name, given in spec.space.items())


def _parameter(name: str, given: Range | tuple[Scalar, ...]) -> Parameter:
    if not isinstance(given, Range):
        numbers = [v for v in given if isinstance(v, int | float) and not isinstance(v, bool)]
        ordered = len(numbers) == len(given) > 2 and numbers in (sorted(numbers), sorted(numbers, reverse=True))
        return Parameter(name=name, choices=given, ordered=ordered)
    if given.step is None and (not given.whole or (given.log and given.high - given.low > _MOST_CHOICES)):
        return Parameter(
            name=name, choices=None, ordered=True, low=float(given.low), high=float(given.high), log=given.log
        )
    step = given.step if given.step is not None else 1
    count = math.floor((given.high - given.low) / step + 1e-9) + 1
    if count > _MOST_CHOICES:
        raise InputError(f"space.{name}: {count} steps are more than the {_MOST_CHOICES} allowed; take larger steps")
    values = tuple(given.low + i * step if given.whole else _round(given.low + i * step, step) for i in range(count))
    if given.log:
        values = _log_spaced(given)
    return Parameter(name=name, choices=values, ordered=True)


def _round(value: float, step: float) -> float:
    """Return a multiple of a step as people write it: 0.3, not 0.30000000000000004."""
    return round(value, max(0, 9 - math.floor(math.log10(step))))


def _log_spaced(given: Range) -> tuple[int, ...]:
    """Return whole numbers spread evenly in the logarithm: all of a short range, 32 an octave of a long one."""
    octaves = math.log2(given.high / given.low)
    points = [given.low * 2 ** (i / 32) for i in range(math.floor(octaves * 32) + 1)]
    return tuple(sorted({round(p) for p in points} | {int(given.low), int(given.high)}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What a trial tries: hardware keys, settings by method, and arguments of the network."""

    hardware: Mapping[str, Scalar]
    methods: Mapping[str, Mapping[str, Scalar]]
    network: Mapping[str, Scalar]


def point_of(values: Mapping[str, Scalar]) -> Point:
    """Split a trial's values by what they set; methods come in the order of the table of methods: pruning, then bits."""
    hardware = {k.partition(".")[2]: v for k, v in values.items() if k.startswith("hardware.")}
    network = {k.partition(".")[2]: v for k, v in values.items() if k.startswith("network.")}
    settings: dict[str, dict[str, Scalar]] = {}
    for key, value in values.items():
        room, _, rest = key.partition(".")
        if room == "compression":
            method, _, setting = rest.partition(".")
            settings.setdefault(method, {})[setting] = value
    if not settings:
        return Point(hardware=hardware, methods={}, network=network)
    from picojoule.compress import METHODS

    order = [m for m in METHODS if m in settings] + [m for m in settings if m not in METHODS]
    return Point(hardware=hardware, methods={m: settings[m] for m in order}, network=network)


def check_space(spec: StudySpec, where: str) -> None:
    """Refuse keys and values that the hardware file, the network's function or a method would refuse, before anything runs.

    Raises:
        InputError: naming the study's key.

    """
    for parameter in parameters(spec):
        tried = parameter.choices if parameter.choices is not None else (parameter.low, parameter.high)
        if len(tried) > _CHECKED_CHOICES:
            stride = len(tried) // _CHECKED_CHOICES + 1
            tried = (*tried[::stride], tried[-1])
        for value in tried:
            point = point_of({parameter.name: value})
            try:
                if point.hardware:
                    load_spec(spec.hardware, point.hardware)
                for method, settings in point.methods.items():
                    _check_method(method, settings)
                if point.network:
                    _check_network(spec, point.network)
            except PicojouleError as error:
                raise InputError(f"{where}: space.{parameter.name}: {error}") from None


def _check_network(spec: StudySpec, arguments: Mapping[str, Scalar]) -> None:
    from picojoule.studies.network_keys import check_names, plan_of, split_bits

    check_names(spec.network, arguments)
    bits = split_bits(spec.network, arguments)[1]
    if bits is not None:
        plan_of(bits)


def _check_method(method: str, settings: Mapping[str, Scalar]) -> None:
    from picojoule.compress import load_method

    parse_spec(load_method(method).config_type, dict(settings), f"method {method}")
