"""Operators that move values: concatenating, slicing, padding, looking up, scattering, sorting, running totals.

Values of any type pass. An index outside its axis is an error of the data, named with the layer.
"""

from collections.abc import Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from picojoule.sim import attributes as at
from picojoule.sim.errors import InputError
from picojoule.sim.ir import Layer
from picojoule.sim.numerics.float_windows import padding_of


def concat(layer: Layer, x: Sequence[Tensor], batch: int) -> list[Tensor]:
    """Return the operands one after the other along an axis."""
    assert isinstance(layer.attributes, at.ConcatAttributes)
    return [torch.cat(list(x), layer.attributes.axis)]


def split(layer: Layer, x: Sequence[Tensor], batch: int) -> list[Tensor]:
    """Return the pieces along an axis."""
    assert isinstance(layer.attributes, at.SplitAttributes)
    return list(torch.split(x[0], list(layer.attributes.sizes), layer.attributes.axis))


def slice_(layer: Layer, x: Sequence[Tensor], batch: int) -> list[Tensor]:
    """Return strided slices; a negative step runs backwards."""
    a = layer.attributes
    assert isinstance(a, at.SliceAttributes)
    value = x[0]
    for axis, start, stop, step in zip(a.axes, a.starts, a.stops, a.steps, strict=True):
        if axis == layer.operands[0].type.batch_axis == layer.results[0].type.batch_axis:
            continue  # the whole batch axis, whatever its size now
        positions = torch.arange(start, stop, step)
        value = value.index_select(axis, positions)
    return [value]


def pad(layer: Layer, x: Sequence[Tensor], batch: int) -> list[Tensor]:
    """Return a padded value; a negative count cuts."""
    a = layer.attributes
    assert isinstance(a, at.PadAttributes)
    value = x[0]
    if a.mode == "constant":
        return [F.pad(value, padding_of(a.begin, a.end), value=a.value)]
    for axis, (begin, end) in enumerate(zip(a.begin, a.end, strict=True)):
        if begin or end:
            value = value.index_select(axis, _padded_places(a.mode, value.shape[axis], begin, end))
    return [value]


def _padded_places(mode: str, size: int, begin: int, end: int) -> Tensor:
    """Return which element stands at each place of a padded axis."""
    place = torch.arange(-begin, size + end)
    if mode == "wrap":
        return place % size
    if mode == "edge":
        return place.clamp(0, size - 1)
    period = max(1, 2 * (size - 1))  # reflect: forwards and back without repeating the ends
    return size - 1 - (place % period - (size - 1)).abs()


def reshape(layer: Layer, x: Sequence[Tensor], batch: int) -> list[Tensor]:
    """Return the same elements in the result's shape."""
    return [x[0].reshape(layer.results[0].type.at(batch))]


def transpose(layer: Layer, x: Sequence[Tensor], batch: int) -> list[Tensor]:
    """Return permuted axes."""
    assert isinstance(layer.attributes, at.TransposeAttributes)
    return [x[0].permute(layer.attributes.permutation)]


def expand(layer: Layer, x: Sequence[Tensor], batch: int) -> list[Tensor]:
    """Return the operand broadcast to the result's shape."""
    return [x[0].expand(layer.results[0].type.at(batch))]


def _places(layer: Layer, indices: Tensor, size: int) -> Tensor:
    """Return indices into an axis of `size` elements counted from its start.

    Raises:
        InputError: if one lies outside the axis.

    """
    indices = indices.long()
    if indices.numel():
        low, high = int(indices.min()), int(indices.max())
        if low < -size or high >= size:
            raise InputError(
                f"layer '{layer.name}': index {high if high >= size else low} is outside an axis of {size}; "
                f"indices must lie between {-size} and {size - 1}"
            )
        if low < 0:
            return torch.where(indices < 0, indices + size, indices)
    return indices


def embedding(layer: Layer, x: Sequence[Tensor], batch: int) -> list[Tensor]:
    """Return table.take(indices, axis)."""
    assert isinstance(layer.attributes, at.EmbeddingAttributes)
    axis = layer.attributes.axis
    table, indices = x[0], _places(layer, x[1], x[0].shape[axis])
    taken = table.index_select(axis, indices.reshape(-1))
    return [taken.reshape(*table.shape[:axis], *indices.shape, *table.shape[axis + 1 :])]


def gather(layer: Layer, x: Sequence[Tensor], batch: int) -> list[Tensor]:
    """Return addressed elements or slices."""
    a = layer.attributes
    assert isinstance(a, at.GatherAttributes)
    data, indices = x[0], x[1]
    if a.kind is at.GatherKind.ELEMENTS:
        return [data.gather(a.axis, _places(layer, indices, data.shape[a.axis]))]
    b, depth = a.batch_axes, indices.shape[-1]
    rest = data.shape[b + depth :]
    flat = data.reshape(-1, prod(data.shape[b : b + depth]), *rest)
    rows = _rows(layer, indices, data.shape[b : b + depth]).reshape(len(flat), -1)
    taken = flat[torch.arange(len(flat))[:, None], rows]
    return [taken.reshape(*indices.shape[:-1], *rest)]


def _rows(layer: Layer, indices: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return the position of multi-dimensional indices [..., axes] among the elements of axes of `sizes`, row by row."""
    rows = torch.zeros(indices.shape[:-1], dtype=torch.int64)
    for i, size in enumerate(sizes):
        rows = rows * size + _places(layer, indices[..., i], size)
    return rows


_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def scatter(layer: Layer, x: Sequence[Tensor], batch: int) -> list[Tensor]:
    """Return data with updates written to the addressed elements or slices.

    Without a reduction, several updates of one element leave one of them (ONNX leaves open which).
    """
    a = layer.attributes
    assert isinstance(a, at.ScatterAttributes)
    data, indices, updates = x
    updates = updates.to(data.dtype)
    if a.kind is at.GatherKind.ELEMENTS:
        return [_scattered(data, a.axis, _places(layer, indices, data.shape[a.axis]), updates, a.reduction)]
    depth = indices.shape[-1]
    width = prod(data.shape[depth:])
    rows = _rows(layer, indices, data.shape[:depth]).reshape(-1, 1).expand(-1, width)
    flat = data.reshape(-1, width)
    return [_scattered(flat, 0, rows, updates.reshape(-1, width), a.reduction).reshape(data.shape)]


def _scattered(data: Tensor, axis: int, indices: Tensor, updates: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return data.scatter(axis, indices, updates)
    return data.scatter_reduce(axis, indices, updates, _REDUCTIONS[reduction])


def sort(layer: Layer, x: Sequence[Tensor], batch: int) -> list[Tensor]:
    """Return the first values in order and their indices; of equal values the one with the lower index comes first.

    That is the rule of ONNX TopK and of a stable sort; `torch.topk` leaves the order of equal values open.
    """
    a = layer.attributes
    assert isinstance(a, at.SortAttributes)
    values, indices = torch.sort(x[0], dim=a.axis, descending=a.largest, stable=True)
    return [values.narrow(a.axis, 0, a.count), indices.narrow(a.axis, 0, a.count)]


def cumulative(layer: Layer, x: Sequence[Tensor], batch: int) -> list[Tensor]:
    """Return running sums or products."""
    a = layer.attributes
    assert isinstance(a, at.CumulativeAttributes)
    total, start = (torch.cumsum, 0) if a.kind is at.CumulativeKind.SUM else (torch.cumprod, 1)
    value = x[0].flip(a.axis) if a.reverse else x[0]
    if a.exclusive:
        first = torch.full_like(value.narrow(a.axis, 0, 1), start)
        value = torch.cat([first, value.narrow(a.axis, 0, value.shape[a.axis] - 1)], a.axis)
    made = total(value, a.axis)
    return [made.flip(a.axis) if a.reverse else made]
