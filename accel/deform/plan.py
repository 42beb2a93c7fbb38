"""Places a network on the engine: which layers form a job together, which are absorbed, which the host runs, and the remarks.

A 1x1 convolution whose only reader (behind norms and clamps that the requantiser does) is a 3x3 layer shares its call.
Where deformable layers read their points: `reach`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from picojoule.accel.deform.calls import Call, can_fuse, lowered_calls, pointwise_calls, window_calls
from picojoule.accel.deform.cycles import Access
from picojoule.accel.deform.reach import Reading, access_of, listed, reach_of, reading_notes, reading_of, windows
from picojoule.accel.deform.roles import (
    ENGINE_ROLES,
    Choice,
    Role,
    channels_of,
    check_formats,
    choose,
    is_requantised,
)
from picojoule.accel.deform.spec import DeformSpec
from picojoule.sim.attributes import Op
from picojoule.sim.fusion import sole_producers
from picojoule.sim.ir import Layer, Network
from picojoule.sim.offsets import Sampling, sampling_of
from picojoule.sim.passes import fill_formats


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Layers that share calls of the engine (one, or a 1x1 and the 3x3 behind it), and those calls.

    `sampling` is that of a deformable layer; `far` says that its points come from DRAM and not from the line buffer.
    """

    layers: tuple[Layer, ...]
    role: Role
    calls: tuple[Call, ...]
    sampling: Sampling | None = None
    far: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Where everything runs. `network` has its formats filled in; `assumed` says whether a MAC operand's had to be."""

    network: Network
    assumed: bool
    batch: int
    jobs: tuple[Job, ...]
    choices: Mapping[str, Choice]
    samplings: Mapping[str, Sampling]
    readings: Mapping[str, Reading]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """By layer: how offsets come about, what runs it, and how the points of deformable ones are read (engine's only)."""

    samplings: Mapping[str, Sampling]
    choices: dict[str, Choice]
    readings: Mapping[str, Reading]


def plan_of(network: Network, batch: int, spec: DeformSpec) -> Plan:
    """Return where the layers of a network run.

    Raises:
        UnsupportedError: for formats that are not integer.
        InfeasibleError: for more bits than the engine has, or maps no row of the line buffer can hold.

    """
    filled, assumed = fill_formats(network, spec.native_weight, spec.native_activation)
    found = placed(filled, spec)
    samplings, choices, readings = found.samplings, found.choices, found.readings
    notes = reading_notes(filled.layers, samplings, readings, spec)
    for layer in filled.layers:
        if choices[layer.name].role in ENGINE_ROLES:
            weight, activation = layer.operands[1].format, layer.operands[0].format
            assert weight is not None and activation is not None
            check_formats(layer, spec, weight, activation)
    producers = sole_producers(filled)
    _absorb(filled, producers, samplings, choices)
    jobs = _jobs(filled, producers, found, batch, spec)
    return Plan(
        network=filled,
        assumed=assumed,
        batch=batch,
        jobs=tuple(jobs),
        choices=choices,
        samplings=samplings,
        readings=readings,
        notes=(*notes, *_host_notes(filled, choices)),
    )


def placed(network: Network, spec: DeformSpec) -> Placed:
    """Return what runs each layer and where deformable ones sample, before anything is absorbed or fused."""
    samplings = {layer.name: sampling_of(network, layer) for layer in network.layers if layer.op is Op.DEFORM_CONV}
    choices, readings = {layer.name: choose(layer, spec) for layer in network.layers}, dict[str, Reading]()
    for layer in network.layers:
        if layer.name in samplings and windows(choices[layer.name].role):
            readings[layer.name] = reading_of(layer, samplings[layer.name], spec)
            if readings[layer.name] is Reading.HOST:
                choices[layer.name] = Choice(role=Role.HOST, reason="far_reads: host")
    return Placed(samplings=samplings, choices=choices, readings=readings)


def _absorb(
    network: Network, producers: Mapping[str, Layer], samplings: Mapping[str, Sampling], choices: dict[str, Choice]
) -> None:
    """Move what the offset path and the requantiser do out of the host's hands."""
    for name, sampling in samplings.items():
        if choices[name].role in ENGINE_ROLES:
            for absorbed in sampling.absorbed:
                if choices[absorbed].role is Role.HOST:
                    choices[absorbed] = Choice(role=Role.OFFSETS)
    clamped: dict[str, bool] = {}
    for layer in network.layers:
        before = producers.get(layer.name)
        if before is None or choices[layer.name].role is not Role.HOST:
            continue
        engine = choices[before.name].role in ENGINE_ROLES
        if (engine or before.name in clamped) and is_requantised(layer, clamped.get(before.name, False)):
            choices[layer.name] = Choice(role=Role.REQUANTISER)
            clamped[layer.name] = layer.op is Op.ACTIVATION or clamped.get(before.name, False)


def _jobs(network: Network, producers: Mapping[str, Layer], found: Placed, batch: int, spec: DeformSpec) -> list[Job]:
    choices, samplings = found.choices, found.samplings
    partners = _partners(network, producers, found, spec)
    fused = {before.name for before in partners.values()}
    jobs = []
    for layer in network.layers:
        role = choices[layer.name].role
        if role not in ENGINE_ROLES or layer.name in fused:
            continue
        sampling, before = samplings.get(layer.name), partners.get(layer.name)
        far = found.readings.get(layer.name) is Reading.DRAM
        layers = (layer,) if before is None else (before, layer)
        calls = _calls(layer, before, role, sampling, far, batch, spec)
        jobs.append(Job(layers=layers, role=role, calls=tuple(calls), sampling=sampling, far=far))
    return jobs


def _calls(
    layer: Layer,
    before: Layer | None,
    role: Role,
    sampling: Sampling | None,
    far: bool,
    batch: int,
    spec: DeformSpec,
) -> list[Call]:
    if role is Role.LOWERED:
        return lowered_calls(layer, batch, spec)
    inputs, outputs = channels_of(layer)
    if role is Role.POINTWISE:
        return pointwise_calls(layer.results[0].type.elements(batch) // outputs, inputs, outputs, spec)
    reach = reach_of(layer, sampling)
    return window_calls(
        layer,
        batch,
        spec,
        access=Access.ORDINARY if far else access_of(layer, sampling),
        reach=spec.reach if reach is None or reach > spec.reach else max(1, int(-(-reach // 1))),
        fused_inputs=channels_of(before)[0] if before is not None else None,
        full=role is Role.FULL,
    )


def _partners(
    network: Network, producers: Mapping[str, Layer], placed_at: Placed, spec: DeformSpec
) -> dict[str, Layer]:
    """Return by name of a 3x3 layer the 1x1 convolution that shares its calls."""
    choices = placed_at.choices
    found: dict[str, Layer] = {}
    for layer in network.layers:
        if choices[layer.name].role is not Role.WINDOW:
            continue
        if placed_at.readings.get(layer.name) is Reading.DRAM:
            continue  # far points are read from DRAM, so the map must be there
        before = producers.get(layer.name)
        while before is not None and choices[before.name].role is Role.REQUANTISER:
            before = producers.get(before.name)
        if before is None or before.op is not Op.CONV or choices[before.name].role is not Role.POINTWISE:
            continue
        if can_fuse(channels_of(before)[0], spec):
            found[layer.name] = before
    return found


def _host_notes(network: Network, choices: Mapping[str, Choice]) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for layer in network.layers:
        choice = choices[layer.name]
        if choice.role is Role.HOST and choice.reason:
            reasons.setdefault(choice.reason, []).append(layer.name)
    return [f"on the host: {listed(names)} ({reason})" for reason, names in reasons.items()]
