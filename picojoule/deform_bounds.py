"""What bounding costs: N = 3 against N = 7 against free offsets, with how often the bound cuts at all.

On maps of 16 x 16 cells a bound of 7 may never act; then the bounded form is the free one, byte for byte, and says nothing of
what bounding costs. Accuracies are of each variant's own arithmetic (float, or W4A8 after fine-tuning).
"""

from collections.abc import Iterable, Mapping

import numpy as np

from picojoule.deform_points import GRID_BOUNDS, MAIN_BOUND, QUANTIZED, Point
from picojoule.deform_tables import BySeed, Results, Row, clipped, difference, with_half
from picojoule.models.centre_net import BOUNDED_VARIANTS, VARIANTS, WORDS

NEAR, FAR = GRID_BOUNDS
FREE = "deform_free"
_PAIRS = (("near_far", "near", "far"), ("near_free", "near", "free"), ("far_free", "far", "free"))


def ap50_of(results: Results, variant: str, *, width: float, bound: float = MAIN_BOUND) -> dict[int, float]:
    """Return test AP50 in a variant's own arithmetic by seed, of one width and bound."""
    asked = (variant, width, bound)
    return {p.seed: f["test"]["ap50"] for p, f in results.items() if (p.variant, p.width, p.bound) == asked}


def bound_rows(results: Results, shares: Mapping[Point, float]) -> list[Row]:
    """Return a row per (bounded variant, width) trained with both bounds.

    `near`, `far` and `free` are mean test AP50 over the row's seeds (those that have all of them); `near_far`, `near_free`,
    `far_free` the first less the second, paired by seed, with `_half`. A fine-tuned variant has no free form in its bits.
    `near_clipped` and `far_clipped` are mean shares of clipped offsets, of points in `shares`.
    """
    rows = []
    for width in sorted({p.width for p in results}, reverse=True):
        for variant in (v for v in VARIANTS if v in BOUNDED_VARIANTS):
            found: dict[str, BySeed] = {
                "near": ap50_of(results, variant, width=width, bound=NEAR),
                "far": ap50_of(results, variant, width=width, bound=FAR),
            }
            if variant not in QUANTIZED:
                found["free"] = ap50_of(results, FREE, width=width)
            seeds = set.intersection(*(set(values) for values in found.values()))
            if not seeds:
                continue
            row: Row = {"variant": variant, "words": WORDS[variant], "width": width, "seeds": len(seeds)}
            same = {name: {s: v for s, v in values.items() if s in seeds} for name, values in found.items()}
            for name in ("near", "far", "free"):
                row[name] = float(np.mean(list(same[name].values()))) if name in same else None
            for name, one, other in _PAIRS:
                away = difference(same[one], same[other]) if other in same else None
                row[name], row[f"{name}_half"] = away[:2] if away else (None, None)
            for name, bound in (("near", NEAR), ("far", FAR)):
                points = [Point(variant=variant, width=width, bound=bound, seed=s) for s in sorted(seeds)]
                known = [shares[p] for p in points if p in shares]
                row[f"{name}_clipped"] = float(np.mean(known)) if known else None
            rows.append(row)
    return rows


def bound_markdown(rows: Iterable[Row]) -> str:
    """Return the table as people read it."""
    near, far = f"N = {NEAR:g}", f"N = {FAR:g}"
    lines = [
        f"| form | width | seeds | {near} | {far} | free | {near} less {far} | {near} less free | {far} less free | "
        f"clipped, {near} | clipped, {far} |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for r in rows:
        means = [with_half(r[name], None) for name in ("near", "far", "free")]
        away = [with_half(r[name], r[f"{name}_half"], sign=True) for name, _, _ in _PAIRS]
        cut = [clipped(r[f"{name}_clipped"]) for name in ("near", "far")]
        head = [r["words"], f"{r['width']:g}", str(r["seeds"])]
        lines.append(f"| {' | '.join([*head, *means, *away, *cut])} |")
    lines += [
        "",
        "Test AP50 in %, differences paired by seed with 95 % intervals (Student's t; of two seeds alone, half an interval is "
        "6.4 times the distance between their differences, so it decides little). Floating point, or W4A8 after fine-tuning "
        "where the name says so. Clipped: the share of computed offsets (d of a square) outside the bound, over 100 validation "
        "scenes. `deformable, bound` whose clip was never active in training either is the free one, byte for byte.",
    ]
    return "\n".join([*lines, ""])
