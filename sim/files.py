"""Files: written whole or not at all, read within bounds."""

import contextlib
import os
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from picojoule.sim.errors import InputError


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a temporary file beside `path`, flush it to the disk and rename it, so that a crash leaves old or new.

    Raises:
        InputError: if the folder cannot be written (missing, read-only, disk full).

    """
    data = content.encode() if isinstance(content, str) else content
    with replaced(path) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Give the name of a temporary file to write; at the end it is flushed to the disk and takes the place of `path`.

    Raises:
        InputError: if the folder cannot be written (missing, read-only, disk full).

    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"{path}: cannot write: '{path.parent}' is not a folder") from None
    except OSError as error:
        raise InputError(f"{path}: cannot write: {error.strerror or error}") from None


_LARGEST_STREAM_BYTES = 64 << 20
"""What is read from a pipe or a device; it may be endless."""


def read_bounded(path: Path, limit_bytes: int, what: str) -> bytes:
    """Return a file's bytes.

    Raises:
        InputError: if it is missing, a folder, unreadable, empty or larger than `limit_bytes`.

    """
    try:
        if path.is_dir():
            raise InputError(f"{path}: is a folder, expected {what}")
        with path.open("rb") as file:
            state = os.fstat(file.fileno())
            if stat.S_ISREG(state.st_mode):  # memory is taken for what is there, not for the limit
                data = file.read(min(state.st_size, limit_bytes) + 1)
            else:  # devices and pipes have no size of their own, so the limit is on what is read
                limit_bytes = min(limit_bytes, _LARGEST_STREAM_BYTES)
                data = file.read(limit_bytes + 1)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected {what}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot read: {error.strerror or error}") from None
    if len(data) > limit_bytes:
        raise InputError(f"{path}: is larger than the {limit_bytes} bytes allowed for {what}")
    if not data:
        raise InputError(f"{path}: is empty, expected {what}")
    return data


def check_uncompressed(archive: zipfile.ZipFile, size_bytes: int, path: Path) -> None:
    """Refuse a zip archive whose records hold more than the file does; torch writes its records as they are.

    Raises:
        InputError: if a record is compressed (a few bytes may unpack to terabytes) or two lie in one place.

    """
    claimed = sum(record.file_size for record in archive.infolist())
    if claimed > size_bytes:
        raise InputError(
            f"{path}: its records unpack to {claimed} bytes, the file has {size_bytes}; save it again with torch, which "
            "compresses nothing"
        )
