"""Cycles and percentages as SCALE-Sim counts them, slips included (Samajdar et al., ISPASS 2020; release 3.0.0).

Edge folds cost as much as full ones, and os results leave without a drain.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from picojoule.accel.systolic.folds import Dataflow, FloatArray, FoldGrid, IntArray, fold_grid, int64


def scalesim_cycles(
    dataflow: npt.ArrayLike,
    rows: npt.ArrayLike,
    cols: npt.ArrayLike,
    m: npt.ArrayLike,
    n: npt.ArrayLike,
    k: npt.ArrayLike,
    groups: npt.ArrayLike = 1,
) -> IntArray:
    """Return the stall-free cycles SCALE-Sim simulates; its "Total Cycles" is the index of the last, one less."""
    grid = fold_grid(dataflow, rows, cols, m, n, k)
    return int64(groups) * grid.folds * _scalesim_fold_cycles(grid, rows, cols)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalesimUtilization:
    """The three percentages of SCALE-Sim's compute report."""

    overall_pct: FloatArray
    mapping_efficiency_pct: FloatArray
    compute_pct: FloatArray


def scalesim_utilizations(
    dataflow: npt.ArrayLike,
    rows: npt.ArrayLike,
    cols: npt.ArrayLike,
    m: npt.ArrayLike,
    n: npt.ArrayLike,
    k: npt.ArrayLike,
    groups: npt.ArrayLike = 1,
    *,
    stall_cycles: npt.ArrayLike = 0,
) -> ScalesimUtilization:
    """Return SCALE-Sim's percentages, its slips included.

    Overall divides by "Total Cycles" (one too few; a single-cycle layer, where that is 0, counts 1). Compute divides
    by a fold length that is C - 1 too long in ws and is. SCALE-Sim knows no groups: here they are one layer, run in
    sequence.
    """
    grid = fold_grid(dataflow, rows, cols, m, n, k)
    pes = int64(rows) * int64(cols)
    fold = _scalesim_fold_cycles(grid, rows, cols)
    total = int64(groups) * grid.folds * fold - 1 + int64(stall_cycles)
    macs = int64(m) * int64(n) * int64(k) * int64(groups)
    mapping = 100.0 * (grid.row_size * grid.col_size) / (grid.folds * pes)
    counted = fold + np.where(grid.dataflow == Dataflow.OS, 0, int64(cols) - 1)
    return ScalesimUtilization(
        overall_pct=100.0 * macs / (np.maximum(total, 1) * pes),
        mapping_efficiency_pct=mapping,
        compute_pct=mapping * grid.streamed / counted,
    )


def _scalesim_fold_cycles(grid: FoldGrid, rows: npt.ArrayLike, cols: npt.ArrayLike) -> IntArray:
    R, C = int64(rows), int64(cols)
    return grid.streamed + np.where(grid.dataflow == Dataflow.OS, R, 2 * R) + C - 2
