"""The page: a saved run or study as one HTML file that needs no network, to read, print and send to others.

`reading.py` checks what lies in the folder, `run_content.py` and `study_content.py` decide what is said, `figures.py` what
is drawn, `render.py` writes HTML. Plotly draws in the browser; everything else is a table that reads without scripts.
"""

from pathlib import Path

from picojoule.page.content import Page
from picojoule.page.render import render_page
from picojoule.sim.errors import InputError
from picojoule.sim.files import write_atomic

__all__ = ["Page", "page_of", "write_page"]


def page_of(source: Path) -> Page:
    """Return what the page of a run folder (`evaluate --out`) or a study folder (`search --out`) says.

    Raises:
        InputError: if the folder is neither, or torn, or a search that was stopped before its first table.

    """
    from picojoule.page.reading import read_run
    from picojoule.page.run_content import run_page
    from picojoule.page.study_content import study_page
    from picojoule.studies.results import read_study

    folder = source.parent if source.name in ("report.json", "trials.csv", "study.yaml") else source
    if not folder.exists():
        raise InputError(f"{source}: no such folder; give one made with `evaluate --out` or `search --out`")
    if (folder / "report.json").exists():
        return run_page(read_run(folder))
    if (folder / "study.yaml").exists() and not (folder / "trials.csv").exists():
        raise InputError(
            f"{folder}: this search was stopped before its first table (trials.csv) was written; go on with `picojoule search "
            f"{folder / 'study.yaml'} --out {folder} --resume`, then report again"
        )
    if (folder / "trials.csv").exists() or (folder / "study.yaml").exists():
        return study_page(read_study(folder))
    raise InputError(
        f"{source}: holds neither a run (report.json) nor a study (study.yaml, trials.csv); give a folder made with "
        "`evaluate --out` or `search --out`"
    )


def write_page(source: Path, out: Path) -> None:
    """Write the page of a run or study folder to `out`: the same folder gives the same bytes (some 5 MB, mostly plotly).

    Raises:
        InputError: if the folder is neither a run nor a study, or torn; if `out` cannot be written; without plotly.

    """
    if out.is_dir():
        raise InputError(f"{out}: is a folder; name a file, such as {out / 'report.html'}")
    write_atomic(out, render_page(page_of(source)))
