"""The figure of the Hamming study: accuracy against flips, and the ratio of every layer."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from picojoule.hamming_tables import GOAL, REFERENCE, Measured, Row, total_ratio, trained_variant

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLORS = {
    "dense": "#222222", "ordered": "#d62728", "as_is": "#ff7f0e", "six_bits": "#9467bd", "four_bits": "#8c6d31",
    "ordered_sign": "#2ca02c", "os": "#1f77b4", "bits": "#7f7f7f", "ordered_four": "#e377c2",
}  # fmt: skip


def plot_study(measured: Measured, rows: Sequence[Row], layers: Sequence[Row]) -> "Figure":
    """Return two panels: test accuracy over how many times fewer bits flip (a dot a seed), and that ratio layer by layer."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import ScalarFormatter

    figure = Figure(figsize=(12.4, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.25))
    dense = {p.seed: m for p, m in measured.items() if p.arm == REFERENCE}
    titles = {r["arm"]: r["title"] for r in rows}
    for arm, title in titles.items():
        mine = [(p.seed, m) for p, m in measured.items() if p.arm == arm and p.seed in dense]
        x = [total_ratio(dense[s], m, trained_variant(arm)) for s, m in mine]
        left.plot(
            x, [100 * m["test"]["hardware"] for _, m in mine], "o", color=_COLORS[arm], label=title, alpha=0.8, ms=6
        )
    if dense:
        floor = 100 * sum(m["test"]["hardware"] for m in dense.values()) / len(dense) - 1
        left.axhline(floor, color="#999999", lw=0.8, ls="--")
        left.annotate("a point below dense", (0.99, floor), xycoords=("axes fraction", "data"), ha="right", va="bottom",
                      fontsize=8, color="#666666")  # fmt: skip
    left.axvline(GOAL, color="#999999", lw=0.8, ls=":")
    left.set_xlabel("weight-port flips: times fewer than dense, channels as they come (all layers)")
    left.set_ylabel("test accuracy, % (8-bit integers)")
    left.legend(frameon=False, fontsize=8)
    left.grid(alpha=0.25)
    places = range(len(layers))
    right.bar([i - 0.2 for i in places], [r["ordered"] for r in layers], 0.4, label="ordered alone", color="#aaaaaa")
    right.bar(
        [i + 0.2 for i in places], [r["trained"] for r in layers], 0.4, label="trained and ordered", color="#d62728"
    )
    right.axhline(GOAL, color="#999999", lw=0.8, ls=":", label=f"{GOAL}: mean of Li et al.")
    right.set_yscale("log")
    right.yaxis.set_major_formatter(ScalarFormatter())
    names = [r["name"].removeprefix("features.").replace(".conv.", ".") for r in layers]
    right.set_xticks(list(places), [f"{n}{' dw' if r['groups'] > 1 else ''}" for n, r in zip(names, layers, strict=True)],
                     rotation=60, ha="right", fontsize=8)  # fmt: skip
    right.set_ylabel("times fewer flips, layer by layer")
    right.legend(frameon=False, fontsize=8)
    return figure
