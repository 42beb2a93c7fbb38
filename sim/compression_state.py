"""What compression left in a network's weights, read from their values: zeros and their structure, number formats.

`weight_state` describes one tensor; `find_compression` writes what it finds into a network, as if compression had set it:
masks arrive as `Sparsity`, bit widths as `NumberFormat` with the step of its integers. How zeros and formats are told from
chance is said in `found_sparsity` and `found_formats`. Left out: one-dimensional tensors (biases, norms), values computed
while the network runs, and what is packed into wider integers.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from picojoule.sim.attributes import MAC_OPS, ConvAttributes, EmbeddingAttributes, Op
from picojoule.sim.formats import DENSE, FormatKind, Granularity, NumberFormat, Sparsity, Structure, integer_format
from picojoule.sim.found_formats import RUNNABLE_BITS, find_format
from picojoule.sim.found_sparsity import find_sparsity
from picojoule.sim.ir import Layer, Network, Operand, OperandKind

CONSTANT_FILL = "constant fill"
"""Note of weights that stand for absent ones (see `weights.constant_fill`): they say nothing about the network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightState:
    """What a tensor's values show.

    `sparsity` holds the exact density, also below the share of zeros from which a structure is looked for. `format`
    describes the values in the fewest bits (None: as wide as they are stored); `integer` and `step` are the integer grid they
    lie on, if any, which may be wider than `format`. `distinct` counts different values, None for more than 256 off a grid.
    """

    elements: int
    sparsity: Sparsity = DENSE
    format: NumberFormat | None = None
    integer: NumberFormat | None = None
    step: tuple[float, ...] | None = None
    code_bits: int | None = None
    distinct: int | None = None
    finite: bool = True
    evidence: str = ""

    @property
    def density(self) -> float:
        """Share of elements that are not zero."""
        return self.sparsity.density

    @property
    def runnable(self) -> NumberFormat | None:
        """The integer format that every design multiplies: one of up to 8 bits, also with a sign (a batch norm may turn it).

        Codes that are 8 bits in the file and 9 in a symmetric format (two's complement with its -128, or a zero point) are
        priced as 8 bits, with a step of their own, because symmetric hardware lacks the last codes.
        """
        form = self.integer
        if form is not None and form.bits > RUNNABLE_BITS == self.code_bits:
            return integer_format(RUNNABLE_BITS, per=form.per)
        return form if form is not None and form.bits + (not form.signed) <= RUNNABLE_BITS else None


def weight_state(values: NDArray[np.generic]) -> WeightState:
    """Return the state of a tensor [output channels, input channels, ...]; of fewer axes the density alone."""
    if values.dtype.kind not in "fiub" or values.size == 0:
        return WeightState(elements=values.size, evidence=f"{values.dtype} is not looked into" if values.size else "")
    finite = _finite(values)
    if values.ndim < 2:
        density = np.count_nonzero(values) / values.size
        return WeightState(elements=values.size, sparsity=_scattered(density), finite=finite)
    filters = values.reshape(values.shape[0], values.shape[1], -1)
    nonzero = filters != 0
    if not finite:
        return WeightState(
            elements=values.size, sparsity=find_sparsity(nonzero), finite=False, evidence="NaN or infinite values"
        )
    with np.errstate(all="ignore"):  # the largest floats overflow on the way; such a grid then fits no value
        found = find_format(filters.reshape(values.shape[0], -1))
    return WeightState(
        elements=values.size,
        sparsity=find_sparsity(nonzero),
        format=found.format,
        integer=found.integer,
        step=found.step,
        code_bits=found.code_bits,
        distinct=found.distinct,
        evidence=found.evidence,
    )


def _scattered(density: float) -> Sparsity:
    return Sparsity(structure=Structure.UNSTRUCTURED if density < 1 else Structure.DENSE, density=density)


def _finite(values: NDArray[np.generic]) -> bool:
    if values.dtype.kind != "f":
        return True
    with np.errstate(all="ignore"):  # the sum is finite unless a value is not, or it overflows
        quick = bool(np.isfinite(np.sum(values)))
    return quick or bool(np.isfinite(values).all())


# --- a network --------------------------------------------------------------------------------------------------------


def find_compression(network: Network) -> Network:
    """Return the network with the sparsity of its weights set, and number formats with steps where values lie on a grid.

    Concerns the weights of layers of multiply-accumulates and embedding tables. What is set already (by a plan, or by the
    file) stays; so do weights without values and constant fills. Formats that not every accelerator runs (more than 8 bits,
    floats, codebooks, powers of two off an 8-bit grid) are a note only. Values are read once, a tensor at a time. Run it
    before batch norms are folded: a step per tensor becomes one per channel there. It shows the weights of now: what is
    trained further has to be looked at again.
    """
    states: dict[str, WeightState] = {}
    found: list[tuple[Operand, Operand, WeightState]] = []
    layers = []
    for layer in network.layers:
        position = _weight_position(layer)
        if position is None:
            layers.append(layer)
            continue
        operand = layer.operands[position]
        key = f"{layer.op} {operand.name} {operand.shape}"
        if key not in states:
            assert operand.weights is not None
            states[key] = weight_state(operand_filters(layer, operand, operand.weights.array()))
        made = _with_state(layer, operand, states[key])
        found.append((operand, made, states[key]))
        operands = (*layer.operands[:position], made, *layer.operands[position + 1 :])
        layers.append(replace(layer, operands=operands))
    notes = [n for n in _notes(found) if n not in network.notes]
    return replace(network, layers=tuple(layers), notes=(*network.notes, *notes))


def _weight_position(layer: Layer) -> int | None:
    """Return which operand holds weights with values, None for a layer without."""
    position = 0 if isinstance(layer.attributes, EmbeddingAttributes) else 1 if layer.op in MAC_OPS else None
    if position is None or len(layer.operands) <= position:
        return None
    operand = layer.operands[position]
    if operand.kind is OperandKind.ACTIVATION or operand.weights is None or len(operand.shape) < 2:
        return None
    return None if operand.weights.note == CONSTANT_FILL else position


def operand_filters(layer: Layer, operand: Operand, values: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return a layer's weights as [output channels, input channels of a group, rest]; other operands as they are."""
    a, shape = layer.attributes, operand.shape
    position = _weight_position(layer)
    if position is None or layer.operands[position] is not operand:
        return values
    if isinstance(a, EmbeddingAttributes):
        return np.moveaxis(values, a.axis, 0)
    if layer.op is Op.MATMUL:  # [..., in, out]
        return np.moveaxis(values, (-1, -2), (0, 1))
    if isinstance(a, ConvAttributes) and a.transposed:  # [in, out / groups, *window]
        split = values.reshape(a.groups, shape[0] // a.groups, *shape[1:])
        return split.swapaxes(1, 2).reshape(a.groups * shape[1], shape[0] // a.groups, -1)
    return values


def _with_state(layer: Layer, operand: Operand, state: WeightState) -> Operand:
    if operand.sparsity == DENSE:
        operand = replace(operand, sparsity=state.sparsity)
    form = state.runnable
    if operand.format is not None or form is None or _per_mixed_channel(layer, form):
        return operand
    return replace(operand, format=form, step=state.step if form == state.integer else None)


def _per_mixed_channel(layer: Layer, form: NumberFormat) -> bool:
    """Whether a format has a step per output channel where no axis of the weights counts these."""
    a = layer.attributes
    grouped = isinstance(a, ConvAttributes) and a.transposed and a.groups > 1
    return grouped and form.per is Granularity.CHANNEL


def _notes(found: Iterable[tuple[Operand, Operand, WeightState]]) -> list[str]:
    """Return one sentence each for formats that are set, formats that are not, and zeros."""
    used: Counter[str] = Counter()
    other: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    elements = nonzeros = zero_layers = 0
    for operand, made, state in found:
        if operand.format is None and made.format is not None:
            used[_named(made.format)] += 1
        if operand.format is None and state.format not in (None, made.format):
            priced = f" (priced as {made.format})" if made.format else ""
            other[f"{_named(state.format)}{priced}"] += 1
        if operand.sparsity == DENSE and state.sparsity.structure is not Structure.DENSE:
            zero_layers += 1
            elements += state.elements
            nonzeros += round(state.elements * state.density)
            if state.sparsity.structure is not Structure.UNSTRUCTURED:
                kinds[str(state.sparsity)] += 1
    notes = []
    if used:
        notes.append(f"weights found quantised, from their values: {_listed(used)}")
    if other:
        notes.append(f"weights found in formats that integer hardware does not multiply: {_listed(other)}")
    if zero_layers:
        where = f"in {_layers(zero_layers)}, which keep {nonzeros / elements:.0%} of their weights"
        notes.append(f"zero weights found {where}" + (f": {_listed(kinds)}" if kinds else ""))
    return notes


def _named(form: NumberFormat) -> str:
    if form.kind is FormatKind.CODEBOOK:
        return f"codebooks of up to {1 << form.bits} values"
    return f"{form} per channel" if form.per is Granularity.CHANNEL else str(form)


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} in {_layers(n)}" for name, n in counts.most_common())


def _layers(count: int) -> str:
    return f"{count} layer{'s' if count > 1 else ''}"
