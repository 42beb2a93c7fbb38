"""Where and why our stalls differ from SCALE-Sim's USER mode: cycles beside cycles, and the difference by cause.

Reference: 458 rows of 28 random layers, measured with SCALE-Sim 2.0 (commit 22f88b1) at 1, 4 and 10 words a cycle and SRAMs of
2, 8 and 64 kB (`validation_data/scalesim_user.csv`). A word is a byte there and DRAM has neither bursts nor latency, so here
partial sums are 8 bits wide, and a burst is a byte. Its three streams have b words a cycle each, ours share one bus: priced at b,
and at 3 b.

The difference is taken apart by turning one rule after the other into SCALE-Sim's, in the order of `CAUSES`; what a rule adds
depends on that order, the sum does not. `free prefetch` takes away the words that it moves before its first cycle and after its
last, which its total leaves out; `buffer` uses its measured DRAM words; what then remains is due to when words are fetched.
"""

import csv
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import numpy.typing as npt

from picojoule.accel.systolic import timing
from picojoule.sim.hardware import load_hardware
from picojoule.sim.importers.scalesim_csv import load_csv

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
_GEOMETRY = ("ifmap_h", "ifmap_w", "filt_h", "filt_w", "channels", "num_filters", "stride")
_DESIGN = ("dataflow", "rows", "cols", "sram_kB_each", "bw_words_per_cycle")
_MOVED = ("ifmap", "filter", "psum_reads", "psum_writes", "ofmap")
CAUSES: Mapping[str, str] = {
    "edge folds": "an edge fold costs R and C cycles, not its used rows and columns",
    "os drain": "results of os leave before they are computed",
    "fill and store": "our total begins with the first fill, ends with the last store, and folds wait one by one",
    "private buses": "three streams of b words a cycle each, not one",
    "partial sums": "every row fold writes its sums to DRAM, none is read back",
    "free prefetch": "half of each SRAM is filled before its first cycle, and what is stored after its last is not waited for",
    "buffer": "more DRAM reads: a buffer of half the SRAM that moves forward only, in whole windows with im2col copies",
    "late fetches": "a window is asked for when a word is missing, and the array waits for all of it",
}
"""What differs, in the order in which the rules are exchanged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Layers of the reference, one element each: SCALE-Sim's cycles and words, ours at b words a cycle and at three times that.

    `bound` is the least any array of these PEs could need: its MACs, or each distinct word over the bus; `bound_private` with a
    bus of b for each operand. `their_span` counts from the first fill to the last store. `causes` [cause, layer] adds up to
    theirs - ours, in cycles.
    """

    dataflow: npt.NDArray[np.str_]
    words_per_cycle: IntArray
    sram_kib: IntArray
    theirs: IntArray
    their_stalls: IntArray
    their_span: IntArray
    their_reads: IntArray
    ours: IntArray
    our_stalls: IntArray
    our_reads: IntArray
    our_words: IntArray
    ours_at_3b: IntArray
    compulsory_reads: IntArray
    bound: FloatArray
    bound_private: FloatArray
    bound_at_3b: FloatArray
    hanging: npt.NDArray[np.bool_]
    causes: FloatArray

    def where(self, chosen: npt.NDArray[np.bool_]) -> "Comparison":
        """Return some of the layers."""
        kept = {f.name: getattr(self, f.name)[..., chosen] for f in fields(self)}
        return Comparison(**kept)


@cache
def comparison() -> Comparison:
    """Return the comparison of all rows; takes about a second."""
    text = files("picojoule").joinpath("validation_data/scalesim_user.csv").read_text(encoding="utf-8")
    designs: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for row in csv.DictReader(text.splitlines()):
        designs.setdefault(tuple(row[key] for key in _DESIGN), []).append(row)
    parts = [_compare(layers) for layers in designs.values()]
    return Comparison(
        **{f.name: np.concatenate([getattr(p, f.name) for p in parts], axis=-1) for f in fields(Comparison)}
    )


def _compare(rows: Sequence[Mapping[str, str]]) -> Comparison:
    """Return the comparison of layers on one design."""

    def column(name: str) -> IntArray:
        return np.array([int(float(row[name])) for row in rows], dtype=np.int64)

    m, n, k, stalls, total = (column(name) for name in ("M", "N", "K", "stall_cycles", "total_cycles"))
    flow, height, width = rows[0]["dataflow"], int(rows[0]["rows"]), int(rows[0]["cols"])
    b = int(rows[0]["bw_words_per_cycle"])
    shared, faster = _priced(rows, b), _priced(rows, 3 * b)
    ours = shared["compute"] + shared["stalls"]
    ifmap = _touched(*(column(name) for name in _GEOMETRY))
    compulsory = ifmap + n * k + m * n
    reads = column("dram_ifmap_reads"), column("dram_filter_reads")
    grid = timing.fold_grid(int(timing.Dataflow.of(flow)), height, width, m, n, k)
    outside = (
        -b * np.minimum(0, column("dram_ifmap_start")),
        -b * np.minimum(0, column("dram_filter_start")),
        b * np.maximum(0, column("dram_ofmap_stop") - total),
    )
    measured = (*reads, column("dram_ofmap_writes"))
    steps = _exchange(shared, grid, (m, n, k), (height, width, b), (measured, outside), total)
    macs_bound = m * n * k / (height * width)
    return Comparison(
        dataflow=np.array([flow] * len(rows)),
        words_per_cycle=column("bw_words_per_cycle"),
        sram_kib=column("sram_kB_each"),
        theirs=total,
        their_stalls=stalls,
        their_span=np.maximum(total, column("dram_ofmap_stop"))
        - np.minimum(column("dram_ifmap_start"), column("dram_filter_start"))
        + 1,
        their_reads=reads[0] + reads[1],
        ours=ours,
        our_stalls=shared["stalls"],
        our_reads=shared["ifmap"] + shared["filter"] + shared["psum_reads"],
        our_words=sum((shared[name] for name in _MOVED), np.zeros_like(m)),
        ours_at_3b=faster["compute"] + faster["stalls"],
        compulsory_reads=ifmap + n * k,
        bound=np.maximum(macs_bound, compulsory / b),
        bound_at_3b=np.maximum(macs_bound, compulsory / (3 * b)),
        bound_private=np.maximum(macs_bound, np.maximum(np.maximum(ifmap, n * k), m * n) / b),
        hanging=_hanging(*(column(name) for name in _GEOMETRY)),
        causes=np.diff(steps, axis=0),
    )


def _exchange(
    ours: Mapping[str, IntArray],
    grid: timing.FoldGrid,
    sizes: tuple[IntArray, IntArray, IntArray],
    design: tuple[int, int, int],
    their_words: tuple[Sequence[IntArray], Sequence[IntArray]],
    their_total: IntArray,
) -> FloatArray:
    """Return total cycles [step, layer]: ours, then with one more rule exchanged at each step, at last theirs.

    `their_words`: ifmap and filter reads and ofmap writes of DRAM in all, and those outside its total.
    """
    (m, n, k), (height, width, b), (measured, outside) = sizes, design, their_words
    compute = ours["compute"]
    full = timing.scalesim_cycles(grid.dataflow, height, width, m, n, k)
    drains = np.where(grid.dataflow == timing.Dataflow.OS, grid.folds * height, 0)
    sums = ours["psum_writes"]
    read, filters, outputs = ours["ifmap"], ours["filter"], ours["ofmap"]
    written = m * n * np.where(grid.dataflow == timing.Dataflow.OS, 1, grid.row_folds)

    def waits(*streams: IntArray) -> FloatArray:
        """Return cycles beyond `full` of streams with a bus of their own."""
        beyond: FloatArray = np.maximum(0.0, np.max(np.stack(streams), axis=0) / b - full)
        return beyond

    everything = sum((ours[name] for name in _MOVED), np.zeros_like(m))
    steps = [
        compute + ours["stalls"],
        full + drains + ours["stalls"],
        full + ours["stalls"],
        full + waits(everything),
        full + waits(read, filters, outputs + sums + ours["psum_reads"]),
        full + waits(read, filters, written),
        full
        + waits(*(np.maximum(0, words - free) for words, free in zip((read, filters, written), outside, strict=True))),
        full + waits(*(words - free for words, free in zip(measured, outside, strict=True))),
        their_total,
    ]
    return np.stack([np.asarray(step, dtype=np.float64) for step in steps])


def _priced(rows: Sequence[Mapping[str, str]], words_per_cycle: int) -> dict[str, IntArray]:
    """Return our cycles and DRAM words of layers on their design, the bus at so many bytes a cycle."""
    clock_mhz = 1000.0
    row, kib = rows[0], float(rows[0]["sram_kB_each"])
    hardware = load_hardware(
        "edge-16x16",
        {
            "rows": int(row["rows"]),
            "cols": int(row["cols"]),
            "dataflow": row["dataflow"],
            "clock_mhz": clock_mhz,
            "ifmap_sram_kib": kib,
            "filter_sram_kib": kib,
            "ofmap_sram_kib": kib,
            "accumulator_bits": 8,
            "dram_burst_bytes": 1,
            "dram_gib_per_s": words_per_cycle * clock_mhz * 1e6 / 2**30,
        },
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "layers.csv"
        lines = [",".join((f"{i}-{r['layer']}", *(r[key] for key in _GEOMETRY))) for i, r in enumerate(rows)]
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        layers = hardware.evaluate(load_csv(file, form="conv")).layers
    found = {
        "compute": [layer.compute_cycles for layer in layers],
        "stalls": [layer.stall_cycles for layer in layers],
        "ifmap": [layer.reads["dram.ifmap"] for layer in layers],
        "filter": [layer.reads["dram.filter"] for layer in layers],
        "psum_reads": [layer.reads["dram.psum"] for layer in layers],
        "psum_writes": [layer.writes["dram.psum"] for layer in layers],
        "ofmap": [layer.writes["dram.ofmap"] for layer in layers],
    }
    return {name: np.array(values, dtype=np.int64) for name, values in found.items()}


def _touched(*geometry: IntArray) -> IntArray:
    """Return the distinct ifmap words that any window reads; those beyond the edge cost nothing in either."""
    height, width, filter_h, filter_w, channels, _, stride = geometry
    used = []
    for size, kernel in ((height, filter_h), (width, filter_w)):
        windows = -(-(size - kernel + stride) // stride)
        last = size - (windows - 1) * stride
        used.append(np.where(stride < kernel, np.minimum(size, (windows - 1) * stride + kernel), 0))
        apart = (windows - 1) * kernel + np.minimum(kernel, last)
        used[-1] = np.where(stride < kernel, used[-1], apart)
    return np.asarray(used[0] * used[1] * channels, dtype=np.int64)


def _hanging(*geometry: IntArray) -> npt.NDArray[np.bool_]:
    """Return whether a layer's last windows hang over the edge (both count them: our importer keeps that geometry)."""
    height, width, filter_h, filter_w, _, _, stride = geometry
    return np.asarray(((height - filter_h) % stride > 0) | ((width - filter_w) % stride > 0))


# --- tables -----------------------------------------------------------------------------------------------------------------


def groups(found: Comparison) -> Iterator[tuple[str, Comparison]]:
    """Yield the layers per dataflow and bandwidth, per SRAM size, and all."""
    for flow in ("os", "ws", "is"):
        for b in (1, 4, 10):
            chosen = (found.dataflow == flow) & (found.words_per_cycle == b)
            yield f"{flow}, {b} word{'s' * (b > 1)} a cycle", found.where(chosen)
    for kib in (2, 8, 64):
        yield f"{kib} kB SRAMs", found.where(found.sram_kib == kib)
    yield "all", found
