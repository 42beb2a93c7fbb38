"""Calls of the engine: how one job (a layer, or a 1x1 layer fused with the 3x3 layer behind it) is cut into them.

Limits and their answers, as in the published driver: more output channels than a pass has or than a row of the line buffer
holds take several passes, each reading the ifmap again; larger maps are cut into strips that share rows at their edges; more
weights than fit are cut likewise. k x k convolutions become k^2 shifted 1x1 calls whose partial sums go to DRAM and back;
groups run one after the other, or all at once with zeros between them, whichever is faster.
"""

from dataclasses import dataclass, replace
from math import prod

import numpy as np

from picojoule.accel.deform.cycles import WINDOW, Access, CallCycles, call_cycles, full_cycles, window_interval
from picojoule.accel.deform.reach import widest_strip
from picojoule.accel.deform.roles import channels_of, groups_of
from picojoule.accel.deform.spec import DeformSpec
from picojoule.sim.attributes import ConvAttributes, DeformConvAttributes
from picojoule.sim.errors import InfeasibleError
from picojoule.sim.ir import Layer


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """`count` equal calls: `pixels` enter, `out_pixels` leave; channels before padding.

    `reads_sums` and `writes_sums` say whether partial sums come from and go to DRAM instead of nothing and the ofmap.
    """

    pixels: int
    out_pixels: int
    in_channels: int
    out_channels: int
    pointwise: bool = False
    window: bool = False
    full: bool = False
    access: Access = Access.ORDINARY
    reads_sums: bool = False
    writes_sums: bool = False
    count: int = 1


def cycles_of(calls: list[Call], spec: DeformSpec) -> CallCycles:
    """Return the cycles of each of `calls` once, [calls]; a full engine's stand as its 3x3 process.

    Raises:
        InputError: if a count would not fit int64.

    """

    def column(name: str) -> list[int]:
        return [getattr(c, name) for c in calls]

    ports, reads = spec.line_buffer_ports, spec.reads_per_port
    interval = np.array([int(window_interval(c.access, ports, reads)) for c in calls], dtype=np.int64)
    cycles = call_cycles(
        pixels=column("pixels"),
        out_pixels=column("out_pixels"),
        in_channels=column("in_channels"),
        out_channels=column("out_channels"),
        pointwise=column("pointwise"),
        window=column("window"),
        interval=interval,
        pe_in=spec.pe_in,
        pe_out=spec.pe_out,
        depthwise_lanes=spec.depthwise_lanes,
        pixel_refill_cycles=spec.pixel_refill_cycles,
        tile_refill_cycles=spec.tile_refill_cycles,
        start_cycles=spec.call_cycles,
    )
    if not any(c.full for c in calls):
        return cycles
    full = np.array(column("full"), dtype=np.bool_)
    array = full_cycles(
        out_pixels=column("out_pixels"),
        in_channels=column("in_channels"),
        out_channels=column("out_channels"),
        full_in=spec.full_in,
        full_out=spec.full_out,
        full_step_cycles=spec.full_step_cycles,
    )
    steps_in = -(-np.array(column("in_channels"), dtype=np.int64) // spec.full_in)
    sampled = np.array(column("out_pixels"), dtype=np.int64) * interval * steps_in
    steps_out = -(-np.array(column("out_channels"), dtype=np.int64) // spec.full_out)
    loaded = WINDOW * steps_in * steps_out * spec.full_out
    return replace(
        cycles,
        pointwise=np.where(full, 0, cycles.pointwise),
        window=np.where(full, np.maximum(array, sampled), cycles.window),
        window_weights=np.where(full, loaded, cycles.window_weights),
    )


def pointwise_calls(pixels: int, in_channels: int, out_channels: int, spec: DeformSpec) -> list[Call]:
    """Return the calls of a 1x1 layer on so many pixels of any arrangement."""
    chunk = min(in_channels, max(spec.pe_in, _fitting(spec, spec.pe_out)))
    limit = min(spec.max_pass_channels, max(spec.pe_out, _fitting(spec, chunk)))
    strips, strip = _strips_of_pixels(pixels, spec)
    return [
        Call(
            pixels=strip,
            out_pixels=strip,
            in_channels=inputs,
            out_channels=outputs,
            pointwise=True,
            reads_sums=reads,
            writes_sums=writes,
            count=strips * passes * repeats,
        )
        for outputs, passes in _parts(out_channels, limit)
        for inputs, reads, writes, repeats in _summed(in_channels, chunk)
    ]


def _summed(total: int, chunk: int) -> list[tuple[int, bool, bool, int]]:
    """Return (inputs, reads sums, writes sums, how many) of a reduction done in chunks, one after the other."""
    chunks = -(-total // chunk)
    if chunks == 1:
        return [(total, False, False, 1)]
    middle = [(chunk, True, True, chunks - 2)] if chunks > 2 else []
    return [(chunk, False, True, 1), *middle, (total - chunk * (chunks - 1), True, False, 1)]


def window_calls(
    layer: Layer,
    batch: int,
    spec: DeformSpec,
    *,
    access: Access,
    reach: int,
    fused_inputs: int | None = None,
    full: bool = False,
) -> list[Call]:
    """Return the calls of a 3x3 layer, or of it with the 1x1 layer before it that has `fused_inputs` channels.

    `reach` is how many rows or columns a sampling point may be away from its pixel.

    Raises:
        InfeasibleError: if a row of the line buffer cannot hold the narrowest strip.

    """
    in_channels, out_channels = channels_of(layer)
    x, y = layer.operands[0].type.at(batch), layer.results[0].type.at(batch)
    lanes = in_channels if full else spec.depthwise_lanes
    capacity = spec.line_buffer_row_bytes * 8 // spec.activation_bits
    rows, row = _strips(x[2], spec.max_side, reach, layer, spec)
    cols, col = _strips(x[3], widest_strip(lanes, spec), reach, layer, spec)
    per_pass = max(lanes, capacity // col // lanes * lanes)
    strips = rows * cols * x[0]
    pixels, out_pixels = row * col, -(-prod(y[2:]) // (rows * cols))
    limit = min(spec.max_pass_channels, per_pass)
    if full:
        passes = [(c, n) for c, n in _parts(out_channels, spec.max_pass_channels)]
    elif fused_inputs is None:
        passes = _parts(out_channels, limit)
    else:
        fits = max(spec.pe_out, _fitting(spec, fused_inputs))
        passes = _parts(out_channels, min(limit, fits))
    return [
        Call(
            pixels=pixels,
            out_pixels=out_pixels,
            in_channels=in_channels if full else channels if fused_inputs is None else fused_inputs,
            out_channels=channels,
            pointwise=fused_inputs is not None,
            window=not full,
            full=full,
            access=access,
            count=strips * count,
        )
        for channels, count in passes
    ]


def can_fuse(inputs: int, spec: DeformSpec) -> bool:
    """Whether a 1x1 layer of so many input channels can be followed by a 3x3 layer in one call: its sums must stay inside."""
    return inputs <= max(spec.pe_in, _fitting(spec, spec.pe_out))


def lowered_calls(layer: Layer, batch: int, spec: DeformSpec) -> list[Call]:
    """Return the calls of a convolution of any kernel, stride, dilation and groups, as one shifted 1x1 pass per tap."""
    a = layer.attributes
    assert isinstance(a, ConvAttributes | DeformConvAttributes)
    in_channels, out_channels = channels_of(layer)
    taps, groups = prod(layer.operands[1].shape[2:]), groups_of(layer)
    y = layer.results[0].type.at(batch)
    pixels = y[0] * prod(y[2:])
    together = _shifted(pointwise_calls(pixels, in_channels, out_channels, spec), taps, 1)
    if groups == 1:
        return together
    apart = _shifted(pointwise_calls(pixels, in_channels // groups, out_channels // groups, spec), taps, groups)
    return min((apart, together), key=lambda calls: _time(calls, spec))


def _shifted(calls: list[Call], taps: int, groups: int) -> list[Call]:
    """Return the calls of all taps: the first reads no sums, the last writes none (unless the 1x1 pass itself was cut)."""
    if taps == 1:
        return [replace(c, count=c.count * groups) for c in calls]
    found = []
    for call in calls:
        found.append(replace(call, writes_sums=True, count=call.count * groups))
        if taps > 2:
            found.append(replace(call, reads_sums=True, writes_sums=True, count=call.count * groups * (taps - 2)))
        found.append(replace(call, reads_sums=True, count=call.count * groups))
    return _merged(found)


def _time(calls: list[Call], spec: DeformSpec) -> int:
    return sum(int(t) * c.count for t, c in zip(cycles_of(calls, spec).total, calls, strict=True))


def _fitting(spec: DeformSpec, channels: int) -> int:
    """Return how many channels on one side fit the weight buffer with `channels` on the other, in whole steps."""
    step = max(spec.pe_in, spec.pe_out)
    return (
        int(spec.weight_buffer_kib * 8192 / spec.weight_bits / -(-channels // spec.pe_in) / spec.pe_in) // step * step
    )


def _parts(total: int, limit: int) -> list[tuple[int, int]]:
    """Return [(size, how many)] of parts of at most `limit`: whole ones, and what is left."""
    whole, rest = divmod(total, limit)
    return ([(limit, whole)] if whole else []) + ([(rest, 1)] if rest else [])


def _strips_of_pixels(pixels: int, spec: DeformSpec) -> tuple[int, int]:
    strips = -(-pixels // spec.max_side**2)
    return strips, -(-pixels // strips)


def _strips(size: int, limit: int, halo: int, layer: Layer, spec: DeformSpec) -> tuple[int, int]:
    """Return (strips, rows or columns of each) of a map's side, where neighbours share `halo` on either side."""
    if size <= limit:
        return 1, size
    inner = limit - 2 * halo
    if inner < 1:
        raise InfeasibleError(
            f"layer '{layer.name}': a map of {size} rows or columns needs strips of more than {2 * halo} but a call of "
            f"'{spec.name or spec.kind}' holds {limit}; raise max_side and line_buffer_row_bytes or bound the offsets"
        )
    strips = -(-size // inner)
    return strips, -(-(size + 2 * halo * (strips - 1)) // strips)


def _merged(calls: list[Call]) -> list[Call]:
    """Return equal calls as one, counted."""
    found: dict[Call, int] = {}
    for call in calls:
        key = replace(call, count=1)
        found[key] = found.get(key, 0) + call.count
    return [replace(call, count=count) for call, count in found.items()]
