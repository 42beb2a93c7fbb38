"""Figures of `scripts/reproduce_systolic`: where a network's cycles, energy and slots go on two arrays; the front of a sweep."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from picojoule.figures_axes import HATCHES, shown_as

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from picojoule.sim.cost import LayerCost
    from picojoule.sim.report import Report

CAUSE_WORDS = {
    "useful": "multiplying",
    "padding": "edge folds",
    "groups": "groups side by side",
    "fill_drain": "skew, load, drain",
    "imbalance": "uneven zeros",
    "closed_gates": "closed channel gates",
    "bandwidth": "waiting for DRAM",
    "dependence": "waiting for the step before",
}
_CAUSE_COLORS = {
    "useful": "#4c72b0",
    "padding": "#ccb974",
    "groups": "#dd8452",
    "fill_drain": "#8c8c8c",
    "imbalance": "#937860",
    "closed_gates": "#64b5cd",
    "bandwidth": "#c44e52",
    "dependence": "#8172b3",
}
_PART_COLORS = {
    "MACs and registers": "#4c72b0",
    "SRAM": "#55a868",
    "DRAM": "#c44e52",
    "vector unit, host": "#8172b3",
}


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def energy_parts(layer: "LayerCost") -> dict[str, float]:
    """Return a layer's dynamic energy, pJ, by the four parts that the figure tells apart; they add up to all of it."""
    parts = dict.fromkeys(_PART_COLORS, 0.0)
    for line in layer.energy:
        if line.component.startswith("sram"):
            parts["SRAM"] += line.pj
        elif line.component.startswith("dram"):
            parts["DRAM"] += line.pj
        elif line.component in ("mac", "register"):
            parts["MACs and registers"] += line.pj
        else:
            parts["vector unit, host"] += line.pj
    return parts


def plot_layers(reports: Sequence["Report"], titles: Sequence[str]) -> "Axes":
    """Draw, for each of several designs (rows), its array layers: cycles, dynamic energy by part, slots by what took them.

    Layers follow the network's order from top to bottom; the time of those on the vector unit stands in words.
    """
    shown = [[lay for lay in report.layers if lay.unit == "array"] for report in reports]
    count = max(len(layers) for layers in shown)
    figure = _figure(14, 2.0 + 0.14 * count * len(reports))
    panels = figure.subplots(len(reports), 3, squeeze=False, sharey="row", sharex="col")
    for row, (report, layers, title) in enumerate(zip(reports, shown, titles, strict=True)):
        cycles, energy, slots = panels[row]
        _cycle_bars(cycles, layers)
        _energy_bars(energy, layers)
        _slot_bars(slots, layers)
        rest = sum(lay.latency_cycles for lay in report.layers) - sum(lay.latency_cycles for lay in layers)
        whole = f"{report.totals['latency_s'] * 1e3:.2f} ms, {report.totals['energy_pj'] / 1e6:.0f} µJ with leakage"
        cycles.set_ylabel(f"{title}\n{whole} (vector unit: {rest / 1e3:.0f} thousand cycles more)", fontsize="medium")
        for axes in (cycles, energy, slots):
            axes.set_yticks(range(len(layers)), [_short(lay) for lay in layers], fontsize=6.5)
            axes.invert_yaxis()
            axes.margins(y=0.005)
            axes.grid(axis="x", alpha=0.3)
    for axes, x in zip(
        panels[-1], ("thousand cycles", "dynamic energy, µJ", "share of the array's slots, %"), strict=True
    ):
        axes.set_xlabel(x)
    for column in range(3):
        _legend_above([row[column] for row in panels])
    return panels[0][0]  # type: ignore[no-any-return]


def _legend_above(column: Sequence["Axes"]) -> None:
    """Put one legend of all that a column of panels shows above its first."""
    shown: dict[str, Any] = {}
    for axes in column:
        handles, words = axes.get_legend_handles_labels()
        shown |= dict(zip(words, handles, strict=True))
    place = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "ncol": 3}
    column[0].legend(shown.values(), shown.keys(), fontsize="small", frameon=False, **place)


def _short(layer: "LayerCost") -> str:
    g = layer.gemm
    assert g is not None
    return f"{g.m}x{g.k}x{g.n}" + (f", {g.groups} groups" if g.groups > 1 else "")


def _stack(axes: "Axes", parts: Mapping[str, Sequence[float]], colors: Mapping[str, str]) -> None:
    """Draw stacked bars; every part has a color and a hatch of its own, and those that are nowhere are left out."""
    left = np.zeros(len(next(iter(parts.values()))))
    for number, (name, values) in enumerate(parts.items()):
        width = np.asarray(values, dtype=np.float64)
        if not width.any():
            continue
        axes.barh(
            np.arange(len(left)), width, left=left, height=0.85, label=name, color=colors[name],
            hatch=HATCHES[number % len(HATCHES)], edgecolor="white", linewidth=0.2,
        )  # fmt: skip
        left = left + width


def _cycle_bars(axes: "Axes", layers: Sequence["LayerCost"]) -> None:
    parts = {
        "computing": [lay.compute_cycles / 1e3 for lay in layers],
        "waiting": [lay.stall_cycles / 1e3 for lay in layers],
    }
    _stack(axes, parts, {"computing": "#4c72b0", "waiting": "#c44e52"})


def _energy_bars(axes: "Axes", layers: Sequence["LayerCost"]) -> None:
    by_layer = [energy_parts(lay) for lay in layers]
    _stack(axes, {name: [p[name] / 1e6 for p in by_layer] for name in _PART_COLORS}, _PART_COLORS)


def _slot_bars(axes: "Axes", layers: Sequence["LayerCost"]) -> None:
    for layer in layers:
        unknown = slot_shares(layer).keys() - CAUSE_WORDS.keys()
        if unknown:
            raise ValueError(
                f"{layer.name}: the figure has no word for slots lost to {min(unknown)}; add it to CAUSE_WORDS"
            )
    parts = {CAUSE_WORDS[cause]: [100 * slot_shares(lay).get(cause, 0.0) for lay in layers] for cause in CAUSE_WORDS}
    _stack(axes, parts, {CAUSE_WORDS[cause]: color for cause, color in _CAUSE_COLORS.items()})
    axes.set_xlim(0, 100)


def slot_shares(layer: "LayerCost") -> dict[str, float]:
    """Return the shares of PE x cycle slots of a layer's time by what took them, `useful` among them; they add up to 1."""
    return {"useful": layer.utilization or 0.0, **layer.utilization_lost}


def plot_front3(
    points: Mapping[str, NDArray[np.float64]], front: NDArray[np.bool_], title: str, most: int = 20_000, seed: int = 0
) -> "Axes":
    """Draw latency against energy of all points of a sweep (a sample of them) and the front, colored by area.

    Args:
        points: latency_s, energy_pj_per_sample, area_mm2, an element per design.
        front: which designs no other beats in all three.
        title: of the figure.
        most: how many of the beaten points to draw.
        seed: of that sample.

    """
    latency, energy, area = (shown_as(m) for m in ("latency_s", "energy_pj_per_sample", "area_mm2"))
    x, y = points["latency_s"] * latency.factor, points["energy_pj_per_sample"] * energy.factor
    figure = _figure(8.5, 6)
    axes = figure.add_subplot()
    beaten = np.flatnonzero(~front)
    drawn = beaten if len(beaten) <= most else np.random.default_rng(seed).choice(beaten, most, replace=False)
    axes.scatter(x[drawn], y[drawn], s=2, color="0.8", label=f"beaten (a sample of {len(beaten):,})", rasterized=True)
    best = np.flatnonzero(front)
    best = best[np.argsort(-points["area_mm2"][best])]
    marks = axes.scatter(
        x[best], y[best], s=9, c=points["area_mm2"][best], cmap="viridis", norm=_log(), label=f"front ({len(best):,})"
    )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(latency.label)
    axes.set_ylabel(energy.label)
    axes.set_title(title, fontsize="medium")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize="small", loc="lower right")
    figure.colorbar(marks, ax=axes, label=f"{area.label} (of points on the front)")
    return axes


def _log() -> Any:
    from matplotlib.colors import LogNorm

    return LogNorm()
