"""How metrics are shown: their words, their units, and axes that read well."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HATCHES = ("", "//", "..", "xx", "\\\\", "oo", "--", "++", "**", "||")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A metric's words and unit; values are multiplied by `factor` to come out in `unit`."""

    words: str
    unit: str = ""
    factor: float = 1.0

    @property
    def label(self) -> str:
        """The label of an axis: words, unit."""
        return f"{self.words}, {self.unit}" if self.unit else self.words

    def text(self, value: float) -> str:
        """Return a value as people read it, four digits and the unit."""
        return f"{value * self.factor:,.4g}" + (f" {self.unit}" if self.unit else "")


_SHOWN = {
    "accuracy": Shown(words="accuracy", unit="%", factor=100),
    "energy_pj": Shown(words="energy", unit="µJ", factor=1e-6),
    "energy_pj_per_sample": Shown(words="energy per sample", unit="µJ", factor=1e-6),
    "energy_dynamic_pj": Shown(words="dynamic energy", unit="µJ", factor=1e-6),
    "energy_static_pj": Shown(words="static energy", unit="µJ", factor=1e-6),
    "latency_s": Shown(words="latency", unit="ms", factor=1e3),
    "accelerator_latency_s": Shown(words="latency on the accelerator", unit="ms", factor=1e3),
    "host_latency_s": Shown(words="latency on the host", unit="ms", factor=1e3),
    "interval_s": Shown(words="time between results", unit="ms", factor=1e3),
    "throughput_per_s": Shown(words="throughput", unit="samples/s"),
    "area_mm2": Shown(words="area", unit="mm²"),
    "utilization": Shown(words="utilization", unit="%", factor=100),
    "weight_bytes": Shown(words="weights", unit="KiB", factor=1 / 1024),
    "peak_activation_bytes": Shown(words="peak of activations", unit="KiB", factor=1 / 1024),
    "macs": Shown(words="multiply-accumulates", unit="million", factor=1e-6),
    "number": Shown(words="trial"),
}


def shown_as(metric: str, accuracy_is: str = "") -> Shown:
    """Return how a metric is shown; an unknown one keeps its name, a key of the space as it is written.

    `accuracy_is` says what accuracy is where that is not top-1 on validation data (`StudyResult.accuracy_is`).
    """
    if metric == "accuracy" and accuracy_is:
        return replace(_SHOWN[metric], words=f"accuracy ({accuracy_is})")
    return _SHOWN.get(metric) or Shown(words=metric if "." in metric else metric.replace("_", " "))


def scale_axis(axes: "Axes", which: str, values: NDArray[np.float64]) -> None:
    """Make the axis `x` or `y` logarithmic where `values` (as drawn) are positive and span more than a decade."""
    from matplotlib.ticker import LogLocator, NullFormatter

    drawn = values[np.isfinite(values)]
    if not drawn.size or drawn.min() <= 0 or drawn.max() <= 10 * drawn.min():
        return
    axis = getattr(axes, f"{which}axis")
    getattr(axes, f"set_{which}scale")("log")
    decades = float(np.log10(drawn.max() / drawn.min()))
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 3 else (1,)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def legend_beside(axes: "Axes", title: str | None = None, extra: Sequence[str] = ()) -> None:
    """Put the legend right of the axes, where it covers no point; `extra` lines come last and have no mark."""
    for text in extra:
        axes.plot([], [], " ", label=text)
    axes.legend(
        fontsize="small",
        title=title,
        title_fontsize="small",
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        borderaxespad=0.0,
        alignment="left",
    )
