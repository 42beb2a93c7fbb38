"""Ranges of totals, and comparisons of designs, from jointly sampled constants.

Each constant is drawn as a factor on its nominal value, log-triangular between low / value and high / value with the
mode at 1 (the logarithm has a triangular density; nothing is known about the shape, so the nominal is simply the
likeliest). The draws of a constant come from a generator seeded by (seed, name) and by nothing else: a constant has
the same factors in every design, in every order, in every process (common random numbers), and the first draws do not
change when more are asked for. So what two designs share cancels when they are compared.

Energies are given by constant: a mapping from a constant's name, or a product of names 'a*b', to the nominal energy
that is proportional to it. Any additive cost (area, leakage) works the same way.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from picojoule.sim.errors import InputError
from picojoule.sim.technology.constants import constant

__all__ = ["deciding_constant", "probability_less", "sample_factors", "sample_totals", "total_range"]

Array = npt.NDArray[np.float64]
_COUNT = 1000


def _generator(seed: int, name: str) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))


def _factor(name: str, count: int, seed: int) -> Array:
    """Draw the factors of one constant by inverting the triangular distribution of the logarithm."""
    entry = constant(name)
    left, right = np.log(entry.value / entry.low), np.log(entry.high / entry.value)
    width = left + right
    if width == 0:
        return np.ones(count)
    u = _generator(seed, name).random(count)
    below = -left + np.sqrt(u * width * left)
    above = right - np.sqrt((1 - u) * width * right)
    return np.asarray(np.exp(np.where(u < left / width, below, above)))


def sample_factors(names: Sequence[str], count: int, seed: int) -> Array:
    """Return factors value / nominal, shape [count, len(names)]; a name may be a product 'a*b'.

    A column depends on (seed, name) only. Same arguments, same bytes. InputError for an unknown constant or count < 1.
    """
    if count < 1:
        raise InputError(f"the number of samples must be at least 1, got {count}")
    bases = {base: _factor(base, count, seed) for base in _base_names(names)}
    factors = np.ones((count, len(names)))
    for column, name in enumerate(names):
        for base in name.split("*"):
            factors[:, column] *= bases[base]
    return factors


def sample_totals(energy_by_constant: Mapping[str, float], count: int = _COUNT, seed: int = 0) -> Array:
    """Return `count` totals in the unit of the energies, one per joint draw of the constants.

    InputError for an unknown constant, a negative or non-finite energy, or count < 1.
    """
    names = sorted(energy_by_constant)
    energies = _energies(energy_by_constant, names)
    return np.asarray(sample_factors(names, count, seed) @ energies)


def total_range(
    energy_by_constant: Mapping[str, float],
    count: int = _COUNT,
    seed: int = 0,
    quantiles: tuple[float, float] = (0.05, 0.95),
) -> tuple[float, float]:
    """Return the quantiles (low, high) of the total over the sampled constants, widened to hold the nominal total.

    The widening matters where all ranges lean one way. An empty mapping has the range (0, 0). InputError as
    `sample_totals`, and for quantiles that are not 0 <= low <= high <= 1.
    """
    if not 0 <= quantiles[0] <= quantiles[1] <= 1:
        raise InputError(f"quantiles must be 0 <= low <= high <= 1, got {quantiles[0]} and {quantiles[1]}")
    low, high = np.quantile(sample_totals(energy_by_constant, count, seed), quantiles)
    nominal = float(sum(energy_by_constant.values()))
    return min(float(low), nominal), max(float(high), nominal)


def probability_less(a: Mapping[str, float], b: Mapping[str, float], count: int = _COUNT, seed: int = 0) -> float:
    """Return P(total of a < total of b) under joint sampling; equal totals count one half.

    So P(a < a) = 0.5 and P(a < b) + P(b < a) = 1. Totals within 1e-12 of each other are equal. InputError as
    `sample_totals`.
    """
    totals_a, totals_b = sample_totals(a, count, seed), sample_totals(b, count, seed)
    equal = np.isclose(totals_a, totals_b, rtol=1e-12, atol=0.0)
    return float(np.mean(np.where(equal, 0.5, totals_a < totals_b)))


def deciding_constant(a: Mapping[str, float], b: Mapping[str, float], count: int = _COUNT, seed: int = 0) -> str | None:
    """Return the constant whose sampling alone, all others nominal, moves the difference of the totals most.

    A product counts for each of its constants. None if no constant moves the difference (the designs cost the same in
    every way); equal contributions go to the name that sorts first. InputError as `sample_totals`.
    """
    keys = sorted({*a, *b})
    _energies(a, sorted(a)), _energies(b, sorted(b))
    difference = np.array([a.get(key, 0.0) - b.get(key, 0.0) for key in keys])
    scale = sum(abs(x) for x in (*a.values(), *b.values()))
    best: str | None = None
    best_deviation = 1e-12 * scale
    for base in sorted(_base_names(keys)):
        slope = sum(d for key, d in zip(keys, difference, strict=True) if base in key.split("*"))
        deviation = abs(slope) * float(np.std(sample_factors([base], count, seed)))
        if deviation > best_deviation * (1 + 1e-12):
            best, best_deviation = base, deviation
    return best


def _base_names(keys: Iterable[str]) -> set[str]:
    return {base for key in keys for base in key.split("*")}


def _energies(energy_by_constant: Mapping[str, float], names: Sequence[str]) -> Array:
    energies = np.array([energy_by_constant[name] for name in names], dtype=np.float64)
    for name, energy in zip(names, energies, strict=True):
        if not (np.isfinite(energy) and energy >= 0):
            raise InputError(f"the energy of '{name}' must be finite and not negative, got {energy:g}")
    return energies
