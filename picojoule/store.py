"""Keys for results kept on disk: what a result depends on, hashed, so that a stale one is never taken for a fresh one."""

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any


@cache
def source_digest() -> str:
    """Return a hash over the package's own sources and presets: a changed formula must not meet old results."""
    root = Path(__file__).parent
    found = hashlib.sha256()
    rooms = [root, *(root / name for name in ("sim", "accel", "reram", "models"))]
    files = {f for room in rooms for suffix in ("*.py", "*.yaml") for f in room.resolve().rglob(suffix)}
    for file in sorted(files, key=str):
        found.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return found.hexdigest()


def package_identity() -> dict[str, str]:
    """Return what of this installation results depend on: the package's version and a digest of its sources."""
    return {"picojoule": version("picojoule"), "sources": source_digest()[:16]}


def result_key(config: Mapping[str, Any], data_digest: str) -> str:
    """Return the key of a result: its configuration, the data, the package's version and sources (16 hex digits)."""
    text = json.dumps(
        [dict(config), data_digest, version("picojoule"), source_digest()], sort_keys=True, allow_nan=False
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]
