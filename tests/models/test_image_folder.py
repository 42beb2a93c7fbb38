"""Folders of images: both layouts, real images pixel for pixel, and every refusal."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from picojoule.models import data
from picojoule.sim.errors import InputError

Reader = Callable[[str], tuple[NDArray[np.uint8], list[int]]]


def write_images(folder: Path, counts: dict[str, int], *, mode: str = "RGB", size: tuple[int, int] = (6, 5)) -> None:
    rng = np.random.default_rng(0)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for index in range(count):
            pixels = rng.integers(0, 256, (size[1], size[0]) + ((3,) if mode == "RGB" else ()), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index:02}.png")


def test_image_folder_with_parts(tmp_path: Path, foolbox_images: Reader) -> None:
    images, labels = foolbox_images("cifar10")
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        for part in ("train", "test"):
            home = tmp_path / part / f"class{label}"
            home.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(home / f"{index:02}.png")
    (tmp_path / "train" / "class3" / "notes.txt").write_text("passed over")
    found = data.load(f"images:{tmp_path}")
    assert (len(found.train), len(found.val), len(found.test)) == (18, 2, 20)
    assert found.class_names == tuple(f"class{label}" for label in sorted(set(labels)))
    order = sorted(range(20), key=lambda index: (labels[index], index))
    scale, shift = np.array(found.std)[:, None, None], np.array(found.mean)[:, None, None]
    raw = np.round((found.test.images * scale + shift) * 255).astype(np.uint8)
    assert np.array_equal(raw, images[order].transpose(0, 3, 1, 2))


def test_image_folder_with_its_own_validation_and_grey_images(tmp_path: Path) -> None:
    for part, count in (("train", 4), ("val", 2), ("test", 3)):
        write_images(tmp_path / part, {"a": count, "b": count}, mode="L")
    found = data.load(f"images:{tmp_path}")
    assert (len(found.train), len(found.val), len(found.test)) == (8, 4, 6)
    assert found.input_shape == (1, 5, 6)


def test_image_folder_of_classes_only(tmp_path: Path) -> None:
    write_images(tmp_path, {"cat": 30, "dog": 20})
    found = data.load(f"images:{tmp_path}")
    assert (len(found.train), len(found.val), len(found.test)) == (41, 4, 5)
    assert np.bincount(found.test.labels).tolist() == [3, 2]
    assert found.digest == data.load(f"images:{tmp_path}").digest


def test_image_folder_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(folder: str, message: str) -> None:
        with pytest.raises(InputError, match=message):
            data.load(f"images:{tmp_path / folder}")

    (tmp_path / "empty").mkdir()
    refused("empty", "must hold at least two class folders, found 0")
    write_images(tmp_path / "no-test" / "train", {"a": 5, "b": 5})
    refused("no-test", "has train/ but no test/; results are reported on test/ only")
    write_images(tmp_path / "no-test" / "test", {"a": 1, "c": 1})
    refused("no-test", "test/c is a class that .*train does not have")
    write_images(tmp_path / "few", {"a": 2, "b": 2})
    refused("few", "4 training images are too few to hold a part out; at least 10 are needed")
    (tmp_path / "few" / "c").mkdir()
    refused("few", "c holds no .png, .jpg or .jpeg file")
    write_images(tmp_path / "sizes", {"a": 5, "b": 5})
    Image.new("RGB", (7, 5)).save(tmp_path / "sizes" / "b" / "odd.png")
    refused("sizes", r"b/odd.png is 7x5 but .*a/00.png is 6x5; scale all to one size")
    (tmp_path / "sizes" / "b" / "odd.png").write_bytes((tmp_path / "sizes" / "b" / "00.png").read_bytes()[:60])
    refused("sizes", "b/odd.png is torn or not a PNG or JPEG image")
    Image.new("I;16", (6, 5)).save(tmp_path / "sizes" / "b" / "odd.png")
    refused("sizes", "b/odd.png: pixels of kind I;16 are not read; convert to 8-bit grey or RGB")
    Image.new("L", (3000, 5)).save(tmp_path / "sizes" / "b" / "odd.png")
    refused("sizes", r"b/odd.png: images may be at most 2048 pixels on a side, got \(3000, 5\)")
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    refused("sizes", "images:DIR needs Pillow to decode images; install it with 'pip install Pillow'")
