"""Reading sampling points from memory: which addresses integer offsets produce, and what the reads cost.

The engine asks for one 16-byte word (16 channels of a pixel, NHWC) per tap, in the order pixel, 16-channel step, tap: its MAC
array takes nine taps of 16 channels at once. Points outside the map read nothing (they are zeros). Reads go to DRAM, whose
banks keep a row open each, or through the processor's last-level cache with pseudo-random replacement, cold at the start of
a call; the ofmap is written behind and allocates in the cache too. Left out: refresh, write-backs, other masters.

A read's time is its share of a window's reads, which are issued back to back: DRAM `dram_read_ns` in an open row, a row miss
adds `dram_row_miss_ns / outstanding_reads`; cache hits `llc_read_ns`. How those are calibrated: `ablation`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from picojoule.accel.deform.spec import DeformSpec
from picojoule.sim.errors import InputError
from picojoule.sim.offset_traces import OffsetStatistics, OffsetTrace

Offsets = npt.NDArray[np.int16]
IntArray = npt.NDArray[np.int64]
AnyOffsets = npt.NDArray[np.integer] | OffsetStatistics | None

WORD_CHANNELS = 16
"""Channels of a memory word: 16 of 8 bits are the 128 bits that the engine reads a cycle (published)."""
WORD_BYTES = 16
DRAM_PAGE_BYTES = 4096
"""An open row across both 16-bit channels of the board's LPDDR4: 2 KiB each (JEDEC JESD209-4, 8 banks a channel)."""
DRAM_BANKS = 8
BURST_BYTES = 64
"""What the memory's bus moves at least: a burst of 16 on 32 bits (LPDDR4, JESD209-4: the Ultra96) or of 8 on 64 bits (DDR3,
JESD79-3, and DDR4, JESD79-4: the other boards). A 16-byte read costs a whole one."""
FIFO_DEPTH = 2
"""Words that the reading process runs ahead: depth of the FIFOs between processes (published)."""
SIMULATED_READS = 32_000_000
"""Reads that are simulated of one layer at most (about a second); its rates then hold for the rest."""

_DRAWN_AT_ONCE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingPoints:
    """Where a deformable layer samples: ifmap [channels, height, width], and its window before offsets are added."""

    channels: int
    height: int
    width: int
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    offset_groups: int = 1

    @property
    def taps(self) -> int:
        """Points of a window."""
        return self.kernel[0] * self.kernel[1]

    @property
    def offset_channels(self) -> int:
        """Offsets of a pixel: rows and columns of every tap of every offset group."""
        return 2 * self.taps * self.offset_groups


@dataclass(frozen=True, slots=True, kw_only=True)
class GatherReads:
    """Reads of the sampling points of one image (a mean, hence no whole numbers) and where they ended."""

    reads: float
    cache_hits: float
    dram_reads: float
    row_hits: float
    cached: bool
    basis: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GatherCost:
    """What reading the sampling points of one image costs.

    `hit_rate` of the cache (None: read without), `row_hit_rate` of the reads that reach DRAM (None: none does), `read_ns` the
    mean of a read, `seconds` all of them, `basis` where the offsets come from. Of the `reads`, `cache_hits` end in the cache;
    the rest move `dram_bytes` over the memory's bus: whole bursts, and whole lines where a cache is filled.
    """

    reads: int
    cache_hits: int
    dram_bytes: int
    hit_rate: float | None
    row_hit_rate: float | None
    read_ns: float
    seconds: float
    basis: str


def gather_cost(
    spec: DeformSpec,
    points: SamplingPoints,
    offsets: AnyOffsets = None,
    *,
    out_height: int,
    out_width: int,
    out_channels: int,
    seed: int = 0,
    first_rows: bool = False,
) -> GatherCost:
    """Return the cost of reading the sampling points of one image from memory; arguments as `gather_reads`."""
    size = {"out_height": out_height, "out_width": out_width, "out_channels": out_channels}
    return price_reads(spec, gather_reads(spec, points, offsets, seed=seed, first_rows=first_rows, **size))


def gather_reads(
    spec: DeformSpec,
    points: SamplingPoints,
    offsets: AnyOffsets = None,
    *,
    out_height: int,
    out_width: int,
    out_channels: int,
    seed: int = 0,
    first_rows: bool = False,
) -> GatherReads:
    """Return the reads of the sampling points of one image, by simulation of cache and DRAM rows.

    Offsets [2 x taps x offset groups, Oh, Ow], (dy, dx) pairs, or the same with samples in front (the mean image is returned,
    each read with a cold cache); or statistics to draw them from with `seed`; None: uniform within `max_offset`. Of
    `first_rows`, only those that are simulated (`rows_simulated`) are given.

    Raises:
        InputError: for offsets that are no integers (NaN included), or of another shape.

    """
    shape = (points.offset_channels, out_height, out_width)
    if offsets is None:
        offsets = OffsetStatistics(distribution="uniform", low=-spec.max_offset, high=spec.max_offset)
    part = rows_simulated(points, out_height, out_width)
    if isinstance(offsets, OffsetStatistics):
        images = random_offsets(offsets, (shape[0], part, out_width), np.random.default_rng(seed))[None]
        basis, wanted = "statistics", out_height
    else:
        images = _checked(offsets, (shape[0], part, out_width) if first_rows else shape)
        basis, wanted = "data", len(images) * out_height
        images = images[:, :, :part]
    counts, rows = np.zeros(4, dtype=np.int64), 0
    for image in images:
        counts += _simulated(spec, points, image, -(-out_channels // WORD_CHANNELS))
        rows += part
        if counts[0] >= SIMULATED_READS:
            break
    if rows < wanted:
        basis += f", first {rows} of {wanted} rows simulated"
    reads, hits, dram_reads, row_hits = (float(c) * out_height / rows for c in counts)
    return GatherReads(
        reads=reads, cache_hits=hits, dram_reads=dram_reads, row_hits=row_hits, cached=spec.llc, basis=basis
    )


def price_reads(spec: DeformSpec, r: GatherReads) -> GatherCost:
    """Return the cost of simulated reads: no less than what the bytes take at the bandwidth of streams."""
    row_miss_ns = spec.dram_row_miss_ns / spec.outstanding_reads
    total_ns = r.cache_hits * spec.llc_read_ns + r.dram_reads * spec.dram_read_ns
    total_ns += (r.dram_reads - r.row_hits) * row_miss_ns
    reads, hits = round(r.reads), round(r.cache_hits)
    filled = max(WORD_BYTES, spec.llc_line_bytes) if r.cached else WORD_BYTES
    moved = (reads - hits) * -(-filled // BURST_BYTES) * BURST_BYTES
    seconds = max(total_ns * 1e-9, moved / spec.stream_bytes_per_s)
    return GatherCost(
        reads=reads,
        cache_hits=hits,
        dram_bytes=moved,
        hit_rate=r.cache_hits / r.reads if r.cached and r.reads else None,
        row_hit_rate=r.row_hits / r.dram_reads if r.dram_reads else None,
        read_ns=1e9 * seconds / r.reads if r.reads else 0.0,
        seconds=seconds,
        basis=r.basis,
    )


def sampled_seconds(spec: DeformSpec, compute_s: float, gather_s: float, taps: int = 9) -> float:
    """Return the time of a layer that computes for `compute_s` and reads its sampling points from memory for `gather_s`.

    Without the cache, reads run ahead of the engine by a FIFO's depth only: while a window is computed, 2 of the next one's
    reads go on, the others wait for it. Through the cache they are hidden behind the engine (as published for the full
    3x3 engine, 42.7 against 41.6 ms).
    """
    waiting = 0.0 if spec.llc else max(taps - FIFO_DEPTH, 0) / taps
    return max(gather_s, compute_s + waiting * gather_s)


def random_offsets(statistics: OffsetStatistics, shape: tuple[int, ...], rng: np.random.Generator) -> Offsets:
    """Return integer offsets of the given distribution, rounded and within its range; zeros for fixed offsets."""
    if statistics.distribution == "fixed":
        return np.zeros(shape, dtype=np.int16)
    low, high = int(np.ceil(statistics.low)), int(np.floor(statistics.high))
    if statistics.distribution == "uniform":
        return rng.integers(low, high, shape, dtype=np.int16, endpoint=True)
    offsets = np.empty(shape, dtype=np.int16)
    flat, middle = offsets.reshape(-1), (statistics.low + statistics.high) / 2
    for start in range(0, flat.size, _DRAWN_AT_ONCE):
        part = flat[start : start + _DRAWN_AT_ONCE]
        part[:] = np.clip(np.rint(rng.normal(middle, statistics.std, part.size)), low, high)
    return offsets


def _checked(offsets: npt.NDArray[np.integer], shape: tuple[int, int, int]) -> Offsets:
    """Return offsets as int16 [samples, ...]; InputError for other shapes, fractions or numbers that are too large."""
    given = np.asarray(offsets)
    if given.shape[-3:] != shape or given.ndim not in (3, 4) or 0 in given.shape:
        raise InputError(f"offsets must have the shape {list(shape)} (or samples of it), got {list(given.shape)}")
    if not np.issubdtype(given.dtype, np.integer):
        bad = given[~np.isfinite(given)] if np.issubdtype(given.dtype, np.floating) else given[:0]
        what = f"got {bad.flat[0]}" if bad.size else f"got {given.dtype}"
        raise InputError(f"offsets that read memory must be whole numbers, {what}; round them in the network")
    limit = np.iinfo(np.int16).max
    if given.size and max(-int(given.min()), int(given.max())) > limit:
        raise InputError(f"offsets must be within {limit}, got one of {int(given.min())} to {int(given.max())}")
    return given.reshape(-1, *shape).astype(np.int16, copy=False)


def rows_simulated(points: SamplingPoints, out_height: int, out_width: int) -> int:
    """Return how many rows of the ofmap are simulated of one image: all, or as many as `SIMULATED_READS` allow."""
    row_reads = out_width * points.taps * -(-points.channels // WORD_CHANNELS)
    return max(1, min(out_height, SIMULATED_READS // row_reads))


def _simulated(spec: DeformSpec, points: SamplingPoints, image: Offsets, out_words: int) -> IntArray:
    """Return reads, cache hits, DRAM reads and hits of open rows while the given rows of offsets are read, cold cache."""
    from picojoule.accel.deform._kernels import read_points  # compiles on first use, then is kept on disk

    sets = max(1, spec.llc_kib * 1024 // (spec.llc_ways * spec.llc_line_bytes)) if spec.llc else 0
    window = (*points.kernel, *points.stride, *points.padding, *points.dilation)
    words = -(-points.channels // WORD_CHANNELS)
    geometry = np.array([points.height, points.width, words, *window, points.offset_groups, out_words], dtype=np.int64)
    memory = np.array([WORD_BYTES, spec.llc_line_bytes, DRAM_PAGE_BYTES, DRAM_BANKS], dtype=np.int64)
    tags = np.full((sets, spec.llc_ways), -1, dtype=np.int64)
    chance = np.arange(sets, dtype=np.int64) * 2654435761 % 2**32  # another sequence in each set
    open_rows, counts = np.full(DRAM_BANKS, -1, dtype=np.int64), np.zeros(4, dtype=np.int64)
    read_points(np.ascontiguousarray(image), geometry, memory, tags, chance, open_rows, counts)
    return counts


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetComparison:
    """One layer, one kind of offsets: what the figure 'real against random offsets' shows."""

    layer: str
    offsets: str
    llc: bool
    reads: int
    hit_rate: float | None
    row_hit_rate: float | None
    read_ns: float
    seconds: float


def compare_offsets(
    spec: DeformSpec, layers: Mapping[str, tuple[SamplingPoints, int]], trace: OffsetTrace, *, seed: int = 0
) -> Iterator[OffsetComparison]:
    """Yield, for every layer named, the cost of its offsets in a trace, of random ones in their range, and of zeros.

    `offsets` is then the trace's source, `random` or `zero`. `layers` gives the sampling points and output channels by name;
    each is read from DRAM and through the cache.

    Raises:
        InputError: for a layer that the trace lacks, and whatever `gather_cost` refuses.

    """
    for name, (points, out_channels) in layers.items():
        if name not in trace.offsets:
            raise InputError(
                f"the offset trace has no layer '{name}', only {', '.join(sorted(trace.offsets)) or 'none'}"
            )
        real = trace.offsets[name]
        size = {"out_height": real.shape[-2], "out_width": real.shape[-1], "out_channels": out_channels, "seed": seed}
        low, high = float(real.min()), float(real.max())
        kinds: dict[str, AnyOffsets] = {
            trace.source: real,
            "random": OffsetStatistics(distribution="uniform", low=low, high=high),
            "zero": OffsetStatistics(distribution="fixed", low=0.0, high=0.0),
        }
        for llc in (False, True):
            reader = spec.model_copy(update={"llc": llc})
            for kind, offsets in kinds.items():
                cost = gather_cost(reader, points, offsets, **size)
                yield OffsetComparison(
                    layer=name,
                    offsets=kind,
                    llc=llc,
                    reads=cost.reads,
                    hit_rate=cost.hit_rate,
                    row_hit_rate=cost.row_hit_rate,
                    read_ns=cost.read_ns,
                    seconds=cost.seconds,
                )
