"""ONNX operators that sample an ifmap at other places: Resize, Upsample, GridSample.

Semantics: ONNX operator reference; Upsample of opset 7 to 9, Resize of opset 10 (asymmetric, no region) and later.
"""

from collections.abc import Sequence
from math import floor

from picojoule.sim import attributes as at
from picojoule.sim.attributes import Op
from picojoule.sim.errors import InputError
from picojoule.sim.importers.onnx_scope import Results, Scope
from picojoule.sim.importers.onnx_values import BatchError, Ints, Node, UnhandledError
from picojoule.sim.ir import Operand, TensorType

_COORDINATES = {
    "half_pixel": "half_pixel",
    "half_pixel_symmetric": "half_pixel",
    "pytorch_half_pixel": "half_pixel",
    "align_corners": "align_corners",
    "asymmetric": "asymmetric",
}
_MODES = {"nearest": "nearest", "linear": "linear", "bilinear": "linear", "cubic": "cubic"}
_RESIZE_HAS_ROI_SINCE = 11
_WHOLE = 1e-3
"""Scales are float32 in a file: sizes this near to whole ones are meant whole."""


def resize(scope: Scope, node: Node) -> Results:
    """Resize and Upsample to sizes known at import."""
    x = scope.operand(node, 0)
    old = node.op == "Upsample" or node.opset < _RESIZE_HAS_ROI_SINCE
    mode = node.text("mode", "nearest")
    asked = "asymmetric" if old else node.text("coordinate_transformation_mode", "half_pixel")
    if mode not in _MODES or asked not in _COORDINATES:
        raise UnhandledError(f"its mode is '{mode}' with coordinates '{asked}'")
    shape, scales = _resized(scope, node, x, old=old)
    _check_kept(node, x, shape, scales, mode, asked)
    if shape == x.shape and all(s == 1.0 for s in scales):
        return (x,)
    exact = [abs(size * s - new) for size, s, new in zip(x.shape, scales, shape, strict=True)]
    attributes = at.ResizeAttributes(
        mode=_MODES[mode],
        coordinates=_COORDINATES[asked],
        nearest_rounding="floor" if old else node.text("nearest_mode", "round_prefer_floor"),
        scales=scales if max(exact) > _WHOLE else (),
        cubic_a=node.real("cubic_coeff_a", -0.75),
    )
    return scope.emit(node, Op.RESIZE, [x], attributes, types=[TensorType(shape=shape, batch_axis=x.type.batch_axis)])


def _check_kept(node: Node, x: Operand, shape: Ints, scales: Sequence[float], mode: str, asked: str) -> None:
    """Refuse what the workload cannot say."""
    changed = [i for i, s in enumerate(scales) if s != 1.0 or shape[i] != x.shape[i]]
    if node.integer("antialias", 0) and any(scales[i] < 1 for i in changed):
        raise UnhandledError("it filters while shrinking (antialias)")
    if node.integer("exclude_outside", 0) and mode == "cubic":
        raise UnhandledError("it leaves out weights beyond the edge (exclude_outside)")
    if asked == "pytorch_half_pixel" and any(shape[i] == 1 for i in changed):
        raise UnhandledError("pytorch_half_pixel differs from half_pixel for a result of size 1")
    if asked == "half_pixel_symmetric" and any(abs(x.shape[i] * scales[i] - shape[i]) > _WHOLE for i in changed):
        raise UnhandledError("half_pixel_symmetric differs from half_pixel where a scale gives no whole size")


def _resized(scope: Scope, node: Node, x: Operand, *, old: bool) -> tuple[Ints, tuple[float, ...]]:
    """Return the result's shape, and the scale of each axis."""
    rank = len(x.shape)
    axes = [scope.axis(node, a, rank) for a in node.ints("axes", tuple(range(rank)))]
    shape, scales = list(x.shape), [1.0] * rank
    if node.has(3) and scope.fixed(node, 3).weights.elements:
        given: Sequence[float] = scope.ints(node, 3, batched=True)
        made, factors = _from_sizes(node, [x.shape[a] for a in axes], [int(s) for s in given])
    else:
        given = node.attributes.get("scales", ())
        position = 1 if old else 2
        if node.has(position):
            given = [float(v) for v in scope.fixed(node, position).array().reshape(-1)]
        factors = [float(s) for s in given]
        made = [floor(round(x.shape[a] * s, 4)) for a, s in zip(axes, factors, strict=False)]
    if len(made) != len(axes) or any(m < 1 for m in made):
        raise InputError(f"{scope.where(node)} needs {len(axes)} sizes or scales, got {list(given)}")
    for axis, size, factor in zip(axes, made, factors, strict=True):
        if axis != x.type.batch_axis:
            shape[axis], scales[axis] = size, factor
        elif factor != 1.0 and size != x.shape[axis] and not scope.open_batch:
            raise BatchError("it resizes the batch")
    return tuple(shape), tuple(scales)


def _from_sizes(node: Node, sizes: Sequence[int], asked: Sequence[int]) -> tuple[list[int], list[float]]:
    """Return the sizes and scales that the asked sizes lead to (one scale for all where the aspect ratio is kept)."""
    factors = [new / old for old, new in zip(sizes, asked, strict=False)]
    policy = node.text("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch" or not factors:
        return list(asked), factors
    if policy not in ("not_larger", "not_smaller"):
        raise UnhandledError(f"its keep_aspect_ratio_policy is '{policy}'")
    factor = min(factors) if policy == "not_larger" else max(factors)
    return [floor(old * factor + 0.5) for old in sizes], [factor] * len(factors)


_GRID_MODES = {"bilinear": "linear", "linear": "linear", "nearest": "nearest", "bicubic": "cubic", "cubic": "cubic"}


def grid_sample(scope: Scope, node: Node) -> Results:
    """GridSample; a fixed grid is the same for every sample."""
    x, mode = scope.operand(node, 0), node.text("mode", "bilinear")
    padding = node.text("padding_mode", "zeros")
    if mode not in _GRID_MODES or padding not in ("zeros", "border", "reflection"):
        raise InputError(f"{scope.where(node)}: no mode '{mode}' with padding '{padding}'")
    if _GRID_MODES[mode] == "cubic" and len(x.shape) != 4:
        raise UnhandledError("cubic samples are known in two dimensions only")
    grid = scope.operand(node, 1)
    if x.type.batch_axis != grid.type.batch_axis:
        if x.type.batch_axis not in (None, 0) or grid.type.batch_axis not in (None, 0):
            raise BatchError("its batch is not the first axis")
        x, grid = (scope.batched(node, v, 0, True) for v in (x, grid))
    attributes = at.GridSampleAttributes(
        mode=_GRID_MODES[mode], padding=padding, align_corners=bool(node.integer("align_corners", 0))
    )
    return scope.emit(node, Op.GRID_SAMPLE, [x, grid], attributes)


STANDARD = {"Resize": resize, "Upsample": resize, "GridSample": grid_sample}
"""Operators of the standard domain."""
