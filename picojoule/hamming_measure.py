"""What the trained points of the Hamming study do on hardware: accuracy in 8-bit integers, and flips on the weight ports.

Flips are those of the integers that a systolic array holds (batch norms folded), counted by the toggle counter for one image,
for every array, number code and order below; a network of fewer bits travels in words of as many bits. Networks are loaded from
the points' files, so this needs no training and its figures can be made again when the counter changes.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from picojoule.hamming_points import ARRAY, Point
from picojoule.hamming_study import StudySettings, Tell, current, derive, fresh, point_file
from picojoule.sim.evaluation import versions

if TYPE_CHECKING:
    from picojoule.models.data import Dataset
    from picojoule.sim.gemm import Gemm
    from picojoule.sim.ir import Network

Ints = NDArray[np.int64]
Taken = dict[str, list[Ints]]
HARDWARE = "edge-16x16"
CODES = ("twos_complement", "sign_magnitude")
SEGMENTS = (8, 16, 32)
"""Rows of the arrays, which are as wide: a segment is as long as the array is high."""
CLUSTERS = 4
SWEEPS = 4
MEASURE_VERSION = 1
"""Raised when the toggle counter, the orders or the arithmetic change what a measurement would be."""


def variants() -> list[str]:
    """Return the names of all counts: dataflow, array, code, order."""
    orders = ("as_is", "channels", "segments", "clusters")
    found = [f"is-{rows}-{code}-{order}" for rows in SEGMENTS for code in CODES for order in orders]
    return found + [f"os-{ARRAY}-{code}-as_is" for code in CODES]


def measure_points(out: Path, settings: StudySettings, results: Mapping[Point, Mapping[str, Any]], tell: Tell) -> None:
    """Measure the final points that were not yet, or by another version of what measures."""

    def made(point: Point, result: Mapping[str, Any], data: "Dataset") -> dict[str, Any]:
        return measure(out, settings, point, result, data)

    derive(out, settings, results, "measured.json", basis(), made, tell)


def measured_of(out: Path, results: Mapping[Point, Mapping[str, Any]]) -> dict[Point, dict[str, Any]]:
    """Return what was measured of final points, stale files left out; errors as `hamming_study.current`."""
    return current(out, results, "measured.json", basis())


def basis() -> dict[str, Any]:
    """Return what a measurement depends on beside the trained point."""
    from picojoule.accel.systolic.accelerator import SystolicArray

    model = SystolicArray.model_version
    return {"measure_version": MEASURE_VERSION, "model_version": model, "hardware": HARDWARE, "variants": variants()}


def measure(
    out: Path, settings: StudySettings, point: Point, result: Mapping[str, Any], data: "Dataset"
) -> dict[str, Any]:
    """Return the test accuracy, and flips per layer and variant."""
    from picojoule.accuracy import measure as accuracy_of
    from picojoule.sim.hardware import load_hardware
    from picojoule.sim.passes import fold_batch_norm

    start = time.process_time()
    plain = planned_network(out, settings, point, result, data)
    network = fold_batch_norm(plain)
    array = load_hardware(HARDWARE)
    found = accuracy_of(network, array, data)
    return {
        "test": {"float": found.floating, "hardware": found.hardware, "samples": found.samples},
        "layers": layer_flips(network, {code: channel_orders(plain, code) for code in CODES}),
        "versions": versions(),
        "times": {"cpu_s": time.process_time() - start},
    }


def planned_network(
    out: Path, settings: StudySettings, point: Point, result: Mapping[str, Any], data: "Dataset"
) -> "Network":
    """Return a trained point with its formats and steps, batch norms apart."""
    import torch

    from picojoule.compress.plan import Plan, apply_plan
    from picojoule.networks import load_weights
    from picojoule.sim.numerics.torch_importer import from_module

    model = fresh(settings, point.seed, data)
    load_weights(model, point_file(out, point, "safetensors"))
    example = (torch.tensor(data.train.images[:2]),)
    return apply_plan(from_module(model, example, name=settings.network), Plan.model_validate(result["plan"]))


def channel_orders(network: "Network", code: str) -> Taken:
    """Return which old index each index of a layer's filter takes, per axis, when the network's channels move to flip little."""
    from picojoule.compress.channel_streams import permuted_axis
    from picojoule.compress.coupling import channel_groups, weighted
    from picojoule.compress.reordering import ReorderConfig, best_moves

    coupling = channel_groups(network)
    config = ReorderConfig(sweeps=SWEEPS, cols=ARRAY).model_copy(update={"code": code})
    moves = best_moves(network, coupling, config)
    return {
        layer.name: [permuted_axis(labels, moves) for labels in coupling.tensors[layer.operands[1].name]]
        for layer in network.layers
        if weighted(layer)
    }


def layer_flips(network: "Network", orders: Mapping[str, Taken]) -> list[dict[str, Any]]:
    """Return per layer its sizes and the flips on its weight ports for one image, by variant; `orders` of channels by code."""
    from picojoule.sim.gemm import gemm_view
    from picojoule.sim.integer_weights import integer_weights

    rows = []
    for layer in network.layers:
        gemm, form = gemm_view(layer), layer.operands[1].format if len(layer.operands) > 1 else None
        if gemm is None or form is None:
            continue
        weights = integer_weights(layer, form)
        shaped = weights.reshape(layer.operands[1].shape)
        moved = {c: shaped[np.ix_(*taken[layer.name])].reshape(weights.shape) for c, taken in orders.items()}
        flips = {v: _flips(weights, moved, gemm, form.bits, v) for v in variants()}
        rows.append({"name": layer.name, "m": gemm.m, "n": gemm.n, "k": gemm.k, "groups": gemm.groups, "flips": flips})
    return rows


def _flips(weights: Ints, moved: Mapping[str, Ints], gemm: "Gemm", bits: int, variant: str) -> float:
    from picojoule.accel.systolic.ordering import order_rows
    from picojoule.accel.systolic.toggles import port_flips

    flow, rows, code, order = variant.split("-")
    size, chosen = int(rows), None
    if order in ("segments", "clusters") and gemm.groups == 1:
        clusters = min(CLUSTERS, gemm.n) if order == "clusters" else 1
        chosen = order_rows(weights[0], bits=bits, code=code, segment=size, clusters=clusters, sweeps=SWEEPS)
    used = moved[code] if order == "channels" else weights
    return port_flips(used, None, flow, size, size, m=gemm.m, weight_bits=bits, code=code, order=chosen).weight_port
