"""Lane operations of layers that no MAC array runs, counted from what each operator computes.

Counts are ours: one lane operation for an addition, comparison or multiplication, one transcendental for any smooth function of
one value (exp, tanh, reciprocal, root), which a lane evaluates as a polynomial.
"""

from math import prod

from picojoule.sim import attributes as at
from picojoule.sim.attributes import ActivationKind as Ak
from picojoule.sim.attributes import ElementwiseKind as Ew
from picojoule.sim.attributes import Op
from picojoule.sim.ir import Layer
from picojoule.sim.recurrence import CELL_OPERATIONS
from picojoule.sim.technology import VectorOperation

Counts = dict[VectorOperation, int]

_ADD, _TRANSCENDENTAL = VectorOperation.ADD, VectorOperation.TRANSCENDENTAL
_MULTIPLY, _COMPARE = VectorOperation.MULTIPLY, VectorOperation.COMPARE

_ACTIVATION: dict[Ak, Counts] = {
    Ak.RELU: {_COMPARE: 1},
    Ak.CLIP: {_COMPARE: 2},
    Ak.THRESHOLD: {_COMPARE: 1},
    Ak.HARD_SHRINK: {_COMPARE: 2},
    Ak.SOFT_SHRINK: {_COMPARE: 2, _ADD: 1},
    Ak.LEAKY_RELU: {_COMPARE: 1, _MULTIPLY: 1},
    Ak.HARD_SIGMOID: {_COMPARE: 2, _MULTIPLY: 1, _ADD: 1},
    Ak.HARD_SWISH: {_COMPARE: 2, _MULTIPLY: 2, _ADD: 1},
    Ak.SILU: {_TRANSCENDENTAL: 1, _MULTIPLY: 1},
    Ak.GELU: {_TRANSCENDENTAL: 1, _MULTIPLY: 2, _ADD: 1},
    Ak.GELU_TANH: {_TRANSCENDENTAL: 1, _MULTIPLY: 4, _ADD: 2},
    Ak.MISH: {_TRANSCENDENTAL: 2, _MULTIPLY: 1},
    Ak.CELU: {_TRANSCENDENTAL: 1, _MULTIPLY: 2, _COMPARE: 1},
    Ak.SOFTSIGN: {_TRANSCENDENTAL: 1, _MULTIPLY: 1, _ADD: 1, _COMPARE: 1},
}
"""Per element; what is not listed is one transcendental."""
_DIVISIONS = {
    Ew.FLOOR_DIVIDE: {_TRANSCENDENTAL: 1, _ADD: 1},
    Ew.MOD: {_TRANSCENDENTAL: 1, _MULTIPLY: 1, _ADD: 2},  # a - b floor(a / b)
    Ew.FMOD: {_TRANSCENDENTAL: 1, _MULTIPLY: 1, _ADD: 2},
}
_SMOOTH = (
    *(Ew.DIV, Ew.POW, Ew.SQRT, Ew.RSQRT, Ew.EXP, Ew.EXPM1, Ew.LOG, Ew.LOG1P, Ew.RECIPROCAL, Ew.SIN, Ew.COS, Ew.TAN),
    *(Ew.ASIN, Ew.ACOS, Ew.ATAN, Ew.SINH, Ew.COSH, Ew.ASINH, Ew.ACOSH, Ew.ATANH),
)
_ELEMENTWISE: dict[Ew, Counts] = {
    Ew.MUL: {_MULTIPLY: 1},
    Ew.CAST: {_MULTIPLY: 1},
    Ew.COPY: {},
    **_DIVISIONS,
    **{kind: {_TRANSCENDENTAL: 1} for kind in _SMOOTH},
}
"""Per element and further operand; what is not listed is one addition."""
_REDUCE: dict[at.ReduceKind, Counts] = {
    at.ReduceKind.MEAN: {_ADD: 1},
    at.ReduceKind.SUM: {_ADD: 1},
    at.ReduceKind.PROD: {_MULTIPLY: 1},
}
"""Per operand element; what is not listed is one comparison."""


def operation_counts(layer: Layer, batch: int) -> Counts:
    """Return a layer's lane operations for `batch` samples; views and what only moves values have none."""
    results = sum(r.type.elements(batch) for r in layer.results)
    read = layer.operands[0].type.elements(batch) if layer.operands else 0
    match layer.attributes:
        case at.ReduceAttributes() as a:
            return _times(_REDUCE.get(a.kind, {_COMPARE: 1}), read)
        case at.QuantizeAttributes() as a:
            return _times(_DYNAMIC if a.kind is at.QuantizeKind.DYNAMIC else {}, read)
        case at.SortAttributes() as a:
            return {_COMPARE: read * max(1, (a.count - 1).bit_length())}
        case at.ScatterAttributes() as a:
            return _times(_REDUCTION[a.reduction], layer.operands[2].type.elements(batch))
        case at.CumulativeAttributes() as a:
            return {_ADD if a.kind is at.CumulativeKind.SUM else _MULTIPLY: read}
        case at.GridSampleAttributes() as a:
            return _grid_sample(a, results, layer.operands[1].type.elements(batch), layer.operands[1].shape[-1])
        case at.DeformConvAttributes() as a:
            return _deformed(a, *deform_samples(layer, batch))
        case at.RecurrentAttributes() as a:
            return _times(CELL_OPERATIONS[a.kind], layer.results[0].type.elements(batch))
    return _times(_per_result(layer), results)


def _times(counts: Counts, elements: int) -> Counts:
    return {op: n * elements for op, n in counts.items() if n * elements}


_DYNAMIC: Counts = {_COMPARE: 4, _MULTIPLY: 1, _ADD: 1}
"""Smallest and largest value in a first pass; scale, shift and two bounds in a second."""
_REDUCTION: dict[str, Counts] = {
    "none": {},
    "add": {_ADD: 1},
    "mul": {_MULTIPLY: 1},
    "max": {_COMPARE: 1},
    "min": {_COMPARE: 1},
}
"""Per scattered element."""


def _per_result(layer: Layer) -> Counts:
    match layer.attributes:
        case at.ActivationAttributes() as a:
            return _ACTIVATION.get(a.kind, {_TRANSCENDENTAL: 1})
        case at.ElementwiseAttributes() as a:
            one = _ELEMENTWISE.get(a.kind, {_ADD: 1})
            return {k: v * max(1, len(layer.operands) - 1) for k, v in one.items()}
        case at.PoolAttributes() as a:
            return {_COMPARE: _window(layer, a)}
        case at.ResizeAttributes() as a:
            return _resize(layer, a)
        case at.NormAttributes(kind=at.NormKind.BATCH):
            return {_ADD: 1, _MULTIPLY: 1}  # stored statistics: one scale and one shift
    match layer.op:
        case Op.NORM:
            # Mean, variance (square and add), subtract, scale, shift; the root is once a row and negligible.
            return {_ADD: 4, _MULTIPLY: 2}
        case Op.SOFTMAX:
            # Maximum, subtract, exp, sum, multiply by the reciprocal.
            return {_COMPARE: 1, _ADD: 2, _TRANSCENDENTAL: 1, _MULTIPLY: 1}
        case _:
            return {}


def _window(layer: Layer, a: at.PoolAttributes) -> int:
    if not a.output_size:
        return prod(a.kernel)
    space = layer.operands[0].shape[-len(a.output_size) :]
    return prod(-(-i // o) for i, o in zip(space, a.output_size, strict=True))


def _resize(layer: Layer, a: at.ResizeAttributes) -> Counts:
    """Return the work per result: nearest copies, linear interpolates 2^r - 1 times, cubic adds up 4^r weighted pixels.

    r counts the axes whose size changes. Positions and weights are the same for all channels and known beforehand.
    """
    axes = sum(o != n for o, n in zip(layer.operands[0].shape, layer.results[0].shape, strict=True)) or 1
    match a.mode:
        case "nearest":
            return {}
        case "linear":
            return {_MULTIPLY: 2**axes - 1, _ADD: 2**axes - 1}
        case _:
            return {_MULTIPLY: 4**axes, _ADD: 4**axes - 1}


def taps_of(mode: str, rank: int) -> int:
    """Return the pixels that one sample of a grid reads."""
    return int({"nearest": 1, "linear": 2, "cubic": 4}[mode] ** rank)


DEFORM_TAPS = 4
"""Pixels that a sample of a deformable convolution reads: it is bilinear."""


def deform_samples(layer: Layer, batch: int) -> tuple[int, int]:
    """Return the samples of a deformable convolution (a value per channel, tap and output pixel), and the places they are at.

    The channels of an offset group share places.
    """
    a, result = layer.attributes, layer.results[0]
    assert isinstance(a, at.DeformConvAttributes)
    windows = result.type.elements(batch) // result.shape[1] * prod(layer.operands[1].shape[2:])
    return windows * layer.operands[0].shape[1], windows * a.offset_groups


def _deformed(a: at.DeformConvAttributes, samples: int, places: int) -> Counts:
    """Return the work of interpolating; the filter's multiply-accumulates are counted apart (`gemm`).

    As a grid sample, but that a coordinate need not be scaled: it is added to the window's place, rounded down, its share taken,
    and bounded on both sides. A mask multiplies each sample. Whether offsets are whole, so that one pixel would do, the graph
    before the layer says; the layer does not.
    """
    made = _interpolated(DEFORM_TAPS, 2, samples, places)
    made[_MULTIPLY] += samples * a.has_mask
    made[_ADD] += 3 * 2 * places
    made[_COMPARE] = 2 * 2 * places
    return made


def _interpolated(taps: int, rank: int, samples: int, places: int) -> Counts:
    """Return the work of weighing and adding up the pixels of samples; weights are products over the axes."""
    return {_MULTIPLY: taps * (rank - 1) * places + taps * samples, _ADD: (taps - 1) * samples}


def _grid_sample(a: at.GridSampleAttributes, results: int, coordinates: int, rank: int) -> Counts:
    """Return the work of samples, and of the places they are taken at, which all channels share.

    A sample multiplies and adds its pixels. A coordinate is scaled to pixels, rounded down, its share taken, and bounded on
    both sides; cubic weights are four polynomials of degree three. The pixels' weights are products over the axes.
    """
    taps, places = taps_of(a.mode, rank), coordinates // rank
    made = {_MULTIPLY: coordinates, _ADD: 3 * coordinates, _COMPARE: 2 * coordinates}
    if a.mode == "cubic":
        made[_MULTIPLY] += 12 * coordinates
        made[_ADD] += 12 * coordinates
    if taps > 1:
        for operation, count in _interpolated(taps, rank, results, places).items():
            made[operation] += count
    return made
