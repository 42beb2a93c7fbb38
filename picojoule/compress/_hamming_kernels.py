"""The cheapest way through a port's weights: compiled, self-contained (numba does not see edits of other files).

A port is a trellis: one stage per word it sees, one state per bit pattern. A state costs its squared distance from the weight
that training wants, a move costs the bits that flip. The least cost over all 2^B predecessors needs no table of 2^B x 2^B
distances: Hamming distance adds up over bits, so B passes over pairs that differ in one bit find it exactly.
The twin of this is in `tests/compress/test_hamming.py`.
"""

import numba
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Words = npt.NDArray[np.uint8]


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def cheapest_words(
    wanted: Floats, curvature: Floats, flip_price: Floats, values: Floats, zero_price: float, start: int
) -> Words:
    """Return patterns [stages, ports] that minimise distortion + flips, each port on its own (Viterbi's algorithm).

    wanted, curvature, flip_price: float32 [stages, ports]; a stage of curvature < 0 does not exist on that port (it holds).
    values: float32 [2^B], NaN for a pattern that is never sent. zero_price: added to every word that is not zero, in units of
    curvature. start: pattern in the register before the first word. Cost: sum of curvature * ((value - wanted)^2 + zero_price)
    + flip_price * flips.
    """
    stages, ports = wanted.shape
    states = len(values)
    found = np.zeros((stages, ports), dtype=np.uint8)
    came = np.zeros((stages, states), dtype=np.uint8)
    least = np.empty(states, dtype=np.float32)
    origin = np.empty(states, dtype=np.uint8)
    for p in range(ports):
        for s in range(states):
            least[s] = np.float32(np.inf)
        least[start] = np.float32(0.0)
        last = -1
        for t in range(stages):
            h = curvature[t, p]
            if h < 0:
                continue
            for s in range(states):
                origin[s] = s
            price, bit = flip_price[t, p], 1
            while bit < states:
                for high in range(0, states, 2 * bit):
                    for s in range(high, high + bit):
                        a, b = least[s], least[s + bit]
                        if b + price < a:
                            least[s] = b + price
                            origin[s] = origin[s + bit]
                        elif a + price < b:
                            least[s + bit] = a + price
                            origin[s + bit] = origin[s]
                bit *= 2
            x = wanted[t, p]
            for s in range(states):
                came[t, s] = origin[s]
                v = values[s]
                if np.isnan(v):
                    least[s] = np.float32(np.inf)
                else:
                    cost = (v - x) * (v - x)
                    if v != 0:
                        cost += zero_price
                    least[s] += h * cost
            last = t
        if last < 0:
            continue
        s = 0
        for i in range(states):
            if least[i] < least[s]:
                s = i
        for t in range(last, -1, -1):
            if curvature[t, p] >= 0:
                found[t, p] = s
                s = came[t, s]
    return found
