"""IDX and CIFAR-10 files come back as they were written; torn, odd and missing ones are refused by name."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from picojoule.models import data, readers
from picojoule.sim.errors import InputError

Tiny = tuple[NDArray[np.uint8], NDArray[np.uint8]]
Writer = Callable[[Path, NDArray[np.uint8]], None]
Reader = Callable[[str], tuple[NDArray[np.uint8], list[int]]]


@pytest.fixture
def tiny() -> Tiny:
    images = np.random.default_rng(0).integers(0, 256, (30, 4, 5), dtype=np.uint8)
    return images, (np.arange(30) % 3).astype(np.uint8)


def write_tiny(write_idx: Writer, folder: Path, tiny: Tiny, suffix: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    images, labels = tiny
    write_idx(folder / f"train-images-idx3-ubyte{suffix}", images[:20])
    write_idx(folder / f"train-labels-idx1-ubyte{suffix}", labels[:20])
    write_idx(folder / f"t10k-images-idx3-ubyte{suffix}", images[20:])
    write_idx(folder / f"t10k-labels-idx1-ubyte{suffix}", labels[20:])


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("below", [".", "fashion", "FashionMNIST/raw"])
def test_idx_round_trip(tmp_path: Path, tiny: Tiny, suffix: str, below: str, write_idx: Writer) -> None:
    write_tiny(write_idx, tmp_path / below, tiny, suffix)
    found = data.load(f"idx:{tmp_path}")
    assert (len(found.train), len(found.val), len(found.test)) == (18, 2, 10)
    assert found.input_shape == (1, 4, 5)
    assert found.class_names == ("0", "1", "2")
    raw = np.round((found.test.images * found.std[0] + found.mean[0]) * 255).astype(np.uint8)
    assert np.array_equal(raw[:, 0], tiny[0][20:])
    assert np.array_equal(found.test.labels, tiny[1][20:])


def test_idx_in_several_folders_asks_for_one(tmp_path: Path, tiny: Tiny, write_idx: Writer) -> None:
    write_tiny(write_idx, tmp_path / "a", tiny)
    write_tiny(write_idx, tmp_path / "b", tiny)
    with pytest.raises(InputError, match=r"holds several data sets \(.*a, .*b\); name one of them"):
        data.load(f"idx:{tmp_path}")


def test_idx_missing_files(tmp_path: Path, tiny: Tiny, write_idx: Writer) -> None:
    with pytest.raises(InputError, match="nor a folder in it holds train-images-idx3-ubyte"):
        data.load(f"idx:{tmp_path}")
    write_tiny(write_idx, tmp_path, tiny)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(InputError, match=r"t10k-labels-idx1-ubyte is missing, and so is t10k-labels-idx1-ubyte.gz"):
        data.load(f"idx:{tmp_path}")


def test_idx_refuses_torn_and_odd_files(tmp_path: Path, tiny: Tiny, write_idx: Writer) -> None:
    plain, packed = tmp_path / "plain-idx3-ubyte", tmp_path / "packed.gz"
    write_idx(plain, tiny[0])
    write_idx(packed, tiny[0])
    whole, zipped = plain.read_bytes(), packed.read_bytes()
    header = whole[:16]
    cases = [
        (plain, whole[:-1], "is torn: its header promises 600 bytes of data, it holds only 599"),
        (plain, whole + b"x", "is torn: its header promises 600 bytes of data, it holds more"),
        (plain, whole[:10], "is torn: its header ends after 10 of 16 bytes"),
        (plain, b"", "with 3 dimensions: it must start with 00000803, got nothing"),
        (plain, b"\x00\x00\x0d\x03" + whole[4:], "must start with 00000803, got 00000d03"),
        (plain, header[:4] + struct.pack(">3I", 0, 4, 5), "sizes (0, 4, 5) must be at least 1"),
        (plain, header[:4] + struct.pack(">3I", 4_000_000_000, 2000, 2000), "and the whole at most 536870912 values"),
        (packed, zipped[:-20], "is torn or not a gzip file"),
        (packed, zipped[:-8] + b"\0" * 8, "is torn or not a gzip file"),  # checksum
        (packed, whole, "is torn or not a gzip file"),
    ]
    for path, content, message in cases:
        path.write_bytes(content)
        with pytest.raises(InputError) as error:
            readers.read_idx_array(path, axes=3)
        assert str(error.value).startswith(str(path))
        assert message in str(error.value)


def test_idx_parts_must_fit_together(tmp_path: Path, tiny: Tiny, write_idx: Writer) -> None:
    write_tiny(write_idx, tmp_path, tiny)
    write_idx(tmp_path / "t10k-labels-idx1-ubyte", tiny[1][:9])
    with pytest.raises(InputError, match=r"t10k-labels-idx1-ubyte holds 9 labels but .* holds 10 images"):
        data.load(f"idx:{tmp_path}")
    write_idx(tmp_path / "t10k-labels-idx1-ubyte", tiny[1][:10] + 3)
    with pytest.raises(InputError, match="test labels go up to 5 but training labels only to 2"):
        data.load(f"idx:{tmp_path}")
    write_idx(tmp_path / "t10k-labels-idx1-ubyte", tiny[1][:10])
    write_idx(tmp_path / "t10k-images-idx3-ubyte", tiny[0][:10, :3])
    with pytest.raises(InputError, match=r"images are \(1, 3, 5\) in one part and \(1, 4, 5\) in another"):
        data.load(f"idx:{tmp_path}")


@pytest.mark.parametrize("below", [".", "cifar-10-batches-bin"])
def test_cifar10_binary_of_real_images(tmp_path: Path, below: str, foolbox_images: Reader) -> None:
    images, labels = foolbox_images("cifar10")
    folder = tmp_path / below
    folder.mkdir(exist_ok=True)
    records = [bytes([label]) + image.transpose(2, 0, 1).tobytes() for image, label in zip(images, labels, strict=True)]
    for number in range(5):
        (folder / f"data_batch_{number + 1}.bin").write_bytes(b"".join(records[3 * number : 3 * number + 3]))
    (folder / "test_batch.bin").write_bytes(b"".join(records[15:]))
    found = data.load(f"cifar10:{tmp_path}")
    assert (len(found.train), len(found.val), len(found.test)) == (13, 2, 5)
    assert found.input_shape == (3, 32, 32)
    assert found.class_names[labels[15]] == found.class_names[found.test.labels[0]]
    scale, shift = np.array(found.std)[:, None, None], np.array(found.mean)[:, None, None]
    raw = np.round((found.test.images * scale + shift) * 255).astype(np.uint8)
    assert np.array_equal(raw, images[15:].transpose(0, 3, 1, 2))
    assert np.allclose(found.train.images.mean((0, 2, 3)), 0, atol=1e-5)


def test_cifar10_refuses_torn_and_missing_files(tmp_path: Path) -> None:
    for number in range(1, 6):
        (tmp_path / f"data_batch_{number}.bin").write_bytes(bytes(2 * 3073))
    with pytest.raises(InputError, match=r"test_batch.bin is missing; cifar10:DIR needs data_batch_1.bin to"):
        data.load(f"cifar10:{tmp_path}")
    (tmp_path / "test_batch.bin").write_bytes(bytes(3072))
    with pytest.raises(InputError, match=r"test_batch.bin is torn .* multiple of 3073 bytes .* got 3072"):
        data.load(f"cifar10:{tmp_path}")
    (tmp_path / "test_batch.bin").write_bytes(bytes(3073) + b"\x0a" + bytes(3072))
    with pytest.raises(InputError, match=r"test_batch.bin: record 1 has label 10, labels must be 0 to 9"):
        data.load(f"cifar10:{tmp_path}")
    (tmp_path / "data_batch_2.bin").unlink()
    with pytest.raises(InputError, match=r"data_batch_2.bin is missing"):
        data.load(f"cifar10:{tmp_path}")
