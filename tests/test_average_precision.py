"""Average precision against pycocotools, and rules that can be checked by eye."""

import contextlib
import io

import numpy as np
import pytest
from numpy.testing import assert_allclose
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from picojoule.average_precision import Detections, average_precision, by_size, overlaps
from picojoule.sim.errors import InputError


def random_case(rng, images=12, classes=3, side=40.0):
    """Detections scattered around the true boxes, with equal scores, duplicates and misses."""
    boxes = np.zeros((images, 4, 4), dtype=np.float32)
    labels = rng.integers(-1, classes, size=(images, 4))
    boxes[..., :2] = rng.uniform(0, side, size=(images, 4, 2))
    boxes[..., 2:] = boxes[..., :2] + rng.uniform(2, side, size=(images, 4, 2))
    twins = rng.uniform(size=images) < 0.6  # a box close to another, of one class: a detection may fit either
    boxes[twins, 1] = boxes[twins, 0] + rng.normal(0, 2, size=(int(twins.sum()), 4)).astype(np.float32)
    boxes[twins, 1, 2:] = np.maximum(boxes[twins, 1, 2:], boxes[twins, 1, :2] + 0.5)
    labels[twins, 1] = labels[twins, 0]
    source = rng.integers(4, size=(images, 9))
    found = np.take_along_axis(boxes, source[..., None], 1) + rng.normal(0, 2, size=(images, 9, 4)).astype(np.float32)
    found[..., 2:] = np.maximum(found[..., 2:], found[..., :2] + 0.5)
    kinds = np.take_along_axis(labels, source, 1)
    kinds = np.where(rng.uniform(size=kinds.shape) < 0.2, rng.integers(-1, classes, size=kinds.shape), kinds)
    scores = (rng.integers(20, size=kinds.shape) / 20).astype(np.float32)
    return Detections(boxes=found.astype(np.float32), scores=scores, labels=kinds.astype(np.int64)), boxes, labels


def coco(found, boxes, labels, areas, most=100):
    """(AP, AP50) of pycocotools."""

    def rectangle(box):
        x0, y0, x1, y1 = (float(v) for v in box)
        return [x0, y0, x1 - x0, y1 - y0]

    truth, results = [], []
    for i in range(len(boxes)):
        for box, label in zip(boxes[i], labels[i], strict=True):
            if label >= 0:
                x, y, w, h = rectangle(box)
                truth.append({"id": len(truth) + 1, "image_id": i, "category_id": int(label), "bbox": [x, y, w, h],
                              "area": w * h, "iscrowd": 0})  # fmt: skip
        for box, score, label in zip(found.boxes[i], found.scores[i], found.labels[i], strict=True):
            if label >= 0:
                results.append(
                    {"image_id": i, "category_id": int(label), "bbox": rectangle(box), "score": float(score)}
                )
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO()
        known.dataset = {
            "images": [{"id": i} for i in range(len(boxes))],
            "annotations": truth,
            "categories": [{"id": c} for c in range(3)],
            "info": {},
        }
        known.createIndex()
        judge = COCOeval(known, known.loadRes(results), "bbox")
        judge.params.areaRng, judge.params.areaRngLbl, judge.params.maxDets = [list(areas)], ["asked"], [most]
        judge.evaluate()
        judge.accumulate()
    precision = judge.eval["precision"][..., 0, 0]  # [thresholds, recalls, classes]

    def mean(part):
        return float(part[part > -1].mean()) if (part > -1).any() else None

    return mean(precision), mean(precision[0])


@pytest.mark.parametrize("seed", range(40))
def test_equals_pycocotools(seed):
    rng = np.random.default_rng(seed)
    case = random_case(rng)
    areas = [(0.0, 1e10), (0.0, 200.0), (200.0, 600.0), (600.0, 1e10)][seed % 4]
    most = (100, 100, 2)[seed % 3]
    ours = average_precision(*case, areas=areas, most=most)
    theirs = coco(*case, areas, most)
    assert (ours.ap is None) == (theirs[0] is None)
    if ours.ap is not None:
        assert_allclose([ours.ap, ours.ap50], theirs, atol=1e-6)


def whole(boxes):
    """Boxes on whole pixels, no side empty."""
    made = np.rint(boxes)
    made[..., 2:] = np.maximum(made[..., 2:], made[..., :2] + 1)
    return made.astype(np.float32)


@pytest.mark.parametrize("seed", range(10))
def test_equals_pycocotools_on_whole_pixels(seed):
    """Whole boxes overlap in simple fractions, many of them exactly a threshold."""
    found, boxes, labels = random_case(np.random.default_rng(100 + seed), images=40, side=12.0)
    found = Detections(boxes=whole(found.boxes), scores=found.scores, labels=found.labels)
    ours = average_precision(found, whole(boxes), labels)
    assert_allclose([ours.ap, ours.ap50], coco(found, whole(boxes), labels, (0.0, 1e10)), atol=1e-9)


@pytest.mark.parametrize("twentieths", range(10, 20))
def test_an_overlap_of_exactly_a_threshold_hits_as_in_pycocotools(twentieths):
    """A box of 20 x 20 pixels and one of `twentieths` of its rows."""
    boxes, labels = np.array([[[0, 0, 20, 20]]], dtype=np.float32), np.array([[0]])
    found = Detections(
        boxes=np.array([[[0, 0, 20, twentieths]]], dtype=np.float32),
        scores=np.ones((1, 1), dtype=np.float32),
        labels=labels,
    )
    ours = average_precision(found, boxes, labels)
    assert_allclose([ours.ap, ours.ap50], coco(found, boxes, labels, (0.0, 1e10)), atol=1e-9)


def test_true_boxes_as_detections_are_perfect():
    _, boxes, labels = random_case(np.random.default_rng(0))
    found = Detections(boxes=boxes, scores=np.ones(labels.shape, dtype=np.float32), labels=labels)
    result = average_precision(found, boxes, labels)
    assert result.ap == pytest.approx(1.0)
    assert result.ap50 == pytest.approx(1.0)


def test_one_hit_behind_one_miss_by_hand():
    boxes, labels = np.array([[[0, 0, 10, 10]]], dtype=np.float32), np.array([[1]])
    found = Detections(
        boxes=np.array([[[20, 20, 30, 30], [0, 0, 10, 6]]], dtype=np.float32),
        scores=np.array([[0.9, 0.8]], dtype=np.float32),
        labels=np.array([[1, 1]]),
    )
    result = average_precision(found, boxes, labels)
    assert result.ap50 == pytest.approx(0.5)  # precision 1/2 at every recall
    assert result.ap == pytest.approx(0.5 * 3 / 10)  # overlap 0.6: hit at 0.5, 0.55 and 0.6 only


def test_without_boxes_there_is_no_precision():
    empty = Detections(
        boxes=np.zeros((2, 0, 4), dtype=np.float32),
        scores=np.zeros((2, 0), dtype=np.float32),
        labels=np.zeros((2, 0), dtype=np.int64),
    )
    none = np.full((2, 1), -1)
    assert average_precision(empty, np.zeros((2, 1, 4), dtype=np.float32), none).ap is None
    some = by_size(empty, np.array([[[0, 0, 5, 5]]] * 2, dtype=np.float32), none + 1, {"large": (100.0, 1e9)})
    assert some == {"ap50": 0.0, "ap": 0.0, "ap_large": None}


def test_empty_boxes_overlap_nothing():
    zero = np.zeros((1, 4))
    assert overlaps(zero, zero).tolist() == [[0.0]]


def test_bad_input_is_named():
    found, boxes, labels = random_case(np.random.default_rng(1))
    with pytest.raises(InputError, match=r"same images, got \[11, 12\]"):
        average_precision(found, boxes[:-1], labels)
    worse = Detections(boxes=found.boxes, scores=found.scores * np.nan, labels=found.labels)
    with pytest.raises(InputError, match="a detection's score or box is not finite; did the training diverge"):
        average_precision(worse, boxes, labels)
