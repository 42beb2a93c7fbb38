"""The order in which a systolic array's weight ports see a layer's weights: which word follows which, and how often.

Folds and ports: column folds outside, row folds inside, groups outermost, small groups side by side. Input stationary (`is`):
a port is a row of the reduction k, one output channel n a cycle; a segment is the up to `rows` rows of a fold, which share an
order of n. Output stationary (`os`): a port is a column of n, one k a cycle, in the order of k. A weight-stationary array holds
its weights: nothing streams. A port holds its word between folds and starts a layer at zero. Training needs places and counts,
not only a sum; a test holds them against `accel.systolic.toggles`.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from picojoule.sim.gemm import Gemm

Streamed = Literal["is", "os"]
Orders = NDArray[np.integer[Any]]
"""Permutations [segments, n]."""


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """All that the weight ports see in a layer; places count in the flat weights [groups, n, k], -1 is the empty register.

    places: [stages, ports], -1 where a port holds; repeats: [stages], how often the step into a stage happens. before, after,
    times: all successive words of a port and how often they follow one another, also from a fold's end to its repetition.
    """

    places: NDArray[np.int64]
    repeats: NDArray[np.int64]
    before: NDArray[np.int64]
    after: NDArray[np.int64]
    times: NDArray[np.int64]

    def flips(self, words: NDArray[np.unsignedinteger[Any]]) -> int:
        """Return the exact number of bits that flip on all ports; `words` are the flat weights' bit patterns."""
        padded = np.append(words, words.dtype.type(0))  # place -1
        flipped = np.bitwise_count(padded[self.before] ^ padded[self.after]).astype(np.int64)
        return int(flipped @ self.times)


def weight_stream(gemm: Gemm, dataflow: Streamed, rows: int, cols: int, order: Orders | None = None) -> Stream:
    """Return the stream of a layer; `order` is for layers of one group in dataflow `is`."""
    used_rows, used_cols = (gemm.k, gemm.m) if dataflow == "is" else (gemm.m, gemm.n)
    fits = used_rows <= rows and used_cols <= cols
    beside = min(rows // used_rows, cols // used_cols, gemm.groups) if fits else 1
    ports, repeats = (rows, math.ceil(gemm.m / cols)) if dataflow == "is" else (cols, math.ceil(gemm.m / rows))
    places = np.arange(gemm.groups * gemm.n * gemm.k, dtype=np.int64).reshape(gemm.groups, gemm.n, gemm.k)
    sequences = places if dataflow == "is" else places.swapaxes(1, 2)  # [groups, in sequence, side by side]
    blocks: list[NDArray[np.int64]] = []
    for first in range(0, gemm.groups, beside):
        across = np.concatenate(list(sequences[first : first + beside]), axis=1)
        folds = []
        for i, start in enumerate(range(0, across.shape[1], ports)):
            fold = np.full((len(across), ports), -1, dtype=np.int64)
            part = across[:, start : start + ports]
            fold[:, : part.shape[1]] = part if order is None else part[order[i]]
            folds.append(fold)
        blocks += [np.concatenate(folds)] if dataflow == "is" else folds
    counts = [np.r_[1, np.full(len(b) - 1, repeats)] for b in blocks]
    steps = _steps(blocks, repeats)
    return Stream(np.concatenate(blocks), np.concatenate(counts), *steps)


def _steps(blocks: list[NDArray[np.int64]], repeats: int) -> tuple[NDArray[np.int64], ...]:
    """Return (before, after, times) of all blocks, each of which enters `repeats` times in a row."""
    held = np.full(blocks[0].shape[1], -1, dtype=np.int64)
    found = []
    for block in blocks:
        seen = np.concatenate([held[None], block])
        last = np.maximum.accumulate(np.where(seen >= 0, np.arange(len(seen))[:, None], 0), axis=0)
        seen = np.take_along_axis(seen, last, axis=0)
        into_block = np.arange(1, len(seen))[:, None] == np.argmax(block >= 0, axis=0)[None] + 1
        valid = block >= 0
        times = np.where(into_block, 1, repeats)
        found.append((seen[:-1][valid], block[valid], times[valid]))
        used = valid.any(axis=0)
        if repeats > 1:
            firsts = np.take_along_axis(block, np.argmax(valid, axis=0)[None], axis=0)[0]
            found.append((seen[-1][used], firsts[used], np.full(int(used.sum()), repeats - 1)))
        held = seen[-1]
    before, after, times = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return before, after, times
