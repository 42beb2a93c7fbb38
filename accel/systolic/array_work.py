"""What is left of a layer when it runs: for zero weights (`sparse_work`), closed gates or resting blocks (`pattern_work`)."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from picojoule.sim.gemm import Gemm


@dataclass(frozen=True, slots=True, kw_only=True)
class PortWords:
    """Words that enter the array from the ifmap and filter SRAM; partial sums, each written to and read from the ofmap SRAM."""

    ifmap: int
    filters: int
    sums: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SparseWork:
    """A layer as the array runs it.

    `gemm`: sizes that are folded; k is the reduction with N:M compressed. `ifmap_k`: reduction positions for which ifmap words
    are read, k without compression. `ifmap_share`: share of input channels that are read at all. `gated_share`: share of the
    gemm's MACs that do not multiply; of these `skipped_share` take no cycle and clock no register either. `compute_cycles`:
    where they follow from the pattern, else None. `folded_k`: reduction along the array's rows where it is not `gemm.k`
    (skipping in ws: fewer passes of partial sums). `stored_weights`: words of weights in DRAM and filter SRAM; their bits and
    those of positions apart. `ports`: words at the array's ports where they follow from the pattern. `lost`: PE x cycle slots
    by cause; with `compute_cycles` it holds all slots that do not multiply. `basis`: `data` or `statistics`; `kind` is shown
    behind it.
    """

    gemm: Gemm
    ifmap_k: int
    stored_weights: int
    stored_weight_bits: int
    ifmap_share: float = 1.0
    gated_share: float = 0.0
    skipped_share: float = 0.0
    compute_cycles: int | None = None
    folded_k: int | None = None
    ports: PortWords | None = None
    metadata_bits: int = 0
    lost: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    basis: str = "data"
    kind: str = ""
