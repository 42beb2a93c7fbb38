"""What `picojoule search` and `pj.search` do: open the study, search, finish the front, write the tables."""

import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from picojoule.figures_trials import why_empty
from picojoule.networks import is_torch
from picojoule.sim.errors import InputError
from picojoule.sim.hardware import load_hardware
from picojoule.studies import results
from picojoule.studies.network_keys import check_needed, points_of
from picojoule.studies.points import TrainedPoints
from picojoule.studies.results import StudyResult
from picojoule.studies.session import Session, check_folder, open_session, population_of, written_form
from picojoule.studies.space import check_space, parameters
from picojoule.studies.spec import StudySpec, parse_study, read_study_file
from picojoule.studies.storage import study_lock
from picojoule.studies.summary import summary_of

if TYPE_CHECKING:
    from picojoule.studies.driver import Driver, Outcome
    from picojoule.studies.pricing import Pricing
    from picojoule.studies.storage import TrialStore
    from picojoule.studies.workers import Workers

_log = logging.getLogger("picojoule.studies")

Say = Callable[[str], None]
_WRITE_EVERY_S = 5.0
"""Tables are written after a batch, but not more often than this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    """One search as the command line states it."""

    study: "StudySpec | Mapping[str, Any] | str | Path"
    out: Path | None = None
    trials: int | None = None
    jobs: int = 1
    scheduler: str | None = None
    resume: bool = False


def search(
    study: StudySpec | Mapping[str, Any] | str | Path,
    *,
    out: str | Path | None = None,
    trials: int | None = None,
    jobs: int = 1,
    scheduler: str | None = None,
    resume: bool = False,
) -> StudyResult:
    """Search hardware and compression together and return all trials and the front.

    Args:
        study: a STUDY.yaml, its content as a mapping, or a checked `StudySpec`.
        out: the study's folder, where every result is kept as it comes; needed where trials train.
        trials: instead of the study's own number.
        jobs: processes; the result does not depend on it. With more than one, call this under
            `if __name__ == "__main__":`.
        scheduler: address of a dask cluster that runs the trials, such as `tcp://10.0.0.1:8786`; `out` must be a folder
            that its workers see.
        resume: go on with the study in `out`.

    Raises:
        InputError: for a bad study, a folder that holds another one, or if no trial was completed.
        InfeasibleError: if no trial keeps the constraints; said which.

    """
    folder = None if out is None else Path(out)
    request = SearchRequest(study=study, out=folder, trials=trials, jobs=jobs, scheduler=scheduler, resume=resume)
    return run_search(request, say=_log.info)


def run_search(request: SearchRequest, say: Say) -> StudyResult:
    """Search and return what was found; with a folder, everything is on disk as it comes.

    Raises:
        InputError: for a study that cannot be read, resumed or written, or that no trial answers.
        InfeasibleError: if no trial keeps the constraints; said which.

    """
    from picojoule.studies.workers import check_main_guard

    check_main_guard()
    spec, source = _spec_of(request)
    where = str(source or "study")
    load_hardware(spec.hardware)
    if spec.compresses and not is_torch(spec.network):
        raise InputError(
            f"{where}: compression methods train torch modules (a zoo name or file.py:callable), not {spec.network}"
        )
    check_space(spec, where)
    points = points_of(spec, say)
    check_needed(spec.network, (*spec.varied, *(points.constants if points else ())))
    if request.out is None:
        spec = spec.model_copy(update={"population": population_of(spec)})
        return _search(spec, None, request, say, points)
    check_folder(request.out, source)
    with study_lock(request.out):
        session = open_session(spec, request.out, source, resume=request.resume)
        return _search(session.spec, session, request, say, points)


def _spec_of(request: SearchRequest) -> tuple[StudySpec, Path | None]:
    source = None
    if isinstance(request.study, StudySpec):
        spec = request.study
    elif isinstance(request.study, Mapping):
        spec = parse_study(dict(request.study), "study")
    else:
        source = Path(request.study)
        spec = read_study_file(source)
    if request.trials is not None:
        if request.trials < 1:
            raise InputError(f"trials must be at least 1, got {request.trials}")
        spec = spec.model_copy(update={"trials": request.trials})
    return spec, source


def _search(
    spec: StudySpec, session: Session | None, request: SearchRequest, say: Say, points: TrainedPoints | None
) -> StudyResult:
    if _priced_in_generations(spec):
        from picojoule.studies.designs_study import search_designs

        if request.scheduler is not None or request.jobs > 1:
            say("hardware alone is priced in this process, many designs at once; --jobs and --scheduler change nothing")
        return finish(search_designs(spec, session, say))
    return _search_trials(spec, session, request, say, points)


def _priced_in_generations(spec: StudySpec) -> bool:
    """Whether our own search takes it: hardware alone, choices only, and no database that others read."""
    own = spec.sampler in ("nsga2", "random", "grid")
    return own and spec.hardware_only and spec.storage is None and all(p.choices is not None for p in parameters(spec))


def _search_trials(
    spec: StudySpec, session: Session | None, request: SearchRequest, say: Say, points: TrainedPoints | None
) -> StudyResult:
    from picojoule.studies import originals
    from picojoule.studies.driver import Driver
    from picojoule.studies.front_points import front_details, non_dominated_shares
    from picojoule.studies.network_pricing import NetworkPricing
    from picojoule.studies.pricing import BatchPricing, Pricing, study_network
    from picojoule.studies.progress import SearchProgress
    from picojoule.studies.proposals import Proposals
    from picojoule.studies.storage import open_store
    from picojoule.studies.workers import make_workers

    listed = parameters(spec)
    folder = session.folder if session is not None else None
    store = None
    if session is not None:
        store = open_store(spec, session.folder, study_name(session), listed, resume=request.resume)
    pricing: Pricing | None = None
    if spec.hardware_only:
        pricing = BatchPricing(spec, study_network(spec), load_hardware(spec.hardware))
    elif spec.priced_only:
        pricing = NetworkPricing(spec, points, load_hardware(spec.hardware))
    workers = make_workers(request.jobs, request.scheduler)
    with SearchProgress(spec, spec.trials, say) as bar:
        keeper = _Keeper(spec, folder, bar, points)
        driver = Driver(
            spec=spec,
            parameters=listed,
            proposals=Proposals(spec, listed),
            workers=workers,
            watcher=keeper,
            store=store,
            folder=folder,
            pricing=pricing,
            check_unchanged=session.check_unchanged if session is not None else lambda: None,
            check_sources=session.check_sources if session is not None else lambda: None,
            hardware=session.hardware if session is not None else None,
            constants=points.constants if points is not None else {},
            note=bar.note,
        )
        try:
            if folder is not None:
                workers.check_folder_visible(folder)
            if originals.needs_original(spec) and spec.varied:
                driver.originals = originals.Originals(spec, folder, workers, bar.note)
            elif originals.needs_original(spec):
                driver.base = originals.train_original(spec, folder, workers, bar.note)
            driver.run(spec.trials)
            driver.last_look()
            columns = keeper.columns(driver)
            details = front_details(driver, columns, workers, bar.note)
            shares = non_dominated_shares(spec, columns, _bills(driver, columns, pricing))
        except KeyboardInterrupt:
            _stop(workers, store)
            if folder is not None:
                keeper.write(driver)
                say(
                    f"interrupted: {len(driver.outcomes)} of {spec.trials} trials are kept in {folder}; --resume goes on"
                )
            raise
        except BaseException:
            _stop(workers, store)
            if folder is not None:
                with contextlib.suppress(InputError):  # a full disk is what brought us here
                    keeper.write(driver)
            raise
        workers.close()
        if store is not None:
            store.close()
    rows = results.front_rows(spec, columns, details, shares)
    words = points.words if points is not None else ""
    made = StudyResult(spec=spec, columns=columns, front=tuple(rows), folder=folder, accuracy_is=words)
    if folder is not None:
        results.write_trials(folder, columns)
    return finish(made)


def _stop(workers: "Workers", store: "TrialStore | None") -> None:
    workers.close(kill=True)
    if store is not None:
        store.close()


def _bills(driver: "Driver", columns: results.Columns, pricing: "Pricing | None") -> dict[int, dict[str, float]]:
    """Return energy per sample by technology constant: of all trials that trained, else of the front."""
    if pricing is None:
        return {n: dict(o["bill"]) for n, o in driver.outcomes.items()}
    numbers = [int(n) for n in columns["number"][columns["on_front"]]]
    return dict(zip(numbers, pricing.bills([driver.values[n] for n in numbers]), strict=True))


def study_name(session: Session) -> str:
    """Return the name of a study in its storage; in a database it must tell this study from others."""
    if session.spec.storage is None:
        return "study"
    import hashlib

    asked = written_form(session.spec).model_copy(update={"trials": 1, "population": None})
    digest = hashlib.sha256((asked.to_yaml() + str(session.inputs)).encode()).hexdigest()[:12]
    return f"picojoule-{Path(session.spec.network).stem}-{Path(session.spec.hardware).stem}-{digest}"


class _Keeper:
    """Counts trials on the bar and writes the tables now and then."""

    def __init__(self, spec: StudySpec, folder: Path | None, bar: Any, points: TrainedPoints | None) -> None:
        self._spec, self._folder, self._bar, self._points = spec, folder, bar, points
        self._written = time.monotonic()

    def trial_done(self, number: int, outcome: "Outcome") -> None:
        self._bar.trial(outcome)

    def trial_kept(self, number: int, outcome: "Outcome") -> None:
        self._bar.kept(outcome)

    def looked(self, number: int) -> None:
        self._bar.looked(number)

    def batch_done(self, driver: "Driver") -> None:
        if self._folder is not None and time.monotonic() - self._written > _WRITE_EVERY_S:
            self.write(driver)
            self._written = time.monotonic()

    def columns(self, driver: "Driver") -> results.Columns:
        """Return the table of the trials that are done so far, in order of number."""
        numbers = sorted(driver.outcomes)
        values, outcomes = [driver.values[n] for n in numbers], [driver.outcomes[n] for n in numbers]
        columns = dict(results.columns_of(self._spec, values, outcomes, self._points))
        columns["number"] = np.array(numbers, dtype=np.int64)
        return columns

    def write(self, driver: "Driver") -> None:
        """Write trials.csv and the front as it is so far."""
        assert self._folder is not None
        columns = self.columns(driver)
        details = {n: o["details"] for n, o in driver.outcomes.items()}
        results.remove_summary(self._folder)  # it is of a finished search
        results.write_trials(self._folder, columns)
        results.write_front(self._folder, results.front_rows(self._spec, columns, details, {}), self._spec)


def finish(made: StudyResult) -> StudyResult:
    """Write the front, the summary and the figures of a finished search, and refuse an empty front with its reason.

    Raises:
        InputError: if no trial was completed, with the first failure.
        InfeasibleError: if all break a constraint, with the constraint and the closest value.

    """
    if made.folder is not None:
        results.write_front(made.folder, made.front, made.spec)
        results.write_summary(made.folder, summary_of(made))
    if reason := why_empty(made):
        raise reason
    if made.folder is not None:
        from picojoule.figures import save_study_figures

        save_study_figures(made, made.folder)
    return made
