"""Convolutions on the active blocks of an image: cycles and bytes of gather, dense tiles and scatter, from a real mask.

Ren et al., SBNet, CVPR 2018: active blocks of the result are gathered with the halo their windows reach into, convolved as a
batch of tiles, and scattered; other blocks keep what they hold. A tile's rows are single runs of memory (channels innermost),
in whole bursts. `BlockWork.cycles` is the layer's own pipeline of tiles, without weights; `pattern_work` prices a whole layer,
weights and DRAM stalls of its folds among it. The array's address generators gather and scatter on the way to and from DRAM, so
nothing is copied twice (on a GPU, where SBNet was measured, both are kernels of their own).
"""

from dataclasses import dataclass

import numpy as np

from picojoule.accel.systolic import timing
from picojoule.accel.systolic.timing import Dataflow
from picojoule.sim.attributes import ConvAttributes
from picojoule.sim.errors import InputError, UnsupportedError
from picojoule.sim.execution import BlockActivity
from picojoule.sim.gemm import gemm_view
from picojoule.sim.ir import Layer


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockWork:
    """A convolution on its active blocks for one batch (mean over the batches of the mask), and the dense one beside it.

    `gather_bytes` of tiles with halo, `scatter_bytes` of results, in whole bursts; `halo_share` is what of the gathered bytes is
    read again for overlapping windows. `cycles`: from the first byte gathered to the last one scattered, two tiles in buffers, on
    a bus that takes turns (load a tile, store the one before the last): the longer of the bus with its waits for the first and
    the last tile, and of the array with the first tile in and the last one out.
    """

    gemm_m: float
    compute_cycles: float
    dense_cycles: int
    gather_bytes: float
    scatter_bytes: float
    dense_bytes: int
    halo_share: float
    transfer_cycles: float
    cycles: float
    share: float
    basis: str


def block_work(
    layer: Layer,
    activity: BlockActivity,
    dataflow: str | Dataflow,
    rows: int,
    cols: int,
    *,
    bytes_per_cycle: float,
    activation_bits: int = 8,
    result_bits: int = 8,
    burst_bytes: int = 64,
    batch: int = 1,
    overlap: bool = False,
) -> BlockWork:
    """Return what a convolution takes when only active blocks are computed; weights move as for the dense layer.

    Raises:
        InputError: if the blocks do not cover the layer's result, or a batch needs more samples than there are.
        UnsupportedError: for anything but a plain two-dimensional convolution.

    """
    flow = dataflow if isinstance(dataflow, Dataflow) else Dataflow.of(dataflow)
    a, dense = layer.attributes, gemm_view(layer, batch)
    if not isinstance(a, ConvAttributes) or a.transposed or len(a.stride) != 2 or dense is None:
        raise UnsupportedError(f"layer '{layer.name}': block activity is priced for two-dimensional convolutions")
    (height, width), block = layer.results[0].shape[2:], activity.block
    if activity.active.shape[1:] != (-(-height // block[0]), -(-width // block[1])):
        covering, given = (-(-height // block[0]), -(-width // block[1])), activity.active.shape[1:]
        raise InputError(
            f"layer '{layer.name}': blocks of {block[0]} x {block[1]} cover {height} x {width} outputs {covering[0]} x "
            f"{covering[1]} times, the activity has {given[0]} x {given[1]}"
        )
    runs = len(activity.active) // batch
    if runs == 0:
        raise InputError(
            f"layer '{layer.name}': a batch of {batch} needs as many samples, the activity has {len(activity.active)}"
        )
    tiles = activity.active[: runs * batch].reshape(runs, -1).sum(1)
    kernel = layer.operands[1].shape[2:]
    tall, wide = ((b - 1) * s + (f - 1) * d + 1 for b, s, f, d in zip(block, a.stride, kernel, a.dilation, strict=True))
    channels, filters = layer.operands[0].shape[1], layer.results[0].shape[1]
    into = tall * _bursts(wide * channels * activation_bits, burst_bytes)
    out = block[0] * _bursts(block[1] * filters * result_bits, burst_bytes)
    area = block[0] * block[1]

    def compute(m: int) -> int:
        return (
            int(
                timing.fold_cycles(
                    flow, rows, cols, m, dense.n, dense.k, dense.groups, overlap_load=overlap, overlap_drain=overlap
                )
            )
            if m
            else 0
        )

    computed = [compute(int(t) * area) for t in tiles]
    moves = (into / bytes_per_cycle, out / bytes_per_cycle)
    moved = float(tiles.mean()) * (into + out)
    dense_bytes = (layer.operands[0].type.elements(batch) * activation_bits + dense.m * filters * result_bits) // 8
    return BlockWork(
        gemm_m=float(tiles.mean()) * area,
        compute_cycles=float(np.mean(computed)),
        dense_cycles=compute(dense.m),
        gather_bytes=float(tiles.mean()) * into,
        scatter_bytes=float(tiles.mean()) * out,
        dense_bytes=dense_bytes,
        halo_share=max(0.0, 1 - block[0] * a.stride[0] * block[1] * a.stride[1] / (tall * wide)),
        transfer_cycles=moved / bytes_per_cycle,
        cycles=float(np.mean([_run(int(t), c, *moves) for t, c in zip(tiles, computed, strict=True)])),
        share=activity.share,
        basis=activity.basis,
    )


def _run(tiles: int, computed: int, into: float, out: float) -> float:
    """Return the cycles of a run of tiles that takes `computed` cycles on the array, each `into` and `out` on the bus."""
    if tiles < 2:
        return into + computed + out if tiles else 0.0
    one = computed / tiles
    return max(tiles * (into + out) + max(0.0, one - into) + max(0.0, one - out), into + computed + out)


def _bursts(bits: int, burst_bytes: int) -> int:
    return -(-bits // (8 * burst_bytes)) * burst_bytes
