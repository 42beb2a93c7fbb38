"""Channel-gated layers: cycles of both passes from the real pattern of open gates.

Channel gating (Hua et al., NeurIPS 2019): a first pass over the base input channels makes partial sums of all outputs; the
second, over the other channels, is for outputs whose gate is open. An array cannot run single outputs:

| dataflow | second pass                                                                                                     |
| -------- | --------------------------------------------------------------------------------------------------------------- |
| ws       | a fold of c output channels streams every pixel that any of them needs; PEs of the other channels rest          |
| os       | the pixels that any of a fold's c channels needs are gathered into rows; PEs of dead pairs rest                 |
| is       | pixels without an open gate are left out; a fold of c pixels streams every channel that any of them needs       |

Gathering is an address list for the ifmap SRAM. Both passes run within a column fold, so that sums of the first are added as
those of another row fold are: written to the ofmap SRAM, read for open gates only (os too, where one pass needs none of this).
A fold that nobody needs is left out. The gates (comparison of a normalised sum with a threshold) are made in the output path
and kept as one bit per output; neither comparison nor bits are priced. `pattern_work` prices the rest of a layer: DRAM (all
inputs and weights), stalls, energy. Published: 2.4 times as fast for 2.8 times fewer operations (ResNet-18, abstract), so 0.86
of what the operations promise; shown beside our figure, not used in it.
"""

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from picojoule.accel.systolic import timing
from picojoule.accel.systolic.timing import Dataflow, IntArray
from picojoule.accel.systolic.zero_skipping import Runs
from picojoule.sim.attributes import ConvAttributes
from picojoule.sim.errors import InputError, UnsupportedError
from picojoule.sim.execution import SkipMap
from picojoule.sim.gemm import Gemm, gemm_view
from picojoule.sim.ir import Layer

PUBLISHED_REALISED_SHARE = 0.86
"""Speed-up over operations saved of CGNet's accelerator, 2.4 / 2.8 (abstract); for comparison only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatedWork:
    """A channel-gated layer for one batch (mean over the batches of its map).

    `base` and `rest` are the GEMMs of both passes, `rest` as if all gates were open. `lost`: PE x cycle slots of the second pass
    in which a PE of a used fold rests for a closed gate. Words are those of the array's ports in both passes; as many `sums` are
    written as read again. `streamed`: cycles of both passes in which something streams at full width. `row_folds`: of both
    passes. `gate_bits` are written and read once each.
    """

    base: Gemm
    rest: Gemm
    base_cycles: float
    rest_cycles: float
    dense_cycles: int
    useful_macs: float
    lost: dict[str, float]
    ifmap_reads: float
    filter_reads: float
    sums: float
    streamed: float
    row_folds: int
    gate_bits: int
    share: float
    mac_share: float
    basis: str

    @property
    def cycles(self) -> float:
        """Compute cycles of both passes."""
        return self.base_cycles + self.rest_cycles

    @property
    def speed_up(self) -> float:
        """How much faster the layer is than without gates."""
        return self.dense_cycles / self.cycles

    @property
    def promised(self) -> float:
        """How many times fewer multiply-accumulates are left."""
        return 1 / self.mac_share

    @property
    def realised_share(self) -> float:
        """Speed-up over what the operations promise; below 1 means that gating loses part of its saving to the array."""
        return self.speed_up / self.promised

    @property
    def note(self) -> str:
        """What a report says."""
        loss = (
            ""
            if self.realised_share > 0.95
            else "; columns wait for pixels that their neighbours need, and both passes fill and drain"
        )
        return (
            f"channel gating: {self.share:.0%} of the outputs make the second pass; {self.speed_up:.2f} times as fast where "
            f"operations promise {self.promised:.2f} ({self.realised_share:.2f} of it; CGNet's accelerator: "
            f"{PUBLISHED_REALISED_SHARE}){loss}"
        )


def gated_work(
    layer: Layer,
    skip_map: SkipMap,
    dataflow: str | Dataflow,
    rows: int,
    cols: int,
    *,
    batch: int = 1,
    overlap: bool = False,
) -> GatedWork:
    """Return what a gated convolution or linear layer takes on an array, averaged over the whole batches of its map.

    Raises:
        InputError: if the map has other pixels or channels than the layer, fewer samples than a batch, or no channel is left.
        UnsupportedError: for grouped convolutions and other operators.

    """
    flow = dataflow if isinstance(dataflow, Dataflow) else Dataflow.of(dataflow)
    base, rest = _passes(layer, skip_map, batch)
    runs = len(skip_map.live) // batch
    if runs == 0:
        raise InputError(
            f"layer '{layer.name}': a batch of {batch} needs as many samples in its skip map, which has {len(skip_map.live)}"
        )
    base_cycles, dense_cycles = (
        int(timing.fold_cycles(flow, rows, cols, base.m, base.n, k, overlap_load=overlap, overlap_drain=overlap))
        for k in (base.k, base.k + rest.k)
    )
    passes = [
        _second_pass(np.ascontiguousarray(part.reshape(-1, base.n)), rest.k, flow, rows, cols, overlap)
        for part in skip_map.live[: runs * batch].reshape(runs, batch, -1, base.n)
    ]
    cycles, slots, ifmap, filters, streamed = np.mean(
        [(p.cycles, p.slots, p.ifmap_reads, p.filter_reads, p.streamed) for p in passes], axis=0
    ).tolist()
    live = float(skip_map.live[: runs * batch].sum()) / runs
    base_ifmap, base_filter = _port_words(flow, rows, cols, base)
    first, second = (1 if flow is Dataflow.OS else ceil(part.k / rows) for part in (base, rest))
    grid = timing.fold_grid(flow, rows, cols, base.m, base.n, base.k)
    return GatedWork(
        base=base,
        rest=rest,
        base_cycles=float(base_cycles),
        rest_cycles=cycles,
        dense_cycles=dense_cycles,
        useful_macs=base.macs + live * rest.k,
        lost={"closed_gates": slots - live * rest.k},
        ifmap_reads=base_ifmap + ifmap,
        filter_reads=base_filter + filters,
        sums=base.m * base.n * (first - 1) + live * second,
        streamed=int(grid.folds * grid.streamed) + streamed,
        row_folds=first + (second if live else 0),
        gate_bits=base.m * base.n,
        share=skip_map.share,
        mac_share=(base.macs + live * rest.k) / (base.macs + rest.macs),
        basis=skip_map.basis,
    )


def _passes(layer: Layer, skip_map: SkipMap, batch: int) -> tuple[Gemm, Gemm]:
    whole, a = gemm_view(layer, batch), layer.attributes
    if whole is None or whole.groups != 1 or whole.steps != 1 or (isinstance(a, ConvAttributes) and a.transposed):
        raise UnsupportedError(
            f"layer '{layer.name}': channel gating is priced for convolutions in one group and linear layers"
        )
    pixels = whole.m // batch
    if skip_map.live.shape[1:] != (pixels, whole.n):
        raise InputError(
            f"layer '{layer.name}' has {pixels} output pixels x {whole.n} channels but its skip map "
            f"{skip_map.live.shape[1]} x {skip_map.live.shape[2]}"
        )
    channels = layer.operands[1].shape[1]
    base = max(1, round(skip_map.base_share * channels))
    if base == channels:
        raise InputError(
            f"layer '{layer.name}': a base of {skip_map.base_share:g} of {channels} input channels leaves none to gate"
        )
    window = whole.k // channels
    return (
        Gemm(m=whole.m, n=whole.n, k=base * window),
        Gemm(m=whole.m, n=whole.n, k=(channels - base) * window),
    )


@dataclass(frozen=True, slots=True)
class _Pass:
    """Cycles of a second pass, PE x cycle slots of its pairs (dead ones too), words at the ports, cycles that stream."""

    cycles: int
    slots: int
    ifmap_reads: int
    filter_reads: int
    streamed: int


def _second_pass(live: NDArray[np.bool_], k: int, flow: Dataflow, rows: int, cols: int, overlap: bool) -> _Pass:
    """Return the second pass over `live` [pixels, channels] with a reduction of k."""
    if flow is Dataflow.IS:
        live = np.ascontiguousarray(live[live.any(1)].T)  # channels are streamed, pixels held
    if not live.size:
        return _Pass(0, 0, 0, 0, 0)
    starts = np.append(np.arange(0, live.shape[1], cols), live.shape[1]).astype(np.int64)
    union, width = _unions(live, starts), np.diff(starts)
    union, width = union[union > 0], width[union > 0]
    long = union if flow is Dataflow.OS else np.full_like(union, k)  # what lies along the rows
    streamed = np.full_like(union, k) if flow is Dataflow.OS else union
    full, last = np.divmod(long, rows)
    count = np.stack([full, (last > 0).astype(np.int64)], axis=1)
    used = np.stack([np.full_like(full, rows), last], axis=1)
    stream = streamed[:, None] + used + width[:, None] - 2
    here = count > 0
    runs = Runs(count=count[here], exposed=used[here], stream=stream[here])
    pairs = int((union * width).sum())
    streamed_words = int(union.sum()) * k
    held_words = int(width.sum()) * k if flow is not Dataflow.OS else int((count.sum(1) * width).sum()) * k
    ifmap, filters = (held_words, streamed_words) if flow is Dataflow.IS else (streamed_words, held_words)
    through = int((count * streamed[:, None]).sum())
    return _Pass(runs.cycles(flow, overlap=overlap), pairs * k, ifmap, filters, through)


def _port_words(flow: Dataflow, rows: int, cols: int, g: Gemm) -> tuple[int, int]:
    """Return (ifmap, filter) words that enter the array for a dense GEMM."""
    col_folds = ceil((g.m if flow is Dataflow.IS else g.n) / cols)
    ifmap = g.m * g.k * (1 if flow is Dataflow.IS else col_folds)
    filters = {Dataflow.OS: ceil(g.m / rows), Dataflow.WS: 1, Dataflow.IS: col_folds}[flow]
    return ifmap, filters * g.k * g.n


def _unions(live: NDArray[np.bool_], starts: IntArray) -> IntArray:
    from picojoule.accel.systolic._skipping_kernels import union_sizes  # numba only where a pattern is priced

    made: IntArray = union_sizes(live, starts)
    return made
