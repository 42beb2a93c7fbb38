"""Files: written whole or not at all, read within bounds."""

import os
import tempfile
from pathlib import Path

from picojoule.sim.errors import InputError


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a temporary file beside `path`, flush it to the disk and rename it, so that a crash leaves old or new.

    Raises:
        InputError: if the folder cannot be written (missing, read-only, disk full).

    """
    data = content.encode() if isinstance(content, str) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"{path}: cannot write: '{path.parent}' is not a folder") from None
    except OSError as error:
        raise InputError(f"{path}: cannot write: {error.strerror or error}") from None


def read_bounded(path: Path, limit_bytes: int, what: str) -> bytes:
    """Return a file's bytes.

    Raises:
        InputError: if it is missing, a folder, unreadable, empty or larger than `limit_bytes`.

    """
    try:
        if path.is_dir():
            raise InputError(f"{path}: is a folder, expected {what}")
        with path.open("rb") as file:  # devices and pipes have no size of their own, so the limit is on what is read
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
