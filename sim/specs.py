"""Files that people write: YAML read safely, checked once into frozen pydantic models, errors in one sentence."""

import math
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from picojoule.sim.errors import InputError, nearest
from picojoule.sim.files import read_bounded

_LIMIT_BYTES = 1 << 20
_LIMIT_DEPTH = 20

Model = TypeVar("Model", bound=BaseModel)


class Spec(BaseModel):
    """Base of everything written by people: frozen, unknown keys refused, no NaN or infinity, no silent conversion."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class _Loader(yaml.SafeLoader):
    """The safe loader that also refuses aliases (no bombs), repeated keys and deep nesting."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.MarkedYAMLError(problem="aliases (*name) are not accepted here", problem_mark=event.start_mark)
        self.depth += 1
        if self.depth > _LIMIT_DEPTH:
            mark = self.peek_event().start_mark
            raise yaml.MarkedYAMLError(problem=f"nested deeper than {_LIMIT_DEPTH} levels", problem_mark=mark)
        node = super().compose_node(parent, index)  # type: ignore[arg-type]
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"key '{key.value}' appears twice", problem_mark=key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep=deep)


def parse_yaml(text: str, where: str) -> Any:
    """Return the plain values of a YAML text.

    Raises:
        InputError: naming `where`, the line and what is wrong.

    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a subclass of the safe loader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{where}:{mark.line + 1}:{mark.column + 1}" if mark else where
        raise InputError(f"{place}: not valid YAML: {error.problem or 'cannot be read'}") from None
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
        raise InputError(f"{where}: {_sentence(error, model)}") from None


def _sentence(error: ValidationError, model: type[BaseModel]) -> str:
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"]) or "the file"
    came = first.get("input")
    shown = repr(came) if isinstance(came, str | int | float | bool | None) else type(came).__name__
    more = len(error.errors()) - 1
    rest = f" (and {more} more)" if more else ""
    if first["type"] == "extra_forbidden":
        choices = list(model.model_fields)
        return f"unknown key '{key}'{nearest(key.split('.')[-1], choices)}{rest}"
    if first["type"] == "missing":
        return f"key '{key}' is missing{rest}"
    if isinstance(came, float) and not math.isfinite(came):
        return f"{key} must be a finite number, got {came}{rest}"
    message = first["msg"].removeprefix("Value error, ")
    rule = message.replace("Input should be", "must be").replace("less than or equal to", "at most")
    rule = rule.replace("greater than or equal to", "at least")
    rule = rule if rule.startswith("must") else f"is refused: {rule[:1].lower()}{rule[1:]}"
    return f"{key} {rule}, got {shown}{rest}"
