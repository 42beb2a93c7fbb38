"""Where the offsets of a deformable convolution come from, read off the workload. Recorded and assumed ones: `offset_traces`.

A network says how its offsets come about (clipped? one number per pixel? rounded?) by the layers before the convolution;
`sampling_of` reads that. An engine that takes offsets does such layers while it reads: they are `absorbed`. Forms and the
square's geometry: Huang et al. 2021 (CoDeNet, arXiv 2006.08357, section 3). Left out: offsets that mix several sources.
"""

from dataclasses import dataclass
from enum import StrEnum
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from picojoule.sim.attributes import DeformConvAttributes, Op
from picojoule.sim.errors import InputError
from picojoule.sim.ir import Layer, Network, OperandKind
from picojoule.sim.offset_traces import OffsetStatistics, OffsetTrace
from picojoule.sim.offset_values import Known, Values

__all__ = ["OffsetForm", "OffsetStatistics", "OffsetTrace", "Sampling", "sampling_of", "tap_grid"]


class OffsetForm(StrEnum):
    """How offsets are made."""

    FREE = "free"
    BOUND = "bound"
    SQUARE = "square"
    FIXED = "fixed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How one DEFORM_CONV layer samples.

    `low` and `high` bound the offsets in pixels (of a square: its d; None: unbounded). `rounded`: the network makes them whole
    itself. `absorbed`: layers that only serve the offsets (clip, round, arithmetic with constants, shapes), which an engine does
    while it reads `source_value`: 2 channels per tap, or one, d, for a square. A fixed one reads nothing ("").
    """

    form: OffsetForm
    low: float | None
    high: float | None
    rounded: bool
    absorbed: tuple[str, ...] = ()
    source_value: str = ""

    def reach(self, kernel: tuple[int, int], dilation: tuple[int, int]) -> float | None:
        """Return how far a tap may lie from its output's pixel, in rows or columns, whichever is more; None: unbounded."""
        own = max(d * (k - 1) / 2 for k, d in zip(kernel, dilation, strict=True))
        if self.form is OffsetForm.FIXED:
            return own
        if self.low is None or self.high is None:
            return None
        most = max(abs(self.low), abs(self.high))
        return own * most if self.form is OffsetForm.SQUARE else own + most


def tap_grid(kernel: tuple[int, ...], dilation: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the taps' places around the middle in pixels, [2 * taps], (y, x) per tap."""
    (kh, kw), (dy, dx) = kernel, dilation
    rows, cols = np.meshgrid((np.arange(kh) - (kh - 1) / 2) * dy, (np.arange(kw) - (kw - 1) / 2) * dx, indexing="ij")
    return np.stack([rows, cols], -1).reshape(-1)


def _kernel(layer: Layer) -> tuple[int, ...]:
    return layer.operands[1].shape[2:]


def sampling_of(network: Network, layer: Layer) -> Sampling:
    """Return how a DEFORM_CONV layer of a network samples; what is not understood is free.

    Raises:
        InputError: if the layer is no deformable convolution.

    """
    a = layer.attributes
    if not isinstance(a, DeformConvAttributes):
        raise InputError(f"layer '{layer.name}' is a {layer.op}, not a deformable convolution")
    operand = layer.operands[2]
    values = Values(network)
    known = values.known(operand)
    unknown = Sampling(form=OffsetForm.FREE, low=None, high=None, rounded=False, source_value=operand.name)
    if any(n != 1 for i, n in enumerate(known.shape) if i != 1):
        return unknown  # other offsets for every pixel, or sample, by constants
    known = known.spread((1, operand.shape[1], 1, 1)).mapped(lambda v: v.reshape(-1))
    form = _form(layer, a, known)
    if form is None:
        return unknown
    low, high = _range(layer, a, known, form)
    if form is OffsetForm.BOUND and not (isfinite(low) and isfinite(high)):
        form = OffsetForm.FREE
    absorbed, source = _absorbed(network, layer, values)
    if form is OffsetForm.FIXED:
        source = ""
    return Sampling(
        form=form,
        low=low if isfinite(low) else None,
        high=high if isfinite(high) else None,
        rounded=bool(known.whole.all()),
        absorbed=absorbed,
        source_value=source,
    )


def _form(layer: Layer, a: DeformConvAttributes, x: Known) -> OffsetForm | None:
    if x.source is None:
        return OffsetForm.FIXED if not x.shift.any() else OffsetForm.BOUND
    if len(np.unique(x.channel)) == len(x.channel) and np.all(x.scale != 0):
        return OffsetForm.BOUND
    return OffsetForm.SQUARE if _stretch(layer, a, x) is not None else None


def _stretch(layer: Layer, a: DeformConvAttributes, x: Known) -> tuple[float, float] | None:
    """Return (alpha, beta) where offsets are (d - 1) * grid with d = alpha * source + beta; None where they are not."""
    grid = np.tile(tap_grid(_kernel(layer), a.dilation), (a.offset_groups, 1))
    channel, scale, shift = (v.reshape(a.offset_groups, -1) for v in (x.channel, x.scale, x.shift))
    moving = grid != 0
    if not moving.any() or np.any(scale[~moving]) or np.any(shift[~moving]):
        return None
    if any(len(np.unique(c[m])) != 1 for c, m in zip(channel, moving, strict=True)):
        return None
    alphas, betas = scale[moving] / grid[moving], shift[moving] / grid[moving] + 1
    alike = np.allclose(alphas, alphas[0], atol=1e-6) and np.allclose(betas, betas[0], atol=1e-6)
    return (float(alphas[0]), float(betas[0])) if alike and alphas[0] != 0 else None


def _range(layer: Layer, a: DeformConvAttributes, x: Known, form: OffsetForm) -> tuple[float, float]:
    """Return the range of the offsets, or of d."""
    if form is not OffsetForm.SQUARE:
        return float(x.low.min()), float(x.high.max())
    grid = np.tile(tap_grid(_kernel(layer), a.dilation), a.offset_groups)
    ends = np.stack([x.low, x.high])[:, grid != 0] / grid[grid != 0] + 1
    return float(ends.min()), float(ends.max())


def _absorbed(network: Network, layer: Layer, values: Values) -> tuple[tuple[str, ...], str]:
    """Return the layers that serve nothing but offsets, in the network's order, and the value that the engine then reads."""
    region, consumers, outputs = values.layers, network.consumers(), set(network.outputs)
    absorbed: dict[str, Layer] = {}
    for y in reversed(network.layers):
        if y.name not in region or any(r.name in outputs for r in y.results):
            continue
        readers = [c for r in y.results for c in consumers.get(r.name, ())]
        names = {r.name for r in y.results}
        if all(c.name in absorbed or _reads_as_offset(c, names) for c in readers):
            absorbed[y.name] = y
    read = {
        o.name
        for y in (*absorbed.values(), layer)
        for o in ((layer.operands[2],) if y is layer else y.operands)
        if o.kind is OperandKind.ACTIVATION
    }
    made = {r.name for y in absorbed.values() for r in y.results}
    left = sorted(read - made)
    if len(left) > 1:
        return (), layer.operands[2].name
    order = [y.name for y in network.layers if y.name in absorbed]
    return tuple(order), left[0] if left else layer.operands[2].name


def _reads_as_offset(reader: Layer, names: set[str]) -> bool:
    places = [i for i, o in enumerate(reader.operands) if o.name in names]
    return reader.op is Op.DEFORM_CONV and places == [2]
