"""Classes of folds for `pipeline`: how many there are, how much of a group each holds, and how long each computes."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from picojoule.accel.systolic.dram_bus import real
from picojoule.accel.systolic.timing import Dataflow, FloatArray, FoldGrid


@dataclass(frozen=True, slots=True, kw_only=True)
class Folds:
    """Folds as real numbers. `full_` and `last_` are used rows or columns and their `_share` of a group's.

    Single-fold groups are column folds here: then `single`, `groups` is 1 and `cols` the folds of all groups.
    """

    single: npt.NDArray[np.bool_]
    groups: FloatArray
    rows: FloatArray
    cols: FloatArray
    full_rows: FloatArray
    last_rows: FloatArray
    full_cols: FloatArray
    last_cols: FloatArray
    full_row_share: FloatArray
    last_row_share: FloatArray
    full_col_share: FloatArray
    last_col_share: FloatArray

    @property
    def inner_cols(self) -> FloatArray:
        """Column folds that are neither of the first and the last two."""
        return np.maximum(0.0, self.cols - 3.0)

    @property
    def before_last(self) -> FloatArray:
        """Last column fold but one, where it is not the first."""
        return np.asarray(self.cols >= 3, dtype=np.float64)

    @property
    def edge_cols(self) -> FloatArray:
        """Last column fold, where it is not the first."""
        return np.asarray(self.cols >= 2, dtype=np.float64)

    @classmethod
    def of(cls, grid: FoldGrid, cols: npt.ArrayLike, groups: npt.ArrayLike, together: npt.ArrayLike) -> "Folds":
        """Return the folds of `groups` products, `together` of which share one."""
        row_size, col_size = real(grid.row_size), real(grid.col_size)
        row_folds, col_folds = real(grid.row_folds), real(grid.col_folds)
        first_rows, last_rows, last_cols = real(grid.first_rows), real(grid.last_rows), real(grid.last_cols)
        first_cols = np.minimum(real(cols), col_size)
        G, P = real(groups), real(together)
        single = (row_folds * col_folds == 1) & (G > 1)
        if not single.any():
            return cls(
                single=single, groups=G, rows=row_folds, cols=col_folds,
                full_rows=first_rows, last_rows=last_rows,
                full_cols=first_cols, last_cols=last_cols,
                full_row_share=first_rows / row_size, last_row_share=last_rows / row_size,
                full_col_share=first_cols / col_size, last_col_share=last_cols / col_size,
            )  # fmt: skip
        passes = np.ceil(G / P)
        rest = G - (passes - 1) * P
        return cls(
            single=single,
            groups=np.where(single, 1.0, G),
            rows=row_folds,
            cols=np.where(single, passes, col_folds),
            full_rows=np.where(single, P * row_size, first_rows),
            last_rows=np.where(single, rest * row_size, last_rows),
            full_cols=np.where(single, P * col_size, first_cols),
            last_cols=np.where(single, rest * col_size, last_cols),
            full_row_share=first_rows / row_size,
            last_row_share=last_rows / row_size,
            full_col_share=np.where(single, P / G, first_cols / col_size),
            last_col_share=np.where(single, rest / G, last_cols / col_size),
        )


class FoldCycles(NamedTuple):
    """Compute cycles of a fold: the first letter is its row fold (first or inner, last), the second its column fold."""

    ff: FloatArray
    fl: FloatArray
    lf: FloatArray
    ll: FloatArray
    very_last: FloatArray

    def times(self, stretch: FloatArray) -> "FoldCycles":
        """Return all of them so many times longer."""
        return self if (stretch == 1.0).all() else FoldCycles(*(cycles * stretch for cycles in self))


def class_cycles(
    folds: Folds,
    grid: FoldGrid,
    overlap_load: npt.ArrayLike,
    overlap_drain: npt.ArrayLike,
) -> FoldCycles:
    """Return the compute cycles of each class; with overlap, until the next fold may stream."""
    load, drain = np.asarray(overlap_load, dtype=bool), np.asarray(overlap_drain, dtype=bool)
    T, is_os = real(grid.streamed) - 2.0, grid.dataflow == Dataflow.OS
    hidden = np.where(is_os, drain, load)
    own = np.where(hidden, 1.0, 2.0)  # times the used rows: their skew, and their load or drain
    last = own * folds.last_rows + T
    ff = own * folds.full_rows + T + folds.full_cols
    fl = own * folds.full_rows + T + folds.last_cols
    lf, ll = last + folds.full_cols, last + folds.last_cols
    if not hidden.any():
        return FoldCycles(ff, fl, lf, ll, ll)
    # A load or drain hidden behind a shorter stream shows what is left of it (see `timing.fold_cycles`).
    late = np.where(hidden, folds.full_rows, 0.0)
    return FoldCycles(
        ff=ff,
        fl=fl,
        lf=np.maximum(lf, late),
        ll=np.maximum(ll, late),
        very_last=np.where(is_os, np.maximum(ll, late), ll),
    )
