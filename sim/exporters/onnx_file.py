"""Writes a network as an ONNX file that carries its compression and runs anywhere: the workload has all that it takes.

The file is built from the workload, not by a framework's exporter, so that networks from any source can be written, and so
that channels already removed, masks already in the weights, batch norms already folded, integer formats and steps arrive as
they are priced. Integers: see `onnx_formats`. The batch axis stays open. Opset 21. Left out, with a note: formats ONNX cannot
say, activations with a format but no step, shares of execution. Checked by onnx.checker before it is written.
"""

from pathlib import Path
from typing import Any

import onnx
from onnx import helper

from picojoule.sim.attributes import Op, OpaqueAttributes
from picojoule.sim.errors import InputError, UnsupportedError
from picojoule.sim.exporters.onnx_compute import input_product
from picojoule.sim.exporters.onnx_formats import OperandWriter
from picojoule.sim.exporters.onnx_graph import OPSET, OnnxGraph
from picojoule.sim.exporters.onnx_layout import HANDLERS, whole_inputs
from picojoule.sim.exporters.written import Written
from picojoule.sim.files import write_atomic
from picojoule.sim.ir import Layer, Network

_IR_VERSION = 10
"""Of onnx.proto, the one that came with opset 21."""
_LARGEST_BYTES = 2**31 - 1
"""Protobuf's limit on one message."""


def write_onnx(network: Network, path: Path) -> Written:
    """Write `path` (.onnx).

    Raises:
        InputError: if weights have no values, the file would exceed 2 GiB, or it cannot be written.
        UnsupportedError: naming every layer that has no ONNX spelling.

    """
    stored = sum(o.type.elements() for y in network.layers for o in y.parameters if o.format is None)
    if 4 * stored > _LARGEST_BYTES:
        raise InputError(
            f"{path}: {stored} parameters need more than the 2 GiB of an ONNX file; export to .json instead"
        )
    model, graph = build_model(network)
    onnx.checker.check_model(model)
    write_atomic(path, model.SerializeToString(deterministic=True))
    notes = [f"{text}: {_few(layers)}" for text, layers in graph.remarks.items()]
    return Written(files=(path,), notes=(*network.notes, *notes))


def build_model(network: Network) -> tuple[Any, OnnxGraph]:
    """Return the ModelProto of a network, and the graph with the remarks made on the way."""
    _check_known(network)
    graph = OnnxGraph(network)
    operands = OperandWriter(graph)
    whole = whole_inputs(network.layers)
    inputs = [graph.add_input(r, "int64" if r.name in whole else "float32") for r in network.inputs]
    merged = {found.name for y in network.layers if y.op is Op.RECURRENT and (found := input_product(graph, y))}
    for layer in network.layers:
        if layer.name not in merged:
            _write_layer(graph, operands, layer)
    graph.layer, graph.source = "output", ""
    values = network.values()
    outputs = []
    for position, value in enumerate(network.outputs):
        name = graph.names[value]
        if value in {r.name for r in network.inputs} or value in network.outputs[:position]:
            name = graph.emit("Identity", [name])
        outputs.append(graph.info(name, values[value].type, graph.dtypes[name]))
    made = helper.make_graph(graph.nodes, network.name or "network", inputs, outputs, initializer=graph.initializers)
    model = helper.make_model(
        made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION, producer_name="picojoule"
    )
    return model, graph


def _write_layer(graph: OnnxGraph, operands: OperandWriter, layer: Layer) -> None:
    graph.layer, graph.source = layer.name, layer.source
    if layer.execution.share != 1:
        graph.remark("these run for a share of the samples only, which ONNX cannot say; they always run")
    made = HANDLERS[layer.op](graph, operands, layer, layer.attributes)
    for i, (result, name) in enumerate(zip(layer.results, made, strict=True)):
        graph.bind(result.name, name, first=i == 0)


def _check_known(network: Network) -> None:
    unknown = [
        f"{y.attributes.original if isinstance(y.attributes, OpaqueAttributes) else y.op} at '{y.name}'"
        for y in network.layers
        if y.op not in HANDLERS
    ]
    if unknown:
        raise UnsupportedError(f"{network.name} cannot be written as ONNX: {_few(unknown)} not understood here")


def _few(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
