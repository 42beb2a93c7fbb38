"""Where the sampling points of a deformable layer are read: line buffer, memory, or the host; decided with the network.

The line buffer holds `reach` rows on either side of a pixel (N of the 2N + 1). The published operator bounds offsets to +-N,
so a window's outermost taps would lie N + 1 away; the published buffer does not hold that row, so those taps are held at N
(`Reading.HELD`): in price and arithmetic. What goes farther is `far_reads`' to decide.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from math import floor

from picojoule.accel.deform.cycles import Access
from picojoule.accel.deform.roles import Role, channels_of
from picojoule.accel.deform.spec import DeformSpec
from picojoule.sim.attributes import ConvAttributes, DeformConvAttributes
from picojoule.sim.ir import Layer
from picojoule.sim.offsets import OffsetForm, Sampling


class Reading(StrEnum):
    """How a deformable layer's sampling points are read."""

    BUFFER = "line buffer"
    HELD = "line buffer, outermost taps held at its edge"
    CLAMPED = "line buffer, offsets cut to it"
    DRAM = "memory"
    HOST = "host"


HOLDING = frozenset({Reading.HELD, Reading.CLAMPED})
"""Taps beyond the line buffer are read at its edge."""


def reading_of(layer: Layer, sampling: Sampling, spec: DeformSpec) -> Reading:
    """Return how the points of a deformable layer that the engine could run are read."""
    reach = reach_of(layer, sampling)
    if (reach is not None and reach <= spec.reach) or holds_map(layer, spec):
        return Reading.BUFFER
    if (
        sampling.form is OffsetForm.BOUND
        and reach is not None
        and reach <= spec.reach + 1
        and _most(sampling) <= spec.reach
    ):
        return Reading.HELD
    return {"dram": Reading.DRAM, "host": Reading.HOST, "clamp": Reading.CLAMPED}[spec.far_reads]


def reach_of(layer: Layer, sampling: Sampling | None) -> float | None:
    """Return how many rows or columns a sampling point may be from its pixel; None: any number."""
    a = layer.attributes
    if sampling is not None:
        assert isinstance(a, DeformConvAttributes)
        kernel = layer.operands[1].shape[2:]
        return sampling.reach((kernel[0], kernel[1]), (a.dilation[0], a.dilation[1]))
    return float(max(a.dilation)) if isinstance(a, ConvAttributes) else 1.0


def access_of(layer: Layer, sampling: Sampling | None) -> Access:
    """Return how a 3x3 layer's taps lie in the line buffer."""
    a = layer.attributes
    if sampling is None:
        return Access.SQUARE if isinstance(a, ConvAttributes) and max(a.dilation) > 1 else Access.ORDINARY
    return {OffsetForm.FIXED: Access.ORDINARY, OffsetForm.SQUARE: Access.SQUARE}.get(sampling.form, Access.TAPS)


def holds_map(layer: Layer, spec: DeformSpec) -> bool:
    """Whether every row of a map is in the line buffer for every pixel: points farther away are outside the map, hence zero.

    A map wider than a row of the buffer is cut into strips of columns, so it is not held.
    """
    a, (height, width) = layer.attributes, layer.operands[0].shape[2:]
    inputs, outputs = channels_of(layer)
    full = isinstance(a, DeformConvAttributes) and a.groups == 1 and (inputs, outputs) != (1, 1)
    return height - 1 <= spec.reach and width <= widest_strip(inputs if full else spec.depthwise_lanes, spec)


def widest_strip(lanes: int, spec: DeformSpec) -> int:
    """Return the columns of a call whose rows hold at least `lanes` channels."""
    return min(spec.max_side, spec.line_buffer_row_bytes * 8 // spec.activation_bits // lanes)


def reading_notes(
    layers: Iterable[Layer], samplings: Mapping[str, Sampling], readings: Mapping[str, Reading], spec: DeformSpec
) -> list[str]:
    """Return remarks on offsets that the engine changes, and on points that leave the line buffer."""
    chosen = [layer for layer in layers if layer.name in readings]
    rounded = [
        y.name
        for y in chosen
        if readings[y.name] is not Reading.HOST
        and not samplings[y.name].rounded
        and samplings[y.name].form is not OffsetForm.FIXED
    ]
    notes = []
    if rounded:
        notes.append(
            f"the engine samples whole pixels: offsets of {listed(rounded)} are rounded to integers, which changes results; "
            "train with rounded offsets"
        )
    held = [y.name for y in chosen if readings[y.name] is Reading.HELD]
    if held:
        notes.append(
            f"offsets of {listed(held)} stay within the line buffer ({spec.reach} rows on either side) but their outermost taps "
            f"would lie a row beyond: those are held at {spec.reach}, which changes results; "
            f"line_buffer_rows={spec.rows + 2} reads them all"
        )
    far = [y for y in chosen if readings[y.name] in (Reading.DRAM, Reading.HOST, Reading.CLAMPED)]
    if far:
        answer = {
            "dram": "every point is read from DRAM",
            "host": "they run on the host",
            "clamp": "offsets are cut to it, which changes results",
        }[spec.far_reads]
        notes.append(
            f"sampling points of {listed([y.name for y in far])} may leave the line buffer ({spec.reach} rows on either side), "
            f"so {answer} (far_reads); {_remedy(far, samplings, spec)} or raise line_buffer_rows"
        )
    return notes


def listed(names: list[str]) -> str:
    """Return names for a sentence: three of them, and how many more."""
    shown = ", ".join(f"'{n}'" for n in names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown


def windows(role: Role) -> bool:
    """Whether a role samples through the line buffer."""
    return role in (Role.WINDOW, Role.FULL)


def _most(sampling: Sampling) -> float:
    assert sampling.low is not None and sampling.high is not None
    return max(abs(sampling.low), abs(sampling.high))


def _remedy(far: list[Layer], samplings: Mapping[str, Sampling], spec: DeformSpec) -> str:
    """Return what the largest bounds are that would fit."""
    own = max(max(y.attributes.dilation) for y in far if isinstance(y.attributes, DeformConvAttributes))
    bounds = []
    forms = {samplings[y.name].form for y in far}
    if forms - {OffsetForm.SQUARE}:
        bounds.append(f"offsets to at most {max(0, min(spec.reach, spec.reach + 1 - own))}")
    if OffsetForm.SQUARE in forms:
        bounds.append(f"d of square ones to at most {floor(spec.reach / own)}")
    return f"bound {', '.join(bounds)}"
