"""Constant folding: operators whose inputs are all known at import are computed there, in numpy.

Small arrays (sizes, axes, bounds) are computed at once; large ones (a transposed or cast weight) when they are loaded.
Arithmetic on shapes is done twice, for one sample and for two, so that what depends on the batch shows.
Semantics: ONNX operator reference, opset 7 and later.
"""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from picojoule.sim.importers.onnx_file import LARGEST_ELEMENTS, LARGEST_RANK, numpy_dtype
from picojoule.sim.importers.onnx_values import Array, Fixed, Node
from picojoule.sim.weights import FILL_NOTE, Weights, constant_fill

EAGER_ELEMENTS = 1 << 16
"""Arrays up to this size are computed at import."""
LARGEST_EAGER_ELEMENTS = 1 << 24
"""Arrays up to this size may be computed at import where the result's shape depends on the values."""
LARGEST_GROWN_ELEMENTS = 1 << 22
"""Elements that stored values may be broadcast to and still be computed at import, or when they are loaded."""
LARGEST_LIST = 1 << 16
"""Elements of an input that lists sizes, axes or bounds."""
MOST_STEPS = 64
"""Steps of arithmetic behind a value that is computed when it is loaded; those of shared operands count each time."""
Inputs = Sequence[Array | None]
Fold = Callable[[Node, Inputs], Sequence[Array]]


def _at(inputs: Inputs, i: int) -> Array | None:
    return inputs[i] if i < len(inputs) else None


def _given(inputs: Inputs, i: int) -> Array:
    found = _at(inputs, i)
    if found is None:
        raise ValueError(f"input {i} is missing")
    return found


def _list(node: Node, inputs: Inputs, key: str, i: int) -> list[int] | None:
    found = _at(inputs, i)
    if found is not None:
        if found.size > LARGEST_LIST:
            raise ValueError(f"its input {i} lists {found.size} sizes or axes")
        return [int(v) for v in found.reshape(-1)]
    return list(node.ints(key)) if key in node.attributes else None


def _bounded(elements: int, largest: int = LARGEST_EAGER_ELEMENTS) -> None:
    if elements > largest:
        raise ValueError(f"its result has {elements} elements, which are too many to compute at import")


def _divide(a: Array, b: Array) -> Array:
    if a.dtype.kind not in "iu":
        return np.asarray(a / b)
    quotient = np.abs(a) // np.abs(b)  # ONNX truncates towards zero
    return np.asarray(np.where((a < 0) != (b < 0), -quotient, quotient))


def _many(function: Callable[[Array, Array], Array]) -> Callable[..., Array]:
    def folded(*arrays: Array) -> Array:
        result = arrays[0]
        for other in arrays[1:]:
            result = function(result, other)
        return result

    return folded


_ARITHMETIC: Mapping[str, Callable[..., Array]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": _divide,
    "Pow": lambda a, b: np.power(a.astype(np.float64), b),
    "Max": _many(np.maximum),
    "Min": _many(np.minimum),
    "Sum": _many(np.add),
    "Neg": np.negative,
    "Abs": np.abs,
    "Sqrt": np.sqrt,
    "Exp": np.exp,
    "Log": np.log,
    "Sin": np.sin,
    "Cos": np.cos,
    "Tanh": np.tanh,
    "Floor": np.floor,
    "Ceil": np.ceil,
    "Round": np.rint,
    "Sign": np.sign,
    "Reciprocal": lambda a: np.divide(1, a),
    "Relu": lambda a: np.maximum(a, 0),
}
_LOGIC: Mapping[str, Callable[..., Array]] = {
    "Equal": np.equal,
    "Less": np.less,
    "Greater": np.greater,
    "LessOrEqual": np.less_equal,
    "GreaterOrEqual": np.greater_equal,
    "And": np.logical_and,
    "Or": np.logical_or,
    "Xor": np.logical_xor,
    "Not": np.logical_not,
}


def _elementwise(node: Node, inputs: Inputs) -> Sequence[Array]:
    arrays = [a for a in inputs if a is not None]
    if node.op in _LOGIC:
        return [np.asarray(_LOGIC[node.op](*arrays), dtype=np.bool_)]
    if node.op == "Where":
        return [np.where(arrays[0], arrays[1], arrays[2])]
    if node.op == "Mod":
        remainder = np.fmod if node.integer("fmod", 0) else np.mod
        return [np.asarray(remainder(arrays[0], arrays[1]), dtype=arrays[0].dtype)]
    return [np.asarray(_ARITHMETIC[node.op](*arrays)).astype(arrays[0].dtype)]


def _cast(node: Node, inputs: Inputs) -> Sequence[Array]:
    target = node.attributes["like"] if node.op == "CastLike" else numpy_dtype(node.integer("to", 0), node.op)
    if target.isbuiltin != 1 or (target.kind == "f" and target.itemsize < 4):  # narrow floats are computed in float32
        target = np.dtype(np.float32)
    return [_given(inputs, 0).astype(target)]


def _gather(node: Node, inputs: Inputs) -> Sequence[Array]:
    x, indices, axis = _given(inputs, 0), _given(inputs, 1).astype(np.int64), node.integer("axis", 0)
    _bounded(indices.size * (x.size // max(1, x.shape[axis])))
    return [np.take(x, indices, axis=axis)]


def _range(node: Node, inputs: Inputs) -> Sequence[Array]:
    start, limit, delta = (_given(inputs, i).reshape(-1)[0] for i in range(3))
    _bounded(int(max(0, (float(limit) - float(start)) / float(delta))))
    return [np.arange(start, limit, delta, dtype=_given(inputs, 0).dtype)]


def _unsqueeze(node: Node, inputs: Inputs) -> Sequence[Array]:
    x, axes = _given(inputs, 0), _list(node, inputs, "axes", 1) or []
    return [np.expand_dims(x, tuple(axes))]


def _squeeze(node: Node, inputs: Inputs) -> Sequence[Array]:
    x, axes = _given(inputs, 0), _list(node, inputs, "axes", 1)
    return [np.squeeze(x, None if axes is None else tuple(axes))]


def _reshape(node: Node, inputs: Inputs) -> Sequence[Array]:
    x, target = _given(inputs, 0), _list(node, inputs, "shape", 1) or []
    if not node.integer("allowzero", 0):
        target = [x.shape[i] if s == 0 else s for i, s in enumerate(target)]
    return [x.reshape(target)]


def _flatten(node: Node, inputs: Inputs) -> Sequence[Array]:
    x, axis = _given(inputs, 0), node.integer("axis", 1)
    lead = x.shape[: axis if axis >= 0 else axis + x.ndim]
    return [x.reshape(prod(lead), -1)]


def _transpose(node: Node, inputs: Inputs) -> Sequence[Array]:
    return [np.transpose(_given(inputs, 0), node.ints("perm") or None)]


def _concat(node: Node, inputs: Inputs) -> Sequence[Array]:
    return [np.concatenate([a for a in inputs if a is not None], axis=node.integer("axis", 0))]


def _expand(node: Node, inputs: Inputs) -> Sequence[Array]:
    x, target = _given(inputs, 0), _list(node, inputs, "shape", 1) or []
    return [np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(target)))]


def _tile(node: Node, inputs: Inputs) -> Sequence[Array]:
    x, repeats = _given(inputs, 0), _list(node, inputs, "repeats", 1) or []
    _bounded(x.size * prod(repeats))
    return [np.tile(x, repeats)]


def slices_of(node: Node, inputs: Inputs, shape: Sequence[int]) -> list[tuple[int, int, int, int]]:
    """Return (axis, start, stop, step) of a Slice, clamped; for a negative step `stop` may be -1."""
    starts, ends = _list(node, inputs, "starts", 1) or [], _list(node, inputs, "ends", 2) or []
    axes = _list(node, inputs, "axes", 3)
    axes = list(range(len(starts))) if axes is None else axes
    steps = _list(node, inputs, "steps", 4) or [1] * len(starts)
    found = []
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if not -len(shape) <= axis < len(shape):
            raise ValueError(f"axis {axis} does not exist in a value of {len(shape)} axes")
        found.append((axis % len(shape), *slice(start, end, step).indices(shape[axis])))
    return found


def _slice(node: Node, inputs: Inputs) -> Sequence[Array]:
    x = _given(inputs, 0)
    index: list[slice] = [slice(None)] * x.ndim
    for axis, start, stop, step in slices_of(node, inputs, x.shape):
        index[axis] = slice(start, None if stop < 0 else stop, step)
    return [x[tuple(index)]]


def split_sizes(node: Node, sizes: Sequence[int] | None, total: int) -> list[int]:
    """Return the piece sizes of a Split: given, or equal, the last one smaller where they do not divide."""
    if sizes is not None:
        return list(sizes)
    pieces = node.integer("num_outputs", len(node.outputs))
    if not 1 <= pieces <= max(1, len(node.outputs)):
        raise ValueError(f"it makes {pieces} pieces and names {len(node.outputs)} results")
    size = -(-total // pieces)
    return [min(size, total - i * size) for i in range(pieces)]


def _split(node: Node, inputs: Inputs) -> Sequence[Array]:
    x, axis = _given(inputs, 0), node.integer("axis", 0)
    sizes = split_sizes(node, _list(node, inputs, "split", 1), x.shape[axis])
    return np.split(x, np.cumsum(sizes)[:-1], axis=axis)


_REDUCTIONS: Mapping[str, Callable[..., Array]] = {
    "ReduceProd": np.prod,
    "ReduceSum": np.sum,
    "ReduceMax": np.max,
    "ReduceMin": np.min,
    "ReduceMean": np.mean,
}


def _reduce(node: Node, inputs: Inputs) -> Sequence[Array]:
    x, axes = _given(inputs, 0), _list(node, inputs, "axes", 1)
    if not axes and node.integer("noop_with_empty_axes", 0):
        return [x]
    function = _REDUCTIONS[node.op]
    keep = bool(node.integer("keepdims", 1))
    return [np.asarray(function(x, axis=tuple(axes) if axes else None, keepdims=keep)).astype(x.dtype)]


def _nonzero(node: Node, inputs: Inputs) -> Sequence[Array]:
    x = _given(inputs, 0)
    _bounded(x.ndim * int(np.count_nonzero(x)))
    return [np.array(np.nonzero(x), dtype=np.int64)]


def _shape(node: Node, inputs: Inputs) -> Sequence[Array]:
    return [shape_value(node, _given(inputs, 0).shape)]


def shape_value(node: Node, shape: Sequence[int]) -> Array:
    """Return what Shape or Size give for a value of `shape`."""
    if node.op == "Size":
        return np.array(prod(shape), dtype=np.int64)
    end = node.attributes.get("end")
    return np.array(shape[node.integer("start", 0) : None if end is None else int(end)], dtype=np.int64)


_ELEMENTWISE = {*_ARITHMETIC, *_LOGIC, "Where", "Mod"}
_SAME_SHAPE = {"Cast", "CastLike"}
_VIEWS: Mapping[str, Fold] = {
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Transpose": _transpose,
    "Expand": _expand,
    "Slice": _slice,
    "Split": _split,
    "Identity": lambda _, inputs: [_given(inputs, 0)],
}
_FOLDS: Mapping[str, Fold] = {
    **dict.fromkeys(_ELEMENTWISE, _elementwise),
    **_VIEWS,
    "Cast": _cast,
    "CastLike": _cast,
    "Gather": _gather,
    "Range": _range,
    "Concat": _concat,
    "Tile": _tile,
    "NonZero": _nonzero,
    "Shape": _shape,
    "Size": _shape,
    **dict.fromkeys(_REDUCTIONS, _reduce),
}


def fold(node: Node, inputs: Sequence[Fixed | None]) -> list[Fixed] | None:
    """Return the results of a node whose inputs are all known, or None where it cannot be computed at import.

    Raises:
        InputError: if the node is wrong (axes, shapes) or its result too large.

    """
    if node.op == "ConstantOfShape":
        return [_constant_of_shape(node, inputs)]
    function = _FOLDS.get(node.op)
    if function is None or not inputs:
        return None
    with np.errstate(all="ignore"):
        batched = any(f is not None and f.at_two is not None for f in inputs)
        elements = _elements(node, inputs)
        if batched and elements > LARGEST_EAGER_ELEMENTS:
            return None
        made = _compute(node, inputs, function, elements)
        if made is None:
            return None
        _bounded(max((w.elements for w, _ in made), default=0), LARGEST_ELEMENTS)
        stored = any(f.stored for f in inputs if f) and node.op not in ("Shape", "Size")
        steps = _steps(inputs) if elements > EAGER_ELEMENTS else 0
        if not batched:
            return [_fixed(node, i, w, t, stored=stored, steps=steps) for i, (w, t) in enumerate(made)]
        twos = _at_two(node, inputs, function)
    return [
        _fixed(node, i, w, t, stored=stored, steps=steps, at_two=None if twos is None else twos[i])
        for i, (w, t) in enumerate(made)
    ]


def _fixed(
    node: Node, i: int, weights: Weights, dtype: np.dtype[Any], *, stored: bool, steps: int, at_two: Array | None = None
) -> Fixed:
    same = at_two is None or (at_two.shape == weights.shape and np.array_equal(at_two, weights.array()))
    return Fixed(
        name=node.outputs[i],
        weights=weights,
        dtype=dtype,
        stored=stored,
        at_two=None if same else at_two,
        steps=steps,
    )


def _at_two(node: Node, inputs: Sequence[Fixed | None], function: Fold) -> Sequence[Array] | None:
    """Return the results for two samples; None where the graph has the batch of one written into it."""
    try:
        return function(node, arrays_for_two(inputs))
    except (ValueError, IndexError):
        return None


def _arrays(inputs: Sequence[Fixed | None]) -> list[Array | None]:
    handles = {id(f.weights): f.weights for f in inputs if f is not None}
    found = {key: weights.array() for key, weights in handles.items()}  # one that is given twice is computed once
    return [None if f is None else found[id(f.weights)] for f in inputs]


def arrays_for_two(inputs: Sequence[Fixed | None]) -> list[Array | None]:
    """Return the values for a batch of two samples."""
    return [None if f is None else f.array() if f.at_two is None else f.at_two for f in inputs]


def _elements(node: Node, inputs: Sequence[Fixed | None]) -> int:
    """Return the size of the largest array that the node reads or, element-wise, makes."""
    given = [f for f in inputs if f is not None]
    elements = max(f.weights.elements for f in given)
    if node.op in _ELEMENTWISE:
        return max(elements, prod(np.broadcast_shapes(*(f.shape for f in given))))
    return sum(f.weights.elements for f in given) if node.op == "Concat" else elements


def _compute(
    node: Node, inputs: Sequence[Fixed | None], function: Fold, elements: int
) -> list[tuple[Weights, np.dtype[Any]]] | None:
    if elements <= EAGER_ELEMENTS:
        results = function(node, _arrays(inputs))
        return [(_held(r), r.dtype) for r in results]
    return _compute_later(node, inputs, function, elements)


def _held(values: Array) -> Weights:
    return Weights(shape=tuple(values.shape), load=lambda: values)


def _compute_later(
    node: Node, inputs: Sequence[Fixed | None], function: Fold, elements: int
) -> list[tuple[Weights, np.dtype[Any]]] | None:
    """Large arrays: work out shapes from stand-ins without memory, and compute when somebody loads the values."""
    given = [f for f in inputs if f is not None]
    filled = [f.weights.note == FILL_NOTE for f in given]
    if filled[0] if node.op in _VIEWS else all(filled):
        return _filled(node, inputs, function)
    largest = max(f.weights.elements for f, fill in zip(given, filled, strict=True) if not fill)
    if _steps(inputs) > MOST_STEPS:
        return None
    if node.op in _VIEWS:  # the further inputs list sizes and are small
        stand_in = np.broadcast_to(np.zeros((), given[0].dtype), given[0].shape)
        results = function(node, [stand_in, *_arrays(inputs[1:])])
        shapes = [(tuple(r.shape), r.dtype) for r in results]
    elif node.op in _SAME_SHAPE or node.op in _ELEMENTWISE:
        small = [np.zeros((1,), f.dtype) for f in given]
        shapes = [(np.broadcast_shapes(*(f.shape for f in given)), function(node, small)[0].dtype)]
    elif elements <= LARGEST_EAGER_ELEMENTS:
        return [(_held(r), r.dtype) for r in function(node, _arrays(inputs))]
    else:
        return None
    if any(prod(s) > max(largest, LARGEST_GROWN_ELEMENTS) for s, _ in shapes):
        return None
    note = given[0].weights.note

    def loader(i: int) -> Callable[[], Array]:
        def load() -> Array:
            with np.errstate(all="ignore"):
                return function(node, _arrays(inputs))[i]

        return load

    return [(Weights(shape=s, load=loader(i), note=note), t) for i, (s, t) in enumerate(shapes)]


def _filled(node: Node, inputs: Sequence[Fixed | None], function: Fold) -> list[tuple[Weights, np.dtype[Any]]] | None:
    """Return results for repeated numbers, whatever their size: what moves them repeats them, and one is computed once."""
    if node.op in _VIEWS:
        results = function(node, _arrays(inputs))
        return [(constant_fill(r.flat[0] if r.size else 0, r.shape, r.dtype.name), r.dtype) for r in results]
    if node.op not in _SAME_SHAPE and node.op not in _ELEMENTWISE:
        return None
    shape = np.broadcast_shapes(*(f.shape for f in inputs if f is not None))
    if prod(shape) == 0:
        return None
    one = function(node, [None if a is None else a.reshape(-1)[:1] for a in _arrays(inputs)])[0]
    return [(constant_fill(one[0], shape, one.dtype.name), one.dtype)]


def _steps(inputs: Sequence[Fixed | None]) -> int:
    """Return the steps of arithmetic behind a value that is computed from `inputs` when it is loaded."""
    return 1 + sum(f.steps for f in {id(f.weights): f for f in inputs if f is not None}.values())


def _constant_of_shape(node: Node, inputs: Sequence[Fixed | None]) -> Fixed:
    source = inputs[0] if inputs else None
    if source is None:
        raise ValueError("it lacks its shape")
    shape = tuple(int(s) for s in source.array().reshape(-1)) if source.weights.elements <= LARGEST_RANK else None
    if shape is None or any(s < 0 for s in shape) or prod(shape) > LARGEST_ELEMENTS:
        asked = f"of {source.weights.elements} axes" if shape is None else list(shape)
        raise ValueError(f"it asks for the impossible shape {asked}")
    fill = node.attributes.get("value", np.zeros(1, np.float32))
    value, dtype = fill.reshape(-1)[0], fill.dtype
    at_two = None
    if source.at_two is not None:
        at_two = np.broadcast_to(np.asarray(value, dtype=dtype), tuple(int(s) for s in source.at_two))
    weights = constant_fill(value, shape, dtype.name)
    return Fixed(name=node.outputs[0], weights=weights, dtype=dtype, stored=source.stored, at_two=at_two)
