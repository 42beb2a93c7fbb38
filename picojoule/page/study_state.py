"""Whether a study came to its end, and whether its front fits its trials: a search may be stopped between any two files."""

from dataclasses import replace

import numpy as np

from picojoule.figures_trials import why_empty
from picojoule.page.reading import read_json
from picojoule.studies.results import SUMMARY, TRIALS, StudyResult, front_rows

_ROUNDING = 1e-9


def is_finished(study: StudyResult) -> bool:
    """Return whether summary.json, which a search writes at its end, tells of these trials and of as many as were asked.

    A space may hold fewer designs than were asked; then the summary's own `asked` is not fewer than the study's `trials`.

    Raises:
        InputError: if summary.json is torn.

    """
    if study.folder is None or not (study.folder / SUMMARY).is_file():
        return False
    summary = read_json(study.folder / SUMMARY, "the summary.json of `search --out`")
    trials, asked = (summary.get(key) for key in ("trials", "asked"))
    if trials != len(study):
        return False
    return len(study) >= study.spec.trials or (isinstance(asked, int) and asked >= study.spec.trials)


def with_fitting_front(study: StudyResult) -> tuple[StudyResult, bool]:
    """Return the study with a front that trials.csv bears out, and whether pareto.csv held another.

    A search that is killed after trials.csv leaves the pareto.csv of before. Its rows are worked out anew then, without the
    ranges, which are nowhere else.
    """
    if _fits(study):
        return study, False
    rows = tuple(front_rows(study.spec, study.columns, {}, {}))
    return replace(study, front=rows), bool(study.front)


def _fits(study: StudyResult) -> bool:
    at = np.flatnonzero(study.columns["on_front"])
    places = {int(study.columns["number"][i]): int(i) for i in at}
    if sorted(str(row.get("number")) for row in study.front) != sorted(map(str, places)):
        return False
    return all(
        isinstance(row.get(m), int | float)
        and bool(np.isclose(row[m], study.columns[m][places[int(row["number"])]], rtol=_ROUNDING, atol=0))
        for row in study.front
        for m in study.spec.objectives
    )


def warnings_of(study: StudyResult, *, outdated: bool) -> list[tuple[str, str]]:
    """Return what a reader must know first, each as a word and a sentence: no front, an unfinished search, an old front."""
    found = []
    if not study.columns["on_front"].any():
        reason = why_empty(study)
        found.append(("NO FRONT", f"{reason}." if reason else "No trial is on a front."))
    if not is_finished(study):
        told, asked = len(study), study.spec.trials
        what = (
            f"{told:,} of {asked:,} trials are told"
            if told < asked
            else f"all {told:,} trials are told, but the front is not worked out in full"
        )
        found.append(("UNFINISHED", f"{what}; go on with `picojoule search --resume`."))
    if outdated:
        found.append(
            (
                "OLD FRONT",
                f"pareto.csv does not fit {TRIALS} (the search was stopped between the two); the front here is worked out from "
                f"{TRIALS}, without ranges; `picojoule search --resume` writes both anew.",
            )
        )
    return found
