"""How matrix products are cut into folds that fit an R x C array, for all dataflows (see `timing`)."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from picojoule.sim.errors import InputError, unknown_choice

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


def int64(value: npt.ArrayLike) -> IntArray:
    """Return numbers as an int64 array."""
    return np.asarray(value, dtype=np.int64)


class Dataflow(IntEnum):
    """Which operand stays in the PEs; integer codes, so that one array may hold designs of different dataflows."""

    OS = 0
    WS = 1
    IS = 2

    @classmethod
    def of(cls, word: str) -> "Dataflow":
        """Return the dataflow written `os`, `ws` or `is`.

        Raises:
            InputError: for any other word.

        """
        names = {member.name.lower(): member for member in cls}
        if word not in names:
            raise InputError(unknown_choice("dataflow", word, list(names)))
        return names[word]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldGrid:
    """How products lie on the array: sizes along its rows and columns, folds of each, and the streamed length T.

    `first_rows` is the used rows of the first row fold; `last_rows` and `last_cols` are those of the last (edge)
    folds.
    """

    dataflow: IntArray
    row_size: IntArray
    col_size: IntArray
    streamed: IntArray
    row_folds: IntArray
    col_folds: IntArray
    first_rows: IntArray
    last_rows: IntArray
    last_cols: IntArray

    @property
    def folds(self) -> IntArray:
        """Folds of one group."""
        return self.row_folds * self.col_folds


def fold_grid(
    dataflow: npt.ArrayLike,
    rows: npt.ArrayLike,
    cols: npt.ArrayLike,
    m: npt.ArrayLike,
    n: npt.ArrayLike,
    k: npt.ArrayLike,
) -> FoldGrid:
    """Return the folds of products m x n x k (one group each) on rows x cols arrays.

    Raises:
        InputError: if a code in `dataflow` is not a `Dataflow`.

    """
    code, R, C, M, N, K = (int64(value) for value in (dataflow, rows, cols, m, n, k))
    if code.size and (code.min() < Dataflow.OS or code.max() > Dataflow.IS):
        raise InputError("dataflow codes must be members of Dataflow (OS, WS, IS)")
    is_os, is_is = code == Dataflow.OS, code == Dataflow.IS
    row_size = np.where(is_os, M, K)
    col_size = np.where(is_is, M, N)
    row_folds, col_folds = -(-row_size // R), -(-col_size // C)
    return FoldGrid(
        dataflow=code,
        row_size=row_size,
        col_size=col_size,
        streamed=np.where(is_os, K, np.where(is_is, N, M)),
        row_folds=row_folds,
        col_folds=col_folds,
        first_rows=np.minimum(R, row_size),
        last_rows=row_size - (row_folds - 1) * R,
        last_cols=col_size - (col_folds - 1) * C,
    )


def packed_groups(grid: FoldGrid, rows: npt.ArrayLike, cols: npt.ArrayLike, groups: npt.ArrayLike) -> IntArray:
    """Return how many groups share a fold: as many as fit it whole, 1 where a group needs more than one fold."""
    fitting = np.minimum(int64(rows) // grid.row_size, int64(cols) // grid.col_size)
    packed: IntArray = np.maximum(1, np.minimum(fitting, int64(groups)))
    return packed
