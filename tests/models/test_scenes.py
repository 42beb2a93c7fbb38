"""Scenes: exact boxes, split apart, seeded, with items of all scales."""

import hashlib

import numpy as np
import pytest

from picojoule.models import scenes
from picojoule.models.scenes import LARGEST, MOST_ITEMS, SIDE, STRATA, make_scenes
from picojoule.sim.errors import InputError


def bytes_of(made):
    return hashlib.sha256(
        b"".join(a.tobytes() for a in (made.images, made.boxes, made.labels, made.counts))
    ).hexdigest()


@pytest.fixture(scope="module")
def some():
    return make_scenes("train", 400, seed=3)


def test_same_seed_gives_the_same_bytes_and_others_do_not(some):
    assert bytes_of(some) == bytes_of(make_scenes("train", 400, seed=3))
    assert len({bytes_of(make_scenes(part, 20, seed=s)) for part in ("train", "val", "test") for s in (0, 1)}) == 6


def test_arrays_are_what_the_docstring_says(some):
    assert some.images.shape == (400, 1, SIDE, SIDE)
    assert some.images.dtype == np.float32
    assert (some.labels >= 0).sum(1).tolist() == some.counts.tolist()
    assert some.counts.min() >= 1
    assert some.counts.max() == MOST_ITEMS
    assert abs(float(some.images.mean())) < 0.5
    assert 0.5 < float(some.images.std()) < 1.5
    real = np.arange(MOST_ITEMS) < some.counts[:, None]
    assert ((some.labels >= 0) == real).all()
    assert (some.boxes[~real] == 0).all()
    x0, y0, x1, y1 = some.boxes[real].T
    assert (x0 >= 0).all() and (y0 >= 0).all() and (x1 <= SIDE).all() and (y1 <= SIDE).all()
    assert (x1 > x0).all() and (y1 > y0).all()


def test_boxes_are_tight(monkeypatch):
    """On black canvases with items made white, every edge of a lone item's box touches a white pixel, and none lies outside."""
    monkeypatch.setattr(scenes, "_canvases", lambda pixels, count, rng: np.zeros((count, SIDE, SIDE), dtype=np.uint8))
    whole = scenes._items
    monkeypatch.setattr(
        scenes, "_items", lambda *a: [np.full_like(k, 255) if i == 0 else k for i, k in enumerate(whole(*a))]
    )
    made = make_scenes("val", 200, seed=0)
    white = made.images[:, 0] > made.images.min()
    for image, box, count in zip(white, made.boxes, made.counts, strict=True):
        if count == 1:
            rows, cols = np.nonzero(image)
            assert box[0].tolist() == [cols.min(), rows.min(), cols.max() + 1, rows.max() + 1]


def test_items_come_at_all_scales_and_fill_the_strata(some):
    real = some.labels >= 0
    area = (some.boxes[..., 2:] - some.boxes[..., :2]).prod(-1)[real]
    shares = [((area >= low) & (area <= high)).mean() for low, high in STRATA.values()]
    assert all(0.15 < s < 0.6 for s in shares)
    side = (some.boxes[..., 2:] - some.boxes[..., :2]).max(-1)[real]
    assert side.min() <= 10
    assert LARGEST - 3 <= side.max() <= LARGEST
    assert set(np.unique(some.labels[real])) == set(range(5))


def test_items_hardly_overlap(some):
    for boxes, count in zip(some.boxes, some.counts, strict=True):
        for i in range(count):
            for j in range(i):
                low, high = np.maximum(boxes[i, :2], boxes[j, :2]), np.minimum(boxes[i, 2:], boxes[j, 2:])
                smaller = min((b[2:] - b[:2]).prod() for b in (boxes[i], boxes[j]))
                assert (high - low).clip(min=0).prod() <= scenes.OVERLAP * smaller


def test_parts_take_items_of_their_own_part(monkeypatch):
    asked = []
    whole = scenes._photographs
    monkeypatch.setattr(scenes, "_photographs", lambda part: asked.append(part) or whole(part))
    make_scenes("test", 2)
    assert asked == ["test"]
    train, test = whole("train")[0], whole("test")[0]
    assert not {p.tobytes() for p in train} & {p.tobytes() for p in test[:200]}


def test_resizing_keeps_brightness():
    for size in (10, 28, 40):
        assert np.allclose(scenes._resizing(size).sum(1), 1)
    assert np.allclose(scenes._resizing(28), np.eye(28))


def test_bad_arguments_are_named():
    with pytest.raises(InputError, match="unknown part of the scenes 'tset'"):
        make_scenes("tset", 3)
    with pytest.raises(InputError, match="count must be a whole number of at least 1, got 0"):
        make_scenes("test", 0)
