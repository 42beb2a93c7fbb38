"""Which published trends the small detector shows, and which it does not: CoDeNet's Table 1 beside paired differences of ours.

Published differences are of AP50 on VOC in table 1 of Huang et al. 2021 (arXiv:2006.08357), single trainings without an
interval: 3x3 60.8; depthwise 3x3 60.9, 5x5 62.4, deformable 64.4, + bound 63.0, + bound + square 63.1. Ours are of test AP50 in
floating point, on another task, so signs are compared and not sizes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from picojoule.deform_bounds import FAR, NEAR, ap50_of
from picojoule.deform_points import MAIN_WIDTH, Point
from picojoule.deform_tables import Results, Row, difference, with_half

PUBLISHED_AP50: Mapping[str, float] = {
    "conv3": 0.608, "depthwise": 0.609, "conv5": 0.624, "deform_free": 0.644, "deform_bound": 0.630, "deform_square": 0.631,
}  # fmt: skip
EQUAL = 0.01
"""Differences within one point of AP50 count as none; our choice: the least published one with a direction is 1.4 points."""
REPRODUCED, OPPOSITE, DIFFERENT = "reproduced", "not reproduced: the opposite", "not reproduced: they differ"
NONE, UNDECIDED, UNTESTED, MISSING = (
    "not reproduced: no difference", "undecided", "not tested: clip never active", "not trained"
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """A published statement that `variant`, with bound N, lies above or below `other` (`sign` 1, -1) or about there (0)."""

    words: str
    variant: str
    other: str
    sign: int
    bound: float = FAR

    @property
    def published(self) -> float:
        """The published difference in AP50."""
        return PUBLISHED_AP50[self.variant] - PUBLISHED_AP50[self.other]


TRENDS = (
    Trend(words="deformable above depthwise 3x3", variant="deform_free", other="depthwise", sign=1),
    Trend(words="depthwise 5x5 above 3x3", variant="conv5", other="depthwise", sign=1),
    Trend(words="depthwise 5x5 below deformable", variant="conv5", other="deform_free", sign=-1),
    Trend(words="bounding (N = 7) loses", variant="deform_bound", other="deform_free", sign=-1),
    Trend(words="bounding (N = 3) loses", variant="deform_bound", other="deform_free", sign=-1, bound=NEAR),
    Trend(words="square (N = 7) about as bound", variant="deform_square", other="deform_bound", sign=0),
    Trend(words="square (N = 3) about as bound", variant="deform_square", other="deform_bound", sign=0, bound=NEAR),
    Trend(words="square (N = 7) above depthwise 3x3", variant="deform_square", other="depthwise", sign=1),
    Trend(words="ordinary 3x3 about as depthwise", variant="conv3", other="depthwise", sign=0),
)


def trend_rows(results: Results, shares: Mapping[Point, float]) -> list[Row]:
    """Return a row per trend: published and our difference with its interval, seeds, and the verdict of `verdict`."""
    return [_row(trend, results, shares) for trend in TRENDS]


def _row(trend: Trend, results: Results, shares: Mapping[Point, float]) -> Row:
    mine, other = (
        ap50_of(results, v, width=MAIN_WIDTH, bound=trend.bound if v in ("deform_bound", "deform_square") else FAR)
        for v in (trend.variant, trend.other)
    )
    row: Row = {"trend": trend.words, "published": trend.published}
    away = difference(mine, other)
    if away is None:
        return row | {"difference": None, "half": None, "seeds": 0, "verdict": MISSING}
    row |= dict(zip(("difference", "half", "seeds"), away, strict=True))
    cut = [shares.get(Point(variant=trend.variant, bound=trend.bound, seed=s)) for s in sorted(set(mine) & set(other))]
    if (
        trend.variant == "deform_bound"
        and not row["difference"]
        and not row["half"]
        and all(share == 0 for share in cut)
    ):
        return row | {"verdict": UNTESTED}
    return row | {"verdict": verdict(away[0], away[1], trend.sign)}


def verdict(mean: float, half: float | None, sign: int) -> str:
    """Return what an interval says of a trend.

    With a direction: reproduced if the whole interval lies on that side of zero, the opposite if on the other, no difference
    if it lies within one point of zero. About equal: reproduced if all of it lies within one point, different if it reaches
    further and excludes zero. Else, and of one seed, undecided.
    """
    if half is None:
        return UNDECIDED
    low, high = mean - half, mean + half
    equal = low >= -EQUAL and high <= EQUAL
    if sign == 0:
        return REPRODUCED if equal else DIFFERENT if low > 0 or high < 0 else UNDECIDED
    ahead, behind = (low, high) if sign > 0 else (-high, -low)
    return REPRODUCED if ahead > 0 else OPPOSITE if behind < 0 else NONE if equal else UNDECIDED


def trend_markdown(rows: Iterable[Row]) -> str:
    """Return a paragraph that lists the trends by verdict, and the table under it."""
    shown = list(rows)
    said = []
    for name in (REPRODUCED, NONE, DIFFERENT, OPPOSITE, UNDECIDED, UNTESTED, MISSING):
        if found := [_said(r) for r in shown if r["verdict"] == name]:
            said.append(f"{name[0].upper()}{name[1:]}: {'; '.join(found)}.")
    lines = [
        "Of CoDeNet's Table 1 (AP50 on VOC, single trainings), by this detector's test AP50 in floating point. "
        + " ".join(said),
        "",
        "| trend | published | ours | seeds | verdict |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    for r in shown:
        ours = with_half(r["difference"], r["half"], sign=True)
        lines.append(f"| {r['trend']} | {100 * r['published']:+.1f} | {ours} | {r['seeds']} | {r['verdict']} |")
    lines += [
        "",
        "Points of AP50; intervals are 95 % over paired training seeds on the same test scenes, not corrected for there being "
        "several. About equal, and no difference, mean within one point. Where the clip is never active, bound is the free form.",
    ]
    return "\n".join([*lines, ""])


def _said(row: Row) -> str:
    if row["difference"] is None:
        return str(row["trend"])
    return f"{row['trend']} ({with_half(row['difference'], row['half'], sign=True)})"
