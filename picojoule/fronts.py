"""What can be said about a front: its knee, the median of several fronts, and how sure it is under uncertain constants.

Every objective is to be small (negate what is to be large); rows are points. Domination itself is in `dominance.py`, volumes
in `hypervolumes.py`; both are reached from here too.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from picojoule.dominance import Flags, Floats, as_costs, crowding_distance, non_dominated, non_domination_ranks
from picojoule.hypervolumes import hypervolume, hypervolume_history, reference_point
from picojoule.sim.errors import InputError
from picojoule.sim.technology import sample_factors

__all__ = [
    # one set of points
    "crowding_distance",
    "knee",
    "non_dominated",
    "non_domination_ranks",
    # volumes
    "hypervolume",
    "hypervolume_history",
    "reference_point",
    # several runs, uncertain costs
    "attainment",
    "probability_non_dominated",
    "sample_energies",
]

_SAME = 1e-9  # distances from the line this close are ties
_EQUAL = 1e-12  # sampled costs this close, relatively, differ by rounding only


def knee(costs: ArrayLike) -> int | None:
    """Return the number of the row of `costs` [points, objectives] where the front bends most; None if there is no front.

    The front's finite points are scaled to [0, 1] per objective; the knee lies farthest below the line (plane) through the
    best point of each objective, toward the origin (Das 1999, "On characterizing the 'knee' of the Pareto curve based on
    normal-boundary intersection"). Where those points span no plane that faces the origin, it is the one through the unit
    points. Among equals (all points of a straight front, both of a front of two, the ends of one that bulges outward) the
    smallest by the first objective, then the others, then position, is taken.
    """
    values = as_costs(costs)
    rows = np.flatnonzero(np.isfinite(values).all(axis=1))
    rows = rows[non_dominated(values[rows])]
    if not rows.size:
        return None
    rows = rows[np.lexsort(values[rows].T[::-1])]
    halves = values[rows] / 2  # so that no range overflows
    low, span = halves.min(axis=0), np.ptp(halves, axis=0)
    scaled = (halves - low)[:, span > 0] / span[span > 0]
    if not scaled.shape[1]:
        return int(rows[0])
    normal = _plane(scaled)
    below = (1 - scaled @ normal) / np.linalg.norm(normal)
    return int(rows[np.flatnonzero(below >= below.max() - _SAME)[0]])


def _plane(scaled: Floats) -> Floats:
    """Return n of the plane n x = 1 through the best point of each objective; of equally good ones, the best in sum."""
    columns = scaled.shape[1]
    ends = np.array([scaled[np.lexsort((scaled.sum(axis=1), scaled[:, column]))[0]] for column in range(columns)])
    if np.linalg.matrix_rank(ends) == columns:
        normal = np.linalg.solve(ends, np.ones(columns))
        if (normal > 0).all():
            return np.asarray(normal)
    return np.ones(columns)


def attainment(fronts: Sequence[ArrayLike], level: int) -> Floats:
    """Return the corners [points, 2], by the first cost, of the region that at least `level` of the runs' fronts attain.

    fronts: costs [points, 2] of each run, dominated ones allowed. A run attains what one of its points is nowhere worse
    than; level = ceil(runs / 2) is the median surface (Fonseca and Fleming 1996, "On the performance assessment and
    comparison of stochastic multiobjective optimizers"). Points that are not finite attain nothing.

    Raises:
        InputError: for costs without exactly two objectives, or a level outside 1 to the number of runs.

    """
    runs = [as_costs(front, 2) for front in fronts]
    if not 1 <= level <= len(runs):
        raise InputError(f"level must be from 1 to the number of runs ({len(runs)}), got {level}")
    runs = [run[np.isfinite(run).all(axis=1)] for run in runs]
    first = np.unique(np.concatenate([run[:, 0] for run in runs]))
    second = np.full((len(runs), len(first)), np.inf)  # the best second cost a run has reached by each first cost
    for best, run in zip(second, runs, strict=True):
        np.minimum.at(best, np.searchsorted(first, run[:, 0]), run[:, 1])
    second = np.minimum.accumulate(second, axis=1)
    attained = np.sort(second, axis=0)[level - 1]
    before = np.append(np.inf, attained[:-1])
    corner = attained < before
    return np.stack((first[corner], attained[corner]), axis=1)


def probability_non_dominated(fixed: ArrayLike, sampled: ArrayLike) -> Floats:
    """Return for each point the share of draws in which no other point dominates it, [points].

    fixed: costs that do not vary [points, f], f may be 0; sampled: those that do [draws, points, s], drawn jointly (as
    `sample_energies` does), or [draws, points] for one; within 1e-12 of each other they are equal, as in
    `probability_less`. A NaN cost dominates nothing and is never on the front.
    """
    still = np.asarray(fixed, dtype=np.float64)
    draws = np.asarray(sampled, dtype=np.float64)
    draws = draws[:, :, None] if draws.ndim == 2 else draws
    if still.ndim != 2 or draws.ndim != 3 or draws.shape[1] != len(still) or not len(draws):
        raise InputError(
            "probabilities need fixed costs of points x objectives and sampled costs of draws x the same points x "
            f"objectives, got shapes {still.shape} and {draws.shape}"
        )
    moving = np.ascontiguousarray(draws.transpose(2, 1, 0))  # [s, points, draws]
    shares = np.empty(len(still))
    for index, point in enumerate(still):
        rivals = np.flatnonzero((still <= point).all(axis=1))
        better = (still[rivals] < point).any(axis=1)
        known: Flags = ~np.isnan(moving[:, index]).any(axis=0) & ~np.isnan(point).any()
        shares[index] = np.mean(known & ~_beaten_in(moving[:, rivals], moving[:, index, None], better))
    return shares


def _beaten_in(rivals: Floats, point: Floats, better: Flags) -> Flags:
    """Return in which draws a rival [s, rivals, draws] beats the point [s, 1, draws]; `better`: is so in a fixed cost already."""
    slack = _EQUAL * np.where(np.isfinite(point), np.abs(point), 0.0)
    beats = better[:, None] | (rivals < point - slack).any(axis=0)
    beats &= (rivals <= point + slack).all(axis=0)
    return np.asarray(beats.any(axis=0))


def sample_energies(bills: Sequence[Mapping[str, float]], draws: int = 1000, seed: int = 0) -> Floats:
    """Return energies [draws, points] of bills (energy by constant, any unit) under the same draws of the constants.

    A column is `sample_totals` of its bill; equal bills have equal columns. InputError as there.
    """
    names = sorted({name for bill in bills for name in bill})
    factors = dict(zip(names, sample_factors(names, draws, seed).T, strict=True))
    energies = np.zeros((draws, len(bills)))
    for column, bill in zip(energies.T, bills, strict=True):
        for name in sorted(bill):
            if not (np.isfinite(bill[name]) and bill[name] >= 0):
                raise InputError(f"the energy of '{name}' must be finite and not negative, got {bill[name]:g}")
            column += factors[name] * bill[name]
    return energies
