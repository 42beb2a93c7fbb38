"""Reads raw image files: IDX (MNIST and its relatives) and the binary version of CIFAR-10. NumPy only, no pickle.

Every size found in a file is checked against the file's length and against `MAX_VALUES` before memory is taken, so a
torn or hostile file ends in one sentence that names it.

Formats: https://yann.lecun.com/exdb/mnist (IDX), https://www.cs.toronto.edu/~kriz/cifar.html (CIFAR-10).
"""

import gzip
import zlib
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from picojoule.sim.errors import InputError

MAX_VALUES = 2**29  # pixels in one part: 2 GiB as float32
MAX_SIDE = 2048

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR_RECORD = 1 + 3 * 32 * 32  # a label, then the red, green and blue planes, row by row


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RawImages:
    """Images as stored: `pixels` [n, c, h, w] uint8 between 0 and `largest`, `labels` [n] uint8 or int64."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.integer]
    largest: int = 255

    def take(self, indices: NDArray[np.intp]) -> "RawImages":
        """Return the images at `indices`, in their order."""
        return RawImages(pixels=self.pixels[indices], labels=self.labels[indices], largest=self.largest)


def read_idx(folder: Path) -> tuple[RawImages, RawImages]:
    """Return (train, test) of a folder with the four standard IDX files, each plain or with `.gz`.

    The files lie in `folder`, or in one folder below it (also one level further, in `raw`); InputError if they are in
    several, are missing, torn, or do not fit together.
    """
    home = _idx_home(folder)
    parts = []
    for prefix in ("train", "t10k"):
        image_file = _idx_file(home, f"{prefix}-images-idx3-ubyte")
        label_file = _idx_file(home, f"{prefix}-labels-idx1-ubyte")
        images, labels = read_idx_array(image_file, axes=3), read_idx_array(label_file, axes=1)
        if len(images) != len(labels):
            raise InputError(f"{label_file} holds {len(labels)} labels but {image_file} holds {len(images)} images")
        parts.append(RawImages(pixels=images[:, None], labels=labels))
    train, test = parts
    return train, test


def read_idx_array(path: Path, *, axes: int) -> NDArray[np.uint8]:
    """Return the unsigned bytes of one IDX file of `axes` dimensions, gz or not; InputError for anything else."""
    head_bytes = 4 + 4 * axes
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            head = stream.read(head_bytes)
            if head[:4] != bytes((0, 0, 8, axes)):  # two zeros, type 8 = unsigned byte, number of dimensions
                raise InputError(
                    f"{path} is not an IDX file of unsigned bytes with {axes} dimension{'s' * (axes > 1)}: it must "
                    f"start with 0000080{axes}, got {head[:4].hex() or 'nothing'}"
                )
            if len(head) < head_bytes:
                raise InputError(f"{path} is torn: its header ends after {len(head)} of {head_bytes} bytes")
            shape = tuple(int.from_bytes(head[at : at + 4], "big") for at in range(4, head_bytes, 4))
            if min(shape) < 1 or prod(shape) > MAX_VALUES or max(shape[1:], default=1) > MAX_SIDE:
                raise InputError(
                    f"{path}: sizes {shape} must be at least 1, images at most {MAX_SIDE} on a side and the whole at "
                    f"most {MAX_VALUES} values"
                )
            body = stream.read(prod(shape) + 1)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise InputError(f"{path} is torn or not a gzip file: {error}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    if len(body) != prod(shape):
        found = f"only {len(body)}" if len(body) < prod(shape) else "more"
        raise InputError(f"{path} is torn: its header promises {prod(shape)} bytes of data, it holds {found}")
    return np.frombuffer(body, dtype=np.uint8).reshape(shape)


def read_cifar10(folder: Path) -> tuple[RawImages, RawImages]:
    """Return (train, test) of a folder with data_batch_1.bin to data_batch_5.bin and test_batch.bin, binary version.

    The files lie in `folder` or in its `cifar-10-batches-bin`. Any whole number of records in a file is taken.
    """
    inner = folder / "cifar-10-batches-bin"
    home = inner if inner.is_dir() else folder
    train = [_cifar_file(home / f"data_batch_{number}.bin") for number in range(1, 6)]
    whole = RawImages(
        pixels=np.concatenate([part.pixels for part in train]), labels=np.concatenate([part.labels for part in train])
    )
    return whole, _cifar_file(home / "test_batch.bin")


def _cifar_file(path: Path) -> RawImages:
    try:
        size = path.stat().st_size
        if not size or size % _CIFAR_RECORD or size > MAX_VALUES:
            raise InputError(
                f"{path} is torn or not binary CIFAR-10: its size must be a multiple of {_CIFAR_RECORD} bytes "
                f"(30,730,000 for 10,000 images) and at most {MAX_VALUES}, got {size}"
            )
        records = np.fromfile(path, dtype=np.uint8).reshape(-1, _CIFAR_RECORD)
    except FileNotFoundError as error:
        raise InputError(
            f"{path} is missing; cifar10:DIR needs data_batch_1.bin to data_batch_5.bin and test_batch.bin "
            f"(the binary version)"
        ) from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    labels = records[:, 0]
    if labels.max() > 9:
        at = int(np.argmax(labels > 9))
        raise InputError(f"{path}: record {at} has label {int(labels[at])}, labels must be 0 to 9")
    return RawImages(pixels=records[:, 1:].reshape(-1, 3, 32, 32), labels=labels)


def _idx_home(folder: Path) -> Path:
    """Return the one folder at or below `folder` that holds training images."""
    candidates = [folder, *sorted(inner for inner in folder.iterdir() if inner.is_dir())]
    candidates += [inner / "raw" for inner in candidates]
    homes = [home for home in candidates if list(home.glob("train-images-idx3-ubyte*"))]
    if folder in homes:
        return folder
    if len(homes) > 1:
        raise InputError(f"{folder} holds several data sets ({', '.join(map(str, homes))}); name one of them")
    if not homes:
        raise InputError(f"neither {folder} nor a folder in it holds train-images-idx3-ubyte or the same with .gz")
    return homes[0]


def _idx_file(home: Path, name: str) -> Path:
    for path in (home / name, home / f"{name}.gz"):
        if path.is_file():
            return path
    raise InputError(f"{home / name} is missing, and so is {name}.gz")
