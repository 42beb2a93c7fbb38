"""Compiled loops of deformable convolution: bilinear samples as columns, fused depthwise, and their gradients.

One sample of a batch at a time, channels last, so that the innermost loops run over contiguous channels. Legend of the flat
arrays: x [(H*W + 1) * C], whose last pixel is zero and stands for everything outside; offset [G * K * 2, P]; mask [G * K, P],
empty where there is none; columns [P, K, C]. P = output pixels, K = taps, G = offset groups, C = channels.
`window` = (H, W, C, G, kh, kw, Ow, stride y, x, padding y, x, dilation y, x). At whole positions one pixel is read, not four.
This file imports nothing of ours: numba's cache does not see edits elsewhere. Its NumPy twin is in tests/sim.
"""

from typing import Any, TypeVar

import numpy as np
from numba import njit

F = TypeVar("F")


def _compiled(function: F) -> F:
    """Compile on first use; sums may be reordered (vector instructions need it), NaN and infinity keep their meaning."""
    made: F = njit(cache=True, error_model="numpy", fastmath={"reassoc", "contract"})(function)
    return made


@_compiled
def _place(y: Any, z: Any, height: int, width: int, zero: Any) -> Any:
    """Return the four pixels around (y, z), row by row, and the fractions below and right of the first.

    A pixel outside is number H * W. With a NaN all four are, and a fraction is NaN, so that the sample is NaN.
    """
    none = height * width
    if y < -1 or y > height or z < -1 or z > width:
        return none, none, none, none, zero, zero
    if np.isnan(y) or np.isnan(z):
        return none, none, none, none, y - y, z - z
    y0, z0 = np.floor(y), np.floor(z)
    row, col = int(y0), int(z0)
    at = row * width + col
    up, down, left, right = 0 <= row < height, row + 1 < height, 0 <= col < width, col + 1 < width
    return (
        at if up and left else none,
        at + 1 if up and right else none,
        at + width if down and left else none,
        at + width + 1 if down and right else none,
        y - y0,
        z - z0,
    )


@_compiled
def _position(offset: Any, entry: int, tap: int, p: int, window: Any) -> Any:
    """Return where tap `tap` of output pixel p samples, in the precision of the offsets."""
    kw, ow = window[5], window[6]
    y = (p // ow) * window[7] - window[9] + (tap // kw) * window[11]
    z = (p % ow) * window[8] - window[10] + (tap % kw) * window[12]
    return offset[2 * entry, p] + offset.dtype.type(y), offset[2 * entry + 1, p] + offset.dtype.type(z)


@_compiled
def sample(x: Any, offset: Any, mask: Any, window: Any, columns: Any) -> None:
    """Write the sampled and modulated inputs into columns [P, K, C]."""
    height, width, channels, groups = window[0], window[1], window[2], window[3]
    taps, share = window[4] * window[5], channels // groups
    zero, one = x.dtype.type(0), x.dtype.type(1)
    for p in range(offset.shape[1]):
        for entry in range(groups * taps):
            group, tap = entry // taps, entry % taps
            y, z = _position(offset, entry, tap, p, window)
            a, b, c, d, fy, fz = _place(y, z, height, width, zero)
            scale = mask[entry, p] if mask.size else one
            into = columns[p, tap, group * share : (group + 1) * share]
            a, b, c, d = a * channels, b * channels, c * channels, d * channels
            first = group * share
            if fy == 0 and fz == 0:
                for i in range(share):
                    into[i] = scale * x[a + first + i]
                continue
            wa, wb, wc, wd = (one - fy) * (one - fz), (one - fy) * fz, fy * (one - fz), fy * fz
            for i in range(share):
                j = first + i
                into[i] = scale * (wa * x[a + j] + wb * x[b + j] + wc * x[c + j] + wd * x[d + j])


@_compiled
def depthwise(x: Any, weight: Any, offset: Any, mask: Any, window: Any, out: Any) -> None:
    """Add to out [P, C] the depthwise convolution with weight [K, C] of the sampled inputs."""
    height, width, channels, groups = window[0], window[1], window[2], window[3]
    taps, share = window[4] * window[5], channels // groups
    zero, one = x.dtype.type(0), x.dtype.type(1)
    for p in range(offset.shape[1]):
        for entry in range(groups * taps):
            group, tap = entry // taps, entry % taps
            y, z = _position(offset, entry, tap, p, window)
            a, b, c, d, fy, fz = _place(y, z, height, width, zero)
            scale = mask[entry, p] if mask.size else one
            first = group * share
            into, w = out[p, first : first + share], weight[tap, first : first + share]
            a, b, c, d = a * channels, b * channels, c * channels, d * channels
            if fy == 0 and fz == 0:
                for i in range(share):
                    into[i] += w[i] * (scale * x[a + first + i])
                continue
            wa, wb, wc, wd = (one - fy) * (one - fz), (one - fy) * fz, fy * (one - fz), fy * fz
            for i in range(share):
                j = first + i
                into[i] += w[i] * (scale * (wa * x[a + j] + wb * x[b + j] + wc * x[c + j] + wd * x[d + j]))


@_compiled
def _spread(into: Any, at: int, factor: Any, values: Any) -> None:
    """Add factor * values to the channels from `at` on."""
    for i in range(values.shape[0]):
        into[at + i] += factor * values[i]


@_compiled
def _dot(x: Any, at: int, values: Any) -> Any:
    """Return the sum over channels of x (from `at` on) times values."""
    total = x.dtype.type(0)
    for i in range(values.shape[0]):
        total += x[at + i] * values[i]
    return total


@_compiled
def _slope(x: Any, row: int, col: int, down: int, window: Any, first: int, g: Any) -> Any:
    """Return half the difference of the pixels after and before (row, col), downwards or to the right, times g over channels.

    That is the mean of the bilinear surface's slopes on either side of a whole position. Pixels outside are zero.
    """
    height, width, channels = window[0], window[1], window[2]
    total = x.dtype.type(0)
    for step in (1, -1):
        r, c = row + step * down, col + step * (1 - down)
        if 0 <= r < height and 0 <= c < width:
            total += x.dtype.type(step * 0.5) * _dot(x, (r * width + c) * channels + first, g)
    return total


@_compiled
def gradients(
    x: Any, offset: Any, mask: Any, window: Any, g_columns: Any, wanted: Any, g_x: Any, g_offset: Any, g_mask: Any
) -> None:
    """Add to the gradients of x, and write those of offset and mask, given that of the columns [P, K, C].

    `wanted` says which of x, (offset or mask) is asked for. At a whole position the bilinear surface has a kink; the gradient
    of an offset is then the mean of its slopes on either side: half the difference of the pixels after and before.
    """
    height, width, channels, groups = window[0], window[1], window[2], window[3]
    taps, share = window[4] * window[5], channels // groups
    none = height * width
    zero, one = x.dtype.type(0), x.dtype.type(1)
    for p in range(offset.shape[1]):
        for entry in range(groups * taps):
            group, tap = entry // taps, entry % taps
            y, z = _position(offset, entry, tap, p, window)
            a, b, c, d, fy, fz = _place(y, z, height, width, zero)
            scale = mask[entry, p] if mask.size else one
            first = group * share
            g = g_columns[p, tap, first : first + share]
            wa, wb, wc, wd = (one - fy) * (one - fz), (one - fy) * fz, fy * (one - fz), fy * fz
            if wanted[0]:
                for pixel, factor in ((a, wa), (b, wb), (c, wc), (d, wd)):
                    if pixel != none and factor != 0:
                        _spread(g_x, pixel * channels + first, scale * factor, g)
            if wanted[1]:
                ga = _dot(x, a * channels + first, g) if a != none else zero
                gb = _dot(x, b * channels + first, g) if b != none else zero
                gc = _dot(x, c * channels + first, g) if c != none else zero
                gd = _dot(x, d * channels + first, g) if d != none else zero
                g_y = (one - fz) * (gc - ga) + fz * (gd - gb)
                g_z = (one - fy) * (gb - ga) + fy * (gd - gc)
                if (fy == 0 or fz == 0) and -1 <= y <= height and -1 <= z <= width:
                    row, col = int(np.floor(y)), int(np.floor(z))
                    if fy == 0:
                        g_y = (one - fz) * _slope(x, row, col, 1, window, first, g)
                        if fz != 0:
                            g_y += fz * _slope(x, row, col + 1, 1, window, first, g)
                    if fz == 0:
                        g_z = (one - fy) * _slope(x, row, col, 0, window, first, g)
                        if fy != 0:
                            g_z += fy * _slope(x, row + 1, col, 0, window, first, g)
                g_offset[2 * entry, p] = scale * g_y
                g_offset[2 * entry + 1, p] = scale * g_z
                if mask.size:
                    g_mask[entry, p] = wa * ga + wb * gb + wc * gc + wd * gd
