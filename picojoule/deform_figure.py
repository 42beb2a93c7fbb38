"""The figure of the detector's trainings: test AP50 against simulated latency, for the operator each form would be on the engine.

The engine computes in W4A8 with whole sampling points, so its own integers are the filled marks, and only they may stand on the
front. A hollow mark shows the same form in floating point, which samples at fractions and runs on no such engine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from picojoule.deform_points import QUANTIZED
from picojoule.deform_tables import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Transform

ENGINE = "w4a8_ap50"
_NEAR = 0.003  # of latency: marks that would hide each other
_ASIDE_INCHES, _HOLLOW_INCHES = 18 / 72, 8 / 72


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One form in the figure: its row in floating point, and that of its fine-tuned variant if there is one."""

    plain: Row
    tuned: Row | None

    @property
    def main(self) -> Row:
        """The row whose W4A8 is the filled mark: fine-tuned where there is one, else rounded."""
        return self.tuned or self.plain

    @property
    def words(self) -> str:
        """The form's words in the legend."""
        how = "fine-tuned" if self.tuned else "rounded" if self.plain[ENGINE] is not None else "float only"
        return f"{self.plain['words']} ({how}), n = {self.main['w4a8_seeds'] or self.plain['seeds']}"


def marks(rows: Sequence[Row]) -> list[Mark]:
    """Return a mark per form that was trained and priced."""
    tuned = {QUANTIZED[r["variant"]]: r for r in rows if r["variant"] in QUANTIZED and r["latency_ms"] is not None}
    plain = [r for r in rows if r["variant"] not in QUANTIZED and r["latency_ms"] is not None]
    return [Mark(plain=r, tuned=tuned.get(r["variant"])) for r in plain]


def front(rows: Sequence[Row]) -> list[Mark]:
    """Return the marks whose W4A8 accuracy no other beats at the same latency or less, by rising latency."""
    from picojoule.fronts import non_dominated

    able = [m for m in marks(rows) if m.main[ENGINE] is not None]
    if not able:
        return []
    costs = np.array([[m.main["latency_ms"], -m.main[ENGINE]] for m in able])
    return sorted((able[i] for i in np.flatnonzero(non_dominated(costs))), key=lambda m: float(m.main["latency_ms"]))


def plot_front(rows: Sequence[Row]) -> "Axes":
    """Draw a filled mark (W4A8) with its interval per form, a hollow one (float) joined to it, and steps along the front.

    Marks of equal latency (within 0.3 %) stand side by side, hollow ones a little to the right of theirs.
    """
    from picojoule.sim.report_plots import new_axes

    axes = new_axes(9, 5)
    shown = marks(rows)
    for i, mark in enumerate(shown):
        _draw(axes, mark, {"color": f"C{i}", "marker": "osD^vPX"[i % 7]}, _aside(mark, shown))
    if best := front(rows):
        at = [m.main["latency_ms"] for m in best]
        axes.step(at, [100 * m.main[ENGINE] for m in best], where="post", color="0.5", linewidth=1, zorder=0,
                  label="front of filled marks' means")  # fmt: skip
    if any(m.tuned and m.plain[ENGINE] is not None for m in shown):
        axes.plot([], [], "_", color="0.3", markersize=11, label="W4A8 of the same, rounded before fine-tuning")
    axes.margins(0.08)
    axes.autoscale_view()
    axes.set_xlabel("simulated latency on ultra96-codenet (W4A8), ms; equal ones side by side")
    axes.set_ylabel("test AP50, % (filled: engine's integers, W4A8; hollow: float)")
    axes.set_title("Deformable forms in a small detector; bars: 95 % over n training seeds")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0)
    return axes


def _draw(axes: "Axes", mark: Mark, style: Mapping[str, Any], inches: float) -> None:
    """Draw one form: hollow float, filled W4A8, a thin line between, and a tick where a fine-tuned one was rounded."""
    plain, main = mark.plain, mark.main
    place, beside = _moved(axes, inches), _moved(axes, inches + _HOLLOW_INCHES)
    if plain["float_ap50"] is not None and main[ENGINE] is not None:
        axes.annotate(
            "", (plain["latency_ms"], 100 * plain["float_ap50"]), (main["latency_ms"], 100 * main[ENGINE]),
            xycoords=beside, textcoords=place, arrowprops={"arrowstyle": "-", "color": style["color"], "linewidth": 0.7},
        )  # fmt: skip
    label = mark.words
    for row, name, face, at in ((main, ENGINE, style["color"], place), (plain, "float_ap50", "white", beside)):
        if row[name] is None:
            continue
        half = 100 * (row[f"{name}_half"] or 0.0)
        axes.update_datalim([(row["latency_ms"], 100 * row[name] + sign * half) for sign in (-1, 1)])
        axes.errorbar(row["latency_ms"], 100 * row[name], yerr=half or None, **style, markerfacecolor=face, capsize=3,
                      markersize=7, elinewidth=1, linestyle="none", transform=at, label=label)  # fmt: skip
        label = "_hollow"
    if mark.tuned and plain[ENGINE] is not None:
        axes.update_datalim([(plain["latency_ms"], 100 * plain[ENGINE])])
        axes.plot(plain["latency_ms"], 100 * plain[ENGINE], "_", color=style["color"], markersize=11, transform=place)


def _aside(mark: Mark, shown: Sequence[Mark]) -> float:
    """Return by how many inches a mark stands aside, where others have (nearly) its latency."""
    here = mark.main["latency_ms"]
    near = [m for m in shown if abs(m.main["latency_ms"] - here) < _NEAR * here]
    equal = sorted(near, key=lambda m: float(m.main["latency_ms"]))
    return (next(k for k, m in enumerate(equal) if m is mark) - (len(equal) - 1) / 2) * _ASIDE_INCHES


def _moved(axes: "Axes", inches: float) -> "Transform":
    """Return data coordinates, moved to the right on the paper."""
    from matplotlib.transforms import ScaledTranslation

    figure = axes.get_figure(root=True)
    assert figure is not None
    moved: Transform = axes.transData + ScaledTranslation(inches, 0, figure.dpi_scale_trans)
    return moved
