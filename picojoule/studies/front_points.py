"""The last step of a study: each front point priced in full and read once on the test split, and P(non-dominated)."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from picojoule.fronts import probability_non_dominated, sample_energies
from picojoule.sim.errors import InputError
from picojoule.studies.pricing import MOST_COMPARED
from picojoule.studies.results import FRONT, Columns, costs_of, counting
from picojoule.studies.spec import StudySpec

if TYPE_CHECKING:
    from picojoule.studies.driver import Driver
    from picojoule.studies.workers import Workers

MOST_FOLDERS = 10
"""Front points of a search over hardware alone that get a run folder of their own."""
_MOST_SAMPLED = MOST_COMPARED
_DRAWS = 1000
_SAMPLED = ("energy_pj_per_sample", "energy_pj")


def spread(numbers: Sequence[int], costs: Any) -> list[int]:
    """Return at most `MOST_FOLDERS` of the front's trials, evenly along the first objective, ends included."""
    order = [numbers[i] for i in np.lexsort(costs.T[::-1])]
    if len(order) <= MOST_FOLDERS:
        return order
    return [order[round(i * (len(order) - 1) / (MOST_FOLDERS - 1))] for i in range(MOST_FOLDERS)]


def front_folder(folder: Path, number: int) -> Path:
    """Return where a front point's run folder lies."""
    return folder / FRONT / f"{number:05d}"


def front_details(
    driver: "Driver", columns: Columns, workers: "Workers", note: Callable[[str], None]
) -> dict[int, dict[str, Any]]:
    """Return by number what pareto.csv says beyond the trial: ranges of energy, accuracy on the test split.

    Writes front/<number>/ for each (of a long front for a spread of it). Points of an earlier session are taken as they are.
    """
    from picojoule.studies.trial import FrontTask, finish_front_point

    numbers = [int(n) for n in columns["number"][columns["on_front"]]]
    details = {n: dict(driver.outcomes[n]["details"]) for n in numbers}
    if driver.folder is None or not numbers:
        return details
    chosen = spread(numbers, costs_of(driver.spec, columns)[columns["on_front"]])
    if not driver.spec.priced_only:
        chosen = numbers  # each is read on the test split
    note(f"measuring the {len(chosen)} points of the front")
    remove_others(driver.folder, chosen)
    for n in chosen:
        task = FrontTask(trial=driver.task(n, "full"), folder=str(front_folder(driver.folder, n)))
        workers.submit(n, finish_front_point, task)
    left = len(chosen)
    while left:
        for done in workers.finished(None):
            left -= 1
            if done.problem is not None:
                raise InputError(
                    f"trial {done.key} of the front cannot be finished: {done.problem}; all trials are kept, try --resume"
                )
            details[done.key] |= done.result
    return details


def remove_others(folder: Path, numbers: Sequence[int]) -> None:
    """Remove run folders of points that are on the front no more."""
    import shutil

    wanted = {front_folder(folder, n).name for n in numbers}
    for old in sorted((folder / FRONT).glob("*")):
        if old.is_dir() and old.name not in wanted:
            shutil.rmtree(old, ignore_errors=True)


def non_dominated_shares(
    spec: StudySpec, columns: Columns, bills: Mapping[int, Mapping[str, float]], seed: int = 0
) -> dict[int, float]:
    """Return P(non-dominated) by number for the trials on the front, technology constants sampled jointly.

    A trial competes with all that have a bill: every counting trial of a study that trains, the front alone of one over
    hardware alone. Energies are sampled, all other objectives stand as they are. Empty where no objective is an energy that the
    constants price, or the front is longer than 500.
    """
    place = {int(n): i for i, n in enumerate(columns["number"])}
    able = counting(columns)
    numbers = [n for n, bill in bills.items() if bill and able[place[n]]]
    sampled = [m for m in spec.objectives if m in _SAMPLED and spec.objectives[m] == "min"]
    if not numbers or not sampled or len(numbers) > _MOST_SAMPLED:
        return {}
    rows = np.array([place[n] for n in numbers])
    costs = costs_of(spec, columns)[rows]
    fixed = [i for i, m in enumerate(spec.objectives) if m not in sampled]
    energies = sample_energies([bills[n] for n in numbers], _DRAWS, seed)
    shares = probability_non_dominated(costs[:, fixed], energies[:, :, None])
    on_front = columns["on_front"]
    return {n: float(s) for n, s in zip(numbers, shares, strict=True) if on_front[place[n]]}
