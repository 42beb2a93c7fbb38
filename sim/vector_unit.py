"""Work of layers that no MAC array runs, and what it costs on a vector unit or on the host.

Every such layer moves bytes and most compute something; none is free. Operation counts per element are ours: one lane
operation for an addition, comparison or multiplication, one transcendental for exp, tanh, reciprocal or root (whose
energy and time are `vector.transcendental.steps` multiply-adds).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import prod

from picojoule.sim.attributes import (
    ActivationAttributes,
    ActivationKind,
    Attributes,
    ElementwiseAttributes,
    ElementwiseKind,
    NormAttributes,
    NormKind,
    Op,
    PoolAttributes,
)
from picojoule.sim.cost import Energy
from picojoule.sim.gemm import layer_macs
from picojoule.sim.ir import Layer, OperandKind
from picojoule.sim.passes import result_bytes
from picojoule.sim.technology import VectorOperation, constant, vector_operation_energy_pj

_SIMPLE, _TRANSCENDENTAL = VectorOperation.ADD, VectorOperation.TRANSCENDENTAL
_MULTIPLY, _COMPARE = VectorOperation.MULTIPLY, VectorOperation.COMPARE


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorWork:
    """Lane operations by kind, and bytes and elements that a layer reads and writes (for the whole batch)."""

    operations: Mapping[VectorOperation, int]
    read_elements: int
    write_elements: int
    read_bytes: int
    write_bytes: int


_PER_ELEMENT: dict[ActivationKind, dict[VectorOperation, int]] = {
    ActivationKind.RELU: {_COMPARE: 1},
    ActivationKind.CLIP: {_COMPARE: 2},
    ActivationKind.LEAKY_RELU: {_COMPARE: 1, _MULTIPLY: 1},
    ActivationKind.HARD_SIGMOID: {_COMPARE: 2, _MULTIPLY: 1, _SIMPLE: 1},
    ActivationKind.HARD_SWISH: {_COMPARE: 2, _MULTIPLY: 2, _SIMPLE: 1},
    ActivationKind.SILU: {_TRANSCENDENTAL: 1, _MULTIPLY: 1},
    ActivationKind.GELU: {_TRANSCENDENTAL: 1, _MULTIPLY: 2, _SIMPLE: 1},
    ActivationKind.GELU_TANH: {_TRANSCENDENTAL: 1, _MULTIPLY: 4, _SIMPLE: 2},
    ActivationKind.MISH: {_TRANSCENDENTAL: 2, _MULTIPLY: 1},
}
_ELEMENTWISE: dict[ElementwiseKind, dict[VectorOperation, int]] = {
    ElementwiseKind.MUL: {_MULTIPLY: 1},
    ElementwiseKind.CAST: {_MULTIPLY: 1},
    ElementwiseKind.COPY: {},
    **{
        kind: {_TRANSCENDENTAL: 1}
        for kind in (
            ElementwiseKind.DIV,
            ElementwiseKind.POW,
            ElementwiseKind.SQRT,
            ElementwiseKind.RSQRT,
            ElementwiseKind.EXP,
            ElementwiseKind.LOG,
            ElementwiseKind.RECIPROCAL,
            ElementwiseKind.SIN,
            ElementwiseKind.COS,
        )
    },
}


def vector_work(layer: Layer, batch: int) -> VectorWork:
    """Return the work of a layer outside the MAC array; formats must be filled in.

    A gather reads what it returns, not its whole table. A reshape moves nothing.
    """
    ins = [o for o in layer.operands if layer.op is not Op.EMBEDDING or o is not layer.operands[0]]
    reads = sum(o.type.elements(batch) for o in ins)
    read_bytes = sum(result_bytes(o, batch) for o in ins)
    writes = sum(r.type.elements(batch) for r in layer.results)
    write_bytes = sum(result_bytes(r, batch) for r in layer.results)
    if layer.op is Op.EMBEDDING:
        reads += writes
        read_bytes += write_bytes
    if layer.op is Op.RESHAPE:
        reads = writes = read_bytes = write_bytes = 0
    elements = max(writes, layer.operands[0].type.elements(batch) if layer.op is Op.REDUCE and layer.operands else 0)
    counts = _operations(layer.op, layer.attributes, layer)
    return VectorWork(
        operations={op: n * elements for op, n in counts.items() if n},
        read_elements=reads,
        write_elements=writes,
        read_bytes=read_bytes,
        write_bytes=write_bytes,
    )


def _operations(op: Op, attributes: Attributes, layer: Layer) -> dict[VectorOperation, int]:
    match attributes:
        case ActivationAttributes():
            return _PER_ELEMENT.get(attributes.kind, {_TRANSCENDENTAL: 1})
        case ElementwiseAttributes():
            one = _ELEMENTWISE.get(attributes.kind, {_SIMPLE: 1})
            return {k: v * max(1, len(layer.operands) - 1) for k, v in one.items()}
        case PoolAttributes():
            if attributes.output_size:
                space = layer.operands[0].shape[-len(attributes.output_size) :]
                window = prod(-(-i // o) for i, o in zip(space, attributes.output_size, strict=True))
            else:
                window = prod(attributes.kernel)
            return {_COMPARE: window}
    match op:
        case Op.NORM:
            if isinstance(attributes, NormAttributes) and attributes.kind is NormKind.BATCH:
                return {_SIMPLE: 1, _MULTIPLY: 1}  # stored statistics: one scale and one shift
            # Mean, variance (square and add), subtract, scale, shift; the root is once a row and negligible.
            return {_SIMPLE: 4, _MULTIPLY: 2}
        case Op.SOFTMAX:
            # Maximum, subtract, exp, sum, multiply by the reciprocal.
            return {_COMPARE: 1, _SIMPLE: 2, _TRANSCENDENTAL: 1, _MULTIPLY: 1}
        case Op.REDUCE:
            return {_SIMPLE: 1}
        case Op.RESIZE:
            return {_MULTIPLY: 3, _SIMPLE: 3}
        case _:
            return {}


def lane_operations(work: VectorWork) -> int:
    """Return lane operations, a transcendental counted as its multiply-add steps."""
    steps = round(constant("vector.transcendental.steps").value)
    return sum(n * (steps if op is _TRANSCENDENTAL else 1) for op, n in work.operations.items())


def operation_energy(component: str, work: VectorWork, bits: int, node_nm: float) -> list[Energy]:
    """Return the bill of a vector unit's arithmetic at an element width and node."""
    return [
        Energy(component=component, constant=key, events=float(count), pj_per_event=pj)
        for op, count in work.operations.items()
        for key, pj in _operation_price(op, bits, node_nm)
    ]


@cache
def _operation_price(op: VectorOperation, bits: int, node_nm: float) -> tuple[tuple[str, float], ...]:
    price = vector_operation_energy_pj(op, bits, node_nm)
    return tuple((key, float(pj)) for key, pj in price.energy_by_constant.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCost:
    """Time and energy of a layer on the host."""

    seconds: float
    energy: tuple[Energy, ...]


def host_cost(layer: Layer, batch: int, host: str = "cortex_a53_quad") -> HostCost:
    """Return what a layer costs on the host: the longer of computing and moving bytes, at the host's busy power.

    MACs run at the host's int8 rate, other operations at its element-wise rate. Sources: the `host.*` constants.
    """
    work = vector_work(layer, batch)
    names = {k: f"host.{host}.{k}" for k in ("int8", "elementwise", "bandwidth", "power")}
    giga = {k: constant(n).value * 1e9 for k, n in names.items() if k != "power"}
    compute = 2 * layer_macs(layer, batch) / giga["int8"] + lane_operations(work) / giga["elementwise"]
    seconds = max(compute, (work.read_bytes + work.write_bytes) / giga["bandwidth"])
    power = constant(names["power"])  # mW = pJ/ns
    line = Energy(component="host", constant=power.name, events=seconds * 1e9, pj_per_event=power.value)
    return HostCost(seconds=seconds, energy=(line,))


def operand_elements(layer: Layer, kind: OperandKind, batch: int) -> int:
    """Return the elements of a layer's operands of one kind."""
    return sum(o.type.elements(batch) for o in layer.operands if o.kind is kind)
