"""Drawings as plotly's plain data and layout; colors, patterns and sizes for every reader, fonts and grid by the script."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from picojoule.page.content import Figure
from picojoule.page.reading import Run
from picojoule.page.words import for_batch, shortened

# Okabe and Ito's palette for every kind of color vision, each with its own hatch so that gray will do.
_STYLES = (
    ("#0072b2", ""), ("#e69f00", "/"), ("#009e73", "x"), ("#cc79a7", "."), ("#56b4e9", "\\"), ("#d55e00", "-"),
    ("#b8ad1d", "+"), ("#888888", "|"),
)  # fmt: skip
_DIGITS = 6
_LONGEST = 40  # characters of a name in a legend or a hover
_MANY = 60  # layers: their labels get shorter


def rounded(value: float) -> float:
    """Return a number with the digits a drawing needs."""
    return float(f"{value:.{_DIGITS}g}")


def heaviest_components(run: Run, most: int = len(_STYLES) - 1) -> tuple[list[str], list[str]]:
    """Return the components with the largest dynamic energy, and the rest, largest first."""
    total: dict[str, float] = {}
    for layer in run.layers:
        for name, value in layer.energy_pj.items():
            total[name] = total.get(name, 0.0) + value
    names = sorted(total, key=lambda name: (-total[name], name))
    return (names, []) if len(names) <= most + 1 else (names[:most], names[most:])


def drawn_text(text: str, limit: int = _LONGEST) -> str:
    """Return text as plotly draws it literally: shortened, its `<` and `&` no markup (plotly knows no entity for quotes)."""
    return html.escape(shortened(text, limit), quote=False)


def layer_labels(run: Run) -> list[str]:
    """Return a label per layer, unique by its number, which the table shows as well."""
    limit = 26 if len(run.layers) <= _MANY else 18
    return [f"{i} {drawn_text(layer.name, limit)}" for i, layer in enumerate(run.layers, start=1)]


def energy_figure(run: Run, name: str) -> Figure:
    """Return the energy of each layer, stacked by component."""
    kept, rest = heaviest_components(run)
    of_batch = for_batch(run.network["batch"])
    groups: list[tuple[str, Sequence[str]]] = [(c, (c,)) for c in kept]
    if rest:
        groups.append((f"{len(rest)} others", rest))
    series = [
        (label, [sum(layer.energy_pj.get(c, 0.0) for c in members) * 1e-12 for layer in run.layers])
        for label, members in groups
    ]
    return Figure(
        name=name,
        title=f"Energy per layer by component{of_batch}",
        about=f"Stacked bars, one per layer in order of execution{of_batch}: dynamic energy by component ({', '.join(kept)}). "
        "The table of layers holds the same figures.",
        spec=_stacked(run, series, "J", f"energy{of_batch}"),
    )


def latency_figure(run: Run, name: str) -> Figure:
    """Return the latency of each layer, split in computing and waiting."""
    stalls = [
        layer.latency_s * layer.stall_cycles / max(1.0, layer.compute_cycles + layer.stall_cycles)
        for layer in run.layers
    ]
    of_batch = for_batch(run.network["batch"])
    computing = [layer.latency_s - stall for layer, stall in zip(run.layers, stalls, strict=True)]
    series = [("computing", computing), ("stalled", stalls)]
    return Figure(
        name=name,
        title=f"Latency per layer{of_batch}",
        about=f"Stacked bars, one per layer in order of execution{of_batch}: time computing and time stalled, waiting "
        "for memory. The table of layers holds the same figures.",
        spec=_stacked(run, series, "s", f"latency{of_batch}"),
    )


def _stacked(run: Run, series: Sequence[tuple[str, Sequence[float]]], unit: str, title: str) -> Mapping[str, Any]:
    labels = layer_labels(run)
    traces = [
        {
            "type": "bar",
            "name": drawn_text(label),
            "y": [rounded(v) for v in values],
            "marker": {
                "color": color,
                "pattern": {"shape": shape, "size": 6, "solidity": 0.35},
                "line": {"width": 0.5},
            },
            "hovertemplate": f"%{{y:.3~s}}{unit}",
        }
        for (label, values), (color, shape) in zip(series, _STYLES, strict=False)
    ]
    layout = {
        "barmode": "stack",
        "bargap": 0.15,
        "hovermode": "x unified",
        "xaxis": {"title": {"text": "layer, in order of execution"}, "type": "category"},
        "yaxis": {"title": {"text": title}, "tickformat": "~s", "ticksuffix": unit, "rangemode": "tozero"},
    }
    return {"labels": labels, "data": traces, "layout": layout}
