"""CPU times of pricing, importing and crossbar arithmetic, as ratios to a yardstick measured in the same run."""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import picojoule as pj
from picojoule.reram import CrossbarSpec, program
from picojoule.sim.designs import price_designs
from picojoule.sim.hardware import load_hardware


def cpu_seconds(work: Callable[[], Any], repeats: int) -> float:
    """Return the least CPU time of `repeats` runs, after one that is not counted."""
    work()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def pricing(repeats: int) -> dict[str, float]:
    """Price ResNet-18 on one design and on many."""
    network = pj.load("resnet18")
    found = {}
    for name in ("edge-32x32", "isaac"):
        accelerator = load_hardware(name)
        found[f"evaluate resnet18 on {name}, ms"] = 1e3 * cpu_seconds(
            lambda a=accelerator: a.evaluate(network), repeats
        )
    space = {"rows": [8, 16, 32, 64], "cols": [8, 16, 32, 64], "dataflow": ["os", "ws", "is"]}
    seconds = cpu_seconds(lambda: pj.sweep(network, "edge-32x32", space), 1)
    found["sweep resnet18, designs/s"] = 48 / seconds
    return found


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


def crossbars(repeats: int) -> dict[str, float]:
    """Compare a ResNet-20-like layer on crossbars with a plain float32 product."""
    rng = np.random.default_rng(0)
    weights = rng.integers(-127, 128, (64, 576))
    inputs = rng.integers(0, 256, (576, 6400)).astype(np.uint8)
    a, b = weights.astype(np.float32), inputs.astype(np.float32)
    plain = cpu_seconds(lambda: a @ b, repeats)
    found = {"float32 product 64x576x6400, ms": 1e3 * plain}
    for name, spec in {
        "lossless (flip, 8-bit ADC)": CrossbarSpec(encoding="flip", adc_bits=8),
        "every bitline lossy (offset, 6-bit ADC)": CrossbarSpec(adc_bits=6),
        "differential, 6-bit ADC": CrossbarSpec(encoding="differential", adc_bits=6),
    }.items():
        ready = program(weights, spec)
        found[f"crossbar {name}, times float32"] = cpu_seconds(lambda r=ready: r.matmul(inputs), repeats) / plain
    return found


def main() -> None:
    """Print every figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--designs", type=int, default=100_000, help="of the search over hardware alone")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    parser.add_argument("--training", type=int, metavar="TRIALS", help="only time a training study with 1 and 2 jobs")
    given = parser.parse_args()
    if given.training:
        show(training_jobs(given.training), given.format)
        return
    found = {
        **start_up(given.repeats),
        **pricing(given.repeats),
        **many_designs(given.repeats),
        **searching(given.designs),
        **crossbars(given.repeats),
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
