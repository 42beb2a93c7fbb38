"""A hardware-only study from its file to its front: the engine of generations, fed and read in the words of a study."""

import contextlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from picojoule.sim.designs import DesignTotals
from picojoule.sim.errors import InputError
from picojoule.sim.hardware import load_hardware
from picojoule.studies.designs_engine import run_designs
from picojoule.studies.designs_search import DesignColumns, DesignProgress, DesignSearch
from picojoule.studies.designs_table import front_of, table_columns, write_trials_csv
from picojoule.studies.front_points import front_folder, non_dominated_shares, remove_others, spread
from picojoule.studies.pricing import BatchPricing, study_network
from picojoule.studies.progress import SearchProgress
from picojoule.studies.results import TRIALS, StudyResult, front_rows, objects, remove_summary, write_front
from picojoule.studies.session import Session
from picojoule.studies.space import parameters
from picojoule.studies.spec import StudySpec

Say = Callable[[str], None]
_FIRST_TABLES_S = 5.0


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

    tables = _Tables(spec, search, folder)
    with SearchProgress(spec, spec.trials, say) as bar:

        def progress(state: DesignProgress) -> None:
            bar.advance(state.done, state.best)
            if session is not None:
                session.check_unchanged()

        try:
            found = run_designs(
                search, price, trials=spec.trials, folder=folder, progress=progress, look=tables.now_and_then
            )
        except BaseException as error:
            tables.write_last()
            if isinstance(error, KeyboardInterrupt) and folder is not None:
                say(f"interrupted: what is priced so far is kept in {folder}; --resume goes on")
            raise
        if found.note:
            say(found.note)
        columns = tables.write(found)
        front = np.flatnonzero(columns["on_front"])
        bar.note(f"pricing the {len(front)} points of the front in full")
        values = {int(i): {key: columns[key][i] for key in spec.space} for i in front}
        details = _details(pricing, session, values, search.costs(found.values[front]))
        bills = dict(zip(values, pricing.bills(list(values.values())), strict=True))
        shares = non_dominated_shares(spec, columns, bills)
    rows = front_rows(spec, columns, details, shares)
    return StudyResult(spec=spec, columns=columns, front=tuple(rows), folder=folder)


@dataclass(slots=True)
class _Tables:
    """Writes trials.csv and pareto.csv while a search goes on: seldom enough to take a tenth of the time at most."""

    spec: StudySpec
    search: DesignSearch
    folder: Path | None
    _latest: Callable[[], DesignColumns] | None = None
    _next_s: float = field(default_factory=lambda: time.monotonic() + _FIRST_TABLES_S)

    def now_and_then(self, designs: Callable[[], DesignColumns]) -> None:
        self._latest = designs
        started = time.monotonic()
        if self.folder is not None and started > self._next_s:
            self.write_last()
            ended = time.monotonic()
            self._next_s = ended + max(_FIRST_TABLES_S, 10 * (ended - started))

    def write_last(self) -> None:
        """Write what there was when a search stopped; the disk may be full, which has been said then."""
        if self.folder is None or self._latest is None:
            return
        with contextlib.suppress(InputError):
            remove_summary(self.folder)
            columns = self.write(self._latest())
            write_front(self.folder, front_rows(self.spec, columns, {}, {}), self.spec)

    def write(self, found: DesignColumns) -> dict[str, NDArray[Any]]:
        """Write trials.csv and return its columns, parameters as the study has them."""
        front = front_of(self.search, found)
        columns = table_columns(self.search, found, front)
        for place, (name, choices) in enumerate(zip(self.search.names, self.search.choices, strict=True)):
            columns[name] = objects(choices)[found.indices[:, place]]
        if self.folder is not None:
            write_trials_csv(self.folder / TRIALS, self.search, found, front)
        return columns


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
