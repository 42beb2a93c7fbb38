"""Labelled images for training, calibration and accuracy: two embedded sets, and readers for what a user has on disk.

`load` takes `digits`, `fashion-mini`, `idx:DIR`, `cifar10:DIR` or `images:DIR`. Splits are fixed: a validation part
is cut from the training part with a seed that never changes, search and early stopping look at it, and the test part is
for reporting only. NumPy is all it needs (and Pillow for `images:`).

Embedded, under their own licences (`data_files/LICENSE.*`), rebuilt by `scripts/make_embedded_data.py`:
digits        1,797 grey 8x8 images of handwritten digits (test part of UCI's optdigits), split 1,257 / 180 / 360
fashion-mini  grey 28x28: the first 5,000 training images (split 4,500 / 500) and first 2,000 test images of
              Fashion-MNIST

Every part that is cut off keeps the shares of the classes.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from picojoule.models import image_folder, readers
from picojoule.models.readers import RawImages
from picojoule.sim.errors import InputError, unknown_choice

EMBEDDED = ("digits", "fashion-mini")
FORMS = ("digits", "fashion-mini", "idx:DIR", "cifar10:DIR", "images:DIR")

_SPLIT_SEED = 20_240  # any number would do; changing it changes every published accuracy
_USERS_OWN = "read from the folder {folder}; its licence and source are known to whoever put it there"

_FASHION_CLASSES = (
    "t-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Split:
    """One part of a set: `images` [n, c, h, w] float32, normalised; `labels` [n] int64 from 0; both read-only."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dataset:
    """A labelled set of images in three fixed parts.

    Images hold (pixel / largest pixel value - mean) / std per channel; `mean` and `std` are those of the training part.
    `digest` is a SHA-256 over the raw pixels and labels of the three parts, for cache keys and provenance.
    """

    name: str
    train: Split
    val: Split
    test: Split
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str
    digest: str

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Shape of one image: (channels, height, width)."""
        channels, height, width = self.train.images.shape[1:]
        return (channels, height, width)


def load(spec: str) -> Dataset:
    """Return the data set that `spec` names: one of `FORMS`, DIR being a folder.

    idx      the four IDX files of MNIST and its relatives (gz or not), one tenth of the training part for validation
    cifar10  the binary version of CIFAR-10, one tenth of the training part for validation
    images   class folders of PNG or JPEG images, see `image_folder`

    Raises InputError for an unknown spec (with the nearest one), a missing folder or file, and torn or odd content.
    """
    kind, colon, folder = spec.partition(":")
    if not colon and kind in EMBEDDED:
        return _digits() if kind == "digits" else _fashion_mini()
    if kind not in ("idx", "cifar10", "images"):
        raise InputError(unknown_choice("data set", spec, FORMS))
    if not folder:
        raise InputError(f"data set '{spec}' needs a folder: {kind}:DIR")
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise InputError(f"data set '{spec}': {folder} is not a folder")
    if kind == "images":
        found = image_folder.read(path)
        if found.test is None:
            rest, held = split_indices(found.train.labels, _tenth(found.train, spec), seed=_SPLIT_SEED + 1)
            train, test = found.train.take(rest), found.train.take(held)
        else:
            train, test = found.train, found.test
        parts = _with_validation(train, spec) if found.val is None else (train, found.val)
        class_names = found.class_names
    else:
        train, test = readers.read_idx(path) if kind == "idx" else readers.read_cifar10(path)
        parts = _with_validation(train, spec)
        class_names = readers.CIFAR10_CLASSES if kind == "cifar10" else _numbered(train, test, folder)
    return _dataset(spec, *parts, test, class_names=class_names, source=_USERS_OWN.format(folder=folder))


def split_indices(labels: NDArray[np.integer], held: int, *, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return sorted indices (kept, held out): `held` of them, spread over the classes as evenly as their shares allow.

    Depends on the labels and the seed only: raw PCG64 output is the same in every NumPy version.
    """
    order = np.argsort(np.random.PCG64(seed).random_raw(len(labels)), kind="stable")
    values, counts = np.unique(labels, return_counts=True)
    exact = counts * (held / len(labels))
    quota = np.floor(exact).astype(np.int64)
    largest_remainders = np.argsort(-(exact - quota), kind="stable")
    quota[largest_remainders[: held - int(quota.sum())]] += 1
    chosen = [order[labels[order] == value][:count] for value, count in zip(values, quota, strict=True)]
    out = np.zeros(len(labels), dtype=bool)
    out[np.concatenate(chosen)] = True
    return np.flatnonzero(~out), np.flatnonzero(out)


def _tenth(raw: RawImages, name: str) -> int:
    if len(raw.labels) < 10:
        raise InputError(
            f"{name}: {len(raw.labels)} training images are too few to hold a part out; at least 10 are needed"
        )
    return round(len(raw.labels) / 10)


def _with_validation(train: RawImages, name: str) -> tuple[RawImages, RawImages]:
    kept, held = split_indices(train.labels, _tenth(train, name), seed=_SPLIT_SEED)
    return train.take(kept), train.take(held)


def _numbered(train: RawImages, test: RawImages, folder: str) -> tuple[str, ...]:
    """Return class names 0, 1, ... for a set that has none; the test part may not know more classes."""
    count = int(train.labels.max()) + 1
    if int(test.labels.max()) >= count:
        raise InputError(
            f"{folder}: test labels go up to {int(test.labels.max())} but training labels only to {count - 1}"
        )
    return tuple(str(label) for label in range(count))


def _dataset(
    name: str,
    train: RawImages,
    val: RawImages,
    test: RawImages,
    *,
    class_names: tuple[str, ...],
    source: str,
) -> Dataset:
    """Normalise three raw parts by the training part's statistics and hash them."""
    digest = hashlib.sha256()
    for part in (train, val, test):
        if part.pixels.shape[1:] != train.pixels.shape[1:]:
            raise InputError(
                f"{name}: images are {part.pixels.shape[1:]} in one part and {train.pixels.shape[1:]} in another; "
                f"all must have the same (channels, height, width)"
            )
        digest.update(f"{part.pixels.shape}{part.largest}".encode())
        digest.update(np.ascontiguousarray(part.pixels).data)
        digest.update(part.labels.astype("<i8").data)
    mean, std = _statistics(train)
    return Dataset(
        name=name,
        train=_normalised(train, mean, std),
        val=_normalised(val, mean, std),
        test=_normalised(test, mean, std),
        class_names=class_names,
        mean=mean,
        std=std,
        source=source,
        digest=digest.hexdigest(),
    )


def _statistics(raw: RawImages) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation per channel, exact: from the counts of the 256 pixel values."""
    scaled = np.arange(256) / raw.largest
    means, stds = [], []
    for channel in range(raw.pixels.shape[1]):
        share = np.bincount(raw.pixels[:, channel].ravel(), minlength=256) / raw.pixels[:, channel].size
        mean = float(share @ scaled)
        means.append(mean)
        stds.append(float(np.sqrt(share @ (scaled - mean) ** 2)) or 1.0)  # a constant channel becomes zero
    return tuple(means), tuple(stds)


def _normalised(raw: RawImages, mean: tuple[float, ...], std: tuple[float, ...]) -> Split:
    images = raw.pixels.astype(np.float32)
    for channel, (centre, spread) in enumerate(zip(mean, std, strict=True)):
        images[:, channel] *= np.float32(1 / (raw.largest * spread))
        images[:, channel] -= np.float32(centre / spread)
    labels = raw.labels.astype(np.int64)
    images.setflags(write=False)
    labels.setflags(write=False)
    return Split(images=images, labels=labels)


def _embedded(name: str) -> dict[str, NDArray[np.uint8]]:
    path = Path(__file__).parent / "data_files" / f"{name}.npz"
    with np.load(path, allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def _digits() -> Dataset:
    arrays = _embedded("digits")
    raw = RawImages(pixels=arrays["images"][:, None], labels=arrays["labels"], largest=16)
    rest, test = split_indices(raw.labels, 360, seed=_SPLIT_SEED + 1)
    train, val = split_indices(raw.labels[rest], 180, seed=_SPLIT_SEED)
    return _dataset(
        "digits",
        raw.take(rest[train]),
        raw.take(rest[val]),
        raw.take(test),
        class_names=tuple(str(digit) for digit in range(10)),
        source="E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits (1998), UCI Machine Learning "
        "Repository, https://doi.org/10.24432/C50P49, its test part as packaged by scikit-learn; CC BY 4.0",
    )


def _fashion_mini() -> Dataset:
    arrays = _embedded("fashion-mini")
    whole = RawImages(pixels=arrays["train_images"][:, None], labels=arrays["train_labels"], largest=255)
    test = RawImages(pixels=arrays["test_images"][:, None], labels=arrays["test_labels"], largest=255)
    return _dataset(
        "fashion-mini",
        *_with_validation(whole, "fashion-mini"),
        test,
        class_names=_FASHION_CLASSES,
        source="H. Xiao, K. Rasul and R. Vollgraf, Fashion-MNIST (2017), arXiv:1708.07747, first 5,000 training and "
        "first 2,000 test images; MIT, copyright 2017 Zalando SE",
    )
