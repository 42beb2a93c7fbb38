"""Average precision of detected boxes, as COCO defines it (Lin et al. 2014; the rules are those of its published evaluation).

Per class and threshold of the overlap (intersection over union), detections are taken by falling score and matched to the
free box they overlap most; precision is made monotone and read at 101 recalls. Everything is computed over whole arrays:
one step a rank of detection, over all images, classes and thresholds at once. Left out: crowds and masks.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from picojoule.sim.errors import InputError

THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).tolist())
"""The overlaps over which AP is averaged, rounded as COCO's own are; the first is that of AP50."""
EVERY_SIZE = (0.0, 1e10)
_RECALLS = np.linspace(0.0, 1.0, 101)
_EPSILON = float(np.spacing(1))

Floats = NDArray[np.floating]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Detections:
    """What a detector found in n images, up to d each; unused places have label -1.

    `boxes` [n, d, 4] as x0, y0, x1, y1 in pixels, `scores` [n, d], `labels` [n, d] int64.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """Average precision in 0..1, or None where no box counts: mean over classes and thresholds, and at overlap 0.5."""

    ap: float | None
    ap50: float | None


def average_precision(
    found: Detections,
    boxes: Floats,
    labels: NDArray[np.integer],
    *,
    areas: tuple[float, float] = EVERY_SIZE,
    most: int = 100,
) -> Precision:
    """Return average precision against the true boxes [n, g, 4] with labels [n, g] (-1: none).

    Boxes whose area lies outside `areas` (square pixels, ends included) do not count, nor do detections matched to them, nor
    unmatched detections of such an area. Of a class, the `most` best detections in an image count.

    Raises:
        InputError: if shapes do not fit, or a score or a box is not finite.

    """
    _check(found, boxes, labels)
    classes = np.unique(labels[labels >= 0])
    tables = [_curves(found, boxes, labels, int(label), areas, most) for label in classes]
    known = [t for t in tables if t is not None]
    if not known:
        return Precision(ap=None, ap50=None)
    mean = np.stack(known)  # [classes, thresholds, recalls]
    return Precision(ap=float(mean.mean()), ap50=float(mean[:, 0].mean()))


def by_size(
    found: Detections, boxes: Floats, labels: NDArray[np.integer], strata: Mapping[str, tuple[float, float]]
) -> dict[str, float | None]:
    """Return {ap, ap50, ap_<stratum>...}."""
    whole = average_precision(found, boxes, labels)
    parts = {f"ap_{name}": average_precision(found, boxes, labels, areas=areas).ap for name, areas in strata.items()}
    return {"ap50": whole.ap50, "ap": whole.ap, **parts}


def overlaps(a: Floats, b: Floats) -> NDArray[np.float64]:
    """Return intersection over union of boxes [..., d, 4] and [..., g, 4]: [..., d, g]; empty boxes overlap nothing."""
    a, b = a[..., :, None, :].astype(np.float64), b[..., None, :, :].astype(np.float64)
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    shared = (high - low).clip(min=0).prod(-1)
    union = areas_of(a) + areas_of(b) - shared
    found: NDArray[np.float64] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return found


def areas_of(boxes: Floats) -> NDArray[np.float64]:
    """Return areas of boxes [..., 4] in square pixels."""
    area: NDArray[np.float64] = (boxes[..., 2:].astype(np.float64) - boxes[..., :2]).prod(-1)
    return area


def _check(found: Detections, boxes: Floats, labels: NDArray[np.integer]) -> None:
    images = {len(found.boxes), len(found.scores), len(found.labels), len(boxes), len(labels)}
    if len(images) != 1:
        raise InputError(f"average precision: detections and boxes must be of the same images, got {sorted(images)}")
    used, real = found.labels >= 0, labels >= 0
    if not (np.isfinite(found.scores[used]).all() and np.isfinite(found.boxes[used]).all()):
        raise InputError("average precision: a detection's score or box is not finite; did the training diverge?")
    if not np.isfinite(boxes[real]).all():
        raise InputError("average precision: a true box is not finite")


def _first(chosen: NDArray[np.bool_], keys: Floats) -> NDArray[np.intp]:
    """Return indices [n, k] that put the chosen places first, by rising key, k being the most chosen in a row."""
    order = np.lexsort((keys, ~chosen), axis=1)
    return order[:, : max(1, int(chosen.sum(1).max(initial=0)))]


def _curves(
    found: Detections,
    boxes: Floats,
    labels: NDArray[np.integer],
    label: int,
    areas: tuple[float, float],
    most: int,
) -> NDArray[np.float64] | None:
    """Return precision [thresholds, recalls] of one class; None where no box counts."""
    real = labels == label
    area = areas_of(boxes)
    counting = real & (area >= areas[0]) & (area <= areas[1])
    total = int(counting.sum())
    if total == 0:
        return None
    mine = found.labels == label
    ranked = _first(mine, -found.scores)[:, :most]
    use = np.take_along_axis(mine, ranked, 1)
    scores = np.take_along_axis(found.scores, ranked, 1)
    places = np.take_along_axis(found.boxes, ranked[..., None], 1)
    truth = _first(real, ~counting)  # those that count first
    exists, counts = np.take_along_axis(real, truth, 1), np.take_along_axis(counting, truth, 1)
    iou = overlaps(places, np.take_along_axis(boxes, truth[..., None], 1))
    iou[~(use[:, :, None] & exists[:, None])] = -1.0
    hit, ignored = _match(iou, counts)
    own = areas_of(places)
    ignored |= ~hit & ((own < areas[0]) | (own > areas[1]))
    flat = np.flatnonzero(use)
    order = flat[np.argsort(-scores.ravel()[flat], kind="stable")]
    right = (hit & ~ignored).reshape(len(THRESHOLDS), -1)[:, order].cumsum(1)
    wrong = (~hit & ~ignored).reshape(len(THRESHOLDS), -1)[:, order].cumsum(1)
    return _read(right / total, right / (right + wrong + _EPSILON))


def _match(iou: NDArray[np.float64], counts: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Match detections of falling score [n, d] to boxes: which hit a box, which hit one that does not count [thresholds, n, d].

    A detection takes the free box of the largest overlap, among those that count first; of equal ones the last.
    """
    images, ranks, boxes = iou.shape
    least = np.minimum(THRESHOLDS, 1 - 1e-10)[:, None, None]
    taken = np.zeros((len(THRESHOLDS), images, boxes), dtype=bool)
    hit = np.zeros((len(THRESHOLDS), images, ranks), dtype=bool)
    ignored = np.zeros_like(hit)
    for rank in range(ranks):
        able = (iou[:, rank] >= least) & ~taken
        better = able & counts
        able = np.where(better.any(2, keepdims=True), better, able)
        value = np.where(able, iou[:, rank], -2.0)
        best = boxes - 1 - value[:, :, ::-1].argmax(2)
        one = np.arange(boxes) == best[..., None]
        one &= able
        taken |= one
        hit[:, :, rank] = one.any(2)
        ignored[:, :, rank] = (one & ~counts).any(2)
    return hit, ignored


def _read(recall: NDArray[np.float64], precision: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return precision [thresholds, 101] at the fixed recalls, made monotone; zero beyond the largest recall."""
    falling = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    curves = np.zeros((len(recall), len(_RECALLS)))
    for row, (r, p) in enumerate(zip(recall, falling, strict=True)):
        at = np.searchsorted(r, _RECALLS, side="left")
        inside = at < len(r)
        curves[row, inside] = p[at[inside]]
    return curves
