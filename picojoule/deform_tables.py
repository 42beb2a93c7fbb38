"""Tables and the figure of the detector's trainings: means over paired seeds with 95 % intervals, and what each variant costs."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import t as student

from picojoule.deform_study import MAIN_BOUND, MAIN_WIDTH, QUANTIZED, ROUNDED_BITS, Point
from picojoule.models.centre_net import BOUNDED_VARIANTS, VARIANTS, WORDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = dict[str, Any]
Results = Mapping[Point, Mapping[str, Any]]
Prices = Mapping[Point, Mapping[str, Any]]

REFERENCE = "depthwise"
LEVEL = 0.95
_METRICS = ("ap50", "ap", "ap_small", "ap_medium", "ap_large")
_PRICES = ("latency_ms", "accelerator_ms", "host_ms", "random_latency_ms")
_RATES = ("hit_rate_1m", "random_hit_rate_1m", "hit_rate_map", "random_hit_rate_map")


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return mean and half-width of its 95 % interval by Student's t; the half-width of a single value is NaN."""
    sample = np.asarray(values, dtype=np.float64)
    if len(sample) < 2:
        return float(sample.mean()), math.nan
    half = student.ppf((1 + LEVEL) / 2, len(sample) - 1) * sample.std(ddof=1) / math.sqrt(len(sample))
    return float(sample.mean()), float(half)


def result_rows(results: Results) -> list[Row]:
    """Return a row per trained point: test and validation metrics."""
    rows = []
    for point, found in sorted(results.items(), key=lambda item: _order(item[0])):
        row: Row = {"variant": point.variant, "width": point.width, "bound": _bound(point), "seed": point.seed}
        row |= {f"test_{name}": found["test"][name] for name in _METRICS}
        row |= {f"val_{name}": found["val"][name] for name in _METRICS}
        row |= {key: found[key] for key in ("parameters", "kept_epoch", "arithmetic")}
        rows.append(row)
    return rows


def variant_rows(results: Results, prices: Prices, rounded: Results) -> list[Row]:
    """Return a row per variant at full width and the published bound: means over seeds, differences, costs (means over seeds)."""
    chosen = {p: f for p, f in results.items() if (p.width, p.bound) == (MAIN_WIDTH, MAIN_BOUND)}
    by_seed: dict[str, dict[int, Mapping[str, Any]]] = {
        v: {p.seed: f for p, f in chosen.items() if p.variant == v} for v in VARIANTS
    }
    rows = []
    for variant in (v for v in VARIANTS if by_seed[v]):
        mine, reference = by_seed[variant], by_seed[REFERENCE]
        row: Row = {"variant": variant, "words": WORDS[variant], "seeds": len(mine)}
        row["parameters"] = next(iter(mine.values()))["parameters"]
        for metric in _METRICS:
            values = [f["test"][metric] for f in mine.values() if f["test"][metric] is not None]
            row[metric], half = interval(values) if values else (None, math.nan)
            if metric in ("ap50", "ap"):
                row[f"{metric}_half"] = _known(half)
        row["val_ap50"] = interval([f["val"]["ap50"] for f in mine.values()])[0]
        paired = sorted(set(mine) & set(reference))
        if paired and variant != REFERENCE:
            for metric in ("ap50", "ap"):
                away = [mine[s]["test"][metric] - reference[s]["test"][metric] for s in paired]
                mean, half = interval(away)
                row |= {f"{metric}_difference": mean, f"{metric}_difference_half": _known(half)}
        integers = [rounded[p] for p in chosen if p.variant == variant and p in rounded]
        for bits in ROUNDED_BITS:
            values = [f[f"w{bits}a8"]["test"]["ap50"] for f in integers]
            row[f"ap50_w{bits}a8"] = float(np.mean(values)) if values else None
        costs = [prices[p] for p in chosen if p.variant == variant and p in prices]
        for key in (*_PRICES, *_RATES, "mean_abs_offset", "share_moved"):
            values = [c[key] for c in costs if key in c]
            row[key] = float(np.mean(values)) if values else None
        rows.append(row)
    return rows


def markdown(rows: Iterable[Row]) -> str:
    """Return the variants' table as people read it: AP in percent."""
    lines = [
        "| operator in the slots | seeds | test AP50, % | against depthwise | AP, % | small / medium / large | "
        "AP50 rounded to W8A8 / W4A8 | latency, ms | on the engine, ms | hit rate, real / random offsets |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for r in rows:
        sizes = " / ".join(_percent(r[f"ap_{name}"]) for name in ("small", "medium", "large"))
        difference = _with_half(r.get("ap50_difference"), r.get("ap50_difference_half"), sign=True)
        rates = f"{_percent(r['hit_rate_map'])} / {_percent(r['random_hit_rate_map'])}"
        rounded = " / ".join(_percent(r[f"ap50_w{b}a8"]) for b in ROUNDED_BITS if r[f"ap50_w{b}a8"] is not None)
        cells = [
            r["words"], str(r["seeds"]), _with_half(r["ap50"], r["ap50_half"]), difference,
            _with_half(r["ap"], r["ap_half"]), sizes,
            rounded, _ms(r["latency_ms"]), _ms(r["accelerator_ms"]),
            rates if r["hit_rate_map"] is not None else "",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "Means over seeds with 95 % intervals (Student's t); differences are paired by seed. Accuracies are of floating point, "
        "that of W4A8 of integers after fine-tuning; rounded ones are the floating-point networks in the engine's integers "
        "(whole offsets too) without fine-tuning. All latencies are of 4-bit weights and 8-bit activations on "
        "`ultra96-codenet`, with the offsets of 16 validation scenes. Hit rates: of a cache as large as the map (16 KiB), if "
        "all sampling points were read through it.",
    ]
    return "\n".join([*lines, ""])


def grid_rows(results: Results) -> list[Row]:
    """Return a row per (variant, width, bound) for a co-design search; the bound of a variant that has none is blank.

    `accuracy` is the mean validation AP50. Two seeds say little about their own spread, so the intervals take the spread of
    seeds pooled over all points.
    """
    groups: dict[tuple[str, float, float | None], list[Mapping[str, Any]]] = {}
    for point, found in sorted(results.items(), key=lambda item: _order(item[0])):
        groups.setdefault((point.variant, point.width, _bound(point)), []).append(found)
    half = {part: _pooled([[f[part]["ap50"] for f in g] for g in groups.values()]) for part in ("val", "test")}
    rows = []
    for (variant, width, bound), trained in groups.items():
        row: Row = {"network.variant": variant, "network.width": width, "network.bound": bound}
        row |= {"trained_weight_bits": 4 if variant == QUANTIZED else 32, "metric": "val AP50"}
        for part, name, stem in (("val", "accuracy", "accuracy"), ("test", "accuracy_test", "test")):
            mean = float(np.mean([f[part]["ap50"] for f in trained]))
            row[name] = mean
            if (away := half[part](len(trained))) is not None:
                row |= {f"{stem}_low": max(0.0, mean - away), f"{stem}_high": min(1.0, mean + away)}
        rows.append(row | {"seeds": len(trained)})
    return rows


def bits_rows(rounded: Results, results: Results) -> list[Row]:
    """Return a row per (variant, width, bound, weight bits), as `grid_rows`: floating-point networks rounded without fine-tuning.

    Networks fine-tuned at 4 bits stand there too, with no bits: wider weights would hold theirs as well.
    """
    rows = []
    for bits in ROUNDED_BITS:
        for row in grid_rows({p: f[f"w{bits}a8"] for p, f in rounded.items()}):
            rows.append(row | {"network.weight_bits": bits})
    rows += [row for row in grid_rows(results) if row["network.variant"] == QUANTIZED]
    return rows


def _pooled(groups: Sequence[Sequence[float]]) -> Callable[[int], float | None]:
    """Return the half-width of a mean's interval as a function of how many seeds it has; None where no group has two."""
    freedom = sum(len(g) - 1 for g in groups)
    if freedom < 1:
        return lambda seeds: None
    spread = math.sqrt(sum(float(np.square(np.asarray(g) - np.mean(g)).sum()) for g in groups) / freedom)
    factor = float(student.ppf((1 + LEVEL) / 2, freedom)) * spread
    return lambda seeds: factor / math.sqrt(seeds)


def plot_front(rows: Sequence[Row]) -> "Axes":
    """Draw test AP50 with its interval against simulated latency, a mark per variant, steps along the front.

    Marks of (nearly) equal latency stand side by side, a few points apart on the paper.
    """
    from matplotlib.transforms import ScaledTranslation

    from picojoule.fronts import non_dominated
    from picojoule.sim.report_plots import new_axes

    axes = new_axes(8, 5)
    shown = [r for r in rows if r["latency_ms"] is not None]
    for i, r in enumerate(shown):
        half = 100 * (r["ap50_half"] or 0.0)
        axes.update_datalim([(r["latency_ms"], 100 * r["ap50"] + sign * half) for sign in (-1, 1)])
        near = [k for k, s in enumerate(shown) if abs(s["latency_ms"] - r["latency_ms"]) < 0.03 * r["latency_ms"]]
        equal = sorted(near, key=lambda k: float(shown[k]["latency_ms"]))
        aside_inches = (equal.index(i) - (len(equal) - 1) / 2) * 7 / 72
        moved = ScaledTranslation(aside_inches, 0, axes.get_figure(root=True).dpi_scale_trans)  # type: ignore[union-attr]
        axes.errorbar(
            r["latency_ms"],
            100 * r["ap50"],
            yerr=half or None,
            fmt="osD^vPX*"[i % 8],
            color=f"C{i}",
            capsize=3,
            markersize=8,
            transform=axes.transData + moved,
            label=f"{r['words']}, n = {r['seeds']}",
        )
    if shown:
        costs = np.array([[r["latency_ms"], -r["ap50"]] for r in shown])
        best = costs[non_dominated(costs)]
        best = best[np.argsort(best[:, 0])]
        axes.step(
            best[:, 0], -100 * best[:, 1], where="post", color="0.5", linewidth=1, zorder=0, label="front of the means"
        )
    axes.margins(0.08)
    axes.autoscale_view()
    axes.set_xlabel("simulated latency on ultra96-codenet (W4A8), ms; equal ones side by side")
    axes.set_ylabel("test AP50, % (bars: 95 % over n seeds)")
    axes.set_title("Deformable forms in a small detector: accuracy against latency")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0)
    return axes


def _order(point: Point) -> tuple[float, int, float, int]:
    return (-point.width, VARIANTS.index(point.variant), -point.bound, point.seed)


def _bound(point: Point) -> float | None:
    return point.bound if point.variant in BOUNDED_VARIANTS else None


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _with_half(value: float | None, half: float | None, *, sign: bool = False) -> str:
    if value is None:
        return ""
    shown = f"{100 * value:+.1f}" if sign else f"{100 * value:.1f}"
    return shown if half is None else f"{shown} ± {100 * half:.1f}"


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
