"""Hostile data sets: IDX files, the binary CIFAR-10, folders of pictures."""

import gzip
import random
import struct
from functools import cache
from io import BytesIO
from pathlib import Path

from PIL import Image

from .mutate_bytes import HOSTILE_INTS, damaged

_IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def write_idx(rng: random.Random, folder: Path) -> str:
    """Write the four files of an IDX data set, one of them hostile."""
    victim, label = rng.randrange(4), ""
    for i, name in enumerate(_IDX_FILES):
        shape = (12, 6, 6) if "images" in name else (12,)
        values = bytes(12 * 36) if len(shape) == 3 else bytes((0, 1, 2) * 4)
        content = bytes((0, 0, 8, len(shape))) + struct.pack(f">{len(shape)}I", *shape) + values
        packed = rng.random() < 0.5
        if i == victim:
            content, label = _hostile_idx(rng, content, packed)
        elif packed:
            content = gzip.compress(content, 1)
        (folder / (name + (".gz" if packed else ""))).write_bytes(content)
    return label


def _hostile_idx(rng: random.Random, content: bytes, packed: bool) -> tuple[bytes, str]:
    kind = rng.random()
    if kind < 0.4:
        raw = bytearray(content)
        at = rng.choice((0, *range(4, 4 + 4 * content[3], 4)))
        raw[at : at + 4] = (rng.choice(HOSTILE_INTS) % 2**32).to_bytes(4, "big")
        content, label = bytes(raw), "sizes"
        if rng.random() < 0.3:
            content += bytes(1 << 22)
    elif kind < 0.6:
        return damaged(rng, gzip.compress(content, 1) if packed else content), "bytes"
    else:
        content, label = damaged(rng, content), "content"
    return (gzip.compress(content, 1) if packed else content), label


def write_cifar10(rng: random.Random, folder: Path) -> str:
    """Write the six files of CIFAR-10, one of them hostile or missing."""
    record = bytes(3073)
    victim = rng.randrange(6)
    for i in range(6):
        name = f"data_batch_{i + 1}.bin" if i < 5 else "test_batch.bin"
        content = record * 2
        if i == victim:
            choice = rng.random()
            if choice < 0.1:
                continue
            content = damaged(rng, content) if choice < 0.6 else bytes([rng.randrange(256)]) + content[1:]
        (folder / name).write_bytes(content)
    return "bytes"


@cache
def _pictures() -> tuple[tuple[str, bytes], ...]:
    made = []
    for form, suffix in (("PNG", "png"), ("JPEG", "jpg"), ("JPEG", "jpeg")):
        stream = BytesIO()
        Image.new("RGB", (8, 8), (200, 30, 60)).save(stream, form)
        made.append((suffix, stream.getvalue()))
    return tuple(made)


def _png_bomb(rng: random.Random) -> bytes:
    """Return a PNG that claims a giant size in a few bytes."""
    content = bytearray(_pictures()[0][1])
    for at in (16, 20):
        content[at : at + 4] = (rng.choice(HOSTILE_INTS) % 2**31).to_bytes(4, "big")
    return bytes(content)


def write_images(rng: random.Random, folder: Path) -> str:
    """Write folders of pictures by class, one picture hostile."""
    label = ""
    for part in ("train", "test"):
        for name in ("a", "b"):
            home = folder / part / name
            home.mkdir(parents=True)
            for i in range(6):
                suffix, content = rng.choice(_pictures())
                if (part, name, i) == ("train", "b", 1):
                    content = _png_bomb(rng) if rng.random() < 0.3 else damaged(rng, content)
                    label = "picture"
                (home / f"{i}.{suffix}").write_bytes(content)
    return label
