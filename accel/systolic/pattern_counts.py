"""What zeros and patterns of execution change in the counts of array layers, where sizes alone do not say it; array functions."""

from dataclasses import replace

import numpy as np

from picojoule.accel.systolic.design_arrays import DesignArrays
from picojoule.accel.systolic.job_arrays import JobArrays
from picojoule.accel.systolic.port_accesses import PortAccesses
from picojoule.accel.systolic.timing import Dataflow, FoldGrid, IntArray
from picojoule.accel.systolic.traffic import DramTraffic, SramCounts


def longer_loads(jobs: JobArrays, grid: FoldGrid, designs: DesignArrays) -> IntArray:
    """Return the cycles by which loads of `is` grow with N:M weights: PEs hold the M words of a group of which N are used.

    Behind overlapped loads, what outlasts the stream beside it; all folds are then taken to be as tall as the first and as narrow
    as the last, an upper bound.
    """
    ratio = jobs.read_k / jobs.k
    folds = jobs.groups * grid.folds
    longest = np.ceil(grid.first_rows * ratio).astype(np.int64)
    late = np.maximum(0, longest - (grid.streamed + grid.first_rows + grid.last_cols - 2))
    behind = (longest - grid.first_rows) + (folds - 1) * late
    more = np.ceil(grid.row_size * (ratio - 1)).astype(np.int64) * (jobs.groups * grid.col_folds)
    taken: IntArray = np.where(
        (grid.dataflow == Dataflow.IS) & (jobs.read_k > jobs.k), np.where(designs.overlap_load, behind, more), 0
    )
    return taken


def given_words(
    jobs: JobArrays, ifmap: IntArray, filters: IntArray, sums: SramCounts, accesses: PortAccesses, cols: IntArray
) -> tuple[IntArray, IntArray, SramCounts, PortAccesses]:
    """Return words and accesses of the array's edge with those words that patterns give; accesses shrink with their words."""
    assert jobs.given_ports is not None
    given, here = jobs.given_ports, jobs.given_ports >= 0
    rows_of_sums = -(-given[2] // np.minimum(cols, jobs.n))
    return (
        np.where(here[0], given[0], ifmap),
        np.where(here[1], given[1], filters),
        replace(
            sums,
            ofmap_writes=np.where(here[2], jobs.products + given[2], sums.ofmap_writes),
            psum_reads=np.where(here[2], given[2], sums.psum_reads),
        ),
        replace(
            accesses,
            ifmap_reads=np.where(here[0], _shrunk(accesses.ifmap_reads, given[0], ifmap), accesses.ifmap_reads),
            filter_reads=np.where(here[1], _shrunk(accesses.filter_reads, given[1], filters), accesses.filter_reads),
            psum_writes=np.where(here[2], rows_of_sums, accesses.psum_writes),
            psum_reads=np.where(here[2], rows_of_sums, accesses.psum_reads),
        ),
    )


def _shrunk(accesses: IntArray, given: IntArray, words: IntArray) -> IntArray:
    made: IntArray = np.ceil(accesses * (given / words)).astype(np.int64)
    return made


def left(jobs: JobArrays, moved: DramTraffic, sum_bits: int) -> DramTraffic:
    """Return the traffic with weights as they are stored, and spilled sums of open gates only.

    Whether either stays on chip follows from the dense ones.
    """
    times = moved.filter_reads // jobs.turn_weights
    dense_bytes = (moved.filter_reads * jobs.weight_bits + 7) // 8
    moved = replace(
        moved,
        filter_reads=times * jobs.stored_words,
        read_bytes=moved.read_bytes - dense_bytes + times * jobs.stored_bytes,
    )
    if jobs.given_ports is None:
        return moved
    sums = jobs.given_ports[2]
    spilled = np.where((sums >= 0) & (moved.psum_reads > 0), sums, moved.psum_reads)
    more = (spilled * sum_bits + 7) // 8 - (moved.psum_reads * sum_bits + 7) // 8
    return replace(
        moved,
        psum_reads=spilled,
        psum_writes=spilled,
        read_bytes=moved.read_bytes + more,
        write_bytes=moved.write_bytes + more,
    )
