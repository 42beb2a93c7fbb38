"""Reads folders of PNG or JPEG images, one folder per class. Needs Pillow.

Two layouts:
- `train/<class>/*` and `test/<class>/*`, with `val/<class>/*` or without (then a tenth of train becomes validation);
- `<class>/*` only: a tenth becomes test, and a tenth of the rest validation, with a fixed seed.

All images must have one size: nothing is scaled or cropped behind your back. They are grey if every file is grey, else
RGB; transparency is dropped. Classes are numbered in the order of their names. Hidden files and other suffixes are
passed over.
"""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from picojoule.models.readers import MAX_SIDE, MAX_VALUES, RawImages
from picojoule.sim.errors import InputError

_SUFFIXES = (".png", ".jpg", ".jpeg")
_GREY = ("1", "L", "LA")
_COLOUR = ("P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """What a folder holds; `val` and `test` are None where they have to be cut from `train`."""

    train: RawImages
    val: RawImages | None
    test: RawImages | None
    class_names: tuple[str, ...]


def read(folder: Path) -> Found:
    """Return the images below `folder` in one of the two layouts; InputError for anything else, and without Pillow."""
    pillow = _pillow()
    if not (folder / "train").is_dir():
        files = _class_files(folder)
        names = tuple(files)
        paths = [path for group in files.values() for path in group]
        mode = _mode(pillow, paths)
        return Found(train=_part(pillow, files, names, mode), val=None, test=None, class_names=names)
    if not (folder / "test").is_dir():
        raise InputError(
            f"{folder} has train/ but no test/; results are reported on test/ only (to report on the images of val/, "
            f"rename it: validation is then cut from train/)"
        )
    groups = {part: _class_files(folder / part) for part in ("train", "val", "test") if (folder / part).is_dir()}
    names = tuple(groups["train"])
    for part, files in groups.items():
        for name in files:
            if name not in names:
                raise InputError(f"{folder / part / name} is a class that {folder / 'train'} does not have")
    mode = _mode(pillow, [path for files in groups.values() for group in files.values() for path in group])
    parts = {part: _part(pillow, files, names, mode) for part, files in groups.items()}
    return Found(train=parts["train"], val=parts.get("val"), test=parts["test"], class_names=names)


def _pillow() -> Any:  # Pillow's image module; typed Any because it is an optional package
    try:
        return importlib.import_module("PIL.Image")
    except ImportError as error:
        raise InputError("images:DIR needs Pillow to decode images; install it with 'pip install Pillow'") from error


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _class_files(folder: Path) -> dict[str, list[Path]]:
    """Return the image files of each class folder, sorted by name."""
    classes = [path for path in _visible(folder) if path.is_dir()]
    files = {path.name: [file for file in _visible(path) if file.suffix.lower() in _SUFFIXES] for path in classes}
    if len(files) < 2:
        raise InputError(f"{folder} must hold at least two class folders, found {len(files)}")
    for name, group in files.items():
        if not group:
            raise InputError(f"{folder / name} holds no .png, .jpg or .jpeg file")
    return files


@contextmanager
def _opened(pillow: Any, path: Path) -> Iterator[Any]:
    """Yield an image with its header read and its size within bounds; InputError names a bad file."""
    try:
        with pillow.open(path, formats=("PNG", "JPEG")) as image:
            if max(image.size) > MAX_SIDE:
                raise InputError(f"{path}: images may be at most {MAX_SIDE} pixels on a side, got {image.size}")
            if image.mode not in _GREY + _COLOUR:
                raise InputError(f"{path}: pixels of kind {image.mode} are not read; convert to 8-bit grey or RGB")
            yield image
    except InputError:
        raise
    except (OSError, ValueError, SyntaxError, pillow.DecompressionBombError) as error:
        raise InputError(f"{path} is torn or not a PNG or JPEG image: {error}") from error


def _head(pillow: Any, path: Path) -> tuple[str, tuple[int, int]]:
    """Return kind of pixels and (width, height), without decoding."""
    with _opened(pillow, path) as image:
        return image.mode, image.size


def _pixels(pillow: Any, path: Path, mode: str) -> NDArray[np.uint8]:
    """Return [height, width] for mode L, [height, width, 3] for RGB."""
    with _opened(pillow, path) as image:
        return np.asarray(image.convert(mode), dtype=np.uint8)


def _mode(pillow: Any, paths: list[Path]) -> str:
    """Return L if every image is grey, else RGB, having checked that all have one size and fit in memory together."""
    heads = [_head(pillow, path) for path in paths]
    first = heads[0][1]
    for path, (_, size) in zip(paths, heads, strict=True):
        if size != first:
            raise InputError(
                f"{path} is {size[0]}x{size[1]} but {paths[0]} is {first[0]}x{first[1]}; scale all to one size"
            )
    mode = "L" if all(head in _GREY for head, _ in heads) else "RGB"
    values = len(paths) * first[0] * first[1] * (1 if mode == "L" else 3)
    if values > MAX_VALUES:
        raise InputError(f"{len(paths)} images of {first[0]}x{first[1]} are {values} values, more than {MAX_VALUES}")
    return mode


def _part(pillow: Any, files: dict[str, list[Path]], names: tuple[str, ...], mode: str) -> RawImages:
    pixels = np.stack([_pixels(pillow, path, mode) for group in files.values() for path in group])
    pixels = pixels[:, None] if mode == "L" else np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
    labels = np.repeat([names.index(name) for name in files], [len(group) for group in files.values()])
    return RawImages(pixels=pixels, labels=labels)
