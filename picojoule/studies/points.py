"""Trained points: what networks reached when they were trained, read from a table, so that a study need not train them.

The table is a CSV file with a row per network. `network.<argument>` columns say which network it is (`network.weight_bits` may
be written `weight_bits`); a blank cell means that any value is the same network, as the bound of offsets is for one that has
none. `accuracy` is a share between 0 and 1 on validation data; `accuracy_low, accuracy_high, accuracy_test, test_low,
test_high, seeds` may stand beside it and are shown with it; `metric` says what it is (`val AP50`). Other columns are not read.
"""

import csv
import io
import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from picojoule.sim.errors import InputError, nearest
from picojoule.sim.files import read_bounded
from picojoule.studies.spec import Scalar

ROOM, BITS = "network.", "weight_bits"
_SHARES = ("accuracy", "accuracy_low", "accuracy_high", "accuracy_test", "test_low", "test_high")
_NUMBERS = (*_SHARES, "seeds")
_LIMIT_BYTES = 8 << 20
_LIMIT_ROWS = 10_000

Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedPoints:
    """The rows of a table.

    Attributes:
        path: of the file.
        metric: what accuracy is, in the file's words; empty where it says nothing.
        constants: arguments that the space does not vary, with the one value that all rows have.
        patterns: rows by the arguments that they name, then by these arguments' values.

    """

    path: Path
    metric: str
    constants: Mapping[str, Scalar]
    patterns: Mapping[tuple[str, ...], Mapping[Key, Mapping[str, float]]]

    @property
    def words(self) -> str:
        """Return what accuracy of such a study is, to stand in brackets behind the word."""
        return f"{self.metric}, trained points" if self.metric else "trained points"

    def find(self, arguments: Mapping[str, Scalar]) -> Mapping[str, float] | None:
        """Return what the network of these arguments reached: `accuracy` and what stands beside it; None if no row is of it."""
        names = self.deciding(arguments)
        return None if names is None else self.patterns[names][_key(arguments, names)]

    def deciding(self, arguments: Mapping[str, Scalar]) -> tuple[str, ...] | None:
        """Return the arguments that say which network this is; any other value of the rest is the same. None: no row is of it."""
        return next((names for names, rows in self.patterns.items() if _key(arguments, names) in rows), None)

    def without(self, choices: Mapping[str, Sequence[Scalar]]) -> str:
        """Return how many networks of a space no row is of, and which is the first; empty if there is none.

        Raises:
            InputError: if there is a row for none of them.

        """
        networks = [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]
        lost = [network for network in networks if self.find(network) is None]
        if not lost:
            return ""
        first = ", ".join(f"{ROOM}{name}={value}" for name, value in lost[0].items())
        said = f"{self.path}: no trained point for {len(lost)} of {len(networks)} networks, such as {first}"
        if len(lost) == len(networks):
            raise InputError(f"{said}; give a row for each, or other values in the space")
        return f"{said}; their trials fail"


def design_of(values: Mapping[str, Any], points: TrainedPoints | None) -> tuple[tuple[str, str], ...]:
    """Return what is equal for trials with the same network on the same hardware; `values` by the keys of the space."""
    arguments = {key.removeprefix(ROOM): value for key, value in values.items() if key.startswith(ROOM)}
    named = points.deciding(arguments) if points is not None else None
    rest = set() if named is None else {ROOM + name for name in arguments if name not in named}
    return tuple((key, repr(value)) for key, value in values.items() if key not in rest)


def read_points(path: Path, varied: Collection[str]) -> TrainedPoints:
    """Return the points in a file, for a space that varies these arguments of the network.

    Raises:
        InputError: for a missing or torn file, a missing column, a value that is no number or out of range, two rows that mean
            the same network, several metrics, or a column that is not in the space and holds several values.

    """
    head, rows = _table(path)
    columns = {name: _argument(name) for name in head if name == BITS or name.startswith(ROOM)}
    named = list(columns.values())
    if twice := [name for i, name in enumerate(named) if name in named[:i]]:
        raise InputError(f"{path}: column '{ROOM}{twice[0]}' stands there twice; leave one out")
    for wanted in ("accuracy", *(ROOM + name for name in varied)):
        if wanted not in head and _argument(wanted) not in named:
            why = "" if wanted == "accuracy" else ", which the space varies (a blank cell means any value)"
            others = [name for name in head if _argument(name) not in varied]
            raise InputError(f"{path}: has no column '{wanted}'{why}{nearest(wanted, others)}")
    metrics: dict[str, int] = {}
    patterns: dict[tuple[str, ...], dict[Key, Mapping[str, float]]] = {}
    lines: dict[tuple[tuple[str, ...], Key], int] = {}
    constants: dict[str, Scalar] = {}
    for line, row in rows:
        where = f"{path}:{line}"
        metrics.setdefault(row.get("metric", "").strip(), line)
        values = {a: _value(row[c], f"{where}: '{c}'") for c, a in columns.items() if row[c].strip()}
        for name in [n for n in values if n not in varied]:
            value = values.pop(name)
            if _canonical(constants.setdefault(name, value)) != _canonical(value):
                raise InputError(
                    f"{where}: '{ROOM}{name}' is {value} here and {constants[name]} above, but the space does not vary it; "
                    f"add {ROOM}{name} to the space, or leave only the rows of one value"
                )
        key = tuple(_canonical(v) for v in values.values())
        if key in patterns.setdefault(tuple(values), {}):
            raise InputError(f"{where}: {_same_network(lines[tuple(values), key])}")
        lines[tuple(values), key] = line
        patterns[tuple(values)][key] = _numbers(row, where)
    if len(metrics) > 1:
        told = ", ".join(f"'{m}' (line {line})" for m, line in metrics.items())
        raise InputError(f"{path}: 'metric' must be the same in all rows, got {told}; leave only the rows of one")
    _check_apart(path, lines)
    return TrainedPoints(path=path, metric=next(iter(metrics)), constants=constants, patterns=patterns)


def metric_words(path: Path) -> str:
    """Return what accuracy is in the points that lie in a study's folder; empty where they cannot be read."""
    try:
        _, rows = _table(path)
    except InputError:
        return "trained points"
    metric = rows[0][1].get("metric", "").strip()
    return f"{metric}, trained points" if metric else "trained points"


def _table(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Return the header, and rows with the numbers of their lines."""
    try:
        text = read_bounded(path, _LIMIT_BYTES, "a CSV table of trained points").decode("utf-8-sig")
        table = csv.reader(io.StringIO(text, newline=""), strict=True)
        head = [name.strip() for name in next(table)]
        if twice := [name for i, name in enumerate(head) if name and name in head[:i]]:
            raise InputError(f"{path}: column '{twice[0]}' stands there twice; leave one out")
        rows = []
        for cells in table:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(head):
                raise InputError(f"{path}:{table.line_num}: has {len(cells)} cells where the header has {len(head)}")
            rows.append((table.line_num, dict(zip(head, cells, strict=True))))
    except (UnicodeDecodeError, csv.Error, StopIteration) as error:
        raise InputError(f"{path}: is no CSV table of trained points ({error or 'nothing in it'})") from None
    if not rows:
        raise InputError(f"{path}: holds no trained point; give a row per network")
    if len(rows) > _LIMIT_ROWS:
        raise InputError(f"{path}: holds more than {_LIMIT_ROWS:,} rows; give the points of this study only")
    return head, rows


def _argument(column: str) -> str:
    return column.removeprefix(ROOM)


def _value(text: str, where: str) -> Scalar:
    """Return a cell as YAML would have it: a number, true or false, null, or text."""
    word = text.strip()
    if word.lower() in ("true", "false"):
        return word.lower() == "true"
    if word.lower() == "null":
        return None
    for read in (int, float):
        try:
            number = read(word)
        except ValueError:
            continue
        if not math.isfinite(number):
            raise InputError(f"{where} is {word}; give a finite number, or leave it blank where any value will do")
        return number
    return word


def _canonical(value: Scalar) -> Any:
    """Return what is equal for equal values however they are written: 1 and 1.0 and '1', but not true."""
    if isinstance(value, bool):
        return ("true" if value else "false",)
    if isinstance(value, str):
        word = value.strip()
        try:
            return float(word)
        except ValueError:
            return ("text", word)
    return value


def _key(arguments: Mapping[str, Scalar], names: Sequence[str]) -> Key:
    return tuple(_canonical(arguments[name]) for name in names)


def _numbers(row: Mapping[str, str], where: str) -> dict[str, float]:
    found = {}
    for name in _NUMBERS:
        text = row.get(name, "").strip()
        if not text and name != "accuracy":
            continue
        try:
            number = float(text)
        except ValueError:
            raise InputError(f"{where}: '{name}' must be a number, got '{text}'") from None
        if not math.isfinite(number):
            raise InputError(f"{where}: '{name}' must be a finite number, got {text}")
        if name in _SHARES and not 0 <= number <= 1:
            raise InputError(f"{where}: '{name}' must be a share between 0 and 1, got {text}; write 63.1 % as 0.631")
        found[name] = number
    for low, high in (("accuracy_low", "accuracy_high"), ("test_low", "test_high")):
        if low in found and high in found and found[low] > found[high]:
            raise InputError(f"{where}: '{low}' {found[low]:g} is above '{high}' {found[high]:g}")
    return found


def _same_network(line: int) -> str:
    return (
        f"means the same network as line {line} (a blank cell means any value); "
        "average over seeds before, and keep one row for each network"
    )


def _check_apart(path: Path, lines: Mapping[tuple[tuple[str, ...], Key], int]) -> None:
    """Refuse two rows that some network fits both: blank cells make that possible between rows of different patterns."""
    patterns: dict[tuple[str, ...], list[Key]] = {}
    for names, key in lines:
        patterns.setdefault(names, []).append(key)
    for (one, keys), (other, others) in _pairs(patterns):
        shared = [name for name in one if name in other]
        seen = {tuple(key[one.index(name)] for name in shared): key for key in keys}
        for key in others:
            if (met := seen.get(tuple(key[other.index(name)] for name in shared))) is not None:
                first, second = sorted((lines[one, met], lines[other, key]))
                raise InputError(f"{path}:{second}: {_same_network(first)}")


def _pairs(patterns: Mapping[tuple[str, ...], list[Key]]) -> Iterator[Any]:
    listed = list(patterns.items())
    return ((a, b) for i, a in enumerate(listed) for b in listed[i + 1 :])
