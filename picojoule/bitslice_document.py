"""The tables of the bit-slice study as a person reads them, in Markdown; `docs/bitslice.md` holds those of the whole study."""

from collections.abc import Sequence

import numpy as np

from picojoule.bitslice_points import METHODS
from picojoule.bitslice_pricing import MODELS
from picojoule.bitslice_tables import ACCURACIES, KINDS, OURS, REFERENCE, RIVALS, Row
from picojoule.compress.bitslice_slices import SLICES

_TITLES = {"mlp": "MLP 784-100-10", "cnn": "CNN 16-32"}


def markdown(rows: Sequence[Row]) -> str:
    """Return five tables per network: accuracy, slices and bits, costs of lossless and of reduced ADCs, ours against others."""
    parts = []
    for network in dict.fromkeys(r["network"] for r in rows):
        mine = [r for r in rows if r["network"] == network]
        parts += [f"### {_TITLES.get(network, network)}, {mine[0]['seeds']} seeds", ""]
        parts += [
            *_accuracy_table(mine),
            "",
            *_bits_table(mine),
            "",
            *_cost_table(mine),
            "",
            *_reduced_table(mine),
            "",
            *_rival_table(mine),
            "",
        ]
    return "\n".join(parts)


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *lines)]


def _accuracy_table(rows: Sequence[Row]) -> list[str]:
    head = ["method", "chosen setting", "float %", "8 bit %", "to dense, points", "reduced ADC %", "to dense, points"]
    lines = []
    for r in rows:
        setting = ", ".join(f"{k} {v}" for k, v in r["setting"].items() if k != "penalty") or "-"
        setting += "" if r["qualified"] else " (no trial was accurate enough)"
        drops = [_signed(r["drop_8bit"], r["drop_8bit_half"]), _signed(r["drop_reduced"], r["drop_reduced_half"])]
        means = [_with_half(r[f"test_{n}"], r[f"test_{n}_half"]) for n in ACCURACIES]
        lines.append([r["title"], setting, means[0], means[1], drops[0], means[2], drops[1]])
    return _table(head, lines)


def _bits_table(rows: Sequence[Row]) -> list[str]:
    head = [
        "method",
        "non-zero B3 / B2 / B1 / B0, %",
        "mean %",
        "lossless ADC bits B3 / B2 / B1 / B0",
        "reduced ADC bits",
    ]
    lines = []
    for r in rows:
        shares = [100 * r[f"nonzero_b{k}"] for k in reversed(range(SLICES))]
        cells = [" / ".join(f"{s:.1f}" for s in shares), f"{np.mean(shares):.1f}"]
        bits = [" / ".join(f"{r[f'{kind}_bits_b{k}']:.3g}" for k in reversed(range(SLICES))) for kind in KINDS]
        lines.append([r["title"], *cells, *bits])
    return _table(head, lines)


def _cost_table(rows: Sequence[Row]) -> list[str]:
    head = ["method", "nJ an image"]
    head += [f"{m.value} energy" for m in MODELS] + ["own-width energy", "time", "area", "whole chip energy"]
    lines = []
    for r in rows:
        cells = [r["title"], f"{r['lossless_isaac_sar_nj']:.3g}"]
        cells += [_ratio(r, f"vs_dense_lossless_{m.value}_energy_pj") for m in MODELS]
        cells += [
            _ratio(r, f"vs_dense_lossless_isaac_sar_{q}") for q in ("own_width_energy_pj", "latency_s", "area_um2")
        ]
        cells.append(_ratio(r, "vs_dense_chip_energy_pj"))
        lines.append(cells)
    return _table(head, lines)


def _reduced_table(rows: Sequence[Row]) -> list[str]:
    head = ["method, reduced ADC", "nJ an image", *(f"{m.value} energy" for m in MODELS), "time", "area"]
    lines = []
    for r in rows:
        cells = [r["title"], f"{r['reduced_isaac_sar_nj']:.3g}"]
        cells += [_ratio(r, f"vs_dense_reduced_{m.value}_energy_pj") for m in MODELS]
        cells += [_ratio(r, f"vs_dense_reduced_isaac_sar_{q}") for q in ("latency_s", "area_um2")]
        lines.append(cells)
    return _table(head, lines)


def _rival_table(rows: Sequence[Row]) -> list[str]:
    ours = next((r for r in rows if r["method"] == OURS), None)
    if ours is None:
        return []
    head = [
        "ours against",
        "8 bit, points",
        *(f"{m.value} energy" for m in MODELS),
        "own-width energy",
        "reduced ADC, isaac_sar",
    ]
    lines = []
    for name in (REFERENCE, *RIVALS):
        if ours[f"vs_{name}_8bit_points"] is None:
            continue
        cells = [METHODS[name].title, _signed(ours[f"vs_{name}_8bit_points"], ours[f"vs_{name}_8bit_points_half"])]
        cells += [_ratio(ours, f"vs_{name}_lossless_{m.value}_energy_pj") for m in MODELS]
        cells += [
            _ratio(ours, f"vs_{name}_{k}")
            for k in ("lossless_isaac_sar_own_width_energy_pj", "reduced_isaac_sar_energy_pj")
        ]
        lines.append(cells)
    return _table(head, lines)


def _ratio(row: Row, key: str) -> str:
    value, low, high = row[key], row[f"{key}_low"], row[f"{key}_high"]
    if value is None:
        return "refused"
    return f"{value:.3g}x" if low is None else f"{value:.3g}x ({low:.3g}-{high:.3g})"


def _with_half(mean: float, half: float | None) -> str:
    return f"{mean:.2f}" if half is None else f"{mean:.2f} ± {half:.2f}"


def _signed(mean: float, half: float | None) -> str:
    return f"{mean:+.2f}" if half is None else f"{mean:+.2f} ± {half:.2f}"
