"""Damage that knows nothing of a format: flipped bits, lost, doubled and foreign bytes, numbers overwritten."""

import random
from collections.abc import Callable

HOSTILE_INTS = (
    *(
        0,
        -1,
        1,
        2,
        3,
        5,
        7,
        64,
        255,
        256,
        32768,
        65537,
        10**6,
        10**9,
        2**31 - 1,
        2**31,
        2**32,
        2**40,
        2**48,
        2**62,
        2**63 - 1,
    ),
    *(-2, -7, -(2**15), -(2**31), -(2**63)),
)
FOREIGN = (
    b"\0",
    b"\xff" * 4,
    b"\n",
    b"\r\n",
    b'"',
    b"'",
    b"{",
    b"[",
    b"]",
    b",",
    b"\x80",
    b"\xef\xbb\xbf",
    b"NaN",
    b"\x1b[31m",
    b"1e999",
    b"-",
)
Change = Callable[[random.Random, bytearray], None]


def _flip(rng: random.Random, data: bytearray) -> None:
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _overwrite(rng: random.Random, data: bytearray) -> None:
    data[rng.randrange(len(data))] = rng.randrange(256)


def _insert(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.choice(FOREIGN) if rng.random() < 0.5 else rng.randbytes(rng.randrange(1, 9))


def _delete(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    del data[at : at + _length(rng, data)]


def _double(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    chunk = data[at : at + _length(rng, data)]
    data[at:at] = chunk * rng.choice((1, 1, 2, 50))


def _move(rng: random.Random, data: bytearray) -> None:
    at, size = rng.randrange(len(data)), _length(rng, data)
    chunk = data[at : at + size]
    del data[at : at + size]
    to = rng.randrange(len(data) + 1)
    data[to:to] = chunk


def _truncate(rng: random.Random, data: bytearray) -> None:
    del data[rng.randrange(len(data)) :]


def _number(rng: random.Random, data: bytearray) -> None:
    size = rng.choice((2, 4, 8))
    at = rng.randrange(max(1, len(data) - size))
    value = rng.choice(HOSTILE_INTS) % (1 << 8 * size)
    data[at : at + size] = value.to_bytes(size, rng.choice(("little", "big")))


def _length(rng: random.Random, data: bytearray) -> int:
    return 1 + min(rng.randrange(len(data)), rng.choice((1, 4, 16, 64, 1024)))


_CHANGES: tuple[Change, ...] = (_flip, _flip, _overwrite, _insert, _delete, _double, _move, _truncate, _number, _number)


def damaged(rng: random.Random, content: bytes, largest: int = 1 << 20) -> bytes:
    """Return `content` after one to a few changes; never longer than `largest`."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 12))):
        if data:
            rng.choice(_CHANGES)(rng, data)
    return bytes(data[:largest])
