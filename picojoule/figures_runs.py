"""Runs side by side: where their energy goes, and where their array's cycles are lost."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from picojoule.figures_axes import HATCHES
from picojoule.sim.errors import InputError
from picojoule.sim.files import read_bounded
from picojoule.sim.report import Report
from picojoule.sim.report_plots import new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LIMIT_BYTES = 32 << 20
_MOST_RUNS = 24
_MOST_PARTS = 9

Source = Report | Path | str


def plot_breakdown(reports: Sequence[Source], axes: "Axes | None" = None) -> "Axes":
    """Draw the energy per sample of reports or run folders side by side, stacked by component, with the total on top.

    Static energy is a part of its own. Beyond nine components the small ones are one; of more than 24 runs as many, evenly
    picked in the order given, are drawn, and the label says so.

    Raises:
        InputError: if nothing is given, or a folder was not written by `evaluate --out`.

    """
    picked, documents = _read(reports)
    parts = [_energy(document) for document in documents]
    axes = _stack(parts, [_name(s, d) for s, d in zip(picked, documents, strict=True)], axes)
    axes.set_ylabel("energy per sample, µJ")
    if len(picked) < len(reports):
        axes.set_xlabel(f"{len(picked)} of {len(reports)} runs, evenly picked")
    return axes


def plot_loss(reports: Sequence[Source], axes: "Axes | None" = None) -> "Axes":
    """Draw how the MAC slots of each run's array are used, and to which cause the others are lost, in percent.

    Layers count by their time on the array; layers that run elsewhere, or say nothing of their array, are left out.

    Raises:
        InputError: as `plot_breakdown`, and if no run says how its array is used.

    """
    picked, documents = _read(reports)
    parts = [_slots(document) for document in documents]
    if not any(parts):
        raise InputError("no report says how its array is used; plot_loss needs runs on systolic arrays")
    axes = _stack(parts, [_name(s, d) for s, d in zip(picked, documents, strict=True)], axes, first="used")
    axes.set_ylabel("MAC slots of the array, %")
    return axes


def _read(sources: Sequence[Source]) -> tuple[list[Source], list[dict[str, Any]]]:
    """Return what is drawn, and its report.json documents."""
    if not sources:
        raise InputError("nothing to draw: give at least one report or run folder")
    places = np.unique(np.linspace(0, len(sources) - 1, min(len(sources), _MOST_RUNS)).round().astype(int))
    picked = [sources[i] for i in places]
    return picked, [s.to_dict() if isinstance(s, Report) else _document(Path(s)) for s in picked]


def _document(folder: Path) -> dict[str, Any]:
    path = folder / "report.json"
    try:
        document = dict(json.loads(read_bounded(path, _LIMIT_BYTES, "the report.json of `evaluate --out`")))
        _energy(document), _slots(document), _name(folder, document)
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError):
        raise InputError(f"{path}: not a report of picojoule (torn or edited?); run `evaluate --out` again") from None
    return document


def _name(source: Source, document: Mapping[str, Any]) -> str:
    name = document["hardware"]["name"] if isinstance(source, Report) else Path(source).name
    return f"{str(name)[-24:]}" + ("" if document["complete"] else "\nINCOMPLETE")


def _energy(document: Mapping[str, Any]) -> dict[str, float]:
    """Return µJ per sample by component; static energy is `static`."""
    scale = 1e-6 / int(document["network"]["batch"])
    parts: dict[str, float] = {}
    for layer in document["layers"]:
        for component, pj in layer["energy_pj"].items():
            parts[component] = parts.get(component, 0.0) + float(pj) * scale
    return parts | {"static": float(document["totals"]["energy_static_pj"]) * scale}


def _slots(document: Mapping[str, Any]) -> dict[str, float]:
    """Return shares of MAC slots in percent: `used`, and each cause of loss; empty where no layer says."""
    parts: dict[str, float] = {}
    told = [layer for layer in document["layers"] if layer["utilization_lost"] and layer["utilization"] is not None]
    cycles = sum(float(layer["latency_cycles"]) for layer in told)
    for layer in told if cycles > 0 else ():
        weight = 100 * float(layer["latency_cycles"]) / cycles
        for cause, share in {"used": layer["utilization"], **layer["utilization_lost"]}.items():
            parts[cause] = parts.get(cause, 0.0) + float(share) * weight
    return parts


def _stack(
    parts: Sequence[Mapping[str, float]], names: Sequence[str], axes: "Axes | None", first: str | None = None
) -> "Axes":
    """Draw stacked bars, the part that is largest over all lowest (or `first`); totals on top."""
    sums: dict[str, float] = {}
    for own in parts:
        for part, value in own.items():
            sums[part] = sums.get(part, 0.0) + value
    order = sorted((p for p in sums if sums[p] > 0), key=lambda p: (p != first, p == "static", -sums[p]))
    named = order if len(order) <= _MOST_PARTS + 1 else sorted(order, key=lambda p: -sums[p])[:_MOST_PARTS]
    rest = [p for p in order if p not in named]
    groups = [(p, [p]) for p in order if p in named] + ([(f"{len(rest)} others", rest)] if rest else [])
    axes = axes or new_axes(max(6.5, 2.8 + 0.55 * len(parts)), 5)
    places, bottom = np.arange(len(parts)), np.zeros(len(parts))
    for number, (label, members) in enumerate(groups):
        heights = np.array([sum(own.get(member, 0.0) for member in members) for own in parts])
        axes.bar(
            places,
            heights,
            bottom=bottom,
            label=label,
            color=f"C{number % 10}",
            hatch=HATCHES[number % len(HATCHES)],
            edgecolor="white",
            linewidth=0.3,
        )
        bottom += heights
    if first is None:
        for place, total in zip(places, bottom, strict=True):
            axes.annotate(
                f"{total:.3g}", (place, total), (0, 2), textcoords="offset points", ha="center", fontsize="x-small"
            )
        axes.margins(y=0.07)
    else:
        axes.set_ylim(0, 100)
    turned = len(parts) > 6 or max(len(name) for name in names) > 12
    axes.set_xticks(places, names, fontsize="small", rotation=60 if turned else 0)
    middle, half = (len(parts) - 1) / 2, max(len(parts), 3) / 2 + 0.1
    axes.set_xlim(middle - half, middle + half)
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(  # as the bars are stacked
        handles[::-1], labels[::-1], fontsize="small", loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0
    )
    return axes
