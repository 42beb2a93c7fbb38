"""ONNX files as workloads: what an input file becomes, without running it.

`onnx_walk` goes through the graph; here it is started, read again where that helps, and finished. Weights stay in the file
until asked for. Only where nobody can tell the shapes of an operator's results is the file run, by ONNX Runtime, if installed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from picojoule.sim.errors import InputError, PicojouleError, UnsupportedError
from picojoule.sim.importers import onnx_probe
from picojoule.sim.importers.onnx_batch import first_conflict
from picojoule.sim.importers.onnx_file import numpy_dtype, read_model
from picojoule.sim.importers.onnx_formats import carry_formats
from picojoule.sim.importers.onnx_inputs import GraphInput, ResolvedInputs, declared_inputs, resolve_inputs
from picojoule.sim.importers.onnx_patterns import fuse_patterns
from picojoule.sim.importers.onnx_values import Fixed
from picojoule.sim.importers.onnx_walk import MALFORMED, Walk
from picojoule.sim.ir import Network, Operand, TensorType
from picojoule.sim.weights import FILL_NOTE

_NEWEST_OPSET = 28
"""Newest operator set whose operators were compared with ours; newer ones are read with a remark."""
Shapes = Mapping[str | None, tuple[int, ...]]


def load_onnx(
    path: Path, *, input_shapes: Shapes | None = None, name: str | None = None, probe: bool = True
) -> Network:
    """Return the workload of an ONNX file, for one sample.

    `input_shapes` gives sizes that the file leaves open, by input name (None: the only input); its first size is the
    batch. Layers are named after the file's nodes, values after its values. `probe` False never runs the file.

    Raises:
        InputError: if the file is missing, torn or wrong, or leaves a size open that nobody gives.
        UnsupportedError: if operators are not understood and their result shapes unknown; all are listed.

    """
    path = Path(path)
    model = read_model(path)
    try:
        return _network(path, model, input_shapes or {}, name or path.stem, probe=probe)
    except PicojouleError:
        raise
    except MALFORMED as error:  # names that are no text, attributes of the wrong type: the parser lets them through
        raise InputError(f"{path}: the file is damaged ({error}); check it with onnx.checker") from error


def _network(path: Path, model: Any, shapes: Shapes, name: str, *, probe: bool) -> Network:
    inputs = declared_inputs(model.graph, path.name)
    resolved = resolve_inputs(inputs, shapes, path.name)
    walk = _walked(path, model, inputs, resolved, name)
    if walk.mixes_samples and (walk.refused or walk.scope.builder.unsupported):
        walk = _fewer_unknown(walk, _walked(path, model, inputs, _for_one_sample(resolved), name))
    asked = ""
    if walk.refused and probe and onnx_probe.may_help(walk.refused, model):
        found, asked = onnx_probe.shapes(path, walk.resolved.types, inputs)
        if found:
            walk = _fewer_unknown(walk, _walked(path, model, inputs, walk.resolved, name, found))
    return _finish(walk, [o.name for o in model.graph.output], asked)


def _walked(
    path: Path,
    model: Any,
    inputs: Sequence[GraphInput],
    resolved: ResolvedInputs,
    name: str,
    probed: Mapping[str, TensorType] | None = None,
) -> Walk:
    walk = Walk(path, model, resolved, name, probed or {})
    for note in resolved.notes:
        walk.scope.builder.note(note)
    if walk.opset > _NEWEST_OPSET:
        walk.scope.builder.note(f"opset {walk.opset} is newer than {_NEWEST_OPSET}, the newest one compared")
    for declared in inputs:
        made = walk.scope.builder.input(declared.name, resolved.types[declared.name])
        walk.define(declared.name, made, numpy_dtype(declared.data_type or 1, path.name))
    walk.graph(model.graph, "")
    return walk


def _for_one_sample(resolved: ResolvedInputs) -> ResolvedInputs:
    """Return the inputs without a batch axis: the graph is then read for the sizes that it states."""
    types = {name: TensorType(shape=t.shape) for name, t in resolved.types.items()}
    note = (
        "the graph mixes the samples of a batch, so it is read for the one size it states; a batch multiplies nothing"
    )
    kept = tuple(n for n in resolved.notes if "a batch multiplies nothing" not in n)
    return replace(resolved, types=types, open_batch=False, notes=(*kept, note))


def _fewer_unknown(one: Walk, other: Walk) -> Walk:
    """Return the walk that understood more."""

    def unknown(walk: Walk) -> tuple[int, int]:
        return len(walk.refused), len(walk.scope.builder.unsupported)

    return other if unknown(other) < unknown(one) else one


def _finish(walk: Walk, names: Sequence[str], asked: str) -> Network:
    """Return the network whose outputs are the values of these names."""
    scope, builder = walk.scope, walk.scope.builder
    if walk.refused:
        raise _refusal(walk, asked)
    missing = next((n for n in names if n not in scope.values and n not in scope.sequences), None)
    if missing is not None:
        raise InputError(f"{walk.path.name}: output '{missing}' is made by no node; the file is damaged")
    made = [(n, v) for n in names for v in scope.sequences.get(n, (scope.values.get(n),))]
    for name in dict.fromkeys(n for n in names if n in scope.sequences):
        builder.note(f"output '{name}' is a sequence; its elements are outputs one by one")
    outputs = {v.name: v for _, v in made if isinstance(v, Operand)}
    if not outputs:
        raise InputError(f"{walk.path.name}: no output depends on an input; there is nothing to price")
    constant_outputs = [n for n, v in made if isinstance(v, Fixed)]
    if constant_outputs:
        builder.note(f"outputs that depend on no input are left out: {', '.join(constant_outputs)}")
    filled = {o.name for layer in builder.layers for o in layer.parameters if o.weights and o.weights.note == FILL_NOTE}
    if filled:
        builder.note(f"{len(filled)} weight tensors of the file are one repeated number, not trained values")
    network = builder.finish(list(outputs.values()))
    repeated = scope.repeated_elements({o.name for layer in network.layers for o in layer.parameters})
    if repeated:
        network = replace(network, original_parameters=network.parameters - repeated)
    network = carry_formats(fuse_patterns(network))
    conflict = first_conflict(network)
    if conflict is None:
        return network
    note = f"the graph is written for one sample from layer '{conflict}' on; larger batches are not exact"
    return replace(network, notes=(*network.notes, note))


def _refusal(walk: Walk, asked: str) -> UnsupportedError:
    """Return the error that names everything not understood; it carries what was understood."""
    builder = walk.scope.builder
    every = (*builder.unsupported, *walk.refused)
    listed = ", ".join(f"'{u.op}' at '{u.layer}' ({u.reason})" for u in every)
    noun = "operator is" if len(every) == 1 else "operators are"
    remedy = asked or "replace them, or store shapes in the file (onnx.shape_inference)"
    error = UnsupportedError(
        f"{walk.path.name}: {len(every)} {noun} not understood, and not all result shapes are known: {listed}; {remedy}"
    )
    error.partial = Network(
        name=builder.name,
        inputs=tuple(builder.inputs),
        outputs=(),
        layers=tuple(builder.layers),
        notes=tuple(builder.notes),
        unsupported=every,
    )
    return error
