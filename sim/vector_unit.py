"""Work of layers that no MAC array runs, and what it costs on a vector unit or on the host.

Every such layer moves bytes and most compute something (`vector_counts`); none is free but a view. A transcendental takes the
energy and time of `vector.transcendental.steps` multiply-adds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from picojoule.sim.attributes import DeformConvAttributes, GridSampleAttributes, Op, QuantizeAttributes
from picojoule.sim.cost import Energy
from picojoule.sim.gemm import layer_macs
from picojoule.sim.ir import Layer, Operand, OperandKind
from picojoule.sim.passes import moves_nothing, result_bytes
from picojoule.sim.technology import VectorOperation, constant, vector_operation_energy_pj
from picojoule.sim.vector_counts import DEFORM_TAPS, deform_samples, operation_counts, taps_of


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorWork:
    """Lane operations by kind, and bytes and elements that a layer reads and writes (for the whole batch)."""

    operations: Mapping[VectorOperation, int]
    read_elements: int
    write_elements: int
    read_bytes: int
    write_bytes: int


def vector_work(layer: Layer, batch: int) -> VectorWork:
    """Return the work of a layer outside the MAC array; formats must be filled in.

    A layer reads its operands and writes its results, once each. But: a view moves nothing; what looks values up reads those it
    returns (a grid sample and a deformable convolution every pixel of every sample, because nobody knows which of them meet),
    not all there are; and a dynamic quantiser reads its operand twice.
    """
    if moves_nothing(layer):
        return VectorWork(operations={}, read_elements=0, write_elements=0, read_bytes=0, write_bytes=0)
    looked_up = _looked_up(layer)
    ins = [o for o in layer.operands if o is not looked_up]
    reads = sum(o.type.elements(batch) for o in ins)
    read_bytes = sum(result_bytes(o, batch) for o in ins)
    if looked_up is not None:
        taken = _taken(layer, batch)
        bits = looked_up.format.stored_bits if looked_up.format else 32.0
        reads += taken
        read_bytes += -(-int(taken * bits) // 8)
    passes = 2 if isinstance(layer.attributes, QuantizeAttributes) else 1
    return VectorWork(
        operations=operation_counts(layer, batch),
        read_elements=reads * passes,
        write_elements=sum(r.type.elements(batch) for r in layer.results),
        read_bytes=read_bytes * passes,
        write_bytes=sum(result_bytes(r, batch) for r in layer.results),
    )


def _looked_up(layer: Layer) -> Operand | None:
    """Return the operand of which only what the indices name is read: a table, gathered data, a sampled image."""
    looks_up = (Op.EMBEDDING, Op.GATHER, Op.GRID_SAMPLE, Op.DEFORM_CONV)
    return layer.operands[0] if layer.op in looks_up else None


def _taken(layer: Layer, batch: int) -> int:
    """Return the elements read of what is looked up."""
    match layer.attributes:
        case DeformConvAttributes():
            return DEFORM_TAPS * deform_samples(layer, batch)[0]
        case GridSampleAttributes() as a:
            return taps_of(a.mode, layer.operands[1].shape[-1]) * layer.results[0].type.elements(batch)
    return layer.results[0].type.elements(batch)


def lane_operations(work: VectorWork) -> int:
    """Return lane operations, a transcendental counted as its multiply-add steps."""
    steps = round(constant("vector.transcendental.steps").value)
    return sum(n * (steps if op is VectorOperation.TRANSCENDENTAL else 1) for op, n in work.operations.items())


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
    """Time and energy of a layer on the host, and its work there."""

    work: VectorWork
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
    return HostCost(work=work, seconds=seconds, energy=(line,))


def operand_elements(layer: Layer, kind: OperandKind, batch: int) -> int:
    """Return the elements of a layer's operands of one kind."""
    return sum(o.type.elements(batch) for o in layer.operands if o.kind is kind)
