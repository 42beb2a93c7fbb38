"""Reads what the points of a study have left on disk: JSON objects that carry the key of all they depend on."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from picojoule.sim.errors import InputError

P = TypeVar("P")


def read_keyed(
    points: Iterable[P], file_of: Callable[[P], Path], key_of: Callable[[P], str]
) -> dict[P, dict[str, Any]]:
    """Return the object of every point that has a file.

    Raises:
        InputError: if one cannot be read, or was made with other settings.

    """
    found = {}
    for point in dict.fromkeys(points):
        file = file_of(point)
        if file.exists():
            values = read_json(file)
            if values.get("key") != key_of(point):
                raise InputError(
                    f"{file}: was made with other settings; delete it, and it is made again, or take another --out"
                )
            found[point] = values
    return found


def read_json(file: Path) -> dict[str, Any]:
    """Return the object in a file.

    Raises:
        InputError: if there is none.

    """
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read ({error}); delete it, and it is made again") from None
    if not isinstance(found, dict):
        raise InputError(f"{file}: must hold an object, got {type(found).__name__}; delete it, and it is made again")
    return found
