"""Figures of studies and runs: each function takes results and returns matplotlib axes; nothing needs a display.

`plot_front`, `plot_hypervolume`, `plot_importance` and `plot_attainment` draw studies, `plot_breakdown` and `plot_loss` runs.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from picojoule.figures_front import plot_front
from picojoule.figures_importance import FEWEST_TRIALS, importance, plot_importance
from picojoule.figures_progress import plot_attainment, plot_hypervolume
from picojoule.figures_runs import plot_breakdown, plot_loss
from picojoule.figures_trials import sort_trials, subject_of
from picojoule.sim.report_plots import save

if TYPE_CHECKING:
    from picojoule.studies.results import StudyResult

__all__ = [
    "importance",
    "plot_attainment",
    "plot_breakdown",
    "plot_front",
    "plot_hypervolume",
    "plot_importance",
    "plot_loss",
    "save_study_figures",
]


def save_study_figures(result: "StudyResult", folder: Path) -> None:
    """Write pareto.png, and hypervolume.png, importance.png and breakdown.png where there is something to draw.

    The hypervolume is drawn for up to three objectives; importance needs ten complete trials, the breakdown the front's runs
    in `folder`/front.
    """
    axes = plot_front(result)
    axes.set_title(f"Front of {subject_of(result)}")
    save(axes, folder / "pareto.png")
    trials = sort_trials(result)
    if trials.counted.any() and len(result.spec.objectives) <= 3:  # volumes of more can take minutes
        save(plot_hypervolume(result), folder / "hypervolume.png")
    if trials.measured.sum() >= FEWEST_TRIALS:
        save(plot_importance(result), folder / "importance.png")
    runs = [folder / "front" / f"{int(row['number']):05d}" for row in result.front]
    found = [run for run in runs if (run / "report.json").is_file()]
    if found:
        axes = plot_breakdown(found)
        axes.set_title(f"Energy of the front of {subject_of(result)}")
        save(axes, folder / "breakdown.png")
