"""A systolic array as an `Accelerator`: prices every layer of a network, and says how it multiplies.

MAC layers run on the array as GEMMs (timing and traffic in their own files), groups one after the other. An activation or
batch norm that directly follows an array layer runs in the array's output path: it costs its operations, no time and no
traffic. Other layers run on the vector unit, from and to DRAM (an address generator looks values up there: embeddings, gathers,
scatters). What visits single elements in an order that depends on data runs on the host: deformable convolution and grid
samples, which read four neighbours at a time, and sorting. Nothing stays on chip between layers.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from picojoule.accel.systolic.array_pricing import ArrayPricing
from picojoule.accel.systolic.design_arrays import DesignArrays
from picojoule.accel.systolic.designs import DesignPricing
from picojoule.accel.systolic.energy import EnergyModel, itemised, single
from picojoule.accel.systolic.spec import SystolicSpec
from picojoule.accel.systolic.totals import run_latency_s, run_utilization
from picojoule.accel.systolic.vector import vector_cycles
from picojoule.accel.systolic.workload import (
    UNIT_OF_OP,
    OtherJob,
    Workload,
    native_formats,
    operand_formats,
    workload_of,
)
from picojoule.sim.attributes import Op
from picojoule.sim.cost import Area, LayerCost
from picojoule.sim.designs import DesignTotals
from picojoule.sim.errors import InputError, UnsupportedError, unknown_choice
from picojoule.sim.evaluation import Priced, check_evaluation, make_report
from picojoule.sim.formats import NumberFormat, Structure
from picojoule.sim.gemm import gemm_view
from picojoule.sim.ir import Layer, Network
from picojoule.sim.protocol import Arithmetic, HardwareSpec
from picojoule.sim.report import Report
from picojoule.sim.technology import dram_key


class SystolicArray:
    """A systolic array built from its spec."""

    model_version: ClassVar[str] = "1"
    spec_type: ClassVar[type[HardwareSpec]] = SystolicSpec
    preset_folder: ClassVar[Path] = Path(__file__).parent / "presets"
    unit_of_op: ClassVar[dict[str, str]] = UNIT_OF_OP

    def __init__(self, spec: SystolicSpec) -> None:
        self._spec = spec
        dram_key(spec.dram_type)  # an unknown type is refused here, not at the first layer
        self._design = DesignArrays.of(spec)
        self._energy = EnergyModel(self._design)
        self._array = ArrayPricing(self._design, self._energy)
        self._designs = DesignPricing(spec)

    @property
    def spec(self) -> SystolicSpec:
        """The checked hardware description."""
        return self._spec

    # --- how it computes --------------------------------------------------------------------------------------------

    @property
    def native(self) -> tuple[NumberFormat, NumberFormat]:
        """Weight format (one scale per output channel) and activation format where nothing sets another."""
        return native_formats(self.spec)

    def arithmetic(self, layer: Layer) -> Arithmetic:
        """Return exact integer products in wrapping accumulators, in the layer's formats or the native ones.

        Raises:
            UnsupportedError: for a format that is not integer.
            InfeasibleError: for more bits than the PEs have.

        """
        if layer.op is Op.DEFORM_CONV:
            return Arithmetic(note="host, floating point")
        weight, activation = operand_formats(layer, self.spec)
        return Arithmetic(
            weight=weight,
            activation=activation,
            accumulator_bits=self.spec.accumulator_bits,
            note=f"{weight} x {activation}, {self.spec.accumulator_bits}-bit accumulators",
        )

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
        workload = workload_of(network, self.spec, batch)
        on_array = iter(self._array.price(workload.jobs, workload.single, batch))
        others = iter([self._price_other(job, batch) for job in workload.others])
        costs = tuple(
            next(on_array if UNIT_OF_OP[layer.op.value] == "array" else others) for layer in workload.network.layers
        )
        return self._report(workload, costs, seed)

    def price_designs(self, network: Network, keys: Mapping[str, NDArray[Any]], *, batch: int = 1) -> DesignTotals:
        """Return the totals of many designs that differ from this one by `keys`, in one array call.

        Every key of the spec may vary, and all networks can be priced that `evaluate` prices, recurrent ones too. A design
        whose PEs are too narrow for the network is NaN with evaluate's reason. Takes below 100 MB beside keys and result.

        Raises:
            InputError: for a bad batch, key, value or sizes beyond 64 bits.
            UnsupportedError: for operators or formats that cannot run.

        """
        return self._designs.price(network, keys, batch)

    def area(self, network: Network | None = None) -> Area:
        """Return the area of MACs, registers, SRAMs and vector unit; it does not depend on the network."""
        return self._energy.area()

    def _report(self, workload: Workload, costs: tuple[LayerCost, ...], seed: int) -> Report:
        spec, design, network = self.spec, self._design, workload.network
        host_s = workload.host_latency_s
        latency = run_latency_s(float(sum(c.latency_cycles for c in costs)), host_s, design)
        useful = sum((c.utilization or 0.0) * c.latency_cycles for c in costs if c.unit == "array")
        utilization = single(run_utilization(useful * spec.rows * spec.cols, latency, host_s, design))
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
                latency_s=single(latency),
                host_latency_s=host_s,
                interval_s=single(latency),
                clock_hz=spec.clock_mhz * 1e6,
                utilization=None if np.isnan(utilization) else utilization,
                area=self.area(),
                static_energy=tuple(line.single() for line in self._energy.leakage(latency, self._energy.areas())),
                assumed_precision=f"int{spec.weight_bits}" if workload.assumed else None,
                notes=tuple(notes),
            ),
            batch=workload.batch,
            seed=seed,
        )

    def _price_other(self, job: OtherJob, batch: int) -> LayerCost:
        layer, work, on_host = job.layer, job.work, job.unit == "host"
        if job.unit == "unsupported":
            return LayerCost(
                name=layer.name, op=layer.op.value, unit=job.unit, gemm=None, macs=0, compute_cycles=0, stall_cycles=0,
                latency_s=0.0, basis="not priced",
            )  # fmt: skip
        view = gemm_view(layer, batch) if on_host else None
        compute, stall = (0, 0) if on_host or job.fused else self._vector_cycles(job)
        seconds = job.host_seconds if on_host else (compute + stall) / (self.spec.clock_mhz * 1e6)
        return LayerCost(
            name=layer.name,
            op=layer.op.value,
            unit=job.unit,
            gemm=view,
            macs=view.macs if view else 0,
            compute_cycles=compute,
            stall_cycles=stall,
            latency_s=seconds,
            energy=(*job.energy, *itemised(self._energy.dram(job.dram_bytes))),
            reads={} if job.fused else {"dram.ifmap": work.read_elements},
            writes={} if job.fused else {"dram.ofmap": work.write_elements},
            dram_read_bytes=0 if job.fused else work.read_bytes,
            dram_write_bytes=0 if job.fused else work.write_bytes,
            basis="in the array's output path" if job.fused else "closed form",
        )

    def _vector_cycles(self, job: OtherJob) -> tuple[int, int]:
        compute, stall = vector_cycles(job.lane_operations, job.dram_bytes, self._design)
        return int(compute.item()), int(stall.item())
