"""The figure of the bit-slice study: accuracy against the energy of converters, every trial and every final point."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from picojoule.bitslice_points import ALLOWED_DROP, METHODS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = dict[str, Any]
_COLORS = {
    "dense": "#222222", "pruned": "#8c6d31", "l1": "#1f77b4", "bl1": "#2ca02c", "ours": "#d62728",
    "ours_fixed_s": "#ff9896", "bl1_free_s": "#98df8a", "fewer_bits": "#9467bd",
}  # fmt: skip
_TITLES = {"mlp": "MLP 784-100-10", "cnn": "CNN 16-32"}


def plot_study(rows: Sequence[Row]) -> "Figure":
    """Return one column per network: above, the trials that chose the settings; below, the final points on the test part.

    `rows`: those of `bitslice_tables.result_rows`.
    """
    from matplotlib.figure import Figure

    networks = list(dict.fromkeys(r["network"] for r in rows))
    figure = Figure(figsize=(5.6 * len(networks), 7.6), layout="constrained")
    axes = figure.subplots(2, len(networks), squeeze=False)
    for column, network in enumerate(networks):
        mine = [r for r in rows if r["network"] == network]
        _trials(axes[0][column], [r for r in mine if r["kind"] == "trial"])
        axes[0][column].set_title(f"{_TITLES.get(network, network)}: six trials a method, chosen ringed")
        _finals(axes[1][column], [r for r in mine if r["kind"] == "final" and r["test_reduced"] is not None])
        axes[1][column].set_title("final points: dots lossless, triangles reduced ADC")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return figure


def _trials(ax: "Axes", rows: Sequence[Row]) -> None:
    dense = next((r["val_accuracy"] for r in rows if r["method"] == "dense"), None)
    for name, method in METHODS.items():
        mine = sorted((r for r in rows if r["method"] == name), key=lambda r: float(r["adc_energy_nj"]))
        x, y = [r["adc_energy_nj"] for r in mine], [100 * r["val_accuracy"] for r in mine]
        ax.plot(x, y, "o-", color=_COLORS[name], label=method.title, ms=4, lw=1, alpha=0.9)
        ringed = [r for r in mine if r["chosen"]]
        ax.plot(
            [r["adc_energy_nj"] for r in ringed], [100 * r["val_accuracy"] for r in ringed], "o", ms=10, mfc="none",
            mec=_COLORS[name], mew=1.4,
        )  # fmt: skip
    if dense is not None:
        ax.axhline(100 * (dense - ALLOWED_DROP), color="#999999", lw=0.8, ls="--")
        ax.set_ylim(100 * dense - 4, 100 * dense + 0.7)
    _axis(ax, "validation accuracy, %")


def _finals(ax: "Axes", rows: Sequence[Row]) -> None:
    for name in METHODS:
        mine = [r for r in rows if r["method"] == name]
        for kind, accuracy, marker in (("lossless", "test_8bit", "o"), ("reduced", "test_reduced", "^")):
            x, y = [r[f"{kind}_isaac_sar_nj"] for r in mine], [100 * r[accuracy] for r in mine]
            ax.plot(x, y, marker, color=_COLORS[name], ms=5, alpha=0.75, mec="white", mew=0.4)
    _axis(ax, "test accuracy, %")


def _axis(ax: "Axes", what: str) -> None:
    from matplotlib.ticker import NullFormatter, ScalarFormatter

    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.xaxis.set_minor_formatter(NullFormatter())
    low, high = ax.get_xlim()
    ticks = [t for t in (2, 3, 5, 7, 10, 15, 20, 30, 40, 50, 70, 100, 150, 200, 300, 500) if low <= t <= high]
    ax.set_xticks(ticks)
    ax.set_xlabel("ADC energy an image, nJ (isaac_sar)")
    ax.set_ylabel(what)
    ax.grid(alpha=0.25)
