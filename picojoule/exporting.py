"""What `picojoule export` and `pj.export` do: a network, perhaps compressed, to a file that others read.

The suffix says which: .json (everything the workload says, `sim.exporters.network_json`), .onnx (runs anywhere,
`sim.exporters.onnx_file`), .csv (SCALE-Sim topology, `sim.exporters.scalesim_csv`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from picojoule.evaluating import Request, network_of_request
from picojoule.sim.attributes import MAC_OPS
from picojoule.sim.errors import InputError, nearest
from picojoule.sim.exporters.written import Written
from picojoule.sim.ir import Layer, Network, Operand, OperandKind
from picojoule.sim.passes import check_weights
from picojoule.sim.protocol import FLOAT, Arithmetic

if TYPE_CHECKING:
    import torch

    from picojoule.models.data import Dataset

SUFFIXES = {".json": "picojoule's own", ".onnx": "ONNX", ".csv": "SCALE-Sim topology"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """One export as the command line states it."""

    network: str
    path: Path
    input_shapes: tuple[str, ...] = ()
    weights: Path | None = None
    compression: Path | None = None
    data: str | None = None
    keep_weights: bool = True
    seed: int = 0


def run_export(request: ExportRequest) -> Written:
    """Load a network, apply its compression and write it.

    Raises:
        InputError: if a file cannot be read or written, or its suffix is none of ours.
        UnsupportedError: if the network holds what the format cannot say.

    """
    check_path(request.path)
    data = None
    if request.data is not None:
        from picojoule.models.data import load

        data = load(request.data)
    asked = Request(
        network=request.network,
        hardware="",
        input_shapes=request.input_shapes,
        weights=request.weights,
        compression=request.compression,
        seed=request.seed,
    )
    network = network_of_request(asked, data)
    check_weights(network)
    if data is not None:
        network = calibrated(network, _batches(network, data), seed=request.seed)
    return write(network, request.path, weights=request.keep_weights)


def check_path(path: Path) -> None:
    """Refuse a name that says no format, before any work.

    Raises:
        InputError: listing what can be written.

    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        listed = ", ".join(f"{s} ({what})" for s, what in SUFFIXES.items())
        came = f"'{path.suffix}'" if path.suffix else "no suffix"
        raise InputError(
            f"{path}: the suffix says what is written, {listed}; got {came}{nearest(suffix, list(SUFFIXES))}"
        )
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give the name of a file to write")


def write(network: Network, path: Path, *, weights: bool = True) -> Written:
    """Write a network in the format that the suffix names.

    Raises:
        InputError: as `check_path`; if ONNX lacks weights' values, or the file cannot be written.
        UnsupportedError: for operators that ONNX has no spelling for.

    """
    check_path(path)
    match path.suffix.lower():
        case ".json":
            from picojoule.sim.exporters.network_json import write_network

            return write_network(network, path, weights=weights)
        case ".csv":
            from picojoule.sim.exporters.scalesim_csv import write_topology

            return write_topology(network, path)
        case _:
            from picojoule.sim.exporters.onnx_file import write_onnx

            if not weights:
                raise InputError(f"{path}: an ONNX file carries weights; leave out --no-weights or export to .json")
            return write_onnx(network, path)


def calibrated(network: Network, batches: "Iterable[Sequence[torch.Tensor]]", *, seed: int = 0) -> Network:
    """Return the network with a step for every integer format of an activation that has none, from training inputs.

    Formats are used as the executor uses them: signed becomes unsigned of the same width where no negative value is seen.
    """
    from picojoule.sim.numerics.calibration import Quantizer, calibrate

    if not any(_lacks_step(o) for layer in network.layers if layer.op in MAC_OPS for o in layer.activations):
        return network
    found = calibrate(network, batches, _arithmetic, seed=seed).quantizers

    def with_step(layer: Layer, operand: Operand) -> Operand:
        quantizer: Quantizer | None = found.get((layer.name, operand.name))
        if quantizer is None or layer.op not in MAC_OPS or not _lacks_step(operand):
            return operand
        return replace(operand, format=quantizer.format, step=(quantizer.step,))

    layers = tuple(replace(y, operands=tuple(with_step(y, o) for o in y.operands)) for y in network.layers)
    return network.with_layers(layers)


def _lacks_step(operand: Operand) -> bool:
    form = operand.format
    return operand.kind is OperandKind.ACTIVATION and form is not None and form.is_integer and operand.step is None


def _arithmetic(layer: Layer) -> Arithmetic:
    form = next((o.format for o in layer.activations if _lacks_step(o)), None)
    return FLOAT if form is None else Arithmetic(weight=layer.operands[1].format or form, activation=form)


def _batches(network: Network, data: "Dataset") -> "list[tuple[torch.Tensor]]":
    import torch

    from picojoule.accuracy import CALIBRATION_SAMPLES, check_fits

    check_fits(network, data)
    return [(torch.tensor(data.train.images[:CALIBRATION_SAMPLES]),)]
