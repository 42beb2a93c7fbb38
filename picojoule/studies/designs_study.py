"""A hardware-only study from its file to its front: the engine of generations, fed and read in the words of a study."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from picojoule.sim.designs import DesignTotals
from picojoule.sim.errors import InputError
from picojoule.sim.hardware import load_hardware
from picojoule.studies.designs_engine import run_designs
from picojoule.studies.designs_search import DesignProgress, DesignSearch
from picojoule.studies.designs_table import front_of, table_columns, write_trials_csv
from picojoule.studies.front_points import front_folder, non_dominated_shares, remove_others, spread
from picojoule.studies.pricing import BatchPricing, study_network
from picojoule.studies.progress import SearchProgress
from picojoule.studies.results import TRIALS, StudyResult, front_rows, objects
from picojoule.studies.session import Session
from picojoule.studies.space import parameters
from picojoule.studies.spec import StudySpec

Say = Callable[[str], None]


def search_designs(spec: StudySpec, session: Session | None, say: Say) -> StudyResult:
    """Search designs and return the study; in a folder they are kept as they come.

    Raises:
        InputError: as `designs_engine.run_designs`.

    """
    search = _search_of(spec, session)
    pricing = BatchPricing(spec, study_network(spec), load_hardware(spec.hardware))
    folder = session.folder if session is not None else None

    def price(columns: Mapping[str, NDArray[Any]]) -> DesignTotals:
        return pricing.totals({name.removeprefix("hardware."): values for name, values in columns.items()})

    with SearchProgress(spec, spec.trials, say) as bar:

        def progress(state: DesignProgress) -> None:
            bar.advance(state.done, state.best)
            if session is not None:
                session.check_unchanged()

        try:
            found = run_designs(search, price, trials=spec.trials, folder=folder, progress=progress)
        except KeyboardInterrupt:
            if folder is not None:
                say(f"interrupted: what is priced so far is kept in {folder}; --resume goes on")
            raise
        if found.note:
            say(found.note)
        front = front_of(search, found)
        columns = table_columns(search, found, front)
        for place, (name, choices) in enumerate(zip(search.names, search.choices, strict=True)):
            columns[name] = objects(choices)[found.indices[:, place]]
        if folder is not None:
            write_trials_csv(folder / TRIALS, search, found, front)
        bar.note(f"pricing the {int(front.sum())} points of the front in full")
        chosen = np.flatnonzero(front)
        values = {int(i): {key: columns[key][i] for key in spec.space} for i in chosen}
        details = _details(pricing, session, values, search.costs(found.values[chosen]))
        bills = dict(zip(values, pricing.bills(list(values.values())), strict=True))
        shares = non_dominated_shares(spec, columns, bills)
    rows = front_rows(spec, columns, details, shares)
    return StudyResult(spec=spec, columns=columns, front=tuple(rows), folder=folder)


def _search_of(spec: StudySpec, session: Session | None) -> DesignSearch:
    listed = parameters(spec)
    if spec.sampler not in ("nsga2", "random", "grid"):
        raise InputError(f"sampler {spec.sampler} does not search in generations")
    for parameter in listed:
        assert parameter.choices is not None
    return DesignSearch(
        names=[p.name for p in listed],
        choices=[p.choices or () for p in listed],
        ordered=[p.ordered for p in listed],
        objectives=spec.objectives,
        limits=spec.limits,
        sampler=spec.sampler,
        population=spec.population or 200,
        seed=spec.seed,
        key=json.dumps(session.inputs, sort_keys=True) if session is not None else "",
    )


def _details(
    pricing: BatchPricing,
    session: Session | None,
    values: Mapping[int, Mapping[str, Any]],
    costs: NDArray[np.float64],
) -> dict[int, dict[str, Any]]:
    """Return ranges of energy by number, and write a run folder for a spread of the front."""
    if session is None or not values:
        return {}
    numbers = spread(list(values), costs)
    remove_others(session.folder, numbers)
    details = {}
    for number in numbers:
        report = pricing.report(values[number])
        report.save(front_folder(session.folder, number), figures=False)
        low, high = report.totals["ranges"]["energy_pj_per_sample"]
        details[number] = {"energy_low": low, "energy_high": high}
    return details
