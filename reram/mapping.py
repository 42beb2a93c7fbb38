"""Where a layer's weights lie: crossbars, IMAs and copies, as array functions over layers x design points.

A group of a layer is a matrix of k rows (window inputs) and n outputs of K slices. Rows are cut into ceil(k / R)
pieces; a crossbar holds floor(C / K) outputs, because the slices of a weight do not straddle crossbars. Positive and
negative cells (differential, split) lie in crossbars of their own. Several groups that fit one crossbar are packed
along its diagonal, where they share neither rows nor columns and so work at once. A layer has its IMAs to itself. A
tensor that two layers share is stored twice.
"""

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from picojoule.reram.crossbar import Encoding
from picojoule.reram.spec import ReramSpec, slices_of, steps_of
from picojoule.sim.errors import InfeasibleError
from picojoule.sim.gemm import Gemm

Array = npt.NDArray[np.int64]
_INT64_SAFE = 1 << 62


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiling:
    """One copy of the layers' weights in crossbars; every field is int64 of the broadcast shape.

    Cells are counted over all crossbars: `row_cells` lie on wordlines in use, `block_cells` also on bitlines in use,
    and `used_cells` hold a weight (the rest of the blocks is off the diagonal of packed groups).
    """

    crossbars: Array
    row_tiles: Array
    column_tiles: Array
    packed_groups: Array
    row_cells: Array
    block_cells: Array
    used_cells: Array


def tile_weights(
    k: npt.ArrayLike,
    n: npt.ArrayLike,
    groups: npt.ArrayLike,
    slices: npt.ArrayLike,
    polarities: npt.ArrayLike,
    rows: npt.ArrayLike,
    cols: npt.ArrayLike,
) -> Tiling:
    """Return how matrices k x n (`groups` of them) lie in crossbars of rows x cols; all arguments broadcast.

    `slices` must be at most `cols`. Nothing is checked for int64 overflow: the caller bounds the sizes.
    """
    arguments = (k, n, groups, slices, polarities, rows, cols)
    k_, n_, g, s, p, r, c = (np.asarray(a, dtype=np.int64) for a in arguments)
    outputs = c // s
    row_tiles, column_tiles = -(-k_ // r), -(-n_ // outputs)
    pack = np.minimum(g, np.maximum(1, np.minimum(r // k_, outputs // n_)))
    full, rest = np.divmod(g, pack)
    crossbars = (full + (rest > 0)) * row_tiles * column_tiles * p
    blocks = full * pack**2 + rest**2
    return Tiling(
        crossbars=crossbars,
        row_tiles=row_tiles + 0 * crossbars,
        column_tiles=column_tiles + 0 * crossbars,
        packed_groups=pack + 0 * crossbars,
        row_cells=g * k_ * column_tiles * p * c,
        block_cells=np.where(pack > 1, blocks, g) * k_ * n_ * s * p,
        used_cells=g * k_ * n_ * s * p,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerMapping:
    """One layer on one design; all counts but `copies` are of one copy, and copies share the positions.

    `waits` counts the products of one step of a recurrent layer that wait for each other (0: no position waits for another).
    Where not all rows are on at once (`rows_active`), a crossbar, with all groups packed in it, is read `row_groups` times a
    step, and `row_reads` counts the reads of an output's row tiles. `columns_per_slice` are converted in a step. `read_s` is
    the time of one read, which follows the widest conversion. What is multiplied with is written `writes` times (0: it
    stays), in `write_s` each.
    """

    gemm: Gemm
    weight_bits: int
    input_bits: int
    slices: int
    steps: int
    row_tiles: int
    column_tiles: int
    packed_groups: int
    crossbars: int
    row_cells: int
    block_cells: int
    used_cells: int
    imas: int
    row_groups: int
    row_reads: int
    columns_per_slice: int
    read_s: float
    copies: int = 1
    waits: int = 0
    writes: int = 0
    write_s: float = 0.0

    def with_reads_of(self, seconds: float) -> Self:
        """Return the same layer with reads of another length."""
        return self if seconds == self.read_s else replace(self, read_s=seconds)

    @property
    def reads(self) -> int:
        """Reads of every row, all positions."""
        return self.steps * self.gemm.m

    @property
    def positions(self) -> int:
        """Positions that copies can share: all, but only those of one step where steps wait for each other."""
        return self.gemm.m // self.gemm.steps

    @property
    def turns(self) -> int:
        """How often the positions come, one turn waiting for the last."""
        return self.gemm.steps * max(1, self.waits)

    @property
    def reading_s(self) -> float:
        """The time its crossbars read: one product takes `steps` reads of every group of rows."""
        return self._reading_s(self.positions)

    @property
    def writing_s(self) -> float:
        """The time its crossbars are written in."""
        return self.writes * self.write_s

    def service_s(self, spec: ReramSpec) -> float:
        """Return the time its crossbars are taken: writing, reading, and the way through the unit where a turn waits for it."""
        return self.writing_s + self.reading_s + self._waiting_s(spec)

    def sample_s(self, batch: int, spec: ReramSpec) -> float:
        """Return the time one of `batch` samples takes alone; copies speed it up where it has several positions a turn."""
        alone = self._reading_s(max(1, self.positions // batch))
        return self.writing_s / batch + alone + self._waiting_s(spec)

    def _reading_s(self, positions: int) -> float:
        return self.turns * -(-positions // self.copies) * self.steps * self.row_groups * self.read_s

    def _waiting_s(self, spec: ReramSpec) -> float:
        return self.turns * spec.pipeline_reads * self.read_s if self.waits else 0.0


def map_layer(
    gemm: Gemm,
    weight_bits: int,
    input_bits: int,
    signed: bool,
    spec: ReramSpec,
    where: str,
    *,
    waits: int = 0,
    writes: int = 0,
) -> LayerMapping:
    """Return one copy of a layer's weights on this design; `waits` and `writes` as in `LayerMapping`.

    Its reads last as long as the array settles, until somebody knows the converters.

    Raises:
        InfeasibleError: if a crossbar is narrower than one weight, or the sizes leave int64.

    """
    slices = slices_of(spec, weight_bits)
    rows, cols = spec.crossbar_rows, spec.crossbar_cols
    if slices > cols:
        raise InfeasibleError(
            f"{where}: a {weight_bits}-bit weight takes {slices} cells of a row but a crossbar has {cols} columns; "
            "widen crossbar_cols or use fewer bits"
        )
    if (gemm.k + rows) * (gemm.n * slices + cols) * 2 * cols * gemm.groups > _INT64_SAFE:
        raise InfeasibleError(f"{where}: {gemm.groups} matrices of {gemm.k} x {gemm.n} weights are too many to map")
    made = tile_weights(gemm.k, gemm.n, gemm.groups, slices, spec.polarities, rows, cols)
    counts: dict[str, Any] = {name: int(getattr(made, name)) for name in Tiling.__slots__}
    read_groups = _row_groups(gemm.k, spec)
    one_tile = counts["packed_groups"] > 1
    apart = 2 if spec.encoding is Encoding.SPLIT else 1
    return LayerMapping(
        gemm=gemm,
        weight_bits=weight_bits,
        input_bits=input_bits,
        slices=slices,
        steps=steps_of(spec, input_bits, signed),
        imas=-(-counts["crossbars"] // spec.crossbars_per_ima),
        row_groups=_packed_reads(counts["packed_groups"], gemm.k, spec) if one_tile else max(read_groups),
        row_reads=sum(read_groups),
        columns_per_slice=gemm.groups * gemm.n * sum(read_groups) * apart,
        read_s=spec.read_ns * 1e-9,
        waits=waits,
        writes=writes,
        write_s=write_seconds(min(gemm.k, rows), spec) if writes else 0.0,
        **counts,
    )


def _row_groups(rows: int, spec: ReramSpec) -> list[int]:
    """Return the reads per step of each row tile: tiles are of about equal size, and groups hold `rows_active` rows."""
    tiles = -(-rows // spec.crossbar_rows)
    if spec.rows_active is None:
        return [1] * tiles
    size, larger = divmod(rows, tiles)
    heights = [size + 1] * larger + [size] * (tiles - larger)
    return [-(-height // spec.rows_active) for height in heights]


def _packed_reads(groups: int, k: int, spec: ReramSpec) -> int:
    """Return the reads per step of a crossbar of packed groups of `k` rows: those of whole groups share one where they fit."""
    active = spec.rows_active or spec.crossbar_rows
    return -(-groups // (active // k)) if k <= active else groups * -(-k // active)


def write_seconds(rows: int, spec: ReramSpec) -> float:
    """Return the time of writing crossbars of so many rows, all at once: row after row, a verifying read after each pulse."""
    return rows * spec.write_pulses * (spec.write_ns + spec.read_ns) * 1e-9
