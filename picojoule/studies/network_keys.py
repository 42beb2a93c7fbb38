"""Keys `network.<argument>` of a study's space: arguments of the function that builds the network.

`network.weight_bits` is a format where that function has no such parameter: all weights are priced as integers of so many
bits, with a step for each output channel; activations keep the hardware's own format.
"""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from picojoule.compress.plan import LayerPlan, Plan, WeightPlan
from picojoule.networks import builder_parameters
from picojoule.sim.errors import InputError, nearest
from picojoule.sim.formats import parse_format
from picojoule.studies.points import BITS, ROOM, TrainedPoints, read_points
from picojoule.studies.space import parameters
from picojoule.studies.spec import Scalar, StudySpec

_MOST_NETWORKS = 10_000
"""Networks of a space that are looked up in its trained points before the search."""
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def split_bits(network: str, arguments: Mapping[str, Scalar]) -> tuple[dict[str, Scalar], Any]:
    """Return what goes to the function that builds NETWORK, and the bits of all weights (None: as they come)."""
    rest = dict(arguments)
    if BITS not in rest or BITS in builder_parameters(network):
        return rest, None
    bits = rest.pop(BITS)
    return rest, bits


def plan_of(bits: Any) -> Plan:
    """Return the plan that gives all weights integers of so many bits, a step per output channel.

    Raises:
        InputError: for what is no number of bits.

    """
    if isinstance(bits, bool) or not isinstance(bits, int):
        raise InputError(f"{BITS} must be a whole number of bits, got {bits!r}")
    parse_format(f"int{bits}")
    return Plan(layers={"*": LayerPlan(weight=WeightPlan(format=f"int{bits}", per="channel"))})


def check_names(network: str, given: Iterable[str]) -> None:
    """Refuse arguments that the function of NETWORK does not take.

    Raises:
        InputError: naming the function's parameters.

    """
    parameters = builder_parameters(network)
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return
    names = [n for n, p in parameters.items() if p.kind in _NAMED]
    for name in given:
        if name not in names and name != BITS:
            has = f"its parameters are {', '.join(names)}" if names else "it takes none"
            raise InputError(f"{network} has no parameter '{name}' ({has}){nearest(name, names)}")


def check_needed(network: str, given: Iterable[str]) -> None:
    """Refuse a study that does not give all that the function of NETWORK must be given.

    Raises:
        InputError: naming the argument.

    """
    given = set(given)
    for name, parameter in builder_parameters(network).items():
        if parameter.kind in _NAMED and parameter.default is inspect.Parameter.empty and name not in given:
            raise InputError(f"{network} must be given '{name}'; add {ROOM}{name} to the space")


def points_of(spec: StudySpec, say: Callable[[str], None]) -> TrainedPoints | None:
    """Return the trained points of a study, checked against its space.

    Raises:
        InputError: for a table that cannot be read or does not fit, or a range of numbers without steps.

    """
    if spec.points is None:
        return None
    choices = {}
    for parameter in parameters(spec):
        if parameter.name.startswith("network."):
            if parameter.choices is None:
                raise InputError(f"space.{parameter.name}: trained points are at single values; give a list of them")
            choices[parameter.name.partition(".")[2]] = parameter.choices
    points = read_points(Path(spec.points), spec.varied)
    check_names(spec.network, points.constants)
    if math.prod(map(len, choices.values())) <= _MOST_NETWORKS and (lost := points.without(choices)):
        say(lost)
    return points


def shown(arguments: Mapping[str, Scalar]) -> str:
    """Return arguments as a sentence names them: `network.variant=conv3, network.width=0.5`."""
    return ", ".join(f"{ROOM}{name}={value}" for name, value in arguments.items())
