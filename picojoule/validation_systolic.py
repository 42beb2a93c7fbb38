"""Rows of `picojoule validate` for systolic arrays: SCALE-Sim's counts, Timeloop's, cycle twin, RTL, CACTI, the first TPU.

SCALE-Sim, Timeloop and CACTI are other people's tools, whose figures were measured once and stand in `validation_data`. Three
witnesses are our own: the cycle twin and the Verilog array, both written from the description of the timing, not from the
closed form, and the step counter of the Timeloop reference set, which follows rules learnt from that tool. The Verilog (run in
Icarus Verilog) has neither hidden loads nor groups, and its rows compare cycles and flips; that its outputs are right is a test.
A row sums many layers or counts; how many of them there are and how many differ is in its name, because differences of a sum
may cancel. Only the CACTI rows are `calibrated`: the SRAM formulas were fitted to that sweep.
"""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from operator import ne
from typing import Any

import numpy as np
import numpy.typing as npt

from picojoule import validation_tpu
from picojoule.accel.rtl.cases import BITS, RtlCase, operands
from picojoule.accel.systolic import cycle_twin, timing, toggles, traffic
from picojoule.accel.systolic.loop_nest import OPERANDS, LoopNest
from picojoule.accel.systolic.loop_nest_counts import NestCounts, count
from picojoule.sim.technology.sram import sram_access_ns, sram_area_mm2, sram_energy_pj, sram_leakage_mw
from picojoule.sim.technology.sram_fit import cacti_sweep
from picojoule.validation_rows import Row, make_row

SCALESIM = "SCALE-Sim 3.0.0 and 2.0, measured"
TIMELOOP = "Timeloop (commit 4cf6d4c), measured"
STEP_COUNTER = "step counter after Timeloop's rules, plain overlap of halos (our own)"
TWIN = "cycle twin, simulated PE by PE (our own)"
CACTI = "CACTI 7, 66 SRAMs of 22 to 65 nm, measured"

TWIN_CASES = (
    ("os", 8, 8, 19, 21, 12, False),
    ("os", 16, 4, 33, 9, 2, True),
    ("ws", 8, 8, 12, 21, 19, False),
    ("ws", 16, 4, 3, 9, 37, True),
    ("is", 5, 7, 11, 10, 17, False),
)
"""Layers run on the twin: dataflow, rows, cols, m, n, k, whether load and drain are hidden."""


def rows() -> list[Row]:
    """Return rows {name, source, quantity, reference, ours, error_pct, calibrated}."""
    return [*scalesim(), *timeloop(), *twin(), *rtl(), *cacti(), *validation_tpu.rows()]


def _data(name: str) -> str:
    return files("picojoule").joinpath(f"validation_data/{name}").read_text(encoding="utf-8")


# --- SCALE-Sim ------------------------------------------------------------------------------------------------------------

_SRAM = ("sram_ifmap_reads", "sram_filter_reads", "sram_ofmap_writes")
_UTILIZATION = ("overall_util_pct", "mapping_eff_pct", "compute_util_pct")


def scalesim_golden() -> dict[str, list[dict[str, str]]]:
    """Return the measured layers by family."""
    families: dict[str, list[dict[str, str]]] = {}
    for row in csv.DictReader(_data("scalesim.csv").splitlines()):
        families.setdefault(_family(row), []).append(row)
    return families


def _family(row: Mapping[str, str]) -> str:
    if row["topology"] == "random":
        return "random convolutions" if row["layer"].startswith("rc") else "random products"
    if row["topology"] == "gemm_regress":
        return "product 256x128x256"
    return "AlexNet, ResNet-18, MobileNet" + (" / 4" if row["topology"].endswith("_div4") else "")


def scalesim() -> Iterator[Row]:
    """Yield sums over the layers of a family: cycles, SRAM words, mean utilizations, as `compat: scalesim` counts them.

    Where the tool stalled, cycles are those of its compute trace, and the overall utilization is left out: it would take the
    tool's own stalls as given.
    """
    for family, layers in scalesim_golden().items():
        m, n, k, height, width, stalls = (
            np.array([int(layer[key]) for layer in layers]) for key in ("M", "N", "K", "rows", "cols", "stall_cycles")
        )
        flow = np.array([int(timing.Dataflow.of(layer["dataflow"])) for layer in layers])
        shape = (flow, height, width, m, n, k)
        words = traffic.scalesim_sram_counts(*shape)
        use = timing.scalesim_utilizations(*shape)
        stalled = bool(stalls.any())
        ours: dict[str, dict[str, npt.NDArray[Any]]] = {
            f"cycles{' without stalls' if stalled else ''}": {"lines": timing.scalesim_cycles(*shape)},
            "SRAM words": dict(zip(_SRAM, (words.ifmap_reads, words.filter_reads, words.ofmap_writes), strict=True)),
            "utilizations, mean %": {
                name: share
                for name, share in zip(
                    _UTILIZATION, (use.overall_pct, use.mapping_efficiency_pct, use.compute_pct), strict=True
                )
                if not (stalled and name == "overall_util_pct")
            },
        }
        for quantity, columns in ours.items():
            yield _compared(family, quantity, layers, columns)


def _compared(
    family: str, quantity: str, layers: Sequence[Mapping[str, str]], columns: Mapping[str, npt.NDArray[Any]]
) -> Row:
    reference = np.array([[float(layer[key]) for key in columns] for layer in layers])
    ours = np.stack(list(columns.values()), axis=1).astype(float)
    percent = quantity.endswith("%")  # printed to six decimals
    differ = (np.abs(ours - reference) > (6e-7 if percent else 0)).any(axis=1).sum()
    name = f"{family}: {differ} of {len(layers)} layers differ"
    if percent:
        return make_row(name, SCALESIM, quantity, float(reference.mean()), float(ours.mean()))
    return make_row(name, SCALESIM, quantity, int(reference.sum()), int(ours.sum()))


# --- Timeloop -------------------------------------------------------------------------------------------------------------


def timeloop() -> Iterator[Row]:
    """Yield sums over 40 fixed mappings of the words read, filled and updated: the tool's, the step counter's; and cycles.

    The tool has no figure of its own for registers of ragged spatial mappings. Its DRAM and SRAM Inputs differ by its
    same-move rule for halos.
    """
    cases = json.loads(_data("timeloop.json"))
    keys = ("workload", "rows", "cols", "levels", "keep", "mapping")
    found = [count(LoopNest.from_dict({key: case[key] for key in keys})) for case in cases]
    for kind in ("DRAM", "SRAM", "REG"):
        for operand in OPERANDS:
            yield _counted(cases, found, kind, [operand], "tool")
    for kind in ("DRAM", "SRAM", "REG"):
        yield _counted(cases, found, kind, list(OPERANDS), "overlap")
    theirs, ours = [case["cycles"] for case in cases], [counts.cycles for counts in found]
    name = f"{sum(map(ne, theirs, ours))} of {len(cases)} mappings differ"
    yield make_row(name, STEP_COUNTER, "cycles", sum(theirs), sum(ours))


def _counted(
    cases: Sequence[Mapping[str, Any]], found: Sequence[NestCounts], kind: str, operands: list[str], key: str
) -> Row:
    """Return the row of reads, fills and updates of operands at all memories of a kind, where `key` has figures."""
    theirs: list[int] = []
    ours: list[int] = []
    mappings = 0
    for case, counts in zip(cases, found, strict=True):
        before = len(theirs)
        for level, by_operand in case["counts"].items():
            for operand in operands:
                golden = by_operand.get(operand, {}).get(key)
                if golden is not None and kind == (level if level in ("DRAM", "REG") else "SRAM"):
                    access = counts.of(level, operand)
                    theirs += golden
                    ours += [access.reads, access.fills, access.updates]
        mappings += len(theirs) > before
    differ = sum(map(ne, theirs, ours))
    what = operands[0] if len(operands) == 1 else "all operands"
    name = f"{kind} {what}: {differ} of {len(ours)} counts of {mappings} mappings differ"
    return make_row(name, TIMELOOP if key == "tool" else STEP_COUNTER, "words", sum(theirs), sum(ours))


# --- twin and RTL -----------------------------------------------------------------------------------------------------------


def twin() -> Iterator[Row]:
    """Yield the closed form's cycles and the counted flips beside those of the cycle-by-cycle twin."""
    for flow, height, width, m, n, k, hidden in TWIN_CASES:
        a, b = operands(RtlCase(flow, height, width, m, n, k))
        run = cycle_twin.run(a, b, flow, height, width, bits=BITS, overlap_load=hidden, overlap_drain=hidden)
        name = f"{flow} {height}x{width} m{m} n{n} k{k}{', hidden load and drain' if hidden else ''}"
        yield make_row(name, TWIN, "cycles", run.cycles, _closed_cycles(flow, height, width, m, n, k, hidden))
        theirs = [getattr(run, f"{what}_flips") for what in _FLIPS]
        ours = _counted_flips(flow, height, width, a, b)
        yield make_row(name, TWIN, "flips of registers and ports", sum(theirs), sum(ours))


def rtl() -> Iterator[Row]:
    """Yield cycles and flips of the Verilog array beside ours, per dataflow; the flips of each register and port are compared.

    Its `is` is its `ws` with the operands exchanged.
    """
    kept = json.loads(_data("rtl.json"))
    source = f"Verilog array without overlaps and groups (our own), {kept['tool'].split('(')[0].strip()}"
    for flow in ("os", "ws", "is"):
        cases = [case for case in kept["cases"] if case["dataflow"] == flow]
        theirs: dict[str, list[list[int]]] = {"cycles": [], "flips of registers and ports": []}
        ours: dict[str, list[list[int]]] = {quantity: [] for quantity in theirs}
        for case in cases:
            layer = RtlCase(**{key: case[key] for key in RtlCase._fields})
            a, b = operands(layer)
            theirs["cycles"].append([case["cycles"]])
            ours["cycles"].append([_closed_cycles(*layer[:6])])
            theirs["flips of registers and ports"].append([case[f"{what}_flips"] for what in _FLIPS])
            ours["flips of registers and ports"].append(_counted_flips(*layer[:3], a, b, layer.code))
        for quantity, figures in theirs.items():
            differ = sum(x != y for x, y in zip(figures, ours[quantity], strict=True))
            name = f"{flow} 4x4 and 8x8: {differ} of {len(cases)} layers differ"
            yield make_row(name, source, quantity, sum(map(sum, figures)), sum(map(sum, ours[quantity])))


_FLIPS = ("weight", "activation", "load", "weight_port", "activation_port")


def _closed_cycles(flow: str, height: int, width: int, m: int, n: int, k: int, hidden: bool = False) -> int:
    code = int(timing.Dataflow.of(flow))
    return int(timing.fold_cycles(code, height, width, m, n, k, 1, overlap_load=hidden, overlap_drain=hidden))


def _counted_flips(
    flow: str,
    height: int,
    width: int,
    a: npt.NDArray[np.int64],
    b: npt.NDArray[np.int64],
    code: str = "twos_complement",
) -> list[int]:
    """Return the toggle counter's flips of a [m, k] times b [k, n], in the order of `_FLIPS`."""
    flips = toggles.port_flips(
        b.T[None], a.T[None], flow, height, width, weight_bits=BITS, activation_bits=BITS, code=code
    )
    return [int(getattr(flips, what)) for what in _FLIPS]


# --- CACTI ------------------------------------------------------------------------------------------------------------------


def cacti() -> Iterator[Row]:
    """Yield the SRAM formulas beside CACTI: sums of logarithms mean little, so the geometric mean and the spread in the name."""
    for quantity in ("read", "write", "leakage", "area", "access"):
        ratios = []
        for (node, cell), sweep in cacti_sweep().items():
            kib, bits = sweep["kib"], sweep["bits"]
            if quantity in ("read", "write"):
                ours = sram_energy_pj(kib, bits, node, cell, kind=quantity)
            else:
                by_capacity = {"leakage": sram_leakage_mw, "area": sram_area_mm2, "access": sram_access_ns}
                ours = by_capacity[quantity](kib, node, cell)
            ratios.append(ours / sweep[quantity])
        off = 100.0 * np.abs(np.concatenate(ratios) - 1.0)
        mean = float(np.exp(np.log(np.concatenate(ratios)).mean()))
        name = f"SRAM {quantity}: median error {np.median(off):.1f} %, worst {off.max():.0f} %"
        yield make_row(name, CACTI, "ours / CACTI, geometric mean", 1.0, mean, calibrated=True)
