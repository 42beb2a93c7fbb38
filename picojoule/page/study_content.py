"""What the page of a study says: the front and what lies behind each of its points, every trial, and why some failed."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from picojoule.page.content import Beside, Card, Cards, Page, Part, Section, Text, Viewer
from picojoule.page.figures import energy_figure
from picojoule.page.reading import Run, read_run, read_text
from picojoule.page.run_content import (
    about_of,
    banner_of,
    components_table,
    headline,
    layer_details,
    layer_table,
    losses_table,
)
from picojoule.page.study_figures import front_figure, history_figure
from picojoule.page.study_state import is_finished, warnings_of, with_fitting_front
from picojoule.page.study_tables import KINDS, chosen_trials, failures, front_table, kinds_of, trial_table
from picojoule.page.words import count, metric
from picojoule.studies.results import FRONT, STUDY, StudyResult

_MOST_LAYERS = 8_000
"""Layers in all drill-downs together: some 1.5 kB each."""


def study_page(study: StudyResult) -> Page:
    """Return the page of a study.

    Raises:
        InputError: if a run folder of its front is torn.

    """
    folder = study.folder
    assert folder is not None
    study, outdated = with_fitting_front(study)
    kinds = kinds_of(study)
    shown = chosen_trials(kinds)
    runs = _front_runs(study)
    drawn = [front_figure(study, kinds, shown)]
    if (history := history_figure(study, kinds)) is not None:
        drawn.append(history)
    front: list[Part] = [front_table(study, runs, ranged=is_finished(study) and not outdated)]
    if runs:
        front.append(Viewer(name="points", label="what lies behind point", choices=_choices(study, runs)))
    missing = len(study.front) - len(runs)
    if missing:
        front.append(
            Text(text=f"{count(missing, 'point')} of the front cannot be opened here: {_why_closed(study, len(runs))}.")
        )
    sections = [
        Section(name="counts", title="What was found", parts=(_counts(study, kinds),)),
        Section(name="drawn", title="The front", parts=(Beside(parts=tuple(drawn), lead=len(drawn) > 1),)),
        Section(name="front", title="Points of the front", parts=tuple(front)),
        Section(name="trials", title="Trials", parts=(trial_table(study, kinds, shown),)),
        Section(name="failures", title="Trials without values, and why", parts=failures(study, kinds)),
        Section(name="study", title="The study", parts=(Text(text=read_text(folder / STUDY, "a study"), verbatim=True),)),
    ]  # fmt: skip
    return Page(
        title=f"Study {folder.resolve().name}: {study.spec.network} on {study.spec.hardware}",
        about=_about(study),
        banner=_banner(warnings_of(study, outdated=outdated), runs),
        sections=tuple(sections),
        data={"runs": {str(n): layer_details(run) for n, run in runs.items()}},
        stored={str(n): _point_parts(n, run) for n, run in runs.items()},
    )


def _about(study: StudyResult) -> str:
    spec = study.spec
    goals = ", ".join(f"{metric(m, study.accuracy_is).label} ({sense})" for m, sense in spec.objectives.items())
    limits = [
        f"{metric(m).label} {'at least' if side == 0 else 'at most'} {metric(m).show(bound)}"
        for m, pair in spec.limits.items()
        for side, bound in enumerate(pair)
        if bound is not None
    ]
    held = f", subject to {', '.join(limits)}" if limits else ""
    data = f" Data: {spec.data}." if spec.data else ""
    batch = f" Latency and whatever is not per sample: for the batch of {spec.batch}." if spec.batch > 1 else ""
    return f"Objectives: {goals}{held}. Sampler {spec.sampler}, seed {spec.seed}.{data}{batch}"


def _banner(found: list[tuple[str, str]], runs: Mapping[int, Run]) -> tuple[str, ...]:
    """Return all warnings in one: the first word stands out, the others lead their sentences."""
    odd = [run for run in runs.values() if not run.complete]
    if odd:
        word, sentence = banner_of(odd[0])
        found = [*found, (word, f"{count(len(odd), 'point')} of the front: {sentence}")]
    if not found:
        return ()
    return (*found[0], *(f"{word}: {sentence}" for word, sentence in found[1:]))


def _front_runs(study: StudyResult) -> dict[int, Run]:
    """Return the run folders of the front by number, in its order; within the budget, evenly along it, the knee among them."""
    assert study.folder is not None
    found = [(r, f) for r in study.front if (f := _folder_of(study.folder, int(r["number"]))) is not None]
    if not found:
        return {}
    rows, folders = [r for r, _ in found], [f for _, f in found]
    first = read_run(folders[0])
    most = max(1, _MOST_LAYERS // max(1, len(first.layers)))
    kept = set(range(len(rows)))
    if len(rows) > most:
        bend = next((i for i, r in enumerate(rows) if r.get("knee")), 0)
        kept = {bend, *np.linspace(0, len(rows) - 1, max(1, most - 1)).astype(int).tolist()}
    return {int(rows[i]["number"]): first if i == 0 else read_run(folders[i]) for i in sorted(kept)}


def _folder_of(folder: Path, number: int) -> Path | None:
    path = folder / FRONT / f"{number:05d}"
    return path if (path / "report.json").exists() else None


def _why_closed(study: StudyResult, opened: int) -> str:
    assert study.folder is not None
    there = sum(_folder_of(study.folder, int(row["number"])) is not None for row in study.front)
    if there > opened:
        return "this page holds an even choice, to stay small; `picojoule report` on a folder in front/ shows any"
    return "they have no run folder in front/ (a long front, or an unfinished study)"


def _counts(study: StudyResult, kinds: NDArray[np.str_]) -> Cards:
    """Return how many trials there are of each kind, and the best of each objective."""
    of = {kind: int((kinds == kind).sum()) for kind in KINDS}
    full = of["front"] + of["dominated"] + of["violating"]
    cards = [
        Card(label="trials", value=f"{len(study):,}", details=(f"{study.spec.trials:,} asked",)),
        Card(label="complete", value=f"{full:,}", details=(f"and {of['proxy']:,} proxies",) * bool(of["proxy"])),
        Card(label="on the front", value=f"{of['front']:,}"),
        Card(label="violating a constraint", value=f"{of['violating']:,}"),
        Card(label="infeasible", value=f"{of['infeasible']:,}", details=("design cannot hold the network",)),
        Card(label="failed", value=f"{of['failed']:,}"),
    ]
    counted = np.flatnonzero((kinds == "front") | (kinds == "dominated"))
    if counted.size:
        for name, sense in study.spec.objectives.items():
            values = study.columns[name][counted]
            best = values == (values.max() if sense == "max" else values.min())
            at = int(
                np.flatnonzero(best)[np.argmax(kinds[counted[best]] == "front")]
            )  # of equals the one that nothing beats
            number = int(study.columns["number"][counted[at]])
            word = "highest" if sense == "max" else "lowest"
            m = metric(name, study.accuracy_is)
            cards.append(Card(label=f"{word} {m.label}", value=m.show(float(values[at])), details=(f"trial {number}",)))
    return Cards(cards=tuple(cards))


def _choices(study: StudyResult, runs: Mapping[int, Run]) -> tuple[tuple[str, str], ...]:
    """Return the points that can be opened, the knee first."""
    made = []
    for row in study.front:
        if int(row["number"]) not in runs:
            continue
        figures = ", ".join(f"{metric(m).label} {metric(m).show(row.get(m))}" for m in study.spec.objectives)
        made.append(
            (
                not row.get("knee"),
                str(row["number"]),
                f"{row['number']}{' (knee)' if row.get('knee') else ''}: {figures}",
            )
        )
    return tuple((key, label) for _, key, label in sorted(made, key=lambda item: item[0]))


def _point_parts(number: int, run: Run) -> tuple[Part, ...]:
    """Return what a point of the front opens."""
    key = str(number)
    return (
        Text(text=f"Trial {number}: {about_of(run)}"),
        *(Text(text=" ".join(lines)) for lines in (banner_of(run),) if lines),
        headline(run),
        energy_figure(run, f"energy{key}"),
        Beside(parts=(components_table(run, key), losses_table(run, key))),
        layer_table(run, key),
    )
