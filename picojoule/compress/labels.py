"""Labels of axis indices and which of them are equal: a union-find whose label 0 is the frozen one."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]
Axes = tuple[Labels, ...]


def frozen_axes(shape: Sequence[int]) -> Axes:
    """Return frozen labels for every index of a shape."""
    return tuple(np.zeros(size, dtype=np.int64) for size in shape)


class LabelSet:
    """Labels handed out so far, and the classes they fall into."""

    def __init__(self) -> None:
        self.parent = [0]

    def fresh(self, size: int) -> Labels:
        """Return new labels; an axis of one index cannot lose it and is frozen."""
        if size == 1:
            return np.zeros(1, dtype=np.int64)
        start = len(self.parent)
        self.parent.extend(range(start, start + size))
        return np.arange(start, start + size, dtype=np.int64)

    def find(self, label: int) -> int:
        """Return the representative of a label, shortening the path to it."""
        root = label
        while self.parent[root] != root:
            root = self.parent[root]
        while self.parent[label] != root:
            self.parent[label], label = root, self.parent[label]
        return root

    def join(self, first: Labels, second: Labels) -> None:
        """Make labels equal, index by index; the lower one represents both, so frozen wins."""
        if first is second:
            return
        for a, b in zip(first.tolist(), second.tolist(), strict=True):
            p, q = self.find(a), self.find(b)
            if p != q:
                self.parent[max(p, q)] = min(p, q)

    def freeze(self, *axes: Labels) -> None:
        """Make labels frozen."""
        for labels in axes:
            self.join(labels, np.zeros_like(labels))

    def is_frozen(self, labels: Labels) -> bool:
        """Whether all labels are frozen as far as is known."""
        return all(self.find(label) == 0 for label in labels.tolist())
