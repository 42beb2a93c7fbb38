"""Reads the dictionary in which a person writes a loop nest (see `loop_nest`): every value is checked before it is used."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from picojoule.accel.systolic.spec import LARGEST_SIDE
from picojoule.sim.errors import InputError, UnsupportedError, unknown_choice

DIMS = ("N", "K", "C", "P", "Q", "R", "S")
OPERANDS: dict[str, str] = {"Weights": "KCRS", "Inputs": "NCPQRS", "Outputs": "NKPQ"}
"""Each operand's dims."""
LARGEST = 10**18
"""Of a size, a loop or a capacity."""
MOST_LOOPS = 1000
_KEYS = ("id", "workload", "gemm", "rows", "cols", "levels", "keep", "capacity_words", "mapping", "nest")
_STRIDES = ("stride_h", "stride_w")
_PRODUCT = {"m": "P", "n": "K", "k": "C"}
"""The dims of a product m x n x k."""
_SIZES = {**{dim: dim for dim in DIMS}, **{f"gemm_{size.upper()}": dim for size, dim in _PRODUCT.items()}}
_FIXED = {"dilation": 1, "pad": 0}
_LOOP = re.compile(r"([A-Z])([0-9]{1,18})(?:/([0-9]{1,18}))?")
_EXAMPLE = "'DRAM: K4 C2 | GLB: P32 | spatialX: K8 | REG:'"


@dataclass(frozen=True, slots=True)
class Loop:
    """One loop: the level it belongs to, its dim, its steps, those of its ragged last pass; `axis` X or Y when spatial."""

    level: str
    dim: str
    factor: int
    last: int
    axis: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a dictionary says: the fields of a `LoopNest`, and the `sizes` (dim, stated size, where) that its loops must make."""

    rows: int
    cols: int
    levels: tuple[str, ...]
    loops: tuple[Loop, ...]
    stride: tuple[int, int]
    keep: dict[str, frozenset[str]]
    capacity_words: dict[str, int]
    sizes: tuple[tuple[str, int], ...]


def read(document: object) -> Written:
    """Return what the document says, each value checked for itself.

    Raises:
        InputError: for a value of the wrong type or an unknown word, and for statements that exclude each other.
        UnsupportedError: for padding or dilation.

    """
    given = _dictionary("a loop nest", document)
    for key in given:
        if key not in _KEYS:
            raise InputError(unknown_choice("key of a loop nest", key, _KEYS))
    levels = _levels(given.get("levels"))
    sizes, stride = _workload(given)
    return Written(
        rows=whole("rows", given.get("rows"), LARGEST_SIDE),
        cols=whole("cols", given.get("cols"), LARGEST_SIDE),
        levels=levels,
        loops=_loops(given),
        stride=stride,
        keep=_keep(given.get("keep", {}), levels),
        capacity_words=_capacity(given.get("capacity_words", {}), levels),
        sizes=sizes,
    )


def whole(what: str, value: object, most: int = LARGEST) -> int:
    """Return a whole number between 1 and `most`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{what} must be a whole number of at least 1, got {_shown(value)}")
    if value > most:
        raise InputError(f"{what} must be at most {most}, got {_shown(value)}")
    return value


def _shown(value: object) -> str:
    """Return a value as a message shows it: short, whatever it is."""
    if isinstance(value, int) and abs(value) > LARGEST:
        return "a larger number" if value > 0 else "a negative number"
    if isinstance(value, Mapping | list | tuple | set | frozenset) and len(value) > 8:
        return f"a {type(value).__name__} of {len(value)} entries"
    text = repr(value[:80]) if isinstance(value, str) else f"{value}"
    return text if len(text) <= 80 else f"{text[:80]}..."


def _dictionary(what: str, given: object) -> dict[str, Any]:
    if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
        raise InputError(f"{what} must be a dictionary with names as keys, got {_shown(given)}")
    return dict(given)


def _words(what: str, given: object) -> list[str]:
    if not isinstance(given, list | tuple | set | frozenset) or not all(isinstance(word, str) for word in given):
        raise InputError(f"{what} must be a list of names, got {_shown(given)}")
    return list(given)


def _levels(given: object) -> tuple[str, ...]:
    levels = _words("levels", given)
    if len(levels) < 2 or len(set(levels)) < len(levels):
        raise InputError(f"levels must be two or more different names from outer to inner, got {_shown(levels)}")
    return tuple(levels)


# --- loops ----------------------------------------------------------------------------------------------------------------


def _loops(given: Mapping[str, Any]) -> tuple[Loop, ...]:
    if ("mapping" in given) == ("nest" in given):
        raise InputError("a loop nest must have either mapping (text) or nest (a list of loops), one of the two")
    loops = _listed(given["nest"]) if "nest" in given else _written(given["mapping"])
    if len(loops) > MOST_LOOPS:
        raise InputError(f"a loop nest must have at most {MOST_LOOPS} loops, got {len(loops)}")
    return loops


def _written(text: object) -> tuple[Loop, ...]:
    """Return the loops of `LEVEL: K4 C2 | ... | spatialY: C8 | spatialX: K8 | REG:`."""
    if not isinstance(text, str):
        raise InputError(f"mapping must be a text such as {_EXAMPLE}, got {_shown(text)}")
    loops = []
    for part in text.split("|"):
        level, colon, rest = part.strip().partition(":")
        if not colon:
            raise InputError(f"mapping: {_shown(part.strip())} must read 'LEVEL: K4 C2'")
        spatial = level.startswith("spatial")
        if spatial and level not in ("spatialX", "spatialY"):
            raise InputError(unknown_choice("spatial axis", level[:80], ["spatialX", "spatialY"]))
        for word in rest.split():
            found = _LOOP.fullmatch(word)
            if found is None:
                raise InputError(
                    f"mapping: {_shown(word)} in {level[:80]} must be a dim and its steps, such as P4 or P4/1"
                )
            dim, factor, last = found[1], int(found[2]), int(found[3] or found[2])
            loops.append(Loop("ARRAY" if spatial else level, dim, factor, last, level[-1] if spatial else None))
    return tuple(loops)


def _listed(entries: object) -> tuple[Loop, ...]:
    if not isinstance(entries, Sequence) or isinstance(entries, str | bytes):
        raise InputError(f"nest must be a list of loops, outermost first, got {_shown(entries)}")
    return tuple(_entry(f"nest[{place}]", entry) for place, entry in enumerate(islice(entries, MOST_LOOPS + 1)))


def _entry(where: str, given: object) -> Loop:
    entry = _dictionary(where, given)
    keys = ("level", "kind", "axis", "dim", "factor", "last")
    for key in entry:
        if key not in keys:
            raise InputError(f"{where}: " + unknown_choice("key of a loop", key, keys))
    kind, axis, level, dim = (entry.get(key) for key in ("kind", "axis", "level", "dim"))
    if kind not in (None, "temporal", "spatial"):
        raise InputError(f"{where}: " + unknown_choice("kind", _shown(kind), ["temporal", "spatial"]))
    if kind == "spatial":
        if axis not in ("X", "Y"):
            raise InputError(f"{where}: a spatial loop must have axis X or Y, got {_shown(axis)}")
        if level not in (None, "ARRAY"):
            raise InputError(f"{where}: a spatial loop belongs to no level; leave out level {_shown(level)}")
        level = "ARRAY"
    elif axis is not None:
        raise InputError(f"{where}: only a loop of kind spatial has an axis, got {_shown(axis)}")
    if not isinstance(dim, str) or not isinstance(level, str):
        raise InputError(f"{where}: level and dim must be names, got {_shown(level)} and {_shown(dim)}")
    factor = whole(f"{where}: factor", entry.get("factor"))
    return Loop(level, dim, factor, whole(f"{where}: last", entry.get("last", factor)), axis)


# --- sizes, levels -----------------------------------------------------------------------------------------------------------


def _workload(given: Mapping[str, Any]) -> tuple[tuple[tuple[str, int], ...], tuple[int, int]]:
    """Return the stated sizes, as (dim, size), and the strides."""
    workload = _dictionary("workload", given.get("workload", {}))
    for key, value in workload.items():
        if key in _FIXED and value != _FIXED[key]:
            raise UnsupportedError(f"a loop nest counts without padding and dilation, got {key} {_shown(value)}")
        if key not in (*_SIZES, *_STRIDES, *_FIXED):
            raise InputError(unknown_choice("key of workload", key, (*_SIZES, *_STRIDES)))
    stride_h, stride_w = (whole(f"workload: {key}", workload.get(key, 1)) for key in _STRIDES)
    stated = [(_SIZES[key], whole(f"workload: {key}", workload[key])) for key in workload if key in _SIZES]
    if "gemm" not in given:
        return tuple(stated), (stride_h, stride_w)
    product = _dictionary("gemm", given["gemm"])
    if set(product) != set(_PRODUCT):
        raise InputError(f"gemm must have m, n and k, got {_shown(sorted(product))}")
    if stated or (stride_h, stride_w) != (1, 1):
        raise InputError(
            "gemm says all sizes of a product, which has no strides; leave out gemm, or these keys of workload"
        )
    ones = [(dim, 1) for dim in DIMS if dim not in _PRODUCT.values()]
    return (*ones, *((dim, whole(f"gemm: {key}", product[key])) for key, dim in _PRODUCT.items())), (1, 1)


def _keep(given: object, levels: tuple[str, ...]) -> dict[str, frozenset[str]]:
    """Return what each level stores, all operands where nothing is said."""
    keep = dict.fromkeys(levels, frozenset(OPERANDS))
    for level, operands in _dictionary("keep", given).items():
        if level not in levels:
            raise InputError(unknown_choice("level in keep", level, levels))
        keep[level] = frozenset(_words(f"keep: {level}", operands))
        for operand in keep[level] - set(OPERANDS):
            raise InputError(unknown_choice("operand in keep", operand, list(OPERANDS)))
    for level in (levels[0], levels[-1]):
        missing = set(OPERANDS) - keep[level]
        if missing:
            raise InputError(f"keep: {level} must hold every operand, it lacks {', '.join(sorted(missing))}")
    return keep


def _capacity(given: object, levels: tuple[str, ...]) -> dict[str, int]:
    words = _dictionary("capacity_words", given)
    for level in words:
        if level not in levels:
            raise InputError(unknown_choice("level in capacity_words", level, levels))
    return {level: whole(f"capacity_words: {level}", value) for level, value in words.items()}
