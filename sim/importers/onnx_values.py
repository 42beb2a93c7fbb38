"""What the operators of an ONNX graph work on while it is imported: nodes and values known at import."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from picojoule.sim.formats import NumberFormat
from picojoule.sim.ir import Operand, OperandKind, TensorType
from picojoule.sim.weights import FILL_NOTE, Weights, from_array

Array = NDArray[Any]
Ints = tuple[int, ...]


class UnhandledError(Exception):
    """A use of an operator that the workload cannot say; the node becomes opaque, with this reason."""


class BatchError(UnhandledError):
    """A use that mixes the samples of a batch: it can be said for the one size that the graph is read with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node of the graph; absent inputs and outputs have empty names. `name` is its layer's name."""

    op: str
    domain: str
    name: str
    source: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    opset: int

    def has(self, position: int) -> bool:
        """Whether the input at `position` is given."""
        return position < len(self.inputs) and self.inputs[position] != ""

    def ints(self, key: str, default: Ints = ()) -> Ints:
        """Return an attribute of integers."""
        return tuple(int(v) for v in self.attributes.get(key, default))

    def integer(self, key: str, default: int) -> int:
        """Return an integer attribute."""
        return int(self.attributes.get(key, default))

    def real(self, key: str, default: float) -> float:
        """Return a real attribute, as the decimal that a person wrote (files store float32)."""
        return float(str(np.float32(self.attributes.get(key, default))))

    def text(self, key: str, default: str) -> str:
        """Return a text attribute."""
        value = self.attributes.get(key, default)
        return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fixed:
    """A value known at import: stored in the file or computed from shapes.

    `stored` says that it stems from the file's values. `at_two` is the value for a batch of two samples where it
    differs (a shape that was asked for at run time), so that the batch can be followed through arithmetic on shapes.
    `steps` counts the arithmetic behind values that are computed when they are loaded.
    `format` is how the file stores the values; `step` the size of one integer step, one number or one per element of
    `step_axis`. `turned` is the stored matrix that this one is the transpose of.
    """

    name: str
    weights: Weights
    dtype: np.dtype[Any]
    stored: bool
    at_two: Array | None = None
    steps: int = 0
    format: NumberFormat | None = None
    step: tuple[float, ...] | None = None
    step_axis: int | None = None
    turned: "Fixed | None" = None

    @property
    def shape(self) -> Ints:
        """Shape for one sample."""
        return self.weights.shape

    @property
    def floating(self) -> bool:
        """Whether the values are real numbers."""
        return bool(np.issubdtype(self.dtype, np.floating))

    def array(self) -> Array:
        """Return the values for one sample.

        Raises:
            ValueError: for one number repeated so often that looking at each would take minutes.

        """
        if self.weights.note == FILL_NOTE and self.weights.elements > _LARGEST_FILL:
            raise ValueError(f"'{self.name}' repeats one number {self.weights.elements} times")
        return self.weights.array()

    def mapped(self, shape: Ints, change: Callable[[Array], Array]) -> Weights:
        """Return a handle on `change(values)` of the given shape, computed when loaded."""
        load = self.weights.load

        def changed() -> Array:
            with np.errstate(all="ignore"):  # what becomes infinite or NaN is refused with the other weights
                return change(load())

        return Weights(shape=shape, load=changed, note=self.weights.note)


Value = Operand | Fixed
_LARGEST_FILL = 1 << 24
"""Elements of one repeated number that a handler may look at; the tensor itself takes no memory."""


_LARGEST_MADE = 1 << 26
"""Elements of an array that is made because of sizes alone: a mask, positions, a diagonal."""


def affordable(elements: int) -> int:
    """Return a number of elements that an importer may make; a file asks for terabytes in a few bytes."""
    if elements > _LARGEST_MADE:
        raise UnhandledError(f"it needs a made-up array of {elements} elements")
    return elements


def number(name: str, values: Any, dtype: Any = np.float32) -> Fixed:
    """Return a fixed value that an importer needs beside those of the file."""
    with np.errstate(all="ignore"):
        array = np.asarray(values, dtype=dtype)
    return Fixed(name=name, weights=from_array(array, note="constant"), dtype=array.dtype, stored=False)


def weights_operand(kind: OperandKind, name: str, weights: Weights) -> Operand:
    """Return an operand for values that do not depend on the input."""
    return Operand(kind=kind, name=name, type=TensorType(shape=weights.shape), weights=weights)


def grown_axis(one: Sequence[int], two: Sequence[int]) -> int | None:
    """Return the only axis whose size doubles from a batch of one to a batch of two, or None."""
    if len(one) != len(two):
        return None
    differing = [i for i, (p, q) in enumerate(zip(one, two, strict=True)) if p != q]
    return differing[0] if len(differing) == 1 and two[differing[0]] == 2 * one[differing[0]] else None


def renamed(value: Value, name: str) -> Value:
    """Return a fixed value under another name; values of layers keep theirs."""
    return replace(value, name=name) if isinstance(value, Fixed) else value
