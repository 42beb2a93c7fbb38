"""In what order output channels stream, so that few bits flip between one and the next (operand Hamming distance).

Where weights stream (an input-stationary array) a row port carries the weights of one reduction index, output channel after
output channel. Any order gives the same sums, bit for bit: only the address under which the accumulators at the array's edge
keep a sum changes. One order may serve the whole width of the reduction (then the network itself can be permuted and no
table is needed), or each segment of it has its own: the rows of one fold share an order, because their products are added on
the way down a column, so a segment is as wide as the array is high.

Method: Li et al., arXiv:2002.05293 (greedy nearest neighbour, clusters of channels, one order per segment of array height).
A cluster's channels stay together in all segments, so that an address only counts within it. Our addition: 2-opt and or-opt.
Left out: an optimal tour, the order of the reduction itself (which an output-stationary array could choose).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from picojoule.accel.systolic.operand_words import code_words, packed_rows
from picojoule.sim.errors import InputError, unknown_choice

Order = NDArray[np.int64]
"""Row numbers in the order in which they stream, [segments, N]; every segment is a permutation."""

MOST_ROWS = 1 << 14
"""Distances between all pairs of rows are held: 1 GiB at this number."""
_MOST_ROW_BITS = 1 << 30  # keeps distances in 32 bits
PIECE_ROWS = 512
"""Longer orders are improved in pieces of so many rows: the time of a sweep grows with the square of a piece."""


def segments_of(width: int, segment: int | None) -> list[slice]:
    """Return the column ranges of segments; None: one of the whole width."""
    if segment is not None and segment < 1:
        raise InputError(f"a segment must be at least one column wide, got {segment}")
    step = max(1, width if segment is None else segment)
    return [slice(low, min(low + step, width)) for low in range(0, width, step)]


def order_rows(
    weights: NDArray[np.integer[Any]],
    *,
    bits: int = 8,
    code: str = "twos_complement",
    segment: int | None = None,
    clusters: int = 1,
    start: int = 0,
    sweeps: int = 0,
) -> Order:
    """Return the order [segments, N] in which the rows of weights [N, K] flip few bits; deterministic.

    Each segment goes from row `start` to the nearest row not yet visited (of equals the first). `sweeps` passes of 2-opt and
    or-opt then improve that (0: none; it stops when nothing improves), and may move the start.

    Args:
        weights: integers, output channels x reduction.
        bits: width of a word.
        code: twos_complement or sign_magnitude.
        segment: columns that share an order; None: all.
        clusters: channels are cut into so many sets of (nearly) equal size that stay together in every segment.
        start: first row.
        sweeps: most passes of improvement.

    Raises:
        InputError: for bad arguments, values that `bits` cannot hold, or more than 16,384 rows.

    """
    from picojoule.accel.systolic import _ordering_kernels as kernels

    words = _words(weights, bits, code)
    rows = len(words)
    if not 0 <= start < rows:
        raise InputError(f"an order starts with one of {rows} rows, got {start}")
    if not 1 <= clusters <= rows:
        raise InputError(f"{rows} rows make 1 to {rows} clusters, got {clusters}")
    if sweeps < 0:
        raise InputError(f"sweeps must not be negative, got {sweeps}")
    _check_rows(rows)
    distance = np.empty((rows, rows), dtype=np.int32)
    members = _clusters(words, bits, clusters, start, distance)
    sizes = np.bincount(members, minlength=clusters)
    ends = np.cumsum(sizes)
    parts = segments_of(words.shape[1], segment)
    orders = np.empty((len(parts), rows), dtype=np.int64)
    for order, part in zip(orders, parts, strict=True):
        kernels.row_distances(packed_rows(words[:, part], bits), distance)
        kernels.nearest_neighbors(distance, members, sizes, start, order)
        if sweeps:
            for low, high in zip(ends - sizes, ends, strict=True):
                _improve(distance, order, int(low), int(high), sweeps)
    return orders


def combined_distance(
    parts: Sequence[NDArray[np.integer[Any]]],
    times: Sequence[int],
    *,
    bits: int | Sequence[int] = 8,
    code: str = "twos_complement",
) -> NDArray[np.int32]:
    """Return the distances [N, N] between rows of matrices [N, K] that share an order, each counted so many times.

    `bits` may be one width for all matrices or one each. Clipped to 32 bits by halving all times until their sum fits.

    Raises:
        InputError: as `order_rows`, and if rows are so wide that no halving helps (128 MiB of 8-bit weights).

    """
    from picojoule.accel.systolic import _ordering_kernels as kernels

    widths = [bits] * len(parts) if isinstance(bits, int) else list(bits)
    words = [_words(part, width, code) for part, width in zip(parts, widths, strict=True)]
    rows = _check_rows(len(words[0]))
    row_bits = [word.shape[1] * width for word, width in zip(words, widths, strict=True)]
    if sum(row_bits) >= _MOST_ROW_BITS:
        raise InputError(
            f"rows of {sum(row_bits)} bits are too wide to share an order; give them less than {_MOST_ROW_BITS}"
        )
    while sum(wide * t for wide, t in zip(row_bits, times, strict=True)) >= _MOST_ROW_BITS:
        times = [-(-t // 2) for t in times]
    total, distance = (np.zeros((rows, rows), dtype=np.int32) for _ in range(2))
    for part, count, width in zip(words, times, widths, strict=True):
        kernels.row_distances(packed_rows(part, width), distance)
        total += distance * np.int32(count)
    return total


def order_by_distance(distance: NDArray[np.int32], *, start: int = 0, sweeps: int = 0) -> NDArray[np.int64]:
    """Return the order [N] for a table of distances [N, N], as `order_rows` finds it."""
    from picojoule.accel.systolic import _ordering_kernels as kernels

    rows = len(distance)
    order = np.empty(rows, dtype=np.int64)
    kernels.nearest_neighbors(distance, np.zeros(rows, dtype=np.int64), np.array([rows]), start, order)
    if sweeps:
        _improve(distance, order, 0, rows, sweeps)
    return order


def _improve(distance: NDArray[np.int32], order: NDArray[np.int64], low: int, high: int, sweeps: int) -> None:
    """Improve order[low .. high - 1] in place, piece by piece."""
    from picojoule.accel.systolic import _ordering_kernels as kernels

    for start in range(low, high, PIECE_ROWS):
        kernels.improve_path(distance, order, start, min(start + PIECE_ROWS, high), sweeps)


def order_flips(
    weights: NDArray[np.integer[Any]],
    order: NDArray[np.integer[Any]] | None = None,
    *,
    bits: int = 8,
    code: str = "twos_complement",
    segment: int | None = None,
) -> int:
    """Return the bits that flip when the rows of weights [N, K] follow one another once; `order` as `order_rows` gives it.

    A single order [N] or [1, N] serves all segments.
    """
    from picojoule.accel.systolic import _ordering_kernels as kernels

    words = _words(weights, bits, code)
    total = 0
    for part, rows in zip_orders(words.shape, order, segment):
        walk = np.arange(len(words)) if rows is None else rows
        total += int(kernels.walk_flips(packed_rows(words[:, part], bits), walk))
    return total


def normalized_distance(
    weights: NDArray[np.integer[Any]],
    order: NDArray[np.integer[Any]] | None = None,
    *,
    bits: int = 8,
    code: str = "twos_complement",
    segment: int | None = None,
) -> float:
    """Return flips per bit and step (0 to 1) of rows of weights [N, K] that follow one another; 0 for a single row."""
    steps = (weights.shape[0] - 1) * weights.shape[1] * bits
    return order_flips(weights, order, bits=bits, code=code, segment=segment) / steps if steps > 0 else 0.0


def zip_orders(
    shape: tuple[int, ...], order: NDArray[np.integer[Any]] | None, segment: int | None
) -> list[tuple[slice, NDArray[np.int64] | None]]:
    """Return the columns of each segment of [N, K] with the order of its rows.

    Raises:
        InputError: if `order` is no permutation of the rows for one segment or each of them.

    """
    parts = segments_of(shape[1], segment)
    if order is None:
        return [(part, None) for part in parts]
    orders = np.atleast_2d(np.asarray(order, dtype=np.int64))
    if orders.shape not in {(1, shape[0]), (len(parts), shape[0])}:
        raise InputError(
            f"an order of {shape[0]} rows in {len(parts)} segments has shape ({len(parts)}, {shape[0]}), got {orders.shape}"
        )
    if not np.array_equal(np.sort(orders, axis=1), np.broadcast_to(np.arange(shape[0]), orders.shape)):
        raise InputError("an order must name each row once in every segment")
    return [(part, orders[i if len(orders) > 1 else 0]) for i, part in enumerate(parts)]


def order_of(
    weights: NDArray[np.integer[Any]],
    dataflow: str,
    rows: int,
    weight_order: str,
    *,
    bits: int = 8,
    code: str = "twos_complement",
    sweeps: int = 0,
) -> NDArray[np.int64] | None:
    """Return in which order the output channels of weights [G, N, K] stream on an array of `rows` rows: [G, segments, N].

    None where it makes no difference: `weight_order` as_is, a dataflow that does not stream weights channel after channel
    (os, ws), or a single channel per group. channels: one order per group; segments: one per row fold. Where none is
    found that flips fewer bits, the one that is there stays.
    """
    if weight_order not in ("as_is", "channels", "segments"):
        raise InputError(unknown_choice("weight order", weight_order, ["as_is", "channels", "segments"]))
    if weight_order == "as_is" or dataflow != "is" or weights.shape[1] < 2:
        return None
    segment = rows if weight_order == "segments" else None
    return np.stack([_never_worse(group, bits, code, segment, sweeps) for group in weights])


def _never_worse(weights: NDArray[np.integer[Any]], bits: int, code: str, segment: int | None, sweeps: int) -> Order:
    """Return the order found, segment by segment, where it beats the one that is there."""
    orders = order_rows(weights, bits=bits, code=code, segment=segment, sweeps=sweeps)
    for order, part in zip(orders, segments_of(weights.shape[1], segment), strict=True):
        plain, found = (order_flips(weights[:, part], o, bits=bits, code=code) for o in (None, order))
        if plain <= found:
            order[:] = np.arange(len(order))
    return orders


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressTable:
    """What own orders per segment cost: a table of accumulator addresses, read once per streamed channel of a segment."""

    entries: int
    bits_per_entry: int

    @property
    def bits(self) -> int:
        """Storage, bits."""
        return self.entries * self.bits_per_entry


def address_table(rows: int, segments: int, clusters: int = 1) -> AddressTable:
    """Return the table for orders of `rows` channels; one order for all segments needs none (the network is permuted)."""
    largest = -(-rows // clusters)
    return AddressTable(entries=rows * segments if segments > 1 else 0, bits_per_entry=(largest - 1).bit_length())


def _words(weights: NDArray[np.integer[Any]], bits: int, code: str) -> NDArray[np.uint32]:
    if weights.ndim != 2 or not weights.size:
        raise InputError(
            f"weights to order must be a matrix [outputs, reduction] with elements, got shape {weights.shape}"
        )
    return code_words(weights, bits, code, name="weights")


def _check_rows(rows: int) -> int:
    if rows > MOST_ROWS:
        raise InputError(f"an order of {rows} rows needs too much memory; order at most {MOST_ROWS} at a time")
    return rows


def _clusters(
    words: NDArray[np.uint32], bits: int, clusters: int, start: int, distance: NDArray[np.int32]
) -> NDArray[np.int64]:
    """Return the cluster of each row: equal pieces of one nearest-neighbour walk over the whole width."""
    from picojoule.accel.systolic import _ordering_kernels as kernels

    rows = len(words)
    members = np.zeros(rows, dtype=np.int64)
    if clusters > 1:
        walk = np.empty(rows, dtype=np.int64)
        kernels.row_distances(packed_rows(words, bits), distance)
        kernels.nearest_neighbors(distance, members, np.array([rows]), start, walk)
        for number, piece in enumerate(np.array_split(walk, clusters)):
            members[piece] = number
    return members
