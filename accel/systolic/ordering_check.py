"""What orders gain on random weights: a check of the method that needs no network.

Weights: independent Laplace, 512 x 512, symmetric with a step per output channel of its largest magnitude over the largest
code. Zeros: the smallest magnitudes of the matrix.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from picojoule.accel.systolic.ordering import normalized_distance, order_flips, order_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomGain:
    """Flips of random weights as they come and in an order; `gain` is their quotient, distances are flips per bit and step."""

    segment: int
    sparsity: float
    sweeps: int
    distance: float
    ordered_distance: float

    @property
    def gain(self) -> float:
        """How many times fewer bits flip."""
        return self.distance / self.ordered_distance


def random_weights(rows: int, cols: int, *, bits: int = 8, sparsity: float = 0.0, seed: int = 0) -> NDArray[np.int64]:
    """Return quantised Laplace weights [rows, cols] of which the share `sparsity` is zero."""
    values = np.random.default_rng(seed).laplace(size=(rows, cols))
    if sparsity > 0:
        values[np.abs(values) < np.quantile(np.abs(values), sparsity)] = 0.0
    top = np.abs(values).max(axis=1, keepdims=True)
    codes: NDArray[np.int64] = np.rint(values / np.where(top > 0, top, 1.0) * (2 ** (bits - 1) - 1)).astype(np.int64)
    return codes


def random_gain(
    weights: NDArray[np.int64], segment: int, *, bits: int = 8, sparsity: float = 0.0, sweeps: int = 0
) -> RandomGain:
    """Return what an order per segment gains on two's-complement weights; `sparsity` is only noted."""
    order = order_rows(weights, bits=bits, segment=segment, sweeps=sweeps)
    plain = normalized_distance(weights, bits=bits)
    left = order_flips(weights, order, bits=bits, segment=segment) / max(1, order_flips(weights, bits=bits))
    return RandomGain(segment=segment, sparsity=sparsity, sweeps=sweeps, distance=plain, ordered_distance=plain * left)


def random_weight_table(
    *,
    size: int = 512,
    segments: tuple[int, ...] = (1, 4, 8, 16, 32, 64, 512),
    sparse: tuple[float, ...] = (0.8, 0.95),
    sweeps: int = 0,
    seed: int = 0,
) -> tuple[RandomGain, ...]:
    """Return the gains of greedy orders (or improved ones) by segment width, and at width 8 by sparsity."""
    dense = random_weights(size, size, seed=seed)
    rows = [random_gain(dense, min(width, size), sweeps=sweeps) for width in segments]
    for share in sparse:
        rows.append(
            random_gain(random_weights(size, size, sparsity=share, seed=seed), 8, sparsity=share, sweeps=sweeps)
        )
    return tuple(rows)
