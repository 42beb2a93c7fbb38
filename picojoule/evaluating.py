"""What `picojoule evaluate` does, apart from printing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from picojoule.networks import is_torch, load_network, load_torch, network_of, parse_shapes, prepared
from picojoule.sim.compression_state import find_compression
from picojoule.sim.errors import InputError
from picojoule.sim.hardware import load_hardware
from picojoule.sim.ir import Network
from picojoule.sim.passes import check_weights
from picojoule.sim.report import Accuracy, Report

if TYPE_CHECKING:
    from picojoule.models.data import Dataset
    from picojoule.sim.activation_source import ActivationSource
    from picojoule.sim.offsets import OffsetTrace
    from picojoule.sim.protocol import Accelerator


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One evaluation as the command line states it."""

    network: str
    hardware: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    input_shapes: tuple[str, ...] = ()
    batch: int = 1
    chips: int | None = 1
    weights: Path | None = None
    compression: Path | None = None
    accuracy: bool = False
    data: str | None = None
    allow_unsupported: bool = False
    mapping: str = "default"
    offsets: Path | None = None
    seed: int = 0
    seeds: int | None = None


def run_request(request: Request, progress: Callable[[int, int], None] | None = None) -> Report:
    """Return the report of an evaluation, with accuracy where it is asked for."""
    if request.accuracy and request.data is None:
        raise InputError("--accuracy needs --data, for instance --data fashion-mini")
    if request.seeds is not None and not request.accuracy:
        raise InputError("--seeds counts the chips whose accuracy is measured, so it needs --accuracy --data DATA")
    accelerator = load_hardware(request.hardware, request.overrides)
    data = _load_data(request.data) if request.data is not None else None
    network = network_of_request(request, data)
    check_weights(network)
    report = accelerator.evaluate(
        network,
        batch=request.batch,
        activations=_activations(request, accelerator, network, data),
        mapping=request.mapping,
        seed=request.seed,
        chips=request.chips,
        allow_unsupported=request.allow_unsupported,
    )
    if request.accuracy and data is not None:
        from picojoule.accuracy import measure

        chips = request.seeds or 1
        found = measure(network, accelerator, data, seed=request.seed, seeds=chips, progress=progress)
        report = report.with_accuracy(found).with_notes(_chip_notes(found, chips))
    return report


def _chip_notes(found: Accuracy, asked: int) -> tuple[str, ...]:
    if asked > 1 and not found.chips_differ:
        return (f"every chip of this hardware computes alike: one was measured instead of {asked}",)
    if asked == 1 and found.chips_differ:
        return ("the accuracy is that of one chip, and chips differ: --seeds N measures N of them",)
    return ()


def _activations(
    request: Request, accelerator: "Accelerator", network: Network, data: "Dataset | None"
) -> "OffsetTrace | ActivationSource | None":
    """Return recorded offsets, or activations on the data's training split where the hardware's costs follow them."""
    if request.offsets is not None or data is None:
        return _offsets(request.offsets)
    from picojoule.activations import collect_activations, wants_activations

    return (
        collect_activations(network, accelerator, data, seed=request.seed) if wants_activations(accelerator) else None
    )


def _offsets(path: Path | None) -> "OffsetTrace | None":
    if path is None:
        return None
    from picojoule.sim.offsets import OffsetTrace

    return OffsetTrace.load(path)


def _load_data(spec: str) -> "Dataset":
    from picojoule.models.data import load

    return load(spec)


def network_of_request(request: Request, data: "Dataset | None") -> Network:
    """Load the network (a zoo network is built for the data's shape) and apply a compression plan."""
    shapes = parse_shapes(request.input_shapes)
    sample = tuple(data.train.images.shape[1:]) if data is not None and not shapes else None
    classes = len(data.class_names) if data is not None else None
    if request.compression is None:
        return load_network(
            request.network,
            shapes=shapes,
            sample_shape=sample,
            classes=classes,
            weights=request.weights,
            seed=request.seed,
        )
    from picojoule.compress.plan import apply_plan, read_plan

    plan = read_plan(request.compression)
    if not is_torch(request.network):
        plain = load_network(request.network, shapes=shapes, weights=request.weights, find=False)
        return find_compression(apply_plan(plain, plan))  # after the plan: it says what it says, and drops channels
    from picojoule.compressing import load_compressed

    made = load_torch(request.network, shapes=shapes, sample_shape=sample, classes=classes, seed=request.seed)
    if request.weights is not None:
        made = load_compressed(made, plan, request.weights)
    return prepared(apply_plan(network_of(made, fold=False), plan))
