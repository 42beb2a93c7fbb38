"""The Python face: load or trace a network, price it, run it, train against it."""

import operator
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from picojoule.networks import load_network, parse_shapes, prepared
from picojoule.sim.errors import InputError, UnsupportedError
from picojoule.sim.hardware import load_hardware, load_spec
from picojoule.sim.ir import Network
from picojoule.sim.passes import check_weights
from picojoule.sim.protocol import Accelerator, HardwareSpec
from picojoule.sim.report import Report

if TYPE_CHECKING:
    import numpy as np
    import pandas
    import torch
    from numpy.typing import NDArray

    from picojoule.sim.activation_source import ActivationSource
    from picojoule.sim.execution import ExecutionPatterns
    from picojoule.sim.exporters.written import Written
    from picojoule.sim.offsets import OffsetStatistics, OffsetTrace
    from picojoule.twin import HardwareTwin

Hardware = str | Path | HardwareSpec | Accelerator


def load(
    network: str | Path,
    *,
    input_shape: str | Sequence[str] | Sequence[int] = (),
    weights: str | Path | None = None,
    compression: str | Path | None = None,
    seed: int = 0,
) -> Network:
    """Return the workload of a network, ready to price and to run.

    Args:
        network: a zoo name, `file.onnx`, `file.csv` (SCALE-Sim topology), `file.json` (see `export`), `file.pt2` or
            `file.py:callable`.
        input_shape: `[NAME=]1,3,224,224` or (1, 3, 224, 224), where the file leaves sizes open.
        weights: a .safetensors or .pt state dict for zoo names and `file.py:callable`.
        compression: a PLAN.yaml to apply (with `weights` from the same compression).
        seed: of a zoo network's random weights.

    Raises:
        InputError: if the network cannot be found, read or understood as a file.
        UnsupportedError: if it depends on its data in a way that cannot be exported.

    """
    texts = (input_shape,) if isinstance(input_shape, str) else tuple(input_shape)
    if texts and all(isinstance(t, int) for t in texts):
        texts = (",".join(str(t) for t in texts),)
    file = Path(weights) if weights is not None else None
    if compression is not None:
        from picojoule.evaluating import Request, network_of_request

        listed, plan = tuple(str(t) for t in texts), Path(compression)
        request = Request(
            network=str(network), hardware="", input_shapes=listed, weights=file, compression=plan, seed=seed
        )
        made = network_of_request(request, None)
    else:
        made = load_network(network, shapes=parse_shapes([str(t) for t in texts]), weights=file, seed=seed)
    check_weights(made)
    return made


def trace(
    module: "torch.nn.Module",
    example_inputs: "Sequence[Any] | Mapping[str, Any] | torch.Tensor",
    *,
    name: str = "",
    compression: str | Path | None = None,
) -> Network:
    """Return the workload of a torch module (evaluation mode, batch norms folded); its weights stay the module's own.

    `example_inputs` is a tensor, a sequence as for `module(*example_inputs)`, or a mapping as for
    `module(**example_inputs)`; what is no tensor (None, True, 3) is passed on as it is. `compression` is a PLAN.yaml to
    apply. What torch.export cannot follow is recorded as it runs on the example; the network's notes then say so.

    Raises:
        InputError: if the inputs do not fit the module, or a weight is not finite.
        UnsupportedError: if it can be neither exported nor recorded.

    """
    import torch

    from picojoule.sim.numerics.torch_importer import from_module

    if not isinstance(module, torch.nn.Module):
        raise InputError(
            f"pj.trace takes a torch.nn.Module, got {type(module).__name__}; files and names go to pj.load"
        )
    made = from_module(module, example_inputs, name=name)
    if compression is not None:
        from picojoule.compress.plan import apply_plan, read_plan

        made = apply_plan(made, read_plan(compression))
    made = prepared(made)
    check_weights(made)
    return made


def export(
    network: Network | str | Path,
    path: str | Path,
    *,
    weights: bool = True,
    calibration: "Sequence[Sequence[torch.Tensor]] | None" = None,
    seed: int = 0,
) -> "Written":
    """Write a network to a file; returns the files, and a note for everything that the format does not say.

    Args:
        network: a workload (from `load` or `trace`, which apply a compression), or what `load` takes.
        path: .json (all that the workload says; `load` reads it back), .onnx (runs anywhere, with its integer weights and
            steps) or .csv (SCALE-Sim topology).
        weights: whether a .json comes with its values (a .safetensors file of the same name beside it).
        calibration: batches of *training* inputs, from which activations with a format but no step get one.
        seed: of the sampling in calibration.

    Raises:
        InputError: for another suffix, a file that cannot be written, or ONNX without weight values.
        UnsupportedError: for operators that ONNX has no spelling for.

    """
    from picojoule.exporting import calibrated, check_path, write

    check_path(Path(path))
    made = _network(network)
    if calibration is not None:
        made = calibrated(made, [tuple(b) for b in calibration], seed=seed)
    return write(made, Path(path), weights=weights)


def _network(network: Network | str | Path) -> Network:
    if isinstance(network, Network):
        return network
    if not isinstance(network, str | Path):
        raise InputError(
            f"expected a network or what pj.load takes, got {type(network).__name__}; a torch module comes in by "
            "pj.trace(module, example_inputs)"
        )
    return load(network)


def _whole(batch: Any) -> int:
    try:
        return operator.index(batch)
    except TypeError:
        raise InputError(f"batch must be a whole number, got {batch!r}") from None


def evaluate(
    network: Network | str | Path,
    hardware: Hardware,
    *,
    batch: int = 1,
    overrides: Mapping[str, Any] | None = None,
    chips: int | None = 1,
    mapping: str = "default",
    activations: "OffsetTrace | OffsetStatistics | ActivationSource | ExecutionPatterns | None" = None,
    allow_unsupported: bool = False,
    seed: int = 0,
) -> Report:
    """Return the cost of a network on a piece of hardware.

    Args:
        network: a workload, or what `load` takes.
        hardware: a preset's name, a YAML path, a spec or an accelerator.
        batch: samples; counts and latency are for all of them.
        overrides: keys of the hardware file to change, for instance `{"rows": 64}`.
        chips: how many chips there may be; None means as many as it takes.
        mapping: `default`, or `search` (systolic arrays: the best tiling and loop order of each layer).
        activations: offsets of deformable convolutions, recorded (`record_offsets`) or as statistics; on a systolic array
            integer inputs of its layers (`sim.activation_source`), for `datapath_energy: toggles` and `zero_gating`, or
            `sim.execution.ExecutionPatterns`: gates and blocks that are closed for given inputs (it takes such inputs along).
            Other costs do not depend on activations.
        allow_unsupported: price the rest when some operators are not understood; the report is then incomplete.
        seed: of the sampled technology constants behind the ranges.

    Raises:
        InputError, UnsupportedError, InfeasibleError: as the command line's exit codes 2, 3 and 4.

    """
    from picojoule.sim.execution import ExecutionPatterns

    made = _network(network)
    accelerator = load_hardware(hardware, overrides)
    if isinstance(activations, ExecutionPatterns) and accelerator.spec.kind != "systolic":
        raise UnsupportedError(
            f"execution patterns are priced on systolic arrays, and {accelerator.spec.name or hardware} is of kind "
            f"{accelerator.spec.kind}; leave them out"
        )
    return accelerator.evaluate(
        made,
        batch=_whole(batch),
        activations=activations,
        mapping=mapping,
        seed=seed,
        chips=chips,
        allow_unsupported=allow_unsupported,
    )


def run(
    network: Network | str | Path, x: "torch.Tensor | NDArray[np.generic] | Sequence[Any] | Mapping[str, Any]"
) -> "torch.Tensor | tuple[torch.Tensor, ...]":
    """Execute a network in floating point and return its output (a tuple where it has several).

    `x` is one input, a sequence of them in the network's order, or a mapping from their names; arrays are taken as tensors.
    """
    import numpy as np
    import torch

    from picojoule.sim.numerics.executor import Executor

    made = _network(network)
    inputs = _by_name(made, x) if isinstance(x, Mapping) else (x,) if isinstance(x, torch.Tensor | np.ndarray) else x
    tensors = [torch.from_numpy(np.ascontiguousarray(v)) if isinstance(v, np.ndarray) else v for v in inputs]
    with torch.no_grad():
        results = Executor(made).run(tensors)
    return results[0] if len(results) == 1 else results


def _by_name(network: Network, given: Mapping[str, Any]) -> list[Any]:
    names = [r.name for r in network.inputs]
    if set(given) != set(names):
        raise InputError(
            f"{network.name} takes the inputs {', '.join(names)}, got {', '.join(map(str, given)) or 'none'}"
        )
    return [given[name] for name in names]


_SWEEP_TOTALS = (
    "compute_cycles",
    "stall_cycles",
    "latency_cycles",
    "latency_s",
    "interval_s",
    "energy_pj",
    "energy_pj_per_sample",
    "area_mm2",
    "chips",
    "utilization",
)
_WHOLE_TOTALS = frozenset({"compute_cycles", "stall_cycles", "latency_cycles", "chips"})
_SWEEP_CHUNK = 1 << 17
"""Designs of one call: what it needs beside the table stays below 100 MB."""


def sweep(
    network: Network | str | Path,
    hardware: Hardware,
    space: Mapping[str, Sequence[Any]],
    *,
    batch: int = 1,
    seed: int = 0,
) -> "pandas.DataFrame":
    """Price every combination of the given hardware keys (full factorial, last key fastest).

    Returns a DataFrame with a row per combination: the varied keys, then totals. A design that cannot hold the network
    keeps its row, with empty totals and the reason under `infeasible`. Systolic arrays are priced many at once, in chunks: a
    million designs take some 280 MiB (measured), 170 of them the table.

    Raises:
        InputError: for an empty space, an unknown key or a bad value.

    """
    import numpy as np
    import pandas

    from picojoule.sim.designs import factorial, price_designs

    listed = isinstance(space, Mapping) and all(isinstance(v, Sequence | np.ndarray | range) for v in space.values())
    if not space or not listed or not all(len(v) and not isinstance(v, str) for v in space.values()):
        raise InputError("a sweep needs at least one key with at least one value, such as {'rows': [16, 32]}")
    made, batch = _network(network), _whole(batch)
    accelerator = load_hardware(load_spec(hardware) if isinstance(hardware, str | Path) else hardware)
    keys = factorial(space)
    count = len(next(iter(keys.values())))
    totals: dict[str, Any] = {metric: np.empty(count) for metric in _SWEEP_TOTALS}
    infeasible = np.empty(count, dtype=object)
    for start in range(0, count, _SWEEP_CHUNK):
        some = slice(start, start + _SWEEP_CHUNK)
        found = price_designs(accelerator, made, {k: v[some] for k, v in keys.items()}, batch=batch, seed=seed)
        infeasible[some] = found.infeasible
        for metric, values in totals.items():
            values[some] = found.totals[metric]
    for metric in _WHOLE_TOTALS:
        values = totals[metric]
        if bool(np.isfinite(values).all()) and bool((values < 2**53).all()):
            totals[metric] = values.astype(np.int64)
    return pandas.DataFrame(keys | totals | {"infeasible": infeasible}, copy=False)


def hardware_twin(
    module: "torch.nn.Module",
    example_inputs: "Sequence[Any] | Mapping[str, Any] | torch.Tensor",
    hardware: Hardware,
    *,
    calibration: "Sequence[Any] | None" = None,
    seed: int = 0,
    resample: bool = False,
) -> "HardwareTwin":
    """Return a module that is called like `module` and computes with the hardware's arithmetic.

    Its parameters are the module's own: training the twin trains the module. Batch norms use their running statistics.

    Args:
        module: the network.
        example_inputs: as for `trace`; also the calibration data when none is given.
        hardware: a preset's name, a YAML path, a spec or an accelerator.
        calibration: batches of *training* inputs from which activation ranges are taken.
        seed: of the chip (whatever programming leaves to chance) and of calibration; the same seed gives the same chip, which
            is the first that an accuracy measured with this seed is of.
        resample: False: training is on that one chip. True: each call with gradients is on a new chip, so that the weights
            learn to endure any, and no such chip is ever one that is measured; without gradients it is always the chip of
            `seed`. What a design takes from the weights (`adc_bits: needed`, built at design time) is of those at the start.

    """
    from picojoule.twin import HardwareTwin

    accelerator = load_hardware(hardware)
    return HardwareTwin(module, example_inputs, accelerator, calibration=calibration, seed=seed, resample=resample)


def penalty(
    module: "torch.nn.Module",
    example_inputs: "Sequence[torch.Tensor] | torch.Tensor",
    hardware: Hardware,
    *,
    metric: str = "energy_pj",
) -> "torch.Tensor":
    """Return a differentiable scalar that falls as the module's channels become cheap to remove; add it to your loss.

    In the metric's own unit: each output channel is charged its marginal price on the hardware, weighted by a smooth
    measure of whether it is alive (see `picojoule.channel_penalty`). Prices are computed once per module and hardware.
    """
    from picojoule.channel_penalty import cost_penalty

    return cost_penalty(module, example_inputs, load_hardware(hardware), metric)
