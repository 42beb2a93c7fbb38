"""A systolic array as an `Accelerator`: prices every layer of a network, and says how it multiplies.

MAC layers run on the array as GEMMs (timing and traffic in their own files), groups one after the other. An activation or
batch norm that directly follows an array layer runs in the array's output path: it costs its operations, no time and no
traffic. Other layers run on the vector unit, from and to DRAM (an address generator looks values up there: embeddings, gathers,
scatters). What visits single elements in an order that depends on data runs on the host: deformable convolution and grid
samples, which read four neighbours at a time, and sorting. Nothing stays on chip between layers.
"""

from pathlib import Path
from typing import ClassVar

import numpy as np

from picojoule.accel.systolic.array_pricing import ArrayPricing, Job, touched_elements
from picojoule.accel.systolic.energy import EnergyModel
from picojoule.accel.systolic.recurrence import recurrence_of, turn_sizes
from picojoule.accel.systolic.spec import SystolicSpec
from picojoule.sim.attributes import NormAttributes, NormKind, Op, RecurrentAttributes
from picojoule.sim.cost import Area, LayerCost
from picojoule.sim.errors import InfeasibleError, InputError, UnsupportedError, unknown_choice
from picojoule.sim.evaluation import Priced, check_evaluation, make_report
from picojoule.sim.formats import Granularity, NumberFormat, Structure, integer_format
from picojoule.sim.fusion import sole_producers
from picojoule.sim.gemm import gemm_view
from picojoule.sim.ir import Layer, Network, OperandKind
from picojoule.sim.passes import fill_formats, result_bytes
from picojoule.sim.protocol import Arithmetic, HardwareSpec
from picojoule.sim.recurrence import state_format
from picojoule.sim.report import Report
from picojoule.sim.technology import dram_key
from picojoule.sim.vector_unit import host_cost, lane_operations, operation_energy, vector_work

_ARRAY_OPS = (Op.CONV, Op.LINEAR, Op.MATMUL, Op.RECURRENT)
_HOST_OPS = (Op.DEFORM_CONV, Op.GRID_SAMPLE, Op.SORT)


class SystolicArray:
    """A systolic array built from its spec."""

    model_version: ClassVar[str] = "1"
    spec_type: ClassVar[type[HardwareSpec]] = SystolicSpec
    preset_folder: ClassVar[Path] = Path(__file__).parent / "presets"
    unit_of_op: ClassVar[dict[str, str]] = {
        op.value: "array" if op in _ARRAY_OPS else "host" if op in _HOST_OPS else "vector"
        for op in Op
        if op is not Op.OPAQUE
    } | {Op.OPAQUE.value: "unsupported"}

    def __init__(self, spec: SystolicSpec) -> None:
        self._spec = spec
        dram_key(spec.dram_type)  # an unknown type is refused here, not at the first layer
        self._energy = EnergyModel(spec)
        self._array = ArrayPricing(spec, self._energy)

    @property
    def spec(self) -> SystolicSpec:
        """The checked hardware description."""
        return self._spec

    # --- how it computes --------------------------------------------------------------------------------------------

    @property
    def native(self) -> tuple[NumberFormat, NumberFormat]:
        """Weight format (one scale per output channel) and activation format where nothing sets another."""
        weight = integer_format(max(2, self.spec.weight_bits), per=Granularity.CHANNEL)
        return weight, integer_format(max(2, self.spec.activation_bits))

    def arithmetic(self, layer: Layer) -> Arithmetic:
        """Return exact integer products in wrapping accumulators, in the layer's formats or the native ones.

        Raises:
            UnsupportedError: for a format that is not integer.
            InfeasibleError: for more bits than the PEs have.

        """
        if layer.op is Op.DEFORM_CONV:
            return Arithmetic(note="host, floating point")
        weight, activation = self._formats(layer)
        return Arithmetic(
            weight=weight,
            activation=activation,
            accumulator_bits=self.spec.accumulator_bits,
            note=f"{weight} x {activation}, {self.spec.accumulator_bits}-bit accumulators",
        )

    def _formats(self, layer: Layer) -> tuple[NumberFormat, NumberFormat]:
        """Return (format of operand 1, format of operand 0), checked against the PEs."""
        native_weight, native_activation = self.native
        activation = layer.operands[0].format or native_activation
        if isinstance(layer.attributes, RecurrentAttributes):
            activation = state_format(layer.attributes, activation)
        weight = layer.operands[1].format or (native_weight if layer.parameters else native_activation)
        if not layer.parameters and weight == native_activation and weight.bits > native_weight.bits:
            weight = integer_format(native_weight.bits)  # the second activation of a product enters where weights do
        limits = (("weight", weight, self.spec.weight_bits), ("activation", activation, self.spec.activation_bits))
        for what, form, bits in limits:
            if not form.is_integer:
                raise UnsupportedError(
                    f"layer '{layer.name}': {what} format {form} does not run on the integer PEs of "
                    f"'{self.spec.name or self.spec.kind}'; quantise it to at most int{bits}"
                )
            if form.bits > bits:
                raise InfeasibleError(
                    f"layer '{layer.name}': {what} format {form} needs {form.bits} bits but the PEs of "
                    f"'{self.spec.name or self.spec.kind}' have {bits}; set {what}_bits={form.bits} or use fewer bits"
                )
        return weight, activation

    # --- what it costs ----------------------------------------------------------------------------------------------

    def evaluate(
        self,
        network: Network,
        *,
        batch: int = 1,
        activations: object | None = None,
        mapping: str = "default",
        seed: int = 0,
        chips: int | None = 1,
        allow_unsupported: bool = False,
    ) -> Report:
        """Return the cost of `batch` samples; layers run one after the other.

        Raises:
            InputError: for a bad batch or sizes beyond 64 bits.
            UnsupportedError: for operators, formats or mappings that cannot run.
            InfeasibleError: for more bits than the PEs have.

        """
        check_evaluation(network, batch, allow_unsupported)
        if chips is not None and chips < 1:
            raise InputError(f"chips must be at least 1, got {chips}")
        if mapping == "search":
            raise UnsupportedError("systolic arrays cannot search mappings yet; use --mapping default")
        if mapping != "default":
            raise InputError(unknown_choice("mapping", mapping, ["default", "search"]))
        network, assumed = fill_formats(network, *self.native)
        fused = _fused(network)
        jobs = [self._job(layer, batch) for layer in network.layers if layer.op in _ARRAY_OPS]
        single = [self._job(layer, 1) for layer in network.layers if layer.op in _ARRAY_OPS] if batch > 1 else []
        priced = iter(self._array.price(jobs, single, batch))
        costs = tuple(
            next(priced) if layer.op in _ARRAY_OPS else self._price_other(layer, batch, layer.name in fused)
            for layer in network.layers
        )
        return self._report(network, costs, batch, seed, assumed)

    def area(self, network: Network | None = None) -> Area:
        """Return the area of MACs, registers, SRAMs and vector unit; it does not depend on the network."""
        return self._energy.area()

    def _report(self, network: Network, costs: tuple[LayerCost, ...], batch: int, seed: int, assumed: bool) -> Report:
        spec = self.spec
        clock_hz = spec.clock_mhz * 1e6
        latency = sum(c.latency_s for c in costs)
        host = sum(c.latency_s for c in costs if c.unit == "host")
        useful = sum((c.utilization or 0.0) * c.latency_s for c in costs if c.unit == "array")
        area = self.area()
        notes = []
        if any(o.sparsity.structure is not Structure.DENSE for layer in network.layers for o in layer.operands):
            notes.append("zeros save nothing here: the PEs multiply them like any other value")
        if spec.compat == "scalesim":
            notes.append("compat scalesim: cycles and SRAM words as SCALE-Sim 3.0.0 counts them; the rest is ours")
        return make_report(
            network,
            spec,
            self.model_version,
            Priced(
                layers=costs,
                latency_s=latency,
                host_latency_s=host,
                interval_s=latency,
                clock_hz=clock_hz,
                utilization=useful / (latency - host) if latency > host else None,
                area=area,
                static_energy=self._energy.leakage(latency, area),
                assumed_precision=f"int{spec.weight_bits}" if assumed else None,
                notes=tuple(notes),
            ),
            batch=batch,
            seed=seed,
        )

    def _job(self, layer: Layer, batch: int) -> Job:
        weight, activation = self._formats(layer)
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
            energy = operation_energy("vector", work, self._output_path_bits, self.spec.node_nm)
            recurrence = recurrence_of(layer, batch, gemm, work, self._lanes, energy)
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
        )

    @property
    def _lanes(self) -> int:
        return self.spec.vector_lanes or self.spec.cols

    @property
    def _output_path_bits(self) -> int:
        """Width of what the vector unit takes from the array: accumulators, down to 32 bits."""
        return min(32, self.spec.accumulator_bits)

    def _price_other(self, layer: Layer, batch: int, fused: bool) -> LayerCost:
        unit = self.unit_of_op[layer.op.value]
        view = gemm_view(layer, batch)
        if unit == "unsupported":
            return LayerCost(
                name=layer.name, op=layer.op.value, unit=unit, gemm=None, macs=0, compute_cycles=0, stall_cycles=0,
                latency_s=0.0, basis="not priced",
            )  # fmt: skip
        work = vector_work(layer, batch)
        if unit == "host":
            cost = host_cost(layer, batch)
            return LayerCost(
                name=layer.name,
                op=layer.op.value,
                unit="host",
                gemm=view,
                macs=view.macs if view else 0,
                compute_cycles=0,
                stall_cycles=0,
                latency_s=cost.seconds,
                energy=(*cost.energy, *self._energy.dram(work.read_bytes + work.write_bytes)),
                reads={"dram.ifmap": work.read_elements},
                writes={"dram.ofmap": work.write_elements},
                dram_read_bytes=work.read_bytes,
                dram_write_bytes=work.write_bytes,
            )
        width = self._output_path_bits if fused else 16
        energy = operation_energy("vector", work, width, self.spec.node_nm)
        compute = 0 if fused else -(-lane_operations(work) // self._lanes)
        total = 0 if fused else work.read_bytes + work.write_bytes
        stall = max(0, int(np.ceil(total / self._array.bytes_per_cycle)) - compute)
        return LayerCost(
            name=layer.name,
            op=layer.op.value,
            unit="vector",
            gemm=None,
            macs=0,
            compute_cycles=compute,
            stall_cycles=stall,
            latency_s=(compute + stall) / (self.spec.clock_mhz * 1e6),
            energy=(*energy, *self._energy.dram(total)),
            reads={} if fused else {"dram.ifmap": work.read_elements},
            writes={} if fused else {"dram.ofmap": work.write_elements},
            dram_read_bytes=0 if fused else work.read_bytes,
            dram_write_bytes=0 if fused else work.write_bytes,
            basis="in the array's output path" if fused else "closed form",
        )


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
