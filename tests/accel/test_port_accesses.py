"""How often the array's edge touches its SRAMs, against a walk over the folds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from picojoule.accel.systolic.port_accesses import port_accesses
from picojoule.accel.systolic.timing import Dataflow, fold_grid, packed_groups

sizes = st.integers(1, 14)


def walk(
    dataflow: Dataflow, rows: int, cols: int, m: int, n: int, k: int, groups: int, together: int
) -> dict[str, int]:
    """Walk over every fold: steps of streams, rows of tiles, and each word of a tile on its way down."""
    height, width, stream = {
        Dataflow.OS: (m, n, k),
        Dataflow.WS: (k, n, m),
        Dataflow.IS: (k, m, n),
    }[dataflow]
    found = dict.fromkeys(("ifmap", "filter", "psums", "outputs", "shifts", "tiles"), 0)
    for first in range(0, groups, together):
        packed = min(together, groups - first)
        for left in range(0, width, cols):
            c = min(cols, width - left)
            for top in range(0, height, rows):
                r = min(rows, height - top)
                streams = {Dataflow.OS: ("ifmap", "filter"), Dataflow.WS: ("ifmap",), Dataflow.IS: ("filter",)}[
                    dataflow
                ]
                for operand in streams:
                    found[operand] += stream
                tile = {Dataflow.OS: "outputs", Dataflow.WS: "filter", Dataflow.IS: "ifmap"}[dataflow]
                found[tile] += packed * r
                if dataflow is not Dataflow.OS:
                    found["psums" if top + rows < height else "outputs"] += stream
                for row in range(packed * r):  # of the whole fold, from the top
                    moves = packed * r - 1 - row if dataflow is Dataflow.OS else row + 1
                    found["shifts"] += c * moves
                    found["tiles"] += c
    return found


@settings(max_examples=200)
@given(
    flow=st.sampled_from(list(Dataflow)),
    rows=st.integers(1, 6),
    cols=st.integers(1, 6),
    m=sizes,
    n=sizes,
    k=sizes,
    groups=st.integers(1, 5),
    packed=st.booleans(),
)
def test_accesses_equal_a_walk_over_the_folds(
    flow: Dataflow, rows: int, cols: int, m: int, n: int, k: int, groups: int, packed: bool
) -> None:
    grid = fold_grid(flow, rows, cols, m, n, k)
    together = packed_groups(grid, rows, cols, groups) if packed else 1
    ours = port_accesses(grid, rows, groups, together)
    expected = walk(flow, rows, cols, m, n, k, groups, int(np.asarray(together)))
    assert int(ours.ifmap_reads) == expected["ifmap"] and int(ours.filter_reads) == expected["filter"]
    assert int(ours.psum_writes) == int(ours.psum_reads) == expected["psums"]
    assert int(ours.outputs) == expected["outputs"]
    assert float(ours.shifts) == expected["shifts"] and float(ours.tiles) == expected["tiles"]


def test_layers_by_designs_broadcast() -> None:
    flow, rows = np.array([Dataflow.OS, Dataflow.WS]), np.array([4, 8])
    m, n, k = (np.array([[5], [9], [1]]) for _ in range(3))
    grid = fold_grid(flow, rows, 4, m, n, k)
    ours = port_accesses(grid, rows, np.array([[1], [2], [30]]))
    assert np.broadcast_shapes(ours.ifmap_reads.shape, ours.shifts.shape) == (3, 2)
    one = port_accesses(fold_grid(Dataflow.WS, 8, 4, 9, 9, 9), 8, 2)
    assert int(ours.ifmap_reads[1, 1]) == int(one.ifmap_reads)
    assert float(ours.shifts[1, 1]) == pytest.approx(float(one.shifts))
