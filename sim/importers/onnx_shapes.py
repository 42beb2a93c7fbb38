"""Shapes of operators that we do not understand: asked of `onnx.shape_inference`, then of the file itself.

Runs only when a graph holds such an operator, on a copy without large weights.
"""

from math import prod
from typing import Any

import onnx
from onnx import shape_inference

from picojoule.sim.importers.onnx_inputs import ResolvedInputs

_SMALL_ELEMENTS = 1024
"""Initializers up to this size are kept: they may list sizes."""


class ShapeOracle:
    """Knows shapes of a model's values for one sample, where ONNX can infer them."""

    def __init__(self, model: Any, resolved: ResolvedInputs) -> None:
        self._model = model
        self._resolved = resolved
        self._shapes: dict[str, tuple[int, ...]] | None = None

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Return the shape of a value, or None."""
        if self._shapes is None:
            self._shapes = self._declared() | self._inferred()
        return self._shapes.get(name)

    def _declared(self) -> dict[str, tuple[int, ...]]:
        graph = self._model.graph
        return _known(graph.value_info, self._resolved) | _known(graph.output, self._resolved)

    def _inferred(self) -> dict[str, tuple[int, ...]]:
        graph = self._model.graph
        copy = onnx.ModelProto(ir_version=self._model.ir_version, opset_import=self._model.opset_import)
        copy.graph.name = "shapes"
        copy.graph.node.extend(graph.node)
        for declared in graph.input:
            kind = self._resolved.types.get(declared.name)
            if kind is not None:
                element = declared.type.tensor_type.elem_type
                copy.graph.input.append(onnx.helper.make_tensor_value_info(declared.name, element, kind.shape))
        for tensor in graph.initializer:
            if prod(tensor.dims) <= _SMALL_ELEMENTS and tensor.data_location != onnx.TensorProto.EXTERNAL:
                copy.graph.initializer.append(tensor)
            else:
                info = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
                copy.graph.input.append(info)
        try:
            inferred = shape_inference.infer_shapes(copy, data_prop=True).graph
        except shape_inference.InferenceError:
            return {}
        return _known(inferred.value_info, self._resolved)


def _known(infos: Any, resolved: ResolvedInputs) -> dict[str, tuple[int, ...]]:
    found = {}
    for info in infos:
        tensor = info.type.tensor_type
        if not tensor.HasField("shape"):
            continue
        dims = [d.dim_value or resolved.symbols.get(d.dim_param, 0) for d in tensor.shape.dim]
        if all(d > 0 for d in dims):
            found[info.name] = tuple(int(d) for d in dims)
    return found
