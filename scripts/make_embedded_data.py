#!/usr/bin/env python3
"""Rebuild models/data_files/*.npz from the packages they come from. Only needed to check or change the embedded data.

In an empty scratch folder, on Debian (package lists fresh):

    pip download scikit-learn --no-deps
    apt-get download dataset-fashion-mnist && dpkg -x dataset-fashion-mnist_*.deb fashion
    make_embedded_data.py --digits scikit_learn-*.whl --fashion-mnist fashion/usr/share/datasets/fashion-mnist --out DIR

The arrays depend on the data only; the files' bytes also on the version of zlib.
"""

import argparse
import gzip
import zipfile
from pathlib import Path

import numpy as np

from picojoule.models.readers import read_idx

DIGITS_MEMBER = "sklearn/datasets/data/digits.csv.gz"
TRAIN_IMAGES, TEST_IMAGES = 5_000, 2_000


def make_digits(wheel: Path, out: Path) -> Path:
    """Write digits.npz: `images` [1797, 8, 8] between 0 and 16, `labels` [1797], in the package's order."""
    with zipfile.ZipFile(wheel) as archive:
        table = np.loadtxt(gzip.decompress(archive.read(DIGITS_MEMBER)).decode().splitlines(), delimiter=",")
    rows = table.astype(np.uint8)
    if not np.array_equal(rows, table):
        raise SystemExit(f"{wheel}: {DIGITS_MEMBER} holds more than small whole numbers")
    path = out / "digits.npz"
    np.savez_compressed(path, images=rows[:, :64].reshape(-1, 8, 8), labels=rows[:, 64])
    return path


def make_fashion_mini(folder: Path, out: Path) -> Path:
    """Write fashion-mini.npz: the first training and test images, [n, 28, 28], and their labels."""
    train, test = read_idx(folder)
    path = out / "fashion-mini.npz"
    np.savez_compressed(
        path,
        train_images=train.pixels[:TRAIN_IMAGES, 0],
        train_labels=train.labels[:TRAIN_IMAGES].astype(np.uint8),
        test_images=test.pixels[:TEST_IMAGES, 0],
        test_labels=test.labels[:TEST_IMAGES].astype(np.uint8),
    )
    return path


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--digits", type=Path, metavar="WHEEL", required=True, help="a scikit-learn wheel")
    parser.add_argument("--fashion-mnist", type=Path, metavar="DIR", required=True, help="folder of the four IDX files")
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="where to write the two files")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    for path in (make_digits(options.digits, options.out), make_fashion_mini(options.fashion_mnist, options.out)):
        print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
