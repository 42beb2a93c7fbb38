"""The whole idea on real images: train, prune x quantise, price and measure on three accelerators, draw the fronts.

A systolic array, ReRAM crossbars, and an FPGA unit with 4-bit weights, whose deformable convolution is tried beside. What is on
the array's front is also priced with a searched mapping, with values kept on chip, by the bits that really flip, and on thousands
of other arrays; what is on the crossbars' front with converters that follow its own weights, and measured on chips with devices.

Run it with `scripts/demo`, which sets up what is missing. Finished variants are kept: a second run trains nothing again,
and after Ctrl-C it goes on where it was.
"""

import argparse
import json
import multiprocessing
import os
import signal
import sys
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from picojoule.models.data import Dataset, load
from picojoule.pareto import front_rows, plot_front
from picojoule.sim.errors import PicojouleError
from picojoule.sim.files import write_atomic
from picojoule.sim.report import rows_to_csv
from picojoule.sim.report_plots import save
from picojoule.tables import objects_table
from picojoule.variants import Recipe, Variant, finished, make_variant
from picojoule.variants_crossbar import CrossbarRecipe, crossbar_figures, shown
from picojoule.variants_systolic import SystolicRecipe, shown_systolic, systolic_figures

X = "energy_pj_per_sample"
Rows = list[dict[str, object]]


def variants() -> list[Variant]:
    """Return every variant, parents first."""
    shapes = [Variant(), Variant(energy=0.7), Variant(energy=0.45)]
    quantised = [Variant(energy=s.energy, bits=b) for s in shapes for b in (8, 6, 4, 3)]
    fpga = [replace(shape, bits=4, activation_bits=8) for shape in (Variant(deform=True), shapes[0], shapes[2])]
    return [*shapes, Variant(deform=True), *quantised, *fpga]


def ignore_interrupts() -> None:
    """Leave Ctrl-C to the main process, which stops the workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def run(recipe: Recipe, folder: Path, data: Dataset, jobs: int, console: Console) -> Rows:
    """Make what is missing, as many variants at a time as there are jobs; results.csv grows as they finish."""
    rows: dict[str, Rows] = {}
    todo = []
    for variant in variants():
        kept = finished(recipe, variant, folder / "variants", data)
        if kept is None:
            todo.append(variant)
        else:
            rows[variant.name] = kept
    if not todo:
        console.print(f"all {len(rows)} variants are on disk already; nothing to train")
        return save_rows(rows, folder)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=ignore_interrupts)
    running: dict[Future[Rows], Variant] = {}
    try:
        with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            task = progress.add_task("variants", total=len(rows) + len(todo), completed=len(rows))
            while todo or running:
                ready = [v for v in todo if v.parent is None or v.parent.name in rows]
                for variant in ready[: jobs - len(running)]:
                    todo.remove(variant)
                    running[pool.submit(make_variant, recipe, variant, folder / "variants")] = variant
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    variant = running.pop(future)
                    rows[variant.name] = future.result()
                    save_rows(rows, folder)
                    progress.update(task, advance=1)
                    console.print(f"  {variant.name}: {describe(rows[variant.name])}")
    except BaseException:
        for process in list((pool._processes or {}).values()):  # training cannot be asked to stop politely
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return save_rows(rows, folder)


def describe(rows: Rows) -> str:
    """Return a variant's result in a line."""
    return ", ".join(
        f"does not fit {r['target']}"
        if r["message"]
        else f"{float(str(r['accuracy_hardware'])):.1%} at {float(str(r[X])) * 1e-6:.3g} µJ on {r['target']}"
        for r in rows
    )


def save_rows(rows: dict[str, Rows], folder: Path) -> Rows:
    """Write results.csv in the order of the variants and return its rows."""
    listed = [row for variant in variants() for row in rows.get(variant.name, [])]
    write_atomic(folder / "results.csv", rows_to_csv(listed))
    return listed


def points_of(rows: Rows) -> Rows:
    """Return the points to draw: designs that fit their target."""
    return [
        {
            "run": r["variant"],
            "target": r["target"],
            "accuracy": r["accuracy_hardware"],
            "interval": (r["accuracy_low"], r["accuracy_high"]),
            X: r[X],
        }
        for r in rows
        if not r["message"]
    ]


def look_closer(rows: Rows, recipe: Recipe, folder: Path, jobs: int, console: Console) -> dict[str, Any]:
    """Return the extra figures of what stands on two targets' fronts, by target and variant; print them as tables."""
    systolic, crossbar = SystolicRecipe(), CrossbarRecipe()
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=ignore_interrupts)
    try:
        on_array = {
            v.name: pool.submit(systolic_figures, recipe, v, folder / "variants", systolic)
            for v in on_front(rows, systolic.target)
        }
        on_crossbars = {
            v.name: pool.submit(crossbar_figures, recipe, v, folder / "variants", crossbar)
            for v in on_front(rows, crossbar.target)
        }
        arrays = {name: future.result() for name, future in on_array.items()}
        crossbars = {name: future.result() for name, future in on_crossbars.items()}
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    if arrays:
        count = next(iter(arrays.values()))["best"]["designs"]
        console.print(
            f"the front on {systolic.target}: energy per sample with a searched mapping; with values kept on chip; with the "
            "better of both by energy x latency (a layer that keeps values is not searched); and on the best of "
            f"{count:,} arrays that is no slower and no larger:"
        )
        console.print(objects_table([shown_systolic(name, figures) for name, figures in arrays.items()]))
    if crossbars:
        console.print(
            f"the front on {crossbar.target} with ADC bits that each network's weights need, and on {crossbar.chips} chips of "
            f"device '{crossbar.device_name}' ({crossbar.images} test images):"
        )
        console.print(objects_table([shown(name, figures) for name, figures in crossbars.items()]))
    return {"arrays": arrays, "crossbars": crossbars}


def on_front(rows: Rows, target: str) -> list[Variant]:
    """Return the variants on a target's front."""
    names = [r["run"] for r in front_rows(points_of(rows), X) if r["target"] == target and r["on_front"]]
    return [v for v in variants() if v.name in names]


def finish(
    rows: Rows, recipe: Recipe, folder: Path, seconds: float, console: Console, closer: dict[str, Any] | None = None
) -> None:
    """Write pareto.png and summary.json and print the table; designs that do not fit are counted, not drawn."""
    unfit = [r for r in rows if r["message"]]
    points = points_of(rows)
    rows = [r for r in rows if not r["message"]]
    axes = plot_front(points, X, names=True)
    axes.set_title(
        f"{recipe.network} on {recipe.data} under each accelerator's arithmetic (bars: 95 %)", fontsize="medium"
    )
    save(axes, folder / "pareto.png")
    front = front_rows(points, X)
    best: dict[str, Any] = {}
    for target in recipe.targets:
        own = [r for r in front if r["target"] == target]
        original = next((r for r in own if r["run"] == Variant().name), None)
        if original is None:
            continue
        good = [r for r in own if r["accuracy"] >= original["accuracy"] - 0.01]
        cheapest = min(good, key=lambda r: r[X])
        best[target] = {
            "original": original,
            "cheapest_within_one_point": cheapest,
            "times_less_energy": original[X] / cheapest[X],
        }
    summary = {
        "schema": 1,
        "network": recipe.network,
        "data": recipe.data,
        "seed": recipe.seed,
        "variants": len(variants()),
        "do_not_fit": len(unfit),
        **(closer or {}),
    }
    write_atomic(folder / "summary.json", json.dumps(summary | {"targets": best}, indent=1, allow_nan=False))
    table = [
        {
            "variant": r["variant"],
            "target": r["target"],
            "accuracy": f"{float(str(r['accuracy_hardware'])):.1%}",
            "95 % interval": f"{float(str(r['accuracy_low'])):.1%} to {float(str(r['accuracy_high'])):.1%}",
            "energy µJ": f"{float(str(r[X])) * 1e-6:.3g}",
            "latency µs": f"{float(str(r['latency_s'])) * 1e6:.3g}",
            "weights kB": f"{float(str(r['weight_bytes'])) / 1e3:.3g}",
            "front": "yes"
            if any(f["on_front"] for f in front if (f["run"], f["target"]) == (r["variant"], r["target"]))
            else "",
        }
        for r in rows
    ]
    console.print(objects_table(table))
    if unfit:
        console.print(
            f"{len(unfit)} of {len(unfit) + len(rows)} do not fit their target (results.csv says why), such as "
            f"{unfit[0]['variant']} on {unfit[0]['target']}: {unfit[0]['message']}"
        )
    for target, found in best.items():
        name, times = found["cheapest_within_one_point"]["run"], found["times_less_energy"]
        console.print(
            f"{target}: '{name}' needs {times:.1f} times less energy than the original, within one point of accuracy"
        )
    console.print(
        f"done in {seconds:.0f} s; look at {folder / 'pareto.png'} (numbers: results.csv and summary.json beside it)"
    )


def main() -> int:
    """Run the demo; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    root = Path(__file__).resolve().parent.parent
    parser.add_argument("--out", type=Path, default=root / "runs" / "demo", help="folder for results (runs/demo)")
    parser.add_argument("--jobs", type=int, default=min(4, os.cpu_count() or 1), help="processes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--quick", action="store_true", help="one epoch of everything: checks the machinery, not the idea"
    )
    given = parser.parse_args()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    recipe = Recipe(
        network="dscnn-fashion",
        data="fashion-mini",
        targets=("edge-16x16", "isaac", "ultra96-codenet"),
        epochs=1 if given.quick else 10,
        lr=1e-2,
        prune_for="edge-16x16",
        prune_lr=5e-3,
        sparse_epochs=1 if given.quick else 2,
        finetune_epochs=1 if given.quick else 5,
        quantise_epochs=1 if given.quick else 3,
        quantise_lr=3e-3,
        deform_network="dscnn-fashion-deform",
        deform_epochs=1 if given.quick else 6,
        seed=given.seed,
    )
    start = time.monotonic()
    try:
        data = load(recipe.data)
        count = f"{len(data.train)} training, {len(data.val)} validation and {len(data.test)} test images"
        console.print(
            f"{recipe.network} on {recipe.data} ({count}), {len(variants())} variants on {', '.join(recipe.targets)}"
        )
        rows = run(recipe, given.out, data, max(1, given.jobs), console)
        closer = look_closer(rows, recipe, given.out, max(1, given.jobs), console)
        finish(rows, recipe, given.out, time.monotonic() - start, console, closer)
    except KeyboardInterrupt:
        console.print(f"\ninterrupted; finished variants are kept in {given.out}, run again to go on")
        return 130
    except PicojouleError as error:
        sys.stderr.write(f"demo: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
