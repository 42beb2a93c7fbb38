"""Random products and a walk over every tile of their mappings: the slow twin of `mapping_cost`."""

from fractions import Fraction
from itertools import product
from math import ceil
from typing import Any

from numpy.random import Generator

from picojoule.accel.systolic import timing, traffic
from picojoule.accel.systolic.dram_bus import Bus
from picojoule.accel.systolic.event_twin import TwinBus
from picojoule.accel.systolic.mapping_space import Problem, ifmap_tile
from picojoule.accel.systolic.timing import Dataflow


def random_problem(rng: Generator, halves: tuple[int, int, int] | None = None, **more: Any) -> Problem:
    """Return a small product, every third a convolution's, on a small design."""
    conv = rng.integers(3) == 0
    width, taps, channels = int(rng.integers(1, 5)), int(rng.integers(1, 4)), int(rng.integers(1, 4))
    out_rows, stride = int(rng.integers(1, 5)), int(rng.integers(1, 4))
    size = {
        "m": out_rows * width if conv else int(rng.integers(1, 8)),
        "k": channels * taps * taps if conv else int(rng.integers(1, 8)),
    }
    geometry = {
        "m_unit": width, "k_unit": taps * taps, "stride": stride, "kernel": taps, "row_words": width + taps - 1,
        "in_rows": min((out_rows - 1) * stride + taps, out_rows * taps),
    }  # fmt: skip
    return Problem(
        **{
            "dataflow": Dataflow(int(rng.integers(3))), "rows": int(rng.integers(1, 5)), "cols": int(rng.integers(1, 5)),
            "n": int(rng.integers(1, 8)), "repeats": int(rng.choice([1, 1, 3])), **size,
            **(geometry if conv else {"in_rows": size["m"]}),
            "ifmap_bits": 8, "filter_bits": 4, "ofmap_bits": 8, "accumulator_bits": 32,
            "halves": halves or tuple(int(2 ** rng.uniform(2, 8)) for _ in range(3)),
            "overlap_load": bool(rng.integers(2)), "overlap_drain": bool(rng.integers(2)),
            "bus": Bus(
                bytes_per_cycle=float(2.0 ** rng.integers(-2, 5)), latency_cycles=float(rng.choice([0, 7])),
                burst_bytes=int(rng.choice([1, 8])),
            ),
            **more,
        }
    )  # fmt: skip


def ranges(size: int, tile: int) -> list[tuple[int, int]]:
    return [(start, min(start + tile, size)) for start in range(0, size, tile)]


def walk(p: Problem, tile: tuple[int, int, int], order: str) -> dict[str, int]:
    """Return counts of one mapping, every tile walked: what is in the memories, and when array and bus are done."""
    spans = dict(zip("mnk", (ranges(s, t) for s, t in zip((p.m, p.n, p.k), tile, strict=True)), strict=True))
    bus = TwinBus(Fraction(p.bus.bytes_per_cycle), Fraction(p.bus.latency_cycles), int(p.bus.burst_bytes))  # type: ignore[arg-type]
    found = dict.fromkeys(("compute", "ifmap_reads", "filter_reads", "ofmap_writes", "psum_reads"), 0)
    found |= dict.fromkeys(("dram_ifmap", "dram_filter", "dram_psums"), 0)
    steps: list[tuple[int, Fraction, Fraction]] = []  # compute, bytes in before it, bytes out behind it
    here: dict[str, Any] = {"ifmap": None, "filter": None, "ofmap": None}
    seen: set[Any] = set()
    places = list(product(*(range(len(spans[d])) for d in order)))
    for at, place in enumerate(places):
        index = dict(zip(order, place, strict=True))
        (m0, m1), (n0, n1), (k0, k1) = (spans[d][index[d]] for d in "mnk")
        m, n, k = m1 - m0, n1 - n0, k1 - k0
        bits = 0
        if here["ifmap"] != (m0, k0):
            words = int(ifmap_tile(p, m, k))
            found["dram_ifmap"] += words
            bits += words * p.ifmap_bits
        if here["filter"] != (n0, k0):
            found["dram_filter"] += n * k
            bits += n * k * p.filter_bits
        if here["ofmap"] != (m0, n0) and (m0, n0) in seen:
            found["dram_psums"] += m * n
            bits += m * n * p.accumulator_bits
        seen.add((m0, n0))
        here = {"ifmap": (m0, k0), "filter": (n0, k0), "ofmap": (m0, n0)}
        inside = traffic.sram_counts(int(p.dataflow), p.rows, p.cols, m, n, k)
        found["ifmap_reads"] += int(inside.ifmap_reads)
        found["filter_reads"] += int(inside.filter_reads)
        found["ofmap_writes"] += int(inside.ofmap_writes)
        found["psum_reads"] += int(inside.psum_reads) + (m * n if k0 else 0)
        cycles = timing.fold_cycles(int(p.dataflow), p.rows, p.cols, m, n, k, 1, p.overlap_load, p.overlap_drain)
        found["compute"] += int(cycles)
        following = dict(zip(order, places[at + 1], strict=True)) if at + 1 < len(places) else None
        leaves = following is None or (following["m"], following["n"]) != (index["m"], index["n"])
        out_bits = m * n * (p.ofmap_bits if k1 == p.k else p.accumulator_bits) if leaves else 0
        steps.append((int(cycles), Fraction(bits, 8), Fraction(out_bits, 8)))
    now = bus.time(steps[0][1] + Fraction(p.other_bytes, p.repeats))
    for i, (cycles_here, _, _) in enumerate(steps):
        coming = steps[i + 1][1] if i + 1 < len(steps) else Fraction(0)
        leaving = steps[i - 1][2] if i else Fraction(0)
        now += max(Fraction(cycles_here), bus.time(coming + leaving))
    now += bus.time(steps[-1][2])
    found = {name: value * p.repeats for name, value in found.items()}
    return {**found, "stalls": ceil(now - found["compute"] // p.repeats - Fraction(1, 10**6)) * p.repeats}
