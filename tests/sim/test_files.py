import os
import re
import stat
from pathlib import Path

import pytest

from picojoule.sim.errors import InputError
from picojoule.sim.files import read_bounded, write_atomic


def refuses(message: str):
    return pytest.raises(InputError, match=f"^{re.escape(message)}$")


def test_writes_text_and_bytes_and_makes_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.txt"
    write_atomic(path, "größer\n")
    assert path.read_bytes() == "größer\n".encode()
    write_atomic(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [p.name for p in path.parent.iterdir()] == ["c.txt"]


@pytest.mark.parametrize("failing", ["fsync", "write", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "ctrl-c"])
def test_failure_leaves_the_old_file(
    failing: str, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.json"
    write_atomic(path, "old")

    def fail(*_: object) -> None:
        raise error

    if failing == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    elif failing == "replace":
        monkeypatch.setattr(Path, "replace", fail)
    else:

        def half_written(path: Path, data: bytes) -> None:
            with path.open("wb") as file:
                file.write(data[:2])
            fail()

        monkeypatch.setattr(Path, "write_bytes", half_written)
    with pytest.raises(InputError if isinstance(error, OSError) else KeyboardInterrupt) as caught:
        write_atomic(path, "new")
    if isinstance(error, OSError):
        assert str(caught.value) == f"{path}: cannot write: No space left on device"
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path], "the temporary file stays behind"


def test_data_reach_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = []
    sync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (steps.append(("fsync", os.fstat(handle).st_size)), sync(handle)))
    monkeypatch.setattr(Path, "replace", lambda a, b: (steps.append(("replace", a.stat().st_size)), replace(a, b)))
    write_atomic(tmp_path / "x", "12345")
    assert steps == [("fsync", 5), ("replace", 5)]


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file" / "a", tmp_path / "file" / "b" / "a"):
        with refuses(f"{path}: cannot write: '{path.parent}' is not a folder"):
            write_atomic(path, "y")
    (tmp_path / "folder").mkdir()
    with refuses(f"{tmp_path}/folder: cannot write: Is a directory"):
        write_atomic(tmp_path / "folder", "y")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


def test_reads_within_bounds(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    with refuses(f"{path}: no such file; expected a plan"):
        read_bounded(path, 4, "a plan")
    path.write_bytes(b"")
    with refuses(f"{path}: is empty, expected a plan"):
        read_bounded(path, 4, "a plan")
    path.write_bytes(b"1234")
    assert read_bounded(path, 4, "a plan") == b"1234"
    path.write_bytes(b"12345")
    with refuses(f"{path}: is larger than the 4 bytes allowed for a plan"):
        read_bounded(path, 4, "a plan")
    with refuses(f"{tmp_path}: is a folder, expected a plan"):
        read_bounded(tmp_path, 4, "a plan")


def test_endless_devices_are_bounded_too(tmp_path: Path) -> None:
    (tmp_path / "endless.yaml").symlink_to("/dev/zero")
    with refuses(f"{tmp_path}/endless.yaml: is larger than the 1000 bytes allowed for a plan"):
        read_bounded(tmp_path / "endless.yaml", 1000, "a plan")
