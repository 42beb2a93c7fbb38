"""Shares of MAC slots: how much of an engine's time multiplies, and what the rest is lost to.

A layer's slots are those of its own engine over the whole time of its calls: of two fused layers, both engines are held.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from picojoule.accel.deform.cycles import WINDOW, Access, CallCycles, IntArray, ceil_div, window_interval
from picojoule.accel.deform.plan import Job
from picojoule.accel.deform.pricing import Timed, over_calls
from picojoule.accel.deform.roles import Role
from picojoule.accel.deform.spec import DeformSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Slots:
    """Shares of a layer's MAC slots that multiply, and that are lost to each cause; together one.

    `slots` are those that are clocked with operands, padding included.
    """

    slots: int
    utilization: float
    mapping_efficiency: float
    compute_utilization: float
    lost: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Steps:
    """Cycles per call, [calls]: steps that multiply `macs` each, of the loop that reads pixels in, and of serial reads."""

    macs: int
    steps: IntArray
    input_loop: IntArray
    sampling: IntArray


def slots_of(
    job: Job, position: int, macs: int, cycles: CallCycles, counts: IntArray, timed: Timed, spec: DeformSpec
) -> Slots:
    """Return how the MAC slots of the layer at `position` of a job are used; `macs` are its multiply-accumulates."""
    window = job.role in (Role.WINDOW, Role.FULL) and position == len(job.layers) - 1
    found = _steps_of(job, window, spec)
    process = cycles.window if window else cycles.pointwise

    def total(per_call: IntArray) -> int:
        return over_calls(per_call, counts)

    lost_cycles = {
        "input_loop": total(found.input_loop),
        "refill": total(process - found.steps - found.input_loop - found.sampling),
        "other_engine": total(cycles.body - process),
        "weight_load": total(cycles.weights),
        "call_overhead": total(cycles.start),
        "sampling": total(found.sampling) + timed.sampling_stall,
        "bandwidth": timed.bandwidth_stall,
    }
    clocked, available = total(found.steps) * found.macs, timed.total * found.macs
    return Slots(
        slots=clocked,
        utilization=macs / available,
        mapping_efficiency=macs / clocked,
        compute_utilization=macs / (timed.compute * found.macs),
        lost={"padding": (clocked - macs) / available}
        | {cause: count / timed.total for cause, count in lost_cycles.items() if count},
    )


def _steps_of(job: Job, window: bool, spec: DeformSpec) -> _Steps:
    """Return the steps of the 3x3 engine (`window`) or of the 1x1 engine in each of a job's calls."""

    def column(name: str) -> IntArray:
        return np.array([getattr(c, name) for c in job.calls], dtype=np.int64)

    n, m, inputs, outputs = (column(k) for k in ("pixels", "out_pixels", "in_channels", "out_channels"))
    nothing = np.zeros_like(n)
    if job.role is Role.FULL:
        steps = m * ceil_div(inputs, spec.full_in) * ceil_div(outputs, spec.full_out)
        return _Steps(macs=spec.full_in * spec.full_out * WINDOW, steps=steps, input_loop=nothing, sampling=nothing)
    if window:
        groups, access = ceil_div(outputs, spec.depthwise_lanes), job.calls[0].access
        serial = int(window_interval(access, spec.line_buffer_ports, spec.reads_per_port)) - 1
        sampling = nothing if access is Access.ORDINARY else m * groups * serial
        return _Steps(macs=spec.depthwise_lanes * WINDOW, steps=m * groups, input_loop=n * groups, sampling=sampling)
    steps_in = ceil_div(inputs, spec.pe_in)
    steps = n * steps_in * ceil_div(outputs, spec.pe_out)
    return _Steps(macs=spec.pe_in * spec.pe_out, steps=steps, input_loop=n * steps_in, sampling=nothing)
