"""An ONNX graph while it is written: nodes, initializers, names and element types.

Element types matter here because the workload has none: they follow from the operators, and casts are put where ONNX wants
equal types and the workload promotes as numpy does.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from picojoule.sim.ir import Network, Result, TensorType

OPSET = 21
"""The first with 4-bit integers; what runs it: ONNX Runtime 1.18 and later."""
BATCH = "batch"
_ORDER = ("bool", "uint8", "int8", "int16", "int32", "int64", "float32")
"""Element types from narrow to wide, as operands of different types are promoted."""


class OnnxGraph:
    """Collects nodes and initializers; `names` maps a value of the workload to its name here."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.names: dict[str, str] = {}
        self.dtypes: dict[str, str] = {}
        self.remarks: dict[str, list[str]] = {}
        self.layer = ""
        self.source = ""
        self._taken: set[str] = {""}
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._maker: dict[str, Any] = {}
        self._read: set[str] = set()
        self._batch = ""
        self._named = ""
        for layer in network.layers:  # the workload's own names are kept for its own values
            self._taken.update(r.name for r in layer.results)
        self._taken.update(r.name for r in network.inputs)

    # --- names ------------------------------------------------------------------------------------------------------

    def unique(self, wanted: str) -> str:
        """Return a name that no value has."""
        name, count = wanted or "value", 1
        while name in self._taken:
            count += 1
            name = f"{wanted}#{count}"
        self._taken.add(name)
        return name

    def remark(self, text: str) -> None:
        """Note something about the present layer that the file does not say."""
        listed = self.remarks.setdefault(text, [])
        if self.layer not in listed:
            listed.append(self.layer)

    # --- values -----------------------------------------------------------------------------------------------------

    def add_input(self, result: Result, dtype: str) -> Any:
        """Declare a network input and return its ValueInfo."""
        self.names[result.name], self.dtypes[result.name] = result.name, dtype
        return self.info(result.name, result.type, dtype)

    def info(self, name: str, kind: TensorType, dtype: str) -> Any:
        """Return a ValueInfo whose batch axis is open."""
        shape: list[int | str] = list(kind.shape)
        if kind.batch_axis is not None:
            size = kind.shape[kind.batch_axis]
            shape[kind.batch_axis] = BATCH if size == 1 else f"{BATCH}*{size}"
        return helper.make_tensor_value_info(name, element_type(dtype), shape)

    def constant(self, values: Any, dtype: str | None = None, name: str = "constant") -> str:
        """Return an initializer with these values; equal ones are stored once."""
        array = np.asarray(values, dtype=dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = self.initializer(array, name)
        return self._constants[key]

    def ints(self, values: Sequence[int]) -> str:
        """Return a list of integers as an initializer."""
        return self.constant(list(values), "int64", "sizes")

    def initializer(self, array: NDArray[Any], name: str) -> str:
        """Store an array under a name like `name`."""
        return self.store(
            numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape)), name, array.dtype.name
        )

    def store(self, tensor: Any, name: str, dtype: str) -> str:
        """Store a TensorProto under a name like `name`."""
        tensor.name = self.unique(name)
        self.initializers.append(tensor)
        self.dtypes[tensor.name] = dtype
        return str(tensor.name)

    def emit(
        self, op: str, inputs: Sequence[str], *, dtype: str | None = None, results: int = 1, **attributes: Any
    ) -> str:
        """Add a node of the present layer and return the name of its first result."""
        return self.emit_all(op, inputs, dtypes=[dtype] * results, **attributes)[0]

    def emit_all(self, op: str, inputs: Sequence[str], *, dtypes: Sequence[str | None], **attributes: Any) -> list[str]:
        """Add a node and return the names of all its results; a type of None is that of the first input."""
        given = {k: v for k, v in attributes.items() if v is not None}
        made = [self.unique(f"{self.layer}.{op}") for _ in dtypes]
        node = helper.make_node(op, list(inputs), made, name=made[0], doc_string=self.source or None, **given)
        self.nodes.append(node)
        self._read.update(inputs)
        for name, dtype in zip(made, dtypes, strict=True):
            self.dtypes[name] = dtype or self.dtypes[inputs[0]]
            self._maker[name] = node
        return made

    def name_node(self) -> None:
        """Let the newest node, not the one that makes the result, have the present layer's name."""
        self.nodes[-1].name = self._named = self.layer

    def bind(self, value: str, name: str, *, first: bool = True) -> None:
        """Let the workload's `value` be what was made as `name`; the node's result takes the value's own name.

        The node that makes the first result of a layer takes the layer's name, unless another has it.
        """
        node = self._maker.get(name)
        if node is None or name in self._read:
            name = self.emit("Identity", [name])
            node = self._maker[name]
        node.output[list(node.output).index(name)] = value
        if first and self._named != self.layer:
            node.name = self.layer
        self.names[value] = value
        self.dtypes[value] = self.dtypes.pop(name)
        del self._maker[name]

    # --- types ------------------------------------------------------------------------------------------------------

    def cast(self, name: str, dtype: str) -> str:
        """Return the value in another element type."""
        return name if self.dtypes[name] == dtype else self.emit("Cast", [name], dtype=dtype, to=element_type(dtype))

    def real(self, name: str) -> str:
        """Return the value as float32."""
        return self.cast(name, "float32")

    def promoted(self, names: Sequence[str]) -> list[str]:
        """Return values in the widest of their types."""
        widest = max((self.dtypes[n] for n in names), key=_ORDER.index)
        return [self.cast(n, widest) for n in names]

    # --- sizes ------------------------------------------------------------------------------------------------------

    def batch_size(self) -> str:
        """Return the number of samples as a list of one integer, computed from an input when the file runs."""
        if not self._batch:
            x = next(r for r in self.network.inputs if r.type.batch_axis is not None)
            axis = x.type.batch_axis or 0
            size = self.emit("Shape", [x.name], dtype="int64", start=axis, end=axis + 1)
            if x.shape[axis] != 1:
                size = self.emit("Div", [size, self.ints([x.shape[axis]])])
            self._batch = size
        return self._batch

    def sizes(self, kind: TensorType) -> str:
        """Return a shape for the batch that the file is run with."""
        if kind.batch_axis is None or not any(r.type.batch_axis is not None for r in self.network.inputs):
            return self.ints(kind.shape)
        axis = kind.batch_axis
        grown = self.batch_size()
        if kind.shape[axis] != 1:
            grown = self.emit("Mul", [grown, self.ints([kind.shape[axis]])])
        parts = [self.ints(kind.shape[:axis])] if axis else []
        parts += [grown]
        parts += [self.ints(kind.shape[axis + 1 :])] if axis + 1 < len(kind.shape) else []
        return self.emit("Concat", parts, dtype="int64", axis=0) if len(parts) > 1 else grown


def element_type(dtype: str) -> int:
    """Return the ONNX number of a numpy type's name."""
    if dtype == "bfloat16":
        return int(onnx.TensorProto.BFLOAT16)
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
