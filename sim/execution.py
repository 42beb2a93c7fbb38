"""Which parts of a layer really run for given inputs: where channel gates are open, and which blocks of an image are active.

`Layer.execution` holds the expected share only; these are its spatial patterns, from data (never test data) or drawn from the
share. They belong to inputs, not to the network, so they travel beside it: by layer name, like integer activations.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from picojoule.sim.errors import InputError

if TYPE_CHECKING:
    from picojoule.sim.activation_source import ActivationSource

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SkipMap:
    """Where a channel-gated convolution makes its second pass (Hua et al., Channel Gating Neural Networks, NeurIPS 2019).

    `live` [samples, pixels, channels] is true where the gate of an output is open, pixels row by row. The first pass takes
    `base_share` of the input channels for all outputs, the second the others for the live ones. `basis`: `data` or `statistics`.
    """

    live: Mask
    base_share: float
    basis: str = "data"
    source: str = ""

    def __post_init__(self) -> None:
        if self.live.ndim != 3 or self.live.dtype != np.bool_ or not self.live.size:
            raise InputError(
                f"a skip map is a boolean array [samples, pixels, channels], got {self.live.dtype} {list(self.live.shape)}"
            )
        if not 0.0 < self.base_share < 1.0:
            raise InputError(
                f"base_share is the share of input channels in the first pass, above 0 and below 1, got {self.base_share}"
            )

    @property
    def share(self) -> float:
        """Share of outputs whose gate is open."""
        return float(self.live.mean())

    @property
    def mac_share(self) -> float:
        """Multiply-accumulates left, relative to the convolution without gates: eta + (1 - eta) x share."""
        return self.base_share + (1 - self.base_share) * self.share


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BlockActivity:
    """Which blocks of a convolution's result are computed (Ren et al., SBNet, CVPR 2018).

    `active` [samples, blocks down, blocks across]; a block is `block` = (rows, columns) of output pixels, from the first corner
    on; those at the far edges may hang over.
    """

    active: Mask
    block: tuple[int, int]
    basis: str = "data"
    source: str = ""

    def __post_init__(self) -> None:
        if self.active.ndim != 3 or self.active.dtype != np.bool_ or not self.active.size:
            raise InputError(
                f"block activity is a boolean array [samples, down, across], got {self.active.dtype} {list(self.active.shape)}"
            )
        if min(self.block) < 1:
            raise InputError(f"a block has at least 1 x 1 output pixels, got {self.block[0]} x {self.block[1]}")

    @property
    def share(self) -> float:
        """Share of blocks that are computed."""
        return float(self.active.mean())


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionPatterns:
    """Patterns by layer name; layers without one run whole. `evaluate(..., activations=...)` takes it on systolic arrays.

    `activations`: integer inputs beside them, for costs that follow these too (toggles, gating by zero activations).
    """

    skip_maps: Mapping[str, SkipMap] = field(default_factory=dict)
    blocks: Mapping[str, BlockActivity] = field(default_factory=dict)
    activations: "ActivationSource | None" = None


def blocks_of(mask: Mask, block: tuple[int, int]) -> BlockActivity:
    """Return the blocks that hold any active output pixel of a mask [samples, rows, columns] (SBNet's max pooling)."""
    if mask.ndim != 3:
        raise InputError(f"an activity mask is [samples, rows, columns], got {list(mask.shape)}")
    down, across = (-(-size // side) for size, side in zip(mask.shape[1:], block, strict=True))
    whole = np.zeros((len(mask), down * block[0], across * block[1]), dtype=np.bool_)
    whole[:, : mask.shape[1], : mask.shape[2]] = mask
    active = whole.reshape(len(mask), down, block[0], across, block[1]).any(axis=(2, 4))
    return BlockActivity(active=np.asarray(active), block=block)


def drawn_skip_map(
    name: str, *, samples: int, pixels: int, channels: int, base_share: float, share: float, seed: int = 0
) -> SkipMap:
    """Return a map of independent gates, each open with probability `share`: what remains when only the share is known.

    Real maps are not like it: pixels of objects open many channels at once, so their unions over channels are smaller.
    """
    if not 0.0 <= share <= 1.0:
        raise InputError(f"the share of open gates lies between 0 and 1, got {share}")
    generator = np.random.default_rng((seed, zlib.crc32(name.encode()), zlib.crc32(b"skip map")))
    live = generator.random((samples, pixels, channels)) < share
    return SkipMap(live=live, base_share=base_share, basis="statistics", source=f"drawn at random, share {share:g}")
