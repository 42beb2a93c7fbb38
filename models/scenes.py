"""Scenes with boxes for small detectors: items of Fashion-MNIST at many scales on textured grey canvases.

Every pixel comes from a photograph of `data.load("fashion-mini")`: items of the training part stand in training scenes
only, likewise validation and test, and a scene's texture is made of patches of other items of the same part. An item's
frame (28 pixels in the source) is resized to 10 to 40 pixels, log-uniform, so that the same thing comes four times larger
in one place than in another: what convolutions that choose their own sampling points should be good at (Dai et al. 2017).

The ten kinds of the source are grouped in five classes, since t-shirts, pullovers, coats and shirts of a dozen pixels
cannot be told apart by people either. Boxes are exact: the tight box of the pixels pasted. Left out: occlusion beyond the
few per cent that `OVERLAP` allows, colour, rotation.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from picojoule.models.data import Dataset, Split, load
from picojoule.sim.errors import InputError, unknown_choice

SIDE = 64
"""Height and width of a scene, pixels."""
CLASS_NAMES = ("top", "trouser", "dress", "shoe", "bag")
MOST_ITEMS = 4
SMALLEST, LARGEST = 10, 40
"""Side of an item's resized frame, pixels."""
OVERLAP = 0.05
"""Two boxes may share this part of the smaller one."""
STRATA = {"small": (0.0, 11.0**2), "medium": (11.0**2, 21.0**2), "large": (21.0**2, float(SIDE) ** 2)}
"""Ranges of box areas, square pixels: about the smallest quarter of the items, the middle half, the largest quarter."""
PARTS = ("train", "val", "test")

_GROUP_OF_KIND = np.array([0, 1, 0, 2, 0, 3, 0, 3, 4, 3])  # the source's ten kinds, in its order
_FAINT = 16  # of 255: fainter pixels are specks around the photographs, and would blow up the boxes
_FRAME = 28
_PATCH = 16
_ATTEMPTS = 16
_CENTER, _SPREAD = 0.4, 0.25  # brightness of scenes, 0..1: fixed, so that all parts are normalised alike


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scenes:
    """Scenes of one part; all arrays read-only.

    `images` [n, 1, 64, 64] float32, normalised; `boxes` [n, 4 items, 4] float32 as x0, y0, x1, y1 in pixels (edges, so a box of
    one pixel is 1 wide), zero where there is no item; `labels` [n, 4 items] int64, -1 where there is none; `counts` [n] int64.
    """

    images: NDArray[np.float32]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    counts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.counts)


def make_scenes(part: str, count: int, *, seed: int = 0) -> Scenes:
    """Return `count` scenes of a part (train, val or test); the same arguments give the same bytes.

    Raises:
        InputError: for an unknown part, or less than one scene.

    """
    if part not in PARTS:
        raise InputError(unknown_choice("part of the scenes", part, PARTS))
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise InputError(f"scenes: count must be a whole number of at least 1, got {count!r}")
    rng = np.random.default_rng([seed, PARTS.index(part)])
    pixels, kinds = _photographs(part)
    canvas = _canvases(pixels, count, rng)
    items, masks, labels = _items(pixels, kinds, count * MOST_ITEMS, rng)
    tight = _tight_boxes(masks)
    wanted = rng.integers(1, MOST_ITEMS + 1, size=count)
    corners, placed = _place(tight.reshape(count, MOST_ITEMS, 4), wanted, rng)
    boxes = np.zeros((count, MOST_ITEMS, 4), dtype=np.float32)
    found = np.full((count, MOST_ITEMS), -1, dtype=np.int64)
    counts = np.zeros(count, dtype=np.int64)
    for slot in range(MOST_ITEMS):
        scene = np.flatnonzero(placed[:, slot])
        item, corner = scene * MOST_ITEMS + slot, corners[scene, slot]
        left, top, right, bottom = tight[item].T
        _paste(canvas, scene, items[item], masks[item], corner[:, 0] - left, corner[:, 1] - top)
        size = np.stack([right - left, bottom - top], axis=1)
        boxes[scene, counts[scene]] = np.concatenate([corner, corner + size], axis=1)
        found[scene, counts[scene]] = labels[item]
        counts[scene] += 1
    images = ((canvas.astype(np.float32) * np.float32(1 / 255) - np.float32(_CENTER)) / np.float32(_SPREAD))[:, None]
    for array in (images, boxes, found, counts):
        array.setflags(write=False)
    return Scenes(images=images, boxes=boxes, labels=found, counts=counts)


@lru_cache(maxsize=1)
def _fashion() -> Dataset:
    return load("fashion-mini")


def _photographs(part: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the part's pixels [n, 28, 28] and its kinds [n]."""
    data = _fashion()
    split: Split = getattr(data, part)
    pixels = np.rint((split.images[:, 0] * data.std[0] + data.mean[0]) * 255).clip(0, 255).astype(np.uint8)
    return pixels, split.labels


def _canvases(pixels: NDArray[np.uint8], count: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return backgrounds [count, 64, 64]: mirrored patches of two photographs each, partly blurred, on a slope of brightness."""
    across = SIDE // _PATCH
    grid = (count, across, across, 1, 1)
    pair = rng.integers(len(pixels), size=(count, 2))
    which = np.take_along_axis(pair, rng.integers(2, size=(count, across * across)), axis=1).reshape(grid)
    steps = np.arange(_PATCH)
    place = rng.integers(_FRAME - _PATCH + 1, size=(2, *grid))
    mirrored = rng.integers(2, size=(2, *grid)).astype(bool)
    rows = place[0] + np.where(mirrored[0], steps[::-1, None], steps[:, None])
    cols = place[1] + np.where(mirrored[1], steps[::-1], steps)
    sharp = pixels[which, rows, cols].transpose(0, 1, 3, 2, 4).reshape(count, SIDE, SIDE).astype(np.float32) / 255
    blurred = _blurred(_blurred(_blurred(sharp)))
    sharpness, contrast, base, tilt_x, tilt_y = rng.uniform(
        [0.0, 0.15, 0.05, -0.2, -0.2], [1.0, 0.6, 0.5, 0.2, 0.2], size=(count, 5)
    ).T.reshape(5, count, 1, 1)
    slope = np.linspace(-1, 1, SIDE)
    texture = blurred + sharpness * (sharp - blurred)
    bright = base + contrast * texture + tilt_x * slope + tilt_y * slope[:, None]
    canvas: NDArray[np.uint8] = np.rint(bright.clip(0, 1) * 255).astype(np.uint8)
    return canvas


def _blurred(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return images [n, h, w] under the binomial filter (1, 2, 1) / 4 along both axes, edges repeated."""
    for axis in (1, 2):
        pad = [(1, 1) if a == axis else (0, 0) for a in range(3)]
        wide = np.pad(images, pad, mode="edge")
        first, middle, last = (np.take(wide, range(k, k + images.shape[axis]), axis=axis) for k in range(3))
        images = (first + 2 * middle + last) / np.float32(4)
    return images


def _items(
    pixels: NDArray[np.uint8], kinds: NDArray[np.int64], count: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.int64]]:
    """Return resized items [count, 40, 40], their masks and classes [count]; classes are equally likely."""
    labels = rng.integers(len(CLASS_NAMES), size=count)
    groups = _GROUP_OF_KIND[kinds]
    chosen = np.empty(count, dtype=np.int64)
    for label in range(len(CLASS_NAMES)):
        here = labels == label
        chosen[here] = rng.choice(np.flatnonzero(groups == label), size=int(here.sum()))
    ratio = (LARGEST + 0.999) / SMALLEST
    sizes = np.floor(SMALLEST * ratio ** rng.uniform(size=count)).astype(np.int64)
    gains = rng.uniform(0.6, 1.1, size=count).astype(np.float32)
    items = np.zeros((count, LARGEST, LARGEST), dtype=np.uint8)
    masks = np.zeros((count, LARGEST, LARGEST), dtype=bool)
    for size in np.unique(sizes).tolist():
        here = np.flatnonzero(sizes == size)
        matrix = _resizing(size)
        resized = matrix @ pixels[chosen[here]].astype(np.float64) @ matrix.T
        masks[here, :size, :size] = resized >= _FAINT
        items[here, :size, :size] = np.rint((resized * gains[here, None, None]).clip(0, 255))
    return items, masks, labels


@lru_cache(maxsize=64)
def _resizing(size: int) -> NDArray[np.float64]:
    """Return the matrix [size, 28] of linear interpolation with a filter as wide as a pixel of the coarser grid."""
    scale = _FRAME / size
    centers = (np.arange(size)[:, None] + 0.5) * scale - 0.5
    weights = (1 - np.abs(np.arange(_FRAME) - centers) / max(scale, 1.0)).clip(min=0)
    matrix: NDArray[np.float64] = weights / weights.sum(1, keepdims=True)
    return matrix


def _tight_boxes(masks: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return x0, y0, x1, y1 [n, 4] of each mask's pixels."""
    ends = []
    for axis in (1, 2):  # columns seen from above give x, rows y
        line: NDArray[np.bool_] = np.asarray(masks.any(axis))
        ends.append((line.argmax(1), line.shape[1] - line[:, ::-1].argmax(1)))
    (x0, x1), (y0, y1) = ends
    return np.stack([x0, y0, x1, y1], axis=1)


def _place(
    tight: NDArray[np.int64], wanted: NDArray[np.int64], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return upper left corners (x, y) [n, items, 2], and which items [n, items] found a free place in a few attempts."""
    count, slots = tight.shape[:2]
    sizes = tight[..., 2:] - tight[..., :2]
    corners = np.zeros((count, slots, 2), dtype=np.int64)
    placed = np.zeros((count, slots), dtype=bool)
    for slot in range(slots):
        size = sizes[:, slot]
        for _ in range(_ATTEMPTS):
            corner = np.floor(rng.uniform(size=(count, 2)) * (SIDE - size + 1)).astype(np.int64)
            high = np.minimum((corner + size)[:, None], corners + sizes)
            low = np.maximum(corner[:, None], corners)
            shared = (high - low).clip(min=0).prod(2)
            smaller = np.minimum(size.prod(1)[:, None], sizes.prod(2))
            free = ~((shared > OVERLAP * smaller) & placed).any(1)
            take = free & ~placed[:, slot] & (slot < wanted)
            corners[take, slot] = corner[take]
            placed[take, slot] = True
    return corners, placed


def _paste(
    canvas: NDArray[np.uint8],
    scene: NDArray[np.intp],
    items: NDArray[np.uint8],
    masks: NDArray[np.bool_],
    left: NDArray[np.int64],
    top: NDArray[np.int64],
) -> None:
    """Write the masked pixels of one item a scene into its canvas; `left` and `top` are where the item's frame starts."""
    which, row, col = np.nonzero(masks)
    canvas[scene[which], top[which] + row, left[which] + col] = items[which, row, col]
