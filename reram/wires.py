"""Wire resistance: what a crossbar's bitlines carry when its lines are not ideal conductors.

The network is linear, so it is solved exactly, once per array: sparse LU gives each bitline's current per volt on each
wordline, and any input is then a matrix product. Geometry as in CrossSim 3.2: a wordline is driven at its first bitline
through one segment, a bitline ends behind its last wordline through one segment at virtual ground, one segment lies
between neighbouring cells. Left out: resistance of drivers and selectors, capacitance.

`fast` is a closed form, right to first order in the wires' resistance. Error of the product (random 0/1 inputs, 2-bit
cells of 10 kohm on levels 0..3 alike) beside what wires take from the ideal product, root mean square:

    array    ohm   wires take   error of fast
    32x32    1       3.7 %         0.01 %
    32x32    5      16.0 %         0.20 %
    64x64    1      12.6 %         0.11 %
    64x64    2      22.1 %         0.35 %
    64x64    5      40.8 %         1.4 %
    128x128  1      35.2 %         1.0 %
    128x128  2      51.4 %         2.5 %
    128x128  5      71.4 %         6.9 %

So it is good to 1 % where wires take up to a third of the product. One core needs 0.43 s for 128x128 cells exactly,
0.45 ms so (64x64: 46 and 0.08 ms).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from picojoule.reram.encoding import split_evenly
from picojoule.sim.errors import UnsupportedError

# 256 x 256 cells take about 6 s and 0.7 GiB on one core, and both grow faster than the number of cells.
_MOST_CELLS = 1 << 17


def bitline_current_per_volt(conductance_OR: NDArray[np.float64], wire_ohm: float) -> NDArray[np.float64]:
    """Return the current of bitline o per volt on wordline r, in siemens, for cells `conductance_OR` in siemens.

    With ideal wires this is `conductance_OR` itself. Raises UnsupportedError for more than 2**17 cells.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.linalg import splu

    outputs, rows = conductance_OR.shape
    if outputs * rows > _MOST_CELLS:
        raise UnsupportedError(
            f"an array of {rows} x {outputs} cells with wire_ohm_per_cell is too large to solve exactly "
            f"(at most {_MOST_CELLS} cells); use smaller tile_rows and tile_cols"
        )
    wordline_node = np.arange(outputs * rows).reshape(outputs, rows)
    bitline_node = wordline_node + outputs * rows
    wire = 1.0 / wire_ohm

    neighbours: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]] = [
        (wordline_node[:-1], wordline_node[1:], np.full((outputs - 1, rows), wire)),
        (bitline_node[:, :-1], bitline_node[:, 1:], np.full((outputs, rows - 1), wire)),
        (wordline_node, bitline_node, conductance_OR),
    ]
    first = np.concatenate([a.ravel() for a, _, _ in neighbours])
    second = np.concatenate([b.ravel() for _, b, _ in neighbours])
    siemens = np.concatenate([g.ravel() for _, _, g in neighbours])
    outside = np.concatenate([wordline_node[0], bitline_node[:, -1]])  # nodes with a segment to a driver or to ground

    count = 2 * outputs * rows
    diagonal = np.bincount(first, siemens, count) + np.bincount(second, siemens, count)
    diagonal[outside] += wire
    everything = np.arange(count)
    nodes = coo_array(
        (
            np.concatenate([-siemens, -siemens, diagonal]),
            (np.concatenate([first, second, everything]), np.concatenate([second, first, everything])),
        ),
        shape=(count, count),
    ).tocsc()
    # Symmetric and diagonally dominant: no pivoting needed, and a symmetric ordering keeps the factors small.
    factors = splu(nodes, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})

    drive = np.zeros((count, rows))
    drive[wordline_node[0], np.arange(rows)] = wire
    return np.asarray(wire * factors.solve(drive)[bitline_node[:, -1]])


def fast_bitline_current_per_volt(conductance_OR: NDArray[np.float64], wire_ohm: float) -> NDArray[np.float64]:
    """Return about what `bitline_current_per_volt` does, from prefix sums: G / (1 + drop_in + drop_out).

    The drops are those that the currents of ideal wires cause: along wordline r up to bitline o, and along bitline o from
    wordline r on. To first order G (1 - drop_in - drop_out) is exact; dividing instead accounts for the currents being
    smaller than ideal. Any leading axes are arrays of their own. Errors: see the top of this file.
    """
    load_OR = wire_ohm * conductance_OR
    # A segment in front of bitline o carries what all bitlines from o on draw; one behind wordline r what came up to r.
    behind_OR = np.flip(np.cumsum(np.flip(load_OR, -2), -2), -2)
    drop_in_OR = np.cumsum(behind_OR, -2)
    drop_out_OR = np.flip(np.cumsum(np.flip(np.cumsum(load_OR, -1), -1), -1), -1)
    return np.asarray(conductance_OR / (1.0 + drop_in_OR + drop_out_OR))


def solve_bitlines(
    conductance_OR: NDArray[np.float64], wire_ohm: float, model: str, tile_cols: int
) -> NDArray[np.float64]:
    """Return the current per volt [O, R] of outputs that lie in arrays of at most `tile_cols` of them.

    `model` is `exact` or `fast`. Units as in `bitline_current_per_volt`.
    """
    solve = fast_bitline_current_per_volt if model == "fast" else bitline_current_per_volt
    arrays = split_evenly(len(conductance_OR), tile_cols)
    return np.concatenate([solve(conductance_OR[part], wire_ohm) for part in arrays])
