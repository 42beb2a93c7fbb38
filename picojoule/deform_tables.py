"""The table of the detector's trainings: means over paired seeds with 95 % intervals, and what each variant costs.

Three accuracies stand side by side: of floating point, which samples at fractions where a form makes them, and of the engine's
own integers (whole sampling points) with 8- and 4-bit weights. Differences are taken in equal bits and paired by seed; those of
a fine-tuned variant are against the fine-tuned depthwise one, which was trained as long.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import t as student

from picojoule.deform_points import MAIN_BOUND, MAIN_WIDTH, QUANTIZED, Point
from picojoule.deform_study import ROUNDED_BITS
from picojoule.models.centre_net import BOUNDED_VARIANTS, VARIANTS, WORDS

Row = dict[str, Any]
Results = Mapping[Point, Mapping[str, Any]]
Prices = Mapping[Point, Mapping[str, Any]]
BySeed = Mapping[int, float]

REFERENCE = "depthwise"
LEVEL = 0.95
BITS = ("float", *(f"w{bits}a8" for bits in ROUNDED_BITS))
_METRICS = ("ap50", "ap", "ap_small", "ap_medium", "ap_large")
_PRICES = ("latency_ms", "accelerator_ms", "host_ms", "random_latency_ms")
_RATES = ("hit_rate_1m", "random_hit_rate_1m", "hit_rate_map", "random_hit_rate_map")
_OFFSETS = ("mean_abs_offset", "share_moved", "clipped_share")


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return mean and half-width of its 95 % interval by Student's t; the half-width of a single value is NaN."""
    sample = np.asarray(values, dtype=np.float64)
    if len(sample) < 2:
        return float(sample.mean()), math.nan
    half = student.ppf((1 + LEVEL) / 2, len(sample) - 1) * sample.std(ddof=1) / math.sqrt(len(sample))
    return float(sample.mean()), float(half)


def difference(mine: BySeed, other: BySeed) -> tuple[float, float | None, int] | None:
    """Return mean, half-width (None of one seed) and number of the differences of the seeds both have; None without any."""
    seeds = sorted(set(mine) & set(other))
    if not seeds:
        return None
    mean, half = interval([mine[s] - other[s] for s in seeds])
    return mean, _known(half), len(seeds)


def result_rows(results: Results) -> list[Row]:
    """Return a row per trained point: test and validation metrics."""
    rows = []
    for point, found in sorted(results.items(), key=lambda item: order(item[0])):
        row: Row = {"variant": point.variant, "width": point.width, "bound": bound_of(point), "seed": point.seed}
        row |= {f"test_{name}": found["test"][name] for name in _METRICS}
        row |= {f"val_{name}": found["val"][name] for name in _METRICS}
        row |= {key: found[key] for key in ("parameters", "kept_epoch", "arithmetic")}
        rows.append(row)
    return rows


def ap50_by_seed(results: Results, rounded: Results, variant: str, bits: str) -> dict[int, float]:
    """Return test AP50 of a variant by seed in one of `BITS`, as far as it was measured; of points all alike but for seeds.

    A fine-tuned variant has only its own bits.
    """
    own = "w4a8" if variant in QUANTIZED else "float"
    if bits == own:
        return {p.seed: f["test"]["ap50"] for p, f in results.items() if p.variant == variant}
    return {p.seed: f[bits]["test"]["ap50"] for p, f in rounded.items() if p.variant == variant and p in results}


def variant_rows(results: Results, prices: Prices, rounded: Results) -> list[Row]:
    """Return a row per variant at full width and the published bound: means over seeds, differences, costs (means over seeds).

    `float_ap50`, `w8a8_ap50` and `w4a8_ap50` are of the test part, each with `_half` and, against the depthwise variant in the
    same bits, `_difference` and `_difference_half`; `float_seeds` and so on say of how many seeds. `ap...` are of the variant's
    own arithmetic.
    """
    chosen = {p: f for p, f in results.items() if (p.width, p.bound) == (MAIN_WIDTH, MAIN_BOUND)}
    rows = []
    for variant in VARIANTS:
        mine = {p: f for p, f in chosen.items() if p.variant == variant}
        if not mine:
            continue
        row: Row = {"variant": variant, "words": WORDS[variant], "seeds": len(mine), "epochs": _epochs(mine, results)}
        row["parameters"] = next(iter(mine.values()))["parameters"]
        for bits in BITS:
            row |= _accuracy(chosen, rounded, variant, bits)
        for metric in _METRICS[1:]:
            values = [f["test"][metric] for f in mine.values() if f["test"][metric] is not None]
            row[metric] = float(np.mean(values)) if values else None
        row["val_ap50"] = float(np.mean([f["val"]["ap50"] for f in mine.values()]))
        costs = [prices[p] for p in mine if p in prices]
        for key in (*_PRICES, *_RATES, *_OFFSETS):
            values = [c[key] for c in costs if key in c]
            row[key] = float(np.mean(values)) if values else None
        rows.append(row)
    return rows


def _epochs(mine: Results, results: Results) -> str:
    """Return how many epochs a variant was trained: "4", or "4 + 2" of a fine-tuned one."""
    point, found = next(iter(mine.items()))
    own = str(len(found["history"]))
    if point.base is None:
        return own
    base = results.get(point.base)
    return f"{len(base['history']) if base else '?'} + {own}"


def _accuracy(results: Results, rounded: Results, variant: str, bits: str) -> Row:
    mine = ap50_by_seed(results, rounded, variant, bits)
    row: Row = dict.fromkeys((f"{bits}_ap50{end}" for end in ("", "_half", "_difference", "_difference_half")), None)
    row[f"{bits}_seeds"] = len(mine)
    if not mine:
        return row
    mean, half = interval(list(mine.values()))
    row |= {f"{bits}_ap50": mean, f"{bits}_ap50_half": _known(half)}
    reference = next((q for q, base in QUANTIZED.items() if base == REFERENCE and variant in QUANTIZED), REFERENCE)
    away = difference(mine, ap50_by_seed(results, rounded, reference, bits))
    if away is not None and variant != reference:
        row |= {f"{bits}_ap50_difference": away[0], f"{bits}_ap50_difference_half": away[1]}
    return row


def markdown(rows: Iterable[Row]) -> str:
    """Return the variants' table as people read it: AP in percent."""
    head = (
        "operator in the slots", "seeds", "epochs", "AP50, float", "AP50, W8A8", "AP50, W4A8", "against depthwise: float",
        "W8A8", "W4A8", "AP", "small / medium / large", "latency, ms", "on the engine, ms", "clipped offsets",
        "hit rate, real / random offsets",
    )  # fmt: skip
    lines = [_line(head), _line(["---", *["---:"] * (len(head) - 1)])]
    for r in rows:
        values = [with_half(r[f"{b}_ap50"], r[f"{b}_ap50_half"]) for b in BITS]
        away = [with_half(r[f"{b}_ap50_difference"], r[f"{b}_ap50_difference_half"], sign=True) for b in BITS]
        sizes = " / ".join(_percent(r[f"ap_{name}"]) for name in ("small", "medium", "large"))
        rates = f"{_percent(r['hit_rate_map'])} / {_percent(r['random_hit_rate_map'])}"
        lines.append(
            _line(
                [r["words"], str(r["seeds"]), r["epochs"], *values, *away, _percent(r["ap"]), sizes, _ms(r["latency_ms"]),
                 _ms(r["accelerator_ms"]), clipped(r["clipped_share"]), rates if r["hit_rate_map"] is not None else ""]
            )
        )  # fmt: skip
    return "\n".join([*lines, "", _NOTES, ""])


_NOTES = (
    "AP of test scenes in %: means over seeds with 95 % intervals (Student's t) over training seeds. All seeds share the same "
    "test scenes, so no interval holds what other scenes would change. Differences are paired by seed and taken in the same "
    "bits. W8A8 and W4A8 are the engine's integers with whole sampling points: in rows named W4A8 after fine-tuning (epochs: "
    "training + fine-tuning), which are compared with depthwise fine-tuned alike; in other rows the floating-point network "
    "rounded, without fine-tuning. AP and its sizes are of the row's own arithmetic. Floating-point forms but `square + round` "
    "sample at fractions of pixels, which the engine cannot. All latencies are of W4A8 on `ultra96-codenet`, with the offsets "
    "of 16 validation scenes. Clipped: the share of computed offsets (d of a square) that the bound cuts, over 100 validation "
    "scenes. Hit rates: of a cache as large as the map (16 KiB), if all sampling points were read through it."
)


def order(point: Point) -> tuple[float, int, float, int]:
    """Return the place of a point in tables: wide before narrow, then as variants stand, then far bounds before near ones."""
    return (-point.width, VARIANTS.index(point.variant), -point.bound, point.seed)


def bound_of(point: Point) -> float | None:
    """Return a point's bound, or None where it means nothing."""
    return point.bound if point.variant in BOUNDED_VARIANTS else None


def with_half(value: float | None, half: float | None, *, sign: bool = False) -> str:
    """Return a share as percent with its interval, such as `63.0 ± 1.2`; empty for None."""
    if value is None:
        return ""
    shown = f"{100 * value:+.1f}" if sign else f"{100 * value:.1f}"
    return shown if half is None else f"{shown} ± {100 * half:.1f}"


def clipped(share: float | None) -> str:
    """Return the share of clipped offsets in words; empty for None."""
    if share is None:
        return ""
    return f"{100 * share:.2g} %" if share else "clip never active"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
