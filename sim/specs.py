"""Files that people write: YAML read safely, checked once into frozen pydantic models, errors in one sentence."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from picojoule.sim.errors import InputError, nearest
from picojoule.sim.files import read_bounded

_LIMIT_BYTES = 1 << 20
_LIMIT_DEPTH = 20
_LIMIT_VALUES = 30_000
"""Values of a file: reading one takes some 20 microseconds. A plan with a step for each channel of ResNet-50 has 27,000."""
_LIMIT_DIGITS = 40
"""Digits of a whole number; Python itself reads thousands, and then cannot write them into a message."""

Model = TypeVar("Model", bound=BaseModel)


class Spec(BaseModel):
    """Base of everything written by people: frozen, unknown keys refused, no NaN or infinity, no silent conversion."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class _Loader(yaml.SafeLoader):
    """The safe loader that also refuses aliases (no bombs), repeated keys, tags, deep nesting and too many values.

    Numbers are read as people mean them: `1e6` is one (YAML 1.1 wants `1.0e+6`), while `010` (octal there), `2:4` (base 60
    there) and dates stay text.
    """

    depth = 0
    values = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        mark = event.start_mark
        if isinstance(event, yaml.AliasEvent):
            raise yaml.MarkedYAMLError(problem="aliases (*name) are not accepted here", problem_mark=mark)
        if getattr(event, "tag", None) not in (None, "!"):  # `!` alone means text
            self.refuse_tag(event)
        self.depth += 1
        self.values += 1
        if self.values > _LIMIT_VALUES:
            raise yaml.MarkedYAMLError(problem=f"holds more than {_LIMIT_VALUES} values", problem_mark=mark)
        if self.depth > _LIMIT_DEPTH:
            raise yaml.MarkedYAMLError(problem=f"nested deeper than {_LIMIT_DEPTH} levels", problem_mark=mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key must be plain text", problem_mark=key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"key '{key.value}' appears twice", problem_mark=key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep=deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        if len(node.value) > _LIMIT_DIGITS:
            raise yaml.MarkedYAMLError(
                problem=f"a whole number may have {_LIMIT_DIGITS} digits, got {len(node.value)}",
                problem_mark=node.start_mark,
            )
        return int(super().construct_yaml_int(node))

    def refuse_tag(self, node: Any) -> Any:
        tag = node.tag.replace("tag:yaml.org,2002:", "!!")
        raise yaml.MarkedYAMLError(problem=f"tags such as {tag} are not accepted here", problem_mark=node.start_mark)


def _set_resolvers() -> None:
    replaced = ("int", "float", "timestamp", "merge", "value")
    kept = {
        letter: [(tag, pattern) for tag, pattern in entries if tag.rpartition(":")[2] not in replaced]
        for letter, entries in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    _Loader.yaml_implicit_resolvers = kept
    integer = re.compile(r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F_]+)$")
    real = re.compile(
        r"[-+]?(?:(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+|\.(?:inf|Inf|INF))$"
        r"|\.(?:nan|NaN|NAN)$"
    )
    _Loader.add_implicit_resolver("tag:yaml.org,2002:int", integer, list("-+0123456789"))
    _Loader.add_implicit_resolver("tag:yaml.org,2002:float", real, list("-+.0123456789"))
    _Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
    _Loader.add_constructor(None, _Loader.refuse_tag)


_set_resolvers()


def parse_yaml(text: str, where: str) -> Any:
    """Return the plain values of a YAML text.

    Raises:
        InputError: naming `where`, the line and what is wrong.

    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{where}:{mark.line + 1}:{mark.column + 1}" if mark else where
        problem = error.problem or "cannot be read"
        if problem.startswith("but ") and error.context:
            problem = f"{error.context}, {problem}"
        raise InputError(f"{place}: not valid YAML: {problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError, TypeError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{where}: not valid YAML: {first}") from None


def read_yaml_mapping(path: Path, what: str) -> dict[str, Any]:
    """Return the mapping a YAML file holds.

    Raises:
        InputError: if the file is missing, too large, not UTF-8, not YAML or not a mapping.

    """
    raw = read_bounded(path, _LIMIT_BYTES, what)
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text at byte {error.start}; expected {what}") from None
    data = parse_yaml(text, str(path))
    if not isinstance(data, dict) or not all(isinstance(k, str) for k in data):
        raise InputError(f"{path}: expected {what}: a mapping of keys to values")
    return data


def parse_spec(model: type[Model], data: dict[str, Any], where: str) -> Model:
    """Return `data` checked into `model`.

    Raises:
        InputError: one sentence with `where`, the dotted key, the rule and what came (nearest match for unknown keys).

    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise InputError(f"{where}: {_sentence(error, model, data)}") from None


def _sentence(error: ValidationError, model: type[BaseModel], data: Any) -> str:
    """Say the first error, unknown keys before missing ones: a misspelt key causes both."""
    errors = error.errors(include_url=False)
    first = min(errors, key=lambda e: e["type"] != "extra_forbidden")
    path = _path_in(data, first["loc"])
    key = ".".join(path) or "the file"
    more = len({_path_in(data, e["loc"]) for e in errors}) - 1
    rest = f" (and {more} more)" if more else ""
    if first["type"] == "extra_forbidden":
        return f"unknown key '{key}'{nearest(path[-1], _keys_at(model, path[:-1]))}{rest}"
    if first["type"] == "missing":
        return f"key '{key}' is missing{rest}"
    came = first.get("input")
    if isinstance(came, float) and not math.isfinite(came):
        return f"{key} must be a finite number, got {came}{rest}"
    message = first["msg"].removeprefix("Value error, ")
    if message != first["msg"] and isinstance(came, Mapping | list | tuple):
        return (f"{key}: " if path else "") + f"{message}{rest}"
    rule = message.replace("Input should be", "must be").replace("less than or equal to", "at most")
    rule = rule.replace("greater than or equal to", "at least")
    if not path and not rule.startswith("must"):
        return f"{rule}{rest}"
    rule = rule if rule.startswith("must") else f"is refused: {rule[:1].lower()}{rule[1:]}"
    shown = repr(came) if isinstance(came, str | int | float | bool | None) else type(came).__name__
    return f"{key} {rule}" + ("" if ", got " in rule else f", got {shown}") + rest


def _path_in(data: Any, location: tuple[int | str, ...]) -> tuple[str, ...]:
    """Return the part of pydantic's location that exists in the data, without the names of union members."""
    path: list[str] = []
    for i, part in enumerate(location):
        if isinstance(data, Mapping) and (part in data or i == len(location) - 1):
            data = data.get(part)
        elif isinstance(data, list | tuple) and isinstance(part, int):
            data = data[part] if part < len(data) else None
        else:
            continue
        path.append(str(part))
    return tuple(path)


def _keys_at(annotation: Any, path: tuple[str, ...]) -> list[str]:
    """Return the keys that a model knows at a path inside `annotation` (a model, or a container or union of models)."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _keys_at(get_args(annotation)[0], path)
    if origin in (Union, UnionType):
        return [key for member in get_args(annotation) for key in _keys_at(member, path)]
    if origin is not None and path:
        return [key for member in get_args(annotation) for key in _keys_at(member, path[1:])]
    if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return []
    names = {field.alias or name: field.annotation for name, field in annotation.model_fields.items()}
    return _keys_at(names.get(path[0]), path[1:]) if path else list(names)
