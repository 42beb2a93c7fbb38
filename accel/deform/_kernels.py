"""Compiled loop over the memory reads that integer offsets produce: set-associative cache, then open rows of DRAM banks.

Self-contained: numba's cache on disk does not see edits in other files. A slow twin is in the tests.
"""

import numba
import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _touch_row(address: int, banks: int, page_bytes: int, open_rows: IntArray) -> int:
    """Return 1 if the DRAM page of `address` is open in its bank; it is afterwards."""
    page = address // page_bytes
    bank = page % banks
    row = page // banks
    hit = open_rows[bank] == row
    open_rows[bank] = row
    return 1 if hit else 0


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _touch_line(line: int, tags: IntArray, chance: IntArray) -> int:
    """Return 1 if the cache holds `line`; it does afterwards: in a free way, else in place of a pseudo-random one."""
    sets, ways = tags.shape
    index = line % sets
    free = -1
    for way in range(ways):
        if tags[index, way] == line:
            return 1
        if free < 0 and tags[index, way] < 0:
            free = way
    if free < 0:
        chance[index] = (chance[index] * 1664525 + 1013904223) & 0xFFFFFFFF  # an LCG a set (Numerical Recipes)
        free = (chance[index] >> 16) % ways
    tags[index, free] = line
    return 0


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def read_points(
    offsets: npt.NDArray[np.int16],
    geometry: IntArray,
    memory: IntArray,
    tags: IntArray,
    chance: IntArray,
    open_rows: IntArray,
    counts: IntArray,
) -> None:
    """Read the sampling points of the first rows of an ofmap in the order of the engine; add to `counts`.

    offsets [2 x taps x offset groups, rows, Ow]: (dy, dx) of every tap. geometry: height, width, words per pixel (16
    channels each), kernel rows, kernel columns, stride, padding, dilation (each rows, columns), offset groups, ofmap words
    per pixel. memory: bytes of a word, of a cache line, of a DRAM page, banks. tags [sets, ways] (no sets: no cache), -1
    free; chance [sets]; open_rows [banks], -1 none. counts: reads, cache hits, DRAM reads, of which in an open row.
    """
    height, width, words, kernel_rows, kernel_cols = geometry[0], geometry[1], geometry[2], geometry[3], geometry[4]
    stride_y, stride_x, pad_y, pad_x = geometry[5], geometry[6], geometry[7], geometry[8]
    dilation_y, dilation_x, groups, out_words = geometry[9], geometry[10], geometry[11], geometry[12]
    word_bytes, line_bytes, page_bytes, banks = memory[0], memory[1], memory[2], memory[3]
    taps = kernel_rows * kernel_cols
    rows, out_width = offsets.shape[1], offsets.shape[2]
    cached = tags.shape[0] > 0
    ofmap = (
        -(-(height * width * words * word_bytes) // page_bytes) * page_bytes
    )  # behind the ifmap, on a page of its own
    for oy in range(rows):
        for ox in range(out_width):
            for word in range(words):
                first = 2 * taps * (word * groups // words)
                for tap in range(taps):
                    y = oy * stride_y - pad_y + (tap // kernel_cols) * dilation_y + offsets[first + 2 * tap, oy, ox]
                    x = ox * stride_x - pad_x + (tap % kernel_cols) * dilation_x + offsets[first + 2 * tap + 1, oy, ox]
                    if y < 0 or y >= height or x < 0 or x >= width:
                        continue
                    address = ((y * width + x) * words + word) * word_bytes
                    counts[0] += 1
                    if cached and _touch_line(address // line_bytes, tags, chance):
                        counts[1] += 1
                        continue
                    counts[2] += 1
                    counts[3] += _touch_row(address, banks, page_bytes, open_rows)
            for word in range(out_words):
                address = ofmap + ((oy * out_width + ox) * out_words + word) * word_bytes
                if cached:
                    _touch_line(address // line_bytes, tags, chance)
                else:
                    _touch_row(address, banks, page_bytes, open_rows)
