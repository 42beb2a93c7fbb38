"""Embedded data: fixed splits and digests, the published content, rebuilt by its maker, and learnable."""

import gzip
import importlib.util
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from picojoule.models import data, readers
from picojoule.sim.errors import InputError

ROOT = Path(__file__).parents[2]
Reader = Callable[[str], tuple[NDArray[np.uint8], list[int]]]
Writer = Callable[[Path, NDArray[np.uint8]], None]


def test_digits() -> None:
    found = data.load("digits")
    assert (len(found.train), len(found.val), len(found.test)) == (1257, 180, 360)
    assert found.input_shape == (1, 8, 8)
    assert found.digest == "a9df433f22ac12ae8e76bd592ab0b3e4aa940217b829a16954346e926b7e70df"
    whole = np.concatenate([np.bincount(part.labels) for part in (found.train, found.val, found.test)]).reshape(3, 10)
    # class sizes of the UCI test part, from its documentation
    assert whole.sum(0).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    shares = whole / whole.sum(1, keepdims=True)
    assert np.abs(shares[1:] - shares[0]).max() < 0.01


def test_fashion_mini() -> None:
    found = data.load("fashion-mini")
    assert (len(found.train), len(found.val), len(found.test)) == (4500, 500, 2000)
    assert found.input_shape == (1, 28, 28)
    assert found.classes == 10
    assert found.digest == "527fd3310d548dafe80032e0c5d725acf81ae9f2a990f7d3620c389ef7483239"
    counts = np.bincount(found.train.labels), np.bincount(found.val.labels)
    assert np.abs(counts[1] - counts[0] / 9).max() <= 1  # validation keeps the shares of the classes


@pytest.mark.parametrize("name", ["digits", "fashion-mini"])
def test_embedded_sets_are_normalised_by_their_training_part(name: str) -> None:
    found = data.load(name)
    pixels = found.train.images
    assert pixels.dtype == np.float32
    assert found.train.labels.dtype == np.int64
    assert abs(float(pixels.mean(dtype=np.float64))) < 1e-5
    assert abs(float(pixels.std(dtype=np.float64)) - 1) < 1e-5
    raw = found.test.images * found.std[0] + found.mean[0]
    assert raw.min() == pytest.approx(0, abs=1e-6)
    assert raw.max() == pytest.approx(1, abs=1e-6)
    levels = raw * (16 if name == "digits" else 255)
    assert np.abs(levels - np.round(levels)).max() < 1e-3
    with pytest.raises(ValueError, match="read-only"):
        pixels[0] = 0


def test_parts_do_not_overlap() -> None:
    found = data.load("fashion-mini")
    seen = [{image.tobytes() for image in part.images} for part in (found.train, found.val, found.test)]
    assert len(seen[0]) == 4500  # no doubles among the training images
    assert not seen[0] & seen[1]
    assert not seen[0] & seen[2]
    assert not seen[1] & seen[2]


def test_embedded_files_hold_plain_arrays_and_licences() -> None:
    folder = ROOT / "models" / "data_files"
    for name, key in (("digits", "images"), ("fashion-mini", "train_images")):
        with np.load(folder / f"{name}.npz", allow_pickle=False) as archive:
            assert archive[key].dtype == np.uint8
    assert "CC BY 4.0" in (folder / "LICENSE.digits").read_text()
    assert "Copyright (c) 2017 Zalando SE" in (folder / "LICENSE.fashion-mnist").read_text()


def test_first_fashion_images_are_the_published_ones(foolbox_images: Reader) -> None:
    # foolbox carries 20 images of the Fashion-MNIST test part; those among its first 2,000 must be ours, label included
    images, labels = foolbox_images("fashionMNIST")
    with np.load(ROOT / "models" / "data_files" / "fashion-mini.npz", allow_pickle=False) as archive:
        ours = {image.tobytes(): int(label) for image, label in zip(*_arrays(archive), strict=True)}
    hits = [ours.get(image.tobytes()) for image in images]
    assert sum(hit is not None for hit in hits) >= 4
    assert all(hit in (None, label) for hit, label in zip(hits, labels, strict=True))


def _arrays(archive: np.lib.npyio.NpzFile) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    return archive["test_images"], archive["test_labels"]


def test_maker_rebuilds_the_embedded_files(tmp_path: Path, write_idx: Writer) -> None:
    folder = ROOT / "models" / "data_files"
    with np.load(folder / "digits.npz", allow_pickle=False) as digits:
        rows = np.hstack([digits["images"].reshape(-1, 64), digits["labels"][:, None]])
    with zipfile.ZipFile(tmp_path / "scikit_learn.whl", "w") as wheel:
        text = "\n".join(",".join(map(str, row)) for row in rows.tolist())
        wheel.writestr("sklearn/datasets/data/digits.csv.gz", gzip.compress(text.encode(), 1))
    with np.load(folder / "fashion-mini.npz", allow_pickle=False) as fashion:
        arrays = {key: fashion[key] for key in fashion.files}
    for prefix, part in (("train", "train"), ("t10k", "test")):
        extra = arrays[f"{part}_images"][:3], arrays[f"{part}_labels"][:3]  # the maker must cut these off again
        write_idx(tmp_path / f"{prefix}-images-idx3-ubyte", np.concatenate([arrays[f"{part}_images"], extra[0]]))
        write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte", np.concatenate([arrays[f"{part}_labels"], extra[1]]))

    spec = importlib.util.spec_from_file_location("make_embedded_data", ROOT / "scripts" / "make_embedded_data.py")
    assert spec is not None
    assert spec.loader is not None
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    out = tmp_path / "out"
    maker.main(["--digits", str(tmp_path / "scikit_learn.whl"), "--fashion-mnist", str(tmp_path), "--out", str(out)])
    for name in ("digits.npz", "fashion-mini.npz"):
        with np.load(out / name, allow_pickle=False) as made, np.load(folder / name, allow_pickle=False) as shipped:
            assert made.files == shipped.files
            for key in made.files:
                assert made[key].dtype == np.uint8
                assert np.array_equal(made[key], shipped[key])


def test_held_out_indices_are_spread_over_the_classes() -> None:
    labels = np.repeat([0, 1, 2], [60, 30, 11])
    kept, held = data.split_indices(labels, 10, seed=5)
    assert np.bincount(labels[held]).tolist() == [6, 3, 1]
    assert sorted([*kept.tolist(), *held.tolist()]) == list(range(101))
    assert data.split_indices(labels, 10, seed=5)[1].tolist() == held.tolist()
    assert data.split_indices(labels, 10, seed=6)[1].tolist() != held.tolist()


def test_digest_sees_pixels_labels_and_split() -> None:
    pixels = np.arange(20 * 4, dtype=np.uint8).reshape(20, 1, 2, 2)
    labels = np.arange(20) % 2

    def digest(pixels: NDArray[np.uint8], labels: NDArray[np.integer], cut: int) -> str:
        raw = readers.RawImages(pixels=pixels, labels=labels)
        parts = [raw.take(np.arange(*span)) for span in ((0, cut), (cut, 15), (15, 20))]
        return data._dataset("x", *parts, class_names=("0", "1"), source="").digest

    plain = digest(pixels, labels, 10)
    assert plain == digest(pixels.copy(), labels.astype(np.uint8), 10)
    assert len({plain, digest(pixels + 1, labels, 10), digest(pixels, 1 - labels, 10), digest(pixels, labels, 11)}) == 4


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("digitz", "unknown data set 'digitz'; did you mean 'digits'?"),
        ("fasion-mini", "did you mean 'fashion-mini'?"),
        ("cifar:/x", "unknown data set 'cifar:/x'"),
        ("digits:", "unknown data set 'digits:'; did you mean 'digits'?"),
        ("idx:", "data set 'idx:' needs a folder: idx:DIR"),
        ("cifar10:/no/such/folder", "data set 'cifar10:/no/such/folder': /no/such/folder is not a folder"),
    ],
)
def test_bad_specs(spec: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        data.load(spec)
    assert message in str(error.value)


def accuracy_after_training(name: str, epochs: int) -> float:
    import torch
    from torch.nn import functional as F

    from picojoule.models import zoo

    found = data.load(name)
    module = zoo.build("dscnn-fashion", input_shape=found.input_shape, classes=found.classes).train()
    images, labels = torch.tensor(found.train.images), torch.tensor(found.train.labels)
    steps = epochs * -(-len(labels) // 64)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        for chosen in torch.randperm(len(labels), generator=generator).split(64):
            optimizer.zero_grad()
            F.cross_entropy(module(images[chosen]), labels[chosen]).backward()
            optimizer.step()
            schedule.step()
    module.eval()
    with torch.no_grad():
        predicted = module(torch.tensor(found.val.images)).argmax(1).numpy()
    return float((predicted == found.val.labels).mean())


def test_digits_can_be_learned() -> None:
    assert accuracy_after_training("digits", epochs=5) > 0.9


@pytest.mark.full
def test_fashion_mini_can_be_learned() -> None:
    assert accuracy_after_training("fashion-mini", epochs=10) > 0.83
