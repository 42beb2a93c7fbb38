"""Builds a `Network` layer by layer, inferring and checking shapes; what every importer uses.

The builder is the one mutable thing of the workload: `finish` returns the frozen network.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from picojoule.sim import attributes as at
from picojoule.sim import shapes
from picojoule.sim.attributes import Op
from picojoule.sim.errors import InputError
from picojoule.sim.formats import NumberFormat
from picojoule.sim.ir import Layer, Network, Operand, OperandKind, Result, TensorType, Unsupported, check_network
from picojoule.sim.weights import Weights, from_array


def parameter(name: str, weights: Weights) -> Operand:
    """Return an operand for trained values."""
    return Operand(kind=OperandKind.PARAMETER, name=name, type=TensorType(shape=tuple(weights.shape)), weights=weights)


def constant(name: str, values: NDArray[np.generic]) -> Operand:
    """Return an operand for a fixed array."""
    weights = from_array(values, note="constant")
    return Operand(kind=OperandKind.CONSTANT, name=name, type=TensorType(shape=weights.shape), weights=weights)


def as_operand(result: Result) -> Operand:
    """Return an operand that reads a value."""
    return Operand(kind=OperandKind.ACTIVATION, name=result.name, type=result.type, format=result.format)


class NetworkBuilder:
    """Collects layers; every method that adds one returns the operand(s) that read its result(s).

    `add` infers the result types; an importer that knows them exactly passes `types`, and shapes must then agree.
    Names are made unique by a suffix.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.inputs: list[Result] = []
        self.layers: list[Layer] = []
        self.notes: list[str] = []
        self.unsupported: list[Unsupported] = []
        self._layer_names: dict[str, int] = {}
        self._value_names: dict[str, int] = {}

    def input(self, name: str, kind: TensorType) -> Operand:
        """Declare a network input."""
        made = Result(name=self._unique(name, self._value_names), type=kind)
        self.inputs.append(made)
        return as_operand(made)

    def note(self, text: str) -> None:
        """Add a remark that every result repeats (once)."""
        if text not in self.notes:
            self.notes.append(text)

    def add(
        self,
        op: Op,
        operands: Sequence[Operand],
        attributes: at.Attributes,
        *,
        name: str,
        source: str = "",
        types: Sequence[TensorType] | None = None,
        value_names: Sequence[str] | None = None,
        formats: Sequence[NumberFormat | None] | None = None,
    ) -> tuple[Operand, ...]:
        """Add a layer and return operands for its results, which are stored in `formats` where the source says so.

        Raises:
            InputError: if the operands do not fit each other, or `types` contradicts the inferred shapes.

        """
        where = f"{self.name}: layer '{name}'" + (f" ({source})" if source and source != name else "")
        try:
            inferred = infer_types(op, operands, attributes)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        if types is None:
            if inferred is None:
                raise InputError(f"{where}: the shape of '{op}' cannot be inferred here; give it")
            types = inferred
        elif inferred is not None and [t.shape for t in inferred] != [t.shape for t in types]:
            ours, theirs = [list(t.shape) for t in inferred], [list(t.shape) for t in types]
            raise InputError(f"{where}: its source says the result is {theirs}, by its operands it is {ours}")
        layer_name = self._unique(name, self._layer_names)
        wanted = value_names or [layer_name if len(types) == 1 else f"{layer_name}:{i}" for i in range(len(types))]
        results = tuple(
            Result(name=self._unique(n, self._value_names), type=t, format=f)
            for n, t, f in zip(wanted, types, formats or [None] * len(types), strict=True)
        )
        self.layers.append(
            Layer(
                name=layer_name,
                op=op,
                operands=tuple(operands),
                results=results,
                attributes=attributes,
                source=source or name,
            )
        )
        return tuple(as_operand(r) for r in results)

    def opaque(
        self,
        original: str,
        operands: Sequence[Operand],
        types: Sequence[TensorType],
        *,
        name: str,
        source: str = "",
        reason: str = "no such operator here",
    ) -> tuple[Operand, ...]:
        """Add a layer we do not understand and record it for the coverage report."""
        made = self.add(
            Op.OPAQUE, operands, at.OpaqueAttributes(original=original), name=name, source=source, types=types
        )
        self.unsupported.append(
            Unsupported(op=original, layer=self.layers[-1].name, where=source or name, reason=reason)
        )
        return made

    def discard(self, count: int) -> None:
        """Drop the layers after the first `count`, and what they recorded, as if they had never been added."""
        dropped = self.layers[count:]
        del self.layers[count:]
        gone = {layer.name for layer in dropped}
        for layer in dropped:
            self._free(layer.name, self._layer_names)
            for result in layer.results:
                self._free(result.name, self._value_names)
        self.unsupported = [u for u in self.unsupported if u.layer not in gone]

    def finish(self, outputs: Sequence[Operand], *, weights: str = "file") -> Network:
        """Return the checked, frozen network."""
        network = Network(
            name=self.name,
            inputs=tuple(self.inputs),
            outputs=tuple(o.name for o in outputs),
            layers=tuple(self.layers),
            notes=tuple(self.notes),
            unsupported=tuple(self.unsupported),
            weights=weights,
        )
        check_network(network)
        return network

    def rename_last(self, result: str) -> Operand:
        """Give the single result of the newest layer another name (ONNX keeps the file's value names)."""
        layer = self.layers[-1]
        made = replace(layer.results[0], name=self._unique(result, self._value_names))
        self.layers[-1] = replace(layer, results=(made, *layer.results[1:]))
        return as_operand(made)

    @staticmethod
    def _unique(name: str, taken: dict[str, int]) -> str:
        """Return the name, or with the first suffix that is free; `taken` holds the last suffix given to each name."""
        candidate, i = name, taken.get(name, 1)
        while candidate in taken:
            i += 1
            candidate = f"{name}#{i}"
        taken[name] = i
        taken.setdefault(candidate, 1)
        return candidate

    @staticmethod
    def _free(name: str, taken: dict[str, int]) -> None:
        taken.pop(name, None)
        whole = name.rpartition("#")[0]
        if whole in taken:
            taken[whole] = 1  # its suffixes are looked through again


def infer_types(op: Op, operands: Sequence[Operand], a: at.Attributes) -> list[TensorType] | None:
    """Return the result types of an operator, or None where they are part of its definition (reshape, expand, resize)."""
    x = operands[0].type if operands else TensorType(shape=())
    match a:
        case at.ConvAttributes():
            return [shapes.conv(x, operands[1].shape, a)]
        case at.DeformConvAttributes():
            return [shapes.deform_conv(x, operands[1].shape, a)]
        case at.LinearAttributes():
            return [shapes.linear(x, operands[1].shape)]
        case at.MatmulAttributes():
            return [shapes.matmul(x, operands[1].type)]
        case at.PoolAttributes():
            return [shapes.pool(x, a)]
        case at.NormAttributes() | at.ActivationAttributes() | at.SoftmaxAttributes():
            return [x]
        case at.ElementwiseAttributes():
            return [shapes.broadcast([o.type for o in operands])]
        case at.ReduceAttributes():
            return [shapes.reduce(x, a)]
        case at.ConcatAttributes():
            return [shapes.concat([o.type for o in operands], a.axis)]
        case at.SplitAttributes():
            return shapes.split(x, a)
        case at.SliceAttributes():
            return [shapes.slice_(x, a)]
        case at.PadAttributes():
            return [shapes.pad(x, a)]
        case at.TransposeAttributes():
            return [shapes.transpose(x, a.permutation)]
        case at.EmbeddingAttributes():
            return [shapes.embedding(x, operands[1].type, a.axis)]
        case at.RecurrentAttributes():
            return shapes.recurrent(x, operands[1].shape, a)
        case at.QuantizeAttributes():
            return shapes.quantize([o.type for o in operands], a)
        case at.GatherAttributes():
            return [shapes.gather(x, operands[1].type, a)]
        case at.ScatterAttributes():
            return [shapes.scatter(x, operands[1].type, operands[2].type, a)]
        case at.SortAttributes():
            return shapes.sort(x, a)
        case at.CumulativeAttributes():
            return [x]
        case at.GridSampleAttributes():
            return [shapes.grid_sample(x, operands[1].type)]
        case _:
            return None
