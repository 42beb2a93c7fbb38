"""Sampling points read from memory: against a slow twin, counts by hand, and what any memory must do."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from picojoule.accel.deform import gather
from picojoule.accel.deform.gather import SamplingPoints, compare_offsets, gather_cost, gather_reads, sampled_seconds
from picojoule.accel.deform.spec import DeformSpec
from picojoule.sim.errors import InputError
from picojoule.sim.offset_traces import OffsetStatistics, OffsetTrace


def addresses(p: SamplingPoints, offsets: NDArray[np.int16], out_words: int) -> Iterator[tuple[bool, int]]:
    """Yield (whether it is a read, byte address) in the engine's order: pixel, 16 channels, tap; then the pixel is written."""
    words = -(-p.channels // 16)
    ofmap = -(-p.height * p.width * words * 16 // 4096) * 4096
    _, rows, cols = offsets.shape
    for oy, ox, word in np.ndindex(rows, cols, words):
        pairs = offsets.reshape(p.offset_groups, p.taps, 2, rows, cols)[word * p.offset_groups // words, :, :, oy, ox]
        for tap, (dy, dx) in enumerate(pairs.astype(int)):
            i, j = divmod(tap, p.kernel[1])
            y = oy * p.stride[0] - p.padding[0] + i * p.dilation[0] + dy
            x = ox * p.stride[1] - p.padding[1] + j * p.dilation[1] + dx
            if 0 <= y < p.height and 0 <= x < p.width:
                yield True, ((y * p.width + x) * words + word) * 16
        if word == words - 1:
            for written in range(out_words):
                yield False, ofmap + ((oy * cols + ox) * out_words + written) * 16


def counted(spec: DeformSpec, trace: Iterator[tuple[bool, int]]) -> list[int]:
    """Return reads, cache hits, DRAM reads, of which in an open row: the slow twin of the compiled loop."""
    sets = spec.llc_kib * 1024 // spec.llc_ways // spec.llc_line_bytes
    ways: list[list[int]] = [[] for _ in range(sets)]
    chance = [s * 2654435761 % 2**32 for s in range(sets)]
    open_rows: dict[int, int] = {}
    counts = [0, 0, 0, 0]
    for is_read, address in trace:
        counts[0] += is_read
        if spec.llc:
            line = address // spec.llc_line_bytes
            s = line % sets
            if line in ways[s]:
                counts[1] += is_read
                continue
            if len(ways[s]) < spec.llc_ways:
                ways[s].append(line)
            else:
                chance[s] = (1664525 * chance[s] + 1013904223) % 2**32
                ways[s][(chance[s] // 65536) % spec.llc_ways] = line
            if not is_read:
                continue
        row, bank = divmod(address // 4096, 8)
        counts[2] += is_read
        counts[3] += is_read and open_rows.get(bank) == row
        open_rows[bank] = row
    return counts


@settings(max_examples=20, deadline=None)
@given(
    st.integers(1, 2),
    st.sampled_from([3, 40, 64, 256]),
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.sampled_from([(3, 3), (1, 1), (2, 3)]),
    st.tuples(st.integers(1, 2), st.integers(0, 2), st.integers(1, 2)),
    st.booleans(),
    st.integers(0, 99),
)
def test_compiled_loop_equals_its_twin(
    groups: int,
    channels: int,
    size: tuple[int, int],
    kernel: tuple[int, int],
    window: tuple[int, int, int],
    llc: bool,
    seed: int,
) -> None:
    stride, padding, dilation = window
    p = SamplingPoints(
        channels=channels,
        height=size[0],
        width=size[1],
        kernel=kernel,
        stride=(stride, 1),
        padding=(padding, 1),
        dilation=(1, dilation),
        offset_groups=groups,
    )
    spec = DeformSpec(llc=llc, llc_kib=16, llc_ways=2, llc_line_bytes=1024)  # small, so that lines are replaced
    offsets = np.random.default_rng(seed).integers(-4, 5, (p.offset_channels, *size)).astype(np.int16)
    found = gather_reads(spec, p, offsets, out_height=size[0], out_width=size[1], out_channels=channels)
    assert [found.reads, found.cache_hits, found.dram_reads, found.row_hits] == counted(
        spec, addresses(p, offsets, -(-channels // 16))
    )


def test_by_hand() -> None:
    """2 x 2 pixels of 16 channels, zero offsets: each pixel's window meets the same 4 words; one line holds them all."""
    p = SamplingPoints(channels=16, height=2, width=2)
    zeros = np.zeros((18, 2, 2), dtype=np.int64)
    spec = DeformSpec(llc=True, llc_read_ns=10.0, dram_read_ns=30.0, dram_row_miss_ns=36.0, outstanding_reads=9)
    size = {"out_height": 2, "out_width": 2, "out_channels": 16}
    cached = gather_cost(spec, p, zeros, **size)
    assert (cached.reads, cached.hit_rate, cached.row_hit_rate, cached.basis) == (16, 15 / 16, 0.0, "data")
    assert cached.seconds == pytest.approx((15 * 10 + 30 + 4) * 1e-9) and cached.read_ns == pytest.approx(184 / 16)
    direct = gather_cost(spec.model_copy(update={"llc": False}), p, zeros, **size)
    assert (cached.cache_hits, cached.dram_bytes, direct.cache_hits, direct.dram_bytes) == (15, 64, 0, 16 * 64)
    for line, moved in (
        (16, 16 // 4 * 64),
        (256, 256),
    ):  # four pixels in four lines, or in one: whole bursts of 64 bytes
        other = gather_cost(spec.model_copy(update={"llc_line_bytes": line}), p, zeros, **size)
        assert other.dram_bytes == moved
    slow = gather_cost(DeformSpec(dram_gib_per_s=0.5), p, zeros, **size)
    assert slow.seconds == pytest.approx(16 * 64 / 2**29), "the bus moves whole bursts in no less than its time"
    # Map and ofmap lie in two pages, of two banks: the first read alone opens a row.
    assert (direct.hit_rate, direct.row_hit_rate) == (None, 15 / 16)
    assert direct.seconds == pytest.approx((16 * 30 + 4) * 1e-9)


def test_points_outside_read_nothing() -> None:
    p = SamplingPoints(channels=16, height=1, width=1)
    far = np.full((18, 1, 1), 9, dtype=np.int16)
    cost = gather_cost(DeformSpec(llc=True), p, far, out_height=1, out_width=1, out_channels=16)
    assert (cost.reads, cost.seconds, cost.hit_rate, cost.row_hit_rate, cost.read_ns) == (0, 0.0, None, None, 0.0)


def test_far_offsets_cost_more() -> None:
    """Zero offsets walk along rows; random ones do not, and a map beyond the cache shows it there too."""
    p = SamplingPoints(channels=256, height=48, width=48)
    size = {"out_height": 48, "out_width": 48, "out_channels": 256}
    rates = {}
    for llc in (False, True):
        spec = DeformSpec(llc=llc, llc_kib=256)
        for reach in (0, 3, 24):
            statistics = OffsetStatistics(distribution="uniform", low=-reach, high=reach)
            cost = gather_cost(spec, p, statistics, **size)
            assert cost.basis == "statistics"
            rates[llc, reach] = cost.hit_rate if llc else cost.row_hit_rate
            assert gather_cost(spec, p, statistics, **size) == cost
    assert rates[False, 0] > rates[False, 3]
    assert rates[True, 0] > rates[True, 3] > rates[True, 24]


def test_a_larger_cache_never_reads_dram_much_more() -> None:
    p = SamplingPoints(channels=64, height=24, width=24)
    size = {"out_height": 24, "out_width": 24, "out_channels": 64}
    misses = [gather_reads(DeformSpec(llc=True, llc_kib=k), p, **size).dram_reads for k in (16, 64, 256, 1024)]
    assert misses == sorted(misses, reverse=True)
    zeros = np.zeros((18, 24, 24), dtype=np.int16)
    fetched = gather_reads(DeformSpec(llc=True), p, zeros, **size).dram_reads
    assert fetched == 24 * 24 * 64 / 64, "each line of the map is fetched once"


def test_samples_give_their_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    p = SamplingPoints(channels=16, height=6, width=6)
    size = {"out_height": 6, "out_width": 6, "out_channels": 16}
    images = np.random.default_rng(0).integers(-3, 4, (3, 18, 6, 6))
    apart = [gather_reads(DeformSpec(), p, image, **size) for image in images]
    assert gather_reads(DeformSpec(), p, images, **size).reads == pytest.approx(np.mean([a.reads for a in apart]))
    monkeypatch.setattr(gather, "SIMULATED_READS", 2 * 6 * 9)
    assert gather_cost(DeformSpec(), p, images, **size).basis == "data, first 6 of 18 rows simulated"
    assert gather_cost(DeformSpec(), p, **size).basis == "statistics, first 2 of 6 rows simulated"


def test_distributions() -> None:
    rng = np.random.default_rng(0)
    uniform = gather.random_offsets(OffsetStatistics(distribution="uniform", low=-2, high=3), (6, 99), rng)
    assert (uniform.min(), uniform.max(), uniform.dtype) == (-2, 3, np.int16)
    normal = gather.random_offsets(OffsetStatistics(distribution="normal", low=-7, high=7, std=2.0), (99, 99), rng)
    assert abs(normal.mean()) < 0.1 and normal.std() == pytest.approx(2.0, rel=0.05) and abs(normal).max() == 7
    fixed = gather.random_offsets(OffsetStatistics(distribution="fixed", low=0.0, high=0.0), (2, 2), rng)
    assert not fixed.any()


POINTS = SamplingPoints(channels=16, height=2, width=2)


@pytest.mark.parametrize(
    "offsets, sentence",
    [
        (
            np.full((18, 2, 2), np.nan),
            "offsets that read memory must be whole numbers, got nan; round them in the network",
        ),
        (
            np.zeros((18, 2, 2)),
            "offsets that read memory must be whole numbers, got float64; round them in the network",
        ),
        (
            np.zeros((9, 2, 2), dtype=np.int16),
            "offsets must have the shape [18, 2, 2] (or samples of it), got [9, 2, 2]",
        ),
        (
            np.zeros((0, 18, 2, 2), dtype=np.int16),
            "offsets must have the shape [18, 2, 2] (or samples of it), got [0, 18, 2, 2]",
        ),
        (np.full((18, 2, 2), 40000), "offsets must be within 32767, got one of 40000 to 40000"),
    ],
)
def test_wrong_offsets_are_refused(offsets: NDArray[np.generic], sentence: str) -> None:
    with pytest.raises(InputError) as error:
        gather_cost(DeformSpec(), POINTS, offsets, out_height=2, out_width=2, out_channels=16)  # type: ignore[arg-type]
    assert str(error.value) == sentence


def test_reads_hide_behind_the_engine_with_the_cache_only() -> None:
    direct, cached = DeformSpec(), DeformSpec(llc=True)
    assert sampled_seconds(cached, 10.0, 9.0) == 10.0 and sampled_seconds(cached, 1.0, 9.0) == 9.0
    assert sampled_seconds(direct, 10.0, 9.0) == 10.0 + 7.0, "7 of the 9 reads of a window wait for the engine"
    assert sampled_seconds(direct, 1.0, 9.0) == 9.0
    assert sampled_seconds(direct, 10.0, 1.0, taps=1) == 10.0


def test_real_against_random_offsets() -> None:
    p = SamplingPoints(channels=256, height=16, width=16)
    smooth = np.zeros((2, 18, 16, 16), dtype=np.int16)
    smooth[:, :, 8:] = 3
    rows = list(compare_offsets(DeformSpec(), {"block": (p, 256)}, OffsetTrace(offsets={"block": smooth})))
    kinds = ("data", "random", "zero")
    assert [(r.llc, r.offsets) for r in rows] == [(llc, kind) for llc in (False, True) for kind in kinds]
    real, random, zero = rows[:3]
    assert zero.seconds > 0 and real.row_hit_rate is not None and random.row_hit_rate is not None
    assert real.row_hit_rate > random.row_hit_rate and real.read_ns < random.read_ns
    with pytest.raises(InputError) as error:
        list(compare_offsets(DeformSpec(), {"stem": (p, 64)}, OffsetTrace(offsets={"block": smooth})))
    assert str(error.value) == "the offset trace has no layer 'stem', only block"
