"""The inputs of an ONNX graph: which axis is the batch, and which sizes the user must give."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from picojoule.sim.errors import InputError, UnsupportedError, nearest
from picojoule.sim.importers.onnx_values import Ints
from picojoule.sim.ir import TensorType

BATCH_NAMES = frozenset({"n", "b", "batch", "batch_size", "batchsize", "batch_dim", "bs", "num_batch", "unk__batch"})
"""What exporters call the batch."""
LARGEST_SIZE = 2**31 - 1
"""One axis beyond this overflows what accelerators address."""
_CHANNELS, _IMAGE_SIDE = 3, 224
_LENGTH = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphInput:
    """One declared input: a size, a name (symbolic) or None (open) per axis; `dims` None where no rank is declared."""

    name: str
    dims: tuple[int | str | None, ...] | None
    data_type: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedInputs:
    """Types by input name; sizes by symbolic name; remarks.

    `open_batch`: the file leaves the batch open. `resized`: an input is taken with sizes other than those declared.
    """

    types: Mapping[str, TensorType]
    symbols: Mapping[str, int]
    notes: tuple[str, ...]
    open_batch: bool
    resized: bool = False


def declared_inputs(graph: Any, file: str) -> list[GraphInput]:
    """Return the inputs that are no initializers.

    Raises:
        UnsupportedError: for an input that is no tensor.

    """
    stored = {i.name for i in graph.initializer}
    found = []
    for declared in graph.input:
        if declared.name in stored:
            continue
        if declared.type.WhichOneof("value") not in ("tensor_type", None):
            raise UnsupportedError(
                f"{file}: input '{declared.name}' is a sequence, map or optional; only tensors are read"
            )
        tensor = declared.type.tensor_type
        dims = tuple(_dim(d) for d in tensor.shape.dim) if tensor.HasField("shape") else None
        found.append(GraphInput(name=declared.name, dims=dims, data_type=int(tensor.elem_type)))
    return found


def _dim(dim: Any) -> int | str | None:
    if dim.dim_param:
        return str(dim.dim_param)
    return int(dim.dim_value) if dim.dim_value > 0 else None


def resolve_inputs(
    inputs: Sequence[GraphInput], given: Mapping[str | None, tuple[int, ...]], file: str
) -> ResolvedInputs:
    """Return the type of every input for one sample.

    The batch axis is the one whose name says so, else axis 0 where it is open or 1; a given shape sets none of it.

    Raises:
        InputError: for a size that nobody gives, a shape that does not fit, or a name that is no input.

    """
    shapes = _by_name(inputs, given, file)
    axes = {i.name: _batch_axis(i) for i in inputs}
    symbols = {d: 1 for i in inputs for a, d in enumerate(i.dims or ()) if isinstance(d, str) and a == axes[i.name]}
    notes: list[str] = []
    batched = _fixed_batch(inputs, shapes) if all(a is None for a in axes.values()) else None
    if batched:
        notes.append(f"the graph is fixed to batch {batched}; counts are for that batch")
    types = {}
    for declared in inputs:
        shape = shapes.get(declared.name)
        axis = 0 if batched else axes[declared.name]
        if shape is None:
            sizes = _declared_sizes(declared, axis, symbols, file)
        else:
            sizes = _given_sizes(declared, shape, axis, notes, file)
            symbols.update((d, s) for d, s in zip(declared.dims or (), sizes, strict=False) if isinstance(d, str))
        types[declared.name] = TensorType(shape=sizes, batch_axis=axis if sizes else None)
    if inputs and all(t.batch_axis is None for t in types.values()):
        notes.append("no input has a batch axis; a batch multiplies nothing")
    opened = any(not isinstance(i.dims[a], int) for i in inputs if i.dims and (a := axes[i.name]) is not None)
    resized = any(
        isinstance(d, int) and d != s for i in inputs for d, s in zip(i.dims or (), types[i.name].shape, strict=False)
    )
    return ResolvedInputs(types=types, symbols=symbols, notes=tuple(notes), open_batch=opened, resized=resized)


def _by_name(
    inputs: Sequence[GraphInput], given: Mapping[str | None, tuple[int, ...]], file: str
) -> dict[str, tuple[int, ...]]:
    names = [i.name for i in inputs]
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in given.items():
        if name is None and len(names) != 1:
            listed = ", ".join(f"'{n}'" for n in names)
            raise InputError(f"{file} has {len(names)} inputs ({listed}); name one: --input-shape NAME=1,3,224,224")
        chosen = names[0] if name is None else name
        if chosen not in names:
            listed = ", ".join(f"'{n}'" for n in names)
            raise InputError(f"{file} has no input '{chosen}'{nearest(chosen, names)} (its inputs: {listed})")
        if any(not 1 <= s <= LARGEST_SIZE for s in shape):
            raise InputError(
                f"{file}: sizes of input '{chosen}' must be between 1 and {LARGEST_SIZE}, got {list(shape)}"
            )
        shapes[chosen] = tuple(shape)
    return shapes


def _batch_axis(declared: GraphInput) -> int | None:
    """Return the axis named like a batch, else axis 0 where it is open or 1, else None."""
    if declared.dims is None:
        return 0
    for axis, dim in enumerate(declared.dims):
        if isinstance(dim, str) and dim.lower() in BATCH_NAMES:
            return axis
    return 0 if declared.dims and (not isinstance(declared.dims[0], int) or declared.dims[0] == 1) else None


def _fixed_batch(inputs: Sequence[GraphInput], shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    """Return the size above 1 that every input fixes on axis 0, or None."""
    firsts = {i.dims[0] if i.dims and i.name not in shapes else None for i in inputs}
    first = firsts.pop() if len(firsts) == 1 else None
    return first if isinstance(first, int) and first > 1 else None


def _declared_sizes(declared: GraphInput, axis: int | None, symbols: Mapping[str, int], file: str) -> Ints:
    if declared.dims is None:
        example = f"1,{_CHANNELS},{_IMAGE_SIDE},{_IMAGE_SIDE}"
        raise InputError(
            f"{file}: input '{declared.name}' declares no shape; give it, for instance "
            f"--input-shape {declared.name}={example}"
        )
    sizes: list[int | None] = []
    for i, dim in enumerate(declared.dims):
        known = dim if isinstance(dim, int) else symbols.get(dim) if isinstance(dim, str) else None
        sizes.append(1 if i == axis and not isinstance(dim, int) else known)
    if None in sizes:
        missing = sizes.index(None)
        named = f" ('{declared.dims[missing]}')" if declared.dims[missing] else ""
        example = ",".join(str(_example(i, declared.dims) if s is None else s) for i, s in enumerate(sizes))
        raise InputError(
            f"{file}: input '{declared.name}' leaves axis {missing}{named} open; give its shape, for instance "
            f"--input-shape {declared.name}={example}"
        )
    return tuple(s for s in sizes if s is not None)


def _example(axis: int, dims: Sequence[int | str | None]) -> int:
    """Return a size to show: of an image [batch, channels, height, width], else of a sequence."""
    if len(dims) != 4:
        return _LENGTH
    return _CHANNELS if axis == 1 else _IMAGE_SIDE


def _given_sizes(declared: GraphInput, shape: tuple[int, ...], axis: int | None, notes: list[str], file: str) -> Ints:
    if declared.dims is not None and len(declared.dims) != len(shape):
        raise InputError(f"{file}: input '{declared.name}' has {len(declared.dims)} axes, got the shape {list(shape)}")
    sizes = tuple(1 if i == axis else s for i, s in enumerate(shape))
    if axis is not None and shape and shape[axis] != 1:
        notes.append(
            f"input '{declared.name}': axis {axis} of the given shape {list(shape)} is the batch; "
            "counts are per sample times the batch asked for"
        )
    fixed = declared.dims or ()
    if any(isinstance(d, int) and d != s for i, (d, s) in enumerate(zip(fixed, sizes, strict=False)) if i != axis):
        notes.append(f"input '{declared.name}' is declared as {list(fixed)} in the file and taken as {list(sizes)}")
    return sizes
