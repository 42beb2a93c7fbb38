"""Spelt-out activations, recognised by their values: what a chain of element-wise layers makes of numbers decides.

A chain from one value to one result with no other number than scalars is a function of a real number. Where it equals a
known activation on a grid from -20 to 20, and as far as it is finite beyond, it is that activation, however it is spelt.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import erf, sqrt

import numpy as np
from numpy.typing import NDArray

from picojoule.sim.attributes import ActivationAttributes, ActivationKind, ElementwiseAttributes, ElementwiseKind
from picojoule.sim.ir import Layer, Operand, OperandKind

Reals = NDArray[np.float64]

_FAR = np.array([60.0, 150.0, 1e3, 1e5])
_GRID: Reals = np.concatenate(
    [np.linspace(-6.0, 6.0, 41) + 0.0137, np.array([-20.0, -11.3, 0.0, 9.7, 20.0]), -_FAR, _FAR]
)
_NEAR = np.abs(_GRID) <= 20.0
_TOLERANCE = 1e-6
"""Of values up to 20; constants in files are float32, and erf and tanh forms of GELU differ by 3e-4."""
_LONGEST = 12
"""Layers of one chain; GELU with a tanh takes nine."""


def _sigmoid(x: Reals) -> Reals:
    return 1 / (1 + np.exp(-x))


def _erf(x: Reals) -> Reals:
    return np.array([erf(v) if np.isfinite(v) else np.nan for v in x])


def _gelu_tanh(x: Reals) -> Reals:
    return np.asarray(0.5 * x * (1 + np.tanh(sqrt(2 / np.pi) * (x + 0.044715 * x**3))))


_FIXED: Mapping[ActivationKind, Callable[[Reals], Reals]] = {
    ActivationKind.RELU: lambda x: np.maximum(x, 0),
    ActivationKind.SIGMOID: _sigmoid,
    ActivationKind.TANH: np.tanh,
    ActivationKind.SILU: lambda x: x * _sigmoid(x),
    ActivationKind.GELU: lambda x: 0.5 * x * (1 + _erf(x / sqrt(2))),
    ActivationKind.GELU_TANH: _gelu_tanh,
    ActivationKind.HARD_SWISH: lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    ActivationKind.MISH: lambda x: x * np.tanh(np.log1p(np.exp(x))),
    ActivationKind.SOFTSIGN: lambda x: x / (1 + np.abs(x)),
    ActivationKind.LOG_SIGMOID: lambda x: -np.log1p(np.exp(-x)),
    ActivationKind.ERF: _erf,
}
_UNARY: Mapping[ElementwiseKind, Callable[[Reals], Reals]] = {
    ElementwiseKind.NEG: np.negative,
    ElementwiseKind.ABS: np.abs,
    ElementwiseKind.SQRT: np.sqrt,
    ElementwiseKind.RSQRT: lambda x: 1 / np.sqrt(x),
    ElementwiseKind.EXP: np.exp,
    ElementwiseKind.LOG: np.log,
    ElementwiseKind.LOG1P: np.log1p,
    ElementwiseKind.EXPM1: np.expm1,
    ElementwiseKind.RECIPROCAL: lambda x: 1 / x,
}
_BINARY: Mapping[ElementwiseKind, Callable[[Reals, Reals], Reals]] = {
    ElementwiseKind.ADD: np.add,
    ElementwiseKind.SUB: np.subtract,
    ElementwiseKind.MUL: np.multiply,
    ElementwiseKind.DIV: np.divide,
    ElementwiseKind.POW: np.power,
    ElementwiseKind.MAXIMUM: np.maximum,
    ElementwiseKind.MINIMUM: np.minimum,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """The layers (by index) that lead from one value to another, and what they make of the grid."""

    layers: frozenset[int]
    values: Reals


def extended(layer: Layer, index: int, known: Mapping[str, Mapping[str, Chain]]) -> dict[str, Chain]:
    """Return the chains that end in a layer's result, by the value they start from."""
    a = layer.attributes
    if not isinstance(a, ActivationAttributes | ElementwiseAttributes):
        return {}
    names = list(dict.fromkeys(o.name for o in layer.operands if o.kind is OperandKind.ACTIVATION))
    scalars = [o for o in layer.operands if o.kind is not OperandKind.ACTIVATION]
    if not names or len(layer.operands) > 2 or any(o.weights is None or o.weights.elements != 1 for o in scalars):
        return {}
    # A scalar of more axes than the value would lengthen its shape.
    if any(layer.results[0].type != o.type for o in layer.operands if o.kind is OperandKind.ACTIVATION):
        return {}
    starts = [{**known.get(n, {}), n: Chain(layers=frozenset(), values=_GRID)} for n in names]
    made = {}
    for source in starts[0]:
        if any(source not in s for s in starts):
            continue
        parts = {n: s[source] for n, s in zip(names, starts, strict=True)}
        layers = frozenset({index}).union(*(p.layers for p in parts.values()))
        if len(layers) > _LONGEST:
            continue
        operands = [parts[o.name].values if o.name in parts else _repeated(o) for o in layer.operands]
        with np.errstate(all="ignore"):
            values = _computed(a, operands)
        if values is not None:
            made[source] = Chain(layers=layers, values=values)
    return made


def _repeated(scalar: Operand) -> Reals:
    assert scalar.weights is not None
    return np.full_like(_GRID, float(np.asarray(scalar.weights.array(), np.float64).reshape(-1)[0]))


def _computed(a: ActivationAttributes | ElementwiseAttributes, x: Sequence[Reals]) -> Reals | None:
    if isinstance(a, ElementwiseAttributes):
        if len(x) == 1 and a.kind in _UNARY:
            return _UNARY[a.kind](x[0])
        return _BINARY[a.kind](x[0], x[1]) if len(x) == 2 and a.kind in _BINARY else None
    if a.kind is ActivationKind.CLIP:
        return np.clip(x[0], -np.inf if a.alpha is None else a.alpha, np.inf if a.beta is None else a.beta)
    if a.kind is ActivationKind.HARD_SIGMOID:
        return np.clip((0.2 if a.alpha is None else a.alpha) * x[0] + (0.5 if a.beta is None else a.beta), 0, 1)
    if a.kind is ActivationKind.SOFTPLUS and a.alpha in (None, 1.0):
        return np.logaddexp(x[0], 0)
    return _FIXED[a.kind](x[0]) if a.kind in _FIXED else None


def recognised(values: Reals) -> ActivationAttributes | None:
    """Return the activation that makes these values of the grid, or None."""
    finite = np.isfinite(values)
    if not np.all(finite[_NEAR]):
        return None
    known = [(ActivationAttributes(kind=kind), expected) for kind, expected in _known_values()]
    for made, expected in (*known, *_fitted(values)):
        both = finite & np.isfinite(expected)
        if np.allclose(values[both], expected[both], rtol=_TOLERANCE, atol=_TOLERANCE):
            return made
    return None


@cache
def _known_values() -> tuple[tuple[ActivationKind, Reals], ...]:
    with np.errstate(all="ignore"):
        return tuple((kind, function(_GRID)) for kind, function in _FIXED.items())


def _fitted(values: Reals) -> list[tuple[ActivationAttributes, Reals]]:
    """Return activations with parameters that would explain the ends and the middle of a function."""
    low, middle, high = (float(values[list(_GRID).index(v)]) for v in (-20.0, 0.0, 20.0))
    low, high = _decimal(low), _decimal(high)
    made = [
        (ActivationAttributes(kind=ActivationKind.CLIP, alpha=low, beta=high), np.clip(_GRID, low, high)),
        (ActivationAttributes(kind=ActivationKind.SOFTPLUS, alpha=1.0), np.logaddexp(_GRID, 0)),
    ]
    slope = _decimal(low / -20.0)
    if 0 < slope < 1:
        leaky = np.where(_GRID < 0, slope * _GRID, _GRID)
        made.append((ActivationAttributes(kind=ActivationKind.LEAKY_RELU, alpha=slope), leaky))
    inside = np.flatnonzero((values > 0) & (values < 1) & (_GRID != 0))
    if (low, high) == (0.0, 1.0) and inside.size:
        i = int(inside[0])
        gain, middle = _decimal(float((values[i] - middle) / _GRID[i])), _decimal(middle)
        hard = np.clip(gain * _GRID + middle, 0, 1)
        made.append((ActivationAttributes(kind=ActivationKind.HARD_SIGMOID, alpha=gain, beta=middle), hard))
    return made


def _decimal(value: float) -> float:
    """Return the decimal that a person wrote, where the file holds it as float32."""
    return float(str(np.float32(value)))
