"""Shapes of operators that we do not understand.

They are those of a run where there was one, else asked of `onnx.shape_inference` node by node, then of the file.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

from picojoule.sim.importers.onnx_inputs import ResolvedInputs
from picojoule.sim.importers.onnx_values import Array, Fixed, Ints, Value, grown_axis
from picojoule.sim.ir import Operand, TensorType

_SMALL_ELEMENTS = 1024
"""Known inputs up to this size are shown to the inference: they may list sizes."""


class ShapeOracle:
    """Knows the result types of one node for one sample, where ONNX can infer them or the file states them."""

    def __init__(self, model: Any, resolved: ResolvedInputs, probed: Mapping[str, TensorType]) -> None:
        self._model = model
        self.probed = probed
        graph = model.graph
        stale = resolved.resized  # what the file states belongs to other input sizes
        self._stated = {} if stale else _known([*graph.value_info, *graph.output], resolved.symbols)

    def types(
        self, proto: Any, values: Mapping[str, Value | None], dtypes: Mapping[str, np.dtype[Any]]
    ) -> dict[str, TensorType]:
        """Return the types of a node's results, as far as they are known; `values` are what it reads."""
        if proto.output and all(name in self.probed for name in proto.output if name):
            return {name: self.probed[name] for name in proto.output if name}
        one = self._inferred(proto, values, dtypes, 1)
        two = self._inferred(proto, values, dtypes, 2)
        found = {}
        for name in proto.output:
            if name in one:
                axis = grown_axis(one[name], two[name]) if name in two else None
                found[name] = TensorType(shape=one[name], batch_axis=axis)
            elif name in self._stated:
                found[name] = _like_operands(self._stated[name], values)
        return found

    def _inferred(
        self, proto: Any, values: Mapping[str, Value | None], dtypes: Mapping[str, np.dtype[Any]], batch: int
    ) -> dict[str, Ints]:
        """Infer the shapes of one node for `batch` samples, in a model of its own."""
        model = onnx.ModelProto(ir_version=self._model.ir_version, opset_import=self._model.opset_import)
        model.graph.name = "node"
        model.graph.node.append(proto)
        for name, value in values.items():
            if value is None:
                continue
            array = _small(value, batch)
            if array is not None:
                model.graph.initializer.append(numpy_helper.from_array(array, name))
                continue
            shape = value.type.at(batch) if isinstance(value, Operand) else value.shape
            element = helper.np_dtype_to_tensor_dtype(dtypes.get(name, np.dtype(np.float32)))
            model.graph.input.append(helper.make_tensor_value_info(name, element, shape))
        try:
            inferred = shape_inference.infer_shapes(model, data_prop=True)
        except shape_inference.InferenceError:
            return {}
        return _known(inferred.graph.value_info, {})


def _small(value: Value, batch: int) -> Array | None:
    if not isinstance(value, Fixed) or value.weights.elements > _SMALL_ELEMENTS:
        return None
    array = value.at_two if batch == 2 and value.at_two is not None else value.array()
    return np.ascontiguousarray(array).reshape(array.shape)


def _like_operands(shape: Ints, values: Mapping[str, Value | None]) -> TensorType:
    """Return a stated shape whose batch axis is that of an operand with the same size there."""
    for value in values.values():
        axis = value.type.batch_axis if isinstance(value, Operand) else None
        if axis is not None and axis < len(shape) and isinstance(value, Operand) and value.shape[axis] == shape[axis]:
            return TensorType(shape=shape, batch_axis=axis)
    return TensorType(shape=shape)


def _known(infos: Sequence[Any], symbols: Mapping[str, int]) -> dict[str, Ints]:
    found = {}
    for info in infos:
        tensor = info.type.tensor_type
        if not tensor.HasField("shape"):
            continue
        dims = [d.dim_value or symbols.get(d.dim_param, 0) for d in tensor.shape.dim]
        if all(d > 0 for d in dims):
            found[info.name] = tuple(int(d) for d in dims)
    return found
