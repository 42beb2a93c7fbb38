"""What a network asks of a systolic array: its layers as jobs of the array, of the vector unit and of the host.

It depends on the network, the batch and the operand widths of a design, not on its size, buffers or bandwidth, so that one
workload serves many designs. MAC layers are jobs of the array. An activation or batch norm that directly follows one of
them runs in the array's output path. Other layers run on the vector unit, but for those that the host takes.
"""

from dataclasses import dataclass

from picojoule.accel.systolic.array_work import SparseWork
from picojoule.accel.systolic.flips import FlipRates
from picojoule.accel.systolic.pe_formats import exponent_share, native_formats, operand_formats
from picojoule.accel.systolic.recurrence import Recurrence, recurrence_of, turn_sizes
from picojoule.accel.systolic.spec import SystolicSpec
from picojoule.sim.attributes import ConvAttributes, NormAttributes, NormKind, Op, RecurrentAttributes
from picojoule.sim.cost import Energy
from picojoule.sim.formats import NumberFormat
from picojoule.sim.fusion import sole_producers
from picojoule.sim.gemm import Gemm, gemm_view
from picojoule.sim.ir import Layer, Network, OperandKind
from picojoule.sim.passes import fill_formats, result_bytes
from picojoule.sim.vector_unit import VectorWork, host_cost, lane_operations, operation_energy, vector_work

_ARRAY_OPS = (Op.CONV, Op.LINEAR, Op.MATMUL, Op.RECURRENT)
_HOST_OPS = (Op.DEFORM_CONV, Op.GRID_SAMPLE, Op.SORT)
UNIT_OF_OP: dict[str, str] = {
    op.value: "array" if op in _ARRAY_OPS else "host" if op in _HOST_OPS else "vector"
    for op in Op
    if op is not Op.OPAQUE
} | {Op.OPAQUE.value: "unsupported"}
_NOTHING = VectorWork(operations={}, read_elements=0, write_elements=0, read_bytes=0, write_bytes=0)


@dataclass(frozen=True, slots=True)
class Job:
    """An array layer: its GEMM, formats, distinct ifmap elements, outputs and bytes of bias; recurrent ones their steps.

    `exponents`: bits that block exponents add to a stored word of weights, activations and results. `work`: what zero weights
    leave of it. `rates`: what its bits do, None where MACs and registers are priced on average. `basis`: what its figures rest
    on. `kept`: whether operand 0, operand 1 and the result stay on chip.
    """

    layer: Layer
    gemm: Gemm
    weight: NumberFormat
    activation: NumberFormat
    result_bits: int
    ifmap_elements: int
    outputs: int
    bias_bytes: int
    recurrence: Recurrence | None = None
    work: SparseWork | None = None
    rates: FlipRates | None = None
    exponents: tuple[float, float, float] = (0.0, 0.0, 0.0)
    basis: str = "closed form"
    kept: tuple[bool, bool, bool] = (False, False, False)

    @property
    def on_array(self) -> Gemm:
        """The products that the array makes."""
        return self.gemm if self.work is None else self.work.gemm

    @property
    def word_exponents(self) -> tuple[float, float, float]:
        """Bits of exponents per word of weights, activations and results; of compressed weights they are among the stored."""
        return self.exponents if self.work is None else (0.0, *self.exponents[1:])

    @property
    def word_bits(self) -> tuple[float, float, float]:
        """Bits that a word of weights, activations and results takes in a memory."""
        w, a, y = self.word_exponents
        return self.weight.bits + w, self.activation.bits + a, self.result_bits + y

    @property
    def identity(self) -> tuple[object, ...]:
        """All that its price depends on: jobs of equal identity cost the same."""
        return (
            turn_sizes(self.layer, self.gemm),
            None if self.work is None and self.rates is None else self.layer.name,
            self.gemm,
            self.weight.bits,
            self.activation.bits,
            self.result_bits,
            self.ifmap_elements,
            self.outputs,
            self.bias_bytes,
            self.recurrence,
            self.kept,
            self.exponents,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherJob:
    """A layer that is not on the array: its unit, its work, the bill of that but for DRAM, and the time it takes on the host.

    `fused` ones run in the array's output path and cost no time and no traffic.
    """

    layer: Layer
    unit: str
    work: VectorWork
    energy: tuple[Energy, ...]
    fused: bool = False
    host_seconds: float = 0.0

    @property
    def dram_bytes(self) -> int:
        """Bytes moved from and to DRAM."""
        return 0 if self.fused else self.work.read_bytes + self.work.write_bytes

    @property
    def lane_operations(self) -> int:
        """Operations that take time on the vector unit's lanes."""
        return lane_operations(self.work) if self.unit == "vector" and not self.fused else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A network for a batch: array jobs (`single`: the same for one sample, empty at batch 1) and the others, in order.

    `network` has its formats filled in; `assumed` says whether any of a MAC operand had to be.
    """

    network: Network
    assumed: bool
    batch: int
    jobs: tuple[Job, ...]
    single: tuple[Job, ...]
    others: tuple[OtherJob, ...]

    @property
    def host_latency_s(self) -> float:
        """Time of the layers on the host."""
        return sum(job.host_seconds for job in self.others)


def workload_of(network: Network, spec: SystolicSpec, batch: int) -> Workload:
    """Return what `batch` samples of a network ask of designs with the operand widths of `spec`.

    Raises:
        UnsupportedError: for formats that are not integer.
        InfeasibleError: for more bits than the PEs have.

    """
    filled, assumed = fill_formats(network, *native_formats(spec))
    on_array = [layer for layer in filled.layers if UNIT_OF_OP[layer.op.value] == "array"]
    fused = _fused(filled)
    return Workload(
        network=filled,
        assumed=assumed,
        batch=batch,
        jobs=tuple(_job(layer, spec, batch) for layer in on_array),
        single=tuple(_job(layer, spec, 1) for layer in on_array) if batch > 1 else (),
        others=tuple(
            _other_job(layer, spec, batch, layer.name in fused)
            for layer in filled.layers
            if UNIT_OF_OP[layer.op.value] != "array"
        ),
    )


def _job(layer: Layer, spec: SystolicSpec, batch: int) -> Job:
    weight, activation = operand_formats(layer, spec)
    gemm = gemm_view(layer, batch)
    assert gemm is not None
    result, a = layer.results[0], layer.attributes
    biases = [o for o in layer.operands[2:] if o.kind is OperandKind.PARAMETER]
    touched, written, recurrence = touched_elements(layer, batch), layer.results[:1], None
    if isinstance(a, RecurrentAttributes):
        turns = turn_sizes(layer, gemm)
        biases = list(layer.operands[2:3]) if a.has_bias else []
        touched, written = turns.m * turns.k * turns.groups, layer.results
        work = vector_work(layer, batch)
        energy = operation_energy("vector", work, _output_path_bits(spec), spec.node_nm)
        recurrence = recurrence_of(layer, batch, gemm, work, energy)
    return Job(
        layer=layer,
        gemm=gemm,
        weight=weight,
        activation=activation,
        result_bits=result.format.bits if result.format else 32,
        ifmap_elements=touched,
        outputs=sum(r.type.elements(batch) for r in written),
        bias_bytes=sum(result_bytes(o, 1) for o in biases),
        recurrence=recurrence,
        exponents=_exponents(layer, weight, activation),
    )


def _exponents(layer: Layer, weight: NumberFormat, activation: NumberFormat) -> tuple[float, float, float]:
    """Return the bits of block exponents per word of weights, activations and results.

    Blocks lie along the channels that are summed, those of each group apart (`numerics.mac_layout.reduction_axis`); of results
    along all channels.
    """
    a, result, x = layer.attributes, layer.results[0], layer.operands[0]
    summed = x.shape[1] // a.groups if isinstance(a, ConvAttributes) else x.shape[-1]
    made = result.shape[1] if isinstance(a, ConvAttributes) else result.shape[-1]
    written = exponent_share(result.format, made) if result.format else 0.0
    return exponent_share(weight, summed), exponent_share(activation, summed), written


def _output_path_bits(spec: SystolicSpec) -> int:
    """Width of what the vector unit takes from the array: accumulators, down to 32 bits."""
    return min(32, spec.accumulator_bits)


def _other_job(layer: Layer, spec: SystolicSpec, batch: int, fused: bool) -> OtherJob:
    unit = UNIT_OF_OP[layer.op.value]
    if unit == "unsupported":
        return OtherJob(layer=layer, unit=unit, work=_NOTHING, energy=())
    if unit == "host":
        cost = host_cost(layer, batch)
        return OtherJob(layer=layer, unit=unit, work=cost.work, energy=cost.energy, host_seconds=cost.seconds)
    work = vector_work(layer, batch)
    energy = operation_energy("vector", work, _output_path_bits(spec) if fused else 16, spec.node_nm)
    return OtherJob(layer=layer, unit=unit, work=work, energy=tuple(energy), fused=fused)


def _fused(network: Network) -> frozenset[str]:
    """Return the layers that run in the array's output path: an activation (or batch norm) alone behind an array layer."""
    producers = sole_producers(network)
    fused: set[str] = set()
    for layer in network.layers:
        a = layer.attributes
        unary = layer.op is Op.ACTIVATION or (isinstance(a, NormAttributes) and a.kind is NormKind.BATCH)
        before = producers.get(layer.name)
        if unary and before is not None and (before.op in _ARRAY_OPS or before.name in fused):
            fused.add(layer.name)
    return frozenset(fused)


def touched_elements(layer: Layer, batch: int) -> int:
    """Return the distinct ifmap elements that any window reads (a stride longer than the window skips some)."""
    elements = layer.operands[0].type.elements(batch)
    a = layer.attributes
    if not isinstance(a, ConvAttributes) or a.transposed:
        return elements
    for i, size in enumerate(layer.operands[0].shape[2:]):
        kernel, stride = layer.operands[1].shape[2 + i], a.stride[i]
        if stride > kernel:
            count = layer.results[0].shape[2 + i]
            elements = elements // size * min(size, count * kernel)
    return elements
