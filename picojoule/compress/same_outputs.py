"""Whether two modules give the same: their outputs as a flat list of tensors, compared within float32 rounding."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

TOLERANCE = 1e-3
"""Largest difference relative to the largest output (float32 sums in another order)."""


def output_tensors(result: object) -> list[Tensor]:
    """Return the tensors in what a module gave: a tensor, or lists, tuples and mappings of them, however nested."""
    if isinstance(result, Tensor):
        return [result]
    parts = result.values() if isinstance(result, Mapping) else result if isinstance(result, list | tuple) else ()
    return [tensor for part in parts for tensor in output_tensors(part)]


def same_outputs(got: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    """Return whether all tensors agree in shape and value; NaN and infinity agree with their like."""
    return len(got) == len(expected) and all(_close(a, b) for a, b in zip(got, expected, strict=True))


def _close(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape:
        return False
    a, b = a.double(), b.double()
    finite = b.isfinite()
    if not torch.equal(a.isfinite(), finite) or not torch.allclose(a[~finite], b[~finite], equal_nan=True):
        return False
    a, b = a[finite], b[finite]
    return not b.numel() or bool((a - b).abs().max() <= TOLERANCE * max(float(b.abs().max()), 1e-6))
