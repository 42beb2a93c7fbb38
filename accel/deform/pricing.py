"""Turns jobs into cycles, stalls and traffic.

A 1x1 layer fused with the 3x3 behind it has one row each: the 1x1's holds the time the call would take alone, the 3x3's what
it adds, so rows sum to the total.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from picojoule.accel.deform.calls import Call, cycles_of
from picojoule.accel.deform.cycles import WINDOW, Access, CallCycles
from picojoule.accel.deform.gather import sampled_seconds
from picojoule.accel.deform.plan import Job
from picojoule.accel.deform.roles import Role
from picojoule.accel.deform.spec import DeformSpec
from picojoule.sim.attributes import ConvAttributes, DeformConvAttributes
from picojoule.sim.ir import Layer, OperandKind
from picojoule.sim.offsets import OffsetForm
from picojoule.sim.passes import result_bytes

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Elements that a job moves from and to DRAM (padded to whole words); bytes of streams and weights per call, [calls]."""

    ifmap: int
    ofmap: int
    offsets: int
    sums_read: int
    sums_written: int
    weights: tuple[int, ...]
    stream_bytes: npt.NDArray[np.float64]
    weight_bytes: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """A job in cycles, all of its calls together: `first` is the share of the first of two fused layers."""

    compute: int
    first: int
    bandwidth_stall: int
    sampling_stall: int

    @property
    def total(self) -> int:
        """Cycles of the job with its stalls."""
        return self.compute + self.bandwidth_stall + self.sampling_stall


def over_calls(per_call: IntArray, counts: IntArray) -> int:
    """Return the sum over calls of something each does, in Python ints: a large batch could leave 64 bits."""
    values = np.broadcast_to(per_call, counts.shape).tolist()
    return sum(value * count for value, count in zip(values, counts.tolist(), strict=True))


def job_cycles(job: Job, spec: DeformSpec) -> tuple[CallCycles, IntArray]:
    """Return the cycles of each of a job's calls, [calls], and how often each runs, [calls]."""
    return cycles_of(list(job.calls), spec), np.array([c.count for c in job.calls], dtype=np.int64)


def time_job(
    job: Job, cycles: CallCycles, counts: IntArray, traffic: Traffic, gather_s: float, spec: DeformSpec
) -> Timed:
    """Return the time of a job in cycles.

    Streams overlap with computing, so only what they take longer stalls; weights are loaded before. How reads of far sampling
    points (`gather_s`, for all calls) overlap with computing: `gather.sampled_seconds`.
    """
    clock_hz = spec.clock_mhz * 1e6
    bytes_per_cycle = spec.stream_bytes_per_s / clock_hz
    transfer, loading = (
        np.ceil(moved / bytes_per_cycle).astype(np.int64) for moved in (traffic.stream_bytes, traffic.weight_bytes)
    )
    waiting = np.maximum(0, transfer - cycles.body) + np.maximum(0, loading - cycles.weights)
    body = over_calls(cycles.body, counts)
    sampled = sampled_seconds(spec, body / clock_hz, gather_s) if gather_s else 0.0
    compute = over_calls(cycles.total, counts)
    first = compute if len(job.layers) == 1 else over_calls(cycles.without_window, counts)
    return Timed(
        compute=compute,
        first=min(first, compute),
        bandwidth_stall=over_calls(waiting, counts),
        sampling_stall=max(0, int(np.ceil(sampled * clock_hz)) - body),
    )


def traffic_of(job: Job, counts: IntArray, spec: DeformSpec) -> Traffic:
    """Return what a job moves; far sampling points are not in it (they are read on their own, instead of the ifmap)."""
    activation, sums = _bits(job.layers[0], 0), spec.accumulator_bits
    result = job.layers[-1].results[0].format
    result_bits = result.stored_bits if result is not None else float(spec.activation_bits)
    ifmap, ofmap, sums_in, sums_out, offsets = (np.zeros(len(job.calls), dtype=np.int64) for _ in range(5))
    per_pixel, loaded = offsets_per_pixel(job), _weights(job)
    for i, call in enumerate(job.calls):
        entering, leaving = words_of(call, spec)
        ifmap[i] = 0 if job.far else call.pixels * entering
        ofmap[i] = 0 if call.writes_sums else call.out_pixels * leaving
        sums_in[i] = call.out_pixels * leaving if call.reads_sums else 0
        sums_out[i] = call.out_pixels * leaving if call.writes_sums else 0
        offsets[i] = call.out_pixels * per_pixel
    bits = ifmap * activation + ofmap * result_bits + (sums_in + sums_out) * sums + offsets * spec.offset_bits
    return Traffic(
        ifmap=over_calls(ifmap, counts),
        ofmap=over_calls(ofmap, counts),
        offsets=over_calls(offsets, counts),
        sums_read=over_calls(sums_in, counts),
        sums_written=over_calls(sums_out, counts),
        weights=tuple(over_calls(np.array(each, dtype=np.int64), counts) for each in loaded),
        stream_bytes=bits / 8,
        weight_bytes=sum(
            (np.array(each) * _bits(layer, 1) / 8 for layer, each in zip(job.layers, loaded, strict=True)),
            start=np.zeros(len(job.calls)),
        ),
    )


def offsets_per_pixel(job: Job) -> int:
    """Return how many offsets the engine reads per output pixel: none, one (square), or two per tap."""
    if job.sampling is None or job.sampling.form is OffsetForm.FIXED:
        return 0
    return 1 if job.sampling.form is OffsetForm.SQUARE else 2 * WINDOW


def dram_bytes(job: Job, traffic: Traffic, position: int, spec: DeformSpec) -> tuple[int, int]:
    """Return (read, written) bytes of the layer at `position` of a job: the first reads the ifmap, the last writes the ofmap."""
    layer = job.layers[position]
    read = _bytes(traffic.weights[position], _bits(layer, 1)) + _bias_bytes(layer)
    written = 0
    if position == 0:
        read += _bytes(traffic.ifmap, _bits(layer, 0))
    if position == len(job.layers) - 1:
        result = layer.results[0].format
        written = _bytes(traffic.ofmap, result.stored_bits if result is not None else spec.activation_bits)
        read += _bytes(traffic.offsets, spec.offset_bits)
        read += _bytes(traffic.sums_read, spec.accumulator_bits)
        written += _bytes(traffic.sums_written, spec.accumulator_bits)
    return read, written


def line_accesses(job: Job, spec: DeformSpec) -> tuple[int, int]:
    """Return elements (written to, read from) the line buffer by a 3x3 job: each pixel once; taps of each output.

    Ordinary windows keep their taps in a register and read the columns that enter it, 3 rows each; others read all 9 taps.
    """
    written = read = 0
    a = job.layers[-1].attributes
    stride = a.stride[1] if isinstance(a, ConvAttributes | DeformConvAttributes) else 1
    for call in job.calls:
        channels = words_of(call, spec)[0] if call.full else padded(call.out_channels, spec.depthwise_lanes)
        taps = 3 * min(stride, 3) if call.access is Access.ORDINARY else WINDOW
        written += call.count * call.pixels * channels
        read += call.count * call.out_pixels * channels * taps
    return written, read


def words_of(call: Call, spec: DeformSpec) -> tuple[int, int]:
    """Return channels that enter and leave a call, in whole words."""
    if call.full:
        return padded(call.in_channels, spec.full_in), padded(call.out_channels, spec.full_out)
    entering = padded(call.in_channels, spec.pe_in if call.pointwise else spec.depthwise_lanes)
    return entering, padded(call.out_channels, spec.depthwise_lanes if call.window else spec.pe_out)


def padded(channels: int, step: int) -> int:
    """Return channels in whole steps."""
    return -(-channels // step) * step


def _weights(job: Job) -> list[tuple[int, ...]]:
    """Return the weights that each layer of a job loads in each of its calls, [layers][calls]."""
    one = tuple(c.in_channels * c.out_channels for c in job.calls)
    three = tuple(WINDOW * c.out_channels for c in job.calls)
    if len(job.layers) == 2:
        return [one, three]
    if job.role is Role.FULL:
        return [tuple(WINDOW * n for n in one)]
    return [three if job.role is Role.WINDOW else one]


def _bias_bytes(layer: Layer) -> int:
    a = layer.attributes
    rest = layer.operands[3 if isinstance(a, DeformConvAttributes) else 2 :]
    return sum(result_bytes(o, 1) for o in rest if o.kind is OperandKind.PARAMETER)


def _bits(layer: Layer, position: int) -> float:
    form = layer.operands[position].format
    assert form is not None
    return form.stored_bits


def _bytes(elements: int, bits: float) -> int:
    return -(-int(elements * bits) // 8)
