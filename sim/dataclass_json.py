"""Frozen dataclasses as plain JSON values and back, driven by their type hints: a new field needs no code here.

Floats that JSON has no number for are the texts "NaN", "Infinity" and "-Infinity". A field may be left out where the
dataclass has a default; a field is left out when written only if it holds a default that means "nothing" (None, empty) or a
whole default value, so that a file does not change its meaning when a default number does. Left out: what the values mean
(`importers.network_checks`), and types that hold more than values (`Weights`): `leaves` has a function for each of those.
"""

import dataclasses
import difflib
import math
import types
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import cache
from numbers import Integral, Real
from typing import Any, Union, get_args, get_origin, get_type_hints

from picojoule.sim.errors import InputError, nearest

Leaves = Mapping[type, Callable[[Any, str], Any]]
"""How to write or read types that are no plain values: functions of (value, dotted path)."""

_NO_NUMBER = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_LARGEST_INTEGER = 2**63 - 1


def encode(value: Any, leaves: Leaves, where: str = "") -> Any:
    """Return a value as dicts, lists, texts, numbers, booleans and None; deterministic."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float_to_json(float(value))
    if isinstance(value, tuple | list):
        return [encode(v, leaves, f"{where}[{i}]") for i, v in enumerate(value)]
    if type(value) in leaves:
        return leaves[type(value)](value, where)
    kept = [f for f in dataclasses.fields(value) if not _means_nothing(f, getattr(value, f.name))]
    return {f.name: encode(getattr(value, f.name), leaves, f"{where}.{f.name}") for f in kept}


def float_to_json(value: float) -> float | str:
    """Return a float, or the text for one that JSON has no number for."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _means_nothing(field: "dataclasses.Field[Any]", value: Any) -> bool:
    default = field.default
    if default is dataclasses.MISSING or value != default:
        return False
    return default is None or default in ((), "") or dataclasses.is_dataclass(default)


def decode(kind: Any, plain: Any, where: str, leaves: Leaves) -> Any:
    """Return the value of type `kind` that `plain` (from a JSON parser) describes.

    Raises:
        InputError: beginning with `where`, the dotted path, for a wrong type, an unknown or missing key, or a number beyond
            64 bits.

    """
    if get_origin(kind) in (Union, types.UnionType):
        return _decode_union(kind, plain, where, leaves)
    if kind in _SCALARS:
        return _decode_scalar(kind, plain, where)
    if get_origin(kind) is tuple:
        return _decode_tuple(kind, plain, where, leaves)
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        word = _decode_scalar(str, plain, where)
        if word not in set(kind):
            choices = [str(k) for k in kind]
            raise InputError(f"{where}: unknown word '{short(word)}'{nearest(word[:64], choices)}{_listed(choices)}")
        return kind(word)
    if kind in leaves:
        return leaves[kind](plain, where)
    return decode_fields(kind, plain, where, leaves)


def decode_fields(kind: Any, plain: Any, where: str, leaves: Leaves, known: Mapping[str, Any] | None = None) -> Any:
    """Return a dataclass from an object of its fields; `known` gives fields that were decoded elsewhere."""
    fields = {f.name: f for f in dataclasses.fields(kind)}
    check_object(plain, where, fields, required=[n for n, f in fields.items() if _required(f)])
    hints = _hints(kind)
    values = dict(known or {})
    for name in plain:
        if name not in values:
            values[name] = decode(hints[name], plain[name], f"{where}.{name}", leaves)
    return kind(**values)


def check_object(plain: Any, where: str, keys: Mapping[str, Any], required: list[str]) -> None:
    """Refuse what is no object, or has a key not in `keys`, or lacks a required one."""
    if not isinstance(plain, dict):
        raise InputError(f"{where}: must be an object, got {shown(plain)}")
    for key in plain:
        if key not in keys:
            raise InputError(f"{where}: unknown key '{short(key)}'{_nearest_key(key, list(keys))}")
    for key in required:
        if key not in plain:
            raise InputError(f"{where}: the key '{key}' is missing")


def _nearest_key(key: str, keys: list[str]) -> str:
    found = difflib.get_close_matches(key[:64], keys, n=1, cutoff=0.5)
    return f"; did you mean '{found[0]}'?" if found else _listed(keys)


def _listed(words: list[str]) -> str:
    return f" (choose from {', '.join(words)})" if words else " (there are none here)"


_SCALARS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", type(None): "null"}


def _decode_scalar(kind: Any, plain: Any, where: str) -> Any:
    if kind is float and isinstance(plain, int) and not isinstance(plain, bool) and abs(plain) <= _LARGEST_INTEGER:
        return float(plain)
    if kind is float and isinstance(plain, str) and plain in _NO_NUMBER:
        return _NO_NUMBER[plain]
    if type(plain) is not kind:
        raise InputError(f"{where}: must be {_SCALARS[kind]}, got {shown(plain)}")
    if kind is int and abs(plain) > _LARGEST_INTEGER:
        raise InputError(f"{where}: must fit 64 bits, got a number of {plain.bit_length()} bits")
    return plain


def _decode_tuple(kind: Any, plain: Any, where: str, leaves: Leaves) -> tuple[Any, ...]:
    if not isinstance(plain, list):
        raise InputError(f"{where}: must be a list, got {shown(plain)}")
    inner = get_args(kind)
    if len(inner) == 2 and inner[1] is Ellipsis:
        return tuple([decode(inner[0], v, f"{where}[{i}]", leaves) for i, v in enumerate(plain)])
    if len(plain) != len(inner):
        raise InputError(f"{where}: must be a list of {len(inner)}, got {len(plain)}")
    return tuple(decode(k, v, f"{where}[{i}]", leaves) for i, (k, v) in enumerate(zip(inner, plain, strict=True)))


def _decode_union(kind: Any, plain: Any, where: str, leaves: Leaves) -> Any:
    options = [k for k in get_args(kind) if k is not type(None)]
    if plain is None and len(options) < len(get_args(kind)):
        return None
    if len(options) == 1:
        return decode(options[0], plain, where, leaves)
    for option in options:
        if type(plain) is option or (option is float and isinstance(plain, str) and plain in _NO_NUMBER):
            return decode(option, plain, where, leaves)
    raise InputError(f"{where}: must be {' or '.join(_SCALARS.get(k, str(k)) for k in options)}, got {shown(plain)}")


def shown(plain: Any) -> str:
    """Return a JSON value in a few words."""
    if isinstance(plain, dict | list):
        return f"{'an object' if isinstance(plain, dict) else 'a list'} of {len(plain)}"
    if isinstance(plain, str):
        return f"the text '{short(plain)}'"
    if plain is None or isinstance(plain, bool):
        return {None: "null", True: "true", False: "false"}[plain]
    return f"{plain}" if isinstance(plain, float) or abs(plain) < 10**20 else f"a number of {plain.bit_length()} bits"


def short(text: str) -> str:
    """Return a text short enough for a message."""
    return text if len(text) <= 64 else f"{text[:61]}..."


def _required(field: "dataclasses.Field[Any]") -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)
