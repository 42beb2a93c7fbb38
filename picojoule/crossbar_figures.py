"""Figures of `scripts/reproduce_crossbar`: bits against accuracy and energy, energy and area by part, devices."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from picojoule.crossbar_designs import ADC_MODELS, ENCODINGS, RANGES
from picojoule.crossbar_tables import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RANGE_WORDS = {
    "exact": "exact: one code per cell unit, larger sums clip",
    "calibrated": "calibrated: 99.9 % of the sums of calibration data",
    "full": "full: the largest sum of a full column",
}
MODEL_WORDS = {
    "isaac_sar": "ISAAC's SAR",
    "survey": "survey (4 bits and more)",
    "neurosim_sar": "NeuroSim's SAR",
    "bitslice_paper": "bit-slice paper's law",
}
_STYLE = {"offset": ("C0", "o"), "flip": ("C1", "s"), "split": ("C2", "^"), "differential": ("C3", "D")}
_PARTS = (
    "#4c72b0", "#dd8452", "#55a868", "#c44e52", "#8172b3", "#937860", "#da8bc3", "#8c8c8c", "#ccb974", "#64b5cd",
)  # fmt: skip


def new_figure(width: float, height: float) -> "Figure":
    """Return a figure that needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def plot_adc(rows: Sequence[Row], floating: Row, title: str) -> "Axes":
    """Draw accuracy against bits by encoding, a panel per range (filled: lossless), and energy against bits by ADC model."""
    figure = new_figure(11, 7.6)
    panels = figure.subplots(2, 2).ravel()
    for axes, kind in zip(panels[:3], RANGES, strict=True):
        for shift, encoding in enumerate(ENCODINGS):
            mine = [r for r in rows if (r["encoding"], r["range"]) == (encoding, kind) and r["accuracy"] is not None]
            _accuracy_line(axes, mine, encoding, 0.06 * (shift - 1.5))
        if floating["accuracy"] is not None:
            axes.axhline(100 * floating["accuracy"], color="0.4", linewidth=1, linestyle=":", label="floating point")
        axes.set_title(RANGE_WORDS[kind], fontsize="medium")
        axes.set_xlabel("ADC bits, the sign of signed sums included")
        axes.set_ylabel("accuracy, %")
        axes.set_ylim(0, 100)
        axes.set_xlim(2.7, 10.3)
        axes.grid(alpha=0.3)
        axes.xaxis.set_major_locator(_whole())
    panels[0].plot([], [], "ko", markersize=6, label="filled: loses nothing")
    panels[0].legend(fontsize="small", loc="lower right")
    _energy_panel(panels[3], rows)
    figure.suptitle(title)
    return panels[0]  # type: ignore[no-any-return]


def _whole() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(integer=True)


def _accuracy_line(axes: "Axes", rows: Sequence[Row], encoding: str, shift: float) -> None:
    if not rows:
        return
    color, marker = _STYLE[encoding]
    at = [r["bits"] + shift for r in rows]
    up = [100 * r["accuracy"] for r in rows]
    below = [100 * (r["accuracy"] - r["low"]) for r in rows]
    above = [100 * (r["high"] - r["accuracy"]) for r in rows]
    axes.errorbar(at, up, yerr=[below, above], color=color, linewidth=1.2, capsize=2, elinewidth=0.8, label=encoding)
    for x, y, row in zip(at, up, rows, strict=True):
        axes.plot(x, y, marker, color=color, markersize=5, markerfacecolor=color if row["lossless"] else "white")


def _energy_panel(axes: "Axes", rows: Sequence[Row]) -> None:
    """Draw an image's energy for `flip` with the exact range, and the converters' part of it, dashed."""
    mine = sorted((r for r in rows if (r["encoding"], r["range"]) == ("flip", "exact")), key=lambda r: int(r["bits"]))
    for number, model in enumerate(ADC_MODELS):
        for key, line in (("energy_pj", "-"), ("adc_pj", "--")):
            known = [(r["bits"], r[f"{model}_{key}"] * 1e-6) for r in mine if r[f"{model}_{key}"] is not None]
            if known:
                label = MODEL_WORDS[model] if line == "-" else "_adc"
                axes.plot(*zip(*known, strict=True), line, color=f"C{number + 4}", marker=".", label=label)
    axes.plot([], [], "k--", label="converters alone")
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.06)  # room for the legend
    axes.set_title("what an image costs, flip encoding, by law of the converter", fontsize="medium")
    axes.set_xlabel("ADC bits")
    axes.set_ylabel("energy of an image, µJ")
    axes.grid(alpha=0.3, which="both")
    axes.xaxis.set_major_locator(_whole())
    axes.legend(fontsize="small", loc="lower right")


def plot_parts(rows: Sequence[Row], title: str) -> "Axes":
    """Draw energy of an image and area of the chips, stacked by part, a bar per design."""
    names = list(dict.fromkeys(r["words"] for r in rows))
    figure = new_figure(12, 1.6 + 0.42 * len(names))
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, key, label in ((left, "energy_uj", "energy of an image, µJ"), (right, "area_mm2", "area, mm²")):
        start = dict.fromkeys(names, 0.0)
        parts = list(dict.fromkeys(r["part"] for r in rows))
        for number, part in enumerate(parts):
            value = {r["words"]: r[key] for r in rows if r["part"] == part}
            axes.barh(
                names,
                [value.get(n, 0.0) for n in names],
                left=[start[n] for n in names],
                color=_PARTS[number % len(_PARTS)],
                label=part,
                edgecolor="white",
                linewidth=0.4,
            )
            for n in names:
                start[n] += value.get(n, 0.0)
        for n in names:
            axes.annotate(f" {start[n]:.3g}", (start[n], n), va="center", fontsize="small")
        axes.set_xlim(0, 1.15 * max(start.values()))
        axes.set_xlabel(label)
        axes.grid(axis="x", alpha=0.3)
    left.invert_yaxis()
    right.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0)
    figure.suptitle(title)
    return left  # type: ignore[no-any-return]


def plot_devices(rows: Sequence[Row], base: Row, title: str) -> "Axes":
    """Draw mean accuracy over chips with its interval, a line per device."""
    shown = [r for r in rows if r["accuracy"] is not None]
    figure = new_figure(8.5, 1.5 + 0.24 * len(shown))
    axes = figure.add_subplot()
    at = range(len(shown))
    middle = [100 * r["accuracy"] for r in shown]
    spread = [[100 * (r["accuracy"] - r["low"]) for r in shown], [100 * (r["high"] - r["accuracy"]) for r in shown]]
    axes.errorbar(middle, at, xerr=spread, fmt="o", color="C0", markersize=4, capsize=2, elinewidth=1)
    if base["accuracy"] is not None:
        axes.axvspan(100 * base["low"], 100 * base["high"], color="0.85", zorder=0)
        axes.axvline(
            100 * base["accuracy"], color="0.4", linewidth=1, label="ISAAC's own design, lossless (band: 95 %)"
        )
        axes.legend(fontsize="small", loc="lower left")
    axes.set_yticks(list(at), [r["words"] for r in shown], fontsize="small")
    axes.invert_yaxis()
    sizes = sorted({f"{r['chips']} chips x {r['images']} images" for r in shown})
    axes.set_xlabel(f"accuracy, % (mean; bars: 95 %, images and chips)\n{' or '.join(sizes)}")
    axes.grid(alpha=0.3)
    axes.set_title(title)
    return axes


def figures(rows: Mapping[str, Sequence[Row]], single: Mapping[str, Row], what: str) -> dict[str, "Axes"]:
    """Return the figures by the end of their names."""
    found = {
        "adc": plot_adc(rows["adc"], single["float"], f"{what}: bits of the converters"),
        "parts": plot_parts(rows["parts"], f"{what}: where energy and area go"),
    }
    if any(r["accuracy"] is not None for r in rows["devices"]):
        found["devices"] = plot_devices(rows["devices"], single["lossless"], f"{what}: what devices do")
    return found
