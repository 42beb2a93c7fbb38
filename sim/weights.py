"""Handles on weights: loaded when asked for, hashed by content, never copied into records."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

FILL_NOTE = "constant fill"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Weights:
    """A tensor somebody else holds.

    `load` returns it as an array of `shape`. `origin`, where there is one, returns it as a torch tensor through which
    gradients reach the parameters it is computed from. `note` says where the values come from (`file`, `random`, ...).
    """

    shape: tuple[int, ...]
    load: Callable[[], NDArray[np.generic]]
    origin: "Callable[[], torch.Tensor] | None" = None
    note: str = "file"

    def array(self) -> NDArray[np.generic]:
        """Return the values, shape `shape`."""
        return self.load()

    @property
    def elements(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    def digest(self) -> str:
        """Return a SHA-256 over type, shape and bytes."""
        values = np.ascontiguousarray(self.array())
        head = f"{values.dtype.str}{values.shape}".encode()
        return hashlib.sha256(head + values.tobytes()).hexdigest()

    def finite(self) -> bool:
        """Whether no value is NaN or infinite."""
        values = self.array()
        if not np.issubdtype(values.dtype, np.floating):
            return True
        values = values[tuple(slice(None) if stride else slice(1) for stride in values.strides)]  # repeats say no more
        with np.errstate(all="ignore"):  # the sum is a quick test: it is finite unless something is not (or overflows)
            total = np.sum(values, dtype=np.float64)
        return bool(np.isfinite(total)) or bool(np.all(np.isfinite(values)))


def from_array(values: NDArray[np.generic], note: str = "file") -> Weights:
    """Return a handle on an array that is already in memory."""
    return Weights(shape=tuple(values.shape), load=lambda: values, note=note)


def is_fill(values: NDArray[np.generic]) -> bool:
    """Whether an array is one repeated value that was never allocated (or a single number)."""
    return values.size > 0 and not any(values.strides)


def constant_fill(value: float, shape: tuple[int, ...], dtype: str = "float32") -> Weights:
    """Return a handle on a tensor of one repeated value, which is never allocated."""
    return Weights(shape=shape, load=lambda: np.broadcast_to(np.array(value, dtype=dtype), shape), note=FILL_NOTE)
