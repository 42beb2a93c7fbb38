"""What trained detectors cost on the FPGA unit, with the offsets they compute on validation scenes, and how those are read.

A convolution whose sampling points stay in the line buffer reads no memory for them; one that reads memory may use the
processor's cache. For every sampling variant the cache is also simulated as if all its points were read through it, with real
offsets and with random ones of the same range: real offsets of neighbours resemble each other. The published cache (1 MiB) holds
the whole of these small maps, so a second one is simulated that is as large as the map, as it is in the published ablation
(a 64 x 64 x 256 map of 1 MiB).
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from picojoule.deform_points import Point
from picojoule.deform_study import load_point
from picojoule.models.centre_net import BOUNDED_VARIANTS, SAMPLING_VARIANTS
from picojoule.models.scenes import make_scenes
from picojoule.sim.attributes import DeformConvAttributes
from picojoule.sim.errors import InputError
from picojoule.sim.hardware import load_hardware
from picojoule.sim.ir import Layer, Network
from picojoule.sim.offset_traces import OffsetTrace
from picojoule.sim.offsets import tap_grid

if TYPE_CHECKING:
    from picojoule.sim.protocol import Accelerator

Row = dict[str, Any]

HARDWARE = "ultra96-codenet"
TRACED_SCENES = 16
_VAL_SEED = 1
CLIP_SCENES = 100
_CACHES = {"1m": 1024, "map": 16}  # KiB; a map of 16 x 16 x 64 bytes has 16 KiB


def price_points(out: Path, points: Iterable[Point], *, hardware: str = HARDWARE) -> dict[Point, Row]:
    """Return latency_ms, accelerator_ms and host_ms of each trained point.

    Sampling variants have more: random_latency_ms (with random offsets), hit_rate_1m and hit_rate_map with real offsets and the
    same with random_ before them, mean_abs_offset in cells, share_moved (offsets that are not 0 when rounded); bounded ones also
    clipped_share. Their offset traces are written to `out`/offsets/NAME.npz. The engine is the preset, with a line buffer for
    N = 7 whatever the point's N.

    Raises:
        InputError: if a point was not trained.

    """
    import torch

    images = torch.tensor(make_scenes("val", TRACED_SCENES, seed=_VAL_SEED).images)
    return {point: _price(out, point, images, hardware) for point in points}


def _price(out: Path, point: Point, images: Any, hardware: str) -> Row:
    from picojoule.deform_quantized import network_of
    from picojoule.sim.numerics.offset_traces import record_offsets

    model, plans = load_point(out, point)
    network = network_of(model, plans or None)
    accelerator = load_hardware(hardware)
    if point.variant not in SAMPLING_VARIANTS:
        return _costs(accelerator, network, None)
    trace = record_offsets(network, images)
    trace.save(out / "offsets" / f"{point.name}.npz")
    drawn = random_trace(network, trace, point)
    costs = _costs(accelerator, network, trace)
    costs["random_latency_ms"] = _costs(accelerator, network, drawn)["latency_ms"]
    for name, kib in _CACHES.items():
        costs[f"hit_rate_{name}"] = hit_rate(network, trace, hardware, kib)
        costs[f"random_hit_rate_{name}"] = hit_rate(network, drawn, hardware, kib)
    moves = np.concatenate([o.ravel() for o in trace.offsets.values()])
    costs |= {"mean_abs_offset": float(np.abs(moves).mean()), "share_moved": float((moves != 0).mean())}
    return costs | ({"clipped_share": clipped_share(out, point)} if point.variant in BOUNDED_VARIANTS else {})


def clipped_share(out: Path, point: Point) -> float:
    """Return the share of computed offsets (d of a square) that a bounded variant's clip changes, over 100 validation scenes.

    Offsets are looked at as the network computes them, before clip and rounding, in floating point.

    Raises:
        InputError: if the point was not trained, or its variant has no bound.

    """
    import torch

    from picojoule.sim.numerics.deform_module import DeformConv2d

    if point.variant not in BOUNDED_VARIANTS:
        raise InputError(
            f"{point.name}: has no bound, so nothing is clipped; ask for one of {sorted(BOUNDED_VARIANTS)}"
        )
    model, _ = load_point(out, point)
    counts: list[tuple[int, int]] = []

    def watch(limits: tuple[float, float]) -> Any:
        def hook(_: Any, args: Any, found: torch.Tensor) -> None:
            counts.append((int(((found < limits[0]) | (found > limits[1])).sum()), found.numel()))

        return hook

    for module in model.modules():
        if isinstance(module, DeformConv2d):
            assert module.offset_conv is not None and module.bound is not None
            low = 0.0 if module.form == "square" else -module.bound
            module.offset_conv.register_forward_hook(watch((low, module.bound)))
    with torch.no_grad():
        model(torch.tensor(make_scenes("val", CLIP_SCENES, seed=_VAL_SEED).images))
    return sum(cut for cut, _ in counts) / sum(total for _, total in counts)


def _costs(accelerator: "Accelerator", network: Network, trace: OffsetTrace | None) -> Row:
    report = accelerator.evaluate(network, activations=trace)
    totals: Mapping[str, Any] = report.totals
    on_engine = totals["accelerator_latency_s"]
    return {
        "latency_ms": totals["latency_s"] * 1e3,
        "accelerator_ms": on_engine * 1e3,
        "host_ms": (totals["latency_s"] - on_engine) * 1e3,
    }


def random_trace(network: Network, trace: OffsetTrace, point: Point) -> OffsetTrace:
    """Return offsets of the trace's shapes, uniform over the variant's range: d of a square in 0..N, else every offset alone.

    A free variant's range is that of its own offsets, cut at the map.
    """
    rng = np.random.default_rng(point.seed)
    made: dict[str, NDArray[np.int16]] = {}
    for layer in _sampling_layers(network):
        real = trace.offsets[layer.name]
        if "square" in point.variant:
            d = rng.integers(0, int(point.bound) + 1, size=(len(real), 1, *real.shape[2:]))
            grid = tap_grid((3, 3), (1, 1)).reshape(1, -1, 1, 1)
            made[layer.name] = ((d - 1) * grid).astype(np.int16)
            continue
        reach = int(point.bound) - 1 if point.variant in BOUNDED_VARIANTS else min(int(np.abs(real).max()), 15)
        made[layer.name] = rng.integers(-reach, reach + 1, size=real.shape).astype(np.int16)
    return OffsetTrace(offsets=made, source="statistics")


def hit_rate(network: Network, trace: OffsetTrace, hardware: str, cache_kib: int) -> float:
    """Return the share of sampling reads that a cache of this size serves, over all deformable layers."""
    from picojoule.accel.deform.gather import SamplingPoints, gather_cost
    from picojoule.accel.deform.spec import DeformSpec

    spec = load_hardware(hardware, {"llc": True, "llc_kib": cache_kib}).spec
    assert isinstance(spec, DeformSpec)
    hits = reads = 0.0
    for layer in _sampling_layers(network):
        a = layer.attributes
        assert isinstance(a, DeformConvAttributes)
        _, channels, height, width = layer.operands[0].shape
        _, out_channels, out_height, out_width = layer.results[0].shape
        points = SamplingPoints(channels=channels, height=height, width=width)
        cost = gather_cost(
            spec,
            points,
            trace.offsets[layer.name],
            out_height=out_height,
            out_width=out_width,
            out_channels=out_channels,
        )
        hits, reads = hits + (cost.hit_rate or 0.0) * cost.reads, reads + cost.reads
    return hits / reads if reads else 0.0


def _sampling_layers(network: Network) -> list[Layer]:
    return [layer for layer in network.layers if isinstance(layer.attributes, DeformConvAttributes)]
