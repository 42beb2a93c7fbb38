"""What `deform_study` trains: a point is one training of the detector; here are the lists of points and their names."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

QUANTIZED: Mapping[str, str] = MappingProxyType(
    {f"{base}_w4a8": base for base in ("conv3", "depthwise", "conv5", "deform_bound", "deform_square", "square_round")}
)
"""Variants fine-tuned at 4-bit weights and 8-bit activations, and the floating-point one that each starts from."""
MAIN_WIDTH, MAIN_BOUND = 1.0, 7.0
GRID_WIDTHS, GRID_BOUNDS, GRID_SEEDS = (0.5, 1.0), (3.0, 7.0), 2


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Point:
    """One training: what is trained, and its seed (of weights, scenes and order). `bound` counts for bounded variants only."""

    variant: str
    width: float = MAIN_WIDTH
    bound: float = MAIN_BOUND
    seed: int = 0

    @property
    def name(self) -> str:
        """The point's name in file names."""
        return f"{self.variant}-w{self.width:g}-n{self.bound:g}-s{self.seed}"

    @property
    def base(self) -> "Point | None":
        """The point whose weights a quantised one starts from; None for the others."""
        return replace(self, variant=QUANTIZED[self.variant]) if self.variant in QUANTIZED else None


def main_points(seeds: int) -> list[Point]:
    """Return every variant at full width and the published bound, seed after seed."""
    from picojoule.models.centre_net import VARIANTS

    return [Point(variant=variant, seed=seed) for seed in range(seeds) for variant in VARIANTS]


def grid_points(seeds: int = GRID_SEEDS) -> list[Point]:
    """Return variant x width x bound for a co-design search; a variant without a bound comes once for both."""
    from picojoule.models.centre_net import BOUNDED_VARIANTS, VARIANTS

    return [
        Point(variant=variant, width=width, bound=bound, seed=seed)
        for seed in range(seeds)
        for width in GRID_WIDTHS
        for variant in VARIANTS
        for bound in (GRID_BOUNDS if variant in BOUNDED_VARIANTS else (MAIN_BOUND,))
    ]


def near_points(seeds: int) -> list[Point]:
    """Return every bounded variant at full width and the nearer bound, for as many seeds as `main_points` has."""
    from picojoule.models.centre_net import BOUNDED_VARIANTS, VARIANTS

    known = [variant for variant in VARIANTS if variant in BOUNDED_VARIANTS]
    return [Point(variant=variant, bound=GRID_BOUNDS[0], seed=seed) for seed in range(seeds) for variant in known]
