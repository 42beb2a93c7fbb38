"""Rows of `picojoule validate` for systolic arrays: SCALE-Sim's counts, Timeloop's, cycle twin, RTL, CACTI, the first TPU.

SCALE-Sim, Timeloop, Icarus Verilog and CACTI are other people's tools, whose figures were measured once and stand in
`validation_data`. Twin and RTL were written from the description of the timing, not from the closed form. A row sums many layers
or counts; how many of them there are and how many differ is in its name, because differences of a sum may cancel. Only the CACTI
rows are `calibrated`: the SRAM formulas were fitted to that sweep.
"""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt

from picojoule import validation_tpu
from picojoule.accel.rtl.cases import BITS, RtlCase, operands
from picojoule.accel.systolic import cycle_twin, timing, toggles, traffic
from picojoule.accel.systolic.loop_nest import OPERANDS, LoopNest
from picojoule.accel.systolic.loop_nest_counts import count
from picojoule.sim.technology.sram import sram_access_ns, sram_area_mm2, sram_energy_pj, sram_leakage_mw
from picojoule.sim.technology.sram_fit import cacti_sweep

Row = dict[str, Any]
SCALESIM = "SCALE-Sim 3.0.0 and 2.0, measured"
TIMELOOP = "Timeloop (commit 4cf6d4c), measured; plain overlap of halos"
TIMELOOP_OWN = "Timeloop (commit 4cf6d4c), measured"
TWIN = "cycle twin, simulated PE by PE"
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


def make_row(name: str, source: str, quantity: str, reference: float, ours: float, *, calibrated: bool = False) -> Row:
    """Return a row with its error."""
    return {
        "name": name,
        "source": source,
        "quantity": quantity,
        "reference": reference,
        "ours": ours,
        "error_pct": 100.0 * (ours - reference) / reference,
        "calibrated": calibrated,
    }


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
    """Yield sums over the layers of a family: cycles, SRAM words, mean utilizations, as `compat: scalesim` counts them."""
    for family, layers in scalesim_golden().items():
        m, n, k, height, width, stalls = (
            np.array([int(layer[key]) for layer in layers]) for key in ("M", "N", "K", "rows", "cols", "stall_cycles")
        )
        flow = np.array([int(timing.Dataflow.of(layer["dataflow"])) for layer in layers])
        shape = (flow, height, width, m, n, k)
        words = traffic.scalesim_sram_counts(*shape)
        use = timing.scalesim_utilizations(*shape, stall_cycles=stalls)
        ours: dict[str, dict[str, npt.NDArray[Any]]] = {
            "cycles": {"lines": timing.scalesim_cycles(*shape)},
            "SRAM words": dict(zip(_SRAM, (words.ifmap_reads, words.filter_reads, words.ofmap_writes), strict=True)),
            "utilizations, mean %": dict(
                zip(_UTILIZATION, (use.overall_pct, use.mapping_efficiency_pct, use.compute_pct), strict=True)
            ),
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
    """Yield sums over 40 fixed mappings of the words read, filled and updated, per kind of memory and operand; and cycles."""
    cases = json.loads(_data("timeloop.json"))
    found = []
    for case in cases:
        keys = ("workload", "rows", "cols", "levels", "keep", "mapping")
        found.append(count(LoopNest.from_dict({key: case[key] for key in keys})))
    for kind in ("DRAM", "SRAM", "REG"):
        for operand in OPERANDS:
            for key, source in (("overlap", TIMELOOP), ("tool", TIMELOOP_OWN)):
                theirs, ours = _counts_of(cases, found, kind, operand, key)
                differ = sum(a != b for a, b in zip(theirs, ours, strict=True))
                name = f"{kind} {operand}: {differ} of {len(ours)} counts of {len(cases)} mappings differ"
                if key == "overlap" or differ:  # the tool's own where its same-move rule for halos makes a difference
                    yield make_row(name, source, "words", sum(theirs), sum(ours))
    differ = sum(case["cycles"] != counts.cycles for case, counts in zip(cases, found, strict=True))
    theirs, ours = [case["cycles"] for case in cases], [counts.cycles for counts in found]
    name = f"{differ} of {len(cases)} mappings differ"
    yield make_row(name, "Timeloop's mappings, steps counted one by one", "cycles", sum(theirs), sum(ours))


def _counts_of(
    cases: Sequence[Mapping[str, Any]], found: Sequence[Any], kind: str, operand: str, key: str
) -> tuple[list[int], list[int]]:
    """Return (theirs, ours): reads, fills and updates of an operand at all memories of a kind; the tool's where it has one."""
    theirs: list[int] = []
    ours: list[int] = []
    for case, counts in zip(cases, found, strict=True):
        for level, by_operand in case["counts"].items():
            golden = by_operand.get(operand, {}).get(key)
            if golden is None or kind != (level if level in ("DRAM", "REG") else "SRAM"):
                continue
            access = counts.of(level, operand)
            theirs += golden
            ours += [access.reads, access.fills, access.updates]
    return theirs, ours


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
    """Yield cycles and flips of the Verilog array beside ours, per dataflow; the flips of each register and port are compared."""
    kept = json.loads(_data("rtl.json"))
    source = f"Verilog array, {kept['tool'].split('(')[0].strip()}, measured"
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
