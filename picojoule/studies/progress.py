"""Shows how a search goes on: a bar with the time left and the best points on a terminal, a line now and then elsewhere."""

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from picojoule.figures_axes import shown_as
from picojoule.studies.results import violated_text
from picojoule.studies.spec import StudySpec

Say = Callable[[str], None]


def shown(metric: str, value: float) -> str:
    """Return a metric as people read it, such as `latency 1.24 ms`."""
    how = shown_as(metric)
    return f"{how.words} {value * how.factor:.4g} {how.unit}".rstrip()


class SearchProgress:
    """A bar on stderr where that is a terminal, else a line a tenth of the way; counts trials and keeps the best values."""

    def __init__(self, spec: StudySpec, trials: int, say: Say) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._spec, self._trials, self._say = spec, trials, say
        console = Console(stderr=True)
        self._live = console.is_terminal
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[best]}"),
            console=console, transient=True, disable=not self._live,
        )  # fmt: skip
        self._task = self._bar.add_task("trials", total=trials, best="")
        self._done = self._looked = 0
        self._spoken = 0
        self._started = time.monotonic()
        self._counts = dict.fromkeys(("complete", "infeasible", "failed", "violating"), 0)
        self._best: dict[str, float] = {}

    def __enter__(self) -> "SearchProgress":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def note(self, text: str) -> None:
        """Say something that is no trial, such as the training of the original."""
        if self._live:
            self._bar.update(self._task, best=text)
        else:
            self._say(text)

    def kept(self, outcome: Mapping[str, Any]) -> None:
        """Count a trial of an earlier session; the time left is reckoned from new ones."""
        self._count(outcome)
        self._spoken = self._done
        self._bar.reset(self._task, completed=self._done, total=self._trials)
        self._show()

    def looked(self, number: int) -> None:
        """Note a first look."""
        self._looked += 1
        self._show()

    def trial(self, outcome: Mapping[str, Any]) -> None:
        """Count a trial and keep its values if they are the best allowed ones."""
        self._count(outcome)
        self._show()

    def _count(self, outcome: Mapping[str, Any]) -> None:
        self._done += 1
        violated = bool(violated_text(self._spec, outcome["values"]))
        self._counts["violating" if outcome["state"] == "complete" and violated else outcome["state"]] += 1
        if outcome["state"] == "complete" and outcome["fidelity"] != "proxy" and not violated:
            self.best({m: outcome["values"][m] for m in self._spec.objectives})

    def best(self, values: Mapping[str, float]) -> None:
        """Keep the best of each objective."""
        for metric, value in values.items():
            pick = max if self._spec.objectives[metric] == "max" else min
            self._best[metric] = pick(self._best.get(metric, value), value)

    def advance(self, done: int, best: Mapping[str, float]) -> None:
        """Set the number of trials done, and best values; for searches that count by themselves."""
        self._done = done
        self.best(best)
        self._show()

    def _show(self) -> None:
        best = ", ".join(shown(m, v) for m, v in self._best.items())
        text = f"best: {best}" if best else ""
        if bad := ", ".join(f"{n} {name}" for name, n in self._counts.items() if n and name != "complete"):
            text += f" ({bad})"
        self._bar.update(self._task, completed=self._done, best=text)
        if not self._live and self._done >= min(self._trials, self._spoken + max(1, self._trials // 10)):
            self._spoken = self._done
            seconds = time.monotonic() - self._started
            self._say(f"{self._done} of {self._trials} trials after {seconds:.0f} s; {text}".rstrip("; "))
