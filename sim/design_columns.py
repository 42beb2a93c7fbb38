"""Columns of designs' keys checked by the rules of their hardware file: each distinct value once, not each design."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, TypeAdapter, ValidationError

from picojoule.sim.designs import plain
from picojoule.sim.hardware import load_hardware
from picojoule.sim.protocol import HardwareSpec


@dataclass(frozen=True, slots=True)
class Coded:
    """A column as its distinct values (plain Python ones) and, per design, the place of its value among them."""

    distinct: tuple[Any, ...]
    codes: NDArray[np.intp]


def coded(column: NDArray[Any]) -> Coded:
    """Return a column by its distinct values; True, 1 and 1.0 are three."""
    if column.dtype.kind in "biuf":
        values, codes = np.unique(column, return_inverse=True)
        return Coded(tuple(values.tolist()), codes)
    if column.dtype.kind == "U" and (few := _few_texts(column)) is not None:
        return few
    places: dict[Any, int] = {}
    listed = [plain(value) for value in column.tolist()]
    codes = np.fromiter((places.setdefault(_identity(v), len(places)) for v in listed), np.intp, len(listed))
    first = np.unique(codes, return_index=True)[1]
    return Coded(tuple(listed[i] for i in first), codes)


_FEW = 64


def _few_texts(column: NDArray[Any]) -> Coded | None:
    """Return a column of texts by its distinct values where there are few, in order of first appearance; else None."""
    codes = np.full(len(column), -1, dtype=np.intp)
    distinct: list[str] = []
    first = 0
    while first < len(column):
        if len(distinct) == _FEW:
            return None
        codes[column == column[first]] = len(distinct)
        distinct.append(str(column[first]))
        rest = np.flatnonzero(codes[first:] < 0)
        first = first + int(rest[0]) if len(rest) else len(column)
    return Coded(tuple(distinct), codes)


def _identity(value: Any) -> tuple[type, Any]:
    try:
        hash(value)
    except TypeError:
        return type(value), repr(value)
    return type(value), value


def check_column(spec: HardwareSpec, key: str, values: Sequence[Any]) -> None:
    """Refuse values that `spec` could not have under `key`; fast for many, since only the key's own rule is asked.

    Raises:
        InputError: as `load_hardware` gives it for the first bad value.

    """
    rule = _rule(type(spec), key)
    if rule is not None:
        try:
            rule.validate_python(list(values))
        except ValidationError as error:
            values = [values[int(error.errors(include_url=False)[0]["loc"][0])]]
        else:
            return
    for value in values:
        load_hardware(spec, {key: value})


@cache
def _rule(model: type[HardwareSpec], key: str) -> TypeAdapter[Any] | None:
    """Return the rule of a list of values of a key, None for one that the model does not have at its top level."""
    field = model.model_fields.get(key)
    if field is None:
        return None
    one: Any = field.annotation
    for limit in field.metadata:
        one = Annotated[one, limit]
    return TypeAdapter(list[one], config=ConfigDict(strict=True, allow_inf_nan=False))
