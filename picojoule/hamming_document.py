"""The tables of the Hamming study as a person reads them, in Markdown; `docs/hamming.md` holds those of the whole study."""

from collections.abc import Sequence
from typing import Any

from picojoule.hamming_measure import SEGMENTS
from picojoule.hamming_points import ARMS, ARRAY
from picojoule.hamming_tables import REFERENCE, Row, trained_variant
from picojoule.sim.errors import InputError

MARKS = ("<!-- tables of scripts/reproduce_hamming -->", "<!-- end of tables -->")
"""Lines of a document between which its tables stand."""
UNTUNED = (
    f"its strength is {ARMS['bits'].settings['strength']:g} and was not tuned on validation images as the others' was."
)
_ORDERS = {
    "channels": "whole channels",
    "segments": "every segment its own order",
    "clusters": "four clusters, then every segment",
}


def markdown(rows: Sequence[Row], layers: Sequence[Row], energies: Sequence[Row]) -> str:
    """Return the tables: arms as trained, reordering alone, every stream of every arm, layers, energy."""
    parts = ["### Trained arms, each in the stream it is trained for", "", *_arms(rows)]
    parts += ["", "### Reordering the dense network, nothing trained", "", *_orders(rows)]
    parts += ["", f"### All arms on other streams ({ARRAY} x {ARRAY})", "", *_streams(rows)]
    if layers:
        parts += ["", "### Layer by layer", "", *_layers(layers)]
    if energies:
        parts += ["", "### Energy of an image", "", *_energies(energies)]
    return "\n".join(parts) + "\n"


def with_tables(document: str, tables: str) -> str:
    """Return a document with the tables between its two marks replaced.

    Raises:
        InputError: if it has no marks.

    """
    before, first, rest = document.partition(MARKS[0])
    _, second, after = rest.partition(MARKS[1])
    if not first or not second:
        raise InputError(f"the document has no place for tables; write the lines {MARKS[0]} and {MARKS[1]} there")
    return f"{before}{first}\n\n{tables}\n{second}{after}"


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *lines)]


def _arms(rows: Sequence[Row]) -> list[str]:
    head = [
        "arm",
        "stream",
        "fewer flips: all layers",
        "than dense in the same order",
        "mean of layers",
        "median",
        "least",
        "test accuracy %",
        "to dense, points",
        "training, CPU s",
    ]
    lines = []
    for arm in dict.fromkeys(r["arm"] for r in rows):
        r = next(r for r in rows if r["arm"] == arm and r["variant"] == trained_variant(arm))
        lines.append(
            [
                f"{r['title']} ({r['seeds']} seeds)",
                r["variant"],
                _ratio(r, "total"),
                _ratio(r, "same_order"),
                _ratio(r, "mean"),
                f"{r['median']:.2f}",
                f"{r['least']:.2f}",
                _with_half(r["accuracy"], r["accuracy_half"]),
                "" if arm == REFERENCE else _signed(r["points"], r["points_half"]),
                f"{r['training_cpu_s']:.0f}",
            ]
        )
    untuned = [r["title"] for r in rows if r["arm"] == "bits" and r["variant"] == trained_variant("bits")]
    return [*_table(head, lines), "", *(f"{title}: {UNTUNED}" for title in untuned)]


def _orders(rows: Sequence[Row]) -> list[str]:
    head = ["order", *(f"{n} rows: all layers / mean" for n in SEGMENTS), f"sign-magnitude, {ARRAY} rows"]
    found = {r["variant"]: r for r in rows if r["arm"] == REFERENCE}
    lines = []
    for order, title in _ORDERS.items():
        names = [f"is-{n}-twos_complement-{order}" for n in SEGMENTS] + [f"is-{ARRAY}-sign_magnitude-{order}"]
        lines.append([title, *(f"{found[n]['total']:.2f} / {found[n]['mean']:.2f}" for n in names if n in found)])
    return _table(head, lines)


def _streams(rows: Sequence[Row]) -> list[str]:
    names = [f"{flow}-{ARRAY}-{code}-{order}" for flow, order in (("is", "as_is"), ("is", "segments"), ("os", "as_is"))
             for code in ("twos_complement", "sign_magnitude")]  # fmt: skip
    lines = []
    for arm in dict.fromkeys(r["arm"] for r in rows):
        of = {r["variant"]: r for r in rows if r["arm"] == arm}
        lines.append([of[names[0]]["title"], *(f"{of[n]['total']:.2f} / {of[n]['mean']:.2f}" for n in names)])
    return _table(["arm (all layers / mean of layers)", *names], lines)


def _layers(layers: Sequence[Row]) -> list[str]:
    head = ["layer", "m x n x k (groups)", "flips, dense as it comes", "ordered alone", "trained and ordered"]
    lines = [
        [
            r["name"],
            f"{r['m']} x {r['n']} x {r['k']} ({r['groups']})",
            f"{r['flips']:,.0f}",
            f"{r['ordered']:.2f}",
            f"{r['trained']:.2f}",
        ]
        for r in layers
    ]
    return _table(head, lines)


def _energies(rows: Sequence[Row]) -> list[str]:
    head = [
        "arm",
        "code",
        "order",
        "datapath nJ",
        "times less",
        "than dense in the same order",
        "all, nJ",
        "times less",
    ]
    lines = [
        [
            r["title"],
            r["code"],
            r["order"],
            f"{r['datapath_pj'] / 1e3:.1f}",
            _ratio(r, "datapath_ratio"),
            _ratio(r, "datapath_same_order"),
            f"{r['total_pj'] / 1e3:.1f}",
            _ratio(r, "total_ratio"),
        ]
        for r in rows
    ]
    return _table(head, lines)


def _ratio(row: Row, key: str) -> str:
    return _with_half(row[key], row[f"{key}_half"])


def _with_half(value: float, half: Any) -> str:
    return f"{value:.2f}" if half is None else f"{value:.2f} ± {half:.2f}"


def _signed(value: float, half: Any) -> str:
    return f"{value:+.2f}" if half is None else f"{value:+.2f} ± {half:.2f}"
