"""A report's own two figures: energy by component and latency by cause, per layer. matplotlib is imported when drawing."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

from picojoule.sim.cost import energy_by
from picojoule.sim.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from picojoule.sim.report import Report

_HATCHES = ("", "//", "..", "xx", "\\\\", "oo", "--", "++", "**", "||")
_SHOWN_LAYERS = 60


def new_axes(width: float, height: float) -> "Axes":
    """Return axes of a fresh figure that needs no display and leaves pyplot's global state alone."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure.add_subplot()


def _rows(report: "Report", value: str) -> list[int]:
    """Return the layers to draw, in order: those that cost something, at most `_SHOWN_LAYERS` (the dearest)."""
    costs = [(getattr(layer, value), i) for i, layer in enumerate(report.layers)]
    dearest = sorted((c for c in costs if c[0] > 0), reverse=True)[:_SHOWN_LAYERS]
    return sorted(i for _, i in dearest)


def _title(report: "Report", what: str, shown: int) -> str:
    name = f"{report.network['name']} on {report.hardware['name']}, batch {report.network['batch']}"
    left_out = sum(1 for layer in report.layers if layer.energy_pj > 0) - shown
    name += "" if report.complete else ", INCOMPLETE"
    return f"{what}: {name}" + (f" ({shown} dearest layers)" if left_out > 0 else "")


def plot_energy(report: "Report", axes: "Axes | None" = None) -> "Axes":
    """Draw dynamic energy per layer, stacked by component (colour and hatch), in microjoule."""
    shown = _rows(report, "energy_pj")
    axes = axes or new_axes(9, max(3.0, 0.2 * len(shown) + 1.5))
    by_layer = [energy_by(report.layers[i].energy, "component") for i in shown]
    totals: dict[str, float] = {}
    for row in by_layer:
        for component, pj in row.items():
            totals[component] = totals.get(component, 0.0) + pj
    left = [0.0] * len(shown)
    for number, component in enumerate(sorted(totals, key=lambda c: -totals[c])):
        width = [row.get(component, 0.0) / 1e6 for row in by_layer]
        axes.barh(
            range(len(shown)),
            width,
            left=left,
            label=f"{component} ({totals[component] / 1e6:.3g})",
            hatch=_HATCHES[number % len(_HATCHES)],
            color=f"C{number % 10}",
            edgecolor="white",
            linewidth=0.3,
        )
        left = [a + b for a, b in zip(left, width, strict=True)]
    _finish(axes, report, shown)
    axes.set_xlabel("dynamic energy, µJ")
    axes.legend(fontsize="small", title="component (total, µJ)")
    axes.set_title(_title(report, "Energy", len(shown)))
    return axes


def plot_latency(report: "Report", axes: "Axes | None" = None) -> "Axes":
    """Draw each layer's own time, compute and stall, in microseconds."""
    shown = _rows(report, "latency_s")
    axes = axes or new_axes(9, max(3.0, 0.2 * len(shown) + 1.5))
    layers = [report.layers[i] for i in shown]
    share = [lay.stall_cycles / lay.latency_cycles if lay.latency_cycles else 0.0 for lay in layers]
    busy = [lay.latency_s * (1 - s) * 1e6 for lay, s in zip(layers, share, strict=True)]
    stall = [lay.latency_s * s * 1e6 for lay, s in zip(layers, share, strict=True)]
    axes.barh(range(len(shown)), busy, label="compute", color="C0")
    axes.barh(
        range(len(shown)), stall, left=busy, label="stall", color="C1", hatch="//", edgecolor="white", linewidth=0.3
    )
    _finish(axes, report, shown)
    axes.set_xlabel("time of the layer, µs")
    axes.legend(fontsize="small")
    axes.set_title(_title(report, "Latency", len(shown)))
    return axes


def _finish(axes: "Axes", report: "Report", shown: list[int]) -> None:
    labels = [f"{report.layers[i].name[-40:]} [{report.layers[i].unit}]" for i in shown]
    axes.set_yticks(range(len(shown)), labels, fontsize="x-small")
    axes.invert_yaxis()
    axes.margins(y=0.01)


def save(axes: "Axes", path: Path) -> None:
    """Write the figure that holds `axes` as a PNG."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    write_atomic(path, picture.getvalue())


def save_figures(report: "Report", folder: Path) -> None:
    """Write energy.png and latency.png into `folder`."""
    for name, draw in (("energy", plot_energy), ("latency", plot_latency)):
        save(draw(report), folder / f"{name}.png")
