"""CPU times of pricing, importing and crossbar arithmetic, as ratios to a yardstick measured in the same run."""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from bench_crossbars import cpu_seconds, crossbars

import picojoule as pj
from picojoule.accel.systolic import mapping_search
from picojoule.accel.systolic.design_arrays import DesignArrays
from picojoule.accel.systolic.load import load_of
from picojoule.accel.systolic.spec import SystolicSpec
from picojoule.accel.systolic.totals import totals_of
from picojoule.sim.designs import price_designs
from picojoule.sim.errors import InfeasibleError
from picojoule.sim.hardware import load_hardware


def pricing(repeats: int) -> dict[str, float]:
    """Price ResNet-18 on one design: systolic, another one each time, and a crossbar chip."""
    network, base, crossbars = pj.load("resnet18"), load_hardware("edge-32x32").spec, load_hardware("isaac")
    sizes = [(rows, cols) for rows in range(20, 60, 2) for cols in range(20, 45)]
    specs = [base.model_copy(update={"rows": rows, "cols": cols}) for rows, cols in sizes]

    def all_designs() -> None:
        for spec in specs:
            load_hardware(spec).evaluate(network)

    return {
        f"evaluate resnet18 on {len(specs)} systolic designs, ms each": 1e3 * cpu_seconds(all_designs, 2) / len(specs),
        "evaluate resnet18 on isaac, ms": 1e3 * cpu_seconds(lambda: crossbars.evaluate(network), repeats),
    }


DESIGN_KEYS: dict[str, list[Any]] = {
    "rows": [8, 16, 24, 32, 48, 64, 96, 128],
    "cols": [8, 16, 24, 32, 48, 64, 96, 128],
    "dataflow": ["os", "ws", "is"],
    "clock_mhz": [200.0, 500.0, 1000.0],
    "ifmap_sram_kib": [16.0, 64.0, 256.0, 1024.0],
    "filter_sram_kib": [16.0, 64.0, 256.0, 1024.0],
    "ofmap_sram_kib": [16.0, 64.0, 256.0],
    "dram_gib_per_s": [4.0, 8.0, 16.0, 32.0],
}


SWEEP_VALUES: dict[str, list[Any]] = {
    "rows": [8, 16, 32, 64, 128],
    "cols": [8, 16, 32, 64, 128],
    "dataflow": ["os", "ws", "is"],
    "ifmap_sram_kib": [64.0, 128.0, 256.0, 512.0],
    "filter_sram_kib": [64.0, 128.0, 256.0, 512.0],
    "ofmap_sram_kib": [64.0, 128.0, 256.0],
    "clock_mhz": [200.0, 500.0, 800.0, 1000.0],
    "dram_gib_per_s": [2.0, 4.0, 8.0, 16.0, 32.0, 64.0],
    "dram_latency_ns": [0.0, 50.0, 100.0],
    "dram_burst_bytes": [32, 64, 128, 256],
}
"""Of all of them there are 1,036,800 combinations."""
CHECKED = 500


def sweep_space(points: int) -> dict[str, list[Any]]:
    """Return a full factorial of at most so many points: keys are added with as many values as there is room for."""
    space, room = {}, points
    for key, values in SWEEP_VALUES.items():
        space[key] = values[: max(1, min(len(values), room))]
        room //= len(space[key])
    return space


def sweeps(points: int) -> dict[str, float]:
    """Price ResNet-18 on 10^3 to `points` designs (cycles, stalls, energy, area), and check 500 of the last table's rows."""
    network, base, found = pj.load("resnet18"), load_hardware("edge-32x32"), {}
    pj.sweep(network, base, {"rows": [8, 16]})
    for count in (n for n in (1_000, 10_000, 100_000, 1_000_000) if n <= points):
        start = time.process_time()
        table = pj.sweep(network, base, sweep_space(count + count // 25))
        found[f"sweep resnet18, {len(table)} points, points/s"] = len(table) / (time.process_time() - start)
        found[f"sweep resnet18, {len(table)} points, peak memory of the process, MiB"] = (
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        )
    rows = np.random.default_rng(0).choice(len(table), CHECKED, replace=False)
    found["of 500 random points, equal to evaluate"] = sum(row_is_right(table.iloc[i], network, base) for i in rows)
    return found


def row_is_right(row: Any, network: Any, base: Any) -> bool:
    """Compare a row of a sweep with `evaluate`: whole numbers exactly, others to 1e-12 (the order of sums)."""
    point = {key: row[key] if isinstance(row[key], str) else row[key].item() for key in SWEEP_VALUES}
    point["dram_burst_bytes"] = int(point["dram_burst_bytes"])
    try:
        totals = load_hardware(base.spec, point).evaluate(network).totals
    except InfeasibleError as error:
        return bool(row["infeasible"] == str(error))
    whole = all(row[key] == totals[key] for key in ("compute_cycles", "stall_cycles", "latency_cycles"))
    real = ("latency_s", "energy_pj", "area_mm2", "utilization")
    return whole and all(abs(row[key] - totals[key]) <= 1e-12 * totals[key] for key in real)


def many_designs(repeats: int) -> dict[str, float]:
    """Price 100,000 random systolic designs in one call."""
    rng, count = np.random.default_rng(0), 100_000
    keys = {key: np.array(values)[rng.integers(len(values), size=count)] for key, values in DESIGN_KEYS.items()}
    base = load_hardware("edge-32x32")
    found = {}
    for name in ("resnet20", "resnet18"):
        network = pj.load(name)
        seconds = cpu_seconds(lambda n=network: price_designs(base, n, keys), repeats)
        found[f"price_designs {name}, designs/s"] = count / seconds
    found["peak memory after it, MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


def mappings() -> dict[str, float]:
    """Search the mappings of every layer of a network: list those that fit, count, price, bound and time them."""
    found = {}
    for name, target in (("lenet5", "edge-16x16"), ("dscnn-fashion", "edge-16x16"), ("resnet18", "edge-32x32")):
        spec = load_hardware(target).spec
        assert isinstance(spec, SystolicSpec)
        load = load_of(pj.load(name), spec, 1)
        totals = totals_of(load, DesignArrays.of(spec))
        start = time.process_time()
        made = mapping_search.search(load, totals)
        seconds = time.process_time() - start
        found[f"mapping search of {name}, all of it, mappings/s"] = made.considered / seconds
        found[f"mapping search of {name}, mappings"] = made.considered
        found[f"mapping search of {name}, of them not pruned but timed"] = made.timed
    return found


SEARCH_SPACE: dict[str, Any] = {
    "hardware.rows": {"low": 4, "high": 128, "step": 4},
    "hardware.cols": {"low": 4, "high": 128, "step": 4},
    "hardware.dataflow": ["os", "ws", "is"],
    "hardware.ifmap_sram_kib": {"low": 8, "high": 512, "step": 8},
    "hardware.filter_sram_kib": {"low": 8, "high": 512, "step": 8},
    "hardware.ofmap_sram_kib": {"low": 8, "high": 512, "step": 8},
    "hardware.clock_mhz": [250, 500, 750, 1000],
}


def searching(designs: int) -> dict[str, float]:
    """Search over hardware alone for resnet20: through Optuna in memory, and with our own NSGA-II on disk, all files included.

    Loading the network is counted apart: it takes as long for one trial as for a million.
    """
    study = {"network": "resnet20", "hardware": "edge-32x32", "space": SEARCH_SPACE, "trials": 8}
    study["objectives"] = {"energy_pj_per_sample": "min", "latency_s": "min"}
    found = {}

    def seconds(**changes: Any) -> float:
        with tempfile.TemporaryDirectory() as folder:
            start = time.process_time()
            out = Path(folder) / "study" if changes.pop("keep", False) else None
            pj.search({**study, **changes}, out=out)
            return time.process_time() - start

    seconds()  # imports
    loading = min(seconds() for _ in range(3))
    real = {**SEARCH_SPACE, "hardware.clock_mhz": {"low": 250.0, "high": 1000.0}}  # a range of real numbers is Optuna's
    for sampler, trials in (("nsga2", 1000), ("random", 1000), ("tpe", 200)):
        spent = seconds(space=real, sampler=sampler, trials=trials) - loading
        found[f"Optuna {sampler} in memory, trials/s"] = trials / spent
    three = {**study["objectives"], "area_mm2": "min"}  # type: ignore[dict-item]
    spent = seconds(objectives=three, trials=designs, keep=True)
    found[f"own NSGA-II, {designs} designs in 3 objectives on disk, s"] = spent
    found[f"own NSGA-II, {designs} designs, designs/s"] = designs / (spent - loading)
    return found


def training_jobs(trials: int) -> dict[str, float]:
    """Time a study whose trials train, with one job and with two (wall time: it needs two idle cores)."""
    study = {
        "network": "dscnn-fashion",
        "data": "fashion-mini",
        "hardware": "edge-16x16",
        "space": {"hardware.rows": [8, 16, 32], "compression.lsq.weight_bits": [8, 6, 5, 4, 3, 2]},
        "objectives": {"accuracy": "max", "energy_pj_per_sample": "min"},
        "sampler": "grid",
        "batch_size": 6,
        "trials": trials,
        "training": {"epochs": 3, "proxy_epochs": 3, "pretrain_epochs": 1},
    }
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for jobs in (1, 2):
            out = Path(folder) / str(jobs)
            pj.search({**study, "trials": 2}, out=out)  # the original and two trials: what both have to do first
            start = time.perf_counter()
            pj.search(study, out=out, jobs=jobs, resume=True)
            found[f"training study, {trials - 2} trials, {jobs} jobs, s"] = time.perf_counter() - start
    one, two = found.values()
    return {**found, "training study, two jobs against one": one / two}


def start_up(repeats: int) -> dict[str, float]:
    """Start the command line in a fresh process for its help."""

    def helped() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "picojoule", "--help"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    return {"picojoule --help, CPU s": min(helped() for _ in range(repeats))}


def alone(*section: str) -> dict[str, float]:
    """Run a section in a process of its own, so that its peak memory is its own."""
    command = [sys.executable, __file__, *section, "--format", "json"]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Print every figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--designs", type=int, default=100_000, help="of the search over hardware alone")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    parser.add_argument("--training", type=int, metavar="TRIALS", help="only time a training study with 1 and 2 jobs")
    parser.add_argument("--crossbars", action="store_true", help="only time a network on crossbars")
    parser.add_argument("--sweeps", type=int, metavar="POINTS", help="only time sweeps of up to so many points")
    parser.add_argument("--points", type=int, default=1_000_000, help="of the largest sweep")
    given = parser.parse_args()
    if given.sweeps:
        show(sweeps(given.sweeps), given.format)
        return
    if given.crossbars:
        show(crossbars(given.repeats), given.format)
        return
    if given.training:
        show(training_jobs(given.training), given.format)
        return
    found = {
        **start_up(given.repeats),
        **pricing(given.repeats),
        **many_designs(given.repeats),
        **searching(given.designs),
        **mappings(),
        **alone("--sweeps", str(given.points)),
        **alone("--crossbars", "--repeats", str(given.repeats)),
    }
    show(found, given.format)


def show(found: dict[str, float], form: str) -> None:
    """Print figures."""
    if form == "json":
        print(json.dumps(found, indent=1))
        return
    for name, value in found.items():
        print(f"{name:60} {value:10.3g}")


if __name__ == "__main__":
    main()
