"""Counts gate outputs that switch in an 8 x 8 signed array multiplier: where the constants of the toggle law come from.

Baugh-Wooley partial products (AND, complemented where one operand gives its sign bit) summed column by column with full adders of
five gates (two XOR, two AND, one OR) and half adders of two. Zero delay: no glitches. Every output weighs the same.
"""

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
BITS = 8


def gate_outputs(a: Ints, b: Ints) -> tuple[list[Ints], Ints]:
    """Return every gate's output bit for signed a and b [N], and the product."""
    nodes: list[Ints] = []
    columns: list[list[Ints]] = [[] for _ in range(2 * BITS)]
    for i in range(BITS):
        for j in range(BITS):
            bit = (a >> i) & (b >> j) & 1
            bit = bit ^ int((i == BITS - 1) != (j == BITS - 1))
            nodes.append(bit)
            columns[i + j].append(bit)
    one = np.ones_like(a)
    columns[BITS].append(one)
    columns[2 * BITS - 1].append(one)
    product = np.zeros_like(a)
    for place, column in enumerate(columns):
        while len(column) > 1:
            x, y = column.pop(0), column.pop(0)
            half, both = x ^ y, x & y
            if column:
                z = column.pop(0)
                total, through = half ^ z, half & z
                carry = both | through
                nodes += [half, total, both, through, carry]
            else:
                total, carry = half, both
                nodes += [total, carry]
            column.append(total)
            if place + 1 < 2 * BITS:
                columns[place + 1].append(carry)
        product += column[0] << place
    return nodes, np.where(product >> (2 * BITS - 1) & 1, product - (1 << (2 * BITS)), product)


def flipped(values: Ints, rate: float, rng: np.random.Generator) -> Ints:
    """Return signed values with each bit flipped with probability `rate`."""
    mask = np.zeros_like(values)
    for i in range(BITS):
        mask |= (rng.random(values.shape) < rate).astype(np.int64) << i
    word = (values & 255) ^ mask
    return np.where(word > 127, word - 256, word)


def activity(rate_a: float, rate_b: float, count: int, rng: np.random.Generator) -> float:
    """Return the mean number of gate outputs that switch from one random pair to one flipped at these rates."""
    a, b = rng.integers(-128, 128, (2, count))
    before, _ = gate_outputs(a, b)
    after, _ = gate_outputs(flipped(a, rate_a, rng), flipped(b, rate_b, rng))
    return float(sum((x != y).mean() for x, y in zip(before, after, strict=True)))


def fitted_law(count: int, seed: int = 0) -> tuple[float, float, float, float, float]:
    """Return slope, flattest and steepest chord, rms and worst error of energy = 1 - slope * (1 - flips per bit of both)."""
    rng = np.random.default_rng(seed)
    rates = [i / 10 for i in range(6)]
    points = [(x, y) for x in rates for y in rates if x + y > 0]
    energy = np.array([activity(x, y, count, rng) for x, y in points])
    energy /= energy[points.index((0.5, 0.5))]
    missing = 1.0 - np.array([x + y for x, y in points])
    slope = float((missing * (1 - energy)).sum() / (missing**2).sum())
    error = 1 - slope * missing - energy
    chords = (1 - energy)[missing > 1e-9] / missing[missing > 1e-9]
    return (
        slope,
        float(chords.min()),
        float(chords.max()),
        float(np.sqrt((error**2).mean())),
        float(np.abs(error).max()),
    )
