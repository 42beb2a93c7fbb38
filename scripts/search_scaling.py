"""What a trial costs beside its own work, measured here, and how a search scales to 64 workers, simulated from that.

Measured: the CPU time of the driver's process a trial (for dask that includes the scheduler, which lives there in this
measurement and shares its lock), and the time from handing a trial out to having its result when nothing else is in
flight; both with empty trials, on worker processes and on a dask cluster of this machine, with one and two workers.

Simulated: a search that asks for a batch, runs it and waits for its last trial, as ours does. The driver is one serial
resource (half of its time a trial before it, half after); a worker takes a trial's duration and the rest of the round
trip. Durations are lognormal. The sampler's own time is left out, and so are the workers' memory, disks and network.

Checked: the same simulation against real runs of sleeping trials on one and two dask workers.
"""

import argparse
import contextlib
import heapq
import json
import math
import os
import platform
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from picojoule.sim.files import write_atomic
from picojoule.studies.dask_workers import DaskWorkers
from picojoule.studies.process_workers import ProcessWorkers
from picojoule.studies.workers import Workers
from picojoule.tables import objects_table

_ROOT = Path(__file__).resolve().parent.parent
_BLOCK = 20
_CV = 0.3
_REPEATS = 5
WORKERS = (1, 2, 4, 8, 16, 32, 64)
BATCHES = (8, 64, 256)
MEANS_S = (1.0, 10.0, 60.0)


def main() -> None:
    """Measure, check, simulate, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=500, help="empty trials a measurement")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=_ROOT / "docs" / "search_scaling.json")
    given = parser.parse_args()
    rng, console = np.random.default_rng(given.seed), Console()

    load = os.getloadavg()[0]
    measured, checked = [], []
    for kind in ("processes", "dask"):
        for count in (1, 2):
            with place(kind, count) as workers:
                found = {"place": kind, "workers": count, **overheads(workers, given.trials, rng)}
                measured.append(found)
                if kind == "dask":
                    checked.append(check(workers, count, found, rng))
    console.print(
        objects_table([shown(m) for m in measured], title="measured: overhead a trial (median, 95 % interval)")
    )
    against = [c | {"real_s": span(c["real_s"]), "error_percent": span(c["error_percent"])} for c in checked]
    console.print(objects_table(against, title="the simulation against real runs of sleeping trials (dask)"))

    # The larger of the two measurements with dask, by part: what we promise must not rest on the luckier one.
    driver_s = max(m["driver_s"]["median"] for m in measured if m["place"] == "dask")
    trip_s = max(m["round_trip_s"]["median"] for m in measured if m["place"] == "dask")
    simulated = [
        {"mean_s": mean, "batch_size": batch, "workers": count, **scaling(mean, batch, count, driver_s, trip_s, rng)}
        for mean in MEANS_S
        for batch in BATCHES
        for count in WORKERS
    ]
    for mean in MEANS_S:
        console.print(objects_table(crossed(simulated, mean), title=f"simulated: trials of {mean:g} s (cv {_CV})"))
    result = {
        "schema": 1,
        "seed": given.seed,
        "trials": given.trials,
        "cores": os.cpu_count(),
        "load_before": round(load, 2),  # sleeping trials on a busy machine wake late, and the check suffers
        "versions": {"python": platform.python_version()}
        | {p: version(p) for p in ("picojoule", "dask", "distributed", "numpy")},
        "measured": measured,
        "checked": checked,
        "simulated_from": {"driver_s": driver_s, "round_trip_s": trip_s, "cv": _CV},
        "simulated": simulated,
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(given.out, json.dumps(result, indent=1, allow_nan=False) + "\n")
    console.print(f"written: {given.out}")


@contextlib.contextmanager
def place(kind: str, count: int) -> Iterator[Workers]:
    """Give workers of a kind that have already started; ended afterwards."""
    with contextlib.ExitStack() as stack:
        workers: Workers
        if kind == "dask":
            from distributed import LocalCluster

            cluster = stack.enter_context(
                LocalCluster(n_workers=count, threads_per_worker=1, host="127.0.0.1", dashboard_address=":0")
            )
            workers = DaskWorkers(cluster.scheduler_address)
        else:
            workers = ProcessWorkers(count)
        stack.callback(workers.close, kill=True)
        run(workers, [0.05] * 4 * count)
        yield workers


def run(workers: Workers, durations_s: Sequence[float]) -> float:
    """Run sleeping trials as the driver does, as many in flight as there are slots; return the seconds taken."""
    begin, waiting, running = time.perf_counter(), list(enumerate(durations_s)), 0
    while waiting or running:
        while waiting and running < workers.slots:
            key, duration = waiting.pop(0)
            workers.submit(key, time.sleep, duration)
            running += 1
        for done in workers.finished(None):
            if done.problem is not None:
                raise SystemExit(done.problem)
            running -= 1
    return time.perf_counter() - begin


def overheads(workers: Workers, trials: int, rng: np.random.Generator) -> dict[str, dict[str, float]]:
    """Return the driver's CPU seconds a trial (blocks of trials, all slots busy) and the round trip (one in flight)."""
    driver, trips = [], []
    for _ in range(max(trials // _BLOCK, 3)):
        begin = time.process_time()
        run(workers, [0.0] * _BLOCK)
        driver.append((time.process_time() - begin) / _BLOCK)
    for _ in range(trials):
        trips.append(run(workers, [0.0]))
    return {"driver_s": median(driver, rng), "round_trip_s": median(trips, rng)}


def median(values: Sequence[float], rng: np.random.Generator) -> dict[str, float]:
    """Return the median and its 95 % interval by bootstrap."""
    array = np.asarray(values)
    again = np.median(rng.choice(array, (2000, len(array))), axis=1)
    low, high = np.quantile(again, [0.025, 0.975])
    return {"median": float(np.median(array)), "low": float(low), "high": float(high)}


def lognormal(mean: float, count: int, rng: np.random.Generator) -> list[float]:
    """Return durations of a given mean and coefficient of variation `_CV`."""
    sigma = math.sqrt(math.log(1 + _CV**2))
    return [float(x) for x in rng.lognormal(math.log(mean) - sigma**2 / 2, sigma, count)]


def simulated_s(durations_s: Sequence[float], batch: int, workers: int, driver_s: float, trip_s: float) -> float:
    """Return the length of a search: batches one after the other, each with one serial driver and so many workers."""
    now = 0.0
    beside_s = max(trip_s - driver_s, 0.0)
    for start in range(0, len(durations_s), batch):
        waiting = list(reversed(durations_s[start : start + batch]))
        running: list[float] = []
        while waiting or running:
            while waiting and len(running) < workers:
                now += driver_s / 2
                heapq.heappush(running, now + beside_s + waiting.pop())
            now = max(now, heapq.heappop(running)) + driver_s / 2
    return now


def check(workers: Workers, count: int, found: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """Run batches of 8 sleeping trials for real, `_REPEATS` times, and simulate the same ones."""
    errors, reals = [], []
    for _ in range(_REPEATS):
        durations = lognormal(0.2, 40, rng)
        reals.append(sum(run(workers, durations[k : k + 8]) for k in range(0, len(durations), 8)))
        told = simulated_s(durations, 8, count, found["driver_s"]["median"], found["round_trip_s"]["median"])
        errors.append(100 * (told / reals[-1] - 1))
    return {
        "workers": count,
        "trials": 40,
        "batch_size": 8,
        "real_s": [round(r, 3) for r in reals],
        "error_percent": [round(e, 2) for e in errors],
        "median_error_percent": round(float(np.median(errors)), 2),
    }


def scaling(
    mean_s: float, batch: int, workers: int, driver_s: float, trip_s: float, rng: np.random.Generator
) -> dict[str, float]:
    """Return the speed-up over one worker without overhead, and the share of the workers' time that is work."""
    durations = lognormal(mean_s, max(4 * batch, 1024), rng)
    speedup = sum(durations) / simulated_s(durations, batch, workers, driver_s, trip_s)
    return {"speedup": round(speedup, 3), "efficiency": round(speedup / workers, 4)}


def crossed(simulated: Sequence[dict[str, Any]], mean_s: float) -> list[dict[str, object]]:
    """Return a table of workers x batch size."""
    rows: list[dict[str, object]] = []
    for count in WORKERS:
        row: dict[str, object] = {"workers": count}
        for s in simulated:
            if (s["mean_s"], s["workers"]) == (mean_s, count):
                row[f"batch {s['batch_size']}"] = f"{s['speedup']:.1f}x ({s['efficiency']:.0%})"
        rows.append(row)
    return rows


def span(values: Sequence[float]) -> str:
    """Return the least and the largest as text."""
    return f"{min(values):g} to {max(values):g}"


def shown(found: dict[str, Any]) -> dict[str, object]:
    """Return a measurement as a row of text, in milliseconds."""

    def text(part: dict[str, float]) -> str:
        return f"{1e3 * part['median']:.2f} ({1e3 * part['low']:.2f} to {1e3 * part['high']:.2f})"

    return {
        "place": found["place"],
        "workers": found["workers"],
        "driver CPU ms": text(found["driver_s"]),
        "round trip ms": text(found["round_trip_s"]),
    }


if __name__ == "__main__":
    main()
