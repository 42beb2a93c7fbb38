"""The disk side of a hardware-only study: chunks of finished designs, and a journal with one line a chunk.

`designs/000012.npz` is written whole and renamed, then a line with its digest is added to `journal.log` and flushed to the disk.
A study stopped at any moment has the chunks of its journal. Whatever is torn, missing or altered is cut off from there on and
computed again, to the same bytes, since every generation follows from the seed and the generations before it. The caller
holds the study's lock.
"""

import contextlib
import hashlib
import io
import json
import logging
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from picojoule.sim.errors import InputError
from picojoule.sim.files import read_bounded, write_atomic

_log = logging.getLogger("picojoule.studies")

SCHEMA = 1
JOURNAL = "journal.log"
CHUNKS = "designs"
_LIMIT_BYTES = 4 << 30

Chunk = Mapping[str, NDArray[Any]]
"""Arrays by name, none of them of objects."""


@dataclass(slots=True)
class DesignFiles:
    """A study's chunks; `chunks` counts those in the journal."""

    folder: Path
    head: dict[str, Any]
    chunks: int = 0

    def open(self) -> list[Chunk]:
        """Return the chunks that are whole, and cut the journal off after them; start a journal if there is none.

        Raises:
            InputError: if the journal belongs to another study or schema, or the folder cannot be written.

        """
        path = self.folder / JOURNAL
        self._drop_leftovers()
        lines = read_bounded(path, _LIMIT_BYTES, "a study's journal").split(b"\n") if _has_bytes(path) else [b""]
        whole = lines[:-1]  # what stands after the last line end is torn
        if whole:
            self._check_head(whole[0], path)
        found: list[Chunk] = []
        for line in whole[1:]:
            chunk = self._read_chunk(line, len(found))
            if chunk is None:
                break
            found.append(chunk)
        self.chunks = len(found)
        kept = [_line(self.head), *(line + b"\n" for line in whole[1 : 1 + len(found)])]
        if b"".join(kept) != b"\n".join(lines):
            if whole:
                _log.warning("%s: its end was torn or altered; going on after chunk %d", path, len(found))
            write_atomic(path, b"".join(kept))
        return found

    def append(self, chunk: Chunk, designs: int) -> None:
        """Write a chunk and its line; when this returns, both are on the disk.

        Raises:
            InputError: if there is no room; what was written before stays valid.

        """
        buffer = io.BytesIO()
        np.savez(buffer, **chunk)  # type: ignore[arg-type]  # its other keyword is allow_pickle
        data = buffer.getvalue()
        write_atomic(self._chunk_path(self.chunks), data)
        entry = {"chunk": self.chunks, "designs": designs, "sha256": hashlib.sha256(data).hexdigest()}
        _append(self.folder / JOURNAL, _line(entry))
        self.chunks += 1

    def _chunk_path(self, number: int) -> Path:
        return self.folder / CHUNKS / f"{number:06d}.npz"

    def _drop_leftovers(self) -> None:
        """Remove temporary files of a process that was killed while it wrote."""
        for left in (*self.folder.glob(f".{JOURNAL}.*"), *(self.folder / CHUNKS).glob(".*.npz.*")):
            with contextlib.suppress(OSError):
                left.unlink()

    def _check_head(self, line: bytes, path: Path) -> None:
        try:
            head = json.loads(line)
        except ValueError:
            head = None
        if not isinstance(head, dict) or head.get("engine") != self.head["engine"]:
            raise InputError(f"{path}: not the journal of a search over hardware alone; give another --out folder")
        if head.get("schema") != self.head["schema"]:
            raise InputError(
                f"{path}: has schema {head.get('schema')!r}, this version reads {self.head['schema']}; finish the study with "
                "the version that began it, or give another --out folder"
            )
        for name in self.head:
            if head.get(name) != self.head[name]:
                values = f"{head.get(name)!r}, asked is {self.head[name]!r}"
                raise InputError(
                    f"{path}: belongs to another study ({name} {values if len(values) < 99 else 'differs'}); undo the change, or "
                    "give another --out folder"
                )

    def _read_chunk(self, line: bytes, number: int) -> Chunk | None:
        """Return a chunk, or None if its line or its file is not what was written."""
        try:
            entry = json.loads(line)
            data = read_bounded(self._chunk_path(number), _LIMIT_BYTES, "a chunk of designs")
            if entry["chunk"] != number or entry["sha256"] != hashlib.sha256(data).hexdigest():
                return None
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                chunk = {name: arrays[name] for name in arrays.files}
        except (InputError, ValueError, KeyError, TypeError, EOFError, RecursionError, zipfile.BadZipFile):
            return None
        return chunk if len(chunk.get("indices", ())) == entry.get("designs") else None


def digest(value: Any) -> str:
    """Return a short digest of plain values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def texts_to_array(texts: list[str]) -> NDArray[np.uint8]:
    """Return texts as bytes in an array: an array of texts would be as wide as the longest for each."""
    return np.frombuffer(json.dumps(texts).encode(), dtype=np.uint8)


def array_to_texts(array: NDArray[np.uint8]) -> list[str]:
    """Return what `texts_to_array` was given."""
    return [str(text) for text in json.loads(array.tobytes())]


def _line(entry: Mapping[str, Any]) -> bytes:
    return (json.dumps(entry) + "\n").encode()


def _has_bytes(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _append(path: Path, line: bytes) -> None:
    try:
        with path.open("ab", buffering=0) as file:
            if file.write(line) != len(line):
                raise InputError(f"{path}: cannot write: no room left")
            os.fsync(file.fileno())
    except OSError as error:
        raise InputError(f"{path}: cannot write: {error.strerror or error}") from None
