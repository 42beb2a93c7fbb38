"""Integer grids: values that are whole numbers of steps, one step for a tensor or one per output channel.

The largest magnitude of a tensor (channel) is some code c times the step, so all c up to 255 are tried and the smallest that
fits is taken (codes up to 32767 are found from the smallest magnitude, per tensor only). A random value lies within the
tolerance t of a multiple of the step, both relative to the largest magnitude, with probability 2 c t. A grid is believed when
all values together fit by chance with a probability below 2^-40, tries included, and when their distinct magnitudes alone are
too regular for arbitrary levels (below 2^-10).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from picojoule.sim.formats import FormatKind, NumberFormat, integer_format, parse_format

Floats = NDArray[np.floating[Any]]

EXACT = 2.0**-21
"""Tolerance for values that were computed in float32: a few of its roundings."""
MOST_CODES = 255
"""9 bits: 8-bit two's complement with its -128, or 8 bits around a zero point."""
_FINE_CODES = 32767
_CONVINCING_BITS = 40.0
_UNIFORM_BITS = 10.0
_SAMPLE_ROWS, _SAMPLE_COLUMNS = 8, 32
_USUAL_BITS = (2, 4, 8)  # for these it is worth a remark that a symmetric range needs one bit more
_CHUNK = 1 << 18
_ROUNDS = 12


def blocks(rows: Floats) -> Iterator[tuple[slice, Floats]]:
    """Return a matrix piece by piece, with the rows of each piece."""
    height, width = max(1, _CHUNK // max(1, rows.shape[1])), min(rows.shape[1], _CHUNK)
    for r in range(0, rows.shape[0], height):
        for c in range(0, rows.shape[1], width):
            yield slice(r, min(r + height, rows.shape[0])), rows[r : r + height, c : c + width]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A grid: its format, steps (one, or one per row) and how many different codes are used; bits with the steps stored.

    `code_bits` hold all codes from the lowest to the highest: one fewer than a symmetric format where the range is lopsided.
    """

    format: NumberFormat
    step: tuple[float, ...]
    used: int
    evidence: str
    storage_bits: int
    code_bits: int


def find_grid(rows: Floats, sample: Floats, tolerance: float) -> Grid | None:
    """Return the grid that stores the tensor in the fewest bits, its steps (32 bits each) included."""
    whole = _tensor_grid(rows, sample, tolerance)
    if rows.shape[0] == 1 or rows.shape[1] == 1:
        return whole
    channels = _channel_grid(rows, tolerance, None if whole is None else whole.format.bits)
    return min((g for g in (whole, channels) if g), key=lambda g: g.storage_bits, default=None)


def _tensor_grid(rows: Floats, sample: Floats, tolerance: float) -> Grid | None:
    flat = rows.reshape(1, -1)
    magnitudes = np.abs(sample)[None, :]
    if _steps(magnitudes, magnitudes.max(1), tolerance, MOST_CODES) is not None:
        steps = _steps(flat, _tops(flat), tolerance, MOST_CODES)
        return None if steps is None else _measured(flat, steps, tolerance, MOST_CODES)
    if tolerance != EXACT:
        return None
    wide = magnitudes.astype(np.float64)
    low = wide.min(1)
    if wide.max() > low[0] * _FINE_CODES or _steps(wide, low, tolerance, MOST_CODES) is None:
        return None
    flat = flat.astype(np.float64)
    low = np.abs(flat[flat != 0]).min(keepdims=True)
    steps = _steps(flat, low, tolerance, MOST_CODES) if _tops(flat)[0] <= low[0] * _FINE_CODES else None
    return None if steps is None else _measured(flat, steps, tolerance, _FINE_CODES)


def _channel_grid(rows: Floats, tolerance: float, known_bits: int | None) -> Grid | None:
    """Return the grid with a step per row; a few rows, and a few values of all rows, are tried first.

    None if a few rows show that it saves nothing over a grid of `known_bits` for the whole tensor.
    """
    columns = np.unique(np.linspace(0, rows.shape[1] - 1, _SAMPLE_COLUMNS).astype(np.int64))
    some = np.unique(np.linspace(0, rows.shape[0] - 1, _SAMPLE_ROWS).astype(np.int64))
    few = rows[some]
    tried = _steps(few[:, columns], _tops(few), tolerance, MOST_CODES)
    if tried is None:
        return None
    if known_bits is not None:
        codes = int(np.rint(_tops(few) / tried).max())
        if codes.bit_length() + (codes > 1) >= known_bits:
            return None
    tops = _tops(rows)
    if _steps(rows[:, columns], tops, tolerance, MOST_CODES) is None:
        return None
    steps = _steps(rows, tops, tolerance, MOST_CODES)
    return None if steps is None else _measured(rows, steps, tolerance, MOST_CODES)


def _tops(rows: Floats) -> Floats:
    """Return the largest magnitude of each row."""
    tops: Floats = np.maximum(rows.max(1), -rows.min(1))
    return tops


def _steps(rows: Floats, anchor: Floats, tolerance: float, most: int) -> Floats | None:
    """Return for each row the largest of anchor / 1, 2, ... most that all its values are multiples of; None if a row has none.

    A few witnesses per row decide first; the worst misfit of the whole row joins them until there is none.
    """
    top = _tops(rows)
    slack, finest = tolerance * np.maximum(top, anchor), top / (_FINE_CODES + 0.5)
    anchor = np.where(anchor > 0, anchor, 1).astype(rows.dtype)  # a row of zeros fits anything
    witnesses = rows[:, np.linspace(0, rows.shape[1] - 1, min(4, rows.shape[1])).astype(np.int64)]
    for _ in range(_ROUNDS):
        steps = _largest_step(witnesses, anchor, slack, finest, most)
        if np.isnan(steps).any():
            return None
        worst = _worst_misfit(rows, steps, slack)
        if not worst.any():
            return steps
        witnesses = np.concatenate([witnesses, worst[:, None]], axis=1)
    return None


def _largest_step(witnesses: Floats, anchor: Floats, slack: Floats, finest: Floats, most: int) -> Floats:
    """Return the largest fitting step of each row that is not below its `finest`, NaN where none fits."""
    divisors = np.arange(1, most + 1, dtype=anchor.dtype)
    steps = np.full(len(anchor), np.nan, dtype=anchor.dtype)
    height = max(1, (1 << 20) // (most * witnesses.shape[1]))
    for r in range(0, len(anchor), height):
        part = slice(r, r + height)
        tried = anchor[part, None] / divisors
        fits = tried >= finest[part, None]
        for column in witnesses[part].T:
            fits &= _misfit(column[:, None], tried) <= slack[part, None]
        first = fits.argmax(1)
        steps[part] = np.where(fits.any(1), anchor[part] / divisors[first], np.nan)
    return steps


def _misfit(values: Floats, steps: Floats) -> Floats:
    """Return the distance from the nearest multiple of the step."""
    nearest = values / steps
    np.rint(nearest, out=nearest)
    nearest *= steps
    np.subtract(values, nearest, out=nearest)
    return np.abs(nearest, out=nearest)


def _worst_misfit(rows: Floats, steps: Floats, slack: Floats) -> Floats:
    """Return the value of each row that fits worst, 0 where all fit."""
    worst, values = np.zeros_like(steps), np.zeros_like(steps)
    for part, block in blocks(rows):
        distance = _misfit(block, steps[part, None])
        place = distance.argmax(1)[:, None]
        far = np.take_along_axis(distance, place, 1)[:, 0]
        worse = far > np.maximum(worst[part], slack[part])
        values[part] = np.where(worse, np.take_along_axis(block, place, 1)[:, 0], values[part])
        worst[part] = np.where(worse, far, worst[part])
    return values


def _measured(rows: Floats, steps: Floats, tolerance: float, most: int) -> Grid | None:
    """Return the grid with its least-squares steps, or None where chance explains it."""
    width = 2 * most + 1
    used = np.zeros((len(steps), width), dtype=np.bool_)
    nonzeros, vanished, products, squares = (np.zeros(len(steps)) for _ in range(4))
    for part, block in blocks(rows):
        codes = np.rint(block / steps[part, None])
        numbers = np.arange(part.start, part.stop)[:, None]
        used[numbers, codes.astype(np.int32) + most] = True
        nonzeros[part] += np.count_nonzero(codes, axis=1)
        vanished[part] += np.count_nonzero(block, axis=1) - np.count_nonzero(codes, axis=1)
        products[part] += np.einsum("ij,ij->i", codes, block, dtype=np.float64)
        squares[part] += np.einsum("ij,ij->i", codes, codes, dtype=np.float64)
    codes_used = np.flatnonzero(used.any(0)) - most
    low, high = int(codes_used.min()), int(codes_used.max())
    largest = np.abs(np.where(used, np.arange(-most, most + 1), 0)).max(1)
    magnitudes = (used[:, most + 1 :] | used[:, :most][:, ::-1]).sum(1)
    live = nonzeros > 0
    if (
        vanished.any()
        or (low >= 0 and high <= 1)
        or not _convincing(largest[live], nonzeros[live], magnitudes[live], tolerance, coarse=max(high, -low) <= 1)
    ):
        return None
    fitted = np.where(live, products / np.where(live, squares, 1), 0)
    fitted = np.where(live, fitted, np.median(fitted[live])).astype(np.float32)
    per_channel = len(steps) > 1
    form = narrowest_integer(low, high, zeros=bool(used[:, most].any()))
    if form is None:
        return None
    form = form.per_channel() if per_channel else form
    return Grid(
        format=form,
        step=tuple(float(s) for s in fitted),
        used=len(codes_used),
        evidence=evidence_of(form, low, high, len(codes_used)),
        storage_bits=rows.size * form.bits + 32 * len(steps),
        code_bits=(high - low).bit_length(),
    )


def _convincing(
    largest: NDArray[np.int64],
    nonzeros: NDArray[np.float64],
    magnitudes: NDArray[np.int64],
    tolerance: float,
    *,
    coarse: bool,
) -> bool:
    """Whether neither independent values nor arbitrary levels would lie on these rows' grids by chance.

    The largest magnitude of a row defines its grid and is no evidence; log2(largest code) bits go to the codes tried.
    """
    surprise = -np.log2(np.minimum(1.0, 2 * largest * tolerance))
    tries = np.log2(largest)
    values = float(((nonzeros - 1) * surprise - tries).sum())
    levels = float(((magnitudes - 1) * surprise - tries).sum())
    return values >= _CONVINCING_BITS and (coarse or levels >= _UNIFORM_BITS)


def narrowest_integer(low: int, high: int, *, zeros: bool) -> NumberFormat | None:
    """Return the narrowest integer format that holds the codes, None beyond 16 bits."""
    if max(high, -low) <= 1 and low < 0:
        return parse_format("ternary" if zeros else "binary")
    bits = high.bit_length() if low >= 0 else max(high, -low).bit_length() + 1
    return integer_format(bits, signed=low < 0) if bits <= 16 else None


def evidence_of(form: NumberFormat, low: int, high: int, used: int) -> str:
    """Return what a report says of a grid; in brackets where usual hardware would need one bit more than the file."""
    text = f"{form} per {form.per}, {used} codes used"
    fewer = (high - low).bit_length()
    if form.kind is not FormatKind.INTEGER or not form.signed or fewer >= form.bits or fewer not in _USUAL_BITS:
        return text
    if low == -(1 << (fewer - 1)):
        return f"{text} ({fewer}-bit two's complement with {low}: a symmetric range needs {form.bits} bits)"
    return f"{text} ({fewer} bits around a zero point: codes {low} to {high})"
